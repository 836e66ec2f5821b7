#include "rpc/rest/http.h"

#include "base/clock.h"
#include "base/log.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_MAX         8     /* Handles that are kept, each with its connection. */
#define IDLE_MS          60000 /* Periodic tasks then do not hold connections for ever. */
#define TIMEOUT_MS       60000
#define CONNECT_MS       10000
#define RETRY_FIRST_MS   500 /* keystoneauth's; doubled each time. */
#define RETRY_LONGEST_MS 8000
#define UPLOAD_BUFFER    (512 << 10) /* How much a source is asked for at a time. */
#define LOGGED_BODY_LEN  512

/* The pool is the process's, as libcurl's own state is: whoever asks next, for whichever service,
 * also closes what the others left idle. */
struct idle {
    CURL *curl;
    char *origin; /* Whom it is connected to. */
    int64_t since_ms;
};

static struct mutex pool_lock = MUTEX_INIT;
static struct idle pool[IDLE_MAX] GUARDED_BY(pool_lock);
static size_t pool_n GUARDED_BY(pool_lock);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);

    if (rc != CURLE_OK) {
        log_error(LOG_REST, "libcurl does not start: %s", curl_easy_strerror(rc));
        abort();
    }
}

/* "scheme://host:port" of a URL. */
static char *origin_of(const char *url)
{
    const char *host = strstr(url, "://");
    size_t len = host ? (size_t)(host - url) + 3 : 0;

    return str_ndup(url, len + strcspn(url + len, "/?#"));
}

static void idle_remove_locked(size_t i)
{
    free(pool[i].origin);
    pool[i] = pool[--pool_n];
}

/* Takes out those that have been idle for too long; the caller closes them. */
static size_t take_expired_locked(int64_t now_ms, CURL **ret)
{
    size_t n = 0;

    for (size_t i = pool_n; i-- > 0;) {
        if (now_ms - pool[i].since_ms >= IDLE_MS) {
            ret[n++] = pool[i].curl;
            idle_remove_locked(i);
        }
    }
    return n;
}

/* A handle, best one that is connected to 'origin'. */
static CURL *pool_take(const char *origin)
{
    CURL *expired[IDLE_MAX], *curl = NULL;
    size_t n_expired;

    mutex_lock(&pool_lock);
    n_expired = take_expired_locked(clock_ms(), expired);
    for (size_t i = 0; i < pool_n; i++) {
        if (str_eq(pool[i].origin, origin)) {
            curl = pool[i].curl;
            idle_remove_locked(i);
            break;
        }
    }
    mutex_unlock(&pool_lock);
    for (size_t i = 0; i < n_expired; i++) {
        curl_easy_cleanup(expired[i]);
    }
    if (!curl) {
        curl = curl_easy_init();
    }
    if (!curl) {
        abort(); /* Out of memory. */
    }
    return curl;
}

static void pool_put(CURL *curl, char *origin)
{
    CURL *old = NULL;

    curl_easy_reset(curl); /* Keeps the connection. */
    mutex_lock(&pool_lock);
    if (pool_n == IDLE_MAX) {
        size_t oldest = 0;

        for (size_t i = 1; i < pool_n; i++) {
            if (pool[i].since_ms < pool[oldest].since_ms) {
                oldest = i;
            }
        }
        old = pool[oldest].curl;
        idle_remove_locked(oldest);
    }
    pool[pool_n++] = (struct idle){.curl = curl, .origin = origin, .since_ms = clock_ms()};
    mutex_unlock(&pool_lock);
    curl_easy_cleanup(old);
}

/* The bodies of one attempt: what is sent of a source, and the answer's. */
struct body {
    CURL *curl;
    const struct http_source *source; /* NULL: none. */
    int64_t n_sent;
    const struct http_stream *stream; /* NULL: it is kept. */
    struct strbuf kept;
    bool is_streamed; /* It has begun to go to the stream. */
    int64_t skip;     /* Bytes before those that the stream wants. */
    struct err *err;
};

/* Finds out, at its first bytes, where a body goes. */
static struct err *stream_begin(struct body *b)
{
    CLEANUP(freep) char *expected = str_printf("bytes %" PRId64 "-", b->stream->offset);
    struct curl_header *range;
    long status = 0;

    curl_easy_getinfo(b->curl, CURLINFO_RESPONSE_CODE, &status);
    b->is_streamed = status == 200 || status == 206;
    if (status == 200) {
        b->skip = b->stream->offset;
    } else if (status == 206 && (curl_easy_header(b->curl, "Content-Range", 0, CURLH_HEADER, -1,
                                                  &range) != CURLHE_OK ||
                                 !str_starts(range->value, expected))) {
        return err_msg(ERR_HTTP, "the answer is not the range that was asked for");
    }
    return NULL;
}

static struct err *stream_write(struct body *b, const char *data, size_t len)
{
    if (!b->is_streamed) {
        TRY(stream_begin(b));
    }
    size_t skip = b->skip < (int64_t)len ? (size_t)b->skip : len;

    b->skip -= (int64_t)skip;
    if (!b->is_streamed || skip == len) {
        return NULL;
    }
    return b->stream->write(data + skip, len - skip, b->stream->arg);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct body *b = arg;

    if (b->stream) {
        b->err = stream_write(b, data, size * n);
    }
    if (b->err) {
        return 0; /* CURLE_WRITE_ERROR */
    }
    if (b->is_streamed) {
        return size * n;
    }
    if (size * n > HTTP_MAX_BODY - b->kept.len) {
        return 0;
    }
    strbuf_add_mem(&b->kept, data, size * n);
    return size * n;
}

static size_t on_source(char *buf, size_t size, size_t n, void *arg)
{
    struct body *b = arg;
    size_t len = (size_t)MIN((int64_t)(size * n), b->source->size - b->n_sent), got = 0;

    b->err = len > 0 ? b->source->read(b->n_sent, buf, len, &got, b->source->arg) : NULL;
    b->n_sent += (int64_t)got;
    return b->err ? CURL_READFUNC_ABORT : got;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    return cancel_is_set(arg); /* CURLE_ABORTED_BY_CALLBACK */
}

static struct curl_slist *add_header(struct curl_slist *list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(list, line);

    if (!longer) {
        abort(); /* Out of memory. */
    }
    return longer;
}

static struct curl_slist *make_headers(const struct http_request *req)
{
    struct curl_slist *list =
        add_header(NULL, req->stream ? "Accept: */*" : "Accept: application/json");

    list = add_header(list, "Expect:");
    if (req->stream && req->stream->offset > 0) {
        CLEANUP(freep) char *range = str_printf("Range: bytes=%" PRId64 "-", req->stream->offset);

        list = add_header(list, range);
    }
    if (req->body || req->source) {
        CLEANUP(freep)
        char *type = str_printf("Content-Type: %s",
                                req->content_type ? req->content_type : "application/json");

        list = add_header(list, type);
    } else {
        list = add_header(list, "Content-Type:");
    }
    for (size_t i = 0; req->header && i < req->header->n; i++) {
        list = add_header(list, req->header->items[i]);
    }
    return list;
}

static void set_tls(CURL *curl, const struct http_tls *tls)
{
    if (!tls) {
        return;
    }
    if (tls->insecure) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (!str_is_empty(tls->cafile)) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, tls->cafile);
    }
    if (!str_is_empty(tls->certfile)) {
        /* One file may hold both. */
        curl_easy_setopt(curl, CURLOPT_SSLCERT, tls->certfile);
        curl_easy_setopt(curl, CURLOPT_SSLKEY,
                         str_is_empty(tls->keyfile) ? tls->certfile : tls->keyfile);
    }
}

static void set_options(CURL *curl, const struct http_request *req, struct curl_slist *headers,
                        struct body *body, char *error)
{
    long timeout = (long)(req->timeout_ms ? req->timeout_ms : TIMEOUT_MS);

    curl_easy_setopt(curl, CURLOPT_URL, req->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "novashim/" NOVASHIM_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXCONNECTS, 1L);
    /* libcurl repeats a request on its own when a kept connection turns out to be dead. */
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, req->is_idempotent && !req->source ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, MIN(timeout, (long)CONNECT_MS));
    if (req->stream || req->source) {
        /* However long it takes, as long as it goes on. */
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, MAX(timeout / 1000, 1L));
    } else {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout);
    }
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, req->stop ? 0L : 1L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, req->stop);
    set_tls(curl, req->tls);
    if (req->source) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_source);
        curl_easy_setopt(curl, CURLOPT_READDATA, body);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)req->source->size);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER);
    } else if (req->body || str_eq(req->method, "POST") || str_eq(req->method, "PUT")) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, req->body ? req->body : "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(req->body ? strlen(req->body) : 0));
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, req->method);
}

/* Whether the request cannot have reached the server. */
static bool was_not_sent(CURL *curl, CURLcode rc)
{
    curl_off_t pretransfer_us = 0;

    if (rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST ||
        rc == CURLE_COULDNT_RESOLVE_PROXY) {
        return true;
    }
    return rc == CURLE_OPERATION_TIMEDOUT &&
           curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &pretransfer_us) == CURLE_OK &&
           pretransfer_us == 0;
}

static void read_answer(CURL *curl, const struct http_request *req, struct body *body,
                        struct http_response *ret)
{
    const char *type = NULL;
    struct curl_header *header;

    *ret = (struct http_response){0};
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret->status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    ret->is_json = str_starts(type, "application/json");
    ret->len = body->kept.len;
    ret->body = strbuf_take(&body->kept);
    if (req->want_header &&
        curl_easy_header(curl, req->want_header, 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
        ret->header = str_dup(header->value);
    }
}

static void log_answer(const struct http_request *req, const struct http_response *resp,
                       int64_t since_ms)
{
    log_debug(LOG_REST, "%s %s: %ld, %zu bytes, %" PRId64 " ms%s%.*s", req->method, req->url,
              resp->status, resp->len, clock_ms() - since_ms, resp->status >= 400 ? ": " : "",
              resp->status >= 400 ? LOGGED_BODY_LEN : 0, resp->body);
}

/* What became of a transfer that did not end well. */
static struct err *transfer_error(const struct http_request *req, CURLcode rc, struct body *body,
                                  const char *error)
{
    if (body->err) {
        return err_context(TAKE(body->err), "%s %s", req->method, req->url);
    }
    if (rc == CURLE_ABORTED_BY_CALLBACK) {
        return err_msg(ERR_CANCELLED, "stopped during %s %s", req->method, req->url);
    }
    if (rc == CURLE_WRITE_ERROR) {
        return err_msg(ERR_HTTP, "%s %s: the answer is larger than %u MiB", req->method, req->url,
                       HTTP_MAX_BODY >> 20);
    }
    return err_msg(ERR_HTTP, "%s %s: %s", req->method, req->url,
                   *error ? error : curl_easy_strerror(rc));
}

/* One attempt.  *ret_again says whether it may be repeated after an error. */
static struct err *attempt(const struct http_request *req, struct http_response *ret,
                           bool *ret_again)
{
    int64_t since_ms = clock_ms();
    CLEANUP(freep) char *origin = origin_of(req->url);
    CURL *curl = pool_take(origin);
    struct curl_slist *headers = make_headers(req);
    struct body body = {.curl = curl, .source = req->source, .stream = req->stream};
    char error[CURL_ERROR_SIZE] = "";
    CURLcode rc;

    set_options(curl, req, headers, &body, error);
    rc = curl_easy_perform(curl);
    if (rc == CURLE_OK) {
        read_answer(curl, req, &body, ret);
        log_answer(req, ret, since_ms);
        *ret_again = ret->status == 503 && req->is_idempotent;
        pool_put(curl, TAKE(origin));
        curl_slist_free_all(headers);
        return NULL;
    }
    *ret_again =
        was_not_sent(curl, rc) ||
        (req->is_idempotent && !body.is_streamed && !body.err && rc != CURLE_OPERATION_TIMEDOUT &&
         rc != CURLE_WRITE_ERROR && rc != CURLE_ABORTED_BY_CALLBACK);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    strbuf_fini(&body.kept);
    return transfer_error(req, rc, &body, error);
}

/* A token or a request id comes from a peer: it must not bring a header of its own. */
static struct err *check_header(const struct strv *header)
{
    for (size_t i = 0; header && i < header->n; i++) {
        for (const char *p = header->items[i]; *p; p++) {
            if ((unsigned char)*p < ' ' || *p == 0x7f) {
                return err_msg(ERR_HTTP, "a header holds a control character");
            }
        }
    }
    return NULL;
}

struct err *http_send(const struct http_request *req, struct http_response *ret)
{
    int64_t pause_ms = RETRY_FIRST_MS;

    TRY(check_header(req->header));
    pthread_once(&once, init);
    for (unsigned i = 0;; i++) {
        struct http_response resp = {0};
        bool again = false;
        struct err *e = attempt(req, &resp, &again);

        if (!again || i >= req->n_retries) {
            if (!e) {
                *ret = resp;
            }
            return e;
        }
        if (e) {
            CLEANUP(freep) char *text = err_text(e);

            log_warning_limited(LOG_REST, "%s, trying again in %" PRId64 " ms", text, pause_ms);
        } else {
            log_warning_limited(LOG_REST, "%s %s answered 503, trying again in %" PRId64 " ms",
                                req->method, req->url, pause_ms);
        }
        err_free(e);
        http_response_fini(&resp);
        cancel_sleep(req->stop, pause_ms);
        pause_ms = MIN(pause_ms * 2, RETRY_LONGEST_MS);
    }
}

void http_response_fini(struct http_response *resp)
{
    free(resp->body);
    free(resp->header);
    *resp = (struct http_response){0};
}

char *http_quote(const char *s)
{
    struct strbuf b = {0};

    for (; *s; s++) {
        if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
            strchr("-._~", *s)) {
            strbuf_addc(&b, *s);
        } else {
            strbuf_addf(&b, "%%%02X", (unsigned char)*s);
        }
    }
    return strbuf_take(&b);
}

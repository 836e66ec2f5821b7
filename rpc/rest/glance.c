#include "rpc/rest/glance.h"

#include "base/hash.h"
#include "base/log.h"
#include "rpc/rest/http.h"
#include "rpc/rest/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS 1000 /* Nova's. */

struct glance {
    struct rest_session *session;
    struct strv servers;
    atomic_uint turn; /* Which of the servers is asked next. */
    atomic_uint n_retries;
};

struct glance *glance_new(struct rest_session *session, const struct strv *servers,
                          unsigned n_retries)
{
    struct glance *g = NEW(struct glance);

    g->session = session;
    for (size_t i = 0; i < servers->n; i++) {
        strv_add(&g->servers, servers->items[i]);
    }
    /* Hosts that start together do not all ask the same one. */
    atomic_init(&g->turn, (unsigned)getpid());
    atomic_init(&g->n_retries, n_retries);
    return g;
}

struct glance *glance_free(struct glance *g)
{
    if (g) {
        strv_fini(&g->servers);
        rest_session_free(g->session);
        free(g);
    }
    return NULL;
}

void glance_set_retries(struct glance *g, unsigned n)
{
    atomic_store(&g->n_retries, n);
}

void glance_image_fini(struct glance_image *image)
{
    free(image->id);
    free(image->status);
    free(image->disk_format);
    free(image->hash_algo);
    free(image->hash_value);
    free(image->checksum);
    *image = (struct glance_image){0};
}

struct err *glance_image_read(struct json_object *json, struct glance_image *ret)
{
    struct jv_reader r = jv_reader_init(json, "image");
    const char *id = jv_str(&r, "id");
    const char *status = jv_str(&r, "status");
    const char *format = jv_str_or(&r, "disk_format", NULL);
    const char *algo = jv_str_or(&r, "os_hash_algo", NULL);
    const char *value = jv_str_or(&r, "os_hash_value", NULL);
    const char *checksum = jv_str_or(&r, "checksum", NULL);
    int64_t size = jv_int_or(&r, "size", -1);

    TRY(jv_finish(&r));
    *ret = (struct glance_image){.id = str_dup(id),
                                 .status = str_dup(status),
                                 .disk_format = str_dup(format),
                                 .size = size < 0 ? -1 : size,
                                 .hash_algo = str_dup(algo),
                                 .hash_value = str_dup(value),
                                 .checksum = str_dup(checksum)};
    return NULL;
}

/* The error for an answer, as Nova tells it; NULL for one that is fine. */
static struct err *answer_error(const struct rest_request *req, const struct rest_response *resp,
                                const char *id)
{
    if (resp->status >= 200 && resp->status <= 299) {
        return NULL;
    }
    CLEANUP(err_freep) struct err *e = rest_error(req, resp);

    if (resp->status == 404) {
        return err_context(err_new(ERR_IMAGE_NOT_FOUND, "image_id", id, NULL), "%s",
                           err_message(e));
    }
    if (resp->status == 401 || resp->status == 403) {
        return err_context(err_new(ERR_IMAGE_NOT_AUTHORIZED, "image_id", id, NULL), "%s",
                           err_message(e));
    }
    return TAKE(e);
}

/* Asks one server once.  *ret_again: it, or its network, did not do what it could have done. */
static struct err *ask(struct glance *g, const struct rest_request *wanted, const char *id,
                       struct rest_response *ret, bool *ret_again)
{
    struct rest_request req = *wanted;
    unsigned turn = atomic_load(&g->turn);

    req.endpoint = g->servers.n ? g->servers.items[turn % g->servers.n] : NULL;
    struct err *e = rest_send(g->session, &req, ret);

    *ret_again = err_is(e, ERR_HTTP) || (!e && ret->status >= 500);
    if (*ret_again) {
        atomic_fetch_add(&g->turn, 1);
    }
    return e ? e : answer_error(&req, ret, id);
}

/* After a failed attempt: waits for the next one, or says why there is none.  Consumes the error.
 */
static struct err *next_attempt(struct glance *g, struct err *e, bool again, unsigned n_done,
                                struct cancel *stop)
{
    if (cancel_is_set(stop)) {
        err_free(e);
        return err_msg(ERR_CANCELLED, "stopped while asking glance");
    }
    if (!again) {
        return e;
    }
    if (n_done > atomic_load(&g->n_retries)) {
        CLEANUP(freep) char *text = err_text(e);

        err_free(e);
        return err_new(ERR_GLANCE_CONNECTION, "server", "image", "reason", text, NULL);
    }
    log_warning(LOG_REST, "glance: %s, trying again in 1 s", err_message(e));
    err_free(e);
    cancel_sleep(stop, RETRY_MS);
    return NULL;
}

struct err *glance_image_get(struct glance *g, const struct rctx *ctx, const char *id,
                             struct glance_image *ret)
{
    CLEANUP(freep) char *quoted = rest_quote(id);
    CLEANUP(freep) char *path = str_printf("/images/%s", quoted);
    const struct rest_request req = {.method = "GET", .path = path, .user = ctx};

    for (unsigned i = 1;; i++) {
        CLEANUP(rest_response_fini) struct rest_response resp = {0};
        bool again;
        struct err *e = ask(g, &req, id, &resp, &again);

        if (!e) {
            TRY(glance_image_read(resp.body, ret));
            return NULL;
        }
        TRY_CTX(next_attempt(g, e, again, i, NULL), "reading image %s", id);
    }
}

/* -- Data ------------------------------------------------------------------------------------ */

struct download {
    const struct glance_image *image;
    int fd;
    struct cancel *stop;
    struct hash *hash;    /* NULL: nothing to compare with. */
    const char *expected; /* What it must be. */
    int64_t n_written;
};

static struct err *unacceptable(const struct glance_image *image, const char *reason)
{
    return err_new(ERR_IMAGE_UNACCEPTABLE, "image_id", image->id, "reason", reason, NULL);
}

static struct err *write_all(int fd, const char *data, size_t len, int64_t offset)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, data + done, len - done, (off_t)(offset + (int64_t)done));

        if (n < 0 && errno != EINTR) {
            return err_errno(errno, "writing an image");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return NULL;
}

static struct err *on_data(const void *data, size_t len, void *arg)
{
    struct download *d = arg;

    if (cancel_is_set(d->stop)) {
        return err_msg(ERR_CANCELLED, "stopped while fetching image %s", d->image->id);
    }
    if ((int64_t)len > d->image->size - d->n_written) {
        return unacceptable(d->image, "Image has more data than it says");
    }
    TRY(write_all(d->fd, data, len, d->n_written));
    if (d->hash) {
        hash_add(d->hash, data, len);
    }
    d->n_written += (int64_t)len;
    return NULL;
}

/* The best digest that the image has and we can compute. */
static struct err *choose_hash(struct download *d)
{
    const struct glance_image *image = d->image;

    if (image->hash_algo && image->hash_value) {
        CLEANUP(err_freep) struct err *e = hash_new(image->hash_algo, &d->hash);

        if (!e || !image->checksum) {
            d->expected = image->hash_value;
            return TAKE(e);
        }
        log_warning(LOG_REST, "%s, comparing image %s by its MD5 checksum", err_message(e),
                    image->id);
    }
    if (image->checksum) {
        d->expected = image->checksum;
        return hash_new("md5", &d->hash);
    }
    log_warning(LOG_REST, "image %s has no checksum, taking it as it is", image->id);
    return NULL;
}

static struct err *check_hash(struct download *d)
{
    if (!d->hash) {
        return NULL;
    }
    CLEANUP(freep) char *got = hash_finish(d->hash);

    if (!str_ieq(got, d->expected)) {
        return unacceptable(d->image, "Image data do not match their checksum");
    }
    return NULL;
}

/* Fetches what is still missing. */
static struct err *fetch_rest(struct glance *g, const struct rest_request *req, struct download *d,
                              bool *ret_again)
{
    const struct http_stream stream = {.write = on_data, .arg = d, .offset = d->n_written};
    struct rest_request rest = *req;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    rest.stream = &stream;
    TRY(ask(g, &rest, d->image->id, &resp, ret_again));
    if (resp.status == 204) {
        return unacceptable(d->image, "Image has no associated data");
    }
    if (d->n_written < d->image->size) {
        *ret_again = true;
        return err_msg(ERR_HTTP, "image %s ended after %" PRId64 " of %" PRId64 " bytes",
                       d->image->id, d->n_written, d->image->size);
    }
    return NULL;
}

static struct err *download(struct glance *g, const struct rctx *ctx, struct download *d)
{
    CLEANUP(freep) char *quoted = rest_quote(d->image->id);
    CLEANUP(freep) char *path = str_printf("/images/%s/file", quoted);
    const struct rest_request req = {.method = "GET", .path = path, .user = ctx};

    TRY(choose_hash(d));
    for (unsigned n_failed = 0; d->n_written < d->image->size;) {
        bool again = false;
        struct err *e = fetch_rest(g, &req, d, &again);

        if (e) {
            TRY_CTX(next_attempt(g, e, again, ++n_failed, d->stop), "fetching image %s",
                    d->image->id);
        }
    }
    return check_hash(d);
}

struct err *glance_image_download(struct glance *g, const struct rctx *ctx,
                                  const struct glance_image *image, int fd, struct cancel *stop)
{
    struct download d = {.image = image, .fd = fd, .stop = stop};

    if (image->size < 0) {
        return unacceptable(image, "Image has no associated data");
    }
    /* A disk that is too small is better found now. */
    if (image->size > 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)image->size) < 0 &&
        (errno == ENOSPC || errno == EDQUOT)) {
        return err_errno(errno, "making room for image %s", image->id);
    }
    struct err *e = download(g, ctx, &d);

    hash_free(d.hash);
    return e;
}

#include "rpc/rest/glance.h"

#include "base/clock.h"
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
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_MS    1000 /* Nova's. */
#define PROGRESS_MS 10000
#define UPLOAD_MS   600000 /* A store may take its time over what it has got. */
#define MAX_IMAGES  10000
#define PATCH_TYPE  "application/openstack-images-v2.1-json-patch"

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

static struct err *image_error(long status, const char *id, const char *text)
{
    switch (status) {
    case 400:
        return err_new(ERR_IMAGE_BAD_REQUEST, "image_id", id, "response", text, NULL);
    case 401:
    case 403:
        return err_new(ERR_IMAGE_NOT_AUTHORIZED, "image_id", id, NULL);
    case 404:
    case 410: /* Deleted during an upload. */
        return err_new(ERR_IMAGE_NOT_FOUND, "image_id", id, NULL);
    case 413:
        return err_new(ERR_IMAGE_QUOTA_EXCEEDED, "image_id", id, NULL);
    default:
        return NULL;
    }
}

/* The error for an answer, as Nova tells it; NULL for one that is fine. */
static struct err *answer_error(const struct rest_request *req, const struct rest_response *resp,
                                const char *id)
{
    if (resp->status >= 200 && resp->status <= 299) {
        return NULL;
    }
    CLEANUP(err_freep) struct err *e = rest_error(req, resp);
    struct err *named = id ? image_error(resp->status, id, rest_error_text(resp)) : NULL;

    return named ? err_context(named, "%s", err_message(e)) : TAKE(e);
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

/* Asks until somebody answers.  'id' is the image that it is about, or NULL. */
static struct err *call(struct glance *g, const struct rest_request *req, const char *id,
                        struct json_object **ret)
{
    for (unsigned i = 1;; i++) {
        CLEANUP(rest_response_fini) struct rest_response resp = {0};
        bool again;
        struct err *e = ask(g, req, id, &resp, &again);

        if (!e) {
            *ret = TAKE(resp.body);
            return NULL;
        }
        TRY_CTX(next_attempt(g, e, again, i, NULL), "%s %s", req->method, req->path);
    }
}

static char *image_path(const char *id, const char *suffix)
{
    CLEANUP(freep) char *quoted = rest_quote(id);

    return str_printf("/images/%s%s", quoted, suffix);
}

struct err *glance_image_get_json(struct glance *g, const struct rctx *ctx, const char *id,
                                  struct json_object **ret)
{
    CLEANUP(freep) char *path = image_path(id, "");

    return call(g, &(struct rest_request){.method = "GET", .path = path, .user = ctx}, id, ret);
}

struct err *glance_image_get(struct glance *g, const struct rctx *ctx, const char *id,
                             struct glance_image *ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;

    TRY(glance_image_get_json(g, ctx, id, &json));
    return glance_image_read(json, ret);
}

struct json_object *glance_patch(struct json_object *image, struct json_object *wanted)
{
    struct json_object *patch = json_object_new_array();

    json_object_object_foreach(wanted, name, value)
    {
        struct json_object *now = NULL, *op;
        bool has = json_object_object_get_ex(image, name, &now);

        if (has && json_object_equal(now, value)) {
            continue;
        }
        CLEANUP(freep) char *path = str_printf("/%s", name);

        op = json_object_new_object();
        jv_add_str(op, "op", has ? "replace" : "add");
        jv_add_str(op, "path", path);
        jv_add(op, "value", json_object_get(value));
        json_object_array_add(patch, op);
    }
    return patch;
}

struct err *glance_image_update(struct glance *g, const struct rctx *ctx, const char *id,
                                struct json_object *wanted)
{
    CLEANUP(jv_putp) struct json_object *image = NULL;
    CLEANUP(jv_putp) struct json_object *patch = NULL;
    CLEANUP(jv_putp) struct json_object *updated = NULL;
    CLEANUP(freep) char *path = image_path(id, "");

    TRY(glance_image_get_json(g, ctx, id, &image));
    patch = glance_patch(image, wanted);
    if (json_object_array_length(patch) == 0) {
        return NULL;
    }
    const struct rest_request req = {
        .method = "PATCH", .path = path, .user = ctx, .body = patch, .content_type = PATCH_TYPE};

    return call(g, &req, id, &updated);
}

struct err *glance_image_delete(struct glance *g, const struct rctx *ctx, const char *id)
{
    CLEANUP(jv_putp) struct json_object *nothing = NULL;
    CLEANUP(freep) char *path = image_path(id, "");
    const struct rest_request req = {.method = "DELETE", .path = path, .user = ctx};
    CLEANUP(err_freep) struct err *e = call(g, &req, id, &nothing);

    if (err_is(e, ERR_CONFLICT)) {
        return err_new(ERR_IMAGE_DELETE_CONFLICT, "reason", err_message(e), NULL);
    }
    return TAKE(e);
}

/* -- Lists ----------------------------------------------------------------------------------- */

static char *list_path(struct json_object *filters)
{
    struct strbuf path = {0};

    strbuf_add(&path, "/images?sort_key=created_at&sort_dir=desc");
    json_object_object_foreach(filters, name, value)
    {
        CLEANUP(freep) char *quoted_name = rest_quote(name);
        CLEANUP(freep) char *quoted = rest_quote(json_object_get_string(value));

        strbuf_addf(&path, "&%s=%s", quoted_name, quoted);
    }
    return strbuf_take(&path);
}

/* One page; *ret_next is the path of the next, or NULL. */
static struct err *list_page(struct glance *g, const struct rctx *ctx, const char *path,
                             struct json_object *images, char **ret_next)
{
    CLEANUP(jv_putp) struct json_object *body = NULL;

    TRY(call(g, &(struct rest_request){.method = "GET", .path = path, .user = ctx}, NULL, &body));
    struct jv_reader r = jv_reader_init(body, "list of images");
    struct json_object *page = jv_arr(&r, "images");
    const char *next = jv_str_or(&r, "next", NULL);

    TRY(jv_finish(&r));
    for (size_t i = 0; i < json_object_array_length(page); i++) {
        json_object_array_add(images, json_object_get(json_object_array_get_idx(page, i)));
    }
    /* It is "/v2/images?...", and the version is ours to add. */
    next = next ? strstr(next, "/images?") : NULL;
    *ret_next = json_object_array_length(page) > 0 ? str_dup(next) : NULL;
    return NULL;
}

struct err *glance_image_list(struct glance *g, const struct rctx *ctx, struct json_object *filters,
                              struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *images = json_object_new_array();
    CLEANUP(freep) char *path = list_path(filters);

    while (path) {
        char *next = NULL;

        TRY_CTX(list_page(g, ctx, path, images, &next), "listing images");
        free(path);
        path = next;
        if (json_object_array_length(images) > MAX_IMAGES) {
            return err_msg(ERR_HTTP, "glance has more than %d such images", MAX_IMAGES);
        }
    }
    *ret = TAKE(images);
    return NULL;
}

/* -- Data ------------------------------------------------------------------------------------ */

/* Says now and then how far a transfer is. */
struct progress {
    const char *verb, *id;
    int64_t total;
    int64_t next_ms; /* 0: nothing has moved. */
};

static void progress_tell(struct progress *p, int64_t n_done)
{
    int64_t now_ms = clock_ms();

    if (p->next_ms == 0) {
        p->next_ms = now_ms + PROGRESS_MS;
    }
    if (now_ms >= p->next_ms) {
        p->next_ms = now_ms + PROGRESS_MS;
        log_info(LOG_REST, "%s image %s: %" PRId64 " of %" PRId64 " MiB", p->verb, p->id,
                 n_done >> 20, p->total >> 20);
    }
}

struct download {
    const struct glance_image *image;
    int fd;
    struct cancel *stop;
    struct hash *hash;    /* NULL: nothing to compare with. */
    const char *expected; /* What it must be. */
    int64_t n_written;
    struct progress progress;
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
    progress_tell(&d->progress, d->n_written);
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
    CLEANUP(freep) char *path = image_path(d->image->id, "/file");
    const struct rest_request req = {.method = "GET", .path = path, .user = ctx, .stop = d->stop};

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
    struct download d = {.image = image,
                         .fd = fd,
                         .stop = stop,
                         .progress = {"fetching", image->id, image->size, 0}};

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

struct upload {
    const char *id;
    int fd;
    struct progress progress;
};

static struct err *on_read(int64_t offset, void *buf, size_t len, size_t *ret_len, void *arg)
{
    struct upload *u = arg;
    ssize_t n;

    while ((n = pread(u->fd, buf, len, (off_t)offset)) < 0 && errno == EINTR) {
    }
    if (n < 0) {
        return err_errno(errno, "reading the data of image %s", u->id);
    }
    if (n == 0) {
        return err_msg(ERR_INTERNAL, "the data of image %s have become shorter", u->id);
    }
    progress_tell(&u->progress, offset);
    *ret_len = (size_t)n;
    return NULL;
}

/* Whether an earlier attempt has succeeded whose answer was lost. */
static struct err *is_uploaded(struct glance *g, const struct rctx *ctx, const struct upload *u,
                               bool *ret)
{
    CLEANUP(glance_image_fini) struct glance_image image = {0};

    TRY(glance_image_get(g, ctx, u->id, &image));
    *ret = str_eq(image.status, "active") && image.size == u->progress.total;
    return NULL;
}

static struct err *upload(struct glance *g, const struct rest_request *req, struct upload *u)
{
    for (unsigned n_failed = 0;;) {
        CLEANUP(rest_response_fini) struct rest_response resp = {0};
        bool again = false, is_done = false;
        struct err *e = ask(g, req, u->id, &resp, &again);

        if (!e) {
            return NULL;
        }
        /* Until glance has noticed that a connection is gone, the image is still being saved. */
        if (n_failed > 0 && err_is(e, ERR_CONFLICT)) {
            again = true;
            err_ignore(is_uploaded(g, req->user, u, &is_done), "looking at an image sent before");
        }
        if (is_done) {
            err_free(e);
            return NULL;
        }
        TRY_CTX(next_attempt(g, e, again, ++n_failed, req->stop), "sending image %s", u->id);
    }
}

struct err *glance_image_upload(struct glance *g, const struct rctx *ctx, const char *id, int fd,
                                struct cancel *stop)
{
    CLEANUP(freep) char *path = image_path(id, "/file");
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return err_errno(errno, "looking at the data of image %s", id);
    }
    struct upload u = {.id = id, .fd = fd, .progress = {"sending", id, st.st_size, 0}};
    const struct http_source source = {.read = on_read, .arg = &u, .size = st.st_size};
    const struct rest_request req = {.method = "PUT",
                                     .path = path,
                                     .user = ctx,
                                     .content_type = "application/octet-stream",
                                     .source = &source,
                                     .stop = stop,
                                     .timeout_ms = UPLOAD_MS};

    return upload(g, &req, &u);
}

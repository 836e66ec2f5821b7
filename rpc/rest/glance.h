#pragma once

/* Glance: what there is to know of an image, and its data, both ways.
 *
 * Requests are made with the token of the request's user; one without a token is made with the
 * credentials of [service_user].  The servers of [glance]api_servers are asked in turn; without
 * them it is endpoint_override or the catalogue's.
 *
 * It knows nothing of formats and of where images are kept; driver/libvirt/imagecache.c and
 * driver/compute/snapshot.c are the callers.  Whatever takes longer than some seconds says in the
 * log how far it is.
 *
 * Source: Image API v2 (/v2/images, /v2/images/{id}, /v2/images/{id}/file); nova/image/glance.py;
 * the order of checksums and the patch of an update are glanceclient's (v2/images.py).
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "base/jv.h"
#include "base/sync.h"
#include "rpc/objects/context.h"

struct rest_session;
struct glance;

/* Consumes the session.  'servers' may be empty; it is copied. */
struct glance *glance_new(struct rest_session *, const struct strv *servers, unsigned n_retries)
    MUST_CHECK;
/* Takes NULL; returns NULL. */
struct glance *glance_free(struct glance *);
static inline void glance_freep(struct glance **p)
{
    *p = glance_free(*p);
}
/* [glance]num_retries, which may change. */
void glance_set_retries(struct glance *, unsigned n);

struct glance_image {
    char *id;
    char *status;      /* "active" */
    char *disk_format; /* "qcow2"; NULL while nobody said. */
    int64_t size;      /* In bytes; -1: there is no data yet. */
    char *hash_algo;   /* "sha512"; NULL: none. */
    char *hash_value;
    char *checksum; /* MD5; NULL: none. */
};
/* From the API's JSON.  ERR_PARSE. */
struct err *glance_image_read(struct json_object *, struct glance_image *ret) MUST_CHECK;
void glance_image_fini(struct glance_image *);

/* ERR_IMAGE_NOT_FOUND; others as rest_call's. */
struct err *glance_image_get(struct glance *, const struct rctx *, const char *id,
                             struct glance_image *ret) MUST_CHECK;

/* Writes the data of an image to a file, from its start.  A connection that breaks is taken up
 * again where it ended, as often as num_retries says, and the digest is compared; a file that this
 * returns without an error is the image.  Never writes more than image->size bytes.
 *
 * ERR_NO_SPACE; ERR_CANCELLED when 'stop', which may be NULL, was set; ERR_IMAGE_UNACCEPTABLE: the
 * image has no data or other data than it says. */
struct err *glance_image_download(struct glance *, const struct rctx *, const struct glance_image *,
                                  int fd, struct cancel *stop) MUST_CHECK;

/* What the API says of an image, as it says it: properties are members like all others.
 * ERR_IMAGE_NOT_FOUND, ERR_IMAGE_NOT_AUTHORIZED, here and below. */
struct err *glance_image_get_json(struct glance *, const struct rctx *, const char *id,
                                  struct json_object **ret) MUST_CHECK;

/* Sets members of an image (Nova's update without purge_props); those that have their value already
 * are left alone.  ERR_IMAGE_BAD_REQUEST. */
struct err *glance_image_update(struct glance *, const struct rctx *, const char *id,
                                struct json_object *wanted) MUST_CHECK;
/* The JSON patch for that: replaces what the image has, adds the rest. */
struct json_object *glance_patch(struct json_object *image, struct json_object *wanted) MUST_CHECK;

/* Sends a whole file as the data of an image, which has none yet; the image is active then.  After
 * a failure of the network or of glance it starts over, as often as num_retries says.
 *
 * ERR_CANCELLED; ERR_IMAGE_QUOTA_EXCEEDED; ERR_IMAGE_NOT_FOUND also for an image that is deleted
 * meanwhile. */
struct err *glance_image_upload(struct glance *, const struct rctx *, const char *id, int fd,
                                struct cancel *stop) MUST_CHECK;

/* ERR_IMAGE_DELETE_CONFLICT */
struct err *glance_image_delete(struct glance *, const struct rctx *, const char *id) MUST_CHECK;

/* All images for which the members of 'filters' (texts) are so, the youngest first: an array. */
struct err *glance_image_list(struct glance *, const struct rctx *, struct json_object *filters,
                              struct json_object **ret) MUST_CHECK;

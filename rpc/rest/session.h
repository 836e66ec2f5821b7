#pragma once

/* An authenticated HTTP session with one OpenStack service.
 *
 * Reads a section's keystoneauth options ([placement], [neutron], ...), gets a token with a
 * password, renews it before it ends and after a 401, finds the endpoint in the catalogue
 * (interface, region, service type, or endpoint_override), and adds X-Service-Token where
 * [service_user] asks for it. Sections with the same credentials share one token.
 *
 * Source: keystoneauth1 (identity/v3/password.py, session.py, adapter.py); Identity API v3.
 *
 * Thread-safety: from any thread; connections are pooled and kept alive. */

#include "base/err.h"
#include "base/jv.h"
#include "base/sync.h"
#include "rpc/objects/context.h"

struct conf_holder;
struct http_source;
struct http_stream;
struct rest_session;

/* section: "placement", "neutron", "glance", "cinder".  The options are read now and kept.
 * ERR_CONFIG: one of them makes no sense.  No request is sent yet. */
struct err *rest_session_new(struct conf_holder *, const char *section, struct rest_session **ret)
    MUST_CHECK;
struct rest_session *rest_session_free(struct rest_session *);
static inline void rest_session_freep(struct rest_session **p)
{
    *p = rest_session_free(*p);
}

struct rest_request {
    const char *method;       /* "GET" */
    const char *path;         /* "/resource_providers?name=...": after endpoint and version */
    const char *microversion; /* "1.30", or NULL; the header's service is the section's. */
    struct json_object *body; /* Borrowed; NULL: none. */
    const struct rctx *user;  /* Use this user's token instead of our own; NULL: our own. */
    const char *endpoint;     /* Instead of the session's own; NULL: that. */
    const char *content_type; /* Of body or source; NULL: JSON. */
    const struct http_source *source; /* Gives the body, see http.h; NULL: 'body' does. */
    const struct http_stream *stream; /* Takes the body, see http.h; NULL: it is returned. */
    struct cancel *stop;              /* Ends it: ERR_CANCELLED.  May be NULL. */
    int64_t timeout_ms;               /* 0: 60 s. */
    unsigned n_retries; /* On connection errors and 503; not for POST, unless it was not sent. */
};

struct rest_response {
    long status;
    struct json_object *body; /* NULL if it had none or was not JSON. */
    char *text;               /* First 4 KiB of the body, for errors. */
};

/* Carries a request out.  An HTTP status of any kind is no error; ERR_HTTP is when there was no
 * answer, ERR_UNAUTHORIZED when keystone refuses us. */
struct err *rest_send(struct rest_session *, const struct rest_request *, struct rest_response *ret)
    MUST_CHECK;
/* The same, and any status but 2xx is an error: 404 ERR_NOT_FOUND, 409 ERR_CONFLICT, 401
 * ERR_UNAUTHORIZED, 403 ERR_FORBIDDEN, others ERR_HTTP, with the service's own message in it. */
struct err *rest_call(struct rest_session *, const struct rest_request *,
                      struct json_object **ret_body) MUST_CHECK;
void rest_response_fini(struct rest_response *);
/* The error that rest_call makes of an answer. */
struct err *rest_error(const struct rest_request *, const struct rest_response *) MUST_CHECK;
/* The service's own words in an answer that says what is wrong; borrowed. */
const char *rest_error_text(const struct rest_response *);
/* Percent-encodes a value for a path or query. */
char *rest_quote(const char *s) MUST_CHECK;

#pragma once

/* One HTTP request at a time: the door to libcurl.
 *
 * Connections are kept alive in a pool of the process and closed when they were idle for a minute,
 * which the next request looks after.  Redirects are not followed: a token goes only where it was
 * sent.  Proxies are taken from the environment, as curl does.
 *
 * It knows nothing of tokens, services or JSON; keystone.c and session.c are the callers.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "base/sync.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_MAX_BODY (64u << 20)

/* How to trust and to be trusted; NULLs are the system's defaults.  Borrowed for the call. */
struct http_tls {
    const char *cafile;
    const char *certfile;
    const char *keyfile;
    bool insecure; /* Any certificate will do. */
};

/* A body that is taken as it comes and not kept: whatever its size. */
struct http_stream {
    /* Gets the body of an answer 200 or 206, from 'offset' on, also when the server sends all of
     * it.  An error ends the transfer and is the one that http_send returns. */
    struct err *(*write)(const void *data, size_t len, void *arg);
    void *arg;
    int64_t offset;
};

/* A body that is sent as it is read, from the start for each attempt. */
struct http_source {
    /* Gives at least one byte of those from 'offset' on, which is below 'size'.  An error ends the
     * transfer and is the one that http_send returns. */
    struct err *(*read)(int64_t offset, void *buf, size_t len, size_t *ret_len, void *arg);
    void *arg;
    int64_t size;
};

struct http_request {
    const char *method;               /* "GET" */
    const char *url;                  /* http: or https: */
    const struct strv *header;        /* "Name: value" */
    const char *body;                 /* JSON text; NULL: none. */
    const char *content_type;         /* Of body or source; NULL: application/json. */
    const struct http_source *source; /* Instead of the body, for a PUT; NULL: none. */
    const char *want_header;          /* A header of the answer that is wanted, or NULL. */
    const struct http_tls *tls;
    const struct http_stream *stream; /* Where the body goes; NULL: into the answer. */
    struct cancel *stop;              /* Ends the transfer within a second or so; may be NULL. */
    /* For the whole of one attempt, of a stream or source for a pause; 0: 60 s. */
    int64_t timeout_ms;
    unsigned n_retries; /* When there was no connection, and on 503. */
    bool is_idempotent; /* Also when the connection was lost afterwards, and on 503. */
};

struct http_response {
    long status;
    char *body; /* NUL-terminated, never NULL. */
    size_t len;
    bool is_json; /* By its content type. */
    char *header; /* The one that was wanted, or NULL. */
};

/* ERR_HTTP when there was no answer, or one larger than HTTP_MAX_BODY; ERR_CANCELLED.  Any status
 * is an answer. */
struct err *http_send(const struct http_request *, struct http_response *ret) MUST_CHECK;
void http_response_fini(struct http_response *);
/* Percent-encodes everything but letters, digits and "-._~". */
char *http_quote(const char *s) MUST_CHECK;

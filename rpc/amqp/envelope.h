#pragma once

/* Messages as oslo.messaging writes them: the envelope, requests, replies, remote exceptions.
 *
 * Pure: bytes in, JSON out, and back.  What a peer sends is bounded (size by the caller, depth by
 * JV_MAX_DEPTH) and never trusted.
 *
 * Source: oslo_messaging/_drivers/common.py (envelope 2.0, serialize_remote_exception), amqp.py
 * (unpack_context), amqpdriver.py (reply keys).
 *
 * Thread-safety: no shared state. */

#include "base/err.h"
#include "base/jv.h"

#include <stdint.h>

/* Unpacks a compressed body (header "compression"), to at most 'max' bytes.  ERR_PARSE. */
struct err *envelope_inflate(const char *compression, const char *body, size_t len, size_t max,
                             char **ret, size_t *ret_len) MUST_CHECK;
/* The payload of a body: of an envelope 2.0, or the body itself.  Always an object.  ERR_PARSE. */
struct err *envelope_open(const char *body, size_t len, struct json_object **ret) MUST_CHECK;
/* The body for a payload, valid UTF-8 whatever the payload holds. */
char *envelope_seal(struct json_object *payload, size_t *ret_len) MUST_CHECK;
/* The same without an envelope (notification driver "messaging"). */
char *envelope_seal_bare(struct json_object *payload, size_t *ret_len) MUST_CHECK;

struct envelope_request {
    char *method;     /* NULL: none, or no string. */
    char *namespace_; /* NULL: none. */
    char *version;
    struct json_object *args; /* NULL: none, or no object. */
    char *unique_id;          /* NULL: none. */
    char *msg_id;             /* NULL: a cast, as is reply_q. */
    char *reply_q;
    int64_t beat_ms; /* 0, or how often the caller wants to see life. */
};

/* Takes a request apart.  ERR_PARSE if it cannot be run; *ret is filled as far as possible even
 * then, so that a call can be answered. */
struct err *envelope_read_request(struct json_object *payload, struct envelope_request *ret)
    MUST_CHECK;
void envelope_request_fini(struct envelope_request *);

struct envelope_reply {
    char *msg_id;
    struct json_object *result;
    struct err *failure;
    bool is_ending;
};

struct err *envelope_read_reply(struct json_object *payload, struct envelope_reply *ret) MUST_CHECK;
void envelope_reply_fini(struct envelope_reply *);
/* The body of a reply.  Consumes result; failure is borrowed. */
char *envelope_write_reply(const char *msg_id, struct json_object *result,
                           const struct err *failure, bool is_ending, size_t *ret_len) MUST_CHECK;

/* An error as the peer's exception, in JSON text, and back. */
char *envelope_write_failure(const struct err *) MUST_CHECK;
struct err *envelope_read_failure(const char *text) MUST_CHECK;

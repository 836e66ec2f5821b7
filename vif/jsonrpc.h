#pragma once

/* JSON-RPC 1.0 on a byte stream: cuts the stream into messages, builds messages.
 *
 * Messages follow each other without a separator, and arrive in any pieces (RFC 7047, section 4).
 * It does no I/O; vif/ovsdb.c is the one caller.
 *
 * Thread-safety: none of its own. */

#include "base/err.h"
#include "base/jv.h"

#define JSONRPC_MAX_SIZE ((size_t)32 << 20) /* Of one message, in bytes. */

/* The receiving end; all zero is one that has received nothing. */
struct jsonrpc_in {
    struct strbuf message; /* As far as it came. */
    unsigned depth;        /* Of brackets that are open. */
    bool is_in_string;
    bool is_escaped; /* The last byte was a backslash inside a string. */
};

/* Takes bytes from the *len at *bytes, moving both, up to the end of a message: then *ret is that
 * message, a JSON object, and the rest is for the next call.  *ret is NULL when all bytes are
 * taken. ERR_PARSE for what is no message or too large; the stream is useless then. */
struct err *jsonrpc_in_feed(struct jsonrpc_in *, const char **bytes, size_t *len,
                            struct json_object **ret) MUST_CHECK;
/* Forgets a half received message. */
void jsonrpc_in_reset(struct jsonrpc_in *);

/* Texts of messages, the caller's.  They consume their JSON arguments. */
char *jsonrpc_request(const char *method, struct json_object *params, struct json_object *id)
    MUST_CHECK;
char *jsonrpc_reply(struct json_object *result, struct json_object *id) MUST_CHECK;

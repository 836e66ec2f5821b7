#pragma once

/* RPC server: consumes a topic's queues and hands requests to one function.
 *
 * A request is acknowledged as soon as it is read, checked for being a duplicate, and decoded on
 * the reading thread; the function given must only submit work and return.  The request is answered
 * once, by rpc_reply or rpc_reply_err, from any thread; a cast is answered the same way, and
 * nothing is sent.  Long calls get their keep-alives by themselves until they are answered.
 *
 * Source: oslo_messaging/_drivers/amqpdriver.py, rpc/server.py, rpc/dispatcher.py.
 *
 * Thread-safety: rpc_reply* from any thread. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/objects/context.h"

#include <stdbool.h>

struct rpc_request {
    char *method;
    char *namespace_;         /* NULL: none. */
    char *version;            /* "1.0" if the message has none. */
    struct json_object *args; /* Always an object. */
    struct rctx *ctx;
    bool is_call;
    int64_t received_ms;     /* clock_ms() when it was read. */
    struct rpc_route *route; /* Where the reply goes; the server's own. */
};

/* Owns the request until it is answered. */
typedef void (*rpc_request_fn)(struct rpc_request *, void *arg);

/* Answers; consumes the request and the result (NULL is JSON null). */
void rpc_reply(struct rpc_request *, struct json_object *result);
/* Answers with an error; consumes both. */
void rpc_reply_err(struct rpc_request *, struct err *);

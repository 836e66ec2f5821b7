#pragma once

/* The connection to the message bus: one object for both directions.
 *
 * Opens as many AMQP connections as it needs (one that reads requests, one that reads replies, one
 * that publishes), fails over between the brokers of transport_url, declares everything again after
 * a reconnection, and never gives up.
 *
 * Thread-safety: rpc_new, rpc_serve and rpc_free from one thread, the others from any. */

#include "base/err.h"
#include "rpc/amqp/client.h"
#include "rpc/amqp/server.h"

struct conf_holder;
struct rpc;

/* Reads transport_url and [oslo_messaging_rabbit].  Connects in the background: client calls work
 * (and wait) from now on. */
struct err *rpc_new(struct conf_holder *, struct rpc **ret) MUST_CHECK;
struct rpc *rpc_free(struct rpc *);
struct rpc_client *rpc_client(struct rpc *);

/* Starts to serve topics ("compute", "compute-alt") as a server, and returns when all queues are
 * consumed for the first time, however long there is no broker; ERR_CANCELLED if another thread
 * calls rpc_stop_serving before that. */
struct err *rpc_serve(struct rpc *, const char *const *topics, const char *server, rpc_request_fn,
                      void *arg) MUST_CHECK;
/* Stops consuming: nothing new arrives; replies and calls still work. */
void rpc_stop_serving(struct rpc *);

struct rpc_stats {
    bool is_connected; /* Both directions. */
    char broker[128];  /* host:port in use */
    uint64_t n_requests, n_calls, n_casts, n_duplicates, n_malformed, n_reconnects;
};
void rpc_stats(struct rpc *, struct rpc_stats *ret);

#pragma once

/* Inside this layer: the parts that rpc.c puts together.
 *
 * Thread-safety: new, stop and free from the thread that owns the struct rpc; counters are atomic.
 */

#include "rpc/amqp/client.h"
#include "rpc/amqp/publisher.h"
#include "rpc/amqp/rpc.h"
#include "rpc/amqp/server.h"

/* What rpc_new does once it has the options, which are consumed (moved out).  ERR_CONFIG. */
struct err *rpc_new_options(struct mq_options *, struct rpc **ret) MUST_CHECK;

/* Options and publisher are borrowed.  Starts mq-reply. */
struct rpc_client *rpc_client_new(const struct mq_options *, struct publisher *) MUST_CHECK;
/* Nobody may be in a call. */
struct rpc_client *rpc_client_free(struct rpc_client *);
void rpc_client_stats(struct rpc_client *, struct rpc_stats *);

struct rpc_server;

/* Options and publisher are borrowed.  Starts mq-in. */
struct rpc_server *rpc_server_new(const struct mq_options *, struct publisher *,
                                  const char *const *topics, const char *server, rpc_request_fn,
                                  void *arg) MUST_CHECK;
/* Returns when all queues are consumed for the first time (true), or rpc_server_stop is called. */
bool rpc_server_wait(struct rpc_server *) MUST_CHECK;
void rpc_server_stop(struct rpc_server *);
/* Every request must have been answered. */
struct rpc_server *rpc_server_free(struct rpc_server *);
void rpc_server_stats(struct rpc_server *, struct rpc_stats *);

#include "rpc/amqp/rpc.h"

#include "rpc/amqp/bus.h"

#include <stdlib.h>

struct rpc {
    struct mq_options options;
    struct publisher *publisher;
    struct rpc_client *client;
    struct rpc_server *server; /* NULL until rpc_serve. */
};

struct err *rpc_new_options(struct mq_options *options, struct rpc **ret)
{
    struct rpc *r;

    TRY(mq_options_check(options));
    r = NEW(struct rpc);
    r->options = *options;
    *options = (struct mq_options){0};
    r->publisher = publisher_new(&r->options);
    r->client = rpc_client_new(&r->options, r->publisher);
    *ret = r;
    return NULL;
}

struct rpc *rpc_free(struct rpc *r)
{
    if (!r) {
        return NULL;
    }
    rpc_server_free(r->server);
    publisher_free(r->publisher);
    rpc_client_free(r->client);
    mq_options_fini(&r->options);
    free(r);
    return NULL;
}

struct rpc_client *rpc_client(struct rpc *r)
{
    return r->client;
}

struct err *rpc_serve(struct rpc *r, const char *const *topics, const char *server,
                      rpc_request_fn fn, void *arg)
{
    if (r->server) {
        return err_msg(ERR_INTERNAL, "the bus is served already");
    }
    r->server = rpc_server_new(&r->options, r->publisher, topics, server, fn, arg);
    rpc_server_wait(r->server);
    return NULL;
}

void rpc_stop_serving(struct rpc *r)
{
    if (r->server) {
        rpc_server_stop(r->server);
    }
}

void rpc_stats(struct rpc *r, struct rpc_stats *ret)
{
    *ret = (struct rpc_stats){.is_connected = publisher_is_ready(r->publisher),
                              .n_reconnects = publisher_n_reconnects(r->publisher)};
    rpc_client_stats(r->client, ret);
    if (r->server) {
        rpc_server_stats(r->server, ret);
    }
}

#include "rpc/amqp/rpc.h"

#include "base/conf.h"
#include "base/log.h"
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

/* The one place where options of the configuration become ours.  The query of transport_url goes
 * over what stands in the section. */
MUST_CHECK static struct err *read_conf(const struct conf *c, struct mq_options *o)
{
#define MQ_COPY_BOOL(to, from)  (to) = (from)
#define MQ_COPY_INT(to, from)   (to) = (from)
#define MQ_COPY_FLOAT(to, from) (to) = (from)
#define MQ_COPY_STR(to, from)   str_set(&(to), (from) ? (from) : "")
#define MQ_OPT(type, name, def) MQ_COPY_##type(o->name, c->oslo_messaging_rabbit.name);
#define MQ_OPT_LATER(type, name, def)
#include "rpc/amqp/options.def"
#undef MQ_OPT
    o->ssl_enforce_hostname_verification |= c->novashim.rabbit_verify_host_name;
    str_set(&o->control_exchange, c->dflt.control_exchange);
    o->rpc_response_timeout_ms = c->dflt.rpc_response_timeout * 1000;
    o->rpc_ping_enabled = c->dflt.rpc_ping_enabled;
    if (!str_is_empty(c->oslo_messaging_rabbit.kombu_compression)) {
        log_warning(LOG_RPC, "kombu_compression is set: what we send is not compressed");
    }
    return mq_options_set_url(o, c->dflt.transport_url);
}

struct err *rpc_new(struct conf_holder *holder, struct rpc **ret)
{
    CLEANUP(conf_putp) const struct conf *c = conf_get(holder);
    CLEANUP(mq_options_fini) struct mq_options options;

    mq_options_init(&options);
    TRY(read_conf(c, &options));
    return rpc_new_options(&options, ret);
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
    if (!rpc_server_wait(r->server)) {
        return err_msg(ERR_CANCELLED, "stopping before there was a broker");
    }
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

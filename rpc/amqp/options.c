#include "rpc/amqp/options.h"

#include <stdlib.h>
#include <unistd.h>

enum opt_type { OPT_BOOL, OPT_INT, OPT_FLOAT, OPT_STR };

static const struct opt {
    const char *name;
    enum opt_type type;
    size_t offset;
} opts[] = {
#define MQ_OPT(type, name, def) {#name, OPT_##type, offsetof(struct mq_options, name)},
#include "rpc/amqp/options.def"
#undef MQ_OPT
};

void mq_options_init(struct mq_options *o)
{
    *o = (struct mq_options){
        .control_exchange = str_dup("nova"),
        .rpc_response_timeout_ms = 60000,
        .max_body_size = 64 * 1024 * 1024 - 1,
    };
#define MQ_DEFAULT_BOOL(value)  (value)
#define MQ_DEFAULT_INT(value)   (value)
#define MQ_DEFAULT_FLOAT(value) (value)
#define MQ_DEFAULT_STR(value)   str_dup(value)
#define MQ_OPT(type, name, def) o->name = MQ_DEFAULT_##type(def);
#include "rpc/amqp/options.def"
#undef MQ_OPT
}

void mq_options_fini(struct mq_options *o)
{
    for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
        if (opts[i].type == OPT_STR) {
            str_set((char **)((char *)o + opts[i].offset), NULL);
        }
    }
    free(o->control_exchange);
    url_fini(&o->url);
    *o = (struct mq_options){0};
}

/* The words that oslo.config takes for a boolean. */
static bool text_to_bool(const char *s, bool *ret)
{
    static const char *const words[][2] = {
        {"false", "true"}, {"0", "1"}, {"no", "yes"}, {"off", "on"}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (str_ieq(s, words[i][0]) || str_ieq(s, words[i][1])) {
            *ret = str_ieq(s, words[i][1]);
            return true;
        }
    }
    return false;
}

static bool set_value(const struct opt *opt, void *at, const char *value)
{
    switch (opt->type) {
    case OPT_BOOL:
        return text_to_bool(value, at);
    case OPT_INT:
        return str_to_i64(value, at);
    case OPT_FLOAT:
        return str_to_double(value, at);
    case OPT_STR:
        str_set(at, value);
        return true;
    }
    return false;
}

struct err *mq_options_set(struct mq_options *o, const char *name, const char *value)
{
    for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
        if (!str_eq(opts[i].name, name)) {
            continue;
        }
        if (!set_value(&opts[i], (char *)o + opts[i].offset, value)) {
            return err_msg(ERR_CONFIG, "%s: '%s' is not a value of this option", name, value);
        }
        return NULL;
    }
    return err_msg(ERR_CONFIG, "'%s' is not an option of the message bus", name);
}

struct err *mq_options_set_url(struct mq_options *o, const char *transport_url)
{
    CLEANUP(url_fini) struct url u = {0};

    TRY(url_parse(transport_url, &u));
    for (size_t i = 0; i < u.names.n; i++) {
        TRY_CTX(mq_options_set(o, u.names.items[i], u.values.items[i]),
                "reading the query of transport_url");
    }
    url_fini(&o->url);
    o->url = u;
    u = (struct url){0};
    return NULL;
}

MUST_CHECK static struct err *check_file(const char *name, const char *path)
{
    if (!str_is_empty(path) && access(path, R_OK) < 0) {
        return err_msg(ERR_CONFIG, "%s: cannot read '%s'", name, path);
    }
    return NULL;
}

MUST_CHECK static struct err *check_queues(const struct mq_options *o)
{
    if (o->rabbit_stream_fanout) {
        return err_msg(ERR_CONFIG, "rabbit_stream_fanout is not supported: set it to false on "
                                   "every service of this cell");
    }
    if (o->rabbit_ha_queues && (o->rabbit_quorum_queue || o->rabbit_transient_quorum_queue)) {
        return err_msg(ERR_CONFIG, "rabbit_ha_queues and quorum queues exclude each other");
    }
    if (o->rabbit_transient_queues_ttl < 0 || o->rabbit_transient_queues_ttl > INT32_MAX / 1000) {
        return err_msg(ERR_CONFIG, "rabbit_transient_queues_ttl is out of range");
    }
    if (o->rabbit_qos_prefetch_count < 0 || o->rabbit_qos_prefetch_count > UINT16_MAX) {
        return err_msg(ERR_CONFIG, "rabbit_qos_prefetch_count is out of range");
    }
    return NULL;
}

struct err *mq_options_check(const struct mq_options *o)
{
    static const char *const logins[] = {"AMQPLAIN", "PLAIN", "EXTERNAL"};
    bool is_login_known = false;

    for (size_t i = 0; i < ARRAY_SIZE(logins); i++) {
        is_login_known |= str_ieq(o->rabbit_login_method, logins[i]);
    }
    if (!is_login_known) {
        return err_msg(ERR_CONFIG, "rabbit_login_method '%s' is not supported",
                       o->rabbit_login_method);
    }
    if (!str_eq(o->kombu_failover_strategy, "round-robin") &&
        !str_eq(o->kombu_failover_strategy, "shuffle")) {
        return err_msg(ERR_CONFIG,
                       "kombu_failover_strategy '%s' is neither round-robin nor shuffle",
                       o->kombu_failover_strategy);
    }
    if (o->heartbeat_timeout_threshold < 0 || o->heartbeat_timeout_threshold > 3600) {
        return err_msg(ERR_CONFIG, "heartbeat_timeout_threshold is out of range");
    }
    if (o->rabbit_retry_interval < 0 || o->rabbit_retry_backoff < 0 || o->rabbit_interval_max < 0 ||
        !(o->kombu_reconnect_delay >= 0) || !(o->kombu_reconnect_splay >= 0)) {
        return err_msg(ERR_CONFIG, "the intervals of reconnecting cannot be negative");
    }
    TRY(check_queues(o));
    if (o->ssl) {
        TRY(check_file("ssl_ca_file", o->ssl_ca_file));
        TRY(check_file("ssl_cert_file", o->ssl_cert_file));
        TRY(check_file("ssl_key_file", o->ssl_key_file));
    }
    return NULL;
}

bool mq_queue_is_durable(const struct mq_options *o, enum mq_queue_kind kind)
{
    return kind == MQ_QUEUE_TOPIC ? o->amqp_durable_queues || o->rabbit_quorum_queue
                                  : o->rabbit_transient_quorum_queue;
}

bool mq_queue_is_auto_delete(const struct mq_options *o, enum mq_queue_kind kind)
{
    return kind == MQ_QUEUE_TOPIC && o->amqp_auto_delete;
}

size_t mq_queue_args(const struct mq_options *o, enum mq_queue_kind kind,
                     struct mq_arg ret[MQ_MAX_ARGS])
{
    bool is_quorum =
        kind == MQ_QUEUE_TOPIC ? o->rabbit_quorum_queue : o->rabbit_transient_quorum_queue;
    size_t n = 0;

    if (o->rabbit_ha_queues) {
        ret[n++] = (struct mq_arg){.key = "x-ha-policy", .str = "all"};
    }
    if (is_quorum) {
        ret[n++] = (struct mq_arg){.key = "x-queue-type", .str = "quorum"};
        if (o->rabbit_quorum_delivery_limit) {
            ret[n++] = (struct mq_arg){"x-delivery-limit", NULL, o->rabbit_quorum_delivery_limit};
        }
        if (o->rabbit_quroum_max_memory_length) {
            ret[n++] =
                (struct mq_arg){"x-max-in-memory-length", NULL, o->rabbit_quroum_max_memory_length};
        }
        if (o->rabbit_quroum_max_memory_bytes) {
            ret[n++] =
                (struct mq_arg){"x-max-in-memory-bytes", NULL, o->rabbit_quroum_max_memory_bytes};
        }
    }
    if (kind != MQ_QUEUE_TOPIC && o->rabbit_transient_queues_ttl) {
        ret[n++] = (struct mq_arg){"x-expires", NULL, o->rabbit_transient_queues_ttl * 1000};
    }
    return n;
}

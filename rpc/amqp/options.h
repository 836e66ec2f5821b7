#pragma once

/* Options of the bus in one plain struct, complete and checked.
 *
 * Filled from the configuration and the query of transport_url (rpc.c), or by tests; everything
 * else in this layer only reads it.
 *
 * Source: oslo_messaging/_drivers/impl_rabbit.py rabbit_opts, rpc/client.py, rpc/dispatcher.py.
 *
 * Thread-safety: immutable once checked. */

#include "base/err.h"
#include "rpc/amqp/url.h"

struct mq_options {
#define MQ_CTYPE_BOOL           bool
#define MQ_CTYPE_INT            int64_t
#define MQ_CTYPE_FLOAT          double
#define MQ_CTYPE_STR            char *
#define MQ_OPT(type, name, def) MQ_CTYPE_##type name;
#include "rpc/amqp/options.def"
#undef MQ_OPT
    struct url url;
    char *control_exchange;          /* "nova" */
    int64_t rpc_response_timeout_ms; /* 60000 */
    bool rpc_ping_enabled;
    size_t max_body_size; /* A message of more bytes is refused; 64 MiB - 1. */
};

/* The defaults, and guest at localhost. */
void mq_options_init(struct mq_options *);
void mq_options_fini(struct mq_options *);
/* Takes transport_url and the options in its query.  ERR_CONFIG. */
struct err *mq_options_set_url(struct mq_options *, const char *transport_url) MUST_CHECK;
/* Sets one option of options.def from text.  ERR_CONFIG for an unknown one or a bad value. */
struct err *mq_options_set(struct mq_options *, const char *name, const char *value) MUST_CHECK;
/* Whether they fit together.  ERR_CONFIG. */
struct err *mq_options_check(const struct mq_options *) MUST_CHECK;

enum mq_queue_kind { MQ_QUEUE_TOPIC, MQ_QUEUE_FANOUT, MQ_QUEUE_REPLY };

struct mq_arg {
    const char *key;
    const char *str; /* NULL: the number. */
    int64_t num;
};
#define MQ_MAX_ARGS 8
/* Arguments with which a queue is declared; returns how many. */
size_t mq_queue_args(const struct mq_options *, enum mq_queue_kind, struct mq_arg ret[MQ_MAX_ARGS]);
bool mq_queue_is_durable(const struct mq_options *, enum mq_queue_kind);
/* Of exchanges: the topic exchange is declared like its queues, the others like fan-out queues. */
bool mq_queue_is_auto_delete(const struct mq_options *, enum mq_queue_kind);

#pragma once

/* mq-out: the one thread that publishes, for everyone.
 *
 * What is given to it is sent in order as soon as there is a broker, and again after a reconnection
 * if the broker had not confirmed it (receivers drop duplicates by "_unique_id").  A reply whose
 * queue is not there is tried again for kombu_missing_consumer_retry_timeout; then that queue is
 * given up for a minute.  The signs of life of long calls are made here as well: no thread waits
 * for them.  While mq-out waits and nothing is queued, a reply is published by the thread that
 * gives it, which spares the caller the time to wake mq-out.
 *
 * Source: oslo_messaging/_drivers/impl_rabbit.py, amqpdriver.py AMQPIncomingMessage and
 * ObsoleteReplyQueuesCache, rpc/dispatcher.py _watchdog.
 *
 * Thread-safety: all functions from any thread. */

#include "base/err.h"
#include "rpc/amqp/options.h"

#include <stdint.h>

struct publisher;

/* Called once, on mq-out, when the broker has the message (NULL) or it was given up: ERR_TIMEOUT,
 * ERR_CANCELLED (we stop), or what the broker had against it.  Consumes the error; must not block.
 */
typedef void (*published_fn)(struct err *, void *arg);

struct publication {
    char *exchange; /* NULL: the default one. */
    enum mq_queue_kind kind;
    char *key;
    bool has_queue; /* Declare and bind a queue named like the key (notifications). */
    bool is_reply;  /* Mandatory; tried again. */
    int64_t expiration_ms;
    int64_t deadline_ms; /* Not sent later than that. */
    char *body;
    size_t body_len;
    published_fn done; /* May be NULL. */
    void *arg;
};

/* Options are borrowed. */
struct publisher *publisher_new(const struct mq_options *) MUST_CHECK;
/* Sends what was given until now, for two seconds at most. */
struct publisher *publisher_free(struct publisher *);

/* Consumes what the publication points to. */
void publisher_send(struct publisher *, struct publication);

struct beat;
/* Shows life to a caller every 'period_ms' until stopped; then none is sent any more. */
struct beat *publisher_beat_start(struct publisher *, const char *reply_q, const char *msg_id,
                                  int64_t period_ms) MUST_CHECK;
/* NULL is fine. */
void publisher_beat_stop(struct publisher *, struct beat *);

bool publisher_is_ready(struct publisher *);
uint64_t publisher_n_reconnects(struct publisher *);

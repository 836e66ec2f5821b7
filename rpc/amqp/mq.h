#pragma once

/* One AMQP connection: the door to librabbitmq.
 *
 * Nothing blocks but connecting, the declarations (a round trip each, 30 s at most) and a publish
 * that the broker does not take; what arrives is read with mq_next after mq_wait.  Declarations
 * have a channel of their own, so that a refused one does not end consuming or publishing.
 *
 * Any error but those said to be harmless means that the connection is gone: mq_disconnect, then
 * mq_connect again, possibly to another broker.  Deciding that is the caller's.
 *
 * Source: AMQP 0-9-1 with RabbitMQ's extensions; oslo_messaging/_drivers/impl_rabbit.py for what is
 * declared and how.
 *
 * Thread-safety: none; each connection belongs to one thread at a time. */

#include "base/err.h"
#include "rpc/amqp/options.h"

#include <pthread.h>
#include <stdint.h>

struct mq;

/* Options are borrowed. */
struct mq *mq_new(const struct mq_options *) MUST_CHECK;
struct mq *mq_free(struct mq *);
static inline void mq_freep(struct mq **p)
{
    *p = mq_free(*p);
}

/* Opens the connection and its channels.  ERR_DISCONNECTED, ERR_UNAUTHORIZED, ERR_CONFIG. */
struct err *mq_connect(struct mq *, const struct url_host *) MUST_CHECK;
/* 'is_orderly': says good-bye to the broker. */
void mq_disconnect(struct mq *, bool is_orderly);
bool mq_is_connected(const struct mq *);

/* Declares.  An existing one with other properties is used as it is, with a warning. */
struct err *mq_declare_exchange(struct mq *, const char *name, enum mq_queue_kind) MUST_CHECK;
struct err *mq_declare_queue(struct mq *, const char *name, enum mq_queue_kind) MUST_CHECK;
struct err *mq_bind(struct mq *, const char *queue, const char *exchange, const char *key)
    MUST_CHECK;
struct err *mq_delete_queue(struct mq *, const char *name) MUST_CHECK;

/* Consumes a queue; messages come with the number, which is the consumer tag too. */
struct err *mq_consume(struct mq *, const char *queue, unsigned number) MUST_CHECK;
struct err *mq_cancel(struct mq *, unsigned number) MUST_CHECK;
/* From now on the broker confirms what is published; the first publish has tag 1. */
struct err *mq_confirm(struct mq *) MUST_CHECK;
/* Opens the working channel again after MQ_CHANNEL_CLOSED. */
struct err *mq_reopen(struct mq *) MUST_CHECK;

struct mq_publish {
    const char *exchange; /* "": the default one. */
    const char *key;
    bool is_mandatory;
    int64_t expiration_ms; /* 0: none. */
    const char *body;
    size_t body_len;
};
struct err *mq_publish(struct mq *, const struct mq_publish *) MUST_CHECK;
/* The kernel has it then, and sends it with mq_flush, or when the process dies: what is done with
 * the message need not wait for the network. */
struct err *mq_ack(struct mq *, uint64_t tag) MUST_CHECK;
void mq_flush(struct mq *);
/* Refuses a message for good. */
struct err *mq_reject(struct mq *, uint64_t tag) MUST_CHECK;

enum mq_event_kind {
    MQ_NONE,           /* Nothing more for now. */
    MQ_DELIVERY,       /* tag, number, body */
    MQ_CONFIRM,        /* tag, is_multiple, is_refused */
    MQ_RETURNED,       /* A mandatory message without a queue: key, body. */
    MQ_CANCELLED,      /* The broker ended a consumer: number */
    MQ_BLOCKED,        /* The broker takes no messages for now: text */
    MQ_UNBLOCKED,      /* It does again. */
    MQ_CHANNEL_CLOSED, /* The working channel is closed: text; see mq_reopen. */
};

struct mq_event {
    enum mq_event_kind kind;
    uint64_t tag;
    unsigned number;
    bool is_multiple;
    bool is_refused;
    bool is_too_big; /* Longer than max_body_size; body is NULL. */
    char *body;
    size_t body_len;
    char *compression; /* Header "compression", or NULL. */
    char *key;
    char *text;
};
void mq_event_fini(struct mq_event *);

/* The next event that is here already; does not wait. */
struct err *mq_next(struct mq *, struct mq_event *ret) MUST_CHECK;
/* Whether something was read that mq_next has not given yet; mq_wait, once it waits, would not
 * notice. */
bool mq_has_events(const struct mq *);
/* 'fn' is called around the wait in mq_wait, by its thread: while it is idle, the connection may be
 * lent to another thread. */
typedef void (*mq_idle_fn)(bool is_idle, void *arg);
void mq_on_idle(struct mq *, mq_idle_fn, void *arg);
/* Waits until there may be an event, wake_fd (an eventfd, which it resets) is written, or
 * clock_ms() reaches until_ms.  Keeps the heartbeat going.  Without a connection it waits for the
 * others. */
struct err *mq_wait(struct mq *, int wake_fd, int64_t until_ms) MUST_CHECK;

/* Starts one of the bus' threads; they need little stack. */
void mq_thread_start(pthread_t *, const char *name, void *(*fn)(void *), void *arg);

#pragma once

/* A thread that reads queues: mq-in for requests, mq-reply for replies.
 *
 * It has a connection of its own, connects for ever, and after each connection declares everything
 * again: exchange, queue, binding, consumer.  A queue whose consumer the broker ended is declared
 * again, too.  Each message is given to one function, on this thread, which must acknowledge or
 * reject it.
 *
 * Source: oslo_messaging/_drivers/impl_rabbit.py Consumer, Connection.
 *
 * Thread-safety: consumer_ack and consumer_reject on the consumer's own thread, the others from
 * any; start and stop once. */

#include "base/err.h"
#include "rpc/amqp/mq.h"

struct consumer;

struct consumer_queue {
    char *name;
    enum mq_queue_kind kind;
    char *exchange; /* NULL: the default one, which binds by itself. */
    char *key;
};
void consumer_queue_fini(struct consumer_queue *);

/* event->number is the index of the queue.  Takes nothing of the event. */
typedef void (*consumer_fn)(struct consumer *, const struct mq_event *, void *arg);
/* All queues are consumed, or are no longer. */
typedef void (*consumer_ready_fn)(bool is_ready, void *arg);

/* Options are borrowed, queues consumed (moved out of the array). */
struct consumer *consumer_new(const struct mq_options *, const char *thread_name,
                              struct consumer_queue *, size_t n_queues, consumer_fn,
                              consumer_ready_fn, void *arg) MUST_CHECK;
/* Stops the thread: messages that were not read stay in their queues, fan-out queues are deleted.
 */
void consumer_stop(struct consumer *);
struct consumer *consumer_free(struct consumer *); /* Stops it, too. */

/* False: the message is somebody else's now, and must not be acted on. */
bool consumer_ack(struct consumer *, const struct mq_event *) MUST_CHECK;
void consumer_reject(struct consumer *, const struct mq_event *);

bool consumer_is_ready(struct consumer *);
uint64_t consumer_n_reconnects(struct consumer *);
/* "host:port" of the broker in use, or "". */
void consumer_broker(struct consumer *, char *ret, size_t size);

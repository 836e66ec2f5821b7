#include "rpc/amqp/consumer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "rpc/amqp/failover.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct consumer {
    const struct mq_options *options;
    const char *thread_name;
    struct consumer_queue *queues;
    size_t n_queues;
    consumer_fn on_message;
    consumer_ready_fn on_ready;
    void *arg;

    /* Of the thread. */
    struct mq *mq;
    struct failover failover;
    struct err *ack_error; /* The connection broke in consumer_ack. */

    pthread_t thread;
    bool is_joined;
    int wake_fd;
    atomic_bool is_stopping;
    atomic_bool is_ready;
    atomic_uint_fast64_t n_reconnects;
    struct mutex m;
    char broker[128] GUARDED_BY(m);
};

void consumer_queue_fini(struct consumer_queue *q)
{
    free(q->name);
    free(q->exchange);
    free(q->key);
    *q = (struct consumer_queue){0};
}

/* NULL: not ready. */
static void set_ready(struct consumer *c, const struct url_host *host)
{
    bool is_ready = host != NULL;

    mutex_lock(&c->m);
    c->broker[0] = '\0';
    if (host) {
        snprintf(c->broker, sizeof(c->broker), "%s:%u", host->host, host->port);
    }
    mutex_unlock(&c->m);
    if (atomic_exchange(&c->is_ready, is_ready) != is_ready && c->on_ready) {
        c->on_ready(is_ready, c->arg);
    }
}

/* The consumer tags are the numbers from 1. */
MUST_CHECK static struct err *consume(struct consumer *c, size_t i)
{
    const struct consumer_queue *q = &c->queues[i];

    if (q->exchange) {
        TRY(mq_declare_exchange(c->mq, q->exchange, q->kind));
    }
    TRY(mq_declare_queue(c->mq, q->name, q->kind));
    if (q->exchange) {
        TRY(mq_bind(c->mq, q->name, q->exchange, q->key));
    }
    return mq_consume(c->mq, q->name, (unsigned)i + 1);
}

MUST_CHECK static struct err *handle(struct consumer *c, struct mq_event *event)
{
    size_t i = event->number - 1;

    switch (event->kind) {
    case MQ_DELIVERY:
        if (event->number == 0 || i >= c->n_queues) {
            return err_msg(ERR_DISCONNECTED, "a message for consumer %u", event->number);
        }
        event->number--;
        c->on_message(c, event, c->arg);
        mq_flush(c->mq);
        return TAKE(c->ack_error);
    case MQ_CANCELLED:
        if (event->number == 0 || i >= c->n_queues) {
            return NULL;
        }
        log_warning_limited(LOG_RPC, "the broker ended consuming '%s', declaring it again",
                            c->queues[i].name);
        return consume(c, i);
    case MQ_CHANNEL_CLOSED:
        return err_msg(ERR_DISCONNECTED, "the broker closed the channel: %s", event->text);
    case MQ_NONE:
    case MQ_CONFIRM:
    case MQ_RETURNED:
    case MQ_BLOCKED:
    case MQ_UNBLOCKED:
        return NULL;
    }
    return NULL;
}

MUST_CHECK static struct err *read_messages(struct consumer *c)
{
    while (!atomic_load(&c->is_stopping)) {
        CLEANUP(mq_event_fini) struct mq_event event = {0};

        TRY(mq_next(c->mq, &event));
        if (event.kind == MQ_NONE) {
            TRY(mq_wait(c->mq, c->wake_fd, INT64_MAX));
        } else {
            TRY(handle(c, &event));
        }
    }
    return NULL;
}

MUST_CHECK static struct err *run(struct consumer *c, const struct url_host *host)
{
    TRY(mq_connect(c->mq, host));
    for (size_t i = 0; i < c->n_queues; i++) {
        TRY_CTX(consume(c, i), "consuming '%s'", c->queues[i].name);
    }
    failover_connected(&c->failover, clock_ms());
    log_info(LOG_RPC, "%s: consuming %zu queues of broker %s:%u", c->thread_name, c->n_queues,
             host->host, host->port);
    set_ready(c, host);
    return read_messages(c);
}

static void after_failure(struct consumer *c, const struct url_host *host, struct err *consumed)
{
    CLEANUP(err_freep) struct err *e = consumed;
    CLEANUP(freep) char *text = err_text(e);
    int64_t now = clock_ms(), at;

    set_ready(c, NULL);
    mq_disconnect(c->mq, /* is_orderly= */ false);
    failover_failed(&c->failover, now);
    failover_host(&c->failover, &at);
    atomic_fetch_add(&c->n_reconnects, 1);
    log_warning(LOG_RPC, "%s: broker %s:%u: %s, trying again in %.1f s", c->thread_name, host->host,
                host->port, text, (double)(at - now) / 1000);
}

static void wait_until(struct consumer *c, int64_t at_ms)
{
    while (!atomic_load(&c->is_stopping) && clock_ms() < at_ms) {
        err_ignore(mq_wait(c->mq, c->wake_fd, at_ms), "waiting to connect again");
    }
}

/* Nothing more is read after the consumers are cancelled; what the broker sent ahead goes back to
 * its queue when the connection ends. */
MUST_CHECK static struct err *leave(struct consumer *c)
{
    for (size_t i = 0; i < c->n_queues; i++) {
        TRY(mq_cancel(c->mq, (unsigned)i + 1));
        if (c->queues[i].kind == MQ_QUEUE_FANOUT) {
            TRY(mq_delete_queue(c->mq, c->queues[i].name));
        }
    }
    return NULL;
}

static void *consumer_main(void *arg)
{
    struct consumer *c = arg;

    while (!atomic_load(&c->is_stopping)) {
        int64_t at;
        const struct url_host *host = failover_host(&c->failover, &at);
        struct err *e;

        wait_until(c, at);
        if (atomic_load(&c->is_stopping)) {
            break;
        }
        e = run(c, host);
        if (e) {
            after_failure(c, host, e);
        }
    }
    set_ready(c, NULL);
    if (mq_is_connected(c->mq)) {
        err_ignore(leave(c), "leaving the broker");
        mq_disconnect(c->mq, /* is_orderly= */ true);
    }
    return NULL;
}

struct consumer *consumer_new(const struct mq_options *options, const char *thread_name,
                              struct consumer_queue *queues, size_t n_queues,
                              consumer_fn on_message, consumer_ready_fn on_ready, void *arg)
{
    struct consumer *c = NEW(struct consumer);

    c->options = options;
    c->thread_name = thread_name;
    c->queues = NEW_ARRAY(struct consumer_queue, n_queues);
    c->n_queues = n_queues;
    for (size_t i = 0; i < n_queues; i++) {
        c->queues[i] = queues[i];
        queues[i] = (struct consumer_queue){0};
    }
    c->on_message = on_message;
    c->on_ready = on_ready;
    c->arg = arg;
    c->mq = mq_new(options);
    failover_init(&c->failover, options, (unsigned)clock_wall_us() ^ (unsigned)getpid());
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(c->wake_fd >= 0);
    mutex_init(&c->m);
    mq_thread_start(&c->thread, thread_name, consumer_main, c);
    return c;
}

void consumer_stop(struct consumer *c)
{
    if (c->is_joined) {
        return;
    }
    atomic_store(&c->is_stopping, true);
    eventfd_write(c->wake_fd, 1);
    pthread_join(c->thread, NULL);
    c->is_joined = true;
}

struct consumer *consumer_free(struct consumer *c)
{
    if (!c) {
        return NULL;
    }
    consumer_stop(c);
    for (size_t i = 0; i < c->n_queues; i++) {
        consumer_queue_fini(&c->queues[i]);
    }
    free(c->queues);
    mq_freep(&c->mq);
    failover_fini(&c->failover);
    closep(&c->wake_fd);
    err_freep(&c->ack_error);
    mutex_fini(&c->m);
    free(c);
    return NULL;
}

bool consumer_ack(struct consumer *c, const struct mq_event *event)
{
    if (!c->ack_error) {
        c->ack_error = mq_ack(c->mq, event->tag);
    }
    return !c->ack_error;
}

void consumer_reject(struct consumer *c, const struct mq_event *event)
{
    if (!c->ack_error) {
        c->ack_error = mq_reject(c->mq, event->tag);
    }
}

bool consumer_is_ready(struct consumer *c)
{
    return atomic_load(&c->is_ready);
}

uint64_t consumer_n_reconnects(struct consumer *c)
{
    return atomic_load(&c->n_reconnects);
}

void consumer_broker(struct consumer *c, char *ret, size_t size)
{
    mutex_lock(&c->m);
    snprintf(ret, size, "%s", c->broker);
    mutex_unlock(&c->m);
}

#include "rpc/amqp/publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "rpc/amqp/envelope.h"
#include "rpc/amqp/failover.h"
#include "rpc/amqp/mq.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define RETRY_MS     250   /* Between attempts to deliver a reply. */
#define OBSOLETE_MS  60000 /* How long a reply queue is given up, */
#define OBSOLETE_MAX 200   /* and how many of them are remembered. */
#define MAX_CLOSES   3     /* Channels that one message may cost. */
#define STOP_MS      2000

struct item {
    struct publication p;
    char *beat_of; /* The call whose sign of life this is, or NULL. */
    uint64_t tag;
    int64_t first_ms; /* When it was first found undeliverable, or 0. */
    int64_t due_ms;
    unsigned n_closes; /* Channels that the broker closed while this was on its way. */
    bool is_returned;
    TAILQ_ENTRY(item) link;
};
TAILQ_HEAD(items, item);

struct beat {
    char *reply_q, *msg_id;
    int64_t period_ms, next_ms;
    LIST_ENTRY(beat) link;
};

struct publisher {
    const struct mq_options *options;
    pthread_t thread;
    int wake_fd;
    atomic_bool is_ready;
    atomic_uint_fast64_t n_reconnects;

    struct mutex m;
    struct items queue GUARDED_BY(m);
    LIST_HEAD(, beat) beats GUARDED_BY(m);
    bool is_asleep GUARDED_BY(m);   /* Or about to be: needs a wake-up. */
    int64_t stop_ms GUARDED_BY(m);  /* 0: not stopping. */
    bool is_lendable GUARDED_BY(m); /* The thread waits and what is below may be borrowed. */
    bool is_lent GUARDED_BY(m);
    struct cond given_back;

    /* Of the thread, or of who has borrowed it. */
    struct mq *mq;
    struct failover failover;
    struct items unconfirmed; /* By tag. */
    struct items retries;
    uint64_t last_tag;
    struct strv declared; /* Exchanges and queues, on this connection. */
    bool is_blocked;
    struct {
        char *key;
        int64_t until_ms;
    } obsolete[OBSOLETE_MAX];
    size_t next_obsolete;
    struct err *loan_err; /* The connection broke while it was lent. */
};

/* ---- Items ---- */

static void item_finish(struct item *i, struct err *consumed)
{
    if (i->p.done) {
        i->p.done(consumed, i->p.arg);
    } else if (consumed) {
        CLEANUP(err_freep) struct err *e = consumed;

        log_warning_limited(LOG_RPC, "a message for '%s' is lost: %s", i->p.key, err_message(e));
    }
    free(i->p.exchange);
    free(i->p.key);
    free(i->p.body);
    free(i->beat_of);
    free(i);
}

static void enqueue_locked(struct publisher *p, struct item *i) REQUIRES(p->m)
{
    TAILQ_INSERT_TAIL(&p->queue, i, link);
}

static void wake(struct publisher *p)
{
    eventfd_write(p->wake_fd, 1);
}

MUST_CHECK static struct err *publish(struct publisher *p, struct item *i);

/* A reply while mq-out waits: this thread publishes it, which saves waking that one. */
static bool may_borrow_locked(const struct publisher *p, const struct publication *publication)
    REQUIRES(p->m)
{
    return publication->is_reply && p->is_lendable && !p->is_lent && !p->stop_ms &&
           TAILQ_EMPTY(&p->queue);
}

static void publish_borrowed(struct publisher *p, struct item *i)
{
    bool is_needed;

    p->loan_err = publish(p, i);
    is_needed = p->loan_err || mq_has_events(p->mq);
    mutex_lock(&p->m);
    p->is_lent = false;
    cond_signal(&p->given_back);
    mutex_unlock(&p->m);
    if (is_needed) {
        wake(p);
    }
}

static bool is_lendable(const struct publisher *p)
{
    const struct item *last = TAILQ_LAST(&p->unconfirmed, items);

    return mq_is_connected(p->mq) && !p->is_blocked && !(last && last->n_closes);
}

static void on_idle(bool is_idle, void *arg)
{
    struct publisher *p = arg;

    mutex_lock(&p->m);
    p->is_lendable = is_idle && is_lendable(p);
    while (p->is_lent && !is_idle) {
        cond_wait_until(&p->given_back, &p->m, INT64_MAX);
    }
    mutex_unlock(&p->m);
}

void publisher_send(struct publisher *p, struct publication publication)
{
    struct item *i = NEW(struct item);
    bool is_asleep = false, has_borrowed;

    i->p = publication;
    mutex_lock(&p->m);
    has_borrowed = may_borrow_locked(p, &publication);
    p->is_lent |= has_borrowed;
    if (!has_borrowed) {
        enqueue_locked(p, i);
        is_asleep = p->is_asleep;
        p->is_asleep = false;
    }
    mutex_unlock(&p->m);
    if (has_borrowed) {
        publish_borrowed(p, i);
    } else if (is_asleep) {
        wake(p);
    }
}

static struct item *take_next(struct publisher *p)
{
    struct item *i;

    mutex_lock(&p->m);
    i = TAILQ_FIRST(&p->queue);
    if (i) {
        TAILQ_REMOVE(&p->queue, i, link);
    }
    mutex_unlock(&p->m);
    return i;
}

static void put_back(struct publisher *p, struct item *i)
{
    mutex_lock(&p->m);
    TAILQ_INSERT_HEAD(&p->queue, i, link);
    mutex_unlock(&p->m);
}

/* What the broker has not confirmed is sent again, in the old order. */
static void put_back_unconfirmed(struct publisher *p)
{
    struct item *i;

    while ((i = TAILQ_LAST(&p->unconfirmed, items))) {
        TAILQ_REMOVE(&p->unconfirmed, i, link);
        i->is_returned = false;
        put_back(p, i);
    }
    p->last_tag = 0;
}

static void drop_expired(struct publisher *p, int64_t now_ms)
{
    struct items expired = TAILQ_HEAD_INITIALIZER(expired);
    struct item *i, *next;

    mutex_lock(&p->m);
    for (i = TAILQ_FIRST(&p->queue); i; i = next) {
        next = TAILQ_NEXT(i, link);
        if (i->p.deadline_ms <= now_ms) {
            TAILQ_REMOVE(&p->queue, i, link);
            TAILQ_INSERT_TAIL(&expired, i, link);
        }
    }
    mutex_unlock(&p->m);
    while ((i = TAILQ_FIRST(&expired))) {
        TAILQ_REMOVE(&expired, i, link);
        item_finish(i, err_msg(ERR_TIMEOUT, "No broker took a message for '%s' in time", i->p.key));
    }
}

static void drop_all(struct publisher *p)
{
    struct item *i;

    put_back_unconfirmed(p);
    while ((i = TAILQ_FIRST(&p->retries))) {
        TAILQ_REMOVE(&p->retries, i, link);
        put_back(p, i);
    }
    while ((i = take_next(p))) {
        item_finish(
            i, err_msg(ERR_CANCELLED, "stopping before a message for '%s' was sent", i->p.key));
    }
}

/* ---- Reply queues that are gone ---- */

static bool is_obsolete(const struct publisher *p, const char *key, int64_t now_ms)
{
    for (size_t i = 0; i < OBSOLETE_MAX; i++) {
        if (p->obsolete[i].until_ms > now_ms && str_eq(p->obsolete[i].key, key)) {
            return true;
        }
    }
    return false;
}

static void add_obsolete(struct publisher *p, const char *key, int64_t now_ms)
{
    str_set(&p->obsolete[p->next_obsolete].key, key);
    p->obsolete[p->next_obsolete].until_ms = now_ms + OBSOLETE_MS;
    p->next_obsolete = (p->next_obsolete + 1) % OBSOLETE_MAX;
}

static void beat_gave_up(struct publisher *p, const char *msg_id)
{
    struct beat *b;

    mutex_lock(&p->m);
    LIST_FOREACH(b, &p->beats, link)
    {
        if (str_eq(b->msg_id, msg_id)) {
            b->next_ms = INT64_MAX;
        }
    }
    mutex_unlock(&p->m);
}

static void on_undeliverable(struct publisher *p, struct item *i)
{
    int64_t now = clock_ms();

    if (i->beat_of) {
        beat_gave_up(p, i->beat_of);
        item_finish(i, NULL);
        return;
    }
    i->is_returned = false;
    i->first_ms = i->first_ms ? i->first_ms : now;
    i->due_ms = now + RETRY_MS;
    if (i->due_ms <= i->first_ms + p->options->kombu_missing_consumer_retry_timeout * 1000) {
        TAILQ_INSERT_TAIL(&p->retries, i, link);
        return;
    }
    if (!is_obsolete(p, i->p.key, now)) {
        log_warning_limited(LOG_RPC, "nobody consumes reply queue '%s', dropping its replies",
                            i->p.key);
        add_obsolete(p, i->p.key, now);
    }
    item_finish(i, err_msg(ERR_DISCONNECTED, "nobody consumes reply queue '%s'", i->p.key));
}

static void requeue_due(struct publisher *p, int64_t now_ms)
{
    struct item *i;

    while ((i = TAILQ_FIRST(&p->retries)) && i->due_ms <= now_ms) {
        TAILQ_REMOVE(&p->retries, i, link);
        mutex_lock(&p->m);
        enqueue_locked(p, i);
        mutex_unlock(&p->m);
    }
}

/* ---- Signs of life ---- */

struct beat *publisher_beat_start(struct publisher *p, const char *reply_q, const char *msg_id,
                                  int64_t period_ms)
{
    struct beat *b = NEW(struct beat);
    bool is_asleep;

    *b = (struct beat){.reply_q = str_dup(reply_q),
                       .msg_id = str_dup(msg_id),
                       .period_ms = period_ms,
                       .next_ms = clock_ms() + period_ms};
    mutex_lock(&p->m);
    LIST_INSERT_HEAD(&p->beats, b, link);
    is_asleep = p->is_asleep;
    p->is_asleep = false;
    mutex_unlock(&p->m);
    if (is_asleep) {
        wake(p);
    }
    return b;
}

void publisher_beat_stop(struct publisher *p, struct beat *b)
{
    if (!b) {
        return;
    }
    mutex_lock(&p->m);
    LIST_REMOVE(b, link);
    mutex_unlock(&p->m);
    free(b->reply_q);
    free(b->msg_id);
    free(b);
}

static void make_beats(struct publisher *p, int64_t now_ms)
{
    struct beat *b;

    mutex_lock(&p->m);
    LIST_FOREACH(b, &p->beats, link)
    {
        struct item *i;

        if (b->next_ms > now_ms) {
            continue;
        }
        b->next_ms = now_ms + b->period_ms;
        i = NEW(struct item);
        i->beat_of = str_dup(b->msg_id);
        i->p = (struct publication){
            .key = str_dup(b->reply_q), .is_reply = true, .deadline_ms = b->next_ms};
        i->p.body = envelope_write_reply(b->msg_id, /* result= */ NULL, /* failure= */ NULL,
                                         /* is_ending= */ false, &i->p.body_len);
        enqueue_locked(p, i);
    }
    mutex_unlock(&p->m);
}

/* ---- Publishing ---- */

MUST_CHECK static struct err *declare_once(struct publisher *p, const struct publication *pub)
{
    CLEANUP(freep)
    char *queue = pub->has_queue ? str_printf("%s/%s", pub->exchange, pub->key) : NULL;

    if (pub->exchange && !strv_has(&p->declared, pub->exchange)) {
        TRY(mq_declare_exchange(p->mq, pub->exchange, pub->kind));
        strv_add(&p->declared, pub->exchange);
    }
    if (queue && !strv_has(&p->declared, queue)) {
        TRY(mq_declare_queue(p->mq, pub->key, pub->kind));
        TRY(mq_bind(p->mq, pub->key, pub->exchange, pub->key));
        strv_add(&p->declared, queue);
    }
    return NULL;
}

MUST_CHECK static struct err *send_now(struct publisher *p, const struct publication *pub)
{
    struct mq_publish m = {.exchange = pub->exchange ? pub->exchange : "",
                           .key = pub->kind == MQ_QUEUE_FANOUT ? "" : pub->key,
                           .is_mandatory = pub->is_reply,
                           .expiration_ms = pub->expiration_ms,
                           .body = pub->body,
                           .body_len = pub->body_len};

    TRY(declare_once(p, pub));
    return mq_publish(p->mq, &m);
}

/* Returns an error only if the connection is lost; the item is back in the queue then. */
MUST_CHECK static struct err *publish(struct publisher *p, struct item *i)
{
    int64_t now = clock_ms();
    struct err *e;

    if (i->p.deadline_ms <= now) {
        item_finish(i, err_msg(ERR_TIMEOUT, "a message for '%s' came too late", i->p.key));
        return NULL;
    }
    if (i->p.is_reply && is_obsolete(p, i->p.key, now)) {
        item_finish(i, err_msg(ERR_DISCONNECTED, "nobody consumes reply queue '%s'", i->p.key));
        return NULL;
    }
    e = send_now(p, &i->p);
    if (!e) {
        i->tag = ++p->last_tag;
        TAILQ_INSERT_TAIL(&p->unconfirmed, i, link);
    } else if (err_is(e, ERR_DISCONNECTED)) {
        put_back(p, i);
        return e;
    } else {
        item_finish(i, e);
    }
    return NULL;
}

/* Once the broker has closed a channel, what may be the cause is sent alone, to find the culprit.
 */
static bool must_wait(const struct publisher *p, const struct item *next)
{
    const struct item *last = TAILQ_LAST(&p->unconfirmed, items);

    return last && (last->n_closes || next->n_closes);
}

MUST_CHECK static struct err *publish_all(struct publisher *p)
{
    int64_t now = clock_ms();
    struct item *i;

    requeue_due(p, now);
    make_beats(p, now);
    while (!p->is_blocked && (i = take_next(p))) {
        if (must_wait(p, i)) {
            put_back(p, i);
            break;
        }
        TRY(publish(p, i));
    }
    return NULL;
}

static void on_confirmed(struct publisher *p, struct item *i, bool is_refused)
{
    TAILQ_REMOVE(&p->unconfirmed, i, link);
    if (i->is_returned || (is_refused && i->p.is_reply)) {
        on_undeliverable(p, i);
    } else if (is_refused) {
        item_finish(i,
                    err_msg(ERR_DISCONNECTED, "the broker refused a message for '%s'", i->p.key));
    } else {
        item_finish(i, NULL);
    }
}

static void on_confirm(struct publisher *p, const struct mq_event *event)
{
    struct item *i, *next;

    for (i = TAILQ_FIRST(&p->unconfirmed); i && i->tag <= event->tag; i = next) {
        next = TAILQ_NEXT(i, link);
        if (event->is_multiple || i->tag == event->tag) {
            on_confirmed(p, i, event->is_refused);
        }
    }
}

/* The broker returns the whole message, and confirms it after that. */
static void on_returned(struct publisher *p, const struct mq_event *event)
{
    struct item *i;

    TAILQ_FOREACH(i, &p->unconfirmed, link)
    {
        if (!i->is_returned && str_eq(i->p.key, event->key) && i->p.body_len == event->body_len &&
            (!event->body || memcmp(i->p.body, event->body, event->body_len) == 0)) {
            i->is_returned = true;
            return;
        }
    }
}

/* Usually an exchange that went with its last consumer: it is declared again.  A message that costs
 * one channel after the other (too long for this broker) is given up. */
MUST_CHECK static struct err *on_channel_closed(struct publisher *p, const char *text)
{
    struct item *i, *next;

    log_warning_limited(LOG_RPC, "mq-out: the broker closed the channel: %s, opening it again",
                        text);
    for (i = TAILQ_FIRST(&p->unconfirmed); i; i = next) {
        next = TAILQ_NEXT(i, link);
        if (++i->n_closes > MAX_CLOSES) {
            TAILQ_REMOVE(&p->unconfirmed, i, link);
            item_finish(i, err_msg(ERR_DISCONNECTED, "the broker refuses a message: %s", text));
        }
    }
    put_back_unconfirmed(p);
    strv_fini(&p->declared);
    TRY(mq_reopen(p->mq));
    return mq_confirm(p->mq);
}

MUST_CHECK static struct err *handle(struct publisher *p, const struct mq_event *event)
{
    switch (event->kind) {
    case MQ_CONFIRM:
        on_confirm(p, event);
        return NULL;
    case MQ_RETURNED:
        on_returned(p, event);
        return NULL;
    case MQ_BLOCKED:
        p->is_blocked = true;
        log_warning(LOG_RPC, "the broker takes no messages (%s), waiting", event->text);
        return NULL;
    case MQ_UNBLOCKED:
        p->is_blocked = false;
        log_info(LOG_RPC, "the broker takes messages again");
        return NULL;
    case MQ_CHANNEL_CLOSED:
        return on_channel_closed(p, event->text);
    case MQ_NONE:
    case MQ_DELIVERY:
    case MQ_CANCELLED:
        return NULL;
    }
    return NULL;
}

MUST_CHECK static struct err *read_events(struct publisher *p)
{
    for (;;) {
        CLEANUP(mq_event_fini) struct mq_event event = {0};

        TRY(mq_next(p->mq, &event));
        if (event.kind == MQ_NONE) {
            return NULL;
        }
        TRY(handle(p, &event));
    }
}

/* ---- The thread ---- */

static bool is_over(struct publisher *p)
{
    bool is_over;

    mutex_lock(&p->m);
    is_over = p->stop_ms && (clock_ms() >= p->stop_ms || !mq_is_connected(p->mq) ||
                             (TAILQ_EMPTY(&p->queue) && TAILQ_EMPTY(&p->unconfirmed)));
    mutex_unlock(&p->m);
    return is_over;
}

/* Until when there is nothing to do, or 0; from then on a sender wakes the thread. */
static int64_t fall_asleep(struct publisher *p)
{
    const struct item *retry = TAILQ_FIRST(&p->retries);
    int64_t until = retry ? retry->due_ms : INT64_MAX;
    struct item *next;
    struct beat *b;

    mutex_lock(&p->m);
    next = TAILQ_FIRST(&p->queue);
    if (p->stop_ms) {
        until = MIN(until, p->stop_ms);
    }
    LIST_FOREACH(b, &p->beats, link)
    {
        until = MIN(until, b->next_ms);
    }
    if (next && !p->is_blocked && !must_wait(p, next)) {
        until = 0;
    } else {
        p->is_asleep = true;
    }
    mutex_unlock(&p->m);
    return until;
}

MUST_CHECK static struct err *session(struct publisher *p, const struct url_host *host)
{
    TRY(mq_connect(p->mq, host));
    TRY(mq_confirm(p->mq));
    failover_connected(&p->failover, clock_ms());
    atomic_store(&p->is_ready, true);
    log_info(LOG_RPC, "mq-out: publishing to broker %s:%u", host->host, host->port);
    while (!is_over(p)) {
        int64_t until;

        TRY(publish_all(p));
        TRY(read_events(p));
        until = fall_asleep(p);
        if (until) {
            TRY(mq_wait(p->mq, p->wake_fd, until));
            TRY(TAKE(p->loan_err));
        }
    }
    return NULL;
}

static void after_failure(struct publisher *p, const struct url_host *host, struct err *consumed)
{
    CLEANUP(err_freep) struct err *e = consumed;
    CLEANUP(freep) char *text = err_text(e);
    int64_t now = clock_ms(), at;

    atomic_store(&p->is_ready, false);
    atomic_fetch_add(&p->n_reconnects, 1);
    mq_disconnect(p->mq, /* is_orderly= */ false);
    p->loan_err = err_free(p->loan_err);
    p->is_blocked = false;
    strv_fini(&p->declared);
    put_back_unconfirmed(p);
    drop_expired(p, now);
    failover_failed(&p->failover, now);
    failover_host(&p->failover, &at);
    log_warning(LOG_RPC, "mq-out: broker %s:%u: %s, trying again in %.1f s", host->host, host->port,
                text, (double)(at - now) / 1000);
}

static void *publisher_main(void *arg)
{
    struct publisher *p = arg;

    for (;;) {
        int64_t at;
        const struct url_host *host = failover_host(&p->failover, &at);
        struct err *e;

        while (!is_over(p) && clock_ms() < at) {
            err_ignore(mq_wait(p->mq, p->wake_fd, at), "waiting to connect again");
        }
        if (is_over(p)) {
            break;
        }
        e = session(p, host);
        if (e) {
            after_failure(p, host, e);
        }
    }
    atomic_store(&p->is_ready, false);
    mq_disconnect(p->mq, /* is_orderly= */ true);
    drop_all(p);
    return NULL;
}

struct publisher *publisher_new(const struct mq_options *options)
{
    struct publisher *p = NEW(struct publisher);

    p->options = options;
    mutex_init(&p->m);
    cond_init(&p->given_back);
    TAILQ_INIT(&p->queue);
    LIST_INIT(&p->beats);
    TAILQ_INIT(&p->unconfirmed);
    TAILQ_INIT(&p->retries);
    p->mq = mq_new(options);
    mq_on_idle(p->mq, on_idle, p);
    failover_init(&p->failover, options, (unsigned)clock_wall_us() ^ (unsigned)getpid());
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(p->wake_fd >= 0);
    mq_thread_start(&p->thread, "mq-out", publisher_main, p);
    return p;
}

struct publisher *publisher_free(struct publisher *p)
{
    if (!p) {
        return NULL;
    }
    mutex_lock(&p->m);
    p->stop_ms = clock_ms() + STOP_MS;
    mutex_unlock(&p->m);
    wake(p);
    pthread_join(p->thread, NULL);
    assert(LIST_EMPTY(&p->beats));
    mq_freep(&p->mq);
    failover_fini(&p->failover);
    for (size_t i = 0; i < OBSOLETE_MAX; i++) {
        free(p->obsolete[i].key);
    }
    strv_fini(&p->declared);
    closep(&p->wake_fd);
    err_freep(&p->loan_err);
    cond_fini(&p->given_back);
    mutex_fini(&p->m);
    free(p);
    return NULL;
}

bool publisher_is_ready(struct publisher *p)
{
    return atomic_load(&p->is_ready);
}

uint64_t publisher_n_reconnects(struct publisher *p)
{
    return atomic_load(&p->n_reconnects);
}

#include "rpc/amqp/client.h"

#include "base/clock.h"
#include "base/log.h"
#include "rpc/amqp/bus.h"
#include "rpc/amqp/consumer.h"
#include "rpc/amqp/envelope.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* One call or cast that somebody waits for.  Referred to by that thread, and by what it sent. */
struct waiter {
    char msg_id[33];
    atomic_uint n_refs;
    struct mutex m;
    struct cond changed;
    bool is_done GUARDED_BY(m);
    bool is_cancelled GUARDED_BY(m);
    struct json_object *result GUARDED_BY(m);
    struct err *error GUARDED_BY(m);
    int64_t seen_ms GUARDED_BY(m); /* Last sign of life. */
    UT_hash_handle hh;
};

struct rpc_client {
    const struct mq_options *options;
    struct publisher *publisher;
    struct consumer *replies;
    char reply_q[40];
    atomic_bool is_ready; /* The reply queue is consumed. */
    struct mutex m;
    struct waiter *waiters GUARDED_BY(m); /* Calls, by msg_id. */
    atomic_uint_fast64_t n_calls, n_casts;
};

/* ---- Waiters ---- */

static struct waiter *waiter_new(void)
{
    struct waiter *w = NEW(struct waiter);

    uuid_new_hex(w->msg_id);
    atomic_init(&w->n_refs, 1);
    mutex_init(&w->m);
    cond_init(&w->changed);
    w->seen_ms = clock_ms();
    return w;
}

static struct waiter *waiter_ref(struct waiter *w)
{
    atomic_fetch_add(&w->n_refs, 1);
    return w;
}

static void waiter_freep(struct waiter **p)
{
    struct waiter *w = *p;

    *p = NULL;
    if (!w || atomic_fetch_sub(&w->n_refs, 1) > 1) {
        return;
    }
    jv_putp(&w->result);
    err_freep(&w->error);
    cond_fini(&w->changed);
    mutex_fini(&w->m);
    free(w);
}

static void waiter_cancel(void *arg)
{
    struct waiter *w = arg;

    mutex_lock(&w->m);
    w->is_cancelled = true;
    cond_broadcast(&w->changed);
    mutex_unlock(&w->m);
}

/* Consumes the error; the first one stays. */
static void waiter_finish(struct waiter *w, struct err *e)
{
    mutex_lock(&w->m);
    if (w->is_done) {
        err_freep(&e);
    } else {
        w->error = e;
        w->is_done = true;
    }
    cond_broadcast(&w->changed);
    mutex_unlock(&w->m);
}

/* A call goes on waiting for its answer once it is sent, a cast is done. */
static void call_was_published(struct err *e, void *arg)
{
    CLEANUP(waiter_freep) struct waiter *w = arg;

    if (e) {
        waiter_finish(w, e);
    }
}

static void cast_was_published(struct err *e, void *arg)
{
    CLEANUP(waiter_freep) struct waiter *w = arg;

    waiter_finish(w, e);
}

/* ---- Replies, on mq-reply ---- */

static struct waiter *find_waiter(struct rpc_client *c, const char *msg_id)
{
    struct waiter *w;

    mutex_lock(&c->m);
    HASH_FIND_STR(c->waiters, msg_id, w);
    if (w) {
        waiter_ref(w);
    }
    mutex_unlock(&c->m);
    return w;
}

static void give_reply(struct waiter *w, struct envelope_reply *reply)
{
    mutex_lock(&w->m);
    w->seen_ms = clock_ms();
    if (!w->is_done) {
        if (reply->result) {
            jv_putp(&w->result);
            w->result = TAKE(reply->result);
        }
        if (reply->failure) {
            err_freep(&w->error);
            w->error = TAKE(reply->failure);
        }
        w->is_done = reply->is_ending;
    }
    cond_broadcast(&w->changed);
    mutex_unlock(&w->m);
}

MUST_CHECK static struct err *read_reply(const struct mq_options *o, const struct mq_event *event,
                                         struct envelope_reply *ret)
{
    CLEANUP(jv_putp) struct json_object *payload = NULL;
    CLEANUP(freep) char *unpacked = NULL;
    const char *body = event->body;
    size_t len = event->body_len;

    if (event->is_too_big) {
        return err_msg(ERR_PARSE, "a body of %zu bytes is too much", len);
    }
    if (event->compression) {
        TRY(envelope_inflate(event->compression, body, len, o->max_body_size, &unpacked, &len));
        body = unpacked;
    }
    TRY(envelope_open(body, len, &payload));
    return envelope_read_reply(payload, ret);
}

static void on_reply(struct consumer *consumer, const struct mq_event *event, void *arg)
{
    struct rpc_client *c = arg;
    CLEANUP(envelope_reply_fini) struct envelope_reply reply = {0};
    CLEANUP(waiter_freep) struct waiter *w = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    if (!consumer_ack(consumer, event)) {
        return;
    }
    e = read_reply(c->options, event, &reply);
    if (e) {
        log_warning_limited(LOG_RPC, "ignoring a reply: %s", err_message(e));
        return;
    }
    w = find_waiter(c, reply.msg_id);
    if (!w) {
        log_debug(LOG_RPC, "a reply to %s, which nobody waits for", reply.msg_id);
        return;
    }
    give_reply(w, &reply);
}

static void on_ready(bool is_ready, void *arg)
{
    struct rpc_client *c = arg;

    atomic_store(&c->is_ready, is_ready);
    mutex_lock(&c->m);
    for (struct waiter *w = c->waiters; w; w = w->hh.next) {
        mutex_lock(&w->m);
        cond_broadcast(&w->changed);
        mutex_unlock(&w->m);
    }
    mutex_unlock(&c->m);
}

/* ---- Messages ---- */

static void add_unique_id(struct json_object *payload)
{
    char unique_id[33];

    uuid_new_hex(unique_id);
    jv_add_str(payload, "_unique_id", unique_id);
}

static struct json_object *new_request(const struct rctx *ctx, const struct rpc_target *target,
                                       const char *method, struct json_object *args)
{
    struct json_object *payload = json_object_new_object();

    jv_add_str(payload, "method", method);
    jv_add(payload, "args", args ? args : json_object_new_object());
    if (target->version) {
        jv_add_str(payload, "version", target->version);
    }
    if (target->namespace_) {
        jv_add_str(payload, "namespace", target->namespace_);
    }
    add_unique_id(payload);
    rctx_to_payload(ctx, payload, /* for_notification= */ false);
    return payload;
}

/* To the topic exchange. */
static struct publication to_topic(const struct rpc_client *c, const struct rpc_target *target,
                                   struct json_object *payload, int64_t deadline_ms)
{
    struct publication p = {
        .exchange = str_dup(c->options->control_exchange),
        .kind = MQ_QUEUE_TOPIC,
        .key = target->server ? str_printf("%s.%s", target->topic, target->server)
                              : str_dup(target->topic),
        .deadline_ms = deadline_ms,
    };

    p.body = envelope_seal(payload, &p.body_len);
    return p;
}

/* ---- Calls ---- */

static bool is_time_left(const struct waiter *w, int64_t deadline_ms, int64_t monitor_ms,
                         int64_t *ret_until_ms)
{
    int64_t until = deadline_ms;

    if (monitor_ms) {
        until = MIN(until, w->seen_ms + monitor_ms);
    }
    *ret_until_ms = until;
    return clock_ms() < until;
}

MUST_CHECK static struct err *timed_out(const struct waiter *w)
{
    return err_msg(ERR_TIMEOUT, "Timed out waiting for a reply to message ID %s", w->msg_id);
}

MUST_CHECK static struct err *cancelled(void)
{
    return err_msg(ERR_CANCELLED, "the call was cancelled");
}

/* A request must not overtake the declaration of the queue for its answer. */
MUST_CHECK static struct err *wait_ready(struct rpc_client *c, struct waiter *w,
                                         int64_t deadline_ms)
{
    bool is_ready, is_cancelled;

    mutex_lock(&w->m);
    while (!(is_ready = atomic_load(&c->is_ready)) && !w->is_cancelled &&
           cond_wait_until(&w->changed, &w->m, deadline_ms)) {
    }
    is_cancelled = w->is_cancelled;
    w->seen_ms = clock_ms();
    mutex_unlock(&w->m);
    if (is_cancelled) {
        return cancelled();
    }
    return is_ready ? NULL : timed_out(w);
}

MUST_CHECK static struct err *wait_reply(struct waiter *w, int64_t deadline_ms, int64_t monitor_ms,
                                         struct json_object **ret)
{
    struct err *e = NULL;
    int64_t until;

    mutex_lock(&w->m);
    while (!w->is_done && !w->is_cancelled && is_time_left(w, deadline_ms, monitor_ms, &until)) {
        cond_wait_until(&w->changed, &w->m, until);
    }
    if (w->is_done) {
        e = TAKE(w->error);
    } else {
        e = w->is_cancelled ? cancelled() : timed_out(w);
    }
    if (!e) {
        *ret = TAKE(w->result);
    }
    mutex_unlock(&w->m);
    return e;
}

static void enter(struct rpc_client *c, struct waiter *w)
{
    mutex_lock(&c->m);
    HASH_ADD_STR(c->waiters, msg_id, w);
    mutex_unlock(&c->m);
}

static void leave(struct rpc_client *c, struct waiter *w)
{
    mutex_lock(&c->m);
    HASH_DEL(c->waiters, w);
    mutex_unlock(&c->m);
}

MUST_CHECK static struct err *call(struct rpc_client *c, struct waiter *w,
                                   const struct rpc_target *target, struct json_object *payload,
                                   int64_t timeout_ms, int64_t monitor_ms, struct json_object **ret)
{
    int64_t deadline = clock_ms() + timeout_ms;
    struct publication p;

    TRY(wait_ready(c, w, deadline));
    p = to_topic(c, target, payload, deadline);
    p.expiration_ms = timeout_ms;
    p.done = call_was_published;
    p.arg = waiter_ref(w);
    publisher_send(c->publisher, p);
    return wait_reply(w, deadline, monitor_ms, ret);
}

struct err *rpc_call(struct rpc_client *c, const struct rctx *ctx, const struct rpc_target *target,
                     const char *method, struct json_object *args, const struct rpc_times *times,
                     struct json_object **ret)
{
    static const struct rpc_times no_times;
    CLEANUP(jv_putp) struct json_object *payload = new_request(ctx, target, method, args);
    CLEANUP(waiter_freep) struct waiter *w = waiter_new();
    struct cancel_hook hook = {.fn = waiter_cancel, .arg = w};
    const struct rpc_times *t = times ? times : &no_times;
    struct json_object *monitor =
        t->monitor_ms ? json_object_new_int64(MAX(t->monitor_ms / 1000, (int64_t)1)) : NULL;
    struct err *e;

    jv_add_str(payload, "_msg_id", w->msg_id);
    jv_add_str(payload, "_reply_q", c->reply_q);
    jv_add(payload, "_timeout", monitor);
    atomic_fetch_add(&c->n_calls, 1);
    enter(c, w);
    cancel_hook_add(t->cancel, &hook);
    e = call(c, w, target, payload,
             t->timeout_ms ? t->timeout_ms : c->options->rpc_response_timeout_ms, t->monitor_ms,
             ret);
    cancel_hook_del(t->cancel, &hook);
    leave(c, w);
    return err_context(e, "calling %s of %s%s%s", method, target->topic, target->server ? "." : "",
                       target->server ? target->server : "");
}

/* ---- Casts ---- */

MUST_CHECK static struct err *publish_and_wait(struct rpc_client *c, struct publication p)
{
    CLEANUP(waiter_freep) struct waiter *w = waiter_new();
    struct json_object *none;

    p.done = cast_was_published;
    p.arg = waiter_ref(w);
    atomic_fetch_add(&c->n_casts, 1);
    publisher_send(c->publisher, p);
    return wait_reply(w, p.deadline_ms, /* monitor_ms= */ 0, &none);
}

static int64_t cast_deadline(const struct rpc_client *c)
{
    return clock_ms() + c->options->rpc_response_timeout_ms;
}

struct err *rpc_cast(struct rpc_client *c, const struct rctx *ctx, const struct rpc_target *target,
                     const char *method, struct json_object *args)
{
    CLEANUP(jv_putp) struct json_object *payload = new_request(ctx, target, method, args);

    TRY_CTX(publish_and_wait(c, to_topic(c, target, payload, cast_deadline(c))),
            "casting %s to %s%s%s", method, target->topic, target->server ? "." : "",
            target->server ? target->server : "");
    return NULL;
}

struct err *rpc_fanout(struct rpc_client *c, const struct rctx *ctx,
                       const struct rpc_target *target, const char *method,
                       struct json_object *args)
{
    CLEANUP(jv_putp) struct json_object *payload = new_request(ctx, target, method, args);
    struct publication p = {
        .exchange = str_printf("%s_fanout", target->topic),
        .kind = MQ_QUEUE_FANOUT,
        .key = str_dup(target->topic),
        .deadline_ms = cast_deadline(c),
    };

    p.body = envelope_seal(payload, &p.body_len);
    TRY_CTX(publish_and_wait(c, p), "casting %s to all of %s", method, target->topic);
    return NULL;
}

/* ---- Notifications ---- */

static void add_timestamp(struct json_object *message)
{
    CLEANUP(freep) char *now = clock_iso_utc_us();
    char *t = strchr(now, 'T');

    if (t) {
        *t = ' ';
    }
    jv_add_str(message, "timestamp", now);
}

static struct json_object *new_notification(const struct rctx *ctx, const char *priority,
                                            const char *publisher_id, const char *event_type,
                                            struct json_object *payload)
{
    struct json_object *message = json_object_new_object();
    CLEANUP(freep) char *upper = str_dup(priority);
    char message_id[UUID_LEN + 1];

    for (char *s = upper; *s; s++) {
        *s = *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;
    }
    uuid_new(message_id);
    jv_add_str(message, "message_id", message_id);
    jv_add_str(message, "publisher_id", publisher_id);
    jv_add_str(message, "event_type", event_type);
    jv_add_str(message, "priority", upper);
    jv_add(message, "payload", payload);
    add_timestamp(message);
    add_unique_id(message);
    rctx_to_payload(ctx, message, /* for_notification= */ true);
    return message;
}

struct err *rpc_notify(struct rpc_client *c, const struct rctx *ctx, const char *topic,
                       const char *priority, const char *publisher_id, const char *event_type,
                       struct json_object *payload, bool has_envelope)
{
    CLEANUP(jv_putp)
    struct json_object *message =
        new_notification(ctx, priority, publisher_id, event_type, payload);
    struct publication p = {
        .exchange = str_dup(c->options->control_exchange),
        .kind = MQ_QUEUE_TOPIC,
        .key = str_printf("%s.%s", topic, priority),
        .has_queue = true,
        .deadline_ms = cast_deadline(c),
    };

    p.body = has_envelope ? envelope_seal(message, &p.body_len)
                          : envelope_seal_bare(message, &p.body_len);
    TRY_CTX(publish_and_wait(c, p), "notifying %s", event_type);
    return NULL;
}

/* ---- Life ---- */

struct rpc_client *rpc_client_new(const struct mq_options *options, struct publisher *publisher)
{
    struct rpc_client *c = NEW(struct rpc_client);
    struct consumer_queue queue = {.kind = MQ_QUEUE_REPLY};
    char hex[33];

    c->options = options;
    c->publisher = publisher;
    mutex_init(&c->m);
    uuid_new_hex(hex);
    snprintf(c->reply_q, sizeof(c->reply_q), "reply_%s", hex);
    queue.name = str_dup(c->reply_q);
    c->replies = consumer_new(options, "mq-reply", &queue, 1, on_reply, on_ready, c);
    return c;
}

struct rpc_client *rpc_client_free(struct rpc_client *c)
{
    if (!c) {
        return NULL;
    }
    consumer_free(c->replies);
    mutex_fini(&c->m);
    free(c);
    return NULL;
}

void rpc_client_stats(struct rpc_client *c, struct rpc_stats *ret)
{
    ret->n_calls = atomic_load(&c->n_calls);
    ret->n_casts = atomic_load(&c->n_casts);
    ret->n_reconnects += consumer_n_reconnects(c->replies);
    ret->is_connected = ret->is_connected && consumer_is_ready(c->replies);
}

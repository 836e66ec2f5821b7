#include "rpc/amqp/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "rpc/amqp/bus.h"
#include "rpc/amqp/consumer.h"
#include "rpc/amqp/envelope.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define N_SEEN           16 /* _MsgIdCache.DUP_MSG_CHECK_SIZE */
#define QUEUES_PER_TOPIC 3
#define REPLY_LIFE_MS    1800000 /* No caller waits longer: long_rpc_timeout. */

/* The last requests of one topic; the oldest one is overwritten. */
struct seen {
    char *ids[N_SEEN];
    size_t next;
};

struct rpc_server {
    const struct mq_options *options;
    struct publisher *publisher;
    struct consumer *requests;
    rpc_request_fn fn;
    void *arg;
    struct seen *seen; /* By topic; of mq-in. */
    size_t n_topics;
    struct mutex m;
    struct cond changed;
    bool was_ready GUARDED_BY(m);
    bool is_stopped GUARDED_BY(m);
    atomic_uint_fast64_t n_requests, n_duplicates, n_malformed;
};

struct rpc_route {
    struct publisher *publisher;
    struct beat *beat;
    char *msg_id;
    char *reply_q;
};

/* ---- Replies, on any thread ---- */

static void request_free(struct rpc_request *r)
{
    free(r->method);
    free(r->namespace_);
    free(r->version);
    jv_putp(&r->args);
    rctx_freep(&r->ctx);
    free(r->route->msg_id);
    free(r->route->reply_q);
    free(r->route);
    free(r);
}

static void send_reply(const struct rpc_route *route, struct json_object *result,
                       const struct err *failure)
{
    struct publication p = {.key = str_dup(route->reply_q),
                            .is_reply = true,
                            .deadline_ms = clock_ms() + REPLY_LIFE_MS};

    p.body =
        envelope_write_reply(route->msg_id, result, failure, /* is_ending= */ true, &p.body_len);
    publisher_send(route->publisher, p);
}

static void answer(struct rpc_request *r, struct json_object *result, const struct err *failure)
{
    publisher_beat_stop(r->route->publisher, r->route->beat);
    if (r->is_call) {
        send_reply(r->route, result, failure);
    } else {
        jv_putp(&result);
    }
    request_free(r);
}

void rpc_reply(struct rpc_request *r, struct json_object *result)
{
    answer(r, result, /* failure= */ NULL);
}

void rpc_reply_err(struct rpc_request *r, struct err *consumed)
{
    CLEANUP(err_freep) struct err *e = consumed;

    answer(r, /* result= */ NULL, e);
}

/* ---- Requests, on mq-in ---- */

static bool was_seen(struct seen *s, const char *unique_id)
{
    for (size_t i = 0; i < N_SEEN; i++) {
        if (s->ids[i] && str_eq(s->ids[i], unique_id)) {
            return true;
        }
    }
    str_set(&s->ids[s->next], unique_id);
    s->next = (s->next + 1) % N_SEEN;
    return false;
}

MUST_CHECK static struct err *open_body(const struct mq_options *o, const struct mq_event *event,
                                        struct json_object **ret)
{
    CLEANUP(freep) char *unpacked = NULL;
    size_t len = event->body_len;

    if (event->is_too_big) {
        return err_msg(ERR_PARSE, "a body of %zu bytes is too much", len);
    }
    if (!event->compression) {
        return envelope_open(event->body, len, ret);
    }
    TRY(envelope_inflate(event->compression, event->body, len, o->max_body_size, &unpacked, &len));
    return envelope_open(unpacked, len, ret);
}

static struct rpc_request *new_request(struct rpc_server *s, struct envelope_request *m,
                                       struct json_object *payload)
{
    struct rpc_request *r = NEW(struct rpc_request);

    r->route = NEW(struct rpc_route);
    r->route->publisher = s->publisher;
    r->route->msg_id = TAKE(m->msg_id);
    r->route->reply_q = TAKE(m->reply_q);
    r->is_call = r->route->msg_id && r->route->reply_q;
    r->method = TAKE(m->method);
    r->namespace_ = TAKE(m->namespace_);
    r->version = TAKE(m->version);
    r->args = TAKE(m->args);
    r->ctx = rctx_from_payload(payload);
    r->received_ms = clock_ms();
    if (r->is_call && m->beat_ms) {
        r->route->beat =
            publisher_beat_start(s->publisher, r->route->reply_q, r->route->msg_id, m->beat_ms);
    }
    return r;
}

static void dispatch(struct rpc_server *s, struct rpc_request *r, struct err *malformed)
{
    if (malformed) {
        rpc_reply_err(r, malformed);
    } else if (s->options->rpc_ping_enabled && !r->namespace_ &&
               str_eq(r->method, "oslo_rpc_server_ping")) {
        rpc_reply(r, json_object_new_string("pong"));
    } else if (*r->method == '_') {
        rpc_reply_err(r, err_new(ERR_NO_SUCH_METHOD, "method", r->method, NULL));
    } else {
        s->fn(r, s->arg);
    }
}

static void note_malformed(struct rpc_server *s, const struct err *e)
{
    atomic_fetch_add(&s->n_malformed, 1);
    log_warning_limited(LOG_RPC, "refusing a message: %s", err_message(e));
}

static void on_request(struct consumer *consumer, const struct mq_event *event, void *arg)
{
    struct rpc_server *s = arg;
    CLEANUP(jv_putp) struct json_object *payload = NULL;
    CLEANUP(envelope_request_fini) struct envelope_request m = {0};
    CLEANUP(err_freep) struct err *e = open_body(s->options, event, &payload);
    struct rpc_request *r;

    if (e) {
        consumer_reject(consumer, event);
        note_malformed(s, e);
        return;
    }
    if (!consumer_ack(consumer, event)) {
        return;
    }
    atomic_fetch_add(&s->n_requests, 1);
    e = envelope_read_request(payload, &m);
    if (m.unique_id && was_seen(&s->seen[event->number / QUEUES_PER_TOPIC], m.unique_id)) {
        atomic_fetch_add(&s->n_duplicates, 1);
        log_info(LOG_RPC, "ignoring a message that was read before, %s", m.unique_id);
        return;
    }
    if (e) {
        note_malformed(s, e);
    }
    r = new_request(s, &m, payload);
    jv_putp(&payload); /* Its parts are another thread's from here on. */
    dispatch(s, r, TAKE(e));
}

static void on_ready(bool is_ready, void *arg)
{
    struct rpc_server *s = arg;

    mutex_lock(&s->m);
    s->was_ready |= is_ready;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->m);
}

/* ---- Life ---- */

static void add_topic(const struct mq_options *o, const char *topic, const char *server,
                      struct consumer_queue ret[QUEUES_PER_TOPIC])
{
    char hex[33];

    uuid_new_hex(hex);
    ret[0] = (struct consumer_queue){.name = str_dup(topic),
                                     .kind = MQ_QUEUE_TOPIC,
                                     .exchange = str_dup(o->control_exchange),
                                     .key = str_dup(topic)};
    ret[1] = (struct consumer_queue){.name = str_printf("%s.%s", topic, server),
                                     .kind = MQ_QUEUE_TOPIC,
                                     .exchange = str_dup(o->control_exchange),
                                     .key = str_printf("%s.%s", topic, server)};
    ret[2] = (struct consumer_queue){.name = str_printf("%s_fanout_%s", topic, hex),
                                     .kind = MQ_QUEUE_FANOUT,
                                     .exchange = str_printf("%s_fanout", topic),
                                     .key = str_dup(topic)};
}

struct rpc_server *rpc_server_new(const struct mq_options *options, struct publisher *publisher,
                                  const char *const *topics, const char *server, rpc_request_fn fn,
                                  void *arg)
{
    struct rpc_server *s = NEW(struct rpc_server);
    CLEANUP(freep) struct consumer_queue *queues = NULL;

    s->options = options;
    s->publisher = publisher;
    s->fn = fn;
    s->arg = arg;
    mutex_init(&s->m);
    cond_init(&s->changed);
    while (topics[s->n_topics]) {
        s->n_topics++;
    }
    s->seen = NEW_ARRAY(struct seen, s->n_topics);
    queues = NEW_ARRAY(struct consumer_queue, s->n_topics * QUEUES_PER_TOPIC);
    for (size_t i = 0; i < s->n_topics; i++) {
        add_topic(options, topics[i], server, &queues[i * QUEUES_PER_TOPIC]);
    }
    s->requests = consumer_new(options, "mq-in", queues, s->n_topics * QUEUES_PER_TOPIC, on_request,
                               on_ready, s);
    return s;
}

bool rpc_server_wait(struct rpc_server *s)
{
    bool is_ready;

    mutex_lock(&s->m);
    while (!s->was_ready && !s->is_stopped) {
        cond_wait_until(&s->changed, &s->m, INT64_MAX);
    }
    is_ready = s->was_ready;
    mutex_unlock(&s->m);
    return is_ready;
}

void rpc_server_stop(struct rpc_server *s)
{
    mutex_lock(&s->m);
    s->is_stopped = true;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->m);
    consumer_stop(s->requests);
}

struct rpc_server *rpc_server_free(struct rpc_server *s)
{
    if (!s) {
        return NULL;
    }
    consumer_free(s->requests);
    for (size_t i = 0; i < s->n_topics; i++) {
        for (size_t k = 0; k < N_SEEN; k++) {
            free(s->seen[i].ids[k]);
        }
    }
    free(s->seen);
    cond_fini(&s->changed);
    mutex_fini(&s->m);
    free(s);
    return NULL;
}

void rpc_server_stats(struct rpc_server *s, struct rpc_stats *ret)
{
    ret->n_requests = atomic_load(&s->n_requests);
    ret->n_duplicates = atomic_load(&s->n_duplicates);
    ret->n_malformed = atomic_load(&s->n_malformed);
    ret->n_reconnects += consumer_n_reconnects(s->requests);
    ret->is_connected = ret->is_connected && consumer_is_ready(s->requests);
    consumer_broker(s->requests, ret->broker, sizeof(ret->broker));
}

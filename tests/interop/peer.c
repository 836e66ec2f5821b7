/* The other end of tests/interop/run: serves a few methods over the real bus layer, and makes calls
 * of its own when it is told to.
 *
 *   interop_peer SERVER TRANSPORT_URL [OPTION=VALUE]... [-- TOPIC...]
 *
 * OPTION is one of rpc/amqp/options.def, or ping=true, timeout_ms=N, max_body=N.  Prints "ready"
 * when it serves, and ends at SIGTERM. */

#include "base/clock.h"
#include "base/jv.h"
#include "base/log.h"
#include "base/task.h"
#include "rpc/amqp/bus.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct peer {
    struct rpc *rpc;
    struct task_pool *tasks;
    atomic_uint n_seen;
};

struct job {
    struct peer *peer;
    struct rpc_request *request;
};

typedef struct err *(*method_fn)(struct peer *, struct rpc_request *, struct json_object **ret);

/* ---- Methods ---- */

MUST_CHECK static struct err *echo(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    (void)p;
    *ret = jv_dup(jv_get(r->args, "arg"));
    return NULL;
}

/* Which way a message came, and what we got of it. */
MUST_CHECK static struct err *describe(struct peer *p, struct rpc_request *r,
                                       struct json_object **ret)
{
    (void)p;
    *ret = json_object_new_object();
    jv_add_str(*ret, "namespace", r->namespace_);
    jv_add_str(*ret, "version", r->version);
    jv_add_str(*ret, "request_id", rctx_request_id(r->ctx));
    jv_add(*ret, "args", jv_dup(r->args));
    return NULL;
}

MUST_CHECK static struct err *sleep_s(struct peer *p, struct rpc_request *r,
                                      struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "sleep");
    int64_t ms = (int64_t)(jv_double_or(&args, "s", 1) * 1000);

    (void)p;
    TRY(jv_finish(&args));
    cancel_sleep(NULL, ms);
    *ret = jv_new_str("slept");
    return NULL;
}

MUST_CHECK static struct err *count(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    (void)r;
    *ret = json_object_new_int((int)atomic_load(&p->n_seen));
    return NULL;
}

MUST_CHECK static struct err *mark(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    (void)r;
    (void)ret;
    atomic_fetch_add(&p->n_seen, 1);
    return NULL;
}

MUST_CHECK static struct err *big(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "big");
    size_t n = (size_t)jv_int(&args, "n");
    CLEANUP(freep) char *s = NULL;

    (void)p;
    TRY(jv_finish(&args));
    s = mem_alloc(n + 1);
    memset(s, 'x', n);
    *ret = jv_new_str(s);
    return NULL;
}

MUST_CHECK static struct err *fail(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "fail");
    const char *how = jv_str(&args, "how");

    (void)p;
    (void)ret;
    TRY(jv_finish(&args));
    if (str_eq(how, "nova")) {
        return err_context(err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "abc", NULL),
                           "looking for it");
    }
    if (str_eq(how, "builtin")) {
        return err_msg(ERR_NOT_IMPLEMENTED, "not here");
    }
    return err_msg(ERR_INTERNAL, "bytes that are no text: \xff\xfe \"quoted\" \\ \x01");
}

MUST_CHECK static struct err *stats(struct peer *p, struct rpc_request *r, struct json_object **ret)
{
    struct rpc_stats s;

    (void)r;
    rpc_stats(p->rpc, &s);
    *ret = json_object_new_object();
    jv_add_bool(*ret, "is_connected", s.is_connected);
    jv_add_str(*ret, "broker", s.broker);
    jv_add_int(*ret, "n_requests", (int64_t)s.n_requests);
    jv_add_int(*ret, "n_duplicates", (int64_t)s.n_duplicates);
    jv_add_int(*ret, "n_malformed", (int64_t)s.n_malformed);
    jv_add_int(*ret, "n_reconnects", (int64_t)s.n_reconnects);
    return NULL;
}

/* ---- Calls of our own ---- */

static struct rpc_target read_target(struct jv_reader *args)
{
    return (struct rpc_target){.topic = jv_str(args, "topic"),
                               .server = jv_str_or(args, "server", NULL),
                               .namespace_ = jv_str_or(args, "namespace", NULL),
                               .version = jv_str_or(args, "version", NULL)};
}

/* Errors of the other side come back as data, to be looked at. */
static struct json_object *describe_err(const struct err *e)
{
    struct json_object *v = json_object_new_object();
    const char *key, *value;

    jv_add_str(v, "module", err_module(e));
    jv_add_str(v, "class", err_class(e));
    jv_add_str(v, "message", err_message(e));
    for (size_t i = 0; err_kwarg(e, i, &key, &value); i++) {
        jv_add_str(v, key, value);
    }
    return v;
}

MUST_CHECK static struct err *call_out(struct peer *p, struct rpc_request *r,
                                       struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "call_out");
    struct rpc_target target = read_target(&args);
    const char *method = jv_str(&args, "verb");
    struct rpc_times times = {.timeout_ms = jv_int_or(&args, "timeout_ms", 0),
                              .monitor_ms = jv_int_or(&args, "monitor_ms", 0)};
    struct json_object *out = jv_obj_or(&args, "args");
    CLEANUP(err_freep) struct err *e = NULL;

    TRY(jv_finish(&args));
    e = rpc_call(rpc_client(p->rpc), r->ctx, &target, method, out ? jv_dup(out) : NULL, &times,
                 ret);
    if (e) {
        *ret = describe_err(e);
    }
    return NULL;
}

MUST_CHECK static struct err *cast_out(struct peer *p, struct rpc_request *r,
                                       struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "cast_out");
    struct rpc_target target = read_target(&args);
    const char *method = jv_str(&args, "verb");
    struct json_object *out = jv_obj_or(&args, "args");
    bool is_fanout = jv_bool_or(&args, "fanout", false);

    (void)ret;
    TRY(jv_finish(&args));
    return (is_fanout ? rpc_fanout : rpc_cast)(rpc_client(p->rpc), r->ctx, &target, method,
                                               out ? jv_dup(out) : NULL);
}

MUST_CHECK static struct err *notify_out(struct peer *p, struct rpc_request *r,
                                         struct json_object **ret)
{
    struct jv_reader args = jv_reader_init(r->args, "notify_out");
    const char *event_type = jv_str(&args, "event_type");
    bool has_envelope = jv_bool_or(&args, "envelope", true);

    (void)ret;
    TRY(jv_finish(&args));
    return rpc_notify(rpc_client(p->rpc), r->ctx, "notifications", "info", "compute.peer",
                      event_type, jv_dup(r->args), has_envelope);
}

static const struct {
    const char *name;
    method_fn fn;
    bool is_inline; /* Answered on mq-in, to measure the bus alone. */
} methods[] = {
    {"ping", echo, true},          {"echo", echo, false},         {"describe", describe, false},
    {"sleep", sleep_s, false},     {"count", count, false},       {"mark", mark, false},
    {"big", big, false},           {"fail", fail, false},         {"stats", stats, false},
    {"call_out", call_out, false}, {"cast_out", cast_out, false}, {"notify_out", notify_out, false},
};

/* ---- Requests ---- */

static void run(struct peer *p, struct rpc_request *r)
{
    struct json_object *result = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (str_eq(methods[i].name, r->method)) {
            struct err *e = methods[i].fn(p, r, &result);

            if (e) {
                rpc_reply_err(r, e);
            } else {
                rpc_reply(r, result);
            }
            return;
        }
    }
    rpc_reply_err(r, err_new(ERR_NO_SUCH_METHOD, "method", r->method, NULL));
}

static void run_job(void *arg)
{
    struct job *job = arg;

    run(job->peer, job->request);
    free(job);
}

static void drop_job(void *arg)
{
    struct job *job = arg;

    rpc_reply_err(job->request, err_msg(ERR_CANCELLED, "stopping"));
    free(job);
}

static void on_request(struct rpc_request *r, void *arg)
{
    struct peer *p = arg;
    struct job *job;

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (methods[i].is_inline && str_eq(methods[i].name, r->method)) {
            run(p, r);
            return;
        }
    }
    job = NEW(struct job);
    *job = (struct job){.peer = p, .request = r};
    task_submit(p->tasks, LANE_WORK, /* key= */ NULL, "request", run_job, drop_job, job);
}

/* ---- Life ---- */

MUST_CHECK static struct err *set_option(struct mq_options *o, const char *text)
{
    CLEANUP(freep) char *name = str_ndup(text, strcspn(text, "="));
    const char *value = text + strlen(name) + (text[strlen(name)] == '=');
    int64_t n = 0;

    if (str_eq(name, "ping")) {
        o->rpc_ping_enabled = str_eq(value, "true");
        return NULL;
    }
    if (str_eq(name, "timeout_ms") && str_to_i64(value, &n)) {
        o->rpc_response_timeout_ms = n;
        return NULL;
    }
    if (str_eq(name, "max_body") && str_to_i64(value, &n)) {
        o->max_body_size = (size_t)n;
        return NULL;
    }
    return mq_options_set(o, name, value);
}

MUST_CHECK static struct err *peer_main(int argc, char **argv)
{
    static const char *const default_topics[] = {"compute", "compute-alt", NULL};
    const char *const *topics = default_topics;
    CLEANUP(mq_options_fini) struct mq_options options;
    struct peer p = {0};
    sigset_t signals;
    int signo;

    mq_options_init(&options);
    TRY(mq_options_set_url(&options, argv[2]));
    for (int i = 3; i < argc; i++) {
        if (str_eq(argv[i], "--")) {
            topics = (const char *const *)&argv[i + 1];
            break;
        }
        TRY(set_option(&options, argv[i]));
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    TRY(rpc_new_options(&options, &p.rpc));
    p.tasks = task_pool_new();
    TRY(rpc_serve(p.rpc, topics, argv[1], on_request, &p));
    puts("ready");
    fflush(stdout);
    sigwait(&signals, &signo);
    rpc_stop_serving(p.rpc);
    p.tasks = task_pool_free(p.tasks);
    p.rpc = rpc_free(p.rpc);
    return NULL;
}

int main(int argc, char **argv)
{
    CLEANUP(err_freep) struct err *e = NULL;

    if (argc < 3) {
        fprintf(stderr, "usage: interop_peer SERVER URL [OPTION=VALUE]... [-- TOPIC...]\n");
        return 2;
    }
    mem_tune();
    e = peer_main(argc, argv);
    if (e) {
        fprintf(stderr, "%s\n", err_message(e));
        return 1;
    }
    return 0;
}

#include "driver/compute/dispatch.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/notify.h"

#include <stdlib.h>
#include <string.h>

#define RPC_MINOR 1 /* NODE_RPC_VERSION */
#define MAX_KEPT  1000

/* ---- Handlers by method ---- */

typedef struct err *(*handler_fn)(struct node *, const struct rctx *, struct compute_call *,
                                  struct json_object **ret);

#define HANDLER(method)                                                                            \
    static struct err *call_##method(struct node *node, const struct rctx *ctx,                    \
                                     struct compute_call *call, struct json_object **ret)          \
    {                                                                                              \
        return compute_##method(node, ctx, &call->args.method, ret);                               \
    }
#include "driver/compute/handlers.def"
#undef HANDLER

static const handler_fn handlers[N_COMPUTE_METHODS] = {
#define HANDLER(method) [COMPUTE_##method] = call_##method,
#include "driver/compute/handlers.def"
#undef HANDLER
};

/* ---- Around a handler: what Nova's decorators do ---- */

struct job {
    struct node *node;
    struct rpc_request *req;
    struct compute_call call;
};

static bool is_quiet(const struct err *e)
{
    return err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE);
}

static char *event_name(const struct compute_verb *verb)
{
    return str_printf("compute_%s", verb->name);
}

static void event_start(struct node *node, const struct rctx *ctx, const struct compute_verb *verb,
                        const char *uuid)
{
    CLEANUP(freep) char *name = event_name(verb);

    if (verb->wrappers & COMPUTE_EVENT) {
        err_ignore(action_event_start(node->conductor, ctx, uuid, name, node->host),
                   "starting the action's event");
    }
}

static void event_finish(struct node *node, const struct rctx *ctx, const struct compute_verb *verb,
                         const char *uuid, const struct err *e)
{
    CLEANUP(freep) char *name = event_name(verb);

    if (verb->wrappers & COMPUTE_EVENT) {
        err_ignore(action_event_finish(node->conductor, ctx, uuid, name, e),
                   "finishing the action's event");
    }
}

/* A small object with nothing but what is written: the handler may have taken the instance. */
static void revert_task_state(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const no_attrs[] = {NULL};
    struct err *e = instance_get(node->conductor, ctx, uuid, no_attrs, &inst);

    if (!e && instance_task_state(inst)) {
        instance_set_task_state(inst, NULL);
        e = instance_save(node->conductor, ctx, inst, NULL);
    }
    err_ignore(e, "ending the server's task");
}

static void migration_in_error(struct node *node, const struct rctx *ctx, struct compute_call *call)
{
    struct migration *m = compute_call_migration(call);

    if (m) {
        migration_set_status(m, "error");
        err_ignore(migration_save(node->conductor, ctx, m), "putting the migration in error");
    }
}

static void after_error(struct node *node, const struct rctx *ctx, struct compute_call *call,
                        const char *uuid, const struct err *e)
{
    const struct compute_verb *verb = compute_verb(call->method);
    CLEANUP(freep) char *text = err_text(e);

    if ((verb->wrappers & COMPUTE_REVERT) && err_is(e, ERR_CANCELLED) &&
        cancel_is_set(node->stopping)) {
        log_info(LOG_COMPUTE, "%s: %s; the next start goes on", verb->name, text);
        return; /* Recovery finds the task state as it is. */
    }
    if (is_quiet(e)) {
        log_info(LOG_COMPUTE, "%s: %s", verb->name, text);
    } else {
        log_error(LOG_COMPUTE, "%s: %s", verb->name, text);
    }
    notify_exception(node, ctx, verb->name, e);
    if ((verb->wrappers & COMPUTE_MIG_ERR) && !is_quiet(e)) {
        migration_in_error(node, ctx, call);
    }
    if (uuid && (verb->wrappers & COMPUTE_FAULT) && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        err_ignore(instance_fault_create(node->conductor, ctx, uuid, node->host, e),
                   "recording the fault");
    }
    if (uuid && (verb->wrappers & COMPUTE_REVERT) && !err_is(e, ERR_UNEXPECTED_TASK_STATE) &&
        !is_quiet(e)) {
        revert_task_state(node, ctx, uuid);
    }
}

/* Nova answers NotImplementedError for what a driver cannot do; the wrappers do the rest, so no
 * server is left in the middle of a task. */
static struct err *refuse(const struct compute_verb *verb)
{
    return err_msg(ERR_NOT_IMPLEMENTED, "%s is not supported by this compute service", verb->name);
}

/* What handlers read of a server without asking whether it is there; a peer may leave anything out.
 */
static struct err *complete_instance(struct node *node, const struct rctx *ctx, const char *method,
                                     struct instance *inst)
{
    static const char *const attrs[] = {
        "id",         "host",   "node",          "vm_state",   "task_state",   "power_state",
        "project_id", "flavor", "numa_topology", "info_cache", "pci_requests", "availability_zone",
        NULL};

    if (!instance_has_uuid(inst)) {
        return err_msg(ERR_TYPE, "%s: the instance has no uuid", method);
    }
    return instance_load(node->conductor, ctx, inst, attrs);
}

static struct err *handle(struct node *node, const struct rctx *ctx, struct compute_call *call,
                          struct json_object **ret)
{
    const struct compute_verb *verb = compute_verb(call->method);
    struct instance *inst = compute_call_instance(call);
    handler_fn handler = handlers[call->method];

    if (!handler) {
        return refuse(verb);
    }
    if (inst) {
        struct err *e = complete_instance(node, ctx, verb->name, inst);

        if (err_is(e, ERR_INSTANCE_NOT_FOUND) && call->method == COMPUTE_terminate_instance) {
            log_info(LOG_COMPUTE, "the server is deleted already");
            return err_free(e);
        }
        TRY(e);
    }
    return handler(node, ctx, call, ret);
}

struct err *dispatch_call(struct node *node, const struct rctx *ctx, struct compute_call *call,
                          struct json_object **ret)
{
    const struct compute_verb *verb = compute_verb(call->method);
    struct instance *inst = compute_call_instance(call);
    CLEANUP(freep)
    char *uuid = inst && instance_has_uuid(inst) ? str_dup(instance_uuid(inst)) : NULL;
    int64_t start_ms = clock_ms();
    struct err *e;

    if (uuid) {
        event_start(node, ctx, verb, uuid);
    }
    e = handle(node, ctx, call, ret);
    if (e) {
        jv_putp(ret);
        after_error(node, ctx, call, uuid, e);
    }
    if (uuid) {
        event_finish(node, ctx, verb, uuid, e);
    }
    log_debug(LOG_COMPUTE, "%s took %lld ms", verb->name, (long long)(clock_ms() - start_ms));
    return e;
}

static void job_free(struct job *job)
{
    compute_call_fini(&job->call);
    free(job);
}

static void job_drop(void *arg)
{
    struct job *job = arg;

    rpc_reply_err(job->req, err_msg(ERR_CANCELLED, "the compute service is stopping"));
    job_free(job);
}

static void job_run(void *arg)
{
    struct job *job = arg;
    struct instance *inst = compute_call_instance(&job->call);
    struct json_object *result = NULL;
    struct err *e;

    log_context_set(rctx_log_text(job->req->ctx),
                    inst && instance_has_uuid(inst) ? instance_uuid(inst) : NULL);
    e = dispatch_call(job->node, job->req->ctx, &job->call, &result);
    if (e) {
        rpc_reply_err(job->req, e);
    } else {
        rpc_reply(job->req, result);
    }
    log_context_set(NULL, NULL);
    job_free(job);
}

/* ---- Requests ---- */

struct dispatcher {
    struct mutex m;
    bool is_open;
    struct rpc_request *kept[MAX_KEPT];
    size_t n_kept;
};

struct dispatcher *dispatcher_new(void)
{
    struct dispatcher *d = NEW(struct dispatcher);

    mutex_init(&d->m);
    return d;
}

struct dispatcher *dispatcher_free(struct dispatcher *d)
{
    if (d) {
        for (size_t i = 0; i < d->n_kept; i++) {
            rpc_reply_err(d->kept[i], err_msg(ERR_CANCELLED, "the compute service is stopping"));
        }
        mutex_fini(&d->m);
        free(d);
    }
    return NULL;
}

/* Whether the method is one that ends the task state that the API has set for it. */
static bool owns_task_state(const char *method)
{
    for (size_t i = 0; i < N_COMPUTE_METHODS; i++) {
        const struct compute_verb *verb = compute_verb((enum compute_method)i);

        if (str_eq(verb->name, method)) {
            return verb->wrappers & COMPUTE_REVERT;
        }
    }
    return false;
}

bool dispatch_has_kept(struct node *node, const char *instance_uuid)
{
    struct dispatcher *d = node->dispatcher;
    bool has = false;

    mutex_lock(&d->m);
    for (size_t i = 0; i < d->n_kept && !has; i++) {
        struct json_object *data = jv_get(jv_get(d->kept[i]->args, "instance"), "nova_object.data");

        has = str_eq(json_object_get_string(jv_get(data, "uuid")), instance_uuid) &&
              owns_task_state(d->kept[i]->method);
    }
    mutex_unlock(&d->m);
    return has;
}

/* baseapi 1.1 (nova/baserpc.py): answered on the reading thread, at once. */
static void answer_base(struct rpc_request *req)
{
    unsigned major, minor;

    if (!compute_api_parse_version(req->version, &major, &minor) || major != 1 || minor > 1) {
        rpc_reply_err(req, err_new(ERR_UNSUPPORTED_VERSION, "version", req->version, "method",
                                   req->method, NULL));
    } else if (str_eq(req->method, "ping")) {
        struct json_object *o = json_object_new_object();
        struct json_object *arg = jv_get(req->args, "arg");

        jv_add_str(o, "service", "compute");
        jv_add(o, "arg", arg ? json_object_get(arg) : NULL);
        rpc_reply(req, o);
    } else if (str_eq(req->method, "get_backdoor_port")) {
        rpc_reply(req, NULL);
    } else {
        rpc_reply_err(req, err_new(ERR_NO_SUCH_METHOD, "method", req->method, NULL));
    }
}

static void submit(struct node *node, struct rpc_request *req)
{
    struct job *job = NEW(struct job);
    struct err *e = compute_api_decode(req, RPC_MINOR, &job->call);

    if (e) {
        log_warning_limited(LOG_RPC, "refused %s: %s", req->method, err_message(e));
        rpc_reply_err(req, e);
        free(job);
        return;
    }
    const struct compute_verb *verb = compute_verb(job->call.method);
    CLEANUP(freep) char *key = compute_call_strand(&job->call);

    job->node = node;
    job->req = req;
    task_submit(node->tasks, verb->lane, key, verb->name, job_run, job_drop, job);
}

/* True if the request is kept for later. */
static bool keep(struct dispatcher *d, struct rpc_request *req)
{
    mutex_lock(&d->m);
    bool is_kept = !d->is_open && d->n_kept < MAX_KEPT;

    if (is_kept) {
        d->kept[d->n_kept++] = req;
    }
    mutex_unlock(&d->m);
    return is_kept;
}

void dispatch_request(struct rpc_request *req, void *arg)
{
    struct node *node = arg;

    if (str_eq(req->namespace_, "baseapi")) {
        answer_base(req);
    } else if (req->namespace_) {
        rpc_reply_err(req, err_new(ERR_UNSUPPORTED_VERSION, "version", req->version, "method",
                                   req->method, NULL));
    } else if (!keep(node->dispatcher, req)) {
        submit(node, req);
    }
}

void dispatch_open(struct node *node)
{
    struct dispatcher *d = node->dispatcher;

    mutex_lock(&d->m);
    d->is_open = true;
    size_t n = d->n_kept;

    d->n_kept = 0;
    mutex_unlock(&d->m);
    /* Nothing is added any more: the array is ours. */
    for (size_t i = 0; i < n; i++) {
        submit(node, d->kept[i]);
    }
}

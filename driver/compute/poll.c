#include "driver/compute/poll.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/chore.h"
#include "driver/compute/power.h"
#include "driver/compute/rescue.h"

#define RESIZES "resizes that wait for their confirmation"

/* ---- Who is stuck ---- */

static bool is_one_of(const char *s, const char *const *names)
{
    for (; s && *names; names++) {
        if (str_eq(s, *names)) {
            return true;
        }
    }
    return false;
}

/* A field of a record from elsewhere: NULL if it is null or was not sent. */
#define FIELD(inst, field) (instance_has_##field(inst) ? instance_##field(inst) : NULL)

static bool is_on(const struct instance *inst, const char *host)
{
    return str_eq(FIELD(inst, host), host);
}

bool poll_build_is_stuck(const struct instance *inst, const char *host, int64_t timeout_s,
                         int64_t now_s)
{
    return is_on(inst, host) && str_eq(FIELD(inst, vm_state), "building") &&
           clock_iso_is_older(FIELD(inst, created_at), timeout_s, now_s);
}

static const char *const soft_reboots[] = {"rebooting", "reboot_pending", "reboot_started", NULL};

bool poll_reboot_is_stuck(const struct instance *inst, const char *host, int64_t timeout_s,
                          int64_t now_s)
{
    /* nova/compute/vm_states.py ALLOW_HARD_REBOOT */
    static const char *const can_reboot[] = {"active",    "stopped", "paused",
                                             "suspended", "error",   NULL};

    return is_on(inst, host) && is_one_of(FIELD(inst, task_state), soft_reboots) &&
           is_one_of(FIELD(inst, vm_state), can_reboot) &&
           clock_iso_is_older(FIELD(inst, updated_at), timeout_s, now_s);
}

/* A rescue writes launched_at anew when it begins. */
bool poll_rescue_is_over(const struct instance *inst, const char *host, int64_t timeout_s,
                         int64_t now_s)
{
    return is_on(inst, host) && str_eq(FIELD(inst, vm_state), "rescued") &&
           !FIELD(inst, task_state) &&
           clock_iso_is_older(FIELD(inst, launched_at), timeout_s, now_s);
}

/* ---- The candidates ---- */

typedef bool (*is_stuck_fn)(const struct instance *, const char *host, int64_t timeout_s,
                            int64_t now_s);

/* The value of an option, "group.name". */
#define OPTION(node, option)                                                                       \
    __extension__({                                                                                \
        const struct conf *conf_ = conf_get((node)->conf);                                         \
        int64_t value_ = conf_->option;                                                            \
                                                                                                   \
        conf_put(conf_);                                                                           \
        value_;                                                                                    \
    })

static struct json_object *filters_on(struct node *node)
{
    struct json_object *filters = json_object_new_object();

    jv_add_str(filters, "host", node->host);
    return filters;
}

/* Consumes filters. */
static struct err *candidates(struct node *node, const struct rctx *ctx,
                              struct json_object *filters, struct instance_list **ret)
{
    static const char *const no_attrs[] = {NULL};

    return instance_list_by_filters(node->conductor, ctx, filters, no_attrs, ret);
}

static void submit_stuck(struct node *node, struct instance_list *list, is_stuck_fn is_stuck,
                         int64_t timeout_s, const char *what, chore_fn fn)
{
    for (size_t i = 0; i < instance_list_n(list); i++) {
        const struct instance *inst = instance_list_at(list, i);

        if (is_stuck(inst, node->host, timeout_s, clock_wall_s())) {
            chore_submit(node, what, instance_uuid(inst), fn);
        }
    }
}

/* ---- What the API would do ---- */

/* A verb, called without the API and the bus. */
struct deed {
    const char *action, *event;
    const char *task_state;
    const char *const *expected; /* Task states before. */
    struct err *(*fn)(struct node *, const struct rctx *, struct instance *);
};

/* On a fresh record: what the deed has set and not saved is not to be saved here. */
static struct err *end_task(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const no_attrs[] = {NULL};

    TRY(instance_get(node->conductor, ctx, uuid, no_attrs, &inst));
    if (!FIELD(inst, task_state)) {
        return NULL;
    }
    instance_set_task_state(inst, NULL);
    return instance_save(node->conductor, ctx, inst, NULL);
}

static void after_error(struct node *node, const struct rctx *ctx, const char *uuid,
                        const struct err *e)
{
    if (err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE)) {
        return; /* It is being deleted. */
    }
    err_ignore(instance_fault_create(node->conductor, ctx, uuid, node->host, e),
               "recording the fault");
    err_ignore(end_task(node, ctx, uuid), "ending the server's task");
}

static struct err *act(struct node *node, const struct rctx *ctx, struct instance *inst,
                       const struct deed *deed)
{
    instance_set_task_state(inst, deed->task_state);
    struct err *e = instance_save(node->conductor, ctx, inst, deed->expected);

    if (err_is(e, ERR_UNEXPECTED_TASK_STATE)) {
        return err_free(e); /* Somebody works on it. */
    }
    TRY(e);
    err_ignore(instance_action_start(node->conductor, ctx, instance_uuid(inst), deed->action),
               "recording the action");
    err_ignore(
        action_event_start(node->conductor, ctx, instance_uuid(inst), deed->event, node->host),
        "recording the start of the event");
    e = deed->fn(node, ctx, inst);
    if (e) {
        after_error(node, ctx, instance_uuid(inst), e);
    }
    err_ignore(action_event_finish(node->conductor, ctx, instance_uuid(inst), deed->event, e),
               "recording the end of the event");
    return e;
}

/* The server as it is now; *ret is NULL if it is not stuck any more. */
static struct err *look_again(struct node *node, const struct rctx *ctx, const char *uuid,
                              is_stuck_fn is_stuck, int64_t timeout_s, struct instance **ret)
{
    static const char *const attrs[] = {
        "flavor",   "numa_topology",   "info_cache",      "pci_requests",
        "metadata", "system_metadata", "security_groups", NULL};
    CLEANUP(instance_freep) struct instance *inst = NULL;
    struct err *e = instance_get(node->conductor, ctx, uuid, attrs, &inst);

    *ret = NULL;
    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e);
    }
    TRY(e);
    if (timeout_s > 0 && is_stuck(inst, node->host, timeout_s, clock_wall_s())) {
        *ret = TAKE(inst);
    }
    return NULL;
}

/* ---- Builds ---- */

/* No chore: the build that hangs has the strand. */
static struct err *fail_build(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    instance_set_vm_state(inst, "error");
    struct err *e = instance_save_if(node->conductor, ctx, inst, "building");

    if (err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_UNEXPECTED_VM_STATE)) {
        return err_free(e); /* It came to its end meanwhile. */
    }
    TRY(e);
    log_warning(LOG_COMPUTE, "the build takes longer than instance_build_timeout, the server's "
                             "state is now error");
    return NULL;
}

struct err *poll_builds(struct node *node, const struct rctx *ctx)
{
    int64_t timeout_s = OPTION(node, dflt.instance_build_timeout);
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    struct json_object *filters = filters_on(node);

    jv_add_str(filters, "vm_state", "building");
    TRY(candidates(node, ctx, filters, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        if (poll_build_is_stuck(inst, node->host, timeout_s, clock_wall_s())) {
            log_context_instance(instance_uuid(inst));
            err_ignore(fail_build(node, ctx, inst), "ending a build that takes too long");
            log_context_instance(NULL);
        }
    }
    return NULL;
}

/* ---- Reboots ---- */

static struct err *reboot_hard(struct node *node, const struct rctx *ctx, const char *uuid)
{
    static const struct deed deed = {"reboot", "compute_reboot_instance", "rebooting_hard",
                                     soft_reboots, power_hard_reboot};
    CLEANUP(instance_freep) struct instance *inst = NULL;

    TRY(look_again(node, ctx, uuid, poll_reboot_is_stuck, OPTION(node, dflt.reboot_timeout),
                   &inst));
    if (!inst) {
        return NULL;
    }
    log_warning(LOG_COMPUTE, "the server has been rebooting for longer than reboot_timeout, "
                             "rebooting it the hard way");
    return act(node, ctx, inst, &deed);
}

struct err *poll_reboots(struct node *node, const struct rctx *ctx)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    struct json_object *filters = filters_on(node), *states = json_object_new_array();

    for (const char *const *s = soft_reboots; *s; s++) {
        json_object_array_add(states, jv_new_str(*s));
    }
    jv_add(filters, "task_state", states);
    TRY(candidates(node, ctx, filters, &list));
    submit_stuck(node, list, poll_reboot_is_stuck, OPTION(node, dflt.reboot_timeout),
                 "rebooting a server that hangs in a reboot", reboot_hard);
    return NULL;
}

/* ---- Rescues ---- */

static struct err *unrescue(struct node *node, const struct rctx *ctx, const char *uuid)
{
    static const char *const idle[] = {"", NULL};
    static const struct deed deed = {"unrescue", "compute_unrescue_instance", "unrescuing", idle,
                                     rescue_undo};
    CLEANUP(instance_freep) struct instance *inst = NULL;

    TRY(look_again(node, ctx, uuid, poll_rescue_is_over, OPTION(node, dflt.rescue_timeout), &inst));
    if (!inst) {
        return NULL;
    }
    log_info(LOG_COMPUTE, "the rescue has lasted for rescue_timeout, ending it");
    return act(node, ctx, inst, &deed);
}

struct err *poll_rescues(struct node *node, const struct rctx *ctx)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    struct json_object *filters = filters_on(node);

    jv_add_str(filters, "vm_state", "rescued");
    TRY(candidates(node, ctx, filters, &list));
    submit_stuck(node, list, poll_rescue_is_over, OPTION(node, dflt.rescue_timeout),
                 "ending a rescue that is over", unrescue);
    return NULL;
}

/* ---- Resizes ---- */

struct err *poll_resizes(struct node *node, const struct rctx *ctx)
{
    CLEANUP(migration_list_freep) struct migration_list *list = NULL;
    int64_t n;

    TRY(migration_list_unconfirmed(node->conductor, ctx, OPTION(node, dflt.resize_confirm_window),
                                   node->host, &list));
    n = (int64_t)migration_list_n(list);
    if (n > chore_recall(node->chores, RESIZES)) {
        log_warning(LOG_COMPUTE,
                    "%lld resizes to this host have waited for their confirmation for longer than "
                    "resize_confirm_window; this service does not confirm them, leaving that to "
                    "their owners",
                    (long long)n);
    }
    chore_remember(node->chores, RESIZES, n);
    return NULL;
}

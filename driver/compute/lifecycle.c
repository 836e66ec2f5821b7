#include "driver/compute/lifecycle.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/dispatch.h"
#include "driver/compute/live.h"
#include "driver/compute/moves.h"
#include "driver/libvirt/lvwatch.h"

#include <stdlib.h>
#include <string.h>

/* A stop is looked at after this long: a reboot stops and starts (Nova: 15 s). */
#define STOPPED_DELAY_MS 15000
#define RECONNECT_MS     2000

int64_t lifecycle_power_state_of(enum lv_state state)
{
    static const int64_t states[] = {
        [LV_NOSTATE] = POWER_NOSTATE,   [LV_RUNNING] = POWER_RUNNING,
        [LV_BLOCKED] = POWER_RUNNING,   [LV_PAUSED] = POWER_PAUSED,
        [LV_SHUTDOWN] = POWER_SHUTDOWN, [LV_SHUTOFF] = POWER_SHUTDOWN,
        [LV_CRASHED] = POWER_CRASHED,   [LV_PMSUSPENDED] = POWER_SUSPENDED,
    };

    return states[state];
}

const char *lifecycle_power_name(int64_t power)
{
    static const struct {
        int64_t power;
        const char *name;
    } names[] = {{POWER_NOSTATE, "pending"}, {POWER_RUNNING, "running"},
                 {POWER_PAUSED, "paused"},   {POWER_SHUTDOWN, "shutdown"},
                 {POWER_CRASHED, "crashed"}, {POWER_SUSPENDED, "suspended"}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (names[i].power == power) {
            return names[i].name;
        }
    }
    return NULL;
}

struct err *lifecycle_power_state(struct node *node, const char *instance_uuid, int64_t *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    enum lv_state state;

    TRY(lv_domain_by_uuid(node->lv, instance_uuid, &domain));
    TRY(lv_domain_state(domain, &state, NULL));
    *ret = lifecycle_power_state_of(state);
    return NULL;
}

/* ---- One server's record follows its guest ---- */

#define BIT(power) (1u << POWER_##power)
static const struct {
    const char *vm_state;
    unsigned powers;
    enum power_fix fix;
    const char *why;
} fixes[] = {
    {"active", BIT(SHUTDOWN), POWER_FIX_STOP, "the guest has shut down by itself"},
    {"active", BIT(CRASHED), POWER_FIX_STOP, "the guest has crashed"},
    {"active", BIT(SUSPENDED), POWER_FIX_STOP, "the guest has suspended itself"},
    {"active", BIT(PAUSED), POWER_FIX_TELL, "the guest is paused, leaving it"},
    {"active", BIT(NOSTATE), POWER_FIX_TELL, "libvirt has no guest of the server, leaving it"},
    {"stopped", BIT(RUNNING) | BIT(PAUSED) | BIT(SUSPENDED), POWER_FIX_STOP,
     "the server is stopped, but its guest runs"},
    {"paused", BIT(SHUTDOWN) | BIT(CRASHED), POWER_FIX_STOP, "the paused guest has ended"},
    {"soft-delete", BIT(RUNNING) | BIT(PAUSED) | BIT(CRASHED) | BIT(SUSPENDED), POWER_FIX_TELL,
     "the server is deleted, but its guest is there"},
    {"deleted", BIT(RUNNING) | BIT(PAUSED) | BIT(CRASHED) | BIT(SUSPENDED), POWER_FIX_TELL,
     "the server is deleted, but its guest is there"},
};

enum power_fix lifecycle_fix(const char *vm_state, int64_t power, const char **ret_why)
{
    for (size_t i = 0; i < ARRAY_SIZE(fixes); i++) {
        if (str_eq(fixes[i].vm_state, vm_state) && fixes[i].powers & 1u << power) {
            *ret_why = fixes[i].why;
            return fixes[i].fix;
        }
    }
    return POWER_FIX_NONE;
}

static bool is_ours_and_idle(struct node *node, struct instance *inst)
{
    return str_eq(instance_host(inst), node->host) && !instance_task_state(inst);
}

/* No guest counts as no state. */
static struct err *power_of(struct node *node, const char *uuid, int64_t *ret)
{
    CLEANUP(err_freep) struct err *e = NULL;

    *ret = POWER_NOSTATE;
    e = lifecycle_power_state(node, uuid, ret);
    return err_is(e, ERR_INSTANCE_NOT_FOUND) ? NULL : TAKE(e);
}

/* Somebody works on it, or has deleted it: that one writes the state. */
static bool came_late(const struct err *e)
{
    return err_is(e, ERR_UNEXPECTED_TASK_STATE) || err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE) ||
           err_is(e, ERR_INSTANCE_NOT_FOUND);
}

/* What the API does before it calls us (compute/api.py force_stop, _delete): takes the server's
 * task and records the action.  False if somebody else has the task. */
static bool begin(struct node *node, const struct rctx *ctx, struct instance *inst,
                  const char *task_state, const char *action, struct err **ret_err)
{
    static const char *const idle[] = {"", NULL};

    instance_set_task_state(inst, task_state);
    instance_set_progress(inst, 0);
    *ret_err = instance_save(node->conductor, ctx, inst, idle);
    if (came_late(*ret_err)) {
        *ret_err = err_free(*ret_err);
        return false;
    }
    if (*ret_err) {
        return false;
    }
    err_ignore(instance_action_start(node->conductor, ctx, instance_uuid(inst), action),
               "recording the action");
    return true;
}

/* Nova sends itself the call; here it is only made as if (P14).  What fails is recorded there. */
static struct err *stop(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    /* instance_initiated_shutdown_behavior. */
    bool is_delete = instance_has_shutdown_terminate(inst) && instance_shutdown_terminate(inst) &&
                     str_eq(instance_vm_state(inst), "active") &&
                     instance_power_state(inst) != POWER_SUSPENDED;
    struct compute_call call = {.method = COMPUTE_stop_instance};
    struct json_object *answer = NULL;
    struct err *e;

    if (is_delete) {
        call = (struct compute_call){.method = COMPUTE_terminate_instance,
                                     .args.terminate_instance = {.instance = inst}};
    } else {
        call.args.stop_instance = (struct args_stop_instance){
            .instance = inst, .has_clean_shutdown = true, .clean_shutdown = true};
    }
    if (!begin(node, ctx, inst, is_delete ? "deleting" : "powering-off",
               is_delete ? "delete" : "stop", &e)) {
        return e;
    }
    err_free(dispatch_call(node, ctx, &call, &answer)); /* Logged and recorded. */
    jv_putp(&answer);
    return NULL;
}

static struct err *save_power(struct node *node, const struct rctx *ctx, struct instance *inst,
                              int64_t power)
{
    static const char *const idle[] = {"", NULL};

    if (!instance_isnull_power_state(inst) && instance_power_state(inst) == power) {
        return NULL;
    }
    log_info(LOG_COMPUTE, "power state is %lld", (long long)power);
    instance_set_power_state(inst, power);
    return instance_save(node->conductor, ctx, inst, idle);
}

/* 'inst' was read after 'power' was seen.  The other way round, what a verb has done in between (a
 * suspend, a stop) would look like a guest that ended by itself. */
static struct err *sync_power(struct node *node, const struct rctx *ctx, struct instance *inst,
                              int64_t power)
{
    const char *why = NULL;
    enum power_fix fix;
    struct err *e;

    if (!is_ours_and_idle(node, inst)) {
        return NULL;
    }
    e = save_power(node, ctx, inst, power);
    if (came_late(e)) {
        return err_free(e);
    }
    TRY(e);
    fix = lifecycle_fix(instance_vm_state(inst), power, &why);
    if (fix == POWER_FIX_NONE) {
        return NULL;
    }
    log_warning(LOG_COMPUTE, "%s%s", why, fix == POWER_FIX_STOP ? ": stopping the server" : "");
    return fix == POWER_FIX_STOP ? stop(node, ctx, inst) : NULL;
}

static struct err *sync_by_uuid(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const attrs[] = {"system_metadata", "info_cache", "flavor", NULL};
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, uuid);
    int64_t power;

    if (mv) {
        return NULL; /* It moves: the move writes its state (P5). */
    }
    TRY(power_of(node, uuid, &power));
    struct err *e = instance_get(node->conductor, ctx, uuid, attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e); /* No server of Nova's. */
    }
    TRY(e);
    return sync_power(node, ctx, inst, power);
}

/* ---- Events ---- */

struct sync_job {
    struct node *node;
    char uuid[UUID_LEN + 1];
    struct loop_source *timer;
};

static void sync_task(void *arg)
{
    struct sync_job *job = arg;
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    log_context_set(rctx_log_text(ctx), job->uuid);
    err_ignore(sync_by_uuid(job->node, ctx, job->uuid), "following a guest's power state");
    log_context_set(NULL, NULL);
    free(job);
}

static void submit_sync(struct sync_job *job)
{
    task_submit(job->node->tasks, LANE_WORK, job->uuid, "follow power state", sync_task, free, job);
}

static void delay_is_over(void *arg)
{
    struct sync_job *job = arg;

    job->timer = loop_source_free(job->timer);
    submit_sync(job);
}

/* On the reactor: only it may make timers. */
static void begin_delay(void *arg)
{
    struct sync_job *job = arg;
    struct err *e = loop_add_timer(job->node->loop, clock_ms() + STOPPED_DELAY_MS, delay_is_over,
                                   job, &job->timer);

    if (e) {
        err_ignore(e, "delaying the look at a stopped guest");
        submit_sync(job);
    }
}

/* A connection that is only listened on is opened again by a call: without one no event would ever
 * come again. */
static void reconnect_task(void *arg)
{
    struct node *node = arg;
    CLEANUP(freep) char *name = NULL;
    struct err *e;

    while ((e = lv_hostname(node->lv_events, &name))) {
        log_warning(LOG_LIBVIRT, "listening to libvirt: %s, retrying in 2 s", err_message(e));
        err_free(e);
        if (cancel_sleep(node->stopping, RECONNECT_MS)) {
            return;
        }
    }
    log_info(LOG_LIBVIRT, "libvirt is back");
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    /* What guests did meanwhile was not heard. */
    err_ignore(lifecycle_sync_all(node, ctx), "looking at every guest's power state");
}

/* What an event means for a server's power state. */
enum follow { FOLLOW_NOT, FOLLOW_NOW, FOLLOW_LATER };

static enum follow follow(const struct lv_event *event)
{
    switch (event->type) {
    case LV_EVENT_STARTED:
    case LV_EVENT_RESUMED:
    case LV_EVENT_PMSUSPENDED:
    case LV_EVENT_CRASHED:
        return FOLLOW_NOW;
    case LV_EVENT_SUSPENDED:
        return event->detail == LV_DETAIL_MIGRATED || event->detail == LV_DETAIL_POSTCOPY
                   ? FOLLOW_NOT
                   : FOLLOW_NOW;
    case LV_EVENT_STOPPED:
        return event->detail == LV_DETAIL_MIGRATED ? FOLLOW_NOT : FOLLOW_LATER;
    case LV_EVENT_UNDEFINED:
    case LV_EVENT_DEFINED:
    case LV_EVENT_SHUTDOWN:
    case LV_EVENT_JOB_COMPLETED:
    case LV_EVENT_MIGRATION_ITERATION:
    case LV_EVENT_DEVICE_REMOVED:
    case LV_EVENT_DEVICE_REMOVAL_FAILED:
    case LV_EVENT_DISCONNECTED:
        return FOLLOW_NOT;
    }
    return FOLLOW_NOT;
}

/* [workarounds]handle_virt_lifecycle_events: without it the periodic comparison is all there is. */
static bool follows_events(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);
    bool follows = conf->workarounds.handle_virt_lifecycle_events;

    conf_put(conf);
    return follows;
}

void lifecycle_event(const struct lv_event *event, void *arg)
{
    struct node *node = arg;
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, event->uuid);
    enum follow when = follow(event);

    lvwatch_deliver(node->watch, event);
    if (event->type == LV_EVENT_DISCONNECTED) {
        log_error(LOG_LIBVIRT, "the connection to libvirt is lost, connecting again");
        task_submit(node->tasks, LANE_WORK, "libvirt", "listen to libvirt", reconnect_task, NULL,
                    node);
        return;
    }
    if (mv) {
        move_event(mv, event);
        return;
    }
    if (when == FOLLOW_NOT || !follows_events(node)) {
        return;
    }
    struct sync_job *job = NEW(struct sync_job);

    job->node = node;
    memcpy(job->uuid, event->uuid, sizeof(job->uuid));
    if (when == FOLLOW_NOW) {
        submit_sync(job);
    } else {
        loop_post(node->loop, begin_delay, job);
    }
}

struct err *lifecycle_sync_all(struct node *node, const struct rctx *ctx)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    static const char *const no_attrs[] = {NULL};

    TRY(instance_list_by_host(node->conductor, ctx, node->host, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct sync_job *job;

        if (!is_ours_and_idle(node, instance_list_at(list, i))) {
            continue;
        }
        job = NEW(struct sync_job);
        job->node = node;
        memcpy(job->uuid, instance_uuid(instance_list_at(list, i)), sizeof(job->uuid));
        submit_sync(job);
    }
    return NULL;
}

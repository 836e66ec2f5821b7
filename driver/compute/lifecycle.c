#include "driver/compute/lifecycle.h"

#include "base/clock.h"
#include "base/log.h"
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

static bool is_ours_and_idle(struct node *node, struct instance *inst)
{
    return str_eq(instance_host(inst), node->host) && !instance_task_state(inst);
}

/* A guest that has ended, for whatever reason, is a stopped server: Nova stops it through its API,
 * which leaves vm_state "stopped". */
static void follow_vm_state(struct instance *inst, int64_t power)
{
    const char *vm_state = instance_vm_state(inst);
    bool has_ended = power == POWER_SHUTDOWN || power == POWER_CRASHED;

    if (str_eq(vm_state, "active") && has_ended) {
        log_warning(LOG_COMPUTE, "the guest has %s by itself: the server is stopped now",
                    power == POWER_CRASHED ? "crashed" : "shut down");
        instance_set_vm_state(inst, "stopped");
    } else if (str_eq(vm_state, "stopped") && power == POWER_RUNNING) {
        log_warning(LOG_COMPUTE,
                    "the server is stopped by its record, but its guest runs; leaving it to "
                    "the operator");
    }
}

static struct err *sync_power(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    static const char *const idle[] = {"", NULL};
    int64_t power = POWER_NOSTATE;
    CLEANUP(err_freep) struct err *e = lifecycle_power_state(node, instance_uuid(inst), &power);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    if (!is_ours_and_idle(node, inst)) {
        return NULL;
    }
    bool differs = instance_isnull_power_state(inst) || instance_power_state(inst) != power;

    if (differs) {
        log_info(LOG_COMPUTE, "power state is %lld", (long long)power);
        instance_set_power_state(inst, power);
    }
    follow_vm_state(inst, power);
    if (!ovo_has_changes(instance_ovo(inst))) {
        return NULL;
    }
    struct err *saved = instance_save(node->conductor, ctx, inst, idle);

    if (err_is(saved, ERR_UNEXPECTED_TASK_STATE)) {
        return err_free(saved); /* Somebody works on it: that one writes the state. */
    }
    return saved;
}

static struct err *sync_by_uuid(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const no_attrs[] = {NULL};
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, uuid);

    if (mv) {
        return NULL; /* It moves: the move writes its state (P5). */
    }
    struct err *e = instance_get(node->conductor, ctx, uuid, no_attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e); /* No server of Nova's. */
    }
    TRY(e);
    return sync_power(node, ctx, inst);
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

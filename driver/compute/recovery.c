#include "driver/compute/recovery.h"

#include "base/log.h"
#include "driver/compute/building.h"
#include "driver/compute/dispatch.h"
#include "driver/compute/evacuated.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/peer.h"
#include "driver/compute/power.h"
#include "driver/compute/remedy.h"
#include "driver/compute/rescue.h"
#include "driver/compute/snapshot.h"
#include "driver/compute/spawn.h"
#include "driver/compute/terminate.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/snapshot.h"

#include <assert.h>
#include <stdlib.h>

/* ---- A live migration whose source died ---- */

static struct err *find_move(struct node *node, const struct rctx *ctx, const char *uuid,
                             struct migration **ret)
{
    CLEANUP(migration_list_freep) struct migration_list *list = NULL;
    static const char *const open[] = {"queued", "preparing", "running", "running (post-copy)",
                                       "error"};
    struct json_object *filters = json_object_new_object();

    jv_add_str(filters, "instance_uuid", uuid);
    jv_add_str(filters, "source_compute", node->host);
    TRY(migration_list_by_filters(node->conductor, ctx, filters, &list));
    for (size_t i = migration_list_n(list); i-- > 0;) {
        const char *status = migration_status(migration_list_at(list, i));

        for (size_t k = 0; k < ARRAY_SIZE(open); k++) {
            if (str_eq(status, open[k])) {
                *ret = migration_list_take(list, i);
                return NULL;
            }
        }
    }
    return NULL;
}

/* A destination of ours knows by its own note what it made; one of Nova's is told nothing that
 * could make it remove disks that we may share. */
static struct err *undo_there(struct node *node, const struct rctx *ctx, struct instance *inst,
                              struct migration *m)
{
    CLEANUP(libvirt_live_migrate_data_freep)
    struct libvirt_live_migrate_data *md = libvirt_live_migrate_data_new();

    libvirt_live_migrate_data_set_is_shared_instance_path(md, true);
    libvirt_live_migrate_data_set_is_shared_block_storage(md, true);
    libvirt_live_migrate_data_set_migration(md, migration_dup(m));
    return peer_rollback_at_destination(node, ctx, migration_dest_compute(m), inst,
                                        /* destroy_disks= */ false, md);
}

/* The guest is still here: libvirt's job ends with us, the server stays. */
static struct err *stay(struct node *node, const struct rctx *ctx, struct instance *inst,
                        struct lv_domain *domain, struct migration *m)
{
    bool moved;

    err_ignore(lv_abort_job(domain), "ending what is left of a migration");
    if (m) {
        err_ignore(placement_move_allocations(node->placement, migration_uuid(m),
                                              instance_uuid(inst), &moved),
                   "giving the server its allocations back");
        err_ignore(network_teardown_on_host(node, inst, migration_dest_compute(m)),
                   "removing the destination's bindings");
        err_ignore(undo_there(node, ctx, inst, m), "asking the destination to undo the move");
        err_ignore(peer_drop_move_claim(node, ctx, migration_dest_compute(m), inst),
                   "asking the destination to drop its claim");
        TRY(live_save_migration(node, ctx, m, "error"));
    }
    instance_set_task_state(inst, NULL);
    instance_set_progress(inst, 0);
    err_ignore(instance_drop_migration_context(node->conductor, ctx, inst),
               "dropping the migration context");
    log_warning(LOG_MIGRATE, "a migration was cut off by a restart: the server stays here");
    return live_save_instance(node, ctx, inst, live_expect_migrating);
}

/* The guest is gone from here: it arrived, and the post steps are what is left. */
static struct err *go_on(struct node *node, const struct rctx *ctx, struct instance *inst,
                         struct migration *m)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    if (!m) {
        return err_msg(ERR_MIGRATION_ERROR,
                       "the server migrates, its guest is not here, and no migration is open");
    }
    log_warning(LOG_MIGRATE,
                "a migration to %s was cut off by a restart after the guest had gone: "
                "finishing it",
                migration_dest_compute(m));
    TRY(network_cached_vifs(inst, &vifs));
    err_ignore(network_activate(node, &vifs, migration_dest_compute(m)),
               "switching the ports over");
    for (size_t i = 0; i < vifs.n; i++) {
        err_ignore(vif_unplug(&node->vif, &vifs.items[i], instance_uuid(inst)),
                   "unplugging a port that has moved");
    }
    TRY(peer_post_at_destination(node, ctx, migration_dest_compute(m), inst,
                                 /* is_block= */ false));
    err_ignore(placement_delete_allocations(node->placement, migration_uuid(m)),
               "removing the migration's allocations");
    return live_save_migration(node, ctx, m, "completed");
}

static struct err *recover_move(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(migration_freep) struct migration *m = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    enum lv_state state = LV_SHUTOFF;

    TRY(find_move(node, ctx, instance_uuid(inst), &m));
    struct err *e = lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return e;
    }
    err_free(e);
    if (domain) {
        TRY(lv_domain_state(domain, &state, NULL));
    }
    return state == LV_SHUTOFF ? go_on(node, ctx, inst, m) : stay(node, ctx, inst, domain, m);
}

/* ---- What takes its time: tasks on the servers' strands ---- */

struct deed {
    struct node *node;
    struct instance *inst;
    struct remedy remedy; /* CALL; else the guest is brought up again. */
};

static void deed_free(void *arg)
{
    struct deed *d = arg;

    instance_free(d->inst);
    free(d);
}

/* As if the call had come again, with Nova's defaults. */
static struct err *call_again(struct deed *d, const struct rctx *ctx)
{
    struct compute_call call = {.method = d->remedy.method};
    struct json_object *answer = NULL;

    /* Every one of these has the instance first. */
    switch ((int)d->remedy.method) {
    case COMPUTE_stop_instance:
        call.args.stop_instance = (struct args_stop_instance){
            .instance = d->inst, .has_clean_shutdown = true, .clean_shutdown = true};
        break;
    case COMPUTE_reboot_instance:
        call.args.reboot_instance = (struct args_reboot_instance){
            .instance = d->inst, .reboot_type = d->remedy.is_soft ? "SOFT" : "HARD"};
        break;
    case COMPUTE_start_instance:
        call.args.start_instance.instance = d->inst;
        break;
    case COMPUTE_unpause_instance:
        call.args.unpause_instance.instance = d->inst;
        break;
    case COMPUTE_soft_delete_instance:
        call.args.soft_delete_instance.instance = d->inst;
        break;
    case COMPUTE_restore_instance:
        call.args.restore_instance.instance = d->inst;
        break;
    default:
        assert(!"a verb of the table in remedy.c");
    }
    /* A hard reboot finds none of a soft one's task states. */
    if (d->remedy.method == COMPUTE_reboot_instance && !d->remedy.is_soft &&
        !str_ends(instance_task_state(d->inst), "_hard")) {
        instance_set_task_state(d->inst, "reboot_pending_hard");
        TRY(instance_save(d->node->conductor, ctx, d->inst, NULL));
    }
    err_free(dispatch_call(d->node, ctx, &call, &answer)); /* Logged and recorded. */
    jv_putp(&answer);
    return NULL;
}

/* resume_guests_state_on_host_boot (driver.py resume_state_on_host_boot). */
static struct err *bring_up(struct deed *d, const struct rctx *ctx)
{
    log_info(LOG_COMPUTE, "the guest ran before the host stopped: starting it again");
    return power_or_error(
        d->node, ctx, d->inst,
        spawn_hard_reboot(&(struct spawn){.node = d->node, .ctx = ctx, .inst = d->inst}));
}

static struct err *delete (struct deed *d, const struct rctx *ctx)
{
    log_info(LOG_COMPUTE, "the deletion of the server was cut off by a restart, going on with it");
    return terminate_now(d->node, ctx, d->inst);
}

static void deed_task(void *arg)
{
    struct deed *d = arg;
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    struct err *e;

    log_context_set(rctx_log_text(ctx), instance_uuid(d->inst));
    e = d->remedy.kind == REMEDY_CALL     ? call_again(d, ctx)
        : d->remedy.kind == REMEDY_DELETE ? delete (d, ctx)
                                          : bring_up(d, ctx);
    err_ignore(e, "going on after a restart");
    log_context_set(NULL, NULL);
    deed_free(d);
}

static void submit(struct node *node, struct instance *inst, struct remedy remedy)
{
    struct deed *d = NEW(struct deed);

    *d = (struct deed){.node = node, .inst = instance_dup(inst), .remedy = remedy};
    task_submit(node->tasks, LANE_WORK, instance_uuid(inst), "go on after a restart", deed_task,
                deed_free, d);
}

/* ---- One server ---- */

static struct err *end_task(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const struct remedy_view *v, const char *vm_state)
{
    log_warning(LOG_COMPUTE, "task '%s' was cut off by a restart%s%s",
                v->task_state ? v->task_state : "none",
                vm_state ? ", the server's state is now " : "", vm_state ? vm_state : "");
    instance_set_task_state(inst, NULL);
    instance_set_power_state(inst, v->power);
    if (vm_state) {
        instance_set_vm_state(inst, vm_state);
    }
    return instance_save(node->conductor, ctx, inst, NULL);
}

static struct err *look(struct node *node, struct instance *inst, struct remedy_view *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(err_freep) struct err *e = lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain);
    enum lv_state state;

    *ret = (struct remedy_view){.vm_state = instance_vm_state(inst),
                                .task_state = instance_task_state(inst),
                                .power = POWER_NOSTATE,
                                .has_rescue = rescue_has_way_back(node, instance_uuid(inst))};
    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return NULL;
    }
    TRY(TAKE(e));
    TRY(lv_domain_state(domain, &state, NULL));
    ret->power = lifecycle_power_state_of(state);
    return lv_domain_has_managed_save(domain, &ret->has_save);
}

/* False if that is all there is to do: what follows belongs to another, or to a task of its own. */
static struct err *recover_task(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct remedy_view *v, bool *ret_goes_on)
{
    struct remedy remedy = remedy_for(v);

    *ret_goes_on = true;
    if (v->task_state && dispatch_has_kept(node, instance_uuid(inst))) {
        log_info(LOG_COMPUTE, "task '%s' goes on with a call that waits", v->task_state);
        return NULL;
    }
    switch (remedy.kind) {
    case REMEDY_NONE:
        return NULL;
    case REMEDY_SKIP:
        *ret_goes_on = false;
        return NULL;
    case REMEDY_SNAPSHOT:
        err_ignore(snapshot_recover(node, inst), "ending a snapshot that was cut off");
        return end_task(node, ctx, inst, v, remedy.vm_state);
    case REMEDY_SETTLE:
        return end_task(node, ctx, inst, v, remedy.vm_state);
    case REMEDY_ERROR:
        *ret_goes_on = false;
        return end_task(node, ctx, inst, v, remedy.vm_state);
    case REMEDY_DELETE:
        *ret_goes_on = false;
        submit(node, inst, remedy);
        return NULL;
    case REMEDY_CALL:
        *ret_goes_on = false;
        log_info(LOG_COMPUTE, "task '%s' was cut off by a restart, calling %s again", v->task_state,
                 compute_verb(remedy.method)->name);
        submit(node, inst, remedy);
        return NULL;
    case REMEDY_MIGRATE:
        return recover_move(node, ctx, inst);
    case REMEDY_LEAVE:
        log_warning(LOG_COMPUTE, "the server is in task '%s', which this service cannot go on with",
                    v->task_state);
        return NULL;
    }
    return NULL;
}

/* Idempotent: a port that works is not touched. */
static struct err *plug(struct node *node, struct instance *inst)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    TRY(network_cached_vifs(inst, &vifs));
    for (size_t i = 0; i < vifs.n; i++) {
        TRY_CTX(vif_plug(&node->vif, &vifs.items[i], instance_uuid(inst)), "plugging port %s",
                vifs.items[i].id);
    }
    return NULL;
}

/* What has state only in libvirt (paused, suspended by the guest) is no guest that is down. */
static bool should_bring_up(struct node *node, int64_t power_before, int64_t power)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    return conf->dflt.resume_guests_state_on_host_boot && power_before == POWER_RUNNING &&
           power != POWER_RUNNING && power != POWER_PAUSED && power != POWER_SUSPENDED;
}

static struct err *recover(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    int64_t power_before =
        instance_isnull_power_state(inst) ? POWER_NOSTATE : instance_power_state(inst);
    struct remedy_view view;
    bool goes_on;

    TRY(look(node, inst, &view));
    CLEANUP(err_freep) struct err *e = recover_task(node, ctx, inst, &view, &goes_on);

    if (!goes_on || !str_eq(instance_host(inst), node->host)) {
        return TAKE(e);
    }
    err_ignore(TAKE(e), "going on after a restart");
    err_ignore(plug(node, inst), "plugging at the start");
    if (!instance_task_state(inst) && should_bring_up(node, power_before, view.power)) {
        submit(node, inst, (struct remedy){.kind = REMEDY_NONE});
    }
    return NULL;
}

/* ---- Builds that had not begun ---- */

static struct json_object *building_filters(struct node *node, struct json_object *consumers,
                                            const struct strv *seen)
{
    struct json_object *filters = json_object_new_object(), *uuids = json_object_new_array();

    json_object_object_foreach(consumers, uuid, allocation)
    {
        (void)allocation;
        if (!strv_has(seen, uuid) && !dispatch_has_kept(node, uuid)) {
            json_object_array_add(uuids, jv_new_str(uuid));
        }
    }
    jv_add_str(filters, "vm_state", "building");
    jv_add(filters, "uuid", uuids);
    return filters;
}

/* The scheduler has given them room here, and the call has got lost with us: they would stay in
 * BUILD for ever (_error_out_instances_whose_build_was_interrupted). */
static struct err *fail_lost_builds(struct node *node, const struct rctx *ctx,
                                    const struct strv *seen)
{
    CLEANUP(jv_putp) struct json_object *consumers = NULL;
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    static const char *const no_attrs[] = {NULL};
    struct json_object *filters;

    TRY(placement_provider_allocations(node->placement, tracker_node_uuid(node->tracker),
                                       &consumers));
    if (!json_object_is_type(consumers, json_type_object)) {
        return NULL;
    }
    filters = building_filters(node, consumers, seen);
    if (json_object_array_length(jv_get(filters, "uuid")) == 0) {
        json_object_put(filters);
        return NULL;
    }
    TRY(instance_list_by_filters(node->conductor, ctx, filters, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        log_context_instance(instance_uuid(inst));
        log_warning(LOG_COMPUTE, "the build was cut off by a restart before it had begun, the "
                                 "server's state is now error");
        err_ignore(building_fail(node, ctx, inst), "giving up a build that had not begun");
        log_context_instance(NULL);
    }
    return NULL;
}

/* ---- All ---- */

/* After the guests do not write to them any more. */
static void sweep_snapshots(struct node *node)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    snapshot_sweep(conf);
}

struct err *recovery_run(struct node *node, const struct rctx *ctx)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    CLEANUP(strv_fini) struct strv evacuating = {0};
    static const char *const attrs[] = {
        "info_cache", "numa_topology",   "flavor", "migration_context",
        "metadata",   "system_metadata", NULL};

    /* First of all: a guest that runs elsewhere must not run here (P14). */
    TRY_CTX(evacuated_clean(node, ctx, &evacuating), "looking for servers that were evacuated");
    building_settle(node, ctx);
    TRY(instance_list_by_host(node->conductor, ctx, node->host, attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        strv_add(&uuids, instance_uuid(inst));
        if (!str_eq(instance_host(inst), node->host) ||
            strv_has(&evacuating, instance_uuid(inst))) {
            continue;
        }
        log_context_instance(instance_uuid(inst));
        err_ignore(recover(node, ctx, inst), "going on after a restart");
        log_context_instance(NULL);
    }
    err_ignore(fail_lost_builds(node, ctx, &uuids), "looking for builds that were cut off");
    sweep_snapshots(node);
    incoming_settle(node, ctx);
    notify_scheduler_sync(node, ctx, &uuids);
    log_info(LOG_COMPUTE, "%zu servers on this host", uuids.n);
    return NULL;
}

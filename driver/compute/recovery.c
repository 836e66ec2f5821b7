#include "driver/compute/recovery.h"

#include "base/log.h"
#include "driver/compute/building.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/peer.h"
#include "driver/compute/snapshot.h"
#include "driver/libvirt/snapshot.h"

/* What a task state that nobody works on any more is turned into. */
enum remedy {
    REMEDY_CLEAR,    /* The task is over; the guest's real state is written. */
    REMEDY_ERROR,    /* What was being made is unusable. */
    REMEDY_MIGRATE,  /* Look where the guest is. */
    REMEDY_SNAPSHOT, /* What it has left in the guest is ended; then as REMEDY_CLEAR. */
    REMEDY_LEAVE,    /* Needs a verb that is not built: say so. */
};

static const struct {
    const char *task_state; /* A prefix. */
    enum remedy remedy;
} remedies[] = {
    {"migrating", REMEDY_MIGRATE},
    {"scheduling", REMEDY_ERROR},
    {"block_device_mapping", REMEDY_ERROR},
    {"networking", REMEDY_ERROR},
    {"spawning", REMEDY_ERROR},
    {"rebuild", REMEDY_ERROR},
    {"image_", REMEDY_SNAPSHOT},
    {"resize_prep", REMEDY_CLEAR},
    {"reboot", REMEDY_CLEAR},
    {"powering-o", REMEDY_CLEAR},
    {"pausing", REMEDY_CLEAR},
    {"unpausing", REMEDY_CLEAR},
    {"suspending", REMEDY_CLEAR},
    {"resuming", REMEDY_CLEAR},
    {"updating_password", REMEDY_CLEAR},
    {"rescuing", REMEDY_CLEAR},
    {"unrescuing", REMEDY_CLEAR},
    {"attaching", REMEDY_CLEAR},
};

static enum remedy remedy_for(const char *task_state)
{
    for (size_t i = 0; i < ARRAY_SIZE(remedies); i++) {
        if (str_starts(task_state, remedies[i].task_state)) {
            return remedies[i].remedy;
        }
    }
    return REMEDY_LEAVE;
}

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

/* ---- One server ---- */

static struct err *end_task(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const char *vm_state)
{
    int64_t power;
    CLEANUP(err_freep) struct err *e = lifecycle_power_state(node, instance_uuid(inst), &power);

    log_warning(LOG_COMPUTE, "task '%s' was cut off by a restart%s%s", instance_task_state(inst),
                vm_state ? ", the server's state is now " : "", vm_state ? vm_state : "");
    instance_set_task_state(inst, NULL);
    if (!e) {
        instance_set_power_state(inst, power);
    }
    if (vm_state) {
        instance_set_vm_state(inst, vm_state);
    }
    return instance_save(node->conductor, ctx, inst, NULL);
}

static struct err *recover_task(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    const char *task = instance_task_state(inst);

    if (!task) {
        return str_eq(instance_vm_state(inst), "building") ? end_task(node, ctx, inst, "error")
                                                           : NULL;
    }
    switch (remedy_for(task)) {
    case REMEDY_CLEAR:
        return end_task(node, ctx, inst, NULL);
    case REMEDY_SNAPSHOT:
        err_ignore(snapshot_recover(node, inst), "ending a snapshot that was cut off");
        return end_task(node, ctx, inst, NULL);
    case REMEDY_ERROR:
        return end_task(node, ctx, inst, "error");
    case REMEDY_MIGRATE:
        return recover_move(node, ctx, inst);
    case REMEDY_LEAVE:
        log_warning(LOG_COMPUTE, "the server is in task '%s', which this service cannot go on with",
                    task);
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

static bool is_alive(struct instance *inst)
{
    static const char *const dead[] = {"soft-delete", "error", "deleted"};

    for (size_t i = 0; i < ARRAY_SIZE(dead); i++) {
        if (str_eq(instance_vm_state(inst), dead[i])) {
            return false;
        }
    }
    return true;
}

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
    static const char *const attrs[] = {"info_cache", "numa_topology", "flavor",
                                        "migration_context", NULL};

    building_settle(node, ctx);
    TRY(instance_list_by_host(node->conductor, ctx, node->host, attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        strv_add(&uuids, instance_uuid(inst));
        if (!str_eq(instance_host(inst), node->host) || !is_alive(inst)) {
            continue;
        }
        log_context_instance(instance_uuid(inst));
        err_ignore(recover_task(node, ctx, inst), "going on after a restart");
        if (str_eq(instance_host(inst), node->host)) {
            err_ignore(plug(node, inst), "plugging at the start");
        }
        log_context_instance(NULL);
    }
    sweep_snapshots(node);
    incoming_settle(node, ctx);
    notify_scheduler_sync(node, ctx, &uuids);
    log_info(LOG_COMPUTE, "%zu servers on this host", uuids.n);
    return NULL;
}

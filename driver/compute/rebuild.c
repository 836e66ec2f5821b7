/* rebuild_instance: a server gets new disks from an image, in place.
 *
 * Source: nova/compute/manager.py rebuild_instance, _do_rebuild_instance, _rebuild_default_impl,
 * _error_out_instance_on_exception. */

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/power.h"
#include "driver/compute/spawn.h"
#include "driver/compute/terminate.h"
#include "driver/compute/tracker.h"

#include <inttypes.h>

static const char *const expect_rebuilding[] = {"rebuilding", NULL};
static const char *const expect_mapping[] = {"rebuild_block_device_mapping", NULL};
static const char *const expect_spawning[] = {"rebuild_spawning", NULL};

struct rebuild {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    struct args_rebuild_instance *a;
    bool has_begun; /* The guest is gone: a failure from now on is one of the server. */
};

static struct err *save_task(struct rebuild *r, const char *task_state, const char *const *expected)
{
    instance_set_task_state(r->inst, task_state);
    return instance_save(r->node->conductor, r->ctx, r->inst, expected);
}

/* What is not built is refused while the server is whole.  Of an evacuation, conductor has already
 * taken room here for it. */
static struct err *check(const struct rebuild *r)
{
    if (r->a->recreate) {
        err_ignore(placement_drop_tree(r->node->placement, instance_uuid(r->inst),
                                       tracker_node_uuid(r->node->tracker)),
                   "giving back the room of an evacuation that is refused");
        return err_new(ERR_INSTANCE_EVACUATE_NOT_SUPPORTED, NULL);
    }
    if (r->a->has_preserve_ephemeral && r->a->preserve_ephemeral) {
        return err_new(ERR_PRESERVE_EPHEMERAL_NOT_SUPPORTED, NULL);
    }
    return terminate_check_volumes(r->a->bdms);
}

static struct err *destroy(struct rebuild *r, const struct vif_list *vifs)
{
    TRY(power_off_guest(r->node, r->inst, /* is_clean= */ true));
    r->has_begun = true;
    TRY_CTX(spawn_destroy_guest(r->node, r->ctx, r->inst, vifs), "ending the old guest");
    const struct spawn old = {.node = r->node, .ctx = r->ctx, .inst = r->inst};

    spawn_remove_disks(&old);
    return NULL;
}

static struct err *make(struct rebuild *r, const struct vif_list *vifs)
{
    const struct spawn s = {
        .node = r->node,
        .ctx = r->ctx,
        .inst = r->inst,
        .bdms = r->a->bdms,
        .vifs = vifs,
        .injected_files = r->a->injected_files,
        .admin_pass = r->a->new_pass,
        .has_tags = instance_has_device_metadata(r->inst) && instance_device_metadata(r->inst),
        .waits_for_plug = true,
    };

    TRY(save_task(r, "rebuild_block_device_mapping", expect_rebuilding));
    TRY(save_task(r, "rebuild_spawning", expect_mapping));
    TRY(spawn_make_disks(&s));
    return spawn_start_guest(&s);
}

static struct err *record(struct rebuild *r)
{
    CLEANUP(freep) char *now = clock_iso_utc();
    int64_t power;

    TRY(lifecycle_power_state(r->node, instance_uuid(r->inst), &power));
    instance_set_power_state(r->inst, power);
    instance_set_vm_state(r->inst, "active");
    instance_set_launched_at(r->inst, now);
    spawn_note_config_drive(r->node, r->inst);
    return save_task(r, NULL, expect_spawning);
}

/* It was off, so it is off again (Nova: an API stop, and a stop without asking the guest). */
static struct err *stop_again(struct rebuild *r)
{
    log_info(LOG_COMPUTE, "the server was stopped before its rebuild: stopping it again");
    instance_set_progress(r->inst, 0);
    TRY(save_task(r, "powering-off", NULL));
    return power_stop(r->node, r->ctx, r->inst, /* is_clean= */ false);
}

static struct err *rebuild(struct rebuild *r)
{
    static const char *const attrs[] = {"system_metadata", "metadata",        "flavor",
                                        "info_cache",      "device_metadata", NULL};
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    bool was_stopped = str_eq(instance_vm_state(r->inst), "stopped");
    int64_t power = POWER_NOSTATE;

    TRY(check(r));
    TRY(instance_load(r->node->conductor, r->ctx, r->inst, attrs));
    notify_instance(r->node, r->ctx, r->inst, NOTIFY_REBUILD, NOTIFY_START);
    err_ignore(lifecycle_power_state(r->node, instance_uuid(r->inst), &power),
               "looking at the old guest");
    instance_set_power_state(r->inst, power);
    TRY(save_task(r, "rebuilding", expect_rebuilding));
    TRY(network_cached_vifs(r->inst, &vifs));
    TRY(destroy(r, &vifs));
    TRY(make(r, &vifs));
    TRY(record(r));
    tracker_instance_changed(r->node->tracker, r->inst, /* is_here= */ true);
    if (was_stopped) {
        TRY(stop_again(r));
    }
    notify_scheduler_update(r->node, r->ctx, r->inst);
    notify_instance(r->node, r->ctx, r->inst, NOTIFY_REBUILD, NOTIFY_END);
    return NULL;
}

static bool is_gone(const struct err *e)
{
    return err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE);
}

struct err *compute_rebuild_instance(struct node *node, const struct rctx *ctx,
                                     struct args_rebuild_instance *a, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(ctx);
    struct rebuild r = {.node = node, .ctx = admin, .inst = a->instance, .a = a};
    int64_t start_ms = clock_ms();
    struct err *e = rebuild(&r);

    (void)ret;
    if (!e) {
        log_info(LOG_COMPUTE, "server rebuilt in %" PRId64 " ms", clock_ms() - start_ms);
        return NULL;
    }
    notify_instance_more(node, admin, a->instance, NOTIFY_REBUILD, NOTIFY_ERROR,
                         &(struct notify_more){.fault = e});
    if (is_gone(e)) {
        log_info(LOG_COMPUTE, "the server was deleted while it was rebuilt");
        return err_free(e);
    }
    if (r.has_begun) {
        instance_set_vm_state(a->instance, "error");
        instance_set_task_state(a->instance, NULL);
        err_ignore(instance_save(node->conductor, admin, a->instance, NULL),
                   "noting that a rebuild failed");
    }
    return e;
}

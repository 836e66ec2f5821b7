#include "driver/compute/terminate.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/step.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/server_disks.h"

#include <inttypes.h>

/* ---- Guest and files ---- */

/* The cache may be empty although ports are plugged; then neutron knows them. */
static struct err *find_vifs(struct node *node, const struct rctx *ctx, struct instance *inst,
                             struct vif_list *ret)
{
    static const char *const attrs[] = {"info_cache", NULL};
    struct err *e = instance_load(node->conductor, ctx, inst, attrs);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return e;
    }
    err_free(e);
    if (instance_has_info_cache(inst) && instance_info_cache(inst)) {
        TRY(network_cached_vifs(inst, ret));
    }
    if (ret->n == 0) {
        vif_list_fini(ret);
        *ret = (struct vif_list){0};
        err_ignore(network_refresh(node, ctx, inst, ret), "asking neutron for ports to unplug");
    }
    return NULL;
}

/* Counts the attempts for the periodic task that tries again (run_pending_deletes). */
static void remove_files(struct node *node, struct instance *inst)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    struct err *e = server_disks_remove(conf, instance_uuid(inst));
    int64_t n = 0;

    if (instance_has_system_metadata(inst)) {
        const char *attempts = instance_system_metadata_get(inst, "clean_attempts");

        if (attempts && !str_to_i64(attempts, &n)) {
            n = 0;
        }
        CLEANUP(freep) char *text = str_printf("%" PRId64, n + 1);

        instance_system_metadata_put(inst, "clean_attempts", text);
    }
    if (!e) {
        instance_set_cleaned(inst, true);
    }
    err_ignore(e, "removing a server's files, trying again later");
}

static struct err *destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    TRY(find_vifs(node, ctx, inst, &vifs));
    return err_context(spawn_destroy_guest(node, ctx, inst, &vifs), "ending the guest");
}

struct err *terminate_local_guest(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    TRY(destroy_guest(node, ctx, inst));
    remove_files(node, inst);
    return NULL;
}

/* ---- The whole server ---- */

struct err *terminate_check_volumes(const struct block_device_mapping_list *bdms)
{
    for (size_t i = 0; bdms && i < block_device_mapping_list_n(bdms); i++) {
        const struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);

        if (str_eq(block_device_mapping_destination_type(bdm), "volume")) {
            return err_msg(ERR_NOT_IMPLEMENTED,
                           "volume %s: servers with volumes are not supported by this compute "
                           "service",
                           block_device_mapping_volume_id(bdm));
        }
    }
    return NULL;
}

struct deletion {
    struct node *node;
    const struct rctx *ctx, *admin;
    struct instance *inst;
};

static struct err *end_guest(void *arg)
{
    struct deletion *d = arg;

    notify_instance(d->node, d->admin, d->inst, NOTIFY_SHUTDOWN, NOTIFY_START);
    struct err *e = destroy_guest(d->node, d->admin, d->inst);

    /* Unless it may run on: then its addresses stay its own. */
    if (e && !err_is(e, ERR_INSTANCE_POWER_OFF) && !err_is(e, ERR_INSTANCE_TERMINATION)) {
        err_ignore(netalloc_release(d->node, d->admin, d->inst),
                   "releasing the ports of a guest that did not end well");
    }
    return e;
}

static struct err *delete_files(void *arg)
{
    struct deletion *d = arg;

    remove_files(d->node, d->inst);
    return NULL;
}

static struct err *release_ports(void *arg)
{
    struct deletion *d = arg;

    TRY_CTX(netalloc_release(d->node, d->admin, d->inst), "releasing the ports");
    notify_instance(d->node, d->admin, d->inst, NOTIFY_SHUTDOWN, NOTIFY_END);
    return NULL;
}

static struct err *save_deleted(void *arg)
{
    struct deletion *d = arg;
    CLEANUP(freep) char *now = clock_iso_utc();

    instance_set_vm_state(d->inst, "deleted");
    instance_set_task_state(d->inst, NULL);
    instance_set_power_state(d->inst, POWER_NOSTATE);
    instance_set_terminated_at(d->inst, now);
    return instance_save(d->node->conductor, d->ctx, d->inst, NULL);
}

static struct err *remove_allocations(void *arg)
{
    struct deletion *d = arg;

    tracker_abort_instance(d->node->tracker, d->ctx, instance_uuid(d->inst));
    return err_context(placement_delete_allocations(d->node->placement, instance_uuid(d->inst)),
                       "removing the allocations");
}

static struct err *destroy_record(void *arg)
{
    struct deletion *d = arg;

    err_ignore(console_auths_clean(d->node->conductor, d->ctx, instance_uuid(d->inst)),
               "removing console tokens");
    notify_scheduler_delete(d->node, d->ctx, instance_uuid(d->inst));
    return instance_destroy(d->node->conductor, d->ctx, d->inst);
}

/* What is gone cannot be undone: after an error or a restart it begins anew, and each step takes
 * what it finds.  Allocations go before the record: a record without them can be deleted again, the
 * other way round nobody would look (manager.py _delete_instance). */
static const struct step deletion_steps[] = {
    {FAULT_terminate_guest, end_guest, NULL},
    {FAULT_terminate_files, delete_files, NULL},
    {FAULT_terminate_ports, release_ports, NULL},
    {FAULT_terminate_record, save_deleted, NULL},
    {FAULT_terminate_allocations, remove_allocations, NULL},
    {FAULT_terminate_destroy, destroy_record, NULL},
};

static struct err *terminate(struct node *node, const struct rctx *ctx, struct instance *inst,
                             const struct block_device_mapping_list *bdms)
{
    static const char *const attrs[] = {"system_metadata", "info_cache", "flavor", NULL};
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(ctx);
    struct deletion d = {.node = node, .ctx = ctx, .admin = admin, .inst = inst};
    int64_t start_ms = clock_ms();

    TRY(terminate_check_volumes(bdms));
    TRY(instance_load(node->conductor, ctx, inst, attrs));
    notify_instance(node, ctx, inst, NOTIFY_DELETE, NOTIFY_START);
    TRY(step_run(deletion_steps, ARRAY_SIZE(deletion_steps), /* hooks= */ NULL, &d));
    notify_instance(node, ctx, inst, NOTIFY_DELETE, NOTIFY_END);
    log_info(LOG_COMPUTE, "server deleted in %" PRId64 " ms", clock_ms() - start_ms);
    return NULL;
}

/* "error" so that the user sees that it is not gone; it can be deleted again. */
static void set_error(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    instance_set_vm_state(inst, "error");
    err_ignore(instance_save(node->conductor, ctx, inst, NULL),
               "noting that a server could not be deleted");
}

static struct err *terminate_with(struct node *node, const struct rctx *ctx, struct instance *inst,
                                  const struct block_device_mapping_list *bdms)
{
    struct err *e = terminate(node, ctx, inst, bdms);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        log_info(LOG_COMPUTE, "the server is deleted already");
        return err_free(e);
    }
    if (e && !err_is(e, ERR_NOT_IMPLEMENTED)) {
        set_error(node, ctx, inst);
    }
    return e;
}

struct err *terminate_now(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;

    TRY(bdms_by_instance(node->conductor, ctx, instance_uuid(inst), &bdms));
    return terminate_with(node, ctx, inst, bdms);
}

struct err *compute_terminate_instance(struct node *node, const struct rctx *ctx,
                                       struct args_terminate_instance *a, struct json_object **ret)
{
    (void)ret;
    return a->bdms ? terminate_with(node, ctx, a->instance, a->bdms)
                   : terminate_now(node, ctx, a->instance);
}

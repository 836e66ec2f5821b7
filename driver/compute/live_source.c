/* Live migration on its source: queue, prepare, copy, post steps and rollback; abort and
 * force-complete.
 *
 * Source: nova/compute/manager.py live_migration, _do_live_migration,
 * _do_pre_live_migration_from_source, _post_live_migration, _rollback_live_migration,
 * live_migration_abort, live_migration_force_complete; contract live-migration.md. */

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/events.h"
#include "driver/compute/live.h"
#include "driver/compute/moves.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/peer.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/disk.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Progress goes to the database this often (Nova: each tenth sample). */
#define PROGRESS_MS 5000

/* What switches the ports over; shared by the event that comes first and by the post step. */
struct activation {
    atomic_int n_refs;
    struct node *node;
    struct move *move;
    struct vif_list vifs;
};

/* One live migration on its source. */
struct live {
    struct node *node;
    struct rctx *ctx;
    struct move *move;
    struct instance *inst;
    struct migration *migration;
    struct libvirt_live_migrate_data *md;
    struct activation *activation;
    struct vif_list source_vifs, dest_vifs;
    struct strv volumes;
    bool is_block;
    int64_t started_ms, progress_ms;
};

/* ---- Saves that must not get lost ---- */

const char *const live_expect_migrating[] = {"migrating", NULL};

static bool is_worth_another_try(const struct err *e)
{
    return err_is(e, ERR_TIMEOUT) || err_is(e, ERR_DISCONNECTED) || err_is(e, ERR_DB_CONNECTION) ||
           err_is(e, ERR_DB_DEADLOCK);
}

/* Waits before the next try of what began at 'since_ms'; false when it is time to give up. */
static bool may_try_again(struct node *node, struct err **e, int64_t since_ms)
{
    if (!is_worth_another_try(*e) || clock_ms() - since_ms > 600000) {
        return false;
    }
    log_warning(LOG_MIGRATE, "saving: %s, retrying in 2 s", err_message(*e));
    *e = err_free(*e);
    return !cancel_sleep(node->stopping, 2000);
}

struct err *live_save_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                               const char *const *expected)
{
    int64_t since_ms = clock_ms();
    bool is_retry = false;

    while (true) {
        struct err *e = instance_save(node->conductor, ctx, inst, expected);

        if (is_retry && err_is(e, ERR_UNEXPECTED_TASK_STATE) &&
            str_eq(err_get(e, "actual"), "{'task_state': None}")) {
            return err_free(e); /* The first try was saved; only its answer got lost. */
        }
        if (!e || !may_try_again(node, &e, since_ms)) {
            return e;
        }
        is_retry = true;
    }
}

struct err *live_save_migration(struct node *node, const struct rctx *ctx, struct migration *m,
                                const char *status)
{
    int64_t since_ms = clock_ms();

    while (true) {
        migration_set_status(m, status);
        struct err *e = migration_save(node->conductor, ctx, m);

        if (!e || !may_try_again(node, &e, since_ms)) {
            return err_context(e, "setting migration %s to %s", migration_uuid(m), status);
        }
    }
}

/* Instance.apply_migration_context: absent is null. */
struct err *live_apply_migration_context(struct node *node, const struct rctx *ctx,
                                         struct instance *inst)
{
    static const char *const attrs[] = {"migration_context", NULL};
    struct migration_context *mc;

    TRY(instance_load(node->conductor, ctx, inst, attrs));
    mc = instance_migration_context(inst);
    if (!mc) {
        return NULL;
    }
    instance_set_numa_topology(
        inst, migration_context_has_new_numa_topology(mc)
                  ? instance_numa_topology_dup(migration_context_new_numa_topology(mc))
                  : NULL);
    instance_set_pci_requests(
        inst, migration_context_has_new_pci_requests(mc)
                  ? instance_pci_requests_dup(migration_context_new_pci_requests(mc))
                  : NULL);
    instance_set_pci_devices(inst, migration_context_has_new_pci_devices(mc)
                                       ? pci_device_list_dup(migration_context_new_pci_devices(mc))
                                       : NULL);
    instance_set_resources(inst, migration_context_has_new_resources(mc)
                                     ? resource_list_dup(migration_context_new_resources(mc))
                                     : NULL);
    return NULL;
}

/* ---- Switching the ports over ---- */

static struct activation *activation_free(struct activation *a)
{
    if (a && atomic_fetch_sub(&a->n_refs, 1) == 1) {
        vif_list_fini(&a->vifs);
        move_free(a->move);
        free(a);
    }
    return NULL;
}

static struct err *activate(void *arg)
{
    struct activation *a = arg;
    int64_t start_ms = clock_ms();

    TRY(network_activate(a->node, &a->vifs, move_dest(a->move)));
    log_info(LOG_MIGRATE, "ports are switched over to %s, in %lld ms", move_dest(a->move),
             (long long)(clock_ms() - start_ms));
    return NULL;
}

static void activation_task(void *arg)
{
    struct activation *a = arg;

    log_context_set("-", move_uuid(a->move));
    move_once(a->move, activate, a);
    log_context_set(NULL, NULL);
    activation_free(a);
}

static void activation_drop(void *arg)
{
    activation_free(arg);
}

/* On lv-events, the moment the guest has stopped here for good. */
static void on_switchover(bool is_postcopy, void *arg)
{
    struct live *lm = arg;

    (void)is_postcopy;
    atomic_fetch_add(&lm->activation->n_refs, 1);
    task_submit(lm->node->tasks, LANE_WORK, /* key= */ NULL, "activate bindings", activation_task,
                activation_drop, lm->activation);
}

/* ---- Progress ---- */

struct progress {
    struct node *node;
    struct rctx *ctx;
    struct migration *migration;
    struct instance *inst;
    struct move *move;
};

static void progress_free(void *arg)
{
    struct progress *p = arg;

    move_progress_end(p->move);
    migration_free(p->migration);
    instance_free(p->inst);
    rctx_free(p->ctx);
    move_free(p->move);
    free(p);
}

static void progress_task(void *arg)
{
    struct progress *p = arg;

    if (move_phase(p->move) == MOVE_RUNNING) {
        err_ignore(migration_save(p->node->conductor, p->ctx, p->migration), "saving progress");
        err_ignore(instance_save(p->node->conductor, p->ctx, p->inst, NULL), "saving progress");
    }
    progress_free(p);
}

/* Migration's counters and instance.progress, on their own small objects: the save is a task, so
 * that a slow database never holds up the watchdog, and a new one only follows when the last is
 * done. */
static void save_progress(struct live *lm, const struct lv_job *j)
{
    struct progress *p;
    int64_t percent = j->data_total ? 100 - (int64_t)(j->data_remaining * 100 / j->data_total) : 0;

    struct move *mv = moves_find(lm->node->moves, instance_uuid(lm->inst));

    if (!mv || !move_progress_begin(mv)) {
        move_free(mv);
        return;
    }
    p = NEW(struct progress);
    *p = (struct progress){.node = lm->node,
                           .ctx = rctx_ref(lm->ctx),
                           .migration = migration_new(),
                           .inst = instance_new(),
                           .move = mv};
    migration_set_id(p->migration, migration_id(lm->migration));
    migration_set_uuid(p->migration, migration_uuid(lm->migration));
    ovo_reset_changes(migration_ovo(p->migration), /* is_recursive= */ false);
    migration_set_memory_total(p->migration, (int64_t)j->memory_total);
    migration_set_memory_processed(p->migration, (int64_t)j->memory_processed);
    migration_set_memory_remaining(p->migration, (int64_t)j->memory_remaining);
    migration_set_disk_total(p->migration, (int64_t)j->disk_total);
    migration_set_disk_processed(p->migration, (int64_t)j->disk_processed);
    migration_set_disk_remaining(p->migration, (int64_t)j->disk_remaining);
    instance_set_id(p->inst, instance_id(lm->inst));
    instance_set_uuid(p->inst, instance_uuid(lm->inst));
    ovo_reset_changes(instance_ovo(p->inst), /* is_recursive= */ false);
    instance_set_progress(p->inst, percent);
    task_submit(lm->node->tasks, LANE_WORK, /* key= */ NULL, "save progress", progress_task,
                progress_free, p);
}

static void on_sample(const struct lv_job *j, void *arg)
{
    struct live *lm = arg;
    int64_t now_ms = clock_ms();

    move_sample(lm->move, j);
    if (j->type != LV_JOB_UNBOUNDED || !j->memory_total || now_ms < lm->progress_ms) {
        return;
    }
    lm->progress_ms = now_ms + PROGRESS_MS;
    log_info(
        LOG_MIGRATE, "%llu%% of memory, pass %llu: %llu MiB left, %llu MiB/s; disks: %llu MiB left",
        (unsigned long long)(j->memory_total ? 100 - j->memory_remaining * 100 / j->memory_total
                                             : 0),
        (unsigned long long)j->memory_iteration, (unsigned long long)(j->memory_remaining >> 20),
        (unsigned long long)(j->memory_bps >> 20), (unsigned long long)(j->disk_remaining >> 20));
    save_progress(lm, j);
}

static void on_postcopy(void *arg)
{
    struct live *lm = arg;

    err_ignore(live_save_migration(lm->node, lm->ctx, lm->migration, "running (post-copy)"),
               "noting post-copy");
}

/* ---- Undo ---- */

/* The allocations of the destination go, the source's come back to the server. */
static void revert_allocations(struct node *node, struct instance *inst, struct migration *m)
{
    bool moved = false;

    err_ignore(
        placement_move_allocations(node->placement, migration_uuid(m), instance_uuid(inst), &moved),
        "giving the server its allocations back");
    if (!moved) {
        log_warning(LOG_MIGRATE, "migration %s holds no allocations to give back",
                    migration_uuid(m));
    }
}

/* The destination forgets the move: bindings, ports, disks, claims.  Nova casts only when there are
 * disks to remove and leaves the rest behind on shared storage (P11); the verb is safe there too.
 */
static void undo_destination(struct node *node, const struct rctx *ctx, const char *dest,
                             struct instance *inst, struct libvirt_live_migrate_data *md)
{
    bool is_shared_disk = libvirt_live_migrate_data_has_is_shared_block_storage(md) &&
                          libvirt_live_migrate_data_is_shared_block_storage(md);

    err_ignore(peer_rollback_at_destination(node, ctx, dest, inst, !is_shared_disk, md),
               "asking the destination to undo the move");
    err_ignore(network_teardown_on_host(node, inst, dest), "removing the destination's bindings");
    if (libvirt_live_migrate_data_has_src_supports_numa_live_migration(md) &&
        libvirt_live_migrate_data_src_supports_numa_live_migration(md)) {
        err_ignore(peer_drop_move_claim(node, ctx, dest, inst),
                   "asking the destination to drop its claim");
    }
}

static struct err *settle_instance(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    instance_set_task_state(inst, NULL);
    instance_set_progress(inst, 0);
    err_ignore(instance_drop_migration_context(node->conductor, ctx, inst),
               "dropping the migration context");
    return live_save_instance(node, ctx, inst, live_expect_migrating);
}

static void rollback(struct live *lm, const char *status)
{
    struct node *node = lm->node;
    CLEANUP(instance_pci_requests_freep) struct instance_pci_requests *requests = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    struct vif_list vifs = {0};

    move_set_rollback(lm->move);
    if (move_once_was_run(lm->move)) {
        /* The guest seemed to have gone already: its ports come back first of all (P6). */
        err_ignore(network_activate(node, &lm->source_vifs, node->host),
                   "switching the ports back here");
    }
    /* Conductor may have rewritten the requests for the destination. */
    e = pci_requests_by_instance(node->conductor, lm->ctx, instance_uuid(lm->inst), &requests);
    if (e) {
        log_warning(LOG_MIGRATE, "reading PCI requests: %s, keeping those we have", err_message(e));
    } else {
        instance_set_pci_requests(lm->inst, TAKE(requests));
    }
    revert_allocations(node, lm->inst, lm->migration);
    notify_instance(node, lm->ctx, lm->inst, NOTIFY_LIVE_ROLLBACK, NOTIFY_START);
    undo_destination(node, lm->ctx, move_dest(lm->move), lm->inst, lm->md);
    err_ignore(settle_instance(node, lm->ctx, lm->inst), "ending the server's task");
    notify_instance(node, lm->ctx, lm->inst, NOTIFY_LIVE_ROLLBACK, NOTIFY_END);
    err_ignore(network_refresh(node, lm->ctx, lm->inst, &vifs), "reading the network again");
    vif_list_fini(&vifs);
    err_ignore(live_save_migration(node, lm->ctx, lm->migration, status), "ending the migration");
    if (str_eq(status, "cancelled")) {
        notify_instance(node, lm->ctx, lm->inst, NOTIFY_LIVE_ABORT, NOTIFY_END);
    }
    log_info(LOG_MIGRATE, "migration to %s %s after %lld ms; the server is unharmed here",
             move_dest(lm->move), status, (long long)(clock_ms() - lm->started_ms));
}

/* ---- Prepare ---- */

static void hybrid_tags(const struct vif_list *vifs, struct strv *ret)
{
    for (size_t i = 0; i < vifs->n; i++) {
        if (vifs->items[i].is_hybrid) {
            strv_add(ret, vifs->items[i].id);
        }
    }
}

/* Calls the destination, and waits for neutron where it asks for that.  Waiters are registered
 * first. */
static struct err *prepare_destination(struct live *lm, const struct conf *conf, const char *disk)
{
    CLEANUP(strv_fini) struct strv tags = {0};
    CLEANUP(event_wait_freep) struct event_wait *wait = NULL;
    struct libvirt_live_migrate_data *fresh = NULL;
    int64_t start_ms = clock_ms();

    if (conf->dflt.vif_plugging_timeout) {
        hybrid_tags(&lm->source_vifs, &tags);
    }
    if (tags.n) {
        wait =
            events_expect(lm->node->events, instance_uuid(lm->inst), "network-vif-plugged", &tags);
    }
    TRY(peer_pre_live_migration(lm->node, lm->ctx, move_dest(lm->move), lm->inst, disk, lm->md,
                                move_cancel(lm->move), &fresh));
    libvirt_live_migrate_data_free(lm->md);
    lm->md = fresh;
    log_info(LOG_MIGRATE, "%s prepared itself in %lld ms", move_dest(lm->move),
             (long long)(clock_ms() - start_ms));
    if (!wait || !libvirt_live_migrate_data_has_wait_for_vif_plugged(lm->md) ||
        !libvirt_live_migrate_data_wait_for_vif_plugged(lm->md)) {
        return NULL;
    }
    struct err *e = events_wait(wait, clock_ms() + conf->dflt.vif_plugging_timeout * 1000,
                                move_cancel(lm->move));

    if (e && !conf->dflt.vif_plugging_is_fatal && !err_is(e, ERR_CANCELLED)) {
        err_ignore(e, "waiting for ports on the destination");
        return NULL;
    }
    return e;
}

static struct err *prepare(struct live *lm, const struct conf *conf, struct guest_info *guest)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(vif_list_fini) struct vif_list cached = {0};
    CLEANUP(jv_putp) struct json_object *info = NULL;
    CLEANUP(freep) char *disk = NULL;
    bool is_volume_backed;

    TRY(live_volume_serials(lm->node, lm->ctx, instance_uuid(lm->inst), &lm->volumes,
                            &is_volume_backed));
    TRY(network_cached_vifs(lm->inst, &cached));
    TRY(network_source_vifs(lm->md, &cached, &lm->source_vifs));
    TRY(live_guest_info(lm->node, instance_uuid(lm->inst), &domain, guest));
    if (lm->is_block) {
        TRY(disk_info(domain, guest, &lm->volumes, &info));
        disk = jv_text(info);
    }
    TRY(prepare_destination(lm, conf, disk));
    return network_dest_vifs(lm->md, &cached, &lm->dest_vifs);
}

/* ---- Copy ---- */

static bool md_true(bool is_set, bool (*get)(const struct libvirt_live_migrate_data *),
                    const struct libvirt_live_migrate_data *md)
{
    return is_set && get(md);
}

static struct err *destination_xml(struct live *lm, const struct conf *conf,
                                   struct lv_domain *domain, char **ret)
{
    struct libvirt_live_migrate_data *md = lm->md;
    struct libvirt_live_migrate_numa_info *ni = libvirt_live_migrate_data_has_dst_numa_info(md)
                                                    ? libvirt_live_migrate_data_dst_numa_info(md)
                                                    : NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(strv_fini) struct strv perf = {0};
    struct flavor *flavor = instance_flavor(lm->inst);
    struct guest_numa numa = {0};
    struct guest_rewrite rw = {
        .vifs = lm->dest_vifs.items,
        .n_vifs = lm->dest_vifs.n,
        .has_vifs = libvirt_live_migrate_data_has_vifs(md),
        .wants_file_backed_memory =
            md_true(libvirt_live_migrate_data_has_dst_wants_file_backed_memory(md),
                    libvirt_live_migrate_data_dst_wants_file_backed_memory, md),
        .has_cpu_shares_quota = flavor_extra_specs_get(flavor, "quota:cpu_shares") != NULL,
        .integration_bridge = conf->neutron.ovs_bridge,
    };

    if (libvirt_live_migrate_data_has_graphics_listen_addr_vnc(md)) {
        rw.vnc_listen = libvirt_live_migrate_data_graphics_listen_addr_vnc(md);
    }
    if (libvirt_live_migrate_data_has_graphics_listen_addr_spice(md)) {
        rw.spice_listen = libvirt_live_migrate_data_graphics_listen_addr_spice(md);
    }
    if (libvirt_live_migrate_data_has_serial_listen_addr(md)) {
        rw.serial_listen = libvirt_live_migrate_data_serial_listen_addr(md);
    }
    if (libvirt_live_migrate_data_has_supported_perf_events(md)) {
        for (size_t i = 0; i < libvirt_live_migrate_data_n_supported_perf_events(md); i++) {
            strv_add(&perf, libvirt_live_migrate_data_supported_perf_events_at(md, i));
        }
        rw.perf_events = &perf;
    }
    if (ni) {
        numa.cpu_pins = libvirt_live_migrate_numa_info_has_cpu_pins(ni)
                            ? libvirt_live_migrate_numa_info_cpu_pins(ni)
                            : NULL;
        numa.cell_pins = libvirt_live_migrate_numa_info_has_cell_pins(ni)
                             ? libvirt_live_migrate_numa_info_cell_pins(ni)
                             : NULL;
        numa.emulator_pins = libvirt_live_migrate_numa_info_has_emulator_pins(ni)
                                 ? libvirt_live_migrate_numa_info_emulator_pins(ni)
                                 : NULL;
        if (libvirt_live_migrate_numa_info_has_sched_vcpus(ni)) {
            numa.sched_vcpus = libvirt_live_migrate_numa_info_sched_vcpus(ni);
            numa.sched_priority = libvirt_live_migrate_numa_info_sched_priority(ni);
        }
        rw.numa = &numa;
    }
    TRY(lv_domain_xml(domain, /* is_migratable= */ true, &xml));
    return guest_xml_rewrite(xml, &rw, ret);
}

static struct err *copy(struct live *lm, const struct conf *conf, const struct guest_info *guest,
                        struct migrate_result *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(strv_fini) struct strv disks = {0};
    struct migrate_job *job = NULL;
    const char *addr = libvirt_live_migrate_data_has_target_connect_addr(lm->md)
                           ? libvirt_live_migrate_data_target_connect_addr(lm->md)
                           : NULL;
    struct migrate_spec spec = {.instance_uuid = instance_uuid(lm->inst),
                                .dest = move_dest(lm->move),
                                .target_connect_addr = addr,
                                .copy_disks = &disks,
                                .is_block_migration = lm->is_block,
                                .is_paused = str_eq(instance_vm_state(lm->inst), "paused"),
                                .memory_mib =
                                    (unsigned)flavor_memory_mb(instance_flavor(lm->inst))};
    struct migrate_hooks hooks = {.on_switchover = on_switchover,
                                  .on_sample = on_sample,
                                  .on_postcopy = on_postcopy,
                                  .arg = lm};

    TRY(lv_domain_by_uuid(lm->node->lv, instance_uuid(lm->inst), &domain));
    TRY_CTX(destination_xml(lm, conf, domain, &xml), "making the destination's XML");
    if (lm->is_block) {
        TRY(disk_copy_targets(guest, &lm->volumes, &disks, &spec.copy_disk_bytes));
    }
    spec.dest_xml = xml;
    TRY(migrate_new(lm->node->libvirt_uri, conf, &spec, &hooks, &job));
    move_set_job(lm->move, job);
    if (cancel_is_set(move_cancel(lm->move))) {
        err_ignore(migrate_abort(job), "ending a job that was aborted before it began");
    }
    struct err *e = migrate_run(job, ret);

    move_set_job(lm->move, NULL);
    migrate_free(job);
    return e;
}

/* ---- Post ---- */

static void leave_source(struct live *lm, const struct conf *conf)
{
    const char *uuid = instance_uuid(lm->inst);
    bool is_shared_path = libvirt_live_migrate_data_has_is_shared_instance_path(lm->md) &&
                          libvirt_live_migrate_data_is_shared_instance_path(lm->md);

    for (size_t i = 0; i < lm->source_vifs.n; i++) {
        err_ignore(vif_unplug(&lm->node->vif, &lm->source_vifs.items[i], uuid),
                   "unplugging a port that has moved");
    }
    if (!is_shared_path) {
        err_ignore(disk_remove(conf, uuid), "removing disks that have moved");
    }
}

/* The destination did not take the record over: the guest runs there all the same, so we write it.
 */
static void write_record_for(struct live *lm, struct err *why)
{
    CLEANUP(compute_node_freep) struct compute_node *cn = NULL;
    struct node *node = lm->node;
    struct err *e;

    log_error(LOG_MIGRATE,
              "%s has not finished its part: %s; writing the server's record from here",
              move_dest(lm->move), err_message(why));
    err_free(why);
    e = instance_refresh(node->conductor, lm->ctx, lm->inst);
    if (e || str_eq(instance_host(lm->inst), move_dest(lm->move))) {
        err_ignore(e, "reading the server's record again");
        return;
    }
    e = compute_node_get_first(node->conductor, lm->ctx, move_dest(lm->move), &cn);
    err_ignore(e, "reading the destination's node");
    err_ignore(live_apply_migration_context(node, lm->ctx, lm->inst),
               "applying the migration context");
    err_ignore(instance_drop_migration_context(node->conductor, lm->ctx, lm->inst),
               "dropping the migration context");
    instance_set_host(lm->inst, move_dest(lm->move));
    instance_set_node(lm->inst, cn ? compute_node_hypervisor_hostname(cn) : NULL);
    instance_set_task_state(lm->inst, NULL);
    instance_set_progress(lm->inst, 0);
    err_ignore(live_save_instance(node, lm->ctx, lm->inst, NULL), "saving where the server is");
    err_ignore(network_teardown_on_host(node, lm->inst, node->host), "removing our bindings");
}

static void audit_task(void *arg)
{
    struct node *node = arg;
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    err_ignore(tracker_audit(node->tracker, ctx, /* is_startup= */ false),
               "counting resources after a move");
}

static void post(struct live *lm, const struct conf *conf, const struct migrate_result *result)
{
    struct node *node = lm->node;
    const char *uuid = instance_uuid(lm->inst);
    int64_t start_ms = clock_ms();

    move_advance(lm->move, MOVE_POST);
    notify_instance(node, lm->ctx, lm->inst, NOTIFY_LIVE_POST, NOTIFY_START);
    move_once(lm->move, activate, lm->activation);
    leave_source(lm, conf);
    struct err *e =
        peer_post_at_destination(node, lm->ctx, move_dest(lm->move), lm->inst, lm->is_block);

    if (e) {
        write_record_for(lm, e);
    }
    tracker_instance_changed(node->tracker, lm->inst, /* is_here= */ false);
    notify_scheduler_delete(node, lm->ctx, uuid);
    notify_instance(node, lm->ctx, lm->inst, NOTIFY_LIVE_POST, NOTIFY_END);
    err_ignore(placement_delete_allocations(node->placement, migration_uuid(lm->migration)),
               "removing the migration's allocations");
    err_ignore(live_save_migration(node, lm->ctx, lm->migration, "completed"),
               "ending the migration");
    log_info(LOG_MIGRATE,
             "migrated to %s: %lld ms in all, %lld ms copying %llu MiB, guest stopped for %llu ms, "
             "%lld ms after the copy",
             move_dest(lm->move), (long long)(clock_ms() - lm->started_ms),
             (long long)result->duration_ms,
             (unsigned long long)(result->stats.data_processed >> 20),
             (unsigned long long)result->stats.downtime_ms, (long long)(clock_ms() - start_ms));
    err_ignore(console_auths_clean(node->conductor, lm->ctx, uuid), "removing console tokens");
    task_submit(node->tasks, LANE_PERIODIC, "audit", "audit after a move", audit_task, NULL, node);
}

/* ---- The whole of it ---- */

static void live_free(void *arg)
{
    struct live *lm = arg;

    moves_remove(lm->node->moves, lm->move);
    activation_free(lm->activation);
    vif_list_fini(&lm->source_vifs);
    vif_list_fini(&lm->dest_vifs);
    strv_fini(&lm->volumes);
    libvirt_live_migrate_data_free(lm->md);
    migration_free(lm->migration);
    instance_free(lm->inst);
    rctx_free(lm->ctx);
    move_free(lm->move);
    free(lm);
}

static void log_failure(struct live *lm, const char *what, const struct err *e)
{
    CLEANUP(freep) char *text = err_text(e);

    log_error(LOG_MIGRATE, "%s to %s: %s", what, move_dest(lm->move), text);
}

static void finish(struct live *lm, const struct conf *conf, const struct guest_info *guest)
{
    struct migrate_result result = {0};
    struct err *e = copy(lm, conf, guest, &result);

    if (e) {
        log_failure(lm, "starting the migration", e);
        err_free(e);
        rollback(lm, "failed");
    } else if (result.end == MIGRATE_FAILED && err_is(result.err, ERR_HYPERVISOR_UNAVAILABLE)) {
        /* Nobody knows where the guest is: undoing could take a running one's network away.  The
         * next start looks again. */
        log_failure(lm, "losing libvirt during the migration (leaving all as it is)", result.err);
        err_ignore(live_save_migration(lm->node, lm->ctx, lm->migration, "error"),
                   "noting the failure");
    } else if (result.end == MIGRATE_COMPLETED) {
        post(lm, conf, &result);
    } else {
        if (result.err) {
            log_failure(lm, "migration", result.err);
        }
        rollback(lm, result.end == MIGRATE_CANCELLED ? "cancelled" : "failed");
    }
    migrate_result_fini(&result);
}

static void run(struct live *lm)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(lm->node->conf);
    CLEANUP(err_freep)
    struct err *e = live_save_migration(lm->node, lm->ctx, lm->migration, "preparing");

    if (!e) {
        e = prepare(lm, conf, &guest);
    }
    bool is_aborted = cancel_is_set(move_cancel(lm->move));

    if (e && !is_aborted) {
        log_failure(lm, "preparing the migration", e);
        err_ignore(instance_fault_create(lm->node->conductor, lm->ctx, instance_uuid(lm->inst),
                                         lm->node->host, e),
                   "recording the fault");
        err_ignore(live_save_migration(lm->node, lm->ctx, lm->migration, "error"),
                   "noting the failure");
        libvirt_live_migrate_data_set_migration(lm->md, migration_dup(lm->migration));
        rollback(lm, "failed");
        return;
    }
    libvirt_live_migrate_data_set_migration(lm->md, migration_dup(lm->migration));
    if (e || !move_advance(lm->move, MOVE_RUNNING)) {
        rollback(lm, "cancelled");
        return;
    }
    struct err *saved = network_copy_vifs(&lm->dest_vifs, &lm->activation->vifs);

    if (!saved) {
        saved = live_save_migration(lm->node, lm->ctx, lm->migration, "running");
    }
    if (saved) {
        log_failure(lm, "starting the migration", saved);
        err_free(saved);
        rollback(lm, "failed");
        return;
    }
    finish(lm, conf, &guest);
}

static void live_task(void *arg)
{
    struct live *lm = arg;

    log_context_set(rctx_log_text(lm->ctx), instance_uuid(lm->inst));
    if (move_advance(lm->move, MOVE_PREPARING)) {
        run(lm);
    }
    live_free(lm);
    log_context_set(NULL, NULL);
}

struct err *compute_live_migration(struct node *node, const struct rctx *ctx,
                                   struct args_live_migration *a, struct json_object **ret)
{
    struct live *lm;
    struct move *mv = NULL;

    (void)ret;
    if (!a->migrate_data || !a->migration || !migration_has_id(a->migration) ||
        !migration_has_uuid(a->migration)) {
        return err_msg(ERR_MIGRATION_ERROR,
                       "live_migration came without migration or migrate_data");
    }
    TRY(moves_add(node->moves, instance_uuid(a->instance), migration_id(a->migration), a->dest,
                  &mv));
    struct err *e = live_save_migration(node, ctx, a->migration, "queued");

    if (e) {
        moves_remove(node->moves, mv);
        move_free(mv);
        return e;
    }
    lm = NEW(struct live);
    lm->node = node;
    lm->ctx = rctx_ref(ctx);
    lm->move = mv;
    lm->inst = TAKE(a->instance);
    lm->migration = TAKE(a->migration);
    lm->md = TAKE(a->migrate_data);
    lm->is_block = libvirt_live_migrate_data_has_block_migration(lm->md) &&
                   libvirt_live_migrate_data_block_migration(lm->md);
    lm->started_ms = clock_ms();
    lm->activation = NEW(struct activation);
    atomic_init(&lm->activation->n_refs, 1);
    lm->activation->node = node;
    lm->activation->move = moves_find(node->moves, instance_uuid(lm->inst));
    log_info(LOG_MIGRATE, "live migration to %s queued", a->dest);
    task_submit(node->tasks, LANE_MIGRATE, /* key= */ NULL, "live migration", live_task, live_free,
                lm);
    return NULL;
}

/* ---- Abort and force-complete ---- */

struct undo {
    struct node *node;
    struct rctx *ctx;
    struct instance *inst;
    int64_t migration_id;
    char *dest;
};

static void undo_free(void *arg)
{
    struct undo *u = arg;

    instance_free(u->inst);
    rctx_free(u->ctx);
    free(u->dest);
    free(u);
}

/* A move that never began: what the control plane and the check made goes away again (NV8). */
static struct err *undo_queued(struct undo *u)
{
    CLEANUP(migration_freep) struct migration *m = NULL;
    struct node *node = u->node;

    TRY(migration_get_by_id(node->conductor, u->ctx, u->migration_id, &m));
    revert_allocations(node, u->inst, m);
    err_ignore(network_teardown_on_host(node, u->inst, u->dest),
               "removing the destination's bindings");
    err_ignore(peer_drop_move_claim(node, u->ctx, u->dest, u->inst),
               "asking the destination to drop its claim");
    TRY(settle_instance(node, u->ctx, u->inst));
    TRY(live_save_migration(node, u->ctx, m, "cancelled"));
    notify_instance(node, u->ctx, u->inst, NOTIFY_LIVE_ABORT, NOTIFY_END);
    log_info(LOG_MIGRATE, "migration to %s cancelled while it was queued", u->dest);
    return NULL;
}

static void undo_task(void *arg)
{
    struct undo *u = arg;

    log_context_set(rctx_log_text(u->ctx), instance_uuid(u->inst));
    err_ignore(undo_queued(u), "undoing a queued migration");
    log_context_set(NULL, NULL);
    undo_free(u);
}

static struct err *no_move_to_abort(struct node *node, const struct rctx *ctx,
                                    struct args_live_migration_abort *a)
{
    CLEANUP(migration_freep) struct migration *m = NULL;
    CLEANUP(freep) char *id = str_printf("%lld", (long long)a->migration_id);

    TRY(migration_get_by_id(node->conductor, ctx, a->migration_id, &m));
    return err_new(ERR_INVALID_MIGRATION_STATE, "migration_id", id, "instance_uuid",
                   instance_uuid(a->instance), "state", migration_status(m), "method",
                   "abort live migration", NULL);
}

struct err *compute_live_migration_abort(struct node *node, const struct rctx *ctx,
                                         struct args_live_migration_abort *a,
                                         struct json_object **ret)
{
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, instance_uuid(a->instance));
    enum move_abort outcome = MOVE_ABORT_TOO_LATE;

    (void)ret;
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_ABORT, NOTIFY_START);
    if (mv) {
        TRY(move_abort(mv, &outcome));
    }
    if (outcome == MOVE_ABORT_TOO_LATE) {
        return no_move_to_abort(node, ctx, a);
    }
    log_info(LOG_MIGRATE, "abort of the migration to %s asked for, %s", move_dest(mv),
             outcome == MOVE_ABORT_DROPPED ? "which was still queued" : "which will roll back");
    if (outcome == MOVE_ABORT_DROPPED) {
        struct undo *u = NEW(struct undo);

        *u = (struct undo){.node = node,
                           .ctx = rctx_ref(ctx),
                           .inst = TAKE(a->instance),
                           .migration_id = a->migration_id,
                           .dest = str_dup(move_dest(mv))};
        moves_remove(node->moves, mv);
        task_submit(node->tasks, LANE_WORK, instance_uuid(u->inst), "undo a queued migration",
                    undo_task, undo_free, u);
    }
    return NULL;
}

struct err *compute_live_migration_force_complete(struct node *node, const struct rctx *ctx,
                                                  struct args_live_migration_force_complete *a,
                                                  struct json_object **ret)
{
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, instance_uuid(a->instance));

    (void)ret;
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_FORCE_COMPLETE, NOTIFY_START);
    if (!mv) {
        return err_new(ERR_NO_ACTIVE_MIGRATION, "instance_id", instance_uuid(a->instance), NULL);
    }
    TRY(move_force_complete(mv));
    log_info(LOG_MIGRATE, "the operator forces the migration to %s to complete", move_dest(mv));
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_FORCE_COMPLETE, NOTIFY_END);
    return NULL;
}

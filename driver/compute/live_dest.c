/* Live migration on its destination: prepare, take over, undo.
 *
 * Source: nova/compute/manager.py pre_live_migration, post_live_migration_at_destination,
 * rollback_live_migration_at_destination, drop_move_claim_at_destination, remove_volume_connection;
 * contract live-migration.md 4.4, 4.7. */

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/imagecache.h"
#include "vif/vhostwait.h"

#include <stdlib.h>
#include <string.h>

/* Nova retries a failed plug live_migration_retry_count times, a second apart. */
#define PLUG_RETRY_MS 1000

/* The switch is told of a vhost-user socket when QEMU has made it, or after this time in any case:
 * then it looks for itself, once a second. */
#define SOCKET_WAIT_MS 10000
#define SOCKET_LOOK_MS 250 /* Between looks whether we stop. */

static struct err *plug_all(struct node *node, const struct conf *conf, const struct vif_list *vifs,
                            const char *uuid)
{
    for (size_t i = 0; i < vifs->n; i++) {
        struct err *e = NULL;

        for (int64_t n = 0; n <= conf->dflt.live_migration_retry_count; n++) {
            e = vif_plug_ahead(&node->vif, &vifs->items[i], uuid);
            if (!e || err_is(e, ERR_VIF_PLUG) || cancel_sleep(node->stopping, PLUG_RETRY_MS)) {
                break;
            }
            log_warning(LOG_MIGRATE, "plugging port %s: %s, retrying in 1 s", vifs->items[i].id,
                        err_message(e));
            e = err_free(e);
        }
        TRY_CTX(e, "plugging port %s", vifs->items[i].id);
    }
    return NULL;
}

/* ---- The ports' sockets ---- */

struct socket_job {
    struct node *node;
    struct rctx *ctx;
    char *uuid;
    struct vif_list vifs;   /* Those with a socket of QEMU's, in the order of 'wait'. */
    struct vhostwait *wait; /* NULL: there is none, so the switch is told at once. */
};

static void connect_port(struct socket_job *j, size_t i)
{
    err_ignore(vif_connect(&j->node->vif, &j->vifs.items[i]), "telling the switch of a socket");
}

static void socket_job_free(void *arg)
{
    struct socket_job *j = arg;

    vhostwait_free(j->wait);
    vif_list_fini(&j->vifs);
    rctx_free(j->ctx);
    free(j->uuid);
    free(j);
}

static void connect_ports(void *arg)
{
    struct socket_job *j = arg;
    int64_t deadline_ms = clock_ms() + SOCKET_WAIT_MS;
    size_t n = 0;

    log_context_set(rctx_log_text(j->ctx), j->uuid);
    while (j->wait && n < j->vifs.n && clock_ms() < deadline_ms &&
           !cancel_is_set(j->node->stopping)) {
        int found = vhostwait_next(j->wait, MIN(deadline_ms, clock_ms() + SOCKET_LOOK_MS));

        if (found >= 0) {
            connect_port(j, (size_t)found);
            n++;
        }
    }
    for (size_t i = 0; n < j->vifs.n && i < j->vifs.n; i++) {
        connect_port(j, i); /* Those that have it stay as they are. */
    }
    log_context_set(NULL, NULL);
    socket_job_free(j);
}

/* Before libvirt starts QEMU. */
static struct err *watch_sockets(struct node *node, const struct rctx *ctx,
                                 const struct vif_list *vifs, const char *uuid)
{
    CLEANUP(strv_fini) struct strv paths = {0};
    CLEANUP(vhostwait_freep) struct vhostwait *wait = NULL;
    CLEANUP(vif_list_fini) struct vif_list awaited = {0};
    struct socket_job *j;

    awaited.items = NEW_ARRAY(struct vif, vifs->n);
    for (size_t i = 0; i < vifs->n; i++) {
        const char *path = vif_awaited_socket(&vifs->items[i]);

        if (path) {
            TRY(vif_from_json(vifs->items[i].json, &awaited.items[awaited.n]));
            awaited.n++;
            strv_add(&paths, path);
        }
    }
    if (awaited.n == 0) {
        return NULL;
    }
    err_ignore(vhostwait_new(&paths, &wait), "waiting for QEMU's sockets");
    j = NEW(struct socket_job);
    *j = (struct socket_job){.node = node,
                             .ctx = rctx_ref(ctx),
                             .uuid = str_dup(uuid),
                             .vifs = awaited,
                             .wait = TAKE(wait)};
    awaited = (struct vif_list){0};
    task_submit(node->tasks, LANE_WORK, /* key= */ NULL, "connect ports", connect_ports,
                socket_job_free, j);
    return NULL;
}

/* ---- Before the move ---- */

struct disk_job {
    struct imagecache_env env;
    const struct rctx *ctx;
    struct instance *inst;
};

static struct err *fetch_backing(const char *path, int64_t size, void *arg, const char **ret_format)
{
    const struct disk_job *j = arg;
    const char *image = instance_has_image_ref(j->inst) ? instance_image_ref(j->inst) : NULL;

    return imagecache_fetch(&j->env, j->ctx, image, path, size, ret_format);
}

/* A kernel or ramdisk of the server's own. */
static struct err *fetch_boot_file(const struct disk_job *j, const char *image, const char *name)
{
    CLEANUP(freep) char *dir = disk_instance_dir(j->env.conf, instance_uuid(j->inst));
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);

    return str_is_empty(image) ? NULL : imagecache_fetch_file(&j->env, j->ctx, image, path);
}

static struct err *make_disks(struct node *node, const struct rctx *ctx, const struct conf *conf,
                              struct instance *inst, const char *disk)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;
    struct disk_job j = {{conf, node->glance, node->stopping}, ctx, inst};

    if (disk) {
        TRY_CTX(jv_parse(disk, strlen(disk), &info), "reading the list of disks");
    } else {
        info = json_object_new_array();
    }
    TRY(disk_prepare(conf, instance_uuid(inst), info, fetch_backing, &j));
    if (instance_has_kernel_id(inst)) {
        TRY(fetch_boot_file(&j, instance_kernel_id(inst), "kernel"));
    }
    if (instance_has_ramdisk_id(inst)) {
        TRY(fetch_boot_file(&j, instance_ramdisk_id(inst), "ramdisk"));
    }
    return NULL;
}

static void set_result(const struct conf *conf, struct libvirt_live_migrate_data *md,
                       struct json_object *serial_ports)
{
    bool has_vifs =
        libvirt_live_migrate_data_has_vifs(md) && libvirt_live_migrate_data_n_vifs(md) > 0;

    libvirt_live_migrate_data_set_target_connect_addr(md,
                                                      conf->libvirt.live_migration_inbound_addr);
    libvirt_live_migrate_data_clear_supported_perf_events(md);
    libvirt_live_migrate_data_set_serial_listen_ports(md, serial_ports);
    libvirt_live_migrate_data_clear_bdms(md);
    libvirt_live_migrate_data_clear_old_vol_attachment_ids(md);
    libvirt_live_migrate_data_set_wait_for_vif_plugged(
        md, conf->compute.live_migration_wait_for_vif_plug && has_vifs);
}

/* What pre_live_migration makes, in this order; the caller undoes all of it after a failure. */
static struct err *prepare(struct node *node, const struct rctx *ctx, const struct conf *conf,
                           struct args_pre_live_migration *a, const struct vif_list *vifs,
                           bool owns_dir)
{
    if (owns_dir) {
        TRY(make_disks(node, ctx, conf, a->instance, a->disk));
    }
    struct json_object *serial_ports = NULL;

    TRY(spawn_serial_ports(node, ctx, a->instance, &serial_ports));
    set_result(conf, a->migrate_data, serial_ports);
    TRY(plug_all(node, conf, vifs, instance_uuid(a->instance)));
    TRY(watch_sockets(node, ctx, vifs, instance_uuid(a->instance)));
    return NULL;
}

/* ---- Notes in the ports' profiles: nobody waits for them ---- */

struct port_note {
    struct node *node;
    struct rctx *ctx;
    struct instance *inst;
};

static void port_note_free(void *arg)
{
    struct port_note *p = arg;

    instance_free(p->inst);
    rctx_free(p->ctx);
    free(p);
}

static bool still_comes(const struct port_note *p)
{
    bool owns_dir;
    struct err *ended = incoming_read(p->node, instance_uuid(p->inst), &owns_dir);
    bool comes = !ended;

    err_free(ended);
    return comes;
}

static void note_coming(void *arg)
{
    struct port_note *p = arg;

    log_context_set(rctx_log_text(p->ctx), instance_uuid(p->inst));
    if (still_comes(p)) {
        err_ignore(network_set_migrating_to(p->node, p->inst, p->node->host),
                   "noting in the ports where they go");
    }
    if (!still_comes(p)) {
        /* The move ended meanwhile, and who ended it may have looked before we wrote. */
        err_ignore(network_clear_migrating_to(p->node, p->inst),
                   "taking the note out of the ports");
    }
    log_context_set(NULL, NULL);
    port_note_free(p);
}

static void note_arrived(void *arg)
{
    struct port_note *p = arg;
    struct vif_list vifs = {0};

    log_context_set(rctx_log_text(p->ctx), instance_uuid(p->inst));
    err_ignore(network_clear_migrating_to(p->node, p->inst), "taking the note out of the ports");
    err_ignore(network_refresh(p->node, p->ctx, p->inst, &vifs),
               "reading the network after the move");
    vif_list_fini(&vifs);
    log_context_set(NULL, NULL);
    port_note_free(p);
}

static void submit_note(struct node *node, const struct rctx *ctx, struct instance *inst,
                        const char *key, task_fn fn)
{
    struct port_note *p = NEW(struct port_note);

    *p = (struct port_note){.node = node, .ctx = rctx_ref(ctx), .inst = instance_dup(inst)};
    task_submit(node->tasks, LANE_WORK, key, "note in ports", fn, port_note_free, p);
}

struct err *compute_pre_live_migration(struct node *node, const struct rctx *ctx,
                                       struct args_pre_live_migration *a, struct json_object **ret)
{
    CLEANUP(vif_list_fini) struct vif_list cached = {0}, vifs = {0};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    bool owns_dir = !libvirt_live_migrate_data_has_is_shared_instance_path(a->migrate_data) ||
                    !libvirt_live_migrate_data_is_shared_instance_path(a->migrate_data);
    CLEANUP(freep) char *dir = disk_instance_dir(conf, instance_uuid(a->instance));
    int64_t start_ms = clock_ms();

    TRY(live_check_group(node, ctx, a->instance));
    TRY(network_cached_vifs(a->instance, &cached));
    TRY(network_dest_vifs(a->migrate_data, &cached, &vifs));
    if (owns_dir && disk_probe_exists(conf, instance_uuid(a->instance))) {
        /* Somebody else's: not ours to remove when we fail. */
        return err_new(ERR_DESTINATION_DISK_EXISTS, "path", dir, NULL);
    }
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_PRE, NOTIFY_START);
    TRY(incoming_begin(node, instance_uuid(a->instance), instance_host(a->instance), owns_dir));
    /* Before the plug: neutron's agent looks at a new port once, and only wires it if the note is
     * there; else it comes back two seconds later. */
    submit_note(node, ctx, a->instance, /* key= */ NULL, note_coming);
    struct err *e = prepare(node, ctx, conf, a, &vifs, owns_dir);

    if (e) {
        live_clean_destination(node, ctx, a->instance, &vifs, owns_dir);
        return err_context(e, "preparing %s", node->host);
    }
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_PRE, NOTIFY_END);
    log_info(LOG_MIGRATE, "ready for the server from %s: %zu ports, %s storage, after %lld ms",
             instance_host(a->instance), vifs.n, owns_dir ? "local" : "shared",
             (long long)(clock_ms() - start_ms));
    *ret = libvirt_live_migrate_data_to_json(a->migrate_data);
    return NULL;
}

/* ---- After the move ---- */

/* The record says from now on that the server is here. */
static struct err *take_over(struct node *node, const struct rctx *ctx, struct instance *inst,
                             int64_t power_state)
{
    err_ignore(live_apply_migration_context(node, ctx, inst), "applying the migration context");
    err_ignore(instance_drop_migration_context(node->conductor, ctx, inst),
               "dropping the migration context");
    instance_set_host(inst, node->host);
    instance_set_node(inst, tracker_nodename(node->tracker));
    instance_set_power_state(inst, power_state);
    instance_set_task_state(inst, NULL);
    instance_set_progress(inst, 0);
    return live_save_instance(node, ctx, inst, live_expect_migrating);
}

static void announce(struct node *node, const struct conf *conf, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *answer = NULL;
    static const char command[] =
        "{\"execute\":\"announce-self\",\"arguments\":{\"initial\":50,\"max\":550,\"rounds\":5,"
        "\"step\":100}}";

    if (!conf->workarounds.enable_qemu_monitor_announce_self) {
        return;
    }
    CLEANUP(err_freep) struct err *e = lv_domain_by_uuid(node->lv, uuid, &domain);

    if (!e) {
        e = lv_monitor_command(domain, command, &answer);
    }
    if (e) {
        log_warning(LOG_MIGRATE, "asking QEMU to announce the server: %s, leaving it to QEMU's own",
                    err_message(e));
    }
}

static bool is_recorded_here(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    static const char *const no_attrs[] = {NULL};
    CLEANUP(instance_freep) struct instance *now = NULL;
    struct err *e = instance_get(node->conductor, ctx, instance_uuid(inst), no_attrs, &now);
    bool is_here = !e && str_eq(instance_host(now), node->host);

    err_ignore(e, "looking where the server is recorded");
    return is_here;
}

/* Neutron's agent deletes the port of a binding that was deactivated here a while ago, even if the
 * server is on its way back and we have plugged it anew: a port that is right is not touched. */
static struct err *plug_again(struct node *node, struct instance *inst)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    TRY(network_cached_vifs(inst, &vifs));
    for (size_t i = 0; i < vifs.n; i++) {
        TRY(vif_plug(&node->vif, &vifs.items[i], instance_uuid(inst)));
    }
    return NULL;
}

struct err *
compute_post_live_migration_at_destination(struct node *node, const struct rctx *ctx,
                                           struct args_post_live_migration_at_destination *a,
                                           struct json_object **ret)
{
    struct instance *inst = a->instance;
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep) char *source = str_dup(instance_host(inst));
    int64_t power_state = POWER_NOSTATE;

    (void)ret;
    announce(node, conf, instance_uuid(inst));
    notify_instance(node, ctx, inst, NOTIFY_LIVE_POST_DEST, NOTIFY_START);
    struct err *power = lifecycle_power_state(node, instance_uuid(inst), &power_state);

    if (power) {
        instance_set_vm_state(inst, "error");
        err_ignore(power, "looking for the domain");
    }
    /* The guest runs here: the record must say so whatever else fails (P5). */
    struct err *taken = take_over(node, ctx, inst, power_state);

    if (err_is(taken, ERR_UNEXPECTED_TASK_STATE) && is_recorded_here(node, ctx, inst)) {
        /* We came back after the source had given up on us and written the record itself. */
        taken = err_free(taken);
    }
    TRY_CTX(taken, "taking over %s", instance_uuid(inst));
    incoming_end(node, instance_uuid(inst));
    tracker_instance_changed(node->tracker, inst, /* is_here= */ true);
    err_ignore(network_arrive(node, ctx, inst, source), "taking the ports over");
    err_ignore(plug_again(node, inst), "looking after the ports");
    submit_note(node, ctx, inst, instance_uuid(inst), note_arrived);
    notify_instance(node, ctx, inst, NOTIFY_LIVE_POST_DEST, NOTIFY_END);
    notify_scheduler_update(node, ctx, inst);
    log_info(LOG_MIGRATE, "server has come here from %s", source);
    return NULL;
}

/* ---- Undo ---- */

/* A domain that is left of the move.  One that runs is the source's word against libvirt's: the
 * source has looked at its own before it asked for the rollback, so this one goes. */
static struct err *remove_domain(struct node *node, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(err_freep) struct err *e = lv_domain_by_uuid(node->lv, uuid, &domain);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return NULL;
    }
    TRY(TAKE(e));
    TRY(lv_domain_destroy(domain));
    e = lv_domain_undefine(domain);
    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return NULL; /* It was transient. */
    }
    return TAKE(e);
}

void live_clean_destination(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const struct vif_list *vifs, bool destroy_disks)
{
    const char *uuid = instance_uuid(inst);
    const struct conf *conf = conf_get(node->conf);

    if (str_eq(instance_host(inst), node->host)) {
        log_error(LOG_MIGRATE, "asked to clean up after a server that is ours: leaving it alone");
        conf_put(conf);
        return;
    }
    err_ignore(remove_domain(node, uuid), "removing the domain of a failed move");
    for (size_t i = 0; i < vifs->n; i++) {
        err_ignore(vif_unplug(&node->vif, &vifs->items[i], uuid),
                   "unplugging a port of a failed move");
    }
    if (destroy_disks) {
        err_ignore(disk_remove(conf, uuid), "removing the disks of a failed move");
    }
    conf_put(conf);
    err_ignore(tracker_drop_move(node->tracker, ctx, uuid), "dropping the claim of a failed move");
    err_ignore(network_teardown_on_host(node, inst, node->host),
               "removing the bindings of a failed move");
    incoming_end(node, uuid);
}

struct err *compute_rollback_live_migration_at_destination(
    struct node *node, const struct rctx *ctx,
    struct args_rollback_live_migration_at_destination *a, struct json_object **ret)
{
    CLEANUP(vif_list_fini) struct vif_list cached = {0}, vifs = {0};
    struct libvirt_live_migrate_data *md = a->migrate_data;
    bool is_shared_path = libvirt_live_migrate_data_has_is_shared_instance_path(md) &&
                          libvirt_live_migrate_data_is_shared_instance_path(md);
    bool owns_dir = !is_shared_path;

    (void)ret;
    if (str_eq(instance_host(a->instance), node->host)) {
        return err_new(ERR_INSTANCE_INVALID_STATE, "instance_uuid", instance_uuid(a->instance),
                       "attr", "host", "state", node->host, "method",
                       "roll a live migration back at its destination", NULL);
    }
    CLEANUP(err_freep)
    struct err *note = incoming_read(node, instance_uuid(a->instance), &owns_dir);

    if (note) {
        owns_dir = a->destroy_disks && !is_shared_path; /* No note of ours: the source knows. */
    }
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_ROLLBACK_DEST, NOTIFY_START);
    TRY(network_cached_vifs(a->instance, &cached));
    TRY(network_dest_vifs(md, &cached, &vifs));
    live_clean_destination(node, ctx, a->instance, &vifs, owns_dir);
    notify_instance(node, ctx, a->instance, NOTIFY_LIVE_ROLLBACK_DEST, NOTIFY_END);
    log_info(LOG_MIGRATE, "the move from %s is undone here", instance_host(a->instance));
    return NULL;
}

struct err *compute_drop_move_claim_at_destination(struct node *node, const struct rctx *ctx,
                                                   struct args_drop_move_claim_at_destination *a,
                                                   struct json_object **ret)
{
    (void)ret;
    return tracker_drop_move(node->tracker, ctx, instance_uuid(a->instance));
}

/* No volume was connected here: servers with volumes are refused in the check. */
struct err *compute_remove_volume_connection(struct node *node, const struct rctx *ctx,
                                             struct args_remove_volume_connection *a,
                                             struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    log_info(LOG_MIGRATE, "volume %s is not connected here: nothing to remove", a->volume_id);
    return NULL;
}

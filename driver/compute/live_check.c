/* Live migration, before anything moves: the destination's and the source's checks.
 *
 * Source: nova/compute/manager.py check_can_live_migrate_destination, _source; the libvirt driver's
 * methods of the same names; contract live-migration.md 4.3. */

#include "driver/compute/live.h"

#include "base/log.h"
#include "driver/compute/group.h"
#include "driver/compute/network.h"
#include "driver/compute/peer.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/host.h"

#include <string.h>

static struct err *pre_check(const char *fmt, ...) PRINTF(1, 2) MUST_CHECK;

static struct err *pre_check(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    CLEANUP(freep) char *reason = str_vprintf(fmt, ap);

    va_end(ap);
    return err_new(ERR_MIGRATION_PRE_CHECK, "reason", reason, NULL);
}

/* Any error as the one that lets conductor try the next host. */
static struct err *as_pre_check(struct err *e)
{
    if (!e || err_is(e, ERR_MIGRATION_PRE_CHECK)) {
        return e;
    }
    struct err *wrapped = pre_check("%s", err_message(e));

    err_free(e);
    return wrapped;
}

struct err *live_check_group(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    struct err *e = group_check(node, ctx, inst);

    if (!err_is(e, ERR_GROUP_AFFINITY_VIOLATION)) {
        return e;
    }
    struct err *refused =
        pre_check("Failed to validate instance group policy due to: Build of instance %s was "
                  "re-scheduled: %s",
                  instance_uuid(inst), err_message(e));

    err_free(e);
    return refused;
}

/* ---- Destination ---- */

/* Whether the server's topology gives it hugepages, which are shared memory. */
static bool has_shared_memory(struct instance *inst)
{
    struct instance_numa_topology *numa =
        instance_has_numa_topology(inst) ? instance_numa_topology(inst) : NULL;

    if (!numa || !instance_numa_topology_n_cells(numa)) {
        return false;
    }
    for (size_t i = 0; i < instance_numa_topology_n_cells(numa); i++) {
        struct instance_numa_cell *cell = instance_numa_topology_cells_at(numa, i);

        if (!instance_numa_cell_has_pagesize(cell) || instance_numa_cell_pagesize(cell) <= 4) {
            return false;
        }
    }
    return true;
}

/* A vhost-user port needs a switch with DPDK and a guest whose memory the switch can map. */
static struct err *check_ports(struct node *node, const struct conf *conf, struct instance *inst,
                               const struct vif_list *vifs)
{
    for (size_t i = 0; i < vifs->n; i++) {
        const struct vif *vif = &vifs->items[i];
        CLEANUP(err_freep) struct err *e = vif_check(&node->vif, vif, node->host);

        if (e) {
            return pre_check("%s", err_message(e));
        }
        if (str_eq(vif->type, "vhostuser") && !conf->libvirt.file_backed_memory &&
            !has_shared_memory(inst)) {
            return pre_check(
                "Port %s of server %s is a vhost-user port, but the server has no shared "
                "hugepages (flavor extra spec hw:mem_page_size), so no switch can map "
                "its memory; it cannot be live-migrated to %s",
                vif->id, instance_uuid(inst), node->host);
        }
    }
    return NULL;
}

/* Volumes come with the block-storage service; until then a server that has one stays where it is.
 */
static struct err *check_volumes(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;

    TRY(bdms_by_instance(node->conductor, ctx, instance_uuid(inst), &bdms));
    for (size_t i = 0; i < block_device_mapping_list_n(bdms); i++) {
        struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);

        if (str_eq(block_device_mapping_destination_type(bdm), "volume")) {
            return pre_check(
                "Server %s has volume %s attached, which the compute service on %s does not "
                "move yet",
                instance_uuid(inst), block_device_mapping_volume_id(bdm), node->host);
        }
    }
    return NULL;
}

static struct err *check_cpu(struct node *node, const struct rctx *ctx, const struct conf *conf,
                             struct instance *inst)
{
    CLEANUP(virt_cpu_model_freep) struct virt_cpu_model *model = NULL;
    CLEANUP(compute_node_freep) struct compute_node *source = NULL;
    CLEANUP(freep) char *xml = NULL;

    if (conf->workarounds.skip_cpu_compare_on_dest || !str_eq(conf->libvirt.virt_type, "kvm")) {
        return NULL;
    }
    TRY(vcpu_model_by_instance(node->conductor, ctx, instance_uuid(inst), &model));
    if (model && virt_cpu_model_has_model(model) && virt_cpu_model_model(model)) {
        TRY(host_cpu_model_xml(model, &xml));
    } else {
        TRY(compute_node_get_first(node->conductor, ctx, instance_host(inst), &source));
        TRY(host_cpu_xml(compute_node_cpu_info(source), &xml));
    }
    return host_compare_cpu(node->lv, xml);
}

static int64_t disk_available_mb(struct node *node, const struct conf *conf, bool over_commit)
{
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(node->tracker);
    int64_t gb = 0;

    if (cn && over_commit && compute_node_has_free_disk_gb(cn)) {
        gb = compute_node_free_disk_gb(cn);
    } else if (cn && !over_commit && compute_node_has_disk_available_least(cn)) {
        gb = compute_node_disk_available_least(cn);
    }
    return gb * 1024 - conf->dflt.reserved_host_disk_mb;
}

static void set_listen_addresses(const struct conf *conf, struct libvirt_live_migrate_data *md)
{
    libvirt_live_migrate_data_set_graphics_listen_addr_vnc(md, conf->vnc.server_listen);
    libvirt_live_migrate_data_set_graphics_listen_addr_spice(md, conf->spice.server_listen);
    libvirt_live_migrate_data_set_serial_listen_addr(
        md, conf->serial_console.enabled ? conf->serial_console.proxyclient_address : NULL);
}

static void add_vif_skeletons(struct libvirt_live_migrate_data *md, const struct vif_list *vifs)
{
    libvirt_live_migrate_data_clear_vifs(md);
    for (size_t i = 0; i < vifs->n; i++) {
        struct vif_migrate_data *mv = vif_migrate_data_new();
        CLEANUP(freep) char *source = jv_text(vifs->items[i].json);

        vif_migrate_data_set_port_id(mv, vifs->items[i].id);
        vif_migrate_data_set_profile_json(mv, "{\"os_vif_delegation\": true}");
        vif_migrate_data_set_source_vif(mv, source);
        libvirt_live_migrate_data_vifs_add(md, mv);
    }
}

static struct err *dest_data(struct node *node, const struct conf *conf,
                             const struct args_check_can_live_migrate_destination *a,
                             const struct vif_list *vifs, struct libvirt_live_migrate_data **ret)
{
    CLEANUP(libvirt_live_migrate_data_freep)
    struct libvirt_live_migrate_data *md = libvirt_live_migrate_data_new();
    CLEANUP(freep) char *probe = NULL;
    bool has_bindings;

    TRY(neutron_has_extension(node->neutron, "binding-extended", &has_bindings));
    TRY_CTX(disk_probe_make(conf, &probe), "testing for shared storage");
    libvirt_live_migrate_data_set_filename(md, probe);
    libvirt_live_migrate_data_set_image_type(md, conf->libvirt.images_type);
    set_listen_addresses(conf, md);
    libvirt_live_migrate_data_set_disk_available_mb(
        md, disk_available_mb(node, conf, a->has_disk_over_commit && a->disk_over_commit));
    if (a->has_block_migration) {
        libvirt_live_migrate_data_set_block_migration(md, a->block_migration);
    }
    if (a->has_disk_over_commit) {
        libvirt_live_migrate_data_set_disk_over_commit(md, a->disk_over_commit);
    }
    libvirt_live_migrate_data_set_dst_wants_file_backed_memory(
        md, conf->libvirt.file_backed_memory > 0);
    if (instance_has_numa_topology(a->instance) && instance_numa_topology(a->instance)) {
        libvirt_live_migrate_data_set_dst_supports_numa_live_migration(md, true);
    }
    if (has_bindings) {
        add_vif_skeletons(md, vifs);
    }
    *ret = TAKE(md);
    return NULL;
}

/* The claim, where both ends can: room in cells, pages and pins is held from now on. */
static struct err *claim(struct node *node, const struct rctx *ctx,
                         struct args_check_can_live_migrate_destination *a,
                         struct libvirt_live_migrate_data *md)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = NULL;

    if (!a->migration || !libvirt_live_migrate_data_has_src_supports_numa_live_migration(md) ||
        !libvirt_live_migrate_data_src_supports_numa_live_migration(md)) {
        return NULL;
    }
    TRY(tracker_claim_move(node->tracker, ctx, a->instance, a->migration, a->limits, &fitted));
    struct err *e = fitted ? tracker_numa_info(node->tracker, a->instance, fitted, &info) : NULL;

    if (e) {
        err_ignore(tracker_drop_move(node->tracker, ctx, instance_uuid(a->instance)),
                   "dropping the claim again");
        return e;
    }
    if (info) {
        libvirt_live_migrate_data_set_dst_numa_info(md, TAKE(info));
    }
    return NULL;
}

static struct err *ask_source_and_claim(struct node *node, const struct rctx *ctx,
                                        struct args_check_can_live_migrate_destination *a,
                                        struct libvirt_live_migrate_data *mine,
                                        struct libvirt_live_migrate_data **ret)
{
    CLEANUP(libvirt_live_migrate_data_freep) struct libvirt_live_migrate_data *md = NULL;

    TRY(peer_check_source(node, ctx, instance_host(a->instance), a->instance, mine, &md));
    TRY(as_pre_check(claim(node, ctx, a, md)));
    *ret = TAKE(md);
    return NULL;
}

struct err *
compute_check_can_live_migrate_destination(struct node *node, const struct rctx *ctx,
                                           struct args_check_can_live_migrate_destination *a,
                                           struct json_object **ret)
{
    CLEANUP(libvirt_live_migrate_data_freep) struct libvirt_live_migrate_data *mine = NULL;
    CLEANUP(libvirt_live_migrate_data_freep) struct libvirt_live_migrate_data *md = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    if (str_eq(instance_host(a->instance), node->host)) {
        return pre_check("Server %s is on %s already", instance_uuid(a->instance), node->host);
    }
    TRY(as_pre_check(live_check_group(node, ctx, a->instance)));
    TRY(as_pre_check(network_cached_vifs(a->instance, &vifs)));
    TRY(check_ports(node, conf, a->instance, &vifs));
    TRY(as_pre_check(check_volumes(node, ctx, a->instance)));
    TRY(as_pre_check(check_cpu(node, ctx, conf, a->instance)));
    TRY(as_pre_check(dest_data(node, conf, a, &vifs, &mine)));
    struct err *e = ask_source_and_claim(node, ctx, a, mine, &md);

    disk_probe_remove(conf, libvirt_live_migrate_data_filename(mine));
    TRY(e);
    log_info(LOG_MIGRATE, "server can come here from %s", instance_host(a->instance));
    *ret = libvirt_live_migrate_data_to_json(md);
    return NULL;
}

/* ---- Source ---- */

struct err *live_guest_info(struct node *node, const char *uuid, struct lv_domain **ret_domain,
                            struct guest_info *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_by_uuid(node->lv, uuid, &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, ret));
    *ret_domain = TAKE(domain);
    return NULL;
}

struct err *live_volume_serials(struct node *node, const struct rctx *ctx, const char *uuid,
                                struct strv *ret, bool *ret_is_volume_backed)
{
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;

    *ret_is_volume_backed = false;
    TRY(bdms_by_instance(node->conductor, ctx, uuid, &bdms));
    for (size_t i = 0; i < block_device_mapping_list_n(bdms); i++) {
        struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);

        if (!str_eq(block_device_mapping_destination_type(bdm), "volume")) {
            continue;
        }
        strv_add(ret, block_device_mapping_volume_id(bdm));
        *ret_is_volume_backed |= block_device_mapping_has_boot_index(bdm) &&
                                 !block_device_mapping_isnull_boot_index(bdm) &&
                                 block_device_mapping_boot_index(bdm) == 0;
    }
    return NULL;
}

/* The switch of the destination can only serve a guest whose memory is shared, whatever its flavor
 * says today. */
static struct err *check_guest_memory(struct node *node, struct instance *inst,
                                      const struct guest_info *guest)
{
    for (size_t i = 0; i < guest->n_interfaces; i++) {
        const struct guest_interface *nic = &guest->interfaces[i];

        if (str_eq(nic->type, "vhostuser") && !guest->has_shared_memory) {
            return pre_check(
                "Server %s on %s has a vhost-user interface (%s) but its memory is not "
                "shared with the switch: it needs hugepages or file-backed memory",
                instance_uuid(inst), node->host, nic->mac);
        }
    }
    return NULL;
}

static struct err *check_disk_room(struct instance *inst, struct lv_domain *domain,
                                   const struct guest_info *guest, const struct strv *volumes,
                                   struct libvirt_live_migrate_data *md)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;
    int64_t available = 0, need = 0;

    if (!libvirt_live_migrate_data_has_disk_over_commit(md) ||
        !libvirt_live_migrate_data_has_disk_available_mb(md)) {
        return NULL;
    }
    TRY(disk_info(domain, guest, volumes, &info));
    const char *key =
        libvirt_live_migrate_data_disk_over_commit(md) ? "disk_size" : "virt_disk_size";

    for (size_t i = 0; i < json_object_array_length(info); i++) {
        need += json_object_get_int64(jv_get(json_object_array_get_idx(info, i), key));
    }
    available = libvirt_live_migrate_data_disk_available_mb(md) << 20;
    if (available < need) {
        return pre_check(
            "Unable to migrate %s: Disk of instance is too large(available on destination "
            "host:%lld < need:%lld)",
            instance_uuid(inst), (long long)available, (long long)need);
    }
    return NULL;
}

static struct err *check_storage(struct node *node, struct instance *inst, struct lv_domain *domain,
                                 const struct guest_info *guest, const struct strv *volumes,
                                 struct libvirt_live_migrate_data *md)
{
    bool is_shared = libvirt_live_migrate_data_is_shared_instance_path(md) ||
                     libvirt_live_migrate_data_is_shared_block_storage(md);

    if (!libvirt_live_migrate_data_has_block_migration(md)) {
        libvirt_live_migrate_data_set_block_migration(md, !is_shared);
    }
    if (libvirt_live_migrate_data_block_migration(md)) {
        if (is_shared) {
            return err_new(ERR_INVALID_LOCAL_STORAGE, "path", node->host, "reason",
                           "Block migration can not be used with shared storage.", NULL);
        }
        return check_disk_room(inst, domain, guest, volumes, md);
    }
    if (!is_shared) {
        return err_new(ERR_INVALID_SHARED_STORAGE, "path", node->host, "reason",
                       "Shared storage live-migration requires either shared storage or "
                       "boot-from-volume with no local disks.",
                       NULL);
    }
    return NULL;
}

struct err *compute_check_can_live_migrate_source(struct node *node, const struct rctx *ctx,
                                                  struct args_check_can_live_migrate_source *a,
                                                  struct json_object **ret)
{
    struct libvirt_live_migrate_data *md = a->dest_check_data;
    struct instance *inst = a->instance;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(strv_fini) struct strv volumes = {0}, targets = {0};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    uint64_t local_bytes;
    bool is_volume_backed;

    TRY(live_guest_info(node, instance_uuid(inst), &domain, &guest));
    TRY(check_guest_memory(node, inst, &guest));
    TRY(live_volume_serials(node, ctx, instance_uuid(inst), &volumes, &is_volume_backed));
    TRY(disk_copy_targets(&guest, &volumes, &targets, &local_bytes));
    libvirt_live_migrate_data_set_is_volume_backed(md, is_volume_backed);
    bool is_shared_path = libvirt_live_migrate_data_has_filename(md) &&
                          disk_probe_exists(conf, libvirt_live_migrate_data_filename(md));

    libvirt_live_migrate_data_set_is_shared_instance_path(md, is_shared_path);
    libvirt_live_migrate_data_set_is_shared_block_storage(
        md, is_shared_path || (is_volume_backed && targets.n == 0));
    TRY(check_storage(node, inst, domain, &guest, &volumes, md));
    libvirt_live_migrate_data_set_instance_relative_path(md, instance_uuid(inst));
    if (instance_has_numa_topology(inst) && instance_numa_topology(inst) &&
        libvirt_live_migrate_data_has_dst_supports_numa_live_migration(md) &&
        libvirt_live_migrate_data_dst_supports_numa_live_migration(md)) {
        libvirt_live_migrate_data_set_src_supports_numa_live_migration(md, true);
    }
    *ret = libvirt_live_migrate_data_to_json(md);
    return NULL;
}

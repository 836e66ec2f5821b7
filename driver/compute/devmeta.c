#include "driver/compute/devmeta.h"

#include "driver/compute/network.h"

#include <stdlib.h>

static const struct virtual_interface *row_of(const struct virtual_interface_list *rows,
                                              const char *mac)
{
    for (size_t i = 0; i < virtual_interface_list_n(rows); i++) {
        const struct virtual_interface *row = virtual_interface_list_at(rows, i);

        if (virtual_interface_has_address(row) && str_ieq(virtual_interface_address(row), mac)) {
            return row;
        }
    }
    return NULL;
}

static const struct vif *vif_of(const struct vif_list *vifs, const char *mac)
{
    for (size_t i = 0; i < vifs->n; i++) {
        if (str_ieq(vifs->items[i].address, mac)) {
            return &vifs->items[i];
        }
    }
    return NULL;
}

/* oslo's bool_from_string, of a word in a profile. */
static bool is_trusted(const struct vif *vif)
{
    static const char *const words[] = {"1", "t", "true", "on", "y", "yes"};
    const char *text =
        vif ? json_object_get_string(jv_get(jv_get(vif->json, "profile"), "trusted")) : NULL;

    for (size_t i = 0; text && i < ARRAY_SIZE(words); i++) {
        if (str_ieq(text, words[i])) {
            return true;
        }
    }
    return false;
}

static struct device_bus *pci_bus(const char *address)
{
    struct pci_device_bus *bus = pci_device_bus_new();

    pci_device_bus_set_address(bus, address);
    return (struct device_bus *)pci_device_bus_ovo(bus);
}

/* A bus without an address: Nova tells that of no other bus than PCI. */
static struct device_bus *disk_bus(const struct guest_disk *disk)
{
    if (disk->address) {
        return pci_bus(disk->address);
    }
    if (str_eq(disk->bus, "scsi")) {
        return (struct device_bus *)scsi_device_bus_ovo(scsi_device_bus_new());
    }
    if (str_eq(disk->bus, "ide")) {
        return (struct device_bus *)ide_device_bus_ovo(ide_device_bus_new());
    }
    if (str_eq(disk->bus, "usb")) {
        return (struct device_bus *)usb_device_bus_ovo(usb_device_bus_new());
    }
    return NULL;
}

/* NULL: nothing to tell of it. */
static struct device_metadata *interface_of(const struct guest_interface *nic,
                                            const struct vif_list *vifs,
                                            const struct virtual_interface_list *rows)
{
    const struct virtual_interface *row = nic->mac ? row_of(rows, nic->mac) : NULL;
    const struct vif *vif = nic->mac ? vif_of(vifs, nic->mac) : NULL;
    const char *tag = row && virtual_interface_has_tag(row) ? virtual_interface_tag(row) : NULL;
    int64_t vlan = vif ? vif->vlan : 0;

    if (!row || (str_is_empty(tag) && !vlan)) {
        return NULL;
    }
    struct network_interface_metadata *m = network_interface_metadata_new();

    network_interface_metadata_set_mac(m, virtual_interface_address(row));
    if (!str_is_empty(tag)) {
        network_interface_metadata_tags_add(m, tag);
    }
    if (nic->address) {
        network_interface_metadata_set_bus(m, pci_bus(nic->address));
    }
    if (vlan) {
        network_interface_metadata_set_vlan(m, vlan);
    }
    network_interface_metadata_set_vf_trusted(m, is_trusted(vif));
    return (struct device_metadata *)network_interface_metadata_ovo(m);
}

static const char *device_name(const struct block_device_mapping *bdm)
{
    const char *name =
        block_device_mapping_has_device_name(bdm) ? block_device_mapping_device_name(bdm) : NULL;

    return name && str_starts(name, "/dev/") ? name + 5 : name;
}

static struct device_metadata *disk_of(const struct guest_disk *disk,
                                       const struct block_device_mapping_list *bdms)
{
    for (size_t i = 0; i < block_device_mapping_list_n(bdms); i++) {
        const struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);
        const char *tag = block_device_mapping_has_tag(bdm) ? block_device_mapping_tag(bdm) : NULL;
        struct disk_metadata *m;
        struct device_bus *bus;

        if (str_is_empty(tag) || !disk->target || !str_eq(device_name(bdm), disk->target)) {
            continue;
        }
        m = disk_metadata_new();
        bus = disk_bus(disk);
        disk_metadata_tags_add(m, tag);
        disk_metadata_set_serial(m, block_device_mapping_has_volume_id(bdm)
                                        ? block_device_mapping_volume_id(bdm)
                                        : NULL);
        if (bus) {
            disk_metadata_set_bus(m, bus);
        }
        return (struct device_metadata *)disk_metadata_ovo(m);
    }
    return NULL;
}

void devmeta_make(const struct guest_info *guest, const struct vif_list *vifs,
                  const struct virtual_interface_list *rows,
                  const struct block_device_mapping_list *bdms,
                  struct instance_device_metadata **ret)
{
    CLEANUP(instance_device_metadata_freep)
    struct instance_device_metadata *list = instance_device_metadata_new();
    struct device_metadata *device;

    for (size_t i = 0; i < guest->n_disks; i++) {
        device = disk_of(&guest->disks[i], bdms);
        if (device) {
            instance_device_metadata_devices_add(list, device);
        }
    }
    for (size_t i = 0; i < guest->n_interfaces; i++) {
        device = interface_of(&guest->interfaces[i], vifs, rows);
        if (device) {
            instance_device_metadata_devices_add(list, device);
        }
    }
    *ret = instance_device_metadata_has_devices(list) ? TAKE(list) : NULL;
}

struct err *devmeta_update(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(virtual_interface_list_freep) struct virtual_interface_list *rows = NULL;
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;
    struct instance_device_metadata *metadata = NULL;

    TRY(lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &guest));
    TRY(network_cached_vifs(inst, &vifs));
    TRY(virtual_interfaces_by_instance(node->conductor, ctx, instance_uuid(inst), &rows));
    TRY(bdms_by_instance(node->conductor, ctx, instance_uuid(inst), &bdms));
    devmeta_make(&guest, &vifs, rows, bdms, &metadata);
    instance_set_device_metadata(inst, metadata);
    return NULL;
}

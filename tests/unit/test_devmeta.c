/* link: driver_compute lv_fake */
#include "driver/compute/devmeta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const char domain[] =
    "<domain><devices>"
    "<disk type='file' device='disk'><target dev='vda' bus='virtio'/>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/></disk>"
    "<disk type='file' device='disk'><target dev='sda' bus='scsi'/>"
    "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
    "<disk type='file' device='disk'><target dev='vdb' bus='virtio'/></disk>"
    "<interface type='ethernet'><mac address='fa:16:3e:00:00:01'/><alias name='net0'/>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/></interface>"
    "<interface type='ethernet'><mac address='FA:16:3E:00:00:02'/></interface>"
    "<interface type='ethernet'><mac address='fa:16:3e:00:00:03'/></interface>"
    "</devices></domain>";

static void add_row(struct virtual_interface_list *rows, const char *mac, const char *tag)
{
    struct virtual_interface *row = virtual_interface_new();

    virtual_interface_set_address(row, mac);
    virtual_interface_set_tag(row, tag);
    virtual_interface_list_add(rows, row);
}

static void add_bdm(struct block_device_mapping_list *bdms, const char *device, const char *tag,
                    const char *volume)
{
    struct block_device_mapping *bdm = block_device_mapping_new();

    block_device_mapping_set_device_name(bdm, device);
    block_device_mapping_set_tag(bdm, tag);
    block_device_mapping_set_volume_id(bdm, volume);
    block_device_mapping_list_add(bdms, bdm);
}

static char *made_of(const char *vifs_text, const struct virtual_interface_list *rows,
                     const struct block_device_mapping_list *bdms)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(instance_device_metadata_freep) struct instance_device_metadata *metadata = NULL;
    CLEANUP(jv_putp) struct json_object *devices = json_object_new_array();

    assert_null(guest_info_parse(domain, &guest));
    assert_null(vif_list_parse(vifs_text, &vifs));
    devmeta_make(&guest, &vifs, rows, bdms, &metadata);
    for (size_t i = 0; metadata && i < instance_device_metadata_n_devices(metadata); i++) {
        struct json_object *wire =
            device_metadata_to_json(instance_device_metadata_devices_at(metadata, i));
        struct json_object *data = jv_get(wire, "nova_object.data"), *bus = jv_get(data, "bus");

        if (bus) {
            jv_add(data, "bus", json_object_get(jv_get(bus, "nova_object.data")));
        }
        jv_add_str(data, "is", json_object_get_string(jv_get(wire, "nova_object.name")));
        json_object_array_add(devices, json_object_get(data));
        json_object_put(wire);
    }
    return jv_text(devices);
}

static void assert_devices(const char *expected, char *made)
{
    CLEANUP(freep) char *text = made;
    struct json_object *a = NULL, *b = NULL;

    assert_null(jv_parse(expected, strlen(expected), &a));
    assert_null(jv_parse(text, strlen(text), &b));
    if (!json_object_equal(a, b)) {
        fail_msg("%s", text);
    }
    json_object_put(a);
    json_object_put(b);
}

static void what_has_a_tag_is_told_with_its_address(void **state)
{
    CLEANUP(virtual_interface_list_freep)
    struct virtual_interface_list *rows = virtual_interface_list_new();
    CLEANUP(block_device_mapping_list_freep)
    struct block_device_mapping_list *bdms = block_device_mapping_list_new();

    (void)state;
    add_row(rows, "fa:16:3e:00:00:01", "nic1");
    add_row(rows, "fa:16:3e:00:00:02", NULL);
    add_bdm(bdms, "/dev/vda", "root", NULL);
    add_bdm(bdms, "/dev/sda", "data", "vol-1");
    add_bdm(bdms, "/dev/vdb", NULL, NULL);
    add_bdm(bdms, NULL, "lost", NULL);
    assert_devices("[{\"is\": \"DiskMetadata\", \"tags\": [\"root\"], \"serial\": null,"
                   " \"bus\": {\"address\": \"0000:00:04.0\"}},"
                   " {\"is\": \"DiskMetadata\", \"tags\": [\"data\"], \"serial\": \"vol-1\","
                   " \"bus\": {}},"
                   " {\"is\": \"NetworkInterfaceMetadata\", \"mac\": \"fa:16:3e:00:00:01\","
                   " \"tags\": [\"nic1\"], \"vf_trusted\": false,"
                   " \"bus\": {\"address\": \"0000:00:03.0\"}}]",
                   made_of(NULL, rows, bdms));
}

static void a_vlan_is_told_without_a_tag(void **state)
{
    CLEANUP(virtual_interface_list_freep)
    struct virtual_interface_list *rows = virtual_interface_list_new();
    CLEANUP(block_device_mapping_list_freep)
    struct block_device_mapping_list *bdms = block_device_mapping_list_new();

    (void)state;
    add_row(rows, "fa:16:3e:00:00:02", NULL);
    assert_devices("[{\"is\": \"NetworkInterfaceMetadata\", \"mac\": \"fa:16:3e:00:00:02\","
                   " \"vlan\": 7, \"vf_trusted\": true}]",
                   made_of("[{\"id\": \"p\", \"address\": \"fa:16:3e:00:00:02\","
                           " \"network\": {\"id\": \"n\"}, \"details\": {\"vlan\": 7},"
                           " \"profile\": {\"trusted\": \"True\"}}]",
                           rows, bdms));
}

static void nothing_to_tell_is_nothing(void **state)
{
    CLEANUP(virtual_interface_list_freep)
    struct virtual_interface_list *rows = virtual_interface_list_new();
    CLEANUP(block_device_mapping_list_freep)
    struct block_device_mapping_list *bdms = block_device_mapping_list_new();
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    struct instance_device_metadata *metadata = NULL;

    (void)state;
    assert_null(guest_info_parse(domain, &guest));
    add_row(rows, "fa:16:3e:00:00:01", NULL);
    devmeta_make(&guest, &(struct vif_list){0}, rows, bdms, &metadata);
    assert_null(metadata);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_a_tag_is_told_with_its_address),
        cmocka_unit_test(a_vlan_is_told_without_a_tag),
        cmocka_unit_test(nothing_to_tell_is_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_libvirt lv_fake */

#include "driver/libvirt/disk_layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define GIB (INT64_C(1) << 30)

/* A server, its image and the configuration of its host. */
struct world {
    struct conf_holder *holder;
    const struct conf *conf;
    struct instance *inst;
    struct image_meta image, rescue;
    struct block_device_mapping_list *bdms;
    struct disk_layout_input in;
    struct disk_layout out;
};

static struct image_meta image_of(const char *text)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct image_meta m;

    assert_null(jv_parse(text, strlen(text), &json));
    assert_null(image_meta_of_json(json, &m));
    return m;
}

static void configure(struct world *w, const char *text)
{
    conf_putp(&w->conf);
    conf_holder_freep(&w->holder);
    assert_null(conf_from_text(text, &w->holder));
    w->conf = conf_get(w->holder);
    w->in.conf = w->conf;
}

static void world_init(struct world *w, const char *image)
{
    struct flavor *flavor = flavor_new();

    *w = (struct world){.inst = instance_new(), .image = image_of(image)};
    configure(w, "");
    flavor_clear_extra_specs(flavor);
    flavor_set_root_gb(flavor, 20);
    flavor_set_ephemeral_gb(flavor, 0);
    flavor_set_swap(flavor, 0);
    instance_set_flavor(w->inst, flavor);
    instance_set_ephemeral_gb(w->inst, 0);
    instance_set_root_device_name(w->inst, NULL);
    w->in.inst = w->inst;
    w->in.image = &w->image;
}

static void world_fini(struct world *w)
{
    disk_layout_fini(&w->out);
    block_device_mapping_list_freep(&w->bdms);
    instance_freep(&w->inst);
    image_meta_fini(&w->image);
    if (w->rescue.props) {
        image_meta_fini(&w->rescue);
    }
    conf_putp(&w->conf);
    conf_holder_freep(&w->holder);
}

static void rescue_with(struct world *w, const char *image)
{
    w->rescue = image_of(image);
    w->in.rescue = &w->rescue;
}

static struct block_device_mapping *add_bdm(struct world *w, const char *source, const char *to,
                                            const char *name)
{
    struct block_device_mapping *bdm = block_device_mapping_new();

    if (!w->bdms) {
        w->bdms = block_device_mapping_list_new();
        block_device_mapping_list_clear_objects(w->bdms);
        w->in.bdms = w->bdms;
    }
    block_device_mapping_set_source_type(bdm, source);
    block_device_mapping_set_destination_type(bdm, to);
    block_device_mapping_set_device_name(bdm, name);
    block_device_mapping_list_add(w->bdms, bdm);
    return bdm;
}

static void make(struct world *w)
{
    CLEANUP(err_freep) struct err *e = disk_layout_make(&w->in, &w->out);

    if (e) {
        fail_msg("%s", err_message(e));
    }
}

/* The layout as "file=bus/target(device)" words. */
static void assert_layout(struct world *w, const char *expected)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    make(w);
    for (size_t i = 0; i < w->out.n; i++) {
        const struct disk_item *d = &w->out.items[i];

        strbuf_addf(&b, "%s%s=%s/%s(%s)", i ? " " : "", d->file, d->bus, d->target, d->device);
    }
    assert_string_equal(b.s, expected);
}

static void a_plain_server_has_one_virtio_disk(void **state)
{
    CLEANUP(world_fini) struct world w;
    const struct disk_item *d;

    (void)state;
    world_init(&w, "{\"disk_format\": \"qcow2\"}");
    assert_layout(&w, "disk=virtio/vda(disk)");
    d = disk_layout_find(&w.out, DISK_ROOT);
    assert_string_equal(d->format, "qcow2");
    assert_int_equal(d->size, 20 * GIB);
    assert_int_equal(d->boot_index, 1);
    assert_int_equal(d->bdm, -1);
    assert_string_equal(w.out.root_target, "vda");
    assert_string_equal(w.out.cdrom_bus, "ide");
    assert_null(disk_layout_find(&w.out, DISK_SWAP));
}

static void the_image_chooses_buses(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{\"properties\": {\"hw_disk_bus\": \"scsi\", \"hw_cdrom_bus\": \"virtio\", "
                   "\"hw_scsi_model\": \"virtio-scsi\"}}");
    w.in.has_config_drive = true;
    assert_layout(&w, "disk=scsi/sda(disk) disk.config=virtio/vda(cdrom)");
}

static void a_config_drive_goes_where_the_machine_has_a_bus(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{}");
    w.in.has_config_drive = true;
    assert_layout(&w, "disk=virtio/vda(disk) disk.config=ide/hda(cdrom)");
    assert_string_equal(w.out.items[1].format, "raw");
    disk_layout_fini(&w.out);
    configure(&w, "[libvirt]\nhw_machine_type = x86_64=pc-q35-7.2\n");
    assert_layout(&w, "disk=virtio/vda(disk) disk.config=sata/sda(cdrom)");
    disk_layout_fini(&w.out);
    configure(&w, "[DEFAULT]\nconfig_drive_format = vfat\n");
    assert_layout(&w, "disk=virtio/vda(disk) disk.config=virtio/vdb(disk)");
}

static void flavors_bring_ephemeral_and_swap_disks(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{}");
    flavor_set_ephemeral_gb(instance_flavor(w.inst), 5);
    flavor_set_swap(instance_flavor(w.inst), 512);
    instance_set_ephemeral_gb(w.inst, 5);
    assert_layout(&w,
                  "disk=virtio/vda(disk) disk.local=virtio/vdb(disk) disk.swap=virtio/vdc(disk)");
    assert_int_equal(w.out.items[1].size, 5 * GIB);
    assert_int_equal(w.out.items[2].size, INT64_C(512) << 20);
}

static void mappings_keep_their_names_and_others_go_around_them(void **state)
{
    CLEANUP(world_fini) struct world w;
    struct block_device_mapping *bdm;

    (void)state;
    world_init(&w, "{}");
    instance_set_root_device_name(w.inst, "/dev/vda");
    add_bdm(&w, "image", "local", "/dev/vda");
    bdm = add_bdm(&w, "blank", "local", NULL);
    block_device_mapping_set_volume_size(bdm, 2);
    block_device_mapping_set_guest_format(bdm, "xfs");
    bdm = add_bdm(&w, "blank", "local", "/dev/sdb");
    block_device_mapping_set_volume_size(bdm, 3);
    block_device_mapping_set_disk_bus(bdm, "scsi");
    bdm = add_bdm(&w, "blank", "local", "/dev/vdb");
    block_device_mapping_set_volume_size(bdm, 256);
    block_device_mapping_set_guest_format(bdm, "swap");
    assert_layout(&w, "disk=virtio/vda(disk) disk.eph0=virtio/vdc(disk) disk.eph1=scsi/sdb(disk) "
                      "disk.swap=virtio/vdb(disk)");
    assert_int_equal(w.out.items[0].bdm, 0);
    assert_int_equal(w.out.items[1].bdm, 1);
    assert_string_equal(w.out.items[1].guest_format, "xfs");
    assert_int_equal(w.out.items[2].size, 3 * GIB);
    assert_int_equal(w.out.items[3].size, INT64_C(256) << 20);
}

static void an_iso_image_is_a_cdrom(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{\"disk_format\": \"iso\"}");
    assert_layout(&w, "disk=ide/hda(cdrom)");
}

static void copies_take_the_images_format_if_images_are_not_converted(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{\"disk_format\": \"qcow2\"}");
    configure(&w, "[libvirt]\nimages_type = raw\n");
    make(&w);
    assert_string_equal(w.out.items[0].format, "raw");
    disk_layout_fini(&w.out);
    configure(&w, "[DEFAULT]\nuse_cow_images = false\nforce_raw_images = false\n");
    make(&w);
    assert_string_equal(w.out.items[0].format, "qcow2");
}

static void the_old_rescue_boots_the_rescue_disk_by_the_rescue_images_rules(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{\"properties\": {\"hw_disk_bus\": \"scsi\"}}");
    flavor_set_swap(instance_flavor(w.inst), 512);
    rescue_with(&w, "{\"properties\": {\"hw_disk_bus\": \"ide\"}}");
    w.in.has_config_drive = true;
    assert_layout(&w, "disk.rescue=ide/hda(disk) disk=ide/hdb(disk) "
                      "disk.config.rescue=ide/hdc(cdrom)");
    assert_int_equal(w.out.items[0].boot_index, 1);
    assert_int_equal(w.out.items[0].size, 0);
    assert_int_equal(w.out.items[1].boot_index, 0);
    assert_string_equal(w.out.root_target, "hda");
}

static void the_stable_rescue_keeps_every_disk_and_boots_the_last(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{}");
    flavor_set_swap(instance_flavor(w.inst), 512);
    rescue_with(&w, "{\"properties\": {\"hw_rescue_device\": \"cdrom\"}}");
    w.in.has_config_drive = true;
    assert_layout(&w, "disk=virtio/vda(disk) disk.swap=virtio/vdb(disk) "
                      "disk.config=ide/hda(cdrom) disk.rescue=ide/hdb(cdrom)");
    assert_int_equal(w.out.items[0].boot_index, 0);
    assert_int_equal(w.out.items[3].boot_index, 1);
    assert_string_equal(w.out.root_target, "vda");
}

static void names_go_on_after_z(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{}");
    for (int i = 0; i < 27; i++) {
        add_bdm(&w, "blank", "local", NULL);
    }
    make(&w);
    assert_string_equal(w.out.items[25].target, "vdz");
    assert_string_equal(w.out.items[26].target, "vdaa");
    assert_string_equal(w.out.items[27].target, "vdab");
}

static void assert_refused(struct world *w, enum err_kind kind, const char *word)
{
    CLEANUP(err_freep) struct err *e = disk_layout_make(&w->in, &w->out);

    assert_true(err_is(e, kind));
    assert_non_null(strstr(err_message(e), word));
    assert_int_equal(w->out.n, 0);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{\"properties\": {\"hw_disk_bus\": \"xen\"}}");
    assert_refused(&w, ERR_UNSUPPORTED_HARDWARE, "xen");
    image_meta_fini(&w.image);
    w.image = image_of("{\"properties\": {\"hw_disk_bus\": \"ide\"}}");
    for (int i = 0; i < 4; i++) {
        add_bdm(&w, "blank", "local", NULL);
    }
    assert_refused(&w, ERR_TOO_MANY_DISK_DEVICES, "4");
    add_bdm(&w, "volume", "volume", "/dev/vdb");
    assert_refused(&w, ERR_NOT_IMPLEMENTED, "volumes");
    configure(&w, "[libvirt]\nimages_type = rbd\n");
    assert_refused(&w, ERR_NOT_IMPLEMENTED, "rbd");
}

static void a_rescue_by_what_cannot_be_is_refused(void **state)
{
    CLEANUP(world_fini) struct world w;

    (void)state;
    world_init(&w, "{}");
    rescue_with(&w, "{\"properties\": {\"hw_rescue_bus\": \"xen\"}}");
    assert_refused(&w, ERR_UNSUPPORTED_RESCUE_BUS, "xen");
    image_meta_fini(&w.rescue);
    rescue_with(&w, "{\"properties\": {\"hw_rescue_device\": \"fs\"}}");
    assert_refused(&w, ERR_UNSUPPORTED_RESCUE_DEVICE, "fs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_server_has_one_virtio_disk),
        cmocka_unit_test(the_image_chooses_buses),
        cmocka_unit_test(a_config_drive_goes_where_the_machine_has_a_bus),
        cmocka_unit_test(flavors_bring_ephemeral_and_swap_disks),
        cmocka_unit_test(mappings_keep_their_names_and_others_go_around_them),
        cmocka_unit_test(an_iso_image_is_a_cdrom),
        cmocka_unit_test(copies_take_the_images_format_if_images_are_not_converted),
        cmocka_unit_test(the_old_rescue_boots_the_rescue_disk_by_the_rescue_images_rules),
        cmocka_unit_test(the_stable_rescue_keeps_every_disk_and_boots_the_last),
        cmocka_unit_test(names_go_on_after_z),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(a_rescue_by_what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_libvirt lv_fake */

#include "driver/libvirt/image_meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct instance *server(void)
{
    struct instance *inst = instance_new();
    struct flavor *flavor = flavor_new();

    instance_clear_system_metadata(inst);
    instance_set_image_ref(inst, "155d900f-4e14-4e4c-a73d-069cbf4541e6");
    flavor_clear_extra_specs(flavor);
    instance_set_flavor(inst, flavor);
    return inst;
}

static struct image_meta of_json(const char *text)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct image_meta m;

    assert_null(jv_parse(text, strlen(text), &json));
    assert_null(image_meta_of_json(json, &m));
    return m;
}

static void refused(const char *text, const char *word)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct image_meta m = {0};

    assert_null(jv_parse(text, strlen(text), &json));
    CLEANUP(err_freep) struct err *e = image_meta_of_json(json, &m);

    assert_true(err_is(e, ERR_PARSE));
    assert_non_null(strstr(err_message(e), word));
    assert_null(m.props);
}

static void a_server_remembers_its_image(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();
    CLEANUP(image_meta_fini) struct image_meta m = {0};

    (void)state;
    instance_system_metadata_put(inst, "image_hw_disk_bus", "scsi");
    instance_system_metadata_put(inst, "image_min_disk", "20");
    instance_system_metadata_put(inst, "image_disk_format", "qcow2");
    instance_system_metadata_put(inst, "image_container_format", "bare");
    instance_system_metadata_put(inst, "boot_roles", "member");
    assert_null(image_meta_of_instance(inst, &m));

    assert_string_equal(m.id, "155d900f-4e14-4e4c-a73d-069cbf4541e6");
    assert_string_equal(m.disk_format, "qcow2");
    assert_string_equal(m.container_format, "bare");
    assert_int_equal(m.min_disk, 20);
    assert_int_equal(m.size, -1);
    assert_string_equal(image_meta_prop(&m, "hw_disk_bus"), "scsi");
    assert_null(image_meta_prop(&m, "boot_roles"));
    assert_null(image_meta_prop(&m, "min_disk"));
}

static void a_server_without_an_image_has_no_properties(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();
    CLEANUP(image_meta_fini) struct image_meta m = {0};

    (void)state;
    instance_set_image_ref(inst, "");
    assert_null(image_meta_of_instance(inst, &m));
    assert_null(m.id);
    assert_int_equal(json_object_object_length(m.props), 0);
}

static void an_image_of_glance_is_read(void **state)
{
    CLEANUP(image_meta_fini)
    struct image_meta m = of_json(
        "{\"id\": \"i\", \"name\": \"cirros\", \"size\": 21430272, \"min_ram\": 64, \"min_disk\": "
        "1, \"disk_format\": \"qcow2\", \"container_format\": \"bare\", \"properties\": "
        "{\"hw_cpu_cores\": \"2\", \"hw_qemu_guest_agent\": true, \"gone\": null}}");

    (void)state;
    assert_string_equal(m.name, "cirros");
    assert_int_equal(m.size, 21430272);
    assert_int_equal(m.min_ram, 64);
    assert_int_equal(image_meta_int(&m, "hw_cpu_cores", 0), 2);
    assert_int_equal(image_meta_int(&m, "hw_cpu_threads", 7), 7);
    assert_true(image_meta_bool(&m, "hw_qemu_guest_agent", false));
    assert_null(image_meta_prop(&m, "gone"));
}

static void no_image_is_an_empty_one(void **state)
{
    CLEANUP(image_meta_fini) struct image_meta none = {0};
    CLEANUP(image_meta_fini) struct image_meta empty = of_json("{}");

    (void)state;
    assert_null(image_meta_of_json(NULL, &none));
    assert_null(none.id);
    assert_null(image_meta_prop(&none, "hw_disk_bus"));
    assert_null(empty.disk_format);
}

static void old_names_are_translated_and_new_ones_win(void **state)
{
    CLEANUP(image_meta_fini)
    struct image_meta m =
        of_json("{\"properties\": {\"hw_architecture\": \"x86_64\", \"architecture\": \"i386\", "
                "\"hypervisor_type\": \"KVM\", \"vm_mode\": \"hv\", \"vmware_adaptertype\": "
                "\"lsiLogicsas\", \"hw_vif_model\": \"VirtualE1000\"}}");

    (void)state;
    assert_string_equal(image_meta_prop(&m, "hw_architecture"), "x86_64");
    assert_string_equal(image_meta_prop(&m, "img_hv_type"), "kvm");
    assert_string_equal(image_meta_prop(&m, "hw_vm_mode"), "hvm");
    assert_string_equal(image_meta_prop(&m, "hw_disk_bus"), "scsi");
    assert_string_equal(image_meta_prop(&m, "hw_scsi_model"), "lsisas1068");
    assert_string_equal(image_meta_prop(&m, "hw_vif_model"), "e1000");
    assert_null(image_meta_prop(&m, "architecture"));
}

static void values_that_nova_does_not_know_are_refused(void **state)
{
    (void)state;
    refused("{\"properties\": {\"hw_disk_bus\": \"floppynet\"}}", "hw_disk_bus");
    refused("{\"properties\": {\"hw_video_ram\": \"many\"}}", "hw_video_ram");
    refused("{\"properties\": {\"hw_firmware_type\": \"UEFI\"}}", "uefi bios");
    refused("{\"properties\": [1]}", "properties");
    refused("[]", "no JSON object");
}

static void truth_is_pythons(void **state)
{
    static const char *const yes[] = {"1", "t", "true", "TRUE", "on", "Y", " yes "};
    static const char *const no[] = {"0", "false", "", "enabled", "2"};
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        flavor_extra_specs_put(instance_flavor(inst), "hw:pmu", yes[i]);
        assert_true(flavor_spec_bool(inst, "hw:pmu", false));
    }
    for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
        flavor_extra_specs_put(instance_flavor(inst), "hw:pmu", no[i]);
        assert_false(flavor_spec_bool(inst, "hw:pmu", true));
    }
    assert_true(flavor_spec_bool(inst, "hw:none", true));
}

static void the_flavor_speaks_before_the_image(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();
    CLEANUP(image_meta_fini)
    struct image_meta m = of_json("{\"properties\": {\"hw_watchdog_action\": \"reset\"}}");

    (void)state;
    assert_string_equal(guest_setting(inst, &m, "hw:watchdog_action", "hw_watchdog_action"),
                        "reset");
    flavor_extra_specs_put(instance_flavor(inst), "hw:watchdog_action", "pause");
    assert_string_equal(guest_setting(inst, &m, "hw:watchdog_action", "hw_watchdog_action"),
                        "pause");
    assert_null(guest_setting(inst, &m, "hw:none", "hw_none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_remembers_its_image),
        cmocka_unit_test(a_server_without_an_image_has_no_properties),
        cmocka_unit_test(an_image_of_glance_is_read),
        cmocka_unit_test(no_image_is_an_empty_one),
        cmocka_unit_test(old_names_are_translated_and_new_ones_win),
        cmocka_unit_test(values_that_nova_does_not_know_are_refused),
        cmocka_unit_test(truth_is_pythons),
        cmocka_unit_test(the_flavor_speaks_before_the_image),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

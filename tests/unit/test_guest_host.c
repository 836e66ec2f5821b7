/* link: driver_libvirt lv_fake */

#include "base/fs.h"
#include "driver/libvirt/guest_host.h"
#include "driver/libvirt/guest_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CAPABILITIES                                                                               \
    "<capabilities><host><uuid>u</uuid></host><guest><arch name='x86_64'>"                         \
    "<machine>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2'>pc</machine>"              \
    "<machine canonical='pc-q35-7.2'>q35</machine><domain type='kvm'>"                             \
    "<machine>microvm</machine></domain></arch></guest></capabilities>"
#define DOMAIN                                                                                     \
    "<domainCapabilities><os><loader><enum name='type'><value>rom</value></enum></loader></os>"    \
    "<cpu><mode name='host-model'><model>Haswell</model></mode><mode name='custom'>"               \
    "<model>Nehalem</model><model>qemu64</model></mode></cpu></domainCapabilities>"
#define DOMAIN_UEFI                                                                                \
    "<domainCapabilities><os><loader><enum name='type'><value>rom</value><value>pflash</value>"    \
    "</enum><enum name='secure'><value>no</value><value>yes</value></enum></loader></os>"          \
    "</domainCapabilities>"

static char *descriptor(const char *loader, const char *machine, const char *features)
{
    return str_printf(
        "{\"mapping\": {\"device\": \"flash\", \"executable\": {\"filename\": \"%s\"}, "
        "\"nvram-template\": {\"filename\": \"vars\"}}, \"targets\": "
        "[{\"architecture\": \"x86_64\", \"machines\": [\"%s\"]}], \"features\": [%s]}",
        loader, machine, features);
}

static struct guest_host *host_of(const struct strv *domains, const struct strv *firmware,
                                  const char *machine_id)
{
    const struct guest_host_source s = {.capabilities = CAPABILITIES,
                                        .domain_capabilities = domains,
                                        .firmware = firmware,
                                        .machine_id = machine_id};
    struct guest_host *h = NULL;

    assert_null(guest_host_new(&s, &h));
    return h;
}

static void machines_of_all_kinds_are_known(void **state)
{
    const struct strv none = {0};
    CLEANUP(guest_host_freep) struct guest_host *h = host_of(&none, &none, NULL);

    (void)state;
    assert_true(guest_host_has_machine(h, "pc"));
    assert_true(guest_host_has_machine(h, "pc-i440fx-7.2"));
    assert_true(guest_host_has_machine(h, "microvm"));
    assert_false(guest_host_has_machine(h, "isapc"));
    assert_string_equal(h->uuid, "u");
    assert_false(h->has_uefi);
}

static void what_one_machine_can_the_host_can(void **state)
{
    const struct strv none = {0};
    CLEANUP(strv_fini) struct strv domains = {0};

    (void)state;
    strv_add(&domains, DOMAIN);
    CLEANUP(guest_host_freep) struct guest_host *without = host_of(&domains, &none, NULL);

    assert_false(without->has_uefi);
    assert_int_equal(without->cpu_models.n, 2);
    assert_true(strv_has(&without->cpu_models, "Nehalem"));
    strv_add(&domains, DOMAIN_UEFI);
    CLEANUP(guest_host_freep) struct guest_host *with = host_of(&domains, &none, NULL);

    assert_true(with->has_uefi);
    assert_true(with->has_secure_boot);
}

static void firmware_is_chosen_by_machine_and_secure_boot(void **state)
{
    const struct strv none = {0};
    CLEANUP(strv_fini) struct strv firmware = {0};

    (void)state;
    strv_add_take(&firmware, descriptor("secure", "pc-q35-*", "\"requires-smm\", \"secure-boot\""));
    strv_add_take(&firmware, descriptor("plain", "pc-q35-*", "\"acpi-s3\""));
    strv_add_take(&firmware, descriptor("second", "pc-*", ""));
    CLEANUP(guest_host_freep) struct guest_host *h = host_of(&none, &firmware, NULL);
    const struct guest_firmware *f = guest_host_firmware(h, "x86_64", "q35", true);

    assert_string_equal(f->loader, "secure");
    assert_true(f->needs_smm);
    assert_string_equal(guest_host_firmware(h, "x86_64", "q35", false)->loader, "plain");
    assert_string_equal(guest_host_firmware(h, "x86_64", "pc", false)->loader, "second");
    assert_string_equal(guest_host_firmware(h, "x86_64", "pc-q35-6.2", false)->loader, "plain");
    assert_null(guest_host_firmware(h, "x86_64", "pc", true));
    assert_null(guest_host_firmware(h, "i686", "q35", false));
}

static void descriptors_that_are_none_are_left_out(void **state)
{
    const struct strv none = {0};
    static const char *const texts[] = {
        "", "[]", "{\"mapping\": {\"device\": \"memory\", \"filename\": \"x\"}}",
        "{\"mapping\": {\"executable\": {\"filename\": 1}, \"nvram-template\": {\"filename\": "
        "\"v\"}}, \"targets\": [], \"features\": []}",
        "{\"mapping\": {\"executable\": {\"filename\": \"x\"}, \"nvram-template\": {\"filename\": "
        "\"v\"}}, \"targets\": [{\"machines\": [\"pc\"]}], \"features\": []}"};
    CLEANUP(strv_fini) struct strv firmware = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        strv_add(&firmware, texts[i]);
    }
    strv_add_take(&firmware, descriptor("good", "pc-*", ""));
    CLEANUP(guest_host_freep) struct guest_host *h = host_of(&none, &firmware, NULL);

    assert_int_equal(h->n_firmware, 1);
    assert_string_equal(h->firmware[0].loader, "good");
}

static void a_machine_id_becomes_a_uuid(void **state)
{
    const struct strv none = {0};
    CLEANUP(guest_host_freep)
    struct guest_host *h = host_of(&none, &none, "0123456789abcdef0123456789abcdef");
    CLEANUP(guest_host_freep) struct guest_host *odd = host_of(&none, &none, "uninitialized");

    (void)state;
    assert_string_equal(h->machine_id, "01234567-89ab-cdef-0123-456789abcdef");
    assert_null(odd->machine_id);
}

static void capabilities_that_are_none_are_an_error(void **state)
{
    const struct strv none = {0};
    const struct guest_host_source s = {
        .capabilities = "<capabilities", .domain_capabilities = &none, .firmware = &none};
    struct guest_host *h = NULL;
    CLEANUP(err_freep) struct err *e = guest_host_new(&s, &h);

    (void)state;
    assert_true(err_is(e, ERR_PARSE));
    assert_null(h);
}

static void a_host_is_asked_for_all_of_it(void **state)
{
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(conf_putp) const struct conf *conf = NULL;
    CLEANUP(lv_conn_freep) struct lv_conn *conn = NULL;
    CLEANUP(guest_host_freep) struct guest_host *h = NULL;
    char dir[] = "/tmp/test_guest_host.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(dir));
    setenv("NOVASHIM_LV_FAKE_DIR", dir, 1);
    assert_null(conf_from_text("[DEFAULT]\ninstances_path = /no/such/directory\n[libvirt]\n"
                               "cpu_mode = custom\ncpu_models = Haswell-noTSX\n"
                               "rng_dev_path = /no/such/device\n",
                               &holder));
    conf = conf_get(holder);
    assert_null(lv_connect("fake:///", &conn));
    assert_null(guest_host_read(conn, conf, &h));
    assert_true(guest_host_has_machine(h, "q35"));
    assert_true(strv_has(&h->cpu_models, "Nehalem"));
    assert_true(h->has_uefi);
    assert_false(h->has_direct_io);
    assert_false(h->has_rng_device);
    assert_true(h->kernel_major >= 2);
    assert_true(h->libvirt_version >= 6000000);
    assert_int_equal(h->n_features, 1);
    assert_string_equal(h->features[0].model, "Haswell-noTSX");
    err_ignore(fs_remove_all(&fs_real, dir), "removing the folder of the test");
}

/* ---- guest_type.h ---- */

static char *name_of(const char *template)
{
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(conf_putp) const struct conf *conf = NULL;
    CLEANUP(instance_freep) struct instance *inst = instance_new();
    CLEANUP(freep) char *text = str_printf("[DEFAULT]\ninstance_name_template = %s\n", template);

    instance_set_id(inst, 42);
    instance_set_uuid(inst, "b5f6e2cc-9a1f-4f0c-8a3f-6a3f3a1c0de1");
    instance_set_hostname(inst, "web");
    assert_null(conf_from_text(text, &holder));
    conf = conf_get(holder);
    return guest_name(conf, inst);
}

static void assert_name(const char *template, const char *expected)
{
    CLEANUP(freep) char *name = name_of(template);

    assert_string_equal(name, expected);
}

static void names_follow_the_template(void **state)
{
    (void)state;
    assert_name("instance-%08x", "instance-0000002a");
    assert_name("%d", "42");
    assert_name("%-4d|%o", "42  |52");
    assert_name("vm-%(uuid)s", "vm-b5f6e2cc-9a1f-4f0c-8a3f-6a3f3a1c0de1");
    assert_name("%(hostname)s-%(id)05d%%", "web-00042%");
    assert_name("%(no_such)s", "b5f6e2cc-9a1f-4f0c-8a3f-6a3f3a1c0de1");
    assert_name("%(uuid", "b5f6e2cc-9a1f-4f0c-8a3f-6a3f3a1c0de1");
    assert_name("%n", "b5f6e2cc-9a1f-4f0c-8a3f-6a3f3a1c0de1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_of_all_kinds_are_known),
        cmocka_unit_test(what_one_machine_can_the_host_can),
        cmocka_unit_test(firmware_is_chosen_by_machine_and_secure_boot),
        cmocka_unit_test(descriptors_that_are_none_are_left_out),
        cmocka_unit_test(a_machine_id_becomes_a_uuid),
        cmocka_unit_test(capabilities_that_are_none_are_an_error),
        cmocka_unit_test(a_host_is_asked_for_all_of_it),
        cmocka_unit_test(names_follow_the_template),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

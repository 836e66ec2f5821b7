/* link: driver_libvirt vif pci rpc_rest rpc_objects base */
#include "base/fs.h"
#include "driver/libvirt/host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN TESTS_DIR "/golden/host/"

/* ---- A libvirt of our own ---- */

static struct {
    bool cannot_expand; /* As on AArch64. */
    int compare;
    unsigned long libvirt, hv;
    struct strv asked; /* EMULATOR ARCH MACHINE, of domain capabilities. */
} fake;

static struct err *unsupported(void)
{
    struct err *e = err_msg(ERR_LIBVIRT, "this function is not supported");

    err_set(e, "name", "VIR_ERR_NO_SUPPORT");
    return e;
}

static struct err *golden(const char *name, char **ret)
{
    CLEANUP(freep) char *path = str_printf(GOLDEN "%s", name);

    return fs_read(&fs_real, path, ret, NULL);
}

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = str_dup("host-a");
    return NULL;
}

struct err *lv_type(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = str_dup("QEMU");
    return NULL;
}

struct err *lv_versions(struct lv_conn *c, unsigned long *ret_libvirt, unsigned long *ret_hv)
{
    (void)c;
    *ret_libvirt = fake.libvirt;
    *ret_hv = fake.hv;
    return NULL;
}

struct err *lv_capabilities(struct lv_conn *c, char **ret)
{
    (void)c;
    return golden("capabilities.xml", ret);
}

struct err *lv_domain_capabilities(struct lv_conn *c, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret)
{
    CLEANUP(freep) char *name = str_printf("domain-%s.xml", machine);

    (void)c;
    (void)virttype;
    strv_add_take(&fake.asked, str_printf("%s %s %s", emulator, arch, machine));
    if (!str_eq(machine, "pc") && !str_eq(machine, "q35")) {
        return err_msg(ERR_LIBVIRT, "no such machine");
    }
    return golden(name, ret);
}

struct err *lv_node_info(struct lv_conn *c, struct lv_node_info *ret)
{
    (void)c;
    *ret = (struct lv_node_info){.memory_kib = 8 << 20, .cpus = 8, .nodes = 2};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = str_dup("0-7");
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *xml, int *ret)
{
    (void)c;
    (void)xml;
    *ret = fake.compare;
    return NULL;
}

/* What models stand for here; what was listed stays. */
struct err *lv_expand_cpu(struct lv_conn *c, const char *xml, char **ret)
{
    bool is_host = strstr(xml, "<model>Nehalem</model>");

    (void)c;
    if (fake.cannot_expand) {
        return unsupported();
    }
    *ret = str_printf("<cpu><model>x</model><feature policy='require' name='sse2'/>"
                      "<feature policy='require' name='%s'/>"
                      "<feature policy='disable' name='avx'/>%s</cpu>",
                      is_host ? "sse4.2" : "svm",
                      strstr(xml, "vmx") ? "<feature policy='require' name='vmx'/>" : "");
    return NULL;
}

struct err *lv_domain_uuids(struct lv_conn *c, struct strv *ret)
{
    (void)c;
    (void)ret;
    return NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    (void)c;
    (void)ret;
    return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    (void)d;
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    (void)d;
    (void)is_migratable;
    (void)ret;
    return unsupported();
}

struct err *lv_block_info(struct lv_domain *d, const char *target, struct lv_block_info *ret)
{
    (void)d;
    (void)target;
    (void)ret;
    return unsupported();
}

/* ---- ---- */

static struct conf conf_of_lab(void)
{
    return (struct conf){
        .dflt = {.instances_path = "/tmp", .force_raw_images = true},
        .libvirt = {.virt_type = "qemu", .cpu_mode = "none", .images_type = "default"},
    };
}

static int set_up(void **state)
{
    (void)state;
    strv_fini(&fake.asked);
    memset(&fake, 0, sizeof(fake));
    fake.libvirt = 9000000;
    fake.hv = 7002022;
    fake.compare = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    strv_fini(&fake.asked);
    return 0;
}

static struct host_facts read_ok(const struct conf *conf)
{
    struct host_facts f = {0};

    assert_null(host_read(NULL, conf, &f));
    return f;
}

static void assert_set(const struct cpuset *set, const char *text)
{
    CLEANUP(freep) char *have = cpuset_text(set);

    assert_string_equal(have, text);
}

static void without_cpu_sets_servers_have_every_cpu_that_is_online(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    (void)state;
    assert_set(&f.shared, "0-7");
    assert_set(&f.pinnable, "0-7");
    assert_set(&f.dedicated, "");
    assert_int_equal(f.vcpus, 8);
    assert_int_equal(f.memory_mib, 8192);
}

static void a_shared_set_alone_leaves_nothing_to_pin_to(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    conf.compute.cpu_shared_set = "0-3,^2";
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_set(&f.shared, "0-1,3");
    assert_set(&f.pinnable, "");
}

static void the_old_pin_set_is_shared_and_pinned_to(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    conf.dflt.vcpu_pin_set = "4-7";
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_set(&f.shared, "4-7");
    assert_set(&f.pinnable, "4-7");
}

static void a_dedicated_set_alone_leaves_nothing_to_share(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    conf.compute.cpu_dedicated_set = "2-7";
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_int_equal(f.vcpus, 0);
    assert_set(&f.dedicated, "2-7");
    assert_set(&f.pinnable, "2-7");
}

static void a_configured_cpu_that_is_not_online_is_refused(void **state)
{
    struct conf conf = conf_of_lab();
    struct host_facts f;

    (void)state;
    conf.compute.cpu_shared_set = "0-8";
    CLEANUP(err_freep) struct err *e = host_read(NULL, &conf, &f);

    assert_true(err_is(e, ERR_CONFIG));
    assert_non_null(strstr(err_message(e), "cpu_shared_set"));
}

static void cells_have_their_cpus_siblings_pages_and_socket(void **state)
{
    struct conf conf = conf_of_lab();
    char *keys[] = {"node", "size", "count", NULL}, *values[] = {"0", "2MB", "64", NULL};
    struct conf_dict reserved = {{keys, 3}, {values, 3}};

    (void)state;
    conf.dflt.reserved_huge_pages = (struct conf_dicts){&reserved, 1};
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_int_equal(f.n_cells, 2);
    assert_set(&f.cells[0].cpus, "0-1,4-5");
    assert_int_equal(f.cells[0].n_siblings, 2);
    assert_set(&f.cells[0].siblings[1], "1,5");
    assert_int_equal(f.cells[0].memory_mib, 4096);
    assert_int_equal(f.cells[0].socket, 0);
    assert_int_equal(f.cells[1].socket, -1); /* Two in one cell. */
    assert_int_equal(f.cells[0].n_pages, 2);
    assert_int_equal(f.cells[0].pages[1].size_kb, 2048);
    assert_int_equal(f.cells[0].pages[1].total, 1024);
    assert_int_equal(f.cells[0].pages[1].reserved, 64);
    assert_int_equal(f.cells[1].pages[1].reserved, 0);
}

static void cpu_info_has_what_the_model_stands_for(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    (void)state;
    assert_string_equal(f.cpu_info,
                        "{\"arch\":\"x86_64\",\"model\":\"Nehalem\",\"vendor\":\"Intel\","
                        "\"topology\":{\"cells\":2,\"sockets\":1,\"cores\":2,\"threads\":2},"
                        "\"features\":[\"sse2\",\"sse4.2\",\"vmx\"]}");
}

static void cpu_info_has_what_is_listed_where_libvirt_knows_no_models(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    fake.cannot_expand = true;
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_non_null(strstr(f.cpu_info, "\"features\":[\"aes\",\"vmx\"]"));
}

static void guests_that_nova_has_no_name_for_are_left_out(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);
    CLEANUP(freep) char *text = jv_text(f.hv_specs);

    (void)state;
    assert_string_equal(text, "[[\"i686\",\"qemu\",\"hvm\"],[\"i686\",\"kvm\",\"hvm\"],"
                              "[\"x86_64\",\"qemu\",\"hvm\"],[\"x86_64\",\"kvm\",\"hvm\"]]");
}

static void traits_are_those_of_the_guests_cpu_and_of_every_machine(void **state)
{
    const struct conf conf = conf_of_lab();
    static const char *const has[] = {
        "COMPUTE_NODE",
        "HW_CPU_X86_SSE2",
        "HW_CPU_X86_SVM",
        "HW_CPU_X86_AMD_SVM",
        "HW_CPU_HYPERTHREADING",
        "COMPUTE_STORAGE_BUS_SATA",
        "COMPUTE_STORAGE_BUS_FDC",
        "COMPUTE_GRAPHICS_MODEL_VIRTIO",
        "COMPUTE_GRAPHICS_MODEL_CIRRUS",
        "COMPUTE_SECURITY_UEFI_SECURE_BOOT",
        "COMPUTE_NET_VIF_MODEL_LAN9118",
        "COMPUTE_VIOMMU_MODEL_VIRTIO",
        "COMPUTE_IMAGE_TYPE_QCOW2",
    };
    static const char *const lacks[] = {
        "HW_CPU_X86_AVX",           "HW_CPU_X86_VMX",           "COMPUTE_STORAGE_BUS_USB",
        "HW_CPU_X86_AMD_SEV",       "COMPUTE_SECURITY_TPM_2_0", "COMPUTE_VIOMMU_MODEL_SMMUV3",
        "COMPUTE_IMAGE_TYPE_PLOOP",
    };
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(has); i++) {
        assert_true(strv_has(&f.traits, has[i]));
        assert_true(strv_has(&f.owned_traits, has[i]));
    }
    for (size_t i = 0; i < ARRAY_SIZE(lacks); i++) {
        assert_false(strv_has(&f.traits, lacks[i]));
        assert_true(strv_has(&f.owned_traits, lacks[i]));
    }
}

static void without_a_cpu_mode_guests_have_the_hosts_features(void **state)
{
    struct conf conf = conf_of_lab();
    char *flags[] = {"-PDPE1GB", "+3dnow", "TBM", NULL};

    (void)state;
    conf.libvirt.cpu_mode = NULL;
    conf.libvirt.cpu_model_extra_flags = (struct strv){flags, 3};
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_true(strv_has(&f.traits, "HW_CPU_X86_VMX"));
    assert_true(strv_has(&f.traits, "HW_CPU_X86_SSE42"));
    assert_false(strv_has(&f.traits, "HW_CPU_X86_SVM"));
    assert_true(strv_has(&f.traits, "HW_CPU_X86_3DNOW"));
    assert_true(strv_has(&f.traits, "HW_CPU_X86_TBM"));
}

static void image_types_can_be_excluded(void **state)
{
    struct conf conf = conf_of_lab();
    char *types[] = {"iso", NULL};

    (void)state;
    conf.compute.image_type_exclude_list = (struct strv){types, 1};
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);

    assert_false(strv_has(&f.traits, "COMPUTE_IMAGE_TYPE_ISO"));
    assert_true(strv_has(&f.traits, "COMPUTE_IMAGE_TYPE_RAW"));
}

static void machines_are_asked_of_the_emulator_of_their_domain(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    conf.libvirt.virt_type = "kvm";
    CLEANUP(host_facts_fini) struct host_facts f = read_ok(&conf);
    CLEANUP(freep) char *asked = strv_join(&fake.asked, "\n");

    assert_string_equal(asked, "/usr/bin/qemu-system-i386 i686 pc\n"
                               "/usr/bin/qemu-kvm x86_64 pc\n"
                               "/usr/bin/qemu-kvm x86_64 q35");
    assert_false(strv_has(&f.traits, "COMPUTE_NET_VIF_MODEL_LAN9118"));
}

static void a_cpu_that_cannot_run_here_is_refused_with_what_is_lacking(void **state)
{
    CLEANUP(freep) char *xml = NULL;

    (void)state;
    assert_null(host_cpu_xml("{\"arch\": \"x86_64\", \"model\": \"Icelake-Server\", \"vendor\": "
                             "\"Intel\", \"topology\": {}, \"features\": [\"sse2\", \"avx512f\", "
                             "\"gfni\"]}",
                             &xml));
    assert_non_null(strstr(xml, "<feature name=\"avx512f\"/>"));
    assert_null(host_compare_cpu(NULL, xml));
    fake.compare = 0;
    CLEANUP(err_freep) struct err *e = host_compare_cpu(NULL, xml);

    assert_true(err_is(e, ERR_INVALID_CPU_INFO));
    assert_non_null(strstr(err_message(e), "lacks: avx512f, gfni."));
}

static void a_servers_cpu_keeps_its_policies(void **state)
{
    CLEANUP(virt_cpu_model_freep) struct virt_cpu_model *m = virt_cpu_model_new();
    CLEANUP(freep) char *xml = NULL;
    struct virt_cpu_feature *f = virt_cpu_feature_new();

    (void)state;
    virt_cpu_model_set_model(m, "Nehalem");
    virt_cpu_model_set_mode(m, "custom");
    virt_cpu_feature_set_name(f, "vmx");
    virt_cpu_feature_set_policy(f, "disable");
    virt_cpu_model_features_add(m, f);
    assert_null(host_cpu_model_xml(m, &xml));
    assert_non_null(strstr(xml, "<cpu mode=\"custom\" match=\"exact\">"));
    assert_non_null(strstr(xml, "<feature name=\"vmx\" policy=\"disable\"/>"));
    assert_null(strstr(xml, "<arch>"));
}

static void cpu_info_that_is_no_json_is_an_error(void **state)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(err_freep) struct err *none = host_cpu_xml(NULL, &xml);
    CLEANUP(err_freep) struct err *bad = host_cpu_xml("{\"arch\": ", &xml);
    CLEANUP(err_freep) struct err *list = host_cpu_xml("[]", &xml);

    (void)state;
    assert_true(err_is(none, ERR_INVALID_CPU_INFO));
    assert_non_null(bad);
    assert_non_null(list);
}

static void the_check_tells_everything_that_is_wrong(void **state)
{
    struct conf conf = conf_of_lab();

    (void)state;
    assert_null(host_check(NULL, &conf));
    fake.libvirt = 5010000;
    fake.hv = 4001000;
    conf.libvirt.images_type = "rbd";
    conf.dflt.force_raw_images = false;
    conf.libvirt.live_migration_tunnelled = conf.libvirt.live_migration_with_native_tls = true;
    CLEANUP(err_freep) struct err *e = host_check(NULL, &conf);

    assert_true(err_is(e, ERR_CONFIG));
    assert_non_null(strstr(err_message(e), "libvirt"));
    assert_non_null(strstr(err_message(e), "QEMU"));
    assert_non_null(strstr(err_message(e), "native_tls"));
    assert_non_null(strstr(err_message(e), "force_raw_images"));
}

static void cpu_models_are_for_custom_cpus(void **state)
{
    struct conf conf = conf_of_lab();
    char *models[] = {"Nehalem", NULL};

    (void)state;
    conf.libvirt.cpu_mode = "custom";
    CLEANUP(err_freep) struct err *none = host_check(NULL, &conf);

    assert_non_null(strstr(err_message(none), "cpu_models"));
    conf.libvirt.cpu_models = (struct strv){.items = models, .n = 1};
    assert_null(host_check(NULL, &conf));
    conf.libvirt.cpu_mode = NULL;
    CLEANUP(err_freep) struct err *useless = host_check(NULL, &conf);

    assert_non_null(strstr(err_message(useless), "cpu_models"));
}

static void a_site_with_provider_configuration_is_told(void **state)
{
    struct conf conf = conf_of_lab();
    char dir[] = "/tmp/test_host.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(dir));
    conf.compute.provider_config_location = dir;
    assert_null(host_check(NULL, &conf));
    CLEANUP(freep) char *file = str_printf("%s/a.yaml", dir);

    assert_null(fs_write_atomic(&fs_real, file, "", 0, 0600));
    CLEANUP(err_freep) struct err *e = host_check(NULL, &conf);

    assert_true(err_is(e, ERR_CONFIG));
    assert_non_null(strstr(err_message(e), "a.yaml"));
    assert_null(fs_remove_all(&fs_real, dir));
}

static void uptime_reads_like_the_program(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    assert_null(host_uptime(&text));
    assert_int_equal(text[0], ' ');
    assert_non_null(strstr(text, " up "));
    assert_non_null(strstr(text, "load average: "));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(without_cpu_sets_servers_have_every_cpu_that_is_online),
        T(a_shared_set_alone_leaves_nothing_to_pin_to),
        T(the_old_pin_set_is_shared_and_pinned_to),
        T(a_dedicated_set_alone_leaves_nothing_to_share),
        T(a_configured_cpu_that_is_not_online_is_refused),
        T(cells_have_their_cpus_siblings_pages_and_socket),
        T(cpu_info_has_what_the_model_stands_for),
        T(cpu_info_has_what_is_listed_where_libvirt_knows_no_models),
        T(guests_that_nova_has_no_name_for_are_left_out),
        T(traits_are_those_of_the_guests_cpu_and_of_every_machine),
        T(without_a_cpu_mode_guests_have_the_hosts_features),
        T(image_types_can_be_excluded),
        T(machines_are_asked_of_the_emulator_of_their_domain),
        T(a_cpu_that_cannot_run_here_is_refused_with_what_is_lacking),
        T(a_servers_cpu_keeps_its_policies),
        T(cpu_info_that_is_no_json_is_an_error),
        T(the_check_tells_everything_that_is_wrong),
        T(cpu_models_are_for_custom_cpus),
        T(a_site_with_provider_configuration_is_told),
        T(uptime_reads_like_the_program),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

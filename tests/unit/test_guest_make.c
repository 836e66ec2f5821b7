/* link: driver_libvirt vif pci rpc_rest rpc_objects base */

/* Nova's own XML for the requests of tests/golden/guest_make (record makes them) beside ours,
 * element by element.  What differs on purpose is listed in its file "differences", with reasons;
 * what is listed and does not differ is an error too.
 *
 * Order counts among elements of one name (disks, interfaces), not between names. */

#include "base/fs.h"
#include "driver/libvirt/guest_make.h"
#include "driver/libvirt/xb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN TESTS_DIR "/golden/guest_make/"
#define DIR    "/var/lib/nova/instances/"

static char *golden(const char *fmt, const char *name)
{
    CLEANUP(freep) char *path = str_printf(GOLDEN "%s%s", name, fmt);
    char *text = NULL;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, NULL);

    return e ? NULL : text;
}

/* ---- A libvirt of the recorded files ---- */

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = str_dup("compute-1");
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
    *ret_libvirt = 9000000;
    *ret_hv = 7002000;
    return NULL;
}

struct err *lv_capabilities(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = golden("capabilities.xml", "host/");
    return NULL;
}

struct err *lv_domain_capabilities(struct lv_conn *c, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret)
{
    (void)c;
    (void)emulator;
    (void)arch;
    (void)virttype;
    *ret = golden(strstr(machine, "q35") ? "domain-q35.xml" : "domain-pc.xml", "host/");
    return NULL;
}

struct err *lv_node_info(struct lv_conn *c, struct lv_node_info *ret)
{
    (void)c;
    *ret = (struct lv_node_info){.memory_kib = 32 << 20, .cpus = 16, .nodes = 2};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    (void)c;
    *ret = str_dup("0-15");
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *xml, int *ret)
{
    (void)c;
    (void)xml;
    *ret = 1;
    return NULL;
}

/* What models.json says that the model stands for. */
struct err *lv_expand_cpu(struct lv_conn *c, const char *xml, char **ret)
{
    CLEANUP(freep) char *text = golden("models.json", "host/");
    CLEANUP(jv_putp) struct json_object *models = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(freep) char *model = NULL;

    (void)c;
    TRY(jv_parse(text, strlen(text), &models));
    TRY(xb_parse(xml, &doc));
    model = xb_content_at(xb_root(doc), "model");
    struct json_object *features = jv_get(models, model);

    for (size_t i = 0; features && i < json_object_array_length(features); i++) {
        xb_add_with(xb_root(doc), "feature", "policy", "require", "name",
                    json_object_get_string(json_object_array_get_idx(features, i)), NULL);
    }
    *ret = xb_text(doc);
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
    return err_msg(ERR_LIBVIRT, "there are no domains");
}

struct err *lv_block_info(struct lv_domain *d, const char *target, struct lv_block_info *ret)
{
    (void)d;
    (void)target;
    (void)ret;
    return err_msg(ERR_LIBVIRT, "there are no domains");
}

/* ---- One request ---- */

struct request {
    struct json_object *json;
    struct conf_holder *holder;
    const struct conf *conf;
    struct instance *inst;
    struct block_device_mapping_list *bdms;
    struct image_meta image, rescue;
    bool is_rescue;
    struct vif_list vifs;
    struct guest_host *host;
    struct host_facts facts;
    struct disk_layout disks;
    char *dir;
    struct guest_pci_name names[4];
};

static struct request *request_free(struct request *r)
{
    if (!r) {
        return NULL;
    }
    disk_layout_fini(&r->disks);
    host_facts_fini(&r->facts);
    guest_host_free(r->host);
    vif_list_fini(&r->vifs);
    image_meta_fini(&r->image);
    image_meta_fini(&r->rescue);
    block_device_mapping_list_free(r->bdms);
    instance_free(r->inst);
    conf_put(r->conf);
    conf_holder_free(r->holder);
    json_object_put(r->json);
    free(r->dir);
    free(r);
    return NULL;
}

static void request_freep(struct request **p)
{
    *p = request_free(*p);
}

static void good(struct err *e)
{
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        fail_msg("%s", text);
    }
}

static void add_domains(struct strv *ret)
{
    strv_add_take(ret, golden("domain-pc.xml", "host/"));
    strv_add_take(ret, golden("domain-q35.xml", "host/"));
}

static void add_firmware(struct strv *ret)
{
    CLEANUP(strv_fini) struct strv names = {0};

    good(fs_list(&fs_real, GOLDEN "host/firmware", &names));
    for (size_t i = 0; i < names.n; i++) {
        strv_add_take(ret, golden(names.items[i], "host/firmware/"));
    }
}

static void read_host(struct request *r)
{
    CLEANUP(strv_fini) struct strv domains = {0}, firmware = {0};
    CLEANUP(freep) char *caps = golden("capabilities.xml", "host/");
    CLEANUP(freep) char *models = golden("models.json", "host/");
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct jv_reader h = jv_reader_init(jv_get(r->json, "host"), "host");
    struct guest_host_source s = {
        .capabilities = caps,
        .domain_capabilities = &domains,
        .firmware = &firmware,
        .machine_id = jv_str(&h, "machine_id"),
        .libvirt_version = 9000000,
        .has_cpu_controller = jv_bool_or(&h, "cpu_controller", false),
        .has_direct_io = jv_bool_or(&h, "direct_io", false),
        .has_rng_device = jv_bool_or(&h, "rng_device", false),
        .kernel_major = jv_int(&h, "kernel_major"),
    };

    good(jv_finish(&h));
    add_domains(&domains);
    add_firmware(&firmware);
    good(guest_host_new(&s, &r->host));
    good(jv_parse(models, strlen(models), &json));
    json_object_object_foreach(json, model, features)
    {
        struct strv names = {0};

        for (size_t i = 0; i < json_object_array_length(features); i++) {
            strv_add(&names, json_object_get_string(json_object_array_get_idx(features, i)));
        }
        guest_host_add_features(r->host, model, &names);
    }
    good(host_read(NULL, r->conf, &r->facts));
}

static struct request *request_read(const char *name)
{
    struct request *r = NEW(struct request);
    CLEANUP(freep) char *text = golden(".json", name);
    CLEANUP(freep) char *vifs = NULL, *conf = NULL;

    assert_non_null(text);
    good(jv_parse(text, strlen(text), &r->json));
    conf = str_printf("%s\n[DEFAULT]\ninstances_path = /\n",
                      json_object_get_string(jv_get(r->json, "conf")));
    good(conf_from_text(conf, &r->holder));
    r->conf = conf_get(r->holder);
    good(instance_from_json(jv_get(r->json, "instance"), &r->inst));
    if (jv_get(r->json, "bdms")) {
        good(block_device_mapping_list_from_json(jv_get(r->json, "bdms"), &r->bdms));
    }
    good(image_meta_of_instance(r->inst, &r->image));
    r->is_rescue = jv_get(r->json, "rescue_image") != NULL;
    good(image_meta_of_json(jv_get(r->json, "rescue_image"), &r->rescue));
    vifs = jv_text(jv_get(r->json, "network_info"));
    good(vif_list_parse(vifs, &r->vifs));
    r->dir = str_printf(DIR "%s", instance_uuid(r->inst));
    read_host(r);
    return r;
}

static struct guest_spec spec_of(struct request *r)
{
    static const int64_t ports[] = {10000, 10001, 10002};
    size_t n_ports = 0, n_names = 0;

    json_object_object_foreach(jv_get(jv_get(r->json, "host"), "pci_names"), address, name)
    {
        r->names[n_names++] = (struct guest_pci_name){address, json_object_get_string(name)};
    }
    err_free(guest_n_serial_ports(r->conf, r->inst, &r->image, &n_ports));
    return (struct guest_spec){
        .conf = r->conf,
        .host = r->host,
        .facts = &r->facts,
        .inst = r->inst,
        .image = &r->image,
        .rescue = r->is_rescue ? &r->rescue : NULL,
        .disks = &r->disks,
        .vifs = &r->vifs,
        .dir = r->dir,
        .rescue_kernel = json_object_get_string(jv_get(r->json, "rescue_kernel")),
        .rescue_ramdisk = json_object_get_string(jv_get(r->json, "rescue_ramdisk")),
        .now_s = json_object_get_int64(jv_get(r->json, "now")),
        .serial_ports = ports,
        .n_serial_ports = n_ports,
        .pci_names = r->names,
        .n_pci_names = n_names,
    };
}

static struct err *make(struct request *r, char **ret)
{
    const struct disk_layout_input in = {
        .conf = r->conf,
        .inst = r->inst,
        .image = &r->image,
        .rescue = r->is_rescue ? &r->rescue : NULL,
        .bdms = r->bdms,
        .has_config_drive = !str_is_empty(instance_config_drive(r->inst)),
    };

    TRY(disk_layout_make(&in, &r->disks));
    const struct guest_spec spec = spec_of(r);

    return guest_xml_make(&spec, ret);
}

/* ---- XML as lines ---- */

static struct xb_node *nth(struct xb_node *parent, size_t i)
{
    struct xb_node *n = xb_first(parent, NULL);

    while (n && i--) {
        n = xb_next(n, NULL);
    }
    return n;
}

/* Which one of its name a node is among its parent's children. */
static size_t index_of(struct xb_node *parent, size_t at)
{
    size_t n = 0;

    for (size_t i = 0; i < at; i++) {
        n += str_eq(xb_name(nth(parent, i)), xb_name(nth(parent, at)));
    }
    return n;
}

/* "path@attr=value" for each attribute: what stands in the opening tag, which libxml2 writes the
 * same way every time. */
static void add_attrs(const char *path, struct xb_node *n, struct strv *ret)
{
    CLEANUP(freep) char *text = xb_node_text(n);
    char *tag_end = text + strcspn(text, ">");
    char *at = text + strcspn(text, " />");

    *tag_end = '\0';
    while ((at = strchr(at, ' '))) {
        char *quote = strchr(at, '"');
        char *end = quote ? strchr(quote + 1, '"') : NULL;

        if (!end) {
            break;
        }
        *end = '\0';
        strv_add_take(ret,
                      str_printf("%s@%.*s=%s", path, (int)(quote - at - 2), at + 1, quote + 1));
        at = end + 1;
    }
}

static void flatten(const char *path, struct xb_node *n, struct strv *ret)
{
    strv_add(ret, path);
    add_attrs(path, n, ret);
    if (xb_is_empty(n)) {
        CLEANUP(freep) char *text = xb_content(n);

        if (!str_is_empty(text)) {
            strv_add_take(ret, str_printf("%s: %s", path, text));
        }
    }
    for (size_t i = 0; nth(n, i); i++) {
        CLEANUP(freep) char *text = xb_node_text(nth(n, i));
        CLEANUP(freep)
        char *child = str_printf("%s/%.*s[%zu]", path, (int)strcspn(text + 1, " />"), text + 1,
                                 index_of(n, i));

        flatten(child, nth(n, i), ret);
    }
}

static struct strv lines_of(const char *xml)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct strv lines = {0};

    good(xb_parse(xml, &doc));
    flatten("", xb_root(doc), &lines);
    return lines;
}

static void add_missing(const char *side, const struct strv *have, const struct strv *in,
                        struct strv *ret)
{
    for (size_t i = 0; i < have->n; i++) {
        if (!strv_has(in, have->items[i])) {
            strv_add_take(ret, str_printf("%s %s", side, have->items[i]));
        }
    }
}

/* ---- Comparing ---- */

/* Takes out of 'found' what the file "differences" has for a request; what it has in vain is a
 * difference of its own. */
static void forgive(const char *name, struct strv *found)
{
    CLEANUP(freep) char *text = golden("differences", "");
    CLEANUP(strv_fini) struct strv known = strv_split(text, "\n");
    CLEANUP(freep) char *prefix = str_printf("%s ", name);
    CLEANUP(strv_fini) struct strv left = {0};

    for (size_t i = 0; i < known.n; i++) {
        const char *line = known.items[i] + strlen(prefix);

        if (str_starts(known.items[i], prefix) && !strv_has(found, line)) {
            strv_add_take(&left, str_printf("listed, but no difference: %s", line));
        }
    }
    for (size_t i = 0; i < found->n; i++) {
        CLEANUP(freep) char *line = str_printf("%s%s", prefix, found->items[i]);

        if (!strv_has(&known, line)) {
            strv_add(&left, found->items[i]);
        }
    }
    strv_fini(found);
    *found = left;
    left = (struct strv){0};
}

static struct strv differences(const char *ours, const char *novas)
{
    CLEANUP(strv_fini) struct strv a = lines_of(ours), b = lines_of(novas);
    struct strv found = {0};

    add_missing("ours", &a, &b, &found);
    add_missing("nova", &b, &a, &found);
    return found;
}

/* What Nova's libvirt driver answers to a request, with its XML or its exception, we answer too. */
static void nova_answers_the_same(void **state)
{
    const char *name = *state;
    CLEANUP(request_freep) struct request *r = request_read(name);
    CLEANUP(freep)
    char *novas = golden(".xml", name), *refusal = golden(".err", name), *ours = NULL;
    CLEANUP(err_freep) struct err *e = make(r, &ours);
    CLEANUP(strv_fini) struct strv found = {0};

    if (!e && novas) {
        found = differences(ours, novas);
    } else if (!e || !refusal || !str_eq(err_class(e), str_strip(refusal))) {
        strv_add_take(&found, str_printf("refused: ours %s, nova %s", e ? err_class(e) : "not",
                                         refusal ? str_strip(refusal) : "not"));
    }
    forgive(name, &found);
    if (found.n) {
        CLEANUP(freep) char *text = strv_join(&found, "\n    ");

        fail_msg("%s:\n    %s\n    %s", name, text, e ? err_message(e) : "");
    }
}

/* ---- The other entrances ---- */

static void an_interface_alone_is_that_of_the_whole(void **state)
{
    CLEANUP(request_freep) struct request *r = request_read("vhostuser-sizes");
    CLEANUP(freep) char *whole = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct xb_node *n;

    (void)state;
    good(make(r, &whole));
    good(xb_parse(whole, &doc));
    n = xb_find(xb_root(doc), "devices/interface");
    for (size_t i = 0; i < r->vifs.n; i++, n = xb_next(n, "interface")) {
        const struct guest_spec spec = spec_of(r);
        CLEANUP(freep) char *one = NULL, *text = xb_node_text(n);

        good(guest_interface_xml(&spec, &r->vifs.items[i], &one));
        CLEANUP(strv_fini) struct strv found = differences(one, text);

        assert_int_equal(found.n, 0);
    }
    assert_null(n);
}

static void the_cpu_is_told_as_nova_keeps_it(void **state)
{
    CLEANUP(request_freep) struct request *r = request_read("cpu-passthrough");
    const struct guest_spec spec = spec_of(r);
    CLEANUP(virt_cpu_model_freep) struct virt_cpu_model *m = NULL;
    struct virt_cpu_feature *f;

    (void)state;
    good(guest_vcpu_model(&spec, &m));
    assert_string_equal(virt_cpu_model_mode(m), "host-passthrough");
    assert_string_equal(virt_cpu_model_match(m), "exact");
    assert_null(virt_cpu_model_model(m));
    assert_int_equal(virt_cpu_topology_sockets(virt_cpu_model_topology(m)), 1);
    assert_int_equal(virt_cpu_model_n_features(m), 3);
    f = virt_cpu_model_features_at(m, 0);
    assert_string_equal(virt_cpu_feature_name(f), "mtrr");
    assert_string_equal(virt_cpu_feature_policy(f), "disable");
}

static void a_node_that_is_gone_is_an_error(void **state)
{
    CLEANUP(request_freep) struct request *r = request_read("numa-two-floating");
    CLEANUP(freep) char *xml = NULL;

    (void)state;
    r->facts.cells[1].id = 7;
    CLEANUP(err_freep) struct err *e = make(r, &xml);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_non_null(strstr(err_message(e), "NUMA node 1"));
}

static void pins_and_addresses_that_make_no_sense_are_errors(void **state)
{
    CLEANUP(request_freep) struct request *pinned = request_read("pinned");
    CLEANUP(request_freep) struct request *passed = request_read("pci-alias");
    struct instance_numa_cell *cell =
        instance_numa_topology_cells_at(instance_numa_topology(pinned->inst), 0);
    CLEANUP(freep) char *xml = NULL;

    (void)state;
    jv_add_int(instance_numa_cell_cpu_pinning_raw(cell), "1", -1);
    pci_device_set_address(pci_device_list_at(instance_pci_devices(passed->inst), 0), "06:12");
    CLEANUP(err_freep) struct err *pin = make(pinned, &xml);
    CLEANUP(err_freep) struct err *address = make(passed, &xml);

    assert_true(err_is(pin, ERR_PARSE));
    assert_true(err_is(address, ERR_PARSE));
    assert_null(xml);
}

static void as_many_ports_as_consoles_are_needed(void **state)
{
    CLEANUP(request_freep) struct request *r = request_read("serial-consoles");
    CLEANUP(freep) char *xml = NULL;
    size_t n = 0;

    (void)state;
    good(guest_n_serial_ports(r->conf, r->inst, &r->image, &n));
    assert_int_equal(n, 2);
    good(make(r, &xml));
    struct guest_spec spec = spec_of(r);

    spec.n_serial_ports = 1;
    CLEANUP(freep) char *unused = NULL;
    CLEANUP(err_freep) struct err *e = guest_xml_make(&spec, &unused);

    assert_true(err_is(e, ERR_INTERNAL));
}

static void ports_that_cannot_be_had_are_named(void **state)
{
    CLEANUP(request_freep) struct request *r = request_read("ovs-tap");
    CLEANUP(jv_putp) struct json_object *json = jv_dup(r->vifs.items[0].json);
    CLEANUP(vif_fini) struct vif vif = {0};
    CLEANUP(freep) char *xml = NULL;
    const struct guest_spec spec = spec_of(r);

    (void)state;
    jv_add_str(json, "type", "binding_failed");
    good(vif_from_json(json, &vif));
    CLEANUP(err_freep) struct err *e = guest_interface_xml(&spec, &vif, &xml);

    assert_true(err_is(e, ERR_VIF_PLUG));
    assert_non_null(strstr(err_message(e), "84196ce4"));
    assert_non_null(strstr(err_message(e), "binding_failed"));
}

int main(void)
{
    const struct CMUnitTest others[] = {
        cmocka_unit_test(an_interface_alone_is_that_of_the_whole),
        cmocka_unit_test(the_cpu_is_told_as_nova_keeps_it),
        cmocka_unit_test(a_node_that_is_gone_is_an_error),
        cmocka_unit_test(pins_and_addresses_that_make_no_sense_are_errors),
        cmocka_unit_test(as_many_ports_as_consoles_are_needed),
        cmocka_unit_test(ports_that_cannot_be_had_are_named),
    };
    CLEANUP(strv_fini) struct strv files = {0}, names = {0};
    CLEANUP(freep) struct CMUnitTest *tests = NULL;
    int failed = 0;

    good(fs_list(&fs_real, GOLDEN, &files));
    for (size_t i = 0; i < files.n; i++) {
        if (str_ends(files.items[i], ".json")) {
            strv_add_take(&names,
                          str_ndup(files.items[i], strlen(files.items[i]) - strlen(".json")));
        }
    }
    tests = NEW_ARRAY(struct CMUnitTest, names.n);
    for (size_t i = 0; i < names.n; i++) {
        tests[i] = (struct CMUnitTest){.name = names.items[i],
                                       .test_func = nova_answers_the_same,
                                       .initial_state = names.items[i]};
    }
    failed += names.n < 60; /* The corpus is somewhere else. */
    failed += _cmocka_run_group_tests("corpus", tests, names.n, NULL, NULL);
    failed += cmocka_run_group_tests(others, NULL, NULL);
    return failed;
}

/* link: driver_compute driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "base/base64.h"
#include "base/fs.h"
#include "driver/compute/metadata.h"
#include "driver/compute/metadata_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN TESTS_DIR "/golden/metadata"

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    assert_null(jv_parse(text, strlen(text), &json));
    return json;
}

static const struct conf *conf_of(const char *text, struct conf_holder **ret)
{
    assert_null(conf_from_text(text, ret));
    return conf_get(*ret);
}

/* ---- Nova's documents ---- */

/* Takes the seed out of a document, which is then like the recorded ones. */
static void check_seed(const char *path, struct json_object *doc)
{
    bool is_meta_data = str_starts(path, "openstack/") && str_ends(path, "/meta_data.json");
    const char *seed = json_object_get_string(jv_get(doc, "random_seed"));
    CLEANUP(freep) char *bytes = NULL;
    size_t len = 0;

    if (!is_meta_data || str_starts(path, "openstack/2012-08-10/")) {
        assert_null(seed);
        return;
    }
    assert_non_null(seed);
    assert_null(base64_decode(seed, &bytes, &len));
    assert_int_equal(len, 512);
    json_object_object_del(doc, "random_seed");
}

static void check_json(const char *name, const struct configdrive_file *f, struct json_object *json)
{
    CLEANUP(jv_putp) struct json_object *doc = NULL;

    assert_null(jv_parse(f->data, f->len, &doc));
    check_seed(f->path, doc);
    CLEANUP(freep) char *have = jv_text(doc);
    CLEANUP(freep) char *wanted = jv_text(json);

    if (!str_eq(have, wanted)) {
        print_error("%s: %s:\n%s\nexpected:\n%s\n", name, f->path, have, wanted);
        fail();
    }
}

static void check_bytes(const struct configdrive_file *f, struct json_object *base64)
{
    CLEANUP(freep) char *bytes = NULL;
    size_t len = 0;

    assert_null(base64_decode(json_object_get_string(base64), &bytes, &len));
    if (len != f->len || memcmp(bytes, f->data, len) != 0) {
        print_error("%s:\n%.*s\nexpected:\n%s\n", f->path, (int)f->len, f->data, bytes);
        fail();
    }
}

static void check_files(const char *name, const struct configdrive_files *files,
                        struct json_object *expected)
{
    assert_int_equal(files->n, json_object_object_length(expected));
    for (size_t i = 0; i < files->n; i++) {
        struct json_object *e = jv_get(expected, files->items[i].path);

        if (!e) {
            print_error("%s: %s is nothing of Nova's\n", name, files->items[i].path);
            fail();
        }
        if (jv_get(e, "base64")) {
            check_bytes(&files->items[i], jv_get(e, "base64"));
        } else {
            check_json(name, &files->items[i], jv_get(e, "json"));
        }
    }
}

static void group_names(struct json_object *groups, struct strv *ret)
{
    for (size_t i = 0; i < jv_len(groups); i++) {
        strv_add(ret, json_object_get_string(jv_at(groups, i)));
    }
}

static void check_golden(const char *name)
{
    CLEANUP(freep) char *path = str_printf(GOLDEN "/%s", name);
    CLEANUP(freep) char *text = NULL;
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;
    CLEANUP(strv_fini) struct strv groups = {0};
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(conf_putp) const struct conf *conf = NULL;

    assert_null(fs_read(&fs_real, path, &text, NULL));
    CLEANUP(jv_putp) struct json_object *c = parse(text);

    conf = conf_of(json_object_get_string(jv_get(c, "options")), &holder);

    assert_null(instance_from_json(jv_get(c, "instance"), &inst));
    assert_null(block_device_mapping_list_from_json(jv_get(c, "bdms"), &bdms));
    group_names(jv_get(c, "security_groups"), &groups);
    const struct metadata_input in = {
        .conf = conf,
        .inst = inst,
        .bdms = bdms,
        .network_info = jv_get(c, "network_info"),
        .injected_files = jv_get(c, "injected_files"),
        .admin_pass = json_object_get_string(jv_get(c, "admin_pass")),
        .security_groups = &groups,
        .static_vendordata = jv_get(c, "vendordata"),
    };

    assert_null(metadata_files(&in, &files));
    check_files(name, &files, jv_get(c, "expected"));
}

static void the_documents_are_nova_s(void **state)
{
    struct strv names = {0};
    size_t n = 0;

    (void)state;
    assert_null(fs_list(&fs_real, GOLDEN, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (str_ends(names.items[i], ".json")) {
            check_golden(names.items[i]);
            n++;
        }
    }
    assert_int_equal(n, 7);
    strv_fini(&names);
}

/* ---- What cannot be read ---- */

static struct instance *plain(void)
{
    struct instance *i = instance_new();
    struct flavor *f = flavor_new();
    struct ec2_ids *ids = ec2_ids_new();

    flavor_set_name(f, "m1.small");
    ec2_ids_set_instance_id(ids, "i-1");
    ec2_ids_set_ami_id(ids, NULL);
    ec2_ids_set_kernel_id(ids, NULL);
    ec2_ids_set_ramdisk_id(ids, NULL);
    instance_set_uuid(i, "6f70656e-7374-4163-8b21-6e6f76617368");
    instance_set_display_name(i, "name");
    instance_set_hostname(i, NULL);
    instance_set_launch_index(i, 0);
    instance_set_availability_zone(i, NULL);
    instance_set_project_id(i, "p");
    instance_set_reservation_id(i, "r");
    instance_set_key_name(i, NULL);
    instance_set_user_data(i, NULL);
    instance_set_root_device_name(i, NULL);
    instance_clear_metadata(i);
    instance_set_flavor(i, f);
    instance_set_ec2_ids(i, ids);
    instance_set_keypairs(i, key_pair_list_new());
    instance_set_device_metadata(i, NULL);
    instance_set_numa_topology(i, NULL);
    return i;
}

static struct err *make(const char *options, const struct instance *inst, const char *injected,
                        struct configdrive_files *ret)
{
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(conf_putp) const struct conf *conf = conf_of(options, &holder);
    CLEANUP(jv_putp) struct json_object *files = injected ? parse(injected) : NULL;

    return metadata_files(
        &(struct metadata_input){.conf = conf, .inst = inst, .injected_files = files}, ret);
}

static void an_injected_file_that_is_no_base64_is_named(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = plain();
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};
    CLEANUP(err_freep)
    struct err *e = make("", inst, "[[\"/a\",\"YQ==\"],[\"/b\",\"Y\"]]", &files);

    (void)state;
    assert_true(err_is(e, ERR_BASE64));
    assert_string_equal(err_message(e), "Invalid Base 64 data for file /b");
    assert_int_equal(files.n, 0);
}

static void an_injected_file_without_content_is_refused(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = plain();
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};
    CLEANUP(err_freep) struct err *e = make("", inst, "[[\"/a\"]]", &files);

    (void)state;
    assert_true(err_is(e, ERR_TYPE));
}

static void user_data_that_is_no_base64_is_refused_without_showing_it(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = plain();
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};

    (void)state;
    instance_set_user_data(inst, "secretsecre");
    CLEANUP(err_freep) struct err *e = make("", inst, NULL, &files);
    CLEANUP(freep) char *text = err_text(e);

    assert_true(err_is(e, ERR_PARSE));
    assert_null(strstr(text, "secret"));
}

static const struct configdrive_file *find(const struct configdrive_files *files, const char *path)
{
    for (size_t i = 0; i < files->n; i++) {
        if (str_eq(files->items[i].path, path)) {
            return &files->items[i];
        }
    }
    return NULL;
}

static void without_the_static_provider_there_is_no_vendor_data(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = plain();
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};

    (void)state;
    assert_null(make("[api]\nvendordata_providers = DynamicJSON\n", inst, NULL, &files));
    assert_null(find(&files, "openstack/latest/vendor_data.json"));
    assert_int_equal(find(&files, "openstack/latest/vendor_data2.json")->len, 2);
    assert_memory_equal(find(&files, "openstack/latest/vendor_data2.json")->data, "{}", 2);
    assert_null(find(&files, "openstack/latest/user_data"));
    assert_null(find(&files, "ec2/1.0/meta-data.json"));
}

static void a_server_without_a_host_name_has_none_with_a_domain_either(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = plain();
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};

    (void)state;
    assert_null(make("", inst, NULL, &files));
    const struct configdrive_file *f = find(&files, "openstack/2012-08-10/meta_data.json");
    CLEANUP(jv_putp) struct json_object *doc = NULL;

    assert_null(jv_parse(f->data, f->len, &doc));
    assert_true(json_object_object_get_ex(doc, "hostname", NULL));
    assert_null(jv_get(doc, "hostname"));
}

/* ---- The network ---- */

static void a_subnet_whose_cidr_is_none_is_an_error_that_names_the_port(void **state)
{
    static const char *const bad[] = {
        "null", "\"\"", "\"10.0.0.0/33\"", "\"10.0.0/8\"", "\"::/129\"", "\"10.0.0.0/x\"", "7"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep)
        char *text = str_printf("[{\"id\":\"port-1\",\"network\":{\"subnets\":[{\"version\":4,"
                                "\"ips\":[{\"address\":\"a\"}],\"cidr\":%s}]}}]",
                                bad[i]);
        CLEANUP(jv_putp) struct json_object *model = parse(text);
        CLEANUP(jv_putp) struct json_object *doc = NULL;
        CLEANUP(err_freep) struct err *e = metadata_network(model, &doc);
        CLEANUP(freep) char *said = err_text(e);

        assert_true(err_is(e, ERR_PARSE));
        assert_non_null(strstr(said, "port-1"));
        assert_null(doc);
    }
}

static void whatever_else_a_model_lacks_is_null(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *model = parse(
        "[1,{},{\"network\":null},{\"network\":{\"subnets\":[{\"version\":4,\"cidr\":\"10.0.0."
        "0/8\",\"ips\":[{}],\"routes\":[{\"cidr\":\"10.1.0.0/16\"}],\"dns\":[{}]}]}}]");
    CLEANUP(jv_putp) struct json_object *doc = NULL;
    CLEANUP(freep) char *interfaces = NULL;

    (void)state;
    assert_null(metadata_network(model, &doc));
    CLEANUP(freep) char *text = jv_text(doc);

    assert_string_equal(
        text,
        "{\"links\":[{\"id\":\"interface0\",\"vif_id\":null,\"type\":\"phy\",\"mtu\":null,"
        "\"ethernet_mac_address\":null}],\"networks\":[{\"id\":\"network0\",\"type\":\"ipv4\","
        "\"link\":\"interface0\",\"ip_address\":null,\"netmask\":\"255.0.0.0\",\"routes\":[{"
        "\"network\":\"10.1.0.0\",\"netmask\":\"255.255.0.0\",\"gateway\":null}],\"network_id\":"
        "null,\"services\":[{\"type\":\"dns\",\"address\":null}]}],\"services\":[{\"type\":\"dns\","
        "\"address\":null}]}");
    assert_null(metadata_interfaces(model, &interfaces));
    assert_null(interfaces);
}

/* ---- Around it ---- */

static void security_groups_are_named_port_by_port(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *ports = parse("[{\"security_groups\":[\"b\",\"a\"]},{},"
                                      "{\"security_groups\":[\"c\",\"hidden\",\"a\"]}]");
    CLEANUP(jv_putp)
    struct json_object *groups = parse("[{\"id\":\"a\",\"name\":\"web\"},{\"id\":\"b\",\"name\":"
                                       "\"default\"},{\"id\":\"c\",\"name\":\"\"}]");
    CLEANUP(strv_fini) struct strv names = {0};

    (void)state;
    metadata_group_names(ports, groups, &names);
    CLEANUP(freep) char *all = strv_join(&names, " ");

    assert_string_equal(all, "default web c web");
}

static void vendor_data_is_read_from_the_file_that_the_site_names(void **state)
{
    char dir[] = "/tmp/test_metadata.XXXXXX";
    CLEANUP(jv_putp) struct json_object *data = NULL;
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;

    (void)state;
    assert_non_null(mkdtemp(dir));
    CLEANUP(freep) char *path = str_printf("%s/vendor.json", dir);
    CLEANUP(freep) char *options = str_printf("[api]\nvendordata_jsonfile_path = %s\n", path);
    CLEANUP(conf_putp) const struct conf *conf = conf_of(options, &holder);

    CLEANUP(err_freep) struct err *absent = metadata_vendordata(conf, &data);

    assert_true(err_is(absent, ERR_CONFIG));
    assert_non_null(strstr(err_message(absent), path));
    assert_null(fs_write_atomic(&fs_real, path, "{\"a\": 1", 7, 0600));
    CLEANUP(err_freep) struct err *broken = metadata_vendordata(conf, &data);

    assert_true(err_is(broken, ERR_CONFIG));
    assert_null(fs_write_atomic(&fs_real, path, "{\"a\": 1}\n", 9, 0600));
    assert_null(metadata_vendordata(conf, &data));
    assert_int_equal(json_object_get_int(jv_get(data, "a")), 1);
    assert_null(fs_remove_all(&fs_real, dir));
}

static void a_site_may_have_no_vendor_data(void **state)
{
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(conf_putp) const struct conf *conf = conf_of("", &holder);
    CLEANUP(jv_putp) struct json_object *data = NULL;

    (void)state;
    assert_null(metadata_vendordata(conf, &data));
    assert_null(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documents_are_nova_s),
        cmocka_unit_test(an_injected_file_that_is_no_base64_is_named),
        cmocka_unit_test(an_injected_file_without_content_is_refused),
        cmocka_unit_test(user_data_that_is_no_base64_is_refused_without_showing_it),
        cmocka_unit_test(without_the_static_provider_there_is_no_vendor_data),
        cmocka_unit_test(a_server_without_a_host_name_has_none_with_a_domain_either),
        cmocka_unit_test(a_subnet_whose_cidr_is_none_is_an_error_that_names_the_port),
        cmocka_unit_test(whatever_else_a_model_lacks_is_null),
        cmocka_unit_test(security_groups_are_named_port_by_port),
        cmocka_unit_test(vendor_data_is_read_from_the_file_that_the_site_names),
        cmocka_unit_test(a_site_may_have_no_vendor_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

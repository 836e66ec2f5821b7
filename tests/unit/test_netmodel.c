/* link: rpc_rest rpc_objects base */
#include "base/fs.h"
#include "rpc/rest/netmodel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN TESTS_DIR "/golden/neutron"

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    assert_null(jv_parse(text, strlen(text), &json));
    return json;
}

static void check_golden(const char *name)
{
    CLEANUP(freep) char *path = str_printf(GOLDEN "/%s", name);
    CLEANUP(freep) char *text = NULL;
    CLEANUP(jv_putp) struct json_object *model = NULL;

    assert_null(fs_read(&fs_real, path, &text, NULL));
    CLEANUP(jv_putp) struct json_object *c = parse(text);
    const struct netmodel_input in = {
        .ports = jv_get(c, "ports"),
        .networks = jv_get(c, "networks"),
        .subnets = jv_get(c, "subnets"),
        .floating_ips = jv_get(c, "floating_ips"),
        .dhcp_ports = jv_get(c, "dhcp_ports"),
        .old = jv_get(c, "old"),
        .integration_bridge = json_object_get_string(jv_get(c, "bridge")),
    };

    assert_null(netmodel_build(&in, &model));
    if (!json_object_equal(model, jv_get(c, "expected"))) {
        print_error("%s:\n%s\nexpected:\n%s\n", name, json_object_to_json_string(model),
                    json_object_to_json_string(jv_get(c, "expected")));
        fail();
    }
}

static void the_model_is_nova_s_for_recorded_and_computed_answers(void **state)
{
    struct strv names = {0};

    (void)state;
    assert_null(fs_list(&fs_real, GOLDEN, &names));
    assert_true(names.n >= 20);
    for (size_t i = 0; i < names.n; i++) {
        check_golden(names.items[i]);
    }
    strv_fini(&names);
}

static struct err *build(const char *ports, const char *old, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *p = parse(ports);
    CLEANUP(jv_putp) struct json_object *o = old ? parse(old) : NULL;

    return netmodel_build(
        &(struct netmodel_input){.ports = p, .old = o, .integration_bridge = "br-int"}, ret);
}

#define PORT(id)                                                                                   \
    "{\"id\":\"" id "\",\"network_id\":\"n\",\"mac_address\":\"m\",\"status\":\"DOWN\","           \
    "\"tenant_id\":\"t\"}"

static const char *id_at(struct json_object *model, size_t i)
{
    return json_object_get_string(jv_get(json_object_array_get_idx(model, i), "id"));
}

static void ports_that_the_old_model_lacks_come_last(void **state)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;

    (void)state;
    assert_null(build("[" PORT("a") "," PORT("b") "," PORT("c") "]",
                      "[{\"id\":\"c\"},{\"id\":\"gone\"},{\"id\":\"c\"}]", &model));
    assert_int_equal(json_object_array_length(model), 3);
    assert_string_equal(id_at(model, 0), "c");
    assert_string_equal(id_at(model, 1), "a");
    assert_string_equal(id_at(model, 2), "b");
}

static void what_the_old_model_knows_is_kept(void **state)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;
    struct json_object *vif;

    (void)state;
    assert_null(build("[" PORT("a") "]",
                      "[{\"id\":\"a\",\"preserve_on_delete\":true,\"devname\":\"old\","
                      "\"novel\":{\"x\":1},\"meta\":{\"y\":2}}]",
                      &model));
    vif = json_object_array_get_idx(model, 0);
    assert_true(json_object_get_boolean(jv_get(vif, "preserve_on_delete")));
    assert_string_equal(json_object_get_string(jv_get(vif, "devname")), "tapa");
    assert_int_equal(json_object_get_int(jv_get(jv_get(vif, "novel"), "x")), 1);
    assert_int_equal(json_object_get_int(jv_get(jv_get(vif, "meta"), "y")), 2);
}

static void a_port_between_two_bindings_stays_as_it_was(void **state)
{
    static const char unbound[] = "[{\"id\":\"a\",\"network_id\":\"n\",\"mac_address\":\"m\","
                                  "\"status\":\"DOWN\",\"tenant_id\":\"t\","
                                  "\"binding:vif_type\":\"unbound\"}]";
    CLEANUP(jv_putp) struct json_object *model = NULL, *fresh = NULL;

    (void)state;
    assert_null(build(unbound, "[{\"id\":\"a\",\"type\":\"ovs\",\"details\":{\"x\":1}}]", &model));
    assert_string_equal(json_object_to_json_string_ext(model, JSON_C_TO_STRING_PLAIN),
                        "[{\"id\":\"a\",\"type\":\"ovs\",\"details\":{\"x\":1}}]");
    assert_null(build(unbound, "[{\"id\":\"a\"}]", &fresh));
    assert_string_equal(json_object_get_string(jv_get(json_object_array_get_idx(fresh, 0), "type")),
                        "unbound");
}

static void a_server_without_ports_has_an_empty_model(void **state)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;

    (void)state;
    assert_null(build("[]", "[{\"id\":\"a\"}]", &model));
    assert_int_equal(json_object_array_length(model), 0);
}

static void an_invisible_network_is_the_port_s_project_s(void **state)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;
    struct json_object *network;

    (void)state;
    assert_null(build("[" PORT("a") "]", NULL, &model));
    network = jv_get(json_object_array_get_idx(model, 0), "network");
    assert_null(jv_get(network, "label"));
    assert_string_equal(json_object_get_string(jv_get(jv_get(network, "meta"), "tenant_id")), "t");
}

static void garbage_is_an_error(void **state)
{
    static const char *const ports[] = {
        "[{}]",
        "[null]",
        "[[]]",
        "[{\"id\":1,\"network_id\":\"n\",\"mac_address\":\"m\",\"status\":\"x\"}]",
        "[{\"id\":\"a\",\"network_id\":null,\"mac_address\":\"m\",\"status\":\"x\"}]",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
        CLEANUP(jv_putp) struct json_object *model = NULL;
        CLEANUP(err_freep) struct err *e = build(ports[i], "[null,{},{\"id\":\"a\"}]", &model);

        assert_true(err_is(e, ERR_PARSE));
        assert_null(model);
    }
}

static void a_subnet_with_a_bad_cidr_is_an_error(void **state)
{
    static const char *const cidrs[] = {"10.0.0.0/33", "10.0.0/8",    "x",        "",
                                        "::/129",      "10.0.0.0/-1", "10.0.0.0/"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cidrs); i++) {
        CLEANUP(freep) char *text = str_printf("[{\"id\":\"s\",\"cidr\":\"%s\"}]", cidrs[i]);
        CLEANUP(jv_putp) struct json_object *subnets = parse(text);
        CLEANUP(jv_putp)
        struct json_object *ports =
            parse("[{\"id\":\"a\",\"network_id\":\"n\",\"mac_address\":\"m\",\"status\":\"x\","
                  "\"fixed_ips\":[{\"subnet_id\":\"s\",\"ip_address\":\"10.0.0.1\"}]}]");
        CLEANUP(jv_putp) struct json_object *model = NULL;
        CLEANUP(err_freep)
        struct err *e = netmodel_build(&(struct netmodel_input){.ports = ports,
                                                                .subnets = subnets,
                                                                .integration_bridge = "br-int"},
                                       &model);

        assert_true(err_is(e, ERR_PARSE));
    }
}

static void addresses_are_matched_by_their_leading_bits(void **state)
{
    (void)state;
    assert_true(netmodel_ip_in_cidr("10.1.2.3", "10.1.0.0/16"));
    assert_false(netmodel_ip_in_cidr("10.2.2.3", "10.1.0.0/16"));
    assert_true(netmodel_ip_in_cidr("10.1.2.129", "10.1.2.128/25"));
    assert_false(netmodel_ip_in_cidr("10.1.2.127", "10.1.2.128/25"));
    assert_true(netmodel_ip_in_cidr("1.2.3.4", "0.0.0.0/0"));
    assert_true(netmodel_ip_in_cidr("1.2.3.4", "1.2.3.4/32"));
    assert_true(netmodel_ip_in_cidr("1.2.3.4", "1.2.3.4"));
    assert_true(netmodel_ip_in_cidr("fd00::1", "fd00::/64"));
    assert_false(netmodel_ip_in_cidr("fd00:0:0:1::1", "fd00::/64"));
    assert_false(netmodel_ip_in_cidr("10.1.2.3", "::/0"));
    assert_false(netmodel_ip_in_cidr("nonsense", "0.0.0.0/0"));
    assert_int_equal(netmodel_ip_version("10.0.0.1"), 4);
    assert_int_equal(netmodel_ip_version("fe80::1"), 6);
    assert_int_equal(netmodel_ip_version("10.0.0.256"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_is_nova_s_for_recorded_and_computed_answers),
        cmocka_unit_test(ports_that_the_old_model_lacks_come_last),
        cmocka_unit_test(what_the_old_model_knows_is_kept),
        cmocka_unit_test(a_port_between_two_bindings_stays_as_it_was),
        cmocka_unit_test(a_server_without_ports_has_an_empty_model),
        cmocka_unit_test(an_invisible_network_is_the_port_s_project_s),
        cmocka_unit_test(garbage_is_an_error),
        cmocka_unit_test(a_subnet_with_a_bad_cidr_is_an_error),
        cmocka_unit_test(addresses_are_matched_by_their_leading_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

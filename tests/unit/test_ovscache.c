/* link: vif */

#include "vif/ovscache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ROOT_ID   "00000000-0000-0000-0000-000000000001"
#define BRIDGE_ID "00000000-0000-0000-0000-000000000002"
#define PORT_ID   "00000000-0000-0000-0000-000000000003"
#define IFACE_ID  "00000000-0000-0000-0000-000000000004"

static struct err *apply(struct ovscache *c, const char *text)
{
    CLEANUP(jv_putp) struct json_object *updates = NULL;

    assert_null(jv_parse(text, strlen(text), &updates));
    return ovscache_apply(c, updates);
}

/* As ovsdb-server answers to "monitor". */
static struct ovscache sample(void)
{
    struct ovscache c = {0};

    assert_null(apply(
        &c,
        "{\"Open_vSwitch\": {\"" ROOT_ID "\": {\"new\": {\"next_cfg\": 4, \"cur_cfg\": 3, "
        "\"dpdk_initialized\": true, \"iface_types\": [\"set\", [\"dummy\", \"internal\"]], "
        "\"bridges\": [\"uuid\", \"" BRIDGE_ID "\"]}}}, \"Bridge\": {\"" BRIDGE_ID
        "\": {\"new\": {\"name\": \"br0\", \"datapath_type\": \"\", \"ports\": [\"set\", "
        "[[\"uuid\", \"" ROOT_ID "\"], [\"uuid\", \"" PORT_ID "\"]]]}}}, \"Port\": {\"" PORT_ID
        "\": {\"new\": {\"name\": \"p0\", \"tag\": 7, \"interfaces\": [\"uuid\", \"" IFACE_ID
        "\"]}}}, \"Interface\": {\"" IFACE_ID "\": {\"new\": {\"name\": \"p0\", \"type\": \"\", "
        "\"ofport\": [\"set\", []], \"error\": [\"set\", []], \"external_ids\": [\"map\", "
        "[[\"iface-id\", \"i\"], [\"vm-uuid\", \"v\"]]], \"options\": [\"map\", []]}}}}"));
    return c;
}

static void columns_are_read_in_all_their_notations(void **state)
{
    CLEANUP(ovscache_fini) struct ovscache c = sample();
    const struct ovs_row *root = ovscache_root(&c);
    const struct ovs_row *port = ovscache_find(&c, OVS_TABLE_PORT, "p0");
    const struct ovs_row *iface = ovscache_find(&c, OVS_TABLE_INTERFACE, "p0");

    (void)state;
    assert_int_equal(ovs_row_int(root, "next_cfg", -9), 4);
    assert_true(ovs_row_bool(root, "dpdk_initialized"));
    assert_true(ovs_row_set_has(root, "iface_types", "dummy"));
    assert_false(ovs_row_set_has(root, "iface_types", "dpdk"));
    assert_true(ovs_row_set_has(root, "bridges", BRIDGE_ID));
    assert_int_equal(ovs_row_int(port, "tag", -1), 7);
    assert_string_equal(ovs_row_str(iface, "type"), "");
    assert_null(ovs_row_str(iface, "error"));
    assert_int_equal(ovs_row_int(iface, "ofport", -9), -9);
    assert_string_equal(ovs_row_map(iface, "external_ids", "vm-uuid"), "v");
    assert_null(ovs_row_map(iface, "external_ids", "vm-id"));
    assert_null(ovs_row_map(iface, "options", "x"));
    assert_null(ovs_row_map(iface, "no such column", "x"));
}

static void a_port_leads_to_its_bridge(void **state)
{
    CLEANUP(ovscache_fini) struct ovscache c = sample();
    const struct ovs_row *port = ovscache_find(&c, OVS_TABLE_PORT, "p0");

    (void)state;
    assert_ptr_equal(ovscache_bridge_of(&c, port), ovscache_find(&c, OVS_TABLE_BRIDGE, "br0"));
    assert_null(ovscache_find(&c, OVS_TABLE_PORT, "br0"));
}

static void updates_replace_and_delete_rows(void **state)
{
    CLEANUP(ovscache_fini) struct ovscache c = sample();

    (void)state;
    assert_null(apply(&c, "{\"Interface\": {\"" IFACE_ID "\": {\"old\": {\"ofport\": [\"set\", "
                          "[]]}, \"new\": {\"name\": \"p0\", \"ofport\": 5}}}}"));
    assert_int_equal(ovs_row_int(ovscache_find(&c, OVS_TABLE_INTERFACE, "p0"), "ofport", 0), 5);
    assert_null(apply(&c, "{\"Port\": {\"" PORT_ID "\": {\"old\": {\"name\": \"p0\"}}}, "
                          "\"Interface\": {\"" IFACE_ID "\": {\"old\": {}}}}"));
    assert_null(ovscache_find(&c, OVS_TABLE_PORT, "p0"));
    assert_null(ovscache_find(&c, OVS_TABLE_INTERFACE, "p0"));
    /* A row that is gone may go again, tables that nobody asked for may come. */
    assert_null(apply(&c, "{\"Port\": {\"" PORT_ID "\": {\"old\": {}}}, \"QoS\": 3}"));
}

static void what_is_no_update_is_an_error(void **state)
{
    static const char *const texts[] = {
        "[]",
        "{\"Port\": []}",
        "{\"Port\": {\"not a uuid\": {\"new\": {}}}}",
        "{\"Port\": {\"" PORT_ID "\": 1}}",
        "{\"Port\": {\"" PORT_ID "\": {\"new\": 1}}}",
    };
    CLEANUP(ovscache_fini) struct ovscache c = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(err_freep) struct err *e = apply(&c, texts[i]);

        assert_true(err_is(e, ERR_PARSE));
    }
}

static void odd_columns_read_as_absent(void **state)
{
    static const char *const values[] = {"[\"set\", 3]",   "[\"map\", {}]",
                                         "[\"map\", [1]]", "[\"set\"]",
                                         "[[]]",           "{}",
                                         "[\"uuid\", 1]",  "[\"set\", [[]]]",
                                         "null",           "[\"map\", [[1, 2], [\"k\", 2]]]"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        CLEANUP(ovscache_fini) struct ovscache c = {0};
        CLEANUP(freep)
        char *text = str_printf("{\"Port\": {\"" PORT_ID "\": {\"new\": {\"name\": "
                                "%s}}}}",
                                values[i]);
        const struct ovs_row *row;

        assert_null(apply(&c, text));
        row = c.rows[OVS_TABLE_PORT];
        assert_null(ovscache_find(&c, OVS_TABLE_PORT, "x"));
        assert_null(ovs_row_str(row, "name"));
        assert_null(ovs_row_map(row, "name", "k"));
        assert_int_equal(ovs_row_int(row, "name", -2), -2);
        assert_false(ovs_row_bool(row, "name"));
        assert_false(ovs_row_set_has(row, "name", "x"));
    }
}

static void what_is_monitored_is_named_by_table(void **state)
{
    CLEANUP(jv_putp) struct json_object *requests = ovscache_monitor_requests();
    CLEANUP(freep) char *port = jv_text(jv_get(requests, "Port"));

    (void)state;
    assert_int_equal(json_object_object_length(requests), OVS_N_TABLES);
    assert_string_equal(port, "{\"columns\":[\"name\",\"interfaces\",\"tag\"]}");
}

static void note_gone(const struct ovs_gone *gone, void *arg)
{
    strbuf_addf(arg, "%s %s %s;", gone->name, gone->iface_id, gone->vm_uuid);
}

static void interfaces_of_servers_that_are_gone_are_told(void **state)
{
    static const char text[] =
        "{\"Interface\": {"
        "\"" ROOT_ID "\": {\"old\": {\"name\": \"tap1\", \"external_ids\": [\"map\", "
        "[[\"iface-id\", \"p1\"], [\"vm-uuid\", \"v1\"]]]}}, "
        "\"" BRIDGE_ID "\": {\"old\": {\"name\": \"tap2\", \"external_ids\": [\"map\", "
        "[[\"iface-id\", \"p2\"], [\"vm-id\", \"v2\"]]]}}, "
        "\"" PORT_ID "\": {\"old\": {\"name\": \"tap3\"}, \"new\": {\"name\": \"tap3\"}}, "
        "\"" IFACE_ID "\": {\"old\": {\"name\": \"patch\", \"external_ids\": [\"map\", []]}}}, "
        "\"Port\": {\"" PORT_ID "\": {\"old\": {\"name\": \"tap1\"}}}}";
    CLEANUP(jv_putp) struct json_object *updates = NULL;
    CLEANUP(strbuf_fini) struct strbuf told = {0};

    (void)state;
    assert_null(jv_parse(text, strlen(text), &updates));
    ovscache_gone(updates, note_gone, &told);
    assert_string_equal(told.s, "tap1 p1 v1;tap2 p2 v2;");
    ovscache_gone(NULL, note_gone, &told);
    assert_string_equal(told.s, "tap1 p1 v1;tap2 p2 v2;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_read_in_all_their_notations),
        cmocka_unit_test(a_port_leads_to_its_bridge),
        cmocka_unit_test(updates_replace_and_delete_rows),
        cmocka_unit_test(what_is_no_update_is_an_error),
        cmocka_unit_test(odd_columns_read_as_absent),
        cmocka_unit_test(interfaces_of_servers_that_are_gone_are_told),
        cmocka_unit_test(what_is_monitored_is_named_by_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

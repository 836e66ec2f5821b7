/* link: vif */

#include "vif/ovsplan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ROOT_ID   "00000000-0000-0000-0000-000000000001"
#define BRIDGE_ID "00000000-0000-0000-0000-000000000002"
#define PORT_ID   "00000000-0000-0000-0000-000000000003"
#define IFACE_ID  "00000000-0000-0000-0000-000000000004"
#define OTHER_ID  "00000000-0000-0000-0000-000000000005"

#define ROOT(next, cur)                                                                            \
    "\"Open_vSwitch\": {\"" ROOT_ID "\": {\"new\": {\"next_cfg\": " next ", \"cur_cfg\": " cur "}" \
    "}"                                                                                            \
    "}"
#define BRIDGE(id, name, ports)                                                                    \
    "\"" id "\": {\"new\": {\"name\": \"" name "\", \"ports\": " ports "}}"
#define BRIDGES(rows) ", \"Bridge\": {" rows "}"
#define PORT_ROW                                                                                   \
    ", \"Port\": {\"" PORT_ID "\": {\"new\": {\"name\": \"vhu1\", \"interfaces\": [\"uuid\", "     \
    "\"" IFACE_ID "\"]}}}"
#define INTERFACE(type, ids, options, more)                                                        \
    ", \"Interface\": {\"" IFACE_ID "\": {\"new\": {\"name\": \"vhu1\", \"type\": \"" type         \
    "\", \"external_ids\": [\"map\", [" ids "]], \"options\": [\"map\", [" options "]]" more "}}}"

#define MY_PORT  "[\"uuid\", \"" PORT_ID "\"]"
#define NO_PORTS "[\"set\", []]"
#define RIGHT_IDS                                                                                  \
    "[\"iface-id\", \"port\"], [\"iface-status\", \"active\"], [\"attached-mac\", \"mac\"], "      \
    "[\"vm-uuid\", \"vm\"]"
#define RIGHT_OPTIONS "[\"vhost-server-path\", \"/run/vhost/vhu1\"]"
#define RIGHT(more)   INTERFACE("dpdkvhostuserclient", RIGHT_IDS, RIGHT_OPTIONS, more)
#define IN_BR_INT     BRIDGES(BRIDGE(BRIDGE_ID, "br-int", MY_PORT))

static const struct ovs_port_spec spec = {
    .bridge = "br-int",
    .datapath_type = "netdev",
    .name = "vhu1",
    .type = "dpdkvhostuserclient",
    .vhost_server_path = "/run/vhost/vhu1",
    .iface_id = "port",
    .attached_mac = "mac",
    .vm_uuid = "vm",
    .tag = -1,
};

static struct ovscache cache_of(const char *text)
{
    CLEANUP(jv_putp) struct json_object *updates = NULL;
    struct ovscache c = {0};

    assert_null(jv_parse(text, strlen(text), &updates));
    assert_null(ovscache_apply(&c, updates));
    return c;
}

/* What a plan says about a database: "done", "wait", "error: ..." or the operations. */
static char *say(ovsplan_fn fn, const char *database, const void *what, int64_t wait_cfg)
{
    CLEANUP(ovscache_fini) struct ovscache c = cache_of(database);
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(jv_putp) struct json_object *ops = NULL;
    struct ovsplan p;

    e = fn(&c, what, wait_cfg, &p);
    if (e) {
        assert_true(err_is(e, ERR_VIF_PLUG));
        return str_printf("error: %s", err_message(e));
    }
    ops = p.ops;
    switch (p.verdict) {
    case OVSPLAN_DONE:
        return str_dup("done");
    case OVSPLAN_WAIT:
        return str_dup("wait");
    case OVSPLAN_SEND:
        break;
    }
    return jv_text(ops);
}

static void assert_says(ovsplan_fn fn, const char *database, const void *what, int64_t wait_cfg,
                        const char *expected)
{
    CLEANUP(freep) char *text = say(fn, database, what, wait_cfg);

    if (!strstr(text, expected)) {
        assert_string_equal(text, expected); /* Shows both. */
    }
}

static void assert_says_not(ovsplan_fn fn, const char *database, const void *what,
                            const char *unexpected)
{
    CLEANUP(freep) char *text = say(fn, database, what, -1);

    assert_null(strstr(text, unexpected));
}

static void a_missing_port_is_inserted_into_its_bridge(void **state)
{
    static const char database[] =
        "{" ROOT("1", "1") BRIDGES(BRIDGE(BRIDGE_ID, "br-int", NO_PORTS)) "}";

    (void)state;
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "{\"op\":\"mutate\",\"table\":\"Bridge\",\"where\":[[\"_uuid\",\"==\",[\"uuid\","
                "\"" BRIDGE_ID "\"]]],\"mutations\":[[\"ports\",\"insert\",[\"named-uuid\","
                "\"new_port\"]]]}");
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "\"type\":\"dpdkvhostuserclient\",\"external_ids\":[\"map\",[[\"iface-id\","
                "\"port\"],[\"iface-status\",\"active\"],[\"attached-mac\",\"mac\"],[\"vm-uuid\","
                "\"vm\"]]],\"options\":[\"map\",[[\"vhost-server-path\",\"/run/vhost/vhu1\"]]]}");
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "[\"next_cfg\",\"+=\",1]]},{\"op\":\"select\",\"table\":\"Open_vSwitch\"");
    assert_says_not(ovsplan_ensure_port, database, &spec, "\"table\":\"Bridge\",\"uuid-name\"");
    assert_says_not(ovsplan_ensure_port, database, &spec, "tag");
    assert_says_not(ovsplan_ensure_port, database, &spec, "mtu_request");
}

static void a_new_port_gets_its_tag_and_mtu(void **state)
{
    struct ovs_port_spec with = spec;

    (void)state;
    with.tag = 4095;
    with.mtu_request = 1450;
    assert_says(ovsplan_ensure_port, "{" ROOT("1", "1") "}", &with, -1, "\"tag\":4095");
    assert_says(ovsplan_ensure_port, "{" ROOT("1", "1") "}", &with, -1, "\"mtu_request\":1450");
    /* An agent may have changed the tag of an old one. */
    assert_says(ovsplan_ensure_port,
                "{" ROOT("1", "1")
                    IN_BR_INT PORT_ROW RIGHT(", \"ofport\": 1, \"mtu_request\": 1450") "}",
                &with, -1, "done");
}

static void a_missing_bridge_is_made_in_the_same_transaction(void **state)
{
    static const char database[] = "{" ROOT("1", "1") "}";

    (void)state;
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "{\"op\":\"insert\",\"table\":\"Bridge\",\"uuid-name\":\"new_bridge\",\"row\":{"
                "\"name\":\"br-int\",\"ports\":[\"named-uuid\",\"local_port\"],\"datapath_type\":"
                "\"netdev\"}}");
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "\"where\":[[\"_uuid\",\"==\",[\"named-uuid\",\"new_bridge\"]]],\"mutations\":[["
                "\"ports\",\"insert\",[\"named-uuid\",\"new_port\"]]]}");
}

static void a_right_port_is_not_touched(void **state)
{
    (void)state;
    assert_says(ovsplan_ensure_port,
                "{" ROOT("3", "2") IN_BR_INT PORT_ROW RIGHT(", \"ofport\": 4") "}", &spec, -1,
                "done");
}

static void only_what_differs_is_changed(void **state)
{
    static const char wrong_type[] = "{" ROOT("1", "1") IN_BR_INT PORT_ROW INTERFACE(
        "dpdkvhostuser", RIGHT_IDS, RIGHT_OPTIONS, ", \"ofport\": 1") "}";
    static const char wrong_ids[] = "{" ROOT("1", "1") IN_BR_INT PORT_ROW INTERFACE(
        "dpdkvhostuserclient",
        "[\"iface-id\", \"old\"], [\"iface-status\", \"active\"], [\"attached-mac\", \"mac\"], "
        "[\"ovn-installed\", \"true\"]",
        RIGHT_OPTIONS, ", \"ofport\": 1") "}";

    (void)state;
    assert_says(
        ovsplan_ensure_port, wrong_type, &spec, -1,
        "[{\"op\":\"update\",\"table\":\"Interface\",\"where\":[[\"_uuid\",\"==\",[\"uuid\","
        "\"" IFACE_ID "\"]]],\"row\":{\"type\":\"dpdkvhostuserclient\"}},{\"op\":"
        "\"comment\"");
    assert_says(
        ovsplan_ensure_port, wrong_ids, &spec, -1,
        "\"mutations\":[[\"external_ids\",\"delete\",[\"set\",[\"iface-id\",\"vm-uuid\"]]],"
        "[\"external_ids\",\"insert\",[\"map\",[[\"iface-id\",\"port\"],[\"vm-uuid\",\"vm\"]"
        "]]]]},{\"op\":\"comment\"");
    assert_says_not(ovsplan_ensure_port, wrong_ids, &spec, "ovn-installed");
}

static void a_port_in_the_wrong_bridge_is_moved(void **state)
{
    static const char database[] = "{" ROOT("1", "1")
        BRIDGES(BRIDGE(BRIDGE_ID, "br-int", NO_PORTS) ", " BRIDGE(OTHER_ID, "br-x", MY_PORT))
            PORT_ROW RIGHT(", \"ofport\": 1") "}";

    (void)state;
    assert_says(ovsplan_ensure_port, database, &spec, -1,
                "\"" OTHER_ID "\"]]],\"mutations\":[[\"ports\",\"delete\",[\"uuid\",\"" PORT_ID
                "\"]]]},{\"op\":\"mutate\",\"table\":\"Bridge\",\"where\":[[\"_uuid\",\"==\",["
                "\"uuid\",\"" BRIDGE_ID
                "\"]]],\"mutations\":[[\"ports\",\"insert\",[\"uuid\",\"" PORT_ID "\"]]]}");
}

static void our_own_change_is_waited_for(void **state)
{
    (void)state;
    /* Its update has not come yet. */
    assert_says(ovsplan_ensure_port, "{" ROOT("6", "6") "}", &spec, 7, "wait");
    /* The switch has not done it yet. */
    assert_says(ovsplan_ensure_port,
                "{" ROOT("7", "6") IN_BR_INT PORT_ROW RIGHT(", \"ofport\": 4") "}", &spec, 7,
                "wait");
    assert_says(ovsplan_ensure_port,
                "{" ROOT("9", "8") IN_BR_INT PORT_ROW RIGHT(", \"ofport\": 4") "}", &spec, 7,
                "done");
}

static void the_switchs_refusal_is_told(void **state)
{
    static const char refused[] = "{" ROOT("7", "7")
        IN_BR_INT PORT_ROW RIGHT(", \"ofport\": -1, \"error\": \"no such type\"") "}";

    (void)state;
    assert_says(
        ovsplan_ensure_port, refused, &spec, 7,
        "error: Open vSwitch refuses port vhu1 of type 'dpdkvhostuserclient': no such type");
    assert_says(ovsplan_ensure_port,
                "{" ROOT("7", "7") IN_BR_INT PORT_ROW RIGHT(", \"ofport\": -1") "}", &spec, 7,
                "no OpenFlow port number");
    /* An old refusal is tried again first. */
    assert_says(ovsplan_ensure_port, refused, &spec, -1, "novashim: try again");
}

static void a_port_without_a_number_and_without_an_error_is_waited_for(void **state)
{
    static const char database[] = "{" ROOT("7", "7") IN_BR_INT PORT_ROW RIGHT("") "}";

    (void)state;
    assert_says(ovsplan_ensure_port, database, &spec, -1, "novashim: try again");
    assert_says(ovsplan_ensure_port, database, &spec, 7, "wait");
}

static void a_tap_need_not_exist_yet(void **state)
{
    static const char database[] = "{" ROOT("7", "7") IN_BR_INT PORT_ROW INTERFACE(
        "", RIGHT_IDS, "",
        ", \"ofport\": -1, \"error\": \"could not open network device vhu1 (No such device)\"") "}";
    struct ovs_port_spec tap = spec;

    (void)state;
    tap.type = "";
    tap.vhost_server_path = NULL;
    assert_says(ovsplan_ensure_port, database, &tap, 7, "done");
    assert_says(ovsplan_ensure_port, database, &tap, -1, "done");
}

static void a_member_of_a_bond_is_refused(void **state)
{
    (void)state;
    assert_says(ovsplan_ensure_port, "{" ROOT("1", "1") RIGHT("") "}", &spec, -1, "error:");
}

static void a_bridges_own_port_is_not_touched(void **state)
{
    static const char database[] = "{" ROOT("1", "1") BRIDGES(BRIDGE(BRIDGE_ID, "vhu1", MY_PORT))
        PORT_ROW RIGHT(", \"ofport\": 1") "}";

    (void)state;
    assert_says(ovsplan_ensure_port, database, &spec, -1, "error: a port cannot be named vhu1");
    assert_says(ovsplan_remove_port, database, "vhu1", -1, "error: a port cannot be named vhu1");
}

static void an_empty_database_is_an_error(void **state)
{
    const struct ovs_bridge_spec bridge = {.name = "br-int"};

    (void)state;
    assert_says(ovsplan_ensure_port, "{}", &spec, -1, "never initialised");
    assert_says(ovsplan_ensure_bridge, "{}", &bridge, -1, "never initialised");
    assert_says(ovsplan_remove_port, "{}", "vhu1", -1, "done");
}

static void a_port_is_removed_from_whatever_bridge_has_it(void **state)
{
    static const char database[] = "{" ROOT("1", "1")
        BRIDGES(BRIDGE(BRIDGE_ID, "br-int", NO_PORTS) ", " BRIDGE(OTHER_ID, "br-x", MY_PORT))
            PORT_ROW RIGHT("") "}";

    (void)state;
    assert_says(ovsplan_remove_port, database, "vhu1", -1,
                "[{\"op\":\"mutate\",\"table\":\"Bridge\",\"where\":[[\"_uuid\",\"==\",[\"uuid\","
                "\"" OTHER_ID "\"]]],\"mutations\":[[\"ports\",\"delete\",[\"uuid\",\"" PORT_ID
                "\"]]]},{\"op\":\"comment\"");
    assert_says(ovsplan_remove_port, database, "vhu1", 2, "wait");
    assert_says(ovsplan_remove_port, database, "vhu2", -1, "done");
}

static void a_bridge_is_made_and_removed_once(void **state)
{
    static const char with[] =
        "{" ROOT("1", "1") BRIDGES(BRIDGE(BRIDGE_ID, "br-int", NO_PORTS)) "}";
    static const char without[] = "{" ROOT("1", "1") "}";
    const struct ovs_bridge_spec bridge = {.name = "br-int", .datapath_type = ""};

    (void)state;
    assert_says(ovsplan_ensure_bridge, with, &bridge, -1, "done");
    assert_says(ovsplan_ensure_bridge, without, &bridge, -1, "\"op\":\"insert\"");
    assert_says_not(ovsplan_ensure_bridge, without, &bridge, "datapath_type");
    assert_says(ovsplan_remove_bridge, without, "br-int", -1, "done");
    assert_says(ovsplan_remove_bridge, with, "br-int", -1,
                "[\"bridges\",\"delete\",[\"uuid\",\"" BRIDGE_ID "\"]]");
}

static const struct ovs_socket_spec socket_spec = {"vhu1", "/run/vhost/vhu1"};

static void a_port_gets_its_socket_later(void **state)
{
    static const char database[] = "{" ROOT("1", "1") IN_BR_INT PORT_ROW INTERFACE(
        "dpdkvhostuserclient", RIGHT_IDS, "[\"n_rxq\", \"2\"]", ", \"ofport\": 5") "}";

    (void)state;
    assert_says(ovsplan_set_socket, database, &socket_spec, -1,
                "[\"options\",\"insert\",[\"map\",[[\"vhost-server-path\",\"/run/vhost/vhu1\"]]]]");
}

static void a_socket_that_is_known_is_not_set_again(void **state)
{
    (void)state;
    assert_says(ovsplan_set_socket,
                "{" ROOT("1", "1") IN_BR_INT PORT_ROW RIGHT(", \"ofport\": 5") "}", &socket_spec,
                -1, "done");
}

static void a_port_that_has_gone_gets_no_socket(void **state)
{
    (void)state;
    assert_says(ovsplan_set_socket,
                "{" ROOT("1", "1") BRIDGES(BRIDGE(BRIDGE_ID, "br-int", NO_PORTS)) "}", &socket_spec,
                -1, "done");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_port_is_inserted_into_its_bridge),
        cmocka_unit_test(a_new_port_gets_its_tag_and_mtu),
        cmocka_unit_test(a_missing_bridge_is_made_in_the_same_transaction),
        cmocka_unit_test(a_right_port_is_not_touched),
        cmocka_unit_test(only_what_differs_is_changed),
        cmocka_unit_test(a_port_in_the_wrong_bridge_is_moved),
        cmocka_unit_test(our_own_change_is_waited_for),
        cmocka_unit_test(the_switchs_refusal_is_told),
        cmocka_unit_test(a_port_without_a_number_and_without_an_error_is_waited_for),
        cmocka_unit_test(a_tap_need_not_exist_yet),
        cmocka_unit_test(a_member_of_a_bond_is_refused),
        cmocka_unit_test(a_bridges_own_port_is_not_touched),
        cmocka_unit_test(an_empty_database_is_an_error),
        cmocka_unit_test(a_port_is_removed_from_whatever_bridge_has_it),
        cmocka_unit_test(a_bridge_is_made_and_removed_once),
        cmocka_unit_test(a_port_gets_its_socket_later),
        cmocka_unit_test(a_socket_that_is_known_is_not_set_again),
        cmocka_unit_test(a_port_that_has_gone_gets_no_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

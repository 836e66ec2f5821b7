/* link: vif */

#include "vif/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PORT  "84196ce4-7caa-410a-964e-66622605f999"
#define PORT2 "11111111-2222-3333-4444-555555555555"

/* As the info cache has it. */
#define NETWORK                                                                                    \
    "{\"id\": \"a0c83ab5-0a74-4e55-a4a9-884a7685f919\", \"bridge\": \"br-int\", \"label\": "       \
    "\"flat\", \"subnets\": [], \"meta\": {\"injected\": false, \"mtu\": 1450, "                   \
    "\"physical_network\": \"physnet1\", \"tunneled\": false}}"
#define VHOSTUSER                                                                                  \
    "{\"id\": \"" PORT "\", \"address\": \"fa:16:3e:00:00:15\", \"network\": " NETWORK             \
    ", \"type\": \"vhostuser\", \"details\": {\"port_filter\": false, \"ovs_hybrid_plug\": false," \
    " \"vhostuser_mode\": \"server\", \"vhostuser_ovs_plug\": true, \"vhostuser_socket\": "        \
    "\"/run/vhost/vhu84196ce4-7c\", \"datapath_type\": \"netdev\", \"bridge_name\": \"tbr-1\"}, "  \
    "\"devname\": \"tap84196ce4-7c\", \"ovs_interfaceid\": \"" PORT "\", \"qbh_params\": null, "   \
    "\"active\": true, \"vnic_type\": \"normal\", \"profile\": {\"odd\": [1]}, "                   \
    "\"delegate_create\": true, \"meta\": {}}"

static struct vif parse(const char *text)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct vif vif;

    assert_null(jv_parse(text, strlen(text), &json));
    assert_null(vif_from_json(json, &vif));
    return vif;
}

/* A VIF of a type and VNIC type with details. */
static struct vif make(const char *type, const char *vnic_type, const char *details, bool delegate)
{
    CLEANUP(freep)
    char *text =
        str_printf("{\"id\": \"" PORT "\", \"address\": \"fa:16:3e:00:00:15\", \"type\": %s, "
                   "\"vnic_type\": \"%s\", \"details\": %s, \"delegate_create\": %s, "
                   "\"devname\": \"tap84196ce4-7c\"}",
                   type, vnic_type, details, delegate ? "true" : "false");

    return parse(text);
}

static void a_cached_vif_is_read(void **state)
{
    CLEANUP(vif_list_fini) struct vif_list list = {0};
    const struct vif *v;

    (void)state;
    assert_null(vif_list_parse("[" VHOSTUSER "]", &list));
    assert_int_equal(list.n, 1);
    v = vif_list_find(&list, PORT);
    assert_ptr_equal(v, &list.items[0]);
    assert_string_equal(v->address, "fa:16:3e:00:00:15");
    assert_string_equal(v->type, "vhostuser");
    assert_string_equal(v->vnic_type, "normal");
    assert_string_equal(v->devname, "tap84196ce4-7c");
    assert_string_equal(v->ovs_interfaceid, PORT);
    assert_string_equal(v->bridge, "br-int");
    assert_string_equal(v->bridge_name, "tbr-1");
    assert_string_equal(v->physical_network, "physnet1");
    assert_string_equal(v->datapath_type, "netdev");
    assert_string_equal(v->vhostuser_socket, "/run/vhost/vhu84196ce4-7c");
    assert_string_equal(v->vhostuser_mode, "server");
    assert_int_equal(v->mtu, 1450);
    assert_true(v->is_active);
    assert_true(v->is_delegated);
    assert_true(v->has_vhostuser_ovs_plug);
    assert_false(v->is_hybrid);
    assert_null(v->pci_slot);
    assert_null(vif_list_find(&list, PORT2));
}

static void nothing_is_an_empty_list(void **state)
{
    static const char *const texts[] = {NULL, "", "[]", "null"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct vif_list list = {.n = 1};

        assert_null(vif_list_parse(texts[i], &list));
        assert_int_equal(list.n, 0);
        vif_list_fini(&list);
    }
}

static void what_is_no_vif_is_refused(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[1]",
        "[{}]",
        "[null]",
        "[{\"id\": \"a\"}]",
        "[{\"id\": \"\", \"address\": \"m\"}]",
        "[{\"id\": \"a/b\", \"address\": \"m\"}]",
        "[{\"id\": \"..\", \"address\": \"m\"}]",
        "[{\"id\": \"a\\u0000b\", \"address\": \"m\"}]",
        "[{\"id\": \"a\", \"address\": \"m\", \"devname\": \"x y\"}]",
        "[{\"id\": \"a\", \"address\": \"m\", \"details\": []}]",
        "[{\"id\": \"a\", \"address\": \"m\", \"network\": 3}]",
        "[{\"id\": \"a\", \"address\": \"m\", \"network\": {\"meta\": {\"mtu\": \"x\"}}}]",
        "[{\"id\": \"a\", \"address\": \"m\", \"profile\": \"x\"}]",
        "[" VHOSTUSER ", {}]",
        "[",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct vif_list list = {0};
        CLEANUP(err_freep) struct err *e = vif_list_parse(texts[i], &list);

        assert_true(err_is(e, ERR_PARSE));
        assert_null(list.items);
    }
}

static void nulls_and_missing_keys_are_not_set(void **state)
{
    CLEANUP(vif_fini)
    struct vif v = parse("{\"id\": \"a\", \"address\": \"m\", \"type\": null, \"network\": null, "
                         "\"details\": null, \"profile\": null, \"active\": null}");

    (void)state;
    assert_null(v.type);
    assert_null(v.bridge);
    assert_null(v.bridge_name);
    assert_string_equal(v.vnic_type, "normal");
    assert_false(v.is_active);
    assert_false(v.is_delegated);
}

static void a_vlan_may_be_a_string(void **state)
{
    CLEANUP(vif_fini) struct vif a = make("\"hw_veb\"", "direct", "{\"vlan\": \"1234\"}", false);
    CLEANUP(vif_fini) struct vif b = make("\"hw_veb\"", "direct", "{\"vlan\": 42}", false);
    CLEANUP(vif_fini) struct vif c = make("\"hw_veb\"", "direct", "{\"vlan\": \"x\"}", false);

    (void)state;
    assert_int_equal(a.vlan, 1234);
    assert_int_equal(b.vlan, 42);
    assert_int_equal(c.vlan, 0);
}

static void details_name_the_physical_network_if_the_network_does_not(void **state)
{
    CLEANUP(vif_fini)
    struct vif v = make("\"ovs\"", "normal", "{\"physical_network\": \"physnet2\"}", false);

    (void)state;
    assert_string_equal(v.physical_network, "physnet2");
}

static void the_destination_takes_the_binding(void **state)
{
    CLEANUP(vif_fini) struct vif source = parse(VHOSTUSER);
    CLEANUP(vif_fini) struct vif dest = {0};

    (void)state;
    assert_null(vif_destination(&source, "ovs", "direct",
                                "{\"os_vif_delegation\": true, \"pci_slot\": \"0000:81:00.2\"}",
                                "{\"bridge_name\": \"br-x\"}", &dest));
    assert_string_equal(dest.type, "ovs");
    assert_string_equal(dest.vnic_type, "direct");
    assert_string_equal(dest.pci_slot, "0000:81:00.2");
    assert_string_equal(dest.bridge_name, "br-x");
    assert_null(dest.vhostuser_socket);
    assert_false(dest.has_vhostuser_ovs_plug);
    assert_true(dest.is_delegated);
    assert_int_equal(dest.mtu, 1450);
    /* The source's is another object. */
    assert_string_equal(source.type, "vhostuser");
    assert_true(source.has_vhostuser_ovs_plug);
}

static void the_destination_does_not_delegate_unless_it_says_so(void **state)
{
    static const char *const profiles[] = {NULL, "", "null", "{}",
                                           "{\"os_vif_delegation\": false}"};
    CLEANUP(vif_fini) struct vif source = parse(VHOSTUSER);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(profiles); i++) {
        CLEANUP(vif_fini) struct vif dest = {0};

        assert_null(vif_destination(&source, "ovs", "normal", profiles[i], NULL, &dest));
        assert_false(dest.is_delegated);
        assert_null(dest.bridge_name);
    }
}

static void without_a_binding_type_and_details_stay_the_sources(void **state)
{
    CLEANUP(vif_fini) struct vif source = parse(VHOSTUSER);
    CLEANUP(vif_fini) struct vif dest = {0};

    (void)state;
    assert_null(vif_destination(&source, NULL, NULL, "{\"os_vif_delegation\": true}", NULL, &dest));
    assert_string_equal(dest.type, "vhostuser");
    assert_string_equal(dest.vhostuser_socket, "/run/vhost/vhu84196ce4-7c");
    assert_true(dest.is_delegated);
}

static void a_binding_that_is_no_json_names_the_port(void **state)
{
    CLEANUP(vif_fini) struct vif source = parse(VHOSTUSER);
    struct vif dest = {0};
    CLEANUP(err_freep) struct err *a = vif_destination(&source, "ovs", "normal", "[]", NULL, &dest);
    CLEANUP(err_freep) struct err *b = vif_destination(&source, "ovs", "normal", NULL, "{", &dest);
    CLEANUP(freep) char *text = err_text(b);

    (void)state;
    assert_true(err_is(a, ERR_PARSE));
    assert_true(err_is(b, ERR_PARSE));
    assert_non_null(strstr(text, PORT));
}

static void kinds_follow_type_and_details(void **state)
{
    static const struct {
        const char *type, *details;
        bool delegate;
        enum vif_kind kind;
    } rows[] = {
        {"\"ovs\"", "{}", true, VIF_KIND_OVS_TAP},
        {"\"ovs\"", "{}", false, VIF_KIND_OVS_BRIDGE},
        {"\"ovs\"", "{\"ovs_hybrid_plug\": true}", true, VIF_KIND_OVS_HYBRID},
        {"\"ovs\"", "{\"ovs_hybrid_plug\": 0}", true, VIF_KIND_OVS_TAP},
        {"\"vhostuser\"", "{\"vhostuser_ovs_plug\": true}", true, VIF_KIND_VHOSTUSER_OVS},
        {"\"vhostuser\"", "{}", true, VIF_KIND_VHOSTUSER_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(vif_fini)
        struct vif v = make(rows[i].type, "normal", rows[i].details, rows[i].delegate);
        enum vif_kind kind;

        assert_null(vif_kind(&v, &kind));
        assert_int_equal(kind, rows[i].kind);
        assert_true(strlen(vif_kind_name(kind)) > 0);
    }
}

static void what_cannot_be_plugged_is_named(void **state)
{
    static const struct {
        const char *type, *vnic_type, *details, *why;
    } rows[] = {
        {"\"ovs\"", "direct", "{}", "'direct'"},
        {"\"ovs\"", "vdpa", "{}", "'vdpa'"},
        {"\"hw_veb\"", "direct", "{}", "'hw_veb'"},
        {"\"tap\"", "normal", "{}", "'tap'"},
        {"\"binding_failed\"", "normal", "{}", "its binding failed"},
        {"\"unbound\"", "normal", "{}", "bound to no host"},
        {"null", "normal", "{}", "bound to no host"},
        {"\"vhostuser\"", "normal", "{\"vhostuser_fp_plug\": true, \"vhostuser_ovs_plug\": true}",
         "vhostuser_fp"},
        {"\"vhostuser\"", "normal", "{\"vhostuser_vrouter_plug\": true}", "contrail_vrouter"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(vif_fini)
        struct vif v = make(rows[i].type, rows[i].vnic_type, rows[i].details, true);
        enum vif_kind kind;
        CLEANUP(err_freep) struct err *e = vif_kind(&v, &kind);

        assert_true(err_is(e, ERR_VIF_PLUG));
        assert_non_null(strstr(err_message(e), PORT));
        assert_non_null(strstr(err_message(e), rows[i].why));
    }
}

static void names_are_cut_to_fourteen_characters(void **state)
{
    CLEANUP(vif_fini) struct vif v = parse(VHOSTUSER);
    CLEANUP(vif_fini) struct vif bare = parse("{\"id\": \"" PORT "\", \"address\": \"m\"}");
    char name[15];

    (void)state;
    vif_port_name(&v, VIF_KIND_VHOSTUSER_OVS, name);
    assert_string_equal(name, "vhu84196ce4-7c");
    vif_port_name(&v, VIF_KIND_OVS_TAP, name);
    assert_string_equal(name, "tap84196ce4-7c");
    vif_port_name(&bare, VIF_KIND_OVS_BRIDGE, name);
    assert_string_equal(name, "nic84196ce4-7c");
    vif_prefixed_name(&v, "qvo", name);
    assert_string_equal(name, "qvo84196ce4-7c");
}

static void details_name_the_bridge_before_the_configuration(void **state)
{
    CLEANUP(vif_fini) struct vif v = parse(VHOSTUSER);
    CLEANUP(vif_fini) struct vif bare = make("\"ovs\"", "normal", "{}", true);

    (void)state;
    assert_string_equal(vif_bridge(&v, "br-int"), "tbr-1");
    assert_string_equal(vif_bridge(&bare, "br-int"), "br-int");
}

static void passthrough_is_detached_to_move(void **state)
{
    static const struct {
        const char *vnic_type;
        bool is_detached;
    } rows[] = {{"normal", false},
                {"macvtap", false},
                {"virtio-forwarder", false},
                {"direct", true},
                {"vdpa", true},
                {"remote-managed", true},
                {"direct-physical", true},
                {"accelerator-direct", true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(vif_fini) struct vif v = make("\"ovs\"", rows[i].vnic_type, "{}", true);

        assert_int_equal(vif_is_detached_to_move(&v), rows[i].is_detached);
    }
}

static void unknown_keys_survive(void **state)
{
    CLEANUP(vif_fini) struct vif source = parse(VHOSTUSER);
    CLEANUP(vif_fini) struct vif dest = {0};

    (void)state;
    assert_null(vif_destination(&source, "ovs", "normal", NULL, NULL, &dest));
    assert_true(json_object_object_get_ex(dest.json, "qbh_params", NULL));
    assert_non_null(jv_get(jv_get(source.json, "profile"), "odd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cached_vif_is_read),
        cmocka_unit_test(nothing_is_an_empty_list),
        cmocka_unit_test(what_is_no_vif_is_refused),
        cmocka_unit_test(nulls_and_missing_keys_are_not_set),
        cmocka_unit_test(a_vlan_may_be_a_string),
        cmocka_unit_test(details_name_the_physical_network_if_the_network_does_not),
        cmocka_unit_test(the_destination_takes_the_binding),
        cmocka_unit_test(the_destination_does_not_delegate_unless_it_says_so),
        cmocka_unit_test(without_a_binding_type_and_details_stay_the_sources),
        cmocka_unit_test(a_binding_that_is_no_json_names_the_port),
        cmocka_unit_test(kinds_follow_type_and_details),
        cmocka_unit_test(what_cannot_be_plugged_is_named),
        cmocka_unit_test(names_are_cut_to_fourteen_characters),
        cmocka_unit_test(details_name_the_bridge_before_the_configuration),
        cmocka_unit_test(passthrough_is_detached_to_move),
        cmocka_unit_test(unknown_keys_survive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute */
#include "driver/compute/devmeta.h"
#include "driver/compute/handlers.h"
#include "driver/compute/interface.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/libvirt/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define MAC  "fa:16:3e:00:00:01"
#define VIF                                                                                        \
    "{\"id\": \"p-1\", \"address\": \"" MAC "\", \"type\": \"ovs\", \"network\": {\"id\": \"n\"}}"

/* ---- Everything around the verbs notes what it was asked for, and fails on order ---- */

static struct {
    struct conf conf;
    struct node node;
    struct instance *inst;
    struct strv log;
    const char *fails; /* The entry of the log that goes wrong. */
    bool has_domain, has_nic;
} world;

static struct err *did(const char *what)
{
    strv_add(&world.log, what);
    return str_eq(world.fails, what) ? err_msg(ERR_INTERNAL, "%s went wrong", what) : NULL;
}

const struct conf *conf_get(struct conf_holder *holder)
{
    (void)holder;
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    (void)conf;
}

static struct err *vif_of(struct vif *ret)
{
    struct json_object *json = NULL;

    TRY(jv_parse(VIF, strlen(VIF), &json));
    struct err *e = vif_from_json(json, ret);

    json_object_put(json);
    return e;
}

struct err *netalloc_add_port(struct node *node, const struct rctx *ctx, struct instance *inst,
                              const char *network_id, const char *port_id, const char *requested_ip,
                              const char *tag, struct vif *ret)
{
    (void)node;
    (void)ctx;
    assert_ptr_equal(inst, world.inst);
    assert_string_equal(network_id, "n");
    assert_null(port_id);
    assert_string_equal(requested_ip, "10.0.0.9");
    assert_string_equal(tag, "t");
    TRY(did("port"));
    return vif_of(ret);
}

struct err *netalloc_remove_port(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *port_id)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_string_equal(port_id, "p-1");
    return did("no port");
}

struct err *netalloc_add_address(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *network_id)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_string_equal(network_id, "n");
    return did("address");
}

struct err *netalloc_remove_address(struct node *node, const struct rctx *ctx,
                                    struct instance *inst, const char *address)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_string_equal(address, "10.0.0.9");
    return did("no address");
}

struct err *vif_plug(struct vif_host *h, const struct vif *vif, const char *uuid)
{
    assert_ptr_equal(h, &world.node.vif);
    assert_string_equal(vif->id, "p-1");
    assert_string_equal(uuid, UUID);
    return did("plug");
}

struct err *vif_unplug(struct vif_host *h, const struct vif *vif, const char *uuid)
{
    (void)h;
    (void)vif;
    assert_string_equal(uuid, UUID);
    return did("unplug");
}

struct err *spawn_make_interface(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const struct vif *vif, char **ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_string_equal(vif->address, MAC);
    *ret = str_dup("<interface/>");
    return NULL;
}

struct err *guest_attach_device(const struct guest_env *env, const char *uuid, const char *xml)
{
    (void)env;
    assert_string_equal(uuid, UUID);
    assert_string_equal(xml, "<interface/>");
    return did("attach");
}

struct err *guest_detach_device(const struct guest_env *env, const char *uuid, const char *xml,
                                const char *alias, int64_t timeout_s)
{
    (void)env;
    assert_string_equal(uuid, UUID);
    assert_non_null(strstr(xml, MAC));
    assert_null(strstr(xml, "<address")); /* Its place differs between guest and definition. */
    assert_int_equal(timeout_s, 160);
    return did(alias ? "detach net0" : "detach");
}

struct err *devmeta_update(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    return did("metadata");
}

struct err *lv_domain_by_uuid(struct lv_conn *conn, const char *uuid, struct lv_domain **ret)
{
    (void)conn;
    if (!world.has_domain) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = (struct lv_domain *)&world;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    (void)d;
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    (void)d;
    assert_false(is_migratable);
    *ret = str_dup(world.has_nic ? "<domain><devices><interface type='bridge'><mac address='" MAC
                                   "'/><alias name='net0'/></interface></devices></domain>"
                                 : "<domain><devices/></domain>");
    return NULL;
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    static const char *const phases[] = {"start", "end", "error"};

    (void)node;
    (void)ctx;
    (void)inst;
    (void)action;
    strv_add(&world.log, phases[phase]);
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    (void)inst;
    (void)attrs;
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    (void)inst;
    (void)expected;
    return did("save");
}

struct err *info_cache_refresh(struct conductor *c, const struct rctx *ctx,
                               struct instance_info_cache *cache)
{
    (void)c;
    (void)ctx;
    instance_info_cache_set_network_info(cache, "[" VIF "]");
    return NULL;
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    (void)ret;
    return did("refresh");
}

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    return vif_list_parse(instance_info_cache_network_info(instance_info_cache(inst)), ret);
}

static int set_up(void **state)
{
    struct instance_info_cache *cache = instance_info_cache_new();

    (void)state;
    memset(&world, 0, sizeof(world));
    world.conf.libvirt.device_detach_attempts = 8;
    world.conf.libvirt.device_detach_timeout = 20;
    world.has_domain = world.has_nic = true;
    world.inst = instance_new();
    instance_set_uuid(world.inst, UUID);
    instance_info_cache_set_network_info(cache, "[]");
    instance_set_info_cache(world.inst, cache);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    instance_free(world.inst);
    strv_fini(&world.log);
    return 0;
}

static void assert_log(const char *expected)
{
    CLEANUP(freep) char *log = strv_join(&world.log, ", ");

    assert_string_equal(log, expected);
}

static struct err *attach(struct json_object **ret)
{
    struct args_attach_interface a = {
        .instance = world.inst, .network_id = "n", .requested_ip = "10.0.0.9", .tag = "t"};

    return compute_attach_interface(&world.node, NULL, &a, ret);
}

static struct err *detach(const char *port_id)
{
    struct json_object *ret = NULL;
    struct args_detach_interface a = {.instance = world.inst, .port_id = port_id};

    return compute_detach_interface(&world.node, NULL, &a, &ret);
}

static void an_attached_interface_is_answered(void **state)
{
    CLEANUP(jv_putp) struct json_object *vif = NULL;

    (void)state;
    assert_null(attach(&vif));
    assert_log("start, port, plug, attach, metadata, save, end");
    assert_string_equal(json_object_get_string(jv_get(vif, "id")), "p-1");
}

static void a_port_that_cannot_be_had_is_the_user_s_error(void **state)
{
    struct json_object *vif = NULL;

    (void)state;
    world.fails = "port";
    CLEANUP(err_freep) struct err *e = attach(&vif);

    assert_true(err_is(e, ERR_INTERNAL)); /* As netalloc said it. */
    assert_null(vif);
    assert_log("start, port");
}

static void whatever_fails_afterwards_is_undone(void **state)
{
    static const struct {
        const char *fails, *log;
    } rows[] = {
        {"plug", "start, port, plug, unplug, no port, error"},
        {"attach", "start, port, plug, attach, detach net0, unplug, no port, error"},
        {"metadata", "start, port, plug, attach, metadata, detach net0, unplug, no port, error"},
        {"save", "start, port, plug, attach, metadata, save, detach net0, unplug, no port, error"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct json_object *vif = NULL;

        strv_fini(&world.log);
        world.fails = rows[i].fails;
        CLEANUP(err_freep) struct err *e = attach(&vif);

        assert_true(err_is(e, ERR_INTERFACE_ATTACH_FAILED));
        assert_null(vif);
        assert_log(rows[i].log);
    }
}

static void a_detached_interface_is_unplugged_when_the_guest_has_let_go(void **state)
{
    (void)state;
    assert_null(detach("p-1"));
    assert_log("start, detach net0, unplug, no port, save, end");
}

static void a_guest_without_it_lets_go_at_once(void **state)
{
    (void)state;
    world.has_nic = false;
    assert_null(detach("p-1"));
    assert_log("start, detach, unplug, no port, save, end");
}

static void what_the_guest_keeps_stays_plugged(void **state)
{
    (void)state;
    world.fails = "detach net0";
    CLEANUP(err_freep) struct err *e = detach("p-1");

    assert_true(err_is(e, ERR_INTERFACE_DETACH_FAILED));
    assert_log("start, detach net0");
}

static void without_a_guest_nothing_is_released(void **state)
{
    (void)state;
    world.has_domain = false;
    CLEANUP(err_freep) struct err *e = detach("p-1");

    assert_true(err_is(e, ERR_INTERFACE_DETACH_FAILED));
    assert_log("start, unplug");
}

static void a_port_that_is_not_attached_is_said(void **state)
{
    (void)state;
    CLEANUP(err_freep) struct err *e = detach("p-2");

    assert_true(err_is(e, ERR_PORT_NOT_FOUND));
    assert_string_equal(err_message(e), "Port p-2 is not attached");
    assert_log("");
}

static void addresses_come_and_go(void **state)
{
    struct json_object *ret = NULL;
    struct args_add_fixed_ip_to_instance add = {.instance = world.inst, .network_id = "n"};
    struct args_remove_fixed_ip_from_instance rm = {.instance = world.inst, .address = "10.0.0.9"};

    (void)state;
    assert_null(compute_add_fixed_ip_to_instance(&world.node, NULL, &add, &ret));
    assert_log("start, address, save, end");
    assert_true(instance_changed_updated_at(world.inst));
    strv_fini(&world.log);
    assert_null(compute_remove_fixed_ip_from_instance(&world.node, NULL, &rm, &ret));
    assert_log("start, no address, save, end");
    strv_fini(&world.log);
    world.fails = "no address";
    CLEANUP(err_freep)
    struct err *e = compute_remove_fixed_ip_from_instance(&world.node, NULL, &rm, &ret);

    assert_true(err_is(e, ERR_INTERNAL));
    assert_log("start, no address");
}

static void injecting_only_reads_the_network(void **state)
{
    struct json_object *ret = NULL;
    struct args_inject_network_info a = {.instance = world.inst};

    (void)state;
    assert_null(compute_inject_network_info(&world.node, NULL, &a, &ret));
    assert_log("refresh");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_attached_interface_is_answered),
        TEST(a_port_that_cannot_be_had_is_the_user_s_error),
        TEST(whatever_fails_afterwards_is_undone),
        TEST(a_detached_interface_is_unplugged_when_the_guest_has_let_go),
        TEST(a_guest_without_it_lets_go_at_once),
        TEST(what_the_guest_keeps_stays_plugged),
        TEST(without_a_guest_nothing_is_released),
        TEST(a_port_that_is_not_attached_is_said),
        TEST(addresses_come_and_go),
        TEST(injecting_only_reads_the_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

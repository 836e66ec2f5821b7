/* link: driver_compute */
#include "driver/compute/incoming.h"
#include "driver/compute/interface.h"
#include "driver/compute/moves.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/netcare.h"
#include "driver/compute/network.h"
#include "driver/compute/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define UUID  "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define OTHER "1c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define PORT  "bbbbbbbb-0000-4000-8000-000000000001"
#define MAC   "fa:16:3e:00:00:01"
#define VIF                                                                                        \
    "[{\"id\": \"" PORT "\", \"address\": \"" MAC                                                  \
    "\", \"type\": \"ovs\", \"network\": {\"id\": \"n\"}}]"

/* ---- Everything that care is taken with ---- */

static struct {
    struct node node;
    struct rctx *ctx;
    struct strv log;
    const char *host, *vm_state, *task_state; /* Of the record. */
    const char *cache;
    bool is_deleted, is_incoming, is_leaving, is_starting;
    bool has_domain, has_nic, has_ovs_port;
    enum lv_state state;
} world;

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    struct instance_info_cache *cache = instance_info_cache_new();

    (void)c;
    (void)ctx;
    (void)attrs;
    instance_info_cache_set_network_info(cache, world.cache);
    *ret = instance_new();
    instance_set_uuid(*ret, uuid);
    instance_set_host(*ret, world.host);
    instance_set_vm_state(*ret, world.vm_state);
    instance_set_task_state(*ret, world.task_state);
    instance_set_info_cache(*ret, cache);
    if (world.is_deleted) {
        *ret = instance_free(*ret);
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    return NULL;
}

struct err *instance_uuids_by_host(struct conductor *c, const struct rctx *ctx, const char *host,
                                   struct strv *ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(host, "here");
    strv_add(&world.log, "list");
    strv_add(ret, OTHER);
    strv_add(ret, UUID);
    return NULL;
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    struct instance_info_cache *cache = instance_info_cache_new();

    (void)c;
    (void)ctx;
    (void)attrs;
    instance_info_cache_set_network_info(cache, "[]");
    instance_set_info_cache(inst, cache);
    return NULL;
}

struct err *info_cache_refresh(struct conductor *c, const struct rctx *ctx,
                               struct instance_info_cache *cache)
{
    (void)c;
    (void)ctx;
    if (world.is_deleted) {
        return err_new(ERR_INSTANCE_INFO_CACHE_NOT_FOUND, "instance_uuid", UUID, NULL);
    }
    instance_info_cache_set_network_info(cache, world.cache);
    return NULL;
}

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    return vif_list_parse(instance_info_cache_network_info(instance_info_cache(inst)), ret);
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    (void)ret;
    strv_add(&world.log, "refresh");
    return NULL;
}

struct err *network_forget(struct node *node, const struct rctx *ctx, struct instance *inst,
                           const struct strv *port_ids)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_int_equal(port_ids->n, 1);
    assert_string_equal(port_ids->items[0], PORT);
    strv_add(&world.log, "forget");
    return NULL;
}

struct err *interface_detach(struct node *node, const char *uuid, const struct vif *vif)
{
    (void)node;
    assert_string_equal(uuid, UUID);
    assert_string_equal(vif->id, PORT);
    strv_add(&world.log, "detach");
    return NULL;
}

struct err *netalloc_bind_here(struct node *node, const struct rctx *ctx, struct instance *inst,
                               const struct request_spec *spec, struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    assert_null(spec);
    strv_add_take(&world.log, str_printf("bind %.1s", instance_uuid(inst)));
    return NULL;
}

struct err *netalloc_reread(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    strv_add_take(&world.log, str_printf("read %.1s", instance_uuid(inst)));
    return NULL;
}

struct err *incoming_read(struct node *node, const char *uuid, bool *ret)
{
    (void)node;
    (void)uuid;
    (void)ret;
    return world.is_incoming ? NULL : err_msg(ERR_NOT_FOUND, "no note");
}

struct move *moves_find(struct moves *m, const char *uuid)
{
    (void)m;
    (void)uuid;
    return world.is_leaving ? (struct move *)&world : NULL;
}

struct move *move_free(struct move *m)
{
    assert_true(!m || m == (struct move *)&world);
    return NULL;
}

const char *tracker_nodename(struct tracker *t)
{
    (void)t;
    return world.is_starting ? NULL : "node";
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

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    (void)d;
    (void)ret_reason;
    *ret = world.state;
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    (void)d;
    (void)is_migratable;
    *ret = str_dup(world.has_nic ? "<domain><devices><interface type='ethernet'><mac address='" MAC
                                   "'/></interface></devices></domain>"
                                 : "<domain><devices/></domain>");
    return NULL;
}

struct err *ovsdb_port_info(struct ovsdb *o, const char *name, struct ovs_port_info *ret)
{
    (void)o;
    assert_string_equal(name, "tapbbbbbbbb-00");
    ret->exists = world.has_ovs_port;
    return NULL;
}

struct err *vif_plug(struct vif_host *h, const struct vif *vif, const char *uuid)
{
    (void)h;
    assert_string_equal(vif->id, PORT);
    assert_string_equal(uuid, UUID);
    strv_add(&world.log, "plug");
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    world.node.host = world.host = "here";
    world.node.tasks = task_pool_new();
    world.node.netcare = netcare_new();
    world.ctx = rctx_new_admin();
    world.vm_state = "active";
    world.cache = VIF;
    world.has_domain = world.has_nic = true;
    world.state = LV_RUNNING;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    task_pool_free(world.node.tasks);
    netcare_free(world.node.netcare);
    rctx_free(world.ctx);
    strv_fini(&world.log);
    return 0;
}

/* What was done, when all tasks have ended. */
static void assert_log(const char *expected)
{
    task_pool_free(world.node.tasks);
    world.node.tasks = task_pool_new();
    CLEANUP(freep) char *log = strv_join(&world.log, ", ");

    assert_string_equal(log, expected);
    strv_fini(&world.log);
}

static struct instance *server(void)
{
    struct instance *inst = instance_new();

    instance_set_uuid(inst, UUID);
    return inst;
}

/* ---- Events ---- */

static void a_change_makes_the_model_be_read(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    netcare_changed(&world.node, world.ctx, inst);
    assert_log("refresh");
}

static void a_deleted_port_leaves_the_model_and_the_guest(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    netcare_deleted(&world.node, world.ctx, inst, PORT);
    assert_log("forget, detach");
}

static void a_port_that_we_have_detached_ourselves_is_no_news(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    world.cache = "[]";
    netcare_deleted(&world.node, world.ctx, inst, PORT);
    assert_log("");
    world.is_deleted = true;
    netcare_deleted(&world.node, world.ctx, inst, PORT);
    assert_log("");
}

/* ---- Healing ---- */

static void servers_are_healed_one_each_time_and_then_listed_again(void **state)
{
    (void)state;
    assert_null(netcare_heal(&world.node, world.ctx));
    assert_log("list, bind 0");
    assert_null(netcare_heal(&world.node, world.ctx));
    assert_log("bind 1");
    assert_null(netcare_heal(&world.node, world.ctx));
    assert_log("list, bind 0");
}

static void a_server_with_a_task_keeps_its_bindings(void **state)
{
    (void)state;
    world.task_state = "rebooting";
    assert_null(netcare_heal(&world.node, world.ctx));
    assert_log("list, read 0");
}

static void servers_that_come_or_go_are_left_alone(void **state)
{
    static const struct {
        const char *host, *vm_state, *task_state;
        bool is_deleted, is_incoming;
    } rows[] = {
        {"there", "active", NULL, false, false},      {"here", "building", NULL, false, false},
        {"here", "active", "deleting", false, false}, {"here", "active", "migrating", false, false},
        {"here", "active", NULL, true, false},        {"here", "active", NULL, false, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        world.host = rows[i].host;
        world.vm_state = rows[i].vm_state;
        world.task_state = rows[i].task_state;
        world.is_deleted = rows[i].is_deleted;
        world.is_incoming = rows[i].is_incoming;
        assert_null(netcare_heal(&world.node, world.ctx));
        assert_log(i % 2 ? "" : "list");
    }
}

static void a_server_that_leaves_is_not_healed(void **state)
{
    (void)state;
    world.is_leaving = true;
    assert_null(netcare_heal(&world.node, world.ctx));
    assert_log("list");
}

/* ---- Ports that are gone ---- */

static void gone(void)
{
    netcare_gone(&(struct ovs_gone){.name = "tapbbbbbbbb-00", .iface_id = PORT, .vm_uuid = UUID},
                 &world.node);
}

static void a_port_that_the_guest_still_uses_is_plugged_again(void **state)
{
    (void)state;
    gone();
    assert_log("plug");
}

static void a_port_that_is_taken_again_and_again_is_given_up(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        gone();
    }
    assert_log("plug, plug, plug");
}

static void what_we_unplug_ourselves_stays_unplugged(void **state)
{
    (void)state;
    world.has_domain = false; /* Deleted, moved away. */
    gone();
    assert_log("");
    world.has_domain = true;
    world.state = LV_SHUTOFF; /* Stopped. */
    gone();
    assert_log("");
    world.state = LV_RUNNING;
    world.has_nic = false; /* Detached. */
    gone();
    assert_log("");
    world.has_nic = true;
    world.task_state = "rebooting";
    gone();
    assert_log("");
    world.task_state = NULL;
    world.host = "there";
    gone();
    assert_log("");
    world.host = "here";
    world.cache = "[]";
    gone();
    assert_log("");
}

static void a_port_that_is_back_is_left_alone(void **state)
{
    (void)state;
    world.has_ovs_port = true;
    gone();
    assert_log("");
    world.has_ovs_port = false;
    world.is_starting = true;
    gone();
    assert_log("");
}

static void guests_of_others_are_not_ours(void **state)
{
    (void)state;
    netcare_gone(&(struct ovs_gone){.name = "vnet0", .iface_id = PORT, .vm_uuid = "a test"},
                 &world.node);
    assert_log("");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_change_makes_the_model_be_read),
        TEST(a_deleted_port_leaves_the_model_and_the_guest),
        TEST(a_port_that_we_have_detached_ourselves_is_no_news),
        TEST(servers_are_healed_one_each_time_and_then_listed_again),
        TEST(a_server_with_a_task_keeps_its_bindings),
        TEST(servers_that_come_or_go_are_left_alone),
        TEST(a_server_that_leaves_is_not_healed),
        TEST(a_port_that_the_guest_still_uses_is_plugged_again),
        TEST(a_port_that_is_taken_again_and_again_is_given_up),
        TEST(what_we_unplug_ourselves_stays_unplugged),
        TEST(a_port_that_is_back_is_left_alone),
        TEST(guests_of_others_are_not_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute lv_fake */
#include "tests/fake/lv_fake.h"

#include "base/fs.h"
#include "driver/compute/building.h"
#include "driver/compute/dispatch.h"
#include "driver/compute/evacuated.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/peer.h"
#include "driver/compute/power.h"
#include "driver/compute/recovery.h"
#include "driver/compute/rescue.h"
#include "driver/compute/snapshot.h"
#include "driver/compute/spawn.h"
#include "driver/compute/terminate.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID  "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define BUILD "5dea22b3-1d52-4d8f-9d9a-0242ac110002"

/* One server of this host, its guest, and what is done about it. */
static struct {
    struct conf conf;
    struct node node;
    char top[48], dir[64];
    const char *vm_state, *task_state;
    int64_t power;
    bool has_kept, is_evacuating, evacuations_unknown, has_migration;
    bool has_lost_build, spawn_fails;
    char log[1024]; /* Calls, in their order. */
} world;

static void note(const char *fmt, ...) PRINTF(1, 2);
static void note(const char *fmt, ...)
{
    size_t len = strlen(world.log);
    va_list args;

    va_start(args, fmt);
    vsnprintf(world.log + len, sizeof(world.log) - len, fmt, args);
    va_end(args);
}

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
}

/* ---- Records ---- */

struct err *instance_list_by_host(struct conductor *c, const struct rctx *ctx, const char *host,
                                  const char *const *attrs, struct instance_list **ret)
{
    struct instance *inst;

    (void)c;
    (void)ctx;
    (void)attrs;
    *ret = instance_list_new();
    if (!world.vm_state) {
        return NULL;
    }
    inst = instance_new();
    instance_set_uuid(inst, UUID);
    instance_set_host(inst, host);
    instance_set_vm_state(inst, world.vm_state);
    instance_set_task_state(inst, world.task_state);
    instance_set_power_state(inst, world.power);
    instance_list_add(*ret, inst);
    return NULL;
}

struct err *instance_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                     struct json_object *filters, const char *const *attrs,
                                     struct instance_list **ret)
{
    CLEANUP(freep) char *text = jv_text(filters);
    struct instance *inst = instance_new();

    json_object_put(filters);
    (void)c;
    (void)ctx;
    assert_null(*attrs);
    note("list(%s) ", text);
    instance_set_uuid(inst, BUILD);
    instance_set_vm_state(inst, "building");
    instance_set_task_state(inst, "scheduling");
    *ret = instance_list_new();
    instance_list_add(*ret, inst);
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    assert_null(expected);
    note("save(%s %s %lld) ", instance_vm_state(inst),
         instance_task_state(inst) ? instance_task_state(inst) : "-",
         (long long)instance_power_state(inst));
    return NULL;
}

struct err *instance_drop_migration_context(struct conductor *c, const struct rctx *ctx,
                                            struct instance *inst)
{
    (void)c;
    (void)ctx;
    (void)inst;
    return NULL;
}

struct err *migration_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                      struct json_object *filters, struct migration_list **ret)
{
    (void)c;
    (void)ctx;
    json_object_put(filters);
    *ret = migration_list_new();
    if (world.has_migration) {
        struct migration *m = migration_new();

        migration_set_uuid(m, UUID);
        migration_set_dest_compute(m, "there");
        migration_set_status(m, "running");
        migration_list_add(*ret, m);
    }
    return NULL;
}

const char *const live_expect_migrating[] = {"migrating", NULL};

struct err *live_save_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                               const char *const *expected)
{
    (void)node;
    (void)ctx;
    note("stay(%s if %s) ", instance_vm_state(inst), expected[0]);
    return NULL;
}

struct err *live_save_migration(struct node *node, const struct rctx *ctx, struct migration *m,
                                const char *status)
{
    (void)node;
    (void)ctx;
    (void)m;
    note("migration(%s) ", status);
    return NULL;
}

/* ---- Neighbours ---- */

struct err *placement_provider_allocations(struct placement *p, const char *uuid,
                                           struct json_object **ret)
{
    (void)p;
    assert_string_equal(uuid, "provider");
    *ret = json_object_new_object();
    jv_add(*ret, UUID, NULL);
    if (world.has_lost_build) {
        jv_add(*ret, BUILD, NULL);
    }
    return NULL;
}

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    (void)p;
    (void)consumer;
    return NULL;
}

struct err *placement_move_allocations(struct placement *p, const char *from, const char *to,
                                       bool *ret_moved)
{
    (void)p;
    (void)from;
    (void)to;
    *ret_moved = true;
    return NULL;
}

const char *tracker_node_uuid(struct tracker *t)
{
    (void)t;
    return "provider";
}

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    (void)inst;
    note("plug ");
    *ret = (struct vif_list){0};
    return NULL;
}

struct err *network_activate(struct node *node, const struct vif_list *vifs, const char *host)
{
    (void)node;
    (void)vifs;
    (void)host;
    return NULL;
}

struct err *network_teardown_on_host(struct node *node, struct instance *inst, const char *host)
{
    (void)node;
    (void)inst;
    (void)host;
    return NULL;
}

struct err *peer_rollback_at_destination(struct node *node, const struct rctx *ctx,
                                         const char *host, struct instance *inst,
                                         bool destroy_disks, struct libvirt_live_migrate_data *md)
{
    (void)node;
    (void)ctx;
    (void)inst;
    (void)md;
    assert_false(destroy_disks);
    note("rollback(%s) ", host);
    return NULL;
}

struct err *peer_post_at_destination(struct node *node, const struct rctx *ctx, const char *host,
                                     struct instance *inst, bool is_block)
{
    (void)node;
    (void)ctx;
    (void)is_block;
    note("post(%s) ", host);
    instance_set_host(inst, host);
    return NULL;
}

struct err *peer_drop_move_claim(struct node *node, const struct rctx *ctx, const char *host,
                                 struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)host;
    (void)inst;
    return NULL;
}

void building_settle(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
}

struct err *building_fail(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    note("fail(%s) ", instance_uuid(inst));
    return NULL;
}

void incoming_settle(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
}

void snapshot_sweep(const struct conf *conf)
{
    (void)conf;
}

struct err *snapshot_recover(struct node *node, struct instance *inst)
{
    (void)node;
    (void)inst;
    note("snapshot ");
    return NULL;
}

void notify_scheduler_sync(struct node *node, const struct rctx *ctx, const struct strv *uuids)
{
    (void)node;
    (void)ctx;
    (void)uuids;
}

struct err *evacuated_clean(struct node *node, const struct rctx *ctx, struct strv *ret)
{
    (void)node;
    (void)ctx;
    assert_string_equal(world.log, ""); /* Before anything else. */
    if (world.is_evacuating) {
        strv_add(ret, UUID);
    }
    return world.evacuations_unknown ? err_msg(ERR_TIMEOUT, "no answer") : NULL;
}

int64_t lifecycle_power_state_of(enum lv_state state)
{
    return state == LV_RUNNING ? POWER_RUNNING : state == LV_PAUSED ? POWER_PAUSED : POWER_SHUTDOWN;
}

bool rescue_has_way_back(struct node *node, const char *uuid)
{
    (void)node;
    (void)uuid;
    return false;
}

bool dispatch_has_kept(struct node *node, const char *uuid)
{
    (void)node;
    (void)uuid;
    return world.has_kept;
}

struct err *dispatch_call(struct node *node, const struct rctx *ctx, struct compute_call *call,
                          struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    assert_string_equal(instance_uuid(compute_call_instance(call)), UUID);
    note("%s", compute_verb(call->method)->name);
    if (call->method == COMPUTE_reboot_instance) {
        note("(%s)", call->args.reboot_instance.reboot_type);
    }
    note(" ");
    return err_msg(ERR_INTERNAL, "recorded elsewhere");
}

struct err *terminate_now(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    assert_string_equal(instance_uuid(inst), UUID);
    note("terminate ");
    return NULL;
}

struct err *spawn_hard_reboot(const struct spawn *s)
{
    assert_string_equal(instance_uuid(s->inst), UUID);
    note("hard_reboot ");
    return world.spawn_fails ? err_msg(ERR_DISK_NOT_FOUND, "no disk") : NULL;
}

void power_set_error(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    note("error(%s %s) ", instance_uuid(inst),
         instance_task_state(inst) ? instance_task_state(inst) : "-");
}

struct err *power_or_error(struct node *node, const struct rctx *ctx, struct instance *inst,
                           struct err *e)
{
    if (e) {
        power_set_error(node, ctx, inst);
    }
    return e;
}

/* ---- The world ---- */

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.top, "/tmp/test_recovery.XXXXXX");
    assert_non_null(mkdtemp(world.top));
    snprintf(world.dir, sizeof(world.dir), "%s/host", world.top);
    lv_fake_host(world.dir);
    setenv("NOVASHIM_LV_FAKE_DIR", world.dir, 1);
    world.node = (struct node){.host = "here", .tasks = task_pool_new()};
    assert_null(lv_init());
    assert_null(lv_connect("qemu:///system", &world.node.lv));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    task_pool_free(world.node.tasks);
    lv_conn_free(world.node.lv);
    assert_null(fs_remove_all(&fs_real, world.top));
    return 0;
}

/* A start that finds a server and its guest so; NULL: there is no guest. */
static const char *start(const char *vm_state, const char *task_state, int64_t power,
                         const char *guest)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    world.log[0] = '\0';
    world.vm_state = vm_state;
    world.task_state = task_state;
    world.power = power;
    if (guest) {
        lv_fake_domain(world.dir, UUID, guest);
    }
    assert_null(recovery_run(&world.node, ctx));
    task_pool_free(world.node.tasks);
    world.node.tasks = task_pool_new();
    return world.log;
}

static void an_idle_server_gets_its_ports(void **state)
{
    (void)state;
    assert_string_equal(start("active", NULL, POWER_RUNNING, "running 1"), "plug ");
    assert_string_equal(start("stopped", NULL, POWER_SHUTDOWN, "shutoff 1"), "plug ");
    assert_string_equal(start("error", NULL, POWER_SHUTDOWN, "shutoff 1"), "");
    assert_string_equal(start("soft-delete", NULL, POWER_SHUTDOWN, "shutoff 1"), "");
}

static void a_task_is_settled_by_the_guest(void **state)
{
    (void)state;
    assert_string_equal(start("active", "pausing", POWER_RUNNING, "paused 1"),
                        "save(paused - 3) plug ");
    assert_string_equal(start("active", "image_uploading", POWER_RUNNING, "running 1"),
                        "snapshot save(active - 1) plug ");
    assert_string_equal(start("building", "spawning", POWER_NOSTATE, "running 1"),
                        "save(error - 1) ");
}

static void what_is_on_disk_is_suspended(void **state)
{
    (void)state;
    lv_fake_write(world.dir, "domains/" UUID ".save", "");
    assert_string_equal(start("active", "suspending", POWER_RUNNING, "shutoff 5"),
                        "save(suspended - 4) plug ");
}

static void a_verb_is_called_again(void **state)
{
    (void)state;
    assert_string_equal(start("active", "powering-off", POWER_RUNNING, "running 1"),
                        "stop_instance ");
    assert_string_equal(start("stopped", "powering-on", POWER_SHUTDOWN, "shutoff 1"),
                        "start_instance ");
    assert_string_equal(start("paused", "unpausing", POWER_PAUSED, "paused 1"),
                        "unpause_instance ");
    assert_string_equal(start("active", "soft-deleting", POWER_RUNNING, "running 1"),
                        "soft_delete_instance ");
    assert_string_equal(start("soft-delete", "restoring", POWER_SHUTDOWN, "shutoff 1"),
                        "restore_instance ");
    assert_string_equal(start("active", "deleting", POWER_RUNNING, "running 1"), "terminate ");
}

static void a_soft_reboot_whose_guest_is_down_becomes_a_hard_one(void **state)
{
    (void)state;
    assert_string_equal(start("active", "reboot_pending", POWER_RUNNING, "running 1"),
                        "reboot_instance(SOFT) ");
    assert_string_equal(start("active", "reboot_started", POWER_RUNNING, "shutoff 1"),
                        "save(active reboot_pending_hard 1) reboot_instance(HARD) ");
    assert_string_equal(start("active", "reboot_started_hard", POWER_RUNNING, "shutoff 1"),
                        "reboot_instance(HARD) ");
}

static void a_call_that_waits_goes_on_with_its_task(void **state)
{
    (void)state;
    world.has_kept = true;
    assert_string_equal(start("active", "powering-off", POWER_RUNNING, "running 1"), "plug ");
}

static void guests_come_up_again_with_their_host_if_that_is_wanted(void **state)
{
    (void)state;
    assert_string_equal(start("active", NULL, POWER_RUNNING, "shutoff 0"), "plug ");
    world.conf.dflt.resume_guests_state_on_host_boot = true;
    assert_string_equal(start("active", NULL, POWER_RUNNING, "shutoff 0"), "plug hard_reboot ");
    assert_string_equal(start("active", NULL, POWER_RUNNING, "paused 1"), "plug ");
    assert_string_equal(start("stopped", NULL, POWER_SHUTDOWN, "shutoff 1"), "plug ");
    world.spawn_fails = true;
    assert_string_equal(start("active", NULL, POWER_RUNNING, "shutoff 0"),
                        "plug hard_reboot error(" UUID " -) ");
}

static void no_guest_comes_up_while_its_server_is_evacuated(void **state)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    world.conf.dflt.resume_guests_state_on_host_boot = true;
    world.is_evacuating = true;
    assert_string_equal(start("active", NULL, POWER_RUNNING, "shutoff 0"), "");
    assert_string_equal(start("active", "powering-on", POWER_RUNNING, "shutoff 0"), "");
    world.evacuations_unknown = true;
    e = recovery_run(&world.node, ctx);
    assert_true(err_is(e, ERR_TIMEOUT)); /* Nobody knows which may: no start. */
}

static void a_move_whose_guest_is_here_is_undone(void **state)
{
    (void)state;
    world.has_migration = true;
    assert_string_equal(start("active", "migrating", POWER_RUNNING, "running 1"),
                        "rollback(there) migration(error) stay(active if migrating) plug ");
}

static void a_move_whose_guest_has_gone_is_finished(void **state)
{
    (void)state;
    world.has_migration = true;
    assert_string_equal(start("active", "migrating", POWER_RUNNING, NULL),
                        "plug post(there) migration(completed) ");
}

static void a_build_that_had_not_begun_is_an_error(void **state)
{
    (void)state;
    world.has_lost_build = true;
    assert_string_equal(start(NULL, NULL, 0, NULL),
                        "list({\"vm_state\":\"building\",\"uuid\":[\"" UUID "\",\"" BUILD
                        "\"]}) fail(" BUILD ") ");
    assert_string_equal(start("stopped", NULL, POWER_SHUTDOWN, "shutoff 1"),
                        "plug list({\"vm_state\":\"building\",\"uuid\":[\"" BUILD
                        "\"]}) fail(" BUILD ") ");
    world.has_kept = true; /* It only waits for us to be ready. */
    assert_string_equal(start(NULL, NULL, 0, NULL), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_idle_server_gets_its_ports),
        TEST(a_task_is_settled_by_the_guest),
        TEST(what_is_on_disk_is_suspended),
        TEST(a_verb_is_called_again),
        TEST(a_soft_reboot_whose_guest_is_down_becomes_a_hard_one),
        TEST(a_call_that_waits_goes_on_with_its_task),
        TEST(guests_come_up_again_with_their_host_if_that_is_wanted),
        TEST(no_guest_comes_up_while_its_server_is_evacuated),
        TEST(a_move_whose_guest_is_here_is_undone),
        TEST(a_move_whose_guest_has_gone_is_finished),
        TEST(a_build_that_had_not_begun_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute lv_fake */
#include "tests/fake/lv_fake.h"

#include "base/fs.h"
#include "driver/compute/dispatch.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/moves.h"
#include "driver/libvirt/lvwatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID "4dea22b3-1d52-4d8f-9d9a-0242ac110002"

/* One server and its guest, and what is done. */
static struct {
    struct conf conf;
    struct node node;
    char top[48], dir[64];
    const char *vm_state, *task_state, *host;
    int64_t power;
    bool is_deleted, moves, terminates_itself;
    const char *guest_at_read; /* The guest changes while its record is read. */
    enum err_kind save_fails;
    char log[512]; /* Calls, in their order. */
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

static struct instance *server(void)
{
    struct instance *inst = instance_new();

    instance_set_uuid(inst, UUID);
    instance_set_host(inst, world.host);
    instance_set_vm_state(inst, world.vm_state);
    instance_set_task_state(inst, world.task_state);
    instance_set_power_state(inst, world.power);
    instance_set_shutdown_terminate(inst, world.terminates_itself);
    ovo_reset_changes(instance_ovo(inst), false);
    return inst;
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)ctx;
    (void)attrs;
    assert_string_equal(uuid, UUID);
    if (world.is_deleted) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    if (world.guest_at_read) {
        lv_fake_domain(world.dir, UUID, world.guest_at_read);
    }
    *ret = server();
    return NULL;
}

struct err *instance_list_by_host(struct conductor *c, const struct rctx *ctx, const char *host,
                                  const char *const *attrs, struct instance_list **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(host, "here");
    assert_null(*attrs);
    *ret = instance_list_new();
    instance_list_add(*ret, server());
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    assert_string_equal(expected[0], "");
    assert_null(expected[1]);
    note("save(%s %s %lld) ", instance_vm_state(inst),
         instance_task_state(inst) ? instance_task_state(inst) : "-",
         (long long)instance_power_state(inst));
    return world.save_fails ? err_msg(world.save_fails, "no") : NULL;
}

struct err *instance_action_start(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *action)
{
    (void)c;
    assert_non_null(rctx_request_id(ctx));
    assert_string_equal(uuid, UUID);
    note("action(%s) ", action);
    return NULL;
}

struct err *dispatch_call(struct node *node, const struct rctx *ctx, struct compute_call *call,
                          struct json_object **ret)
{
    (void)ctx;
    assert_ptr_equal(node, &world.node);
    assert_null(*ret);
    note("%s ", compute_verb(call->method)->name);
    if (call->method == COMPUTE_stop_instance) {
        assert_true(call->args.stop_instance.clean_shutdown);
    }
    return err_msg(ERR_INTERNAL, "recorded elsewhere");
}

struct move *moves_find(struct moves *moves, const char *uuid)
{
    (void)moves;
    (void)uuid;
    return world.moves ? (struct move *)&world : NULL;
}

struct move *move_free(struct move *mv)
{
    (void)mv;
    return NULL;
}

void move_event(struct move *mv, const struct lv_event *event)
{
    (void)mv;
    note("move_event(%d) ", event->type);
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.top, "/tmp/test_lifecycle.XXXXXX");
    assert_non_null(mkdtemp(world.top));
    snprintf(world.dir, sizeof(world.dir), "%s/host", world.top);
    lv_fake_host(world.dir);
    setenv("NOVASHIM_LV_FAKE_DIR", world.dir, 1);
    world.conf.workarounds.handle_virt_lifecycle_events = true;
    world.host = "here";
    world.vm_state = "active";
    world.power = POWER_RUNNING;
    world.node = (struct node){.host = "here", .watch = lvwatch_new(), .tasks = task_pool_new()};
    assert_null(lv_init());
    assert_null(lv_connect("qemu:///system", &world.node.lv));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    task_pool_free(world.node.tasks);
    lv_conn_free(world.node.lv);
    lvwatch_free(world.node.watch);
    assert_null(fs_remove_all(&fs_real, world.top));
    return 0;
}

static void settled(void)
{
    task_pool_free(world.node.tasks);
    world.node.tasks = task_pool_new();
}

/* What the guest is, and what the record says; then all servers are looked at. */
static const char *sync_all(const char *guest, const char *vm_state, int64_t power)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    if (guest) {
        lv_fake_domain(world.dir, UUID, guest);
    }
    world.vm_state = vm_state;
    world.power = power;
    world.log[0] = '\0';
    assert_null(lifecycle_sync_all(&world.node, ctx));
    settled();
    return world.log;
}

static void happens(enum lv_event_type type)
{
    struct lv_event event = {.type = type, .uuid = UUID};

    lifecycle_event(&event, &world.node);
    settled();
}

/* ---- Decisions ---- */

static void each_state_has_its_fix(void **state)
{
    static const int64_t powers[] = {POWER_NOSTATE,  POWER_RUNNING, POWER_PAUSED,
                                     POWER_SHUTDOWN, POWER_CRASHED, POWER_SUSPENDED};
    /* A letter for each of these: S stop, t tell, - nothing. */
    static const struct {
        const char *vm_state, *fixes;
    } rows[] = {
        {"active", "t-tSSS"},      {"stopped", "-SS--S"}, {"paused", "---SS-"},
        {"soft-delete", "-tt-tt"}, {"deleted", "-tt-tt"}, {"building", "------"},
        {"rescued", "------"},     {"resized", "------"}, {"suspended", "------"},
        {"error", "------"},       {NULL, "------"},
    };
    static const char letters[] = {
        [POWER_FIX_NONE] = '-', [POWER_FIX_STOP] = 'S', [POWER_FIX_TELL] = 't'};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(powers); k++) {
            const char *why = NULL;
            enum power_fix fix = lifecycle_fix(rows[i].vm_state, powers[k], &why);

            if (letters[fix] != rows[i].fixes[k]) {
                fail_msg("%s at %lld: %c", rows[i].vm_state, (long long)powers[k], letters[fix]);
            }
            assert_int_equal(fix != POWER_FIX_NONE, why != NULL);
        }
    }
}

/* ---- Effects ---- */

static void what_fits_is_left_alone(void **state)
{
    (void)state;
    assert_string_equal(sync_all("running 1", "active", POWER_RUNNING), "");
    assert_string_equal(sync_all("shutoff 1", "stopped", POWER_SHUTDOWN), "");
}

static void the_hypervisor_is_right_about_power(void **state)
{
    (void)state;
    assert_string_equal(sync_all("running 1", "active", POWER_SHUTDOWN), "save(active - 1) ");
    assert_string_equal(sync_all("shutoff 5", "suspended", POWER_RUNNING), "save(suspended - 4) ");
}

static void a_guest_that_ended_is_stopped_as_by_the_api(void **state)
{
    (void)state;
    assert_string_equal(sync_all("shutoff 1", "active", POWER_RUNNING),
                        "save(active - 4) save(active powering-off 4) action(stop) "
                        "stop_instance ");
    assert_string_equal(sync_all("running 1", "stopped", POWER_SHUTDOWN),
                        "save(stopped - 1) save(stopped powering-off 1) action(stop) "
                        "stop_instance ");
}

static void a_server_that_wants_it_is_deleted_with_its_guest(void **state)
{
    (void)state;
    world.terminates_itself = true;
    assert_string_equal(sync_all("shutoff 1", "active", POWER_SHUTDOWN),
                        "save(active deleting 4) action(delete) terminate_instance ");
    assert_string_equal(sync_all("running 1", "stopped", POWER_RUNNING),
                        "save(stopped powering-off 1) action(stop) stop_instance ");
}

static void a_guest_that_is_not_there_is_no_state(void **state)
{
    (void)state;
    assert_string_equal(sync_all(NULL, "active", POWER_RUNNING), "save(active - 0) ");
}

static void whoever_has_the_task_writes_the_state(void **state)
{
    (void)state;
    world.save_fails = ERR_UNEXPECTED_TASK_STATE;
    assert_string_equal(sync_all("shutoff 1", "active", POWER_SHUTDOWN),
                        "save(active powering-off 4) ");
    world.task_state = "powering-off";
    assert_string_equal(sync_all("shutoff 1", "active", POWER_RUNNING), "");
}

static void a_server_of_another_host_is_not_ours(void **state)
{
    (void)state;
    world.host = "there";
    lv_fake_domain(world.dir, UUID, "shutoff 1");
    happens(LV_EVENT_CRASHED);
    assert_string_equal(world.log, "");
}

/* ---- Events ---- */

static void an_event_is_followed_by_a_look(void **state)
{
    (void)state;
    lv_fake_domain(world.dir, UUID, "paused 1");
    happens(LV_EVENT_SUSPENDED);
    assert_string_equal(world.log, "save(active - 3) ");
}

static void a_workaround_turns_that_off(void **state)
{
    (void)state;
    world.conf.workarounds.handle_virt_lifecycle_events = false;
    lv_fake_domain(world.dir, UUID, "paused 1");
    happens(LV_EVENT_SUSPENDED);
    assert_string_equal(world.log, "");
}

/* A suspend that ends between the two looks must not be taken for a guest that ended. */
static void power_is_looked_at_before_the_record_is_read(void **state)
{
    (void)state;
    lv_fake_domain(world.dir, UUID, "running 1");
    world.guest_at_read = "shutoff 5";
    happens(LV_EVENT_STARTED);
    assert_string_equal(world.log, "");
}

static void a_deleted_server_is_nobodys(void **state)
{
    (void)state;
    world.is_deleted = true;
    lv_fake_domain(world.dir, UUID, "shutoff 1");
    happens(LV_EVENT_CRASHED);
    assert_string_equal(world.log, "");
}

static void a_server_that_moves_is_left_to_its_move(void **state)
{
    (void)state;
    world.moves = true;
    lv_fake_domain(world.dir, UUID, "shutoff 1");
    happens(LV_EVENT_CRASHED);
    assert_string_equal(world.log, "move_event(6) ");
}

static void whoever_waits_for_an_event_gets_it_even_during_a_move(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(world.node.watch, UUID, LVWATCH_ON(STOPPED), NULL);
    struct lv_event event;

    (void)state;
    world.moves = true;
    happens(LV_EVENT_STOPPED);
    assert_null(lvwait_wait(wait, 0, NULL, &event));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_state_has_its_fix),
        TEST(what_fits_is_left_alone),
        TEST(the_hypervisor_is_right_about_power),
        TEST(a_guest_that_ended_is_stopped_as_by_the_api),
        TEST(a_server_that_wants_it_is_deleted_with_its_guest),
        TEST(a_guest_that_is_not_there_is_no_state),
        TEST(whoever_has_the_task_writes_the_state),
        TEST(a_server_of_another_host_is_not_ours),
        TEST(an_event_is_followed_by_a_look),
        TEST(a_workaround_turns_that_off),
        TEST(power_is_looked_at_before_the_record_is_read),
        TEST(a_deleted_server_is_nobodys),
        TEST(a_server_that_moves_is_left_to_its_move),
        TEST(whoever_waits_for_an_event_gets_it_even_during_a_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

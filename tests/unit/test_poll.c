/* link: driver_compute */
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/chore.h"
#include "driver/compute/poll.h"
#include "driver/compute/power.h"
#include "driver/compute/rescue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* What conductor knows of the one server, and what is done about it. */
static struct {
    struct conf conf;
    const char *host, *vm_state, *task_state;
    int64_t age_s;                  /* Of every time in the record. */
    const char *task_state_at_last; /* Of the second look; NULL: as before. */
    bool is_gone;                   /* At the second look. */
    enum err_kind save_fails;
    bool verb_fails;
    size_t n_resizes;
    struct json_object *filters;
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

static struct instance *server(const char *task_state)
{
    struct instance *inst = instance_new();
    CLEANUP(freep) char *when = clock_iso_of(clock_wall_s() - world.age_s);

    instance_set_uuid(inst, UUID);
    instance_set_host(inst, world.host);
    instance_set_vm_state(inst, world.vm_state);
    instance_set_task_state(inst, task_state);
    instance_set_created_at(inst, when);
    instance_set_updated_at(inst, when);
    instance_set_launched_at(inst, when);
    ovo_reset_changes(instance_ovo(inst), false);
    return inst;
}

struct err *instance_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                     struct json_object *filters, const char *const *attrs,
                                     struct instance_list **ret)
{
    (void)c;
    (void)ctx;
    assert_null(*attrs);
    jv_putp(&world.filters);
    world.filters = filters;
    *ret = instance_list_new();
    instance_list_add(*ret, server(world.task_state));
    return NULL;
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)ctx;
    (void)attrs;
    assert_string_equal(uuid, UUID);
    if (world.is_gone) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = server(world.task_state_at_last ? world.task_state_at_last : world.task_state);
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    note("save(%s%s%s) ", instance_task_state(inst) ? instance_task_state(inst) : "none",
         expected ? " if " : "", expected ? (**expected ? *expected : "none") : "");
    return world.save_fails ? err_msg(world.save_fails, "no") : NULL;
}

struct err *instance_save_if(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                             const char *vm_state)
{
    (void)c;
    (void)ctx;
    note("save(%s if %s) ", instance_vm_state(inst), vm_state);
    assert_false(instance_changed_task_state(inst));
    return world.save_fails ? err_msg(world.save_fails, "no") : NULL;
}

struct err *instance_action_start(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *action)
{
    (void)c;
    (void)ctx;
    assert_string_equal(uuid, UUID);
    note("action(%s) ", action);
    return NULL;
}

struct err *action_event_start(struct conductor *c, const struct rctx *ctx, const char *uuid,
                               const char *event, const char *host)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    assert_string_equal(host, "here");
    note("start(%s) ", event);
    return NULL;
}

struct err *action_event_finish(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                const char *event, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)event;
    note("finish(%s)", e ? err_class(e) : "");
    return NULL;
}

struct err *instance_fault_create(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *host, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)host;
    note("fault(%s) ", err_class(e));
    return NULL;
}

struct err *migration_list_unconfirmed(struct conductor *c, const struct rctx *ctx, int64_t age_s,
                                       const char *host, struct migration_list **ret)
{
    (void)c;
    (void)ctx;
    assert_int_equal(age_s, world.conf.dflt.resize_confirm_window);
    assert_string_equal(host, "here");
    *ret = migration_list_new();
    for (size_t i = 0; i < world.n_resizes; i++) {
        migration_list_add(*ret, migration_new());
    }
    return NULL;
}

struct err *power_hard_reboot(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    note("reboot(%s) ", instance_task_state(inst));
    return world.verb_fails ? err_new(ERR_INSTANCE_REBOOT, "reason", "no", NULL) : NULL;
}

struct err *rescue_undo(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    note("unrescue(%s) ", instance_task_state(inst));
    return NULL;
}

static int set_up(void **state)
{
    struct node *node = NEW(struct node);

    memset(&world, 0, sizeof(world));
    world.host = "here";
    world.age_s = 100;
    world.conf.dflt.instance_build_timeout = 60;
    world.conf.dflt.reboot_timeout = 60;
    world.conf.dflt.rescue_timeout = 60;
    world.conf.dflt.resize_confirm_window = 60;
    node->host = "here";
    node->tasks = task_pool_new();
    node->chores = chores_new();
    *state = node;
    return 0;
}

static int tear_down(void **state)
{
    struct node *node = *state;

    task_pool_free(node->tasks);
    chores_free(node->chores);
    jv_putp(&world.filters);
    free(node);
    return 0;
}

/* Runs a job and what it submits. */
static void run(struct node *node, struct err *(*job)(struct node *, const struct rctx *))
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    world.log[0] = '\0';
    assert_null(job(node, ctx));
    task_pool_free(node->tasks);
    node->tasks = task_pool_new();
}

static void assert_filters(const char *expected)
{
    CLEANUP(freep) char *text = jv_text(world.filters);

    assert_string_equal(text, expected);
}

/* One row a server: what is true of it. */
static void who_is_stuck_depends_on_state_host_and_time(void **state)
{
    static const struct {
        const char *host, *vm_state, *task_state;
        int64_t age_s;
        bool build, reboot, rescue;
    } rows[] = {
        {"here", "building", "spawning", 100, true, false, false},
        {"here", "building", NULL, 100, true, false, false},
        {"here", "building", NULL, 10, false, false, false},
        {"there", "building", NULL, 100, false, false, false},
        {"here", "active", "rebooting", 100, false, true, false},
        {"here", "paused", "reboot_pending", 100, false, true, false},
        {"here", "active", "reboot_started", 100, false, true, false},
        {"here", "active", "rebooting", 10, false, false, false},
        {"here", "active", "rebooting_hard", 100, false, false, false},
        {"here", "active", NULL, 100, false, false, false},
        {"here", "building", "rebooting", 100, true, false, false},
        {"there", "active", "rebooting", 100, false, false, false},
        {"here", "rescued", NULL, 100, false, false, true},
        {"here", "rescued", NULL, 10, false, false, false},
        {"here", "rescued", "unrescuing", 100, false, false, false},
        {"there", "rescued", NULL, 100, false, false, false},
        {NULL, "rescued", NULL, 100, false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int64_t now_s = clock_wall_s();

        world.host = rows[i].host;
        world.vm_state = rows[i].vm_state;
        world.age_s = rows[i].age_s;
        CLEANUP(instance_freep) struct instance *inst = server(rows[i].task_state);

        assert_int_equal(poll_build_is_stuck(inst, "here", 60, now_s), rows[i].build);
        assert_int_equal(poll_reboot_is_stuck(inst, "here", 60, now_s), rows[i].reboot);
        assert_int_equal(poll_rescue_is_over(inst, "here", 60, now_s), rows[i].rescue);
    }
}

static void a_record_without_fields_is_not_stuck(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    (void)state;
    assert_false(poll_build_is_stuck(inst, "here", 1, INT64_MAX));
    assert_false(poll_reboot_is_stuck(inst, "here", 1, INT64_MAX));
    assert_false(poll_rescue_is_over(inst, "here", 1, INT64_MAX));
}

static void a_build_that_takes_too_long_is_an_error(void **state)
{
    world.vm_state = "building";
    world.task_state = "spawning";
    run(*state, poll_builds);
    assert_filters("{\"host\":\"here\",\"vm_state\":\"building\"}");
    assert_string_equal(world.log, "save(error if building) ");
    world.age_s = 10;
    run(*state, poll_builds);
    assert_string_equal(world.log, "");
}

static void a_build_that_ended_meanwhile_is_left_alone(void **state)
{
    world.vm_state = "building";
    world.save_fails = ERR_UNEXPECTED_VM_STATE;
    run(*state, poll_builds);
    assert_string_equal(world.log, "save(error if building) ");
}

static void a_reboot_that_hangs_becomes_a_hard_one(void **state)
{
    world.vm_state = "active";
    world.task_state = "reboot_started";
    run(*state, poll_reboots);
    assert_filters("{\"host\":\"here\",\"task_state\":[\"rebooting\",\"reboot_pending\","
                   "\"reboot_started\"]}");
    assert_string_equal(world.log,
                        "save(rebooting_hard if rebooting) action(reboot) "
                        "start(compute_reboot_instance) reboot(rebooting_hard) finish()");
}

static void a_reboot_that_fails_again_leaves_fault_and_no_task(void **state)
{
    world.vm_state = "active";
    world.task_state = "rebooting";
    world.verb_fails = true;
    run(*state, poll_reboots);
    assert_string_equal(world.log,
                        "save(rebooting_hard if rebooting) action(reboot) "
                        "start(compute_reboot_instance) reboot(rebooting_hard) "
                        "fault(InstanceRebootFailure) save(none) finish(InstanceRebootFailure)");
}

static void the_second_look_decides(void **state)
{
    world.vm_state = "active";
    world.task_state = "rebooting";
    world.task_state_at_last = "powering-off";
    run(*state, poll_reboots);
    assert_string_equal(world.log, "");
    world.is_gone = true;
    run(*state, poll_reboots);
    assert_string_equal(world.log, "");
}

static void who_was_faster_goes_on(void **state)
{
    world.vm_state = "active";
    world.task_state = "rebooting";
    world.save_fails = ERR_UNEXPECTED_TASK_STATE;
    run(*state, poll_reboots);
    assert_string_equal(world.log, "save(rebooting_hard if rebooting) ");
}

static void a_rescue_ends_after_its_time(void **state)
{
    world.vm_state = "rescued";
    run(*state, poll_rescues);
    assert_filters("{\"host\":\"here\",\"vm_state\":\"rescued\"}");
    assert_string_equal(world.log, "save(unrescuing if none) action(unrescue) "
                                   "start(compute_unrescue_instance) unrescue(unrescuing) "
                                   "finish()");
}

/* How often the log says something. */
static unsigned count_lines(const char *path, const char *text)
{
    CLEANUP(freep) char *log = NULL;
    unsigned n = 0;

    assert_null(fs_read(&fs_real, path, &log, NULL));
    for (const char *at = log; (at = strstr(at, text)); at++) {
        n++;
    }
    return n;
}

static void resizes_are_told_of_once(void **state)
{
    static const struct {
        size_t n_resizes;
        unsigned n_told;
    } runs[] = {{0, 0}, {2, 1}, {2, 1}, {1, 1}, {2, 2}};
    struct node *node = *state;
    char path[] = "/tmp/test_poll.XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_null(log_open(&(struct log_conf){.file = path, .level = LOG_LEVEL_INFO}));
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        world.n_resizes = runs[i].n_resizes;
        run(node, poll_resizes);
        assert_string_equal(world.log, "");
        assert_int_equal(count_lines(path, "resizes to this host"), runs[i].n_told);
    }
    assert_null(log_open(&(struct log_conf){.level = LOG_LEVEL_INFO}));
    unlink(path);
    close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_stuck_depends_on_state_host_and_time),
        TEST(a_record_without_fields_is_not_stuck),
        TEST(a_build_that_takes_too_long_is_an_error),
        TEST(a_build_that_ended_meanwhile_is_left_alone),
        TEST(a_reboot_that_hangs_becomes_a_hard_one),
        TEST(a_reboot_that_fails_again_leaves_fault_and_no_task),
        TEST(the_second_look_decides),
        TEST(who_was_faster_goes_on),
        TEST(a_rescue_ends_after_its_time),
        TEST(resizes_are_told_of_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute lv_fake */
#include "tests/fake/lv_fake.h"

#include "base/fs.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/power.h"
#include "driver/compute/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define XML  "<domain><name>x</name><uuid>" UUID "</uuid><devices/></domain>"

/* One server, its guest in the fake libvirt, and what is done. */
static struct {
    struct conf conf;
    struct node node;
    struct rctx *ctx;
    struct instance *inst;
    char top[48], dir[64];
    enum err_kind spawn_fails, save_fails;
    int save_fails_at; /* The nth; 0: none. */
    int n_saves;
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

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    note("save(%s %s %lld", instance_vm_state(inst),
         instance_task_state(inst) ? instance_task_state(inst) : "-",
         (long long)instance_power_state(inst));
    for (size_t i = 0; expected && expected[i]; i++) {
        note("%s%s", i == 0 ? " if " : "|", *expected[i] ? expected[i] : "-");
    }
    note(") ");
    return ++world.n_saves == world.save_fails_at ? err_msg(world.save_fails, "no") : NULL;
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    for (; *attrs; attrs++) {
        assert_true(
            ovo_has(instance_ovo(inst), (unsigned)ovo_class_field(&instance_class, *attrs)));
    }
    return NULL;
}

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    enum lv_state state;

    TRY(lv_domain_by_uuid(node->lv, uuid, &d));
    TRY(lv_domain_state(d, &state, NULL));
    *ret = state == LV_RUNNING ? POWER_RUNNING : state == LV_PAUSED ? POWER_PAUSED : POWER_SHUTDOWN;
    return NULL;
}

struct err *bdms_by_instance(struct conductor *c, const struct rctx *ctx, const char *uuid,
                             struct block_device_mapping_list **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(uuid, UUID);
    *ret = block_device_mapping_list_new();
    return NULL;
}

struct err *instance_fault_create(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *host, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)host;
    assert_string_equal(uuid, UUID);
    note("fault(%s) ", err_message(e));
    return NULL;
}

struct err *glance_image_delete(struct glance *g, const struct rctx *ctx, const char *id)
{
    (void)g;
    (void)ctx;
    note("delete_image(%s) ", id);
    return NULL;
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    note("network ");
    *ret = (struct vif_list){0};
    return NULL;
}

void notify_instance_more(struct node *node, const struct rctx *ctx, struct instance *inst,
                          enum notify_action action, enum notify_phase phase,
                          const struct notify_more *more)
{
    static const char *const names[] = {
#define NOTIFY(id, legacy, versioned) [NOTIFY_##id] = versioned,
#include "driver/compute/notifications.def"
#undef NOTIFY
    };
    static const char *const phases[] = {"start", "end", "error"};

    (void)node;
    (void)ctx;
    (void)inst;
    note("%s.%s%s%s ", names[action], phases[phase], more->fault ? ":" : "",
         more->fault ? err_message(more->fault) : "");
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    notify_instance_more(node, ctx, inst, action, phase, &(struct notify_more){0});
}

static void start_domain(void)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    assert_null(lv_define(world.node.lv, XML, &d));
    assert_null(lv_domain_destroy(d));
    assert_null(lv_domain_start(d, false));
}

struct err *spawn_hard_reboot(const struct spawn *s)
{
    assert_ptr_equal(s->inst, world.inst);
    assert_non_null(s->bdms);
    assert_non_null(s->vifs);
    assert_false(s->waits_for_plug);
    note("hard_reboot ");
    if (world.spawn_fails) {
        return err_msg(world.spawn_fails, "no disk");
    }
    start_domain();
    return NULL;
}

struct err *spawn_start_guest(const struct spawn *s)
{
    assert_ptr_equal(s->inst, world.inst);
    note("start_guest ");
    if (world.spawn_fails) {
        return err_msg(world.spawn_fails, "no disk");
    }
    start_domain();
    return NULL;
}

static void on_event(const struct lv_event *event, void *arg)
{
    lvwatch_deliver(arg, event);
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.top, "/tmp/test_power.XXXXXX");
    assert_non_null(mkdtemp(world.top));
    snprintf(world.dir, sizeof(world.dir), "%s/host", world.top);
    lv_fake_host(world.dir);
    setenv("NOVASHIM_LV_FAKE_DIR", world.dir, 1);
    world.conf.dflt.shutdown_timeout = 60;
    world.conf.compute.shutdown_retry_interval = 10;
    world.conf.libvirt.wait_soft_reboot_seconds = 1;
    world.conf.libvirt.device_detach_timeout = 20;
    world.conf.libvirt.device_detach_attempts = 8;
    world.node = (struct node){.host = "here", .watch = lvwatch_new(), .stopping = cancel_new()};
    assert_null(lv_init());
    assert_null(lv_connect("qemu:///system", &world.node.lv));
    assert_null(lv_connect("qemu:///system", &world.node.lv_events));
    assert_null(lv_subscribe(world.node.lv_events, on_event, world.node.watch));
    world.ctx = rctx_new_admin();
    world.inst = instance_new();
    instance_set_uuid(world.inst, UUID);
    instance_set_vm_state(world.inst, "active");
    instance_set_task_state(world.inst, NULL);
    instance_set_power_state(world.inst, POWER_RUNNING);
    instance_clear_system_metadata(world.inst);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    instance_free(world.inst);
    rctx_free(world.ctx);
    lv_conn_free(world.node.lv_events);
    lv_conn_free(world.node.lv);
    lvwatch_free(world.node.watch);
    cancel_free(world.node.stopping);
    assert_null(fs_remove_all(&fs_real, world.top));
    return 0;
}

static void guest_calls(const char *expected)
{
    CLEANUP(freep) char *calls = lv_fake_read(world.dir, "calls");
    CLEANUP(strv_fini) struct strv lines = strv_split(calls ? calls : "", "\n");
    CLEANUP(strbuf_fini) struct strbuf seen = {0};

    for (size_t i = 0; i < lines.n; i++) {
        const char *call = lines.items[i] + strlen(UUID) + 1;

        if (!str_eq(call, "define")) {
            strbuf_addf(&seen, "%s%s", seen.len ? " " : "", call);
        }
    }
    assert_string_equal(seen.s ? seen.s : "", expected);
}

/* What the preparation of a test has done. */
static void forget(void)
{
    lv_fake_write(world.dir, "calls", "");
    world.log[0] = '\0';
}

static void running(void)
{
    start_domain();
    forget();
}

#define CALL(method, ...)                                                                          \
    compute_##method(&world.node, world.ctx,                                                       \
                     &(struct args_##method){.instance = world.inst, __VA_ARGS__},                 \
                     &(struct json_object *){NULL})

/* ---- Stop ---- */

static void a_stop_asks_the_guest_and_records_the_rest(void **state)
{
    (void)state;
    running();
    assert_null(CALL(stop_instance, .clean_shutdown = true));
    assert_string_equal(world.log,
                        "power_off.start save(stopped - 4 if powering-off) power_off.end ");
    guest_calls("shutdown destroy");
}

static void a_stop_without_asking_destroys(void **state)
{
    (void)state;
    running();
    assert_null(CALL(stop_instance, .clean_shutdown = false));
    guest_calls("destroy");
    assert_string_equal(instance_vm_state(world.inst), "stopped");
}

static void the_image_may_say_how_long_a_guest_needs(void **state)
{
    (void)state;
    running();
    lv_fake_write(world.dir, "guest", "shutdown_ignores 99\n");
    instance_system_metadata_put(world.inst, "image_os_shutdown_timeout", "1");
    assert_null(CALL(stop_instance, .clean_shutdown = true));
    guest_calls("shutdown destroy");
    instance_system_metadata_put(world.inst, "image_os_shutdown_timeout", "0");
    start_domain();
    forget();
    assert_null(CALL(stop_instance, .clean_shutdown = true));
    guest_calls("destroy");
}

static void a_stop_of_what_is_off_may_find_the_task_ended(void **state)
{
    (void)state;
    assert_null(CALL(stop_instance, .clean_shutdown = true));
    assert_string_equal(world.log,
                        "power_off.start save(stopped - 0 if powering-off|-) power_off.end ");
}

static void a_stop_that_the_service_cuts_off_records_nothing(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    running();
    lv_fake_write(world.dir, "guest", "shutdown_ignores 99\n");
    cancel_set(world.node.stopping);
    e = CALL(stop_instance, .clean_shutdown = true);
    assert_true(err_is(e, ERR_CANCELLED));
    assert_string_equal(world.log, "power_off.start ");
    guest_calls("shutdown");
}

static void a_soft_delete_powers_off_and_ends_its_notification_in_any_case(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    running();
    assert_null(CALL(soft_delete_instance, .unused_ = 0));
    assert_string_equal(world.log, "soft_delete.start save(soft-delete - 4 if soft-deleting) "
                                   "soft_delete.end ");
    guest_calls("destroy");
    running();
    lv_fake_write(world.dir, "guest", "destroy_fails 99\n");
    e = CALL(soft_delete_instance, .unused_ = 0);
    assert_true(err_is(e, ERR_INSTANCE_POWER_OFF));
    assert_string_equal(world.log, "soft_delete.start soft_delete.end ");
}

/* ---- Start ---- */

static void a_start_is_a_hard_reboot(void **state)
{
    (void)state;
    assert_null(CALL(start_instance, .unused_ = 0));
    assert_string_equal(world.log, "power_on.start network hard_reboot "
                                   "save(active - 1 if powering-on) power_on.end ");
}

static void a_start_that_fails_leaves_the_state_to_its_wrapper(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    world.spawn_fails = ERR_DISK_NOT_FOUND;
    e = CALL(start_instance, .unused_ = 0);
    assert_true(err_is(e, ERR_DISK_NOT_FOUND));
    assert_string_equal(world.log, "power_on.start network hard_reboot ");
}

static void a_start_after_a_shelve_drops_its_image(void **state)
{
    (void)state;
    instance_system_metadata_put(world.inst, "shelved_image_id", "im");
    instance_system_metadata_put(world.inst, "shelved_at", "then");
    instance_system_metadata_put(world.inst, "shelved_host", "here");
    instance_system_metadata_put(world.inst, "other", "x");
    assert_null(CALL(start_instance, .unused_ = 0));
    assert_non_null(strstr(world.log, "hard_reboot delete_image(im) save("));
    assert_null(instance_system_metadata_get(world.inst, "shelved_image_id"));
    assert_null(instance_system_metadata_get(world.inst, "shelved_at"));
    assert_null(instance_system_metadata_get(world.inst, "shelved_host"));
    assert_string_equal(instance_system_metadata_get(world.inst, "other"), "x");
}

static void a_restore_starts(void **state)
{
    (void)state;
    assert_null(CALL(restore_instance, .unused_ = 0));
    assert_string_equal(world.log, "restore.start network hard_reboot "
                                   "save(active - 1 if restoring) restore.end ");
}

/* ---- Pause ---- */

static void pause_and_unpause_change_the_guest(void **state)
{
    (void)state;
    running();
    assert_null(CALL(pause_instance, .unused_ = 0));
    assert_null(CALL(unpause_instance, .unused_ = 0));
    assert_string_equal(world.log, "pause.start save(paused - 3 if pausing) pause.end "
                                   "unpause.start save(active - 1 if unpausing) unpause.end ");
    guest_calls("suspend resume sync_time");
}

static void a_pause_without_a_guest_is_said(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    e = CALL(pause_instance, .unused_ = 0);
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
    assert_string_equal(world.log, "pause.start ");
}

/* ---- Suspend ---- */

static void a_guest_goes_to_disk_and_comes_back(void **state)
{
    (void)state;
    running();
    assert_null(CALL(suspend_instance, .unused_ = 0));
    assert_string_equal(world.log, "suspend.start save(suspended - 4 if suspending) suspend.end ");
    assert_string_equal(instance_system_metadata_get(world.inst, "old_vm_state"), "active");
    guest_calls("managed_save");
    forget();
    assert_null(CALL(resume_instance, .unused_ = 0));
    assert_string_equal(world.log, "resume.start network save(active - 1 if resuming) resume.end ");
    assert_null(instance_system_metadata_get(world.inst, "old_vm_state"));
    guest_calls("start sync_time");
}

static void a_suspend_that_fails_puts_the_server_in_error(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    running();
    lv_fake_write(world.dir, "guest", "refuse_save no space\n");
    instance_set_task_state(world.inst, "suspending");
    e = CALL(suspend_instance, .unused_ = 0);
    assert_non_null(strstr(err_message(e), "no space"));
    assert_string_equal(world.log, "suspend.start save(error suspending 1) ");
}

static void a_guest_of_which_nothing_is_saved_is_started_from_its_disks(void **state)
{
    (void)state;
    assert_null(CALL(resume_instance, .unused_ = 0));
    assert_string_equal(world.log, "resume.start network start_guest "
                                   "save(active - 1 if resuming) resume.end ");
}

static void a_resume_that_fails_puts_the_server_in_error(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    world.spawn_fails = ERR_DISK_NOT_FOUND;
    instance_set_vm_state(world.inst, "suspended");
    instance_set_task_state(world.inst, "resuming");
    e = CALL(resume_instance, .unused_ = 0);
    assert_true(err_is(e, ERR_DISK_NOT_FOUND));
    assert_string_equal(world.log, "resume.start network start_guest save(error resuming 1) ");
}

/* ---- Reboot ---- */

static void a_guest_that_listens_reboots_softly(void **state)
{
    (void)state;
    running();
    assert_null(CALL(reboot_instance, .reboot_type = "SOFT"));
    assert_string_equal(world.log,
                        "network reboot.start "
                        "save(active reboot_pending 1 if rebooting|reboot_pending|reboot_started) "
                        "save(active reboot_started 1 if reboot_pending) "
                        "save(active - 1) reboot.end ");
    guest_calls("shutdown start");
}

static void a_soft_reboot_falls_to_a_hard_one(void **state)
{
    (void)state;
    running();
    lv_fake_write(world.dir, "guest", "shutdown_ignores 99\n");
    assert_null(CALL(reboot_instance, .reboot_type = "SOFT"));
    assert_non_null(strstr(world.log, "hard_reboot save(active - 1) reboot.end"));
}

static void a_hard_reboot_has_states_of_its_own(void **state)
{
    (void)state;
    instance_set_vm_state(world.inst, "error"); /* Of a guest that is off. */
    assert_null(CALL(reboot_instance, .reboot_type = "HARD"));
    assert_string_equal(world.log,
                        "network reboot.start save(error reboot_pending_hard 0 if "
                        "rebooting_hard|reboot_pending_hard|reboot_started_hard) "
                        "save(error reboot_started_hard 0 if reboot_pending_hard) hard_reboot "
                        "save(active - 1) reboot.end ");
}

static void a_rescued_server_stays_rescued(void **state)
{
    (void)state;
    running();
    instance_set_vm_state(world.inst, "rescued");
    assert_null(CALL(reboot_instance, .reboot_type = "SOFT"));
    assert_string_equal(instance_vm_state(world.inst), "rescued");
}

static void a_reboot_that_fails_while_the_guest_runs_is_only_a_fault(void **state)
{
    (void)state;
    running();
    world.spawn_fails = ERR_DISK_NOT_FOUND;
    assert_null(CALL(reboot_instance, .reboot_type = "HARD"));
    assert_non_null(strstr(world.log, "hard_reboot fault(no disk) reboot.error:no disk "
                                      "save(active - 1) reboot.end "));
}

static void a_reboot_that_leaves_no_guest_puts_the_server_in_error(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    world.spawn_fails = ERR_DISK_NOT_FOUND;
    e = CALL(reboot_instance, .reboot_type = "HARD");
    assert_true(err_is(e, ERR_DISK_NOT_FOUND));
    assert_true(str_ends(world.log, "hard_reboot save(error reboot_started_hard 0) "));
}

static void a_reboot_of_a_server_that_is_being_deleted_touches_nothing(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    running();
    world.save_fails = ERR_UNEXPECTED_DELETING_TASK_STATE;
    world.save_fails_at = 2;
    e = CALL(reboot_instance, .reboot_type = "HARD");
    assert_true(err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE));
    assert_int_equal(world.n_saves, 2);
    guest_calls("");
}

static void a_server_that_disappears_during_its_reboot_is_no_error(void **state)
{
    (void)state;
    running();
    world.save_fails = ERR_INSTANCE_NOT_FOUND;
    world.save_fails_at = 3;
    assert_null(CALL(reboot_instance, .reboot_type = "HARD"));
    assert_true(str_ends(world.log, "reboot.end "));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stop_asks_the_guest_and_records_the_rest),
        TEST(a_stop_without_asking_destroys),
        TEST(the_image_may_say_how_long_a_guest_needs),
        TEST(a_stop_of_what_is_off_may_find_the_task_ended),
        TEST(a_stop_that_the_service_cuts_off_records_nothing),
        TEST(a_soft_delete_powers_off_and_ends_its_notification_in_any_case),
        TEST(a_start_is_a_hard_reboot),
        TEST(a_start_that_fails_leaves_the_state_to_its_wrapper),
        TEST(a_start_after_a_shelve_drops_its_image),
        TEST(a_restore_starts),
        TEST(pause_and_unpause_change_the_guest),
        TEST(a_pause_without_a_guest_is_said),
        TEST(a_guest_goes_to_disk_and_comes_back),
        TEST(a_suspend_that_fails_puts_the_server_in_error),
        TEST(a_guest_of_which_nothing_is_saved_is_started_from_its_disks),
        TEST(a_resume_that_fails_puts_the_server_in_error),
        TEST(a_guest_that_listens_reboots_softly),
        TEST(a_soft_reboot_falls_to_a_hard_one),
        TEST(a_hard_reboot_has_states_of_its_own),
        TEST(a_rescued_server_stays_rescued),
        TEST(a_reboot_that_fails_while_the_guest_runs_is_only_a_fault),
        TEST(a_reboot_that_leaves_no_guest_puts_the_server_in_error),
        TEST(a_reboot_of_a_server_that_is_being_deleted_touches_nothing),
        TEST(a_server_that_disappears_during_its_reboot_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute lv_fake */
#include "driver/compute/lifecycle.h"
#include "driver/compute/remedy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const char *const kinds[] = {
    [REMEDY_NONE] = "none",         [REMEDY_SKIP] = "skip",       [REMEDY_SETTLE] = "settle",
    [REMEDY_SNAPSHOT] = "snapshot", [REMEDY_ERROR] = "error",     [REMEDY_DELETE] = "delete",
    [REMEDY_CALL] = "call",         [REMEDY_MIGRATE] = "migrate", [REMEDY_LEAVE] = "leave"};

/* "KIND", "KIND VM_STATE" or "call VERB[ soft]". */
static char *text_of(struct remedy r)
{
    if (r.kind == REMEDY_CALL) {
        return str_printf("call %s%s", compute_verb(r.method)->name, r.is_soft ? " soft" : "");
    }
    return str_printf("%s%s%s", kinds[r.kind], r.vm_state ? " " : "", r.vm_state ? r.vm_state : "");
}

struct row {
    struct remedy_view view;
    const char *expected;
};

static void check(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct remedy_view *v = &rows[i].view;
        CLEANUP(freep) char *got = text_of(remedy_for(v));

        if (!str_eq(got, rows[i].expected)) {
            fail_msg("%s, task %s, power %lld: %s, not %s", v->vm_state ? v->vm_state : "none",
                     v->task_state ? v->task_state : "none", (long long)v->power, got,
                     rows[i].expected);
        }
    }
}
#define CHECK(...)                                                                                 \
    do {                                                                                           \
        static const struct row rows_[] = {__VA_ARGS__};                                           \
                                                                                                   \
        check(rows_, ARRAY_SIZE(rows_));                                                           \
    } while (0)

#define V(vm, task, p, text)                                                                       \
    {                                                                                              \
        {.vm_state = vm, .task_state = task, .power = p}, text                                     \
    }
#define W(vm, task, p, what, text)                                                                 \
    {                                                                                              \
        {.vm_state = vm, .task_state = task, .power = p, .what = true}, text                       \
    }
#define UP   POWER_RUNNING
#define OFF  POWER_SHUTDOWN
#define HALT POWER_PAUSED

static void what_has_no_task_needs_no_remedy(void **state)
{
    (void)state;
    CHECK(V("active", NULL, UP, "none"), V("stopped", NULL, OFF, "none"),
          V("rescued", NULL, UP, "none"));
}

static void servers_that_are_given_up_are_left_alone_but_for_their_deletion(void **state)
{
    (void)state;
    CHECK(V("soft-delete", NULL, OFF, "skip"), V("error", NULL, OFF, "skip"),
          V("error", "powering-on", OFF, "skip"), V("error", "deleting", OFF, "delete"),
          V("soft-delete", "deleting", OFF, "delete"),
          V("soft-delete", "restoring", OFF, "call restore_instance"),
          V("deleted", NULL, OFF, "delete"), V("active", "deleting", UP, "delete"),
          V("building", "deleting", UP, "delete"));
}

static void what_was_being_made_is_an_error(void **state)
{
    (void)state;
    CHECK(V("building", NULL, POWER_NOSTATE, "error error"),
          V("building", "spawning", UP, "error error"),
          V("building", "networking", POWER_NOSTATE, "error error"),
          V("active", "scheduling", UP, "error error"),
          V("active", "block_device_mapping", UP, "error error"),
          V("active", "rebuilding", UP, "error error"),
          V("stopped", "rebuild_spawning", OFF, "error error"));
}

static void images_are_given_up(void **state)
{
    (void)state;
    CHECK(V("active", "image_snapshot_pending", UP, "snapshot"),
          V("stopped", "image_uploading", OFF, "snapshot"),
          V("active", "image_backup", UP, "snapshot"), V("active", "resize_prep", UP, "settle"),
          V("active", "updating_password", UP, "settle"));
}

static void a_reboot_goes_on_unless_its_guest_runs_again(void **state)
{
    (void)state;
    CHECK(V("active", "rebooting", UP, "call reboot_instance soft"),
          V("active", "rebooting", OFF, "call reboot_instance"),
          V("stopped", "rebooting_hard", OFF, "call reboot_instance"),
          V("active", "reboot_pending", UP, "call reboot_instance soft"),
          V("active", "reboot_pending", OFF, "call reboot_instance"),
          V("stopped", "reboot_pending", OFF, "settle"),
          V("stopped", "reboot_pending_hard", OFF, "call reboot_instance"),
          V("suspended", "reboot_pending_hard", OFF, "call reboot_instance"),
          V("rescued", "reboot_pending_hard", UP, "settle"),
          V("active", "reboot_started", UP, "settle active"),
          V("rescued", "reboot_started", UP, "settle"),
          V("active", "reboot_started", OFF, "call reboot_instance"),
          V("active", "reboot_started_hard", UP, "settle active"),
          V("active", "reboot_started_hard", POWER_NOSTATE, "call reboot_instance"));
}

static void power_changes_are_made_again(void **state)
{
    (void)state;
    CHECK(V("active", "powering-off", UP, "call stop_instance"),
          V("active", "powering-off", OFF, "call stop_instance"),
          V("stopped", "powering-on", UP, "call start_instance"),
          V("active", "soft-deleting", UP, "call soft_delete_instance"));
}

static void what_has_become_of_the_guest_settles_a_pause(void **state)
{
    (void)state;
    CHECK(V("active", "pausing", UP, "settle active"),
          V("active", "pausing", HALT, "settle paused"), V("active", "pausing", OFF, "settle"),
          V("paused", "unpausing", UP, "settle active"),
          V("paused", "unpausing", HALT, "call unpause_instance"),
          V("paused", "unpausing", OFF, "settle"));
}

static void a_suspend_is_over_when_the_guest_is_on_disk(void **state)
{
    (void)state;
    CHECK(W("active", "suspending", OFF, has_save, "settle suspended"),
          V("active", "suspending", OFF, "settle"), V("active", "suspending", UP, "settle"),
          V("suspended", "resuming", UP, "settle active"),
          W("suspended", "resuming", OFF, has_save, "settle"));
}

static void a_rescue_can_be_ended_as_long_as_there_is_a_way_back(void **state)
{
    (void)state;
    CHECK(W("active", "rescuing", UP, has_rescue, "settle rescued"),
          V("active", "rescuing", OFF, "settle"),
          W("rescued", "unrescuing", OFF, has_rescue, "settle rescued"),
          V("rescued", "unrescuing", UP, "settle active"));
}

static void what_is_not_built_is_left(void **state)
{
    (void)state;
    CHECK(V("active", "migrating", UP, "migrate"), V("active", "resize_migrating", UP, "leave"),
          V("active", "shelving", UP, "leave"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_no_task_needs_no_remedy),
        cmocka_unit_test(servers_that_are_given_up_are_left_alone_but_for_their_deletion),
        cmocka_unit_test(what_was_being_made_is_an_error),
        cmocka_unit_test(images_are_given_up),
        cmocka_unit_test(a_reboot_goes_on_unless_its_guest_runs_again),
        cmocka_unit_test(power_changes_are_made_again),
        cmocka_unit_test(what_has_become_of_the_guest_settles_a_pause),
        cmocka_unit_test(a_suspend_is_over_when_the_guest_is_on_disk),
        cmocka_unit_test(a_rescue_can_be_ended_as_long_as_there_is_a_way_back),
        cmocka_unit_test(what_is_not_built_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

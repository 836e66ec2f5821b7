/* link: driver_libvirt lv_fake */
#include "base/clock.h"
#include "driver/libvirt/lvwatch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define GUEST "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define OTHER "5dea22b3-1d52-4d8f-9d9a-0242ac110002"

static int set_up(void **state)
{
    *state = lvwatch_new();
    return 0;
}

static int tear_down(void **state)
{
    lvwatch_free(*state);
    return 0;
}

static void deliver(struct lvwatch *watch, enum lv_event_type type, const char *uuid,
                    const char *alias)
{
    struct lv_event event = {.type = type};

    strcpy(event.uuid, uuid);
    strcpy(event.alias, alias);
    lvwatch_deliver(watch, &event);
}

/* What there is now: its kind, or that of the error. */
static bool has_event(struct lvwait *wait, struct lv_event *ret)
{
    CLEANUP(err_freep) struct err *e = lvwait_wait(wait, 0, NULL, ret);

    assert_true(!e || err_is(e, ERR_TIMEOUT));
    return !e;
}

static void an_event_between_registration_and_wait_is_not_lost(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(*state, GUEST, LVWATCH_ON(STOPPED), NULL);
    struct lv_event event;

    deliver(*state, LV_EVENT_STOPPED, GUEST, "");
    assert_true(has_event(wait, &event));
    assert_int_equal(event.type, LV_EVENT_STOPPED);
    assert_false(has_event(wait, &event)); /* It is said once. */
    deliver(*state, LV_EVENT_STOPPED, GUEST, "");
    assert_true(has_event(wait, &event));
}

static void events_of_others_and_of_other_kinds_do_not_count(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(*state, GUEST, LVWATCH_ON(STOPPED), NULL);
    struct lv_event event;

    deliver(*state, LV_EVENT_STOPPED, OTHER, "");
    deliver(*state, LV_EVENT_STARTED, GUEST, "");
    assert_false(has_event(wait, &event));
}

static void a_device_is_told_by_its_alias_and_a_stop_ends_that_wait_too(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait =
        lvwatch_expect(*state, GUEST, LVWATCH_ON(DEVICE_REMOVED) | LVWATCH_ON(STOPPED), "net1");
    struct lv_event event;

    deliver(*state, LV_EVENT_DEVICE_REMOVED, GUEST, "net0");
    assert_false(has_event(wait, &event));
    deliver(*state, LV_EVENT_DEVICE_REMOVED, GUEST, "net1");
    assert_true(has_event(wait, &event));
    assert_string_equal(event.alias, "net1");
    deliver(*state, LV_EVENT_STOPPED, GUEST, "");
    assert_true(has_event(wait, &event));
}

static void a_lost_connection_ends_every_wait_once(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *one = lvwatch_expect(*state, GUEST, LVWATCH_ON(STOPPED), NULL);
    CLEANUP(lvwait_freep)
    struct lvwait *two = lvwatch_expect(*state, OTHER, LVWATCH_ON(STARTED), NULL);
    struct lvwait *const both[] = {one, two};
    struct lv_event event;

    deliver(*state, LV_EVENT_DISCONNECTED, "", "");
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        CLEANUP(err_freep) struct err *e = lvwait_wait(both[i], 0, NULL, &event);

        assert_true(err_is(e, ERR_HYPERVISOR_UNAVAILABLE));
        assert_false(has_event(both[i], &event));
    }
}

static void *cancel_soon(void *arg)
{
    cancel_sleep(NULL, 20);
    cancel_set(arg);
    return NULL;
}

static void a_wait_is_woken_by_its_cancel_token(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(*state, GUEST, LVWATCH_ON(STOPPED), NULL);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new();
    struct lv_event event;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
    {
        CLEANUP(err_freep) struct err *e = lvwait_wait(wait, clock_ms() + 60000, cancel, &event);

        assert_true(err_is(e, ERR_CANCELLED));
    }
    pthread_join(thread, NULL);
}

static void *deliver_soon(void *arg)
{
    cancel_sleep(NULL, 20);
    deliver(arg, LV_EVENT_STOPPED, GUEST, "");
    return NULL;
}

static void a_wait_is_woken_by_its_event(void **state)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(*state, GUEST, LVWATCH_ON(STOPPED), NULL);
    struct lv_event event;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, deliver_soon, *state), 0);
    assert_null(lvwait_wait(wait, clock_ms() + 60000, NULL, &event));
    assert_int_equal(event.type, LV_EVENT_STOPPED);
    pthread_join(thread, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_between_registration_and_wait_is_not_lost),
        TEST(events_of_others_and_of_other_kinds_do_not_count),
        TEST(a_device_is_told_by_its_alias_and_a_stop_ends_that_wait_too),
        TEST(a_lost_connection_ends_every_wait_once),
        TEST(a_wait_is_woken_by_its_cancel_token),
        TEST(a_wait_is_woken_by_its_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

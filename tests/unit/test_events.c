/* link: driver_compute */
#include "driver/compute/events.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define NAME "network-vif-plugged"

static int set_up(void **state)
{
    *state = events_new();
    return 0;
}

static int tear_down(void **state)
{
    events_free(*state);
    return 0;
}

static struct event_wait *expect(struct events *ev, const char *tags)
{
    CLEANUP(strv_fini) struct strv list = strv_split(tags, ",");

    return events_expect(ev, UUID, NAME, &list);
}

/* Does not wait: what has not come by now is missing. */
static void assert_waits(struct event_wait *w, enum err_kind kind, const char *text)
{
    CLEANUP(err_freep) struct err *e = events_wait(w, clock_ms(), NULL);

    if (!err_is(e, kind) || !strstr(err_message(e), text)) {
        fail_msg("%s", e ? err_message(e) : "all have come");
    }
}

static void an_event_that_comes_ends_the_wait(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a,b");

    assert_true(events_deliver(*state, UUID, NAME, "b", "completed"));
    assert_waits(w, ERR_TIMEOUT, "port(s) a");
    assert_true(events_deliver(*state, UUID, NAME, "a", "completed"));
    assert_null(events_wait(w, clock_ms(), NULL));
}

static void a_wait_for_nothing_is_over(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "");

    assert_null(events_wait(w, clock_ms(), NULL));
}

static void missing_ports_are_named(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a,b,c");

    assert_true(events_deliver(*state, UUID, NAME, "b", "completed"));
    assert_waits(w, ERR_TIMEOUT, "Timed out waiting for " NAME " of port(s) a, c");
}

static void a_failure_ends_the_wait_at_once(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a,b");

    assert_true(events_deliver(*state, UUID, NAME, "b", "failed"));
    CLEANUP(err_freep) struct err *e = events_wait(w, INT64_MAX, NULL);

    assert_true(err_is(e, ERR_VIF_PLUG));
    assert_non_null(strstr(err_message(e), "port(s) b"));
    assert_null(strstr(err_message(e), "port(s) a"));
}

static void other_events_are_not_ours(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");

    assert_false(events_deliver(*state, "another server", NAME, "a", "completed"));
    assert_false(events_deliver(*state, UUID, "network-vif-unplugged", "a", "completed"));
    assert_false(events_deliver(*state, UUID, NAME, "b", "completed"));
    assert_waits(w, ERR_TIMEOUT, "port(s) a");
}

static void an_event_that_comes_early_is_not_lost(void **state)
{
    assert_false(events_deliver(*state, UUID, NAME, "a", "completed"));
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");

    assert_null(events_wait(w, clock_ms(), NULL));
    CLEANUP(event_wait_freep) struct event_wait *again = expect(*state, "a");

    assert_waits(again, ERR_TIMEOUT, "port(s) a"); /* It was used up. */
}

static void a_failure_that_comes_early_is_not_lost(void **state)
{
    assert_false(events_deliver(*state, UUID, NAME, "a", "failed"));
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");

    assert_waits(w, ERR_VIF_PLUG, "port(s) a");
}

static void early_events_are_bounded(void **state)
{
    assert_false(events_deliver(*state, UUID, NAME, "first", "completed"));
    for (int i = 0; i < 256; i++) {
        char tag[16];

        snprintf(tag, sizeof(tag), "%d", i);
        assert_false(events_deliver(*state, UUID, NAME, tag, "completed"));
    }
    CLEANUP(event_wait_freep) struct event_wait *first = expect(*state, "first");
    CLEANUP(event_wait_freep) struct event_wait *last = expect(*state, "0,255");

    assert_waits(first, ERR_TIMEOUT, "first");
    assert_null(events_wait(last, clock_ms(), NULL));
}

static void a_port_named_twice_is_one(void **state)
{
    assert_false(events_deliver(*state, UUID, NAME, "a", "completed"));
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a,a,b,b");

    assert_waits(w, ERR_TIMEOUT, "port(s) b");
    assert_true(events_deliver(*state, UUID, NAME, "b", "completed"));
    assert_null(events_wait(w, clock_ms(), NULL));
}

static void everybody_who_waits_gets_an_event(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *one = expect(*state, "a");
    CLEANUP(event_wait_freep) struct event_wait *two = expect(*state, "a,b");

    assert_true(events_deliver(*state, UUID, NAME, "a", "completed"));
    assert_null(events_wait(one, clock_ms(), NULL));
    assert_waits(two, ERR_TIMEOUT, "port(s) b");
}

static void an_event_after_the_wait_is_for_nobody(void **state)
{
    struct event_wait *w = expect(*state, "a");

    event_wait_free(w);
    assert_false(events_deliver(*state, UUID, NAME, "a", "completed"));
    assert_null(event_wait_free(NULL));
    assert_null(events_free(NULL));
}

/* -- From other threads ------------------------------------------------------------------------ */

static void *deliver_thread(void *arg)
{
    events_deliver(arg, UUID, NAME, "a", "completed");
    return NULL;
}

static void *cancel_all_thread(void *arg)
{
    events_cancel_all(arg);
    return NULL;
}

static void *cancel_thread(void *arg)
{
    cancel_set(arg);
    return NULL;
}

static struct err *wait_while(struct event_wait *w, struct cancel *cancel, void *(*fn)(void *),
                              void *arg)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
    struct err *e = events_wait(w, INT64_MAX, cancel);

    pthread_join(thread, NULL);
    return e;
}

static void one_who_waits_is_woken(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");

    assert_null(wait_while(w, NULL, deliver_thread, *state));
}

static void the_end_of_the_service_ends_every_wait(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");
    CLEANUP(err_freep) struct err *e = wait_while(w, NULL, cancel_all_thread, *state);

    assert_true(err_is(e, ERR_CANCELLED));
}

static void a_wait_can_be_cancelled(void **state)
{
    CLEANUP(event_wait_freep) struct event_wait *w = expect(*state, "a");
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new();
    CLEANUP(err_freep) struct err *e = wait_while(w, cancel, cancel_thread, cancel);

    assert_true(err_is(e, ERR_CANCELLED));
    assert_true(events_deliver(*state, UUID, NAME, "a", "completed"));
    assert_null(events_wait(w, clock_ms(), cancel)); /* What has come counts. */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_that_comes_ends_the_wait),
        TEST(a_wait_for_nothing_is_over),
        TEST(missing_ports_are_named),
        TEST(a_failure_ends_the_wait_at_once),
        TEST(other_events_are_not_ours),
        TEST(an_event_that_comes_early_is_not_lost),
        TEST(a_failure_that_comes_early_is_not_lost),
        TEST(early_events_are_bounded),
        TEST(a_port_named_twice_is_one),
        TEST(everybody_who_waits_gets_an_event),
        TEST(an_event_after_the_wait_is_for_nobody),
        TEST(one_who_waits_is_woken),
        TEST(the_end_of_the_service_ends_every_wait),
        TEST(a_wait_can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

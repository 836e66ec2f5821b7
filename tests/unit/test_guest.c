/* link: driver_libvirt lv_fake */
#include "tests/fake/lv_fake.h"

#include "base/clock.h"
#include "base/fs.h"
#include "driver/libvirt/guest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GUEST "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define NET(n)                                                                                     \
    "<interface type='ethernet'><mac address='fa:16:3e:00:00:0" #n "'/>"                           \
    "<target dev='tap" #n "'/></interface>"
#define HOSTDEV                                                                                    \
    "<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x81' "            \
    "slot='0x00' function='0x2'/></source></hostdev>"
#define DOMAIN(devices)                                                                            \
    "<domain><name>x</name><uuid>" GUEST "</uuid><devices>" devices "</devices></domain>"

struct world {
    char dir[64], top[48];
    struct lv_conn *lv, *events;
    struct lvwatch *watch;
    struct guest_env env;
};

static void on_event(const struct lv_event *event, void *arg)
{
    lvwatch_deliver(arg, event);
}

static int set_up(void **state)
{
    struct world *w = NEW(struct world);

    strcpy(w->top, "/tmp/test_guest.XXXXXX");
    assert_non_null(mkdtemp(w->top));
    snprintf(w->dir, sizeof(w->dir), "%s/host", w->top);
    lv_fake_host(w->dir);
    setenv("NOVASHIM_LV_FAKE_DIR", w->dir, 1);
    assert_null(lv_init());
    assert_null(lv_connect("qemu:///system", &w->lv));
    assert_null(lv_connect("qemu:///system", &w->events));
    w->watch = lvwatch_new();
    assert_null(lv_subscribe(w->events, on_event, w->watch));
    w->env = (struct guest_env){.lv = w->lv, .watch = w->watch};
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    lv_conn_free(w->events);
    lv_conn_free(w->lv);
    lvwatch_free(w->watch);
    assert_null(fs_remove_all(&fs_real, w->top));
    free(w);
    return 0;
}

static void start(struct world *w, const char *xml)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    assert_null(guest_start(&w->env, xml, /* is_paused= */ false, &d));
}

static enum lv_state state_of(struct world *w)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    enum lv_state state;

    assert_null(lv_domain_by_uuid(w->lv, GUEST, &d));
    assert_null(lv_domain_state(d, &state, NULL));
    return state;
}

static bool xml_has(struct world *w, const char *text)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(freep) char *xml = NULL;

    assert_null(lv_domain_by_uuid(w->lv, GUEST, &d));
    assert_null(lv_domain_xml(d, false, &xml));
    return strstr(xml, text) != NULL;
}

static unsigned n_calls(struct world *w, const char *call)
{
    CLEANUP(freep) char *calls = lv_fake_read(w->dir, "calls");
    CLEANUP(freep) char *wanted = str_printf("%s %s", GUEST, call);
    unsigned n = 0;

    for (const char *p = calls ? strstr(calls, wanted) : NULL; p; p = strstr(p + 1, wanted)) {
        n++;
    }
    return n;
}

/* ---- Start ---- */

static void a_guest_starts_paused_when_asked(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    assert_null(guest_start(&w->env, DOMAIN(NET(1)), /* is_paused= */ true, &d));
    assert_int_equal(state_of(w), LV_PAUSED);
}

static void what_does_not_start_is_not_left_defined(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(err_freep) struct err *gone = NULL;

    lv_fake_write(w->dir, "guest", "refuse_start qemu died\n");
    e = guest_start(&w->env, DOMAIN(NET(1)), false, &d);
    assert_string_equal(err_message(e), "qemu died");
    gone = lv_domain_by_uuid(w->lv, GUEST, &d);
    assert_true(err_is(gone, ERR_INSTANCE_NOT_FOUND));
}

static void a_definition_that_was_there_before_stays(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    start(w, DOMAIN(NET(1)));
    assert_null(guest_power_off(&w->env, GUEST));
    lv_fake_write(w->dir, "guest", "refuse_start qemu died\n");
    e = guest_start(&w->env, DOMAIN(NET(1)), false, &d);
    assert_non_null(e);
    assert_int_equal(state_of(w), LV_SHUTOFF);
}

/* ---- Stop ---- */

static void power_off_is_for_what_runs_is_off_or_is_not_there(void **state)
{
    struct world *w = *state;

    assert_null(guest_power_off(&w->env, GUEST));
    start(w, DOMAIN(NET(1)));
    assert_null(guest_power_off(&w->env, GUEST));
    assert_int_equal(state_of(w), LV_SHUTOFF);
    assert_null(guest_power_off(&w->env, GUEST));
    assert_null(guest_undefine(&w->env, GUEST));
    assert_null(guest_undefine(&w->env, GUEST));
}

static void a_guest_that_does_not_die_is_destroyed_again(void **state)
{
    struct world *w = *state;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "destroy_fails 2\n");
    assert_null(guest_power_off(&w->env, GUEST));
    assert_int_equal(n_calls(w, "destroy"), 3);
}

static void a_guest_that_never_dies_is_an_error_after_three_times(void **state)
{
    struct world *w = *state;
    CLEANUP(err_freep) struct err *e = NULL;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "destroy_fails 99\n");
    e = guest_power_off(&w->env, GUEST);
    assert_true(err_is(e, ERR_INSTANCE_POWER_OFF));
    assert_non_null(strstr(err_message(e), "Device or resource busy"));
    assert_int_equal(n_calls(w, "destroy"), 3);
}

static void a_shutdown_ends_with_the_guest(void **state)
{
    struct world *w = *state;
    int64_t start_ms = clock_ms();
    bool is_off = false;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "shutdown_ms 30\n");
    assert_null(guest_shutdown(&w->env, GUEST, 60, 10, &is_off));
    assert_true(is_off);
    assert_true(clock_ms() - start_ms < 5000);
    assert_int_equal(n_calls(w, "shutdown"), 1);
    assert_null(guest_shutdown(&w->env, GUEST, 60, 10, &is_off)); /* Off already. */
    assert_true(is_off);
    assert_int_equal(n_calls(w, "shutdown"), 1);
}

static void a_guest_that_did_not_hear_is_asked_again(void **state)
{
    struct world *w = *state;
    bool is_off = false;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "shutdown_ignores 1\n");
    assert_null(guest_shutdown(&w->env, GUEST, 60, 1, &is_off));
    assert_true(is_off);
    assert_int_equal(n_calls(w, "shutdown"), 2);
}

static void a_guest_that_does_not_want_to_goes_on(void **state)
{
    struct world *w = *state;
    bool is_off = true;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "shutdown_ignores 99\n");
    assert_null(guest_shutdown(&w->env, GUEST, 1, 10, &is_off));
    assert_false(is_off);
    assert_int_equal(state_of(w), LV_RUNNING);
}

static void a_shutdown_is_cut_short_when_the_service_stops(void **state)
{
    struct world *w = *state;
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new();
    struct guest_env env = w->env;
    CLEANUP(err_freep) struct err *e = NULL;
    bool is_off;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "shutdown_ignores 99\n");
    env.stop = stop;
    cancel_set(stop);
    e = guest_shutdown(&env, GUEST, 60, 10, &is_off);
    assert_true(err_is(e, ERR_CANCELLED));
}

static void a_soft_reboot_needs_a_guest_that_listens(void **state)
{
    struct world *w = *state;
    bool has_rebooted = false;

    start(w, DOMAIN(NET(1)));
    assert_null(guest_soft_reboot(&w->env, GUEST, 60, &has_rebooted));
    assert_true(has_rebooted);
    assert_int_equal(state_of(w), LV_RUNNING);
    lv_fake_write(w->dir, "guest", "shutdown_ignores 99\n");
    assert_null(guest_soft_reboot(&w->env, GUEST, 1, &has_rebooted));
    assert_false(has_rebooted);
    assert_null(guest_power_off(&w->env, GUEST));
    assert_null(guest_soft_reboot(&w->env, GUEST, 60, &has_rebooted)); /* No waiting. */
    assert_false(has_rebooted);
}

/* ---- Devices ---- */

static void a_device_goes_out_of_guest_and_definition(void **state)
{
    struct world *w = *state;

    start(w, DOMAIN(NET(1)));
    assert_null(guest_attach_device(&w->env, GUEST, NET(2)));
    assert_true(xml_has(w, "fa:16:3e:00:00:02"));
    lv_fake_write(w->dir, "guest", "detach_ms 30\n");
    assert_null(guest_detach_device(&w->env, GUEST, NET(2), NULL, 60));
    assert_false(xml_has(w, "fa:16:3e:00:00:02"));
    assert_null(guest_power_off(&w->env, GUEST));
    assert_false(xml_has(w, "fa:16:3e:00:00:02"));
    assert_true(xml_has(w, "fa:16:3e:00:00:01"));
    assert_null(guest_detach_device(&w->env, GUEST, NET(2), NULL, 60)); /* Not there. */
}

static void devices_of_a_guest_that_is_off_change_in_its_definition(void **state)
{
    struct world *w = *state;

    start(w, DOMAIN(NET(1)));
    assert_null(guest_power_off(&w->env, GUEST));
    assert_null(guest_attach_device(&w->env, GUEST, NET(2)));
    assert_true(xml_has(w, "fa:16:3e:00:00:02"));
    assert_null(guest_detach_device(&w->env, GUEST, NET(2), NULL, 60));
    assert_false(xml_has(w, "fa:16:3e:00:00:02"));
}

static void a_refusal_of_the_guest_is_an_error_at_once_and_changes_nothing(void **state)
{
    struct world *w = *state;
    int64_t start_ms = clock_ms();
    CLEANUP(err_freep) struct err *e = NULL;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "detach_fails 1\n");
    e = guest_detach_device(&w->env, GUEST, NET(1), NULL, 60);
    assert_true(err_is(e, ERR_DEVICE_DETACH_FAILED));
    assert_string_equal(err_get(e, "device"), "net0");
    assert_true(clock_ms() - start_ms < 5000);
    assert_null(guest_power_off(&w->env, GUEST));
    assert_true(xml_has(w, "fa:16:3e:00:00:01"));
}

static void a_guest_that_does_not_let_go_has_one_deadline(void **state)
{
    struct world *w = *state;
    int64_t start_ms = clock_ms();
    CLEANUP(err_freep) struct err *e = NULL;

    start(w, DOMAIN(NET(1)));
    lv_fake_write(w->dir, "guest", "detach_ignores 99\n");
    e = guest_detach_device(&w->env, GUEST, NET(1), NULL, 1);
    assert_true(err_is(e, ERR_DEVICE_DETACH_FAILED));
    assert_true(clock_ms() - start_ms < 5000);
    assert_true(xml_has(w, "fa:16:3e:00:00:01"));
}

static void a_device_that_is_gone_without_an_event_is_noticed(void **state)
{
    struct world *w = *state;

    start(w, DOMAIN(NET(1)));
    w->events = lv_conn_free(w->events); /* Nobody listens any more. */
    lv_fake_write(w->dir, "guest", "detach_ms 30\n");
    assert_null(guest_detach_device(&w->env, GUEST, NET(1), "net0", 1));
    assert_false(xml_has(w, "fa:16:3e:00:00:01"));
}

/* ---- Suspend ---- */

static void a_guest_goes_to_disk_without_the_hosts_devices_and_gets_them_back(void **state)
{
    struct world *w = *state;
    bool was_saved = true;

    start(w, DOMAIN(NET(1) HOSTDEV));
    assert_null(guest_suspend(&w->env, GUEST, 60));
    assert_int_equal(state_of(w), LV_SHUTOFF);
    assert_int_equal(n_calls(w, "detach live=1 persistent=0 <hostdev"), 1);
    assert_null(guest_resume_saved(&w->env, GUEST, &was_saved));
    assert_true(was_saved);
    assert_int_equal(state_of(w), LV_RUNNING);
    assert_true(xml_has(w, "<hostdev"));
    assert_null(guest_power_off(&w->env, GUEST));
    assert_null(guest_resume_saved(&w->env, GUEST, &was_saved));
    assert_false(was_saved);
    assert_int_equal(state_of(w), LV_SHUTOFF);
}

static void a_guest_that_cannot_be_saved_keeps_its_devices(void **state)
{
    struct world *w = *state;
    CLEANUP(err_freep) struct err *e = NULL;

    start(w, DOMAIN(NET(1) HOSTDEV));
    lv_fake_write(w->dir, "guest", "refuse_save no space\n");
    e = guest_suspend(&w->env, GUEST, 60);
    assert_string_equal(err_message(e), "no space");
    assert_int_equal(state_of(w), LV_RUNNING);
    assert_true(xml_has(w, "<hostdev"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_guest_starts_paused_when_asked),
        TEST(what_does_not_start_is_not_left_defined),
        TEST(a_definition_that_was_there_before_stays),
        TEST(power_off_is_for_what_runs_is_off_or_is_not_there),
        TEST(a_guest_that_does_not_die_is_destroyed_again),
        TEST(a_guest_that_never_dies_is_an_error_after_three_times),
        TEST(a_shutdown_ends_with_the_guest),
        TEST(a_guest_that_did_not_hear_is_asked_again),
        TEST(a_guest_that_does_not_want_to_goes_on),
        TEST(a_shutdown_is_cut_short_when_the_service_stops),
        TEST(a_soft_reboot_needs_a_guest_that_listens),
        TEST(a_device_goes_out_of_guest_and_definition),
        TEST(devices_of_a_guest_that_is_off_change_in_its_definition),
        TEST(a_refusal_of_the_guest_is_an_error_at_once_and_changes_nothing),
        TEST(a_guest_that_does_not_let_go_has_one_deadline),
        TEST(a_device_that_is_gone_without_an_event_is_noticed),
        TEST(a_guest_goes_to_disk_without_the_hosts_devices_and_gets_them_back),
        TEST(a_guest_that_cannot_be_saved_keeps_its_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

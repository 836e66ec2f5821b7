/* link: driver_libvirt lv_fake base */
#include "driver/libvirt/migrate.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/sync.h"
#include "tests/fake/lv_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GUEST "4dea22b3-1d52-4d8f-9d9a-0242ac110002"

/* What a move told, and what its operator does meanwhile. */
struct world {
    char top[64], here[80], there[80];
    struct conf conf;
    struct migrate_spec spec;
    struct migrate_job *job;
    struct lv_conn *events;
    void (*meddle)(struct world *); /* With the first sample. */
    void (*look)(struct world *);   /* With each after that. */
    unsigned n_starts, n_samples, n_postcopies;
    unsigned n_switches, n_postcopy_switches; /* On lv-events, and after migrate_run. */
    struct strv copy_disks;
};

static void on_start(void *arg)
{
    struct world *w = arg;

    w->n_starts++;
}

static void on_switchover(bool is_postcopy, void *arg)
{
    struct world *w = arg;

    __atomic_add_fetch(&w->n_switches, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&w->n_postcopy_switches, is_postcopy, __ATOMIC_SEQ_CST);
}

static void on_sample(const struct lv_job *job, void *arg)
{
    struct world *w = arg;

    assert_int_equal(job->type, LV_JOB_UNBOUNDED);
    if (w->n_samples++ == 0 && w->meddle) {
        w->meddle(w);
    } else if (w->n_samples > 1 && w->look) {
        w->look(w);
    }
}

static void on_postcopy(void *arg)
{
    struct world *w = arg;

    w->n_postcopies++;
}

static void on_event(const struct lv_event *event, void *arg)
{
    struct world *w = arg;

    migrate_event(w->job, event);
}

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    strcpy(w->top, "/tmp/test_migrate.XXXXXX");
    assert_non_null(mkdtemp(w->top));
    snprintf(w->here, sizeof(w->here), "%s/host-a", w->top);
    snprintf(w->there, sizeof(w->there), "%s/host-b", w->top);
    lv_fake_host(w->here);
    lv_fake_host(w->there);
    lv_fake_domain(w->here, GUEST, "running 1");
    setenv("NOVASHIM_LV_FAKE_DIR", w->here, 1);
    assert_null(lv_init());
    w->conf.libvirt.live_migration_downtime = 500;
    w->conf.libvirt.live_migration_downtime_steps = 10;
    w->conf.libvirt.live_migration_downtime_delay = 75;
    w->conf.libvirt.live_migration_completion_timeout = 800;
    w->conf.libvirt.live_migration_timeout_action = "abort";
    w->spec = (struct migrate_spec){.instance_uuid = GUEST,
                                    .migration_id = 7,
                                    .dest = "host-b",
                                    .dest_xml = "<domain><name>moved</name></domain>",
                                    .copy_disks = &w->copy_disks,
                                    .memory_mib = 64};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    lv_conn_free(w->events);
    migrate_free(w->job);
    strv_fini(&w->copy_disks);
    assert_null(fs_remove_all(&fs_real, w->top));
    free(w);
    return 0;
}

static void make_job(struct world *w)
{
    const struct migrate_hooks hooks = {on_start, on_switchover, on_sample, on_postcopy, w};

    assert_null(migrate_new("qemu:///system", &w->conf, &w->spec, &hooks, &w->job));
    assert_null(lv_connect("qemu:///system", &w->events));
    assert_null(lv_subscribe(w->events, on_event, w));
}

static struct migrate_result run(struct world *w, const char *script)
{
    struct migrate_result result;

    lv_fake_write(w->here, "migrate", script);
    if (!w->job) {
        make_job(w);
    }
    assert_null(migrate_run(w->job, &result));
    return result;
}

static bool has_call(struct world *w, const char *text)
{
    CLEANUP(freep) char *calls = lv_fake_read(w->here, "calls");

    return calls && strstr(calls, text);
}

static unsigned n_calls(struct world *w, const char *text)
{
    CLEANUP(freep) char *calls = lv_fake_read(w->here, "calls");
    unsigned n = 0;

    for (const char *p = calls; p && (p = strstr(p, text)); p++) {
        n++;
    }
    return n;
}

static bool has_state(const char *dir, const char *expected)
{
    CLEANUP(freep) char *state = lv_fake_read(dir, "domains/" GUEST ".state");

    return state && str_starts(state, expected);
}

/* ---- How moves end ---- */

static void a_guest_moves(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "");

    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_null(r.err);
    assert_int_equal(r.stats.type, LV_JOB_COMPLETED);
    assert_int_equal(r.stats.memory_total, 64 << 20);
    assert_int_equal(w->n_starts, 1);
    assert_int_equal(w->n_switches, 1);
    assert_int_equal(w->n_postcopy_switches, 0);
    assert_false(has_state(w->here, ""));
    assert_true(has_state(w->there, "running"));
}

static void the_end_is_noticed_at_once(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "setup_ms 0\npass_ms 10\npasses 1\nswitch_ms 0\n");

    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_in_range(r.duration_ms, 0, 400); /* Less than one period of samples. */
    assert_int_equal(w->n_samples, 0);
}

static void the_first_downtime_is_set_before_the_move(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "");
    CLEANUP(freep) char *calls = lv_fake_read(w->here, "calls");

    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_non_null(strstr(calls, "set_max_downtime 50\n"));
    assert_true(strstr(calls, "set_max_downtime 50\n") < strstr(calls, " migrate "));
}

static void a_refused_move_fails_with_its_reason(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "refuse no room there\n");

    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_true(err_is(r.err, ERR_LIBVIRT));
    assert_string_equal(err_message(r.err), "no room there");
    assert_int_equal(r.stats.memory_total, 0);
    assert_int_equal(w->n_switches, 0);
    assert_true(has_state(w->here, "running"));
    migrate_result_fini(&r);
}

static void a_destination_that_is_not_there_fails(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->spec.dest = "host-c";
    r = run(w, "");
    assert_int_equal(r.end, MIGRATE_FAILED);
    migrate_result_fini(&r);
}

static void a_move_that_breaks_leaves_the_guest_here(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "passes 9\nfail_pass 2\nfail link down\n");

    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_true(has_state(w->here, "running"));
    assert_false(has_call(w, "resume"));
    migrate_result_fini(&r);
}

static void a_move_that_breaks_at_the_switch_over_fails_after_telling(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "fail_switch no answer\nswitch_ms 100\n");

    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_int_equal(w->n_switches, 1);
    assert_true(has_state(w->here, "running"));
    migrate_result_fini(&r);
}

static void a_guest_that_dies_meanwhile_has_not_moved(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "passes 9\ndie_pass 2\n");

    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_int_equal(w->n_switches, 0);
    migrate_result_fini(&r);
}

static void a_guest_that_is_not_there_is_an_error(void **state)
{
    struct world *w = *state;
    CLEANUP(err_freep) struct err *e = NULL;
    struct migrate_result r;

    w->spec.instance_uuid = "4dea22b3-1d52-4d8f-9d9a-0242ac11ffff";
    make_job(w);
    e = migrate_run(w->job, &r);
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
    assert_int_equal(w->n_starts, 0);
}

/* ---- Abort ---- */

static void abort_it(struct world *w)
{
    assert_null(migrate_abort(w->job));
}

static void an_abort_cancels(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->meddle = abort_it;
    r = run(w, "passes 0\n");
    assert_int_equal(r.end, MIGRATE_CANCELLED);
    assert_string_equal(err_get(r.err, "name"), "VIR_ERR_OPERATION_ABORTED");
    assert_true(has_state(w->here, "running"));
    assert_int_equal(w->n_switches, 0);
    migrate_result_fini(&r);
}

static void an_abort_before_the_start_cancels_without_libvirt(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    make_job(w);
    assert_null(migrate_abort(w->job));
    r = run(w, "");
    assert_int_equal(r.end, MIGRATE_CANCELLED);
    assert_true(err_is(r.err, ERR_CANCELLED));
    assert_int_equal(w->n_starts, 0);
    assert_false(has_call(w, "migrate"));
    migrate_result_fini(&r);
}

static void abort_at_start(void *arg)
{
    on_start(arg);
    abort_it(arg);
}

static void an_abort_that_libvirt_is_not_ready_for_is_repeated(void **state)
{
    struct world *w = *state;
    const struct migrate_hooks hooks = {abort_at_start, on_switchover, on_sample, on_postcopy, w};
    struct migrate_result r;

    assert_null(migrate_new("qemu:///system", &w->conf, &w->spec, &hooks, &w->job));
    r = run(w, "setup_ms 700\npasses 0\n");
    assert_int_equal(r.end, MIGRATE_CANCELLED);
    assert_in_range(n_calls(w, " abort"), 2, 4);
    migrate_result_fini(&r);
}

static void an_abort_after_the_end_is_refused(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run(w, "");
    CLEANUP(err_freep) struct err *e = migrate_abort(w->job);

    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_true(err_is(e, ERR_INVALID_MIGRATION_STATE));
    assert_string_equal(err_get(e, "migration_id"), "7");
}

/* ---- Force ---- */

static void force_it(struct world *w)
{
    assert_null(migrate_force_complete(w->job));
}

static void forcing_pauses_the_guest_which_then_moves(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->meddle = force_it;
    r = run(w, "passes 0\n");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_int_equal(n_calls(w, "suspend"), 1);
    assert_int_equal(w->n_switches, 1);
    assert_true(has_state(w->there, "running"));
}

static void look_for_the_pause(struct world *w)
{
    assert_true(has_call(w, "suspend"));
}

static void forcing_does_not_wait_for_a_sample(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->meddle = force_it;
    w->look = look_for_the_pause;
    r = run(w, "passes 0\npass_ms 1200\n");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_in_range(w->n_samples, 2, 9);
}

static void *abort_later(void *arg)
{
    struct world *w = arg;

    while (!has_call(w, "suspend")) {
        usleep(5000);
    }
    abort_it(w);
    return NULL;
}

static void a_forced_move_that_is_aborted_runs_the_guest_again(void **state)
{
    struct world *w = *state;
    struct migrate_result r;
    pthread_t thread;

    w->meddle = force_it;
    make_job(w);
    pthread_create(&thread, NULL, abort_later, w);
    r = run(w, "passes 0\npass_ms 3000\n");
    pthread_join(thread, NULL);
    assert_int_equal(r.end, MIGRATE_CANCELLED);
    assert_int_equal(n_calls(w, "resume"), 1);
    assert_true(has_state(w->here, "running"));
    assert_int_equal(w->n_switches, 0);
    migrate_result_fini(&r);
}

static void a_guest_that_its_user_paused_stays_paused(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    lv_fake_domain(w->here, GUEST, "paused 1");
    w->meddle = force_it;
    r = run(w, "passes 9\npass_ms 1000\nfail_switch broken\nswitch_ms 0\n");
    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_false(has_call(w, "suspend"));
    assert_false(has_call(w, "resume"));
    migrate_result_fini(&r);
}

static void forcing_switches_to_post_copy_where_permitted(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->conf.libvirt.live_migration_permit_post_copy = true;
    w->meddle = force_it;
    r = run(w, "passes 0\n");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_int_equal(w->n_postcopies, 1);
    assert_int_equal(w->n_switches, 1);
    assert_int_equal(w->n_postcopy_switches, 1);
    assert_false(has_call(w, "suspend"));
}

static void *abort_in_postcopy(void *arg)
{
    struct world *w = arg;

    while (!has_call(w, "postcopy")) {
        usleep(5000);
    }
    return migrate_abort(w->job);
}

static void post_copy_cannot_be_aborted(void **state)
{
    struct world *w = *state;
    struct migrate_result r;
    pthread_t thread;
    void *answer;

    w->conf.libvirt.live_migration_permit_post_copy = true;
    w->meddle = force_it;
    make_job(w);
    pthread_create(&thread, NULL, abort_in_postcopy, w);
    r = run(w, "passes 0\nswitch_ms 300\n");
    pthread_join(thread, &answer);
    assert_true(err_is(answer, ERR_INVALID_MIGRATION_STATE));
    err_free(answer);
    assert_int_equal(r.end, MIGRATE_COMPLETED);
}

static void forcing_what_does_not_run_is_refused(void **state)
{
    struct world *w = *state;
    CLEANUP(err_freep) struct err *e = NULL;

    make_job(w);
    e = migrate_force_complete(w->job);
    assert_true(err_is(e, ERR_NO_ACTIVE_MIGRATION));
}

/* ---- Time ---- */

static void the_timeout_aborts(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->conf.libvirt.live_migration_completion_timeout = 1; /* Times 2 GiB. */
    r = run(w, "passes 0\n");
    assert_int_equal(r.end, MIGRATE_CANCELLED);
    assert_in_range(r.duration_ms, 2000, 3500);
    migrate_result_fini(&r);
}

static void the_timeout_forces_completion_if_told_to(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->conf.libvirt.live_migration_completion_timeout = 1;
    w->conf.libvirt.live_migration_timeout_action = "force_complete";
    r = run(w, "passes 0\n");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_int_equal(n_calls(w, "suspend"), 1);
}

static void more_downtime_is_allowed_as_time_goes_by(void **state)
{
    struct world *w = *state;
    struct migrate_result r;

    w->conf.libvirt.live_migration_downtime_delay = 0;
    w->conf.libvirt.live_migration_downtime_steps = 3;
    r = run(w, "passes 0\nneed_downtime_ms 500\n");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_true(has_call(w, "set_max_downtime 166"));
    assert_true(has_call(w, "set_max_downtime 500"));
}

/* ---- libvirtd comes and goes ---- */

static void take_down(struct world *w)
{
    lv_fake_write(w->here, "down", "");
}

static void *bring_up(void *arg)
{
    struct world *w = arg;
    char path[120];

    snprintf(path, sizeof(path), "%s/down", w->here);
    while (access(path, F_OK) != 0) {
        usleep(5000);
    }
    usleep(700000);
    unlink(path);
    return NULL;
}

static struct migrate_result run_with_an_outage(struct world *w, const char *script)
{
    struct migrate_result r;
    pthread_t thread;

    w->meddle = take_down;
    make_job(w);
    pthread_create(&thread, NULL, bring_up, w);
    r = run(w, script);
    pthread_join(thread, NULL);
    return r;
}

static void a_move_that_goes_on_without_us_is_waited_for(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run_with_an_outage(w, "passes 30\n");

    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_in_range(r.duration_ms, 1400, 4000);
    assert_int_equal(w->n_switches, 1);
}

static void a_move_that_failed_without_us_is_seen(void **state)
{
    struct world *w = *state;
    struct migrate_result r = run_with_an_outage(w, "passes 30\nfail_pass 15\nfail it\n");

    assert_int_equal(r.end, MIGRATE_FAILED);
    assert_true(has_state(w->here, "running"));
    migrate_result_fini(&r);
}

static void the_switch_over_is_told_even_if_events_are_lost(void **state)
{
    struct world *w = *state;
    const struct migrate_hooks hooks = {on_start, on_switchover, on_sample, on_postcopy, w};
    struct migrate_result r;

    assert_null(migrate_new("qemu:///system", &w->conf, &w->spec, &hooks, &w->job));
    r = run(w, "");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    assert_int_equal(w->n_switches, 1);
}

static void events_of_other_guests_and_other_times_are_nothing(void **state)
{
    struct world *w = *state;
    struct lv_event event = {.type = LV_EVENT_SUSPENDED, .detail = LV_DETAIL_MIGRATED};
    struct migrate_result r;

    make_job(w);
    strcpy(event.uuid, GUEST);
    migrate_event(w->job, &event); /* Not begun. */
    assert_int_equal(w->n_switches, 0);
    r = run(w, "");
    assert_int_equal(r.end, MIGRATE_COMPLETED);
    migrate_event(w->job, &event); /* Over. */
    strcpy(event.uuid, "4dea22b3-1d52-4d8f-9d9a-0242ac11ffff");
    migrate_event(w->job, &event);
    assert_int_equal(w->n_switches, 1);
}

/* ---- Addresses and flags ---- */

static void expect_uri(struct world *w, const char *dest, const char *expected)
{
    CLEANUP(freep) char *uri = NULL;

    assert_null(migrate_uri(&w->conf, dest, &uri));
    assert_string_equal(uri, expected);
}

static void uris_follow_the_configuration(void **state)
{
    struct world *w = *state;

    expect_uri(w, "host-b", "qemu+tcp://host-b/system");
    expect_uri(w, "192.0.2.7", "qemu+tcp://192.0.2.7/system");
    expect_uri(w, "2001:db8::7", "qemu+tcp://[2001:db8::7]/system");
    w->conf.libvirt.live_migration_scheme = "tls";
    expect_uri(w, "host_b.example", "qemu+tls://host_b.example/system");
    w->conf.libvirt.live_migration_uri = "qemu+ssh://nova@%s/system?keyfile=/a%%20b";
    expect_uri(w, "host-b", "qemu+ssh://nova@host-b/system?keyfile=/a%20b");
}

static void hosts_that_would_change_a_uri_are_refused(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"",     "a/b",  "a?b",    "a b", "a\n",      "u@h",
                                      "a%41", "[::]", "a#frag", "a;b", "h\xc3\xa9"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep) char *uri = NULL;
        CLEANUP(err_freep) struct err *e = migrate_uri(&w->conf, bad[i], &uri);

        assert_true(err_is(e, ERR_INVALID_HOSTNAME));
        assert_null(uri);
    }
}

static void a_uri_template_without_one_place_is_refused(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"qemu:///system", "%s%s", "qemu://%d/", "qemu://%s/%"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep) char *uri = NULL;
        CLEANUP(err_freep) struct err *e = NULL;

        w->conf.libvirt.live_migration_uri = bad[i];
        e = migrate_uri(&w->conf, "host-b", &uri);
        assert_true(err_is(e, ERR_CONFIG));
    }
}

static void an_address_of_the_destination_is_used_for_both_ways(void **state)
{
    struct world *w = *state;
    char link[100];

    snprintf(link, sizeof(link), "%s/192.0.2.7", w->top);
    assert_int_equal(symlink(w->there, link), 0);
    w->spec.target_connect_addr = "192.0.2.7";
    assert_int_equal(run(w, "").end, MIGRATE_COMPLETED);
    assert_true(has_call(w, "migrate qemu+tcp://192.0.2.7/system uri=tcp://192.0.2.7 "));
}

static void a_bad_address_of_the_destination_is_refused(void **state)
{
    struct world *w = *state;
    const struct migrate_hooks hooks = {0};
    CLEANUP(err_freep) struct err *e = NULL;

    w->spec.target_connect_addr = "192.0.2.7/x";
    e = migrate_new("qemu:///system", &w->conf, &w->spec, &hooks, &w->job);
    assert_true(err_is(e, ERR_INVALID_HOSTNAME));
}

static void expect_call(struct world *w, const char *flags_and_disks)
{
    assert_int_equal(run(w, "").end, MIGRATE_COMPLETED);
    assert_true(has_call(w, flags_and_disks));
}

static void block_migration_copies_the_disks_it_was_given(void **state)
{
    struct world *w = *state;

    strv_add(&w->copy_disks, "vda");
    strv_add(&w->copy_disks, "vdb");
    w->spec.is_block_migration = true;
    expect_call(w, "flags=16 disks=vda,vdb"); /* NON_SHARED_INC */
}

static void block_migration_without_disks_copies_none(void **state)
{
    struct world *w = *state;

    w->spec.is_block_migration = true;
    expect_call(w, "flags=0 disks=\n");
}

static void a_tunnel_copies_no_disks_and_has_no_address(void **state)
{
    struct world *w = *state;

    strv_add(&w->copy_disks, "vda");
    w->spec.is_block_migration = true;
    w->spec.target_connect_addr = "host-b";
    w->conf.libvirt.live_migration_tunnelled = true;
    expect_call(w, "uri= bandwidth=0 flags=1 disks=\n");
}

static void post_copy_excludes_auto_converge_and_paused_guests(void **state)
{
    struct world *w = *state;

    w->conf.libvirt.live_migration_permit_post_copy = true;
    w->conf.libvirt.live_migration_permit_auto_converge = true;
    w->conf.libvirt.live_migration_bandwidth = 12;
    w->spec.is_paused = true;
    expect_call(w, "bandwidth=12 flags=0 disks=\n");
}

static void auto_converge_and_tls_are_asked_for(void **state)
{
    struct world *w = *state;

    w->conf.libvirt.live_migration_permit_auto_converge = true;
    w->conf.libvirt.live_migration_with_native_tls = true;
    expect_call(w, "flags=10 disks=\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_guest_moves),
        TEST(the_end_is_noticed_at_once),
        TEST(the_first_downtime_is_set_before_the_move),
        TEST(a_refused_move_fails_with_its_reason),
        TEST(a_destination_that_is_not_there_fails),
        TEST(a_move_that_breaks_leaves_the_guest_here),
        TEST(a_move_that_breaks_at_the_switch_over_fails_after_telling),
        TEST(a_guest_that_dies_meanwhile_has_not_moved),
        TEST(a_guest_that_is_not_there_is_an_error),
        TEST(an_abort_cancels),
        TEST(an_abort_before_the_start_cancels_without_libvirt),
        TEST(an_abort_that_libvirt_is_not_ready_for_is_repeated),
        TEST(an_abort_after_the_end_is_refused),
        TEST(forcing_pauses_the_guest_which_then_moves),
        TEST(forcing_does_not_wait_for_a_sample),
        TEST(a_forced_move_that_is_aborted_runs_the_guest_again),
        TEST(a_guest_that_its_user_paused_stays_paused),
        TEST(forcing_switches_to_post_copy_where_permitted),
        TEST(post_copy_cannot_be_aborted),
        TEST(forcing_what_does_not_run_is_refused),
        TEST(the_timeout_aborts),
        TEST(the_timeout_forces_completion_if_told_to),
        TEST(more_downtime_is_allowed_as_time_goes_by),
        TEST(a_move_that_goes_on_without_us_is_waited_for),
        TEST(a_move_that_failed_without_us_is_seen),
        TEST(the_switch_over_is_told_even_if_events_are_lost),
        TEST(events_of_other_guests_and_other_times_are_nothing),
        TEST(uris_follow_the_configuration),
        TEST(hosts_that_would_change_a_uri_are_refused),
        TEST(a_uri_template_without_one_place_is_refused),
        TEST(an_address_of_the_destination_is_used_for_both_ways),
        TEST(a_bad_address_of_the_destination_is_refused),
        TEST(block_migration_copies_the_disks_it_was_given),
        TEST(block_migration_without_disks_copies_none),
        TEST(a_tunnel_copies_no_disks_and_has_no_address),
        TEST(post_copy_excludes_auto_converge_and_paused_guests),
        TEST(auto_converge_and_tls_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: lv_fake base */
#include "tests/fake/lv_fake.h"

#include "base/clock.h"
#include "base/fs.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define GUEST "4dea22b3-1d52-4d8f-9d9a-0242ac110002"

struct world {
    char top[64], here[80], there[80];
    struct lv_event last;
    unsigned n_events;
};

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    strcpy(w->top, "/tmp/test_lv_fake.XXXXXX");
    assert_non_null(mkdtemp(w->top));
    snprintf(w->here, sizeof(w->here), "%s/host-a", w->top);
    snprintf(w->there, sizeof(w->there), "%s/host-b", w->top);
    lv_fake_host(w->here);
    lv_fake_host(w->there);
    lv_fake_domain(w->here, GUEST, "running 1");
    setenv("NOVASHIM_LV_FAKE_DIR", w->here, 1);
    assert_null(lv_init());
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_null(fs_remove_all(&fs_real, w->top));
    free(w);
    return 0;
}

static void on_event(const struct lv_event *event, void *arg)
{
    struct world *w = arg;

    w->last = *event;
    __atomic_add_fetch(&w->n_events, 1, __ATOMIC_SEQ_CST);
}

/* At most two seconds. */
static bool file_appears(const char *dir, const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);

    for (int i = 0; i < 400 && access(path, F_OK) != 0; i++) {
        usleep(5000);
    }
    return access(path, F_OK) == 0;
}

static void a_domain_is_what_its_files_say(void **state)
{
    CLEANUP(lv_conn_freep) struct lv_conn *c = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(freep) char *name = NULL;
    enum lv_state got;
    int reason;

    (void)state;
    assert_null(lv_connect("qemu:///system", &c));
    assert_null(lv_domain_uuids(c, &uuids));
    assert_int_equal(uuids.n, 1);
    assert_string_equal(uuids.items[0], GUEST);
    assert_null(lv_domain_by_uuid(c, GUEST, &d));
    assert_null(lv_domain_name(d, &name));
    assert_string_equal(name, "guest-4dea");
    assert_null(lv_domain_destroy(d));
    assert_null(lv_domain_state(d, &got, &reason));
    assert_int_equal(got, LV_SHUTOFF);
    assert_null(lv_domain_undefine(d));
    e = lv_domain_state(d, &got, &reason);
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
}

static void a_host_has_capabilities_of_its_own_or_the_usual(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_conn_freep) struct lv_conn *c = NULL;
    CLEANUP(freep) char *usual = NULL;
    CLEANUP(freep) char *own = NULL;

    assert_null(lv_connect("qemu+tcp://host-a/system", &c));
    assert_null(lv_capabilities(c, &usual));
    assert_non_null(strstr(usual, "Haswell"));
    lv_fake_write(w->here, "capabilities.xml", "<capabilities/>");
    assert_null(lv_capabilities(c, &own));
    assert_string_equal(own, "<capabilities/>");
}

static void lines_that_anybody_appends_are_events(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_conn_freep) struct lv_conn *c = NULL;
    CLEANUP(freep) char *path = str_printf("%s/events", w->here);
    FILE *f;

    lv_fake_write(w->here, "events", "STARTED NONE " GUEST "\n"); /* Before we listen. */
    assert_null(lv_connect("qemu:///system", &c));
    assert_null(lv_subscribe(c, on_event, w));
    f = fopen(path, "ae");
    assert_non_null(f);
    fputs("no event\nDEVICE_REMOVED NONE " GUEST " alias=net1\n", f);
    fclose(f);
    for (int i = 0; i < 400 && __atomic_load_n(&w->n_events, __ATOMIC_SEQ_CST) == 0; i++) {
        usleep(5000);
    }
    c = lv_conn_free(c); /* Nothing is delivered after this. */
    assert_int_equal(w->n_events, 1);
    assert_int_equal(w->last.type, LV_EVENT_DEVICE_REMOVED);
    assert_string_equal(w->last.uuid, GUEST);
    assert_string_equal(w->last.alias, "net1");
}

static void a_move_outlives_the_process_that_began_it(void **state)
{
    struct world *w = *state;
    const struct lv_migrate_params params = {.dest_uri = "qemu+tcp://host-b/system",
                                             .dest_xml = "<domain/>"};
    CLEANUP(lv_conn_freep) struct lv_conn *c = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    struct lv_job job;
    pid_t child;

    lv_fake_write(w->here, "migrate", "passes 4\n");
    assert_null(lv_connect("qemu:///system", &c));
    assert_null(lv_domain_by_uuid(c, GUEST, &d));
    child = fork();
    if (child == 0) {
        err_free(lv_migrate(d, &params));
        _exit(0);
    }
    assert_true(file_appears(w->here, "jobs/" GUEST));
    usleep(50000);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_null(lv_job_stats(d, &job));
    assert_int_equal(job.type, LV_JOB_UNBOUNDED);
    c = lv_conn_free(c);
    assert_null(lv_connect("qemu:///system", &c)); /* As a daemon does that starts again. */
    assert_true(file_appears(w->there, "domains/" GUEST ".xml"));
    assert_true(file_appears(w->here, "jobs/" GUEST ".result"));
    assert_null(lv_job_stats(d, &job));
    assert_int_equal(job.type, LV_JOB_COMPLETED);
}

static void a_host_that_is_down_answers_nothing(void **state)
{
    struct world *w = *state;
    CLEANUP(lv_conn_freep) struct lv_conn *c = NULL;
    struct lv_conn *other = NULL;
    char *name = NULL;

    assert_null(lv_connect("qemu:///system", &c));
    lv_fake_write(w->here, "down", "");
    assert_false(lv_conn_is_alive(c));
    for (int i = 0; i < 2; i++) {
        CLEANUP(err_freep)
        struct err *e = i == 0 ? lv_hostname(c, &name) : lv_connect("qemu:///system", &other);

        assert_true(err_is(e, ERR_HYPERVISOR_UNAVAILABLE));
    }
}

/* One open connection to a domain that does not run. */
struct off {
    struct lv_conn *c;
    struct lv_domain *d;
};

#define NETWORK                                                                                    \
    "<interface type='ethernet'><mac address='fa:16:3e:00:00:0%d'/><target dev='tap%d'/>"          \
    "</interface>"

static void define(struct off *o)
{
    CLEANUP(freep) char *net = str_printf(NETWORK, 1, 1);
    CLEANUP(freep)
    char *xml = str_printf("<domain><name>x</name><uuid>" GUEST "</uuid><vcpu>2</vcpu>"
                           "<devices>%s</devices></domain>",
                           net);

    assert_null(lv_connect("qemu:///system", &o->c));
    assert_null(lv_domain_by_uuid(o->c, GUEST, &o->d));
    assert_null(lv_domain_destroy(o->d));
    assert_null(lv_domain_undefine(o->d));
    o->d = lv_domain_free(o->d);
    assert_null(lv_define(o->c, xml, &o->d));
}

static void off_fini(struct off *o)
{
    lv_domain_free(o->d);
    lv_conn_free(o->c);
}

static enum lv_state state_of(struct off *o, int *ret_reason)
{
    enum lv_state state;

    assert_null(lv_domain_state(o->d, &state, ret_reason));
    return state;
}

static bool xml_has(struct off *o, const char *text)
{
    CLEANUP(freep) char *xml = NULL;

    assert_null(lv_domain_xml(o->d, false, &xml));
    return strstr(xml, text) != NULL;
}

static void a_defined_domain_starts_and_shuts_down(void **state)
{
    struct world *w = *state;
    CLEANUP(off_fini) struct off o = {0};
    CLEANUP(freep) char *events = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    int reason;

    define(&o);
    assert_int_equal(state_of(&o, NULL), LV_SHUTOFF);
    assert_null(lv_domain_start(o.d, false));
    assert_int_equal(state_of(&o, NULL), LV_RUNNING);
    assert_true(xml_has(&o, "<alias name='net0'/>"));
    e = lv_domain_start(o.d, false);
    assert_string_equal(err_get(e, "name"), "VIR_ERR_OPERATION_INVALID");
    lv_fake_write(w->here, "guest", "shutdown_ignores 1\n");
    assert_null(lv_domain_shutdown(o.d));
    assert_int_equal(state_of(&o, NULL), LV_RUNNING);
    assert_null(lv_domain_shutdown(o.d));
    assert_int_equal(state_of(&o, &reason), LV_SHUTOFF);
    assert_int_equal(reason, 1);
    assert_false(xml_has(&o, "<alias"));
    events = lv_fake_read(w->here, "events");
    assert_non_null(strstr(events, "STARTED NONE " GUEST "\n"));
    assert_non_null(strstr(events, "STOPPED SHUTDOWN " GUEST "\n"));
}

static void a_saved_domain_goes_on_at_its_next_start(void **state)
{
    CLEANUP(off_fini) struct off o = {0};
    bool has_save;
    int reason;

    (void)state;
    define(&o);
    assert_null(lv_domain_start(o.d, true));
    assert_int_equal(state_of(&o, NULL), LV_PAUSED);
    assert_null(lv_domain_managed_save(o.d));
    assert_int_equal(state_of(&o, NULL), LV_SHUTOFF);
    assert_null(lv_domain_has_managed_save(o.d, &has_save));
    assert_true(has_save);
    assert_null(lv_domain_start(o.d, false));
    assert_int_equal(state_of(&o, &reason), LV_RUNNING);
    assert_int_equal(reason, 4);
    assert_null(lv_domain_has_managed_save(o.d, &has_save));
    assert_false(has_save);
}

static void a_device_comes_and_goes(void **state)
{
    struct world *w = *state;
    CLEANUP(off_fini) struct off o = {0};
    CLEANUP(freep) char *second = str_printf(NETWORK, 2, 2);
    CLEANUP(freep) char *events = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    define(&o);
    assert_null(lv_domain_start(o.d, false));
    assert_null(lv_domain_attach(o.d, second, true, true));
    assert_true(xml_has(&o, "fa:16:3e:00:00:02"));
    assert_true(xml_has(&o, "<alias name='net1'/>"));
    lv_fake_write(w->here, "guest", "detach_fails 1\n");
    assert_null(lv_domain_detach(o.d, second, true, true));
    assert_true(xml_has(&o, "fa:16:3e:00:00:02")); /* The guest did not let go. */
    assert_null(lv_domain_detach(o.d, second, true, false));
    assert_false(xml_has(&o, "fa:16:3e:00:00:02"));
    assert_true(xml_has(&o, "fa:16:3e:00:00:01"));
    e = lv_domain_detach(o.d, second, true, false);
    assert_string_equal(err_get(e, "name"), "VIR_ERR_DEVICE_MISSING");
    events = lv_fake_read(w->here, "events");
    assert_non_null(strstr(events, "REMOVAL_FAILED NONE " GUEST " alias=net1\n"));
    assert_non_null(strstr(events, "DEVICE_REMOVED NONE " GUEST " alias=net1\n"));
    assert_null(lv_domain_destroy(o.d));
    assert_false(xml_has(&o, "fa:16:3e:00:00:02")); /* Nor in the definition. */
}

static void a_block_copy_is_ready_when_it_has_been_asked_often_enough(void **state)
{
    struct world *w = *state;
    CLEANUP(off_fini) struct off o = {0};
    CLEANUP(freep) char *dest = str_printf("%s/delta", w->here);
    struct lv_block_job job;

    define(&o);
    assert_null(lv_domain_start(o.d, false));
    lv_fake_write(w->here, "delta", "");
    lv_fake_write(w->here, "guest." GUEST, "copy_polls 1\n");
    assert_null(lv_block_copy(o.d, "vda", dest, "qcow2", true));
    assert_null(lv_block_job(o.d, "vda", &job));
    assert_true(job.is_there && !job.is_ready);
    assert_null(lv_block_job(o.d, "vda", &job));
    assert_true(job.is_there && job.is_ready);
    assert_null(lv_block_job_abort(o.d, "vda"));
    assert_null(lv_block_job(o.d, "vda", &job));
    assert_false(job.is_there);
}

static void an_agent_answers_unless_there_is_none(void **state)
{
    struct world *w = *state;
    CLEANUP(off_fini) struct off o = {0};
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(freep) uint64_t *times = NULL;
    size_t n;

    define(&o);
    assert_null(lv_domain_start(o.d, false));
    assert_null(lv_domain_freeze(o.d));
    assert_null(lv_vcpu_times(o.d, &times, &n));
    assert_int_equal(n, 2);
    lv_fake_write(w->here, "guest", "no_agent 1\n");
    e = lv_domain_set_user_password(o.d, "root", "secret");
    assert_string_equal(err_get(e, "name"), "VIR_ERR_AGENT_UNRESPONSIVE");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_domain_is_what_its_files_say),
        TEST(a_host_has_capabilities_of_its_own_or_the_usual),
        TEST(lines_that_anybody_appends_are_events),
        TEST(a_move_outlives_the_process_that_began_it),
        TEST(a_host_that_is_down_answers_nothing),
        TEST(a_defined_domain_starts_and_shuts_down),
        TEST(a_saved_domain_goes_on_at_its_next_start),
        TEST(a_device_comes_and_goes),
        TEST(a_block_copy_is_ready_when_it_has_been_asked_often_enough),
        TEST(an_agent_answers_unless_there_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_domain_is_what_its_files_say),
        TEST(a_host_has_capabilities_of_its_own_or_the_usual),
        TEST(lines_that_anybody_appends_are_events),
        TEST(a_move_outlives_the_process_that_began_it),
        TEST(a_host_that_is_down_answers_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

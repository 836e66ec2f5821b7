/* link: base */
#include "base/fault.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int disarm(void **state)
{
    (void)state;
    assert_null(fault_init(NULL));
    return 0;
}

static bool fails(struct err *e)
{
    bool is_error = e != NULL;

    err_free(e);
    return is_error;
}

static void without_the_variable_nothing_happens(void **state)
{
    (void)state;
    assert_null(fault_init(NULL));
    for (int f = 0; f < FAULT_N; f++) {
        assert_null(fault_before((enum fault)f));
        assert_null(fault_after((enum fault)f));
    }
}

static void names_are_told_apart(void **state)
{
    (void)state;
    assert_string_equal(fault_name(FAULT_build_disks), "build.disks");
    for (int f = 0; f < FAULT_N; f++) {
        for (int g = 0; g < f; g++) {
            assert_string_not_equal(fault_name((enum fault)f), fault_name((enum fault)g));
        }
    }
}

static void a_point_fails_before_or_after_its_step(void **state)
{
    (void)state;
    assert_null(fault_init("build.disks=fail,terminate.ports.after=fail"));
    CLEANUP(err_freep) struct err *e = fault_before(FAULT_build_disks);

    assert_true(err_is(e, ERR_INTERNAL));
    assert_non_null(strstr(err_message(e), "build.disks"));
    assert_null(fault_after(FAULT_build_disks));
    assert_null(fault_before(FAULT_terminate_ports));
    CLEANUP(err_freep) struct err *after = fault_after(FAULT_terminate_ports);

    assert_non_null(strstr(err_message(after), "terminate.ports.after"));
    assert_null(fault_before(FAULT_build_guest));
}

static void a_point_fails_as_often_as_asked(void **state)
{
    (void)state;
    assert_null(fault_init("build.disks=fail:2"));
    assert_true(fails(fault_before(FAULT_build_disks)));
    assert_true(fails(fault_before(FAULT_build_disks)));
    assert_null(fault_before(FAULT_build_disks));
}

static void a_point_kills_the_process(void **state)
{
    int status;
    pid_t child;

    (void)state;
    assert_null(fault_init("build.claim.after=kill"));
    child = fork();
    if (child == 0) {
        err_free(fault_before(FAULT_build_claim));
        err_free(fault_after(FAULT_build_claim));
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void a_point_that_sleeps_goes_on(void **state)
{
    (void)state;
    assert_null(fault_init("build.claim=sleep:0"));
    assert_null(fault_before(FAULT_build_claim));
}

static void what_is_not_known_is_refused_by_name(void **state)
{
    static const struct {
        const char *spec, *named;
    } rows[] = {
        {"build.disk=kill", "'build.disk'"},
        {"build.note=fail,build.disks.before=kill", "'build.disks.before'"},
        {"build.disks=burn", "'burn'"},
        {"build.disks", "'build.disks'"},
        {"build.disks=kill:3", "'kill:3'"},
        {"build.disks=sleep", "'sleep'"},
        {"build.disks=fail:often", "'fail:often'"},
        {"build.disks=fail:-1", "'fail:-1'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(err_freep) struct err *e = fault_init(rows[i].spec);

        assert_true(err_is(e, ERR_CONFIG));
        assert_non_null(strstr(err_message(e), "NOVASHIM_FAULTS"));
        assert_non_null(strstr(err_message(e), rows[i].named));
        assert_null(fault_before(FAULT_build_note));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_the_variable_nothing_happens, disarm),
        cmocka_unit_test_teardown(names_are_told_apart, disarm),
        cmocka_unit_test_teardown(a_point_fails_before_or_after_its_step, disarm),
        cmocka_unit_test_teardown(a_point_fails_as_often_as_asked, disarm),
        cmocka_unit_test_teardown(a_point_kills_the_process, disarm),
        cmocka_unit_test_teardown(a_point_that_sleeps_goes_on, disarm),
        cmocka_unit_test_teardown(what_is_not_known_is_refused_by_name, disarm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

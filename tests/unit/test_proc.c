/* link: base */
#include "base/clock.h"
#include "base/proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <string.h>

static struct err *shell(const char *script, int64_t timeout_ms, char **ret_out)
{
    const char *argv[] = {"sh", "-c", script, NULL};

    return proc_run(argv, timeout_ms, ret_out);
}

static void assert_fails(const char *script, enum err_kind kind, const char *text)
{
    CLEANUP(freep) char *out = NULL;
    CLEANUP(err_freep) struct err *e = shell(script, 10000, &out);

    if (!err_is(e, kind) || !strstr(err_message(e), text)) {
        fail_msg("%s", e ? err_message(e) : "no error");
    }
    assert_null(out);
}

static int n_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static void what_it_prints_is_returned(void **state)
{
    CLEANUP(freep) char *out = NULL;
    CLEANUP(freep) char *nothing = NULL;

    (void)state;
    assert_null(shell("echo hello; echo more >&2; echo world", 10000, &out));
    assert_string_equal(out, "hello\nworld\n");
    assert_null(shell("true", 10000, &nothing));
    assert_string_equal(nothing, "");
    assert_null(shell("echo unwanted", 10000, NULL));
}

static void arguments_are_passed_as_they_are(void **state)
{
    const char *argv[] = {"printf", "%s|", "a b", "$HOME", "", "'\"\\;", NULL};
    CLEANUP(freep) char *out = NULL;

    (void)state;
    assert_null(proc_run(argv, 10000, &out));
    assert_string_equal(out, "a b|$HOME||'\"\\;|");
}

static void a_failure_says_status_and_words(void **state)
{
    (void)state;
    assert_fails("echo because >&2; exit 3", ERR_INTERNAL, "sh failed with status 3: because");
    assert_fails("kill -9 $$", ERR_INTERNAL, "killed by signal 9");
    assert_fails("for i in $(seq 1000); do echo line $i >&2; done; exit 1", ERR_INTERNAL,
                 "line 1000");
    assert_fails("echo 'write error: No space left on device' >&2; exit 1", ERR_NO_SPACE, "space");
}

static void a_program_that_is_not_there_is_an_error(void **state)
{
    const char *argv[] = {"/nowhere/at-all", NULL};
    CLEANUP(err_freep) struct err *e = proc_run(argv, 10000, NULL);

    (void)state;
    assert_true(err_is(e, ERR_NOT_FOUND));
}

static void a_program_that_takes_too_long_is_killed(void **state)
{
    int64_t start_ms = clock_ms();
    CLEANUP(err_freep) struct err *e = shell("exec sleep 60", 100, NULL);

    (void)state;
    assert_true(err_is(e, ERR_TIMEOUT));
    assert_true(clock_ms() - start_ms < 5000);
}

static void one_that_has_closed_its_output_is_still_waited_for(void **state)
{
    int64_t start_ms = clock_ms();
    CLEANUP(err_freep) struct err *e = shell("exec >&- 2>&-; exec sleep 60", 100, NULL);

    (void)state;
    assert_true(err_is(e, ERR_TIMEOUT));
    assert_true(clock_ms() - start_ms < 5000);
}

static void much_output_is_cut_and_does_not_block(void **state)
{
    CLEANUP(freep) char *out = NULL;

    (void)state;
    assert_null(shell("head -c 5000000 /dev/zero | tr '\\0' x", 10000, &out));
    assert_true(strlen(out) >= 1 << 20);
    assert_true(strlen(out) < (1 << 20) + 4096);
}

static void it_has_no_input_and_the_usual_signals(void **state)
{
    CLEANUP(freep) char *out = NULL;
    sigset_t all, old;

    (void)state;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    signal(SIGPIPE, SIG_IGN);
    struct err *e = shell("cat; grep SigBlk /proc/self/status", 10000, &out);

    assert_fails("kill -PIPE $$", ERR_INTERNAL, "killed by signal 13");
    signal(SIGPIPE, SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    assert_null(e);
    assert_string_equal(out, "SigBlk:\t0000000000000000\n");
}

static void *set_soon(void *arg)
{
    cancel_sleep(NULL, 50);
    cancel_set(arg);
    return NULL;
}

static void a_program_is_killed_when_it_is_stopped(void **state)
{
    static const char *const programs[] = {"sleep 30", "exec >&- 2>&-; sleep 30"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        const char *argv[] = {"sh", "-c", programs[i], NULL};
        CLEANUP(cancel_freep) struct cancel *stop = cancel_new();
        int64_t start_ms = clock_ms();
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, set_soon, stop), 0);
        CLEANUP(err_freep) struct err *e = proc_run_until(argv, 30000, stop, NULL);

        pthread_join(thread, NULL);
        assert_true(err_is(e, ERR_CANCELLED));
        assert_true(clock_ms() - start_ms < 5000);
    }
}

static void a_program_that_is_not_stopped_ends_as_usual(void **state)
{
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new();
    CLEANUP(freep) char *out = NULL;

    (void)state;
    assert_null(proc_run_until((const char *[]){"echo", "x", NULL}, 10000, stop, &out));
    assert_string_equal(out, "x\n");
    cancel_set(stop);
    CLEANUP(err_freep)
    struct err *e = proc_run_until((const char *[]){"sleep", "30", NULL}, 10000, stop, NULL);

    assert_true(err_is(e, ERR_CANCELLED));
}

static void descriptors_do_not_leak(void **state)
{
    int before = n_fds();

    (void)state;
    what_it_prints_is_returned(NULL);
    a_failure_says_status_and_words(NULL);
    a_program_that_is_not_there_is_an_error(NULL);
    a_program_that_takes_too_long_is_killed(NULL);
    a_program_that_is_not_stopped_ends_as_usual(NULL);
    assert_int_equal(n_fds(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_prints_is_returned),
        cmocka_unit_test(arguments_are_passed_as_they_are),
        cmocka_unit_test(a_failure_says_status_and_words),
        cmocka_unit_test(a_program_that_is_not_there_is_an_error),
        cmocka_unit_test(a_program_that_takes_too_long_is_killed),
        cmocka_unit_test(one_that_has_closed_its_output_is_still_waited_for),
        cmocka_unit_test(much_output_is_cut_and_does_not_block),
        cmocka_unit_test(it_has_no_input_and_the_usual_signals),
        cmocka_unit_test(a_program_is_killed_when_it_is_stopped),
        cmocka_unit_test(a_program_that_is_not_stopped_ends_as_usual),
        cmocka_unit_test(descriptors_do_not_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

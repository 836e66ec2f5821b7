/* link: base */
#include "base/loop.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct fixture {
    struct loop *loop;
    struct loop_source *source, *other;
    int fds[2];
    unsigned n_calls;
    int64_t at_ms;
    pthread_t thread;
};

static void must(struct err *e)
{
    if (e) {
        fail_msg("%s", err_message(e));
    }
}

static int set_up(void **state)
{
    struct fixture *f = NEW(struct fixture);

    must(loop_new(&f->loop));
    *state = f;
    return pipe(f->fds);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_free(f->loop);
    closep(&f->fds[0]);
    closep(&f->fds[1]);
    free(f);
    return 0;
}

static void quit(void *arg)
{
    struct fixture *f = arg;

    f->n_calls++;
    loop_quit(f->loop);
}

static void a_timer_fires_once_and_not_too_early(void **state)
{
    struct fixture *f = *state;
    int64_t at = clock_ms() + 10;

    must(loop_add_timer(f->loop, at, quit, f, &f->source));
    must(loop_run(f->loop));
    assert_int_equal(f->n_calls, 1);
    assert_true(clock_ms() >= at);
}

static void tick(void *arg)
{
    struct fixture *f = arg;

    if (++f->n_calls == 5) {
        loop_quit(f->loop);
        return;
    }
    loop_timer_set(f->source, clock_ms());
}

static void a_timer_is_armed_again_from_its_callback(void **state)
{
    struct fixture *f = *state;

    must(loop_add_timer(f->loop, -1, tick, f, &f->source));
    must(loop_run(f->loop));
    assert_int_equal(f->n_calls, 5);
}

static void fail_test(void *arg)
{
    (void)arg;
    fail();
}

static void a_timer_that_is_off_or_never_does_not_fire(void **state)
{
    struct fixture *f = *state;
    struct loop_source *quitter;

    must(loop_add_timer(f->loop, 0, fail_test, f, &f->source));
    loop_timer_off(f->source);
    must(loop_add_timer(f->loop, INT64_MAX, fail_test, f, &f->other));
    must(loop_add_timer(f->loop, clock_ms() + 5, quit, f, &quitter));
    must(loop_run(f->loop));
}

static void free_both(void *arg)
{
    struct fixture *f = arg;

    f->source = loop_source_free(f->source);
    f->other = loop_source_free(f->other);
    quit(f);
}

static void a_callback_may_free_its_own_and_other_sources(void **state)
{
    struct fixture *f = *state;

    must(loop_add_timer(f->loop, 0, free_both, f, &f->source));
    must(loop_add_timer(f->loop, 1, fail_test, f, &f->other));
    must(loop_run(f->loop));
    assert_null(f->source);
}

static void read_byte(int fd, uint32_t events, void *arg)
{
    struct fixture *f = arg;
    char c;

    assert_int_equal(fd, f->fds[0]);
    f->n_calls++;
    if (!(events & EPOLLIN)) {
        assert_true(events & EPOLLHUP);
        loop_quit(f->loop);
        return;
    }
    assert_int_equal(read(fd, &c, 1), 1);
    close(f->fds[1]);
    f->fds[1] = -1;
}

static void a_descriptor_tells_data_and_hangup(void **state)
{
    struct fixture *f = *state;

    must(loop_add_io(f->loop, f->fds[0], EPOLLIN, read_byte, f, &f->source));
    assert_int_equal(write(f->fds[1], "x", 1), 1);
    must(loop_run(f->loop));
    assert_true(f->n_calls >= 2);
}

static void became_writable(int fd, uint32_t events, void *arg)
{
    (void)fd;
    assert_true(events & EPOLLOUT);
    quit(arg);
}

static void what_is_watched_can_change(void **state)
{
    struct fixture *f = *state;

    must(loop_add_io(f->loop, f->fds[1], 0, became_writable, f, &f->source));
    loop_io_set(f->source, EPOLLOUT);
    must(loop_run(f->loop));
    assert_true(f->n_calls > 0);
}

static void a_bad_descriptor_is_an_error(void **state)
{
    struct fixture *f = *state;
    CLEANUP(err_freep)
    struct err *e = loop_add_io(f->loop, 987654, EPOLLIN, read_byte, f, &f->source);

    assert_true(err_is(e, ERR_INTERNAL));
    assert_null(f->source);
}

static void got_signal(int signo, void *arg)
{
    assert_int_equal(signo, SIGUSR1);
    quit(arg);
}

static void a_signal_arrives_in_the_loop(void **state)
{
    struct fixture *f = *state;

    must(loop_add_signal(f->loop, SIGUSR1, got_signal, f));
    kill(getpid(), SIGUSR1);
    must(loop_run(f->loop));
    assert_int_equal(f->n_calls, 1);
}

static void count_on_thread(void *arg)
{
    struct fixture *f = arg;

    assert_true(pthread_equal(pthread_self(), f->thread));
    f->n_calls++;
}

static void *post_many(void *arg)
{
    struct fixture *f = arg;

    for (unsigned i = 0; i < 1000; i++) {
        loop_post(f->loop, count_on_thread, f);
    }
    return NULL;
}

static void posts_of_many_threads_run_on_the_loops_thread(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];

    f->thread = pthread_self();
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, f), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    loop_quit(f->loop);
    must(loop_run(f->loop));
    assert_int_equal(f->n_calls, 4000);
}

static void *quit_from_afar(void *arg)
{
    quit(arg);
    return NULL;
}

static void another_thread_can_quit(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(pthread_create(&f->thread, NULL, quit_from_afar, f), 0);
    must(loop_run(f->loop));
    pthread_join(f->thread, NULL);
}

static void posts_that_never_ran_are_forgotten(void **state)
{
    struct fixture *f = *state;

    loop_post(f->loop, fail_test, f);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(a_timer_fires_once_and_not_too_early),
        LOOP_TEST(a_timer_is_armed_again_from_its_callback),
        LOOP_TEST(a_timer_that_is_off_or_never_does_not_fire),
        LOOP_TEST(a_callback_may_free_its_own_and_other_sources),
        LOOP_TEST(a_descriptor_tells_data_and_hangup),
        LOOP_TEST(what_is_watched_can_change),
        LOOP_TEST(a_bad_descriptor_is_an_error),
        LOOP_TEST(a_signal_arrives_in_the_loop),
        LOOP_TEST(posts_of_many_threads_run_on_the_loops_thread),
        LOOP_TEST(another_thread_can_quit),
        LOOP_TEST(posts_that_never_ran_are_forgotten),
    };

    loop_block_signals();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

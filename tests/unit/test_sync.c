/* link: base */
#include "base/sync.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_passed_deadline_does_not_wait(void **state)
{
    struct mutex m = MUTEX_INIT;
    struct cond c;

    (void)state;
    cond_init(&c);
    mutex_lock(&m);
    assert_false(cond_wait_until(&c, &m, 0));
    assert_false(cond_wait_until(&c, &m, -1));
    assert_false(cond_wait_until(&c, &m, clock_ms() - 1));
    mutex_unlock(&m);
    cond_fini(&c);
    mutex_fini(&m);
}

static void a_wait_ends_at_its_deadline(void **state)
{
    struct mutex m;
    struct cond c;
    int64_t deadline = clock_ms() + 20;

    (void)state;
    mutex_init(&m);
    cond_init(&c);
    mutex_lock(&m);
    while (cond_wait_until(&c, &m, deadline)) {
    }
    mutex_unlock(&m);
    assert_true(clock_ms() >= deadline);
    cond_fini(&c);
    mutex_fini(&m);
}

static void null_is_never_cancelled(void **state)
{
    (void)state;
    assert_false(cancel_is_set(NULL));
    assert_false(cancel_sleep(NULL, 1));
    assert_null(cancel_free(NULL));
}

static void a_token_stays_set(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new();
    CLEANUP(cancel_freep) struct cancel *other = cancel_ref(c);

    (void)state;
    assert_false(cancel_is_set(c));
    assert_false(cancel_sleep(c, 1));
    cancel_set(other);
    cancel_set(other);
    assert_true(cancel_is_set(c));
    assert_true(cancel_sleep(c, INT64_MAX));
}

static void a_reference_outlives_the_first_owner(void **state)
{
    struct cancel *c = cancel_new();
    CLEANUP(cancel_freep) struct cancel *other = cancel_ref(c);

    (void)state;
    cancel_free(c);
    cancel_set(other);
    assert_true(cancel_is_set(other));
}

static void *sleep_long(void *arg)
{
    CLEANUP(cancel_freep) struct cancel *c = arg;

    return cancel_sleep(c, INT64_MAX) ? arg : NULL;
}

static void setting_wakes_all_sleepers(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new();
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_long, cancel_ref(c)), 0);
    }
    cancel_set(c);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *was_cancelled;

        pthread_join(threads[i], &was_cancelled);
        assert_non_null(was_cancelled);
    }
}

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void a_hook_runs_when_the_token_is_set_or_was(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new();
    unsigned n_early = 0, n_removed = 0, n_late = 0;
    struct cancel_hook early = {.fn = count, .arg = &n_early};
    struct cancel_hook removed = {.fn = count, .arg = &n_removed};
    struct cancel_hook late = {.fn = count, .arg = &n_late};

    (void)state;
    cancel_hook_add(c, &early);
    cancel_hook_add(c, &removed);
    cancel_hook_del(c, &removed);
    assert_int_equal(n_early, 0);
    cancel_set(c);
    cancel_hook_add(c, &late);
    assert_int_equal(n_early, 1);
    assert_int_equal(n_removed, 0);
    assert_int_equal(n_late, 1);
    cancel_hook_del(c, &early);
    cancel_hook_del(c, &late);
    cancel_hook_add(NULL, &late);
    cancel_hook_del(NULL, &late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_passed_deadline_does_not_wait),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
        cmocka_unit_test(null_is_never_cancelled),
        cmocka_unit_test(a_token_stays_set),
        cmocka_unit_test(a_reference_outlives_the_first_owner),
        cmocka_unit_test(setting_wakes_all_sleepers),
        cmocka_unit_test(a_hook_runs_when_the_token_is_set_or_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

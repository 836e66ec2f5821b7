/* link: base */
#include "base/keylock.h"
#include "base/sync.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct keylock *lock;
static atomic_int n_inside, n_overlaps;

static void *work(void *arg)
{
    for (int i = 0; i < 500; i++) {
        keylock_take(lock, arg);
        if (atomic_fetch_add(&n_inside, 1) != 0) {
            atomic_fetch_add(&n_overlaps, 1);
        }
        atomic_fetch_sub(&n_inside, 1);
        keylock_give(lock, arg);
    }
    return NULL;
}

static void one_at_a_time_holds_a_name(void **state)
{
    pthread_t threads[4];
    char key[] = "server";

    (void)state;
    lock = keylock_new();
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, key), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(n_overlaps, 0);
    assert_null(keylock_free(lock));
}

static void names_do_not_hinder_each_other(void **state)
{
    struct keylock *l = keylock_new();

    (void)state;
    keylock_take(l, "a");
    keylock_take(l, "b");
    keylock_give(l, "a");
    keylock_take(l, "a");
    keylock_give(l, "b");
    keylock_give(l, "a");
    assert_null(keylock_free(l));
    assert_null(keylock_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time_holds_a_name),
        cmocka_unit_test(names_do_not_hinder_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

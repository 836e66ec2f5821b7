/* link: driver_compute */
#include "base/clock.h"
#include "driver/compute/chore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#define UUID  "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define OTHER "1c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

static struct cancel *gate; /* Chores wait for it. */
static atomic_uint n_first, n_second;

static int set_up(void **state)
{
    struct node *node = NEW(struct node);

    node->tasks = task_pool_new();
    node->chores = chores_new();
    gate = cancel_new();
    n_first = 0;
    n_second = 0;
    *state = node;
    return 0;
}

/* Lets the chores go and waits for them. */
static void finish(struct node *node)
{
    cancel_set(gate);
    node->tasks = task_pool_free(node->tasks);
}

static int tear_down(void **state)
{
    struct node *node = *state;

    finish(node);
    chores_free(node->chores);
    gate = cancel_free(gate);
    free(node);
    return 0;
}

static struct err *first(struct node *node, const struct rctx *ctx, const char *uuid)
{
    assert_non_null(node);
    assert_true(rctx_is_admin(ctx));
    assert_true(uuid_is_valid(uuid));
    cancel_sleep(gate, 60000);
    n_first++;
    return NULL;
}

static struct err *second(struct node *node, const struct rctx *ctx, const char *uuid)
{
    (void)node;
    (void)ctx;
    (void)uuid;
    cancel_sleep(gate, 60000);
    n_second++;
    return err_msg(ERR_INTERNAL, "told in the log");
}

static void the_same_is_not_begun_while_it_runs(void **state)
{
    struct node *node = *state;

    chore_submit(node, "first", UUID, first);
    chore_submit(node, "first", UUID, first);
    chore_submit(node, "second", UUID, second);
    chore_submit(node, "first", OTHER, first);
    chore_submit(node, "second", UUID, second);
    finish(node);
    assert_int_equal(n_first, 2);
    assert_int_equal(n_second, 1);
}

static void what_has_ended_may_be_begun_again(void **state)
{
    struct node *node = *state;

    for (unsigned i = 1; i <= 2; i++) {
        chore_submit(node, "second", UUID, second);
        finish(node);
        assert_int_equal(n_second, i);
        node->tasks = task_pool_new();
    }
}

static void names_that_are_no_servers_are_left_out(void **state)
{
    struct node *node = *state;

    chore_submit(node, "first", "../etc", first);
    chore_submit(node, "first", NULL, first);
    finish(node);
    assert_int_equal(n_first, 0);
}

static void numbers_are_remembered_by_name(void **state)
{
    struct node *node = *state;

    assert_int_equal(chore_recall(node->chores, "a"), 0);
    chore_remember(node->chores, "a", 1);
    chore_remember(node->chores, "b", 2);
    chore_remember(node->chores, "a", 3);
    assert_int_equal(chore_recall(node->chores, "a"), 3);
    assert_int_equal(chore_recall(node->chores, "b"), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_same_is_not_begun_while_it_runs),
        TEST(what_has_ended_may_be_begun_again),
        TEST(names_that_are_no_servers_are_left_out),
        TEST(numbers_are_remembered_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

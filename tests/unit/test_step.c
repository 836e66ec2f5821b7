/* link: base */
#include "base/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct run {
    char trace[128];
    char fails_at;
    const char *last_hook;
    struct cancel *cancel;
    char cancels_at;
};

static struct err *act(struct run *r, char c)
{
    r->trace[strlen(r->trace)] = c;
    if (r->cancels_at == c) {
        cancel_set(r->cancel);
    }
    return r->fails_at == c ? err_msg(ERR_INTERNAL, "planted") : NULL;
}

#define STEP(c, undone)                                                                            \
    static struct err *do_##c(void *r)                                                             \
    {                                                                                              \
        return act(r, #c[0]);                                                                      \
    }                                                                                              \
    static void undo_##c(void *r)                                                                  \
    {                                                                                              \
        strcat(((struct run *)r)->trace, undone);                                                  \
    }
STEP(a, "A")
STEP(b, "B")
STEP(c, "C")

static const struct step steps[] = {{FAULT_build_note, do_a, undo_a},
                                    {FAULT_build_claim, do_b, NULL},
                                    {FAULT_build_disks, do_c, undo_c}};

static struct err *note(const char *name, void *arg)
{
    ((struct run *)arg)->last_hook = name ? name : "end";
    return NULL;
}

static void all_steps_run_in_order(void **state)
{
    struct run r = {0};
    struct step_hooks hooks = {.on_step = note};

    (void)state;
    assert_null(step_run(steps, 3, &hooks, &r));
    assert_string_equal(r.trace, "abc");
    assert_string_equal(r.last_hook, "end");
    (void)undo_b;
}

static void a_failed_step_is_undone_with_those_before_it(void **state)
{
    struct run r = {.fails_at = 'c'};
    CLEANUP(err_freep) struct err *e = step_run(steps, 3, NULL, &r);

    (void)state;
    assert_true(err_is(e, ERR_INTERNAL));
    CLEANUP(freep) char *text = err_text(e);

    assert_non_null(strstr(text, "build.disks"));
    assert_string_equal(r.trace, "abcCA");
}

static void what_was_not_begun_is_not_undone(void **state)
{
    struct run r = {.fails_at = 'a'};
    CLEANUP(err_freep) struct err *e = step_run(steps, 3, NULL, &r);

    (void)state;
    assert_non_null(e);
    assert_string_equal(r.trace, "aA");
}

static void a_fault_can_be_planted_before_and_after_each_step(void **state)
{
    static const struct {
        const char *plan, *trace;
    } rows[] = {
        {"build.note=fail", ""},     {"build.note.after=fail", "aA"},
        {"build.claim=fail", "aA"},  {"build.claim.after=fail", "abA"},
        {"build.disks=fail", "abA"}, {"build.disks.after=fail", "abcCA"},
        {"build.group=fail", "abc"}, /* No step of these. */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct run r = {0};

        assert_null(fault_init(rows[i].plan));
        CLEANUP(err_freep) struct err *e = step_run(steps, 3, NULL, &r);

        assert_string_equal(r.trace, rows[i].trace);
        assert_int_equal(e == NULL, i == ARRAY_SIZE(rows) - 1);
    }
    assert_null(fault_init(NULL));
}

static void a_cancelled_run_stops_between_two_steps(void **state)
{
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new();
    struct run r = {.cancels_at = 'b', .cancel = cancel};
    struct step_hooks hooks = {.cancel = cancel};
    CLEANUP(err_freep) struct err *e = step_run(steps, 3, &hooks, &r);

    (void)state;
    assert_true(err_is(e, ERR_CANCELLED));
    assert_string_equal(r.trace, "abA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_steps_run_in_order),
        cmocka_unit_test(a_failed_step_is_undone_with_those_before_it),
        cmocka_unit_test(what_was_not_begun_is_not_undone),
        cmocka_unit_test(a_fault_can_be_planted_before_and_after_each_step),
        cmocka_unit_test(a_cancelled_run_stops_between_two_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: base driver_libvirt */
#include "driver/libvirt/migwatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)

static const struct lv_job busy = {.type = LV_JOB_UNBOUNDED, .memory_remaining = 1 << 20};

static struct migwatch_conf nova_defaults(void)
{
    return (struct migwatch_conf){.downtime_ms = 500,
                                  .downtime_steps = 10,
                                  .downtime_delay_s = 75,
                                  .completion_timeout_s = 800,
                                  .data_bytes = 4 * GIB};
}

/* As migrate.c does it: until nothing is due; the last action that was no downtime. */
static enum migwatch_action settle(struct migwatch *w, int64_t now_ms)
{
    enum migwatch_action action, last = MIGWATCH_NONE;

    while ((action = migwatch_step(w, &busy, now_ms)) != MIGWATCH_NONE) {
        last = action == MIGWATCH_DOWNTIME ? last : action;
    }
    return last;
}

static void downtime_climbs_from_a_tenth_to_the_limit(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.completion_timeout_s = 0;
    migwatch_init(&w, &conf, 1000);
    assert_int_equal(w.downtime_ms, 50);
    for (unsigned step = 1; step <= 10; step++) {
        int64_t due_ms = 1000 + INT64_C(300000) * step;

        assert_int_equal(migwatch_step(&w, &busy, due_ms), MIGWATCH_NONE);
        assert_int_equal(migwatch_step(&w, &busy, due_ms + 1), MIGWATCH_DOWNTIME);
        assert_int_equal(w.downtime_ms, 50 + 45 * step);
        assert_int_equal(migwatch_step(&w, &busy, due_ms + 1), MIGWATCH_NONE);
    }
    assert_int_equal(migwatch_step(&w, &busy, INT64_MAX / 2), MIGWATCH_NONE);
}

static void a_late_sample_climbs_several_steps_at_once(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.completion_timeout_s = 0;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(migwatch_step(&w, &busy, 900001), MIGWATCH_DOWNTIME);
    assert_int_equal(w.downtime_ms, 50 + 45 * 3);
    assert_int_equal(migwatch_step(&w, &busy, 900001), MIGWATCH_NONE);
}

static void times_scale_with_fractions_of_a_gib(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.data_bytes = 2 * GIB + GIB / 2; /* int(75 * 2.5) = 187 s, int(801 * 2.5) = 2002 s */
    conf.completion_timeout_s = 801;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(migwatch_step(&w, &busy, 187000), MIGWATCH_NONE);
    assert_int_equal(migwatch_step(&w, &busy, 187001), MIGWATCH_DOWNTIME);
    assert_int_equal(settle(&w, 2002000), MIGWATCH_NONE);
    assert_int_equal(settle(&w, 2002001), MIGWATCH_ABORT);
}

static void an_uneven_ladder_rounds_down_like_nova(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;
    static const unsigned expected[] = {33, 55, 77, 100}; /* 100 ms in 3 steps */

    (void)state;
    conf.downtime_ms = 100;
    conf.downtime_steps = 3;
    conf.completion_timeout_s = 0;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(w.downtime_ms, expected[0]);
    for (unsigned step = 1; step <= 3; step++) {
        assert_int_equal(migwatch_step(&w, &busy, INT64_C(300000) * step + 1), MIGWATCH_DOWNTIME);
        assert_int_equal(w.downtime_ms, expected[step]);
    }
}

static void timeout_is_acted_on_once(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(settle(&w, 3200000), MIGWATCH_NONE);
    assert_int_equal(settle(&w, 3200001), MIGWATCH_ABORT);
    assert_int_equal(settle(&w, 9000000), MIGWATCH_NONE);
}

static void timeout_pauses_or_switches_when_it_may_force(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.timeout_forces_completion = true;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(settle(&w, 3200001), MIGWATCH_PAUSE);
    conf.may_postcopy = true;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(settle(&w, 3200001), MIGWATCH_POSTCOPY);
}

static void no_timeout_means_never(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.completion_timeout_s = 0;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(settle(&w, INT64_MAX / 2), MIGWATCH_NONE);
}

static void nothing_happens_unless_the_job_runs(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    migwatch_init(&w, &conf, 0);
    for (int type = LV_JOB_NONE; type <= LV_JOB_CANCELLED; type++) {
        struct lv_job job = {.type = (enum lv_job_type)type};

        if (job.type != LV_JOB_UNBOUNDED) {
            assert_int_equal(migwatch_step(&w, &job, 9000000), MIGWATCH_NONE);
        }
    }
    assert_int_equal(settle(&w, 9000000), MIGWATCH_ABORT);
}

static void post_copy_is_left_alone(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    conf.may_postcopy = true;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(migwatch_force(&w), MIGWATCH_POSTCOPY);
    w.is_postcopy = true;
    assert_int_equal(migwatch_force(&w), MIGWATCH_NONE);
    assert_int_equal(settle(&w, 9000000), MIGWATCH_NONE);
}

static void forcing_pauses_where_post_copy_is_not_permitted(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    migwatch_init(&w, &conf, 0);
    assert_int_equal(migwatch_force(&w), MIGWATCH_PAUSE);
}

static void a_clock_before_the_start_counts_as_the_start(void **state)
{
    struct migwatch_conf conf = nova_defaults();
    struct migwatch w;

    (void)state;
    migwatch_init(&w, &conf, 5000);
    assert_int_equal(settle(&w, 4000), MIGWATCH_NONE);
    assert_int_equal(w.downtime_ms, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(downtime_climbs_from_a_tenth_to_the_limit),
        cmocka_unit_test(a_late_sample_climbs_several_steps_at_once),
        cmocka_unit_test(times_scale_with_fractions_of_a_gib),
        cmocka_unit_test(an_uneven_ladder_rounds_down_like_nova),
        cmocka_unit_test(timeout_is_acted_on_once),
        cmocka_unit_test(timeout_pauses_or_switches_when_it_may_force),
        cmocka_unit_test(no_timeout_means_never),
        cmocka_unit_test(nothing_happens_unless_the_job_runs),
        cmocka_unit_test(post_copy_is_left_alone),
        cmocka_unit_test(forcing_pauses_where_post_copy_is_not_permitted),
        cmocka_unit_test(a_clock_before_the_start_counts_as_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

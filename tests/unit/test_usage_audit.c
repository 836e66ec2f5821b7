/* link: driver_compute */
#include "base/clock.h"
#include "driver/compute/notify.h"
#include "driver/compute/usage_audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct conf conf;
    bool is_done; /* By the task log. */
    char begin[32], end[32];
    unsigned n_begun, n_told, n_ended;
} world;

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
}

struct err *task_log_get(struct conductor *c, const struct rctx *ctx, const char *name,
                         const char *begin, const char *end, const char *host,
                         struct task_log **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(name, "instance_usage_audit");
    assert_string_equal(host, "here");
    strncpy(world.begin, begin, sizeof(world.begin) - 1);
    strncpy(world.end, end, sizeof(world.end) - 1);
    *ret = world.is_done ? task_log_new() : NULL;
    return NULL;
}

struct err *instance_list_active_between(struct conductor *c, const struct rctx *ctx,
                                         const char *begin, const char *end, const char *host,
                                         const char *const *attrs, struct instance_list **ret)
{
    int64_t begin_s = 0, end_s = 0;

    (void)c;
    (void)ctx;
    (void)attrs;
    assert_string_equal(host, "here");
    assert_true(clock_iso_parse(begin, &begin_s) && clock_iso_parse(end, &end_s));
    assert_int_equal(end_s - begin_s, 3600);
    *ret = instance_list_new();
    instance_list_add(*ret, instance_new());
    instance_list_add(*ret, instance_new());
    return NULL;
}

struct err *task_log_begin(struct conductor *c, const struct rctx *ctx, struct task_log *task)
{
    (void)c;
    (void)ctx;
    assert_int_equal(task_log_task_items(task), 2);
    assert_int_equal(world.n_told, 0);
    world.n_begun++;
    return NULL;
}

struct err *task_log_end(struct conductor *c, const struct rctx *ctx, struct task_log *task)
{
    (void)c;
    (void)ctx;
    assert_int_equal(task_log_errors(task), 0);
    assert_true(str_starts(task_log_message(task),
                           "Instance usage audit ran for host here, 2 instances in "));
    world.n_ended++;
    return NULL;
}

void notify_usage(struct node *node, const struct rctx *ctx, struct instance *inst, int64_t begin_s,
                  int64_t end_s)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_int_equal(end_s - begin_s, 3600);
    world.n_told++;
}

/* Values of Nova's last_completed_audit_period. */
static void periods_are_those_of_nova(void **state)
{
    static const struct {
        const char *period, *now, *begin, *end;
    } rows[] = {
        {"hour", "2026-01-31T12:34:56Z", "2026-01-31T11:00:00Z", "2026-01-31T12:00:00Z"},
        {"hour", "2026-01-31T12:00:00Z", "2026-01-31T10:00:00Z", "2026-01-31T11:00:00Z"},
        {"hour@10", "2026-01-01T00:10:00Z", "2025-12-31T22:10:00Z", "2025-12-31T23:10:00Z"},
        {"day", "2026-03-01T00:00:01Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
        {"day@18", "2026-03-01T17:00:01Z", "2026-02-27T18:00:00Z", "2026-02-28T18:00:00Z"},
        {"month", "2026-01-31T12:34:56Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"},
        {"month@5", "2026-01-05T00:00:00Z", "2025-11-05T00:00:00Z", "2025-12-05T00:00:00Z"},
        {"month@5", "2026-01-05T00:00:01Z", "2025-12-05T00:00:00Z", "2026-01-05T00:00:00Z"},
        {"year", "2026-01-31T12:34:56Z", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"},
        {"year@3", "2026-03-01T00:00:01Z", "2025-03-01T00:00:00Z", "2026-03-01T00:00:00Z"},
        {"year@3", "2026-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "2025-03-01T00:00:00Z"},
        /* Not Nova's: it has no such day, and fails. */
        {"month@31", "2026-03-01T00:00:01Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int64_t now_s = 0, begin_s = 0, end_s = 0;

        assert_true(clock_iso_parse(rows[i].now, &now_s));
        assert_null(usage_audit_period(rows[i].period, now_s, &begin_s, &end_s));
        CLEANUP(freep) char *begin = clock_iso_of(begin_s);
        CLEANUP(freep) char *end = clock_iso_of(end_s);

        assert_string_equal(begin, rows[i].begin);
        assert_string_equal(end, rows[i].end);
    }
}

static void what_is_no_period_is_refused(void **state)
{
    static const char *const strange[] = {"",        "week",  "hour@60", "day@24", "month@32",
                                          "year@13", "hour@", "hours",   "day@-1"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(strange); i++) {
        int64_t begin_s, end_s;
        CLEANUP(err_freep)
        struct err *e = usage_audit_period(strange[i], 1769860805, &begin_s, &end_s);

        assert_true(err_is(e, ERR_CONFIG));
    }
}

static void every_server_of_the_period_is_told_of_once(void **state)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    struct node node = {.host = "here"};
    char period[] = "hour";

    (void)state;
    memset(&world, 0, sizeof(world));
    world.conf.dflt.instance_usage_audit_period = period;
    assert_null(usage_audit(&node, ctx));
    assert_int_equal(strlen(world.begin), strlen("2026-01-31T00:00:00.000000"));
    assert_true(str_ends(world.end, ":00:00.000000"));
    assert_int_equal(world.n_begun, 1);
    assert_int_equal(world.n_told, 2);
    assert_int_equal(world.n_ended, 1);
    world.is_done = true;
    assert_null(usage_audit(&node, ctx));
    assert_int_equal(world.n_told, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(periods_are_those_of_nova),
        cmocka_unit_test(what_is_no_period_is_refused),
        cmocka_unit_test(every_server_of_the_period_is_told_of_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: rpc_amqp rpc_objects base */

#include "rpc/amqp/failover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LASTING 6000

struct fixture {
    struct mq_options options;
    struct failover failover;
};

static void start(struct fixture *f, const char *url, unsigned seed)
{
    mq_options_init(&f->options);
    assert_null(mq_options_set_url(&f->options, url));
    failover_init(&f->failover, &f->options, seed);
}

static void stop(struct fixture *f)
{
    failover_fini(&f->failover);
    mq_options_fini(&f->options);
}

static int64_t next_at(const struct fixture *f)
{
    int64_t at;

    failover_host(&f->failover, &at);
    return at;
}

static const char *next_host(const struct fixture *f)
{
    int64_t at;

    return failover_host(&f->failover, &at)->host;
}

static void a_lone_broker_is_tried_with_growing_pauses(void **state)
{
    static const int64_t pauses[] = {1000, 3000, 5000};
    CLEANUP(stop) struct fixture f;
    int64_t now = 0;

    (void)state;
    start(&f, "rabbit://a:b@one/", 1);
    assert_int_equal(next_at(&f), 0);
    for (size_t i = 0; i < ARRAY_SIZE(pauses); i++) {
        failover_failed(&f.failover, now);
        assert_int_equal(next_at(&f), now + pauses[i]);
        now = next_at(&f);
    }
    for (int i = 0; i < 100; i++) {
        failover_failed(&f.failover, 0);
    }
    assert_int_equal(next_at(&f), 30000);
}

static void a_lone_broker_that_was_lost_gets_its_delay(void **state)
{
    CLEANUP(stop) struct fixture f;

    (void)state;
    start(&f, "rabbit://a:b@one/?kombu_reconnect_delay=0.5", 1);
    failover_failed(&f.failover, 0);
    failover_failed(&f.failover, 0);
    failover_connected(&f.failover, 0);
    failover_failed(&f.failover, LASTING);
    assert_int_equal(next_at(&f), LASTING + 500);
    failover_failed(&f.failover, LASTING + 500);
    assert_int_equal(next_at(&f), LASTING + 500 + 1000);
}

static void another_broker_is_tried_at_once(void **state)
{
    CLEANUP(stop) struct fixture f;
    const char *first;

    (void)state;
    start(&f, "rabbit://a:b@one,a:b@two/", 1);
    first = next_host(&f);
    failover_connected(&f.failover, 0);
    failover_failed(&f.failover, LASTING);
    assert_string_not_equal(next_host(&f), first);
    assert_int_equal(next_at(&f), LASTING);
    failover_failed(&f.failover, LASTING);
    assert_string_equal(next_host(&f), first);
    assert_int_equal(next_at(&f), LASTING + 1000);
}

static void brokers_that_accept_and_hang_up_do_not_make_us_spin(void **state)
{
    CLEANUP(stop) struct fixture f;
    int64_t now = 0;

    (void)state;
    start(&f, "rabbit://a:b@one,a:b@two/", 1);
    for (int i = 0; i < 20; i++) {
        now = next_at(&f);
        failover_connected(&f.failover, now);
        failover_failed(&f.failover, now);
    }
    assert_true(now > 60000);
}

static void the_order_depends_on_the_seed(void **state)
{
    unsigned n_first = 0;

    (void)state;
    for (unsigned seed = 0; seed < 64; seed++) {
        CLEANUP(stop) struct fixture f;

        start(&f, "rabbit://a:b@one,a:b@two/", seed);
        n_first += str_eq(next_host(&f), "one");
    }
    assert_in_range(n_first, 8, 56);
}

static void every_broker_gets_its_turn(void **state)
{
    CLEANUP(stop) struct fixture f;
    unsigned seen = 0;

    (void)state;
    start(&f, "rabbit://a:b@h:1,a:b@h:2,a:b@h:3/", 7);
    for (int i = 0; i < 3; i++) {
        int64_t at;

        seen |= 1u << failover_host(&f.failover, &at)->port;
        failover_failed(&f.failover, 0);
    }
    assert_int_equal(seen, 2 | 4 | 8);
}

static void splay_spreads_reconnections(void **state)
{
    CLEANUP(stop) struct fixture f;

    (void)state;
    start(&f, "rabbit://a:b@h/?kombu_reconnect_splay=2&rabbit_retry_interval=0", 7);
    failover_failed(&f.failover, 0);
    assert_in_range(next_at(&f), 0, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lone_broker_is_tried_with_growing_pauses),
        cmocka_unit_test(a_lone_broker_that_was_lost_gets_its_delay),
        cmocka_unit_test(another_broker_is_tried_at_once),
        cmocka_unit_test(brokers_that_accept_and_hang_up_do_not_make_us_spin),
        cmocka_unit_test(the_order_depends_on_the_seed),
        cmocka_unit_test(every_broker_gets_its_turn),
        cmocka_unit_test(splay_spreads_reconnections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

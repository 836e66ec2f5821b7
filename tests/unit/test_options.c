/* link: rpc_amqp rpc_objects base */

#include "rpc/amqp/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int setup(void **state)
{
    struct mq_options *o = NEW(struct mq_options);

    mq_options_init(o);
    assert_null(mq_options_set_url(o, NULL));
    *state = o;
    return 0;
}

static int teardown(void **state)
{
    mq_options_fini(*state);
    freep(state);
    return 0;
}

static void assert_config_error(struct err *consumed)
{
    CLEANUP(err_freep) struct err *e = consumed;

    assert_true(err_is(e, ERR_CONFIG));
}

static void set(struct mq_options *o, const char *name, const char *value)
{
    assert_null(mq_options_set(o, name, value));
}

static const struct mq_arg *find(const struct mq_arg *args, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(args[i].key, key)) {
            return &args[i];
        }
    }
    return NULL;
}

static void defaults_fit_together(void **state)
{
    const struct mq_options *o = *state;
    struct mq_arg args[MQ_MAX_ARGS];

    assert_null(mq_options_check(o));
    assert_true(o->ssl_enforce_hostname_verification);
    assert_int_equal(mq_queue_args(o, MQ_QUEUE_TOPIC, args), 0);
    assert_false(mq_queue_is_durable(o, MQ_QUEUE_TOPIC));
    assert_false(mq_queue_is_auto_delete(o, MQ_QUEUE_TOPIC));
}

static void transient_queues_expire(void **state)
{
    const struct mq_options *o = *state;
    struct mq_arg args[MQ_MAX_ARGS];
    size_t n = mq_queue_args(o, MQ_QUEUE_REPLY, args);

    assert_int_equal(n, 1);
    assert_int_equal(find(args, n, "x-expires")->num, 1800000);
    assert_int_equal(mq_queue_args(o, MQ_QUEUE_FANOUT, args), 1);
}

static void quorum_topic_queues_are_durable_with_their_limits(void **state)
{
    struct mq_options *o = *state;
    struct mq_arg args[MQ_MAX_ARGS];
    size_t n;

    set(o, "rabbit_quorum_queue", "true");
    set(o, "rabbit_quorum_delivery_limit", "3");
    set(o, "rabbit_quroum_max_memory_length", "4");
    set(o, "rabbit_quroum_max_memory_bytes", "5");
    n = mq_queue_args(o, MQ_QUEUE_TOPIC, args);
    assert_int_equal(n, 4);
    assert_string_equal(find(args, n, "x-queue-type")->str, "quorum");
    assert_int_equal(find(args, n, "x-delivery-limit")->num, 3);
    assert_int_equal(find(args, n, "x-max-in-memory-length")->num, 4);
    assert_int_equal(find(args, n, "x-max-in-memory-bytes")->num, 5);
    assert_true(mq_queue_is_durable(o, MQ_QUEUE_TOPIC));
    assert_false(mq_queue_is_durable(o, MQ_QUEUE_REPLY));
}

static void transient_quorum_makes_the_other_queues_durable(void **state)
{
    struct mq_options *o = *state;
    struct mq_arg args[MQ_MAX_ARGS];
    size_t n;

    set(o, "rabbit_transient_quorum_queue", "yes");
    n = mq_queue_args(o, MQ_QUEUE_FANOUT, args);
    assert_non_null(find(args, n, "x-queue-type"));
    assert_non_null(find(args, n, "x-expires"));
    assert_true(mq_queue_is_durable(o, MQ_QUEUE_FANOUT));
    assert_false(mq_queue_is_durable(o, MQ_QUEUE_TOPIC));
}

static void mirrored_and_quorum_queues_exclude_each_other(void **state)
{
    struct mq_options *o = *state;

    set(o, "rabbit_ha_queues", "1");
    assert_null(mq_options_check(o));
    set(o, "rabbit_quorum_queue", "1");
    assert_config_error(mq_options_check(o));
}

static void the_query_of_the_url_wins(void **state)
{
    struct mq_options *o = *state;

    assert_null(mq_options_set_url(
        o, "rabbit://a:b@h/?amqp_durable_queues=true&heartbeat_timeout_threshold=10"));
    assert_true(o->amqp_durable_queues);
    assert_int_equal(o->heartbeat_timeout_threshold, 10);
    assert_string_equal(o->url.hosts[0].host, "h");
}

static void unknown_options_and_bad_values_are_refused(void **state)
{
    struct mq_options *o = *state;

    assert_config_error(mq_options_set(o, "rabbit_typo", "1"));
    assert_config_error(mq_options_set(o, "ssl", "perhaps"));
    assert_config_error(mq_options_set(o, "rabbit_retry_interval", "soon"));
    assert_config_error(mq_options_set_url(o, "rabbit://a:b@h/?ssl=perhaps"));
    assert_string_equal(o->url.hosts[0].host, "localhost");
}

static void what_is_not_supported_is_said(void **state)
{
    static const char *const rows[][2] = {
        {"rabbit_stream_fanout", "true"},      {"rabbit_login_method", "RABBIT-CR-DEMO"},
        {"kombu_failover_strategy", "best"},   {"rabbit_qos_prefetch_count", "65536"},
        {"rabbit_transient_queues_ttl", "-1"}, {"rabbit_interval_max", "-1"},
        {"heartbeat_timeout_threshold", "-1"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(mq_options_fini) struct mq_options o;

        mq_options_init(&o);
        set(&o, rows[i][0], rows[i][1]);
        assert_config_error(mq_options_check(&o));
    }
}

static void unreadable_certificates_are_found_at_once(void **state)
{
    struct mq_options *o = *state;

    set(o, "ssl_ca_file", "/nowhere/ca.pem");
    assert_null(mq_options_check(o));
    set(o, "ssl", "true");
    assert_config_error(mq_options_check(o));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(defaults_fit_together),
        T(transient_queues_expire),
        T(quorum_topic_queues_are_durable_with_their_limits),
        T(transient_quorum_makes_the_other_queues_durable),
        T(mirrored_and_quorum_queues_exclude_each_other),
        T(the_query_of_the_url_wins),
        T(unknown_options_and_bad_values_are_refused),
        T(what_is_not_supported_is_said),
        T(unreadable_certificates_are_found_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute */
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct conf conf;
    struct json_object *legacy, *versioned; /* Payloads. */
    unsigned n;
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

struct err *rpc_notify(struct rpc_client *client, const struct rctx *ctx, const char *topic,
                       const char *priority, const char *publisher, const char *event_type,
                       struct json_object *payload, bool has_envelope)
{
    bool is_versioned = str_eq(topic, "versioned_notifications");

    (void)client;
    (void)ctx;
    assert_true(has_envelope);
    assert_string_equal(priority, "info");
    assert_string_equal(publisher, is_versioned ? "nova-compute:here" : "compute.here");
    assert_string_equal(event_type, is_versioned ? "instance.exists" : "compute.instance.exists");
    *(is_versioned ? &world.versioned : &world.legacy) = payload;
    world.n++;
    return NULL;
}

/* Only schedulers are told that way. */
const char *lifecycle_power_name(int64_t power)
{
    return power == POWER_RUNNING ? "running" : NULL;
}

struct err *rpc_fanout(struct rpc_client *client, const struct rctx *ctx,
                       const struct rpc_target *target, const char *method,
                       struct json_object *args)
{
    (void)client;
    (void)ctx;
    (void)args;
    return err_msg(ERR_INTERNAL, "%s was told %s", target->topic, method);
}

static void assert_text(struct json_object *o, const char *key, const char *expected)
{
    assert_string_equal(json_object_get_string(jv_get(o, key)), expected);
}

static struct instance *server(void)
{
    struct instance *inst = instance_new();
    struct flavor *flavor = flavor_new();

    flavor_set_name(flavor, "small");
    flavor_set_root_gb(flavor, 1);
    flavor_set_ephemeral_gb(flavor, 2);
    instance_set_uuid(inst, "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4");
    instance_set_power_state(inst, 1);
    instance_system_metadata_put(inst, "image_min_ram", "64");
    instance_system_metadata_put(inst, "clean_attempts", "1");
    instance_set_flavor(inst, flavor);
    return inst;
}

static void a_period_of_a_server_is_told_in_both_forms(void **state)
{
    struct node node = {.host = "here"};
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(instance_freep) struct instance *inst = server();
    char both[] = "both";

    (void)state;
    strv_add(&world.conf.oslo_messaging_notifications.driver, "messagingv2");
    strv_add(&world.conf.oslo_messaging_notifications.topics, "notifications");
    strv_add(&world.conf.notifications.versioned_notifications_topics, "versioned_notifications");
    world.conf.notifications.notification_format = both;
    node.notifier = notifier_new(&node);
    notify_usage(&node, ctx, inst, 1767225600, 1769904000);
    assert_int_equal(world.n, 2);

    assert_text(world.legacy, "audit_period_beginning", "2026-01-01 00:00:00");
    assert_text(world.legacy, "audit_period_ending", "2026-02-01 00:00:00");
    assert_text(world.legacy, "instance_type", "small");
    assert_text(world.legacy, "disk_gb", "3");
    assert_int_equal(json_object_object_length(jv_get(world.legacy, "image_meta")), 1);
    assert_text(jv_get(world.legacy, "image_meta"), "min_ram", "64");

    struct json_object *data = jv_get(world.versioned, "nova_object.data");
    struct json_object *period = jv_get(data, "audit_period");

    assert_text(world.versioned, "nova_object.name", "InstanceExistsPayload");
    assert_text(world.versioned, "nova_object.version", "2.0");
    assert_text(period, "nova_object.name", "AuditPeriodPayload");
    period = jv_get(period, "nova_object.data");
    assert_text(period, "audit_period_beginning", "2026-01-01T00:00:00Z");
    assert_text(period, "audit_period_ending", "2026-02-01T00:00:00Z");
    assert_text(data, "power_state", "running");
    assert_false(json_object_object_get_ex(data, "fault", NULL));
    jv_putp(&world.legacy);
    jv_putp(&world.versioned);
    notifier_free(node.notifier);
    strv_fini(&world.conf.oslo_messaging_notifications.driver);
    strv_fini(&world.conf.oslo_messaging_notifications.topics);
    strv_fini(&world.conf.notifications.versioned_notifications_topics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_period_of_a_server_is_told_in_both_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

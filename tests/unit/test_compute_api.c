/* link: rpc_amqp rpc_objects base */

#include "rpc/amqp/compute_api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#define UUID "11111111-2222-4333-8444-555555555555"

static struct json_object *parse(const char *text)
{
    struct json_object *v = NULL;

    assert_null(jv_parse(text, strlen(text), &v));
    return v;
}

static struct json_object *instance_json(void)
{
    CLEANUP(instance_freep) struct instance *i = instance_new();

    instance_set_uuid(i, UUID);
    return instance_to_json(i);
}

/* Decodes 'method' with the arguments in 'args', to which the instance is added. */
static struct err *decode(const char *method, const char *version, struct json_object *args,
                          unsigned minor, struct compute_call *ret)
{
    struct rpc_request r = {
        .method = (char *)method, .version = (char *)version, .args = args, .is_call = true};

    return compute_api_decode(&r, minor, ret);
}

static struct json_object *args_with_instance(const char *others)
{
    struct json_object *args = parse(others);

    jv_add(args, "instance", instance_json());
    return args;
}

static void assert_fails(const char *method, const char *version, const char *others,
                         enum err_kind kind, const char *part)
{
    CLEANUP(jv_putp) struct json_object *args = args_with_instance(others);
    struct compute_call call;
    CLEANUP(err_freep) struct err *e = decode(method, version, args, 1, &call);

    assert_non_null(e);
    assert_int_equal(err_kind(e), kind);
    if (!strstr(err_message(e), part)) {
        fail_msg("'%s' does not say '%s'", err_message(e), part);
    }
}

static void arguments_arrive_typed(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *args = args_with_instance("{\"migration_id\": 7}");
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    (void)state;
    assert_null(decode("live_migration_abort", "6.0", args, 1, &call));
    assert_int_equal(call.method, COMPUTE_live_migration_abort);
    assert_int_equal(call.args.live_migration_abort.migration_id, 7);
    assert_true(call.args.live_migration_abort.has_migration_id);
    assert_string_equal(instance_uuid(call.args.live_migration_abort.instance), UUID);
    assert_ptr_equal(compute_call_instance(&call), call.args.live_migration_abort.instance);
    assert_null(compute_call_migration(&call));
}

static void lists_of_objects_arrive_as_arrays(void **state)
{
    CLEANUP(jv_putp) struct json_object *args = parse("{\"instances\": [], \"events\": []}");
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    (void)state;
    json_object_array_add(jv_get(args, "instances"), instance_json());
    json_object_array_add(jv_get(args, "instances"), instance_json());
    assert_null(decode("external_instance_event", "6.0", args, 1, &call));
    assert_int_equal(call.args.external_instance_event.n_instances, 2);
    assert_int_equal(call.args.external_instance_event.n_events, 0);
    assert_string_equal(instance_uuid(call.args.external_instance_event.instances[1]), UUID);
}

static void a_bad_object_in_a_list_leaks_nothing(void **state)
{
    CLEANUP(jv_putp) struct json_object *args = parse("{\"instances\": [], \"events\": []}");
    struct compute_call call;
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    json_object_array_add(jv_get(args, "instances"), instance_json());
    json_object_array_add(jv_get(args, "instances"), json_object_new_int(5));
    e = decode("external_instance_event", "6.0", args, 1, &call);
    assert_non_null(e);
}

static void null_is_no_value(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *args = args_with_instance("{\"block_migration\": null}");
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    (void)state;
    assert_null(decode("post_live_migration_at_destination", "6.0", args, 1, &call));
    assert_false(call.args.post_live_migration_at_destination.has_block_migration);
}

static void later_arguments_may_be_missing_and_unknown_ones_are_ignored(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *args = args_with_instance("{\"volume_id\": \"v\", \"since_2030\": 1}");
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    (void)state;
    assert_null(decode("remove_volume_connection", "6.0", args, 1, &call));
    assert_string_equal(call.args.remove_volume_connection.volume_id, "v");
    assert_false(call.args.remove_volume_connection.has_delete_attachment);
}

static void numbers_may_come_as_text(void **state)
{
    CLEANUP(jv_putp) struct json_object *args = args_with_instance("{\"tail_length\": \"50\"}");
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    (void)state;
    assert_null(decode("get_console_output", "6.0", args, 1, &call));
    assert_int_equal(call.args.get_console_output.tail_length, 50);
}

static void missing_arguments_are_named_as_python_does(void **state)
{
    (void)state;
    assert_fails("live_migration_abort", "6.0", "{}", ERR_TYPE,
                 "live_migration_abort() missing 1 required positional argument: 'migration_id'");
    assert_fails("snapshot_instance", "6.0", "{}", ERR_TYPE,
                 "missing 1 required positional argument: 'image_id'");
    assert_fails("reboot_instance", "6.0", "{}", ERR_TYPE,
                 "missing 2 required positional arguments: 'block_device_info' and 'reboot_type'");
    assert_fails("backup_instance", "6.0", "{}", ERR_TYPE,
                 "missing 3 required positional arguments: 'image_id', 'backup_type', and "
                 "'rotation'");
}

static void mistyped_arguments_are_refused(void **state)
{
    (void)state;
    assert_fails("live_migration_abort", "6.0", "{\"migration_id\": \"x\"}", ERR_TYPE,
                 "argument 'migration_id' must be int, not str");
    assert_fails("live_migration_abort", "6.0", "{\"migration_id\": null}", ERR_TYPE,
                 "argument 'migration_id' must be given, not NoneType");
    assert_fails("stop_instance", "6.0", "{\"clean_shutdown\": 1}", ERR_TYPE,
                 "argument 'clean_shutdown' must be bool, not int");
    assert_fails("get_vnc_console", "6.0", "{\"console_type\": []}", ERR_TYPE,
                 "argument 'console_type' must be str, not list");
    assert_fails("get_vnc_console", "6.0", "{\"console_type\": \"a\\u0000b\"}", ERR_TYPE,
                 "argument 'console_type' has a NUL inside");
    assert_fails("volume_snapshot_create", "6.0", "{\"volume_id\": \"v\", \"create_info\": []}",
                 ERR_TYPE, "argument 'create_info' must be dict, not list");
    assert_fails("shelve_offload_instance", "6.0",
                 "{\"clean_shutdown\": true, \"accel_uuids\": {}}", ERR_TYPE,
                 "argument 'accel_uuids' must be list, not dict");
}

static void a_foreign_object_is_refused(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *args = parse(
        "{\"instance\": {\"nova_object.name\": \"Gadget\", \"nova_object.namespace\": \"nova\","
        " \"nova_object.version\": \"1.0\", \"nova_object.data\": {}}}");
    struct compute_call call;
    CLEANUP(err_freep) struct err *e = decode("start_instance", "6.0", args, 1, &call);

    (void)state;
    assert_true(err_is(e, ERR_UNSUPPORTED_OBJECT));
}

static void only_our_versions_are_served(void **state)
{
    static const char *const bad[] = {"5.13", "6.2",  "7.0",  "6",
                                      "6.",   ".1",   "6.x",  "",
                                      "6.-1", "+6.0", "6.0 ", "99999999999999999999.0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_fails("start_instance", bad[i], "{}", ERR_UNSUPPORTED_VERSION,
                     "Attempted method: start_instance");
    }
}

static void a_method_is_there_from_its_version_on(void **state)
{
    CLEANUP(jv_putp) struct json_object *args = args_with_instance("{}");
    struct compute_call call;
    CLEANUP(err_freep) struct err *old = decode("allow_share", "6.0", args, 1, &call);
    CLEANUP(err_freep) struct err *new = decode("allow_share", "6.4", args, 4, &call);

    (void)state;
    assert_true(err_is(old, ERR_NO_SUCH_METHOD));
    assert_true(err_is(new, ERR_TYPE));
}

static void unknown_methods_are_refused(void **state)
{
    (void)state;
    assert_fails("no_such_thing", "6.0", "{}", ERR_NO_SUCH_METHOD, "no_such_thing");
    assert_fails("Start_Instance", "6.0", "{}", ERR_NO_SUCH_METHOD, "Start_Instance");
}

static char *strand(const char *method, const char *others)
{
    CLEANUP(jv_putp) struct json_object *args = args_with_instance(others);
    CLEANUP(compute_call_fini) struct compute_call call = {0};

    assert_null(decode(method, "6.0", args, 1, &call));
    return compute_call_strand(&call);
}

static void strands_are_novas_locks(void **state)
{
    CLEANUP(freep) char *stop = strand("stop_instance", "{\"clean_shutdown\": true}");
    CLEANUP(freep) char *start = strand("start_instance", "{}");
    CLEANUP(freep) char *detach = strand("detach_interface", "{\"port_id\": \"p\"}");
    CLEANUP(freep)
    char *attach = strand("attach_interface", "{\"network_id\": \"n\", \"port_id\": null,"
                                              " \"requested_ip\": null, \"tag\": null}");

    (void)state;
    assert_string_equal(stop, UUID);
    assert_null(start);
    assert_string_equal(detach, "interface-" UUID "-p");
    assert_string_equal(attach, "interface-" UUID "-None");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_arrive_typed),
        cmocka_unit_test(lists_of_objects_arrive_as_arrays),
        cmocka_unit_test(a_bad_object_in_a_list_leaks_nothing),
        cmocka_unit_test(null_is_no_value),
        cmocka_unit_test(later_arguments_may_be_missing_and_unknown_ones_are_ignored),
        cmocka_unit_test(numbers_may_come_as_text),
        cmocka_unit_test(missing_arguments_are_named_as_python_does),
        cmocka_unit_test(mistyped_arguments_are_refused),
        cmocka_unit_test(a_foreign_object_is_refused),
        cmocka_unit_test(only_our_versions_are_served),
        cmocka_unit_test(a_method_is_there_from_its_version_on),
        cmocka_unit_test(unknown_methods_are_refused),
        cmocka_unit_test(strands_are_novas_locks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

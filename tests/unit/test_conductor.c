/* link: rpc_amqp rpc_objects base */
#include "rpc/amqp/conductor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

/* The bus: answers from a script, and keeps the last call. */
static struct {
    struct {
        const char *result;       /* JSON, or NULL and then: */
        const char *class, *text; /* what conductor raised. */
    } answers[8];
    size_t n_answers, n_calls;
    struct json_object *args;
    char method[64], namespace_[32], version[8];
    int64_t timeout_ms;
} bus;

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse(text, strlen(text), &json);

    if (e) {
        fail_msg("%s: %s", text, err_message(e));
    }
    return json;
}

struct err *rpc_call(struct rpc_client *client, const struct rctx *ctx,
                     const struct rpc_target *target, const char *method, struct json_object *args,
                     const struct rpc_times *times, struct json_object **ret)
{
    size_t i = bus.n_calls++;

    assert_null(client);
    assert_non_null(ctx);
    assert_string_equal(target->topic, "conductor");
    assert_null(target->server);
    assert_true(i < bus.n_answers);
    jv_putp(&bus.args);
    bus.args = args;
    snprintf(bus.method, sizeof(bus.method), "%s", method);
    snprintf(bus.namespace_, sizeof(bus.namespace_), "%s",
             target->namespace_ ? target->namespace_ : "");
    snprintf(bus.version, sizeof(bus.version), "%s", target->version);
    bus.timeout_ms = times->timeout_ms;
    if (!bus.answers[i].result) {
        return err_remote(str_starts(bus.answers[i].class, "DB") ? "oslo_db.exception"
                          : str_starts(bus.answers[i].class, "Incompatible")
                              ? "oslo_versionedobjects.exception"
                              : "nova.exception",
                          bus.answers[i].class, bus.answers[i].text);
    }
    *ret = parse(bus.answers[i].result);
    return NULL;
}

static void answers(const char *result)
{
    bus.answers[bus.n_answers++].result = result;
}

static void raises(const char *class, const char *text)
{
    bus.answers[bus.n_answers].class = class;
    bus.answers[bus.n_answers++].text = text;
}

struct fixture {
    struct conductor *conductor;
    struct rctx *ctx;
};

static int set_up(void **state)
{
    static struct fixture f;

    memset(&bus, 0, sizeof(bus));
    f.conductor = conductor_new(NULL);
    f.ctx = rctx_new_admin();
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    jv_putp(&bus.args);
    conductor_freep(&f->conductor);
    rctx_freep(&f->ctx);
    return 0;
}

static void ok(struct err *e_)
{
    CLEANUP(err_freep) struct err *e = e_;
    CLEANUP(freep) char *text = e ? err_text(e) : NULL;

    if (e) {
        fail_msg("%s", text);
    }
}

static void fails(struct err *e_, enum err_kind kind)
{
    CLEANUP(err_freep) struct err *e = e_;

    assert_non_null(e);
    assert_int_equal(err_kind(e), kind);
}

/* A part of the last call's arguments, as text. */
static void assert_arg(const char *key, const char *expected)
{
    CLEANUP(jv_putp) struct json_object *want = parse(expected);
    CLEANUP(freep)
    char *text = jv_get(bus.args, key) ? jv_text(jv_get(bus.args, key)) : str_dup("null");

    if (!json_object_equal(jv_get(bus.args, key), want)) {
        fail_msg("%s is %s, not %s", key, text, expected);
    }
}

#define MIGRATION(data)                                                                            \
    "{\"nova_object.name\": \"Migration\", \"nova_object.namespace\": \"nova\","                   \
    " \"nova_object.version\": \"1.7\", \"nova_object.data\": " data "}"

static void saving_sends_the_object_and_takes_the_updates(void **state)
{
    struct fixture *f = *state;
    CLEANUP(migration_freep) struct migration *m = migration_new();

    answers("[{\"updated_at\": \"2026-01-01T00:00:00Z\", \"obj_what_changed\": []}, null]");
    migration_set_id(m, 3);
    ovo_reset_changes(migration_ovo(m), false);
    migration_set_status(m, "running");
    ok(migration_save(f->conductor, f->ctx, m));
    assert_string_equal(bus.method, "object_action");
    assert_string_equal(bus.version, "3.0");
    assert_arg("objmethod", "\"save\"");
    assert_arg("args", "[]");
    assert_arg("kwargs", "{}");
    assert_arg("objinst",
               "{\"nova_object.name\": \"Migration\", \"nova_object.namespace\": \"nova\","
               " \"nova_object.version\": \"1.7\", \"nova_object.data\":"
               " {\"id\": 3, \"status\": \"running\"},"
               " \"nova_object.changes\": [\"status\"]}");
    assert_false(ovo_has_changes(migration_ovo(m)));
    assert_string_equal(migration_updated_at(m), "2026-01-01T00:00:00Z");
}

static void the_expected_task_states_travel_with_null_for_none(void **state)
{
    struct fixture *f = *state;
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    answers("[{}, null]");
    answers("[{}, null]");
    raises("UnexpectedTaskStateError", "Conflict");
    ok(instance_save(f->conductor, f->ctx, inst, (const char *const[]){"scheduling", "", NULL}));
    assert_arg("kwargs", "{\"expected_task_state\": [\"scheduling\", null]}");
    ok(instance_save(f->conductor, f->ctx, inst, NULL));
    assert_arg("kwargs", "{}");
    instance_set_task_state(inst, "building");
    fails(instance_save(f->conductor, f->ctx, inst, NULL), ERR_UNEXPECTED_TASK_STATE);
    assert_true(instance_changed_task_state(inst));
}

static void the_database_is_given_three_more_chances(void **state)
{
    struct fixture *f = *state;
    CLEANUP(migration_freep) struct migration *m = NULL;

    raises("DBDeadlock", "");
    raises("DBConnectionError", "");
    raises("DBDeadlock", "");
    answers(MIGRATION("{\"id\": 4}"));
    ok(migration_get_by_id(f->conductor, f->ctx, 4, &m));
    assert_int_equal(migration_id(m), 4);
    assert_arg("args", "[4]");
    assert_arg("object_versions", "{\"Migration\": \"1.7\"}");
    for (int i = 0; i < 4; i++) {
        raises("DBDeadlock", "");
    }
    m = migration_free(m);
    fails(migration_get_by_id(f->conductor, f->ctx, 4, &m), ERR_DB_DEADLOCK);
    assert_int_equal(bus.n_calls, 8);
}

static void what_may_have_been_created_is_not_created_again(void **state)
{
    struct fixture *f = *state;
    CLEANUP(service_freep) struct service *s = service_new();

    raises("DBDeadlock", "");
    raises("DBConnectionError", "");
    fails(service_create(f->conductor, f->ctx, s), ERR_DB_CONNECTION);
    raises("DBConnectionError", "");
    fails(action_event_start(f->conductor, f->ctx, "u", "compute_x", "h"), ERR_DB_CONNECTION);
    assert_int_equal(bus.n_calls, 3);
}

static void answers_that_are_none_are_errors(void **state)
{
    static const char *const bad[] = {"null", "[]",         "{}",
                                      "[{}]", "[[], null]", "[{\"id\": \"x\"}, 1]"};
    struct fixture *f = *state;
    CLEANUP(migration_freep) struct migration *m = migration_new(), *got = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    int64_t version;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        answers(bad[i]);
        fails(migration_save(f->conductor, f->ctx, m), ERR_PARSE);
    }
    bus.n_answers = bus.n_calls = 0;
    answers("null");
    fails(migration_get_by_id(f->conductor, f->ctx, 1, &got), ERR_PARSE);
    answers("[1]");
    fails(migration_get_by_id(f->conductor, f->ctx, 1, &got), ERR_PARSE);
    answers("{}");
    fails(instance_uuids_by_host(f->conductor, f->ctx, "h", &uuids), ERR_PARSE);
    answers("null");
    fails(service_minimum_version(f->conductor, f->ctx, "nova-compute", &version), ERR_PARSE);
    assert_null(got);
}

static void absent_records_are_null_where_nova_says_so(void **state)
{
    struct fixture *f = *state;
    struct service *s = (struct service *)f;
    struct instance_group *g = (struct instance_group *)f;
    struct migration *m = NULL;

    answers("null");
    ok(service_get(f->conductor, f->ctx, "h", "nova-compute", &s));
    assert_null(s);
    assert_arg("args", "[\"h\", \"nova-compute\"]");
    raises("InstanceGroupNotFound", "none");
    ok(instance_group_by_instance(f->conductor, f->ctx, "u", &g));
    assert_null(g);
    raises("MigrationNotFoundByStatus", "none");
    fails(migration_get_by_instance_and_status(f->conductor, f->ctx, "u", "running", &m),
          ERR_MIGRATION_NOT_FOUND_BY_STATUS);
}

static void plain_results_come_as_they_are(void **state)
{
    struct fixture *f = *state;
    CLEANUP(strv_fini) struct strv uuids = {0};
    int64_t version = 0;

    answers("[\"u1\", \"u2\"]");
    answers("61");
    ok(instance_uuids_by_host(f->conductor, f->ctx, "h", &uuids));
    assert_int_equal(uuids.n, 2);
    assert_string_equal(uuids.items[1], "u2");
    ok(service_minimum_version(f->conductor, f->ctx, "nova-compute", &version));
    assert_int_equal(version, 61);
}

#define INSTANCE(data)                                                                             \
    "{\"nova_object.name\": \"Instance\", \"nova_object.namespace\": \"nova\","                    \
    " \"nova_object.version\": \"2.7\", \"nova_object.data\": " data "}"

static void loading_asks_only_for_what_is_missing(void **state)
{
    struct fixture *f = *state;
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    instance_set_uuid(inst, "u");
    instance_set_host(inst, "h");
    ok(instance_load(f->conductor, f->ctx, inst, (const char *const[]){"host", NULL}));
    assert_int_equal(bus.n_calls, 0);
    answers(INSTANCE(
        "{\"uuid\": \"u\", \"host\": \"other\", \"node\": \"n\", \"pci_requests\": null}"));
    ok(instance_load(f->conductor, f->ctx, inst,
                     (const char *const[]){"host", "pci_requests", NULL}));
    assert_arg("kwargs", "{\"expected_attrs\": [\"host\", \"pci_requests\"]}");
    assert_arg("args", "[\"u\"]");
    assert_string_equal(instance_host(inst), "h");
    assert_null(instance_pci_requests(inst));
    assert_false(instance_changed_node(inst));
    answers(INSTANCE("{\"uuid\": \"u\"}"));
    fails(instance_load(f->conductor, f->ctx, inst, (const char *const[]){"flavor", NULL}),
          ERR_OBJECT_ACTION);
}

static void events_say_how_it_ended(void **state)
{
    struct fixture *f = *state;
    CLEANUP(err_freep) struct err *e = err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "u", NULL);

    answers("null");
    ok(action_event_start(f->conductor, f->ctx, "u", "compute_reboot", "h"));
    assert_arg("objmethod", "\"event_start\"");
    assert_arg("args", "[\"u\", \"compute_reboot\"]");
    assert_arg("kwargs", "{\"want_result\": false, \"host\": \"h\"}");
    answers("null");
    ok(action_event_finish(f->conductor, f->ctx, "u", "compute_reboot", /* exc= */ NULL));
    assert_arg("kwargs", "{\"exc_val\": null, \"exc_tb\": null, \"want_result\": false}");
    answers("null");
    ok(action_event_finish(f->conductor, f->ctx, "u", "compute_reboot", e));
    assert_arg("kwargs",
               "{\"exc_val\": \"Instance u could not be found.\","
               " \"exc_tb\": \"Instance u could not be found.\", \"want_result\": false}");
}

/* The data of the fault that was sent for an error. */
static struct json_object *fault_for(struct fixture *f, struct err *e_)
{
    CLEANUP(err_freep) struct err *e = e_;

    bus.n_answers = bus.n_calls = 0;
    memset(bus.answers, 0, sizeof(bus.answers));
    answers("[{\"id\": 1}, null]");
    ok(instance_fault_create(f->conductor, f->ctx, "u", "h", e));
    assert_arg("objmethod", "\"create\"");
    return jv_get(jv_get(bus.args, "objinst"), "nova_object.data");
}

static const char *text_of(struct json_object *data, const char *key)
{
    return json_object_get_string(jv_get(data, key));
}

static void faults_tell_tenants_only_what_nova_would(void **state)
{
    struct fixture *f = *state;
    CLEANUP(freep) char *text = NULL;
    struct strbuf long_text = {0};
    struct json_object *data;

    data = fault_for(f, err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "u", NULL));
    assert_string_equal(text_of(data, "message"), "Instance u could not be found.");
    assert_string_equal(text_of(data, "details"), "");
    assert_string_equal(text_of(data, "code"), "404");
    assert_string_equal(text_of(data, "instance_uuid"), "u");
    assert_string_equal(text_of(data, "host"), "h");

    data = fault_for(f, err_msg(ERR_LIBVIRT, "cannot open /var/lib/x"));
    assert_string_equal(text_of(data, "message"), "libvirtError");
    assert_non_null(strstr(text_of(data, "details"), "/var/lib/x"));
    data = fault_for(f, err_msg(ERR_INTERNAL, "short read of /etc/x"));
    assert_string_equal(text_of(data, "message"), "InternalError");

    strbuf_add(&long_text, "x");
    for (int i = 0; i < 200; i++) {
        strbuf_add(&long_text, "ü");
    }
    text = strbuf_take(&long_text);
    data = fault_for(f, err_new(ERR_MIGRATION_PRE_CHECK, "reason", text, NULL));
    assert_in_range(strlen(text_of(data, "message")), 254, 255);
    assert_true(str_ends(text_of(data, "message"), "ü"));
}

static void a_ping_goes_to_the_base_interface(void **state)
{
    struct fixture *f = *state;

    answers("{\"service\": \"conductor\", \"arg\": \"novashim\"}");
    ok(conductor_ping(f->conductor, f->ctx, 10000));
    assert_string_equal(bus.method, "ping");
    assert_string_equal(bus.namespace_, "baseapi");
    assert_string_equal(bus.version, "1.0");
    assert_int_equal(bus.timeout_ms, 10000);
}

static void the_release_is_read_from_what_conductor_supports(void **state)
{
    static const struct {
        const char *minor;
        enum ovo_release release;
    } known[] = {{"10", OVO_ZED}, {"11", OVO_2024_1}, {"13", OVO_2025_1}, {"15", OVO_2026_1}};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        CLEANUP(freep)
        char *text =
            str_printf("Version 1.999 of LibvirtLiveMigrateData is not supported, supported "
                       "version is 1.%s",
                       known[i].minor);

        raises("IncompatibleObjectVersion", text);
        ok(conductor_detect_release(f->conductor, f->ctx));
        assert_int_equal(ovo_release(), known[i].release);
    }
    ovo_set_release(OVO_ZED);
    raises("IncompatibleObjectVersion", "no number");
    fails(conductor_detect_release(f->conductor, f->ctx), ERR_PARSE);
    answers("\"x\"");
    fails(conductor_detect_release(f->conductor, f->ctx), ERR_PARSE);
    assert_int_equal(ovo_release(), OVO_ZED);
}

static void backporting_lends_the_object(void **state)
{
    struct fixture *f = *state;
    CLEANUP(jv_putp) struct json_object *newer = parse("{\"nova_object.name\": \"Migration\"}");
    CLEANUP(jv_putp) struct json_object *older = NULL;

    answers(MIGRATION("{}"));
    ok(conductor_backport(f->conductor, f->ctx, newer, &migration_class, &older));
    assert_arg("objinst", "{\"nova_object.name\": \"Migration\"}");
    assert_arg("object_versions", "{\"Migration\": \"1.7\"}");
    assert_true(ovo_is_wire_form(older));
}

#define LIST(class, version)                                                                       \
    "{\"nova_object.name\": \"" class "\", \"nova_object.namespace\": \"nova\","                   \
                                      " \"nova_object.version\": \"" version                       \
                                      "\", \"nova_object.data\": {\"objects\": []}}"

static void servers_are_found_by_filters_and_by_the_time_they_existed(void **state)
{
    struct fixture *f = *state;
    static const char *const attrs[] = {"system_metadata", NULL};
    CLEANUP(instance_list_freep) struct instance_list *found = NULL;
    CLEANUP(instance_list_freep) struct instance_list *active = NULL;
    CLEANUP(migration_list_freep) struct migration_list *resizes = NULL;

    answers(LIST("InstanceList", "2.6"));
    ok(instance_list_by_filters(f->conductor, f->ctx, parse("{\"vm_state\": \"building\"}"), attrs,
                                &found));
    assert_arg("objmethod", "\"get_by_filters\"");
    assert_arg("args", "[{\"vm_state\": \"building\"}]");
    assert_arg("kwargs", "{\"expected_attrs\": [\"system_metadata\"]}");
    answers(LIST("InstanceList", "2.6"));
    ok(instance_list_active_between(f->conductor, f->ctx, "2026-01-01T00:00:00Z",
                                    "2026-02-01T00:00:00Z", "here", NULL, &active));
    assert_arg("args", "[\"2026-01-01T00:00:00Z\", \"2026-02-01T00:00:00Z\"]");
    assert_arg("kwargs", "{\"host\": \"here\"}");
    answers(LIST("MigrationList", "1.5"));
    ok(migration_list_unconfirmed(f->conductor, f->ctx, 600, "here", &resizes));
    assert_arg("args", "[600, \"here\"]");
}

static void a_save_may_depend_on_the_state_of_the_server(void **state)
{
    struct fixture *f = *state;
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    raises("UnexpectedVMStateError", "Actual: active");
    instance_set_uuid(inst, "u");
    instance_set_vm_state(inst, "error");
    fails(instance_save_if(f->conductor, f->ctx, inst, "building"), ERR_UNEXPECTED_VM_STATE);
    assert_arg("kwargs", "{\"expected_vm_state\": [\"building\"]}");
}

static void the_log_of_a_period_is_one_for_each_host(void **state)
{
    struct fixture *f = *state;
    CLEANUP(task_log_freep) struct task_log *none = NULL;
    CLEANUP(task_log_freep) struct task_log *task = task_log_new();

    answers("null");
    ok(task_log_get(f->conductor, f->ctx, "instance_usage_audit", "2026-01-01T00:00:00.000000",
                    "2026-02-01T00:00:00.000000", "here", &none));
    assert_null(none);
    assert_arg("args", "[\"instance_usage_audit\", \"2026-01-01T00:00:00.000000\","
                       " \"2026-02-01T00:00:00.000000\", \"here\"]");
    task_log_set_task_name(task, "instance_usage_audit");
    answers("[{}, null]");
    ok(task_log_begin(f->conductor, f->ctx, task));
    assert_arg("objmethod", "\"begin_task\"");
    answers("[{}, null]");
    ok(task_log_end(f->conductor, f->ctx, task));
    assert_arg("objmethod", "\"end_task\"");
}

static void an_action_that_may_have_begun_is_not_begun_again(void **state)
{
    struct fixture *f = *state;

    answers("null");
    ok(instance_action_start(f->conductor, f->ctx, "u", "reboot"));
    assert_arg("objname", "\"InstanceAction\"");
    assert_arg("args", "[\"u\", \"reboot\"]");
    assert_arg("kwargs", "{\"want_result\": false}");
    raises("DBConnectionError", "gone");
    fails(instance_action_start(f->conductor, f->ctx, "u", "reboot"), ERR_DB_CONNECTION);
    answers("null");
    ok(console_auths_clean_expired(f->conductor, f->ctx));
    assert_arg("objmethod", "\"clean_expired_console_auths\"");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void ports_of_a_server_are_recorded(void **state)
{
    struct fixture *f = *state;
    CLEANUP(virtual_interface_freep) struct virtual_interface *vif = virtual_interface_new();
    CLEANUP(virtual_interface_freep) struct virtual_interface *none = NULL;

    answers("[{\"id\": 7, \"address\": \"fa:16:3e:00:00:15\", \"obj_what_changed\": []}, null]");
    virtual_interface_set_uuid(vif, "11111111-1111-4111-8111-111111111111");
    virtual_interface_set_address(vif, "fa:16:3e:00:00:15/11111111-1111-4111-8111-111111111111");
    virtual_interface_set_tag(vif, NULL);
    ok(virtual_interface_create(f->conductor, f->ctx, vif));
    assert_arg("objmethod", "\"create\"");
    assert_string_equal(virtual_interface_address(vif), "fa:16:3e:00:00:15");
    assert_int_equal(virtual_interface_id(vif), 7);
    answers("[{\"obj_what_changed\": []}, null]");
    ok(virtual_interface_destroy(f->conductor, f->ctx, vif));
    assert_arg("objmethod", "\"destroy\"");
    answers("null");
    ok(virtual_interface_get(f->conductor, f->ctx, "x", &none));
    assert_null(none);
    assert_arg("objmethod", "\"get_by_uuid\"");
    answers("null");
    ok(virtual_interfaces_delete(f->conductor, f->ctx, "server"));
    assert_arg("objmethod", "\"delete_by_instance_uuid\"");
    assert_arg("args", "[\"server\"]");
}

static void the_ports_of_a_server_are_listed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(virtual_interface_list_freep) struct virtual_interface_list *list = NULL;

    answers("{\"nova_object.name\": \"VirtualInterfaceList\", \"nova_object.namespace\": \"nova\","
            " \"nova_object.version\": \"1.0\", \"nova_object.data\": {\"objects\": []}}");
    ok(virtual_interfaces_by_instance(f->conductor, f->ctx, "server", &list));
    assert_int_equal(virtual_interface_list_n(list), 0);
}

static struct console_auth_token *new_token(void)
{
    struct console_auth_token *t = console_auth_token_new();

    console_auth_token_set_console_type(t, "novnc");
    console_auth_token_set_host(t, "10.0.0.7");
    console_auth_token_set_port(t, 5901);
    return t;
}

static void a_console_is_authorized_for_a_time(void **state)
{
    struct fixture *f = *state;
    CLEANUP(console_auth_token_freep) struct console_auth_token *t = new_token();

    answers("[{\"id\": 3, \"token\": \"secret\", \"created_at\": \"2026-01-01T00:00:00Z\","
            " \"obj_what_changed\": []}, \"secret\"]");
    ok(console_auth_authorize(f->conductor, f->ctx, t, 600));
    assert_arg("objmethod", "\"authorize\"");
    assert_arg("args", "[600]");
    assert_int_equal(console_auth_token_id(t), 3);
    assert_string_equal(console_auth_token_token(t), "secret");
}

static void a_console_without_a_token_is_not_authorized(void **state)
{
    struct fixture *f = *state;
    CLEANUP(console_auth_token_freep) struct console_auth_token *t = new_token();

    answers("[{\"id\": 3, \"obj_what_changed\": []}, null]");
    fails(console_auth_authorize(f->conductor, f->ctx, t, 600), ERR_OBJECT_ACTION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(saving_sends_the_object_and_takes_the_updates),
        TEST(the_expected_task_states_travel_with_null_for_none),
        TEST(the_database_is_given_three_more_chances),
        TEST(what_may_have_been_created_is_not_created_again),
        TEST(answers_that_are_none_are_errors),
        TEST(absent_records_are_null_where_nova_says_so),
        TEST(plain_results_come_as_they_are),
        TEST(loading_asks_only_for_what_is_missing),
        TEST(events_say_how_it_ended),
        TEST(faults_tell_tenants_only_what_nova_would),
        TEST(a_ping_goes_to_the_base_interface),
        TEST(the_release_is_read_from_what_conductor_supports),
        TEST(backporting_lends_the_object),
        TEST(servers_are_found_by_filters_and_by_the_time_they_existed),
        TEST(a_save_may_depend_on_the_state_of_the_server),
        TEST(the_log_of_a_period_is_one_for_each_host),
        TEST(an_action_that_may_have_begun_is_not_begun_again),
        TEST(ports_of_a_server_are_recorded),
        TEST(the_ports_of_a_server_are_listed),
        TEST(a_console_is_authorized_for_a_time),
        TEST(a_console_without_a_token_is_not_authorized),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

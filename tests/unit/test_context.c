/* link: rpc_objects base */
#include "rpc/objects/context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse(text, strlen(text), &json);

    assert_null(e);
    return json;
}

static struct rctx *user_context(void)
{
    CLEANUP(jv_putp)
    struct json_object *payload = parse(
        "{\"method\": \"m\", \"_context_request_id\": \"req-1\", \"_context_user_id\": \"u\","
        " \"_context_project_id\": \"p\", \"_context_auth_token\": \"t\","
        " \"_context_is_admin\": false, \"_context_roles\": [\"member\"],"
        " \"_context_service_catalog\": [{\"type\": \"network\"}], \"_context_later\": {\"k\": 1},"
        " \"_context_quota_class\": null, \"_context_trace_info\": {\"hmac\": \"x\"}}");

    return rctx_from_payload(payload);
}

static void what_came_is_sent_on_unchanged_but_for_the_profiler(void **state)
{
    CLEANUP(rctx_freep) struct rctx *c = user_context();
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();
    CLEANUP(jv_putp)
    struct json_object *want = parse(
        "{\"_context_request_id\": \"req-1\", \"_context_user_id\": \"u\","
        " \"_context_project_id\": \"p\", \"_context_auth_token\": \"t\","
        " \"_context_is_admin\": false, \"_context_roles\": [\"member\"],"
        " \"_context_service_catalog\": [{\"type\": \"network\"}], \"_context_later\": {\"k\": 1},"
        " \"_context_quota_class\": null}");

    (void)state;
    rctx_to_payload(c, payload, /* for_notification= */ false);
    assert_true(json_object_equal(payload, want));
    assert_string_equal(rctx_request_id(c), "req-1");
    assert_string_equal(rctx_user_id(c), "u");
    assert_string_equal(rctx_project_id(c), "p");
    assert_string_equal(rctx_auth_token(c), "t");
    assert_string_equal(rctx_service_catalog(c), "[{\"type\":\"network\"}]");
    assert_string_equal(rctx_log_text(c), "req-1 u p");
    assert_false(rctx_is_admin(c));
}

static void notifications_carry_no_credentials(void **state)
{
    CLEANUP(rctx_freep) struct rctx *c = user_context();
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();

    (void)state;
    rctx_to_payload(c, payload, /* for_notification= */ true);
    assert_false(json_object_object_get_ex(payload, "_context_auth_token", NULL));
    assert_false(json_object_object_get_ex(payload, "_context_service_catalog", NULL));
    assert_string_equal(json_object_get_string(jv_get(payload, "_context_request_id")), "req-1");
}

static void elevating_makes_an_admin_of_the_same_request(void **state)
{
    CLEANUP(rctx_freep) struct rctx *c = user_context();
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(c), *again = rctx_elevated(admin);
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();

    (void)state;
    rctx_to_payload(again, payload, /* for_notification= */ false);
    assert_true(rctx_is_admin(admin));
    assert_false(rctx_is_admin(c));
    assert_string_equal(rctx_request_id(admin), "req-1");
    assert_string_equal(
        json_object_to_json_string_ext(jv_get(payload, "_context_roles"), JSON_C_TO_STRING_PLAIN),
        "[\"member\",\"admin\"]");
}

static void an_admin_of_our_own_has_a_fresh_request_and_nothing_else(void **state)
{
    CLEANUP(rctx_freep) struct rctx *a = rctx_new_admin(), *b = rctx_new_admin();

    (void)state;
    assert_true(rctx_is_admin(a));
    assert_null(rctx_auth_token(a));
    assert_null(rctx_user_id(a));
    assert_string_not_equal(rctx_request_id(a), rctx_request_id(b));
    assert_int_equal(strlen(rctx_request_id(a)), 40);
    assert_true(str_ends(rctx_log_text(a), " - -"));
}

static void a_message_without_a_usable_context_gets_a_request_of_its_own(void **state)
{
    static const char *const payloads[] = {
        "{}",
        "null",
        "[]",
        "{\"_context_request_id\": null}",
        "{\"_context_request_id\": 5, \"_context_is_admin\": \"\", \"_context_roles\": 3}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
        CLEANUP(jv_putp) struct json_object *payload = parse(payloads[i]);
        CLEANUP(rctx_freep) struct rctx *c = rctx_from_payload(payload);
        CLEANUP(rctx_freep) struct rctx *ref = rctx_ref(c), *admin = rctx_elevated(c);

        assert_true(str_starts(rctx_request_id(ref), "req-"));
        assert_false(rctx_is_admin(c));
        assert_string_equal(rctx_request_id(admin), rctx_request_id(c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_came_is_sent_on_unchanged_but_for_the_profiler),
        cmocka_unit_test(notifications_carry_no_credentials),
        cmocka_unit_test(elevating_makes_an_admin_of_the_same_request),
        cmocka_unit_test(an_admin_of_our_own_has_a_fresh_request_and_nothing_else),
        cmocka_unit_test(a_message_without_a_usable_context_gets_a_request_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

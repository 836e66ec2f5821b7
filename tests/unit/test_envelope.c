/* link: rpc_amqp rpc_objects base */

#include "rpc/amqp/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static struct json_object *open_text(const char *body)
{
    struct json_object *v = NULL;

    assert_null(envelope_open(body, strlen(body), &v));
    return v;
}

static void assert_not_opened(const char *body)
{
    struct json_object *v = NULL;
    CLEANUP(err_freep) struct err *e = envelope_open(body, strlen(body), &v);

    assert_true(err_is(e, ERR_PARSE));
    assert_null(v);
}

/* Error or not: what there is of a request. */
static struct envelope_request read_request(const char *payload, struct err **ret)
{
    CLEANUP(jv_putp) struct json_object *v = open_text(payload);
    struct envelope_request r = {0};

    *ret = envelope_read_request(v, &r);
    return r;
}

/* ---- Envelope ---- */

static void what_is_sealed_is_opened(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *back = NULL;
    CLEANUP(freep) char *body = NULL;
    size_t len;

    (void)state;
    jv_add_str(v, "s", "\"quoted\" \\ / \n \x01 h\xc3\xa4 \xf0\x9f\x98\x80");
    jv_add_int(v, "n", -7);
    body = envelope_seal(v, &len);
    assert_int_equal(len, strlen(body));
    assert_null(envelope_open(body, len, &back));
    assert_true(json_object_equal(v, back));
}

static void a_bare_payload_is_version_1(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *v = open_text("{\"method\": \"m\", \"oslo.version\": \"2.0\"}");

    (void)state;
    assert_string_equal(json_object_get_string(jv_get(v, "method")), "m");
}

static void bytes_that_are_no_text_are_replaced(void **state)
{
    static const char *const bad[] = {
        "\xff", "a\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf5\x80\x80\x80", "\xe2\x82", "\x80"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(jv_putp) struct json_object *v = json_object_new_object();
        CLEANUP(jv_putp) struct json_object *back = NULL;
        CLEANUP(freep) char *body = NULL;
        size_t len;

        jv_add_str(v, "s", bad[i]);
        body = envelope_seal(v, &len);
        assert_null(envelope_open(body, len, &back));
        assert_non_null(strstr(json_object_get_string(jv_get(back, "s")), "\xef\xbf\xbd"));
    }
}

static void a_notification_may_travel_without_envelope(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = json_object_new_object();
    CLEANUP(freep) char *body = NULL;
    size_t len;

    (void)state;
    jv_add_int(v, "a", 1);
    body = envelope_seal_bare(v, &len);
    assert_string_equal(body, "{\"a\":1}");
    assert_int_equal(len, 7);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    assert_not_opened("");
    assert_not_opened("not json");
    assert_not_opened("[]");
    assert_not_opened("\"text\"");
    assert_not_opened("{\"oslo.version\": \"2.0\", \"oslo.message\": \"[]\"}");
    assert_not_opened("{\"oslo.version\": \"2.0\", \"oslo.message\": \"{\"}");
    assert_not_opened("{\"oslo.version\": \"2.0\", \"oslo.message\": {}}");
    assert_not_opened("{\"oslo.version\": \"2.1\", \"oslo.message\": \"{}\"}");
    assert_not_opened("{\"oslo.version\": \"3.0\", \"oslo.message\": \"{}\"}");
    assert_not_opened("{\"oslo.version\": 2.0, \"oslo.message\": \"{}\"}");
}

static void deep_nesting_is_refused(void **state)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    (void)state;
    for (int i = 0; i < 10000; i++) {
        strbuf_add(&b, "{\"a\":");
    }
    assert_not_opened(b.s);
}

/* ---- Compression ---- */

static void packed_bodies_are_unpacked(void **state)
{
    static const char text[] = "{\"method\": \"ping\"}";
    unsigned char packed[128];
    uLongf len = sizeof(packed);
    CLEANUP(freep) char *back = NULL;
    size_t back_len;

    (void)state;
    assert_int_equal(compress(packed, &len, (const Bytef *)text, strlen(text)), Z_OK);
    assert_null(
        envelope_inflate("application/x-gzip", (const char *)packed, len, 1000, &back, &back_len));
    assert_string_equal(back, text);
    assert_int_equal(back_len, strlen(text));
}

static void a_packed_bomb_is_refused(void **state)
{
    const size_t size = 1 << 20;
    CLEANUP(freep) char *zeros = mem_alloc(size);
    CLEANUP(freep) unsigned char *packed = mem_alloc(size);
    CLEANUP(err_freep) struct err *e = NULL;
    uLongf len = size;
    char *back = NULL;
    size_t back_len;

    (void)state;
    assert_int_equal(compress(packed, &len, (const Bytef *)zeros, size), Z_OK);
    e = envelope_inflate("application/x-gzip", (const char *)packed, len, 65536, &back, &back_len);
    assert_true(err_is(e, ERR_PARSE));
    assert_null(back);
}

static void damaged_and_foreign_packing_is_refused(void **state)
{
    static const char *const rows[][2] = {
        {"application/x-gzip", "junk"}, {"application/x-gzip", ""}, {"application/x-bz2", "BZh9"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char *back = NULL;
        size_t len;
        CLEANUP(err_freep)
        struct err *e =
            envelope_inflate(rows[i][0], rows[i][1], strlen(rows[i][1]), 100, &back, &len);

        assert_true(err_is(e, ERR_PARSE));
    }
}

/* ---- Requests ---- */

static void a_call_is_read(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(envelope_request_fini)
    struct envelope_request r = read_request(
        "{\"method\": \"m\", \"args\": {\"a\": 1}, \"version\": \"6.0\", \"namespace\": \"n\","
        " \"_msg_id\": \"id\", \"_reply_q\": \"q\", \"_timeout\": 60, \"_unique_id\": \"u\"}",
        &e);

    (void)state;
    assert_null(e);
    assert_string_equal(r.method, "m");
    assert_string_equal(r.namespace_, "n");
    assert_string_equal(r.version, "6.0");
    assert_string_equal(r.msg_id, "id");
    assert_string_equal(r.reply_q, "q");
    assert_string_equal(r.unique_id, "u");
    assert_int_equal(r.beat_ms, 30000);
    assert_int_equal(json_object_get_int(jv_get(r.args, "a")), 1);
}

static void a_cast_has_defaults(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(envelope_request_fini)
    struct envelope_request r = read_request("{\"method\": \"m\"}", &e);

    (void)state;
    assert_null(e);
    assert_string_equal(r.version, "1.0");
    assert_null(r.namespace_);
    assert_null(r.msg_id);
    assert_int_equal(r.beat_ms, 0);
    assert_int_equal(json_object_object_length(r.args), 0);
}

static void life_is_shown_only_at_sensible_intervals(void **state)
{
    static const struct {
        const char *timeout;
        int64_t ms;
    } rows[] = {{"null", 0},
                {"0", 0},
                {"1", 0},
                {"2", 1000},
                {"3", 1500},
                {"-5", 0},
                {"60.9", 30000},
                {"\"60\"", 30000},
                {"\"soon\"", 0},
                {"[]", 0},
                {"1e30", INT32_MAX * INT64_C(500)}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(freep)
        char *text = str_printf("{\"method\": \"m\", \"_timeout\": %s}", rows[i].timeout);
        CLEANUP(err_freep) struct err *e = NULL;
        CLEANUP(envelope_request_fini) struct envelope_request r = read_request(text, &e);

        assert_int_equal(r.beat_ms, rows[i].ms);
    }
}

static void a_bad_call_can_still_be_answered(void **state)
{
    static const char *const bad[] = {
        "\"args\": {}",
        "\"method\": 5",
        "\"method\": \"\"",
        "\"method\": \"m\\u0000x\"",
        "\"method\": \"m\", \"args\": []",
        "\"method\": \"m\", \"args\": \"x\"",
        "\"method\": \"m\", \"version\": 6.0",
        "\"method\": \"m\", \"namespace\": {}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep)
        char *text = str_printf("{%s, \"_msg_id\": \"id\", \"_reply_q\": \"q\"}", bad[i]);
        CLEANUP(err_freep) struct err *e = NULL;
        CLEANUP(envelope_request_fini) struct envelope_request r = read_request(text, &e);

        assert_true(err_is(e, ERR_PARSE));
        assert_string_equal(r.msg_id, "id");
        assert_string_equal(r.reply_q, "q");
    }
}

static void a_call_without_reply_queue_is_refused(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(envelope_request_fini)
    struct envelope_request r = read_request("{\"method\": \"m\", \"_msg_id\": \"id\"}", &e);

    (void)state;
    assert_true(err_is(e, ERR_PARSE));
    assert_null(r.reply_q);
}

/* ---- Failures and replies ---- */

static struct json_object *failure_of(struct err *consumed)
{
    CLEANUP(err_freep) struct err *e = consumed;
    CLEANUP(freep) char *text = envelope_write_failure(e);
    struct json_object *v = NULL;

    assert_null(jv_parse(text, strlen(text), &v));
    return v;
}

static const char *str_at(struct json_object *v, const char *key)
{
    return json_object_get_string(jv_get(v, key));
}

static void nova_exceptions_carry_text_keywords_and_code(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *v = failure_of(
        err_context(err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "abc", NULL), "looking"));

    (void)state;
    assert_string_equal(str_at(v, "class"), "InstanceNotFound");
    assert_string_equal(str_at(v, "module"), "nova.exception");
    assert_string_equal(str_at(v, "message"), "Instance abc could not be found.");
    assert_string_equal(str_at(v, "args"), "[ \"Instance abc could not be found.\" ]");
    assert_string_equal(str_at(jv_get(v, "kwargs"), "instance_id"), "abc");
    assert_int_equal(json_object_get_int(jv_get(jv_get(v, "kwargs"), "code")), 404);
    assert_int_equal(json_object_array_length(jv_get(v, "tb")), 1);
    assert_non_null(strstr(str_at(v, "tb"), "looking"));
}

static void builtin_exceptions_take_no_keywords(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = failure_of(err_msg(ERR_NOT_IMPLEMENTED, "not here"));

    (void)state;
    assert_string_equal(str_at(v, "module"), "builtins");
    assert_int_equal(json_object_object_length(jv_get(v, "kwargs")), 0);
}

static void an_exception_survives_the_way_there_and_back(void **state)
{
    CLEANUP(err_freep)
    struct err *sent = err_new(ERR_UNEXPECTED_TASK_STATE, "instance_uuid", "u", "expected", "None",
                               "actual", "deleting", NULL);
    CLEANUP(freep) char *text = envelope_write_failure(sent);
    CLEANUP(err_freep) struct err *back = envelope_read_failure(text);

    (void)state;
    assert_true(err_is(back, ERR_UNEXPECTED_TASK_STATE));
    assert_string_equal(err_message(back), err_message(sent));
    assert_string_equal(err_get(back, "actual"), "deleting");
}

static void an_unreadable_failure_is_still_a_failure(void **state)
{
    static const char *const bad[] = {"", "x", "{}", "[]", "{\"class\": 1}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(err_freep) struct err *e = envelope_read_failure(bad[i]);

        assert_true(err_is(e, ERR_REMOTE));
    }
}

static struct envelope_reply reply_of(struct json_object *result, const struct err *failure,
                                      bool is_ending)
{
    CLEANUP(jv_putp) struct json_object *v = NULL;
    CLEANUP(freep) char *body = NULL;
    struct envelope_reply r = {0};
    size_t len;

    body = envelope_write_reply("id", result, failure, is_ending, &len);
    assert_null(envelope_open(body, len, &v));
    assert_int_equal(json_object_object_length(v), 5);
    assert_null(envelope_read_reply(v, &r));
    return r;
}

static void a_reply_has_five_keys_and_is_read_back(void **state)
{
    CLEANUP(err_freep) struct err *e = err_msg(ERR_NOT_IMPLEMENTED, "no");
    CLEANUP(envelope_reply_fini)
    struct envelope_reply good = reply_of(json_object_new_int(5), NULL, true);
    CLEANUP(envelope_reply_fini) struct envelope_reply bad = reply_of(NULL, e, true);
    CLEANUP(envelope_reply_fini) struct envelope_reply life = reply_of(NULL, NULL, false);

    (void)state;
    assert_string_equal(good.msg_id, "id");
    assert_int_equal(json_object_get_int(good.result), 5);
    assert_null(good.failure);
    assert_true(good.is_ending);
    assert_true(err_is(bad.failure, ERR_NOT_IMPLEMENTED));
    assert_null(bad.result);
    assert_false(life.is_ending);
    assert_null(life.failure);
}

static void a_reply_to_nothing_is_refused(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = open_text("{\"result\": 1, \"ending\": true}");
    struct envelope_reply r = {0};
    CLEANUP(err_freep) struct err *e = envelope_read_reply(v, &r);

    (void)state;
    assert_true(err_is(e, ERR_PARSE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_is_opened),
        cmocka_unit_test(a_bare_payload_is_version_1),
        cmocka_unit_test(bytes_that_are_no_text_are_replaced),
        cmocka_unit_test(a_notification_may_travel_without_envelope),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(packed_bodies_are_unpacked),
        cmocka_unit_test(a_packed_bomb_is_refused),
        cmocka_unit_test(damaged_and_foreign_packing_is_refused),
        cmocka_unit_test(a_call_is_read),
        cmocka_unit_test(a_cast_has_defaults),
        cmocka_unit_test(life_is_shown_only_at_sensible_intervals),
        cmocka_unit_test(a_bad_call_can_still_be_answered),
        cmocka_unit_test(a_call_without_reply_queue_is_refused),
        cmocka_unit_test(nova_exceptions_carry_text_keywords_and_code),
        cmocka_unit_test(builtin_exceptions_take_no_keywords),
        cmocka_unit_test(an_exception_survives_the_way_there_and_back),
        cmocka_unit_test(an_unreadable_failure_is_still_a_failure),
        cmocka_unit_test(a_reply_has_five_keys_and_is_read_back),
        cmocka_unit_test(a_reply_to_nothing_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

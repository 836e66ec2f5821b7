/* link: vif */

#include "vif/jsonrpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Feeds a stream in pieces of a size; the texts of the messages joined by blanks. */
static struct err *cut(const char *stream, size_t piece, char **ret)
{
    CLEANUP(jsonrpc_in_reset) struct jsonrpc_in in = {0};
    CLEANUP(strv_fini) struct strv texts = {0};

    for (size_t i = 0; i < strlen(stream); i += piece) {
        const char *bytes = stream + i;
        size_t len = MIN(piece, strlen(stream) - i);
        struct json_object *message;

        for (;;) {
            TRY(jsonrpc_in_feed(&in, &bytes, &len, &message));
            if (!message) {
                break;
            }
            strv_add_take(&texts, jv_text(message));
            json_object_put(message);
        }
        assert_int_equal(len, 0);
    }
    *ret = strv_join(&texts, " ");
    return NULL;
}

static void messages_are_found_in_whatever_pieces_they_come(void **state)
{
    static const char stream[] = "{\"a\":[1,{}]}{\"b\":\"}\\\"{\xc3\xa4\"}\n {}{\"c\\\\\":null}";
    static const char expected[] = "{\"a\":[1,{}]} {\"b\":\"}\\\"{\xc3\xa4\"} {} {\"c\\\\\":null}";

    (void)state;
    for (size_t piece = 1; piece <= strlen(stream); piece++) {
        CLEANUP(freep) char *texts = NULL;

        assert_null(cut(stream, piece, &texts));
        assert_string_equal(texts, expected);
    }
}

static void half_a_message_is_no_message(void **state)
{
    CLEANUP(freep) char *texts = NULL;

    (void)state;
    assert_null(cut("{\"a\":1}{\"b\":", 5, &texts));
    assert_string_equal(texts, "{\"a\":1}");
}

static void what_is_no_message_is_an_error(void **state)
{
    static const char *const streams[] = {
        "x", "[1]", "{]", "{\"a\":}", "{}1", "{\"a\":\"\xff\"}", "\"{}\""};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        CLEANUP(freep) char *texts = NULL;
        CLEANUP(err_freep) struct err *e = cut(streams[i], 3, &texts);

        assert_true(err_is(e, ERR_PARSE));
    }
}

static void a_message_may_not_grow_for_ever(void **state)
{
    CLEANUP(jsonrpc_in_reset) struct jsonrpc_in in = {0};
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(freep) char *blanks = mem_alloc(1 << 20);
    struct json_object *message;
    const char *bytes = "{";
    size_t len = 1, total = 0;

    (void)state;
    memset(blanks, ' ', 1 << 20);
    assert_null(jsonrpc_in_feed(&in, &bytes, &len, &message));
    while (!e && total < 2 * JSONRPC_MAX_SIZE) {
        bytes = blanks;
        len = 1 << 20;
        total += len;
        e = jsonrpc_in_feed(&in, &bytes, &len, &message);
    }
    assert_true(err_is(e, ERR_PARSE));
    assert_true(total <= JSONRPC_MAX_SIZE);
}

static void requests_and_replies_have_all_their_members(void **state)
{
    CLEANUP(freep)
    char *request = jsonrpc_request("echo", json_object_new_array(), json_object_new_int(7));
    CLEANUP(freep) char *reply = jsonrpc_reply(json_object_new_array(), NULL);

    (void)state;
    assert_string_equal(request, "{\"method\":\"echo\",\"params\":[],\"id\":7}");
    assert_string_equal(reply, "{\"result\":[],\"error\":null,\"id\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_found_in_whatever_pieces_they_come),
        cmocka_unit_test(half_a_message_is_no_message),
        cmocka_unit_test(what_is_no_message_is_an_error),
        cmocka_unit_test(a_message_may_not_grow_for_ever),
        cmocka_unit_test(requests_and_replies_have_all_their_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

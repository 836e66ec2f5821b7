/* link: rpc_rest rpc_objects base */
#include "rpc/rest/http.h"
#include "rpc/rest/session_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void all_but_unreserved_characters_are_quoted(void **state)
{
    CLEANUP(freep) char *q = rest_quote("aZ09-._~ /?&=%:,\xc3\xa4");

    (void)state;
    assert_string_equal(q, "aZ09-._~%20%2F%3F%26%3D%25%3A%2C%C3%A4");
}

static void check_text(const char *json, const char *text, const char *expected)
{
    struct rest_response resp = {.status = 500, .text = str_dup(text)};

    if (json) {
        assert_null(jv_parse(json, strlen(json), &resp.body));
    }
    assert_string_equal(rest_error_text(&resp), expected);
    rest_response_fini(&resp);
}

static void every_service_s_own_words_are_found(void **state)
{
    (void)state;
    check_text("{\"errors\":[{\"status\":409,\"detail\":\"conflict\"}]}", "raw", "conflict");
    check_text("{\"NeutronError\":{\"type\":\"T\",\"message\":\"no port\"}}", "raw", "no port");
    check_text("{\"NeutronError\":\"in short\"}", "raw", "in short");
    check_text("{\"error\":{\"code\":401,\"message\":\"sign in\"}}", "raw", "sign in");
    check_text("{\"itemNotFound\":{\"message\":\"no volume\"}}", "raw", "no volume");
    check_text("{\"errors\":[]}", "raw", "raw");
    check_text("[1]", "raw", "raw");
    check_text(NULL, "<html>", "<html>");
}

static void statuses_become_kinds_of_errors(void **state)
{
    static const struct {
        long status;
        enum err_kind kind;
    } rows[] = {{401, ERR_UNAUTHORIZED}, {403, ERR_FORBIDDEN}, {404, ERR_NOT_FOUND},
                {409, ERR_CONFLICT},     {400, ERR_HTTP},      {301, ERR_HTTP},
                {503, ERR_HTTP}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(err_freep)
        struct err *e =
            rest_error(&(struct rest_request){.method = "GET", .path = "/x"},
                       &(struct rest_response){.status = rows[i].status, .text = "why"});

        assert_true(err_is(e, rows[i].kind));
        assert_non_null(strstr(err_message(e), "GET /x answered"));
        assert_non_null(strstr(err_message(e), "why"));
    }
}

static void an_unknown_section_is_refused(void **state)
{
    struct rest_conf conf = {.section = "vitrage", .service_type = str_dup("rca")};
    struct rest_session *s = NULL;
    CLEANUP(err_freep) struct err *e = rest_session_from_conf(&conf, &s);

    (void)state;
    assert_true(err_is(e, ERR_CONFIG));
    assert_null(s);
}

static void a_header_with_a_line_break_is_not_sent(void **state)
{
    CLEANUP(strv_fini) struct strv header = {0};
    struct http_response resp = {0};

    (void)state;
    strv_add(&header, "X-Auth-Token: a\r\nHost: b");
    CLEANUP(err_freep)
    struct err *e = http_send(
        &(struct http_request){.method = "GET", .url = "http://127.0.0.1:1", .header = &header},
        &resp);

    assert_true(err_is(e, ERR_HTTP));
    assert_non_null(strstr(err_message(e), "control character"));
}

static void other_protocols_are_not_spoken(void **state)
{
    struct http_response resp = {0};
    CLEANUP(err_freep)
    struct err *e =
        http_send(&(struct http_request){.method = "GET", .url = "file:///etc/hostname"}, &resp);

    (void)state;
    assert_true(err_is(e, ERR_HTTP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_but_unreserved_characters_are_quoted),
        cmocka_unit_test(every_service_s_own_words_are_found),
        cmocka_unit_test(statuses_become_kinds_of_errors),
        cmocka_unit_test(an_unknown_section_is_refused),
        cmocka_unit_test(a_header_with_a_line_break_is_not_sent),
        cmocka_unit_test(other_protocols_are_not_spoken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

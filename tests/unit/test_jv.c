/* link: base */
#include "base/jv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct json_object *parsed(const char *text)
{
    struct json_object *v = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse(text, strlen(text), &v);

    if (e) {
        fail_msg("%s: %s", text, err_message(e));
    }
    return v;
}

static void assert_rejected(const char *text, size_t len)
{
    struct json_object *untouched = (struct json_object *)&untouched, *v = untouched;
    CLEANUP(err_freep) struct err *e = jv_parse(text, len, &v);

    if (!err_is(e, ERR_PARSE)) {
        fail_msg("accepted: %s", text);
    }
    assert_ptr_equal(v, untouched);
}

static void values_come_back_as_they_went_in(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "null",
        "true",
        "12",
        "-1.5",
        "\"a/b\\u0001\"",
        "18446744073709551615",
        "\"\xc3\xa9\"",
        "{\"a\":[1,{\"b\":null}],\"c\":0.1}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(jv_putp) struct json_object *v = parsed(texts[i]);
        CLEANUP(freep) char *text = jv_text(v);

        assert_string_equal(text, texts[i]);
    }
}

static void white_space_around_a_value_is_fine(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = parsed(" \n{ \"a\" : 1 }\r\n");
    CLEANUP(jv_putp) struct json_object *n = parsed(" 12 ");

    (void)state;
    assert_int_equal(json_object_get_int(jv_get(v, "a")), 1);
    assert_int_equal(json_object_get_int(n), 12);
}

static void what_is_not_json_is_rejected(void **state)
{
    static const char *const texts[] = {
        "",           " ",        "{",     "{}x",          "{}{}",      "[1,]",
        "{\"a\":1,}", "NaN",      "[NaN]", "Infinity",     "-Infinity", "{\"a\":1e999}",
        "'a'",        "{a:1}",    "tru",   "\"abc",        "\"\xff\"",  "\"\xc3\"",
        "[1 2]",      "/* c */1", "01x",   "\"\\ud800\"x",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_rejected(texts[i], strlen(texts[i]));
    }
    assert_rejected("{}\0{}", 5);
    assert_rejected("12\0", 3);
    assert_rejected("\0", 1);
}

static void depth_is_bounded(void **state)
{
    char text[2 * JV_MAX_DEPTH + 3] = {0};
    size_t half = JV_MAX_DEPTH + 1;

    (void)state;
    memset(text, '[', half);
    memset(text + half, ']', half);
    assert_rejected(text, 2 * half);
    text[2 * half - 1] = '\0';
    json_object_put(parsed(text + 1));
}

static void length_decides_not_the_nul(void **state)
{
    struct json_object *v = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse("[1]garbage", 3, &v);

    (void)state;
    assert_null(e);
    json_object_put(v);
}

static void a_reader_reads_what_is_there(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *v = parsed("{\"s\":\"x\",\"i\":-7,\"d\":1.5,\"b\":true,\"o\":{},\"a\":[]}");
    struct jv_reader r = jv_reader_init(v, "thing");
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    assert_string_equal(jv_str(&r, "s"), "x");
    assert_string_equal(jv_str_or(&r, "s", "y"), "x");
    assert_int_equal(jv_int(&r, "i"), -7);
    assert_int_equal(jv_int_or(&r, "i", 1), -7);
    assert_true(jv_double_or(&r, "d", 0) == 1.5);
    assert_true(jv_double_or(&r, "i", 0) == -7);
    assert_true(jv_bool_or(&r, "b", false));
    assert_non_null(jv_obj(&r, "o"));
    assert_non_null(jv_obj_or(&r, "o"));
    assert_non_null(jv_arr(&r, "a"));
    assert_non_null(jv_arr_or(&r, "a"));
    e = jv_finish(&r);
    assert_null(e);
}

static void defaults_stand_for_missing_and_null(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = parsed("{\"n\":null}");
    struct jv_reader r = jv_reader_init(v, "thing");
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    assert_string_equal(jv_str_or(&r, "n", "y"), "y");
    assert_int_equal(jv_int_or(&r, "m", 5), 5);
    assert_true(jv_double_or(&r, "m", 2.5) == 2.5);
    assert_true(jv_bool_or(&r, "n", true));
    assert_null(jv_obj_or(&r, "m"));
    assert_null(jv_arr_or(&r, "n"));
    e = jv_finish(&r);
    assert_null(e);
}

static void the_first_error_is_kept(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = parsed("{\"n\":null,\"i\":1}");
    struct jv_reader r = jv_reader_init(v, "port binding");
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    assert_null(jv_str(&r, "status"));
    assert_null(jv_obj(&r, "n"));
    assert_int_equal(jv_int(&r, "i"), 0);
    e = jv_finish(&r);
    assert_true(err_is(e, ERR_PARSE));
    assert_string_equal(err_message(e), "port binding: 'status' is missing");
}

static void a_wrong_type_is_an_error_even_with_a_default(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = parsed("{\"i\":\"1\"}");
    struct jv_reader r = jv_reader_init(v, "x");
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    assert_int_equal(jv_int_or(&r, "i", 3), 3);
    e = jv_finish(&r);
    assert_string_equal(err_message(e), "x: 'i' is string, not int");
}

static void reading_what_is_no_object_fails(void **state)
{
    struct jv_reader r = jv_reader_init(NULL, "reply");
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    assert_int_equal(jv_int_or(&r, "i", 3), 3);
    e = jv_finish(&r);
    assert_string_equal(err_message(e), "reply: null, not an object");
}

static void values_that_c_cannot_hold_are_errors(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *v = parsed("{\"big\":9223372036854775808,\"nul\":\"a\\u0000b\"}");
    struct jv_reader big = jv_reader_init(v, "x"), nul = jv_reader_init(v, "x");
    CLEANUP(err_freep) struct err *big_error = NULL;
    CLEANUP(err_freep) struct err *nul_error = NULL;

    (void)state;
    assert_int_equal(jv_int(&big, "big"), 0);
    big_error = jv_finish(&big);
    assert_string_equal(err_message(big_error), "x: 'big' is out of range");
    assert_null(jv_str(&nul, "nul"));
    nul_error = jv_finish(&nul);
    assert_string_equal(err_message(nul_error), "x: 'nul' has a NUL inside");
}

static void copies_are_deep(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = parsed("{\"a\":{\"b\":1}}");
    CLEANUP(jv_putp) struct json_object *copy = jv_dup(v);
    CLEANUP(freep) char *text = NULL;

    (void)state;
    jv_add_str(jv_get(v, "a"), "b", "changed");
    text = jv_text(copy);
    assert_string_equal(text, "{\"a\":{\"b\":1}}");
    assert_null(jv_dup(NULL));
}

static void objects_are_built(void **state)
{
    CLEANUP(jv_putp) struct json_object *v = json_object_new_object();
    CLEANUP(freep) char *text = NULL;

    (void)state;
    jv_add_str(v, "s", "x");
    jv_add_str(v, "n", NULL);
    jv_add_int(v, "i", INT64_MIN);
    jv_add_bool(v, "b", true);
    jv_add(v, "a", json_object_new_array());
    text = jv_text(v);
    assert_string_equal(text,
                        "{\"s\":\"x\",\"n\":null,\"i\":-9223372036854775808,\"b\":true,\"a\":[]}");
    assert_null(jv_get(jv_get(v, "a"), "x"));
    assert_null(jv_get(NULL, "x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_as_they_went_in),
        cmocka_unit_test(white_space_around_a_value_is_fine),
        cmocka_unit_test(what_is_not_json_is_rejected),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(length_decides_not_the_nul),
        cmocka_unit_test(a_reader_reads_what_is_there),
        cmocka_unit_test(defaults_stand_for_missing_and_null),
        cmocka_unit_test(the_first_error_is_kept),
        cmocka_unit_test(a_wrong_type_is_an_error_even_with_a_default),
        cmocka_unit_test(reading_what_is_no_object_fails),
        cmocka_unit_test(values_that_c_cannot_hold_are_errors),
        cmocka_unit_test(copies_are_deep),
        cmocka_unit_test(objects_are_built),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

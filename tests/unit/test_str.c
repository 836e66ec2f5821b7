/* link: base */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static void null_is_copied_as_null(void **state)
{
    (void)state;
    assert_null(str_dup(NULL));
    assert_null(str_ndup(NULL, 3));
}

static void a_part_ends_at_the_end_of_the_string(void **state)
{
    CLEANUP(freep) char *whole = str_ndup("ab", 10);
    CLEANUP(freep) char *part = str_ndup("abc", 1);

    (void)state;
    assert_string_equal(whole, "ab");
    assert_string_equal(part, "a");
}

static void formatting_has_no_limit(void **state)
{
    CLEANUP(freep) char *s = str_printf("%5000d", 7);

    (void)state;
    assert_int_equal(strlen(s), 5000);
    assert_int_equal(s[4999], '7');
}

static void comparing_takes_null(void **state)
{
    (void)state;
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_false(str_eq("", NULL));
    assert_true(str_eq("a", "a"));
    assert_false(str_eq("a", "A"));
    assert_true(str_ieq("a", "A"));
    assert_true(str_ieq(NULL, NULL));
    assert_false(str_ieq("a", NULL));
}

static void beginnings_and_ends_are_found(void **state)
{
    (void)state;
    assert_true(str_starts("compute.host", "compute."));
    assert_false(str_starts("comp", "compute."));
    assert_false(str_starts(NULL, "x"));
    assert_true(str_ends("disk.config", ".config"));
    assert_false(str_ends("g", ".config"));
    assert_false(str_ends(NULL, ""));
    assert_true(str_is_empty(NULL));
    assert_true(str_is_empty(""));
    assert_false(str_is_empty(" "));
}

static void a_string_is_replaced_by_a_part_of_itself(void **state)
{
    char *s = str_dup("abcdef");

    (void)state;
    str_set(&s, s + 3);
    assert_string_equal(s, "def");
    str_set(&s, NULL);
    assert_null(s);
}

static void stripping_takes_white_space_only(void **state)
{
    char s[] = " \t a b\r\n", blank[] = " \n";

    (void)state;
    assert_string_equal(str_strip(s), "a b");
    assert_string_equal(str_strip(blank), "");
}

static void numbers_are_whole_and_alone(void **state)
{
    static const char *const bad[] = {
        NULL, "", "-", "+1", " 1", "1 ", "1x", "0x10", "1.0", "--1", "99999999999999999999",
    };
    int64_t i = 42;
    uint64_t u = 42;

    (void)state;
    for (size_t n = 0; n < ARRAY_SIZE(bad); n++) {
        assert_false(str_to_i64(bad[n], &i));
        assert_false(str_to_u64(bad[n], &u));
    }
    assert_false(str_to_u64("-1", &u));
    assert_int_equal(i, 42);
    assert_int_equal(u, 42);

    assert_true(str_to_i64("-9223372036854775808", &i));
    assert_true(i == INT64_MIN);
    assert_true(str_to_u64("18446744073709551615", &u));
    assert_true(u == UINT64_MAX);
    assert_true(str_to_i64("007", &i));
    assert_int_equal(i, 7);
}

static void doubles_are_finite_and_alone(void **state)
{
    static const char *const bad[] = {
        NULL, "", " 1", "1 ", "nan", "inf", "-inf", "0x1p3", "1e999", "-1e999", "+1", "e", "1..2",
    };
    double d = 42;

    (void)state;
    for (size_t n = 0; n < ARRAY_SIZE(bad); n++) {
        assert_false(str_to_double(bad[n], &d));
    }
    assert_true(d == 42);
    assert_true(str_to_double("1.5", &d));
    assert_true(d == 1.5);
    assert_true(str_to_double("-1e-400", &d));
    assert_true(d == 0);
    assert_true(str_to_double("16", &d));
    assert_true(d == 16);
}

static void a_buffer_grows(void **state)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};
    CLEANUP(freep) char *s = NULL;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        strbuf_addf(&b, "%d", i % 10);
        strbuf_addc(&b, ',');
        strbuf_add(&b, "");
        strbuf_add_mem(&b, "xyz", 1);
    }
    assert_int_equal(b.len, 3000);
    assert_int_equal(strlen(b.s), 3000);
    s = strbuf_take(&b);
    assert_memory_equal(s + 2994, "8,x9,x", 7);
    assert_null(b.s);
}

static void an_empty_buffer_gives_an_empty_string(void **state)
{
    struct strbuf b = {0};
    CLEANUP(freep) char *s = strbuf_take(&b);

    (void)state;
    assert_string_equal(s, "");
}

static void a_list_is_always_terminated(void **state)
{
    CLEANUP(strv_fini) struct strv v = {0};

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        strv_add_take(&v, str_printf("%02zu", 99 - i));
        assert_int_equal(v.n, i + 1);
        assert_null(v.items[v.n]);
    }
    strv_sort(&v);
    assert_string_equal(v.items[0], "00");
    assert_string_equal(v.items[99], "99");
    assert_true(strv_has(&v, "50"));
    assert_false(strv_has(&v, "5"));
}

static void splitting_leaves_empty_parts_out(void **state)
{
    CLEANUP(strv_fini) struct strv v = strv_split(", a b ,;c,, ", ",;");
    CLEANUP(strv_fini) struct strv none = strv_split(" , ", ",");
    CLEANUP(strv_fini) struct strv null = strv_split(NULL, ",");
    CLEANUP(freep) char *joined = strv_join(&v, "|");
    CLEANUP(freep) char *empty = strv_join(&none, "|");

    (void)state;
    assert_string_equal(joined, "a b|c");
    assert_string_equal(empty, "");
    assert_int_equal(null.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_is_copied_as_null),
        cmocka_unit_test(a_part_ends_at_the_end_of_the_string),
        cmocka_unit_test(formatting_has_no_limit),
        cmocka_unit_test(comparing_takes_null),
        cmocka_unit_test(beginnings_and_ends_are_found),
        cmocka_unit_test(a_string_is_replaced_by_a_part_of_itself),
        cmocka_unit_test(stripping_takes_white_space_only),
        cmocka_unit_test(numbers_are_whole_and_alone),
        cmocka_unit_test(doubles_are_finite_and_alone),
        cmocka_unit_test(a_buffer_grows),
        cmocka_unit_test(an_empty_buffer_gives_an_empty_string),
        cmocka_unit_test(a_list_is_always_terminated),
        cmocka_unit_test(splitting_leaves_empty_parts_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

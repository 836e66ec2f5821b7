/* link: base */
#include "base/ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a text says, as "section/key=value@line" joined by '|'; then its problems, joined by '|'. */
static char *parse_n(const char *text, size_t len)
{
    CLEANUP(ini_fini) struct ini ini = {0};
    CLEANUP(strv_fini) struct strv problems = {0};
    struct strbuf out = {0};

    ini_parse(text, len, "f", &ini, &problems);
    for (size_t i = 0; i < ini.n; i++) {
        strbuf_addf(&out, "%s%s/%s=%s@%u", i ? "|" : "", ini.items[i].section, ini.items[i].key,
                    ini.items[i].value, ini.items[i].line);
    }
    for (size_t i = 0; i < problems.n; i++) {
        strbuf_addf(&out, "%s%s", out.len ? "|" : "", problems.items[i]);
    }
    return strbuf_take(&out);
}

static void check(const char *text, const char *expected)
{
    CLEANUP(freep) char *got = parse_n(text, strlen(text));

    assert_string_equal(got, expected);
}

static void options_have_their_section_and_line(void **state)
{
    (void)state;
    check("", "");
    check("[a]\nx=1\n\n[b]\n# no\ny : 2\n", "a/x=1@2|b/y=2@6");
    check("[a]\nx=1\nx=2\n", "a/x=1@2|a/x=2@3");
}

static void the_first_of_colon_and_equals_separates(void **state)
{
    (void)state;
    check("[a]\nurl: http://h?a=b\n", "a/url=http://h?a=b@2");
    check("[a]\nurl = http://h:1\n", "a/url=http://h:1@2");
}

static void indented_lines_continue_a_value(void **state)
{
    (void)state;
    check("[a]\nx = 1\n  2\n\t3\ny = 4\n", "a/x=1\n2\n3@2|a/y=4@5");
    check("[a]\nx =\n  2\n", "a/x=\n2@2");
}

static void a_blank_line_or_a_comment_ends_a_value(void **state)
{
    (void)state;
    check("[a]\nx = 1\n\n  2\n", "a/x=1@2|f:4: an indented line continues nothing");
    check("[a]\nx = 1\n#\n  2\n", "a/x=1@2|f:4: an indented line continues nothing");
    check("[a]\nx = 1\n  # 2\n", "a/x=1\n# 2@2");
}

static void quotes_around_a_whole_value_are_taken_off(void **state)
{
    (void)state;
    check("[a]\nx = \" b \"\n", "a/x= b @2");
    check("[a]\nx = 'b\n", "a/x='b@2");
    check("[a]\nx = \"\n", "a/x=@2");
    check("[a]\nx = ''b''\n", "a/x='b'@2");
}

static void lines_end_in_every_way(void **state)
{
    (void)state;
    check("[a]\r\nx=1\r\ry=2", "a/x=1@2|a/y=2@4");
}

static void every_wrong_line_is_told(void **state)
{
    (void)state;
    check("x=1\n[a\n[]\n=1\noops\n", "f:1: a section must come before the first option|"
                                     "f:2: a section must end with ']', and nothing may follow it|"
                                     "f:3: a section has no name|"
                                     "f:4: there is no name before the '=' or ':'|"
                                     "f:5: neither a section nor a comment, and no '=' or ':'");
}

static void what_is_no_text_is_told_once(void **state)
{
    CLEANUP(freep) char *nul = parse_n("[a]\nx=1\0\ny=2\n", 13);

    (void)state;
    check("[a]\nx = \xff\ny = \xfe\n", "f:2: this is not UTF-8");
    check("[a]\nx = \xed\xa0\x80\n", "f:2: this is not UTF-8");
    check("[a]\nx = \xf4\x90\x80\x80\n", "f:2: this is not UTF-8");
    check("[a]\nx = \xe2\x82", "f:2: this is not UTF-8");
    assert_string_equal(nul, "f:2: there is a NUL byte");
}

static void a_hopeless_file_is_not_told_line_by_line(void **state)
{
    CLEANUP(strv_fini) struct strv problems = {0};
    CLEANUP(ini_fini) struct ini ini = {0};
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = i % 2 ? '\n' : 'x';
    }
    ini_parse(text, sizeof(text), "f", &ini, &problems);
    assert_int_equal(problems.n, 21);
    assert_string_equal(problems.items[20], "f: and 80 more");
}

static void spaces_of_unicode_are_stripped(void **state)
{
    char text[] = "\xc2\xa0 \xe3\x80\x80x \xe2\x80\x83y\xe2\x80\xa8\x1f";
    char spaces[] = " \xc2\x85\t";
    char bytes[] = "\x85\xa0";

    (void)state;
    assert_string_equal(ini_strip(text), "x \xe2\x80\x83y");
    assert_string_equal(ini_strip(spaces), "");
    assert_string_equal(ini_strip(bytes), "\x85\xa0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_have_their_section_and_line),
        cmocka_unit_test(the_first_of_colon_and_equals_separates),
        cmocka_unit_test(indented_lines_continue_a_value),
        cmocka_unit_test(a_blank_line_or_a_comment_ends_a_value),
        cmocka_unit_test(quotes_around_a_whole_value_are_taken_off),
        cmocka_unit_test(lines_end_in_every_way),
        cmocka_unit_test(every_wrong_line_is_told),
        cmocka_unit_test(what_is_no_text_is_told_once),
        cmocka_unit_test(a_hopeless_file_is_not_told_line_by_line),
        cmocka_unit_test(spaces_of_unicode_are_stripped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

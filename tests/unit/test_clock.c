/* link: base */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <regex.h>
#include <stdlib.h>
#include <string.h>

static int matches(const char *s, const char *pattern)
{
    regex_t re;
    int result;

    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    result = regexec(&re, s, 0, NULL, 0);
    regfree(&re);
    return result == 0;
}

static void time_does_not_go_back(void **state)
{
    int64_t before = clock_ms();

    (void)state;
    assert_true(clock_ms() >= before);
    assert_true(clock_wall_us() > INT64_C(1600000000000000));
}

static void times_are_written_as_objects_and_arguments_want_them(void **state)
{
    CLEANUP(freep) char *iso = clock_iso_utc();
    CLEANUP(freep) char *us = clock_iso_utc_us();

    (void)state;
    assert_true(matches(iso, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"));
    assert_true(matches(us, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}$"));
}

static void times_of_records_are_understood(void **state)
{
    static const char *const same[] = {"2026-01-31T12:00:05Z", "2026-01-31T12:00:05",
                                       "2026-01-31T12:00:05.999999", "2026-01-31T12:00:05+00:00"};
    static const char *const strange[] = {"", "2026-01-31", "2026-01-31T12:00:05+01:00",
                                          "2026-01-31T12:00:05 ", "2026-13-31T12:00:05Z"};
    CLEANUP(freep) char *text = clock_iso_of(1769860805);
    int64_t s = 0;

    (void)state;
    assert_string_equal(text, same[0]);
    for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
        assert_true(clock_iso_parse(same[i], &s));
        assert_int_equal(s, 1769860805);
    }
    for (size_t i = 0; i < ARRAY_SIZE(strange); i++) {
        assert_false(clock_iso_parse(strange[i], &s));
    }
}

static void older_is_more_seconds_ago(void **state)
{
    (void)state;
    assert_false(clock_iso_is_older("1970-01-01T00:01:00Z", 40, 100));
    assert_true(clock_iso_is_older("1970-01-01T00:01:00Z", 39, 100));
    assert_false(clock_iso_is_older("1970-01-01T01:00:00Z", 0, 100));
    assert_false(clock_iso_is_older(NULL, 0, 100));
    assert_false(clock_iso_is_older("once", 0, 100));
}

static void uuids_are_random_of_version_4(void **state)
{
    char a[UUID_LEN + 1], b[UUID_LEN + 1], hex[33];

    (void)state;
    uuid_new(a);
    uuid_new(b);
    uuid_new_hex(hex);
    assert_true(
        matches(a, "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"));
    assert_true(matches(hex, "^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$"));
    assert_string_not_equal(a, b);
    assert_true(uuid_is_valid(a));
}

static void only_uuids_with_dashes_are_valid(void **state)
{
    (void)state;
    assert_true(uuid_is_valid("01234567-89AB-cdef-0123-456789abcdef"));
    assert_false(uuid_is_valid(NULL));
    assert_false(uuid_is_valid(""));
    assert_false(uuid_is_valid("0123456789abcdef0123456789abcdef"));
    assert_false(uuid_is_valid("01234567-89ab-cdef-0123-456789abcdeg"));
    assert_false(uuid_is_valid("01234567-89ab-cdef-0123-456789abcdef0"));
    assert_false(uuid_is_valid("012345678-9ab-cdef-0123-456789abcdef"));
    assert_false(uuid_is_valid("../../etc-passwd-01230-456789abcdef01"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(times_are_written_as_objects_and_arguments_want_them),
        cmocka_unit_test(times_of_records_are_understood),
        cmocka_unit_test(older_is_more_seconds_ago),
        cmocka_unit_test(uuids_are_random_of_version_4),
        cmocka_unit_test(only_uuids_with_dashes_are_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

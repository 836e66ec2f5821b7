/* link: base */
#include "base/cpuset.h"

#include "base/jv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* The text form of what 'text' means, or NULL if it is refused. */
static char *normal(const char *text)
{
    CLEANUP(cpuset_fini) struct cpuset set = {0};
    CLEANUP(err_freep) struct err *e = cpuset_parse(text, &set);

    return e ? NULL : cpuset_text(&set);
}

static void check(const char *text, const char *expected)
{
    CLEANUP(freep) char *got = normal(text);

    assert_non_null(got);
    assert_string_equal(got, expected);
}

static struct cpuset parsed(const char *text)
{
    struct cpuset set = {0};

    assert_null(cpuset_parse(text, &set));
    return set;
}

static void numbers_ranges_and_exclusions_make_a_set(void **state)
{
    (void)state;
    check("", "");
    check("0", "0");
    check("3,1,2", "1-3");
    check("0-3,^2", "0-1,3");
    check("^2,0-3", "0-1,3");
    check("0-7,^2-5", "0-1,6-7");
    check(" 1 - 3 , , 5,5", "1-3,5");
    check("^1", "");
}

static void what_is_no_set_is_refused(void **state)
{
    static const char *const bad[] = {"a", "1-", "-1", "3-1", "1-2-3", "1.5", "^", "^^1", "1;2"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_null(normal(bad[i]));
    }
}

static void huge_numbers_are_refused(void **state)
{
    (void)state;
    assert_null(normal("0-99999999999"));
    assert_null(normal("1048576"));
    check("1048575", "1048575");
}

static void members_can_be_added_and_taken_away(void **state)
{
    CLEANUP(cpuset_fini) struct cpuset set = parsed("2,4");
    CLEANUP(freep) char *text = NULL;

    (void)state;
    cpuset_add(&set, 3);
    cpuset_add(&set, 3);
    cpuset_add(&set, 0);
    cpuset_del(&set, 4);
    cpuset_del(&set, 9);
    text = cpuset_text(&set);
    assert_string_equal(text, "0,2-3");
    assert_true(cpuset_has(&set, 2));
    assert_false(cpuset_has(&set, 4));
}

static void sets_are_combined(void **state)
{
    CLEANUP(cpuset_fini) struct cpuset a = parsed("0-4");
    CLEANUP(cpuset_fini) struct cpuset b = parsed("3-6,9");
    CLEANUP(cpuset_fini) struct cpuset all = cpuset_union(&a, &b);
    CLEANUP(cpuset_fini) struct cpuset both = cpuset_intersect(&a, &b);
    CLEANUP(cpuset_fini) struct cpuset only = cpuset_diff(&a, &b);
    CLEANUP(freep) char *all_text = cpuset_text(&all);
    CLEANUP(freep) char *both_text = cpuset_text(&both);
    CLEANUP(freep) char *only_text = cpuset_text(&only);

    (void)state;
    assert_string_equal(all_text, "0-6,9");
    assert_string_equal(both_text, "3-4");
    assert_string_equal(only_text, "0-2");
    assert_true(cpuset_is_subset(&both, &a));
    assert_false(cpuset_is_subset(&b, &a));
    assert_true(cpuset_is_disjoint(&only, &b));
    assert_false(cpuset_is_disjoint(&a, &b));
}

static void a_copy_is_equal_and_its_own(void **state)
{
    CLEANUP(cpuset_fini) struct cpuset a = parsed("1-3");
    CLEANUP(cpuset_fini) struct cpuset b = cpuset_dup(&a);

    (void)state;
    assert_true(cpuset_eq(&a, &b));
    cpuset_add(&b, 7);
    assert_false(cpuset_eq(&a, &b));
    assert_int_equal(a.n, 3);
}

static void json_goes_both_ways(void **state)
{
    CLEANUP(cpuset_fini) struct cpuset set = parsed("1,5-6");
    CLEANUP(cpuset_fini) struct cpuset again = {0};
    CLEANUP(jv_putp) struct json_object *json = cpuset_to_json(&set);
    CLEANUP(freep) char *text = jv_text(json);

    (void)state;
    assert_string_equal(text, "[1,5,6]");
    assert_null(cpuset_from_json(json, &again));
    assert_true(cpuset_eq(&set, &again));
}

static void json_of_a_peer_is_checked(void **state)
{
    static const char *const bad[] = {"{}",    "\"1\"",  "[\"1\"]",      "[-1]",
                                      "[1.5]", "[null]", "[99999999999]"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(cpuset_fini) struct cpuset set = {0};
        CLEANUP(jv_putp) struct json_object *json = json_tokener_parse(bad[i]);
        CLEANUP(err_freep) struct err *e = cpuset_from_json(json, &set);

        assert_true(err_is(e, ERR_PARSE));
    }
}

static void no_json_is_an_empty_set(void **state)
{
    CLEANUP(cpuset_fini) struct cpuset set = {0};

    (void)state;
    assert_null(cpuset_from_json(NULL, &set));
    assert_int_equal(set.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_ranges_and_exclusions_make_a_set),
        cmocka_unit_test(what_is_no_set_is_refused),
        cmocka_unit_test(huge_numbers_are_refused),
        cmocka_unit_test(members_can_be_added_and_taken_away),
        cmocka_unit_test(sets_are_combined),
        cmocka_unit_test(a_copy_is_equal_and_its_own),
        cmocka_unit_test(json_goes_both_ways),
        cmocka_unit_test(json_of_a_peer_is_checked),
        cmocka_unit_test(no_json_is_an_empty_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

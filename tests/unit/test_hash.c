/* link: base */
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_hash(const char *algorithm, const char *expected)
{
    CLEANUP(freep) char *got = NULL;

    assert_null(hash_text(algorithm, "abc", &got));
    assert_string_equal(got, expected);
}

static void digests_are_those_that_everybody_computes(void **state)
{
    (void)state;
    assert_hash("md5", "900150983cd24fb0d6963f7d28e17f72");
    assert_hash("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_hash("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_hash("sha512", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                          "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

static void parts_make_the_same_digest_as_the_whole(void **state)
{
    CLEANUP(hash_freep) struct hash *h = NULL;

    (void)state;
    assert_null(hash_new("sha1", &h));
    hash_add(h, "a", 1);
    hash_add(h, "", 0);
    hash_add(h, "bc", 2);
    CLEANUP(freep) char *got = hash_finish(h);

    assert_string_equal(got, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

static void an_unknown_digest_is_an_error(void **state)
{
    static const char *const names[] = {"", "sha9", "../x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct hash *h = NULL;
        CLEANUP(err_freep) struct err *e = hash_new(names[i], &h);

        assert_true(err_is(e, ERR_NOT_FOUND));
        assert_null(h);
    }
    assert_null(hash_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_that_everybody_computes),
        cmocka_unit_test(parts_make_the_same_digest_as_the_whole),
        cmocka_unit_test(an_unknown_digest_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

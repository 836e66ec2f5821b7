/* link: base */
#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_decodes(const char *text, const char *bytes, size_t len)
{
    CLEANUP(freep) char *have = NULL;
    size_t have_len = 0;

    assert_null(base64_decode(text, &have, &have_len));
    assert_int_equal(have_len, len);
    assert_memory_equal(have, bytes, len);
}

static void what_is_written_is_padded_to_fours(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        CLEANUP(freep) char *text = base64_encode(pairs[i][0], strlen(pairs[i][0]));

        assert_string_equal(text, pairs[i][1]);
        assert_decodes(pairs[i][1], pairs[i][0], strlen(pairs[i][0]));
    }
}

static void every_byte_survives(void **state)
{
    unsigned char all[256];

    (void)state;
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (unsigned char)i;
    }
    for (size_t len = 254; len <= sizeof all; len++) {
        CLEANUP(freep) char *text = base64_encode(all, len);

        assert_decodes(text, (const char *)all, len);
    }
}

static void line_ends_and_what_follows_the_padding_are_left_out(void **state)
{
    (void)state;
    assert_decodes("Zm9v\nYm\r\nFy\n", "foobar", 6);
    assert_decodes("Zg==Zm9v", "f", 1);
    assert_decodes("Z!g=-=", "f", 1);
    assert_decodes("====", "", 0);
}

static void a_text_that_is_cut_short_is_refused(void **state)
{
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Zm8", "Zm9vY"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep) char *out = NULL;
        size_t len;
        CLEANUP(err_freep) struct err *e = base64_decode(bad[i], &out, &len);

        assert_true(err_is(e, ERR_PARSE));
        assert_null(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_padded_to_fours),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(line_ends_and_what_follows_the_padding_are_left_out),
        cmocka_unit_test(a_text_that_is_cut_short_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: vif */

#include "vif/ovsdb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void connections_that_we_speak_are_taken(void **state)
{
    static const char *const texts[] = {"unix:/run/openvswitch/db.sock", "tcp:127.0.0.1:6640",
                                        "tcp:127.0.0.1", "tcp:[::1]:6640", "tcp:[::1]"};
    CLEANUP(loop_freep) struct loop *loop = NULL;

    (void)state;
    assert_null(loop_new(&loop));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct ovsdb *o = NULL;

        assert_null(ovsdb_new(loop, texts[i], &o));
        assert_false(ovsdb_is_connected(o));
        ovsdb_free(o);
    }
}

static void others_are_named_with_their_option(void **state)
{
    static const char *const texts[] = {"ssl:127.0.0.1:6640",
                                        "unix:db.sock",
                                        "unix:",
                                        "",
                                        "tcp:",
                                        "tcp:no such host:1",
                                        "tcp:127.0.0.1:",
                                        "tcp:127.0.0.1:no such port"};
    CLEANUP(loop_freep) struct loop *loop = NULL;

    (void)state;
    assert_null(loop_new(&loop));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct ovsdb *o = NULL;
        CLEANUP(err_freep) struct err *e = ovsdb_new(loop, texts[i], &o);

        assert_true(err_is(e, ERR_CONFIG));
        assert_non_null(strstr(err_message(e), "ovsdb_connection"));
        assert_non_null(strstr(err_message(e), texts[i]));
        assert_null(o);
    }
}

static void a_socket_path_may_not_be_cut(void **state)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    char text[200] = "unix:/";
    struct ovsdb *o = NULL;

    (void)state;
    memset(text + strlen(text), 'x', sizeof(text) - strlen(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_null(loop_new(&loop));
    e = ovsdb_new(loop, text, &o);
    assert_true(err_is(e, ERR_CONFIG));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_that_we_speak_are_taken),
        cmocka_unit_test(others_are_named_with_their_option),
        cmocka_unit_test(a_socket_path_may_not_be_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

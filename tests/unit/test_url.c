/* link: rpc_amqp rpc_objects base */

#include "rpc/amqp/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static struct url parse(const char *text)
{
    struct url u = {0};

    assert_null(url_parse(text, &u));
    return u;
}

static void assert_refused(const char *text)
{
    struct url u = {0};
    CLEANUP(err_freep) struct err *e = url_parse(text, &u);

    assert_true(err_is(e, ERR_CONFIG));
    assert_null(strstr(err_message(e), "secret"));
    assert_null(u.hosts);
}

static void one_host_with_everything(void **state)
{
    CLEANUP(url_fini)
    struct url u = parse("rabbit://us%40er:p%2Fw@broker.example:5671/cell%2F1?ssl=1");

    (void)state;
    assert_int_equal(u.n_hosts, 1);
    assert_string_equal(u.hosts[0].user, "us@er");
    assert_string_equal(u.hosts[0].password, "p/w");
    assert_string_equal(u.hosts[0].host, "broker.example");
    assert_int_equal(u.hosts[0].port, 5671);
    assert_string_equal(u.vhost, "cell/1");
    assert_int_equal(u.names.n, 1);
    assert_string_equal(u.names.items[0], "ssl");
    assert_string_equal(u.values.items[0], "1");
}

static void several_hosts_keep_their_order(void **state)
{
    CLEANUP(url_fini) struct url u = parse("rabbit://a:b@one,c:d@two:1,e:f@[::1]:2/");

    (void)state;
    assert_int_equal(u.n_hosts, 3);
    assert_string_equal(u.hosts[0].host, "one");
    assert_int_equal(u.hosts[0].port, 5672);
    assert_string_equal(u.hosts[1].user, "c");
    assert_int_equal(u.hosts[1].port, 1);
    assert_string_equal(u.hosts[2].host, "::1");
    assert_int_equal(u.hosts[2].port, 2);
}

static void nothing_is_guest_at_localhost(void **state)
{
    static const char *const texts[] = {NULL, "", "rabbit://", "rabbit:///", "rabbit://localhost"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(url_fini) struct url u = parse(texts[i]);

        assert_int_equal(u.n_hosts, 1);
        assert_string_equal(u.hosts[0].host, "localhost");
        assert_string_equal(u.hosts[0].user, "guest");
        assert_string_equal(u.hosts[0].password, "guest");
        assert_int_equal(u.hosts[0].port, 5672);
        assert_string_equal(u.vhost, "/");
    }
}

static void vhost_is_the_path_without_its_first_slash(void **state)
{
    static const char *const rows[][2] = {{"rabbit://h", "/"},
                                          {"rabbit://h/", "/"},
                                          {"rabbit://h//", "/"},
                                          {"rabbit://h/nova", "nova"},
                                          {"rabbit://h/%2F", "/"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(url_fini) struct url u = parse(rows[i][0]);

        assert_string_equal(u.vhost, rows[i][1]);
    }
}

static void a_password_may_hold_colons_and_at_signs(void **state)
{
    CLEANUP(url_fini) struct url u = parse("rabbit://u:a:b@c@host/");

    (void)state;
    assert_string_equal(u.hosts[0].password, "a:b@c");
    assert_string_equal(u.hosts[0].host, "host");
}

static void percent_signs_that_encode_nothing_stay(void **state)
{
    CLEANUP(url_fini) struct url u = parse("rabbit://u:100%25%zz%0@host/");

    (void)state;
    assert_string_equal(u.hosts[0].password, "100%%zz%0");
}

static void an_encoded_nul_does_not_cut_a_password(void **state)
{
    CLEANUP(url_fini) struct url u = parse("rabbit://u:a%00b@host/");

    (void)state;
    assert_string_equal(u.hosts[0].password, "a%00b");
}

static void bad_urls_are_refused_without_repeating_them(void **state)
{
    (void)state;
    assert_refused("u:secret@host");
    assert_refused("zmq://u:secret@host");
    assert_refused("rabbit://u:secret@host:0");
    assert_refused("rabbit://u:secret@host:65536");
    assert_refused("rabbit://u:secret@host:http");
    assert_refused("rabbit://u:secret@[::1");
    assert_refused("rabbit://u:secret@[::1]x");
    assert_refused("rabbit://u:secret@one,two");
    assert_refused("rabbit://u:secret@one?ssl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_host_with_everything),
        cmocka_unit_test(several_hosts_keep_their_order),
        cmocka_unit_test(nothing_is_guest_at_localhost),
        cmocka_unit_test(vhost_is_the_path_without_its_first_slash),
        cmocka_unit_test(a_password_may_hold_colons_and_at_signs),
        cmocka_unit_test(percent_signs_that_encode_nothing_stay),
        cmocka_unit_test(an_encoded_nul_does_not_cut_a_password),
        cmocka_unit_test(bad_urls_are_refused_without_repeating_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

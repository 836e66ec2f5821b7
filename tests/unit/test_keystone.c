/* link: rpc_rest rpc_objects base */
#include "rpc/rest/keystone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_request(const struct keystone_conf *conf, const char *expected)
{
    CLEANUP(jv_putp) struct json_object *request = keystone_request(conf);
    CLEANUP(freep) char *text = jv_text(request);

    assert_string_equal(text, expected);
}

static void a_password_is_scoped_to_a_project(void **state)
{
    const struct keystone_conf conf = {.username = "nova",
                                       .password = "secret",
                                       .user_domain_name = "Default",
                                       .project_name = "service",
                                       .project_domain_id = "default"};

    (void)state;
    check_request(&conf, "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{"
                         "\"user\":{\"name\":\"nova\",\"domain\":{\"name\":\"Default\"},"
                         "\"password\":\"secret\"}}},\"scope\":{\"project\":{\"name\":\"service\","
                         "\"domain\":{\"id\":\"default\"}}}}}");
}

static void ids_need_no_domain_and_are_preferred(void **state)
{
    const struct keystone_conf conf = {.username = "nova",
                                       .user_id = "u1",
                                       .password = "p",
                                       .user_domain_name = "Default",
                                       .project_id = "p1",
                                       .project_name = "service"};

    (void)state;
    check_request(&conf, "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{"
                         "\"user\":{\"id\":\"u1\",\"password\":\"p\"}}},"
                         "\"scope\":{\"project\":{\"id\":\"p1\"}}}}");
}

static void the_default_domain_fills_in(void **state)
{
    const struct keystone_conf conf = {.username = "nova",
                                       .password = "p",
                                       .project_name = "service",
                                       .default_domain_id = "default"};

    (void)state;
    check_request(&conf, "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{"
                         "\"user\":{\"name\":\"nova\",\"domain\":{\"id\":\"default\"},"
                         "\"password\":\"p\"}}},\"scope\":{\"project\":{\"name\":\"service\","
                         "\"domain\":{\"id\":\"default\"}}}}}");
}

static void check_scope(const struct keystone_conf *conf, const char *expected)
{
    CLEANUP(jv_putp) struct json_object *request = keystone_request(conf);
    CLEANUP(freep) char *text = jv_text(jv_get(jv_get(request, "auth"), "scope"));

    assert_string_equal(text, expected);
}

static void other_scopes_are_possible(void **state)
{
    (void)state;
    check_scope(&(struct keystone_conf){.user_id = "u", .system_scope = "all"},
                "{\"system\":{\"all\":true}}");
    check_scope(&(struct keystone_conf){.user_id = "u", .domain_name = "d"},
                "{\"domain\":{\"name\":\"d\"}}");
    check_scope(&(struct keystone_conf){.user_id = "u", .trust_id = "t"},
                "{\"OS-TRUST:trust\":{\"id\":\"t\"}}");
    check_scope(&(struct keystone_conf){.user_id = "u"}, "null");
}

static void an_application_credential_brings_its_own_scope(void **state)
{
    struct keystone_conf conf = {.auth_type = "v3applicationcredential",
                                 .application_credential_id = "c1",
                                 .application_credential_secret = "s",
                                 .username = "nova",
                                 .project_name = "service"};

    (void)state;
    check_request(&conf, "{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
                         "\"application_credential\":{\"id\":\"c1\",\"secret\":\"s\"}}}}");
    conf.application_credential_id = NULL;
    conf.application_credential_name = "n1";
    conf.user_domain_id = "default";
    check_request(&conf, "{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"
                         "\"application_credential\":{\"name\":\"n1\",\"secret\":\"s\","
                         "\"user\":{\"name\":\"nova\",\"domain\":{\"id\":\"default\"}}}}}}");
}

static void the_url_is_the_same_however_auth_url_is_written(void **state)
{
    static const char *const urls[] = {"http://h:5000", "http://h:5000/", "http://h:5000/v3",
                                       "http://h:5000/v3/", "http://h:5000/v2.0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        CLEANUP(freep) char *url = keystone_url(urls[i]);

        assert_string_equal(url, "http://h:5000/v3/auth/tokens");
    }
}

static void the_same_credentials_share_one_keystone(void **state)
{
    struct keystone_conf conf = {
        .auth_type = "password", .auth_url = "http://h", .username = "nova", .password = "p"};
    struct keystone *a, *b, *c;

    (void)state;
    assert_null(keystone_open(&conf, &a));
    assert_null(keystone_open(&conf, &b));
    conf.password = "q";
    assert_null(keystone_open(&conf, &c));
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    keystone_close(a);
    keystone_close(c);
    keystone_close(b);
}

static void credentials_that_cannot_work_are_refused(void **state)
{
    static const struct keystone_conf confs[] = {
        {0},
        {.auth_type = "password"},
        {.auth_type = "password", .auth_url = "http://h"},
        {.auth_type = "v3applicationcredential", .auth_url = "http://h", .username = "nova"},
        {.auth_type = "v3kerberos", .auth_url = "http://h", .username = "nova"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(confs); i++) {
        struct keystone *k = NULL;
        CLEANUP(err_freep) struct err *e = keystone_open(&confs[i], &k);

        assert_true(err_is(e, ERR_CONFIG));
        assert_null(k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_password_is_scoped_to_a_project),
        cmocka_unit_test(ids_need_no_domain_and_are_preferred),
        cmocka_unit_test(the_default_domain_fills_in),
        cmocka_unit_test(other_scopes_are_possible),
        cmocka_unit_test(an_application_credential_brings_its_own_scope),
        cmocka_unit_test(the_url_is_the_same_however_auth_url_is_written),
        cmocka_unit_test(the_same_credentials_share_one_keystone),
        cmocka_unit_test(credentials_that_cannot_work_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: rpc_rest rpc_objects base */
#include "rpc/rest/session_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As a section without any line is read, as far as sessions look. */
static void defaults(struct conf *c)
{
    struct conf_client *clients[] = {&c->placement.client, &c->neutron.client, &c->glance.client,
                                     &c->cinder.client, &c->service_user.client};

    *c = (struct conf){.neutron.http_retries = 3,
                       .cinder.catalog_info = "volumev3::publicURL",
                       .cinder.http_retries = 3};
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        clients[i]->timeout = CONF_UNSET;
        clients[i]->connect_retries = CONF_UNSET;
        clients[i]->status_code_retries = CONF_UNSET;
    }
}

static void set_auth(struct conf_client *c, const char *user)
{
    c->auth_type = "password";
    c->auth_url = "http://h:5000/v3";
    c->username = user;
    c->password = "p";
}

static void a_section_is_read_as_a_whole(void **state)
{
    struct conf c;
    struct rest_conf r = {0};
    char *interfaces[] = {"internal", "public", NULL};

    (void)state;
    defaults(&c);
    set_auth(&c.placement.client, "nova");
    c.placement.client.service_type = "placement";
    c.placement.client.region_name = "RegionOne";
    c.placement.client.valid_interfaces = (struct strv){.items = interfaces, .n = 2};
    c.placement.client.timeout = 30;
    c.placement.client.connect_retries = 2;
    c.placement.client.cafile = "/ca";
    assert_null(rest_conf_read(&c, "placement", &r));
    assert_string_equal(r.service_type, "placement");
    assert_string_equal(r.region_name, "RegionOne");
    assert_string_equal(r.auth.username, "nova");
    assert_string_equal(r.auth.cafile, "/ca");
    assert_int_equal(r.auth.timeout_ms, 30000);
    assert_int_equal(r.interfaces.n, 2);
    assert_int_equal(r.n_retries, 2);
    assert_null(r.service_name);
    assert_null(r.user_auth.auth_type);
    rest_conf_fini(&r);
}

static void neutron_has_retries_of_its_own(void **state)
{
    struct conf c;
    struct rest_conf r = {0};

    (void)state;
    defaults(&c);
    assert_null(rest_conf_read(&c, "neutron", &r));
    assert_int_equal(r.n_retries, 3);
    assert_int_equal(r.auth.timeout_ms, 0);
    rest_conf_fini(&r);
}

static void the_service_token_is_only_for_those_who_ask(void **state)
{
    struct conf c;
    struct rest_conf r = {0};

    (void)state;
    defaults(&c);
    set_auth(&c.service_user.client, "svc");
    assert_null(rest_conf_read(&c, "glance", &r));
    assert_null(r.user_auth.auth_type);
    rest_conf_fini(&r);
    c.service_user.send_service_user_token = true;
    assert_null(rest_conf_read(&c, "glance", &r));
    assert_string_equal(r.user_auth.username, "svc");
    rest_conf_fini(&r);
    c.service_user.client.auth_type = NULL;
    assert_null(rest_conf_read(&c, "glance", &r));
    assert_null(r.user_auth.auth_type);
    rest_conf_fini(&r);
}

static void cinder_is_found_by_its_catalog_info(void **state)
{
    struct conf c;
    struct rest_conf r = {0};

    (void)state;
    defaults(&c);
    c.cinder.catalog_info = "volumev3:cinderv3:internalURL";
    c.cinder.os_region_name = "r";
    assert_null(rest_conf_read(&c, "cinder", &r));
    assert_string_equal(r.service_type, "volumev3");
    assert_string_equal(r.service_name, "cinderv3");
    assert_string_equal(r.interfaces.items[0], "internalURL");
    assert_string_equal(r.region_name, "r");
    rest_conf_fini(&r);
    c.cinder.catalog_info = "volumev3::publicURL";
    assert_null(rest_conf_read(&c, "cinder", &r));
    assert_string_equal(r.service_name, "");
    rest_conf_fini(&r);
}

static void glance_s_old_list_of_addresses_still_counts(void **state)
{
    struct conf c;
    struct rest_conf r = {0};
    char *servers[] = {"http://g:9292", NULL};

    (void)state;
    defaults(&c);
    c.glance.api_servers = (struct strv){.items = servers, .n = 1};
    assert_null(rest_conf_read(&c, "glance", &r));
    assert_string_equal(r.endpoint_override, "http://g:9292");
    rest_conf_fini(&r);
    c.glance.client.endpoint_override = "http://o";
    assert_null(rest_conf_read(&c, "glance", &r));
    assert_string_equal(r.endpoint_override, "http://o");
    rest_conf_fini(&r);
}

static void a_section_that_is_no_service_is_an_error(void **state)
{
    struct conf c;
    struct rest_conf r = {0};

    (void)state;
    defaults(&c);
    CLEANUP(err_freep) struct err *e = rest_conf_read(&c, "libvirt", &r);

    assert_true(err_is(e, ERR_CONFIG));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_section_is_read_as_a_whole),
        cmocka_unit_test(neutron_has_retries_of_its_own),
        cmocka_unit_test(the_service_token_is_only_for_those_who_ask),
        cmocka_unit_test(cinder_is_found_by_its_catalog_info),
        cmocka_unit_test(glance_s_old_list_of_addresses_still_counts),
        cmocka_unit_test(a_section_that_is_no_service_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

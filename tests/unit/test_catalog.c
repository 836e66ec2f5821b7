/* link: rpc_rest rpc_objects base */
#include "rpc/rest/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void read_text(const char *text, struct catalog *ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;

    assert_null(jv_parse(text, strlen(text), &json));
    catalog_read(json, ret);
}

static const char v3[] =
    "[{\"type\":\"network\",\"name\":\"neutron\",\"endpoints\":["
    " {\"interface\":\"public\",\"region_id\":\"one\",\"region\":\"one\",\"url\":\"http://pub1\"},"
    " {\"interface\":\"internal\",\"region_id\":\"two\",\"url\":\"http://int2\"},"
    " {\"interface\":\"internal\",\"region_id\":\"one\",\"url\":\"http://int1\"}]},"
    " {\"type\":\"block-storage\",\"name\":\"cinder\",\"endpoints\":["
    " {\"interface\":\"public\",\"region\":\"one\",\"url\":\"http://vol/v3/p\"}]}]";

static const char *find(const struct catalog *c, const char *type, const char *name,
                        const char *interfaces, const char *region)
{
    CLEANUP(strv_fini) struct strv list = strv_split(interfaces, ",");
    const struct catalog_query q = {
        .type = type, .name = name, .interfaces = &list, .region = region};

    return catalog_find(c, &q);
}

static void the_first_interface_that_exists_is_taken(void **state)
{
    struct catalog c = {0};

    (void)state;
    read_text(v3, &c);
    assert_string_equal(find(&c, "network", NULL, "internal,public", NULL), "http://int2");
    assert_string_equal(find(&c, "network", NULL, "admin,public,internal", NULL), "http://pub1");
    assert_null(find(&c, "network", NULL, "admin", NULL));
    catalog_fini(&c);
}

static void the_region_and_the_name_must_be_right(void **state)
{
    struct catalog c = {0};

    (void)state;
    read_text(v3, &c);
    assert_string_equal(find(&c, "network", NULL, "internal,public", "one"), "http://int1");
    assert_string_equal(find(&c, "network", "neutron", "internal", ""), "http://int2");
    assert_null(find(&c, "network", "other", "internal", NULL));
    assert_null(find(&c, "network", NULL, "internal", "three"));
    assert_null(find(&c, "image", NULL, "internal,public", NULL));
    catalog_fini(&c);
}

static void volumes_are_found_under_all_their_names(void **state)
{
    struct catalog c = {0};

    (void)state;
    read_text(v3, &c);
    assert_string_equal(find(&c, "volumev3", "", "publicURL", "one"), "http://vol/v3/p");
    assert_string_equal(find(&c, "block-storage", "cinder", "public", NULL), "http://vol/v3/p");
    assert_null(find(&c, "volumev2", NULL, "public", NULL));
    catalog_fini(&c);
}

static void the_form_in_a_request_s_context_is_understood(void **state)
{
    struct catalog c = {0};

    (void)state;
    read_text(
        "[{\"type\":\"image\",\"name\":\"glance\",\"endpoints\":[{\"region\":\"r\","
        "\"publicURL\":\"http://p\",\"internalURL\":\"http://i\",\"adminURL\":\"http://a\"}]}]",
        &c);
    assert_int_equal(c.n, 3);
    assert_string_equal(find(&c, "image", NULL, "internal,public", "r"), "http://i");
    catalog_fini(&c);
}

static void what_is_no_endpoint_is_left_out(void **state)
{
    static const char *const texts[] = {
        "null",
        "{}",
        "[null]",
        "[{}]",
        "[{\"type\":1}]",
        "[{\"type\":\"t\",\"endpoints\":{}}]",
        "[{\"type\":\"t\",\"endpoints\":[null,1,{},{\"url\":1,\"interface\":\"public\"}]}]",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct catalog c = {0};

        read_text(texts[i], &c);
        assert_int_equal(c.n, 0);
        catalog_fini(&c);
    }
}

static void slashes_and_versions_in_endpoints_do_not_matter(void **state)
{
    static const struct {
        const char *endpoint, *version, *url;
    } rows[] = {
        {"http://h:9696", "v2.0", "http://h:9696/v2.0/ports"},
        {"http://h:9696/", "v2.0", "http://h:9696/v2.0/ports"},
        {"http://h:9696/v2.0", "v2.0", "http://h:9696/v2.0/ports"},
        {"http://h:9696/v2.0//", "v2.0", "http://h:9696/v2.0/ports"},
        {"http://h/networking", "v2.0", "http://h/networking/v2.0/ports"},
        {"http://h/networking/v2.0/", "v2.0", "http://h/networking/v2.0/ports"},
        {"http://h/image/v2", "v2", "http://h/image/v2/ports"},
        {"http://v2", "v2", "http://v2/v2/ports"},
        {"http://h/dev2", "v2", "http://h/dev2/v2/ports"},
        {"http://h/placement/", NULL, "http://h/placement/ports"},
        {"http://h/v3/project", NULL, "http://h/v3/project/ports"},
        {"", NULL, "/ports"},
        {"/", "v2", "/v2/ports"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(freep) char *url = catalog_url(rows[i].endpoint, rows[i].version, "/ports");

        assert_string_equal(url, rows[i].url);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_interface_that_exists_is_taken),
        cmocka_unit_test(the_region_and_the_name_must_be_right),
        cmocka_unit_test(volumes_are_found_under_all_their_names),
        cmocka_unit_test(the_form_in_a_request_s_context_is_understood),
        cmocka_unit_test(what_is_no_endpoint_is_left_out),
        cmocka_unit_test(slashes_and_versions_in_endpoints_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

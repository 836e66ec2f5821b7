/* link: rpc_rest rpc_objects base */
#include "rpc/rest/glance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

/* What needs a server is tested by tests/rest/run. */

static struct err *read_image(const char *text, struct glance_image *ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;

    assert_null(jv_parse(text, strlen(text), &json));
    return glance_image_read(json, ret);
}

static void an_image_is_read(void **state)
{
    CLEANUP(glance_image_fini) struct glance_image image = {0};

    (void)state;
    assert_null(read_image("{\"id\": \"x\", \"status\": \"active\", \"disk_format\": \"qcow2\","
                           " \"size\": 5368709120, \"os_hash_algo\": \"sha512\","
                           " \"os_hash_value\": \"ab\", \"checksum\": \"cd\", \"name\": 7}",
                           &image));
    assert_string_equal(image.id, "x");
    assert_string_equal(image.status, "active");
    assert_string_equal(image.disk_format, "qcow2");
    assert_int_equal(image.size, INT64_C(5) << 30);
    assert_string_equal(image.hash_algo, "sha512");
    assert_string_equal(image.hash_value, "ab");
    assert_string_equal(image.checksum, "cd");
}

static void what_nobody_said_is_unset(void **state)
{
    CLEANUP(glance_image_fini) struct glance_image image = {0};

    (void)state;
    assert_null(read_image("{\"id\": \"x\", \"status\": \"queued\", \"disk_format\": null,"
                           " \"size\": null, \"os_hash_algo\": null, \"checksum\": null}",
                           &image));
    assert_null(image.disk_format);
    assert_int_equal(image.size, -1);
    assert_null(image.hash_algo);
    assert_null(image.hash_value);
    assert_null(image.checksum);
}

static void a_negative_size_is_none(void **state)
{
    CLEANUP(glance_image_fini) struct glance_image image = {0};

    (void)state;
    assert_null(read_image("{\"id\": \"x\", \"status\": \"active\", \"size\": -7}", &image));
    assert_int_equal(image.size, -1);
}

static void what_is_no_image_is_an_error(void **state)
{
    static const char *const texts[] = {
        "[]",
        "null",
        "{}",
        "{\"id\": \"x\"}",
        "{\"id\": 1, \"status\": \"active\"}",
        "{\"id\": \"x\", \"status\": \"active\", \"size\": \"7\"}",
        "{\"id\": \"x\", \"status\": \"active\", \"disk_format\": []}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct glance_image image = {0};
        CLEANUP(err_freep) struct err *e = read_image(texts[i], &image);

        assert_true(err_is(e, ERR_PARSE));
        assert_null(image.id);
    }
}

static void an_image_without_data_is_not_fetched(void **state)
{
    const struct strv none = {0};
    CLEANUP(glance_freep) struct glance *g = glance_new(NULL, &none, 3);
    char id[] = "x";
    CLEANUP(err_freep)
    struct err *e =
        glance_image_download(g, NULL, &(struct glance_image){.id = id, .size = -1}, -1, NULL);

    (void)state;
    assert_true(err_is(e, ERR_IMAGE_UNACCEPTABLE));
    assert_null(glance_free(NULL));
}

static void a_patch_names_only_what_differs(void **state)
{
    static const char image[] =
        "{\"name\": \"x\", \"disk_format\": null, \"min_disk\": 1, \"os_type\": \"linux\"}";
    static const char wanted[] = "{\"name\": \"x\", \"disk_format\": \"raw\", \"min_disk\": 1,"
                                 " \"kernel_id\": \"k\"}";
    CLEANUP(jv_putp) struct json_object *a = NULL;
    CLEANUP(jv_putp) struct json_object *b = NULL;

    (void)state;
    assert_null(jv_parse(image, strlen(image), &a));
    assert_null(jv_parse(wanted, strlen(wanted), &b));
    CLEANUP(jv_putp) struct json_object *patch = glance_patch(a, b);
    CLEANUP(freep) char *text = jv_text(patch);

    assert_string_equal(text, "[{\"op\":\"replace\",\"path\":\"/disk_format\",\"value\":\"raw\"},"
                              "{\"op\":\"add\",\"path\":\"/kernel_id\",\"value\":\"k\"}]");
    CLEANUP(jv_putp) struct json_object *none = glance_patch(b, b);

    assert_int_equal(json_object_array_length(none), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_read),
        cmocka_unit_test(what_nobody_said_is_unset),
        cmocka_unit_test(a_negative_size_is_none),
        cmocka_unit_test(what_is_no_image_is_an_error),
        cmocka_unit_test(an_image_without_data_is_not_fetched),
        cmocka_unit_test(a_patch_names_only_what_differs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_libvirt base */
#include "driver/libvirt/xb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const char shop[] = "<shop name='a &amp; b'>\n"
                           "  <item id='1'><price> 5 </price></item>\n"
                           "  <!-- a comment -->\n"
                           "  <item id='2'/>\n"
                           "  <other/>\n"
                           "</shop>";

static int set_up(void **state)
{
    struct xb_doc *doc = NULL;
    CLEANUP(err_freep) struct err *e = xb_parse(shop, &doc);

    *state = doc;
    return e != NULL;
}

static int tear_down(void **state)
{
    xb_free(*state);
    return 0;
}

static void assert_text(struct xb_node *n, const char *expected)
{
    CLEANUP(freep) char *text = xb_node_text(n);

    assert_string_equal(text, expected);
}

static void assert_own(char *got, const char *expected)
{
    CLEANUP(freep) char *text = got;

    if (expected) {
        assert_string_equal(text, expected);
    } else {
        assert_null(text);
    }
}

static void elements_are_found_by_path(void **state)
{
    struct xb_node *root = xb_root(*state);

    assert_string_equal(xb_name(root), "shop");
    assert_ptr_equal(xb_find(root, ""), root);
    assert_string_equal(xb_name(xb_find(root, "item/price")), "price");
    assert_null(xb_find(root, "item/price/currency"));
    assert_null(xb_find(root, "price"));
    assert_null(xb_find(NULL, "item"));
    assert_null(xb_first(NULL, "item"));
}

static void siblings_are_walked(void **state)
{
    struct xb_node *n = xb_first(xb_root(*state), "item");

    assert_true(xb_attr_is(n, "id", "1"));
    n = xb_next(n, "item");
    assert_true(xb_attr_is(n, "id", "2"));
    assert_null(xb_next(n, "item"));
    assert_string_equal(xb_name(xb_next(n, NULL)), "other");
}

static void values_are_read(void **state)
{
    struct xb_node *root = xb_root(*state);

    assert_own(xb_attr(root, "name"), "a & b");
    assert_own(xb_attr(root, "nothing"), NULL);
    assert_own(xb_attr(NULL, "name"), NULL);
    assert_own(xb_attr_at(root, "item", "id"), "1");
    assert_own(xb_attr_at(root, "nowhere", "id"), NULL);
    assert_own(xb_content_at(root, "item/price"), "5");
    assert_own(xb_content_at(root, "other"), "");
    assert_own(xb_content_at(root, "nowhere"), NULL);
    assert_false(xb_attr_is(root, "nothing", NULL));
    assert_true(xb_is_empty(xb_first(root, "other")));
    assert_false(xb_is_empty(root));
}

static void what_is_written_is_escaped(void **state)
{
    struct xb_node *other = xb_find(xb_root(*state), "other");

    xb_set_attr(other, "a", "<\"&'>");
    xb_set_content(other, "1 < 2 & 3");
    assert_text(other, "<other a=\"&lt;&quot;&amp;'&gt;\">1 &lt; 2 &amp; 3</other>");
    assert_own(xb_attr(other, "a"), "<\"&'>");
    assert_own(xb_content(other), "1 < 2 & 3");
    xb_set_attr(other, "a", NULL);
    xb_set_attr(other, "a", NULL);
    assert_text(other, "<other>1 &lt; 2 &amp; 3</other>");
}

static void elements_are_added_once_by_ensure(void **state)
{
    struct xb_node *other = xb_find(xb_root(*state), "other");
    struct xb_node *child = xb_ensure(other, "x");

    assert_ptr_equal(xb_ensure(other, "x"), child);
    xb_add(other, "x");
    assert_text(other, "<other>\n  <x/>\n  <x/>\n</other>");
    xb_remove_children(other, "x");
    assert_text(other, "<other/>");
    xb_remove(NULL);
}

static void elements_are_moved_and_replaced(void **state)
{
    CLEANUP(xb_freep) struct xb_doc *foreign = NULL;
    struct xb_node *root = xb_root(*state);

    assert_null(xb_parse("<a><b c='1'><d/></b></a>", &foreign));
    xb_move(xb_find(xb_root(foreign), "b"), xb_find(root, "other"));
    assert_text(xb_root(foreign), "<a/>");
    xb_freep(&foreign); /* What was moved is not its any more. */
    struct xb_node *fresh = xb_new(*state, "fresh");

    xb_move(xb_find(root, "other/b"), fresh);
    xb_replace(xb_find(root, "item"), fresh);
    CLEANUP(freep) char *text = xb_text(*state);

    assert_string_equal(text, "<shop name=\"a &amp; b\">\n"
                              "  <fresh>\n"
                              "    <b c=\"1\">\n"
                              "      <d/>\n"
                              "    </b>\n"
                              "  </fresh>\n"
                              "  <!-- a comment -->\n"
                              "  <item id=\"2\"/>\n"
                              "  <other/>\n"
                              "</shop>");
}

static void names_with_a_name_space_stay(void **state)
{
    static const char xml[] = "<d xmlns:n=\"http://n\"><n:x n:y=\"1\"/></d>";
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    (void)state;
    assert_null(xb_parse(xml, &doc));
    CLEANUP(freep) char *text = xb_text(doc);

    assert_string_equal(text, "<d xmlns:n=\"http://n\">\n  <n:x n:y=\"1\"/>\n</d>");
}

static void what_is_no_xml_is_an_error(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "text",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a b='1' b='2'/>",
        "<a>&nothing;</a>",
        "<a>\x01</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x 'xxxxxxxxxx'><!ENTITY y '&x;&x;&x;'>]><a>&y;</a>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1:1/a.dtd'><a/>",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct xb_doc *doc = NULL;
        CLEANUP(err_freep) struct err *e = xb_parse(texts[i], &doc);

        if (!err_is(e, ERR_PARSE) || doc) {
            fail_msg("taken: %s", texts[i]);
        }
    }
}

static void elements_are_added_with_what_is_in_them(void **state)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(freep) char *text = NULL;
    struct xb_node *root, *meta;

    (void)state;
    assert_null(xb_parse("<domain/>", &doc));
    root = xb_root(doc);
    assert_false(xb_has_attrs(root));
    xb_add_with(root, "disk", "type", "file", "device", NULL, "bus", "\"<&", NULL);
    xb_set_attr_int(xb_add_int(root, "vcpu", -2), "n", INT64_MAX);
    meta = xb_add_ns(xb_add(root, "metadata"), "instance", "nova", "http://nova");
    xb_add_text(meta, "name", "a & b");
    text = xb_text(doc);
    assert_string_equal(text, "<domain>\n"
                              "  <disk type=\"file\" bus=\"&quot;&lt;&amp;\"/>\n"
                              "  <vcpu n=\"9223372036854775807\">-2</vcpu>\n"
                              "  <metadata>\n"
                              "    <nova:instance xmlns:nova=\"http://nova\">\n"
                              "      <nova:name>a &amp; b</nova:name>\n"
                              "    </nova:instance>\n"
                              "  </metadata>\n"
                              "</domain>");
    assert_true(xb_has_attrs(xb_first(root, "disk")));
}

static void too_much_is_refused(void **state)
{
    struct xb_doc *doc = NULL;
    CLEANUP(freep) char *text = mem_alloc((17u << 20) + 1);
    struct strbuf deep = {0};

    (void)state;
    memset(text, ' ', 17u << 20);
    memcpy(text, "<a/>", 4);
    CLEANUP(err_freep) struct err *large = xb_parse(text, &doc);

    assert_true(err_is(large, ERR_PARSE));
    for (int i = 0; i < 10000; i++) {
        strbuf_add(&deep, "<a>");
    }
    for (int i = 0; i < 10000; i++) {
        strbuf_add(&deep, "</a>");
    }
    CLEANUP(freep) char *nested = strbuf_take(&deep);
    CLEANUP(err_freep) struct err *e = xb_parse(nested, &doc);

    assert_true(err_is(e, ERR_PARSE));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(elements_are_found_by_path),
        TEST(siblings_are_walked),
        TEST(values_are_read),
        TEST(what_is_written_is_escaped),
        TEST(elements_are_added_once_by_ensure),
        TEST(elements_are_moved_and_replaced),
        TEST(names_with_a_name_space_stay),
        TEST(elements_are_added_with_what_is_in_them),
        TEST(what_is_no_xml_is_an_error),
        TEST(too_much_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

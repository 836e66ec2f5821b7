/* link: pci */

#include "pci/addr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void an_address_survives_a_round_trip(void **state)
{
    static const char *const texts[] = {"0000:00:00.0", "0000:81:1f.7", "ffff:ff:10.3",
                                        "10000:01:00.0", "ffffffff:ff:1f.7"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct pciaddr a;
        char text[PCIADDR_TEXT_MAX];

        assert_null(pciaddr_parse(texts[i], &a));
        pciaddr_format(&a, text);
        assert_string_equal(text, texts[i]);
    }
}

static void parts_go_where_they_belong(void **state)
{
    struct pciaddr a;

    (void)state;
    assert_null(pciaddr_parse("1234:AB:1c.5", &a));
    assert_int_equal(a.domain, 0x1234);
    assert_int_equal(a.bus, 0xab);
    assert_int_equal(a.slot, 0x1c);
    assert_int_equal(a.function, 5);
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const texts[] = {NULL,
                                        "",
                                        "0000",
                                        "00:00.0",
                                        "000:00:00.0",
                                        "0000:00:00",
                                        "0000:00:00.",
                                        "0000:00:00.8",
                                        "0000:00:20.0",
                                        "0000:00:00.00",
                                        "0000:0:00.0",
                                        "0000:00:0.0",
                                        "0000:00:00.0 ",
                                        " 0000:00:00.0",
                                        "0000:00:00,0",
                                        "0000-00:00.0",
                                        "000g:00:00.0",
                                        "0000:000:00.0",
                                        "123456789:00:00.0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct pciaddr a = {.bus = 7};
        CLEANUP(err_freep) struct err *e = pciaddr_parse(texts[i], &a);

        assert_true(err_is(e, ERR_PARSE));
        assert_int_equal(a.bus, 7);
    }
}

static void order_is_by_domain_bus_slot_function(void **state)
{
    static const char *const texts[] = {"0000:00:00.0", "0000:00:00.1", "0000:00:01.0",
                                        "0000:01:00.0", "0001:00:00.0", "10000:00:00.0"};

    (void)state;
    for (size_t i = 0; i + 1 < ARRAY_SIZE(texts); i++) {
        struct pciaddr a, b;

        assert_null(pciaddr_parse(texts[i], &a));
        assert_null(pciaddr_parse(texts[i + 1], &b));
        assert_true(pciaddr_cmp(&a, &b) < 0);
        assert_true(pciaddr_cmp(&b, &a) > 0);
        assert_true(pciaddr_eq(&a, &a));
        assert_false(pciaddr_eq(&a, &b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_survives_a_round_trip),
        cmocka_unit_test(parts_go_where_they_belong),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(order_is_by_domain_bus_slot_function),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

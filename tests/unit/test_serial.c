/* link: driver_libvirt base */
#include "driver/libvirt/serial.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A port of the kernel's choice that is held open. */
static int hold_port(uint16_t *ret)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *ret = ntohs(a.sin_port);
    return fd;
}

static struct conf conf_with_range(char **range, unsigned first, unsigned end)
{
    struct conf conf = {0};

    free(*range);
    *range = str_printf("%u:%u", first, end);
    conf.serial_console.port_range = *range;
    conf.serial_console.proxyclient_address = "127.0.0.1";
    return conf;
}

static void a_port_that_is_open_is_not_taken(void **state)
{
    CLEANUP(freep) char *range = NULL;
    struct serial_ports *p = serial_ports_new();
    uint16_t port;
    int fd = hold_port(&port);
    struct conf conf = conf_with_range(&range, port, port + 1u);
    int64_t got;
    CLEANUP(err_freep) struct err *e = serial_ports_take(p, &conf, 1, 1000, &got);

    (void)state;
    assert_true(err_is(e, ERR_SOCKET_PORT_RANGE_EXHAUSTED));
    close(fd);
    assert_null(serial_ports_take(p, &conf, 1, 1000, &got));
    assert_int_equal(got, port);
    serial_ports_free(p);
}

static void a_port_is_held_until_its_time_is_over(void **state)
{
    CLEANUP(freep) char *range = NULL;
    struct serial_ports *p = serial_ports_new();
    uint16_t port;
    struct conf conf;
    int64_t got;

    (void)state;
    close(hold_port(&port));
    conf = conf_with_range(&range, port, port + 1u);
    assert_null(serial_ports_take(p, &conf, 1, /* hold_ms= */ 0, &got));
    assert_null(serial_ports_take(p, &conf, 1, /* hold_ms= */ 60000, &got));
    CLEANUP(err_freep) struct err *e = serial_ports_take(p, &conf, 1, 60000, &got);

    assert_true(err_is(e, ERR_SOCKET_PORT_RANGE_EXHAUSTED));
    serial_ports_free(p);
}

static void all_or_none_are_taken(void **state)
{
    CLEANUP(freep) char *range = NULL;
    struct serial_ports *p = serial_ports_new();
    uint16_t port;
    struct conf conf;
    int64_t got[2];

    (void)state;
    close(hold_port(&port));
    conf = conf_with_range(&range, port, port + 1u);
    CLEANUP(err_freep) struct err *e = serial_ports_take(p, &conf, 2, 60000, got);

    assert_true(err_is(e, ERR_SOCKET_PORT_RANGE_EXHAUSTED));
    assert_null(serial_ports_take(p, &conf, 1, 60000, got));
    serial_ports_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_that_is_open_is_not_taken),
        cmocka_unit_test(a_port_is_held_until_its_time_is_over),
        cmocka_unit_test(all_or_none_are_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

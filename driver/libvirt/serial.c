#include "driver/libvirt/serial.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"

#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#define DEFAULT_FIRST 10000
#define DEFAULT_END   20000

struct taken {
    int64_t port, until_ms;
};

struct serial_ports {
    struct mutex m;
    struct taken *items;
    size_t n;
};

struct serial_ports *serial_ports_new(void)
{
    struct serial_ports *p = NEW(struct serial_ports);

    mutex_init(&p->m);
    return p;
}

struct serial_ports *serial_ports_free(struct serial_ports *p)
{
    if (p) {
        mutex_fini(&p->m);
        free(p->items);
        free(p);
    }
    return NULL;
}

/* Whether nobody has it: it can be bound. */
static bool is_free(const char *host, int64_t port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    CLEANUP(freep) char *service = str_printf("%lld", (long long)port);
    struct addrinfo *info = NULL;
    bool ret = false;

    if (getaddrinfo(host, service, &hints, &info) != 0) {
        return true; /* A name: QEMU will look it up, and say so if the port is taken. */
    }
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        ret = bind(fd, info->ai_addr, info->ai_addrlen) == 0;
        close(fd);
    }
    freeaddrinfo(info);
    return ret;
}

static void forget_old_locked(struct serial_ports *p, int64_t now_ms)
{
    for (size_t i = p->n; i-- > 0;) {
        if (p->items[i].until_ms <= now_ms) {
            p->items[i] = p->items[--p->n];
        }
    }
}

static bool is_taken_locked(const struct serial_ports *p, int64_t port)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].port == port) {
            return true;
        }
    }
    return false;
}

static void range_of(const struct conf *conf, int64_t *ret_first, int64_t *ret_end)
{
    CLEANUP(strv_fini) struct strv parts = strv_split(conf->serial_console.port_range, ":");

    if (parts.n != 2 || !str_to_i64(parts.items[0], ret_first) ||
        !str_to_i64(parts.items[1], ret_end) || *ret_first >= *ret_end) {
        log_warning_limited(LOG_LIBVIRT,
                            "[serial_console]port_range '%s' is no range, taking %d:%d",
                            conf->serial_console.port_range, DEFAULT_FIRST, DEFAULT_END);
        *ret_first = DEFAULT_FIRST;
        *ret_end = DEFAULT_END;
    }
}

struct err *serial_ports_take(struct serial_ports *p, const struct conf *conf, size_t n,
                              int64_t hold_ms, int64_t *ret)
{
    const char *host = conf->serial_console.proxyclient_address;
    int64_t now_ms = clock_ms(), first, end;
    size_t n_found = 0;

    range_of(conf, &first, &end);
    mutex_lock(&p->m);
    forget_old_locked(p, now_ms);
    for (int64_t port = first; port < end && n_found < n; port++) {
        if (!is_taken_locked(p, port) && is_free(host, port)) {
            ret[n_found++] = port;
        }
    }
    if (n_found == n) {
        p->items = mem_realloc(p->items, p->n + n, sizeof(*p->items));
        for (size_t i = 0; i < n; i++) {
            p->items[p->n++] = (struct taken){.port = ret[i], .until_ms = now_ms + hold_ms};
        }
    }
    mutex_unlock(&p->m);
    return n_found == n ? NULL : err_new(ERR_SOCKET_PORT_RANGE_EXHAUSTED, "host", host, NULL);
}

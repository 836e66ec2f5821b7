#pragma once

/* transport_url: where the brokers are.
 *
 *   rabbit://user:pass@host:port,user:pass@host2:port/vhost?option=value
 *
 * Source: oslo_messaging/transport.py TransportURL.parse, _drivers/impl_rabbit.py.  Either all
 * hosts carry credentials or none; without any host it is guest at localhost.
 *
 * Thread-safety: plain values. */

#include "base/err.h"

#include <stdint.h>

#define URL_DEFAULT_PORT 5672

struct url_host {
    char *host;
    uint16_t port;
    char *user;
    char *password;
};

struct url {
    struct url_host *hosts; /* At least one. */
    size_t n_hosts;
    char *vhost;
    struct strv names;  /* Options of the query, */
    struct strv values; /* and their values. */
};

/* NULL or an empty text is guest at localhost.  ERR_CONFIG, which never repeats the URL, because
 * there are passwords in it. */
struct err *url_parse(const char *text, struct url *ret) MUST_CHECK;
void url_fini(struct url *);

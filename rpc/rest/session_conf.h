#pragma once

/* What a session needs to know of the configuration, and the session made from that alone.
 *
 * rest_session_new reads it; tests write it themselves.
 *
 * Thread-safety: plain values. */

#include "base/conf.h"
#include "rpc/rest/keystone.h"
#include "rpc/rest/session.h"

struct rest_conf {
    const char *section;            /* "neutron"; borrowed until the session is made. */
    struct keystone_conf auth;      /* auth_type NULL: only users' tokens. */
    struct keystone_conf user_auth; /* [service_user]; auth_type NULL: no service token. */
    char *service_type;
    char *service_name; /* NULL: any. */
    char *region_name;  /* NULL: any. */
    char *endpoint_override;
    struct strv interfaces; /* The best first. */
    unsigned n_retries;     /* Of requests that name no number of their own. */
};

void rest_conf_fini(struct rest_conf *);

/* Reads a section of a snapshot.  ERR_CONFIG: there is no such section. */
struct err *rest_conf_read(const struct conf *, const char *section, struct rest_conf *ret)
    MUST_CHECK;

/* Consumes the configuration. */
struct err *rest_session_from_conf(struct rest_conf *, struct rest_session **ret) MUST_CHECK;

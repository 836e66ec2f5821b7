#pragma once

/* Configuration: nova.conf as it is, in oslo.config's dialect.
 *
 * A struct conf is an immutable snapshot with a nested struct for each group:
 * c->libvirt.live_migration_bandwidth, c->dflt.host, c->neutron.client.username.  The names are
 * Nova's; what Nova calls [DEFAULT] is 'dflt' here.  Its members come from the table in conf.def,
 * as do the defaults, the sample file and the manual page novashim.conf(5).
 *
 * A reload (SIGHUP) makes a new snapshot, in which only the options that are marked MUTABLE differ.
 * So code that wants to see changes gets the snapshot anew for each operation:
 *
 *     CLEANUP(conf_putp) const struct conf *c = conf_get(node->conf);
 *
 * Unset values, where Nova has None: strings are NULL, integers CONF_UNSET, floats NAN (see
 * conf_is_set), lists empty.  Only options whose default is unset can be unset.
 *
 * Source of the rules: oslo_config (cfg.py, types.py, iniparser.py) and nova/conf, Zed.
 *
 * Thread-safety: conf_get, conf_put and conf_reload may be called from any thread; a snapshot never
 * changes. */

#include "base/err.h"
#include "base/str.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define CONF_UNSET INT64_MIN

/* One value of a repeated option that is a dictionary: keys[i] has values[i]. */
struct conf_dict {
    struct strv keys, values;
};

struct conf_dicts {
    struct conf_dict *items;
    size_t n;
};

#define CONF_BOOL(group, name, ...)  bool name;
#define CONF_INT(group, name, ...)   int64_t name;
#define CONF_FLOAT(group, name, ...) double name;
#define CONF_STR(group, name, ...)   const char *name;
#define CONF_LIST(group, name, ...)  struct strv name;
#define CONF_MULTI(group, name, ...) struct strv name;
#define CONF_DICTS(group, name, ...) struct conf_dicts name;

/* What every group has that says how to speak to a service.  Members that the group does not have
 * in Nova (see conf_services.def) are unset. */
struct conf_client {
#define CONF_C
#define CONF_C_BOOL(name, ...)  bool name;
#define CONF_C_INT(name, ...)   int64_t name;
#define CONF_C_FLOAT(name, ...) double name;
#define CONF_C_STR(name, ...)   const char *name;
#define CONF_C_LIST(name, ...)  struct strv name;
#include "base/conf_client_adapter.def"
#include "base/conf_client_auth.def"
#include "base/conf_client_session.def"
#undef CONF_C
#undef CONF_C_BOOL
#undef CONF_C_INT
#undef CONF_C_FLOAT
#undef CONF_C_STR
#undef CONF_C_LIST
};

#define CONF_GROUP(member, ...) struct conf_##member {
#define CONF_GROUP_END(member)                                                                     \
    }                                                                                              \
    member;
#define CONF_CLIENT(member) struct conf_client client;

struct conf {
#include "base/conf.def"
};

/* Whether a number that may be unset is set. */
static inline bool conf_is_set_int(int64_t n)
{
    return n != CONF_UNSET;
}
static inline bool conf_is_set(double n)
{
    return !isnan(n);
}

/* The text of an option in a group whose name depends on other options ([neutron_physnet_NAME]
 * numa_nodes, [neutron_tunnel] numa_nodes, [mdev_TYPE] device_addresses), or NULL. */
const char *conf_dynamic(const struct conf *, const char *group, const char *name);

/* The client options of a section ("neutron", "placement", "cinder", "glance", "keystone",
 * "service_user"), or NULL. */
const struct conf_client *conf_client(const struct conf *, const char *section);

enum conf_action {
    CONF_RUN,
    CONF_CHECK,   /* --check-config: tell what is wrong and end. */
    CONF_VERSION, /* --version */
    CONF_HELP,    /* --help */
};

struct conf_cmdline {
    enum conf_action action;
};

struct conf_holder;

/* Reads the command line, the environment and the files that they name or that Nova would read.
 * 'ret' is written even when it fails.  With --version and --help there is no holder (NULL).
 *
 * ERR_CONFIG tells everything that is wrong, one problem a line, "FILE:LINE: TEXT". */
struct err *conf_load(int argc, char **argv, struct conf_cmdline *ret,
                      struct conf_holder **ret_holder) MUST_CHECK;
struct conf_holder *conf_holder_free(struct conf_holder *);
static inline void conf_holder_freep(struct conf_holder **p)
{
    *p = conf_holder_free(*p);
}

/* The same from the text of one file: no command line, no environment, and nothing is required that
 * only a running service needs.  For tests. */
struct err *conf_from_text(const char *text, struct conf_holder **ret) MUST_CHECK;

/* What --help prints. */
const char *conf_usage(void);

/* The present snapshot; the caller has a reference. */
const struct conf *conf_get(struct conf_holder *) MUST_CHECK;
void conf_put(const struct conf *);
static inline void conf_putp(const struct conf **p)
{
    if (*p) {
        conf_put(*p);
        *p = NULL;
    }
}

/* Reads everything again.  Options marked MUTABLE take effect ('ret_changed', "[group]name"); the
 * others that differ need a restart ('ret_restart').  On an error nothing changes. */
struct err *conf_reload(struct conf_holder *, struct strv *ret_changed, struct strv *ret_restart)
    MUST_CHECK;

/* Logs once what a site should know about its files: options and groups that nobody knows, old
 * names, and what is set but has no effect here. */
void conf_report(struct conf_holder *);

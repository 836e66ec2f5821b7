#pragma once

/* A copy of the rows of the Open_vSwitch database that matter, kept up to date by its monitor.
 *
 * Rows stay as the JSON that the monitor sent; the readers understand OVSDB's notation of sets,
 * maps and uuids.  A column that is missing or of another shape reads as absent.
 *
 * Source: RFC 7047, 4.1.5, 4.1.6 and 5.1; vswitch.ovsschema.
 *
 * Thread-safety: none of its own; vif/ovsdb.c keeps it under its mutex. */

#include "base/clock.h"
#include "base/err.h"
#include "base/jv.h"

#include <uthash.h>

enum ovs_table {
#define OVS_TABLE(id, name, ...) OVS_TABLE_##id,
#include "vif/ovs_tables.def"
#undef OVS_TABLE
    OVS_N_TABLES
};

struct ovs_row {
    char uuid[UUID_LEN + 1];
    struct json_object *columns;
    UT_hash_handle hh;
};

/* All zero is an empty one. */
struct ovscache {
    struct ovs_row *rows[OVS_N_TABLES]; /* uthash by uuid. */
};

/* What to monitor: <monitor-requests> for all tables. */
struct json_object *ovscache_monitor_requests(void) MUST_CHECK;
/* Applies <table-updates>: the answer to "monitor", or of an "update".  ERR_PARSE. */
struct err *ovscache_apply(struct ovscache *, struct json_object *updates) MUST_CHECK;
void ovscache_fini(struct ovscache *);

/* An interface of a server that is not in the database any more; lent for the call. */
struct ovs_gone {
    const char *name, *iface_id, *vm_uuid;
};
typedef void (*ovs_gone_fn)(const struct ovs_gone *, void *arg);
/* Those that <table-updates> tell of. */
void ovscache_gone(struct json_object *updates, ovs_gone_fn, void *arg);

/* The one row of Open_vSwitch; NULL if the database was never initialised. */
const struct ovs_row *ovscache_root(const struct ovscache *);
const struct ovs_row *ovscache_find(const struct ovscache *, enum ovs_table, const char *name);
/* The bridge that has this port, or NULL. */
const struct ovs_row *ovscache_bridge_of(const struct ovscache *, const struct ovs_row *port);

/* A string ("" is one), or NULL. */
const char *ovs_row_str(const struct ovs_row *, const char *column);
int64_t ovs_row_int(const struct ovs_row *, const char *column, int64_t absent);
bool ovs_row_bool(const struct ovs_row *, const char *column);
/* The string value of a key in a map, or NULL. */
const char *ovs_row_map(const struct ovs_row *, const char *column, const char *key);
/* Whether a set of strings or uuids has this one. */
bool ovs_row_set_has(const struct ovs_row *, const char *column, const char *member);

#include "vif/ovscache.h"

#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 12

static const struct {
    const char *name;
    const char *columns[MAX_COLUMNS];
} tables[] = {
#define OVS_TABLE(id, name, ...) {name, {__VA_ARGS__}},
#include "vif/ovs_tables.def"
#undef OVS_TABLE
};

/* ---- Applying the monitor's updates ---- */

struct json_object *ovscache_monitor_requests(void)
{
    struct json_object *requests = json_object_new_object();

    for (size_t i = 0; i < OVS_N_TABLES; i++) {
        struct json_object *request = json_object_new_object();
        struct json_object *columns = json_object_new_array();

        for (size_t j = 0; j < MAX_COLUMNS && tables[i].columns[j]; j++) {
            json_object_array_add(columns, json_object_new_string(tables[i].columns[j]));
        }
        jv_add(request, "columns", columns);
        jv_add(requests, tables[i].name, request);
    }
    return requests;
}

static void delete_row(struct ovs_row **rows, struct ovs_row *row)
{
    if (row) {
        HASH_DEL(*rows, row);
        json_object_put(row->columns);
        free(row);
    }
}

/* "new" is the whole row as it is now, or absent when the row is gone. */
static struct err *apply_row(struct ovs_row **rows, const char *uuid, struct json_object *update)
{
    struct json_object *columns = jv_get(update, "new");
    struct ovs_row *row;

    if (!uuid_is_valid(uuid) || !json_object_is_type(update, json_type_object) ||
        (columns && !json_object_is_type(columns, json_type_object))) {
        return err_msg(ERR_PARSE, "table update: bad row '%.40s'", uuid);
    }
    HASH_FIND_STR(*rows, uuid, row);
    if (!columns) {
        delete_row(rows, row);
        return NULL;
    }
    if (!row) {
        row = NEW(struct ovs_row);
        memcpy(row->uuid, uuid, sizeof(row->uuid));
        HASH_ADD_STR(*rows, uuid, row);
    }
    json_object_put(row->columns);
    row->columns = json_object_get(columns);
    return NULL;
}

struct err *ovscache_apply(struct ovscache *c, struct json_object *updates)
{
    if (!json_object_is_type(updates, json_type_object)) {
        return err_msg(ERR_PARSE, "table updates: not an object");
    }
    for (size_t i = 0; i < OVS_N_TABLES; i++) {
        struct json_object *table = jv_get(updates, tables[i].name);

        if (table && !json_object_is_type(table, json_type_object)) {
            return err_msg(ERR_PARSE, "table updates: '%s' is not an object", tables[i].name);
        }
        if (table) {
            json_object_object_foreach(table, uuid, update)
            {
                TRY(apply_row(&c->rows[i], uuid, update));
            }
        }
    }
    return NULL;
}

/* Its server, as we write it or as libvirt does. */
static const char *vm_of(const struct ovs_row *row)
{
    const char *ours = ovs_row_map(row, "external_ids", "vm-uuid");

    return ours ? ours : ovs_row_map(row, "external_ids", "vm-id");
}

void ovscache_gone(struct json_object *updates, ovs_gone_fn fn, void *arg)
{
    struct json_object *table = jv_get(updates, tables[OVS_TABLE_INTERFACE].name);

    if (!json_object_is_type(table, json_type_object)) {
        return;
    }
    json_object_object_foreach(table, uuid, update)
    {
        const struct ovs_row old = {.columns = jv_get(update, "old")};
        struct ovs_gone gone;

        (void)uuid;
        if (!old.columns || jv_get(update, "new")) {
            continue;
        }
        gone = (struct ovs_gone){.name = ovs_row_str(&old, "name"),
                                 .iface_id = ovs_row_map(&old, "external_ids", "iface-id"),
                                 .vm_uuid = vm_of(&old)};
        if (gone.name && gone.iface_id && gone.vm_uuid) {
            fn(&gone, arg);
        }
    }
}

void ovscache_fini(struct ovscache *c)
{
    for (size_t i = 0; i < OVS_N_TABLES; i++) {
        struct ovs_row *row, *tmp;

        HASH_ITER(hh, c->rows[i], row, tmp)
        {
            delete_row(&c->rows[i], row);
        }
    }
}

/* ---- Finding rows ---- */

const struct ovs_row *ovscache_root(const struct ovscache *c)
{
    return c->rows[OVS_TABLE_ROOT];
}

const struct ovs_row *ovscache_find(const struct ovscache *c, enum ovs_table table,
                                    const char *name)
{
    for (const struct ovs_row *row = c->rows[table]; row; row = row->hh.next) {
        const char *row_name = ovs_row_str(row, "name");

        if (row_name && str_eq(row_name, name)) {
            return row;
        }
    }
    return NULL;
}

const struct ovs_row *ovscache_bridge_of(const struct ovscache *c, const struct ovs_row *port)
{
    for (const struct ovs_row *row = c->rows[OVS_TABLE_BRIDGE]; row; row = row->hh.next) {
        if (ovs_row_set_has(row, "ports", port->uuid)) {
            return row;
        }
    }
    return NULL;
}

/* ---- Reading columns (RFC 7047, 5.1, <value>) ---- */

/* A set, map or uuid is an array whose first element says what it is; the second one. */
static struct json_object *tagged(struct json_object *value, const char *tag)
{
    struct json_object *first;

    if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) != 2) {
        return NULL;
    }
    first = json_object_array_get_idx(value, 0);
    if (!json_object_is_type(first, json_type_string) ||
        !str_eq(json_object_get_string(first), tag)) {
        return NULL;
    }
    return json_object_array_get_idx(value, 1);
}

/* The members of a set; a set of one is written as that member. */
static size_t set_len(struct json_object *value)
{
    struct json_object *members = tagged(value, "set");

    if (members) {
        return json_object_is_type(members, json_type_array) ? json_object_array_length(members)
                                                             : 0;
    }
    return value ? 1 : 0;
}

static struct json_object *set_at(struct json_object *value, size_t i)
{
    struct json_object *members = tagged(value, "set");

    return members ? json_object_array_get_idx(members, i) : value;
}

/* A column's value if it is one atom of the type; NULL for an empty set. */
static struct json_object *atom(const struct ovs_row *row, const char *column, enum json_type type)
{
    struct json_object *value = jv_get(row->columns, column);

    value = set_len(value) == 1 ? set_at(value, 0) : NULL;
    return json_object_is_type(value, type) ? value : NULL;
}

static const char *atom_text(struct json_object *value)
{
    struct json_object *uuid = tagged(value, "uuid");

    value = uuid ? uuid : value;
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

const char *ovs_row_str(const struct ovs_row *row, const char *column)
{
    return atom_text(atom(row, column, json_type_string));
}

int64_t ovs_row_int(const struct ovs_row *row, const char *column, int64_t absent)
{
    struct json_object *value = atom(row, column, json_type_int);

    return value ? json_object_get_int64(value) : absent;
}

bool ovs_row_bool(const struct ovs_row *row, const char *column)
{
    return json_object_get_boolean(atom(row, column, json_type_boolean));
}

const char *ovs_row_map(const struct ovs_row *row, const char *column, const char *key)
{
    struct json_object *pairs = tagged(jv_get(row->columns, column), "map");

    if (!json_object_is_type(pairs, json_type_array)) {
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(pairs); i++) {
        struct json_object *pair = json_object_array_get_idx(pairs, i);

        if (json_object_is_type(pair, json_type_array) && json_object_array_length(pair) == 2 &&
            str_eq(atom_text(json_object_array_get_idx(pair, 0)), key)) {
            return atom_text(json_object_array_get_idx(pair, 1));
        }
    }
    return NULL;
}

bool ovs_row_set_has(const struct ovs_row *row, const char *column, const char *member)
{
    struct json_object *value = jv_get(row->columns, column);

    for (size_t i = 0; i < set_len(value); i++) {
        const char *text = atom_text(set_at(value, i));

        if (text && str_eq(text, member)) {
            return true;
        }
    }
    return false;
}

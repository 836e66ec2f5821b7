#include "vif/ovsplan.h"

#include <assert.h>
#include <string.h>

/* Names of rows that a transaction makes. */
#define NEW_BRIDGE "new_bridge"
#define NEW_PORT   "new_port"

/* ---- OVSDB's notation (RFC 7047, 5.1 and 5.2).  Values are consumed. ---- */

static struct json_object *list(size_t n, ...)
{
    struct json_object *array = json_object_new_array();
    va_list ap;

    va_start(ap, n);
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(array, va_arg(ap, struct json_object *));
    }
    va_end(ap);
    return array;
}

static struct json_object *text(const char *s)
{
    return json_object_new_string(s);
}

static struct json_object *uuid_of(const struct ovs_row *row)
{
    return list(2, text("uuid"), text(row->uuid));
}

static struct json_object *named(const char *uuid_name)
{
    return list(2, text("named-uuid"), text(uuid_name));
}

static struct json_object *condition(const char *column, struct json_object *value)
{
    return list(1, list(3, text(column), text("=="), value));
}

static struct json_object *mutation(const char *column, const char *mutator,
                                    struct json_object *value)
{
    return list(3, text(column), text(mutator), value);
}

static struct json_object *add_op(struct json_object *ops, const char *name, const char *table)
{
    struct json_object *op = json_object_new_object();

    jv_add_str(op, "op", name);
    jv_add_str(op, "table", table);
    json_object_array_add(ops, op);
    return op;
}

static void add_insert(struct json_object *ops, const char *table, const char *uuid_name,
                       struct json_object *row)
{
    struct json_object *op = add_op(ops, "insert", table);

    jv_add_str(op, "uuid-name", uuid_name);
    jv_add(op, "row", row);
}

static void add_mutate(struct json_object *ops, const char *table, struct json_object *uuid,
                       struct json_object *mutations)
{
    struct json_object *op = add_op(ops, "mutate", table);

    jv_add(op, "where", condition("_uuid", uuid));
    jv_add(op, "mutations", mutations);
}

/* The transaction fails unless the table has (or has not) this row now. */
static void add_guard(struct json_object *ops, const char *table, const char *name, bool is_there)
{
    struct json_object *op = add_op(ops, "wait", table);
    struct json_object *row = json_object_new_object();

    jv_add_str(row, "name", name);
    jv_add_int(op, "timeout", 0);
    jv_add(op, "where", condition("name", text(name)));
    jv_add(op, "columns", list(1, text("name")));
    jv_add_str(op, "until", is_there ? "==" : "!=");
    jv_add(op, "rows", list(1, row));
}

/* ---- Ends of a plan ---- */

static struct err *plan(struct ovsplan *ret, enum ovsplan_verdict verdict)
{
    *ret = (struct ovsplan){.verdict = verdict};
    return NULL;
}

/* The operations, and those that tell the switch and us: the comment is for whoever reads the
 * database's log, the last operation gives the next_cfg to wait for. */
static struct err *plan_send(struct ovsplan *ret, const struct ovs_row *root,
                             struct json_object *ops, const char *comment)
{
    struct json_object *op = json_object_new_object();

    jv_add_str(op, "op", "comment");
    jv_add_str(op, "comment", comment);
    json_object_array_add(ops, op);
    add_mutate(ops, "Open_vSwitch", uuid_of(root),
               list(1, mutation("next_cfg", "+=", json_object_new_int(1))));
    op = add_op(ops, "select", "Open_vSwitch");
    jv_add(op, "where", condition("_uuid", uuid_of(root)));
    jv_add(op, "columns", list(1, text("next_cfg")));
    *ret = (struct ovsplan){.verdict = OVSPLAN_SEND, .ops = ops};
    return NULL;
}

/* The one row of Open_vSwitch, which everything hangs from. */
static struct err *need_root(const struct ovscache *c, const struct ovs_row **ret)
{
    *ret = ovscache_root(c);
    if (!*ret) {
        return err_msg(ERR_VIF_PLUG, "Open vSwitch's database was never initialised: its table "
                                     "Open_vSwitch is empty");
    }
    return NULL;
}

/* Our own transaction is not in the copy yet. */
static bool is_behind(const struct ovs_row *root, int64_t wait_cfg)
{
    return ovs_row_int(root, "next_cfg", 0) < wait_cfg;
}

/* ---- Bridges ---- */

/* A bridge has a port and an interface of its own name. */
static void add_bridge(struct json_object *ops, const struct ovs_row *root, const char *name,
                       const char *datapath_type)
{
    struct json_object *interface = json_object_new_object();
    struct json_object *port = json_object_new_object();
    struct json_object *bridge = json_object_new_object();

    add_guard(ops, "Bridge", name, /* is_there= */ false);
    add_guard(ops, "Port", name, /* is_there= */ false);
    jv_add_str(interface, "name", name);
    jv_add_str(interface, "type", "internal");
    add_insert(ops, "Interface", "local_interface", interface);
    jv_add_str(port, "name", name);
    jv_add(port, "interfaces", named("local_interface"));
    add_insert(ops, "Port", "local_port", port);
    jv_add_str(bridge, "name", name);
    jv_add(bridge, "ports", named("local_port"));
    if (!str_is_empty(datapath_type)) {
        jv_add_str(bridge, "datapath_type", datapath_type);
    }
    add_insert(ops, "Bridge", NEW_BRIDGE, bridge);
    add_mutate(ops, "Open_vSwitch", uuid_of(root),
               list(1, mutation("bridges", "insert", named(NEW_BRIDGE))));
}

struct err *ovsplan_ensure_bridge(const struct ovscache *c, const void *what, int64_t wait_cfg,
                                  struct ovsplan *ret)
{
    const struct ovs_bridge_spec *spec = what;
    CLEANUP(freep) char *comment = str_printf("novashim: bridge %s", spec->name);
    const struct ovs_row *root;
    struct json_object *ops;

    TRY(need_root(c, &root));
    if (is_behind(root, wait_cfg)) {
        return plan(ret, OVSPLAN_WAIT);
    }
    if (ovscache_find(c, OVS_TABLE_BRIDGE, spec->name)) {
        return plan(ret, OVSPLAN_DONE);
    }
    ops = json_object_new_array();
    add_bridge(ops, root, spec->name, spec->datapath_type);
    return plan_send(ret, root, ops, comment);
}

struct err *ovsplan_remove_bridge(const struct ovscache *c, const void *what, int64_t wait_cfg,
                                  struct ovsplan *ret)
{
    CLEANUP(freep) char *comment = str_printf("novashim: no bridge %s", (const char *)what);
    const struct ovs_row *root, *bridge = ovscache_find(c, OVS_TABLE_BRIDGE, what);
    struct json_object *ops;

    if (!bridge) {
        return plan(ret, OVSPLAN_DONE);
    }
    TRY(need_root(c, &root));
    if (is_behind(root, wait_cfg)) {
        return plan(ret, OVSPLAN_WAIT);
    }
    ops = json_object_new_array();
    add_mutate(ops, "Open_vSwitch", uuid_of(root),
               list(1, mutation("bridges", "delete", uuid_of(bridge))));
    return plan_send(ret, root, ops, comment);
}

/* ---- Ports ---- */

struct pair {
    const char *key;
    const char *value; /* NULL: not wanted. */
};

#define MAX_PAIRS 4

static void external_ids_of(const struct ovs_port_spec *spec, struct pair ret[MAX_PAIRS])
{
    ret[0] = (struct pair){"iface-id", spec->iface_id};
    ret[1] = (struct pair){"iface-status", spec->iface_id ? "active" : NULL};
    ret[2] = (struct pair){"attached-mac", spec->attached_mac};
    ret[3] = (struct pair){"vm-uuid", spec->vm_uuid};
}

static void options_of(const struct ovs_port_spec *spec, struct pair ret[MAX_PAIRS])
{
    memset(ret, 0, MAX_PAIRS * sizeof(*ret));
    ret[0] = (struct pair){"vhost-server-path", spec->vhost_server_path};
}

/* The wanted pairs that a map column lacks, all of them for a row that is not there yet (NULL). */
static size_t missing_pairs(const struct ovs_row *row, const char *column,
                            const struct pair pairs[MAX_PAIRS], struct json_object **ret_keys,
                            struct json_object **ret_map)
{
    struct json_object *keys = json_object_new_array(), *map = json_object_new_array();

    for (size_t i = 0; i < MAX_PAIRS; i++) {
        const char *value = row ? ovs_row_map(row, column, pairs[i].key) : NULL;

        if (pairs[i].value && (!value || !str_eq(value, pairs[i].value))) {
            json_object_array_add(keys, text(pairs[i].key));
            json_object_array_add(map, list(2, text(pairs[i].key), text(pairs[i].value)));
        }
    }
    *ret_keys = list(2, text("set"), keys);
    *ret_map = list(2, text("map"), map);
    return json_object_array_length(keys);
}

static struct json_object *new_interface(const struct ovs_port_spec *spec)
{
    struct json_object *row = json_object_new_object(), *keys, *map;
    struct pair pairs[MAX_PAIRS];

    jv_add_str(row, "name", spec->name);
    if (!str_is_empty(spec->type)) {
        jv_add_str(row, "type", spec->type);
    }
    external_ids_of(spec, pairs);
    missing_pairs(/* row= */ NULL, "external_ids", pairs, &keys, &map);
    json_object_put(keys);
    jv_add(row, "external_ids", map);
    options_of(spec, pairs);
    missing_pairs(/* row= */ NULL, "options", pairs, &keys, &map);
    json_object_put(keys);
    jv_add(row, "options", map);
    if (spec->mtu_request > 0) {
        jv_add_int(row, "mtu_request", spec->mtu_request);
    }
    return row;
}

/* 'bridge' is NULL if the same transaction makes it. */
static void add_new_port(struct json_object *ops, const struct ovs_row *bridge,
                         const struct ovs_port_spec *spec)
{
    struct json_object *port = json_object_new_object();

    add_guard(ops, "Port", spec->name, /* is_there= */ false);
    add_guard(ops, "Interface", spec->name, /* is_there= */ false);
    if (bridge) {
        add_guard(ops, "Bridge", spec->bridge, /* is_there= */ true);
    }
    add_insert(ops, "Interface", "new_interface", new_interface(spec));
    jv_add_str(port, "name", spec->name);
    jv_add(port, "interfaces", named("new_interface"));
    if (spec->tag >= 0) {
        jv_add_int(port, "tag", spec->tag);
    }
    add_insert(ops, "Port", NEW_PORT, port);
    add_mutate(ops, "Bridge", bridge ? uuid_of(bridge) : named(NEW_BRIDGE),
               list(1, mutation("ports", "insert", named(NEW_PORT))));
}

/* Takes the port to the right bridge if it is in another one. */
static void add_move(struct json_object *ops, const struct ovscache *c,
                     const struct ovs_row *bridge, const struct ovs_row *port)
{
    const struct ovs_row *owner = ovscache_bridge_of(c, port);

    if (bridge && owner == bridge) {
        return;
    }
    if (owner) {
        add_mutate(ops, "Bridge", uuid_of(owner),
                   list(1, mutation("ports", "delete", uuid_of(port))));
    }
    add_mutate(ops, "Bridge", bridge ? uuid_of(bridge) : named(NEW_BRIDGE),
               list(1, mutation("ports", "insert", uuid_of(port))));
}

/* Sets what a map lacks; keys of others stay. */
static void add_map_changes(struct json_object *ops, const struct ovs_row *interface,
                            const char *column, const struct pair pairs[MAX_PAIRS])
{
    CLEANUP(jv_putp) struct json_object *keys = NULL, *map = NULL;

    if (missing_pairs(interface, column, pairs, &keys, &map) > 0) {
        add_mutate(
            ops, "Interface", uuid_of(interface),
            list(2, mutation(column, "delete", TAKE(keys)), mutation(column, "insert", TAKE(map))));
    }
}

static void add_interface_changes(struct json_object *ops, const struct ovs_row *interface,
                                  const struct ovs_port_spec *spec)
{
    CLEANUP(jv_putp) struct json_object *row = json_object_new_object();
    const char *type = ovs_row_str(interface, "type"), *wanted = spec->type ? spec->type : "";
    struct pair pairs[MAX_PAIRS];

    if (!type || !str_eq(type, wanted)) {
        jv_add_str(row, "type", wanted);
    }
    if (spec->mtu_request > 0 && ovs_row_int(interface, "mtu_request", 0) != spec->mtu_request) {
        jv_add_int(row, "mtu_request", spec->mtu_request);
    }
    if (json_object_object_length(row) > 0) {
        struct json_object *op = add_op(ops, "update", "Interface");

        jv_add(op, "where", condition("_uuid", uuid_of(interface)));
        jv_add(op, "row", TAKE(row));
    }
    external_ids_of(spec, pairs);
    add_map_changes(ops, interface, "external_ids", pairs);
    options_of(spec, pairs);
    add_map_changes(ops, interface, "options", pairs);
}

/* A tap that libvirt has yet to make: the switch takes it in when it appears. */
static bool is_waiting_for_tap(const struct ovs_row *interface, const struct ovs_port_spec *spec)
{
    const char *error = ovs_row_str(interface, "error");

    return str_is_empty(spec->type) && error && strstr(error, "No such device");
}

/* The database is as it should be: what does the switch say? */
static struct err *plan_confirm(const struct ovs_row *root, const struct ovs_row *interface,
                                const struct ovs_port_spec *spec, int64_t wait_cfg,
                                struct ovsplan *ret)
{
    const char *error = ovs_row_str(interface, "error");
    int64_t ofport = ovs_row_int(interface, "ofport", 0);

    if (wait_cfg >= 0 && ovs_row_int(root, "cur_cfg", 0) < wait_cfg) {
        return plan(ret, OVSPLAN_WAIT);
    }
    if (ofport > 0 || is_waiting_for_tap(interface, spec)) {
        return plan(ret, OVSPLAN_DONE);
    }
    if (wait_cfg < 0) {
        /* Any change makes the switch try again what it could not do before. */
        return plan_send(ret, root, json_object_new_array(), "novashim: try again");
    }
    if (error || ofport < 0) {
        return err_msg(ERR_VIF_PLUG, "Open vSwitch refuses port %s of type '%s': %s", spec->name,
                       spec->type ? spec->type : "", error ? error : "no OpenFlow port number");
    }
    return plan(ret, OVSPLAN_WAIT);
}

/* A bridge's own port is not ours to move or remove. */
static struct err *check_not_bridge(const struct ovscache *c, const char *name)
{
    return ovscache_find(c, OVS_TABLE_BRIDGE, name)
               ? err_msg(ERR_VIF_PLUG, "a port cannot be named %s: Open vSwitch has such a bridge",
                         name)
               : NULL;
}

struct err *ovsplan_ensure_port(const struct ovscache *c, const void *what, int64_t wait_cfg,
                                struct ovsplan *ret)
{
    const struct ovs_port_spec *spec = what;
    const struct ovs_row *bridge = ovscache_find(c, OVS_TABLE_BRIDGE, spec->bridge);
    const struct ovs_row *port = ovscache_find(c, OVS_TABLE_PORT, spec->name);
    const struct ovs_row *interface = ovscache_find(c, OVS_TABLE_INTERFACE, spec->name), *root;
    CLEANUP(freep) char *comment = str_printf("novashim: port %s", spec->name);
    CLEANUP(jv_putp) struct json_object *ops = json_object_new_array();

    TRY(need_root(c, &root));
    if (is_behind(root, wait_cfg)) {
        return plan(ret, OVSPLAN_WAIT);
    }
    TRY(check_not_bridge(c, spec->name));
    if (!port != !interface || (port && !ovs_row_set_has(port, "interfaces", interface->uuid))) {
        return err_msg(ERR_VIF_PLUG, "Open vSwitch has port and interface %s apart: part of a bond",
                       spec->name);
    }
    if (!bridge) {
        add_bridge(ops, root, spec->bridge, spec->datapath_type);
    }
    if (port) {
        add_move(ops, c, bridge, port);
        add_interface_changes(ops, interface, spec);
    } else {
        add_new_port(ops, bridge, spec);
    }
    if (json_object_array_length(ops) > 0) {
        return plan_send(ret, root, TAKE(ops), comment);
    }
    assert(interface);
    return plan_confirm(root, interface, spec, wait_cfg, ret);
}

struct err *ovsplan_set_socket(const struct ovscache *c, const void *what, int64_t wait_cfg,
                               struct ovsplan *ret)
{
    const struct ovs_socket_spec *spec = what;
    const struct ovs_row *interface = ovscache_find(c, OVS_TABLE_INTERFACE, spec->name), *root;
    const struct pair pairs[MAX_PAIRS] = {{"vhost-server-path", spec->path}};
    CLEANUP(freep) char *comment = str_printf("novashim: socket of port %s", spec->name);
    CLEANUP(jv_putp) struct json_object *ops = json_object_new_array();

    TRY(need_root(c, &root));
    if (is_behind(root, wait_cfg)) {
        return plan(ret, OVSPLAN_WAIT);
    }
    if (interface) {
        add_map_changes(ops, interface, "options", pairs);
    }
    return json_object_array_length(ops) > 0 ? plan_send(ret, root, TAKE(ops), comment)
                                             : plan(ret, OVSPLAN_DONE);
}

struct err *ovsplan_remove_port(const struct ovscache *c, const void *what, int64_t wait_cfg,
                                struct ovsplan *ret)
{
    const struct ovs_row *port = ovscache_find(c, OVS_TABLE_PORT, what), *root, *bridge;
    CLEANUP(freep) char *comment = str_printf("novashim: no port %s", (const char *)what);
    struct json_object *ops;

    bridge = port ? ovscache_bridge_of(c, port) : NULL;
    if (!bridge) {
        return plan(ret, OVSPLAN_DONE); /* A port lives only in a bridge. */
    }
    TRY(need_root(c, &root));
    TRY(check_not_bridge(c, what));
    if (is_behind(root, wait_cfg)) {
        return plan(ret, OVSPLAN_WAIT);
    }
    /* The database collects the rows of a port that no bridge has. */
    ops = json_object_new_array();
    add_mutate(ops, "Bridge", uuid_of(bridge), list(1, mutation("ports", "delete", uuid_of(port))));
    return plan_send(ret, root, ops, comment);
}

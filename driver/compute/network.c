#include "driver/compute/network.h"

#include "base/keylock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define MIGRATING_TO "migrating_to"

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    struct instance_info_cache *cache =
        instance_has_info_cache(inst) ? instance_info_cache(inst) : NULL;
    const char *text = NULL;

    if (cache && instance_info_cache_has_network_info(cache)) {
        text = instance_info_cache_network_info(cache);
    }
    TRY_CTX(vif_list_parse(text, ret), "reading the network of %s", instance_uuid(inst));
    return NULL;
}

/* The instance's cache; an empty one is made if it has none. */
static struct instance_info_cache *cache_of(struct instance *inst)
{
    if (!instance_info_cache(inst)) {
        struct instance_info_cache *cache = instance_info_cache_new();

        instance_info_cache_set_instance_uuid(cache, instance_uuid(inst));
        instance_set_info_cache(inst, cache);
    }
    return instance_info_cache(inst);
}

/* The model in the cache, an array: read anew from the database, since somebody else may have
 * attached a port, but for a cache that is made just now. */
static struct err *read_model(struct node *node, const struct rctx *ctx, struct instance *inst,
                              struct json_object **ret)
{
    static const char *const attrs[] = {"info_cache", NULL};
    struct instance_info_cache *cache;
    const char *text;
    bool is_there;

    TRY(instance_load(node->conductor, ctx, inst, attrs));
    is_there = instance_info_cache(inst) != NULL;
    cache = cache_of(inst);

    if (is_there) {
        TRY(info_cache_refresh(node->conductor, ctx, cache));
    }
    text = instance_info_cache_has_network_info(cache) ? instance_info_cache_network_info(cache)
                                                       : NULL;
    if (str_is_empty(text)) {
        *ret = json_object_new_array();
        return NULL;
    }
    TRY_CTX(jv_parse(text, strlen(text), ret), "reading the network of %s", instance_uuid(inst));
    if (!json_object_is_type(*ret, json_type_array)) {
        jv_putp(ret);
        *ret = json_object_new_array();
    }
    return NULL;
}

/* Writes the model, unless it is what the database has. */
static struct err *write_model(struct node *node, const struct rctx *ctx, struct instance *inst,
                               struct json_object *model)
{
    struct instance_info_cache *cache = cache_of(inst);
    CLEANUP(freep) char *text = jv_text(model);
    CLEANUP(jv_putp) struct json_object *old = NULL;
    const char *now = instance_info_cache_has_network_info(cache)
                          ? instance_info_cache_network_info(cache)
                          : NULL;

    if (now && !str_is_empty(now)) {
        TRY(jv_parse(now, strlen(now), &old));
    }
    if (old && json_object_equal(old, model)) {
        return NULL;
    }
    instance_info_cache_set_network_info(cache, text);
    return info_cache_save(node->conductor, ctx, cache);
}

/* Of VIFs, or of ports. */
static struct json_object *with_id(struct json_object *list, const char *port_id)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);

        if (str_eq(json_object_get_string(jv_get(item, "id")), port_id)) {
            return item;
        }
    }
    return NULL;
}

/* What 'added' knows better than the model, and after it the VIFs that the model does not have. */
static void add_vifs(struct json_object *model, struct json_object *added)
{
    for (size_t i = 0; added && i < json_object_array_length(added); i++) {
        struct json_object *vif = json_object_array_get_idx(added, i);
        struct json_object *old = with_id(model, json_object_get_string(jv_get(vif, "id")));

        if (!old) {
            json_object_array_add(model, jv_dup(vif));
        } else if (jv_get(vif, "preserve_on_delete")) {
            jv_add(old, "preserve_on_delete", jv_dup(jv_get(vif, "preserve_on_delete")));
        }
    }
}

/* Puts those first that 'order' names, in its order. */
static struct json_object *sorted(struct json_object *model, const struct strv *order)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < order->n; i++) {
        struct json_object *vif = with_id(model, order->items[i]);

        if (vif) {
            json_object_array_add(list, json_object_get(vif));
        }
    }
    add_vifs(list, model);
    return list;
}

static struct err *rebuild_locked(struct node *node, const struct rctx *ctx, struct instance *inst,
                                  struct json_object *added, const struct strv *order,
                                  struct vif_list *ret)
{
    CLEANUP(jv_putp) struct json_object *old = NULL;
    CLEANUP(jv_putp) struct json_object *model = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    TRY(read_model(node, ctx, inst, &old));
    add_vifs(old, added);
    if (order) {
        struct json_object *list = sorted(old, order);

        jv_putp(&old);
        old = list;
    }
    TRY(neutron_network_model(node->neutron, instance_uuid(inst), instance_project_id(inst), old,
                              conf->neutron.ovs_bridge, &model));
    CLEANUP(freep) char *text = jv_text(model);

    TRY(vif_list_parse(text, &vifs));
    TRY(write_model(node, ctx, inst, model));
    *ret = vifs;
    vifs = (struct vif_list){0};
    return NULL;
}

struct err *network_rebuild(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct json_object *added, const struct strv *order,
                            struct vif_list *ret)
{
    keylock_take(node->network_locks, instance_uuid(inst));
    struct err *e = rebuild_locked(node, ctx, inst, added, order, ret);

    keylock_give(node->network_locks, instance_uuid(inst));
    return e;
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    return network_rebuild(node, ctx, inst, /* added= */ NULL, /* order= */ NULL, ret);
}

static struct err *note_locked(struct node *node, const struct rctx *ctx, struct instance *inst,
                               struct json_object *vifs)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;

    TRY(read_model(node, ctx, inst, &model));
    add_vifs(model, vifs);
    return write_model(node, ctx, inst, model);
}

struct err *network_note(struct node *node, const struct rctx *ctx, struct instance *inst,
                         struct json_object *vifs)
{
    keylock_take(node->network_locks, instance_uuid(inst));
    struct err *e = note_locked(node, ctx, inst, vifs);

    keylock_give(node->network_locks, instance_uuid(inst));
    return e;
}

static struct err *forget_locked(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const struct strv *port_ids)
{
    CLEANUP(jv_putp) struct json_object *model = NULL;
    CLEANUP(jv_putp) struct json_object *rest = json_object_new_array();

    TRY(read_model(node, ctx, inst, &model));
    for (size_t i = 0; port_ids && i < json_object_array_length(model); i++) {
        struct json_object *vif = json_object_array_get_idx(model, i);
        const char *id = json_object_get_string(jv_get(vif, "id"));

        if (!id || !strv_has(port_ids, id)) {
            json_object_array_add(rest, json_object_get(vif));
        }
    }
    return write_model(node, ctx, inst, rest);
}

struct err *network_forget(struct node *node, const struct rctx *ctx, struct instance *inst,
                           const struct strv *port_ids)
{
    keylock_take(node->network_locks, instance_uuid(inst));
    struct err *e = forget_locked(node, ctx, inst, port_ids);

    keylock_give(node->network_locks, instance_uuid(inst));
    return e;
}

typedef struct err *(*migrate_vif_fn)(struct vif_migrate_data *, struct vif *ret);

static struct err *source_vif(struct vif_migrate_data *mv, struct vif *ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    const char *text = vif_migrate_data_has_source_vif(mv) ? vif_migrate_data_source_vif(mv) : NULL;

    if (!text) {
        return err_msg(ERR_MIGRATION_ERROR, "migrate_data has no source_vif for port %s",
                       vif_migrate_data_has_port_id(mv) ? vif_migrate_data_port_id(mv) : "?");
    }
    TRY(jv_parse(text, strlen(text), &json));
    return vif_from_json(json, ret);
}

static struct err *dest_vif(struct vif_migrate_data *mv, struct vif *ret)
{
    struct vif source = {0};

    TRY(source_vif(mv, &source));
    struct err *e = vif_destination(
        &source, vif_migrate_data_has_vif_type(mv) ? vif_migrate_data_vif_type(mv) : NULL,
        vif_migrate_data_has_vnic_type(mv) ? vif_migrate_data_vnic_type(mv) : NULL,
        vif_migrate_data_has_profile_json(mv) ? vif_migrate_data_profile_json(mv) : NULL,
        vif_migrate_data_has_vif_details_json(mv) ? vif_migrate_data_vif_details_json(mv) : NULL,
        ret);

    vif_fini(&source);
    return e;
}

static struct err *migrate_vifs(struct libvirt_live_migrate_data *md, const struct vif_list *cached,
                                migrate_vif_fn fn, struct vif_list *ret)
{
    bool has_vifs = libvirt_live_migrate_data_has_vifs(md);
    size_t n = has_vifs ? libvirt_live_migrate_data_n_vifs(md) : cached->n;
    struct vif_list list = {.items = NEW_ARRAY(struct vif, n), .n = 0};

    for (size_t i = 0; i < n; i++) {
        struct err *e = has_vifs ? fn(libvirt_live_migrate_data_vifs_at(md, i), &list.items[i])
                                 : vif_from_json(cached->items[i].json, &list.items[i]);

        if (e) {
            vif_list_fini(&list);
            return e;
        }
        list.n++;
    }
    *ret = list;
    return NULL;
}

struct err *network_dest_vifs(struct libvirt_live_migrate_data *md, const struct vif_list *cached,
                              struct vif_list *ret)
{
    return migrate_vifs(md, cached, dest_vif, ret);
}

struct err *network_source_vifs(struct libvirt_live_migrate_data *md, const struct vif_list *cached,
                                struct vif_list *ret)
{
    return migrate_vifs(md, cached, source_vif, ret);
}

struct err *network_copy_vifs(const struct vif_list *list, struct vif_list *ret)
{
    struct vif_list copy = {.items = NEW_ARRAY(struct vif, list->n), .n = 0};

    for (size_t i = 0; i < list->n; i++) {
        struct err *e = vif_from_json(list->items[i].json, &copy.items[i]);

        if (e) {
            vif_list_fini(&copy);
            return e;
        }
        copy.n++;
    }
    *ret = copy;
    return NULL;
}

static const char *port_host(struct json_object *port)
{
    return json_object_get_string(jv_get(port, "binding:host_id"));
}

/* The profile of a port without migrating_to, or with it set to 'host'; NULL when nothing changes.
 */
static struct json_object *profile_with(struct json_object *port, const char *host)
{
    struct json_object *old = jv_get(port, "binding:profile");
    const char *now = json_object_get_string(jv_get(old, MIGRATING_TO));

    if (str_eq(now, host)) {
        return NULL;
    }
    struct json_object *profile = old ? jv_dup(old) : json_object_new_object();

    json_object_object_del(profile, MIGRATING_TO);
    if (host) {
        jv_add_str(profile, MIGRATING_TO, host);
    }
    return profile;
}

struct err *network_set_migrating_to(struct node *node, struct instance *inst, const char *host)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);
        const char *id = json_object_get_string(jv_get(port, "id"));

        if (str_eq(port_host(port), host)) {
            continue;
        }
        struct json_object *profile = profile_with(port, host);

        if (profile) {
            struct json_object *attrs = json_object_new_object();

            jv_add(attrs, "binding:profile", profile);
            TRY_CTX(neutron_port_update(node->neutron, id, attrs),
                    "noting in port %s where it goes", id);
        }
    }
    return NULL;
}

struct err *network_teardown_on_host(struct node *node, struct instance *inst, const char *host)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    struct strv failed = {0};

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);
        const char *id = json_object_get_string(jv_get(port, "id"));
        struct json_object *profile = profile_with(port, /* host= */ NULL);

        if (profile) {
            struct json_object *attrs = json_object_new_object();

            jv_add(attrs, "binding:profile", profile);
            err_ignore(neutron_port_update(node->neutron, id, attrs),
                       "taking migrating_to out of a port's profile");
        }
        if (str_eq(host, instance_host(inst))) {
            continue; /* The server is there: that binding is in use. */
        }
        CLEANUP(err_freep) struct err *e = neutron_binding_delete(node->neutron, id, host);

        if (e) {
            log_warning(LOG_COMPUTE, "binding of port %s on %s is not deleted: %s", id, host,
                        err_message(e));
            strv_add(&failed, id);
        }
    }
    if (!failed.n) {
        return NULL;
    }
    CLEANUP(freep) char *ids = strv_join(&failed, ", ");

    strv_fini(&failed);
    return err_new(ERR_PORT_BINDING_DELETION, "port_id", ids, "host", host, NULL);
}

struct err *network_activate(struct node *node, const struct vif_list *vifs, const char *host)
{
    struct err *first = NULL;

    for (size_t i = 0; i < vifs->n; i++) {
        struct err *e = neutron_binding_activate(node->neutron, vifs->items[i].id, host);

        if (err_is(e, ERR_NOT_FOUND)) {
            e = err_free(
                e); /* A port without a binding there: neutron binds it in the post step. */
        }
        if (e && first) {
            err_ignore(e, "activating a port binding");
        } else if (e) {
            first = e;
        }
    }
    return first;
}

static bool is_bound_here(struct node *node, struct json_object *port)
{
    const char *vif_type = json_object_get_string(jv_get(port, "binding:vif_type"));

    return str_eq(port_host(port), node->host) && !str_eq(vif_type, "unbound") &&
           !str_eq(vif_type, "binding_failed");
}

static struct err *bind_here(struct node *node, struct instance *inst, struct json_object *port)
{
    const char *id = json_object_get_string(jv_get(port, "id"));
    struct json_object *attrs = json_object_new_object();
    struct json_object *profile = profile_with(port, /* host= */ NULL);
    const char *zone =
        instance_has_availability_zone(inst) ? instance_availability_zone(inst) : NULL;
    CLEANUP(freep) char *owner = str_printf("compute:%s", zone ? zone : "None");

    jv_add_str(attrs, "binding:host_id", node->host);
    jv_add_str(attrs, "device_owner", owner);
    if (profile) {
        jv_add(attrs, "binding:profile", profile);
    }
    TRY_CTX(neutron_port_update(node->neutron, id, attrs), "binding port %s here", id);
    log_warning(LOG_COMPUTE, "port %s was not bound here yet, it is now", id);
    return NULL;
}

/* What a binding says, into the VIF of the model. */
static void update_vif(struct json_object *vif, struct json_object *port)
{
    static const struct {
        const char *key, *attr;
    } members[] = {{"type", "binding:vif_type"},
                   {"details", "binding:vif_details"},
                   {"vnic_type", "binding:vnic_type"},
                   {"profile", "binding:profile"}};
    bool is_active = str_eq(json_object_get_string(jv_get(port, "status")), "ACTIVE") ||
                     !json_object_get_boolean(jv_get(port, "admin_state_up"));

    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        struct json_object *value = jv_get(port, members[i].attr);

        if (value) {
            jv_add(vif, members[i].key, jv_dup(value));
        }
    }
    json_object_object_del(jv_get(vif, "profile"), MIGRATING_TO);
    jv_add_bool(vif, "active", is_active);
}

/* The model with the ports' present bindings; false if the two do not name the same ports. */
static bool update_model(struct json_object *model, struct json_object *ports)
{
    if (!json_object_is_type(model, json_type_array) ||
        json_object_array_length(model) != json_object_array_length(ports)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(model); i++) {
        struct json_object *vif = json_object_array_get_idx(model, i);
        struct json_object *port = with_id(ports, json_object_get_string(jv_get(vif, "id")));

        if (!port) {
            return false;
        }
        update_vif(vif, port);
    }
    return true;
}

static struct err *store_bindings(struct node *node, const struct rctx *ctx, struct instance *inst,
                                  struct json_object *ports)
{
    struct instance_info_cache *cache =
        instance_has_info_cache(inst) ? instance_info_cache(inst) : NULL;
    const char *old = cache && instance_info_cache_has_network_info(cache)
                          ? instance_info_cache_network_info(cache)
                          : NULL;
    CLEANUP(jv_putp) struct json_object *model = NULL;
    struct vif_list vifs = {0};

    if (old) {
        TRY(jv_parse(old, strlen(old), &model));
    }
    if (!model || !update_model(model, ports)) {
        struct err *e = network_refresh(node, ctx, inst, &vifs);

        vif_list_fini(&vifs);
        return e;
    }
    CLEANUP(freep) char *text = jv_text(model);

    instance_info_cache_set_network_info(cache, text);
    return info_cache_save(node->conductor, ctx, cache);
}

struct err *network_arrive(struct node *node, const struct rctx *ctx, struct instance *inst,
                           const char *source)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    bool is_rebound = false;

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);

        if (!is_bound_here(node, port)) {
            TRY(bind_here(node, inst, port));
            is_rebound = true;
        }
    }
    if (is_rebound) {
        jv_putp(&ports);
        TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                    &ports));
    }
    err_ignore(store_bindings(node, ctx, inst, ports), "storing the ports' bindings");
    for (size_t i = 0; !str_eq(source, node->host) && i < json_object_array_length(ports); i++) {
        const char *id = json_object_get_string(jv_get(json_object_array_get_idx(ports, i), "id"));

        err_ignore(neutron_binding_delete(node->neutron, id, source),
                   "removing the source's binding of a port");
    }
    return NULL;
}

struct err *network_clear_migrating_to(struct node *node, struct instance *inst)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);
        struct json_object *profile = profile_with(port, /* host= */ NULL);

        if (profile) {
            struct json_object *attrs = json_object_new_object();

            jv_add(attrs, "binding:profile", profile);
            TRY(neutron_port_update(node->neutron, json_object_get_string(jv_get(port, "id")),
                                    attrs));
        }
    }
    return NULL;
}

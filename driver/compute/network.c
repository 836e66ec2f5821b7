#include "driver/compute/network.h"

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

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    struct instance_info_cache *cache =
        instance_has_info_cache(inst) ? instance_info_cache(inst) : NULL;
    CLEANUP(jv_putp) struct json_object *old = NULL;
    CLEANUP(jv_putp) struct json_object *model = NULL;
    const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep) char *bridge = str_dup(conf->neutron.ovs_bridge);

    conf_put(conf);
    if (cache) {
        /* Somebody else may have attached a port since: the order of the cache in the database
         * counts. */
        TRY(info_cache_refresh(node->conductor, ctx, cache));
        if (instance_info_cache_has_network_info(cache) &&
            instance_info_cache_network_info(cache)) {
            const char *text = instance_info_cache_network_info(cache);

            TRY(jv_parse(text, strlen(text), &old));
        }
    } else {
        cache = instance_info_cache_new();
        instance_info_cache_set_instance_uuid(cache, instance_uuid(inst));
        instance_set_info_cache(inst, cache);
    }
    TRY(neutron_network_model(node->neutron, instance_uuid(inst), instance_project_id(inst), old,
                              bridge, &model));
    CLEANUP(freep) char *text = jv_text(model);

    TRY(vif_list_parse(text, ret));
    if (!old || !json_object_equal(old, model)) {
        instance_info_cache_set_network_info(cache, text);
        struct err *e = info_cache_save(node->conductor, ctx, cache);

        if (e) {
            vif_list_fini(ret);
            return e;
        }
    }
    return NULL;
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

static struct json_object *port_of(struct json_object *ports, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);

        if (str_eq(json_object_get_string(jv_get(port, "id")), id)) {
            return port;
        }
    }
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
        struct json_object *port = port_of(ports, json_object_get_string(jv_get(vif, "id")));

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

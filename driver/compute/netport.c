#include "driver/compute/netport.h"

#include <stdlib.h>
#include <string.h>

#define NO_PROVIDER                                                                                \
    "Provider mappings are not available to the compute service but are required for ports with "  \
    "a resource request."

const char *netport_str(struct json_object *port, const char *key)
{
    return json_object_get_string(jv_get(port, key));
}

static size_t len_of(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* ---- Ports that a user brings ---- */

struct err *netport_check_binding(struct json_object *port)
{
    if (str_eq(netport_str(port, "binding:vif_type"), "binding_failed")) {
        return err_new(ERR_PORT_BINDING_FAILED, "port_id", netport_str(port, "id"), NULL);
    }
    return NULL;
}

struct err *netport_check(struct json_object *port, const struct instance *inst)
{
    const char *id = netport_str(port, "id"), *dns_name = netport_str(port, "dns_name");
    const char *hostname = instance_has_hostname(inst) ? instance_hostname(inst) : NULL;

    if (!str_eq(netport_str(port, "tenant_id"), instance_project_id(inst))) {
        return err_new(ERR_PORT_NOT_USABLE, "port_id", id, "instance", instance_uuid(inst), NULL);
    }
    if (!str_is_empty(netport_str(port, "device_id"))) {
        return err_new(ERR_PORT_IN_USE, "port_id", id, NULL);
    }
    if (!str_is_empty(dns_name) && !str_eq(dns_name, hostname)) {
        return err_new(ERR_PORT_NOT_USABLE_DNS, "port_id", id, "instance", instance_uuid(inst),
                       "value", dns_name, "hostname", hostname, NULL);
    }
    return netport_check_binding(port);
}

bool netport_needs_pci(struct json_object *port)
{
    /* VNIC_TYPES_SRIOV and VNIC_TYPES_ACCELERATOR of nova/network/model.py. */
    static const char *const types[] = {
        "direct", "macvtap",        "direct-physical",    "virtio-forwarder",
        "vdpa",   "remote-managed", "accelerator-direct", "accelerator-direct-physical"};
    const char *type = netport_str(port, "binding:vnic_type");

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (str_eq(type, types[i])) {
            return true;
        }
    }
    return false;
}

/* ---- Resources of placement ---- */

static struct json_object *groups_of(struct json_object *port)
{
    return jv_get(jv_get(port, "resource_request"), "request_groups");
}

bool netport_has_resource_request(struct json_object *port, bool is_grouped)
{
    struct json_object *request = jv_get(port, "resource_request");

    if (is_grouped) {
        return len_of(groups_of(port)) > 0;
    }
    return json_object_is_type(request, json_type_object) && json_object_object_length(request) > 0;
}

/* The provider that conductor has chosen for who asked: a group of a port, or a port. */
static const char *provider_of(const struct request_spec *spec, const char *requester)
{
    size_t n = spec && request_spec_has_requested_resources(spec)
                   ? request_spec_n_requested_resources(spec)
                   : 0;

    for (size_t i = 0; i < n; i++) {
        const struct request_group *g = request_spec_requested_resources_at(spec, i);

        if (request_group_has_requester_id(g) && str_eq(request_group_requester_id(g), requester) &&
            request_group_has_provider_uuids(g) && request_group_n_provider_uuids(g) > 0) {
            return request_group_provider_uuids_at(g, 0);
        }
    }
    return NULL;
}

static struct err *no_provider(struct json_object *port)
{
    return err_new(ERR_PORT_UPDATE_FAILED, "port_id", netport_str(port, "id"), "reason",
                   NO_PROVIDER, NULL);
}

struct err *netport_allocation(struct json_object *port, bool is_grouped,
                               const struct request_spec *spec, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *map = json_object_new_object();
    struct json_object *groups = groups_of(port);
    const char *provider;

    if (!is_grouped) {
        provider = provider_of(spec, netport_str(port, "id"));
        *ret = provider ? jv_new_str(provider) : NULL;
        return provider ? NULL : no_provider(port);
    }
    for (size_t i = 0; i < len_of(groups); i++) {
        const char *id = netport_str(json_object_array_get_idx(groups, i), "id");

        provider = id ? provider_of(spec, id) : NULL;
        if (!provider) {
            return no_provider(port);
        }
        jv_add_str(map, id, provider);
    }
    *ret = TAKE(map);
    return NULL;
}

static void add_held(struct json_object *held, const char *provider, struct json_object *resources)
{
    if (provider && json_object_is_type(resources, json_type_object)) {
        jv_add(held, provider, jv_dup(resources));
    }
}

struct json_object *netport_held(struct json_object *port, bool is_grouped)
{
    struct json_object *held = json_object_new_object(), *groups = groups_of(port);
    struct json_object *allocation = jv_get(jv_get(port, "binding:profile"), "allocation");

    if (!is_grouped) {
        add_held(held, json_object_get_string(allocation),
                 jv_get(jv_get(port, "resource_request"), "resources"));
        return held;
    }
    for (size_t i = 0; i < len_of(groups); i++) {
        struct json_object *group = json_object_array_get_idx(groups, i);
        const char *id = netport_str(group, "id");

        add_held(held, id ? netport_str(allocation, id) : NULL, jv_get(group, "resources"));
    }
    return held;
}

/* ---- Security groups ---- */

/* The id of the group with this name, or else with this id; NULL if there is none. */
static struct err *find_group(struct json_object *groups, const char *wanted, const char **ret)
{
    const char *by_name = NULL, *by_id = NULL;

    for (size_t i = 0; i < len_of(groups); i++) {
        struct json_object *group = json_object_array_get_idx(groups, i);
        const char *id = netport_str(group, "id");

        if (str_eq(netport_str(group, "name"), wanted)) {
            if (by_name) {
                return err_msg(ERR_NO_UNIQUE_MATCH,
                               "Multiple security groups found matching '%s'. Use an ID to be more "
                               "specific.",
                               wanted);
            }
            by_name = id;
        }
        if (str_eq(id, wanted)) {
            by_id = id;
        }
    }
    *ret = by_name ? by_name : by_id;
    return NULL;
}

struct err *netport_group_ids(struct json_object *wanted, struct json_object *groups,
                              struct strv *ret)
{
    CLEANUP(strv_fini) struct strv ids = {0};

    for (size_t i = 0; i < len_of(wanted); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(wanted, i));
        const char *id = NULL;

        TRY(find_group(groups, name, &id));
        if (!id) {
            return err_new(ERR_SECURITY_GROUP_NOT_FOUND, "security_group_id", name, NULL);
        }
        strv_add(&ids, id);
    }
    *ret = ids;
    ids = (struct strv){0};
    return NULL;
}

struct err *netport_check_groups(struct json_object *network, bool has_groups)
{
    struct json_object *enabled = jv_get(network, "port_security_enabled");
    bool is_secured = !enabled || json_object_get_boolean(enabled);

    /* Neutron filters by address: without subnets there is nothing to filter. */
    if (is_secured ? len_of(jv_get(network, "subnets")) == 0 : has_groups) {
        return err_new(ERR_SECURITY_GROUP_CANNOT_BE_APPLIED, NULL);
    }
    return NULL;
}

bool netport_has_dns_domain(struct json_object *network)
{
    return !str_is_empty(netport_str(network, "dns_domain"));
}

/* ---- Attributes ---- */

struct json_object *netport_create_attrs(const struct instance *inst, const char *network_id,
                                         const char *address, const struct strv *group_ids)
{
    struct json_object *attrs = json_object_new_object();

    /* The device says at once whose port it is, so that nobody else takes it. */
    jv_add_str(attrs, "device_id", instance_uuid(inst));
    if (address) {
        struct json_object *ips = json_object_new_array(), *ip = json_object_new_object();

        jv_add_str(ip, "ip_address", address);
        json_object_array_add(ips, ip);
        jv_add(attrs, "fixed_ips", ips);
    }
    jv_add_str(attrs, "network_id", network_id);
    jv_add_bool(attrs, "admin_state_up", true);
    jv_add_str(attrs, "tenant_id", instance_project_id(inst));
    if (group_ids->n > 0) {
        struct json_object *groups = json_object_new_array();

        for (size_t i = 0; i < group_ids->n; i++) {
            json_object_array_add(groups, jv_new_str(group_ids->items[i]));
        }
        jv_add(attrs, "security_groups", groups);
    }
    return attrs;
}

struct json_object *netport_bind_attrs(const struct instance *inst, const char *host,
                                       struct json_object *profile, const char *dns_name)
{
    struct json_object *attrs = json_object_new_object();
    const char *zone =
        instance_has_availability_zone(inst) ? instance_availability_zone(inst) : NULL;
    CLEANUP(freep) char *owner = str_printf("compute:%s", zone ? zone : "None");

    jv_add_str(attrs, "device_id", instance_uuid(inst));
    jv_add_str(attrs, "device_owner", owner);
    if (json_object_is_type(profile, json_type_object) && json_object_object_length(profile) > 0) {
        jv_add(attrs, "binding:profile", jv_dup(profile));
    }
    jv_add_str(attrs, "binding:host_id", host);
    if (dns_name) {
        jv_add_str(attrs, "dns_name", dns_name);
    }
    return attrs;
}

struct json_object *netport_unbind_attrs(struct json_object *port, bool resets_dns_name)
{
    /* What Nova has written there; the rest is the user's or neutron's. */
    static const char *const ours[] = {"pci_vendor_info", "pci_slot",         "allocation",
                                       "arq_uuid",        "physical_network", "card_serial_number",
                                       "vf_num",          "pf_mac_address",   "device_mac_address"};
    struct json_object *attrs = json_object_new_object();
    struct json_object *old = jv_get(port, "binding:profile");
    struct json_object *profile =
        json_object_is_type(old, json_type_object) ? jv_dup(old) : json_object_new_object();

    for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
        json_object_object_del(profile, ours[i]);
    }
    jv_add_str(attrs, "device_id", "");
    jv_add_str(attrs, "device_owner", "");
    jv_add(attrs, "binding:host_id", NULL);
    jv_add(attrs, "binding:profile", profile);
    if (resets_dns_name) {
        jv_add_str(attrs, "dns_name", "");
    }
    return attrs;
}

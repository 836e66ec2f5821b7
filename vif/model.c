#include "vif/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIF_NAME_SIZE 15 /* 14 characters, as Nova cuts them (NIC_NAME_LEN). */

/* ---- Reading ---- */

/* What Python takes for true: details come from neutron as they are. */
static bool is_true(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return false;
    case json_type_boolean:
        return json_object_get_boolean(value);
    case json_type_int:
        return json_object_get_int64(value) != 0;
    case json_type_double:
        return json_object_get_double(value) != 0;
    case json_type_string:
        return json_object_get_string_len(value) > 0;
    case json_type_array:
        return json_object_array_length(value) > 0;
    case json_type_object:
        return json_object_object_length(value) > 0;
    }
    return false;
}

/* A number, which neutron's SR-IOV driver writes as a string. */
static int64_t vlan_of(struct json_object *value)
{
    int64_t vlan = 0;

    if (json_object_is_type(value, json_type_int)) {
        return json_object_get_int64(value);
    }
    if (json_object_is_type(value, json_type_string) &&
        !str_to_i64(json_object_get_string(value), &vlan)) {
        return 0;
    }
    return vlan;
}

/* Ids and device names become parts of names and paths on this host. */
static struct err *check_name(const char *what, const char *name)
{
    if (*name == '\0' || str_eq(name, ".") || str_eq(name, "..")) {
        return err_msg(ERR_PARSE, "VIF: %s '%s' names nothing", what, name);
    }
    for (const char *p = name; *p; p++) {
        if (*p <= ' ' || *p == '/' || *p == ':' || *p == '%' || *p == 0x7f) {
            return err_msg(ERR_PARSE, "VIF: %s '%s' has a byte 0x%02x", what, name,
                           (unsigned)(unsigned char)*p);
        }
    }
    return NULL;
}

static struct err *read_network(struct json_object *network, struct vif *vif)
{
    struct jv_reader r = jv_reader_init(network, "network of a VIF");
    struct jv_reader meta;

    if (!network) {
        return NULL;
    }
    vif->bridge = jv_str_or(&r, "bridge", NULL);
    meta = jv_reader_init(jv_obj_or(&r, "meta"), "network meta of a VIF");
    TRY(jv_finish(&r));
    if (meta.obj) {
        vif->physical_network = jv_str_or(&meta, "physical_network", NULL);
        vif->mtu = jv_int_or(&meta, "mtu", 0);
    }
    return jv_finish(&meta);
}

static struct err *read_details(struct json_object *details, struct vif *vif)
{
    struct jv_reader r = jv_reader_init(details, "details of a VIF");

    if (!details) {
        return NULL;
    }
    vif->bridge_name = jv_str_or(&r, "bridge_name", NULL);
    vif->datapath_type = jv_str_or(&r, "datapath_type", NULL);
    vif->vhostuser_socket = jv_str_or(&r, "vhostuser_socket", NULL);
    vif->vhostuser_mode = jv_str_or(&r, "vhostuser_mode", NULL);
    if (str_is_empty(vif->physical_network)) {
        vif->physical_network = jv_str_or(&r, "physical_network", NULL);
    }
    vif->is_hybrid = is_true(jv_get(details, "ovs_hybrid_plug"));
    vif->has_vhostuser_ovs_plug = is_true(jv_get(details, "vhostuser_ovs_plug"));
    vif->vlan = vlan_of(jv_get(details, "vlan"));
    return jv_finish(&r);
}

static struct err *read_vif(struct vif *vif)
{
    struct jv_reader r = jv_reader_init(vif->json, "VIF");
    struct jv_reader profile = {.what = "profile of a VIF"};

    vif->id = jv_str(&r, "id");
    vif->address = jv_str(&r, "address");
    vif->type = jv_str_or(&r, "type", NULL);
    vif->vnic_type = jv_str_or(&r, "vnic_type", "normal");
    vif->devname = jv_str_or(&r, "devname", NULL);
    vif->ovs_interfaceid = jv_str_or(&r, "ovs_interfaceid", NULL);
    vif->is_active = is_true(jv_get(vif->json, "active"));
    vif->is_delegated = is_true(jv_get(vif->json, "delegate_create"));
    profile.obj = jv_obj_or(&r, "profile");
    if (profile.obj) {
        vif->pci_slot = jv_str_or(&profile, "pci_slot", NULL);
    }
    TRY(jv_finish(&r));
    TRY(jv_finish(&profile));
    TRY(check_name("id", vif->id));
    if (!str_is_empty(vif->devname)) {
        TRY(check_name("devname", vif->devname));
    }
    TRY_CTX(read_network(jv_get(vif->json, "network"), vif), "reading port %s", vif->id);
    TRY_CTX(read_details(jv_get(vif->json, "details"), vif), "reading port %s", vif->id);
    return NULL;
}

struct err *vif_from_json(struct json_object *json, struct vif *ret)
{
    struct vif vif = {.json = json_object_get(json)};
    struct err *e = read_vif(&vif);

    if (e) {
        vif_fini(&vif);
        return e;
    }
    *ret = vif;
    return NULL;
}

void vif_fini(struct vif *vif)
{
    json_object_put(vif->json);
    *vif = (struct vif){0};
}

struct err *vif_list_parse(const char *text, struct vif_list *ret)
{
    CLEANUP(jv_putp) struct json_object *array = NULL;
    CLEANUP(vif_list_fini) struct vif_list list = {0};
    size_t n;

    if (!str_is_empty(text)) {
        TRY_CTX(jv_parse(text, strlen(text), &array), "reading network info");
    }
    if (array && !json_object_is_type(array, json_type_array)) {
        return err_msg(ERR_PARSE, "network info: not a list");
    }
    n = array ? json_object_array_length(array) : 0;
    list.items = NEW_ARRAY(struct vif, n);
    for (; list.n < n; list.n++) {
        TRY(vif_from_json(json_object_array_get_idx(array, list.n), &list.items[list.n]));
    }
    *ret = list;
    list = (struct vif_list){0};
    return NULL;
}

void vif_list_fini(struct vif_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        vif_fini(&list->items[i]);
    }
    free(list->items);
    *list = (struct vif_list){0};
}

const struct vif *vif_list_find(const struct vif_list *list, const char *port_id)
{
    for (size_t i = 0; i < list->n; i++) {
        if (str_eq(list->items[i].id, port_id)) {
            return &list->items[i];
        }
    }
    return NULL;
}

/* ---- The destination's ---- */

/* An object from its JSON text; NULL, "" and null are an empty one. */
static struct err *parse_dict(const char *text, const char *what, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *dict = NULL;

    if (!str_is_empty(text)) {
        TRY_CTX(jv_parse(text, strlen(text), &dict), "reading %s", what);
    }
    if (dict && !json_object_is_type(dict, json_type_object)) {
        return err_msg(ERR_PARSE, "%s: not an object", what);
    }
    *ret = dict ? TAKE(dict) : json_object_new_object();
    return NULL;
}

struct err *vif_destination(const struct vif *source, const char *vif_type, const char *vnic_type,
                            const char *profile_json, const char *vif_details_json, struct vif *ret)
{
    CLEANUP(jv_putp)
    struct json_object *json = jv_dup(source->json), *profile = NULL, *details = NULL;

    TRY_CTX(parse_dict(profile_json, "binding profile", &profile), "of port %s", source->id);
    TRY_CTX(parse_dict(vif_details_json, "binding details", &details), "of port %s", source->id);
    if (vif_type) {
        jv_add_str(json, "type", vif_type);
    }
    if (vnic_type) {
        jv_add_str(json, "vnic_type", vnic_type);
    }
    if (vif_type || vif_details_json) {
        jv_add(json, "details", TAKE(details));
    }
    jv_add_bool(json, "delegate_create", is_true(jv_get(profile, "os_vif_delegation")));
    jv_add(json, "profile", TAKE(profile));
    return vif_from_json(json, ret);
}

/* ---- Decisions ---- */

static struct err *unknown_kind(const struct vif *vif, const char *why)
{
    return err_msg(ERR_VIF_PLUG,
                   "port %s of VIF type '%s' and VNIC type '%s' cannot be plugged: %s", vif->id,
                   vif->type ? vif->type : "", vif->vnic_type, why);
}

static struct err *ovs_kind(const struct vif *vif, enum vif_kind *ret)
{
    if (!str_eq(vif->vnic_type, "normal")) {
        return unknown_kind(vif, "this VNIC type is not supported");
    }
    if (vif->is_hybrid) {
        *ret = VIF_KIND_OVS_HYBRID;
    } else {
        *ret = vif->is_delegated ? VIF_KIND_OVS_TAP : VIF_KIND_OVS_BRIDGE;
    }
    return NULL;
}

static struct err *vhostuser_kind(const struct vif *vif, enum vif_kind *ret)
{
    struct json_object *details = jv_get(vif->json, "details");

    if (is_true(jv_get(details, "vhostuser_fp_plug"))) {
        return unknown_kind(vif, "the plug-in vhostuser_fp is not supported");
    }
    if (vif->has_vhostuser_ovs_plug) {
        *ret = VIF_KIND_VHOSTUSER_OVS;
        return NULL;
    }
    if (is_true(jv_get(details, "vhostuser_vrouter_plug"))) {
        return unknown_kind(vif, "the plug-in contrail_vrouter is not supported");
    }
    *ret = VIF_KIND_VHOSTUSER_NONE;
    return NULL;
}

struct err *vif_kind(const struct vif *vif, enum vif_kind *ret)
{
    const char *type = vif->type ? vif->type : "unbound";

    if (str_eq(type, "ovs")) {
        return ovs_kind(vif, ret);
    }
    if (str_eq(type, "vhostuser")) {
        return vhostuser_kind(vif, ret);
    }
    if (str_eq(type, "binding_failed")) {
        return unknown_kind(vif, "its binding failed, see neutron's log");
    }
    if (str_eq(type, "unbound")) {
        return unknown_kind(vif, "it is bound to no host");
    }
    return unknown_kind(vif, "this VIF type is not supported");
}

const char *vif_kind_name(enum vif_kind kind)
{
    static const char *const names[] = {
#define VIF_KIND(id, name) [VIF_KIND_##id] = (name),
#include "vif/kinds.def"
#undef VIF_KIND
    };

    return names[kind];
}

void vif_prefixed_name(const struct vif *vif, const char *prefix, char ret[VIF_NAME_SIZE])
{
    CLEANUP(freep) char *name = str_printf("%s%s", prefix, vif->id);

    snprintf(ret, VIF_NAME_SIZE, "%.14s", name);
}

void vif_port_name(const struct vif *vif, enum vif_kind kind, char ret[VIF_NAME_SIZE])
{
    if (kind == VIF_KIND_VHOSTUSER_OVS) {
        vif_prefixed_name(vif, "vhu", ret);
    } else if (str_is_empty(vif->devname)) {
        vif_prefixed_name(vif, "nic", ret);
    } else {
        snprintf(ret, VIF_NAME_SIZE, "%.14s", vif->devname);
    }
}

const char *vif_bridge(const struct vif *vif, const char *integration_bridge)
{
    return str_is_empty(vif->bridge_name) ? integration_bridge : vif->bridge_name;
}

/* VNIC_TYPES_DIRECT_PASSTHROUGH of nova/network/model.py; macvtap stays. */
bool vif_is_detached_to_move(const struct vif *vif)
{
    static const char *const types[] = {
        "direct",
        "direct-physical",
        "accelerator-direct",
        "accelerator-direct-physical",
        "remote-managed",
        "vdpa",
    };

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (str_eq(vif->vnic_type, types[i])) {
            return true;
        }
    }
    return false;
}

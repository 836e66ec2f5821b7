#pragma once

/* A server's network interfaces, as Nova's network info describes them.
 *
 * Parsed from the JSON of the info cache or of VIFMigrateData; the JSON itself stays beside it, so
 * unknown keys survive.
 *
 * Source: nova/network/model.py, nova/network/os_vif_util.py, nova/objects/migrate_data.py
 * (VIFMigrateData.get_dest_vif).
 *
 * Thread-safety: plain values. */

#include "base/err.h"
#include "base/jv.h"

#include <stdbool.h>

struct vif {
    struct json_object *json; /* The VIF as it came; owned. */
    const char *id;           /* Port id.  Strings are borrowed from json. */
    const char *address;      /* MAC */
    const char *type;         /* binding:vif_type: "ovs", "vhostuser", ... may be NULL */
    const char *vnic_type;    /* "normal" if the model has none */
    const char *devname;      /* "tap..." or NULL */
    const char *ovs_interfaceid;
    const char *bridge; /* network.bridge, or NULL */
    const char *physical_network;
    int64_t mtu; /* 0: none */
    bool is_active;
    bool is_delegated;            /* delegate_create */
    bool is_hybrid;               /* details.ovs_hybrid_plug */
    const char *bridge_name;      /* details.bridge_name */
    const char *datapath_type;    /* details.datapath_type, or NULL */
    const char *vhostuser_socket; /* details.vhostuser_socket, or NULL */
    const char *vhostuser_mode;   /* QEMU's side: "client", "server" (default), or NULL */
    bool has_vhostuser_ovs_plug;
    const char *pci_slot; /* profile.pci_slot, or NULL */
    int64_t vlan;         /* details.vlan, or 0 */
};

struct vif_list {
    struct vif *items;
    size_t n;
};

/* From the JSON text of a network model (a list); NULL or "" is an empty list.  ERR_PARSE. */
struct err *vif_list_parse(const char *text, struct vif_list *ret) MUST_CHECK;
/* One VIF; takes a reference on json. */
struct err *vif_from_json(struct json_object *json, struct vif *ret) MUST_CHECK;
void vif_fini(struct vif *);
void vif_list_fini(struct vif_list *);
const struct vif *vif_list_find(const struct vif_list *, const char *port_id);

/* What a VIF is on the destination: the source's with type, vnic_type, profile and details replaced
 * by the binding's, and delegate_create from the profile's os_vif_delegation.  Arguments may be
 * NULL (not set): type and vnic_type, and without a type the details too, stay the source's; else
 * details and profile are empty. */
struct err *vif_destination(const struct vif *source, const char *vif_type, const char *vnic_type,
                            const char *profile_json, const char *vif_details_json, struct vif *ret)
    MUST_CHECK;

/* ---- What to do with it: pure decisions. ---- */

enum vif_kind {
#define VIF_KIND(id, name) VIF_KIND_##id,
#include "vif/kinds.def"
#undef VIF_KIND
};

/* How a VIF is plugged (contract vif.md 6.4); ERR_VIF_PLUG, naming port and type, for what we do
 * not plug. */
struct err *vif_kind(const struct vif *, enum vif_kind *ret) MUST_CHECK;
const char *vif_kind_name(enum vif_kind);
/* Name of the guest's device on the host: the tap, or the vhost-user port (vhu...).  It is also the
 * name of the OVS port, but for a hybrid plug, whose OVS port is "qvo". */
void vif_port_name(const struct vif *, enum vif_kind, char ret[15]);
/* Any of the names made of three letters and the port id, cut to 14 characters: "qbr" and "qvb"
 * (the bridge of a hybrid plug and its end of the veth pair), "qvo" (the other end: the OVS port).
 */
void vif_prefixed_name(const struct vif *, const char *prefix, char ret[15]);
/* The integration bridge it goes to: details.bridge_name or the default. */
const char *vif_bridge(const struct vif *, const char *integration_bridge);
/* SR-IOV and vDPA: unplugged from the guest for a live migration. */
bool vif_is_detached_to_move(const struct vif *);

#include "driver/libvirt/guest_build.h"
#include "pci/addr.h"

#include <stdio.h>
#include <string.h>

/* ---- What kind of interface a port is ---- */

enum nic_kind {
    NIC_ETHERNET,  /* A tap that libvirt makes, or that is there. */
    NIC_OVS,       /* A bridge of Open vSwitch, whose port libvirt makes. */
    NIC_BRIDGE,    /* A bridge of the kernel. */
    NIC_VHOSTUSER, /* A socket of a switch in user space. */
    NIC_VF,        /* A VF as network interface. */
    NIC_MACVTAP_VF,
    NIC_MACVTAP, /* Over an interface of the host. */
    NIC_VDPA,
    NIC_PCI, /* A device without more. */
};

/* vif.md 6.4; any VNIC type where it is NULL. */
static const struct {
    const char *type, *vnic_type;
    enum nic_kind kind;
    bool has_bandwidth;
} kinds[] = {
    {"ovs", "direct", NIC_VF, false},          {"ovs", "remote-managed", NIC_VF, false},
    {"ovs", "vdpa", NIC_VDPA, false},          {"ovs", NULL, NIC_OVS, true},
    {"vhostuser", NULL, NIC_VHOSTUSER, false}, {"bridge", NULL, NIC_BRIDGE, true},
    {"hw_veb", "direct", NIC_VF, true},        {"hw_veb", "accelerator-direct", NIC_VF, true},
    {"hw_veb", NULL, NIC_MACVTAP_VF, true},    {"macvtap", NULL, NIC_MACVTAP, true},
    {"tap", NULL, NIC_ETHERNET, false},        {"hostdev_physical", NULL, NIC_PCI, false},
    {"ib_hostdev", NULL, NIC_PCI, false},
};

struct nic {
    struct guest_build *b;
    const struct vif *vif;
    enum nic_kind kind;
    bool has_bandwidth;
    struct xb_node *xml;
};

static struct err *read_kind(const struct vif *vif, struct nic *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (!str_eq(kinds[i].type, vif->type) ||
            (kinds[i].vnic_type && !str_eq(kinds[i].vnic_type, vif->vnic_type))) {
            continue;
        }
        ret->kind = kinds[i].kind;
        ret->has_bandwidth = kinds[i].has_bandwidth;
        if (ret->kind == NIC_OVS && vif->is_hybrid) {
            ret->kind = NIC_BRIDGE;
        } else if (ret->kind == NIC_OVS && vif->is_delegated) {
            ret->kind = NIC_ETHERNET;
        }
        return NULL;
    }
    return err_msg(ERR_VIF_PLUG, "port %s of VIF type '%s' and VNIC type '%s' cannot be had here",
                   vif->id, vif->type ? vif->type : "", vif->vnic_type);
}

/* ---- The guest's side ---- */

static const char *detail(const struct vif *vif, const char *key)
{
    return json_object_get_string(jv_get(jv_get(vif->json, "details"), key));
}

/* NULL: whatever the hypervisor likes best. */
static struct err *nic_model(const struct guest_build *b, const char **ret)
{
    static const char *const models[] = {"virtio", "ne2k_pci", "pcnet",      "rtl8139",
                                         "e1000",  "e1000e",   "spapr-vlan", "vmxnet3"};
    const char *model = image_meta_prop(b->image, "hw_vif_model");
    bool is_known = str_eq(model, "lan9118") && !b->is_kvm;

    if (!model) {
        *ret = b->conf->libvirt.use_virtio_for_bridges ? "virtio" : NULL;
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        is_known |= str_eq(models[i], model);
    }
    *ret = model;
    return is_known ? NULL
                    : err_new(ERR_UNSUPPORTED_HARDWARE, "model", model, "virt",
                              b->conf->libvirt.virt_type, NULL);
}

/* Queues of a tap: [libvirt]max_queues, else what kernels of that time can do; 0: no end. */
static int64_t most_queues(const struct guest_build *b)
{
    int64_t major = b->s->host->kernel_major;

    if (conf_is_set_int(b->conf->libvirt.max_queues)) {
        return b->conf->libvirt.max_queues;
    }
    return major <= 2 ? 1 : major == 3 ? 8 : major == 4 ? 256 : 0;
}

/* 0: no multiqueue. */
static struct err *n_queues(const struct guest_build *b, int64_t *ret)
{
    int64_t vcpus = flavor_vcpus(b->flavor), most = most_queues(b);
    bool is_set = false, is_wanted = false;

    *ret = 0;
    if (vcpus < 2) {
        return NULL;
    }
    TRY(guest_ask_bool(b, "vif_multiqueue_enabled", &is_set, &is_wanted));
    if (is_wanted) {
        *ret = most && vcpus > most ? most : vcpus;
    }
    return NULL;
}

static void set_size(struct xb_node *n, const char *attr, int64_t size)
{
    if (conf_is_set_int(size) && size) {
        xb_set_attr_int(n, attr, size);
    }
}

/* nova/virt/libvirt/vif.py get_base_config: who serves a virtio interface, with how many and how
 * large queues. */
static struct err *add_driver(const struct nic *nic, const char *model)
{
    const struct guest_build *b = nic->b;
    int64_t rx = b->conf->libvirt.rx_queue_size, queues = 0;
    const char *name = NULL;
    struct xb_node *driver;

    if (str_eq(model, "virtio")) {
        if (b->is_kvm) {
            TRY(n_queues(b, &queues));
        }
        name = !b->is_kvm ? "qemu" : queues || (conf_is_set_int(rx) && rx) ? "vhost" : NULL;
    }
    if (nic->kind == NIC_MACVTAP_VF) {
        name = "vhost";
    }
    if (!name && nic->kind != NIC_VHOSTUSER) {
        return NULL;
    }
    driver =
        xb_add_with(nic->xml, "driver", "name", nic->kind == NIC_VHOSTUSER ? NULL : name, NULL);
    set_size(driver, "queues", queues);
    set_size(driver, "rx_queue_size", rx);
    if (nic->kind == NIC_VHOSTUSER) {
        set_size(driver, "tx_queue_size", b->conf->libvirt.tx_queue_size);
    }
    if (!xb_has_attrs(driver)) {
        xb_remove(driver);
    }
    return NULL;
}

/* Passed-through devices are what they are. */
static struct err *add_frontend(const struct nic *nic)
{
    const char *model = NULL;

    xb_add_with(nic->xml, "mac", "address", nic->vif->address, NULL);
    if (vif_is_detached_to_move(nic->vif)) {
        return NULL;
    }
    TRY(nic_model(nic->b, &model));
    if (model || nic->kind == NIC_MACVTAP) {
        xb_add_with(nic->xml, "model", "type", nic->kind == NIC_MACVTAP ? "virtio" : model, NULL);
    }
    return add_driver(nic, model);
}

/* ---- The host's side ---- */

static void add_mtu(const struct nic *nic)
{
    if (nic->vif->mtu > 0) {
        xb_set_attr_int(xb_add(nic->xml, "mtu"), "size", nic->vif->mtu);
    }
}

static void add_target(const struct nic *nic)
{
    bool is_vhu = nic->kind == NIC_VHOSTUSER && nic->vif->has_vhostuser_ovs_plug;
    enum vif_kind kind = is_vhu ? VIF_KIND_VHOSTUSER_OVS : VIF_KIND_OVS_TAP;
    char name[15];

    vif_port_name(nic->vif, kind, name);
    xb_add_with(nic->xml, "target", "dev", name, NULL);
}

static struct err *add_ethernet(const struct nic *nic)
{
    add_mtu(nic);
    add_target(nic);
    return NULL;
}

static struct err *add_bridge(const struct nic *nic)
{
    const struct vif *v = nic->vif;
    const char *bridge =
        str_is_empty(v->bridge) ? vif_bridge(v, nic->b->conf->neutron.ovs_bridge) : v->bridge;
    char hybrid[15];

    vif_prefixed_name(v, "qbr", hybrid);
    if (str_eq(v->type, "ovs") && nic->kind == NIC_BRIDGE) {
        bridge = hybrid;
    }
    xb_add_with(nic->xml, "source", "bridge", bridge, NULL);
    add_mtu(nic);
    add_target(nic);
    if (nic->kind == NIC_OVS) {
        xb_add_with(xb_add_with(nic->xml, "virtualport", "type", "openvswitch", NULL), "parameters",
                    "interfaceid", str_is_empty(v->ovs_interfaceid) ? v->id : v->ovs_interfaceid,
                    NULL);
    }
    return NULL;
}

static struct err *add_vhostuser(const struct nic *nic)
{
    const struct vif *v = nic->vif;

    if (str_is_empty(v->vhostuser_socket)) {
        return err_new(ERR_VIF_DETAILS_NO_VHOSTUSER_PATH, "vif_id", v->id, NULL);
    }
    xb_add_with(nic->xml, "source", "type", "unix", "mode",
                v->vhostuser_mode ? v->vhostuser_mode : "server", "path", v->vhostuser_socket,
                NULL);
    add_target(nic);
    return NULL;
}

static void add_pci_address(struct xb_node *source, const struct pciaddr *a, bool has_type)
{
    char text[4][16];

    snprintf(text[0], sizeof(text[0]), "0x%04x", a->domain);
    snprintf(text[1], sizeof(text[1]), "0x%02x", a->bus);
    snprintf(text[2], sizeof(text[2]), "0x%02x", a->slot);
    snprintf(text[3], sizeof(text[3]), "0x%x", a->function);
    xb_add_with(source, "address", "type", has_type ? "pci" : NULL, "domain", text[0], "bus",
                text[1], "slot", text[2], "function", text[3], NULL);
}

/* The port's device; a port that has none was bound wrongly. */
static struct err *pci_slot(const struct vif *v, const char **ret)
{
    if (str_is_empty(v->pci_slot)) {
        return err_msg(ERR_VIF_PLUG, "port %s of VNIC type '%s' has no device in its profile",
                       v->id, v->vnic_type);
    }
    *ret = v->pci_slot;
    return NULL;
}

static void add_vlan(const struct nic *nic)
{
    if (str_eq(nic->vif->type, "hw_veb") && nic->vif->vlan > 0) {
        xb_set_attr_int(xb_add(xb_add(nic->xml, "vlan"), "tag"), "id", nic->vif->vlan);
    }
}

static struct err *add_vf(const struct nic *nic)
{
    const char *slot = NULL;
    struct pciaddr address = {0};

    TRY(pci_slot(nic->vif, &slot));
    TRY_CTX(pciaddr_parse(slot, &address), "reading the device of port %s", nic->vif->id);
    xb_set_attr(nic->xml, "managed", "yes");
    add_pci_address(xb_add(nic->xml, "source"), &address, /* has_type= */ true);
    add_vlan(nic);
    return NULL;
}

/* What the kernel calls a port's device. */
static struct err *pci_name(const struct nic *nic, const char **ret)
{
    const struct guest_spec *s = nic->b->s;
    const char *slot = NULL;

    TRY(pci_slot(nic->vif, &slot));
    for (size_t i = 0; i < s->n_pci_names; i++) {
        if (str_eq(s->pci_names[i].address, slot)) {
            *ret = s->pci_names[i].name;
            return NULL;
        }
    }
    return err_msg(ERR_VIF_PLUG, "port %s: nothing is known of its device %s", nic->vif->id, slot);
}

static struct err *add_macvtap_vf(const struct nic *nic)
{
    const char *name = NULL;

    TRY(pci_name(nic, &name));
    xb_add_with(nic->xml, "source", "dev", name, "mode", "passthrough", NULL);
    add_vlan(nic);
    return NULL;
}

static struct err *add_macvtap(const struct nic *nic)
{
    static const char *const keys[] = {"macvtap_source", "macvtap_mode", "physical_interface"};
    CLEANUP(strv_fini) struct strv missing = {0};

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (!detail(nic->vif, keys[i])) {
            strv_add(&missing, keys[i]);
        }
    }
    if (missing.n) {
        CLEANUP(freep) char *text = strv_join(&missing, ", ");

        return err_new(ERR_VIF_DETAILS_NO_MACVTAP, "missing_params", text, "vif_id", nic->vif->id,
                       NULL);
    }
    xb_add_with(nic->xml, "source", "dev", detail(nic->vif, "macvtap_source"), "mode",
                detail(nic->vif, "macvtap_mode"), NULL);
    return NULL;
}

static struct err *add_vdpa(const struct nic *nic)
{
    const char *name = NULL;

    TRY(pci_name(nic, &name));
    xb_add_with(nic->xml, "source", "dev", name, NULL);
    return NULL;
}

/* ---- Bandwidth ---- */

/* nova/virt/libvirt/designer.py set_vif_bandwidth_config; peak and burst mean nothing without an
 * average. */
static void add_bandwidth(const struct nic *nic)
{
    static const char *const directions[] = {"inbound", "outbound"};
    static const char *const limits[] = {"average", "peak", "burst"};
    struct xb_node *bandwidth = NULL, *direction = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(directions); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(limits); k++) {
            CLEANUP(freep) char *spec = str_printf("quota:vif_%s_%s", directions[i], limits[k]);
            const char *limit = flavor_spec(nic->b->inst, spec);

            if (k == 0 && !limit) {
                break;
            }
            if (k == 0) {
                bandwidth = bandwidth ? bandwidth : xb_add(nic->xml, "bandwidth");
                direction = xb_add(bandwidth, directions[i]);
            }
            xb_set_attr(direction, limits[k], limit);
        }
    }
}

/* ---- All of it ---- */

static const struct {
    const char *type;
    struct err *(*add_source)(const struct nic *);
} shapes[] = {
    [NIC_ETHERNET] = {"ethernet", add_ethernet},
    [NIC_OVS] = {"bridge", add_bridge},
    [NIC_BRIDGE] = {"bridge", add_bridge},
    [NIC_VHOSTUSER] = {"vhostuser", add_vhostuser},
    [NIC_VF] = {"hostdev", add_vf},
    [NIC_MACVTAP_VF] = {"direct", add_macvtap_vf},
    [NIC_MACVTAP] = {"direct", add_macvtap},
    [NIC_VDPA] = {"vdpa", add_vdpa},
    [NIC_PCI] = {NULL, NULL},
};

struct err *guest_add_hostdev(struct guest_build *b, const char *address)
{
    struct pciaddr a = {0};
    struct xb_node *dev;

    TRY_CTX(pciaddr_parse(address, &a), "reading the address of a device of the server");
    dev = xb_add_with(b->devices, "hostdev", "mode", "subsystem", "type", "pci", "managed", "yes",
                      NULL);
    add_pci_address(xb_add(dev, "source"), &a, /* has_type= */ false);
    return NULL;
}

struct err *guest_add_interface(struct guest_build *b, const struct vif *vif)
{
    struct nic nic = {.b = b, .vif = vif};

    TRY(read_kind(vif, &nic));
    if (nic.kind == NIC_PCI) {
        const char *slot = NULL;

        TRY(pci_slot(vif, &slot));
        return guest_add_hostdev(b, slot);
    }
    nic.xml = xb_add_with(b->devices, "interface", "type", shapes[nic.kind].type, NULL);
    TRY(add_frontend(&nic));
    TRY(shapes[nic.kind].add_source(&nic));
    if (nic.has_bandwidth) {
        add_bandwidth(&nic);
    }
    return NULL;
}

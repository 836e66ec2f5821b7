#include "vif/plug.h"

#include "base/fs.h"
#include "base/log.h"
#include "vif/netdev.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEAD_VLAN           4095   /* Drops everything until neutron's agent sets the real tag. */
#define TRUNK_BRIDGE_PREFIX "tbr-" /* Made for one trunk port by whoever plugs it. */

/* What the configuration says. */
struct plug_conf {
    int64_t timeout_ms;
    int64_t mtu; /* Where the network has none. */
    int64_t tag; /* -1: none */
    char *integration_bridge;
    bool is_ahead; /* QEMU has yet to make its socket. */
};

static struct plug_conf read_conf(struct conf_holder *holder)
{
    const struct conf *conf = conf_get(holder);
    int64_t timeout_s = conf->os_vif_ovs.ovs_vsctl_timeout;
    struct plug_conf c = {
        .timeout_ms = timeout_s > 0 ? timeout_s * 1000 : INT64_MAX,
        .mtu = conf->os_vif_ovs.network_device_mtu,
        .tag = conf->os_vif_ovs.isolate_vif ? DEAD_VLAN : -1,
        .integration_bridge = str_dup(conf->neutron.ovs_bridge),
    };

    conf_put(conf);
    return c;
}

static void plug_conf_fini(struct plug_conf *c)
{
    free(c->integration_bridge);
}

static int64_t mtu_of(const struct plug_conf *conf, const struct vif *vif)
{
    return vif->mtu > 0 ? vif->mtu : conf->mtu;
}

/* ---- Check ---- */

static const char *vhostuser_type(const struct vif *vif)
{
    /* The mode is QEMU's, the switch is the other end (nova/network/os_vif_util.py). */
    return str_eq(vif->vhostuser_mode, "client") ? "dpdkvhostuser" : "dpdkvhostuserclient";
}

static struct err *need_socket(const struct vif *vif)
{
    return str_is_empty(vif->vhostuser_socket)
               ? err_new(ERR_VIF_DETAILS_NO_VHOSTUSER_PATH, "vif_id", vif->id, NULL)
               : NULL;
}

/* QEMU or the switch makes the socket; somebody has to have made its directory. */
static struct err *check_socket_dir(const struct vif *vif, const char *host)
{
    CLEANUP(freep) char *path = NULL;
    const char *dir;

    TRY(need_socket(vif));
    path = str_dup(vif->vhostuser_socket);
    dir = dirname(path);
    if (*vif->vhostuser_socket != '/') {
        return err_msg(ERR_VIF_PLUG, "the vhost-user socket '%s' of port %s is no absolute path",
                       vif->vhostuser_socket, vif->id);
    }
    if (!fs_is_dir(&fs_real, dir)) {
        return err_msg(ERR_VIF_PLUG,
                       "host %s has no directory %s for the vhost-user socket of port %s", host,
                       dir, vif->id);
    }
    if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0) {
        CLEANUP(err_freep) struct err *why = err_errno(errno, "directory %s", dir);

        return err_msg(ERR_VIF_PLUG,
                       "the vhost-user socket of port %s cannot be made on host %s: %s", vif->id,
                       host, err_message(why));
    }
    return NULL;
}

static struct err *check_dpdk(struct vif_host *h, const struct vif *vif, const char *host)
{
    const char *type = vhostuser_type(vif);
    bool has_type = false;
    CLEANUP(err_freep) struct err *e = ovsdb_has_iface_type(h->ovsdb, type, &has_type);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        return err_msg(
            ERR_VIF_PLUG,
            "port %s is a vhost-user (OVS-DPDK) port, but Open vSwitch on host %s cannot "
            "be asked for DPDK: %s",
            vif->id, host, text);
    }
    if (!has_type) {
        return err_msg(
            ERR_VIF_PLUG,
            "port %s is a vhost-user (OVS-DPDK) port, but Open vSwitch on host %s has no "
            "DPDK (no interfaces of type %s)",
            vif->id, host, type);
    }
    return NULL;
}

struct err *vif_check(struct vif_host *h, const struct vif *vif, const char *host)
{
    enum vif_kind kind;

    TRY(vif_kind(vif, &kind));
    switch (kind) {
    case VIF_KIND_VHOSTUSER_OVS:
        TRY(check_dpdk(h, vif, host));
        return check_socket_dir(vif, host);
    case VIF_KIND_VHOSTUSER_NONE:
        return check_socket_dir(vif, host);
    case VIF_KIND_OVS_TAP:
    case VIF_KIND_OVS_BRIDGE:
    case VIF_KIND_OVS_HYBRID:
        break;
    }
    return NULL;
}

/* ---- Plug ---- */

static struct ovs_port_spec port_spec(const struct plug_conf *conf, const struct vif *vif,
                                      const char *name, const char *instance_uuid)
{
    const char *bridge = vif_bridge(vif, conf->integration_bridge);

    return (struct ovs_port_spec){
        .bridge = bridge,
        .datapath_type = str_is_empty(vif->datapath_type) ? "system" : vif->datapath_type,
        .name = name,
        .type = "",
        .iface_id = str_is_empty(vif->ovs_interfaceid) ? vif->id : vif->ovs_interfaceid,
        .attached_mac = vif->address,
        .vm_uuid = instance_uuid,
        .tag = str_starts(bridge, TRUNK_BRIDGE_PREFIX) ? -1 : conf->tag,
    };
}

static struct err *plug_tap(struct vif_host *h, const struct plug_conf *conf, const struct vif *vif,
                            const char *instance_uuid)
{
    char name[15];
    struct ovs_port_spec spec;

    vif_port_name(vif, VIF_KIND_OVS_TAP, name);
    spec = port_spec(conf, vif, name, instance_uuid);
    TRY(ovsdb_ensure_port(h->ovsdb, &spec, conf->timeout_ms));
    return netdev_exists(name) ? netdev_set_mtu(name, mtu_of(conf, vif)) : NULL;
}

static struct err *plug_bridge(struct vif_host *h, const struct plug_conf *conf,
                               const struct vif *vif)
{
    const struct ovs_port_spec port = port_spec(conf, vif, "", "");
    const struct ovs_bridge_spec bridge = {port.bridge, port.datapath_type};

    return ovsdb_ensure_bridge(h->ovsdb, &bridge, conf->timeout_ms);
}

static struct err *plug_vhostuser(struct vif_host *h, const struct plug_conf *conf,
                                  const struct vif *vif, const char *instance_uuid)
{
    char name[15];
    struct ovs_port_spec spec;

    TRY(need_socket(vif));
    vif_port_name(vif, VIF_KIND_VHOSTUSER_OVS, name);
    spec = port_spec(conf, vif, name, instance_uuid);
    if (str_is_empty(vif->datapath_type)) {
        spec.datapath_type = "netdev";
    }
    spec.type = vhostuser_type(vif);
    if (str_eq(spec.type, "dpdkvhostuserclient") && !conf->is_ahead) {
        spec.vhost_server_path = vif->vhostuser_socket;
    }
    spec.mtu_request = mtu_of(conf, vif);
    return ovsdb_ensure_port(h->ovsdb, &spec, conf->timeout_ms);
}

/* Settings of a bridge; a kernel without IPv6 lacks some. */
static struct err *write_sysctls(const char *bridge)
{
    static const struct {
        const char *family, *name, *value;
    } rows[] = {
        {"ipv6", "disable_ipv6", "1"}, /* No address of the host's own on it (bug 1302080). */
        {"ipv4", "arp_ignore", "1"},   /* No answers for addresses of the host. */
        {"ipv4", "arp_announce", "2"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(freep)
        char *path = str_printf("proc/sys/net/%s/conf/%s/%s", rows[i].family, bridge, rows[i].name);

        if (fs_exists(&fs_real, path)) {
            TRY(fs_write(&fs_real, path, rows[i].value));
        }
    }
    return NULL;
}

struct hybrid_names {
    char bridge[15];     /* "qbr": the Linux bridge with the guest's tap. */
    char bridge_end[15]; /* "qvb" */
    char switch_end[15]; /* "qvo": the OVS port. */
};

static struct hybrid_names hybrid_names(const struct vif *vif)
{
    struct hybrid_names n;

    vif_prefixed_name(vif, "qbr", n.bridge);
    vif_prefixed_name(vif, "qvb", n.bridge_end);
    vif_prefixed_name(vif, "qvo", n.switch_end);
    return n;
}

static struct err *plug_veth_pair(const struct hybrid_names *n, int64_t mtu)
{
    const char *const ends[] = {n->bridge_end, n->switch_end};

    if (!netdev_exists(n->bridge_end) || !netdev_exists(n->switch_end)) {
        TRY(netdev_add_veth(n->bridge_end, n->switch_end));
    }
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        TRY(netdev_set_mtu(ends[i], mtu));
        TRY(netdev_set_promisc(ends[i]));
        TRY(netdev_set_up(ends[i], /* is_up= */ true));
    }
    return netdev_set_master(n->bridge_end, n->bridge);
}

static struct err *plug_hybrid(struct vif_host *h, const struct plug_conf *conf,
                               const struct vif *vif, const char *instance_uuid)
{
    const struct hybrid_names n = hybrid_names(vif);
    const struct ovs_port_spec spec = port_spec(conf, vif, n.switch_end, instance_uuid);

    TRY(netdev_add_bridge(n.bridge));
    TRY(write_sysctls(n.bridge));
    TRY(netdev_set_up(n.bridge, /* is_up= */ true));
    TRY(plug_veth_pair(&n, mtu_of(conf, vif)));
    return ovsdb_ensure_port(h->ovsdb, &spec, conf->timeout_ms);
}

static struct err *plug_kind(struct vif_host *h, const struct plug_conf *conf,
                             const struct vif *vif, enum vif_kind kind, const char *instance_uuid)
{
    switch (kind) {
    case VIF_KIND_OVS_TAP:
        return plug_tap(h, conf, vif, instance_uuid);
    case VIF_KIND_OVS_BRIDGE:
        return plug_bridge(h, conf, vif);
    case VIF_KIND_OVS_HYBRID:
        return plug_hybrid(h, conf, vif, instance_uuid);
    case VIF_KIND_VHOSTUSER_OVS:
        return plug_vhostuser(h, conf, vif, instance_uuid);
    case VIF_KIND_VHOSTUSER_NONE:
        return need_socket(vif);
    }
    return NULL;
}

/* The peer gets Nova's class for it, whatever it was that failed. */
static struct err *plug_error(struct err *e, const struct vif *vif)
{
    CLEANUP(err_freep) struct err *owned = e;
    CLEANUP(freep) char *text = NULL;

    if (!owned || err_is(owned, ERR_VIF_DETAILS_NO_VHOSTUSER_PATH)) {
        return TAKE(owned);
    }
    text = err_text(owned);
    return err_msg(ERR_VIF_PLUG, "port %s cannot be plugged: %s", vif->id, text);
}

static struct err *plug(struct vif_host *h, const struct vif *vif, const char *instance_uuid,
                        bool is_ahead)
{
    CLEANUP(plug_conf_fini) struct plug_conf conf = read_conf(h->conf);
    enum vif_kind kind;

    conf.is_ahead = is_ahead;
    TRY(vif_kind(vif, &kind));
    TRY(plug_error(plug_kind(h, &conf, vif, kind, instance_uuid), vif));
    log_debug(LOG_VIF, "plugged port %s (%s)", vif->id, vif_kind_name(kind));
    return NULL;
}

struct err *vif_plug(struct vif_host *h, const struct vif *vif, const char *instance_uuid)
{
    return plug(h, vif, instance_uuid, /* is_ahead= */ false);
}

struct err *vif_plug_ahead(struct vif_host *h, const struct vif *vif, const char *instance_uuid)
{
    return plug(h, vif, instance_uuid, /* is_ahead= */ true);
}

const char *vif_awaited_socket(const struct vif *vif)
{
    enum vif_kind kind;
    CLEANUP(err_freep) struct err *e = vif_kind(vif, &kind);
    bool is_awaited =
        !e && kind == VIF_KIND_VHOSTUSER_OVS && str_eq(vhostuser_type(vif), "dpdkvhostuserclient");

    return is_awaited && !str_is_empty(vif->vhostuser_socket) ? vif->vhostuser_socket : NULL;
}

struct err *vif_connect(struct vif_host *h, const struct vif *vif)
{
    CLEANUP(plug_conf_fini) struct plug_conf conf = read_conf(h->conf);
    char name[15];
    const struct ovs_socket_spec spec = {name, vif_awaited_socket(vif)};

    if (!spec.path) {
        return NULL;
    }
    vif_port_name(vif, VIF_KIND_VHOSTUSER_OVS, name);
    return plug_error(ovsdb_set_socket(h->ovsdb, &spec, conf.timeout_ms), vif);
}

/* ---- Unplug ---- */

/* Removes the OVS port, and the bridge if it was made for this trunk alone. */
static struct err *unplug_port(struct vif_host *h, const struct plug_conf *conf,
                               const struct vif *vif, const char *name)
{
    const char *bridge = vif_bridge(vif, conf->integration_bridge);

    TRY(ovsdb_remove_port(h->ovsdb, name, conf->timeout_ms));
    return str_starts(bridge, TRUNK_BRIDGE_PREFIX)
               ? ovsdb_remove_bridge(h->ovsdb, bridge, conf->timeout_ms)
               : NULL;
}

static struct err *unplug_hybrid(struct vif_host *h, const struct plug_conf *conf,
                                 const struct vif *vif)
{
    const struct hybrid_names n = hybrid_names(vif);

    TRY(netdev_delete(n.bridge));
    TRY(unplug_port(h, conf, vif, n.switch_end));
    return netdev_delete(n.switch_end); /* Takes the other end with it. */
}

/* QEMU makes the socket in mode "server" and leaves it behind when it is killed. */
static struct err *unplug_vhostuser(struct vif_host *h, const struct plug_conf *conf,
                                    const struct vif *vif, const char *name)
{
    struct stat st;

    TRY(unplug_port(h, conf, vif, name));
    if (!str_is_empty(vif->vhostuser_socket) && !str_eq(vif->vhostuser_mode, "client") &&
        stat(vif->vhostuser_socket, &st) == 0 && S_ISSOCK(st.st_mode) &&
        unlink(vif->vhostuser_socket) < 0 && errno != ENOENT) {
        return err_errno(errno, "removing %s", vif->vhostuser_socket);
    }
    return NULL;
}

static struct err *unplug_kind(struct vif_host *h, const struct plug_conf *conf,
                               const struct vif *vif, enum vif_kind kind)
{
    char name[15];

    vif_port_name(vif, kind, name);
    switch (kind) {
    case VIF_KIND_OVS_TAP:
    case VIF_KIND_OVS_BRIDGE:
        if (netdev_exists(hybrid_names(vif).bridge)) {
            /* Neutron's firewall driver was another one when it was plugged. */
            return unplug_hybrid(h, conf, vif);
        }
        TRY(unplug_port(h, conf, vif, name));
        return netdev_delete(name);
    case VIF_KIND_OVS_HYBRID:
        return unplug_hybrid(h, conf, vif);
    case VIF_KIND_VHOSTUSER_OVS:
        return unplug_vhostuser(h, conf, vif, name);
    case VIF_KIND_VHOSTUSER_NONE:
        break;
    }
    return NULL;
}

struct err *vif_unplug(struct vif_host *h, const struct vif *vif, UNUSED const char *instance_uuid)
{
    CLEANUP(plug_conf_fini) struct plug_conf conf = read_conf(h->conf);
    CLEANUP(err_freep) struct err *e = NULL;
    enum vif_kind kind;

    TRY(vif_kind(vif, &kind));
    e = unplug_kind(h, &conf, vif, kind);
    if (e) {
        CLEANUP(freep) char *text = err_text(e);
        CLEANUP(freep) char *reason = str_printf("port %s: %s", vif->id, text);

        return err_new(ERR_VIF_UNPLUG, "reason", reason, NULL);
    }
    log_debug(LOG_VIF, "unplugged port %s (%s)", vif->id, vif_kind_name(kind));
    return NULL;
}

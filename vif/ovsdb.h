#pragma once

/* OVSDB client: a monitored copy of the tables that matter, and transactions.
 *
 * Connects to [os_vif_ovs]ovsdb_connection (tcp:, unix:), monitors Bridge, Port, Interface and
 * Open_vSwitch, reconnects with back-off and reads everything again.  It lives on the reactor;
 * transactions and waits block the calling thread until they are confirmed or their deadline
 * passes.
 *
 * Source: RFC 7047; OVS ovsdb-server(7); os-vif vif_plug_ovs/ovsdb.
 *
 * Thread-safety: ovsdb_new and ovsdb_free on the loop's thread; the rest from any thread but that.
 */

#include "base/err.h"
#include "base/jv.h"
#include "base/loop.h"
#include "base/sync.h"
#include "vif/ovscache.h"

struct ovsdb;

/* Starts connecting; that there is no server yet is no error.  A host name is resolved here, once.
 * ERR_CONFIG for a connection that we do not speak (ssl:). */
struct err *ovsdb_new(struct loop *, const char *connection, struct ovsdb **ret) MUST_CHECK;
/* No other thread may be in a call any more. */
struct ovsdb *ovsdb_free(struct ovsdb *);
static inline void ovsdb_freep(struct ovsdb **p)
{
    *p = ovsdb_free(*p);
}
/* Calls fn, on the loop's thread, for each interface of a server that is deleted, by whomever; it
 * only submits work.  On the loop's thread, before the loop runs. */
void ovsdb_watch_gone(struct ovsdb *, ovs_gone_fn, void *arg);
/* Connected, and the copy is complete. */
bool ovsdb_is_connected(struct ovsdb *);

/* The changing calls below take a timeout that covers everything, reconnecting too; INT64_MAX is
 * for ever.  When the connection is lost they look at the database again and go on.  ERR_TIMEOUT
 * says which part did not answer, ERR_VIF_PLUG is the database's or the switch's refusal. */

struct ovs_port_spec {
    const char *bridge;
    const char *datapath_type; /* Of the bridge, if it has to be made. */
    const char *name;
    const char *type;              /* Interface.type: "", "dpdkvhostuserclient", ... */
    const char *vhost_server_path; /* options:vhost-server-path, or NULL */
    const char *iface_id;          /* Port id; external_ids as Nova writes them. */
    const char *attached_mac;
    const char *vm_uuid;
    int64_t mtu_request; /* 0: none */
    int64_t tag;         /* Of the port, if it has to be made; -1: none */
};

struct ovs_bridge_spec {
    const char *name;
    const char *datapath_type; /* NULL or "": the switch's default. */
};

/* Makes the bridge if it is missing; one that is there stays as it is. */
struct err *ovsdb_ensure_bridge(struct ovsdb *, const struct ovs_bridge_spec *, int64_t timeout_ms)
    MUST_CHECK;
/* Makes the bridge (if missing) and the port, or brings an existing port to this state without
 * touching what already is right.  Returns when the switch has confirmed the port (next_cfg =
 * cur_cfg, ofport assigned, no Interface.error); for a tap that does not exist yet the database's
 * confirmation is enough. */
struct err *ovsdb_ensure_port(struct ovsdb *, const struct ovs_port_spec *, int64_t timeout_ms)
    MUST_CHECK;
struct ovs_socket_spec {
    const char *name, *path;
};
/* Sets options:vhost-server-path of a port; no such port is no error.  The switch connects at once.
 */
struct err *ovsdb_set_socket(struct ovsdb *, const struct ovs_socket_spec *, int64_t timeout_ms)
    MUST_CHECK;
/* Removes a port from whatever bridge it is in; no such port is no error. */
struct err *ovsdb_remove_port(struct ovsdb *, const char *name, int64_t timeout_ms) MUST_CHECK;
/* Removes a bridge with all its ports; no such bridge is no error. */
struct err *ovsdb_remove_bridge(struct ovsdb *, const char *name, int64_t timeout_ms) MUST_CHECK;

/* The reading calls answer from the copy.  While there is no connection they wait for one for two
 * seconds, then ERR_DISCONNECTED. */

struct ovs_port_info {
    bool exists;
    char bridge[64];
    char type[32];
    int64_t ofport; /* 0: none yet; -1: failed */
    bool link_is_up;
    int64_t tag; /* -1: none */
    char iface_id[40];
    char error[128];
};
struct err *ovsdb_port_info(struct ovsdb *, const char *name, struct ovs_port_info *ret) MUST_CHECK;
/* Open_vSwitch.iface_types has the type and, for dpdk*, dpdk_initialized is true. */
struct err *ovsdb_has_iface_type(struct ovsdb *, const char *type, bool *ret) MUST_CHECK;
/* Names of the ports whose vm-uuid or vm-id is this server's. */
struct err *ovsdb_ports_of(struct ovsdb *, const char *vm_uuid, struct strv *ret) MUST_CHECK;

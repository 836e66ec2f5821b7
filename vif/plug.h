#pragma once

/* Plugging: brings the host side of a VIF to the state its kind wants, and takes it away again.
 *
 * Both are idempotent: a working port is not touched, a missing one is no error.
 *
 * Source: os-vif vif_plug_ovs/ovs.py; contract vif.md 6.6, 6.7.
 *
 * Thread-safety: from any thread but the reactor's; ports of one server are ordered by its strand.
 */

#include "base/conf.h"
#include "base/err.h"
#include "vif/model.h"
#include "vif/ovsdb.h"

struct vif_host {
    struct ovsdb *ovsdb;
    struct conf_holder *conf; /* [os_vif_ovs], [neutron]ovs_bridge */
};

/* Whether this host can plug the VIF at all (a vhost-user port needs a switch with DPDK): the
 * reason in one sentence that names host and port, ERR_VIF_PLUG. */
struct err *vif_check(struct vif_host *, const struct vif *, const char *host) MUST_CHECK;
struct err *vif_plug(struct vif_host *, const struct vif *, const char *instance_uuid) MUST_CHECK;
/* The same before QEMU is there: Open vSwitch is not told of the vhost-user socket that QEMU makes.
 * It would try once a second to connect, and QEMU waits for it to succeed: tell it by vif_connect
 * when QEMU listens (vif/vhostwait.h), and it connects at once. */
struct err *vif_plug_ahead(struct vif_host *, const struct vif *, const char *instance_uuid)
    MUST_CHECK;
/* The socket, or NULL for a port that needs no vif_connect. */
const char *vif_awaited_socket(const struct vif *);
/* A port that is unplugged meanwhile stays away. */
struct err *vif_connect(struct vif_host *, const struct vif *) MUST_CHECK;
struct err *vif_unplug(struct vif_host *, const struct vif *, const char *instance_uuid) MUST_CHECK;

#pragma once

/* What is done about the network of servers that are here without a verb that asks for it: after
 * neutron's events, from time to time, and when a port is taken away from the switch.
 *
 * All of it runs as tasks of the server's strand, looks at the server's record again and leaves
 * servers alone that move, are built or deleted.
 *
 * Source: nova/compute/manager.py external_instance_event, _process_instance_vif_deleted_event,
 * _heal_instance_info_cache; contract startup-and-periodics.md 5.13, 5.14.
 *
 * Thread-safety: from any thread, but netcare_heal, which does not overlap itself. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"
#include "vif/ovsdb.h"

struct netcare;

struct netcare *netcare_new(void) MUST_CHECK;
struct netcare *netcare_free(struct netcare *);

/* network-changed: the model is read anew. */
void netcare_changed(struct node *, const struct rctx *, struct instance *);
/* network-vif-deleted: out of the model, then out of the guest. */
void netcare_deleted(struct node *, const struct rctx *, struct instance *, const char *port_id);

/* Periodic: the next server's ports and model, one server each time. */
struct err *netcare_heal(struct node *, const struct rctx *) MUST_CHECK;
/* Whether a server's network may be looked after now: it is here, and no move, build or deletion
 * is under way. */
bool netcare_may_heal(const struct instance *, const char *host);

/* A port of a server is gone from the switch (ovs_gone_fn; arg is the node).  If nobody of us took
 * it away, since the guest runs and has the interface, it is plugged again.  Neutron's agent
 * deletes the port of a binding that was deactivated here a while ago, also after the server has
 * come back. A port that is taken away again and again is plugged three times in ten minutes. */
void netcare_gone(const struct ovs_gone *, void *node);

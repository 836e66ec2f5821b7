#pragma once

/* A server's ports come and go: made or taken over, bound to this host, released.
 *
 * Ports that the user brought are never deleted, only unbound; ports that we made are deleted (the
 * network model's preserve_on_delete tells them apart).  Whatever is already gone is no error.
 * Every change ends in the info cache.
 *
 * Source: nova/network/neutron.py (allocate_for_instance, deallocate_for_instance,
 * _update_ports_for_instance, _unbind_ports, deallocate_port_for_instance, cleanup_instance_network
 * _on_host); nova/compute/manager.py _allocate_network_async; contract startup-and-periodics.md
 * 5.16 "Neutron calls by compute", 5.17.
 *
 * Thread-safety: from any thread; the instance belongs to the caller. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

/* Makes what is asked for ('requested' NULL: neutron's network of the project, as Nova chooses it;
 * "none": nothing), binds all of it to this host, writes VirtualInterface records and tags, stores
 * and returns the network model.  After an error nothing of it is left.  ERR_PORT_BINDING_FAILED,
 * ERR_PORT_LIMIT_EXCEEDED, ERR_PORT_IN_USE, ERR_NETWORK_NOT_FOUND, ERR_NO_MORE_FIXED_IPS, ... */
struct err *netalloc_create(struct node *, const struct rctx *, struct instance *,
                            struct network_request_list *requested,
                            struct json_object *security_groups, struct vif_list *ret) MUST_CHECK;
/* Everything that the server has in neutron: ours deleted, the user's unbound; empties the info
 * cache. */
struct err *netalloc_release(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* Keeps the ports but binds them to no host: a build that goes elsewhere. */
struct err *netalloc_unbind_host(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

/* One more port.  'port_id' NULL: made on the network.  *ret is the VIF in the stored model. */
struct err *netalloc_add_port(struct node *, const struct rctx *, struct instance *,
                              const char *network_id, const char *port_id, const char *requested_ip,
                              const char *tag, struct vif *ret) MUST_CHECK;
/* One port less. */
struct err *netalloc_remove_port(struct node *, const struct rctx *, struct instance *,
                                 const char *port_id) MUST_CHECK;

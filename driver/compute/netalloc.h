#pragma once

/* A server's ports come and go: made or taken over, bound to this host, released.
 *
 * Ports that the user brought are never deleted, only unbound; ports that we made are deleted (the
 * network model's preserve_on_delete tells them apart, and is stored before a user's port is
 * touched).  Whatever is already gone is no error.  Every change ends in the info cache.
 *
 * Ports are made and deleted with the user's token, if the request has one, and bound as an
 * administrator, as Nova does it.
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
 * "none": nothing; "auto": what neutron makes for the project), binds all of it to this host,
 * writes VirtualInterface records and tags, stores and returns the network model.  After an error
 * nothing of it is left.  A server whose system_metadata says network_allocated has its ports from
 * another host that could not build it: they are bound here.
 *
 * 'spec' says which provider gives what a port asks of placement; it may be NULL.  Sets
 * network_allocated, which the caller saves.  Tried again [DEFAULT]network_allocate_retries times.
 *
 * ERR_PORT_BINDING_FAILED, ERR_PORT_LIMIT_EXCEEDED, ERR_PORT_IN_USE, ERR_NETWORK_NOT_FOUND,
 * ERR_NO_MORE_FIXED_IPS, ...; ERR_PORT_UPDATE_FAILED for a port that needs a device of the host. */
struct err *netalloc_create(struct node *, const struct rctx *, struct instance *,
                            struct network_request_list *requested,
                            struct json_object *security_groups, const struct request_spec *spec,
                            struct vif_list *ret) MUST_CHECK;
/* Everything that the server has in neutron: ours deleted, the user's unbound; empties the info
 * cache and network_allocated, which the caller saves.  No port is left out because of another: the
 * first error comes at the end. */
struct err *netalloc_release(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* Keeps the ports but binds them to no host: a build that goes elsewhere. */
struct err *netalloc_unbind_host(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

/* One more port.  'port_id' NULL: made on the network.  *ret is the VIF in the stored model.
 * ERR_INTERFACE_ATTACH_FAILED: the user does not see the network. */
struct err *netalloc_add_port(struct node *, const struct rctx *, struct instance *,
                              const char *network_id, const char *port_id, const char *requested_ip,
                              const char *tag, struct vif *ret) MUST_CHECK;
/* The model as neutron has it now, in the order in which the ports came (_get_ordered_port_list).
 */
struct err *netalloc_reread(struct node *, const struct rctx *, struct instance *,
                            struct vif_list *ret) MUST_CHECK;
/* Ports of the server that are bound elsewhere, or not at all, are bound here; then the same. */
struct err *netalloc_bind_here(struct node *, const struct rctx *, struct instance *,
                               const struct request_spec *spec, struct vif_list *ret) MUST_CHECK;

/* One address more, of any subnet of a network that the server is on, or one less.
 * ERR_NETWORK_NOT_FOUND_FOR_INSTANCE, ERR_FIXED_IP_NOT_FOUND. */
struct err *netalloc_add_address(struct node *, const struct rctx *, struct instance *,
                                 const char *network_id) MUST_CHECK;
struct err *netalloc_remove_address(struct node *, const struct rctx *, struct instance *,
                                    const char *address) MUST_CHECK;

/* One port less, with what device_metadata says of it and what placement has given for it. */
struct err *netalloc_remove_port(struct node *, const struct rctx *, struct instance *,
                                 const char *port_id) MUST_CHECK;

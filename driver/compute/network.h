#pragma once

/* A server's network as Nova's network API keeps it: the info cache, the bindings around a move.
 *
 * Source: nova/network/neutron.py (get_instance_nw_info, setup_networks_on_host,
 * migrate_instance_start, migrate_instance_finish), nova/compute/utils.py.
 *
 * Thread-safety: from any thread; the instance belongs to the caller.  Who rewrites a server's
 * model waits for others who do. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

/* The VIFs in the instance's info cache as it is now. */
struct err *network_cached_vifs(struct instance *, struct vif_list *ret) MUST_CHECK;
/* Reads the network from neutron, stores it in the info cache (and with the instance). */
struct err *network_refresh(struct node *, const struct rctx *, struct instance *,
                            struct vif_list *ret) MUST_CHECK;

/* The same with VIFs that the model does not have yet, or does not know the preserve_on_delete of;
 * only their "id" must be there.  'order' names the ports that come first.  Both may be NULL. */
struct err *network_rebuild(struct node *, const struct rctx *, struct instance *,
                            struct json_object *added, const struct strv *order,
                            struct vif_list *ret) MUST_CHECK;
/* Adds VIFs to the stored model without asking neutron. */
struct err *network_note(struct node *, const struct rctx *, struct instance *,
                         struct json_object *vifs) MUST_CHECK;
/* Takes ports out of the stored model without asking neutron; NULL: all. */
struct err *network_forget(struct node *, const struct rctx *, struct instance *,
                           const struct strv *port_ids) MUST_CHECK;

/* The destination's VIFs that migrate_data holds (get_dest_vif of each); 'cached' when it holds
 * none. */
struct err *network_dest_vifs(struct libvirt_live_migrate_data *, const struct vif_list *cached,
                              struct vif_list *ret) MUST_CHECK;
struct err *network_copy_vifs(const struct vif_list *, struct vif_list *ret) MUST_CHECK;
/* The source's VIFs that migrate_data holds; 'cached' when it holds none. */
struct err *network_source_vifs(struct libvirt_live_migrate_data *, const struct vif_list *cached,
                                struct vif_list *ret) MUST_CHECK;

/* Destination, before the move: notes in each port's profile that it migrates to 'host'. */
struct err *network_set_migrating_to(struct node *, struct instance *, const char *host) MUST_CHECK;
/* Takes that note back and removes the ports' bindings on 'host', unless the server is there.
 * ERR_PORT_BINDING_DELETION names the ports. */
struct err *network_teardown_on_host(struct node *, struct instance *, const char *host) MUST_CHECK;
/* Makes the bindings on 'host' the active ones, all ports at once. */
struct err *network_activate(struct node *, const struct vif_list *, const char *host) MUST_CHECK;
/* Destination, after the move, with one look at the ports: those that are bound elsewhere, or not
 * at all, are bound here; the info cache gets the bindings as they are now; the source's bindings
 * go. */
struct err *network_arrive(struct node *, const struct rctx *, struct instance *,
                           const char *source) MUST_CHECK;
/* Takes migrating_to out of the ports' profiles. */
struct err *network_clear_migrating_to(struct node *, struct instance *) MUST_CHECK;

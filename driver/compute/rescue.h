#pragma once

/* Rescue of servers: the guest boots from another image, beside its own disks.
 *
 * The guest's XML from before is kept in "unrescue.xml" in the server's directory; as long as it is
 * there, the rescue can be ended, whatever has become of the guest.
 *
 * The handlers (rescue_instance, unrescue_instance) are declared in handlers.h.
 *
 * Source: nova/compute/manager.py rescue_instance, unrescue_instance, _get_rescue_image;
 * nova/virt/libvirt/driver.py rescue, unrescue.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Ends a rescue of a server whose task state says so. */
struct err *rescue_undo(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* Whether a rescue has begun that nobody has ended. */
bool rescue_has_way_back(struct node *, const char *instance_uuid);

/* Which image a rescue boots: that which was asked for, else the one that the server's image was
 * made from, else the server's.  NULL: there is none.  system_metadata is loaded.  Borrowed. */
const char *rescue_image(const struct instance *, const char *requested);

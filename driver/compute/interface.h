#pragma once

/* Interfaces of a guest that is there: attached, detached.
 *
 * The verbs are declared in driver/compute/handlers.h; this is what events need of them.
 *
 * Source: nova/compute/manager.py (_attach_interface, _detach_interface, add_fixed_ip_to_instance,
 * remove_fixed_ip_from_instance, inject_network_info), nova/virt/libvirt/driver.py
 * (attach_interface, detach_interface).
 *
 * Thread-safety: from any thread; the calls for one port are ordered by their strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

/* Out of the guest and its definition, then unplugged.  Not there is no error; one that the guest
 * does not let go stays plugged. */
struct err *interface_detach(struct node *, const char *instance_uuid, const struct vif *)
    MUST_CHECK;

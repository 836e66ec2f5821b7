#pragma once

/* The end of a server.
 *
 * Source: nova/compute/manager.py terminate_instance, _delete_instance, _shutdown_instance,
 * _complete_deletion; nova/virt/libvirt/driver.py destroy, cleanup.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Deletes a server completely: guest, ports, files, allocations, records.  Whatever is already gone
 * is no error.  After an error the server is in vm_state "error" and can be deleted again. */
struct err *terminate_now(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* Only what is on this host: guest, ports in the switch, files.  For a server that is deleted, or
 * lives elsewhere. */
struct err *terminate_local_guest(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* ERR_NOT_IMPLEMENTED, naming it, if the server has a volume: those are not built yet.  'bdms' may
 * be NULL. */
struct err *terminate_check_volumes(const struct block_device_mapping_list *bdms) MUST_CHECK;

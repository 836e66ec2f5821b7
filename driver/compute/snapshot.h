#pragma once

/* Images made of servers: what their verbs share with the recovery after a restart.
 *
 * The handlers (snapshot_instance, backup_instance, cache_images, quiesce_instance,
 * unquiesce_instance) are declared in driver/compute/handlers.h.
 *
 * Source: nova/compute/manager.py (_snapshot_instance, backup_instance, _rotate_backups,
 * cache_images, quiesce_instance), nova/virt/libvirt/driver.py (snapshot).
 *
 * Thread-safety: from any thread; objects belong to the caller. */

#include "base/err.h"
#include "base/jv.h"
#include "driver/compute/node.h"
#include "driver/libvirt/image_meta.h"
#include "rpc/objects/objects.h"

/* What the image of a snapshot is told besides its data; 'format' is that of the file.  The
 * server's kernel_id, ramdisk_id, os_type and project_id are loaded. */
struct json_object *snapshot_members(const struct instance *, const struct image_meta *,
                                     const char *format) MUST_CHECK;

/* Puts a guest in order whose snapshot (task state "image_...") was cut off by a restart. */
struct err *snapshot_recover(struct node *, struct instance *) MUST_CHECK;

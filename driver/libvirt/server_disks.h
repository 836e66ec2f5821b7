#pragma once

/* Makes the files of a server's disks, and takes snapshots of them.
 *
 * Root disks come from the image cache (imagecache.h): a qcow2 overlay with use_cow_images, else a
 * copy.  Formats are what glance or the layout says, never guessed; qemu-img is always told.
 *
 * Source: nova/virt/libvirt/driver.py _create_image, _create_and_inject_local_root,
 * _create_ephemeral, _create_swap; imagebackend.py (Qcow2, Flat); utils.py extract_snapshot,
 * create_image, fetch_image; contract startup-and-periodics.md 5.16.
 *
 * Thread-safety: no shared state; work on one server is ordered by its strand. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/disk_layout.h"
#include "driver/libvirt/imagecache.h"

struct server_disks {
    struct imagecache_env env;
    const struct rctx *ctx;
    const struct instance *inst;
    const struct image_meta *image; /* Whose root or rescue disk is made. */
    const struct disk_layout *layout;
    const char *kernel_id, *ramdisk_id; /* NULL: none.  Files "kernel", "ramdisk" (".rescue"). */
};

/* Makes the server's directory, console.log, disk.info, and every disk that is not there yet;
 * "disk.config" is not made here (configdrive.h).  What was made before a failure stays for
 * server_disks_remove.  ERR_NO_SPACE, ERR_FLAVOR_DISK_TOO_SMALL, ERR_IMAGE_NOT_FOUND,
 * ERR_IMAGE_UNACCEPTABLE, ERR_CANCELLED. */
struct err *server_disks_make(const struct server_disks *) MUST_CHECK;
/* The files of a rescue only. */
void server_disks_remove_rescue(const struct conf *, const char *uuid);
/* Removes a server's directory; the way of Nova: renamed first, so that a crash leaves a name that
 * says what it is. */
struct err *server_disks_remove(const struct conf *, const char *uuid) MUST_CHECK;

/* A disk's content as one file without a backing file, in 'format' ("qcow2", "raw"), for an upload.
 * The guest does not write to 'path' meanwhile. */
struct err *server_disks_extract(const struct conf *, const char *path, const char *path_format,
                                 const char *dest, const char *format, struct cancel *stop)
    MUST_CHECK;

#pragma once

/* Removes from the cache of images what no server has used for a while.
 *
 * A file is in use while a server of any host that shares the directory has its image, or while any
 * disk in instances_path lies over it, whosever that is.  Every pass makes such files young; others
 * go when they are old enough.  If one disk cannot be looked at, nothing is removed in that pass.
 *
 * Source: nova/virt/libvirt/imagecache.py, nova/virt/imagecache.py, nova/virt/storage_users.py.
 *
 * Thread-safety: from any thread and process; a file goes under its lock (imagecache.h). */

#include "base/conf.h"
#include "base/err.h"
#include "base/sync.h"

enum imageage_action {
    IMAGEAGE_LEAVE,
    IMAGEAGE_TOUCH, /* It is in use. */
    IMAGEAGE_REMOVE,
};

/* What is to be done with a file of the cache; names that the cache does not give are left. */
enum imageage_action imageage_decide(const struct conf *, const char *name, bool is_used,
                                     int64_t age_s);

/* Notes in instances_path that this host uses it, and says who else does (hosts that have noted it
 * within a day, ours among them). */
struct err *imageage_users(const struct conf *, struct cancel *, int64_t now_s,
                           struct strv *ret_hosts) MUST_CHECK;

/* Names of the files that the disks of all servers here lie over. */
struct err *imageage_backing_names(const struct conf *, struct strv *ret) MUST_CHECK;

/* One pass.  'image_ids' are those of the servers of all users. */
struct err *imageage_pass(const struct conf *, const struct strv *image_ids, int64_t now_s,
                          unsigned *ret_n_removed) MUST_CHECK;

#pragma once

/* Writes a config drive: an ISO 9660 (Joliet, Rock Ridge) or vfat image labelled "config-2", which
 * is how cloud-init finds it.
 *
 * ISO images are made by mkisofs_cmd with the arguments that Nova gives it.  vfat images are made
 * by mkfs.vfat and filled by mtools' mcopy; Nova mounts them, which needs root and can leave a
 * mount behind.  Both are made of files in a directory beside the image, closed to others because
 * passwords are among them, and get their name only when they are whole and on the disk.  What a
 * crash leaves of that directory is removed by the next try.
 *
 * Source: nova/virt/configdrive.py; [DEFAULT]config_drive_format, mkisofs_cmd.
 *
 * Thread-safety: no shared state; the calls for one image are ordered by the caller. */

#include "base/conf.h"
#include "base/err.h"
#include "rpc/objects/objects.h"

#include <stdbool.h>

/* Whether a server has one: it was asked for, the image demands it, or the site does so for servers
 * that were never launched.  system_metadata must be loaded. */
bool configdrive_is_required(const struct conf *, const struct instance *);

struct configdrive_file {
    char *path; /* "openstack/latest/meta_data.json" */
    char *data;
    size_t len;
};
struct configdrive_files {
    struct configdrive_file *items;
    size_t n;
};
/* Copies. */
void configdrive_add(struct configdrive_files *, const char *path, const void *data, size_t len);
void configdrive_files_fini(struct configdrive_files *);

/* 'path' is the image's, absolute; an old one is replaced.  ERR_CONFIGDRIVE_UNKNOWN_FORMAT,
 * ERR_NO_SPACE; ERR_INTERNAL for what the programs say, and for files that are not below the
 * drive's root. */
struct err *configdrive_make(const struct conf *, const struct configdrive_files *,
                             const char *path) MUST_CHECK;

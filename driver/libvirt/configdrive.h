#pragma once

/* Writes a config drive: an ISO 9660 (Joliet, Rock Ridge) or vfat image labelled "config-2".
 *
 * Made by mkisofs_cmd, or mkfs.vfat and mtools, from files below a temporary directory of the
 * server's; put under its name only when it is whole.
 *
 * Source: nova/virt/configdrive.py; [DEFAULT]config_drive_format, mkisofs_cmd.
 *
 * Thread-safety: no shared state. */

#include "base/conf.h"
#include "base/err.h"

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

/* ERR_CONFIGDRIVE_UNKNOWN_FORMAT, ERR_NO_SPACE; paths with ".." are refused. */
struct err *configdrive_make(const struct conf *, const struct configdrive_files *,
                             const char *path) MUST_CHECK;

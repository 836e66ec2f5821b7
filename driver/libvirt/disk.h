#pragma once

/* Local disks of a server: its directory, what block migration must carry, what a destination
 * makes.
 *
 * Formats are never guessed: they come from the domain XML or from disk.info, and qemu-img is
 * always told (CVE-2024-32498, CVE-2024-40767).  Images with a data file or a foreign backing file
 * are refused.
 *
 * Source: nova/virt/libvirt/driver.py _get_instance_disk_info, pre_live_migration,
 * _create_images_and_backing; imagebackend.py.
 *
 * Thread-safety: no shared state; work on one server is ordered by its strand. */

#include "base/conf.h"
#include "base/err.h"
#include "base/jv.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/lv.h"

/* <instances_path>/<uuid> */
char *disk_instance_dir(const struct conf *, const char *uuid) MUST_CHECK;

/* The JSON list that block migration hands to the destination: for every local file or block disk
 * {type, path, virt_disk_size, backing_file, disk_size, over_committed_disk_size}.  Volumes (serial
 * in 'volume_serials') and network disks are left out.  Domain running or not. */
struct err *disk_info(struct lv_domain *, const struct guest_info *,
                      const struct strv *volume_serials, struct json_object **ret) MUST_CHECK;
/* Sum over the list of what is not yet allocated (over_committed_disk_size), in bytes. */
uint64_t disk_info_over_committed(struct json_object *info);

/* Targets ("vda") that a block migration copies: file or block source, not readonly, not shareable,
 * no volume. */
struct err *disk_copy_targets(const struct guest_info *, const struct strv *volume_serials,
                              struct strv *ret_targets, uint64_t *ret_bytes) MUST_CHECK;

/* Makes a server's directory and empty disks for a block migration, as the source described them.
 * ERR_DESTINATION_DISK_EXISTS, ERR_NO_SPACE.  What was made before a failure is removed again.
 * Backing files are in the image cache: 'fetch' makes one that is missing, and says what it is
 * ("raw", "qcow2", a literal). */
typedef struct err *(*disk_fetch_fn)(const char *backing_path, int64_t size, void *arg,
                                     const char **ret_format);
struct err *disk_prepare(const struct conf *, const char *uuid, struct json_object *info,
                         disk_fetch_fn fetch, void *arg) MUST_CHECK;

/* Removes a server's directory and everything in it. */
struct err *disk_remove(const struct conf *, const char *uuid) MUST_CHECK;

/* The probe for shared storage: makes an empty file of a random name in instances_path, tests for
 * one, removes one.  Names with a slash are refused. */
struct err *disk_probe_make(const struct conf *, char **ret_name) MUST_CHECK;
bool disk_probe_exists(const struct conf *, const char *name);
void disk_probe_remove(const struct conf *, const char *name);

/* Sizes of the file system of instances_path in GiB, as Nova rounds them (local_gb, free). */
struct err *disk_space(const struct conf *, int64_t *ret_total_gb, int64_t *ret_free_gb,
                       int64_t *ret_used_gb) MUST_CHECK;

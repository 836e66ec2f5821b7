#pragma once

/* The cache of images: the files that disks of servers lie over.
 *
 * Makes one that a block migration needs and this host lacks: an image is fetched, examined,
 * converted and only then put under its name; base files of ephemeral and swap disks are made as
 * Nova makes them.  Files already there are used as they are.  Names and locks are Nova's, so that
 * a nova-compute may share the directory.
 *
 * A format is what glance declares; it is never guessed from the content, which is the user's.
 * Images with a backing file or a data file are refused (CVE-2022-47951, CVE-2024-32498).  What is
 * no longer used is removed by imageage.h.
 *
 * Source: nova/virt/libvirt/imagecache.py, imagebackend.py (Image.cache, Qcow2),
 * nova/virt/images.py fetch_to_raw, nova/virt/libvirt/driver.py _create_images_and_backing,
 * nova/privsep/fs.py.
 *
 * Thread-safety: from any thread and process; work on one file is under its lock.  Blocks for as
 * long as a download takes. */

#include "base/conf.h"
#include "base/err.h"
#include "base/sync.h"
#include "rpc/rest/glance.h"

/* <instances_path>/_base/<name>, and that of an image. */
char *imagecache_path(const struct conf *, const char *name) MUST_CHECK;
struct err *imagecache_image_path(const struct conf *, const char *image_id, char **ret) MUST_CHECK;

struct imagecache_env {
    const struct conf *conf;
    struct glance *glance;
    struct cancel *stop; /* May be NULL. */
};

/* Sees to it that 'backing_path', a file of the cache, is there.  'image_ref' is the image of the
 * server, whose name it must be unless it is one of ephemeral or swap disks; 'size' is that of the
 * disk that will lie over it, in bytes.  *ret_format, a literal, is what the file is: "raw", or
 * "qcow2" on hosts that do not force_raw_images.
 *
 * ERR_IMAGE_NOT_FOUND, ERR_IMAGE_UNACCEPTABLE, ERR_FLAVOR_DISK_TOO_SMALL (the image is larger than
 * the disk), ERR_NO_SPACE, ERR_CANCELLED, ERR_GLANCE_CONNECTION; ERR_MIGRATION_ERROR: the name is
 * of something that cannot be made again. */
struct err *imagecache_fetch(const struct imagecache_env *, const struct rctx *,
                             const char *image_ref, const char *backing_path, int64_t size,
                             const char **ret_format) MUST_CHECK;

/* The same for an image that is a file of one server, its kernel or ramdisk. */
struct err *imagecache_fetch_file(const struct imagecache_env *, const struct rctx *,
                                  const char *image_ref, const char *path) MUST_CHECK;

/* The lock of a file of the cache, or another one of Nova's in instances_path; closing *ret_fd
 * releases it.  The first waits, the second gives -1 if somebody else has it. */
struct err *imagecache_lock(const struct conf *, struct cancel *, const char *name, int *ret_fd)
    MUST_CHECK;
struct err *imagecache_lock_try(const struct conf *, const char *name, int *ret_fd) MUST_CHECK;

/* Removes what a crash left of downloads; for the start.  Those of another host that shares the
 * directory and is at work are left alone. */
void imagecache_sweep(const struct conf *);

enum imagecache_kind { IMAGECACHE_IMAGE, IMAGECACHE_EPHEMERAL, IMAGECACHE_SWAP };

struct imagecache_name {
    enum imagecache_kind kind;
    int64_t size;          /* Of ephemeral and swap, in bytes. */
    const char *mkfs_hash; /* Of ephemeral: which file system; borrowed from the name. */
};

/* What a name in the cache stands for: the SHA-1 of an image's id, "ephemeral_GIB_HASH",
 * "swap_MIB".  ERR_MIGRATION_ERROR: anything else, also the names of resized images that old
 * releases made. */
struct err *imagecache_name_read(const char *name, struct imagecache_name *ret) MUST_CHECK;

/* HASH of the file system that an ephemeral disk gets: what the request says ('guest_format'), else
 * what virt_mkfs and default_ephemeral_format say, else what suits the guest.  Both may be NULL.
 *
 * Nova names the file by what a guest of no kind would get, whatever is in it; so servers of
 * another kind get the wrong one from its cache.  Ours are named for what they are. */
struct err *imagecache_mkfs_hash(const struct conf *, const char *os_type, const char *guest_format,
                                 char **ret) MUST_CHECK;

/* How to make the file system whose name, or whose command of virt_mkfs, has that hash.
 * ERR_MIGRATION_ERROR: this host does not know it. */
struct err *imagecache_mkfs(const struct conf *, const char *hash, const char *label,
                            const char *target, struct strv *ret_argv) MUST_CHECK;

/* Whether an image may be used, by what "qemu-img info" says of it as 'format'.  *ret_size is what
 * its disk measures.  ERR_IMAGE_UNACCEPTABLE. */
struct err *imagecache_examine(const char *image_ref, const char *format, struct json_object *info,
                               const struct strv *vmdk_types, int64_t *ret_size) MUST_CHECK;

#include "driver/libvirt/server_disks.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "driver/libvirt/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU_IMG_MS 60000
#define MKFS_MS     600000
#define COPY_MS     7200000
#define RESCUE      ".rescue"
#define PART        ".part"

/* ---- Backends ---- */

/* What a disk is made as is in its layout; here are the kinds of store that we have. */
static struct err *check_backend(const struct conf *conf)
{
    static const char *const built[] = {"default", "qcow2", "raw", "flat"};
    const char *type = conf->libvirt.images_type;

    for (size_t i = 0; i < ARRAY_SIZE(built); i++) {
        if (str_eq(type, built[i])) {
            return NULL;
        }
    }
    return err_msg(ERR_NOT_IMPLEMENTED,
                   "[libvirt]images_type '%s' is not supported by this service", type);
}

static const struct disk_item *find(const struct disk_layout *layout, enum disk_role role)
{
    for (size_t i = 0; i < layout->n; i++) {
        if (layout->items[i].role == role) {
            return &layout->items[i];
        }
    }
    return NULL;
}

/* Whether a disk is made now.  A rescue makes its own only: the others are there, and the image is
 * not theirs. */
static bool is_made(const struct server_disks *s, const struct disk_item *d)
{
    if (d->role == DISK_CONFIG) {
        return false;
    }
    return !find(s->layout, DISK_RESCUE) || d->role == DISK_RESCUE;
}

/* ---- disk.info ---- */

static struct err *read_formats(const char *path, struct json_object **ret)
{
    CLEANUP(freep) char *text = NULL;
    CLEANUP(jv_putp) struct json_object *formats = NULL;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, NULL);

    if (err_is(e, ERR_NOT_FOUND)) {
        *ret = json_object_new_object();
        return NULL;
    }
    TRY(TAKE(e));
    const char *line = str_strip(text);

    e = *line ? jv_parse(line, strlen(line), &formats) : NULL;
    if (e || (formats && !json_object_is_type(formats, json_type_object))) {
        CLEANUP(freep) char *reason = str_printf("%s is no list of formats", path);

        return err_new(ERR_INVALID_DISK_INFO, "reason", reason, NULL);
    }
    *ret = formats ? TAKE(formats) : json_object_new_object();
    return NULL;
}

static struct err *write_formats(const char *path, struct json_object *formats)
{
    CLEANUP(freep) char *text = jv_text(formats);
    CLEANUP(freep) char *line = str_printf("%s\n", text);

    return fs_write_atomic(&fs_real, path, line, strlen(line), 0644);
}

/* Path to format for what will be made, which Nova trusts instead of looking into the file; so it
 * is written first. */
static struct err *note_formats(const struct server_disks *s, const char *dir)
{
    CLEANUP(freep) char *path = str_printf("%s/disk.info", dir);
    CLEANUP(jv_putp) struct json_object *formats = NULL;

    TRY(read_formats(path, &formats));
    for (size_t i = 0; i < s->layout->n; i++) {
        const struct disk_item *d = &s->layout->items[i];
        CLEANUP(freep) char *disk = str_printf("%s/%s", dir, d->file);

        if (is_made(s, d) && !fs_exists(&fs_real, disk)) {
            jv_add_str(formats, disk, d->format);
        }
    }
    return write_formats(path, formats);
}

/* ---- Making one file ---- */

static struct err *set_size(const char *path, int64_t size)
{
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || (st.st_size < size && ftruncate(fd, size) < 0)) {
        return err_errno(errno, "making %s", path);
    }
    return NULL;
}

/* An image's clusters are those of the disk over it, as in Nova: a site may have chosen them. */
static struct err *cluster_size(const char *path, uint32_t *ret)
{
    unsigned char header[24];
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, header, sizeof(header), 0) < (ssize_t)sizeof(header)) {
        return err_errno(errno, "reading %s", path);
    }
    *ret = UINT32_C(1) << (header[23] & 31);
    return NULL;
}

static struct err *make_overlay(const char *base, const char *base_format, const char *path,
                                int64_t size)
{
    CLEANUP(freep) char *size_text = size > 0 ? str_printf("%" PRId64, size) : NULL;
    CLEANUP(freep) char *options = NULL;
    const char *argv[16] = {"qemu-img", "create", "-q", "-f",        "qcow2",
                            "-b",       base,     "-F", base_format, NULL};
    size_t n = 9;

    if (str_eq(base_format, "qcow2")) {
        uint32_t cluster = 0;

        TRY(cluster_size(base, &cluster));
        options = str_printf("cluster_size=%" PRIu32, cluster);
        argv[n++] = "-o";
        argv[n++] = options;
    }
    argv[n++] = path;
    argv[n++] = size_text; /* NULL: the size of the base. */
    return proc_run(argv, QEMU_IMG_MS, NULL);
}

static struct err *make_copy(const struct server_disks *s, const char *base,
                             const char *base_format, const char *path, int64_t size)
{
    const char *copy[] = {"cp", "--reflink=auto", "--sparse=auto", base, path, NULL};
    const char *convert[] = {"qemu-img", "convert", "-t", "writeback", "-f", base_format,
                             "-O",       "raw",     base, path,        NULL};

    TRY(proc_run_until(str_eq(base_format, "raw") ? copy : convert, COPY_MS, s->env.stop, NULL));
    return set_size(path, size);
}

/* A disk over, or like, a file of the cache. */
static struct err *make_from_base(const struct server_disks *s, const struct disk_item *d,
                                  const char *image_id, const char *base, const char *path)
{
    const char *base_format = NULL;

    TRY(imagecache_fetch(&s->env, s->ctx, image_id, base, d->size > 0 ? d->size : INT64_MAX,
                         &base_format));
    if (str_eq(d->format, "qcow2")) {
        return make_overlay(base, base_format, path, d->size);
    }
    return make_copy(s, base, base_format, path, d->size);
}

static struct err *make_from_image(const struct server_disks *s, const struct disk_item *d,
                                   const char *image_id, const char *path)
{
    CLEANUP(freep) char *base = NULL;

    if (str_is_empty(image_id)) {
        return err_msg(ERR_INTERNAL, "disk %s has no image", d->file);
    }
    TRY(imagecache_image_path(s->env.conf, image_id, &base));
    return make_from_base(s, d, image_id, base, path);
}

/* The file systems that Nova allows a request to name. */
static struct err *check_guest_format(const struct disk_item *d)
{
    static const char *const known[] = {"ext2", "ext3", "ext4", "xfs"};

    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (str_is_empty(d->guest_format) || str_eq(d->guest_format, known[i])) {
            return NULL;
        }
    }
    CLEANUP(freep) char *details = str_printf("%s format is not supported", d->guest_format);

    return err_new(ERR_INVALID_BDM_FORMAT, "details", details, NULL);
}

/* Nova labels "disk.local" and "disk.eph0" ephemeral0, the next ones by their number. */
static char *ephemeral_label(const struct disk_item *d)
{
    bool has_number = str_starts(d->file, "disk.eph");

    return str_printf("ephemeral%s", has_number ? d->file + strlen("disk.eph") : "0");
}

static struct err *make_file_system(const struct server_disks *s, const struct disk_item *d,
                                    const char *hash, const char *path)
{
    CLEANUP(freep) char *label = ephemeral_label(d);
    CLEANUP(strv_fini) struct strv argv = {0};

    TRY(imagecache_mkfs(s->env.conf, hash, label, path, &argv));
    TRY(set_size(path, d->size));
    return proc_run_until((const char *const *)argv.items, MKFS_MS, s->env.stop, NULL);
}

static struct err *make_ephemeral(const struct server_disks *s, const struct disk_item *d,
                                  const char *path)
{
    const char *os_type = instance_has_os_type(s->inst) ? instance_os_type(s->inst) : NULL;
    const char *guest_format = str_is_empty(d->guest_format) ? NULL : d->guest_format;
    CLEANUP(freep) char *hash = NULL;

    TRY(check_guest_format(d));
    TRY(imagecache_mkfs_hash(s->env.conf, os_type, guest_format, &hash));
    if (!str_eq(d->format, "qcow2")) {
        return make_file_system(s, d, hash, path);
    }
    CLEANUP(freep) char *name = str_printf("ephemeral_%" PRId64 "_%s", d->size >> 30, hash);
    CLEANUP(freep) char *base = imagecache_path(s->env.conf, name);

    return make_from_base(s, d, NULL, base, path);
}

static struct err *make_swap(const struct server_disks *s, const struct disk_item *d,
                             const char *path)
{
    const char *mkswap[] = {"mkswap", path, NULL};

    if (!str_eq(d->format, "qcow2")) {
        TRY(set_size(path, d->size));
        return proc_run_until(mkswap, MKFS_MS, s->env.stop, NULL);
    }
    CLEANUP(freep) char *name = str_printf("swap_%" PRId64, d->size >> 20);
    CLEANUP(freep) char *base = imagecache_path(s->env.conf, name);

    return make_from_base(s, d, NULL, base, path);
}

static struct err *make_by_role(const struct server_disks *s, const struct disk_item *d,
                                const char *image_id, const char *path)
{
    switch (d->role) {
    case DISK_ROOT:
    case DISK_RESCUE:
        return make_from_image(s, d, image_id, path);
    case DISK_EPHEMERAL:
        return make_ephemeral(s, d, path);
    case DISK_SWAP:
        return make_swap(s, d, path);
    case DISK_CONFIG:
        break;
    }
    return NULL;
}

/* Takes what a disk may need from the file system now, so that its guest never finds it full. */
static struct err *preallocate(const struct conf *conf, const char *path, int64_t size)
{
    if (size <= 0 || !str_eq(conf->dflt.preallocate_images, "space")) {
        return NULL;
    }
    CLEANUP(closep) int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        return err_errno(errno, "opening %s", path);
    }
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) == 0) {
        return NULL;
    }
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
        log_warning(LOG_LIBVIRT, "the file system of %s cannot preallocate, leaving it sparse",
                    path);
        return NULL;
    }
    return err_errno(errno, "preallocating %s", path);
}

/* A file that has its name is whole: it is made under another. */
static struct err *make_disk(const struct server_disks *s, const struct disk_item *d,
                             const char *image_id, const char *dir)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, d->file);
    CLEANUP(freep) char *part = str_printf("%s" PART, path);

    if (fs_exists(&fs_real, path)) {
        return NULL;
    }
    unlink(part);
    struct err *e = make_by_role(s, d, image_id, part);

    e = e ? e : preallocate(s->env.conf, part, d->size);
    if (!e && rename(part, path) < 0) {
        e = err_errno(errno, "naming %s", path);
    }
    if (e) {
        unlink(part);
    }
    return err_context(e, "making disk %s", d->file);
}

/* ---- Kernel and ramdisk ---- */

static struct err *make_boot_file(const struct server_disks *s, const char *dir, const char *name,
                                  const char *image_id)
{
    char format[] = "raw";
    struct disk_item d = {.role = DISK_ROOT, .format = format};

    snprintf(d.file, sizeof(d.file), "%s%s", name, find(s->layout, DISK_RESCUE) ? RESCUE : "");
    return make_disk(s, &d, image_id, dir);
}

/* A ramdisk without a kernel is not looked at, as in Nova. */
static struct err *make_boot_files(const struct server_disks *s, const char *dir)
{
    if (str_is_empty(s->kernel_id)) {
        return NULL;
    }
    TRY(make_boot_file(s, dir, "kernel", s->kernel_id));
    return str_is_empty(s->ramdisk_id) ? NULL : make_boot_file(s, dir, "ramdisk", s->ramdisk_id);
}

/* ---- A server's directory ---- */

/* libvirt would make it as root.  One that is there may be QEMU's already. */
static struct err *make_console_log(const char *dir)
{
    CLEANUP(freep) char *path = str_printf("%s/console.log", dir);
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    return fd < 0 && errno != EACCES ? err_errno(errno, "making %s", path) : NULL;
}

struct err *server_disks_make(const struct server_disks *s)
{
    CLEANUP(freep) char *dir = disk_instance_dir(s->env.conf, instance_uuid(s->inst));
    const char *image_id = s->image ? s->image->id : NULL;

    TRY(check_backend(s->env.conf));
    TRY(fs_mkdir_all(&fs_real, dir, 0755));
    TRY(make_console_log(dir));
    TRY(note_formats(s, dir));
    TRY(make_boot_files(s, dir));
    for (size_t i = 0; i < s->layout->n; i++) {
        if (is_made(s, &s->layout->items[i])) {
            TRY(make_disk(s, &s->layout->items[i], image_id, dir));
        }
    }
    return NULL;
}

void server_disks_remove_rescue(const struct conf *conf, const char *uuid)
{
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, dir, &names);

    for (size_t i = 0; i < names.n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, names.items[i]);

        if ((str_ends(path, RESCUE) || str_ends(path, RESCUE PART)) && unlink(path) < 0 &&
            errno != ENOENT) {
            log_warning(LOG_LIBVIRT, "%s cannot be removed: %s, leaving it", path, strerror(errno));
        }
    }
    if (e && !err_is(e, ERR_NOT_FOUND)) {
        err_ignore(TAKE(e), "looking for the files of a rescue");
    }
}

/* Gives a directory the name under which it is removed; none is no error. */
static struct err *doom(const char *dir, const char *doomed)
{
    if (rename(dir, doomed) == 0 || errno == ENOENT) {
        return NULL;
    }
    if (errno != ENOTEMPTY && errno != EEXIST) {
        return err_errno(errno, "renaming %s", dir);
    }
    TRY(fs_remove_all(&fs_real, doomed)); /* An earlier removal was cut short. */
    return rename(dir, doomed) < 0 && errno != ENOENT ? err_errno(errno, "renaming %s", dir) : NULL;
}

struct err *server_disks_remove(const struct conf *conf, const char *uuid)
{
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);
    CLEANUP(freep) char *resized = str_printf("%s_resize", dir);
    CLEANUP(freep) char *doomed = str_printf("%s_del", dir);

    if (!uuid_is_valid(uuid)) {
        return err_msg(ERR_INTERNAL, "'%s' is no server", uuid);
    }
    TRY(doom(dir, doomed));
    TRY(fs_remove_all(&fs_real, doomed));
    TRY(doom(resized, doomed)); /* What nova-compute left of a resize. */
    return fs_remove_all(&fs_real, doomed);
}

/* ---- Snapshots ---- */

struct err *server_disks_extract(const struct conf *conf, const char *path, const char *path_format,
                                 const char *dest, const char *format, struct cancel *stop)
{
    const char *to = str_eq(format, "iso") ? "raw" : format; /* qemu-img does not know it. */
    const char *plain[] = {"qemu-img", "convert", "-t", "writeback", "-f", path_format,
                           "-O",       to,        path, dest,        NULL};
    const char *compressed[] = {"qemu-img",  "convert", "-c", "-t", "writeback", "-f",
                                path_format, "-O",      to,   path, dest,        NULL};
    bool is_compressed = conf->libvirt.snapshot_compression && str_eq(to, "qcow2");
    struct err *e = proc_run_until(is_compressed ? compressed : plain, COPY_MS, stop, NULL);

    if (e) {
        unlink(dest);
    }
    return err_context(e, "copying disk %s", path);
}

#include "driver/libvirt/disk.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU_IMG_MS 60000

char *disk_instance_dir(const struct conf *conf, const char *uuid)
{
    return str_printf("%s/%s", conf->dflt.instances_path, uuid);
}

/* ---- On the source ---- */

static bool is_local(const struct guest_disk *d, const struct strv *volume_serials)
{
    return (str_eq(d->type, "file") || str_eq(d->type, "block")) && d->source && d->target &&
           !(d->serial && strv_has(volume_serials, d->serial));
}

static bool is_copied(const struct guest_disk *d, const struct strv *volume_serials)
{
    return is_local(d, volume_serials) && !d->is_readonly && !d->is_shareable;
}

static const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;

    return slash ? slash + 1 : path;
}

static struct err *add_disk(struct lv_domain *domain, const struct guest_disk *d,
                            struct json_object *list)
{
    struct lv_block_info info;
    struct json_object *o;

    TRY_CTX(lv_block_info(domain, d->target, &info), "asking for the size of disk %s", d->target);
    o = json_object_new_object();
    jv_add_str(o, "type", d->format ? d->format : "raw");
    jv_add_str(o, "path", d->source);
    jv_add_int(o, "virt_disk_size", (int64_t)info.capacity);
    jv_add_str(o, "backing_file", d->backing ? base_name(d->backing) : "");
    jv_add_int(o, "disk_size", (int64_t)info.allocation);
    jv_add_int(o, "over_committed_disk_size",
               info.capacity > info.allocation ? (int64_t)(info.capacity - info.allocation) : 0);
    json_object_array_add(list, o);
    return NULL;
}

struct err *disk_info(struct lv_domain *domain, const struct guest_info *guest,
                      const struct strv *volume_serials, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < guest->n_disks; i++) {
        if (is_copied(&guest->disks[i], volume_serials)) {
            TRY(add_disk(domain, &guest->disks[i], list));
        }
    }
    *ret = TAKE(list);
    return NULL;
}

uint64_t disk_info_over_committed(struct json_object *info)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < json_object_array_length(info); i++) {
        sum += (uint64_t)json_object_get_int64(
            jv_get(json_object_array_get_idx(info, i), "over_committed_disk_size"));
    }
    return sum;
}

struct err *disk_copy_targets(const struct guest_info *guest, const struct strv *volume_serials,
                              struct strv *ret_targets, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < guest->n_disks; i++) {
        const struct guest_disk *d = &guest->disks[i];
        struct stat st;

        if (!is_copied(d, volume_serials)) {
            continue;
        }
        if (stat(d->source, &st) < 0) {
            return err_errno(errno, "looking at disk %s", d->source);
        }
        strv_add(ret_targets, d->target);
        /* At least 2 GiB a disk, as Nova reckons for time-outs. */
        bytes += MAX((uint64_t)st.st_size, UINT64_C(2) << 30);
    }
    *ret_bytes = bytes;
    return NULL;
}

/* ---- On the destination ---- */

/* One entry of the source's list, with what it may say checked: it comes from a peer. */
struct wanted {
    const char *format, *name, *backing;
    int64_t size;
};

static struct err *read_wanted(struct json_object *entry, struct wanted *ret)
{
    struct jv_reader r = jv_reader_init(entry, "disk of a block migration");
    const char *path = jv_str(&r, "path");

    ret->format = jv_str(&r, "type");
    ret->backing = jv_str_or(&r, "backing_file", "");
    ret->size = jv_int(&r, "virt_disk_size");
    TRY(jv_finish(&r));
    ret->name = base_name(path);
    if (!str_eq(ret->format, "qcow2") && !str_eq(ret->format, "raw")) {
        return err_msg(ERR_MIGRATION_ERROR, "disk %s has format '%s'; only qcow2 and raw are moved",
                       path, ret->format);
    }
    if (str_is_empty(ret->name) || ret->name[0] == '.' || strchr(ret->backing, '/') ||
        ret->backing[0] == '.' || ret->size < 0) {
        return err_msg(ERR_MIGRATION_ERROR, "disk '%s' cannot be made here", path);
    }
    return NULL;
}

static struct err *make_raw(const char *path, int64_t size)
{
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0 || ftruncate(fd, size) < 0) {
        return err_errno(errno, "making %s", path);
    }
    return NULL;
}

static struct err *make_qcow2(const char *path, const char *backing, const char *backing_format,
                              int64_t size)
{
    CLEANUP(freep) char *size_text = str_printf("%lld", (long long)size);
    const char *plain[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, size_text, NULL};
    const char *backed[] = {"qemu-img", "create", "-q",           "-f", "qcow2",   "-b",
                            backing,    "-F",     backing_format, path, size_text, NULL};

    return proc_run(backing ? backed : plain, QEMU_IMG_MS, NULL);
}

static struct err *make_disk(const struct conf *conf, const char *dir, struct json_object *entry,
                             struct json_object *formats, disk_fetch_fn fetch, void *arg)
{
    struct wanted w;

    TRY(read_wanted(entry, &w));
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, w.name);
    CLEANUP(freep)
    char *backing = *w.backing ? str_printf("%s/%s/%s", conf->dflt.instances_path,
                                            conf->image_cache.subdirectory_name, w.backing)
                               : NULL;

    const char *backing_format = NULL;

    if (backing) {
        TRY_CTX(fetch(backing, w.size, arg, &backing_format), "getting the backing file of disk %s",
                w.name);
    }
    if (str_eq(w.format, "qcow2")) {
        TRY_CTX(make_qcow2(path, backing, backing_format, w.size), "making disk %s", w.name);
    } else {
        TRY_CTX(make_raw(path, w.size), "making disk %s", w.name);
    }
    jv_add_str(formats, path, w.format);
    return NULL;
}

/* disk.info: path to format, which Nova trusts instead of probing. */
static struct err *write_formats(const char *dir, struct json_object *formats)
{
    CLEANUP(freep) char *path = str_printf("%s/disk.info", dir);
    CLEANUP(freep) char *text = jv_text(formats);

    return fs_write_atomic(&fs_real, path, text, strlen(text), 0644);
}

static struct err *make_all(const struct conf *conf, const char *dir, struct json_object *info,
                            disk_fetch_fn fetch, void *arg)
{
    CLEANUP(jv_putp) struct json_object *formats = json_object_new_object();

    for (size_t i = 0; i < json_object_array_length(info); i++) {
        TRY(make_disk(conf, dir, json_object_array_get_idx(info, i), formats, fetch, arg));
    }
    return write_formats(dir, formats);
}

struct err *disk_prepare(const struct conf *conf, const char *uuid, struct json_object *info,
                         disk_fetch_fn fetch, void *arg)
{
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);

    if (!json_object_is_type(info, json_type_array)) {
        return err_msg(ERR_MIGRATION_ERROR, "the list of disks is no list");
    }
    if (mkdir(dir, 0755) < 0) {
        if (errno == EEXIST) {
            return err_new(ERR_DESTINATION_DISK_EXISTS, "path", dir, NULL);
        }
        return err_errno(errno, "making %s", dir);
    }
    struct err *e = make_all(conf, dir, info, fetch, arg);

    if (e) {
        err_ignore(disk_remove(conf, uuid), "removing disks that could not all be made");
    }
    return e;
}

struct err *disk_remove(const struct conf *conf, const char *uuid)
{
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);

    if (!uuid_is_valid(uuid)) {
        return err_msg(ERR_INTERNAL, "'%s' is no server", uuid);
    }
    return fs_remove_all(&fs_real, dir);
}

/* ---- The probe for shared storage ---- */

struct err *disk_probe_make(const struct conf *conf, char **ret_name)
{
    CLEANUP(freep) char *path = str_printf("%s/tmpXXXXXX", conf->dflt.instances_path);
    CLEANUP(closep) int fd = mkostemp(path, O_CLOEXEC);

    if (fd < 0) {
        return err_errno(errno, "making a file in %s", conf->dflt.instances_path);
    }
    *ret_name = str_dup(base_name(path));
    return NULL;
}

static char *probe_path(const struct conf *conf, const char *name)
{
    if (str_is_empty(name) || strchr(name, '/') || name[0] == '.') {
        return NULL;
    }
    return str_printf("%s/%s", conf->dflt.instances_path, name);
}

bool disk_probe_exists(const struct conf *conf, const char *name)
{
    CLEANUP(freep) char *path = probe_path(conf, name);

    /* Touching the directory makes network file systems look again. */
    utimensat(AT_FDCWD, conf->dflt.instances_path, NULL, 0);
    return path && access(path, F_OK) == 0;
}

void disk_probe_remove(const struct conf *conf, const char *name)
{
    CLEANUP(freep) char *path = probe_path(conf, name);

    if (path && unlink(path) < 0 && errno != ENOENT) {
        log_warning(LOG_LIBVIRT, "%s cannot be removed: %s, leaving it", path, strerror(errno));
    }
}

struct err *disk_space(const struct conf *conf, int64_t *ret_total_gb, int64_t *ret_free_gb,
                       int64_t *ret_used_gb)
{
    uint64_t total, free_bytes, avail;

    TRY(fs_space(&fs_real, conf->dflt.instances_path, &total, &free_bytes, &avail));
    *ret_total_gb = (int64_t)(total >> 30);
    *ret_free_gb = (int64_t)(avail >> 30);
    *ret_used_gb = (int64_t)((total - free_bytes) >> 30);
    return NULL;
}

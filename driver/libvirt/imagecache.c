#include "driver/libvirt/imagecache.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/proc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFO_MS     60000
#define MKFS_MS     600000
#define CONVERT_MS  7200000
#define LOCK_MS     7200000
#define LOCK_POLL   200
#define SHA1_LEN    40
#define MKFS_LEN    7
#define MAX_GIB     (INT64_C(1) << 20)
#define PART        ".part"
#define CONVERTED   ".converted"
#define QCOW2_MAGIC "QFI\xfb"

static struct err *unacceptable(const char *image_ref, const char *reason)
{
    return err_new(ERR_IMAGE_UNACCEPTABLE, "image_id", image_ref, "reason", reason, NULL);
}

/* ---- Names ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* A number of units up to the end of the text or to a '_'. */
static bool read_size(const char *text, int64_t unit, int64_t *ret, const char **ret_end)
{
    size_t len = strspn(text, "0123456789");
    CLEANUP(freep) char *digits = str_ndup(text, len);
    int64_t n;

    if (len == 0 || !str_to_i64(digits, &n) || n <= 0 || n > MAX_GIB * ((1 << 30) / unit)) {
        return false;
    }
    *ret = n * unit;
    *ret_end = text + len;
    return true;
}

struct err *imagecache_name_read(const char *name, struct imagecache_name *ret)
{
    struct imagecache_name n = {.kind = IMAGECACHE_IMAGE};
    const char *end = name;

    if (strlen(name) == SHA1_LEN && strspn(name, "0123456789abcdef") == SHA1_LEN) {
        *ret = n;
        return NULL;
    }
    n.kind = IMAGECACHE_SWAP;
    if (str_starts(name, "swap_") && read_size(name + 5, 1 << 20, &n.size, &end) && !*end) {
        *ret = n;
        return NULL;
    }
    n.kind = IMAGECACHE_EPHEMERAL;
    if (str_starts(name, "ephemeral_") && read_size(name + 10, 1 << 30, &n.size, &end) &&
        *end == '_' && end[1]) {
        n.mkfs_hash = end + 1;
        *ret = n;
        return NULL;
    }
    return err_msg(ERR_MIGRATION_ERROR, "the cache of images has no '%s', and only a copy would do",
                   name);
}

char *imagecache_path(const struct conf *conf, const char *name)
{
    return str_printf("%s/%s/%s", conf->dflt.instances_path, conf->image_cache.subdirectory_name,
                      name);
}

struct err *imagecache_image_path(const struct conf *conf, const char *image_id, char **ret)
{
    CLEANUP(freep) char *name = NULL;

    TRY(hash_text("sha1", image_id, &name));
    *ret = imagecache_path(conf, name);
    return NULL;
}

/* The command that virt_mkfs has for a kind of guest, or NULL; the last one counts. */
static const char *mkfs_command(const struct conf *conf, const char *os_type)
{
    const char *found = NULL;

    for (size_t i = 0; os_type && i < conf->dflt.virt_mkfs.n; i++) {
        const char *item = conf->dflt.virt_mkfs.items[i];
        size_t len = strcspn(item, "=");

        if (len == strlen(os_type) && strncmp(item, os_type, len) == 0 && item[len]) {
            found = item[len + 1] ? item + len + 1 : NULL;
        }
    }
    return found;
}

/* What makes the file system of a guest's ephemeral disk: a command, or its name. */
static const char *ephemeral_fs(const struct conf *conf, const char *os_type,
                                const char *guest_format)
{
    const char *command = mkfs_command(conf, os_type);

    command = command ? command : mkfs_command(conf, "default");
    if (command || guest_format) {
        return command ? command : guest_format;
    }
    if (!str_is_empty(conf->dflt.default_ephemeral_format)) {
        return conf->dflt.default_ephemeral_format;
    }
    return str_eq(os_type, "linux") ? "ext4" : str_eq(os_type, "windows") ? "ntfs" : "vfat";
}

struct err *imagecache_mkfs_hash(const struct conf *conf, const char *os_type,
                                 const char *guest_format, char **ret)
{
    CLEANUP(freep) char *md5 = NULL;

    TRY(hash_text("md5", ephemeral_fs(conf, os_type, guest_format), &md5));
    *ret = str_ndup(md5, MKFS_LEN);
    return NULL;
}

/* ---- Locks ---- */

/* Nova's locks are POSIX record locks on instances_path/locks/nova-NAME.  Ours are those of the
 * open file: they exclude Nova's, and also our own threads. */
static struct err *lock_try(const char *path, bool is_shared, int *ret)
{
    struct flock whole = {.l_type = is_shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    struct stat by_path, by_fd;
    CLEANUP(closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0) {
        return err_errno(errno, "opening the lock %s", path);
    }
    if (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        return errno == EAGAIN || errno == EACCES ? NULL : err_errno(errno, "locking %s", path);
    }
    /* Nova removes the locks of files that it removes. */
    if (fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 && by_fd.st_ino == by_path.st_ino &&
        by_fd.st_dev == by_path.st_dev) {
        *ret = fd;
        fd = -1;
    }
    return NULL;
}

static char *lock_path(const struct conf *conf, const char *name)
{
    return str_printf("%s/locks/nova-%s", conf->dflt.instances_path, name);
}

static struct err *lock_by_name(const struct conf *conf, const char *name, bool is_shared,
                                int *ret_fd)
{
    CLEANUP(freep) char *dir = str_printf("%s/locks", conf->dflt.instances_path);
    CLEANUP(freep) char *path = lock_path(conf, name);
    int fd = -1;

    TRY(fs_mkdir_all(&fs_real, dir, 0755));
    TRY(lock_try(path, is_shared, &fd));
    *ret_fd = fd;
    return NULL;
}

struct err *imagecache_lock_try(const struct conf *conf, const char *name, int *ret_fd)
{
    return lock_by_name(conf, name, /* is_shared= */ false, ret_fd);
}

struct err *imagecache_lock(const struct conf *conf, struct cancel *stop, const char *name,
                            int *ret_fd)
{
    int64_t deadline_ms = clock_ms() + LOCK_MS;
    int fd = -1;

    while (true) {
        TRY(imagecache_lock_try(conf, name, &fd));
        if (fd >= 0) {
            *ret_fd = fd;
            return NULL;
        }
        if (clock_ms() >= deadline_ms) {
            return err_msg(ERR_TIMEOUT, "waiting for the lock of %s", name);
        }
        if (cancel_sleep(stop, LOCK_POLL)) {
            return err_msg(ERR_CANCELLED, "stopped while waiting for the lock of %s", name);
        }
    }
}

/* ---- Formats ---- */

/* What glance calls a format and what it is for QEMU.  "raw" is anything: it is not looked into. */
static const struct {
    const char *declared, *qemu;
} formats[] = {
    {"raw", "raw"}, {"iso", "raw"},     {"ami", "raw"},   {"ari", "raw"},   {"aki", "raw"},
    {"vdi", "vdi"}, {"qcow2", "qcow2"}, {"vmdk", "vmdk"}, {"vhdx", "vhdx"},
};

static struct err *format_for(const struct glance_image *image, const char **ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (str_eq(image->disk_format, formats[i].declared)) {
            *ret = formats[i].qemu;
            return NULL;
        }
    }
    return unacceptable(image->id, "Image not in a supported format");
}

static struct err *has_magic(const char *path, const char *magic, bool *ret)
{
    char start[8] = "";
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, start, sizeof(start), 0) < 0) {
        return err_errno(errno, "reading %s", path);
    }
    *ret = memcmp(start, magic, strlen(magic)) == 0;
    return NULL;
}

/* A raw image may begin like another format, and stays raw: qemu-img is always told.  Only where
 * the cache keeps qcow2 as it came, the two could not be told apart later. */
static struct err *check_raw(const struct conf *conf, const char *image_ref, const char *path)
{
    bool is_qcow2;

    if (conf->dflt.force_raw_images) {
        return NULL;
    }
    TRY(has_magic(path, QCOW2_MAGIC, &is_qcow2));
    return is_qcow2 ? unacceptable(image_ref, "Image content does not match disk_format") : NULL;
}

struct err *imagecache_examine(const char *image_ref, const char *format, struct json_object *info,
                               const struct strv *vmdk_types, int64_t *ret_size)
{
    struct json_object *data = jv_get(jv_get(info, "format-specific"), "data");
    struct jv_reader r = jv_reader_init(info, "qemu-img info");
    const char *found = jv_str(&r, "format");
    int64_t size = jv_int(&r, "virtual-size");

    TRY(jv_finish(&r));
    if (!str_eq(found, format)) {
        return unacceptable(image_ref, "Image content does not match disk_format");
    }
    if (jv_get(info, "backing-filename") || jv_get(info, "full-backing-filename")) {
        return unacceptable(image_ref, "Image has a backing file");
    }
    if (jv_get(data, "data-file")) {
        return unacceptable(image_ref, "Image has a data file");
    }
    if (str_eq(format, "vmdk")) {
        const char *type = json_object_get_string(jv_get(data, "create-type"));

        if (!type || !strv_has(vmdk_types, type)) {
            return unacceptable(image_ref, "Invalid VMDK create-type specified");
        }
    }
    *ret_size = size;
    return NULL;
}

/* Nova's limits: an image can make qemu-img busy for long. */
static struct err *read_info(const char *path, const char *format, struct json_object **ret)
{
    CLEANUP(freep) char *text = NULL;
    const char *argv[] = {"prlimit",
                          "--cpu=30",
                          "--as=1073741824",
                          "qemu-img",
                          "info",
                          "--force-share",
                          "--output=json",
                          "-f",
                          format,
                          path,
                          NULL};

    TRY(proc_run(argv, INFO_MS, &text));
    return jv_parse(text, strlen(text), ret);
}

static struct err *file_size(const char *path, int64_t *ret)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return err_errno(errno, "looking at %s", path);
    }
    *ret = st.st_size;
    return NULL;
}

/* How large the disk in a file is, after all checks of it. */
static struct err *examine(const struct conf *conf, const char *image_ref, const char *path,
                           const char *format, int64_t *ret_size)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;

    if (str_eq(format, "raw")) {
        TRY(check_raw(conf, image_ref, path));
        return file_size(path, ret_size);
    }
    CLEANUP(err_freep) struct err *e = read_info(path, format, &info);

    if (err_is(e, ERR_INTERNAL)) { /* It says what it does not like. */
        CLEANUP(freep) char *text = err_text(e);

        return err_context(unacceptable(image_ref, "Image content does not match disk_format"),
                           "%s", text);
    }
    TRY(TAKE(e));
    return imagecache_examine(image_ref, format, info, &conf->compute.vmdk_allowed_types, ret_size);
}

/* ---- Making a file ---- */

static struct err *make_file(const char *path, int64_t size)
{
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0 || ftruncate(fd, size) < 0) {
        return err_errno(errno, "making %s", path);
    }
    return NULL;
}

static struct err *sync_path(const char *path)
{
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0) {
        return err_errno(errno, "flushing %s", path);
    }
    return NULL;
}

/* Gives a finished file its name, for good. */
static struct err *publish(const char *tmp, const char *path)
{
    CLEANUP(freep) char *dir = str_ndup(path, (size_t)(base_name(path) - path));

    TRY(sync_path(tmp));
    if (rename(tmp, path) < 0) {
        return err_errno(errno, "naming %s", path);
    }
    return sync_path(dir);
}

static struct err *convert(const char *from, const char *format, const char *to,
                           struct cancel *stop)
{
    const char *argv[] = {"qemu-img", "convert", "-t", "writeback", "-f", format,
                          "-O",       "raw",     from, to,          NULL};

    return proc_run_until(argv, CONVERT_MS, stop, NULL);
}

/* What an image is made of in: two temporary files next to the place where it belongs. */
struct job {
    const struct imagecache_env *env;
    const struct rctx *ctx;
    const char *image_ref, *path;
    int64_t size; /* Of the disk over it. */
    char *part, *converted;
};

static struct err *download(const struct job *j, const struct glance_image *image)
{
    CLEANUP(closep) int fd = open(j->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0) {
        return err_errno(errno, "making %s", j->part);
    }
    return glance_image_download(j->env->glance, j->ctx, image, fd, j->env->stop);
}

static struct err *check_size(int64_t disk_size, int64_t image_size)
{
    if (image_size > disk_size) {
        CLEANUP(freep) char *disk = str_printf("%" PRId64, disk_size);
        CLEANUP(freep) char *image = str_printf("%" PRId64, image_size);

        return err_new(ERR_FLAVOR_DISK_TOO_SMALL, "flavor_size", disk, "image_size", image, NULL);
    }
    return NULL;
}

static struct err *make_image(const struct job *j)
{
    const struct conf *conf = j->env->conf;
    CLEANUP(glance_image_fini) struct glance_image image = {0};
    int64_t start_ms = clock_ms(), disk_size;
    const char *format = NULL;

    if (conf->glance.verify_glance_signatures) {
        return unacceptable(j->image_ref, "signatures of images cannot be verified yet");
    }
    TRY(glance_image_get(j->env->glance, j->ctx, j->image_ref, &image));
    TRY(format_for(&image, &format));
    if (!conf->dflt.force_raw_images && !str_eq(format, "raw") && !str_eq(format, "qcow2")) {
        return unacceptable(j->image_ref, "only raw and qcow2 can be used without a conversion");
    }
    if (str_eq(format, "raw")) {
        TRY(check_size(j->size, image.size)); /* Better now than after the download. */
    }
    TRY(download(j, &image));
    TRY(examine(conf, j->image_ref, j->part, format, &disk_size));
    TRY(check_size(j->size, disk_size));
    if (str_eq(format, "raw") || !conf->dflt.force_raw_images) {
        TRY(publish(j->part, j->path));
    } else {
        TRY_CTX(convert(j->part, format, j->converted, j->env->stop), "converting image %s",
                j->image_ref);
        TRY(publish(j->converted, j->path));
    }
    log_info(LOG_LIBVIRT, "fetched image %s (%s, %" PRId64 " MiB) in %" PRId64 " ms", j->image_ref,
             image.disk_format, image.size >> 20, clock_ms() - start_ms);
    return NULL;
}

/* ---- File systems ---- */

/* "%(fs_label)s" and "%(target)s" of a command in virt_mkfs. */
static struct strv expand(const char *command, const char *label, const char *target)
{
    struct strv words = strv_split(command, " \t");

    for (size_t i = 0; i < words.n; i++) {
        struct strbuf b = {0};

        for (const char *p = words.items[i]; *p;) {
            if (str_starts(p, "%(fs_label)s")) {
                strbuf_add(&b, label);
                p += strlen("%(fs_label)s");
            } else if (str_starts(p, "%(target)s")) {
                strbuf_add(&b, target);
                p += strlen("%(target)s");
            } else {
                strbuf_addc(&b, *p++);
            }
        }
        free(words.items[i]);
        words.items[i] = strbuf_take(&b);
    }
    return words;
}

static struct strv mkfs_argv(const char *fs, const char *label, const char *target)
{
    struct strv argv = {0};

    strv_add(&argv, "mkfs");
    strv_add(&argv, "-t");
    strv_add(&argv, fs);
    if (str_starts(fs, "ext") || str_eq(fs, "ntfs")) {
        strv_add(&argv, "-F"); /* Without a question, although it is no device. */
    }
    strv_add(&argv, str_eq(fs, "vfat") || str_eq(fs, "msdos") ? "-n" : "-L");
    strv_add(&argv, label);
    strv_add(&argv, target);
    return argv;
}

static struct err *has_hash(const char *text, const char *hash, bool *ret)
{
    CLEANUP(freep) char *md5 = NULL;

    TRY(hash_text("md5", text, &md5));
    *ret = strlen(hash) == MKFS_LEN && str_starts(md5, hash);
    return NULL;
}

struct err *imagecache_mkfs(const struct conf *conf, const char *hash, const char *label,
                            const char *target, struct strv *ret_argv)
{
    const char *names[] = {
        conf->dflt.default_ephemeral_format, "ext4", "ext3", "ext2", "xfs", "ntfs", "vfat"};
    bool is_it = false;

    for (size_t i = 0; i < conf->dflt.virt_mkfs.n; i++) {
        const char *command = strchr(conf->dflt.virt_mkfs.items[i], '=');

        if (command && command[1]) {
            TRY(has_hash(command + 1, hash, &is_it));
        }
        if (is_it) {
            *ret_argv = expand(command + 1, label, target);
            return NULL;
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!str_is_empty(names[i])) {
            TRY(has_hash(names[i], hash, &is_it));
        }
        if (is_it) {
            *ret_argv = mkfs_argv(names[i], label, target);
            return NULL;
        }
    }
    return err_msg(ERR_MIGRATION_ERROR,
                   "no file system that virt_mkfs and default_ephemeral_format name here is '%s'",
                   hash);
}

/* Nova labels the first ephemeral disk so when it builds a server. */
static struct err *make_ephemeral(const struct job *j, const struct imagecache_name *name)
{
    CLEANUP(strv_fini) struct strv argv = {0};

    TRY(imagecache_mkfs(j->env->conf, name->mkfs_hash, "ephemeral0", j->part, &argv));
    TRY(make_file(j->part, name->size));
    TRY(proc_run_until((const char *const *)argv.items, MKFS_MS, j->env->stop, NULL));
    return publish(j->part, j->path);
}

static struct err *make_swap(const struct job *j, const struct imagecache_name *name)
{
    const char *argv[] = {"mkswap", j->part, NULL};

    TRY(make_file(j->part, name->size));
    TRY(proc_run(argv, MKFS_MS, NULL));
    return publish(j->part, j->path);
}

/* ---- Fetching ---- */

static struct err *check_image_name(const char *image_ref, const char *name)
{
    CLEANUP(freep) char *expected = NULL;

    if (str_is_empty(image_ref)) {
        return err_msg(ERR_MIGRATION_ERROR, "a server without an image has a disk over '%s'", name);
    }
    TRY(hash_text("sha1", image_ref, &expected));
    if (!str_eq(expected, name)) {
        return err_msg(ERR_MIGRATION_ERROR, "the disk lies over '%s', which is not image %s", name,
                       image_ref);
    }
    return NULL;
}

static struct err *make_by_name(const struct job *j)
{
    const char *name = base_name(j->path);
    struct imagecache_name n;

    TRY(imagecache_name_read(name, &n));
    switch (n.kind) {
    case IMAGECACHE_IMAGE:
        TRY(check_image_name(j->image_ref, name));
        return make_image(j);
    case IMAGECACHE_EPHEMERAL:
        return make_ephemeral(j, &n);
    case IMAGECACHE_SWAP:
        return make_swap(j, &n);
    }
    return NULL;
}

static void remove_temporaries(const struct job *j)
{
    unlink(j->part);
    unlink(j->converted);
}

/* Makes a file young, by which it is seen to be in use; false if there is none. */
static bool touch(const char *path)
{
    return utimensat(AT_FDCWD, path, NULL, 0) == 0 || errno != ENOENT;
}

/* Whether a file is there.  Under its lock, so that it is not just being removed; nobody is waited
 * for. */
static bool is_there(const struct imagecache_env *env, const char *path)
{
    CLEANUP(closep) int lock = -1;
    CLEANUP(err_freep)
    struct err *e = lock_by_name(env->conf, base_name(path), /* is_shared= */ true, &lock);

    return !e && lock >= 0 && access(path, R_OK) == 0 && touch(path);
}

/* Makes a file unless it is there, one at a time on all hosts that see it. */
static struct err *make_locked(const struct imagecache_env *env, const struct rctx *ctx,
                               const char *image_ref, const char *path, int64_t size,
                               struct err *(*make)(const struct job *))
{
    CLEANUP(closep) int lock = -1;
    CLEANUP(freep) char *part = str_printf("%s" PART, path);
    CLEANUP(freep) char *converted = str_printf("%s" CONVERTED, path);
    const struct job j = {env, ctx, image_ref, path, size, part, converted};

    TRY(imagecache_lock(env->conf, env->stop, base_name(path), &lock));
    if (touch(path)) {
        return NULL;
    }
    remove_temporaries(&j);
    struct err *e = make(&j);

    remove_temporaries(&j);
    return e;
}

/* What a file is that was there before us.  Without force_raw_images Nova keeps qcow2 as it came;
 * it has examined it, but perhaps in a release that did not know everything. */
static struct err *look_at_cached(const struct conf *conf, const char *image_ref, const char *path,
                                  const char **ret_format, int64_t *ret_size)
{
    bool is_qcow2 = false;

    if (!conf->dflt.force_raw_images) {
        TRY(has_magic(path, QCOW2_MAGIC, &is_qcow2));
    }
    *ret_format = is_qcow2 ? "qcow2" : "raw";
    return is_qcow2 ? examine(conf, image_ref, path, "qcow2", ret_size) : file_size(path, ret_size);
}

struct err *imagecache_fetch(const struct imagecache_env *env, const struct rctx *ctx,
                             const char *image_ref, const char *backing_path, int64_t size,
                             const char **ret_format)
{
    CLEANUP(freep)
    char *dir = str_ndup(backing_path, (size_t)(base_name(backing_path) - backing_path));
    const char *format = NULL;
    int64_t cached_size;

    TRY(fs_mkdir_all(&fs_real, dir, 0755));
    if (!is_there(env, backing_path)) {
        TRY_CTX(make_locked(env, ctx, image_ref, backing_path, size, make_by_name), "making %s",
                backing_path);
    }
    TRY(look_at_cached(env->conf, image_ref, backing_path, &format, &cached_size));
    TRY(check_size(size, cached_size));
    *ret_format = format;
    return NULL;
}

struct err *imagecache_fetch_file(const struct imagecache_env *env, const struct rctx *ctx,
                                  const char *image_ref, const char *path)
{
    return err_context(make_locked(env, ctx, image_ref, path, INT64_MAX, make_image), "making %s",
                       path);
}

/* ---- Leftovers ---- */

static void sweep_one(const struct conf *conf, const char *dir, const char *name)
{
    const char *suffix = str_ends(name, PART) ? PART : str_ends(name, CONVERTED) ? CONVERTED : NULL;

    if (!suffix) {
        return;
    }
    CLEANUP(freep) char *owner = str_ndup(name, strlen(name) - strlen(suffix));
    CLEANUP(freep) char *lock = lock_path(conf, owner);
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    CLEANUP(closep) int fd = -1;

    err_ignore(lock_try(lock, /* is_shared= */ false, &fd),
               "looking whether a download is under way");
    if (fd >= 0 && unlink(path) == 0) {
        log_info(LOG_LIBVIRT, "removed %s, which a crash has left", path);
    }
}

void imagecache_sweep(const struct conf *conf)
{
    CLEANUP(freep)
    char *dir = str_printf("%s/%s", conf->dflt.instances_path, conf->image_cache.subdirectory_name);
    CLEANUP(strv_fini) struct strv names = {0};

    if (!fs_is_dir(&fs_real, dir)) {
        return;
    }
    err_ignore(fs_list(&fs_real, dir, &names), "looking for leftovers of downloads");
    for (size_t i = 0; i < names.n; i++) {
        sweep_one(conf, dir, names.items[i]);
    }
}

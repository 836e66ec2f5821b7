#include "driver/libvirt/imageage.h"

#include "base/fs.h"
#include "base/hash.h"
#include "base/jv.h"
#include "base/log.h"
#include "driver/libvirt/imagecache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHA1_LEN      40
#define MKFS_LEN      7
#define DAY_S         86400
#define REGISTRY      "compute_nodes"
#define REGISTRY_LOCK "storage-registry-lock"
#define QCOW2_MAGIC   "QFI\xfb"
#define MAX_NAME      1023 /* QEMU's limit for the name of a backing file. */

/* ---- Decisions ---- */

/* How old an unused file must be; -1: it is none of ours. */
static int64_t keep_s(const struct conf *conf, const char *name)
{
    struct imagecache_name n = {0};
    size_t n_hex = strspn(name, "0123456789abcdef");
    CLEANUP(err_freep) struct err *e = imagecache_name_read(name, &n);

    if (!e && n.kind == IMAGECACHE_EPHEMERAL && strlen(n.mkfs_hash) != MKFS_LEN) {
        return -1;
    }
    if (!e) {
        return conf->image_cache.remove_unused_original_minimum_age_seconds;
    }
    /* "<sha1>_<size>" and "<sha1>_sm": what old releases made of an image. */
    return n_hex == SHA1_LEN && name[SHA1_LEN] == '_' && name[SHA1_LEN + 1] && !strchr(name, '.')
               ? conf->image_cache.remove_unused_resized_minimum_age_seconds
               : -1;
}

enum imageage_action imageage_decide(const struct conf *conf, const char *name, bool is_used,
                                     int64_t age_s)
{
    int64_t keep = keep_s(conf, name);

    if (keep < 0) {
        return IMAGEAGE_LEAVE;
    }
    if (is_used) {
        return IMAGEAGE_TOUCH;
    }
    return conf->image_cache.remove_unused_base_images && age_s >= keep ? IMAGEAGE_REMOVE
                                                                        : IMAGEAGE_LEAVE;
}

/* ---- Who uses the directory ---- */

static struct err *read_registry(const char *path, struct json_object **ret)
{
    CLEANUP(freep) char *text = NULL;
    size_t len = 0;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, &len);

    if (err_is(e, ERR_NOT_FOUND)) {
        *ret = json_object_new_object();
        return NULL;
    }
    TRY(TAKE(e));
    return jv_parse(text, len, ret);
}

static struct err *note_user(const struct conf *conf, int64_t now_s, struct strv *ret)
{
    CLEANUP(freep) char *path = str_printf("%s/" REGISTRY, conf->dflt.instances_path);
    CLEANUP(jv_putp) struct json_object *users = NULL;
    struct err *unread = read_registry(path, &users);

    /* Nova starts anew when it cannot be read.  So do we, but this pass does not know the others.
     */
    if (unread || !json_object_is_type(users, json_type_object)) {
        jv_putp(&users);
        users = json_object_new_object();
        unread = unread ? unread : err_msg(ERR_PARSE, "%s is no list of hosts", path);
    }
    jv_add(users, conf->dflt.host, json_object_new_double((double)now_s));
    CLEANUP(freep) char *text = jv_text(users);
    struct err *e = fs_write_atomic(&fs_real, path, text, strlen(text), 0644);

    if (e) {
        err_free(unread);
        return e;
    }
    TRY(unread);
    json_object_object_foreach(users, host, when)
    {
        if ((double)now_s - json_object_get_double(when) < DAY_S) {
            strv_add(ret, host);
        }
    }
    return NULL;
}

struct err *imageage_users(const struct conf *conf, struct cancel *stop, int64_t now_s,
                           struct strv *ret_hosts)
{
    CLEANUP(closep) int lock = -1;

    TRY(imagecache_lock(conf, stop, REGISTRY_LOCK, &lock));
    return note_user(conf, now_s, ret_hosts);
}

/* ---- What disks lie over ---- */

static uint64_t big_endian(const unsigned char *p, size_t len)
{
    uint64_t n = 0;

    for (size_t i = 0; i < len; i++) {
        n = n << 8 | p[i];
    }
    return n;
}

/* The name in the header of a qcow2 file: where it is at 8, its length at 16. */
static struct err *backing_of(const char *path, char **ret)
{
    unsigned char header[20];
    char name[MAX_NAME + 1];
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread(fd, header, sizeof(header), 0);

    *ret = NULL;
    if (n < 0) {
        return errno == ENOENT ? NULL : err_errno(errno, "looking at %s", path);
    }
    if (n < (ssize_t)sizeof(header) || memcmp(header, QCOW2_MAGIC, 4) != 0) {
        return NULL;
    }
    size_t len = (size_t)big_endian(header + 16, 4);

    if (len == 0 || len > MAX_NAME) {
        return NULL; /* Nothing, or what QEMU would not open. */
    }
    if (pread(fd, name, len, (off_t)big_endian(header + 8, 8)) != (ssize_t)len) {
        return err_msg(ERR_INTERNAL, "the header of %s cannot be read", path);
    }
    *ret = str_ndup(name, len);
    return NULL;
}

static struct err *add_backing_in(const char *dir, struct strv *ret)
{
    CLEANUP(strv_fini) struct strv files = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, dir, &files);

    if (err_is(e, ERR_NOT_FOUND)) {
        return NULL; /* A server that was deleted meanwhile. */
    }
    TRY(TAKE(e));
    for (size_t i = 0; i < files.n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, files.items[i]);
        CLEANUP(freep) char *backing = NULL;
        struct stat st;

        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            TRY(backing_of(path, &backing));
        }
        if (backing) {
            const char *slash = strrchr(backing, '/');

            strv_add(ret, slash ? slash + 1 : backing);
        }
    }
    return NULL;
}

struct err *imageage_backing_names(const struct conf *conf, struct strv *ret)
{
    CLEANUP(strv_fini) struct strv dirs = {0};
    CLEANUP(strv_fini) struct strv names = {0};

    TRY(fs_list(&fs_real, conf->dflt.instances_path, &dirs));
    for (size_t i = 0; i < dirs.n; i++) {
        CLEANUP(freep)
        char *dir = str_printf("%s/%s", conf->dflt.instances_path, dirs.items[i]);

        if (fs_is_dir(&fs_real, dir)) {
            TRY(add_backing_in(dir, &names));
        }
    }
    *ret = names;
    names = (struct strv){0};
    return NULL;
}

/* ---- A pass ---- */

/* Images that servers have, by the name of their file: also the versions that old releases made. */
static bool is_image_of(const struct strv *hashes, const char *name)
{
    for (size_t i = 0; i < hashes->n; i++) {
        size_t len = strlen(hashes->items[i]);

        if (strncmp(name, hashes->items[i], len) == 0 && (!name[len] || name[len] == '_')) {
            return true;
        }
    }
    return false;
}

static struct err *hash_ids(const struct strv *ids, struct strv *ret)
{
    for (size_t i = 0; i < ids->n; i++) {
        char *sha1 = NULL;

        TRY(hash_text("sha1", ids->items[i], &sha1));
        strv_add_take(ret, sha1);
    }
    return NULL;
}

static bool is_gone(const char *path, int64_t now_s, int64_t *ret_age_s)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
        return true;
    }
    *ret_age_s = now_s - (int64_t)st.st_mtime;
    return false;
}

/* Somebody who uses it touches it under its lock, so its age is asked again. */
static struct err *remove_old(const struct conf *conf, const char *name, const char *path,
                              int64_t now_s, unsigned *n_removed)
{
    CLEANUP(closep) int lock = -1;
    int64_t age_s;

    TRY(imagecache_lock_try(conf, name, &lock));
    if (lock < 0 || is_gone(path, now_s, &age_s) ||
        imageage_decide(conf, name, /* is_used= */ false, age_s) != IMAGEAGE_REMOVE) {
        return NULL;
    }
    if (unlink(path) < 0) {
        return errno == ENOENT ? NULL : err_errno(errno, "removing %s", path);
    }
    log_info(LOG_LIBVIRT, "removed %s, which no server has used for %lld s", path,
             (long long)age_s);
    ++*n_removed;
    return NULL;
}

struct err *imageage_pass(const struct conf *conf, const struct strv *image_ids, int64_t now_s,
                          unsigned *ret_n_removed)
{
    CLEANUP(freep) char *base = imagecache_path(conf, "");
    CLEANUP(strv_fini) struct strv hashes = {0};
    CLEANUP(strv_fini) struct strv backing = {0};
    CLEANUP(strv_fini) struct strv names = {0};
    unsigned n_removed = 0;

    *ret_n_removed = 0;
    if (!fs_is_dir(&fs_real, base)) {
        return NULL;
    }
    TRY(hash_ids(image_ids, &hashes));
    TRY_CTX(imageage_backing_names(conf, &backing), "looking for disks that use the image cache");
    TRY(fs_list(&fs_real, base, &names));
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.items[i];
        CLEANUP(freep) char *path = imagecache_path(conf, name);
        bool is_used = strv_has(&backing, name) || is_image_of(&hashes, name);
        int64_t age_s;

        if (is_gone(path, now_s, &age_s)) {
            continue; /* Gone, or no file. */
        }
        switch (imageage_decide(conf, name, is_used, age_s)) {
        case IMAGEAGE_LEAVE:
            break;
        case IMAGEAGE_TOUCH:
            utimensat(AT_FDCWD, path, NULL, 0);
            break;
        case IMAGEAGE_REMOVE:
            err_ignore(remove_old(conf, name, path, now_s, &n_removed), "ageing the image cache");
            break;
        }
    }
    *ret_n_removed = n_removed;
    return NULL;
}

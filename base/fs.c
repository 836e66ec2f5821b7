#include "base/fs.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_FILE (64 * 1024 * 1024)

const struct fs_root fs_real = {AT_FDCWD};

static void closedirp(DIR **d)
{
    if (*d) {
        closedir(*d);
    }
}

/* The path as the *at() calls want it for this root, without slashes at the end. */
static char *resolve(const struct fs_root *root, const char *path)
{
    bool is_real = root->fd == AT_FDCWD;
    size_t len;
    char *s;

    while (*path == '/') {
        path++;
    }
    if (!*path) {
        return str_dup(is_real ? "/" : ".");
    }
    s = str_printf("%s%s", is_real ? "/" : "", path);
    len = strlen(s);
    while (s[len - 1] == '/') {
        s[--len] = '\0';
    }
    return s;
}

static struct err *open_at(const struct fs_root *root, const char *path, int flags, int *ret)
{
    CLEANUP(freep) char *at = resolve(root, path);
    int fd = openat(root->fd, at, flags | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        return err_errno(errno, "opening '%s'", path);
    }
    *ret = fd;
    return NULL;
}

struct err *fs_root_open(const char *path, struct fs_root *ret)
{
    return open_at(&fs_real, path, O_PATH | O_DIRECTORY, &ret->fd);
}

void fs_root_close(struct fs_root *root)
{
    closep(&root->fd);
    root->fd = -1;
}

struct err *fs_read(const struct fs_root *root, const char *path, char **ret, size_t *ret_len)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};
    CLEANUP(closep) int fd = -1;
    char chunk[4096];
    ssize_t n;

    TRY(open_at(root, path, O_RDONLY, &fd));
    while ((n = read(fd, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_errno(errno, "reading '%s'", path);
        }
        if (b.len + (size_t)n > MAX_FILE) {
            return err_msg(ERR_INTERNAL, "reading '%s': more than %d bytes", path, MAX_FILE);
        }
        strbuf_add_mem(&b, chunk, (size_t)n);
    }
    if (ret_len) {
        *ret_len = b.len;
    }
    *ret = strbuf_take(&b);
    return NULL;
}

struct err *fs_read_line(const struct fs_root *root, const char *path, char **ret)
{
    CLEANUP(freep) char *text = NULL;

    TRY(fs_read(root, path, &text, /* ret_len= */ NULL));
    text[strcspn(text, "\n")] = '\0';
    *ret = str_dup(str_strip(text));
    return NULL;
}

struct err *fs_read_u32(const struct fs_root *root, const char *path, unsigned *ret)
{
    CLEANUP(freep) char *text = NULL;
    bool is_hex;
    unsigned long v;
    char *end;

    TRY(fs_read_line(root, path, &text));
    is_hex = str_starts(text, "0x");
    errno = 0;
    v = strtoul(text, &end, is_hex ? 16 : 10);
    if (*text < '0' || *text > '9' || *end || errno || v > UINT32_MAX) {
        return err_msg(ERR_PARSE, "'%s' holds '%s', not a number", path, text);
    }
    *ret = (unsigned)v;
    return NULL;
}

struct err *fs_read_link(const struct fs_root *root, const char *path, char **ret)
{
    CLEANUP(freep) char *at = resolve(root, path);
    char target[PATH_MAX];
    ssize_t n = readlinkat(root->fd, at, target, sizeof target);

    if (n < 0) {
        return err_errno(errno, "reading link '%s'", path);
    }
    if ((size_t)n == sizeof target) {
        return err_msg(ERR_INTERNAL, "reading link '%s': its target is too long", path);
    }
    *ret = str_ndup(target, (size_t)n);
    return NULL;
}

static struct err *write_all(int fd, const void *data, size_t len, const char *path)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno != EINTR) {
            return err_errno(errno, "writing '%s'", path);
        }
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return NULL;
}

static struct err *write_synced(int dir, const char *name, const void *data, size_t len,
                                mode_t mode)
{
    CLEANUP(closep)
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        return err_errno(errno, "creating '%s'", name);
    }
    TRY(write_all(fd, data, len, name));
    if (fchmod(fd, mode) < 0) {
        return err_errno(errno, "setting the mode of '%s'", name);
    }
    if (fsync(fd) < 0) {
        return err_errno(errno, "syncing '%s'", name);
    }
    return NULL;
}

static struct err *replace_in(int dir, const char *name, const void *data, size_t len, mode_t mode)
{
    char id[33];
    CLEANUP(freep) char *temp = NULL;
    struct err *e;

    uuid_new_hex(id);
    temp = str_printf(".%s.%.8s", name, id);
    e = write_synced(dir, temp, data, len, mode);
    if (!e && renameat(dir, temp, dir, name) < 0) {
        e = err_errno(errno, "renaming '%s'", temp);
    }
    if (e) {
        unlinkat(dir, temp, 0);
        return e;
    }
    if (fsync(dir) < 0) {
        return err_errno(errno, "syncing the directory");
    }
    return NULL;
}

struct err *fs_write_atomic(const struct fs_root *root, const char *path, const void *data,
                            size_t len, mode_t mode)
{
    CLEANUP(freep) char *at = resolve(root, path);
    CLEANUP(closep) int dir = -1;
    char *slash = strrchr(at, '/');
    const char *name = slash ? slash + 1 : at;
    CLEANUP(freep) char *parent = str_ndup(at, (size_t)(name - at));

    TRY(open_at(root, parent, O_RDONLY | O_DIRECTORY, &dir));
    TRY_CTX(replace_in(dir, name, data, len, mode), "replacing '%s'", path);
    return NULL;
}

struct err *fs_write(const struct fs_root *root, const char *path, const char *text)
{
    CLEANUP(closep) int fd = -1;

    TRY(open_at(root, path, O_WRONLY | O_TRUNC, &fd));
    return write_all(fd, text, strlen(text), path);
}

static bool stat_at(const struct fs_root *root, const char *path, struct stat *ret)
{
    CLEANUP(freep) char *at = resolve(root, path);

    return fstatat(root->fd, at, ret, 0) == 0;
}

bool fs_exists(const struct fs_root *root, const char *path)
{
    struct stat st;

    return stat_at(root, path, &st);
}

bool fs_is_dir(const struct fs_root *root, const char *path)
{
    struct stat st;

    return stat_at(root, path, &st) && S_ISDIR(st.st_mode);
}

/* Names in an open directory; consumes the descriptor. */
static struct err *list_fd(int fd, const char *path, struct strv *ret)
{
    CLEANUP(closedirp) DIR *dir = fdopendir(fd);
    CLEANUP(strv_fini) struct strv names = {0};
    const struct dirent *entry;

    if (!dir) {
        struct err *e = err_errno(errno, "listing '%s'", path);

        close(fd);
        return e;
    }
    while ((void)(errno = 0), (entry = readdir(dir))) {
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..")) {
            strv_add(&names, entry->d_name);
        }
    }
    if (errno) {
        return err_errno(errno, "listing '%s'", path);
    }
    strv_sort(&names);
    *ret = names;
    names = (struct strv){0};
    return NULL;
}

struct err *fs_list(const struct fs_root *root, const char *path, struct strv *ret)
{
    int fd = -1;

    TRY(open_at(root, path, O_RDONLY | O_DIRECTORY, &fd));
    return list_fd(fd, path, ret);
}

struct err *fs_mkdir_all(const struct fs_root *root, const char *path, mode_t mode)
{
    CLEANUP(freep) char *at = resolve(root, path);

    for (char *p = at + 1;; p++) {
        char c = *p;

        if (c && c != '/') {
            continue;
        }
        *p = '\0';
        if (mkdirat(root->fd, at, mode) < 0 && errno != EEXIST) {
            return err_errno(errno, "creating directory '%s'", at);
        }
        *p = c;
        if (!c) {
            break;
        }
    }
    if (!fs_is_dir(root, path)) {
        return err_msg(ERR_INTERNAL, "creating directory '%s': there is something else", path);
    }
    return NULL;
}

static struct err *remove_at(int dir, const char *name);

static struct err *remove_dir(int dir, const char *name)
{
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(closep)
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int to_list = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);

    if (to_list < 0) {
        return errno == ENOENT ? NULL : err_errno(errno, "opening directory '%s'", name);
    }
    TRY(list_fd(to_list, name, &names));
    for (size_t i = 0; i < names.n; i++) {
        TRY_CTX(remove_at(fd, names.items[i]), "emptying '%s'", name);
    }
    if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        return err_errno(errno, "removing directory '%s'", name);
    }
    return NULL;
}

static struct err *remove_at(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) {
        return NULL;
    }
    if (errno == EISDIR || errno == EPERM) { /* What unlink says of a directory. */
        return remove_dir(dir, name);
    }
    return err_errno(errno, "removing '%s'", name);
}

struct err *fs_remove_all(const struct fs_root *root, const char *path)
{
    CLEANUP(freep) char *at = resolve(root, path);

    return remove_at(root->fd, at);
}

struct err *fs_space(const struct fs_root *root, const char *path, uint64_t *ret_total,
                     uint64_t *ret_free, uint64_t *ret_avail)
{
    CLEANUP(closep) int fd = -1;
    struct statvfs st;

    TRY(open_at(root, path, O_PATH, &fd));
    if (fstatvfs(fd, &st) < 0) {
        return err_errno(errno, "measuring the file system of '%s'", path);
    }
    *ret_total = (uint64_t)st.f_blocks * st.f_frsize;
    *ret_free = (uint64_t)st.f_bfree * st.f_frsize;
    *ret_avail = (uint64_t)st.f_bavail * st.f_frsize;
    return NULL;
}

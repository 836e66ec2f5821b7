#include "vif/vhostwait.h"

#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { LISTEN_MS = 2 }; /* Between looks at a socket that is there and not listened on yet. */

struct vhostwait {
    struct strv paths;
    bool *has_come;
    int inotify;
};

struct err *vhostwait_new(const struct strv *paths, struct vhostwait **ret)
{
    CLEANUP(vhostwait_freep) struct vhostwait *w = NEW(struct vhostwait);

    w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->inotify < 0) {
        return err_errno(errno, "inotify");
    }
    w->has_come = NEW_ARRAY(bool, paths->n);
    for (size_t i = 0; i < paths->n; i++) {
        CLEANUP(freep) char *path = str_dup(paths->items[i]);
        const char *dir = dirname(path);

        strv_add(&w->paths, paths->items[i]);
        if (inotify_add_watch(w->inotify, dir, IN_CREATE | IN_MOVED_TO) < 0) {
            return err_errno(errno, "watching %s", dir);
        }
    }
    *ret = TAKE(w);
    return NULL;
}

struct vhostwait *vhostwait_free(struct vhostwait *w)
{
    if (w) {
        closep(&w->inotify);
        strv_fini(&w->paths);
        free(w->has_come);
        free(w);
    }
    return NULL;
}

/* A line of /proc/net/unix: "Num: RefCount Protocol Flags Type St Inode Path". */
static bool is_listened_on(const char *table, const char *path)
{
    size_t len = strlen(path);

    for (const char *at = table; (at = strstr(at, path)); at += len) {
        const char *line = at;
        unsigned flags;

        while (line > table && line[-1] != '\n') {
            line--;
        }
        if (at[-1] == ' ' && (at[len] == '\n' || !at[len]) &&
            sscanf(line, "%*s %*s %*s %x", &flags) == 1 && (flags & 0x10000)) { /* __SO_ACCEPTCON */
            return true;
        }
    }
    return false;
}

/* The first that is listened on and was not told; -1 and whether there is one that is not listened
 * on yet. */
static int find_next(struct vhostwait *w, bool *ret_is_there)
{
    CLEANUP(freep) char *table = NULL;
    size_t size;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, "/proc/net/unix", &table, &size);

    *ret_is_there = false;
    for (size_t i = 0; !e && i < w->paths.n; i++) {
        if (!w->has_come[i] && is_listened_on(table, w->paths.items[i])) {
            w->has_come[i] = true;
            return (int)i;
        }
        *ret_is_there |= !w->has_come[i] && strstr(table, w->paths.items[i]);
    }
    return -1;
}

int vhostwait_next(struct vhostwait *w, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd fd = {.fd = w->inotify, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_ms();
        bool is_there;
        char events[4096];
        int found;

        while (read(w->inotify, events, sizeof(events)) > 0) {
        }
        found = find_next(w, &is_there);
        if (found >= 0 || left_ms <= 0) {
            return found;
        }
        poll(&fd, 1, is_there ? LISTEN_MS : (int)MIN(left_ms, (int64_t)INT32_MAX));
    }
}

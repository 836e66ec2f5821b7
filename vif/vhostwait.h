#pragma once

/* Waits until QEMU listens on its vhost-user sockets.
 *
 * driver/compute/live_dest.c waits for the QEMU that libvirt starts for a server that comes, to
 * tell the switch at once (vif_connect).  Asks nobody: inotify for the socket's directory, and
 * /proc/net/unix, since a socket is there before its owner listens, and connecting would take the
 * only connection that QEMU accepts.
 *
 * Thread-safety: none; each wait belongs to one thread at a time. */

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct vhostwait;

/* What appears from now on is noticed. */
struct err *vhostwait_new(const struct strv *paths, struct vhostwait **ret) MUST_CHECK;
struct vhostwait *vhostwait_free(struct vhostwait *);
static inline void vhostwait_freep(struct vhostwait **w)
{
    *w = vhostwait_free(*w);
}
/* The index of a path that somebody listens on, each of them once; -1 when there is none until
 * 'deadline_ms' (clock_ms). */
int vhostwait_next(struct vhostwait *, int64_t deadline_ms);

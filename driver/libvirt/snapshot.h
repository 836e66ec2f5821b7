#pragma once

/* Makes a file of a server's root disk, for an upload.
 *
 * Live: libvirt mirrors the disk to a file beside it, the guest goes on; when both are the same the
 * mirror is cut off, which is the moment of the snapshot.  Cold, for guests that are off or where
 * [workarounds]disable_libvirt_livesnapshot asks for it: the guest is suspended to disk (managed
 * save) meanwhile and goes on afterwards, paused if it was.  Either way what was begun is undone
 * when a step fails.
 *
 * The definition of the guest stays where it is: libvirt is told that the copy need not outlive the
 * guest.  (Nova takes the definition away for the time, so that a guest whose service is killed in
 * between is gone when it powers off.)
 *
 * Source: nova/virt/libvirt/driver.py (snapshot, _live_snapshot, _suspend_guest_for_snapshot,
 * _resume_guest_after_snapshot), utils.py (find_disk).
 *
 * Thread-safety: no shared state; work on one server is its caller's to order.  Blocks for as long
 * as copying takes. */

#include "base/conf.h"
#include "base/err.h"
#include "base/sync.h"
#include "driver/libvirt/lv.h"

struct snapshot_env {
    const struct conf *conf;
    struct lv_conn *lv;
    struct cancel *stop; /* May be NULL. */
};

/* What there is to copy, and how it will be done. */
struct snapshot_source {
    struct lv_domain *domain;
    enum lv_state state;
    char *path, *path_format, *target; /* The disk, what it is, what the guest calls it. */
    char *format;                      /* Of the file that will be made. */
    bool is_live;
};

/* ERR_INSTANCE_NOT_RUNNING: there is no such guest; ERR_NOT_IMPLEMENTED: its root disk is no file.
 */
struct err *snapshot_look(const struct snapshot_env *, const char *uuid,
                          struct snapshot_source *ret) MUST_CHECK;
void snapshot_source_fini(struct snapshot_source *);

/* Whether the guest's agent freezes its file systems at the moment of a live snapshot. */
enum snapshot_freeze {
    SNAPSHOT_FREEZE_NONE, /* It has no agent. */
    SNAPSHOT_FREEZE_TRY,  /* Without it the snapshot is as after a power cut. */
    SNAPSHOT_FREEZE_MUST, /* No snapshot without it (os_require_quiesce). */
};

struct snapshot_file {
    char *dir; /* Of its own, in snapshots_directory. */
    char *path;
};

/* ERR_CANCELLED, ERR_NO_SPACE, ERR_INSTANCE_NOT_FOUND: the guest went away meanwhile. */
struct err *snapshot_take(const struct snapshot_env *, const struct snapshot_source *,
                          enum snapshot_freeze, struct snapshot_file *ret) MUST_CHECK;
/* Removes the file. */
void snapshot_file_fini(struct snapshot_file *);

/* ---- After a restart ---- */

/* Ends a copy that a snapshot has left in a guest, and thaws it; a guest that was suspended for one
 * goes on if it should be LV_RUNNING or LV_PAUSED. */
struct err *snapshot_settle(const struct snapshot_env *, const char *uuid, enum lv_state wanted)
    MUST_CHECK;
/* Removes what this host has left in snapshots_directory; that of other hosts stays. */
void snapshot_sweep(const struct conf *);

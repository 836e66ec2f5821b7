#pragma once

/* Runs one live migration on its source: libvirt's job, the watchdog, abort and force-complete.
 *
 * migrate_run blocks its (lane) thread until libvirt's call has returned, so the end of a move is
 * known at once; a sample about twice a second feeds the watchdog and progress.  Nothing here talks
 * to Nova: hooks tell the caller what happens.
 *
 * Source: nova/virt/libvirt/driver.py _live_migration, _live_migration_monitor; guest.py migrate.
 *
 * Thread-safety: migrate_run by one thread; abort and force_complete from any other. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/migwatch.h"

struct migrate_job;

struct migrate_hooks {
    /* Called on the migration's thread, before libvirt's call. */
    void (*on_start)(void *arg);
    /* Called once, on lv-events, the moment the guest stops on this side to go on over there, or
     * post-copy starts: only submits work.  libvirt says so before the last state is sent, so the
     * move may still fail; migrate_run's result tells.  After a forced pause, which looks the same
     * to libvirt, it is called when the guest has left; if events are lost, at the end of
     * migrate_run. */
    void (*on_switchover)(bool is_postcopy, void *arg);
    /* Called on the migration's thread, after each sample. */
    void (*on_sample)(const struct lv_job *, void *arg);
    /* Post-copy has begun: Migration.status is "running (post-copy)" from now on. */
    void (*on_postcopy)(void *arg);
    void *arg;
};

struct migrate_spec {
    const char *instance_uuid;
    int64_t migration_id;            /* For messages. */
    const char *dest;                /* Host name as conductor gave it. */
    const char *target_connect_addr; /* NULL: dest. */
    const char *dest_xml;
    const struct strv *copy_disks; /* Target names; empty: none. */
    bool is_block_migration;
    bool is_paused;           /* vm_state paused: no post-copy. */
    unsigned memory_mib;      /* flavor.memory_mb */
    uint64_t copy_disk_bytes; /* Sum over copy_disks of max(2 GiB, size); scales times. */
};

enum migrate_end { MIGRATE_COMPLETED, MIGRATE_FAILED, MIGRATE_CANCELLED };

struct migrate_result {
    enum migrate_end end;
    struct err *err;     /* Why, for FAILED and CANCELLED; owned.  FAILED by
                          * ERR_HYPERVISOR_UNAVAILABLE: libvirtd went away during the move and did
                          * not come back to say how it ended. */
    struct lv_job stats; /* Of the job as libvirt completed it; zero if it never started. */
    int64_t duration_ms;
};

/* The destination's URI for libvirt: live_migration_uri, or qemu+<scheme>://<dest>/system.
 * ERR_INVALID_HOSTNAME if dest has anything but letters, digits, '_', '.', '-', ':'. */
struct err *migrate_uri(const struct conf *, const char *dest, char **ret) MUST_CHECK;

/* 'uri' is this host's libvirt: the migration opens a connection of its own. */
struct err *migrate_new(const char *uri, const struct conf *, const struct migrate_spec *,
                        const struct migrate_hooks *, struct migrate_job **ret) MUST_CHECK;
struct migrate_job *migrate_free(struct migrate_job *);
/* Blocks until it has ended.  The error is only for what kept it from starting. */
struct err *migrate_run(struct migrate_job *, struct migrate_result *ret) MUST_CHECK;
void migrate_result_fini(struct migrate_result *);
/* Ends the job, also before migrate_run was called: that returns CANCELLED.  Does not wait for the
 * end.  ERR_INVALID_MIGRATION_STATE in post-copy or when it has ended. */
struct err *migrate_abort(struct migrate_job *) MUST_CHECK;
/* Pauses the guest, or switches to post-copy where that is permitted, as soon as libvirt's job
 * runs. A guest that was paused and has not moved runs again.  ERR_NO_ACTIVE_MIGRATION unless
 * migrate_run is at work. */
struct err *migrate_force_complete(struct migrate_job *) MUST_CHECK;
/* For events of this domain (called by whoever subscribed, on lv-events). */
void migrate_event(struct migrate_job *, const struct lv_event *);

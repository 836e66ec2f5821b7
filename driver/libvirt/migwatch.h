#pragma once

/* Live-migration watchdog.
 *
 * Decides what to do about one running migration: which maximum downtime is allowed now, and
 * whether to abort, pause the guest or switch to post-copy.  It does no I/O and reads no clock: the
 * caller samples libvirt about twice a second, passes in the sample and the time, and carries out
 * the answer.  driver/libvirt/migrate.c is the one caller.
 *
 * Source: nova/virt/libvirt/migration.py (downtime_steps, should_trigger_timeout_action),
 * driver.py _live_migration_monitor; contract live-migration.md 4.5.
 *
 * Thread-safety: none of its own; each watch belongs to one migration thread. */

#include "driver/libvirt/lv.h"

#include <stdbool.h>
#include <stdint.h>

enum migwatch_action {
    MIGWATCH_NONE,
    MIGWATCH_ABORT,    /* Call lv_abort_job(). */
    MIGWATCH_POSTCOPY, /* Call lv_migrate_start_postcopy(), then set is_postcopy if it worked. */
    MIGWATCH_PAUSE,    /* Suspend the guest so that copying can finish. */
    MIGWATCH_DOWNTIME, /* Call lv_migrate_set_max_downtime() with migwatch.downtime_ms. */
};

struct migwatch_conf {
    unsigned downtime_ms, downtime_steps, downtime_delay_s; /* live_migration_downtime* */
    unsigned completion_timeout_s;                          /* Per GiB; 0: never. */
    bool timeout_forces_completion; /* live_migration_timeout_action = force_complete */
    bool may_postcopy;
    uint64_t data_bytes; /* max(2 GiB, RAM) plus what disks are copied */
};

struct migwatch {
    struct migwatch_conf conf;
    int64_t start_ms;
    unsigned next_step;   /* Of the downtime ladder. */
    unsigned downtime_ms; /* What is allowed now; after migwatch_init what to begin with. */
    bool has_acted;       /* The timeout's action was given. */
    bool is_postcopy;
};

void migwatch_init(struct migwatch *, const struct migwatch_conf *, int64_t now_ms);
/* Returns what to do now, given 'job' sampled at 'now_ms'; nothing unless libvirt's job runs.  To
 * be called again until it returns MIGWATCH_NONE, as more than one thing may be due. */
enum migwatch_action migwatch_step(struct migwatch *, const struct lv_job *job, int64_t now_ms);
/* The operator forces completion: what that means under this configuration. */
enum migwatch_action migwatch_force(const struct migwatch *);

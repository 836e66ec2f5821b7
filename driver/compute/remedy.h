#pragma once

/* What is done at the start about a server that was left in the middle of something.
 *
 * Pure.  driver/compute/recovery.c is the one caller, and carries it out.
 *
 * Nova leaves some servers in their task for ever (a guest that was pausing and is paused, what was
 * suspending, resuming, rescuing, soft-deleting, a reboot that had not begun); here every task that
 * a verb of ours begins has an end.
 *
 * Source: nova/compute/manager.py _init_instance, _retry_reboot; nova/compute/utils.py
 * get_reboot_type; contract startup-and-periodics.md 5.3.
 *
 * Thread-safety: pure. */

#include "rpc/amqp/compute_api.h"

enum remedy_kind {
    REMEDY_NONE,     /* There is no task. */
    REMEDY_SKIP,     /* Nothing is done with the server, not even its ports. */
    REMEDY_SETTLE,   /* The task is over; what has become of the guest is written. */
    REMEDY_SNAPSHOT, /* What it has left in the guest is ended; then as REMEDY_SETTLE. */
    REMEDY_ERROR,    /* What was being made is unusable. */
    REMEDY_DELETE,   /* Goes on. */
    REMEDY_CALL,     /* The verb is called again. */
    REMEDY_MIGRATE,  /* Look where the guest is. */
    REMEDY_LEAVE,    /* Needs a verb that is not built: say so. */
};

struct remedy {
    enum remedy_kind kind;
    const char *vm_state;       /* Of SETTLE, SNAPSHOT, ERROR; NULL: as it is. */
    enum compute_method method; /* Of CALL. */
    bool is_soft;               /* Of reboot_instance. */
};

struct remedy_view {
    const char *vm_state, *task_state; /* May be NULL. */
    int64_t power;                     /* Of the guest, now. */
    bool has_save;                     /* The guest is on disk. */
    bool has_rescue;                   /* The XML from before a rescue is there. */
};

struct remedy remedy_for(const struct remedy_view *);

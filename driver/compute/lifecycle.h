#pragma once

/* What guests do by themselves: libvirt's lifecycle events and the power states in Nova's records.
 *
 * Source: nova/compute/manager.py handle_lifecycle_event, _sync_power_states,
 * _sync_instance_power_state; nova/compute/power_state.py; contract startup-and-periodics.md 5.15.
 *
 * Thread-safety: from any thread; lifecycle_event is called on lv-events and only submits work. */

#include "base/err.h"
#include "driver/compute/node.h"

/* Nova's power states. */
#define POWER_NOSTATE   0
#define POWER_RUNNING   1
#define POWER_PAUSED    3
#define POWER_SHUTDOWN  4
#define POWER_CRASHED   6
#define POWER_SUSPENDED 7

int64_t lifecycle_power_state_of(enum lv_state);
/* "running"; NULL for what is none. */
const char *lifecycle_power_name(int64_t power_state);
/* The power state of a server's domain; ERR_INSTANCE_NOT_FOUND. */
struct err *lifecycle_power_state(struct node *, const char *instance_uuid, int64_t *ret)
    MUST_CHECK;

/* What is done about a server whose vm_state and power state do not fit.  Pure. */
enum power_fix {
    POWER_FIX_NONE,
    POWER_FIX_STOP, /* The server is stopped, as its API would. */
    POWER_FIX_TELL, /* Not ours to judge: it is logged. */
};
enum power_fix lifecycle_fix(const char *vm_state, int64_t power, const char **ret_why);

/* An event of any domain (lv_event_fn; arg is the node). */
void lifecycle_event(const struct lv_event *, void *node);
/* sync_power_states: every server of this host. */
struct err *lifecycle_sync_all(struct node *, const struct rctx *) MUST_CHECK;

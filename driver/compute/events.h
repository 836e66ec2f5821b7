#pragma once

/* External events (external_instance_event) and who waits for them.
 *
 * A waiter registers before it acts, then waits: in this order, or the event is lost.  Events that
 * come for nobody are kept for a short while, so that one which comes between the request and the
 * registration is not lost either (P10).
 *
 * Source: nova/compute/manager.py InstanceEvents, wait_for_instance_event; contract
 * startup-and-periodics.md 5.14.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "base/sync.h"

#include <stdbool.h>

struct events;
struct event_wait;

struct events *events_new(void) MUST_CHECK;
struct events *events_free(struct events *);

/* Registers for one event name with each of these tags (port ids); duplicates are one. */
struct event_wait *events_expect(struct events *, const char *instance_uuid, const char *name,
                                 const struct strv *tags) MUST_CHECK;
/* Waits until all have come.  ERR_TIMEOUT names the tags that are missing, ERR_VIF_PLUG those that
 * came with status "failed", ERR_CANCELLED. */
struct err *events_wait(struct event_wait *, int64_t deadline_ms, struct cancel *) MUST_CHECK;
struct event_wait *event_wait_free(struct event_wait *);
static inline void event_wait_freep(struct event_wait **p)
{
    *p = event_wait_free(*p);
}

/* An event came; false if nobody waited for it. */
bool events_deliver(struct events *, const char *instance_uuid, const char *name, const char *tag,
                    const char *status);
/* The service stops: every waiter gets ERR_CANCELLED. */
void events_cancel_all(struct events *);

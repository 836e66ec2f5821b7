#pragma once

/* Who waits for an event of a domain.  Register, act, wait: in this order, or the event is lost.
 *
 * The subscriber of libvirt's events (driver/compute/lifecycle.c) delivers each here.
 *
 * Thread-safety: from any thread; lvwatch_deliver is called on lv-events and never blocks. */

#include "base/err.h"
#include "base/sync.h"
#include "driver/libvirt/lv.h"

struct lvwatch;
struct lvwait;

struct lvwatch *lvwatch_new(void) MUST_CHECK;
struct lvwatch *lvwatch_free(struct lvwatch *);

/* 'types' is a mask of LVWATCH_ON; 'alias' NULL: any device. */
#define LVWATCH_ON(type) (1u << LV_EVENT_##type)
struct lvwait *lvwatch_expect(struct lvwatch *, const char *uuid, unsigned types, const char *alias)
    MUST_CHECK;
/* Waits for the first of them since the last wait returned one.  ERR_TIMEOUT, after which one may
 * wait again; ERR_CANCELLED.  LV_EVENT_DISCONNECTED ends every wait once with
 * ERR_HYPERVISOR_UNAVAILABLE: what happened meanwhile is lost, look at the state. */
struct err *lvwait_wait(struct lvwait *, int64_t deadline_ms, struct cancel *, struct lv_event *ret)
    MUST_CHECK;
struct lvwait *lvwait_free(struct lvwait *);
static inline void lvwait_freep(struct lvwait **p)
{
    *p = lvwait_free(*p);
}

void lvwatch_deliver(struct lvwatch *, const struct lv_event *);

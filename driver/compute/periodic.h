#pragma once

/* Periodic work: one table (driver/compute/periodic.def), timers on the reactor, tasks on a lane.
 *
 * A job never overlaps itself; jobs are spread over their first interval, which begins after a
 * random part of periodic_fuzzy_delay, so that many hosts do not begin at once.
 *
 * Source: nova/compute/manager.py periodic_task decorators; contract startup-and-periodics.md 5.13.
 *
 * Thread-safety: periodic_start and periodic_stop on the reactor's thread. */

#include "base/err.h"
#include "driver/compute/node.h"

struct periodic;

enum periodic_first { PERIODIC_AT_ONCE, PERIODIC_SOON, PERIODIC_SPREAD };
/* Milliseconds until the first run of job i of n.  Pure. */
int64_t periodic_first_ms(enum periodic_first, int64_t every_ms, int64_t fuzz_ms, size_t i,
                          size_t n, uint64_t random) MUST_CHECK;

struct err *periodic_start(struct node *, struct periodic **ret) MUST_CHECK;
struct periodic *periodic_stop(struct periodic *);

#pragma once

/* Periodic work: one table (driver/compute/periodic.def), timers on the reactor, tasks on a lane.
 *
 * A job never overlaps itself; jobs are spread over their first interval.
 *
 * Source: nova/compute/manager.py periodic_task decorators; contract startup-and-periodics.md 5.13.
 *
 * Thread-safety: periodic_start and periodic_stop on the reactor's thread. */

#include "base/err.h"
#include "driver/compute/node.h"

struct periodic;

struct err *periodic_start(struct node *, struct periodic **ret) MUST_CHECK;
struct periodic *periodic_stop(struct periodic *);

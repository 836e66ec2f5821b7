#pragma once

/* Tasks: straight-line blocking work on lanes of threads, ordered by strands.
 *
 * A lane is a set of threads that grows on demand up to its limit; idle threads end after a while,
 * so an idle daemon has few.  Tasks submitted with the same key run one at a time in the order in
 * which they came, across lanes; the waiting ones hold no thread.  A NULL key means unordered.
 *
 * A task may block, but never waits for another task.
 *
 * Source of the order: Nova's per-instance locks (nova/compute/manager.py, utils.synchronized).
 *
 * Thread-safety: everything may be called from any thread. */

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lane {
#define LANE(id, name, max_threads) LANE_##id,
#include "base/lanes.def"
#undef LANE
    N_LANES
};

typedef void (*task_fn)(void *arg);

struct task_pool;

struct task_pool *task_pool_new(void) MUST_CHECK;
/* Waits for the tasks that run and were submitted; those submitted from now on are dropped
 * (their 'drop' is called).  Then ends the threads. */
struct task_pool *task_pool_free(struct task_pool *);

/* Runs fn(arg) on a lane.  'drop', which may be NULL, gets arg instead if it can never run: the
 * pool is being freed (then it is called at once, on this thread), or there is no memory for a
 * thread. 'what' names the task in the log and is borrowed until it has run. */
void task_submit(struct task_pool *, enum lane, const char *key, const char *what, task_fn fn,
                 task_fn drop, void *arg);
/* Changes how many threads a lane may have (max_concurrent_live_migrations); at least 1. */
void task_set_limit(struct task_pool *, enum lane, unsigned max_threads);

struct task_stats {
    unsigned n_threads;
    unsigned n_running;
    unsigned n_queued;  /* Ready to run, waiting for a thread. */
    unsigned n_waiting; /* Behind another task of their strand. */
    uint64_t n_done;
};
void task_stats(struct task_pool *, enum lane, struct task_stats *ret);
const char *lane_name(enum lane);

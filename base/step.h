#pragma once

/* Long operations as a table of steps, each with what undoes it.
 *
 * step_run does them in order; between two it looks whether it was cancelled.  When one fails, what
 * was begun is undone backwards, the failed step included: an undo copes with a half-done step and
 * does not fail, it logs.  Before and after each, a test can plant a fault (base/fault.h).
 *
 * Thread-safety: none of its own; a run belongs to one thread. */

#include "base/err.h"
#include "base/fault.h"
#include "base/sync.h"

typedef struct err *(*step_do_fn)(void *arg);
typedef void (*step_undo_fn)(void *arg);

struct step {
    enum fault point; /* Its name, too: "build.disks". */
    step_do_fn run;
    step_undo_fn undo; /* NULL: nothing to undo. */
};

struct step_hooks {
    /* Before each step, and with NULL when all are done or undone.  May be NULL.  An error is that
     * of the step. */
    struct err *(*on_step)(const char *name, void *arg);
    struct cancel *cancel; /* May be NULL. */
};

/* Returns the error of the step that failed, in the context of its name; ERR_CANCELLED. */
struct err *step_run(const struct step *, size_t n, const struct step_hooks *, void *arg)
    MUST_CHECK;

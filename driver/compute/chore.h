#pragma once

/* What periodic jobs find to do with single servers.
 *
 * A chore is a task on its server's strand, so it meets no verb half-way; by the time it runs, the
 * server may have changed, and it looks again.  While one waits or runs, the same is not begun a
 * second time, however often the job comes by.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"

struct chores;

struct chores *chores_new(void) MUST_CHECK;
struct chores *chores_free(struct chores *);

typedef struct err *(*chore_fn)(struct node *, const struct rctx *, const char *instance_uuid);
/* Runs fn in a context of its own; its error is logged.  'what' is a literal: it names the chore,
 * in the log too. */
void chore_submit(struct node *, const char *what, const char *instance_uuid, chore_fn fn);

/* A number that a job wants to know again the next time; 0 at first.  'what' is a literal. */
void chore_remember(struct chores *, const char *what, int64_t value);
int64_t chore_recall(struct chores *, const char *what);

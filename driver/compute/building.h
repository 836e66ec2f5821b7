#pragma once

/* Journal of servers that are being built: what a crash in the middle left, the next start undoes.
 *
 * A small file for each in <journal_path>/building, written (and synced) before anything is made
 * and removed when the server is active or everything is undone.  Nova leaves such servers behind:
 * in BUILD for ever if it died before the claim was recorded, else in ERROR with ports and files.
 *
 * Thread-safety: from any thread; one server's calls are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"

struct err *building_begin(struct node *, const char *instance_uuid) MUST_CHECK;
void building_end(struct node *, const char *instance_uuid);
/* At the start, before requests are handled: undoes every build that has not ended, and sets its
 * server to ERROR with the reason. */
void building_settle(struct node *, const struct rctx *);
/* A build that a restart cut off: gives back its ports and its room, and sets the server to ERROR
 * with the reason. */
struct err *building_fail(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

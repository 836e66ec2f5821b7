#pragma once

/* Journal of live migrations that come in: what we made for a server that is not ours yet.
 *
 * A small file for each server in <journal_path>/incoming, written (and synced) before anything is
 * made and removed when the server is ours or everything is undone.  After a crash the next start,
 * and each audit, settles what is left by asking conductor where the server is; so nothing depends
 * on a verb that never came (P11).
 *
 * Thread-safety: from any thread; one server's calls are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* 'owns_dir': the directory is made here and not shared with the source. */
struct err *incoming_begin(struct node *, const char *instance_uuid, const char *source,
                           bool owns_dir) MUST_CHECK;
void incoming_end(struct node *, const char *instance_uuid);
/* What a file says; ERR_NOT_FOUND. */
struct err *incoming_read(struct node *, const char *instance_uuid, bool *ret_owns_dir) MUST_CHECK;
/* Settles every file whose move has ended.  At the start, and with each audit. */
void incoming_settle(struct node *, const struct rctx *);

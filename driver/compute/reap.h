#pragma once

/* What deleted servers have left on this host: soft-deleted ones whose time has come, guests that
 * run although their server is deleted, files, moves that ended in an error, console tokens.
 *
 * Each job asks conductor for candidates; who is reaped is decided here, and again when the
 * server's turn has come (chore.h).
 *
 * Source: nova/compute/manager.py _reclaim_queued_deletes, _cleanup_running_deleted_instances,
 * _run_pending_deletes, _cleanup_incomplete_migrations, _cleanup_expired_console_auth_tokens.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Whether a server was deleted more than 'age_s' seconds ago; also if nobody knows when.  Pure,
 * like the three below. */
bool reap_is_old_enough(const struct instance *, int64_t age_s, int64_t now_s);
/* A soft-deleted server of 'host' that is kept no longer. */
bool reap_is_reclaimable(const struct instance *, const char *host, int64_t interval_s,
                         int64_t now_s);
/* A deleted server: a guest of it has no right to be here. */
bool reap_is_zombie(const struct instance *, int64_t timeout_s, int64_t now_s);
/* A deleted server of 'host' whose files may be here still.  The record counts the attempts. */
bool reap_has_files(const struct instance *, const char *host, int64_t max_attempts);
int64_t reap_attempts(const struct instance *);

/* reclaim_instance_interval. */
struct err *reap_queued_deletes(struct node *, const struct rctx *) MUST_CHECK;
/* running_deleted_instance_action; also what was deleted while this host was down. */
struct err *reap_running_deleted(struct node *, const struct rctx *) MUST_CHECK;
/* The files of deleted servers of this host, maximum_instance_delete_attempts times.  A guest that
 * is here keeps its files until it is reaped. */
struct err *reap_files(struct node *, const struct rctx *) MUST_CHECK;
/* Files here of servers that were deleted elsewhere, after a move to or from here that failed. */
struct err *reap_failed_moves(struct node *, const struct rctx *) MUST_CHECK;
/* Console tokens that have expired, of the whole cell. */
struct err *reap_console_tokens(struct node *, const struct rctx *) MUST_CHECK;

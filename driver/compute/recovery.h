#pragma once

/* What a (re)start finds: servers in the middle of something, moves that nobody finishes.
 *
 * What a verb was doing is settled by what has become of the guest, or the verb is called again
 * (remedy.h), as a task on the server's strand: the start does not wait for guests.  Never sends
 * RPC to itself, and touches no server whose evacuation is under way (P14).
 *
 * Source: nova/compute/manager.py init_host, _init_instance, _reset_live_migration; contract
 * startup-and-periodics.md 5.3.
 *
 * Thread-safety: once, before requests are handled. */

#include "driver/compute/node.h"

/* Goes through every server of this host.  Failures of single servers are logged. */
struct err *recovery_run(struct node *, const struct rctx *) MUST_CHECK;

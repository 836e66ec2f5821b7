#pragma once

/* Rescue of servers.
 *
 * Source: nova/compute/manager.py unrescue_instance.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Ends a rescue of a server whose task state says so. */
struct err *rescue_undo(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

#pragma once

/* The late look at a server's (anti-)affinity group: the scheduler decided by what it knew, and
 * others decided at the same time.
 *
 * Source: nova/compute/manager.py _validate_instance_group_policy.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* ERR_GROUP_AFFINITY_VIOLATION if the server must not be here; nothing to say without a group. */
struct err *group_check(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

#pragma once

/* Power states of servers.
 *
 * Source: nova/compute/manager.py reboot_instance.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* A hard reboot of a server whose task state says so. */
struct err *power_hard_reboot(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

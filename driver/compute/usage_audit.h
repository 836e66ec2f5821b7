#pragma once

/* The usage audit: tells the bus, once for each period, which servers of this host existed in it.
 *
 * Off unless instance_usage_audit is set.  Conductor's task log says which periods are done, so
 * that a restart does not tell of one twice.
 *
 * Source: nova/compute/manager.py _instance_usage_audit, nova/utils.py
 * last_completed_audit_period, nova/compute/utils.py notify_usage_exists.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"

/* The last period that is over, in seconds since the epoch, UTC.  'period' is hour, day, month or
 * year, each with @OFFSET (minute, hour, day, month) if wanted.  ERR_CONFIG.  Pure. */
struct err *usage_audit_period(const char *period, int64_t now_s, int64_t *ret_begin_s,
                               int64_t *ret_end_s) MUST_CHECK;

struct err *usage_audit(struct node *, const struct rctx *) MUST_CHECK;

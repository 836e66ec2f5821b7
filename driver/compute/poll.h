#pragma once

/* Servers that have been on their way for too long: builds, reboots, rescues, resizes.
 *
 * Each job is off unless its option says after how many seconds.  It asks conductor for candidates;
 * who is stuck is decided here, and again when the server's turn has come (chore.h).
 *
 * Source: nova/compute/manager.py _check_instance_build_time, _poll_rebooting_instances,
 * _poll_rescued_instances, _poll_unconfirmed_resizes; nova/compute/api.py (_hard_reboot, unrescue),
 * in whose place we act.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Whether it is a server of 'host' whose time is over.  Pure. */
bool poll_build_is_stuck(const struct instance *, const char *host, int64_t timeout_s,
                         int64_t now_s);
bool poll_reboot_is_stuck(const struct instance *, const char *host, int64_t timeout_s,
                          int64_t now_s);
bool poll_rescue_is_over(const struct instance *, const char *host, int64_t timeout_s,
                         int64_t now_s);

/* instance_build_timeout: the server is in error. */
struct err *poll_builds(struct node *, const struct rctx *) MUST_CHECK;
/* reboot_timeout: a hard reboot.  (Nova's libvirt driver leaves it at the option.) */
struct err *poll_reboots(struct node *, const struct rctx *) MUST_CHECK;
/* rescue_timeout: the rescue ends. */
struct err *poll_rescues(struct node *, const struct rctx *) MUST_CHECK;
/* resize_confirm_window: resizes are not built, so they are only told of, once. */
struct err *poll_resizes(struct node *, const struct rctx *) MUST_CHECK;

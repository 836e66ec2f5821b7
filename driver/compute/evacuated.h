#pragma once

/* Servers that were evacuated while this host was away: their guests must not run here as well.
 *
 * What is here of a server that now lives elsewhere is removed: guest, ports in the switch, files
 * unless the other host shares them, our part of its allocations.  While an evacuation is under way
 * and the record still says that the server is here, only the guest goes: its files may be needed,
 * by the other host if they are shared, by us if the evacuation fails.  How it ended is looked at
 * later.
 *
 * Nobody is asked whether files are shared but another host: we do not serve yet (P14).
 *
 * Source: nova/compute/manager.py _destroy_evacuated_instances, _is_instance_storage_shared;
 * contract startup-and-periodics.md 5.3.
 *
 * Thread-safety: evacuated_clean once, before requests are handled; evacuated_look_again from one
 * thread at a time. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

enum evacuated {
    EVACUATED_GONE,      /* It lives elsewhere. */
    EVACUATED_UNDER_WAY, /* It is still ours by its record. */
    EVACUATED_BACK,      /* It was evacuated once, and is ours again. */
    EVACUATED_MOVING,    /* Something else is being done with it. */
};
/* What has become of an evacuation from 'host'.  Pure. */
enum evacuated evacuated_judge(const struct migration *, const struct instance *, const char *host);

/* At the start, before any guest is touched.  Adds the uuids of servers whose evacuation is under
 * way to *ret: nothing else may be done with those.  An error means that nobody knows which guests
 * may run; what fails for a single server is logged. */
struct err *evacuated_clean(struct node *, const struct rctx *, struct strv *ret) MUST_CHECK;
/* Afterwards, now and then: how those that were under way have ended.  Asks nobody if there were
 * none, and touches no guest of a server that is ours. */
struct err *evacuated_look_again(struct node *, const struct rctx *) MUST_CHECK;

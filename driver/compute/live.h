#pragma once

/* Live migration: what its verbs share.  One file a role:
 *
 *   live_check.c   the destination's and the source's checks, before anything moves
 *   live_source.c  queue, prepare, copy, post steps and rollback on the source; abort,
 * force-complete live_dest.c    what the destination prepares, takes over, or undoes
 *
 * The handlers themselves are declared in driver/compute/handlers.h.
 *
 * Source: nova/compute/manager.py; contract live-migration.md.
 *
 * Thread-safety: from any thread; objects belong to the caller. */

#include "base/err.h"
#include "driver/compute/handlers.h"
#include "driver/compute/node.h"
#include "driver/libvirt/guest_xml.h"

/* The server's (anti-)affinity group allows it here; ERR_MIGRATION_PRE_CHECK if not. */
struct err *live_check_group(struct node *, const struct rctx *, struct instance *) MUST_CHECK;
/* The running domain and what its XML says. */
struct err *live_guest_info(struct node *, const char *uuid, struct lv_domain **ret_domain,
                            struct guest_info *ret) MUST_CHECK;
/* Ids of the volumes that are attached to a server. */
struct err *live_volume_serials(struct node *, const struct rctx *, const char *uuid,
                                struct strv *ret, bool *ret_is_volume_backed) MUST_CHECK;

/* Saves that must not get lost because broker or conductor are away for a while: tried again after
 * a time-out, for up to ten minutes or until the service stops. */
struct err *live_save_instance(struct node *, const struct rctx *, struct instance *,
                               const char *const *expected_task_states) MUST_CHECK;
struct err *live_save_migration(struct node *, const struct rctx *, struct migration *,
                                const char *status) MUST_CHECK;
/* { "migrating", NULL } */
extern const char *const live_expect_migrating[];

/* Copies new_* of the migration context, loaded if need be, onto the instance
 * (Instance.apply_migration_context). */
struct err *live_apply_migration_context(struct node *, const struct rctx *, struct instance *)
    MUST_CHECK;

/* Takes away everything that a move that failed may have left on this host: bindings of its ports,
 * OVS ports, a domain that never ran, its directory if 'destroy_disks', claims.  Whatever is
 * already gone is no error; each failure is logged. */
void live_clean_destination(struct node *, const struct rctx *, struct instance *,
                            const struct vif_list *, bool destroy_disks);

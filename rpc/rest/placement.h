#pragma once

/* Placement: resource providers, inventories, traits and allocations.
 *
 * Speaks with [placement]'s credentials.  A generation conflict is retried after reading again;
 * what is not ours on a provider (operators' traits, foreign child providers) is left alone.
 *
 * Source: nova/scheduler/client/report.py; the placement API reference (microversions named there).
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/rest/session.h"

struct placement;

/* Consumes the session. */
struct placement *placement_new(struct rest_session *) MUST_CHECK;
/* Takes NULL; returns NULL. */
struct placement *placement_free(struct placement *);
static inline void placement_freep(struct placement **p)
{
    *p = placement_free(*p);
}

struct placement_inventory {
    const char *resource_class; /* "VCPU" */
    int64_t total, reserved;
    int64_t min_unit, max_unit, step_size;
    double allocation_ratio;
};

/* The provider of a compute node, created if there is none.  ERR_RESOURCE_PROVIDER_CREATION:
 * another one has the name. */
struct err *placement_ensure_provider(struct placement *, const char *uuid, const char *name)
    MUST_CHECK;
/* The inventory that placement holds now (for ratios that no option sets): an object of resource
 * class to inventory, NULL if the provider does not exist. */
struct err *placement_get_inventories(struct placement *, const char *uuid,
                                      struct json_object **ret) MUST_CHECK;
/* Makes the inventories exactly these; writes only if something differs, custom classes first.  A
 * class whose inventory is in use is kept and logged.  ERR_NOT_FOUND: no such provider. */
struct err *placement_set_inventories(struct placement *, const char *uuid,
                                      const struct placement_inventory *, size_t n) MUST_CHECK;
/* Makes the traits that we own exactly 'traits': adds what is missing, removes those in 'owned'
 * that are not in 'traits', keeps every other.  Names that placement does not know are dropped
 * unless CUSTOM_.  Writes only if something differs.  ERR_NOT_FOUND: no such provider. */
struct err *placement_set_traits(struct placement *, const char *uuid, const struct strv *traits,
                                 const struct strv *owned) MUST_CHECK;

/* GET /allocations/{consumer}: the body (allocations, project_id, user_id, consumer_generation). */
struct err *placement_get_allocations(struct placement *, const char *consumer,
                                      struct json_object **ret) MUST_CHECK;
/* Empties a consumer's allocations; none is no error.  ERR_CONFLICT: somebody else changed them
 * meanwhile. */
struct err *placement_delete_allocations(struct placement *, const char *consumer) MUST_CHECK;
/* Moves everything that 'from' holds to 'to' in one request (rollback: migration to instance).
 * *ret_moved is false if 'from' holds nothing.  ERR_CONFLICT as above. */
struct err *placement_move_allocations(struct placement *, const char *from, const char *to,
                                       bool *ret_moved) MUST_CHECK;
/* Takes a provider and all below it out of a consumer's allocations; it keeps the rest.  Holding
 * nothing there is no error.  ERR_CONFLICT as above. */
struct err *placement_drop_tree(struct placement *, const char *consumer, const char *root_uuid)
    MUST_CHECK;
/* Takes {provider: {resource class: amount}} out of what a consumer holds; what it does not hold is
 * no error.  ERR_CONFLICT as above. */
struct err *placement_drop_resources(struct placement *, const char *consumer,
                                     struct json_object *resources) MUST_CHECK;
/* Consumers with an allocation against a provider: object of consumer uuid to allocation. */
struct err *placement_provider_allocations(struct placement *, const char *uuid,
                                           struct json_object **ret) MUST_CHECK;

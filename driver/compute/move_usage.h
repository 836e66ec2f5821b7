#pragma once

/* Which moves take room on this host beside its servers, and with which flavor and topology.
 *
 * Source: nova/compute/resource_tracker.py _update_usage_from_migrations,
 * _update_usage_from_migration; contract startup-and-periodics.md 5.6.
 *
 * Thread-safety: pure. */

#include "driver/compute/node_record.h"
#include "rpc/objects/objects.h"

enum move_side {
    MOVE_SIDE_NONE, /* Takes nothing beside the server itself. */
    MOVE_SIDE_NEW,  /* What the server will have. */
    MOVE_SIDE_OLD,  /* What it had, and gets back on a revert. */
};

/* Whether the server of a move is in a state in which the move counts. */
bool move_is_under_way(const struct instance *);
/* Whether a later one of the same server is in the list: only that counts. */
bool move_is_superseded(const struct migration_list *, size_t i);
/* 'is_tracked': the server counts here already. */
enum move_side move_side(const struct migration *, const struct instance *, const char *host,
                         const char *node, bool is_tracked);
/* The usage of a side.  False if the record lacks the flavor. */
bool move_usage_of(const struct migration *, const struct instance *, enum move_side,
                   struct usage *ret);

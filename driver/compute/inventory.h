#pragma once

/* What placement is told of this host, and the clean-up of allocations that nobody needs.
 *
 * Source: nova/virt/libvirt/driver.py update_provider_tree; nova/compute/resource_tracker.py
 * _remove_deleted_instances_allocations; contract startup-and-periodics.md 5.6, 5.7.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/compute/node_record.h"
#include "driver/libvirt/host.h"

#define INVENTORY_DISABLED_TRAIT "COMPUTE_STATUS_DISABLED"

struct inventory {
    struct placement_inventory items[5];
    size_t n;
};

/* What to do about an allocation here of a consumer that is neither a server nor a move of ours. */
enum leftover {
    LEFTOVER_KEEP,
    LEFTOVER_KEEP_AND_WARN, /* Somebody should look. */
    LEFTOVER_DELETE,
};
/* 'inst' is the consumer's record, deleted ones included. */
enum leftover inventory_leftover(const struct instance *inst, const char *host, const char *node);

/* Pure: 'present' is what placement has (placement_get_inventories), or NULL. */
void inventory_fill(const struct conf *, const struct host_facts *, struct json_object *present,
                    struct inventory *ret);
/* Ratios are the option's, else what placement has, else the initial ones. */
struct err *inventory_make(struct placement *, const char *provider, const struct conf *,
                           const struct host_facts *, struct inventory *ret) MUST_CHECK;
void inventory_traits(const struct host_facts *, bool is_disabled, struct strv *ret_traits,
                      struct strv *ret_owned);

/* Looks at every consumer on our provider that is neither a server nor a move here. */
void inventory_clean_allocations(struct node *, const struct rctx *, const char *provider,
                                 const char *nodename, const struct usage *, size_t n_usages,
                                 const struct strv *moves);

#pragma once

/* The ComputeNode record: host facts and usage, as Nova stores them.
 *
 * Pure: only fields that differ are set, so that a record that is right has no changes.
 *
 * Source: nova/compute/resource_tracker.py (_copy_resources, _update_usage), nova/compute/stats.py,
 * nova/virt/libvirt/driver.py get_available_resource; contract startup-and-periodics.md 5.5.
 *
 * Thread-safety: pure functions. */

#include "base/conf.h"
#include "driver/libvirt/host.h"
#include "rpc/objects/objects.h"

/* What one server, or one move that comes in, takes. */
struct usage {
    char *uuid;
    char *vm_state, *task_state, *os_type, *project_id;
    int64_t vcpus, memory_mb, disk_gb;
    struct instance_numa_topology *numa; /* NULL: none. */
    bool is_move;                        /* Counts for room, not among the servers. */
};

/* From a server; 'numa' is copied and may be NULL.  The flavor must be set. */
struct usage usage_of(const struct instance *, const struct instance_numa_topology *numa,
                      bool is_move) MUST_CHECK;
/* The same with another flavor than its own, as a resize needs. */
struct usage usage_of_flavor(const struct instance *, const struct flavor *,
                             const struct instance_numa_topology *numa, bool is_move) MUST_CHECK;
void usage_fini(struct usage *);

/* The host's NUMA topology with nothing used; NULL if the host has none. */
struct numa_topology *node_numa(const struct host_facts *) MUST_CHECK;

/* Everything of a ComputeNode that comes from facts and usage. */
void node_record_fill(struct compute_node *, const struct conf *, const struct host_facts *,
                      int64_t over_committed_bytes, const struct usage *usages, size_t n);

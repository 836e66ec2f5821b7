#pragma once

/* Fitting a server's NUMA topology to a host's: which host cell, which pages, which pins.
 *
 * Pure: host topology and usage in, fitted topology out.
 *
 * Source: nova/virt/hardware.py numa_fit_instance_to_host, numa_get_constraints,
 * numa_usage_from_instance_numa.
 *
 * Thread-safety: pure functions. */

#include "base/err.h"
#include "rpc/objects/objects.h"

/* ERR_COMPUTE_RESOURCES_UNAVAILABLE naming what is short and by how much, cell by cell.
 * 'limits' may be NULL. */
struct err *numa_fit(const struct numa_topology *host, const struct instance_numa_topology *wanted,
                     const struct numa_topology_limits *limits, struct instance_numa_topology **ret)
    MUST_CHECK;
/* Adds (sign 1) or takes away (sign -1) a server's usage from a host topology, in place. */
void numa_count_usage(struct numa_topology *host, const struct instance_numa_topology *, int sign);

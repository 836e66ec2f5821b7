#pragma once

/* Where a server that comes in by live migration is pinned here, as its source must write it into
 * the guest's XML (dst_numa_info).
 *
 * Source: nova/virt/libvirt/driver.py _get_live_migrate_numa_info, _get_guest_numa_config;
 * nova/virt/hardware.py get_realtime_cpu_constraint; contract live-migration.md 4.3.
 *
 * Thread-safety: pure. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/host.h"
#include "rpc/objects/objects.h"

/* 'fitted' is what numa_fit made of the server's topology.  ERR_COMPUTE_RESOURCES_UNAVAILABLE for a
 * cell that this host does not have, ERR_CONFIG for a mask that makes no sense. */
struct err *numa_info_make(const struct conf *, const struct host_facts *, const struct instance *,
                           const struct instance_numa_topology *fitted,
                           struct libvirt_live_migrate_numa_info **ret) MUST_CHECK;

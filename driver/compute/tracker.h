#pragma once

/* The resource tracker: what this host has, who uses it, and what placement is told.
 *
 * Keeps the ComputeNode record, the usage of every server and move on this host, and the claims
 * made for moves that come in.  One mutex covers the books; records are read and written outside of
 * it.
 *
 * Source: nova/compute/resource_tracker.py, nova/compute/claims.py; contract
 * startup-and-periodics.md 5.5-5.8.
 *
 * Thread-safety: every function from any thread; audits never overlap (a second one waits). */

#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/libvirt/host.h"
#include "rpc/objects/objects.h"

struct tracker *tracker_new(struct node *) MUST_CHECK;
struct tracker *tracker_free(struct tracker *);

/* update_available_resource: reads host, records and placement, and writes what differs.  At the
 * start ('is_startup') the ComputeNode is made or adopted. */
struct err *tracker_audit(struct tracker *, const struct rctx *, bool is_startup) MUST_CHECK;

/* Borrowed, stable after the first audit: hypervisor_hostname and the node's uuid; NULL before. */
const char *tracker_nodename(struct tracker *);
const char *tracker_node_uuid(struct tracker *);
/* A copy of the present ComputeNode record; the caller's.  NULL before the first audit. */
struct compute_node *tracker_compute_node(struct tracker *) MUST_CHECK;

/* Claims room on this host for a server that comes in by live migration (NUMA cells, pages, pins):
 * saves dest_* of the migration and the instance's migration context, and counts the usage from now
 * on.  Returns the fitted topology (NULL if the server has none) in *ret_numa.
 * ERR_COMPUTE_RESOURCES_UNAVAILABLE says what is short and by how much. */
struct err *tracker_claim_move(struct tracker *, const struct rctx *, struct instance *,
                               struct migration *, struct scheduler_limits *limits,
                               struct instance_numa_topology **ret_numa) MUST_CHECK;
/* Drops that claim; none is no error. */
struct err *tracker_drop_move(struct tracker *, const struct rctx *, const char *instance_uuid)
    MUST_CHECK;

/* Claims room for a server that is built here: fits its NUMA topology, and writes topology, host,
 * node and launched_on into its record.  'limits' is the dictionary of the RPC, or NULL.
 * ERR_COMPUTE_RESOURCES_UNAVAILABLE as above. */
struct err *tracker_claim_instance(struct tracker *, const struct rctx *, struct instance *,
                                   struct json_object *limits) MUST_CHECK;
/* Nothing is used by that server any more: its build failed, or it is gone.  Its record is the
 * caller's to write. */
void tracker_abort_instance(struct tracker *, const struct rctx *, const char *uuid);

/* A build has ended: those that fail in a row are counted in the record, for the scheduler
 * ([compute]consecutive_build_service_disable_threshold, 0: not). */
void tracker_count_build(struct tracker *, const struct rctx *, bool has_failed);

/* Calls fn with what this host is, under the tracker's lock: fn computes and does no I/O. */
typedef struct err *(*tracker_facts_fn)(const struct host_facts *, void *arg);
struct err *tracker_use_facts(struct tracker *, tracker_facts_fn fn, void *arg) MUST_CHECK;

/* dst_numa_info of a claim: cpu_pins, cell_pins, emulator_pins, and scheduler settings of a
 * realtime server (nova/virt/libvirt/driver.py _get_live_migrate_numa_info). */
struct err *tracker_numa_info(struct tracker *, struct instance *, struct instance_numa_topology *,
                              struct libvirt_live_migrate_numa_info **ret) MUST_CHECK;

/* A server came, changed or left: counts it at once (the audit would see it later). */
void tracker_instance_changed(struct tracker *, struct instance *, bool is_here);

/* COMPUTE_STATUS_DISABLED on our provider. */
struct err *tracker_set_disabled_trait(struct tracker *, bool is_disabled) MUST_CHECK;

struct tracker_stats {
    int64_t vcpus, vcpus_used, memory_mib, memory_mib_used, disk_gb, disk_gb_used;
    unsigned n_instances, n_claims;
    int64_t last_audit_ms, last_audit_took_ms; /* 0: none yet. */
};
void tracker_stats(struct tracker *, struct tracker_stats *ret);

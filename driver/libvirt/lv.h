#pragma once

/* The one door to libvirt.
 *
 * Everything that driver/ knows of libvirt goes through here, so that tests can link
 * tests/fake/lv_fake*.c instead.  Thin: one call here is one libvirt call (or a short loop of
 * them).
 *
 * A connection serves five calls at a time in libvirtd, so events, control and each migration have
 * their own.  What must not wait does not share one with a long call either: libvirt before 10.0
 * loses the wake-up of the thread that sends for all, and then sends with the next keepalive only.
 * Connections are re-opened when libvirtd comes back.
 *
 * Errors: ERR_INSTANCE_NOT_FOUND for a domain that does not exist, ERR_HYPERVISOR_UNAVAILABLE when
 * the connection is broken, else ERR_LIBVIRT with kwargs "code" (number) and "name"
 * ("VIR_ERR_OPERATION_ABORTED").
 *
 * Thread-safety: a connection may be used from any thread; a domain too. */

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct lv_conn;
struct lv_domain;

/* Starts the event loop thread ("lv-events"); once per process, before the first connection. */
struct err *lv_init(void) MUST_CHECK;

struct err *lv_connect(const char *uri, struct lv_conn **ret) MUST_CHECK;
/* Not from an event's callback: it waits until none of this connection runs.  Domains may outlive
 * it, but must not be used. */
struct lv_conn *lv_conn_free(struct lv_conn *);
static inline void lv_conn_freep(struct lv_conn **c)
{
    *c = lv_conn_free(*c);
}
/* Asks libvirtd nothing.  A broken connection is opened again by the next call that needs it, at
 * most once a second. */
bool lv_conn_is_alive(struct lv_conn *);

/* ---- Host ---- */
struct err *lv_hostname(struct lv_conn *, char **ret) MUST_CHECK;
struct err *lv_type(struct lv_conn *, char **ret) MUST_CHECK; /* "QEMU" */
/* major * 1000000 + minor * 1000 + micro */
struct err *lv_versions(struct lv_conn *, unsigned long *ret_libvirt, unsigned long *ret_hv)
    MUST_CHECK;
struct err *lv_capabilities(struct lv_conn *, char **ret_xml) MUST_CHECK;
struct err *lv_domain_capabilities(struct lv_conn *, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret_xml)
    MUST_CHECK;
struct lv_node_info {
    uint64_t memory_kib;
    unsigned cpus, nodes, sockets, cores, threads;
};
struct err *lv_node_info(struct lv_conn *, struct lv_node_info *ret) MUST_CHECK;
/* Numbers of the CPUs that are online, as text "0-3,5". */
struct err *lv_online_cpus(struct lv_conn *, char **ret) MUST_CHECK;
/* Free pages of one size (KiB) in one NUMA cell. */
struct err *lv_free_pages(struct lv_conn *, unsigned page_kib, int cell, uint64_t *ret) MUST_CHECK;
/* VIR_CPU_COMPARE_*: -1 error is an err, 0 incompatible, 1 identical, 2 superset. */
struct err *lv_compare_cpu(struct lv_conn *, const char *cpu_xml, int *ret) MUST_CHECK;
/* The CPU with every feature that its model stands for. */
struct err *lv_expand_cpu(struct lv_conn *, const char *cpu_xml, char **ret_xml) MUST_CHECK;

/* ---- Domains ---- */
enum lv_state {
    LV_NOSTATE,
    LV_RUNNING,
    LV_BLOCKED,
    LV_PAUSED,
    LV_SHUTDOWN,
    LV_SHUTOFF,
    LV_CRASHED,
    LV_PMSUSPENDED
};
/* Of the reasons that lv_domain_state gives (libvirt's numbers): gone to another host. */
enum { LV_REASON_SHUTOFF_MIGRATED = 4 };
struct err *lv_domain_by_uuid(struct lv_conn *, const char *uuid, struct lv_domain **ret)
    MUST_CHECK;
struct lv_domain *lv_domain_free(struct lv_domain *);
static inline void lv_domain_freep(struct lv_domain **p)
{
    *p = lv_domain_free(*p);
}
/* UUIDs of all domains, active and not. */
struct err *lv_domain_uuids(struct lv_conn *, struct strv *ret) MUST_CHECK;
const char *lv_domain_uuid(const struct lv_domain *);
struct err *lv_domain_name(struct lv_domain *, char **ret) MUST_CHECK;
struct err *lv_domain_state(struct lv_domain *, enum lv_state *ret, int *ret_reason) MUST_CHECK;
struct err *lv_domain_xml(struct lv_domain *, bool is_migratable, char **ret) MUST_CHECK;
struct err *lv_domain_suspend(struct lv_domain *) MUST_CHECK;
struct err *lv_domain_resume(struct lv_domain *) MUST_CHECK;
struct err *lv_domain_destroy(struct lv_domain *) MUST_CHECK;  /* Not running is no error. */
struct err *lv_domain_undefine(struct lv_domain *) MUST_CHECK; /* With nvram and managed save. */
struct err *lv_define(struct lv_conn *, const char *xml, struct lv_domain **ret) MUST_CHECK;
/* Starts a defined domain. */
struct err *lv_domain_start(struct lv_domain *, bool is_paused) MUST_CHECK;
/* Asks the guest to power off (ACPI, or its agent); returns at once. */
struct err *lv_domain_shutdown(struct lv_domain *) MUST_CHECK;
struct err *lv_domain_inject_nmi(struct lv_domain *) MUST_CHECK;
/* Suspend to disk (managed save), and whether there is one; the next start resumes from it. */
struct err *lv_domain_managed_save(struct lv_domain *) MUST_CHECK;
struct err *lv_domain_has_managed_save(struct lv_domain *, bool *ret) MUST_CHECK;
struct err *lv_domain_remove_managed_save(struct lv_domain *) MUST_CHECK;
/* Devices by their XML; at least one of the two places. */
struct err *lv_domain_attach(struct lv_domain *, const char *xml, bool is_live, bool is_persistent)
    MUST_CHECK;
struct err *lv_domain_detach(struct lv_domain *, const char *xml, bool is_live, bool is_persistent)
    MUST_CHECK;
/* The three below speak with the guest's agent: ERR_LIBVIRT "VIR_ERR_AGENT_UNRESPONSIVE",
 * "VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_ARGUMENT_UNSUPPORTED" without one. */
struct err *lv_domain_set_user_password(struct lv_domain *, const char *user, const char *password)
    MUST_CHECK;
struct err *lv_domain_freeze(struct lv_domain *) MUST_CHECK;
struct err *lv_domain_thaw(struct lv_domain *) MUST_CHECK;
/* The guest's clock is set to now, after a resume. */
struct err *lv_domain_sync_time(struct lv_domain *) MUST_CHECK;
/* QMP, for announce-self: returns the JSON answer. */
struct err *lv_monitor_command(struct lv_domain *, const char *json, char **ret) MUST_CHECK;
struct lv_block_info {
    uint64_t capacity, allocation, physical;
};
struct err *lv_block_info(struct lv_domain *, const char *path_or_target, struct lv_block_info *ret)
    MUST_CHECK;

/* ---- Block jobs, of a domain that runs; it may stay defined ---- */
/* Starts to copy a disk to a file that is there ("qcow2", "raw"; 'shallow': without what its
 * backing file has); it goes on mirroring until the job is ended. */
struct err *lv_block_copy(struct lv_domain *, const char *target, const char *dest,
                          const char *format, bool is_shallow) MUST_CHECK;
struct lv_block_job {
    bool is_there;
    bool is_ready; /* All is copied; only what the guest writes now is mirrored. */
    uint64_t done, total;
};
struct err *lv_block_job(struct lv_domain *, const char *target, struct lv_block_job *ret)
    MUST_CHECK;
/* Ends the job; the guest stays on its own disk. */
struct err *lv_block_job_abort(struct lv_domain *, const char *target) MUST_CHECK;

/* ---- Diagnostics ---- */
struct lv_interface_stats {
    int64_t rx_bytes, rx_packets, rx_errors, rx_drop; /* -1: unknown, here and below. */
    int64_t tx_bytes, tx_packets, tx_errors, tx_drop;
};
struct err *lv_interface_stats(struct lv_domain *, const char *device,
                               struct lv_interface_stats *ret) MUST_CHECK;
struct lv_block_stats {
    int64_t read_requests, read_bytes, write_requests, write_bytes, errors;
};
struct err *lv_block_stats(struct lv_domain *, const char *target, struct lv_block_stats *ret)
    MUST_CHECK;
/* Nanoseconds that each virtual CPU has run; an array of the caller's. */
struct err *lv_vcpu_times(struct lv_domain *, uint64_t **ret, size_t *ret_n) MUST_CHECK;
/* KiB: what the guest may have, what it has. */
struct err *lv_memory_stats(struct lv_domain *, uint64_t *ret_max_kib, uint64_t *ret_used_kib)
    MUST_CHECK;
/* What the host and the guest's balloon say of its memory: KiB, but for counters. */
struct lv_memory_detail {
    const char *name; /* "actual", "rss", "major_fault", ...: as libvirt's Python binding says. */
    uint64_t value;
};
/* An array of the caller's. */
struct err *lv_memory_details(struct lv_domain *, struct lv_memory_detail **ret, size_t *ret_n)
    MUST_CHECK;

/* ---- Migration ---- */
enum lv_migrate_flag {
    LV_MIGRATE_TUNNELLED = 1 << 0,
    LV_MIGRATE_TLS = 1 << 1,
    LV_MIGRATE_POSTCOPY = 1 << 2,
    LV_MIGRATE_AUTO_CONVERGE = 1 << 3,
    LV_MIGRATE_NON_SHARED_INC = 1 << 4,
    LV_MIGRATE_PARALLEL = 1 << 5
}; /* LIVE, PEER2PEER, PERSIST_DEST and UNDEFINE_SOURCE are always on. */
struct lv_migrate_params {
    const char *dest_uri;
    const char *migrate_uri;  /* NULL: libvirt chooses. */
    const char *dest_xml;     /* Also the persistent XML (CVE-2020-17376). */
    uint64_t bandwidth_mib;   /* 0: unlimited */
    const struct strv *disks; /* Target names to copy; NULL or empty: all that libvirt would. */
    unsigned flags;           /* enum lv_migrate_flag */
    unsigned parallel_connections;
};
/* Blocks until the migration has ended. */
struct err *lv_migrate(struct lv_domain *, const struct lv_migrate_params *) MUST_CHECK;
struct err *lv_migrate_set_max_downtime(struct lv_domain *, uint64_t ms) MUST_CHECK;
struct err *lv_migrate_set_max_speed(struct lv_domain *, uint64_t mib_per_s) MUST_CHECK;
struct err *lv_migrate_start_postcopy(struct lv_domain *) MUST_CHECK;
struct err *lv_abort_job(struct lv_domain *) MUST_CHECK;
enum lv_job_type {
    LV_JOB_NONE,
    LV_JOB_BOUNDED,
    LV_JOB_UNBOUNDED,
    LV_JOB_COMPLETED,
    LV_JOB_FAILED,
    LV_JOB_CANCELLED
};
struct lv_job {
    enum lv_job_type type;
    uint64_t time_elapsed_ms, downtime_ms, setup_time_ms;
    uint64_t data_total, data_processed, data_remaining;
    uint64_t memory_total, memory_processed, memory_remaining, memory_bps;
    uint64_t disk_total, disk_processed, disk_remaining, disk_bps;
    uint64_t memory_dirty_rate, memory_page_size, memory_iteration, memory_constant;
    uint64_t memory_normal_bytes;
    int auto_converge_throttle;
};
/* NO_DOMAIN and OPERATION_INVALID are LV_JOB_COMPLETED, as Nova reads them. */
struct err *lv_job_stats(struct lv_domain *, struct lv_job *ret) MUST_CHECK;
/* Of the job that ended last. */
struct err *lv_job_completed_stats(struct lv_domain *, struct lv_job *ret) MUST_CHECK;

/* ---- Events: callbacks run on lv-events and only submit work ----
 *
 * What a live migration gives (libvirt 9.0, QEMU 7.2): on the source MIGRATION_ITERATION for each
 * pass, SUSPENDED MIGRATED when QEMU stops the guest (also for lv_domain_suspend during a
 * migration, and not for a guest that is paused already), SUSPENDED POSTCOPY after it if post-copy
 * begins, STOPPED MIGRATED some 0.3 s later when the guest has left, JOB_COMPLETED; no UNDEFINED.
 * On the destination STARTED, DEFINED, RESUMED MIGRATED; neither SUSPENDED MIGRATED nor
 * JOB_COMPLETED. */
enum lv_event_type {
    LV_EVENT_STARTED,
    LV_EVENT_SUSPENDED,
    LV_EVENT_RESUMED,
    LV_EVENT_STOPPED,
    LV_EVENT_UNDEFINED,
    LV_EVENT_DEFINED,
    LV_EVENT_CRASHED,
    LV_EVENT_PMSUSPENDED,
    LV_EVENT_SHUTDOWN,
    LV_EVENT_JOB_COMPLETED,
    LV_EVENT_MIGRATION_ITERATION,
    LV_EVENT_DEVICE_REMOVED,
    LV_EVENT_DEVICE_REMOVAL_FAILED,
    LV_EVENT_DISCONNECTED
};
enum lv_event_detail { /* Of SUSPENDED, RESUMED and STOPPED; the others have LV_DETAIL_NONE. */
                       LV_DETAIL_NONE,
                       LV_DETAIL_MIGRATED,
                       LV_DETAIL_POSTCOPY,
                       LV_DETAIL_POSTCOPY_FAILED,
                       LV_DETAIL_FROM_SNAPSHOT,
                       LV_DETAIL_SHUTDOWN,
                       LV_DETAIL_DESTROYED,
                       LV_DETAIL_CRASHED,
                       LV_DETAIL_FAILED,
                       LV_DETAIL_OTHER
};
struct lv_event {
    enum lv_event_type type;
    enum lv_event_detail detail;
    char uuid[37];     /* "" for DISCONNECTED */
    int64_t iteration; /* MIGRATION_ITERATION */
    struct lv_job job; /* JOB_COMPLETED */
    char alias[64];    /* DEVICE_* */
};
typedef void (*lv_event_fn)(const struct lv_event *, void *arg);
/* Registers for all events of a connection.  After DISCONNECTED none come until a call (any, from
 * a timer: lv_hostname) has opened the connection again; what happened meanwhile is lost. */
struct err *lv_subscribe(struct lv_conn *, lv_event_fn, void *arg) MUST_CHECK;

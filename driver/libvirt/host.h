#pragma once

/* What this KVM host is: the facts of ComputeNode, of placement's inventory and of its traits.
 *
 * Read from libvirt's capabilities, domain capabilities and /proc; all of it each
 * time, about ten calls of libvirt.
 *
 * Source: nova/virt/libvirt/host.py, driver.py get_available_resource, _get_cpu_traits,
 * update_provider_tree; contract startup-and-periodics.md 5.5, 5.7, 5.8.
 *
 * Thread-safety: host_read from one thread at a time; struct host_facts is a plain value. */

#include "base/conf.h"
#include "base/cpuset.h"
#include "base/err.h"
#include "base/jv.h"
#include "driver/libvirt/lv.h"
#include "rpc/objects/objects.h"

struct host_page_size {
    int64_t size_kb, total, reserved;
};

struct host_cell {
    int id;
    struct cpuset cpus;      /* Online CPUs of the cell. */
    struct cpuset *siblings; /* Hyper-thread groups. */
    size_t n_siblings;
    int64_t memory_mib;
    int socket; /* -1: more than one, or unknown. */
    struct host_page_size *pages;
    size_t n_pages;
};

struct host_facts {
    char *hostname;        /* hypervisor_hostname: the first one seen stays. */
    char *hypervisor_type; /* "QEMU" */
    int64_t hypervisor_version, libvirt_version;
    struct cpuset online;
    struct cpuset shared, dedicated; /* CPUs for VCPU and PCPU by cpu_*_set / vcpu_pin_set. */
    struct cpuset pinnable; /* CPUs for pins: dedicated, or shared where Nova falls back to them. */
    int64_t vcpus, memory_mib, local_gb;
    uint64_t free_bytes;          /* Of the space for disks. */
    char *cpu_info;               /* JSON text as ComputeNode.cpu_info */
    struct json_object *hv_specs; /* [[arch, hv_type, vm_mode], ...] */
    struct host_cell *cells;      /* None: no NUMA topology. */
    size_t n_cells;
    struct strv traits;       /* Ours, without COMPUTE_STATUS_DISABLED. */
    struct strv owned_traits; /* Every name that we may ever set. */
};

struct err *host_read(struct lv_conn *, const struct conf *, struct host_facts *ret) MUST_CHECK;
void host_facts_fini(struct host_facts *);
/* Minimum versions and option clashes: everything that is wrong, as one error. */
struct err *host_check(struct lv_conn *, const struct conf *) MUST_CHECK;

/* Whether a guest with this CPU can run here: 'cpu_xml' is of host_cpu_xml or host_cpu_model_xml.
 * ERR_INVALID_CPU_INFO naming why; features that lack are named. */
struct err *host_compare_cpu(struct lv_conn *, const char *cpu_xml) MUST_CHECK;
/* CPU XML from ComputeNode.cpu_info's JSON text. */
struct err *host_cpu_xml(const char *cpu_info_json, char **ret) MUST_CHECK;
/* The same from the model that a server was started with. */
struct err *host_cpu_model_xml(const struct virt_cpu_model *, char **ret) MUST_CHECK;

/* Text of uptime(1): " 12:00:00 up 1 day,  2:03,  1 user,  load average: 0.10, 0.20, 0.30". */
struct err *host_uptime(char **ret) MUST_CHECK;
/* GiB that sparse disks of all domains may still grow by (for disk_available_least). */
struct err *host_disk_over_committed(struct lv_conn *, int64_t *ret_bytes) MUST_CHECK;

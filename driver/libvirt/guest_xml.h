#pragma once

/* A guest's domain XML: what we read from it, and its rewrite for a live migration's destination.
 *
 * The rewrite starts from the live (migratable) XML; only what must differ differs: listen
 * addresses, interfaces by MAC, pins and NUMA nodes by the destination's claim, perf events, memory
 * backing. Everything else, guest addresses and aliases included, stays as it is.
 *
 * Source: nova/virt/libvirt/migration.py get_updated_guest_xml; contract live-migration.md 4.8.
 *
 * Thread-safety: pure functions. */

#include "base/cpuset.h"
#include "base/err.h"
#include "base/jv.h"
#include "base/str.h"
#include "vif/model.h"

#include <stdbool.h>

/* ---- Reading ---- */

struct guest_disk {
    char *type;    /* "file", "block", "network", "volume" */
    char *device;  /* "disk", "cdrom", ... */
    char *source;  /* Path, or NULL. */
    char *target;  /* "vda" */
    char *format;  /* driver/@type: "qcow2", "raw" */
    char *serial;  /* NULL if none: a volume's id */
    char *backing; /* backingStore's source file, or NULL */
    char *bus;     /* target/@bus: "virtio", "scsi", ... */
    char *address; /* On the guest's PCI bus: "0000:00:04.0"; NULL elsewhere. */
    bool is_readonly, is_shareable;
};

struct guest_interface {
    char *type;    /* "vhostuser", "ethernet", "bridge", "hostdev", "vdpa", ... */
    char *mac;     /* lower case */
    char *target;  /* target/@dev, or NULL */
    char *source;  /* path, bridge or dev, or NULL */
    char *mode;    /* source/@mode, or NULL */
    char *alias;   /* "net0", of a guest that runs. */
    char *address; /* On the guest's PCI bus, or NULL. */
};

struct guest_graphics {
    char *type;     /* "vnc", "spice", ... */
    char *port;     /* "5900"; "-1" or NULL while nobody listens. */
    char *tls_port; /* Or NULL. */
};

/* <serial> or <console>. */
struct guest_chardev {
    char *type;           /* "tcp", "pty", "file", ... */
    char *path;           /* The source's, or NULL. */
    char *host, *service; /* Address and port at which it listens, or NULL. */
    char *log;            /* File that libvirt writes beside it, or NULL. */
};

struct guest_info {
    char *uuid, *name;
    char *emulator, *arch, *machine;
    uint64_t memory_kib;
    unsigned vcpus;
    bool has_shared_memory; /* memoryBacking access shared, or every NUMA cell memAccess shared */
    bool has_hugepages;
    bool has_file_backed_memory;
    bool has_serial_tcp;
    struct guest_disk *disks;
    size_t n_disks;
    struct guest_interface *interfaces;
    size_t n_interfaces;
    struct guest_graphics *graphics;
    size_t n_graphics;
    struct guest_chardev *serials, *consoles;
    size_t n_serials, n_consoles;
};

/* ERR_PARSE for what is no domain XML. */
struct err *guest_info_parse(const char *xml, struct guest_info *ret) MUST_CHECK;
void guest_info_fini(struct guest_info *);
const struct guest_interface *guest_info_interface(const struct guest_info *, const char *mac);

/* ---- Rewriting ---- */

/* NUMA placement on the destination (LibvirtLiveMigrateNUMAInfo).  Borrowed; NULL: not set. */
struct guest_numa {
    struct json_object *cpu_pins;       /* {"guest cpu": [host cpus]} */
    struct json_object *cell_pins;      /* {"guest cell": [host nodes]} */
    const struct cpuset *emulator_pins; /* Host CPUs. */
    const struct cpuset *sched_vcpus;   /* Guest CPUs; NULL: leave the scheduler alone. */
    int64_t sched_priority;
};

struct guest_rewrite {
    const char *vnc_listen, *spice_listen; /* NULL: not set. */
    const char *serial_listen;             /* NULL: leave. */
    const int64_t *serial_ports;
    size_t n_serial_ports;
    const struct vif *vifs; /* The destination's VIFs. */
    size_t n_vifs;
    bool has_vifs;                  /* False: interfaces stay as they are. */
    const struct strv *perf_events; /* NULL: leave; empty: remove. */
    const struct guest_numa *numa;  /* NULL: leave. */
    bool wants_file_backed_memory;  /* Of the destination. */
    bool has_cpu_shares_quota;      /* Flavor has quota:cpu_shares. */
    const char *integration_bridge; /* For VIFs of type "bridge". */
};

/* The destination's XML.  ERR_MIGRATION_ERROR naming what does not fit (an interface without MAC, a
 * VIF missing from 'vifs', a NUMA cell without a pin). */
struct err *guest_xml_rewrite(const char *xml, const struct guest_rewrite *, char **ret) MUST_CHECK;

#pragma once

/* What libvirt, QEMU and the kernel here can do, as far as guests depend on it.
 *
 * guest_host_read asks; guest_host_new makes the same from what was recorded, without asking
 * anybody.
 *
 * Source: nova/virt/libvirt/host.py (get_capabilities, get_domain_capabilities, supports_uefi,
 * get_loader, is_cpu_control_policy_capable), driver.py (_match_cpu_model_by_flags,
 * disk_cachemode, _get_host_sysinfo_serial_*), vif.py _get_max_tap_queues.
 *
 * Thread-safety: read-only once it is made. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/lv.h"

struct guest_machine {
    char *arch, *name;
    char *canonical; /* NULL: the name is. */
};

/* One of QEMU's firmware descriptors (docs/interop/firmware.json of QEMU). */
struct guest_firmware {
    char *loader, *nvram_template;
    bool is_secure, needs_smm;
    struct strv targets; /* "x86_64 pc-q35-*" */
};

/* The features that one of [libvirt]cpu_models stands for. */
struct guest_cpu_features {
    char *model;
    struct strv features;
};

struct guest_host {
    char *uuid;       /* Of the host, as libvirt says. */
    char *machine_id; /* Of its operating system, as a UUID; NULL: it has none. */
    unsigned long libvirt_version;
    struct guest_machine *machines;
    size_t n_machines;
    struct strv cpu_models; /* That QEMU knows. */
    struct guest_cpu_features *features;
    size_t n_features;
    bool has_uefi, has_secure_boot; /* With some machine. */
    struct guest_firmware *firmware;
    size_t n_firmware;
    bool has_cpu_controller; /* Of cgroups: CPU shares and quotas can be had. */
    bool has_direct_io;      /* Of the file system of instances_path. */
    bool has_rng_device;     /* [libvirt]rng_dev_path is there. */
    int64_t kernel_major;
};

/* About ten calls of libvirt; once a connection, and again when libvirtd was restarted. */
struct err *guest_host_read(struct lv_conn *, const struct conf *, struct guest_host **ret)
    MUST_CHECK;

/* What guest_host_read found out. */
struct guest_host_source {
    const char *capabilities;               /* XML */
    const struct strv *domain_capabilities; /* XML of each machine. */
    const struct strv *firmware;            /* JSON of each descriptor, the preferred one first. */
    const char *machine_id;                 /* As /etc/machine-id has it, or NULL. */
    unsigned long libvirt_version;
    bool has_cpu_controller, has_direct_io, has_rng_device;
    int64_t kernel_major;
};
/* ERR_PARSE.  A descriptor that is none is left out, as libvirt does. */
struct err *guest_host_new(const struct guest_host_source *, struct guest_host **ret) MUST_CHECK;
/* Says what a model of CPU stands for; consumes the features. */
void guest_host_add_features(struct guest_host *, const char *model, struct strv *features);
struct guest_host *guest_host_free(struct guest_host *);
static inline void guest_host_freep(struct guest_host **p)
{
    *p = guest_host_free(*p);
}

/* Whether a machine type is known for any architecture. */
bool guest_host_has_machine(const struct guest_host *, const char *machine);
/* The firmware for a machine, or NULL. */
const struct guest_firmware *guest_host_firmware(const struct guest_host *, const char *arch,
                                                 const char *machine, bool is_secure);

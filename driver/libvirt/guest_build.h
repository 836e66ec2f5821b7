#pragma once

/* Inside of guest_make.h: one domain XML in the making, and the parts that are written by modules
 * of their own.
 *
 * Thread-safety: belongs to one call. */

#include "driver/libvirt/guest_make.h"
#include "driver/libvirt/guest_type.h"
#include "driver/libvirt/xb.h"

struct guest_build {
    const struct guest_spec *s;
    const struct conf *conf;
    const struct instance *inst;
    const struct flavor *flavor;
    const struct image_meta *image; /* Whose properties decide: in an old rescue the rescue's. */
    bool is_kvm;                    /* By the configuration: not for emulated architectures. */
    const char *arch;
    char *machine; /* Owned. */
    bool is_q35;
    struct xb_node *root, *devices;
    bool needs_usb; /* A device on that bus was written. */
};

/* ---- Asking flavor and image (guest_ask.c) ---- */

/* A setting that both may make: "pmu" is hw:pmu and hw_pmu.  ERR_FLAVOR_IMAGE_CONFLICT if they
 * differ. */
struct err *guest_ask_bool(const struct guest_build *, const char *key, bool *ret_is_set, bool *ret)
    MUST_CHECK;
/* The same for texts; 'prefix' is "hw" or "os".  NULL if neither says. */
struct err *guest_ask_text(const struct guest_build *, const char *prefix, const char *key,
                           const char **ret) MUST_CHECK;
/* A number of the flavor; ERR_INVALID naming the extra spec. */
struct err *guest_ask_number(const struct guest_build *, const char *spec, int64_t dflt,
                             int64_t *ret) MUST_CHECK;
/* What cannot be had here: TPM, encrypted and persistent memory, virtual GPUs, accelerators. */
struct err *guest_refuse(const struct guest_build *) MUST_CHECK;

/* ---- Parts of the domain, each appended to the root ---- */

/* guest_numa.c */
struct err *guest_add_memory_backing(struct guest_build *) MUST_CHECK;
struct err *guest_add_numa_tune(struct guest_build *) MUST_CHECK;
/* Host CPUs for a guest without NUMA cells; NULL: all.  Owned by the caller. */
char *guest_float_cpus(const struct guest_build *) MUST_CHECK;
struct err *guest_add_cpu_tune(struct guest_build *) MUST_CHECK;
void guest_add_cpu_cells(struct guest_build *, struct xb_node *cpu);

/* guest_cpu.c */
struct err *guest_add_cpu(struct guest_build *) MUST_CHECK;

/* guest_os.c */
struct err *guest_add_os(struct guest_build *, bool *ret_needs_smm) MUST_CHECK;
struct err *guest_add_features(struct guest_build *, bool needs_smm) MUST_CHECK;
void guest_add_clock(struct guest_build *);

/* ---- Parts of the devices ---- */

/* guest_disk.c */
void guest_add_disks(struct guest_build *);

/* guest_nic.c */
struct err *guest_add_interface(struct guest_build *, const struct vif *) MUST_CHECK;
/* A PCI device of the host that the guest gets as it is. */
struct err *guest_add_hostdev(struct guest_build *, const char *address) MUST_CHECK;

/* guest_device.c */
struct err *guest_add_consoles(struct guest_build *) MUST_CHECK;
struct err *guest_add_other_devices(struct guest_build *) MUST_CHECK;
/* The IOMMU model that is asked for; left as it is if none. */
struct err *guest_iommu_model(const struct guest_build *, const char **ret) MUST_CHECK;

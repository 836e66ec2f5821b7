#pragma once

/* A guest's domain XML from what Nova knows of a server.
 *
 * Pure: the host is described by what libvirt said of it (guest_host), the server by its objects.
 * The other way round, what an XML says, is guest_xml.h.
 *
 * Source: nova/virt/libvirt/driver.py _get_guest_config and what it calls,
 * nova/virt/libvirt/config.py, nova/virt/hardware.py, nova/virt/libvirt/designer.py;
 * contract vif.md 6.5.
 *
 * Thread-safety: pure; struct guest_host is read-only after guest_host_read. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/disk_layout.h"
#include "driver/libvirt/guest_host.h"
#include "driver/libvirt/host.h"
#include "driver/libvirt/image_meta.h"
#include "vif/model.h"

/* What the kernel calls a device that is passed to a guest: the netdev of a VF for macvtap, the
 * node /dev/vhost-vdpa-N for vDPA. */
struct guest_pci_name {
    const char *address; /* "0000:81:00.1" */
    const char *name;
};

struct guest_spec {
    const struct conf *conf;
    const struct guest_host *host;
    const struct host_facts *facts; /* CPU sets and NUMA cells. */
    const struct instance *inst;    /* flavor, system_metadata, numa_topology, metadata, pci_devices
                                     * and pci_requests loaded. */
    const struct image_meta *image; /* Of the server; in a rescue of the server, too. */
    const struct image_meta *rescue; /* NULL: no rescue. */
    const struct disk_layout *disks;
    const struct vif_list *vifs;
    const char *dir;                            /* The server's directory. */
    const char *rescue_kernel, *rescue_ramdisk; /* Their image ids; NULL: none. */
    const char *user_name, *project_name; /* For <nova:owner>; NULL: as the server remembers. */
    int64_t now_s;                        /* <nova:creationTime>, seconds since 1970, UTC. */
    const int64_t *serial_ports;          /* As many as guest_n_serial_ports says. */
    size_t n_serial_ports;
    const struct guest_pci_name *pci_names;
    size_t n_pci_names;
};

/* ERR_UNSUPPORTED_HARDWARE, ERR_INVALID_CPU_INFO, ERR_CONFIG..., each naming the property or extra
 * spec and its value. */
struct err *guest_xml_make(const struct guest_spec *, char **ret) MUST_CHECK;

/* One <interface> as guest_xml_make writes it: for attaching to a guest that runs. */
struct err *guest_interface_xml(const struct guest_spec *, const struct vif *, char **ret)
    MUST_CHECK;

/* TCP ports for serial consoles that the guest needs: 0 without [serial_console]enabled. */
struct err *guest_n_serial_ports(const struct conf *, const struct instance *,
                                 const struct image_meta *, size_t *ret) MUST_CHECK;

/* The CPU that the XML asks for, as Nova keeps it in Instance.vcpu_model. */
struct err *guest_vcpu_model(const struct guest_spec *, struct virt_cpu_model **ret) MUST_CHECK;

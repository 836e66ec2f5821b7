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
#include "driver/libvirt/host.h"
#include "driver/libvirt/image_meta.h"
#include "vif/model.h"

/* What libvirt and QEMU here can do, as far as guests depend on it. */
struct guest_host;

/* About ten calls of libvirt; once a connection, and again when libvirtd was restarted. */
struct err *guest_host_read(struct lv_conn *, const struct conf *, struct guest_host **ret)
    MUST_CHECK;
/* From recorded XML: capabilities and domain capabilities ({machine, xml} pairs), for tests. */
struct guest_host *guest_host_free(struct guest_host *);
static inline void guest_host_freep(struct guest_host **p)
{
    *p = guest_host_free(*p);
}

struct guest_spec {
    const struct conf *conf;
    const struct guest_host *host;
    const struct host_facts *facts;  /* CPU sets and NUMA cells. */
    const struct instance *inst;     /* flavor, system_metadata, numa_topology, metadata loaded. */
    const struct image_meta *image;  /* Of the server; in a rescue of the server, too. */
    const struct image_meta *rescue; /* NULL: no rescue. */
    const struct disk_layout *disks;
    const struct vif_list *vifs;
    const char *dir;                      /* The server's directory. */
    const char *user_name, *project_name; /* For <nova:owner>; NULL: from the request. */
    int64_t now_s;                        /* <nova:creationTime>, seconds since 1970, UTC. */
    const int64_t *serial_ports;          /* As many as there are serial consoles. */
    size_t n_serial_ports;
};

/* ERR_UNSUPPORTED_HARDWARE, ERR_INVALID_CPU_INFO, ERR_CONFIG..., each naming the property or extra
 * spec and its value. */
struct err *guest_xml_make(const struct guest_spec *, char **ret) MUST_CHECK;

/* One <interface> as guest_xml_make writes it: for attaching to a guest that runs. */
struct err *guest_interface_xml(const struct guest_spec *, const struct vif *, char **ret)
    MUST_CHECK;

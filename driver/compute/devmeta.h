#pragma once

/* What a guest is told of its devices: Instance.device_metadata, which the metadata service and
 * config drives show as "devices".
 *
 * An interface is in it if it has a tag or a VLAN, a disk if it has a tag; with the address that
 * libvirt gave it on the guest's PCI bus.  Made when a guest is started and when a device comes;
 * driver/compute/netalloc.c takes an interface out when it goes.
 *
 * Source: nova/virt/libvirt/driver.py (_build_device_metadata and what it calls),
 * nova/virt/netutils.py.
 *
 * Thread-safety: pure. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/libvirt/guest_xml.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

/* *ret is NULL if there is nothing to tell. */
void devmeta_make(const struct guest_info *, const struct vif_list *,
                  const struct virtual_interface_list *, const struct block_device_mapping_list *,
                  struct instance_device_metadata **ret);

/* The same from the guest that is there and conductor's records, into the instance, which the
 * caller saves. */
struct err *devmeta_update(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

#pragma once

/* What a guest is made as: architecture and machine type.
 *
 * Source: nova/virt/libvirt/utils.py get_arch, get_machine_type, get_default_machine_type,
 * driver.py _check_emulation_arch.
 *
 * Thread-safety: pure. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/image_meta.h"

/* "x86_64" or "i686".  ERR_UNSUPPORTED_HARDWARE for an image of another architecture. */
struct err *guest_arch(const struct conf *, const struct image_meta *, const char **ret) MUST_CHECK;
/* The image's hw_machine_type, else what [libvirt]hw_machine_type says of its architecture, else
 * "pc".  Nova writes it to system_metadata "image_hw_machine_type" when a guest is made from an
 * image that does not say, so that it stays. */
char *guest_machine_type(const struct conf *, const struct image_meta *) MUST_CHECK;
/* What the hypervisor calls a server: [DEFAULT]instance_name_template with its number or with
 * "%(uuid)s" and the like; a name that the template asks for and that there is not gives the UUID
 * (nova/objects/instance.py Instance.name). */
char *guest_name(const struct conf *, const struct instance *) MUST_CHECK;

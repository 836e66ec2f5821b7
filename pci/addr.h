#pragma once

/* The address of a PCI device on its host.
 *
 * The text form is "dddd:bb:ss.f" in lower case hexadecimal, as sysfs, libvirt's node devices and
 * the profile of a neutron port (pci_slot) have it.  A domain may have up to eight digits: some
 * bridges (Intel VMD) number theirs from 10000.
 *
 * Source: nova/pci/utils.py parse_address.
 *
 * Thread-safety: a plain value. */

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct pciaddr {
    uint32_t domain;
    uint8_t bus;
    uint8_t slot;     /* 0..31 */
    uint8_t function; /* 0..7 */
};

#define PCIADDR_TEXT_MAX 17 /* "dddddddd:bb:ss.f" and the NUL. */

/* ERR_PARSE for what is not exactly an address; NULL too.  Upper case digits are accepted. */
struct err *pciaddr_parse(const char *text, struct pciaddr *ret) MUST_CHECK;
void pciaddr_format(const struct pciaddr *, char ret[PCIADDR_TEXT_MAX]);
/* Less than, equal to or greater than 0: by domain, bus, slot, function. */
int pciaddr_cmp(const struct pciaddr *, const struct pciaddr *);
static inline bool pciaddr_eq(const struct pciaddr *a, const struct pciaddr *b)
{
    return pciaddr_cmp(a, b) == 0;
}

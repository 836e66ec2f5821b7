#pragma once

/* TCP ports for serial consoles: free ones of [serial_console]port_range on this host.
 *
 * A port that was taken is not given to another guest for as long as its own may need until QEMU
 * has opened it; from then on the kernel knows that it is in use.  So nothing is given back.
 *
 * Source: nova/console/serial.py acquire_port.
 *
 * Thread-safety: from any thread. */

#include "base/conf.h"
#include "base/err.h"

struct serial_ports;

struct serial_ports *serial_ports_new(void) MUST_CHECK;
struct serial_ports *serial_ports_free(struct serial_ports *);

/* Takes n ports for hold_ms.  ERR_SOCKET_PORT_RANGE_EXHAUSTED. */
struct err *serial_ports_take(struct serial_ports *, const struct conf *, size_t n, int64_t hold_ms,
                              int64_t *ret) MUST_CHECK;

#pragma once

/* Network devices of the host's kernel, over rtnetlink.
 *
 * What hybrid plugging needs, and the clean-up of taps.  Each call opens and closes its own socket;
 * the kernel answers at once.
 *
 * Source: os-vif vif_plug_ovs/linux_net.py, os_vif/internal/ip; rtnetlink(7).
 *
 * Thread-safety: from any thread. */

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

bool netdev_exists(const char *name);

/* One that exists is no error, and is left as it is. */
struct err *netdev_add_bridge(const char *name) MUST_CHECK;
/* Both ends; ends of these names that exist are deleted first. */
struct err *netdev_add_veth(const char *name, const char *peer) MUST_CHECK;
/* No such device is no error. */
struct err *netdev_delete(const char *name) MUST_CHECK;

struct err *netdev_set_up(const char *name, bool is_up) MUST_CHECK;
struct err *netdev_set_promisc(const char *name) MUST_CHECK;
struct err *netdev_set_mtu(const char *name, int64_t mtu) MUST_CHECK;
/* Makes the device a port of a Linux bridge. */
struct err *netdev_set_master(const char *name, const char *bridge) MUST_CHECK;

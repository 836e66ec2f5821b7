#pragma once

/* What a server is told of its network, from the network model (array of VIFs, or NULL).
 *
 * What the model lacks is null or left out, as in Nova; only a subnet whose CIDR is none is an
 * error.
 *
 * Source: nova/virt/netutils.py.
 *
 * Thread-safety: pure; strings are borrowed from the model. */

#include "base/err.h"
#include "base/jv.h"

/* network_data.json. */
struct err *metadata_network(struct json_object *network_info, struct json_object **ret) MUST_CHECK;
/* /etc/network/interfaces for the networks whose settings are to be injected, as Nova's
 * interfaces.template has it; NULL if there are none. */
struct err *metadata_interfaces(struct json_object *network_info, char **ret) MUST_CHECK;
/* The first fixed address of version 4 and the first floating one, or NULL. */
void metadata_addresses(struct json_object *network_info, const char **ret_fixed,
                        const char **ret_floating);

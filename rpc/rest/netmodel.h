#pragma once

/* Nova's network model of a server, built from what neutron says.
 *
 * Pure: neutron.c fetches, this puts together, so that recorded answers can be tested.
 *
 * Source: nova/network/neutron.py (_build_network_info_model and what it calls),
 * nova/network/model.py.
 *
 * Thread-safety: none of its own; the JSON belongs to the calling thread. */

#include "base/err.h"
#include "base/jv.h"

/* Arrays as neutron answers them; NULL is an empty one. */
struct netmodel_input {
    struct json_object *ports;        /* Of the server. */
    struct json_object *networks;     /* Of its ports, seen as an administrator. */
    struct json_object *subnets;      /* Of its ports' addresses. */
    struct json_object *floating_ips; /* Of its ports. */
    struct json_object *dhcp_ports;   /* network:dhcp ports of those networks. */
    struct json_object *old;        /* The present model: array of VIFs; only "id" must be there. */
    const char *integration_bridge; /* Where neutron names none. */
};

/* The model: an array of VIFs.  ERR_PARSE for answers without what must be there. */
struct err *netmodel_build(const struct netmodel_input *, struct json_object **ret) MUST_CHECK;

/* Version of an address ("10.0.0.1", "fe80::1"): 4 or 6, 0 if it is none. */
int netmodel_ip_version(const char *address);
/* Whether an address lies in "10.0.0.0/24". */
bool netmodel_ip_in_cidr(const char *address, const char *cidr);

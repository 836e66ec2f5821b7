#pragma once

/* Decisions about one port: may a server have it, and what neutron is told of it.
 *
 * Pure: what neutron answered in, attributes out.  driver/compute/netalloc.c is the one caller.
 *
 * Source: nova/network/neutron.py (_validate_requested_port_ids, _process_security_groups,
 * _create_ports_for_instance, _update_ports_for_instance, _populate_neutron_extension_values,
 * _unbind_ports, _has_resource_request, _get_binding_profile_allocation).
 *
 * Thread-safety: none of its own; the JSON belongs to the calling thread. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/objects/objects.h"

#include <stdbool.h>

/* A string of a port, or NULL. */
const char *netport_str(struct json_object *port, const char *key);

/* Whether a server may take over a port that its user brought: ERR_PORT_NOT_USABLE (another
 * project's), ERR_PORT_IN_USE, ERR_PORT_NOT_USABLE_DNS, ERR_PORT_BINDING_FAILED. */
struct err *netport_check(struct json_object *port, const struct instance *) MUST_CHECK;
struct err *netport_check_binding(struct json_object *port) MUST_CHECK;
/* SR-IOV, vDPA and accelerators: ports that need a device of the host. */
bool netport_needs_pci(struct json_object *port);

/* Whether placement has given something for it; 'is_grouped': neutron has extension
 * port-resource-request-groups. */
bool netport_has_resource_request(struct json_object *port, bool is_grouped);
/* What the binding's profile says of that: a provider, or {group: provider}.
 * ERR_PORT_UPDATE_FAILED if the request does not say which provider it is; spec may be NULL. */
struct err *netport_allocation(struct json_object *port, bool is_grouped,
                               const struct request_spec *spec, struct json_object **ret)
    MUST_CHECK;

/* What the server holds in placement for a port: {provider: {resource class: amount}}, maybe none.
 */
struct json_object *netport_held(struct json_object *port, bool is_grouped) MUST_CHECK;

/* Ids of the groups with these names or ids; a name counts before an id.
 * ERR_SECURITY_GROUP_NOT_FOUND, ERR_NO_UNIQUE_MATCH. */
struct err *netport_group_ids(struct json_object *wanted, struct json_object *groups,
                              struct strv *ret) MUST_CHECK;
/* Whether ports on the network can have the groups: ERR_SECURITY_GROUP_CANNOT_BE_APPLIED. */
struct err *netport_check_groups(struct json_object *network, bool has_groups) MUST_CHECK;
/* Whether neutron tells a DNS service of names on this network: that is done in the user's name. */
bool netport_has_dns_domain(struct json_object *network);

/* Of a port that we make.  'address' may be NULL. */
struct json_object *netport_create_attrs(const struct instance *, const char *network_id,
                                         const char *address, const struct strv *group_ids)
    MUST_CHECK;
/* Of a port that becomes this server's, on this host.  'profile' (borrowed) and 'dns_name' may be
 * NULL: not touched. */
struct json_object *netport_bind_attrs(const struct instance *, const char *host,
                                       struct json_object *profile, const char *dns_name)
    MUST_CHECK;
/* Of a port that is nobody's any more. */
struct json_object *netport_unbind_attrs(struct json_object *port, bool resets_dns_name) MUST_CHECK;

#pragma once

/* Neutron: ports and their bindings, the networks that they are on.
 *
 * Binding calls use [neutron]'s (administrator's) credentials.  Calls with an argument 'user' are
 * made with that user's token, if it has one; NULL: as an administrator.
 *
 * What neutron says about a port that it refuses becomes Nova's own error: ERR_PORT_LIMIT_EXCEEDED,
 * ERR_NO_MORE_FIXED_IPS, ERR_FIXED_IP_ALREADY_IN_USE, ERR_INVALID_INPUT (an address that is not of
 * the network), ERR_PORT_IN_USE (its MAC), ERR_FIXED_IP_INVALID_ON_HOST.
 *
 * Source: nova/network/neutron.py; the Networking API v2.0 reference (ports, bindings extended).
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/rest/session.h"

struct neutron;

/* Consumes the session. */
struct neutron *neutron_new(struct rest_session *) MUST_CHECK;
/* Takes NULL; returns NULL. */
struct neutron *neutron_free(struct neutron *);
static inline void neutron_freep(struct neutron **p)
{
    *p = neutron_free(*p);
}

/* Whether an extension is there: "binding-extended", "dns-integration".  The list is kept for 600
 * s. */
struct err *neutron_has_extension(struct neutron *, const char *alias, bool *ret) MUST_CHECK;

/* Ports of a server: JSON array of ports. */
struct err *neutron_ports_by_device(struct neutron *, const char *device_id,
                                    const char *project_id_or_null, struct json_object **ret)
    MUST_CHECK;
struct err *neutron_port_get(struct neutron *, const char *port_id, struct json_object **ret)
    MUST_CHECK;
/* PUT /ports/{id}; consumes the attributes. */
struct err *neutron_port_update(struct neutron *, const char *port_id, struct json_object *attrs)
    MUST_CHECK;
/* The same with anybody's token; ret_port may be NULL. */
struct err *neutron_port_change(struct neutron *, const struct rctx *user, const char *port_id,
                                struct json_object *attrs, struct json_object **ret_port)
    MUST_CHECK;
/* POST /ports; consumes the attributes. */
struct err *neutron_port_create(struct neutron *, const struct rctx *user,
                                struct json_object *attrs, struct json_object **ret_port)
    MUST_CHECK;
/* No such port is no error. */
struct err *neutron_port_delete(struct neutron *, const struct rctx *user, const char *port_id)
    MUST_CHECK;
/* Ports that have all of the values: pairs of key and value, NULL ends. */
struct err *neutron_ports(struct neutron *, const struct rctx *user, const char *const *filters,
                          struct json_object **ret) MUST_CHECK;

/* Those that a project may use: its own, then the shared ones; or those of 'ids' that the user may
 * see, in the order of the ids.  'ids' may be NULL or empty. */
struct err *neutron_networks_available(struct neutron *, const struct rctx *user,
                                       const char *project_id, const struct strv *ids,
                                       bool only_own_that_are_up, struct json_object **ret)
    MUST_CHECK;
/* The network that neutron makes for a project that has none; ERR_NO_AUTO_NETWORK. */
struct err *neutron_network_auto(struct neutron *, const struct rctx *user, const char *project_id,
                                 struct json_object **ret) MUST_CHECK;
/* Of a network. */
struct err *neutron_subnets_of(struct neutron *, const struct rctx *user, const char *network_id,
                               struct json_object **ret) MUST_CHECK;
/* id and name of a project's groups. */
struct err *neutron_security_groups(struct neutron *, const struct rctx *user,
                                    const char *project_id, struct json_object **ret) MUST_CHECK;

/* Arrays, by id, seen as an administrator. */
struct err *neutron_security_groups_by_id(struct neutron *, const struct strv *ids,
                                          struct json_object **ret) MUST_CHECK;
struct err *neutron_networks(struct neutron *, const struct strv *ids, struct json_object **ret)
    MUST_CHECK;
struct err *neutron_subnets(struct neutron *, const struct strv *ids, struct json_object **ret)
    MUST_CHECK;
/* Of one port; none where neutron has no routers. */
struct err *neutron_floating_ips(struct neutron *, const char *port_id, struct json_object **ret)
    MUST_CHECK;

/* The binding of a port on a host; ERR_NOT_FOUND if there is none. */
struct err *neutron_binding_get(struct neutron *, const char *port_id, const char *host,
                                struct json_object **ret) MUST_CHECK;
/* Makes a host's binding the active one.  Already active, or 409, is success.  After an answer of
 * 5xx, or none, the binding is read: ACTIVE is success, otherwise it is tried again, 3 times, 200
 * ms apart.  ERR_NOT_FOUND: no such binding; ERR_PORT_BINDING_ACTIVATION: anything else. */
struct err *neutron_binding_activate(struct neutron *, const char *port_id, const char *host)
    MUST_CHECK;
/* No such binding is no error. */
struct err *neutron_binding_delete(struct neutron *, const char *port_id, const char *host)
    MUST_CHECK;

/* The whole network model of a server as Nova keeps it in its info cache: JSON array of VIFs, built
 * by rpc/rest/netmodel.h.  The project is the server's: anybody may write a server's id into a port
 * of his own.  'old', which may be NULL, is the present model: its order, its unknown keys and what
 * it says of preserve_on_delete are kept.  Ports that neutron no longer has are dropped, those that
 * 'old' does not have come last. */
struct err *neutron_network_model(struct neutron *, const char *device_id,
                                  const char *project_id_or_null, struct json_object *old,
                                  const char *integration_bridge, struct json_object **ret)
    MUST_CHECK;

#include "rpc/rest/neutron.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "rpc/rest/netmodel.h"

#include <stdlib.h>
#include <string.h>

#define EXTENSIONS_MS      600000 /* [neutron]extension_sync_interval's default */
#define N_IDS              64     /* In one question: the URL stays below 4 KiB. */
#define MAX_PAGES          1000
#define N_ACTIVATE_RETRIES 3
#define ACTIVATE_PAUSE_MS  200

struct neutron {
    struct rest_session *session;
    struct mutex lock;
    struct strv extensions GUARDED_BY(lock);
    int64_t extensions_until_ms GUARDED_BY(lock);
    int64_t no_routers_until_ms GUARDED_BY(lock); /* Neutron has no floating IPs: do not ask. */
};

struct neutron *neutron_new(struct rest_session *session)
{
    struct neutron *n = NEW(struct neutron);

    n->session = session;
    mutex_init(&n->lock);
    return n;
}

struct neutron *neutron_free(struct neutron *n)
{
    if (n) {
        strv_fini(&n->extensions);
        mutex_fini(&n->lock);
        rest_session_free(n->session);
        free(n);
    }
    return NULL;
}

/* Takes one value out of an answer; ret may be NULL. */
static struct err *take(struct json_object *answer, const char *path, const char *key,
                        struct json_object **ret)
{
    struct jv_reader r = jv_reader_init(answer, path);
    struct json_object *value;

    if (!ret) {
        return NULL;
    }
    value = jv_obj(&r, key);
    TRY(jv_finish(&r));
    *ret = json_object_get(value);
    return NULL;
}

/* Sends, and takes one value out of the answer's object. */
static struct err *call(struct neutron *n, const struct rctx *user, const char *method,
                        const char *path, const char *key, struct json_object **ret)
{
    const struct rest_request req = {.method = method, .path = path, .user = user};
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    TRY(rest_call(n->session, &req, &answer));
    return take(answer, path, key, ret);
}

/* -- Lists ----------------------------------------------------------------------------------- */

/* The query of the next page, the caller's; NULL after the last.  What neutron's link names as host
 * is not looked at: it is often one that only users can reach. */
static char *next_page(struct json_object *answer, const char *what)
{
    CLEANUP(freep) char *key = str_printf("%s_links", what);
    struct json_object *links = jv_get(answer, key);

    if (!json_object_is_type(links, json_type_array)) {
        return NULL;
    }
    for (size_t i = 0; i < json_object_array_length(links); i++) {
        struct json_object *link = json_object_array_get_idx(links, i);
        const char *href = json_object_get_string(jv_get(link, "href"));
        const char *query = href ? strchr(href, '?') : NULL;

        if (query && str_eq(json_object_get_string(jv_get(link, "rel")), "next")) {
            return str_dup(query + 1);
        }
    }
    return NULL;
}

/* Appends the elements of all pages of GET /{what}?{query} to a list. */
static struct err *list_into(struct neutron *n, const struct rctx *user, const char *what,
                             const char *query, struct json_object *list)
{
    CLEANUP(freep) char *next = str_dup(query);
    CLEANUP(freep) char *key = str_dup(what); /* security-groups answers security_groups. */

    for (char *dash = strchr(key, '-'); dash; dash = strchr(dash, '-')) {
        *dash = '_';
    }
    for (unsigned page = 0; next && page < MAX_PAGES; page++) {
        CLEANUP(freep) char *path = str_printf("/%s?%s", what, next);
        const struct rest_request req = {.method = "GET", .path = path, .user = user};
        CLEANUP(jv_putp) struct json_object *answer = NULL;
        struct json_object *items;

        TRY(rest_call(n->session, &req, &answer));
        struct jv_reader r = jv_reader_init(answer, path);

        items = jv_arr(&r, key);
        TRY(jv_finish(&r));
        for (size_t i = 0; i < json_object_array_length(items); i++) {
            json_object_array_add(list, json_object_get(json_object_array_get_idx(items, i)));
        }
        free(TAKE(next));
        next = next_page(answer, key);
    }
    return NULL;
}

static struct err *list(struct neutron *n, const struct rctx *user, const char *what,
                        const char *query, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *items = json_object_new_array();

    TRY(list_into(n, user, what, query, items));
    *ret = TAKE(items);
    return NULL;
}

/* All whose 'key' is one of the values, with what else shall hold ("&a=b", or ""). */
static struct err *list_by(struct neutron *n, const struct rctx *user, const char *what,
                           const char *key, const struct strv *values, const char *more,
                           struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *items = json_object_new_array();

    for (size_t i = 0; i < values->n; i += N_IDS) {
        CLEANUP(strbuf_fini) struct strbuf query = {0};

        for (size_t j = i; j < MIN(values->n, i + N_IDS); j++) {
            CLEANUP(freep) char *value = rest_quote(values->items[j]);

            strbuf_addf(&query, "%s%s=%s", j > i ? "&" : "", key, value);
        }
        strbuf_add(&query, more);
        TRY(list_into(n, user, what, query.s, items));
    }
    *ret = TAKE(items);
    return NULL;
}

struct err *neutron_ports_by_device(struct neutron *n, const char *device_id,
                                    const char *project_id_or_null, struct json_object **ret)
{
    CLEANUP(freep) char *device = rest_quote(device_id);
    CLEANUP(freep) char *project = project_id_or_null ? rest_quote(project_id_or_null) : NULL;
    CLEANUP(freep)
    char *query = project ? str_printf("tenant_id=%s&device_id=%s", project, device)
                          : str_printf("device_id=%s", device);

    return list(n, /* user= */ NULL, "ports", query, ret);
}

struct err *neutron_ports(struct neutron *n, const struct rctx *user, const char *const *filters,
                          struct json_object **ret)
{
    CLEANUP(strbuf_fini) struct strbuf query = {0};

    for (size_t i = 0; filters[i]; i += 2) {
        CLEANUP(freep) char *value = rest_quote(filters[i + 1]);

        strbuf_addf(&query, "%s%s=%s", i ? "&" : "", filters[i], value);
    }
    return list(n, user, "ports", query.s, ret);
}

struct err *neutron_networks(struct neutron *n, const struct strv *ids, struct json_object **ret)
{
    return list_by(n, /* user= */ NULL, "networks", "id", ids, "", ret);
}

struct err *neutron_subnets(struct neutron *n, const struct strv *ids, struct json_object **ret)
{
    return list_by(n, /* user= */ NULL, "subnets", "id", ids, "", ret);
}

static struct json_object *with_id(struct json_object *items, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);

        if (str_eq(json_object_get_string(jv_get(item, "id")), id)) {
            return item;
        }
    }
    return NULL;
}

/* Each once, in the order of the ids. */
static struct err *networks_by_id(struct neutron *n, const struct rctx *user,
                                  const struct strv *ids, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *found = NULL;
    CLEANUP(jv_putp) struct json_object *ordered = json_object_new_array();

    TRY(list_by(n, user, "networks", "id", ids, "", &found));
    for (size_t i = 0; i < ids->n; i++) {
        struct json_object *network = with_id(found, ids->items[i]);

        if (network && !with_id(ordered, ids->items[i])) {
            json_object_array_add(ordered, json_object_get(network));
        }
    }
    *ret = TAKE(ordered);
    return NULL;
}

struct err *neutron_networks_available(struct neutron *n, const struct rctx *user,
                                       const char *project_id, const struct strv *ids,
                                       bool only_own_that_are_up, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *networks = json_object_new_array();
    CLEANUP(freep) char *project = rest_quote(project_id);
    CLEANUP(freep)
    char *own = str_printf("tenant_id=%s&shared=False%s", project,
                           only_own_that_are_up ? "&admin_state_up=True" : "");

    if (ids && ids->n > 0) {
        return networks_by_id(n, user, ids, ret);
    }
    TRY(list_into(n, user, "networks", own, networks));
    TRY(list_into(n, user, "networks", "shared=True", networks));
    *ret = TAKE(networks);
    return NULL;
}

struct err *neutron_network_auto(struct neutron *n, const struct rctx *user, const char *project_id,
                                 struct json_object **ret)
{
    CLEANUP(freep) char *project = rest_quote(project_id);
    CLEANUP(freep) char *path = str_printf("/auto-allocated-topology/%s", project);
    CLEANUP(jv_putp) struct json_object *topology = NULL;
    CLEANUP(err_freep)
    struct err *e = call(n, user, "GET", path, "auto_allocated_topology", &topology);

    if (!e) {
        const char *id = json_object_get_string(jv_get(topology, "id"));
        CLEANUP(freep) char *quoted = rest_quote(id ? id : "");
        CLEANUP(freep) char *network = str_printf("/networks/%s", quoted);

        e = call(n, user, "GET", network, "network", ret);
    }
    if (err_is(e, ERR_CONFLICT) || err_is(e, ERR_NOT_FOUND)) {
        return err_context(err_new(ERR_NO_AUTO_NETWORK, "project_id", project_id, NULL), "%s",
                           err_message(e));
    }
    return TAKE(e);
}

struct err *neutron_subnets_of(struct neutron *n, const struct rctx *user, const char *network_id,
                               struct json_object **ret)
{
    CLEANUP(strv_fini) struct strv ids = {0};

    strv_add(&ids, network_id);
    return list_by(n, user, "subnets", "network_id", &ids, "", ret);
}

struct err *neutron_security_groups(struct neutron *n, const struct rctx *user,
                                    const char *project_id, struct json_object **ret)
{
    CLEANUP(freep) char *project = rest_quote(project_id);
    CLEANUP(freep) char *query = str_printf("fields=id&fields=name&tenant_id=%s", project);

    return list(n, user, "security-groups", query, ret);
}

struct err *neutron_security_groups_by_id(struct neutron *n, const struct strv *ids,
                                          struct json_object **ret)
{
    return list_by(n, /* user= */ NULL, "security-groups", "id", ids, "&fields=id&fields=name",
                   ret);
}

static bool may_have_routers(struct neutron *n)
{
    bool ret;

    mutex_lock(&n->lock);
    ret = clock_ms() >= n->no_routers_until_ms;
    mutex_unlock(&n->lock);
    return ret;
}

/* Of several ports; a neutron without routers answers 404 and has none. */
static struct err *floating_ips(struct neutron *n, const struct strv *port_ids,
                                struct json_object **ret)
{
    CLEANUP(err_freep) struct err *e = NULL;

    if (may_have_routers(n)) {
        e = list_by(n, /* user= */ NULL, "floatingips", "port_id", port_ids, "", ret);
        if (!err_is(e, ERR_NOT_FOUND)) {
            return TAKE(e);
        }
        mutex_lock(&n->lock);
        n->no_routers_until_ms = clock_ms() + EXTENSIONS_MS;
        mutex_unlock(&n->lock);
    }
    *ret = json_object_new_array();
    return NULL;
}

struct err *neutron_floating_ips(struct neutron *n, const char *port_id, struct json_object **ret)
{
    CLEANUP(strv_fini) struct strv ids = {0};

    strv_add(&ids, port_id);
    return floating_ips(n, &ids, ret);
}

/* -- Extensions ------------------------------------------------------------------------------ */

static struct err *fetch_extensions(struct neutron *n, struct strv *ret)
{
    CLEANUP(jv_putp) struct json_object *items = NULL;

    TRY(list(n, /* user= */ NULL, "extensions", "fields=alias", &items));
    for (size_t i = 0; i < json_object_array_length(items); i++) {
        const char *alias =
            json_object_get_string(jv_get(json_object_array_get_idx(items, i), "alias"));

        if (alias) {
            strv_add(ret, alias);
        }
    }
    return NULL;
}

struct err *neutron_has_extension(struct neutron *n, const char *alias, bool *ret)
{
    CLEANUP(strv_fini) struct strv fresh = {0};
    bool is_known;

    mutex_lock(&n->lock);
    is_known = clock_ms() < n->extensions_until_ms;
    if (is_known) {
        *ret = strv_has(&n->extensions, alias);
    }
    mutex_unlock(&n->lock);
    if (is_known) {
        return NULL;
    }
    TRY_CTX(fetch_extensions(n, &fresh), "asking for neutron's extensions");
    *ret = strv_has(&fresh, alias);
    mutex_lock(&n->lock);
    strv_fini(&n->extensions);
    n->extensions = fresh;
    n->extensions_until_ms = clock_ms() + EXTENSIONS_MS;
    mutex_unlock(&n->lock);
    fresh = (struct strv){0};
    return NULL;
}

/* -- Ports and bindings ---------------------------------------------------------------------- */

static char *port_path(const char *port_id)
{
    CLEANUP(freep) char *id = rest_quote(port_id);

    return str_printf("/ports/%s", id);
}

static char *binding_path(const char *port_id, const char *host, const char *action)
{
    CLEANUP(freep) char *id = rest_quote(port_id);
    CLEANUP(freep) char *quoted = rest_quote(host);

    return str_printf("/ports/%s/bindings/%s%s", id, quoted, action);
}

struct err *neutron_port_get(struct neutron *n, const char *port_id, struct json_object **ret)
{
    CLEANUP(freep) char *path = port_path(port_id);

    return call(n, /* user= */ NULL, "GET", path, "port", ret);
}

static const char *str_of(struct json_object *obj, const char *key)
{
    return json_object_get_string(jv_get(obj, key));
}

/* The error that Nova makes of neutron's reason (neutron.py _create_port_minimal, _update_port);
 * NULL: of no particular one. */
static struct err *refusal(const char *type, struct json_object *attrs, const char *port_id)
{
    struct json_object *ips = jv_get(attrs, "fixed_ips");
    const char *ip = json_object_is_type(ips, json_type_array)
                         ? str_of(json_object_array_get_idx(ips, 0), "ip_address")
                         : NULL;
    const char *network = str_of(attrs, "network_id");

    if (str_eq(type, "OverQuota")) {
        return err_new(ERR_PORT_LIMIT_EXCEEDED, NULL);
    }
    if (str_eq(type, "IpAddressGenerationFailure")) {
        return err_new(ERR_NO_MORE_FIXED_IPS, "net", network, NULL);
    }
    if (str_eq(type, "IpAddressInUse") || str_eq(type, "IpAddressAlreadyAllocated")) {
        return err_msg(ERR_FIXED_IP_ALREADY_IN_USE, "Fixed IP %s is already in use.",
                       ip ? ip : "?");
    }
    if (str_eq(type, "InvalidIpForNetwork")) {
        return err_msg(ERR_INVALID_INPUT,
                       "Invalid input received: Fixed IP %s is not a valid ip address for network "
                       "%s.",
                       ip ? ip : "?", network ? network : "?");
    }
    if (str_eq(type, "MacAddressInUse")) {
        return err_new(ERR_PORT_IN_USE, "port_id", str_of(attrs, "mac_address"), NULL);
    }
    if (str_eq(type, "HostNotCompatibleWithFixedIps")) {
        return err_new(ERR_FIXED_IP_INVALID_ON_HOST, "port_id", port_id, NULL);
    }
    return NULL;
}

/* POST or PUT of a port; consumes the attributes. */
static struct err *send_port(struct neutron *n, const struct rctx *user, const char *port_id,
                             struct json_object *attrs, struct json_object **ret_port)
{
    CLEANUP(freep) char *path = port_id ? port_path(port_id) : str_dup("/ports");
    CLEANUP(jv_putp) struct json_object *body = json_object_new_object();
    const struct rest_request req = {
        .method = port_id ? "PUT" : "POST", .path = path, .body = body, .user = user};
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    jv_add(body, "port", attrs);
    TRY(rest_send(n->session, &req, &resp));
    if (resp.status >= 200 && resp.status <= 299) {
        return take(resp.body, path, "port", ret_port);
    }
    const char *type = str_of(jv_get(resp.body, "NeutronError"), "type");
    struct err *known = refusal(type, attrs, port_id);

    return known ? err_context(known, "%s", rest_error_text(&resp)) : rest_error(&req, &resp);
}

struct err *neutron_port_update(struct neutron *n, const char *port_id, struct json_object *attrs)
{
    return send_port(n, /* user= */ NULL, port_id, attrs, NULL);
}

struct err *neutron_port_change(struct neutron *n, const struct rctx *user, const char *port_id,
                                struct json_object *attrs, struct json_object **ret_port)
{
    return send_port(n, user, port_id, attrs, ret_port);
}

struct err *neutron_port_create(struct neutron *n, const struct rctx *user,
                                struct json_object *attrs, struct json_object **ret_port)
{
    return send_port(n, user, /* port_id= */ NULL, attrs, ret_port);
}

struct err *neutron_port_delete(struct neutron *n, const struct rctx *user, const char *port_id)
{
    CLEANUP(freep) char *path = port_path(port_id);
    CLEANUP(err_freep) struct err *e = call(n, user, "DELETE", path, NULL, NULL);

    return err_is(e, ERR_NOT_FOUND) ? NULL : TAKE(e);
}

struct err *neutron_binding_get(struct neutron *n, const char *port_id, const char *host,
                                struct json_object **ret)
{
    CLEANUP(freep) char *path = binding_path(port_id, host, "");

    return call(n, /* user= */ NULL, "GET", path, "binding", ret);
}

struct err *neutron_binding_delete(struct neutron *n, const char *port_id, const char *host)
{
    CLEANUP(freep) char *path = binding_path(port_id, host, "");
    CLEANUP(err_freep) struct err *e = call(n, /* user= */ NULL, "DELETE", path, NULL, NULL);

    return err_is(e, ERR_NOT_FOUND) ? NULL : TAKE(e);
}

/* Whether the binding is the active one; what cannot be read is not. */
static bool is_active(struct neutron *n, const char *port_id, const char *host)
{
    CLEANUP(jv_putp) struct json_object *binding = NULL;
    CLEANUP(err_freep) struct err *e = neutron_binding_get(n, port_id, host, &binding);

    return !e && str_eq(json_object_get_string(jv_get(binding, "status")), "ACTIVE");
}

static struct err *activation_error(const char *port_id, const char *host, const char *why)
{
    return err_context(err_new(ERR_PORT_BINDING_ACTIVATION, "port_id", port_id, "host", host, NULL),
                       "%s", why);
}

/* One PUT.  *ret_unsure: it may have been done all the same. */
static struct err *try_activate(struct neutron *n, const char *port_id, const char *host,
                                bool *ret_unsure)
{
    CLEANUP(freep) char *path = binding_path(port_id, host, "/activate");
    const struct rest_request req = {.method = "PUT", .path = path};
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    CLEANUP(err_freep) struct err *e = rest_send(n->session, &req, &resp);
    CLEANUP(freep) char *why = NULL;

    *ret_unsure = e ? err_is(e, ERR_HTTP) : resp.status >= 500;
    if (e) {
        why = err_text(e);
        return activation_error(port_id, host, why);
    }
    if ((resp.status >= 200 && resp.status <= 299) || resp.status == 409) {
        return NULL;
    }
    if (resp.status == 404) {
        return rest_error(&req, &resp);
    }
    why = str_printf("neutron answered %ld: %s", resp.status, rest_error_text(&resp));
    return activation_error(port_id, host, why);
}

/* Neutron answers 500 when two activate the same binding at once, and one of them has done it. */
struct err *neutron_binding_activate(struct neutron *n, const char *port_id, const char *host)
{
    for (unsigned i = 0;; i++) {
        bool is_unsure;
        CLEANUP(err_freep) struct err *e = try_activate(n, port_id, host, &is_unsure);

        if (!e || !is_unsure) {
            return TAKE(e);
        }
        if (is_active(n, port_id, host)) {
            log_info(LOG_REST, "binding of port %s on %s is active in spite of neutron's answer",
                     port_id, host);
            return NULL;
        }
        if (i == N_ACTIVATE_RETRIES) {
            return TAKE(e);
        }
        cancel_sleep(NULL, ACTIVATE_PAUSE_MS);
    }
}

/* -- Network model --------------------------------------------------------------------------- */

static void add_once(struct strv *v, struct json_object *value)
{
    const char *s = json_object_get_string(value);

    if (s && !strv_has(v, s)) {
        strv_add(v, s);
    }
}

/* What else must be asked for. */
struct ids {
    struct strv ports, networks, subnets;
};

static void ids_fini(struct ids *ids)
{
    strv_fini(&ids->ports);
    strv_fini(&ids->networks);
    strv_fini(&ids->subnets);
}

static void ids_of(struct json_object *ports, struct ids *ret)
{
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);
        struct json_object *ips = jv_get(port, "fixed_ips");
        size_t n = json_object_is_type(ips, json_type_array) ? json_object_array_length(ips) : 0;

        add_once(&ret->ports, jv_get(port, "id"));
        add_once(&ret->networks, jv_get(port, "network_id"));
        for (size_t j = 0; j < n; j++) {
            add_once(&ret->subnets, jv_get(json_object_array_get_idx(ips, j), "subnet_id"));
        }
    }
}

struct err *neutron_network_model(struct neutron *n, const char *device_id,
                                  const char *project_id_or_null, struct json_object *old,
                                  const char *integration_bridge, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    CLEANUP(jv_putp) struct json_object *networks = NULL;
    CLEANUP(jv_putp) struct json_object *subnets = NULL;
    CLEANUP(jv_putp) struct json_object *floating = NULL;
    CLEANUP(jv_putp) struct json_object *dhcp_ports = NULL;
    CLEANUP(ids_fini) struct ids ids = {0};
    const char *dhcp = "&device_owner=network%3Adhcp";

    TRY(neutron_ports_by_device(n, device_id, project_id_or_null, &ports));
    ids_of(ports, &ids);
    TRY(neutron_networks(n, &ids.networks, &networks));
    TRY(neutron_subnets(n, &ids.subnets, &subnets));
    if (ids.subnets.n > 0) { /* Addresses: without one there is no DHCP and no floating IP. */
        TRY(floating_ips(n, &ids.ports, &floating));
        TRY(list_by(n, /* user= */ NULL, "ports", "network_id", &ids.networks, dhcp, &dhcp_ports));
    }
    TRY_CTX(netmodel_build(&(struct netmodel_input){.ports = ports,
                                                    .networks = networks,
                                                    .subnets = subnets,
                                                    .floating_ips = floating,
                                                    .dhcp_ports = dhcp_ports,
                                                    .old = old,
                                                    .integration_bridge = integration_bridge},
                           ret),
            "network of %s", device_id);
    return NULL;
}

#include "rpc/rest/netmodel.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define NIC_NAME_LEN 14

static size_t len_of(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static struct json_object *at(struct json_object *array, size_t i)
{
    return json_object_array_get_idx(array, i);
}

static const char *str_of(struct json_object *obj, const char *key)
{
    struct json_object *v = jv_get(obj, key);

    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static bool is_true(struct json_object *obj, const char *key)
{
    return json_object_get_boolean(jv_get(obj, key));
}

/* A copy of a value; a missing one is null. */
static struct json_object *copy_of(struct json_object *obj, const char *key)
{
    return jv_dup(jv_get(obj, key));
}

/* The first element whose 'key' is 'value'. */
static struct json_object *find(struct json_object *array, const char *key, const char *value)
{
    for (size_t i = 0; i < len_of(array); i++) {
        if (str_eq(str_of(at(array, i), key), value)) {
            return at(array, i);
        }
    }
    return NULL;
}

static bool has_equal(struct json_object *array, struct json_object *value)
{
    for (size_t i = 0; i < len_of(array); i++) {
        if (json_object_equal(at(array, i), value)) {
            return true;
        }
    }
    return false;
}

/* Consumes the value; what is there already is not added twice. */
static void add_once(struct json_object *array, struct json_object *value)
{
    if (has_equal(array, value)) {
        json_object_put(value);
    } else {
        json_object_array_add(array, value);
    }
}

int netmodel_ip_version(const char *address)
{
    unsigned char bytes[16];

    if (inet_pton(AF_INET, address, bytes) == 1) {
        return 4;
    }
    return inet_pton(AF_INET6, address, bytes) == 1 ? 6 : 0;
}

/* The address part of "10.0.0.0/24", and how many bits count. */
static bool split_cidr(const char *cidr, unsigned char ret[16], int *ret_version, int64_t *ret_bits)
{
    const char *slash = strchr(cidr, '/');
    CLEANUP(freep) char *base = str_ndup(cidr, slash ? (size_t)(slash - cidr) : strlen(cidr));
    int version = netmodel_ip_version(base);
    int64_t bits = version == 4 ? 32 : 128;

    if (!version || (slash && (!str_to_i64(slash + 1, &bits) || bits < 0)) ||
        bits > (version == 4 ? 32 : 128)) {
        return false;
    }
    inet_pton(version == 4 ? AF_INET : AF_INET6, base, ret);
    *ret_version = version;
    *ret_bits = bits;
    return true;
}

bool netmodel_ip_in_cidr(const char *address, const char *cidr)
{
    unsigned char net[16], ip[16];
    int version;
    int64_t bits;

    if (!split_cidr(cidr, net, &version, &bits) || netmodel_ip_version(address) != version) {
        return false;
    }
    inet_pton(version == 4 ? AF_INET : AF_INET6, address, ip);
    for (int64_t i = 0; i < bits; i++) {
        unsigned mask = 0x80u >> (i % 8);

        if ((net[i / 8] ^ ip[i / 8]) & mask) {
            return false;
        }
    }
    return true;
}

/* An IP of the model.  A gateway may have no address. */
static struct err *make_ip(const char *address, const char *type, struct json_object **ret)
{
    int version = address ? netmodel_ip_version(address) : 0;
    struct json_object *ip;

    if (address && !version) {
        return err_msg(ERR_PARSE, "'%s' is no IP address", address);
    }
    ip = json_object_new_object();
    jv_add_str(ip, "address", address);
    jv_add_str(ip, "type", type);
    jv_add(ip, "version", version ? json_object_new_int(version) : NULL);
    jv_add(ip, "meta", json_object_new_object());
    *ret = ip;
    return NULL;
}

static struct err *add_floating_ips(const struct netmodel_input *in, const char *port_id,
                                    const char *address, struct json_object *list)
{
    for (size_t i = 0; i < len_of(in->floating_ips); i++) {
        struct json_object *fip = at(in->floating_ips, i), *ip = NULL;

        if (str_eq(str_of(fip, "port_id"), port_id) &&
            str_eq(str_of(fip, "fixed_ip_address"), address)) {
            TRY(make_ip(str_of(fip, "floating_ip_address"), "floating", &ip));
            add_once(list, ip);
        }
    }
    return NULL;
}

/* The port's addresses that lie in a subnet.  Nova goes by the address, not by subnet_id. */
static struct err *make_fixed_ips(const struct netmodel_input *in, struct json_object *port,
                                  const char *cidr, struct json_object *list)
{
    struct json_object *fixed_ips = jv_get(port, "fixed_ips");

    for (size_t i = 0; i < len_of(fixed_ips); i++) {
        const char *address = str_of(at(fixed_ips, i), "ip_address");
        struct json_object *ip = NULL, *floating;

        if (!address || !netmodel_ip_in_cidr(address, cidr)) {
            continue;
        }
        TRY(make_ip(address, "fixed", &ip));
        json_object_array_add(list, ip);
        floating = json_object_new_array();
        jv_add(ip, "floating_ips", floating);
        TRY(add_floating_ips(in, str_of(port, "id"), address, floating));
    }
    return NULL;
}

static struct err *make_dns(struct json_object *servers, struct json_object *list)
{
    for (size_t i = 0; i < len_of(servers); i++) {
        struct json_object *ip = NULL;

        TRY(make_ip(json_object_get_string(at(servers, i)), "dns", &ip));
        add_once(list, ip);
    }
    return NULL;
}

static struct err *make_routes(struct json_object *host_routes, struct json_object *list)
{
    for (size_t i = 0; i < len_of(host_routes); i++) {
        struct json_object *gateway = NULL, *route;

        TRY(make_ip(str_of(at(host_routes, i), "nexthop"), "gateway", &gateway));
        route = json_object_new_object();
        jv_add_str(route, "cidr", str_of(at(host_routes, i), "destination"));
        jv_add(route, "gateway", gateway);
        jv_add(route, "interface", NULL);
        jv_add(route, "meta", json_object_new_object());
        add_once(list, route);
    }
    return NULL;
}

/* The address of the last DHCP port in a subnet: with several, Nova's loop ends with that one. */
static const char *dhcp_address(struct json_object *dhcp_ports, const char *network_id,
                                const char *subnet_id)
{
    const char *address = NULL;

    for (size_t i = 0; i < len_of(dhcp_ports); i++) {
        struct json_object *port = at(dhcp_ports, i);
        struct json_object *ip = find(jv_get(port, "fixed_ips"), "subnet_id", subnet_id);

        if (ip && str_eq(str_of(port, "network_id"), network_id)) {
            address = str_of(ip, "ip_address");
        }
    }
    return address;
}

static struct json_object *subnet_meta(const struct netmodel_input *in, struct json_object *subnet)
{
    struct json_object *meta = json_object_new_object();
    const char *mode = str_of(subnet, "ipv6_address_mode");
    const char *dhcp =
        dhcp_address(in->dhcp_ports, str_of(subnet, "network_id"), str_of(subnet, "id"));

    if (!str_is_empty(mode)) {
        jv_add_str(meta, "ipv6_address_mode", mode);
    }
    if (dhcp) {
        jv_add_str(meta, "dhcp_server", dhcp);
    } else if (is_true(subnet, "enable_dhcp")) {
        jv_add_str(meta, "dhcp_server", str_of(subnet, "gateway_ip"));
    }
    return meta;
}

static struct err *make_subnet(const struct netmodel_input *in, struct json_object *port,
                               struct json_object *subnet, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *s = json_object_new_object();
    struct json_object *dns = json_object_new_array(), *ips = json_object_new_array();
    struct json_object *routes = json_object_new_array(), *gateway = NULL;
    const char *cidr = str_of(subnet, "cidr");
    unsigned char net[16];
    int version;
    int64_t bits;

    jv_add(s, "dns", dns);
    jv_add(s, "ips", ips);
    jv_add(s, "routes", routes);
    if (!cidr || !split_cidr(cidr, net, &version, &bits)) {
        return err_msg(ERR_PARSE, "a subnet's cidr is '%s'", cidr ? cidr : "");
    }
    jv_add_str(s, "cidr", cidr);
    jv_add_int(s, "version", version);
    TRY(make_ip(str_of(subnet, "gateway_ip"), "gateway", &gateway));
    jv_add(s, "gateway", gateway);
    TRY(make_dns(jv_get(subnet, "dns_nameservers"), dns));
    TRY(make_routes(jv_get(subnet, "host_routes"), routes));
    TRY(make_fixed_ips(in, port, cidr, ips));
    jv_add(s, "meta", subnet_meta(in, subnet));
    *ret = TAKE(s);
    return NULL;
}

/* The subnets of a port's addresses, in neutron's order. */
static struct err *make_subnets(const struct netmodel_input *in, struct json_object *port,
                                struct json_object *list)
{
    struct json_object *fixed_ips = jv_get(port, "fixed_ips");

    for (size_t i = 0; i < len_of(in->subnets); i++) {
        struct json_object *subnet = at(in->subnets, i), *made = NULL;
        const char *id = str_of(subnet, "id");

        if (id && find(fixed_ips, "subnet_id", id)) {
            TRY_CTX(make_subnet(in, port, subnet, &made), "subnet %s", id);
            json_object_array_add(list, made);
        }
    }
    return NULL;
}

static bool is_l3_type(const char *type)
{
    return str_eq(type, "vxlan") || str_eq(type, "gre") || str_eq(type, "geneve");
}

/* physical_network and tunneled.  A network of several segments has the first physical one. */
static void add_physical(struct json_object *network, struct json_object *meta)
{
    struct json_object *segments = jv_get(network, "segments");

    for (size_t i = 0; i < len_of(segments); i++) {
        const char *name = str_of(at(segments, i), "provider:physical_network");

        if (!str_is_empty(name)) {
            jv_add_str(meta, "physical_network", name);
            jv_add_bool(meta, "tunneled", false);
            return;
        }
    }
    jv_add(meta, "physical_network", copy_of(network, "provider:physical_network"));
    jv_add_bool(meta, "tunneled", is_l3_type(str_of(network, "provider:network_type")));
}

enum bridge_kind { BRIDGE_NONE, BRIDGE_OVS, BRIDGE_LINUX, BRIDGE_DVS, BRIDGE_FASTPATH };

static enum bridge_kind bridge_kind(const char *vif_type, struct json_object *details)
{
    if (str_eq(vif_type, "ovs") || str_eq(vif_type, "agilio_ovs")) {
        return BRIDGE_OVS;
    }
    if (str_eq(vif_type, "bridge")) {
        return BRIDGE_LINUX;
    }
    if (str_eq(vif_type, "dvs")) {
        return BRIDGE_DVS;
    }
    if (str_eq(vif_type, "vhostuser") && is_true(details, "vhostuser_ovs_plug")) {
        return BRIDGE_OVS;
    }
    if (str_eq(vif_type, "vhostuser") && is_true(details, "vhostuser_fp_plug")) {
        return BRIDGE_FASTPATH;
    }
    return BRIDGE_NONE;
}

/* The bridge's name, the caller's; NULL if there is none. */
static char *bridge_name(const struct netmodel_input *in, enum bridge_kind kind,
                         const char *network_id, struct json_object *details)
{
    const char *named = str_of(details, "bridge_name");
    CLEANUP(freep) char *brq = str_printf("brq%s", network_id);

    switch (kind) {
    case BRIDGE_NONE:
        return NULL;
    case BRIDGE_OVS:
        return str_ndup(named ? named : in->integration_bridge, NIC_NAME_LEN);
    case BRIDGE_LINUX:
    case BRIDGE_FASTPATH:
        return str_ndup(named ? named : brq, NIC_NAME_LEN);
    case BRIDGE_DVS:
        return str_dup(network_id);
    }
    return NULL;
}

static struct err *make_network(const struct netmodel_input *in, struct json_object *port,
                                enum bridge_kind kind, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *n = json_object_new_object();
    const char *id = str_of(port, "network_id");
    struct json_object *network = find(in->networks, "id", id);
    struct json_object *subnets = json_object_new_array(), *meta = json_object_new_object();
    CLEANUP(freep) char *bridge = bridge_name(in, kind, id, jv_get(port, "binding:vif_details"));

    jv_add(n, "subnets", subnets);
    jv_add(n, "meta", meta);
    jv_add_str(n, "id", id);
    jv_add_str(n, "bridge", bridge);
    jv_add_str(n, "label", str_of(network, "name"));
    TRY(make_subnets(in, port, subnets));
    jv_add_bool(meta, "injected", false);
    jv_add(meta, "tenant_id", copy_of(network ? network : port, "tenant_id"));
    jv_add(meta, "mtu", copy_of(network, "mtu"));
    add_physical(network, meta);
    if (kind == BRIDGE_LINUX) {
        jv_add_bool(n, "should_create_bridge", true);
    }
    *ret = TAKE(n);
    return NULL;
}

/* What the present model knows and neutron does not. */
static void keep_old(struct json_object *vif, struct json_object *old)
{
    jv_add_bool(vif, "preserve_on_delete", is_true(old, "preserve_on_delete"));
    jv_add(vif, "meta", jv_get(old, "meta") ? copy_of(old, "meta") : json_object_new_object());
    if (!json_object_is_type(old, json_type_object)) {
        return;
    }
    json_object_object_foreach(old, key, value)
    {
        if (!json_object_object_get_ex(vif, key, NULL)) {
            jv_add(vif, key, jv_dup(value));
        }
    }
}

static struct json_object *object_or_empty(struct json_object *obj, const char *key)
{
    struct json_object *v = jv_get(obj, key);

    return json_object_is_type(v, json_type_object) ? jv_dup(v) : json_object_new_object();
}

static struct err *make_vif(const struct netmodel_input *in, struct json_object *port,
                            struct json_object *old, struct json_object **ret)
{
    struct jv_reader r = jv_reader_init(port, "port");
    const char *id = jv_str(&r, "id"), *mac = jv_str(&r, "mac_address");
    const char *status = jv_str(&r, "status");
    bool is_up = jv_bool_or(&r, "admin_state_up", true);

    jv_str(&r, "network_id");
    TRY(jv_finish(&r));
    CLEANUP(jv_putp) struct json_object *vif = json_object_new_object();
    CLEANUP(freep) char *tap = str_printf("tap%s", id);
    CLEANUP(freep) char *devname = str_ndup(tap, NIC_NAME_LEN);
    const char *type = str_of(port, "binding:vif_type");
    const char *vnic_type = str_of(port, "binding:vnic_type");
    enum bridge_kind kind = bridge_kind(type, jv_get(port, "binding:vif_details"));
    struct json_object *network = NULL;

    TRY(make_network(in, port, kind, &network));
    jv_add_str(vif, "id", id);
    jv_add_str(vif, "address", mac);
    jv_add(vif, "network", network);
    jv_add_str(vif, "type", type);
    jv_add(vif, "details", object_or_empty(port, "binding:vif_details"));
    jv_add_str(vif, "devname", devname);
    jv_add_str(vif, "ovs_interfaceid", kind == BRIDGE_OVS ? id : NULL);
    jv_add(vif, "qbh_params", NULL);
    jv_add(vif, "qbg_params", NULL);
    jv_add_bool(vif, "active", !is_up || str_eq(status, "ACTIVE"));
    jv_add_str(vif, "vnic_type", vnic_type ? vnic_type : "normal");
    jv_add(vif, "profile", object_or_empty(port, "binding:profile"));
    jv_add_bool(vif, "delegate_create", true);
    keep_old(vif, old);
    *ret = TAKE(vif);
    return NULL;
}

/* While neutron takes a port from one binding to the next it calls it unbound for a moment: what
 * was known stays until the next look.  Nova stores it, and the server can be neither moved nor
 * plugged. */
static bool is_between_bindings(struct json_object *vif, struct json_object *old)
{
    const char *known = str_of(old, "type");

    return str_eq(str_of(vif, "type"), "unbound") && !str_is_empty(known) &&
           !str_eq(known, "unbound");
}

static struct err *add_vif(const struct netmodel_input *in, struct json_object *port,
                           struct json_object *old, struct json_object *model)
{
    struct json_object *vif = NULL;
    const char *id = str_of(port, "id");

    TRY_CTX(make_vif(in, port, old, &vif), "port %s", id ? id : "without id");
    if (is_between_bindings(vif, old)) {
        jv_putp(&vif);
        vif = jv_dup(old);
    }
    json_object_array_add(model, vif);
    return NULL;
}

struct err *netmodel_build(const struct netmodel_input *in, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *model = json_object_new_array();

    for (size_t i = 0; i < len_of(in->old); i++) {
        const char *id = str_of(at(in->old, i), "id");
        struct json_object *port = id ? find(in->ports, "id", id) : NULL;

        if (port && !find(model, "id", id)) {
            TRY(add_vif(in, port, at(in->old, i), model));
        }
    }
    for (size_t i = 0; i < len_of(in->ports); i++) {
        struct json_object *port = at(in->ports, i);

        if (!find(in->old, "id", str_of(port, "id"))) {
            TRY(add_vif(in, port, /* old= */ NULL, model));
        }
    }
    *ret = TAKE(model);
    return NULL;
}

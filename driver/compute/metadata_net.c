#include "driver/compute/metadata_net.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(struct json_object *obj, const char *key)
{
    return json_object_get_string(jv_get(obj, key));
}

static bool is_set(struct json_object *subnet, const char *meta)
{
    return jv_get(jv_get(subnet, "meta"), meta) != NULL;
}

static bool uses_dhcp(struct json_object *subnet)
{
    return is_set(subnet, "dhcp_server");
}

/* Only the first subnet of each version is told. */
static struct json_object *first_subnet(struct json_object *network, int version)
{
    struct json_object *subnets = jv_get(network, "subnets");

    for (size_t i = 0; i < jv_len(subnets); i++) {
        struct json_object *subnet = jv_at(subnets, i);

        if (json_object_get_int(jv_get(subnet, "version")) == version) {
            return subnet;
        }
    }
    return NULL;
}

static const char *first_address(struct json_object *subnet)
{
    return text_of(jv_at(jv_get(subnet, "ips"), 0), "address");
}

static const char *gateway_of(struct json_object *subnet_or_route)
{
    const char *address = text_of(jv_get(subnet_or_route, "gateway"), "address");

    return str_is_empty(address) ? NULL : address;
}

/* ---- CIDRs ---- */

struct cidr {
    int family;
    unsigned prefix;
    unsigned char address[16], mask[16];
};

static struct err *cidr_parse(const char *text, struct cidr *ret)
{
    CLEANUP(freep) char *address = str_dup(text ? text : "");
    char *slash = strchr(address, '/');
    struct cidr c = {.family = strchr(address, ':') ? AF_INET6 : AF_INET};
    uint64_t bits = c.family == AF_INET ? 32 : 128;
    uint64_t prefix = bits;

    if (slash) {
        *slash = '\0';
    }
    if (inet_pton(c.family, address, c.address) != 1 ||
        (slash && !str_to_u64(slash + 1, &prefix)) || prefix > bits) {
        return err_msg(ERR_PARSE, "network model: '%s' is no CIDR", text ? text : "");
    }
    c.prefix = (unsigned)prefix;
    for (unsigned i = 0; i < c.prefix; i++) {
        c.mask[i / 8] |= (unsigned char)(0x80 >> i % 8);
    }
    *ret = c;
    return NULL;
}

struct ip_text {
    char s[INET6_ADDRSTRLEN];
};

static struct ip_text address_text(int family, const unsigned char *bytes)
{
    struct ip_text t = {""};

    inet_ntop(family, bytes, t.s, sizeof t.s);
    return t;
}

static struct ip_text cidr_netmask(const struct cidr *c)
{
    return address_text(c->family, c->mask);
}

static struct ip_text cidr_network(const struct cidr *c)
{
    unsigned char bytes[16];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = c->address[i] & c->mask[i];
    }
    return address_text(c->family, bytes);
}

/* Networks of one or two addresses have none, which Nova writes as "None". */
static struct ip_text cidr_broadcast(const struct cidr *c)
{
    unsigned char bytes[16];

    if (c->prefix > 30) {
        return (struct ip_text){"None"};
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(c->address[i] | ~c->mask[i]);
    }
    return address_text(c->family, bytes);
}

/* ---- network_data.json ---- */

/* nova/network/model.py LEGACY_EXPOSED_VIF_TYPES: other types are "phy" to guests. */
static const char *const exposed_types[] = {"bridge", "dvs", "hw_veb",    "hyperv",
                                            "ovs",    "tap", "vhostuser", "vif"};

static const char *link_type(struct json_object *vif)
{
    const char *type = text_of(vif, "type");

    for (size_t i = 0; i < ARRAY_SIZE(exposed_types); i++) {
        if (str_eq(type, exposed_types[i])) {
            return exposed_types[i];
        }
    }
    return "phy";
}

/* With DHCP the server is told by DHCP. */
static struct json_object *link_mtu(struct json_object *network)
{
    struct json_object *subnets = jv_get(network, "subnets");

    for (size_t i = 0; i < jv_len(subnets); i++) {
        if (!str_is_empty(text_of(jv_get(jv_at(subnets, i), "meta"), "dhcp_server"))) {
            return NULL;
        }
    }
    return json_object_get(jv_get(jv_get(network, "meta"), "mtu"));
}

static struct json_object *make_link(struct json_object *vif, const char *id)
{
    struct json_object *link = json_object_new_object();

    jv_add_str(link, "id", id);
    jv_add_str(link, "vif_id", text_of(vif, "id"));
    jv_add_str(link, "type", link_type(vif));
    jv_add(link, "mtu", link_mtu(jv_get(vif, "network")));
    jv_add_str(link, "ethernet_mac_address", text_of(vif, "address"));
    return link;
}

static void add_route(struct json_object *routes, const char *network, const char *netmask,
                      const char *gateway)
{
    struct json_object *route = json_object_new_object();

    jv_add_str(route, "network", network);
    jv_add_str(route, "netmask", netmask);
    jv_add_str(route, "gateway", gateway);
    json_object_array_add(routes, route);
}

static struct err *add_routes(struct json_object *subnet, int version, struct json_object *ret)
{
    struct json_object *routes = jv_get(subnet, "routes");
    const char *any = version == 4 ? "0.0.0.0" : "::";

    if (gateway_of(subnet)) {
        add_route(ret, any, any, gateway_of(subnet));
    }
    for (size_t i = 0; i < jv_len(routes); i++) {
        struct json_object *route = jv_at(routes, i);
        struct cidr c;

        TRY(cidr_parse(text_of(route, "cidr"), &c));
        add_route(ret, cidr_network(&c).s, cidr_netmask(&c).s, gateway_of(route));
    }
    return NULL;
}

static void add_dns(struct json_object *subnet, struct json_object *ret)
{
    struct json_object *dns = jv_get(subnet, "dns");

    for (size_t i = 0; i < jv_len(dns); i++) {
        struct json_object *service = json_object_new_object();

        jv_add_str(service, "type", "dns");
        jv_add_str(service, "address", text_of(jv_at(dns, i), "address"));
        json_object_array_add(ret, service);
    }
}

/* The services that none of the networks before this one has. */
static void add_new_services(struct json_object *subnet, struct json_object *ret)
{
    CLEANUP(jv_putp) struct json_object *own = json_object_new_array();
    size_t n_before = jv_len(ret);

    add_dns(subnet, own);
    for (size_t i = 0; i < jv_len(own); i++) {
        bool is_known = false;

        for (size_t k = 0; k < n_before; k++) {
            is_known |= json_object_equal(jv_at(ret, k), jv_at(own, i));
        }
        if (!is_known) {
            json_object_array_add(ret, json_object_get(jv_at(own, i)));
        }
    }
}

struct net {
    struct json_object *network, *subnet;
    int version;
    const char *id, *link_id;
};

/* IPv6 by router advertisements or DHCPv6 has the mode as its type. */
static char *net_type(const struct net *n, bool *ret_has_address)
{
    const char *mode = text_of(jv_get(n->subnet, "meta"), "ipv6_address_mode");

    *ret_has_address = mode || !uses_dhcp(n->subnet);
    if (mode) {
        return str_printf("ipv%d_%s", n->version, mode);
    }
    return str_printf("ipv%d%s", n->version, *ret_has_address ? "" : "_dhcp");
}

static struct err *add_address(const struct net *n, struct json_object *ret)
{
    struct json_object *routes = json_object_new_array();
    struct json_object *services = json_object_new_array();
    struct cidr c = {.family = AF_INET};
    struct err *e = cidr_parse(text_of(n->subnet, "cidr"), &c);

    jv_add_str(ret, "ip_address", first_address(n->subnet));
    jv_add_str(ret, "netmask", cidr_netmask(&c).s);
    jv_add(ret, "routes", routes);
    jv_add_str(ret, "network_id", text_of(n->network, "id"));
    jv_add(ret, "services", services);
    TRY(e);
    TRY(add_routes(n->subnet, n->version, routes));
    add_dns(n->subnet, services);
    return NULL;
}

static struct err *add_net(const struct net *n, struct json_object *ret)
{
    struct json_object *net = json_object_new_object();
    bool has_address;
    CLEANUP(freep) char *type = net_type(n, &has_address);

    json_object_array_add(ret, net);
    jv_add_str(net, "id", n->id);
    jv_add_str(net, "type", type);
    jv_add_str(net, "link", n->link_id);
    if (has_address) {
        return add_address(n, net);
    }
    jv_add_str(net, "network_id", text_of(n->network, "id"));
    return NULL;
}

struct network_data {
    struct json_object *links, *networks, *services;
};

static struct err *add_vif(struct json_object *vif, size_t interface, struct network_data *ret)
{
    struct json_object *network = jv_get(vif, "network");
    const char *name = text_of(vif, "devname");
    CLEANUP(freep)
    char *link_id = str_is_empty(name) ? str_printf("interface%zu", interface) : str_dup(name);

    if (first_subnet(network, 4) || first_subnet(network, 6)) {
        json_object_array_add(ret->links, make_link(vif, link_id));
    }
    for (int version = 4; version <= 6; version += 2) {
        struct json_object *subnet = first_subnet(network, version);
        CLEANUP(freep) char *id = str_printf("network%zu", jv_len(ret->networks));

        if (jv_len(jv_get(subnet, "ips")) == 0) {
            continue;
        }
        TRY(add_net(&(struct net){network, subnet, version, id, link_id}, ret->networks));
        add_new_services(subnet, ret->services);
    }
    return NULL;
}

struct err *metadata_network(struct json_object *network_info, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *doc = json_object_new_object();
    struct network_data data;
    size_t n = 0;

    if (jv_len(network_info) == 0) {
        *ret = TAKE(doc);
        return NULL;
    }
    data = (struct network_data){json_object_new_array(), json_object_new_array(),
                                 json_object_new_array()};
    jv_add(doc, "links", data.links);
    jv_add(doc, "networks", data.networks);
    jv_add(doc, "services", data.services);
    for (size_t i = 0; i < jv_len(network_info); i++) {
        struct json_object *vif = jv_at(network_info, i);

        if (jv_len(jv_get(jv_get(vif, "network"), "subnets")) > 0) {
            TRY_CTX(add_vif(vif, n++, &data), "network data of port %s", text_of(vif, "id"));
        }
    }
    *ret = TAKE(doc);
    return NULL;
}

/* ---- /etc/network/interfaces ---- */

static void add_line(struct strbuf *out, const char *key, const char *value)
{
    strbuf_addf(out, "    %s %s\n", key, value ? value : "None");
}

/* One line for all name servers. */
static void add_nameservers(struct json_object *subnet, struct strbuf *out)
{
    struct json_object *dns = jv_get(subnet, "dns");
    CLEANUP(strv_fini) struct strv all = {0};
    CLEANUP(freep) char *text = NULL;

    for (size_t i = 0; i < jv_len(dns); i++) {
        strv_add(&all, text_of(jv_at(dns, i), "address"));
    }
    if (all.n > 0) {
        text = strv_join(&all, " ");
        add_line(out, "dns-nameservers", text);
    }
}

static struct err *add_stanza(struct json_object *vif, struct json_object *subnet, int version,
                              const char *name, struct strbuf *out)
{
    struct cidr c;

    if (jv_len(jv_get(subnet, "ips")) == 0) {
        return NULL;
    }
    TRY(cidr_parse(text_of(subnet, "cidr"), &c));
    strbuf_addf(out, "iface %s inet%s static\n", name, version == 6 ? "6" : "");
    add_line(out, "hwaddress ether", text_of(vif, "address"));
    add_line(out, "address", first_address(subnet));
    if (version == 4) {
        add_line(out, "netmask", cidr_netmask(&c).s);
        add_line(out, "broadcast", cidr_broadcast(&c).s);
    } else {
        strbuf_addf(out, "    netmask %u\n", c.prefix);
    }
    if (gateway_of(subnet)) {
        add_line(out, "gateway", gateway_of(subnet));
    }
    add_nameservers(subnet, out);
    return NULL;
}

static struct err *add_interface(struct json_object *vif, size_t interface, struct strbuf *out)
{
    struct json_object *network = jv_get(vif, "network");
    CLEANUP(freep) char *name = str_printf("eth%zu", interface);

    strbuf_addf(out, "\nauto %s\n", name);
    TRY(add_stanza(vif, first_subnet(network, 4), 4, name, out));
    return add_stanza(vif, first_subnet(network, 6), 6, name, out);
}

/* Those that get their settings by DHCP are left out altogether. */
static bool is_injected(struct json_object *network)
{
    return json_object_get_boolean(jv_get(jv_get(network, "meta"), "injected")) &&
           !uses_dhcp(first_subnet(network, 4)) && !uses_dhcp(first_subnet(network, 6));
}

struct err *metadata_interfaces(struct json_object *network_info, char **ret)
{
    CLEANUP(strbuf_fini) struct strbuf out = {0};
    size_t n = 0, n_injected = 0;

    strbuf_add(&out, "# Injected by Nova on instance boot\n"
                     "#\n"
                     "# This file describes the network interfaces available on your system\n"
                     "# and how to activate them. For more information, see interfaces(5).\n"
                     "\n"
                     "# The loopback network interface\n"
                     "auto lo\n"
                     "iface lo inet loopback\n");
    for (size_t i = 0; i < jv_len(network_info); i++) {
        struct json_object *vif = jv_at(network_info, i);
        struct json_object *network = jv_get(vif, "network");

        if (jv_len(jv_get(network, "subnets")) == 0) {
            continue;
        }
        if (is_injected(network)) {
            TRY(add_interface(vif, n, &out));
            n_injected++;
        }
        n++;
    }
    *ret = n_injected > 0 ? strbuf_take(&out) : NULL;
    return NULL;
}

/* ---- Addresses ---- */

static const char *first_floating(struct json_object *ip)
{
    return text_of(jv_at(jv_get(ip, "floating_ips"), 0), "address");
}

static void subnet_addresses(struct json_object *subnet, const char **fixed, const char **floating)
{
    struct json_object *ips = jv_get(subnet, "ips");

    for (size_t i = 0; i < jv_len(ips); i++) {
        struct json_object *ip = jv_at(ips, i);

        if (!*fixed && json_object_get_int(jv_get(ip, "version")) == 4) {
            *fixed = text_of(ip, "address");
        }
        if (!*floating) {
            *floating = first_floating(ip);
        }
    }
}

void metadata_addresses(struct json_object *network_info, const char **ret_fixed,
                        const char **ret_floating)
{
    *ret_fixed = NULL;
    *ret_floating = NULL;
    for (size_t i = 0; i < jv_len(network_info); i++) {
        struct json_object *subnets = jv_get(jv_get(jv_at(network_info, i), "network"), "subnets");

        for (size_t k = 0; k < jv_len(subnets); k++) {
            subnet_addresses(jv_at(subnets, k), ret_fixed, ret_floating);
        }
    }
}

#include "driver/compute/netalloc.h"

#include "base/log.h"
#include "base/step.h"
#include "driver/compute/netport.h"
#include "driver/compute/network.h"
#include "rpc/rest/netmodel.h"

#include <stdlib.h>

#define NETWORK_ALLOCATED "network_allocated"
#define NETWORK_NONE      "none"
#define NETWORK_AUTO      "auto"
#define RETRY_MS          1000
#define RETRY_MAX_MS      30000

/* One port that the server shall have. */
struct wish {
    char *network_id, *address, *tag; /* Each may be NULL. */
    char *port_id;                    /* NULL until it is made. */
    bool is_brought;                  /* The user's. */
    bool needs_device;                /* The request names a device or an accelerator. */
    bool is_touched;                  /* Bound, or it may be. */
    struct json_object *network;      /* Borrowed. */
    struct json_object *port;         /* As neutron has told it last; NULL until it is made. */
    struct virtual_interface *row;    /* NULL until it is written. */
};

struct alloc {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    const struct request_spec *spec;
    struct json_object *group_names; /* May be NULL. */
    bool is_attach;
    bool is_auto;
    bool is_unspecified; /* Nobody said which network. */
    bool is_grouped;     /* Ports ask placement for groups of resources. */
    bool has_dns;
    bool is_stored; /* Something of it is in the info cache, or may be. */
    struct wish *wishes;
    size_t n;
    struct json_object *networks; /* Those that the user may use. */
    struct strv group_ids;
    struct vif_list vifs;
};

static void wish_fini(struct wish *w)
{
    free(w->network_id);
    free(w->address);
    free(w->tag);
    free(w->port_id);
    json_object_put(w->port);
    virtual_interface_free(w->row);
}

static void alloc_fini(struct alloc *a)
{
    for (size_t i = 0; i < a->n; i++) {
        wish_fini(&a->wishes[i]);
    }
    free(a->wishes);
    json_object_put(a->networks);
    strv_fini(&a->group_ids);
    vif_list_fini(&a->vifs);
}

static const char *id_of(struct json_object *item)
{
    return netport_str(item, "id");
}

static struct json_object *with_id(struct json_object *list, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);

        if (str_eq(id_of(item), id)) {
            return item;
        }
    }
    return NULL;
}

/* ---- What is asked for ---- */

#define MAYBE(r, field) (network_request_has_##field(r) ? network_request_##field(r) : NULL)

static bool is_single(const struct network_request_list *list, const char *network_id)
{
    return list && network_request_list_n(list) == 1 &&
           str_eq(MAYBE(network_request_list_at(list, 0), network_id), network_id);
}

static void read_wishes(struct alloc *a, const struct network_request_list *requested)
{
    size_t n = requested ? network_request_list_n(requested) : 0;

    a->is_auto = is_single(requested, NETWORK_AUTO);
    a->is_unspecified = n == 0 || a->is_auto;
    a->wishes = NEW_ARRAY(struct wish, n + 1); /* One more for the network that is found. */
    for (size_t i = 0; i < n && !a->is_auto; i++) {
        const struct network_request *r = network_request_list_at(requested, i);
        struct wish w = {.network_id = str_dup(MAYBE(r, network_id)),
                         .port_id = str_dup(MAYBE(r, port_id)),
                         .address = str_dup(MAYBE(r, address)),
                         .tag = str_dup(MAYBE(r, tag)),
                         .is_brought = MAYBE(r, port_id) != NULL,
                         .needs_device = MAYBE(r, pci_request_id) || MAYBE(r, arq_uuid) ||
                                         MAYBE(r, device_profile)};

        if (n == 1 && !w.network_id && !w.port_id && !w.address && !w.needs_device) {
            /* Only a tag, perhaps: it is for the network that is found. */
            a->is_unspecified = true;
        }
        a->wishes[a->n++] = w;
    }
}

static struct err *refuse_device(struct alloc *a, const struct wish *w)
{
    if (a->is_attach) {
        return err_new(ERR_ATTACH_SRIOV_NOT_SUPPORTED, "port_id", w->port_id, "instance_uuid",
                       instance_uuid(a->inst), NULL);
    }
    return err_new(ERR_PORT_UPDATE_FAILED, "port_id", w->port_id, "reason",
                   "ports that need a device of the host are not supported by this compute service",
                   NULL);
}

/* Puts what placement has given for the port into the profile that it will be bound with. */
static struct err *note_allocation(struct alloc *a, struct json_object *port)
{
    struct json_object *allocation = NULL, *profile = jv_get(port, "binding:profile");

    if (!netport_has_resource_request(port, a->is_grouped)) {
        return NULL;
    }
    if (a->is_attach) {
        /* Nova asks placement for more here; for us it is full. */
        return err_new(ERR_INTERFACE_ATTACH_ALLOCATION_FAILED, "instance_uuid",
                       instance_uuid(a->inst), NULL);
    }
    TRY(netport_allocation(port, a->is_grouped, a->spec, &allocation));
    if (!json_object_is_type(profile, json_type_object)) {
        profile = json_object_new_object();
        jv_add(port, "binding:profile", profile);
    }
    jv_add(profile, "allocation", allocation);
    return NULL;
}

static struct err *show_port(struct node *node, const char *port_id, struct json_object **ret)
{
    CLEANUP(err_freep) struct err *e = neutron_port_get(node->neutron, port_id, ret);

    return err_is(e, ERR_NOT_FOUND) ? err_new(ERR_PORT_NOT_FOUND, "port_id", port_id, NULL)
                                    : TAKE(e);
}

/* Read as an administrator: only he sees resource_request. */
static struct err *check_brought(struct alloc *a, struct wish *w)
{
    TRY(show_port(a->node, w->port_id, &w->port));
    TRY(netport_check(w->port, a->inst));
    str_set(&w->network_id, netport_str(w->port, "network_id"));
    if (w->needs_device || netport_needs_pci(w->port)) {
        return refuse_device(a, w);
    }
    return note_allocation(a, w->port);
}

static struct err *check_ports(struct alloc *a)
{
    for (size_t i = 0; i < a->n; i++) {
        struct wish *w = &a->wishes[i];

        if (w->is_brought) {
            TRY(check_brought(a, w));
        } else if (w->needs_device) {
            return refuse_device(a, w);
        }
    }
    return NULL;
}

/* ---- Networks ---- */

/* Those that the wishes name, or all that the project may use. */
static struct err *find_networks(struct alloc *a)
{
    CLEANUP(strv_fini) struct strv ids = {0};
    struct neutron *neutron = a->node->neutron;
    const char *project = instance_project_id(a->inst);

    for (size_t i = 0; i < a->n; i++) {
        if (a->wishes[i].network_id) {
            strv_add(&ids, a->wishes[i].network_id);
        }
    }
    TRY_CTX(neutron_networks_available(neutron, a->ctx, project, &ids, a->is_auto, &a->networks),
            "looking for networks");
    if (json_object_array_length(a->networks) == 0 && a->is_auto) {
        struct json_object *network = NULL;

        TRY(neutron_network_auto(neutron, a->ctx, project, &network));
        json_object_array_add(a->networks, network);
    }
    return NULL;
}

/* The one network that there is for who did not say which. */
static struct err *choose_network(struct alloc *a, bool may_have_none)
{
    size_t n = json_object_array_length(a->networks);

    if (n == 0 && may_have_none) {
        return NULL;
    }
    if (n == 0) {
        return err_new(ERR_INTERFACE_ATTACH_FAILED_NO_NETWORK, "project_id",
                       instance_project_id(a->inst), NULL);
    }
    if (n > 1) {
        return err_msg(ERR_NETWORK_AMBIGUOUS, "Multiple possible networks found, use a Network ID "
                                              "to be more specific.");
    }
    if (a->n == 0) {
        a->wishes[a->n++] = (struct wish){0};
    }
    str_set(&a->wishes[0].network_id, id_of(json_object_array_get_idx(a->networks, 0)));
    return NULL;
}

/* Nova asks its policy network:attach_external_network, by default an administrator's right. */
static struct err *check_external(struct alloc *a)
{
    for (size_t i = 0; i < json_object_array_length(a->networks); i++) {
        struct json_object *network = json_object_array_get_idx(a->networks, i);

        if (!rctx_is_admin(a->ctx) && json_object_get_boolean(jv_get(network, "router:external")) &&
            !json_object_get_boolean(jv_get(network, "shared"))) {
            return err_new(ERR_EXTERNAL_NETWORK_ATTACH_FORBIDDEN, "network_uuid", id_of(network),
                           NULL);
        }
    }
    return NULL;
}

/* Each wish gets its network; Nova passes silently over those that the user does not see, as long
 * as he sees one. */
static struct err *match_networks(struct alloc *a)
{
    size_t kept = 0;

    for (size_t i = 0; i < a->n; i++) {
        struct wish *w = &a->wishes[i];

        w->network = w->network_id ? with_id(a->networks, w->network_id) : NULL;
        if (!w->network && !w->is_brought && w->network_id &&
            json_object_array_length(a->networks) == 0) {
            return err_new(ERR_NETWORK_NOT_FOUND, "network_id", w->network_id, NULL);
        }
    }
    for (size_t i = 0; i < a->n; i++) {
        struct wish *w = &a->wishes[i];

        if (w->network) {
            a->wishes[kept++] = *w;
        } else {
            log_warning(LOG_COMPUTE, "network %s is not there for the project, leaving it out",
                        w->network_id ? w->network_id : "(none)");
            wish_fini(w);
        }
    }
    a->n = kept;
    return NULL;
}

static struct err *check_networks(struct alloc *a)
{
    bool may_have_none = a->n == 0 && !a->is_auto && !a->is_attach;

    TRY(find_networks(a));
    if (a->is_unspecified) {
        TRY(choose_network(a, may_have_none));
    }
    TRY(match_networks(a));
    return check_external(a);
}

/* Neutron gives every port the group "default" by itself. */
static struct err *check_groups(struct alloc *a)
{
    struct json_object *names = a->group_names;
    size_t n = json_object_is_type(names, json_type_array) ? json_object_array_length(names) : 0;
    CLEANUP(jv_putp) struct json_object *groups = NULL;

    if (n == 0 || (n == 1 && str_eq(json_object_get_string(json_object_array_get_idx(names, 0)),
                                    "default"))) {
        return NULL;
    }
    TRY_CTX(
        neutron_security_groups(a->node->neutron, a->ctx, instance_project_id(a->inst), &groups),
        "looking for security groups");
    return netport_group_ids(names, groups, &a->group_ids);
}

static struct err *step_check(void *arg)
{
    struct alloc *a = arg;
    struct neutron *neutron = a->node->neutron;

    TRY(neutron_has_extension(neutron, "dns-integration", &a->has_dns));
    TRY(neutron_has_extension(neutron, "port-resource-request-groups", &a->is_grouped));
    TRY(check_ports(a));
    TRY(check_networks(a));
    return a->n > 0 ? check_groups(a) : NULL;
}

/* ---- What must not be forgotten ---- */

/* {id, preserve_on_delete} of each; with 'only_brought' of the user's ports. */
static struct json_object *stubs(const struct alloc *a, bool only_brought)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < a->n; i++) {
        const struct wish *w = &a->wishes[i];

        if (w->port_id && (w->is_brought || !only_brought)) {
            struct json_object *stub = json_object_new_object();

            jv_add_str(stub, "id", w->port_id);
            jv_add_bool(stub, "preserve_on_delete", w->is_brought);
            json_object_array_add(list, stub);
        }
    }
    return list;
}

/* The user's ports are in the info cache before they are his server's: should this process die in
 * between, whoever deletes the server knows which ports to keep. */
static struct err *step_note(void *arg)
{
    struct alloc *a = arg;
    CLEANUP(jv_putp) struct json_object *ports = json_object_new_array();
    CLEANUP(jv_putp) struct json_object *brought = stubs(a, /* only_brought= */ true);
    CLEANUP(jv_putp) struct json_object *vifs = NULL;

    if (json_object_array_length(brought) == 0) {
        return NULL;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (a->wishes[i].is_brought) {
            json_object_array_add(ports, json_object_get(a->wishes[i].port));
        }
    }
    TRY(netmodel_build(
        &(struct netmodel_input){.ports = ports, .networks = a->networks, .old = brought}, &vifs));
    a->is_stored = true;
    return network_note(a->node, a->ctx, a->inst, vifs);
}

static void undo_note(void *arg)
{
    struct alloc *a = arg;
    CLEANUP(strv_fini) struct strv ids = {0};

    for (size_t i = 0; i < a->n; i++) {
        if (a->wishes[i].port_id) {
            strv_add(&ids, a->wishes[i].port_id);
        }
    }
    if (a->is_stored) {
        err_ignore(network_forget(a->node, a->ctx, a->inst, &ids),
                   "forgetting ports of the server");
    }
}

/* ---- Making ports ---- */

static struct err *make_port(struct alloc *a, struct wish *w)
{
    struct json_object *attrs =
        netport_create_attrs(a->inst, w->network_id, w->address, &a->group_ids);

    TRY_CTX(neutron_port_create(a->node->neutron, a->ctx, attrs, &w->port),
            "making a port on network %s", w->network_id);
    str_set(&w->port_id, id_of(w->port));
    if (!w->port_id) {
        return err_msg(ERR_PARSE, "neutron made a port without id");
    }
    log_info(LOG_COMPUTE, "made port %s on network %s", w->port_id, w->network_id);
    if (netport_has_resource_request(w->port, a->is_grouped)) {
        return err_new(ERR_QOS_NETWORK_NOT_SUPPORTED, "instance_uuid", instance_uuid(a->inst),
                       "network_id", w->network_id, NULL);
    }
    return netport_check_binding(w->port);
}

static struct err *step_create(void *arg)
{
    struct alloc *a = arg;

    for (size_t i = 0; i < a->n; i++) {
        struct wish *w = &a->wishes[i];

        TRY(netport_check_groups(w->network, a->group_ids.n > 0));
        if (!w->is_brought) {
            TRY(make_port(a, w));
        }
    }
    return NULL;
}

static void undo_create(void *arg)
{
    struct alloc *a = arg;

    for (size_t i = 0; i < a->n; i++) {
        const struct wish *w = &a->wishes[i];

        if (!w->is_brought && w->port_id) {
            err_ignore(neutron_port_delete(a->node->neutron, a->ctx, w->port_id),
                       "deleting a port that we made");
        }
    }
}

/* ---- Binding ---- */

static struct err *record_vif(struct alloc *a, struct wish *w)
{
    CLEANUP(virtual_interface_freep) struct virtual_interface *row = virtual_interface_new();
    CLEANUP(freep)
    char *address = str_printf("%s/%s", netport_str(w->port, "mac_address"), w->port_id);

    virtual_interface_set_instance_uuid(row, instance_uuid(a->inst));
    virtual_interface_set_tag(row, w->tag);
    virtual_interface_set_address(row, address);
    virtual_interface_set_uuid(row, w->port_id);
    TRY_CTX(virtual_interface_create(a->node->conductor, a->ctx, row), "recording port %s",
            w->port_id);
    w->row = TAKE(row);
    return NULL;
}

/* Designate's records are the user's: the name is set in his. */
static struct err *name_in_dns(struct alloc *a, const struct wish *w)
{
    const char *hostname = instance_hostname(a->inst);

    if (!a->has_dns || !hostname || !netport_has_dns_domain(w->network)) {
        return NULL;
    }
    struct json_object *attrs = json_object_new_object();

    jv_add_str(attrs, "dns_name", hostname);
    TRY_CTX(neutron_port_change(a->node->neutron, a->ctx, w->port_id, attrs, NULL),
            "giving port %s the DNS name '%s'", w->port_id, hostname);
    return NULL;
}

static struct err *bind_port(struct alloc *a, struct wish *w)
{
    bool sets_dns_name = a->has_dns && !netport_has_dns_domain(w->network);
    struct json_object *profile = w->is_brought ? jv_get(w->port, "binding:profile") : NULL;
    struct json_object *attrs = netport_bind_attrs(
        a->inst, a->node->host, profile, sets_dns_name ? instance_hostname(a->inst) : NULL);
    CLEANUP(jv_putp) struct json_object *bound = NULL;

    w->is_touched = true;
    CLEANUP(err_freep)
    struct err *e =
        neutron_port_change(a->node->neutron, /* user= */ NULL, w->port_id, attrs, &bound);

    if (err_is(e, ERR_NOT_FOUND)) {
        return err_new(ERR_PORT_NOT_FOUND, "port_id", w->port_id, NULL);
    }
    TRY_CTX(TAKE(e), "binding port %s", w->port_id);
    json_object_put(w->port);
    w->port = TAKE(bound);
    TRY(netport_check_binding(w->port));
    TRY(record_vif(a, w));
    return name_in_dns(a, w);
}

static struct err *step_bind(void *arg)
{
    struct alloc *a = arg;

    for (size_t i = 0; i < a->n; i++) {
        TRY(bind_port(a, &a->wishes[i]));
    }
    return NULL;
}

/* The network's dns_domain and whether neutron knows of names decide who resets the port's name
 * (_unbind_ports, _reset_port_dns_name). */
static void unbind_dns(struct node *node, struct json_object *port, bool *ret_ours, bool *ret_users)
{
    CLEANUP(strv_fini) struct strv ids = {0};
    CLEANUP(jv_putp) struct json_object *networks = NULL;
    const char *network_id = netport_str(port, "network_id");
    bool has_dns = false, has_domain = false;
    struct err *e = neutron_has_extension(node->neutron, "dns-integration", &has_dns);

    if (!e && has_dns && network_id) {
        strv_add(&ids, network_id);
        e = neutron_networks(node->neutron, &ids, &networks);
        has_domain = !e && json_object_array_length(networks) > 0 &&
                     netport_has_dns_domain(json_object_array_get_idx(networks, 0));
    }
    err_ignore(e, "asking for a port's DNS domain");
    *ret_ours = has_dns && !has_domain;
    *ret_users = has_dns && has_domain;
}

/* A user's port is his again: not ours to fail about.  One that belongs to somebody else by now is
 * left alone.  It is read as an administrator, since the profile is kept but for Nova's keys, and
 * users do not see it. */
static struct err *unbind_port(struct node *node, const struct rctx *ctx,
                               const struct instance *inst, const char *port_id)
{
    CLEANUP(jv_putp) struct json_object *port = NULL;
    CLEANUP(err_freep) struct err *e = neutron_port_get(node->neutron, port_id, &port);
    bool resets_ours, resets_users;

    if (err_is(e, ERR_NOT_FOUND)) {
        return NULL;
    }
    TRY_CTX(TAKE(e), "reading port %s", port_id);
    const char *device = netport_str(port, "device_id");

    if (!str_is_empty(device) && !str_eq(device, instance_uuid(inst))) {
        return NULL;
    }
    unbind_dns(node, port, &resets_ours, &resets_users);
    e = neutron_port_update(node->neutron, port_id, netport_unbind_attrs(port, resets_ours));
    if (err_is(e, ERR_NOT_FOUND)) {
        return NULL;
    }
    TRY_CTX(TAKE(e), "unbinding port %s", port_id);
    if (resets_users) {
        struct json_object *attrs = json_object_new_object();

        jv_add_str(attrs, "dns_name", "");
        TRY_CTX(neutron_port_change(node->neutron, ctx, port_id, attrs, NULL),
                "taking the DNS name of port %s away", port_id);
    }
    return NULL;
}

static void undo_bind(void *arg)
{
    struct alloc *a = arg;

    for (size_t i = 0; i < a->n; i++) {
        struct wish *w = &a->wishes[i];

        if (w->is_brought && w->is_touched) {
            err_ignore(unbind_port(a->node, a->ctx, a->inst, w->port_id),
                       "giving a user's port back");
        }
        if (w->row) {
            err_ignore(virtual_interface_destroy(a->node->conductor, a->ctx, w->row),
                       "removing the record of a port");
        }
    }
}

/* ---- Storing ---- */

/* Those of the model that are new, in the order of the wishes. */
static struct err *pick_vifs(struct alloc *a, const struct vif_list *model)
{
    a->vifs = (struct vif_list){.items = NEW_ARRAY(struct vif, a->n)};
    for (size_t i = 0; i < a->n; i++) {
        const struct vif *vif = vif_list_find(model, a->wishes[i].port_id);

        if (!vif) {
            return err_new(ERR_PORT_NOT_FOUND, "port_id", a->wishes[i].port_id, NULL);
        }
        TRY(vif_from_json(vif->json, &a->vifs.items[i]));
        a->vifs.n++;
    }
    return NULL;
}

static struct err *step_store(void *arg)
{
    struct alloc *a = arg;
    CLEANUP(jv_putp) struct json_object *added = stubs(a, /* only_brought= */ false);
    CLEANUP(vif_list_fini) struct vif_list model = {0};

    if (a->n == 0) {
        return NULL; /* The project has no network: so be it. */
    }
    a->is_stored = true;
    TRY(network_rebuild(a->node, a->ctx, a->inst, added, /* order= */ NULL, &model));
    return pick_vifs(a, &model);
}

static const struct step alloc_steps[] = {
    {FAULT_network_check, step_check, NULL},        {FAULT_network_note, step_note, undo_note},
    {FAULT_network_make, step_create, undo_create}, {FAULT_network_bind, step_bind, undo_bind},
    {FAULT_network_store, step_store, NULL},
};

static struct err *load(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    static const char *const attrs[] = {"project_id",      "hostname",   "availability_zone",
                                        "system_metadata", "info_cache", NULL};

    TRY(instance_load(node->conductor, ctx, inst, attrs));
    if (str_is_empty(instance_project_id(inst))) {
        return err_msg(ERR_INVALID_INPUT,
                       "Invalid input received: empty project id for instance %s",
                       instance_uuid(inst));
    }
    return NULL;
}

/* The new VIFs; after an error nothing of them is left. */
static struct err *allocate(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const struct network_request_list *requested,
                            struct json_object *groups, const struct request_spec *spec,
                            bool is_attach, struct vif_list *ret)
{
    CLEANUP(alloc_fini)
    struct alloc a = {.node = node,
                      .ctx = ctx,
                      .inst = inst,
                      .spec = spec,
                      .group_names = groups,
                      .is_attach = is_attach};

    read_wishes(&a, requested);
    TRY(step_run(alloc_steps, ARRAY_SIZE(alloc_steps), /* hooks= */ NULL, &a));
    *ret = a.vifs;
    a.vifs = (struct vif_list){0};
    return NULL;
}

/* ---- Ports that are there already ---- */

static bool is_bound_here(struct node *node, struct json_object *port)
{
    const char *type = netport_str(port, "binding:vif_type");

    return str_eq(netport_str(port, "binding:host_id"), node->host) && !str_eq(type, "unbound") &&
           !str_eq(type, "binding_failed");
}

static struct err *rebind_port(struct node *node, struct instance *inst,
                               const struct request_spec *spec, struct json_object *port)
{
    CLEANUP(jv_putp) struct json_object *bound = NULL;
    struct alloc a = {.node = node, .inst = inst, .spec = spec};
    const char *id = id_of(port);

    TRY(neutron_has_extension(node->neutron, "port-resource-request-groups", &a.is_grouped));
    TRY(note_allocation(&a, port));
    struct json_object *attrs =
        netport_bind_attrs(inst, node->host, jv_get(port, "binding:profile"), /* dns_name= */ NULL);

    TRY_CTX(neutron_port_change(node->neutron, /* user= */ NULL, id, attrs, &bound),
            "binding port %s here", id);
    log_warning(LOG_COMPUTE, "port %s was not bound here yet, it is now", id);
    return netport_check_binding(bound);
}

struct err *netalloc_reread(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    CLEANUP(virtual_interface_list_freep) struct virtual_interface_list *rows = NULL;
    CLEANUP(strv_fini) struct strv order = {0};

    TRY(virtual_interfaces_by_instance(node->conductor, ctx, instance_uuid(inst), &rows));
    for (size_t i = 0; i < virtual_interface_list_n(rows); i++) {
        if (virtual_interface_has_uuid(virtual_interface_list_at(rows, i))) {
            strv_add(&order, virtual_interface_uuid(virtual_interface_list_at(rows, i)));
        }
    }
    return network_rebuild(node, ctx, inst, /* added= */ NULL, &order, ret);
}

struct err *netalloc_bind_here(struct node *node, const struct rctx *ctx, struct instance *inst,
                               const struct request_spec *spec, struct vif_list *ret)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);

        if (!is_bound_here(node, port)) {
            TRY(rebind_port(node, inst, spec, port));
        }
    }
    return netalloc_reread(node, ctx, inst, ret);
}

static bool has_network(const struct instance *inst)
{
    return str_ieq(instance_system_metadata_get(inst, NETWORK_ALLOCATED), "true");
}

struct err *netalloc_create(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct network_request_list *requested,
                            struct json_object *security_groups, const struct request_spec *spec,
                            struct vif_list *ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    int64_t n_tries = MAX(conf->dflt.network_allocate_retries, (int64_t)0) + 1;
    int64_t pause_ms = RETRY_MS;

    if (is_single(requested, NETWORK_NONE)) {
        *ret = (struct vif_list){0};
        return NULL;
    }
    TRY(load(node, ctx, inst));
    if (has_network(inst)) {
        /* Another host has given up building the server and left its ports. */
        return netalloc_bind_here(node, ctx, inst, spec, ret);
    }
    for (int64_t i = 1;; i++) {
        CLEANUP(err_freep)
        struct err *e = allocate(node, ctx, inst, requested, security_groups, spec,
                                 /* is_attach= */ false, ret);

        if (!e) {
            instance_system_metadata_put(inst, NETWORK_ALLOCATED, "True");
            return NULL;
        }
        if (i == n_tries) {
            return TAKE(e);
        }
        log_warning(LOG_COMPUTE, "the network cannot be set up: %s, retrying in %lld ms",
                    err_message(e), (long long)pause_ms);
        if (cancel_sleep(node->stopping, pause_ms)) {
            return TAKE(e);
        }
        pause_ms = MIN(pause_ms * 2, (int64_t)RETRY_MAX_MS);
    }
}

/* ---- Release ---- */

/* The user's ports among the server's. */
static void preserved(struct instance *inst, struct strv *ret)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    err_ignore(network_cached_vifs(inst, &vifs), "reading which ports are the user's");
    for (size_t i = 0; i < vifs.n; i++) {
        if (json_object_get_boolean(jv_get(vifs.items[i].json, "preserve_on_delete"))) {
            strv_add(ret, vifs.items[i].id);
        }
    }
}

/* The cache as the database has it: somebody may have attached a port since.  Without it is the end
 * for a server that is deleted, and none for its ports. */
static struct err *refresh_cache(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    static const char *const attrs[] = {"project_id", "info_cache", "system_metadata", NULL};
    struct instance_info_cache *cache;

    TRY(instance_load(node->conductor, ctx, inst, attrs));
    cache = instance_info_cache(inst);
    CLEANUP(err_freep)
    struct err *e = cache ? info_cache_refresh(node->conductor, ctx, cache) : NULL;

    return err_is(e, ERR_INSTANCE_INFO_CACHE_NOT_FOUND) || err_is(e, ERR_INSTANCE_NOT_FOUND)
               ? NULL
               : TAKE(e);
}

static struct err *ports_of(struct node *node, const struct rctx *ctx, const struct instance *inst,
                            struct json_object **ret)
{
    const char *const filters[] = {"tenant_id", instance_project_id(inst), "device_id",
                                   instance_uuid(inst), NULL};

    TRY_CTX(neutron_ports(node->neutron, ctx, filters, ret), "looking for the server's ports");
    return NULL;
}

static struct err *delete_ours(struct node *node, const struct rctx *ctx, struct json_object *ports,
                               const struct strv *users)
{
    struct err *first = NULL;

    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        const char *id = id_of(json_object_array_get_idx(ports, i));

        if (!id || strv_has(users, id)) {
            continue;
        }
        struct err *e = neutron_port_delete(node->neutron, ctx, id);

        if (e && first) {
            err_ignore(e, "deleting a port");
        } else if (e) {
            first = err_context(e, "deleting port %s", id);
        }
    }
    return first;
}

struct err *netalloc_release(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    CLEANUP(strv_fini) struct strv users = {0};

    TRY(refresh_cache(node, ctx, inst));
    preserved(inst, &users);
    TRY(ports_of(node, ctx, inst, &ports));
    for (size_t i = 0; i < users.n; i++) {
        /* Nova goes on too: nothing else depends on it. */
        err_ignore(unbind_port(node, ctx, inst, users.items[i]), "giving a user's port back");
    }
    TRY(delete_ours(node, ctx, ports, &users));
    TRY(virtual_interfaces_delete(node->conductor, ctx, instance_uuid(inst)));
    instance_system_metadata_put(inst, NETWORK_ALLOCATED, "False");
    CLEANUP(err_freep) struct err *e = network_forget(node, ctx, inst, /* port_ids= */ NULL);

    return err_is(e, ERR_INSTANCE_INFO_CACHE_NOT_FOUND) || err_is(e, ERR_INSTANCE_NOT_FOUND)
               ? NULL
               : TAKE(e);
}

struct err *netalloc_unbind_host(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    CLEANUP(strv_fini) struct strv failed = {0};
    bool has_bindings;

    TRY(neutron_has_extension(node->neutron, "binding-extended", &has_bindings));
    if (!has_bindings) {
        return NULL;
    }
    TRY(ports_of(node, ctx, inst, &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        const char *id = id_of(json_object_array_get_idx(ports, i));
        struct err *e = neutron_binding_delete(node->neutron, id, node->host);

        if (e) {
            strv_add(&failed, id);
            err_ignore(e, "deleting a port's binding");
        }
    }
    if (!failed.n) {
        return NULL;
    }
    CLEANUP(freep) char *ids = strv_join(&failed, ", ");

    return err_new(ERR_PORT_BINDING_DELETION, "port_id", ids, "host", node->host, NULL);
}

/* ---- One port ---- */

struct err *netalloc_add_port(struct node *node, const struct rctx *ctx, struct instance *inst,
                              const char *network_id, const char *port_id, const char *requested_ip,
                              const char *tag, struct vif *ret)
{
    CLEANUP(network_request_list_freep)
    struct network_request_list *requested = network_request_list_new();
    struct network_request *r = network_request_new();
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    network_request_set_network_id(r, network_id);
    network_request_set_port_id(r, port_id);
    network_request_set_address(r, requested_ip);
    network_request_set_tag(r, tag);
    network_request_list_add(requested, r);
    TRY(load(node, ctx, inst));
    TRY(allocate(node, ctx, inst, requested, /* groups= */ NULL, /* spec= */ NULL,
                 /* is_attach= */ true, &vifs));
    if (vifs.n != 1) {
        return err_new(ERR_INTERFACE_ATTACH_FAILED, "instance_uuid", instance_uuid(inst), NULL);
    }
    *ret = vifs.items[0];
    vifs.n = 0;
    return NULL;
}

/* Takes the interface out of what the guest is told of its devices (_delete_nic_metadata). */
static bool forget_nic(struct instance_device_metadata *metadata, const char *mac)
{
    size_t n = metadata ? instance_device_metadata_n_devices(metadata) : 0;

    for (size_t i = 0; i < n; i++) {
        struct device_metadata *device = instance_device_metadata_devices_at(metadata, i);
        struct ovo *o = device_metadata_ovo(device);

        if (!ovo_class_is(ovo_class_of(o), &network_interface_metadata_class)) {
            continue;
        }
        struct network_interface_metadata *nic = network_interface_metadata_of(o);

        if (network_interface_metadata_has_mac(nic) &&
            str_ieq(network_interface_metadata_mac(nic), mac)) {
            device_metadata_free(instance_device_metadata_devices_take(metadata, i));
            return true;
        }
    }
    return false;
}

static struct err *remove_record(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *port_id)
{
    static const char *const attrs[] = {"device_metadata", NULL};
    CLEANUP(virtual_interface_freep) struct virtual_interface *row = NULL;

    TRY(virtual_interface_get(node->conductor, ctx, port_id, &row));
    if (!row) {
        return NULL;
    }
    TRY(instance_load(node->conductor, ctx, inst, attrs));
    if (virtual_interface_has_address(row) &&
        forget_nic(instance_device_metadata(inst), virtual_interface_address(row))) {
        TRY(instance_save(node->conductor, ctx, inst, NULL));
    }
    return virtual_interface_destroy(node->conductor, ctx, row);
}

/* What placement has given for a port; read before the port is gone, as an administrator. */
static struct err *read_held(struct node *node, const char *port_id, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *port = NULL;
    CLEANUP(err_freep) struct err *e = neutron_port_get(node->neutron, port_id, &port);
    bool is_grouped;

    if (err_is(e, ERR_NOT_FOUND)) {
        *ret = json_object_new_object();
        return NULL;
    }
    TRY_CTX(TAKE(e), "reading port %s", port_id);
    TRY(neutron_has_extension(node->neutron, "port-resource-request-groups", &is_grouped));
    *ret = netport_held(port, is_grouped);
    return NULL;
}

struct err *netalloc_remove_port(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *port_id)
{
    CLEANUP(strv_fini) struct strv users = {0}, removed = {0};
    CLEANUP(jv_putp) struct json_object *held = NULL;

    TRY(refresh_cache(node, ctx, inst));
    preserved(inst, &users);
    TRY(read_held(node, port_id, &held));
    if (strv_has(&users, port_id)) {
        err_ignore(unbind_port(node, ctx, inst, port_id), "giving a user's port back");
    } else {
        TRY_CTX(neutron_port_delete(node->neutron, ctx, port_id), "deleting port %s", port_id);
    }
    TRY(remove_record(node, ctx, inst, port_id));
    strv_add(&removed, port_id);
    TRY(network_forget(node, ctx, inst, &removed));
    if (json_object_object_length(held) > 0) {
        TRY(placement_drop_resources(node->placement, instance_uuid(inst), held));
    }
    return NULL;
}

/* ---- Addresses ---- */

/* The server's ports that have this, too. */
static struct err *ports_with(struct node *node, const struct rctx *ctx,
                              const struct instance *inst, const char *key, const char *value,
                              struct json_object **ret)
{
    const char *zone =
        instance_has_availability_zone(inst) ? instance_availability_zone(inst) : NULL;
    CLEANUP(freep) char *owner = str_printf("compute:%s", zone ? zone : "None");
    const char *const filters[] = {
        "device_id", instance_uuid(inst), "device_owner", owner, key, value, NULL};

    return neutron_ports(node->neutron, ctx, filters, ret);
}

static struct err *set_addresses(struct node *node, const struct rctx *ctx, const char *port_id,
                                 struct json_object *fixed_ips)
{
    struct json_object *attrs = json_object_new_object();

    jv_add(attrs, "fixed_ips", fixed_ips);
    return neutron_port_change(node->neutron, ctx, port_id, attrs, NULL);
}

static struct json_object *addresses_of(struct json_object *port)
{
    struct json_object *ips = jv_get(port, "fixed_ips");

    return json_object_is_type(ips, json_type_array) ? jv_dup(ips) : json_object_new_array();
}

static struct err *reread(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    return network_refresh(node, ctx, inst, &vifs);
}

/* One of the subnets will do; what neutron says of the others is for the log. */
static bool add_address(struct node *node, const struct rctx *ctx, struct json_object *port,
                        struct json_object *subnets)
{
    for (size_t i = 0; i < json_object_array_length(subnets); i++) {
        struct json_object *ips = addresses_of(port), *ip = json_object_new_object();

        jv_add_str(ip, "subnet_id", id_of(json_object_array_get_idx(subnets, i)));
        json_object_array_add(ips, ip);
        struct err *e = set_addresses(node, ctx, id_of(port), ips);

        if (!e) {
            return true;
        }
        err_ignore(e, "adding an address to a port");
    }
    return false;
}

struct err *netalloc_add_address(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *network_id)
{
    CLEANUP(jv_putp) struct json_object *subnets = NULL;
    CLEANUP(jv_putp) struct json_object *ports = NULL;

    TRY(neutron_subnets_of(node->neutron, ctx, network_id, &subnets));
    TRY(ports_with(node, ctx, inst, "network_id", network_id, &ports));
    for (size_t i = 0; i < json_object_array_length(ports); i++) {
        if (add_address(node, ctx, json_object_array_get_idx(ports, i), subnets)) {
            return reread(node, ctx, inst);
        }
    }
    return err_new(ERR_NETWORK_NOT_FOUND_FOR_INSTANCE, "instance_id", instance_uuid(inst), NULL);
}

struct err *netalloc_remove_address(struct node *node, const struct rctx *ctx,
                                    struct instance *inst, const char *address)
{
    CLEANUP(freep) char *filter = str_printf("ip_address=%s", address);
    CLEANUP(jv_putp) struct json_object *ports = NULL;

    TRY(ports_with(node, ctx, inst, "fixed_ips", filter, &ports));
    if (json_object_array_length(ports) == 0) {
        return err_new(ERR_FIXED_IP_NOT_FOUND, "instance_uuid", instance_uuid(inst), "ip", address,
                       NULL);
    }
    struct json_object *port = json_object_array_get_idx(ports, 0);
    CLEANUP(jv_putp) struct json_object *old = addresses_of(port);
    struct json_object *left = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(old); i++) {
        struct json_object *ip = json_object_array_get_idx(old, i);

        if (!str_eq(netport_str(ip, "ip_address"), address)) {
            json_object_array_add(left, json_object_get(ip));
        }
    }
    TRY_CTX(set_addresses(node, ctx, id_of(port), left), "taking %s from port %s", address,
            id_of(port));
    return reread(node, ctx, inst);
}

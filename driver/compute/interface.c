#include "driver/compute/interface.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/step.h"
#include "driver/compute/devmeta.h"
#include "driver/compute/handlers.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/libvirt/guest.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/xb.h"

#include <stdlib.h>

static struct guest_env env_of(struct node *node)
{
    return (struct guest_env){.lv = node->lv, .watch = node->watch, .stop = node->stopping};
}

/* ---- Out of the guest ---- */

/* libvirt finds the interface by its MAC, in the guest that runs and in its definition, where its
 * address may be another. */
static struct err *detach_xml(const char *mac, char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY(xb_parse("<interface type='ethernet'><mac/></interface>", &doc));
    xb_set_attr(xb_first(xb_root(doc), "mac"), "address", mac);
    *ret = xb_text(doc);
    return NULL;
}

/* What the guest calls it now; NULL if it does not have it. */
static struct err *alias_of(struct node *node, const char *uuid, const char *mac, char **ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    const struct guest_interface *nic;

    TRY(lv_domain_by_uuid(node->lv, uuid, &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &guest));
    nic = guest_info_interface(&guest, mac);
    if (!nic) {
        log_warning(LOG_COMPUTE, "the guest has no interface %s, only unplugging it", mac);
    }
    *ret = nic ? str_dup(nic->alias) : NULL;
    return NULL;
}

static struct err *detach_device(struct node *node, const char *uuid, const struct vif *vif)
{
    const struct guest_env env = env_of(node);
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    int64_t timeout_s = conf->libvirt.device_detach_timeout * conf->libvirt.device_detach_attempts;
    CLEANUP(freep) char *alias = NULL;
    CLEANUP(freep) char *xml = NULL;

    TRY(alias_of(node, uuid, vif->address, &alias));
    TRY(detach_xml(vif->address, &xml));
    return guest_detach_device(&env, uuid, xml, alias, timeout_s);
}

struct err *interface_detach(struct node *node, const char *instance_uuid, const struct vif *vif)
{
    CLEANUP(err_freep) struct err *e = detach_device(node, instance_uuid, vif);

    /* Nova unplugs also what the guest has kept, and cuts it off. */
    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_context(TAKE(e), "detaching port %s", vif->id);
    }
    TRY_CTX(vif_unplug(&node->vif, vif, instance_uuid), "unplugging port %s", vif->id);
    return TAKE(e);
}

/* ---- Attaching ---- */

struct attach {
    struct node *node;
    const struct rctx *ctx;
    struct args_attach_interface *args;
    struct vif vif;
    bool has_port;
};

static struct err *make_port(void *arg)
{
    struct attach *at = arg;
    struct args_attach_interface *a = at->args;

    TRY(netalloc_add_port(at->node, at->ctx, a->instance, a->network_id, a->port_id,
                          a->requested_ip, a->tag, &at->vif));
    at->has_port = true;
    return NULL;
}

static void undo_port(void *arg)
{
    struct attach *at = arg;

    if (at->has_port) {
        err_ignore(netalloc_remove_port(at->node, at->ctx, at->args->instance, at->vif.id),
                   "taking a port back that could not be attached");
    }
}

static struct err *plug(void *arg)
{
    struct attach *at = arg;

    return vif_plug(&at->node->vif, &at->vif, instance_uuid(at->args->instance));
}

static void undo_plug(void *arg)
{
    struct attach *at = arg;

    err_ignore(vif_unplug(&at->node->vif, &at->vif, instance_uuid(at->args->instance)),
               "unplugging a port that could not be attached");
}

static struct err *attach_device(void *arg)
{
    struct attach *at = arg;
    const struct guest_env env = env_of(at->node);
    CLEANUP(freep) char *xml = NULL;

    TRY(spawn_make_interface(at->node, at->ctx, at->args->instance, &at->vif, &xml));
    return guest_attach_device(&env, instance_uuid(at->args->instance), xml);
}

static void undo_device(void *arg)
{
    struct attach *at = arg;
    struct err *e = detach_device(at->node, instance_uuid(at->args->instance), &at->vif);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        e = err_free(e);
    }
    err_ignore(e, "detaching an interface again");
}

static struct err *tell_guest(void *arg)
{
    struct attach *at = arg;

    TRY(devmeta_update(at->node, at->ctx, at->args->instance));
    return instance_save(at->node->conductor, at->ctx, at->args->instance, NULL);
}

static const struct step attach_steps[] = {
    {FAULT_attach_port, make_port, undo_port},
    {FAULT_attach_plug, plug, undo_plug},
    {FAULT_attach_device, attach_device, undo_device},
    {FAULT_attach_metadata, tell_guest, NULL},
};

struct err *compute_attach_interface(struct node *node, const struct rctx *ctx,
                                     struct args_attach_interface *a, struct json_object **ret)
{
    static const char *const attrs[] = {"system_metadata", "metadata",    "device_metadata",
                                        "hostname",        "pci_devices", NULL};
    struct instance *inst = a->instance;
    struct attach at = {.node = node, .ctx = ctx, .args = a};

    TRY(instance_load(node->conductor, ctx, inst, attrs));
    notify_instance(node, ctx, inst, NOTIFY_INTERFACE_ATTACH, NOTIFY_START);
    CLEANUP(err_freep)
    struct err *e = step_run(attach_steps, ARRAY_SIZE(attach_steps), /* hooks= */ NULL, &at);

    if (e && !at.has_port) {
        return TAKE(e); /* What the user asked for cannot be had: he is told why. */
    }
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        log_warning(LOG_COMPUTE, "port %s could not be attached, taken back: %s", at.vif.id, text);
        vif_fini(&at.vif);
        notify_instance(node, ctx, inst, NOTIFY_INTERFACE_ATTACH, NOTIFY_ERROR);
        return err_context(
            err_new(ERR_INTERFACE_ATTACH_FAILED, "instance_uuid", instance_uuid(inst), NULL), "%s",
            text);
    }
    log_info(LOG_COMPUTE, "port %s is attached", at.vif.id);
    notify_instance(node, ctx, inst, NOTIFY_INTERFACE_ATTACH, NOTIFY_END);
    *ret = json_object_get(at.vif.json);
    vif_fini(&at.vif);
    return NULL;
}

/* ---- Detaching ---- */

/* Of the model as the database has it: whoever was before us may have changed it. */
static struct err *find_vif(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const char *port_id, struct vif *ret)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    const struct vif *vif;

    if (instance_info_cache(inst)) {
        TRY(info_cache_refresh(node->conductor, ctx, instance_info_cache(inst)));
    }
    TRY(network_cached_vifs(inst, &vifs));
    vif = vif_list_find(&vifs, port_id);
    if (!vif) {
        return err_msg(ERR_PORT_NOT_FOUND, "Port %s is not attached", port_id);
    }
    return vif_from_json(vif->json, ret);
}

static struct err *detach(struct node *node, const struct rctx *ctx, struct instance *inst,
                          const struct vif *vif)
{
    CLEANUP(err_freep) struct err *e = interface_detach(node, instance_uuid(inst), vif);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        log_warning(LOG_COMPUTE, "port %s stays: %s", vif->id, text);
        return err_context(
            err_new(ERR_INTERFACE_DETACH_FAILED, "instance_uuid", instance_uuid(inst), NULL), "%s",
            text);
    }
    TRY(netalloc_remove_port(node, ctx, inst, vif->id));
    return instance_save(node->conductor, ctx, inst, NULL);
}

struct err *compute_detach_interface(struct node *node, const struct rctx *ctx,
                                     struct args_detach_interface *a, struct json_object **ret)
{
    CLEANUP(vif_fini) struct vif vif = {0};

    (void)ret;
    TRY(find_vif(node, ctx, a->instance, a->port_id, &vif));
    notify_instance(node, ctx, a->instance, NOTIFY_INTERFACE_DETACH, NOTIFY_START);
    TRY(detach(node, ctx, a->instance, &vif));
    log_info(LOG_COMPUTE, "port %s is detached", vif.id);
    notify_instance(node, ctx, a->instance, NOTIFY_INTERFACE_DETACH, NOTIFY_END);
    return NULL;
}

/* ---- Addresses ---- */

/* Nova wants no more than a fresh updated_at here. */
static struct err *touch(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(freep) char *now = clock_iso_utc();

    instance_set_updated_at(inst, now);
    return instance_save(node->conductor, ctx, inst, NULL);
}

struct err *compute_add_fixed_ip_to_instance(struct node *node, const struct rctx *ctx,
                                             struct args_add_fixed_ip_to_instance *a,
                                             struct json_object **ret)
{
    (void)ret;
    notify_instance(node, ctx, a->instance, NOTIFY_CREATE_IP, NOTIFY_START);
    TRY(netalloc_add_address(node, ctx, a->instance, a->network_id));
    TRY(touch(node, ctx, a->instance));
    notify_instance(node, ctx, a->instance, NOTIFY_CREATE_IP, NOTIFY_END);
    return NULL;
}

struct err *compute_remove_fixed_ip_from_instance(struct node *node, const struct rctx *ctx,
                                                  struct args_remove_fixed_ip_from_instance *a,
                                                  struct json_object **ret)
{
    (void)ret;
    notify_instance(node, ctx, a->instance, NOTIFY_DELETE_IP, NOTIFY_START);
    TRY(netalloc_remove_address(node, ctx, a->instance, a->address));
    TRY(touch(node, ctx, a->instance));
    notify_instance(node, ctx, a->instance, NOTIFY_DELETE_IP, NOTIFY_END);
    return NULL;
}

/* libvirt's guests get nothing injected; Nova's driver does nothing either. */
struct err *compute_inject_network_info(struct node *node, const struct rctx *ctx,
                                        struct args_inject_network_info *a,
                                        struct json_object **ret)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    (void)ret;
    return network_refresh(node, ctx, a->instance, &vifs);
}

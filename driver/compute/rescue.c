#include "driver/compute/rescue.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/power.h"
#include "driver/compute/spawn.h"
#include "driver/compute/terminate.h"
#include "driver/compute/usage_audit.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/server_disks.h"

#include <stdlib.h>
#include <string.h>

static const char *const expect_rescuing[] = {"rescuing", NULL};
static const char *const expect_unrescuing[] = {"unrescuing", NULL};

static char *way_back(struct node *node, const char *uuid)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);

    return str_printf("%s/unrescue.xml", dir);
}

bool rescue_has_way_back(struct node *node, const char *instance_uuid)
{
    CLEANUP(freep) char *path = way_back(node, instance_uuid);

    return fs_exists(&fs_real, path);
}

/* ---- Which image ---- */

const char *rescue_image(const struct instance *inst, const char *requested)
{
    const char *base = instance_system_metadata_get(inst, "image_base_image_ref");
    const char *own = instance_has_image_ref(inst) ? instance_image_ref(inst) : NULL;

    if (!str_is_empty(requested)) {
        return requested;
    }
    if (!str_is_empty(base)) {
        return base;
    }
    return str_is_empty(own) ? NULL : own;
}

/* The image API has properties among its members; Nova has them in one. */
static struct json_object *with_properties(struct json_object *image)
{
    struct json_object *all = jv_dup(image), *props = json_object_new_object();

    json_object_object_foreach(image, key, value)
    {
        if (json_object_is_type(value, json_type_string)) {
            jv_add(props, key, json_object_get(value));
        }
    }
    jv_add(all, "properties", props);
    return all;
}

static struct err *read_image(struct node *node, const struct rctx *ctx, const char *id,
                              struct image_meta *ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(jv_putp) struct json_object *image = NULL;

    TRY_CTX(glance_image_get_json(node->glance, ctx, id, &json), "reading the rescue image");
    if (!json_object_is_type(json, json_type_object)) {
        return err_msg(ERR_PARSE, "image %s is no JSON object", id);
    }
    image = with_properties(json);
    return image_meta_of_json(image, ret);
}

/* ---- Into the rescue ---- */

struct rescue {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    const struct args_rescue_instance *a;
    struct image_meta image;
    struct block_device_mapping_list *bdms;
    struct vif_list vifs;
};

static void rescue_fini(struct rescue *r)
{
    image_meta_fini(&r->image);
    block_device_mapping_list_free(r->bdms);
    vif_list_fini(&r->vifs);
}

static struct err *prepare(struct rescue *r)
{
    static const char *const attrs[] = {"system_metadata", "image_ref", NULL};
    const char *image;

    TRY(instance_load(r->node->conductor, r->ctx, r->inst, attrs));
    TRY(bdms_by_instance(r->node->conductor, r->ctx, instance_uuid(r->inst), &r->bdms));
    TRY(terminate_check_volumes(r->bdms));
    image = rescue_image(r->inst, r->a->rescue_image_ref);
    if (!image) {
        return err_new(ERR_INSTANCE_NOT_RESCUABLE, "instance_id", instance_uuid(r->inst), "reason",
                       "There is no image to boot from.", NULL);
    }
    TRY_CTX(network_refresh(r->node, r->ctx, r->inst, &r->vifs), "reading the server's network");
    return read_image(r->node, r->ctx, image, &r->image);
}

static struct spawn spawn_of(const struct rescue *r, bool is_rescue)
{
    return (struct spawn){.node = r->node,
                          .ctx = r->ctx,
                          .inst = r->inst,
                          .bdms = r->bdms,
                          .vifs = &r->vifs,
                          .admin_pass = is_rescue ? r->a->rescue_password : NULL,
                          .rescue = is_rescue ? &r->image : NULL};
}

/* The guest is off: what libvirt has is its definition. */
static struct err *keep_way_back(struct rescue *r)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *path = way_back(r->node, instance_uuid(r->inst));
    struct spawn plain = spawn_of(r, /* is_rescue= */ false);
    CLEANUP(err_freep)
    struct err *e = lv_domain_by_uuid(r->node->lv, instance_uuid(r->inst), &domain);

    if (!e) {
        e = lv_domain_xml(domain, /* is_migratable= */ false, &xml);
    } else if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        err_free(TAKE(e));
        e = spawn_make_xml(&plain, &xml);
    }
    TRY_CTX(TAKE(e), "reading the guest's XML");
    if (strstr(xml, "/disk.rescue") && rescue_has_way_back(r->node, instance_uuid(r->inst))) {
        return NULL; /* A rescue was cut off, and this is its guest. */
    }
    return fs_write_atomic(&fs_real, path, xml, strlen(xml), 0600);
}

static struct err *enter(struct rescue *r)
{
    const struct spawn s = spawn_of(r, /* is_rescue= */ true);

    TRY(power_off_guest(r->node, r->inst, r->a->clean_shutdown));
    TRY(keep_way_back(r));
    TRY(spawn_make_disks(&s));
    return spawn_start_guest(&s);
}

/* compute.instance.exists, of the period that goes on. */
static void tell_usage(struct rescue *r)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(r->node->conf);
    int64_t begin_s, end_s, now_s = clock_wall_s();
    struct err *e =
        usage_audit_period(conf->dflt.instance_usage_audit_period, now_s, &begin_s, &end_s);

    if (e) {
        err_ignore(e, "telling of a server's usage");
        return;
    }
    notify_usage(r->node, r->ctx, r->inst, end_s, now_s);
}

static struct err *record(struct rescue *r)
{
    CLEANUP(freep) char *now = clock_iso_utc();

    tell_usage(r);
    instance_set_vm_state(r->inst, "rescued");
    instance_set_task_state(r->inst, NULL);
    TRY(power_look(r->node, r->inst));
    instance_set_launched_at(r->inst, now);
    return instance_save(r->node->conductor, r->ctx, r->inst, expect_rescuing);
}

/* Consumes e. */
static struct err *not_rescuable(struct rescue *r, struct err *e_)
{
    CLEANUP(err_freep) struct err *e = power_or_error(r->node, r->ctx, r->inst, e_);

    if (err_is(e, ERR_CANCELLED)) {
        return TAKE(e);
    }
    CLEANUP(freep) char *text = err_text(e);
    CLEANUP(freep) char *reason = str_printf("Driver Error: %s", err_message(e));

    log_error(LOG_COMPUTE, "rescuing the server: %s", text);
    return err_new(ERR_INSTANCE_NOT_RESCUABLE, "instance_id", instance_uuid(r->inst), "reason",
                   reason, NULL);
}

struct err *compute_rescue_instance(struct node *node, const struct rctx *ctx,
                                    struct args_rescue_instance *a, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(ctx);
    CLEANUP(rescue_fini)
    struct rescue r = {.node = node, .ctx = admin, .inst = a->instance, .a = a};
    struct err *e;

    (void)ret;
    log_info(LOG_COMPUTE, "rescuing");
    TRY(prepare(&r));
    const struct notify_more more = {.rescue_image_name = r.image.name ? r.image.name : "",
                                     .rescue_image_ref = a->rescue_image_ref};

    notify_instance_more(node, admin, a->instance, NOTIFY_RESCUE, NOTIFY_START, &more);
    e = enter(&r);
    if (e) {
        return not_rescuable(&r, e);
    }
    TRY(record(&r));
    notify_instance_more(node, admin, a->instance, NOTIFY_RESCUE, NOTIFY_END, &more);
    return NULL;
}

/* ---- Out of it ---- */

/* Without the XML from before the guest is made from the server's records, as in a hard reboot. */
static struct err *leave(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    const struct guest_env env = power_env(node);
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep) char *path = way_back(node, instance_uuid(inst));
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &xml, NULL);

    if (err_is(e, ERR_NOT_FOUND)) {
        log_warning(LOG_COMPUTE, "the guest's XML from before the rescue is gone, making it anew");
        TRY(spawn_hard_reboot(&(struct spawn){.node = node, .ctx = ctx, .inst = inst}));
    } else {
        TRY(TAKE(e));
        TRY(guest_power_off(&env, instance_uuid(inst)));
        TRY_CTX(guest_start(&env, xml, /* is_paused= */ false, &domain), "ending the rescue");
        TRY(fs_remove_all(&fs_real, path));
    }
    server_disks_remove_rescue(conf, instance_uuid(inst));
    return NULL;
}

struct err *rescue_undo(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(ctx);
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    log_info(LOG_COMPUTE, "ending the rescue");
    TRY_CTX(network_refresh(node, admin, inst, &vifs), "reading the server's network");
    notify_instance(node, admin, inst, NOTIFY_UNRESCUE, NOTIFY_START);
    TRY(power_or_error(node, admin, inst, leave(node, admin, inst)));
    instance_set_vm_state(inst, "active");
    instance_set_task_state(inst, NULL);
    TRY(power_look(node, inst));
    TRY(instance_save(node->conductor, admin, inst, expect_unrescuing));
    notify_instance(node, admin, inst, NOTIFY_UNRESCUE, NOTIFY_END);
    return NULL;
}

struct err *compute_unrescue_instance(struct node *node, const struct rctx *ctx,
                                      struct args_unrescue_instance *a, struct json_object **ret)
{
    (void)ret;
    return rescue_undo(node, ctx, a->instance);
}

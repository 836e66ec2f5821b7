/* What is asked of a guest's agent or monitor, and of the host as a machine.
 *
 * Source: nova/compute/manager.py set_admin_password, trigger_crash_dump, host_power_action,
 * host_maintenance_mode; nova/virt/libvirt/driver.py. */

#include "base/base64.h"
#include "base/log.h"
#include "base/seal.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"
#include "driver/libvirt/image_meta.h"

#include <string.h>

static bool is_libvirt(const struct err *e, const char *name)
{
    return e && str_eq(err_get(e, "name"), name);
}

/* ---- Password ---- */

/* nova/api/metadata/password.py: the metadata service puts the parts together. */
#define N_PARTS  4
#define PART_LEN 255

static const char *admin_user(const struct instance *inst, const struct image_meta *image)
{
    const char *user = image_meta_prop(image, "os_admin_user");

    if (!str_is_empty(user)) {
        return user;
    }
    return str_eq(instance_os_type(inst), "windows") ? "Administrator" : "root";
}

static struct err *not_running(const struct instance *inst)
{
    CLEANUP(freep) char *reason = str_printf("instance %s is not running", instance_uuid(inst));

    return err_new(ERR_SET_PASSWORD_FAILED, "instance", instance_uuid(inst), "reason", reason,
                   NULL);
}

/* For "nova get-password": the password, readable for who has the server's key, in its metadata. */
static struct err *keep_sealed(struct instance *inst, const char *password)
{
    const char *key = instance_has_key_data(inst) ? instance_key_data(inst) : NULL;
    CLEANUP(freep) char *sealed = NULL;
    size_t len = 0;

    if (!key || !str_starts(key, "ssh-rsa")) {
        return NULL;
    }
    TRY(seal_ssh_rsa(key, password, &sealed, &len));
    CLEANUP(freep) char *text = base64_encode(sealed, len);

    for (size_t i = 0, at = 0; i < N_PARTS; i++) {
        size_t part_len = MIN(strlen(text + at), (size_t)PART_LEN);
        CLEANUP(freep) char *name = str_printf("password_%zu", i);
        CLEANUP(freep) char *part = str_ndup(text + at, part_len);

        instance_system_metadata_put(inst, name, part);
        at += part_len;
    }
    return NULL;
}

static struct err *set_in_guest(struct node *node, struct instance *inst, const char *password)
{
    CLEANUP(image_meta_fini) struct image_meta image = {0};
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    TRY(image_meta_of_instance(inst, &image));
    if (!image_meta_bool(&image, "hw_qemu_guest_agent", false)) {
        return err_new(ERR_QEMU_GUEST_AGENT_NOT_ENABLED, NULL);
    }
    TRY(lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain));
    TRY(lv_domain_set_user_password(domain, admin_user(inst, &image), password));
    return keep_sealed(inst, password);
}

/* The user is told nothing of it, nor is the log if the password is in it. */
static struct err *password_error(const struct instance *inst, const char *password,
                                  const struct err *e)
{
    CLEANUP(freep) char *said = err_text(e);

    if (err_is(e, ERR_QEMU_GUEST_AGENT_NOT_ENABLED)) {
        return err_dup(e);
    }
    if (is_libvirt(e, "VIR_ERR_AGENT_UNRESPONSIVE")) {
        return err_msg(ERR_NOT_IMPLEMENTED, "set_admin_password is not implemented by this driver "
                                            "or guest instance.");
    }
    log_error(LOG_COMPUTE, "setting the administrator's password failed: %s",
              strstr(said, password) ? err_class(e) : said);
    return err_new(ERR_SET_PASSWORD_FAILED, "instance", instance_uuid(inst), "reason",
                   "error setting admin password", NULL);
}

static struct err *end_task(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    static const char *const expected[] = {"updating_password", NULL};

    instance_set_task_state(inst, NULL);
    return instance_save(node->conductor, ctx, inst, expected);
}

struct err *compute_set_admin_password(struct node *node, const struct rctx *ctx,
                                       struct args_set_admin_password *a, struct json_object **ret)
{
    static const char *const attrs[] = {"system_metadata", "os_type", "image_ref", "key_data",
                                        NULL};
    struct instance *inst = a->instance;
    int64_t power = POWER_NOSTATE;

    (void)ret;
    TRY(instance_load(node->conductor, ctx, inst, attrs));
    CLEANUP(err_freep) struct err *e = lifecycle_power_state(node, instance_uuid(inst), &power);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    if (power != POWER_RUNNING) {
        TRY(end_task(node, ctx, inst));
        return not_running(inst);
    }
    e = err_free(e);
    const char *password = a->new_pass ? a->new_pass : "";

    e = set_in_guest(node, inst, password);
    if (!e) {
        log_info(LOG_COMPUTE, "the administrator's password is set");
        return end_task(node, ctx, inst);
    }
    struct err *told = password_error(inst, password, e);

    /* What is left to the dispatcher, as in Nova: it takes the task back whatever it finds. */
    if (!err_is(told, ERR_SET_PASSWORD_FAILED)) {
        err_ignore(end_task(node, ctx, inst), "ending the task");
    }
    return told;
}

/* ---- Crash dump ---- */

static struct err *inject_nmi(struct node *node, const struct instance *inst)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    TRY(lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain));
    CLEANUP(err_freep) struct err *e = lv_domain_inject_nmi(domain);

    if (is_libvirt(e, "VIR_ERR_NO_SUPPORT")) {
        return err_new(ERR_TRIGGER_CRASH_DUMP_NOT_SUPPORTED, NULL);
    }
    if (is_libvirt(e, "VIR_ERR_OPERATION_INVALID")) {
        return err_new(ERR_INSTANCE_NOT_RUNNING, "instance_id", instance_uuid(inst), NULL);
    }
    return err_context(TAKE(e), "injecting an NMI");
}

struct err *compute_trigger_crash_dump(struct node *node, const struct rctx *ctx,
                                       struct args_trigger_crash_dump *a, struct json_object **ret)
{
    (void)ret;
    notify_instance(node, ctx, a->instance, NOTIFY_CRASH_DUMP, NOTIFY_START);
    TRY(inject_nmi(node, a->instance));
    log_info(LOG_COMPUTE, "the guest got an NMI, to make it write a dump");
    notify_instance(node, ctx, a->instance, NOTIFY_CRASH_DUMP, NOTIFY_END);
    return NULL;
}

/* ---- The host ---- */

/* Nova's libvirt driver has neither; the exception is without a text there. */
struct err *compute_host_power_action(struct node *node, const struct rctx *ctx,
                                      struct args_host_power_action *a, struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)a;
    (void)ret;
    return err_msg(ERR_NOT_IMPLEMENTED, "%s", "");
}

struct err *compute_host_maintenance_mode(struct node *node, const struct rctx *ctx,
                                          struct args_host_maintenance_mode *a,
                                          struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)a;
    (void)ret;
    return err_msg(ERR_NOT_IMPLEMENTED, "%s", "");
}

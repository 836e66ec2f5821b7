#include "driver/compute/power.h"

#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"

#include <string.h>

#define EXPECT(...) ((const char *const[]){__VA_ARGS__, NULL})

struct guest_env power_env(struct node *node)
{
    return (struct guest_env){.lv = node->lv, .watch = node->watch, .stop = node->stopping};
}

/* ---- Records ---- */

struct err *power_look(struct node *node, struct instance *inst)
{
    int64_t power = POWER_NOSTATE;
    CLEANUP(err_freep) struct err *e = lifecycle_power_state(node, instance_uuid(inst), &power);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    instance_set_power_state(inst, power);
    return NULL;
}

static bool is_running(const struct instance *inst)
{
    return instance_power_state(inst) == POWER_RUNNING;
}

void power_set_error(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    instance_set_vm_state(inst, "error");
    struct err *e = instance_save(node->conductor, ctx, inst, NULL);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        e = err_free(e);
    }
    err_ignore(e, "putting the server in error");
}

/* The service stops, or the server is being deleted: nothing has gone wrong with the guest. */
static bool is_interruption(struct node *node, const struct err *e)
{
    return (err_is(e, ERR_CANCELLED) && cancel_is_set(node->stopping)) ||
           err_is(e, ERR_UNEXPECTED_TASK_STATE) || err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE);
}

struct err *power_or_error(struct node *node, const struct rctx *ctx, struct instance *inst,
                           struct err *e)
{
    if (!e || is_interruption(node, e) || err_is(e, ERR_NOT_IMPLEMENTED)) {
        return e; /* As it was; the wrapper ends the task. */
    }
    log_error(LOG_COMPUTE, "the server's state is now error");
    power_set_error(node, ctx, inst);
    return e;
}

/* ---- Off ---- */

static struct err *shutdown_times(struct node *node, struct instance *inst, int64_t *ret_timeout_s,
                                  int64_t *ret_retry_s)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const char *text;

    TRY(instance_load(node->conductor, ctx, inst, EXPECT("system_metadata")));
    text = instance_system_metadata_get(inst, "image_os_shutdown_timeout");
    *ret_retry_s = conf->compute.shutdown_retry_interval;
    if (!text) {
        *ret_timeout_s = conf->dflt.shutdown_timeout;
    } else if (!str_to_i64(text, ret_timeout_s)) {
        *ret_timeout_s = conf->dflt.shutdown_timeout;
        log_warning(LOG_COMPUTE, "the image's os_shutdown_timeout is no number, using %lld s",
                    (long long)*ret_timeout_s);
    }
    return NULL;
}

struct err *power_off_guest(struct node *node, struct instance *inst, bool is_clean)
{
    const struct guest_env env = power_env(node);
    int64_t timeout_s = 0, retry_s = 0;
    bool is_off;

    if (is_clean) {
        TRY(shutdown_times(node, inst, &timeout_s, &retry_s));
    }
    if (timeout_s > 0) {
        TRY(guest_shutdown(&env, instance_uuid(inst), timeout_s, retry_s, &is_off));
    }
    return guest_power_off(&env, instance_uuid(inst));
}

/* ---- What most verbs are: do it, and record what it has become ---- */

struct change {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    const char *vm_state; /* Afterwards; whoever acts may know better. */
};

struct verb {
    const char *what;
    enum notify_action notify;
    const char *task_state; /* Of the API. */
    const char *vm_state;
    bool is_elevated;
    struct err *(*act)(struct change *);
};

static struct err *record(struct change *c, const char *const *expected)
{
    TRY(power_look(c->node, c->inst));
    instance_set_vm_state(c->inst, c->vm_state);
    instance_set_task_state(c->inst, NULL);
    return instance_save(c->node->conductor, c->ctx, c->inst, expected);
}

static struct err *run(struct node *node, const struct rctx *ctx, struct instance *inst,
                       const struct verb *verb)
{
    CLEANUP(rctx_freep)
    struct rctx *own = verb->is_elevated ? rctx_elevated(ctx) : rctx_ref(ctx);
    struct change c = {.node = node, .ctx = own, .inst = inst, .vm_state = verb->vm_state};

    log_info(LOG_COMPUTE, "%s", verb->what);
    notify_instance(node, own, inst, verb->notify, NOTIFY_START);
    TRY(verb->act(&c));
    TRY(record(&c, EXPECT(verb->task_state)));
    notify_instance(node, own, inst, verb->notify, NOTIFY_END);
    return NULL;
}

/* ---- Stop, soft delete ---- */

static bool is_off(const struct instance *inst)
{
    int64_t power = instance_power_state(inst);

    return power == POWER_NOSTATE || power == POWER_SHUTDOWN || power == POWER_CRASHED;
}

struct err *power_stop(struct node *node, const struct rctx *ctx, struct instance *inst,
                       bool is_clean)
{
    struct change c = {.node = node, .ctx = ctx, .inst = inst, .vm_state = "stopped"};
    bool was_off;

    log_info(LOG_COMPUTE, "stopping");
    /* A look first: of a guest that is off already, somebody else may have ended the task. */
    TRY(power_look(node, inst));
    was_off = is_off(inst);
    notify_instance(node, ctx, inst, NOTIFY_POWER_OFF, NOTIFY_START);
    TRY(power_off_guest(node, inst, is_clean));
    TRY(record(&c, was_off ? EXPECT("powering-off", "") : EXPECT("powering-off")));
    notify_instance(node, ctx, inst, NOTIFY_POWER_OFF, NOTIFY_END);
    return NULL;
}

struct err *compute_stop_instance(struct node *node, const struct rctx *ctx,
                                  struct args_stop_instance *a, struct json_object **ret)
{
    (void)ret;
    return power_stop(node, ctx, a->instance, a->clean_shutdown);
}

static struct err *soft_delete(struct change *c)
{
    TRY(power_off_guest(c->node, c->inst, /* is_clean= */ false));
    return record(c, EXPECT("soft-deleting"));
}

struct err *compute_soft_delete_instance(struct node *node, const struct rctx *ctx,
                                         struct args_soft_delete_instance *a,
                                         struct json_object **ret)
{
    struct change c = {.node = node, .ctx = ctx, .inst = a->instance, .vm_state = "soft-delete"};
    struct err *e;

    (void)ret;
    log_info(LOG_COMPUTE, "soft-deleting");
    notify_instance(node, ctx, a->instance, NOTIFY_SOFT_DELETE, NOTIFY_START);
    e = soft_delete(&c);
    /* In any case (notify_about_instance_delete). */
    notify_instance(node, ctx, a->instance, NOTIFY_SOFT_DELETE, NOTIFY_END);
    return e;
}

/* ---- Start, restore ---- */

/* Nova's power_on is a hard reboot: ports, disks and XML are made sure of. */
static struct err *power_on(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(block_device_mapping_list_freep) struct block_device_mapping_list *bdms = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    TRY_CTX(network_refresh(node, ctx, inst, &vifs), "reading the server's network");
    TRY(bdms_by_instance(node->conductor, ctx, instance_uuid(inst), &bdms));
    return spawn_hard_reboot(
        &(struct spawn){.node = node, .ctx = ctx, .inst = inst, .bdms = bdms, .vifs = &vifs});
}

static struct err *restore(struct change *c)
{
    return power_on(c->node, c->ctx, c->inst);
}

/* The start of a shelved server that never left its host: its image has done its duty. */
static void forget_shelve(struct change *c)
{
    static const char *const keys[] = {"shelved_at", "shelved_image_id", "shelved_host"};
    const char *image = instance_system_metadata_get(c->inst, "shelved_image_id");

    if (image) {
        err_ignore(glance_image_delete(c->node->glance, c->ctx, image),
                   "deleting the image of a shelved server");
    }
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (instance_system_metadata_get(c->inst, keys[i])) {
            instance_system_metadata_del(c->inst, keys[i]);
        }
    }
}

static struct err *start(struct change *c)
{
    TRY(instance_load(c->node->conductor, c->ctx, c->inst, EXPECT("system_metadata")));
    TRY(power_on(c->node, c->ctx, c->inst));
    forget_shelve(c);
    return NULL;
}

/* ---- Pause ---- */

static struct err *pause_guest(struct change *c)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    TRY(lv_domain_by_uuid(c->node->lv, instance_uuid(c->inst), &d));
    return lv_domain_suspend(d);
}

static struct err *unpause(struct change *c)
{
    const struct guest_env env = power_env(c->node);
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    TRY(lv_domain_by_uuid(c->node->lv, instance_uuid(c->inst), &d));
    TRY(lv_domain_resume(d));
    guest_sync_time(&env, instance_uuid(c->inst));
    return NULL;
}

/* ---- Suspend to disk ---- */

static struct err *suspend_guest(struct change *c)
{
    const struct guest_env env = power_env(c->node);
    CLEANUP(conf_putp) const struct conf *conf = conf_get(c->node->conf);

    return guest_suspend(&env, instance_uuid(c->inst),
                         conf->libvirt.device_detach_timeout *
                             conf->libvirt.device_detach_attempts);
}

static struct err *suspend(struct change *c)
{
    TRY(instance_load(c->node->conductor, c->ctx, c->inst, EXPECT("system_metadata")));
    instance_system_metadata_put(c->inst, "old_vm_state", instance_vm_state(c->inst));
    return power_or_error(c->node, c->ctx, c->inst, suspend_guest(c));
}

/* From the managed save if there is one, else (the host has lost it) as after a power failure. */
static struct err *resume_guest(struct change *c, const struct vif_list *vifs)
{
    const struct guest_env env = power_env(c->node);
    const char *uuid = instance_uuid(c->inst);
    bool was_saved;

    for (size_t i = 0; i < vifs->n; i++) {
        TRY_CTX(vif_plug(&c->node->vif, &vifs->items[i], uuid), "plugging port %s",
                vifs->items[i].id);
    }
    TRY(guest_resume_saved(&env, uuid, &was_saved));
    if (!was_saved) {
        log_warning(LOG_COMPUTE, "there is nothing saved of the guest, starting it from its disks");
        TRY(spawn_start_guest(
            &(struct spawn){.node = c->node, .ctx = c->ctx, .inst = c->inst, .vifs = vifs}));
    }
    guest_sync_time(&env, uuid);
    return NULL;
}

static struct err *resume(struct change *c)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    const char *before;

    TRY(instance_load(c->node->conductor, c->ctx, c->inst, EXPECT("system_metadata")));
    TRY_CTX(network_refresh(c->node, c->ctx, c->inst, &vifs), "reading the server's network");
    TRY(power_or_error(c->node, c->ctx, c->inst, resume_guest(c, &vifs)));
    before = instance_system_metadata_get(c->inst, "old_vm_state");
    if (before) {
        /* The key is deleted below: only these are what a suspended server can have been. */
        c->vm_state = str_eq(before, "rescued") ? "rescued" : "active";
        instance_system_metadata_del(c->inst, "old_vm_state");
    }
    return NULL;
}

/* ---- Reboot ---- */

static const char *const soft_states[] = {"rebooting", "reboot_pending", "reboot_started", NULL};
static const char *const hard_states[] = {"rebooting_hard", "reboot_pending_hard",
                                          "reboot_started_hard", NULL};

struct reboot {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    struct block_device_mapping_list *bdms;
    struct vif_list vifs;
    bool is_soft;
};

static struct err *reboot_guest(struct reboot *r)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(r->node->conf);
    const struct guest_env env = power_env(r->node);
    bool has_rebooted = false;

    if (r->is_soft) {
        CLEANUP(err_freep)
        struct err *e = guest_soft_reboot(&env, instance_uuid(r->inst),
                                          conf->libvirt.wait_soft_reboot_seconds, &has_rebooted);

        if (err_is(e, ERR_CANCELLED)) {
            return TAKE(e);
        }
        if (!e && has_rebooted) {
            return NULL;
        }
        log_warning(LOG_COMPUTE, "the guest did not reboot by itself%s%s, doing it the hard way",
                    e ? ": " : "", e ? err_message(e) : "");
    }
    return spawn_hard_reboot(&(struct spawn){
        .node = r->node, .ctx = r->ctx, .inst = r->inst, .bdms = r->bdms, .vifs = &r->vifs});
}

static struct err *begin_reboot(struct reboot *r)
{
    instance_set_task_state(r->inst, r->is_soft ? "reboot_pending" : "reboot_pending_hard");
    TRY(bdms_by_instance(r->node->conductor, r->ctx, instance_uuid(r->inst), &r->bdms));
    TRY_CTX(network_refresh(r->node, r->ctx, r->inst, &r->vifs), "reading the server's network");
    notify_instance(r->node, r->ctx, r->inst, NOTIFY_REBOOT, NOTIFY_START);
    TRY(power_look(r->node, r->inst));
    TRY(instance_save(r->node->conductor, r->ctx, r->inst, r->is_soft ? soft_states : hard_states));
    if (!is_running(r->inst)) {
        log_warning(LOG_COMPUTE, "rebooting a server whose guest does not run (power state %lld)",
                    (long long)instance_power_state(r->inst));
    }
    return NULL;
}

static struct err *do_reboot(struct reboot *r)
{
    instance_set_task_state(r->inst, r->is_soft ? "reboot_started" : "reboot_started_hard");
    TRY(instance_save(r->node->conductor, r->ctx, r->inst,
                      r->is_soft ? EXPECT("reboot_pending") : EXPECT("reboot_pending_hard")));
    return reboot_guest(r);
}

/* A reboot that failed while the guest runs is a fault of the server, but not its end: NULL. */
static struct err *after_failure(struct reboot *r, struct err *e_)
{
    CLEANUP(err_freep) struct err *e = e_;

    if (is_interruption(r->node, e) || err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    err_ignore(power_look(r->node, r->inst), "looking at a guest that did not reboot");
    if (!is_running(r->inst)) {
        log_error(LOG_COMPUTE, "cannot reboot the server, its state is now error");
        power_set_error(r->node, r->ctx, r->inst);
        return TAKE(e);
    }
    log_warning(LOG_COMPUTE, "the reboot failed, but the guest runs: %s", err_message(e));
    err_ignore(
        instance_fault_create(r->node->conductor, r->ctx, instance_uuid(r->inst), r->node->host, e),
        "recording the fault");
    notify_instance_more(r->node, r->ctx, r->inst, NOTIFY_REBOOT, NOTIFY_ERROR,
                         &(struct notify_more){.fault = e});
    return NULL;
}

static struct err *end_reboot(struct reboot *r, const char *vm_state)
{
    struct err *e;

    TRY(power_look(r->node, r->inst));
    instance_set_vm_state(r->inst, vm_state);
    instance_set_task_state(r->inst, NULL);
    e = instance_save(r->node->conductor, r->ctx, r->inst, NULL);
    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        log_warning(LOG_COMPUTE, "the server disappeared while it was rebooted");
        e = err_free(e);
    }
    TRY(e);
    notify_instance(r->node, r->ctx, r->inst, NOTIFY_REBOOT, NOTIFY_END);
    return NULL;
}

static struct err *reboot(struct node *node, const struct rctx *ctx, struct instance *inst,
                          bool is_soft)
{
    CLEANUP(rctx_freep) struct rctx *admin = rctx_elevated(ctx);
    /* It stays in its rescue. */
    const char *vm_state = str_eq(instance_vm_state(inst), "rescued") ? "rescued" : "active";
    struct reboot r = {.node = node, .ctx = admin, .inst = inst, .is_soft = is_soft};
    struct err *e;

    log_info(LOG_COMPUTE, "rebooting, %s", is_soft ? "soft" : "hard");
    e = begin_reboot(&r);
    if (!e) {
        e = do_reboot(&r);
        e = e ? after_failure(&r, e) : NULL;
        e = e ? e : end_reboot(&r, vm_state);
    }
    block_device_mapping_list_free(r.bdms);
    vif_list_fini(&r.vifs);
    return e;
}

struct err *power_hard_reboot(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    return reboot(node, ctx, inst, /* is_soft= */ false);
}

struct err *compute_reboot_instance(struct node *node, const struct rctx *ctx,
                                    struct args_reboot_instance *a, struct json_object **ret)
{
    (void)ret;
    return reboot(node, ctx, a->instance, str_eq(a->reboot_type, "SOFT"));
}

/* ---- The verbs that are a row ---- */

#define VERB(method, text, id, task, state, elevated, fn)                                          \
    struct err *compute_##method(struct node *node, const struct rctx *ctx,                        \
                                 struct args_##method *a, struct json_object **ret)                \
    {                                                                                              \
        static const struct verb verb = {text, NOTIFY_##id, task, state, elevated, fn};            \
                                                                                                   \
        (void)ret;                                                                                 \
        return run(node, ctx, a->instance, &verb);                                                 \
    }
VERB(start_instance, "starting", POWER_ON, "powering-on", "active", false, start)
VERB(restore_instance, "restoring", RESTORE, "restoring", "active", false, restore)
VERB(pause_instance, "pausing", PAUSE, "pausing", "paused", true, pause_guest)
VERB(unpause_instance, "unpausing", UNPAUSE, "unpausing", "active", true, unpause)
VERB(suspend_instance, "suspending", SUSPEND, "suspending", "suspended", true, suspend)
VERB(resume_instance, "resuming", RESUME, "resuming", "active", true, resume)

#include "driver/compute/snapshot.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"
#include "driver/libvirt/imagecache.h"
#include "driver/libvirt/snapshot.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- What the image is told ---- */

static void add_if_any(struct json_object *o, const char *name, const char *value)
{
    if (!str_is_empty(value)) {
        jv_add_str(o, name, value);
    }
}

struct json_object *snapshot_members(const struct instance *inst, const struct image_meta *image,
                                     const char *format)
{
    struct json_object *o = json_object_new_object();
    bool is_ami = str_eq(image->disk_format, "ami"); /* Glance would not have it otherwise. */

    jv_add_str(o, "disk_format", is_ami ? "ami" : format);
    jv_add_str(o, "container_format",
               str_is_empty(image->container_format) ? "bare" : image->container_format);
    jv_add_str(o, "image_location", "snapshot");
    jv_add_str(o, "image_state", "available");
    jv_add_str(o, "owner_id", instance_project_id(inst));
    add_if_any(o, "kernel_id", instance_kernel_id(inst));
    add_if_any(o, "ramdisk_id", instance_ramdisk_id(inst));
    add_if_any(o, "os_type", instance_os_type(inst));
    return o;
}

/* ---- One snapshot ---- */

struct job {
    struct node *node;
    const struct conf *conf;
    const struct rctx *ctx;
    struct instance *inst;
    const char *image_id;
};

static struct err *set_task(struct job *j, const char *task, const char *expected)
{
    const char *const states[] = {expected, NULL};

    instance_set_task_state(j->inst, task);
    return instance_save(j->node->conductor, j->ctx, j->inst, expected ? states : NULL);
}

static struct err *load(struct job *j, struct image_meta *ret)
{
    static const char *const attrs[] = {"system_metadata", "image_ref", "kernel_id", "ramdisk_id",
                                        "project_id",      "os_type",   NULL};

    TRY(instance_load(j->node->conductor, j->ctx, j->inst, attrs));
    return image_meta_of_instance(j->inst, ret);
}

static struct err *save_power_state(struct job *j)
{
    int64_t power = POWER_NOSTATE;
    CLEANUP(err_freep)
    struct err *e = lifecycle_power_state(j->node, instance_uuid(j->inst), &power);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    instance_set_power_state(j->inst, power);
    if (power != POWER_RUNNING) {
        log_warning(LOG_COMPUTE,
                    "the guest of this snapshot does not run (power state %" PRId64 ")", power);
    }
    return instance_save(j->node->conductor, j->ctx, j->inst, /* expected_task_states= */ NULL);
}

static struct err *freeze_how(const struct image_meta *image, enum snapshot_freeze *ret)
{
    bool has_agent = image_meta_bool(image, "hw_qemu_guest_agent", false);
    bool must = image_meta_bool(image, "os_require_quiesce", false);

    if (must && !has_agent) {
        return err_new(ERR_QEMU_GUEST_AGENT_NOT_ENABLED, NULL);
    }
    *ret = must ? SNAPSHOT_FREEZE_MUST : has_agent ? SNAPSHOT_FREEZE_TRY : SNAPSHOT_FREEZE_NONE;
    return NULL;
}

static struct err *take(struct job *j, const struct snapshot_env *env,
                        const struct image_meta *image, const char *first_task,
                        struct json_object **ret_members, struct snapshot_file *ret)
{
    CLEANUP(snapshot_source_fini) struct snapshot_source source = {0};
    CLEANUP(glance_image_fini) struct glance_image there = {0};
    enum snapshot_freeze freeze = SNAPSHOT_FREEZE_NONE;

    TRY(snapshot_look(env, instance_uuid(j->inst), &source));
    /* If it is gone already, nobody needs to touch the guest. */
    TRY(glance_image_get(j->node->glance, j->ctx, j->image_id, &there));
    if (source.is_live) {
        TRY(freeze_how(image, &freeze));
    }
    TRY(set_task(j, "image_pending_upload", first_task));
    TRY(snapshot_take(env, &source, freeze, ret));
    *ret_members = snapshot_members(j->inst, image, source.format);
    return NULL;
}

static struct err *send(struct job *j, struct json_object *members, const char *path)
{
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    TRY(set_task(j, "image_uploading", "image_pending_upload"));
    TRY(glance_image_update(j->node->glance, j->ctx, j->image_id, members));
    return glance_image_upload(j->node->glance, j->ctx, j->image_id, fd, j->node->stopping);
}

static struct err *take_and_send(struct job *j, const char *first_task)
{
    /* Of its own: to suspend a guest or to wait for its agent takes long. */
    CLEANUP(lv_conn_freep) struct lv_conn *lv = NULL;
    CLEANUP(image_meta_fini) struct image_meta image = {0};
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};
    CLEANUP(jv_putp) struct json_object *members = NULL;
    int64_t start_ms = clock_ms();

    TRY(load(j, &image));
    TRY(save_power_state(j));
    notify_instance_more(j->node, j->ctx, j->inst, NOTIFY_SNAPSHOT, NOTIFY_START,
                         &(struct notify_more){.snapshot_image_id = j->image_id});
    TRY(lv_connect(j->node->libvirt_uri, &lv));
    const struct snapshot_env env = {.conf = j->conf, .lv = lv, .stop = j->node->stopping};

    TRY(take(j, &env, &image, first_task, &members, &file));
    TRY(send(j, members, file.path));
    TRY(set_task(j, NULL, "image_uploading"));
    log_info(LOG_COMPUTE, "snapshot %s made and sent in %" PRId64 " ms", j->image_id,
             clock_ms() - start_ms);
    notify_instance_more(j->node, j->ctx, j->inst, NOTIFY_SNAPSHOT, NOTIFY_END,
                         &(struct notify_more){.snapshot_image_id = j->image_id});
    return NULL;
}

/* ---- When there is none ---- */

static void delete_image(struct job *j, const char *why)
{
    CLEANUP(err_freep)
    struct err *e = glance_image_delete(j->node->glance, j->ctx, j->image_id);

    if (e && !err_is(e, ERR_IMAGE_NOT_FOUND)) {
        err_ignore(TAKE(e), why);
    }
}

/* The server went away, and with it who wanted the image; unless it is complete. */
static void delete_unfinished_image(struct job *j)
{
    CLEANUP(glance_image_fini) struct glance_image image = {0};
    CLEANUP(err_freep)
    struct err *e = glance_image_get(j->node->glance, j->ctx, j->image_id, &image);

    if (e && !err_is(e, ERR_IMAGE_NOT_FOUND)) {
        err_ignore(TAKE(e), "looking at the image of a server that is gone");
    } else if (!e && !str_eq(image.status, "active")) {
        delete_image(j, "deleting the image of a server that is gone");
    }
}

/* Nova leaves a server whose guest is not there in its task for ever. */
static void end_task(struct job *j)
{
    CLEANUP(err_freep) struct err *e = set_task(j, NULL, /* expected= */ NULL);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND) && !err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE)) {
        err_ignore(TAKE(e), "ending the task of a snapshot");
    }
}

/* What Nova does with what can happen; consumes the error. */
static struct err *after_snapshot(struct job *j, struct err *e)
{
    CLEANUP(err_freep) struct err *owned = e;

    if (!e) {
        return NULL;
    }
    if (err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_INSTANCE_NOT_RUNNING) ||
        err_is(e, ERR_UNEXPECTED_DELETING_TASK_STATE)) {
        log_info(LOG_COMPUTE, "the server went away during its snapshot: %s", err_message(e));
        if (err_is(e, ERR_INSTANCE_NOT_RUNNING)) {
            end_task(j);
        }
        delete_unfinished_image(j);
        return NULL;
    }
    if (err_is(e, ERR_IMAGE_NOT_FOUND)) {
        log_warning(LOG_COMPUTE, "image %s went away during its snapshot", j->image_id);
        return set_task(j, NULL, /* expected= */ NULL);
    }
    delete_image(j, "deleting the image of a snapshot that failed");
    return TAKE(owned);
}

static struct err *snapshot(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const char *image_id, const char *first_task)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    struct job j = {.node = node, .conf = conf, .ctx = ctx, .inst = inst, .image_id = image_id};

    return after_snapshot(&j, take_and_send(&j, first_task));
}

/* ---- Verbs ---- */

struct err *compute_snapshot_instance(struct node *node, const struct rctx *ctx,
                                      struct args_snapshot_instance *a, struct json_object **ret)
{
    struct job j = {.node = node, .ctx = ctx, .inst = a->instance, .image_id = a->image_id};
    CLEANUP(err_freep)
    struct err *e = set_task(&j, "image_snapshot", "image_snapshot_pending");

    (void)ret;
    if (e) {
        return after_snapshot(&j, TAKE(e));
    }
    return snapshot(node, ctx, a->instance, a->image_id, "image_snapshot");
}

/* Youngest first; what is beyond the first 'n_kept' goes. */
static void delete_old(struct node *node, const struct rctx *ctx, struct json_object *images,
                       size_t n_kept)
{
    for (size_t i = json_object_array_length(images); i-- > n_kept;) {
        const char *id = json_object_get_string(jv_get(json_object_array_get_idx(images, i), "id"));
        CLEANUP(err_freep) struct err *e = id ? glance_image_delete(node->glance, ctx, id) : NULL;

        if (e) {
            log_info(LOG_COMPUTE, "backup %s cannot be deleted: %s, leaving it", id,
                     err_message(e));
        } else {
            log_info(LOG_COMPUTE, "backup %s was the oldest, deleted", id);
        }
    }
}

static struct err *rotate_backups(struct node *node, const struct rctx *ctx,
                                  const struct args_backup_instance *a)
{
    CLEANUP(jv_putp) struct json_object *filters = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *images = NULL;

    jv_add_str(filters, "image_type", "backup");
    jv_add_str(filters, "backup_type", a->backup_type);
    jv_add_str(filters, "instance_uuid", instance_uuid(a->instance));
    TRY(glance_image_list(node->glance, ctx, filters, &images));
    delete_old(node, ctx, images, (size_t)MAX(a->rotation, (int64_t)0));
    return NULL;
}

struct err *compute_backup_instance(struct node *node, const struct rctx *ctx,
                                    struct args_backup_instance *a, struct json_object **ret)
{
    (void)ret;
    TRY(snapshot(node, ctx, a->instance, a->image_id, "image_backup"));
    return rotate_backups(node, ctx, a);
}

/* ---- Images fetched ahead ---- */

static struct err *cache_image(const struct imagecache_env *env, const struct rctx *ctx,
                               const char *id, const char **ret)
{
    CLEANUP(freep) char *path = NULL;
    const char *format;

    TRY(imagecache_image_path(env->conf, id, &path));
    bool was_there = access(path, F_OK) == 0;

    TRY(imagecache_fetch(env, ctx, id, path, INT64_MAX, &format));
    *ret = was_there ? "existing" : "cached";
    return NULL;
}

struct err *compute_cache_images(struct node *node, const struct rctx *ctx,
                                 struct args_cache_images *a, struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const struct imagecache_env env = {conf, node->glance, node->stopping};
    struct json_object *results = json_object_new_object();

    for (size_t i = 0; i < json_object_array_length(a->image_ids); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(a->image_ids, i));
        const char *result = "error";

        if (id) {
            err_ignore(cache_image(&env, ctx, id, &result), "fetching an image ahead");
            jv_add_str(results, id, result);
        }
    }
    *ret = results;
    return NULL;
}

/* ---- Quiescing for snapshots of volumes ---- */

static struct err *check_can_quiesce(struct node *node, const struct rctx *ctx,
                                     struct instance *inst)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(image_meta_fini) struct image_meta image = {0};
    struct job j = {.node = node, .ctx = ctx, .inst = inst};
    const char *type = conf->libvirt.virt_type;

    if (!str_eq(type, "kvm") && !str_eq(type, "qemu")) {
        return err_new(ERR_INSTANCE_QUIESCE_NOT_SUPPORTED, "instance_id", instance_uuid(inst),
                       NULL);
    }
    TRY(load(&j, &image));
    return image_meta_bool(&image, "hw_qemu_guest_agent", false)
               ? NULL
               : err_new(ERR_QEMU_GUEST_AGENT_NOT_ENABLED, NULL);
}

static struct err *set_quiesced(struct node *node, const struct rctx *ctx, struct instance *inst,
                                struct err *(*fn)(struct lv_domain *))
{
    CLEANUP(lv_conn_freep) struct lv_conn *lv = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    TRY(check_can_quiesce(node, ctx, inst));
    TRY(lv_connect(node->libvirt_uri, &lv));
    TRY(lv_domain_by_uuid(lv, instance_uuid(inst), &domain));
    CLEANUP(err_freep) struct err *e = fn(domain);

    if (err_is(e, ERR_LIBVIRT)) {
        return err_msg(ERR_INTERNAL, "Error from libvirt while quiescing %s: %s",
                       instance_uuid(inst), err_message(e));
    }
    return TAKE(e);
}

struct err *compute_quiesce_instance(struct node *node, const struct rctx *ctx,
                                     struct args_quiesce_instance *a, struct json_object **ret)
{
    (void)ret;
    return set_quiesced(node, ctx, a->instance, lv_domain_freeze);
}

/* 'mapping' names snapshots of volumes to wait for, and volumes are not built: a guest is not left
 * frozen for that. */
struct err *compute_unquiesce_instance(struct node *node, const struct rctx *ctx,
                                       struct args_unquiesce_instance *a, struct json_object **ret)
{
    (void)ret;
    return set_quiesced(node, ctx, a->instance, lv_domain_thaw);
}

/* ---- After a restart ---- */

struct err *snapshot_recover(struct node *node, struct instance *inst)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const struct snapshot_env env = {.conf = conf, .lv = node->lv, .stop = node->stopping};
    const char *vm_state = instance_vm_state(inst);
    enum lv_state wanted = str_eq(vm_state, "active")   ? LV_RUNNING
                           : str_eq(vm_state, "paused") ? LV_PAUSED
                                                        : LV_SHUTOFF;

    return snapshot_settle(&env, instance_uuid(inst), wanted);
}

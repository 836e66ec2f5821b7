#include "driver/compute/building.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/terminate.h"
#include "driver/compute/tracker.h"

#include <string.h>

static char *dir_path(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);
    char *path = str_printf("%s/building", conf->novashim.journal_path);

    conf_put(conf);
    return path;
}

struct err *building_begin(struct node *node, const char *uuid)
{
    CLEANUP(freep) char *dir = dir_path(node);
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, uuid);

    TRY(fs_mkdir_all(&fs_real, dir, 0700));
    return err_context(fs_write_atomic(&fs_real, path, "{}", 2, 0600), "noting that %s is built",
                       uuid);
}

void building_end(struct node *node, const char *uuid)
{
    CLEANUP(freep) char *dir = dir_path(node);
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, uuid);

    err_ignore(fs_remove_all(&fs_real, path), "removing the note of a build");
}

/* ---- After a restart ---- */

enum remains {
    REMAINS_NONE,   /* It is a server like any other, or somebody else's. */
    REMAINS_LOCAL,  /* The server was deleted; what is on this host goes. */
    REMAINS_FAILED, /* Everything goes, and the server is in ERROR. */
};

static enum remains remains_of(const struct instance *inst, const char *host)
{
    const char *at = instance_host(inst);

    if (instance_has_deleted(inst) && instance_deleted(inst)) {
        return REMAINS_LOCAL;
    }
    if (!str_eq(instance_vm_state(inst), "building") || (at && !str_eq(at, host)) ||
        str_eq(instance_task_state(inst), "deleting")) {
        return REMAINS_NONE;
    }
    return REMAINS_FAILED;
}

struct err *building_fail(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(err_freep)
    struct err *fault =
        err_new(ERR_BUILD_ABORT, "instance_uuid", instance_uuid(inst), "reason",
                "the compute service was restarted while it built the server", NULL);

    tracker_abort_instance(node->tracker, ctx, instance_uuid(inst)); /* The audit counted it. */
    err_ignore(netalloc_release(node, ctx, inst),
               "releasing the ports of a build that was cut off");
    err_ignore(placement_delete_allocations(node->placement, instance_uuid(inst)),
               "removing the allocations of a build that was cut off");
    instance_set_host(inst, NULL);
    instance_set_node(inst, NULL);
    instance_set_vm_state(inst, "error");
    instance_set_task_state(inst, NULL);
    TRY(instance_save(node->conductor, ctx, inst, NULL));
    return instance_fault_create(node->conductor, ctx, instance_uuid(inst), node->host, fault);
}

/* Conductor has been given it for the next host, which takes room before it says so in the record.
 */
static struct err *is_handed_on(struct node *node, const struct instance *inst, bool *ret)
{
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct json_object *held;

    *ret = false;
    if (instance_host(inst)) {
        return NULL;
    }
    TRY(placement_get_allocations(node->placement, instance_uuid(inst), &body));
    held = jv_get(body, "allocations");
    *ret = held && json_object_object_length(held) > 0 &&
           !jv_get(held, tracker_node_uuid(node->tracker));
    return NULL;
}

static struct err *settle(struct node *node, const struct rctx *ctx, const char *uuid)
{
    static const char *const attrs[] = {"info_cache", "flavor", "system_metadata", NULL};
    CLEANUP(rctx_freep) struct rctx *all = rctx_with_deleted(ctx);
    CLEANUP(instance_freep) struct instance *inst = NULL;
    struct err *e = instance_get(node->conductor, all, uuid, attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e);
    }
    TRY(e);
    enum remains remains = remains_of(inst, node->host);
    bool is_elsewhere = false;

    if (remains == REMAINS_FAILED) {
        TRY(is_handed_on(node, inst, &is_elsewhere));
    }
    if (remains == REMAINS_NONE || is_elsewhere) {
        return NULL;
    }
    log_warning(LOG_COMPUTE,
                "building the server was cut off by a restart, removing what was made");
    TRY(terminate_local_guest(node, ctx, inst));
    return remains == REMAINS_FAILED ? building_fail(node, ctx, inst) : NULL;
}

void building_settle(struct node *node, const struct rctx *ctx)
{
    CLEANUP(freep) char *dir = dir_path(node);
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, dir, &names);

    for (size_t i = 0; !e && i < names.n; i++) {
        if (!uuid_is_valid(names.items[i])) {
            continue;
        }
        log_context_instance(names.items[i]);
        struct err *failed = settle(node, ctx, names.items[i]);

        if (!failed) {
            building_end(node, names.items[i]);
        }
        err_ignore(failed, "settling a build that was cut off, trying again at the next start");
        log_context_instance(NULL);
    }
}

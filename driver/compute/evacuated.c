#include "driver/compute/evacuated.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/chore.h"
#include "driver/compute/network.h"
#include "driver/compute/peer.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/server_disks.h"

#define OPEN "evacuations that have not ended" /* Of chore_remember. */

/* ---- What has become of it ---- */

#define FIELD(o, c, field) (c##_has_##field(o) ? c##_##field(o) : NULL)

static bool is_moving(const struct instance *inst)
{
    const char *task = FIELD(inst, instance, task_state);

    return task && (str_starts(task, "migrating") || str_starts(task, "resize_"));
}

enum evacuated evacuated_judge(const struct migration *m, const struct instance *inst,
                               const char *host)
{
    bool is_here = str_eq(FIELD(inst, instance, host), host);

    /* The other host writes the server's host before it says "done" (finish_evacuation). */
    if (is_here && str_eq(FIELD(m, migration, status), "done")) {
        return EVACUATED_BACK;
    }
    if (is_moving(inst)) {
        return EVACUATED_MOVING;
    }
    return is_here ? EVACUATED_UNDER_WAY : EVACUATED_GONE;
}

/* ---- Its guest ---- */

static struct err *destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const char *why)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    struct err *e = lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e);
    }
    TRY(e);
    log_warning(LOG_COMPUTE, "%s, but its guest is still here: destroying it", why);
    TRY(network_cached_vifs(inst, &vifs));
    return spawn_destroy_guest(node, ctx, inst, &vifs);
}

/* ---- Its files ---- */

/* Whether the host where the server lives sees its files here.  Who does not answer may. */
static bool is_shared(struct node *node, const struct rctx *ctx, const char *host, const char *dir)
{
    char name[33];
    bool is_seen = true;

    if (!host || str_eq(host, node->host)) {
        return true;
    }
    uuid_new_hex(name);
    CLEANUP(freep) char *file = str_printf("%s/tmp%s", dir, name);
    struct err *e = fs_write_atomic(&fs_real, file, "", 0, 0644);

    if (!e) {
        e = peer_check_shared_storage(node, ctx, host, file, &is_seen);
    }
    if (e) {
        is_seen = true;
        err_ignore(e, "asking whether the files of an evacuated server are shared (keeping them)");
    }
    err_ignore(fs_remove_all(&fs_real, file), "removing the file that was asked for");
    return is_seen;
}

static struct err *remove_files(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep) char *dir = disk_instance_dir(conf, instance_uuid(inst));

    if (!fs_is_dir(&fs_real, dir) || is_shared(node, ctx, FIELD(inst, instance, host), dir)) {
        return NULL;
    }
    log_info(LOG_COMPUTE, "removing the files of a server that was evacuated");
    return server_disks_remove(conf, instance_uuid(inst));
}

/* ---- Its records ---- */

static struct err *complete(struct node *node, const struct rctx *ctx, struct migration *m)
{
    migration_set_status(m, "completed");
    return migration_save(node->conductor, ctx, m);
}

/* Everything of a server that lives elsewhere now. */
static struct err *let_go(struct node *node, const struct rctx *ctx, struct instance *inst,
                          struct migration *m)
{
    TRY(destroy_guest(node, ctx, inst, "the server was evacuated from this host"));
    TRY(remove_files(node, ctx, inst));
    if (!str_eq(FIELD(m, migration, source_node), tracker_nodename(node->tracker))) {
        return err_msg(ERR_COMPUTE_HOST_NOT_FOUND,
                       "the server was evacuated from node %s, which is not this one",
                       FIELD(m, migration, source_node));
    }
    TRY(placement_drop_tree(node->placement, instance_uuid(inst),
                            tracker_node_uuid(node->tracker)));
    return complete(node, ctx, m);
}

/* ---- All of them ---- */

static struct err *list_evacuations(struct node *node, const struct rctx *ctx,
                                    struct migration_list **ret)
{
    static const char *const open[] = {"accepted", "pre-migrating", "done"};
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    struct json_object *filters = json_object_new_object(), *statuses = json_object_new_array();

    for (size_t i = 0; i < ARRAY_SIZE(open); i++) {
        json_object_array_add(statuses, jv_new_str(open[i]));
    }
    jv_add_str(filters, "source_compute", node->host);
    jv_add(filters, "status", statuses);
    jv_add_str(filters, "migration_type", "evacuation");
    return migration_list_by_filters(node->conductor, seeing, filters, ret);
}

static struct err *list_servers(struct node *node, const struct rctx *ctx,
                                struct migration_list *evacuations, struct instance_list **ret)
{
    static const char *const attrs[] = {"info_cache", "flavor", "system_metadata", NULL};
    struct json_object *filters = json_object_new_object(), *uuids = json_object_new_array();

    for (size_t i = 0; i < migration_list_n(evacuations); i++) {
        json_object_array_add(
            uuids, jv_new_str(FIELD(migration_list_at(evacuations, i), migration, instance_uuid)));
    }
    jv_add(filters, "uuid", uuids);
    return instance_list_by_filters(node->conductor, ctx, filters, attrs, ret);
}

static struct instance *find(struct instance_list *list, const char *uuid)
{
    for (size_t i = 0; i < instance_list_n(list); i++) {
        if (str_eq(instance_uuid(instance_list_at(list, i)), uuid)) {
            return instance_list_at(list, i);
        }
    }
    return NULL;
}

static struct err *settle(struct node *node, const struct rctx *ctx, struct migration *m,
                          struct instance *inst, enum evacuated what, bool is_start)
{
    switch (what) {
    case EVACUATED_GONE:
        return let_go(node, ctx, inst, m);
    case EVACUATED_BACK:
        return complete(node, ctx, m);
    case EVACUATED_UNDER_WAY:
        return is_start
                   ? destroy_guest(node, ctx, inst, "the server is being evacuated from this host")
                   : NULL;
    case EVACUATED_MOVING:
        log_info(LOG_COMPUTE,
                 "the server was evacuated from this host and is in task '%s', "
                 "leaving it until that is over",
                 FIELD(inst, instance, task_state));
        return NULL;
    }
    return NULL;
}

/* What is deleted meanwhile has no allocations, and its guest is reaped like any other. */
static struct err *settle_all(struct node *node, const struct rctx *ctx, bool is_start,
                              struct strv *ret_open)
{
    CLEANUP(migration_list_freep) struct migration_list *evacuations = NULL;
    CLEANUP(instance_list_freep) struct instance_list *servers = NULL;
    int64_t n_open = 0;

    TRY_CTX(list_evacuations(node, ctx, &evacuations), "asking which servers were evacuated");
    if (!migration_list_n(evacuations)) {
        chore_remember(node->chores, OPEN, 0);
        return NULL;
    }
    TRY_CTX(list_servers(node, ctx, evacuations, &servers), "asking for evacuated servers");
    for (size_t i = 0; i < migration_list_n(evacuations); i++) {
        struct migration *m = migration_list_at(evacuations, i);
        struct instance *inst = find(servers, FIELD(m, migration, instance_uuid));

        if (!inst) {
            continue;
        }
        enum evacuated what = evacuated_judge(m, inst, node->host);

        log_context_instance(instance_uuid(inst));
        struct err *e = settle(node, ctx, m, inst, what, is_start);

        if (what == EVACUATED_UNDER_WAY) {
            strv_add(ret_open, instance_uuid(inst));
        }
        n_open += e || what == EVACUATED_UNDER_WAY || what == EVACUATED_MOVING;
        err_ignore(e, "removing an evacuated server");
        log_context_instance(NULL);
    }
    chore_remember(node->chores, OPEN, n_open);
    return NULL;
}

struct err *evacuated_clean(struct node *node, const struct rctx *ctx, struct strv *ret)
{
    return settle_all(node, ctx, /* is_start= */ true, ret);
}

struct err *evacuated_look_again(struct node *node, const struct rctx *ctx)
{
    CLEANUP(strv_fini) struct strv open = {0};

    if (!chore_recall(node->chores, OPEN)) {
        return NULL;
    }
    return settle_all(node, ctx, /* is_start= */ false, &open);
}

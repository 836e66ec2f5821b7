#include "driver/compute/reap.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/chore.h"
#include "driver/compute/moves.h"
#include "driver/compute/terminate.h"
#include "driver/libvirt/server_disks.h"

#define ATTEMPTS "clean_attempts" /* In system_metadata. */

/* ---- Who is reaped ---- */

/* A field of a record from elsewhere: NULL if it is null or was not sent. */
#define FIELD(inst, field) (instance_has_##field(inst) ? instance_##field(inst) : NULL)

static bool is_on(const struct instance *inst, const char *host)
{
    return str_eq(FIELD(inst, host), host);
}

static bool is_soft_deleted(const struct instance *inst)
{
    return str_eq(FIELD(inst, vm_state), "soft-delete");
}

static bool is_deleted(const struct instance *inst)
{
    return instance_has_deleted(inst) && instance_deleted(inst) && !is_soft_deleted(inst);
}

bool reap_is_old_enough(const struct instance *inst, int64_t age_s, int64_t now_s)
{
    const char *when = FIELD(inst, deleted_at);

    return !when || clock_iso_is_older(when, age_s, now_s);
}

bool reap_is_reclaimable(const struct instance *inst, const char *host, int64_t interval_s,
                         int64_t now_s)
{
    return is_on(inst, host) && is_soft_deleted(inst) && !FIELD(inst, task_state) &&
           reap_is_old_enough(inst, interval_s, now_s);
}

bool reap_is_zombie(const struct instance *inst, int64_t timeout_s, int64_t now_s)
{
    return is_deleted(inst) && reap_is_old_enough(inst, timeout_s, now_s);
}

int64_t reap_attempts(const struct instance *inst)
{
    const char *text =
        instance_has_system_metadata(inst) ? instance_system_metadata_get(inst, ATTEMPTS) : NULL;
    int64_t n;

    return text && str_to_i64(text, &n) ? n : 0;
}

bool reap_has_files(const struct instance *inst, const char *host, int64_t max_attempts)
{
    return is_deleted(inst) && is_on(inst, host) &&
           !(instance_has_cleaned(inst) && instance_cleaned(inst)) &&
           reap_attempts(inst) < max_attempts;
}

/* ---- What the jobs share ---- */

static struct json_object *deleted_filters(void)
{
    struct json_object *filters = json_object_new_object();

    jv_add_bool(filters, "deleted", true);
    jv_add_bool(filters, "soft_deleted", false);
    return filters;
}

static struct json_object *uuid_list(const struct strv *uuids)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < uuids->n; i++) {
        json_object_array_add(list, jv_new_str(uuids->items[i]));
    }
    return list;
}

/* *ret is NULL if there is no such record. */
static struct err *read_record(struct node *node, const struct rctx *ctx, const char *uuid,
                               const char *const *attrs, struct instance **ret)
{
    struct err *e = instance_get(node->conductor, ctx, uuid, attrs, ret);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        *ret = NULL;
        return err_free(e);
    }
    return e;
}

/* *ret is NULL if there is none. */
static struct err *find_guest(struct node *node, const char *uuid, struct lv_domain **ret)
{
    struct err *e = lv_domain_by_uuid(node->lv, uuid, ret);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        *ret = NULL;
        return err_free(e);
    }
    return e;
}

static const char *const all_attrs[] = {
    "flavor",   "numa_topology",   "info_cache",      "pci_requests",
    "metadata", "system_metadata", "security_groups", NULL};
static const char *const no_attrs[] = {NULL};

/* ---- Soft-deleted servers ---- */

static struct err *reclaim(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(instance_freep) struct instance *inst = NULL;
    int64_t interval_s = conf->dflt.reclaim_instance_interval;

    TRY(read_record(node, ctx, uuid, all_attrs, &inst));
    if (!inst || interval_s <= 0 ||
        !reap_is_reclaimable(inst, node->host, interval_s, clock_wall_s())) {
        return NULL;
    }
    log_info(LOG_COMPUTE, "the server was deleted reclaim_instance_interval ago, deleting it for "
                          "good");
    return terminate_now(node, ctx, inst);
}

struct err *reap_queued_deletes(struct node *node, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    struct json_object *filters = json_object_new_object();

    jv_add_str(filters, "vm_state", "soft-delete");
    jv_add(filters, "task_state", NULL);
    jv_add_str(filters, "host", node->host);
    TRY(instance_list_by_filters(node->conductor, ctx, filters, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        const struct instance *inst = instance_list_at(list, i);

        if (reap_is_reclaimable(inst, node->host, conf->dflt.reclaim_instance_interval,
                                clock_wall_s())) {
            chore_submit(node, "reclaiming a deleted server", instance_uuid(inst), reclaim);
        }
    }
    return NULL;
}

/* ---- Guests of deleted servers ---- */

static struct err *shut_down(struct lv_domain *domain)
{
    enum lv_state state;

    TRY(lv_domain_state(domain, &state, NULL));
    if (state == LV_SHUTOFF) {
        return NULL;
    }
    log_info(LOG_COMPUTE, "the server is deleted, but its guest runs here: powering it off");
    return lv_domain_destroy(domain);
}

static struct err *end_zombie(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(move_freep) struct move *mv = moves_find(node->moves, uuid);
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    const char *action = conf->dflt.running_deleted_instance_action;

    if (mv) {
        return NULL; /* The guest is the move's. */
    }
    TRY(read_record(node, seeing, uuid, all_attrs, &inst));
    if (!inst ||
        !reap_is_zombie(inst, conf->dflt.running_deleted_instance_timeout, clock_wall_s())) {
        return NULL;
    }
    TRY(find_guest(node, uuid, &domain));
    if (!domain) {
        return NULL;
    }
    if (str_eq(action, "shutdown")) {
        return shut_down(domain);
    }
    if (str_eq(action, "reap")) {
        log_info(LOG_COMPUTE, "the server is deleted, but its guest is still here: destroying it");
        return terminate_local_guest(node, seeing, inst);
    }
    log_warning(LOG_COMPUTE, "the server is deleted, but its guest is still here, leaving it");
    return NULL;
}

struct err *reap_running_deleted(struct node *node, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    struct json_object *filters;

    if (str_eq(conf->dflt.running_deleted_instance_action, "noop")) {
        return NULL;
    }
    TRY(lv_domain_uuids(node->lv, &uuids));
    if (!uuids.n) {
        return NULL;
    }
    filters = deleted_filters();
    jv_add(filters, "uuid", uuid_list(&uuids));
    TRY(instance_list_by_filters(node->conductor, seeing, filters, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        const struct instance *inst = instance_list_at(list, i);

        if (reap_is_zombie(inst, conf->dflt.running_deleted_instance_timeout, clock_wall_s())) {
            chore_submit(node, "reaping the guest of a deleted server", instance_uuid(inst),
                         end_zombie);
        }
    }
    return NULL;
}

/* ---- Files of deleted servers ---- */

/* Removes them unless a guest uses them. */
static struct err *remove_files(struct node *node, const struct conf *conf, const char *uuid,
                                bool *ret_is_gone)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    *ret_is_gone = false;
    TRY(find_guest(node, uuid, &domain));
    if (!domain) {
        TRY(server_disks_remove(conf, uuid));
        *ret_is_gone = true;
    }
    return NULL;
}

static struct err *clean_files(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const attrs[] = {"system_metadata", NULL};
    bool is_gone;

    TRY(read_record(node, seeing, uuid, attrs, &inst));
    if (!inst || !reap_has_files(inst, node->host, conf->dflt.maximum_instance_delete_attempts)) {
        return NULL;
    }
    CLEANUP(err_freep) struct err *e = remove_files(node, conf, uuid, &is_gone);
    CLEANUP(freep) char *attempts = str_printf("%lld", (long long)reap_attempts(inst) + 1);

    if (!e && !is_gone) {
        return NULL; /* No attempt. */
    }
    instance_system_metadata_put(inst, ATTEMPTS, attempts);
    if (is_gone) {
        instance_set_cleaned(inst, true);
    }
    err_ignore(instance_save(node->conductor, seeing, inst, NULL), "noting what was removed");
    return TAKE(e);
}

struct err *reap_files(struct node *node, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    static const char *const attrs[] = {"system_metadata", NULL};
    struct json_object *filters = deleted_filters();

    jv_add_str(filters, "host", node->host);
    jv_add_bool(filters, "cleaned", false);
    TRY(instance_list_by_filters(node->conductor, seeing, filters, attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        const struct instance *inst = instance_list_at(list, i);

        if (reap_has_files(inst, node->host, conf->dflt.maximum_instance_delete_attempts)) {
            chore_submit(node, "removing the files of a deleted server", instance_uuid(inst),
                         clean_files);
        }
    }
    return NULL;
}

/* ---- Moves that failed, of servers that are deleted ---- */

static struct err *failed_moves(struct node *node, const struct rctx *ctx, const char *uuid,
                                struct migration_list **ret)
{
    struct json_object *filters = json_object_new_object();

    jv_add_str(filters, "host", node->host);
    jv_add_str(filters, "status", "error");
    if (uuid) {
        jv_add_str(filters, "instance_uuid", uuid);
    }
    return migration_list_by_filters(node->conductor, ctx, filters, ret);
}

/* Files of a server that was deleted on another host; who deletes one that is here takes its files
 * too. */
static bool is_left_over(const struct instance *inst, const char *host)
{
    return is_deleted(inst) && !is_on(inst, host);
}

static struct err *clean_failed_move(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(migration_list_freep) struct migration_list *list = NULL;
    bool is_gone;

    TRY(read_record(node, seeing, uuid, no_attrs, &inst));
    if (!inst || !is_left_over(inst, node->host)) {
        return NULL;
    }
    TRY(remove_files(node, conf, uuid, &is_gone));
    if (!is_gone) {
        return NULL;
    }
    TRY(failed_moves(node, ctx, uuid, &list));
    for (size_t i = 0; i < migration_list_n(list); i++) {
        struct migration *m = migration_list_at(list, i);

        migration_set_status(m, "failed");
        TRY(migration_save(node->conductor, ctx, m));
    }
    return NULL;
}

static void collect(struct migration_list *list, struct strv *ret)
{
    for (size_t i = 0; i < migration_list_n(list); i++) {
        const struct migration *m = migration_list_at(list, i);

        if (migration_has_instance_uuid(m) && !migration_isnull_instance_uuid(m) &&
            !strv_has(ret, migration_instance_uuid(m))) {
            strv_add(ret, migration_instance_uuid(m));
        }
    }
}

struct err *reap_failed_moves(struct node *node, const struct rctx *ctx)
{
    CLEANUP(rctx_freep) struct rctx *seeing = rctx_with_deleted(ctx);
    CLEANUP(migration_list_freep) struct migration_list *moves = NULL;
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    struct json_object *filters;

    TRY(failed_moves(node, ctx, /* uuid= */ NULL, &moves));
    collect(moves, &uuids);
    if (!uuids.n) {
        return NULL;
    }
    filters = deleted_filters();
    jv_add(filters, "uuid", uuid_list(&uuids));
    TRY(instance_list_by_filters(node->conductor, seeing, filters, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        const struct instance *inst = instance_list_at(list, i);

        if (is_left_over(inst, node->host)) {
            chore_submit(node, "removing what a failed move left", instance_uuid(inst),
                         clean_failed_move);
        }
    }
    return NULL;
}

/* ---- Console tokens ---- */

struct err *reap_console_tokens(struct node *node, const struct rctx *ctx)
{
    return console_auths_clean_expired(node->conductor, ctx);
}

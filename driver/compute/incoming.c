#include "driver/compute/incoming.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"

#include <string.h>

static char *dir_path(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);
    char *path = str_printf("%s/incoming", conf->novashim.journal_path);

    conf_put(conf);
    return path;
}

static char *file_path(struct node *node, const char *uuid)
{
    CLEANUP(freep) char *dir = dir_path(node);

    return str_printf("%s/%s", dir, uuid);
}

struct err *incoming_begin(struct node *node, const char *instance_uuid, const char *source,
                           bool owns_dir)
{
    CLEANUP(freep) char *dir = dir_path(node);
    CLEANUP(freep) char *path = file_path(node, instance_uuid);
    CLEANUP(jv_putp) struct json_object *o = json_object_new_object();

    jv_add_str(o, "source", source);
    jv_add_bool(o, "owns_dir", owns_dir);
    CLEANUP(freep) char *text = jv_text(o);

    TRY(fs_mkdir_all(&fs_real, dir, 0700));
    TRY_CTX(fs_write_atomic(&fs_real, path, text, strlen(text), 0600), "noting that %s comes in",
            instance_uuid);
    return NULL;
}

void incoming_end(struct node *node, const char *instance_uuid)
{
    CLEANUP(freep) char *path = file_path(node, instance_uuid);

    err_ignore(fs_remove_all(&fs_real, path), "removing the note of an incoming server");
}

struct err *incoming_read(struct node *node, const char *instance_uuid, bool *ret_owns_dir)
{
    CLEANUP(freep) char *path = file_path(node, instance_uuid);
    CLEANUP(freep) char *text = NULL;
    CLEANUP(jv_putp) struct json_object *o = NULL;
    size_t len;

    TRY(fs_read(&fs_real, path, &text, &len));
    TRY(jv_parse(text, len, &o));
    struct jv_reader r = jv_reader_init(o, "note of an incoming server");

    *ret_owns_dir = jv_bool_or(&r, "owns_dir", false);
    return jv_finish(&r);
}

/* Where a server came from, as its file says; NULL if it does not. */
static char *read_source(struct node *node, const char *uuid)
{
    CLEANUP(freep) char *path = file_path(node, uuid);
    CLEANUP(freep) char *text = NULL;
    CLEANUP(jv_putp) struct json_object *o = NULL;
    size_t len;
    struct err *e = fs_read(&fs_real, path, &text, &len);

    if (!e) {
        e = jv_parse(text, len, &o);
    }
    if (e) {
        err_ignore(e, "reading where a server came from");
        return NULL;
    }
    return str_dup(json_object_get_string(jv_get(o, "source")));
}

/* Whether a live migration of this server to this host is still under way. */
static struct err *is_coming(struct node *node, const struct rctx *ctx, const char *uuid, bool *ret)
{
    CLEANUP(migration_list_freep) struct migration_list *list = NULL;
    struct json_object *filters = json_object_new_object();
    static const char *const live[] = {"accepted", "queued", "preparing", "running",
                                       "running (post-copy)"};

    jv_add_str(filters, "instance_uuid", uuid);
    TRY(migration_list_by_filters(node->conductor, ctx, filters, &list));
    *ret = false;
    for (size_t i = 0; i < migration_list_n(list); i++) {
        struct migration *m = migration_list_at(list, i);

        for (size_t k = 0; k < ARRAY_SIZE(live); k++) {
            *ret |= str_eq(migration_dest_compute(m), node->host) &&
                    str_eq(migration_status(m), live[k]);
        }
    }
    return NULL;
}

static struct err *settle(struct node *node, const struct rctx *ctx, const char *uuid)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    static const char *const attrs[] = {"info_cache", "flavor", "numa_topology",
                                        "migration_context", NULL};
    bool owns_dir, comes;

    TRY(incoming_read(node, uuid, &owns_dir));
    struct err *e = instance_get(node->conductor, ctx, uuid, attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        /* Deleted meanwhile: who deleted it cleans up; what is ours alone is the directory. */
        err_free(e);
        incoming_end(node, uuid);
        return NULL;
    }
    TRY(e);
    if (str_eq(instance_host(inst), node->host)) {
        /* It came, and we did not see the end of it. */
        CLEANUP(freep) char *source = read_source(node, uuid);

        log_info(LOG_MIGRATE, "server %s has come here while we were away", uuid);
        err_ignore(network_arrive(node, ctx, inst, source ? source : node->host),
                   "taking its ports over");
        err_ignore(network_clear_migrating_to(node, inst), "taking the note out of its ports");
        incoming_end(node, uuid);
        return NULL;
    }
    TRY(is_coming(node, ctx, uuid, &comes));
    if (comes) {
        return NULL;
    }
    log_context_instance(uuid);
    log_info(LOG_MIGRATE, "a move to this host ended without us: removing what was made for it");
    TRY(network_cached_vifs(inst, &vifs));
    live_clean_destination(node, ctx, inst, &vifs, owns_dir);
    log_context_instance(NULL);
    return NULL;
}

void incoming_settle(struct node *node, const struct rctx *ctx)
{
    CLEANUP(freep) char *dir = dir_path(node);
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, dir, &names);

    for (size_t i = 0; !e && i < names.n; i++) {
        if (uuid_is_valid(names.items[i])) {
            err_ignore(settle(node, ctx, names.items[i]), "settling an incoming server");
        }
    }
}

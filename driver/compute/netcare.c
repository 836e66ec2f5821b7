#include "driver/compute/netcare.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/incoming.h"
#include "driver/compute/interface.h"
#include "driver/compute/moves.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/guest_xml.h"

#include <stdlib.h>

#define N_REPLUGS      32
#define MAX_REPLUGS    3
#define REPLUG_SPAN_MS (10 * 60 * 1000)

/* A port that was plugged again. */
struct replug {
    char port_id[UUID_LEN + 1];
    int64_t at_ms;
};

struct netcare {
    struct strv to_heal; /* Servers, of netcare_heal alone. */
    struct mutex m;
    struct replug replugs[N_REPLUGS] GUARDED_BY(m); /* A ring. */
    size_t n_replugs GUARDED_BY(m);
};

struct netcare *netcare_new(void)
{
    struct netcare *c = NEW(struct netcare);

    mutex_init(&c->m);
    return c;
}

struct netcare *netcare_free(struct netcare *c)
{
    if (c) {
        strv_fini(&c->to_heal);
        mutex_fini(&c->m);
        free(c);
    }
    return NULL;
}

/* ---- A task for one server ---- */

struct care {
    struct node *node;
    struct rctx *ctx;
    struct instance *inst; /* NULL: it is read by the task. */
    char *uuid, *port_id, *port_name;
    const char *what;
    struct err *(*run)(struct care *);
};

static void care_free(void *arg)
{
    struct care *c = arg;

    rctx_free(c->ctx);
    instance_free(c->inst);
    free(c->uuid);
    free(c->port_id);
    free(c->port_name);
    free(c);
}

/* A server that is gone meanwhile needs no care. */
static bool is_gone(const struct err *e)
{
    return err_is(e, ERR_INSTANCE_NOT_FOUND) || err_is(e, ERR_INSTANCE_INFO_CACHE_NOT_FOUND);
}

static void care_task(void *arg)
{
    struct care *c = arg;

    log_context_set(rctx_log_text(c->ctx), c->uuid);
    struct err *e = c->run(c);

    if (is_gone(e)) {
        e = err_free(e);
    }
    err_ignore(e, c->what);
    log_context_set(NULL, NULL);
    care_free(c);
}

static void submit(struct node *node, enum lane lane, struct care care)
{
    struct care *c = NEW(struct care);

    *c = care;
    c->node = node;
    task_submit(node->tasks, lane, c->uuid, c->what, care_task, care_free, c);
}

static struct err *read_server(struct care *c, struct instance **ret)
{
    static const char *const attrs[] = {"info_cache", "flavor", "system_metadata", NULL};

    return instance_get(c->node->conductor, c->ctx, c->uuid, attrs, ret);
}

/* ---- Neutron's events ---- */

static struct err *load_cache(struct care *c)
{
    static const char *const attrs[] = {"info_cache", "project_id", NULL};

    return instance_load(c->node->conductor, c->ctx, c->inst, attrs);
}

/* It leaves, or is about to arrive. */
static bool is_moving(struct node *node, const char *uuid)
{
    CLEANUP(move_freep) struct move *move = moves_find(node->moves, uuid);
    bool owns_dir;
    struct err *e = incoming_read(node, uuid, &owns_dir);
    bool is_incoming = !err_is(e, ERR_NOT_FOUND);

    err_free(e);
    return move || is_incoming;
}

/* The ports of a server that moves change all the time: what is true is read when it has arrived,
 * or stays (live_dest.c, live_source.c). */
static struct err *reread(struct care *c)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    if (is_moving(c->node, c->uuid)) {
        return NULL;
    }
    TRY(load_cache(c));
    return network_refresh(c->node, c->ctx, c->inst, &vifs);
}

void netcare_changed(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    submit(node, LANE_WORK,
           (struct care){.ctx = rctx_ref(ctx),
                         .inst = instance_dup(inst),
                         .uuid = str_dup(instance_uuid(inst)),
                         .what = "reading the network after a change",
                         .run = reread});
}

static void warn_of_allocation(const struct vif *vif)
{
    if (jv_get(jv_get(vif->json, "profile"), "allocation")) {
        log_error(LOG_COMPUTE,
                  "port %s was deleted in neutron, what placement has given for it stays with the "
                  "server until that is deleted",
                  vif->id);
    }
}

static struct err *take_out(struct care *c)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(strv_fini) struct strv ids = {0};
    const struct vif *vif;

    TRY(load_cache(c));
    if (instance_info_cache(c->inst)) {
        TRY(info_cache_refresh(c->node->conductor, c->ctx, instance_info_cache(c->inst)));
    }
    TRY(network_cached_vifs(c->inst, &vifs));
    vif = vif_list_find(&vifs, c->port_id);
    if (!vif) {
        return NULL; /* Detached by us. */
    }
    log_info(LOG_COMPUTE, "port %s was deleted in neutron, taking it out of the guest", vif->id);
    warn_of_allocation(vif);
    strv_add(&ids, vif->id);
    TRY(network_forget(c->node, c->ctx, c->inst, &ids));
    return interface_detach(c->node, c->uuid, vif);
}

void netcare_deleted(struct node *node, const struct rctx *ctx, struct instance *inst,
                     const char *port_id)
{
    submit(node, LANE_WORK,
           (struct care){.ctx = rctx_ref(ctx),
                         .inst = instance_dup(inst),
                         .uuid = str_dup(instance_uuid(inst)),
                         .port_id = str_dup(port_id),
                         .what = "detaching a port that was deleted",
                         .run = take_out});
}

/* ---- Healing ---- */

#define IF_SET(inst, field) (instance_has_##field(inst) ? instance_##field(inst) : NULL)

bool netcare_may_heal(const struct instance *inst, const char *host)
{
    const char *task = IF_SET(inst, task_state), *vm = IF_SET(inst, vm_state);

    return str_eq(IF_SET(inst, host), host) && !str_eq(vm, "building") && !str_eq(vm, "deleted") &&
           !str_eq(task, "deleting") && !str_eq(task, "migrating");
}

static struct err *heal(struct care *c)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    TRY(read_server(c, &inst));
    if (!netcare_may_heal(inst, c->node->host) || is_moving(c->node, c->uuid)) {
        log_debug(LOG_COMPUTE, "not looking after the network now");
        return NULL;
    }
    if (!instance_task_state(inst)) {
        /* An evacuation that failed half-way leaves ports bound elsewhere. */
        return netalloc_bind_here(c->node, c->ctx, inst, /* spec= */ NULL, &vifs);
    }
    return netalloc_reread(c->node, c->ctx, inst, &vifs);
}

struct err *netcare_heal(struct node *node, const struct rctx *ctx)
{
    struct strv *queue = &node->netcare->to_heal;

    if (queue->n == 0) {
        TRY(instance_uuids_by_host(node->conductor, ctx, node->host, queue));
    }
    if (queue->n > 0) {
        char *last = queue->items[--queue->n];

        queue->items[queue->n] = NULL;
        submit(node, LANE_PERIODIC,
               (struct care){.ctx = rctx_ref(ctx),
                             .uuid = last,
                             .what = "looking after a server's network",
                             .run = heal});
    }
    return NULL;
}

/* ---- Ports that are taken away ---- */

/* Enters one more, unless there were too many lately. */
static bool may_replug(struct netcare *care, const char *port_id, int64_t now_ms)
{
    unsigned n = 0;

    mutex_lock(&care->m);
    for (size_t i = 0; i < N_REPLUGS; i++) {
        const struct replug *r = &care->replugs[i];

        n += str_eq(r->port_id, port_id) && now_ms < r->at_ms + REPLUG_SPAN_MS;
    }
    if (n < MAX_REPLUGS) {
        struct replug *r = &care->replugs[care->n_replugs++ % N_REPLUGS];

        *r = (struct replug){.at_ms = now_ms};
        for (size_t i = 0; i < UUID_LEN && port_id[i]; i++) {
            r->port_id[i] = port_id[i];
        }
    }
    mutex_unlock(&care->m);
    return n < MAX_REPLUGS;
}

/* What the guest has; *ret_runs false: there is none. */
static struct err *read_guest(struct node *node, const char *uuid, bool *ret_runs,
                              struct guest_info *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    enum lv_state state;

    TRY(lv_domain_by_uuid(node->lv, uuid, &domain));
    TRY(lv_domain_state(domain, &state, /* ret_reason= */ NULL));
    *ret_runs = state == LV_RUNNING || state == LV_BLOCKED || state == LV_PAUSED;
    if (!*ret_runs) {
        return NULL;
    }
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    return guest_info_parse(xml, ret);
}

/* Nearly always it was us who unplugged: then there is no guest, or it has let the interface go. */
static struct err *plug_again(struct care *c)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    struct ovs_port_info port = {0};
    const struct vif *vif;
    bool runs = false;

    if (!tracker_nodename(c->node->tracker)) {
        return NULL; /* We are starting: whoever begins anew plugs what is missing. */
    }
    TRY(read_guest(c->node, c->uuid, &runs, &guest));
    if (!runs) {
        return NULL;
    }
    TRY(read_server(c, &inst));
    TRY(network_cached_vifs(inst, &vifs));
    TRY(ovsdb_port_info(c->node->vif.ovsdb, c->port_name, &port));
    vif = vif_list_find(&vifs, c->port_id);
    if (port.exists || !vif || !guest_info_interface(&guest, vif->address) ||
        !netcare_may_heal(inst, c->node->host) || instance_task_state(inst) ||
        is_moving(c->node, c->uuid)) {
        return NULL;
    }
    if (!may_replug(c->node->netcare, vif->id, clock_ms())) {
        log_warning_limited(LOG_COMPUTE, "port %s is taken away again and again, leaving it",
                            vif->id);
        return NULL;
    }
    log_warning(LOG_COMPUTE, "port %s (%s) was taken from the switch, plugging it again", vif->id,
                c->port_name);
    return vif_plug(&c->node->vif, vif, c->uuid);
}

void netcare_gone(const struct ovs_gone *gone, void *arg)
{
    if (!uuid_is_valid(gone->vm_uuid)) {
        return; /* Somebody else's guest. */
    }
    submit(arg, LANE_WORK,
           (struct care){.ctx = rctx_new_admin(),
                         .uuid = str_dup(gone->vm_uuid),
                         .port_id = str_dup(gone->iface_id),
                         .port_name = str_dup(gone->name),
                         .what = "looking after a port that is gone",
                         .run = plug_again});
}

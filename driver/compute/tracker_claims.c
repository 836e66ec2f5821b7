/* The tracker's claims: for moves that come in, and for servers that are built here.
 *
 * Source: nova/compute/resource_tracker.py instance_claim, live_migration_claim, _move_claim,
 * abort_instance_claim; nova/compute/claims.py. */

#include "base/log.h"
#include "driver/compute/numa.h"
#include "driver/compute/numa_info.h"
#include "driver/compute/tracker_impl.h"

#include <inttypes.h>
#include <stdlib.h>

#define MIGRATION_WITH_COMPUTE_ID 8 /* Minor version of Migration. */
#define INSTANCE_WITH_COMPUTE_ID  8 /* Of Instance. */

/* ---- Claims for moves that come in ---- */

/* The host's topology with everything on it but 'uuid'. */
static struct numa_topology *numa_without_locked(struct tracker *t, const char *uuid)
{
    struct numa_topology *host = node_numa(&t->facts);
    CLEANUP(tracker_books_fini) struct books all = tracker_usage_locked(t);

    for (size_t i = 0; host && i < all.n; i++) {
        if (all.items[i].numa && !str_eq(all.items[i].uuid, uuid)) {
            numa_count_usage(host, all.items[i].numa, 1);
        }
    }
    return host;
}

/* What the server asks for: its topology without where it is pinned now.  Its page size stays,
 * since a guest cannot change it on the way. */
static struct instance_numa_topology *wanted_numa(const struct instance *inst)
{
    struct instance_numa_topology *wanted =
        instance_numa_topology_dup(instance_numa_topology(inst));

    for (size_t i = 0; wanted && i < instance_numa_topology_n_cells(wanted); i++) {
        struct instance_numa_cell *cell = instance_numa_topology_cells_at(wanted, i);

        instance_numa_cell_set_id(cell, (int64_t)i);
        instance_numa_cell_set_null_cpu_pinning_raw(cell);
        instance_numa_cell_set_null_cpuset_reserved(cell);
    }
    return wanted;
}

/* Fits and claims in one step, so that two servers cannot take the same room. */
static struct err *fit_and_claim(struct tracker *t, struct instance *inst, struct claim claim,
                                 const struct numa_topology_limits *limits,
                                 struct instance_numa_topology **ret)
{
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *wanted = wanted_numa(inst);
    struct instance_numa_topology *fitted = NULL;
    struct err *e = NULL;

    mutex_lock(&t->m);
    if (wanted) {
        CLEANUP(numa_topology_freep)
        struct numa_topology *host = numa_without_locked(t, instance_uuid(inst));

        e = host ? numa_fit(host, wanted, limits, &fitted)
                 : err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                           "the server has a NUMA topology, this host has none", NULL);
    }
    if (!e) {
        tracker_drop_claim_locked(t, instance_uuid(inst));
        claim.usage = usage_of(inst, fitted, /* is_move= */ claim.migration_uuid != NULL);
        claim.migration_uuid = str_dup(claim.migration_uuid);
        t->claims = mem_realloc(t->claims, t->n_claims + 1, sizeof(*t->claims));
        t->claims[t->n_claims++] = claim;
        t->n_changes++;
        *ret = fitted;
    }
    mutex_unlock(&t->m);
    return e;
}

/* Pages of one cell that the kernel really has free, against those that it needs. */
static struct err *check_cell_pages(struct tracker *t, const struct instance_numa_cell *cell)
{
    int64_t id = instance_numa_cell_id(cell);
    int64_t size =
        instance_numa_cell_has_pagesize(cell) && !instance_numa_cell_isnull_pagesize(cell)
            ? instance_numa_cell_pagesize(cell)
            : 0;
    uint64_t is_free = 0;

    if (size <= 4) {
        return NULL; /* Small pages are not counted out. */
    }
    uint64_t need = (uint64_t)(instance_numa_cell_memory(cell) * 1024 / size);

    TRY_CTX(lv_free_pages(t->node->lv, (unsigned)size, (int)id, &is_free),
            "counting free hugepages");
    if (is_free >= need) {
        return NULL;
    }
    CLEANUP(freep)
    char *reason =
        str_printf("host %s: NUMA node %" PRId64 " has %" PRIu64 " free pages of %" PRId64
                   " KiB, the server needs %" PRIu64 ", %" PRIu64 " more",
                   t->node->host, id, is_free, size, need, need - is_free);

    return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason", reason, NULL);
}

/* OVS's own pages and those of others are in no record (P17). */
static struct err *check_free_pages(struct tracker *t, const struct instance_numa_topology *fitted)
{
    for (size_t i = 0; fitted && i < instance_numa_topology_n_cells(fitted); i++) {
        TRY(check_cell_pages(t, instance_numa_topology_cells_at(fitted, i)));
    }
    return NULL;
}

/* Devices and persistent memory of the host itself do not move. */
static struct err *check_movable(const struct instance *inst)
{
    const struct instance_pci_requests *requests = instance_pci_requests(inst);
    const struct resource_list *resources = instance_resources(inst);

    for (size_t i = 0; requests && i < instance_pci_requests_n_requests(requests); i++) {
        const struct instance_pci_request *r = instance_pci_requests_requests_at(requests, i);

        if (instance_pci_request_has_alias_name(r) && instance_pci_request_alias_name(r)) {
            return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                           "Non-VIF related PCI requests are not supported for live migration.",
                           NULL);
        }
    }
    if (resources && resource_list_n(resources)) {
        return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                       "the server has persistent memory, this host offers none", NULL);
    }
    return NULL;
}

static struct err *record_migration(struct tracker *t, const struct rctx *ctx, struct migration *m)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(t);

    migration_set_dest_compute(m, t->node->host);
    migration_set_dest_node(m, t->nodename);
    migration_set_dest_host(m, conf->dflt.my_ip);
    if (cn && ovo_minor(migration_ovo(m)) >= MIGRATION_WITH_COMPUTE_ID) {
        migration_set_dest_compute_id(m, compute_node_id(cn));
    }
    return migration_save(t->node->conductor, ctx, m);
}

/* MigrationContext: what the server has, and what it will have here. */
static struct migration_context *context_of(struct instance *inst, struct migration *m,
                                            const struct instance_numa_topology *fitted)
{
    struct migration_context *mc = migration_context_new();
    struct instance_pci_requests *requests = instance_pci_requests(inst);

    migration_context_set_instance_uuid(mc, instance_uuid(inst));
    migration_context_set_migration_id(mc, migration_id(m));
    migration_context_set_old_numa_topology(
        mc, instance_numa_topology_dup(instance_numa_topology(inst)));
    migration_context_set_new_numa_topology(mc, instance_numa_topology_dup(fitted));
    migration_context_set_old_pci_devices(mc, pci_device_list_dup(instance_pci_devices(inst)));
    migration_context_set_new_pci_devices(mc, pci_device_list_new());
    migration_context_set_old_pci_requests(mc, instance_pci_requests_dup(requests));
    migration_context_set_new_pci_requests(mc, instance_pci_requests_dup(requests));
    migration_context_set_old_resources(mc, resource_list_dup(instance_resources(inst)));
    migration_context_set_new_resources(mc, NULL);
    return mc;
}

static void note_claim(struct tracker *t, const char *uuid, bool has_context)
{
    mutex_lock(&t->m);
    struct claim *c = tracker_find_claim_locked(t, uuid);

    if (c) {
        c->is_recorded = true;
        c->has_context |= has_context;
        t->n_changes++;
    }
    mutex_unlock(&t->m);
}

static struct err *record_claim(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                                struct migration *m, const struct instance_numa_topology *fitted)
{
    TRY(record_migration(t, ctx, m));
    note_claim(t, instance_uuid(inst), /* has_context= */ true);
    instance_set_migration_context(inst, context_of(inst, m, fitted));
    return instance_save(t->node->conductor, ctx, inst, NULL);
}

struct err *tracker_claim_move(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                               struct migration *m, struct scheduler_limits *limits,
                               struct instance_numa_topology **ret_numa)
{
    static const char *const attrs[] = {"flavor",       "numa_topology", "pci_devices",
                                        "pci_requests", "resources",     NULL};
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    const struct numa_topology_limits *nl = limits && scheduler_limits_has_numa_topology(limits)
                                                ? scheduler_limits_numa_topology(limits)
                                                : NULL;

    if (!tracker_node_uuid(t)) {
        return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                       "this host has not counted its resources yet", NULL);
    }
    TRY(instance_load(t->node->conductor, ctx, inst, attrs));
    TRY(check_movable(inst));
    TRY(fit_and_claim(t, inst,
                      (struct claim){.migration_uuid = (char *)migration_uuid(m),
                                     .migration_id = migration_id(m)},
                      nl, &fitted));
    struct err *e = check_free_pages(t, fitted);

    if (!e) {
        e = record_claim(t, ctx, inst, m, fitted);
    }
    if (e) {
        err_ignore(tracker_drop_move(t, ctx, instance_uuid(inst)), "dropping a claim that failed");
        return e;
    }
    tracker_save_usage(t, ctx);
    log_info(LOG_TRACKER, "room is claimed for the server");
    *ret_numa = TAKE(fitted);
    return NULL;
}

/* The context that a claim left in the server's record, if it is still that claim's: a later move
 * of this server would be taken for the old one. */
static struct err *drop_context(struct tracker *t, const struct rctx *ctx, const char *uuid,
                                int64_t migration_id)
{
    static const char *const attrs[] = {"migration_context", NULL};
    CLEANUP(instance_freep) struct instance *inst = NULL;
    struct err *e = instance_get(t->node->conductor, ctx, uuid, attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e);
    }
    TRY(e);
    struct migration_context *mc =
        instance_has_migration_context(inst) ? instance_migration_context(inst) : NULL;

    if (!mc || migration_context_migration_id(mc) != migration_id) {
        return NULL;
    }
    return instance_drop_migration_context(t->node->conductor, ctx, inst);
}

struct err *tracker_drop_move(struct tracker *t, const struct rctx *ctx, const char *instance_uuid)
{
    mutex_lock(&t->m);
    struct claim *c = tracker_find_claim_locked(t, instance_uuid);
    bool has_claim = c != NULL, has_context = c && c->has_context;
    int64_t migration = c ? c->migration_id : 0;

    tracker_drop_claim_locked(t, instance_uuid);
    for (size_t i = 0; i < t->books.n; i++) {
        if (t->books.items[i].is_move && str_eq(t->books.items[i].uuid, instance_uuid)) {
            tracker_books_remove(&t->books, instance_uuid);
            has_claim = true;
            break;
        }
    }
    t->n_changes += has_claim;
    mutex_unlock(&t->m);
    if (!has_claim) {
        return NULL;
    }
    log_info(LOG_TRACKER, "the room claimed for %s is free again", instance_uuid);
    tracker_save_usage(t, ctx);
    return has_context ? drop_context(t, ctx, instance_uuid, migration) : NULL;
}

struct err *tracker_numa_info(struct tracker *t, struct instance *inst,
                              struct instance_numa_topology *fitted,
                              struct libvirt_live_migrate_numa_info **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);

    mutex_lock(&t->m);
    struct err *e = numa_info_make(conf, &t->facts, inst, fitted, ret);

    mutex_unlock(&t->m);
    return e;
}

/* ---- Claims for servers that are built here ---- */

/* Limits come as a dictionary here, with an object in it (nova/objects/request_spec.py
 * SchedulerLimits.to_dict). */
static struct err *limits_of(struct json_object *limits, struct numa_topology_limits **ret)
{
    struct json_object *numa = limits ? jv_get(limits, "numa_topology") : NULL;

    *ret = NULL;
    return numa ? numa_topology_limits_from_json(numa, ret) : NULL;
}

static struct err *check_devices(const struct instance *inst)
{
    const struct instance_pci_requests *requests = instance_pci_requests(inst);

    return requests && instance_pci_requests_n_requests(requests) > 0
               ? err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                         "Claim pci failed: this host has no PCI devices for servers", NULL)
               : NULL;
}

static struct err *record_server(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                                 const struct instance_numa_topology *fitted)
{
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(t);

    instance_set_numa_topology(inst, instance_numa_topology_dup(fitted));
    instance_set_host(inst, t->node->host);
    instance_set_node(inst, t->nodename);
    instance_set_launched_on(inst, t->node->host);
    if (cn && ovo_minor(instance_ovo(inst)) >= INSTANCE_WITH_COMPUTE_ID) {
        instance_set_compute_id(inst, compute_node_id(cn));
    }
    return instance_save(t->node->conductor, ctx, inst, NULL);
}

struct err *tracker_claim_instance(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                                   struct json_object *limits)
{
    static const char *const attrs[] = {"flavor", "numa_topology", "pci_requests",
                                        "system_metadata", NULL};
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *numa_limits = NULL;

    if (!tracker_node_uuid(t)) {
        return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                       "this host has not counted its resources yet", NULL);
    }
    TRY(instance_load(t->node->conductor, ctx, inst, attrs));
    TRY_CTX(limits_of(limits, &numa_limits), "reading the scheduler's limits");
    TRY(check_devices(inst));
    TRY(fit_and_claim(t, inst, (struct claim){0}, numa_limits, &fitted));
    struct err *e = check_free_pages(t, fitted);

    if (!e) {
        e = record_server(t, ctx, inst, fitted);
    }
    if (e) {
        tracker_abort_instance(t, ctx, instance_uuid(inst));
        return e;
    }
    tracker_instance_changed(t, inst, /* is_here= */ true);
    tracker_save_usage(t, ctx);
    log_info(LOG_TRACKER, "room is claimed for the server");
    return NULL;
}

void tracker_abort_instance(struct tracker *t, const struct rctx *ctx, const char *uuid)
{
    mutex_lock(&t->m);
    t->n_changes++;
    tracker_books_remove(&t->books, uuid);
    tracker_drop_claim_locked(t, uuid);
    mutex_unlock(&t->m);
    tracker_save_usage(t, ctx);
}

struct err *tracker_use_facts(struct tracker *t, tracker_facts_fn fn, void *arg)
{
    mutex_lock(&t->m);
    struct err *e = fn(&t->facts, arg);

    mutex_unlock(&t->m);
    return e;
}

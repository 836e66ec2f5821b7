#include "driver/compute/tracker.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/inventory.h"
#include "driver/compute/node_record.h"
#include "driver/compute/numa.h"
#include "driver/compute/service.h"

#include <stdlib.h>
#include <string.h>

/* A move that was claimed here and has not arrived or ended. */
struct claim {
    struct usage usage;
    char *migration_uuid;
};

struct books {
    struct usage *items;
    size_t n;
};

struct tracker {
    struct node *node;
    struct mutex m; /* Covers all below; never held over I/O. */
    struct cond cond;
    bool is_auditing;
    struct compute_node *record; /* As it was saved last; NULL before the first audit. */
    struct host_facts facts;
    int64_t over_committed;
    struct books books;   /* Servers and moves that records tell of. */
    struct claim *claims; /* Those of this process that no record may tell of yet. */
    size_t n_claims;
    char *nodename, *node_uuid; /* Set once. */
    struct strv orphans;        /* Already logged. */
    int64_t last_audit_ms, last_audit_took_ms;
};

static void books_fini(struct books *b)
{
    for (size_t i = 0; i < b->n; i++) {
        usage_fini(&b->items[i]);
    }
    free(b->items);
    *b = (struct books){0};
}

static void claim_fini(struct claim *c)
{
    usage_fini(&c->usage);
    free(c->migration_uuid);
}

struct tracker *tracker_new(struct node *node)
{
    struct tracker *t = NEW(struct tracker);

    t->node = node;
    mutex_init(&t->m);
    cond_init(&t->cond);
    return t;
}

struct tracker *tracker_free(struct tracker *t)
{
    if (!t) {
        return NULL;
    }
    for (size_t i = 0; i < t->n_claims; i++) {
        claim_fini(&t->claims[i]);
    }
    free(t->claims);
    books_fini(&t->books);
    host_facts_fini(&t->facts);
    compute_node_free(t->record);
    strv_fini(&t->orphans);
    free(t->nodename);
    free(t->node_uuid);
    cond_fini(&t->cond);
    mutex_fini(&t->m);
    free(t);
    return NULL;
}

/* ---- Who uses what ---- */

static struct usage usage_dup(const struct usage *u)
{
    struct usage copy = *u;

    copy.uuid = str_dup(u->uuid);
    copy.vm_state = str_dup(u->vm_state);
    copy.task_state = str_dup(u->task_state);
    copy.os_type = str_dup(u->os_type);
    copy.project_id = str_dup(u->project_id);
    copy.numa = u->numa ? instance_numa_topology_dup(u->numa) : NULL;
    return copy;
}

static bool books_has(const struct books *b, const char *uuid)
{
    for (size_t i = 0; i < b->n; i++) {
        if (str_eq(b->items[i].uuid, uuid)) {
            return true;
        }
    }
    return false;
}

static void books_add(struct books *b, struct usage u)
{
    b->items = mem_realloc(b->items, b->n + 1, sizeof(*b->items));
    b->items[b->n++] = u;
}

static void books_remove(struct books *b, const char *uuid)
{
    for (size_t i = 0; i < b->n; i++) {
        if (str_eq(b->items[i].uuid, uuid)) {
            usage_fini(&b->items[i]);
            b->items[i] = b->items[--b->n];
            return;
        }
    }
}

/* Books and claims together, copied: what the host is used for right now. */
static struct books all_usage_locked(struct tracker *t)
{
    struct books all = {0};

    for (size_t i = 0; i < t->books.n; i++) {
        books_add(&all, usage_dup(&t->books.items[i]));
    }
    for (size_t i = 0; i < t->n_claims; i++) {
        if (!books_has(&all, t->claims[i].usage.uuid)) {
            books_add(&all, usage_dup(&t->claims[i].usage));
        }
    }
    return all;
}

static void drop_claim_locked(struct tracker *t, const char *uuid)
{
    for (size_t i = 0; i < t->n_claims; i++) {
        if (str_eq(t->claims[i].usage.uuid, uuid)) {
            claim_fini(&t->claims[i]);
            t->claims[i] = t->claims[--t->n_claims];
            return;
        }
    }
}

static bool is_incoming(struct tracker *t, struct migration *m)
{
    return str_eq(migration_dest_compute(m), t->node->host) &&
           !str_eq(migration_source_compute(m), t->node->host);
}

/* A server on its way to us: its new topology counts. */
static struct err *add_incoming(struct tracker *t, const struct rctx *ctx, struct migration *m,
                                struct books *books)
{
    static const char *const attrs[] = {"flavor", "numa_topology", "migration_context", NULL};
    CLEANUP(instance_freep) struct instance *inst = NULL;
    struct err *e = instance_get(t->node->conductor, ctx, migration_instance_uuid(m), attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return err_free(e);
    }
    TRY(e);
    struct migration_context *mc =
        instance_has_migration_context(inst) ? instance_migration_context(inst) : NULL;
    struct instance_numa_topology *numa =
        mc && migration_context_has_new_numa_topology(mc)
            ? migration_context_new_numa_topology(mc)
            : (instance_has_numa_topology(inst) ? instance_numa_topology(inst) : NULL);

    books_add(books, usage_of(inst, numa, /* is_move= */ true));
    return NULL;
}

/* Every claim whose move has ended goes. */
static void settle_claims(struct tracker *t, struct migration_list *moves)
{
    mutex_lock(&t->m);
    for (size_t i = t->n_claims; i-- > 0;) {
        bool goes_on = false;

        for (size_t k = 0; k < migration_list_n(moves); k++) {
            goes_on |=
                str_eq(migration_uuid(migration_list_at(moves, k)), t->claims[i].migration_uuid) &&
                !str_eq(migration_status(migration_list_at(moves, k)), "error");
        }
        if (!goes_on) {
            log_info(LOG_TRACKER, "the move of %s has ended: its claim is dropped",
                     t->claims[i].usage.uuid);
            drop_claim_locked(t, t->claims[i].usage.uuid);
        }
    }
    mutex_unlock(&t->m);
}

static struct err *read_books(struct tracker *t, const struct rctx *ctx, struct books *ret,
                              struct strv *ret_moves)
{
    static const char *const attrs[] = {"numa_topology", "flavor", "migration_context", NULL};
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    CLEANUP(migration_list_freep) struct migration_list *moves = NULL;
    CLEANUP(books_fini) struct books books = {0};
    struct node *node = t->node;

    TRY(instance_list_by_host_and_node(node->conductor, ctx, node->host, t->nodename, attrs,
                                       &list));
    TRY(migration_list_in_progress(node->conductor, ctx, node->host, t->nodename,
                                   /* with_error= */ true, &moves));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        if (!str_eq(instance_vm_state(inst), "deleted")) {
            books_add(
                &books,
                usage_of(inst,
                         instance_has_numa_topology(inst) ? instance_numa_topology(inst) : NULL,
                         /* is_move= */ false));
        }
    }
    for (size_t i = 0; i < migration_list_n(moves); i++) {
        struct migration *m = migration_list_at(moves, i);

        strv_add(ret_moves, migration_uuid(m));
        if (is_incoming(t, m) && !str_eq(migration_status(m), "error") &&
            !books_has(&books, migration_instance_uuid(m))) {
            TRY(add_incoming(t, ctx, m, &books));
        }
    }
    settle_claims(t, moves);
    *ret = books;
    books = (struct books){0};
    return NULL;
}

/* ---- The record ---- */

static struct err *find_record(struct tracker *t, const struct rctx *ctx, struct compute_node **ret)
{
    struct err *e = compute_node_get(t->node->conductor, ctx, t->node->host, t->nodename, ret);

    if (err_is(e, ERR_COMPUTE_HOST_NOT_FOUND)) {
        *ret = NULL;
        return err_free(e);
    }
    return e;
}

static struct err *save_record(struct tracker *t, const struct rctx *ctx, struct compute_node *cn,
                               bool is_new)
{
    if (is_new) {
        TRY_CTX(compute_node_create(t->node->conductor, ctx, cn), "making the compute node");
        log_info(LOG_TRACKER, "compute node %s made for %s", compute_node_uuid(cn), t->nodename);
    } else if (ovo_has_changes(compute_node_ovo(cn))) {
        TRY_CTX(compute_node_save(t->node->conductor, ctx, cn), "saving the compute node");
    }
    mutex_lock(&t->m);
    if (!t->node_uuid) {
        t->node_uuid = str_dup(compute_node_uuid(cn));
    }
    compute_node_free(t->record);
    t->record = compute_node_dup(cn);
    mutex_unlock(&t->m);
    return NULL;
}

/* The record with what is known now.  *ret is new. */
static void fill_record(struct tracker *t, const struct conf *conf, struct compute_node *cn)
{
    mutex_lock(&t->m);
    CLEANUP(books_fini) struct books all = all_usage_locked(t);

    node_record_fill(cn, conf, &t->facts, t->over_committed, all.items, all.n);
    mutex_unlock(&t->m);
}

/* ---- The audit ---- */

static struct err *read_facts(struct tracker *t, const struct conf *conf)
{
    struct host_facts facts = {0};
    int64_t over_committed = 0;

    TRY_CTX(host_read(t->node->lv, conf, &facts), "looking at this host");
    TRY(host_disk_over_committed(t->node->lv, &over_committed));
    mutex_lock(&t->m);
    if (!t->nodename) {
        t->nodename = str_dup(facts.hostname);
    } else if (!str_eq(t->nodename, facts.hostname)) {
        log_error(LOG_TRACKER, "the host's name has changed to %s, going on as %s", facts.hostname,
                  t->nodename);
        str_set(&facts.hostname, t->nodename);
    }
    host_facts_fini(&t->facts);
    t->facts = facts;
    t->over_committed = over_committed;
    mutex_unlock(&t->m);
    return NULL;
}

/* Domains that no record tells of: said once, never touched. */
static void log_orphans(struct tracker *t)
{
    CLEANUP(strv_fini) struct strv uuids = {0};
    CLEANUP(err_freep) struct err *e = lv_domain_uuids(t->node->lv, &uuids);

    for (size_t i = 0; !e && i < uuids.n; i++) {
        mutex_lock(&t->m);
        bool is_known =
            books_has(&t->books, uuids.items[i]) || strv_has(&t->orphans, uuids.items[i]);

        if (!is_known) {
            strv_add(&t->orphans, uuids.items[i]);
        }
        mutex_unlock(&t->m);
        if (!is_known) {
            log_warning(LOG_TRACKER, "domain %s is no server that Nova has here, leaving it alone",
                        uuids.items[i]);
        }
    }
}

static struct err *tell_placement(struct tracker *t, const struct conf *conf, bool is_startup)
{
    struct inventory inv = {0};
    CLEANUP(strv_fini) struct strv traits = {0}, owned = {0};

    if (is_startup) {
        TRY(placement_ensure_provider(t->node->placement, t->node_uuid, t->nodename));
    }
    TRY(inventory_make(t->node->placement, t->node_uuid, conf, &t->facts, &inv));
    struct err *e = placement_set_inventories(t->node->placement, t->node_uuid, inv.items, inv.n);

    if (err_is(e, ERR_NOT_FOUND) && !is_startup) {
        err_free(e);
        return tell_placement(t, conf, /* is_startup= */ true); /* Somebody deleted the provider. */
    }
    TRY_CTX(e, "telling placement what is here");
    inventory_traits(&t->facts, service_is_disabled(t->node), &traits, &owned);
    TRY_CTX(placement_set_traits(t->node->placement, t->node_uuid, &traits, &owned),
            "telling placement our traits");
    return NULL;
}

static struct err *audit(struct tracker *t, const struct rctx *ctx, bool is_startup)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(compute_node_freep) struct compute_node *cn = NULL;
    CLEANUP(strv_fini) struct strv moves = {0};
    struct books books = {0};

    TRY(read_facts(t, conf));
    TRY(find_record(t, ctx, &cn));
    bool is_new = cn == NULL;

    TRY(read_books(t, ctx, &books, &moves));
    mutex_lock(&t->m);
    books_fini(&t->books);
    t->books = books;
    mutex_unlock(&t->m);
    if (is_new) {
        cn = compute_node_new();
        compute_node_set_host(cn, t->node->host);
    }
    fill_record(t, conf, cn);
    TRY(save_record(t, ctx, cn, is_new));
    log_orphans(t);
    if (!is_startup) {
        err_ignore(service_refresh(t->node, ctx), "reading the service's record");
    }
    TRY(tell_placement(t, conf, is_startup));
    if (!is_startup) {
        mutex_lock(&t->m);
        CLEANUP(books_fini) struct books all = all_usage_locked(t);

        mutex_unlock(&t->m);
        inventory_clean_allocations(t->node, ctx, t->node_uuid, all.items, all.n, &moves);
    }
    return NULL;
}

struct err *tracker_audit(struct tracker *t, const struct rctx *ctx, bool is_startup)
{
    int64_t start_ms;

    mutex_lock(&t->m);
    while (t->is_auditing) {
        cond_wait_until(&t->cond, &t->m, INT64_MAX);
    }
    t->is_auditing = true;
    mutex_unlock(&t->m);
    start_ms = clock_ms();
    struct err *e = audit(t, ctx, is_startup);

    mutex_lock(&t->m);
    t->is_auditing = false;
    if (!e) {
        t->last_audit_ms = clock_ms();
        t->last_audit_took_ms = t->last_audit_ms - start_ms;
    }
    cond_broadcast(&t->cond);
    mutex_unlock(&t->m);
    return e;
}

/* ---- What others ask ---- */

const char *tracker_nodename(struct tracker *t)
{
    mutex_lock(&t->m);
    const char *name = t->nodename;

    mutex_unlock(&t->m);
    return name;
}

const char *tracker_node_uuid(struct tracker *t)
{
    mutex_lock(&t->m);
    const char *uuid = t->node_uuid;

    mutex_unlock(&t->m);
    return uuid;
}

struct compute_node *tracker_compute_node(struct tracker *t)
{
    mutex_lock(&t->m);
    struct compute_node *cn = t->record ? compute_node_dup(t->record) : NULL;

    mutex_unlock(&t->m);
    return cn;
}

void tracker_instance_changed(struct tracker *t, struct instance *inst, bool is_here)
{
    mutex_lock(&t->m);
    books_remove(&t->books, instance_uuid(inst));
    drop_claim_locked(t, instance_uuid(inst));
    if (is_here) {
        books_add(&t->books,
                  usage_of(inst,
                           instance_has_numa_topology(inst) ? instance_numa_topology(inst) : NULL,
                           /* is_move= */ false));
    }
    mutex_unlock(&t->m);
}

struct err *tracker_set_disabled_trait(struct tracker *t, bool is_disabled)
{
    CLEANUP(strv_fini) struct strv traits = {0}, owned = {0};

    strv_add(&owned, INVENTORY_DISABLED_TRAIT);
    if (is_disabled) {
        strv_add(&traits, INVENTORY_DISABLED_TRAIT);
    }
    return placement_set_traits(t->node->placement, tracker_node_uuid(t), &traits, &owned);
}

void tracker_stats(struct tracker *t, struct tracker_stats *ret)
{
    *ret = (struct tracker_stats){0};
    mutex_lock(&t->m);
    if (t->record) {
        ret->vcpus = compute_node_vcpus(t->record);
        ret->vcpus_used = compute_node_vcpus_used(t->record);
        ret->memory_mib = compute_node_memory_mb(t->record);
        ret->memory_mib_used = compute_node_memory_mb_used(t->record);
        ret->disk_gb = compute_node_local_gb(t->record);
        ret->disk_gb_used = compute_node_local_gb_used(t->record);
    }
    ret->n_instances = (unsigned)t->books.n;
    ret->n_claims = (unsigned)t->n_claims;
    ret->last_audit_ms = t->last_audit_ms;
    ret->last_audit_took_ms = t->last_audit_took_ms;
    mutex_unlock(&t->m);
}

/* ---- Claims for moves that come in ---- */

/* The host's topology with everything on it but 'uuid'. */
static struct numa_topology *numa_without_locked(struct tracker *t, const char *uuid)
{
    struct numa_topology *host = node_numa(&t->facts);
    CLEANUP(books_fini) struct books all = all_usage_locked(t);

    for (size_t i = 0; host && i < all.n; i++) {
        if (all.items[i].numa && !str_eq(all.items[i].uuid, uuid)) {
            numa_count_usage(host, all.items[i].numa, 1);
        }
    }
    return host;
}

/* Fits and claims in one step, so that two moves cannot take the same room. */
static struct err *fit_and_claim(struct tracker *t, struct instance *inst, const char *migration,
                                 const struct numa_topology_limits *limits,
                                 struct instance_numa_topology **ret)
{
    struct instance_numa_topology *wanted = instance_numa_topology(inst);
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
        drop_claim_locked(t, instance_uuid(inst));
        t->claims = mem_realloc(t->claims, t->n_claims + 1, sizeof(*t->claims));
        t->claims[t->n_claims++] = (struct claim){
            .usage = usage_of(inst, fitted, /* is_move= */ true),
            .migration_uuid = str_dup(migration),
        };
        *ret = fitted;
    }
    mutex_unlock(&t->m);
    return e;
}

/* What the kernel really has: OVS's own pages and those of others are in no record (P17). */
static struct err *check_free_pages(struct tracker *t, struct instance_numa_topology *fitted)
{
    for (size_t i = 0; fitted && i < instance_numa_topology_n_cells(fitted); i++) {
        struct instance_numa_cell *cell = instance_numa_topology_cells_at(fitted, i);
        uint64_t is_free = 0;

        if (!instance_numa_cell_has_pagesize(cell) || instance_numa_cell_isnull_pagesize(cell) ||
            instance_numa_cell_pagesize(cell) <= 4) {
            continue;
        }
        int64_t size = instance_numa_cell_pagesize(cell);
        uint64_t need = (uint64_t)(instance_numa_cell_memory(cell) * 1024 / size);

        TRY_CTX(
            lv_free_pages(t->node->lv, (unsigned)size, (int)instance_numa_cell_id(cell), &is_free),
            "counting free hugepages");
        if (is_free < need) {
            CLEANUP(freep)
            char *reason = str_printf(
                "host %s: NUMA node %lld has %llu free pages of %lld KiB, the server needs "
                "%llu, %llu more",
                t->node->host, (long long)instance_numa_cell_id(cell), (unsigned long long)is_free,
                (long long)size, (unsigned long long)need, (unsigned long long)(need - is_free));

            return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason", reason, NULL);
        }
    }
    return NULL;
}

static struct err *record_migration(struct tracker *t, const struct rctx *ctx, struct migration *m)
{
    const struct conf *conf = conf_get(t->node->conf);

    migration_set_dest_compute(m, t->node->host);
    migration_set_dest_node(m, t->nodename);
    migration_set_dest_host(m, conf->dflt.my_ip);
    conf_put(conf);
    return migration_save(t->node->conductor, ctx, m);
}

/* MigrationContext: what the server has, and what it will have here. */
static struct err *record_context(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                                  struct migration *m, const struct instance_numa_topology *fitted)
{
    static const char *const attrs[] = {"pci_devices", "pci_requests", "resources", NULL};
    struct migration_context *mc = migration_context_new();
    struct instance_numa_topology *old = instance_numa_topology(inst);
    struct err *e = instance_load(t->node->conductor, ctx, inst, attrs);

    if (e) {
        migration_context_free(mc);
        return e;
    }
    struct instance_pci_requests *requests = instance_pci_requests(inst);
    struct resource_list *resources = instance_resources(inst);

    migration_context_set_instance_uuid(mc, instance_uuid(inst));
    migration_context_set_migration_id(mc, migration_id(m));
    migration_context_set_old_numa_topology(mc, old ? instance_numa_topology_dup(old) : NULL);
    migration_context_set_new_numa_topology(mc, fitted ? instance_numa_topology_dup(fitted) : NULL);
    migration_context_set_old_pci_devices(mc, pci_device_list_new());
    migration_context_set_new_pci_devices(mc, pci_device_list_new());
    migration_context_set_old_pci_requests(mc,
                                           requests ? instance_pci_requests_dup(requests) : NULL);
    migration_context_set_new_pci_requests(mc,
                                           requests ? instance_pci_requests_dup(requests) : NULL);
    migration_context_set_old_resources(mc, resources ? resource_list_dup(resources) : NULL);
    migration_context_set_new_resources(mc, resources ? resource_list_dup(resources) : NULL);
    instance_set_migration_context(inst, mc);
    return instance_save(t->node->conductor, ctx, inst, NULL);
}

static void save_claimed(struct tracker *t, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(t);

    if (cn) {
        ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
        fill_record(t, conf, cn);
        err_ignore(save_record(t, ctx, cn, /* is_new= */ false), "saving usage after a claim");
    }
}

struct err *tracker_claim_move(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                               struct migration *m, struct scheduler_limits *limits,
                               struct instance_numa_topology **ret_numa)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    const struct numa_topology_limits *nl = limits && scheduler_limits_has_numa_topology(limits)
                                                ? scheduler_limits_numa_topology(limits)
                                                : NULL;

    TRY(fit_and_claim(t, inst, migration_uuid(m), nl, &fitted));
    struct err *e = check_free_pages(t, fitted);

    if (!e) {
        e = record_migration(t, ctx, m);
    }
    if (!e) {
        e = record_context(t, ctx, inst, m, fitted);
    }
    if (e) {
        err_ignore(tracker_drop_move(t, ctx, instance_uuid(inst)), "dropping a claim that failed");
        return e;
    }
    save_claimed(t, ctx);
    log_info(LOG_TRACKER, "room is claimed for the server");
    *ret_numa = TAKE(fitted);
    return NULL;
}

struct err *tracker_drop_move(struct tracker *t, const struct rctx *ctx, const char *instance_uuid)
{
    mutex_lock(&t->m);
    size_t before = t->n_claims + t->books.n;

    drop_claim_locked(t, instance_uuid);
    for (size_t i = 0; i < t->books.n; i++) {
        if (t->books.items[i].is_move && str_eq(t->books.items[i].uuid, instance_uuid)) {
            books_remove(&t->books, instance_uuid);
            break;
        }
    }
    bool is_changed = before != t->n_claims + t->books.n;

    mutex_unlock(&t->m);
    if (is_changed) {
        log_info(LOG_TRACKER, "the room claimed for %s is free again", instance_uuid);
        save_claimed(t, ctx);
    }
    return NULL;
}

/* ---- What the source must know of the claim ---- */

static struct json_object *set_to_json(const struct cpuset *set)
{
    return cpuset_to_json(set);
}

/* CPUs that float over their cell go to all of it that is shared. */
static struct cpuset cell_cpus(struct tracker *t, int64_t id)
{
    struct cpuset none = {0};

    for (size_t i = 0; i < t->facts.n_cells; i++) {
        if (t->facts.cells[i].id == id) {
            return cpuset_intersect(&t->facts.cells[i].cpus, &t->facts.shared);
        }
    }
    return none;
}

static void add_to(struct cpuset *sum, const struct cpuset *more)
{
    struct cpuset both = cpuset_union(sum, more);

    cpuset_fini(sum);
    *sum = both;
}

/* Pins of one guest cell: dedicated CPUs to their host CPU, the others to the cell. */
static void cell_pins_locked(struct tracker *t, struct instance_numa_cell *cell,
                             struct json_object *cpu_pins, struct cpuset *emulator)
{
    CLEANUP(cpuset_fini) struct cpuset shared = cell_cpus(t, instance_numa_cell_id(cell));
    const struct cpuset *floating = instance_numa_cell_cpuset(cell);
    struct json_object *pinning = instance_numa_cell_has_cpu_pinning_raw(cell) &&
                                          !instance_numa_cell_isnull_cpu_pinning_raw(cell)
                                      ? instance_numa_cell_cpu_pinning_raw(cell)
                                      : NULL;

    for (size_t i = 0; floating && i < floating->n; i++) {
        CLEANUP(freep) char *key = str_printf("%u", floating->items[i]);

        jv_add(cpu_pins, key, set_to_json(&shared));
    }
    if (floating && floating->n) {
        add_to(emulator, &shared);
    }
    if (!pinning) {
        return;
    }
    json_object_object_foreach(pinning, guest, host)
    {
        CLEANUP(cpuset_fini) struct cpuset one = {0};

        cpuset_add(&one, (unsigned)json_object_get_int64(host));
        jv_add(cpu_pins, guest, set_to_json(&one));
        add_to(emulator, &one);
    }
}

/* hw:cpu_realtime_mask "^0-1": the CPUs that stay normal; without a mask all are realtime. */
static struct err *realtime_cpus(const struct flavor *f, struct cpuset *ret)
{
    const char *mask = flavor_extra_specs_get(f, "hw:cpu_realtime_mask");
    CLEANUP(cpuset_fini) struct cpuset all = {0}, normal = {0};

    for (int64_t i = 0; i < flavor_vcpus(f); i++) {
        cpuset_add(&all, (unsigned)i);
    }
    if (mask) {
        CLEANUP(freep)
        char *spec = mask[0] == '^' ? str_printf("0-%lld,%s", (long long)flavor_vcpus(f) - 1, mask)
                                    : str_dup(mask);

        TRY_CTX(cpuset_parse(spec, ret), "reading hw:cpu_realtime_mask");
        return NULL;
    }
    *ret = cpuset_diff(&all, &normal);
    return NULL;
}

static bool is_true(const char *text)
{
    return str_ieq(text, "yes") || str_ieq(text, "true") || str_ieq(text, "on") ||
           str_eq(text, "1");
}

struct err *tracker_numa_info(struct tracker *t, struct instance *inst,
                              struct instance_numa_topology *fitted,
                              struct libvirt_live_migrate_numa_info **ret)
{
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = libvirt_live_migrate_numa_info_new();
    struct json_object *cpu_pins = json_object_new_object(), *cells = json_object_new_object();
    CLEANUP(cpuset_fini) struct cpuset emulator = {0};
    CLEANUP(cpuset_fini) struct cpuset realtime = {0};
    const struct flavor *flavor = instance_flavor(inst);
    const struct conf *conf = conf_get(t->node->conf);

    mutex_lock(&t->m);
    for (size_t i = 0; i < instance_numa_topology_n_cells(fitted); i++) {
        struct instance_numa_cell *cell = instance_numa_topology_cells_at(fitted, i);
        CLEANUP(freep) char *key = str_printf("%zu", i);
        CLEANUP(cpuset_fini) struct cpuset node = {0};

        cpuset_add(&node, (unsigned)instance_numa_cell_id(cell));
        jv_add(cells, key, set_to_json(&node));
        cell_pins_locked(t, cell, cpu_pins, &emulator);
    }
    mutex_unlock(&t->m);
    /* emulator_threads_policy share, where the host has a shared set of its own. */
    const char *policy = flavor_extra_specs_get(flavor, "hw:emulator_threads_policy");

    if (str_eq(policy, "share") && conf->compute.cpu_shared_set) {
        cpuset_fini(&emulator);
        emulator = cpuset_dup(&t->facts.shared);
    }
    conf_put(conf);
    libvirt_live_migrate_numa_info_set_cpu_pins(info, cpu_pins);
    libvirt_live_migrate_numa_info_set_cell_pins(info, cells);
    libvirt_live_migrate_numa_info_set_emulator_pins(info, &emulator);
    if (is_true(flavor_extra_specs_get(flavor, "hw:cpu_realtime"))) {
        TRY(realtime_cpus(flavor, &realtime));
        conf = conf_get(t->node->conf);
        libvirt_live_migrate_numa_info_set_sched_vcpus(info, &realtime);
        libvirt_live_migrate_numa_info_set_sched_priority(
            info, conf->libvirt.realtime_scheduler_priority);
        conf_put(conf);
    }
    *ret = TAKE(info);
    return NULL;
}

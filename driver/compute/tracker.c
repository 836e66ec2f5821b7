#include "driver/compute/tracker_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/inventory.h"
#include "driver/compute/move_usage.h"
#include "driver/compute/node_record.h"
#include "driver/compute/service.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_READS 5

void tracker_books_fini(struct books *b)
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
    tracker_books_fini(&t->books);
    host_facts_fini(&t->facts);
    compute_node_free(t->record);
    strv_fini(&t->orphans);
    strv_fini(&t->retired);
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

void tracker_books_remove(struct books *b, const char *uuid)
{
    for (size_t i = 0; i < b->n; i++) {
        if (str_eq(b->items[i].uuid, uuid)) {
            usage_fini(&b->items[i]);
            b->items[i] = b->items[--b->n];
            return;
        }
    }
}

struct claim *tracker_find_claim_locked(struct tracker *t, const char *uuid)
{
    for (size_t i = 0; i < t->n_claims; i++) {
        if (str_eq(t->claims[i].usage.uuid, uuid)) {
            return &t->claims[i];
        }
    }
    return NULL;
}

/* Books and claims together, copied: what the host is used for right now.  A claim knows better
 * than the records of its move, which may be half written. */
struct books tracker_usage_locked(struct tracker *t)
{
    struct books all = {0};

    for (size_t i = 0; i < t->n_claims; i++) {
        books_add(&all, usage_dup(&t->claims[i].usage));
    }
    for (size_t i = 0; i < t->books.n; i++) {
        if (!tracker_find_claim_locked(t, t->books.items[i].uuid)) {
            books_add(&all, usage_dup(&t->books.items[i]));
        }
    }
    return all;
}

void tracker_drop_claim_locked(struct tracker *t, const char *uuid)
{
    for (size_t i = 0; i < t->n_claims; i++) {
        if (str_eq(t->claims[i].usage.uuid, uuid)) {
            claim_fini(&t->claims[i]);
            t->claims[i] = t->claims[--t->n_claims];
            return;
        }
    }
}

/* ---- What the records say ---- */

struct records {
    struct instance_list *servers;
    struct migration_list *moves;
};

static void records_fini(struct records *r)
{
    r->servers = instance_list_free(r->servers);
    r->moves = migration_list_free(r->moves);
}

static struct err *read_records(struct tracker *t, const struct rctx *ctx, struct records *ret)
{
    static const char *const attrs[] = {"system_metadata",   "numa_topology", "flavor",
                                        "migration_context", "resources",     NULL};
    struct conductor *c = t->node->conductor;

    TRY(instance_list_by_host_and_node(c, ctx, t->node->host, t->nodename, attrs, &ret->servers));
    return migration_list_in_progress(c, ctx, t->node->host, t->nodename, /* with_error= */ true,
                                      &ret->moves);
}

/* Its resources are free (nova/compute/vm_states.py allow_resource_removal). */
static bool takes_nothing(const struct instance *inst)
{
    return str_eq(instance_vm_state(inst), "deleted") ||
           (str_eq(instance_vm_state(inst), "shelved_offloaded") &&
            !str_eq(instance_task_state(inst), "spawning"));
}

/* A server that has just come has the topology that was claimed, whatever its own record says. */
static struct instance_numa_topology *server_numa(struct tracker *t, const struct records *r,
                                                  struct instance *inst)
{
    struct migration_context *mc =
        instance_has_migration_context(inst) ? instance_migration_context(inst) : NULL;

    for (size_t i = 0; mc && i < migration_list_n(r->moves); i++) {
        struct migration *m = migration_list_at(r->moves, i);

        if (str_eq(migration_instance_uuid(m), instance_uuid(inst)) &&
            str_eq(migration_dest_compute(m), t->node->host) &&
            str_eq(migration_dest_node(m), t->nodename) &&
            migration_context_has_new_numa_topology(mc)) {
            return migration_context_new_numa_topology(mc);
        }
    }
    return instance_has_numa_topology(inst) ? instance_numa_topology(inst) : NULL;
}

static struct instance *find_server(const struct records *r, const char *uuid)
{
    for (size_t i = 0; i < instance_list_n(r->servers); i++) {
        if (str_eq(instance_uuid(instance_list_at(r->servers, i)), uuid)) {
            return instance_list_at(r->servers, i);
        }
    }
    return NULL;
}

static bool is_claimed(struct tracker *t, const char *uuid)
{
    mutex_lock(&t->m);
    bool ret = tracker_find_claim_locked(t, uuid) != NULL;

    mutex_unlock(&t->m);
    return ret;
}

/* A context of another move: this one was given up without anybody noting it. */
static struct err *give_up_move(struct tracker *t, const struct rctx *ctx, struct migration *m)
{
    log_warning(LOG_TRACKER, "move %s was overtaken by another, noting that it failed",
                migration_uuid(m));
    migration_set_status(m, "error");
    return migration_save(t->node->conductor, ctx, m);
}

static struct err *add_move(struct tracker *t, const struct rctx *ctx, const struct records *r,
                            struct migration *m, struct books *books)
{
    static const char *const attrs[] = {"flavor",        "old_flavor",        "new_flavor",
                                        "numa_topology", "migration_context", NULL};
    const char *uuid = migration_instance_uuid(m);
    struct instance *inst = find_server(r, uuid);
    CLEANUP(instance_freep) struct instance *elsewhere = NULL;
    struct usage usage;

    if (is_claimed(t, uuid)) {
        return NULL; /* Counted, and its records may be half written. */
    }
    if (!inst) {
        struct err *e = instance_get(t->node->conductor, ctx, uuid, attrs, &elsewhere);

        if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
            return err_free(e);
        }
        TRY(e);
        inst = elsewhere;
    }
    if (!move_is_under_way(inst)) {
        return NULL;
    }
    struct migration_context *mc =
        instance_has_migration_context(inst) ? instance_migration_context(inst) : NULL;

    if (mc && migration_context_migration_id(mc) != migration_id(m)) {
        return give_up_move(t, ctx, m);
    }
    enum move_side side = move_side(m, inst, t->node->host, t->nodename, books_has(books, uuid));

    if (side != MOVE_SIDE_NONE && move_usage_of(m, inst, side, &usage)) {
        books_add(books, usage);
    }
    return NULL;
}

static struct err *make_books(struct tracker *t, const struct rctx *ctx, const struct records *r,
                              struct books *ret)
{
    for (size_t i = 0; i < instance_list_n(r->servers); i++) {
        struct instance *inst = instance_list_at(r->servers, i);

        if (!takes_nothing(inst)) {
            books_add(ret, usage_of(inst, server_numa(t, r, inst), /* is_move= */ false));
        }
    }
    for (size_t i = 0; i < migration_list_n(r->moves); i++) {
        struct migration *m = migration_list_at(r->moves, i);

        if (migration_instance_uuid(m) && !move_is_superseded(r->moves, i)) {
            TRY(add_move(t, ctx, r, m, ret));
        }
    }
    return NULL;
}

/* Every claim whose move has ended goes. */
static void settle_claims_locked(struct tracker *t, const struct migration_list *moves)
{
    for (size_t i = t->n_claims; i-- > 0;) {
        const struct claim *c = &t->claims[i];
        bool goes_on = !c->is_recorded;

        for (size_t k = 0; k < migration_list_n(moves); k++) {
            const struct migration *m = migration_list_at(moves, k);

            goes_on |= str_eq(migration_uuid(m), c->migration_uuid) &&
                       !str_eq(migration_status(m), "error");
        }
        if (!goes_on) {
            log_info(LOG_TRACKER, "the move of %s has ended: its claim is dropped", c->usage.uuid);
            tracker_drop_claim_locked(t, c->usage.uuid);
        }
    }
}

/* Puts the books in place unless they are outdated already: something changed while we read. */
static bool accept_books(struct tracker *t, uint64_t n_changes, struct records *r,
                         struct books *books)
{
    mutex_lock(&t->m);
    bool is_current = t->n_changes == n_changes;

    if (is_current) {
        settle_claims_locked(t, r->moves);
        tracker_books_fini(&t->books);
        t->books = *books;
        *books = (struct books){0};
    }
    mutex_unlock(&t->m);
    return is_current;
}

static struct err *try_books(struct tracker *t, const struct rctx *ctx, struct strv *ret_moves,
                             bool *ret_done)
{
    CLEANUP(records_fini) struct records r = {0};
    CLEANUP(tracker_books_fini) struct books books = {0};

    mutex_lock(&t->m);
    uint64_t n_changes = t->n_changes;

    mutex_unlock(&t->m);
    TRY(read_records(t, ctx, &r));
    TRY(make_books(t, ctx, &r, &books));
    *ret_done = accept_books(t, n_changes, &r, &books);
    for (size_t i = 0; *ret_done && i < migration_list_n(r.moves); i++) {
        strv_add(ret_moves, migration_uuid(migration_list_at(r.moves, i)));
    }
    return NULL;
}

/* *ret_moves: uuids of the moves to and from here. */
static struct err *read_books(struct tracker *t, const struct rctx *ctx, struct strv *ret_moves)
{
    bool is_done = false;

    for (unsigned i = 0; !is_done && i < MAX_READS; i++) {
        TRY(try_books(t, ctx, ret_moves, &is_done));
    }
    if (!is_done) {
        log_warning(LOG_TRACKER, "servers come and go too fast to be counted, trying again with "
                                 "the next audit");
    }
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
    if (!str_eq(t->node_uuid, compute_node_uuid(cn))) {
        /* The first, or made anew after somebody deleted it; others may still hold the old text. */
        if (t->node_uuid) {
            strv_add_take(&t->retired, t->node_uuid);
        }
        t->node_uuid = str_dup(compute_node_uuid(cn));
        t->has_provider = false;
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
    CLEANUP(tracker_books_fini) struct books all = tracker_usage_locked(t);

    node_record_fill(cn, conf, &t->facts, t->over_committed, all.items, all.n);
    mutex_unlock(&t->m);
}

void tracker_save_usage(struct tracker *t, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(t);

    if (cn) {
        ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
        fill_record(t, conf, cn);
        err_ignore(save_record(t, ctx, cn, /* is_new= */ false), "saving usage after a claim");
    }
}

void tracker_count_build(struct tracker *t, const struct rctx *ctx, bool has_failed)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(compute_node_freep) struct compute_node *cn = tracker_compute_node(t);
    const char *before = cn && compute_node_has_stats(cn) && !compute_node_isnull_stats(cn)
                             ? compute_node_stats_get(cn, "failed_builds")
                             : NULL;
    int64_t n = 0;

    if (!before || !str_to_i64(before, &n) || (n == 0 && !has_failed) ||
        (has_failed && conf->compute.consecutive_build_service_disable_threshold == 0)) {
        return;
    }
    CLEANUP(freep) char *after = str_printf("%" PRId64, has_failed ? n + 1 : 0);

    ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
    compute_node_stats_put(cn, "failed_builds", after);
    err_ignore(save_record(t, ctx, cn, /* is_new= */ false), "counting a build that failed");
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
        bool is_known = books_has(&t->books, uuids.items[i]) ||
                        tracker_find_claim_locked(t, uuids.items[i]) ||
                        strv_has(&t->orphans, uuids.items[i]);

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

static struct err *try_placement(struct tracker *t, const struct conf *conf)
{
    struct placement *p = t->node->placement;
    struct inventory inv = {0};
    CLEANUP(strv_fini) struct strv traits = {0}, owned = {0};

    if (!t->has_provider) {
        TRY(placement_ensure_provider(p, t->node_uuid, t->nodename));
        t->has_provider = true;
    }
    TRY(inventory_make(p, t->node_uuid, conf, &t->facts, &inv));
    TRY_CTX(placement_set_inventories(p, t->node_uuid, inv.items, inv.n),
            "telling placement what is here");
    inventory_traits(&t->facts, service_is_disabled(t->node), &traits, &owned);
    TRY_CTX(placement_set_traits(p, t->node_uuid, &traits, &owned), "telling placement our traits");
    return NULL;
}

/* Makes the provider again if somebody deleted it. */
static struct err *tell_placement(struct tracker *t, const struct conf *conf)
{
    bool had_provider = t->has_provider;
    struct err *e = try_placement(t, conf);

    if (err_is(e, ERR_NOT_FOUND) && had_provider) {
        err_free(e);
        t->has_provider = false;
        e = try_placement(t, conf);
    }
    return e;
}

/* The record, made if there is none.  Somebody may delete it while we run: then it is made again
 * with the next audit. */
static struct err *audit_record(struct tracker *t, const struct rctx *ctx, const struct conf *conf)
{
    CLEANUP(compute_node_freep) struct compute_node *cn = NULL;

    TRY(find_record(t, ctx, &cn));
    bool is_new = cn == NULL;

    if (is_new) {
        cn = compute_node_new();
        compute_node_set_host(cn, t->node->host);
    }
    fill_record(t, conf, cn);
    return save_record(t, ctx, cn, is_new);
}

static void clean_allocations(struct tracker *t, const struct rctx *ctx, const struct strv *moves)
{
    mutex_lock(&t->m);
    CLEANUP(tracker_books_fini) struct books all = tracker_usage_locked(t);

    mutex_unlock(&t->m);
    inventory_clean_allocations(t->node, ctx, t->node_uuid, t->nodename, all.items, all.n, moves);
}

static struct err *audit(struct tracker *t, const struct rctx *ctx, bool is_startup)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(t->node->conf);
    CLEANUP(strv_fini) struct strv moves = {0};

    TRY(read_facts(t, conf));
    TRY(read_books(t, ctx, &moves));
    TRY(audit_record(t, ctx, conf));
    log_orphans(t);
    if (!is_startup) {
        err_ignore(service_refresh(t->node, ctx), "reading the service's record");
    }
    struct err *e = tell_placement(t, conf);

    if (e && is_startup) {
        /* Servers run and can be moved without placement; Nova starts too. */
        err_ignore(e, "telling placement at the start, trying again with the next audit");
        return NULL;
    }
    TRY(e);
    if (!is_startup) {
        clean_allocations(t, ctx, &moves);
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
    t->n_changes++;
    tracker_books_remove(&t->books, instance_uuid(inst));
    tracker_drop_claim_locked(t, instance_uuid(inst));
    if (is_here && instance_has_flavor(inst)) {
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
    const char *provider = tracker_node_uuid(t);

    if (!provider) {
        return NULL; /* The first audit tells it. */
    }
    strv_add(&owned, INVENTORY_DISABLED_TRAIT);
    if (is_disabled) {
        strv_add(&traits, INVENTORY_DISABLED_TRAIT);
    }
    return placement_set_traits(t->node->placement, provider, &traits, &owned);
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
    for (size_t i = 0; i < t->books.n; i++) {
        ret->n_instances += !t->books.items[i].is_move;
    }
    ret->n_claims = (unsigned)t->n_claims;
    ret->last_audit_ms = t->last_audit_ms;
    ret->last_audit_took_ms = t->last_audit_took_ms;
    mutex_unlock(&t->m);
}

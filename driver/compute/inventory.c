#include "driver/compute/inventory.h"

#include "base/log.h"

static double ratio(double option, double initial, struct json_object *present, const char *rc)
{
    struct json_object *now = jv_get(jv_get(present, rc), "allocation_ratio");

    return conf_is_set(option) ? option : now ? json_object_get_double(now) : initial;
}

static void add(struct inventory *inv, const char *rc, int64_t total, int64_t reserved,
                double ratio)
{
    /* Placement refuses inventories of nothing. */
    if (total > 0) {
        inv->items[inv->n++] = (struct placement_inventory){.resource_class = rc,
                                                            .total = total,
                                                            .reserved = reserved,
                                                            .min_unit = 1,
                                                            .max_unit = total,
                                                            .step_size = 1,
                                                            .allocation_ratio = ratio};
    }
}

/* Existing ratios matter only where an option leaves them open. */
static bool needs_present(const struct conf *conf)
{
    return !conf_is_set(conf->dflt.cpu_allocation_ratio) ||
           !conf_is_set(conf->dflt.ram_allocation_ratio) ||
           !conf_is_set(conf->dflt.disk_allocation_ratio);
}

struct err *inventory_make(struct placement *placement, const char *provider,
                           const struct conf *conf, const struct host_facts *f,
                           struct inventory *ret)
{
    CLEANUP(jv_putp) struct json_object *present = NULL;
    int64_t reserved_gb = (conf->dflt.reserved_host_disk_mb + 1023) / 1024;

    if (needs_present(conf)) {
        TRY(placement_get_inventories(placement, provider, &present));
    }
    *ret = (struct inventory){0};
    add(ret, "MEMORY_MB", f->memory_mib, conf->dflt.reserved_host_memory_mb,
        ratio(conf->dflt.ram_allocation_ratio, conf->dflt.initial_ram_allocation_ratio, present,
              "MEMORY_MB"));
    add(ret, "VCPU", f->vcpus, conf->dflt.reserved_host_cpus,
        ratio(conf->dflt.cpu_allocation_ratio, conf->dflt.initial_cpu_allocation_ratio, present,
              "VCPU"));
    add(ret, "PCPU", (int64_t)f->dedicated.n, 0, 1.0);
    add(ret, "DISK_GB", f->local_gb, reserved_gb,
        ratio(conf->dflt.disk_allocation_ratio, conf->dflt.initial_disk_allocation_ratio, present,
              "DISK_GB"));
    return NULL;
}

void inventory_traits(const struct host_facts *f, bool is_disabled, struct strv *ret_traits,
                      struct strv *ret_owned)
{
    for (size_t i = 0; i < f->traits.n; i++) {
        strv_add(ret_traits, f->traits.items[i]);
    }
    for (size_t i = 0; i < f->owned_traits.n; i++) {
        strv_add(ret_owned, f->owned_traits.items[i]);
    }
    strv_add(ret_owned, INVENTORY_DISABLED_TRAIT);
    if (is_disabled) {
        strv_add(ret_traits, INVENTORY_DISABLED_TRAIT);
    }
}

/* ---- Allocations that nobody needs ---- */

static bool is_tracked(const char *consumer, const struct usage *usages, size_t n,
                       const struct strv *moves)
{
    if (strv_has(moves, consumer)) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (str_eq(usages[i].uuid, consumer)) {
            return true;
        }
    }
    return false;
}

/* Only what Nova's record calls deleted is removed; everything else is said and left. */
static struct err *clean_one(struct node *node, const struct rctx *ctx, const char *consumer)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const no_attrs[] = {NULL};
    struct err *e = instance_get(node->conductor, ctx, consumer, no_attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        log_info(LOG_TRACKER,
                 "consumer %s has an allocation here and is no server of this cell, "
                 "leaving it",
                 consumer);
        return err_free(e);
    }
    TRY(e);
    if (instance_has_deleted(inst) && instance_deleted(inst) &&
        !(instance_has_hidden(inst) && instance_hidden(inst))) {
        log_info(LOG_TRACKER, "server %s is deleted: removing its allocations", consumer);
        return placement_delete_allocations(node->placement, consumer);
    }
    if (instance_host(inst) && !str_eq(instance_host(inst), node->host)) {
        log_warning(LOG_TRACKER, "server %s is on %s but has an allocation here, leaving it",
                    consumer, instance_host(inst));
    }
    return NULL;
}

void inventory_clean_allocations(struct node *node, const struct rctx *ctx, const char *provider,
                                 const struct usage *usages, size_t n_usages,
                                 const struct strv *moves)
{
    CLEANUP(jv_putp) struct json_object *consumers = NULL;
    CLEANUP(err_freep)
    struct err *e = placement_provider_allocations(node->placement, provider, &consumers);

    if (e) {
        log_warning(LOG_TRACKER, "asking placement who is here: %s, trying again at the next audit",
                    err_message(e));
        return;
    }
    json_object_object_foreach(consumers, consumer, allocation)
    {
        (void)allocation;
        if (!is_tracked(consumer, usages, n_usages, moves)) {
            err_ignore(clean_one(node, ctx, consumer), "looking at an allocation");
        }
    }
}

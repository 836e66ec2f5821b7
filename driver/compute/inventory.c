#include "driver/compute/inventory.h"

#include "base/log.h"

/* 0.0 is an old way to leave an option unset. */
static bool is_option(double option)
{
    return conf_is_set(option) && option > 0;
}

static double ratio(double option, double initial, struct json_object *present, const char *rc)
{
    struct json_object *now = jv_get(jv_get(present, rc), "allocation_ratio");

    return is_option(option) ? option : now ? json_object_get_double(now) : initial;
}

static struct placement_inventory *add(struct inventory *inv, const char *rc, int64_t total,
                                       int64_t reserved, double allocation_ratio)
{
    struct placement_inventory *item = &inv->items[inv->n];

    *item = (struct placement_inventory){
        .resource_class = rc,
        .total = total,
        .reserved = reserved,
        .min_unit = 1,
        .max_unit = total,
        .step_size = 1,
        .allocation_ratio = allocation_ratio,
    };
    inv->n += total > 0; /* Placement refuses inventories of nothing. */
    return item;
}

/* Guests with encrypted memory: as many as the operator says, else no limit (Nova's largest). */
static int64_t memory_encryption_slots(const struct conf *conf, const struct host_facts *f)
{
    if (!strv_has(&f->traits, "HW_CPU_X86_AMD_SEV")) {
        return 0;
    }
    return conf_is_set_int(conf->libvirt.num_memory_encrypted_guests)
               ? conf->libvirt.num_memory_encrypted_guests
               : INT32_MAX;
}

void inventory_fill(const struct conf *conf, const struct host_facts *f,
                    struct json_object *present, struct inventory *ret)
{
    int64_t reserved_gb = (conf->dflt.reserved_host_disk_mb + 1023) / 1024;

    *ret = (struct inventory){0};
    add(ret, "MEMORY_MB", f->memory_mib, conf->dflt.reserved_host_memory_mb,
        ratio(conf->dflt.ram_allocation_ratio, conf->dflt.initial_ram_allocation_ratio, present,
              "MEMORY_MB"));
    add(ret, "VCPU", f->vcpus, conf->dflt.reserved_host_cpus,
        ratio(conf->dflt.cpu_allocation_ratio, conf->dflt.initial_cpu_allocation_ratio, present,
              "VCPU"));
    add(ret, "PCPU", (int64_t)f->dedicated.n, 0, 1.0);
    add(ret, "MEM_ENCRYPTION_CONTEXT", memory_encryption_slots(conf, f), 0, 1.0)->max_unit = 1;
    add(ret, "DISK_GB", f->local_gb, reserved_gb,
        ratio(conf->dflt.disk_allocation_ratio, conf->dflt.initial_disk_allocation_ratio, present,
              "DISK_GB"));
}

struct err *inventory_make(struct placement *placement, const char *provider,
                           const struct conf *conf, const struct host_facts *f,
                           struct inventory *ret)
{
    CLEANUP(jv_putp) struct json_object *present = NULL;

    /* Present ratios matter only where an option leaves them open. */
    if (!is_option(conf->dflt.cpu_allocation_ratio) ||
        !is_option(conf->dflt.ram_allocation_ratio) ||
        !is_option(conf->dflt.disk_allocation_ratio)) {
        TRY(placement_get_inventories(placement, provider, &present));
    }
    inventory_fill(conf, f, present, ret);
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

enum leftover inventory_leftover(const struct instance *inst, const char *host, const char *node)
{
    const char *at = instance_has_host(inst) ? instance_host(inst) : NULL;
    bool is_hidden = instance_has_hidden(inst) && instance_hidden(inst);

    if (instance_has_deleted(inst) && instance_deleted(inst) && !is_hidden) {
        return LEFTOVER_DELETE;
    }
    if (!at) {
        return LEFTOVER_KEEP; /* The scheduler chose us; the build has not begun. */
    }
    if (str_eq(at, host)) {
        return str_eq(instance_node(inst), node) && !instance_task_state(inst)
                   ? LEFTOVER_KEEP_AND_WARN
                   : LEFTOVER_KEEP;
    }
    return LEFTOVER_KEEP_AND_WARN;
}

static struct err *clean_one(struct node *node, const struct rctx *ctx, const char *nodename,
                             const char *consumer)
{
    CLEANUP(instance_freep) struct instance *inst = NULL;
    static const char *const no_attrs[] = {NULL};
    struct err *e = instance_get(node->conductor, ctx, consumer, no_attrs, &inst);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        log_debug(LOG_TRACKER, "%s has an allocation here and is no server of this cell", consumer);
        return err_free(e);
    }
    TRY(e);
    switch (inventory_leftover(inst, node->host, nodename)) {
    case LEFTOVER_DELETE:
        log_info(LOG_TRACKER, "server %s is deleted: removing its allocations", consumer);
        return placement_delete_allocations(node->placement, consumer);
    case LEFTOVER_KEEP_AND_WARN:
        log_warning(LOG_TRACKER, "server %s (on %s) has an allocation here, leaving it", consumer,
                    instance_host(inst));
        return NULL;
    case LEFTOVER_KEEP:
        return NULL;
    }
    return NULL;
}

void inventory_clean_allocations(struct node *node, const struct rctx *ctx, const char *provider,
                                 const char *nodename, const struct usage *usages, size_t n_usages,
                                 const struct strv *moves)
{
    CLEANUP(rctx_freep) struct rctx *all = rctx_with_deleted(ctx);
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
            err_ignore(clean_one(node, all, nodename, consumer), "looking at an allocation");
        }
    }
}

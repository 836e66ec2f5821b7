#include "driver/compute/move_usage.h"

#include <string.h>

static bool is_one_of(const char *s, const char *const *list)
{
    for (; s && *list; list++) {
        if (str_eq(s, *list)) {
            return true;
        }
    }
    return false;
}

bool move_is_under_way(const struct instance *inst)
{
    static const char *const resizing[] = {"resize_prep",      "resize_migrating",
                                           "resize_migrated",  "resize_finish",
                                           "rebuilding",       "rebuild_block_device_mapping",
                                           "rebuild_spawning", NULL};
    const char *vm = instance_vm_state(inst), *task = instance_task_state(inst);

    if (str_eq(vm, "resized")) {
        return true;
    }
    if (str_eq(task, "migrating")) {
        return str_eq(vm, "active") || str_eq(vm, "paused");
    }
    return (str_eq(vm, "active") || str_eq(vm, "stopped")) && is_one_of(task, resizing);
}

static const char *last_change(const struct migration *m)
{
    const char *updated = migration_has_updated_at(m) ? migration_updated_at(m) : NULL;
    const char *created = migration_has_created_at(m) ? migration_created_at(m) : NULL;

    return updated ? updated : created ? created : "";
}

bool move_is_superseded(const struct migration_list *list, size_t i)
{
    const struct migration *m = migration_list_at(list, i);

    for (size_t k = 0; k < migration_list_n(list); k++) {
        const struct migration *other = migration_list_at(list, k);
        int later = strcmp(last_change(other), last_change(m));

        if (k != i && str_eq(migration_instance_uuid(other), migration_instance_uuid(m)) &&
            (later > 0 || (later == 0 && k < i))) {
            return true;
        }
    }
    return false;
}

enum move_side move_side(const struct migration *m, const struct instance *inst, const char *host,
                         const char *node, bool is_tracked)
{
    bool is_incoming =
        str_eq(migration_dest_compute(m), host) && str_eq(migration_dest_node(m), node);
    bool is_outgoing =
        str_eq(migration_source_compute(m), host) && str_eq(migration_source_node(m), node);

    if (is_incoming && is_outgoing) {
        /* A resize on one host: the server counts with one flavor, the move with the other. */
        bool has_old = !migration_isnull_old_instance_type_id(m) &&
                       !instance_isnull_instance_type_id(inst) &&
                       instance_instance_type_id(inst) == migration_old_instance_type_id(m);

        return has_old ? MOVE_SIDE_NEW : MOVE_SIDE_OLD;
    }
    if (is_tracked) {
        return MOVE_SIDE_NONE;
    }
    return is_incoming ? MOVE_SIDE_NEW : is_outgoing ? MOVE_SIDE_OLD : MOVE_SIDE_NONE;
}

static const struct instance_numa_topology *side_numa(const struct instance *inst,
                                                      enum move_side side)
{
    const struct migration_context *mc =
        instance_has_migration_context(inst) ? instance_migration_context(inst) : NULL;

    if (mc && side == MOVE_SIDE_NEW) {
        return migration_context_has_new_numa_topology(mc) ? migration_context_new_numa_topology(mc)
                                                           : NULL;
    }
    return mc && migration_context_has_old_numa_topology(mc)
               ? migration_context_old_numa_topology(mc)
               : NULL;
}

static const struct flavor *side_flavor(const struct migration *m, const struct instance *inst,
                                        enum move_side side)
{
    if (!str_eq(migration_migration_type(m), "resize")) {
        return instance_has_flavor(inst) ? instance_flavor(inst) : NULL;
    }
    if (side == MOVE_SIDE_NEW) {
        return instance_has_new_flavor(inst) ? instance_new_flavor(inst) : NULL;
    }
    return instance_has_old_flavor(inst) ? instance_old_flavor(inst) : NULL;
}

bool move_usage_of(const struct migration *m, const struct instance *inst, enum move_side side,
                   struct usage *ret)
{
    const struct flavor *f = side_flavor(m, inst, side);

    if (!f) {
        return false;
    }
    *ret = usage_of_flavor(inst, f, side_numa(inst, side), /* is_move= */ true);
    return true;
}

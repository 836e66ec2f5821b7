/* link: driver_compute driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/move_usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct instance *server(const char *vm_state, const char *task_state)
{
    struct instance *i = instance_new();

    instance_set_uuid(i, "u1");
    instance_set_vm_state(i, vm_state);
    instance_set_task_state(i, task_state);
    instance_set_project_id(i, "p");
    instance_set_instance_type_id(i, 1);
    return i;
}

static struct flavor *flavor_of_cpus(int64_t vcpus)
{
    struct flavor *f = flavor_new();

    flavor_set_vcpus(f, vcpus);
    flavor_set_memory_mb(f, 512);
    flavor_set_root_gb(f, 1);
    flavor_set_ephemeral_gb(f, 0);
    flavor_set_swap(f, 0);
    return f;
}

static struct instance_numa_topology *numa_on(int64_t cell)
{
    struct instance_numa_topology *t = instance_numa_topology_new();
    struct instance_numa_cell *c = instance_numa_cell_new();

    instance_numa_cell_set_id(c, cell);
    instance_numa_topology_cells_add(t, c);
    return t;
}

static struct migration *move(const char *type, const char *source, const char *source_node,
                              const char *dest, const char *dest_node)
{
    struct migration *m = migration_new();

    migration_set_instance_uuid(m, "u1");
    migration_set_migration_type(m, type);
    migration_set_source_compute(m, source);
    migration_set_source_node(m, source_node);
    migration_set_dest_compute(m, dest);
    migration_set_dest_node(m, dest_node);
    migration_set_old_instance_type_id(m, 1);
    migration_set_new_instance_type_id(m, 2);
    return m;
}

static void only_states_of_a_move_count(void **state)
{
    static const struct {
        const char *vm, *task;
        bool counts;
    } cases[] = {
        {"active", "migrating", true},         {"paused", "migrating", true},
        {"stopped", "migrating", false},       {"resized", NULL, true},
        {"active", "resize_prep", true},       {"stopped", "resize_finish", true},
        {"active", "rebuilding", true},        {"active", NULL, false},
        {"error", "resize_prep", false},       {"active", "powering-off", false},
        {"active", "resize_reverting", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(instance_freep) struct instance *s = server(cases[i].vm, cases[i].task);

        assert_int_equal(move_is_under_way(s), cases[i].counts);
    }
}

static void the_latest_move_of_a_server_counts(void **state)
{
    CLEANUP(migration_list_freep) struct migration_list *list = migration_list_new();
    static const char *const updated[] = {NULL, "2026-01-01T00:00:05Z", "2026-01-01T00:00:03Z"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(updated); i++) {
        struct migration *m = move("live-migration", "a", NULL, "b", "b");

        migration_set_created_at(m, "2026-01-01T00:00:04Z");
        migration_set_updated_at(m, updated[i]);
        migration_list_add(list, m);
    }
    assert_true(move_is_superseded(list, 0));
    assert_false(move_is_superseded(list, 1));
    assert_true(move_is_superseded(list, 2));
}

static void a_server_that_comes_in_takes_what_it_will_have(void **state)
{
    CLEANUP(instance_freep) struct instance *s = server("active", "migrating");
    CLEANUP(migration_freep) struct migration *m = move("live-migration", "b", NULL, "a", "a");

    (void)state;
    assert_int_equal(move_side(m, s, "a", "a", /* is_tracked= */ false), MOVE_SIDE_NEW);
    assert_int_equal(move_side(m, s, "a", "a", /* is_tracked= */ true), MOVE_SIDE_NONE);
    assert_int_equal(move_side(m, s, "a", "other", /* is_tracked= */ false), MOVE_SIDE_NONE);
}

static void a_resize_away_keeps_what_a_revert_needs(void **state)
{
    CLEANUP(instance_freep) struct instance *s = server("resized", NULL);
    CLEANUP(migration_freep) struct migration *m = move("resize", "a", "a", "b", "b");

    (void)state;
    assert_int_equal(move_side(m, s, "a", "a", /* is_tracked= */ false), MOVE_SIDE_OLD);
}

static void a_resize_on_one_host_takes_both_flavors(void **state)
{
    CLEANUP(instance_freep) struct instance *s = server("resized", NULL);
    CLEANUP(migration_freep) struct migration *m = move("resize", "a", "a", "a", "a");

    (void)state;
    assert_int_equal(move_side(m, s, "a", "a", /* is_tracked= */ true), MOVE_SIDE_NEW);
    instance_set_instance_type_id(s, 2);
    assert_int_equal(move_side(m, s, "a", "a", /* is_tracked= */ true), MOVE_SIDE_OLD);
}

static void usage_has_flavor_and_topology_of_its_side(void **state)
{
    CLEANUP(instance_freep) struct instance *s = server("resized", NULL);
    CLEANUP(migration_freep) struct migration *m = move("resize", "a", "a", "b", "b");
    struct migration_context *mc = migration_context_new();
    struct usage u;

    (void)state;
    migration_context_set_old_numa_topology(mc, numa_on(1));
    migration_context_set_new_numa_topology(mc, numa_on(2));
    instance_set_migration_context(s, mc);
    instance_set_flavor(s, flavor_of_cpus(1));
    instance_set_old_flavor(s, flavor_of_cpus(2));
    instance_set_new_flavor(s, flavor_of_cpus(4));

    assert_true(move_usage_of(m, s, MOVE_SIDE_OLD, &u));
    assert_int_equal(u.vcpus, 2);
    assert_int_equal(instance_numa_cell_id(instance_numa_topology_cells_at(u.numa, 0)), 1);
    assert_true(u.is_move);
    usage_fini(&u);
    migration_set_migration_type(m, "live-migration");
    assert_true(move_usage_of(m, s, MOVE_SIDE_NEW, &u));
    assert_int_equal(u.vcpus, 1);
    assert_int_equal(instance_numa_cell_id(instance_numa_topology_cells_at(u.numa, 0)), 2);
    usage_fini(&u);
}

static void before_its_claim_a_move_has_no_topology_here(void **state)
{
    CLEANUP(instance_freep) struct instance *s = server("active", "migrating");
    CLEANUP(migration_freep) struct migration *m = move("live-migration", "b", NULL, "a", "a");
    struct usage u;

    (void)state;
    assert_false(move_usage_of(m, s, MOVE_SIDE_NEW, &u)); /* A record without a flavor. */
    instance_set_flavor(s, flavor_of_cpus(1));
    instance_set_numa_topology(s, numa_on(1));
    instance_set_migration_context(s, NULL);
    assert_true(move_usage_of(m, s, MOVE_SIDE_NEW, &u));
    assert_null(u.numa);
    usage_fini(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_states_of_a_move_count),
        cmocka_unit_test(the_latest_move_of_a_server_counts),
        cmocka_unit_test(a_server_that_comes_in_takes_what_it_will_have),
        cmocka_unit_test(a_resize_away_keeps_what_a_revert_needs),
        cmocka_unit_test(a_resize_on_one_host_takes_both_flavors),
        cmocka_unit_test(usage_has_flavor_and_topology_of_its_side),
        cmocka_unit_test(before_its_claim_a_move_has_no_topology_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

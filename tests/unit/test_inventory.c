/* link: driver_compute driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/inventory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct conf conf_of_lab(void)
{
    return (struct conf){
        .dflt = {.cpu_allocation_ratio = NAN,
                 .ram_allocation_ratio = NAN,
                 .disk_allocation_ratio = NAN,
                 .initial_cpu_allocation_ratio = 16.0,
                 .initial_ram_allocation_ratio = 1.5,
                 .initial_disk_allocation_ratio = 1.0},
        .libvirt = {.num_memory_encrypted_guests = CONF_UNSET},
    };
}

static const struct placement_inventory *find(const struct inventory *inv, const char *rc)
{
    for (size_t i = 0; i < inv->n; i++) {
        if (str_eq(inv->items[i].resource_class, rc)) {
            return &inv->items[i];
        }
    }
    return NULL;
}

static void assert_ratio(const struct inventory *inv, const char *rc, double ratio)
{
    assert_true(fabs(find(inv, rc)->allocation_ratio - ratio) < 1e-9);
}

static void inventories_are_those_of_nova(void **state)
{
    struct conf conf = conf_of_lab();
    const struct host_facts f = {.vcpus = 2, .memory_mib = 17626, .local_gb = 251};
    struct inventory inv;

    (void)state;
    conf.dflt.reserved_host_memory_mb = 512;
    conf.dflt.reserved_host_disk_mb = 1025;
    inventory_fill(&conf, &f, NULL, &inv);
    assert_int_equal(inv.n, 3);
    const struct placement_inventory *memory = find(&inv, "MEMORY_MB");

    assert_int_equal(memory->total, 17626);
    assert_int_equal(memory->max_unit, 17626);
    assert_int_equal(memory->min_unit, 1);
    assert_int_equal(memory->step_size, 1);
    assert_int_equal(memory->reserved, 512);
    assert_int_equal(find(&inv, "DISK_GB")->reserved, 2); /* Rounded up. */
    assert_int_equal(find(&inv, "VCPU")->total, 2);
}

static void a_ratio_is_the_options_then_placements_then_the_initial(void **state)
{
    struct conf conf = conf_of_lab();
    const struct host_facts f = {.vcpus = 2, .memory_mib = 1024, .local_gb = 10};
    CLEANUP(jv_putp)
    struct json_object *present =
        json_tokener_parse("{\"VCPU\": {\"allocation_ratio\": 4.0},"
                           " \"MEMORY_MB\": {\"allocation_ratio\": 3.0}}");
    struct inventory inv;

    (void)state;
    conf.dflt.ram_allocation_ratio = 2.0;
    conf.dflt.cpu_allocation_ratio = 0.0; /* An old way to say: unset. */
    inventory_fill(&conf, &f, present, &inv);
    assert_ratio(&inv, "VCPU", 4.0);
    assert_ratio(&inv, "MEMORY_MB", 2.0);
    assert_ratio(&inv, "DISK_GB", 1.0);
}

static void what_there_is_none_of_is_left_out(void **state)
{
    const struct conf conf = conf_of_lab();
    struct host_facts f = {.memory_mib = 1024, .local_gb = 10};
    struct inventory inv;

    (void)state;
    cpuset_add(&f.dedicated, 3);
    inventory_fill(&conf, &f, NULL, &inv);
    assert_null(find(&inv, "VCPU"));
    assert_int_equal(find(&inv, "PCPU")->total, 1);
    assert_ratio(&inv, "PCPU", 1.0);
    cpuset_fini(&f.dedicated);
}

static void encrypted_guests_are_as_many_as_configured(void **state)
{
    struct conf conf = conf_of_lab();
    struct host_facts f = {.memory_mib = 1024};
    struct inventory inv;

    (void)state;
    strv_add(&f.traits, "HW_CPU_X86_AMD_SEV");
    inventory_fill(&conf, &f, NULL, &inv);
    assert_int_equal(find(&inv, "MEM_ENCRYPTION_CONTEXT")->total, INT32_MAX);
    assert_int_equal(find(&inv, "MEM_ENCRYPTION_CONTEXT")->max_unit, 1);
    conf.libvirt.num_memory_encrypted_guests = 15;
    inventory_fill(&conf, &f, NULL, &inv);
    assert_int_equal(find(&inv, "MEM_ENCRYPTION_CONTEXT")->total, 15);
    conf.libvirt.num_memory_encrypted_guests = 0;
    inventory_fill(&conf, &f, NULL, &inv);
    assert_null(find(&inv, "MEM_ENCRYPTION_CONTEXT"));
    strv_fini(&f.traits);
}

static void a_disabled_service_has_its_trait(void **state)
{
    struct host_facts f = {0};
    CLEANUP(strv_fini) struct strv on = {0}, on_owned = {0}, off = {0}, off_owned = {0};

    (void)state;
    strv_add(&f.traits, "COMPUTE_NODE");
    strv_add(&f.owned_traits, "COMPUTE_NODE");
    inventory_traits(&f, /* is_disabled= */ false, &on, &on_owned);
    inventory_traits(&f, /* is_disabled= */ true, &off, &off_owned);
    assert_int_equal(on.n, 1);
    assert_true(strv_has(&off, INVENTORY_DISABLED_TRAIT));
    assert_true(strv_has(&on_owned, INVENTORY_DISABLED_TRAIT));
    strv_fini(&f.traits);
    strv_fini(&f.owned_traits);
}

static void only_allocations_of_deleted_servers_are_removed(void **state)
{
    static const struct {
        const char *host, *node, *task;
        bool is_deleted, is_hidden;
        enum leftover todo;
    } cases[] = {
        {NULL, NULL, NULL, true, false, LEFTOVER_DELETE},
        {"a", "a", NULL, true, false, LEFTOVER_DELETE},
        {"a", "a", NULL, true, true, LEFTOVER_KEEP_AND_WARN}, /* Its other half lives. */
        {NULL, NULL, "scheduling", false, false, LEFTOVER_KEEP},
        {"a", "a", "spawning", false, false, LEFTOVER_KEEP},
        {"a", "a", NULL, false, false, LEFTOVER_KEEP_AND_WARN},
        {"b", "b", NULL, false, false, LEFTOVER_KEEP_AND_WARN},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(instance_freep) struct instance *inst = instance_new();

        instance_set_host(inst, cases[i].host);
        instance_set_node(inst, cases[i].node);
        instance_set_task_state(inst, cases[i].task);
        instance_set_deleted(inst, cases[i].is_deleted);
        instance_set_hidden(inst, cases[i].is_hidden);
        assert_int_equal(inventory_leftover(inst, "a", "a"), cases[i].todo);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inventories_are_those_of_nova),
        cmocka_unit_test(a_ratio_is_the_options_then_placements_then_the_initial),
        cmocka_unit_test(what_there_is_none_of_is_left_out),
        cmocka_unit_test(encrypted_guests_are_as_many_as_configured),
        cmocka_unit_test(a_disabled_service_has_its_trait),
        cmocka_unit_test(only_allocations_of_deleted_servers_are_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/node_record.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GIB (INT64_C(1) << 30)

static struct conf conf_of_lab(void)
{
    return (struct conf){
        .dflt = {.my_ip = "10.0.0.1",
                 .cpu_allocation_ratio = NAN,
                 .ram_allocation_ratio = NAN,
                 .disk_allocation_ratio = NAN,
                 .initial_cpu_allocation_ratio = 16.0,
                 .initial_ram_allocation_ratio = 1.5,
                 .initial_disk_allocation_ratio = 1.0},
    };
}

static struct cpuset set_of(const char *text)
{
    struct cpuset s = {0};

    assert_null(cpuset_parse(text, &s));
    return s;
}

/* One cell of four CPUs, two of them siblings of the other two, and 2 MiB pages. */
static struct host_facts facts(const char *shared, const char *dedicated, const char *pinnable)
{
    struct host_facts f = {
        .hostname = str_dup("host-a"),
        .hypervisor_type = str_dup("QEMU"),
        .hypervisor_version = 7002022,
        .online = set_of("0-3"),
        .shared = set_of(shared),
        .dedicated = set_of(dedicated),
        .pinnable = set_of(pinnable),
        .memory_mib = 4096,
        .local_gb = 100,
        .free_bytes = (uint64_t)(70 * GIB + GIB / 2),
        .cpu_info = str_dup("{\"arch\":\"x86_64\",\"features\":[\"aes\",\"sse2\"]}"),
        .hv_specs = json_tokener_parse("[[\"x86_64\",\"kvm\",\"hvm\"]]"),
        .cells = NEW_ARRAY(struct host_cell, 1),
        .n_cells = 1,
    };
    struct host_cell *c = f.cells;

    f.vcpus = (int64_t)f.shared.n;
    *c = (struct host_cell){
        .cpus = set_of("0-3"),
        .siblings = NEW_ARRAY(struct cpuset, 2),
        .n_siblings = 2,
        .memory_mib = 4096,
        .pages = NEW_ARRAY(struct host_page_size, 1),
        .n_pages = 1,
    };
    c->siblings[0] = set_of("0,2");
    c->siblings[1] = set_of("1,3");
    c->pages[0] = (struct host_page_size){.size_kb = 2048, .total = 1024, .reserved = 8};
    return f;
}

static struct instance_numa_topology *numa_of_512_mib(void)
{
    struct instance_numa_topology *t = instance_numa_topology_new();
    struct instance_numa_cell *c = instance_numa_cell_new();
    CLEANUP(cpuset_fini) struct cpuset cpus = set_of("0-1"), none = {0};

    instance_numa_cell_set_id(c, 0);
    instance_numa_cell_set_cpuset(c, &cpus);
    instance_numa_cell_set_pcpuset(c, &none);
    instance_numa_cell_set_memory(c, 512);
    instance_numa_cell_set_pagesize(c, 2048);
    instance_numa_topology_cells_add(t, c);
    return t;
}

static struct usage usage_of_server(const char *uuid, const char *task, bool is_move)
{
    return (struct usage){
        .uuid = str_dup(uuid),
        .vm_state = str_dup("active"),
        .task_state = str_dup(task),
        .project_id = str_dup("p1"),
        .vcpus = 2,
        .memory_mb = 512,
        .disk_gb = 10,
        .numa = numa_of_512_mib(),
        .is_move = is_move,
    };
}

static struct numa_topology *numa_of(struct compute_node *cn)
{
    struct json_object *json = NULL;
    struct numa_topology *t = NULL;
    const char *text = compute_node_numa_topology(cn);

    assert_null(jv_parse(text, strlen(text), &json));
    assert_null(numa_topology_from_json(json, &t));
    jv_putp(&json);
    return t;
}

static void an_empty_host_has_everything_free(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();

    (void)state;
    node_record_fill(cn, &conf, &f, 3 * GIB, NULL, 0);
    assert_int_equal(compute_node_vcpus(cn), 4);
    assert_int_equal(compute_node_vcpus_used(cn), 0);
    assert_int_equal(compute_node_free_ram_mb(cn), 4096);
    assert_int_equal(compute_node_free_disk_gb(cn), 100);
    assert_int_equal(compute_node_disk_available_least(cn), 67);
    assert_int_equal(compute_node_running_vms(cn), 0);
    assert_int_equal(compute_node_n_stats(cn), 1);
    assert_string_equal(compute_node_stats_get(cn, "failed_builds"), "0");
    assert_string_equal(compute_node_metrics(cn), "[]");
    assert_string_equal(compute_node_host_ip(cn), "10.0.0.1");
    assert_int_equal(pci_device_pool_list_n(compute_node_pci_device_pools(cn)), 0);
    assert_true(compute_node_cpu_allocation_ratio(cn) > 15.9);
    assert_string_equal(hv_spec_hv_type(compute_node_supported_hv_specs_at(cn, 0)), "kvm");
}

static void a_record_that_is_right_has_no_changes(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();
    struct usage u = usage_of_server("a", "spawning", /* is_move= */ false);

    (void)state;
    node_record_fill(cn, &conf, &f, 0, &u, 1);
    assert_true(ovo_has_changes(compute_node_ovo(cn)));
    ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
    node_record_fill(cn, &conf, &f, 0, &u, 1);
    assert_false(ovo_has_changes(compute_node_ovo(cn)));
    /* Python writes a set in any order. */
    compute_node_set_cpu_info(cn, "{\"arch\":\"x86_64\",\"features\":[\"sse2\",\"aes\"]}");
    ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
    node_record_fill(cn, &conf, &f, 0, &u, 1);
    assert_false(ovo_has_changes(compute_node_ovo(cn)));
    usage_fini(&u);
}

static void servers_and_moves_take_room_but_only_servers_are_counted(void **state)
{
    struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();
    struct usage u[] = {usage_of_server("a", NULL, /* is_move= */ false),
                        usage_of_server("b", "rebuilding", /* is_move= */ false),
                        usage_of_server("c", "migrating", /* is_move= */ true)};

    (void)state;
    conf.dflt.reserved_host_memory_mb = 256;
    conf.dflt.reserved_host_cpus = 1;
    conf.dflt.reserved_host_disk_mb = 2047;
    node_record_fill(cn, &conf, &f, 0, u, ARRAY_SIZE(u));
    assert_int_equal(compute_node_vcpus_used(cn), 7);
    assert_int_equal(compute_node_memory_mb_used(cn), 256 + 3 * 512);
    assert_int_equal(compute_node_local_gb_used(cn), 31);
    assert_int_equal(compute_node_running_vms(cn), 2);
    assert_int_equal(compute_node_current_workload(cn), 1);
    assert_string_equal(compute_node_stats_get(cn, "num_instances"), "2");
    assert_string_equal(compute_node_stats_get(cn, "num_task_None"), "1");
    assert_string_equal(compute_node_stats_get(cn, "num_os_type_None"), "2");
    assert_string_equal(compute_node_stats_get(cn, "num_proj_p1"), "2");
    assert_string_equal(compute_node_stats_get(cn, "io_workload"), "1");

    CLEANUP(numa_topology_freep) struct numa_topology *t = numa_of(cn);
    struct numa_cell *cell = numa_topology_cells_at(t, 0);

    assert_int_equal(numa_cell_cpu_usage(cell), 6);
    assert_int_equal(numa_cell_memory_usage(cell), 1536);
    assert_int_equal(numa_pages_topology_used(numa_cell_mempages_at(cell, 0)), 3 * 256);
    assert_int_equal(numa_pages_topology_reserved(numa_cell_mempages_at(cell, 0)), 8);
    for (size_t i = 0; i < ARRAY_SIZE(u); i++) {
        usage_fini(&u[i]);
    }
}

static void what_the_last_server_leaves_is_as_before(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();
    CLEANUP(compute_node_freep) struct compute_node *before = NULL;
    struct usage u = usage_of_server("a", NULL, /* is_move= */ false);

    (void)state;
    node_record_fill(cn, &conf, &f, 0, NULL, 0);
    before = compute_node_dup(cn);
    node_record_fill(cn, &conf, &f, 0, &u, 1);
    node_record_fill(cn, &conf, &f, 0, NULL, 0);
    assert_true(ovo_is_equal(compute_node_ovo(cn), compute_node_ovo(before), NULL));
    usage_fini(&u);
}

static void cells_offer_what_is_configured(void **state)
{
    static const struct {
        const char *shared, *dedicated, *pinnable, *cell_shared, *cell_pinned, *siblings;
    } cases[] = {
        {"0-3", "", "0-3", "0-3", "0-3", "[[0,2],[1,3]]"},
        {"0-1", "", "", "0-1", "", "[[0],[1]]"},
        {"0", "1,3", "1,3", "0", "1,3", "[[0],[1,3]]"},
        {"", "2-3", "2-3", "", "2-3", "[[2],[3]]"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(host_facts_fini)
        struct host_facts f = facts(cases[i].shared, cases[i].dedicated, cases[i].pinnable);
        CLEANUP(numa_topology_freep) struct numa_topology *t = node_numa(&f);
        struct numa_cell *cell = numa_topology_cells_at(t, 0);
        CLEANUP(freep) char *shared = cpuset_text(numa_cell_cpuset(cell));
        CLEANUP(freep) char *pinned = cpuset_text(numa_cell_pcpuset(cell));
        CLEANUP(freep) char *siblings = jv_text(numa_cell_siblings(cell));

        assert_string_equal(shared, cases[i].cell_shared);
        assert_string_equal(pinned, cases[i].cell_pinned);
        assert_string_equal(siblings, cases[i].siblings);
    }
}

static void ratios_that_no_option_sets_stay(void **state)
{
    struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();

    (void)state;
    compute_node_set_cpu_allocation_ratio(cn, 4.0);
    conf.dflt.ram_allocation_ratio = 2.0;
    conf.dflt.disk_allocation_ratio = 0.0;
    node_record_fill(cn, &conf, &f, 0, NULL, 0);
    assert_true(compute_node_cpu_allocation_ratio(cn) < 4.1);
    assert_true(compute_node_ram_allocation_ratio(cn) > 1.9);
    assert_true(compute_node_disk_allocation_ratio(cn) > 0.9);
}

static void what_is_still_to_be_written_counts_towards_zero(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();

    (void)state;
    node_record_fill(cn, &conf, &f, 75 * GIB, NULL, 0); /* 70.5 - 75 GiB */
    assert_int_equal(compute_node_disk_available_least(cn), -4);
}

static void a_host_without_cells_has_no_topology(void **state)
{
    const struct conf conf = conf_of_lab();
    CLEANUP(host_facts_fini) struct host_facts f = facts("0-3", "", "0-3");
    CLEANUP(compute_node_freep) struct compute_node *cn = compute_node_new();
    size_t n = f.n_cells;

    (void)state;
    f.n_cells = 0;
    node_record_fill(cn, &conf, &f, 0, NULL, 0);
    assert_true(compute_node_isnull_numa_topology(cn));
    f.n_cells = n;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_host_has_everything_free),
        cmocka_unit_test(a_record_that_is_right_has_no_changes),
        cmocka_unit_test(servers_and_moves_take_room_but_only_servers_are_counted),
        cmocka_unit_test(what_the_last_server_leaves_is_as_before),
        cmocka_unit_test(cells_offer_what_is_configured),
        cmocka_unit_test(ratios_that_no_option_sets_stay),
        cmocka_unit_test(what_is_still_to_be_written_counts_towards_zero),
        cmocka_unit_test(a_host_without_cells_has_no_topology),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/numa_info.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct cpuset set_of(const char *text)
{
    struct cpuset s = {0};

    assert_null(cpuset_parse(text, &s));
    return s;
}

/* Two cells of two CPUs. */
static struct host_facts two_cells(const char *shared)
{
    struct host_facts f = {
        .shared = set_of(shared), .cells = NEW_ARRAY(struct host_cell, 2), .n_cells = 2};

    f.cells[0] = (struct host_cell){.id = 0, .cpus = set_of("0-1")};
    f.cells[1] = (struct host_cell){.id = 1, .cpus = set_of("2-3")};
    return f;
}

static struct instance *server(int64_t vcpus, const char *realtime, const char *mask)
{
    struct instance *i = instance_new();
    struct flavor *f = flavor_new();

    flavor_set_vcpus(f, vcpus);
    flavor_clear_extra_specs(f);
    if (realtime) {
        flavor_extra_specs_put(f, "hw:cpu_realtime", realtime);
    }
    if (mask) {
        flavor_extra_specs_put(f, "hw:cpu_realtime_mask", mask);
    }
    instance_set_flavor(i, f);
    return i;
}

static void add_cell(struct instance_numa_topology *t, int64_t id, const char *floating,
                     const char *pinning, const char *reserved)
{
    struct instance_numa_cell *c = instance_numa_cell_new();
    CLEANUP(cpuset_fini) struct cpuset cpus = set_of(floating);
    CLEANUP(cpuset_fini) struct cpuset kept = set_of(reserved ? reserved : "");

    instance_numa_cell_set_id(c, id);
    instance_numa_cell_set_cpuset(c, &cpus);
    instance_numa_cell_set_cpu_pinning_raw(c, pinning ? json_tokener_parse(pinning) : NULL);
    instance_numa_cell_set_cpuset_reserved(c, reserved ? &kept : NULL);
    instance_numa_topology_cells_add(t, c);
}

static void assert_pins(const struct libvirt_live_migrate_numa_info *info, const char *cpus,
                        const char *cells, const char *emulator)
{
    CLEANUP(freep) char *have_cpus = jv_text(libvirt_live_migrate_numa_info_cpu_pins(info));
    CLEANUP(freep) char *have_cells = jv_text(libvirt_live_migrate_numa_info_cell_pins(info));
    CLEANUP(freep)
    char *have_emulator = cpuset_text(libvirt_live_migrate_numa_info_emulator_pins(info));

    assert_string_equal(have_cpus, cpus);
    assert_string_equal(have_cells, cells);
    assert_string_equal(have_emulator, emulator);
}

/* Made of 'fitted', which is freed. */
static struct libvirt_live_migrate_numa_info *make(const struct conf *conf, const char *shared,
                                                   struct instance *inst,
                                                   struct instance_numa_topology *fitted)
{
    CLEANUP(host_facts_fini) struct host_facts f = two_cells(shared);
    struct libvirt_live_migrate_numa_info *info = NULL;

    assert_null(numa_info_make(conf, &f, inst, fitted, &info));
    instance_numa_topology_free(fitted);
    return info;
}

static void cpus_that_float_go_to_their_host_cell(void **state)
{
    const struct conf conf = {0};
    CLEANUP(instance_freep) struct instance *inst = server(2, NULL, NULL);
    struct instance_numa_topology *fitted = instance_numa_topology_new();

    (void)state;
    add_cell(fitted, 1, "0", NULL, NULL);
    add_cell(fitted, 0, "1", NULL, NULL);
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = make(&conf, "0-3", inst, fitted);

    assert_pins(info, "{\"0\":[2,3],\"1\":[0,1]}", "{\"0\":[1],\"1\":[0]}", "0-3");
    assert_false(libvirt_live_migrate_numa_info_has_sched_vcpus(info));
}

static void dedicated_cpus_go_to_theirs(void **state)
{
    const struct conf conf = {0};
    CLEANUP(instance_freep) struct instance *inst = server(3, NULL, NULL);
    struct instance_numa_topology *fitted = instance_numa_topology_new();

    (void)state;
    add_cell(fitted, 1, "0", "{\"1\": 3, \"2\": 2}", NULL);
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = make(&conf, "0-2", inst, fitted);

    assert_pins(info, "{\"0\":[2],\"1\":[3],\"2\":[2]}", "{\"0\":[1]}", "2-3");
}

static void the_emulator_has_its_own_cpu_by_policy(void **state)
{
    struct conf conf = {0};
    CLEANUP(instance_freep) struct instance *inst = server(1, NULL, NULL);
    struct instance_numa_topology *isolated = instance_numa_topology_new();
    struct instance_numa_topology *sharing = instance_numa_topology_new();

    (void)state;
    add_cell(isolated, 0, "", "{\"0\": 0}", "1");
    instance_numa_topology_set_emulator_threads_policy(isolated, "isolate");
    add_cell(sharing, 0, "", "{\"0\": 0}", NULL);
    instance_numa_topology_set_emulator_threads_policy(sharing, "share");
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *a = make(&conf, "", inst, isolated);

    assert_pins(a, "{\"0\":[0]}", "{\"0\":[0]}", "1");
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *b =
        make(&conf, "", inst, instance_numa_topology_dup(sharing));

    assert_pins(b, "{\"0\":[0]}", "{\"0\":[0]}", "0"); /* This host has no shared set. */
    conf.compute.cpu_shared_set = "2-3";
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *c = make(&conf, "2-3", inst, sharing);

    assert_pins(c, "{\"0\":[0]}", "{\"0\":[0]}", "2-3");
}

static void realtime_cpus_are_named_and_kept_from_the_emulator(void **state)
{
    struct conf conf = {0};
    CLEANUP(instance_freep) struct instance *inst = server(2, "yes", "^0");
    struct instance_numa_topology *fitted = instance_numa_topology_new();

    (void)state;
    conf.libvirt.realtime_scheduler_priority = 1;
    add_cell(fitted, 0, "", "{\"0\": 0, \"1\": 1}", NULL);
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = make(&conf, "", inst, fitted);
    CLEANUP(freep) char *sched = cpuset_text(libvirt_live_migrate_numa_info_sched_vcpus(info));

    assert_pins(info, "{\"0\":[0],\"1\":[1]}", "{\"0\":[0]}", "0");
    assert_string_equal(sched, "1");
    assert_int_equal(libvirt_live_migrate_numa_info_sched_priority(info), 1);
}

static void a_cell_that_is_gone_and_a_mask_without_sense_are_errors(void **state)
{
    const struct conf conf = {0};
    CLEANUP(host_facts_fini) struct host_facts f = two_cells("0-3");
    CLEANUP(instance_freep) struct instance *plain = server(1, NULL, NULL);
    CLEANUP(instance_freep) struct instance *odd = server(1, "true", "a-b");
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *gone = instance_numa_topology_new();
    struct libvirt_live_migrate_numa_info *info = NULL;

    (void)state;
    add_cell(gone, 7, "0", NULL, NULL);
    CLEANUP(err_freep) struct err *e = numa_info_make(&conf, &f, plain, gone, &info);
    CLEANUP(err_freep) struct err *mask = numa_info_make(&conf, &f, odd, gone, &info);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_true(err_is(mask, ERR_CONFIG));
    assert_null(info);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_that_float_go_to_their_host_cell),
        cmocka_unit_test(dedicated_cpus_go_to_theirs),
        cmocka_unit_test(the_emulator_has_its_own_cpu_by_policy),
        cmocka_unit_test(realtime_cpus_are_named_and_kept_from_the_emulator),
        cmocka_unit_test(a_cell_that_is_gone_and_a_mask_without_sense_are_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

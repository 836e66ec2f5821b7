/* link: driver_compute */
#include "driver/compute/numa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What a test says of a host: cells that are all alike. */
struct host {
    unsigned n_cells, n_cpus, n_threads; /* CPUs of a cell, threads of a core. */
    int64_t memory_mib, huge_pages;      /* Of a cell; pages of 2 MiB. */
    bool is_split; /* The upper half of each cell's CPUs is shared; else all are both. */
};

/* What a test says of a server: cells that are all alike. */
struct guest {
    unsigned n_cells, n_shared, n_pinned; /* CPUs of a cell. */
    int64_t memory_mib, pagesize;
    const char *policy, *threads, *emulator;
};

static struct cpuset range(unsigned from, unsigned n)
{
    struct cpuset set = {0};

    for (unsigned i = 0; i < n; i++) {
        cpuset_add(&set, from + i);
    }
    return set;
}

static void add_pages(struct numa_cell *cell, int64_t size_kb, int64_t total)
{
    struct numa_pages_topology *p = numa_pages_topology_new();

    numa_pages_topology_set_size_kb(p, size_kb);
    numa_pages_topology_set_total(p, total);
    numa_pages_topology_set_used(p, 0);
    numa_pages_topology_set_reserved(p, 0);
    numa_cell_mempages_add(cell, p);
}

static struct numa_cell *make_cell(const struct host *h, unsigned id)
{
    struct numa_cell *cell = numa_cell_new();
    unsigned first = id * h->n_cpus, half = h->is_split ? h->n_cpus / 2 : 0;
    CLEANUP(cpuset_fini) struct cpuset pinnable = range(first, h->n_cpus - half);
    CLEANUP(cpuset_fini) struct cpuset shared = range(first + half, h->n_cpus - half);
    CLEANUP(cpuset_fini) struct cpuset none = {0};
    struct json_object *siblings = json_object_new_array();

    for (unsigned i = 0; i < h->n_cpus; i += h->n_threads) {
        CLEANUP(cpuset_fini) struct cpuset core = range(first + i, h->n_threads);

        json_object_array_add(siblings, cpuset_to_json(&core));
    }
    numa_cell_set_id(cell, id);
    numa_cell_set_pcpuset(cell, &pinnable);
    numa_cell_set_cpuset(cell, &shared);
    numa_cell_set_pinned_cpus(cell, &none);
    numa_cell_set_siblings(cell, siblings);
    numa_cell_set_memory(cell, h->memory_mib);
    numa_cell_set_memory_usage(cell, 0);
    numa_cell_set_cpu_usage(cell, 0);
    numa_cell_clear_mempages(cell);
    if (h->huge_pages) {
        add_pages(cell, 4, h->memory_mib * 256 - h->huge_pages * 512);
        add_pages(cell, 2048, h->huge_pages);
    }
    return cell;
}

static struct numa_topology *make_host(const struct host *h)
{
    struct numa_topology *t = numa_topology_new();

    for (unsigned i = 0; i < h->n_cells; i++) {
        numa_topology_cells_add(t, make_cell(h, i));
    }
    return t;
}

static struct instance_numa_topology *make_guest(const struct guest *g)
{
    struct instance_numa_topology *t = instance_numa_topology_new();
    unsigned n_cpus = g->n_shared + g->n_pinned;

    instance_numa_topology_set_emulator_threads_policy(t, g->emulator);
    for (unsigned i = 0; i < g->n_cells; i++) {
        struct instance_numa_cell *cell = instance_numa_cell_new();
        CLEANUP(cpuset_fini) struct cpuset shared = range(i * n_cpus, g->n_shared);
        CLEANUP(cpuset_fini) struct cpuset pinned = range(i * n_cpus + g->n_shared, g->n_pinned);

        instance_numa_cell_set_id(cell, i);
        instance_numa_cell_set_cpuset(cell, &shared);
        instance_numa_cell_set_pcpuset(cell, &pinned);
        instance_numa_cell_set_memory(cell, g->memory_mib);
        if (g->pagesize) {
            instance_numa_cell_set_pagesize(cell, g->pagesize);
        }
        instance_numa_cell_set_cpu_policy(cell, g->policy);
        instance_numa_cell_set_cpu_thread_policy(cell, g->threads);
        instance_numa_topology_cells_add(t, cell);
    }
    return t;
}

static struct numa_topology_limits *make_limits(double cpu, double ram)
{
    struct numa_topology_limits *limits = numa_topology_limits_new();

    numa_topology_limits_set_cpu_allocation_ratio(limits, cpu);
    numa_topology_limits_set_ram_allocation_ratio(limits, ram);
    return limits;
}

/* Fits a server that is counted, too; NULL if it does not fit. */
static struct instance_numa_topology *add(struct numa_topology *host, const struct guest *g)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *wanted = make_guest(g);
    struct instance_numa_topology *fitted = NULL;
    CLEANUP(err_freep) struct err *e = numa_fit(host, wanted, NULL, &fitted);

    assert_true(!e == !!fitted);
    if (!e) {
        numa_count_usage(host, fitted, 1);
    }
    return fitted;
}

static bool fits(struct numa_topology *host, const struct guest *g)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = add(host, g);

    return fitted;
}

static void check_refused_within(const struct numa_topology *host, const struct guest *g,
                                 const struct numa_topology_limits *limits, const char *reason)
{
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *wanted = make_guest(g), *fitted = NULL;
    CLEANUP(err_freep) struct err *e = numa_fit(host, wanted, limits, &fitted);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_string_equal(err_get(e, "reason"), reason);
    assert_null(fitted);
}

static void check_refused(const struct numa_topology *host, const struct guest *g,
                          const char *reason)
{
    check_refused_within(host, g, NULL, reason);
}

static void check_set(const struct cpuset *set, const char *expected)
{
    CLEANUP(freep) char *text = cpuset_text(set);

    assert_string_equal(text, expected);
}

static void check_pins(const struct instance_numa_topology *t, size_t cell, const char *expected)
{
    CLEANUP(freep)
    char *text =
        jv_text(instance_numa_cell_cpu_pinning_raw(instance_numa_topology_cells_at(t, cell)));

    assert_string_equal(text, expected);
}

static int64_t host_cell_of(const struct instance_numa_topology *t, size_t cell)
{
    return instance_numa_cell_id(instance_numa_topology_cells_at(t, cell));
}

static int64_t pagesize_of(const struct instance_numa_topology *t)
{
    return instance_numa_cell_pagesize(instance_numa_topology_cells_at(t, 0));
}

#define HOST(...)                                                                                  \
    CLEANUP(numa_topology_freep) struct numa_topology *host = make_host(&(struct host){__VA_ARGS__})
#define ADDED(var, ...)                                                                            \
    CLEANUP(instance_numa_topology_freep)                                                          \
    struct instance_numa_topology *var = add(host, &(struct guest){__VA_ARGS__})
#define TWO_BY_FOUR                                                                                \
    .n_cells = 2, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096, .huge_pages = 1024
#define DEDICATED(cells, cpus)                                                                     \
    .n_cells = (cells), .n_pinned = (cpus), .memory_mib = 512, .policy = "dedicated"

/* ---- Pins ---- */

static void dedicated_cpus_are_pinned_in_order(void **state)
{
    HOST(TWO_BY_FOUR);
    ADDED(a, DEDICATED(2, 2));

    (void)state;
    assert_int_equal(host_cell_of(a, 0), 0);
    assert_int_equal(host_cell_of(a, 1), 1);
    check_pins(a, 0, "{\"0\":0,\"1\":1}");
    check_pins(a, 1, "{\"2\":4,\"3\":5}");
    assert_true(instance_numa_cell_isnull_cpuset_reserved(instance_numa_topology_cells_at(a, 0)));
    check_set(numa_cell_pinned_cpus(numa_topology_cells_at(host, 1)), "4-5");
}

static void two_servers_do_not_share_a_pinned_cpu(void **state)
{
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);
    ADDED(a, DEDICATED(1, 2));
    ADDED(b, DEDICATED(1, 2));

    (void)state;
    check_pins(a, 0, "{\"0\":0,\"1\":1}");
    check_pins(b, 0, "{\"0\":2,\"1\":3}");
    check_refused(host, &(struct guest){DEDICATED(1, 1)},
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs to pin by 1 (wanted 1, free 0)");
}

static void pins_of_an_earlier_host_are_forgotten(void **state)
{
    HOST(TWO_BY_FOUR);
    ADDED(a, DEDICATED(1, 2));
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *moved = NULL;

    (void)state;
    instance_numa_cell_set_id(instance_numa_topology_cells_at(a, 0), 7);
    assert_null(numa_fit(host, a, NULL, &moved));
    assert_int_equal(host_cell_of(moved, 0), 1);
    check_pins(moved, 0, "{\"0\":4,\"1\":5}");
    check_pins(a, 0, "{\"0\":0,\"1\":1}");
}

static void siblings_are_preferred_and_not_required(void **state)
{
    HOST(.n_cells = 1, .n_cpus = 6, .n_threads = 2, .memory_mib = 4096);
    ADDED(one, DEDICATED(1, 1));
    ADDED(pair, DEDICATED(1, 2), .threads = "prefer");
    ADDED(rest, DEDICATED(1, 3));

    (void)state;
    check_pins(one, 0, "{\"0\":0}");
    check_pins(pair, 0, "{\"0\":2,\"1\":3}");
    check_pins(rest, 0, "{\"0\":1,\"1\":4,\"2\":5}");
}

static void require_takes_siblings_or_nothing(void **state)
{
    struct guest g = {DEDICATED(1, 3), .threads = "require"};
    HOST(.n_cells = 1, .n_cpus = 6, .n_threads = 2, .memory_mib = 4096);
    ADDED(one, DEDICATED(1, 1));
    ADDED(three, DEDICATED(1, 3), .threads = "require");

    (void)state;
    check_pins(one, 0, "{\"0\":0}");
    check_pins(three, 0, "{\"0\":2,\"1\":3,\"2\":4}");
    numa_count_usage(host, three, -1);
    assert_true(fits(host, &(struct guest){DEDICATED(1, 2), .threads = "require"}));
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs to pin next to free siblings by 1 (wanted 3, free 2)");
}

static void require_needs_a_host_with_siblings(void **state)
{
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);

    (void)state;
    check_refused(host, &(struct guest){DEDICATED(1, 2), .threads = "require"},
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs to pin next to free siblings by 2 (wanted 2, free 0)");
}

static void isolate_takes_and_returns_whole_cores(void **state)
{
    HOST(.n_cells = 1, .n_cpus = 8, .n_threads = 2, .memory_mib = 4096);
    ADDED(one, DEDICATED(1, 1));
    ADDED(two, DEDICATED(1, 2), .threads = "isolate");
    const struct numa_cell *cell = numa_topology_cells_at(host, 0);

    (void)state;
    check_pins(one, 0, "{\"0\":0}");
    check_pins(two, 0, "{\"0\":2,\"1\":4}");
    check_set(numa_cell_pinned_cpus(cell), "0,2-5");
    check_refused(host, &(struct guest){DEDICATED(1, 2), .threads = "isolate"},
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of wholly free cores by 1 (wanted 2, free 1)");
    numa_count_usage(host, two, -1);
    check_set(numa_cell_pinned_cpus(cell), "0");
}

static void isolate_needs_a_split_host_without_siblings(void **state)
{
    struct guest g = {DEDICATED(1, 1), .threads = "isolate"};
    HOST(.n_cells = 1, .n_cpus = 8, .n_threads = 2, .memory_mib = 4096, .is_split = true);
    CLEANUP(numa_topology_freep)
    struct numa_topology *single = make_host(&(struct host){
        .n_cells = 1, .n_cpus = 8, .n_threads = 1, .memory_mib = 4096, .is_split = true});

    (void)state;
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "thread policy isolate, but cores have 2 threads");
    assert_true(fits(single, &g));
}

static void isolated_emulator_threads_get_a_cpu_near_the_first_cell(void **state)
{
    HOST(TWO_BY_FOUR);
    ADDED(a, DEDICATED(2, 2), .emulator = "isolate");

    (void)state;
    check_set(instance_numa_cell_cpuset_reserved(instance_numa_topology_cells_at(a, 0)), "2");
    assert_true(instance_numa_cell_isnull_cpuset_reserved(instance_numa_topology_cells_at(a, 1)));
    check_set(numa_cell_pinned_cpus(numa_topology_cells_at(host, 0)), "0-2");
    assert_string_equal(instance_numa_topology_emulator_threads_policy(a), "isolate");
    check_refused(host, &(struct guest){DEDICATED(1, 2), .emulator = "isolate"},
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs to pin by 2 (wanted 3, free 1); cell 0 on host cell 1: "
                  "short of CPUs to pin by 1 (wanted 3, free 2)");
    numa_count_usage(host, a, -1);
    check_set(numa_cell_pinned_cpus(numa_topology_cells_at(host, 0)), "");
}

static void shared_emulator_threads_take_no_cpu(void **state)
{
    HOST(TWO_BY_FOUR);
    ADDED(a, DEDICATED(2, 4), .emulator = "share");

    (void)state;
    assert_non_null(a);
    check_set(numa_cell_pinned_cpus(numa_topology_cells_at(host, 1)), "4-7");
}

static void an_isolated_core_is_not_shared_with_the_emulator(void **state)
{
    struct guest g = {DEDICATED(1, 1), .threads = "isolate", .emulator = "isolate"};
    HOST(.n_cells = 1, .n_cpus = 6, .n_threads = 2, .memory_mib = 4096);
    ADDED(one, DEDICATED(1, 1));
    ADDED(a, DEDICATED(1, 1), .threads = "isolate", .emulator = "isolate");

    (void)state;
    check_pins(a, 0, "{\"0\":2}");
    check_set(instance_numa_cell_cpuset_reserved(instance_numa_topology_cells_at(a, 0)), "4");
    check_set(numa_cell_pinned_cpus(numa_topology_cells_at(host, 0)), "0,2-5");
    numa_count_usage(host, one, -1);
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs for emulator threads by 1 (wanted 1, free 0)");
}

static void a_mixed_server_pins_only_its_dedicated_cpus(void **state)
{
    struct guest g = {
        .n_cells = 1, .n_shared = 1, .n_pinned = 2, .memory_mib = 64, .policy = "mixed"};
    HOST(.n_cells = 1, .n_cpus = 8, .n_threads = 1, .memory_mib = 4096, .is_split = true);
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *limits = make_limits(0.5, 1);
    const struct numa_cell *cell = numa_topology_cells_at(host, 0);
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *a = add(host, &g);

    (void)state;
    check_pins(a, 0, "{\"1\":0,\"2\":1}");
    assert_int_equal(numa_cell_cpu_usage(cell), 1);
    check_set(numa_cell_pinned_cpus(cell), "0-1");
    g.n_shared = 2;
    check_refused_within(host, &g, limits,
                         "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                         "short of shared CPUs by 1 (wanted 2, free 1)");
    g.n_shared = 5;
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of CPUs by 1 (wanted 5, free 4)");
}

static void a_cell_over_its_limit_takes_not_even_a_server_without_shared_cpus(void **state)
{
    struct guest g = {.n_cells = 1, .n_pinned = 1, .memory_mib = 64, .policy = "mixed"};
    HOST(.n_cells = 1, .n_cpus = 8, .n_threads = 1, .memory_mib = 4096, .is_split = true);
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *limits = make_limits(1, 1);

    (void)state;
    numa_cell_set_cpu_usage(numa_topology_cells_at(host, 0), 6);
    check_refused_within(host, &g, limits,
                         "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                         "short of shared CPUs by 2 (wanted 0, free -2)");
}

static void a_mixed_cell_without_dedicated_cpus_is_refused(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 64, .policy = "mixed"};
    HOST(TWO_BY_FOUR);

    (void)state;
    assert_false(fits(host, &g));
}

/* ---- Memory ---- */

static void one_page_too_few_is_refused_with_numbers(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 2048, .pagesize = 2048};
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096, .huge_pages = 1025);
    struct numa_pages_topology *huge = numa_cell_mempages_at(numa_topology_cells_at(host, 0), 1);

    (void)state;
    numa_pages_topology_set_reserved(huge, 1);
    numa_pages_topology_set_used(huge, 1);
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of pages of 2048 KiB by 1 (wanted 1024, free 1023)");
    numa_pages_topology_set_used(huge, 0);
    assert_true(fits(host, &g));
    assert_int_equal(numa_pages_topology_used(huge), 1024);
}

static void a_page_size_that_the_host_lacks_is_named(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 2048, .pagesize = 1048576};
    HOST(TWO_BY_FOUR);

    (void)state;
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; "
                  "cell 0 on host cell 0: no pages of 1048576 KiB; "
                  "cell 0 on host cell 1: no pages of 1048576 KiB");
}

static void memory_is_a_whole_number_of_pages(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 511, .pagesize = 2048};
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096, .huge_pages = 1024);

    (void)state;
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "511 MiB are no whole number of pages of 2048 KiB");
}

static void a_class_of_pages_becomes_a_size(void **state)
{
    HOST(TWO_BY_FOUR);
    ADDED(small, .n_cells = 1, .n_shared = 1, .memory_mib = 512, .pagesize = -1);
    ADDED(large, .n_cells = 1, .n_shared = 1, .memory_mib = 512, .pagesize = -2);
    ADDED(any, .n_cells = 1, .n_shared = 1, .memory_mib = 512, .pagesize = -3);
    ADDED(odd, .n_cells = 1, .n_shared = 1, .memory_mib = 511, .pagesize = -3);
    ADDED(none, .n_cells = 1, .n_shared = 1, .memory_mib = 512);

    (void)state;
    assert_int_equal(pagesize_of(small), 4);
    assert_int_equal(pagesize_of(large), 2048);
    assert_int_equal(pagesize_of(any), 2048);
    assert_int_equal(pagesize_of(odd), 4);
    assert_false(instance_numa_cell_has_pagesize(instance_numa_topology_cells_at(none, 0)));
}

static void without_a_page_size_small_pages_are_overcommitted(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 2000};
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096, .huge_pages = 1024);
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *limits = make_limits(16, 1.5);

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_true(fits(host, &g));
    }
    check_refused_within(host, &g, limits,
                         "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                         "short of memory in MiB by 1856 (wanted 2000, free 144)");
    g.memory_mib = 2049; /* Not even alone. */
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of pages of 4 KiB by 256 (wanted 524544, free 524288)");
}

static void dedicated_servers_do_not_overcommit_memory(void **state)
{
    struct guest g = {DEDICATED(1, 1)};
    HOST(.n_cells = 1, .n_cpus = 4, .n_threads = 1, .memory_mib = 1000);

    (void)state;
    assert_true(fits(host, &g));
    check_refused(host, &g,
                  "the server fits no NUMA cell of the host; cell 0 on host cell 0: "
                  "short of memory in MiB by 24 (wanted 512, free 488)");
}

/* ---- Which cell ---- */

static void the_less_used_cell_is_preferred(void **state)
{
    struct guest shared = {.n_cells = 1, .n_shared = 1, .memory_mib = 64};
    HOST(.n_cells = 3, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);

    (void)state;
    for (int i = 0; i < 6; i++) {
        CLEANUP(instance_numa_topology_freep)
        struct instance_numa_topology *t = add(host, &shared);

        assert_int_equal(host_cell_of(t, 0), i % 3);
    }
    numa_cell_set_memory_usage(numa_topology_cells_at(host, 0), 1000);
    ADDED(pinned, DEDICATED(1, 1));
    assert_int_equal(host_cell_of(pinned, 0), 1);
}

static void cells_make_room_for_each_other(void **state)
{
    struct guest g = {.n_cells = 3, .n_shared = 1, .memory_mib = 1000};
    HOST(.n_cells = 3, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *wanted = make_guest(&g), *fitted = NULL;

    (void)state;
    /* The last cell fits only on host cell 0, the one before only on 0 and 1. */
    numa_cell_set_memory(numa_topology_cells_at(host, 1), 3000);
    numa_cell_set_memory(numa_topology_cells_at(host, 2), 2000);
    instance_numa_cell_set_memory(instance_numa_topology_cells_at(wanted, 1), 3000);
    instance_numa_cell_set_memory(instance_numa_topology_cells_at(wanted, 2), 4000);
    assert_null(numa_fit(host, wanted, NULL, &fitted));
    assert_int_equal(host_cell_of(fitted, 0), 2);
    assert_int_equal(host_cell_of(fitted, 1), 1);
    assert_int_equal(host_cell_of(fitted, 2), 0);
}

static void cells_that_only_fit_one_at_a_time_are_refused(void **state)
{
    struct guest g = {.n_cells = 2, .n_shared = 1, .memory_mib = 2000};
    HOST(.n_cells = 2, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);

    (void)state;
    numa_cell_set_memory(numa_topology_cells_at(host, 1), 1999);
    check_refused(host, &g,
                  "the server's NUMA cells fit, but not all at once; cell 0 on host cell 1: "
                  "short of memory in MiB by 1 (wanted 2000, free 1999); cell 1 on host cell 1: "
                  "short of memory in MiB by 1 (wanted 2000, free 1999)");
}

static void more_cells_than_the_host_has_are_refused(void **state)
{
    HOST(TWO_BY_FOUR);

    (void)state;
    check_refused(host, &(struct guest){DEDICATED(3, 1)},
                  "the server has 3 NUMA cells, the host 2");
}

/* Nova would try 16! permutations. */
static void a_hopeless_search_ends(void **state)
{
    struct guest g = {.n_cells = 16, .n_shared = 1, .memory_mib = 2000};
    HOST(.n_cells = 16, .n_cpus = 1, .n_threads = 1, .memory_mib = 2000);
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *wanted = make_guest(&g), *fitted = NULL;

    (void)state;
    numa_cell_set_memory(numa_topology_cells_at(host, 15), 1000);
    CLEANUP(err_freep) struct err *e = numa_fit(host, wanted, NULL, &fitted);
    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
}

static struct network_metadata *make_network(const char *physnet, bool is_tunneled)
{
    struct network_metadata *m = network_metadata_new();

    network_metadata_clear_physnets(m);
    if (physnet) {
        network_metadata_physnets_add(m, physnet);
    }
    network_metadata_set_tunneled(m, is_tunneled);
    return m;
}

static void one_cell_is_near_each_network(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = 64};
    HOST(.n_cells = 3, .n_cpus = 4, .n_threads = 1, .memory_mib = 4096);
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *limits = make_limits(16, 1);
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *one = make_guest(&g), *near = NULL, *two = NULL, *both = NULL;

    (void)state;
    numa_cell_set_network_metadata(numa_topology_cells_at(host, 1), make_network("blue", false));
    numa_cell_set_network_metadata(numa_topology_cells_at(host, 2), make_network(NULL, true));
    numa_topology_limits_set_network_metadata(limits, make_network("blue", false));
    assert_null(numa_fit(host, one, limits, &near));
    assert_int_equal(host_cell_of(near, 0), 1);

    numa_topology_limits_set_network_metadata(limits, make_network("blue", true));
    check_refused_within(host, &g, limits,
                         "the server's NUMA cells do not fit on host cells near its networks: "
                         "blue (host cell 1), tunnels (host cell 2)");
    g.n_cells = 2;
    two = make_guest(&g);
    assert_null(numa_fit(host, two, limits, &both));
    assert_int_equal(host_cell_of(both, 0), 1);
    assert_int_equal(host_cell_of(both, 1), 2);

    /* No cell is nearer than another. */
    instance_numa_topology_freep(&near);
    numa_topology_limits_set_network_metadata(limits, make_network("red", false));
    assert_null(numa_fit(host, one, limits, &near));
    assert_int_equal(host_cell_of(near, 0), 0);
}

/* ---- Usage, and what is left out ---- */

static void absent_fields_are_nothing_used_and_nothing_there(void **state)
{
    HOST(TWO_BY_FOUR);
    CLEANUP(numa_topology_freep) struct numa_topology *bare = numa_topology_new();
    CLEANUP(instance_numa_topology_freep)
    struct instance_numa_topology *empty = instance_numa_topology_new(), *fitted = NULL;
    struct numa_cell *cell = numa_topology_cells_at(host, 1);
    struct numa_cell *nothing = numa_cell_new();

    (void)state;
    numa_cell_unset_cpu_usage(cell);
    numa_cell_unset_memory_usage(cell);
    numa_cell_unset_pinned_cpus(cell);
    numa_pages_topology_unset_used(numa_cell_mempages_at(cell, 0));
    numa_pages_topology_unset_reserved(numa_cell_mempages_at(cell, 0));
    ADDED(a, DEDICATED(2, 2), .pagesize = 4);
    assert_int_equal(numa_cell_memory_usage(cell), 512);
    assert_int_equal(numa_pages_topology_used(numa_cell_mempages_at(cell, 0)), 131072);
    check_set(numa_cell_pinned_cpus(cell), "4-5");

    numa_cell_set_id(nothing, 0);
    numa_topology_cells_add(bare, nothing);
    assert_false(fits(bare, &(struct guest){DEDICATED(1, 1)}));
    assert_null(numa_fit(bare, empty, NULL, &fitted));
    instance_numa_topology_cells_add(empty, instance_numa_cell_new());
    numa_count_usage(bare, empty, 1);
    numa_count_usage(bare, a, 1);
    assert_int_equal(numa_cell_memory_usage(nothing), 512);
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *none = NULL;
    CLEANUP(err_freep) struct err *e = numa_fit(host, empty, NULL, &none);
    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
}

static void absurd_numbers_are_refused(void **state)
{
    struct guest g = {.n_cells = 1, .n_shared = 1, .memory_mib = INT64_MAX, .pagesize = 4};
    HOST(TWO_BY_FOUR);
    CLEANUP(numa_topology_limits_freep) struct numa_topology_limits *limits = make_limits(1e300, 1);

    (void)state;
    assert_false(fits(host, &g));
    g.pagesize = 0;
    assert_false(fits(host, &g));
    g.pagesize = INT64_MIN;
    assert_false(fits(host, &g));
    g = (struct guest){.n_cells = 1, .n_shared = 5, .memory_mib = 1};
    check_refused_within(host, &g, limits,
                         "the server fits no NUMA cell of the host; "
                         "cell 0 on host cell 0: short of CPUs by 1 (wanted 5, free 4); "
                         "cell 0 on host cell 1: short of CPUs by 1 (wanted 5, free 4)");
}

static void usage_does_not_fall_below_zero(void **state)
{
    HOST(TWO_BY_FOUR);
    CLEANUP(numa_topology_freep) struct numa_topology *fresh = numa_topology_dup(host);
    ADDED(a, .n_cells = 2, .n_shared = 3, .memory_mib = 512, .pagesize = 2048);

    (void)state;
    numa_count_usage(host, a, -1);
    numa_count_usage(host, a, -1);
    assert_true(ovo_is_equal(numa_topology_ovo(host), numa_topology_ovo(fresh), NULL));
}

static void check_pins_are_disjoint(struct instance_numa_topology *const *servers, size_t n)
{
    CLEANUP(cpuset_fini) struct cpuset all = {0};

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; servers[i] && j < instance_numa_topology_n_cells(servers[i]); j++) {
            const struct instance_numa_cell *c = instance_numa_topology_cells_at(servers[i], j);

            if (!instance_numa_cell_has_cpu_pinning_raw(c)) {
                continue;
            }
            json_object_object_foreach(instance_numa_cell_cpu_pinning_raw(c), vcpu, pcpu)
            {
                unsigned cpu = (unsigned)json_object_get_int64(pcpu);

                (void)vcpu;
                assert_false(cpuset_has(&all, cpu));
                cpuset_add(&all, cpu);
            }
        }
    }
}

static struct guest random_guest(unsigned *seed)
{
    static const char *const policies[] = {NULL, "shared", "dedicated", "mixed"};
    static const char *const threads[] = {NULL, "prefer", "require", "isolate"};
    static const int64_t pagesizes[] = {0, 4, 2048, -1, -2, -3};
    struct guest g = {
        .n_cells = 1 + (unsigned)rand_r(seed) % 2,
        .memory_mib = 1 + rand_r(seed) % 600,
        .pagesize = pagesizes[(unsigned)rand_r(seed) % ARRAY_SIZE(pagesizes)],
        .policy = policies[(unsigned)rand_r(seed) % ARRAY_SIZE(policies)],
        .threads = threads[(unsigned)rand_r(seed) % ARRAY_SIZE(threads)],
        .emulator = rand_r(seed) % 3 ? NULL : "isolate",
    };
    bool is_mixed = str_eq(g.policy, "mixed");

    g.n_pinned = is_mixed || str_eq(g.policy, "dedicated") ? 1 + (unsigned)rand_r(seed) % 4 : 0;
    g.n_shared = is_mixed || !g.n_pinned ? 1 + (unsigned)rand_r(seed) % 4 : 0;
    return g;
}

static void random_servers_leave_nothing_behind(void **state)
{
    unsigned seed = 42;
    size_t n_fitted = 0, n_refused = 0;

    (void)state;
    for (int round = 0; round < 200; round++) {
        HOST(.n_cells = 1 + round % 4, .n_cpus = 8, .n_threads = round % 3 ? 2 : 1,
             .memory_mib = 4096, .huge_pages = 512, .is_split = round % 5 == 0);
        CLEANUP(numa_topology_freep) struct numa_topology *fresh = numa_topology_dup(host);
        struct instance_numa_topology *servers[8] = {NULL};

        for (int step = 0; step < 60; step++) {
            size_t i = (unsigned)rand_r(&seed) % ARRAY_SIZE(servers);

            if (servers[i]) {
                numa_count_usage(host, servers[i], -1);
                servers[i] = instance_numa_topology_free(servers[i]);
            } else {
                struct guest g = random_guest(&seed);

                servers[i] = add(host, &g);
                *(servers[i] ? &n_fitted : &n_refused) += 1;
                check_pins_are_disjoint(servers, ARRAY_SIZE(servers));
            }
        }
        for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
            if (servers[i]) {
                numa_count_usage(host, servers[i], -1);
                instance_numa_topology_free(servers[i]);
            }
        }
        assert_true(ovo_is_equal(numa_topology_ovo(host), numa_topology_ovo(fresh), NULL));
    }
    assert_true(n_fitted > 1000 && n_refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dedicated_cpus_are_pinned_in_order),
        cmocka_unit_test(two_servers_do_not_share_a_pinned_cpu),
        cmocka_unit_test(pins_of_an_earlier_host_are_forgotten),
        cmocka_unit_test(siblings_are_preferred_and_not_required),
        cmocka_unit_test(require_takes_siblings_or_nothing),
        cmocka_unit_test(require_needs_a_host_with_siblings),
        cmocka_unit_test(isolate_takes_and_returns_whole_cores),
        cmocka_unit_test(isolate_needs_a_split_host_without_siblings),
        cmocka_unit_test(isolated_emulator_threads_get_a_cpu_near_the_first_cell),
        cmocka_unit_test(shared_emulator_threads_take_no_cpu),
        cmocka_unit_test(an_isolated_core_is_not_shared_with_the_emulator),
        cmocka_unit_test(a_mixed_server_pins_only_its_dedicated_cpus),
        cmocka_unit_test(a_cell_over_its_limit_takes_not_even_a_server_without_shared_cpus),
        cmocka_unit_test(a_mixed_cell_without_dedicated_cpus_is_refused),
        cmocka_unit_test(one_page_too_few_is_refused_with_numbers),
        cmocka_unit_test(a_page_size_that_the_host_lacks_is_named),
        cmocka_unit_test(memory_is_a_whole_number_of_pages),
        cmocka_unit_test(a_class_of_pages_becomes_a_size),
        cmocka_unit_test(without_a_page_size_small_pages_are_overcommitted),
        cmocka_unit_test(dedicated_servers_do_not_overcommit_memory),
        cmocka_unit_test(the_less_used_cell_is_preferred),
        cmocka_unit_test(cells_make_room_for_each_other),
        cmocka_unit_test(cells_that_only_fit_one_at_a_time_are_refused),
        cmocka_unit_test(more_cells_than_the_host_has_are_refused),
        cmocka_unit_test(a_hopeless_search_ends),
        cmocka_unit_test(one_cell_is_near_each_network),
        cmocka_unit_test(absent_fields_are_nothing_used_and_nothing_there),
        cmocka_unit_test(absurd_numbers_are_refused),
        cmocka_unit_test(usage_does_not_fall_below_zero),
        cmocka_unit_test(random_servers_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

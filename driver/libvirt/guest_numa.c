#include "driver/libvirt/guest_build.h"

#include <stdlib.h>
#include <string.h>

#define SHARE   "share"
#define ISOLATE "isolate"

/* ---- The server's cells and the host's ---- */

static const struct instance_numa_topology *topology(const struct guest_build *b)
{
    return instance_has_numa_topology(b->inst) ? instance_numa_topology(b->inst) : NULL;
}

static size_t n_cells(const struct guest_build *b)
{
    return topology(b) ? instance_numa_topology_n_cells(topology(b)) : 0;
}

static const struct instance_numa_cell *cell_at(const struct guest_build *b, size_t i)
{
    return instance_numa_topology_cells_at(topology(b), i);
}

/* Where a cell of the guest is; its id is the host's. */
static struct err *host_cell_of(const struct guest_build *b, size_t i, const struct host_cell **ret)
{
    int64_t id = instance_numa_cell_id(cell_at(b, i));

    for (size_t k = 0; k < b->s->facts->n_cells; k++) {
        if (b->s->facts->cells[k].id == id) {
            *ret = &b->s->facts->cells[k];
            return NULL;
        }
    }
    CLEANUP(freep)
    char *reason =
        str_printf("the host has no NUMA node %lld, which the server was placed on", (long long)id);

    return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason", reason, NULL);
}

static int64_t page_size(const struct instance_numa_cell *cell)
{
    return instance_numa_cell_has_pagesize(cell) && !instance_numa_cell_isnull_pagesize(cell)
               ? instance_numa_cell_pagesize(cell)
               : 0;
}

static int64_t smallest_page(const struct guest_build *b)
{
    const struct host_facts *f = b->s->facts;
    int64_t smallest = 0;

    for (size_t i = 0; f->n_cells && i < f->cells[0].n_pages; i++) {
        int64_t size = f->cells[0].pages[i].size_kb;

        smallest = smallest == 0 || size < smallest ? size : smallest;
    }
    return smallest;
}

/* A size that the host has and that is not the smallest. */
static bool is_huge(const struct guest_build *b, int64_t size_kb)
{
    const struct host_facts *f = b->s->facts;

    for (size_t i = 0; f->n_cells && i < f->cells[0].n_pages; i++) {
        if (f->cells[0].pages[i].size_kb == size_kb && size_kb > smallest_page(b)) {
            return true;
        }
    }
    return false;
}

static struct cpuset all_cpus(const struct instance_numa_cell *cell)
{
    static const struct cpuset none = {0};
    const struct cpuset *shared =
        instance_numa_cell_has_cpuset(cell) ? instance_numa_cell_cpuset(cell) : NULL;
    const struct cpuset *dedicated =
        instance_numa_cell_has_pcpuset(cell) ? instance_numa_cell_pcpuset(cell) : NULL;

    return cpuset_union(shared ? shared : &none, dedicated ? dedicated : &none);
}

/* ---- Memory ---- */

/* nova/virt/libvirt/driver.py _get_cpu_numa_config_from_instance.  Memory in huge pages is shared,
 * always: a vhost-user port may be added later, and its switch must reach the guest's memory. */
void guest_add_cpu_cells(struct guest_build *b, struct xb_node *cpu)
{
    struct xb_node *numa = n_cells(b) ? xb_add(cpu, "numa") : NULL;
    bool has_host_cells = b->s->facts->n_cells > 0, is_shared = false;

    for (size_t i = 0; i < n_cells(b); i++) {
        is_shared |= is_huge(b, page_size(cell_at(b, i)));
    }
    for (size_t i = 0; i < n_cells(b); i++) {
        const struct instance_numa_cell *c = cell_at(b, i);
        CLEANUP(cpuset_fini) struct cpuset cpus = all_cpus(c);
        CLEANUP(freep) char *text = cpuset_text(&cpus);
        struct xb_node *cell = xb_add(numa, "cell");

        xb_set_attr_int(cell, "id", has_host_cells ? (int64_t)i : instance_numa_cell_id(c));
        xb_set_attr(cell, "cpus", text);
        xb_set_attr_int(cell, "memory", instance_numa_cell_memory(c) << 10);
        xb_set_attr(cell, "memAccess", is_shared ? "shared" : NULL);
    }
}

struct err *guest_add_numa_tune(struct guest_build *b)
{
    CLEANUP(cpuset_fini) struct cpuset nodes = {0};
    struct xb_node *tune, *memory;

    if (!n_cells(b) || !b->s->facts->n_cells) {
        return NULL;
    }
    tune = xb_add(b->root, "numatune");
    memory = xb_add_with(tune, "memory", "mode", "strict", NULL);
    for (size_t i = 0; i < n_cells(b); i++) {
        const struct host_cell *host = NULL;
        struct xb_node *node;

        TRY(host_cell_of(b, i, &host));
        node = xb_add(tune, "memnode");
        xb_set_attr_int(node, "cellid", (int64_t)i);
        xb_set_attr(node, "mode", "strict");
        xb_set_attr_int(node, "nodeset", host->id);
        cpuset_add(&nodes, (unsigned)host->id);
    }
    CLEANUP(freep) char *text = cpuset_text(&nodes);

    xb_set_attr(memory, "nodeset", text);
    return NULL;
}

static struct err *add_hugepages(struct guest_build *b, struct xb_node *backing)
{
    struct xb_node *hugepages = NULL;

    if (!b->s->facts->n_cells) {
        return err_new(ERR_MEMORY_PAGES_UNSUPPORTED, NULL);
    }
    for (size_t i = 0; i < n_cells(b); i++) {
        int64_t size = page_size(cell_at(b, i));
        struct xb_node *page;

        if (size <= smallest_page(b)) { /* libvirt does not take the smallest. */
            continue;
        }
        hugepages = hugepages ? hugepages : xb_add(backing, "hugepages");
        page = xb_add(hugepages, "page");
        xb_set_attr_int(page, "size", size);
        xb_set_attr_int(page, "nodeset", (int64_t)i);
        xb_set_attr(page, "unit", "KiB");
    }
    return NULL;
}

/* nova/virt/hardware.py get_locked_memory_constraint */
static struct err *wants_locked(const struct guest_build *b, bool *ret)
{
    const char *of_flavor = flavor_spec(b->inst, "hw:locked_memory");
    const char *of_image = image_meta_prop(b->image, "hw_locked_memory");
    bool by_flavor = flavor_spec_bool(b->inst, "hw:locked_memory", false);
    bool by_image = image_meta_bool(b->image, "hw_locked_memory", false);
    const char *pages = guest_setting(b->inst, b->image, "hw:mem_page_size", "hw_mem_page_size");

    if (of_flavor && of_image && by_flavor != by_image) {
        return err_new(ERR_LOCKED_MEMORY_CONFLICT, "image", by_image ? "True" : "False", "flavor",
                       by_flavor ? "True" : "False", NULL);
    }
    *ret = of_flavor ? by_flavor : by_image;
    return *ret && str_is_empty(pages) ? err_new(ERR_LOCK_MEMORY_FORBIDDEN, NULL) : NULL;
}

static bool is_realtime(const struct guest_build *b)
{
    return flavor_spec_bool(b->inst, "hw:cpu_realtime", false);
}

static struct err *emulator_policy(const struct guest_build *b, const char **ret)
{
    const char *policy = flavor_spec(b->inst, "hw:emulator_threads_policy");

    if (!str_is_empty(policy) && !str_eq(policy, SHARE) && !str_eq(policy, ISOLATE)) {
        return err_msg(ERR_INVALID,
                       "the flavor's extra spec hw:emulator_threads_policy is '%s'; "
                       "it can be share or isolate",
                       policy);
    }
    *ret = str_is_empty(policy) ? NULL : policy;
    return NULL;
}

/* Emulator threads that share a host's pool need one if CPUs are real-time. */
static struct err *check_realtime(const struct guest_build *b)
{
    const char *policy = NULL;

    TRY(emulator_policy(b, &policy));
    return is_realtime(b) && str_eq(policy, SHARE) && str_is_empty(b->conf->compute.cpu_shared_set)
               ? err_msg(ERR_REALTIME_MASK_INVALID,
                         "hw:cpu_realtime with hw:emulator_threads_policy=share needs a host with "
                         "[compute]cpu_shared_set")
               : NULL;
}

/* nova/virt/libvirt/driver.py _get_guest_memory_backing_config */
struct err *guest_add_memory_backing(struct guest_build *b)
{
    struct xb_node *backing = xb_add(b->root, "memoryBacking");
    bool has_pages = false, is_locked = false, is_file = b->conf->libvirt.file_backed_memory > 0;

    TRY(check_realtime(b));
    for (size_t i = 0; i < n_cells(b); i++) {
        has_pages |= page_size(cell_at(b, i)) != 0;
    }
    if (has_pages && is_file) {
        return err_msg(ERR_MEMORY_PAGES_UNSUPPORTED,
                       "a server with hw:mem_page_size cannot be on a host with "
                       "[libvirt]file_backed_memory");
    }
    if (has_pages) {
        TRY(add_hugepages(b, backing));
    }
    if (is_realtime(b)) {
        xb_add(backing, "nosharepages");
    }
    TRY(wants_locked(b, &is_locked));
    if (is_realtime(b) || is_locked) {
        xb_add(backing, "locked");
    }
    if (is_file) {
        xb_add_with(backing, "source", "type", "file", NULL);
        xb_add_with(backing, "access", "mode", "shared", NULL);
        xb_add_with(backing, "allocation", "mode", "immediate", NULL);
        xb_add(backing, "discard");
    }
    if (xb_is_empty(backing)) {
        xb_remove(backing);
    }
    return NULL;
}

/* ---- CPUs ---- */

char *guest_float_cpus(const struct guest_build *b)
{
    bool is_limited =
        !str_is_empty(b->conf->dflt.vcpu_pin_set) || !str_is_empty(b->conf->compute.cpu_shared_set);

    return !n_cells(b) && is_limited ? cpuset_text(&b->s->facts->shared) : NULL;
}

/* Guest CPUs with realtime priority: the image's mask goes before the flavor's; one that begins
 * with '^' names those that have none; no mask: all (nova/virt/hardware.py
 * get_realtime_cpu_constraint). */
static struct err *realtime_cpus(const struct guest_build *b, struct cpuset *ret)
{
    const char *mask = image_meta_prop(b->image, "hw_cpu_realtime_mask"), *policy = NULL;
    long long last = (long long)flavor_vcpus(b->flavor) - 1;
    CLEANUP(cpuset_fini) struct cpuset guest = {0}, set = {0};

    if (!is_realtime(b)) {
        return NULL;
    }
    mask = str_is_empty(mask) ? flavor_spec(b->inst, "hw:cpu_realtime_mask") : mask;
    CLEANUP(freep) char *text = str_dup(mask ? mask : "");
    CLEANUP(freep) char *all = str_printf("0-%lld", last);
    const char *given = str_strip(text);
    CLEANUP(freep)
    char *spec = *given == '\0'  ? str_dup(all)
                 : *given == '^' ? str_printf("%s,%s", all, given)
                                 : str_dup(given);

    TRY_CTX(cpuset_parse(spec, &set), "reading hw:cpu_realtime_mask");
    TRY(emulator_policy(b, &policy));
    TRY(cpuset_parse(all, &guest));
    if (!set.n || !cpuset_is_subset(&set, &guest) || (cpuset_eq(&set, &guest) && !policy)) {
        return err_msg(ERR_REALTIME_MASK_INVALID,
                       "hw:cpu_realtime_mask '%s' of a server with %lld CPUs must leave one "
                       "without realtime, or hw:emulator_threads_policy must be set",
                       given, last + 1);
    }
    *ret = set;
    set = (struct cpuset){0};
    return NULL;
}

static void add_all(struct cpuset *to, const struct cpuset *more)
{
    for (size_t i = 0; more && i < more->n; i++) {
        cpuset_add(to, more->items[i]);
    }
}

/* Where each guest CPU may run; those of no cell stay empty. */
struct pins {
    struct cpuset *of; /* By guest CPU. */
    size_t n;
    struct cpuset emulator;
};

static void pins_fini(struct pins *p)
{
    for (size_t i = 0; i < p->n; i++) {
        cpuset_fini(&p->of[i]);
    }
    free(p->of);
    cpuset_fini(&p->emulator);
}

/* Makes room for a guest CPU. */
static struct cpuset *pin_of(struct pins *p, unsigned cpu)
{
    if (cpu >= p->n) {
        p->of = mem_realloc(p->of, cpu + 1, sizeof(*p->of));
        memset(p->of + p->n, 0, (cpu + 1 - p->n) * sizeof(*p->of));
        p->n = cpu + 1;
    }
    return &p->of[cpu];
}

/* A dedicated CPU is where it was claimed, the others float over the host's cell (nova's
 * _get_pin_cpuset). */
static struct err *pin_cpu(const struct guest_build *b, const struct instance_numa_cell *cell,
                           const struct host_cell *host, unsigned cpu, struct cpuset *ret)
{
    struct json_object *pinning = instance_numa_cell_has_cpu_pinning_raw(cell)
                                      ? instance_numa_cell_cpu_pinning_raw(cell)
                                      : NULL;
    CLEANUP(freep) char *key = str_printf("%u", cpu);
    struct json_object *to = jv_get(pinning, key);

    int64_t host_cpu = json_object_get_int64(to);

    if (!to) {
        *ret = cpuset_intersect(&host->cpus, &b->s->facts->shared);
        return NULL;
    }
    if (host_cpu < 0 || host_cpu >= CPUSET_MAX) {
        return err_msg(ERR_PARSE, "CPU %u of the server is pinned to CPU %lld of the host", cpu,
                       (long long)host_cpu);
    }
    cpuset_add(ret, (unsigned)host_cpu);
    return NULL;
}

/* QEMU's own threads: where they are isolated to, or the host's shared CPUs, or where guest CPUs
 * without realtime are (nova's _get_emulatorpin_cpuset). */
static void pin_emulator(const struct guest_build *b, const char *policy,
                         const struct instance_numa_cell *cell, unsigned cpu,
                         const struct cpuset *realtime, struct pins *p)
{
    if (str_eq(policy, ISOLATE)) {
        add_all(&p->emulator, instance_numa_cell_has_cpuset_reserved(cell)
                                  ? instance_numa_cell_cpuset_reserved(cell)
                                  : NULL);
    } else if (str_eq(policy, SHARE) && !str_is_empty(b->conf->compute.cpu_shared_set)) {
        add_all(&p->emulator, &b->s->facts->shared);
    } else if (!cpuset_has(realtime, cpu)) {
        add_all(&p->emulator, &p->of[cpu]);
    }
}

static struct err *pin_all(const struct guest_build *b, const struct cpuset *realtime,
                           struct pins *p)
{
    const struct instance_numa_topology *t = topology(b);
    const char *policy = instance_numa_topology_has_emulator_threads_policy(t)
                             ? instance_numa_topology_emulator_threads_policy(t)
                             : NULL;

    for (size_t i = 0; i < n_cells(b); i++) {
        CLEANUP(cpuset_fini) struct cpuset cpus = all_cpus(cell_at(b, i));
        const struct host_cell *host = NULL;

        TRY(host_cell_of(b, i, &host));
        for (size_t k = 0; k < cpus.n; k++) {
            TRY(pin_cpu(b, cell_at(b, i), host, cpus.items[k], pin_of(p, cpus.items[k])));
            pin_emulator(b, policy, cell_at(b, i), cpus.items[k], realtime, p);
        }
    }
    return NULL;
}

static void add_pins(const struct guest_build *b, struct xb_node *tune, const struct pins *p,
                     const struct cpuset *realtime)
{
    CLEANUP(freep) char *emulator = cpuset_text(&p->emulator);

    xb_add_with(tune, "emulatorpin", "cpuset", emulator, NULL);
    for (size_t i = 0; i < p->n; i++) {
        CLEANUP(freep) char *text = cpuset_text(&p->of[i]);

        if (p->of[i].n) {
            struct xb_node *pin = xb_add(tune, "vcpupin");

            xb_set_attr_int(pin, "vcpu", (int64_t)i);
            xb_set_attr(pin, "cpuset", text);
        }
    }
    if (realtime->n) {
        CLEANUP(freep) char *text = cpuset_text(realtime);
        struct xb_node *sched =
            xb_add_with(tune, "vcpusched", "vcpus", text, "scheduler", "fifo", NULL);

        xb_set_attr_int(sched, "priority", b->conf->libvirt.realtime_scheduler_priority);
    }
}

/* nova/virt/libvirt/driver.py _update_guest_cputune */
static struct err *add_quotas(struct guest_build *b, struct xb_node *tune)
{
    static const char *const quotas[] = {"shares", "quota", "period"};

    for (size_t i = 0; i < ARRAY_SIZE(quotas); i++) {
        CLEANUP(freep) char *spec = str_printf("quota:cpu_%s", quotas[i]);
        int64_t n = 0;

        if (!flavor_spec(b->inst, spec)) {
            continue;
        }
        if (!b->s->host->has_cpu_controller) {
            return err_msg(ERR_UNSUPPORTED_CPU_CONTROL_POLICY,
                           "%s cannot be had: the host has no CPU controller of cgroups", spec);
        }
        TRY(guest_ask_number(b, spec, 0, &n));
        xb_add_int(tune, quotas[i], n);
    }
    return NULL;
}

struct err *guest_add_cpu_tune(struct guest_build *b)
{
    struct xb_node *tune = xb_add(b->root, "cputune");

    TRY(add_quotas(b, tune));
    if (n_cells(b) && b->s->facts->n_cells) {
        CLEANUP(pins_fini) struct pins pins = {0};
        CLEANUP(cpuset_fini) struct cpuset realtime = {0};

        TRY(realtime_cpus(b, &realtime));
        TRY(pin_all(b, &realtime, &pins));
        add_pins(b, tune, &pins, &realtime);
    }
    if (xb_is_empty(tune)) {
        xb_remove(tune);
    }
    return NULL;
}

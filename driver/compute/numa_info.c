#include "driver/compute/numa_info.h"

static void add_all(struct cpuset *sum, const struct cpuset *more)
{
    for (size_t i = 0; i < more->n; i++) {
        cpuset_add(sum, more->items[i]);
    }
}

/* ---- Realtime ---- */

static bool is_true(const char *text)
{
    static const char *const words[] = {"1", "t", "true", "on", "y", "yes"};

    for (size_t i = 0; text && i < ARRAY_SIZE(words); i++) {
        if (str_ieq(text, words[i])) {
            return true;
        }
    }
    return false;
}

/* Guest CPUs that run with realtime priority: the image's mask goes before the flavor's, a mask
 * that begins with '^' names those that do not; none: all.  Empty without realtime. */
static struct err *realtime_cpus(const struct instance *inst, struct cpuset *ret)
{
    const struct flavor *f = instance_flavor(inst);
    const char *mask = instance_has_system_metadata(inst)
                           ? instance_system_metadata_get(inst, "image_hw_cpu_realtime_mask")
                           : NULL;
    long long last = (long long)flavor_vcpus(f) - 1;

    if (!flavor_has_extra_specs(f) || !is_true(flavor_extra_specs_get(f, "hw:cpu_realtime"))) {
        return NULL;
    }
    if (str_is_empty(mask)) {
        mask = flavor_extra_specs_get(f, "hw:cpu_realtime_mask");
    }
    CLEANUP(freep)
    char *spec = str_is_empty(mask) || mask[0] == '^'
                     ? str_printf("0-%lld%s%s", last, str_is_empty(mask) ? "" : ",",
                                  str_is_empty(mask) ? "" : mask)
                     : str_dup(mask);

    TRY_CTX(cpuset_parse(spec, ret), "reading hw:cpu_realtime_mask");
    return NULL;
}

/* ---- Pins ---- */

struct pins {
    struct json_object *cpus, *cells; /* Go to the result. */
    struct cpuset emulator;
};

static const struct host_cell *host_cell(const struct host_facts *f, int64_t id)
{
    for (size_t i = 0; i < f->n_cells; i++) {
        if (f->cells[i].id == id) {
            return &f->cells[i];
        }
    }
    return NULL;
}

static void pin(struct pins *p, unsigned cpu, const struct cpuset *to, bool is_for_emulator)
{
    CLEANUP(freep) char *key = str_printf("%u", cpu);

    jv_add(p->cpus, key, cpuset_to_json(to));
    if (is_for_emulator) {
        add_all(&p->emulator, to);
    }
}

/* Dedicated CPUs go to their host CPU, the others float over the host cell.  The emulator's threads
 * go where guest CPUs without realtime are, unless a policy says otherwise. */
static struct err *pin_cell(const struct host_facts *f, const struct instance_numa_cell *cell,
                            const struct cpuset *realtime, bool has_policy, struct pins *p)
{
    const struct host_cell *hc = host_cell(f, instance_numa_cell_id(cell));
    const struct cpuset *floating = instance_numa_cell_cpuset(cell);
    struct json_object *pinning = instance_numa_cell_has_cpu_pinning_raw(cell)
                                      ? instance_numa_cell_cpu_pinning_raw(cell)
                                      : NULL;

    if (!hc) {
        return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason",
                       "a NUMA node that was claimed is gone", NULL);
    }
    CLEANUP(cpuset_fini) struct cpuset shared = cpuset_intersect(&hc->cpus, &f->shared);

    for (size_t i = 0; floating && i < floating->n; i++) {
        pin(p, floating->items[i], &shared,
            !has_policy && !cpuset_has(realtime, floating->items[i]));
    }
    if (pinning) {
        json_object_object_foreach(pinning, guest, host)
        {
            CLEANUP(cpuset_fini) struct cpuset one = {0};
            int64_t cpu;

            if (str_to_i64(guest, &cpu) && cpu >= 0 && cpu < CPUSET_MAX) {
                cpuset_add(&one, (unsigned)json_object_get_int64(host));
                pin(p, (unsigned)cpu, &one, !has_policy && !cpuset_has(realtime, (unsigned)cpu));
            }
        }
    }
    return NULL;
}

/* Of a policy: the CPUs reserved for it, or those that the host shares. */
static void pin_emulator(const struct conf *conf, const struct host_facts *f, const char *policy,
                         const struct instance_numa_cell *cell, struct pins *p)
{
    if (str_eq(policy, "isolate") && instance_numa_cell_has_cpuset_reserved(cell) &&
        instance_numa_cell_cpuset_reserved(cell)) {
        add_all(&p->emulator, instance_numa_cell_cpuset_reserved(cell));
    } else if (str_eq(policy, "share") && !str_is_empty(conf->compute.cpu_shared_set)) {
        add_all(&p->emulator, &f->shared);
    }
}

static struct err *pin_all(const struct conf *conf, const struct host_facts *f,
                           const struct instance_numa_topology *fitted,
                           const struct cpuset *realtime, struct pins *p)
{
    const char *policy = instance_numa_topology_has_emulator_threads_policy(fitted)
                             ? instance_numa_topology_emulator_threads_policy(fitted)
                             : NULL;
    /* "share" has a meaning only on hosts with a shared set of their own. */
    bool has_policy = str_eq(policy, "isolate") ||
                      (str_eq(policy, "share") && !str_is_empty(conf->compute.cpu_shared_set));

    for (size_t i = 0; i < instance_numa_topology_n_cells(fitted); i++) {
        struct instance_numa_cell *cell = instance_numa_topology_cells_at(fitted, i);
        CLEANUP(freep) char *key = str_printf("%zu", i);
        CLEANUP(cpuset_fini) struct cpuset node = {0};

        cpuset_add(&node, (unsigned)instance_numa_cell_id(cell));
        jv_add(p->cells, key, cpuset_to_json(&node));
        TRY(pin_cell(f, cell, realtime, has_policy, p));
        pin_emulator(conf, f, policy, cell, p);
    }
    return NULL;
}

struct err *numa_info_make(const struct conf *conf, const struct host_facts *f,
                           const struct instance *inst, const struct instance_numa_topology *fitted,
                           struct libvirt_live_migrate_numa_info **ret)
{
    CLEANUP(cpuset_fini) struct cpuset realtime = {0};
    struct pins p = {.cpus = json_object_new_object(), .cells = json_object_new_object()};
    struct err *e = realtime_cpus(inst, &realtime);

    if (!e) {
        e = pin_all(conf, f, fitted, &realtime, &p);
    }
    if (!e) {
        struct libvirt_live_migrate_numa_info *info = libvirt_live_migrate_numa_info_new();

        libvirt_live_migrate_numa_info_set_cpu_pins(info, TAKE(p.cpus));
        libvirt_live_migrate_numa_info_set_cell_pins(info, TAKE(p.cells));
        libvirt_live_migrate_numa_info_set_emulator_pins(info, &p.emulator);
        if (realtime.n) {
            libvirt_live_migrate_numa_info_set_sched_vcpus(info, &realtime);
            libvirt_live_migrate_numa_info_set_sched_priority(
                info, conf->libvirt.realtime_scheduler_priority);
        }
        *ret = info;
    }
    jv_putp(&p.cpus);
    jv_putp(&p.cells);
    cpuset_fini(&p.emulator);
    return e;
}

#include "driver/compute/node_record.h"

#include "driver/compute/numa.h"

#include <stdlib.h>
#include <string.h>

/* ---- Setting only what differs ---- */

#define SET_INT(cn, field, value)                                                                  \
    do {                                                                                           \
        int64_t set_ = (value);                                                                    \
        if (!compute_node_has_##field(cn) || compute_node_isnull_##field(cn) ||                    \
            compute_node_##field(cn) != set_) {                                                    \
            compute_node_set_##field(cn, set_);                                                    \
        }                                                                                          \
    } while (0)
/* An option that is unset (or 0.0, an old way to say so) leaves the record's ratio alone; a record
 * without one gets the initial. */
#define SET_RATIO(cn, field, conf)                                                                 \
    do {                                                                                           \
        double option_ = (conf)->dflt.field;                                                       \
        bool is_option_ = conf_is_set(option_) && option_ > 0;                                     \
        bool has_ = compute_node_has_##field(cn);                                                  \
        double now_ = has_ ? compute_node_##field(cn) : 0;                                         \
        double set_ = is_option_ ? option_ : has_ ? now_ : (conf)->dflt.initial_##field;           \
        if (!has_ || now_ > set_ || now_ < set_) {                                                 \
            compute_node_set_##field(cn, set_);                                                    \
        }                                                                                          \
    } while (0)
#define SET_STR(cn, field, value)                                                                  \
    do {                                                                                           \
        const char *set_ = (value);                                                                \
        if (!compute_node_has_##field(cn) || !str_eq(compute_node_##field(cn), set_)) {            \
            compute_node_set_##field(cn, set_);                                                    \
        }                                                                                          \
    } while (0)

/* ---- Usage ---- */

struct usage usage_of_flavor(const struct instance *inst, const struct flavor *f,
                             const struct instance_numa_topology *numa, bool is_move)
{
    bool is_volume_backed = instance_has_image_ref(inst) && str_is_empty(instance_image_ref(inst));
    int64_t root_gb = is_volume_backed ? 0 : flavor_root_gb(f);

    return (struct usage){
        .uuid = str_dup(instance_uuid(inst)),
        .vm_state = str_dup(instance_vm_state(inst)),
        .task_state = str_dup(instance_task_state(inst)),
        .os_type = str_dup(instance_has_os_type(inst) ? instance_os_type(inst) : NULL),
        .project_id = str_dup(instance_project_id(inst)),
        .vcpus = flavor_vcpus(f),
        .memory_mb = flavor_memory_mb(f),
        .disk_gb = root_gb + flavor_ephemeral_gb(f) + flavor_swap(f) / 1024,
        .numa = numa ? instance_numa_topology_dup(numa) : NULL,
        .is_move = is_move,
    };
}

struct usage usage_of(const struct instance *inst, const struct instance_numa_topology *numa,
                      bool is_move)
{
    return usage_of_flavor(inst, instance_flavor(inst), numa, is_move);
}

void usage_fini(struct usage *u)
{
    free(u->uuid);
    free(u->vm_state);
    free(u->task_state);
    free(u->os_type);
    free(u->project_id);
    instance_numa_topology_free(u->numa);
    *u = (struct usage){0};
}

/* ---- NUMA ---- */

static struct numa_cell *node_cell(const struct host_facts *f, const struct host_cell *hc)
{
    struct numa_cell *cell = numa_cell_new();
    struct network_metadata *net = network_metadata_new();
    CLEANUP(cpuset_fini) struct cpuset shared = cpuset_intersect(&hc->cpus, &f->shared);
    CLEANUP(cpuset_fini) struct cpuset pinnable = cpuset_intersect(&hc->cpus, &f->pinnable);
    CLEANUP(cpuset_fini) struct cpuset usable = cpuset_union(&shared, &pinnable);
    CLEANUP(cpuset_fini) struct cpuset none = {0};
    struct json_object *siblings = json_object_new_array();

    numa_cell_set_id(cell, hc->id);
    numa_cell_set_cpuset(cell, &shared);
    numa_cell_set_pcpuset(cell, &pinnable);
    numa_cell_set_memory(cell, hc->memory_mib);
    numa_cell_set_cpu_usage(cell, 0);
    numa_cell_set_memory_usage(cell, 0);
    numa_cell_set_pinned_cpus(cell, &none);
    for (size_t i = 0; i < hc->n_siblings; i++) {
        CLEANUP(cpuset_fini) struct cpuset set = cpuset_intersect(&hc->siblings[i], &usable);

        if (set.n) {
            json_object_array_add(siblings, cpuset_to_json(&set));
        }
    }
    numa_cell_set_siblings(cell, siblings);
    numa_cell_clear_mempages(cell);
    for (size_t i = 0; i < hc->n_pages; i++) {
        struct numa_pages_topology *p = numa_pages_topology_new();

        numa_pages_topology_set_size_kb(p, hc->pages[i].size_kb);
        numa_pages_topology_set_total(p, hc->pages[i].total);
        numa_pages_topology_set_used(p, 0);
        numa_pages_topology_set_reserved(p, hc->pages[i].reserved);
        numa_cell_mempages_add(cell, p);
    }
    network_metadata_clear_physnets(net);
    network_metadata_set_tunneled(net, false);
    numa_cell_set_network_metadata(cell, net);
    if (hc->socket >= 0) {
        numa_cell_set_socket(cell, hc->socket);
    } else {
        numa_cell_set_null_socket(cell);
    }
    return cell;
}

struct numa_topology *node_numa(const struct host_facts *f)
{
    struct numa_topology *t;

    if (!f->n_cells) {
        return NULL;
    }
    t = numa_topology_new();
    for (size_t i = 0; i < f->n_cells; i++) {
        numa_topology_cells_add(t, node_cell(f, &f->cells[i]));
    }
    return t;
}

/* The record holds the topology as JSON text; texts that say the same are equal. */
static void set_numa(struct compute_node *cn, const struct host_facts *f,
                     const struct usage *usages, size_t n)
{
    CLEANUP(numa_topology_freep) struct numa_topology *now = node_numa(f), *old = NULL;
    const char *old_text =
        compute_node_has_numa_topology(cn) ? compute_node_numa_topology(cn) : NULL;
    CLEANUP(jv_putp) struct json_object *json = NULL;

    for (size_t i = 0; now && i < n; i++) {
        if (usages[i].numa) {
            numa_count_usage(now, usages[i].numa, 1);
        }
    }
    if (old_text) {
        CLEANUP(err_freep) struct err *e = jv_parse(old_text, strlen(old_text), &json);

        if (!e) {
            e = numa_topology_from_json(json, &old);
        }
    }
    if (now && old && ovo_is_equal(numa_topology_ovo(now), numa_topology_ovo(old), NULL)) {
        return;
    }
    if (!now) {
        SET_STR(cn, numa_topology, NULL);
        return;
    }
    CLEANUP(jv_putp) struct json_object *wire = numa_topology_to_json(now);
    CLEANUP(freep) char *text = jv_text(wire);

    compute_node_set_numa_topology(cn, text);
}

/* ---- Statistics ---- */

static void bump(struct json_object *counts, const char *prefix, const char *value)
{
    CLEANUP(freep) char *key = str_printf("%s%s", prefix, value ? value : "None");

    jv_add_int(counts, key, json_object_get_int64(jv_get(counts, key)) + 1);
}

static bool is_io_heavy(const struct usage *u)
{
    static const char *const tasks[] = {"resize_migrating", "rebuilding",   "resize_prep",
                                        "image_snapshot",   "image_backup", "rescuing",
                                        "unshelving"};

    if (str_eq(u->vm_state, "building")) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
        if (str_eq(u->task_state, tasks[i])) {
            return true;
        }
    }
    return false;
}

static void set_stats(struct compute_node *cn, const struct usage *usages, size_t n)
{
    CLEANUP(jv_putp) struct json_object *counts = json_object_new_object();
    int64_t io = 0, n_servers = 0;
    const char *failed = compute_node_has_stats(cn) && !compute_node_isnull_stats(cn)
                             ? compute_node_stats_get(cn, "failed_builds")
                             : NULL;
    CLEANUP(freep) char *failed_builds = str_dup(failed ? failed : "0");

    for (size_t i = 0; i < n; i++) {
        const struct usage *u = &usages[i];

        if (u->is_move) {
            continue;
        }
        n_servers++;
        io += is_io_heavy(u);
        bump(counts, "num_vm_", u->vm_state);
        bump(counts, "num_task_", u->task_state);
        bump(counts, "num_os_type_", u->os_type);
        bump(counts, "num_proj_", u->project_id);
    }
    if (n_servers) {
        jv_add_int(counts, "num_instances", n_servers);
        jv_add_int(counts, "io_workload", io);
    }
    bool is_same = compute_node_has_stats(cn) && !compute_node_isnull_stats(cn) &&
                   compute_node_n_stats(cn) == (size_t)json_object_object_length(counts) + 1 &&
                   failed;

    json_object_object_foreach(counts, key, value)
    {
        is_same = is_same && str_eq(compute_node_stats_get(cn, key), json_object_get_string(value));
    }
    if (is_same) {
        return;
    }
    compute_node_clear_stats(cn);
    compute_node_stats_put(cn, "failed_builds", failed_builds);
    json_object_object_foreach(counts, k, v)
    {
        compute_node_stats_put(cn, k, json_object_get_string(v));
    }
}

/* ---- All of it ---- */

static struct hv_spec *spec_of_triple(struct json_object *triple)
{
    struct hv_spec *s = hv_spec_new();

    hv_spec_set_arch(s, json_object_get_string(json_object_array_get_idx(triple, 0)));
    hv_spec_set_hv_type(s, json_object_get_string(json_object_array_get_idx(triple, 1)));
    hv_spec_set_vm_mode(s, json_object_get_string(json_object_array_get_idx(triple, 2)));
    return s;
}

static bool same_specs(struct compute_node *cn, struct json_object *specs)
{
    if (!compute_node_has_supported_hv_specs(cn) ||
        compute_node_n_supported_hv_specs(cn) != json_object_array_length(specs)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(specs); i++) {
        CLEANUP(hv_spec_freep)
        struct hv_spec *s = spec_of_triple(json_object_array_get_idx(specs, i));

        if (!ovo_is_equal(hv_spec_ovo(s), hv_spec_ovo(compute_node_supported_hv_specs_at(cn, i)),
                          NULL)) {
            return false;
        }
    }
    return true;
}

/* The features of a CPU are a set: another order is no change. */
static bool same_cpu_info(const char *a, const char *b)
{
    CLEANUP(strv_fini) struct strv x = {0}, y = {0};

    if (!a || !b || strlen(a) != strlen(b)) {
        return false;
    }
    x = strv_split(a, ",[]{}");
    y = strv_split(b, ",[]{}");
    strv_sort(&x);
    strv_sort(&y);
    CLEANUP(freep) char *tx = strv_join(&x, ",");
    CLEANUP(freep) char *ty = strv_join(&y, ",");

    return str_eq(tx, ty);
}

static void set_facts(struct compute_node *cn, const struct conf *conf, const struct host_facts *f)
{
    SET_STR(cn, hypervisor_hostname, f->hostname);
    SET_STR(cn, hypervisor_type, f->hypervisor_type);
    SET_INT(cn, hypervisor_version, f->hypervisor_version);
    SET_STR(cn, host_ip, conf->dflt.my_ip);
    SET_INT(cn, vcpus, f->vcpus);
    SET_INT(cn, memory_mb, f->memory_mib);
    SET_INT(cn, local_gb, f->local_gb);
    if (!compute_node_has_cpu_info(cn) || !same_cpu_info(compute_node_cpu_info(cn), f->cpu_info)) {
        compute_node_set_cpu_info(cn, f->cpu_info);
    }
    SET_STR(cn, metrics, "[]");
    if (!same_specs(cn, f->hv_specs)) {
        compute_node_clear_supported_hv_specs(cn);
        for (size_t i = 0; i < json_object_array_length(f->hv_specs); i++) {
            compute_node_supported_hv_specs_add(
                cn, spec_of_triple(json_object_array_get_idx(f->hv_specs, i)));
        }
    }
    if (!compute_node_has_pci_device_pools(cn) || !compute_node_pci_device_pools(cn) ||
        pci_device_pool_list_n(compute_node_pci_device_pools(cn))) {
        compute_node_set_pci_device_pools(cn, pci_device_pool_list_new());
    }
    SET_RATIO(cn, cpu_allocation_ratio, conf);
    SET_RATIO(cn, ram_allocation_ratio, conf);
    SET_RATIO(cn, disk_allocation_ratio, conf);
}

void node_record_fill(struct compute_node *cn, const struct conf *conf, const struct host_facts *f,
                      int64_t over_committed_bytes, const struct usage *usages, size_t n)
{
    int64_t vcpus = conf->dflt.reserved_host_cpus, memory = conf->dflt.reserved_host_memory_mb;
    int64_t disk = conf->dflt.reserved_host_disk_mb / 1024, running = 0, workload = 0;

    for (size_t i = 0; i < n; i++) {
        vcpus += usages[i].vcpus;
        memory += usages[i].memory_mb;
        disk += usages[i].disk_gb;
        running += !usages[i].is_move;
        workload += !usages[i].is_move && usages[i].task_state;
    }
    set_facts(cn, conf, f);
    SET_INT(cn, vcpus_used, vcpus);
    SET_INT(cn, memory_mb_used, memory);
    SET_INT(cn, local_gb_used, disk);
    SET_INT(cn, free_ram_mb, f->memory_mib - memory);
    SET_INT(cn, free_disk_gb, f->local_gb - disk);
    SET_INT(cn, disk_available_least,
            ((int64_t)f->free_bytes - over_committed_bytes) / (INT64_C(1) << 30));
    SET_INT(cn, running_vms, running);
    SET_INT(cn, current_workload, workload);
    set_stats(cn, usages, n);
    set_numa(cn, f, usages, n);
}

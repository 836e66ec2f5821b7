/* How a guest fares: the dictionary of old, and the Diagnostics object.
 *
 * What libvirt does not say of a device is left out, as in Nova.
 *
 * Source: nova/compute/manager.py get_diagnostics, get_instance_diagnostics;
 * nova/virt/libvirt/driver.py; nova/objects/diagnostics.py. */

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/libvirt/configdrive.h"
#include "driver/libvirt/guest_xml.h"

#include <stdlib.h>

struct guest {
    struct lv_domain *domain;
    struct guest_info info;
    uint64_t *vcpu_ns;
    size_t n_vcpus;
    uint64_t max_kib, used_kib;
};

static void guest_fini(struct guest *g)
{
    lv_domain_freep(&g->domain);
    guest_info_fini(&g->info);
    free(g->vcpu_ns);
}

/* False: libvirt cannot say it.  An error of any other kind is one. */
static struct err *is_said(struct err *e, bool *ret)
{
    *ret = !e;
    if (err_is(e, ERR_LIBVIRT)) {
        e = err_free(e);
    }
    return e;
}

/* Nova asks for the state again, and names that of the record in its error. */
static struct err *check_running(struct node *node, const struct instance *inst)
{
    int64_t power = POWER_NOSTATE, recorded;
    CLEANUP(err_freep) struct err *e = lifecycle_power_state(node, instance_uuid(inst), &power);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    if (power == POWER_RUNNING) {
        return NULL;
    }
    recorded = instance_isnull_power_state(inst) ? POWER_NOSTATE : instance_power_state(inst);
    return err_new(ERR_INSTANCE_INVALID_STATE, "attr", "power state", "instance_uuid",
                   instance_uuid(inst), "state", lifecycle_power_name(recorded), "method",
                   "get_diagnostics", NULL);
}

static struct err *guest_read(struct node *node, const struct instance *inst, struct guest *ret)
{
    CLEANUP(freep) char *xml = NULL;
    bool has_times;

    TRY(check_running(node, inst));
    log_info(LOG_COMPUTE, "reading diagnostics");
    TRY(lv_domain_by_uuid(node->lv, instance_uuid(inst), &ret->domain));
    TRY(lv_domain_xml(ret->domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &ret->info));
    TRY(lv_memory_stats(ret->domain, &ret->max_kib, &ret->used_kib));
    return is_said(lv_vcpu_times(ret->domain, &ret->vcpu_ns, &ret->n_vcpus), &has_times);
}

/* ---- The dictionary ---- */

/* NAME_WHAT: value */
static void add_number(struct json_object *doc, const char *name, const char *what, int64_t value)
{
    CLEANUP(freep) char *key = str_printf("%s%s", name, what);

    jv_add_int(doc, key, value);
}

static struct err *add_disk_numbers(const struct guest *g, const char *name,
                                    struct json_object *doc)
{
    struct lv_block_stats s;
    bool is;

    TRY(is_said(lv_block_stats(g->domain, name, &s), &is));
    if (is) {
        add_number(doc, name, "_read_req", s.read_requests);
        add_number(doc, name, "_read", s.read_bytes);
        add_number(doc, name, "_write_req", s.write_requests);
        add_number(doc, name, "_write", s.write_bytes);
        add_number(doc, name, "_errors", s.errors);
    }
    return NULL;
}

static struct err *add_nic_numbers(const struct guest *g, const char *name, struct json_object *doc)
{
    struct lv_interface_stats s;
    bool is;

    TRY(is_said(lv_interface_stats(g->domain, name, &s), &is));
    if (is) {
        add_number(doc, name, "_rx", s.rx_bytes);
        add_number(doc, name, "_rx_packets", s.rx_packets);
        add_number(doc, name, "_rx_errors", s.rx_errors);
        add_number(doc, name, "_rx_drop", s.rx_drop);
        add_number(doc, name, "_tx", s.tx_bytes);
        add_number(doc, name, "_tx_packets", s.tx_packets);
        add_number(doc, name, "_tx_errors", s.tx_errors);
        add_number(doc, name, "_tx_drop", s.tx_drop);
    }
    return NULL;
}

static struct err *add_memory_numbers(const struct guest *g, struct json_object *doc)
{
    CLEANUP(freep) struct lv_memory_detail *details = NULL;
    size_t n = 0;
    bool is;

    TRY(is_said(lv_memory_details(g->domain, &details, &n), &is));
    for (size_t i = 0; i < n; i++) {
        CLEANUP(freep) char *key = str_printf("memory-%s", details[i].name);

        jv_add_int(doc, key, (int64_t)details[i].value);
    }
    return NULL;
}

static struct err *add_numbers(const struct guest *g, struct json_object *doc)
{
    for (size_t i = 0; i < g->n_vcpus; i++) {
        CLEANUP(freep) char *cpu = str_printf("cpu%zu", i);

        add_number(doc, cpu, "_time", (int64_t)g->vcpu_ns[i]);
    }
    for (size_t i = 0; i < g->info.n_disks; i++) {
        if (g->info.disks[i].target) {
            TRY(add_disk_numbers(g, g->info.disks[i].target, doc));
        }
    }
    for (size_t i = 0; i < g->info.n_interfaces; i++) {
        if (g->info.interfaces[i].target) {
            TRY(add_nic_numbers(g, g->info.interfaces[i].target, doc));
        }
    }
    jv_add_int(doc, "memory", (int64_t)g->max_kib);
    return add_memory_numbers(g, doc);
}

struct err *compute_get_diagnostics(struct node *node, const struct rctx *ctx,
                                    struct args_get_diagnostics *a, struct json_object **ret)
{
    CLEANUP(guest_fini) struct guest g = {0};
    CLEANUP(jv_putp) struct json_object *doc = json_object_new_object();

    (void)ctx;
    TRY(guest_read(node, a->instance, &g));
    TRY(add_numbers(&g, doc));
    *ret = TAKE(doc);
    return NULL;
}

/* ---- The object ---- */

static void add_cpus(const struct guest *g, struct diagnostics *ret)
{
    for (size_t i = 0; i < g->n_vcpus; i++) {
        struct cpu_diagnostics *cpu = cpu_diagnostics_new();

        cpu_diagnostics_set_id(cpu, (int64_t)i);
        cpu_diagnostics_set_time(cpu, (int64_t)g->vcpu_ns[i]);
        cpu_diagnostics_set_null_utilisation(cpu);
        diagnostics_cpu_details_add(ret, cpu);
    }
    diagnostics_set_num_cpus(ret, (int64_t)g->n_vcpus);
}

static struct err *add_disks(const struct guest *g, struct diagnostics *ret)
{
    for (size_t i = 0; i < g->info.n_disks; i++) {
        struct lv_block_stats s;
        bool is = false;

        if (g->info.disks[i].target) {
            TRY(is_said(lv_block_stats(g->domain, g->info.disks[i].target, &s), &is));
        }
        if (is) {
            struct disk_diagnostics *disk = disk_diagnostics_new();

            disk_diagnostics_set_read_bytes(disk, s.read_bytes);
            disk_diagnostics_set_read_requests(disk, s.read_requests);
            disk_diagnostics_set_write_bytes(disk, s.write_bytes);
            disk_diagnostics_set_write_requests(disk, s.write_requests);
            disk_diagnostics_set_errors_count(disk, s.errors);
            diagnostics_disk_details_add(ret, disk);
        }
    }
    diagnostics_set_num_disks(ret, (int64_t)diagnostics_n_disk_details(ret));
    return NULL;
}

static void set_nic_numbers(const struct lv_interface_stats *s, struct nic_diagnostics *ret)
{
    nic_diagnostics_set_rx_octets(ret, s->rx_bytes);
    nic_diagnostics_set_rx_packets(ret, s->rx_packets);
    nic_diagnostics_set_rx_errors(ret, s->rx_errors);
    nic_diagnostics_set_rx_drop(ret, s->rx_drop);
    nic_diagnostics_set_tx_octets(ret, s->tx_bytes);
    nic_diagnostics_set_tx_packets(ret, s->tx_packets);
    nic_diagnostics_set_tx_errors(ret, s->tx_errors);
    nic_diagnostics_set_tx_drop(ret, s->tx_drop);
}

static struct nic_diagnostics *nic_without_numbers(const char *mac)
{
    struct nic_diagnostics *nic = nic_diagnostics_new();

    for (unsigned f = 0; f < nic_diagnostics_N_FIELDS; f++) {
        ovo_set_null(nic_diagnostics_ovo(nic), f);
    }
    nic_diagnostics_set_mac_address(nic, mac);
    return nic;
}

/* An interface without a device on the host is told, but has no numbers. */
static struct err *add_nics(const struct guest *g, struct diagnostics *ret)
{
    for (size_t i = 0; i < g->info.n_interfaces; i++) {
        const struct guest_interface *info = &g->info.interfaces[i];
        CLEANUP(nic_diagnostics_freep) struct nic_diagnostics *nic = nic_without_numbers(info->mac);
        struct lv_interface_stats s;
        bool is = false;

        if (info->target) {
            TRY(is_said(lv_interface_stats(g->domain, info->target, &s), &is));
        }
        if (is) {
            set_nic_numbers(&s, nic);
        }
        if (is || !info->target) {
            diagnostics_nic_details_add(ret, TAKE(nic));
        }
    }
    diagnostics_set_num_nics(ret, (int64_t)diagnostics_n_nic_details(ret));
    return NULL;
}

/* Nova divides KiB by 2^20: what its API calls MiB are GiB, rounded down. */
static struct memory_diagnostics *memory(const struct guest *g)
{
    struct memory_diagnostics *m = memory_diagnostics_new();

    memory_diagnostics_set_maximum(m, (int64_t)(g->max_kib >> 20));
    memory_diagnostics_set_used(m, (int64_t)(g->used_kib >> 20));
    return m;
}

static void set_uptime(const struct instance *inst, struct diagnostics *ret)
{
    int64_t launched_s;

    if (!instance_isnull_launched_at(inst) &&
        clock_iso_parse(instance_launched_at(inst), &launched_s)) {
        diagnostics_set_uptime(ret, clock_wall_s() - launched_s);
    } else {
        diagnostics_set_null_uptime(ret);
    }
}

static struct err *make_object(const struct conf *conf, const struct instance *inst,
                               const struct guest *g, struct diagnostics *ret)
{
    diagnostics_set_state(ret, lifecycle_power_name(POWER_RUNNING));
    diagnostics_set_driver(ret, "libvirt");
    diagnostics_set_config_drive(ret, configdrive_is_required(conf, inst));
    diagnostics_set_hypervisor(ret, conf->libvirt.virt_type);
    diagnostics_set_hypervisor_os(ret, "linux");
    set_uptime(inst, ret);
    diagnostics_set_memory_details(ret, memory(g));
    diagnostics_clear_cpu_details(ret);
    diagnostics_clear_disk_details(ret);
    diagnostics_clear_nic_details(ret);
    add_cpus(g, ret);
    TRY(add_disks(g, ret));
    return add_nics(g, ret);
}

struct err *compute_get_instance_diagnostics(struct node *node, const struct rctx *ctx,
                                             struct args_get_instance_diagnostics *a,
                                             struct json_object **ret)
{
    static const char *const attrs[] = {"system_metadata", "config_drive", "launched_at", NULL};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(guest_fini) struct guest g = {0};
    CLEANUP(diagnostics_freep) struct diagnostics *d = diagnostics_new();

    TRY(instance_load(node->conductor, ctx, a->instance, attrs));
    TRY(guest_read(node, a->instance, &g));
    TRY(make_object(conf, a->instance, &g, d));
    *ret = diagnostics_to_json(d);
    return NULL;
}

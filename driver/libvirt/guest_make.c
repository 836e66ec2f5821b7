#include "driver/libvirt/guest_make.h"

#include "driver/libvirt/guest_build.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What guests are told they run on: cloud-init finds its data source by the product, and a guest
 * that moves between a host of Nova and one of ours is to see no other hardware. */
#define VENDOR  "OpenStack Foundation"
#define PRODUCT "OpenStack Nova"
#define VERSION "26.2.2"

#define NOVA_NS "http://openstack.org/xmlns/libvirt/nova/1.1"

/* ---- Metadata ---- */

static const char *remembered(const struct guest_build *b, const char *key)
{
    return instance_has_system_metadata(b->inst) ? instance_system_metadata_get(b->inst, key)
                                                 : NULL;
}

static void add_owner_part(struct xb_node *owner, const char *what, const char *name,
                           const char *id)
{
    if (id) {
        xb_set_attr(xb_add_text(owner, what, name ? name : "N/A"), "uuid", id);
    }
}

static void add_owner(const struct guest_build *b, struct xb_node *meta)
{
    struct xb_node *owner = xb_add(meta, "owner");
    const char *user = b->s->user_name, *project = b->s->project_name;

    add_owner_part(owner, "user", user ? user : remembered(b, "owner_user_name"),
                   instance_has_user_id(b->inst) ? instance_user_id(b->inst) : NULL);
    add_owner_part(owner, "project", project ? project : remembered(b, "owner_project_name"),
                   instance_has_project_id(b->inst) ? instance_project_id(b->inst) : NULL);
}

static void add_flavor(const struct guest_build *b, struct xb_node *meta)
{
    struct xb_node *f = xb_add_with(meta, "flavor", "name", flavor_name(b->flavor), NULL);

    xb_add_int(f, "memory", flavor_memory_mb(b->flavor));
    xb_add_int(f, "disk", flavor_root_gb(b->flavor));
    xb_add_int(f, "swap", flavor_swap(b->flavor));
    xb_add_int(f, "ephemeral", flavor_ephemeral_gb(b->flavor));
    xb_add_int(f, "vcpus", flavor_vcpus(b->flavor));
}

static size_t length(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static void add_ips(struct xb_node *port, struct json_object *subnet)
{
    struct json_object *ips = jv_get(subnet, "ips");

    for (size_t i = 0; i < length(ips); i++) {
        struct json_object *ip = json_object_array_get_idx(ips, i);

        xb_add_with(port, "ip", "type", json_object_get_string(jv_get(ip, "type")), "address",
                    json_object_get_string(jv_get(ip, "address")), "ipVersion",
                    json_object_get_string(jv_get(ip, "version")), NULL);
    }
}

static void add_ports(const struct guest_build *b, struct xb_node *meta)
{
    struct xb_node *ports = xb_add(meta, "ports");

    for (size_t i = 0; i < b->s->vifs->n; i++) {
        const struct vif *v = &b->s->vifs->items[i];
        struct xb_node *port = xb_add_with(ports, "port", "uuid", v->id, NULL);
        struct json_object *subnets = jv_get(jv_get(v->json, "network"), "subnets");

        for (size_t k = 0; k < length(subnets); k++) {
            add_ips(port, json_object_array_get_idx(subnets, k));
        }
    }
}

/* nova/virt/libvirt/driver.py _get_guest_config_meta: what telemetry reads. */
static void add_metadata(struct guest_build *b)
{
    struct xb_node *meta = xb_add_ns(xb_add(b->root, "metadata"), "instance", "nova", NOVA_NS);
    time_t now = (time_t)b->s->now_s;
    struct tm tm;
    char text[32];

    xb_add_with(meta, "package", "version", VERSION, NULL);
    if (instance_has_display_name(b->inst) && instance_display_name(b->inst)) {
        xb_add_text(meta, "name", instance_display_name(b->inst));
    }
    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    xb_add_text(meta, "creationTime", text);
    add_flavor(b, meta);
    add_owner(b, meta);
    if (instance_has_image_ref(b->inst) && !str_is_empty(instance_image_ref(b->inst))) {
        xb_add_with(meta, "root", "type", "image", "uuid", instance_image_ref(b->inst), NULL);
    }
    add_ports(b, meta);
}

/* ---- What the guest's firmware tables say ---- */

static const char *host_serial(const struct guest_build *b)
{
    const char *which = b->conf->libvirt.sysinfo_serial;
    const struct guest_host *h = b->s->host;

    if (str_eq(which, "unique")) {
        return instance_uuid(b->inst);
    }
    if (str_eq(which, "os") || (str_eq(which, "auto") && h->machine_id)) {
        return h->machine_id;
    }
    return str_eq(which, "none") ? NULL : h->uuid;
}

static struct err *add_sysinfo(struct guest_build *b)
{
    const struct {
        const char *name, *value;
    } entries[] = {
        {"manufacturer", VENDOR},
        {"product", PRODUCT},
        {"version", VERSION},
        {"serial", host_serial(b)},
        {"uuid", instance_uuid(b->inst)},
        {"family", "Virtual Machine"},
    };
    struct xb_node *sysinfo = xb_add_with(b->root, "sysinfo", "type", "smbios", NULL);
    struct xb_node *system = xb_add(sysinfo, "system");

    if (str_eq(b->conf->libvirt.sysinfo_serial, "os") && !b->s->host->machine_id) {
        return err_msg(ERR_INTERNAL, "[libvirt]sysinfo_serial is os, but the host has no UUID in "
                                     "/etc/machine-id");
    }
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        if (entries[i].value) {
            xb_set_attr(xb_add_text(system, "entry", entries[i].value), "name", entries[i].name);
        }
    }
    return NULL;
}

/* ---- Performance events ---- */

/* Those of libvirt, without the three that kernels no longer have. */
static const char *const perf_events[] = {
    "cache_misses",
    "cache_references",
    "instructions",
    "cpu_cycles",
    "branch_instructions",
    "branch_misses",
    "bus_cycles",
    "stalled_cycles_frontend",
    "stalled_cycles_backend",
    "ref_cpu_cycles",
    "cpu_clock",
    "task_clock",
    "page_faults",
    "context_switches",
    "cpu_migrations",
    "page_faults_min",
    "page_faults_maj",
    "alignment_faults",
    "emulation_faults",
};

static void add_perf(struct guest_build *b)
{
    struct xb_node *perf = NULL;

    for (size_t i = 0; i < b->conf->libvirt.enabled_perf_events.n; i++) {
        const char *event = b->conf->libvirt.enabled_perf_events.items[i];

        for (size_t k = 0; k < ARRAY_SIZE(perf_events); k++) {
            if (str_eq(perf_events[k], event)) {
                perf = perf ? perf : xb_add(b->root, "perf");
                xb_add_with(perf, "event", "name", event, "enabled", "yes", NULL);
            }
        }
    }
}

/* ---- All of it ---- */

static void build_fini(struct guest_build *b)
{
    free(b->machine);
}

static struct err *build_init(const struct guest_spec *s, struct guest_build *ret)
{
    bool is_old_rescue = s->rescue && !disk_layout_is_stable_rescue(s->rescue);

    *ret = (struct guest_build){.s = s,
                                .conf = s->conf,
                                .inst = s->inst,
                                .flavor = instance_flavor(s->inst),
                                .image = is_old_rescue ? s->rescue : s->image,
                                .is_kvm = str_eq(s->conf->libvirt.virt_type, "kvm")};
    TRY(guest_arch(s->conf, ret->image, &ret->arch));
    ret->machine = guest_machine_type(s->conf, ret->image);
    ret->is_q35 = strstr(ret->machine, "q35") != NULL;
    return NULL;
}

static struct err *check(const struct guest_build *b)
{
    const char *mode = instance_has_vm_mode(b->inst) ? instance_vm_mode(b->inst) : NULL;

    if (mode && !str_ieq(mode, "hvm") && !str_ieq(mode, "hv")) {
        CLEANUP(freep) char *model = str_printf("vm_mode=%s", mode);

        return err_new(ERR_UNSUPPORTED_HARDWARE, "model", model, "virt", b->conf->libvirt.virt_type,
                       NULL);
    }
    if (!guest_host_has_machine(b->s->host, b->machine)) {
        return err_msg(ERR_INVALID_MACHINE_TYPE,
                       "'%s' is no machine type that QEMU has here (hw_machine_type)", b->machine);
    }
    return guest_refuse(b);
}

static struct err *add_basics(struct guest_build *b)
{
    CLEANUP(freep) char *name = guest_name(b->conf, b->inst);
    CLEANUP(freep) char *cpus = guest_float_cpus(b);

    xb_add_text(b->root, "uuid", instance_uuid(b->inst));
    xb_add_text(b->root, "name", name);
    xb_add_int(b->root, "memory", flavor_memory_mb(b->flavor) << 10);
    TRY(guest_add_memory_backing(b));
    TRY(guest_add_numa_tune(b));
    xb_set_attr(xb_add_int(b->root, "vcpu", flavor_vcpus(b->flavor)), "cpuset", cpus);
    add_metadata(b);
    return NULL;
}

static struct err *add_devices(struct guest_build *b)
{
    b->devices = xb_add(b->root, "devices");
    guest_add_disks(b);
    for (size_t i = 0; i < b->s->vifs->n; i++) {
        TRY(guest_add_interface(b, &b->s->vifs->items[i]));
    }
    TRY(guest_add_consoles(b));
    return guest_add_other_devices(b);
}

/* Only the host's own architecture has the processor's help. */
static const char *domain_type(const struct guest_build *b)
{
    return str_eq(b->arch, "x86_64") ? b->conf->libvirt.virt_type : "qemu";
}

static struct err *build(struct guest_build *b)
{
    bool needs_smm = false;

    TRY(check(b));
    xb_set_attr(b->root, "type", domain_type(b));
    TRY(add_basics(b));
    TRY(add_sysinfo(b));
    TRY(guest_add_os(b, &needs_smm));
    TRY(guest_add_features(b, needs_smm));
    TRY(guest_add_cpu_tune(b));
    guest_add_clock(b);
    TRY(guest_add_cpu(b));
    TRY(add_devices(b));
    add_perf(b);
    return NULL;
}

struct err *guest_xml_make(const struct guest_spec *s, char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(build_fini) struct guest_build b = {0};

    TRY(build_init(s, &b));
    TRY(xb_parse("<domain/>", &doc));
    b.root = xb_root(doc);
    TRY_CTX(build(&b), "describing server %s to libvirt", instance_uuid(s->inst));
    *ret = xb_text(doc);
    return NULL;
}

struct err *guest_interface_xml(const struct guest_spec *s, const struct vif *vif, char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(build_fini) struct guest_build b = {0};

    TRY(build_init(s, &b));
    TRY(xb_parse("<devices/>", &doc));
    b.devices = xb_root(doc);
    TRY(guest_add_interface(&b, vif));
    *ret = xb_node_text(xb_first(b.devices, NULL));
    return NULL;
}

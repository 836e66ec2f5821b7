#include "driver/compute/spawn.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sync.h"
#include "driver/compute/devmeta.h"
#include "driver/compute/events.h"
#include "driver/compute/metadata.h"
#include "driver/compute/network.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/configdrive.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/guest.h"
#include "driver/libvirt/guest_make.h"
#include "driver/libvirt/guest_type.h"
#include "driver/libvirt/serial.h"
#include "driver/libvirt/server_disks.h"

#include <stdlib.h>
#include <string.h>

/* ---- What libvirt here can do ---- */

struct host_ref {
    unsigned n_refs;
    struct guest_host *host;
};

struct spawner {
    struct mutex m;
    struct host_ref *now; /* NULL: to be read. */
    struct serial_ports *serial;
};

struct spawner *spawner_new(void)
{
    struct spawner *s = NEW(struct spawner);

    mutex_init(&s->m);
    s->serial = serial_ports_new();
    return s;
}

static void unref_locked(struct host_ref *ref)
{
    if (ref && --ref->n_refs == 0) {
        guest_host_free(ref->host);
        free(ref);
    }
}

void spawner_forget_host(struct spawner *s)
{
    mutex_lock(&s->m);
    unref_locked(s->now);
    s->now = NULL;
    mutex_unlock(&s->m);
}

struct spawner *spawner_free(struct spawner *s)
{
    if (s) {
        spawner_forget_host(s);
        serial_ports_free(s->serial);
        mutex_fini(&s->m);
        free(s);
    }
    return NULL;
}

static void host_put(struct spawner *s, struct host_ref *ref)
{
    mutex_lock(&s->m);
    unref_locked(ref);
    mutex_unlock(&s->m);
}

/* Two that come at once both read it; one of the two is kept. */
static struct err *host_get(struct node *node, const struct conf *conf, struct host_ref **ret)
{
    struct spawner *s = node->spawner;
    struct host_ref *ref;

    mutex_lock(&s->m);
    ref = s->now;
    if (ref) {
        ref->n_refs++;
    }
    mutex_unlock(&s->m);
    if (!ref) {
        struct guest_host *host;

        TRY_CTX(guest_host_read(node->lv, conf, &host), "asking libvirt what it can do");
        ref = NEW(struct host_ref);
        *ref = (struct host_ref){.n_refs = 2, .host = host};
        mutex_lock(&s->m);
        unref_locked(s->now);
        s->now = ref;
        mutex_unlock(&s->m);
    }
    *ret = ref;
    return NULL;
}

/* ---- What a guest is made from ---- */

/* A spawn with nothing left out, and what owns what was read for it. */
struct plan {
    struct spawn spawn;
    const struct conf *conf;
    char *dir;
    struct image_meta image;
    struct block_device_mapping_list *bdms;
    struct vif_list vifs;
    struct disk_layout layout;
    const char *kernel_id, *ramdisk_id; /* Of what is booted; NULL: none. */
};

static void plan_fini(struct plan *p)
{
    conf_putp(&p->conf);
    free(p->dir);
    image_meta_fini(&p->image);
    block_device_mapping_list_free(p->bdms);
    vif_list_fini(&p->vifs);
    disk_layout_fini(&p->layout);
}

static struct err *complete(struct plan *p)
{
    static const char *const attrs[] = {
        "flavor",   "system_metadata", "metadata",        "info_cache",      "numa_topology",
        "keypairs", "ec2_ids",         "device_metadata", "security_groups", NULL};
    struct spawn *s = &p->spawn;
    struct conductor *c = s->node->conductor;

    TRY(instance_load(c, s->ctx, s->inst, attrs));
    if (!s->image) {
        TRY_CTX(image_meta_of_instance(s->inst, &p->image), "reading what the image was like");
        s->image = &p->image;
    }
    if (!s->bdms) {
        TRY(bdms_by_instance(c, s->ctx, instance_uuid(s->inst), &p->bdms));
        s->bdms = p->bdms;
    }
    if (!s->vifs) {
        TRY(network_cached_vifs(s->inst, &p->vifs));
        s->vifs = &p->vifs;
    }
    return NULL;
}

/* A rescue boots the kernel that the site names for it, else the server's own. */
static void find_kernel(struct plan *p)
{
    const struct instance *inst = p->spawn.inst;
    const char *rescue_kernel = p->conf->libvirt.rescue_kernel_id;
    const char *rescue_ramdisk = p->conf->libvirt.rescue_ramdisk_id;

    p->kernel_id = instance_has_kernel_id(inst) ? instance_kernel_id(inst) : NULL;
    p->ramdisk_id = instance_has_ramdisk_id(inst) ? instance_ramdisk_id(inst) : NULL;
    if (p->spawn.rescue && !str_is_empty(rescue_kernel)) {
        p->kernel_id = rescue_kernel;
    }
    if (p->spawn.rescue && !str_is_empty(rescue_ramdisk)) {
        p->ramdisk_id = rescue_ramdisk;
    }
    p->kernel_id = str_is_empty(p->kernel_id) ? NULL : p->kernel_id;
    p->ramdisk_id = str_is_empty(p->ramdisk_id) ? NULL : p->ramdisk_id;
}

static struct err *plan_make(const struct spawn *s, struct plan *p)
{
    p->spawn = *s;
    p->conf = conf_get(s->node->conf);
    p->dir = disk_instance_dir(p->conf, instance_uuid(s->inst));
    TRY(complete(p));
    find_kernel(p);
    const struct disk_layout_input in = {
        .conf = p->conf,
        .inst = s->inst,
        .image = p->spawn.image,
        .rescue = s->rescue,
        .bdms = p->spawn.bdms,
        .has_config_drive = configdrive_is_required(p->conf, s->inst),
    };

    return disk_layout_make(&in, &p->layout);
}

/* ---- Disks ---- */

static struct err *make_disks(const struct plan *p)
{
    const struct spawn *s = &p->spawn;
    const struct server_disks d = {
        .env = {p->conf, s->node->glance, s->stop ? s->stop : s->node->stopping},
        .ctx = s->ctx,
        .inst = s->inst,
        .image = s->rescue ? s->rescue : s->image,
        .layout = &p->layout,
        .kernel_id = p->kernel_id,
        .ramdisk_id = p->ramdisk_id,
    };

    return err_context(server_disks_make(&d), "making the disks");
}

/* ---- What the records say of the disks ---- */

static struct err *note_mapping(const struct plan *p, const struct disk_item *item)
{
    const struct spawn *s = &p->spawn;
    struct block_device_mapping *bdm = block_device_mapping_list_at(s->bdms, (size_t)item->bdm);
    CLEANUP(freep) char *device = str_printf("/dev/%s", item->target);

    if (!block_device_mapping_has_device_name(bdm) || !block_device_mapping_device_name(bdm)) {
        block_device_mapping_set_device_name(bdm, device);
    }
    if (!block_device_mapping_has_disk_bus(bdm) || !block_device_mapping_disk_bus(bdm)) {
        block_device_mapping_set_disk_bus(bdm, item->bus);
    }
    if (!block_device_mapping_has_device_type(bdm) || !block_device_mapping_device_type(bdm)) {
        block_device_mapping_set_device_type(bdm, item->device);
    }
    return ovo_has_changes(block_device_mapping_ovo(bdm))
               ? bdm_save(s->node->conductor, s->ctx, bdm)
               : NULL;
}

/* Names and machine that the guest has now stay its own when a default changes (manager.py
 * _default_block_device_names, driver.py _register_all_undefined_instance_details). */
static struct err *note_disks(const struct plan *p)
{
    struct instance *inst = p->spawn.inst;
    CLEANUP(freep) char *root = str_printf("/dev/%s", p->layout.root_target);

    if (!instance_has_root_device_name(inst) || !instance_root_device_name(inst)) {
        instance_set_root_device_name(inst, root);
    }
    for (size_t i = 0; i < p->layout.n; i++) {
        const struct disk_item *item = &p->layout.items[i];
        CLEANUP(freep) char *device = str_printf("/dev/%s", item->target);

        if (item->role == DISK_EPHEMERAL && str_eq(item->file, "disk.local")) {
            instance_set_default_ephemeral_device(inst, device);
        } else if (item->role == DISK_SWAP) {
            instance_set_default_swap_device(inst, device);
        }
        if (item->bdm >= 0) {
            TRY_CTX(note_mapping(p, item), "naming disk %s", item->target);
        }
    }
    if (!image_meta_prop(p->spawn.image, "hw_machine_type")) {
        CLEANUP(freep) char *machine = guest_machine_type(p->conf, p->spawn.image);

        instance_system_metadata_put(inst, "image_hw_machine_type", machine);
    }
    return NULL;
}

struct err *spawn_make_disks(const struct spawn *s)
{
    CLEANUP(plan_fini) struct plan p = {0};

    TRY(plan_make(s, &p));
    if (!s->rescue) {
        TRY(note_disks(&p));
    }
    return make_disks(&p);
}

void spawn_note_config_drive(struct node *node, struct instance *inst)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    if (str_is_empty(instance_config_drive(inst)) && configdrive_is_required(conf, inst)) {
        instance_set_config_drive(inst, "True");
    }
}

void spawn_remove_disks(const struct spawn *s)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(s->node->conf);

    err_ignore(server_disks_remove(conf, instance_uuid(s->inst)), "removing the disks");
}

/* ---- XML ---- */

/* How long ports are ours until QEMU has opened them. */
#define SERIAL_HOLD_MS   120000
#define INCOMING_HOLD_MS 600000

struct xml_job {
    struct guest_spec spec;
    char *xml;
    struct virt_cpu_model *cpu;
};

static struct err *make_xml_with(const struct host_facts *facts, void *arg)
{
    struct xml_job *job = arg;

    job->spec.facts = facts;
    TRY(guest_xml_make(&job->spec, &job->xml));
    return guest_vcpu_model(&job->spec, &job->cpu);
}

static struct err *take_serial_ports(struct node *node, const struct conf *conf,
                                     const struct instance *inst, const struct image_meta *image,
                                     int64_t hold_ms, int64_t **ret, size_t *ret_n)
{
    size_t n = 0;

    TRY(guest_n_serial_ports(conf, inst, image, &n));
    int64_t *ports = NEW_ARRAY(int64_t, n + 1);
    struct err *e =
        n > 0 ? serial_ports_take(node->spawner->serial, conf, n, hold_ms, ports) : NULL;

    if (e) {
        free(ports);
        return err_context(e, "choosing ports for serial consoles");
    }
    *ret = ports;
    *ret_n = n;
    return NULL;
}

struct err *spawn_serial_ports(struct node *node, const struct rctx *ctx, struct instance *inst,
                               struct json_object **ret)
{
    static const char *const attrs[] = {"flavor", "system_metadata", NULL};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(image_meta_fini) struct image_meta image = {0};
    CLEANUP(freep) int64_t *ports = NULL;
    size_t n = 0;

    if (conf->serial_console.enabled) {
        TRY(instance_load(node->conductor, ctx, inst, attrs));
        TRY(image_meta_of_instance(inst, &image));
        TRY(take_serial_ports(node, conf, inst, &image, INCOMING_HOLD_MS, &ports, &n));
    }
    *ret = json_object_new_array();
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(*ret, json_object_new_int64(ports[i]));
    }
    return NULL;
}

/* The host's part is filled in by who has it. */
static struct guest_spec spec_of(const struct plan *p, const struct host_ref *host)
{
    const struct spawn *s = &p->spawn;

    return (struct guest_spec){
        .conf = p->conf,
        .host = host->host,
        .inst = s->inst,
        .image = s->image,
        .rescue = s->rescue,
        .disks = &p->layout,
        .vifs = s->vifs,
        .dir = p->dir,
        .rescue_kernel = s->rescue ? p->kernel_id : NULL,
        .rescue_ramdisk = s->rescue ? p->ramdisk_id : NULL,
        .user_name = rctx_user_name(s->ctx),
        .project_name = rctx_project_name(s->ctx),
        .now_s = clock_wall_us() / 1000000,
    };
}

/* Also notes in the server which CPU its guest has, for the checks of its live migrations. */
static struct err *make_xml(const struct plan *p, char **ret)
{
    const struct spawn *s = &p->spawn;
    CLEANUP(freep) int64_t *ports = NULL;
    struct host_ref *host = NULL;
    size_t n_ports = 0;

    TRY(take_serial_ports(s->node, p->conf, s->inst, s->image, SERIAL_HOLD_MS, &ports, &n_ports));
    TRY(host_get(s->node, p->conf, &host));
    struct xml_job job = {.spec = spec_of(p, host)};

    job.spec.serial_ports = ports;
    job.spec.n_serial_ports = n_ports;
    struct err *e = tracker_use_facts(s->node->tracker, make_xml_with, &job);

    host_put(s->node->spawner, host);
    if (e) {
        free(job.xml);
        return err_context(e, "writing the guest's XML");
    }
    instance_set_vcpu_model(s->inst, job.cpu);
    *ret = job.xml;
    return NULL;
}

struct err *spawn_make_xml(const struct spawn *s, char **ret)
{
    CLEANUP(plan_fini) struct plan p = {0};

    TRY(plan_make(s, &p));
    return make_xml(&p, ret);
}

struct interface_job {
    struct guest_spec spec;
    const struct vif *vif;
    char *xml;
};

static struct err *make_interface_with(const struct host_facts *facts, void *arg)
{
    struct interface_job *job = arg;

    job->spec.facts = facts;
    return guest_interface_xml(&job->spec, job->vif, &job->xml);
}

struct err *spawn_make_interface(struct node *node, const struct rctx *ctx, struct instance *inst,
                                 const struct vif *vif, char **ret)
{
    CLEANUP(plan_fini) struct plan p = {0};
    const struct spawn s = {.node = node, .ctx = ctx, .inst = inst};
    struct host_ref *host = NULL;

    TRY(plan_make(&s, &p));
    TRY(host_get(node, p.conf, &host));
    struct interface_job job = {.spec = spec_of(&p, host), .vif = vif};
    struct err *e = tracker_use_facts(node->tracker, make_interface_with, &job);

    host_put(node->spawner, host);
    *ret = job.xml;
    return e;
}

/* ---- Starting ---- */

static struct guest_env env_of(const struct spawn *s)
{
    return (struct guest_env){
        .lv = s->node->lv, .watch = s->node->watch, .stop = s->stop ? s->stop : s->node->stopping};
}

static struct err *plug_all(const struct spawn *s)
{
    for (size_t i = 0; i < s->vifs->n; i++) {
        TRY_CTX(vif_plug(&s->node->vif, &s->vifs->items[i], instance_uuid(s->inst)),
                "plugging port %s", s->vifs->items[i].id);
    }
    return NULL;
}

static void unplug_all(struct node *node, const char *uuid, const struct vif_list *vifs)
{
    for (size_t i = 0; i < vifs->n; i++) {
        err_ignore(vif_unplug(&node->vif, &vifs->items[i], uuid), "unplugging a port");
    }
}

/* Ports of which neutron will say that they are plugged (driver.py _get_neutron_events). */
static void awaited_ports(const struct plan *p, struct strv *ret)
{
    const struct spawn *s = &p->spawn;

    if (!s->waits_for_plug || p->conf->dflt.vif_plugging_timeout == 0) {
        return;
    }
    for (size_t i = 0; i < s->vifs->n; i++) {
        const struct vif *vif = &s->vifs->items[i];

        if (!vif->is_active && !str_eq(vif->vnic_type, "remote-managed")) {
            strv_add(ret, vif->id);
        }
    }
}

static struct err *wait_for_plug(const struct plan *p, struct event_wait *wait)
{
    int64_t timeout_s = p->conf->dflt.vif_plugging_timeout;
    struct err *e = events_wait(wait, clock_ms() + timeout_s * 1000,
                                p->spawn.stop ? p->spawn.stop : p->spawn.node->stopping);

    if (!e || err_is(e, ERR_CANCELLED)) {
        return e;
    }
    if (!p->conf->dflt.vif_plugging_is_fatal) {
        err_ignore(e, "waiting for neutron to plug the ports, going on without");
        return NULL;
    }
    CLEANUP(freep) char *text = err_text(e);

    log_error(LOG_COMPUTE, "neutron did not plug the ports in %lld s: %s", (long long)timeout_s,
              text);
    err_free(e);
    return err_new(ERR_VIF_CREATE, NULL);
}

/* The waiter is there before anything is plugged, or the event is lost. */
static struct err *plug_and_start(const struct plan *p, const char *xml)
{
    const struct spawn *s = &p->spawn;
    struct guest_env env = env_of(s);
    CLEANUP(strv_fini) struct strv awaited = {0};
    CLEANUP(event_wait_freep) struct event_wait *wait = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    awaited_ports(p, &awaited);
    if (awaited.n > 0) {
        wait =
            events_expect(s->node->events, instance_uuid(s->inst), "network-vif-plugged", &awaited);
    }
    TRY(plug_all(s));
    TRY_CTX(guest_start(&env, xml, /* is_paused= */ wait != NULL, &domain), "starting the guest");
    if (wait) {
        TRY(wait_for_plug(p, wait));
        TRY_CTX(lv_domain_resume(domain), "starting the guest");
    }
    return NULL;
}

static struct err *destroy_guest(struct node *node, struct instance *inst,
                                 const struct vif_list *vifs)
{
    /* Not ended by the service's own end: what is being taken away goes. */
    const struct guest_env env = {.lv = node->lv, .watch = node->watch};

    TRY(guest_power_off(&env, instance_uuid(inst)));
    TRY(guest_undefine(&env, instance_uuid(inst)));
    unplug_all(node, instance_uuid(inst), vifs);
    return NULL;
}

/* ---- What the guest is told of itself ---- */

static struct json_object *network_model(const struct vif_list *vifs)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < vifs->n; i++) {
        json_object_array_add(list, json_object_get(vifs->items[i].json));
    }
    return list;
}

static struct err *make_config_drive(const struct plan *p, const char *path)
{
    const struct spawn *s = &p->spawn;
    CLEANUP(jv_putp) struct json_object *network = network_model(s->vifs);
    const struct metadata_input in = {
        .bdms = s->bdms,
        .network_info = network,
        .injected_files = s->injected_files,
        .admin_pass = s->admin_pass,
    };

    return metadata_make_drive(s->node, s->ctx, s->inst, &in, path);
}

/* Device tags come with the addresses that libvirt gives when it knows the domain; the config drive
 * tells of them, and must be there before the guest runs. */
static struct err *tell_guest(const struct plan *p, const char *xml)
{
    const struct spawn *s = &p->spawn;
    const struct disk_item *item = disk_layout_find(&p->layout, DISK_CONFIG);
    CLEANUP(freep) char *path = item ? str_printf("%s/%s", p->dir, item->file) : NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;

    if (s->has_tags) {
        TRY_CTX(lv_define(s->node->lv, xml, &domain), "defining the guest");
        TRY_CTX(devmeta_update(s->node, s->ctx, s->inst), "collecting the tags of its devices");
    }
    return path && !fs_exists(&fs_real, path) ? make_config_drive(p, path) : NULL;
}

static struct err *start_guest(const struct plan *p)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(make_xml(p, &xml));
    struct err *e = tell_guest(p, xml);

    if (!e) {
        e = plug_and_start(p, xml);
    }

    if (e) {
        err_ignore(destroy_guest(p->spawn.node, p->spawn.inst, p->spawn.vifs),
                   "taking back a guest that did not start");
    }
    return e;
}

struct err *spawn_start_guest(const struct spawn *s)
{
    CLEANUP(plan_fini) struct plan p = {0};

    TRY(plan_make(s, &p));
    return start_guest(&p);
}

struct err *spawn_destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct vif_list *vifs)
{
    (void)ctx;
    return destroy_guest(node, inst, vifs);
}

/* A disk that is gone is not made again in silence: it would be empty. */
static struct err *check_disks(const struct plan *p)
{
    for (size_t i = 0; i < p->layout.n; i++) {
        const struct disk_item *item = &p->layout.items[i];
        CLEANUP(freep) char *path = str_printf("%s/%s", p->dir, item->file);

        if (item->role != DISK_CONFIG && !fs_exists(&fs_real, path)) {
            return err_new(ERR_DISK_NOT_FOUND, "location", path, NULL);
        }
    }
    return NULL;
}

/* Everything but the disks is made anew, so that a hard reboot mends what it can. */
struct err *spawn_hard_reboot(const struct spawn *s)
{
    CLEANUP(plan_fini) struct plan p = {0};

    TRY(plan_make(s, &p));
    TRY(check_disks(&p));
    TRY(destroy_guest(s->node, s->inst, p.spawn.vifs));
    return start_guest(&p);
}

#include "driver/libvirt/guest_xml.h"

#include "driver/libvirt/xb.h"

#include <ctype.h>
#include <stdlib.h>

/* ---- Reading ---- */

static void lower(char *s)
{
    for (; s && *s; s++) {
        *s = (char)tolower((unsigned char)*s);
    }
}

static uint64_t kib(struct xb_node *memory)
{
    CLEANUP(freep) char *text = xb_content(memory);
    CLEANUP(freep) char *unit = xb_attr(memory, "unit");
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"b", 1},          {"bytes", 1},    {"KiB", 1u << 10}, {"k", 1u << 10},
                 {"MiB", 1u << 20}, {"M", 1u << 20}, {"GiB", 1u << 30}, {"G", 1u << 30}};
    uint64_t n = 0, bytes = 1u << 10;

    for (size_t i = 0; unit && i < ARRAY_SIZE(units); i++) {
        if (str_eq(unit, units[i].unit)) {
            bytes = units[i].bytes;
        }
    }
    return text && str_to_u64(text, &n) ? n * bytes / 1024 : 0;
}

static const char *without_0x(const char *number)
{
    return number && str_starts(number, "0x") ? number + 2 : number;
}

/* "0000:00:04.0", as Nova writes it (nova/pci/utils.py get_pci_address); NULL on another bus. */
static char *pci_address(struct xb_node *device)
{
    struct xb_node *n = xb_first(device, "address");
    CLEANUP(freep) char *domain = xb_attr(n, "domain");
    CLEANUP(freep) char *bus = xb_attr(n, "bus");
    CLEANUP(freep) char *slot = xb_attr(n, "slot");
    CLEANUP(freep) char *function = xb_attr(n, "function");

    if (!xb_attr_is(n, "type", "pci") || !domain || !bus || !slot || !function) {
        return NULL;
    }
    return str_printf("%s:%s:%s.%s", without_0x(domain), without_0x(bus), without_0x(slot),
                      without_0x(function));
}

static void read_disk(struct xb_node *n, struct guest_disk *ret)
{
    struct xb_node *source = xb_first(n, "source");
    struct xb_node *backing = xb_find(n, "backingStore/source");

    ret->type = xb_attr(n, "type");
    ret->device = xb_attr(n, "device");
    ret->source = xb_attr(source, "file");
    if (!ret->source) {
        ret->source = xb_attr(source, "dev");
    }
    ret->target = xb_attr_at(n, "target", "dev");
    ret->format = xb_attr_at(n, "driver", "type");
    ret->serial = xb_content_at(n, "serial");
    ret->backing = xb_attr(backing, "file");
    ret->bus = xb_attr_at(n, "target", "bus");
    ret->address = pci_address(n);
    ret->is_readonly = xb_first(n, "readonly") != NULL;
    ret->is_shareable = xb_first(n, "shareable") != NULL;
}

static void read_interface(struct xb_node *n, struct guest_interface *ret)
{
    static const char *const sources[] = {"path", "bridge", "dev", "network"};
    struct xb_node *source = xb_first(n, "source");

    ret->type = xb_attr(n, "type");
    ret->mac = xb_attr_at(n, "mac", "address");
    lower(ret->mac);
    ret->target = xb_attr_at(n, "target", "dev");
    ret->mode = xb_attr(source, "mode");
    ret->alias = xb_attr_at(n, "alias", "name");
    ret->address = pci_address(n);
    for (size_t i = 0; !ret->source && i < ARRAY_SIZE(sources); i++) {
        ret->source = xb_attr(source, sources[i]);
    }
}

static void read_graphics(struct xb_node *n, struct guest_graphics *ret)
{
    ret->type = xb_attr(n, "type");
    ret->port = xb_attr(n, "port");
    ret->tls_port = xb_attr(n, "tlsPort");
}

static void read_chardev(struct xb_node *n, struct guest_chardev *ret)
{
    ret->type = xb_attr(n, "type");
    ret->path = xb_attr_at(n, "source", "path");
    ret->log = xb_attr_at(n, "log", "file");
    for (struct xb_node *s = xb_first(n, "source"); s; s = xb_next(s, "source")) {
        if (!ret->service && xb_attr_is(s, "mode", "bind")) {
            ret->host = xb_attr(s, "host");
            ret->service = xb_attr(s, "service");
        }
    }
}

/* Every NUMA cell of the guest says memAccess='shared'. */
static bool cells_are_shared(struct xb_node *root)
{
    struct xb_node *cell = xb_find(root, "cpu/numa/cell");

    if (!cell) {
        return false;
    }
    for (; cell; cell = xb_next(cell, "cell")) {
        if (!xb_attr_is(cell, "memAccess", "shared")) {
            return false;
        }
    }
    return true;
}

static void read_memory(struct xb_node *root, struct guest_info *ret)
{
    struct xb_node *backing = xb_first(root, "memoryBacking");

    ret->memory_kib = kib(xb_first(root, "memory"));
    ret->has_hugepages = xb_first(backing, "hugepages") != NULL;
    ret->has_file_backed_memory = xb_attr_is(xb_first(backing, "source"), "type", "file");
    ret->has_shared_memory =
        xb_attr_is(xb_first(backing, "access"), "mode", "shared") || cells_are_shared(root);
}

static size_t count(struct xb_node *parent, const char *name)
{
    size_t n = 0;

    for (struct xb_node *c = xb_first(parent, name); c; c = xb_next(c, name)) {
        n++;
    }
    return n;
}

static void read_devices(struct xb_node *devices, struct guest_info *ret)
{
    ret->disks = NEW_ARRAY(struct guest_disk, count(devices, "disk"));
    for (struct xb_node *n = xb_first(devices, "disk"); n; n = xb_next(n, "disk")) {
        read_disk(n, &ret->disks[ret->n_disks++]);
    }
    ret->interfaces = NEW_ARRAY(struct guest_interface, count(devices, "interface"));
    for (struct xb_node *n = xb_first(devices, "interface"); n; n = xb_next(n, "interface")) {
        read_interface(n, &ret->interfaces[ret->n_interfaces++]);
    }
    for (struct xb_node *n = xb_first(devices, "serial"); n; n = xb_next(n, "serial")) {
        ret->has_serial_tcp |= xb_attr_is(n, "type", "tcp");
    }
}

static void read_consoles(struct xb_node *devices, struct guest_info *ret)
{
    ret->graphics = NEW_ARRAY(struct guest_graphics, count(devices, "graphics"));
    for (struct xb_node *n = xb_first(devices, "graphics"); n; n = xb_next(n, "graphics")) {
        read_graphics(n, &ret->graphics[ret->n_graphics++]);
    }
    ret->serials = NEW_ARRAY(struct guest_chardev, count(devices, "serial"));
    for (struct xb_node *n = xb_first(devices, "serial"); n; n = xb_next(n, "serial")) {
        read_chardev(n, &ret->serials[ret->n_serials++]);
    }
    ret->consoles = NEW_ARRAY(struct guest_chardev, count(devices, "console"));
    for (struct xb_node *n = xb_first(devices, "console"); n; n = xb_next(n, "console")) {
        read_chardev(n, &ret->consoles[ret->n_consoles++]);
    }
}

struct err *guest_info_parse(const char *xml, struct guest_info *ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct xb_node *root;
    uint64_t vcpus = 0;

    TRY_CTX(xb_parse(xml, &doc), "reading a domain's XML");
    root = xb_root(doc);
    if (!str_eq(xb_name(root), "domain")) {
        return err_msg(ERR_PARSE, "<%s> is no domain XML", xb_name(root));
    }
    CLEANUP(freep) char *n = xb_content_at(root, "vcpu");

    *ret = (struct guest_info){.uuid = xb_content_at(root, "uuid"),
                               .name = xb_content_at(root, "name"),
                               .emulator = xb_content_at(root, "devices/emulator"),
                               .arch = xb_attr_at(root, "os/type", "arch"),
                               .machine = xb_attr_at(root, "os/type", "machine")};
    if (n && str_to_u64(n, &vcpus)) {
        ret->vcpus = (unsigned)vcpus;
    }
    read_memory(root, ret);
    read_devices(xb_first(root, "devices"), ret);
    read_consoles(xb_first(root, "devices"), ret);
    return NULL;
}

static void chardevs_fini(struct guest_chardev *devs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(devs[i].type);
        free(devs[i].path);
        free(devs[i].host);
        free(devs[i].service);
        free(devs[i].log);
    }
    free(devs);
}

void guest_info_fini(struct guest_info *g)
{
    for (size_t i = 0; i < g->n_disks; i++) {
        struct guest_disk *d = &g->disks[i];
        char *strings[] = {d->type,   d->device,  d->source, d->target, d->format,
                           d->serial, d->backing, d->bus,    d->address};

        for (size_t k = 0; k < ARRAY_SIZE(strings); k++) {
            free(strings[k]);
        }
    }
    for (size_t i = 0; i < g->n_interfaces; i++) {
        struct guest_interface *nic = &g->interfaces[i];
        char *strings[] = {nic->type, nic->mac,   nic->target, nic->source,
                           nic->mode, nic->alias, nic->address};

        for (size_t k = 0; k < ARRAY_SIZE(strings); k++) {
            free(strings[k]);
        }
    }
    for (size_t i = 0; i < g->n_graphics; i++) {
        free(g->graphics[i].type);
        free(g->graphics[i].port);
        free(g->graphics[i].tls_port);
    }
    free(g->graphics);
    chardevs_fini(g->serials, g->n_serials);
    chardevs_fini(g->consoles, g->n_consoles);
    free(g->disks);
    free(g->interfaces);
    free(g->uuid);
    free(g->name);
    free(g->emulator);
    free(g->arch);
    free(g->machine);
    *g = (struct guest_info){0};
}

const struct guest_interface *guest_info_interface(const struct guest_info *g, const char *mac)
{
    for (size_t i = 0; i < g->n_interfaces; i++) {
        if (str_ieq(g->interfaces[i].mac, mac)) {
            return &g->interfaces[i];
        }
    }
    return NULL;
}

/* ---- Rewriting ---- */

/* Where one <graphics> listens: libvirt has it twice, and both must agree. */
static void set_listen(struct xb_node *n, const char *addr)
{
    CLEANUP(freep) char *listen = xb_attr(n, "listen");

    if (listen) {
        xb_set_attr(n, "listen", addr);
    }
    for (struct xb_node *l = xb_first(n, "listen"); l; l = xb_next(l, "listen")) {
        if (xb_attr_is(l, "type", "address")) {
            xb_set_attr(l, "address", addr);
        }
    }
}

static void rewrite_graphics(struct xb_node *devices, const struct guest_rewrite *rw)
{
    for (struct xb_node *n = xb_first(devices, "graphics"); n; n = xb_next(n, "graphics")) {
        const char *addr = xb_attr_is(n, "type", "vnc")     ? rw->vnc_listen
                           : xb_attr_is(n, "type", "spice") ? rw->spice_listen
                                                            : NULL;

        if (addr) {
            set_listen(n, addr);
        }
    }
}

static struct err *rewrite_serial(struct xb_node *devices, const struct guest_rewrite *rw)
{
    static const char *const names[] = {"serial", "console"};

    for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
        for (struct xb_node *n = xb_first(devices, names[k]); n; n = xb_next(n, names[k])) {
            CLEANUP(freep) char *port_text = xb_attr_at(n, "target", "port");
            struct xb_node *source = xb_first(n, "source");
            uint64_t port = 0;

            if (!xb_attr_is(n, "type", "tcp") || !source) {
                continue;
            }
            if (!rw->serial_listen) {
                return err_msg(ERR_MIGRATION_ERROR, "the guest has a TCP serial console, but the "
                                                    "destination offers none");
            }
            xb_set_attr(source, "host", rw->serial_listen);
            if (port_text && str_to_u64(port_text, &port) && port < rw->n_serial_ports) {
                CLEANUP(freep)
                char *service = str_printf("%lld", (long long)rw->serial_ports[port]);

                xb_set_attr(source, "service", service);
            }
        }
    }
    return NULL;
}

static void rewrite_perf(struct xb_node *root, const struct strv *events)
{
    struct xb_node *perf = xb_first(root, "perf");

    if (!events) {
        return;
    }
    if (!events->n) {
        xb_remove(perf);
        return;
    }
    perf = xb_ensure(root, "perf");
    xb_remove_children(perf, "event");
    for (size_t i = 0; i < events->n; i++) {
        struct xb_node *event = xb_add(perf, "event");

        xb_set_attr(event, "name", events->items[i]);
        xb_set_attr(event, "enabled", "yes");
    }
}

/* Only file-backed memory is the host's business; shared hugepages are the guest's and stay. */
static void rewrite_memory_backing(struct xb_node *root, const struct guest_rewrite *rw)
{
    static const char *const file_backed[] = {"access", "source", "allocation", "discard"};
    struct xb_node *backing = xb_first(root, "memoryBacking");

    if (!rw->wants_file_backed_memory && !xb_attr_is(xb_first(backing, "source"), "type", "file")) {
        return;
    }
    backing = xb_ensure(root, "memoryBacking");
    for (size_t i = 0; i < ARRAY_SIZE(file_backed); i++) {
        xb_remove_children(backing, file_backed[i]);
    }
    if (rw->wants_file_backed_memory) {
        xb_set_attr(xb_add(backing, "source"), "type", "file");
        xb_set_attr(xb_add(backing, "access"), "mode", "shared");
        xb_set_attr(xb_add(backing, "allocation"), "mode", "immediate");
        xb_add(backing, "discard");
    } else if (xb_is_empty(backing)) {
        xb_remove(backing);
    }
}

static void rewrite_quota(struct xb_node *root, const struct guest_rewrite *rw)
{
    struct xb_node *cputune = xb_first(root, "cputune");

    if (cputune && !rw->has_cpu_shares_quota) {
        xb_remove_children(cputune, "shares");
    }
    if (cputune && xb_is_empty(cputune)) {
        xb_remove(cputune);
    }
}

/* ---- Interfaces ---- */

static void plan_vhostuser(struct xb_node *n, const struct vif *vif, const struct guest_rewrite *rw)
{
    struct xb_node *source = xb_ensure(n, "source");

    (void)rw;
    xb_set_attr(source, "type", "unix");
    xb_set_attr(source, "path", vif->vhostuser_socket);
    xb_set_attr(source, "mode", vif->vhostuser_mode ? vif->vhostuser_mode : "server");
}

static void plan_ethernet(struct xb_node *n, const struct vif *vif, const struct guest_rewrite *rw)
{
    (void)vif;
    (void)rw;
    xb_remove_children(n, "source");
    xb_remove_children(n, "virtualport");
}

static void plan_ovs_bridge(struct xb_node *n, const struct vif *vif,
                            const struct guest_rewrite *rw)
{
    struct xb_node *port = xb_ensure(n, "virtualport");

    xb_set_attr(xb_ensure(n, "source"), "bridge", vif_bridge(vif, rw->integration_bridge));
    xb_set_attr(port, "type", "openvswitch");
    xb_set_attr(xb_ensure(port, "parameters"), "interfaceid",
                vif->ovs_interfaceid ? vif->ovs_interfaceid : vif->id);
}

static void plan_hybrid(struct xb_node *n, const struct vif *vif, const struct guest_rewrite *rw)
{
    char bridge[15];

    (void)rw;
    vif_prefixed_name(vif, "qbr", bridge);
    xb_set_attr(xb_ensure(n, "source"), "bridge", bridge);
    xb_remove_children(n, "virtualport");
}

static const struct {
    const char *type;
    void (*plan)(struct xb_node *, const struct vif *, const struct guest_rewrite *);
} plans[] = {
    [VIF_KIND_OVS_TAP] = {"ethernet", plan_ethernet},
    [VIF_KIND_OVS_BRIDGE] = {"bridge", plan_ovs_bridge},
    [VIF_KIND_OVS_HYBRID] = {"bridge", plan_hybrid},
    [VIF_KIND_VHOSTUSER_OVS] = {"vhostuser", plan_vhostuser},
    [VIF_KIND_VHOSTUSER_NONE] = {"vhostuser", plan_vhostuser},
};

/* Another type of back end: what belongs to the old one goes; MAC, model, MTU, alias and the
 * guest's address are the guest's and stay. */
static void change_type(struct xb_node *n, const char *type)
{
    static const char *const of_back_end[] = {"source", "virtualport", "target", "backend",
                                              "script", "reconnect",   "port"};

    struct xb_node *driver = xb_first(n, "driver");

    for (size_t i = 0; i < ARRAY_SIZE(of_back_end); i++) {
        xb_remove_children(n, of_back_end[i]);
    }
    if (driver && !str_eq(type, "vhostuser")) {
        xb_set_attr(driver, "tx_queue_size", NULL); /* libvirt takes it for vhost-user only. */
    }
    xb_set_attr(n, "type", type);
}

/* The name of the device on the host.  That of a vhost-user port is libvirt's to find out. */
static void set_target(struct xb_node *n, const struct vif *vif, enum vif_kind kind)
{
    struct xb_node *target = xb_first(n, "target");
    char name[15];

    vif_port_name(vif, kind, name);
    if (!target && !str_eq(plans[kind].type, "vhostuser")) {
        target = xb_add(n, "target");
    }
    if (target) {
        xb_set_attr(target, "dev", name);
    }
}

static struct err *rewrite_interface(struct xb_node *n, const struct vif *vif,
                                     const struct guest_rewrite *rw)
{
    enum vif_kind kind;

    TRY(vif_kind(vif, &kind));
    if (str_eq(plans[kind].type, "vhostuser") && str_is_empty(vif->vhostuser_socket)) {
        return err_new(ERR_VIF_DETAILS_NO_VHOSTUSER_PATH, "vif_id", vif->id, NULL);
    }
    if (!xb_attr_is(n, "type", plans[kind].type)) {
        change_type(n, plans[kind].type);
    }
    plans[kind].plan(n, vif, rw);
    set_target(n, vif, kind);
    return NULL;
}

static struct err *rewrite_interfaces(struct xb_node *devices, const struct guest_rewrite *rw)
{
    if (!rw->has_vifs) {
        return NULL;
    }
    for (struct xb_node *n = xb_first(devices, "interface"); n; n = xb_next(n, "interface")) {
        CLEANUP(freep) char *mac = xb_attr_at(n, "mac", "address");
        const struct vif *vif = NULL;

        if (!mac) {
            return err_msg(ERR_MIGRATION_ERROR, "an interface of the guest has no MAC address");
        }
        for (size_t i = 0; i < rw->n_vifs; i++) {
            if (str_ieq(rw->vifs[i].address, mac)) {
                vif = &rw->vifs[i];
            }
        }
        if (!vif) {
            return err_msg(ERR_MIGRATION_ERROR,
                           "the guest's interface %s is no port that the destination knows", mac);
        }
        TRY(rewrite_interface(n, vif, rw));
    }
    return NULL;
}

/* ---- NUMA ---- */

static struct xb_node *find_by_attr(struct xb_node *parent, const char *name, const char *attr,
                                    const char *value)
{
    for (struct xb_node *n = xb_first(parent, name); n; n = xb_next(n, name)) {
        if (xb_attr_is(n, attr, value)) {
            return n;
        }
    }
    return NULL;
}

/* Sets one attribute of the child that another attribute names, made if it is missing. */
static struct err *pin(struct xb_node *parent, const char *name, const char *key_attr,
                       const char *key, const char *set_attr, struct json_object *hosts)
{
    CLEANUP(cpuset_fini) struct cpuset set = {0};
    struct xb_node *n = find_by_attr(parent, name, key_attr, key);

    TRY_CTX(cpuset_from_json(hosts, &set), "reading the pins of %s %s", name, key);
    if (set.n == 0) {
        return err_msg(ERR_MIGRATION_ERROR, "the destination has no place for %s %s of the guest",
                       key_attr, key);
    }
    CLEANUP(freep) char *text = cpuset_text(&set);

    if (!n) {
        n = xb_add(parent, name);
        xb_set_attr(n, key_attr, key);
        if (str_eq(name, "memnode")) {
            xb_set_attr(n, "mode", "strict");
        }
    }
    xb_set_attr(n, set_attr, text);
    return NULL;
}

static struct err *rewrite_cells(struct xb_node *root, const struct guest_numa *numa)
{
    struct xb_node *numatune = xb_ensure(root, "numatune");
    CLEANUP(cpuset_fini) struct cpuset all = {0};

    json_object_object_foreach(numa->cell_pins, cell, hosts)
    {
        CLEANUP(cpuset_fini) struct cpuset set = {0};

        TRY(pin(numatune, "memnode", "cellid", cell, "nodeset", hosts));
        TRY(cpuset_from_json(hosts, &set));
        struct cpuset both = cpuset_union(&all, &set);

        cpuset_fini(&all);
        all = both;
    }
    CLEANUP(freep) char *text = cpuset_text(&all);
    struct xb_node *memory = xb_first(numatune, "memory");

    if (!memory) {
        memory = xb_add(numatune, "memory");
        xb_set_attr(memory, "mode", "strict");
    }
    xb_set_attr(memory, "nodeset", text);
    return NULL;
}

static struct err *rewrite_pins(struct xb_node *root, const struct guest_numa *numa)
{
    struct xb_node *cputune = xb_ensure(root, "cputune");

    json_object_object_foreach(numa->cpu_pins, vcpu, hosts)
    {
        TRY(pin(cputune, "vcpupin", "vcpu", vcpu, "cpuset", hosts));
    }
    if (numa->emulator_pins->n > 0) {
        CLEANUP(freep) char *emulator = cpuset_text(numa->emulator_pins);

        xb_set_attr(xb_ensure(cputune, "emulatorpin"), "cpuset", emulator);
    }
    return json_object_object_length(numa->cell_pins) > 0 ? rewrite_cells(root, numa) : NULL;
}

static void rewrite_scheduler(struct xb_node *root, const struct guest_numa *numa)
{
    CLEANUP(freep) char *vcpus = cpuset_text(numa->sched_vcpus);
    CLEANUP(freep) char *priority = str_printf("%lld", (long long)numa->sched_priority);
    struct xb_node *sched = xb_ensure(xb_ensure(root, "cputune"), "vcpusched"), *more;

    xb_set_attr(sched, "vcpus", vcpus);
    xb_set_attr(sched, "scheduler", "fifo");
    xb_set_attr(sched, "priority", priority);
    while ((more = xb_next(sched, "vcpusched"))) {
        xb_remove(more);
    }
}

static struct err *rewrite_numa(struct xb_node *root, const struct guest_numa *numa)
{
    if (numa && numa->cpu_pins && numa->cell_pins && numa->emulator_pins) {
        TRY(rewrite_pins(root, numa));
    }
    if (numa && numa->sched_vcpus) {
        rewrite_scheduler(root, numa);
    }
    return NULL;
}

struct err *guest_xml_rewrite(const char *xml, const struct guest_rewrite *rw, char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct xb_node *root, *devices;

    TRY_CTX(xb_parse(xml, &doc), "reading a domain's XML");
    root = xb_root(doc);
    devices = xb_first(root, "devices");
    if (!str_eq(xb_name(root), "domain") || !devices) {
        return err_msg(ERR_PARSE, "no domain XML");
    }
    rewrite_graphics(devices, rw);
    TRY(rewrite_serial(devices, rw));
    rewrite_perf(root, rw->perf_events);
    rewrite_memory_backing(root, rw);
    rewrite_quota(root, rw);
    TRY(rewrite_interfaces(devices, rw));
    TRY(rewrite_numa(root, rw->numa));
    *ret = xb_text(doc);
    return NULL;
}

#include "driver/libvirt/guest_build.h"

#include <string.h>

#define MOST_SERIAL_PORTS 3 /* QEMU has four; Nova leaves one. */

/* ---- Consoles ---- */

/* nova/virt/hardware.py get_number_of_serial_ports: an image may ask for fewer than its flavor. */
struct err *guest_n_serial_ports(const struct conf *conf, const struct instance *inst,
                                 const struct image_meta *image, size_t *ret)
{
    const char *of_flavor = flavor_spec(inst, "hw:serial_port_count");
    int64_t by_image = image_meta_int(image, "hw_serial_port_count", 0), by_flavor = 0, n;

    *ret = 0;
    if (!conf->serial_console.enabled) {
        return NULL;
    }
    if (!str_is_empty(of_flavor) && !str_to_i64(of_flavor, &by_flavor)) {
        return err_new(ERR_SERIAL_PORT_NUMBER_INVALID, "num_ports", of_flavor, NULL);
    }
    if (by_flavor && by_image > by_flavor) {
        return err_msg(ERR_SERIAL_PORTS_EXCEED_FLAVOR,
                       "hw_serial_port_count=%lld of the image is more than "
                       "hw:serial_port_count=%lld of the flavor",
                       (long long)by_image, (long long)by_flavor);
    }
    n = by_image ? by_image : by_flavor ? by_flavor : 1;
    if (n > MOST_SERIAL_PORTS) {
        return err_new(ERR_SERIAL_PORT_LIMIT, "allowed", "3", "virt_type", conf->libvirt.virt_type,
                       NULL);
    }
    *ret = n > 0 ? (size_t)n : 0;
    return NULL;
}

static void add_log(struct guest_build *b, struct xb_node *serial)
{
    CLEANUP(freep) char *path = str_printf("%s/console.log", b->s->dir);

    xb_add_with(serial, "log", "file", path, "append", "off", NULL);
}

/* The first console has what the guest says while it boots. */
static void add_tcp_console(struct guest_build *b, size_t i)
{
    struct xb_node *serial = xb_add_with(b->devices, "serial", "type", "tcp", NULL);
    struct xb_node *source = xb_add_with(serial, "source", "mode", "bind", "host",
                                         b->conf->serial_console.proxyclient_address, NULL);

    xb_set_attr_int(source, "service", b->s->serial_ports[i]);
    if (i == 0) {
        add_log(b, serial);
    }
}

struct err *guest_add_consoles(struct guest_build *b)
{
    size_t n = 0;

    if (!b->conf->serial_console.enabled) {
        add_log(b, xb_add_with(b->devices, "serial", "type", "pty", NULL));
        return NULL;
    }
    TRY(guest_n_serial_ports(b->conf, b->inst, b->image, &n));
    if (n != b->s->n_serial_ports) {
        return err_msg(ERR_INTERNAL, "%zu serial consoles, but %zu ports for them", n,
                       b->s->n_serial_ports);
    }
    for (size_t i = 0; i < n; i++) {
        add_tcp_console(b, i);
    }
    return NULL;
}

/* ---- Screen, pointer, keyboard ---- */

static bool has_screen(const struct guest_build *b)
{
    return b->conf->vnc.enabled || b->conf->spice.enabled;
}

static bool has_spice_agent(const struct guest_build *b)
{
    return b->conf->spice.enabled && b->conf->spice.agent_enabled;
}

static void add_graphics(struct guest_build *b, const char *type, const char *listen)
{
    xb_add_with(b->devices, "graphics", "type", type, "autoport", "yes", "listen",
                str_is_empty(listen) ? NULL : listen, NULL);
}

/* The flavor says how much memory of its own a screen may have. */
static struct err *add_video(struct guest_build *b)
{
    const char *type = image_meta_prop(b->image, "hw_video_model");
    int64_t ram = image_meta_int(b->image, "hw_video_ram", 0), most = 0;
    struct xb_node *model;

    TRY(guest_ask_number(b, "hw_video:ram_max_mb", 0, &most));
    if (ram > most) {
        return err_msg(ERR_VIDEO_RAM_TOO_HIGH,
                       "hw_video_ram=%lld of the image is more than hw_video:ram_max_mb=%lld of "
                       "the flavor",
                       (long long)ram, (long long)most);
    }
    type = type ? type : b->conf->spice.enabled ? "qxl" : "virtio";
    model = xb_add_with(xb_add(b->devices, "video"), "model", "type", type, NULL);
    if (ram > 0 && most > 0) {
        xb_set_attr_int(model, "vram", ram << 10);
    }
    return NULL;
}

static void add_input(struct guest_build *b, const char *type, const char *bus)
{
    xb_add_with(b->devices, "input", "type", type, "bus", bus, NULL);
    b->needs_usb |= str_eq(bus, "usb");
}

/* A tablet says where the pointer is and not how far it moved.  The agent of SPICE does so too. */
static void add_inputs(struct guest_build *b)
{
    const char *bus = image_meta_prop(b->image, "hw_input_bus");
    bool is_asked_for = bus || image_meta_prop(b->image, "hw_pointer_model") ||
                        str_eq(b->conf->dflt.pointer_model, "usbtablet");

    if (is_asked_for && (!has_spice_agent(b) || b->conf->vnc.enabled)) {
        add_input(b, "tablet", bus ? bus : "usb");
    }
    if (bus) {
        add_input(b, "keyboard", bus);
    }
}

static struct err *add_screen(struct guest_build *b)
{
    if (has_spice_agent(b)) {
        struct xb_node *channel = xb_add_with(b->devices, "channel", "type", "spicevmc", NULL);

        xb_add_with(channel, "target", "type", "virtio", "name", "com.redhat.spice.0", NULL);
    }
    if (b->conf->vnc.enabled) {
        add_graphics(b, "vnc", b->conf->vnc.server_listen);
    }
    if (b->conf->spice.enabled) {
        add_graphics(b, "spice", b->conf->spice.server_listen);
    }
    if (!has_screen(b)) {
        return NULL;
    }
    TRY(add_video(b));
    add_inputs(b);
    return NULL;
}

/* ---- Agent, random numbers ---- */

static void add_guest_agent(struct guest_build *b)
{
    CLEANUP(freep) char *name = guest_name(b->conf, b->inst);
    CLEANUP(freep)
    char *path = str_printf("/var/lib/libvirt/qemu/org.qemu.guest_agent.0.%s.sock", name);
    struct xb_node *channel;

    if (!image_meta_bool(b->image, "hw_qemu_guest_agent", false)) {
        return;
    }
    channel = xb_add_with(b->devices, "channel", "type", "unix", NULL);
    xb_add_with(channel, "source", "mode", "bind", "path", path, NULL);
    xb_add_with(channel, "target", "type", "virtio", "name", "org.qemu.guest_agent.0", NULL);
}

/* On unless the flavor forbids it; the flavor may limit its rate. */
static struct err *add_rng(struct guest_build *b)
{
    const char *path = b->conf->libvirt.rng_dev_path;
    int64_t bytes = 0, period = 0;
    struct xb_node *rng, *backend;

    if (!flavor_spec_bool(b->inst, "hw_rng:allowed", true)) {
        return NULL;
    }
    if (!b->s->host->has_rng_device) {
        return err_new(ERR_RNG_DEVICE_NOT_EXIST, "path", path, NULL);
    }
    TRY(guest_ask_number(b, "hw_rng:rate_bytes", 0, &bytes));
    TRY(guest_ask_number(b, "hw_rng:rate_period", 0, &period));
    rng = xb_add_with(b->devices, "rng", "model", "virtio", NULL);
    if (bytes && period) {
        struct xb_node *rate = xb_add(rng, "rate");

        xb_set_attr_int(rate, "period", period);
        xb_set_attr_int(rate, "bytes", bytes);
    }
    backend = xb_add_text(rng, "backend", path ? path : "");
    xb_set_attr(backend, "model", "random");
    return NULL;
}

/* ---- Buses ---- */

/* libvirt gives x86 guests a USB controller unless it is told not to. */
static void add_controllers(struct guest_build *b)
{
    if (b->is_q35 && b->conf->libvirt.num_pcie_ports > 0) {
        xb_add_with(b->devices, "controller", "type", "pci", "model", "pcie-root", NULL);
        for (int64_t i = 0; i < b->conf->libvirt.num_pcie_ports; i++) {
            xb_add_with(b->devices, "controller", "type", "pci", "model", "pcie-root-port", NULL);
        }
    }
    xb_add_with(b->devices, "controller", "type", "usb", "index", "0", "model",
                b->needs_usb ? NULL : "none", NULL);
}

/* Whether the request that a device was claimed for came from the flavor, not from a port. */
static bool is_of_flavor(const struct guest_build *b, const struct pci_device *dev)
{
    const struct instance_pci_requests *all =
        instance_has_pci_requests(b->inst) ? instance_pci_requests(b->inst) : NULL;
    const char *id = pci_device_has_request_id(dev) ? pci_device_request_id(dev) : NULL;

    for (size_t i = 0; all && i < instance_pci_requests_n_requests(all); i++) {
        const struct instance_pci_request *r = instance_pci_requests_requests_at(all, i);
        const char *of =
            instance_pci_request_has_request_id(r) ? instance_pci_request_request_id(r) : NULL;

        if (str_eq(of, id)) {
            return instance_pci_request_has_alias_name(r) && instance_pci_request_alias_name(r);
        }
    }
    return false;
}

static struct err *add_pci_devices(struct guest_build *b)
{
    const struct pci_device_list *all =
        instance_has_pci_devices(b->inst) ? instance_pci_devices(b->inst) : NULL;

    for (size_t i = 0; all && i < pci_device_list_n(all); i++) {
        const struct pci_device *dev = pci_device_list_at(all, i);

        if (is_of_flavor(b, dev)) {
            TRY(guest_add_hostdev(b, pci_device_address(dev)));
        }
    }
    return NULL;
}

/* ---- Watchdog, memory balloon, IOMMU ---- */

/* Here the image speaks before the flavor. */
static struct err *add_watchdog(struct guest_build *b)
{
    static const char *const actions[] = {"none", "pause", "poweroff", "reset", "disabled"};
    const char *action = image_meta_prop(b->image, "hw_watchdog_action");

    action = action ? action : flavor_spec(b->inst, "hw:watchdog_action");
    if (str_is_empty(action) || str_eq(action, "disabled")) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (str_eq(actions[i], action)) {
            xb_add_with(b->devices, "watchdog", "model", "i6300esb", "action", action, NULL);
            return NULL;
        }
    }
    return err_new(ERR_INVALID_WATCHDOG_ACTION, "action", action, NULL);
}

static void add_balloon(struct guest_build *b)
{
    int64_t period = b->conf->libvirt.mem_stats_period_seconds;

    if (period > 0) {
        struct xb_node *balloon = xb_add_with(b->devices, "memballoon", "model", "virtio", NULL);

        xb_set_attr_int(xb_add(balloon, "stats"), "period", period);
    }
}

struct err *guest_iommu_model(const struct guest_build *b, const char **ret)
{
    const char *model = flavor_spec(b->inst, "hw:viommu_model");

    model = str_is_empty(model) ? image_meta_prop(b->image, "hw_viommu_model") : model;
    if (!model) {
        return NULL;
    }
    if (!b->is_q35) {
        return err_new(ERR_INVALID_VIOMMU_MACHINE_TYPE, "mtype", b->machine, "arch", b->arch, NULL);
    }
    if (str_eq(model, "auto")) {
        model = b->s->host->libvirt_version >= 8003000 ? "virtio" : "intel";
    }
    *ret = model;
    return NULL;
}

static struct err *add_iommu(struct guest_build *b)
{
    const char *model = NULL;
    struct xb_node *iommu;

    TRY(guest_iommu_model(b, &model));
    if (!model) {
        return NULL;
    }
    iommu = xb_add_with(b->devices, "iommu", "model", model, NULL);
    xb_add_with(iommu, "driver", "intremap", "on", "caching_mode", "on", "aw_bits",
                b->s->host->libvirt_version >= 6005000 ? "48" : NULL, "eim", "on", "iotlb", "on",
                NULL);
    return NULL;
}

struct err *guest_add_other_devices(struct guest_build *b)
{
    TRY(add_screen(b));
    add_guest_agent(b);
    TRY(add_rng(b));
    add_controllers(b);
    TRY(add_pci_devices(b));
    TRY(add_watchdog(b));
    add_balloon(b);
    return add_iommu(b);
}

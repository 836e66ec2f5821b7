#include "driver/libvirt/disk_layout.h"

#include "base/str.h"
#include "driver/libvirt/guest_type.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (INT64_C(1) << 30)
#define MIB (INT64_C(1) << 20)

/* One layout in the making. */
struct plan {
    const struct disk_layout_input *in;
    const struct image_meta *image; /* Whose properties decide. */
    struct strv taken;              /* Device names of disks that are placed. */
    struct strv promised;           /* Device names that mappings ask for. */
    struct disk_layout *out;
};

/* ---- Buses and names ---- */

static bool is_bus(const char *bus)
{
    static const char *const buses[] = {"virtio", "scsi", "ide", "usb", "fdc", "sata"};

    for (size_t i = 0; bus && i < ARRAY_SIZE(buses); i++) {
        if (str_eq(buses[i], bus)) {
            return true;
        }
    }
    return false;
}

/* The bus that an image's property asks for, else 'dflt'. */
static struct err *bus_of_image(const struct plan *p, const char *prop, const char *dflt,
                                const char **ret)
{
    const char *bus = image_meta_prop(p->image, prop);

    if (bus && !is_bus(bus)) {
        return err_new(ERR_UNSUPPORTED_HARDWARE, "model", bus, "virt",
                       p->in->conf->libvirt.virt_type, NULL);
    }
    *ret = bus ? bus : dflt;
    return NULL;
}

/* nova/virt/libvirt/blockinfo.py get_disk_bus_for_device_type */
static struct err *bus_for(const struct plan *p, const char *device, const char **ret)
{
    CLEANUP(freep) char *machine = guest_machine_type(p->in->conf, p->image);

    if (str_eq(device, "cdrom")) {
        return bus_of_image(p, "hw_cdrom_bus", strstr(machine, "q35") ? "sata" : "ide", ret);
    }
    if (str_eq(device, "floppy")) {
        return bus_of_image(p, "hw_floppy_bus", "fdc", ret);
    }
    return bus_of_image(p, "hw_disk_bus", "virtio", ret);
}

static struct err *prefix_of(const struct plan *p, const char *bus, const char **ret)
{
    static const struct {
        const char *bus, *prefix;
    } prefixes[] = {{"ide", "hd"}, {"virtio", "vd"}, {"scsi", "sd"},
                    {"usb", "sd"}, {"fdc", "fd"},    {"sata", "sd"}};

    if (!str_is_empty(p->in->conf->libvirt.disk_prefix)) {
        *ret = p->in->conf->libvirt.disk_prefix;
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        if (str_eq(prefixes[i].bus, bus)) {
            *ret = prefixes[i].prefix;
            return NULL;
        }
    }
    return err_msg(ERR_INTERNAL, "Unable to determine disk prefix for %s", bus);
}

/* The likeliest bus of a device of that name, NULL if none. */
static const char *bus_of_name(const char *name)
{
    static const struct {
        const char *prefix, *bus;
    } buses[] = {{"hd", "ide"}, {"sd", "scsi"}, {"vd", "virtio"}, {"fd", "fdc"}};

    for (size_t i = 0; i < ARRAY_SIZE(buses); i++) {
        if (str_starts(name, buses[i].prefix)) {
            return buses[i].bus;
        }
    }
    return NULL;
}

/* "vda", ..., "vdz", "vdaa", ... */
static char *nth_name(const char *prefix, size_t n)
{
    char letters[16];
    size_t at = sizeof(letters) - 1;

    letters[at] = '\0';
    for (size_t left = n + 1; left > 0; left = (left - 1) / 26) {
        letters[--at] = (char)('a' + (left - 1) % 26);
    }
    return str_printf("%s%s", prefix, letters + at);
}

/* The first name on a bus that no disk has, and none of 'promised' (may be NULL). */
static struct err *free_name(const struct plan *p, const char *bus, const struct strv *promised,
                             char **ret)
{
    int64_t most =
        str_eq(bus, "ide") ? 4 : p->in->conf->compute.max_disk_devices_to_attach; /* -1: no end */
    const char *prefix = NULL;

    TRY(prefix_of(p, bus, &prefix));
    for (size_t i = 0; most < 0 || (int64_t)i < most; i++) {
        CLEANUP(freep) char *name = nth_name(prefix, i);

        if (!strv_has(&p->taken, name) && !(promised && strv_has(promised, name))) {
            *ret = TAKE(name);
            return NULL;
        }
    }
    CLEANUP(freep) char *maximum = str_printf("%lld", (long long)most);

    return err_new(ERR_TOO_MANY_DISK_DEVICES, "maximum", maximum, NULL);
}

/* ---- Adding disks ---- */

static struct disk_item *append(struct plan *p, enum disk_role role)
{
    struct disk_layout *out = p->out;

    out->items = mem_realloc(out->items, out->n + 1, sizeof(*out->items));
    out->items[out->n] = (struct disk_item){.role = role, .bdm = -1};
    return &out->items[out->n++];
}

static struct err *set_text(char *to, size_t size, const char *text)
{
    if (strlen(text) >= size) {
        return err_msg(ERR_INVALID_BDM, "'%s' is too long for a disk's device, bus or type", text);
    }
    snprintf(to, size, "%s", text);
    return NULL;
}

static struct err *place(struct plan *p, struct disk_item *d, const char *bus, const char *device,
                         const char *target)
{
    TRY(set_text(d->bus, sizeof(d->bus), bus));
    TRY(set_text(d->device, sizeof(d->device), device));
    TRY(set_text(d->target, sizeof(d->target), target));
    strv_add(&p->taken, target);
    return NULL;
}

/* nova/virt/libvirt/blockinfo.py get_next_disk_info */
static struct err *place_next(struct plan *p, struct disk_item *d, const char *bus,
                              const char *device, const struct strv *promised)
{
    CLEANUP(freep) char *target = NULL;

    TRY(free_name(p, bus, promised, &target));
    return place(p, d, bus, device, target);
}

/* What the files of disks are made as: overlays over the cache, or copies, which take the image's
 * format if images are not converted (nova/virt/libvirt/imagebackend.py Qcow2, Flat). */
static char *format_of_image(const struct plan *p, const struct image_meta *image)
{
    const struct conf *conf = p->in->conf;
    const char *type = conf->libvirt.images_type;
    const char *format = image ? image->disk_format : NULL;
    bool is_kept = !conf->dflt.force_raw_images && str_eq(format, "qcow2");

    if (str_eq(type, "qcow2") || (str_eq(type, "default") && conf->dflt.use_cow_images)) {
        return str_dup("qcow2");
    }
    return str_dup(is_kept ? "qcow2" : "raw");
}

static void set_file(struct disk_item *d, const char *name)
{
    snprintf(d->file, sizeof(d->file), "%s", name);
}

/* ---- Block device mappings ---- */

/* A text field, NULL if it is not set, null or empty. */
#define BDM_STR(bdm, field)                                                                        \
    (block_device_mapping_has_##field(bdm) && !str_is_empty(block_device_mapping_##field(bdm))     \
         ? block_device_mapping_##field(bdm)                                                       \
         : NULL)

enum bdm_kind { BDM_NONE, BDM_IMAGE, BDM_EPHEMERAL, BDM_SWAP, BDM_VOLUME };

static enum bdm_kind bdm_kind(const struct block_device_mapping *bdm)
{
    const char *source = BDM_STR(bdm, source_type), *to = BDM_STR(bdm, destination_type);

    if (block_device_mapping_has_no_device(bdm) && block_device_mapping_no_device(bdm)) {
        return BDM_NONE;
    }
    if (!str_eq(to, "local")) {
        return BDM_VOLUME;
    }
    if (str_eq(source, "image")) {
        return BDM_IMAGE;
    }
    if (!str_eq(source, "blank")) {
        return BDM_NONE;
    }
    return str_eq(BDM_STR(bdm, guest_format), "swap") ? BDM_SWAP : BDM_EPHEMERAL;
}

static size_t n_bdms(const struct plan *p)
{
    return p->in->bdms ? block_device_mapping_list_n(p->in->bdms) : 0;
}

static const struct block_device_mapping *bdm_at(const struct plan *p, size_t i)
{
    return block_device_mapping_list_at(p->in->bdms, i);
}

/* The next mapping of a kind from 'from' on, or -1. */
static int bdm_next(const struct plan *p, enum bdm_kind kind, int from)
{
    for (size_t i = (size_t)from; i < n_bdms(p); i++) {
        if (bdm_kind(bdm_at(p, i)) == kind) {
            return (int)i;
        }
    }
    return -1;
}

static const char *strip_dev(const char *name)
{
    return name && str_starts(name, "/dev/") ? name + strlen("/dev/") : name;
}

static int64_t bdm_size(const struct block_device_mapping *bdm)
{
    return block_device_mapping_has_volume_size(bdm) &&
                   !block_device_mapping_isnull_volume_size(bdm)
               ? block_device_mapping_volume_size(bdm)
               : 0;
}

/* A name that mappings of a kind ask for. */
static bool kind_asks_for(const struct plan *p, enum bdm_kind kind, const char *target)
{
    for (int i = bdm_next(p, kind, 0); i >= 0; i = bdm_next(p, kind, i + 1)) {
        const char *name = strip_dev(BDM_STR(bdm_at(p, (size_t)i), device_name));
        bool is_used = kind != BDM_SWAP || bdm_size(bdm_at(p, (size_t)i)) > 0;

        if (is_used && str_eq(name, target)) {
            return true;
        }
    }
    return false;
}

/* The bus that a mapping asks for if there is one, else that of its name, else that of its kind. */
static struct err *bus_of_bdm(const struct plan *p, const struct block_device_mapping *bdm,
                              const char *name, const char *device, const char *bus,
                              const char **ret)
{
    const char *asked = BDM_STR(bdm, disk_bus) ? BDM_STR(bdm, disk_bus) : bus;

    if (is_bus(asked)) {
        *ret = asked;
        return NULL;
    }
    if (!name) {
        return bus_for(p, device, ret);
    }
    *ret = bus_of_name(name);
    return *ret ? NULL
                : err_msg(ERR_INVALID_BDM,
                          "no bus is known for a disk '%s' that asks for the bus "
                          "'%s'",
                          name, asked ? asked : "");
}

static bool is_device(const char *device)
{
    return str_eq(device, "disk") || str_eq(device, "cdrom") || str_eq(device, "floppy") ||
           str_eq(device, "lun");
}

/* nova/virt/libvirt/blockinfo.py get_info_from_bdm.  'name' is for one that has none. */
static struct err *place_bdm(struct plan *p, struct disk_item *d, int i, const char *name,
                             const struct strv *promised)
{
    const struct block_device_mapping *bdm = bdm_at(p, (size_t)i);
    const char *own = strip_dev(BDM_STR(bdm, device_name));
    const char *device = is_device(BDM_STR(bdm, device_type)) ? BDM_STR(bdm, device_type) : "disk";
    CLEANUP(freep) char *target = str_dup(own ? own : strip_dev(name));
    const char *bus;

    TRY(bus_of_bdm(p, bdm, target, device, p->out->disk_bus, &bus));
    if (str_is_empty(target)) {
        TRY(free_name(p, bus, promised, &target));
    }
    d->bdm = i;
    return place(p, d, bus, device, target);
}

/* ---- The server's disks ---- */

static struct err *add_root(struct plan *p)
{
    const struct instance *inst = p->in->inst;
    const char *name =
        p->in->bdms && instance_has_root_device_name(inst) ? instance_root_device_name(inst) : NULL;
    struct disk_item *d = append(p, DISK_ROOT);
    int image_bdm = bdm_next(p, BDM_IMAGE, 0);
    bool is_cd = str_eq(p->image->disk_format, "iso");
    const char *bus = is_cd ? p->out->cdrom_bus : p->out->disk_bus;

    set_file(d, "disk");
    d->format = format_of_image(p, p->image);
    d->size = flavor_root_gb(instance_flavor(inst)) * GIB;
    d->boot_index = 1;
    name = str_is_empty(name) ? NULL : name;
    if (image_bdm >= 0) {
        TRY(place_bdm(p, d, image_bdm, name, NULL));
    } else if (name) {
        TRY(place(p, d, bus, is_cd ? "cdrom" : "disk", strip_dev(name)));
    } else {
        TRY(place_next(p, d, bus, is_cd ? "cdrom" : "disk", NULL));
    }
    snprintf(p->out->root_target, sizeof(p->out->root_target), "%s", d->target);
    return NULL;
}

/* The one ephemeral disk of a flavor whose server has no mapping for any. */
static struct err *add_default_ephemeral(struct plan *p)
{
    const struct instance *inst = p->in->inst;
    CLEANUP(freep) char *target = NULL;
    struct disk_item *d;

    if (!instance_has_ephemeral_gb(inst) || instance_isnull_ephemeral_gb(inst) ||
        instance_ephemeral_gb(inst) <= 0 || bdm_next(p, BDM_EPHEMERAL, 0) >= 0) {
        return NULL;
    }
    TRY(free_name(p, p->out->disk_bus, NULL, &target));
    if (kind_asks_for(p, BDM_SWAP, target)) {
        return NULL; /* As Nova: the name is somebody else's, so there is no such disk. */
    }
    d = append(p, DISK_EPHEMERAL);
    set_file(d, "disk.local");
    d->format = format_of_image(p, NULL);
    d->size = flavor_ephemeral_gb(instance_flavor(inst)) * GIB;
    return place(p, d, p->out->disk_bus, "disk", target);
}

static struct err *add_ephemerals(struct plan *p)
{
    unsigned n = 0;

    for (int i = bdm_next(p, BDM_EPHEMERAL, 0); i >= 0; i = bdm_next(p, BDM_EPHEMERAL, i + 1)) {
        const struct block_device_mapping *bdm = bdm_at(p, (size_t)i);
        struct disk_item *d = append(p, DISK_EPHEMERAL);

        snprintf(d->file, sizeof(d->file), "disk.eph%u", n++);
        d->format = format_of_image(p, NULL);
        d->guest_format = str_dup(BDM_STR(bdm, guest_format));
        d->size = bdm_size(bdm) * GIB;
        TRY(place_bdm(p, d, i, NULL, &p->promised));
    }
    return NULL;
}

static struct err *add_swap(struct plan *p)
{
    int64_t of_flavor = flavor_swap(instance_flavor(p->in->inst));
    int i = bdm_next(p, BDM_SWAP, 0);
    int64_t of_bdm = i >= 0 ? bdm_size(bdm_at(p, (size_t)i)) : 0;
    struct disk_item *d;

    if (of_bdm <= 0 && of_flavor <= 0) {
        return NULL;
    }
    d = append(p, DISK_SWAP);
    set_file(d, "disk.swap");
    d->format = format_of_image(p, NULL);
    d->size = (of_bdm > 0 ? of_bdm : of_flavor) * MIB;
    return of_bdm > 0 ? place_bdm(p, d, i, NULL, NULL)
                      : place_next(p, d, p->out->disk_bus, "disk", &p->promised);
}

static struct err *add_config(struct plan *p, const char *file)
{
    const char *device = str_eq(p->in->conf->dflt.config_drive_format, "vfat") ? "disk" : "cdrom";
    struct disk_item *d;
    const char *bus;

    if (!p->in->has_config_drive) {
        return NULL;
    }
    TRY(bus_for(p, device, &bus));
    d = append(p, DISK_CONFIG);
    set_file(d, file);
    d->format = str_dup("raw");
    return place_next(p, d, bus, device, NULL);
}

static struct err *read_bdms(struct plan *p)
{
    for (size_t i = 0; i < n_bdms(p); i++) {
        const struct block_device_mapping *bdm = bdm_at(p, i);
        const char *name = strip_dev(BDM_STR(bdm, device_name));

        switch (bdm_kind(bdm)) {
        case BDM_VOLUME:
            return err_msg(ERR_NOT_IMPLEMENTED, "volumes cannot be had here yet (%s)",
                           BDM_STR(bdm, volume_id) ? BDM_STR(bdm, volume_id) : "to be made");
        case BDM_NONE:
            break;
        case BDM_IMAGE:
        case BDM_EPHEMERAL:
        case BDM_SWAP:
            if (name) {
                strv_add(&p->promised, name);
            }
        }
    }
    return NULL;
}

/* ---- Rescues ---- */

static struct err *make_old_rescue(struct plan *p)
{
    struct disk_item *d = append(p, DISK_RESCUE);

    set_file(d, "disk.rescue");
    d->format = format_of_image(p, p->image);
    d->boot_index = 1;
    TRY(place_next(p, d, p->out->disk_bus, "disk", NULL));
    snprintf(p->out->root_target, sizeof(p->out->root_target), "%s", d->target);
    d = append(p, DISK_ROOT);
    set_file(d, "disk");
    d->format = format_of_image(p, p->in->image);
    d->size = flavor_root_gb(instance_flavor(p->in->inst)) * GIB;
    TRY(place_next(p, d, p->out->disk_bus, "disk", NULL));
    return add_config(p, "disk.config.rescue");
}

static struct err *add_stable_rescue(struct plan *p)
{
    const char *device = image_meta_prop(p->in->rescue, "hw_rescue_device");
    const char *bus = image_meta_prop(p->in->rescue, "hw_rescue_bus");
    struct disk_item *d;

    device = device ? device : "disk";
    if (!is_device(device)) {
        return err_new(ERR_UNSUPPORTED_RESCUE_DEVICE, "device", device, NULL);
    }
    if (bus && !is_bus(bus)) {
        return err_new(ERR_UNSUPPORTED_RESCUE_BUS, "bus", bus, "virt",
                       p->in->conf->libvirt.virt_type, NULL);
    }
    if (!bus) {
        p->image = p->in->rescue;
        TRY(bus_for(p, device, &bus));
    }
    d = append(p, DISK_RESCUE);
    set_file(d, "disk.rescue");
    d->format = format_of_image(p, p->in->rescue);
    d->boot_index = 1;
    return place_next(p, d, bus, device, NULL);
}

/* The server's own root disk is no longer what is booted from. */
static void boot_rescue_only(struct disk_layout *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].role != DISK_RESCUE) {
            l->items[i].boot_index = 0;
        }
    }
}

bool disk_layout_is_stable_rescue(const struct image_meta *rescue)
{
    return rescue && (image_meta_prop(rescue, "hw_rescue_device") ||
                      image_meta_prop(rescue, "hw_rescue_bus"));
}

/* ---- All of it ---- */

static struct err *make(struct plan *p)
{
    bool is_stable = disk_layout_is_stable_rescue(p->in->rescue);
    const char *disk_bus = NULL, *cdrom_bus = NULL;

    p->image = p->in->rescue && !is_stable ? p->in->rescue : p->in->image;
    TRY(bus_for(p, "disk", &disk_bus));
    TRY(bus_for(p, "cdrom", &cdrom_bus));
    TRY(set_text(p->out->disk_bus, sizeof(p->out->disk_bus), disk_bus));
    TRY(set_text(p->out->cdrom_bus, sizeof(p->out->cdrom_bus), cdrom_bus));
    if (p->in->rescue && !is_stable) {
        return make_old_rescue(p);
    }
    TRY(read_bdms(p));
    TRY(add_root(p));
    TRY(add_default_ephemeral(p));
    TRY(add_ephemerals(p));
    TRY(add_swap(p));
    TRY(add_config(p, "disk.config"));
    if (is_stable) {
        TRY(add_stable_rescue(p));
        boot_rescue_only(p->out);
    }
    return NULL;
}

struct err *disk_layout_make(const struct disk_layout_input *in, struct disk_layout *ret)
{
    CLEANUP(disk_layout_fini) struct disk_layout out = {0};
    struct plan p = {.in = in, .out = &out};
    const char *type = in->conf->libvirt.images_type;

    if (str_eq(type, "lvm") || str_eq(type, "rbd") || str_eq(type, "ploop")) {
        return err_msg(ERR_NOT_IMPLEMENTED,
                       "[libvirt]images_type %s cannot be had here yet for new disks", type);
    }
    struct err *e = make(&p);

    strv_fini(&p.taken);
    strv_fini(&p.promised);
    TRY(e);
    *ret = out;
    out = (struct disk_layout){0};
    return NULL;
}

void disk_layout_fini(struct disk_layout *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].format);
        free(l->items[i].guest_format);
    }
    free(l->items);
    *l = (struct disk_layout){0};
}

const struct disk_item *disk_layout_find(const struct disk_layout *l, enum disk_role role)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].role == role) {
            return &l->items[i];
        }
    }
    return NULL;
}

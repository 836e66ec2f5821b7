#include "driver/libvirt/guest_build.h"

#include <string.h>

/* [libvirt]disk_cachemodes for files, else what the file system can do. */
static const char *cache_mode(const struct guest_build *b)
{
    static const char *const modes[] = {"default",   "none",       "writethrough",
                                        "writeback", "directsync", "unsafe"};
    const char *mode = b->s->host->has_direct_io ? "none" : "writeback";

    for (size_t i = 0; i < b->conf->libvirt.disk_cachemodes.n; i++) {
        const char *item = b->conf->libvirt.disk_cachemodes.items[i];

        for (size_t k = 0; str_starts(item, "file=") && k < ARRAY_SIZE(modes); k++) {
            if (str_eq(item + strlen("file="), modes[k])) {
                mode = modes[k];
            }
        }
    }
    return mode;
}

/* Preallocated files are written without threads, which needs a cache mode with O_DIRECT. */
static const char *io_mode(const struct guest_build *b, const char *cache)
{
    if (!str_eq(b->conf->dflt.preallocate_images, "space")) {
        return NULL;
    }
    return str_eq(cache, "none") || str_eq(cache, "directsync") ? "native" : "threads";
}

static void add_iotune(struct guest_build *b, struct xb_node *disk)
{
    static const char *const limits[] = {"read_bytes_sec", "read_iops_sec",   "write_bytes_sec",
                                         "write_iops_sec", "total_bytes_sec", "total_iops_sec"};
    struct xb_node *iotune = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        CLEANUP(freep) char *spec = str_printf("quota:disk_%s", limits[i]);
        const char *limit = flavor_spec(b->inst, spec);

        if (limit) {
            iotune = iotune ? iotune : xb_add(disk, "iotune");
            xb_add_text(iotune, limits[i], limit);
        }
    }
}

static void add_disk(struct guest_build *b, const struct disk_item *d, int64_t *unit)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", b->s->dir, d->file);
    const char *cache = cache_mode(b);
    struct xb_node *disk =
        xb_add_with(b->devices, "disk", "type", "file", "device", d->device, NULL);

    xb_add_with(disk, "driver", "name", "qemu", "type", d->format, "cache", cache, "discard",
                b->conf->libvirt.hw_disk_discard, "io", io_mode(b, cache), NULL);
    xb_add_with(disk, "source", "file", path, NULL);
    xb_add_with(disk, "target", "dev", d->target, "bus", d->bus, NULL);
    add_iotune(b, disk);
    if (disk_layout_is_stable_rescue(b->s->rescue) && d->role == DISK_RESCUE) {
        xb_add_with(disk, "boot", "order", "1", NULL);
    }
    if (*unit >= 0 && str_eq(d->bus, "scsi")) {
        struct xb_node *address =
            xb_add_with(disk, "address", "type", "drive", "controller", "0", NULL);

        xb_set_attr_int(address, "unit", (*unit)++);
    }
    b->needs_usb |= str_eq(d->bus, "usb");
}

/* One virtio-scsi controller takes 256 disks, but only if each says where it is. */
void guest_add_disks(struct guest_build *b)
{
    const char *scsi = image_meta_prop(b->image, "hw_scsi_model");
    int64_t unit = str_eq(scsi, "virtio-scsi") ? 0 : -1;

    for (size_t i = 0; i < b->s->disks->n; i++) {
        add_disk(b, &b->s->disks->items[i], &unit);
    }
    if (scsi) {
        xb_add_with(b->devices, "controller", "type", "scsi", "index", "0", "model", scsi, NULL);
    }
}

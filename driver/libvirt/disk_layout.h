#pragma once

/* Which disks a server has and what the guest calls them.
 *
 * Pure: flavor, image, block device mappings in; an ordered list out, from which files are made
 * (server_disks.h) and XML is written (guest_make.h).  Volumes are refused until they are built.
 *
 * There are two kinds of rescue.  The older one boots from the rescue disk and has the server's
 * root disk second, and nothing else; all its choices are made by the rescue image's properties.
 * The stable one (the rescue image says hw_rescue_device or hw_rescue_bus) keeps every disk where
 * it is and adds the rescue disk, from which the guest boots.
 *
 * Source: nova/virt/libvirt/blockinfo.py (get_disk_info, get_disk_mapping, get_root_info,
 * get_disk_bus_for_device_type, get_eph_disk, ...), driver.py _get_guest_storage_config,
 * _create_image.
 *
 * Thread-safety: pure. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/image_meta.h"

enum disk_role {
    DISK_ROOT,      /* "disk" */
    DISK_RESCUE,    /* "disk.rescue" */
    DISK_EPHEMERAL, /* "disk.local" (the only one, without a mapping) or "disk.ephN" */
    DISK_SWAP,      /* "disk.swap" */
    DISK_CONFIG,    /* "disk.config", "disk.config.rescue" */
};

struct disk_item {
    enum disk_role role;
    char file[32];      /* Name in the server's directory. */
    char target[16];    /* "vda", "sda", "hda" */
    char bus[8];        /* "virtio", "scsi", "ide", "sata", "usb", "fdc" */
    char device[8];     /* "disk", "cdrom", "floppy", "lun" */
    char *format;       /* On the host: "qcow2" or "raw"; owned. */
    char *guest_format; /* Of an ephemeral disk: which file system, or NULL; owned. */
    int64_t size;       /* Bytes; 0: whatever the image has. */
    int boot_index;     /* 1 and up; 0: not booted from. */
    int bdm;            /* Which of the mappings it is; -1: none.  Nova writes "/dev/" and target,
                         * bus and device into it where they are not set. */
};

struct disk_layout {
    struct disk_item *items; /* In the order of the guest's XML. */
    size_t n;
    char
        root_target[16]; /* Of what the guest boots from, but in a stable rescue of its own root. */
    char disk_bus[8];    /* Of the root disk's kind. */
    char cdrom_bus[8];
};

struct disk_layout_input {
    const struct conf *conf;
    const struct instance *inst;                  /* flavor, root_device_name, ephemeral_gb, ... */
    const struct image_meta *image;               /* Of the server. */
    const struct image_meta *rescue;              /* Of a rescue, else NULL. */
    const struct block_device_mapping_list *bdms; /* May be NULL. */
    bool has_config_drive;
};

/* ERR_UNSUPPORTED_HARDWARE for a bus that the hypervisor does not know, ERR_NOT_IMPLEMENTED for
 * volumes and images_type rbd and lvm, ERR_INVALID_BDM for a mapping that makes no sense,
 * ERR_TOO_MANY_DISK_DEVICES, ERR_UNSUPPORTED_RESCUE_BUS, ERR_UNSUPPORTED_RESCUE_DEVICE. */
struct err *disk_layout_make(const struct disk_layout_input *, struct disk_layout *ret) MUST_CHECK;
void disk_layout_fini(struct disk_layout *);
/* The first of a role, or NULL. */
const struct disk_item *disk_layout_find(const struct disk_layout *, enum disk_role);
/* Whether a rescue image asks for the stable rescue; NULL does not. */
bool disk_layout_is_stable_rescue(const struct image_meta *rescue);

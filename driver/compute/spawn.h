#pragma once

/* From a server's records to a running guest, and back: what build, start, hard reboot, resume,
 * rescue, rebuild and delete share.
 *
 * Source: nova/virt/libvirt/driver.py (spawn, _hard_reboot, _create_guest_with_network, destroy,
 * cleanup, rescue); contract startup-and-periodics.md 5.16, vif.md 6.8.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/libvirt/image_meta.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

/* What libvirt here can do, read when it is needed first and again after libvirtd was away. */
struct spawner;
struct spawner *spawner_new(void) MUST_CHECK;
struct spawner *spawner_free(struct spawner *);
/* libvirtd was away: it may be another one now.  From any thread; never blocks. */
void spawner_forget_host(struct spawner *);

struct spawn {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    const struct image_meta *image; /* Of the server; NULL: read from the server. */
    struct block_device_mapping_list *bdms;
    const struct vif_list *vifs;
    struct json_object *injected_files; /* NULL: none. */
    const char *admin_pass;
    const struct image_meta *rescue; /* NULL: no rescue. */
    bool has_tags;       /* Ports or disks have device tags, of which the guest is told. */
    bool waits_for_plug; /* Start paused, wait for neutron, resume. */
    struct cancel *stop; /* Ends waits and downloads; NULL: the service's. */
};

/* Directory and disks; what is there already is used.  Names of disks that were left
 * open are written into the mappings and, for the caller to save, into the server.
 * spawn_remove_disks takes it back.
 */
struct err *spawn_make_disks(const struct spawn *) MUST_CHECK;
/* The domain XML; the caller frees. */
struct err *spawn_make_xml(const struct spawn *, char **ret) MUST_CHECK;
/* The <interface> of one port, as spawn_make_xml would write it: for a guest that is there. */
struct err *spawn_make_interface(struct node *, const struct rctx *, struct instance *,
                                 const struct vif *, char **ret) MUST_CHECK;
/* Makes the config drive if it is not there, plugs, defines, starts; with waits_for_plug paused
 * until neutron has said that every port is plugged (vif_plugging_timeout, vif_plugging_is_fatal).
 * After an error there is no domain and no plugged port. */
struct err *spawn_start_guest(const struct spawn *) MUST_CHECK;

/* A server that got a config drive because the site forces it keeps it, whatever the site says
 * later (configdrive.py update_instance).  The caller saves. */
void spawn_note_config_drive(struct node *, struct instance *);
void spawn_remove_disks(const struct spawn *);

/* Ends the guest and unplugs; the definition goes too. */
struct err *spawn_destroy_guest(struct node *, const struct rctx *, struct instance *,
                                const struct vif_list *vifs) MUST_CHECK;
/* Destroys and makes the guest anew from the server's records, disks kept (hard reboot, start).
 * Needs inst, and what is NULL of image, bdms and vifs is read. */
struct err *spawn_hard_reboot(const struct spawn *) MUST_CHECK;

/* Ports for the serial consoles of a server that comes in by live migration: a list, empty without
 * [serial_console]enabled.  Held for ten minutes. */
struct err *spawn_serial_ports(struct node *, const struct rctx *, struct instance *,
                               struct json_object **ret) MUST_CHECK;

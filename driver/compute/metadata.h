#pragma once

/* What a server is told of itself: the documents of the metadata service and of config drives.
 *
 * Pure: objects in, files out, so that golden files can be compared with Nova's.
 *
 * Source: nova/api/metadata/base.py (InstanceMetadata, metadata_for_config_drive), password.py,
 * vendordata_json.py; nova/virt/netutils.py get_network_metadata; nova/virt/libvirt/driver.py
 * _create_configdrive.
 *
 * Thread-safety: pure. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/configdrive.h"
#include "rpc/objects/objects.h"

struct metadata_input {
    const struct conf *conf;
    const struct instance *inst;            /* metadata, system_metadata, keypairs, ec2_ids, flavor,
                                             * device_metadata, security_groups loaded. */
    struct json_object *network_info;       /* The network model: array of VIFs. */
    struct json_object *injected_files;     /* [[path, base64]] or NULL. */
    const char *admin_pass;                 /* Or NULL. */
    const char *availability_zone;          /* Or NULL. */
    struct json_object *static_vendordata;  /* [api]vendordata_jsonfile_path's, or NULL. */
    struct json_object *dynamic_vendordata; /* Or NULL. */
};

/* Every file of a config drive: openstack/<version>/..., openstack/content/NNNN, ec2/<version>/...
 */
struct err *metadata_files(const struct metadata_input *, struct configdrive_files *ret) MUST_CHECK;
/* network_data.json of a network model. */
struct err *metadata_network(struct json_object *network_info, struct json_object **ret) MUST_CHECK;

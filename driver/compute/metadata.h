#pragma once

/* What a server is told of itself: the documents of the metadata service and of config drives.
 *
 * metadata_files is pure, objects in and files out, so that it can be compared with Nova's;
 * metadata_make_drive collects what they need and writes the image.
 *
 * Differences: vendor data of services (DynamicJSON) is left out, and vendor_data.json is left out
 * where StaticJSON is no provider (Nova's build fails).
 *
 * Source: nova/api/metadata/base.py (InstanceMetadata, metadata_for_config_drive),
 * vendordata_json.py; nova/virt/netutils.py; nova/virt/libvirt/driver.py _create_configdrive.
 *
 * Thread-safety: no shared state. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/libvirt/configdrive.h"
#include "rpc/objects/objects.h"

/* Borrowed; all but the first two may be NULL. */
struct metadata_input {
    const struct conf *conf;
    const struct instance *inst; /* metadata, flavor, keypairs, ec2_ids, device_metadata and
                                  * numa_topology are loaded. */
    const struct block_device_mapping_list *bdms;
    struct json_object *network_info;      /* The network model: array of VIFs. */
    struct json_object *injected_files;    /* [[path, base64]] */
    const char *admin_pass;                /* NULL or empty: not told. */
    const struct strv *security_groups;    /* Names. */
    struct json_object *static_vendordata; /* [api]vendordata_jsonfile_path's. */
};

/* Every file of a config drive: ec2/<version>/..., openstack/<version>/..., openstack/content/NNNN.
 * ERR_BASE64 for injected files, ERR_PARSE for user data or a network model that cannot be read. */
struct err *metadata_files(const struct metadata_input *, struct configdrive_files *ret) MUST_CHECK;

/* Names of a server's security groups (without a name: ids), port by port, for the above; 'ports'
 * and 'groups' are neutron's. */
void metadata_group_names(struct json_object *ports, struct json_object *groups, struct strv *ret);
/* Vendor data of the file that the site names; NULL if it names none.  ERR_CONFIG. */
struct err *metadata_vendordata(const struct conf *, struct json_object **ret) MUST_CHECK;

/* Writes a server's config drive.  Of the input, conf, inst and static_vendordata are set here;
 * what the documents need of the server is loaded into 'inst'.  Errors: those of the functions
 * above, of conductor and of configdrive_make. */
struct err *metadata_make_drive(struct node *, const struct rctx *, struct instance *inst,
                                const struct metadata_input *, const char *path) MUST_CHECK;

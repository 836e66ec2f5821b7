#include "driver/compute/metadata.h"

#include "base/base64.h"
#include "driver/compute/metadata_net.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RANDOM_SEED_SIZE 512

/* The versions of each tree, in order; the last is another name of the one before it. */
enum os_version {
    OS_FOLSOM,
    OS_GRIZZLY,
    OS_HAVANA,
    OS_LIBERTY,
    OS_NEWTON_ONE,
    OS_NEWTON_TWO,
    OS_OCATA,
    OS_ROCKY,
    OS_VICTORIA,
    OS_LATEST,
    N_OS_VERSIONS
};
static const char *const os_names[N_OS_VERSIONS] = {
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30",
    "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest"};

enum ec2_version {
    EC2_1_0,
    EC2_2007_01_19,
    EC2_2007_03_01,
    EC2_2007_08_29,
    EC2_2007_10_10,
    EC2_2007_12_15,
    EC2_2008_02_01,
    EC2_2008_09_01,
    EC2_2009_04_04,
    EC2_LATEST,
    N_EC2_VERSIONS
};
static const char *const ec2_names[N_EC2_VERSIONS] = {
    "1.0",        "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10",
    "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "latest"};

/* What is the same in all versions. */
struct docs {
    const struct metadata_input *in;
    struct json_object *network_data;
    struct json_object *files;          /* [{path, content_path}], empty: none. */
    struct json_object *network_config; /* Or NULL. */
    struct configdrive_files content;   /* openstack/content/NNNN */
    char *user_data;                    /* Or NULL. */
    size_t user_data_len;
};

static void docs_fini(struct docs *d)
{
    jv_putp(&d->network_data);
    jv_putp(&d->files);
    jv_putp(&d->network_config);
    configdrive_files_fini(&d->content);
    free(d->user_data);
}

static void add_json(struct configdrive_files *files, const char *tree, const char *version,
                     const char *name, struct json_object *consumed)
{
    CLEANUP(freep) char *path = str_printf("%s/%s/%s", tree, version, name);
    CLEANUP(freep) char *text = jv_text(consumed);

    configdrive_add(files, path, text, strlen(text));
    json_object_put(consumed);
}

static void add_user_data(struct configdrive_files *files, const char *tree, const char *version,
                          const char *name, const struct docs *d)
{
    CLEANUP(freep) char *path = str_printf("%s/%s/%s", tree, version, name);

    if (d->user_data) {
        configdrive_add(files, path, d->user_data, d->user_data_len);
    }
}

static bool has_key(const struct instance *inst)
{
    return !str_is_empty(instance_key_name(inst));
}

static struct json_object *hostname(const struct docs *d)
{
    const char *name = instance_hostname(d->in->inst);
    CLEANUP(freep) char *full = NULL;

    if (!name || str_is_empty(d->in->conf->api.dhcp_domain)) {
        return jv_new_str(name);
    }
    full = str_printf("%s.%s", name, d->in->conf->api.dhcp_domain);
    return jv_new_str(full);
}

static struct json_object *launch_index(const struct instance *inst)
{
    return instance_isnull_launch_index(inst) ? NULL
                                              : json_object_new_int64(instance_launch_index(inst));
}

/* ---- openstack/ ---- */

static struct json_object *random_seed(void)
{
    unsigned char raw[RANDOM_SEED_SIZE];
    CLEANUP(freep) char *text = NULL;

    for (size_t have = 0; have < sizeof raw;) {
        ssize_t n = getrandom(raw + have, sizeof raw - have, 0);

        have += n > 0 ? (size_t)n : 0;
    }
    text = base64_encode(raw, sizeof raw);
    return jv_new_str(text);
}

/* Buses by class, and their addresses. */
static const struct bus_row {
    const struct ovo_class *class;
    unsigned address;
    const char *name;
} buses[] = {
    {&pci_device_bus_class, pci_device_bus_F_address, "pci"},
    {&usb_device_bus_class, usb_device_bus_F_address, "usb"},
    {&scsi_device_bus_class, scsi_device_bus_F_address, "scsi"},
    {&ide_device_bus_class, ide_device_bus_F_address, "ide"},
    {&xen_device_bus_class, xen_device_bus_F_address, "xen"},
};

/* False for a bus that we do not know: its device is left out. */
static bool read_bus(const struct ovo *device, const char **ret_name, const char **ret_address)
{
    int field = ovo_class_field(ovo_class_of(device), "bus");
    const struct ovo *bus;

    *ret_name = "none";
    *ret_address = "none";
    if (field < 0 || !ovo_has(device, (unsigned)field)) {
        return true;
    }
    bus = ovo_get_obj(device, (unsigned)field);
    for (size_t i = 0; bus && i < ARRAY_SIZE(buses); i++) {
        if (ovo_class_is(ovo_class_of(bus), buses[i].class)) {
            *ret_name = buses[i].name;
            if (ovo_has(bus, buses[i].address)) {
                *ret_address = ovo_get_str(bus, buses[i].address);
            }
            return true;
        }
    }
    return false;
}

/* False: nothing to tell of it. */
static bool add_nic(const struct network_interface_metadata *nic, enum os_version v,
                    struct json_object *ret)
{
    bool has_vlan = v >= OS_OCATA && network_interface_metadata_has_vlan(nic) &&
                    !network_interface_metadata_isnull_vlan(nic);

    if (has_vlan) {
        jv_add_int(ret, "vlan", network_interface_metadata_vlan(nic));
    }
    if (v >= OS_ROCKY) {
        jv_add_bool(ret, "vf_trusted",
                    network_interface_metadata_has_vf_trusted(nic) &&
                        network_interface_metadata_vf_trusted(nic));
    }
    jv_add_str(ret, "type", "nic");
    jv_add_str(ret, "mac", network_interface_metadata_mac(nic));
    return network_interface_metadata_has_tags(nic) || has_vlan || v >= OS_ROCKY;
}

static void add_disk(const struct disk_metadata *disk, struct json_object *ret)
{
    jv_add_str(ret, "type", "disk");
    if (disk_metadata_has_serial(disk)) {
        jv_add_str(ret, "serial", disk_metadata_serial(disk));
    }
    if (disk_metadata_has_path(disk)) {
        jv_add_str(ret, "path", disk_metadata_path(disk));
    }
}

static void add_tags(const struct ovo *device, struct json_object *ret)
{
    int field = ovo_class_field(ovo_class_of(device), "tags");
    struct json_object *tags;

    if (field < 0 || !ovo_has(device, (unsigned)field)) {
        return;
    }
    tags = json_object_new_array();
    for (size_t i = 0; i < ovo_n(device, (unsigned)field); i++) {
        json_object_array_add(tags, jv_new_str(ovo_str_at(device, (unsigned)field, i)));
    }
    jv_add(ret, "tags", tags);
}

/* One device, or NULL if it is not told. */
static struct json_object *device_document(struct ovo *device, enum os_version v)
{
    const struct ovo_class *class = ovo_class_of(device);
    CLEANUP(jv_putp) struct json_object *doc = json_object_new_object();
    const char *bus, *address;

    if (!read_bus(device, &bus, &address)) {
        return NULL;
    }
    if (ovo_class_is(class, &network_interface_metadata_class)) {
        if (!add_nic(network_interface_metadata_of(device), v, doc)) {
            return NULL;
        }
    } else if (ovo_class_is(class, &disk_metadata_class)) {
        add_disk(disk_metadata_of(device), doc);
    } else {
        return NULL;
    }
    jv_add_str(doc, "bus", bus);
    jv_add_str(doc, "address", address);
    add_tags(device, doc);
    return TAKE(doc);
}

static struct json_object *devices(const struct instance *inst, enum os_version v)
{
    const struct instance_device_metadata *meta = instance_device_metadata(inst);
    struct json_object *all = json_object_new_array();

    for (size_t i = 0; meta && i < instance_device_metadata_n_devices(meta); i++) {
        struct device_metadata *device = instance_device_metadata_devices_at(meta, i);
        struct json_object *doc = device_document(device_metadata_ovo(device), v);

        if (doc) {
            json_object_array_add(all, doc);
        }
    }
    return all;
}

static struct json_object *dedicated_cpus(const struct instance *inst)
{
    const struct instance_numa_topology *topology = instance_numa_topology(inst);
    CLEANUP(cpuset_fini) struct cpuset all = {0};

    for (size_t i = 0; topology && i < instance_numa_topology_n_cells(topology); i++) {
        const struct instance_numa_cell *cell = instance_numa_topology_cells_at(topology, i);
        const struct cpuset *pinned =
            instance_numa_cell_has_pcpuset(cell) ? instance_numa_cell_pcpuset(cell) : NULL;

        for (size_t k = 0; pinned && k < pinned->n; k++) {
            cpuset_add(&all, pinned->items[k]);
        }
    }
    return cpuset_to_json(&all);
}

static void add_keys(const struct instance *inst, struct json_object *ret)
{
    const struct key_pair_list *list = instance_keypairs(inst);
    const struct key_pair *pair =
        list && key_pair_list_n(list) > 0 ? key_pair_list_at(list, 0) : NULL;

    /* A key may have been deleted since. */
    if (!has_key(inst) || !pair) {
        return;
    }
    struct json_object *public_keys = json_object_new_object();
    struct json_object *keys = json_object_new_array();
    struct json_object *key = json_object_new_object();

    jv_add_str(public_keys, key_pair_name(pair), key_pair_public_key(pair));
    jv_add_str(key, "name", key_pair_name(pair));
    jv_add_str(key, "type", key_pair_type(pair));
    jv_add_str(key, "data", key_pair_public_key(pair));
    json_object_array_add(keys, key);
    jv_add(ret, "public_keys", public_keys);
    jv_add(ret, "keys", keys);
}

static struct json_object *launch_metadata(const struct instance *inst)
{
    struct json_object *meta = json_object_new_object();

    for (size_t i = 0; i < instance_metadata_n(inst); i++) {
        const char *key, *value;

        instance_metadata_at(inst, i, &key, &value);
        jv_add_str(meta, key, value);
    }
    return meta;
}

static struct json_object *meta_data(const struct docs *d, enum os_version v)
{
    const struct instance *inst = d->in->inst;
    struct json_object *m = json_object_new_object();

    jv_add_str(m, "uuid", instance_uuid(inst));
    if (instance_metadata_n(inst) > 0) {
        jv_add(m, "meta", launch_metadata(inst));
    }
    if (json_object_array_length(d->files) > 0) {
        jv_add(m, "files", json_object_get(d->files));
    }
    if (!str_is_empty(d->in->admin_pass)) {
        jv_add_str(m, "admin_pass", d->in->admin_pass);
    }
    if (d->network_config) {
        jv_add(m, "network_config", json_object_get(d->network_config));
    }
    add_keys(inst, m);
    jv_add(m, "hostname", hostname(d));
    jv_add_str(m, "name", instance_display_name(inst));
    jv_add(m, "launch_index", launch_index(inst));
    jv_add_str(m, "availability_zone", instance_availability_zone(inst));
    if (v >= OS_GRIZZLY) {
        jv_add(m, "random_seed", random_seed());
    }
    if (v >= OS_LIBERTY) {
        jv_add_str(m, "project_id", instance_project_id(inst));
    }
    if (v >= OS_NEWTON_ONE) {
        jv_add(m, "devices", devices(inst, v));
    }
    if (v >= OS_VICTORIA) {
        jv_add(m, "dedicated_cpus", dedicated_cpus(inst));
    }
    return m;
}

static struct json_object *static_vendordata(const struct docs *d)
{
    struct json_object *data = d->in->static_vendordata;

    return data ? json_object_get(data) : json_object_new_object();
}

static void add_vendor_data(const struct docs *d, enum os_version v, struct configdrive_files *ret)
{
    bool has_static = strv_has(&d->in->conf->api.vendordata_providers, "StaticJSON");

    if (v >= OS_HAVANA && has_static) {
        add_json(ret, "openstack", os_names[v], "vendor_data.json", static_vendordata(d));
    }
    if (v >= OS_LIBERTY) {
        add_json(ret, "openstack", os_names[v], "network_data.json",
                 json_object_get(d->network_data));
    }
    if (v >= OS_NEWTON_TWO) {
        struct json_object *two = json_object_new_object();

        if (has_static) {
            jv_add(two, "static", static_vendordata(d));
        }
        add_json(ret, "openstack", os_names[v], "vendor_data2.json", two);
    }
}

static void add_openstack(const struct docs *d, enum os_version v, struct configdrive_files *ret)
{
    add_json(ret, "openstack", os_names[v], "meta_data.json", meta_data(d, v));
    add_user_data(ret, "openstack", os_names[v], "user_data", d);
    add_vendor_data(d, v, ret);
}

/* ---- ec2/ ---- */

static struct json_object *security_groups(const struct docs *d)
{
    struct json_object *names = json_object_new_array();

    for (size_t i = 0; d->in->security_groups && i < d->in->security_groups->n; i++) {
        json_object_array_add(names, jv_new_str(d->in->security_groups->items[i]));
    }
    return names;
}

/* nova/block_device.py instance_block_mapping for a server that does not say where its root is. */
static struct json_object *default_block_mapping(void)
{
    struct json_object *m = json_object_new_object();

    jv_add_str(m, "ami", "sda1");
    jv_add_str(m, "ephemeral0", "sda2");
    jv_add_str(m, "root", "/dev/sda1");
    jv_add_str(m, "swap", "sda3");
    return m;
}

/* Volumes by device name, those without one first. */
static void add_volumes(const struct block_device_mapping_list *bdms, struct json_object *ret)
{
    CLEANUP(strv_fini) struct strv names = {0};
    size_t n_unnamed = 0;

    for (size_t i = 0; i < block_device_mapping_list_n(bdms); i++) {
        const struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);

        if (!str_eq(block_device_mapping_destination_type(bdm), "volume")) {
            continue;
        }
        if (block_device_mapping_device_name(bdm)) {
            strv_add(&names, block_device_mapping_device_name(bdm));
        } else {
            n_unnamed++;
        }
    }
    strv_sort(&names);
    for (size_t i = 0; i < n_unnamed + names.n; i++) {
        CLEANUP(freep) char *key = str_printf("ebs%zu", i);

        jv_add_str(ret, key, i < n_unnamed ? NULL : names.items[i - n_unnamed]);
    }
}

/* Swap: the last one counts.  Ephemeral disks are numbered. */
static void add_blanks(const struct block_device_mapping_list *bdms, bool is_swap,
                       struct json_object *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < block_device_mapping_list_n(bdms); i++) {
        const struct block_device_mapping *bdm = block_device_mapping_list_at(bdms, i);
        CLEANUP(freep) char *key = is_swap ? str_dup("swap") : str_printf("ephemeral%zu", n);

        if (!str_eq(block_device_mapping_destination_type(bdm), "volume") &&
            str_eq(block_device_mapping_source_type(bdm), "blank") &&
            str_eq(block_device_mapping_guest_format(bdm), "swap") == is_swap) {
            jv_add_str(ret, key, block_device_mapping_device_name(bdm));
            n++;
        }
    }
}

static void add_if(struct json_object *obj, const char *key, const char *value)
{
    if (!str_is_empty(value)) {
        jv_add_str(obj, key, value);
    }
}

static struct json_object *block_mapping(const struct docs *d)
{
    const struct instance *inst = d->in->inst;
    const char *root = instance_root_device_name(inst);
    struct json_object *m;

    if (!root) {
        return default_block_mapping();
    }
    m = json_object_new_object();
    jv_add_str(m, "ami", str_starts(root, "/dev/") ? root + strlen("/dev/") : root);
    jv_add_str(m, "root", root);
    add_if(m, "ephemeral0", instance_default_ephemeral_device(inst));
    add_if(m, "swap", instance_default_swap_device(inst));
    if (d->in->bdms) {
        add_volumes(d->in->bdms, m);
        add_blanks(d->in->bdms, /* is_swap= */ true, m);
        add_blanks(d->in->bdms, /* is_swap= */ false, m);
    }
    return m;
}

/* "_name" is for the listing of the metadata service; Nova means to leave it out of config drives,
 * but does not. */
static struct json_object *ec2_keys(const struct instance *inst)
{
    struct json_object *all = json_object_new_object();
    struct json_object *key = json_object_new_object();
    CLEANUP(freep) char *name = str_printf("0=%s", instance_key_name(inst));

    jv_add_str(key, "_name", name);
    jv_add_str(key, "openssh-key", instance_key_data(inst));
    jv_add(all, "0", key);
    return all;
}

/* What came after the first version. */
static void add_ec2_later(const struct docs *d, enum ec2_version v, const char *floating_ip,
                          struct json_object *m)
{
    const struct instance *inst = d->in->inst;
    const struct ec2_ids *ids = instance_ec2_ids(inst);

    if (v >= EC2_2007_01_19) {
        jv_add(m, "local-hostname", hostname(d));
        jv_add(m, "public-hostname", hostname(d));
        jv_add_str(m, "public-ipv4", floating_ip ? floating_ip : "");
    }
    if (v >= EC2_2007_08_29) {
        jv_add_str(m, "instance-type", flavor_name(instance_flavor(inst)));
    }
    if (v >= EC2_2007_12_15) {
        jv_add(m, "block-device-mapping", block_mapping(d));
        add_if(m, "kernel-id", ec2_ids_kernel_id(ids));
        add_if(m, "ramdisk-id", ec2_ids_ramdisk_id(ids));
    }
    if (v >= EC2_2008_02_01) {
        struct json_object *placement = json_object_new_object();

        jv_add_str(placement, "availability-zone", instance_availability_zone(inst));
        jv_add(m, "placement", placement);
    }
    if (v >= EC2_2008_09_01) {
        jv_add_str(m, "instance-action", "none");
    }
}

static void add_ec2(const struct docs *d, enum ec2_version v, struct configdrive_files *ret)
{
    const struct instance *inst = d->in->inst;
    struct json_object *m = json_object_new_object();
    const char *fixed_ip, *floating_ip;

    metadata_addresses(d->in->network_info, &fixed_ip, &floating_ip);
    jv_add_str(m, "ami-id", ec2_ids_ami_id(instance_ec2_ids(inst)));
    jv_add(m, "ami-launch-index", launch_index(inst));
    jv_add_str(m, "ami-manifest-path", "FIXME"); /* Nova's word, which guests have come to know. */
    jv_add_str(m, "instance-id", ec2_ids_instance_id(instance_ec2_ids(inst)));
    jv_add(m, "hostname", hostname(d));
    jv_add_str(m, "local-ipv4", fixed_ip);
    jv_add_str(m, "reservation-id", instance_reservation_id(inst));
    jv_add(m, "security-groups", security_groups(d));
    if (has_key(inst)) {
        jv_add(m, "public-keys", ec2_keys(inst));
    }
    add_ec2_later(d, v, floating_ip, m);
    add_user_data(ret, "ec2", ec2_names[v], "user-data", d);
    add_json(ret, "ec2", ec2_names[v], "meta-data.json", m);
}

/* ---- All of it ---- */

/* The next file of openstack/content; returns what points to it. */
static struct json_object *add_content(struct docs *d, const char *key, const char *name,
                                       const char *data, size_t len)
{
    CLEANUP(freep) char *path = str_printf("openstack/content/%04zu", d->content.n);
    struct json_object *pointer = json_object_new_object();

    configdrive_add(&d->content, path, data, len);
    jv_add_str(pointer, key, name);
    jv_add_str(pointer, "content_path", path + strlen("openstack"));
    return pointer;
}

static struct err *read_injected_file(struct docs *d, struct json_object *entry)
{
    const char *path = json_object_get_string(jv_at(entry, 0));
    const char *text = json_object_get_string(jv_at(entry, 1));
    CLEANUP(freep) char *data = NULL;
    size_t len = 0;

    if (!path || !text) {
        return err_msg(ERR_TYPE, "an injected file is no pair of a path and its content");
    }
    CLEANUP(err_freep) struct err *e = base64_decode(text, &data, &len);

    if (e) {
        return err_new(ERR_BASE64, "path", path, NULL);
    }
    json_object_array_add(d->files, add_content(d, "path", path, data, len));
    return NULL;
}

static struct err *docs_read(struct docs *d)
{
    const struct metadata_input *in = d->in;
    CLEANUP(freep) char *interfaces = NULL;

    TRY(metadata_network(in->network_info, &d->network_data));
    TRY(metadata_interfaces(in->network_info, &interfaces));
    if (interfaces) {
        d->network_config =
            add_content(d, "name", "network_config", interfaces, strlen(interfaces));
    }
    for (size_t i = 0; i < jv_len(in->injected_files); i++) {
        TRY(read_injected_file(d, jv_at(in->injected_files, i)));
    }
    if (instance_user_data(in->inst)) {
        TRY_CTX(base64_decode(instance_user_data(in->inst), &d->user_data, &d->user_data_len),
                "reading the user data");
    }
    return NULL;
}

struct err *metadata_files(const struct metadata_input *in, struct configdrive_files *ret)
{
    CLEANUP(docs_fini) struct docs d = {.in = in, .files = json_object_new_array()};
    CLEANUP(strv_fini)
    struct strv skipped = strv_split(in->conf->api.config_drive_skip_versions, " ");

    TRY(docs_read(&d));
    for (enum ec2_version v = 0; v < N_EC2_VERSIONS; v++) {
        if (!strv_has(&skipped, ec2_names[v])) {
            add_ec2(&d, v, ret);
        }
    }
    for (enum os_version v = 0; v < N_OS_VERSIONS; v++) {
        add_openstack(&d, v, ret);
    }
    for (size_t i = 0; i < d.content.n; i++) {
        const struct configdrive_file *f = &d.content.items[i];

        configdrive_add(ret, f->path, f->data, f->len);
    }
    return NULL;
}

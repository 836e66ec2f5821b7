#include "driver/libvirt/image_meta.h"

#include "base/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "image_" /* Of an image's properties in system_metadata. */

/* ---- What the names and values are today ---- */

/* nova/objects/image_meta.py _legacy_property_map */
static const struct {
    const char *old, *name;
} legacy[] = {
    {"architecture", "hw_architecture"},
    {"owner_id", "img_owner_id"},
    {"vmware_disktype", "hw_disk_type"},
    {"vmware_image_version", "img_version"},
    {"vmware_ostype", "os_distro"},
    {"auto_disk_config", "hw_auto_disk_config"},
    {"ipxe_boot", "hw_ipxe_boot"},
    {"xenapi_device_id", "hw_device_id"},
    {"xenapi_image_compression_level", "img_compression_level"},
    {"vmware_linked_clone", "img_linked_clone"},
    {"xenapi_use_agent", "img_use_agent"},
    {"xenapi_skip_agent_inject_ssh", "os_skip_agent_inject_ssh"},
    {"xenapi_skip_agent_inject_files_at_boot", "os_skip_agent_inject_files_at_boot"},
    {"cache_in_nova", "img_cache_in_nova"},
    {"vm_mode", "hw_vm_mode"},
    {"bittorrent", "img_bittorrent"},
    {"mappings", "img_mappings"},
    {"block_device_mapping", "img_block_device_mapping"},
    {"bdm_v2", "img_bdm_v2"},
    {"root_device_name", "img_root_device_name"},
    {"hypervisor_version_requires", "img_hv_requested_version"},
    {"hypervisor_type", "img_hv_type"},
};

#define ARCHS                                                                                      \
    "alpha armv6 armv7l armv7b aarch64 cris i686 ia64 lm32 m68k microblaze microblazeel mips "     \
    "mipsel mips64 mips64el openrisc parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb s390 s390x "   \
    "sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb"
#define BUSES "fdc ide sata scsi usb virtio xen lxc uml"

/* What a property may be: words, or a number where 'values' is NULL.  Properties that are not here
 * may be anything: texts, and truth values, where whatever is not true is false. */
static const struct {
    const char *name, *values;
    bool ignores_case;
} kinds[] = {
    {"hw_architecture", ARCHS, true},
    {"hw_emulation_architecture", ARCHS, true},
    {"hw_cdrom_bus", BUSES, false},
    {"hw_cpu_cores", NULL, false},
    {"hw_cpu_sockets", NULL, false},
    {"hw_cpu_threads", NULL, false},
    {"hw_cpu_max_cores", NULL, false},
    {"hw_cpu_max_sockets", NULL, false},
    {"hw_cpu_max_threads", NULL, false},
    {"hw_cpu_policy", "dedicated shared mixed", false},
    {"hw_cpu_thread_policy", "prefer isolate require", false},
    {"hw_device_id", NULL, false},
    {"hw_disk_bus", BUSES, false},
    {"hw_ephemeral_encryption_format", "plain luks luksv2", false},
    {"hw_firmware_type", "uefi bios", false},
    {"hw_floppy_bus", BUSES, false},
    {"hw_input_bus", "usb virtio", false},
    {"hw_numa_nodes", NULL, false},
    {"hw_pci_numa_affinity_policy", "required legacy preferred socket", false},
    {"hw_pointer_model", "usbtablet", false},
    {"hw_rescue_bus", BUSES, false},
    {"hw_rescue_device", "cdrom disk floppy fs lun", false},
    {"hw_rng_model", "virtio", false},
    {"hw_scsi_model", "buslogic ibmvscsi lsilogic lsisas1068 lsisas1078 virtio-scsi vmpvscsi",
     true},
    {"hw_serial_port_count", NULL, false},
    {"hw_tpm_model", "tpm-tis tpm-crb", false},
    {"hw_tpm_version", "1.2 2.0", false},
    {"hw_video_model", "cirrus qxl vga vmvga xen virtio gop none bochs", false},
    {"hw_video_ram", NULL, false},
    {"hw_vif_model",
     "virtio ne2k_pci pcnet rtl8139 e1000 e1000e netfront spapr-vlan lan9118 sriov vmxnet vmxnet3",
     true},
    {"hw_viommu_model", "intel smmuv3 virtio auto", false},
    {"hw_vm_mode", "hvm xen uml exe", true},
    {"hw_watchdog_action", "none pause poweroff reset disabled", false},
    {"img_compression_level", NULL, false},
    {"img_config_drive", "optional mandatory", false},
    {"img_hv_type",
     "baremetal bhyve docker fake hyperv ironic kqemu kvm lxc lxd openvz parallels phyp qemu test "
     "uml vbox vz vmware xen zvm prsm",
     true},
    {"img_version", NULL, false},
    {"os_secure_boot", "required disabled optional", false},
    {"os_type", "linux windows", true},
};

/* Other words for the same (nova/objects/fields.py, the coerce and canonicalize methods). */
static const struct {
    const char *name, *other, *value;
} aliases[] = {
    {"hw_architecture", "i386", "i686"},
    {"hw_architecture", "i486", "i686"},
    {"hw_architecture", "i586", "i686"},
    {"hw_architecture", "x86_32", "i686"},
    {"hw_architecture", "x86_32p", "i686"},
    {"hw_architecture", "amd64", "x86_64"},
    {"hw_emulation_architecture", "amd64", "x86_64"},
    {"hw_scsi_model", "lsilogicsas", "lsisas1068"},
    {"hw_scsi_model", "paravirtual", "vmpvscsi"},
    {"hw_vif_model", "virtuale1000", "e1000"},
    {"hw_vif_model", "virtuale1000e", "e1000e"},
    {"hw_vif_model", "virtualpcnet32", "pcnet"},
    {"hw_vif_model", "virtualsriovethernetcard", "sriov"},
    {"hw_vif_model", "virtualvmxnet", "vmxnet"},
    {"hw_vif_model", "virtualvmxnet3", "vmxnet3"},
    {"img_hv_type", "xapi", "xen"},
    {"hw_vm_mode", "pv", "xen"},
    {"hw_vm_mode", "hv", "hvm"},
    {"hw_vm_mode", "baremetal", "hvm"},
};

static bool is_a_word_of(const char *words, const char *value)
{
    CLEANUP(strv_fini) struct strv all = strv_split(words, " ");

    return strv_has(&all, value);
}

/* The value as the rest knows it. */
static struct err *check(const char *name, const char *value, char **ret)
{
    size_t k = 0;
    int64_t unused;

    while (k < ARRAY_SIZE(kinds) && !str_eq(kinds[k].name, name)) {
        k++;
    }
    CLEANUP(freep) char *text = str_dup(value);

    if (k < ARRAY_SIZE(kinds)) {
        for (char *c = text; kinds[k].ignores_case && *c; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
            if (str_eq(aliases[i].name, name) && str_eq(aliases[i].other, text)) {
                str_set(&text, aliases[i].value);
            }
        }
        if (!kinds[k].values ? !str_to_i64(text, &unused) : !is_a_word_of(kinds[k].values, text)) {
            return err_msg(ERR_PARSE, "the image's property %s is '%s'; it can be: %s", name, value,
                           kinds[k].values ? kinds[k].values : "a number");
        }
    }
    *ret = TAKE(text);
    return NULL;
}

static struct err *put(struct json_object *props, const char *name, const char *value)
{
    CLEANUP(freep) char *text = NULL;

    TRY(check(name, value, &text));
    jv_add_str(props, name, text);
    return NULL;
}

/* Where the type of a disk adapter once was, the bus and the controller's model are now. */
static struct err *put_adapter(struct json_object *props, const char *adapter)
{
    if (str_is_empty(adapter)) {
        return NULL;
    }
    if (str_eq(adapter, "ide")) {
        return put(props, "hw_disk_bus", "ide");
    }
    TRY(put(props, "hw_disk_bus", "scsi"));
    return put(props, "hw_scsi_model", adapter);
}

static const char *todays_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(legacy); i++) {
        if (str_eq(legacy[i].old, name)) {
            return legacy[i].name;
        }
    }
    return NULL;
}

static const char *text_of(struct json_object *props, const char *name)
{
    return json_object_get_string(jv_get(props, name));
}

/* Today's names win over yesterday's, so they come last. */
static struct err *translate(struct json_object *raw, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *props = json_object_new_object();

    json_object_object_foreach(raw, old, old_value)
    {
        if (old_value && todays_name(old)) {
            TRY(put(props, todays_name(old), json_object_get_string(old_value)));
        }
    }
    TRY(put_adapter(props, text_of(raw, "vmware_adaptertype")));
    json_object_object_foreach(raw, name, value)
    {
        if (value && !todays_name(name)) {
            TRY(put(props, name, json_object_get_string(value)));
        }
    }
    *ret = TAKE(props);
    return NULL;
}

/* ---- Reading ---- */

static char *text_or_null(const char *text)
{
    return str_is_empty(text) ? NULL : str_dup(text);
}

static int64_t number(struct json_object *o, const char *name, int64_t dflt)
{
    const char *text = text_of(o, name);
    int64_t n;

    return text && str_to_i64(text, &n) ? n : dflt;
}

static struct err *read(struct json_object *attrs, struct json_object *raw, struct image_meta *ret)
{
    struct json_object *props = NULL;

    TRY(translate(raw, &props));
    *ret = (struct image_meta){.id = text_or_null(text_of(attrs, "id")),
                               .name = text_or_null(text_of(attrs, "name")),
                               .disk_format = text_or_null(text_of(attrs, "disk_format")),
                               .container_format = text_or_null(text_of(attrs, "container_format")),
                               .min_disk = number(attrs, "min_disk", 0),
                               .min_ram = number(attrs, "min_ram", 0),
                               .size = number(attrs, "size", -1),
                               .props = props};
    return NULL;
}

struct err *image_meta_of_instance(const struct instance *inst, struct image_meta *ret)
{
    static const char *const of_image[] = {"min_ram", "min_disk", "disk_format",
                                           "container_format"};
    CLEANUP(jv_putp) struct json_object *attrs = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *raw = json_object_new_object();

    for (size_t i = 0; i < instance_n_system_metadata(inst); i++) {
        const char *key, *value;
        bool is_attr = false;

        instance_system_metadata_at(inst, i, &key, &value);
        if (!value || !str_starts(key, PREFIX)) {
            continue;
        }
        key += strlen(PREFIX);
        for (size_t k = 0; k < ARRAY_SIZE(of_image); k++) {
            is_attr |= str_eq(of_image[k], key);
        }
        jv_add_str(is_attr ? attrs : raw, key, value);
    }
    if (instance_has_image_ref(inst)) {
        jv_add_str(attrs, "id", instance_image_ref(inst));
    }
    return read(attrs, raw, ret);
}

struct err *image_meta_of_json(struct json_object *image, struct image_meta *ret)
{
    CLEANUP(jv_putp) struct json_object *none = json_object_new_object();
    struct json_object *props = jv_get(image, "properties");

    if (image && !json_object_is_type(image, json_type_object)) {
        return err_msg(ERR_PARSE, "an image is no JSON object");
    }
    if (props && !json_object_is_type(props, json_type_object)) {
        return err_msg(ERR_PARSE, "an image's properties are no JSON object");
    }
    return read(image ? image : none, props ? props : none, ret);
}

void image_meta_fini(struct image_meta *m)
{
    free(m->id);
    free(m->name);
    free(m->disk_format);
    free(m->container_format);
    jv_putp(&m->props);
    *m = (struct image_meta){0};
}

/* ---- Asking ---- */

static bool is_true(const char *value)
{
    static const char *const words[] = {"1", "t", "true", "on", "y", "yes"};
    CLEANUP(freep) char *copy = str_dup(value);
    const char *text = str_strip(copy);

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (str_ieq(words[i], text)) {
            return true;
        }
    }
    return false;
}

const char *image_meta_prop(const struct image_meta *m, const char *name)
{
    return text_of(m->props, name);
}

bool image_meta_bool(const struct image_meta *m, const char *name, bool dflt)
{
    const char *value = image_meta_prop(m, name);

    return value ? is_true(value) : dflt;
}

int64_t image_meta_int(const struct image_meta *m, const char *name, int64_t dflt)
{
    return number(m->props, name, dflt);
}

const char *flavor_spec(const struct instance *inst, const char *name)
{
    const struct flavor *flavor = instance_flavor(inst);

    return flavor_has_extra_specs(flavor) ? flavor_extra_specs_get(flavor, name) : NULL;
}

bool flavor_spec_bool(const struct instance *inst, const char *name, bool dflt)
{
    const char *value = flavor_spec(inst, name);

    return value ? is_true(value) : dflt;
}

const char *guest_setting(const struct instance *inst, const struct image_meta *image,
                          const char *spec, const char *prop)
{
    const char *of_flavor = flavor_spec(inst, spec);

    return of_flavor ? of_flavor : image_meta_prop(image, prop);
}

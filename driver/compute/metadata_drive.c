#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/metadata.h"

static const char *name_of(struct json_object *groups, const char *id)
{
    for (size_t i = 0; i < jv_len(groups); i++) {
        struct json_object *group = jv_at(groups, i);
        const char *name = json_object_get_string(jv_get(group, "name"));

        if (str_eq(json_object_get_string(jv_get(group, "id")), id)) {
            return str_is_empty(name) ? id : name;
        }
    }
    return NULL;
}

void metadata_group_names(struct json_object *ports, struct json_object *groups, struct strv *ret)
{
    for (size_t i = 0; i < jv_len(ports); i++) {
        struct json_object *ids = jv_get(jv_at(ports, i), "security_groups");

        for (size_t k = 0; k < jv_len(ids); k++) {
            const char *name = name_of(groups, json_object_get_string(jv_at(ids, k)));

            if (name) {
                strv_add(ret, name);
            }
        }
    }
}

struct err *metadata_vendordata(const struct conf *conf, struct json_object **ret)
{
    const char *path = conf->api.vendordata_jsonfile_path;
    CLEANUP(freep) char *text = NULL;
    size_t len = 0;

    if (str_is_empty(path)) {
        *ret = NULL;
        return NULL;
    }
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, &len);

    if (!e) {
        e = jv_parse(text, len, ret);
    }
    return e ? err_msg(ERR_CONFIG, "[api]vendordata_jsonfile_path '%s': %s", path, err_message(e))
             : NULL;
}

static void warn_of_dynamic(const struct conf *conf)
{
    if (strv_has(&conf->api.vendordata_providers, "DynamicJSON") &&
        conf->api.vendordata_dynamic_targets.n > 0) {
        log_warning(LOG_COMPUTE, "config drive: vendor data of other services "
                                 "([api]vendordata_dynamic_targets) is not asked for, leaving it "
                                 "out");
    }
}

/* The EC2 documents name them; nothing else asks neutron for them, so the model does not have them.
 */
static struct err *read_groups(struct node *node, const struct instance *inst, struct strv *ret)
{
    CLEANUP(jv_putp) struct json_object *ports = NULL;
    CLEANUP(jv_putp) struct json_object *groups = NULL;
    CLEANUP(strv_fini) struct strv ids = {0};

    TRY(neutron_ports_by_device(node->neutron, instance_uuid(inst), instance_project_id(inst),
                                &ports));
    for (size_t i = 0; i < jv_len(ports); i++) {
        struct json_object *of_port = jv_get(jv_at(ports, i), "security_groups");

        for (size_t k = 0; k < jv_len(of_port); k++) {
            const char *id = json_object_get_string(jv_at(of_port, k));

            if (id && !strv_has(&ids, id)) {
                strv_add(&ids, id);
            }
        }
    }
    TRY(neutron_security_groups_by_id(node->neutron, &ids, &groups));
    metadata_group_names(ports, groups, ret);
    return NULL;
}

struct err *metadata_make_drive(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct metadata_input *given, const char *path)
{
    static const char *const attrs[] = {
        "ec2_ids",       "flavor",   "metadata",        "system_metadata",
        "numa_topology", "keypairs", "device_metadata", NULL};
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(jv_putp) struct json_object *vendordata = NULL;
    CLEANUP(strv_fini) struct strv groups = {0};
    CLEANUP(configdrive_files_fini) struct configdrive_files files = {0};
    struct metadata_input in = *given;

    TRY_CTX(instance_load(node->conductor, ctx, inst, attrs), "loading what the server is told");
    TRY(metadata_vendordata(conf, &vendordata));
    TRY_CTX(read_groups(node, inst, &groups), "reading the security groups");
    warn_of_dynamic(conf);
    in.conf = conf;
    in.inst = inst;
    in.static_vendordata = vendordata;
    in.security_groups = &groups;
    TRY(metadata_files(&in, &files));
    log_info(LOG_COMPUTE, "making the config drive %s", path);
    return configdrive_make(conf, &files, path);
}

#include "driver/compute/group.h"

#include "driver/compute/tracker.h"

/* Members that are here or on their way here, without the server itself. */
static struct err *members_here(struct node *node, const struct rctx *ctx, struct instance *inst,
                                struct instance_group *group, unsigned *ret)
{
    CLEANUP(strv_fini) struct strv here = {0};
    CLEANUP(migration_list_freep) struct migration_list *moves = NULL;

    TRY(instance_uuids_by_host(node->conductor, ctx, node->host, &here));
    TRY(migration_list_in_progress(node->conductor, ctx, node->host,
                                   tracker_nodename(node->tracker),
                                   /* with_error= */ false, &moves));
    for (size_t i = 0; i < migration_list_n(moves); i++) {
        const char *uuid = migration_instance_uuid(migration_list_at(moves, i));

        if (uuid && !strv_has(&here, uuid)) {
            strv_add(&here, uuid);
        }
    }
    *ret = 0;
    for (size_t i = 0; i < instance_group_n_members(group); i++) {
        const char *uuid = instance_group_members_at(group, i);

        *ret += !str_eq(uuid, instance_uuid(inst)) && strv_has(&here, uuid);
    }
    return NULL;
}

static int64_t most_on_a_host(const struct instance_group *group)
{
    const char *text = instance_group__rules_get(group, "max_server_per_host");
    int64_t most = 1;

    return text && str_to_i64(text, &most) ? most : 1;
}

static struct err *check_apart(struct node *node, const struct rctx *ctx, struct instance *inst,
                               struct instance_group *group)
{
    unsigned n_here;

    TRY(members_here(node, ctx, inst, group, &n_here));
    return n_here < most_on_a_host(group)
               ? NULL
               : err_new(ERR_GROUP_AFFINITY_VIOLATION, "policy", "Anti-affinity", NULL);
}

/* Members that are nowhere yet forbid nothing: several may be built at once. */
static struct err *check_together(struct node *node, const struct rctx *ctx, struct instance *inst,
                                  struct instance_group *group)
{
    CLEANUP(jv_putp) struct json_object *hosts = NULL;
    struct json_object *kwargs = json_object_new_object();
    struct json_object *exclude = json_object_new_array();

    json_object_array_add(exclude, jv_new_str(instance_uuid(inst)));
    jv_add(kwargs, "exclude", exclude);
    TRY(conductor_object_action(node->conductor, ctx, instance_group_ovo(group), "get_hosts",
                                /* args= */ NULL, kwargs, &hosts));
    size_t n = json_object_is_type(hosts, json_type_array) ? json_object_array_length(hosts) : 0;

    for (size_t i = 0; i < n; i++) {
        if (str_eq(json_object_get_string(json_object_array_get_idx(hosts, i)), node->host)) {
            return NULL;
        }
    }
    return n == 0 ? NULL : err_new(ERR_GROUP_AFFINITY_VIOLATION, "policy", "Affinity", NULL);
}

struct err *group_check(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(instance_group_freep) struct instance_group *group = NULL;
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    if (conf->workarounds.disable_group_policy_check_upcall) {
        return NULL;
    }
    TRY(instance_group_by_instance(node->conductor, ctx, instance_uuid(inst), &group));
    const char *policy =
        group && instance_group_has_policy(group) ? instance_group_policy(group) : NULL;

    if (str_eq(policy, "anti-affinity")) {
        return check_apart(node, ctx, inst, group);
    }
    return str_eq(policy, "affinity") ? check_together(node, ctx, inst, group) : NULL;
}

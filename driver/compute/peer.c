#include "driver/compute/peer.h"

static struct rpc_target target(const char *host)
{
    return (struct rpc_target){.topic = NODE_TOPIC, .server = host, .version = "6.0"};
}

/* long_rpc_timeout for the whole call, with signs of life every rpc_response_timeout. */
static struct rpc_times long_times(struct node *node, struct cancel *cancel)
{
    const struct conf *conf = conf_get(node->conf);
    struct rpc_times times = {.timeout_ms = conf->dflt.long_rpc_timeout * 1000,
                              .monitor_ms = conf->dflt.rpc_response_timeout * 1000,
                              .cancel = cancel};

    conf_put(conf);
    return times;
}

static struct json_object *args_with_instance(struct instance *inst)
{
    struct json_object *args = json_object_new_object();

    jv_add(args, "instance", instance_to_json(inst));
    return args;
}

static struct err *migrate_data_result(struct json_object *result, const char *what,
                                       struct libvirt_live_migrate_data **ret)
{
    if (!result) {
        return err_msg(ERR_MIGRATION_ERROR, "%s answered nothing", what);
    }
    TRY_CTX(libvirt_live_migrate_data_from_json(result, ret), "reading the answer of %s", what);
    return NULL;
}

struct err *peer_check_source(struct node *node, const struct rctx *ctx, const char *host,
                              struct instance *inst, struct libvirt_live_migrate_data *md,
                              struct libvirt_live_migrate_data **ret)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);
    struct json_object *args = args_with_instance(inst);

    jv_add(args, "dest_check_data", libvirt_live_migrate_data_to_json(md));
    CLEANUP(err_freep)
    struct err *e = rpc_call(node->client, ctx, &to, "check_can_live_migrate_source", args,
                             &(struct rpc_times){0}, &result);

    if (!e) {
        e = migrate_data_result(result, "check_can_live_migrate_source", ret);
    }
    if (err_is(e, ERR_MIGRATION_PRE_CHECK)) {
        return TAKE(e);
    }
    if (e) {
        CLEANUP(freep)
        char *reason = str_printf("source host %s: %s: %s", host, err_class(e), err_message(e));

        return err_new(ERR_MIGRATION_PRE_CHECK, "reason", reason, NULL);
    }
    return NULL;
}

struct err *peer_pre_live_migration(struct node *node, const struct rctx *ctx, const char *host,
                                    struct instance *inst, const char *disk,
                                    struct libvirt_live_migrate_data *md, struct cancel *cancel,
                                    struct libvirt_live_migrate_data **ret)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);
    struct rpc_times times = long_times(node, cancel);
    struct json_object *args = args_with_instance(inst);

    jv_add_str(args, "disk", disk);
    jv_add(args, "migrate_data", libvirt_live_migrate_data_to_json(md));
    TRY(rpc_call(node->client, ctx, &to, "pre_live_migration", args, &times, &result));
    return migrate_data_result(result, "pre_live_migration", ret);
}

struct err *peer_post_at_destination(struct node *node, const struct rctx *ctx, const char *host,
                                     struct instance *inst, bool is_block)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);
    struct rpc_times times = long_times(node, /* cancel= */ NULL);
    struct json_object *args = args_with_instance(inst);

    jv_add_bool(args, "block_migration", is_block);
    return rpc_call(node->client, ctx, &to, "post_live_migration_at_destination", args, &times,
                    &result);
}

struct err *peer_rollback_at_destination(struct node *node, const struct rctx *ctx,
                                         const char *host, struct instance *inst,
                                         bool destroy_disks, struct libvirt_live_migrate_data *md)
{
    struct rpc_target to = target(host);
    struct json_object *args = args_with_instance(inst);

    jv_add_bool(args, "destroy_disks", destroy_disks);
    jv_add(args, "migrate_data", libvirt_live_migrate_data_to_json(md));
    return rpc_cast(node->client, ctx, &to, "rollback_live_migration_at_destination", args);
}

struct err *peer_drop_move_claim(struct node *node, const struct rctx *ctx, const char *host,
                                 struct instance *inst)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);

    return rpc_call(node->client, ctx, &to, "drop_move_claim_at_destination",
                    args_with_instance(inst), &(struct rpc_times){0}, &result);
}

struct err *peer_remove_volume_connection(struct node *node, const struct rctx *ctx,
                                          const char *host, struct instance *inst,
                                          const char *volume_id)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);
    struct json_object *args = args_with_instance(inst);

    jv_add_str(args, "volume_id", volume_id);
    return rpc_call(node->client, ctx, &to, "remove_volume_connection", args,
                    &(struct rpc_times){0}, &result);
}

struct err *peer_check_shared_storage(struct node *node, const struct rctx *ctx, const char *host,
                                      const char *file, bool *ret)
{
    CLEANUP(jv_putp) struct json_object *result = NULL;
    struct rpc_target to = target(host);
    struct json_object *args = json_object_new_object(), *data = json_object_new_object();

    jv_add_str(data, "filename", file);
    jv_add(args, "data", data);
    TRY(rpc_call(node->client, ctx, &to, "check_instance_shared_storage", args,
                 &(struct rpc_times){0}, &result));
    if (!json_object_is_type(result, json_type_boolean)) {
        return err_msg(ERR_PARSE, "check_instance_shared_storage: the answer is no boolean");
    }
    *ret = json_object_get_boolean(result);
    return NULL;
}

/* build_and_run_instance: declined, so that the conductor takes the next host.
 *
 * Building servers is not part of this service yet; a host that runs it serves servers that are
 * there. What the scheduler may send all the same goes back the way that Nova reschedules a failed
 * build.
 *
 * Source: nova/compute/manager.py _do_build_and_run_instance (RescheduledException),
 * nova/conductor/rpcapi.py build_instances 1.19. */

#include "base/log.h"
#include "driver/compute/handlers.h"

static const char reason[] = "this compute service does not build servers";

static struct json_object *list_of(struct json_object *item)
{
    struct json_object *list = json_object_new_array();

    json_object_array_add(list, item);
    return list;
}

static struct json_object *ref_or_empty_list(struct json_object *json)
{
    return json ? json_object_get(json) : json_object_new_array();
}

/* Nobody can take it: the server ends in ERROR with the reason. */
static struct err *give_up(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(err_freep)
    struct err *fault =
        err_new(ERR_RESCHEDULED, "instance_uuid", instance_uuid(inst), "reason", reason, NULL);

    instance_set_vm_state(inst, "error");
    instance_set_task_state(inst, NULL);
    TRY(instance_save(node->conductor, ctx, inst, NULL));
    return instance_fault_create(node->conductor, ctx, instance_uuid(inst), node->host, fault);
}

/* The retry information says why, as conductor's log and the fault show it. */
static struct json_object *filter_properties_with_reason(struct json_object *filter_properties,
                                                         const char *uuid)
{
    struct json_object *fp = jv_dup(filter_properties);
    struct json_object *retry = jv_get(fp, "retry");

    if (retry) {
        CLEANUP(freep)
        char *text = str_printf("Build of instance %s was re-scheduled: %s", uuid, reason);

        jv_add(retry, "exc", list_of(jv_new_str(text)));
        jv_add_str(retry, "exc_reason", text);
    }
    return fp;
}

struct err *compute_build_and_run_instance(struct node *node, const struct rctx *ctx,
                                           struct args_build_and_run_instance *a,
                                           struct json_object **ret)
{
    static const struct rpc_target conductor = {
        .topic = "conductor", .namespace_ = "compute_task", .version = "1.19"};
    struct instance *inst = a->instance;
    struct json_object *args = json_object_new_object();

    (void)ret;
    if (!a->filter_properties || !jv_get(a->filter_properties, "retry") || !a->host_list) {
        json_object_put(args);
        return give_up(node, ctx, inst);
    }
    log_info(LOG_COMPUTE, "server cannot be built here, handing it back for the next host");
    instance_set_host(inst, NULL);
    instance_set_node(inst, NULL);
    instance_set_task_state(inst, "scheduling");
    struct err *e = instance_save(node->conductor, ctx, inst, NULL);

    if (e) {
        json_object_put(args);
        return e;
    }
    err_ignore(placement_delete_allocations(node->placement, instance_uuid(inst)),
               "removing the allocations of a server that goes elsewhere");
    jv_add(args, "instances", list_of(instance_to_json(inst)));
    jv_add(args, "image", a->image ? json_object_get(a->image) : json_object_new_object());
    jv_add(args, "filter_properties",
           filter_properties_with_reason(a->filter_properties, instance_uuid(inst)));
    jv_add_str(args, "admin_password", a->admin_password);
    jv_add(args, "injected_files", ref_or_empty_list(a->injected_files));
    jv_add(args, "requested_networks",
           a->requested_networks ? network_request_list_to_json(a->requested_networks) : NULL);
    jv_add(args, "security_groups", ref_or_empty_list(a->security_groups));
    jv_add(args, "block_device_mapping",
           a->block_device_mapping ? block_device_mapping_list_to_json(a->block_device_mapping)
                                   : NULL);
    jv_add_bool(args, "legacy_bdm", false);
    jv_add(args, "request_spec", a->request_spec ? request_spec_to_json(a->request_spec) : NULL);
    jv_add(args, "host_lists", list_of(json_object_get(a->host_list)));
    return rpc_cast(node->client, ctx, &conductor, "build_instances", args);
}

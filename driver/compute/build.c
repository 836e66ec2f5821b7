/* build_and_run_instance: a table of steps, and what follows from the error of each.
 *
 * Source: nova/compute/manager.py _do_build_and_run_instance, _build_and_run_instance,
 * _build_resources, _cleanup_allocated_networks; nova/conductor/rpcapi.py build_instances 1.19;
 * contract startup-and-periodics.md 5.16. */

#include "base/clock.h"
#include "base/log.h"
#include "base/step.h"
#include "driver/compute/building.h"
#include "driver/compute/group.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"

#include <inttypes.h>
#include <string.h>

static const char *const expect_scheduling[] = {"scheduling", "", NULL};
static const char *const expect_none[] = {"", NULL};
static const char *const expect_networking[] = {"networking", NULL};
static const char *const expect_mapping[] = {"block_device_mapping", NULL};
static const char *const expect_spawning[] = {"spawning", NULL};

struct build {
    struct node *node;
    const struct rctx *ctx;
    struct instance *inst;
    struct args_build_and_run_instance *a;
    struct image_meta image;
    struct vif_list vifs;
    struct spawn spawn;
    int64_t step_ms;       /* When the present step began. */
    const struct err *why; /* Why it is handed back. */
};

static void build_fini(struct build *b)
{
    image_meta_fini(&b->image);
    vif_list_fini(&b->vifs);
}

/* ---- Steps ---- */

static struct err *save_state(struct build *b, const char *task_state,
                              const char *const *expected_task_states)
{
    instance_set_vm_state(b->inst, "building");
    instance_set_task_state(b->inst, task_state);
    return instance_save(b->node->conductor, b->ctx, b->inst, expected_task_states);
}

static struct err *build_note(void *arg)
{
    struct build *b = arg;

    return building_begin(b->node, instance_uuid(b->inst));
}

static struct err *build_claim(void *arg)
{
    struct build *b = arg;

    return tracker_claim_instance(b->node->tracker, b->ctx, b->inst, b->a->limits);
}

/* The record's host and node are written by what ends the build. */
static void build_unclaim(void *arg)
{
    struct build *b = arg;

    tracker_abort_instance(b->node->tracker, b->ctx, instance_uuid(b->inst));
}

/* Only a server that was asked into a group is looked at: that saves everybody else a call. */
static bool has_group_hint(const struct build *b)
{
    const struct request_spec *spec = b->a->request_spec;
    struct json_object *hints =
        spec && request_spec_has_scheduler_hints(spec) ? request_spec_scheduler_hints(spec) : NULL;

    if (!hints || json_object_object_length(hints) == 0) {
        hints = b->a->filter_properties ? jv_get(b->a->filter_properties, "scheduler_hints") : NULL;
    }
    return hints && jv_get(hints, "group");
}

static struct err *build_check_group(void *arg)
{
    struct build *b = arg;

    return has_group_hint(b) ? group_check(b->node, b->ctx, b->inst) : NULL;
}

static struct err *build_networks(void *arg)
{
    struct build *b = arg;

    TRY(save_state(b, "networking", expect_none));
    return netalloc_create(b->node, b->ctx, b->inst, b->a->requested_networks,
                           b->a->security_groups, b->a->request_spec, &b->vifs);
}

static void build_release_networks(void *arg)
{
    struct build *b = arg;

    err_ignore(netalloc_release(b->node, b->ctx, b->inst),
               "releasing the ports of a build that failed");
}

static bool has_tags(const struct args_build_and_run_instance *a)
{
    const struct network_request_list *nets = a->requested_networks;
    const struct block_device_mapping_list *bdms = a->block_device_mapping;
    bool ret = false;

    for (size_t i = 0; nets && i < network_request_list_n(nets); i++) {
        const struct network_request *r = network_request_list_at(nets, i);

        ret |= network_request_has_tag(r) && network_request_tag(r);
    }
    for (size_t i = 0; bdms && i < block_device_mapping_list_n(bdms); i++) {
        const struct block_device_mapping *m = block_device_mapping_list_at(bdms, i);

        ret |= block_device_mapping_has_tag(m) && block_device_mapping_tag(m);
    }
    return ret;
}

static struct err *build_disks(void *arg)
{
    struct build *b = arg;

    TRY(save_state(b, "block_device_mapping", expect_networking));
    b->spawn = (struct spawn){
        .node = b->node,
        .ctx = b->ctx,
        .inst = b->inst,
        .image = &b->image,
        .bdms = b->a->block_device_mapping,
        .vifs = &b->vifs,
        .injected_files = b->a->injected_files,
        .admin_pass = b->a->admin_password,
        .has_tags = has_tags(b->a),
        .waits_for_plug = true,
    };
    TRY(save_state(b, "spawning", expect_mapping));
    return spawn_make_disks(&b->spawn);
}

static void build_remove_disks(void *arg)
{
    struct build *b = arg;

    if (b->spawn.node) { /* Else the step ended before there was anything. */
        spawn_remove_disks(&b->spawn);
    }
}

static struct err *build_guest(void *arg)
{
    struct build *b = arg;

    return spawn_start_guest(&b->spawn);
}

static void build_destroy_guest(void *arg)
{
    struct build *b = arg;

    err_ignore(spawn_destroy_guest(b->node, b->ctx, b->inst, &b->vifs),
               "ending the guest of a build that failed");
}

/* Addresses of a network that the operator named, for the API's accessIPv4 and accessIPv6. */
static void set_access_ips(struct build *b)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(b->node->conf);
    const char *name = conf->dflt.default_access_ip_network_name;

    for (size_t i = 0; !str_is_empty(name) && i < b->vifs.n; i++) {
        struct json_object *network = jv_get(b->vifs.items[i].json, "network");
        struct json_object *subnets = jv_get(network, "subnets");

        if (!str_eq(json_object_get_string(jv_get(network, "label")), name) || !subnets) {
            continue;
        }
        for (size_t k = 0; k < json_object_array_length(subnets); k++) {
            struct json_object *ips = jv_get(json_object_array_get_idx(subnets, k), "ips");
            struct json_object *ip = ips ? json_object_array_get_idx(ips, 0) : NULL;
            const char *address = json_object_get_string(jv_get(ip, "address"));

            if (address && strchr(address, ':') && !instance_access_ip_v6(b->inst)) {
                instance_set_access_ip_v6(b->inst, address);
            } else if (address && !strchr(address, ':') && !instance_access_ip_v4(b->inst)) {
                instance_set_access_ip_v4(b->inst, address);
            }
        }
        return;
    }
}

static struct err *build_record(void *arg)
{
    struct build *b = arg;
    CLEANUP(freep) char *now = clock_iso_utc();
    int64_t power;

    TRY(lifecycle_power_state(b->node, instance_uuid(b->inst), &power));
    instance_system_metadata_del(b->inst, "network_allocated");
    set_access_ips(b);
    instance_set_power_state(b->inst, power);
    instance_set_vm_state(b->inst, "active");
    instance_set_task_state(b->inst, NULL);
    instance_set_launched_at(b->inst, now);
    spawn_note_config_drive(b->node, b->inst);
    return instance_save(b->node->conductor, b->ctx, b->inst, expect_spawning);
}

static const struct step build_steps[] = {
    {FAULT_build_note, build_note, NULL},
    {FAULT_build_claim, build_claim, build_unclaim},
    {FAULT_build_group, build_check_group, NULL},
    {FAULT_build_network, build_networks, build_release_networks},
    {FAULT_build_disks, build_disks, build_remove_disks},
    {FAULT_build_guest, build_guest, build_destroy_guest},
    {FAULT_build_record, build_record, NULL},
};

static struct err *on_step(const char *name, void *arg)
{
    struct build *b = arg;
    int64_t now_ms = clock_ms();

    if (name) {
        log_debug(LOG_COMPUTE, "%s, %" PRId64 " ms after the step before", name,
                  now_ms - b->step_ms);
    }
    b->step_ms = now_ms;
    return NULL;
}

/* ---- What follows from an error ---- */

enum outcome {
    OUTCOME_RESCHEDULE, /* Another host may do better. */
    OUTCOME_ABORT,      /* It would fail anywhere. */
    OUTCOME_GONE,       /* The server is being deleted: nothing is written. */
};

static enum outcome outcome_of(const struct err *e)
{
    static const struct {
        enum err_kind kind;
        enum outcome outcome;
    } rows[] = {
        {ERR_INSTANCE_NOT_FOUND, OUTCOME_GONE},
        {ERR_UNEXPECTED_DELETING_TASK_STATE, OUTCOME_GONE},
        {ERR_UNEXPECTED_TASK_STATE, OUTCOME_ABORT},
        {ERR_BUILD_ABORT, OUTCOME_ABORT},
        {ERR_NO_MORE_FIXED_IPS, OUTCOME_ABORT},
        {ERR_EXTERNAL_NETWORK_ATTACH_FORBIDDEN, OUTCOME_ABORT},
        {ERR_VIF_CREATE, OUTCOME_ABORT},
        {ERR_FLAVOR_DISK_TOO_SMALL, OUTCOME_ABORT},
        {ERR_IMAGE_UNACCEPTABLE, OUTCOME_ABORT},
        {ERR_INVALID_DISK_INFO, OUTCOME_ABORT},
        {ERR_INVALID_DISK_FORMAT, OUTCOME_ABORT},
        {ERR_INVALID_BDM, OUTCOME_ABORT},
        {ERR_INVALID_BDM_FORMAT, OUTCOME_ABORT},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (err_is(e, rows[i].kind)) {
            return rows[i].outcome;
        }
    }
    return OUTCOME_RESCHEDULE;
}

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

static void forget_host(struct instance *inst)
{
    instance_set_host(inst, NULL);
    instance_set_node(inst, NULL);
}

static void return_allocations(struct build *b)
{
    err_ignore(placement_delete_allocations(b->node->placement, instance_uuid(b->inst)),
               "removing the allocations of a server that is not built here");
}

/* The server ends in ERROR, with the reason as its fault.  Once the record says so nobody looks for
 * its allocations any more (a server without a host is deleted by the API). */
static struct err *give_up(struct build *b, const struct err *fault)
{
    return_allocations(b);
    forget_host(b->inst);
    instance_set_vm_state(b->inst, "error");
    instance_set_task_state(b->inst, NULL);
    TRY(instance_save(b->node->conductor, b->ctx, b->inst, NULL));
    return instance_fault_create(b->node->conductor, b->ctx, instance_uuid(b->inst), b->node->host,
                                 fault);
}

/* The retry information says why, as conductor's log and the fault show it. */
static struct json_object *filter_properties_with(struct json_object *filter_properties,
                                                  const struct err *why)
{
    struct json_object *fp = jv_dup(filter_properties);
    struct json_object *retry = jv_get(fp, "retry");
    CLEANUP(freep) char *trace = err_text(why);

    jv_add(retry, "exc", list_of(jv_new_str(trace)));
    jv_add_str(retry, "exc_reason", err_message(why));
    return fp;
}

static struct err *save_handed_back(void *arg)
{
    struct build *b = arg;

    forget_host(b->inst);
    instance_set_vm_state(b->inst, "building"); /* Its last step may have begun to say "active". */
    instance_set_task_state(b->inst, "scheduling");
    return instance_save(b->node->conductor, b->ctx, b->inst, NULL);
}

static struct err *hand_back_allocations(void *arg)
{
    return_allocations(arg);
    return NULL;
}

static struct err *cast_to_conductor(void *arg)
{
    static const struct rpc_target conductor = {
        .topic = "conductor", .namespace_ = "compute_task", .version = "1.19"};
    struct build *b = arg;
    const struct args_build_and_run_instance *a = b->a;
    struct json_object *args = json_object_new_object();

    jv_add(args, "instances", list_of(instance_to_json(b->inst)));
    jv_add(args, "image", a->image ? json_object_get(a->image) : json_object_new_object());
    jv_add(args, "filter_properties", filter_properties_with(a->filter_properties, b->why));
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
    return rpc_cast(b->node->client, b->ctx, &conductor, "build_instances", args);
}

/* Until conductor has it the journal's note stays: cut off here, the server ends in ERROR. */
static const struct step reschedule_steps[] = {
    {FAULT_reschedule_record, save_handed_back, NULL},
    {FAULT_reschedule_allocations, hand_back_allocations, NULL},
    {FAULT_reschedule_cast, cast_to_conductor, NULL},
};

static struct err *hand_back(struct build *b, const struct err *why)
{
    log_info(LOG_COMPUTE, "handing the server back for the next host");
    b->why = why;
    return step_run(reschedule_steps, ARRAY_SIZE(reschedule_steps), /* hooks= */ NULL, b);
}

/* Without retry information nobody else may try (a host was forced, or it was the last). */
static bool may_go_elsewhere(const struct build *b)
{
    return b->a->filter_properties && jv_get(b->a->filter_properties, "retry") && b->a->host_list;
}

/* As Nova words it for conductor's log and the user. */
static struct err *as_rescheduled(const struct build *b, const struct err *why)
{
    return err_new(ERR_RESCHEDULED, "instance_uuid", instance_uuid(b->inst), "reason",
                   err_message(why), NULL);
}

static struct err *after_failure(struct build *b, const struct err *why)
{
    CLEANUP(freep) char *text = err_text(why);
    CLEANUP(err_freep) struct err *rescheduled = NULL;
    enum outcome outcome = outcome_of(why);

    if (outcome == OUTCOME_GONE) {
        log_info(LOG_COMPUTE, "the server was deleted while it was built: %s", text);
        return NULL;
    }
    log_error(LOG_COMPUTE, "building the server: %s", text);
    notify_instance_more(b->node, b->ctx, b->inst, NOTIFY_CREATE, NOTIFY_ERROR,
                         &(struct notify_more){.fault = why});
    if (outcome == OUTCOME_ABORT) {
        return give_up(b, why);
    }
    rescheduled = as_rescheduled(b, why);
    return may_go_elsewhere(b) ? hand_back(b, rescheduled) : give_up(b, rescheduled);
}

/* ---- The whole ---- */

/* What the request did not bring, and what the server keeps of it. */
static struct err *prepare(struct build *b)
{
    static const char *const attrs[] = {"system_metadata", "metadata",     "flavor",
                                        "info_cache",      "pci_requests", NULL};

    TRY(instance_load(b->node->conductor, b->ctx, b->inst, attrs));
    TRY_CTX(image_meta_of_json(b->a->image, &b->image), "reading the image");
    instance_system_metadata_put(b->inst, "boot_roles", rctx_roles(b->ctx));
    return NULL;
}

static struct err *build_and_run(struct build *b)
{
    struct step_hooks hooks = {.on_step = on_step, .cancel = b->node->stopping};

    const char *image_name =
        b->a->image ? json_object_get_string(jv_get(b->a->image, "name")) : NULL;

    TRY(prepare(b));
    notify_instance_more(b->node, b->ctx, b->inst, NOTIFY_CREATE, NOTIFY_START,
                         &(struct notify_more){.image_name = image_name});
    return step_run(build_steps, ARRAY_SIZE(build_steps), &hooks, b);
}

/* False: somebody else has it, or it is gone. */
static bool begin(struct build *b)
{
    instance_set_vm_state(b->inst, "building");
    instance_set_task_state(b->inst, NULL);
    struct err *e = instance_save(b->node->conductor, b->ctx, b->inst, expect_scheduling);

    if (e) {
        log_info(LOG_COMPUTE, "the server is not to be built any more: %s", err_message(e));
        err_free(e);
        return false;
    }
    return true;
}

static void finish(struct build *b, int64_t start_ms)
{
    notify_scheduler_update(b->node, b->ctx, b->inst);
    tracker_instance_changed(b->node->tracker, b->inst, /* is_here= */ true);
    notify_instance_more(b->node, b->ctx, b->inst, NOTIFY_CREATE, NOTIFY_END,
                         &(struct notify_more){.message = "Success"});
    log_info(LOG_COMPUTE, "server built in %" PRId64 " ms", clock_ms() - start_ms);
}

struct err *compute_build_and_run_instance(struct node *node, const struct rctx *ctx,
                                           struct args_build_and_run_instance *a,
                                           struct json_object **ret)
{
    static const char event[] = "compute__do_build_and_run_instance";
    CLEANUP(build_fini) struct build b = {.node = node, .ctx = ctx, .inst = a->instance, .a = a};
    int64_t start_ms = clock_ms();

    (void)ret;
    b.step_ms = start_ms;
    err_ignore(action_event_start(node->conductor, ctx, instance_uuid(b.inst), event, node->host),
               "starting the action's event");
    if (!begin(&b)) {
        return action_event_finish(node->conductor, ctx, instance_uuid(b.inst), event, NULL);
    }
    CLEANUP(err_freep) struct err *e = build_and_run(&b);

    tracker_count_build(node->tracker, ctx, /* has_failed= */ e != NULL);
    struct err *unwritten = e ? after_failure(&b, e) : NULL;

    if (!e) {
        finish(&b, start_ms);
    }
    if (!unwritten) {
        building_end(node, instance_uuid(b.inst));
    }
    err_ignore(unwritten, "writing down that a build failed, trying again at the next start");
    err_ignore(action_event_finish(node->conductor, ctx, instance_uuid(b.inst), event, NULL),
               "finishing the action's event");
    return NULL;
}

/* Verbs about the host, and external events. */

#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/events.h"
#include "driver/compute/handlers.h"
#include "driver/compute/netcare.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/host.h"

#include <stdlib.h>
#include <string.h>

struct err *compute_get_host_uptime(struct node *node, const struct rctx *ctx,
                                    struct args_get_host_uptime *a, struct json_object **ret)
{
    CLEANUP(freep) char *text = NULL;

    (void)node;
    (void)ctx;
    (void)a;
    TRY(host_uptime(&text));
    *ret = jv_new_str(text);
    return NULL;
}

struct err *compute_set_host_enabled(struct node *node, const struct rctx *ctx,
                                     struct args_set_host_enabled *a, struct json_object **ret)
{
    (void)ctx;
    TRY(tracker_set_disabled_trait(node->tracker, !a->enabled));
    *ret = jv_new_str(a->enabled ? "enabled" : "disabled");
    return NULL;
}

/* The peer made a file in a directory that may be shared; only instances_path is looked at. */
struct err *compute_check_instance_shared_storage(struct node *node, const struct rctx *ctx,
                                                  struct args_check_instance_shared_storage *a,
                                                  struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const char *file = json_object_get_string(jv_get(a->data, "filename"));
    CLEANUP(freep) char *below = str_printf("%s/", conf->dflt.instances_path);

    (void)ctx;
    if (!file) {
        return err_msg(ERR_TYPE, "check_instance_shared_storage: data has no filename");
    }
    bool is_here = str_starts(file, below) && !strstr(file, "/../") && fs_exists(&fs_real, file);

    *ret = json_object_new_boolean(is_here);
    return NULL;
}

/* ---- External events ---- */

static void take_event(struct node *node, const struct rctx *ctx, struct instance *inst,
                       struct external_event *ev)
{
    const char *name = external_event_name(ev);
    const char *tag = external_event_has_tag(ev) ? external_event_tag(ev) : NULL;

    log_context_instance(instance_uuid(inst));
    if (str_eq(name, "network-changed")) {
        netcare_changed(node, ctx, inst);
    } else if (str_eq(name, "network-vif-deleted") && tag) {
        netcare_deleted(node, ctx, inst, tag);
    } else {
        bool is_awaited =
            events_deliver(node->events, instance_uuid(inst), name, tag,
                           external_event_has_status(ev) ? external_event_status(ev) : "completed");

        log_debug(LOG_COMPUTE, "event %s of %s came, %s", name, tag ? tag : "-",
                  is_awaited ? "and is awaited" : "nobody waits for it");
    }
    log_context_instance(NULL);
}

struct err *compute_external_instance_event(struct node *node, const struct rctx *ctx,
                                            struct args_external_instance_event *a,
                                            struct json_object **ret)
{
    (void)ret;
    for (size_t i = 0; i < a->n_events; i++) {
        struct external_event *ev = a->events[i];

        for (size_t k = 0; k < a->n_instances; k++) {
            if (external_event_has_instance_uuid(ev) && external_event_has_name(ev) &&
                str_eq(instance_uuid(a->instances[k]), external_event_instance_uuid(ev))) {
                take_event(node, ctx, a->instances[k], ev);
            }
        }
    }
    return NULL;
}

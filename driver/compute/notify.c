#include "driver/compute/notify.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/lifecycle.h"

#include <stdlib.h>
#include <string.h>

struct notifier {
    struct node *node;
    bool sends, has_envelope, logs;
    bool is_legacy, is_versioned;
    struct strv legacy_topics, versioned_topics;
};

struct notifier *notifier_new(struct node *node)
{
    struct notifier *n = NEW(struct notifier);
    const struct conf *conf = conf_get(node->conf);
    const struct strv *drivers = &conf->oslo_messaging_notifications.driver;
    const char *format = conf->notifications.notification_format;

    n->node = node;
    n->has_envelope = strv_has(drivers, "messagingv2");
    n->sends = n->has_envelope || strv_has(drivers, "messaging");
    n->logs = strv_has(drivers, "log");
    n->is_legacy = !str_eq(format, "versioned");
    n->is_versioned = !str_eq(format, "unversioned");
    for (size_t i = 0; i < conf->oslo_messaging_notifications.topics.n; i++) {
        strv_add(&n->legacy_topics, conf->oslo_messaging_notifications.topics.items[i]);
    }
    for (size_t i = 0; i < conf->notifications.versioned_notifications_topics.n; i++) {
        strv_add(&n->versioned_topics, conf->notifications.versioned_notifications_topics.items[i]);
    }
    conf_put(conf);
    return n;
}

struct notifier *notifier_free(struct notifier *n)
{
    if (n) {
        strv_fini(&n->legacy_topics);
        strv_fini(&n->versioned_topics);
        free(n);
    }
    return NULL;
}

/* ---- Sending ---- */

static void emit(struct node *node, const struct rctx *ctx, bool is_versioned, const char *priority,
                 const char *event_type, struct json_object *payload)
{
    struct notifier *n = node->notifier;
    const struct strv *topics = is_versioned ? &n->versioned_topics : &n->legacy_topics;
    CLEANUP(freep)
    char *publisher = str_printf("%s%s", is_versioned ? "nova-compute:" : "compute.", node->host);
    CLEANUP(jv_putp) struct json_object *owned = payload;

    if (n->logs) {
        CLEANUP(freep) char *text = jv_text(payload);

        log_info(LOG_COMPUTE, "notification %s: %s", event_type, text);
    }
    for (size_t i = 0; n->sends && i < topics->n; i++) {
        err_ignore(rpc_notify(node->client, ctx, topics->items[i], priority, publisher, event_type,
                              json_object_get(owned), n->has_envelope),
                   "sending a notification");
    }
}

/* ---- Payloads ---- */

/* A member of an object's wire form as it is; absent is null. */
static void copy_member(struct json_object *to, const char *name, struct json_object *data,
                        const char *source)
{
    struct json_object *value = jv_get(data, source);

    jv_add(to, name, value ? json_object_get(value) : NULL);
}

static struct json_object *data_of(struct json_object *wire)
{
    return jv_get(wire, "nova_object.data");
}

static struct json_object *wire_object(const char *name, const char *version,
                                       struct json_object *data)
{
    struct json_object *o = json_object_new_object();

    jv_add_str(o, "nova_object.name", name);
    jv_add_str(o, "nova_object.namespace", "nova");
    jv_add_str(o, "nova_object.version", version);
    jv_add(o, "nova_object.data", data);
    return o;
}

static struct json_object *legacy_payload(struct json_object *inst, struct json_object *flavor)
{
    struct json_object *o = json_object_new_object();

#define OF_INSTANCE                   inst
#define OF_FLAVOR                     flavor
#define LEGACY(field, object, source) copy_member(o, #field, OF_##object, #source);
#define VERSIONED(field, source)
#define FLAVOR(field)
#include "driver/compute/notify_payload.def"
#undef LEGACY
#undef VERSIONED
#undef FLAVOR
    jv_add_int(o, "disk_gb",
               json_object_get_int64(jv_get(flavor, "root_gb")) +
                   json_object_get_int64(jv_get(flavor, "ephemeral_gb")));
    return o;
}

static struct json_object *ip_payload(struct json_object *vif, struct json_object *ip)
{
    struct json_object *d = json_object_new_object();

    copy_member(d, "label", jv_get(vif, "network"), "label");
    copy_member(d, "mac", vif, "address");
    copy_member(d, "meta", vif, "meta");
    copy_member(d, "port_uuid", vif, "id");
    copy_member(d, "version", ip, "version");
    copy_member(d, "address", ip, "address");
    copy_member(d, "device_name", vif, "devname");
    return wire_object("IpPayload", "1.0", d);
}

static struct json_object *ip_payloads(struct json_object *inst)
{
    struct json_object *list = json_object_new_array();
    const char *text =
        json_object_get_string(jv_get(data_of(jv_get(inst, "info_cache")), "network_info"));
    CLEANUP(jv_putp) struct json_object *vifs = NULL;
    CLEANUP(err_freep) struct err *e = text ? jv_parse(text, strlen(text), &vifs) : NULL;

    for (size_t i = 0; !e && vifs && i < json_object_array_length(vifs); i++) {
        struct json_object *vif = json_object_array_get_idx(vifs, i);
        struct json_object *subnets = jv_get(jv_get(vif, "network"), "subnets");

        for (size_t s = 0; subnets && s < json_object_array_length(subnets); s++) {
            struct json_object *ips = jv_get(json_object_array_get_idx(subnets, s), "ips");

            for (size_t k = 0; ips && k < json_object_array_length(ips); k++) {
                json_object_array_add(list, ip_payload(vif, json_object_array_get_idx(ips, k)));
            }
        }
    }
    return list;
}

static struct json_object *flavor_payload(struct json_object *flavor)
{
    struct json_object *d = json_object_new_object();

#define LEGACY(field, object, source)
#define VERSIONED(field, source)
#define FLAVOR(field) copy_member(d, #field, flavor, #field);
#include "driver/compute/notify_payload.def"
#undef LEGACY
#undef VERSIONED
#undef FLAVOR
    return wire_object("FlavorPayload", "1.4", d);
}

static struct json_object *exception_payload(const char *function, const struct err *e)
{
    struct json_object *d = json_object_new_object();
    CLEANUP(freep) char *trace = err_text(e);

    jv_add_str(d, "module_name", "nova.compute.manager");
    jv_add_str(d, "function_name", function);
    jv_add_str(d, "exception", err_class(e));
    jv_add_str(d, "exception_message", err_message(e));
    jv_add_str(d, "traceback", trace);
    return wire_object("ExceptionPayload", "1.1", d);
}

/* ---- What single actions say besides ---- */

typedef void (*more_fn)(struct json_object *payload, struct json_object *inst,
                        const struct notify_more *);

static void add_certificates(struct json_object *d, struct json_object *inst,
                             const struct notify_more *more)
{
    (void)more;
    copy_member(d, "trusted_image_certificates", data_of(jv_get(inst, "trusted_certs")), "ids");
}

static struct json_object *keypair_payload(struct json_object *keypair)
{
    static const char *const fields[] = {"user_id", "name", "public_key", "fingerprint", "type"};
    struct json_object *d = json_object_new_object();

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        copy_member(d, fields[i], keypair, fields[i]);
    }
    return wire_object("KeypairPayload", "1.0", d);
}

static void add_of_create(struct json_object *d, struct json_object *inst,
                          const struct notify_more *more)
{
    struct json_object *keypairs = jv_get(data_of(jv_get(inst, "keypairs")), "objects");
    struct json_object *tags = jv_get(data_of(jv_get(inst, "tags")), "objects");
    struct json_object *keys = json_object_new_array(), *names = json_object_new_array();

    for (size_t i = 0; keypairs && i < json_object_array_length(keypairs); i++) {
        json_object_array_add(keys,
                              keypair_payload(data_of(json_object_array_get_idx(keypairs, i))));
    }
    for (size_t i = 0; tags && i < json_object_array_length(tags); i++) {
        struct json_object *tag = jv_get(data_of(json_object_array_get_idx(tags, i)), "tag");

        json_object_array_add(names, tag ? json_object_get(tag) : NULL);
    }
    jv_add(d, "keypairs", keys);
    jv_add(d, "tags", names);
    add_certificates(d, inst, more);
    CLEANUP(freep)
    char *name = str_printf("instance-%08llx",
                            (unsigned long long)json_object_get_int64(jv_get(inst, "id")));

    jv_add_str(d, "instance_name", name);
}

static void add_of_rescue(struct json_object *d, struct json_object *inst,
                          const struct notify_more *more)
{
    (void)inst;
    jv_add_str(d, "rescue_image_ref", more->rescue_image_ref);
}

static void add_of_snapshot(struct json_object *d, struct json_object *inst,
                            const struct notify_more *more)
{
    (void)inst;
    jv_add_str(d, "snapshot_image_id", more->snapshot_image_id);
}

/* Which class a versioned payload is (nova/notifications/objects/instance.py); by its event, as
 * most are the plain one. */
static const struct payload_class {
    const char *versioned, *name, *version;
    more_fn add;
} payload_classes[] = {
    {"create", "InstanceCreatePayload", "1.12", add_of_create},
    {"rebuild", "InstanceActionRebuildPayload", "1.9", add_certificates},
    {"rescue", "InstanceActionRescuePayload", "1.3", add_of_rescue},
    {"snapshot", "InstanceActionSnapshotPayload", "1.9", add_of_snapshot},
    {NULL, "InstanceActionPayload", "1.8", NULL},
};

static const struct payload_class *class_of(const char *versioned)
{
    const struct payload_class *c = payload_classes;

    while (c->versioned && !str_eq(c->versioned, versioned)) {
        c++;
    }
    return c;
}

/* What every payload about a server has (InstancePayload). */
static struct json_object *instance_data(const struct rctx *ctx, struct json_object *inst,
                                         struct json_object *flavor)
{
    struct json_object *d = json_object_new_object();

#define LEGACY(field, object, source)
#define VERSIONED(field, source) copy_member(d, #field, inst, #source);
#define FLAVOR(field)
#include "driver/compute/notify_payload.def"
#undef LEGACY
#undef VERSIONED
#undef FLAVOR
    jv_add(d, "flavor", flavor_payload(flavor));
    jv_add(d, "ip_addresses", ip_payloads(inst));
    jv_add(d, "block_devices", NULL);
    jv_add_str(d, "power_state",
               lifecycle_power_name(json_object_get_int64(jv_get(inst, "power_state"))));
    jv_add_str(d, "auto_disk_config",
               json_object_get_boolean(jv_get(inst, "auto_disk_config")) ? "AUTO" : "MANUAL");
    jv_add_str(d, "request_id",
               rctx_user_id(ctx) && rctx_project_id(ctx) ? rctx_request_id(ctx) : NULL);
    jv_add_str(d, "action_initiator_user", rctx_user_id(ctx));
    jv_add_str(d, "action_initiator_project", rctx_project_id(ctx));
    copy_member(d, "locked_reason", jv_get(inst, "system_metadata"), "locked_reason");
    return d;
}

static struct json_object *versioned_payload(const struct rctx *ctx, struct json_object *inst,
                                             struct json_object *flavor, const char *action,
                                             const struct notify_more *more)
{
    struct json_object *d = instance_data(ctx, inst, flavor);
    const struct payload_class *class = class_of(action);

    jv_add(d, "fault", more->fault ? exception_payload(action, more->fault) : NULL);
    if (class->add) {
        class->add(d, inst, more);
    }
    return wire_object(class->name, class->version, d);
}

/* What Nova adds to the legacy payload (compute/utils.py notify_about_instance_usage). */
static void add_legacy_more(struct json_object *payload, const struct notify_more *more)
{
    if (more->image_name) {
        jv_add_str(payload, "image_name", more->image_name);
    }
    if (more->rescue_image_name) {
        jv_add_str(payload, "rescue_image_name", more->rescue_image_name);
    }
    if (more->message) {
        jv_add_str(payload, "message", more->message);
    }
    if (more->fault) {
        jv_add_int(payload, "code", err_code(more->fault));
        jv_add_str(payload, "message", err_message(more->fault));
        jv_add_str(payload, "exception", err_message(more->fault));
    }
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    notify_instance_more(node, ctx, inst, action, phase, &(struct notify_more){0});
}

void notify_instance_more(struct node *node, const struct rctx *ctx, struct instance *inst,
                          enum notify_action action, enum notify_phase phase,
                          const struct notify_more *more)
{
    static const struct {
        const char *legacy, *versioned;
    } names[] = {
#define NOTIFY(id, legacy, versioned) [NOTIFY_##id] = {legacy, versioned},
#include "driver/compute/notifications.def"
#undef NOTIFY
    };
    static const char *const phases[] = {"start", "end", "error"};
    const char *priority = phase == NOTIFY_ERROR ? "error" : "info";
    struct notifier *n = node->notifier;

    if (!n->sends && !n->logs) {
        return;
    }
    CLEANUP(jv_putp) struct json_object *wire = instance_to_json(inst);
    struct json_object *data = data_of(wire);
    struct json_object *flavor = data_of(jv_get(data, "flavor"));

    if (n->is_legacy && names[action].legacy) {
        CLEANUP(freep)
        char *type = str_printf("compute.instance.%s.%s", names[action].legacy, phases[phase]);
        struct json_object *payload = legacy_payload(data, flavor);

        add_legacy_more(payload, more);
        emit(node, ctx, /* is_versioned= */ false, priority, type, payload);
    }
    if (n->is_versioned && names[action].versioned) {
        CLEANUP(freep)
        char *type = str_printf("instance.%s.%s", names[action].versioned, phases[phase]);

        emit(node, ctx, /* is_versioned= */ true, priority, type,
             versioned_payload(ctx, data, flavor, names[action].versioned, more));
    }
}

/* ---- Usage ---- */

/* The properties of a server's image, as its system_metadata keeps them. */
static struct json_object *image_properties(struct json_object *system_metadata)
{
    struct json_object *o = json_object_new_object();

    if (json_object_is_type(system_metadata, json_type_object)) {
        json_object_object_foreach(system_metadata, key, value)
        {
            if (str_starts(key, "image_")) {
                jv_add(o, key + strlen("image_"), json_object_get(value));
            }
        }
    }
    return o;
}

/* "2026-01-31 00:00:00", as Python prints it. */
static char *python_time(int64_t s)
{
    char *text = clock_iso_of(s);

    text[strlen("2026-01-31")] = ' ';
    text[strlen("2026-01-31 00:00:00")] = '\0';
    return text;
}

static struct json_object *legacy_usage(struct json_object *inst, struct json_object *flavor,
                                        int64_t begin_s, int64_t end_s)
{
    struct json_object *o = legacy_payload(inst, flavor);
    CLEANUP(freep) char *begin = python_time(begin_s);
    CLEANUP(freep) char *end = python_time(end_s);

    jv_add_str(o, "audit_period_beginning", begin);
    jv_add_str(o, "audit_period_ending", end);
    jv_add(o, "image_meta", image_properties(jv_get(inst, "system_metadata")));
    return o;
}

static struct json_object *versioned_usage(const struct rctx *ctx, struct json_object *inst,
                                           struct json_object *flavor, int64_t begin_s,
                                           int64_t end_s)
{
    struct json_object *d = instance_data(ctx, inst, flavor);
    struct json_object *period = json_object_new_object();
    CLEANUP(freep) char *begin = clock_iso_of(begin_s);
    CLEANUP(freep) char *end = clock_iso_of(end_s);

    jv_add_str(period, "audit_period_beginning", begin);
    jv_add_str(period, "audit_period_ending", end);
    jv_add(d, "audit_period", wire_object("AuditPeriodPayload", "1.0", period));
    return wire_object("InstanceExistsPayload", "2.0", d);
}

void notify_usage(struct node *node, const struct rctx *ctx, struct instance *inst, int64_t begin_s,
                  int64_t end_s)
{
    struct notifier *n = node->notifier;

    if (!n->sends && !n->logs) {
        return;
    }
    CLEANUP(jv_putp) struct json_object *wire = instance_to_json(inst);
    struct json_object *data = data_of(wire);
    struct json_object *flavor = data_of(jv_get(data, "flavor"));

    if (n->is_legacy) {
        emit(node, ctx, /* is_versioned= */ false, "info", "compute.instance.exists",
             legacy_usage(data, flavor, begin_s, end_s));
    }
    if (n->is_versioned) {
        emit(node, ctx, /* is_versioned= */ true, "info", "instance.exists",
             versioned_usage(ctx, data, flavor, begin_s, end_s));
    }
}

void notify_exception(struct node *node, const struct rctx *ctx, const char *method,
                      const struct err *e)
{
    struct notifier *n = node->notifier;

    if (!n->sends && !n->logs) {
        return;
    }
    if (n->is_legacy) {
        struct json_object *o = json_object_new_object();

        jv_add_str(o, "exception", err_message(e));
        jv_add(o, "args", json_object_new_object());
        emit(node, ctx, /* is_versioned= */ false, "error", method, o);
    }
    if (n->is_versioned) {
        emit(node, ctx, /* is_versioned= */ true, "error", "compute.exception",
             exception_payload(method, e));
    }
}

/* ---- The scheduler's view of our servers ---- */

static bool tracks_changes(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);
    bool tracks = conf->filter_scheduler.track_instance_changes;

    conf_put(conf);
    return tracks;
}

static void tell_scheduler(struct node *node, const struct rctx *ctx, const char *method,
                           const char *key, struct json_object *value)
{
    static const struct rpc_target schedulers = {.topic = "scheduler", .version = "4.2"};
    struct json_object *args = json_object_new_object();

    jv_add_str(args, "host_name", node->host);
    jv_add(args, key, value);
    err_ignore(rpc_fanout(node->client, ctx, &schedulers, method, args), "telling the scheduler");
}

void notify_scheduler_update(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;

    if (!tracks_changes(node)) {
        return;
    }
    list = instance_list_new();
    instance_list_add(list, instance_dup(inst));
    tell_scheduler(node, ctx, "update_instance_info", "instance_info", instance_list_to_json(list));
}

void notify_scheduler_delete(struct node *node, const struct rctx *ctx, const char *instance_uuid)
{
    if (tracks_changes(node)) {
        tell_scheduler(node, ctx, "delete_instance_info", "instance_uuid",
                       jv_new_str(instance_uuid));
    }
}

void notify_scheduler_sync(struct node *node, const struct rctx *ctx, const struct strv *uuids)
{
    struct json_object *list;

    if (!tracks_changes(node)) {
        return;
    }
    list = json_object_new_array();
    for (size_t i = 0; i < uuids->n; i++) {
        json_object_array_add(list, jv_new_str(uuids->items[i]));
    }
    tell_scheduler(node, ctx, "sync_instance_info", "instance_uuids", list);
}

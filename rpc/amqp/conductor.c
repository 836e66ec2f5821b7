#include "rpc/amqp/conductor.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TRIES     4
#define BACKOFF_MS    50
#define FAULT_MAX_LEN 255 /* Of the column. */

struct conductor {
    struct rpc_client *client;
};

static const struct rpc_target object_target = {.topic = "conductor", .version = "3.0"};
static const struct rpc_target base_target = {
    .topic = "conductor", .namespace_ = "baseapi", .version = "1.0"};

struct conductor *conductor_new(struct rpc_client *client)
{
    struct conductor *c = NEW(struct conductor);

    c->client = client;
    return c;
}

struct conductor *conductor_free(struct conductor *c)
{
    free(c);
    return NULL;
}

/* ---- The three calls ---- */

/* A deadlock has rolled back; a lost connection may have lost only the answer. */
static bool is_worth_another_try(const struct err *e, bool creates)
{
    return err_is(e, ERR_DB_DEADLOCK) || (err_is(e, ERR_DB_CONNECTION) && !creates);
}

/* Consumes args. */
static struct err *call(struct conductor *c, const struct rctx *ctx, const char *method,
                        struct json_object *args_, bool creates, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *args = args_;

    for (unsigned n = 1;; n++) {
        CLEANUP(err_freep)
        struct err *e = rpc_call(c->client, ctx, &object_target, method, jv_dup(args),
                                 &(struct rpc_times){0}, ret);

        if (!e) {
            return NULL;
        }
        if (n == MAX_TRIES || !is_worth_another_try(e, creates)) {
            return TAKE(e);
        }
        log_warning(LOG_RPC, "conductor: %s: %s, trying again in %u ms", method, err_class(e),
                    n * BACKOFF_MS);
        cancel_sleep(/* cancel= */ NULL, n * BACKOFF_MS);
    }
}

/* args and kwargs as conductor wants them: consumed, never NULL. */
static void add_arguments(struct json_object *call_args, struct json_object *args,
                          struct json_object *kwargs)
{
    jv_add(call_args, "args", args ? args : json_object_new_array());
    jv_add(call_args, "kwargs", kwargs ? kwargs : json_object_new_object());
}

struct err *conductor_object_action(struct conductor *c, const struct rctx *ctx, struct ovo *obj,
                                    const char *method, struct json_object *args,
                                    struct json_object *kwargs, struct json_object **ret)
{
    struct json_object *call_args = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    const char *name = ovo_class_of(obj)->name;

    jv_add(call_args, "objinst",
           str_eq(method, "save") ? ovo_to_json_for_save(obj) : ovo_to_json(obj));
    jv_add_str(call_args, "objmethod", method);
    add_arguments(call_args, args, kwargs);
    TRY_CTX(call(c, ctx, "object_action", call_args, str_eq(method, "create"), &answer), "%s.%s",
            name, method);
    if (!json_object_is_type(answer, json_type_array) || json_object_array_length(answer) != 2) {
        return err_msg(ERR_PARSE, "%s.%s: the answer is not updates and result", name, method);
    }
    TRY_CTX(ovo_merge_updates(obj, json_object_array_get_idx(answer, 0)), "the answer to %s.%s",
            name, method);
    if (ret) {
        *ret = json_object_get(json_object_array_get_idx(answer, 1));
    }
    return NULL;
}

struct err *conductor_class_action_json(struct conductor *c, const struct rctx *ctx,
                                        const struct ovo_class *cls, const char *method,
                                        struct json_object *args, struct json_object *kwargs,
                                        struct json_object **ret)
{
    struct json_object *call_args = json_object_new_object();

    jv_add_str(call_args, "objname", cls->name);
    jv_add_str(call_args, "objmethod", method);
    jv_add(call_args, "object_versions", ovo_manifest(cls));
    add_arguments(call_args, args, kwargs);
    TRY_CTX(
        call(c, ctx, "object_class_action_versions", call_args, str_ends(method, "_start"), ret),
        "%s.%s", cls->name, method);
    return NULL;
}

struct err *conductor_class_action(struct conductor *c, const struct rctx *ctx,
                                   const struct ovo_class *cls, const char *method,
                                   struct json_object *args, struct json_object *kwargs,
                                   struct ovo **ret)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    TRY(conductor_class_action_json(c, ctx, cls, method, args, kwargs, &answer));
    if (!answer) {
        *ret = NULL;
        return NULL;
    }
    TRY_CTX(ovo_from_json(answer, cls, ret), "the answer to %s.%s", cls->name, method);
    return NULL;
}

struct err *conductor_backport(struct conductor *c, const struct rctx *ctx,
                               struct json_object *objinst, const struct ovo_class *cls,
                               struct json_object **ret)
{
    struct json_object *args = json_object_new_object();

    jv_add(args, "objinst", jv_dup(objinst));
    jv_add(args, "object_versions", ovo_manifest(cls));
    TRY_CTX(call(c, ctx, "object_backport_versions", args, /* creates= */ false, ret),
            "an older version of %s", cls->name);
    return NULL;
}

struct err *conductor_ping(struct conductor *c, const struct rctx *ctx, int64_t timeout_ms)
{
    struct json_object *args = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    jv_add_str(args, "arg", "novashim");
    return rpc_call(c->client, ctx, &base_target, "ping", args,
                    &(struct rpc_times){.timeout_ms = timeout_ms}, &answer);
}

/* The minor version in "Version 1.99 of X is not supported, supported version is 1.13". */
static bool supported_minor(const struct err *e, int64_t *ret)
{
    const char *supported = err_get(e, "supported");
    const char *text = supported ? supported : err_message(e);
    const char *dot = strrchr(text, '.');

    return dot && str_to_i64(dot + 1, ret);
}

struct err *conductor_detect_release(struct conductor *c, const struct rctx *ctx)
{
    const struct ovo_class *cls = &libvirt_live_migrate_data_class;
    struct json_object *args = json_object_new_object(), *versions = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    int64_t minor;

    /* A version that nobody has: conductor says which one it has before it looks for the method. */
    jv_add_str(versions, cls->name, "1.999");
    jv_add_str(args, "objname", cls->name);
    jv_add_str(args, "objmethod", "obj_name");
    jv_add(args, "object_versions", versions);
    add_arguments(args, /* args= */ NULL, /* kwargs= */ NULL);
    e = call(c, ctx, "object_class_action_versions", args, /* creates= */ false, &answer);
    if (!err_is(e, ERR_INCOMPATIBLE_OBJECT_VERSION)) {
        return e ? err_context(TAKE(e), "asking for conductor's release")
                 : err_msg(ERR_PARSE, "conductor knows %s 1.999", cls->name);
    }
    if (!supported_minor(e, &minor)) {
        return err_msg(ERR_PARSE, "conductor's version of %s: %s", cls->name, err_message(e));
    }
    for (size_t i = 0; i < cls->n_versions; i++) {
        if (cls->versions[i].minor <= minor) {
            ovo_set_release(cls->versions[i].release);
        }
    }
    return NULL;
}

/* ---- Arguments ---- */

/* Consumes both; the second may be missing. */
static struct json_object *list(struct json_object *first, struct json_object *second)
{
    struct json_object *array = json_object_new_array();

    json_object_array_add(array, first);
    if (second) {
        json_object_array_add(array, second);
    }
    return array;
}

static struct json_object *one_str(const char *s)
{
    return list(jv_new_str(s), NULL);
}

static struct json_object *two_strs(const char *a, const char *b)
{
    return list(jv_new_str(a), jv_new_str(b));
}

static struct json_object *one_int(int64_t n)
{
    return list(json_object_new_int64(n), NULL);
}

/* {key: strings}, or NULL if there are none; "" is null. */
static struct json_object *kwarg_strs(const char *key, const char *const *strs)
{
    struct json_object *kwargs, *array;

    if (!strs) {
        return NULL;
    }
    kwargs = json_object_new_object();
    array = json_object_new_array();
    for (; *strs; strs++) {
        json_object_array_add(array, **strs ? jv_new_str(*strs) : NULL);
    }
    jv_add(kwargs, key, array);
    return kwargs;
}

/* The body of a typed class method: 'c' is the class in C, and *ret a struct of it.  The one that
 * may not answer null fails if conductor does. */
#define RETURN_CLASS_METHOD(c, method, args, kwargs, ret, is_nullable)                             \
    do {                                                                                           \
        struct ovo *o_ = NULL;                                                                     \
                                                                                                   \
        TRY(class_method(conductor, ctx, &c##_class, method, args, kwargs, is_nullable, &o_));     \
        *(ret) = c##_of(o_);                                                                       \
        return NULL;                                                                               \
    } while (0)
#define RETURN_GET(c, method, args, ret) RETURN_CLASS_METHOD(c, method, args, NULL, ret, false)
#define RETURN_GET_NULLABLE(c, method, args, ret)                                                  \
    RETURN_CLASS_METHOD(c, method, args, NULL, ret, true)

static struct err *class_method(struct conductor *conductor, const struct rctx *ctx,
                                const struct ovo_class *cls, const char *method,
                                struct json_object *args, struct json_object *kwargs,
                                bool is_nullable, struct ovo **ret)
{
    struct ovo *o = NULL;

    TRY(conductor_class_action(conductor, ctx, cls, method, args, kwargs, &o));
    if (!o && !is_nullable) {
        return err_msg(ERR_PARSE, "%s.%s: conductor answered null", cls->name, method);
    }
    *ret = o;
    return NULL;
}

static struct err *action(struct conductor *conductor, const struct rctx *ctx, struct ovo *obj,
                          const char *method)
{
    return conductor_object_action(conductor, ctx, obj, method, /* args= */ NULL,
                                   /* kwargs= */ NULL, /* ret= */ NULL);
}

/* ---- Instances ---- */

struct err *instance_save(struct conductor *conductor, const struct rctx *ctx,
                          struct instance *inst, const char *const *expected_task_states)
{
    return conductor_object_action(conductor, ctx, instance_ovo(inst), "save", /* args= */ NULL,
                                   kwarg_strs("expected_task_state", expected_task_states),
                                   /* ret= */ NULL);
}

struct err *instance_refresh(struct conductor *conductor, const struct rctx *ctx,
                             struct instance *inst)
{
    return action(conductor, ctx, instance_ovo(inst), "refresh");
}

struct err *instance_get(struct conductor *conductor, const struct rctx *ctx, const char *uuid,
                         const char *const *expected_attrs, struct instance **ret)
{
    RETURN_CLASS_METHOD(instance, "get_by_uuid", one_str(uuid),
                        kwarg_strs("expected_attrs", expected_attrs), ret, false);
}

/* The first of the attributes that is not set, or NULL. */
static const char *first_unset(const struct instance *inst, const char *const *attrs)
{
    for (; *attrs; attrs++) {
        int field = ovo_class_field(&instance_class, *attrs);

        if (field < 0 || !ovo_has((const struct ovo *)inst, (unsigned)field)) {
            return *attrs;
        }
    }
    return NULL;
}

struct err *instance_load(struct conductor *conductor, const struct rctx *ctx,
                          struct instance *inst, const char *const *attrs)
{
    CLEANUP(instance_freep) struct instance *fresh = NULL;
    const char *missing;

    if (!first_unset(inst, attrs)) {
        return NULL;
    }
    TRY(instance_get(conductor, ctx, instance_uuid(inst), attrs, &fresh));
    ovo_load(instance_ovo(inst), instance_ovo(fresh));
    missing = first_unset(inst, attrs);
    if (missing) {
        CLEANUP(freep) char *reason = str_printf("conductor did not send %s", missing);

        return err_new(ERR_OBJECT_ACTION, "action", "obj_load_attr", "reason", reason, NULL);
    }
    return NULL;
}

struct err *instance_destroy(struct conductor *conductor, const struct rctx *ctx,
                             struct instance *inst)
{
    return action(conductor, ctx, instance_ovo(inst), "destroy");
}

struct err *instance_drop_migration_context(struct conductor *conductor, const struct rctx *ctx,
                                            struct instance *inst)
{
    return action(conductor, ctx, instance_ovo(inst), "drop_migration_context");
}

struct err *instance_list_by_host(struct conductor *conductor, const struct rctx *ctx,
                                  const char *host, const char *const *expected_attrs,
                                  struct instance_list **ret)
{
    RETURN_CLASS_METHOD(instance_list, "get_by_host", one_str(host),
                        kwarg_strs("expected_attrs", expected_attrs), ret, false);
}

struct err *instance_list_by_host_and_node(struct conductor *conductor, const struct rctx *ctx,
                                           const char *host, const char *node,
                                           const char *const *expected_attrs,
                                           struct instance_list **ret)
{
    RETURN_CLASS_METHOD(instance_list, "get_by_host_and_node", two_strs(host, node),
                        kwarg_strs("expected_attrs", expected_attrs), ret, false);
}

struct err *instance_uuids_by_host(struct conductor *conductor, const struct rctx *ctx,
                                   const char *host, struct strv *ret)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    struct strv uuids = {0};

    TRY(conductor_class_action_json(conductor, ctx, &instance_list_class, "get_uuids_by_host",
                                    one_str(host), /* kwargs= */ NULL, &answer));
    if (!json_object_is_type(answer, json_type_array)) {
        return err_msg(ERR_PARSE, "InstanceList.get_uuids_by_host: the answer is no list");
    }
    for (size_t i = 0; i < json_object_array_length(answer); i++) {
        const char *uuid = json_object_get_string(json_object_array_get_idx(answer, i));

        if (uuid) {
            strv_add(&uuids, uuid);
        }
    }
    *ret = uuids;
    return NULL;
}

struct err *instance_list_by_filters(struct conductor *conductor, const struct rctx *ctx,
                                     struct json_object *filters, const char *const *expected_attrs,
                                     struct instance_list **ret)
{
    RETURN_CLASS_METHOD(instance_list, "get_by_filters", list(filters, NULL),
                        kwarg_strs("expected_attrs", expected_attrs), ret, false);
}

struct err *instance_list_active_between(struct conductor *conductor, const struct rctx *ctx,
                                         const char *begin, const char *end, const char *host,
                                         const char *const *expected_attrs,
                                         struct instance_list **ret)
{
    struct json_object *kwargs = kwarg_strs("expected_attrs", expected_attrs);

    kwargs = kwargs ? kwargs : json_object_new_object();
    jv_add_str(kwargs, "host", host);
    RETURN_CLASS_METHOD(instance_list, "_get_active_by_window_joined", two_strs(begin, end), kwargs,
                        ret, false);
}

struct err *instance_save_if(struct conductor *conductor, const struct rctx *ctx,
                             struct instance *inst, const char *vm_state)
{
    const char *const expected[] = {vm_state, NULL};

    return conductor_object_action(conductor, ctx, instance_ovo(inst), "save", /* args= */ NULL,
                                   kwarg_strs("expected_vm_state", expected), /* ret= */ NULL);
}

/* ---- Migrations ---- */

struct err *migration_save(struct conductor *conductor, const struct rctx *ctx,
                           struct migration *migration)
{
    return action(conductor, ctx, migration_ovo(migration), "save");
}

struct err *migration_get_by_id(struct conductor *conductor, const struct rctx *ctx, int64_t id,
                                struct migration **ret)
{
    RETURN_GET(migration, "get_by_id", one_int(id), ret);
}

struct err *migration_get_by_instance_and_status(struct conductor *conductor,
                                                 const struct rctx *ctx, const char *instance_uuid,
                                                 const char *status, struct migration **ret)
{
    RETURN_GET(migration, "get_by_instance_and_status", two_strs(instance_uuid, status), ret);
}

struct err *migration_list_in_progress(struct conductor *conductor, const struct rctx *ctx,
                                       const char *host, const char *node, bool with_error,
                                       struct migration_list **ret)
{
    RETURN_GET(migration_list,
               with_error ? "get_in_progress_and_error" : "get_in_progress_by_host_and_node",
               two_strs(host, node), ret);
}

struct err *migration_list_by_filters(struct conductor *conductor, const struct rctx *ctx,
                                      struct json_object *filters, struct migration_list **ret)
{
    RETURN_GET(migration_list, "get_by_filters", list(filters, NULL), ret);
}

struct err *migration_context_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                          const char *instance_uuid, struct migration_context **ret)
{
    RETURN_GET_NULLABLE(migration_context, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *migration_list_unconfirmed(struct conductor *conductor, const struct rctx *ctx,
                                       int64_t older_than_s, const char *dest_host,
                                       struct migration_list **ret)
{
    RETURN_GET(migration_list, "get_unconfirmed_by_dest_compute",
               list(json_object_new_int64(older_than_s), jv_new_str(dest_host)), ret);
}

/* ---- Services and nodes ---- */

struct err *service_get(struct conductor *conductor, const struct rctx *ctx, const char *host,
                        const char *binary, struct service **ret)
{
    RETURN_GET_NULLABLE(service, "get_by_host_and_binary", two_strs(host, binary), ret);
}

struct err *service_get_by_compute_host(struct conductor *conductor, const struct rctx *ctx,
                                        const char *host, struct service **ret)
{
    RETURN_GET_NULLABLE(service, "get_by_compute_host", one_str(host), ret);
}

struct err *service_minimum_version(struct conductor *conductor, const struct rctx *ctx,
                                    const char *binary, int64_t *ret)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    TRY(conductor_class_action_json(conductor, ctx, &service_class, "get_minimum_version",
                                    one_str(binary), /* kwargs= */ NULL, &answer));
    if (!json_object_is_type(answer, json_type_int)) {
        return err_msg(ERR_PARSE, "Service.get_minimum_version: the answer is no number");
    }
    *ret = json_object_get_int64(answer);
    return NULL;
}

struct err *service_create(struct conductor *conductor, const struct rctx *ctx,
                           struct service *service)
{
    return action(conductor, ctx, service_ovo(service), "create");
}

struct err *service_save(struct conductor *conductor, const struct rctx *ctx,
                         struct service *service)
{
    return action(conductor, ctx, service_ovo(service), "save");
}

struct err *compute_node_get(struct conductor *conductor, const struct rctx *ctx, const char *host,
                             const char *nodename, struct compute_node **ret)
{
    RETURN_GET(compute_node, "get_by_host_and_nodename", two_strs(host, nodename), ret);
}

struct err *compute_node_get_first(struct conductor *conductor, const struct rctx *ctx,
                                   const char *host, struct compute_node **ret)
{
    RETURN_GET(compute_node, "get_first_node_by_host_for_old_compat", one_str(host), ret);
}

struct err *compute_node_get_by_nodename(struct conductor *conductor, const struct rctx *ctx,
                                         const char *nodename, struct compute_node **ret)
{
    RETURN_GET(compute_node, "get_by_nodename", one_str(nodename), ret);
}

struct err *compute_node_list_by_host(struct conductor *conductor, const struct rctx *ctx,
                                      const char *host, struct compute_node_list **ret)
{
    RETURN_GET(compute_node_list, "get_all_by_host", one_str(host), ret);
}

struct err *compute_node_create(struct conductor *conductor, const struct rctx *ctx,
                                struct compute_node *node)
{
    return action(conductor, ctx, compute_node_ovo(node), "create");
}

struct err *compute_node_save(struct conductor *conductor, const struct rctx *ctx,
                              struct compute_node *node)
{
    return action(conductor, ctx, compute_node_ovo(node), "save");
}

struct err *compute_node_destroy(struct conductor *conductor, const struct rctx *ctx,
                                 struct compute_node *node)
{
    return action(conductor, ctx, compute_node_ovo(node), "destroy");
}

/* ---- What belongs to an instance ---- */

struct err *bdms_by_instance(struct conductor *conductor, const struct rctx *ctx,
                             const char *instance_uuid, struct block_device_mapping_list **ret)
{
    RETURN_GET(block_device_mapping_list, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *bdm_save(struct conductor *conductor, const struct rctx *ctx,
                     struct block_device_mapping *bdm)
{
    return action(conductor, ctx, block_device_mapping_ovo(bdm), "save");
}

struct err *pci_devices_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                    const char *instance_uuid, struct pci_device_list **ret)
{
    RETURN_GET(pci_device_list, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *pci_devices_by_node(struct conductor *conductor, const struct rctx *ctx,
                                int64_t node_id, struct pci_device_list **ret)
{
    RETURN_GET(pci_device_list, "get_by_compute_node", one_int(node_id), ret);
}

struct err *pci_requests_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                     const char *instance_uuid, struct instance_pci_requests **ret)
{
    RETURN_GET(instance_pci_requests, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *info_cache_save(struct conductor *conductor, const struct rctx *ctx,
                            struct instance_info_cache *cache)
{
    return action(conductor, ctx, instance_info_cache_ovo(cache), "save");
}

struct err *info_cache_refresh(struct conductor *conductor, const struct rctx *ctx,
                               struct instance_info_cache *cache)
{
    return action(conductor, ctx, instance_info_cache_ovo(cache), "refresh");
}

struct err *virtual_interface_create(struct conductor *conductor, const struct rctx *ctx,
                                     struct virtual_interface *vif)
{
    return action(conductor, ctx, virtual_interface_ovo(vif), "create");
}

struct err *virtual_interface_get(struct conductor *conductor, const struct rctx *ctx,
                                  const char *port_id, struct virtual_interface **ret)
{
    RETURN_GET_NULLABLE(virtual_interface, "get_by_uuid", one_str(port_id), ret);
}

struct err *virtual_interfaces_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                           const char *instance_uuid,
                                           struct virtual_interface_list **ret)
{
    RETURN_GET(virtual_interface_list, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *virtual_interface_destroy(struct conductor *conductor, const struct rctx *ctx,
                                      struct virtual_interface *vif)
{
    return action(conductor, ctx, virtual_interface_ovo(vif), "destroy");
}

struct err *virtual_interfaces_delete(struct conductor *conductor, const struct rctx *ctx,
                                      const char *instance_uuid)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    return conductor_class_action_json(conductor, ctx, &virtual_interface_class,
                                       "delete_by_instance_uuid", one_str(instance_uuid),
                                       /* kwargs= */ NULL, &answer);
}

static struct err *group_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                     const char *instance_uuid, struct instance_group **ret)
{
    RETURN_GET(instance_group, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *instance_group_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                       const char *instance_uuid, struct instance_group **ret)
{
    CLEANUP(err_freep) struct err *e = group_by_instance(conductor, ctx, instance_uuid, ret);

    if (err_is(e, ERR_INSTANCE_GROUP_NOT_FOUND)) {
        *ret = NULL;
        return NULL;
    }
    return TAKE(e);
}

struct err *vcpu_model_by_instance(struct conductor *conductor, const struct rctx *ctx,
                                   const char *instance_uuid, struct virt_cpu_model **ret)
{
    RETURN_GET_NULLABLE(virt_cpu_model, "get_by_instance_uuid", one_str(instance_uuid), ret);
}

struct err *console_auth_authorize(struct conductor *conductor, const struct rctx *ctx,
                                   struct console_auth_token *token, int64_t ttl_s)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL; /* The token again. */
    struct json_object *args = json_object_new_array();

    json_object_array_add(args, json_object_new_int64(ttl_s));
    TRY(conductor_object_action(conductor, ctx, console_auth_token_ovo(token), "authorize", args,
                                /* kwargs= */ NULL, &answer));
    if (!console_auth_token_has_id(token) || !console_auth_token_has_token(token)) {
        return err_new(ERR_OBJECT_ACTION, "action", "authorize", "reason",
                       "conductor did not send the token", NULL);
    }
    return NULL;
}

struct err *console_auths_clean(struct conductor *conductor, const struct rctx *ctx,
                                const char *instance_uuid)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    return conductor_class_action_json(conductor, ctx, &console_auth_token_class,
                                       "clean_console_auths_for_instance", one_str(instance_uuid),
                                       /* kwargs= */ NULL, &answer);
}

struct err *console_auths_clean_expired(struct conductor *conductor, const struct rctx *ctx)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;

    return conductor_class_action_json(conductor, ctx, &console_auth_token_class,
                                       "clean_expired_console_auths", /* args= */ NULL,
                                       /* kwargs= */ NULL, &answer);
}

/* ---- What a host has done for a period ---- */

struct err *task_log_get(struct conductor *conductor, const struct rctx *ctx, const char *name,
                         const char *begin, const char *end, const char *host,
                         struct task_log **ret)
{
    struct json_object *args = two_strs(name, begin);

    json_object_array_add(args, jv_new_str(end));
    json_object_array_add(args, jv_new_str(host));
    RETURN_GET_NULLABLE(task_log, "get", args, ret);
}

struct err *task_log_begin(struct conductor *conductor, const struct rctx *ctx,
                           struct task_log *task)
{
    return action(conductor, ctx, task_log_ovo(task), "begin_task");
}

struct err *task_log_end(struct conductor *conductor, const struct rctx *ctx, struct task_log *task)
{
    return action(conductor, ctx, task_log_ovo(task), "end_task");
}

/* ---- Actions, events and faults ---- */

struct err *instance_action_start(struct conductor *conductor, const struct rctx *ctx,
                                  const char *instance_uuid, const char *name)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    struct json_object *kwargs = json_object_new_object();

    jv_add_bool(kwargs, "want_result", false);
    return conductor_class_action_json(conductor, ctx, &instance_action_class, "action_start",
                                       two_strs(instance_uuid, name), kwargs, &answer);
}

struct err *action_event_start(struct conductor *conductor, const struct rctx *ctx,
                               const char *instance_uuid, const char *event, const char *host)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    struct json_object *kwargs = json_object_new_object();

    jv_add_bool(kwargs, "want_result", false);
    jv_add_str(kwargs, "host", host);
    return conductor_class_action_json(conductor, ctx, &instance_action_event_class, "event_start",
                                       two_strs(instance_uuid, event), kwargs, &answer);
}

/* What a tenant may read of an error: Nova's own messages are made for that, any other may say
 * anything, so that its class must do (nova/compute/utils.py exception_to_dict).  At most the size
 * of the column, cut between characters. */
static char *public_text(const struct err *e)
{
    bool is_public = str_starts(err_module(e), "nova.") && !err_is(e, ERR_INTERNAL) &&
                     !str_is_empty(err_message(e));
    const char *text = is_public ? err_message(e) : err_class(e);
    size_t len = strlen(text);

    if (len > FAULT_MAX_LEN) {
        len = FAULT_MAX_LEN;
        while (len && (text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return str_ndup(text, len);
}

struct err *action_event_finish(struct conductor *conductor, const struct rctx *ctx,
                                const char *instance_uuid, const char *event, const struct err *exc)
{
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    CLEANUP(freep) char *text = exc ? public_text(exc) : NULL;
    CLEANUP(freep) char *trace = exc ? err_text(exc) : NULL;
    struct json_object *kwargs = json_object_new_object();

    jv_add_str(kwargs, "exc_val", text);
    jv_add_str(kwargs, "exc_tb", trace);
    jv_add_bool(kwargs, "want_result", false);
    return conductor_class_action_json(conductor, ctx, &instance_action_event_class,
                                       "event_finish_with_failure", two_strs(instance_uuid, event),
                                       kwargs, &answer);
}

struct err *instance_fault_create(struct conductor *conductor, const struct rctx *ctx,
                                  const char *instance_uuid, const char *host, const struct err *e)
{
    CLEANUP(instance_fault_freep) struct instance_fault *fault = instance_fault_new();
    CLEANUP(freep) char *message = public_text(e);
    CLEANUP(freep) char *details = err_code(e) == 500 ? err_text(e) : str_dup("");

    instance_fault_set_instance_uuid(fault, instance_uuid);
    instance_fault_set_host(fault, host);
    instance_fault_set_code(fault, err_code(e));
    instance_fault_set_message(fault, message);
    instance_fault_set_details(fault, details);
    return action(conductor, ctx, instance_fault_ovo(fault), "create");
}

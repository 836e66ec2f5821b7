#pragma once

/* Nova's remotable objects: what is saved, loaded and merged through nova-conductor.
 *
 * Source: nova/conductor/manager.py object_action, object_class_action_versions,
 * object_backport_versions; nova/conductor/rpcapi.py.
 *
 * Only changed fields are written; what conductor changed comes back and is merged, and the
 * object's changes are then what conductor says.  The release of the control plane decides which
 * object versions are spoken (Zed's unless told otherwise).
 *
 * A call that failed because of conductor's database (deadlock, lost connection) is made again up
 * to three times; creating something only after a deadlock, which is known to have left nothing.
 *
 * Errors: what Nova raises (ERR_INSTANCE_NOT_FOUND, ERR_UNEXPECTED_TASK_STATE, ...), those of
 * rpc_call, and ERR_PARSE for answers that are not what they should be.
 *
 * Thread-safety: calls from any thread; an object belongs to one thread at a time. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/amqp/client.h"
#include "rpc/objects/objects.h"

struct conductor;

struct conductor *conductor_new(struct rpc_client *) MUST_CHECK;
struct conductor *conductor_free(struct conductor *);
static inline void conductor_freep(struct conductor **p)
{
    *p = conductor_free(*p);
}

/* Asks conductor which release it is of, and speaks its versions from now on (ovo_set_release).
 * Once, at the start: conductor logs an error for it. */
struct err *conductor_detect_release(struct conductor *, const struct rctx *) MUST_CHECK;
/* baseapi ping: ERR_TIMEOUT if conductor does not answer in time. */
struct err *conductor_ping(struct conductor *, const struct rctx *, int64_t timeout_ms) MUST_CHECK;

/* An instance method of any object (save, create, refresh, destroy, ...).  args and kwargs may be
 * NULL and are consumed; ret may be NULL.  Merges the updates into obj. */
struct err *conductor_object_action(struct conductor *, const struct rctx *, struct ovo *obj,
                                    const char *method, struct json_object *args,
                                    struct json_object *kwargs, struct json_object **ret)
    MUST_CHECK;
/* A class method; the result is decoded as an object of class 'ret_class' (NULL result: *ret NULL).
 */
struct err *conductor_class_action(struct conductor *, const struct rctx *,
                                   const struct ovo_class *, const char *method,
                                   struct json_object *args, struct json_object *kwargs,
                                   struct ovo **ret) MUST_CHECK;
/* A class method whose result is no object. */
struct err *conductor_class_action_json(struct conductor *, const struct rctx *,
                                        const struct ovo_class *, const char *method,
                                        struct json_object *args, struct json_object *kwargs,
                                        struct json_object **ret) MUST_CHECK;
/* An object from a peer that is newer than ours, made older by conductor. 'objinst' is lent. */
struct err *conductor_backport(struct conductor *, const struct rctx *, struct json_object *objinst,
                               const struct ovo_class *, struct json_object **ret) MUST_CHECK;

/* ---- What a compute service does with them, typed.  Nullable results are NULL when absent. ----
 */

/* Which task states Instance.save may find: NULL-terminated list of names, where "" stands for no
 * task state.  NULL: any.  Conductor looks only if a field of the instance's own record changes. */
struct err *instance_save(struct conductor *, const struct rctx *, struct instance *,
                          const char *const *expected_task_states) MUST_CHECK;
struct err *instance_refresh(struct conductor *, const struct rctx *, struct instance *) MUST_CHECK;
struct err *instance_get(struct conductor *, const struct rctx *, const char *uuid,
                         const char *const *expected_attrs, struct instance **ret) MUST_CHECK;
/* Loads fields that are not set yet; no call if all are.  ERR_OBJECT_ACTION if conductor did not
 * send one of them. */
struct err *instance_load(struct conductor *, const struct rctx *, struct instance *,
                          const char *const *attrs) MUST_CHECK;
/* The record is deleted (soft, as Nova keeps its rows). */
struct err *instance_destroy(struct conductor *, const struct rctx *, struct instance *) MUST_CHECK;
struct err *instance_drop_migration_context(struct conductor *, const struct rctx *,
                                            struct instance *) MUST_CHECK;
struct err *instance_list_by_host(struct conductor *, const struct rctx *, const char *host,
                                  const char *const *expected_attrs, struct instance_list **ret)
    MUST_CHECK;
struct err *instance_list_by_host_and_node(struct conductor *, const struct rctx *,
                                           const char *host, const char *node,
                                           const char *const *expected_attrs,
                                           struct instance_list **ret) MUST_CHECK;
struct err *instance_uuids_by_host(struct conductor *, const struct rctx *, const char *host,
                                   struct strv *ret) MUST_CHECK;

/* 'filters' are those of nova/db/main/api.py instance_get_all_by_filters, consumed.  Deleted
 * servers are seen by a context that sees them (rctx_with_deleted). */
struct err *instance_list_by_filters(struct conductor *, const struct rctx *,
                                     struct json_object *filters, const char *const *expected_attrs,
                                     struct instance_list **ret) MUST_CHECK;
/* Those of a host that existed at some time between the two, "YYYY-MM-DDTHH:MM:SSZ". */
struct err *instance_list_active_between(struct conductor *, const struct rctx *, const char *begin,
                                         const char *end, const char *host,
                                         const char *const *expected_attrs,
                                         struct instance_list **ret) MUST_CHECK;
/* A save that finds the server in this vm_state, or fails: ERR_UNEXPECTED_VM_STATE. */
struct err *instance_save_if(struct conductor *, const struct rctx *, struct instance *,
                             const char *vm_state) MUST_CHECK;

struct err *migration_save(struct conductor *, const struct rctx *, struct migration *) MUST_CHECK;
struct err *migration_get_by_id(struct conductor *, const struct rctx *, int64_t id,
                                struct migration **ret) MUST_CHECK;
struct err *migration_get_by_instance_and_status(struct conductor *, const struct rctx *,
                                                 const char *instance_uuid, const char *status,
                                                 struct migration **ret) MUST_CHECK;
struct err *migration_list_in_progress(struct conductor *, const struct rctx *, const char *host,
                                       const char *node, bool with_error,
                                       struct migration_list **ret) MUST_CHECK;
struct err *migration_list_by_filters(struct conductor *, const struct rctx *,
                                      struct json_object *filters, struct migration_list **ret)
    MUST_CHECK;

/* Resizes to a host that have waited for their confirmation longer than that. */
struct err *migration_list_unconfirmed(struct conductor *, const struct rctx *,
                                       int64_t older_than_s, const char *dest_host,
                                       struct migration_list **ret) MUST_CHECK;

struct err *service_get(struct conductor *, const struct rctx *, const char *host,
                        const char *binary, struct service **ret) MUST_CHECK;
struct err *service_get_by_compute_host(struct conductor *, const struct rctx *, const char *host,
                                        struct service **ret) MUST_CHECK;
struct err *service_minimum_version(struct conductor *, const struct rctx *, const char *binary,
                                    int64_t *ret) MUST_CHECK;
struct err *service_create(struct conductor *, const struct rctx *, struct service *) MUST_CHECK;
struct err *service_save(struct conductor *, const struct rctx *, struct service *) MUST_CHECK;

struct err *compute_node_get(struct conductor *, const struct rctx *, const char *host,
                             const char *nodename, struct compute_node **ret) MUST_CHECK;
/* The first node of a host (get_first_node_by_host_for_old_compat). */
struct err *compute_node_get_first(struct conductor *, const struct rctx *, const char *host,
                                   struct compute_node **ret) MUST_CHECK;
struct err *compute_node_get_by_nodename(struct conductor *, const struct rctx *,
                                         const char *nodename, struct compute_node **ret)
    MUST_CHECK;
struct err *compute_node_list_by_host(struct conductor *, const struct rctx *, const char *host,
                                      struct compute_node_list **ret) MUST_CHECK;
struct err *compute_node_create(struct conductor *, const struct rctx *, struct compute_node *)
    MUST_CHECK;
struct err *compute_node_save(struct conductor *, const struct rctx *, struct compute_node *)
    MUST_CHECK;
struct err *compute_node_destroy(struct conductor *, const struct rctx *, struct compute_node *)
    MUST_CHECK;

struct err *bdms_by_instance(struct conductor *, const struct rctx *, const char *instance_uuid,
                             struct block_device_mapping_list **ret) MUST_CHECK;
struct err *bdm_save(struct conductor *, const struct rctx *, struct block_device_mapping *)
    MUST_CHECK;
struct err *pci_devices_by_instance(struct conductor *, const struct rctx *,
                                    const char *instance_uuid, struct pci_device_list **ret)
    MUST_CHECK;
struct err *pci_devices_by_node(struct conductor *, const struct rctx *, int64_t node_id,
                                struct pci_device_list **ret) MUST_CHECK;
struct err *pci_requests_by_instance(struct conductor *, const struct rctx *,
                                     const char *instance_uuid, struct instance_pci_requests **ret)
    MUST_CHECK;
struct err *info_cache_save(struct conductor *, const struct rctx *, struct instance_info_cache *)
    MUST_CHECK;
struct err *info_cache_refresh(struct conductor *, const struct rctx *,
                               struct instance_info_cache *) MUST_CHECK;
/* A port of a server, in the order in which they came.  The address is "MAC/port id": the table
 * wants it to be unique.  Reading gives the MAC alone. */
struct err *virtual_interface_create(struct conductor *, const struct rctx *,
                                     struct virtual_interface *) MUST_CHECK;
/* NULL if there is none. */
struct err *virtual_interface_get(struct conductor *, const struct rctx *, const char *port_id,
                                  struct virtual_interface **ret) MUST_CHECK;
struct err *virtual_interfaces_by_instance(struct conductor *, const struct rctx *,
                                           const char *instance_uuid,
                                           struct virtual_interface_list **ret) MUST_CHECK;
struct err *virtual_interface_destroy(struct conductor *, const struct rctx *,
                                      struct virtual_interface *) MUST_CHECK;
struct err *virtual_interfaces_delete(struct conductor *, const struct rctx *,
                                      const char *instance_uuid) MUST_CHECK;
/* NULL if the instance is in no group. */
struct err *instance_group_by_instance(struct conductor *, const struct rctx *,
                                       const char *instance_uuid, struct instance_group **ret)
    MUST_CHECK;
struct err *vcpu_model_by_instance(struct conductor *, const struct rctx *,
                                   const char *instance_uuid, struct virt_cpu_model **ret)
    MUST_CHECK;
struct err *migration_context_by_instance(struct conductor *, const struct rctx *,
                                          const char *instance_uuid, struct migration_context **ret)
    MUST_CHECK;

/* InstanceAction: what a user, or we in place of one, begin to do with a server ("reboot").  Its
 * events are found by the context's request id. */
struct err *instance_action_start(struct conductor *, const struct rctx *,
                                  const char *instance_uuid, const char *action) MUST_CHECK;
/* InstanceActionEvent: event is "compute_<method>".  'exc' NULL: success. */
struct err *action_event_start(struct conductor *, const struct rctx *, const char *instance_uuid,
                               const char *event, const char *host) MUST_CHECK;
struct err *action_event_finish(struct conductor *, const struct rctx *, const char *instance_uuid,
                                const char *event, const struct err *exc) MUST_CHECK;
/* InstanceFault from an error: message at most 255 bytes and without our paths; details only for
 * unexpected errors. */
struct err *instance_fault_create(struct conductor *, const struct rctx *,
                                  const char *instance_uuid, const char *host, const struct err *)
    MUST_CHECK;
/* Stores a new token, good for ttl_s, and sets its 'id' and 'token'. */
struct err *console_auth_authorize(struct conductor *, const struct rctx *,
                                   struct console_auth_token *, int64_t ttl_s) MUST_CHECK;
struct err *console_auths_clean(struct conductor *, const struct rctx *, const char *instance_uuid)
    MUST_CHECK;
/* Of every server of the cell. */
struct err *console_auths_clean_expired(struct conductor *, const struct rctx *) MUST_CHECK;

/* TaskLog: which host has done a task for which period, "YYYY-MM-DDTHH:MM:SS.ffffff".  NULL: not
 * yet. */
struct err *task_log_get(struct conductor *, const struct rctx *, const char *name,
                         const char *begin, const char *end, const char *host,
                         struct task_log **ret) MUST_CHECK;
struct err *task_log_begin(struct conductor *, const struct rctx *, struct task_log *) MUST_CHECK;
struct err *task_log_end(struct conductor *, const struct rctx *, struct task_log *) MUST_CHECK;

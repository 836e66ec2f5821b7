#pragma once

/* From a request on the bus to a handler on a lane, and back.
 *
 * Decodes a request by its row in rpc/amqp/compute_api.def, submits it as a task on the row's lane
 * and strand, and does around the handler what Nova's decorators do: action events, instance
 * faults, task states put back, migrations put in error.  Verbs without a handler are refused so
 * that no server is ever stuck.
 *
 * Source: nova/compute/manager.py (wrap_instance_event, wrap_instance_fault, reverts_task_state,
 * errors_out_migration), nova/exception_wrapper.py; contract compute-rpc.md 3.1, 3.7.
 *
 * Thread-safety: dispatch_request is called on mq-in. */

#include "driver/compute/node.h"
#include "rpc/amqp/compute_api.h"

struct dispatcher *dispatcher_new(void) MUST_CHECK;
struct dispatcher *dispatcher_free(struct dispatcher *);

/* An rpc_request_fn; arg is the node.  Until dispatch_open requests are kept (we consume before our
 * records are made, so that the start is quick), pings excepted. */
void dispatch_request(struct rpc_request *, void *node);
void dispatch_open(struct node *);
/* Whether a request is kept that will go on with the task that a server is in. */
bool dispatch_has_kept(struct node *, const char *instance_uuid);

/* Handles a call here and now, with everything that is done around it: for what the service starts
 * itself, which never sends RPC to itself (P14).  The call stays the caller's, its instance's uuid
 * the log's.  *ret is NULL or the answer. */
struct err *dispatch_call(struct node *, const struct rctx *, struct compute_call *,
                          struct json_object **ret) MUST_CHECK;

#pragma once

/* RPC client: calls, casts and fan-outs as oslo.messaging makes them.
 *
 * A call blocks the calling thread until its reply, its deadline or cancellation; one reply queue
 * and one connection serve all callers.  While the broker is away sends wait (they do not fail)
 * until the call's own deadline; casts wait as long as their deadline allows, then fail.
 *
 * Source: oslo_messaging/_drivers/amqpdriver.py, rpc/client.py.
 *
 * Thread-safety: all functions may be called from any thread. */

#include "base/err.h"
#include "base/jv.h"
#include "base/sync.h"
#include "rpc/objects/context.h"

#include <stdbool.h>
#include <stdint.h>

struct rpc_client;

struct rpc_target {
    const char *topic;      /* "conductor", "compute", "scheduler" */
    const char *server;     /* NULL: any server of the topic. */
    const char *namespace_; /* NULL: none. */
    const char *version;    /* "3.0" */
};

/* 0 in either: the configured rpc_response_timeout. */
struct rpc_times {
    int64_t timeout_ms;    /* Of the whole call. */
    int64_t monitor_ms;    /* Not 0: long call, the server must show life this often. */
    struct cancel *cancel; /* May be NULL. */
};

/* Calls a method.  Consumes args (an object of argument name to value).  *ret is owned by the
 * caller and may be NULL (JSON null).  Errors: what the peer raised (err_remote), ERR_TIMEOUT,
 * ERR_CANCELLED. */
struct err *rpc_call(struct rpc_client *, const struct rctx *, const struct rpc_target *,
                     const char *method, struct json_object *args, const struct rpc_times *,
                     struct json_object **ret) MUST_CHECK;
/* The same without an answer: returns when the broker has confirmed the message. */
struct err *rpc_cast(struct rpc_client *, const struct rctx *, const struct rpc_target *,
                     const char *method, struct json_object *args) MUST_CHECK;
/* To every server of the topic. */
struct err *rpc_fanout(struct rpc_client *, const struct rctx *, const struct rpc_target *,
                       const char *method, struct json_object *args) MUST_CHECK;
/* A notification: declares and binds the queue "<topic>.<priority>" and publishes there.  Consumes
 * payload.  'has_envelope': driver messagingv2. */
struct err *rpc_notify(struct rpc_client *, const struct rctx *, const char *topic,
                       const char *priority, const char *publisher_id, const char *event_type,
                       struct json_object *payload, bool has_envelope) MUST_CHECK;

#pragma once

/* The request context: who asked, under which request id, with which token.
 *
 * It arrives flattened in an RPC message (keys "_context_*") and is forwarded unchanged on every
 * call made for that request: conductor finds the InstanceAction by the request id, so losing it
 * breaks action events.  Unknown keys are kept.  Immutable and reference-counted.
 *
 * Source: nova/context.py RequestContext.from_dict/to_dict, oslo.context.
 *
 * Thread-safety: may be shared by threads; references are atomic. */

#include "base/err.h"
#include "base/jv.h"

struct rctx;

/* From the payload of a message: takes what starts with "_context_". */
struct rctx *rctx_from_payload(struct json_object *payload) MUST_CHECK;
/* An administrator's context with a fresh request id, for what we start ourselves. */
struct rctx *rctx_new_admin(void) MUST_CHECK;
/* The same request as an administrator: is_admin true and the role "admin". */
struct rctx *rctx_elevated(const struct rctx *) MUST_CHECK;
/* The same request, which also sees records that are deleted. */
struct rctx *rctx_with_deleted(const struct rctx *) MUST_CHECK;
struct rctx *rctx_ref(const struct rctx *) MUST_CHECK;
struct rctx *rctx_free(struct rctx *);
static inline void rctx_freep(struct rctx **p)
{
    *p = rctx_free(*p);
}

/* Borrowed; NULL if absent or null. */
const char *rctx_request_id(const struct rctx *);
const char *rctx_user_id(const struct rctx *);
const char *rctx_project_id(const struct rctx *);
const char *rctx_user_name(const struct rctx *);
const char *rctx_project_name(const struct rctx *);
/* "admin,member"; never NULL. */
const char *rctx_roles(const struct rctx *);
const char *rctx_auth_token(const struct rctx *);
bool rctx_is_admin(const struct rctx *);
/* The user's service catalogue as JSON text, or NULL. */
const char *rctx_service_catalog(const struct rctx *);

/* Adds the "_context_*" keys to a payload.  For notifications token and catalogue are left out. */
void rctx_to_payload(const struct rctx *, struct json_object *payload, bool for_notification);
/* "req-… user project" for the log. */
const char *rctx_log_text(const struct rctx *);

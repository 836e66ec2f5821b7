#pragma once

/* Declarations of every handler that is built (driver/compute/handlers.def).
 *
 * A handler owns nothing of its arguments unless it TAKEs it; *ret is what is answered (NULL: JSON
 * null).  It runs on its row's lane and may block, except on lane ctl. */

#include "driver/compute/node.h"
#include "rpc/amqp/compute_api.h"

#define HANDLER(method)                                                                            \
    struct err *compute_##method(struct node *, const struct rctx *, struct args_##method *,       \
                                 struct json_object **ret) MUST_CHECK;
#include "driver/compute/handlers.def"
#undef HANDLER

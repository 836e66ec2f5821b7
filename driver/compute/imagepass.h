#pragma once

/* The periodic pass over the cache of images (driver/libvirt/imageage.h).
 *
 * Source: nova/compute/manager.py _run_image_cache_manager_pass.
 *
 * Thread-safety: from any thread, one pass at a time. */

#include "base/err.h"
#include "driver/compute/node.h"

struct err *imagepass_run(struct node *, const struct rctx *) MUST_CHECK;

#pragma once

/* Notifications to the bus, and what the scheduler is told about our servers.
 *
 * Best effort: a failure is logged and forgotten.  Nothing is sent unless
 * [oslo_messaging_notifications]driver says so.
 *
 * Source: nova/compute/utils.py notify_about_instance_usage, notify_about_instance_action;
 * nova/notifications/objects; contract rpc-transport.md 1.12, 1.13.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

enum notify_action {
#define NOTIFY(id, legacy, versioned) NOTIFY_##id,
#include "driver/compute/notifications.def"
#undef NOTIFY
};
enum notify_phase { NOTIFY_START, NOTIFY_END, NOTIFY_ERROR };

struct notifier *notifier_new(struct node *) MUST_CHECK;
struct notifier *notifier_free(struct notifier *);

void notify_instance(struct node *, const struct rctx *, struct instance *, enum notify_action,
                     enum notify_phase);
/* What some notifications say besides; NULL: not. */
struct notify_more {
    const char *image_name; /* Of a build or rebuild. */
    const char *message;    /* "Success" */
    const char *rescue_image_name;
    const char *rescue_image_ref, *snapshot_image_id;
    const struct err *fault; /* Why, in phase ERROR. */
};
void notify_instance_more(struct node *, const struct rctx *, struct instance *, enum notify_action,
                          enum notify_phase, const struct notify_more *);
/* A server existed during a period (seconds since the epoch): compute.instance.exists. */
void notify_usage(struct node *, const struct rctx *, struct instance *, int64_t begin_s,
                  int64_t end_s);
/* A method failed: legacy event "<method>" at ERROR, versioned compute.exception. */
void notify_exception(struct node *, const struct rctx *, const char *method, const struct err *);

/* Fan-out casts to the schedulers, only if [filter_scheduler]track_instance_changes. */
void notify_scheduler_update(struct node *, const struct rctx *, struct instance *);
void notify_scheduler_delete(struct node *, const struct rctx *, const char *instance_uuid);
void notify_scheduler_sync(struct node *, const struct rctx *, const struct strv *uuids);

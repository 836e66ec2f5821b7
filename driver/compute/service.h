#pragma once

/* Our record among the cell's services, and its heartbeat.
 *
 * Source: nova/service.py, nova/objects/service.py, nova/servicegroup/drivers/db.py; contract
 * startup-and-periodics.md 5.1, 5.2.
 *
 * Thread-safety: service_join once; service_report and service_is_disabled from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"

struct service_record *service_record_new(void) MUST_CHECK;
struct service_record *service_record_free(struct service_record *);

/* Waits for conductor (as long as it takes, or until the service stops), refuses to start when we
 * are older than the rest of the cell allows, and makes or adopts our record. */
struct err *service_join(struct node *, const struct rctx *) MUST_CHECK;
/* One heartbeat: report_count + 1.  A failure is logged once until the next success. */
void service_report(struct node *, const struct rctx *);
/* As the record said last. */
bool service_is_disabled(struct node *);
/* Reads 'disabled' from the record again. */
struct err *service_refresh(struct node *, const struct rctx *) MUST_CHECK;

struct service_status {
    int64_t id;
    int64_t report_count;
    int64_t last_report_ms; /* clock_ms(); 0: none yet. */
    bool is_failing;
};
void service_status(struct node *, struct service_status *ret);

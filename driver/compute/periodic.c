#include "driver/compute/periodic.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"
#include "driver/compute/service.h"
#include "driver/compute/tracker.h"

#include <stdatomic.h>
#include <stdlib.h>

#define DEFAULT_SPACING_S 60

static struct err *run_report(struct node *node, const struct rctx *ctx)
{
    service_report(node, ctx);
    return NULL;
}

static struct err *run_audit(struct node *node, const struct rctx *ctx)
{
    incoming_settle(node, ctx);
    return tracker_audit(node->tracker, ctx, /* is_startup= */ false);
}

static struct err *run_power_sync(struct node *node, const struct rctx *ctx)
{
    return lifecycle_sync_all(node, ctx);
}

static struct err *run_scheduler_sync(struct node *node, const struct rctx *ctx)
{
    CLEANUP(strv_fini) struct strv uuids = {0};

    TRY(instance_uuids_by_host(node->conductor, ctx, node->host, &uuids));
    notify_scheduler_sync(node, ctx, &uuids);
    return NULL;
}

/* Nova's intervals: 0 is the default spacing, below it is off. */
static int64_t spacing(int64_t seconds)
{
    return seconds == 0 ? DEFAULT_SPACING_S : MAX(seconds, (int64_t)0);
}

enum job_id {
#define PERIODIC(id, what, every, first, fn) JOB_##id,
#include "driver/compute/periodic.def"
#undef PERIODIC
    N_JOBS
};

struct job {
    struct periodic *owner;
    const char *what;
    int64_t (*every_s)(const struct conf *);
    int64_t first_s; /* -1: somewhere in its first interval. */
    struct err *(*fn)(struct node *, const struct rctx *);
    struct loop_source *timer;
    atomic_bool is_out;
};

struct periodic {
    struct node *node;
    struct job jobs[N_JOBS];
};

#define PERIODIC(id, what, every, first, fn)                                                       \
    static int64_t every_##id(const struct conf *conf)                                             \
    {                                                                                              \
        return every;                                                                              \
    }
#include "driver/compute/periodic.def"
#undef PERIODIC

static void job_task(void *arg)
{
    struct job *job = arg;
    struct node *node = job->owner->node;
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    log_context_set(rctx_log_text(ctx), NULL);
    err_ignore(job->fn(node, ctx), job->what);
    log_context_set(NULL, NULL);
    atomic_store(&job->is_out, false);
}

static void job_drop(void *arg)
{
    struct job *job = arg;

    atomic_store(&job->is_out, false);
}

static int64_t interval_ms(struct job *job)
{
    const struct conf *conf = conf_get(job->owner->node->conf);
    int64_t ms = job->every_s(conf) * 1000;

    conf_put(conf);
    return ms;
}

static void job_due(void *arg)
{
    struct job *job = arg;
    int64_t ms = interval_ms(job);

    if (ms > 0 && !atomic_exchange(&job->is_out, true)) {
        task_submit(job->owner->node->tasks, LANE_PERIODIC, job->what, job->what, job_task,
                    job_drop, job);
    }
    /* An option that turns the job on again is seen within a minute. */
    loop_timer_set(job->timer, clock_ms() + (ms > 0 ? ms : DEFAULT_SPACING_S * 1000));
}

struct err *periodic_start(struct node *node, struct periodic **ret)
{
    struct periodic *p = NEW(struct periodic);
    static const struct job table[N_JOBS] = {
#define PERIODIC(id, text, every, first, function)                                                 \
    [JOB_##id] = {.what = text, .every_s = every_##id, .first_s = first, .fn = function},
#include "driver/compute/periodic.def"
#undef PERIODIC
    };

    p->node = node;
    for (size_t i = 0; i < N_JOBS; i++) {
        struct job *job = &p->jobs[i];
        int64_t first_ms;

        job->what = table[i].what;
        job->every_s = table[i].every_s;
        job->fn = table[i].fn;
        job->owner = p;
        first_ms = table[i].first_s >= 0 ? table[i].first_s * 1000
                                         : clock_wall_us() % MAX(interval_ms(job), (int64_t)1000);
        struct err *e =
            loop_add_timer(node->loop, clock_ms() + first_ms, job_due, job, &job->timer);

        if (e) {
            periodic_stop(p);
            return e;
        }
    }
    *ret = p;
    return NULL;
}

struct periodic *periodic_stop(struct periodic *p)
{
    if (!p) {
        return NULL;
    }
    for (size_t i = 0; i < N_JOBS; i++) {
        if (p->jobs[i].timer) {
            loop_source_free(p->jobs[i].timer);
        }
    }
    free(p);
    return NULL;
}

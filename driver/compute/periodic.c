#include "driver/compute/periodic.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/evacuated.h"
#include "driver/compute/imagepass.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netcare.h"
#include "driver/compute/notify.h"
#include "driver/compute/poll.h"
#include "driver/compute/reap.h"
#include "driver/compute/service.h"
#include "driver/compute/tracker.h"
#include "driver/compute/usage_audit.h"

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

/* Jobs that an option turns on, and for which Nova has no interval. */
static int64_t spacing_if(int64_t is_on)
{
    return is_on > 0 ? DEFAULT_SPACING_S : 0;
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
    enum periodic_first first;
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

int64_t periodic_first_ms(enum periodic_first first, int64_t every_ms, int64_t fuzz_ms, size_t i,
                          size_t n, uint64_t random)
{
    switch (first) {
    case PERIODIC_AT_ONCE:
        return 0;
    case PERIODIC_SOON:
        return fuzz_ms;
    case PERIODIC_SPREAD:
        /* The same random number for all, so that jobs of one interval keep their distance. */
        return fuzz_ms + (int64_t)((random + (uint64_t)every_ms * i / n) % (uint64_t)every_ms);
    }
    return 0;
}

static const struct job table[N_JOBS] = {
#define PERIODIC(id, text, every, when, function)                                                  \
    [JOB_##id] = {.what = text, .every_s = every_##id, .first = PERIODIC_##when, .fn = function},
#include "driver/compute/periodic.def"
#undef PERIODIC
};

static struct err *start_job(struct periodic *p, size_t i, int64_t fuzz_ms, uint64_t random)
{
    struct job *job = &p->jobs[i];
    int64_t every_ms;

    job->owner = p;
    job->what = table[i].what;
    job->every_s = table[i].every_s;
    job->fn = table[i].fn;
    every_ms = interval_ms(job);
    return loop_add_timer(p->node->loop,
                          clock_ms() +
                              periodic_first_ms(table[i].first,
                                                every_ms > 0 ? every_ms : DEFAULT_SPACING_S * 1000,
                                                fuzz_ms, i, N_JOBS, random),
                          job_due, job, &job->timer);
}

struct err *periodic_start(struct node *node, struct periodic **ret)
{
    struct periodic *p = NEW(struct periodic);
    uint64_t random = (uint64_t)clock_wall_us();
    const struct conf *conf = conf_get(node->conf);
    bool is_enabled = conf->dflt.periodic_enable;
    int64_t fuzz_ms = (int64_t)(random % (uint64_t)(conf->dflt.periodic_fuzzy_delay * 1000 + 1));

    conf_put(conf);
    p->node = node;
    for (size_t i = 0; i < N_JOBS; i++) {
        if (!is_enabled && table[i].first != PERIODIC_AT_ONCE) {
            continue;
        }
        struct err *e = start_job(p, i, fuzz_ms, random);

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

#include "base/task.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sync.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#ifndef IDLE_MS /* Tests are in a hurry. */
#define IDLE_MS 10000
#endif
#define STACK_SIZE (512 * 1024) /* libvirt and libcurl are the deepest callees. */

/* The tasks of one key: one is in a lane's queue or runs, the others wait here. */
struct strand {
    char *key;
    struct task *waiting;
    UT_hash_handle hh;
};

struct task {
    struct task *prev, *next;
    enum lane lane;
    struct strand *strand; /* NULL: unordered. */
    const char *what;
    task_fn fn, drop;
    void *arg;
};

struct lane_state {
    struct task_pool *pool;
    enum lane id;
    struct cond work;
    struct task *queue;
    unsigned limit, n_threads, n_idle, n_running, n_queued, n_waiting;
    uint64_t n_done;
};

/* Everything is guarded by m. */
struct task_pool {
    struct mutex m;
    struct cond changed; /* n_open or n_threads fell to 0. */
    struct strand *strands;
    struct lane_state lanes[N_LANES];
    unsigned n_open;    /* Submitted and not finished. */
    unsigned n_threads; /* Of all lanes. */
    bool is_closed;     /* Nothing new is taken. */
    bool is_stopping;   /* Idle threads end. */
    bool has_ended;
    pthread_t ended; /* The thread that ended last, to be joined by the next one. */
};

static const struct {
    const char *name;
    unsigned limit;
} lane_defs[] = {
#define LANE(id, name, max_threads) [LANE_##id] = {name, max_threads},
#include "base/lanes.def"
#undef LANE
};

const char *lane_name(enum lane lane)
{
    return lane_defs[lane].name;
}

struct task_pool *task_pool_new(void)
{
    struct task_pool *pool = NEW(struct task_pool);

    mutex_init(&pool->m);
    cond_init(&pool->changed);
    for (size_t i = 0; i < N_LANES; i++) {
        pool->lanes[i].pool = pool;
        pool->lanes[i].id = (enum lane)i;
        pool->lanes[i].limit = lane_defs[i].limit;
        cond_init(&pool->lanes[i].work);
    }
    return pool;
}

static void *run_lane(void *arg);

/* As many threads as the queue needs and the limit allows.  False if the lane has none at all. */
static bool grow_locked(struct task_pool *pool, struct lane_state *lane) REQUIRES(pool->m)
{
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    while (lane->n_queued > lane->n_idle && lane->n_threads < lane->limit &&
           pthread_create(&thread, &attr, run_lane, lane) == 0) {
        lane->n_threads++;
        pool->n_threads++;
        /* It counts as idle until it has looked at the queue. */
        lane->n_idle++;
    }
    pthread_attr_destroy(&attr);
    return lane->n_threads > 0;
}

/* False, and nothing done, if no thread can be had. */
static bool enqueue_locked(struct task_pool *pool, struct task *task) REQUIRES(pool->m)
{
    struct lane_state *lane = &pool->lanes[task->lane];

    lane->n_queued++;
    if (!grow_locked(pool, lane)) {
        lane->n_queued--;
        return false;
    }
    DL_APPEND(lane->queue, task);
    cond_signal(&lane->work);
    return true;
}

/* Gives up the task's place at the head of its strand; returns the one that follows. */
static struct task *advance_locked(struct task_pool *pool, const struct task *task)
    REQUIRES(pool->m)
{
    struct strand *strand = task->strand;
    struct task *next = strand ? strand->waiting : NULL;

    if (next) {
        DL_DELETE(strand->waiting, next);
        pool->lanes[next->lane].n_waiting--;
    } else if (strand) {
        HASH_DEL(pool->strands, strand);
        free(strand->key);
        free(strand);
    }
    return next;
}

/* Makes a task ready to run; those that cannot run for want of a thread go to 'dropped'. */
static void ready_locked(struct task_pool *pool, struct task *task, struct task **dropped)
    REQUIRES(pool->m)
{
    while (task && !enqueue_locked(pool, task)) {
        struct task *next = advance_locked(pool, task);

        DL_APPEND(*dropped, task);
        task = next;
    }
}

static void close_locked(struct task_pool *pool) REQUIRES(pool->m)
{
    if (--pool->n_open == 0) {
        cond_broadcast(&pool->changed);
    }
}

static void drop_all(struct task_pool *pool, struct task *dropped)
{
    struct task *task, *tmp;

    DL_FOREACH_SAFE(dropped, task, tmp)
    {
        log_error(LOG_MAIN, "no thread for task '%s', dropping it", task->what);
        if (task->drop) {
            task->drop(task->arg);
        }
        free(task);
        mutex_lock(&pool->m);
        close_locked(pool);
        mutex_unlock(&pool->m);
    }
}

/* Queues the task behind those of its strand; true if it is the first. */
static bool join_strand_locked(struct task_pool *pool, struct task *task, const char *key)
    REQUIRES(pool->m)
{
    struct strand *strand;

    HASH_FIND_STR(pool->strands, key, strand);
    if (strand) {
        task->strand = strand;
        DL_APPEND(strand->waiting, task);
        pool->lanes[task->lane].n_waiting++;
        return false;
    }
    task->strand = NEW(struct strand);
    task->strand->key = str_dup(key);
    HASH_ADD_KEYPTR(hh, pool->strands, task->strand->key, strlen(key), task->strand);
    return true;
}

void task_submit(struct task_pool *pool, enum lane lane, const char *key, const char *what,
                 task_fn fn, task_fn drop, void *arg)
{
    struct task *task, *dropped = NULL;

    mutex_lock(&pool->m);
    if (pool->is_closed) {
        mutex_unlock(&pool->m);
        if (drop) {
            drop(arg);
        }
        return;
    }
    task = NEW(struct task);
    *task = (struct task){.lane = lane, .what = what, .fn = fn, .drop = drop, .arg = arg};
    pool->n_open++;
    if (!key || join_strand_locked(pool, task, key)) {
        ready_locked(pool, task, &dropped);
    }
    mutex_unlock(&pool->m);
    drop_all(pool, dropped);
}

/* Runs the first task of the queue without the lock. */
static void run_one_locked(struct task_pool *pool, struct lane_state *lane) REQUIRES(pool->m)
{
    struct task *task = lane->queue, *dropped = NULL;

    DL_DELETE(lane->queue, task);
    lane->n_queued--;
    lane->n_running++;
    mutex_unlock(&pool->m);

    task->fn(task->arg);
    log_context_set(NULL, NULL);

    mutex_lock(&pool->m);
    lane->n_running--;
    lane->n_done++;
    lane->n_idle++; /* Until it looks at the queue, which may hold the next of the strand. */
    ready_locked(pool, advance_locked(pool, task), &dropped);
    close_locked(pool);
    mutex_unlock(&pool->m);
    free(task);
    drop_all(pool, dropped);
    mutex_lock(&pool->m);
    lane->n_idle--;
}

/* Waits for work; false when the thread should end. */
static bool wait_locked(struct task_pool *pool, struct lane_state *lane) REQUIRES(pool->m)
{
    bool is_woken;

    if (pool->is_stopping) {
        return false;
    }
    lane->n_idle++;
    is_woken = cond_wait_until(&lane->work, &pool->m, clock_ms() + IDLE_MS);
    lane->n_idle--;
    return is_woken || lane->queue;
}

/* Each thread that ends joins the one that ended before, so that none is left behind.  This one's
 * place is given up together with the decision to end, or a new task could count on it. */
static bool end_locked(struct task_pool *pool, struct lane_state *lane, pthread_t *ret_before)
    REQUIRES(pool->m)
{
    bool has_before = pool->has_ended;

    *ret_before = pool->ended;
    pool->has_ended = true;
    pool->ended = pthread_self();
    lane->n_threads--;
    if (lane->queue) {
        cond_signal(&lane->work); /* This thread may have taken the signal that was for a task. */
    }
    if (--pool->n_threads == 0) {
        cond_broadcast(&pool->changed);
    }
    return has_before;
}

static void *run_lane(void *arg)
{
    struct lane_state *lane = arg;
    struct task_pool *pool = lane->pool;
    pthread_t before;
    bool has_before;

    pthread_setname_np(pthread_self(), lane_name(lane->id));
    mutex_lock(&pool->m);
    lane->n_idle--;
    while (lane->n_threads <= lane->limit) {
        if (lane->queue) {
            run_one_locked(pool, lane);
        } else if (!wait_locked(pool, lane)) {
            break;
        }
    }
    has_before = end_locked(pool, lane, &before);
    mutex_unlock(&pool->m);
    if (has_before) {
        pthread_join(before, NULL);
    }
    mem_trim();
    return NULL;
}

void task_set_limit(struct task_pool *pool, enum lane lane, unsigned max_threads)
{
    mutex_lock(&pool->m);
    pool->lanes[lane].limit = MAX(max_threads, 1u);
    grow_locked(pool, &pool->lanes[lane]);
    cond_broadcast(&pool->lanes[lane].work); /* Those above the limit end. */
    mutex_unlock(&pool->m);
}

void task_stats(struct task_pool *pool, enum lane lane, struct task_stats *ret)
{
    const struct lane_state *l = &pool->lanes[lane];

    mutex_lock(&pool->m);
    *ret = (struct task_stats){
        .n_threads = l->n_threads,
        .n_running = l->n_running,
        .n_queued = l->n_queued,
        .n_waiting = l->n_waiting,
        .n_done = l->n_done,
    };
    mutex_unlock(&pool->m);
}

struct task_pool *task_pool_free(struct task_pool *pool)
{
    if (!pool) {
        return NULL;
    }
    mutex_lock(&pool->m);
    pool->is_closed = true;
    while (pool->n_open > 0) {
        cond_wait_until(&pool->changed, &pool->m, INT64_MAX);
    }
    pool->is_stopping = true;
    for (size_t i = 0; i < N_LANES; i++) {
        cond_broadcast(&pool->lanes[i].work);
    }
    while (pool->n_threads > 0) {
        cond_wait_until(&pool->changed, &pool->m, INT64_MAX);
    }
    mutex_unlock(&pool->m);
    if (pool->has_ended) {
        pthread_join(pool->ended, NULL);
    }
    for (size_t i = 0; i < N_LANES; i++) {
        cond_fini(&pool->lanes[i].work);
    }
    cond_fini(&pool->changed);
    mutex_fini(&pool->m);
    free(pool);
    return NULL;
}

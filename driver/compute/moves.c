#include "driver/compute/moves.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <uthash.h>

enum once_state { ONCE_NOT_YET, ONCE_RUNS, ONCE_DONE, ONCE_FAILED };

struct move {
    atomic_int n_refs;
    char *uuid;
    char *dest;
    int64_t migration_id;
    int64_t started_ms;
    struct cancel *cancel;
    struct mutex m; /* Covers all below. */
    struct cond cond;
    enum move_phase phase;
    bool is_aborted;
    struct migrate_job *job;
    struct lv_job sample;
    enum once_state once;
    bool is_saving_progress;
    UT_hash_handle hh;
};

struct moves {
    struct mutex m;
    struct move *by_uuid;
};

const char *move_phase_name(enum move_phase phase)
{
    static const char *const names[] = {[MOVE_QUEUED] = "queued",
                                        [MOVE_PREPARING] = "preparing",
                                        [MOVE_RUNNING] = "running",
                                        [MOVE_POST] = "post",
                                        [MOVE_ROLLBACK] = "rolling back"};

    return names[phase];
}

struct moves *moves_new(void)
{
    struct moves *ms = NEW(struct moves);

    mutex_init(&ms->m);
    return ms;
}

struct moves *moves_free(struct moves *ms)
{
    struct move *mv, *next;

    if (!ms) {
        return NULL;
    }
    HASH_ITER(hh, ms->by_uuid, mv, next)
    {
        HASH_DEL(ms->by_uuid, mv);
        move_free(mv);
    }
    mutex_fini(&ms->m);
    free(ms);
    return NULL;
}

static struct move *move_ref(struct move *mv)
{
    atomic_fetch_add(&mv->n_refs, 1);
    return mv;
}

struct move *move_free(struct move *mv)
{
    if (!mv || atomic_fetch_sub(&mv->n_refs, 1) > 1) {
        return NULL;
    }
    cancel_free(mv->cancel);
    cond_fini(&mv->cond);
    mutex_fini(&mv->m);
    free(mv->uuid);
    free(mv->dest);
    free(mv);
    return NULL;
}

struct err *moves_add(struct moves *ms, const char *instance_uuid, int64_t migration_id,
                      const char *dest, struct move **ret)
{
    struct move *mv = NEW(struct move), *other;

    mv->uuid = str_dup(instance_uuid);
    mv->dest = str_dup(dest);
    mv->migration_id = migration_id;
    mv->started_ms = clock_ms();
    mv->cancel = cancel_new();
    mutex_init(&mv->m);
    cond_init(&mv->cond);
    atomic_init(&mv->n_refs, 1);
    mutex_lock(&ms->m);
    HASH_FIND_STR(ms->by_uuid, instance_uuid, other);
    if (!other) {
        HASH_ADD_KEYPTR(hh, ms->by_uuid, mv->uuid, strlen(mv->uuid), mv);
        *ret = move_ref(mv);
    }
    mutex_unlock(&ms->m);
    if (other) {
        CLEANUP(freep) char *id = str_printf("%lld", (long long)migration_id);

        move_free(mv);
        return err_new(ERR_INVALID_MIGRATION_STATE, "migration_id", id, "instance_uuid",
                       instance_uuid, "state", "already running", "method", "live migrate", NULL);
    }
    return NULL;
}

struct move *moves_find(struct moves *ms, const char *instance_uuid)
{
    struct move *mv;

    mutex_lock(&ms->m);
    HASH_FIND_STR(ms->by_uuid, instance_uuid, mv);
    if (mv) {
        move_ref(mv);
    }
    mutex_unlock(&ms->m);
    return mv;
}

void moves_remove(struct moves *ms, struct move *mv)
{
    struct move *found;

    mutex_lock(&ms->m);
    HASH_FIND_STR(ms->by_uuid, mv->uuid, found);
    if (found == mv) {
        HASH_DEL(ms->by_uuid, mv);
    }
    mutex_unlock(&ms->m);
    if (found == mv) {
        move_free(mv);
    }
}

void moves_cancel_waiting(struct moves *ms)
{
    struct move *mv, *next;

    mutex_lock(&ms->m);
    HASH_ITER(hh, ms->by_uuid, mv, next)
    {
        mutex_lock(&mv->m);
        if (mv->phase <= MOVE_PREPARING) {
            mv->is_aborted = true;
            cancel_set(mv->cancel);
        }
        mutex_unlock(&mv->m);
    }
    mutex_unlock(&ms->m);
}

static struct json_object *move_json_locked(struct move *mv)
{
    struct json_object *o = json_object_new_object();
    const struct lv_job *j = &mv->sample;

    jv_add_str(o, "server", mv->uuid);
    jv_add_int(o, "migration_id", mv->migration_id);
    jv_add_str(o, "destination", mv->dest);
    jv_add_str(o, "phase", move_phase_name(mv->phase));
    jv_add_bool(o, "aborted", mv->is_aborted);
    jv_add_int(o, "elapsed_ms", clock_ms() - mv->started_ms);
    jv_add_int(o, "memory_total", (int64_t)j->memory_total);
    jv_add_int(o, "memory_processed", (int64_t)j->memory_processed);
    jv_add_int(o, "memory_remaining", (int64_t)j->memory_remaining);
    jv_add_int(o, "memory_bps", (int64_t)j->memory_bps);
    jv_add_int(o, "disk_total", (int64_t)j->disk_total);
    jv_add_int(o, "disk_processed", (int64_t)j->disk_processed);
    jv_add_int(o, "disk_remaining", (int64_t)j->disk_remaining);
    jv_add_int(o, "dirty_rate_pages", (int64_t)j->memory_dirty_rate);
    jv_add_int(o, "iteration", (int64_t)j->memory_iteration);
    return o;
}

struct json_object *moves_json(struct moves *ms)
{
    struct json_object *list = json_object_new_array();
    struct move *mv, *next;

    mutex_lock(&ms->m);
    HASH_ITER(hh, ms->by_uuid, mv, next)
    {
        mutex_lock(&mv->m);
        json_object_array_add(list, move_json_locked(mv));
        mutex_unlock(&mv->m);
    }
    mutex_unlock(&ms->m);
    return list;
}

size_t moves_n(struct moves *ms)
{
    mutex_lock(&ms->m);
    size_t n = HASH_COUNT(ms->by_uuid);

    mutex_unlock(&ms->m);
    return n;
}

const char *move_uuid(const struct move *mv)
{
    return mv->uuid;
}

const char *move_dest(const struct move *mv)
{
    return mv->dest;
}

struct cancel *move_cancel(struct move *mv)
{
    return mv->cancel;
}

enum move_phase move_phase(struct move *mv)
{
    mutex_lock(&mv->m);
    enum move_phase phase = mv->phase;

    mutex_unlock(&mv->m);
    return phase;
}

bool move_advance(struct move *mv, enum move_phase to)
{
    mutex_lock(&mv->m);
    bool goes_on = !mv->is_aborted || to == MOVE_POST;

    if (goes_on) {
        mv->phase = to;
    }
    mutex_unlock(&mv->m);
    return goes_on;
}

void move_set_rollback(struct move *mv)
{
    mutex_lock(&mv->m);
    mv->phase = MOVE_ROLLBACK;
    mutex_unlock(&mv->m);
}

void move_set_job(struct move *mv, struct migrate_job *job)
{
    mutex_lock(&mv->m);
    mv->job = job;
    mutex_unlock(&mv->m);
}

void move_event(struct move *mv, const struct lv_event *event)
{
    mutex_lock(&mv->m);
    if (mv->job) {
        migrate_event(mv->job, event);
    }
    mutex_unlock(&mv->m);
}

void move_sample(struct move *mv, const struct lv_job *job)
{
    mutex_lock(&mv->m);
    mv->sample = *job;
    mutex_unlock(&mv->m);
}

bool move_progress_begin(struct move *mv)
{
    mutex_lock(&mv->m);
    bool may = !mv->is_saving_progress;

    mv->is_saving_progress = true;
    mutex_unlock(&mv->m);
    return may;
}

void move_progress_end(struct move *mv)
{
    mutex_lock(&mv->m);
    mv->is_saving_progress = false;
    mutex_unlock(&mv->m);
}

struct err *move_abort(struct move *mv, enum move_abort *ret)
{
    struct err *e = NULL;

    mutex_lock(&mv->m);
    switch (mv->phase) {
    case MOVE_QUEUED:
        mv->is_aborted = true;
        cancel_set(mv->cancel);
        *ret = MOVE_ABORT_DROPPED;
        break;
    case MOVE_PREPARING:
        mv->is_aborted = true;
        cancel_set(mv->cancel);
        *ret = MOVE_ABORT_NOTED;
        break;
    case MOVE_RUNNING:
        if (mv->job) {
            e = migrate_abort(mv->job);
        } else {
            cancel_set(mv->cancel); /* The job is not there yet: it sees this when it is. */
        }
        *ret = MOVE_ABORT_STOPPED;
        break;
    case MOVE_POST:
    case MOVE_ROLLBACK:
        *ret = MOVE_ABORT_TOO_LATE;
        break;
    }
    mutex_unlock(&mv->m);
    return e;
}

struct err *move_force_complete(struct move *mv)
{
    struct err *e;

    mutex_lock(&mv->m);
    if (mv->phase == MOVE_RUNNING && mv->job) {
        e = migrate_force_complete(mv->job);
    } else {
        e = err_new(ERR_NO_ACTIVE_MIGRATION, "instance_id", mv->uuid, NULL);
    }
    mutex_unlock(&mv->m);
    return e;
}

bool move_once(struct move *mv, move_once_fn fn, void *arg)
{
    mutex_lock(&mv->m);
    while (mv->once == ONCE_RUNS) {
        cond_wait_until(&mv->cond, &mv->m, INT64_MAX);
    }
    if (mv->once == ONCE_NOT_YET) {
        mv->once = ONCE_RUNS;
        mutex_unlock(&mv->m);
        CLEANUP(err_freep) struct err *e = fn(arg);

        if (e) {
            log_error(LOG_MIGRATE, "switching the ports over: %s", err_message(e));
        }
        mutex_lock(&mv->m);
        mv->once = e ? ONCE_FAILED : ONCE_DONE;
        cond_broadcast(&mv->cond);
    }
    bool is_done = mv->once == ONCE_DONE;

    mutex_unlock(&mv->m);
    return is_done;
}

bool move_once_was_run(struct move *mv)
{
    mutex_lock(&mv->m);
    while (mv->once == ONCE_RUNS) {
        cond_wait_until(&mv->cond, &mv->m, INT64_MAX);
    }
    bool was_run = mv->once != ONCE_NOT_YET;

    mutex_unlock(&mv->m);
    return was_run;
}

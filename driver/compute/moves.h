#pragma once

/* The live migrations whose source this host is: what is queued, being prepared, running.
 *
 * One entry a server.  An entry is counted by references: the registry's, the task's, and those of
 * whoever looked it up.
 *
 * Source: nova/compute/manager.py _waiting_live_migrations, _live_migration_executor.
 *
 * Thread-safety: everything from any thread; the fields of struct move that change are behind
 * functions. */

#include "base/err.h"
#include "base/sync.h"
#include "driver/libvirt/migrate.h"
#include "rpc/objects/objects.h"
#include "vif/model.h"

struct moves;
struct move;

enum move_phase {
    MOVE_QUEUED,    /* Waits for a thread: dropped at once by an abort. */
    MOVE_PREPARING, /* The destination prepares; an abort is seen before the copy starts. */
    MOVE_RUNNING,   /* libvirt copies; an abort ends libvirt's job. */
    MOVE_POST,      /* The guest is on the other side: too late to abort. */
    MOVE_ROLLBACK,
};
const char *move_phase_name(enum move_phase);

struct moves *moves_new(void) MUST_CHECK;
struct moves *moves_free(struct moves *);

/* Enters a move.  ERR_INVALID_MIGRATION_STATE if one of this server is already there: the first is
 * left alone. */
struct err *moves_add(struct moves *, const char *instance_uuid, int64_t migration_id,
                      const char *dest, struct move **ret) MUST_CHECK;
/* A new reference, or NULL. */
struct move *moves_find(struct moves *, const char *instance_uuid) MUST_CHECK;
/* Takes it out of the registry; references stay valid. */
void moves_remove(struct moves *, struct move *);
/* Asks every queued and preparing move to end (the service stops). */
void moves_cancel_waiting(struct moves *);
/* JSON array for novashimctl. */
struct json_object *moves_json(struct moves *) MUST_CHECK;
size_t moves_n(struct moves *);

struct move *move_free(struct move *);
static inline void move_freep(struct move **p)
{
    *p = move_free(*p);
}
const char *move_uuid(const struct move *);
const char *move_dest(const struct move *);
struct cancel *move_cancel(struct move *);

enum move_phase move_phase(struct move *);
/* From one phase to the next.  False if an abort came first: the caller rolls back. */
bool move_advance(struct move *, enum move_phase to);
/* Enters the rollback phase, whatever was before. */
void move_set_rollback(struct move *);

/* The job while it runs; NULL to take it out again. */
void move_set_job(struct move *, struct migrate_job *);
/* An event of this server for the running job, if any. */
void move_event(struct move *, const struct lv_event *);
/* Keeps the last sample for novashimctl. */
void move_sample(struct move *, const struct lv_job *);
/* One save of progress at a time: false while another is under way. */
bool move_progress_begin(struct move *);
void move_progress_end(struct move *);

enum move_abort {
    MOVE_ABORT_DROPPED, /* It was queued: the caller undoes what the control plane did. */
    MOVE_ABORT_NOTED,   /* It is being prepared: it will roll back by itself. */
    MOVE_ABORT_STOPPED, /* libvirt's job was told to end. */
    MOVE_ABORT_TOO_LATE,
};
struct err *move_abort(struct move *, enum move_abort *ret) MUST_CHECK;
/* ERR_NO_ACTIVE_MIGRATION if the copy does not run. */
struct err *move_force_complete(struct move *) MUST_CHECK;

/* Runs fn(arg) once for the move, however many threads ask: the first one runs it, others wait for
 * it to end; all get 'true' if it succeeded.  (Activating the destination's bindings.) */
typedef struct err *(*move_once_fn)(void *arg);
bool move_once(struct move *, move_once_fn, void *arg);
/* Whether that was ever begun; waits for one that runs to end. */
bool move_once_was_run(struct move *);

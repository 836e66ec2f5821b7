#pragma once

/* Mutexes that clang's thread-safety analysis understands, and waiting with a deadline.
 *
 * A mutex covers a few lines and never I/O.  It is taken in the public function, the work is done
 * in *_locked, and it is released by hand: no scope guards, the checker cannot see them.
 *
 * Order of locks, outermost first; a thread that holds one may take only those below it:
 *
 *   node registries (driver/compute: events, moves, spawner, tracker, chores; driver/libvirt:
 *     lvwatch, serial ports)
 *   task pool, strands
 *   keylock (its own mutex; what it guards is held over I/O, outside of all others)
 *   rpc client waiters, rpc server dedup
 *   mq out queue
 *   rest session (token), http pool
 *   ovsdb
 *   cancel, waiter
 *   log */

#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define TS_ATTR(x) __attribute__((x))
#else
#define TS_ATTR(x)
#endif
#define CAPABILITY(name) TS_ATTR(capability(name))
/* For the reader only: in C, clang 14 does not find a mutex that is a member of the same struct. */
#define GUARDED_BY(m)
#define REQUIRES(...)  TS_ATTR(requires_capability(__VA_ARGS__))
#define ACQUIRES(...)  TS_ATTR(acquire_capability(__VA_ARGS__))
#define RELEASES(...)  TS_ATTR(release_capability(__VA_ARGS__))
#define NO_TS_ANALYSIS TS_ATTR(no_thread_safety_analysis)

struct CAPABILITY("mutex") mutex {
    pthread_mutex_t m;
};

#define MUTEX_INIT                                                                                 \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER                                                                  \
    }
void mutex_init(struct mutex *);
void mutex_fini(struct mutex *);
void mutex_lock(struct mutex *m) ACQUIRES(*m);
void mutex_unlock(struct mutex *m) RELEASES(*m);

/* A condition on CLOCK_MONOTONIC. */
struct cond {
    pthread_cond_t c;
};

void cond_init(struct cond *);
void cond_fini(struct cond *);
void cond_signal(struct cond *);
void cond_broadcast(struct cond *);
/* Waits until signalled or until clock_ms() reaches deadline_ms (INT64_MAX: for ever).  False when
 * the deadline has passed. */
bool cond_wait_until(struct cond *, struct mutex *m, int64_t deadline_ms) REQUIRES(*m);

/* A cancel token: set once, seen by everyone, wakes those that sleep in cancel_wait. */
struct cancel;

struct cancel *cancel_new(void) MUST_CHECK;
struct cancel *cancel_ref(struct cancel *) MUST_CHECK;
struct cancel *cancel_free(struct cancel *); /* Drops a reference. */
static inline void cancel_freep(struct cancel **p)
{
    *p = cancel_free(*p);
}
void cancel_set(struct cancel *);
/* NULL is never cancelled. */
bool cancel_is_set(struct cancel *);
/* Sleeps; true if cancelled before the time was over. */
bool cancel_sleep(struct cancel *, int64_t ms);

/* For those that sleep elsewhere: 'fn' runs on the thread that sets the token, under its lock, or
 * at once if it is set already; so it may only take locks below 'cancel'. */
struct cancel_hook {
    void (*fn)(void *arg);
    void *arg;
    struct cancel_hook *next;
};
/* The hook is the caller's and lives until it is removed; a NULL token is never set. */
void cancel_hook_add(struct cancel *, struct cancel_hook *);
/* When it returns, fn does not run and will not. */
void cancel_hook_del(struct cancel *, struct cancel_hook *);

#pragma once

/* The reactor of the main thread: timers, signals, descriptors, over libsystemd's sd-event.
 *
 * Callbacks run on the thread that is in loop_run and never block.
 *
 * Ownership: a source lives until loop_source_free or until the loop is freed.
 * Thread-safety: only loop_post and loop_quit may be called from other threads. */

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_source;

typedef void (*loop_fn)(void *arg);
typedef void (*loop_io_fn)(int fd, uint32_t epoll_events, void *arg);
typedef void (*loop_signal_fn)(int signo, void *arg);

struct err *loop_new(struct loop **ret) MUST_CHECK;
struct loop *loop_free(struct loop *);
static inline void loop_freep(struct loop **p)
{
    *p = loop_free(*p);
}

/* Calls fn once, at clock_ms() == at_ms or later. */
struct err *loop_add_timer(struct loop *, int64_t at_ms, loop_fn, void *arg,
                           struct loop_source **ret) MUST_CHECK;
/* Arms a timer again (also from its own callback); INT64_MAX is never. */
void loop_timer_set(struct loop_source *, int64_t at_ms);
void loop_timer_off(struct loop_source *);
/* events: EPOLLIN | EPOLLOUT; EPOLLERR and EPOLLHUP are always reported.  The descriptor stays the
 * caller's: free the source before closing it. */
struct err *loop_add_io(struct loop *, int fd, uint32_t events, loop_io_fn, void *arg,
                        struct loop_source **ret) MUST_CHECK;
void loop_io_set(struct loop_source *, uint32_t events);
/* The signal must be blocked in every thread (loop_block_signals before the first thread). */
struct err *loop_add_signal(struct loop *, int signo, loop_signal_fn, void *arg) MUST_CHECK;
/* Blocks HUP, INT, TERM, USR1 and USR2, and ignores PIPE.  Programs inherit both: unblock in a
 * child before exec. */
void loop_block_signals(void);
/* Takes NULL; returns NULL.  Also from the source's own callback. */
struct loop_source *loop_source_free(struct loop_source *);

/* Runs fn(arg) on the loop's thread soon, in the order of the calls.  What is posted after the loop
 * ended never runs. */
void loop_post(struct loop *, loop_fn, void *arg);
/* Runs until loop_quit; once in the life of a loop.  Under systemd it feeds the watchdog. */
struct err *loop_run(struct loop *) MUST_CHECK;
void loop_quit(struct loop *);
/* Tells systemd ("READY=1", "STOPPING=1"); without systemd nothing happens. */
void loop_notify(struct loop *, const char *state);

#pragma once

/* Running a program: arguments as a list (no shell), output bounded, a deadline.
 *
 * Thread-safety: from any thread; blocks the caller. */

#include "base/err.h"
#include "base/sync.h"

#include <stdint.h>

/* Runs argv[0] (found in PATH) with argv; NULL ends.  stdin is /dev/null.  What it prints to stdout
 * (at most 1 MiB) goes to *ret_out if that is not NULL.  ERR_INTERNAL with the program, its exit
 * status and the end of what it said on stderr; ERR_NO_SPACE when that says that a disk is full;
 * ERR_TIMEOUT after killing it. */
struct err *proc_run(const char *const *argv, int64_t timeout_ms, char **ret_out) MUST_CHECK;
/* The same; when 'stop', which may be NULL, is set meanwhile, the program is killed: ERR_CANCELLED.
 */
struct err *proc_run_until(const char *const *argv, int64_t timeout_ms, struct cancel *stop,
                           char **ret_out) MUST_CHECK;

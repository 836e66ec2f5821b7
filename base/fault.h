#pragma once

/* Named points where a test makes the service fail, die or wait: base/faults.def.
 *
 * What happens where comes from the environment variable NOVASHIM_FAULTS, once:
 *
 *   NOVASHIM_FAULTS=build.disks=kill,terminate.ports.after=fail:1,build.guest=sleep:5
 *
 *   kill      the process ends by SIGKILL
 *   fail[:N]  the step fails, the first N times (without a number: always)
 *   sleep:N   the step takes N seconds longer
 *
 * Without the variable a point costs one atomic load.
 *
 * Thread-safety: fault_init before there are threads; the rest from any thread. */

#include "base/err.h"

enum fault {
#define FAULT(table, step) FAULT_##table##_##step,
#include "base/faults.def"
#undef FAULT
    FAULT_N
};

/* 'spec' is the variable's value, NULL if it is not set.  ERR_CONFIG, naming it, for an unknown
 * point or action; then nothing happens anywhere. */
struct err *fault_init(const char *spec) MUST_CHECK;
/* "build.disks" */
const char *fault_name(enum fault);

/* The step begins; the step is done.  Returns ERR_INTERNAL if it is to fail here. */
struct err *fault_before(enum fault) MUST_CHECK;
struct err *fault_after(enum fault) MUST_CHECK;

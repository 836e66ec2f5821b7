#pragma once

/* Sets of small integers: CPU numbers, NUMA nodes.
 *
 * The text form is Nova's "0-3,8,^2" (nova/virt/hardware.py, parse_cpu_spec): numbers and ranges,
 * and with a caret those to leave out, wherever they stand.  It is also what libvirt and sysfs
 * use, without carets.
 *
 * Ownership: a set owns its memory; all zero is the empty set.  Thread-safety: none of its own. */

#include "base/err.h"
#include "base/jv.h"

#include <stdbool.h>
#include <stddef.h>

#define CPUSET_MAX 1048576 /* One more than the largest member. */

struct cpuset {
    unsigned *items; /* Ascending, no duplicates. */
    size_t n;
    size_t cap;
};

/* ERR_CONFIG for a text that is no specification or a number not below CPUSET_MAX.  An empty text
 * is an empty set. */
struct err *cpuset_parse(const char *text, struct cpuset *ret) MUST_CHECK;
/* From a JSON array of numbers, or a serialised set of a versioned object (also an array); NULL
 * and JSON null are an empty set.  ERR_PARSE. */
struct err *cpuset_from_json(struct json_object *array, struct cpuset *ret) MUST_CHECK;
void cpuset_fini(struct cpuset *);

/* "0-3,8"; "" for an empty set. */
char *cpuset_text(const struct cpuset *) MUST_CHECK;
/* The numbers as a JSON array, ascending. */
struct json_object *cpuset_to_json(const struct cpuset *) MUST_CHECK;
struct cpuset cpuset_dup(const struct cpuset *) MUST_CHECK;

void cpuset_add(struct cpuset *, unsigned cpu);
void cpuset_del(struct cpuset *, unsigned cpu);
bool cpuset_has(const struct cpuset *, unsigned cpu);
bool cpuset_eq(const struct cpuset *, const struct cpuset *);
bool cpuset_is_subset(const struct cpuset *inner, const struct cpuset *outer);
bool cpuset_is_disjoint(const struct cpuset *, const struct cpuset *);

/* New sets, which are the caller's. */
struct cpuset cpuset_union(const struct cpuset *, const struct cpuset *) MUST_CHECK;
struct cpuset cpuset_intersect(const struct cpuset *, const struct cpuset *) MUST_CHECK;
/* What is in the first and not in the second. */
struct cpuset cpuset_diff(const struct cpuset *, const struct cpuset *) MUST_CHECK;

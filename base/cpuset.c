#include "base/cpuset.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void append(struct cpuset *s, unsigned cpu)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->items = mem_realloc(s->items, s->cap, sizeof(*s->items));
    }
    s->items[s->n++] = cpu;
}

/* Where cpu is, or where it would be inserted. */
static size_t position(const struct cpuset *s, unsigned cpu)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->items[mid] < cpu) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

void cpuset_fini(struct cpuset *s)
{
    free(s->items);
    *s = (struct cpuset){0};
}

bool cpuset_has(const struct cpuset *s, unsigned cpu)
{
    size_t at = position(s, cpu);

    return at < s->n && s->items[at] == cpu;
}

void cpuset_add(struct cpuset *s, unsigned cpu)
{
    size_t at = position(s, cpu);

    assert(cpu < CPUSET_MAX);
    if (at < s->n && s->items[at] == cpu) {
        return;
    }
    append(s, cpu);
    memmove(s->items + at + 1, s->items + at, (s->n - 1 - at) * sizeof(*s->items));
    s->items[at] = cpu;
}

void cpuset_del(struct cpuset *s, unsigned cpu)
{
    size_t at = position(s, cpu);

    if (at < s->n && s->items[at] == cpu) {
        memmove(s->items + at, s->items + at + 1, (s->n - at - 1) * sizeof(*s->items));
        s->n--;
    }
}

struct cpuset cpuset_dup(const struct cpuset *s)
{
    struct cpuset copy = {0};

    for (size_t i = 0; i < s->n; i++) {
        append(&copy, s->items[i]);
    }
    return copy;
}

bool cpuset_eq(const struct cpuset *a, const struct cpuset *b)
{
    return a->n == b->n && (a->n == 0 || !memcmp(a->items, b->items, a->n * sizeof(*a->items)));
}

bool cpuset_is_subset(const struct cpuset *inner, const struct cpuset *outer)
{
    for (size_t i = 0; i < inner->n; i++) {
        if (!cpuset_has(outer, inner->items[i])) {
            return false;
        }
    }
    return true;
}

bool cpuset_is_disjoint(const struct cpuset *a, const struct cpuset *b)
{
    for (size_t i = 0; i < a->n; i++) {
        if (cpuset_has(b, a->items[i])) {
            return false;
        }
    }
    return true;
}

struct cpuset cpuset_union(const struct cpuset *a, const struct cpuset *b)
{
    struct cpuset all = {0};
    size_t i = 0, j = 0;

    while (i < a->n || j < b->n) {
        if (j == b->n || (i < a->n && a->items[i] < b->items[j])) {
            append(&all, a->items[i++]);
        } else {
            if (i < a->n && a->items[i] == b->items[j]) {
                i++;
            }
            append(&all, b->items[j++]);
        }
    }
    return all;
}

/* The members of a that are, or are not, in b. */
static struct cpuset filter(const struct cpuset *a, const struct cpuset *b, bool want)
{
    struct cpuset some = {0};

    for (size_t i = 0; i < a->n; i++) {
        if (cpuset_has(b, a->items[i]) == want) {
            append(&some, a->items[i]);
        }
    }
    return some;
}

struct cpuset cpuset_intersect(const struct cpuset *a, const struct cpuset *b)
{
    return filter(a, b, /* want= */ true);
}

struct cpuset cpuset_diff(const struct cpuset *a, const struct cpuset *b)
{
    return filter(a, b, /* want= */ false);
}

/* One number with white space around it, as Python's int() reads it but never negative. */
static bool read_number(const char *s, size_t len, unsigned *ret)
{
    CLEANUP(freep) char *copy = str_ndup(s, len);
    int64_t n;

    if (!str_to_i64(str_strip(copy), &n) || n < 0 || n >= CPUSET_MAX) {
        return false;
    }
    *ret = (unsigned)n;
    return true;
}

static bool read_rule(const char *rule, struct cpuset *in, struct cpuset *out)
{
    struct cpuset *set = *rule == '^' ? out : in;
    const char *from = rule + (*rule == '^');
    const char *dash = strchr(from, '-');
    unsigned first, last;

    if (!read_number(from, dash ? (size_t)(dash - from) : strlen(from), &first)) {
        return false;
    }
    last = first;
    if (dash && (!read_number(dash + 1, strlen(dash + 1), &last) || last < first)) {
        return false;
    }
    for (unsigned cpu = first; cpu <= last; cpu++) {
        cpuset_add(set, cpu);
    }
    return true;
}

struct err *cpuset_parse(const char *text, struct cpuset *ret)
{
    CLEANUP(strv_fini) struct strv rules = strv_split(text, ",");
    CLEANUP(cpuset_fini) struct cpuset in = {0}, out = {0};

    for (size_t i = 0; i < rules.n; i++) {
        if (!read_rule(rules.items[i], &in, &out)) {
            return err_msg(ERR_CONFIG, "'%s' is not a CPU, a range or an exclusion of one",
                           rules.items[i]);
        }
    }
    *ret = cpuset_diff(&in, &out);
    return NULL;
}

char *cpuset_text(const struct cpuset *s)
{
    struct strbuf text = {0};

    for (size_t i = 0; i < s->n; i++) {
        size_t last = i;

        while (last + 1 < s->n && s->items[last + 1] == s->items[last] + 1) {
            last++;
        }
        strbuf_addf(&text, "%s%u", i ? "," : "", s->items[i]);
        if (last > i) {
            strbuf_addf(&text, "-%u", s->items[last]);
        }
        i = last;
    }
    return strbuf_take(&text);
}

struct err *cpuset_from_json(struct json_object *array, struct cpuset *ret)
{
    CLEANUP(cpuset_fini) struct cpuset set = {0};

    if (array && !json_object_is_type(array, json_type_array)) {
        return err_msg(ERR_PARSE, "a set of CPUs is not an array");
    }
    for (size_t i = 0; array && i < json_object_array_length(array); i++) {
        struct json_object *item = json_object_array_get_idx(array, i);
        int64_t cpu = json_object_get_int64(item);

        if (!json_object_is_type(item, json_type_int) || cpu < 0 || cpu >= CPUSET_MAX) {
            return err_msg(ERR_PARSE, "'%s' is not the number of a CPU",
                           json_object_to_json_string(item));
        }
        cpuset_add(&set, (unsigned)cpu);
    }
    *ret = set;
    set = (struct cpuset){0};
    return NULL;
}

struct json_object *cpuset_to_json(const struct cpuset *s)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < s->n; i++) {
        json_object_array_add(array, json_object_new_int64(s->items[i]));
    }
    return array;
}

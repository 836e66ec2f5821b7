#pragma once

/* Strings: NUL-terminated, UTF-8 where it matters, owned by who allocated them.
 *
 * Thread-safety: no shared state. */

#include "base/mem.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL stays NULL. */
char *str_dup(const char *s) MUST_CHECK;
char *str_ndup(const char *s, size_t len) MUST_CHECK;
char *str_printf(const char *fmt, ...) PRINTF(1, 2) MUST_CHECK;
char *str_vprintf(const char *fmt, va_list ap) PRINTF(1, 0) MUST_CHECK;

/* Equality; two NULLs are equal. */
bool str_eq(const char *a, const char *b);
bool str_ieq(const char *a, const char *b);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
static inline bool str_is_empty(const char *s)
{
    return !s || !*s;
}

/* Replaces *p, which is freed, by a copy of s (which may be NULL). */
void str_set(char **p, const char *s);

/* Strips white space at both ends, in place; returns the new start. */
char *str_strip(char *s);

/* A whole decimal number, nothing around it.  False, and *ret untouched, if it is not one or does
 * not fit. */
bool str_to_i64(const char *s, int64_t *ret) MUST_CHECK;
bool str_to_u64(const char *s, uint64_t *ret) MUST_CHECK;
bool str_to_double(const char *s, double *ret) MUST_CHECK;

/* A growable string; all zero is an empty one. */
struct strbuf {
    char *s; /* NULL while nothing was added; else NUL-terminated. */
    size_t len;
    size_t cap;
};

void strbuf_add(struct strbuf *, const char *s);
void strbuf_add_mem(struct strbuf *, const void *p, size_t len);
void strbuf_addc(struct strbuf *, char c);
void strbuf_addf(struct strbuf *, const char *fmt, ...) PRINTF(2, 3);
/* The string, which is the caller's now ("" if nothing was added); the buffer is empty again. */
char *strbuf_take(struct strbuf *) MUST_CHECK;
void strbuf_fini(struct strbuf *);

/* A list of strings that owns them; all zero is an empty one.  items[n] is always NULL if n > 0. */
struct strv {
    char **items;
    size_t n;
};

void strv_add(struct strv *, const char *s);
/* Consumes s. */
void strv_add_take(struct strv *, char *s);
bool strv_has(const struct strv *, const char *s);
void strv_sort(struct strv *);
char *strv_join(const struct strv *, const char *sep) MUST_CHECK;
/* Splits at each char of 'seps'; strips white space; leaves empty parts out. */
struct strv strv_split(const char *s, const char *seps) MUST_CHECK;
void strv_fini(struct strv *);

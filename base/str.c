#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

char *str_dup(const char *s)
{
    return s ? mem_dup(s, strlen(s) + 1) : NULL;
}

char *str_ndup(const char *s, size_t len)
{
    char *copy;

    if (!s) {
        return NULL;
    }
    len = strnlen(s, len);
    copy = mem_alloc(len + 1);
    memcpy(copy, s, len);
    return copy;
}

char *str_printf(const char *fmt, ...)
{
    va_list ap;
    char *s;

    va_start(ap, fmt);
    s = str_vprintf(fmt, ap);
    va_end(ap);
    return s;
}

char *str_vprintf(const char *fmt, va_list ap)
{
    va_list again;
    int len;
    char *s;

    va_copy(again, ap);
    len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (len < 0) { /* More than INT_MAX: nothing that we print. */
        abort();
    }
    s = mem_alloc((size_t)len + 1);
    vsnprintf(s, (size_t)len + 1, fmt, ap);
    return s;
}

bool str_eq(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool str_ieq(const char *a, const char *b)
{
    return a && b ? strcasecmp(a, b) == 0 : a == b;
}

bool str_starts(const char *s, const char *prefix)
{
    return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t len = s ? strlen(s) : 0, suffix_len = strlen(suffix);

    return s && len >= suffix_len && strcmp(s + len - suffix_len, suffix) == 0;
}

void str_set(char **p, const char *s)
{
    char *copy = str_dup(s); /* First: s may be a part of *p. */

    free(*p);
    *p = copy;
}

/* As Python's str.strip() has it for ASCII, whatever the locale. */
static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

char *str_strip(char *s)
{
    size_t len;

    while (is_space(*s)) {
        s++;
    }
    len = strlen(s);
    while (len > 0 && is_space(s[len - 1])) {
        len--;
    }
    s[len] = '\0';
    return s;
}

bool str_to_i64(const char *s, int64_t *ret)
{
    char *end;
    long long v;

    if (!s || !is_digit(s[*s == '-'])) {
        return false;
    }
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno || *end) {
        return false;
    }
    *ret = v;
    return true;
}

bool str_to_u64(const char *s, uint64_t *ret)
{
    char *end;
    unsigned long long v;

    if (!s || !is_digit(*s)) {
        return false;
    }
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno || *end) {
        return false;
    }
    *ret = v;
    return true;
}

bool str_to_double(const char *s, double *ret)
{
    char *end;
    double v;

    /* No white space, no hexadecimal, no "inf" or "nan". */
    if (!s || !*s || s[strspn(s, "0123456789.eE+-")] || *s == '+') {
        return false;
    }
    errno = 0;
    v = strtod(s, &end);
    if (end == s || *end || (errno && (v > 1 || v < -1))) { /* Underflow to 0 is all right. */
        return false;
    }
    *ret = v;
    return true;
}

/* Room for 'more' bytes and the NUL. */
static void strbuf_grow(struct strbuf *b, size_t more)
{
    size_t need = b->len + more + 1;

    if (need <= b->cap) {
        return;
    }
    need = MAX(need, (size_t)64);
    b->cap = MAX(need, b->cap * 2);
    b->s = mem_realloc(b->s, b->cap, 1);
}

void strbuf_add(struct strbuf *b, const char *s)
{
    strbuf_add_mem(b, s, strlen(s));
}

void strbuf_add_mem(struct strbuf *b, const void *p, size_t len)
{
    strbuf_grow(b, len);
    if (len > 0) {
        memcpy(b->s + b->len, p, len);
    }
    b->len += len;
    b->s[b->len] = '\0';
}

void strbuf_addc(struct strbuf *b, char c)
{
    strbuf_add_mem(b, &c, 1);
}

void strbuf_addf(struct strbuf *b, const char *fmt, ...)
{
    CLEANUP(freep) char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    s = str_vprintf(fmt, ap);
    va_end(ap);
    strbuf_add(b, s);
}

char *strbuf_take(struct strbuf *b)
{
    char *s = b->s ? b->s : mem_alloc(1);

    *b = (struct strbuf){0};
    return s;
}

void strbuf_fini(struct strbuf *b)
{
    free(b->s);
    *b = (struct strbuf){0};
}

void strv_add(struct strv *v, const char *s)
{
    strv_add_take(v, str_dup(s));
}

void strv_add_take(struct strv *v, char *s)
{
    /* The room doubles at every power of two, so it need not be stored. */
    if ((v->n & (v->n + 1)) == 0) {
        v->items = mem_realloc(v->items, 2 * (v->n + 1), sizeof *v->items);
    }
    v->items[v->n++] = s;
    v->items[v->n] = NULL;
}

bool strv_has(const struct strv *v, const char *s)
{
    for (size_t i = 0; i < v->n; i++) {
        if (str_eq(v->items[i], s)) {
            return true;
        }
    }
    return false;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strv_sort(struct strv *v)
{
    if (v->n > 1) {
        qsort(v->items, v->n, sizeof *v->items, compare_items);
    }
}

char *strv_join(const struct strv *v, const char *sep)
{
    struct strbuf b = {0};

    for (size_t i = 0; i < v->n; i++) {
        strbuf_add(&b, i > 0 ? sep : "");
        strbuf_add(&b, v->items[i]);
    }
    return strbuf_take(&b);
}

struct strv strv_split(const char *s, const char *seps)
{
    struct strv v = {0};

    while (s && *s) {
        size_t len = strcspn(s, seps);
        CLEANUP(freep) char *part = str_ndup(s, len);
        const char *stripped = str_strip(part);

        if (*stripped) {
            strv_add(&v, stripped);
        }
        s += len + (s[len] != '\0');
    }
    return v;
}

void strv_fini(struct strv *v)
{
    for (size_t i = 0; i < v->n; i++) {
        free(v->items[i]);
    }
    free(v->items);
    *v = (struct strv){0};
}

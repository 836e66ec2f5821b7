#include "base/err.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *module, *class;
    int code;
    const char *format;
} kinds[] = {
#define ERR(kind, module, class, code, format) [ERR_##kind] = {module, class, code, format},
#include "base/errors.def"
#undef ERR
};

struct kwarg {
    char *key, *value;
};

struct err {
    enum err_kind kind;
    char *module, *class; /* Only of a peer's error. */
    char *message;
    struct kwarg *kwargs;
    size_t n_kwargs;
    struct strv trace; /* The innermost first. */
};

static struct err *new_take(enum err_kind kind, char *message)
{
    struct err *e = NEW(struct err);

    e->kind = kind;
    e->message = message;
    return e;
}

static const struct kwarg *find_kwarg(const struct err *e, const char *key, size_t len)
{
    for (size_t i = 0; i < e->n_kwargs; i++) {
        if (strncmp(e->kwargs[i].key, key, len) == 0 && e->kwargs[i].key[len] == '\0') {
            return &e->kwargs[i];
        }
    }
    return NULL;
}

/* Replaces each %(name)s, %(name)i and %(name)d; one without its argument stays as it is, which is
 * what a peer shows in that case too. */
static char *expand(const struct err *e, const char *format)
{
    struct strbuf b = {0};

    for (const char *p = format; *p;) {
        const char *end = p[0] == '%' && p[1] == '(' ? strchr(p, ')') : NULL;
        const struct kwarg *arg = end ? find_kwarg(e, p + 2, (size_t)(end - p - 2)) : NULL;

        if (arg && end[1] && strchr("sid", end[1])) {
            strbuf_add(&b, arg->value ? arg->value : "None");
            p = end + 2;
        } else {
            strbuf_addc(&b, *p++);
        }
    }
    return strbuf_take(&b);
}

struct err *err_new(enum err_kind kind, ...)
{
    struct err *e = new_take(kind, NULL);
    const char *key;
    va_list ap;

    va_start(ap, kind);
    while ((key = va_arg(ap, const char *))) {
        err_set(e, key, va_arg(ap, const char *));
    }
    va_end(ap);
    e->message = expand(e, kinds[kind].format);
    return e;
}

struct err *err_msg(enum err_kind kind, const char *fmt, ...)
{
    va_list ap;
    char *message;

    va_start(ap, fmt);
    message = str_vprintf(fmt, ap);
    va_end(ap);
    return new_take(kind, message);
}

static enum err_kind kind_of(const char *module, const char *class)
{
    enum err_kind found = ERR_REMOTE;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        /* A peer's bare NovaException says nothing about our cancelling. */
        if (i == ERR_CANCELLED || !str_eq(kinds[i].class, class)) {
            continue;
        }
        if (str_eq(kinds[i].module, module)) {
            return (enum err_kind)i;
        }
        if (found == ERR_REMOTE) {
            found = (enum err_kind)i;
        }
    }
    return found;
}

struct err *err_remote(const char *module, const char *class, const char *message)
{
    struct err *e = new_take(kind_of(module, class), str_dup(message ? message : ""));

    e->module = str_dup(module ? module : "");
    e->class = str_dup(class ? class : "");
    return e;
}

struct err *err_errno(int errnum, const char *fmt, ...)
{
    enum err_kind kind = ERR_INTERNAL;
    CLEANUP(freep) char *what = NULL;
    char buf[64];
    va_list ap;

    va_start(ap, fmt);
    what = str_vprintf(fmt, ap);
    va_end(ap);
    if (errnum == ENOENT) {
        kind = ERR_NOT_FOUND;
    } else if (errnum == ENOSPC || errnum == EDQUOT) {
        kind = ERR_NO_SPACE;
    }
    return err_msg(kind, "%s: %s", what, strerror_r(errnum, buf, sizeof buf));
}

struct err *err_context(struct err *e, const char *fmt, ...)
{
    va_list ap;

    if (!e) {
        return NULL;
    }
    va_start(ap, fmt);
    strv_add_take(&e->trace, str_vprintf(fmt, ap));
    va_end(ap);
    return e;
}

void err_set(struct err *e, const char *key, const char *value)
{
    assert(e);
    e->kwargs = mem_realloc(e->kwargs, e->n_kwargs + 1, sizeof *e->kwargs);
    e->kwargs[e->n_kwargs++] = (struct kwarg){str_dup(key), str_dup(value)};
}

bool err_is(const struct err *e, enum err_kind kind)
{
    return e && e->kind == kind;
}

enum err_kind err_kind(const struct err *e)
{
    return e->kind;
}

const char *err_module(const struct err *e)
{
    return e->module ? e->module : kinds[e->kind].module;
}

const char *err_class(const struct err *e)
{
    return e->class ? e->class : kinds[e->kind].class;
}

int err_code(const struct err *e)
{
    return kinds[e->kind].code;
}

const char *err_message(const struct err *e)
{
    return e->message;
}

bool err_kwarg(const struct err *e, size_t i, const char **key, const char **value)
{
    if (i >= e->n_kwargs) {
        return false;
    }
    *key = e->kwargs[i].key;
    *value = e->kwargs[i].value;
    return true;
}

const char *err_get(const struct err *e, const char *key)
{
    const struct kwarg *arg = find_kwarg(e, key, strlen(key));

    return arg ? arg->value : NULL;
}

char *err_text(const struct err *e)
{
    struct strbuf b = {0};

    if (*e->message || !*err_class(e)) {
        strbuf_add(&b, e->message);
    } else {
        strbuf_add(&b, err_class(e));
    }
    for (size_t i = 0; i < e->trace.n; i++) {
        strbuf_addf(&b, "%s%s", i == 0 ? " (while " : "; while ", e->trace.items[i]);
    }
    strbuf_add(&b, e->trace.n > 0 ? ")" : "");
    return strbuf_take(&b);
}

struct err *err_free(struct err *e)
{
    if (!e) {
        return NULL;
    }
    for (size_t i = 0; i < e->n_kwargs; i++) {
        free(e->kwargs[i].key);
        free(e->kwargs[i].value);
    }
    free(e->kwargs);
    strv_fini(&e->trace);
    free(e->module);
    free(e->class);
    free(e->message);
    free(e);
    return NULL;
}

struct err *err_dup(const struct err *e)
{
    struct err *copy;

    if (!e) {
        return NULL;
    }
    copy = new_take(e->kind, str_dup(e->message));
    copy->module = str_dup(e->module);
    copy->class = str_dup(e->class);
    for (size_t i = 0; i < e->n_kwargs; i++) {
        err_set(copy, e->kwargs[i].key, e->kwargs[i].value);
    }
    for (size_t i = 0; i < e->trace.n; i++) {
        strv_add(&copy->trace, e->trace.items[i]);
    }
    return copy;
}

void err_ignore(struct err *e, const char *what)
{
    CLEANUP(freep) char *text = e ? err_text(e) : NULL;

    if (e) {
        log_warning(LOG_MAIN, "%s: %s", what, text);
    }
    err_free(e);
}

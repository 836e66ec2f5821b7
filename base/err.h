#pragma once

/* Errors as values.
 *
 * A function that can fail returns 'struct err *': NULL is success.  An error has a kind (a row of
 * base/errors.def, which holds Nova's module, class, message and code: all that the wire needs), a
 * final message, keyword arguments for the peer, and a trace of what we were doing.
 *
 * Source of the kinds: nova/exception.py, and oslo.messaging's serialize_remote_exception for what
 * travels.
 *
 * Ownership: the caller owns a returned error.  Thread-safety: an error belongs to one thread at a
 * time. */

#include "base/mem.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdbool.h>

struct err;

enum err_kind {
#define ERR(kind, module, class, code, format) ERR_##kind,
#include "base/errors.def"
#undef ERR
    ERR_N_KINDS
};

/* An error of a kind with a message template: pairs of name and value for its %(name)s, NULL ends.
 * A NULL value is written as None. */
struct err *err_new(enum err_kind, ...) MUST_CHECK __attribute__((sentinel));
/* An error with a text of our own. */
struct err *err_msg(enum err_kind, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;
/* An error that a peer sent: module, class and message are kept as they are, so that they can be
 * passed on; the kind is the row with that module and class, else the first with that class, else
 * ERR_REMOTE.  NULLs are empty strings. */
struct err *err_remote(const char *module, const char *class, const char *message) MUST_CHECK;
/* From errno, with the text of it appended: ERR_INTERNAL, but ERR_NOT_FOUND for ENOENT and
 * ERR_NO_SPACE for ENOSPC/EDQUOT. */
struct err *err_errno(int errnum, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;

/* Adds what we were doing, the innermost first; passes NULL through. */
struct err *err_context(struct err *, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;
/* Adds a keyword argument for the peer. */
void err_set(struct err *, const char *key, const char *value);

bool err_is(const struct err *, enum err_kind);
enum err_kind err_kind(const struct err *);
const char *err_module(const struct err *); /* "nova.exception" */
const char *err_class(const struct err *);  /* "InstanceNotFound" */
int err_code(const struct err *);           /* HTTP-like; 500 if the kind has none */
const char *err_message(const struct err *);
/* Keyword arguments, in order; false after the last.  The value is NULL if it was given as NULL. */
bool err_kwarg(const struct err *, size_t i, const char **key, const char **value);
/* The value of one keyword argument, or NULL. */
const char *err_get(const struct err *, const char *key);
/* Message and trace in one line, for a log: "msg (while a; while b)". */
char *err_text(const struct err *) MUST_CHECK;

struct err *err_free(struct err *); /* Takes NULL; returns NULL. */
static inline void err_freep(struct err **p)
{
    *p = err_free(*p);
}
struct err *err_dup(const struct err *) MUST_CHECK;

/* Drops an error on purpose, logging it once at warning level as "<what>: <text>". */
void err_ignore(struct err *, const char *what);

#define TRY(call)                                                                                  \
    do {                                                                                           \
        struct err *try_ = (call);                                                                 \
        if (try_) {                                                                                \
            return try_;                                                                           \
        }                                                                                          \
    } while (0)

#define TRY_CTX(call, ...)                                                                         \
    do {                                                                                           \
        struct err *try_ = (call);                                                                 \
        if (try_) {                                                                                \
            return err_context(try_, __VA_ARGS__);                                                 \
        }                                                                                          \
    } while (0)

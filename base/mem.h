#pragma once

/* Memory and ownership.
 *
 * Allocation never fails: out of memory aborts the process, so nobody checks.  Ownership is written
 * with CLEANUP (a local that frees itself) and TAKE (ownership leaves the local).
 *
 * Thread-safety: all functions may be called from any thread. */

#include <stddef.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED            __attribute__((unused))

/* A local variable that is handed to 'fn' when it leaves its scope; fn takes its address. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* The value of 'p', which becomes NULL: ownership goes to whoever uses the value. */
#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) *take_ = &(p);                                                               \
        __typeof__(p) taken_ = *take_;                                                             \
        *take_ = NULL;                                                                             \
        taken_;                                                                                    \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                                                                                  \
    __extension__({                                                                                \
        __typeof__(a) min_a_ = (a);                                                                \
        __typeof__(b) min_b_ = (b);                                                                \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define MAX(a, b)                                                                                  \
    __extension__({                                                                                \
        __typeof__(a) max_a_ = (a);                                                                \
        __typeof__(b) max_b_ = (b);                                                                \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

/* One zeroed object of a type. */
#define NEW(type) ((type *)mem_alloc(sizeof(type)))
/* 'n' zeroed objects of a type. */
#define NEW_ARRAY(type, n) ((type *)mem_alloc_array((n), sizeof(type)))

/* 'size' zeroed bytes; a size of 0 gives a pointer that can be freed. */
void *mem_alloc(size_t size) MUST_CHECK;
/* The same for n * size, which may not overflow. */
void *mem_alloc_array(size_t n, size_t size) MUST_CHECK;
/* Like realloc; what is added is not zeroed. */
void *mem_realloc(void *p, size_t n, size_t size) MUST_CHECK;
void *mem_dup(const void *p, size_t size) MUST_CHECK;

/* For CLEANUP on anything that free() releases. */
static inline void freep(void *p)
{
    extern void free(void *);
    free(*(void **)p);
}

/* For CLEANUP on a file descriptor; -1 means none. */
void closep(const int *fd);

/* Keeps an idle process small: few malloc arenas, and freed memory goes back to the kernel.  The
 * programs call it first thing in main. */
void mem_tune(void);
/* Gives memory back now, after a burst of work: what was freed, and the code that ran (base/mem.c).
 */
void mem_trim(void);

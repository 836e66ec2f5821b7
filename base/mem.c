#include "base/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn static void out_of_memory(void)
{
    static const char text[] = "novashim: out of memory\n";

    /* Nothing that allocates; whether the last words arrive makes no difference. */
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {
        abort();
    }
    abort();
}

void *mem_alloc(size_t size)
{
    return mem_alloc_array(1, size);
}

void *mem_alloc_array(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (!p) {
        out_of_memory();
    }
    return p;
}

void *mem_realloc(void *p, size_t n, size_t size)
{
    void *moved = reallocarray(p, n ? n : 1, size ? size : 1);

    if (!moved) {
        out_of_memory();
    }
    return moved;
}

void *mem_dup(const void *p, size_t size)
{
    void *copy = mem_alloc(size);

    if (size > 0) {
        memcpy(copy, p, size);
    }
    return copy;
}

void closep(const int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

void mem_tune(void)
{
    mallopt(M_ARENA_MAX, 2);
    /* Set explicitly, these two no longer grow with what was freed last. */
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024);
}

void mem_trim(void)
{
    malloc_trim(0);
}

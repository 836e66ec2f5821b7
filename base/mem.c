#include "base/mem.h"

#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGEMAP_PAGES = 512 }; /* Read at once. */
/* Of the kernel's Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_IS_FILE    (UINT64_C(1) << 61)
#define PAGEMAP_IS_PRESENT (UINT64_C(1) << 63)

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

static bool is_droppable(uint64_t entry)
{
    /* No file's page: somebody wrote to it, such as a debugger its breakpoint. */
    return (entry & PAGEMAP_IS_PRESENT) && (entry & PAGEMAP_IS_FILE);
}

/* The pages from 'begin' that are mapped and as their file has them. */
static void drop_pages(int pagemap, uintptr_t begin, uintptr_t end, size_t page_size)
{
    uint64_t entries[PAGEMAP_PAGES];

    while (begin < end) {
        size_t n = MIN((end - begin) / page_size, (size_t)PAGEMAP_PAGES);
        size_t size = n * sizeof(entries[0]);
        size_t first = 0, last;

        if (pread(pagemap, entries, size, (off_t)(begin / page_size * sizeof(entries[0]))) !=
            (ssize_t)size) {
            return;
        }
        for (; first < n; first = last + 1) {
            for (last = first; last < n && is_droppable(entries[last]); last++) {
            }
            if (last > first) {
                madvise((void *)(begin + first * page_size), (last - first) * page_size,
                        MADV_DONTNEED);
            }
        }
        begin += n * page_size;
    }
}

static int drop_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    const int *pagemap = arg;

    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + p->p_vaddr, end = begin + p->p_memsz;

        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W)) {
            drop_pages(*pagemap, begin / page_size * page_size,
                       (end + page_size - 1) / page_size * page_size, page_size);
        }
    }
    return 0;
}

/* Code and constants of the program and its 70 libraries, of which most ran once, at the start:
 * what is needed again is mapped again from the page cache, 16 pages with a fault.  The loader is
 * locked meanwhile, so nothing is unmapped or relocated under our hands. */
static void drop_code(void)
{
    CLEANUP(closep) int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (pagemap >= 0) {
        dl_iterate_phdr(drop_object, &pagemap);
    }
}

void mem_trim(void)
{
    malloc_trim(0);
    drop_code();
}

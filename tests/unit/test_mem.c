/* link: base */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages of the program's file.  A fault maps the 64 KiB around it: each array has such a piece that
 * holds nothing else. */
enum { AROUND = 1 << 16 };
static const char clean[3 * AROUND] = "a constant", patched[3 * AROUND] = "another";

static char *page_in(const char *array)
{
    return (char *)(((uintptr_t)array + AROUND - 1) / AROUND * AROUND);
}

static bool is_mapped(const char *page)
{
    CLEANUP(closep) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry;
    off_t at = (off_t)((uintptr_t)page / (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof(entry));

    assert_int_equal(pread(fd, &entry, sizeof(entry), at), sizeof(entry));
    return entry >> 63;
}

static void new_objects_are_zeroed(void **state)
{
    CLEANUP(freep) int *one = NEW(int);
    CLEANUP(freep) long *many = NEW_ARRAY(long, 1000);

    (void)state;
    assert_int_equal(*one, 0);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(many[i], 0);
    }
}

static void a_size_of_0_gives_a_pointer(void **state)
{
    CLEANUP(freep) void *p = mem_alloc(0);
    CLEANUP(freep) void *q = mem_dup(NULL, 0);
    CLEANUP(freep) void *r = mem_realloc(mem_alloc(8), 0, 4);

    (void)state;
    assert_non_null(p);
    assert_non_null(q);
    assert_non_null(r);
}

static void realloc_keeps_what_was_there(void **state)
{
    char *p = mem_dup("abc", 4);

    (void)state;
    p = mem_realloc(p, 1000, 4);
    assert_string_equal(p, "abc");
    free(p);
}

static void take_leaves_null_behind(void **state)
{
    char *p = mem_alloc(1);
    char *q = TAKE(p);

    (void)state;
    assert_null(p);
    assert_non_null(q);
    free(q);
}

static void a_descriptor_closes_at_the_end_of_its_scope(void **state)
{
    int copy;

    (void)state;
    {
        CLEANUP(closep) int none = -1;
        CLEANUP(closep) int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        (void)none;
        assert_true(fd >= 0);
        copy = fd;
    }
    assert_int_equal(fcntl(copy, F_GETFD), -1);
}

static void macros_evaluate_their_arguments_once(void **state)
{
    int i = 1;

    (void)state;
    assert_int_equal(MAX(i++, 0), 1);
    assert_int_equal(MIN(i++, 9), 2);
    assert_int_equal(i, 3);
}

static void tuning_works_at_any_time(void **state)
{
    (void)state;
    mem_tune();
    mem_trim();
}

static void constants_are_dropped_and_come_back(void **state)
{
    const volatile char *page = page_in(clean);

    (void)state;
    assert_int_equal(*page, 0);
    assert_true(is_mapped(page_in(clean)));
    mem_trim();
    assert_false(is_mapped(page_in(clean)));
    assert_int_equal(*page, 0);
}

/* What a debugger does. */
static void a_page_that_was_written_to_stays(void **state)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    volatile char *page = page_in(patched);

    (void)state;
    assert_int_equal(mprotect(page_in(patched), size, PROT_READ | PROT_WRITE), 0);
    *page = 'x';
    assert_int_equal(mprotect(page_in(patched), size, PROT_READ), 0);
    mem_trim();
    assert_int_equal(*page, 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_objects_are_zeroed),
        cmocka_unit_test(a_size_of_0_gives_a_pointer),
        cmocka_unit_test(realloc_keeps_what_was_there),
        cmocka_unit_test(take_leaves_null_behind),
        cmocka_unit_test(a_descriptor_closes_at_the_end_of_its_scope),
        cmocka_unit_test(macros_evaluate_their_arguments_once),
        cmocka_unit_test(tuning_works_at_any_time),
        cmocka_unit_test(constants_are_dropped_and_come_back),
        cmocka_unit_test(a_page_that_was_written_to_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

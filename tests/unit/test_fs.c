/* link: base */
#include "base/fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct fs_root root;

static void must(struct err *e)
{
    if (e) {
        fail_msg("%s", err_message(e));
    }
}

static void assert_error(struct err *e, enum err_kind kind)
{
    assert_true(err_is(e, kind));
    err_free(e);
}

static void put(const char *path, const char *text)
{
    must(fs_write_atomic(&root, path, text, strlen(text), 0644));
}

static void assert_holds(const char *path, const char *text)
{
    CLEANUP(freep) char *s = NULL;

    must(fs_read(&root, path, &s, NULL));
    assert_string_equal(s, text);
}

static int open_root(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_fs.XXXXXX");
    assert_non_null(mkdtemp(dir));
    must(fs_root_open(dir, &root));
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    fs_root_close(&root);
    must(fs_remove_all(&fs_real, dir));
    return fs_exists(&fs_real, dir);
}

static void absolute_paths_are_relative_to_the_root(void **state)
{
    (void)state;
    put("a", "1");
    assert_holds("/a", "1");
    assert_holds("//a", "1");
    assert_true(fs_exists(&root, "/"));
    assert_true(fs_is_dir(&root, ""));
    assert_false(fs_exists(&root, "/tmp"));
}

static void relative_paths_are_relative_to_the_real_root(void **state)
{
    (void)state;
    assert_true(fs_exists(&fs_real, "proc/self"));
    assert_true(fs_is_dir(&fs_real, "/"));
    assert_true(fs_is_dir(&fs_real, ""));
}

static void a_missing_file_is_not_found(void **state)
{
    char *text = dir;
    unsigned n = 7;

    (void)state;
    assert_error(fs_read(&root, "no/such", &text, NULL), ERR_NOT_FOUND);
    assert_error(fs_read_u32(&root, "no", &n), ERR_NOT_FOUND);
    assert_error(fs_read_link(&root, "no", &text), ERR_NOT_FOUND);
    assert_error(fs_write(&root, "no", "x"), ERR_NOT_FOUND);
    assert_ptr_equal(text, dir);
    assert_int_equal(n, 7);
}

static void files_without_a_size_are_read_whole(void **state)
{
    CLEANUP(freep) char *text = NULL;
    size_t len;

    (void)state;
    must(fs_read(&fs_real, "proc/self/maps", &text, &len));
    assert_int_equal(strlen(text), len);
    assert_true(len > 100);
}

static void a_file_may_hold_anything(void **state)
{
    CLEANUP(freep) char *text = NULL;
    size_t len;

    (void)state;
    must(fs_write_atomic(&root, "f", "a\0b\n", 4, 0600));
    must(fs_read(&root, "f", &text, &len));
    assert_int_equal(len, 4);
    assert_memory_equal(text, "a\0b\n", 5);
}

static void a_directory_is_not_a_file(void **state)
{
    char *text = NULL;

    (void)state;
    must(fs_mkdir_all(&root, "d", 0755));
    assert_error(fs_read(&root, "d", &text, NULL), ERR_INTERNAL);
}

static void a_line_is_stripped(void **state)
{
    CLEANUP(freep) char *line = NULL;
    CLEANUP(freep) char *empty = NULL;

    (void)state;
    put("f", " up \nmore\n");
    must(fs_read_line(&root, "f", &line));
    assert_string_equal(line, "up");
    put("f", "");
    must(fs_read_line(&root, "f", &empty));
    assert_string_equal(empty, "");
}

static void numbers_are_decimal_or_hexadecimal(void **state)
{
    static const char *const bad[] = {"", "-1", "x", "0x", "12 x", "4294967296", "0x100000000"};
    unsigned n = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        put("n", bad[i]);
        assert_error(fs_read_u32(&root, "n", &n), ERR_PARSE);
    }
    assert_int_equal(n, 7);
    put("n", "4294967295\n");
    must(fs_read_u32(&root, "n", &n));
    assert_int_equal(n, 4294967295u);
    put("n", "0x8086\n");
    must(fs_read_u32(&root, "n", &n));
    assert_int_equal(n, 0x8086);
    put("n", "010");
    must(fs_read_u32(&root, "n", &n));
    assert_int_equal(n, 10);
}

static void a_link_is_read_not_followed(void **state)
{
    CLEANUP(freep) char *target = NULL;

    (void)state;
    assert_int_equal(symlinkat("../../0000:01:00.0", root.fd, "physfn"), 0);
    must(fs_read_link(&root, "physfn", &target));
    assert_string_equal(target, "../../0000:01:00.0");
    assert_false(fs_exists(&root, "physfn"));
}

static void replacing_sets_content_and_mode_and_leaves_nothing_else(void **state)
{
    CLEANUP(strv_fini) struct strv names = {0};
    struct stat st;
    mode_t mask = umask(0077);

    (void)state;
    must(fs_mkdir_all(&root, "d", 0755));
    put("d/f", "old, and longer");
    must(fs_write_atomic(&root, "/d/f", "new", 3, 0664));
    umask(mask);
    assert_holds("d/f", "new");
    assert_int_equal(fstatat(root.fd, "d/f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0664);
    must(fs_list(&root, "d", &names));
    assert_int_equal(names.n, 1);
}

static void a_failed_replacement_leaves_nothing_behind(void **state)
{
    CLEANUP(strv_fini) struct strv names = {0};

    (void)state;
    must(fs_mkdir_all(&root, "d/f", 0755));
    assert_error(fs_write_atomic(&root, "d/f", "x", 1, 0644), ERR_INTERNAL);
    assert_error(fs_write_atomic(&root, "none/f", "x", 1, 0644), ERR_NOT_FOUND);
    must(fs_list(&root, "d", &names));
    assert_int_equal(names.n, 1);
}

static void writing_needs_the_file_and_replaces_its_text(void **state)
{
    (void)state;
    put("f", "long text");
    must(fs_write(&root, "f", "4"));
    assert_holds("f", "4");
}

static void names_are_sorted(void **state)
{
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(freep) char *joined = NULL;
    struct strv untouched = {0};

    (void)state;
    put("b", "");
    put("a", "");
    put(".c", "");
    must(fs_list(&root, "/", &names));
    joined = strv_join(&names, " ");
    assert_string_equal(joined, ".c a b");
    assert_error(fs_list(&root, "none", &untouched), ERR_NOT_FOUND);
    assert_error(fs_list(&root, "a", &untouched), ERR_INTERNAL);
    assert_null(untouched.items);
}

static void directories_are_made_on_the_way(void **state)
{
    (void)state;
    must(fs_mkdir_all(&root, "/a/b/c/", 0755));
    must(fs_mkdir_all(&root, "a/b/c", 0755));
    assert_true(fs_is_dir(&root, "a/b/c"));
    put("a/f", "");
    assert_error(fs_mkdir_all(&root, "a/f", 0755), ERR_INTERNAL);
    assert_error(fs_mkdir_all(&root, "a/f/g", 0755), ERR_INTERNAL);
}

static void removing_a_tree_does_not_follow_links(void **state)
{
    (void)state;
    must(fs_mkdir_all(&root, "keep", 0755));
    put("keep/f", "1");
    must(fs_mkdir_all(&root, "gone/x/y", 0755));
    put("gone/x/f", "");
    assert_int_equal(symlinkat("../keep", root.fd, "gone/link"), 0);
    assert_int_equal(symlinkat("keep", root.fd, "link"), 0);
    must(fs_remove_all(&root, "gone/"));
    must(fs_remove_all(&root, "link"));
    assert_false(fs_exists(&root, "gone"));
    assert_false(fs_exists(&root, "link"));
    assert_holds("keep/f", "1");
}

static void removing_nothing_is_no_error(void **state)
{
    (void)state;
    must(fs_remove_all(&root, "none"));
    must(fs_remove_all(&root, "none/at/all"));
}

static void space_is_measured(void **state)
{
    uint64_t total, unused, avail;

    (void)state;
    must(fs_space(&root, "/", &total, &unused, &avail));
    assert_true(total >= unused);
    assert_true(unused >= avail);
    assert_true(total > 0);
    assert_error(fs_space(&root, "none", &total, &unused, &avail), ERR_NOT_FOUND);
}

static void descriptors_are_closed(void **state)
{
    CLEANUP(strv_fini) struct strv names = {0};
    int before = dup(0), after;

    (void)state;
    close(before);
    must(fs_mkdir_all(&root, "d/e", 0755));
    put("d/f", "x");
    assert_holds("d/f", "x");
    must(fs_list(&root, "d", &names));
    must(fs_remove_all(&root, "d"));
    after = dup(0);
    close(after);
    assert_int_equal(after, before);
}

#define FS_TEST(f) cmocka_unit_test_setup_teardown(f, open_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_TEST(absolute_paths_are_relative_to_the_root),
        FS_TEST(relative_paths_are_relative_to_the_real_root),
        FS_TEST(a_missing_file_is_not_found),
        FS_TEST(files_without_a_size_are_read_whole),
        FS_TEST(a_file_may_hold_anything),
        FS_TEST(a_directory_is_not_a_file),
        FS_TEST(a_line_is_stripped),
        FS_TEST(numbers_are_decimal_or_hexadecimal),
        FS_TEST(a_link_is_read_not_followed),
        FS_TEST(replacing_sets_content_and_mode_and_leaves_nothing_else),
        FS_TEST(a_failed_replacement_leaves_nothing_behind),
        FS_TEST(writing_needs_the_file_and_replaces_its_text),
        FS_TEST(names_are_sorted),
        FS_TEST(directories_are_made_on_the_way),
        FS_TEST(removing_a_tree_does_not_follow_links),
        FS_TEST(removing_nothing_is_no_error),
        FS_TEST(space_is_measured),
        FS_TEST(descriptors_are_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

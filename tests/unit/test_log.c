/* link: base */
#include "base/log.h"

#include "base/clock.h"
#include "base/fs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static void must(struct err *e)
{
    if (e) {
        fail_msg("%s", err_message(e));
    }
}

static char *logged(void)
{
    char *text;

    must(fs_read(&fs_real, path, &text, NULL));
    return text;
}

static void assert_matches(const char *s, const char *pattern)
{
    regex_t re;
    int result;

    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    result = regexec(&re, s, 0, NULL, 0);
    regfree(&re);
    if (result != 0) {
        fail_msg("'%s' does not match '%s'", s, pattern);
    }
}

static int open_fresh_log(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/test_log.XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    log_context_set(NULL, NULL);
    must(log_open(&(struct log_conf){.file = path, .level = LOG_LEVEL_INFO, .has_date = true}));
    return 0;
}

static int remove_log(void **state)
{
    (void)state;
    return unlink(path);
}

static void a_line_looks_like_those_of_the_other_services(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    log_info(LOG_MIGRATE, "pre-copy pass %u", 3u);
    text = logged();
    assert_matches(text, "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} [0-9]+ "
                         "INFO novashim\\.migrate \\[-\\] pre-copy pass 3\n$");
}

static void a_line_names_its_request_and_instance(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    log_context_set("req-1 admin demo", "abc");
    log_warning(LOG_VIF, "a");
    log_context_instance(NULL);
    log_error(LOG_VIF, "b");
    log_context_set(NULL, NULL);
    text = logged();
    assert_matches(text, " WARNING novashim\\.vif \\[req-1 admin demo\\] \\[instance: abc\\] a\n"
                         ".* ERROR novashim\\.vif \\[req-1 admin demo\\] b\n$");
}

static void a_message_cannot_forge_a_line(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    log_context_set("req\nx", "in\033st");
    log_info(LOG_RPC, "%s", "one\ntwo\r\x1b[31m\x7f \xc3\xa9");
    log_context_set(NULL, NULL);
    text = logged();
    assert_non_null(strstr(text, "[req\\nx] [instance: in\\x1bst] "));
    assert_non_null(strstr(text, "one\\ntwo\\x0d\\x1b[31m\\x7f \xc3\xa9\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void a_message_cannot_fill_the_disk(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    log_info(LOG_RPC, "%1000000d", 1);
    text = logged();
    assert_in_range(strlen(text), 60000, 70000);
    assert_matches(text + strlen(text) - 4, "^\\.\\.\\.\n$");
}

static void areas_have_their_own_level(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    assert_false(log_is_on(LOG_PCI, LOG_LEVEL_DEBUG));
    log_debug(LOG_PCI, "no");
    log_set_level(LOG_PCI, LOG_LEVEL_DEBUG);
    log_set_level(LOG_REST, LOG_LEVEL_ERROR);
    log_debug(LOG_PCI, "yes");
    log_warning(LOG_REST, "no");
    text = logged();
    assert_null(strstr(text, "no\n"));
    assert_non_null(strstr(text, "DEBUG novashim.pci [-] yes\n"));
}

static void the_journal_has_the_date(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    must(log_open(&(struct log_conf){.file = path, .level = LOG_LEVEL_INFO}));
    log_info(LOG_MAIN, "x");
    text = logged();
    assert_matches(text, "^[0-9]+ INFO novashim\\.main \\[-\\] x\n$");
}

static void reopening_follows_a_rotation(void **state)
{
    CLEANUP(freep) char *rotated = str_printf("%s.1", path);
    CLEANUP(freep) char *old = NULL;
    CLEANUP(freep) char *new = NULL;

    (void)state;
    log_info(LOG_MAIN, "before");
    assert_int_equal(rename(path, rotated), 0);
    log_info(LOG_MAIN, "still before");
    log_reopen();
    log_info(LOG_MAIN, "after");
    new = logged();
    must(fs_read(&fs_real, rotated, &old, NULL));
    assert_non_null(strstr(old, "still before"));
    assert_null(strstr(old, "after"));
    assert_null(strstr(new, "before"));
    assert_non_null(strstr(new, "after"));
    unlink(rotated);
}

static void the_old_file_stays_if_the_new_one_cannot_be_opened(void **state)
{
    struct log_conf bad = {.file = "/nonexistent/dir/log"};
    CLEANUP(err_freep) struct err *e = log_open(&bad);
    CLEANUP(freep) char *text = NULL;

    (void)state;
    assert_true(err_is(e, ERR_NOT_FOUND));
    log_info(LOG_MAIN, "here");
    text = logged();
    assert_non_null(strstr(text, "here"));
}

static void an_ignored_error_is_logged_once(void **state)
{
    CLEANUP(freep) char *text = NULL;

    (void)state;
    err_ignore(err_context(err_msg(ERR_INTERNAL, "gone"), "unplugging"), "after a failed build");
    text = logged();
    assert_non_null(
        strstr(text, "WARNING novashim.main [-] after a failed build: gone (while unplugging)\n"));
}

static void a_limited_place_counts_what_it_leaves_out(void **state)
{
    struct log_limit limit = {0};
    unsigned n = 99;

    (void)state;
    assert_true(log_limit_pass(&limit, 10, &n));
    assert_int_equal(n, 0);
    assert_false(log_limit_pass(&limit, 10, &n));
    assert_false(log_limit_pass(&limit, 10, &n));
    limit.next_ms = clock_ms();
    assert_true(log_limit_pass(&limit, 10, &n));
    assert_int_equal(n, 2);
}

static void *write_many(void *arg)
{
    log_context_set(arg, NULL);
    for (int i = 0; i < 500; i++) {
        log_warning_limited(LOG_RPC, "flood");
        log_info(LOG_RPC, "%s", (const char *)arg);
        if (i % 100 == 0) {
            log_reopen();
        }
    }
    return NULL;
}

static void threads_do_not_mix_their_lines(void **state)
{
    static char *const names[] = {"aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbb", "c", "d"};
    pthread_t threads[ARRAY_SIZE(names)];
    CLEANUP(freep) char *text = NULL;
    CLEANUP(strv_fini) struct strv lines = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, names[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        pthread_join(threads[i], NULL);
    }
    text = logged();
    lines = strv_split(text, "\n");
    assert_int_equal(lines.n, 500 * ARRAY_SIZE(names) + 1);
    for (size_t i = 0; i < lines.n; i++) {
        assert_matches(lines.items[i],
                       "INFO novashim.rpc \\[(a+\\] a+|b+\\] b+|c\\] c|d\\] d)$|flood$");
    }
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, open_fresh_log, remove_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(a_line_looks_like_those_of_the_other_services),
        LOG_TEST(a_line_names_its_request_and_instance),
        LOG_TEST(a_message_cannot_forge_a_line),
        LOG_TEST(a_message_cannot_fill_the_disk),
        LOG_TEST(areas_have_their_own_level),
        LOG_TEST(the_journal_has_the_date),
        LOG_TEST(reopening_follows_a_rotation),
        LOG_TEST(the_old_file_stays_if_the_new_one_cannot_be_opened),
        LOG_TEST(an_ignored_error_is_logged_once),
        LOG_TEST(a_limited_place_counts_what_it_leaves_out),
        LOG_TEST(threads_do_not_mix_their_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

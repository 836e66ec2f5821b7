/* link: vif */

#include "vif/vhostwait.h"

#include "base/clock.h"
#include "base/fs.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    char top[64];
    struct strv paths;
    struct vhostwait *wait;
};

static int setup(void **state)
{
    struct world *w = NEW(struct world);

    strcpy(w->top, "/tmp/test_vhostwait.XXXXXX");
    assert_non_null(mkdtemp(w->top));
    strv_add_take(&w->paths, str_printf("%s/vhu1", w->top));
    strv_add_take(&w->paths, str_printf("%s/vhu11", w->top));
    assert_null(vhostwait_new(&w->paths, &w->wait));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    vhostwait_free(w->wait);
    assert_null(fs_remove_all(&fs_real, w->top));
    strv_fini(&w->paths);
    free(w);
    return 0;
}

static int bind_to(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void nothing_comes_until_the_deadline(void **state)
{
    struct world *w = *state;

    assert_int_equal(vhostwait_next(w->wait, clock_ms() + 20), -1);
}

static void a_socket_counts_when_it_is_listened_on(void **state)
{
    struct world *w = *state;
    CLEANUP(closep) int fd = bind_to(w->paths.items[1]);

    assert_int_equal(vhostwait_next(w->wait, clock_ms()), -1);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(vhostwait_next(w->wait, clock_ms()), 1);
}

static void each_socket_is_told_once(void **state)
{
    struct world *w = *state;
    CLEANUP(closep) int one = bind_to(w->paths.items[0]);
    CLEANUP(closep) int other = bind_to(w->paths.items[1]);

    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(vhostwait_next(w->wait, clock_ms()), 1);
    assert_int_equal(vhostwait_next(w->wait, clock_ms()), -1);
    assert_int_equal(listen(one, 1), 0);
    assert_int_equal(vhostwait_next(w->wait, clock_ms()), 0);
    assert_int_equal(vhostwait_next(w->wait, clock_ms()), -1);
}

static void *listen_later(void *arg)
{
    int *fd = arg;

    listen(*fd, 1);
    return NULL;
}

static void one_that_comes_while_we_wait_is_told_at_once(void **state)
{
    struct world *w = *state;
    CLEANUP(closep) int fd = bind_to(w->paths.items[0]);
    pthread_t thread;

    pthread_create(&thread, NULL, listen_later, &fd);
    assert_int_equal(vhostwait_next(w->wait, clock_ms() + 60000), 0);
    pthread_join(thread, NULL);
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    struct world *w = *state;
    struct vhostwait *wait;
    CLEANUP(err_freep) struct err *e = NULL;

    strv_add(&w->paths, "/nowhere/at/all");
    e = vhostwait_new(&w->paths, &wait);
    assert_non_null(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_comes_until_the_deadline),
        TEST(a_socket_counts_when_it_is_listened_on),
        TEST(each_socket_is_told_once),
        TEST(one_that_comes_while_we_wait_is_told_at_once),
        TEST(a_folder_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_libvirt rpc_rest rpc_objects base */
#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/jv.h"
#include "base/proc.h"
#include "driver/libvirt/imageage.h"
#include "driver/libvirt/imagecache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHA1 "da39a3ee5e6b4b0d3255bfef95601890afd80709"
#define NOW  (clock_wall_us() / 1000000)
#define DAY  86400

/* -- A host --------------------------------------------------------------------------------------
 */

struct host {
    char dir[40];
    struct conf conf;
};

static int set_up(void **state)
{
    struct host *h = NEW(struct host);

    strcpy(h->dir, "/tmp/test_imageage.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->conf.dflt.instances_path = h->dir;
    h->conf.dflt.host = "host-a";
    h->conf.image_cache.subdirectory_name = "_base";
    h->conf.image_cache.remove_unused_base_images = true;
    h->conf.image_cache.remove_unused_original_minimum_age_seconds = DAY;
    h->conf.image_cache.remove_unused_resized_minimum_age_seconds = 3600;
    CLEANUP(freep) char *base = imagecache_path(&h->conf, "");

    assert_null(fs_mkdir_all(&fs_real, base, 0755));
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;

    assert_null(fs_remove_all(&fs_real, h->dir));
    free(h);
    return 0;
}

/* A file of the cache that was last used so long ago. */
static void cache(struct host *h, const char *name, int64_t age_s)
{
    CLEANUP(freep) char *path = imagecache_path(&h->conf, name);
    int64_t then = NOW - age_s;
    const struct timespec when[] = {{then, 0}, {then, 0}};

    assert_null(fs_write_atomic(&fs_real, path, "x", 1, 0644));
    assert_int_equal(utimensat(AT_FDCWD, path, when, 0), 0);
}

static int64_t age_of(struct host *h, const char *name)
{
    CLEANUP(freep) char *path = imagecache_path(&h->conf, name);
    struct stat st;

    return stat(path, &st) == 0 ? NOW - (int64_t)st.st_mtime : -1;
}

static bool is_cached(struct host *h, const char *name)
{
    CLEANUP(freep) char *path = imagecache_path(&h->conf, name);

    return access(path, F_OK) == 0;
}

static void disk_over(struct host *h, const char *server, const char *file, const char *base)
{
    CLEANUP(freep) char *dir = str_printf("%s/%s", h->dir, server);
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, file);
    CLEANUP(freep) char *backing = imagecache_path(&h->conf, base);
    const char *argv[] = {"qemu-img", "create", "-q",  "-f", "qcow2", "-u", "-b",
                          backing,    "-F",     "raw", path, "1M",    NULL};

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_null(proc_run(argv, 30000, NULL));
}

static unsigned pass(struct host *h, const char *image_id)
{
    CLEANUP(strv_fini) struct strv ids = {0};
    unsigned n = 77;

    if (image_id) {
        strv_add(&ids, image_id);
    }
    assert_null(imageage_pass(&h->conf, &ids, NOW, &n));
    return n;
}

/* -- Decisions -----------------------------------------------------------------------------------
 */

static void each_kind_of_file_has_its_age(void **state)
{
    static const struct {
        const char *name;
        int64_t keep_s; /* -1: for ever. */
    } files[] = {
        {SHA1, DAY},
        {"swap_512", DAY},
        {"ephemeral_20_40d1d2c", DAY},
        {SHA1 "_20", 3600},
        {SHA1 "_sm", 3600},
        {SHA1 ".part", -1},
        {SHA1 "_20.part", -1},
        {SHA1 "_", -1},
        {"ephemeral_20_default", DAY},
        {"ephemeral_20_longer-one", -1},
        {"somebody's notes", -1},
    };
    struct host *h = *state;

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        const char *name = files[i].name;
        int64_t keep = files[i].keep_s;

        assert_int_equal(imageage_decide(&h->conf, name, false, keep - 1), IMAGEAGE_LEAVE);
        assert_int_equal(imageage_decide(&h->conf, name, false, keep < 0 ? 99 * DAY : keep),
                         keep < 0 ? IMAGEAGE_LEAVE : IMAGEAGE_REMOVE);
        assert_int_equal(imageage_decide(&h->conf, name, true, 99 * DAY),
                         keep < 0 ? IMAGEAGE_LEAVE : IMAGEAGE_TOUCH);
    }
    h->conf.image_cache.remove_unused_base_images = false;
    assert_int_equal(imageage_decide(&h->conf, SHA1, false, 99 * DAY), IMAGEAGE_LEAVE);
    assert_int_equal(imageage_decide(&h->conf, SHA1, true, 99 * DAY), IMAGEAGE_TOUCH);
}

/* -- Passes --------------------------------------------------------------------------------------
 */

static void what_nobody_has_used_for_a_day_goes(void **state)
{
    struct host *h = *state;

    cache(h, SHA1, DAY + 1);
    cache(h, "swap_512", DAY - 60);
    cache(h, "ephemeral_20_40d1d2c", DAY + 1);
    cache(h, "notes", 99 * DAY);
    assert_int_equal(pass(h, NULL), 2);
    assert_false(is_cached(h, SHA1));
    assert_false(is_cached(h, "ephemeral_20_40d1d2c"));
    assert_true(is_cached(h, "swap_512"));
    assert_true(is_cached(h, "notes"));
}

static void the_images_of_servers_stay_and_become_young(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *name = NULL;

    assert_null(hash_text("sha1", "an image", &name));
    CLEANUP(freep) char *resized = str_printf("%s_20", name);

    cache(h, name, 99 * DAY);
    cache(h, resized, 99 * DAY);
    cache(h, SHA1, 99 * DAY);
    assert_int_equal(pass(h, "an image"), 1);
    assert_true(age_of(h, name) < DAY);
    assert_true(is_cached(h, resized));
    assert_false(is_cached(h, SHA1));
}

static void what_any_disk_lies_over_stays(void **state)
{
    static const struct {
        const char *server, *file, *base;
    } disks[] = {
        {"c3d9b1f0-8f3c-4f0e-9a55-3c7a1f2b4d11", "disk", SHA1},
        {"unknown-server", "disk.local", "ephemeral_20_40d1d2c"},
        {"c3d9b1f0-8f3c-4f0e-9a55-3c7a1f2b4d11_resize", "disk.swap", "swap_512"},
        {"another_del", "disk.rescue", SHA1 "_20"},
    };
    struct host *h = *state;

    for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
        cache(h, disks[i].base, 99 * DAY);
        disk_over(h, disks[i].server, disks[i].file, disks[i].base);
    }
    cache(h, "swap_1", 99 * DAY);
    assert_int_equal(pass(h, NULL), 1);
    for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
        assert_true(is_cached(h, disks[i].base));
        assert_true(age_of(h, disks[i].base) < DAY);
    }
}

static void a_disk_that_cannot_be_read_stops_the_pass(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *dir = str_printf("%s/server", h->dir);
    CLEANUP(freep) char *path = str_printf("%s/disk", dir);
    /* Its name is said to be where the file has ended. */
    static const char broken[24] = "QFI\xfb\0\0\0\3\0\0\0\0\0\1\0\0\0\0\0\x20";
    CLEANUP(strv_fini) struct strv none = {0};
    unsigned n;

    cache(h, SHA1, 99 * DAY);
    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_null(fs_write_atomic(&fs_real, path, broken, sizeof(broken), 0644));
    CLEANUP(err_freep) struct err *e = imageage_pass(&h->conf, &none, NOW, &n);

    assert_non_null(e);
    assert_true(is_cached(h, SHA1));
}

static void other_files_of_servers_are_no_disks(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *dir = str_printf("%s/server", h->dir);
    CLEANUP(freep) char *log = str_printf("%s/console.log", dir);
    CLEANUP(strv_fini) struct strv names = {0};

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_null(fs_write_atomic(&fs_real, log, "QFI", 3, 0644));
    disk_over(h, "server", "disk", SHA1);
    assert_null(imageage_backing_names(&h->conf, &names));
    assert_int_equal(names.n, 1);
    assert_string_equal(names.items[0], SHA1);
}

static void a_file_that_somebody_has_locked_is_left_for_later(void **state)
{
    struct host *h = *state;
    int lock = -1;

    cache(h, SHA1, 99 * DAY);
    assert_null(imagecache_lock(&h->conf, NULL, SHA1, &lock));
    assert_int_equal(pass(h, NULL), 0);
    close(lock);
    assert_int_equal(pass(h, NULL), 1);
}

static void a_host_without_a_cache_has_nothing_to_do(void **state)
{
    struct host *h = *state;

    h->conf.image_cache.subdirectory_name = "none";
    assert_int_equal(pass(h, NULL), 0);
}

/* -- Who uses the directory ----------------------------------------------------------------------
 */

static void assert_users(struct host *h, int64_t now_s, const char *expected)
{
    CLEANUP(strv_fini) struct strv hosts = {0};

    assert_null(imageage_users(&h->conf, NULL, now_s, &hosts));
    strv_sort(&hosts);
    CLEANUP(freep) char *got = strv_join(&hosts, " ");

    assert_string_equal(got, expected);
}

static void hosts_that_noted_themselves_within_a_day_are_users(void **state)
{
    struct host *h = *state;
    int64_t now = NOW;
    CLEANUP(freep) char *path = str_printf("%s/compute_nodes", h->dir);
    CLEANUP(freep)
    char *novas = str_printf("{\"host-b\": %lld.25, \"host-c\": %lld.5}", (long long)(now - 60),
                             (long long)(now - DAY - 1));

    assert_users(h, now - 100, "host-a");
    assert_null(fs_write_atomic(&fs_real, path, novas, strlen(novas), 0644));
    assert_users(h, now, "host-a host-b");
    h->conf.dflt.host = "host-d";
    assert_users(h, now + 1, "host-a host-b host-d");
}

static void a_registry_that_cannot_be_read_is_begun_anew(void **state)
{
    static const char *const texts[] = {"", "{\"host-b\": ", "[]", "7"};
    struct host *h = *state;
    CLEANUP(freep) char *path = str_printf("%s/compute_nodes", h->dir);

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(strv_fini) struct strv hosts = {0};

        assert_null(fs_write_atomic(&fs_real, path, texts[i], strlen(texts[i]), 0644));
        CLEANUP(err_freep) struct err *e = imageage_users(&h->conf, NULL, NOW, &hosts);

        assert_true(err_is(e, ERR_PARSE));
        assert_int_equal(hosts.n, 0);
        assert_users(h, NOW, "host-a");
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_kind_of_file_has_its_age),
        TEST(what_nobody_has_used_for_a_day_goes),
        TEST(the_images_of_servers_stay_and_become_young),
        TEST(what_any_disk_lies_over_stays),
        TEST(a_disk_that_cannot_be_read_stops_the_pass),
        TEST(other_files_of_servers_are_no_disks),
        TEST(a_file_that_somebody_has_locked_is_left_for_later),
        TEST(a_host_without_a_cache_has_nothing_to_do),
        TEST(hosts_that_noted_themselves_within_a_day_are_users),
        TEST(a_registry_that_cannot_be_read_is_begun_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_libvirt rpc_rest rpc_objects base */
#include "base/fs.h"
#include "base/hash.h"
#include "base/proc.h"
#include "driver/libvirt/imagecache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define IMAGE "9d2cb3a1-9d43-4a3e-9ee3-9ae9e6d5d3f3"
#define MIB   INT64_C(1048576)

/* -- A glance with one image, whose data are a file ------------------------------------------- */

static struct {
    const char *format;
    char *data; /* Path. */
    const char *error;
    atomic_int n_downloads;
} glance;

void glance_image_fini(struct glance_image *image)
{
    free(image->id);
    free(image->disk_format);
}

struct err *glance_image_get(struct glance *g, const struct rctx *ctx, const char *id,
                             struct glance_image *ret)
{
    (void)g;
    (void)ctx;
    if (!str_eq(id, IMAGE)) {
        return err_new(ERR_IMAGE_NOT_FOUND, "image_id", id, NULL);
    }
    *ret = (struct glance_image){.id = str_dup(id), .disk_format = str_dup(glance.format)};
    return NULL;
}

struct err *glance_image_download(struct glance *g, const struct rctx *ctx,
                                  const struct glance_image *image, int fd, struct cancel *stop)
{
    CLEANUP(freep) char *data = NULL;
    size_t len;

    (void)g;
    (void)ctx;
    (void)image;
    assert_null(stop && cancel_is_set(stop) ? stop : NULL);
    atomic_fetch_add(&glance.n_downloads, 1);
    cancel_sleep(NULL, 50);
    TRY(fs_read(&fs_real, glance.data, &data, &len));
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    return glance.error ? err_msg(ERR_NO_SPACE, "%s", glance.error) : NULL;
}

/* -- A host ---------------------------------------------------------------------------------- */

struct host {
    char dir[32];
    struct conf conf;
    struct imagecache_env env;
    char *base;   /* The directory of the cache. */
    char *cached; /* Where the image belongs. */
};

static void run(const char *const *argv)
{
    CLEANUP(err_freep) struct err *e = proc_run(argv, 30000, NULL);

    if (e) {
        fail_msg("%s", err_message(e));
    }
}

static void use_image(struct host *h, const char *format, const char *name)
{
    free(glance.data);
    glance.data = str_printf("%s/%s", h->dir, name);
    glance.format = format;
    glance.error = NULL;
    atomic_store(&glance.n_downloads, 0);
}

/* An image of 4 MiB, made by qemu-img with these options. */
static void make_image(struct host *h, const char *format, const char *options)
{
    use_image(h, format, "image");
    const char *plain[] = {"qemu-img", "create", "-q", "-f", format, glance.data, "4M", NULL};
    const char *more[] = {"qemu-img", "create", "-q",        "-f", format,
                          "-o",       options,  glance.data, "4M", NULL};

    run(options ? more : plain);
}

static void write_image(struct host *h, const char *format, const char *data, size_t len)
{
    use_image(h, format, "image");
    assert_null(fs_write_atomic(&fs_real, glance.data, data, len, 0644));
}

static int set_up(void **state)
{
    struct host *h = NEW(struct host);
    CLEANUP(freep) char *sha1 = NULL;

    strcpy(h->dir, "/tmp/test_imagecache.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->conf.dflt.instances_path = h->dir;
    h->conf.dflt.force_raw_images = true;
    h->conf.image_cache.subdirectory_name = "_base";
    strv_add(&h->conf.compute.vmdk_allowed_types, "streamOptimized");
    h->env = (struct imagecache_env){.conf = &h->conf};
    assert_null(hash_text("sha1", IMAGE, &sha1));
    h->base = str_printf("%s/_base", h->dir);
    h->cached = str_printf("%s/%s", h->base, sha1);
    atomic_store(&glance.n_downloads, 0);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;

    assert_null(fs_remove_all(&fs_real, h->dir));
    strv_fini(&h->conf.compute.vmdk_allowed_types);
    strv_fini(&h->conf.dflt.virt_mkfs);
    free(TAKE(glance.data));
    free(h->base);
    free(h->cached);
    free(h);
    return 0;
}

static struct err *fetch(struct host *h, const char *path, int64_t size, const char **ret_format)
{
    return imagecache_fetch(&h->env, NULL, IMAGE, path, size, ret_format);
}

static void assert_fetched(struct host *h, const char *format)
{
    const char *got = NULL;
    CLEANUP(err_freep) struct err *e = fetch(h, h->cached, 4 * MIB, &got);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        fail_msg("%s", text);
    }
    assert_string_equal(got, format);
    assert_int_equal(access(h->cached, R_OK), 0);
}

/* It fails with this and leaves nothing. */
static void assert_refused(struct host *h, enum err_kind kind, const char *text)
{
    const char *format = NULL;
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fetch(h, h->cached, 4 * MIB, &format);

    assert_non_null(e);
    CLEANUP(freep) char *all = err_text(e);

    if (!err_is(e, kind) || !strstr(all, text)) {
        fail_msg("%s %s", err_class(e), all);
    }
    assert_null(fs_list(&fs_real, h->base, &names));
    assert_int_equal(names.n, 0);
}

/* -- Names ----------------------------------------------------------------------------------- */

static void names_say_what_a_file_is(void **state)
{
    struct imagecache_name n;

    (void)state;
    assert_null(imagecache_name_read("da39a3ee5e6b4b0d3255bfef95601890afd80709", &n));
    assert_int_equal(n.kind, IMAGECACHE_IMAGE);
    assert_null(imagecache_name_read("swap_512", &n));
    assert_int_equal(n.kind, IMAGECACHE_SWAP);
    assert_int_equal(n.size, 512 * MIB);
    assert_null(imagecache_name_read("ephemeral_20_40d1d2c", &n));
    assert_int_equal(n.kind, IMAGECACHE_EPHEMERAL);
    assert_int_equal(n.size, 20 * 1024 * MIB);
    assert_string_equal(n.mkfs_hash, "40d1d2c");
}

static void other_names_are_refused(void **state)
{
    static const char *const names[] = {"",
                                        "swap_",
                                        "swap_0",
                                        "swap_-1",
                                        "swap_1 ",
                                        "swap_1_2",
                                        "swap_99999999999999999999",
                                        "swap_9999999999999",
                                        "ephemeral_20",
                                        "ephemeral_20_",
                                        "ephemeral__40d1d2c",
                                        "ephemeral_x_40d1d2c",
                                        "da39a3ee5e6b4b0d3255bfef95601890afd80709_20",
                                        "da39a3ee5e6b4b0d3255bfef95601890afd80709_sm",
                                        "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
                                        "da39a3ee5e6b4b0d3255bfef95601890afd8070g"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct imagecache_name n;
        CLEANUP(err_freep) struct err *e = imagecache_name_read(names[i], &n);

        if (!err_is(e, ERR_MIGRATION_ERROR)) {
            fail_msg("'%s' is taken", names[i]);
        }
    }
}

static void assert_mkfs(const struct conf *conf, const char *hash, const char *expected)
{
    CLEANUP(strv_fini) struct strv argv = {0};
    CLEANUP(err_freep) struct err *e = imagecache_mkfs(conf, hash, "label", "/x", &argv);

    if (!expected) {
        assert_true(err_is(e, ERR_MIGRATION_ERROR));
        return;
    }
    assert_null(e);
    CLEANUP(freep) char *text = strv_join(&argv, " ");

    assert_string_equal(text, expected);
}

static void a_file_system_is_found_by_its_hash(void **state)
{
    struct host *h = *state;

    assert_mkfs(&h->conf, "40d1d2c", "mkfs -t ext4 -F -L label /x");
    assert_mkfs(&h->conf, "0706d66", "mkfs -t vfat -n label /x");
    assert_mkfs(&h->conf, "310201b", "mkfs -t xfs -L label /x");
    assert_mkfs(&h->conf, "40d1d2", NULL);
    assert_mkfs(&h->conf, "", NULL);
    assert_mkfs(&h->conf, "default", NULL);
}

static void configured_file_systems_are_found_too(void **state)
{
    struct host *h = *state;
    static const char command[] = "mkfs.btrfs --label=%(fs_label)s %(target)s";
    CLEANUP(freep) char *md5 = NULL;

    assert_null(hash_text("md5", "btrfs", &md5));
    md5[7] = '\0';
    assert_mkfs(&h->conf, md5, NULL);
    h->conf.dflt.default_ephemeral_format = "btrfs";
    assert_mkfs(&h->conf, md5, "mkfs -t btrfs -L label /x");
    strv_add(&h->conf.dflt.virt_mkfs, "");
    strv_add(&h->conf.dflt.virt_mkfs, "windows=");
    strv_add_take(&h->conf.dflt.virt_mkfs, str_printf("linux=%s", command));
    free(TAKE(md5));
    assert_null(hash_text("md5", command, &md5));
    md5[7] = '\0';
    assert_mkfs(&h->conf, md5, "mkfs.btrfs --label=label /x");
}

/* -- What qemu-img says ----------------------------------------------------------------------- */

static void assert_examined(const char *format, const char *info, const char *reason)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(strv_fini) struct strv types = {0};
    int64_t size = -1;

    strv_add(&types, "streamOptimized");
    assert_null(jv_parse(info, strlen(info), &json));
    CLEANUP(err_freep) struct err *e = imagecache_examine("x", format, json, &types, &size);

    if (!reason) {
        assert_null(e);
        assert_int_equal(size, 7);
    } else if (!e || !strstr(err_message(e), reason)) {
        fail_msg("%s: %s", info, e ? err_message(e) : "taken");
    }
}

static void images_that_name_other_files_are_refused(void **state)
{
    (void)state;
    assert_examined("qcow2", "{\"format\": \"qcow2\", \"virtual-size\": 7}", NULL);
    assert_examined("qcow2",
                    "{\"format\": \"qcow2\", \"virtual-size\": 7, \"backing-filename\": \"x\"}",
                    "backing file");
    assert_examined("qcow2",
                    "{\"format\": \"qcow2\", \"virtual-size\": 7, "
                    "\"full-backing-filename\": \"x\"}",
                    "backing file");
    assert_examined("qcow2",
                    "{\"format\": \"qcow2\", \"virtual-size\": 7, \"format-specific\": "
                    "{\"type\": \"qcow2\", \"data\": {\"data-file\": \"/etc/passwd\"}}}",
                    "data file");
    assert_examined("qcow2", "{\"format\": \"raw\", \"virtual-size\": 7}", "does not match");
    assert_examined("vmdk",
                    "{\"format\": \"vmdk\", \"virtual-size\": 7, \"format-specific\": "
                    "{\"data\": {\"create-type\": \"streamOptimized\"}}}",
                    NULL);
    assert_examined("vmdk",
                    "{\"format\": \"vmdk\", \"virtual-size\": 7, \"format-specific\": "
                    "{\"data\": {\"create-type\": \"monolithicFlat\"}}}",
                    "create-type");
    assert_examined("vmdk", "{\"format\": \"vmdk\", \"virtual-size\": 7}", "create-type");
    assert_examined("qcow2", "{\"format\": \"qcow2\"}", "virtual-size");
    assert_examined("qcow2", "[]", "not an object");
}

/* -- Images ---------------------------------------------------------------------------------- */

static void a_raw_image_is_taken_as_it_is(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *text = NULL;

    write_image(h, "raw", "hello", 5);
    assert_fetched(h, "raw");
    assert_null(fs_read(&fs_real, h->cached, &text, NULL));
    assert_string_equal(text, "hello");
    assert_fetched(h, "raw");
    assert_int_equal(atomic_load(&glance.n_downloads), 1);
}

static void other_formats_are_converted(void **state)
{
    struct host *h = *state;
    static const char *const formats[] = {"qcow2", "vdi", "vhdx"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct stat st;

        make_image(h, formats[i], NULL);
        assert_fetched(h, "raw");
        assert_int_equal(stat(h->cached, &st), 0);
        assert_int_equal(st.st_size, 4 * MIB);
        assert_int_equal(st.st_mode & 0777, 0644);
        unlink(h->cached);
    }
    make_image(h, "vmdk", "subformat=streamOptimized");
    assert_fetched(h, "raw");
}

static void an_image_that_is_not_what_it_says_is_refused(void **state)
{
    struct host *h = *state;

    make_image(h, "qcow2", NULL);
    glance.format = "vdi";
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "does not match disk_format");
    write_image(h, "qcow2", "hello", 5);
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "does not match disk_format");
    write_image(h, "qcow2", "", 0);
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "does not match disk_format");
    glance.format = "ova";
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "not in a supported format");
    glance.format = NULL;
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "not in a supported format");
}

/* Where the cache keeps qcow2 as it comes, it could not be told from one later. */
static void a_raw_image_that_begins_like_qcow2_stays_raw_or_is_refused(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *plain = NULL;
    CLEANUP(freep) char *cached = NULL;
    size_t len, cached_len;

    make_image(h, "qcow2", "backing_file=/etc/passwd,backing_fmt=raw");
    glance.format = "raw";
    h->conf.dflt.force_raw_images = false;
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "does not match disk_format");
    h->conf.dflt.force_raw_images = true;
    assert_fetched(h, "raw");
    assert_null(fs_read(&fs_real, glance.data, &plain, &len));
    assert_null(fs_read(&fs_real, h->cached, &cached, &cached_len));
    assert_int_equal(cached_len, len);
    assert_memory_equal(cached, plain, len);
}

static void an_image_over_another_file_is_refused(void **state)
{
    struct host *h = *state;

    make_image(h, "qcow2", "backing_file=/etc/passwd,backing_fmt=raw");
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "backing file");
    CLEANUP(freep) char *options = str_printf("data_file=%s/data,data_file_raw=on", h->dir);

    make_image(h, "qcow2", options);
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "data file");
    make_image(h, "vmdk", "subformat=monolithicFlat");
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "unacceptable");
}

static void an_image_larger_than_its_disk_is_refused(void **state)
{
    struct host *h = *state;
    const char *format = NULL;

    make_image(h, "qcow2", NULL);
    CLEANUP(err_freep) struct err *e = fetch(h, h->cached, 4 * MIB - 1, &format);

    assert_true(err_is(e, ERR_FLAVOR_DISK_TOO_SMALL));
    assert_non_null(strstr(err_message(e), "4194303 bytes, image is 4194304"));
    assert_int_equal(access(h->cached, F_OK), -1);
}

static void the_image_of_another_server_is_not_fetched(void **state)
{
    struct host *h = *state;
    const char *format = NULL;
    CLEANUP(freep) char *other = str_printf("%s/da39a3ee5e6b4b0d3255bfef95601890afd80709", h->base);

    write_image(h, "raw", "hello", 5);
    CLEANUP(err_freep) struct err *e = fetch(h, other, 4 * MIB, &format);

    assert_true(err_is(e, ERR_MIGRATION_ERROR));
    assert_int_equal(atomic_load(&glance.n_downloads), 0);
    e = err_free(e);
    e = imagecache_fetch(&h->env, NULL, NULL, h->cached, 4 * MIB, &format);
    assert_true(err_is(e, ERR_MIGRATION_ERROR));
}

static void a_failed_download_leaves_nothing(void **state)
{
    struct host *h = *state;

    write_image(h, "raw", "hello", 5);
    glance.error = "the disk is full";
    assert_refused(h, ERR_NO_SPACE, "the disk is full");
    glance.error = NULL;
    assert_fetched(h, "raw");
}

static void signatures_are_not_ignored(void **state)
{
    struct host *h = *state;

    write_image(h, "raw", "hello", 5);
    h->conf.glance.verify_glance_signatures = true;
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "signatures");
}

static void without_conversion_qcow2_stays_what_it_is(void **state)
{
    struct host *h = *state;
    const char *format = NULL;

    h->conf.dflt.force_raw_images = false;
    make_image(h, "vdi", NULL);
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "without a conversion");
    make_image(h, "qcow2", NULL);
    assert_fetched(h, "qcow2");
    assert_fetched(h, "qcow2");
    assert_int_equal(atomic_load(&glance.n_downloads), 1);
    make_image(h, "qcow2", "backing_file=/etc/passwd,backing_fmt=raw");
    assert_int_equal(rename(glance.data, h->cached), 0);
    CLEANUP(err_freep) struct err *e = fetch(h, h->cached, 4 * MIB, &format);

    assert_true(err_is(e, ERR_IMAGE_UNACCEPTABLE));
    unlink(h->cached);
    write_image(h, "raw", "hello", 5);
    assert_fetched(h, "raw");
}

static void a_file_in_use_becomes_young_again(void **state)
{
    struct host *h = *state;
    struct stat st;

    write_image(h, "raw", "hello", 5);
    assert_fetched(h, "raw");
    utimensat(AT_FDCWD, h->cached, (struct timespec[]){{1000, 0}, {1000, 0}}, 0);
    assert_fetched(h, "raw");
    assert_int_equal(stat(h->cached, &st), 0);
    assert_true(st.st_mtime > 1000000);
}

static void a_kernel_is_a_file_of_its_server(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *path = str_printf("%s/kernel", h->dir);
    CLEANUP(freep) char *text = NULL;

    write_image(h, "aki", "vmlinuz", 7);
    assert_null(imagecache_fetch_file(&h->env, NULL, IMAGE, path));
    assert_null(fs_read(&fs_real, path, &text, NULL));
    assert_string_equal(text, "vmlinuz");
    CLEANUP(freep) char *other = str_printf("%s/ramdisk", h->dir);
    CLEANUP(err_freep) struct err *e = imagecache_fetch_file(&h->env, NULL, "gone", other);

    assert_true(err_is(e, ERR_IMAGE_NOT_FOUND));
}

/* -- Locks and leftovers ----------------------------------------------------------------------- */

static void *fetch_thread(void *arg)
{
    struct host *h = arg;
    const char *format = NULL;

    return fetch(h, h->cached, 4 * MIB, &format);
}

static void two_who_want_an_image_fetch_it_once(void **state)
{
    struct host *h = *state;
    pthread_t threads[4];

    make_image(h, "qcow2", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, fetch_thread, h), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *e;

        pthread_join(threads[i], &e);
        assert_null(e);
    }
    assert_int_equal(atomic_load(&glance.n_downloads), 1);
}

/* Holds a lock as Nova does until it is killed. */
static pid_t hold_lock(struct host *h)
{
    CLEANUP(freep) char *dir = str_printf("%s/locks", h->dir);
    CLEANUP(freep) char *path = str_printf("%s/nova-%s", dir, strrchr(h->cached, '/') + 1);
    int ready[2];
    char c;

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();

    if (pid == 0) {
        int fd = open(path, O_RDWR | O_CREAT, 0644);

        if (lockf(fd, F_LOCK, 0) == 0 && write(ready[1], "x", 1) == 1) {
            pause();
        }
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void let_go(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void novas_locks_are_respected(void **state)
{
    struct host *h = *state;
    pid_t pid = hold_lock(h);

    write_image(h, "raw", "hello", 5);
    h->env.stop = cancel_new();
    cancel_set(h->env.stop);
    assert_refused(h, ERR_CANCELLED, "waiting for the lock");
    assert_int_equal(atomic_load(&glance.n_downloads), 0);
    h->env.stop = cancel_free(h->env.stop);
    let_go(pid);
    assert_fetched(h, "raw");
}

static void leftovers_of_a_crash_are_removed(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *part = str_printf("%s.part", h->cached);
    CLEANUP(freep) char *converted = str_printf("%s.converted", h->cached);

    imagecache_sweep(&h->conf); /* No cache yet. */
    assert_null(fs_mkdir_all(&fs_real, h->base, 0755));
    assert_null(fs_write_atomic(&fs_real, part, "old and longer", 14, 0644));
    assert_null(fs_write_atomic(&fs_real, converted, "x", 1, 0644));
    write_image(h, "raw", "hello", 5);
    assert_fetched(h, "raw");
    assert_int_equal(access(part, F_OK), -1);
    assert_int_equal(access(converted, F_OK), -1);

    assert_null(fs_write_atomic(&fs_real, part, "x", 1, 0644));
    pid_t pid = hold_lock(h);

    imagecache_sweep(&h->conf);
    assert_int_equal(access(part, F_OK), 0);
    let_go(pid);
    imagecache_sweep(&h->conf);
    assert_int_equal(access(part, F_OK), -1);
    assert_int_equal(access(h->cached, F_OK), 0);
}

/* -- Disks without an image -------------------------------------------------------------------- */

static void base_files_of_ephemeral_and_swap_disks_are_made(void **state)
{
    struct host *h = *state;
    const char *format = NULL;
    CLEANUP(freep) char *ephemeral = str_printf("%s/ephemeral_1_40d1d2c", h->base);
    CLEANUP(freep) char *swap = str_printf("%s/swap_64", h->base);
    char magic[10];
    struct stat st;
    int fd;

    assert_null(fetch(h, ephemeral, 1024 * MIB, &format));
    assert_string_equal(format, "raw");
    assert_int_equal(stat(ephemeral, &st), 0);
    assert_int_equal(st.st_size, 1024 * MIB);
    assert_true(st.st_blocks * 512 < 200 * MIB);
    fd = open(ephemeral, O_RDONLY);
    assert_int_equal(pread(fd, magic, 2, 1024 + 56), 2);
    assert_memory_equal(magic, "\x53\xef", 2);
    close(fd);

    assert_null(fetch(h, swap, 64 * MIB, &format));
    assert_int_equal(stat(swap, &st), 0);
    assert_int_equal(st.st_size, 64 * MIB);
    fd = open(swap, O_RDONLY);
    assert_int_equal(pread(fd, magic, 10, 4096 - 10), 10);
    assert_memory_equal(magic, "SWAPSPACE2", 10);
    close(fd);
    assert_int_equal(atomic_load(&glance.n_downloads), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_say_what_a_file_is),
        TEST(other_names_are_refused),
        TEST(a_file_system_is_found_by_its_hash),
        TEST(configured_file_systems_are_found_too),
        TEST(images_that_name_other_files_are_refused),
        TEST(a_raw_image_is_taken_as_it_is),
        TEST(other_formats_are_converted),
        TEST(an_image_that_is_not_what_it_says_is_refused),
        TEST(a_raw_image_that_begins_like_qcow2_stays_raw_or_is_refused),
        TEST(an_image_over_another_file_is_refused),
        TEST(an_image_larger_than_its_disk_is_refused),
        TEST(the_image_of_another_server_is_not_fetched),
        TEST(a_failed_download_leaves_nothing),
        TEST(signatures_are_not_ignored),
        TEST(without_conversion_qcow2_stays_what_it_is),
        TEST(a_file_in_use_becomes_young_again),
        TEST(a_kernel_is_a_file_of_its_server),
        TEST(two_who_want_an_image_fetch_it_once),
        TEST(novas_locks_are_respected),
        TEST(leftovers_of_a_crash_are_removed),
        TEST(base_files_of_ephemeral_and_swap_disks_are_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

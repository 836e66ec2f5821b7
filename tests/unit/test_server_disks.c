/* link: driver_libvirt lv_fake rpc_rest rpc_objects base */
#include "base/fs.h"
#include "base/hash.h"
#include "base/proc.h"
#include "driver/libvirt/server_disks.h"

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

#define UUID   "c3d9b1f0-8f3c-4f0e-9a55-3c7a1f2b4d11"
#define IMAGE  "9d2cb3a1-9d43-4a3e-9ee3-9ae9e6d5d3f3"
#define KERNEL "0d5d3a6e-1c40-4b27-8a86-5f8b3d3e2a01"
#define MIB    INT64_C(1048576)
#define GIB    INT64_C(1073741824)

/* -- A glance whose images are all one file ---------------------------------------------------- */

static struct {
    const char *format;
    char *data; /* Path. */
    const char *error;
    unsigned n_downloads;
} glance;

void glance_image_fini(struct glance_image *image)
{
    free(image->id);
    free(image->disk_format);
}

struct err *glance_image_get(struct glance *g, const struct rctx *ctx, const char *id,
                             struct glance_image *ret)
{
    struct stat st;

    (void)g;
    (void)ctx;
    if (stat(glance.data, &st) < 0) {
        return err_new(ERR_IMAGE_NOT_FOUND, "image_id", id, NULL);
    }
    *ret = (struct glance_image){
        .id = str_dup(id), .disk_format = str_dup(glance.format), .size = st.st_size};
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
    (void)stop;
    glance.n_downloads++;
    TRY(fs_read(&fs_real, glance.data, &data, &len));
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    return glance.error ? err_msg(ERR_NO_SPACE, "%s", glance.error) : NULL;
}

/* -- A host and a server ----------------------------------------------------------------------- */

struct host {
    char dir[40];
    struct conf conf;
    struct instance *inst;
    struct image_meta image;
    struct disk_item items[4];
    struct disk_layout layout;
    struct server_disks s;
};

static char *in_dir(struct host *h, const char *name)
{
    return str_printf("%s/%s/%s", h->dir, UUID, name);
}

static bool is_there(struct host *h, const char *name)
{
    CLEANUP(freep) char *path = in_dir(h, name);

    return access(path, F_OK) == 0;
}

static void add(struct host *h, enum disk_role role, const char *file, const char *format,
                int64_t size)
{
    struct disk_item *d = &h->items[h->layout.n++];

    *d = (struct disk_item){.role = role, .format = str_dup(format), .size = size};
    strcpy(d->file, file);
}

static void write_image(struct host *h, const char *format, const char *data, size_t len)
{
    free(glance.data);
    glance.data = str_printf("%s/image", h->dir);
    glance.format = format;
    assert_null(fs_write_atomic(&fs_real, glance.data, data, len, 0644));
}

static int set_up(void **state)
{
    struct host *h = NEW(struct host);
    char id[] = IMAGE;

    strcpy(h->dir, "/tmp/test_server_disks.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->conf.dflt.instances_path = h->dir;
    h->conf.dflt.force_raw_images = true;
    h->conf.dflt.preallocate_images = "none";
    h->conf.libvirt.images_type = "default";
    h->conf.image_cache.subdirectory_name = "_base";
    h->inst = instance_new();
    instance_set_uuid(h->inst, UUID);
    h->image.id = str_dup(id);
    h->layout.items = h->items;
    h->s = (struct server_disks){
        .env = {.conf = &h->conf}, .inst = h->inst, .image = &h->image, .layout = &h->layout};
    glance.error = NULL;
    glance.n_downloads = 0;
    write_image(h, "raw", "hello", 5);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;

    assert_null(fs_remove_all(&fs_real, h->dir));
    for (size_t i = 0; i < h->layout.n; i++) {
        free(h->items[i].format);
        free(h->items[i].guest_format);
    }
    strv_fini(&h->conf.dflt.virt_mkfs);
    instance_free(h->inst);
    free(h->image.id);
    free(TAKE(glance.data));
    free(h);
    return 0;
}

static void assert_made(struct host *h)
{
    CLEANUP(err_freep) struct err *e = server_disks_make(&h->s);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        fail_msg("%s", text);
    }
}

/* It fails with this, and no disk and no half of one is there. */
static void assert_refused(struct host *h, enum err_kind kind, const char *text)
{
    CLEANUP(err_freep) struct err *e = server_disks_make(&h->s);

    assert_non_null(e);
    CLEANUP(freep) char *all = err_text(e);

    if (!err_is(e, kind) || !strstr(all, text)) {
        fail_msg("%s %s", err_class(e), all);
    }
    assert_false(is_there(h, "disk"));
    assert_false(is_there(h, "disk.part"));
}

static struct json_object *qemu_info(const char *path, const char *format)
{
    const char *argv[] = {"qemu-img", "info", "-f", format, "--output=json", path, NULL};
    CLEANUP(freep) char *text = NULL;
    struct json_object *info = NULL;

    assert_null(proc_run(argv, 30000, &text));
    assert_null(jv_parse(text, strlen(text), &info));
    return info;
}

static void assert_text(struct json_object *o, const char *key, const char *expected)
{
    assert_string_equal(json_object_get_string(jv_get(o, key)), expected);
}

/* A disk is qcow2 of that size, over a file of the cache of that name, which is read as raw. */
static void assert_overlay(struct host *h, const char *name, int64_t size, const char *base)
{
    CLEANUP(freep) char *path = in_dir(h, name);
    CLEANUP(freep) char *backing = imagecache_path(&h->conf, base);
    CLEANUP(jv_putp) struct json_object *info = qemu_info(path, "qcow2");

    assert_int_equal(json_object_get_int64(jv_get(info, "virtual-size")), size);
    assert_text(info, "backing-filename", backing);
    assert_text(info, "backing-filename-format", "raw");
}

static char *image_base(const char *id)
{
    char *sha1 = NULL;

    assert_null(hash_text("sha1", id, &sha1));
    return sha1;
}

static int64_t size_of(struct host *h, const char *name)
{
    CLEANUP(freep) char *path = in_dir(h, name);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void assert_starts(struct host *h, const char *name, int64_t offset, const char *text)
{
    CLEANUP(freep) char *path = in_dir(h, name);
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char buf[32] = "";

    assert_int_equal(pread(fd, buf, strlen(text), offset), (ssize_t)strlen(text));
    assert_string_equal(buf, text);
}

static struct json_object *disk_formats(struct host *h)
{
    CLEANUP(freep) char *path = in_dir(h, "disk.info");
    CLEANUP(freep) char *text = NULL;
    struct json_object *formats = NULL;
    size_t len;

    assert_null(fs_read(&fs_real, path, &text, &len));
    assert_int_equal(text[len - 1], '\n');
    assert_null(jv_parse(text, len - 1, &formats));
    return formats;
}

static void assert_format(struct host *h, const char *name, const char *expected)
{
    CLEANUP(jv_putp) struct json_object *formats = disk_formats(h);
    CLEANUP(freep) char *path = in_dir(h, name);
    const char *got = json_object_get_string(jv_get(formats, path));

    if (!str_eq(got, expected)) {
        fail_msg("%s is %s", name, got ? got : "not there");
    }
}

/* -- Root disks -------------------------------------------------------------------------------- */

static void a_root_disk_lies_over_the_cached_image(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *base = image_base(IMAGE);

    add(h, DISK_ROOT, "disk", "qcow2", 2 * GIB);
    assert_made(h);
    assert_overlay(h, "disk", 2 * GIB, base);
    assert_format(h, "disk", "qcow2");
    assert_int_equal(size_of(h, "console.log"), 0);
    assert_false(is_there(h, "disk.part"));
}

static void a_flavor_without_a_size_takes_that_of_the_image(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *base = image_base(IMAGE);

    add(h, DISK_ROOT, "disk", "qcow2", 0);
    assert_made(h);
    assert_overlay(h, "disk", 512, base); /* Five bytes in whole sectors. */
}

static void a_second_server_downloads_nothing_and_a_made_disk_stays(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *disk = in_dir(h, "disk");

    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    assert_made(h);
    assert_null(fs_write_atomic(&fs_real, disk, "the guest's", 11, 0644));
    assert_made(h);
    assert_starts(h, "disk", 0, "the guest's");
    assert_int_equal(unlink(disk), 0);
    assert_made(h);
    assert_int_equal(glance.n_downloads, 1);
}

static void a_flat_disk_is_a_copy_that_has_grown(void **state)
{
    struct host *h = *state;

    h->conf.libvirt.images_type = "raw";
    add(h, DISK_ROOT, "disk", "raw", GIB);
    assert_made(h);
    assert_int_equal(size_of(h, "disk"), GIB);
    assert_starts(h, "disk", 0, "hello");
    assert_format(h, "disk", "raw");
}

static void a_flat_disk_of_any_size_is_as_the_image(void **state)
{
    struct host *h = *state;

    h->conf.libvirt.images_type = "flat";
    add(h, DISK_ROOT, "disk", "raw", 0);
    assert_made(h);
    assert_int_equal(size_of(h, "disk"), 5);
}

static void make_qcow2_image(struct host *h)
{
    write_image(h, "qcow2", "", 0);
    const char *argv[] = {"qemu-img",           "create",    "-q", "-f", "qcow2", "-o",
                          "cluster_size=32768", glance.data, "8M", NULL};

    assert_null(proc_run(argv, 30000, NULL));
}

static void an_unconverted_image_is_read_as_what_it_is(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *path = in_dir(h, "disk");

    h->conf.dflt.force_raw_images = false;
    make_qcow2_image(h);
    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    assert_made(h);
    CLEANUP(jv_putp) struct json_object *info = qemu_info(path, "qcow2");

    assert_text(info, "backing-filename-format", "qcow2");
    assert_int_equal(json_object_get_int64(jv_get(info, "cluster-size")), 32768);
}

static void a_flat_disk_is_raw_whatever_the_cache_has(void **state)
{
    struct host *h = *state;

    h->conf.dflt.force_raw_images = false;
    h->conf.dflt.use_cow_images = false;
    make_qcow2_image(h);
    add(h, DISK_ROOT, "disk", "raw", 16 * MIB);
    assert_made(h);
    assert_int_equal(size_of(h, "disk"), 16 * MIB);
    assert_starts(h, "disk", 0, "");
}

static void a_raw_image_with_the_header_of_another_format_stays_raw(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *base = image_base(IMAGE);
    CLEANUP(freep) char *plain = NULL;
    CLEANUP(freep) char *seen = NULL;
    CLEANUP(freep) char *disk = in_dir(h, "disk");
    CLEANUP(freep) char *copy = in_dir(h, "copy");
    size_t len, seen_len;

    make_qcow2_image(h);
    glance.format = "raw";
    assert_null(fs_read(&fs_real, glance.data, &plain, &len));
    add(h, DISK_ROOT, "disk", "qcow2", MIB);
    assert_made(h);
    assert_overlay(h, "disk", MIB, base);
    /* What the guest sees is the header, not what it describes. */
    assert_null(server_disks_extract(&h->conf, disk, "qcow2", copy, "raw", NULL));
    assert_null(fs_read(&fs_real, copy, &seen, &seen_len));
    assert_int_equal(seen_len, MIB);
    assert_memory_equal(seen, plain, len);
}

static void an_image_larger_than_the_disk_is_refused_cached_or_not(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *data = mem_alloc(2 * MIB);

    write_image(h, "raw", data, 2 * MIB);
    add(h, DISK_ROOT, "disk", "qcow2", MIB);
    assert_refused(h, ERR_FLAVOR_DISK_TOO_SMALL, "1048576 bytes, image is 2097152");
    assert_int_equal(glance.n_downloads, 0);
    h->items[0].size = 2 * MIB;
    assert_made(h);
    CLEANUP(freep) char *disk = in_dir(h, "disk");

    assert_int_equal(unlink(disk), 0);
    h->items[0].size = MIB;
    assert_refused(h, ERR_FLAVOR_DISK_TOO_SMALL, "image is 2097152");
    assert_int_equal(glance.n_downloads, 1);
}

static void what_cannot_be_fetched_is_told_as_it_is(void **state)
{
    struct host *h = *state;

    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    glance.error = "the disk is full";
    assert_refused(h, ERR_NO_SPACE, "the disk is full");
    glance.error = NULL;
    glance.format = "ova";
    assert_refused(h, ERR_IMAGE_UNACCEPTABLE, "not in a supported format");
    unlink(glance.data);
    assert_refused(h, ERR_IMAGE_NOT_FOUND, IMAGE);
}

static void stores_that_we_do_not_have_are_refused_by_name(void **state)
{
    static const char *const types[] = {"rbd", "lvm", "ploop"};
    struct host *h = *state;

    add(h, DISK_ROOT, "disk", "raw", GIB);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        h->conf.libvirt.images_type = types[i];
        assert_refused(h, ERR_NOT_IMPLEMENTED, types[i]);
        assert_false(is_there(h, ""));
    }
}

static void a_half_made_disk_of_a_crash_is_made_anew(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *base = image_base(IMAGE);
    CLEANUP(freep) char *dir = in_dir(h, "");
    CLEANUP(freep) char *part = in_dir(h, "disk.part");

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_null(fs_write_atomic(&fs_real, part, "half of a longer disk", 21, 0644));
    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    assert_made(h);
    assert_overlay(h, "disk", GIB, base);
    assert_false(is_there(h, "disk.part"));
}

static void space_is_taken_in_advance_if_asked_for(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *path = in_dir(h, "disk");
    struct stat st;

    h->conf.dflt.preallocate_images = "space";
    add(h, DISK_ROOT, "disk", "raw", 8 * MIB);
    assert_made(h);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8 * MIB);
    assert_true(st.st_blocks * 512 >= 8 * MIB);
}

/* -- Ephemeral and swap disks ------------------------------------------------------------------ */

static void ephemeral_and_swap_disks_lie_over_the_cache_too(void **state)
{
    struct host *h = *state;

    h->conf.dflt.default_ephemeral_format = "ext4";
    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    add(h, DISK_EPHEMERAL, "disk.local", "qcow2", GIB);
    add(h, DISK_SWAP, "disk.swap", "qcow2", 64 * MIB);
    assert_made(h);
    assert_overlay(h, "disk.local", GIB, "ephemeral_1_40d1d2c");
    assert_overlay(h, "disk.swap", 64 * MIB, "swap_64");
    assert_format(h, "disk.local", "qcow2");
    assert_format(h, "disk.swap", "qcow2");
}

static void flat_ephemeral_and_swap_disks_hold_what_they_should(void **state)
{
    struct host *h = *state;

    h->conf.dflt.use_cow_images = false;
    h->conf.dflt.default_ephemeral_format = "ext4";
    add(h, DISK_EPHEMERAL, "disk.eph0", "raw", 64 * MIB);
    add(h, DISK_EPHEMERAL, "disk.eph1", "raw", 64 * MIB);
    add(h, DISK_SWAP, "disk.swap", "raw", 4 * MIB);
    assert_made(h);
    assert_int_equal(size_of(h, "disk.eph0"), 64 * MIB);
    assert_starts(h, "disk.eph0", 1024 + 120, "ephemeral0");
    assert_starts(h, "disk.eph1", 1024 + 120, "ephemeral1");
    assert_starts(h, "disk.swap", 4096 - 10, "SWAPSPACE2");
    assert_int_equal(size_of(h, "disk.swap"), 4 * MIB);
    assert_format(h, "disk.eph1", "raw");
    CLEANUP(freep) char *base = imagecache_path(&h->conf, "");

    assert_int_equal(access(base, F_OK), -1);
}

static void assert_hash(struct host *h, const char *os_type, const char *guest_format,
                        const char *of)
{
    CLEANUP(freep) char *md5 = NULL;
    CLEANUP(freep) char *got = NULL;

    assert_null(hash_text("md5", of, &md5));
    assert_null(imagecache_mkfs_hash(&h->conf, os_type, guest_format, &got));
    assert_int_equal(strlen(got), 7);
    assert_memory_equal(got, md5, 7);
}

static void a_file_system_is_chosen_as_nova_does(void **state)
{
    struct host *h = *state;

    assert_hash(h, NULL, NULL, "vfat");
    assert_hash(h, "linux", NULL, "ext4");
    assert_hash(h, "windows", NULL, "ntfs");
    assert_hash(h, "other", NULL, "vfat");
    h->conf.dflt.default_ephemeral_format = "xfs";
    assert_hash(h, "linux", NULL, "xfs");
    assert_hash(h, "linux", "ext2", "ext2");
    strv_add(&h->conf.dflt.virt_mkfs, "");
    strv_add(&h->conf.dflt.virt_mkfs, "linux=mkfs.x %(target)s");
    strv_add(&h->conf.dflt.virt_mkfs, "windows=");
    assert_hash(h, "linux", "ext2", "mkfs.x %(target)s");
    assert_hash(h, NULL, "ext2", "ext2");
    strv_add(&h->conf.dflt.virt_mkfs, "default=mkfs.y %(target)s");
    assert_hash(h, NULL, "ext2", "mkfs.y %(target)s");
    assert_hash(h, "linux", NULL, "mkfs.x %(target)s");
}

static void a_file_system_that_nobody_knows_is_refused(void **state)
{
    struct host *h = *state;

    add(h, DISK_EPHEMERAL, "disk.eph0", "qcow2", GIB);
    h->items[0].guest_format = str_dup("btrfs");
    assert_refused(h, ERR_INVALID_BDM_FORMAT, "btrfs format is not supported");
    assert_false(is_there(h, "disk.eph0"));
}

/* -- Kernels and rescues ----------------------------------------------------------------------- */

static void a_kernel_and_its_ramdisk_come_through_the_cache(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *name = image_base(KERNEL);
    CLEANUP(freep) char *base = imagecache_path(&h->conf, name);

    h->s.ramdisk_id = IMAGE;
    write_image(h, "ari", "initrd", 6);
    assert_made(h); /* A ramdisk alone is nothing. */
    assert_false(is_there(h, "ramdisk"));
    h->s.kernel_id = KERNEL;
    assert_made(h);
    assert_starts(h, "kernel", 0, "initrd");
    assert_int_equal(size_of(h, "kernel"), 6);
    assert_int_equal(size_of(h, "ramdisk"), 6);
    assert_int_equal(access(base, R_OK), 0);
}

static void a_rescue_makes_its_own_files_and_loses_them_again(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *dir = in_dir(h, "");
    CLEANUP(freep) char *disk = in_dir(h, "disk");

    add(h, DISK_RESCUE, "disk.rescue", "qcow2", 0);
    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    add(h, DISK_CONFIG, "disk.config.rescue", "raw", 0);
    h->s.kernel_id = KERNEL;
    assert_made(h);
    assert_true(is_there(h, "disk.rescue"));
    assert_true(is_there(h, "kernel.rescue"));
    assert_false(is_there(h, "disk"));
    assert_false(is_there(h, "disk.config.rescue"));
    assert_format(h, "disk.rescue", "qcow2");
    assert_format(h, "disk", NULL);
    assert_null(fs_write_atomic(&fs_real, disk, "x", 1, 0644));
    server_disks_remove_rescue(&h->conf, UUID);
    assert_false(is_there(h, "disk.rescue"));
    assert_false(is_there(h, "kernel.rescue"));
    assert_true(is_there(h, "disk"));
    assert_null(fs_remove_all(&fs_real, dir));
    server_disks_remove_rescue(&h->conf, UUID); /* No server, no rescue. */
}

/* -- disk.info --------------------------------------------------------------------------------- */

static void formats_that_nova_noted_are_kept(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *dir = in_dir(h, "");
    CLEANUP(freep) char *info = in_dir(h, "disk.info");
    CLEANUP(freep) char *config = in_dir(h, "disk.config");
    CLEANUP(freep) char *text = str_printf("{\"%s\": \"raw\"}", config);

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    assert_null(fs_write_atomic(&fs_real, info, text, strlen(text), 0644));
    add(h, DISK_ROOT, "disk", "qcow2", GIB);
    assert_made(h);
    assert_format(h, "disk.config", "raw");
    assert_format(h, "disk", "qcow2");
    assert_null(fs_write_atomic(&fs_real, info, "[]", 2, 0644));
    CLEANUP(err_freep) struct err *e = server_disks_make(&h->s);

    assert_true(err_is(e, ERR_INVALID_DISK_INFO));
}

/* -- Removing ---------------------------------------------------------------------------------- */

static void a_server_is_removed_with_what_earlier_removals_left(void **state)
{
    static const char *const names[] = {UUID, UUID "_del", UUID "_resize"};
    struct host *h = *state;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/%s/sub", h->dir, names[i]);
        CLEANUP(freep) char *file = str_printf("%s/disk", dir);

        assert_null(fs_mkdir_all(&fs_real, dir, 0755));
        assert_null(fs_write_atomic(&fs_real, file, "x", 1, 0644));
    }
    assert_null(server_disks_remove(&h->conf, UUID));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/%s", h->dir, names[i]);

        assert_int_equal(access(dir, F_OK), -1);
    }
    assert_null(server_disks_remove(&h->conf, UUID)); /* None is no error. */
    CLEANUP(err_freep) struct err *e = server_disks_remove(&h->conf, "..");

    assert_non_null(e);
    assert_int_equal(access(h->dir, F_OK), 0);
}

/* -- Copies for an upload ---------------------------------------------------------------------- */

static void a_copy_has_no_backing_file(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *disk = in_dir(h, "disk");
    CLEANUP(freep) char *copy = in_dir(h, "copy");

    add(h, DISK_ROOT, "disk", "qcow2", 4 * MIB);
    assert_made(h);
    for (int i = 0; i < 2; i++) {
        h->conf.libvirt.snapshot_compression = i == 1;
        assert_null(server_disks_extract(&h->conf, disk, "qcow2", copy, "qcow2", NULL));
        CLEANUP(jv_putp) struct json_object *info = qemu_info(copy, "qcow2");

        assert_null(jv_get(info, "backing-filename"));
        assert_int_equal(json_object_get_int64(jv_get(info, "virtual-size")), 4 * MIB);
        assert_int_equal(unlink(copy), 0);
    }
    assert_null(server_disks_extract(&h->conf, disk, "qcow2", copy, "iso", NULL));
    assert_starts(h, "copy", 0, "hello");
    assert_int_equal(size_of(h, "copy"), 4 * MIB);
}

static void a_copy_that_is_stopped_leaves_nothing(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *disk = in_dir(h, "disk");
    CLEANUP(freep) char *copy = in_dir(h, "copy");
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new();

    add(h, DISK_ROOT, "disk", "qcow2", 4 * MIB);
    assert_made(h);
    cancel_set(stop);
    CLEANUP(err_freep)
    struct err *e = server_disks_extract(&h->conf, disk, "qcow2", copy, "raw", stop);

    assert_true(err_is(e, ERR_CANCELLED));
    assert_false(is_there(h, "copy"));
    e = err_free(e);
    e = server_disks_extract(&h->conf, "/none", "qcow2", copy, "raw", NULL);
    assert_true(err_is(e, ERR_INTERNAL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_root_disk_lies_over_the_cached_image),
        TEST(a_flavor_without_a_size_takes_that_of_the_image),
        TEST(a_second_server_downloads_nothing_and_a_made_disk_stays),
        TEST(a_flat_disk_is_a_copy_that_has_grown),
        TEST(a_flat_disk_of_any_size_is_as_the_image),
        TEST(an_unconverted_image_is_read_as_what_it_is),
        TEST(a_flat_disk_is_raw_whatever_the_cache_has),
        TEST(a_raw_image_with_the_header_of_another_format_stays_raw),
        TEST(an_image_larger_than_the_disk_is_refused_cached_or_not),
        TEST(what_cannot_be_fetched_is_told_as_it_is),
        TEST(stores_that_we_do_not_have_are_refused_by_name),
        TEST(a_half_made_disk_of_a_crash_is_made_anew),
        TEST(space_is_taken_in_advance_if_asked_for),
        TEST(ephemeral_and_swap_disks_lie_over_the_cache_too),
        TEST(flat_ephemeral_and_swap_disks_hold_what_they_should),
        TEST(a_file_system_is_chosen_as_nova_does),
        TEST(a_file_system_that_nobody_knows_is_refused),
        TEST(a_kernel_and_its_ramdisk_come_through_the_cache),
        TEST(a_rescue_makes_its_own_files_and_loses_them_again),
        TEST(formats_that_nova_noted_are_kept),
        TEST(a_server_is_removed_with_what_earlier_removals_left),
        TEST(a_copy_has_no_backing_file),
        TEST(a_copy_that_is_stopped_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

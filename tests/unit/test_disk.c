/* link: driver_libvirt vif rpc_rest rpc_objects base */
#include "base/fs.h"
#include "base/proc.h"
#include "driver/libvirt/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define MIB  INT64_C(1048576)

/* libvirt: every disk has 10 GiB, of which 3 are used; "vdz" is gone. */
struct err *lv_block_info(struct lv_domain *domain, const char *target, struct lv_block_info *ret)
{
    assert_null(domain);
    if (str_eq(target, "vdz")) {
        return err_msg(ERR_LIBVIRT, "no such disk");
    }
    *ret = (struct lv_block_info){.capacity = UINT64_C(10) << 30, .allocation = UINT64_C(3) << 30};
    return NULL;
}

struct host {
    char dir[32];
    struct conf conf;
    char *guest; /* The server's directory. */
    const char *backing_format;
    const char *fetch_error;
    int n_fetched;
    char *fetched;
    int64_t fetched_size;
};

static int set_up(void **state)
{
    struct host *h = NEW(struct host);

    strcpy(h->dir, "/tmp/test_disk.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->conf.dflt.instances_path = h->dir;
    h->conf.image_cache.subdirectory_name = "_base";
    h->guest = disk_instance_dir(&h->conf, UUID);
    h->backing_format = "raw";
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;

    assert_null(fs_remove_all(&fs_real, h->dir));
    free(h->guest);
    free(h->fetched);
    free(h);
    return 0;
}

/* -- On the source ----------------------------------------------------------------------------- */

#define DISK(type, source, target, more)                                                           \
    "<disk type='" type "' device='disk'><driver name='qemu' type='qcow2'/>"                       \
    "<source " source "/><target dev='" target "' bus='virtio'/>" more "</disk>"

/* Parses a domain with these disks. */
static void guest_with(const char *disks, struct guest_info *ret)
{
    CLEANUP(freep)
    char *xml = str_printf("<domain><devices>%s</devices></domain>", disks);

    assert_null(guest_info_parse(xml, ret));
}

static void the_list_has_every_local_disk(void **state)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(strv_fini) struct strv volumes = {0};
    CLEANUP(jv_putp) struct json_object *info = NULL;

    (void)state;
    strv_add(&volumes, "volume-1");
    guest_with(DISK("file", "file='/i/disk'", "vda",
                    "<backingStore type='file'><format type='raw'/><source file='/i/_base/abc'/>"
                    "<backingStore/></backingStore>")
                   DISK("file", "file='/i/disk.eph0'", "vdb", "<backingStore/>")
                       DISK("block", "dev='/dev/sdx'", "vdc", "<serial>volume-1</serial>")
                           DISK("network", "name='rbd'", "vdd", "")
                               DISK("file", "file='/i/disk.config'", "sda", "<readonly/>")
                                   DISK("file", "file='/i/shared'", "vde", "<shareable/>"),
               &guest);
    assert_null(disk_info(NULL, &guest, &volumes, &info));
    CLEANUP(freep) char *text = jv_text(info);

    assert_string_equal(
        text, "[{\"type\":\"qcow2\",\"path\":\"/i/disk\",\"virt_disk_size\":10737418240,"
              "\"backing_file\":\"abc\",\"disk_size\":3221225472,"
              "\"over_committed_disk_size\":7516192768},"
              "{\"type\":\"qcow2\",\"path\":\"/i/disk.eph0\",\"virt_disk_size\":10737418240,"
              "\"backing_file\":\"\",\"disk_size\":3221225472,"
              "\"over_committed_disk_size\":7516192768}]");
    assert_int_equal(disk_info_over_committed(info), UINT64_C(14) << 30);
}

static void a_disk_that_libvirt_does_not_know_is_an_error(void **state)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    const struct strv none = {0};
    struct json_object *info = NULL;

    (void)state;
    guest_with(DISK("file", "file='/i/disk'", "vdz", ""), &guest);
    CLEANUP(err_freep) struct err *e = disk_info(NULL, &guest, &none, &info);

    assert_true(err_is(e, ERR_LIBVIRT));
    assert_null(info);
}

static void disks_to_copy_are_named_and_counted(void **state)
{
    struct host *h = *state;
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(strv_fini) struct strv targets = {0};
    CLEANUP(freep) char *large = str_printf("%s/large", h->dir);
    CLEANUP(freep) char *small = str_printf("%s/small", h->dir);
    const struct strv none = {0};
    uint64_t bytes = 0;

    assert_null(fs_write_atomic(&fs_real, small, "x", 1, 0644));
    assert_null(fs_write_atomic(&fs_real, large, "x", 1, 0644));
    assert_int_equal(truncate(large, 3072 * MIB), 0);
    CLEANUP(freep)
    char *disks =
        str_printf(DISK("file", "file='%s'", "vda", "") DISK("file", "file='%s'", "vdb", "")
                       DISK("file", "file='/none'", "sda", "<readonly/>"),
                   large, small);

    guest_with(disks, &guest);
    assert_null(disk_copy_targets(&guest, &none, &targets, &bytes));
    CLEANUP(freep) char *text = strv_join(&targets, " ");

    assert_string_equal(text, "vda vdb");
    assert_int_equal(bytes, UINT64_C(5) << 30);
    unlink(small);
    CLEANUP(strv_fini) struct strv again = {0};
    CLEANUP(err_freep) struct err *e = disk_copy_targets(&guest, &none, &again, &bytes);

    assert_true(err_is(e, ERR_NOT_FOUND));
}

/* -- On the destination ------------------------------------------------------------------------ */

static struct err *fetch(const char *backing_path, int64_t size, void *arg, const char **ret_format)
{
    struct host *h = arg;

    h->n_fetched++;
    str_set(&h->fetched, backing_path);
    h->fetched_size = size;
    if (h->fetch_error) {
        return err_msg(ERR_IMAGE_NOT_FOUND, "%s", h->fetch_error);
    }
    CLEANUP(freep) char *dir = str_printf("%s/_base", h->dir);
    CLEANUP(freep) char *text = str_printf("%lld", (long long)MIB);
    const char *argv[] = {"qemu-img",        "create",     "-q", "-f",
                          h->backing_format, backing_path, text, NULL};

    TRY(fs_mkdir_all(&fs_real, dir, 0755));
    *ret_format = h->backing_format;
    return proc_run(argv, 10000, NULL);
}

static struct err *prepare(struct host *h, const char *list)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;

    assert_null(jv_parse(list, strlen(list), &info));
    return disk_prepare(&h->conf, UUID, info, fetch, h);
}

static void prepared(struct host *h, const char *list)
{
    CLEANUP(err_freep) struct err *e = prepare(h, list);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        fail_msg("%s", text);
    }
}

/* What qemu-img says of a file in the server's directory. */
static struct json_object *info_of(struct host *h, const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", h->guest, name);
    CLEANUP(freep) char *text = NULL;
    const char *argv[] = {"qemu-img", "info", "--output=json", "-f", "qcow2", path, NULL};
    struct json_object *info = NULL;

    assert_null(proc_run(argv, 10000, &text));
    assert_null(jv_parse(text, strlen(text), &info));
    return info;
}

static void disks_are_made_as_the_source_says(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *raw = str_printf("%s/disk.swap", h->guest);
    CLEANUP(freep) char *formats = str_printf("%s/disk.info", h->guest);
    CLEANUP(freep) char *text = NULL;
    struct stat st;

    prepared(h, "[{\"type\": \"qcow2\", \"path\": \"/elsewhere/x/disk\", "
                "\"virt_disk_size\": 5242880, \"backing_file\": \"\"},"
                "{\"type\": \"raw\", \"path\": \"/elsewhere/x/disk.swap\", "
                "\"virt_disk_size\": 2097152}]");
    CLEANUP(jv_putp) struct json_object *info = info_of(h, "disk");

    assert_int_equal(json_object_get_int64(jv_get(info, "virtual-size")), 5 * MIB);
    assert_null(jv_get(info, "backing-filename"));
    assert_int_equal(stat(raw, &st), 0);
    assert_int_equal(st.st_size, 2 * MIB);
    assert_int_equal(h->n_fetched, 0);
    assert_null(fs_read(&fs_real, formats, &text, NULL));
    CLEANUP(freep)
    char *expected =
        str_printf("{\"%s/disk\":\"qcow2\",\"%s/disk.swap\":\"raw\"}", h->guest, h->guest);

    assert_string_equal(text, expected);
}

static void a_disk_lies_over_its_backing_file(void **state)
{
    struct host *h = *state;
    static const char *const formats[] = {"raw", "qcow2"};
    CLEANUP(freep) char *backing = str_printf("%s/_base/abc", h->dir);

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        h->backing_format = formats[i];
        prepared(h, "[{\"type\": \"qcow2\", \"path\": \"/x/disk\", \"virt_disk_size\": 5242880, "
                    "\"backing_file\": \"abc\"}]");
        assert_string_equal(h->fetched, backing);
        assert_int_equal(h->fetched_size, 5 * MIB);
        CLEANUP(jv_putp) struct json_object *info = info_of(h, "disk");

        assert_string_equal(json_object_get_string(jv_get(info, "backing-filename")), backing);
        assert_string_equal(json_object_get_string(jv_get(info, "backing-filename-format")),
                            formats[i]);
        assert_int_equal(json_object_get_int64(jv_get(info, "virtual-size")), 5 * MIB);
        assert_null(disk_remove(&h->conf, UUID));
    }
}

static void a_directory_that_is_there_is_left_alone(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *precious = str_printf("%s/disk", h->guest);

    assert_null(fs_mkdir_all(&fs_real, h->guest, 0755));
    assert_null(fs_write_atomic(&fs_real, precious, "x", 1, 0644));
    CLEANUP(err_freep) struct err *e = prepare(h, "[]");

    assert_true(err_is(e, ERR_DESTINATION_DISK_EXISTS));
    assert_string_equal(err_get(e, "path"), h->guest);
    assert_int_equal(access(precious, F_OK), 0);
}

static void nothing_is_left_of_disks_that_could_not_be_made(void **state)
{
    struct host *h = *state;

    h->fetch_error = "gone";
    CLEANUP(err_freep)
    struct err *e =
        prepare(h, "[{\"type\": \"raw\", \"path\": \"/x/one\", \"virt_disk_size\": 512},"
                   "{\"type\": \"qcow2\", \"path\": \"/x/two\", \"virt_disk_size\": 512, "
                   "\"backing_file\": \"abc\"}]");

    assert_true(err_is(e, ERR_IMAGE_NOT_FOUND));
    assert_int_equal(access(h->guest, F_OK), -1);
}

static void a_list_that_makes_no_sense_is_refused(void **state)
{
    struct host *h = *state;
    static const char *const lists[] = {
        "{}",
        "null",
        "[7]",
        "[{}]",
        "[{\"type\": \"qcow2\", \"path\": \"/x/disk\"}]",
        "[{\"type\": \"vmdk\", \"path\": \"/x/disk\", \"virt_disk_size\": 1}]",
        "[{\"type\": \"raw\", \"path\": \"/x/\", \"virt_disk_size\": 1}]",
        "[{\"type\": \"raw\", \"path\": \"/x/.\", \"virt_disk_size\": 1}]",
        "[{\"type\": \"raw\", \"path\": \"/x/..\", \"virt_disk_size\": 1}]",
        "[{\"type\": \"raw\", \"path\": \"/x/disk\", \"virt_disk_size\": -1}]",
        "[{\"type\": \"raw\", \"path\": \"/x/disk\", \"virt_disk_size\": \"1\"}]",
        "[{\"type\": \"raw\", \"path\": \"/x/disk\", \"virt_disk_size\": 512},"
        " {\"type\": \"raw\", \"path\": \"/y/disk\", \"virt_disk_size\": 512}]",
        "[{\"type\": \"raw\", \"path\": \"/x/disk\", \"virt_disk_size\": 1, "
        "\"backing_file\": \"../../etc/shadow\"}]",
        "[{\"type\": \"qcow2\", \"path\": \"/x/disk\", \"virt_disk_size\": 1, "
        "\"backing_file\": \"..\"}]",
        "[{\"type\": \"qcow2\", \"path\": \"/x/disk\", \"virt_disk_size\": 1, "
        "\"backing_file\": \".\"}]",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        CLEANUP(err_freep) struct err *e = prepare(h, lists[i]);

        if (!e || h->n_fetched) {
            fail_msg("taken: %s", lists[i]);
        }
        assert_int_equal(access(h->guest, F_OK), -1);
    }
}

static void only_directories_of_servers_are_removed(void **state)
{
    struct host *h = *state;
    static const char *const names[] = {"", ".", "..", "_base", UUID "/..", UUID "x"};

    assert_null(fs_mkdir_all(&fs_real, h->guest, 0755));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(err_freep) struct err *e = disk_remove(&h->conf, names[i]);

        assert_non_null(e);
    }
    assert_int_equal(access(h->guest, F_OK), 0);
    assert_null(disk_remove(&h->conf, UUID));
    assert_int_equal(access(h->guest, F_OK), -1);
    assert_null(disk_remove(&h->conf, UUID));
}

/* -- The probe --------------------------------------------------------------------------------- */

static void a_probe_is_made_seen_and_removed(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *name = NULL;

    assert_null(disk_probe_make(&h->conf, &name));
    assert_null(strchr(name, '/'));
    assert_true(disk_probe_exists(&h->conf, name));
    disk_probe_remove(&h->conf, name);
    assert_false(disk_probe_exists(&h->conf, name));
    disk_probe_remove(&h->conf, name);
    h->conf.dflt.instances_path = "/nowhere";
    CLEANUP(freep) char *none = NULL;
    CLEANUP(err_freep) struct err *e = disk_probe_make(&h->conf, &none);

    assert_non_null(e);
}

static void a_probe_is_a_name_and_not_a_path(void **state)
{
    struct host *h = *state;
    CLEANUP(freep) char *inside = str_printf("%s/file", h->guest);

    assert_null(fs_mkdir_all(&fs_real, h->guest, 0755));
    assert_null(fs_write_atomic(&fs_real, inside, "x", 1, 0644));
    assert_false(disk_probe_exists(&h->conf, UUID "/file"));
    assert_false(disk_probe_exists(&h->conf, ".."));
    assert_false(disk_probe_exists(&h->conf, ""));
    assert_false(disk_probe_exists(&h->conf, NULL));
    disk_probe_remove(&h->conf, UUID "/file");
    assert_int_equal(access(inside, F_OK), 0);
}

static void space_is_told_in_gib(void **state)
{
    struct host *h = *state;
    int64_t total = -1, available = -1, used = -1;

    assert_null(disk_space(&h->conf, &total, &available, &used));
    assert_true(total > 0 && available >= 0 && used >= 0 && available <= total && used <= total);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_list_has_every_local_disk),
        TEST(a_disk_that_libvirt_does_not_know_is_an_error),
        TEST(disks_to_copy_are_named_and_counted),
        TEST(disks_are_made_as_the_source_says),
        TEST(a_disk_lies_over_its_backing_file),
        TEST(a_directory_that_is_there_is_left_alone),
        TEST(nothing_is_left_of_disks_that_could_not_be_made),
        TEST(a_list_that_makes_no_sense_is_refused),
        TEST(only_directories_of_servers_are_removed),
        TEST(a_probe_is_made_seen_and_removed),
        TEST(a_probe_is_a_name_and_not_a_path),
        TEST(space_is_told_in_gib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

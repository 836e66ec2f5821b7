/* link: driver_libvirt lv_fake vif pci rpc_rest rpc_amqp rpc_objects base */
#include "base/fs.h"
#include "base/proc.h"
#include "driver/libvirt/configdrive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A directory, and a configuration with one format. */
struct world {
    char dir[32];
    char *image;
    struct conf_holder *holder;
    const struct conf *conf;
    struct configdrive_files files;
};

static void world_init(struct world *w, const char *options)
{
    CLEANUP(freep) char *text = str_printf("[DEFAULT]\n%s\n", options);

    memset(w, 0, sizeof *w);
    strcpy(w->dir, "/tmp/test_configdrive.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->image = str_printf("%s/disk.config", w->dir);
    assert_null(conf_from_text(text, &w->holder));
    w->conf = conf_get(w->holder);
}

static void world_fini(struct world *w)
{
    configdrive_files_fini(&w->files);
    conf_putp(&w->conf);
    conf_holder_freep(&w->holder);
    free(w->image);
    assert_null(fs_remove_all(&fs_real, w->dir));
}

static void add(struct world *w, const char *path, const char *text)
{
    configdrive_add(&w->files, path, text, strlen(text));
}

static void usual_files(struct world *w)
{
    add(w, "openstack/latest/meta_data.json", "{\"uuid\": \"u\"}");
    add(w, "openstack/content/0000", "a\nb\n");
    add(w, "ec2/2009-04-04/meta-data.json", "{}");
    configdrive_add(&w->files, "ec2/latest/user-data", "\0\xff\n\x1a", 4);
}

/* Nothing but the image is left, or nothing at all. */
static void assert_left(const struct world *w, const char *name)
{
    CLEANUP(strv_fini) struct strv names = {0};

    assert_null(fs_list(&fs_real, w->dir, &names));
    assert_int_equal(names.n, name ? 1 : 0);
    if (name) {
        assert_string_equal(names.items[0], name);
    }
}

static void make(struct world *w)
{
    CLEANUP(err_freep) struct err *e = configdrive_make(w->conf, &w->files, w->image);

    if (e) {
        print_error("%s\n", err_message(e));
    }
    assert_null(e);
    assert_left(w, "disk.config");
}

static char *run(const char *const *argv)
{
    char *out = NULL;
    CLEANUP(err_freep) struct err *e = proc_run(argv, 60000, &out);

    if (e) {
        print_error("%s\n", err_message(e));
    }
    assert_null(e);
    return out;
}

static char *read_iso(const struct world *w, const char *path)
{
    return run((const char *const[]){"isoinfo", "-J", "-i", w->image, "-x", path, NULL});
}

/* The file's bytes, by way of a file. */
static void assert_vfat_file(const struct world *w, const char *path, const char *data, size_t len)
{
    CLEANUP(freep) char *in = str_printf("::/%s", path);
    CLEANUP(freep) char *out = str_printf("%s/out", w->dir);
    CLEANUP(freep)
    char *said = run((const char *const[]){"mcopy", "-n", "-i", w->image, in, out, NULL});

    assert_string_equal(said, "");
    CLEANUP(freep) char *have = NULL;
    size_t have_len = 0;

    assert_null(fs_read(&fs_real, out, &have, &have_len));
    assert_int_equal(have_len, len);
    assert_memory_equal(have, data, len);
    assert_int_equal(unlink(out), 0);
}

static void an_iso_image_has_the_label_and_the_files(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, "config_drive_format = iso9660");
    usual_files(&w);
    make(&w);

    CLEANUP(freep)
    char *about = run((const char *const[]){"isoinfo", "-d", "-i", w.image, NULL});
    CLEANUP(freep) char *text = read_iso(&w, "/openstack/latest/meta_data.json");
    CLEANUP(freep) char *content = read_iso(&w, "/openstack/content/0000");

    assert_non_null(strstr(about, "Volume id: config-2\n"));
    assert_non_null(strstr(about, "Publisher id: novashim "));
    assert_non_null(strstr(about, "Joliet with UCS level 3 found"));
    assert_non_null(strstr(about, "Rock Ridge signatures version 1 found"));
    assert_string_equal(text, "{\"uuid\": \"u\"}");
    assert_string_equal(content, "a\nb\n");
    world_fini(&w);
}

static void a_vfat_image_is_of_64_mib_and_has_the_label_and_the_files(void **state)
{
    struct world w;
    struct stat st;

    (void)state;
    world_init(&w, "config_drive_format = vfat");
    usual_files(&w);
    make(&w);

    CLEANUP(freep)
    char *label = run((const char *const[]){"mlabel", "-s", "-i", w.image, "::", NULL});

    assert_int_equal(stat(w.image, &st), 0);
    assert_int_equal(st.st_size, 64 * 1024 * 1024);
    assert_non_null(strstr(label, "config-2"));
    assert_vfat_file(&w, "openstack/latest/meta_data.json", "{\"uuid\": \"u\"}", 13);
    assert_vfat_file(&w, "ec2/latest/user-data", "\0\xff\n\x1a", 4);
    world_fini(&w);
}

static void an_old_image_and_what_a_crash_left_are_replaced(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, "config_drive_format = iso9660");
    usual_files(&w);
    CLEANUP(freep) char *left = str_printf("%s.making/tree/openstack/latest/", w.image);

    assert_null(fs_mkdir_all(&fs_real, left, 0700));
    assert_null(fs_write_atomic(&fs_real, w.image, "old", 3, 0644));
    make(&w);
    CLEANUP(freep) char *text = read_iso(&w, "/ec2/2009-04-04/meta-data.json");

    assert_string_equal(text, "{}");
    world_fini(&w);
}

static void assert_refused(struct world *w, enum err_kind kind, const char *part)
{
    CLEANUP(err_freep) struct err *e = configdrive_make(w->conf, &w->files, w->image);

    assert_true(err_is(e, kind));
    assert_non_null(strstr(err_message(e), part));
    assert_left(w, NULL);
}

static void paths_that_lead_out_of_the_drive_are_refused(void **state)
{
    static const char *const bad[] = {"../evil", "/etc/passwd", "a/../../evil", "a//b", "a/./b",
                                      "",        "a/"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct world w;

        world_init(&w, "config_drive_format = iso9660");
        add(&w, bad[i], "x");
        assert_refused(&w, ERR_INTERNAL, "is no path of a config drive");
        world_fini(&w);
    }
}

static void a_program_that_fails_leaves_nothing_and_is_named(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, "mkisofs_cmd = false");
    usual_files(&w);
    assert_refused(&w, ERR_INTERNAL, "false failed with status 1");
    world_fini(&w);
    world_init(&w, "mkisofs_cmd = /nonexistent/mkisofs");
    usual_files(&w);
    assert_refused(&w, ERR_NOT_FOUND, "/nonexistent/mkisofs");
    world_fini(&w);
}

static void a_vfat_image_that_is_too_small_is_an_error(void **state)
{
    struct world w;
    size_t len = 65 * 1024 * 1024;
    CLEANUP(freep) char *big = mem_alloc(len);

    (void)state;
    world_init(&w, "config_drive_format = vfat");
    configdrive_add(&w.files, "openstack/latest/vendor_data.json", big, len);
    assert_refused(&w, ERR_INTERNAL, "mcopy failed");
    world_fini(&w);
}

static void a_format_that_nobody_knows_is_refused(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, "");
    CLEANUP(freep) struct conf *other = mem_dup(w.conf, sizeof *other);

    other->dflt.config_drive_format = "udf";
    CLEANUP(err_freep) struct err *e = configdrive_make(other, &w.files, w.image);

    assert_true(err_is(e, ERR_CONFIGDRIVE_UNKNOWN_FORMAT));
    assert_string_equal(err_get(e, "format"), "udf");
    world_fini(&w);
}

static bool is_required(const char *options, const char *asked, const char *launched_at,
                        const char *image)
{
    struct world w;
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    world_init(&w, options);
    instance_set_config_drive(inst, asked);
    instance_set_launched_at(inst, launched_at);
    instance_clear_system_metadata(inst);
    if (image) {
        instance_system_metadata_put(inst, "image_img_config_drive", image);
    }
    bool is = configdrive_is_required(w.conf, inst);

    world_fini(&w);
    return is;
}

static void a_drive_is_made_when_user_site_or_image_want_it(void **state)
{
    (void)state;
    assert_false(is_required("", "", NULL, NULL));
    assert_false(is_required("", NULL, NULL, "optional"));
    assert_true(is_required("", "True", NULL, NULL));
    assert_true(is_required("", "", "2026-11-24T10:00:00Z", "mandatory"));
    assert_true(is_required("force_config_drive = true", "", NULL, NULL));
    assert_false(is_required("force_config_drive = true", "", "2026-11-24T10:00:00Z", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_iso_image_has_the_label_and_the_files),
        cmocka_unit_test(a_vfat_image_is_of_64_mib_and_has_the_label_and_the_files),
        cmocka_unit_test(an_old_image_and_what_a_crash_left_are_replaced),
        cmocka_unit_test(paths_that_lead_out_of_the_drive_are_refused),
        cmocka_unit_test(a_program_that_fails_leaves_nothing_and_is_named),
        cmocka_unit_test(a_vfat_image_that_is_too_small_is_an_error),
        cmocka_unit_test(a_format_that_nobody_knows_is_refused),
        cmocka_unit_test(a_drive_is_made_when_user_site_or_image_want_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

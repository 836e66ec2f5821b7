/* link: driver_libvirt vif pci rpc_rest rpc_objects base */
#include "base/fs.h"
#include "base/jv.h"
#include "base/proc.h"
#include "driver/libvirt/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "c3d9b1f0-8f3c-4f0e-9a55-3c7a1f2b4d11"
#define MIB  INT64_C(1048576)

/* -- A libvirt with one guest, in place of lv.c -------------------------------------------------
 */

static struct {
    bool exists;
    enum lv_state state;
    bool is_saved, is_frozen, has_job, job_vanishes;
    unsigned polls_until_ready;
    char *xml;
    struct strv calls;
    const char *fails; /* The call that fails. */
    struct cancel *cancels;
    const char *cancels_at;
} guest;

static struct err *called(const char *what)
{
    strv_add(&guest.calls, what);
    if (str_eq(guest.cancels_at, what)) {
        cancel_set(guest.cancels);
    }
    return str_eq(guest.fails, what) ? err_msg(ERR_LIBVIRT, "%s fails", what) : NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    (void)c;
    assert_string_equal(uuid, UUID);
    if (!guest.exists) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = (struct lv_domain *)&guest;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    (void)d;
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    (void)d;
    (void)ret_reason;
    *ret = guest.state;
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    (void)d;
    (void)is_migratable;
    *ret = str_dup(guest.xml);
    return NULL;
}

struct err *lv_domain_managed_save(struct lv_domain *d)
{
    (void)d;
    TRY(called("save"));
    guest.is_saved = true;
    guest.state = LV_SHUTOFF;
    return NULL;
}

struct err *lv_domain_has_managed_save(struct lv_domain *d, bool *ret)
{
    (void)d;
    *ret = guest.is_saved;
    return NULL;
}

struct err *lv_domain_start(struct lv_domain *d, bool is_paused)
{
    (void)d;
    TRY(called("start"));
    guest.is_saved = false;
    guest.state = is_paused ? LV_PAUSED : LV_RUNNING;
    return NULL;
}

/* What the guest has written since its disk was made: a page of sevens. */
static void write_sevens(const char *path, const char *format)
{
    const char *argv[] = {"qemu-io", "-f", format, "-c", "write -q -P 7 4096 4096", path, NULL};

    assert_null(proc_run(argv, 30000, NULL));
}

struct err *lv_block_copy(struct lv_domain *d, const char *target, const char *dest,
                          const char *format, bool is_shallow)
{
    (void)d;
    assert_string_equal(target, "vda");
    assert_string_equal(format, "qcow2");
    assert_true(is_shallow);
    assert_false(guest.has_job);
    TRY(called("copy"));
    write_sevens(dest, "qcow2");
    guest.has_job = true;
    return NULL;
}

struct err *lv_block_job(struct lv_domain *d, const char *target, struct lv_block_job *ret)
{
    (void)d;
    (void)target;
    *ret = (struct lv_block_job){0};
    if (!guest.has_job) {
        return NULL;
    }
    TRY(called("look"));
    *ret = (struct lv_block_job){.is_there = !guest.job_vanishes,
                                 .is_ready = guest.polls_until_ready == 0};
    guest.polls_until_ready -= guest.polls_until_ready > 0;
    return NULL;
}

struct err *lv_block_job_abort(struct lv_domain *d, const char *target)
{
    (void)d;
    assert_string_equal(target, "vda");
    TRY(called("abort"));
    guest.has_job = false;
    return NULL;
}

struct err *lv_domain_freeze(struct lv_domain *d)
{
    (void)d;
    TRY(called("freeze"));
    guest.is_frozen = true;
    return NULL;
}

struct err *lv_domain_thaw(struct lv_domain *d)
{
    (void)d;
    TRY(called("thaw"));
    guest.is_frozen = false;
    return NULL;
}

struct err *lv_block_info(struct lv_domain *d, const char *target, struct lv_block_info *ret)
{
    (void)d;
    (void)target;
    (void)ret;
    return err_msg(ERR_INTERNAL, "nobody asks for sizes here");
}

/* -- A host ------------------------------------------------------------------------------------ */

struct host {
    char dir[40];
    struct conf conf;
    struct snapshot_env env;
    char *snapshots, *disk;
};

static void run(const char *const *argv)
{
    CLEANUP(err_freep) struct err *e = proc_run(argv, 30000, NULL);

    if (e) {
        fail_msg("%s", err_message(e));
    }
}

static void describe(struct host *h, const char *type, const char *format)
{
    free(guest.xml);
    guest.xml = str_printf("<domain type='kvm'><name>x</name><uuid>%s</uuid><memory>1</memory>"
                           "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"
                           "<devices><disk type='%s' device='disk'><driver type='%s'/>"
                           "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
                           UUID, type, format, h->disk);
}

/* The guest's disk: 4 MiB over a base of ones, raw below qcow2. */
static void make_qcow2(struct host *h)
{
    CLEANUP(freep) char *base = str_printf("%s/base", h->dir);
    const char *truncate[] = {"truncate", "-s", "4M", base, NULL};
    const char *fill[] = {"qemu-io", "-f", "raw", "-c", "write -q -P 1 0 4096", base, NULL};
    const char *create[] = {"qemu-img", "create", "-q",  "-f",    "qcow2", "-b",
                            base,       "-F",     "raw", h->disk, NULL};

    run(truncate);
    run(fill);
    run(create);
    describe(h, "file", "qcow2");
}

static int set_up(void **state)
{
    struct host *h = NEW(struct host);

    strcpy(h->dir, "/tmp/test_snapshot.XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    h->snapshots = str_printf("%s/snapshots", h->dir);
    h->disk = str_printf("%s/disk", h->dir);
    h->conf.dflt.host = "host-a";
    h->conf.libvirt.snapshots_directory = h->snapshots;
    h->env = (struct snapshot_env){.conf = &h->conf};
    memset(&guest, 0, sizeof(guest));
    guest.exists = true;
    guest.state = LV_RUNNING;
    make_qcow2(h);
    *state = h;
    return 0;
}

static int tear_down(void **state)
{
    struct host *h = *state;

    assert_null(fs_remove_all(&fs_real, h->dir));
    strv_fini(&guest.calls);
    free(guest.xml);
    free(h->snapshots);
    free(h->disk);
    free(h);
    return 0;
}

static struct err *take(struct host *h, enum snapshot_freeze freeze, struct snapshot_file *ret)
{
    CLEANUP(snapshot_source_fini) struct snapshot_source source = {0};

    TRY(snapshot_look(&h->env, UUID, &source));
    return snapshot_take(&h->env, &source, freeze, ret);
}

static void assert_calls(const char *expected)
{
    CLEANUP(freep) char *got = strv_join(&guest.calls, " ");

    assert_string_equal(got, expected);
}

static size_t n_leftovers(struct host *h)
{
    CLEANUP(strv_fini) struct strv names = {0};

    assert_null(fs_list(&fs_real, h->snapshots, &names));
    return names.n;
}

static unsigned char byte_at(const char *path, long offset)
{
    FILE *f = fopen(path, "rb");
    unsigned char byte;

    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, f), 1);
    fclose(f);
    return byte;
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

/* -- Live ----------------------------------------------------------------------------------------
 */

static void a_live_snapshot_is_the_disk_without_its_base(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};
    struct stat st;

    guest.polls_until_ready = 2;
    h->conf.libvirt.snapshot_image_format = "raw";
    assert_null(take(h, SNAPSHOT_FREEZE_NONE, &file));
    assert_calls("copy look look look abort");
    assert_int_equal(stat(file.path, &st), 0);
    assert_int_equal(st.st_size, 4 * MIB);
    assert_int_equal(byte_at(file.path, 0), 1);
    assert_int_equal(byte_at(file.path, 4096), 7);
    assert_int_equal(byte_at(file.path, 8192), 0);
    CLEANUP(freep) char *delta = str_printf("%s.delta", file.path);

    assert_int_equal(access(delta, F_OK), -1);
    assert_int_equal(stat(file.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0701);
    assert_int_equal(guest.state, LV_RUNNING);
    snapshot_file_fini(&file);
    assert_int_equal(n_leftovers(h), 0);
}

static void the_format_is_the_disks_unless_the_site_says_another(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};
    CLEANUP(snapshot_source_fini) struct snapshot_source source = {0};

    assert_null(snapshot_look(&h->env, UUID, &source));
    assert_string_equal(source.format, "qcow2");
    assert_null(snapshot_take(&h->env, &source, SNAPSHOT_FREEZE_NONE, &file));
    CLEANUP(jv_putp) struct json_object *info = qemu_info(file.path, "qcow2");

    assert_null(jv_get(info, "backing-filename"));
    snapshot_source_fini(&source);
    h->conf.libvirt.snapshot_image_format = "vmdk";
    assert_null(snapshot_look(&h->env, UUID, &source));
    assert_string_equal(source.format, "vmdk");
}

static void a_raw_disk_is_copied_whole(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};
    const char *truncate[] = {"truncate", "-s", "3M", h->disk, NULL};
    struct stat st;

    assert_int_equal(unlink(h->disk), 0);
    run(truncate);
    describe(h, "file", "raw");
    assert_null(take(h, SNAPSHOT_FREEZE_NONE, &file));
    assert_int_equal(stat(file.path, &st), 0);
    assert_int_equal(st.st_size, 3 * MIB);
    assert_int_equal(byte_at(file.path, 4096), 7);
}

static void an_agent_freezes_the_guest_for_the_moment_of_the_cut(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    assert_null(take(h, SNAPSHOT_FREEZE_TRY, &file));
    assert_calls("copy look freeze abort thaw");
}

static void an_agent_that_is_silent_matters_only_if_it_must_not(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    guest.fails = "freeze";
    assert_null(take(h, SNAPSHOT_FREEZE_TRY, &file));
    snapshot_file_fini(&file);
    CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_MUST, &file);

    assert_true(err_is(e, ERR_LIBVIRT));
    assert_false(guest.has_job);
    assert_int_equal(n_leftovers(h), 0);
}

static void a_failure_anywhere_leaves_the_guest_as_it_was(void **state)
{
    static const char *const calls[] = {"copy", "look", "freeze", "abort", "thaw"};
    struct host *h = *state;

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

        guest.fails = calls[i];
        CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_MUST, &file);

        assert_true(err_is(e, ERR_LIBVIRT));
        assert_true(guest.is_frozen == str_eq(calls[i], "thaw"));
        assert_true(guest.has_job == str_eq(calls[i], "abort"));
        assert_int_equal(n_leftovers(h), 0);
        assert_null(file.path);
        guest.has_job = guest.is_frozen = false;
    }
    assert_int_equal(guest.state, LV_RUNNING);
}

static void a_copy_that_ends_by_itself_is_an_error(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    guest.job_vanishes = true;
    CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_TRY, &file);

    assert_non_null(strstr(err_message(e), "ended by itself"));
    assert_calls("copy look");
    assert_int_equal(n_leftovers(h), 0);
}

static void a_snapshot_that_is_stopped_ends_its_copy(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    h->env.stop = guest.cancels = cancel_new();
    guest.cancels_at = "look";
    guest.polls_until_ready = 1000;
    CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_TRY, &file);

    assert_true(err_is(e, ERR_CANCELLED));
    assert_calls("copy look abort");
    assert_int_equal(n_leftovers(h), 0);
    h->env.stop = cancel_free(h->env.stop);
}

static void a_copy_that_was_left_is_ended_first(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    guest.has_job = true;
    assert_null(take(h, SNAPSHOT_FREEZE_NONE, &file));
    assert_calls("look abort copy look abort");
}

/* -- Cold ----------------------------------------------------------------------------------------
 */

static void a_guest_that_is_off_is_only_copied(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    guest.state = LV_SHUTOFF;
    h->conf.libvirt.snapshot_image_format = "raw";
    write_sevens(h->disk, "qcow2");
    assert_null(take(h, SNAPSHOT_FREEZE_MUST, &file));
    assert_calls("");
    assert_int_equal(byte_at(file.path, 0), 1);
    assert_int_equal(byte_at(file.path, 4096), 7);
}

static void where_a_site_wants_it_the_guest_is_suspended_meanwhile(void **state)
{
    static const enum lv_state states[] = {LV_RUNNING, LV_PAUSED};
    struct host *h = *state;

    h->conf.workarounds.disable_libvirt_livesnapshot = true;
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

        guest.state = states[i];
        assert_null(take(h, SNAPSHOT_FREEZE_MUST, &file));
        assert_int_equal(guest.state, states[i]);
        assert_false(guest.is_saved);
    }
    assert_calls("save start save start");
}

static void a_cold_snapshot_that_fails_lets_the_guest_go_on(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    h->conf.workarounds.disable_libvirt_livesnapshot = true;
    guest.fails = "save";
    CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_NONE, &file);

    assert_true(err_is(e, ERR_LIBVIRT));
    guest.fails = NULL;
    h->conf.libvirt.snapshot_image_format = "no-such-format";
    err_freep(&e);
    e = take(h, SNAPSHOT_FREEZE_NONE, &file);
    assert_true(err_is(e, ERR_INTERNAL));
    assert_int_equal(guest.state, LV_RUNNING);
    assert_calls("save save start");
    assert_int_equal(n_leftovers(h), 0);
}

/* -- What cannot be copied ------------------------------------------------------------------------
 */

static void a_guest_that_is_not_there_or_has_no_file_is_refused(void **state)
{
    struct host *h = *state;
    CLEANUP(snapshot_file_fini) struct snapshot_file file = {0};

    describe(h, "network", "raw");
    CLEANUP(err_freep) struct err *e = take(h, SNAPSHOT_FREEZE_NONE, &file);

    assert_true(err_is(e, ERR_NOT_IMPLEMENTED));
    guest.exists = false;
    err_freep(&e);
    e = take(h, SNAPSHOT_FREEZE_NONE, &file);
    assert_true(err_is(e, ERR_INSTANCE_NOT_RUNNING));
}

/* -- After a restart ------------------------------------------------------------------------------
 */

static void a_copy_that_a_restart_cut_off_is_ended_and_the_guest_thawed(void **state)
{
    struct host *h = *state;

    assert_null(snapshot_settle(&h->env, UUID, LV_RUNNING));
    assert_calls("");
    guest.has_job = guest.is_frozen = true;
    guest.fails = "none";
    assert_null(snapshot_settle(&h->env, UUID, LV_RUNNING));
    assert_calls("look abort thaw");
    assert_false(guest.is_frozen);
}

static void a_guest_that_a_restart_left_suspended_goes_on(void **state)
{
    struct host *h = *state;

    guest.state = LV_SHUTOFF;
    assert_null(snapshot_settle(&h->env, UUID, LV_RUNNING)); /* It was off. */
    guest.is_saved = true;
    assert_null(snapshot_settle(&h->env, UUID, LV_SHUTOFF)); /* Its user suspended it. */
    assert_calls("");
    assert_null(snapshot_settle(&h->env, UUID, LV_PAUSED));
    assert_int_equal(guest.state, LV_PAUSED);
}

static void only_leftovers_of_this_host_are_removed(void **state)
{
    static const char *const names[] = {"novashim-host-a.abcdef", "novashim-host-a.b.abcde",
                                        "novashim-host-b.abcdef", "novashim-host-a.abcdefg",
                                        "tmpabcdef"};
    struct host *h = *state;
    CLEANUP(freep) char *ours = str_printf("%s/%s", h->snapshots, names[0]);

    snapshot_sweep(&h->conf); /* No directory yet. */
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/%s", h->snapshots, names[i]);
        CLEANUP(freep) char *file = str_printf("%s/x", dir);

        assert_null(fs_mkdir_all(&fs_real, dir, 0755));
        assert_null(fs_write_atomic(&fs_real, file, "x", 1, 0644));
    }
    snapshot_sweep(&h->conf);
    assert_int_equal(n_leftovers(h), ARRAY_SIZE(names) - 1);
    assert_int_equal(access(ours, F_OK), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_live_snapshot_is_the_disk_without_its_base),
        TEST(the_format_is_the_disks_unless_the_site_says_another),
        TEST(a_raw_disk_is_copied_whole),
        TEST(an_agent_freezes_the_guest_for_the_moment_of_the_cut),
        TEST(an_agent_that_is_silent_matters_only_if_it_must_not),
        TEST(a_failure_anywhere_leaves_the_guest_as_it_was),
        TEST(a_copy_that_ends_by_itself_is_an_error),
        TEST(a_snapshot_that_is_stopped_ends_its_copy),
        TEST(a_copy_that_was_left_is_ended_first),
        TEST(a_guest_that_is_off_is_only_copied),
        TEST(where_a_site_wants_it_the_guest_is_suspended_meanwhile),
        TEST(a_cold_snapshot_that_fails_lets_the_guest_go_on),
        TEST(a_guest_that_is_not_there_or_has_no_file_is_refused),
        TEST(a_copy_that_a_restart_cut_off_is_ended_and_the_guest_thawed),
        TEST(a_guest_that_a_restart_left_suspended_goes_on),
        TEST(only_leftovers_of_this_host_are_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

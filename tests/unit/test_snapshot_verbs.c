/* link: driver_compute driver_libvirt vif pci rpc_rest rpc_amqp rpc_objects base */
#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"
#include "driver/compute/snapshot.h"
#include "driver/libvirt/imagecache.h"
#include "driver/libvirt/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UUID  "c3d9b1f0-8f3c-4f0e-9a55-3c7a1f2b4d11"
#define IMAGE "9d2cb3a1-9d43-4a3e-9ee3-9ae9e6d5d3f3"

/* -- Everything around the verbs: what they do is written down, in order -------------------------
 */

static struct {
    struct strv log;
    const char *fails; /* The line at which this happens: */
    enum err_kind kind;
    bool is_live, has_agent, must_freeze;
    const char *image_status;
    char *dir;
    struct json_object *members;
    struct json_object *backups;
} world;

static struct err *happens(const char *fmt, ...) PRINTF(1, 2) MUST_CHECK;
static struct err *happens(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    strv_add_take(&world.log, str_vprintf(fmt, ap));
    va_end(ap);
    const char *line = world.log.items[world.log.n - 1];

    if (!world.fails || !str_eq(line, world.fails)) {
        return NULL;
    }
    return err_new(world.kind, "instance_id", UUID, "image_id", IMAGE, "reason", "r",
                   "instance_uuid", UUID, "expected", "e", "actual", "a", NULL);
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    const char *task = instance_task_state(inst);

    (void)c;
    (void)ctx;
    return happens("save %s%s%s", task ? task : "none", expected ? " if " : "",
                   expected ? expected[0] : "");
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    (void)inst;
    (void)attrs;
    return NULL;
}

struct err *image_meta_of_instance(const struct instance *inst, struct image_meta *ret)
{
    (void)inst;
    *ret = (struct image_meta){.disk_format = str_dup("raw"), .container_format = NULL};
    return NULL;
}

void image_meta_fini(struct image_meta *image)
{
    free(image->disk_format);
}

bool image_meta_bool(const struct image_meta *image, const char *name, bool dflt)
{
    (void)image;
    assert_false(dflt);
    return str_eq(name, "hw_qemu_guest_agent") ? world.has_agent : world.must_freeze;
}

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    (void)node;
    (void)uuid;
    *ret = POWER_RUNNING;
    return NULL;
}

void notify_instance_more(struct node *node, const struct rctx *ctx, struct instance *inst,
                          enum notify_action action, enum notify_phase phase,
                          const struct notify_more *more)
{
    (void)node;
    (void)ctx;
    (void)inst;
    assert_int_equal(action, NOTIFY_SNAPSHOT);
    assert_string_equal(more->snapshot_image_id, IMAGE);
    err_ignore(happens("notify %s", phase == NOTIFY_START ? "start" : "end"), "a test");
}

struct err *lv_connect(const char *uri, struct lv_conn **ret)
{
    (void)uri;
    *ret = NULL;
    return NULL;
}

struct lv_conn *lv_conn_free(struct lv_conn *c)
{
    (void)c;
    return NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    (void)c;
    (void)uuid;
    *ret = NULL;
    return happens("find guest");
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    (void)d;
    return NULL;
}

struct err *lv_domain_freeze(struct lv_domain *d)
{
    (void)d;
    return happens("freeze");
}

struct err *lv_domain_thaw(struct lv_domain *d)
{
    (void)d;
    return happens("thaw");
}

struct err *snapshot_look(const struct snapshot_env *env, const char *uuid,
                          struct snapshot_source *ret)
{
    (void)env;
    (void)uuid;
    TRY(happens("look"));
    *ret = (struct snapshot_source){.is_live = world.is_live, .format = str_dup("qcow2")};
    return NULL;
}

void snapshot_source_fini(struct snapshot_source *s)
{
    free(s->format);
}

struct err *snapshot_take(const struct snapshot_env *env, const struct snapshot_source *source,
                          enum snapshot_freeze freeze, struct snapshot_file *ret)
{
    static const char *const how[] = {"", " try to freeze", " must freeze"};

    (void)env;
    (void)source;
    TRY(happens("take%s", how[freeze]));
    *ret = (struct snapshot_file){.path = str_printf("%s/file", world.dir)};
    assert_null(fs_write_atomic(&fs_real, ret->path, "data", 4, 0644));
    return NULL;
}

void snapshot_file_fini(struct snapshot_file *f)
{
    if (f->path) {
        err_ignore(happens("remove file"), "a test");
    }
    free(f->path);
}

struct err *snapshot_settle(const struct snapshot_env *env, const char *uuid, enum lv_state wanted)
{
    (void)env;
    (void)uuid;
    return happens("settle %d", (int)wanted);
}

void glance_image_fini(struct glance_image *image)
{
    free(image->status);
}

struct err *glance_image_get(struct glance *g, const struct rctx *ctx, const char *id,
                             struct glance_image *ret)
{
    (void)g;
    (void)ctx;
    (void)id;
    TRY(happens("get image"));
    *ret = (struct glance_image){.status = str_dup(world.image_status)};
    return NULL;
}

struct err *glance_image_update(struct glance *g, const struct rctx *ctx, const char *id,
                                struct json_object *wanted)
{
    (void)g;
    (void)ctx;
    assert_string_equal(id, IMAGE);
    jv_putp(&world.members);
    world.members = json_object_get(wanted);
    return happens("update image");
}

struct err *glance_image_upload(struct glance *g, const struct rctx *ctx, const char *id, int fd,
                                struct cancel *stop)
{
    char data[8] = "";

    (void)g;
    (void)ctx;
    (void)stop;
    assert_string_equal(id, IMAGE);
    assert_int_equal(read(fd, data, sizeof(data)), 4);
    return happens("upload %s", data);
}

struct err *glance_image_delete(struct glance *g, const struct rctx *ctx, const char *id)
{
    (void)g;
    (void)ctx;
    return happens("delete image %s", str_eq(id, IMAGE) ? "" : id);
}

struct err *glance_image_list(struct glance *g, const struct rctx *ctx, struct json_object *filters,
                              struct json_object **ret)
{
    CLEANUP(freep) char *text = jv_text(filters);

    (void)g;
    (void)ctx;
    *ret = json_object_get(world.backups);
    return happens("list %s", text);
}

struct err *imagecache_image_path(const struct conf *conf, const char *image_id, char **ret)
{
    (void)conf;
    *ret = str_printf("%s/%s", world.dir, image_id);
    return NULL;
}

struct err *imagecache_fetch(const struct imagecache_env *env, const struct rctx *ctx,
                             const char *image_ref, const char *path, int64_t size,
                             const char **ret_format)
{
    (void)env;
    (void)ctx;
    (void)path;
    assert_true(size == INT64_MAX);
    *ret_format = "raw";
    return happens("fetch %s", image_ref);
}

/* -- A node and a server -------------------------------------------------------------------------
 */

struct bench {
    char dir[40];
    struct node node;
    struct instance *inst;
};

static int set_up(void **state)
{
    struct bench *b = NEW(struct bench);

    memset(&world, 0, sizeof(world));
    strcpy(b->dir, "/tmp/test_snapshot_verbs.XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    world.dir = b->dir;
    world.is_live = true;
    world.image_status = "queued";
    assert_null(conf_from_text("[libvirt]\nvirt_type = kvm\n", &b->node.conf));
    b->inst = instance_new();
    instance_set_uuid(b->inst, UUID);
    instance_set_vm_state(b->inst, "active");
    instance_set_task_state(b->inst, "image_snapshot_pending");
    instance_set_project_id(b->inst, "project");
    instance_set_kernel_id(b->inst, "");
    instance_set_ramdisk_id(b->inst, NULL);
    instance_set_os_type(b->inst, "linux");
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;

    assert_null(fs_remove_all(&fs_real, b->dir));
    conf_holder_free(b->node.conf);
    instance_free(b->inst);
    strv_fini(&world.log);
    json_object_put(world.members);
    json_object_put(world.backups);
    free(b);
    return 0;
}

static struct err *run_snapshot(struct bench *b)
{
    char id[] = IMAGE;
    struct args_snapshot_instance args = {.instance = b->inst, .image_id = id};
    struct json_object *ret = NULL;
    struct err *e = compute_snapshot_instance(&b->node, NULL, &args, &ret);

    assert_null(ret);
    return e;
}

static struct err *run_backup(struct bench *b, int64_t rotation)
{
    char id[] = IMAGE, type[] = "daily";
    struct args_backup_instance args = {.instance = b->inst,
                                        .image_id = id,
                                        .backup_type = type,
                                        .has_rotation = true,
                                        .rotation = rotation};
    struct json_object *ret = NULL;

    instance_set_task_state(b->inst, "image_backup");
    return compute_backup_instance(&b->node, NULL, &args, &ret);
}

static void assert_log(const char *expected)
{
    CLEANUP(freep) char *got = strv_join(&world.log, "; ");

    assert_string_equal(got, expected);
}

static bool has_happened(const char *line)
{
    return strv_has(&world.log, line);
}

#define BEGIN "save image_snapshot if image_snapshot_pending; save image_snapshot; notify start; "
#define LOOK  "look; get image; "

/* -- Snapshots -----------------------------------------------------------------------------------
 */

static void a_snapshot_goes_through_its_states_in_order(void **state)
{
    assert_null(run_snapshot(*state));
    assert_log(BEGIN LOOK
               "save image_pending_upload if image_snapshot; take; "
               "save image_uploading if image_pending_upload; update image; upload data; "
               "save none if image_uploading; notify end; remove file");
}

static void the_image_is_told_what_it_is(void **state)
{
    struct bench *b = *state;
    struct image_meta image = {0};
    char ami[] = "ami", ovf[] = "ovf";

    assert_null(run_snapshot(b));
    CLEANUP(freep) char *text = jv_text(world.members);

    assert_string_equal(text, "{\"disk_format\":\"qcow2\",\"container_format\":\"bare\","
                              "\"image_location\":\"snapshot\",\"image_state\":\"available\","
                              "\"owner_id\":\"project\",\"os_type\":\"linux\"}");
    image = (struct image_meta){.disk_format = ami, .container_format = ovf};
    instance_set_kernel_id(b->inst, "k");
    instance_set_ramdisk_id(b->inst, "r");
    instance_set_os_type(b->inst, NULL);
    CLEANUP(jv_putp) struct json_object *members = snapshot_members(b->inst, &image, "raw");
    CLEANUP(freep) char *other = jv_text(members);

    assert_string_equal(other,
                        "{\"disk_format\":\"ami\",\"container_format\":\"ovf\","
                        "\"image_location\":\"snapshot\",\"image_state\":\"available\","
                        "\"owner_id\":\"project\",\"kernel_id\":\"k\",\"ramdisk_id\":\"r\"}");
}

static void the_agent_is_used_as_the_image_says(void **state)
{
    world.has_agent = true;
    assert_null(run_snapshot(*state));
    assert_true(has_happened("take try to freeze"));
    world.must_freeze = true;
    assert_null(run_snapshot(*state));
    assert_true(has_happened("take must freeze"));
    world.has_agent = false;
    CLEANUP(err_freep) struct err *e = run_snapshot(*state);

    assert_true(err_is(e, ERR_QEMU_GUEST_AGENT_NOT_ENABLED));
    assert_true(has_happened("delete image "));
    world.is_live = false; /* A guest that is off has nothing to freeze. */
    assert_null(run_snapshot(*state));
    assert_true(has_happened("take"));
}

static void a_snapshot_that_fails_takes_its_image_along(void **state)
{
    static const char *const lines[] = {"look",
                                        "take",
                                        "save image_pending_upload if image_snapshot",
                                        "save image_uploading if image_pending_upload",
                                        "update image",
                                        "upload data"};

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        world.fails = lines[i];
        world.kind = ERR_GLANCE_CONNECTION;
        CLEANUP(err_freep) struct err *e = run_snapshot(*state);

        assert_true(err_is(e, ERR_GLANCE_CONNECTION));
        assert_string_equal(world.log.items[world.log.n - 1], "delete image ");
        assert_false(has_happened("notify end"));
    }
}

static void a_server_that_goes_away_is_no_error(void **state)
{
    static const enum err_kind kinds[] = {ERR_INSTANCE_NOT_FOUND,
                                          ERR_UNEXPECTED_DELETING_TASK_STATE};
    static const char *const lines[] = {"save image_snapshot if image_snapshot_pending", "take",
                                        "save image_uploading if image_pending_upload"};

    for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(lines); i++) {
        world.kind = kinds[i % 2];
        world.fails = lines[i / 2];
        assert_null(run_snapshot(*state));
        assert_string_equal(world.log.items[world.log.n - 2], "get image");
        assert_string_equal(world.log.items[world.log.n - 1], "delete image ");
    }
}

static void an_image_that_is_complete_is_kept(void **state)
{
    world.image_status = "active";
    world.fails = "save none if image_uploading";
    world.kind = ERR_INSTANCE_NOT_FOUND;
    assert_null(run_snapshot(*state));
    assert_false(has_happened("delete image "));
}

static void a_server_without_a_guest_does_not_stay_in_its_task(void **state)
{
    world.fails = "look";
    world.kind = ERR_INSTANCE_NOT_RUNNING;
    assert_null(run_snapshot(*state));
    assert_log(BEGIN "look; save none; get image; delete image ");
}

static void an_image_that_goes_away_ends_the_task(void **state)
{
    world.fails = "upload data";
    world.kind = ERR_IMAGE_NOT_FOUND;
    assert_null(run_snapshot(*state));
    assert_string_equal(world.log.items[world.log.n - 1], "save none");
    world.fails = "get image"; /* Known before the guest is touched. */
    strv_fini(&world.log);
    world.log = (struct strv){0};
    assert_null(run_snapshot(*state));
    assert_log(BEGIN LOOK "save none");
}

/* -- Backups -------------------------------------------------------------------------------------
 */

static void a_backup_lets_the_oldest_go(void **state)
{
    static const char backups[] =
        "[{\"id\": \"new\"}, {\"id\": \"b\"}, {\"id\": \"c\"}, {\"id\": \"d\"}]";

    assert_null(jv_parse(backups, strlen(backups), &world.backups));
    world.fails = "delete image d"; /* One that cannot be deleted does not keep the others. */
    world.kind = ERR_IMAGE_DELETE_CONFLICT;
    assert_null(run_backup(*state, 2));
    assert_true(has_happened("save image_pending_upload if image_backup"));
    assert_true(has_happened("list {\"image_type\":\"backup\",\"backup_type\":\"daily\","
                             "\"instance_uuid\":\"" UUID "\"}"));
    assert_true(has_happened("delete image d"));
    assert_true(has_happened("delete image c"));
    assert_false(has_happened("delete image b"));
    assert_null(run_backup(*state, 9));
    assert_null(run_backup(*state, 0));
    assert_true(has_happened("delete image new"));
}

static void a_backup_that_fails_rotates_nothing(void **state)
{
    world.fails = "take";
    world.kind = ERR_NO_SPACE;
    CLEANUP(err_freep) struct err *e = run_backup(*state, 0);

    assert_true(err_is(e, ERR_NO_SPACE));
    assert_string_equal(world.log.items[world.log.n - 1], "delete image ");
}

/* -- The cache -----------------------------------------------------------------------------------
 */

static void each_image_to_cache_gets_an_answer(void **state)
{
    struct bench *b = *state;
    struct args_cache_images args = {0};
    CLEANUP(jv_putp) struct json_object *ids = NULL;
    CLEANUP(jv_putp) struct json_object *ret = NULL;
    CLEANUP(freep) char *there = str_printf("%s/b", b->dir);

    assert_null(jv_parse("[\"a\", \"b\", \"c\"]", 15, &ids));
    assert_null(fs_write_atomic(&fs_real, there, "x", 1, 0644));
    world.fails = "fetch c";
    world.kind = ERR_IMAGE_NOT_FOUND;
    args.image_ids = ids;
    assert_null(compute_cache_images(&b->node, NULL, &args, &ret));
    CLEANUP(freep) char *text = jv_text(ret);

    assert_string_equal(text, "{\"a\":\"cached\",\"b\":\"existing\",\"c\":\"error\"}");
}

/* -- Quiescing -----------------------------------------------------------------------------------
 */

static void a_guest_is_frozen_and_thawed_by_its_agent(void **state)
{
    struct bench *b = *state;
    struct args_quiesce_instance freeze = {.instance = b->inst};
    struct args_unquiesce_instance thaw = {.instance = b->inst};
    struct json_object *ret = NULL;
    CLEANUP(err_freep) struct err *e = compute_quiesce_instance(&b->node, NULL, &freeze, &ret);

    assert_true(err_is(e, ERR_QEMU_GUEST_AGENT_NOT_ENABLED));
    world.has_agent = true;
    assert_null(compute_quiesce_instance(&b->node, NULL, &freeze, &ret));
    assert_null(compute_unquiesce_instance(&b->node, NULL, &thaw, &ret));
    assert_log("find guest; freeze; find guest; thaw");
    world.fails = "freeze";
    world.kind = ERR_LIBVIRT;
    err_freep(&e);
    e = compute_quiesce_instance(&b->node, NULL, &freeze, &ret);
    assert_true(err_is(e, ERR_INTERNAL));
    world.fails = "find guest";
    world.kind = ERR_INSTANCE_NOT_FOUND;
    err_freep(&e);
    e = compute_quiesce_instance(&b->node, NULL, &freeze, &ret);
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
}

/* -- After a restart -----------------------------------------------------------------------------
 */

static void a_guest_goes_on_after_a_restart_if_its_server_is_on(void **state)
{
    struct bench *b = *state;
    CLEANUP(freep)
    char *expected =
        str_printf("settle %d; settle %d; settle %d", LV_RUNNING, LV_PAUSED, LV_SHUTOFF);

    assert_null(snapshot_recover(&b->node, b->inst));
    instance_set_vm_state(b->inst, "paused");
    assert_null(snapshot_recover(&b->node, b->inst));
    instance_set_vm_state(b->inst, "suspended");
    assert_null(snapshot_recover(&b->node, b->inst));
    assert_log(expected);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_snapshot_goes_through_its_states_in_order),
        TEST(the_image_is_told_what_it_is),
        TEST(the_agent_is_used_as_the_image_says),
        TEST(a_snapshot_that_fails_takes_its_image_along),
        TEST(a_server_that_goes_away_is_no_error),
        TEST(an_image_that_is_complete_is_kept),
        TEST(a_server_without_a_guest_does_not_stay_in_its_task),
        TEST(an_image_that_goes_away_ends_the_task),
        TEST(a_backup_lets_the_oldest_go),
        TEST(a_backup_that_fails_rotates_nothing),
        TEST(each_image_to_cache_gets_an_answer),
        TEST(a_guest_is_frozen_and_thawed_by_its_agent),
        TEST(a_guest_goes_on_after_a_restart_if_its_server_is_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

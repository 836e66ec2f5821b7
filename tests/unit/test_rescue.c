/* link: driver_compute lv_fake */
#include "tests/fake/lv_fake.h"

#include "base/clock.h"
#include "base/fs.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/power.h"
#include "driver/compute/rescue.h"
#include "driver/compute/spawn.h"
#include "driver/compute/terminate.h"
#include "driver/compute/usage_audit.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/server_disks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define XML(file)                                                                                  \
    "<domain><name>x</name><uuid>" UUID "</uuid><devices><disk><source file='/i/" file "'/>"       \
    "<target dev='vda'/></disk></devices></domain>"

/* One server and its guest, and what is done. */
static struct {
    struct conf conf;
    struct node node;
    struct rctx *ctx;
    struct instance *inst;
    char top[48], dir[64], own[128];
    bool spawn_fails, has_volume;
    char log[1024]; /* Calls, in their order. */
} world;

static void note(const char *fmt, ...) PRINTF(1, 2);
static void note(const char *fmt, ...)
{
    size_t len = strlen(world.log);
    va_list args;

    va_start(args, fmt);
    vsnprintf(world.log + len, sizeof(world.log) - len, fmt, args);
    va_end(args);
}

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    note("save(%s %s%s%s) ", instance_vm_state(inst),
         instance_task_state(inst) ? instance_task_state(inst) : "-", expected ? " if " : "",
         expected ? expected[0] : "");
    return NULL;
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

struct err *bdms_by_instance(struct conductor *c, const struct rctx *ctx, const char *uuid,
                             struct block_device_mapping_list **ret)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    *ret = block_device_mapping_list_new();
    return NULL;
}

struct err *instance_fault_create(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *host, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)host;
    (void)e;
    return NULL;
}

struct err *terminate_check_volumes(const struct block_device_mapping_list *bdms)
{
    assert_non_null(bdms);
    return world.has_volume ? err_msg(ERR_NOT_IMPLEMENTED, "volumes") : NULL;
}

struct err *glance_image_get_json(struct glance *g, const struct rctx *ctx, const char *id,
                                  struct json_object **ret)
{
    (void)g;
    assert_true(rctx_is_admin(ctx));
    note("image(%s) ", id);
    *ret = json_object_new_object();
    jv_add_str(*ret, "id", id);
    jv_add_str(*ret, "name", "tools");
    jv_add_str(*ret, "disk_format", "qcow2");
    jv_add_str(*ret, "hw_rescue_bus", "virtio");
    return NULL;
}

struct err *glance_image_delete(struct glance *g, const struct rctx *ctx, const char *id)
{
    (void)g;
    (void)ctx;
    (void)id;
    return NULL;
}

char *disk_instance_dir(const struct conf *conf, const char *uuid)
{
    assert_ptr_equal(conf, &world.conf);
    assert_string_equal(uuid, UUID);
    return str_dup(world.own);
}

void server_disks_remove_rescue(const struct conf *conf, const char *uuid)
{
    assert_ptr_equal(conf, &world.conf);
    assert_string_equal(uuid, UUID);
    note("remove_disks ");
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    *ret = (struct vif_list){0};
    return NULL;
}

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    (void)node;
    (void)uuid;
    *ret = POWER_RUNNING;
    return NULL;
}

struct err *usage_audit_period(const char *period, int64_t now_s, int64_t *ret_begin_s,
                               int64_t *ret_end_s)
{
    (void)period;
    *ret_begin_s = now_s - 200;
    *ret_end_s = now_s - 100;
    return NULL;
}

void notify_usage(struct node *node, const struct rctx *ctx, struct instance *inst, int64_t begin_s,
                  int64_t end_s)
{
    (void)node;
    (void)ctx;
    (void)inst;
    note("usage(%lld) ", (long long)(end_s - begin_s));
}

void notify_instance_more(struct node *node, const struct rctx *ctx, struct instance *inst,
                          enum notify_action action, enum notify_phase phase,
                          const struct notify_more *more)
{
    (void)node;
    (void)ctx;
    (void)inst;
    note("%s.%s%s%s ", action == NOTIFY_RESCUE ? "rescue" : "unrescue",
         phase == NOTIFY_START ? "start" : "end", more->rescue_image_name ? ":" : "",
         more->rescue_image_name ? more->rescue_image_name : "");
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    notify_instance_more(node, ctx, inst, action, phase, &(struct notify_more){0});
}

struct err *spawn_make_disks(const struct spawn *s)
{
    assert_non_null(s->rescue);
    assert_string_equal(image_meta_prop(s->rescue, "hw_rescue_bus"), "virtio");
    note("disks(%s) ", s->admin_pass ? s->admin_pass : "");
    return NULL;
}

struct err *spawn_make_xml(const struct spawn *s, char **ret)
{
    assert_null(s->rescue);
    note("xml ");
    *ret = str_dup(XML("disk"));
    return NULL;
}

static void start(const char *xml)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    assert_null(lv_define(world.node.lv, xml, &d));
    assert_null(lv_domain_destroy(d));
    assert_null(lv_domain_start(d, false));
}

struct err *spawn_start_guest(const struct spawn *s)
{
    assert_non_null(s->rescue);
    assert_false(s->waits_for_plug);
    note("start_guest ");
    if (world.spawn_fails) {
        return err_msg(ERR_LIBVIRT, "no memory");
    }
    start(XML("disk.rescue"));
    return NULL;
}

struct err *spawn_hard_reboot(const struct spawn *s)
{
    assert_null(s->rescue);
    note("hard_reboot ");
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.top, "/tmp/test_rescue.XXXXXX");
    assert_non_null(mkdtemp(world.top));
    snprintf(world.dir, sizeof(world.dir), "%s/host", world.top);
    snprintf(world.own, sizeof(world.own), "%s/instances/%s", world.top, UUID);
    assert_null(fs_mkdir_all(&fs_real, world.own, 0755));
    lv_fake_host(world.dir);
    setenv("NOVASHIM_LV_FAKE_DIR", world.dir, 1);
    world.node = (struct node){.host = "here", .watch = lvwatch_new(), .stopping = cancel_new()};
    assert_null(lv_init());
    assert_null(lv_connect("qemu:///system", &world.node.lv));
    world.ctx = rctx_new_admin();
    world.inst = instance_new();
    instance_set_uuid(world.inst, UUID);
    instance_set_vm_state(world.inst, "active");
    instance_set_task_state(world.inst, "rescuing");
    instance_set_image_ref(world.inst, "own-image");
    instance_clear_system_metadata(world.inst);
    start(XML("disk"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    instance_free(world.inst);
    rctx_free(world.ctx);
    lv_conn_free(world.node.lv);
    lvwatch_free(world.node.watch);
    cancel_free(world.node.stopping);
    assert_null(fs_remove_all(&fs_real, world.top));
    return 0;
}

static struct err *rescue(const char *image)
{
    return compute_rescue_instance(&world.node, world.ctx,
                                   &(struct args_rescue_instance){.instance = world.inst,
                                                                  .rescue_password = "pw",
                                                                  .rescue_image_ref = image},
                                   &(struct json_object *){NULL});
}

static struct err *unrescue(void)
{
    return compute_unrescue_instance(&world.node, world.ctx,
                                     &(struct args_unrescue_instance){.instance = world.inst},
                                     &(struct json_object *){NULL});
}

static bool guest_has(const char *text)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(freep) char *xml = NULL;

    assert_null(lv_domain_by_uuid(world.node.lv, UUID, &d));
    assert_null(lv_domain_xml(d, false, &xml));
    return strstr(xml, text) != NULL;
}

static void the_image_is_what_was_asked_for_or_the_nearest(void **state)
{
    (void)state;
    assert_string_equal(rescue_image(world.inst, "asked"), "asked");
    assert_string_equal(rescue_image(world.inst, NULL), "own-image");
    instance_system_metadata_put(world.inst, "image_base_image_ref", "base");
    assert_string_equal(rescue_image(world.inst, ""), "base");
    instance_system_metadata_del(world.inst, "image_base_image_ref");
    instance_set_image_ref(world.inst, "");
    assert_null(rescue_image(world.inst, NULL));
}

static void a_rescue_boots_another_image_and_keeps_the_way_back(void **state)
{
    (void)state;
    assert_null(rescue("tools-image"));
    assert_string_equal(world.log, "image(tools-image) rescue.start:tools disks(pw) start_guest "
                                   "usage(100) save(rescued - if rescuing) rescue.end:tools ");
    assert_true(guest_has("/disk.rescue"));
    assert_true(rescue_has_way_back(&world.node, UUID));
    assert_true(instance_changed_launched_at(world.inst));
}

static void the_way_back_is_taken_and_gone(void **state)
{
    (void)state;
    assert_null(rescue(NULL));
    world.log[0] = '\0';
    assert_null(unrescue());
    assert_string_equal(world.log,
                        "unrescue.start remove_disks save(active - if unrescuing) unrescue.end ");
    assert_false(guest_has("/disk.rescue"));
    assert_false(rescue_has_way_back(&world.node, UUID));
}

static void without_a_way_back_the_guest_is_made_anew(void **state)
{
    (void)state;
    assert_null(unrescue());
    assert_string_equal(
        world.log,
        "unrescue.start hard_reboot remove_disks save(active - if unrescuing) unrescue.end ");
}

static void a_rescue_that_fails_says_so_and_keeps_the_way_back(void **state)
{
    CLEANUP(err_freep) struct err *e = NULL;

    (void)state;
    world.spawn_fails = true;
    e = rescue(NULL);
    assert_true(err_is(e, ERR_INSTANCE_NOT_RESCUABLE));
    assert_string_equal(err_message(e),
                        "Instance " UUID " cannot be rescued: Driver Error: no memory");
    assert_true(str_ends(world.log, "start_guest save(error rescuing) "));
    assert_true(rescue_has_way_back(&world.node, UUID));
}

/* The first attempt came as far as defining the rescue's guest. */
static void a_second_attempt_keeps_the_way_back_of_the_first(void **state)
{
    (void)state;
    assert_null(rescue(NULL));
    assert_null(rescue(NULL));
    assert_null(unrescue());
    assert_false(guest_has("/disk.rescue"));
}

static void a_way_back_from_long_ago_is_not_taken(void **state)
{
    CLEANUP(freep) char *path = str_printf("%s/unrescue.xml", world.own);

    (void)state;
    assert_null(fs_write_atomic(&fs_real, path, "<old/>", 6, 0600));
    assert_null(rescue(NULL));
    assert_null(unrescue());
    assert_true(guest_has("/i/disk'"));
}

static void a_server_without_a_guest_can_be_rescued(void **state)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;

    (void)state;
    assert_null(lv_domain_by_uuid(world.node.lv, UUID, &d));
    assert_null(lv_domain_destroy(d));
    assert_null(lv_domain_undefine(d));
    assert_null(rescue(NULL));
    assert_non_null(strstr(world.log, "xml disks"));
    assert_null(unrescue());
    assert_true(guest_has("/i/disk'"));
}

static void what_cannot_be_rescued_is_refused_before_anything_happens(void **state)
{
    CLEANUP(err_freep) struct err *volume = NULL;
    CLEANUP(err_freep) struct err *image = NULL;

    (void)state;
    world.has_volume = true;
    volume = rescue(NULL);
    assert_true(err_is(volume, ERR_NOT_IMPLEMENTED));
    world.has_volume = false;
    instance_set_image_ref(world.inst, NULL);
    image = rescue(NULL);
    assert_true(err_is(image, ERR_INSTANCE_NOT_RESCUABLE));
    assert_string_equal(world.log, "");
    assert_false(rescue_has_way_back(&world.node, UUID));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_image_is_what_was_asked_for_or_the_nearest),
        TEST(a_rescue_boots_another_image_and_keeps_the_way_back),
        TEST(the_way_back_is_taken_and_gone),
        TEST(without_a_way_back_the_guest_is_made_anew),
        TEST(a_rescue_that_fails_says_so_and_keeps_the_way_back),
        TEST(a_second_attempt_keeps_the_way_back_of_the_first),
        TEST(a_way_back_from_long_ago_is_not_taken),
        TEST(a_server_without_a_guest_can_be_rescued),
        TEST(what_cannot_be_rescued_is_refused_before_anything_happens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

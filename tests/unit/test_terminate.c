/* link: driver_compute driver_libvirt vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/terminate.h"

#include "base/fault.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/server_disks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SERVER "11111111-1111-4111-8111-111111111111"
#define VOLUME "22222222-2222-4222-8222-222222222222"

/* ---- A world of our own ---- */

static struct {
    struct conf conf;
    char trace[256]; /* What was done, in order. */
    enum err_kind guest_fails, files_fail, ports_fail, allocations_fail, record_fails;
    char vm_state[32], cleaned[8], attempts[8];
    bool has_volume;
} world;

#define NOTHING_FAILS ERR_INTERNAL /* The first kind, never planted. */

static struct err *done(const char *what, enum err_kind fails)
{
    strcat(world.trace, what);
    strcat(world.trace, " ");
    return fails == NOTHING_FAILS ? NULL : err_msg(fails, "planted");
}

const struct conf *conf_get(struct conf_holder *h)
{
    (void)h;
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    (void)conf;
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

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    (void)inst;
    *ret = (struct vif_list){0};
    return NULL;
}

struct err *network_refresh(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct vif_list *ret)
{
    (void)node;
    (void)ctx;
    (void)inst;
    *ret = (struct vif_list){0};
    return done("refresh", NOTHING_FAILS);
}

struct err *spawn_destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct vif_list *vifs)
{
    (void)node;
    (void)inst;
    (void)vifs;
    assert_true(rctx_is_admin(ctx));
    return done("guest", world.guest_fails);
}

struct err *server_disks_remove(const struct conf *conf, const char *uuid)
{
    assert_ptr_equal(conf, &world.conf);
    assert_string_equal(uuid, SERVER);
    return done("files", world.files_fail);
}

struct err *netalloc_release(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    return done("ports", world.ports_fail);
}

void tracker_abort_instance(struct tracker *t, const struct rctx *ctx, const char *uuid)
{
    (void)t;
    (void)ctx;
    (void)uuid;
    assert_null(done("usage", NOTHING_FAILS));
}

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    (void)p;
    (void)consumer;
    return done("allocations", world.allocations_fail);
}

struct err *console_auths_clean(struct conductor *c, const struct rctx *ctx, const char *uuid)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    return NULL;
}

void notify_scheduler_delete(struct node *node, const struct rctx *ctx, const char *uuid)
{
    (void)node;
    (void)ctx;
    (void)uuid;
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    (void)node;
    (void)ctx;
    (void)inst;
    (void)action;
    (void)phase;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    const char *attempts = instance_system_metadata_get(inst, "clean_attempts");

    (void)c;
    (void)ctx;
    assert_null(expected);
    snprintf(world.vm_state, sizeof(world.vm_state), "%s", instance_vm_state(inst));
    snprintf(world.attempts, sizeof(world.attempts), "%s", attempts ? attempts : "");
    snprintf(world.cleaned, sizeof(world.cleaned), "%s",
             instance_has_cleaned(inst) && instance_cleaned(inst) ? "yes" : "no");
    return done("save", world.record_fails);
}

struct err *instance_destroy(struct conductor *c, const struct rctx *ctx, struct instance *inst)
{
    (void)c;
    (void)ctx;
    (void)inst;
    return done("destroy", NOTHING_FAILS);
}

struct err *bdms_by_instance(struct conductor *c, const struct rctx *ctx, const char *uuid,
                             struct block_device_mapping_list **ret)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    *ret = block_device_mapping_list_new();
    if (world.has_volume) {
        struct block_device_mapping *bdm = block_device_mapping_new();

        block_device_mapping_set_destination_type(bdm, "volume");
        block_device_mapping_set_volume_id(bdm, VOLUME);
        block_device_mapping_list_add(*ret, bdm);
    }
    return NULL;
}

/* ---- Deleting ---- */

static struct err *terminate(void)
{
    struct node node = {.host = "host-a"};
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    instance_set_uuid(inst, SERVER);
    instance_set_vm_state(inst, "active");
    instance_clear_system_metadata(inst);
    return terminate_now(&node, ctx, inst);
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    assert_null(fault_init(NULL));
    world.guest_fails = world.files_fail = world.ports_fail = world.allocations_fail =
        world.record_fails = NOTHING_FAILS;
    return 0;
}

static void everything_goes_and_the_record_last(void **state)
{
    (void)state;
    assert_null(terminate());
    assert_string_equal(world.trace, "refresh guest files ports save usage allocations destroy ");
    assert_string_equal(world.vm_state, "deleted");
    assert_string_equal(world.cleaned, "yes");
    assert_string_equal(world.attempts, "1");
}

static void a_guest_that_does_not_end_keeps_its_addresses(void **state)
{
    (void)state;
    world.guest_fails = ERR_INSTANCE_TERMINATION;
    CLEANUP(err_freep) struct err *e = terminate();

    assert_true(err_is(e, ERR_INSTANCE_TERMINATION));
    assert_null(strstr(world.trace, "ports"));
    assert_null(strstr(world.trace, "allocations"));
    assert_string_equal(world.vm_state, "error");
}

static void after_another_error_of_the_guest_the_ports_are_released(void **state)
{
    (void)state;
    world.guest_fails = ERR_LIBVIRT;
    CLEANUP(err_freep) struct err *e = terminate();

    assert_true(err_is(e, ERR_LIBVIRT));
    assert_non_null(strstr(world.trace, "ports"));
    assert_null(strstr(world.trace, "destroy"));
    assert_string_equal(world.vm_state, "error");
}

static void files_that_stay_are_tried_again_later(void **state)
{
    (void)state;
    world.files_fail = ERR_NO_SPACE;
    assert_null(terminate());
    assert_non_null(strstr(world.trace, "destroy"));
    assert_string_equal(world.cleaned, "no");
    assert_string_equal(world.attempts, "1");
}

static void a_record_without_its_allocations_gone_is_not_destroyed(void **state)
{
    (void)state;
    world.allocations_fail = ERR_CONFLICT;
    CLEANUP(err_freep) struct err *e = terminate();

    assert_true(err_is(e, ERR_CONFLICT));
    assert_null(strstr(world.trace, "destroy"));
    assert_string_equal(world.vm_state, "error");
}

static void a_server_that_is_gone_is_no_error(void **state)
{
    (void)state;
    world.record_fails = ERR_INSTANCE_NOT_FOUND;
    assert_null(terminate());
}

static void a_server_with_a_volume_is_refused_whole(void **state)
{
    (void)state;
    world.has_volume = true;
    CLEANUP(err_freep) struct err *e = terminate();

    assert_true(err_is(e, ERR_NOT_IMPLEMENTED));
    assert_non_null(strstr(err_message(e), VOLUME));
    assert_string_equal(world.trace, "");
}

static void cut_off_at_any_step_it_can_be_begun_again(void **state)
{
    static const char *const steps[] = {"guest",  "files",       "ports",
                                        "record", "allocations", "destroy"};

    for (size_t i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        CLEANUP(freep)
        char *plan = str_printf("terminate.%s%s=fail:1", steps[i / 2], i % 2 ? ".after" : "");

        set_up(state);
        assert_null(fault_init(plan));
        CLEANUP(err_freep) struct err *e = terminate();

        assert_non_null(e);
        assert_string_equal(world.vm_state, "error");
        world.trace[0] = '\0';
        assert_null(terminate());
        assert_string_equal(world.vm_state, "deleted");
        assert_non_null(strstr(world.trace, "destroy"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_goes_and_the_record_last, set_up),
        cmocka_unit_test_setup(a_guest_that_does_not_end_keeps_its_addresses, set_up),
        cmocka_unit_test_setup(after_another_error_of_the_guest_the_ports_are_released, set_up),
        cmocka_unit_test_setup(files_that_stay_are_tried_again_later, set_up),
        cmocka_unit_test_setup(a_record_without_its_allocations_gone_is_not_destroyed, set_up),
        cmocka_unit_test_setup(a_server_that_is_gone_is_no_error, set_up),
        cmocka_unit_test_setup(a_server_with_a_volume_is_refused_whole, set_up),
        cmocka_unit_test_setup(cut_off_at_any_step_it_can_be_begun_again, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

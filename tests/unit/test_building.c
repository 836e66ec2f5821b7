/* link: driver_compute driver_libvirt vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/building.h"

#include "base/clock.h"
#include "base/fs.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/terminate.h"
#include "driver/compute/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HERE   "22222222-2222-4222-8222-222222222222"
#define THERE  "33333333-3333-4333-8333-333333333333"
#define SERVER "11111111-1111-4111-8111-111111111111"

static struct {
    struct conf conf;
    char dir[32];
    const char *vm_state, *task_state, *host;
    bool is_missing, is_deleted, guest_fails;
    unsigned n_local, n_ports, n_allocations, n_usages, n_faults;
    const char *provider; /* That the server has room on; NULL: none. */
    char saved_state[16], saved_host[16];
} world;

const struct conf *conf_get(struct conf_holder *h)
{
    (void)h;
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    (void)conf;
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)ctx;
    (void)attrs;
    if (world.is_missing) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = instance_new();
    instance_set_uuid(*ret, uuid);
    instance_set_vm_state(*ret, world.vm_state);
    instance_set_task_state(*ret, world.task_state);
    instance_set_host(*ret, world.host);
    instance_set_deleted(*ret, world.is_deleted);
    return NULL;
}

struct err *terminate_local_guest(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    world.n_local++;
    return world.guest_fails ? err_msg(ERR_LIBVIRT, "planted") : NULL;
}

struct err *netalloc_release(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    world.n_ports++;
    return NULL;
}

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    (void)p;
    assert_string_equal(consumer, SERVER);
    world.n_allocations++;
    return NULL;
}

struct err *placement_get_allocations(struct placement *p, const char *consumer,
                                      struct json_object **ret)
{
    struct json_object *held = json_object_new_object();

    (void)p;
    assert_string_equal(consumer, SERVER);
    if (world.provider) {
        jv_add(held, world.provider, json_object_new_object());
    }
    *ret = json_object_new_object();
    jv_add(*ret, "allocations", held);
    return NULL;
}

const char *tracker_node_uuid(struct tracker *t)
{
    (void)t;
    return HERE;
}

void tracker_abort_instance(struct tracker *t, const struct rctx *ctx, const char *uuid)
{
    (void)t;
    (void)ctx;
    assert_string_equal(uuid, SERVER);
    world.n_usages++;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    (void)expected;
    snprintf(world.saved_state, sizeof(world.saved_state), "%s", instance_vm_state(inst));
    snprintf(world.saved_host, sizeof(world.saved_host), "%s",
             instance_host(inst) ? instance_host(inst) : "");
    return NULL;
}

struct err *instance_fault_create(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *host, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)host;
    assert_non_null(strstr(err_message(e), "restarted"));
    world.n_faults++;
    return NULL;
}

static struct node the_node = {.host = "host-a"};

static bool is_noted(void)
{
    CLEANUP(freep) char *path = str_printf("%s/building/" SERVER, world.dir);

    return fs_exists(&fs_real, path);
}

static void settle(void)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    assert_null(building_begin(&the_node, SERVER));
    assert_true(is_noted());
    building_settle(&the_node, ctx);
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    strcpy(world.dir, "/tmp/building.XXXXXX");
    world.vm_state = "building";
    world.host = "host-a";
    assert_non_null(mkdtemp(world.dir));
    world.conf.novashim.journal_path = world.dir;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_null(fs_remove_all(&fs_real, world.dir));
    return 0;
}

static void a_build_that_was_cut_off_ends_in_error(void **state)
{
    (void)state;
    world.task_state = "spawning";
    settle();
    assert_int_equal(world.n_local, 1);
    assert_int_equal(world.n_ports, 1);
    assert_int_equal(world.n_allocations, 1);
    assert_int_equal(world.n_usages, 1);
    assert_int_equal(world.n_faults, 1);
    assert_string_equal(world.saved_state, "error");
    assert_string_equal(world.saved_host, "");
    assert_false(is_noted());
}

static void one_whose_claim_was_not_recorded_too(void **state)
{
    (void)state;
    world.host = NULL;
    settle();
    assert_string_equal(world.saved_state, "error");
    world.provider = HERE;
    world.saved_state[0] = '\0';
    settle();
    assert_string_equal(world.saved_state, "error");
}

static void one_that_the_next_host_has_room_for_is_left_to_it(void **state)
{
    (void)state;
    world.host = NULL;
    world.task_state = "scheduling";
    world.provider = THERE;
    settle();
    assert_string_equal(world.saved_state, "");
    assert_int_equal(world.n_local + world.n_ports + world.n_allocations, 0);
    assert_false(is_noted());
}

static void a_server_that_is_active_or_elsewhere_is_left_alone(void **state)
{
    (void)state;
    world.vm_state = "active";
    settle();
    assert_int_equal(world.n_local, 0);
    assert_false(is_noted());
    world.vm_state = "building";
    world.host = "host-b";
    settle();
    assert_int_equal(world.n_local, 0);
    assert_false(is_noted());
}

static void one_that_is_being_deleted_is_left_to_that(void **state)
{
    (void)state;
    world.task_state = "deleting";
    settle();
    assert_int_equal(world.n_local, 0);
}

static void of_a_deleted_server_only_what_is_here_goes(void **state)
{
    (void)state;
    world.is_deleted = true;
    settle();
    assert_int_equal(world.n_local, 1);
    assert_int_equal(world.n_ports, 0);
    assert_string_equal(world.saved_state, "");
    assert_false(is_noted());
}

static void what_cannot_be_undone_is_tried_again(void **state)
{
    (void)state;
    world.guest_fails = true;
    settle();
    assert_true(is_noted());
    assert_string_equal(world.saved_state, "");
}

static void a_server_that_nobody_knows_is_forgotten(void **state)
{
    (void)state;
    world.is_missing = true;
    settle();
    assert_false(is_noted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_build_that_was_cut_off_ends_in_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_whose_claim_was_not_recorded_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_the_next_host_has_room_for_is_left_to_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_is_active_or_elsewhere_is_left_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_being_deleted_is_left_to_that, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(of_a_deleted_server_only_what_is_here_goes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_undone_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_that_nobody_knows_is_forgotten, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

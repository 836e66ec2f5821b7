/* link: driver_compute driver_libvirt vif pci rpc_rest rpc_amqp rpc_objects base */
#include "base/fault.h"
#include "driver/compute/building.h"
#include "driver/compute/group.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/notify.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SERVER "11111111-1111-4111-8111-111111111111"

/* ---- A world of our own: every step can fail, and what is there is counted ---- */

enum point { P_NONE, P_CLAIM, P_GROUP, P_NETWORK, P_DISKS, P_GUEST, P_RECORD, N_POINTS };

static struct {
    struct conf conf;
    enum point fails_at;
    enum err_kind kind;
    bool is_deleted_meanwhile; /* By the API: every save finds the task state "deleting". */
    int n_notes, n_claims, n_networks, n_disks, n_guests; /* What there is. */
    unsigned n_allocation_deletes, n_faults, n_finished, n_failed_builds, n_waits;
    char vm_state[32], task_state[32], host[32]; /* As saved last; "" for none. */
    char states[256];                            /* Task states in the order of their saves. */
    char fault[256];
    struct json_object *cast; /* To conductor. */
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

static struct err *reach(enum point p)
{
    return world.fails_at == p ? err_msg(world.kind, "planted") : NULL;
}

struct err *building_begin(struct node *node, const char *uuid)
{
    (void)node;
    assert_string_equal(uuid, SERVER);
    world.n_notes++;
    return NULL;
}

void building_end(struct node *node, const char *uuid)
{
    (void)node;
    (void)uuid;
    world.n_notes = 0;
}

struct err *tracker_claim_instance(struct tracker *t, const struct rctx *ctx, struct instance *inst,
                                   struct json_object *limits)
{
    (void)t;
    (void)ctx;
    (void)limits;
    instance_set_host(inst, "host-a");
    instance_set_node(inst, "host-a");
    world.n_claims++;
    return reach(P_CLAIM);
}

void tracker_abort_instance(struct tracker *t, const struct rctx *ctx, const char *uuid)
{
    (void)t;
    (void)ctx;
    assert_string_equal(uuid, SERVER);
    world.n_claims = 0;
}

void tracker_instance_changed(struct tracker *t, struct instance *inst, bool is_here)
{
    (void)t;
    (void)inst;
    assert_true(is_here);
}

void tracker_count_build(struct tracker *t, const struct rctx *ctx, bool has_failed)
{
    (void)t;
    (void)ctx;
    world.n_failed_builds += has_failed;
}

struct err *group_check(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    return reach(P_GROUP);
}

struct err *netalloc_create(struct node *node, const struct rctx *ctx, struct instance *inst,
                            struct network_request_list *requested,
                            struct json_object *security_groups, const struct request_spec *spec,
                            struct vif_list *ret)
{
    (void)spec;
    (void)node;
    (void)ctx;
    (void)inst;
    (void)requested;
    (void)security_groups;
    *ret = (struct vif_list){0};
    world.n_networks++;
    return reach(P_NETWORK);
}

struct err *netalloc_release(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
    world.n_networks = 0;
    return NULL;
}

struct err *spawn_make_disks(const struct spawn *s)
{
    (void)s;
    world.n_disks++;
    return reach(P_DISKS);
}

void spawn_note_config_drive(struct node *node, struct instance *inst)
{
    (void)node;
    (void)inst;
}

void spawn_remove_disks(const struct spawn *s)
{
    (void)s;
    world.n_disks = 0;
}

struct err *spawn_start_guest(const struct spawn *s)
{
    world.n_waits += s->waits_for_plug;
    world.n_guests++;
    return reach(P_GUEST);
}

struct err *spawn_destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct vif_list *vifs)
{
    (void)node;
    (void)ctx;
    (void)inst;
    (void)vifs;
    world.n_guests = 0;
    return NULL;
}

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    (void)node;
    (void)uuid;
    *ret = POWER_RUNNING;
    return reach(P_RECORD);
}

static void note(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    if (world.is_deleted_meanwhile && expected && world.n_claims) {
        return err_new(ERR_UNEXPECTED_DELETING_TASK_STATE, "instance_uuid", SERVER, NULL);
    }
    note(world.vm_state, sizeof(world.vm_state), instance_vm_state(inst));
    note(world.task_state, sizeof(world.task_state), instance_task_state(inst));
    note(world.host, sizeof(world.host), instance_host(inst));
    strcat(world.states, world.task_state[0] ? world.task_state : "-");
    strcat(world.states, " ");
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

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    (void)p;
    assert_string_equal(consumer, SERVER);
    world.n_allocation_deletes++;
    return NULL;
}

struct err *action_event_start(struct conductor *c, const struct rctx *ctx, const char *uuid,
                               const char *event, const char *host)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)host;
    assert_string_equal(event, "compute__do_build_and_run_instance");
    return NULL;
}

struct err *action_event_finish(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                const char *event, const struct err *exc)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)event;
    (void)exc;
    world.n_finished++;
    return NULL;
}

struct err *instance_fault_create(struct conductor *c, const struct rctx *ctx, const char *uuid,
                                  const char *host, const struct err *e)
{
    (void)c;
    (void)ctx;
    (void)uuid;
    (void)host;
    world.n_faults++;
    note(world.fault, sizeof(world.fault), err_message(e));
    return NULL;
}

void notify_instance_more(struct node *node, const struct rctx *ctx, struct instance *inst,
                          enum notify_action action, enum notify_phase phase,
                          const struct notify_more *more)
{
    assert_true((phase == NOTIFY_ERROR) == (more->fault != NULL));
    (void)node;
    (void)ctx;
    (void)inst;
    (void)action;
    (void)phase;
}

void notify_scheduler_update(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    (void)inst;
}

struct err *rpc_cast(struct rpc_client *client, const struct rctx *ctx, const struct rpc_target *t,
                     const char *method, struct json_object *args)
{
    (void)client;
    (void)ctx;
    assert_string_equal(t->topic, "conductor");
    assert_string_equal(method, "build_instances");
    jv_putp(&world.cast);
    world.cast = args;
    return NULL;
}

/* ---- Building ---- */

static void build(bool may_retry)
{
    struct node node = {.host = "host-a", .stopping = cancel_new()};
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(instance_freep) struct instance *inst = instance_new();
    CLEANUP(jv_putp) struct json_object *fp = json_object_new_object();
    CLEANUP(jv_putp) struct json_object *hosts = json_object_new_array();
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    struct json_object *hints = json_object_new_object();
    struct args_build_and_run_instance a = {.instance = inst, .filter_properties = fp};

    instance_set_uuid(inst, SERVER);
    instance_clear_system_metadata(inst);
    instance_set_host(inst, NULL);
    instance_set_access_ip_v4(inst, NULL);
    instance_set_access_ip_v6(inst, NULL);
    jv_add_str(hints, "group", "a group");
    jv_add(fp, "scheduler_hints", hints);
    if (may_retry) {
        jv_add(fp, "retry", json_object_new_object());
        a.host_list = hosts;
    }
    assert_null(compute_build_and_run_instance(&node, ctx, &a, &answer));
    cancel_free(node.stopping);
}

static int set_up(void **state)
{
    (void)state;
    jv_putp(&world.cast);
    memset(&world, 0, sizeof(world));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    jv_putp(&world.cast);
    return 0;
}

static void nothing_is_left(void)
{
    assert_int_equal(world.n_notes, 0);
    assert_int_equal(world.n_claims, 0);
    assert_int_equal(world.n_networks, 0);
    assert_int_equal(world.n_disks, 0);
    assert_int_equal(world.n_guests, 0);
    assert_string_equal(world.host, "");
}

static void a_server_passes_through_novas_states(void **state)
{
    (void)state;
    build(true);
    assert_string_equal(world.states, "- networking block_device_mapping spawning - ");
    assert_string_equal(world.vm_state, "active");
    assert_string_equal(world.host, "host-a");
    assert_int_equal(world.n_guests, 1);
    assert_int_equal(world.n_waits, 1);
    assert_int_equal(world.n_finished, 1);
    assert_int_equal(world.n_failed_builds, 0);
    assert_null(world.cast);
}

static void a_failure_at_any_step_is_undone_and_handed_back(void **state)
{
    for (enum point p = P_CLAIM; p < N_POINTS; p++) {
        set_up(state);
        world.fails_at = p;
        world.kind = ERR_COMPUTE_RESOURCES_UNAVAILABLE;
        build(true);
        nothing_is_left();
        assert_string_equal(world.task_state, "scheduling");
        assert_int_equal(world.n_allocation_deletes, 1);
        assert_int_equal(world.n_failed_builds, 1);
        assert_int_equal(world.n_faults, 0);
        assert_non_null(world.cast);
        struct json_object *retry = jv_get(jv_get(world.cast, "filter_properties"), "retry");

        assert_non_null(
            strstr(json_object_get_string(jv_get(retry, "exc_reason")), "re-scheduled: planted"));
    }
}

static void a_fault_planted_around_any_step_is_undone_and_handed_back(void **state)
{
    static const char *const steps[] = {"note",  "claim", "group", "network",
                                        "disks", "guest", "record"};

    for (size_t i = 0; i < 2 * ARRAY_SIZE(steps); i++) {
        CLEANUP(freep)
        char *plan = str_printf("build.%s%s=fail", steps[i / 2], i % 2 ? ".after" : "");

        set_up(state);
        assert_null(fault_init(plan));
        build(true);
        nothing_is_left();
        assert_string_equal(world.vm_state, "building");
        assert_string_equal(world.task_state, "scheduling");
        assert_non_null(world.cast);
    }
    assert_null(fault_init(NULL));
}

static void what_cannot_be_handed_back_stays_noted(void **state)
{
    static const char *const plans[] = {"reschedule.record=fail", "reschedule.allocations=fail",
                                        "reschedule.cast=fail",
                                        /* Conductor has it, only we do not know. */
                                        "reschedule.cast.after=fail"};

    for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
        set_up(state);
        assert_null(fault_init(plans[i]));
        world.fails_at = P_DISKS;
        world.kind = ERR_LIBVIRT;
        build(true);
        assert_int_equal(world.n_notes, 1);
        assert_int_equal(world.n_claims + world.n_networks + world.n_disks, 0);
        assert_int_equal(world.cast != NULL, i == ARRAY_SIZE(plans) - 1);
        assert_int_equal(world.n_finished, 1);
    }
    assert_null(fault_init(NULL));
}

static void what_would_fail_anywhere_ends_in_error(void **state)
{
    static const enum err_kind kinds[] = {ERR_IMAGE_UNACCEPTABLE, ERR_FLAVOR_DISK_TOO_SMALL,
                                          ERR_NO_MORE_FIXED_IPS, ERR_VIF_CREATE, ERR_BUILD_ABORT};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        set_up(state);
        world.fails_at = P_DISKS;
        world.kind = kinds[i];
        build(true);
        nothing_is_left();
        assert_null(world.cast);
        assert_string_equal(world.vm_state, "error");
        assert_string_equal(world.task_state, "");
        assert_string_equal(world.fault, "planted");
        assert_int_equal(world.n_allocation_deletes, 1);
    }
}

static void without_another_host_it_ends_in_error(void **state)
{
    (void)state;
    world.fails_at = P_GUEST;
    world.kind = ERR_LIBVIRT;
    build(false);
    nothing_is_left();
    assert_null(world.cast);
    assert_string_equal(world.vm_state, "error");
    assert_int_equal(world.n_faults, 1);
    assert_int_equal(world.n_allocation_deletes, 1);
}

static void a_server_deleted_meanwhile_is_undone_and_not_written(void **state)
{
    (void)state;
    world.is_deleted_meanwhile = true;
    build(true);
    assert_int_equal(world.n_claims + world.n_networks + world.n_disks + world.n_guests, 0);
    assert_null(world.cast);
    assert_int_equal(world.n_faults, 0);
    assert_string_equal(world.vm_state, "building");
    assert_int_equal(world.n_finished, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_passes_through_novas_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failure_at_any_step_is_undone_and_handed_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_fault_planted_around_any_step_is_undone_and_handed_back,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_handed_back_stays_noted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_would_fail_anywhere_ends_in_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_another_host_it_ends_in_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_deleted_meanwhile_is_undone_and_not_written,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

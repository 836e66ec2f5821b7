/* link: driver_compute */
#include "base/clock.h"
#include "driver/compute/chore.h"
#include "driver/compute/moves.h"
#include "driver/compute/reap.h"
#include "driver/compute/terminate.h"
#include "driver/libvirt/server_disks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* What conductor and libvirt know of the one server, and what is done about it. */
static struct {
    struct conf conf;
    const char *host, *vm_state, *task_state;
    bool is_deleted, is_cleaned;
    int64_t age_s; /* Since it was deleted; -1: nobody knows. */
    const char *attempts;
    const char *host_at_last; /* Of the second look; NULL: as before. */
    bool has_guest, moves;
    enum lv_state guest;
    bool removal_fails;
    size_t n_migrations;
    struct json_object *filters;
    char log[512]; /* Calls, in their order. */
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

/* ---- Conductor ---- */

static struct instance *server(const char *host)
{
    struct instance *inst = instance_new();
    CLEANUP(freep) char *when = clock_iso_of(clock_wall_s() - world.age_s);

    instance_set_uuid(inst, UUID);
    instance_set_host(inst, host);
    instance_set_vm_state(inst, world.vm_state);
    instance_set_task_state(inst, world.task_state);
    instance_set_deleted(inst, world.is_deleted);
    instance_set_deleted_at(inst, world.age_s < 0 ? NULL : when);
    instance_set_cleaned(inst, world.is_cleaned);
    instance_clear_system_metadata(inst);
    if (world.attempts) {
        instance_system_metadata_put(inst, "clean_attempts", world.attempts);
    }
    ovo_reset_changes(instance_ovo(inst), false);
    return inst;
}

/* Deleted records are seen only by who asks for them. */
static bool sees_deleted(const struct rctx *ctx)
{
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();

    rctx_to_payload(ctx, payload, /* for_notification= */ false);
    return str_eq(json_object_get_string(jv_get(payload, "_context_read_deleted")), "yes");
}

struct err *instance_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                     struct json_object *filters, const char *const *attrs,
                                     struct instance_list **ret)
{
    (void)c;
    (void)attrs;
    jv_putp(&world.filters);
    world.filters = filters;
    *ret = instance_list_new();
    if (!world.is_deleted || sees_deleted(ctx)) {
        instance_list_add(*ret, server(world.host));
    }
    return NULL;
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)attrs;
    assert_string_equal(uuid, UUID);
    if (world.is_deleted && !sees_deleted(ctx)) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = server(world.host_at_last ? world.host_at_last : world.host);
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    assert_true(sees_deleted(ctx));
    assert_null(expected);
    note("save(cleaned %d attempts %s) ", instance_cleaned(inst),
         instance_system_metadata_get(inst, "clean_attempts"));
    return NULL;
}

struct err *migration_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                      struct json_object *filters, struct migration_list **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(json_object_get_string(jv_get(filters, "host")), "here");
    assert_string_equal(json_object_get_string(jv_get(filters, "status")), "error");
    json_object_put(filters);
    *ret = migration_list_new();
    for (size_t i = 0; i < world.n_migrations; i++) {
        struct migration *m = migration_new();

        migration_set_instance_uuid(m, UUID);
        migration_list_add(*ret, m);
    }
    return NULL;
}

struct err *migration_save(struct conductor *c, const struct rctx *ctx, struct migration *m)
{
    (void)c;
    (void)ctx;
    note("migration(%s) ", migration_status(m));
    return NULL;
}

struct err *console_auths_clean_expired(struct conductor *c, const struct rctx *ctx)
{
    (void)c;
    (void)ctx;
    note("tokens ");
    return NULL;
}

/* ---- Libvirt ---- */

struct err *lv_domain_uuids(struct lv_conn *conn, struct strv *ret)
{
    (void)conn;
    if (world.has_guest) {
        strv_add(ret, UUID);
    }
    return NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *conn, const char *uuid, struct lv_domain **ret)
{
    (void)conn;
    if (!world.has_guest) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = mem_alloc(1);
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    free(d);
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    (void)d;
    assert_null(ret_reason);
    *ret = world.guest;
    return NULL;
}

struct err *lv_domain_destroy(struct lv_domain *d)
{
    (void)d;
    note("off ");
    return NULL;
}

/* ---- What else there is ---- */

struct move *moves_find(struct moves *moves, const char *uuid)
{
    (void)moves;
    (void)uuid;
    return world.moves ? mem_alloc(1) : NULL;
}

struct move *move_free(struct move *mv)
{
    free(mv);
    return NULL;
}

struct err *terminate_now(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    (void)ctx;
    assert_string_equal(instance_uuid(inst), UUID);
    note("terminate ");
    return NULL;
}

struct err *terminate_local_guest(struct node *node, const struct rctx *ctx, struct instance *inst)
{
    (void)node;
    assert_true(sees_deleted(ctx));
    assert_string_equal(instance_uuid(inst), UUID);
    note("reap ");
    return NULL;
}

struct err *server_disks_remove(const struct conf *conf, const char *uuid)
{
    assert_ptr_equal(conf, &world.conf);
    assert_string_equal(uuid, UUID);
    note("files ");
    return world.removal_fails ? err_msg(ERR_INTERNAL, "busy") : NULL;
}

static int set_up(void **state)
{
    struct node *node = NEW(struct node);

    memset(&world, 0, sizeof(world));
    world.host = "here";
    world.vm_state = "deleted";
    world.is_deleted = true;
    world.age_s = 100;
    world.has_guest = true;
    world.guest = LV_RUNNING;
    world.conf.dflt.reclaim_instance_interval = 60;
    world.conf.dflt.running_deleted_instance_action = "reap";
    world.conf.dflt.maximum_instance_delete_attempts = 5;
    node->host = "here";
    node->tasks = task_pool_new();
    node->chores = chores_new();
    *state = node;
    return 0;
}

static int tear_down(void **state)
{
    struct node *node = *state;

    task_pool_free(node->tasks);
    chores_free(node->chores);
    jv_putp(&world.filters);
    free(node);
    return 0;
}

/* Runs a job and what it submits. */
static const char *run(struct node *node, struct err *(*job)(struct node *, const struct rctx *))
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    world.log[0] = '\0';
    assert_null(job(node, ctx));
    task_pool_free(node->tasks);
    node->tasks = task_pool_new();
    return world.log;
}

static void assert_filters(const char *expected)
{
    CLEANUP(freep) char *text = jv_text(world.filters);

    assert_string_equal(text, expected);
}

/* ---- Who is reaped ---- */

static void who_is_reaped_depends_on_state_host_and_time(void **state)
{
    static const struct {
        const char *host, *vm_state, *task_state;
        bool is_deleted, is_cleaned;
        int64_t age_s;
        const char *attempts;
        bool reclaim, zombie, files;
    } rows[] = {
        {"here", "soft-delete", NULL, false, false, 100, NULL, true, false, false},
        {"here", "soft-delete", NULL, false, false, -1, NULL, true, false, false},
        {"here", "soft-delete", NULL, false, false, 10, NULL, false, false, false},
        {"here", "soft-delete", "restoring", false, false, 100, NULL, false, false, false},
        {"there", "soft-delete", NULL, false, false, 100, NULL, false, false, false},
        {"here", "active", NULL, false, false, 100, NULL, false, false, false},
        {"here", "active", NULL, false, false, -1, NULL, false, false, false},
        {"here", "deleted", NULL, true, false, 100, NULL, false, true, true},
        {"here", "deleted", NULL, true, false, -1, NULL, false, true, true},
        {"here", "deleted", NULL, true, false, 10, NULL, false, false, true},
        {"here", "soft-delete", NULL, true, false, 100, NULL, true, false, false},
        {"there", "deleted", NULL, true, false, 100, NULL, false, true, false},
        {NULL, "deleted", NULL, true, false, 100, NULL, false, true, false},
        {"here", "deleted", NULL, true, true, 100, NULL, false, true, false},
        {"here", "deleted", NULL, true, false, 100, "4", false, true, true},
        {"here", "deleted", NULL, true, false, 100, "5", false, true, false},
        {"here", "deleted", NULL, true, false, 100, "many", false, true, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int64_t now_s = clock_wall_s();

        world.vm_state = rows[i].vm_state;
        world.task_state = rows[i].task_state;
        world.is_deleted = rows[i].is_deleted;
        world.is_cleaned = rows[i].is_cleaned;
        world.age_s = rows[i].age_s;
        world.attempts = rows[i].attempts;
        CLEANUP(instance_freep) struct instance *inst = server(rows[i].host);

        assert_int_equal(reap_is_reclaimable(inst, "here", 60, now_s), rows[i].reclaim);
        assert_int_equal(reap_is_zombie(inst, 60, now_s), rows[i].zombie);
        assert_int_equal(reap_has_files(inst, "here", 5), rows[i].files);
    }
}

static void a_record_without_fields_is_left_alone(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new();

    (void)state;
    assert_false(reap_is_reclaimable(inst, "here", 0, INT64_MAX));
    assert_false(reap_is_zombie(inst, 0, INT64_MAX));
    assert_false(reap_has_files(inst, "here", 5));
}

/* ---- Soft-deleted servers ---- */

static void a_soft_deleted_server_is_reclaimed_after_its_time(void **state)
{
    world.is_deleted = false;
    world.vm_state = "soft-delete";
    assert_string_equal(run(*state, reap_queued_deletes), "terminate ");
    assert_filters("{\"vm_state\":\"soft-delete\",\"task_state\":null,\"host\":\"here\"}");
    world.age_s = 10;
    assert_string_equal(run(*state, reap_queued_deletes), "");
}

static void a_server_that_was_restored_meanwhile_is_kept(void **state)
{
    world.is_deleted = false;
    world.vm_state = "soft-delete";
    world.host_at_last = "there";
    assert_string_equal(run(*state, reap_queued_deletes), "");
}

/* ---- Guests of deleted servers ---- */

static void the_guest_of_a_deleted_server_is_reaped(void **state)
{
    assert_string_equal(run(*state, reap_running_deleted), "reap ");
    assert_filters("{\"deleted\":true,\"soft_deleted\":false,\"uuid\":[\"" UUID "\"]}");
}

static void what_happens_to_it_is_the_option_s(void **state)
{
    world.conf.dflt.running_deleted_instance_action = "noop";
    assert_string_equal(run(*state, reap_running_deleted), "");
    assert_null(world.filters);
    world.conf.dflt.running_deleted_instance_action = "log";
    assert_string_equal(run(*state, reap_running_deleted), "");
    assert_non_null(world.filters);
    world.conf.dflt.running_deleted_instance_action = "shutdown";
    assert_string_equal(run(*state, reap_running_deleted), "off ");
    world.guest = LV_SHUTOFF;
    assert_string_equal(run(*state, reap_running_deleted), "");
}

static void a_guest_is_reaped_after_running_deleted_instance_timeout(void **state)
{
    world.conf.dflt.running_deleted_instance_timeout = 200;
    assert_string_equal(run(*state, reap_running_deleted), "");
    world.conf.dflt.running_deleted_instance_timeout = 20;
    assert_string_equal(run(*state, reap_running_deleted), "reap ");
}

static void a_server_that_is_not_deleted_keeps_its_guest(void **state)
{
    world.is_deleted = false;
    world.vm_state = "active";
    assert_string_equal(run(*state, reap_running_deleted), "");
}

static void a_guest_that_moves_is_the_move_s(void **state)
{
    world.moves = true;
    assert_string_equal(run(*state, reap_running_deleted), "");
}

static void a_host_without_guests_asks_nobody(void **state)
{
    world.has_guest = false;
    assert_string_equal(run(*state, reap_running_deleted), "");
    assert_null(world.filters);
}

/* ---- Files ---- */

static void the_files_of_a_deleted_server_are_removed(void **state)
{
    world.has_guest = false;
    assert_string_equal(run(*state, reap_files), "files save(cleaned 1 attempts 1) ");
    assert_filters("{\"deleted\":true,\"soft_deleted\":false,\"host\":\"here\",\"cleaned\":false}");
}

static void a_failed_removal_is_tried_again_and_counted(void **state)
{
    world.has_guest = false;
    world.attempts = "3";
    world.removal_fails = true;
    assert_string_equal(run(*state, reap_files), "files save(cleaned 0 attempts 4) ");
    world.attempts = "5";
    assert_string_equal(run(*state, reap_files), "");
}

static void a_guest_that_is_here_keeps_its_files(void **state)
{
    assert_string_equal(run(*state, reap_files), "");
    world.host = "there";
    world.n_migrations = 1;
    assert_string_equal(run(*state, reap_failed_moves), "");
}

/* ---- Moves that failed ---- */

static void a_failed_move_of_a_deleted_server_leaves_no_files(void **state)
{
    world.has_guest = false;
    world.host = "there";
    world.n_migrations = 2;
    assert_string_equal(run(*state, reap_failed_moves),
                        "files migration(failed) migration(failed) ");
    assert_filters("{\"deleted\":true,\"soft_deleted\":false,\"uuid\":[\"" UUID "\"]}");
}

static void only_what_is_deleted_elsewhere_is_left_over(void **state)
{
    world.has_guest = false;
    assert_string_equal(run(*state, reap_failed_moves), "");
    assert_null(world.filters); /* No move failed. */
    world.n_migrations = 1;
    assert_string_equal(run(*state, reap_failed_moves), "");
    world.host = "there";
    world.is_deleted = false;
    assert_string_equal(run(*state, reap_failed_moves), "");
}

static void expired_tokens_are_conductor_s_to_find(void **state)
{
    assert_string_equal(run(*state, reap_console_tokens), "tokens ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_is_reaped_depends_on_state_host_and_time),
        TEST(a_record_without_fields_is_left_alone),
        TEST(a_soft_deleted_server_is_reclaimed_after_its_time),
        TEST(a_server_that_was_restored_meanwhile_is_kept),
        TEST(the_guest_of_a_deleted_server_is_reaped),
        TEST(what_happens_to_it_is_the_option_s),
        TEST(a_guest_is_reaped_after_running_deleted_instance_timeout),
        TEST(a_server_that_is_not_deleted_keeps_its_guest),
        TEST(a_guest_that_moves_is_the_move_s),
        TEST(a_host_without_guests_asks_nobody),
        TEST(the_files_of_a_deleted_server_are_removed),
        TEST(a_failed_removal_is_tried_again_and_counted),
        TEST(a_guest_that_is_here_keeps_its_files),
        TEST(a_failed_move_of_a_deleted_server_leaves_no_files),
        TEST(only_what_is_deleted_elsewhere_is_left_over),
        TEST(expired_tokens_are_conductor_s_to_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

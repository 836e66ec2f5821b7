/* link: driver_compute */
#include "base/fs.h"
#include "driver/compute/chore.h"
#include "driver/compute/evacuated.h"
#include "driver/compute/network.h"
#include "driver/compute/peer.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
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
#define NODE "aaaaaaaa-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* The one server, its evacuation, and what is done about it. */
static struct {
    struct conf conf;
    char dir[32];
    const char *host, *task_state;
    const char *status; /* Of the evacuation; NULL: there is none. */
    const char *source_node;
    bool is_deleted, has_guest;
    bool is_shared, peer_is_away, placement_is_away;
    unsigned n_asked; /* Questions to conductor. */
    char log[256];    /* What was done, in order. */
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

static struct migration *evacuation(const char *status)
{
    struct migration *m = migration_new();

    migration_set_instance_uuid(m, UUID);
    migration_set_status(m, status);
    migration_set_source_compute(m, "here");
    migration_set_source_node(m, world.source_node);
    return m;
}

static struct instance *server(void)
{
    struct instance *inst = instance_new();

    instance_set_uuid(inst, UUID);
    instance_set_host(inst, world.host);
    instance_set_task_state(inst, world.task_state);
    return inst;
}

struct err *migration_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                      struct json_object *filters, struct migration_list **ret)
{
    CLEANUP(freep) char *text = jv_text(filters);

    (void)c;
    (void)ctx;
    assert_string_equal(text, "{\"source_compute\":\"here\",\"status\":[\"accepted\","
                              "\"pre-migrating\",\"done\"],\"migration_type\":\"evacuation\"}");
    json_object_put(filters);
    world.n_asked++;
    *ret = migration_list_new();
    if (world.status) {
        migration_list_add(*ret, evacuation(world.status));
    }
    return NULL;
}

struct err *instance_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                     struct json_object *filters, const char *const *attrs,
                                     struct instance_list **ret)
{
    CLEANUP(freep) char *text = jv_text(filters);

    (void)c;
    (void)ctx;
    assert_string_equal(*attrs, "info_cache");
    assert_string_equal(text, "{\"uuid\":[\"" UUID "\"]}");
    json_object_put(filters);
    *ret = instance_list_new();
    if (!world.is_deleted) {
        instance_list_add(*ret, server());
    }
    return NULL;
}

struct err *migration_save(struct conductor *c, const struct rctx *ctx, struct migration *m)
{
    (void)c;
    (void)ctx;
    note("%s ", migration_status(m));
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

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    (void)inst;
    *ret = (struct vif_list){0};
    return NULL;
}

struct err *spawn_destroy_guest(struct node *node, const struct rctx *ctx, struct instance *inst,
                                const struct vif_list *vifs)
{
    (void)node;
    (void)ctx;
    (void)vifs;
    assert_string_equal(instance_uuid(inst), UUID);
    note("destroy ");
    return NULL;
}

/* A host that is asked must not be this one: its queue is not open. */
struct err *peer_check_shared_storage(struct node *node, const struct rctx *ctx, const char *host,
                                      const char *file, bool *ret)
{
    (void)ctx;
    assert_string_not_equal(host, node->host);
    assert_true(fs_exists(&fs_real, file));
    note("ask(%s) ", host);
    *ret = world.is_shared;
    return world.peer_is_away ? err_msg(ERR_TIMEOUT, "no answer") : NULL;
}

char *disk_instance_dir(const struct conf *conf, const char *uuid)
{
    return str_printf("%s/%s", conf->dflt.instances_path, uuid);
}

struct err *server_disks_remove(const struct conf *conf, const char *uuid)
{
    CLEANUP(freep) char *dir = disk_instance_dir(conf, uuid);

    note("files ");
    return fs_remove_all(&fs_real, dir);
}

const char *tracker_nodename(struct tracker *t)
{
    (void)t;
    return "node.here";
}

const char *tracker_node_uuid(struct tracker *t)
{
    (void)t;
    return NODE;
}

struct err *placement_drop_tree(struct placement *p, const char *consumer, const char *root)
{
    (void)p;
    assert_string_equal(consumer, UUID);
    assert_string_equal(root, NODE);
    note("allocations ");
    return world.placement_is_away ? err_msg(ERR_HTTP, "503") : NULL;
}

static int set_up(void **state)
{
    struct node *node = NEW(struct node);

    memset(&world, 0, sizeof(world));
    strcpy(world.dir, "/tmp/test_evacuated.XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    world.conf.dflt.instances_path = world.dir;
    world.host = "there";
    world.status = "done";
    world.source_node = "node.here";
    world.has_guest = true;
    CLEANUP(freep) char *dir = str_printf("%s/" UUID, world.dir);

    assert_null(fs_mkdir_all(&fs_real, dir, 0755));
    node->host = "here";
    node->chores = chores_new();
    *state = node;
    return 0;
}

static int tear_down(void **state)
{
    struct node *node = *state;

    assert_null(fs_remove_all(&fs_real, world.dir));
    chores_free(node->chores);
    free(node);
    return 0;
}

static bool has_files(void)
{
    CLEANUP(freep) char *dir = str_printf("%s/" UUID, world.dir);
    CLEANUP(strv_fini) struct strv names = {0};

    if (!fs_is_dir(&fs_real, dir)) {
        return false;
    }
    assert_null(fs_list(&fs_real, dir, &names));
    assert_int_equal(names.n, 0); /* The file of the question is gone. */
    return true;
}

/* A start.  Returns whether the server is to be left alone. */
static bool start(struct node *node)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(strv_fini) struct strv open = {0};

    world.log[0] = '\0';
    assert_null(evacuated_clean(node, ctx, &open));
    assert_true(open.n <= 1);
    return strv_has(&open, UUID);
}

static void look_again(struct node *node)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    world.log[0] = '\0';
    assert_null(evacuated_look_again(node, ctx));
}

static void what_has_become_of_it(void **state)
{
    static const struct {
        const char *status, *host, *task_state;
        enum evacuated what;
    } rows[] = {
        {"accepted", "here", "rebuilding", EVACUATED_UNDER_WAY},
        {"pre-migrating", "here", "rebuild_spawning", EVACUATED_UNDER_WAY},
        {"accepted", "here", NULL, EVACUATED_UNDER_WAY},
        {"done", "there", NULL, EVACUATED_GONE},
        {"pre-migrating", "there", NULL, EVACUATED_GONE},
        {"done", NULL, NULL, EVACUATED_GONE},
        {"done", "here", NULL, EVACUATED_BACK},
        {"done", "here", "migrating", EVACUATED_BACK},
        {"done", "there", "migrating", EVACUATED_MOVING},
        {"done", "there", "resize_migrating", EVACUATED_MOVING},
        {"accepted", "here", "migrating", EVACUATED_MOVING},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        world.host = rows[i].host;
        world.task_state = rows[i].task_state;
        CLEANUP(migration_freep) struct migration *m = evacuation(rows[i].status);
        CLEANUP(instance_freep) struct instance *inst = server();

        assert_int_equal(evacuated_judge(m, inst, "here"), rows[i].what);
    }
}

static void a_server_that_lives_elsewhere_leaves_nothing(void **state)
{
    assert_false(start(*state));
    assert_string_equal(world.log, "destroy ask(there) files allocations completed ");
    assert_false(has_files());
}

static void shared_files_stay(void **state)
{
    world.is_shared = true;
    start(*state);
    assert_string_equal(world.log, "destroy ask(there) allocations completed ");
    assert_true(has_files());
}

static void files_stay_if_nobody_can_say_whether_they_are_shared(void **state)
{
    world.peer_is_away = true;
    start(*state);
    assert_string_equal(world.log, "destroy ask(there) allocations completed ");
    assert_true(has_files());
    world.peer_is_away = false;
    world.host = NULL; /* Shelved since. */
    start(*state);
    assert_string_equal(world.log, "destroy allocations completed ");
    assert_true(has_files());
}

static void an_evacuation_under_way_takes_the_guest_alone(void **state)
{
    static const char *const statuses[] = {"accepted", "pre-migrating"};

    world.host = "here";
    world.task_state = "rebuilding";
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        world.status = statuses[i];
        assert_true(start(*state));
        assert_string_equal(world.log, "destroy ");
        assert_true(has_files());
    }
}

static void how_it_ended_is_looked_at_later(void **state)
{
    world.host = "here";
    world.status = "accepted";
    assert_true(start(*state));
    look_again(*state); /* Whoever has started the guest again meant it. */
    assert_string_equal(world.log, "");
    world.host = "there";
    world.status = "done";
    world.has_guest = false;
    look_again(*state);
    assert_string_equal(world.log, "ask(there) files allocations completed ");
    world.n_asked = 0;
    look_again(*state);
    assert_int_equal(world.n_asked, 0);
}

static void without_evacuations_nobody_is_asked_again(void **state)
{
    world.status = NULL;
    assert_false(start(*state));
    assert_int_equal(world.n_asked, 1);
    look_again(*state);
    assert_int_equal(world.n_asked, 1);
    assert_string_equal(world.log, "");
}

static void a_server_that_came_back_keeps_its_guest(void **state)
{
    world.host = "here";
    assert_false(start(*state));
    assert_string_equal(world.log, "completed ");
    assert_true(has_files());
}

static void a_server_on_the_move_is_left_alone(void **state)
{
    world.task_state = "migrating";
    assert_false(start(*state));
    assert_string_equal(world.log, "");
    assert_true(has_files());
}

static void what_was_deleted_meanwhile_is_for_the_reaper(void **state)
{
    world.is_deleted = true;
    assert_false(start(*state));
    assert_string_equal(world.log, "");
}

static void a_server_without_guest_only_loses_its_records(void **state)
{
    CLEANUP(freep) char *dir = str_printf("%s/" UUID, world.dir);

    world.has_guest = false;
    assert_null(fs_remove_all(&fs_real, dir));
    start(*state);
    assert_string_equal(world.log, "allocations completed ");
}

static void what_failed_is_tried_again_later(void **state)
{
    world.placement_is_away = true;
    start(*state);
    assert_string_equal(world.log, "destroy ask(there) files allocations ");
    world.placement_is_away = false;
    world.has_guest = false;
    look_again(*state);
    assert_string_equal(world.log, "allocations completed ");
}

static void another_node_s_allocations_are_not_touched(void **state)
{
    world.source_node = "node.renamed";
    start(*state);
    assert_string_equal(world.log, "destroy ask(there) files ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_has_become_of_it),
        TEST(a_server_that_lives_elsewhere_leaves_nothing),
        TEST(shared_files_stay),
        TEST(files_stay_if_nobody_can_say_whether_they_are_shared),
        TEST(an_evacuation_under_way_takes_the_guest_alone),
        TEST(how_it_ended_is_looked_at_later),
        TEST(without_evacuations_nobody_is_asked_again),
        TEST(a_server_that_came_back_keeps_its_guest),
        TEST(a_server_on_the_move_is_left_alone),
        TEST(what_was_deleted_meanwhile_is_for_the_reaper),
        TEST(a_server_without_guest_only_loses_its_records),
        TEST(what_failed_is_tried_again_later),
        TEST(another_node_s_allocations_are_not_touched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

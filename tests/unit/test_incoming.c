/* link: driver_compute */
#include "base/fs.h"
#include "driver/compute/incoming.h"
#include "driver/compute/live.h"
#include "driver/compute/network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* What conductor knows of the server, and what is done about it. */
static struct {
    struct conf conf;
    char dir[32];
    const char *host;   /* Of the server; NULL: it was deleted. */
    const char *dest;   /* Of its migration; NULL: it has none. */
    const char *status; /* Of the migration. */
    bool is_away;       /* Conductor does not answer. */
    int n_cleaned;
    bool destroyed_disks;
    unsigned n_arrived;
    char source[16];
} world;

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)ctx;
    (void)attrs;
    assert_string_equal(uuid, UUID);
    if (world.is_away) {
        return err_msg(ERR_TIMEOUT, "no answer");
    }
    if (!world.host) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = instance_new();
    instance_set_uuid(*ret, uuid);
    instance_set_host(*ret, world.host);
    return NULL;
}

struct err *migration_list_by_filters(struct conductor *c, const struct rctx *ctx,
                                      struct json_object *filters, struct migration_list **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(json_object_get_string(jv_get(filters, "instance_uuid")), UUID);
    json_object_put(filters);
    *ret = migration_list_new();
    if (world.dest) {
        struct migration *m = migration_new();

        migration_set_dest_compute(m, world.dest);
        migration_set_status(m, world.status);
        migration_list_add(*ret, m);
    }
    return NULL;
}

struct err *network_cached_vifs(struct instance *inst, struct vif_list *ret)
{
    (void)inst;
    *ret = (struct vif_list){0};
    return NULL;
}

struct err *network_arrive(struct node *node, const struct rctx *ctx, struct instance *inst,
                           const char *source)
{
    (void)node;
    (void)ctx;
    assert_string_equal(instance_uuid(inst), UUID);
    world.n_arrived++;
    strncpy(world.source, source, sizeof(world.source) - 1);
    return NULL;
}

struct err *network_clear_migrating_to(struct node *node, struct instance *inst)
{
    (void)node;
    (void)inst;
    return NULL;
}

void live_clean_destination(struct node *node, const struct rctx *ctx, struct instance *inst,
                            const struct vif_list *vifs, bool destroy_disks)
{
    (void)ctx;
    (void)vifs;
    assert_string_equal(instance_uuid(inst), UUID);
    world.n_cleaned++;
    world.destroyed_disks = destroy_disks;
    incoming_end(node, UUID);
}

static int set_up(void **state)
{
    struct node *node = NEW(struct node);

    memset(&world, 0, sizeof(world));
    strcpy(world.dir, "/tmp/test_incoming.XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    world.conf.novashim.journal_path = world.dir;
    node->host = "here";
    *state = node;
    return 0;
}

static int tear_down(void **state)
{
    assert_null(fs_remove_all(&fs_real, world.dir));
    free(*state);
    return 0;
}

static bool is_noted(struct node *node)
{
    bool owns_dir;
    CLEANUP(err_freep) struct err *e = incoming_read(node, UUID, &owns_dir);

    assert_true(!e || err_is(e, ERR_NOT_FOUND));
    return !e;
}

/* A move to us was prepared; then comes a restart. */
static void begin_and_settle(struct node *node, bool owns_dir)
{
    assert_null(incoming_begin(node, UUID, "there", owns_dir));
    incoming_settle(node, NULL);
}

static void a_note_is_kept_until_the_end(void **state)
{
    bool owns_dir = false;

    assert_false(is_noted(*state));
    assert_null(incoming_begin(*state, UUID, "there", true));
    assert_null(incoming_read(*state, UUID, &owns_dir));
    assert_true(owns_dir);
    assert_null(incoming_begin(*state, UUID, "there", false));
    assert_null(incoming_read(*state, UUID, &owns_dir));
    assert_false(owns_dir);
    incoming_end(*state, UUID);
    assert_false(is_noted(*state));
    incoming_end(*state, UUID);
}

static void a_server_that_is_ours_by_now_only_lacks_its_ports(void **state)
{
    world.host = "here";
    begin_and_settle(*state, true);
    assert_false(is_noted(*state));
    assert_int_equal(world.n_cleaned, 0);
    assert_int_equal(world.n_arrived, 1);
    assert_string_equal(world.source, "there");
}

static void a_move_that_goes_on_is_left_alone(void **state)
{
    static const char *const statuses[] = {"accepted", "queued", "preparing", "running",
                                           "running (post-copy)"};

    world.host = "there";
    world.dest = "here";
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        world.status = statuses[i];
        begin_and_settle(*state, true);
        assert_true(is_noted(*state));
    }
    assert_int_equal(world.n_cleaned, 0);
}

static void what_a_failed_move_left_is_removed(void **state)
{
    world.host = "there";
    world.dest = "here";
    world.status = "error";
    begin_and_settle(*state, true);
    assert_int_equal(world.n_cleaned, 1);
    assert_true(world.destroyed_disks);
    assert_false(is_noted(*state));
}

static void a_shared_directory_is_not_ours_to_remove(void **state)
{
    world.host = "there";
    begin_and_settle(*state, false);
    assert_int_equal(world.n_cleaned, 1);
    assert_false(world.destroyed_disks);
}

static void a_move_to_another_host_does_not_count(void **state)
{
    world.host = "there";
    world.dest = "elsewhere";
    world.status = "running";
    begin_and_settle(*state, true);
    assert_int_equal(world.n_cleaned, 1);
}

static void nothing_is_decided_without_conductor(void **state)
{
    world.is_away = true;
    begin_and_settle(*state, true);
    assert_true(is_noted(*state));
    assert_int_equal(world.n_cleaned, 0);
    world.is_away = false;
    world.host = "here";
    incoming_settle(*state, NULL);
    assert_false(is_noted(*state));
}

static void the_note_of_a_deleted_server_goes(void **state)
{
    begin_and_settle(*state, true);
    assert_false(is_noted(*state));
}

static void strange_files_are_left_alone(void **state)
{
    CLEANUP(freep) char *odd = str_printf("%s/incoming/odd", world.dir);
    CLEANUP(freep) char *damaged = str_printf("%s/incoming/" UUID, world.dir);

    incoming_settle(*state, NULL); /* No directory yet. */
    world.host = "there";
    begin_and_settle(*state, true);
    assert_null(fs_write_atomic(&fs_real, odd, "x", 1, 0600));
    assert_null(fs_write_atomic(&fs_real, damaged, "x", 1, 0600));
    world.n_cleaned = 0;
    incoming_settle(*state, NULL);
    assert_int_equal(world.n_cleaned, 0);
    assert_int_equal(access(odd, F_OK), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_note_is_kept_until_the_end),
        TEST(a_server_that_is_ours_by_now_only_lacks_its_ports),
        TEST(a_move_that_goes_on_is_left_alone),
        TEST(what_a_failed_move_left_is_removed),
        TEST(a_shared_directory_is_not_ours_to_remove),
        TEST(a_move_to_another_host_does_not_count),
        TEST(nothing_is_decided_without_conductor),
        TEST(the_note_of_a_deleted_server_goes),
        TEST(strange_files_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

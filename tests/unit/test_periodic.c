/* link: driver_compute */
#include "base/clock.h"
#include "driver/compute/evacuated.h"
#include "driver/compute/imagepass.h"
#include "driver/compute/incoming.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/netcare.h"
#include "driver/compute/notify.h"
#include "driver/compute/periodic.h"
#include "driver/compute/poll.h"
#include "driver/compute/reap.h"
#include "driver/compute/service.h"
#include "driver/compute/tracker.h"
#include "driver/compute/usage_audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct conf conf;
    struct loop *loop;
    atomic_uint n_reports, n_syncs, n_reaped;
    atomic_bool overlaps, is_in;
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

static void quit(void *arg)
{
    loop_quit(arg);
}

/* The heartbeat is the slow job here: it comes by every second and takes longer. */
void service_report(struct node *node, const struct rctx *ctx)
{
    (void)ctx;
    world.overlaps = world.overlaps || atomic_exchange(&world.is_in, true);
    if (++world.n_reports == 2) {
        loop_post(world.loop, quit, world.loop);
    }
    cancel_sleep(node->stopping, 10);
    world.is_in = false;
}

struct err *lifecycle_sync_all(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
    world.n_syncs++;
    return NULL;
}

struct err *reap_running_deleted(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
    world.n_reaped++;
    return NULL;
}

void incoming_settle(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
}

struct err *tracker_audit(struct tracker *t, const struct rctx *ctx, bool is_startup)
{
    (void)t;
    (void)ctx;
    assert_false(is_startup);
    return NULL;
}

struct err *instance_uuids_by_host(struct conductor *c, const struct rctx *ctx, const char *host,
                                   struct strv *ret)
{
    (void)c;
    (void)ctx;
    (void)host;
    (void)ret;
    return NULL;
}

void notify_scheduler_sync(struct node *node, const struct rctx *ctx, const struct strv *uuids)
{
    (void)node;
    (void)ctx;
    (void)uuids;
}

#define IDLE_JOB(name)                                                                             \
    struct err *name(struct node *node, const struct rctx *ctx)                                    \
    {                                                                                              \
        (void)node;                                                                                \
        (void)ctx;                                                                                 \
        return NULL;                                                                               \
    }
IDLE_JOB(poll_builds)
IDLE_JOB(poll_reboots)
IDLE_JOB(poll_rescues)
IDLE_JOB(poll_resizes)
IDLE_JOB(reap_queued_deletes)
IDLE_JOB(reap_files)
IDLE_JOB(reap_failed_moves)
IDLE_JOB(reap_console_tokens)
IDLE_JOB(netcare_heal)
IDLE_JOB(imagepass_run)
IDLE_JOB(usage_audit)
IDLE_JOB(evacuated_look_again)

static void jobs_of_one_interval_keep_their_distance(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 200000; random += 7919) {
        int64_t at[6];

        for (size_t i = 0; i < 6; i++) {
            at[i] = periodic_first_ms(PERIODIC_SPREAD, 60000, 5000, i, 6, random);
            assert_in_range(at[i], 5000, 64999);
            for (size_t k = 0; k < i; k++) {
                assert_true(llabs(at[i] - at[k]) >= 9999);
            }
        }
    }
}

static void only_the_heartbeat_does_not_wait(void **state)
{
    (void)state;
    assert_int_equal(periodic_first_ms(PERIODIC_AT_ONCE, 10000, 5000, 3, 9, 1234), 0);
    assert_int_equal(periodic_first_ms(PERIODIC_SOON, 10000, 5000, 3, 9, 1234), 5000);
    assert_int_equal(periodic_first_ms(PERIODIC_SPREAD, 10000, 0, 0, 9, 1234), 1234);
}

/* Until the second heartbeat, a second later. */
static void run(bool is_enabled)
{
    struct node node = {.stopping = cancel_new(), .tasks = task_pool_new()};
    struct periodic *p = NULL;

    memset(&world, 0, sizeof(world));
    world.conf.dflt.report_interval = 1;
    world.conf.dflt.periodic_enable = is_enabled;
    world.conf.dflt.sync_power_state_interval = 600;
    world.conf.dflt.running_deleted_instance_poll_interval = 1800;
    assert_null(loop_new(&node.loop));
    world.loop = node.loop;
    assert_null(periodic_start(&node, &p));
    assert_null(loop_run(node.loop));
    task_pool_free(node.tasks);
    periodic_stop(p);
    loop_free(node.loop);
    cancel_free(node.stopping);
    assert_int_equal(world.n_reports, 2);
    assert_false(world.overlaps);
}

static void some_jobs_run_at_the_start(void **state)
{
    (void)state;
    run(true);
    assert_int_equal(world.n_syncs, 1);
    assert_int_equal(world.n_reaped, 1);
}

static void periodic_enable_leaves_the_heartbeat(void **state)
{
    (void)state;
    run(false);
    assert_int_equal(world.n_syncs, 0);
    assert_int_equal(world.n_reaped, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_of_one_interval_keep_their_distance),
        cmocka_unit_test(only_the_heartbeat_does_not_wait),
        cmocka_unit_test(some_jobs_run_at_the_start),
        cmocka_unit_test(periodic_enable_leaves_the_heartbeat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

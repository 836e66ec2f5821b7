/* link: base */

/* The module itself, with threads that end soon. */
#define IDLE_MS 20
#include "base/task.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>

/* A place where tasks stop until the test lets them go. */
struct gate {
    struct mutex m;
    struct cond changed;
    unsigned n_inside, max_inside;
    bool is_open;
};

static void gate_init(struct gate *g)
{
    *g = (struct gate){.is_open = false};
    mutex_init(&g->m);
    cond_init(&g->changed);
}

static void gate_fini(struct gate *g)
{
    cond_fini(&g->changed);
    mutex_fini(&g->m);
}

static void gate_open(struct gate *g)
{
    mutex_lock(&g->m);
    g->is_open = true;
    cond_broadcast(&g->changed);
    mutex_unlock(&g->m);
}

static void pass_gate(void *arg)
{
    struct gate *g = arg;

    mutex_lock(&g->m);
    g->n_inside++;
    g->max_inside = MAX(g->max_inside, g->n_inside);
    cond_broadcast(&g->changed);
    while (!g->is_open) {
        cond_wait_until(&g->changed, &g->m, INT64_MAX);
    }
    g->n_inside--;
    mutex_unlock(&g->m);
}

static void gate_wait_inside(struct gate *g, unsigned n)
{
    mutex_lock(&g->m);
    while (g->n_inside < n) {
        assert_true(cond_wait_until(&g->changed, &g->m, clock_ms() + 60000));
    }
    mutex_unlock(&g->m);
}

static struct task_stats stats(struct task_pool *pool, enum lane lane)
{
    struct task_stats s;

    task_stats(pool, lane, &s);
    return s;
}

static void count(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void a_pool_without_tasks_has_no_threads(void **state)
{
    struct task_pool *pool = task_pool_new();

    (void)state;
    assert_int_equal(stats(pool, LANE_WORK).n_threads, 0);
    assert_null(task_pool_free(pool));
    assert_null(task_pool_free(NULL));
}

static void freeing_waits_for_what_was_submitted(void **state)
{
    struct task_pool *pool = task_pool_new();
    atomic_uint n = 0;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        task_submit(pool, (enum lane)(i % N_LANES), i % 3 ? NULL : "key", "count", count, NULL, &n);
    }
    task_pool_free(pool);
    assert_int_equal(n, 1000);
}

static void a_lane_does_not_exceed_its_limit(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate g;

    (void)state;
    gate_init(&g);
    for (unsigned i = 0; i < 5; i++) {
        task_submit(pool, LANE_PERIODIC, NULL, "pass", pass_gate, NULL, &g);
    }
    gate_wait_inside(&g, 3);
    assert_int_equal(stats(pool, LANE_PERIODIC).n_threads, 3);
    assert_int_equal(stats(pool, LANE_PERIODIC).n_running, 3);
    assert_int_equal(stats(pool, LANE_PERIODIC).n_queued, 2);
    gate_open(&g);
    task_pool_free(pool);
    assert_int_equal(g.max_inside, 3);
    gate_fini(&g);
}

static void a_full_lane_does_not_hold_up_another(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate full, free_lane;

    (void)state;
    gate_init(&full);
    gate_init(&free_lane);
    for (unsigned i = 0; i < 3; i++) {
        task_submit(pool, LANE_MIGRATE, NULL, "pass", pass_gate, NULL, &full);
    }
    task_submit(pool, LANE_CTL, NULL, "abort", pass_gate, NULL, &free_lane);
    gate_wait_inside(&free_lane, 1);
    gate_open(&free_lane);
    gate_open(&full);
    task_pool_free(pool);
    gate_fini(&full);
    gate_fini(&free_lane);
}

static void the_waiting_of_a_strand_hold_no_thread(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate g;

    (void)state;
    gate_init(&g);
    task_submit(pool, LANE_WORK, "uuid", "pass", pass_gate, NULL, &g);
    gate_wait_inside(&g, 1);
    for (unsigned i = 0; i < 10; i++) {
        task_submit(pool, LANE_WORK, "uuid", "pass", pass_gate, NULL, &g);
        task_submit(pool, LANE_BUILD, "uuid", "pass", pass_gate, NULL, &g);
    }
    assert_int_equal(stats(pool, LANE_WORK).n_threads, 1);
    assert_int_equal(stats(pool, LANE_WORK).n_waiting, 10);
    assert_int_equal(stats(pool, LANE_BUILD).n_waiting, 10);
    assert_int_equal(stats(pool, LANE_BUILD).n_threads, 0);
    task_submit(pool, LANE_WORK, "other", "pass", pass_gate, NULL, &g);
    gate_wait_inside(&g, 2);
    gate_open(&g);
    task_pool_free(pool);
    assert_int_equal(g.max_inside, 2);
    gate_fini(&g);
}

static void raising_the_limit_starts_what_is_queued(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate g;

    (void)state;
    gate_init(&g);
    for (unsigned i = 0; i < 4; i++) {
        task_submit(pool, LANE_MIGRATE, NULL, "pass", pass_gate, NULL, &g);
    }
    gate_wait_inside(&g, 1);
    task_set_limit(pool, LANE_MIGRATE, 3);
    gate_wait_inside(&g, 3);
    assert_int_equal(stats(pool, LANE_MIGRATE).n_threads, 3);
    task_set_limit(pool, LANE_MIGRATE, 0);
    gate_open(&g);
    task_pool_free(pool);
    assert_int_equal(g.max_inside, 3);
    gate_fini(&g);
}

static void a_lowered_limit_holds_for_the_next_tasks(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate first, second;

    (void)state;
    gate_init(&first);
    gate_init(&second);
    for (unsigned i = 0; i < 3; i++) {
        task_submit(pool, LANE_PERIODIC, NULL, "pass", pass_gate, NULL, &first);
    }
    gate_wait_inside(&first, 3);
    task_set_limit(pool, LANE_PERIODIC, 1);
    for (unsigned i = 0; i < 5; i++) {
        task_submit(pool, LANE_PERIODIC, NULL, "pass", pass_gate, NULL, &second);
    }
    gate_open(&first);
    gate_wait_inside(&second, 1);
    gate_open(&second);
    task_pool_free(pool);
    assert_int_equal(second.max_inside, 1);
    gate_fini(&first);
    gate_fini(&second);
}

static void idle_threads_end(void **state)
{
    struct task_pool *pool = task_pool_new();
    struct gate g;

    (void)state;
    gate_init(&g);
    for (unsigned i = 0; i < 8; i++) {
        task_submit(pool, LANE_WORK, NULL, "pass", pass_gate, NULL, &g);
    }
    gate_wait_inside(&g, 8);
    gate_open(&g);
    while (stats(pool, LANE_WORK).n_threads > 0) {
        cancel_sleep(NULL, 1);
    }
    assert_int_equal(stats(pool, LANE_WORK).n_done, 8);
    task_submit(pool, LANE_WORK, NULL, "pass", pass_gate, NULL, &g);
    task_pool_free(pool);
    gate_fini(&g);
}

struct again {
    struct task_pool *pool;
    struct gate g;
    unsigned n_submitted;
    atomic_uint n_run, n_dropped;
};

static void count_run(void *arg)
{
    count(&((struct again *)arg)->n_run);
}

static void count_dropped(void *arg)
{
    count(&((struct again *)arg)->n_dropped);
}

static void submit_after_the_end(void *arg)
{
    struct again *a = arg;

    pass_gate(&a->g);
    /* Soon the pool is being freed, which waits for this task. */
    for (a->n_submitted = 0; atomic_load(&a->n_dropped) == 0; a->n_submitted++) {
        task_submit(a->pool, LANE_WORK, NULL, "late", count_run, count_dropped, a);
    }
}

static void *open_the_gate(void *arg)
{
    gate_open(&((struct again *)arg)->g);
    return NULL;
}

static void what_comes_too_late_is_dropped(void **state)
{
    struct again a = {.pool = task_pool_new()};
    pthread_t opener;

    (void)state;
    gate_init(&a.g);
    task_submit(a.pool, LANE_WORK, NULL, "again", submit_after_the_end, NULL, &a);
    assert_int_equal(pthread_create(&opener, NULL, open_the_gate, &a), 0);
    task_pool_free(a.pool);
    pthread_join(opener, NULL);
    assert_int_equal(a.n_dropped, 1);
    assert_int_equal(a.n_run, a.n_submitted - 1);
    gate_fini(&a.g);
}

/* Many threads submit to strands; each strand checks that it is alone and in order. */
#define N_KEYS       16
#define N_SUBMITTERS 4
#define N_EACH       400

struct ordered {
    struct key_state *key;
    unsigned submitter, number;
};

struct key_state {
    atomic_int n_inside;
    unsigned next[N_SUBMITTERS]; /* Not atomic: the strand is what protects it. */
    struct ordered tasks[N_SUBMITTERS][N_EACH];
};

static struct key_state keys[N_KEYS];
static atomic_uint n_wrong;

static void check_order(void *arg)
{
    struct ordered *o = arg;

    if (atomic_fetch_add(&o->key->n_inside, 1) != 0 || o->key->next[o->submitter] != o->number) {
        atomic_fetch_add(&n_wrong, 1);
    }
    o->key->next[o->submitter] = o->number + 1;
    atomic_fetch_sub(&o->key->n_inside, 1);
}

struct submitter {
    struct task_pool *pool;
    unsigned id;
};

static void *submit_many(void *arg)
{
    struct submitter *s = arg;

    for (unsigned i = 0; i < N_EACH; i++) {
        for (size_t k = 0; k < N_KEYS; k++) {
            struct ordered *o = &keys[k].tasks[s->id][i];
            char name[8];

            *o = (struct ordered){&keys[k], s->id, i};
            snprintf(name, sizeof name, "key%zu", k);
            task_submit(s->pool, (enum lane)((i + k) % N_LANES), name, "order", check_order, NULL,
                        o);
        }
        if (i % 50 == 0) {
            task_set_limit(s->pool, LANE_WORK, 1 + i % 7);
        }
    }
    return NULL;
}

static void strands_keep_the_order_across_lanes(void **state)
{
    struct submitter submitters[N_SUBMITTERS];
    pthread_t threads[N_SUBMITTERS];
    struct task_pool *pool = task_pool_new();

    (void)state;
    for (unsigned i = 0; i < N_SUBMITTERS; i++) {
        submitters[i] = (struct submitter){pool, i};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, &submitters[i]), 0);
    }
    for (unsigned i = 0; i < N_SUBMITTERS; i++) {
        pthread_join(threads[i], NULL);
    }
    task_pool_free(pool);
    assert_int_equal(n_wrong, 0);
    for (size_t k = 0; k < N_KEYS; k++) {
        for (unsigned i = 0; i < N_SUBMITTERS; i++) {
            assert_int_equal(keys[k].next[i], N_EACH);
        }
    }
}

static void read_thread_name(void *arg)
{
    pthread_getname_np(pthread_self(), arg, 16);
}

static void threads_are_named_after_their_lane(void **state)
{
    struct task_pool *pool = task_pool_new();
    char name[16] = "";

    (void)state;
    task_submit(pool, LANE_SNAPSHOT, NULL, "name", read_thread_name, NULL, name);
    task_pool_free(pool);
    assert_string_equal(name, "snapshot");
    assert_string_equal(lane_name(LANE_CTL), "ctl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_without_tasks_has_no_threads),
        cmocka_unit_test(freeing_waits_for_what_was_submitted),
        cmocka_unit_test(a_lane_does_not_exceed_its_limit),
        cmocka_unit_test(a_full_lane_does_not_hold_up_another),
        cmocka_unit_test(the_waiting_of_a_strand_hold_no_thread),
        cmocka_unit_test(raising_the_limit_starts_what_is_queued),
        cmocka_unit_test(a_lowered_limit_holds_for_the_next_tasks),
        cmocka_unit_test(idle_threads_end),
        cmocka_unit_test(what_comes_too_late_is_dropped),
        cmocka_unit_test(strands_keep_the_order_across_lanes),
        cmocka_unit_test(threads_are_named_after_their_lane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

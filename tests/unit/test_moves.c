/* link: driver_compute */
#include "driver/compute/moves.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* -- The engine: counts what it is told -------------------------------------------------------- */

struct migrate_job {
    int n_aborts, n_forced, n_events;
};

struct err *migrate_abort(struct migrate_job *job)
{
    job->n_aborts++;
    return NULL;
}

struct err *migrate_force_complete(struct migrate_job *job)
{
    job->n_forced++;
    return NULL;
}

void migrate_event(struct migrate_job *job, const struct lv_event *event)
{
    (void)event;
    job->n_events++;
}

/* -- The registry ------------------------------------------------------------------------------ */

static int set_up(void **state)
{
    *state = moves_new();
    return 0;
}

static int tear_down(void **state)
{
    moves_free(*state);
    return 0;
}

static struct move *add(struct moves *ms, const char *uuid)
{
    struct move *mv = NULL;

    assert_null(moves_add(ms, uuid, 7, "host-b", &mv));
    return mv;
}

static void a_move_is_found_by_its_server(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    CLEANUP(move_freep) struct move *found = moves_find(*state, UUID);

    assert_ptr_equal(mv, found);
    assert_string_equal(move_uuid(mv), UUID);
    assert_string_equal(move_dest(mv), "host-b");
    assert_int_equal(move_phase(mv), MOVE_QUEUED);
    assert_int_equal(moves_n(*state), 1);
    assert_null(moves_find(*state, "another"));
}

static void a_second_move_of_a_server_is_refused(void **state)
{
    CLEANUP(move_freep) struct move *first = add(*state, UUID);
    struct move *second = NULL;
    CLEANUP(err_freep) struct err *e = moves_add(*state, UUID, 8, "host-c", &second);

    assert_true(err_is(e, ERR_INVALID_MIGRATION_STATE));
    assert_null(second);
    CLEANUP(move_freep) struct move *found = moves_find(*state, UUID);

    assert_ptr_equal(found, first);
    assert_string_equal(move_dest(found), "host-b");
}

static void a_removed_move_stays_valid_for_those_who_hold_it(void **state)
{
    CLEANUP(move_freep) struct move *old = add(*state, UUID);

    moves_remove(*state, old);
    assert_null(moves_find(*state, UUID));
    assert_int_equal(moves_n(*state), 0);
    assert_string_equal(move_uuid(old), UUID);
    CLEANUP(move_freep) struct move *fresh = add(*state, UUID);

    moves_remove(*state, old); /* Not the new one. */
    CLEANUP(move_freep) struct move *found = moves_find(*state, UUID);

    assert_ptr_equal(found, fresh);
    assert_null(move_free(NULL));
}

/* -- Phases and aborts ------------------------------------------------------------------------- */

static void assert_abort(struct move *mv, enum move_abort expected)
{
    enum move_abort how = 99;

    assert_null(move_abort(mv, &how));
    assert_int_equal(how, expected);
}

static void a_queued_move_is_dropped_by_an_abort(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);

    assert_abort(mv, MOVE_ABORT_DROPPED);
    assert_true(cancel_is_set(move_cancel(mv)));
    assert_false(move_advance(mv, MOVE_PREPARING));
    assert_int_equal(move_phase(mv), MOVE_QUEUED);
}

static void an_abort_while_preparing_is_seen_before_the_copy(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);

    assert_true(move_advance(mv, MOVE_PREPARING));
    assert_abort(mv, MOVE_ABORT_NOTED);
    assert_true(cancel_is_set(move_cancel(mv)));
    assert_false(move_advance(mv, MOVE_RUNNING));
    move_set_rollback(mv);
    assert_int_equal(move_phase(mv), MOVE_ROLLBACK);
    assert_abort(mv, MOVE_ABORT_TOO_LATE);
}

static void an_abort_of_a_running_copy_ends_its_job(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    struct migrate_job job = {0};

    assert_true(move_advance(mv, MOVE_PREPARING));
    assert_true(move_advance(mv, MOVE_RUNNING));
    move_set_job(mv, &job);
    assert_abort(mv, MOVE_ABORT_STOPPED);
    assert_int_equal(job.n_aborts, 1);
    move_set_job(mv, NULL);
    assert_abort(mv, MOVE_ABORT_STOPPED);
    assert_int_equal(job.n_aborts, 1);
    assert_true(cancel_is_set(move_cancel(mv))); /* For a job that is not there yet. */
}

static void a_guest_that_has_left_is_not_called_back(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    struct migrate_job job = {0};

    assert_true(move_advance(mv, MOVE_RUNNING));
    move_set_job(mv, &job);
    assert_true(move_advance(mv, MOVE_POST));
    assert_abort(mv, MOVE_ABORT_TOO_LATE);
    assert_int_equal(job.n_aborts, 0);
}

static void force_complete_needs_a_running_copy(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    struct migrate_job job = {0};
    CLEANUP(err_freep) struct err *queued = move_force_complete(mv);

    assert_true(err_is(queued, ERR_NO_ACTIVE_MIGRATION));
    assert_true(move_advance(mv, MOVE_RUNNING));
    CLEANUP(err_freep) struct err *no_job = move_force_complete(mv);

    assert_true(err_is(no_job, ERR_NO_ACTIVE_MIGRATION));
    move_set_job(mv, &job);
    assert_null(move_force_complete(mv));
    assert_int_equal(job.n_forced, 1);
    assert_true(move_advance(mv, MOVE_POST));
    CLEANUP(err_freep) struct err *post = move_force_complete(mv);

    assert_true(err_is(post, ERR_NO_ACTIVE_MIGRATION));
}

static void events_reach_the_job_that_runs(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    struct migrate_job job = {0};

    move_event(mv, &(struct lv_event){0});
    move_set_job(mv, &job);
    move_event(mv, &(struct lv_event){0});
    move_set_job(mv, NULL);
    move_event(mv, &(struct lv_event){0});
    assert_int_equal(job.n_events, 1);
}

static void the_end_of_the_service_cancels_what_does_not_run_yet(void **state)
{
    CLEANUP(move_freep) struct move *queued = add(*state, "a");
    CLEANUP(move_freep) struct move *preparing = add(*state, "b");
    CLEANUP(move_freep) struct move *running = add(*state, "c");

    assert_true(move_advance(preparing, MOVE_PREPARING));
    assert_true(move_advance(running, MOVE_RUNNING));
    moves_cancel_waiting(*state);
    assert_true(cancel_is_set(move_cancel(queued)));
    assert_true(cancel_is_set(move_cancel(preparing)));
    assert_false(cancel_is_set(move_cancel(running)));
    assert_false(move_advance(queued, MOVE_PREPARING));
    assert_true(move_advance(running, MOVE_POST));
}

/* -- Progress and the rest --------------------------------------------------------------------- */

static void progress_is_saved_once_at_a_time(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);

    assert_true(move_progress_begin(mv));
    assert_false(move_progress_begin(mv));
    move_progress_end(mv);
    assert_true(move_progress_begin(mv));
}

static void moves_are_told_as_json(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);

    assert_true(move_advance(mv, MOVE_RUNNING));
    move_sample(mv, &(struct lv_job){.memory_total = 100, .memory_remaining = 40});
    CLEANUP(jv_putp) struct json_object *list = moves_json(*state);
    struct jv_reader r = jv_reader_init(json_object_array_get_idx(list, 0), "move");

    assert_int_equal(json_object_array_length(list), 1);
    assert_string_equal(jv_str(&r, "server"), UUID);
    assert_string_equal(jv_str(&r, "destination"), "host-b");
    assert_string_equal(jv_str(&r, "phase"), "running");
    assert_int_equal(jv_int(&r, "migration_id"), 7);
    assert_int_equal(jv_int(&r, "memory_total"), 100);
    assert_int_equal(jv_int(&r, "memory_remaining"), 40);
    assert_false(jv_bool_or(&r, "aborted", true));
    assert_null(jv_finish(&r));
}

static atomic_int n_ran;

static struct err *run_once(void *arg)
{
    atomic_fetch_add(&n_ran, 1);
    return arg ? err_msg(ERR_INTERNAL, "%s", (const char *)arg) : NULL;
}

static void *once_thread(void *arg)
{
    return move_once(arg, run_once, NULL) ? arg : NULL;
}

static void what_is_to_be_done_once_is_done_once(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    pthread_t threads[8];

    atomic_store(&n_ran, 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, once_thread, mv), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *done;

        pthread_join(threads[i], &done);
        assert_ptr_equal(done, mv);
    }
    assert_int_equal(atomic_load(&n_ran), 1);
}

static void a_failure_of_it_is_everybodys(void **state)
{
    CLEANUP(move_freep) struct move *mv = add(*state, UUID);
    char why[] = "no";

    atomic_store(&n_ran, 0);
    assert_false(move_once(mv, run_once, why));
    assert_false(move_once(mv, run_once, NULL));
    assert_int_equal(atomic_load(&n_ran), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_move_is_found_by_its_server),
        TEST(a_second_move_of_a_server_is_refused),
        TEST(a_removed_move_stays_valid_for_those_who_hold_it),
        TEST(a_queued_move_is_dropped_by_an_abort),
        TEST(an_abort_while_preparing_is_seen_before_the_copy),
        TEST(an_abort_of_a_running_copy_ends_its_job),
        TEST(a_guest_that_has_left_is_not_called_back),
        TEST(force_complete_needs_a_running_copy),
        TEST(events_reach_the_job_that_runs),
        TEST(the_end_of_the_service_cancels_what_does_not_run_yet),
        TEST(progress_is_saved_once_at_a_time),
        TEST(moves_are_told_as_json),
        TEST(what_is_to_be_done_once_is_done_once),
        TEST(a_failure_of_it_is_everybodys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

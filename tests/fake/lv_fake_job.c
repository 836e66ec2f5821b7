/* A move of the fake libvirt. */
#include "tests/fake/lv_fake_impl.h"

#include "base/fs.h"
#include "base/sync.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 5 };

static struct mutex adopting = MUTEX_INIT;

/* ---- A move, run by a thread of its own as libvirtd runs it ---- */

struct job {
    char *dir, *dest_dir, *uuid, *dest_xml;
    struct lv_domain domain; /* Borrows dir. */
    char *script;
    int64_t start_ms, pass_start_ms, pass_ms;
    uint64_t pass, total;
    bool was_paused, may_postcopy, is_postcopy;
};

static void job_free(struct job *j)
{
    free(j->dir);
    free(j->dest_dir);
    free(j->uuid);
    free(j->dest_xml);
    free(j->script);
    free(j);
}

static uint64_t script_u64(const struct job *j, const char *name, uint64_t def)
{
    CLEANUP(freep) char *text = fake_value_in(j->script, name);
    uint64_t value;

    return text && str_to_u64(text, &value) ? value : def;
}

static char *job_text(const struct job *j)
{
    return str_printf("pid %d\ndest %s\nstart_ms %" PRId64 "\npass_start_ms %" PRId64
                      "\npass_ms %" PRId64 "\npass %" PRIu64 "\ntotal %" PRIu64
                      "\nwas_paused %d\nmay_postcopy %d\nis_postcopy %d\n",
                      (int)getpid(), j->dest_dir, j->start_ms, j->pass_start_ms, j->pass_ms,
                      j->pass, j->total, j->was_paused, j->may_postcopy, j->is_postcopy);
}

static void job_save(const struct job *j)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s", j->uuid);
    CLEANUP(freep) char *text = job_text(j);

    lv_fake_write(j->dir, name, text);
}

/* The move that a file tells of, or NULL. */
static struct job *job_load(const char *dir, const char *uuid)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s", uuid);
    CLEANUP(freep) char *xml_name = str_printf("jobs/%s.xml", uuid);
    CLEANUP(freep) char *own = str_printf("migrate.%s", uuid);
    CLEANUP(freep) char *text = lv_fake_read(dir, name);
    struct job *j;

    if (!text) {
        return NULL;
    }
    j = NEW(struct job);
    j->dir = str_dup(dir);
    j->uuid = str_dup(uuid);
    j->domain.dir = j->dir;
    snprintf(j->domain.uuid, sizeof(j->domain.uuid), "%s", uuid);
    j->dest_dir = fake_value_in(text, "dest");
    j->dest_xml = lv_fake_read(dir, xml_name);
    j->script = lv_fake_read(dir, fake_exists(dir, "migrate.", uuid) ? own : "migrate");
    j->start_ms = (int64_t)fake_text_u64(text, "start_ms");
    j->pass_start_ms = (int64_t)fake_text_u64(text, "pass_start_ms");
    j->pass_ms = (int64_t)fake_text_u64(text, "pass_ms");
    j->pass = fake_text_u64(text, "pass");
    j->total = fake_text_u64(text, "total");
    j->was_paused = fake_text_u64(text, "was_paused");
    j->may_postcopy = fake_text_u64(text, "may_postcopy");
    j->is_postcopy = fake_text_u64(text, "is_postcopy");
    return j;
}

/* How it ended, for the thread in lv_migrate: "ok", or an error's name and text. */
static void end_job(struct job *j, const char *result)
{
    static const char *const suffixes[] = {"", ".xml", ".abort", ".postcopy"};
    CLEANUP(freep) char *name = str_printf("jobs/%s.result", j->uuid);

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        fake_drop(j->dir, "jobs", j->uuid, suffixes[i]);
    }
    lv_fake_write(j->dir, name, result);
}

static void complete(struct job *j, int64_t stopped_ms)
{
    CLEANUP(freep) char *xml_name = str_printf("domains/%s.xml", j->uuid);
    CLEANUP(freep)
    char *done = str_printf("JOB_COMPLETED NONE %s type=3 elapsed=%" PRId64 " downtime=%" PRId64
                            " total=%" PRIu64,
                            j->uuid, clock_ms() - j->start_ms, clock_ms() - stopped_ms, j->total);

    fake_set_state(j->dest_dir, j->uuid, j->was_paused ? "paused 1" : "running 2");
    lv_fake_write(j->dest_dir, xml_name, j->dest_xml);
    fake_tell(j->dest_dir, j->uuid, "STARTED NONE");
    fake_tell(j->dest_dir, j->uuid, "DEFINED NONE");
    fake_tell(j->dest_dir, j->uuid, j->was_paused ? "SUSPENDED OTHER" : "RESUMED MIGRATED");
    fake_drop(j->dir, "domains", j->uuid, ".xml");
    fake_drop(j->dir, "domains", j->uuid, ".state");
    fake_drop(j->dir, "domains", j->uuid, ".next");
    fake_tell(j->dir, j->uuid, "STOPPED MIGRATED");
    fake_append(j->dir, "events", done);
    end_job(j, "ok");
}

/* The guest stops here and goes on there, or not. */
static void switch_over(struct job *j)
{
    CLEANUP(freep) char *failure = fake_value_in(j->script, "fail_switch");
    int64_t stopped_ms = clock_ms();

    if (fake_get_state(j->dir, j->uuid, NULL) != LV_PAUSED) {
        fake_set_state(j->dir, j->uuid, "paused 2");
        fake_tell(j->dir, j->uuid, "SUSPENDED MIGRATED");
    }
    if (j->is_postcopy) {
        fake_tell(j->dir, j->uuid, "SUSPENDED POSTCOPY");
        usleep((useconds_t)j->pass_ms * 1000);
    }
    usleep((useconds_t)script_u64(j, "switch_ms", 5) * 1000);
    if (failure) {
        CLEANUP(freep) char *result = str_printf("VIR_ERR_OPERATION_FAILED %s", failure);

        fake_set_state(j->dir, j->uuid, "running 5");
        fake_tell(j->dir, j->uuid, "RESUMED MIGRATED");
        end_job(j, result);
        return;
    }
    complete(j, stopped_ms);
}

static bool converges(const struct job *j)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.downtime", j->uuid);
    CLEANUP(freep) char *downtime = lv_fake_read(j->dir, name);
    uint64_t need_ms = script_u64(j, "need_downtime_ms", 0);
    uint64_t passes = script_u64(j, "passes", 2);

    return fake_get_state(j->dir, j->uuid, NULL) == LV_PAUSED ||
           (passes > 0 && j->pass >= passes) ||
           (need_ms > 0 && downtime && strtoull(downtime, NULL, 10) >= need_ms);
}

static bool next_pass(struct job *j)
{
    CLEANUP(freep) char *failure = fake_value_in(j->script, "fail");

    j->pass++;
    j->pass_start_ms = clock_ms();
    job_save(j);
    {
        CLEANUP(freep)
        char *line = str_printf("ITERATION NONE %s iteration=%" PRIu64, j->uuid, j->pass);

        fake_append(j->dir, "events", line);
    }
    if (j->pass == script_u64(j, "die_pass", 0)) {
        fake_set_state(j->dir, j->uuid, "shutoff 3");
        fake_tell(j->dir, j->uuid, "STOPPED CRASHED");
    }
    if (failure && j->pass == script_u64(j, "fail_pass", 1)) {
        CLEANUP(freep) char *result = str_printf("VIR_ERR_OPERATION_FAILED %s", failure);

        end_job(j, result);
        return false;
    }
    return true;
}

/* One look at the world; false when the move has ended. */
static bool tick(struct job *j)
{
    CLEANUP(freep) char *abort_name = fake_in(j->dir, "jobs/%s.abort", j->uuid);
    CLEANUP(freep) char *postcopy_name = fake_in(j->dir, "jobs/%s.postcopy", j->uuid);

    if (!fake_is_active(fake_get_state(j->dir, j->uuid, NULL))) {
        end_job(j, "VIR_ERR_OPERATION_FAILED operation failed: domain is not running");
        return false;
    }
    if (access(abort_name, F_OK) == 0) {
        end_job(j, "VIR_ERR_OPERATION_ABORTED operation aborted: job 'migration out' canceled by "
                   "client");
        return false;
    }
    j->is_postcopy = access(postcopy_name, F_OK) == 0;
    if (j->is_postcopy) {
        job_save(j);
    } else if (clock_ms() < j->pass_start_ms + j->pass_ms) {
        return true;
    }
    if (j->is_postcopy || converges(j)) {
        switch_over(j);
        return false;
    }
    return next_pass(j);
}

static void *run_job(void *arg)
{
    struct job *j = arg;
    bool goes_on = true;

    pthread_setname_np(pthread_self(), "lv-fake-job");
    if (j->pass == 0) {
        usleep((useconds_t)script_u64(j, "setup_ms", 20) * 1000);
        goes_on = next_pass(j);
    }
    while (goes_on) {
        usleep(TICK_MS * 1000);
        goes_on = tick(j);
    }
    job_free(j);
    return NULL;
}

void fake_adopt_jobs(const char *dir)
{
    CLEANUP(freep) char *folder = fake_in(dir, "jobs");
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, folder, &names);

    mutex_lock(&adopting);
    for (size_t i = 0; !e && i < names.n; i++) {
        CLEANUP(freep) char *name = str_printf("jobs/%s", names.items[i]);
        CLEANUP(freep) char *text = uuid_is_valid(names.items[i]) ? lv_fake_read(dir, name) : NULL;
        struct job *j;

        if (text && kill((pid_t)fake_text_u64(text, "pid"), 0) < 0 && errno == ESRCH &&
            (j = job_load(dir, names.items[i]))) {
            job_save(j);
            fake_start_thread(run_job, j);
        }
    }
    mutex_unlock(&adopting);
}

bool fake_has_job(const struct lv_domain *d)
{
    return fake_exists(d->dir, "jobs/", d->uuid);
}

/* ---- Migration ---- */

static void note_migrate(struct lv_domain *d, const struct lv_migrate_params *p)
{
    CLEANUP(freep) char *disks = p->disks ? strv_join(p->disks, ",") : str_dup("");

    fake_note(d, "migrate %s uri=%s bandwidth=%" PRIu64 " flags=%u disks=%s", p->dest_uri,
              p->migrate_uri ? p->migrate_uri : "", p->bandwidth_mib, p->flags, disks);
}

/* Writes what a runner needs and starts it. */
static struct err *start_job(struct lv_domain *d, const char *dest_dir,
                             const struct lv_migrate_params *p)
{
    struct job first = {.dir = d->dir,
                        .uuid = d->uuid,
                        .dest_dir = (char *)dest_dir,
                        .start_ms = clock_ms(),
                        .was_paused = fake_get_state(d->dir, d->uuid, NULL) == LV_PAUSED,
                        .may_postcopy = p->flags & LV_MIGRATE_POSTCOPY};
    CLEANUP(freep) char *xml_name = str_printf("jobs/%s.xml", d->uuid);
    CLEANUP(freep) char *refusal = NULL;
    struct job *j;

    if (fake_has_job(d)) {
        return fake_refused("VIR_ERR_OPERATION_INVALID",
                            "another migration job is already running");
    }
    fake_drop(d->dir, "jobs", d->uuid, ".result");
    fake_drop(d->dir, "jobs", d->uuid, ".abort");
    fake_drop(d->dir, "jobs", d->uuid, ".postcopy");
    lv_fake_write(d->dir, xml_name, p->dest_xml);
    job_save(&first);
    j = job_load(d->dir, d->uuid);
    j->total = script_u64(j, "memory_mib", 64) << 20;
    j->pass_ms = (int64_t)script_u64(j, "pass_ms", 50);
    refusal = fake_value_in(j->script, "refuse");
    if (refusal) {
        end_job(j, "ok");
        job_free(j);
        return fake_refused("VIR_ERR_OPERATION_FAILED", refusal);
    }
    job_save(j);
    fake_start_thread(run_job, j);
    return NULL;
}

static struct err *wait_for_job(struct lv_domain *d)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.result", d->uuid);

    for (;;) {
        CLEANUP(freep) char *result = lv_fake_read(d->dir, name);
        char *text = result ? strchr(result, ' ') : NULL;

        if (result) {
            fake_drop(d->dir, "jobs", d->uuid, ".result");
            if (!text) {
                return NULL;
            }
            *text = '\0';
            return fake_refused(result, text + 1);
        }
        TRY(fake_check_up(d->dir));
        usleep(TICK_MS * 1000);
    }
}

struct err *lv_migrate(struct lv_domain *d, const struct lv_migrate_params *p)
{
    CLEANUP(freep) char *dest_dir = fake_dir_of(p->dest_uri);

    TRY(fake_check_domain(d));
    note_migrate(d, p);
    if (access(dest_dir, F_OK) != 0 || fake_exists(dest_dir, "down", "")) {
        return fake_refused("VIR_ERR_SYSTEM_ERROR",
                            "unable to connect to server: Connection refused");
    }
    lv_fake_host(dest_dir);
    TRY(start_job(d, dest_dir, p));
    return wait_for_job(d);
}

struct err *lv_migrate_set_max_downtime(struct lv_domain *d, uint64_t ms)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.downtime", d->uuid);
    CLEANUP(freep) char *text = str_printf("%" PRIu64, ms);

    TRY(fake_check_domain(d));
    fake_note(d, "set_max_downtime %" PRIu64, ms);
    lv_fake_write(d->dir, name, text);
    return NULL;
}

struct err *lv_migrate_set_max_speed(struct lv_domain *d, uint64_t mib_per_s)
{
    TRY(fake_check_domain(d));
    fake_note(d, "set_max_speed %" PRIu64, mib_per_s);
    return NULL;
}

/* Leaves a file for the runner. */
static struct err *ask_runner(struct lv_domain *d, const char *what, bool needs_postcopy)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.%s", d->uuid, what);
    struct job *j;
    bool is_fit;

    TRY(fake_check_domain(d));
    fake_note(d, "%s", what);
    j = job_load(d->dir, d->uuid);
    is_fit = j && !j->is_postcopy && j->pass > 0 && (j->may_postcopy || !needs_postcopy);
    if (j) {
        job_free(j);
    }
    if (!is_fit) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "no job for that is active on the domain");
    }
    lv_fake_write(d->dir, name, "");
    return NULL;
}

struct err *lv_migrate_start_postcopy(struct lv_domain *d)
{
    return ask_runner(d, "postcopy", /* needs_postcopy= */ true);
}

struct err *lv_abort_job(struct lv_domain *d)
{
    return ask_runner(d, "abort", /* needs_postcopy= */ false);
}

struct err *lv_job_stats(struct lv_domain *d, struct lv_job *ret)
{
    CLEANUP(err_freep) struct err *e = fake_check_domain(d);
    struct job *j;
    int64_t in_pass_ms;

    *ret = (struct lv_job){.type = LV_JOB_NONE};
    if (err_is(e, ERR_HYPERVISOR_UNAVAILABLE)) {
        return TAKE(e);
    }
    if (e || !fake_is_active(fake_get_state(d->dir, d->uuid, NULL))) {
        ret->type = LV_JOB_COMPLETED;
        return NULL;
    }
    j = job_load(d->dir, d->uuid);
    if (!j) {
        return NULL;
    }
    ret->type = LV_JOB_UNBOUNDED;
    ret->time_elapsed_ms = (uint64_t)(clock_ms() - j->start_ms);
    if (j->pass > 0) {
        in_pass_ms = MIN(clock_ms() - j->pass_start_ms, j->pass_ms);
        ret->memory_iteration = j->pass;
        ret->memory_page_size = 4096;
        ret->memory_total = j->total;
        ret->memory_remaining =
            j->total - (uint64_t)((double)j->total * (double)in_pass_ms / (double)j->pass_ms);
        ret->memory_processed = j->total * j->pass - ret->memory_remaining;
    }
    job_free(j);
    return NULL;
}

struct err *lv_job_completed_stats(struct lv_domain *d, struct lv_job *ret)
{
    TRY(fake_check_domain(d));
    *ret = (struct lv_job){.type = LV_JOB_NONE};
    return NULL;
}

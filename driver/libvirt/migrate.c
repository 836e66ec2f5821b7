#include "driver/libvirt/migrate.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sync.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE_MS = 500,
    STATS_WAIT_MS = 50, /* For the event with the final statistics, which has its own way. */
    SETTLE_MS = 600000, /* How long libvirtd may be away before we give up on the outcome. */
    CALL_STACK = 256 * 1024,
};

struct migrate_job {
    char *uri, *uuid, *dest_uri, *migrate_uri, *dest_xml;
    struct strv disks;
    int64_t migration_id;
    uint64_t bandwidth_mib;
    unsigned flags;
    struct migwatch_conf watch_conf;
    struct migrate_hooks hooks;

    struct lv_domain *call_dom; /* Of the thread in libvirt's call; on a connection of its own. */

    /* Of the thread that is in migrate_run. */
    struct lv_domain *dom;
    struct migwatch watch;
    enum migwatch_action pending; /* POSTCOPY or PAUSE that is due; tried until it works. */
    struct lv_job sample;         /* The last one. */
    struct lv_job running;        /* The last one while libvirt's job ran. */

    struct mutex m;
    struct cond changed;
    struct err *call_err GUARDED_BY(m);
    struct lv_job stats GUARDED_BY(m);
    bool is_running GUARDED_BY(m);   /* migrate_run is at work. */
    bool has_returned GUARDED_BY(m); /* libvirt's call is over. */
    bool is_over GUARDED_BY(m);      /* migrate_run is over. */
    bool wants_abort GUARDED_BY(m);
    bool wants_force GUARDED_BY(m);
    bool has_news GUARDED_BY(m);     /* One of the two was set just now. */
    bool has_paused GUARDED_BY(m);   /* We suspended the guest. */
    bool is_postcopy GUARDED_BY(m);  /* Post-copy has begun. */
    bool has_switched GUARDED_BY(m); /* on_switchover was called. */
    bool has_died GUARDED_BY(m);     /* The guest stopped here, and not by moving. */
    bool has_stats GUARDED_BY(m);
};

/* ---- Addresses ---- */

/* What goes into a URI must not change its meaning. */
static bool is_valid_host(const char *host)
{
    return !str_is_empty(host) &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") ==
               strlen(host);
}

static struct err *bracketed(const char *host, char **ret)
{
    struct in6_addr addr;

    if (!is_valid_host(host)) {
        return err_new(ERR_INVALID_HOSTNAME, "hostname", host, NULL);
    }
    *ret = inet_pton(AF_INET6, host, &addr) == 1 ? str_printf("[%s]", host) : str_dup(host);
    return NULL;
}

/* Python's template % (host,): one %s, and %% for a percent sign. */
static struct err *expand(const char *template, const char *host, char **ret)
{
    struct strbuf text = {0};
    unsigned n_hosts = 0, n_bad = 0;

    for (const char *p = template; *p; p++) {
        if (*p != '%') {
            strbuf_addc(&text, *p);
        } else if (*++p == '%') {
            strbuf_addc(&text, '%');
        } else if (*p == 's') {
            strbuf_add(&text, host);
            n_hosts++;
        } else {
            n_bad++;
            break;
        }
    }
    if (n_bad > 0 || n_hosts != 1) {
        strbuf_fini(&text);
        return err_msg(ERR_CONFIG, "live_migration_uri '%s' must hold %%s once", template);
    }
    *ret = strbuf_take(&text);
    return NULL;
}

struct err *migrate_uri(const struct conf *conf, const char *dest, char **ret)
{
    const char *scheme = conf->libvirt.live_migration_scheme;
    const char *template = conf->libvirt.live_migration_uri;
    CLEANUP(freep) char *host = NULL;

    TRY(bracketed(dest, &host));
    if (!str_is_empty(template)) {
        return expand(template, host, ret);
    }
    *ret = str_printf("qemu+%s://%s/system", str_is_empty(scheme) ? "tcp" : scheme, host);
    return NULL;
}

/* ---- Making a job ---- */

static unsigned flags_of(const struct conf *conf, const struct migrate_spec *spec)
{
    bool may_postcopy = conf->libvirt.live_migration_permit_post_copy;
    unsigned flags = 0;

    if (conf->libvirt.live_migration_tunnelled) {
        flags |= LV_MIGRATE_TUNNELLED; /* Which cannot choose disks, so it copies none. */
    } else if (spec->is_block_migration && spec->copy_disks && spec->copy_disks->n > 0) {
        flags |= LV_MIGRATE_NON_SHARED_INC; /* Without a choice libvirt would copy volumes too. */
    }
    flags |= conf->libvirt.live_migration_with_native_tls ? LV_MIGRATE_TLS : 0;
    flags |= may_postcopy && !spec->is_paused ? LV_MIGRATE_POSTCOPY : 0;
    flags |= conf->libvirt.live_migration_permit_auto_converge && !may_postcopy
                 ? LV_MIGRATE_AUTO_CONVERGE
                 : 0;
    return flags;
}

static struct migwatch_conf watch_conf_of(const struct conf *conf, const struct migrate_spec *spec,
                                          unsigned flags)
{
    const uint64_t mib = 1 << 20;

    return (struct migwatch_conf){
        .downtime_ms = (unsigned)conf->libvirt.live_migration_downtime,
        .downtime_steps = (unsigned)conf->libvirt.live_migration_downtime_steps,
        .downtime_delay_s = (unsigned)conf->libvirt.live_migration_downtime_delay,
        .completion_timeout_s = (unsigned)conf->libvirt.live_migration_completion_timeout,
        .timeout_forces_completion =
            str_eq(conf->libvirt.live_migration_timeout_action, "force_complete"),
        .may_postcopy = flags & LV_MIGRATE_POSTCOPY,
        .data_bytes = MAX(2048 * mib, spec->memory_mib * mib) + spec->copy_disk_bytes,
    };
}

struct err *migrate_new(const char *uri, const struct conf *conf, const struct migrate_spec *spec,
                        const struct migrate_hooks *hooks, struct migrate_job **ret)
{
    const char *dest = spec->target_connect_addr ? spec->target_connect_addr : spec->dest;
    CLEANUP(freep) char *host = NULL;
    CLEANUP(freep) char *dest_uri = NULL;
    struct migrate_job *j;

    if (!is_valid_host(spec->dest)) {
        return err_new(ERR_INVALID_HOSTNAME, "hostname", spec->dest, NULL);
    }
    TRY(bracketed(dest, &host));
    TRY(migrate_uri(conf, dest, &dest_uri));
    j = NEW(struct migrate_job);
    j->uri = str_dup(uri);
    j->uuid = str_dup(spec->instance_uuid);
    j->dest_uri = TAKE(dest_uri);
    j->dest_xml = str_dup(spec->dest_xml);
    j->migration_id = spec->migration_id;
    j->bandwidth_mib = (uint64_t)MAX(conf->libvirt.live_migration_bandwidth, 0);
    j->flags = flags_of(conf, spec);
    j->watch_conf = watch_conf_of(conf, spec, j->flags);
    j->hooks = *hooks;
    for (size_t i = 0; j->flags & LV_MIGRATE_NON_SHARED_INC && i < spec->copy_disks->n; i++) {
        strv_add(&j->disks, spec->copy_disks->items[i]);
    }
    if (spec->target_connect_addr && !(j->flags & LV_MIGRATE_TUNNELLED)) {
        j->migrate_uri = str_printf("tcp://%s", host);
    }
    mutex_init(&j->m);
    cond_init(&j->changed);
    *ret = j;
    return NULL;
}

struct migrate_job *migrate_free(struct migrate_job *j)
{
    if (j) {
        cond_fini(&j->changed);
        mutex_fini(&j->m);
        err_free(j->call_err);
        strv_fini(&j->disks);
        free(j->uri);
        free(j->uuid);
        free(j->dest_uri);
        free(j->migrate_uri);
        free(j->dest_xml);
        free(j);
    }
    return NULL;
}

/* ---- The call ---- */

static void *run_call(void *arg)
{
    struct migrate_job *j = arg;
    const struct lv_migrate_params params = {.dest_uri = j->dest_uri,
                                             .migrate_uri = j->migrate_uri,
                                             .dest_xml = j->dest_xml,
                                             .bandwidth_mib = j->bandwidth_mib,
                                             .disks = &j->disks,
                                             .flags = j->flags};
    struct err *e;

    pthread_setname_np(pthread_self(), "lv-migrate");
    e = lv_migrate(j->call_dom, &params);
    mutex_lock(&j->m);
    j->call_err = e;
    j->has_returned = true;
    cond_broadcast(&j->changed);
    mutex_unlock(&j->m);
    return NULL;
}

static struct err *start_call(struct migrate_job *j, pthread_t *ret)
{
    pthread_attr_t attr;
    int errnum;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, CALL_STACK);
    errnum = pthread_create(ret, &attr, run_call, j);
    pthread_attr_destroy(&attr);
    return errnum ? err_errno(errnum, "starting a thread for the migration") : NULL;
}

/* ---- Watching ---- */

static struct err *switch_to_postcopy(struct migrate_job *j)
{
    struct err *e;

    mutex_lock(&j->m);
    j->is_postcopy = true; /* Before its event, which comes before the call returns. */
    mutex_unlock(&j->m);
    e = lv_migrate_start_postcopy(j->dom);
    if (e) {
        mutex_lock(&j->m);
        j->is_postcopy = false;
        mutex_unlock(&j->m);
        return e;
    }
    log_info(LOG_MIGRATE, "switched to post-copy");
    j->watch.is_postcopy = true;
    if (j->hooks.on_postcopy) {
        j->hooks.on_postcopy(j->hooks.arg);
    }
    return NULL;
}

static struct err *pause_guest(struct migrate_job *j)
{
    enum lv_state state;
    struct err *e;

    TRY(lv_domain_state(j->dom, &state, NULL));
    if (state == LV_PAUSED) {
        return NULL; /* By its user, or for the switch-over: not ours to resume. */
    }
    mutex_lock(&j->m);
    j->has_paused = true; /* Before the event, like above. */
    mutex_unlock(&j->m);
    e = lv_domain_suspend(j->dom);
    if (!e) {
        log_info(LOG_MIGRATE, "paused the guest so that its migration can finish");
    }
    return e;
}

/* What was asked for and is not done.  A failure is the job's state (not begun, just ending), so it
 * is tried again with the next sample. */
static void carry_out(struct migrate_job *j)
{
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(freep) char *text = NULL;
    bool wants_abort;

    mutex_lock(&j->m);
    wants_abort = j->wants_abort && !j->is_postcopy;
    mutex_unlock(&j->m);
    if (wants_abort) {
        e = lv_abort_job(j->dom);
    } else if (j->pending != MIGWATCH_NONE && j->sample.type == LV_JOB_UNBOUNDED) {
        e = j->pending == MIGWATCH_POSTCOPY ? switch_to_postcopy(j) : pause_guest(j);
        j->pending = e ? j->pending : MIGWATCH_NONE;
    }
    if (e) {
        text = err_text(e);
        log_debug(LOG_MIGRATE, "%s, trying again with the next sample", text);
    }
}

static void take_action(struct migrate_job *j, enum migwatch_action action)
{
    switch (action) {
    case MIGWATCH_NONE:
        break;
    case MIGWATCH_ABORT:
        log_warning(LOG_MIGRATE, "not completed after %" PRId64 " s, aborting",
                    (clock_ms() - j->watch.start_ms) / 1000);
        mutex_lock(&j->m);
        j->wants_abort = true;
        mutex_unlock(&j->m);
        break;
    case MIGWATCH_POSTCOPY:
    case MIGWATCH_PAUSE:
        j->pending = action;
        break;
    case MIGWATCH_DOWNTIME:
        log_info(LOG_MIGRATE, "allowing a downtime of %u ms", j->watch.downtime_ms);
        err_ignore(lv_migrate_set_max_downtime(j->dom, j->watch.downtime_ms),
                   "raising the maximum downtime");
        break;
    }
}

static void take_sample(struct migrate_job *j)
{
    CLEANUP(err_freep) struct err *e = lv_job_stats(j->dom, &j->sample);
    CLEANUP(freep) char *text = NULL;
    enum migwatch_action action;

    if (e) { /* The end of libvirt's call decides, not this. */
        text = err_text(e);
        log_warning_limited(LOG_MIGRATE, "%s, trying again in %d ms", text, SAMPLE_MS);
        j->sample.type = LV_JOB_NONE;
        return;
    }
    while ((action = migwatch_step(&j->watch, &j->sample, clock_ms())) != MIGWATCH_NONE) {
        take_action(j, action);
    }
    if (j->sample.type == LV_JOB_UNBOUNDED) {
        j->running = j->sample;
        if (j->hooks.on_sample) {
            j->hooks.on_sample(&j->sample, j->hooks.arg);
        }
    }
}

/* Sleeps until the next sample is due or somebody asks for something (*ret_has_news); false when
 * the call is over. */
static bool wait_for_work(struct migrate_job *j, bool *ret_has_news)
{
    int64_t deadline_ms = clock_ms() + SAMPLE_MS;
    bool wants_force, has_returned;

    mutex_lock(&j->m);
    while (!j->has_returned && !j->has_news && cond_wait_until(&j->changed, &j->m, deadline_ms)) {
    }
    has_returned = j->has_returned;
    wants_force = j->wants_force;
    *ret_has_news = j->has_news;
    j->wants_force = false;
    j->has_news = false;
    mutex_unlock(&j->m);
    if (wants_force && !j->watch.is_postcopy) {
        j->pending = migwatch_force(&j->watch);
    }
    return !has_returned;
}

static void watch(struct migrate_job *j)
{
    bool has_news;

    while (wait_for_work(j, &has_news)) {
        if (!has_news) { /* Which can take seconds: QEMU is slow to answer while it begins to copy.
                          */
            take_sample(j);
        }
        carry_out(j);
    }
}

/* ---- The end ---- */

/* Where the guest is, after a call that failed.  ERR_HYPERVISOR_UNAVAILABLE if nobody can tell. */
static struct err *ask_whether_gone(struct migrate_job *j, bool *ret)
{
    CLEANUP(err_freep) struct err *e = NULL;
    enum lv_state state;
    int reason;

    e = lv_domain_state(j->dom, &state, &reason);
    if (!e) {
        /* Off, but not moved: it ended on its own.  Nova would take that for a success. */
        *ret = state == LV_SHUTOFF && reason == LV_REASON_SHUTOFF_MIGRATED;
        return NULL;
    }
    if (!err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    mutex_lock(&j->m);
    *ret = !j->has_died;
    mutex_unlock(&j->m);
    return NULL;
}

/* libvirtd, or our way to it, broke during the call, but its job may go on without us: the answer
 * is what it says when it is back and has no job. */
static struct err *ask_until_answered(struct migrate_job *j, bool *ret)
{
    int64_t deadline_ms = clock_ms() + SETTLE_MS;

    for (;;) {
        CLEANUP(err_freep) struct err *e = lv_job_stats(j->dom, &j->sample);

        if (!e && j->sample.type != LV_JOB_UNBOUNDED) {
            e = ask_whether_gone(j, ret);
            if (!e) {
                return NULL;
            }
        }
        if (e && (clock_ms() >= deadline_ms || !err_is(e, ERR_HYPERVISOR_UNAVAILABLE))) {
            return TAKE(e);
        }
        carry_out(j);
        mutex_lock(&j->m);
        cond_wait_until(&j->changed, &j->m, clock_ms() + SAMPLE_MS);
        mutex_unlock(&j->m);
    }
}

/* What libvirt's call and the guest's whereabouts mean (driver.py _live_migration_monitor,
 * migration.py find_job_type).  Consumes call_err. */
static void decide(struct migrate_job *j, struct err *call_err, struct migrate_result *ret)
{
    bool is_gone = !call_err, wants_abort;
    struct err *e = NULL;

    if (err_is(call_err, ERR_HYPERVISOR_UNAVAILABLE)) {
        log_warning(LOG_MIGRATE, "lost libvirtd during a migration, waiting for it");
        e = ask_until_answered(j, &is_gone);
    } else if (call_err) {
        e = ask_whether_gone(j, &is_gone);
    }
    mutex_lock(&j->m);
    wants_abort = j->wants_abort;
    mutex_unlock(&j->m);
    if (e) {
        ret->end = MIGRATE_FAILED;
        ret->err = err_context(e, "asking where the guest is");
        err_ignore(call_err, "migration");
    } else if (is_gone) {
        ret->end = MIGRATE_COMPLETED;
        if (call_err) {
            err_ignore(call_err, "after the guest has moved");
        }
    } else {
        bool is_aborted = str_eq(err_get(call_err, "name"), "VIR_ERR_OPERATION_ABORTED");

        ret->end = wants_abort || is_aborted ? MIGRATE_CANCELLED : MIGRATE_FAILED;
        ret->err = call_err;
    }
}

/* A guest that we paused and that stays runs again. */
static void undo_pause(struct migrate_job *j)
{
    CLEANUP(err_freep) struct err *e = NULL;
    enum lv_state state = LV_NOSTATE;
    bool has_paused;

    mutex_lock(&j->m);
    has_paused = j->has_paused;
    mutex_unlock(&j->m);
    if (!has_paused) {
        return;
    }
    e = lv_domain_state(j->dom, &state, NULL);
    if (!e && state == LV_PAUSED) {
        e = lv_domain_resume(j->dom);
    }
    if (e) {
        err_ignore(TAKE(e), "resuming the guest after its migration failed, it stays paused");
    }
}

/* The statistics come with an event, which took another way than the end of the call. */
static void collect_stats(struct migrate_job *j, struct migrate_result *ret)
{
    int64_t deadline_ms = clock_ms() + STATS_WAIT_MS;
    bool has_stats;

    mutex_lock(&j->m);
    while (j->has_switched && !j->has_stats && cond_wait_until(&j->changed, &j->m, deadline_ms)) {
    }
    has_stats = j->has_stats;
    ret->stats = j->stats;
    mutex_unlock(&j->m);
    if (!has_stats) {
        ret->stats = j->running;
    }
}

/* Ends the reactions to events; whether on_switchover was missed. */
static bool close_job(struct migrate_job *j, enum migrate_end end)
{
    bool is_missed;

    mutex_lock(&j->m);
    is_missed = end == MIGRATE_COMPLETED && !j->has_switched;
    j->has_switched = j->has_switched || is_missed;
    j->is_running = false;
    j->is_over = true;
    mutex_unlock(&j->m);
    return is_missed;
}

static void finish(struct migrate_job *j, int64_t start_ms, struct migrate_result *ret)
{
    struct err *call_err;

    mutex_lock(&j->m);
    call_err = TAKE(j->call_err);
    mutex_unlock(&j->m);
    *ret = (struct migrate_result){0};
    decide(j, call_err, ret);
    ret->duration_ms = clock_ms() - start_ms;
    if (ret->end != MIGRATE_COMPLETED) {
        undo_pause(j);
    }
    collect_stats(j, ret);
    if (close_job(j, ret->end) && j->hooks.on_switchover) {
        j->hooks.on_switchover(j->watch.is_postcopy, j->hooks.arg);
    }
}

/* ---- The public face ---- */

/* False if it was aborted before it began. */
static bool open_job(struct migrate_job *j)
{
    bool ret;

    mutex_lock(&j->m);
    ret = !j->wants_abort;
    j->is_running = ret;
    j->is_over = !ret;
    mutex_unlock(&j->m);
    return ret;
}

static struct err *run_open_job(struct migrate_job *j, struct migrate_result *ret)
{
    int64_t start_ms = clock_ms();
    pthread_t thread;

    migwatch_init(&j->watch, &j->watch_conf, start_ms);
    err_ignore(lv_migrate_set_max_downtime(j->dom, j->watch.downtime_ms),
               "setting the maximum downtime to begin with");
    if (j->hooks.on_start) {
        j->hooks.on_start(j->hooks.arg);
    }
    TRY(start_call(j, &thread));
    watch(j);
    pthread_join(thread, NULL);
    finish(j, start_ms, ret);
    return NULL;
}

/* Two connections: while a thread waits in a long call, libvirt before 10.0 may leave another
 * thread's call on the same connection unsent, until the next keepalive ("rpc: fix race in waking
 * up client event loop").  A pause or an abort then comes five seconds late. */
struct err *migrate_run(struct migrate_job *j, struct migrate_result *ret)
{
    CLEANUP(lv_conn_freep) struct lv_conn *conn = NULL;
    CLEANUP(lv_conn_freep) struct lv_conn *call_conn = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *dom = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *call_dom = NULL;
    struct err *e;

    TRY(lv_connect(j->uri, &conn));
    TRY(lv_domain_by_uuid(conn, j->uuid, &dom));
    TRY(lv_connect(j->uri, &call_conn));
    TRY(lv_domain_by_uuid(call_conn, j->uuid, &call_dom));
    if (!open_job(j)) {
        *ret = (struct migrate_result){
            .end = MIGRATE_CANCELLED,
            .err = err_msg(ERR_CANCELLED, "the migration was aborted before it began")};
        return NULL;
    }
    j->dom = dom;
    j->call_dom = call_dom;
    e = run_open_job(j, ret);
    j->dom = j->call_dom = NULL;
    if (e) {
        close_job(j, MIGRATE_FAILED);
    }
    return e;
}

void migrate_result_fini(struct migrate_result *r)
{
    r->err = err_free(r->err);
}

struct err *migrate_abort(struct migrate_job *j)
{
    CLEANUP(freep) char *id = str_printf("%" PRId64, j->migration_id);
    const char *state;

    mutex_lock(&j->m);
    state = j->is_over ? "completed" : j->is_postcopy ? "running (post-copy)" : NULL;
    if (!state) {
        j->wants_abort = true;
        j->has_news = true;
        cond_broadcast(&j->changed);
    }
    mutex_unlock(&j->m);
    return state ? err_new(ERR_INVALID_MIGRATION_STATE, "migration_id", id, "instance_uuid",
                           j->uuid, "state", state, "method", "abort live migration", NULL)
                 : NULL;
}

struct err *migrate_force_complete(struct migrate_job *j)
{
    bool is_running;

    mutex_lock(&j->m);
    is_running = j->is_running;
    if (is_running) {
        j->wants_force = true;
        j->has_news = true;
        cond_broadcast(&j->changed);
    }
    mutex_unlock(&j->m);
    return is_running ? NULL : err_new(ERR_NO_ACTIVE_MIGRATION, "instance_id", j->uuid, NULL);
}

void migrate_event(struct migrate_job *j, const struct lv_event *event)
{
    bool is_switch = false, is_postcopy;

    if (!str_eq(event->uuid, j->uuid)) {
        return;
    }
    mutex_lock(&j->m);
    if (event->type == LV_EVENT_SUSPENDED) {
        /* MIGRATED is also what libvirt says of our own pause, and then nothing at the switch-over;
         * before POSTCOPY it says MIGRATED too. */
        is_switch = event->detail == LV_DETAIL_POSTCOPY ||
                    (event->detail == LV_DETAIL_MIGRATED && !j->has_paused);
    } else if (event->type == LV_EVENT_STOPPED) {
        is_switch = event->detail == LV_DETAIL_MIGRATED;
        j->has_died = !is_switch;
    } else if (event->type == LV_EVENT_JOB_COMPLETED && j->is_running) {
        j->stats = event->job;
        j->has_stats = true;
        cond_broadcast(&j->changed);
    }
    is_postcopy = j->is_postcopy;
    is_switch = is_switch && j->is_running && !j->has_switched;
    j->has_switched = j->has_switched || is_switch;
    mutex_unlock(&j->m);
    if (is_switch && j->hooks.on_switchover) {
        j->hooks.on_switchover(is_postcopy, j->hooks.arg);
    }
}

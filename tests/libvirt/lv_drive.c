/* Drives lv.c and migrate.c against a real libvirt for tests/libvirt/run.
 *
 *     lv_drive host
 *     lv_drive define XML-FILE            define, look at, undefine
 *     lv_drive reconnect                  waits for a line on stdin between two calls
 *     lv_drive domain UUID                what there is to see of a running domain
 *     lv_drive life XML-FILE COPY         a guest from start to end (its disk vda is copied to
 * COPY) lv_drive migrate UUID DEST [NAME=VALUE...]
 *
 * What happens is printed, one line each, with milliseconds since the start. */

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "driver/libvirt/guest.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/lvwatch.h"
#include "driver/libvirt/migrate.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define URI "qemu:///system"

static int64_t start_ms;

static void say(const char *fmt, ...) PRINTF(1, 2);
static void say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    CLEANUP(freep) char *text = str_vprintf(fmt, ap);
    va_end(ap);
    printf("+%" PRId64 " %s\n", clock_ms() - start_ms, text);
    fflush(stdout);
}

static const char *const event_names[] = {
    "STARTED",   "SUSPENDED",      "RESUMED",        "STOPPED",     "UNDEFINED",
    "DEFINED",   "CRASHED",        "PMSUSPENDED",    "SHUTDOWN",    "JOB_COMPLETED",
    "ITERATION", "DEVICE_REMOVED", "REMOVAL_FAILED", "DISCONNECTED"};
static const char *const detail_names[] = {
    "",         "MIGRATED",  "POSTCOPY", "POSTCOPY_FAILED", "FROM_SNAPSHOT",
    "SHUTDOWN", "DESTROYED", "CRASHED",  "FAILED",          "OTHER"};

static void say_job(const char *what, const struct lv_job *job)
{
    say("%s type %d elapsed %" PRIu64 " downtime %" PRIu64 " total %" PRIu64 " processed %" PRIu64
        " remaining %" PRIu64 " iteration %" PRIu64 " page %" PRIu64,
        what, job->type, job->time_elapsed_ms, job->downtime_ms, job->memory_total,
        job->memory_processed, job->memory_remaining, job->memory_iteration, job->memory_page_size);
}

struct drive {
    struct migrate_job *job;
    struct lv_domain *dom; /* On another connection than the migration's. */
    long abort_ms, force_ms, kill_ms;
    bool is_over;
};

static void on_event(const struct lv_event *event, void *arg)
{
    struct drive *d = arg;

    say("event %s %s", event_names[event->type], detail_names[event->detail]);
    if (event->type == LV_EVENT_JOB_COMPLETED) {
        say_job("completed", &event->job);
    }
    if (d->job) {
        migrate_event(d->job, event);
    }
}

static struct err *host(struct lv_conn *c)
{
    CLEANUP(freep) char *name = NULL;
    CLEANUP(freep) char *type = NULL;
    CLEANUP(freep) char *caps = NULL;
    CLEANUP(freep) char *dom_caps = NULL;
    CLEANUP(freep) char *cpus = NULL;
    CLEANUP(strv_fini) struct strv uuids = {0};
    unsigned long libvirt, hv;
    struct lv_node_info node;
    uint64_t pages;
    int compared;

    TRY(lv_hostname(c, &name));
    TRY(lv_type(c, &type));
    TRY(lv_versions(c, &libvirt, &hv));
    TRY(lv_capabilities(c, &caps));
    TRY(lv_domain_capabilities(c, NULL, "x86_64", "pc", "qemu", &dom_caps));
    TRY(lv_node_info(c, &node));
    TRY(lv_online_cpus(c, &cpus));
    TRY(lv_free_pages(c, 4, 0, &pages));
    TRY(lv_domain_uuids(c, &uuids));
    say("hostname %s type %s libvirt %lu qemu %lu", name, type, libvirt, hv);
    say("memory %" PRIu64 " cpus %u online %s pages %d domains %zu", node.memory_kib, node.cpus,
        cpus, pages > 0, uuids.n);
    say("capabilities %d %d", !!strstr(caps, "<capabilities>"),
        !!strstr(dom_caps, "<domainCapabilities>"));
    TRY(lv_compare_cpu(c, "<cpu match='exact'><model>qemu64</model></cpu>", &compared));
    say("qemu64 compares as %d", compared);
    return NULL;
}

static struct err *define(struct lv_conn *c, const char *path)
{
    CLEANUP(lv_domain_freep) struct lv_domain *dom = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *name = NULL;
    enum lv_state state;
    size_t len;
    int reason;

    TRY(fs_read(&fs_real, path, &xml, &len));
    TRY(lv_define(c, xml, &dom));
    TRY(lv_domain_name(dom, &name));
    TRY(lv_domain_state(dom, &state, &reason));
    say("defined %s %s state %d", name, lv_domain_uuid(dom), state);
    TRY(lv_domain_destroy(dom));
    TRY(lv_domain_undefine(dom));
    say("undefined");
    return lv_domain_state(dom, &state, &reason);
}

static struct err *domain(struct lv_conn *c, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *dom = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *answer = NULL;
    struct lv_job job;
    enum lv_state state;

    TRY(lv_domain_by_uuid(c, uuid, &dom));
    TRY(lv_domain_xml(dom, true, &xml));
    TRY(lv_monitor_command(dom, "{\"execute\": \"query-status\"}", &answer));
    TRY(lv_job_stats(dom, &job));
    say("xml %d answer %s job %d", !!strstr(xml, uuid), answer, job.type);
    TRY(lv_domain_suspend(dom));
    TRY(lv_domain_state(dom, &state, NULL));
    say("suspended %d", state == LV_PAUSED);
    TRY(lv_domain_resume(dom));
    TRY(lv_domain_state(dom, &state, NULL));
    say("resumed %d", state == LV_RUNNING);
    TRY(lv_domain_destroy(dom));
    TRY(lv_domain_destroy(dom));
    say("destroyed twice");
    return NULL;
}

static struct err *reconnect(struct lv_conn *c, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *dom = NULL;
    enum lv_state state;
    char line[8];

    TRY(lv_domain_by_uuid(c, uuid, &dom));
    say("ready");
    while (fgets(line, sizeof(line), stdin)) {
        for (int i = 0; i < 3; i++) { /* More than one attempt a second there is not. */
            struct err *e = lv_domain_state(dom, &state, NULL);

            say("alive %d: %s", lv_conn_is_alive(c), e ? err_class(e) : "ok");
            err_free(e);
        }
    }
    return NULL;
}

/* ---- Migration ---- */

static void on_start(void *arg)
{
    (void)arg;
    say("hook start");
}

static void on_switchover(bool is_postcopy, void *arg)
{
    (void)arg;
    say("hook switchover%s", is_postcopy ? " postcopy" : "");
}

static void on_postcopy(void *arg)
{
    (void)arg;
    say("hook postcopy");
}

static void on_sample(const struct lv_job *job, void *arg)
{
    (void)arg;
    say_job("sample", job);
}

static void say_error(const char *what, struct err *e)
{
    CLEANUP(freep) char *text = e ? err_text(e) : str_dup("ok");

    say("%s: %s", what, text);
    err_free(e);
}

/* What an operator would do meanwhile. */
static void *run_operator(void *arg)
{
    struct drive *d = arg;

    for (long ms = 0; !__atomic_load_n(&d->is_over, __ATOMIC_ACQUIRE); ms += 10) {
        if (ms == d->abort_ms) {
            say_error("abort", migrate_abort(d->job));
        }
        if (ms == d->force_ms) {
            say_error("force", migrate_force_complete(d->job));
        }
        if (ms == d->kill_ms) {
            say_error("kill", lv_domain_destroy(d->dom));
        }
        usleep(10000);
    }
    return NULL;
}

static void set(struct conf *conf, struct migrate_spec *spec, struct drive *d, char *arg)
{
    char *value = strchr(arg, '=');
    const struct {
        const char *name;
        long *to;
    } times[] = {{"abort", &d->abort_ms}, {"force", &d->force_ms}, {"kill", &d->kill_ms}};
    int64_t n = 0;

    *value++ = '\0';
    (void)!str_to_i64(value, &n);
    for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
        if (str_eq(arg, times[i].name)) {
            *times[i].to = n;
        }
    }
    if (str_eq(arg, "bandwidth")) {
        conf->libvirt.live_migration_bandwidth = n;
    } else if (str_eq(arg, "postcopy")) {
        conf->libvirt.live_migration_permit_post_copy = n;
    } else if (str_eq(arg, "timeout")) {
        conf->libvirt.live_migration_completion_timeout = n;
    } else if (str_eq(arg, "timeout_action")) {
        conf->libvirt.live_migration_timeout_action = value;
    } else if (str_eq(arg, "tunnelled")) {
        conf->libvirt.live_migration_tunnelled = n;
    } else if (str_eq(arg, "addr")) {
        spec->target_connect_addr = value;
    }
}

static struct err *migrate(struct lv_conn *c, char **args)
{
    static const char *const ends[] = {"COMPLETED", "FAILED", "CANCELLED"};
    struct drive d = {.abort_ms = -1, .force_ms = -1, .kill_ms = -1};
    CLEANUP(freep) char *xml = NULL;
    struct migrate_hooks hooks = {.on_start = on_start,
                                  .on_switchover = on_switchover,
                                  .on_sample = on_sample,
                                  .on_postcopy = on_postcopy};
    struct migrate_result result = {0};
    struct conf *conf = NEW(struct conf);
    struct migrate_spec spec = {.instance_uuid = args[0], .dest = args[1], .memory_mib = 64};
    enum lv_state state;
    pthread_t operator_thread;
    struct err *e;

    conf->libvirt.live_migration_downtime = 500;
    conf->libvirt.live_migration_downtime_steps = 10;
    conf->libvirt.live_migration_downtime_delay = 75;
    conf->libvirt.live_migration_timeout_action = "abort";
    for (char **arg = args + 2; *arg; arg++) {
        set(conf, &spec, &d, *arg);
    }
    TRY(lv_domain_by_uuid(c, args[0], &d.dom));
    TRY(lv_domain_xml(d.dom, true, &xml));
    spec.dest_xml = xml;
    TRY(migrate_new(URI, conf, &spec, &hooks, &d.job));
    TRY(lv_subscribe(c, on_event, &d));
    pthread_create(&operator_thread, NULL, run_operator, &d);
    e = migrate_run(d.job, &result);
    __atomic_store_n(&d.is_over, true, __ATOMIC_RELEASE);
    pthread_join(operator_thread, NULL);
    if (!e) {
        say("result %s after %" PRId64 " ms", ends[result.end], result.duration_ms);
        say_job("stats", &result.stats);
        say_error("because", TAKE(result.err));
        usleep(100000); /* Events that come late are part of the story. */
        e = lv_domain_state(d.dom, &state, NULL);
        say("state here %s", e ? "gone" : state == LV_RUNNING ? "running" : "other");
        e = err_free(e);
    }
    migrate_result_fini(&result);
    lv_conn_free(c); /* No event after this. */
    migrate_free(d.job);
    lv_domain_free(d.dom);
    free(conf);
    return e;
}

/* ---- A guest's life ---- */

#define EXTRA_DISK                                                                                 \
    "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"          \
    "<target dev='vdb' bus='virtio'/></disk>"

static void on_watched(const struct lv_event *event, void *arg)
{
    say("event %s %s %s", event_names[event->type], detail_names[event->detail], event->alias);
    lvwatch_deliver(arg, event);
}

static void say_state(const char *what, struct lv_domain *dom)
{
    enum lv_state state;
    bool has_save = false;
    struct err *e = lv_domain_state(dom, &state, NULL);

    e = e ? e : lv_domain_has_managed_save(dom, &has_save);
    if (e) {
        say_error(what, e);
    } else {
        say("%s: state %d saved %d", what, state, has_save);
    }
}

static void say_devices(const char *what, struct lv_domain *dom)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(err_freep) struct err *e = lv_domain_xml(dom, false, &xml);

    say("%s: vdb %d", what, !e && strstr(xml, "'vdb'"));
}

static struct err *copy_disk(struct lv_domain *dom, const char *copy)
{
    struct lv_block_job job = {0};

    TRY(lv_block_copy(dom, "vda", copy, "raw", false));
    for (int i = 0; i < 100 && !job.is_ready; i++) {
        TRY(lv_block_job(dom, "vda", &job));
        usleep(50000);
    }
    say("copy there %d ready %d done %" PRIu64, job.is_there, job.is_ready, job.done);
    TRY(lv_block_job_abort(dom, "vda"));
    TRY(lv_block_job(dom, "vda", &job));
    say("copy ended: there %d", job.is_there);
    return NULL;
}

static struct err *look_at(struct lv_domain *dom)
{
    CLEANUP(freep) uint64_t *times = NULL;
    struct lv_block_stats block;
    uint64_t max_kib, used_kib;
    size_t n;

    TRY(lv_vcpu_times(dom, &times, &n));
    TRY(lv_memory_stats(dom, &max_kib, &used_kib));
    TRY(lv_block_stats(dom, "vda", &block));
    say("vcpus %zu ran %d memory %" PRIu64 " of %" PRIu64 " reads %" PRId64 " errors %" PRId64, n,
        times[0] > 0, used_kib, max_kib, block.read_requests, block.errors);
    say_error("password", lv_domain_set_user_password(dom, "root", "secret"));
    say_error("freeze", lv_domain_freeze(dom));
    say_error("clock", lv_domain_sync_time(dom));
    say_error("nmi", lv_domain_inject_nmi(dom));
    return NULL;
}

static struct err *live(const struct guest_env *env, const char *xml, const char *copy)
{
    CLEANUP(lv_domain_freep) struct lv_domain *dom = NULL;
    CLEANUP(freep) char *extra = str_printf(EXTRA_DISK, copy);
    const char *uuid;
    bool flag = false;

    TRY(guest_start(env, xml, /* is_paused= */ true, &dom));
    uuid = lv_domain_uuid(dom);
    say_state("started", dom);
    TRY(lv_domain_resume(dom));
    TRY(copy_disk(dom, copy));
    TRY(look_at(dom));
    TRY(guest_suspend(env, uuid, 5));
    say_state("suspended", dom);
    TRY(guest_resume_saved(env, uuid, &flag));
    say_state("resumed", dom);
    TRY(guest_attach_device(env, uuid, extra));
    say_devices("attached", dom);
    say_error("detached", guest_detach_device(env, uuid, extra, NULL, 2));
    say_devices("kept", dom);
    TRY(guest_shutdown(env, uuid, 2, 1, &flag));
    say("shut down: %d", flag);
    TRY(guest_soft_reboot(env, uuid, 1, &flag));
    say("rebooted: %d", flag);
    TRY(guest_power_off(env, uuid));
    say_state("off", dom);
    say_error("detached when off", guest_detach_device(env, uuid, extra, NULL, 2));
    say_devices("gone", dom);
    TRY(guest_power_off(env, uuid));
    TRY(guest_undefine(env, uuid));
    return guest_undefine(env, uuid);
}

static struct err *life(struct lv_conn *c, const char *path, const char *copy)
{
    struct lvwatch *watch = lvwatch_new();
    struct lv_conn *events = NULL;
    CLEANUP(freep) char *xml = NULL;
    struct err *e = fs_read(&fs_real, path, &xml, NULL);

    e = e ? e : lv_connect(URI, &events);
    e = e ? e : lv_subscribe(events, on_watched, watch);
    e = e ? e : live(&(struct guest_env){.lv = c, .watch = watch}, xml, copy);
    lv_conn_free(events);
    lvwatch_free(watch);
    if (!e) {
        say("the end");
    }
    return e;
}

int main(int argc, char **argv)
{
    struct lv_conn *c = NULL;
    struct drive idle = {0};
    struct err *e;

    start_ms = clock_ms();
    e = lv_init();
    e = e ? e : lv_connect(URI, &c);
    if (!e && argc > 3 && str_eq(argv[1], "migrate")) {
        e = migrate(TAKE(c), argv + 2);
    } else if (!e && argc > 3) {
        e = life(c, argv[2], argv[3]);
    } else if (!e && argc > 2 && str_eq(argv[1], "reconnect")) {
        e = lv_subscribe(c, on_event, &idle);
        e = e ? e : reconnect(c, argv[2]);
    } else if (!e && argc > 2) {
        e = str_eq(argv[1], "define") ? define(c, argv[2]) : domain(c, argv[2]);
    } else if (!e) {
        e = host(c);
    }
    lv_conn_free(c);
    if (e) {
        say("kind %s", err_class(e));
        say_error("error", e);
        return 1;
    }
    return 0;
}

#include "tests/fake/lv_fake.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/sync.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TICK_MS = 5 };

struct subscriber {
    lv_event_fn fn;
    void *arg;
};

struct lv_conn {
    char *dir;
    struct subscriber *subs; /* This and below: guarded by fake.m. */
    size_t n_subs;
    off_t offset; /* How far 'events' was delivered. */
    struct lv_conn *next;
    bool is_delivering;
};

struct lv_domain {
    char *dir;
    char uuid[UUID_LEN + 1];
};

/* One per process, as libvirt's event loop is. */
static struct {
    struct mutex m;
    struct cond changed;
    struct lv_conn *subscribed;
    int inotify;
} fake = {.m = MUTEX_INIT, .changed = {PTHREAD_COND_INITIALIZER}, .inotify = -1};

/* ---- Files ---- */

static char *in(const char *dir, const char *fmt, ...)PRINTF(2, 3);
static char *in(const char *dir, const char *fmt, ...)
{
    CLEANUP(freep) char *name = NULL;
    va_list ap;

    va_start(ap, fmt);
    name = str_vprintf(fmt, ap);
    va_end(ap);
    return str_printf("%s/%s", dir, name);
}

/* NULL if there is none. */
char *lv_fake_read(const char *dir, const char *name)
{
    CLEANUP(freep) char *path = in(dir, "%s", name);
    char *text = NULL;
    size_t len;
    struct err *e = fs_read(&fs_real, path, &text, &len);

    return e ? (err_free(e), NULL) : text;
}

void lv_fake_write(const char *dir, const char *name, const char *text)
{
    static unsigned n_written;
    unsigned n = __atomic_add_fetch(&n_written, 1, __ATOMIC_RELAXED);
    CLEANUP(freep) char *path = in(dir, "%s", name);
    CLEANUP(freep) char *new = in(dir, ".new-%d-%u", (int)getpid(), n);
    FILE *f = fopen(new, "we");

    assert(f);
    fputs(text, f);
    fclose(f);
    assert(rename(new, path) == 0);
}

static bool exists(const char *dir, const char *fmt, const char *uuid)
{
    CLEANUP(freep) char *path = str_printf("%s/%s%s", dir, fmt, uuid);

    return access(path, F_OK) == 0;
}

static void drop(const char *dir, const char *folder, const char *uuid, const char *suffix)
{
    CLEANUP(freep) char *path = in(dir, "%s/%s%s", folder, uuid, suffix);

    unlink(path);
}

static void append(const char *dir, const char *name, const char *line)
{
    CLEANUP(freep) char *path = in(dir, "%s", name);
    CLEANUP(freep) char *text = str_printf("%s\n", line);
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void note(const struct lv_domain *d, const char *fmt, ...) PRINTF(2, 3);
static void note(const struct lv_domain *d, const char *fmt, ...)
{
    CLEANUP(freep) char *what = NULL;
    CLEANUP(freep) char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = str_vprintf(fmt, ap);
    va_end(ap);
    line = str_printf("%s %s", d->uuid, what);
    append(d->dir, "calls", line);
}

/* The value of a line "NAME VALUE", or NULL. */
static char *value_in(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncmp(p, name, len) == 0 && p[len] == ' ') {
            return str_ndup(p + len + 1, strcspn(p + len + 1, "\n"));
        }
    }
    return NULL;
}

static char *fact(const char *dir, const char *name, const char *def)
{
    CLEANUP(freep) char *text = lv_fake_read(dir, "facts");
    char *value = value_in(text, name);

    return value ? value : str_dup(def);
}

static uint64_t fact_u64(const char *dir, const char *name, uint64_t def)
{
    CLEANUP(freep) char *text = fact(dir, name, "");
    uint64_t value;

    return str_to_u64(text, &value) ? value : def;
}

void lv_fake_host(const char *dir)
{
    static const char *const folders[] = {"domains", "jobs", "blocks"};

    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        CLEANUP(freep) char *path = in(dir, "%s", folders[i]);
        CLEANUP(err_freep) struct err *e = fs_mkdir_all(&fs_real, path, 0755);

        assert(!e);
    }
}

void lv_fake_domain(const char *dir, const char *uuid, const char *state)
{
    CLEANUP(freep) char *xml_name = str_printf("domains/%s.xml", uuid);
    CLEANUP(freep) char *state_name = str_printf("domains/%s.state", uuid);
    CLEANUP(freep)
    char *xml = str_printf("<domain type='qemu'><name>guest-%.4s</name><uuid>%s</uuid></domain>\n",
                           uuid, uuid);

    lv_fake_write(dir, state_name, state);
    lv_fake_write(dir, xml_name, xml);
}

/* ---- Errors ---- */

static struct err *refused(const char *name, const char *text)
{
    struct err *e = err_msg(ERR_LIBVIRT, "%s", text);

    err_set(e, "code", str_eq(name, "VIR_ERR_OPERATION_ABORTED") ? "78" : "55");
    err_set(e, "name", name);
    return e;
}

static struct err *check_up(const char *dir)
{
    return exists(dir, "down", "") ? err_new(ERR_HYPERVISOR_UNAVAILABLE, NULL) : NULL;
}

static struct err *check_domain(const struct lv_domain *d)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(check_up(d->dir));
    xml = in(d->dir, "domains/%s.xml", d->uuid);
    return access(xml, F_OK) == 0 ? NULL
                                  : err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", d->uuid, NULL);
}

/* ---- Events ---- */

static const char *const event_types[] = {
    "STARTED",   "SUSPENDED",      "RESUMED",        "STOPPED",     "UNDEFINED",
    "DEFINED",   "CRASHED",        "PMSUSPENDED",    "SHUTDOWN",    "JOB_COMPLETED",
    "ITERATION", "DEVICE_REMOVED", "REMOVAL_FAILED", "DISCONNECTED"};
static const char *const event_details[] = {
    "NONE",     "MIGRATED",  "POSTCOPY", "POSTCOPY_FAILED", "FROM_SNAPSHOT",
    "SHUTDOWN", "DESTROYED", "CRASHED",  "FAILED",          "OTHER"};

static int index_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(names[i], name)) {
            return (int)i;
        }
    }
    return -1;
}

static void tell(const char *dir, const char *uuid, const char *what)
{
    CLEANUP(freep) char *line = str_printf("%s %s", what, uuid);

    append(dir, "events", line);
}

static void set_attribute(struct lv_event *e, const char *name, const char *value)
{
    uint64_t n = 0;

    if (str_eq(name, "alias")) {
        snprintf(e->alias, sizeof(e->alias), "%s", value);
    } else if (str_to_u64(value, &n) && str_eq(name, "iteration")) {
        e->iteration = (int64_t)n;
    } else if (str_eq(name, "type")) {
        e->job.type = (enum lv_job_type)n;
    } else if (str_eq(name, "elapsed")) {
        e->job.time_elapsed_ms = n;
    } else if (str_eq(name, "downtime")) {
        e->job.downtime_ms = n;
    } else if (str_eq(name, "total")) {
        e->job.memory_total = n;
    }
}

/* False for a line that is none. */
static bool parse_event(const char *line, struct lv_event *ret)
{
    CLEANUP(strv_fini) struct strv words = strv_split(line, " ");
    int type = words.n > 0 ? index_of(event_types, ARRAY_SIZE(event_types), words.items[0]) : -1;
    int detail =
        words.n > 1 ? index_of(event_details, ARRAY_SIZE(event_details), words.items[1]) : 0;

    *ret =
        (struct lv_event){.type = (enum lv_event_type)type, .detail = (enum lv_event_detail)detail};
    if (words.n > 2) {
        snprintf(ret->uuid, sizeof(ret->uuid), "%s", words.items[2]);
    }
    for (size_t i = 3; i < words.n; i++) {
        char *value = strchr(words.items[i], '=');

        if (value) {
            *value = '\0';
            set_attribute(ret, words.items[i], value + 1);
        }
    }
    return type >= 0 && detail >= 0;
}

/* What was appended since; fake.m is let go for the callbacks. */
static void deliver_locked(struct lv_conn *c) REQUIRES(fake.m)
{
    CLEANUP(freep) char *text = lv_fake_read(c->dir, "events");
    size_t len = text ? strlen(text) : 0;
    char *end;

    while ((size_t)c->offset < len && (end = strchr(text + c->offset, '\n'))) {
        char *line = text + c->offset;
        struct lv_event event;

        *end = '\0';
        c->offset = end + 1 - text;
        c->is_delivering = true;
        for (size_t i = 0; parse_event(line, &event) && i < c->n_subs; i++) {
            struct subscriber s = c->subs[i];

            mutex_unlock(&fake.m);
            s.fn(&event, s.arg);
            mutex_lock(&fake.m);
        }
        c->is_delivering = false;
    }
    cond_broadcast(&fake.changed);
}

static void *run_events(void *arg)
{
    char buf[4096];

    pthread_setname_np(pthread_self(), "lv-events");
    while (read(fake.inotify, buf, sizeof(buf)) > 0) {
        mutex_lock(&fake.m);
        for (struct lv_conn *c = fake.subscribed; c; c = c->next) {
            deliver_locked(c); /* It stays in the list while it delivers. */
        }
        mutex_unlock(&fake.m);
    }
    return arg;
}

static void start_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    assert(pthread_create(&thread, NULL, fn, arg) == 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_detach(thread);
}

struct err *lv_init(void)
{
    if (fake.inotify < 0) {
        fake.inotify = inotify_init1(IN_CLOEXEC);
        assert(fake.inotify >= 0);
        start_thread(run_events, NULL);
    }
    return NULL;
}

struct err *lv_subscribe(struct lv_conn *c, lv_event_fn fn, void *arg)
{
    CLEANUP(freep) char *path = in(c->dir, "events");
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;

    TRY(check_up(c->dir));
    assert(fd >= 0 && fstat(fd, &st) == 0);
    mutex_lock(&fake.m);
    c->subs = mem_realloc(c->subs, c->n_subs + 1, sizeof(*c->subs));
    c->subs[c->n_subs++] = (struct subscriber){fn, arg};
    if (c->n_subs == 1) {
        c->offset = st.st_size;
        c->next = fake.subscribed;
        fake.subscribed = c;
        assert(inotify_add_watch(fake.inotify, path, IN_MODIFY) >= 0);
    }
    mutex_unlock(&fake.m);
    return NULL;
}

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
    CLEANUP(freep) char *text = value_in(j->script, name);
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

static uint64_t text_u64(const char *text, const char *name)
{
    CLEANUP(freep) char *value = value_in(text, name);
    uint64_t n = 0;

    return value && str_to_u64(value, &n) ? n : 0;
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
    j->dest_dir = value_in(text, "dest");
    j->dest_xml = lv_fake_read(dir, xml_name);
    j->script = lv_fake_read(dir, exists(dir, "migrate.", uuid) ? own : "migrate");
    j->start_ms = (int64_t)text_u64(text, "start_ms");
    j->pass_start_ms = (int64_t)text_u64(text, "pass_start_ms");
    j->pass_ms = (int64_t)text_u64(text, "pass_ms");
    j->pass = text_u64(text, "pass");
    j->total = text_u64(text, "total");
    j->was_paused = text_u64(text, "was_paused");
    j->may_postcopy = text_u64(text, "may_postcopy");
    j->is_postcopy = text_u64(text, "is_postcopy");
    return j;
}

static void set_state(const char *dir, const char *uuid, const char *state)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.state", uuid);

    lv_fake_write(dir, name, state);
}

static enum lv_state get_state(const char *dir, const char *uuid, int *ret_reason)
{
    static const char *const names[] = {"nostate",  "running", "blocked", "paused",
                                        "shutdown", "shutoff", "crashed", "pmsuspended"};
    CLEANUP(freep) char *name = str_printf("domains/%s.state", uuid);
    CLEANUP(freep) char *text = lv_fake_read(dir, name);
    CLEANUP(strv_fini) struct strv words = strv_split(text ? text : "running 1", " \n");
    int state = words.n > 0 ? index_of(names, ARRAY_SIZE(names), words.items[0]) : -1;

    if (ret_reason) {
        *ret_reason = words.n > 1 ? atoi(words.items[1]) : 0;
    }
    return state < 0 ? LV_NOSTATE : (enum lv_state)state;
}

static bool is_active(enum lv_state state)
{
    return state != LV_SHUTOFF && state != LV_CRASHED;
}

/* How it ended, for the thread in lv_migrate: "ok", or an error's name and text. */
static void end_job(struct job *j, const char *result)
{
    static const char *const suffixes[] = {"", ".xml", ".abort", ".postcopy"};
    CLEANUP(freep) char *name = str_printf("jobs/%s.result", j->uuid);

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        drop(j->dir, "jobs", j->uuid, suffixes[i]);
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

    set_state(j->dest_dir, j->uuid, j->was_paused ? "paused 1" : "running 2");
    lv_fake_write(j->dest_dir, xml_name, j->dest_xml);
    tell(j->dest_dir, j->uuid, "STARTED NONE");
    tell(j->dest_dir, j->uuid, "DEFINED NONE");
    tell(j->dest_dir, j->uuid, j->was_paused ? "SUSPENDED OTHER" : "RESUMED MIGRATED");
    drop(j->dir, "domains", j->uuid, ".xml");
    drop(j->dir, "domains", j->uuid, ".state");
    tell(j->dir, j->uuid, "STOPPED MIGRATED");
    append(j->dir, "events", done);
    end_job(j, "ok");
}

/* The guest stops here and goes on there, or not. */
static void switch_over(struct job *j)
{
    CLEANUP(freep) char *failure = value_in(j->script, "fail_switch");
    int64_t stopped_ms = clock_ms();

    if (get_state(j->dir, j->uuid, NULL) != LV_PAUSED) {
        set_state(j->dir, j->uuid, "paused 2");
        tell(j->dir, j->uuid, "SUSPENDED MIGRATED");
    }
    if (j->is_postcopy) {
        tell(j->dir, j->uuid, "SUSPENDED POSTCOPY");
        usleep((useconds_t)j->pass_ms * 1000);
    }
    usleep((useconds_t)script_u64(j, "switch_ms", 5) * 1000);
    if (failure) {
        CLEANUP(freep) char *result = str_printf("VIR_ERR_OPERATION_FAILED %s", failure);

        set_state(j->dir, j->uuid, "running 5");
        tell(j->dir, j->uuid, "RESUMED MIGRATED");
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

    return get_state(j->dir, j->uuid, NULL) == LV_PAUSED || (passes > 0 && j->pass >= passes) ||
           (need_ms > 0 && downtime && strtoull(downtime, NULL, 10) >= need_ms);
}

static bool next_pass(struct job *j)
{
    CLEANUP(freep) char *failure = value_in(j->script, "fail");

    j->pass++;
    j->pass_start_ms = clock_ms();
    job_save(j);
    {
        CLEANUP(freep)
        char *line = str_printf("ITERATION NONE %s iteration=%" PRIu64, j->uuid, j->pass);

        append(j->dir, "events", line);
    }
    if (j->pass == script_u64(j, "die_pass", 0)) {
        set_state(j->dir, j->uuid, "shutoff 3");
        tell(j->dir, j->uuid, "STOPPED CRASHED");
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
    CLEANUP(freep) char *abort_name = in(j->dir, "jobs/%s.abort", j->uuid);
    CLEANUP(freep) char *postcopy_name = in(j->dir, "jobs/%s.postcopy", j->uuid);

    if (!is_active(get_state(j->dir, j->uuid, NULL))) {
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

/* The moves of a process that has died go on in this one. */
static void adopt_jobs(const char *dir)
{
    CLEANUP(freep) char *folder = in(dir, "jobs");
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, folder, &names);

    mutex_lock(&fake.m);
    for (size_t i = 0; !e && i < names.n; i++) {
        CLEANUP(freep) char *name = str_printf("jobs/%s", names.items[i]);
        CLEANUP(freep) char *text = uuid_is_valid(names.items[i]) ? lv_fake_read(dir, name) : NULL;
        struct job *j;

        if (text && kill((pid_t)text_u64(text, "pid"), 0) < 0 && errno == ESRCH &&
            (j = job_load(dir, names.items[i]))) {
            job_save(j);
            start_thread(run_job, j);
        }
    }
    mutex_unlock(&fake.m);
}

/* ---- Connections ---- */

/* The host's folder of a URI. */
static char *dir_of(const char *uri)
{
    const char *own = getenv("NOVASHIM_LV_FAKE_DIR");
    const char *host = strstr(uri, "://");
    size_t len;

    assert(own);
    host = host ? host + 3 : "";
    len = *host == '[' ? strcspn(++host, "]") : strcspn(host, "/:");
    return len == 0 ? str_dup(own)
                    : str_printf("%.*s/%.*s", (int)(strrchr(own, '/') - own), own, (int)len, host);
}

struct err *lv_connect(const char *uri, struct lv_conn **ret)
{
    CLEANUP(freep) char *dir = dir_of(uri);
    struct lv_conn *c;

    TRY_CTX(check_up(dir), "connecting to %s", uri);
    lv_fake_host(dir);
    adopt_jobs(dir);
    c = NEW(struct lv_conn);
    c->dir = TAKE(dir);
    *ret = c;
    return NULL;
}

struct lv_conn *lv_conn_free(struct lv_conn *c)
{
    if (!c) {
        return NULL;
    }
    mutex_lock(&fake.m);
    while (c->is_delivering) {
        cond_wait_until(&fake.changed, &fake.m, INT64_MAX);
    }
    for (struct lv_conn **p = &fake.subscribed; *p; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    mutex_unlock(&fake.m);
    free(c->subs);
    free(c->dir);
    free(c);
    return NULL;
}

bool lv_conn_is_alive(struct lv_conn *c)
{
    return !exists(c->dir, "down", "");
}

/* ---- Host ---- */

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    TRY(check_up(c->dir));
    *ret = fact(c->dir, "hostname", strrchr(c->dir, '/') + 1);
    return NULL;
}

struct err *lv_type(struct lv_conn *c, char **ret)
{
    TRY(check_up(c->dir));
    *ret = fact(c->dir, "type", "QEMU");
    return NULL;
}

struct err *lv_versions(struct lv_conn *c, unsigned long *ret_libvirt, unsigned long *ret_hv)
{
    TRY(check_up(c->dir));
    *ret_libvirt = fact_u64(c->dir, "libvirt_version", 9000000);
    *ret_hv = fact_u64(c->dir, "hv_version", 7002000);
    return NULL;
}

static struct err *own_or_default(struct lv_conn *c, const char *name, char **ret)
{
    TRY(check_up(c->dir));
    *ret = lv_fake_read(c->dir, name);
    *ret = *ret ? *ret : lv_fake_read(LV_FAKE_DATA, name);
    return *ret ? NULL : err_msg(ERR_LIBVIRT, "no %s", name);
}

struct err *lv_capabilities(struct lv_conn *c, char **ret_xml)
{
    return own_or_default(c, "capabilities.xml", ret_xml);
}

struct err *lv_domain_capabilities(struct lv_conn *c, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret_xml)
{
    (void)emulator;
    (void)arch;
    (void)machine;
    (void)virttype;
    return own_or_default(c, "domcapabilities.xml", ret_xml);
}

struct err *lv_node_info(struct lv_conn *c, struct lv_node_info *ret)
{
    TRY(check_up(c->dir));
    *ret = (struct lv_node_info){.memory_kib = fact_u64(c->dir, "memory_kib", 4 << 20),
                                 .cpus = (unsigned)fact_u64(c->dir, "cpus", 4),
                                 .nodes = (unsigned)fact_u64(c->dir, "nodes", 1),
                                 .sockets = (unsigned)fact_u64(c->dir, "sockets", 1),
                                 .cores = (unsigned)fact_u64(c->dir, "cores", 4),
                                 .threads = (unsigned)fact_u64(c->dir, "threads", 1)};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    TRY(check_up(c->dir));
    *ret = fact(c->dir, "online", "0-3");
    return NULL;
}

struct err *lv_free_pages(struct lv_conn *c, unsigned page_kib, int cell, uint64_t *ret)
{
    (void)page_kib;
    (void)cell;
    TRY(check_up(c->dir));
    *ret = fact_u64(c->dir, "free_pages", 1024);
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *cpu_xml, int *ret)
{
    (void)cpu_xml;
    TRY(check_up(c->dir));
    *ret = (int)fact_u64(c->dir, "compare_cpu", 2);
    return NULL;
}

struct err *lv_expand_cpu(struct lv_conn *c, const char *cpu_xml, char **ret_xml)
{
    TRY(check_up(c->dir));
    *ret_xml = lv_fake_read(c->dir, "expanded-cpu.xml");
    *ret_xml = *ret_xml ? *ret_xml : str_dup(cpu_xml);
    return NULL;
}

/* ---- Domains ---- */

static struct lv_domain *domain_new(struct lv_conn *c, const char *uuid)
{
    struct lv_domain *d = NEW(struct lv_domain);

    d->dir = str_dup(c->dir);
    snprintf(d->uuid, sizeof(d->uuid), "%s", uuid);
    return d;
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    struct lv_domain *d = domain_new(c, uuid);
    struct err *e = check_domain(d);

    if (e) {
        lv_domain_free(d);
        return e;
    }
    *ret = d;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    if (d) {
        free(d->dir);
        free(d);
    }
    return NULL;
}

struct err *lv_domain_uuids(struct lv_conn *c, struct strv *ret)
{
    CLEANUP(freep) char *folder = in(c->dir, "domains");
    CLEANUP(strv_fini) struct strv names = {0};

    TRY(check_up(c->dir));
    TRY(fs_list(&fs_real, folder, &names));
    *ret = (struct strv){0};
    for (size_t i = 0; i < names.n; i++) {
        if (str_ends(names.items[i], ".xml")) {
            strv_add_take(ret, str_ndup(names.items[i], strlen(names.items[i]) - strlen(".xml")));
        }
    }
    return NULL;
}

const char *lv_domain_uuid(const struct lv_domain *d)
{
    return d->uuid;
}

/* The text of the first element of a name, or NULL. */
static char *element(const char *xml, const char *name)
{
    CLEANUP(freep) char *tag = str_printf("<%s>", name);
    const char *start = strstr(xml, tag);

    return start ? str_ndup(start + strlen(tag), strcspn(start + strlen(tag), "<")) : NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.xml", d->uuid);

    (void)is_migratable;
    TRY(check_domain(d));
    *ret = lv_fake_read(d->dir, name);
    return *ret ? NULL : err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", d->uuid, NULL);
}

struct err *lv_domain_name(struct lv_domain *d, char **ret)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_xml(d, false, &xml));
    *ret = element(xml, "name");
    *ret = *ret ? *ret : str_dup(d->uuid);
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    TRY(check_domain(d));
    *ret = get_state(d->dir, d->uuid, ret_reason);
    return NULL;
}

static bool has_job(const struct lv_domain *d)
{
    return exists(d->dir, "jobs/", d->uuid);
}

struct err *lv_domain_suspend(struct lv_domain *d)
{
    TRY(check_domain(d));
    note(d, "suspend");
    if (!is_active(get_state(d->dir, d->uuid, NULL))) {
        return refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    if (get_state(d->dir, d->uuid, NULL) != LV_PAUSED) {
        set_state(d->dir, d->uuid, has_job(d) ? "paused 2" : "paused 1");
        tell(d->dir, d->uuid, has_job(d) ? "SUSPENDED MIGRATED" : "SUSPENDED OTHER");
    }
    return NULL;
}

struct err *lv_domain_resume(struct lv_domain *d)
{
    TRY(check_domain(d));
    note(d, "resume");
    if (!is_active(get_state(d->dir, d->uuid, NULL))) {
        return refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    set_state(d->dir, d->uuid, "running 5");
    tell(d->dir, d->uuid, "RESUMED OTHER");
    return NULL;
}

struct err *lv_domain_destroy(struct lv_domain *d)
{
    TRY(check_domain(d));
    note(d, "destroy");
    if (is_active(get_state(d->dir, d->uuid, NULL))) {
        set_state(d->dir, d->uuid, "shutoff 2");
        tell(d->dir, d->uuid, "STOPPED DESTROYED");
    }
    return NULL;
}

struct err *lv_domain_undefine(struct lv_domain *d)
{
    TRY(check_domain(d));
    note(d, "undefine");
    drop(d->dir, "domains", d->uuid, ".xml");
    drop(d->dir, "domains", d->uuid, ".state");
    tell(d->dir, d->uuid, "UNDEFINED NONE");
    return NULL;
}

struct err *lv_define(struct lv_conn *c, const char *xml, struct lv_domain **ret)
{
    CLEANUP(freep) char *uuid = element(xml, "uuid");
    CLEANUP(freep) char *name = NULL;

    TRY(check_up(c->dir));
    if (!uuid || !uuid_is_valid(uuid)) {
        return refused("VIR_ERR_XML_ERROR", "XML error: no uuid");
    }
    name = str_printf("domains/%s.xml", uuid);
    if (!exists(c->dir, name, "")) {
        set_state(c->dir, uuid, "shutoff 0");
    }
    lv_fake_write(c->dir, name, xml);
    *ret = domain_new(c, uuid);
    note(*ret, "define");
    tell(c->dir, uuid, "DEFINED NONE");
    return NULL;
}

struct err *lv_monitor_command(struct lv_domain *d, const char *json, char **ret)
{
    TRY(check_domain(d));
    note(d, "monitor %s", json);
    *ret = lv_fake_read(d->dir, "monitor");
    *ret = *ret ? *ret : str_dup("{\"return\": {}}");
    return NULL;
}

struct err *lv_block_info(struct lv_domain *d, const char *path_or_target,
                          struct lv_block_info *ret)
{
    CLEANUP(freep) char *name = str_printf("blocks/%s", path_or_target);
    CLEANUP(freep) char *text = NULL;
    struct stat st;

    TRY(check_domain(d));
    if (path_or_target[0] != '/') {
        text = lv_fake_read(d->dir, name);
        if (text && sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &ret->capacity,
                           &ret->allocation, &ret->physical) == 3) {
            return NULL;
        }
    } else if (stat(path_or_target, &st) == 0) {
        *ret = (struct lv_block_info){.capacity = (uint64_t)st.st_size,
                                      .allocation = (uint64_t)st.st_blocks * 512,
                                      .physical = (uint64_t)st.st_size};
        return NULL;
    }
    return refused("VIR_ERR_INVALID_ARG", "invalid argument: no such disk");
}

/* ---- Migration ---- */

static void note_migrate(struct lv_domain *d, const struct lv_migrate_params *p)
{
    CLEANUP(freep) char *disks = p->disks ? strv_join(p->disks, ",") : str_dup("");

    note(d, "migrate %s uri=%s bandwidth=%" PRIu64 " flags=%u disks=%s", p->dest_uri,
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
                        .was_paused = get_state(d->dir, d->uuid, NULL) == LV_PAUSED,
                        .may_postcopy = p->flags & LV_MIGRATE_POSTCOPY};
    CLEANUP(freep) char *xml_name = str_printf("jobs/%s.xml", d->uuid);
    CLEANUP(freep) char *refusal = NULL;
    struct job *j;

    if (has_job(d)) {
        return refused("VIR_ERR_OPERATION_INVALID", "another migration job is already running");
    }
    drop(d->dir, "jobs", d->uuid, ".result");
    drop(d->dir, "jobs", d->uuid, ".abort");
    drop(d->dir, "jobs", d->uuid, ".postcopy");
    lv_fake_write(d->dir, xml_name, p->dest_xml);
    job_save(&first);
    j = job_load(d->dir, d->uuid);
    j->total = script_u64(j, "memory_mib", 64) << 20;
    j->pass_ms = (int64_t)script_u64(j, "pass_ms", 50);
    refusal = value_in(j->script, "refuse");
    if (refusal) {
        end_job(j, "ok");
        job_free(j);
        return refused("VIR_ERR_OPERATION_FAILED", refusal);
    }
    job_save(j);
    start_thread(run_job, j);
    return NULL;
}

static struct err *wait_for_job(struct lv_domain *d)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.result", d->uuid);

    for (;;) {
        CLEANUP(freep) char *result = lv_fake_read(d->dir, name);
        char *text = result ? strchr(result, ' ') : NULL;

        if (result) {
            drop(d->dir, "jobs", d->uuid, ".result");
            if (!text) {
                return NULL;
            }
            *text = '\0';
            return refused(result, text + 1);
        }
        TRY(check_up(d->dir));
        usleep(TICK_MS * 1000);
    }
}

struct err *lv_migrate(struct lv_domain *d, const struct lv_migrate_params *p)
{
    CLEANUP(freep) char *dest_dir = dir_of(p->dest_uri);

    TRY(check_domain(d));
    note_migrate(d, p);
    if (access(dest_dir, F_OK) != 0 || exists(dest_dir, "down", "")) {
        return refused("VIR_ERR_SYSTEM_ERROR", "unable to connect to server: Connection refused");
    }
    lv_fake_host(dest_dir);
    TRY(start_job(d, dest_dir, p));
    return wait_for_job(d);
}

struct err *lv_migrate_set_max_downtime(struct lv_domain *d, uint64_t ms)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.downtime", d->uuid);
    CLEANUP(freep) char *text = str_printf("%" PRIu64, ms);

    TRY(check_domain(d));
    note(d, "set_max_downtime %" PRIu64, ms);
    lv_fake_write(d->dir, name, text);
    return NULL;
}

struct err *lv_migrate_set_max_speed(struct lv_domain *d, uint64_t mib_per_s)
{
    TRY(check_domain(d));
    note(d, "set_max_speed %" PRIu64, mib_per_s);
    return NULL;
}

/* Leaves a file for the runner. */
static struct err *ask_runner(struct lv_domain *d, const char *what, bool needs_postcopy)
{
    CLEANUP(freep) char *name = str_printf("jobs/%s.%s", d->uuid, what);
    struct job *j;
    bool is_fit;

    TRY(check_domain(d));
    note(d, "%s", what);
    j = job_load(d->dir, d->uuid);
    is_fit = j && !j->is_postcopy && j->pass > 0 && (j->may_postcopy || !needs_postcopy);
    if (j) {
        job_free(j);
    }
    if (!is_fit) {
        return refused("VIR_ERR_OPERATION_INVALID", "no job for that is active on the domain");
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
    CLEANUP(err_freep) struct err *e = check_domain(d);
    struct job *j;
    int64_t in_pass_ms;

    *ret = (struct lv_job){.type = LV_JOB_NONE};
    if (err_is(e, ERR_HYPERVISOR_UNAVAILABLE)) {
        return TAKE(e);
    }
    if (e || !is_active(get_state(d->dir, d->uuid, NULL))) {
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
    TRY(check_domain(d));
    *ret = (struct lv_job){.type = LV_JOB_NONE};
    return NULL;
}

#include "tests/fake/lv_fake_impl.h"

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

/* One per process, as libvirt's event loop is. */
static struct {
    struct mutex m;
    struct cond changed;
    struct lv_conn *subscribed;
    int inotify;
} fake = {.m = MUTEX_INIT, .changed = {PTHREAD_COND_INITIALIZER}, .inotify = -1};

/* ---- Files ---- */

char *fake_in(const char *dir, const char *fmt, ...)
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
    CLEANUP(freep) char *path = fake_in(dir, "%s", name);
    char *text = NULL;
    size_t len;
    struct err *e = fs_read(&fs_real, path, &text, &len);

    return e ? (err_free(e), NULL) : text;
}

void lv_fake_write(const char *dir, const char *name, const char *text)
{
    static unsigned n_written;
    unsigned n = __atomic_add_fetch(&n_written, 1, __ATOMIC_RELAXED);
    CLEANUP(freep) char *path = fake_in(dir, "%s", name);
    CLEANUP(freep) char *new = fake_in(dir, ".new-%d-%u", (int)getpid(), n);
    FILE *f = fopen(new, "we");

    assert(f);
    fputs(text, f);
    fclose(f);
    assert(rename(new, path) == 0);
}

bool fake_exists(const char *dir, const char *fmt, const char *uuid)
{
    CLEANUP(freep) char *path = str_printf("%s/%s%s", dir, fmt, uuid);

    return access(path, F_OK) == 0;
}

void fake_drop(const char *dir, const char *folder, const char *uuid, const char *suffix)
{
    CLEANUP(freep) char *path = fake_in(dir, "%s/%s%s", folder, uuid, suffix);

    unlink(path);
}

void fake_append(const char *dir, const char *name, const char *line)
{
    CLEANUP(freep) char *path = fake_in(dir, "%s", name);
    CLEANUP(freep) char *text = str_printf("%s\n", line);
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

void fake_note(const struct lv_domain *d, const char *fmt, ...)
{
    CLEANUP(freep) char *what = NULL;
    CLEANUP(freep) char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    what = str_vprintf(fmt, ap);
    va_end(ap);
    line = str_printf("%s %s", d->uuid, what);
    fake_append(d->dir, "calls", line);
}

char *fake_value_in(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
        if (strncmp(p, name, len) == 0 && p[len] == ' ') {
            return str_ndup(p + len + 1, strcspn(p + len + 1, "\n"));
        }
    }
    return NULL;
}

uint64_t fake_text_u64(const char *text, const char *name)
{
    CLEANUP(freep) char *value = fake_value_in(text, name);
    uint64_t n = 0;

    return value && str_to_u64(value, &n) ? n : 0;
}

char *fake_fact(const char *dir, const char *name, const char *def)
{
    CLEANUP(freep) char *text = lv_fake_read(dir, "facts");
    char *value = fake_value_in(text, name);

    return value ? value : str_dup(def);
}

uint64_t fake_fact_u64(const char *dir, const char *name, uint64_t def)
{
    CLEANUP(freep) char *text = fake_fact(dir, name, "");
    uint64_t value;

    return str_to_u64(text, &value) ? value : def;
}

char *fake_habit(const struct lv_domain *d, const char *name)
{
    CLEANUP(freep) char *own = str_printf("guest.%s", d->uuid);
    CLEANUP(freep) char *text = lv_fake_read(d->dir, own);

    text = text ? text : lv_fake_read(d->dir, "guest");
    return fake_value_in(text, name);
}

uint64_t fake_habit_u64(const struct lv_domain *d, const char *name, uint64_t def)
{
    CLEANUP(freep) char *text = fake_habit(d, name);
    uint64_t value;

    return text && str_to_u64(text, &value) ? value : def;
}

bool fake_habit_counts(const struct lv_domain *d, const char *name)
{
    CLEANUP(freep) char *counter = str_printf("counts/%s.%s", name, d->uuid);
    CLEANUP(freep) char *text = lv_fake_read(d->dir, counter);
    uint64_t n = fake_text_u64(text, "n");
    CLEANUP(freep) char *next = str_printf("n %" PRIu64 "\n", n + 1);

    if (n >= fake_habit_u64(d, name, 0)) {
        return false;
    }
    lv_fake_write(d->dir, counter, next);
    return true;
}

void lv_fake_host(const char *dir)
{
    static const char *const folders[] = {"domains", "jobs", "blocks", "counts"};

    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        CLEANUP(freep) char *path = fake_in(dir, "%s", folders[i]);
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

static const struct {
    const char *name, *code;
} codes[] = {
    {"VIR_ERR_INTERNAL_ERROR", "1"},     {"VIR_ERR_INVALID_ARG", "8"},
    {"VIR_ERR_OPERATION_FAILED", "9"},   {"VIR_ERR_XML_ERROR", "27"},
    {"VIR_ERR_SYSTEM_ERROR", "38"},      {"VIR_ERR_OPERATION_INVALID", "55"},
    {"VIR_ERR_OPERATION_ABORTED", "78"}, {"VIR_ERR_AGENT_UNRESPONSIVE", "86"},
    {"VIR_ERR_DEVICE_MISSING", "99"},
};

struct err *fake_refused(const char *name, const char *text)
{
    struct err *e = err_msg(ERR_LIBVIRT, "%s", text);

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        if (str_eq(codes[i].name, name)) {
            err_set(e, "code", codes[i].code);
        }
    }
    err_set(e, "name", name);
    return e;
}

struct err *fake_check_up(const char *dir)
{
    return fake_exists(dir, "down", "") ? err_new(ERR_HYPERVISOR_UNAVAILABLE, NULL) : NULL;
}

struct err *fake_check_domain(const struct lv_domain *d)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(fake_check_up(d->dir));
    xml = fake_in(d->dir, "domains/%s.xml", d->uuid);
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

int fake_index_of(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(names[i], name)) {
            return (int)i;
        }
    }
    return -1;
}

void fake_tell(const char *dir, const char *uuid, const char *what)
{
    CLEANUP(freep) char *line = str_printf("%s %s", what, uuid);

    fake_append(dir, "events", line);
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
    int type =
        words.n > 0 ? fake_index_of(event_types, ARRAY_SIZE(event_types), words.items[0]) : -1;
    int detail =
        words.n > 1 ? fake_index_of(event_details, ARRAY_SIZE(event_details), words.items[1]) : 0;

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

void fake_start_thread(void *(*fn)(void *), void *arg)
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
        fake_start_thread(run_events, NULL);
    }
    return NULL;
}

struct err *lv_subscribe(struct lv_conn *c, lv_event_fn fn, void *arg)
{
    CLEANUP(freep) char *path = fake_in(c->dir, "events");
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;

    TRY(fake_check_up(c->dir));
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

/* ---- States ---- */

void fake_set_state(const char *dir, const char *uuid, const char *state)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.state", uuid);

    lv_fake_write(dir, name, state);
}

enum lv_state fake_get_state(const char *dir, const char *uuid, int *ret_reason)
{
    static const char *const names[] = {"nostate",  "running", "blocked", "paused",
                                        "shutdown", "shutoff", "crashed", "pmsuspended"};
    CLEANUP(freep) char *name = str_printf("domains/%s.state", uuid);
    CLEANUP(freep) char *text = lv_fake_read(dir, name);
    CLEANUP(strv_fini) struct strv words = strv_split(text ? text : "running 1", " \n");
    int state = words.n > 0 ? fake_index_of(names, ARRAY_SIZE(names), words.items[0]) : -1;

    if (ret_reason) {
        *ret_reason = words.n > 1 ? atoi(words.items[1]) : 0;
    }
    return state < 0 ? LV_NOSTATE : (enum lv_state)state;
}

bool fake_is_active(enum lv_state state)
{
    return state != LV_SHUTOFF && state != LV_CRASHED;
}

void fake_stop(const struct lv_domain *d, const char *state, const char *event)
{
    CLEANUP(freep) char *next = fake_in(d->dir, "domains/%s.next", d->uuid);
    CLEANUP(freep) char *xml = fake_in(d->dir, "domains/%s.xml", d->uuid);

    if (access(next, F_OK) == 0) {
        assert(rename(next, xml) == 0);
    }
    fake_set_state(d->dir, d->uuid, state);
    fake_tell(d->dir, d->uuid, event);
}

struct later {
    struct lv_domain domain;
    uint64_t ms;
    char *text;
    void (*fn)(const struct lv_domain *, const char *text);
};

static void *run_later(void *arg)
{
    struct later *l = arg;

    usleep((useconds_t)l->ms * 1000);
    l->fn(&l->domain, l->text);
    free(l->domain.dir);
    free(l->text);
    free(l);
    return NULL;
}

void fake_later(const struct lv_domain *d, uint64_t ms, const char *text,
                void (*fn)(const struct lv_domain *, const char *text))
{
    struct later *l;

    if (ms == 0) {
        fn(d, text);
        return;
    }
    l = NEW(struct later);
    *l = (struct later){
        .domain = {.dir = str_dup(d->dir)}, .ms = ms, .text = str_dup(text), .fn = fn};
    memcpy(l->domain.uuid, d->uuid, sizeof(d->uuid));
    fake_start_thread(run_later, l);
}

/* ---- Connections ---- */

char *fake_dir_of(const char *uri)
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
    CLEANUP(freep) char *dir = fake_dir_of(uri);
    struct lv_conn *c;

    TRY_CTX(fake_check_up(dir), "connecting to %s", uri);
    lv_fake_host(dir);
    fake_adopt_jobs(dir);
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

const char *fake_conn_dir(const struct lv_conn *c)
{
    return c->dir;
}

bool lv_conn_is_alive(struct lv_conn *c)
{
    return !fake_exists(c->dir, "down", "");
}

/* ---- Host ---- */

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    TRY(fake_check_up(c->dir));
    *ret = fake_fact(c->dir, "hostname", strrchr(c->dir, '/') + 1);
    return NULL;
}

struct err *lv_type(struct lv_conn *c, char **ret)
{
    TRY(fake_check_up(c->dir));
    *ret = fake_fact(c->dir, "type", "QEMU");
    return NULL;
}

struct err *lv_versions(struct lv_conn *c, unsigned long *ret_libvirt, unsigned long *ret_hv)
{
    TRY(fake_check_up(c->dir));
    *ret_libvirt = fake_fact_u64(c->dir, "libvirt_version", 9000000);
    *ret_hv = fake_fact_u64(c->dir, "hv_version", 7002000);
    return NULL;
}

static struct err *own_or_default(struct lv_conn *c, const char *name, char **ret)
{
    TRY(fake_check_up(c->dir));
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
    TRY(fake_check_up(c->dir));
    *ret = (struct lv_node_info){.memory_kib = fake_fact_u64(c->dir, "memory_kib", 4 << 20),
                                 .cpus = (unsigned)fake_fact_u64(c->dir, "cpus", 4),
                                 .nodes = (unsigned)fake_fact_u64(c->dir, "nodes", 1),
                                 .sockets = (unsigned)fake_fact_u64(c->dir, "sockets", 1),
                                 .cores = (unsigned)fake_fact_u64(c->dir, "cores", 4),
                                 .threads = (unsigned)fake_fact_u64(c->dir, "threads", 1)};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    TRY(fake_check_up(c->dir));
    *ret = fake_fact(c->dir, "online", "0-3");
    return NULL;
}

struct err *lv_free_pages(struct lv_conn *c, unsigned page_kib, int cell, uint64_t *ret)
{
    (void)page_kib;
    (void)cell;
    TRY(fake_check_up(c->dir));
    *ret = fake_fact_u64(c->dir, "free_pages", 1024);
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *cpu_xml, int *ret)
{
    (void)cpu_xml;
    TRY(fake_check_up(c->dir));
    *ret = (int)fake_fact_u64(c->dir, "compare_cpu", 2);
    return NULL;
}

struct err *lv_expand_cpu(struct lv_conn *c, const char *cpu_xml, char **ret_xml)
{
    TRY(fake_check_up(c->dir));
    *ret_xml = lv_fake_read(c->dir, "expanded-cpu.xml");
    *ret_xml = *ret_xml ? *ret_xml : str_dup(cpu_xml);
    return NULL;
}

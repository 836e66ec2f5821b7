#include "driver/libvirt/lv.h"

#include "base/clock.h"
#include "base/cpuset.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sync.h"

#include <assert.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEEPALIVE_S = 5, /* A peer that is silent for 5 + 5 * 5 s is gone. */
    KEEPALIVE_N = 5,
    REOPEN_MS = 1000,     /* Between attempts to open a broken connection. */
    OPEN_WAIT_MS = 10000, /* How long a call waits for another thread that opens it. */
    EVENT_STACK = 256 * 1024,
    MAX_CALLBACKS = 5,
};

/* Our enumerations are libvirt's, so that nothing needs translating. */
_Static_assert(LV_PMSUSPENDED == (int)VIR_DOMAIN_PMSUSPENDED, "domain states");
_Static_assert(LV_SHUTOFF == (int)VIR_DOMAIN_SHUTOFF, "domain states");
_Static_assert(LV_REASON_SHUTOFF_MIGRATED == (int)VIR_DOMAIN_SHUTOFF_MIGRATED, "reasons");
_Static_assert(LV_JOB_UNBOUNDED == (int)VIR_DOMAIN_JOB_UNBOUNDED, "job types");
_Static_assert(LV_JOB_CANCELLED == (int)VIR_DOMAIN_JOB_CANCELLED, "job types");

struct subscriber {
    lv_event_fn fn;
    void *arg;
};

struct lv_conn {
    char *uri;
    struct mutex m;
    struct cond changed;
    unsigned n_refs GUARDED_BY(m);      /* Owner, domains, libvirt's callbacks. */
    virConnectPtr vir GUARDED_BY(m);    /* NULL while there is none. */
    uint64_t generation GUARDED_BY(m);  /* Of vir: old domains look themselves up again. */
    int64_t next_open_ms GUARDED_BY(m); /* No attempt before this. */
    bool is_busy GUARDED_BY(m);         /* A thread opens or registers; callbacks are its. */
    bool is_closed GUARDED_BY(m);
    bool has_told GUARDED_BY(m); /* Subscribers know that this generation is broken. */
    unsigned n_delivering GUARDED_BY(m);
    struct subscriber *subs GUARDED_BY(m);
    size_t n_subs GUARDED_BY(m);
    int callbacks[MAX_CALLBACKS]; /* Of the thread that has is_busy. */
    size_t n_callbacks;
    bool has_close_callback;
};

struct lv_domain {
    struct lv_conn *conn;
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainPtr vir;    /* Guarded by conn->m. */
    uint64_t generation; /* Likewise. */
};

/* ---- Errors ---- */

#define CODE(name)                                                                                 \
    {                                                                                              \
        VIR_ERR_##name, "VIR_ERR_" #name                                                           \
    }
static const struct {
    int code;
    const char *name;
} codes[] = {
    /* clang-format off */
    CODE(INTERNAL_ERROR), CODE(NO_SUPPORT), CODE(UNKNOWN_HOST), CODE(NO_CONNECT),
    CODE(INVALID_ARG), CODE(OPERATION_FAILED), CODE(XML_ERROR), CODE(DOM_EXIST),
    CODE(OPERATION_DENIED), CODE(SYSTEM_ERROR), CODE(RPC), CODE(NO_DOMAIN), CODE(AUTH_FAILED),
    CODE(OPERATION_INVALID), CODE(CONFIG_UNSUPPORTED), CODE(OPERATION_TIMEOUT),
    CODE(MIGRATE_PERSIST_FAILED), CODE(ARGUMENT_UNSUPPORTED), CODE(OPERATION_ABORTED),
    CODE(MIGRATE_UNSAFE), CODE(OPERATION_UNSUPPORTED), CODE(RESOURCE_BUSY), CODE(ACCESS_DENIED),
    CODE(CPU_INCOMPATIBLE), CODE(MIGRATE_FINISH_OK), CODE(DEVICE_MISSING),
    /* clang-format on */
};

static const char *code_name(int code)
{
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        if (codes[i].code == code) {
            return codes[i].name;
        }
    }
    return "";
}

static struct err *unavailable(const char *why)
{
    return err_context(err_new(ERR_HYPERVISOR_UNAVAILABLE, NULL), "%s", why);
}

/* The thread's last libvirt error, which any other call clears.  The call was one of 'dom', or of
 * 'vir' if that is NULL; uuid is the domain's if there is one. */
static struct err *last_error_of(virConnectPtr vir, virDomainPtr dom, const char *uuid)
{
    virErrorPtr last = virGetLastError();
    int code = last ? last->code : VIR_ERR_INTERNAL_ERROR;
    CLEANUP(freep)
    char *text = str_dup(last && last->message ? last->message : "libvirt did not say why");
    CLEANUP(freep) char *number = str_printf("%d", code);
    struct err *e;

    /* Asked of the connection, not of the code: in a migration the same codes tell of the
     * destination. */
    if (virConnectIsAlive(dom ? virDomainGetConnect(dom) : vir) != 1) {
        return unavailable(text);
    }
    if (code == VIR_ERR_NO_DOMAIN && uuid) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    e = err_msg(ERR_LIBVIRT, "%s", text);
    err_set(e, "code", number);
    err_set(e, "name", code_name(code));
    return e;
}

static struct err *last_error(virConnectPtr vir, const char *uuid)
{
    return last_error_of(vir, NULL, uuid);
}

static void ignore_libvirt_error(void *data, virErrorPtr error)
{
    (void)data; /* It is returned by the call that failed; libvirt would print it as well. */
    (void)error;
}

/* ---- The event thread ---- */

static void *run_events(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "lv-events");
    for (;;) {
        if (virEventRunDefaultImpl() < 0) {
            log_warning_limited(LOG_LIBVIRT, "libvirt's event loop failed, retrying in 1 s");
            sleep(1);
        }
    }
    return NULL;
}

struct err *lv_init(void)
{
    pthread_attr_t attr;
    sigset_t all, old;
    pthread_t thread;
    int errnum;

    virSetErrorFunc(NULL, ignore_libvirt_error);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
        return err_msg(ERR_LIBVIRT, "libvirt does not initialise: %s", virGetLastErrorMessage());
    }
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, EVENT_STACK);
    errnum = pthread_create(&thread, &attr, run_events, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return errnum ? err_errno(errnum, "starting the thread lv-events") : NULL;
}

/* ---- Job statistics ---- */

#define JOB_FIELD(param, member)                                                                   \
    {                                                                                              \
        VIR_DOMAIN_JOB_##param, offsetof(struct lv_job, member)                                    \
    }
static const struct {
    const char *name;
    size_t offset; /* Of a uint64_t. */
} job_fields[] = {
    JOB_FIELD(TIME_ELAPSED, time_elapsed_ms),
    JOB_FIELD(DOWNTIME, downtime_ms),
    JOB_FIELD(SETUP_TIME, setup_time_ms),
    JOB_FIELD(DATA_TOTAL, data_total),
    JOB_FIELD(DATA_PROCESSED, data_processed),
    JOB_FIELD(DATA_REMAINING, data_remaining),
    JOB_FIELD(MEMORY_TOTAL, memory_total),
    JOB_FIELD(MEMORY_PROCESSED, memory_processed),
    JOB_FIELD(MEMORY_REMAINING, memory_remaining),
    JOB_FIELD(MEMORY_BPS, memory_bps),
    JOB_FIELD(DISK_TOTAL, disk_total),
    JOB_FIELD(DISK_PROCESSED, disk_processed),
    JOB_FIELD(DISK_REMAINING, disk_remaining),
    JOB_FIELD(DISK_BPS, disk_bps),
    JOB_FIELD(MEMORY_DIRTY_RATE, memory_dirty_rate),
    JOB_FIELD(MEMORY_PAGE_SIZE, memory_page_size),
    JOB_FIELD(MEMORY_ITERATION, memory_iteration),
    JOB_FIELD(MEMORY_CONSTANT, memory_constant),
    JOB_FIELD(MEMORY_NORMAL_BYTES, memory_normal_bytes),
};

static void fill_job(struct lv_job *job, int type, virTypedParameterPtr params, int n)
{
    *job = (struct lv_job){.type = (enum lv_job_type)type};
    for (size_t i = 0; i < ARRAY_SIZE(job_fields); i++) {
        unsigned long long value = 0;

        /* One that is missing or of another type counts as 0. */
        if (virTypedParamsGetULLong(params, n, job_fields[i].name, &value) == 1) {
            *(uint64_t *)(void *)((char *)job + job_fields[i].offset) = value;
        }
    }
    if (virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE,
                             &job->auto_converge_throttle) != 1) {
        job->auto_converge_throttle = 0;
    }
}

/* ---- Events: everything here runs on lv-events ---- */

static void conn_unref(void *arg)
{
    struct lv_conn *c = arg;
    unsigned n_left;

    mutex_lock(&c->m);
    n_left = --c->n_refs;
    mutex_unlock(&c->m);
    if (n_left > 0) {
        return;
    }
    cond_fini(&c->changed);
    mutex_fini(&c->m);
    free(c->subs);
    free(c->uri);
    free(c);
}

static struct lv_conn *conn_ref(struct lv_conn *c)
{
    mutex_lock(&c->m);
    c->n_refs++;
    mutex_unlock(&c->m);
    return c;
}

static void deliver(struct lv_conn *c, const struct lv_event *event)
{
    mutex_lock(&c->m);
    for (size_t i = 0; i < c->n_subs && !c->is_closed; i++) {
        struct subscriber s = c->subs[i];

        c->n_delivering++;
        mutex_unlock(&c->m);
        s.fn(event, s.arg);
        mutex_lock(&c->m);
        c->n_delivering--;
    }
    cond_broadcast(&c->changed);
    mutex_unlock(&c->m);
}

static struct lv_event event_of(virDomainPtr dom, enum lv_event_type type)
{
    struct lv_event e = {.type = type};

    if (virDomainGetUUIDString(dom, e.uuid) < 0) {
        e.uuid[0] = '\0';
    }
    return e;
}

static const enum lv_event_type lifecycle_types[] = {
    [VIR_DOMAIN_EVENT_DEFINED] = LV_EVENT_DEFINED,
    [VIR_DOMAIN_EVENT_UNDEFINED] = LV_EVENT_UNDEFINED,
    [VIR_DOMAIN_EVENT_STARTED] = LV_EVENT_STARTED,
    [VIR_DOMAIN_EVENT_SUSPENDED] = LV_EVENT_SUSPENDED,
    [VIR_DOMAIN_EVENT_RESUMED] = LV_EVENT_RESUMED,
    [VIR_DOMAIN_EVENT_STOPPED] = LV_EVENT_STOPPED,
    [VIR_DOMAIN_EVENT_SHUTDOWN] = LV_EVENT_SHUTDOWN,
    [VIR_DOMAIN_EVENT_PMSUSPENDED] = LV_EVENT_PMSUSPENDED,
    [VIR_DOMAIN_EVENT_CRASHED] = LV_EVENT_CRASHED,
};

#define DETAIL(event, suffix, detail)                                                              \
    {                                                                                              \
        VIR_DOMAIN_EVENT_##event, VIR_DOMAIN_EVENT_##event##_##suffix, LV_DETAIL_##detail          \
    }
static const struct {
    int event, detail;
    enum lv_event_detail ours;
} details[] = {
    DETAIL(SUSPENDED, MIGRATED, MIGRATED),
    DETAIL(SUSPENDED, POSTCOPY, POSTCOPY),
    DETAIL(SUSPENDED, POSTCOPY_FAILED, POSTCOPY_FAILED),
    DETAIL(SUSPENDED, FROM_SNAPSHOT, FROM_SNAPSHOT),
    DETAIL(RESUMED, MIGRATED, MIGRATED),
    DETAIL(RESUMED, FROM_SNAPSHOT, FROM_SNAPSHOT),
    DETAIL(RESUMED, POSTCOPY, POSTCOPY),
    DETAIL(RESUMED, POSTCOPY_FAILED, POSTCOPY_FAILED),
    DETAIL(STOPPED, SHUTDOWN, SHUTDOWN),
    DETAIL(STOPPED, DESTROYED, DESTROYED),
    DETAIL(STOPPED, CRASHED, CRASHED),
    DETAIL(STOPPED, MIGRATED, MIGRATED),
    DETAIL(STOPPED, FAILED, FAILED),
    DETAIL(STOPPED, FROM_SNAPSHOT, FROM_SNAPSHOT),
};

static enum lv_event_detail detail_of(int event, int detail)
{
    for (size_t i = 0; i < ARRAY_SIZE(details); i++) {
        if (details[i].event == event && details[i].detail == detail) {
            return details[i].ours;
        }
    }
    return event == VIR_DOMAIN_EVENT_SUSPENDED || event == VIR_DOMAIN_EVENT_RESUMED ||
                   event == VIR_DOMAIN_EVENT_STOPPED
               ? LV_DETAIL_OTHER
               : LV_DETAIL_NONE;
}

static int on_lifecycle(virConnectPtr vir, virDomainPtr dom, int event, int detail, void *opaque)
{
    struct lv_event e;

    (void)vir;
    if (event >= 0 && (size_t)event < ARRAY_SIZE(lifecycle_types)) {
        e = event_of(dom, lifecycle_types[event]);
        e.detail = detail_of(event, detail);
        deliver(opaque, &e);
    }
    return 0;
}

static void on_job_completed(virConnectPtr vir, virDomainPtr dom, virTypedParameterPtr params,
                             int n, void *opaque)
{
    struct lv_event e = event_of(dom, LV_EVENT_JOB_COMPLETED);
    int is_success = 1; /* Jobs that cannot fail do not say. */

    (void)vir;
    if (virTypedParamsGetBoolean(params, n, VIR_DOMAIN_JOB_SUCCESS, &is_success) < 0) {
        is_success = 0;
    }
    fill_job(&e.job, is_success ? LV_JOB_COMPLETED : LV_JOB_FAILED, params, n);
    deliver(opaque, &e);
}

static void on_iteration(virConnectPtr vir, virDomainPtr dom, int iteration, void *opaque)
{
    struct lv_event e = event_of(dom, LV_EVENT_MIGRATION_ITERATION);

    (void)vir;
    e.iteration = iteration;
    deliver(opaque, &e);
}

static void device_event(enum lv_event_type type, virDomainPtr dom, const char *alias, void *opaque)
{
    struct lv_event e = event_of(dom, type);
    size_t len = strnlen(alias, sizeof(e.alias) - 1);

    memcpy(e.alias, alias, len);
    deliver(opaque, &e);
}

static void on_removed(virConnectPtr vir, virDomainPtr dom, const char *alias, void *opaque)
{
    (void)vir;
    device_event(LV_EVENT_DEVICE_REMOVED, dom, alias, opaque);
}

static void on_removal_failed(virConnectPtr vir, virDomainPtr dom, const char *alias, void *opaque)
{
    (void)vir;
    device_event(LV_EVENT_DEVICE_REMOVAL_FAILED, dom, alias, opaque);
}

/* Whether this is the first to say that the connection, as it was, is broken. */
static bool should_tell(struct lv_conn *c)
{
    bool ret;

    mutex_lock(&c->m);
    ret = !c->has_told && c->n_subs > 0;
    c->has_told = true;
    mutex_unlock(&c->m);
    return ret;
}

static void on_close(virConnectPtr vir, int reason, void *opaque)
{
    (void)vir;
    (void)reason;
    if (should_tell(opaque)) {
        deliver(opaque, &(struct lv_event){.type = LV_EVENT_DISCONNECTED});
    }
}

static void on_disconnected_timer(int timer, void *opaque)
{
    virEventRemoveTimeout(timer);
    deliver(opaque, &(struct lv_event){.type = LV_EVENT_DISCONNECTED});
}

/* ---- Connections ---- */

static void vir_closep(virConnectPtr *vir)
{
    if (*vir) {
        virConnectClose(*vir);
    }
}

static void vir_domain_freep(virDomainPtr *dom)
{
    if (*dom) {
        virDomainFree(*dom);
    }
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback fn;
} event_callbacks[] = {
    {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
    {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
    {VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, VIR_DOMAIN_EVENT_CALLBACK(on_iteration)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_removed)},
    {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, VIR_DOMAIN_EVENT_CALLBACK(on_removal_failed)},
};
_Static_assert(ARRAY_SIZE(event_callbacks) == MAX_CALLBACKS, "struct lv_conn");

/* libvirt keeps a reference to the connection for each callback; without this it never ends. */
static void deregister_events(struct lv_conn *c, virConnectPtr vir)
{
    while (c->n_callbacks > 0) {
        virConnectDomainEventDeregisterAny(vir, c->callbacks[--c->n_callbacks]);
    }
    if (c->has_close_callback) {
        virConnectUnregisterCloseCallback(vir, on_close);
        c->has_close_callback = false;
    }
}

static struct err *register_events(struct lv_conn *c, virConnectPtr vir)
{
    for (size_t i = 0; i < ARRAY_SIZE(event_callbacks); i++) {
        int id = virConnectDomainEventRegisterAny(vir, NULL, event_callbacks[i].id,
                                                  event_callbacks[i].fn, conn_ref(c), conn_unref);

        if (id < 0) {
            conn_unref(c);
            return err_context(last_error(vir, NULL), "registering for libvirt's events");
        }
        c->callbacks[c->n_callbacks++] = id;
    }
    if (virConnectRegisterCloseCallback(vir, on_close, conn_ref(c), conn_unref) < 0) {
        conn_unref(c);
        return err_context(last_error(vir, NULL), "registering for the end of the connection");
    }
    c->has_close_callback = true;
    return NULL;
}

/* By the thread that has is_busy, without the mutex. */
static struct err *conn_open(struct lv_conn *c, bool wants_events, virConnectPtr *ret)
{
    virConnectPtr vir = virConnectOpen(c->uri);

    if (!vir) {
        return err_context(unavailable(virGetLastErrorMessage()), "connecting to %s", c->uri);
    }
    virConnectSetKeepAlive(vir, KEEPALIVE_S, KEEPALIVE_N); /* Not every driver has it. */
    if (wants_events) {
        struct err *e = register_events(c, vir);

        if (e) {
            deregister_events(c, vir);
            virConnectClose(vir);
            return e;
        }
    }
    *ret = vir;
    return NULL;
}

/* The broken connection goes; whoever subscribed hears of it on lv-events. */
static void conn_drop(struct lv_conn *c, virConnectPtr vir)
{
    if (!vir) {
        return;
    }
    deregister_events(c, vir);
    virConnectClose(vir);
    if (should_tell(c) &&
        virEventAddTimeout(0, on_disconnected_timer, conn_ref(c), conn_unref) < 0) {
        conn_unref(c);
    }
}

static struct err *conn_reopen(struct lv_conn *c, virConnectPtr *ret, uint64_t *ret_generation)
{
    virConnectPtr old, vir = NULL;
    bool wants_events;
    struct err *e;

    mutex_lock(&c->m);
    c->next_open_ms = clock_ms() + REOPEN_MS;
    old = TAKE(c->vir);
    wants_events = c->n_subs > 0;
    mutex_unlock(&c->m);

    conn_drop(c, old);
    e = conn_open(c, wants_events, &vir);

    mutex_lock(&c->m);
    if (vir) {
        c->vir = vir;
        c->has_told = false;
        virConnectRef(vir);
        *ret = vir;
        *ret_generation = ++c->generation;
    }
    c->is_busy = false;
    cond_broadcast(&c->changed);
    mutex_unlock(&c->m);
    if (old && vir) {
        log_info(LOG_LIBVIRT, "connected to %s again", c->uri);
    }
    return e;
}

/* Waits until no other thread opens or registers. */
static bool conn_wait_locked(struct lv_conn *c) REQUIRES(c->m)
{
    int64_t deadline_ms = clock_ms() + OPEN_WAIT_MS;

    while (c->is_busy && cond_wait_until(&c->changed, &c->m, deadline_ms)) {
    }
    return !c->is_busy;
}

/* A reference to libvirt's connection, which is opened again if it broke. */
static struct err *conn_acquire(struct lv_conn *c, virConnectPtr *ret, uint64_t *ret_generation)
{
    const char *why = NULL;
    bool is_open = false;

    mutex_lock(&c->m);
    if (!conn_wait_locked(c)) {
        why = "another thread has been waiting for libvirt";
    } else if (c->vir && virConnectIsAlive(c->vir) == 1) {
        virConnectRef(c->vir);
        *ret = c->vir;
        *ret_generation = c->generation;
        is_open = true;
    } else if (clock_ms() < c->next_open_ms) {
        why = "the connection broke, and the last attempt to open it was less than a second ago";
    } else {
        c->is_busy = true;
    }
    mutex_unlock(&c->m);
    if (why) {
        return unavailable(why);
    }
    return is_open ? NULL : conn_reopen(c, ret, ret_generation);
}

struct err *lv_connect(const char *uri, struct lv_conn **ret)
{
    struct lv_conn *c = NEW(struct lv_conn);
    CLEANUP(vir_closep) virConnectPtr vir = NULL;
    uint64_t generation;
    struct err *e;

    c->uri = str_dup(uri);
    mutex_init(&c->m);
    cond_init(&c->changed);
    c->n_refs = 1;
    e = conn_acquire(c, &vir, &generation);
    if (e) {
        lv_conn_free(c);
        return e;
    }
    *ret = c;
    return NULL;
}

struct lv_conn *lv_conn_free(struct lv_conn *c)
{
    virConnectPtr vir;

    if (!c) {
        return NULL;
    }
    mutex_lock(&c->m);
    while (c->is_busy || c->n_delivering > 0) {
        cond_wait_until(&c->changed, &c->m, INT64_MAX);
    }
    c->is_closed = true;
    vir = TAKE(c->vir);
    mutex_unlock(&c->m);
    if (vir) {
        deregister_events(c, vir);
        virConnectClose(vir);
    }
    conn_unref(c);
    return NULL;
}

bool lv_conn_is_alive(struct lv_conn *c)
{
    bool ret;

    mutex_lock(&c->m);
    ret = c->vir && virConnectIsAlive(c->vir) == 1;
    mutex_unlock(&c->m);
    return ret;
}

struct err *lv_subscribe(struct lv_conn *c, lv_event_fn fn, void *arg)
{
    virConnectPtr vir = NULL;
    struct err *e = NULL;
    bool is_free;

    mutex_lock(&c->m);
    is_free = conn_wait_locked(c);
    if (is_free) {
        c->subs = mem_realloc(c->subs, c->n_subs + 1, sizeof(*c->subs));
        c->subs[c->n_subs++] = (struct subscriber){fn, arg};
        c->is_busy = c->n_subs == 1 && c->vir;
        vir = c->is_busy ? c->vir : NULL; /* Else registered already, or when it is opened. */
    }
    mutex_unlock(&c->m);
    if (!is_free) {
        return unavailable("another thread has been waiting for libvirt");
    }
    if (!vir) {
        return NULL;
    }
    e = register_events(c, vir);
    if (e) {
        deregister_events(c, vir);
    }
    mutex_lock(&c->m);
    c->n_subs -= e ? 1 : 0;
    c->is_busy = false;
    cond_broadcast(&c->changed);
    mutex_unlock(&c->m);
    return e;
}

/* ---- Host ---- */

/* 'vir' for the scope; returns from the function if there is no connection. */
#define WITH_CONN(c)                                                                               \
    CLEANUP(vir_closep) virConnectPtr vir = NULL;                                                  \
    uint64_t generation;                                                                           \
    TRY(conn_acquire((c), &vir, &generation))

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    char *name = virConnectGetHostname(vir);

    if (!name) {
        return err_context(last_error(vir, NULL), "asking for the host's name");
    }
    *ret = name;
    return NULL;
}

struct err *lv_type(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    const char *type = virConnectGetType(vir);

    if (!type) {
        return err_context(last_error(vir, NULL), "asking for the hypervisor's type");
    }
    *ret = str_dup(type);
    return NULL;
}

struct err *lv_versions(struct lv_conn *c, unsigned long *ret_libvirt, unsigned long *ret_hv)
{
    WITH_CONN(c);
    unsigned long libvirt, hv;

    if (virConnectGetLibVersion(vir, &libvirt) < 0 || virConnectGetVersion(vir, &hv) < 0) {
        return err_context(last_error(vir, NULL), "asking for versions");
    }
    *ret_libvirt = libvirt;
    *ret_hv = hv;
    return NULL;
}

struct err *lv_capabilities(struct lv_conn *c, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectGetCapabilities(vir);

    if (!xml) {
        return err_context(last_error(vir, NULL), "asking for capabilities");
    }
    *ret_xml = xml;
    return NULL;
}

struct err *lv_domain_capabilities(struct lv_conn *c, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectGetDomainCapabilities(vir, emulator, arch, machine, virttype, 0);

    if (!xml) {
        return err_context(last_error(vir, NULL), "asking for domain capabilities of %s %s",
                           arch ? arch : "any", machine ? machine : "machine");
    }
    *ret_xml = xml;
    return NULL;
}

struct err *lv_node_info(struct lv_conn *c, struct lv_node_info *ret)
{
    WITH_CONN(c);
    virNodeInfo info;

    if (virNodeGetInfo(vir, &info) < 0) {
        return err_context(last_error(vir, NULL), "asking for the node's facts");
    }
    *ret = (struct lv_node_info){.memory_kib = info.memory,
                                 .cpus = info.cpus,
                                 .nodes = info.nodes,
                                 .sockets = info.sockets,
                                 .cores = info.cores,
                                 .threads = info.threads};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    CLEANUP(freep) unsigned char *map = NULL;
    CLEANUP(cpuset_fini) struct cpuset cpus = {0};
    int n = virNodeGetCPUMap(vir, &map, NULL, 0);

    if (n < 0) {
        return err_context(last_error(vir, NULL), "asking which CPUs are online");
    }
    for (int i = 0; i < n; i++) {
        if (VIR_CPU_USED(map, i)) {
            cpuset_add(&cpus, (unsigned)i);
        }
    }
    *ret = cpuset_text(&cpus);
    return NULL;
}

struct err *lv_free_pages(struct lv_conn *c, unsigned page_kib, int cell, uint64_t *ret)
{
    WITH_CONN(c);
    unsigned long long n;

    if (virNodeGetFreePages(vir, 1, &page_kib, cell, 1, &n, 0) < 0) {
        return err_context(last_error(vir, NULL), "asking for free pages of %u KiB in cell %d",
                           page_kib, cell);
    }
    *ret = n;
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *cpu_xml, int *ret)
{
    WITH_CONN(c);
    int result = virConnectCompareCPU(vir, cpu_xml, 0);

    if (result == VIR_CPU_COMPARE_ERROR) {
        return err_context(last_error(vir, NULL), "comparing a CPU with the host's");
    }
    *ret = result;
    return NULL;
}

struct err *lv_expand_cpu(struct lv_conn *c, const char *cpu_xml, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectBaselineCPU(vir, &cpu_xml, 1, VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES);

    if (!xml) {
        return err_context(last_error(vir, NULL), "expanding a CPU model");
    }
    *ret_xml = str_dup(xml);
    free(xml);
    return NULL;
}

/* ---- Domains ---- */

/* Consumes dom. */
static struct lv_domain *domain_new(struct lv_conn *c, virDomainPtr dom, uint64_t generation)
{
    struct lv_domain *d = NEW(struct lv_domain);

    d->conn = conn_ref(c);
    d->vir = dom;
    d->generation = generation;
    if (virDomainGetUUIDString(dom, d->uuid) < 0) {
        d->uuid[0] = '\0';
    }
    return d;
}

/* A reference to libvirt's domain, which is looked up again if the connection is another one. */
static struct err *domain_acquire(struct lv_domain *d, virDomainPtr *ret)
{
    WITH_CONN(d->conn);
    virDomainPtr dom = NULL, old;

    mutex_lock(&d->conn->m);
    if (d->generation == generation) {
        dom = d->vir;
        virDomainRef(dom);
    }
    mutex_unlock(&d->conn->m);
    if (!dom) {
        dom = virDomainLookupByUUIDString(vir, d->uuid);
        if (!dom) {
            return last_error(vir, d->uuid);
        }
        virDomainRef(dom);
        mutex_lock(&d->conn->m);
        old = d->vir;
        d->vir = dom;
        d->generation = generation;
        mutex_unlock(&d->conn->m);
        virDomainFree(old);
    }
    *ret = dom;
    return NULL;
}

/* 'dom' for the scope; returns from the function if there is none. */
#define WITH_DOMAIN(d)                                                                             \
    CLEANUP(vir_domain_freep) virDomainPtr dom = NULL;                                             \
    TRY(domain_acquire((d), &dom))

static struct err *domain_error(const struct lv_domain *d, virDomainPtr dom, const char *what)
{
    return err_context(last_error_of(NULL, dom, d->uuid), "%s of %s", what, d->uuid);
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    WITH_CONN(c);
    virDomainPtr dom = virDomainLookupByUUIDString(vir, uuid);

    if (!dom) {
        return last_error(vir, uuid);
    }
    *ret = domain_new(c, dom, generation);
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    if (d) {
        virDomainFree(d->vir);
        conn_unref(d->conn);
        free(d);
    }
    return NULL;
}

struct err *lv_domain_uuids(struct lv_conn *c, struct strv *ret)
{
    WITH_CONN(c);
    CLEANUP(freep) virDomainPtr *doms = NULL;
    int n = virConnectListAllDomains(vir, &doms, 0);
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (n < 0) {
        return err_context(last_error(vir, NULL), "listing domains");
    }
    *ret = (struct strv){0};
    for (int i = 0; i < n; i++) {
        if (virDomainGetUUIDString(doms[i], uuid) == 0) {
            strv_add(ret, uuid);
        }
        virDomainFree(doms[i]);
    }
    return NULL;
}

const char *lv_domain_uuid(const struct lv_domain *d)
{
    return d->uuid;
}

struct err *lv_domain_name(struct lv_domain *d, char **ret)
{
    WITH_DOMAIN(d);
    const char *name = virDomainGetName(dom);

    if (!name) {
        return domain_error(d, dom, "name");
    }
    *ret = str_dup(name);
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    WITH_DOMAIN(d);
    int state, reason;

    if (virDomainGetState(dom, &state, &reason, 0) < 0) {
        return domain_error(d, dom, "state");
    }
    *ret = (enum lv_state)state;
    if (ret_reason) {
        *ret_reason = reason;
    }
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    WITH_DOMAIN(d);
    /* What defines a domain elsewhere must hold its graphics passwords too. */
    unsigned flags = is_migratable ? VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE : 0;
    char *xml = virDomainGetXMLDesc(dom, flags);

    if (!xml) {
        return domain_error(d, dom, "XML");
    }
    *ret = xml;
    return NULL;
}

static struct err *domain_call(struct lv_domain *d, int (*fn)(virDomainPtr), const char *what)
{
    WITH_DOMAIN(d);

    return fn(dom) < 0 ? domain_error(d, dom, what) : NULL;
}

struct err *lv_domain_suspend(struct lv_domain *d)
{
    return domain_call(d, virDomainSuspend, "suspending");
}

struct err *lv_domain_resume(struct lv_domain *d)
{
    return domain_call(d, virDomainResume, "resuming");
}

struct err *lv_domain_destroy(struct lv_domain *d)
{
    WITH_DOMAIN(d);
    struct err *e;

    if (virDomainDestroy(dom) == 0) {
        return NULL;
    }
    e = domain_error(d, dom, "destroying");
    return virDomainIsActive(dom) == 0 ? err_free(e) : e;
}

struct err *lv_domain_undefine(struct lv_domain *d)
{
    WITH_DOMAIN(d);

    if (virDomainUndefineFlags(dom, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_NVRAM) <
        0) {
        return domain_error(d, dom, "undefining");
    }
    return NULL;
}

struct err *lv_define(struct lv_conn *c, const char *xml, struct lv_domain **ret)
{
    WITH_CONN(c);
    virDomainPtr dom = virDomainDefineXMLFlags(vir, xml, 0);

    if (!dom) {
        return err_context(last_error(vir, NULL), "defining a domain");
    }
    *ret = domain_new(c, dom, generation);
    return NULL;
}

struct err *lv_monitor_command(struct lv_domain *d, const char *json, char **ret)
{
    WITH_DOMAIN(d);
    char *answer = NULL;

    if (virDomainQemuMonitorCommand(dom, json, &answer, 0) < 0) {
        return domain_error(d, dom, "monitor command");
    }
    *ret = answer;
    return NULL;
}

struct err *lv_block_info(struct lv_domain *d, const char *path_or_target,
                          struct lv_block_info *ret)
{
    WITH_DOMAIN(d);
    virDomainBlockInfo info;

    if (virDomainGetBlockInfo(dom, path_or_target, &info, 0) < 0) {
        return err_context(domain_error(d, dom, "block information"), "disk %s", path_or_target);
    }
    *ret = (struct lv_block_info){info.capacity, info.allocation, info.physical};
    return NULL;
}

/* ---- Migration ---- */

struct params {
    virTypedParameterPtr items;
    int n, cap;
};

static void params_fini(struct params *p)
{
    virTypedParamsFree(p->items, p->n);
}

/* These fail only for a name that is too long. */
static void params_add_str(struct params *p, const char *name, const char *value)
{
    int rc = virTypedParamsAddString(&p->items, &p->n, &p->cap, name, value);

    assert(rc == 0);
}

static void params_add_disks(struct params *p, const struct strv *disks)
{
    for (size_t i = 0; disks && i < disks->n; i++) {
        params_add_str(p, VIR_MIGRATE_PARAM_MIGRATE_DISKS, disks->items[i]);
    }
}

static void params_fill(struct params *p, const struct lv_migrate_params *from)
{
    int rc = 0;

    params_add_str(p, VIR_MIGRATE_PARAM_DEST_XML, from->dest_xml);
    params_add_str(p, VIR_MIGRATE_PARAM_PERSIST_XML, from->dest_xml);
    if (from->migrate_uri) {
        params_add_str(p, VIR_MIGRATE_PARAM_URI, from->migrate_uri);
    }
    params_add_disks(p, from->disks);
    if (from->bandwidth_mib > 0) {
        rc = virTypedParamsAddULLong(&p->items, &p->n, &p->cap, VIR_MIGRATE_PARAM_BANDWIDTH,
                                     from->bandwidth_mib);
    }
    assert(rc == 0);
    if (from->flags & LV_MIGRATE_PARALLEL && from->parallel_connections > 0) {
        rc = virTypedParamsAddInt(&p->items, &p->n, &p->cap, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS,
                                  (int)from->parallel_connections);
    }
    assert(rc == 0);
}

static const struct {
    unsigned ours, libvirts;
} migrate_flags[] = {
    {LV_MIGRATE_TUNNELLED, VIR_MIGRATE_TUNNELLED},
    {LV_MIGRATE_TLS, VIR_MIGRATE_TLS},
    {LV_MIGRATE_POSTCOPY, VIR_MIGRATE_POSTCOPY},
    {LV_MIGRATE_AUTO_CONVERGE, VIR_MIGRATE_AUTO_CONVERGE},
    {LV_MIGRATE_NON_SHARED_INC, VIR_MIGRATE_NON_SHARED_INC},
    {LV_MIGRATE_PARALLEL, VIR_MIGRATE_PARALLEL},
};

struct err *lv_migrate(struct lv_domain *d, const struct lv_migrate_params *from)
{
    WITH_DOMAIN(d);
    CLEANUP(params_fini) struct params params = {0};
    unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST |
                     VIR_MIGRATE_UNDEFINE_SOURCE;

    for (size_t i = 0; i < ARRAY_SIZE(migrate_flags); i++) {
        flags |= from->flags & migrate_flags[i].ours ? migrate_flags[i].libvirts : 0;
    }
    params_fill(&params, from);
    if (virDomainMigrateToURI3(dom, from->dest_uri, params.items, (unsigned)params.n, flags) < 0) {
        return err_context(domain_error(d, dom, "migration"), "to %s", from->dest_uri);
    }
    return NULL;
}

struct err *lv_migrate_set_max_downtime(struct lv_domain *d, uint64_t ms)
{
    WITH_DOMAIN(d);

    return virDomainMigrateSetMaxDowntime(dom, ms, 0) < 0 ? domain_error(d, dom, "maximum downtime")
                                                          : NULL;
}

struct err *lv_migrate_set_max_speed(struct lv_domain *d, uint64_t mib_per_s)
{
    WITH_DOMAIN(d);

    return virDomainMigrateSetMaxSpeed(dom, mib_per_s, 0) < 0
               ? domain_error(d, dom, "maximum speed")
               : NULL;
}

static int start_postcopy(virDomainPtr dom)
{
    return virDomainMigrateStartPostCopy(dom, 0);
}

struct err *lv_migrate_start_postcopy(struct lv_domain *d)
{
    return domain_call(d, start_postcopy, "switching to post-copy");
}

struct err *lv_abort_job(struct lv_domain *d)
{
    return domain_call(d, virDomainAbortJob, "aborting the job");
}

static struct err *job_stats(struct lv_domain *d, unsigned flags, struct lv_job *ret)
{
    WITH_DOMAIN(d);
    CLEANUP(params_fini) struct params params = {0};
    int type;

    if (virDomainGetJobStats(dom, &type, &params.items, &params.n, flags) < 0) {
        return domain_error(d, dom, "job statistics");
    }
    fill_job(ret, type, params.items, params.n);
    return NULL;
}

struct err *lv_job_stats(struct lv_domain *d, struct lv_job *ret)
{
    CLEANUP(err_freep) struct err *e = job_stats(d, 0, ret);

    if (!e) {
        return NULL;
    }
    if (err_is(e, ERR_INSTANCE_NOT_FOUND) ||
        str_eq(err_get(e, "name"), "VIR_ERR_OPERATION_INVALID")) {
        *ret = (struct lv_job){.type = LV_JOB_COMPLETED};
        return NULL;
    }
    /* QEMU has begun or ended the migration but has no numbers (guest.py get_job_info). */
    if (str_eq(err_get(e, "name"), "VIR_ERR_INTERNAL_ERROR") &&
        strstr(err_message(e), "migration was active, but no RAM info was set")) {
        *ret = (struct lv_job){.type = LV_JOB_NONE};
        return NULL;
    }
    return TAKE(e);
}

struct err *lv_job_completed_stats(struct lv_domain *d, struct lv_job *ret)
{
    return job_stats(d, VIR_DOMAIN_JOB_STATS_COMPLETED, ret);
}

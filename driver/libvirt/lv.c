#include "driver/libvirt/lv_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/sync.h"

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
    CODE(AGENT_UNRESPONSIVE), CODE(AGENT_UNSYNCED), CODE(BLOCK_COPY_ACTIVE),
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

struct err *lvi_error_of(virConnectPtr vir, virDomainPtr dom, const char *uuid)
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
    lvi_fill_job(&e.job, is_success ? LV_JOB_COMPLETED : LV_JOB_FAILED, params, n);
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
            return err_context(lvi_error(vir, NULL), "registering for libvirt's events");
        }
        c->callbacks[c->n_callbacks++] = id;
    }
    if (virConnectRegisterCloseCallback(vir, on_close, conn_ref(c), conn_unref) < 0) {
        conn_unref(c);
        return err_context(lvi_error(vir, NULL), "registering for the end of the connection");
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

struct err *lvi_conn_acquire(struct lv_conn *c, virConnectPtr *ret, uint64_t *ret_generation)
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
    CLEANUP(lvi_closep) virConnectPtr vir = NULL;
    uint64_t generation;
    struct err *e;

    c->uri = str_dup(uri);
    mutex_init(&c->m);
    cond_init(&c->changed);
    c->n_refs = 1;
    e = lvi_conn_acquire(c, &vir, &generation);
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

/* ---- Domains ---- */

struct lv_domain *lvi_domain_new(struct lv_conn *c, virDomainPtr dom, uint64_t generation)
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

struct err *lvi_domain_acquire(struct lv_domain *d, virDomainPtr *ret)
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
            return lvi_error(vir, d->uuid);
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

struct err *lvi_domain_error(const struct lv_domain *d, virDomainPtr dom, const char *what)
{
    return err_context(lvi_error_of(NULL, dom, d->uuid), "%s of %s", what, d->uuid);
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    WITH_CONN(c);
    virDomainPtr dom = virDomainLookupByUUIDString(vir, uuid);

    if (!dom) {
        return lvi_error(vir, uuid);
    }
    *ret = lvi_domain_new(c, dom, generation);
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

const char *lv_domain_uuid(const struct lv_domain *d)
{
    return d->uuid;
}

#include "vif/ovsdb.h"

#include "base/clock.h"
#include "base/log.h"
#include "vif/jsonrpc.h"
#include "vif/ovscache.h"
#include "vif/ovsplan.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define DATABASE       "Open_vSwitch"
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define CONNECT_MS     5000  /* To connect. */
#define SYNC_MS        30000 /* To send us the whole copy. */
#define PROBE_MS       5000  /* Silence before we ask, and then before we give up. */
#define READ_WAIT_MS   2000
#define CONFLICT_MS    1000 /* For the copy to show what a guard stumbled on. */

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_SYNCING, LINK_UP };

enum txn_state { TXN_QUEUED, TXN_SENT, TXN_ANSWERED, TXN_LOST };

/* Lives on the stack of the thread that waits for it; what is in the list is guarded by 'm'. */
struct txn {
    struct txn *prev, *next;
    int64_t id;
    char *request;
    enum txn_state state;
    struct json_object *answer; /* Result array of ANSWERED. */
    char *refusal;              /* Of ANSWERED without a result. */
};

struct ovsdb {
    /* The loop's thread only. */
    struct loop *loop;
    char *connection;
    struct sockaddr_storage address;
    socklen_t address_len;
    enum link_state link;
    int fd;
    struct loop_source *io, *timer, *wake;
    int wake_fd; /* Readable when transactions are queued. */
    int64_t backoff_ms;
    int64_t heard_ms; /* When the server last said something. */
    bool is_probing;
    struct jsonrpc_in in;
    struct strbuf out;
    size_t out_sent;
    ovs_gone_fn on_gone; /* May be NULL. */
    void *gone_arg;

    struct mutex m;
    struct cond changed; /* Anything below. */
    bool is_up GUARDED_BY(m);
    unsigned n_syncs GUARDED_BY(m);   /* How often the copy was read anew. */
    unsigned n_updates GUARDED_BY(m); /* Syncs and updates. */
    struct ovscache cache GUARDED_BY(m);
    struct txn *txns GUARDED_BY(m);
    int64_t last_id GUARDED_BY(m);
    char *why_down GUARDED_BY(m);
};

/* ---- The connection (the loop's thread) ---- */

static struct err *resolve(const char *target, struct ovsdb *o)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    CLEANUP(freep) char *host = str_dup(target);
    const char *port = "6640", *node = host;
    char *colon, *bracket = strchr(host, ']');
    int r;

    colon = strrchr(bracket ? bracket : host, ':');
    if (colon) {
        *colon = '\0';
        port = colon + 1;
    }
    if (host[0] == '[' && bracket) {
        *bracket = '\0';
        node = host + 1;
    }
    r = *port ? getaddrinfo(node, port, &hints, &found) : EAI_SERVICE;
    if (r != 0) {
        return err_msg(ERR_CONFIG, "[os_vif_ovs]ovsdb_connection 'tcp:%s': %s", target,
                       gai_strerror(r));
    }
    memcpy(&o->address, found->ai_addr, found->ai_addrlen);
    o->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

static struct err *set_address(struct ovsdb *o, const char *connection)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&o->address;

    if (str_starts(connection, "tcp:")) {
        return resolve(connection + strlen("tcp:"), o);
    }
    if (str_starts(connection, "unix:")) {
        const char *path = connection + strlen("unix:");

        if (*path != '/' || strlen(path) >= sizeof(un->sun_path)) {
            return err_msg(ERR_CONFIG,
                           "[os_vif_ovs]ovsdb_connection '%s': not an absolute path "
                           "that a socket can have",
                           connection);
        }
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, path);
        o->address_len = sizeof(*un);
        return NULL;
    }
    return err_msg(ERR_CONFIG,
                   "[os_vif_ovs]ovsdb_connection '%s': only tcp: and unix: are "
                   "supported",
                   connection);
}

/* Ends the connection; what was sent without an answer is lost.  Consumes 'why'. */
static void link_down(struct ovsdb *o, struct err *why)
{
    CLEANUP(freep) char *reason = err_text(why);
    struct txn *t;

    err_free(why);
    if (o->link == LINK_UP) {
        log_warning(LOG_VIF, "lost %s: %s, reconnecting", o->connection, reason);
    } else {
        log_warning_limited(LOG_VIF, "no connection to %s: %s, retrying", o->connection, reason);
    }
    o->link = LINK_DOWN;
    o->io = loop_source_free(o->io);
    closep(&o->fd);
    o->fd = -1;
    jsonrpc_in_reset(&o->in);
    strbuf_fini(&o->out);
    o->out_sent = 0;

    mutex_lock(&o->m);
    o->is_up = false;
    str_set(&o->why_down, reason);
    DL_FOREACH(o->txns, t)
    {
        if (t->state != TXN_ANSWERED) {
            t->state = TXN_LOST;
        }
    }
    cond_broadcast(&o->changed);
    mutex_unlock(&o->m);

    loop_timer_set(o->timer, clock_ms() + o->backoff_ms);
    o->backoff_ms = MIN(o->backoff_ms * 2, BACKOFF_MAX_MS);
}

static struct err *flush(struct ovsdb *o)
{
    while (o->out_sent < o->out.len) {
        ssize_t n = send(o->fd, o->out.s + o->out_sent, o->out.len - o->out_sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return err_errno(errno, "sending");
        }
        o->out_sent += n > 0 ? (size_t)n : 0;
    }
    if (o->out_sent == o->out.len) {
        strbuf_fini(&o->out);
        o->out_sent = 0;
    }
    loop_io_set(o->io, o->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return NULL;
}

/* Sends a text, which is consumed. */
static struct err *say(struct ovsdb *o, char *message)
{
    strbuf_add(&o->out, message);
    free(message);
    return flush(o);
}

static struct json_object *list(size_t n, struct json_object *const items[])
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < n; i++) {
        json_object_array_add(array, items[i]);
    }
    return array;
}

static struct err *start_sync(struct ovsdb *o)
{
    struct json_object *params[] = {
        json_object_new_string(DATABASE),
        /* monitor id= */ NULL,
        ovscache_monitor_requests(),
    };

    o->link = LINK_SYNCING;
    loop_timer_set(o->timer, clock_ms() + SYNC_MS);
    return say(o, jsonrpc_request("monitor", list(ARRAY_SIZE(params), params),
                                  json_object_new_string("monitor")));
}

static void link_up(struct ovsdb *o)
{
    o->link = LINK_UP;
    o->backoff_ms = BACKOFF_MIN_MS;
    o->is_probing = false;
    loop_timer_set(o->timer, clock_ms() + PROBE_MS);
    log_info(LOG_VIF, "connected to %s", o->connection);
}

/* ---- Messages (the loop's thread) ---- */

/* Updates of the copy; the first ones replace it. */
static struct err *on_update(struct ovsdb *o, struct json_object *updates, bool is_first)
{
    struct err *e;

    mutex_lock(&o->m);
    if (is_first) {
        ovscache_fini(&o->cache);
    }
    e = ovscache_apply(&o->cache, updates);
    if (!e) {
        o->is_up = true;
        o->n_syncs += is_first;
        o->n_updates++;
        cond_broadcast(&o->changed);
    }
    mutex_unlock(&o->m);
    if (!e && !is_first && o->on_gone) {
        ovscache_gone(updates, o->on_gone, o->gone_arg);
    }
    return e;
}

static struct err *on_monitor_answer(struct ovsdb *o, struct json_object *message)
{
    struct json_object *error = jv_get(message, "error");

    if (o->link != LINK_SYNCING) {
        return err_msg(ERR_PARSE, "an answer that nobody asked for");
    }
    if (error) {
        CLEANUP(freep) char *text = jv_text(error);

        return err_msg(ERR_REMOTE, "the database cannot be monitored: %.500s", text);
    }
    TRY(on_update(o, jv_get(message, "result"), /* is_first= */ true));
    link_up(o);
    return NULL;
}

static void on_txn_answer(struct ovsdb *o, int64_t id, struct json_object *message)
{
    struct json_object *result = jv_get(message, "result");
    struct txn *t;

    mutex_lock(&o->m);
    DL_SEARCH_SCALAR(o->txns, t, id, id);
    if (t && t->state == TXN_SENT) {
        t->state = TXN_ANSWERED;
        if (json_object_is_type(result, json_type_array)) {
            t->answer = jv_dup(result);
        } else {
            t->refusal = jv_text(jv_get(message, "error"));
        }
        cond_broadcast(&o->changed);
    }
    mutex_unlock(&o->m);
}

static struct err *on_message(struct ovsdb *o, struct json_object *message)
{
    struct json_object *method = jv_get(message, "method"), *id = jv_get(message, "id");
    const char *name =
        json_object_is_type(method, json_type_string) ? json_object_get_string(method) : NULL;

    if (name && str_eq(name, "echo")) {
        return say(o, jsonrpc_reply(jv_dup(jv_get(message, "params")), jv_dup(id)));
    }
    if (name && str_eq(name, "update")) {
        struct json_object *params = jv_get(message, "params");

        if (o->link != LINK_UP || !json_object_is_type(params, json_type_array) ||
            json_object_array_length(params) != 2) {
            return err_msg(ERR_PARSE, "a bad update");
        }
        return on_update(o, json_object_array_get_idx(params, 1), /* is_first= */ false);
    }
    if (!name && json_object_is_type(id, json_type_int)) {
        on_txn_answer(o, json_object_get_int64(id), message);
    } else if (!name && json_object_is_type(id, json_type_string) &&
               str_eq(json_object_get_string(id), "monitor")) {
        return on_monitor_answer(o, message);
    }
    return NULL; /* Answers to our echoes; and what we do not know asks for nothing. */
}

static struct err *on_bytes(struct ovsdb *o, const char *bytes, size_t len)
{
    o->heard_ms = clock_ms();
    o->is_probing = false;
    for (;;) {
        CLEANUP(jv_putp) struct json_object *message = NULL;

        TRY(jsonrpc_in_feed(&o->in, &bytes, &len, &message));
        if (!message) {
            return NULL;
        }
        TRY(on_message(o, message));
    }
}

/* ---- Events (the loop's thread) ---- */

static struct err *receive(struct ovsdb *o)
{
    char bytes[65536];
    ssize_t n = recv(o->fd, bytes, sizeof(bytes), 0);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? NULL : err_errno(errno, "receiving");
    }
    if (n == 0) {
        return err_msg(ERR_DISCONNECTED, "the server closed the connection");
    }
    return on_bytes(o, bytes, (size_t)n);
}

static struct err *on_connected(struct ovsdb *o)
{
    int errnum = 0;
    socklen_t len = sizeof(errnum);

    if (getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0 || errnum != 0) {
        return err_errno(errnum, "connecting");
    }
    return start_sync(o);
}

static void on_io(UNUSED int fd, uint32_t events, void *arg)
{
    struct ovsdb *o = arg;
    struct err *e = NULL;

    if (o->link == LINK_CONNECTING) {
        e = on_connected(o);
    } else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        e = receive(o);
    }
    if (!e && (events & EPOLLOUT)) {
        e = flush(o);
    }
    if (e) {
        link_down(o, e);
    }
}

static struct err *start_connecting(struct ovsdb *o)
{
    int one = 1;

    o->link = LINK_CONNECTING;
    o->fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (o->fd < 0) {
        return err_errno(errno, "making a socket");
    }
    if (o->address.ss_family != AF_UNIX) {
        setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (connect(o->fd, (struct sockaddr *)&o->address, o->address_len) < 0 &&
        errno != EINPROGRESS) {
        return err_errno(errno, "connecting");
    }
    TRY(loop_add_io(o->loop, o->fd, EPOLLOUT, on_io, o, &o->io));
    loop_timer_set(o->timer, clock_ms() + CONNECT_MS);
    return NULL;
}

/* Asks after a silence; an unanswered question ends the connection. */
static struct err *probe(struct ovsdb *o)
{
    int64_t now = clock_ms();

    if (o->is_probing) {
        return err_msg(ERR_TIMEOUT, "the server has not answered for %d s", 2 * PROBE_MS / 1000);
    }
    if (now < o->heard_ms + PROBE_MS) {
        loop_timer_set(o->timer, o->heard_ms + PROBE_MS);
        return NULL;
    }
    o->is_probing = true;
    loop_timer_set(o->timer, now + PROBE_MS);
    return say(o,
               jsonrpc_request("echo", json_object_new_array(), json_object_new_string("probe")));
}

static void on_timer(void *arg)
{
    struct ovsdb *o = arg;
    struct err *e = NULL;

    switch (o->link) {
    case LINK_DOWN:
        e = start_connecting(o);
        break;
    case LINK_CONNECTING:
    case LINK_SYNCING:
        e = err_msg(ERR_TIMEOUT, "the server does not answer");
        break;
    case LINK_UP:
        e = probe(o);
        break;
    }
    if (e) {
        link_down(o, e);
    }
}

/* Sends what threads have queued. */
static void on_wake(int fd, UNUSED uint32_t events, void *arg)
{
    struct ovsdb *o = arg;
    struct err *e;
    struct txn *t;
    eventfd_t n;

    eventfd_read(fd, &n);
    if (o->link != LINK_UP) {
        return; /* link_down() told them all. */
    }
    mutex_lock(&o->m);
    DL_FOREACH(o->txns, t)
    {
        if (t->state == TXN_QUEUED) {
            strbuf_add(&o->out, t->request);
            t->state = TXN_SENT;
        }
    }
    mutex_unlock(&o->m);
    e = flush(o);
    if (e) {
        link_down(o, e);
    }
}

struct err *ovsdb_new(struct loop *loop, const char *connection, struct ovsdb **ret)
{
    CLEANUP(ovsdb_freep) struct ovsdb *o = NEW(struct ovsdb);

    mutex_init(&o->m);
    cond_init(&o->changed);
    o->loop = loop;
    o->connection = str_dup(connection);
    o->fd = -1;
    o->backoff_ms = BACKOFF_MIN_MS;
    o->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (o->wake_fd < 0) {
        return err_errno(errno, "making an eventfd");
    }
    TRY(set_address(o, connection));
    TRY(loop_add_io(loop, o->wake_fd, EPOLLIN, on_wake, o, &o->wake));
    TRY(loop_add_timer(loop, clock_ms(), on_timer, o, &o->timer));
    *ret = TAKE(o);
    return NULL;
}

void ovsdb_watch_gone(struct ovsdb *o, ovs_gone_fn fn, void *arg)
{
    o->on_gone = fn;
    o->gone_arg = arg;
}

struct ovsdb *ovsdb_free(struct ovsdb *o)
{
    if (!o) {
        return NULL;
    }
    assert(!o->txns);
    loop_source_free(o->io);
    loop_source_free(o->timer);
    loop_source_free(o->wake);
    closep(&o->fd);
    closep(&o->wake_fd);
    jsonrpc_in_reset(&o->in);
    strbuf_fini(&o->out);
    ovscache_fini(&o->cache);
    cond_fini(&o->changed);
    mutex_fini(&o->m);
    free(o->why_down);
    free(o->connection);
    free(o);
    return NULL;
}

/* ---- Transactions (any other thread) ---- */

static int64_t deadline_after(int64_t ms)
{
    int64_t now = clock_ms();

    return ms >= INT64_MAX - now ? INT64_MAX : now + ms;
}

static struct err *wait_until_up(struct ovsdb *o, int64_t deadline, enum err_kind kind)
    REQUIRES(o->m)
{
    while (!o->is_up) {
        if (!cond_wait_until(&o->changed, &o->m, deadline)) {
            return err_msg(kind, "no connection to Open vSwitch's database at %s: %s",
                           o->connection, o->why_down ? o->why_down : "not connected yet");
        }
    }
    return NULL;
}

/* The answers of a transaction's operations, and one more if it failed in the end (RFC 7047,
 * 4.1.3).  A guard that did not hold is no error but a conflict. */
static struct err *read_answer(struct json_object *answer, int64_t *ret_cfg, bool *ret_conflict)
{
    size_t n = json_object_array_length(answer);
    struct json_object *rows;
    int64_t cfg;

    for (size_t i = 0; i < n; i++) {
        struct json_object *result = json_object_array_get_idx(answer, i);
        struct json_object *error = jv_get(result, "error");

        if (json_object_is_type(error, json_type_string)) {
            CLEANUP(freep) char *text = jv_text(result);

            if (str_eq(json_object_get_string(error), "timed out")) {
                *ret_conflict = true;
                return NULL;
            }
            return err_msg(ERR_VIF_PLUG, "Open vSwitch's database refuses a change: %.500s", text);
        }
    }
    rows = n > 0 ? jv_get(json_object_array_get_idx(answer, n - 1), "rows") : NULL;
    if (!json_object_is_type(rows, json_type_array) || json_object_array_length(rows) != 1) {
        return err_msg(ERR_PARSE, "Open vSwitch's database gives no next_cfg");
    }
    cfg = json_object_get_int64(jv_get(json_object_array_get_idx(rows, 0), "next_cfg"));
    *ret_cfg = cfg;
    *ret_conflict = false;
    return NULL;
}

static char *transact_request(struct json_object *ops, int64_t id)
{
    struct json_object *database = json_object_new_string(DATABASE);
    struct json_object *params = list(1, &database);

    for (size_t i = 0; i < json_object_array_length(ops); i++) {
        json_object_array_add(params, json_object_get(json_object_array_get_idx(ops, i)));
    }
    return jsonrpc_request("transact", params, json_object_new_int64(id));
}

/* A guard did not hold: somebody was faster.  The copy will show it at once, or never: then the row
 * in the way is of a kind that the plan does not look for. */
static struct err *wait_out_conflict(struct ovsdb *o, unsigned n_updates) REQUIRES(o->m)
{
    int64_t deadline = deadline_after(CONFLICT_MS);

    while (o->is_up && o->n_updates == n_updates) {
        if (!cond_wait_until(&o->changed, &o->m, deadline)) {
            return err_msg(ERR_VIF_PLUG, "a bridge, port or interface of another kind has the name "
                                         "in Open vSwitch's database");
        }
    }
    return NULL;
}

/* Commits operations.  Success also if they were lost, or in conflict with somebody else's: the
 * caller looks at the copy again.  *wait_cfg changes only if they are in the database. */
static struct err *transact(struct ovsdb *o, struct json_object *ops, int64_t deadline,
                            int64_t *wait_cfg) REQUIRES(o->m)
{
    struct txn t = {.id = ++o->last_id, .state = TXN_QUEUED};
    unsigned n_updates = o->n_updates;
    struct err *e = NULL;
    bool is_conflict = false;

    t.request = transact_request(ops, t.id);
    DL_APPEND(o->txns, &t);
    eventfd_write(o->wake_fd, 1);
    while (!e && (t.state == TXN_QUEUED || t.state == TXN_SENT)) {
        if (!cond_wait_until(&o->changed, &o->m, deadline)) {
            e = err_msg(ERR_TIMEOUT, "Open vSwitch's database at %s does not answer",
                        o->connection);
        }
    }
    DL_DELETE(o->txns, &t);
    if (t.answer) {
        e = read_answer(t.answer, wait_cfg, &is_conflict);
    } else if (t.refusal) {
        e = err_msg(ERR_VIF_PLUG, "Open vSwitch's database refuses a transaction: %.500s",
                    t.refusal);
    }
    json_object_put(t.answer);
    free(t.refusal);
    free(t.request);
    return is_conflict ? wait_out_conflict(o, n_updates) : e;
}

/* Follows a plan until it is done. */
static struct err *follow(struct ovsdb *o, ovsplan_fn plan, const void *what, int64_t deadline)
    REQUIRES(o->m)
{
    int64_t wait_cfg = -1;
    unsigned n_syncs = o->n_syncs, n_sent = 0;

    for (;;) {
        struct ovsplan p = {.verdict = OVSPLAN_DONE};
        const struct ovs_row *root;
        struct err *e;

        TRY(wait_until_up(o, deadline, ERR_TIMEOUT));
        root = ovscache_root(&o->cache);
        if (n_syncs != o->n_syncs && wait_cfg >= 0) {
            /* It may be another database by now, which counts anew. */
            wait_cfg = root ? ovs_row_int(root, "next_cfg", 0) : -1;
        }
        n_syncs = o->n_syncs;
        TRY(plan(&o->cache, what, wait_cfg, &p));
        switch (p.verdict) {
        case OVSPLAN_DONE:
            return NULL;
        case OVSPLAN_SEND:
            e = n_sent++ > 0 && clock_ms() >= deadline
                    ? err_msg(ERR_TIMEOUT, "somebody else keeps changing it back")
                    : transact(o, p.ops, deadline, &wait_cfg);
            json_object_put(p.ops);
            TRY(e);
            break;
        case OVSPLAN_WAIT:
            if (!cond_wait_until(&o->changed, &o->m, deadline)) {
                return err_msg(ERR_TIMEOUT, "ovs-vswitchd has not carried out the change in time: "
                                            "it does not run, or is overloaded");
            }
            break;
        }
    }
}

static struct err *change(struct ovsdb *o, ovsplan_fn plan, const void *what, int64_t timeout_ms)
{
    struct err *e;

    mutex_lock(&o->m);
    e = follow(o, plan, what, deadline_after(timeout_ms));
    mutex_unlock(&o->m);
    return e;
}

struct err *ovsdb_ensure_bridge(struct ovsdb *o, const struct ovs_bridge_spec *spec,
                                int64_t timeout_ms)
{
    return err_context(change(o, ovsplan_ensure_bridge, spec, timeout_ms), "making bridge %s",
                       spec->name);
}

struct err *ovsdb_ensure_port(struct ovsdb *o, const struct ovs_port_spec *spec, int64_t timeout_ms)
{
    return err_context(change(o, ovsplan_ensure_port, spec, timeout_ms), "making port %s of %s",
                       spec->name, spec->bridge);
}

struct err *ovsdb_set_socket(struct ovsdb *o, const struct ovs_socket_spec *spec,
                             int64_t timeout_ms)
{
    return err_context(change(o, ovsplan_set_socket, spec, timeout_ms),
                       "giving port %s its socket %s", spec->name, spec->path);
}

struct err *ovsdb_remove_port(struct ovsdb *o, const char *name, int64_t timeout_ms)
{
    return err_context(change(o, ovsplan_remove_port, name, timeout_ms), "removing port %s", name);
}

struct err *ovsdb_remove_bridge(struct ovsdb *o, const char *name, int64_t timeout_ms)
{
    return err_context(change(o, ovsplan_remove_bridge, name, timeout_ms), "removing bridge %s",
                       name);
}

/* ---- Reading the copy (any other thread) ---- */

bool ovsdb_is_connected(struct ovsdb *o)
{
    bool is_up;

    mutex_lock(&o->m);
    is_up = o->is_up;
    mutex_unlock(&o->m);
    return is_up;
}

/* Locks, and waits for the copy; on an error the mutex is free again. */
static struct err *lock_for_reading(struct ovsdb *o) NO_TS_ANALYSIS
{
    struct err *e;

    mutex_lock(&o->m);
    e = wait_until_up(o, deadline_after(READ_WAIT_MS), ERR_DISCONNECTED);
    if (e) {
        mutex_unlock(&o->m);
    }
    return e;
}

static void copy_text(char *ret, size_t size, const char *text)
{
    snprintf(ret, size, "%s", text ? text : "");
}

static void fill_info(const struct ovscache *c, const char *name, struct ovs_port_info *ret)
{
    const struct ovs_row *port = ovscache_find(c, OVS_TABLE_PORT, name);
    const struct ovs_row *interface = ovscache_find(c, OVS_TABLE_INTERFACE, name);
    const struct ovs_row *bridge = port ? ovscache_bridge_of(c, port) : NULL;

    *ret = (struct ovs_port_info){.exists = bridge && interface, .tag = -1};
    if (ret->exists) {
        copy_text(ret->bridge, sizeof(ret->bridge), ovs_row_str(bridge, "name"));
        copy_text(ret->type, sizeof(ret->type), ovs_row_str(interface, "type"));
        copy_text(ret->iface_id, sizeof(ret->iface_id),
                  ovs_row_map(interface, "external_ids", "iface-id"));
        copy_text(ret->error, sizeof(ret->error), ovs_row_str(interface, "error"));
        ret->ofport = ovs_row_int(interface, "ofport", 0);
        ret->link_is_up = str_eq(ovs_row_str(interface, "link_state"), "up");
        ret->tag = ovs_row_int(port, "tag", -1);
    }
}

struct err *ovsdb_port_info(struct ovsdb *o, const char *name,
                            struct ovs_port_info *ret) NO_TS_ANALYSIS
{
    TRY_CTX(lock_for_reading(o), "looking at port %s", name);
    fill_info(&o->cache, name, ret);
    mutex_unlock(&o->m);
    return NULL;
}

struct err *ovsdb_has_iface_type(struct ovsdb *o, const char *type, bool *ret) NO_TS_ANALYSIS
{
    const struct ovs_row *root;

    TRY_CTX(lock_for_reading(o), "looking for interfaces of type '%s'", type);
    root = ovscache_root(&o->cache);
    *ret = root && ovs_row_set_has(root, "iface_types", type) &&
           (!str_starts(type, "dpdk") || ovs_row_bool(root, "dpdk_initialized"));
    mutex_unlock(&o->m);
    return NULL;
}

struct err *ovsdb_ports_of(struct ovsdb *o, const char *vm_uuid, struct strv *ret) NO_TS_ANALYSIS
{
    struct strv found = {0};

    TRY_CTX(lock_for_reading(o), "looking for the ports of server %s", vm_uuid);
    for (const struct ovs_row *row = o->cache.rows[OVS_TABLE_INTERFACE]; row; row = row->hh.next) {
        const char *name = ovs_row_str(row, "name");

        if (name && (str_eq(ovs_row_map(row, "external_ids", "vm-uuid"), vm_uuid) ||
                     str_eq(ovs_row_map(row, "external_ids", "vm-id"), vm_uuid))) {
            strv_add(&found, name);
        }
    }
    mutex_unlock(&o->m);
    *ret = found;
    return NULL;
}

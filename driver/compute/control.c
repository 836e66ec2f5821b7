#include "driver/compute/control.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/moves.h"
#include "driver/compute/service.h"
#include "driver/compute/tracker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_REQUEST 4096

struct control {
    struct node *node;
    int fd;
    char *path;
    struct loop_source *source;
};

struct client {
    struct control *owner;
    int fd;
    struct loop_source *source;
    size_t len;
    char buf[MAX_REQUEST];
};

/* ---- Answers ---- */

static struct json_object *rpc_json(struct node *node)
{
    struct rpc_stats s;
    struct json_object *o = json_object_new_object();

    rpc_stats(node->rpc, &s);
    jv_add_bool(o, "connected", s.is_connected);
    jv_add_str(o, "broker", s.broker);
    jv_add_int(o, "requests", (int64_t)s.n_requests);
    jv_add_int(o, "calls", (int64_t)s.n_calls);
    jv_add_int(o, "casts", (int64_t)s.n_casts);
    jv_add_int(o, "duplicates", (int64_t)s.n_duplicates);
    jv_add_int(o, "malformed", (int64_t)s.n_malformed);
    jv_add_int(o, "reconnects", (int64_t)s.n_reconnects);
    return o;
}

static struct json_object *lanes_json(struct node *node)
{
    struct json_object *o = json_object_new_object();

    for (int lane = 0; lane < N_LANES; lane++) {
        struct task_stats s;
        struct json_object *l = json_object_new_object();

        task_stats(node->tasks, (enum lane)lane, &s);
        jv_add_int(l, "threads", s.n_threads);
        jv_add_int(l, "running", s.n_running);
        jv_add_int(l, "queued", s.n_queued);
        jv_add_int(l, "waiting", s.n_waiting);
        jv_add_int(l, "done", (int64_t)s.n_done);
        jv_add(o, lane_name((enum lane)lane), l);
    }
    return o;
}

static struct json_object *resources_json(struct node *node)
{
    struct tracker_stats s;
    struct json_object *o = json_object_new_object();

    tracker_stats(node->tracker, &s);
    jv_add_int(o, "vcpus", s.vcpus);
    jv_add_int(o, "vcpus_used", s.vcpus_used);
    jv_add_int(o, "memory_mb", s.memory_mib);
    jv_add_int(o, "memory_mb_used", s.memory_mib_used);
    jv_add_int(o, "local_gb", s.disk_gb);
    jv_add_int(o, "local_gb_used", s.disk_gb_used);
    jv_add_int(o, "servers", s.n_instances);
    jv_add_int(o, "claims", s.n_claims);
    jv_add_int(o, "seconds_since_audit",
               s.last_audit_ms ? (clock_ms() - s.last_audit_ms) / 1000 : -1);
    jv_add_int(o, "audit_took_ms", s.last_audit_took_ms);
    return o;
}

static struct json_object *status_json(struct node *node)
{
    struct json_object *o = json_object_new_object();
    struct service_status s;

    service_status(node, &s);
    jv_add_str(o, "version", NOVASHIM_VERSION);
    jv_add_str(o, "host", node->host);
    jv_add_int(o, "pid", getpid());
    jv_add_int(o, "uptime_ms", clock_ms() - node->started_ms);
    jv_add_int(o, "service_id", s.id);
    jv_add_bool(o, "disabled", service_is_disabled(node));
    jv_add_int(o, "report_count", s.report_count);
    jv_add_int(o, "seconds_since_report",
               s.last_report_ms ? (clock_ms() - s.last_report_ms) / 1000 : -1);
    jv_add_bool(o, "heartbeat_failing", s.is_failing);
    jv_add_bool(o, "ovsdb_connected", ovsdb_is_connected(node->vif.ovsdb));
    jv_add_bool(o, "libvirt_connected", lv_conn_is_alive(node->lv));
    jv_add(o, "bus", rpc_json(node));
    jv_add(o, "lanes", lanes_json(node));
    jv_add(o, "resources", resources_json(node));
    jv_add(o, "migrations", moves_json(node->moves));
    return o;
}

static struct json_object *migrations_json(struct node *node)
{
    return moves_json(node->moves);
}

static const struct {
    const char *command;
    struct json_object *(*answer)(struct node *);
} commands[] = {
    {"status", status_json},
    {"migration list", migrations_json},
};

static struct json_object *answer(struct node *node, const char *line, size_t len)
{
    CLEANUP(jv_putp) struct json_object *request = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse(line, len, &request);
    const char *command = e ? NULL : json_object_get_string(jv_get(request, "command"));
    struct json_object *o;

    for (size_t i = 0; command && i < ARRAY_SIZE(commands); i++) {
        if (str_eq(command, commands[i].command)) {
            return commands[i].answer(node);
        }
    }
    o = json_object_new_object();
    if (e) {
        jv_add_str(o, "error", err_message(e));
    } else {
        CLEANUP(freep) char *text = str_printf("unknown command '%s'", command ? command : "");

        jv_add_str(o, "error", text);
    }
    return o;
}

/* ---- Connections ---- */

static void client_end(struct client *c)
{
    loop_source_free(c->source);
    close(c->fd);
    free(c);
}

static void client_answer(struct client *c, size_t len)
{
    struct json_object *o = answer(c->owner->node, c->buf, len);
    CLEANUP(freep) char *text = jv_text(o);
    CLEANUP(freep) char *line = str_printf("%s\n", text);
    size_t left = strlen(line), done = 0;

    json_object_put(o);
    /* Bounded: a socket's buffer takes it, or the reader is not reading and loses it. */
    while (done < left) {
        ssize_t n = send(c->fd, line + done, left - done, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n <= 0) {
            log_warning(LOG_MAIN, "novashimctl did not take its answer: %s", strerror(errno));
            break;
        }
        done += (size_t)n;
    }
}

static void client_readable(int fd, uint32_t events, void *arg)
{
    struct client *c = arg;
    ssize_t n = read(fd, c->buf + c->len, sizeof(c->buf) - c->len);
    char *end;

    (void)events;
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        client_end(c);
        return;
    }
    c->len += (size_t)n;
    end = memchr(c->buf, '\n', c->len);
    if (end) {
        client_answer(c, (size_t)(end - c->buf));
    }
    if (end || c->len == sizeof(c->buf)) {
        client_end(c);
    }
}

static void accept_client(int fd, uint32_t events, void *arg)
{
    struct control *ctl = arg;
    int cfd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (cfd < 0) {
        return;
    }
    int size = 1 << 20;
    struct client *c = NEW(struct client);

    setsockopt(cfd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    c->owner = ctl;
    c->fd = cfd;
    struct err *e = loop_add_io(ctl->node->loop, cfd, EPOLLIN, client_readable, c, &c->source);

    if (e) {
        err_ignore(e, "taking a control connection");
        close(cfd);
        free(c);
    }
}

static struct err *listen_on(const char *path, int *ret)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return err_msg(ERR_CONFIG, "[novashim]control_socket: '%s' is too long for a socket", path);
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_errno(errno, "making the control socket");
    }
    unlink(path);
    mode_t mask = umask(0177);
    int rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr));

    umask(mask);
    if (rc < 0 || listen(fd, 16) < 0) {
        struct err *e = err_errno(errno, "listening on %s", path);

        close(fd);
        return e;
    }
    *ret = fd;
    return NULL;
}

struct err *control_open(struct node *node, const char *path, struct control **ret)
{
    CLEANUP(freep) char *dir = str_dup(path);
    struct control *ctl;
    char *slash = strrchr(dir, '/');
    int fd = -1;

    if (slash && slash != dir) {
        *slash = '\0';
        if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
            return err_errno(errno, "making %s", dir);
        }
    }
    TRY(listen_on(path, &fd));
    ctl = NEW(struct control);
    ctl->node = node;
    ctl->fd = fd;
    ctl->path = str_dup(path);
    struct err *e = loop_add_io(node->loop, fd, EPOLLIN, accept_client, ctl, &ctl->source);

    if (e) {
        control_close(ctl);
        return e;
    }
    *ret = ctl;
    return NULL;
}

struct control *control_close(struct control *ctl)
{
    if (ctl) {
        if (ctl->source) {
            loop_source_free(ctl->source);
        }
        close(ctl->fd);
        unlink(ctl->path);
        free(ctl->path);
        free(ctl);
    }
    return NULL;
}

#include "base/proc.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_OUTPUT (1u << 20)

extern char **environ;

struct capture {
    int fd; /* -1: at its end. */
    struct strbuf text;
};

/* How long a program may run. */
struct limit {
    int64_t deadline_ms;
    struct cancel *stop;
    int stop_fd; /* Readable when 'stop' is set; -1: there is none. */
};

static void on_stop(void *arg)
{
    const struct limit *l = arg;

    /* It wakes; what it says is that the token is set. */
    (void)!write(l->stop_fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* How long to sleep at most; 0: it is over. */
static int limit_left(const struct limit *l)
{
    int64_t left_ms = l->deadline_ms - clock_ms();

    return left_ms <= 0 || cancel_is_set(l->stop) ? 0 : (int)MIN(left_ms, (int64_t)60000);
}

static struct err *spawn(const char *const *argv, int out, int err, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, defaults;

    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
    posix_spawnattr_init(&attr);
    /* Our signals are blocked for the reactor's sake; a program wants them as usual. */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    int rc = posix_spawnp(ret, argv[0], &files, &attr, (char *const *)(uintptr_t)argv, environ);

    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc ? err_errno(rc, "starting %s", argv[0]) : NULL;
}

static void read_some(struct capture *c)
{
    char buf[4096];
    ssize_t n = read(c->fd, buf, sizeof(buf));

    if (n > 0 && c->text.len < MAX_OUTPUT) {
        strbuf_add_mem(&c->text, buf, (size_t)n);
    }
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        close(c->fd);
        c->fd = -1;
    }
}

/* Reads both until both are at their end; false when the limit came first. */
static bool read_all(struct capture *out, struct capture *err, const struct limit *limit)
{
    while (out->fd >= 0 || err->fd >= 0) {
        struct pollfd fds[] = {{.fd = out->fd, .events = POLLIN},
                               {.fd = err->fd, .events = POLLIN},
                               {.fd = limit->stop_fd, .events = POLLIN}};
        int left_ms = limit_left(limit);

        if (left_ms == 0) {
            return false;
        }
        if (poll(fds, 3, left_ms) <= 0) {
            continue;
        }
        if (fds[0].revents) {
            read_some(out);
        }
        if (fds[1].revents) {
            read_some(err);
        }
    }
    return true;
}

/* A program may close its output long before it ends. */
static bool wait_exit(pid_t pid, const struct limit *limit)
{
    CLEANUP(closep) int fd = pidfd_open(pid, 0);
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = limit->stop_fd, .events = POLLIN}};
    int left_ms;

    if (fd < 0) {
        return true; /* Waiting without a deadline is what is left. */
    }
    while ((left_ms = limit_left(limit)) > 0) {
        if (poll(fds, 2, left_ms) > 0 && fds[0].revents) {
            return true;
        }
    }
    return false;
}

static struct err *result(const char *program, int status, struct strbuf *stderr_text)
{
    CLEANUP(freep) char *said = strbuf_take(stderr_text);
    const char *end = str_strip(said);
    size_t len = strlen(end);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return NULL;
    }
    if (len > 400) {
        end += len - 400;
    }
    enum err_kind kind = strstr(end, strerror(ENOSPC)) ? ERR_NO_SPACE : ERR_INTERNAL;

    if (WIFSIGNALED(status)) {
        return err_msg(kind, "%s was killed by signal %d: %s", program, WTERMSIG(status), end);
    }
    return err_msg(kind, "%s failed with status %d: %s", program, WEXITSTATUS(status), end);
}

static struct err *limit_error(const char *program, const struct limit *limit, int64_t timeout_ms)
{
    if (cancel_is_set(limit->stop)) {
        return err_msg(ERR_CANCELLED, "stopped while %s ran", program);
    }
    return err_msg(ERR_TIMEOUT, "%s took more than %lld ms", program, (long long)timeout_ms);
}

/* What becomes of a program that runs. */
static struct err *attend(pid_t pid, const char *program, struct capture *captures,
                          const struct limit *limit, int64_t timeout_ms)
{
    bool is_done = read_all(&captures[0], &captures[1], limit) && wait_exit(pid, limit);
    int status = 0;

    if (!is_done) {
        kill(pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return is_done ? result(program, status, &captures[1].text)
                   : limit_error(program, limit, timeout_ms);
}

static struct err *run(const char *const *argv, int64_t timeout_ms, const struct limit *limit,
                       char **ret_out)
{
    int out[2], err[2];
    pid_t pid;

    if (pipe2(out, O_CLOEXEC) < 0) {
        return err_errno(errno, "starting %s", argv[0]);
    }
    if (pipe2(err, O_CLOEXEC) < 0) {
        struct err *e = err_errno(errno, "starting %s", argv[0]);

        close(out[0]);
        close(out[1]);
        return e;
    }
    struct capture captures[] = {{.fd = out[0]}, {.fd = err[0]}};
    struct err *e = spawn(argv, out[1], err[1], &pid);

    close(out[1]);
    close(err[1]);
    if (!e) {
        e = attend(pid, argv[0], captures, limit, timeout_ms);
    }
    for (size_t i = 0; i < ARRAY_SIZE(captures); i++) {
        if (captures[i].fd >= 0) {
            close(captures[i].fd);
        }
    }
    if (!e && ret_out) {
        *ret_out = strbuf_take(&captures[0].text);
    }
    strbuf_fini(&captures[0].text);
    strbuf_fini(&captures[1].text);
    return e;
}

struct err *proc_run(const char *const *argv, int64_t timeout_ms, char **ret_out)
{
    return proc_run_until(argv, timeout_ms, /* stop= */ NULL, ret_out);
}

struct err *proc_run_until(const char *const *argv, int64_t timeout_ms, struct cancel *stop,
                           char **ret_out)
{
    CLEANUP(closep) int fd = stop ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    struct limit limit = {clock_ms() + timeout_ms, stop, fd};
    struct cancel_hook hook = {.fn = on_stop, .arg = &limit};

    if (stop && fd < 0) {
        return err_errno(errno, "starting %s", argv[0]);
    }
    cancel_hook_add(stop, &hook);
    struct err *e = run(argv, timeout_ms, &limit, ret_out);

    cancel_hook_del(stop, &hook);
    return e;
}

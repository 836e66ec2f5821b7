#include "base/loop.h"

#include "base/sync.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <utlist.h>

#define ACCURACY_US 1000

struct loop_source {
    struct loop_source *prev, *next;
    struct loop *loop;
    sd_event_source *source;
    union {
        loop_fn timer;
        loop_io_fn io;
        loop_signal_fn signal;
    } fn;
    void *arg;
};

struct post {
    struct post *prev, *next;
    loop_fn fn;
    void *arg;
};

struct loop {
    sd_event *event;
    struct loop_source *sources;
    int wake_fd; /* Readable when there are posts. */
    struct mutex m;
    struct post *posts GUARDED_BY(m);
};

/* sd-event fails only where the caller is wrong: a freed source, another thread. */
static void must(int r)
{
    assert(r >= 0);
}

static void run_posts(int fd, UNUSED uint32_t events, void *arg)
{
    struct loop *loop = arg;
    struct post *posts, *post, *tmp;
    eventfd_t n;

    eventfd_read(fd, &n);
    mutex_lock(&loop->m);
    posts = TAKE(loop->posts);
    mutex_unlock(&loop->m);
    DL_FOREACH_SAFE(posts, post, tmp)
    {
        post->fn(post->arg);
        free(post);
    }
}

struct err *loop_new(struct loop **ret)
{
    CLEANUP(loop_freep) struct loop *loop = NEW(struct loop);
    struct loop_source *wake;
    int r;

    mutex_init(&loop->m);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        return err_errno(errno, "creating the event loop");
    }
    r = sd_event_new(&loop->event);
    if (r < 0) {
        return err_errno(-r, "creating the event loop");
    }
    r = sd_event_set_watchdog(loop->event, /* b= */ 1);
    if (r < 0) {
        return err_errno(-r, "setting up the watchdog");
    }
    TRY(loop_add_io(loop, loop->wake_fd, EPOLLIN, run_posts, loop, &wake));
    *ret = TAKE(loop);
    return NULL;
}

struct loop *loop_free(struct loop *loop)
{
    struct post *post, *tmp;

    if (!loop) {
        return NULL;
    }
    while (loop->sources) {
        loop_source_free(loop->sources);
    }
    DL_FOREACH_SAFE(loop->posts, post, tmp)
    {
        free(post);
    }
    sd_event_unref(loop->event);
    closep(&loop->wake_fd);
    mutex_fini(&loop->m);
    free(loop);
    return NULL;
}

static struct loop_source *source_new(struct loop *loop, void *arg)
{
    struct loop_source *s = NEW(struct loop_source);

    s->loop = loop;
    s->arg = arg;
    DL_APPEND(loop->sources, s);
    return s;
}

/* The end of each loop_add_*: 'r' is what sd-event said. */
static struct err *source_added(struct loop_source *s, int r, const char *what,
                                struct loop_source **ret)
{
    if (r < 0) {
        loop_source_free(s);
        return err_errno(-r, "watching %s", what);
    }
    *ret = s;
    return NULL;
}

struct loop_source *loop_source_free(struct loop_source *s)
{
    if (s) {
        DL_DELETE(s->loop->sources, s);
        sd_event_source_disable_unref(s->source);
        free(s);
    }
    return NULL;
}

static uint64_t usec_of(int64_t ms)
{
    if (ms <= 0) {
        return 0;
    }
    return ms > INT64_MAX / 1000 ? UINT64_MAX : (uint64_t)ms * 1000;
}

static int on_timer(UNUSED sd_event_source *source, UNUSED uint64_t usec, void *arg)
{
    struct loop_source *s = arg;

    s->fn.timer(s->arg); /* May free s. */
    return 0;
}

struct err *loop_add_timer(struct loop *loop, int64_t at_ms, loop_fn fn, void *arg,
                           struct loop_source **ret)
{
    struct loop_source *s = source_new(loop, arg);

    s->fn.timer = fn;
    return source_added(s,
                        sd_event_add_time(loop->event, &s->source, CLOCK_MONOTONIC, usec_of(at_ms),
                                          ACCURACY_US, on_timer, s),
                        "a timer", ret);
}

void loop_timer_set(struct loop_source *s, int64_t at_ms)
{
    must(sd_event_source_set_time(s->source, usec_of(at_ms)));
    must(sd_event_source_set_enabled(s->source, SD_EVENT_ONESHOT));
}

void loop_timer_off(struct loop_source *s)
{
    must(sd_event_source_set_enabled(s->source, SD_EVENT_OFF));
}

static int on_io(UNUSED sd_event_source *source, int fd, uint32_t events, void *arg)
{
    struct loop_source *s = arg;

    s->fn.io(fd, events, s->arg); /* May free s. */
    return 0;
}

struct err *loop_add_io(struct loop *loop, int fd, uint32_t events, loop_io_fn fn, void *arg,
                        struct loop_source **ret)
{
    struct loop_source *s = source_new(loop, arg);

    s->fn.io = fn;
    return source_added(s, sd_event_add_io(loop->event, &s->source, fd, events, on_io, s),
                        "a descriptor", ret);
}

void loop_io_set(struct loop_source *s, uint32_t events)
{
    must(sd_event_source_set_io_events(s->source, events));
}

static int on_signal(UNUSED sd_event_source *source, const struct signalfd_siginfo *si, void *arg)
{
    struct loop_source *s = arg;

    s->fn.signal((int)si->ssi_signo, s->arg);
    return 0;
}

struct err *loop_add_signal(struct loop *loop, int signo, loop_signal_fn fn, void *arg)
{
    struct loop_source *s = source_new(loop, arg);

    s->fn.signal = fn;
    return source_added(s, sd_event_add_signal(loop->event, &s->source, signo, on_signal, s),
                        "a signal", &s);
}

void loop_block_signals(void)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        sigaddset(&set, signals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void loop_post(struct loop *loop, loop_fn fn, void *arg)
{
    struct post *post = NEW(struct post);

    post->fn = fn;
    post->arg = arg;
    mutex_lock(&loop->m);
    DL_APPEND(loop->posts, post);
    mutex_unlock(&loop->m);
    /* Full means that it is readable already. */
    eventfd_write(loop->wake_fd, 1);
}

static void quit(void *arg)
{
    struct loop *loop = arg;

    must(sd_event_exit(loop->event, 0));
}

void loop_quit(struct loop *loop)
{
    loop_post(loop, quit, loop);
}

struct err *loop_run(struct loop *loop)
{
    int r = sd_event_loop(loop->event);

    return r < 0 ? err_errno(-r, "running the event loop") : NULL;
}

void loop_notify(struct loop *l, const char *state)
{
    (void)l;
    sd_notify(/* unset_environment= */ 0, state);
}

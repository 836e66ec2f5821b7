#include "base/sync.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* Misuse is the only way in which these fail. */
static void must(int errnum)
{
    assert(errnum == 0);
}

void mutex_init(struct mutex *m)
{
    must(pthread_mutex_init(&m->m, NULL));
}

void mutex_fini(struct mutex *m)
{
    must(pthread_mutex_destroy(&m->m));
}

void mutex_lock(struct mutex *m) NO_TS_ANALYSIS
{
    must(pthread_mutex_lock(&m->m));
}

void mutex_unlock(struct mutex *m) NO_TS_ANALYSIS
{
    must(pthread_mutex_unlock(&m->m));
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;

    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&c->c, &attr));
    must(pthread_condattr_destroy(&attr));
}

void cond_fini(struct cond *c)
{
    must(pthread_cond_destroy(&c->c));
}

void cond_signal(struct cond *c)
{
    must(pthread_cond_signal(&c->c));
}

void cond_broadcast(struct cond *c)
{
    must(pthread_cond_broadcast(&c->c));
}

bool cond_wait_until(struct cond *c, struct mutex *m, int64_t deadline_ms)
{
    struct timespec ts = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    int errnum;

    if (deadline_ms == INT64_MAX) {
        must(pthread_cond_wait(&c->c, &m->m));
        return true;
    }
    if (deadline_ms <= 0) { /* A time that pthread would call invalid. */
        return false;
    }
    errnum = pthread_cond_timedwait(&c->c, &m->m, &ts);
    assert(errnum == 0 || errnum == ETIMEDOUT);
    return errnum == 0;
}

struct cancel {
    struct mutex m;
    struct cond changed;
    unsigned n_refs GUARDED_BY(m);
    bool is_set GUARDED_BY(m);
    struct cancel_hook *hooks GUARDED_BY(m);
};

struct cancel *cancel_new(void)
{
    struct cancel *c = NEW(struct cancel);

    mutex_init(&c->m);
    cond_init(&c->changed);
    mutex_lock(&c->m);
    c->n_refs = 1;
    mutex_unlock(&c->m);
    return c;
}

struct cancel *cancel_ref(struct cancel *c)
{
    mutex_lock(&c->m);
    c->n_refs++;
    mutex_unlock(&c->m);
    return c;
}

struct cancel *cancel_free(struct cancel *c)
{
    unsigned n_left;

    if (!c) {
        return NULL;
    }
    mutex_lock(&c->m);
    n_left = --c->n_refs;
    mutex_unlock(&c->m);
    if (n_left == 0) {
        cond_fini(&c->changed);
        mutex_fini(&c->m);
        free(c);
    }
    return NULL;
}

void cancel_set(struct cancel *c)
{
    mutex_lock(&c->m);
    c->is_set = true;
    cond_broadcast(&c->changed);
    for (struct cancel_hook *h = c->hooks; h; h = h->next) {
        h->fn(h->arg);
    }
    mutex_unlock(&c->m);
}

bool cancel_is_set(struct cancel *c)
{
    bool is_set;

    if (!c) {
        return false;
    }
    mutex_lock(&c->m);
    is_set = c->is_set;
    mutex_unlock(&c->m);
    return is_set;
}

static int64_t deadline_after(int64_t ms)
{
    int64_t now = clock_ms();

    return ms >= INT64_MAX - now ? INT64_MAX : now + ms;
}

bool cancel_sleep(struct cancel *c, int64_t ms)
{
    int64_t deadline = deadline_after(ms);
    bool is_set;

    if (!c) {
        struct timespec ts = {.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
        }
        return false;
    }
    mutex_lock(&c->m);
    while (!c->is_set && cond_wait_until(&c->changed, &c->m, deadline)) {
    }
    is_set = c->is_set;
    mutex_unlock(&c->m);
    return is_set;
}

void cancel_hook_add(struct cancel *c, struct cancel_hook *h)
{
    if (!c) {
        return;
    }
    mutex_lock(&c->m);
    h->next = c->hooks;
    c->hooks = h;
    if (c->is_set) {
        h->fn(h->arg);
    }
    mutex_unlock(&c->m);
}

void cancel_hook_del(struct cancel *c, struct cancel_hook *h)
{
    if (!c) {
        return;
    }
    mutex_lock(&c->m);
    for (struct cancel_hook **p = &c->hooks; *p; p = &(*p)->next) {
        if (*p == h) {
            *p = h->next;
            break;
        }
    }
    mutex_unlock(&c->m);
}

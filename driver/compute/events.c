#include "driver/compute/events.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

/* How long an event that nobody waits for yet is remembered. */
#define EARLY_KEPT_MS 10000
#define EARLY_MAX     256

struct expectation {
    char *tag;
    bool has_come, has_failed;
};

struct event_wait {
    struct events *owner;
    char *instance_uuid;
    char *name;
    struct expectation *items;
    size_t n;
    bool is_cancelled;
    struct cond cond;
    struct event_wait *next;
};

struct early_event {
    char *instance_uuid, *name, *tag;
    bool has_failed;
    int64_t until_ms;
};

struct events {
    struct mutex m;
    struct event_wait *waits;
    struct early_event early[EARLY_MAX]; /* A ring; the oldest is overwritten. */
    size_t next_early;
};

struct events *events_new(void)
{
    struct events *ev = NEW(struct events);

    mutex_init(&ev->m);
    return ev;
}

static void early_fini(struct early_event *e)
{
    free(e->instance_uuid);
    free(e->name);
    free(e->tag);
    memset(e, 0, sizeof(*e));
}

struct events *events_free(struct events *ev)
{
    if (!ev) {
        return NULL;
    }
    for (size_t i = 0; i < EARLY_MAX; i++) {
        early_fini(&ev->early[i]);
    }
    mutex_fini(&ev->m);
    free(ev);
    return NULL;
}

static struct early_event *early_find_locked(struct events *ev, const char *uuid, const char *name,
                                             const char *tag, int64_t now_ms)
{
    for (size_t i = 0; i < EARLY_MAX; i++) {
        struct early_event *e = &ev->early[i];

        if (e->until_ms > now_ms && str_eq(e->instance_uuid, uuid) && str_eq(e->name, name) &&
            str_eq(e->tag, tag)) {
            return e;
        }
    }
    return NULL;
}

static bool has_tag(const struct event_wait *w, const char *tag)
{
    for (size_t i = 0; i < w->n; i++) {
        if (str_eq(w->items[i].tag, tag)) {
            return true;
        }
    }
    return false;
}

struct event_wait *events_expect(struct events *ev, const char *instance_uuid, const char *name,
                                 const struct strv *tags)
{
    struct event_wait *w = NEW(struct event_wait);
    int64_t now_ms = clock_ms();

    w->owner = ev;
    w->instance_uuid = str_dup(instance_uuid);
    w->name = str_dup(name);
    w->items = NEW_ARRAY(struct expectation, tags->n);
    cond_init(&w->cond);
    mutex_lock(&ev->m);
    for (size_t i = 0; i < tags->n; i++) {
        if (has_tag(w, tags->items[i])) {
            continue;
        }
        struct early_event *e = early_find_locked(ev, instance_uuid, name, tags->items[i], now_ms);

        w->items[w->n].tag = str_dup(tags->items[i]);
        if (e) {
            w->items[w->n].has_come = true;
            w->items[w->n].has_failed = e->has_failed;
            early_fini(e);
        }
        w->n++;
    }
    w->next = ev->waits;
    ev->waits = w;
    mutex_unlock(&ev->m);
    return w;
}

/* Tags that are missing, or those that failed, joined. */
static char *tags_text(const struct event_wait *w, bool failed)
{
    struct strv tags = {0};
    char *text;

    for (size_t i = 0; i < w->n; i++) {
        if (failed ? w->items[i].has_failed : !w->items[i].has_come) {
            strv_add(&tags, w->items[i].tag);
        }
    }
    text = strv_join(&tags, ", ");
    strv_fini(&tags);
    return text;
}

struct err *events_wait(struct event_wait *w, int64_t deadline_ms, struct cancel *cancel)
{
    struct events *ev = w->owner;
    bool is_missing = true, has_failed = false, in_time = true;

    mutex_lock(&ev->m);
    while (true) {
        is_missing = has_failed = false;
        for (size_t i = 0; i < w->n; i++) {
            is_missing |= !w->items[i].has_come;
            has_failed |= w->items[i].has_failed;
        }
        if (!is_missing || has_failed || w->is_cancelled || cancel_is_set(cancel) || !in_time) {
            break;
        }
        /* A cancel token has no way to wake this condition: look at it now and then. */
        int64_t until_ms = cancel ? MIN(deadline_ms, clock_ms() + 500) : deadline_ms;

        cond_wait_until(&w->cond, &ev->m, until_ms);
        in_time = clock_ms() < deadline_ms;
    }
    bool is_cancelled = w->is_cancelled || cancel_is_set(cancel);
    CLEANUP(freep) char *tags = tags_text(w, has_failed);

    mutex_unlock(&ev->m);
    if (has_failed) {
        return err_msg(ERR_VIF_PLUG, "Neutron reported failure of %s for port(s) %s", w->name,
                       tags);
    }
    if (!is_missing) {
        return NULL;
    }
    if (is_cancelled) {
        return err_msg(ERR_CANCELLED, "Waiting for %s was cancelled", w->name);
    }
    return err_msg(ERR_TIMEOUT, "Timed out waiting for %s of port(s) %s", w->name, tags);
}

struct event_wait *event_wait_free(struct event_wait *w)
{
    if (!w) {
        return NULL;
    }
    struct events *ev = w->owner;

    mutex_lock(&ev->m);
    for (struct event_wait **p = &ev->waits; *p; p = &(*p)->next) {
        if (*p == w) {
            *p = w->next;
            break;
        }
    }
    mutex_unlock(&ev->m);
    for (size_t i = 0; i < w->n; i++) {
        free(w->items[i].tag);
    }
    cond_fini(&w->cond);
    free(w->items);
    free(w->instance_uuid);
    free(w->name);
    free(w);
    return NULL;
}

static void early_keep_locked(struct events *ev, const char *uuid, const char *name,
                              const char *tag, bool has_failed)
{
    struct early_event *e = &ev->early[ev->next_early++ % EARLY_MAX];

    early_fini(e);
    e->instance_uuid = str_dup(uuid);
    e->name = str_dup(name);
    e->tag = str_dup(tag);
    e->has_failed = has_failed;
    e->until_ms = clock_ms() + EARLY_KEPT_MS;
}

bool events_deliver(struct events *ev, const char *instance_uuid, const char *name, const char *tag,
                    const char *status)
{
    bool has_failed = str_eq(status, "failed");
    bool is_awaited = false;

    mutex_lock(&ev->m);
    for (struct event_wait *w = ev->waits; w; w = w->next) {
        if (!str_eq(w->instance_uuid, instance_uuid) || !str_eq(w->name, name)) {
            continue;
        }
        for (size_t i = 0; i < w->n; i++) {
            if (str_eq(w->items[i].tag, tag)) {
                w->items[i].has_come = true;
                w->items[i].has_failed |= has_failed;
                is_awaited = true;
                cond_broadcast(&w->cond);
            }
        }
    }
    if (!is_awaited) {
        early_keep_locked(ev, instance_uuid, name, tag, has_failed);
    }
    mutex_unlock(&ev->m);
    return is_awaited;
}

void events_cancel_all(struct events *ev)
{
    mutex_lock(&ev->m);
    for (struct event_wait *w = ev->waits; w; w = w->next) {
        w->is_cancelled = true;
        cond_broadcast(&w->cond);
    }
    mutex_unlock(&ev->m);
}

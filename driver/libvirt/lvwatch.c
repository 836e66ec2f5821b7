#include "driver/libvirt/lvwatch.h"

#include "base/clock.h"
#include "base/str.h"

#include <assert.h>
#include <stdlib.h>

struct lvwait {
    struct lvwatch *owner;
    char *uuid;
    char *alias; /* NULL: any. */
    unsigned types;
    struct cond changed;  /* This and below: of owner->m. */
    bool has_come;        /* event */
    bool is_disconnected; /* Said once. */
    bool is_cancelled;
    struct lv_event event; /* The first since the last wait. */
    struct lvwait *next;
};

struct lvwatch {
    struct mutex m;
    struct lvwait *waits GUARDED_BY(m);
};

struct lvwatch *lvwatch_new(void)
{
    struct lvwatch *w = NEW(struct lvwatch);

    mutex_init(&w->m);
    return w;
}

struct lvwatch *lvwatch_free(struct lvwatch *w)
{
    if (w) {
        assert(!w->waits);
        mutex_fini(&w->m);
        free(w);
    }
    return NULL;
}

struct lvwait *lvwatch_expect(struct lvwatch *owner, const char *uuid, unsigned types,
                              const char *alias)
{
    struct lvwait *w = NEW(struct lvwait);

    w->owner = owner;
    w->uuid = str_dup(uuid);
    w->alias = str_dup(alias);
    w->types = types;
    cond_init(&w->changed);
    mutex_lock(&owner->m);
    w->next = owner->waits;
    owner->waits = w;
    mutex_unlock(&owner->m);
    return w;
}

/* By the thread that sets the token. */
static void on_cancel(void *arg)
{
    struct lvwait *w = arg;

    mutex_lock(&w->owner->m);
    w->is_cancelled = true;
    cond_broadcast(&w->changed);
    mutex_unlock(&w->owner->m);
}

/* What there is to say, or NULL with nothing to say yet. */
static bool take_locked(struct lvwait *w, struct lv_event *ret, struct err **ret_err)
    REQUIRES(w->owner->m)
{
    if (w->has_come) {
        w->has_come = false;
        *ret = w->event;
        return true;
    }
    if (w->is_disconnected) {
        w->is_disconnected = false;
        *ret_err = err_new(ERR_HYPERVISOR_UNAVAILABLE, NULL);
        return true;
    }
    if (w->is_cancelled) {
        *ret_err = err_msg(ERR_CANCELLED, "waiting for an event of %s was cancelled", w->uuid);
        return true;
    }
    return false;
}

struct err *lvwait_wait(struct lvwait *w, int64_t deadline_ms, struct cancel *cancel,
                        struct lv_event *ret)
{
    struct cancel_hook hook = {.fn = on_cancel, .arg = w};
    struct err *e = NULL;
    bool is_over, in_time = true;

    cancel_hook_add(cancel, &hook);
    mutex_lock(&w->owner->m);
    while (!(is_over = take_locked(w, ret, &e)) && in_time) {
        in_time = cond_wait_until(&w->changed, &w->owner->m, deadline_ms);
    }
    mutex_unlock(&w->owner->m);
    cancel_hook_del(cancel, &hook);
    return is_over ? e : err_msg(ERR_TIMEOUT, "no event of %s came in time", w->uuid);
}

struct lvwait *lvwait_free(struct lvwait *w)
{
    if (!w) {
        return NULL;
    }
    mutex_lock(&w->owner->m);
    for (struct lvwait **p = &w->owner->waits; *p; p = &(*p)->next) {
        if (*p == w) {
            *p = w->next;
            break;
        }
    }
    mutex_unlock(&w->owner->m);
    cond_fini(&w->changed);
    free(w->uuid);
    free(w->alias);
    free(w);
    return NULL;
}

static bool is_awaited(const struct lvwait *w, const struct lv_event *event)
{
    bool is_of_device =
        event->type == LV_EVENT_DEVICE_REMOVED || event->type == LV_EVENT_DEVICE_REMOVAL_FAILED;

    return w->types & (1u << event->type) && str_eq(w->uuid, event->uuid) &&
           (!is_of_device || !w->alias || str_eq(w->alias, event->alias));
}

void lvwatch_deliver(struct lvwatch *owner, const struct lv_event *event)
{
    mutex_lock(&owner->m);
    for (struct lvwait *w = owner->waits; w; w = w->next) {
        if (event->type == LV_EVENT_DISCONNECTED) {
            w->is_disconnected = true;
        } else if (is_awaited(w, event) && !w->has_come) {
            w->has_come = true;
            w->event = *event;
        } else {
            continue;
        }
        cond_broadcast(&w->changed);
    }
    mutex_unlock(&owner->m);
}

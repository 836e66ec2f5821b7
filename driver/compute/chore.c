#include "driver/compute/chore.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

struct chore {
    struct node *node;
    const char *what;
    char uuid[UUID_LEN + 1];
    chore_fn fn;
    struct chore *next;
};

struct memory {
    const char *what;
    int64_t value;
};

struct chores {
    struct mutex m;
    struct chore *list GUARDED_BY(m); /* Those that wait or run. */
    struct memory *memories GUARDED_BY(m);
    size_t n_memories GUARDED_BY(m);
};

struct chores *chores_new(void)
{
    struct chores *c = NEW(struct chores);

    mutex_init(&c->m);
    return c;
}

struct chores *chores_free(struct chores *c)
{
    if (c) {
        mutex_fini(&c->m);
        free(c->memories);
        free(c);
    }
    return NULL;
}

/* False if the same is on the list already. */
static bool add(struct chores *c, struct chore *chore)
{
    bool is_there = false;

    mutex_lock(&c->m);
    for (const struct chore *o = c->list; o; o = o->next) {
        is_there |= str_eq(o->what, chore->what) && str_eq(o->uuid, chore->uuid);
    }
    if (!is_there) {
        chore->next = c->list;
        c->list = chore;
    }
    mutex_unlock(&c->m);
    return !is_there;
}

static void end(void *arg)
{
    struct chore *chore = arg;
    struct chores *c = chore->node->chores;

    mutex_lock(&c->m);
    for (struct chore **p = &c->list; *p; p = &(*p)->next) {
        if (*p == chore) {
            *p = chore->next;
            break;
        }
    }
    mutex_unlock(&c->m);
    free(chore);
}

static void run(void *arg)
{
    struct chore *chore = arg;
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    log_context_set(rctx_log_text(ctx), chore->uuid);
    err_ignore(chore->fn(chore->node, ctx, chore->uuid), chore->what);
    log_context_set(NULL, NULL);
    end(chore);
}

void chore_submit(struct node *node, const char *what, const char *instance_uuid, chore_fn fn)
{
    struct chore *chore;

    if (!uuid_is_valid(instance_uuid)) {
        return;
    }
    chore = NEW(struct chore);
    *chore = (struct chore){.node = node, .what = what, .fn = fn};
    memcpy(chore->uuid, instance_uuid, sizeof(chore->uuid));
    if (add(node->chores, chore)) {
        task_submit(node->tasks, LANE_WORK, chore->uuid, what, run, end, chore);
    } else {
        free(chore);
    }
}

static struct memory *find_locked(struct chores *c, const char *what)
{
    for (size_t i = 0; i < c->n_memories; i++) {
        if (str_eq(c->memories[i].what, what)) {
            return &c->memories[i];
        }
    }
    return NULL;
}

void chore_remember(struct chores *c, const char *what, int64_t value)
{
    mutex_lock(&c->m);
    struct memory *m = find_locked(c, what);

    if (!m) {
        c->memories = mem_realloc(c->memories, c->n_memories + 1, sizeof(*c->memories));
        m = &c->memories[c->n_memories++];
        m->what = what;
    }
    m->value = value;
    mutex_unlock(&c->m);
}

int64_t chore_recall(struct chores *c, const char *what)
{
    mutex_lock(&c->m);
    const struct memory *m = find_locked(c, what);
    int64_t value = m ? m->value : 0;

    mutex_unlock(&c->m);
    return value;
}

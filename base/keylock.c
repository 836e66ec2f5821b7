#include "base/keylock.h"

#include "base/str.h"
#include "base/sync.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

struct keylock {
    struct mutex m;
    struct cond cond; /* Somebody gave one back. */
    struct strv held GUARDED_BY(m);
};

struct keylock *keylock_new(void)
{
    struct keylock *l = NEW(struct keylock);

    mutex_init(&l->m);
    cond_init(&l->cond);
    return l;
}

struct keylock *keylock_free(struct keylock *l)
{
    if (l) {
        assert(l->held.n == 0);
        strv_fini(&l->held);
        cond_fini(&l->cond);
        mutex_fini(&l->m);
        free(l);
    }
    return NULL;
}

void keylock_take(struct keylock *l, const char *key)
{
    mutex_lock(&l->m);
    while (strv_has(&l->held, key)) {
        cond_wait_until(&l->cond, &l->m, INT64_MAX);
    }
    strv_add(&l->held, key);
    mutex_unlock(&l->m);
}

void keylock_give(struct keylock *l, const char *key)
{
    mutex_lock(&l->m);
    for (size_t i = 0; i < l->held.n; i++) {
        if (str_eq(l->held.items[i], key)) {
            free(l->held.items[i]);
            l->held.items[i] = l->held.items[--l->held.n];
            l->held.items[l->held.n] = NULL;
            break;
        }
    }
    cond_broadcast(&l->cond);
    mutex_unlock(&l->m);
}

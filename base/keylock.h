#pragma once

/* One lock for each name, for as long as it takes: what strands do for tasks, for a part of one.
 *
 * Unlike a mutex it may be held over I/O, by calls that have a deadline; a thread holds one at a
 * time and submits no task that it then waits for.  driver/compute/network.c is the one caller: two
 * who rewrite the network model of one server must not overtake each other (Nova's lock
 * "refresh_cache-<uuid>").
 *
 * Thread-safety: from any thread. */

#include "base/mem.h"

struct keylock;

struct keylock *keylock_new(void) MUST_CHECK;
struct keylock *keylock_free(struct keylock *); /* Nobody holds one any more. */

void keylock_take(struct keylock *, const char *key);
void keylock_give(struct keylock *, const char *key);

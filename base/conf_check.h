#pragma once

/* What is wrong with a configuration although every single option is well-formed: what is missing,
 * contradicts something else, or cannot be had here.
 *
 * Source: the checks that Nova makes at start (nova/virt/libvirt/driver.py, nova/virt/hardware.py,
 * nova/compute/manager.py) and oslo.messaging when it connects.
 *
 * Thread-safety: no shared state. */

#include "base/conf_table.h"

/* 'where' has for every row of conf_opts its place in a file, or NULL.  Adds one line a problem. */
void conf_check(const struct conf *, char *const *where, struct strv *ret_problems);

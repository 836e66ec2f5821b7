#pragma once

/* Decides what a transaction has to say so that the switch's database gets to a wanted state.
 *
 * Pure: the present copy of the database in, operations out.  vif/ovsdb.c calls a plan again after
 * whatever changed until it says DONE, so a plan never needs to know what went before: not even
 * whether a transaction whose answer was lost has been carried out.
 *
 * Transactions name rows by their uuid and change sets by "mutate", so that they do not undo what
 * others do meanwhile; "wait" guards what they take for granted.  Each one increments next_cfg:
 * ovs-vswitchd copies it to cur_cfg when it has carried it out (ovs-vswitchd.conf.db(5)).
 *
 * Thread-safety: pure functions. */

#include "vif/ovsdb.h"

enum ovsplan_verdict {
    OVSPLAN_DONE,
    OVSPLAN_SEND, /* Commit 'ops', and wait for the answer. */
    OVSPLAN_WAIT, /* Nothing to do but wait for the database to change. */
};

struct ovsplan {
    enum ovsplan_verdict verdict;
    struct json_object *ops; /* An array for SEND, else NULL; the caller's. */
};

/* 'wait_cfg' is the next_cfg that our own transaction made, or -1 while there was none.  'what' is
 * what the plan is about.  ERR_VIF_PLUG for what cannot be reached. */
typedef struct err *(*ovsplan_fn)(const struct ovscache *, const void *what, int64_t wait_cfg,
                                  struct ovsplan *ret);

/* what: struct ovs_port_spec.  DONE when the switch has the port (ovsdb_ensure_port). */
struct err *ovsplan_ensure_port(const struct ovscache *, const void *what, int64_t wait_cfg,
                                struct ovsplan *ret) MUST_CHECK;
/* what: struct ovs_bridge_spec.  DONE when the database has the bridge. */
struct err *ovsplan_ensure_bridge(const struct ovscache *, const void *what, int64_t wait_cfg,
                                  struct ovsplan *ret) MUST_CHECK;
/* what: struct ovs_socket_spec.  DONE when the interface has the path, or there is none. */
struct err *ovsplan_set_socket(const struct ovscache *, const void *what, int64_t wait_cfg,
                               struct ovsplan *ret) MUST_CHECK;
/* what: the name.  DONE when the database has no such port, or no such bridge. */
struct err *ovsplan_remove_port(const struct ovscache *, const void *what, int64_t wait_cfg,
                                struct ovsplan *ret) MUST_CHECK;
struct err *ovsplan_remove_bridge(const struct ovscache *, const void *what, int64_t wait_cfg,
                                  struct ovsplan *ret) MUST_CHECK;

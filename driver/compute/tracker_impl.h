#pragma once

/* What the two halves of the tracker share: tracker.c keeps the books, tracker_claims.c makes and
 * drops claims.  For nobody else. */

#include "base/sync.h"
#include "driver/compute/node_record.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/host.h"

/* Room that was claimed here and that no record may tell of yet: a move that comes in, until it has
 * arrived or ended, or a server that is being built, until its record says that it is here. */
struct claim {
    struct usage usage;
    char *migration_uuid;
    int64_t migration_id;
    bool is_recorded; /* The migration's record says so: audits can tell when it has ended. */
    bool has_context; /* The server's record has a context of this claim. */
};

struct books {
    struct usage *items;
    size_t n;
};

struct tracker {
    struct node *node;
    struct mutex m; /* Covers all below; never held over I/O. */
    struct cond cond;
    bool is_auditing, has_provider;
    uint64_t n_changes;          /* Of books and claims by others than the audit. */
    struct compute_node *record; /* As it was saved last; NULL before the first audit. */
    struct host_facts facts;
    int64_t over_committed;
    struct books books;   /* Servers and moves that records tell of. */
    struct claim *claims; /* Those of this process that no record may tell of yet. */
    size_t n_claims;
    char *nodename, *node_uuid; /* NULL before the first audit. */
    struct strv retired;        /* Former values of node_uuid. */
    struct strv orphans;        /* Already logged. */
    int64_t last_audit_ms, last_audit_took_ms;
};

void tracker_books_fini(struct books *);
void tracker_books_remove(struct books *, const char *uuid);
struct claim *tracker_find_claim_locked(struct tracker *, const char *uuid);
void tracker_drop_claim_locked(struct tracker *, const char *uuid);
/* Books and claims together, copied: what the host is used for right now. */
struct books tracker_usage_locked(struct tracker *) MUST_CHECK;
/* Writes the usage as it is now into the ComputeNode record; a failure is logged. */
void tracker_save_usage(struct tracker *, const struct rctx *);

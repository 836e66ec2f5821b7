#pragma once

/* Which broker to try next, and when.
 *
 * The order is shuffled once, then gone through round and round (or at random).  Another broker is
 * tried at once; only when all of them failed there is a pause, which grows: rabbit_retry_interval,
 * plus rabbit_retry_backoff each round, up to rabbit_interval_max.  A lone broker that was lost is
 * given kombu_reconnect_delay first.  A connection that did not last counts as one that failed.
 *
 * Source: kombu's Connection.ensure_connection as oslo_messaging/_drivers/impl_rabbit.py sets it
 * up.
 *
 * It does no I/O and reads no clock.  Thread-safety: none of its own; each connection has one. */

#include "rpc/amqp/options.h"

struct failover {
    const struct mq_options *options; /* Borrowed. */
    size_t *order;                    /* Indices of hosts. */
    size_t at;
    size_t n_failed;  /* Hosts in a row that failed in this round. */
    int64_t pause_ms; /* After the next round that fails. */
    int64_t not_before_ms;
    int64_t connected_ms; /* -1: not connected. */
    unsigned seed;
};

void failover_init(struct failover *, const struct mq_options *, unsigned seed);
void failover_fini(struct failover *);
/* The broker to try, at *ret_at_ms or later. */
const struct url_host *failover_host(const struct failover *, int64_t *ret_at_ms);
void failover_connected(struct failover *, int64_t now_ms);
/* The attempt failed, or the connection was lost. */
void failover_failed(struct failover *, int64_t now_ms);

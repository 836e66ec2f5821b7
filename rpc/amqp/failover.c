#include "rpc/amqp/failover.h"

#include <stdlib.h>

#define LASTING_MS 5000 /* A connection that lived shorter did not help. */

static size_t pick(struct failover *f, size_t n)
{
    return (size_t)rand_r(&f->seed) % n;
}

void failover_init(struct failover *f, const struct mq_options *options, unsigned seed)
{
    size_t n = options->url.n_hosts;

    *f = (struct failover){
        .options = options,
        .order = NEW_ARRAY(size_t, n),
        .pause_ms = options->rabbit_retry_interval * 1000,
        .connected_ms = -1,
        .seed = seed,
    };
    for (size_t i = 0; i < n; i++) {
        size_t j = pick(f, i + 1);

        f->order[i] = f->order[j];
        f->order[j] = i;
    }
}

void failover_fini(struct failover *f)
{
    free(f->order);
    f->order = NULL;
}

const struct url_host *failover_host(const struct failover *f, int64_t *ret_at_ms)
{
    *ret_at_ms = f->not_before_ms;
    return &f->options->url.hosts[f->order[f->at]];
}

void failover_connected(struct failover *f, int64_t now_ms)
{
    f->connected_ms = now_ms;
}

/* Whether the connection that is lost now had been a good one; then the count starts afresh. */
static bool was_good(struct failover *f, int64_t now_ms)
{
    bool was = f->connected_ms >= 0 && now_ms - f->connected_ms >= LASTING_MS;

    f->connected_ms = -1;
    if (was) {
        f->n_failed = 0;
        f->pause_ms = f->options->rabbit_retry_interval * 1000;
    }
    return was;
}

void failover_failed(struct failover *f, int64_t now_ms)
{
    const struct mq_options *o = f->options;
    size_t n = o->url.n_hosts;
    bool is_first = was_good(f, now_ms);
    int64_t splay_ms = (int64_t)(o->kombu_reconnect_splay * 1000);

    f->at = str_eq(o->kombu_failover_strategy, "shuffle") ? pick(f, n) : (f->at + 1) % n;
    f->not_before_ms = now_ms;
    if (++f->n_failed < n) {
        return;
    }
    f->n_failed = 0;
    if (is_first) {
        f->not_before_ms += (int64_t)(o->kombu_reconnect_delay * 1000);
    } else {
        f->not_before_ms += f->pause_ms;
        f->pause_ms = MIN(f->pause_ms + o->rabbit_retry_backoff * 1000,
                          MAX(o->rabbit_interval_max * 1000, (int64_t)1000));
    }
    if (splay_ms > 0) {
        f->not_before_ms += (int64_t)pick(f, (size_t)splay_ms);
    }
}

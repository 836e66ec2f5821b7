#include "driver/libvirt/migwatch.h"

#define GIB (UINT64_C(1) << 30)

/* int(seconds * data in GiB), as Nova scales its times. */
static uint64_t scaled_s(const struct migwatch_conf *conf, unsigned seconds)
{
    return (uint64_t)((double)seconds * ((double)conf->data_bytes / (double)GIB));
}

/* In floating point like Nova: the same steps to the millisecond. */
static unsigned ladder_ms(const struct migwatch_conf *conf, unsigned step)
{
    double base = (double)conf->downtime_ms / conf->downtime_steps;
    double offset = ((double)conf->downtime_ms - base) / conf->downtime_steps;

    return (unsigned)(base + offset * step);
}

void migwatch_init(struct migwatch *w, const struct migwatch_conf *conf, int64_t now_ms)
{
    *w = (struct migwatch){.conf = *conf, .start_ms = now_ms, .next_step = 1};
    w->conf.downtime_steps = conf->downtime_steps > 0 ? conf->downtime_steps : 1;
    w->downtime_ms = ladder_ms(&w->conf, 0);
}

/* Climbs to the highest step that is due; whether that changes what is allowed. */
static bool climb(struct migwatch *w, uint64_t elapsed_ms)
{
    uint64_t delay_ms = scaled_s(&w->conf, w->conf.downtime_delay_s) * 1000;
    unsigned old_ms = w->downtime_ms;

    while (w->next_step <= w->conf.downtime_steps && elapsed_ms > delay_ms * w->next_step) {
        w->downtime_ms = ladder_ms(&w->conf, w->next_step++);
    }
    return w->downtime_ms != old_ms;
}

enum migwatch_action migwatch_step(struct migwatch *w, const struct lv_job *job, int64_t now_ms)
{
    uint64_t elapsed_ms = now_ms > w->start_ms ? (uint64_t)(now_ms - w->start_ms) : 0;
    uint64_t timeout_ms = scaled_s(&w->conf, w->conf.completion_timeout_s) * 1000;

    if (job->type != LV_JOB_UNBOUNDED || w->is_postcopy) {
        return MIGWATCH_NONE;
    }
    if (timeout_ms > 0 && elapsed_ms > timeout_ms && !w->has_acted) {
        w->has_acted = true;
        return w->conf.timeout_forces_completion ? migwatch_force(w) : MIGWATCH_ABORT;
    }
    return climb(w, elapsed_ms) ? MIGWATCH_DOWNTIME : MIGWATCH_NONE;
}

enum migwatch_action migwatch_force(const struct migwatch *w)
{
    if (w->is_postcopy) {
        return MIGWATCH_NONE;
    }
    return w->conf.may_postcopy ? MIGWATCH_POSTCOPY : MIGWATCH_PAUSE;
}

#include "driver/compute/usage_audit.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/compute/notify.h"

#include <string.h>
#include <time.h>

#define TASK "instance_usage_audit"

/* ---- The period ---- */

enum unit { HOUR, DAY, MONTH, YEAR, N_UNITS };

static const struct {
    const char *name;
    int64_t first, last; /* Offsets; 0 is the first. */
} units[N_UNITS] = {[HOUR] = {"hour", 0, 59},
                    [DAY] = {"day", 0, 23},
                    [MONTH] = {"month", 1, 31},
                    [YEAR] = {"year", 1, 12}};

static struct err *parse(const char *period, enum unit *ret_unit, int *ret_offset)
{
    size_t len = strcspn(period, "@");
    int64_t offset = 0;

    for (int u = 0; u < N_UNITS; u++) {
        if (strlen(units[u].name) != len || strncmp(units[u].name, period, len) != 0) {
            continue;
        }
        if ((period[len] && !str_to_i64(period + len + 1, &offset)) || offset < 0 ||
            offset > units[u].last) {
            break;
        }
        *ret_unit = (enum unit)u;
        *ret_offset = (int)MAX(offset, units[u].first);
        return NULL;
    }
    return err_msg(ERR_CONFIG, "[DEFAULT]instance_usage_audit_period: '%s' is no period", period);
}

static int days_in(int year, int month)
{
    struct tm last = {.tm_year = year, .tm_mon = month + 1, .tm_mday = 0};
    time_t t = timegm(&last);

    gmtime_r(&t, &last);
    return last.tm_mday;
}

/* The begin of the period that 'now' is in, moved by whole periods.  A day that a month does not
 * have is its last. */
static int64_t boundary(enum unit unit, int offset, const struct tm *now, int moved)
{
    struct tm t = {.tm_year = now->tm_year,
                   .tm_mon = now->tm_mon,
                   .tm_mday = now->tm_mday,
                   .tm_hour = now->tm_hour};

    switch (unit) {
    case HOUR:
        t.tm_hour += moved;
        t.tm_min = offset;
        break;
    case DAY:
        t.tm_mday += moved;
        t.tm_hour = offset;
        break;
    case MONTH:
        t.tm_mon += moved;
        t.tm_mday = MIN(offset, days_in(t.tm_year, t.tm_mon));
        t.tm_hour = 0;
        break;
    case YEAR:
        t.tm_year += moved;
        t.tm_mon = offset - 1;
        t.tm_mday = 1;
        t.tm_hour = 0;
        break;
    case N_UNITS:
        break;
    }
    return (int64_t)timegm(&t);
}

struct err *usage_audit_period(const char *period, int64_t now_s, int64_t *ret_begin_s,
                               int64_t *ret_end_s)
{
    time_t t = (time_t)now_s;
    struct tm now;
    enum unit unit = HOUR;
    int offset = 0, moved;

    TRY(parse(period, &unit, &offset));
    gmtime_r(&t, &now);
    moved = boundary(unit, offset, &now, 0) >= now_s ? -1 : 0;
    *ret_end_s = boundary(unit, offset, &now, moved);
    *ret_begin_s = boundary(unit, offset, &now, moved - 1);
    return NULL;
}

/* ---- The audit ---- */

/* As the arguments of a class method want it. */
static char *argument_time(int64_t s)
{
    CLEANUP(freep) char *text = clock_iso_of(s);

    text[strlen("2026-01-31T00:00:00")] = '\0';
    return str_printf("%s.000000", text);
}

static struct err *is_done(struct node *node, const struct rctx *ctx, int64_t begin_s,
                           int64_t end_s, bool *ret)
{
    CLEANUP(task_log_freep) struct task_log *task = NULL;
    CLEANUP(freep) char *begin = argument_time(begin_s);
    CLEANUP(freep) char *end = argument_time(end_s);

    TRY(task_log_get(node->conductor, ctx, TASK, begin, end, node->host, &task));
    *ret = task;
    return NULL;
}

static struct task_log *new_log(struct node *node, const char *begin, const char *end, size_t n)
{
    struct task_log *task = task_log_new();

    task_log_set_task_name(task, TASK);
    task_log_set_period_beginning(task, begin);
    task_log_set_period_ending(task, end);
    task_log_set_host(task, node->host);
    task_log_set_task_items(task, (int64_t)n);
    task_log_set_message(task, "Instance usage audit started...");
    return task;
}

static struct err *tell(struct node *node, const struct rctx *ctx, int64_t begin_s, int64_t end_s)
{
    static const char *const attrs[] = {"system_metadata", "info_cache", "metadata", "flavor",
                                        NULL};
    CLEANUP(freep) char *begin = clock_iso_of(begin_s);
    CLEANUP(freep) char *end = clock_iso_of(end_s);
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    CLEANUP(task_log_freep) struct task_log *task = NULL;
    int64_t start_ms = clock_ms();

    TRY(instance_list_active_between(node->conductor, ctx, begin, end, node->host, attrs, &list));
    task = new_log(node, begin, end, instance_list_n(list));
    TRY(task_log_begin(node->conductor, ctx, task));
    log_info(LOG_COMPUTE, "telling that %zu servers existed from %s to %s", instance_list_n(list),
             begin, end);
    for (size_t i = 0; i < instance_list_n(list); i++) {
        notify_usage(node, ctx, instance_list_at(list, i), begin_s, end_s);
    }
    CLEANUP(freep)
    char *message =
        str_printf("Instance usage audit ran for host %s, %zu instances in %.3f seconds.",
                   node->host, instance_list_n(list), (double)(clock_ms() - start_ms) / 1000.0);

    task_log_set_errors(task, 0);
    task_log_set_message(task, message);
    return task_log_end(node->conductor, ctx, task);
}

struct err *usage_audit(struct node *node, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    int64_t begin_s, end_s;
    bool done;

    TRY(usage_audit_period(conf->dflt.instance_usage_audit_period, clock_wall_s(), &begin_s,
                           &end_s));
    TRY(is_done(node, ctx, begin_s, end_s, &done));
    return done ? NULL : tell(node, ctx, begin_s, end_s);
}

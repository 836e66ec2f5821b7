#include "base/fault.h"

#include "base/log.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum moment { BEFORE, AFTER, N_MOMENTS };

enum action { ACTION_NONE, ACTION_KILL, ACTION_FAIL, ACTION_SLEEP };

static const struct {
    const char *name;
    enum action action;
    bool has_number, needs_number;
} actions[] = {
    {"kill", ACTION_KILL, false, false},
    {"fail", ACTION_FAIL, true, false},
    {"sleep", ACTION_SLEEP, true, true},
};

struct plan {
    enum action action;
    int64_t seconds;
    atomic_llong n_left; /* How often it still fails. */
};

static const char *const names[FAULT_N] = {
#define FAULT(table, step) #table "." #step,
#include "base/faults.def"
#undef FAULT
};

/* Steps are run below everything that has a node to hang this from. */
static struct plan plans[FAULT_N][N_MOMENTS]; /* Constant once it is armed, but for n_left. */
static atomic_bool is_armed;

const char *fault_name(enum fault f)
{
    return names[f];
}

/* ---- Reading the variable ---- */

static struct plan *plan_of(const char *point)
{
    for (size_t i = 0; i < FAULT_N; i++) {
        size_t len = strlen(names[i]);

        if (str_eq(point, names[i])) {
            return &plans[i][BEFORE];
        }
        if (str_starts(point, names[i]) && str_eq(point + len, ".after")) {
            return &plans[i][AFTER];
        }
    }
    return NULL;
}

static struct err *read_action(const char *text, struct plan *p)
{
    CLEANUP(strv_fini) struct strv parts = strv_split(text, ":");
    int64_t number = INT64_MAX;

    if (parts.n == 0 || parts.n > 2 ||
        (parts.n == 2 && (!str_to_i64(parts.items[1], &number) || number < 0))) {
        return err_msg(ERR_CONFIG, "NOVASHIM_FAULTS: '%s' is no action", text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (!str_eq(parts.items[0], actions[i].name)) {
            continue;
        }
        if (parts.n == 2 ? !actions[i].has_number : actions[i].needs_number) {
            return err_msg(ERR_CONFIG, "NOVASHIM_FAULTS: '%s' has %s number", text,
                           parts.n == 2 ? "a" : "no");
        }
        p->action = actions[i].action;
        p->seconds = number;
        p->n_left = number;
        return NULL;
    }
    return err_msg(ERR_CONFIG, "NOVASHIM_FAULTS: unknown action '%s' (kill, fail[:N], sleep:N)",
                   parts.items[0]);
}

static struct err *read_one(const char *text)
{
    CLEANUP(strv_fini) struct strv sides = strv_split(text, "=");

    if (sides.n != 2) {
        return err_msg(ERR_CONFIG, "NOVASHIM_FAULTS: '%s' is not POINT=ACTION", text);
    }
    struct plan *p = plan_of(sides.items[0]);

    if (!p) {
        return err_msg(ERR_CONFIG, "NOVASHIM_FAULTS: unknown point '%s'", sides.items[0]);
    }
    return read_action(sides.items[1], p);
}

struct err *fault_init(const char *spec)
{
    CLEANUP(strv_fini) struct strv list = {0};

    is_armed = false;
    memset(plans, 0, sizeof(plans));
    if (!spec) {
        return NULL;
    }
    list = strv_split(spec, ",");
    for (size_t i = 0; i < list.n; i++) {
        TRY(read_one(list.items[i]));
    }
    is_armed = list.n > 0;
    return NULL;
}

/* ---- Reaching a point ---- */

static void sleep_for(int64_t seconds)
{
    struct timespec left = {.tv_sec = seconds};

    while (nanosleep(&left, &left) != 0) {
    }
}

static bool takes_one(struct plan *p)
{
    long long n = p->n_left;

    while (n > 0 && !atomic_compare_exchange_weak(&p->n_left, &n, n - 1)) {
    }
    return n > 0;
}

static struct err *reach(enum fault f, enum moment moment)
{
    static const char *const suffixes[] = {[BEFORE] = "", [AFTER] = ".after"};
    struct plan *p = &plans[f][moment];

    switch (p->action) {
    case ACTION_NONE:
        return NULL;
    case ACTION_KILL:
        log_warning(LOG_MAIN, "NOVASHIM_FAULTS: dying at %s%s", names[f], suffixes[moment]);
        kill(getpid(), SIGKILL);
        return NULL;
    case ACTION_FAIL:
        return takes_one(p) ? err_msg(ERR_INTERNAL, "NOVASHIM_FAULTS: failing at %s%s", names[f],
                                      suffixes[moment])
                            : NULL;
    case ACTION_SLEEP:
        log_warning(LOG_MAIN, "NOVASHIM_FAULTS: sleeping at %s%s", names[f], suffixes[moment]);
        sleep_for(p->seconds);
        return NULL;
    }
    return NULL;
}

struct err *fault_before(enum fault f)
{
    return is_armed ? reach(f, BEFORE) : NULL;
}

struct err *fault_after(enum fault f)
{
    return is_armed ? reach(f, AFTER) : NULL;
}

#include "base/step.h"

#include "base/log.h"

static struct err *enter(const struct step_hooks *hooks, enum fault point, void *arg)
{
    if (hooks && cancel_is_set(hooks->cancel)) {
        return err_msg(ERR_CANCELLED, "cancelled before step '%s'", fault_name(point));
    }
    if (hooks && hooks->on_step) {
        TRY(hooks->on_step(fault_name(point), arg));
    }
    return fault_before(point);
}

static struct err *run(const struct step *step, void *arg)
{
    TRY(step->run(arg));
    return fault_after(step->point);
}

static void undo(const struct step *steps, size_t n, void *arg)
{
    while (n-- > 0) {
        if (steps[n].undo) {
            log_debug(LOG_COMPUTE, "undoing step '%s'", fault_name(steps[n].point));
            steps[n].undo(arg);
        }
    }
}

struct err *step_run(const struct step *steps, size_t n, const struct step_hooks *hooks, void *arg)
{
    struct err *e = NULL;
    size_t i;

    for (i = 0; i < n; i++) {
        e = enter(hooks, steps[i].point, arg);
        if (e) {
            break; /* Not begun: nothing of it to undo. */
        }
        e = run(&steps[i], arg);
        if (e) {
            e = err_context(e, "step '%s'", fault_name(steps[i].point));
            i++;
            break;
        }
    }
    if (e) {
        undo(steps, i, arg);
    }
    if (hooks && hooks->on_step) {
        err_ignore(hooks->on_step(NULL, arg), "noting the end of the steps");
    }
    return e;
}

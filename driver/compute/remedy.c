#include "driver/compute/remedy.h"

#include "driver/compute/lifecycle.h"

#define POWER(name) (1u << POWER_##name)
#define ANY_POWER   (~0u)

/* What is true of a server besides its states. */
enum { ALWAYS, IF_SAVED, IF_RESCUE };

/* The first row that fits. */
static const struct {
    const char *task_state; /* A prefix. */
    const char *vm_states;  /* Words; NULL: any. */
    unsigned powers;
    int condition;
    struct remedy remedy;
} rows[] = {
#define ROW(task, vm, power, condition, ...)                                                       \
    {                                                                                              \
        task, vm, power, condition,                                                                \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define SETTLE(state) .kind = REMEDY_SETTLE, .vm_state = state
#define CALL(verb)    .kind = REMEDY_CALL, .method = COMPUTE_##verb
    /* clang-format off */
    ROW("migrating", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_MIGRATE),
    ROW("deleting", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_DELETE),
    ROW("scheduling", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_ERROR, .vm_state = "error"),
    ROW("block_device_mapping", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_ERROR, .vm_state = "error"),
    ROW("networking", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_ERROR, .vm_state = "error"),
    ROW("spawning", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_ERROR, .vm_state = "error"),
    ROW("rebuild", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_ERROR, .vm_state = "error"),
    ROW("image_", NULL, ANY_POWER, ALWAYS, .kind = REMEDY_SNAPSHOT),
    ROW("resize_prep", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("updating_password", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("attaching", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    /* A soft reboot that has got as far as shutting down the guest goes on as a hard one. */
    ROW("reboot_started", "rescued", POWER(RUNNING), ALWAYS, SETTLE(NULL)),
    ROW("reboot_started", NULL, POWER(RUNNING), ALWAYS, SETTLE("active")),
    ROW("reboot_started", NULL, ANY_POWER, ALWAYS, CALL(reboot_instance)),
    ROW("reboot_pending_hard", "active stopped paused suspended", ANY_POWER, ALWAYS,
        CALL(reboot_instance)),
    ROW("rebooting_hard", NULL, ANY_POWER, ALWAYS, CALL(reboot_instance)),
    ROW("reboot_pending_hard", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("reboot_pending", "active", POWER(RUNNING), ALWAYS, CALL(reboot_instance), .is_soft = true),
    ROW("reboot_pending", "active", ANY_POWER, ALWAYS, CALL(reboot_instance)),
    ROW("reboot_pending", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("rebooting", NULL, POWER(RUNNING), ALWAYS, CALL(reboot_instance), .is_soft = true),
    ROW("rebooting", NULL, ANY_POWER, ALWAYS, CALL(reboot_instance)),
    ROW("powering-off", NULL, ANY_POWER, ALWAYS, CALL(stop_instance)),
    ROW("powering-on", NULL, ANY_POWER, ALWAYS, CALL(start_instance)),
    ROW("pausing", NULL, POWER(RUNNING), ALWAYS, SETTLE("active")),
    ROW("pausing", NULL, POWER(PAUSED), ALWAYS, SETTLE("paused")),
    ROW("pausing", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("unpausing", NULL, POWER(RUNNING), ALWAYS, SETTLE("active")),
    ROW("unpausing", NULL, POWER(PAUSED), ALWAYS, CALL(unpause_instance)),
    ROW("unpausing", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("suspending", NULL, POWER(SHUTDOWN), IF_SAVED, SETTLE("suspended")),
    ROW("suspending", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("resuming", NULL, POWER(RUNNING), ALWAYS, SETTLE("active")),
    ROW("resuming", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    /* What it was before is what ends a rescue: as long as that is kept, one can. */
    ROW("rescuing", NULL, ANY_POWER, IF_RESCUE, SETTLE("rescued")),
    ROW("rescuing", NULL, ANY_POWER, ALWAYS, SETTLE(NULL)),
    ROW("unrescuing", NULL, ANY_POWER, IF_RESCUE, SETTLE("rescued")),
    ROW("unrescuing", NULL, ANY_POWER, ALWAYS, SETTLE("active")),
    ROW("soft-deleting", NULL, ANY_POWER, ALWAYS, CALL(soft_delete_instance)),
    ROW("restoring", NULL, ANY_POWER, ALWAYS, CALL(restore_instance)),
/* clang-format on */
#undef ROW
#undef SETTLE
#undef CALL
};

static bool has_word(const char *words, const char *word)
{
    CLEANUP(strv_fini) struct strv list = strv_split(words, " ");

    return word && strv_has(&list, word);
}

static struct remedy remedy_of_task(const struct remedy_view *v)
{
    const bool conditions[] = {
        [ALWAYS] = true, [IF_SAVED] = v->has_save, [IF_RESCUE] = v->has_rescue};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (str_starts(v->task_state, rows[i].task_state) && rows[i].powers & 1u << v->power &&
            conditions[rows[i].condition] &&
            (!rows[i].vm_states || has_word(rows[i].vm_states, v->vm_state))) {
            return rows[i].remedy;
        }
    }
    return (struct remedy){.kind = REMEDY_LEAVE};
}

struct remedy remedy_for(const struct remedy_view *v)
{
    bool is_deleting = str_eq(v->task_state, "deleting");

    if (str_eq(v->vm_state, "soft-delete") && !str_eq(v->task_state, "restoring") && !is_deleting) {
        return (struct remedy){.kind = REMEDY_SKIP};
    }
    if (str_eq(v->vm_state, "error") && !is_deleting) {
        return (struct remedy){.kind = REMEDY_SKIP};
    }
    if (str_eq(v->vm_state, "deleted")) {
        return (struct remedy){.kind = REMEDY_DELETE};
    }
    if (str_eq(v->vm_state, "building") && !is_deleting) {
        return (struct remedy){.kind = REMEDY_ERROR, .vm_state = "error"};
    }
    if (!v->task_state) {
        return (struct remedy){.kind = REMEDY_NONE};
    }
    return remedy_of_task(v);
}

#pragma once

/* Power states of servers: on, off, paused, on disk; and what a verb does when its guest fails.
 *
 * The handlers (start, stop, reboot, pause, unpause, suspend, resume, soft_delete, restore) are
 * declared in handlers.h; here is what others call in their place.  A function that changes a
 * server expects the task state that the API sets for it, and leaves none.
 *
 * Waits end with ERR_CANCELLED when the service stops; the record is left as it is then, and the
 * next start goes on (recovery.h).
 *
 * Source: nova/compute/manager.py stop_instance, _power_on, _reboot_instance, suspend_instance,
 * resume_instance, _error_out_instance_on_exception; nova/virt/libvirt/driver.py power_off, reboot,
 * suspend, resume.
 *
 * Thread-safety: from any thread; the calls for one server are ordered by its strand. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "driver/libvirt/guest.h"
#include "rpc/objects/objects.h"

struct guest_env power_env(struct node *);

/* The guest alone is off afterwards; clean: it is asked first, for as long as its image's
 * os_shutdown_timeout or shutdown_timeout says. */
struct err *power_off_guest(struct node *, struct instance *, bool is_clean) MUST_CHECK;
/* Stops a server in task "powering-off". */
struct err *power_stop(struct node *, const struct rctx *, struct instance *, bool is_clean)
    MUST_CHECK;
/* A hard reboot of a server whose task state says so. */
struct err *power_hard_reboot(struct node *, const struct rctx *, struct instance *) MUST_CHECK;

/* The guest's power state into the record, which is not saved; none without a guest. */
struct err *power_look(struct node *, struct instance *) MUST_CHECK;
/* vm_state "error", saved; the task state stays (the caller's wrapper ends it). */
void power_set_error(struct node *, const struct rctx *, struct instance *);
/* Passes 'e' on: after an error that is not only a refusal the server is in vm_state "error". */
struct err *power_or_error(struct node *, const struct rctx *, struct instance *, struct err *e)
    MUST_CHECK;

#pragma once

/* What is done with a guest: start, stop, devices.  lv.h are single calls of libvirt; here is how
 * they are put together, with waits that libvirt's events end (lvwatch.h), not by polling.
 *
 * Source: nova/virt/libvirt/guest.py, driver.py (_create_guest, _destroy, _clean_shutdown,
 * _soft_reboot, suspend, resume, _detach_with_retry).
 *
 * Thread-safety: from any thread; the calls for one guest are ordered by its strand. */

#include "base/err.h"
#include "base/str.h"
#include "base/sync.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/lvwatch.h"

struct guest_env {
    struct lv_conn *lv;
    struct lvwatch *watch;
    struct cancel *stop; /* The service stops: waits end with ERR_CANCELLED.  May be NULL. */
};

/* Defines and starts; paused if asked.  A definition that does not start is undefined again if it
 * was not there before. */
struct err *guest_start(const struct guest_env *, const char *xml, bool is_paused,
                        struct lv_domain **ret) MUST_CHECK;
/* Destroys (at once) and waits until libvirt says it is off; not running or not there is no
 * error.  A QEMU that does not die: tried 3 times, then ERR_INSTANCE_POWER_OFF. */
struct err *guest_power_off(const struct guest_env *, const char *uuid) MUST_CHECK;
/* Asks the guest to shut down, again every 'retry_s' seconds, and waits.  *ret_is_off false: it did
 * not within 'timeout_s'. */
struct err *guest_shutdown(const struct guest_env *, const char *uuid, int64_t timeout_s,
                           int64_t retry_s, bool *ret_is_off) MUST_CHECK;
/* The guest shuts down by itself and starts again as it is.  *ret_has_rebooted false: it does not
 * run, or did not shut down within 'timeout_s'. */
struct err *guest_soft_reboot(const struct guest_env *, const char *uuid, int64_t timeout_s,
                              bool *ret_has_rebooted) MUST_CHECK;
/* Removes the definition (with nvram and managed save); not there is no error. */
struct err *guest_undefine(const struct guest_env *, const char *uuid) MUST_CHECK;

/* To disk (managed save), without the host's devices that it had, which its definition keeps. */
struct err *guest_suspend(const struct guest_env *, const char *uuid, int64_t detach_timeout_s)
    MUST_CHECK;
/* Goes on from the managed save, and gets its devices back.  *ret_was_saved false: there was none,
 * and nothing was done. */
struct err *guest_resume_saved(const struct guest_env *, const char *uuid, bool *ret_was_saved)
    MUST_CHECK;
/* Sets the guest's clock if it has an agent that can. */
void guest_sync_time(const struct guest_env *, const char *uuid);

/* Device XML into the running guest (if it runs) and its definition. */
struct err *guest_attach_device(const struct guest_env *, const char *uuid, const char *xml)
    MUST_CHECK;
/* Out of both; waits for the guest to let go, one deadline (device_detach_timeout *
 * device_detach_attempts).  A device is told by its MAC, target or address; 'alias' NULL: looked
 * up.  Not there is no error.  ERR_DEVICE_DETACH_FAILED: the guest keeps it, and so does the
 * definition. */
struct err *guest_detach_device(const struct guest_env *, const char *uuid, const char *xml,
                                const char *alias, int64_t timeout_s) MUST_CHECK;

#pragma once

/* What a guest writes on its console, and addresses at which users open its consoles.
 *
 * A token is stored by conductor and checked by Nova's proxies, which ask validate_console_port
 * whether the console is still where it was.
 *
 * Differences from Nova: a pty is never read, since libvirt writes its log, so the log of a server
 * that does not run can be read as well; a graphic console without a port (the guest does not run)
 * is ERR_CONSOLE_TYPE_UNAVAILABLE instead of an address that leads nowhere.
 *
 * Source: nova/compute/manager.py get_console_output, get_*_console, validate_console_port;
 * nova/virt/libvirt/driver.py; nova/objects/console_auth_token.py access_url.
 *
 * Thread-safety: pure, but for console_read_log, which reads files. */

#include "base/err.h"
#include "driver/libvirt/guest_xml.h"

#include <stdbool.h>

/* The file with a guest's output: of the first console of a file, a TCP port or a pty, whichever
 * comes first in this order.  'dflt' is for a pty without a log.  NULL: it has no console. */
const char *console_log_path(const struct guest_info *, const char *dflt);
/* The last 100 KiB of a log and of what was rotated (PATH.0 is older than PATH, PATH.1 older than
 * that); "" if there is none. */
struct err *console_read_log(const char *path, struct strbuf *ret) MUST_CHECK;
/* The last 'n_lines' (negative: all but the first ones; 0: nothing) of a text; begins in 'text'. */
const char *console_tail(const char *text, size_t len, int64_t n_lines);
/* JSON string of bytes: whatever is not ASCII is U+FFFD. */
struct json_object *console_text(const char *bytes, size_t len) MUST_CHECK;

struct console {
    const char *host; /* Borrowed from the guest (serial), or from who asks. */
    const char *port, *tls_port;
};
/* "novnc", "spice-html5", "serial"; others are VNC (as in validate_console_port).
 * ERR_CONSOLE_TYPE_UNAVAILABLE. */
struct err *console_find(const struct guest_info *, const char *type, struct console *ret)
    MUST_CHECK;
/* Where a user opens it. */
char *console_access_url(const char *base, const char *type, const char *token) MUST_CHECK;

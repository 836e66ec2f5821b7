#pragma once

/* The control socket: what novashimctl asks, answered from the registries.
 *
 * One request a connection: a line of JSON {"command": ..., ...} in, a JSON value and a newline
 * out. Unix socket, mode 0600, owned by the service's user; requests are bounded to 4 KiB.
 *
 * Thread-safety: on the reactor's thread; answers come from short critical sections only. */

#include "base/err.h"
#include "driver/compute/node.h"

struct control;

struct err *control_open(struct node *, const char *path, struct control **ret) MUST_CHECK;
struct control *control_close(struct control *);

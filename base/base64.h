#pragma once

/* Base64 (RFC 4648, the standard alphabet), as Python's base64 module reads and writes it: reading
 * leaves out what is no digit, line ends included.
 *
 * Thread-safety: no shared state. */

#include "base/err.h"

#include <stddef.h>

/* One line without an end; the caller's. */
char *base64_encode(const void *data, size_t len) MUST_CHECK;
/* The bytes, with a NUL after them that does not count.  ERR_PARSE for padding that is not right.
 */
struct err *base64_decode(const char *text, char **ret, size_t *ret_len) MUST_CHECK;

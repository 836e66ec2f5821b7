#pragma once

/* Time and unique names.
 *
 * Thread-safety: no shared state. */

#include "base/mem.h"

#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: for deadlines and durations. */
int64_t clock_ms(void);
/* Microseconds since the epoch: for what other programs read. */
int64_t clock_wall_us(void);
int64_t clock_wall_s(void);
/* "YYYY-MM-DDTHH:MM:SSZ" of now, as versioned objects want it. */
char *clock_iso_utc(void) MUST_CHECK;
/* "YYYY-MM-DDTHH:MM:SS.ffffff" without a zone, as plain RPC arguments want it. */
char *clock_iso_utc_us(void) MUST_CHECK;
/* The same form without fractions of a second from seconds since the epoch, and back: fractions are
 * cut off, a zone other than "Z", "+00:00" or none is not understood. */
char *clock_iso_of(int64_t s) MUST_CHECK;
_Bool clock_iso_parse(const char *text, int64_t *ret_s);
/* Whether more than 'age_s' seconds have passed since then; not if 'text' is NULL or no time. */
_Bool clock_iso_is_older(const char *text, int64_t age_s, int64_t now_s);

#define UUID_LEN 36
/* A random UUID, lower case with dashes. */
void uuid_new(char ret[UUID_LEN + 1]);
/* The same as 32 hexadecimal digits. */
void uuid_new_hex(char ret[33]);
/* Whether s looks like a UUID with dashes. */
_Bool uuid_is_valid(const char *s);

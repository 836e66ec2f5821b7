#pragma once

/* Logging.
 *
 * One line a message, to a file or to stderr, in the format of the services around us:
 *
 *   2026-01-31 12:00:00.123 4711 INFO novashim.migrate [req-… user project] [instance: …] text
 *
 * The request id and the instance come from the thread's context.  A message is one write(2), so
 * threads and processes do not mix lines.  'info' tells the operator's story, 'debug' tells ours.
 *
 * Thread-safety: everything may be called from any thread; log_open and log_reopen swap the file
 * under a lock. */

#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_area {
#define LOG_AREA(area, name) LOG_##area,
#include "base/log_areas.def"
#undef LOG_AREA
    LOG_N_AREAS
};

struct log_conf {
    const char *file;     /* NULL: stderr. */
    enum log_level level; /* Of every area that has no level of its own. */
    bool has_date;        /* False under systemd, where the journal has it. */
};

/* Opens the log; until then messages go to stderr.  May be called again (SIGHUP): the old file
 * stays if the new one cannot be opened. */
struct err *log_open(const struct log_conf *) MUST_CHECK;
/* Opens the same file again, after a rotation. */
void log_reopen(void);
void log_set_level(enum log_area, enum log_level);
bool log_is_on(enum log_area, enum log_level);

void log_write(enum log_area, enum log_level, const char *fmt, ...) PRINTF(3, 4);

#define log_at(area, level, ...)                                                                   \
    do {                                                                                           \
        if (log_is_on((area), (level))) {                                                          \
            log_write((area), (level), __VA_ARGS__);                                               \
        }                                                                                          \
    } while (0)
#define log_error(area, ...)   log_at((area), LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(area, ...) log_at((area), LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(area, ...)    log_at((area), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(area, ...)   log_at((area), LOG_LEVEL_DEBUG, __VA_ARGS__)

/* What a peer can trigger at will: at most one line every 'seconds' from this place in the code;
 * the next one that passes says how many were left out. */
struct log_limit {
    long long next_ms;
    unsigned n_dropped;
};
bool log_limit_pass(struct log_limit *, unsigned seconds, unsigned *ret_dropped);
#define log_warning_limited(area, ...)                                                             \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        unsigned dropped_;                                                                         \
        if (log_limit_pass(&limit_, 10, &dropped_)) {                                              \
            log_warning(area, __VA_ARGS__);                                                        \
            if (dropped_) {                                                                        \
                log_warning(area, "... and %u more like it in the last 10 s", dropped_);           \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* The calling thread's context, copied; NULL clears.  'request' is what stands in the first
 * bracket, "req-… user project". */
void log_context_set(const char *request, const char *instance_uuid);
/* Sets only the instance; NULL clears it. */
void log_context_instance(const char *instance_uuid);

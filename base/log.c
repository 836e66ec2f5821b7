#include "base/log.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINE    (64 * 1024) /* Longer messages are cut: a peer does not fill the disk by one. */
#define LEVEL_UNSET (-1)

static const char *const area_names[] = {
#define LOG_AREA(area, name) [LOG_##area] = name,
#include "base/log_areas.def"
#undef LOG_AREA
};

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "ERROR",
    [LOG_LEVEL_WARNING] = "WARNING",
    [LOG_LEVEL_INFO] = "INFO",
    [LOG_LEVEL_DEBUG] = "DEBUG",
};

static atomic_int default_level = LOG_LEVEL_INFO;
static atomic_int area_levels[LOG_N_AREAS] = {
#define LOG_AREA(area, name) [LOG_##area] = LEVEL_UNSET,
#include "base/log_areas.def"
#undef LOG_AREA
};
static atomic_bool has_date = true;
/* Given out once and never closed: another file is put under the same number, so that writers need
 * no lock. */
static atomic_int log_fd = STDERR_FILENO;

static struct mutex m = MUTEX_INIT;
static char *file_path GUARDED_BY(m);

static _Thread_local struct {
    char request[192];
    char instance[64];
} context;

static struct err *open_file_locked(const char *path) REQUIRES(m)
{
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640)
                  : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    int old = atomic_load(&log_fd);

    if (fd < 0) {
        return err_errno(errno, "opening log file '%s'", path ? path : "stderr");
    }
    if (old == STDERR_FILENO) {
        atomic_store(&log_fd, fd);
        return NULL;
    }
    if (dup3(fd, old, O_CLOEXEC) < 0) {
        int errnum = errno;

        close(fd);
        return err_errno(errnum, "switching to log file '%s'", path ? path : "stderr");
    }
    close(fd);
    return NULL;
}

struct err *log_open(const struct log_conf *conf)
{
    struct err *e;

    mutex_lock(&m);
    e = open_file_locked(conf->file);
    if (!e) {
        str_set(&file_path, conf->file);
        atomic_store(&has_date, conf->has_date);
        atomic_store(&default_level, (int)conf->level);
    }
    mutex_unlock(&m);
    return e;
}

void log_reopen(void)
{
    struct err *e = NULL;

    mutex_lock(&m);
    if (file_path) {
        e = open_file_locked(file_path);
    }
    mutex_unlock(&m);
    err_ignore(e, "reopening the log, staying with the old file");
}

void log_set_level(enum log_area area, enum log_level level)
{
    atomic_store_explicit(&area_levels[area], (int)level, memory_order_relaxed);
}

bool log_is_on(enum log_area area, enum log_level level)
{
    int limit = atomic_load_explicit(&area_levels[area], memory_order_relaxed);

    if (limit == LEVEL_UNSET) {
        limit = atomic_load_explicit(&default_level, memory_order_relaxed);
    }
    return (int)level <= limit;
}

static void add_date(struct strbuf *line)
{
    int64_t us = clock_wall_us();
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    char s[32];

    localtime_r(&t, &tm);
    strftime(s, sizeof s, "%Y-%m-%d %H:%M:%S", &tm);
    strbuf_addf(line, "%s.%03d ", s, (int)(us / 1000 % 1000));
}

/* Text from anywhere: a peer must not be able to forge lines or to drive a terminal. */
static void add_escaped(struct strbuf *line, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (line->len >= MAX_LINE) {
            strbuf_add(line, "...");
            return;
        }
        if (c == '\n') {
            strbuf_add(line, "\\n");
        } else if (c < 0x20 || c == 0x7f) {
            strbuf_addf(line, "\\x%02x", c);
        } else {
            strbuf_addc(line, (char)c);
        }
    }
}

static void write_line(const struct strbuf *line)
{
    ssize_t n;

    do {
        n = write(atomic_load(&log_fd), line->s, line->len);
    } while (n < 0 && errno == EINTR); /* There is nowhere to report any other failure. */
}

void log_write(enum log_area area, enum log_level level, const char *fmt, ...)
{
    CLEANUP(strbuf_fini) struct strbuf line = {0};
    CLEANUP(freep) char *text = NULL;
    int saved_errno = errno;
    va_list ap;

    va_start(ap, fmt);
    text = str_vprintf(fmt, ap);
    va_end(ap);
    if (atomic_load(&has_date)) {
        add_date(&line);
    }
    strbuf_addf(&line, "%d %s %s [", (int)getpid(), level_names[level], area_names[area]);
    add_escaped(&line, *context.request ? context.request : "-");
    strbuf_add(&line, "] ");
    if (*context.instance) {
        strbuf_add(&line, "[instance: ");
        add_escaped(&line, context.instance);
        strbuf_add(&line, "] ");
    }
    add_escaped(&line, text);
    strbuf_addc(&line, '\n');
    write_line(&line);
    errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit, unsigned seconds, unsigned *ret_dropped)
{
    long long now = clock_ms(), next = __atomic_load_n(&limit->next_ms, __ATOMIC_RELAXED);

    if (now < next ||
        !__atomic_compare_exchange_n(&limit->next_ms, &next, now + 1000LL * seconds, /* weak= */ 0,
                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        __atomic_add_fetch(&limit->n_dropped, 1, __ATOMIC_RELAXED);
        return false;
    }
    *ret_dropped = __atomic_exchange_n(&limit->n_dropped, 0, __ATOMIC_RELAXED);
    return true;
}

void log_context_set(const char *request, const char *instance_uuid)
{
    snprintf(context.request, sizeof context.request, "%s", request ? request : "");
    log_context_instance(instance_uuid);
}

void log_context_instance(const char *instance_uuid)
{
    snprintf(context.instance, sizeof context.instance, "%s", instance_uuid ? instance_uuid : "");
}

#include "base/clock.h"

#include "base/str.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

int64_t clock_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_wall_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_wall_s(void)
{
    return clock_wall_us() / 1000000;
}

static void seconds_text(int64_t wall_us, char ret[32])
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    size_t len;

    gmtime_r(&t, &tm);
    len = strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    assert(len > 0);
}

char *clock_iso_utc(void)
{
    char s[32];

    seconds_text(clock_wall_us(), s);
    return str_printf("%sZ", s);
}

char *clock_iso_utc_us(void)
{
    int64_t us = clock_wall_us();
    char s[32];

    seconds_text(us, s);
    return str_printf("%s.%06d", s, (int)(us % 1000000));
}

char *clock_iso_of(int64_t s)
{
    char text[32];

    seconds_text(s * 1000000, text);
    return str_printf("%sZ", text);
}

bool clock_iso_parse(const char *text, int64_t *ret_s)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (rest && *rest == '.') {
        rest++;
        rest += strspn(rest, "0123456789");
    }
    if (!rest || !(str_eq(rest, "") || str_eq(rest, "Z") || str_eq(rest, "+00:00"))) {
        return false;
    }
    *ret_s = (int64_t)timegm(&tm);
    return true;
}

bool clock_iso_is_older(const char *text, int64_t age_s, int64_t now_s)
{
    int64_t then;

    return text && clock_iso_parse(text, &then) && now_s - then > age_s;
}

/* The 32 digits of a random UUID: version 4, variant of RFC 4122. */
void uuid_new_hex(char ret[33])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[16];

    /* So few bytes are never cut short, and fail only where the system call does not exist. */
    while (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) {
    }
    raw[6] = (unsigned char)((raw[6] & 0x0f) | 0x40);
    raw[8] = (unsigned char)((raw[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof raw; i++) {
        ret[2 * i] = digits[raw[i] >> 4];
        ret[2 * i + 1] = digits[raw[i] & 15];
    }
    ret[32] = '\0';
}

static bool is_dash_at(size_t i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

void uuid_new(char ret[UUID_LEN + 1])
{
    char hex[33];

    uuid_new_hex(hex);
    for (size_t i = 0, from = 0; i < UUID_LEN; i++) {
        ret[i] = is_dash_at(i) ? '-' : hex[from++];
    }
    ret[UUID_LEN] = '\0';
}

bool uuid_is_valid(const char *s)
{
    if (!s || strlen(s) != UUID_LEN) {
        return false;
    }
    for (size_t i = 0; i < UUID_LEN; i++) {
        if (is_dash_at(i) ? s[i] != '-' : !strchr("0123456789abcdefABCDEF", s[i])) {
            return false;
        }
    }
    return true;
}

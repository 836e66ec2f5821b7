#include "base/ini.h"

#include <stdlib.h>
#include <string.h>

/* A file that is something else altogether is not worth more. */
#define MAX_PROBLEMS 20

/* Length of the UTF-8 sequence at s, which has 'len' bytes left; 0 if it is none. */
static size_t utf8_len(const unsigned char *s, size_t len)
{
    size_t n = *s < 0x80 ? 1 : *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0;

    if (n == 0 || n > len) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Overlong forms, surrogates, and what is beyond Unicode. */
    if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
        (*s == 0xf4 && s[1] > 0x8f)) {
        return 0;
    }
    return n;
}

/* Length of the white space character at s, or 0. */
static size_t space_len(const char *s)
{
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };

    if (*s == ' ' || (*s >= '\t' && *s <= '\r') || (*s >= 0x1c && *s <= 0x1f)) {
        return 1;
    }
    for (size_t i = 0; (unsigned char)*s >= 0xc2 && i < ARRAY_SIZE(wide); i++) {
        if (str_starts(s, wide[i])) {
            return strlen(wide[i]);
        }
    }
    return 0;
}

static void strip_end(char *s)
{
    size_t len = strlen(s);

    while (len > 0) {
        size_t at = len - 1;

        while (at > 0 && len - at < 3 && ((unsigned char)s[at] & 0xc0) == 0x80) {
            at--;
        }
        if (space_len(s + at) != len - at) {
            break;
        }
        len = at;
        s[len] = '\0';
    }
}

static char *strip_start(char *s)
{
    size_t n;

    while ((n = space_len(s)) > 0) {
        s += n;
    }
    return s;
}

char *ini_strip(char *s)
{
    strip_end(s);
    return strip_start(s);
}

/* The parser: an entry is open while lines may continue it. */
struct parser {
    const char *file;
    unsigned line;
    char *section;       /* NULL before the first one. */
    char *key;           /* Of the open entry, or NULL. */
    struct strbuf value; /* Of the open entry. */
    unsigned key_line;
    struct ini *ini;
    struct strv *problems;
    size_t n_problems;
};

static void problem(struct parser *p, const char *text)
{
    if (p->n_problems++ < MAX_PROBLEMS) {
        strv_add_take(p->problems, str_printf("%s:%u: %s", p->file, p->line, text));
    }
}

static void close_entry(struct parser *p)
{
    struct ini *ini = p->ini;

    if (!p->key) {
        return;
    }
    if (ini->n == ini->cap) {
        ini->cap = ini->cap ? 2 * ini->cap : 64;
        ini->items = mem_realloc(ini->items, ini->cap, sizeof(*ini->items));
    }
    ini->items[ini->n++] = (struct ini_entry){
        .section = str_dup(p->section),
        .key = TAKE(p->key),
        .value = strbuf_take(&p->value),
        .line = p->key_line,
    };
}

static void read_section(struct parser *p, char *line, size_t len)
{
    if (line[len - 1] != ']') {
        problem(p, "a section must end with ']', and nothing may follow it");
    } else if (len <= 2) {
        problem(p, "a section has no name");
    } else {
        line[len - 1] = '\0';
        str_set(&p->section, line + 1);
    }
}

static void open_entry(struct parser *p, char *line)
{
    char *sep = strpbrk(line, ":=");
    char *key, *value;
    size_t len;

    if (!sep) {
        problem(p, "neither a section nor a comment, and no '=' or ':'");
        return;
    }
    *sep = '\0';
    key = ini_strip(line);
    value = ini_strip(sep + 1);
    len = strlen(value);
    if (!*key) {
        problem(p, "there is no name before the '=' or ':'");
        return;
    }
    if (!p->section) {
        problem(p, "a section must come before the first option");
        return;
    }
    if (len > 0 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
        value[len - 1] = '\0';
        value += len > 1;
    }
    p->key = str_dup(key);
    p->key_line = p->line;
    strbuf_add(&p->value, value);
}

static void read_line(struct parser *p, char *line)
{
    strip_end(line);
    if (!*line) {
        close_entry(p);
    } else if (*line == ' ' || *line == '\t') {
        if (p->key) {
            strbuf_addc(&p->value, '\n');
            strbuf_add(&p->value, strip_start(line));
        } else {
            problem(p, "an indented line continues nothing");
        }
    } else {
        close_entry(p);
        if (*line == '[') {
            read_section(p, line, strlen(line));
        } else if (*line != '#' && *line != ';') {
            open_entry(p, line);
        }
    }
}

/* Whether all of the line is text. */
static bool is_text(struct parser *p, const char *line, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_len((const unsigned char *)line + i, len - i);
        if (n == 0 || line[i] == '\0') {
            problem(p, n == 0 ? "this is not UTF-8" : "there is a NUL byte");
            return false;
        }
    }
    return true;
}

void ini_parse(const char *text, size_t len, const char *file, struct ini *ret,
               struct strv *ret_problems)
{
    struct parser p = {.file = file, .ini = ret, .problems = ret_problems};

    /* A line ends with "\n", "\r\n" or "\r". */
    for (size_t at = 0, end; at < len; at = end + 1) {
        end = at;
        while (end < len && text[end] != '\n' && text[end] != '\r') {
            end++;
        }
        p.line++;
        if (!is_text(&p, text + at, end - at)) {
            break;
        }
        CLEANUP(freep) char *line = str_ndup(text + at, end - at);

        read_line(&p, line);
        end += end + 1 < len && text[end] == '\r' && text[end + 1] == '\n';
    }
    close_entry(&p);
    if (p.n_problems > MAX_PROBLEMS) {
        strv_add_take(ret_problems,
                      str_printf("%s: and %zu more", file, p.n_problems - MAX_PROBLEMS));
    }
    free(p.section);
    free(p.key);
    strbuf_fini(&p.value);
}

void ini_fini(struct ini *ini)
{
    for (size_t i = 0; i < ini->n; i++) {
        free(ini->items[i].section);
        free(ini->items[i].key);
        free(ini->items[i].value);
    }
    free(ini->items);
    *ini = (struct ini){0};
}

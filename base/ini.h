#pragma once

/* Files in the format of oslo.config: sections, 'key = value' or 'key: value', continuation lines,
 * comments, quotes around a whole value, repeated keys.
 *
 * A value that is continued on indented lines is their texts joined by newlines.  Nothing is
 * converted or substituted here.  Every line that is wrong is told, not only the first.
 *
 * White space is Python's, so it includes the spaces of Unicode.
 *
 * Source: oslo_config/iniparser.py and cfg.py (ConfigParser).
 *
 * Thread-safety: none of its own. */

#include "base/str.h"

struct ini_entry {
    char *section; /* As it is written. */
    char *key;
    char *value;
    unsigned line; /* Of the key. */
};

/* In the order of the file; all zero is an empty one. */
struct ini {
    struct ini_entry *items;
    size_t n;
    size_t cap;
};

/* Adds what the text says to 'ret', and "FILE:LINE: ..." for what is wrong to 'ret_problems'. */
void ini_parse(const char *text, size_t len, const char *file, struct ini *ret,
               struct strv *ret_problems);
void ini_fini(struct ini *);

/* Strips white space at both ends as Python's str.strip does, in place; returns the new start. */
char *ini_strip(char *s);

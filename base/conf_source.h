#pragma once

/* Where options come from: the command line, the environment and files, in oslo.config's order.
 *
 * Of the files the later one wins, a repeated option adds up over all of them.  The environment
 * (OS_<GROUP>__<OPTION>) beats files.  An option of the command line beats both, unless a file that
 * stands behind it on the command line has the option too: then the file wins.
 *
 * Source: oslo_config/cfg.py (_Namespace, ConfigOpts._do_get, find_config_files) and
 * sources/_environment.py.
 *
 * Thread-safety: none of its own. */

#include "base/conf_table.h"
#include "base/ini.h"

struct conf_file {
    char *path;
    struct ini ini;
};

/* An option that was given on the command line. */
struct conf_arg {
    const struct conf_opt *opt;
    char *value;
    size_t n_before; /* Files read before it. */
};

/* All zero: nothing given, and the environment is left out. */
struct conf_sources {
    bool reads_env;
    enum conf_action action;
    struct conf_file *files;
    size_t n_files;
    struct conf_arg *args;
    size_t n_args;
};

/* Reads the command line and the files that it names or that are read by default.  Problems are
 * added to ret_problems, one a line. */
void conf_sources_read(struct conf_sources *ret, int argc, char **argv, struct strv *ret_problems);
/* Adds the text of a file. */
void conf_sources_add_text(struct conf_sources *, const char *path, const char *text, size_t len,
                           struct strv *ret_problems);
void conf_sources_fini(struct conf_sources *);

/* What was found for an option; all zero is nothing. */
struct conf_raw {
    struct strv values; /* Of a repeated option all, else the one that counts. */
    char *where;        /* "FILE:LINE", for messages; NULL if there is no value. */
};

/* 'group' is where to look: the option's group unless auth_section says otherwise. */
void conf_sources_find(const struct conf_sources *, const struct conf_opt *, const char *group,
                       struct conf_raw *ret);
void conf_raw_fini(struct conf_raw *);

/* The name of a group as it is compared: in lower case, apart from DEFAULT. */
char *conf_group_key(const char *group) MUST_CHECK;

#pragma once

/* The table of options as data, for those who walk over it: the loader, the checks, the generator
 * of the sample file and the manual page.  For everybody else there is base/conf.h.
 *
 * Thread-safety: immutable. */

#include "base/conf.h"

#include <stddef.h>

enum conf_type {
    CONF_TYPE_BOOL,
    CONF_TYPE_INT,
    CONF_TYPE_FLOAT,
    CONF_TYPE_STR,
    CONF_TYPE_LIST,  /* Values separated by commas. */
    CONF_TYPE_MULTI, /* An option that is repeated. */
    CONF_TYPE_DICTS, /* A repeated option whose values are KEY:VALUE, separated by commas. */
    CONF_TYPE_DICT,  /* Only of options that are not ours. */
};

enum conf_flags {
    CONF_SECRET = 1 << 0,    /* Printed as ***. */
    CONF_MUTABLE = 1 << 1,   /* Follows a reload. */
    CONF_COMPUTED = 1 << 2,  /* The default is found out at start. */
    CONF_CLI = 1 << 3,       /* Also an option of the command line. */
    CONF_AUTH = 1 << 4,      /* Read from the group that auth_section names. */
    CONF_IGNORED = 1 << 5,   /* Accepted, without effect; the help says why. */
    CONF_ELSEWHERE = 1 << 6, /* Of other services than compute. */
};

/* What a string must look like. */
enum conf_form {
    CONF_FORM_ANY,
    CONF_FORM_HOST_ADDRESS, /* An IP address or a host name. */
    CONF_FORM_HOST_DOMAIN,  /* The same, with '_' in names. */
    CONF_FORM_URI,
};

struct conf_name {
    const char *group; /* NULL: the group of the option itself. */
    const char *name;
};

struct conf_opt {
    const char *group;
    const char *name;
    enum conf_type type;
    const char *def; /* As text; NULL if unset. */
    unsigned flags;
    enum conf_form form;
    bool ignores_case;          /* Of choices. */
    const double *min, *max;    /* NULL: no limit. */
    const char *const *choices; /* NULL: no limit; ends with NULL. */
    const char *regex;
    const struct conf_name *old; /* Older names; NULL, or ends with a name of NULL. */
    const char *help;
    size_t offset; /* In struct conf. */
};

struct conf_group_info {
    const char *name;
    const char *help;
};

/* Ours, in the order of conf.def, which keeps groups together. */
extern const struct conf_opt conf_opts[];
extern const size_t conf_n_opts;
extern const struct conf_group_info conf_groups[];
extern const size_t conf_n_groups;
/* Nova's, of which we only know the name, the type and the default. */
extern const struct conf_opt conf_others[];
extern const size_t conf_n_others;

/* Whether group and name are the option's, or an old name of it. */
bool conf_opt_is(const struct conf_opt *, const char *group, const char *name);
bool conf_opt_was(const struct conf_opt *, const char *group, const char *name);
/* The option with that name, or with that old name; ours or not.  NULL if there is none. */
const struct conf_opt *conf_opt_find(const char *group, const char *name);
bool conf_group_exists(const char *group);

#define C_MIN(n)       .min = &(const double){n},
#define C_MAX(n)       .max = &(const double){n},
#define C_CHOICES(...) .choices = (const char *const[]){__VA_ARGS__, NULL},
#define C_IGNORE_CASE  .ignores_case = true,
#define C_REGEX(s)     .regex = s,
#define C_FORM(f)      .form = CONF_FORM_##f,
#define C_OLD(...)     .old = (const struct conf_name[]){__VA_ARGS__, {NULL, NULL}},

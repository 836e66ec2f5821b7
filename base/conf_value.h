#pragma once

/* From the texts of files to values: substitution of $other_option, types, limits.
 *
 * Source: oslo_config/cfg.py (ConfigOpts._substitute, Template) and types.py.
 *
 * Thread-safety: none of its own. */

#include "base/conf_source.h"

struct conf_value {
    enum conf_type type;
    bool is_unset; /* None */
    bool b;
    int64_t i;
    double f;
    char *s;
    struct strv list; /* LIST and MULTI */
    struct conf_dicts dicts;
};

/* Gives options their values; resolves references between them. */
struct conf_resolver {
    const struct conf_sources *sources;
    const char *host; /* What a computed default is. */
    const char *my_ip;
    const struct conf_opt *pending[16]; /* Being resolved, to find circles. */
    size_t n_pending;
};

/* The value of an option.  'ret_where' says where it stands (NULL: it is the default); it is
 * written also when it fails.  ERR_CONFIG, without the place and without the values of secrets. */
struct err *conf_resolve(struct conf_resolver *, const struct conf_opt *, struct conf_value *ret,
                         char **ret_where) MUST_CHECK;
void conf_value_fini(struct conf_value *);

/* A copy, which is the caller's. */
struct conf_value conf_value_dup(const struct conf_value *) MUST_CHECK;
bool conf_value_eq(const struct conf_value *, const struct conf_value *);

/* Moves a value to its place in a struct conf. */
void conf_value_store(struct conf_value *, const struct conf_opt *, struct conf *);
/* The value that stands there, borrowed. */
struct conf_value conf_value_peek(const struct conf *, const struct conf_opt *);

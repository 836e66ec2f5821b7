#include "base/conf_table.h"

/* The name of the group of each member: group_dflt is "DEFAULT". */
#define CONF_GROUP(member, name, help) static const char group_##member[] = name;
#define CONF_GROUP_END(...)
#define CONF_BOOL(...)
#define CONF_INT(...)
#define CONF_FLOAT(...)
#define CONF_STR(...)
#define CONF_LIST(...)
#define CONF_MULTI(...)
#define CONF_DICTS(...)
#include "base/conf.def"

const struct conf_group_info conf_groups[] = {
#define CONF_GROUP(member, name_, help_) {.name = name_, .help = help_},
#define CONF_GROUP_END(...)
#define CONF_BOOL(...)
#define CONF_INT(...)
#define CONF_FLOAT(...)
#define CONF_STR(...)
#define CONF_LIST(...)
#define CONF_MULTI(...)
#define CONF_DICTS(...)
#include "base/conf.def"
};
const size_t conf_n_groups = ARRAY_SIZE(conf_groups);

#define ROW(member, path, name_, type_, def_, flags_, help_, ...)                                  \
    {.group = group_##member,                                                                      \
     .name = #name_,                                                                               \
     .type = CONF_TYPE_##type_,                                                                    \
     .def = def_,                                                                                  \
     .flags = flags_,                                                                              \
     .help = help_,                                                                                \
     .offset = offsetof(struct conf, path),                                                        \
     __VA_ARGS__},
#define ROW_CLIENT(member, name, ...) ROW(member, member.client.name, name, __VA_ARGS__)

const struct conf_opt conf_opts[] = {
#define CONF_GROUP(...)
#define CONF_GROUP_END(...)
#define CONF_BOOL(g, n, d, flags, extras, help)  ROW(g, g.n, n, BOOL, d, flags, help, extras)
#define CONF_INT(g, n, d, flags, extras, help)   ROW(g, g.n, n, INT, d, flags, help, extras)
#define CONF_FLOAT(g, n, d, flags, extras, help) ROW(g, g.n, n, FLOAT, d, flags, help, extras)
#define CONF_STR(g, n, d, flags, extras, help)   ROW(g, g.n, n, STR, d, flags, help, extras)
#define CONF_LIST(g, n, d, flags, extras, help)  ROW(g, g.n, n, LIST, d, flags, help, extras)
#define CONF_MULTI(g, n, d, flags, extras, help) ROW(g, g.n, n, MULTI, d, flags, help, extras)
#define CONF_DICTS(g, n, d, flags, extras, help) ROW(g, g.n, n, DICTS, d, flags, help, extras)
#define CONF_C_BOOL(n, d, flags, extras, help)   ROW_CLIENT(CONF_C, n, BOOL, d, flags, help, extras)
#define CONF_C_INT(n, d, flags, extras, help)    ROW_CLIENT(CONF_C, n, INT, d, flags, help, extras)
#define CONF_C_FLOAT(n, d, flags, extras, help)  ROW_CLIENT(CONF_C, n, FLOAT, d, flags, help, extras)
#define CONF_C_STR(n, d, flags, extras, help)    ROW_CLIENT(CONF_C, n, STR, d, flags, help, extras)
#define CONF_C_LIST(n, d, flags, extras, help)   ROW_CLIENT(CONF_C, n, LIST, d, flags, help, extras)
#include "base/conf.def"
};
const size_t conf_n_opts = ARRAY_SIZE(conf_opts);

const struct conf_opt conf_others[] = {
#define CONF_OTHER(group_, name_, type_, def_, flags_, ...)                                        \
    {.group = group_,                                                                              \
     .name = name_,                                                                                \
     .type = CONF_TYPE_##type_,                                                                    \
     .def = def_,                                                                                  \
     .flags = flags_,                                                                              \
     __VA_ARGS__},
#include "base/conf_other.def"
#undef CONF_OTHER
};
const size_t conf_n_others = ARRAY_SIZE(conf_others);

bool conf_opt_is(const struct conf_opt *opt, const char *group, const char *name)
{
    return str_eq(opt->group, group) && str_eq(opt->name, name);
}

bool conf_opt_was(const struct conf_opt *opt, const char *group, const char *name)
{
    for (const struct conf_name *old = opt->old; old && old->name; old++) {
        if (str_eq(old->group ? old->group : opt->group, group) && str_eq(old->name, name)) {
            return true;
        }
    }
    return false;
}

static const struct conf_opt *find_by(bool (*matches)(const struct conf_opt *, const char *,
                                                      const char *),
                                      const char *group, const char *name)
{
    for (size_t i = 0; i < conf_n_opts; i++) {
        if (matches(&conf_opts[i], group, name)) {
            return &conf_opts[i];
        }
    }
    for (size_t i = 0; i < conf_n_others; i++) {
        if (matches(&conf_others[i], group, name)) {
            return &conf_others[i];
        }
    }
    return NULL;
}

const struct conf_opt *conf_opt_find(const char *group, const char *name)
{
    const struct conf_opt *opt = find_by(conf_opt_is, group, name);

    return opt ? opt : find_by(conf_opt_was, group, name);
}

bool conf_group_exists(const char *group)
{
    for (size_t i = 0; i < conf_n_opts; i++) {
        if (str_eq(conf_opts[i].group, group)) {
            return true;
        }
    }
    for (size_t i = 0; i < conf_n_others; i++) {
        if (str_eq(conf_others[i].group, group)) {
            return true;
        }
    }
    return false;
}

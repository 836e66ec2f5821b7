#include "base/conf_source.h"

#include "base/fs.h"

#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Files ---- */

void conf_sources_add_text(struct conf_sources *s, const char *path, const char *text, size_t len,
                           struct strv *ret_problems)
{
    struct conf_file file = {.path = str_dup(path)};

    ini_parse(text, len, path, &file.ini, ret_problems);
    s->files = mem_realloc(s->files, s->n_files + 1, sizeof(*s->files));
    s->files[s->n_files++] = file;
}

static char *home_dir(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user = home ? NULL : getpwuid(getuid());

    return str_dup(home ? home : user ? user->pw_dir : "/");
}

/* With a leading ~ expanded, and absolute. */
static char *full_path(const char *path)
{
    CLEANUP(freep) char *home = home_dir();
    CLEANUP(freep) char *here = NULL;

    if (path[0] == '~' && (path[1] == '/' || !path[1])) {
        return str_printf("%s%s", home, path + 1);
    }
    if (path[0] == '/') {
        return str_dup(path);
    }
    here = getcwd(NULL, 0);
    return str_printf("%s/%s", here ? here : "", path);
}

static void read_file(struct conf_sources *s, const char *path, struct strv *problems)
{
    CLEANUP(freep) char *full = full_path(path);
    CLEANUP(freep) char *text = NULL;
    size_t len;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, full, &text, &len);

    if (e) {
        strv_add_take(problems, str_printf("%s: cannot be read: %s", full, err_message(e)));
    } else {
        conf_sources_add_text(s, full, text, len, problems);
    }
}

static void read_dir(struct conf_sources *s, const char *path, struct strv *problems)
{
    CLEANUP(freep) char *full = full_path(path);
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep) struct err *e = fs_list(&fs_real, full, &names);

    if (e) {
        strv_add_take(problems, str_printf("%s: cannot be listed: %s", full, err_message(e)));
    }
    for (size_t i = 0; i < names.n; i++) {
        if (names.items[i][0] != '.' && str_ends(names.items[i], ".conf")) {
            CLEANUP(freep) char *file = str_printf("%s/%s", full, names.items[i]);

            read_file(s, file, problems);
        }
    }
}

/* The first place that has nova<suffix>, and that has nova-compute<suffix>, as Nova's nova-compute
 * would look for them. */
static struct strv find_defaults(const char *suffix)
{
    static const char *const names[] = {"nova", "nova-compute"};
    CLEANUP(freep) char *home = home_dir();
    const char *snap[] = {getenv("SNAP_COMMON"), getenv("SNAP")};
    CLEANUP(strv_fini) struct strv dirs = {0};
    struct strv found = {0};

    strv_add_take(&dirs, str_printf("%s/.nova", home));
    strv_add(&dirs, home);
    strv_add(&dirs, "/etc/nova");
    strv_add(&dirs, "/etc");
    for (size_t i = 0; i < ARRAY_SIZE(snap); i++) {
        if (!str_is_empty(snap[i])) {
            strv_add_take(&dirs, str_printf("%s/etc/nova", snap[i]));
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        bool is_found = false;

        for (size_t d = 0; d < dirs.n && !is_found; d++) {
            CLEANUP(freep) char *path = str_printf("%s/%s%s", dirs.items[d], names[i], suffix);

            is_found = fs_exists(&fs_real, path);
            if (is_found) {
                strv_add(&found, path);
            }
        }
    }
    return found;
}

static bool has_arg(int argc, char **argv, const char *name)
{
    size_t len = strlen(name);

    for (int i = 1; i < argc; i++) {
        if (str_starts(argv[i], name) && (!argv[i][len] || argv[i][len] == '=')) {
            return true;
        }
    }
    return false;
}

static void read_defaults(struct conf_sources *s, int argc, char **argv, struct strv *problems)
{
    if (!has_arg(argc, argv, "--config-file")) {
        CLEANUP(strv_fini) struct strv files = find_defaults(".conf");

        for (size_t i = 0; i < files.n; i++) {
            read_file(s, files.items[i], problems);
        }
    }
    if (!has_arg(argc, argv, "--config-dir")) {
        CLEANUP(strv_fini) struct strv dirs = find_defaults(".conf.d");

        for (size_t i = 0; i < dirs.n; i++) {
            read_dir(s, dirs.items[i], problems);
        }
    }
}

/* ---- The command line ---- */

static void add_arg(struct conf_sources *s, const struct conf_opt *opt, const char *value)
{
    s->args = mem_realloc(s->args, s->n_args + 1, sizeof(*s->args));
    s->args[s->n_args++] = (struct conf_arg){
        .opt = opt,
        .value = str_dup(value),
        .n_before = s->n_files,
    };
}

/* The option of [DEFAULT] that is called so on the command line, where '-' stands for '_'. */
static const struct conf_opt *find_cli(const char *name)
{
    CLEANUP(freep) char *key = str_dup(name);
    const struct conf_opt *opt;

    for (char *c = key; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    opt = conf_opt_find("DEFAULT", key);
    return opt && opt->flags & CONF_CLI ? opt : NULL;
}

struct cmdline {
    struct conf_sources *sources;
    struct strv *problems;
    int argc;
    char **argv;
    int at;
};

/* The text behind '=', or the next argument. */
static const char *take_value(struct cmdline *c, const char *name, const char *inline_value)
{
    if (inline_value) {
        return inline_value;
    }
    if (c->at + 1 < c->argc) {
        return c->argv[++c->at];
    }
    strv_add_take(c->problems, str_printf("command line: --%s needs a value", name));
    return NULL;
}

/* An option that also stands in files: --log-file FILE, --debug, --nodebug. */
static void read_file_option(struct cmdline *c, const char *name, const char *inline_value)
{
    const struct conf_opt *opt = find_cli(name);
    const struct conf_opt *negated = str_starts(name, "no") ? find_cli(name + 2) : NULL;
    const char *value;

    if (opt && opt->type == CONF_TYPE_BOOL && !inline_value) {
        add_arg(c->sources, opt, "True");
    } else if (negated && negated->type == CONF_TYPE_BOOL && !inline_value) {
        add_arg(c->sources, negated, "False");
    } else if (!opt || opt->type == CONF_TYPE_BOOL) {
        strv_add_take(c->problems, str_printf("command line: unknown option --%s%s", name,
                                              opt ? "=... (it takes no value)" : ""));
    } else if ((value = take_value(c, name, inline_value))) {
        add_arg(c->sources, opt, value);
    }
}

static void read_arg(struct cmdline *c)
{
    const char *arg = c->argv[c->at];
    const char *equals = strchr(arg, '=');
    CLEANUP(freep) char *name = NULL;
    const char *value;

    if (str_eq(arg, "-d") || str_eq(arg, "-h")) {
        arg = arg[1] == 'd' ? "--debug" : "--help";
    }
    if (!str_starts(arg, "--") || !arg[2]) {
        strv_add_take(c->problems, str_printf("command line: '%s' is no option", arg));
        return;
    }
    name = str_ndup(arg + 2, equals ? (size_t)(equals - arg - 2) : strlen(arg + 2));
    if (str_eq(arg, "--check-config")) {
        c->sources->action = CONF_CHECK;
    } else if (str_eq(arg, "--version")) {
        c->sources->action = CONF_VERSION;
    } else if (str_eq(arg, "--help")) {
        c->sources->action = CONF_HELP;
    } else if (str_eq(name, "config-file") || str_eq(name, "config-dir")) {
        if ((value = take_value(c, name, equals ? equals + 1 : NULL))) {
            (str_eq(name, "config-file") ? read_file : read_dir)(c->sources, value, c->problems);
        }
    } else {
        read_file_option(c, name, equals ? equals + 1 : NULL);
    }
}

void conf_sources_read(struct conf_sources *ret, int argc, char **argv, struct strv *ret_problems)
{
    struct cmdline c = {ret, ret_problems, argc, argv, 1};

    ret->reads_env = true;
    read_defaults(ret, argc, argv, ret_problems);
    for (; c.at < argc && ret->action != CONF_HELP && ret->action != CONF_VERSION; c.at++) {
        read_arg(&c);
    }
}

void conf_sources_fini(struct conf_sources *s)
{
    for (size_t i = 0; i < s->n_files; i++) {
        free(s->files[i].path);
        ini_fini(&s->files[i].ini);
    }
    for (size_t i = 0; i < s->n_args; i++) {
        free(s->args[i].value);
    }
    free(s->files);
    free(s->args);
    *s = (struct conf_sources){0};
}

/* ---- Finding ---- */

char *conf_group_key(const char *group)
{
    char *key = str_dup(group);

    for (char *c = key; *c && !str_eq(group, "DEFAULT"); c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return key;
}

/* Values of one name in one file, added to 'found'; the place of the last. */
static const struct ini_entry *find_name(const struct ini *ini, const char *group, const char *name,
                                         struct strv *found)
{
    const struct ini_entry *last = NULL;
    CLEANUP(freep) char *want = conf_group_key(group);

    for (size_t i = 0; i < ini->n; i++) {
        const struct ini_entry *entry = &ini->items[i];

        if (str_eq(entry->key, name)) {
            CLEANUP(freep) char *key = conf_group_key(entry->section);

            if (str_eq(key, want)) {
                strv_add(found, entry->value);
                last = entry;
            }
        }
    }
    return last;
}

/* In one file: the present name and then the old ones.  For a repeated option all of them count,
 * the older names first; else the first that is there. */
static bool find_in_file(const struct conf_file *file, const struct conf_opt *opt,
                         const char *group, struct conf_raw *raw)
{
    struct strv found = {0};
    const struct ini_entry *entry = find_name(&file->ini, group, opt->name, &found);
    bool is_multi = opt->type == CONF_TYPE_MULTI || opt->type == CONF_TYPE_DICTS;

    for (const struct conf_name *old = opt->old; old && old->name; old++) {
        struct strv older = {0};
        const struct ini_entry *first =
            entry && !is_multi
                ? NULL
                : find_name(&file->ini, old->group ? old->group : group, old->name, &older);

        for (size_t i = 0; i < found.n; i++) {
            strv_add(&older, found.items[i]);
        }
        strv_fini(&found);
        found = older;
        entry = entry ? entry : first;
    }
    if (entry && !raw->where) {
        raw->where = str_printf("%s:%u", file->path, entry->line);
    }
    for (size_t i = 0; i < raw->values.n; i++) {
        strv_add(&found, raw->values.items[i]);
    }
    strv_fini(&raw->values);
    raw->values = found;
    return entry != NULL;
}

static void set_raw(struct conf_raw *raw, const char *value, char *where)
{
    conf_raw_fini(raw);
    strv_add(&raw->values, value);
    raw->where = where;
}

/* Keeps the last value alone. */
static void keep_last(struct strv *v)
{
    while (v->n > 1) {
        free(v->items[0]);
        memmove(v->items, v->items + 1, v->n * sizeof(*v->items));
        v->n--;
    }
}

static const char *env_value(const char *group, const char *name)
{
    CLEANUP(freep) char *key = str_printf("OS_%s__%s", group, name);

    for (char *c = key; *c; c++) {
        *c = (char)toupper((unsigned char)*c);
    }
    return getenv(key);
}

void conf_sources_find(const struct conf_sources *s, const struct conf_opt *opt, const char *group,
                       struct conf_raw *ret)
{
    bool is_multi = opt->type == CONF_TYPE_MULTI || opt->type == CONF_TYPE_DICTS;
    const char *env = s->reads_env ? env_value(group, opt->name) : NULL;
    const struct conf_arg *arg = NULL;
    struct conf_raw raw = {0};
    size_t winner = 0; /* One more than the file whose value counts. */

    for (size_t i = s->n_files; i > 0 && (is_multi || !winner); i--) {
        if (find_in_file(&s->files[i - 1], opt, group, &raw) && !winner) {
            winner = i;
        }
    }
    for (size_t i = 0; i < s->n_args; i++) {
        arg = s->args[i].opt == opt ? &s->args[i] : arg;
    }
    if (!is_multi) {
        keep_last(&raw.values);
    }
    if (env && (raw.where || !arg)) {
        set_raw(&raw, env, str_printf("environment OS_%s__%s", group, opt->name));
    } else if (arg && arg->n_before >= winner) {
        set_raw(&raw, arg->value, str_dup("command line"));
    }
    *ret = raw;
}

void conf_raw_fini(struct conf_raw *raw)
{
    strv_fini(&raw->values);
    free(raw->where);
    *raw = (struct conf_raw){0};
}

#include "base/conf.h"

#include "base/conf_check.h"
#include "base/conf_value.h"
#include "base/log.h"
#include "base/sync.h"

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- Snapshots ---- */

/* An option of a group that no table knows beforehand. */
struct dynamic {
    char *group, *name, *value;
};

struct snapshot {
    struct conf conf; /* First: conf_put gets this address. */
    atomic_uint refs;
    struct dynamic *dynamic;
    size_t n_dynamic;
};

static struct snapshot *snapshot_new(void)
{
    struct snapshot *s = NEW(struct snapshot);

    s->refs = 1;
    return s;
}

static void clear_dynamic(struct snapshot *s)
{
    for (size_t i = 0; i < s->n_dynamic; i++) {
        free(s->dynamic[i].group);
        free(s->dynamic[i].name);
        free(s->dynamic[i].value);
    }
    free(s->dynamic);
    s->dynamic = NULL;
    s->n_dynamic = 0;
}

static void add_dynamic(struct snapshot *s, const char *group, const char *name, const char *value)
{
    s->dynamic = mem_realloc(s->dynamic, s->n_dynamic + 1, sizeof(*s->dynamic));
    s->dynamic[s->n_dynamic++] = (struct dynamic){str_dup(group), str_dup(name), str_dup(value)};
}

static struct snapshot *snapshot_free(struct snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1) {
        return NULL;
    }
    for (size_t i = 0; i < conf_n_opts; i++) {
        struct conf_value value = conf_value_peek(&s->conf, &conf_opts[i]);

        conf_value_fini(&value);
    }
    clear_dynamic(s);
    free(s);
    return NULL;
}

/* ---- Computed defaults ---- */

static char *my_host(void)
{
    char name[256] = "";

    gethostname(name, sizeof(name) - 1);
    return str_dup(name);
}

/* The address that packets to elsewhere would come from; none are sent. */
static char *my_ip(void)
{
    struct sockaddr_in there = {
        .sin_family = AF_INET,
        .sin_port = htons(80),
        .sin_addr.s_addr = htonl(0xc0000200), /* 192.0.2.0, of RFC 5737. */
    };
    struct sockaddr_in here = {0};
    socklen_t len = sizeof(here);
    CLEANUP(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const unsigned char *ip = (const unsigned char *)&here.sin_addr;

    if (fd < 0 || connect(fd, (const struct sockaddr *)&there, sizeof(there)) ||
        getsockname(fd, (struct sockaddr *)&here, &len)) {
        return str_dup("127.0.0.1");
    }
    return str_printf("%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
}

/* ---- Loading ---- */

/* What comes of reading everything once. */
struct loaded {
    struct conf_sources sources;
    struct strv problems;
    struct snapshot *snapshot;
    char **where; /* For each row of conf_opts. */
};

static void loaded_fini(struct loaded *l)
{
    for (size_t i = 0; l->where && i < conf_n_opts; i++) {
        free(l->where[i]);
    }
    free(l->where);
    conf_sources_fini(&l->sources);
    strv_fini(&l->problems);
    snapshot_free(l->snapshot);
}

static bool is_dynamic_group(const char *group)
{
    return str_eq(group, "neutron_tunnel") || str_starts(group, "neutron_physnet_") ||
           str_starts(group, "mdev_") || str_starts(group, "vgpu_");
}

static void load_dynamic(struct snapshot *s, struct conf_resolver *r, struct strv *problems)
{
    for (size_t f = 0; f < r->sources->n_files; f++) {
        const struct ini *ini = &r->sources->files[f].ini;

        for (size_t i = 0; i < ini->n; i++) {
            CLEANUP(freep) char *group = conf_group_key(ini->items[i].section);
            CLEANUP(freep) char *where = NULL;
            CLEANUP(conf_value_fini) struct conf_value value = {0};
            struct conf_opt opt = {
                .group = group, .name = ini->items[i].key, .type = CONF_TYPE_STR};

            if (!is_dynamic_group(group) || conf_dynamic(&s->conf, group, ini->items[i].key)) {
                continue;
            }
            CLEANUP(err_freep) struct err *e = conf_resolve(r, &opt, &value, &where);

            if (e) {
                strv_add_take(problems,
                              str_printf("%s: [%s]%s: %s", where, group, opt.name, err_message(e)));
                continue;
            }
            add_dynamic(s, group, opt.name, value.s);
        }
    }
}

static void load_options(struct loaded *l)
{
    CLEANUP(freep) char *host = my_host();
    CLEANUP(freep) char *ip = my_ip();
    struct conf_resolver r = {.sources = &l->sources, .host = host, .my_ip = ip};

    l->snapshot = snapshot_new();
    l->where = NEW_ARRAY(char *, conf_n_opts);
    for (size_t i = 0; i < conf_n_opts; i++) {
        struct conf_value value = {0};
        CLEANUP(err_freep) struct err *e = conf_resolve(&r, &conf_opts[i], &value, &l->where[i]);

        if (e) {
            CLEANUP(freep) char *text = err_text(e);

            strv_add_take(&l->problems,
                          str_printf("%s: [%s]%s: %s", l->where[i] ? l->where[i] : "default",
                                     conf_opts[i].group, conf_opts[i].name, text));
        }
        conf_value_store(&value, &conf_opts[i], &l->snapshot->conf);
        conf_value_fini(&value);
    }
    load_dynamic(l->snapshot, &r, &l->problems);
}

static struct err *problems_to_err(const struct strv *problems)
{
    CLEANUP(freep) char *text = strv_join(problems, "\n");

    return problems->n ? err_msg(ERR_CONFIG, "%s", text) : NULL;
}

/* Options and then, if they are good as such, what they say together. */
static struct err *load(struct loaded *l)
{
    load_options(l);
    if (!l->problems.n) {
        conf_check(&l->snapshot->conf, l->where, &l->problems);
    }
    return problems_to_err(&l->problems);
}

/* ---- Notes ---- */

struct note {
    enum log_level level;
    char *text;
};

struct conf_holder {
    struct mutex lock;
    struct snapshot *now GUARDED_BY(lock);
    /* The rest does not change. */
    char **argv;
    int argc;
    struct note *notes;
    size_t n_notes;
};

static void note(struct conf_holder *h, enum log_level level, const char *fmt, ...) PRINTF(3, 4);
static void note(struct conf_holder *h, enum log_level level, const char *fmt, ...)
{
    va_list ap;
    struct note n = {.level = level};

    va_start(ap, fmt);
    n.text = str_vprintf(fmt, ap);
    va_end(ap);
    h->notes = mem_realloc(h->notes, h->n_notes + 1, sizeof(*h->notes));
    h->notes[h->n_notes++] = n;
}

/* Whether some auth_section names the group. */
static bool is_auth_section(const struct conf *conf, const char *group)
{
    for (size_t i = 0; i < conf_n_opts; i++) {
        if (str_eq(conf_opts[i].name, "auth_section") &&
            str_eq(conf_value_peek(conf, &conf_opts[i]).s, group)) {
            return true;
        }
    }
    return false;
}

static bool has_default(const struct conf_opt *opt, const struct ini_entry *entry)
{
    return opt->def ? str_ieq(opt->def, entry->value) : !*entry->value;
}

static void note_option(struct conf_holder *h, const char *where, const struct conf_opt *opt,
                        const char *group, const struct ini_entry *entry)
{
    bool is_ours = opt >= conf_opts && opt < conf_opts + conf_n_opts;

    if (!conf_opt_is(opt, group, entry->key)) {
        note(h, LOG_LEVEL_INFO, "%s: [%s]%s is an old name of [%s]%s", where, group, entry->key,
             opt->group, opt->name);
    }
    if (has_default(opt, entry) || opt->flags & CONF_ELSEWHERE) {
        return;
    }
    if (!is_ours) {
        note(h, LOG_LEVEL_WARNING, "%s: [%s]%s is not implemented here, its default is kept", where,
             opt->group, opt->name);
    } else if (opt->flags & CONF_IGNORED) {
        note(h, LOG_LEVEL_INFO, "%s: [%s]%s: %s", where, opt->group, opt->name, opt->help);
    }
}

static void note_entry(struct conf_holder *h, const char *path, const struct ini_entry *entry,
                       struct strv *seen)
{
    CLEANUP(freep) char *group = conf_group_key(entry->section);
    CLEANUP(freep) char *where = str_printf("%s:%u", path, entry->line);
    CLEANUP(freep) char *key = str_printf("%s\n%s", group, entry->key);
    const struct conf_opt *opt = conf_opt_find(group, entry->key);

    if (strv_has(seen, key)) {
        return;
    }
    strv_add(seen, key);
    if (opt) {
        note_option(h, where, opt, group, entry);
    } else if (is_dynamic_group(group) || is_auth_section(&h->now->conf, group)) {
        return;
    } else if (conf_group_exists(group)) {
        note(h, LOG_LEVEL_INFO, "%s: [%s] has no option %s", where, group, entry->key);
    } else if (!strv_has(seen, group)) {
        strv_add(seen, group);
        note(h, LOG_LEVEL_INFO, "%s: there is no group [%s]", where, entry->section);
    }
}

/* Before the holder is anybody else's. */
static void note_all(struct conf_holder *h, const struct conf_sources *sources) NO_TS_ANALYSIS;
static void note_all(struct conf_holder *h, const struct conf_sources *sources)
{
    CLEANUP(strv_fini) struct strv seen = {0};

    for (size_t f = 0; f < sources->n_files; f++) {
        for (size_t i = 0; i < sources->files[f].ini.n; i++) {
            note_entry(h, sources->files[f].path, &sources->files[f].ini.items[i], &seen);
        }
    }
}

void conf_report(struct conf_holder *h)
{
    for (size_t i = 0; i < h->n_notes; i++) {
        log_at(LOG_CONF, h->notes[i].level, "%s", h->notes[i].text);
    }
}

/* ---- The holder ---- */

static struct conf_holder *holder_new(struct loaded *l, int argc, char **argv)
{
    struct conf_holder *h = NEW(struct conf_holder);

    mutex_init(&h->lock);
    h->now = TAKE(l->snapshot);
    h->argv = NEW_ARRAY(char *, (size_t)argc + 1);
    h->argc = argc;
    for (int i = 0; i < argc; i++) {
        h->argv[i] = str_dup(argv[i]);
    }
    note_all(h, &l->sources);
    return h;
}

struct conf_holder *conf_holder_free(struct conf_holder *h)
{
    if (!h) {
        return NULL;
    }
    for (int i = 0; i < h->argc; i++) {
        free(h->argv[i]);
    }
    for (size_t i = 0; i < h->n_notes; i++) {
        free(h->notes[i].text);
    }
    free(h->argv);
    free(h->notes);
    snapshot_free(h->now);
    mutex_fini(&h->lock);
    free(h);
    return NULL;
}

struct err *conf_load(int argc, char **argv, struct conf_cmdline *ret,
                      struct conf_holder **ret_holder)
{
    CLEANUP(loaded_fini) struct loaded l = {0};

    *ret = (struct conf_cmdline){CONF_RUN};
    conf_sources_read(&l.sources, argc, argv, &l.problems);
    ret->action = l.sources.action;
    if (ret->action == CONF_HELP || ret->action == CONF_VERSION) {
        *ret_holder = NULL;
        return NULL;
    }
    TRY(load(&l));
    *ret_holder = holder_new(&l, argc, argv);
    return NULL;
}

struct err *conf_from_text(const char *text, struct conf_holder **ret)
{
    CLEANUP(loaded_fini) struct loaded l = {0};

    conf_sources_add_text(&l.sources, "text", text, strlen(text), &l.problems);
    load_options(&l);
    TRY(problems_to_err(&l.problems));
    *ret = holder_new(&l, 0, NULL);
    return NULL;
}

const struct conf *conf_get(struct conf_holder *h)
{
    const struct conf *conf;

    mutex_lock(&h->lock);
    atomic_fetch_add(&h->now->refs, 1);
    conf = &h->now->conf;
    mutex_unlock(&h->lock);
    return conf;
}

void conf_put(const struct conf *conf)
{
    /* The holder owns snapshots and gives them out as constant. */
    union {
        const struct conf *conf;
        struct snapshot *snapshot;
    } u = {conf};

    snapshot_free(u.snapshot);
}

/* Groups with names of their own do not follow a reload either. */
static void merge_dynamic(const struct snapshot *old, struct snapshot *fresh, struct strv *restart)
{
    bool is_same = old->n_dynamic == fresh->n_dynamic;

    for (size_t i = 0; is_same && i < old->n_dynamic; i++) {
        const struct dynamic *d = &old->dynamic[i];

        is_same = str_eq(conf_dynamic(&fresh->conf, d->group, d->name), d->value);
    }
    if (is_same) {
        return;
    }
    strv_add(restart, "a group [neutron_physnet_...], [neutron_tunnel] or [mdev_...]");
    clear_dynamic(fresh);
    for (size_t i = 0; i < old->n_dynamic; i++) {
        add_dynamic(fresh, old->dynamic[i].group, old->dynamic[i].name, old->dynamic[i].value);
    }
}

/* Takes over from 'old' what cannot change while we run. */
static void merge(const struct conf *old, struct snapshot *fresh, struct strv *changed,
                  struct strv *restart)
{
    for (size_t i = 0; i < conf_n_opts; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        struct conf_value was = conf_value_peek(old, opt);
        struct conf_value is = conf_value_peek(&fresh->conf, opt);

        if (conf_value_eq(&was, &is)) {
            continue;
        }
        strv_add_take(opt->flags & CONF_MUTABLE ? changed : restart,
                      str_printf("[%s]%s", opt->group, opt->name));
        if (!(opt->flags & CONF_MUTABLE)) {
            struct conf_value kept = conf_value_dup(&was);

            conf_value_store(&kept, opt, &fresh->conf);
            conf_value_fini(&is);
        }
    }
}

struct err *conf_reload(struct conf_holder *h, struct strv *ret_changed, struct strv *ret_restart)
{
    CLEANUP(loaded_fini) struct loaded l = {0};
    CLEANUP(conf_putp) const struct conf *old = conf_get(h);
    struct snapshot *before;

    conf_sources_read(&l.sources, h->argc, h->argv, &l.problems);
    TRY(load(&l));
    merge(old, l.snapshot, ret_changed, ret_restart);
    merge_dynamic((const struct snapshot *)old, l.snapshot, ret_restart);
    mutex_lock(&h->lock);
    before = h->now;
    h->now = TAKE(l.snapshot);
    mutex_unlock(&h->lock);
    snapshot_free(before);
    return NULL;
}

/* ---- Looking ---- */

const char *conf_dynamic(const struct conf *conf, const char *group, const char *name)
{
    const struct snapshot *s = (const struct snapshot *)conf;

    for (size_t i = 0; i < s->n_dynamic; i++) {
        if (str_ieq(s->dynamic[i].group, group) && str_eq(s->dynamic[i].name, name)) {
            return s->dynamic[i].value;
        }
    }
    return NULL;
}

const struct conf_client *conf_client(const struct conf *conf, const char *section)
{
    const struct {
        const char *section;
        const struct conf_client *client;
    } rows[] = {
#define CONF_GROUP(...)
#define CONF_GROUP_END(...)
#define CONF_CLIENT(member) {#member, &conf->member.client},
#define CONF_BOOL(...)
#define CONF_INT(...)
#define CONF_FLOAT(...)
#define CONF_STR(...)
#define CONF_LIST(...)
#define CONF_MULTI(...)
#define CONF_DICTS(...)
#include "base/conf.def"
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (str_eq(rows[i].section, section)) {
            return rows[i].client;
        }
    }
    return NULL;
}

const char *conf_usage(void)
{
    return "usage: novashim [OPTION]...\n"
           "\n"
           "  --config-file FILE   read FILE; may be repeated, the later file wins\n"
           "  --config-dir DIR     read DIR/*.conf in the order of their names\n"
           "  --check-config       tell what is wrong with the configuration, and end\n"
           "  --log-file FILE      log to FILE\n"
           "  --log-dir DIR        directory of the log file\n"
           "  -d, --debug          log at debug level; --nodebug: do not\n"
           "  --version            print the version, and end\n"
           "  -h, --help           print this, and end\n"
           "\n"
           "Without --config-file these are read, as nova-compute does: nova.conf and\n"
           "nova-compute.conf, each from the first of ~/.nova, ~, /etc/nova and /etc that has it.\n"
           "See novashim(8) and novashim.conf(5).\n";
}

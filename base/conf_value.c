#include "base/conf_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Numbers, as Python reads them ---- */

/* Copies s without the underscores between digits; false if there is one elsewhere. */
static bool drop_underscores(const char *s, char **ret)
{
    struct strbuf out = {0};

    for (const char *c = s; *c; c++) {
        if (*c != '_') {
            strbuf_addc(&out, *c);
        } else if (c == s || !isdigit((unsigned char)c[-1]) || !isdigit((unsigned char)c[1])) {
            strbuf_fini(&out);
            return false;
        }
    }
    *ret = strbuf_take(&out);
    return true;
}

static bool read_int(const char *s, int64_t *ret)
{
    CLEANUP(freep) char *digits = NULL;
    const char *start = s + (*s == '+' || *s == '-');

    return isdigit((unsigned char)*start) && drop_underscores(s, &digits) &&
           str_to_i64(*digits == '+' ? digits + 1 : digits, ret);
}

static size_t skip_digits(const char **s)
{
    const char *start = *s;

    while (isdigit((unsigned char)**s)) {
        (*s)++;
    }
    return (size_t)(*s - start);
}

/* Only decimal numbers: strtod alone knows more than Python.  Infinity and NaN are refused, nobody
 * can mean them. */
static bool read_float(const char *s, double *ret)
{
    CLEANUP(freep) char *text = NULL;
    const char *c;
    size_t n;

    if (!drop_underscores(s, &text)) {
        return false;
    }
    c = text + (*text == '+' || *text == '-');
    n = skip_digits(&c);
    if (*c == '.') {
        c++;
        n += skip_digits(&c);
    }
    if (n > 0 && (*c == 'e' || *c == 'E')) {
        c += 1 + (c[1] == '+' || c[1] == '-');
        n = skip_digits(&c);
    }
    if (n == 0 || *c) {
        return false;
    }
    *ret = strtod(text, NULL);
    return isfinite(*ret);
}

/* ---- Forms of strings ---- */

static bool is_ip(const char *s)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, s, address) == 1 || inet_pton(AF_INET6, s, address) == 1;
}

static bool is_host_label(const char *s, size_t len, bool allows_underscore)
{
    if (len == 0 || len > 63 || s[0] == '-' || s[len - 1] == '-') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)s[i]) && s[i] != '-' && !(allows_underscore && s[i] == '_')) {
            return false;
        }
    }
    return true;
}

/* A host name; the last label must have a letter or a dash, or it is a mistyped address. */
static bool is_host_name(const char *s, bool allows_underscore)
{
    size_t len = strlen(s);
    bool has_letter = false;

    if (len == 0 || len > 253) {
        return false;
    }
    len -= s[len - 1] == '.';
    for (size_t at = 0; at <= len;) {
        size_t end = at;

        has_letter = false;
        for (; end < len && s[end] != '.'; end++) {
            has_letter |= isalpha((unsigned char)s[end]) || s[end] == '-';
        }
        if (!is_host_label(s + at, end - at, allows_underscore)) {
            return false;
        }
        at = end + 1;
    }
    return has_letter;
}

/* SCHEME://[USER@]HOST[:PORT][/PATH...]; oslo takes any path. */
static bool is_uri(const char *s)
{
    regex_t regex;
    bool matches;
    int rc = regcomp(&regex,
                     "^[A-Za-z][A-Za-z0-9+.-]*://"
                     "([A-Za-z0-9._~!$&'()*+,;=:%-]*@)?"
                     "([A-Za-z0-9._~!$&'()*+,;=%-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{0,5})?"
                     "([/?#].*)?$",
                     REG_EXTENDED | REG_NOSUB);

    if (rc) {
        return false;
    }
    matches = regexec(&regex, s, 0, NULL, 0) == 0;
    regfree(&regex);
    return matches;
}

static struct err *check_form(const struct conf_opt *opt, char *s)
{
    size_t len = strlen(s);

    switch (opt->form) {
    case CONF_FORM_ANY:
        return NULL;
    case CONF_FORM_HOST_ADDRESS:
    case CONF_FORM_HOST_DOMAIN:
        if (is_ip(s)) {
            return NULL;
        }
        if (!is_host_name(s, opt->form == CONF_FORM_HOST_DOMAIN)) {
            return err_msg(ERR_CONFIG, "'%s' is neither an IP address nor a host name", s);
        }
        if (s[len - 1] == '.') {
            s[len - 1] = '\0';
        }
        return NULL;
    case CONF_FORM_URI:
        return is_uri(s) ? NULL : err_msg(ERR_CONFIG, "'%s' is no URI", s);
    }
    return NULL;
}

/* ---- Limits ---- */

static struct err *check_choice(const struct conf_opt *opt, const char *s)
{
    CLEANUP(strv_fini) struct strv known = {0};
    CLEANUP(freep) char *text = NULL;

    for (const char *const *c = opt->choices; c && *c; c++) {
        if (opt->ignores_case ? str_ieq(*c, s) : str_eq(*c, s)) {
            return NULL;
        }
        strv_add(&known, *c);
    }
    if (!opt->choices) {
        return NULL;
    }
    text = strv_join(&known, ", ");
    return err_msg(ERR_CONFIG, "'%s' is none of: %s", s, text);
}

static struct err *check_regex(const struct conf_opt *opt, const char *s)
{
    regex_t regex;
    int rc;

    if (!opt->regex) {
        return NULL;
    }
    rc = regcomp(&regex, opt->regex, REG_EXTENDED | REG_NOSUB);
    if (!rc) {
        rc = regexec(&regex, s, 0, NULL, 0);
        regfree(&regex);
    }
    return rc ? err_msg(ERR_CONFIG, "'%s' does not match %s", s, opt->regex) : NULL;
}

static struct err *check_range(const struct conf_opt *opt, double n)
{
    if (opt->min && n < *opt->min) {
        return err_msg(ERR_CONFIG, "%g is less than %g", n, *opt->min);
    }
    if (opt->max && n > *opt->max) {
        return err_msg(ERR_CONFIG, "%g is more than %g", n, *opt->max);
    }
    return NULL;
}

/* ---- Types ---- */

static struct err *convert_bool(const char *s, struct conf_value *v)
{
    static const char *const words[] = {"false", "true", "0", "1", "off", "on", "no", "yes"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (str_ieq(s, words[i])) {
            v->b = i % 2;
            return NULL;
        }
    }
    return err_msg(ERR_CONFIG, "'%s' is neither true nor false", s);
}

/* An empty number is None. */
static struct err *convert_number(const struct conf_opt *opt, const char *s, struct conf_value *v)
{
    CLEANUP(freep) char *copy = str_dup(s);
    const char *text = ini_strip(copy);
    bool is_int = opt->type == CONF_TYPE_INT;

    if (!*text) {
        v->is_unset = true;
        return NULL;
    }
    if (!(is_int ? read_int(text, &v->i) : read_float(text, &v->f))) {
        return err_msg(ERR_CONFIG, "'%s' is no %s", s, is_int ? "whole number" : "number");
    }
    if (is_int && opt->choices) {
        CLEANUP(freep) char *plain = str_printf("%lld", (long long)v->i);

        return check_choice(opt, plain);
    }
    return check_range(opt, is_int ? (double)v->i : v->f);
}

static struct err *convert_str(const struct conf_opt *opt, const char *s, char **ret)
{
    CLEANUP(freep) char *copy = str_dup(s);

    TRY(check_choice(opt, copy));
    TRY(check_regex(opt, copy));
    TRY(check_form(opt, copy));
    *ret = TAKE(copy);
    return NULL;
}

/* Commas separate; those at the end do not count, those in between make empty values. */
static struct err *convert_list(const struct conf_opt *opt, const char *s, struct strv *ret)
{
    CLEANUP(freep) char *copy = str_dup(s);
    CLEANUP(strv_fini) struct strv list = {0};
    char *rest = ini_strip(copy);
    size_t len = strlen(rest);

    while (len > 0 && rest[len - 1] == ',') {
        rest[--len] = '\0';
    }
    for (char *item = len ? rest : NULL; item; item = rest) {
        char *value = NULL;

        rest = strchr(item, ',');
        if (rest) {
            *rest++ = '\0';
        }
        TRY(convert_str(opt, ini_strip(item), &value));
        strv_add_take(&list, value);
    }
    *ret = list;
    list = (struct strv){0};
    return NULL;
}

static void dict_fini(struct conf_dict *d)
{
    strv_fini(&d->keys);
    strv_fini(&d->values);
}

/* KEY:VALUE separated by commas.  What has no colon belongs to what follows it. */
static struct err *convert_dict(const char *s, struct conf_dict *ret)
{
    CLEANUP(dict_fini) struct conf_dict dict = {{0}, {0}};
    CLEANUP(freep) char *copy = str_dup(s);
    char *rest = ini_strip(copy);

    for (char *pair = *rest ? rest : NULL; pair; pair = rest) {
        char *colon = strchr(pair, ':');
        char *key;

        if (!colon) {
            return err_msg(ERR_CONFIG, "'%s' is no KEY:VALUE", pair);
        }
        *colon = '\0';
        rest = strchr(colon + 1, ',');
        if (rest) {
            *rest++ = '\0';
        }
        key = ini_strip(pair);
        if (!*key) {
            return err_msg(ERR_CONFIG, "a key is empty");
        }
        if (strv_has(&dict.keys, key)) {
            return err_msg(ERR_CONFIG, "the key '%s' stands twice", key);
        }
        strv_add(&dict.keys, key);
        strv_add(&dict.values, ini_strip(colon + 1));
    }
    *ret = dict;
    dict = (struct conf_dict){{0}, {0}};
    return NULL;
}

static void dicts_fini(struct conf_dicts *d)
{
    for (size_t i = 0; i < d->n; i++) {
        dict_fini(&d->items[i]);
    }
    free(d->items);
    *d = (struct conf_dicts){0};
}

static void dicts_add(struct conf_dicts *d, struct conf_dict item)
{
    d->items = mem_realloc(d->items, d->n + 1, sizeof(*d->items));
    d->items[d->n++] = item;
}

static struct err *convert(const struct conf_opt *opt, const struct strv *texts,
                           struct conf_value *v)
{
    v->type = opt->type;
    switch (opt->type) {
    case CONF_TYPE_BOOL:
        return convert_bool(texts->items[0], v);
    case CONF_TYPE_INT:
    case CONF_TYPE_FLOAT:
        return convert_number(opt, texts->items[0], v);
    case CONF_TYPE_STR:
    case CONF_TYPE_DICT: /* Of others: it is enough that it can be referred to. */
        return convert_str(opt, texts->items[0], &v->s);
    case CONF_TYPE_LIST:
        return convert_list(opt, texts->items[0], &v->list);
    case CONF_TYPE_MULTI:
        for (size_t i = 0; i < texts->n; i++) {
            strv_add(&v->list, texts->items[i]);
        }
        return NULL;
    case CONF_TYPE_DICTS:
        for (size_t i = 0; i < texts->n; i++) {
            struct conf_dict dict = {{0}, {0}};

            TRY(convert_dict(texts->items[i], &dict));
            dicts_add(&v->dicts, dict);
        }
        return NULL;
    }
    return NULL;
}

void conf_value_fini(struct conf_value *v)
{
    free(v->s);
    strv_fini(&v->list);
    dicts_fini(&v->dicts);
    *v = (struct conf_value){0};
}

/* ---- References ---- */

/* The fewest digits that say it exactly, and with a point or an exponent. */
static void add_float(double n, struct strbuf *out)
{
    char text[32];
    int digits = 0;
    int exponent;

    do {
        snprintf(text, sizeof(text), "%.*e", digits, n);
    } while (strtod(text, NULL) != n && ++digits < 17);
    exponent = atoi(strchr(text, 'e') + 1);
    if (exponent < -4 || exponent >= 16) {
        strbuf_add(out, text);
    } else {
        strbuf_addf(out, "%.*f", MAX(digits - exponent, 1), n);
    }
}

/* As Python's str() writes it; None is nothing. */
static struct err *add_as_text(const struct conf_value *v, const char *ref, struct strbuf *out)
{
    if (v->is_unset) {
        return NULL;
    }
    switch (v->type) {
    case CONF_TYPE_BOOL:
        strbuf_add(out, v->b ? "True" : "False");
        return NULL;
    case CONF_TYPE_INT:
        strbuf_addf(out, "%lld", (long long)v->i);
        return NULL;
    case CONF_TYPE_FLOAT:
        add_float(v->f, out);
        return NULL;
    case CONF_TYPE_STR:
        strbuf_add(out, v->s);
        return NULL;
    case CONF_TYPE_LIST:
    case CONF_TYPE_MULTI:
    case CONF_TYPE_DICTS:
    case CONF_TYPE_DICT:
        break;
    }
    return err_msg(ERR_CONFIG, "$%s is a list, which cannot be part of a text", ref);
}

/* The option that a reference means: in the group of the option that refers, or in [DEFAULT], or in
 * the group that it names. */
static struct err *find_reference(const char *ref, const char *group, const struct conf_opt **ret)
{
    const char *dot = strchr(ref, '.');
    CLEANUP(freep) char *named = dot ? str_ndup(ref, (size_t)(dot - ref)) : NULL;
    const struct conf_opt *opt;

    /* [DEFAULT] is no group that oslo could be referred to by name. */
    if (dot && (str_eq(named, "DEFAULT") || !conf_group_exists(named))) {
        return err_msg(ERR_CONFIG, "there is no group for $%s", ref);
    }
    opt = conf_opt_find(dot ? named : group, dot ? dot + 1 : ref);
    if (!opt && !dot && !conf_group_exists(ref)) {
        opt = conf_opt_find("DEFAULT", ref);
    }
    if (!opt) {
        return err_msg(ERR_CONFIG, "there is no option $%s", ref);
    }
    *ret = opt;
    return NULL;
}

static struct err *add_reference(struct conf_resolver *r, const char *ref, const char *group,
                                 struct strbuf *out)
{
    CLEANUP(conf_value_fini) struct conf_value value = {0};
    CLEANUP(freep) char *where = NULL;
    const struct conf_opt *opt = NULL;

    TRY(find_reference(ref, group, &opt));
    TRY_CTX(conf_resolve(r, opt, &value, &where), "$%s", ref);
    return add_as_text(&value, ref, out);
}

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '_';
}

/* Length of the name at s, or 0. */
static size_t name_len(const char *s)
{
    size_t len = is_name_start(*s);

    while (len && (is_name_start(s[len]) || isdigit((unsigned char)s[len]) || s[len] == '.')) {
        len++;
    }
    return len;
}

/* Escapes a dollar the way that the rest of the text has it: \$ becomes $$. */
static char *unify_escapes(const char *text)
{
    struct strbuf out = {0};

    for (const char *c = text; *c; c++) {
        strbuf_addc(&out, c[0] == '\\' && c[1] == '$' ? '$' : *c);
    }
    return strbuf_take(&out);
}

/* $name and ${name} are replaced, $$ and \$ are a dollar; any other dollar stays. */
static struct err *substitute(struct conf_resolver *r, const char *text, const char *group,
                              char **ret)
{
    CLEANUP(strbuf_fini) struct strbuf out = {0};
    CLEANUP(freep) char *copy = unify_escapes(text);

    for (const char *c = copy; *c; c++) {
        size_t brace = c[0] == '$' && c[1] == '{';
        size_t len = c[0] == '$' ? name_len(c + 1 + brace) : 0;

        if (len > 0 && (!brace || c[2 + len] == '}')) {
            CLEANUP(freep) char *ref = str_ndup(c + 1 + brace, len);

            TRY(add_reference(r, ref, group, &out));
            c += len + 2 * brace;
        } else {
            strbuf_addc(&out, *c);
            c += c[0] == '$' && c[1] == '$';
        }
    }
    *ret = strbuf_take(&out);
    return NULL;
}

/* ---- Resolving ---- */

/* The group in which an option stands: authentication may be described in another one. */
static struct err *group_of(struct conf_resolver *r, const struct conf_opt *opt, char **ret)
{
    CLEANUP(conf_value_fini) struct conf_value section = {0};
    CLEANUP(freep) char *where = NULL;

    if (opt->flags & CONF_AUTH && !str_eq(opt->name, "auth_section")) {
        TRY(conf_resolve(r, conf_opt_find(opt->group, "auth_section"), &section, &where));
    }
    *ret = str_is_empty(section.s) ? str_dup(opt->group) : TAKE(section.s);
    return NULL;
}

static const char *default_of(const struct conf_resolver *r, const struct conf_opt *opt)
{
    if (!(opt->flags & CONF_COMPUTED)) {
        return opt->def;
    }
    return str_eq(opt->name, "my_ip")       ? r->my_ip
           : str_eq(opt->name, "lock_path") ? getenv("OSLO_LOCK_PATH")
                                            : r->host;
}

static struct err *resolve_in(struct conf_resolver *r, const struct conf_opt *opt,
                              const char *group, struct conf_value *ret, char **ret_where)
{
    CLEANUP(conf_raw_fini) struct conf_raw raw = {{0}, NULL};
    CLEANUP(strv_fini) struct strv texts = {0};
    const char *def = default_of(r, opt);

    conf_sources_find(r->sources, opt, group, &raw);
    *ret_where = TAKE(raw.where);
    if (!*ret_where && (!def || (opt->type == CONF_TYPE_MULTI && !*def))) {
        ret->type = opt->type;
        ret->is_unset = !def;
        return NULL;
    }
    if (!*ret_where) {
        strv_add(&raw.values, def);
    }
    for (size_t i = 0; i < raw.values.n; i++) {
        char *text = NULL;

        TRY(substitute(r, raw.values.items[i], group, &text));
        strv_add_take(&texts, text);
    }
    return convert(opt, &texts, ret);
}

struct err *conf_resolve(struct conf_resolver *r, const struct conf_opt *opt,
                         struct conf_value *ret, char **ret_where)
{
    CLEANUP(freep) char *group = NULL;
    struct conf_value value = {0};
    struct err *e;

    for (size_t i = 0; i < r->n_pending; i++) {
        if (r->pending[i] == opt) {
            return err_msg(ERR_CONFIG, "[%s]%s refers to itself", opt->group, opt->name);
        }
    }
    if (r->n_pending == ARRAY_SIZE(r->pending)) {
        return err_msg(ERR_CONFIG, "too many options refer to each other");
    }
    r->pending[r->n_pending++] = opt;
    e = group_of(r, opt, &group);
    if (!e) {
        e = resolve_in(r, opt, group, &value, ret_where);
    }
    r->n_pending--;
    if (e) {
        conf_value_fini(&value);
        if (opt->flags & CONF_SECRET) {
            err_free(e);
            e = err_msg(ERR_CONFIG, "the value cannot be used (it is secret and not shown; a $ in "
                                    "it must be written $$)");
        }
        return e;
    }
    *ret = value;
    return NULL;
}

/* ---- In struct conf ---- */

void conf_value_store(struct conf_value *v, const struct conf_opt *opt, struct conf *conf)
{
    void *at = (char *)conf + opt->offset;

    switch (opt->type) {
    case CONF_TYPE_BOOL:
        *(bool *)at = v->b;
        return;
    case CONF_TYPE_INT:
        *(int64_t *)at = v->is_unset ? CONF_UNSET : v->i;
        return;
    case CONF_TYPE_FLOAT:
        *(double *)at = v->is_unset ? (double)NAN : v->f;
        return;
    case CONF_TYPE_STR:
        *(char **)at = TAKE(v->s);
        return;
    case CONF_TYPE_LIST:
    case CONF_TYPE_MULTI:
        *(struct strv *)at = v->list;
        v->list = (struct strv){0};
        return;
    case CONF_TYPE_DICTS:
        *(struct conf_dicts *)at = v->dicts;
        v->dicts = (struct conf_dicts){0};
        return;
    case CONF_TYPE_DICT:
        return;
    }
}

struct conf_value conf_value_peek(const struct conf *conf, const struct conf_opt *opt)
{
    const void *at = (const char *)conf + opt->offset;
    struct conf_value v = {.type = opt->type};

    switch (opt->type) {
    case CONF_TYPE_BOOL:
        v.b = *(const bool *)at;
        break;
    case CONF_TYPE_INT:
        v.i = *(const int64_t *)at;
        v.is_unset = v.i == CONF_UNSET;
        break;
    case CONF_TYPE_FLOAT:
        v.f = *(const double *)at;
        v.is_unset = !conf_is_set(v.f);
        break;
    case CONF_TYPE_STR:
        v.s = *(char *const *)at;
        v.is_unset = !v.s;
        break;
    case CONF_TYPE_LIST:
    case CONF_TYPE_MULTI:
        v.list = *(const struct strv *)at;
        break;
    case CONF_TYPE_DICTS:
        v.dicts = *(const struct conf_dicts *)at;
        break;
    case CONF_TYPE_DICT:
        break;
    }
    return v;
}

static struct strv dup_list(const struct strv *list)
{
    struct strv copy = {0};

    for (size_t i = 0; i < list->n; i++) {
        strv_add(&copy, list->items[i]);
    }
    return copy;
}

struct conf_value conf_value_dup(const struct conf_value *v)
{
    struct conf_value copy = *v;

    copy.s = str_dup(v->s);
    copy.list = dup_list(&v->list);
    copy.dicts = (struct conf_dicts){0};
    for (size_t i = 0; i < v->dicts.n; i++) {
        dicts_add(&copy.dicts, (struct conf_dict){dup_list(&v->dicts.items[i].keys),
                                                  dup_list(&v->dicts.items[i].values)});
    }
    return copy;
}

static bool lists_eq(const struct strv *a, const struct strv *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++) {
        if (!str_eq(a->items[i], b->items[i])) {
            return false;
        }
    }
    return a->n == b->n;
}

static bool dicts_eq(const struct conf_dicts *a, const struct conf_dicts *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++) {
        if (!lists_eq(&a->items[i].keys, &b->items[i].keys) ||
            !lists_eq(&a->items[i].values, &b->items[i].values)) {
            return false;
        }
    }
    return a->n == b->n;
}

bool conf_value_eq(const struct conf_value *a, const struct conf_value *b)
{
    bool is_number = a->type == CONF_TYPE_INT || a->type == CONF_TYPE_FLOAT;

    if (is_number && (a->is_unset || b->is_unset)) {
        return a->is_unset == b->is_unset;
    }
    return a->b == b->b && a->i == b->i && !(a->f < b->f) && !(a->f > b->f) && str_eq(a->s, b->s) &&
           lists_eq(&a->list, &b->list) && dicts_eq(&a->dicts, &b->dicts);
}

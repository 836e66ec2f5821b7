#include "rpc/objects/ovo.h"

#include "rpc/objects/objects.h"
#include "rpc/objects/ovo_impl.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KEY_NAME      "nova_object.name"
#define KEY_NAMESPACE "nova_object.namespace"
#define KEY_VERSION   "nova_object.version"
#define KEY_DATA      "nova_object.data"
#define KEY_CHANGES   "nova_object.changes"

/* Recurses as deep as classes contain each other, which no class does with itself. */
static struct err *decode_object(struct json_object *json, const struct ovo_class *cls,
                                 struct ovo **ret) MUST_CHECK;

bool ovo_is_wire_form(struct json_object *json)
{
    return json_object_is_type(json, json_type_object) &&
           json_object_object_get_ex(json, KEY_NAME, NULL);
}

/* ---- Values that have a form of their own ---- */

/* Exactly n digits at *p, which moves on. */
static bool digits(const char **p, int n, int *ret)
{
    *ret = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (!isdigit((unsigned char)**p)) {
            return false;
        }
        *ret = *ret * 10 + (**p - '0');
    }
    return true;
}

static bool one_of(const char **p, const char *chars)
{
    return **p && strchr(chars, *(*p)++);
}

/* What stands after the seconds: a fraction, which is dropped, and a zone. */
static bool date_tail(const char *p, int *ret_offset_min)
{
    int sign, hours, minutes = 0;

    if (*p == '.') {
        p++;
        if (!isdigit((unsigned char)*p)) {
            return false;
        }
        while (isdigit((unsigned char)*p)) {
            p++;
        }
    }
    *ret_offset_min = 0;
    if (!*p || str_eq(p, "Z")) {
        return true;
    }
    sign = *p == '-' ? -1 : 1;
    if (!one_of(&p, "+-") || !digits(&p, 2, &hours)) {
        return false;
    }
    if (*p) {
        p += *p == ':';
        if (!digits(&p, 2, &minutes)) {
            return false;
        }
    }
    *ret_offset_min = sign * (hours * 60 + minutes);
    return !*p && hours < 24 && minutes < 60;
}

char *ovo_date_normal(const char *s)
{
    struct tm tm = {0};
    int offset_min;
    time_t t;

    if (!digits(&s, 4, &tm.tm_year) || !one_of(&s, "-") || !digits(&s, 2, &tm.tm_mon) ||
        !one_of(&s, "-") || !digits(&s, 2, &tm.tm_mday) || !one_of(&s, "T ") ||
        !digits(&s, 2, &tm.tm_hour) || !one_of(&s, ":") || !digits(&s, 2, &tm.tm_min) ||
        !one_of(&s, ":") || !digits(&s, 2, &tm.tm_sec) || !date_tail(s, &offset_min)) {
        return NULL;
    }
    if (tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
        tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59) {
        return NULL;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    tm.tm_min -= offset_min;
    t = timegm(&tm);
    if (!gmtime_r(&t, &tm)) {
        return NULL;
    }
    return str_printf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                      tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static bool ip_is_valid(const char *s, enum ovo_type type)
{
    unsigned char addr[sizeof(struct in6_addr)];

    return (type != OVO_TYPE_IP6 && inet_pton(AF_INET, s, addr) == 1) ||
           (type != OVO_TYPE_IP4 && inet_pton(AF_INET6, s, addr) == 1);
}

/* A string that C can hold. */
static bool is_str(struct json_object *v)
{
    return json_object_is_type(v, json_type_string) &&
           strlen(json_object_get_string(v)) == (size_t)json_object_get_string_len(v);
}

/* Whether it is an integer that fits; json-c reads a larger one as unsigned or cuts it. */
static bool is_i64(struct json_object *v)
{
    return json_object_is_type(v, json_type_int) &&
           (json_object_get_int64(v) < 0 || json_object_get_uint64(v) <= INT64_MAX);
}

/* shape: '[' list of, '{' object of, then 'i' integers, 's' strings, 'n' strings or nulls. */
static bool has_shape(struct json_object *v, const char *shape)
{
    if (*shape == '[') {
        if (!json_object_is_type(v, json_type_array)) {
            return false;
        }
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            if (!has_shape(json_object_array_get_idx(v, i), shape + 1)) {
                return false;
            }
        }
        return true;
    }
    if (*shape == '{') {
        if (!json_object_is_type(v, json_type_object)) {
            return false;
        }
        json_object_object_foreach(v, key, val)
        {
            (void)key;
            if (!has_shape(val, shape + 1)) {
                return false;
            }
        }
        return true;
    }
    return *shape == 'i' ? is_i64(v) : is_str(v) || (*shape == 'n' && !v);
}

bool ovo_json_has_shape(struct json_object *v, enum ovo_type type)
{
    static const char *const shapes[] = {
        [OVO_TYPE_INTS] = "[i",      [OVO_TYPE_INT_MAP] = "{i",    [OVO_TYPE_INT_SET_MAP] = "{[i",
        [OVO_TYPE_INT_SETS] = "[[i", [OVO_TYPE_NSTR_MAPS] = "[{n", [OVO_TYPE_STRS_LIST] = "[[s",
        [OVO_TYPE_STRS_MAP] = "{[s",
    };

    assert(type < ARRAY_SIZE(shapes) && shapes[type]);
    return has_shape(v, shapes[type]);
}

/* ---- Reading ---- */

static struct err *decode_str(struct json_object *v, enum ovo_type type, char **ret)
{
    CLEANUP(freep) char *copy = NULL;
    const char *s;

    if (!is_str(v)) {
        return err_msg(ERR_PARSE, "%s, not %s", json_type_to_name(json_object_get_type(v)),
                       ovo_type_text(type));
    }
    s = json_object_get_string(v);
    if (type == OVO_TYPE_DT) {
        copy = ovo_date_normal(s);
    } else if ((type != OVO_TYPE_IP && type != OVO_TYPE_IP4 && type != OVO_TYPE_IP6) ||
               ip_is_valid(s, type)) {
        copy = str_dup(s);
    }
    if (!copy) {
        return err_msg(ERR_PARSE, "'%.64s' is not %s", s, ovo_type_text(type));
    }
    *ret = TAKE(copy);
    return NULL;
}

static bool word_is_true(const char *s)
{
    static const char *const words[] = {"1", "t", "true", "on", "y", "yes"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (str_ieq(s, words[i])) {
            return true;
        }
    }
    return false;
}

static bool decode_bool(struct json_object *v, enum ovo_type type, bool *ret)
{
    if (type == OVO_TYPE_FLEXBOOL && json_object_is_type(v, json_type_string)) {
        *ret = word_is_true(json_object_get_string(v));
        return true;
    }
    *ret = json_object_get_boolean(v);
    return json_object_is_type(v, json_type_boolean);
}

/* Nova writes entries of maps as they are, so numbers and booleans come too; as text they are what
 * Python makes of them. */
static bool map_value(struct json_object *v, enum ovo_type type, char **ret)
{
    switch (json_object_get_type(v)) {
    case json_type_null:
        *ret = NULL;
        return type == OVO_TYPE_NSTR_MAP;
    case json_type_boolean:
        *ret = str_dup(json_object_get_boolean(v) ? "True" : "False");
        return true;
    case json_type_string:
        if (!is_str(v)) {
            return false;
        }
        __attribute__((fallthrough));
    case json_type_int:
    case json_type_double:
        *ret = str_dup(json_object_get_string(v));
        return true;
    case json_type_array:
    case json_type_object:
        return false;
    }
    return false;
}

static bool decode_map(struct json_object *v, enum ovo_type type, struct ovo_map *map)
{
    if (!json_object_is_type(v, json_type_object)) {
        return false;
    }
    json_object_object_foreach(v, key, val)
    {
        char *text;

        if (!map_value(val, type, &text)) {
            return false;
        }
        ovo_map_append(map, str_dup(key), text);
    }
    return true;
}

static bool decode_strs(struct json_object *v, struct strv *strs)
{
    if (!has_shape(v, "[s")) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        strv_add(strs, json_object_get_string(json_object_array_get_idx(v, i)));
    }
    return true;
}

static struct err *decode_objects(struct json_object *v, const struct ovo_class *cls,
                                  struct ovo_list *list)
{
    if (!json_object_is_type(v, json_type_array)) {
        return err_msg(ERR_PARSE, "%s, not %s", json_type_to_name(json_object_get_type(v)),
                       ovo_type_text(OVO_TYPE_OBJS));
    }
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        struct ovo *item;

        TRY(decode_object(json_object_array_get_idx(v, i), cls, &item));
        ovo_list_append(list, item);
    }
    return NULL;
}

/* Fills a value, which stays consistent (half filled) on an error. */
static struct err *decode_value(struct json_object *v, const struct ovo_field *f,
                                union ovo_value *ret)
{
    bool is_good = true;

    switch (ovo_type_store(f->type)) {
    case OVO_STORE_STR:
        return decode_str(v, f->type, &ret->str);
    case OVO_STORE_OBJ:
        return decode_object(v, f->nested, &ret->obj);
    case OVO_STORE_OBJS:
        ret->list = NEW(struct ovo_list);
        return decode_objects(v, f->nested, ret->list);
    case OVO_STORE_INT_SET:
        ret->set = NEW(struct cpuset);
        return cpuset_from_json(v, ret->set);
    case OVO_STORE_INT:
        is_good = is_i64(v);
        ret->integer = json_object_get_int64(v);
        break;
    case OVO_STORE_FLOAT:
        is_good = json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int);
        ret->real = json_object_get_double(v);
        break;
    case OVO_STORE_BOOL:
        is_good = decode_bool(v, f->type, &ret->flag);
        break;
    case OVO_STORE_STRS:
        ret->strs = NEW(struct strv);
        is_good = decode_strs(v, ret->strs);
        break;
    case OVO_STORE_MAP:
        ret->map = NEW(struct ovo_map);
        is_good = decode_map(v, f->type, ret->map);
        break;
    case OVO_STORE_JSON:
        is_good = ovo_json_has_shape(v, f->type);
        ret->json = is_good ? jv_dup(v) : NULL;
        break;
    }
    return is_good ? NULL
                   : err_msg(ERR_PARSE, "%s, not %s", json_type_to_name(json_object_get_type(v)),
                             ovo_type_text(f->type));
}

/* The error with the place in front of its message, where a peer sees it too. */
static struct err *at_field(struct err *e, const struct ovo *o, const char *field)
{
    CLEANUP(err_freep) struct err *inner = e;

    if (!e || !err_is(e, ERR_PARSE)) {
        return TAKE(inner);
    }
    return err_msg(ERR_PARSE, "%s.%s: %s", o->cls->name, field, err_message(e));
}

static struct err *decode_field(struct ovo *o, unsigned i, struct json_object *v)
{
    const struct ovo_field *f = &o->cls->fields[i];
    union ovo_value *value = ovo_value_begin(o, i);

    if (v) {
        return at_field(decode_value(v, f, value), o, f->name);
    }
    if (!(f->flags & OVO_NULLABLE)) {
        return err_msg(ERR_PARSE, "%s.%s: null, not %s", o->cls->name, f->name,
                       ovo_type_text(f->type));
    }
    ovo_bit_put(o, OVO_BIT_NULL, i, true);
    return NULL;
}

/* Fields from an object of names to values; what is unknown, but for 'except', is kept aside. */
static struct err *decode_fields(struct ovo *o, struct json_object *data, const char *except)
{
    size_t n_known = 0;

    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        struct json_object *v;

        if (json_object_object_get_ex(data, o->cls->fields[i].name, &v)) {
            n_known++;
            TRY(decode_field(o, i, v));
        }
    }
    if (n_known == (size_t)json_object_object_length(data)) {
        return NULL;
    }
    json_object_object_foreach(data, key, val)
    {
        if (ovo_class_field(o->cls, key) < 0 && !str_eq(key, except)) {
            if (!o->unknown) {
                o->unknown = json_object_new_object();
            }
            jv_add(o->unknown, key, val ? jv_dup(val) : NULL);
        }
    }
    return NULL;
}

static struct err *decode_changes(struct ovo *o, struct json_object *changes)
{
    if (changes && !has_shape(changes, "[s")) {
        return err_msg(ERR_PARSE, "%s: the changes are no list of strings", o->cls->name);
    }
    for (size_t i = 0; changes && i < json_object_array_length(changes); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(changes, i));
        int field = ovo_class_field(o->cls, name);

        if (field >= 0 && ovo_bit(o, OVO_BIT_SET, (unsigned)field)) {
            ovo_bit_put(o, OVO_BIT_CHANGED, (unsigned)field, true);
        }
    }
    return NULL;
}

/* "X.Y" or "X.Y.Z". */
static bool parse_version(const char *s, unsigned *ret_major, unsigned *ret_minor)
{
    unsigned patch;
    int end = 0;

    if (strlen(s) > 12 || strspn(s, "0123456789.") != strlen(s)) {
        return false;
    }
    if (sscanf(s, "%4u.%4u%n", ret_major, ret_minor, &end) != 2) {
        return false;
    }
    return !s[end] || (s[end] == '.' && sscanf(s + end, ".%4u%n", &patch, &end) == 1);
}

/* The class that an object says to be, if it can stand for 'cls' (NULL: any). */
static struct err *find_class(const char *name, const char *namespace_, const char *version,
                              const struct ovo_class *cls, const struct ovo_class **ret,
                              unsigned *ret_minor)
{
    const struct ovo_class *found = ovo_class_find(name);
    unsigned major;

    if (!str_eq(namespace_, "nova")) {
        CLEANUP(freep) char *full = str_printf("%.64s.%.64s", namespace_, name);

        return err_new(ERR_UNSUPPORTED_OBJECT, "objtype", full, NULL);
    }
    if (!found) {
        return err_new(ERR_UNSUPPORTED_OBJECT, "objtype", name, NULL);
    }
    if (cls && !ovo_class_is(found, cls)) {
        return err_msg(ERR_PARSE, "an object of class %s, not %s", found->name, cls->name);
    }
    if (!parse_version(version, &major, ret_minor)) {
        return err_msg(ERR_PARSE, "%s: '%.64s' is no version", name, version);
    }
    if (major != found->versions[0].major) {
        const struct ovo_version *ours = ovo_class_version(found);
        CLEANUP(freep) char *supported = str_printf("%u.%u", ours->major, ours->minor);

        return err_new(ERR_INCOMPATIBLE_OBJECT_VERSION, "objname", name, "objver", version,
                       "supported", supported, NULL);
    }
    *ret = found;
    return NULL;
}

static struct err *decode_object(struct json_object *json, const struct ovo_class *cls,
                                 struct ovo **ret)
{
    struct jv_reader r = jv_reader_init(json, cls ? cls->name : "object");
    const char *name = jv_str(&r, KEY_NAME);
    const char *namespace_ = jv_str(&r, KEY_NAMESPACE);
    const char *version = jv_str(&r, KEY_VERSION);
    CLEANUP(ovo_freep) struct ovo *o = NULL;
    struct json_object *data = jv_get(json, KEY_DATA);
    unsigned minor;

    TRY(jv_finish(&r));
    TRY(find_class(name, namespace_, version, cls, &cls, &minor));
    if (!json_object_is_type(data, json_type_object)) {
        return err_msg(ERR_PARSE, "%s: no data", name);
    }
    o = ovo_new(cls);
    o->minor = minor;
    TRY(decode_fields(o, data, /* except= */ NULL));
    TRY(decode_changes(o, jv_get(json, KEY_CHANGES)));
    *ret = TAKE(o);
    return NULL;
}

struct err *ovo_from_json(struct json_object *json, const struct ovo_class *cls, struct ovo **ret)
{
    return decode_object(json, cls, ret);
}

struct err *ovo_merge_updates(struct ovo *o, struct json_object *updates)
{
    CLEANUP(ovo_freep) struct ovo *news = ovo_new(o->cls);

    if (!json_object_is_type(updates, json_type_object)) {
        return err_msg(ERR_PARSE, "%s: the updates are no object", o->cls->name);
    }
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        ovo_unset(news, i);
    }
    TRY(decode_fields(news, updates, "obj_what_changed"));
    if (!has_shape(jv_get(updates, "obj_what_changed"), "[s") &&
        jv_get(updates, "obj_what_changed")) {
        return err_msg(ERR_PARSE, "%s: obj_what_changed is no list of strings", o->cls->name);
    }
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        if (ovo_bit(news, OVO_BIT_SET, i)) {
            *ovo_value_begin(o, i) = news->values[i];
            ovo_bit_put(o, OVO_BIT_NULL, i, ovo_bit(news, OVO_BIT_NULL, i));
            news->values[i] = (union ovo_value){0};
        }
    }
    if (news->unknown && !o->unknown) {
        o->unknown = TAKE(news->unknown);
    } else if (news->unknown) {
        json_object_object_foreach(news->unknown, key, val)
        {
            jv_add(o->unknown, key, json_object_get(val));
        }
    }
    ovo_reset_changes(o, /* is_recursive= */ false);
    return decode_changes(o, jv_get(updates, "obj_what_changed"));
}

/* ---- Writing ---- */

enum mode { FULL, FOR_SAVE, FOR_LOG };

static struct json_object *encode_object(const struct ovo *o, enum mode);

static struct json_object *encode_list(const struct ovo_list *list, enum mode mode)
{
    struct json_object *array = json_object_new_array_ext((int)list->n);

    for (size_t i = 0; i < list->n; i++) {
        json_object_array_add(array, encode_object(list->items[i], mode));
    }
    return array;
}

static struct json_object *encode_strs(const struct strv *strs)
{
    struct json_object *array = json_object_new_array_ext((int)strs->n);

    for (size_t i = 0; i < strs->n; i++) {
        json_object_array_add(array, jv_new_str(strs->items[i]));
    }
    return array;
}

static struct json_object *encode_map(const struct ovo_map *map)
{
    struct json_object *object = json_object_new_object();

    for (size_t i = 0; i < map->n; i++) {
        jv_add_str(object, map->items[i].key, map->items[i].value);
    }
    return object;
}

static struct json_object *encode_value(const struct ovo *o, unsigned i, enum mode mode)
{
    const struct ovo_field *f = &o->cls->fields[i];
    const union ovo_value *v = &o->values[i];

    if (ovo_bit(o, OVO_BIT_NULL, i)) {
        return NULL;
    }
    if (mode == FOR_LOG && f->flags & OVO_SENSITIVE) {
        return jv_new_str("***");
    }
    switch (ovo_type_store(f->type)) {
    case OVO_STORE_STR:
        return jv_new_str(v->str);
    case OVO_STORE_INT:
        return json_object_new_int64(v->integer);
    case OVO_STORE_FLOAT:
        return json_object_new_double(v->real);
    case OVO_STORE_BOOL:
        return json_object_new_boolean(v->flag);
    case OVO_STORE_OBJ:
        return encode_object(v->obj, mode == FOR_SAVE ? FULL : mode);
    case OVO_STORE_OBJS:
        return encode_list(v->list, mode == FOR_SAVE ? FULL : mode);
    case OVO_STORE_STRS:
        return encode_strs(v->strs);
    case OVO_STORE_INT_SET:
        return cpuset_to_json(v->set);
    case OVO_STORE_MAP:
        return encode_map(v->map);
    case OVO_STORE_JSON:
        return jv_dup(v->json);
    }
    return NULL;
}

/* Conductor visits every object field that it gets, and stores pci_requests changed or not
 * (nova/objects/instance.py save).  It stores the three flavors together and reads back those that
 * it did not get, over the ones that it did. */
static bool is_needed_for_save(const struct ovo *o, unsigned i)
{
    static const unsigned flavors[] = {instance_F_flavor, instance_F_old_flavor,
                                       instance_F_new_flavor};
    bool is_flavor = false, flavor_has_changed = false;

    if (!o->cls->fields[i].nested || ovo_is_changed(o, i)) {
        return true;
    }
    for (size_t k = 0; o->cls == &instance_class && k < ARRAY_SIZE(flavors); k++) {
        is_flavor |= flavors[k] == i;
        flavor_has_changed |= ovo_is_changed(o, flavors[k]);
    }
    return is_flavor && flavor_has_changed;
}

static bool is_sent(const struct ovo *o, unsigned i, enum mode mode)
{
    return ovo_bit(o, OVO_BIT_SET, i) && o->cls->fields[i].flags >> 8 <= o->minor &&
           (mode != FOR_SAVE || is_needed_for_save(o, i));
}

static struct json_object *encode_data(const struct ovo *o, enum mode mode,
                                       struct json_object **ret_changes)
{
    struct json_object *data = json_object_new_object();

    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        if (!is_sent(o, i, mode)) {
            continue;
        }
        jv_add(data, o->cls->fields[i].name, encode_value(o, i, mode));
        if (ovo_is_changed(o, i)) {
            if (!*ret_changes) {
                *ret_changes = json_object_new_array();
            }
            json_object_array_add(*ret_changes, jv_new_str(o->cls->fields[i].name));
        }
    }
    if (o->unknown) {
        json_object_object_foreach(o->unknown, key, val)
        {
            jv_add(data, key, mode == FOR_LOG ? jv_new_str("***") : val ? jv_dup(val) : NULL);
        }
    }
    return data;
}

static struct json_object *encode_object(const struct ovo *o, enum mode mode)
{
    struct json_object *json = json_object_new_object(), *changes = NULL;
    CLEANUP(freep) char *version = ovo_version_text(o);

    jv_add_str(json, KEY_NAME, o->cls->name);
    jv_add_str(json, KEY_NAMESPACE, "nova");
    jv_add_str(json, KEY_VERSION, version);
    jv_add(json, KEY_DATA, encode_data(o, mode, &changes));
    if (changes) {
        jv_add(json, KEY_CHANGES, changes);
    }
    return json;
}

struct json_object *ovo_to_json(const struct ovo *o)
{
    return encode_object(o, FULL);
}

struct json_object *ovo_to_json_for_save(const struct ovo *o)
{
    return encode_object(o, FOR_SAVE);
}

char *ovo_text(const struct ovo *o)
{
    CLEANUP(jv_putp) struct json_object *json = encode_object(o, FOR_LOG);

    return jv_text(json);
}

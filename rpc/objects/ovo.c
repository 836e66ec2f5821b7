#include "rpc/objects/ovo.h"

#include "rpc/objects/ovo_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static size_t object_size(const struct ovo_class *cls)
{
    return sizeof(struct ovo) + cls->n_fields * sizeof(union ovo_value) +
           OVO_N_BITS * ovo_n_words(cls) * sizeof(uint64_t);
}

struct ovo *ovo_new(const struct ovo_class *cls)
{
    struct ovo *o = mem_alloc(object_size(cls));

    o->cls = cls;
    o->minor = ovo_class_version(cls)->minor;
    if (cls->is_list) {
        ovo_value_begin(o, 0)->list = NEW(struct ovo_list);
    }
    return o;
}

struct ovo *ovo_free(struct ovo *o)
{
    if (o) {
        for (unsigned i = 0; i < o->cls->n_fields; i++) {
            ovo_value_drop(o, i);
        }
        jv_putp(&o->unknown);
        free(o);
    }
    return NULL;
}

const struct ovo_class *ovo_class_of(const struct ovo *o)
{
    return o->cls;
}

struct ovo *ovo_cast(struct ovo *o, const struct ovo_class *cls)
{
    assert(!o || ovo_class_is(o->cls, cls));
    return o;
}

char *ovo_version_text(const struct ovo *o)
{
    return str_printf("%u.%u", o->cls->versions[0].major, o->minor);
}

unsigned ovo_minor(const struct ovo *o)
{
    return o->minor;
}

void ovo_set_minor(struct ovo *o, unsigned minor)
{
    o->minor = minor;
}

/* ---- Values ---- */

static void list_free(struct ovo_list *list)
{
    if (list) {
        for (size_t i = 0; i < list->n; i++) {
            ovo_free(list->items[i]);
        }
        free(list->items);
        free(list);
    }
}

static void map_free(struct ovo_map *map)
{
    if (map) {
        for (size_t i = 0; i < map->n; i++) {
            free(map->items[i].key);
            free(map->items[i].value);
        }
        free(map->items);
        free(map);
    }
}

static enum ovo_store store_of(const struct ovo *o, unsigned field)
{
    assert(field < o->cls->n_fields);
    return ovo_type_store(o->cls->fields[field].type);
}

void ovo_value_drop(struct ovo *o, unsigned field)
{
    union ovo_value *v = &o->values[field];

    switch (store_of(o, field)) {
    case OVO_STORE_STR:
        free(v->str);
        break;
    case OVO_STORE_OBJ:
        ovo_free(v->obj);
        break;
    case OVO_STORE_OBJS:
        list_free(v->list);
        break;
    case OVO_STORE_STRS:
        if (v->strs) {
            strv_fini(v->strs);
            free(v->strs);
        }
        break;
    case OVO_STORE_INT_SET:
        if (v->set) {
            cpuset_fini(v->set);
            free(v->set);
        }
        break;
    case OVO_STORE_MAP:
        map_free(v->map);
        break;
    case OVO_STORE_JSON:
        jv_putp(&v->json);
        break;
    case OVO_STORE_INT:
    case OVO_STORE_FLOAT:
    case OVO_STORE_BOOL:
        break;
    }
    *v = (union ovo_value){0};
    ovo_bit_put(o, OVO_BIT_SET, field, false);
    ovo_bit_put(o, OVO_BIT_NULL, field, false);
}

union ovo_value *ovo_value_begin(struct ovo *o, unsigned field)
{
    ovo_value_drop(o, field);
    ovo_bit_put(o, OVO_BIT_SET, field, true);
    return &o->values[field];
}

void ovo_map_append(struct ovo_map *map, char *key, char *value)
{
    map->items = mem_realloc(map->items, map->n + 1, sizeof(*map->items));
    map->items[map->n++] = (struct ovo_map_entry){key, value};
}

void ovo_list_append(struct ovo_list *list, struct ovo *o)
{
    list->items = mem_realloc(list->items, list->n + 1, sizeof(struct ovo *));
    list->items[list->n++] = o;
}

/* Fills an unset field with a copy of another object's. */
static void copy_value(struct ovo *o, const struct ovo *from, unsigned field)
{
    const union ovo_value *v = &from->values[field];
    union ovo_value *copy = ovo_value_begin(o, field);

    if (ovo_bit(from, OVO_BIT_NULL, field)) {
        ovo_bit_put(o, OVO_BIT_NULL, field, true);
        return;
    }
    switch (store_of(o, field)) {
    case OVO_STORE_STR:
        copy->str = str_dup(v->str);
        break;
    case OVO_STORE_OBJ:
        copy->obj = ovo_dup(v->obj);
        break;
    case OVO_STORE_OBJS:
        copy->list = NEW(struct ovo_list);
        for (size_t i = 0; i < v->list->n; i++) {
            ovo_list_append(copy->list, ovo_dup(v->list->items[i]));
        }
        break;
    case OVO_STORE_STRS:
        copy->strs = NEW(struct strv);
        for (size_t i = 0; i < v->strs->n; i++) {
            strv_add(copy->strs, v->strs->items[i]);
        }
        break;
    case OVO_STORE_INT_SET:
        copy->set = NEW(struct cpuset);
        *copy->set = cpuset_dup(v->set);
        break;
    case OVO_STORE_MAP:
        copy->map = NEW(struct ovo_map);
        for (size_t i = 0; i < v->map->n; i++) {
            ovo_map_append(copy->map, str_dup(v->map->items[i].key),
                           str_dup(v->map->items[i].value));
        }
        break;
    case OVO_STORE_JSON:
        copy->json = jv_dup(v->json);
        break;
    case OVO_STORE_INT:
    case OVO_STORE_FLOAT:
    case OVO_STORE_BOOL:
        *copy = *v;
        break;
    }
}

struct ovo *ovo_dup(const struct ovo *from)
{
    struct ovo *o;

    if (!from) {
        return NULL;
    }
    o = mem_alloc(object_size(from->cls));
    o->cls = from->cls;
    o->minor = from->minor;
    o->unknown = from->unknown ? jv_dup(from->unknown) : NULL;
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        if (ovo_bit(from, OVO_BIT_SET, i)) {
            copy_value(o, from, i);
        }
    }
    memcpy(ovo_bits(o, OVO_BIT_CHANGED), ovo_bits(from, OVO_BIT_CHANGED),
           ovo_n_words(o->cls) * sizeof(uint64_t));
    return o;
}

void ovo_load(struct ovo *o, const struct ovo *fresh)
{
    assert(o->cls == fresh->cls);
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        if (!ovo_bit(o, OVO_BIT_SET, i) && ovo_bit(fresh, OVO_BIT_SET, i)) {
            copy_value(o, fresh, i);
        }
    }
}

static bool map_is_equal(const struct ovo *a, const struct ovo *b, unsigned field)
{
    const struct ovo_map *map = a->values[field].map, *other = b->values[field].map;

    if (map->n != other->n) {
        return false;
    }
    for (size_t i = 0; i < map->n; i++) {
        const struct ovo_map_entry *e = &map->items[i];
        size_t k = 0;

        while (k < other->n && !str_eq(other->items[k].key, e->key)) {
            k++;
        }
        if (k == other->n || !str_eq(other->items[k].value, e->value)) {
            return false;
        }
    }
    return true;
}

static bool strs_are_equal(const struct ovo *a, const struct ovo *b, unsigned field)
{
    const struct strv *strs = a->values[field].strs, *others = b->values[field].strs;
    bool is_set = a->cls->fields[field].type == OVO_TYPE_STR_SET;

    if (strs->n != others->n) {
        return false;
    }
    for (size_t i = 0; i < strs->n; i++) {
        if (is_set ? !strv_has(others, strs->items[i])
                   : !str_eq(strs->items[i], others->items[i])) {
            return false;
        }
    }
    return true;
}

static bool lists_are_equal(const struct ovo_list *a, const struct ovo_list *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (!ovo_is_equal(a->items[i], b->items[i], /* ignored= */ NULL)) {
            return false;
        }
    }
    return true;
}

static bool field_is_equal(const struct ovo *a, const struct ovo *b, unsigned field)
{
    const union ovo_value *v = &a->values[field], *w = &b->values[field];

    if (ovo_has(a, field) != ovo_has(b, field) ||
        ovo_bit(a, OVO_BIT_NULL, field) != ovo_bit(b, OVO_BIT_NULL, field)) {
        return false;
    }
    if (!ovo_has(a, field) || ovo_bit(a, OVO_BIT_NULL, field)) {
        return true;
    }
    switch (store_of(a, field)) {
    case OVO_STORE_STR:
        return str_eq(v->str, w->str);
    case OVO_STORE_INT:
        return v->integer == w->integer;
    case OVO_STORE_FLOAT:
        return v->real >= w->real && v->real <= w->real;
    case OVO_STORE_BOOL:
        return v->flag == w->flag;
    case OVO_STORE_OBJ:
        return ovo_is_equal(v->obj, w->obj, /* ignored= */ NULL);
    case OVO_STORE_OBJS:
        return lists_are_equal(v->list, w->list);
    case OVO_STORE_STRS:
        return strs_are_equal(a, b, field);
    case OVO_STORE_INT_SET:
        return cpuset_eq(v->set, w->set);
    case OVO_STORE_MAP:
        return map_is_equal(a, b, field);
    case OVO_STORE_JSON:
        return json_object_equal(v->json, w->json);
    }
    return false;
}

bool ovo_is_equal(const struct ovo *a, const struct ovo *b, const char *const *ignored)
{
    if (a->cls != b->cls) {
        return false;
    }
    for (unsigned i = 0; i < a->cls->n_fields; i++) {
        const char *const *name = ignored;

        while (name && *name && !str_eq(*name, a->cls->fields[i].name)) {
            name++;
        }
        if (!(name && *name) && !field_is_equal(a, b, i)) {
            return false;
        }
    }
    return true;
}

/* ---- What is set, null, changed ---- */

bool ovo_has(const struct ovo *o, unsigned field)
{
    assert(field < o->cls->n_fields);
    return ovo_bit(o, OVO_BIT_SET, field);
}

bool ovo_is_null(const struct ovo *o, unsigned field)
{
    assert(ovo_has(o, field));
    return ovo_bit(o, OVO_BIT_NULL, field);
}

bool ovo_is_changed(const struct ovo *o, unsigned field)
{
    if (ovo_bit(o, OVO_BIT_CHANGED, field)) {
        return true;
    }
    if (!ovo_has(o, field) || ovo_bit(o, OVO_BIT_NULL, field)) {
        return false;
    }
    if (store_of(o, field) == OVO_STORE_OBJ) {
        return ovo_has_changes(o->values[field].obj);
    }
    if (o->cls->is_list) {
        const struct ovo_list *list = o->values[field].list;

        for (size_t i = 0; i < list->n; i++) {
            if (ovo_has_changes(list->items[i])) {
                return true;
            }
        }
    }
    return false;
}

bool ovo_has_changes(const struct ovo *o)
{
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        if (ovo_is_changed(o, i)) {
            return true;
        }
    }
    return false;
}

void ovo_reset_changes(struct ovo *o, bool is_recursive)
{
    for (unsigned i = 0; i < o->cls->n_fields; i++) {
        ovo_bit_put(o, OVO_BIT_CHANGED, i, false);
        if (!is_recursive || !ovo_bit(o, OVO_BIT_SET, i) || ovo_bit(o, OVO_BIT_NULL, i)) {
            continue;
        }
        if (store_of(o, i) == OVO_STORE_OBJ) {
            ovo_reset_changes(o->values[i].obj, true);
        } else if (store_of(o, i) == OVO_STORE_OBJS) {
            for (size_t k = 0; k < o->values[i].list->n; k++) {
                ovo_reset_changes(o->values[i].list->items[k], true);
            }
        }
    }
}

void ovo_unset(struct ovo *o, unsigned field)
{
    ovo_value_drop(o, field);
    ovo_bit_put(o, OVO_BIT_CHANGED, field, false);
}

/* The value of a field to be filled, which counts as changed from now on. */
static union ovo_value *change(struct ovo *o, unsigned field, enum ovo_store store)
{
    assert(store_of(o, field) == store);
    assert(!ovo_has(o, field) || !(o->cls->fields[field].flags & OVO_READONLY));
    ovo_bit_put(o, OVO_BIT_CHANGED, field, true);
    return ovo_value_begin(o, field);
}

void ovo_set_null(struct ovo *o, unsigned field)
{
    assert(o->cls->fields[field].flags & OVO_NULLABLE);
    if (o->cls->fields[field].flags & OVO_READONLY && ovo_has(o, field) && ovo_is_null(o, field)) {
        return;
    }
    change(o, field, store_of(o, field));
    ovo_bit_put(o, OVO_BIT_NULL, field, true);
}

/* The value of a set field that is not null, or NULL. */
static const union ovo_value *value(const struct ovo *o, unsigned field, enum ovo_store store)
{
    assert(store_of(o, field) == store);
    return ovo_is_null(o, field) ? NULL : &o->values[field];
}

/* ---- Scalars ---- */

const char *ovo_get_str(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_STR);

    return v ? v->str : NULL;
}

void ovo_set_str(struct ovo *o, unsigned field, const char *s)
{
    CLEANUP(freep) char *copy = NULL;

    if (!s) {
        ovo_set_null(o, field);
        return;
    }
    copy = o->cls->fields[field].type == OVO_TYPE_DT ? ovo_date_normal(s) : NULL;
    if (!copy) {
        copy = str_dup(s); /* May be the value itself. */
    }
    if (o->cls->fields[field].flags & OVO_READONLY && ovo_has(o, field) &&
        str_eq(ovo_get_str(o, field), copy)) {
        return;
    }
    change(o, field, OVO_STORE_STR)->str = TAKE(copy);
}

int64_t ovo_get_int(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_INT);

    assert(v);
    return v->integer;
}

void ovo_set_int(struct ovo *o, unsigned field, int64_t n)
{
    if (o->cls->fields[field].flags & OVO_READONLY && ovo_has(o, field) &&
        ovo_get_int(o, field) == n) {
        return;
    }
    change(o, field, OVO_STORE_INT)->integer = n;
}

double ovo_get_float(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_FLOAT);

    assert(v);
    return v->real;
}

void ovo_set_float(struct ovo *o, unsigned field, double n)
{
    change(o, field, OVO_STORE_FLOAT)->real = n;
}

bool ovo_get_bool(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_BOOL);

    assert(v);
    return v->flag;
}

void ovo_set_bool(struct ovo *o, unsigned field, bool flag)
{
    change(o, field, OVO_STORE_BOOL)->flag = flag;
}

/* ---- Objects, lists, maps ---- */

struct ovo *ovo_get_obj(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_OBJ);

    return v ? v->obj : NULL;
}

void ovo_set_obj(struct ovo *o, unsigned field, struct ovo *obj)
{
    if (!obj) {
        ovo_set_null(o, field);
        return;
    }
    ovo_cast(obj, o->cls->fields[field].nested);
    assert(!ovo_has(o, field) || o->values[field].obj != obj);
    change(o, field, OVO_STORE_OBJ)->obj = obj;
}

size_t ovo_n(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = &o->values[field];
    enum ovo_store store = store_of(o, field);

    if (ovo_is_null(o, field)) {
        return 0;
    }
    assert(store == OVO_STORE_OBJS || store == OVO_STORE_STRS || store == OVO_STORE_MAP);
    return store == OVO_STORE_OBJS ? v->list->n : store == OVO_STORE_STRS ? v->strs->n : v->map->n;
}

void ovo_clear(struct ovo *o, unsigned field)
{
    enum ovo_store store = store_of(o, field);
    union ovo_value *v;

    v = change(o, field, store);
    if (store == OVO_STORE_OBJS) {
        v->list = NEW(struct ovo_list);
    } else if (store == OVO_STORE_STRS) {
        v->strs = NEW(struct strv);
    } else if (store == OVO_STORE_INT_SET) {
        v->set = NEW(struct cpuset);
    } else {
        assert(store == OVO_STORE_MAP);
        v->map = NEW(struct ovo_map);
    }
}

/* The list or map of a field, made if it is unset or null; it counts as changed. */
static union ovo_value *collection(struct ovo *o, unsigned field, enum ovo_store store)
{
    assert(store_of(o, field) == store);
    if (!ovo_has(o, field) || ovo_is_null(o, field)) {
        ovo_clear(o, field);
    }
    ovo_bit_put(o, OVO_BIT_CHANGED, field, true);
    return &o->values[field];
}

struct ovo *ovo_obj_at(const struct ovo *o, unsigned field, size_t i)
{
    const union ovo_value *v = value(o, field, OVO_STORE_OBJS);

    assert(v && i < v->list->n);
    return v->list->items[i];
}

void ovo_obj_add(struct ovo *o, unsigned field, struct ovo *obj)
{
    assert(obj);
    ovo_cast(obj, o->cls->fields[field].nested);
    ovo_list_append(collection(o, field, OVO_STORE_OBJS)->list, obj);
}

struct ovo *ovo_obj_take(struct ovo *o, unsigned field, size_t i)
{
    struct ovo_list *list = collection(o, field, OVO_STORE_OBJS)->list;
    struct ovo *obj;

    assert(i < list->n);
    obj = list->items[i];
    memmove(list->items + i, list->items + i + 1, (list->n - i - 1) * sizeof(struct ovo *));
    list->n--;
    return obj;
}

const char *ovo_str_at(const struct ovo *o, unsigned field, size_t i)
{
    const union ovo_value *v = value(o, field, OVO_STORE_STRS);

    assert(v && i < v->strs->n);
    return v->strs->items[i];
}

void ovo_str_add(struct ovo *o, unsigned field, const char *s)
{
    struct strv *strs = collection(o, field, OVO_STORE_STRS)->strs;

    if (o->cls->fields[field].type != OVO_TYPE_STR_SET || !strv_has(strs, s)) {
        strv_add(strs, s);
    }
}

bool ovo_str_contains(const struct ovo *o, unsigned field, const char *s)
{
    const union ovo_value *v = value(o, field, OVO_STORE_STRS);

    return v && strv_has(v->strs, s);
}

static struct ovo_map_entry *find_entry(const struct ovo_map *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++) {
        if (str_eq(map->items[i].key, key)) {
            return &map->items[i];
        }
    }
    return NULL;
}

const char *ovo_map_get(const struct ovo *o, unsigned field, const char *key)
{
    const union ovo_value *v = value(o, field, OVO_STORE_MAP);
    const struct ovo_map_entry *e = v ? find_entry(v->map, key) : NULL;

    return e ? e->value : NULL;
}

void ovo_map_put(struct ovo *o, unsigned field, const char *key, const char *s)
{
    bool was_changed = ovo_bit(o, OVO_BIT_CHANGED, field);
    bool was_set = ovo_has(o, field) && !ovo_is_null(o, field);
    struct ovo_map *map = collection(o, field, OVO_STORE_MAP)->map;
    struct ovo_map_entry *e = find_entry(map, key);

    assert(s || o->cls->fields[field].type == OVO_TYPE_NSTR_MAP);
    if (!e) {
        ovo_map_append(map, str_dup(key), str_dup(s));
    } else if (!str_eq(e->value, s)) {
        str_set(&e->value, s);
    } else {
        ovo_bit_put(o, OVO_BIT_CHANGED, field, was_changed || !was_set);
    }
}

void ovo_map_del(struct ovo *o, unsigned field, const char *key)
{
    const union ovo_value *v = value(o, field, OVO_STORE_MAP);
    struct ovo_map_entry *e = v ? find_entry(v->map, key) : NULL;

    if (e) {
        free(e->key);
        free(e->value);
        *e = v->map->items[--v->map->n];
        ovo_bit_put(o, OVO_BIT_CHANGED, field, true);
    }
}

void ovo_map_at(const struct ovo *o, unsigned field, size_t i, const char **ret_key,
                const char **ret_value)
{
    const union ovo_value *v = value(o, field, OVO_STORE_MAP);

    assert(v && i < v->map->n);
    *ret_key = v->map->items[i].key;
    *ret_value = v->map->items[i].value;
}

const struct cpuset *ovo_get_set(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_INT_SET);

    return v ? v->set : NULL;
}

void ovo_set_set(struct ovo *o, unsigned field, const struct cpuset *set)
{
    struct cpuset copy;

    if (!set) {
        ovo_set_null(o, field);
        return;
    }
    copy = cpuset_dup(set); /* May be the value itself. */
    change(o, field, OVO_STORE_INT_SET)->set = mem_dup(&copy, sizeof(copy));
}

struct json_object *ovo_get_json(const struct ovo *o, unsigned field)
{
    const union ovo_value *v = value(o, field, OVO_STORE_JSON);

    return v ? v->json : NULL;
}

void ovo_set_json(struct ovo *o, unsigned field, struct json_object *json)
{
    if (!json) {
        ovo_set_null(o, field);
        return;
    }
    assert(ovo_json_has_shape(json, o->cls->fields[field].type));
    change(o, field, OVO_STORE_JSON)->json = json;
}

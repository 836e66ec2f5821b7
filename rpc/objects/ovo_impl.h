#pragma once

/* How a versioned object is kept; for rpc/objects/ovo*.c only.
 *
 * One block of memory: the values, 8 bytes each, then three bit maps (set, null, changed). */

#include "rpc/objects/ovo.h"

enum ovo_store {
    OVO_STORE_STR,
    OVO_STORE_INT,
    OVO_STORE_FLOAT,
    OVO_STORE_BOOL,
    OVO_STORE_OBJ,
    OVO_STORE_OBJS,
    OVO_STORE_STRS,
    OVO_STORE_INT_SET,
    OVO_STORE_MAP,
    OVO_STORE_JSON,
};

enum ovo_bit { OVO_BIT_SET, OVO_BIT_NULL, OVO_BIT_CHANGED, OVO_N_BITS };

struct ovo_list {
    struct ovo **items;
    size_t n;
};

struct ovo_map_entry {
    char *key;
    char *value; /* NULL: null. */
};

struct ovo_map {
    struct ovo_map_entry *items;
    size_t n;
};

union ovo_value {
    char *str;
    int64_t integer;
    double real;
    bool flag;
    struct ovo *obj;
    struct ovo_list *list;
    struct strv *strs;
    struct cpuset *set;
    struct ovo_map *map;
    struct json_object *json;
};

struct ovo {
    const struct ovo_class *cls;
    struct json_object *unknown; /* Fields of a later version, or NULL. */
    unsigned minor;              /* Of the class's one major version. */
    union ovo_value values[];
};

static inline size_t ovo_n_words(const struct ovo_class *cls)
{
    return (cls->n_fields + 63) / 64;
}

static inline uint64_t *ovo_bits(const struct ovo *o, enum ovo_bit bit)
{
    return (uint64_t *)(o->values + o->cls->n_fields) + bit * ovo_n_words(o->cls);
}

static inline bool ovo_bit(const struct ovo *o, enum ovo_bit bit, unsigned field)
{
    return ovo_bits(o, bit)[field / 64] >> field % 64 & 1;
}

static inline void ovo_bit_put(struct ovo *o, enum ovo_bit bit, unsigned field, bool value)
{
    uint64_t *word = &ovo_bits(o, bit)[field / 64];

    *word = (*word & ~(UINT64_C(1) << field % 64)) | (uint64_t)value << field % 64;
}

enum ovo_store ovo_type_store(enum ovo_type);
/* "a list of strings" */
const char *ovo_type_text(enum ovo_type);

/* Releases the value; the field is unset. */
void ovo_value_drop(struct ovo *, unsigned field);
/* Makes a field set and not null; what it had is released.  The value is zero: the caller fills it.
 */
union ovo_value *ovo_value_begin(struct ovo *, unsigned field);
/* The map's or the list's new entry at the end; consumes. */
void ovo_map_append(struct ovo_map *, char *key, char *value);
void ovo_list_append(struct ovo_list *, struct ovo *);
/* Whether a value has the shape of a type that is kept as JSON. */
bool ovo_json_has_shape(struct json_object *, enum ovo_type);
/* A date as "YYYY-MM-DDTHH:MM:SSZ"; NULL if it is none. */
char *ovo_date_normal(const char *) MUST_CHECK;

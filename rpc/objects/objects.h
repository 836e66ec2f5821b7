#pragma once

/* Nova's objects as distinct types, with accessors made from the tables (rpc/objects/all.def).
 *
 * For every class C of the tables there is an opaque 'struct C' (which is a struct ovo) and
 *
 *     extern const struct ovo_class C_class;
 *     struct ovo *C_ovo(struct C *);
 *     struct C *C_of(struct ovo *);             asserts the class
 *     struct C *C_new(void);   C_free   C_freep   C_dup
 *     struct err *C_from_json(struct json_object *, struct C **ret);
 *     struct json_object *C_to_json(const struct C *);
 *
 * and for every field F, whatever its type,
 *
 *     bool C_has_F(const struct C *);           is set
 *     bool C_isnull_F(const struct C *);        asserts set
 *     bool C_changed_F(const struct C *);
 *     void C_unset_F(struct C *);
 *     void C_set_null_F(struct C *);            nullable fields only
 *
 * and, according to how its type is kept (OVO_API_<type> below),
 *
 *     STR      const char *C_F(c);              NULL for null
 *              void C_set_F(c, const char *);   copies; NULL is null
 *     INT, BOOL, FLOAT
 *              int64_t | bool | double C_F(c);  asserts not null
 *              void C_set_F(c, value);
 *     OBJ      struct N *C_F(c);                borrowed, NULL for null
 *              void C_set_F(c, struct N *);     consumes; NULL is null
 *     OBJS     size_t C_n_F(c);                 0 for null
 *              struct N *C_F_at(c, i);          borrowed
 *              void C_F_add(c, struct N *);     consumes
 *              struct N *C_F_take(c, i);        out of the list, the caller's
 *              void C_clear_F(c);               an empty list, which is set
 *     STRS     C_n_F, const char *C_F_at(c, i), C_F_add(c, const char *), C_F_contains, C_clear_F
 *     INT_SET  const struct cpuset *C_F(c); C_set_F(c, const struct cpuset *) copies; C_clear_F
 *     MAP      const char *C_F_get(c, key);     NULL if absent or null
 *              C_F_put(c, key, value), C_F_del(c, key), C_F_n(c) or C_n_F(c),
 *              C_F_at(c, i, &key, &value), C_clear_F
 *     JSON     struct json_object *C_F(c);      borrowed; C_set_F(c, json) consumes
 *
 * List classes (one field 'objects') have the short C_n(c), C_at(c, i), C_add(c, o) and C_take(c,
 * i).
 *
 * Getters assert that the field is set.  What a peer sent may leave any field unset: ask first
 * where that is not excluded.  Thread-safety, ownership, versions: rpc/objects/ovo.h. */

#include "rpc/objects/ovo.h"

#define OVO_CLASS(c, name)                                                                         \
    struct c;                                                                                      \
    extern const struct ovo_class c##_class;
#include "rpc/objects/all.def"

/* C_F_x: the index of field x. */
#define OVO_CLASS(c, name)                                                                         \
    enum c##_field                                                                                 \
    {
#define OVO_FIELD(c, type, field, flags)        c##_F_##field,
#define OVO_FIELD_OBJ(c, field, nested, flags)  c##_F_##field,
#define OVO_FIELD_OBJS(c, field, nested, flags) c##_F_##field,
#define OVO_END(c)                                                                                 \
    c##_N_FIELDS                                                                                   \
    }                                                                                              \
    ;
#include "rpc/objects/all.def"

#define OVO_CLASS(c, name)                                                                         \
    static inline struct ovo *c##_ovo(struct c *o)                                                 \
    {                                                                                              \
        return (struct ovo *)o;                                                                    \
    }                                                                                              \
    static inline struct c *c##_of(struct ovo *o)                                                  \
    {                                                                                              \
        return (struct c *)ovo_cast(o, &c##_class);                                                \
    }                                                                                              \
    MUST_CHECK static inline struct c *c##_new(void)                                               \
    {                                                                                              \
        return (struct c *)ovo_new(&c##_class);                                                    \
    }                                                                                              \
    static inline struct c *c##_free(struct c *o)                                                  \
    {                                                                                              \
        return (struct c *)ovo_free((struct ovo *)o);                                              \
    }                                                                                              \
    static inline void c##_freep(struct c **p)                                                     \
    {                                                                                              \
        *p = c##_free(*p);                                                                         \
    }                                                                                              \
    MUST_CHECK static inline struct c *c##_dup(const struct c *o)                                  \
    {                                                                                              \
        return (struct c *)ovo_dup((const struct ovo *)o);                                         \
    }                                                                                              \
    MUST_CHECK static inline struct err *c##_from_json(struct json_object *json, struct c **ret)   \
    {                                                                                              \
        struct ovo *o = NULL;                                                                      \
                                                                                                   \
        TRY(ovo_from_json(json, &c##_class, &o));                                                  \
        *ret = (struct c *)o;                                                                      \
        return NULL;                                                                               \
    }                                                                                              \
    MUST_CHECK static inline struct json_object *c##_to_json(const struct c *o)                    \
    {                                                                                              \
        return ovo_to_json((const struct ovo *)o);                                                 \
    }
#include "rpc/objects/all.def"

/* What every field has. */
#define OVO_API_ANY(c, f)                                                                          \
    static inline bool c##_has_##f(const struct c *o)                                              \
    {                                                                                              \
        return ovo_has((const struct ovo *)o, c##_F_##f);                                          \
    }                                                                                              \
    static inline bool c##_isnull_##f(const struct c *o)                                           \
    {                                                                                              \
        return ovo_is_null((const struct ovo *)o, c##_F_##f);                                      \
    }                                                                                              \
    static inline bool c##_changed_##f(const struct c *o)                                          \
    {                                                                                              \
        return ovo_is_changed((const struct ovo *)o, c##_F_##f);                                   \
    }                                                                                              \
    static inline void c##_unset_##f(struct c *o)                                                  \
    {                                                                                              \
        ovo_unset((struct ovo *)o, c##_F_##f);                                                     \
    }                                                                                              \
    static inline void c##_set_null_##f(struct c *o)                                               \
    {                                                                                              \
        ovo_set_null((struct ovo *)o, c##_F_##f);                                                  \
    }

/* A getter and a setter. */
#define OVO_API_VALUE(c, f, ctype, kind)                                                           \
    OVO_API_ANY(c, f)                                                                              \
    static inline ctype c##_##f(const struct c *o)                                                 \
    {                                                                                              \
        return ovo_get_##kind((const struct ovo *)o, c##_F_##f);                                   \
    }                                                                                              \
    static inline void c##_set_##f(struct c *o, ctype value)                                       \
    {                                                                                              \
        ovo_set_##kind((struct ovo *)o, c##_F_##f, value);                                         \
    }

/* What lists and maps have. */
#define OVO_API_MANY(c, f)                                                                         \
    OVO_API_ANY(c, f)                                                                              \
    static inline size_t c##_n_##f(const struct c *o)                                              \
    {                                                                                              \
        return ovo_n((const struct ovo *)o, c##_F_##f);                                            \
    }                                                                                              \
    OVO_API_CLEAR(c, f)
#define OVO_API_CLEAR(c, f)                                                                        \
    static inline void c##_clear_##f(struct c *o)                                                  \
    {                                                                                              \
        ovo_clear((struct ovo *)o, c##_F_##f);                                                     \
    }

#define OVO_STORE_STR(c, f)   OVO_API_VALUE(c, f, const char *, str)
#define OVO_STORE_INT(c, f)   OVO_API_VALUE(c, f, int64_t, int)
#define OVO_STORE_FLOAT(c, f) OVO_API_VALUE(c, f, double, float)
#define OVO_STORE_BOOL(c, f)  OVO_API_VALUE(c, f, bool, bool)
#define OVO_STORE_JSON(c, f)  OVO_API_VALUE(c, f, struct json_object *, json)
#define OVO_STORE_INT_SET(c, f)                                                                    \
    OVO_API_VALUE(c, f, const struct cpuset *, set)                                                \
    OVO_API_CLEAR(c, f)
#define OVO_STORE_STRS(c, f)                                                                       \
    OVO_API_MANY(c, f)                                                                             \
    static inline const char *c##_##f##_at(const struct c *o, size_t i)                            \
    {                                                                                              \
        return ovo_str_at((const struct ovo *)o, c##_F_##f, i);                                    \
    }                                                                                              \
    static inline bool c##_##f##_contains(const struct c *o, const char *s)                        \
    {                                                                                              \
        return ovo_str_contains((const struct ovo *)o, c##_F_##f, s);                              \
    }                                                                                              \
    static inline void c##_##f##_add(struct c *o, const char *s)                                   \
    {                                                                                              \
        ovo_str_add((struct ovo *)o, c##_F_##f, s);                                                \
    }
#define OVO_STORE_MAP(c, f)                                                                        \
    OVO_API_MANY(c, f)                                                                             \
    static inline size_t c##_##f##_n(const struct c *o)                                            \
    {                                                                                              \
        return ovo_n((const struct ovo *)o, c##_F_##f);                                            \
    }                                                                                              \
    static inline const char *c##_##f##_get(const struct c *o, const char *key)                    \
    {                                                                                              \
        return ovo_map_get((const struct ovo *)o, c##_F_##f, key);                                 \
    }                                                                                              \
    static inline void c##_##f##_put(struct c *o, const char *key, const char *value)              \
    {                                                                                              \
        ovo_map_put((struct ovo *)o, c##_F_##f, key, value);                                       \
    }                                                                                              \
    static inline void c##_##f##_del(struct c *o, const char *key)                                 \
    {                                                                                              \
        ovo_map_del((struct ovo *)o, c##_F_##f, key);                                              \
    }                                                                                              \
    static inline void c##_##f##_at(const struct c *o, size_t i, const char **ret_key,             \
                                    const char **ret_value)                                        \
    {                                                                                              \
        ovo_map_at((const struct ovo *)o, c##_F_##f, i, ret_key, ret_value);                       \
    }

/* How a field of each type is kept, which decides its accessors.  Without arguments these are
 * values of enum ovo_store (rpc/objects/ovo_impl.h). */
#define OVO_API_STR         OVO_STORE_STR
#define OVO_API_ENUM        OVO_STORE_STR
#define OVO_API_UUID        OVO_STORE_STR
#define OVO_API_TEXT        OVO_STORE_STR
#define OVO_API_DT          OVO_STORE_STR
#define OVO_API_IP          OVO_STORE_STR
#define OVO_API_IP4         OVO_STORE_STR
#define OVO_API_IP6         OVO_STORE_STR
#define OVO_API_INT         OVO_STORE_INT
#define OVO_API_FLOAT       OVO_STORE_FLOAT
#define OVO_API_BOOL        OVO_STORE_BOOL
#define OVO_API_FLEXBOOL    OVO_STORE_BOOL
#define OVO_API_STRS        OVO_STORE_STRS
#define OVO_API_STR_SET     OVO_STORE_STRS
#define OVO_API_INT_SET     OVO_STORE_INT_SET
#define OVO_API_STR_MAP     OVO_STORE_MAP
#define OVO_API_NSTR_MAP    OVO_STORE_MAP
#define OVO_API_INTS        OVO_STORE_JSON
#define OVO_API_INT_MAP     OVO_STORE_JSON
#define OVO_API_INT_SET_MAP OVO_STORE_JSON
#define OVO_API_INT_SETS    OVO_STORE_JSON
#define OVO_API_NSTR_MAPS   OVO_STORE_JSON
#define OVO_API_STRS_LIST   OVO_STORE_JSON
#define OVO_API_STRS_MAP    OVO_STORE_JSON
#define OVO_API_OBJ         OVO_STORE_OBJ
#define OVO_API_OBJS        OVO_STORE_OBJS

#define OVO_FIELD(c, type, f, flags) OVO_API_##type(c, f)
#define OVO_FIELD_OBJ(c, f, nested, flags)                                                         \
    OVO_API_ANY(c, f)                                                                              \
    static inline struct nested *c##_##f(const struct c *o)                                        \
    {                                                                                              \
        return (struct nested *)ovo_get_obj((const struct ovo *)o, c##_F_##f);                     \
    }                                                                                              \
    static inline void c##_set_##f(struct c *o, struct nested *consumed)                           \
    {                                                                                              \
        ovo_set_obj((struct ovo *)o, c##_F_##f, (struct ovo *)consumed);                           \
    }
#define OVO_FIELD_OBJS(c, f, nested, flags)                                                        \
    OVO_API_MANY(c, f)                                                                             \
    static inline struct nested *c##_##f##_at(const struct c *o, size_t i)                         \
    {                                                                                              \
        return (struct nested *)ovo_obj_at((const struct ovo *)o, c##_F_##f, i);                   \
    }                                                                                              \
    static inline void c##_##f##_add(struct c *o, struct nested *consumed)                         \
    {                                                                                              \
        ovo_obj_add((struct ovo *)o, c##_F_##f, (struct ovo *)consumed);                           \
    }                                                                                              \
    MUST_CHECK static inline struct nested *c##_##f##_take(struct c *o, size_t i)                  \
    {                                                                                              \
        return (struct nested *)ovo_obj_take((struct ovo *)o, c##_F_##f, i);                       \
    }
#include "rpc/objects/all.def"

#define OVO_LIST(c, name, nested, release, major, minor, fingerprint)                              \
    static inline size_t c##_n(const struct c *o)                                                  \
    {                                                                                              \
        return c##_n_objects(o);                                                                   \
    }                                                                                              \
    static inline struct nested *c##_at(const struct c *o, size_t i)                               \
    {                                                                                              \
        return c##_objects_at(o, i);                                                               \
    }                                                                                              \
    static inline void c##_add(struct c *o, struct nested *consumed)                               \
    {                                                                                              \
        c##_objects_add(o, consumed);                                                              \
    }                                                                                              \
    MUST_CHECK static inline struct nested *c##_take(struct c *o, size_t i)                        \
    {                                                                                              \
        return c##_objects_take(o, i);                                                             \
    }
#include "rpc/objects/all.def"

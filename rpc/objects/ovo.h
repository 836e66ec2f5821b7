#pragma once

/* Versioned objects: what Nova's services send each other.
 *
 * A generic object over the tables of rpc/objects/all.def.  Everyone uses the distinct types and
 * accessors of rpc/objects/objects.h, which are made of the functions below; this header is for
 * those that handle objects of any class (envelope, conductor, dispatcher).
 *
 * A field is unset, null or has a value.  Unset is absent on the wire and differs from null;
 * reading an unset field asserts, loading one is an RPC.  A new object has no field set (a list
 * class: an empty list), Nova's defaults included.
 *
 * Changes follow oslo.versionedobjects: setting a field marks it changed, also to the value that it
 * has; a read-only field takes its first value, then only the same again.  Entries of a map count
 * when they differ.  A nested object with changes is a change of its parent, an object in a list
 * only of a list class.
 *
 * Versions: same major, any minor is read.  An object keeps the version that it came with; fields
 * that are later than it are not sent, and those that we do not know are kept and sent on.
 *
 * Reading is strict about types, and bounded: no class contains itself, so objects nest as deep as
 * the tables do and no deeper.  Values of enumerations are not checked, since later releases add
 * some.
 *
 * Source: oslo_versionedobjects/base.py and fields.py, nova/objects/base.py.
 *
 * Ownership: an object owns what is in it; getters lend.  Strings given to setters are copied,
 * objects and JSON are consumed.  Errors of reading: ERR_PARSE naming class and field,
 * ERR_INCOMPATIBLE_OBJECT_VERSION, ERR_UNSUPPORTED_OBJECT.
 * Thread-safety: an object belongs to one thread at a time; tables are constant. */

#include "base/cpuset.h"
#include "base/err.h"
#include "base/jv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Flags of a field. */
#define OVO_NULLABLE     0x01
#define OVO_READONLY     0x02
#define OVO_SENSITIVE    0x04           /* Printed as ***. */
#define OVO_SINCE(minor) ((minor) << 8) /* The class version that brought it. */

/* Releases of Nova that changed an object, in order. */
enum ovo_release {
    OVO_ZED,
    OVO_2023_2,
    OVO_2024_1,
    OVO_2024_2,
    OVO_2025_1,
    OVO_2025_2,
    OVO_2026_1,
    OVO_2026_2,
};

enum ovo_type {
#define OVO_TYPE(type, text) OVO_TYPE_##type,
#include "rpc/objects/types.def"
#undef OVO_TYPE
};

struct ovo_class;

struct ovo_field {
    const char *name;
    const struct ovo_class *nested; /* Of OBJ and OBJS. */
    enum ovo_type type;
    unsigned flags;
};

struct ovo_version {
    enum ovo_release release;
    unsigned major, minor;
    const char *fingerprint;
};

struct ovo_class {
    const char *name;
    const struct ovo_class *parent; /* NULL: none. */
    const struct ovo_version *versions;
    size_t n_versions;
    const struct ovo_field *fields;
    size_t n_fields;
    bool is_list;
};

/* The class of a name, or NULL. */
const struct ovo_class *ovo_class_find(const char *name);
/* All classes; NULL after the last. */
const struct ovo_class *ovo_class_at(size_t i);
/* Whether it is the class or one of its subclasses. */
bool ovo_class_is(const struct ovo_class *, const struct ovo_class *ancestor);
/* The index of a field, or -1. */
int ovo_class_field(const struct ovo_class *, const char *field);

/* Which release's versions new objects have and manifests ask for: Zed's until told otherwise.  Set
 * once, when the control plane's release is known; any thread. */
void ovo_set_release(enum ovo_release);
enum ovo_release ovo_release(void);
/* The version of a class in the release that is spoken. */
const struct ovo_version *ovo_class_version(const struct ovo_class *);
/* Class names to versions, for a class and what can be reached from it; the caller's. */
struct json_object *ovo_manifest(const struct ovo_class *) MUST_CHECK;

struct ovo;

struct ovo *ovo_new(const struct ovo_class *) MUST_CHECK;
struct ovo *ovo_free(struct ovo *);
static inline void ovo_freep(struct ovo **p)
{
    *p = ovo_free(*p);
}
struct ovo *ovo_dup(const struct ovo *) MUST_CHECK; /* NULL stays NULL. */
const struct ovo_class *ovo_class_of(const struct ovo *);
/* Asserts that it is of a class or a subclass; NULL stays NULL. */
struct ovo *ovo_cast(struct ovo *, const struct ovo_class *);
/* "2.7" */
char *ovo_version_text(const struct ovo *) MUST_CHECK;
unsigned ovo_minor(const struct ovo *);
/* Makes it an object of another minor version: which fields are sent depends on it. */
void ovo_set_minor(struct ovo *, unsigned minor);

/* The wire form.  'cls' NULL: whatever it says it is. */
struct err *ovo_from_json(struct json_object *, const struct ovo_class *cls, struct ovo **ret)
    MUST_CHECK;
struct json_object *ovo_to_json(const struct ovo *) MUST_CHECK;
/* The same with what saving needs only: objects in it that have not changed are left out. */
struct json_object *ovo_to_json_for_save(const struct ovo *) MUST_CHECK;
/* For a log: the wire form with sensitive fields as "***". */
char *ovo_text(const struct ovo *) MUST_CHECK;
/* Whether a JSON value is an object on the wire. */
bool ovo_is_wire_form(struct json_object *);
/* Takes the updates that conductor's object_action answered: fields get their values, and what is
 * changed is what conductor says.  On an error nothing is taken. */
struct err *ovo_merge_updates(struct ovo *, struct json_object *updates) MUST_CHECK;
/* Equal in class and fields, whatever has changed; 'ignored' is a NULL-terminated list or NULL. */
bool ovo_is_equal(const struct ovo *, const struct ovo *, const char *const *ignored);

bool ovo_has_changes(const struct ovo *);
void ovo_reset_changes(struct ovo *, bool is_recursive);
/* Gives 'o' the fields that it lacks and a fresh copy of the same record has; they do not count as
 * changed. */
void ovo_load(struct ovo *o, const struct ovo *fresh);

/* ---- Fields by index: what the accessors are made of. ---- */

bool ovo_has(const struct ovo *, unsigned field);
bool ovo_is_null(const struct ovo *, unsigned field); /* Asserts set, like the getters. */
bool ovo_is_changed(const struct ovo *, unsigned field);
void ovo_unset(struct ovo *, unsigned field);
void ovo_set_null(struct ovo *, unsigned field);

const char *ovo_get_str(const struct ovo *, unsigned field); /* NULL for null. */
/* NULL is null.  A date is kept as "YYYY-MM-DDTHH:MM:SSZ" if it is one. */
void ovo_set_str(struct ovo *, unsigned field, const char *);
/* A scalar that is null asserts: ask ovo_is_null first. */
int64_t ovo_get_int(const struct ovo *, unsigned field);
void ovo_set_int(struct ovo *, unsigned field, int64_t);
double ovo_get_float(const struct ovo *, unsigned field);
void ovo_set_float(struct ovo *, unsigned field, double);
bool ovo_get_bool(const struct ovo *, unsigned field);
void ovo_set_bool(struct ovo *, unsigned field, bool);

struct ovo *ovo_get_obj(const struct ovo *, unsigned field); /* NULL for null. */
void ovo_set_obj(struct ovo *, unsigned field, struct ovo *consumed);

/* Lists and maps: null and empty have 0 entries; adding to an unset or null one makes it. */
size_t ovo_n(const struct ovo *, unsigned field);
void ovo_clear(struct ovo *, unsigned field);
struct ovo *ovo_obj_at(const struct ovo *, unsigned field, size_t i);
void ovo_obj_add(struct ovo *, unsigned field, struct ovo *consumed);
/* Takes one out of the list; it is the caller's. */
struct ovo *ovo_obj_take(struct ovo *, unsigned field, size_t i) MUST_CHECK;
const char *ovo_str_at(const struct ovo *, unsigned field, size_t i);
void ovo_str_add(struct ovo *, unsigned field, const char *);
bool ovo_str_contains(const struct ovo *, unsigned field, const char *);
/* The value of a key; NULL if there is none or it is null. */
const char *ovo_map_get(const struct ovo *, unsigned field, const char *key);
void ovo_map_put(struct ovo *, unsigned field, const char *key, const char *value);
void ovo_map_del(struct ovo *, unsigned field, const char *key);
void ovo_map_at(const struct ovo *, unsigned field, size_t i, const char **ret_key,
                const char **ret_value);

const struct cpuset *ovo_get_set(const struct ovo *, unsigned field);  /* NULL for null. */
void ovo_set_set(struct ovo *, unsigned field, const struct cpuset *); /* NULL is null. */
struct json_object *ovo_get_json(const struct ovo *, unsigned field);  /* NULL for null. */
/* Of the shape that the field has, which is asserted; NULL is null. */
void ovo_set_json(struct ovo *, unsigned field, struct json_object *consumed);

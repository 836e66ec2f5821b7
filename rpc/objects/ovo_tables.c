#include "rpc/objects/objects.h"
#include "rpc/objects/ovo_impl.h"

#include <stdatomic.h>

#define OVO_CLASS(c, name)                             static const struct ovo_version c##_versions[] = {
#define OVO_VERSION(c, rel, major, minor, fingerprint) {OVO_##rel, major, minor, fingerprint},
#define OVO_END(c)                                                                                 \
    }                                                                                              \
    ;
#include "rpc/objects/all.def"

#define OVO_CLASS(c, name)                  static const struct ovo_field c##_fields[] = {
#define OVO_FIELD(c, type, f, flags)        {#f, NULL, OVO_TYPE_##type, flags},
#define OVO_FIELD_OBJ(c, f, nested, flags)  {#f, &nested##_class, OVO_TYPE_OBJ, flags},
#define OVO_FIELD_OBJS(c, f, nested, flags) {#f, &nested##_class, OVO_TYPE_OBJS, flags},
#define OVO_END(c)                                                                                 \
    }                                                                                              \
    ;
#include "rpc/objects/all.def"

#define CLASS_ROW(c, name_, parent_, is_list_)                                                     \
    const struct ovo_class c##_class = {                                                           \
        .name = #name_,                                                                            \
        .parent = (parent_),                                                                       \
        .versions = c##_versions,                                                                  \
        .n_versions = ARRAY_SIZE(c##_versions),                                                    \
        .fields = c##_fields,                                                                      \
        .n_fields = ARRAY_SIZE(c##_fields),                                                        \
        .is_list = (is_list_),                                                                     \
    };
#define OVO_CLASS(c, name)            CLASS_ROW(c, name, /* parent= */ NULL, /* is_list= */ false)
#define OVO_SUBCLASS(c, name, parent) CLASS_ROW(c, name, &parent##_class, /* is_list= */ false)
#define OVO_LIST(c, name, nested, release, major, minor, fingerprint)                              \
    CLASS_ROW(c, name, /* parent= */ NULL, /* is_list= */ true)
#include "rpc/objects/all.def"

static const struct ovo_class *const classes[] = {
#define OVO_CLASS(c, name) &c##_class,
#include "rpc/objects/all.def"
};

static const struct {
    enum ovo_store store;
    const char *text;
} types[] = {
#define OVO_TYPE(type, text) {OVO_API_##type, text},
#include "rpc/objects/types.def"
#undef OVO_TYPE
};

static _Atomic enum ovo_release spoken_release = OVO_ZED;

enum ovo_store ovo_type_store(enum ovo_type type)
{
    return types[type].store;
}

const char *ovo_type_text(enum ovo_type type)
{
    return types[type].text;
}

const struct ovo_class *ovo_class_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
        if (str_eq(classes[i]->name, name)) {
            return classes[i];
        }
    }
    return NULL;
}

const struct ovo_class *ovo_class_at(size_t i)
{
    return i < ARRAY_SIZE(classes) ? classes[i] : NULL;
}

bool ovo_class_is(const struct ovo_class *cls, const struct ovo_class *ancestor)
{
    while (cls && cls != ancestor) {
        cls = cls->parent;
    }
    return cls;
}

int ovo_class_field(const struct ovo_class *cls, const char *field)
{
    for (size_t i = 0; i < cls->n_fields; i++) {
        if (str_eq(cls->fields[i].name, field)) {
            return (int)i;
        }
    }
    return -1;
}

void ovo_set_release(enum ovo_release release)
{
    spoken_release = release;
}

enum ovo_release ovo_release(void)
{
    return spoken_release;
}

const struct ovo_version *ovo_class_version(const struct ovo_class *cls)
{
    size_t i = cls->n_versions - 1;

    while (i && cls->versions[i].release > spoken_release) {
        i--;
    }
    return &cls->versions[i];
}

static void add_to_manifest(const struct ovo_class *cls, struct json_object *manifest)
{
    const struct ovo_version *v = ovo_class_version(cls);
    CLEANUP(freep) char *text = NULL;

    if (jv_get(manifest, cls->name)) {
        return;
    }
    text = str_printf("%u.%u", v->major, v->minor);
    jv_add_str(manifest, cls->name, text);
    for (size_t i = 0; i < cls->n_fields; i++) {
        if (cls->fields[i].nested) {
            add_to_manifest(cls->fields[i].nested, manifest);
        }
    }
}

struct json_object *ovo_manifest(const struct ovo_class *cls)
{
    struct json_object *manifest = json_object_new_object();

    add_to_manifest(cls, manifest);
    return manifest;
}

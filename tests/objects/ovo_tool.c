/* The versioned objects for a test program: tests/objects/run.
 *
 *   ovo_tool dump         the tables as one JSON object
 *   ovo_tool echo         reads objects, one in a line; writes what they are after reading and
 * writing, or {"error": [class, message]} */

#include "rpc/objects/objects.h"

#include <stdio.h>

static const char *const type_names[] = {
#define OVO_TYPE(type, text) #type,
#include "rpc/objects/types.def"
#undef OVO_TYPE
};

static struct json_object *dump_class(const struct ovo_class *cls)
{
    struct json_object *out = json_object_new_object(), *fields = json_object_new_object();
    struct json_object *versions = json_object_new_object();

    for (size_t i = 0; i < cls->n_fields; i++) {
        const struct ovo_field *f = &cls->fields[i];
        struct json_object *field = json_object_new_object();

        jv_add_str(field, "type", type_names[f->type]);
        jv_add_str(field, "nested", f->nested ? f->nested->name : NULL);
        jv_add_bool(field, "nullable", f->flags & OVO_NULLABLE);
        jv_add_bool(field, "readonly", f->flags & OVO_READONLY);
        jv_add_bool(field, "sensitive", f->flags & OVO_SENSITIVE);
        jv_add_int(field, "since", f->flags >> 8);
        jv_add(fields, f->name, field);
    }
    for (size_t i = 0; i < cls->n_versions; i++) {
        CLEANUP(freep)
        char *v = str_printf("%u.%u", cls->versions[i].major, cls->versions[i].minor);

        jv_add_str(versions, v, cls->versions[i].fingerprint);
    }
    jv_add_str(out, "parent", cls->parent ? cls->parent->name : NULL);
    jv_add(out, "fields", fields);
    jv_add(out, "versions", versions);
    jv_add(out, "manifest", ovo_manifest(cls));
    return out;
}

static void dump(void)
{
    CLEANUP(jv_putp) struct json_object *out = json_object_new_object();
    CLEANUP(freep) char *text = NULL;

    for (size_t i = 0; ovo_class_at(i); i++) {
        jv_add(out, ovo_class_at(i)->name, dump_class(ovo_class_at(i)));
    }
    text = jv_text(out);
    puts(text);
}

static struct err *echo_line(const char *line, size_t len, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(ovo_freep) struct ovo *o = NULL, *copy = NULL;

    TRY(jv_parse(line, len, &json));
    TRY(ovo_from_json(json, /* cls= */ NULL, &o));
    copy = ovo_dup(o);
    *ret = ovo_to_json(copy);
    return NULL;
}

static void echo(void)
{
    CLEANUP(freep) char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, stdin)) > 0) {
        CLEANUP(jv_putp) struct json_object *out = NULL;
        CLEANUP(err_freep) struct err *e = echo_line(line, (size_t)n - 1, &out);
        CLEANUP(freep) char *text = NULL;

        if (e) {
            struct json_object *what = json_object_new_array();

            json_object_array_add(what, jv_new_str(err_class(e)));
            json_object_array_add(what, jv_new_str(err_message(e)));
            out = json_object_new_object();
            jv_add(out, "error", what);
        }
        text = jv_text(out);
        puts(text);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && str_eq(argv[1], "dump")) {
        dump();
    } else if (argc == 2 && str_eq(argv[1], "echo")) {
        echo();
    } else {
        fputs("usage: ovo_tool dump|echo\n", stderr);
        return 2;
    }
    return 0;
}

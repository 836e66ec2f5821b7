/* What our configuration code makes of a command line, as JSON, for compare.py.
 *
 *   conf_dump [OPTION]...   {"[group]name": VALUE, ...}, with {"error": TEXT} for a value that is
 *                           refused; or {"refused": [PROBLEM, ...]}
 *   conf_dump --table       one line for each option of conf.def */

#include "base/conf_value.h"
#include "base/jv.h"

#include <stdio.h>
#include <stdlib.h>

static struct json_object *list_to_json(const struct strv *list)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < list->n; i++) {
        json_object_array_add(array, json_object_new_string(list->items[i]));
    }
    return array;
}

static struct json_object *dicts_to_json(const struct conf_dicts *dicts)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < dicts->n; i++) {
        struct json_object *object = json_object_new_object();

        for (size_t k = 0; k < dicts->items[i].keys.n; k++) {
            jv_add_str(object, dicts->items[i].keys.items[k], dicts->items[i].values.items[k]);
        }
        json_object_array_add(array, object);
    }
    return array;
}

static struct json_object *value_to_json(const struct conf_value *v)
{
    switch (v->type) {
    case CONF_TYPE_BOOL:
        return json_object_new_boolean(v->b);
    case CONF_TYPE_INT:
        return v->is_unset ? NULL : json_object_new_int64(v->i);
    case CONF_TYPE_FLOAT:
        return v->is_unset ? NULL : json_object_new_double(v->f);
    case CONF_TYPE_STR:
    case CONF_TYPE_DICT:
        return jv_new_str(v->s);
    case CONF_TYPE_LIST:
    case CONF_TYPE_MULTI:
        return list_to_json(&v->list);
    case CONF_TYPE_DICTS:
        return dicts_to_json(&v->dicts);
    }
    return NULL;
}

static void print_json(struct json_object *json)
{
    CLEANUP(freep) char *text = jv_text(json);

    puts(text);
    json_object_put(json);
}

static void dump_values(const struct conf_sources *sources)
{
    struct conf_resolver r = {.sources = sources, .host = "HOST", .my_ip = "MY_IP"};
    struct json_object *all = json_object_new_object();

    for (size_t i = 0; i < conf_n_opts; i++) {
        CLEANUP(conf_value_fini) struct conf_value value = {0};
        CLEANUP(freep) char *where = NULL;
        CLEANUP(freep) char *key = str_printf("[%s]%s", conf_opts[i].group, conf_opts[i].name);
        CLEANUP(err_freep) struct err *e = conf_resolve(&r, &conf_opts[i], &value, &where);

        if (e) {
            CLEANUP(freep) char *text = err_text(e);
            struct json_object *error = json_object_new_object();

            jv_add_str(error, "error", text);
            jv_add(all, key, error);
        } else {
            jv_add(all, key, value_to_json(&value));
        }
    }
    print_json(all);
}

static const char *type_name(enum conf_type type)
{
    static const char *const names[] = {"BOOL", "INT",   "FLOAT", "STR",
                                        "LIST", "MULTI", "DICTS", "DICT"};

    return names[type];
}

static void dump_row(const struct conf_opt *opt)
{
    struct json_object *row = json_object_new_object();
    struct json_object *choices = json_object_new_array();
    struct json_object *old = json_object_new_array();

    jv_add_str(row, "group", opt->group);
    jv_add_str(row, "name", opt->name);
    jv_add_str(row, "type", type_name(opt->type));
    jv_add_str(row, "default", opt->def);
    jv_add(row, "min", opt->min ? json_object_new_double(*opt->min) : NULL);
    jv_add(row, "max", opt->max ? json_object_new_double(*opt->max) : NULL);
    for (const char *const *c = opt->choices; c && *c; c++) {
        json_object_array_add(choices, json_object_new_string(*c));
    }
    jv_add(row, "choices", choices);
    for (const struct conf_name *o = opt->old; o && o->name; o++) {
        CLEANUP(freep) char *name = str_printf("[%s]%s", o->group ? o->group : opt->group, o->name);

        json_object_array_add(old, json_object_new_string(name));
    }
    jv_add(row, "old", old);
    jv_add_bool(row, "secret", opt->flags & CONF_SECRET);
    jv_add_bool(row, "mutable", opt->flags & CONF_MUTABLE);
    jv_add_bool(row, "computed", opt->flags & CONF_COMPUTED);
    jv_add_bool(row, "cli", opt->flags & CONF_CLI);
    print_json(row);
}

int main(int argc, char **argv)
{
    CLEANUP(conf_sources_fini) struct conf_sources sources = {0};
    CLEANUP(strv_fini) struct strv problems = {0};

    if (argc == 2 && str_eq(argv[1], "--table")) {
        for (size_t i = 0; i < conf_n_opts; i++) {
            dump_row(&conf_opts[i]);
        }
        return 0;
    }
    conf_sources_read(&sources, argc, argv, &problems);
    if (problems.n) {
        struct json_object *refused = json_object_new_object();

        jv_add(refused, "refused", list_to_json(&problems));
        print_json(refused);
    } else {
        dump_values(&sources);
    }
    return 0;
}

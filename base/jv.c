#include "base/jv.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

static void tokener_freep(struct json_tokener **p)
{
    if (*p) {
        json_tokener_free(*p);
    }
}

/* Whether a number is one that JSON can say: json-c takes NaN and Infinity, and 1e999. */
static bool numbers_are_finite(struct json_object *v)
{
    struct json_object_iterator it, end;

    switch (json_object_get_type(v)) {
    case json_type_double:
        return isfinite(json_object_get_double(v));
    case json_type_array:
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            if (!numbers_are_finite(json_object_array_get_idx(v, i))) {
                return false;
            }
        }
        return true;
    case json_type_object:
        it = json_object_iter_begin(v);
        end = json_object_iter_end(v);
        for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
            if (!numbers_are_finite(json_object_iter_peek_value(&it))) {
                return false;
            }
        }
        return true;
    case json_type_null:
    case json_type_boolean:
    case json_type_int:
    case json_type_string:
        return true;
    }
    return false;
}

struct err *jv_parse(const char *text, size_t len, struct json_object **ret)
{
    CLEANUP(tokener_freep) struct json_tokener *tok = json_tokener_new_ex(JV_MAX_DEPTH);
    CLEANUP(jv_putp) struct json_object *v = NULL;
    size_t end;

    assert(tok);
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    if (len >= INT_MAX) {
        return err_msg(ERR_PARSE, "invalid JSON: %zu bytes is too much", len);
    }
    v = json_tokener_parse_ex(tok, text, (int)len);
    end = json_tokener_get_parse_end(tok);
    if (json_tokener_get_error(tok) == json_tokener_continue && end == len) {
        /* Only the end of the text completes a bare number. */
        v = json_tokener_parse_ex(tok, "", 1);
    }
    if (json_tokener_get_error(tok) != json_tokener_success) {
        return err_msg(ERR_PARSE, "invalid JSON at byte %zu: %s", end,
                       json_tokener_error_desc(json_tokener_get_error(tok)));
    }
    if (end != len) {
        return err_msg(ERR_PARSE, "invalid JSON at byte %zu: text after the value", end);
    }
    if (!numbers_are_finite(v)) {
        return err_msg(ERR_PARSE, "invalid JSON: a number that is not finite");
    }
    *ret = TAKE(v);
    return NULL;
}

struct jv_reader jv_reader_init(struct json_object *obj, const char *what)
{
    return (struct jv_reader){.obj = obj, .what = what};
}

static const char *type_name(struct json_object *v)
{
    return json_type_to_name(json_object_get_type(v));
}

/* The value of a key if it has the type; NULL if it is missing, and with an error unless that is
 * allowed. */
static struct json_object *get(struct jv_reader *r, const char *key, enum json_type type,
                               bool is_optional)
{
    struct json_object *v = NULL;

    if (r->err) {
        return NULL;
    }
    if (!json_object_is_type(r->obj, json_type_object)) {
        r->err = err_msg(ERR_PARSE, "%s: %s, not an object", r->what, type_name(r->obj));
        return NULL;
    }
    if (!json_object_object_get_ex(r->obj, key, &v) && !is_optional) {
        r->err = err_msg(ERR_PARSE, "%s: '%s' is missing", r->what, key);
        return NULL;
    }
    if (json_object_is_type(v, type) || (!v && is_optional)) {
        return v;
    }
    /* A whole number is a fine double. */
    if (type == json_type_double && json_object_is_type(v, json_type_int)) {
        return v;
    }
    r->err = err_msg(ERR_PARSE, "%s: '%s' is %s, not %s", r->what, key, type_name(v),
                     json_type_to_name(type));
    return NULL;
}

static const char *get_str(struct jv_reader *r, const char *key, bool is_optional)
{
    struct json_object *v = get(r, key, json_type_string, is_optional);
    const char *s = v ? json_object_get_string(v) : NULL;

    if (s && strlen(s) != (size_t)json_object_get_string_len(v)) {
        r->err = err_msg(ERR_PARSE, "%s: '%s' has a NUL inside", r->what, key);
        return NULL;
    }
    return s;
}

const char *jv_str(struct jv_reader *r, const char *key)
{
    return get_str(r, key, /* is_optional= */ false);
}

const char *jv_str_or(struct jv_reader *r, const char *key, const char *def)
{
    const char *s = get_str(r, key, /* is_optional= */ true);

    return s ? s : def;
}

static int64_t get_int(struct jv_reader *r, const char *key, bool is_optional, int64_t def)
{
    struct json_object *v = get(r, key, json_type_int, is_optional);

    if (v && json_object_get_int64(v) == INT64_MAX && json_object_get_uint64(v) > INT64_MAX) {
        r->err = err_msg(ERR_PARSE, "%s: '%s' is out of range", r->what, key);
        return def;
    }
    return v ? json_object_get_int64(v) : def;
}

int64_t jv_int(struct jv_reader *r, const char *key)
{
    return get_int(r, key, /* is_optional= */ false, 0);
}

int64_t jv_int_or(struct jv_reader *r, const char *key, int64_t def)
{
    return get_int(r, key, /* is_optional= */ true, def);
}

double jv_double_or(struct jv_reader *r, const char *key, double def)
{
    struct json_object *v = get(r, key, json_type_double, /* is_optional= */ true);

    return v ? json_object_get_double(v) : def;
}

bool jv_bool_or(struct jv_reader *r, const char *key, bool def)
{
    struct json_object *v = get(r, key, json_type_boolean, /* is_optional= */ true);

    return v ? json_object_get_boolean(v) : def;
}

struct json_object *jv_obj(struct jv_reader *r, const char *key)
{
    return get(r, key, json_type_object, /* is_optional= */ false);
}

struct json_object *jv_obj_or(struct jv_reader *r, const char *key)
{
    return get(r, key, json_type_object, /* is_optional= */ true);
}

struct json_object *jv_arr(struct jv_reader *r, const char *key)
{
    return get(r, key, json_type_array, /* is_optional= */ false);
}

struct json_object *jv_arr_or(struct jv_reader *r, const char *key)
{
    return get(r, key, json_type_array, /* is_optional= */ true);
}

struct err *jv_finish(struct jv_reader *r)
{
    return TAKE(r->err);
}

char *jv_text(struct json_object *v)
{
    return str_dup(
        json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

struct json_object *jv_get(struct json_object *obj, const char *key)
{
    struct json_object *v = NULL;

    if (json_object_is_type(obj, json_type_object)) {
        json_object_object_get_ex(obj, key, &v);
    }
    return v;
}

size_t jv_len(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

struct json_object *jv_at(struct json_object *array, size_t i)
{
    return i < jv_len(array) ? json_object_array_get_idx(array, i) : NULL;
}

struct json_object *jv_dup(struct json_object *v)
{
    struct json_object *copy = NULL;

    if (v) {
        int failed = json_object_deep_copy(v, &copy, NULL);

        assert(!failed);
    }
    return copy;
}

struct json_object *jv_new_str(const char *s)
{
    return s ? json_object_new_string(s) : NULL;
}

void jv_add(struct json_object *obj, const char *key, struct json_object *value)
{
    int failed = json_object_object_add(obj, key, value);

    assert(!failed);
}

void jv_add_str(struct json_object *obj, const char *key, const char *value)
{
    jv_add(obj, key, jv_new_str(value));
}

void jv_add_int(struct json_object *obj, const char *key, int64_t value)
{
    jv_add(obj, key, json_object_new_int64(value));
}

void jv_add_bool(struct json_object *obj, const char *key, bool value)
{
    jv_add(obj, key, json_object_new_boolean(value));
}

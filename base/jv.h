#pragma once

/* Reading JSON without a table (OVSDB, REST, replies).
 *
 * A reader keeps the first error, so a run of reads needs one check at the end:
 *
 *     struct jv_reader r = jv_reader_init(reply, "port binding");
 *     const char *status = jv_str(&r, "status");
 *     TRY(jv_finish(&r));
 *
 * A getter whose key is missing or of the wrong type gives a zero value and the reader its error;
 * the _or forms give the default for a missing or null key (a wrong type is still an error).
 * Strings and objects are borrowed from the JSON.
 *
 * json_object itself is json-c's; it belongs to one thread at a time.
 *
 * Thread-safety: none of its own. */

#include "base/err.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#define JV_MAX_DEPTH 64 /* Deeper than anything that Nova, Neutron or OVSDB sends. */

struct jv_reader {
    struct json_object *obj;
    const char *what; /* What is being read, for the error. */
    struct err *err;
};

/* Parses text; 'len' bytes, one value, nothing after it, at most JV_MAX_DEPTH deep.  ERR_PARSE. */
struct err *jv_parse(const char *text, size_t len, struct json_object **ret) MUST_CHECK;

/* obj may be NULL or not an object: then every getter fails. */
struct jv_reader jv_reader_init(struct json_object *obj, const char *what);
const char *jv_str(struct jv_reader *, const char *key);
const char *jv_str_or(struct jv_reader *, const char *key, const char *def);
int64_t jv_int(struct jv_reader *, const char *key);
int64_t jv_int_or(struct jv_reader *, const char *key, int64_t def);
double jv_double_or(struct jv_reader *, const char *key, double def);
bool jv_bool_or(struct jv_reader *, const char *key, bool def);
struct json_object *jv_obj(struct jv_reader *, const char *key);    /* a JSON object */
struct json_object *jv_obj_or(struct jv_reader *, const char *key); /* or NULL */
struct json_object *jv_arr(struct jv_reader *, const char *key);    /* a JSON array */
struct json_object *jv_arr_or(struct jv_reader *, const char *key); /* or NULL */
/* The first error, which is the caller's; ERR_PARSE naming 'what' and the key. */
struct err *jv_finish(struct jv_reader *) MUST_CHECK;

/* The compact text of a value, owned by the caller. */
char *jv_text(struct json_object *) MUST_CHECK;
/* Value of a key, or NULL (also when obj is no object). */
struct json_object *jv_get(struct json_object *obj, const char *key);
/* Elements of an array; 0 when it is no array. */
size_t jv_len(struct json_object *array);
/* One element, or NULL (also when it is no array, or not so long). */
struct json_object *jv_at(struct json_object *array, size_t i);
/* Deep copy. */
struct json_object *jv_dup(struct json_object *) MUST_CHECK;
static inline void jv_putp(struct json_object **p)
{
    if (*p) {
        json_object_put(*p);
        *p = NULL;
    }
}
/* New string value; NULL becomes JSON null. */
struct json_object *jv_new_str(const char *s) MUST_CHECK;
/* Adds to an object; consumes the value. */
void jv_add(struct json_object *obj, const char *key, struct json_object *value);
void jv_add_str(struct json_object *obj, const char *key, const char *value);
void jv_add_int(struct json_object *obj, const char *key, int64_t value);
void jv_add_bool(struct json_object *obj, const char *key, bool value);

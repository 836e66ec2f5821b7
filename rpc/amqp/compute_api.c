#include "rpc/amqp/compute_api.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define COMPUTE_MAJOR 6

enum arg_type { TYPE_OBJ, TYPE_OBJS, TYPE_STR, TYPE_INT, TYPE_BOOL, TYPE_JSON };
enum need { OPT, REQ };

struct arg_row {
    const char *name; /* NULL ends. */
    enum arg_type type;
    enum need need;
    const struct ovo_class *cls;
    size_t offset;     /* Of the value in its struct args_*. */
    size_t has_offset; /* Of has_<name> or n_<name>. */
};

/* ---- Tables ---- */

#define EVENT   COMPUTE_EVENT
#define FAULT   COMPUTE_FAULT
#define REVERT  COMPUTE_REVERT
#define MIG_ERR COMPUTE_MIG_ERR

static const struct compute_verb verbs[] = {
#define RPC_METHOD(method, since, order_, lane_, wrappers_, args)                                  \
    [COMPUTE_##method] = {.name = #method,                                                         \
                          .since_minor = (since)[2] - '0',                                         \
                          .order = COMPUTE_##order_,                                               \
                          .lane = LANE_##lane_,                                                    \
                          .wrappers = (wrappers_)},
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD
};

/* A method's rows are made in a function of its own, where A is its struct. */
#define ARG_OBJ(class_, name_, need_)                                                              \
    {#name_, TYPE_OBJ, need_, &class_##_class, offsetof(A, name_), 0},
#define ARG_OBJS(class_, name_, need_)                                                             \
    {#name_, TYPE_OBJS, need_, &class_##_class, offsetof(A, name_), offsetof(A, n_##name_)},
#define ARG_STR(name_, need_) {#name_, TYPE_STR, need_, NULL, offsetof(A, name_), 0},
#define ARG_INT(name_, need_)                                                                      \
    {#name_, TYPE_INT, need_, NULL, offsetof(A, name_), offsetof(A, has_##name_)},
#define ARG_BOOL(name_, need_)                                                                     \
    {#name_, TYPE_BOOL, need_, NULL, offsetof(A, name_), offsetof(A, has_##name_)},
#define ARG_JSON(name_, need_) {#name_, TYPE_JSON, need_, NULL, offsetof(A, name_), 0},
#define RPC_METHOD(method, since, order, lane, wrappers, args)                                     \
    static const struct arg_row *rows_##method(void)                                               \
    {                                                                                              \
        typedef struct args_##method A UNUSED;                                                     \
        static const struct arg_row rows[] = {args{NULL, TYPE_JSON, OPT, NULL, 0, 0}};             \
        return rows;                                                                               \
    }
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD

static const struct arg_row *(*const row_functions[])(void) = {
#define RPC_METHOD(method, ...) [COMPUTE_##method] = rows_##method,
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD
};

const struct compute_verb *compute_verb(enum compute_method method)
{
    return &verbs[method];
}

/* ---- Decoding ---- */

static void *at(struct compute_call *call, size_t offset)
{
    return (char *)&call->args + offset;
}

static struct err *bad_type(const struct arg_row *row, const char *wanted, struct json_object *json)
{
    return err_msg(ERR_TYPE, "argument '%s' is %s, expected %s", row->name,
                   json_type_to_name(json_object_get_type(json)), wanted);
}

static struct err *decode_obj(struct compute_call *call, const struct arg_row *row,
                              struct json_object *json)
{
    struct ovo *o = NULL;

    TRY_CTX(ovo_from_json(json, row->cls, &o), "reading argument '%s'", row->name);
    *(struct ovo **)at(call, row->offset) = o;
    return NULL;
}

static struct err *decode_objs(struct compute_call *call, const struct arg_row *row,
                               struct json_object *json)
{
    struct ovo **list;
    size_t *n = at(call, row->has_offset);

    if (!json_object_is_type(json, json_type_array)) {
        return bad_type(row, "a list", json);
    }
    list = NEW_ARRAY(struct ovo *, json_object_array_length(json));
    *(struct ovo ***)at(call, row->offset) = list;
    for (size_t i = 0; i < json_object_array_length(json); i++) {
        TRY_CTX(ovo_from_json(json_object_array_get_idx(json, i), row->cls, &list[i]),
                "reading argument '%s'", row->name);
        ++*n;
    }
    return NULL;
}

static struct err *decode_arg(struct compute_call *call, const struct arg_row *row,
                              struct json_object *json)
{
    switch (row->type) {
    case TYPE_OBJ:
        return decode_obj(call, row, json);
    case TYPE_OBJS:
        return decode_objs(call, row, json);
    case TYPE_STR:
        if (!json_object_is_type(json, json_type_string)) {
            return bad_type(row, "a string", json);
        }
        *(const char **)at(call, row->offset) = json_object_get_string(json);
        return NULL;
    case TYPE_INT:
        if (!json_object_is_type(json, json_type_int)) {
            return bad_type(row, "an integer", json);
        }
        *(int64_t *)at(call, row->offset) = json_object_get_int64(json);
        *(bool *)at(call, row->has_offset) = true;
        return NULL;
    case TYPE_BOOL:
        if (!json_object_is_type(json, json_type_boolean)) {
            return bad_type(row, "a boolean", json);
        }
        *(bool *)at(call, row->offset) = json_object_get_boolean(json);
        *(bool *)at(call, row->has_offset) = true;
        return NULL;
    case TYPE_JSON:
        *(struct json_object **)at(call, row->offset) = json;
        return NULL;
    }
    return NULL;
}

static struct err *decode_args(const struct rpc_request *req, struct compute_call *call)
{
    for (const struct arg_row *row = row_functions[call->method](); row->name; row++) {
        struct json_object *json = jv_get(req->args, row->name);

        if (json) {
            TRY(decode_arg(call, row, json));
        } else if (row->need == REQ) {
            return err_msg(ERR_TYPE, "%s() missing 1 required positional argument: '%s'",
                           req->method, row->name);
        }
    }
    return NULL;
}

static void log_unknown(const struct rpc_request *req, enum compute_method method)
{
    json_object_object_foreach(req->args, key, value)
    {
        const struct arg_row *row = row_functions[method]();

        (void)value;
        while (row->name && !str_eq(row->name, key)) {
            row++;
        }
        if (!row->name) {
            log_debug(LOG_RPC, "%s came with argument '%s', which is not used here", req->method,
                      key);
        }
    }
}

bool compute_api_parse_version(const char *text, unsigned *ret_major, unsigned *ret_minor)
{
    char rest;

    return text && sscanf(text, "%5u.%5u%c", ret_major, ret_minor, &rest) == 2;
}

static struct err *find(const struct rpc_request *req, unsigned max_minor, enum compute_method *ret)
{
    unsigned major, minor;

    if (!compute_api_parse_version(req->version, &major, &minor) || major != COMPUTE_MAJOR ||
        minor > max_minor) {
        return err_new(ERR_UNSUPPORTED_VERSION, "version", req->version, "method", req->method,
                       NULL);
    }
    for (size_t i = 0; i < N_COMPUTE_METHODS; i++) {
        if (str_eq(verbs[i].name, req->method) && verbs[i].since_minor <= max_minor) {
            *ret = (enum compute_method)i;
            return NULL;
        }
    }
    return err_new(ERR_NO_SUCH_METHOD, "method", req->method, NULL);
}

struct err *compute_api_decode(const struct rpc_request *req, unsigned max_minor,
                               struct compute_call *ret)
{
    struct compute_call call = {0};

    TRY(find(req, max_minor, &call.method));
    struct err *e = decode_args(req, &call);

    if (e) {
        compute_call_fini(&call);
        return e;
    }
    log_unknown(req, call.method);
    *ret = call;
    return NULL;
}

void compute_call_fini(struct compute_call *call)
{
    for (const struct arg_row *row = row_functions[call->method](); row->name; row++) {
        if (row->type == TYPE_OBJ) {
            ovo_free(*(struct ovo **)at(call, row->offset));
        } else if (row->type == TYPE_OBJS) {
            struct ovo **list = *(struct ovo ***)at(call, row->offset);

            for (size_t i = 0; i < *(size_t *)at(call, row->has_offset); i++) {
                ovo_free(list[i]);
            }
            free(list);
        }
    }
    *call = (struct compute_call){0};
}

static struct ovo *call_object(struct compute_call *call, const struct ovo_class *cls,
                               const char *name)
{
    for (const struct arg_row *row = row_functions[call->method](); row->name; row++) {
        if (row->type == TYPE_OBJ && row->cls == cls && str_eq(row->name, name)) {
            return *(struct ovo **)at(call, row->offset);
        }
    }
    return NULL;
}

struct instance *compute_call_instance(struct compute_call *call)
{
    return (struct instance *)call_object(call, &instance_class, "instance");
}

struct migration *compute_call_migration(struct compute_call *call)
{
    return (struct migration *)call_object(call, &migration_class, "migration");
}

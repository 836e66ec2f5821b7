#include "rpc/amqp/compute_api.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define COMPUTE_MAJOR 6

enum arg_type {
    TYPE_OBJ,
    TYPE_OBJS,
    TYPE_STR,
    TYPE_INT,
    TYPE_BOOL,
    TYPE_DICT,
    TYPE_LIST,
    TYPE_JSON,
};
enum need { OPT, NUL, REQ };

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
#define ARG_DICT(name_, need_) {#name_, TYPE_DICT, need_, NULL, offsetof(A, name_), 0},
#define ARG_LIST(name_, need_) {#name_, TYPE_LIST, need_, NULL, offsetof(A, name_), 0},
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

static const char *python_type(struct json_object *v)
{
    static const char *const names[] = {
        [json_type_null] = "NoneType", [json_type_boolean] = "bool", [json_type_double] = "float",
        [json_type_int] = "int",       [json_type_object] = "dict",  [json_type_array] = "list",
        [json_type_string] = "str"};

    return names[json_object_get_type(v)];
}

static struct err *bad_type(const struct arg_row *row, const char *wanted, struct json_object *json)
{
    return err_msg(ERR_TYPE, "argument '%s' must be %s, not %s", row->name, wanted,
                   python_type(json));
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
        return bad_type(row, "list", json);
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

static struct err *decode_str(struct compute_call *call, const struct arg_row *row,
                              struct json_object *json)
{
    const char *s =
        json_object_is_type(json, json_type_string) ? json_object_get_string(json) : NULL;

    if (!s) {
        return bad_type(row, "str", json);
    }
    if (strlen(s) != (size_t)json_object_get_string_len(json)) {
        return err_msg(ERR_TYPE, "argument '%s' has a NUL inside", row->name);
    }
    *(const char **)at(call, row->offset) = s;
    return NULL;
}

/* nova-api passes some numbers on as the text that it got (tail_length). */
static struct err *decode_int(struct compute_call *call, const struct arg_row *row,
                              struct json_object *json)
{
    int64_t *ret = at(call, row->offset);

    if (json_object_is_type(json, json_type_int)) {
        *ret = json_object_get_int64(json);
    } else if (!json_object_is_type(json, json_type_string) ||
               !str_to_i64(json_object_get_string(json), ret)) {
        return bad_type(row, "int", json);
    }
    *(bool *)at(call, row->has_offset) = true;
    return NULL;
}

static struct err *decode_json(struct compute_call *call, const struct arg_row *row,
                               struct json_object *json)
{
    if (row->type == TYPE_DICT && !json_object_is_type(json, json_type_object)) {
        return bad_type(row, "dict", json);
    }
    if (row->type == TYPE_LIST && !json_object_is_type(json, json_type_array)) {
        return bad_type(row, "list", json);
    }
    *(struct json_object **)at(call, row->offset) = json;
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
        return decode_str(call, row, json);
    case TYPE_INT:
        return decode_int(call, row, json);
    case TYPE_BOOL:
        if (!json_object_is_type(json, json_type_boolean)) {
            return bad_type(row, "bool", json);
        }
        *(bool *)at(call, row->offset) = json_object_get_boolean(json);
        *(bool *)at(call, row->has_offset) = true;
        return NULL;
    case TYPE_DICT:
    case TYPE_LIST:
    case TYPE_JSON:
        return decode_json(call, row, json);
    }
    return NULL;
}

/* All that is missing, as Python words it. */
static struct err *check_missing(const struct rpc_request *req, const struct arg_row *rows)
{
    CLEANUP(strv_fini) struct strv missing = {0};
    CLEANUP(strbuf_fini) struct strbuf names = {0};

    for (const struct arg_row *row = rows; row->name; row++) {
        if (row->need != OPT && !json_object_object_get_ex(req->args, row->name, NULL)) {
            strv_add(&missing, row->name);
        }
    }
    if (missing.n == 0) {
        return NULL;
    }
    for (size_t i = 0; i < missing.n; i++) {
        bool is_last = i + 1 == missing.n;
        const char *sep = i == 0 ? "" : !is_last ? ", " : missing.n == 2 ? " and " : ", and ";

        strbuf_addf(&names, "%s'%s'", sep, missing.items[i]);
    }
    return err_msg(ERR_TYPE, "%s() missing %zu required positional argument%s: %s", req->method,
                   missing.n, missing.n == 1 ? "" : "s", names.s);
}

static struct err *decode_args(const struct rpc_request *req, struct compute_call *call)
{
    const struct arg_row *rows = row_functions[call->method]();

    TRY(check_missing(req, rows));
    for (const struct arg_row *row = rows; row->name; row++) {
        struct json_object *json = jv_get(req->args, row->name);

        if (json) {
            TRY_CTX(decode_arg(call, row, json), "decoding %s()", req->method);
        } else if (row->need == REQ) {
            return bad_type(row, "given", json);
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
            log_warning_limited(LOG_RPC, "%s() has no argument '%.64s', ignoring it", req->method,
                                key);
        }
    }
}

/* Digits only, and no signs: what sscanf would take is not all a version. */
bool compute_api_parse_version(const char *text, unsigned *ret_major, unsigned *ret_minor)
{
    const char *dot = text ? strchr(text, '.') : NULL;
    CLEANUP(freep) char *head = dot ? str_ndup(text, (size_t)(dot - text)) : NULL;
    uint64_t major, minor;

    if (!dot || !str_to_u64(head, &major) || !str_to_u64(dot + 1, &minor) || major > UINT16_MAX ||
        minor > UINT16_MAX) {
        return false;
    }
    *ret_major = (unsigned)major;
    *ret_minor = (unsigned)minor;
    return true;
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

/* Nova's lock of an interface says None if no port is given. */
static const char *port_of(struct compute_call *call)
{
    const char *port = NULL;

    if (call->method == COMPUTE_attach_interface) {
        port = call->args.attach_interface.port_id;
    } else if (call->method == COMPUTE_detach_interface) {
        port = call->args.detach_interface.port_id;
    }
    return port ? port : "None";
}

char *compute_call_strand(struct compute_call *call)
{
    const struct instance *inst = compute_call_instance(call);

    if (!inst || !instance_has_uuid(inst)) {
        return NULL;
    }
    switch (verbs[call->method].order) {
    case COMPUTE_UNORDERED:
        return NULL;
    case COMPUTE_BY_INSTANCE:
        return str_dup(instance_uuid(inst));
    case COMPUTE_BY_INTERFACE:
        return str_printf("interface-%s-%s", instance_uuid(inst), port_of(call));
    }
    return NULL;
}

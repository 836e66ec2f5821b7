#pragma once

/* The compute service's RPC interface, typed: from the table rpc/amqp/compute_api.def come an
 * enumeration of its verbs, a struct of arguments for each, and their decoding.
 *
 * In struct args_<method> an argument is
 *     ARG_OBJ   struct <class> *name;          NULL if absent or null; owned
 *     ARG_OBJS  struct <class> **name; size_t n_name;                  owned
 *     ARG_STR   const char *name;              NULL if absent or null; borrowed from the request
 *     ARG_INT   bool has_name; int64_t name;   has_name false if absent or null
 *     ARG_BOOL  bool has_name; bool name;
 *     ARG_DICT, ARG_LIST, ARG_JSON
 *               struct json_object *name;      NULL if absent or null; borrowed from the request
 * A handler may TAKE an object.
 *
 * Source: nova/compute/rpcapi.py, oslo_messaging/rpc/dispatcher.py (what is refused, and how).
 *
 * Thread-safety: pure functions; a call belongs to one thread at a time. */

#include "base/err.h"
#include "base/task.h"
#include "rpc/amqp/server.h"
#include "rpc/objects/objects.h"

#define ARG_OBJ(cls, name, need) struct cls *name;
#define ARG_OBJS(cls, name, need)                                                                  \
    struct cls **name;                                                                             \
    size_t n_##name;
#define ARG_STR(name, need) const char *name;
#define ARG_INT(name, need)                                                                        \
    bool has_##name;                                                                               \
    int64_t name;
#define ARG_BOOL(name, need)                                                                       \
    bool has_##name;                                                                               \
    bool name;
#define ARG_DICT(name, need) struct json_object *name;
#define ARG_LIST(name, need) struct json_object *name;
#define ARG_JSON(name, need) struct json_object *name;
#define RPC_METHOD(method, since, order, lane, wrappers, args)                                     \
    struct args_##method {                                                                         \
        char unused_; /* Some have no arguments. */                                                \
        args                                                                                       \
    };
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD
#undef ARG_OBJ
#undef ARG_OBJS
#undef ARG_STR
#undef ARG_INT
#undef ARG_BOOL
#undef ARG_DICT
#undef ARG_LIST
#undef ARG_JSON

enum compute_method {
#define RPC_METHOD(method, ...) COMPUTE_##method,
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD
    N_COMPUTE_METHODS
};

enum compute_order { COMPUTE_UNORDERED, COMPUTE_BY_INSTANCE, COMPUTE_BY_INTERFACE };

enum compute_wrapper {
    COMPUTE_EVENT = 1 << 0,
    COMPUTE_FAULT = 1 << 1,
    COMPUTE_REVERT = 1 << 2,
    COMPUTE_MIG_ERR = 1 << 3,
};

struct compute_verb {
    const char *name;
    unsigned since_minor; /* Of 6. */
    enum compute_order order;
    enum lane lane;
    unsigned wrappers; /* enum compute_wrapper */
};
const struct compute_verb *compute_verb(enum compute_method);

struct compute_call {
    enum compute_method method;
    union {
#define RPC_METHOD(method, ...) struct args_##method method;
#include "rpc/amqp/compute_api.def"
#undef RPC_METHOD
    } args;
};

/* Decodes a request in the default namespace.  max_minor: of the version that we serve (6.N).
 * ERR_NO_SUCH_METHOD, ERR_UNSUPPORTED_VERSION, ERR_TYPE for an argument that is missing or of the
 * wrong type, ERR_UNSUPPORTED_OBJECT and ERR_INCOMPATIBLE_OBJECT_VERSION.  Arguments that we do not
 * know are logged and ignored.  Strings and JSON are borrowed from the request. */
struct err *compute_api_decode(const struct rpc_request *, unsigned max_minor,
                               struct compute_call *ret) MUST_CHECK;
void compute_call_fini(struct compute_call *);
/* The arguments "instance" and "migration", or NULL; borrowed. */
struct instance *compute_call_instance(struct compute_call *);
struct migration *compute_call_migration(struct compute_call *);
/* The key of the call's strand (base/task.h), the caller's; NULL: no order. */
char *compute_call_strand(struct compute_call *) MUST_CHECK;
/* "6.1" is 6 and 1; false for what is no version. */
bool compute_api_parse_version(const char *text, unsigned *ret_major, unsigned *ret_minor)
    MUST_CHECK;

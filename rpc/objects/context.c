#include "rpc/objects/context.h"

#include "base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "_context_"

/* What travels is kept as text: a json_object cannot be shared by threads. */
struct rctx {
    _Atomic unsigned n_refs;
    char *json; /* An object of the "_context_*" keys. */
    char *request_id, *user_id, *project_id, *auth_token, *service_catalog;
    char *user_name, *project_name, *roles;
    char *log_text;
    bool is_admin;
};

static const char *str_of(struct json_object *keys, const char *key)
{
    struct json_object *v = jv_get(keys, key);

    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static char *roles_text(struct json_object *keys)
{
    struct json_object *roles = jv_get(keys, PREFIX "roles");
    struct strbuf text = {0};

    strbuf_add(&text, "");
    for (size_t i = 0;
         json_object_is_type(roles, json_type_array) && i < json_object_array_length(roles); i++) {
        strbuf_add(&text, i > 0 ? "," : "");
        strbuf_add(&text, json_object_get_string(json_object_array_get_idx(roles, i)));
    }
    return strbuf_take(&text);
}

/* Consumes keys. */
static struct rctx *new_context(struct json_object *keys)
{
    struct rctx *c = NEW(struct rctx);
    CLEANUP(freep) char *new_id = NULL;
    struct json_object *catalog;
    char uuid[UUID_LEN + 1];

    if (str_is_empty(str_of(keys, PREFIX "request_id"))) {
        uuid_new(uuid);
        new_id = str_printf("req-%s", uuid);
        jv_add_str(keys, PREFIX "request_id", new_id);
    }
    catalog = jv_get(keys, PREFIX "service_catalog");
    c->n_refs = 1;
    c->request_id = str_dup(str_of(keys, PREFIX "request_id"));
    c->user_id = str_dup(str_of(keys, PREFIX "user_id"));
    c->project_id = str_dup(str_of(keys, PREFIX "project_id"));
    c->user_name = str_dup(str_of(keys, PREFIX "user_name"));
    c->project_name = str_dup(str_of(keys, PREFIX "project_name"));
    c->roles = roles_text(keys);
    c->auth_token = str_dup(str_of(keys, PREFIX "auth_token"));
    c->service_catalog = catalog ? jv_text(catalog) : NULL;
    c->is_admin = json_object_get_boolean(jv_get(keys, PREFIX "is_admin"));
    c->log_text = str_printf("%s %s %s", c->request_id, c->user_id ? c->user_id : "-",
                             c->project_id ? c->project_id : "-");
    c->json = jv_text(keys);
    jv_putp(&keys);
    return c;
}

/* A copy of the keys of a context. */
static struct json_object *keys_of(const struct rctx *c)
{
    struct json_object *keys = NULL;

    err_ignore(jv_parse(c->json, strlen(c->json), &keys), "reading a context back");
    return keys ? keys : json_object_new_object();
}

struct rctx *rctx_from_payload(struct json_object *payload)
{
    struct json_object *keys = json_object_new_object();

    if (json_object_is_type(payload, json_type_object)) {
        json_object_object_foreach(payload, key, value)
        {
            /* The profiler's key is good for its receiver only. */
            if (str_starts(key, PREFIX) && !str_eq(key, PREFIX "trace_info")) {
                jv_add(keys, key, value ? jv_dup(value) : NULL);
            }
        }
    }
    return new_context(keys);
}

struct rctx *rctx_new_admin(void)
{
    static const char *const nulls[] = {
        PREFIX "user",         PREFIX "user_id",        PREFIX "user_name",
        PREFIX "user_domain",  PREFIX "project",        PREFIX "project_id",
        PREFIX "project_name", PREFIX "project_domain", PREFIX "domain",
        PREFIX "system_scope", PREFIX "auth_token",     PREFIX "global_request_id",
        PREFIX "quota_class",  PREFIX "remote_address", PREFIX "resource_uuid",
    };
    struct json_object *keys = json_object_new_object();
    CLEANUP(freep) char *now = clock_iso_utc_us();

    for (size_t i = 0; i < ARRAY_SIZE(nulls); i++) {
        jv_add(keys, nulls[i], NULL);
    }
    jv_add_bool(keys, PREFIX "is_admin", true);
    jv_add_bool(keys, PREFIX "is_admin_project", true);
    jv_add_bool(keys, PREFIX "read_only", false);
    jv_add_bool(keys, PREFIX "show_deleted", false);
    jv_add_str(keys, PREFIX "read_deleted", "no");
    jv_add_str(keys, PREFIX "user_identity", "- - - - -");
    jv_add_str(keys, PREFIX "timestamp", now);
    jv_add(keys, PREFIX "roles", json_object_new_array());
    jv_add(keys, PREFIX "service_catalog", json_object_new_array());
    return new_context(keys);
}

static bool has_role(struct json_object *roles, const char *role)
{
    for (size_t i = 0; i < json_object_array_length(roles); i++) {
        if (str_eq(json_object_get_string(json_object_array_get_idx(roles, i)), role)) {
            return true;
        }
    }
    return false;
}

struct rctx *rctx_elevated(const struct rctx *c)
{
    struct json_object *keys = keys_of(c);
    struct json_object *roles = jv_get(keys, PREFIX "roles");

    if (!json_object_is_type(roles, json_type_array)) {
        roles = json_object_new_array();
        jv_add(keys, PREFIX "roles", roles);
    }
    if (!has_role(roles, "admin")) {
        json_object_array_add(roles, jv_new_str("admin"));
    }
    jv_add_bool(keys, PREFIX "is_admin", true);
    return new_context(keys);
}

struct rctx *rctx_with_deleted(const struct rctx *c)
{
    struct json_object *keys = keys_of(c);

    jv_add_str(keys, PREFIX "read_deleted", "yes");
    return new_context(keys);
}

struct rctx *rctx_ref(const struct rctx *c)
{
    struct rctx *ref = (struct rctx *)c; /* Only the count changes. */

    atomic_fetch_add(&ref->n_refs, 1);
    return ref;
}

struct rctx *rctx_free(struct rctx *c)
{
    if (c && atomic_fetch_sub(&c->n_refs, 1) == 1) {
        free(c->json);
        free(c->request_id);
        free(c->user_id);
        free(c->project_id);
        free(c->user_name);
        free(c->project_name);
        free(c->roles);
        free(c->auth_token);
        free(c->service_catalog);
        free(c->log_text);
        free(c);
    }
    return NULL;
}

const char *rctx_request_id(const struct rctx *c)
{
    return c->request_id;
}

const char *rctx_user_id(const struct rctx *c)
{
    return c->user_id;
}

const char *rctx_project_id(const struct rctx *c)
{
    return c->project_id;
}

const char *rctx_user_name(const struct rctx *c)
{
    return c->user_name;
}

const char *rctx_project_name(const struct rctx *c)
{
    return c->project_name;
}

const char *rctx_roles(const struct rctx *c)
{
    return c->roles;
}

const char *rctx_auth_token(const struct rctx *c)
{
    return c->auth_token;
}

bool rctx_is_admin(const struct rctx *c)
{
    return c->is_admin;
}

const char *rctx_service_catalog(const struct rctx *c)
{
    return c->service_catalog;
}

const char *rctx_log_text(const struct rctx *c)
{
    return c->log_text;
}

void rctx_to_payload(const struct rctx *c, struct json_object *payload, bool for_notification)
{
    CLEANUP(jv_putp) struct json_object *keys = keys_of(c);

    json_object_object_foreach(keys, key, value)
    {
        if (!for_notification ||
            (!str_eq(key, PREFIX "auth_token") && !str_eq(key, PREFIX "service_catalog"))) {
            jv_add(payload, key, json_object_get(value));
        }
    }
}

#include "rpc/rest/session.h"

#include "base/log.h"
#include "rpc/rest/http.h"
#include "rpc/rest/session_conf.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_LEN    4096
#define CATALOG_OLD 30000 /* A catalogue without our service is read again when it is that old. */

/* What there is to know of a service besides its options. */
struct service {
    const char *section;
    const char *name;    /* In OpenStack-API-Version. */
    const char *version; /* In its URLs, unless the catalogue's has it all. */
};

static const struct service services[] = {
    {"placement", "placement", NULL},
    {"neutron", "network", "v2.0"},
    {"glance", "image", "v2"},
    {"cinder", "volume", NULL},
};

struct rest_session {
    const struct service *service;
    struct rest_conf conf;
    struct keystone *keystone;      /* Ours; NULL: only users' tokens. */
    struct keystone *user_keystone; /* Of the service token; NULL: none. */
    struct http_tls tls;
};

void rest_conf_fini(struct rest_conf *c)
{
    keystone_conf_fini(&c->auth);
    keystone_conf_fini(&c->user_auth);
    free(c->service_type);
    free(c->service_name);
    free(c->region_name);
    free(c->endpoint_override);
    strv_fini(&c->interfaces);
    *c = (struct rest_conf){0};
}

struct rest_session *rest_session_free(struct rest_session *s)
{
    if (s) {
        keystone_close(s->keystone);
        keystone_close(s->user_keystone);
        rest_conf_fini(&s->conf);
        free(s);
    }
    return NULL;
}

static const struct service *find_service(const char *section)
{
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        if (str_eq(services[i].section, section)) {
            return &services[i];
        }
    }
    return NULL;
}

struct err *rest_session_from_conf(struct rest_conf *conf, struct rest_session **ret)
{
    CLEANUP(rest_session_freep) struct rest_session *s = NEW(struct rest_session);

    s->conf = *conf;
    *conf = (struct rest_conf){0};
    s->service = find_service(s->conf.section);
    if (!s->service) {
        return err_msg(ERR_CONFIG, "[%s] is no service", s->conf.section);
    }
    s->conf.section = s->service->section;
    if (s->conf.auth.auth_type) {
        TRY_CTX(keystone_open(&s->conf.auth, &s->keystone), "[%s]", s->conf.section);
    }
    if (s->conf.user_auth.auth_type) {
        TRY_CTX(keystone_open(&s->conf.user_auth, &s->user_keystone), "[service_user]");
    }
    s->tls = (struct http_tls){.cafile = s->conf.auth.cafile,
                               .certfile = s->conf.auth.certfile,
                               .keyfile = s->conf.auth.keyfile,
                               .insecure = s->conf.auth.insecure};
    *ret = TAKE(s);
    return NULL;
}

/* The tokens of one request. */
struct tokens {
    struct token *own;
    struct token *service;
    const char *user; /* Borrowed from the request's context; NULL: our own. */
};

static void tokens_fini(struct tokens *t)
{
    token_free(t->own);
    token_free(t->service);
    *t = (struct tokens){0};
}

/* Gets what the request needs; 'refused' are the tokens that got a 401. */
static struct err *get_tokens(struct rest_session *s, const struct rest_request *req,
                              const struct tokens *refused, struct tokens *ret)
{
    CLEANUP(tokens_fini) struct tokens t = {0};

    t.user = req->user ? rctx_auth_token(req->user) : NULL;
    if (!t.user && !s->keystone) {
        return err_msg(ERR_UNAUTHORIZED, "%s: the request has no token and [%s] no credentials",
                       s->conf.section, s->conf.section);
    }
    if (!t.user) {
        TRY(keystone_get(s->keystone, refused->own, &t.own));
    } else if (s->user_keystone) {
        TRY_CTX(keystone_get(s->user_keystone, refused->service, &t.service), "service token");
    }
    *ret = t;
    t = (struct tokens){0};
    return NULL;
}

/* The endpoint in the user's own catalogue, the caller's; NULL if there is none, or no catalogue.
 */
static char *endpoint_of_user(const struct catalog_query *q, const struct rctx *user)
{
    const char *text = rctx_service_catalog(user);
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(catalog_fini) struct catalog catalog = {0};
    CLEANUP(err_freep) struct err *e = text ? jv_parse(text, strlen(text), &json) : NULL;

    catalog_read(e ? NULL : json, &catalog);
    return str_dup(catalog_find(&catalog, q));
}

/* Whose catalogue is looked at: the user's if it has the service, else ours. */
static struct err *find_endpoint(struct rest_session *s, const struct rest_request *req,
                                 struct tokens *t, char **ret)
{
    const struct catalog_query q = {.type = s->conf.service_type,
                                    .name = s->conf.service_name,
                                    .interfaces = &s->conf.interfaces,
                                    .region = s->conf.region_name};
    const char *url;

    if (req->endpoint || !str_is_empty(s->conf.endpoint_override)) {
        *ret = str_dup(req->endpoint ? req->endpoint : s->conf.endpoint_override);
        return NULL;
    }
    if (t->user && (*ret = endpoint_of_user(&q, req->user))) {
        return NULL;
    }
    if (!t->own && s->keystone) {
        TRY(keystone_get(s->keystone, NULL, &t->own));
    }
    url = t->own ? catalog_find(token_catalog(t->own), &q) : NULL;
    if (!url && t->own && token_age_ms(t->own) > CATALOG_OLD) {
        CLEANUP(token_freep) struct token *old = TAKE(t->own);

        TRY(keystone_get(s->keystone, old, &t->own));
        url = catalog_find(token_catalog(t->own), &q);
    }
    if (!url) {
        return err_msg(ERR_HTTP, "the catalogue has no endpoint of type %s", q.type);
    }
    *ret = str_dup(url);
    return NULL;
}

static struct strv make_header(const struct rest_session *s, const struct rest_request *req,
                               const struct tokens *t)
{
    struct strv header = {0};

    strv_add_take(&header, str_printf("X-Auth-Token: %s", t->user ? t->user : token_text(t->own)));
    if (t->service) {
        strv_add_take(&header, str_printf("X-Service-Token: %s", token_text(t->service)));
    }
    if (req->microversion) {
        strv_add_take(&header, str_printf("OpenStack-API-Version: %s %s", s->service->name,
                                          req->microversion));
    }
    if (req->user && rctx_request_id(req->user)) {
        strv_add_take(&header,
                      str_printf("X-OpenStack-Request-ID: %s", rctx_request_id(req->user)));
    }
    return header;
}

static struct err *send_once(struct rest_session *s, const struct rest_request *req,
                             struct tokens *t, const char *body, struct http_response *ret)
{
    CLEANUP(freep) char *endpoint = NULL;
    CLEANUP(freep) char *url = NULL;
    CLEANUP(strv_fini) struct strv header = {0};

    TRY(find_endpoint(s, req, t, &endpoint));
    url = catalog_url(endpoint, s->service->version, req->path);
    header = make_header(s, req, t);
    const struct http_request http = {
        .method = req->method,
        .url = url,
        .header = &header,
        .body = body,
        .content_type = req->content_type,
        .source = req->source,
        .tls = &s->tls,
        .stream = req->stream,
        .stop = req->stop,
        .timeout_ms = req->timeout_ms ? req->timeout_ms : s->conf.auth.timeout_ms,
        .n_retries = req->n_retries ? req->n_retries : s->conf.n_retries,
        .is_idempotent = !str_eq(req->method, "POST"),
    };

    return http_send(&http, ret);
}

/* Whether a 401 may be cured by a token of ours. */
static bool may_renew(const struct tokens *t)
{
    return !t->user || t->service;
}

/* The start of a body, for messages that may travel: ASCII, whatever the server sent. */
static char *readable(const char *body)
{
    char *text = str_ndup(body, TEXT_LEN);

    for (char *p = text; *p; p++) {
        *p = (*p >= ' ' && *p <= '~') || *p == '\n' ? *p : '?';
    }
    return text;
}

static void take_response(struct http_response *http, struct rest_response *ret)
{
    *ret = (struct rest_response){.status = http->status, .text = readable(http->body)};
    if (http->is_json && http->len > 0) {
        /* What is no JSON in spite of its type is text. */
        err_free(jv_parse(http->body, http->len, &ret->body));
    }
}

struct err *rest_send(struct rest_session *s, const struct rest_request *req,
                      struct rest_response *ret)
{
    CLEANUP(tokens_fini) struct tokens t = {0};
    CLEANUP(http_response_fini) struct http_response http = {0};
    CLEANUP(freep) char *body = req->body ? jv_text(req->body) : NULL;
    const struct tokens none = {0};

    TRY(get_tokens(s, req, &none, &t));
    TRY_CTX(send_once(s, req, &t, body, &http), "asking %s", s->conf.section);
    if (http.status == 401 && may_renew(&t)) {
        CLEANUP(tokens_fini) struct tokens fresh = {0};

        http_response_fini(&http);
        TRY(get_tokens(s, req, &t, &fresh));
        TRY_CTX(send_once(s, req, &fresh, body, &http), "asking %s", s->conf.section);
    }
    take_response(&http, ret);
    return NULL;
}

/* The service's own words in an error's body: placement's errors[0].detail, and the "message" that
 * neutron, cinder and keystone have one level down. */
static const char *message_in(struct json_object *body)
{
    struct json_object *errors = jv_get(body, "errors"), *message = NULL;

    if (json_object_is_type(errors, json_type_array) && json_object_array_length(errors) > 0) {
        return json_object_get_string(jv_get(json_object_array_get_idx(errors, 0), "detail"));
    }
    if (!json_object_is_type(body, json_type_object)) {
        return NULL;
    }
    json_object_object_foreach(body, key, value)
    {
        (void)key;
        message = json_object_is_type(value, json_type_string) ? value : jv_get(value, "message");
        if (message) {
            break;
        }
    }
    return json_object_get_string(message);
}

const char *rest_error_text(const struct rest_response *resp)
{
    const char *message = message_in(resp->body);

    return message ? message : resp->text;
}

static enum err_kind kind_of(long status)
{
    switch (status) {
    case 401:
        return ERR_UNAUTHORIZED;
    case 403:
        return ERR_FORBIDDEN;
    case 404:
        return ERR_NOT_FOUND;
    case 409:
        return ERR_CONFLICT;
    default:
        return ERR_HTTP;
    }
}

struct err *rest_error(const struct rest_request *req, const struct rest_response *resp)
{
    return err_msg(kind_of(resp->status), "%s %s answered %ld: %s", req->method, req->path,
                   resp->status, rest_error_text(resp));
}

struct err *rest_call(struct rest_session *s, const struct rest_request *req,
                      struct json_object **ret_body)
{
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    TRY(rest_send(s, req, &resp));
    if (resp.status < 200 || resp.status > 299) {
        return rest_error(req, &resp);
    }
    *ret_body = TAKE(resp.body);
    return NULL;
}

void rest_response_fini(struct rest_response *resp)
{
    json_object_put(resp->body);
    free(resp->text);
    *resp = (struct rest_response){0};
}

char *rest_quote(const char *s)
{
    return http_quote(s);
}

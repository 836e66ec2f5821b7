#include "rpc/rest/keystone.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RENEW_MS     60000  /* Before its end; keystoneauth's is 30 s. */
#define DEFAULT_MS   300000 /* Life of a token whose times cannot be read. */
#define WAIT_MS      180000 /* For another thread that fetches: all its attempts. */
#define N_RETRIES    2
#define TOKEN_HEADER "X-Subject-Token"

struct token {
    atomic_uint n_refs;
    char *text;
    struct catalog catalog;
    int64_t fetched_ms;
    int64_t expires_ms; /* clock_ms() */
};

struct keystone {
    char *key; /* All of the credentials: who has the same shares this. */
    char *url;
    char *body;
    char *cafile, *certfile, *keyfile;
    bool insecure;
    int64_t timeout_ms;
    unsigned n_refs GUARDED_BY(registry_lock);
    struct keystone *next GUARDED_BY(registry_lock);

    struct mutex lock;
    struct cond fetched;
    struct token *token GUARDED_BY(lock);
    bool is_fetching GUARDED_BY(lock);
    uint64_t n_fetches GUARDED_BY(lock);
    struct err *error GUARDED_BY(lock); /* Of the last fetch. */
};

/* Of the process, so that sections with the same credentials find each other. */
static struct mutex registry_lock = MUTEX_INIT;
static struct keystone *registry GUARDED_BY(registry_lock);

const char *token_text(const struct token *t)
{
    return t->text;
}

const struct catalog *token_catalog(const struct token *t)
{
    return &t->catalog;
}

int64_t token_age_ms(const struct token *t)
{
    return clock_ms() - t->fetched_ms;
}

static struct token *token_ref(struct token *t)
{
    atomic_fetch_add(&t->n_refs, 1);
    return t;
}

struct token *token_free(struct token *t)
{
    if (t && atomic_fetch_sub(&t->n_refs, 1) == 1) {
        free(t->text);
        catalog_fini(&t->catalog);
        free(t);
    }
    return NULL;
}

void keystone_conf_fini(struct keystone_conf *c)
{
    char *strings[] = {c->auth_type,         c->auth_url,
                       c->username,          c->user_id,
                       c->password,          c->user_domain_name,
                       c->user_domain_id,    c->project_name,
                       c->project_id,        c->project_domain_name,
                       c->project_domain_id, c->domain_name,
                       c->domain_id,         c->system_scope,
                       c->trust_id,          c->default_domain_name,
                       c->default_domain_id, c->cafile,
                       c->certfile,          c->keyfile};

    for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
        free(strings[i]);
    }
    *c = (struct keystone_conf){0};
}

char *keystone_url(const char *auth_url)
{
    return catalog_url(auth_url, "v3", "/auth/tokens");
}

/* {"id": ...} or {"name": ...}; NULL if there is neither. */
static struct json_object *id_or_name(const char *id, const char *name)
{
    struct json_object *obj;

    if (str_is_empty(id) && str_is_empty(name)) {
        return NULL;
    }
    obj = json_object_new_object();
    if (!str_is_empty(id)) {
        jv_add_str(obj, "id", id);
    } else {
        jv_add_str(obj, "name", name);
    }
    return obj;
}

/* The same with the domain that a name belongs to. */
static struct json_object *in_domain(const struct keystone_conf *c, const char *id,
                                     const char *name, const char *domain_id,
                                     const char *domain_name)
{
    struct json_object *obj = id_or_name(id, name), *domain;

    if (!obj || !str_is_empty(id)) {
        return obj;
    }
    domain = id_or_name(domain_id, domain_name);
    if (!domain) {
        domain = id_or_name(c->default_domain_id, c->default_domain_name);
    }
    if (domain) {
        jv_add(obj, "domain", domain);
    }
    return obj;
}

static struct json_object *make_scope(const struct keystone_conf *c)
{
    struct json_object *scope = json_object_new_object(), *what;

    if (!str_is_empty(c->trust_id)) {
        jv_add(scope, "OS-TRUST:trust", id_or_name(c->trust_id, NULL));
    } else if (!str_is_empty(c->system_scope)) {
        what = json_object_new_object();
        jv_add_bool(what, c->system_scope, true);
        jv_add(scope, "system", what);
    } else if ((what = id_or_name(c->domain_id, c->domain_name))) {
        jv_add(scope, "domain", what);
    } else if ((what = in_domain(c, c->project_id, c->project_name, c->project_domain_id,
                                 c->project_domain_name))) {
        jv_add(scope, "project", what);
    } else {
        json_object_put(scope);
        return NULL;
    }
    return scope;
}

static bool is_application_credential(const struct keystone_conf *c)
{
    return str_eq(c->auth_type, "v3applicationcredential");
}

/* Who we are: {"user": {...}} for a password. */
static struct json_object *password_method(const struct keystone_conf *c)
{
    struct json_object *password = json_object_new_object();
    struct json_object *user =
        in_domain(c, c->user_id, c->username, c->user_domain_id, c->user_domain_name);

    jv_add_str(user, "password", c->password);
    jv_add(password, "user", user);
    return password;
}

/* The same for an application credential; only its name needs the user. */
static struct json_object *credential_method(const struct keystone_conf *c)
{
    struct json_object *credential =
        id_or_name(c->application_credential_id, c->application_credential_name);

    jv_add_str(credential, "secret", c->application_credential_secret);
    if (str_is_empty(c->application_credential_id)) {
        jv_add(credential, "user",
               in_domain(c, c->user_id, c->username, c->user_domain_id, c->user_domain_name));
    }
    return credential;
}

struct json_object *keystone_request(const struct keystone_conf *c)
{
    struct json_object *root = json_object_new_object(), *auth = json_object_new_object();
    struct json_object *identity = json_object_new_object(), *methods = json_object_new_array();
    bool is_credential = is_application_credential(c);
    const char *method = is_credential ? "application_credential" : "password";
    struct json_object *scope = is_credential ? NULL : make_scope(c); /* It has its project. */

    json_object_array_add(methods, json_object_new_string(method));
    jv_add(identity, "methods", methods);
    jv_add(identity, method, is_credential ? credential_method(c) : password_method(c));
    jv_add(auth, "identity", identity);
    if (scope) {
        jv_add(auth, "scope", scope);
    }
    jv_add(root, "auth", auth);
    return root;
}

static struct err *check_conf(const struct keystone_conf *c)
{
    bool is_credential = is_application_credential(c);
    bool has_user = !str_is_empty(c->username) || !str_is_empty(c->user_id);

    if (!is_credential && !str_eq(c->auth_type, "password") &&
        !str_eq(c->auth_type, "v3password")) {
        return err_msg(ERR_CONFIG,
                       "auth_type is '%s'; supported are password and v3applicationcredential",
                       c->auth_type ? c->auth_type : "");
    }
    if (str_is_empty(c->auth_url)) {
        return err_msg(ERR_CONFIG, "auth_url is not set");
    }
    if (is_credential && str_is_empty(c->application_credential_id) &&
        (str_is_empty(c->application_credential_name) || !has_user)) {
        return err_msg(ERR_CONFIG, "application_credential_id is not set");
    }
    if (!is_credential && !has_user) {
        return err_msg(ERR_CONFIG, "username is not set");
    }
    return NULL;
}

static struct keystone *keystone_new(const struct keystone_conf *c, char *url, char *body,
                                     char *key)
{
    struct keystone *k = NEW(struct keystone);

    k->url = url;
    k->body = body;
    k->key = key;
    k->cafile = str_dup(c->cafile);
    k->certfile = str_dup(c->certfile);
    k->keyfile = str_dup(c->keyfile);
    k->insecure = c->insecure;
    k->timeout_ms = c->timeout_ms;
    k->n_refs = 1;
    mutex_init(&k->lock);
    cond_init(&k->fetched);
    return k;
}

struct err *keystone_open(const struct keystone_conf *c, struct keystone **ret)
{
    CLEANUP(jv_putp) struct json_object *request = NULL;
    CLEANUP(freep) char *url = NULL, *body = NULL, *key = NULL;
    struct keystone *k;

    TRY(check_conf(c));
    request = keystone_request(c);
    url = keystone_url(c->auth_url);
    body = jv_text(request);
    key = str_printf("%s %s %s %s %s %d", url, body, c->cafile ? c->cafile : "",
                     c->certfile ? c->certfile : "", c->keyfile ? c->keyfile : "", c->insecure);
    mutex_lock(&registry_lock);
    for (k = registry; k && !str_eq(k->key, key); k = k->next) {
    }
    if (k) {
        k->n_refs++;
    } else {
        k = keystone_new(c, TAKE(url), TAKE(body), TAKE(key));
        k->next = registry;
        registry = k;
    }
    mutex_unlock(&registry_lock);
    *ret = k;
    return NULL;
}

struct keystone *keystone_close(struct keystone *k)
{
    bool is_last;

    if (!k) {
        return NULL;
    }
    mutex_lock(&registry_lock);
    is_last = --k->n_refs == 0;
    for (struct keystone **p = &registry; is_last && *p; p = &(*p)->next) {
        if (*p == k) {
            *p = k->next;
            break;
        }
    }
    mutex_unlock(&registry_lock);
    if (is_last) {
        token_free(k->token);
        err_free(k->error);
        mutex_fini(&k->lock);
        cond_fini(&k->fetched);
        free(k->key);
        free(k->url);
        explicit_bzero(k->body, strlen(k->body));
        free(k->body);
        free(k->cafile);
        free(k->certfile);
        free(k->keyfile);
        free(k);
    }
    return NULL;
}

/* "2026-01-31T12:00:00.000000Z" in seconds since the epoch; -1 if it is something else. */
static int64_t parse_time(const char *text)
{
    struct tm tm = {0};

    return text && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) : -1;
}

/* How long a token lives.  Measured between keystone's own two times: its clock and ours may
 * differ. */
static int64_t lifetime_ms(const char *issued_at, const char *expires_at)
{
    int64_t issued = parse_time(issued_at), expires = parse_time(expires_at);

    return issued >= 0 && expires > issued ? (expires - issued) * 1000 : DEFAULT_MS;
}

static struct err *read_token(const struct http_response *resp, int64_t now_ms, struct token **ret)
{
    CLEANUP(jv_putp) struct json_object *root = NULL;
    struct token *t;

    TRY(jv_parse(resp->body, resp->len, &root));
    struct jv_reader r = jv_reader_init(jv_get(root, "token"), "token");
    int64_t life_ms = lifetime_ms(jv_str_or(&r, "issued_at", NULL), jv_str(&r, "expires_at"));
    struct json_object *services = jv_arr_or(&r, "catalog");

    TRY(jv_finish(&r));
    if (str_is_empty(resp->header)) {
        return err_msg(ERR_PARSE, "the answer has no " TOKEN_HEADER);
    }
    t = NEW(struct token);
    atomic_init(&t->n_refs, 1);
    t->text = str_dup(resp->header);
    t->fetched_ms = now_ms;
    t->expires_ms = now_ms + life_ms;
    catalog_read(services, &t->catalog);
    log_debug(LOG_REST, "new token for %" PRId64 " s, %zu endpoints", life_ms / 1000, t->catalog.n);
    *ret = t;
    return NULL;
}

static struct err *fetch(struct keystone *k, struct token **ret)
{
    const struct http_tls tls = {.cafile = k->cafile,
                                 .certfile = k->certfile,
                                 .keyfile = k->keyfile,
                                 .insecure = k->insecure};
    const struct http_request req = {.method = "POST",
                                     .url = k->url,
                                     .body = k->body,
                                     .want_header = TOKEN_HEADER,
                                     .tls = &tls,
                                     .timeout_ms = k->timeout_ms,
                                     .n_retries = N_RETRIES,
                                     .is_idempotent = true};
    CLEANUP(http_response_fini) struct http_response resp = {0};
    int64_t now_ms = clock_ms(); /* Before the request: rather too early than too late. */
    struct err *e;

    TRY_CTX(http_send(&req, &resp), "getting a token");
    if (resp.status == 401 || resp.status == 403) {
        return err_msg(ERR_UNAUTHORIZED, "keystone refuses our credentials (%ld)", resp.status);
    }
    if (resp.status != 200 && resp.status != 201) {
        return err_msg(ERR_HTTP, "POST %s answered %ld", k->url, resp.status);
    }
    e = read_token(&resp, now_ms, ret);
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        err_free(e);
        return err_msg(ERR_HTTP, "POST %s answered no token: %s", k->url, text);
    }
    return NULL;
}

static bool is_good(const struct token *t, const struct token *refused)
{
    return t && clock_ms() < t->expires_ms - RENEW_MS &&
           !(refused && str_eq(t->text, refused->text));
}

/* Waits for the fetch that is under way; its error, which is the caller's. */
static struct err *wait_locked(struct keystone *k) REQUIRES(k->lock)
{
    uint64_t before = k->n_fetches;
    int64_t deadline_ms = clock_ms() + WAIT_MS;

    while (k->n_fetches == before) {
        if (!cond_wait_until(&k->fetched, &k->lock, deadline_ms)) {
            return err_msg(ERR_HTTP, "no token after %d s", WAIT_MS / 1000);
        }
    }
    return k->error ? err_dup(k->error) : NULL;
}

/* Fetches; the lock is released meanwhile. */
static struct err *fetch_locked(struct keystone *k) REQUIRES(k->lock)
{
    struct token *t = NULL;
    struct err *e;

    k->is_fetching = true;
    mutex_unlock(&k->lock);
    e = fetch(k, &t);
    mutex_lock(&k->lock);
    k->is_fetching = false;
    k->n_fetches++;
    k->error = err_free(k->error);
    if (e) {
        k->error = err_dup(e);
    } else {
        token_free(k->token);
        k->token = t;
    }
    cond_broadcast(&k->fetched);
    return e;
}

struct err *keystone_get(struct keystone *k, const struct token *refused, struct token **ret)
{
    struct token *t = NULL;
    struct err *e = NULL;

    mutex_lock(&k->lock);
    while (!e && !is_good(k->token, refused)) {
        if (k->is_fetching) {
            e = wait_locked(k);
        } else {
            e = fetch_locked(k);
            break; /* Whatever its times say: it is new. */
        }
    }
    if (!e) {
        t = token_ref(k->token);
    }
    mutex_unlock(&k->lock);
    TRY(e);
    *ret = t;
    return NULL;
}

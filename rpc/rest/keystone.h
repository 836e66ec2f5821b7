#pragma once

/* Tokens: getting one with a password or an application credential, keeping it until shortly before
 * it ends.
 *
 * All that log in with the same credentials share one keystone and so one token.  One thread
 * fetches, the others wait for it.
 *
 * Source: keystoneauth1/identity/v3 (base.py, password.py, application_credential.py); Identity API
 * v3, "auth/tokens".
 *
 * Thread-safety: from any thread; tokens are immutable and their references are atomic. */

#include "base/err.h"
#include "rpc/rest/catalog.h"
#include "rpc/rest/http.h"

/* keystoneauth's options of a section; NULLs are not set. */
struct keystone_conf {
    char *auth_type; /* "password", "v3password", "v3applicationcredential" */
    char *auth_url;
    char *username, *user_id, *password;
    char *user_domain_name, *user_domain_id;
    char *project_name, *project_id;
    char *project_domain_name, *project_domain_id;
    char *domain_name, *domain_id; /* Scope, instead of a project. */
    char *system_scope;            /* "all", instead of a project. */
    char *trust_id;
    char *default_domain_name, *default_domain_id; /* Of user and project, if they have none. */
    char *application_credential_name, *application_credential_id, *application_credential_secret;
    char *cafile, *certfile, *keyfile;
    bool insecure;
    int64_t timeout_ms; /* 0: 60 s. */
};

void keystone_conf_fini(struct keystone_conf *);

/* The body of POST /v3/auth/tokens: pure, for tests. */
struct json_object *keystone_request(const struct keystone_conf *) MUST_CHECK;
/* Its URL, whatever version auth_url names. */
char *keystone_url(const char *auth_url) MUST_CHECK;

struct keystone;

/* Copies what it needs; the one that exists for these credentials, if there is one.  ERR_CONFIG
 * when something is missing. */
struct err *keystone_open(const struct keystone_conf *, struct keystone **ret) MUST_CHECK;
/* Drops a reference; takes NULL, returns NULL. */
struct keystone *keystone_close(struct keystone *);

struct token;

/* A token that is good for a minute at least.  'refused', which may be NULL, is one that a service
 * answered with 401: it is not given again.  ERR_UNAUTHORIZED: keystone does not take our password;
 * ERR_HTTP: it does not answer, or not sensibly. */
struct err *keystone_get(struct keystone *, const struct token *refused, struct token **ret)
    MUST_CHECK;

const char *token_text(const struct token *);
const struct catalog *token_catalog(const struct token *);
/* Milliseconds since it was fetched. */
int64_t token_age_ms(const struct token *);
struct token *token_free(struct token *); /* Drops a reference. */
static inline void token_freep(struct token **p)
{
    *p = token_free(*p);
}

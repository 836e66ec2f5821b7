#include "rpc/rest/session_conf.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static void read_auth(const struct conf_client *c, struct keystone_conf *ret)
{
    *ret = (struct keystone_conf){
        .auth_type = str_dup(c->auth_type),
        .auth_url = str_dup(c->auth_url),
        .username = str_dup(c->username),
        .user_id = str_dup(c->user_id),
        .password = str_dup(c->password),
        .user_domain_name = str_dup(c->user_domain_name),
        .user_domain_id = str_dup(c->user_domain_id),
        .project_name = str_dup(c->project_name),
        .project_id = str_dup(c->project_id),
        .project_domain_name = str_dup(c->project_domain_name),
        .project_domain_id = str_dup(c->project_domain_id),
        .domain_name = str_dup(c->domain_name),
        .domain_id = str_dup(c->domain_id),
        .system_scope = str_dup(c->system_scope),
        .trust_id = str_dup(c->trust_id),
        .default_domain_name = str_dup(c->default_domain_name),
        .default_domain_id = str_dup(c->default_domain_id),
        .application_credential_name = str_dup(c->application_credential_name),
        .application_credential_id = str_dup(c->application_credential_id),
        .application_credential_secret = str_dup(c->application_credential_secret),
        .cafile = str_dup(c->cafile),
        .certfile = str_dup(c->certfile),
        .keyfile = str_dup(c->keyfile),
        .insecure = c->insecure,
        .timeout_ms = conf_is_set_int(c->timeout) && c->timeout > 0 ? c->timeout * 1000 : 0,
    };
}

/* Nova has no credentials for images: users have.  Where there is no user it is the service's. */
static void read_image_auth(const struct conf *conf, const struct conf_client *c,
                            struct keystone_conf *ret)
{
    struct conf_client own = conf->service_user.client;

    own.cafile = c->cafile;
    own.certfile = c->certfile;
    own.keyfile = c->keyfile;
    own.insecure = c->insecure;
    own.timeout = c->timeout;
    read_auth(&own, ret);
}

/* The token that goes along with a user's; without auth_type it is only warned, as Nova does. */
static void read_service_user(const struct conf *conf, struct rest_conf *ret)
{
    if (!conf->service_user.send_service_user_token) {
        return;
    }
    if (!conf->service_user.client.auth_type) {
        log_warning(LOG_REST, "[service_user] has no auth_type, sending no service token");
        return;
    }
    read_auth(&conf->service_user.client, &ret->user_auth);
}

/* "TYPE:NAME:INTERFACE", in which the name may be empty. */
static void read_catalog_info(const char *info, struct rest_conf *ret)
{
    const char *name = strchr(info, ':');
    const char *interface = name ? strchr(name + 1, ':') : NULL;

    if (interface) {
        ret->service_type = str_ndup(info, (size_t)(name - info));
        ret->service_name = str_ndup(name + 1, (size_t)(interface - name - 1));
        strv_add(&ret->interfaces, interface + 1);
    }
}

static void read_adapter(const struct conf_client *c, struct rest_conf *ret)
{
    ret->service_type = str_dup(c->service_type);
    ret->service_name = str_dup(c->service_name);
    ret->region_name = str_dup(c->region_name);
    ret->endpoint_override = str_dup(c->endpoint_override);
    for (size_t i = 0; i < c->valid_interfaces.n; i++) {
        strv_add(&ret->interfaces, c->valid_interfaces.items[i]);
    }
}

static unsigned count_or_0(int64_t n)
{
    return conf_is_set_int(n) && n > 0 ? (unsigned)MIN(n, (int64_t)100) : 0;
}

struct err *rest_conf_read(const struct conf *conf, const char *section, struct rest_conf *ret)
{
    const struct conf_client *c = conf_client(conf, section);

    if (!c) {
        return err_msg(ERR_CONFIG, "[%s] is no service", section);
    }
    *ret = (struct rest_conf){.section = section};
    if (str_eq(section, "glance")) {
        read_image_auth(conf, c, &ret->auth);
    } else {
        read_auth(c, &ret->auth);
    }
    read_service_user(conf, ret);
    if (str_eq(section, "cinder")) {
        read_catalog_info(conf->cinder.catalog_info, ret);
        ret->region_name = str_dup(conf->cinder.os_region_name);
        ret->n_retries = count_or_0(conf->cinder.http_retries);
        return NULL;
    }
    read_adapter(c, ret);
    ret->n_retries = MAX(count_or_0(c->connect_retries), count_or_0(c->status_code_retries));
    if (str_eq(section, "neutron")) {
        ret->n_retries = count_or_0(conf->neutron.http_retries);
    }
    if (str_eq(section, "glance") && !ret->endpoint_override && conf->glance.api_servers.n > 0) {
        ret->endpoint_override = str_dup(conf->glance.api_servers.items[0]);
    }
    return NULL;
}

struct err *rest_session_new(struct conf_holder *holder, const char *section,
                             struct rest_session **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(holder);
    struct rest_conf rest = {0};

    TRY(rest_conf_read(conf, section, &rest));
    return rest_session_from_conf(&rest, ret);
}

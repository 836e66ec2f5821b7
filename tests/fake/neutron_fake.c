#include "tests/fake/neutron_fake.h"

#include "rpc/rest/http.h"
#include "rpc/rest/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct neutron_fake neutron_fake;

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    if (jv_parse(text, strlen(text), &json)) {
        abort();
    }
    return json;
}

static const char *str_of(struct json_object *o, const char *key)
{
    return json_object_get_string(jv_get(o, key));
}

static struct json_object *find(struct json_object *list, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (str_eq(str_of(json_object_array_get_idx(list, i), "id"), id)) {
            return json_object_array_get_idx(list, i);
        }
    }
    return NULL;
}

struct json_object *neutron_fake_port(const char *id)
{
    return find(neutron_fake.ports, id);
}

static void unquote(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (*s == '%') {
            char hex[3] = {s[1], s[2], 0};

            *to++ = (char)strtol(hex, NULL, 16);
            s += 2;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

/* Whether "a=b&c=d" holds; several of one key: one of them. */
static bool matches(struct json_object *item, const char *query)
{
    CLEANUP(strv_fini) struct strv pairs = strv_split(query, "&");
    bool has_id = false, is_id = false;

    for (size_t i = 0; i < pairs.n; i++) {
        char *value = strchr(pairs.items[i], '=');

        *value++ = 0;
        unquote(value);
        struct json_object *have = jv_get(item, pairs.items[i]);
        const char *text = json_object_is_type(have, json_type_boolean)
                               ? (json_object_get_boolean(have) ? "True" : "False")
                               : json_object_get_string(have);

        if (str_eq(pairs.items[i], "fields")) {
            continue;
        }
        if (str_eq(pairs.items[i], "fixed_ips")) { /* ip_address=10.0.0.9 */
            if (!strstr(text, strchr(value, '=') + 1)) {
                return false;
            }
            continue;
        }
        if (str_eq(pairs.items[i], "id")) {
            has_id = true;
            is_id |= str_eq(text, value);
        } else if (!str_eq(text, value)) {
            return false;
        }
    }
    return !has_id || is_id;
}

static void answer_list(struct rest_response *ret, const char *what, struct json_object *items,
                        const char *query)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);

        if (matches(item, query)) {
            json_object_array_add(list, jv_dup(item));
        }
    }
    ret->status = 200;
    ret->body = json_object_new_object();
    jv_add(ret->body, what, list);
}

static void answer_error(struct rest_response *ret, long status, const char *type)
{
    struct json_object *e = json_object_new_object();

    jv_add_str(e, "type", type ? type : "Broken");
    jv_add_str(e, "message", "no");
    ret->status = status;
    ret->body = json_object_new_object();
    jv_add(ret->body, "NeutronError", e);
    ret->text = str_dup("no");
}

static void answer_port(struct rest_response *ret, struct json_object *p)
{
    ret->status = 200;
    ret->body = json_object_new_object();
    jv_add(ret->body, "port", jv_dup(p));
}

/* Who asks for an address of a subnet gets one. */
static void give_addresses(struct json_object *ips)
{
    for (size_t i = 0; i < json_object_array_length(ips); i++) {
        struct json_object *ip = json_object_array_get_idx(ips, i);

        if (!jv_get(ip, "ip_address")) {
            jv_add_str(ip, "ip_address", "10.1.0.5");
        }
    }
}

static void change_port(struct json_object *p, struct json_object *attrs)
{
    json_object_object_foreach(attrs, key, value)
    {
        jv_add(p, key, jv_dup(value));
    }
    give_addresses(jv_get(p, "fixed_ips"));
    if (json_object_object_get_ex(attrs, "binding:host_id", NULL)) {
        const char *bound = jv_get(p, "x-fails") ? "binding_failed" : "ovs";

        jv_add_str(p, "binding:vif_type", str_of(p, "binding:host_id") ? bound : "unbound");
    }
}

static void make_port(struct json_object *attrs)
{
    CLEANUP(freep) char *id = str_printf("made-%u", ++neutron_fake.n_made);
    CLEANUP(freep) char *mac = str_printf("fa:16:3e:00:00:%02x", neutron_fake.n_made);
    struct json_object *p = json_object_new_object();

    jv_add_str(p, "id", id);
    jv_add_str(p, "mac_address", mac);
    jv_add_str(p, "status", "DOWN");
    jv_add(p, "fixed_ips", json_object_new_array());
    change_port(p, attrs);
    if (jv_get(find(neutron_fake.networks, str_of(attrs, "network_id")), "x-qos")) {
        struct json_object *request = json_object_new_object();

        jv_add(request, "resources", json_object_new_object());
        jv_add(p, "resource_request", request);
    }
    json_object_array_add(neutron_fake.ports, p);
}

static void delete_port(const char *id)
{
    for (size_t i = 0; i < json_object_array_length(neutron_fake.ports); i++) {
        if (str_eq(str_of(json_object_array_get_idx(neutron_fake.ports, i), "id"), id)) {
            json_object_array_del_idx(neutron_fake.ports, i, 1);
            return;
        }
    }
}

static void one_port(const struct rest_request *req, struct rest_response *ret)
{
    struct json_object *attrs = jv_get(req->body, "port");
    const char *id = req->path + strlen("/ports/");
    struct json_object *p = NULL;

    if (str_eq(req->method, "POST")) {
        make_port(attrs);
        p = json_object_array_get_idx(neutron_fake.ports,
                                      json_object_array_length(neutron_fake.ports) - 1);
        answer_port(ret, p);
        return;
    }
    if (strstr(id, "/bindings/")) {
        ret->status = 204;
        return;
    }
    p = neutron_fake_port(id);
    if (!p) {
        answer_error(ret, 404, "PortNotFound");
    } else if (str_eq(req->method, "DELETE")) {
        delete_port(id);
        ret->status = 204;
    } else {
        if (attrs) {
            change_port(p, attrs);
        }
        answer_port(ret, p);
    }
}

static void carry_out(const struct rest_request *req, struct rest_response *ret)
{
    const char *query = strchr(req->path, '?');
    CLEANUP(jv_putp) struct json_object *items = json_object_new_array();
    CLEANUP(jv_putp)
    struct json_object *groups =
        parse("[{\"id\": \"g-1\", \"name\": \"web\", \"tenant_id\": \"p1\"},"
              " {\"id\": \"g-2\", \"name\": \"db\", \"tenant_id\": \"p1\"},"
              " {\"id\": \"g-3\", \"name\": \"db\", \"tenant_id\": \"p1\"}]");

    if (str_starts(req->path, "/ports?")) {
        answer_list(ret, "ports", neutron_fake.ports, query + 1);
    } else if (str_starts(req->path, "/ports")) {
        one_port(req, ret);
    } else if (str_starts(req->path, "/subnets?")) {
        answer_list(ret, "subnets", neutron_fake.subnets ? neutron_fake.subnets : items, query + 1);
    } else if (str_starts(req->path, "/networks?")) {
        answer_list(ret, "networks", neutron_fake.networks, query + 1);
    } else if (str_starts(req->path, "/networks/")) {
        ret->status = 200;
        ret->body = json_object_new_object();
        jv_add(ret->body, "network", jv_dup(find(neutron_fake.networks, req->path + 10)));
    } else if (str_starts(req->path, "/security-groups?")) {
        answer_list(ret, "security_groups", groups, query + 1);
    } else if (str_starts(req->path, "/auto-allocated-topology/") && neutron_fake.auto_network) {
        struct json_object *topology = json_object_new_object();

        jv_add_str(topology, "id", neutron_fake.auto_network);
        ret->status = 200;
        ret->body = json_object_new_object();
        jv_add(ret->body, "auto_allocated_topology", topology);
    } else if (str_starts(req->path, "/extensions")) {
        static const char *const names[] = {"binding-extended", "dns-integration",
                                            "port-resource-request-groups"};

        for (size_t i = 0;
             i < 1 + (size_t)neutron_fake.has_dns + 2 * (size_t)neutron_fake.has_groups; i++) {
            struct json_object *e = json_object_new_object();

            jv_add_str(e, "alias", names[i]);
            json_object_array_add(items, e);
        }
        answer_list(ret, "extensions", items, "");
    } else {
        answer_error(ret, 404, "HTTPNotFound");
    }
}

static struct neutron_fault *fault_of(const struct rest_request *req)
{
    for (size_t i = 0; i < neutron_fake.n_faults; i++) {
        struct neutron_fault *f = &neutron_fake.faults[i];

        if (str_eq(f->method, req->method) && str_starts(req->path, f->path) && f->skip-- == 0) {
            return f;
        }
    }
    return NULL;
}

struct err *rest_send(struct rest_session *s, const struct rest_request *req,
                      struct rest_response *ret)
{
    struct neutron_fault *f = fault_of(req);
    bool is_users = req->user && rctx_auth_token(req->user);

    (void)s;
    if (!str_eq(req->method, "GET")) {
        strv_add_take(&neutron_fake.log,
                      str_printf("%s%s %s", is_users ? "user " : "", req->method, req->path));
    }
    *ret = (struct rest_response){0};
    if (!f || f->is_done) {
        carry_out(req, ret);
    }
    if (f) {
        rest_response_fini(ret);
        answer_error(ret, f->status, f->type);
    }
    return NULL;
}

struct err *rest_error(const struct rest_request *req, const struct rest_response *resp)
{
    enum err_kind kind = resp->status == 404   ? ERR_NOT_FOUND
                         : resp->status == 409 ? ERR_CONFLICT
                                               : ERR_HTTP;

    return err_msg(kind, "%s %s answered %ld", req->method, req->path, resp->status);
}

struct err *rest_call(struct rest_session *s, const struct rest_request *req,
                      struct json_object **ret)
{
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    TRY(rest_send(s, req, &resp));
    if (resp.status > 299) {
        return rest_error(req, &resp);
    }
    *ret = TAKE(resp.body);
    return NULL;
}

const char *rest_error_text(const struct rest_response *resp)
{
    return resp->text;
}

void rest_response_fini(struct rest_response *resp)
{
    jv_putp(&resp->body);
    free(resp->text);
    *resp = (struct rest_response){0};
}

char *rest_quote(const char *s)
{
    return http_quote(s);
}

struct rest_session *rest_session_free(struct rest_session *s)
{
    assert(!s);
    return NULL;
}

/* ---- For tests ---- */

void neutron_fake_reset(void)
{
    jv_putp(&neutron_fake.ports);
    jv_putp(&neutron_fake.networks);
    jv_putp(&neutron_fake.subnets);
    strv_fini(&neutron_fake.log);
    memset(&neutron_fake, 0, sizeof(neutron_fake));
}

void neutron_fake_set(const char *ports, const char *networks)
{
    jv_putp(&neutron_fake.ports);
    jv_putp(&neutron_fake.networks);
    neutron_fake.ports = parse(ports);
    neutron_fake.networks = parse(networks);
}

void neutron_fake_fail(const char *method, const char *path, int skip, long status,
                       const char *type)
{
    assert(neutron_fake.n_faults < ARRAY_SIZE(neutron_fake.faults));
    neutron_fake.faults[neutron_fake.n_faults++] = (struct neutron_fault){
        .method = method, .path = path, .skip = skip, .status = status, .type = type};
}

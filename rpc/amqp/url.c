#include "rpc/amqp/url.h"

#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX; anything else that has a percent sign stays, as in Python. */
static char *percent_decode(const char *s, size_t len)
{
    struct strbuf b = {0};

    for (size_t i = 0; i < len; i++) {
        int high = s[i] == '%' && len - i > 2 ? hex_digit(s[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s[i + 2]) : -1;

        if (low >= 0 && (high || low)) {
            strbuf_addc(&b, (char)(high << 4 | low));
            i += 2;
        } else {
            strbuf_addc(&b, s[i]);
        }
    }
    return strbuf_take(&b);
}

static const char *find_last(const char *s, size_t len, char c)
{
    return memrchr(s, c, len);
}

MUST_CHECK static struct err *parse_port(const char *text, size_t len, uint16_t *ret)
{
    CLEANUP(freep) char *port = str_ndup(text, len);
    uint64_t n = URL_DEFAULT_PORT;

    if (*port && (!str_to_u64(port, &n) || n == 0 || n > UINT16_MAX)) {
        return err_msg(ERR_CONFIG, "transport_url: '%s' is not a port", port);
    }
    *ret = (uint16_t)n;
    return NULL;
}

/* "host", "host:port", "[v6]", "[v6]:port" or nothing. */
MUST_CHECK static struct err *parse_address(const char *s, size_t len, struct url_host *ret)
{
    const char *end = s + len, *host_end, *port;

    if (len && *s == '[') {
        host_end = memchr(s, ']', len);
        if (!host_end || (host_end + 1 < end && host_end[1] != ':')) {
            return err_msg(ERR_CONFIG, "transport_url: a bad IPv6 address");
        }
        s++;
        port = host_end + 1 < end ? host_end + 2 : end;
    } else {
        host_end = memchr(s, ':', len);
        port = host_end ? host_end + 1 : end;
        host_end = host_end ? host_end : end;
    }
    TRY(parse_port(port, (size_t)(end - port), &ret->port));
    ret->host = host_end > s ? str_ndup(s, (size_t)(host_end - s)) : str_dup("localhost");
    return NULL;
}

static void add_host(struct url *u, struct url_host host)
{
    u->hosts = mem_realloc(u->hosts, u->n_hosts + 1, sizeof(*u->hosts));
    u->hosts[u->n_hosts++] = host;
}

static void host_fini(struct url_host *h)
{
    free(h->host);
    free(h->user);
    free(h->password);
    *h = (struct url_host){0};
}

MUST_CHECK static struct err *parse_host(const char *s, size_t len, struct url *u)
{
    CLEANUP(host_fini) struct url_host h = {0};
    const char *at = find_last(s, len, '@');
    const char *address = at ? at + 1 : s;

    if (at) {
        const char *colon = memchr(s, ':', (size_t)(at - s));

        h.user = percent_decode(s, (size_t)((colon ? colon : at) - s));
        if (colon) {
            h.password = percent_decode(colon + 1, (size_t)(at - colon - 1));
        }
    }
    TRY(parse_address(address, len - (size_t)(address - s), &h));
    add_host(u, h);
    h = (struct url_host){0};
    return NULL;
}

MUST_CHECK static struct err *parse_hosts(const char *s, size_t len, struct url *u)
{
    size_t n_credentials = 0;

    for (const char *end = s + len; s < end;) {
        const char *comma = memchr(s, ',', (size_t)(end - s));
        size_t part = (size_t)((comma ? comma : end) - s);

        if (part) {
            TRY(parse_host(s, part, u));
        }
        s += part + 1;
    }
    if (u->n_hosts == 0) {
        add_host(u, (struct url_host){.host = str_dup("localhost"), .port = URL_DEFAULT_PORT});
    }
    for (size_t i = 0; i < u->n_hosts; i++) {
        n_credentials += u->hosts[i].user && u->hosts[i].password;
    }
    if (n_credentials && n_credentials < u->n_hosts) {
        return err_msg(ERR_CONFIG, "transport_url: either all hosts have a user and a password or "
                                   "none has");
    }
    for (size_t i = 0; i < u->n_hosts && !n_credentials; i++) {
        str_set(&u->hosts[i].user, u->hosts[i].user ? u->hosts[i].user : "guest");
        str_set(&u->hosts[i].password, "guest");
    }
    return NULL;
}

MUST_CHECK static struct err *parse_query(const char *query, struct url *u)
{
    CLEANUP(strv_fini) struct strv parts = strv_split(query, "&;");

    for (size_t i = 0; i < parts.n; i++) {
        const char *eq = strchr(parts.items[i], '=');

        if (!eq || eq == parts.items[i]) {
            return err_msg(ERR_CONFIG, "transport_url: '%s' is not option=value", parts.items[i]);
        }
        strv_add_take(&u->names, percent_decode(parts.items[i], (size_t)(eq - parts.items[i])));
        strv_add_take(&u->values, percent_decode(eq + 1, strlen(eq + 1)));
    }
    return NULL;
}

MUST_CHECK static struct err *check_scheme(const char *s, size_t len)
{
    CLEANUP(freep) char *scheme = str_ndup(s, len);

    if (!str_ieq(scheme, "rabbit") && !str_ieq(scheme, "kombu") && !str_starts(scheme, "kombu+")) {
        return err_msg(ERR_CONFIG, "transport_url: '%s' is not a transport of ours (rabbit)",
                       scheme);
    }
    return NULL;
}

struct err *url_parse(const char *text, struct url *ret)
{
    CLEANUP(url_fini) struct url u = {0};
    const char *s = str_is_empty(text) ? "rabbit:///" : text;
    const char *rest = strstr(s, "://"), *path;
    size_t path_len;

    if (!rest) {
        return err_msg(ERR_CONFIG, "transport_url has no scheme");
    }
    TRY(check_scheme(s, (size_t)(rest - s)));
    rest += strlen("://");
    path = rest + strcspn(rest, "/?#");
    TRY(parse_hosts(rest, (size_t)(path - rest), &u));
    path_len = strcspn(path, "?#");
    if (path_len > 1) {
        u.vhost = percent_decode(path + 1, path_len - 1);
    } else {
        u.vhost = str_dup("/");
    }
    if (path[path_len] == '?') {
        CLEANUP(freep)
        char *query = str_ndup(path + path_len + 1, strcspn(path + path_len + 1, "#"));

        TRY(parse_query(query, &u));
    }
    *ret = u;
    u = (struct url){0};
    return NULL;
}

void url_fini(struct url *u)
{
    for (size_t i = 0; i < u->n_hosts; i++) {
        host_fini(&u->hosts[i]);
    }
    free(u->hosts);
    free(u->vhost);
    strv_fini(&u->names);
    strv_fini(&u->values);
    *u = (struct url){0};
}

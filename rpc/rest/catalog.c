#include "rpc/rest/catalog.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *str_of(struct json_object *obj, const char *key)
{
    struct json_object *v = jv_get(obj, key);

    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static void add(struct catalog *c, struct json_object *service, const char *interface,
                struct json_object *endpoint, const char *url)
{
    const char *region = str_of(endpoint, "region_id");

    c->items = mem_realloc(c->items, c->n + 1, sizeof(*c->items));
    c->items[c->n++] = (struct catalog_entry){
        .type = str_dup(str_of(service, "type")),
        .name = str_dup(str_of(service, "name")),
        .interface = str_dup(interface),
        .region = str_dup(region ? region : str_of(endpoint, "region")),
        .url = str_dup(url),
    };
}

/* v3 has an endpoint for each interface, v2 one with a URL for each. */
static void read_endpoint(struct catalog *c, struct json_object *service,
                          struct json_object *endpoint)
{
    static const char *const interfaces[] = {"public", "internal", "admin"};
    const char *url = str_of(endpoint, "url"), *interface = str_of(endpoint, "interface");

    if (url && interface) {
        add(c, service, interface, endpoint, url);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++) {
        CLEANUP(freep) char *key = str_printf("%sURL", interfaces[i]);

        url = str_of(endpoint, key);
        if (url) {
            add(c, service, interfaces[i], endpoint, url);
        }
    }
}

void catalog_read(struct json_object *services, struct catalog *ret)
{
    struct catalog c = {0};
    bool is_array = json_object_is_type(services, json_type_array);
    size_t n = is_array ? json_object_array_length(services) : 0;

    for (size_t i = 0; i < n; i++) {
        struct json_object *service = json_object_array_get_idx(services, i);
        struct json_object *endpoints = jv_get(service, "endpoints");

        if (!str_of(service, "type") || !json_object_is_type(endpoints, json_type_array)) {
            continue;
        }
        for (size_t j = 0; j < json_object_array_length(endpoints); j++) {
            read_endpoint(&c, service, json_object_array_get_idx(endpoints, j));
        }
    }
    *ret = c;
}

void catalog_fini(struct catalog *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->items[i].type);
        free(c->items[i].name);
        free(c->items[i].interface);
        free(c->items[i].region);
        free(c->items[i].url);
    }
    free(c->items);
    *c = (struct catalog){0};
}

/* Names under which the same service is found, the present one first (os-service-types). */
static bool is_same_type(const char *wanted, const char *type)
{
    static const char *const volume[] = {"block-storage", "volumev3", "block-store"};
    bool wants_volume = false, is_volume = false;

    for (size_t i = 0; i < ARRAY_SIZE(volume); i++) {
        wants_volume = wants_volume || str_eq(wanted, volume[i]);
        is_volume = is_volume || str_eq(type, volume[i]);
    }
    return str_eq(wanted, type) || (wants_volume && is_volume);
}

static bool is_same_interface(const char *wanted, const char *interface)
{
    size_t len = strlen(interface);

    return strncmp(wanted, interface, len) == 0 &&
           (wanted[len] == '\0' || str_eq(wanted + len, "URL"));
}

const char *catalog_find(const struct catalog *c, const struct catalog_query *q)
{
    for (size_t i = 0; i < q->interfaces->n; i++) {
        for (size_t j = 0; j < c->n; j++) {
            const struct catalog_entry *e = &c->items[j];

            if (is_same_interface(q->interfaces->items[i], e->interface) &&
                is_same_type(q->type, e->type) &&
                (str_is_empty(q->name) || str_eq(q->name, e->name)) &&
                (str_is_empty(q->region) || str_eq(q->region, e->region))) {
                return e->url;
            }
        }
    }
    return NULL;
}

/* Length of an endpoint without slashes at its end. */
static size_t bare_len(const char *s, size_t len)
{
    while (len > 0 && s[len - 1] == '/') {
        len--;
    }
    return len;
}

/* The same without a last segment "v2" or "v2.0", which must not be the host. */
static size_t len_without_version(const char *s, size_t len)
{
    size_t i = len;

    while (i > 0 && (isdigit((unsigned char)s[i - 1]) || s[i - 1] == '.')) {
        i--;
    }
    if (i < len && i > 2 && s[i - 1] == 'v' && s[i - 2] == '/' && s[i - 3] != '/') {
        return bare_len(s, i - 1);
    }
    return len;
}

char *catalog_url(const char *endpoint, const char *version, const char *path)
{
    size_t len = bare_len(endpoint, strlen(endpoint));

    if (version) {
        len = len_without_version(endpoint, len);
    }
    return str_printf("%.*s%s%s%s", (int)len, endpoint, version ? "/" : "", version ? version : "",
                      path);
}

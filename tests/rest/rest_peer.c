/* Carries out calls of the REST layer for tests/rest/run.
 *
 * rest_peer KEYSTONE-URL reads one command a line from standard input, words separated by tabs, and
 * answers each with a line "ok JSON" or "error CLASS TEXT".  Environment: CAFILE, INSECURE,
 * OVERRIDE (endpoint), SERVICE_USER, RETRIES, TIMEOUT_MS, GLANCE_SERVERS (separated by commas). */

#include "base/clock.h"
#include "base/log.h"
#include "rpc/rest/glance.h"
#include "rpc/rest/neutron.h"
#include "rpc/rest/placement.h"
#include "rpc/rest/session_conf.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS   40
#define MAX_THREADS 32

struct peer {
    const char *url;
    struct rest_session *placement_session, *neutron_session, *glance_session;
    struct placement *placement;
    struct neutron *neutron;
    struct glance *glance;
};

static void read_auth(const char *url, const char *user, struct keystone_conf *c)
{
    const char *timeout = getenv("TIMEOUT_MS");

    *c = (struct keystone_conf){.auth_type = str_dup("password"),
                                .auth_url = str_dup(url),
                                .username = str_dup(user),
                                .password = str_dup("secret"),
                                .user_domain_name = str_dup("Default"),
                                .project_name = str_dup("service"),
                                .project_domain_name = str_dup("Default"),
                                .cafile = str_dup(getenv("CAFILE")),
                                .insecure = getenv("INSECURE") != NULL,
                                .timeout_ms = timeout ? atoi(timeout) : 0};
}

static struct rest_session *open_session(const char *url, const char *section, const char *type)
{
    struct rest_conf conf = {.section = section,
                             .service_type = str_dup(type),
                             .region_name = str_dup("RegionOne"),
                             .endpoint_override = str_dup(getenv("OVERRIDE"))};
    const char *retries = getenv("RETRIES");
    struct rest_session *s = NULL;

    read_auth(url, "nova", &conf.auth);
    if (getenv("SERVICE_USER")) {
        read_auth(url, "service-user", &conf.user_auth);
    }
    strv_add(&conf.interfaces, "internal");
    strv_add(&conf.interfaces, "public");
    conf.n_retries = retries ? (unsigned)atoi(retries) : 0;
    struct err *e = rest_session_from_conf(&conf, &s);

    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        fprintf(stderr, "%s\n", text);
        exit(2);
    }
    return s;
}

static void answer(struct err *e, struct json_object *result)
{
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        printf("error %s %s\n", err_class(e), text);
    } else {
        printf("ok %s\n", json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
    }
    fflush(stdout);
    err_free(e);
    json_object_put(result);
}

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    err_ignore(jv_parse(text, strlen(text), &json), "an argument");
    return json;
}

static struct rest_session *session_of(struct peer *p, const char *section)
{
    return str_eq(section, "placement") ? p->placement_session
           : str_eq(section, "glance")  ? p->glance_session
                                        : p->neutron_session;
}

/* SECTION METHOD PATH [MICROVERSION] */
static struct err *do_call(struct peer *p, char **w, struct json_object **ret)
{
    const struct rest_request req = {.method = w[1], .path = w[2], .microversion = w[3]};

    return rest_call(session_of(p, w[0]), &req, ret);
}

/* CONTEXT-JSON SECTION METHOD PATH: with a user's token. */
static struct err *do_call_user(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *payload = parse(w[0]);
    CLEANUP(rctx_freep) struct rctx *user = rctx_from_payload(payload);
    const struct rest_request req = {.method = w[2], .path = w[3], .user = user};

    return rest_call(session_of(p, w[1]), &req, ret);
}

struct thread {
    pthread_t id;
    struct peer *peer;
    bool is_ok;
};

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    const struct rest_request req = {.method = "GET", .path = "/ports?x=1"};
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(err_freep) struct err *e = rest_call(t->peer->neutron_session, &req, &body);

    t->is_ok = !e;
    return NULL;
}

/* N: so many threads ask at once; how many got an answer. */
static struct err *do_threads(struct peer *p, char **w, struct json_object **ret)
{
    struct thread threads[MAX_THREADS];
    int n = MIN(atoi(w[0]), MAX_THREADS), n_ok = 0;

    for (int i = 0; i < n; i++) {
        threads[i] = (struct thread){.peer = p};
        pthread_create(&threads[i].id, NULL, thread_main, &threads[i]);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i].id, NULL);
        n_ok += threads[i].is_ok;
    }
    *ret = json_object_new_int(n_ok);
    return NULL;
}

static struct err *do_ensure(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return placement_ensure_provider(p->placement, w[0], w[1]);
}

/* UUID, then CLASS TOTAL RATIO each. */
static struct err *do_inventories(struct peer *p, char **w, struct json_object **ret)
{
    struct placement_inventory inv[MAX_WORDS / 3];
    size_t n = 0;

    (void)ret;
    for (size_t i = 1; w[i]; i += 3) {
        inv[n++] = (struct placement_inventory){.resource_class = w[i],
                                                .total = atoi(w[i + 1]),
                                                .min_unit = 1,
                                                .max_unit = atoi(w[i + 1]),
                                                .step_size = 1,
                                                .allocation_ratio = atof(w[i + 2])};
    }
    return placement_set_inventories(p->placement, w[0], inv, n);
}

static struct err *do_get_inventories(struct peer *p, char **w, struct json_object **ret)
{
    return placement_get_inventories(p->placement, w[0], ret);
}

/* UUID TRAITS OWNED, comma-separated. */
static struct err *do_traits(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(strv_fini) struct strv traits = strv_split(w[1], ",");
    CLEANUP(strv_fini) struct strv owned = strv_split(w[2], ",");

    (void)ret;
    return placement_set_traits(p->placement, w[0], &traits, &owned);
}

static struct err *do_delete_allocations(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return placement_delete_allocations(p->placement, w[0]);
}

static struct err *do_drop_tree(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return placement_drop_tree(p->placement, w[0], w[1]);
}

static struct err *do_move(struct peer *p, char **w, struct json_object **ret)
{
    bool moved;

    TRY(placement_move_allocations(p->placement, w[0], w[1], &moved));
    *ret = json_object_new_boolean(moved);
    return NULL;
}

static struct err *do_get_allocations(struct peer *p, char **w, struct json_object **ret)
{
    return placement_get_allocations(p->placement, w[0], ret);
}

/* CONSUMER RESOURCES */
static struct err *do_drop_resources(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *resources = parse(w[1]);

    (void)ret;
    return placement_drop_resources(p->placement, w[0], resources);
}

static struct err *do_provider_allocations(struct peer *p, char **w, struct json_object **ret)
{
    return placement_provider_allocations(p->placement, w[0], ret);
}

static struct err *do_extension(struct peer *p, char **w, struct json_object **ret)
{
    bool has;

    TRY(neutron_has_extension(p->neutron, w[0], &has));
    *ret = json_object_new_boolean(has);
    return NULL;
}

static struct err *do_port_update(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return neutron_port_update(p->neutron, w[0], parse(w[1]));
}

/* CONTEXT ATTRIBUTES: the user's, if the context has a token. */
static struct err *do_port_create(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *payload = parse(w[0]);
    CLEANUP(rctx_freep) struct rctx *user = rctx_from_payload(payload);

    return neutron_port_create(p->neutron, user, parse(w[1]), ret);
}

/* CONTEXT ID */
static struct err *do_port_delete(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *payload = parse(w[0]);
    CLEANUP(rctx_freep) struct rctx *user = rctx_from_payload(payload);

    (void)ret;
    return neutron_port_delete(p->neutron, user, w[1]);
}

/* PROJECT IDS ("-": none) */
static struct err *do_networks_available(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(strv_fini)
    struct strv ids = str_eq(w[1], "-") ? (struct strv){0} : strv_split(w[1], ",");

    return neutron_networks_available(p->neutron, /* user= */ NULL, w[0], &ids,
                                      /* only_own_that_are_up= */ false, ret);
}

static struct err *do_security_groups(struct peer *p, char **w, struct json_object **ret)
{
    return neutron_security_groups(p->neutron, /* user= */ NULL, w[0], ret);
}

static struct err *do_security_groups_by_id(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(strv_fini) struct strv ids = strv_split(w[0], ",");

    return neutron_security_groups_by_id(p->neutron, &ids, ret);
}

static struct err *do_port_get(struct peer *p, char **w, struct json_object **ret)
{
    return neutron_port_get(p->neutron, w[0], ret);
}

static struct err *do_binding_get(struct peer *p, char **w, struct json_object **ret)
{
    return neutron_binding_get(p->neutron, w[0], w[1], ret);
}

static struct err *do_binding_delete(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return neutron_binding_delete(p->neutron, w[0], w[1]);
}

static struct err *do_activate(struct peer *p, char **w, struct json_object **ret)
{
    (void)ret;
    return neutron_binding_activate(p->neutron, w[0], w[1]);
}

static struct err *do_floating_ips(struct peer *p, char **w, struct json_object **ret)
{
    return neutron_floating_ips(p->neutron, w[0], ret);
}

/* DEVICE PROJECT [OLD] */
static struct err *do_model(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *old = w[2] ? parse(w[2]) : NULL;

    return neutron_network_model(p->neutron, w[0], w[1], old, "br-int", ret);
}

static struct err *do_image(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(glance_image_fini) struct glance_image image = {0};

    TRY(glance_image_get(p->glance, ctx, w[0], &image));
    *ret = json_object_new_object();
    jv_add_str(*ret, "disk_format", image.disk_format);
    jv_add_str(*ret, "status", image.status);
    jv_add_str(*ret, "hash", image.hash_value);
    jv_add_int(*ret, "size", image.size);
    return NULL;
}

/* IMAGE FILE: how many bytes it is. */
static struct err *do_download(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(glance_image_fini) struct glance_image image = {0};
    CLEANUP(closep) int fd = open(w[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    TRY(glance_image_get(p->glance, ctx, w[0], &image));
    TRY(glance_image_download(p->glance, ctx, &image, fd, NULL));
    *ret = json_object_new_int64(image.size);
    return NULL;
}

static struct err *do_image_json(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    return glance_image_get_json(p->glance, ctx, w[0], ret);
}

/* IMAGE MEMBERS-JSON */
static struct err *do_image_update(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(jv_putp) struct json_object *wanted = parse(w[1]);

    (void)ret;
    return glance_image_update(p->glance, ctx, w[0], wanted);
}

static struct err *do_image_delete(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    (void)ret;
    return glance_image_delete(p->glance, ctx, w[0]);
}

/* FILTERS-JSON */
static struct err *do_image_list(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(jv_putp) struct json_object *filters = parse(w[0]);

    return glance_image_list(p->glance, ctx, filters, ret);
}

static void *stop_soon(void *arg)
{
    cancel_sleep(NULL, 500);
    cancel_set(arg);
    return NULL;
}

/* IMAGE FILE ["stop"]: with it, it is cancelled after half a second. */
static struct err *do_upload(struct peer *p, char **w, struct json_object **ret)
{
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new();
    CLEANUP(closep) int fd = open(w[1], O_RDONLY | O_CLOEXEC);
    pthread_t thread;

    (void)ret;
    if (w[2]) {
        pthread_create(&thread, NULL, stop_soon, stop);
    }
    struct err *e = glance_image_upload(p->glance, ctx, w[0], fd, stop);

    if (w[2]) {
        pthread_join(thread, NULL);
    }
    return e;
}

static const struct {
    const char *name;
    int n_words;
    struct err *(*fn)(struct peer *, char **words, struct json_object **ret);
} commands[] = {
    {"call", 3, do_call},
    {"call_user", 4, do_call_user},
    {"threads", 1, do_threads},
    {"ensure", 2, do_ensure},
    {"inventories", 1, do_inventories},
    {"get_inventories", 1, do_get_inventories},
    {"traits", 3, do_traits},
    {"delete_allocations", 1, do_delete_allocations},
    {"drop_tree", 2, do_drop_tree},
    {"move", 2, do_move},
    {"drop_resources", 2, do_drop_resources},
    {"get_allocations", 1, do_get_allocations},
    {"provider_allocations", 1, do_provider_allocations},
    {"extension", 1, do_extension},
    {"port_update", 2, do_port_update},
    {"port_create", 2, do_port_create},
    {"port_delete", 2, do_port_delete},
    {"networks_available", 2, do_networks_available},
    {"security_groups", 1, do_security_groups},
    {"security_groups_by_id", 1, do_security_groups_by_id},
    {"port_get", 1, do_port_get},
    {"binding_get", 2, do_binding_get},
    {"binding_delete", 2, do_binding_delete},
    {"activate", 2, do_activate},
    {"floating_ips", 1, do_floating_ips},
    {"model", 2, do_model},
    {"image", 1, do_image},
    {"download", 2, do_download},
    {"image_json", 1, do_image_json},
    {"image_update", 2, do_image_update},
    {"image_delete", 1, do_image_delete},
    {"image_list", 1, do_image_list},
    {"upload", 2, do_upload},
};

static void carry_out(struct peer *p, char *line)
{
    char *words[MAX_WORDS + 4] = {NULL}, *save = NULL;
    int n = 0;

    for (char *word = strtok_r(line, "\t\n", &save); word && n < MAX_WORDS;
         word = strtok_r(NULL, "\t\n", &save)) {
        words[n++] = word;
    }
    for (size_t i = 0; n > 0 && i < ARRAY_SIZE(commands); i++) {
        if (str_eq(commands[i].name, words[0]) && n > commands[i].n_words) {
            struct json_object *result = NULL;
            struct err *e = commands[i].fn(p, words + 1, &result);

            answer(e, result);
            return;
        }
    }
    answer(err_msg(ERR_INTERNAL, "no such command"), NULL);
}

int main(int argc, char **argv)
{
    struct peer p = {.url = argc > 1 ? argv[1] : ""};
    const char *glance = getenv("GLANCE_SERVERS");
    CLEANUP(strv_fini) struct strv servers = strv_split(glance ? glance : "", ",");
    CLEANUP(freep) char *line = NULL;
    size_t size = 0;

    err_ignore(log_open(&(struct log_conf){.level = LOG_LEVEL_DEBUG, .has_date = true}), "log");
    p.placement_session = open_session(p.url, "placement", "placement");
    p.neutron_session = open_session(p.url, "neutron", "network");
    p.glance_session = open_session(p.url, "glance", "image");
    p.placement = placement_new(p.placement_session);
    p.neutron = neutron_new(p.neutron_session);
    p.glance = glance_new(p.glance_session, &servers, 3);
    while (getline(&line, &size, stdin) > 0) {
        carry_out(&p, line);
    }
    placement_free(p.placement);
    neutron_free(p.neutron);
    glance_free(p.glance);
    return 0;
}

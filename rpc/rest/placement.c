#include "rpc/rest/placement.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_TRIES         4      /* nova/scheduler/client/report.py, retries */
#define N_NAMES         64     /* Traits in one question: the URL stays below 4 KiB. */
#define UNKNOWN_MS      600000 /* After that, traits that placement did not know are asked for. */
#define RATIO_TOLERANCE 1e-6   /* Placement keeps ratios in single precision. */

#define V_TRAITS      "1.6"
#define V_CLASSES     "1.7"
#define V_PROVIDER    "1.14"
#define V_CREATE      "1.20"
#define V_USAGES      "1.9"
#define V_INVENTORY   "1.26"
#define V_ALLOCATIONS "1.28"

struct placement {
    struct rest_session *session;
    struct mutex lock;
    struct strv unknown GUARDED_BY(lock); /* Traits that placement does not have. */
    int64_t unknown_ms GUARDED_BY(lock);  /* When that list was begun. */
};

struct placement *placement_new(struct rest_session *session)
{
    struct placement *p = NEW(struct placement);

    p->session = session;
    mutex_init(&p->lock);
    return p;
}

struct placement *placement_free(struct placement *p)
{
    if (p) {
        strv_fini(&p->unknown);
        mutex_fini(&p->lock);
        rest_session_free(p->session);
        free(p);
    }
    return NULL;
}

static struct err *send(struct placement *p, const char *method, const char *path,
                        const char *version, struct json_object *body, struct rest_response *ret)
{
    const struct rest_request req = {
        .method = method, .path = path, .microversion = version, .body = body};

    return rest_send(p->session, &req, ret);
}

static struct err *error_of(const char *method, const char *path, const struct rest_response *resp)
{
    return rest_error(&(struct rest_request){.method = method, .path = path}, resp);
}

static bool is_ok(const struct rest_response *resp)
{
    return resp->status >= 200 && resp->status <= 299;
}

static struct err *call(struct placement *p, const char *method, const char *path,
                        const char *version, struct json_object *body, struct json_object **ret)
{
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    TRY(send(p, method, path, version, body, &resp));
    if (!is_ok(&resp)) {
        return error_of(method, path, &resp);
    }
    if (ret) {
        *ret = TAKE(resp.body);
    }
    return NULL;
}

static const char *code_of(const struct rest_response *resp)
{
    struct json_object *errors = jv_get(resp->body, "errors");

    if (!json_object_is_type(errors, json_type_array) || json_object_array_length(errors) == 0) {
        return NULL;
    }
    return json_object_get_string(jv_get(json_object_array_get_idx(errors, 0), "code"));
}

/* Whether somebody else changed a provider meanwhile, so that it pays to read again.  Who changed
 * the consumer itself meant something else: placement has no code of its own for that. */
static bool is_generation_conflict(const struct rest_response *resp)
{
    const char *code = code_of(resp);

    return resp->status == 409 && (!code || str_eq(code, "placement.concurrent_update")) &&
           !strstr(rest_error_text(resp), "consumer generation conflict");
}

/* -- Providers ------------------------------------------------------------------------------- */

/* *ret is whether it exists. */
static struct err *provider_exists(struct placement *p, const char *uuid, bool *ret)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s", uuid);
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    TRY(send(p, "GET", path, V_PROVIDER, NULL, &resp));
    if (!is_ok(&resp) && resp.status != 404) {
        return error_of("GET", path, &resp);
    }
    *ret = is_ok(&resp);
    return NULL;
}

struct err *placement_ensure_provider(struct placement *p, const char *uuid, const char *name)
{
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    bool exists;

    TRY(provider_exists(p, uuid, &exists));
    if (exists) {
        return NULL;
    }
    body = json_object_new_object();
    jv_add_str(body, "uuid", uuid);
    jv_add_str(body, "name", name);
    TRY(send(p, "POST", "/resource_providers", V_CREATE, body, &resp));
    if (is_ok(&resp)) {
        log_info(LOG_REST, "created resource provider %s for %s", uuid, name);
        return NULL;
    }
    if (resp.status == 409) {
        /* Somebody made it meanwhile, or another provider has the name. */
        TRY(provider_exists(p, uuid, &exists));
        if (exists) {
            return NULL;
        }
    }
    return err_context(err_new(ERR_RESOURCE_PROVIDER_CREATION, "name", name, NULL), "%ld: %s",
                       resp.status, rest_error_text(&resp));
}

/* -- Inventories ----------------------------------------------------------------------------- */

/* What a provider has and at which generation.  The list is borrowed from *ret_body. */
static struct err *read_provider(struct placement *p, const char *path, const char *version,
                                 const char *key, enum json_type type, int64_t *ret_generation,
                                 struct json_object **ret_body, struct json_object **ret_list)
{
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct json_object *list;
    int64_t generation;

    TRY(call(p, "GET", path, version, NULL, &body));
    struct jv_reader r = jv_reader_init(body, path);

    generation = jv_int(&r, "resource_provider_generation");
    list = type == json_type_array ? jv_arr(&r, key) : jv_obj(&r, key);
    TRY(jv_finish(&r));
    *ret_generation = generation;
    *ret_list = list;
    *ret_body = TAKE(body);
    return NULL;
}

struct err *placement_get_inventories(struct placement *p, const char *uuid,
                                      struct json_object **ret)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s/inventories", uuid);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct json_object *inventories;
    int64_t generation;
    CLEANUP(err_freep)
    struct err *e = read_provider(p, path, V_INVENTORY, "inventories", json_type_object,
                                  &generation, &body, &inventories);

    if (err_is(e, ERR_NOT_FOUND)) {
        *ret = NULL;
        return NULL;
    }
    TRY(TAKE(e));
    *ret = json_object_get(inventories);
    return NULL;
}

static struct json_object *inventory_to_json(const struct placement_inventory *inv)
{
    struct json_object *obj = json_object_new_object();

    jv_add_int(obj, "total", inv->total);
    jv_add_int(obj, "min_unit", inv->min_unit);
    jv_add_int(obj, "max_unit", inv->max_unit);
    jv_add_int(obj, "step_size", inv->step_size);
    jv_add(obj, "allocation_ratio", json_object_new_double(inv->allocation_ratio));
    jv_add_int(obj, "reserved", inv->reserved);
    return obj;
}

static bool is_same_number(struct json_object *a, struct json_object *b)
{
    double x = json_object_get_double(a), y = json_object_get_double(b);

    return fabs(x - y) <= RATIO_TOLERANCE * fmax(fabs(x), fabs(y));
}

static bool is_same_inventory(struct json_object *now, struct json_object *wanted)
{
    json_object_object_foreach(wanted, key, value)
    {
        struct json_object *have = jv_get(now, key);

        if (!have || !is_same_number(have, value)) {
            return false;
        }
    }
    return true;
}

static bool are_same_inventories(struct json_object *now, struct json_object *wanted)
{
    if (json_object_object_length(now) != json_object_object_length(wanted)) {
        return false;
    }
    json_object_object_foreach(wanted, class, inventory)
    {
        if (!is_same_inventory(jv_get(now, class), inventory)) {
            return false;
        }
    }
    return true;
}

static bool is_custom(const char *name)
{
    return str_starts(name, "CUSTOM_");
}

/* Makes the custom classes that the provider does not have yet. */
static struct err *ensure_classes(struct placement *p, struct json_object *now,
                                  struct json_object *wanted)
{
    json_object_object_foreach(wanted, class, inventory)
    {
        (void)inventory;
        if (is_custom(class) && !jv_get(now, class)) {
            CLEANUP(freep) char *quoted = rest_quote(class);
            CLEANUP(freep) char *path = str_printf("/resource_classes/%s", quoted);

            TRY(call(p, "PUT", path, V_CLASSES, NULL, NULL));
        }
    }
    return NULL;
}

/* Puts those of the present classes that are not wanted but in use among the wanted ones. */
static struct err *keep_used(struct placement *p, const char *uuid, struct json_object *now,
                             struct json_object *wanted)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s/usages", uuid);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct json_object *usages;
    int64_t generation;

    TRY(read_provider(p, path, V_USAGES, "usages", json_type_object, &generation, &body, &usages));
    json_object_object_foreach(now, class, inventory)
    {
        if (!jv_get(wanted, class) && json_object_get_int64(jv_get(usages, class)) > 0) {
            log_warning(LOG_REST, "inventory of %s on %s is in use, keeping it", class, uuid);
            jv_add(wanted, class, jv_dup(inventory));
        }
    }
    return NULL;
}

/* Reads, compares, writes.  *ret_again: read and try again. */
static struct err *try_set_inventories(struct placement *p, const char *uuid,
                                       struct json_object *wanted, bool *ret_again)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s/inventories", uuid);
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    struct json_object *now;
    int64_t generation;

    *ret_again = false;
    TRY(read_provider(p, path, V_INVENTORY, "inventories", json_type_object, &generation, &answer,
                      &now));
    if (are_same_inventories(now, wanted)) {
        return NULL;
    }
    TRY(ensure_classes(p, now, wanted));
    body = json_object_new_object();
    jv_add_int(body, "resource_provider_generation", generation);
    jv_add(body, "inventories", json_object_get(wanted));
    TRY(send(p, "PUT", path, V_INVENTORY, body, &resp));
    if (is_ok(&resp)) {
        log_debug(LOG_REST, "inventory of %s written at generation %" PRId64, uuid, generation);
        return NULL;
    }
    if (resp.status == 409 && str_eq(code_of(&resp), "placement.inventory.inuse")) {
        TRY(keep_used(p, uuid, now, wanted));
        *ret_again = true;
    } else {
        *ret_again = is_generation_conflict(&resp);
    }
    return error_of("PUT", path, &resp);
}

struct err *placement_set_inventories(struct placement *p, const char *uuid,
                                      const struct placement_inventory *inv, size_t n)
{
    CLEANUP(jv_putp) struct json_object *wanted = json_object_new_object();
    struct err *e = NULL;
    bool again = true;

    for (size_t i = 0; i < n; i++) {
        jv_add(wanted, inv[i].resource_class, inventory_to_json(&inv[i]));
    }
    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_set_inventories(p, uuid, wanted, &again);
    }
    return err_context(e, "setting the inventories of %s", uuid);
}

/* -- Traits ---------------------------------------------------------------------------------- */

static bool is_known_unknown(struct placement *p, const char *trait)
{
    bool ret;

    mutex_lock(&p->lock);
    if (clock_ms() - p->unknown_ms >= UNKNOWN_MS) {
        strv_fini(&p->unknown);
        p->unknown_ms = clock_ms();
    }
    ret = strv_has(&p->unknown, trait);
    mutex_unlock(&p->lock);
    return ret;
}

static void note_unknown(struct placement *p, const char *trait)
{
    log_info(LOG_REST, "placement does not know the trait %s, leaving it out", trait);
    mutex_lock(&p->lock);
    if (!strv_has(&p->unknown, trait)) {
        strv_add(&p->unknown, trait);
    }
    mutex_unlock(&p->lock);
}

/* Adds those of names[0..n) that placement has, or can be given, to 'ret'. */
static struct err *add_known(struct placement *p, char **names, size_t n, struct strv *ret)
{
    struct strv slice = {.items = names, .n = n};
    CLEANUP(freep) char *joined = strv_join(&slice, ",");
    CLEANUP(freep) char *quoted = rest_quote(joined);
    CLEANUP(freep) char *path = str_printf("/traits?name=in%%3A%s", quoted);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct strv known = {0};

    TRY(call(p, "GET", path, V_TRAITS, NULL, &body));
    struct jv_reader r = jv_reader_init(body, "traits");
    struct json_object *list = jv_arr(&r, "traits");

    TRY(jv_finish(&r));
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        strv_add(&known, json_object_get_string(json_object_array_get_idx(list, i)));
    }
    for (size_t i = 0; i < n; i++) {
        struct err *e = NULL;

        if (!strv_has(&known, names[i]) && is_custom(names[i])) {
            CLEANUP(freep) char *trait = rest_quote(names[i]);
            CLEANUP(freep) char *trait_path = str_printf("/traits/%s", trait);

            e = call(p, "PUT", trait_path, V_TRAITS, NULL, NULL);
        } else if (!strv_has(&known, names[i])) {
            note_unknown(p, names[i]);
            continue;
        }
        if (e) {
            strv_fini(&known);
            return e;
        }
        strv_add(ret, names[i]);
    }
    strv_fini(&known);
    return NULL;
}

/* What the provider shall have: what it has without our outdated ones, and what it lacks.
 * *ret_changed is whether that differs from what it has. */
static struct err *wanted_traits(struct placement *p, struct json_object *now,
                                 const struct strv *traits, const struct strv *owned,
                                 struct strv *ret, bool *ret_changed)
{
    CLEANUP(strv_fini) struct strv missing = {0};
    CLEANUP(strv_fini) struct strv have = {0};
    size_t n_kept;

    for (size_t i = 0; i < json_object_array_length(now); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(now, i));

        strv_add(&have, name);
        if (strv_has(traits, name) || !strv_has(owned, name)) {
            strv_add(ret, name);
        }
    }
    for (size_t i = 0; i < traits->n; i++) {
        const char *name = traits->items[i];

        if (!strv_has(&have, name) && !strv_has(&missing, name) && !is_known_unknown(p, name)) {
            strv_add(&missing, name);
        }
    }
    n_kept = ret->n;
    for (size_t i = 0; i < missing.n; i += N_NAMES) {
        TRY(add_known(p, missing.items + i, MIN(missing.n - i, (size_t)N_NAMES), ret));
    }
    *ret_changed = n_kept < have.n || ret->n > n_kept;
    return NULL;
}

static struct err *try_set_traits(struct placement *p, const char *uuid, const struct strv *traits,
                                  const struct strv *owned, bool *ret_again)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s/traits", uuid);
    CLEANUP(jv_putp) struct json_object *answer = NULL;
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    CLEANUP(strv_fini) struct strv wanted = {0};
    struct json_object *now, *list;
    int64_t generation;
    bool changed;

    *ret_again = false;
    TRY(read_provider(p, path, V_TRAITS, "traits", json_type_array, &generation, &answer, &now));
    TRY(wanted_traits(p, now, traits, owned, &wanted, &changed));
    if (!changed) {
        return NULL;
    }
    body = json_object_new_object();
    list = json_object_new_array();
    for (size_t i = 0; i < wanted.n; i++) {
        json_object_array_add(list, json_object_new_string(wanted.items[i]));
    }
    jv_add_int(body, "resource_provider_generation", generation);
    jv_add(body, "traits", list);
    TRY(send(p, "PUT", path, V_TRAITS, body, &resp));
    if (is_ok(&resp)) {
        return NULL;
    }
    *ret_again = is_generation_conflict(&resp);
    return error_of("PUT", path, &resp);
}

struct err *placement_set_traits(struct placement *p, const char *uuid, const struct strv *traits,
                                 const struct strv *owned)
{
    struct err *e = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_set_traits(p, uuid, traits, owned, &again);
    }
    return err_context(e, "setting the traits of %s", uuid);
}

/* -- Allocations ----------------------------------------------------------------------------- */

struct err *placement_get_allocations(struct placement *p, const char *consumer,
                                      struct json_object **ret)
{
    CLEANUP(freep) char *path = str_printf("/allocations/%s", consumer);
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    TRY(send(p, "GET", path, V_ALLOCATIONS, NULL, &resp));
    if (!is_ok(&resp) || !json_object_is_type(jv_get(resp.body, "allocations"), json_type_object)) {
        return err_new(ERR_CONSUMER_ALLOCATION_RETRIEVAL, "consumer_uuid", consumer, "error",
                       rest_error_text(&resp), NULL);
    }
    *ret = TAKE(resp.body);
    return NULL;
}

static bool is_empty(struct json_object *allocations)
{
    return json_object_object_length(jv_get(allocations, "allocations")) == 0;
}

static struct err *try_delete_allocations(struct placement *p, const char *consumer,
                                          bool *ret_again)
{
    CLEANUP(freep) char *path = str_printf("/allocations/%s", consumer);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};

    *ret_again = false;
    TRY(placement_get_allocations(p, consumer, &body));
    if (is_empty(body)) {
        return NULL;
    }
    /* Placement forgets a consumer that holds nothing. */
    jv_add(body, "allocations", json_object_new_object());
    TRY(send(p, "PUT", path, V_ALLOCATIONS, body, &resp));
    if (is_ok(&resp)) {
        log_info(LOG_REST, "deleted the allocations of %s", consumer);
        return NULL;
    }
    *ret_again = is_generation_conflict(&resp);
    return error_of("PUT", path, &resp);
}

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    struct err *e = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_delete_allocations(p, consumer, &again);
    }
    return err_context(e, "deleting the allocations of %s", consumer);
}

/* One consumer's part of POST /allocations; consumes its allocations. */
static struct json_object *consumer_part(struct json_object *source,
                                         struct json_object *allocations,
                                         struct json_object *generation)
{
    struct json_object *part = json_object_new_object();

    jv_add(part, "allocations", allocations);
    jv_add(part, "project_id", jv_dup(jv_get(source, "project_id")));
    jv_add(part, "user_id", jv_dup(jv_get(source, "user_id")));
    jv_add(part, "consumer_generation", jv_dup(generation));
    return part;
}

static struct err *try_move(struct placement *p, const char *from, const char *to, bool is_repeated,
                            bool *ret_moved, bool *ret_again)
{
    CLEANUP(jv_putp) struct json_object *source = NULL;
    CLEANUP(jv_putp) struct json_object *target = NULL;
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    struct err *e;

    *ret_again = false;
    TRY(placement_get_allocations(p, from, &source));
    TRY(placement_get_allocations(p, to, &target));
    if (is_empty(source)) {
        /* Or our own request did it, and only its answer was lost. */
        *ret_moved = is_repeated && !is_empty(target);
        return NULL;
    }
    body = json_object_new_object();
    jv_add(body, from,
           consumer_part(source, json_object_new_object(), jv_get(source, "consumer_generation")));
    jv_add(body, to,
           consumer_part(source, jv_dup(jv_get(source, "allocations")),
                         jv_get(target, "consumer_generation")));
    e = send(p, "POST", "/allocations", V_ALLOCATIONS, body, &resp);
    if (e) {
        *ret_again = err_is(e, ERR_HTTP);
        return e;
    }
    if (is_ok(&resp)) {
        *ret_moved = true;
        return NULL;
    }
    *ret_again = is_generation_conflict(&resp);
    return error_of("POST", "/allocations", &resp);
}

struct err *placement_move_allocations(struct placement *p, const char *from, const char *to,
                                       bool *ret_moved)
{
    struct err *e = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_move(p, from, to, i > 0, ret_moved, &again);
    }
    return err_context(e, "moving the allocations of %s to %s", from, to);
}

/* Takes the providers of an answer out of an object of allocations; false if none was in it. */
static bool remove_providers(struct json_object *allocations, struct json_object *providers)
{
    bool is_changed = false;

    for (size_t i = 0; i < json_object_array_length(providers); i++) {
        const char *uuid =
            json_object_get_string(jv_get(json_object_array_get_idx(providers, i), "uuid"));

        if (uuid && jv_get(allocations, uuid)) {
            json_object_object_del(allocations, uuid);
            is_changed = true;
        }
    }
    return is_changed;
}

static struct err *try_drop_tree(struct placement *p, const char *consumer, const char *root_uuid,
                                 bool *ret_again)
{
    CLEANUP(freep) char *path = str_printf("/allocations/%s", consumer);
    CLEANUP(freep) char *tree = str_printf("/resource_providers?in_tree=%s", root_uuid);
    CLEANUP(jv_putp) struct json_object *held = NULL;
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    struct json_object *providers;

    *ret_again = false;
    TRY(placement_get_allocations(p, consumer, &held));
    TRY(call(p, "GET", tree, V_PROVIDER, NULL, &body));
    providers = jv_get(body, "resource_providers");
    if (!json_object_is_type(providers, json_type_array)) {
        return err_msg(ERR_PARSE, "GET %s: the answer has no resource_providers", tree);
    }
    if (!remove_providers(jv_get(held, "allocations"), providers)) {
        return NULL;
    }
    TRY(send(p, "PUT", path, V_ALLOCATIONS, held, &resp));
    if (is_ok(&resp)) {
        return NULL;
    }
    *ret_again = is_generation_conflict(&resp);
    return error_of("PUT", path, &resp);
}

struct err *placement_drop_tree(struct placement *p, const char *consumer, const char *root_uuid)
{
    struct err *e = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_drop_tree(p, consumer, root_uuid, &again);
    }
    return err_context(e, "taking %s out of the allocations of %s", root_uuid, consumer);
}

/* Takes amounts out of one provider's; true if something changed. */
static bool subtract(struct json_object *held, struct json_object *amounts)
{
    bool changed = false;

    if (!json_object_is_type(held, json_type_object)) {
        return false;
    }
    json_object_object_foreach(amounts, resource_class, amount)
    {
        int64_t have = json_object_get_int64(jv_get(held, resource_class));
        int64_t left = have - json_object_get_int64(amount);

        changed |= have > 0;
        if (left > 0) {
            jv_add_int(held, resource_class, left);
        } else {
            json_object_object_del(held, resource_class);
        }
    }
    return changed;
}

static struct err *try_drop_resources(struct placement *p, const char *consumer,
                                      struct json_object *resources, bool *ret_again)
{
    CLEANUP(freep) char *path = str_printf("/allocations/%s", consumer);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    CLEANUP(rest_response_fini) struct rest_response resp = {0};
    bool changed = false;

    *ret_again = false;
    TRY(placement_get_allocations(p, consumer, &body));
    struct json_object *allocations = jv_get(body, "allocations");

    json_object_object_foreach(resources, provider, amounts)
    {
        struct json_object *held = jv_get(jv_get(allocations, provider), "resources");

        changed |= subtract(held, amounts);
        if (held && json_object_object_length(held) == 0) {
            json_object_object_del(allocations, provider);
        }
    }
    if (!changed) {
        return NULL;
    }
    TRY(send(p, "PUT", path, V_ALLOCATIONS, body, &resp));
    if (is_ok(&resp)) {
        return NULL;
    }
    *ret_again = is_generation_conflict(&resp);
    return error_of("PUT", path, &resp);
}

struct err *placement_drop_resources(struct placement *p, const char *consumer,
                                     struct json_object *resources)
{
    struct err *e = NULL;
    bool again = true;

    for (unsigned i = 0; again && i < N_TRIES; i++) {
        err_free(e);
        e = try_drop_resources(p, consumer, resources, &again);
    }
    return err_context(e, "giving back resources of %s", consumer);
}

struct err *placement_provider_allocations(struct placement *p, const char *uuid,
                                           struct json_object **ret)
{
    CLEANUP(freep) char *path = str_printf("/resource_providers/%s/allocations", uuid);
    CLEANUP(jv_putp) struct json_object *body = NULL;
    struct json_object *allocations;
    int64_t generation;

    TRY(read_provider(p, path, NULL, "allocations", json_type_object, &generation, &body,
                      &allocations));
    *ret = json_object_get(allocations);
    return NULL;
}

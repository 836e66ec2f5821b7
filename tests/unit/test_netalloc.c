/* link: neutron_fake driver_compute */
#include "base/keylock.h"
#include "driver/compute/netalloc.h"
#include "driver/compute/network.h"
#include "tests/fake/neutron_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define UUID    "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define PROJECT "p1"
#define BROUGHT "bbbbbbbb-0000-4000-8000-000000000001"
#define NET_A   "aaaaaaaa-0000-4000-8000-000000000001"
#define NET_B   "aaaaaaaa-0000-4000-8000-000000000002"

/* ---- A conductor that keeps rows and the cache ---- */

static struct {
    struct conf conf;
    struct node node;
    struct rctx *ctx;
    struct instance *inst;
    struct strv rows; /* "port address tag" */
    char *cache;      /* network_info, as stored. */
    int fail_rows_after, fail_saves_after;
} world;

const struct conf *conf_get(struct conf_holder *holder)
{
    (void)holder;
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    (void)conf;
}

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    assert_null(jv_parse(text, strlen(text), &json));
    return json;
}

static const char *str_of(struct json_object *o, const char *key)
{
    return json_object_get_string(jv_get(o, key));
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    for (; *attrs; attrs++) {
        assert_true(
            ovo_has((struct ovo *)inst, (unsigned)ovo_class_field(&instance_class, *attrs)));
    }
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    (void)inst;
    (void)expected;
    strv_add(&neutron_fake.log, "save instance");
    return NULL;
}

struct err *info_cache_refresh(struct conductor *c, const struct rctx *ctx,
                               struct instance_info_cache *cache)
{
    (void)c;
    (void)ctx;
    instance_info_cache_set_network_info(cache, world.cache);
    return NULL;
}

struct err *info_cache_save(struct conductor *c, const struct rctx *ctx,
                            struct instance_info_cache *cache)
{
    (void)c;
    (void)ctx;
    if (world.fail_saves_after-- == 0) {
        return err_msg(ERR_TIMEOUT, "conductor is away");
    }
    str_set(&world.cache, instance_info_cache_network_info(cache));
    return NULL;
}

struct err *virtual_interface_create(struct conductor *c, const struct rctx *ctx,
                                     struct virtual_interface *vif)
{
    (void)c;
    (void)ctx;
    if (world.fail_rows_after-- == 0) {
        return err_new(ERR_VIF_CREATE, NULL);
    }
    assert_string_equal(virtual_interface_instance_uuid(vif), UUID);
    strv_add_take(&world.rows,
                  str_printf("%s %s %s", virtual_interface_uuid(vif),
                             virtual_interface_address(vif),
                             virtual_interface_tag(vif) ? virtual_interface_tag(vif) : "-"));
    return NULL;
}

static void drop_row(const char *port_id)
{
    struct strv left = {0};

    for (size_t i = 0; i < world.rows.n; i++) {
        if (!str_starts(world.rows.items[i], port_id)) {
            strv_add(&left, world.rows.items[i]);
        }
    }
    strv_fini(&world.rows);
    world.rows = left;
}

struct err *virtual_interface_get(struct conductor *c, const struct rctx *ctx, const char *port_id,
                                  struct virtual_interface **ret)
{
    (void)c;
    (void)ctx;
    *ret = NULL;
    for (size_t i = 0; i < world.rows.n; i++) {
        if (str_starts(world.rows.items[i], port_id)) {
            CLEANUP(freep)
            char *mac =
                str_ndup(world.rows.items[i] + strlen(port_id) + 1, strlen("00:00:00:00:00:00"));

            *ret = virtual_interface_new();
            virtual_interface_set_uuid(*ret, port_id);
            virtual_interface_set_address(*ret, mac);
        }
    }
    return NULL;
}

struct err *virtual_interface_destroy(struct conductor *c, const struct rctx *ctx,
                                      struct virtual_interface *vif)
{
    (void)c;
    (void)ctx;
    drop_row(virtual_interface_uuid(vif));
    return NULL;
}

struct err *virtual_interfaces_by_instance(struct conductor *c, const struct rctx *ctx,
                                           const char *uuid, struct virtual_interface_list **ret)
{
    (void)c;
    (void)ctx;
    assert_string_equal(uuid, UUID);
    *ret = virtual_interface_list_new();
    for (size_t i = 0; i < world.rows.n; i++) {
        struct virtual_interface *row = virtual_interface_new();
        CLEANUP(strv_fini) struct strv words = strv_split(world.rows.items[i], " ");

        virtual_interface_set_uuid(row, words.items[0]);
        virtual_interface_list_add(*ret, row);
    }
    return NULL;
}

struct err *virtual_interfaces_delete(struct conductor *c, const struct rctx *ctx, const char *uuid)
{
    (void)c;
    (void)ctx;
    assert_string_equal(uuid, UUID);
    strv_fini(&world.rows);
    return NULL;
}

struct err *placement_drop_resources(struct placement *p, const char *consumer,
                                     struct json_object *resources)
{
    CLEANUP(freep) char *text = jv_text(resources);

    (void)p;
    assert_string_equal(consumer, UUID);
    strv_add_take(&neutron_fake.log, str_printf("drop %s", text));
    return NULL;
}

/* ---- The scene ---- */

static struct rctx *context(bool has_token, bool is_admin)
{
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();

    jv_add_str(payload, "_context_auth_token", has_token ? "tok" : NULL);
    jv_add_bool(payload, "_context_is_admin", is_admin);
    return rctx_from_payload(payload);
}

static struct json_object *port(const char *id)
{
    return neutron_fake_port(id);
}

#define NETWORK(id, more)                                                                          \
    "{\"id\": \"" id "\", \"name\": \"n\", \"tenant_id\": \"p1\", \"shared\": false,"              \
    " \"admin_state_up\": true, \"subnets\": [\"s1\"]" more "}"
#define PORT(id, more)                                                                             \
    "{\"id\": \"" id "\", \"network_id\": \"" NET_A "\", \"tenant_id\": \"p1\","                   \
    " \"mac_address\": \"fa:16:3e:aa:aa:aa\", \"status\": \"DOWN\", \"device_id\": \"\","          \
    " \"binding:vif_type\": \"unbound\", \"binding:vnic_type\": \"normal\","                       \
    " \"fixed_ips\": []" more "}"

static int set_up(void **state)
{
    static char bridge[] = "br-int";

    (void)state;
    memset(&world, 0, sizeof(world));
    world.conf.neutron.ovs_bridge = bridge;
    world.fail_rows_after = world.fail_saves_after = -1;
    world.node.host = "here";
    world.node.network_locks = keylock_new();
    world.node.neutron = neutron_new(NULL);
    world.ctx = context(/* has_token= */ true, /* is_admin= */ false);
    world.inst = instance_new();
    instance_set_uuid(world.inst, UUID);
    instance_set_project_id(world.inst, PROJECT);
    instance_set_hostname(world.inst, "web-1");
    instance_set_availability_zone(world.inst, "az1");
    instance_clear_system_metadata(world.inst);
    instance_set_device_metadata(world.inst, NULL);
    struct instance_info_cache *cache = instance_info_cache_new();

    instance_info_cache_set_instance_uuid(cache, UUID);
    instance_set_info_cache(world.inst, cache);
    world.cache = str_dup("[]");
    neutron_fake_set("[]", "[" NETWORK(NET_A, "") "]");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    neutron_fake_reset();
    strv_fini(&world.rows);
    free(world.cache);
    instance_free(world.inst);
    rctx_free(world.ctx);
    neutron_free(world.node.neutron);
    keylock_free(world.node.network_locks);
    return 0;
}

/* "network[/port][@address][#tag]", "" is nothing said; NULL ends. */
static struct network_request_list *requests(const char *first, ...)
{
    struct network_request_list *list = network_request_list_new();
    va_list ap;

    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *)) {
        CLEANUP(freep) char *text = str_dup(s);
        struct network_request *r = network_request_new();
        char *tag = strchr(text, '#'), *address, *port_id;

        if (tag) {
            *tag++ = 0;
        }
        address = strchr(text, '@');
        if (address) {
            *address++ = 0;
        }
        port_id = strchr(text, '/');
        if (port_id) {
            *port_id++ = 0;
        }
        network_request_set_network_id(r, *text ? text : NULL);
        network_request_set_port_id(r, port_id);
        network_request_set_address(r, address);
        network_request_set_tag(r, tag);
        network_request_list_add(list, r);
    }
    va_end(ap);
    return list;
}

static struct err *create_with(struct network_request_list *requested, const char *groups,
                               const struct request_spec *spec, struct vif_list *ret)
{
    CLEANUP(network_request_list_freep) struct network_request_list *list = requested;
    CLEANUP(jv_putp) struct json_object *names = groups ? parse(groups) : NULL;

    return netalloc_create(&world.node, world.ctx, world.inst, list, names, spec, ret);
}

static void ok(struct err *e_)
{
    CLEANUP(err_freep) struct err *e = e_;
    CLEANUP(freep) char *text = e ? err_text(e) : NULL;

    if (e) {
        fail_msg("%s", text);
    }
}

static struct vif_list create_ok(struct network_request_list *requested)
{
    struct vif_list vifs = {0};

    ok(create_with(requested, NULL, NULL, &vifs));
    return vifs;
}

/* Fails with this kind, and leaves everything as it was. */
static void create_fails(struct network_request_list *requested, const char *groups,
                         enum err_kind kind)
{
    struct vif_list vifs = {0};
    CLEANUP(err_freep) struct err *e = create_with(requested, groups, NULL, &vifs);
    CLEANUP(freep) char *text = e ? err_text(e) : str_dup("it went well");

    if (!err_is(e, kind)) {
        fail_msg("%s", text);
    }
    assert_int_equal(vifs.n, 0);
    assert_int_equal(world.rows.n, 0);
    assert_string_equal(world.cache, "[]");
    for (size_t i = 0; i < json_object_array_length(neutron_fake.ports); i++) {
        struct json_object *p = json_object_array_get_idx(neutron_fake.ports, i);

        assert_false(str_starts(str_of(p, "id"), "made-"));
        assert_string_not_equal(str_of(p, "device_id"), UUID);
        assert_null(str_of(p, "binding:host_id"));
    }
}

static void assert_log(const char *expected)
{
    CLEANUP(freep) char *log = strv_join(&neutron_fake.log, "\n");

    assert_string_equal(log, expected);
}

/* ---- Creating ---- */

static void a_port_is_made_as_the_user_and_bound_as_administrator(void **state)
{
    CLEANUP(vif_list_fini)
    struct vif_list vifs = create_ok(requests(NET_A "@10.0.0.9#nic", (char *)NULL));
    struct json_object *p = port("made-1");
    CLEANUP(jv_putp) struct json_object *cache = parse(world.cache);

    (void)state;
    assert_log("user POST /ports\nPUT /ports/made-1");
    assert_string_equal(str_of(p, "device_id"), UUID);
    assert_string_equal(str_of(p, "device_owner"), "compute:az1");
    assert_string_equal(str_of(p, "binding:host_id"), "here");
    assert_string_equal(str_of(p, "tenant_id"), PROJECT);
    assert_true(json_object_get_boolean(jv_get(p, "admin_state_up")));
    assert_null(jv_get(p, "security_groups"));
    assert_null(jv_get(p, "dns_name"));
    assert_string_equal(str_of(json_object_array_get_idx(jv_get(p, "fixed_ips"), 0), "ip_address"),
                        "10.0.0.9");
    assert_int_equal(world.rows.n, 1);
    assert_string_equal(world.rows.items[0], "made-1 fa:16:3e:00:00:01/made-1 nic");
    assert_int_equal(vifs.n, 1);
    assert_string_equal(vifs.items[0].id, "made-1");
    assert_string_equal(vifs.items[0].type, "ovs");
    assert_int_equal(json_object_array_length(cache), 1);
    assert_false(
        json_object_get_boolean(jv_get(json_object_array_get_idx(cache, 0), "preserve_on_delete")));
    assert_string_equal(instance_system_metadata_get(world.inst, "network_allocated"), "True");
}

static void a_brought_port_is_kept_and_marked_so(void **state)
{
    neutron_fake_set("[" PORT(BROUGHT, ", \"binding:profile\": {\"trusted\": \"true\"}") "]",
                     "[" NETWORK(NET_A, "") "]");
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests("/" BROUGHT, (char *)NULL));
    struct json_object *p = port(BROUGHT);

    (void)state;
    assert_log("PUT /ports/" BROUGHT);
    assert_string_equal(str_of(p, "device_id"), UUID);
    assert_string_equal(str_of(jv_get(p, "binding:profile"), "trusted"), "true");
    assert_int_equal(vifs.n, 1);
    assert_true(json_object_get_boolean(jv_get(vifs.items[0].json, "preserve_on_delete")));
}

static void interfaces_come_in_the_order_that_was_asked_for(void **state)
{
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_B, "") ", " NETWORK(NET_A, "") "]");
    CLEANUP(vif_list_fini)
    struct vif_list vifs = create_ok(requests(NET_B, "/" BROUGHT, NET_A, (char *)NULL));

    (void)state;
    assert_int_equal(vifs.n, 3);
    assert_string_equal(vifs.items[0].id, "made-1");
    assert_string_equal(vifs.items[1].id, BROUGHT);
    assert_string_equal(vifs.items[2].id, "made-2");
    assert_string_equal(str_of(port("made-1"), "network_id"), NET_B);
}

static void none_asks_nobody(void **state)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests("none", (char *)NULL));

    (void)state;
    assert_int_equal(vifs.n, 0);
    assert_log("");
    assert_null(instance_system_metadata_get(world.inst, "network_allocated"));
}

static void auto_takes_the_network_that_neutron_makes(void **state)
{
    neutron_fake_set("[]", "[{\"id\": \"" NET_B "\", \"name\": \"auto\", \"tenant_id\": \"p1\","
                           " \"shared\": false, \"admin_state_up\": false, \"subnets\": [\"s\"]}]");
    neutron_fake.auto_network = NET_B;
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests("auto", (char *)NULL));

    (void)state;
    assert_int_equal(vifs.n, 1);
    assert_string_equal(str_of(port("made-1"), "network_id"), NET_B);
}

static void auto_that_is_not_possible_is_said(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[]");
    neutron_fake_fail("GET", "/auto-allocated", 0, 409, "AutoAllocationFailure");
    create_fails(requests("auto", (char *)NULL), NULL, ERR_NO_AUTO_NETWORK);
}

static void who_says_nothing_gets_the_one_network(void **state)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(NULL);

    (void)state;
    assert_int_equal(vifs.n, 1);
}

static void who_says_nothing_among_two_is_asked_back(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[" NETWORK(NET_A, "") ", " NETWORK(NET_B, "") "]");
    create_fails(NULL, NULL, ERR_NETWORK_AMBIGUOUS);
    create_fails(requests("", (char *)NULL), NULL, ERR_NETWORK_AMBIGUOUS);
}

static void a_project_without_network_gets_a_server_without(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[]");
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(NULL);

    assert_int_equal(vifs.n, 0);
    assert_log("");
}

static void a_network_that_is_not_there_is_named(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[]");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_NETWORK_NOT_FOUND);
}

static void external_networks_are_for_administrators(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[" NETWORK(NET_A, ", \"router:external\": true") "]");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_EXTERNAL_NETWORK_ATTACH_FORBIDDEN);
    rctx_freep(&world.ctx);
    world.ctx = context(true, /* is_admin= */ true);
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 1);
}

static void without_a_users_token_we_use_our_own(void **state)
{
    (void)state;
    rctx_freep(&world.ctx);
    world.ctx = context(/* has_token= */ false, true);
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 1);
    assert_log("POST /ports\nPUT /ports/made-1");
}

/* ---- Ports that cannot be had ---- */

static void strange_ports_are_refused(void **state)
{
    static const struct {
        const char *port;
        enum err_kind kind;
    } rows[] = {
        {PORT(BROUGHT, ", \"tenant_id\": \"p2\""), ERR_PORT_NOT_USABLE},
        {PORT(BROUGHT, ", \"device_id\": \"other\""), ERR_PORT_IN_USE},
        {PORT(BROUGHT, ", \"dns_name\": \"mail\""), ERR_PORT_NOT_USABLE_DNS},
        {PORT(BROUGHT, ", \"binding:vif_type\": \"binding_failed\""), ERR_PORT_BINDING_FAILED},
        {PORT(BROUGHT, ", \"binding:vnic_type\": \"direct\""), ERR_PORT_UPDATE_FAILED},
        {PORT(BROUGHT, ", \"binding:vnic_type\": \"vdpa\""), ERR_PORT_UPDATE_FAILED},
        {PORT(BROUGHT, ", \"resource_request\": {\"required\": []}"), ERR_PORT_UPDATE_FAILED},
        {PORT("another", ""), ERR_PORT_NOT_FOUND},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(freep) char *ports = str_printf("[%s]", rows[i].port);

        neutron_fake_set(ports, "[" NETWORK(NET_A, "") "]");
        create_fails(requests("/" BROUGHT, (char *)NULL), NULL, rows[i].kind);
        assert_log("");
    }
}

static void a_port_named_like_the_server_is_fine(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, ", \"dns_name\": \"web-1\"") "]",
                     "[" NETWORK(NET_A, "") "]");
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests("/" BROUGHT, (char *)NULL));

    assert_int_equal(vifs.n, 1);
}

static void neutron_s_reasons_become_nova_s_errors(void **state)
{
    static const struct {
        const char *type;
        long status;
        enum err_kind kind;
    } rows[] = {
        {"OverQuota", 409, ERR_PORT_LIMIT_EXCEEDED},
        {"IpAddressGenerationFailure", 409, ERR_NO_MORE_FIXED_IPS},
        {"IpAddressInUse", 409, ERR_FIXED_IP_ALREADY_IN_USE},
        {"IpAddressAlreadyAllocated", 409, ERR_FIXED_IP_ALREADY_IN_USE},
        {"InvalidIpForNetwork", 400, ERR_INVALID_INPUT},
        {"Anything", 409, ERR_CONFLICT},
        {"Anything", 500, ERR_HTTP},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        neutron_fake.n_faults = 0;
        neutron_fake_fail("POST", "/ports", 0, rows[i].status, rows[i].type);
        create_fails(requests(NET_A "@10.0.0.9", (char *)NULL), NULL, rows[i].kind);
    }
    neutron_fake.n_faults = 0;
    neutron_fake_fail("PUT", "/ports", 0, 409, "MacAddressInUse");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_PORT_IN_USE);
    neutron_fake.n_faults = 0;
    neutron_fake_fail("PUT", "/ports", 0, 409, "HostNotCompatibleWithFixedIps");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_FIXED_IP_INVALID_ON_HOST);
}

static void a_failed_binding_leaves_nothing(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    neutron_fake_fail("PUT", "/ports/made-2", 0, 500, NULL);
    create_fails(requests("/" BROUGHT, NET_A, NET_A, (char *)NULL), NULL, ERR_HTTP);
    assert_string_equal(str_of(port(BROUGHT), "device_owner"), "");
}

static void a_binding_whose_answer_was_lost_is_undone_too(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    neutron_fake_fail("PUT", "/ports/" BROUGHT, 0, 504, NULL);
    neutron_fake.faults[0].is_done = true;
    create_fails(requests("/" BROUGHT, (char *)NULL), NULL, ERR_HTTP);
}

static void a_port_that_neutron_cannot_bind_is_said(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, ", \"x-fails\": true") "]", "[" NETWORK(NET_A, "") "]");
    create_fails(requests(NET_A, "/" BROUGHT, (char *)NULL), NULL, ERR_PORT_BINDING_FAILED);
}

static void records_that_cannot_be_written_undo_everything(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    world.fail_rows_after = 1;
    create_fails(requests(NET_A, "/" BROUGHT, (char *)NULL), NULL, ERR_VIF_CREATE);
}

static void a_cache_that_cannot_be_written_undoes_everything(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    world.fail_saves_after = 0; /* The note of the brought port. */
    create_fails(requests(NET_A, "/" BROUGHT, (char *)NULL), NULL, ERR_TIMEOUT);
    world.fail_saves_after = 1; /* The model. */
    create_fails(requests(NET_A, "/" BROUGHT, (char *)NULL), NULL, ERR_TIMEOUT);
}

static void the_network_is_tried_again_as_often_as_told(void **state)
{
    (void)state;
    neutron_fake_fail("POST", "/ports", 0, 500, NULL);
    world.conf.dflt.network_allocate_retries = 1;
    world.node.stopping = cancel_new();
    cancel_set(world.node.stopping); /* No pause: the first error is the last. */
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_HTTP);
    cancel_freep(&world.node.stopping);
}

/* The user's port is known to the cache before neutron gives it to the server. */
static void a_death_in_between_does_not_make_a_users_port_ours(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    world.fail_saves_after = 1;
    neutron_fake.faults[neutron_fake.n_faults++] = (struct neutron_fault){
        .method = "PUT", .path = "/ports/" BROUGHT, .status = 500, .is_done = true};
    /* What a death leaves: the note, and the port bound.  Saves fail after the note, so nothing is
     * taken back. */
    struct vif_list vifs = {0};
    CLEANUP(err_freep)
    struct err *e = create_with(requests("/" BROUGHT, (char *)NULL), NULL, NULL, &vifs);

    assert_non_null(e);
    assert_non_null(strstr(world.cache, BROUGHT));
    jv_add_str(port(BROUGHT), "device_id", UUID);
    neutron_fake.n_faults = 0;
    strv_fini(&neutron_fake.log);
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_non_null(port(BROUGHT));
    assert_string_equal(str_of(port(BROUGHT), "device_id"), "");
}

/* ---- Groups, names, resources ---- */

static void security_groups_are_found_by_name_or_id(void **state)
{
    struct vif_list vifs = {0};

    (void)state;
    assert_null(create_with(requests(NET_A, (char *)NULL), "[\"web\", \"g-3\"]", NULL, &vifs));
    struct json_object *groups = jv_get(port("made-1"), "security_groups");

    assert_int_equal(json_object_array_length(groups), 2);
    assert_string_equal(json_object_get_string(json_object_array_get_idx(groups, 0)), "g-1");
    assert_string_equal(json_object_get_string(json_object_array_get_idx(groups, 1)), "g-3");
    vif_list_fini(&vifs);
}

static void unknown_and_ambiguous_groups_are_refused(void **state)
{
    (void)state;
    create_fails(requests(NET_A, (char *)NULL), "[\"nothing\"]", ERR_SECURITY_GROUP_NOT_FOUND);
    create_fails(requests(NET_A, (char *)NULL), "[\"db\"]", ERR_NO_UNIQUE_MATCH);
}

static void groups_need_a_network_that_can_have_them(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[{\"id\": \"" NET_A "\", \"tenant_id\": \"p1\", \"subnets\": []}]");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_SECURITY_GROUP_CANNOT_BE_APPLIED);
    neutron_fake_set("[]", "[" NETWORK(NET_A, ", \"port_security_enabled\": false") "]");
    create_fails(requests(NET_A, (char *)NULL), "[\"web\"]", ERR_SECURITY_GROUP_CANNOT_BE_APPLIED);
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 1);
}

static void the_hostname_is_told_to_neutron(void **state)
{
    (void)state;
    neutron_fake.has_dns = true;
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 1);
    assert_string_equal(str_of(port("made-1"), "dns_name"), "web-1");
    assert_log("user POST /ports\nPUT /ports/made-1");
}

static void a_name_for_a_dns_service_is_set_as_the_user(void **state)
{
    (void)state;
    neutron_fake.has_dns = true;
    neutron_fake_set("[]", "[" NETWORK(NET_A, ", \"dns_domain\": \"example.org.\"") "]");
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 1);
    assert_string_equal(str_of(port("made-1"), "dns_name"), "web-1");
    assert_log("user POST /ports\nPUT /ports/made-1\nuser PUT /ports/made-1");
}

static struct request_spec *spec_with(const char *requester, const char *provider)
{
    struct request_spec *spec = request_spec_new();
    struct request_group *g = request_group_new();

    request_group_set_requester_id(g, requester);
    request_group_provider_uuids_add(g, provider);
    request_spec_requested_resources_add(spec, g);
    return spec;
}

static void the_provider_of_a_port_s_resources_is_in_its_profile(void **state)
{
    struct vif_list vifs = {0};
    CLEANUP(request_spec_freep) struct request_spec *spec = spec_with(BROUGHT, "rp-1");

    (void)state;
    neutron_fake_set(
        "[" PORT(BROUGHT, ", \"resource_request\": {\"resources\": {\"NET_BW\": 1}}") "]",
        "[" NETWORK(NET_A, "") "]");
    assert_null(create_with(requests("/" BROUGHT, (char *)NULL), NULL, spec, &vifs));
    assert_string_equal(str_of(jv_get(port(BROUGHT), "binding:profile"), "allocation"), "rp-1");
    vif_list_fini(&vifs);
}

static void groups_of_resources_have_a_provider_each(void **state)
{
    struct vif_list vifs = {0};
    CLEANUP(request_spec_freep) struct request_spec *spec = spec_with("g1", "rp-1");

    (void)state;
    neutron_fake.has_groups = true;
    neutron_fake_set(
        "[" PORT(BROUGHT, ", \"resource_request\": {\"request_groups\": [{\"id\": \"g1\"}]}") "]",
        "[" NETWORK(NET_A, "") "]");
    assert_null(create_with(requests("/" BROUGHT, (char *)NULL), NULL, spec, &vifs));
    assert_string_equal(
        str_of(jv_get(jv_get(port(BROUGHT), "binding:profile"), "allocation"), "g1"), "rp-1");
    vif_list_fini(&vifs);
}

#define CACHED(id, preserve)                                                                       \
    "{\"id\": \"" id "\", \"address\": \"fa:16:3e:aa:aa:aa\", \"type\": \"ovs\","                  \
    " \"network\": {\"id\": \"" NET_A "\", \"subnets\": [], \"meta\": {}},"                        \
    " \"preserve_on_delete\": " preserve "}"
#define OURS ", \"device_id\": \"" UUID "\", \"binding:host_id\": \"here\""

/* ---- A server that comes from another host ---- */

static void ports_of_an_earlier_try_are_bound_here(void **state)
{
    (void)state;
    neutron_fake_set(
        "[" PORT("p-1", ", \"device_id\": \"" UUID "\", \"binding:host_id\": \"there\"") ", " PORT(
            "p-2", ", \"device_id\": \"" UUID "\", \"binding:host_id\": \"here\","
                   " \"binding:vif_type\": \"ovs\"") "]",
        "[" NETWORK(NET_A, "") "]");
    instance_system_metadata_put(world.inst, "network_allocated", "True");
    CLEANUP(vif_list_fini) struct vif_list vifs = create_ok(requests(NET_A, (char *)NULL));

    assert_int_equal(vifs.n, 2);
    assert_log("PUT /ports/p-1");
    assert_string_equal(str_of(port("p-1"), "binding:host_id"), "here");
    assert_string_equal(str_of(port("p-1"), "device_owner"), "compute:az1");
}

static void the_order_of_the_records_is_that_of_the_model(void **state)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};

    (void)state;
    neutron_fake_set("[" PORT("p-1", OURS) ", " PORT("p-2", OURS) ", " PORT("p-3", OURS) "]",
                     "[" NETWORK(NET_A, "") "]");
    strv_add(&world.rows, "p-2 x -");
    strv_add(&world.rows, "p-1 x -");
    str_set(&world.cache, "[" CACHED("p-1", "false") ", " CACHED("p-2", "true") "]");
    ok(netalloc_reread(&world.node, world.ctx, world.inst, &vifs));
    assert_int_equal(vifs.n, 3);
    assert_string_equal(vifs.items[0].id, "p-2");
    assert_string_equal(vifs.items[1].id, "p-1");
    assert_string_equal(vifs.items[2].id, "p-3");
    assert_true(json_object_get_boolean(jv_get(vifs.items[0].json, "preserve_on_delete")));
}

static void a_host_that_gives_up_removes_its_bindings(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT("p-1", ", \"device_id\": \"" UUID "\"") "]",
                     "[" NETWORK(NET_A, "") "]");
    assert_null(netalloc_unbind_host(&world.node, world.ctx, world.inst));
    assert_log("DELETE /ports/p-1/bindings/here");
    assert_non_null(port("p-1"));
}

/* ---- Releasing ---- */

static void what_we_made_is_deleted_and_the_user_s_given_back(void **state)
{
    (void)state;
    neutron_fake_set(
        "[" PORT(
            BROUGHT, OURS
            ", \"binding:profile\": {\"pci_slot\": \"x\", \"trusted\": \"y\","
            " \"allocation\": \"rp\"}") ", " PORT("p-1",
                                                  OURS) ", " PORT("foreign", OURS
                                                                  ", \"tenant_id\": \"p2\"") "]",
        "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED("p-1", "false") ", " CACHED(BROUGHT, "true") "]");
    strv_add(&world.rows, "p-1 x -");
    instance_system_metadata_put(world.inst, "network_allocated", "True");
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_log("PUT /ports/" BROUGHT "\nuser DELETE /ports/p-1");
    struct json_object *p = port(BROUGHT), *profile = jv_get(p, "binding:profile");

    assert_string_equal(str_of(p, "device_id"), "");
    assert_string_equal(str_of(p, "device_owner"), "");
    assert_null(str_of(p, "binding:host_id"));
    assert_null(jv_get(profile, "pci_slot"));
    assert_null(jv_get(profile, "allocation"));
    assert_string_equal(str_of(profile, "trusted"), "y");
    assert_null(jv_get(p, "dns_name"));
    assert_non_null(port("foreign"));
    assert_int_equal(world.rows.n, 0);
    assert_string_equal(world.cache, "[]");
    assert_string_equal(instance_system_metadata_get(world.inst, "network_allocated"), "False");
}

static void releasing_twice_is_no_error(void **state)
{
    (void)state;
    str_set(&world.cache, "[" CACHED("p-1", "false") ", " CACHED(BROUGHT, "true") "]");
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_log("");
}

static void a_port_that_somebody_else_uses_by_now_is_left_alone(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, ", \"device_id\": \"other\"") "]",
                     "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED(BROUGHT, "true") "]");
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_string_equal(str_of(port(BROUGHT), "device_id"), "other");
}

static void one_port_that_stays_does_not_keep_the_others(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT("p-1", OURS) ", " PORT("p-2", OURS) "]", "[" NETWORK(NET_A, "") "]");
    strv_add(&world.rows, "p-1 x -");
    neutron_fake_fail("DELETE", "/ports/p-1", 0, 500, NULL);
    CLEANUP(err_freep) struct err *e = netalloc_release(&world.node, world.ctx, world.inst);

    assert_true(err_is(e, ERR_HTTP));
    assert_null(port("p-2"));
    assert_int_equal(world.rows.n, 1); /* It is tried again. */
}

static void the_dns_name_is_reset_by_who_may(void **state)
{
    (void)state;
    neutron_fake.has_dns = true;
    neutron_fake_set("[" PORT(BROUGHT, OURS ", \"dns_name\": \"web-1\"") "]",
                     "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED(BROUGHT, "true") "]");
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_log("PUT /ports/" BROUGHT);
    assert_string_equal(str_of(port(BROUGHT), "dns_name"), "");
    neutron_fake_set("[" PORT(BROUGHT, OURS ", \"dns_name\": \"web-1\"") "]",
                     "[" NETWORK(NET_A, ", \"dns_domain\": \"example.org.\"") "]");
    str_set(&world.cache, "[" CACHED(BROUGHT, "true") "]");
    strv_fini(&neutron_fake.log);
    assert_null(netalloc_release(&world.node, world.ctx, world.inst));
    assert_log("PUT /ports/" BROUGHT "\nuser PUT /ports/" BROUGHT);
    assert_string_equal(str_of(port(BROUGHT), "dns_name"), "");
}

/* ---- One port ---- */

static void an_attached_port_comes_last(void **state)
{
    struct vif vif = {0};

    (void)state;
    neutron_fake_set("[" PORT("p-1", OURS) ", " PORT(BROUGHT, "") "]", "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED("p-1", "true") "]");
    assert_null(
        netalloc_add_port(&world.node, world.ctx, world.inst, NULL, BROUGHT, NULL, "t", &vif));
    assert_string_equal(vif.id, BROUGHT);
    vif_fini(&vif);
    CLEANUP(jv_putp) struct json_object *cache = parse(world.cache);

    assert_int_equal(json_object_array_length(cache), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(json_object_get_boolean(
            jv_get(json_object_array_get_idx(cache, i), "preserve_on_delete")));
    }
    assert_string_equal(world.rows.items[0], BROUGHT " fa:16:3e:aa:aa:aa/" BROUGHT " t");
}

static void what_cannot_be_attached_is_said(void **state)
{
    struct vif vif = {0};
    static const struct {
        const char *port;
        enum err_kind kind;
    } rows[] = {
        {PORT(BROUGHT, ", \"binding:vnic_type\": \"direct\""), ERR_ATTACH_SRIOV_NOT_SUPPORTED},
        {PORT(BROUGHT, ", \"resource_request\": {\"resources\": {}}"),
         ERR_INTERFACE_ATTACH_ALLOCATION_FAILED},
        {PORT(BROUGHT, ", \"network_id\": \"unseen\""), ERR_INTERFACE_ATTACH_FAILED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        CLEANUP(freep) char *ports = str_printf("[%s]", rows[i].port);

        neutron_fake_set(ports, "[" NETWORK(NET_A, "") "]");
        CLEANUP(err_freep)
        struct err *e =
            netalloc_add_port(&world.node, world.ctx, world.inst, NULL, BROUGHT, NULL, NULL, &vif);

        assert_true(err_is(e, rows[i].kind));
        assert_log("");
        assert_string_equal(world.cache, "[]");
    }
}

static void a_detached_port_of_ours_is_deleted_with_its_tag(void **state)
{
    struct instance_device_metadata *md = instance_device_metadata_new();
    struct network_interface_metadata *nic = network_interface_metadata_new();

    (void)state;
    network_interface_metadata_set_mac(nic, "fa:16:3e:aa:aa:aa");
    network_interface_metadata_tags_add(nic, "t");
    instance_device_metadata_devices_add(
        md, (struct device_metadata *)network_interface_metadata_ovo(nic));
    instance_set_device_metadata(world.inst, md);
    neutron_fake_set("[" PORT("p-1", OURS) ", " PORT("p-2", OURS) "]", "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED("p-1", "false") ", " CACHED("p-2", "false") "]");
    strv_add(&world.rows, "p-1 fa:16:3e:aa:aa:aa/p-1 t");
    assert_null(netalloc_remove_port(&world.node, world.ctx, world.inst, "p-1"));
    assert_log("user DELETE /ports/p-1\nsave instance");
    assert_int_equal(world.rows.n, 0);
    assert_int_equal(instance_device_metadata_n_devices(instance_device_metadata(world.inst)), 0);
    assert_null(strstr(world.cache, "p-1"));
    assert_non_null(strstr(world.cache, "p-2"));
}

static void a_detached_port_of_the_user_is_given_back(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT, OURS) "]", "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED(BROUGHT, "true") "]");
    assert_null(netalloc_remove_port(&world.node, world.ctx, world.inst, BROUGHT));
    assert_string_equal(str_of(port(BROUGHT), "device_id"), "");
    assert_string_equal(world.cache, "[]");
    assert_null(netalloc_remove_port(&world.node, world.ctx, world.inst, "gone"));
}

static void what_placement_gave_for_a_port_is_given_back(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT(BROUGHT,
                              OURS ", \"resource_request\": {\"resources\": {\"NET_BW\": 7}},"
                                   " \"binding:profile\": {\"allocation\": \"rp-1\"}") "]",
                     "[" NETWORK(NET_A, "") "]");
    str_set(&world.cache, "[" CACHED(BROUGHT, "true") "]");
    ok(netalloc_remove_port(&world.node, world.ctx, world.inst, BROUGHT));
    assert_log("PUT /ports/" BROUGHT "\ndrop {\"rp-1\":{\"NET_BW\":7}}");
    neutron_fake.has_groups = true;
    strv_fini(&neutron_fake.log);
    neutron_fake_set("[" PORT(BROUGHT, OURS
                              ", \"resource_request\": {\"request_groups\": ["
                              "{\"id\": \"g1\", \"resources\": {\"NET_BW\": 7}}]},"
                              " \"binding:profile\": {\"allocation\": {\"g1\": \"rp-2\"}}") "]",
                     "[" NETWORK(NET_A, "") "]");
    neutron_freep(&world.node.neutron); /* It remembers the extensions. */
    world.node.neutron = neutron_new(NULL);
    ok(netalloc_remove_port(&world.node, world.ctx, world.inst, BROUGHT));
    assert_non_null(strstr(neutron_fake.log.items[neutron_fake.log.n - 1], "rp-2"));
}

static void a_network_whose_ports_ask_for_resources_is_refused(void **state)
{
    (void)state;
    neutron_fake_set("[]", "[" NETWORK(NET_A, ", \"x-qos\": true") "]");
    create_fails(requests(NET_A, (char *)NULL), NULL, ERR_QOS_NETWORK_NOT_SUPPORTED);
}

/* ---- Addresses ---- */

static void an_address_of_the_first_subnet_that_has_one_is_added(void **state)
{
    (void)state;
    neutron_fake_set("[" PORT("p-1", OURS ", \"device_owner\": \"compute:az1\"") "]",
                     "[" NETWORK(NET_A, "") "]");
    neutron_fake.subnets =
        parse("[{\"id\": \"s1\", \"network_id\": \"" NET_A "\", \"cidr\": \"10.0.0.0/24\"},"
              " {\"id\": \"s2\", \"network_id\": \"" NET_A "\", \"cidr\": \"10.1.0.0/24\"}]");
    neutron_fake_fail("PUT", "/ports/p-1", 0, 409, "IpAddressGenerationFailure");
    ok(netalloc_add_address(&world.node, world.ctx, world.inst, NET_A));
    struct json_object *ips = jv_get(port("p-1"), "fixed_ips");

    assert_int_equal(json_object_array_length(ips), 1);
    assert_string_equal(str_of(json_object_array_get_idx(ips, 0), "subnet_id"), "s2");
    assert_log("user PUT /ports/p-1\nuser PUT /ports/p-1");
}

static void a_network_that_the_server_is_not_on_gives_no_address(void **state)
{
    CLEANUP(err_freep)
    struct err *e = netalloc_add_address(&world.node, world.ctx, world.inst, NET_A);

    (void)state;
    assert_true(err_is(e, ERR_NETWORK_NOT_FOUND_FOR_INSTANCE));
}

static void one_address_is_taken_and_the_others_stay(void **state)
{
    (void)state;
    neutron_fake_set("[{\"id\": \"p-1\", \"network_id\": \"" NET_A "\", \"tenant_id\": \"p1\","
                     " \"mac_address\": \"fa:16:3e:aa:aa:aa\", \"status\": \"ACTIVE\"" OURS
                     ", \"device_owner\": \"compute:az1\", \"fixed_ips\": ["
                     "{\"ip_address\": \"10.0.0.8\"}, {\"ip_address\": \"10.0.0.9\"}]}]",
                     "[" NETWORK(NET_A, "") "]");
    ok(netalloc_remove_address(&world.node, world.ctx, world.inst, "10.0.0.9"));
    struct json_object *ips = jv_get(port("p-1"), "fixed_ips");

    assert_int_equal(json_object_array_length(ips), 1);
    assert_string_equal(str_of(json_object_array_get_idx(ips, 0), "ip_address"), "10.0.0.8");
    CLEANUP(err_freep)
    struct err *e = netalloc_remove_address(&world.node, world.ctx, world.inst, "10.0.0.7");

    assert_true(err_is(e, ERR_FIXED_IP_NOT_FOUND));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_port_is_made_as_the_user_and_bound_as_administrator),
        TEST(a_brought_port_is_kept_and_marked_so),
        TEST(interfaces_come_in_the_order_that_was_asked_for),
        TEST(none_asks_nobody),
        TEST(auto_takes_the_network_that_neutron_makes),
        TEST(auto_that_is_not_possible_is_said),
        TEST(who_says_nothing_gets_the_one_network),
        TEST(who_says_nothing_among_two_is_asked_back),
        TEST(a_project_without_network_gets_a_server_without),
        TEST(a_network_that_is_not_there_is_named),
        TEST(external_networks_are_for_administrators),
        TEST(without_a_users_token_we_use_our_own),
        TEST(strange_ports_are_refused),
        TEST(a_port_named_like_the_server_is_fine),
        TEST(neutron_s_reasons_become_nova_s_errors),
        TEST(a_failed_binding_leaves_nothing),
        TEST(a_binding_whose_answer_was_lost_is_undone_too),
        TEST(a_port_that_neutron_cannot_bind_is_said),
        TEST(records_that_cannot_be_written_undo_everything),
        TEST(a_cache_that_cannot_be_written_undoes_everything),
        TEST(the_network_is_tried_again_as_often_as_told),
        TEST(a_death_in_between_does_not_make_a_users_port_ours),
        TEST(security_groups_are_found_by_name_or_id),
        TEST(unknown_and_ambiguous_groups_are_refused),
        TEST(groups_need_a_network_that_can_have_them),
        TEST(the_hostname_is_told_to_neutron),
        TEST(a_name_for_a_dns_service_is_set_as_the_user),
        TEST(the_provider_of_a_port_s_resources_is_in_its_profile),
        TEST(groups_of_resources_have_a_provider_each),
        TEST(ports_of_an_earlier_try_are_bound_here),
        TEST(the_order_of_the_records_is_that_of_the_model),
        TEST(a_host_that_gives_up_removes_its_bindings),
        TEST(what_we_made_is_deleted_and_the_user_s_given_back),
        TEST(releasing_twice_is_no_error),
        TEST(a_port_that_somebody_else_uses_by_now_is_left_alone),
        TEST(one_port_that_stays_does_not_keep_the_others),
        TEST(the_dns_name_is_reset_by_who_may),
        TEST(an_attached_port_comes_last),
        TEST(what_cannot_be_attached_is_said),
        TEST(a_detached_port_of_ours_is_deleted_with_its_tag),
        TEST(a_detached_port_of_the_user_is_given_back),
        TEST(what_placement_gave_for_a_port_is_given_back),
        TEST(a_network_whose_ports_ask_for_resources_is_refused),
        TEST(an_address_of_the_first_subnet_that_has_one_is_added),
        TEST(a_network_that_the_server_is_not_on_gives_no_address),
        TEST(one_address_is_taken_and_the_others_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute driver_libvirt vif pci rpc_rest rpc_amqp rpc_objects base */
#include "driver/compute/service.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/host.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SERVER "11111111-1111-4111-8111-111111111111"
#define OTHER  "22222222-2222-4222-8222-222222222222"
#define MOVE   "33333333-3333-4333-8333-333333333333"
#define NODE   "44444444-4444-4444-8444-444444444444"

/* ---- A world of our own: what the tracker asks and tells ---- */

static struct {
    struct conf conf;
    struct compute_node *record; /* As conductor has it. */
    struct instance *server;     /* The one of SERVER. */
    struct instance *elsewhere;  /* The one of OTHER, on another host. */
    struct migration *move;      /* Of OTHER. */
    uint64_t free_pages;
    bool placement_is_down, has_provider, save_fails;
    unsigned n_creates, n_saves, n_inventories, n_contexts, n_dropped, n_errors;
    void (*on_list)(void); /* Something happens while an audit reads. */
} world;

const struct conf *conf_get(struct conf_holder *h)
{
    (void)h;
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    (void)conf;
}

static struct cpuset set_of(const char *text)
{
    struct cpuset s = {0};

    assert_null(cpuset_parse(text, &s));
    return s;
}

struct err *host_read(struct lv_conn *conn, const struct conf *conf, struct host_facts *ret)
{
    (void)conn;
    (void)conf;
    *ret = (struct host_facts){
        .hostname = str_dup("host-a"),
        .hypervisor_type = str_dup("QEMU"),
        .shared = set_of("0-1"),
        .pinnable = set_of("0-1"),
        .vcpus = 2,
        .memory_mib = 4096,
        .local_gb = 100,
        .free_bytes = UINT64_C(50) << 30,
        .cpu_info = str_dup("{}"),
        .hv_specs = json_object_new_array(),
        .cells = NEW_ARRAY(struct host_cell, 1),
        .n_cells = 1,
    };
    ret->cells[0] = (struct host_cell){.cpus = set_of("0-1"),
                                       .memory_mib = 4096,
                                       .pages = NEW_ARRAY(struct host_page_size, 2),
                                       .n_pages = 2};
    ret->cells[0].siblings = NEW_ARRAY(struct cpuset, 2);
    ret->cells[0].n_siblings = 2;
    ret->cells[0].siblings[0] = set_of("0");
    ret->cells[0].siblings[1] = set_of("1");
    ret->cells[0].pages[0] = (struct host_page_size){.size_kb = 4, .total = 524288};
    ret->cells[0].pages[1] = (struct host_page_size){.size_kb = 2048, .total = 512};
    return NULL;
}

void host_facts_fini(struct host_facts *f)
{
    for (size_t i = 0; i < f->n_cells; i++) {
        cpuset_fini(&f->cells[i].siblings[0]);
        cpuset_fini(&f->cells[i].siblings[1]);
        cpuset_fini(&f->cells[i].cpus);
        free(f->cells[i].siblings);
        free(f->cells[i].pages);
    }
    free(f->cells);
    free(f->hostname);
    free(f->hypervisor_type);
    free(f->cpu_info);
    jv_putp(&f->hv_specs);
    cpuset_fini(&f->shared);
    cpuset_fini(&f->pinnable);
    *f = (struct host_facts){0};
}

struct err *host_disk_over_committed(struct lv_conn *conn, int64_t *ret)
{
    (void)conn;
    *ret = 0;
    return NULL;
}

struct err *lv_domain_uuids(struct lv_conn *conn, struct strv *ret)
{
    (void)conn;
    (void)ret;
    return NULL;
}

struct err *lv_free_pages(struct lv_conn *conn, unsigned page_kib, int cell, uint64_t *ret)
{
    (void)conn;
    (void)page_kib;
    (void)cell;
    *ret = world.free_pages;
    return NULL;
}

bool service_is_disabled(struct node *node)
{
    (void)node;
    return false;
}

struct err *service_refresh(struct node *node, const struct rctx *ctx)
{
    (void)node;
    (void)ctx;
    return NULL;
}

struct err *instance_list_by_host_and_node(struct conductor *c, const struct rctx *ctx,
                                           const char *host, const char *node,
                                           const char *const *attrs, struct instance_list **ret)
{
    struct instance_list *list = instance_list_new();

    (void)c;
    (void)ctx;
    (void)host;
    (void)node;
    (void)attrs;
    if (world.server) {
        instance_list_add(list, instance_dup(world.server));
    }
    *ret = list;
    return NULL;
}

struct err *migration_list_in_progress(struct conductor *c, const struct rctx *ctx,
                                       const char *host, const char *node, bool with_error,
                                       struct migration_list **ret)
{
    struct migration_list *list = migration_list_new();
    void (*hook)(void) = world.on_list;

    (void)c;
    (void)ctx;
    (void)node;
    assert_true(with_error);
    if (world.move && str_eq(migration_dest_compute(world.move), host)) {
        migration_list_add(list, migration_dup(world.move));
    }
    *ret = list;
    world.on_list = NULL;
    if (hook) {
        hook();
    }
    return NULL;
}

struct err *instance_get(struct conductor *c, const struct rctx *ctx, const char *uuid,
                         const char *const *attrs, struct instance **ret)
{
    (void)c;
    (void)ctx;
    (void)attrs;
    if (!world.elsewhere || !str_eq(uuid, OTHER)) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = instance_dup(world.elsewhere);
    return NULL;
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    (void)inst;
    (void)attrs;
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected)
{
    (void)c;
    (void)ctx;
    assert_null(expected);
    if (world.save_fails) {
        return err_msg(ERR_TIMEOUT, "conductor is away");
    }
    world.n_contexts++;
    instance_free(world.elsewhere);
    world.elsewhere = instance_dup(inst);
    return NULL;
}

struct err *instance_drop_migration_context(struct conductor *c, const struct rctx *ctx,
                                            struct instance *inst)
{
    (void)c;
    (void)ctx;
    (void)inst;
    world.n_dropped++;
    instance_set_migration_context(world.elsewhere, NULL);
    return NULL;
}

struct err *migration_save(struct conductor *c, const struct rctx *ctx, struct migration *m)
{
    (void)c;
    (void)ctx;
    world.n_errors += str_eq(migration_status(m), "error");
    migration_free(world.move);
    world.move = migration_dup(m);
    return NULL;
}

struct err *compute_node_get(struct conductor *c, const struct rctx *ctx, const char *host,
                             const char *node, struct compute_node **ret)
{
    (void)c;
    (void)ctx;
    if (!world.record) {
        return err_new(ERR_COMPUTE_HOST_NOT_FOUND, "host", host, NULL);
    }
    assert_string_equal(node, "host-a");
    *ret = compute_node_dup(world.record);
    return NULL;
}

static void keep_record(struct compute_node *cn)
{
    ovo_reset_changes(compute_node_ovo(cn), /* is_recursive= */ true);
    compute_node_free(world.record);
    world.record = compute_node_dup(cn);
}

struct err *compute_node_create(struct conductor *c, const struct rctx *ctx,
                                struct compute_node *cn)
{
    (void)c;
    (void)ctx;
    world.n_creates++;
    compute_node_set_uuid(cn, NODE);
    compute_node_set_id(cn, 7);
    keep_record(cn);
    return NULL;
}

struct err *compute_node_save(struct conductor *c, const struct rctx *ctx, struct compute_node *cn)
{
    (void)c;
    (void)ctx;
    world.n_saves++;
    keep_record(cn);
    return NULL;
}

static struct err *placement_answer(void)
{
    return world.placement_is_down ? err_msg(ERR_INTERNAL, "placement is away") : NULL;
}

struct err *placement_ensure_provider(struct placement *p, const char *uuid, const char *name)
{
    (void)p;
    assert_string_equal(uuid, NODE);
    assert_string_equal(name, "host-a");
    TRY(placement_answer());
    world.has_provider = true;
    return NULL;
}

struct err *placement_get_inventories(struct placement *p, const char *uuid,
                                      struct json_object **ret)
{
    (void)p;
    (void)uuid;
    *ret = NULL;
    return placement_answer();
}

struct err *placement_set_inventories(struct placement *p, const char *uuid,
                                      const struct placement_inventory *inv, size_t n)
{
    (void)p;
    (void)uuid;
    (void)inv;
    assert_int_equal(n, 3);
    if (!world.has_provider) {
        return err_msg(ERR_NOT_FOUND, "no such provider");
    }
    world.n_inventories++;
    return placement_answer();
}

struct err *placement_set_traits(struct placement *p, const char *uuid, const struct strv *traits,
                                 const struct strv *owned)
{
    (void)p;
    (void)uuid;
    (void)traits;
    (void)owned;
    return placement_answer();
}

struct err *placement_provider_allocations(struct placement *p, const char *uuid,
                                           struct json_object **ret)
{
    (void)p;
    (void)uuid;
    *ret = json_object_new_object();
    return placement_answer();
}

struct err *placement_delete_allocations(struct placement *p, const char *consumer)
{
    (void)p;
    fail_msg("an allocation of %s is removed", consumer);
    return NULL;
}

/* ---- Servers and moves ---- */

/* Of 'mib' on 2 MiB pages in cell 0, with one CPU that floats, or that is dedicated. */
static struct instance_numa_topology *numa(int64_t mib, bool is_dedicated)
{
    struct instance_numa_topology *t = instance_numa_topology_new();
    struct instance_numa_cell *c = instance_numa_cell_new();
    CLEANUP(cpuset_fini) struct cpuset one = set_of("0"), none = {0};

    instance_numa_cell_set_id(c, 0);
    instance_numa_cell_set_cpuset(c, is_dedicated ? &none : &one);
    instance_numa_cell_set_pcpuset(c, is_dedicated ? &one : &none);
    instance_numa_cell_set_cpuset_reserved(c, NULL);
    instance_numa_cell_set_memory(c, mib);
    instance_numa_cell_set_pagesize(c, 2048);
    instance_numa_cell_set_cpu_pinning_raw(c, NULL);
    instance_numa_cell_set_cpu_policy(c, is_dedicated ? "dedicated" : NULL);
    instance_numa_cell_set_cpu_thread_policy(c, NULL);
    instance_numa_topology_cells_add(t, c);
    instance_numa_topology_set_emulator_threads_policy(t, NULL);
    return t;
}

static struct instance *server(const char *uuid, const char *host, const char *task, int64_t mib)
{
    struct instance *i = instance_new();
    struct flavor *f = flavor_new();

    flavor_set_vcpus(f, 1);
    flavor_set_memory_mb(f, mib);
    flavor_set_root_gb(f, 1);
    flavor_set_ephemeral_gb(f, 0);
    flavor_set_swap(f, 0);
    flavor_clear_extra_specs(f);
    instance_set_uuid(i, uuid);
    instance_set_host(i, host);
    instance_set_vm_state(i, "active");
    instance_set_task_state(i, task);
    instance_set_project_id(i, "p");
    instance_set_image_ref(i, "image");
    instance_set_flavor(i, f);
    instance_set_instance_type_id(i, 1);
    instance_set_numa_topology(i, numa(mib, /* is_dedicated= */ false));
    instance_set_pci_devices(i, pci_device_list_new());
    instance_set_pci_requests(i, NULL);
    instance_set_resources(i, NULL);
    instance_set_migration_context(i, NULL);
    return i;
}

static struct migration *move_of_other(void)
{
    struct migration *m = migration_new();

    migration_set_id(m, 6);
    migration_set_uuid(m, MOVE);
    migration_set_instance_uuid(m, OTHER);
    migration_set_migration_type(m, "live-migration");
    migration_set_status(m, "accepted");
    migration_set_source_compute(m, "host-b");
    migration_set_source_node(m, NULL);
    migration_set_dest_compute(m, NULL);
    migration_set_dest_node(m, NULL);
    migration_set_old_instance_type_id(m, 1);
    migration_set_created_at(m, "2026-01-01T00:00:00Z");
    migration_set_updated_at(m, NULL);
    return m;
}

struct fixture {
    struct node node;
    struct tracker *t;
    struct rctx *ctx;
};

static struct fixture fx;

static int set_up(void **state)
{
    memset(&world, 0, sizeof(world));
    world.conf = (struct conf){
        .dflt = {.my_ip = "10.0.0.1",
                 .cpu_allocation_ratio = NAN,
                 .ram_allocation_ratio = NAN,
                 .disk_allocation_ratio = NAN,
                 .initial_cpu_allocation_ratio = 4.0,
                 .initial_ram_allocation_ratio = 1.0,
                 .initial_disk_allocation_ratio = 1.0},
    };
    world.free_pages = 512;
    fx.node = (struct node){.host = "host-a"};
    fx.t = tracker_new(&fx.node);
    fx.ctx = rctx_new_admin();
    *state = &fx;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tracker_free(fx.t);
    rctx_free(fx.ctx);
    compute_node_free(world.record);
    instance_free(world.server);
    instance_free(world.elsewhere);
    migration_free(world.move);
    return 0;
}

static void start(void)
{
    assert_null(tracker_audit(fx.t, fx.ctx, /* is_startup= */ true));
}

static void audit(void)
{
    assert_null(tracker_audit(fx.t, fx.ctx, /* is_startup= */ false));
}

static struct err *claim(int64_t mib, struct instance_numa_topology **ret)
{
    instance_free(world.elsewhere);
    migration_free(world.move);
    world.elsewhere = server(OTHER, "host-b", "migrating", mib);
    world.move = move_of_other();
    CLEANUP(instance_freep) struct instance *inst = instance_dup(world.elsewhere);
    CLEANUP(migration_freep) struct migration *m = migration_dup(world.move);

    return tracker_claim_move(fx.t, fx.ctx, inst, m, NULL, ret);
}

static int64_t memory_used(void)
{
    return compute_node_memory_mb_used(world.record);
}

/* ---- Audits ---- */

static void the_first_audit_makes_the_record_and_the_provider(void **state)
{
    (void)state;
    assert_null(tracker_nodename(fx.t));
    start();
    assert_int_equal(world.n_creates, 1);
    assert_int_equal(world.n_saves, 0);
    assert_string_equal(compute_node_host(world.record), "host-a");
    assert_string_equal(tracker_nodename(fx.t), "host-a");
    assert_string_equal(tracker_node_uuid(fx.t), NODE);
    assert_true(world.has_provider);
    assert_int_equal(world.n_inventories, 1);
}

static void an_audit_writes_nothing_if_nothing_differs(void **state)
{
    (void)state;
    world.server = server(SERVER, "host-a", NULL, 256);
    start();
    audit();
    audit();
    assert_int_equal(world.n_creates, 1);
    assert_int_equal(world.n_saves, 0);
    assert_int_equal(memory_used(), 256);
    assert_int_equal(compute_node_running_vms(world.record), 1);
}

static void a_start_without_placement_is_made_up_for_later(void **state)
{
    (void)state;
    world.placement_is_down = true;
    start();
    assert_false(world.has_provider);
    CLEANUP(err_freep) struct err *e = tracker_audit(fx.t, fx.ctx, /* is_startup= */ false);

    assert_non_null(e);
    world.placement_is_down = false;
    audit();
    assert_true(world.has_provider);
}

static void a_provider_that_somebody_deleted_is_made_again(void **state)
{
    (void)state;
    start();
    world.has_provider = false;
    audit();
    assert_true(world.has_provider);
}

static void a_record_that_somebody_deleted_is_made_again(void **state)
{
    (void)state;
    start();
    world.record = compute_node_free(world.record);
    audit();
    assert_int_equal(world.n_creates, 2);
}

static void a_server_that_comes_or_leaves_counts_at_once(void **state)
{
    struct tracker_stats stats;
    CLEANUP(instance_freep) struct instance *inst = server(SERVER, "host-a", NULL, 256);

    (void)state;
    start();
    tracker_instance_changed(fx.t, inst, /* is_here= */ true);
    tracker_instance_changed(fx.t, inst, /* is_here= */ true);
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_instances, 1);
    tracker_instance_changed(fx.t, inst, /* is_here= */ false);
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_instances, 0);
}

static void server_leaves(void)
{
    CLEANUP(instance_freep) struct instance *inst = TAKE(world.server);

    tracker_instance_changed(fx.t, inst, /* is_here= */ false);
}

static void a_server_that_leaves_while_an_audit_reads_stays_away(void **state)
{
    struct tracker_stats stats;

    (void)state;
    world.server = server(SERVER, "host-a", NULL, 256);
    start();
    world.on_list = server_leaves;
    audit();
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_instances, 0);
    assert_int_equal(memory_used(), 0);
}

/* ---- Claims ---- */

static void a_claim_is_written_everywhere(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    assert_int_equal(instance_numa_cell_pagesize(instance_numa_topology_cells_at(fitted, 0)), 2048);
    assert_string_equal(migration_dest_compute(world.move), "host-a");
    assert_string_equal(migration_dest_node(world.move), "host-a");
    assert_string_equal(migration_dest_host(world.move), "10.0.0.1");
    assert_string_equal(migration_status(world.move), "accepted");
    struct migration_context *mc = instance_migration_context(world.elsewhere);

    assert_int_equal(migration_context_migration_id(mc), 6);
    assert_non_null(migration_context_new_numa_topology(mc));
    assert_non_null(migration_context_old_numa_topology(mc));
    assert_int_equal(memory_used(), 256);
    assert_int_equal(compute_node_running_vms(world.record), 0);
}

static void a_claim_lasts_as_long_as_its_move(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    audit();
    assert_int_equal(memory_used(), 256);
    migration_set_status(world.move, "error");
    instance_set_task_state(world.elsewhere, NULL);
    audit();
    assert_int_equal(memory_used(), 0);
}

static void claim_while_reading(void)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    assert_null(claim(256, &fitted));
}

static void an_audit_does_not_lose_a_claim_made_meanwhile(void **state)
{
    struct tracker_stats stats;

    (void)state;
    start();
    world.on_list = claim_while_reading;
    audit();
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_claims, 1);
    assert_int_equal(memory_used(), 256);
}

static void after_a_restart_the_record_of_a_move_counts(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    tracker_free(fx.t);
    fx.t = tracker_new(&fx.node);
    start();
    assert_int_equal(memory_used(), 256);
    assert_int_equal(compute_node_running_vms(world.record), 0);
}

static void two_claims_do_not_take_the_same_pages(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    world.server = server(SERVER, "host-a", NULL, 768); /* Of 1024 MiB in large pages. */
    start();
    CLEANUP(err_freep) struct err *e = claim(512, &fitted);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_int_equal(world.n_contexts, 0);
    assert_int_equal(memory_used(), 768);
    assert_null(claim(256, &fitted));
}

static void a_claim_again_takes_the_place_of_the_first(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *a = NULL, *b = NULL;

    (void)state;
    start();
    assert_null(claim(768, &a));
    assert_null(claim(768, &b));
    assert_int_equal(memory_used(), 768);
}

static void pages_that_the_kernel_does_not_have_are_named(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    struct tracker_stats stats;

    (void)state;
    start();
    world.free_pages = 100; /* OVS has taken the others. */
    CLEANUP(err_freep) struct err *e = claim(256, &fitted);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_non_null(strstr(err_message(e), "NUMA node 0 has 100 free pages of 2048 KiB"));
    assert_non_null(strstr(err_message(e), "28 more"));
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_claims, 0);
    assert_null(migration_dest_node(world.move));
}

static void a_claim_that_cannot_be_written_is_undone(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    struct tracker_stats stats;

    (void)state;
    start();
    world.save_fails = true;
    CLEANUP(err_freep) struct err *e = claim(256, &fitted);

    assert_true(err_is(e, ERR_TIMEOUT));
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_claims, 0);
    assert_int_equal(memory_used(), 0);
    assert_null(fitted);
}

static void dropping_a_claim_frees_its_room_and_its_context(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    assert_null(tracker_drop_move(fx.t, fx.ctx, OTHER));
    assert_int_equal(memory_used(), 0);
    assert_int_equal(world.n_dropped, 1);
    assert_null(tracker_drop_move(fx.t, fx.ctx, OTHER));
    assert_int_equal(world.n_dropped, 1);
}

static void the_context_of_a_later_move_is_left_alone(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    migration_context_set_migration_id(instance_migration_context(world.elsewhere), 99);
    assert_null(tracker_drop_move(fx.t, fx.ctx, OTHER));
    assert_int_equal(world.n_dropped, 0);
}

static void a_server_that_has_arrived_takes_the_place_of_its_claim(void **state)
{
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    struct tracker_stats stats;

    (void)state;
    start();
    assert_null(claim(256, &fitted));
    tracker_instance_changed(fx.t, world.elsewhere, /* is_here= */ true);
    tracker_stats(fx.t, &stats);
    assert_int_equal(stats.n_claims, 0);
    assert_int_equal(stats.n_instances, 1);
}

static void a_server_is_pinned_anew(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server(OTHER, "host-b", "migrating", 256);
    CLEANUP(migration_freep) struct migration *m = move_of_other();
    CLEANUP(instance_numa_topology_freep) struct instance_numa_topology *fitted = NULL;
    CLEANUP(libvirt_live_migrate_numa_info_freep)
    struct libvirt_live_migrate_numa_info *info = NULL;
    struct instance_numa_topology *there = numa(256, /* is_dedicated= */ true);

    (void)state;
    instance_numa_cell_set_cpu_pinning_raw(instance_numa_topology_cells_at(there, 0),
                                           json_tokener_parse("{\"0\": 77}"));
    instance_numa_cell_set_id(instance_numa_topology_cells_at(there, 0), 5);
    instance_set_numa_topology(inst, there);
    world.elsewhere = instance_dup(inst);
    start();
    assert_null(tracker_claim_move(fx.t, fx.ctx, inst, m, NULL, &fitted));
    assert_null(tracker_numa_info(fx.t, inst, fitted, &info));
    CLEANUP(freep) char *pins = jv_text(libvirt_live_migrate_numa_info_cpu_pins(info));

    assert_true(str_eq(pins, "{\"0\":[0]}") || str_eq(pins, "{\"0\":[1]}"));
    assert_int_equal(instance_numa_cell_id(instance_numa_topology_cells_at(fitted, 0)), 0);
}

static void host_devices_do_not_move(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server(OTHER, "host-b", "migrating", 256);
    CLEANUP(migration_freep) struct migration *m = move_of_other();
    struct instance_pci_requests *requests = instance_pci_requests_new();
    struct instance_pci_request *r = instance_pci_request_new();
    struct instance_numa_topology *fitted = NULL;

    (void)state;
    instance_pci_request_set_alias_name(r, "gpu");
    instance_pci_requests_requests_add(requests, r);
    instance_set_pci_requests(inst, requests);
    start();
    CLEANUP(err_freep) struct err *e = tracker_claim_move(fx.t, fx.ctx, inst, m, NULL, &fitted);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_non_null(strstr(err_message(e), "Non-VIF"));
}

static void before_the_first_audit_nothing_can_be_claimed(void **state)
{
    struct instance_numa_topology *fitted = NULL;

    (void)state;
    CLEANUP(err_freep) struct err *e = claim(256, &fitted);

    assert_true(err_is(e, ERR_COMPUTE_RESOURCES_UNAVAILABLE));
    assert_null(tracker_set_disabled_trait(fx.t, /* is_disabled= */ true));
}

static void a_move_that_another_overtook_is_noted_as_failed(void **state)
{
    struct migration_context *mc = migration_context_new();

    (void)state;
    start();
    world.elsewhere = server(OTHER, "host-b", "migrating", 256);
    migration_context_set_migration_id(mc, 7);
    instance_set_migration_context(world.elsewhere, mc);
    world.move = move_of_other();
    migration_set_dest_compute(world.move, "host-a");
    migration_set_dest_node(world.move, "host-a");
    audit();
    assert_int_equal(world.n_errors, 1);
    assert_int_equal(memory_used(), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(the_first_audit_makes_the_record_and_the_provider),
        T(an_audit_writes_nothing_if_nothing_differs),
        T(a_start_without_placement_is_made_up_for_later),
        T(a_provider_that_somebody_deleted_is_made_again),
        T(a_record_that_somebody_deleted_is_made_again),
        T(a_server_that_comes_or_leaves_counts_at_once),
        T(a_server_that_leaves_while_an_audit_reads_stays_away),
        T(a_claim_is_written_everywhere),
        T(a_claim_lasts_as_long_as_its_move),
        T(an_audit_does_not_lose_a_claim_made_meanwhile),
        T(after_a_restart_the_record_of_a_move_counts),
        T(two_claims_do_not_take_the_same_pages),
        T(a_claim_again_takes_the_place_of_the_first),
        T(pages_that_the_kernel_does_not_have_are_named),
        T(a_claim_that_cannot_be_written_is_undone),
        T(dropping_a_claim_frees_its_room_and_its_context),
        T(the_context_of_a_later_move_is_left_alone),
        T(a_server_that_has_arrived_takes_the_place_of_its_claim),
        T(a_server_is_pinned_anew),
        T(host_devices_do_not_move),
        T(before_the_first_audit_nothing_can_be_claimed),
        T(a_move_that_another_overtook_is_noted_as_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: rpc_objects base */
#include "base/fs.h"
#include "rpc/objects/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

static void ok(struct err *e)
{
    CLEANUP(freep) char *text = e ? err_text(e) : NULL;

    if (e) {
        fail_msg("%s", text);
    }
}

/* The error with its kind and a part of its message, and nothing else. */
static void fails(struct err *e_, enum err_kind kind, const char *part)
{
    CLEANUP(err_freep) struct err *e = e_;

    assert_non_null(e);
    assert_int_equal(err_kind(e), kind);
    if (!strstr(err_message(e), part)) {
        fail_msg("'%s' does not say '%s'", err_message(e), part);
    }
}

static struct json_object *parse(const char *text)
{
    struct json_object *json = NULL;

    ok(jv_parse(text, strlen(text), &json));
    return json;
}

static struct json_object *golden(const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/golden/objects/%s.json", TESTS_DIR, name);
    CLEANUP(freep) char *text = NULL;
    size_t len;

    ok(fs_read(&fs_real, path, &text, &len));
    return parse(text);
}

static struct instance *golden_instance(void)
{
    CLEANUP(jv_putp) struct json_object *json = golden("instance");
    struct instance *inst = NULL;

    ok(instance_from_json(json, &inst));
    return inst;
}

/* Equal, but for the order of lists: sets and changes have none. */
static bool is_same(struct json_object *a, struct json_object *b)
{
    if (json_object_is_type(a, json_type_object) && json_object_is_type(b, json_type_object)) {
        json_object_object_foreach(a, key, value)
        {
            if (!json_object_object_get_ex(b, key, NULL) || !is_same(value, jv_get(b, key))) {
                return false;
            }
        }
        return json_object_object_length(a) == json_object_object_length(b);
    }
    if (json_object_is_type(a, json_type_array) && json_object_is_type(b, json_type_array)) {
        size_t n = json_object_array_length(a), n_found = 0;

        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < json_object_array_length(b); k++) {
                if (is_same(json_object_array_get_idx(a, i), json_object_array_get_idx(b, k))) {
                    n_found++;
                    break;
                }
            }
        }
        return n_found == n && json_object_array_length(b) == n;
    }
    return json_object_equal(a, b);
}

/* An object on the wire. */
static struct json_object *wire(const char *name, const char *version, const char *data)
{
    CLEANUP(freep)
    char *text = str_printf("{\"nova_object.name\": \"%s\", \"nova_object.namespace\": \"nova\","
                            " \"nova_object.version\": \"%s\", \"nova_object.data\": %s}",
                            name, version, data);

    return parse(text);
}

static struct ovo *object(const char *name, const char *version, const char *data)
{
    CLEANUP(jv_putp) struct json_object *json = wire(name, version, data);
    struct ovo *o = NULL;

    ok(ovo_from_json(json, /* cls= */ NULL, &o));
    return o;
}

/* The data or another part of what is sent for an object. */
static struct json_object *sent(struct ovo *o, const char *part)
{
    CLEANUP(jv_putp) struct json_object *json = ovo_to_json(o);

    return json_object_get(jv_get(json, part));
}

static void assert_sent(struct ovo *o, const char *part, const char *expected)
{
    CLEANUP(jv_putp) struct json_object *json = sent(o, part);
    CLEANUP(jv_putp) struct json_object *want = parse(expected);
    CLEANUP(freep) char *text = json ? jv_text(json) : str_dup("nothing");

    if (!is_same(json, want)) {
        fail_msg("%s is %s, not %s", part, text, expected);
    }
}

static void real_objects_come_back_as_they_were(void **state)
{
    static const char *const names[] = {
        "block_device_mapping_list",
        "compute_node",
        "instance",
        "instance_external_event",
        "instance_list",
        "libvirt_live_migrate_data",
        "migration",
        "migration_context",
        "network_request_list",
        "pci_device_list",
        "request_spec",
        "service",
        "virt_cpu_model",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(jv_putp) struct json_object *json = golden(names[i]), *back = NULL;
        CLEANUP(ovo_freep) struct ovo *o = NULL, *copy = NULL;

        ok(ovo_from_json(json, /* cls= */ NULL, &o));
        copy = ovo_dup(o);
        assert_true(ovo_is_equal(o, copy, NULL));
        back = ovo_to_json(copy);
        if (!is_same(json, back)) {
            fail_msg("%s is not what it was", names[i]);
        }
    }
}

static void unset_null_and_a_value_are_three_things(void **state)
{
    CLEANUP(ovo_freep) struct ovo *o = object("Migration", "1.7", "{\"status\": null, \"id\": 7}");
    struct migration *m = migration_of(o);

    (void)state;
    assert_true(migration_has_status(m));
    assert_true(migration_isnull_status(m));
    assert_null(migration_status(m));
    assert_false(migration_has_memory_total(m));
    assert_int_equal(migration_id(m), 7);
    migration_set_null_memory_total(m);
    assert_sent(o, "nova_object.data", "{\"status\": null, \"id\": 7, \"memory_total\": null}");
    migration_unset_memory_total(m);
    migration_unset_status(m);
    assert_sent(o, "nova_object.data", "{\"id\": 7}");
}

static void setting_marks_a_field_changed_also_to_the_same_value(void **state)
{
    CLEANUP(ovo_freep) struct ovo *o = object("Migration", "1.7", "{\"status\": \"queued\"}");
    struct migration *m = migration_of(o);

    (void)state;
    assert_false(ovo_has_changes(o));
    migration_set_status(m, "queued");
    assert_true(migration_changed_status(m));
    assert_sent(o, "nova_object.changes", "[\"status\"]");
    ovo_reset_changes(o, /* is_recursive= */ false);
    assert_false(migration_changed_status(m));
    migration_set_hidden(m, true);
    migration_set_memory_total(m, INT64_MAX);
    assert_sent(o, "nova_object.changes", "[\"hidden\", \"memory_total\"]");
}

static void a_read_only_field_takes_the_same_value_without_a_change(void **state)
{
    CLEANUP(compute_node_freep) struct compute_node *n = compute_node_new();

    (void)state;
    compute_node_set_uuid(n, "u");
    assert_true(compute_node_changed_uuid(n));
    ovo_reset_changes(compute_node_ovo(n), false);
    compute_node_set_uuid(n, "u");
    assert_false(compute_node_changed_uuid(n));
}

static void a_value_may_be_set_to_itself(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new();
    CLEANUP(instance_numa_cell_freep) struct instance_numa_cell *cell = instance_numa_cell_new();
    struct cpuset set = {0};

    (void)state;
    instance_set_host(inst, "host");
    instance_set_host(inst, instance_host(inst));
    assert_string_equal(instance_host(inst), "host");
    cpuset_add(&set, 3);
    instance_numa_cell_set_cpuset(cell, &set);
    cpuset_fini(&set);
    instance_numa_cell_set_cpuset(cell, instance_numa_cell_cpuset(cell));
    assert_true(cpuset_has(instance_numa_cell_cpuset(cell), 3));
}

static void dates_lose_their_fraction_and_become_utc(void **state)
{
    CLEANUP(ovo_freep)
    struct ovo *o = object("Service", "1.22",
                           "{\"created_at\": \"2026-01-31T23:59:59.987654+00:00\","
                           " \"updated_at\": \"2026-02-01 01:30:00+02:00\","
                           " \"last_seen_up\": \"2026-01-31T23:59:59\", \"deleted_at\": null}");
    struct service *s = service_of(o);

    (void)state;
    assert_string_equal(service_created_at(s), "2026-01-31T23:59:59Z");
    assert_string_equal(service_updated_at(s), "2026-01-31T23:30:00Z");
    assert_string_equal(service_last_seen_up(s), "2026-01-31T23:59:59Z");
    service_set_last_seen_up(s, "2026-03-01T00:00:00.5Z");
    assert_string_equal(service_last_seen_up(s), "2026-03-01T00:00:00Z");
}

static void entries_of_a_map_count_when_they_differ(void **state)
{
    CLEANUP(ovo_freep)
    struct ovo *o = object("Instance", "2.7", "{\"system_metadata\": {\"a\": \"1\", \"b\": null}}");
    struct instance *inst = instance_of(o);
    const char *key, *value;

    (void)state;
    assert_int_equal(instance_system_metadata_n(inst), 2);
    assert_string_equal(instance_system_metadata_get(inst, "a"), "1");
    assert_null(instance_system_metadata_get(inst, "b"));
    assert_null(instance_system_metadata_get(inst, "c"));
    instance_system_metadata_put(inst, "a", "1");
    instance_system_metadata_put(inst, "b", NULL);
    instance_system_metadata_del(inst, "c");
    assert_false(instance_changed_system_metadata(inst));
    instance_system_metadata_put(inst, "a", "2");
    assert_true(instance_changed_system_metadata(inst));
    instance_system_metadata_del(inst, "a");
    instance_system_metadata_at(inst, 0, &key, &value);
    assert_string_equal(key, "b");
    instance_metadata_put(inst, "new", "x");
    assert_sent(o, "nova_object.changes", "[\"system_metadata\", \"metadata\"]");
    instance_clear_metadata(inst);
    assert_int_equal(instance_n_metadata(inst), 0);
}

static void values_of_maps_that_nova_did_not_convert_become_text(void **state)
{
    CLEANUP(ovo_freep)
    struct ovo *o = object("ComputeNode", "1.19",
                           "{\"stats\": {\"io_workload\": 3, \"on\": true, \"n\": null}}");
    struct compute_node *n = compute_node_of(o);

    (void)state;
    assert_string_equal(compute_node_stats_get(n, "io_workload"), "3");
    assert_string_equal(compute_node_stats_get(n, "on"), "True");
    assert_null(compute_node_stats_get(n, "n"));
    compute_node_set_null_stats(n);
    assert_int_equal(compute_node_stats_n(n), 0);
    assert_null(compute_node_stats_get(n, "on"));
    compute_node_stats_put(n, "k", "v");
    assert_int_equal(compute_node_stats_n(n), 1);
}

static void a_nested_change_is_a_change_of_its_parent_but_not_in_a_plain_list(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new();
    CLEANUP(instance_list_freep) struct instance_list *list = instance_list_new();
    CLEANUP(numa_topology_freep) struct numa_topology *topology = numa_topology_new();
    struct numa_cell *cell = numa_cell_new();

    (void)state;
    instance_set_info_cache(inst, instance_info_cache_new());
    ovo_reset_changes(instance_ovo(inst), /* is_recursive= */ true);
    assert_false(instance_changed_info_cache(inst));
    instance_info_cache_set_network_info(instance_info_cache(inst), "[]");
    assert_true(instance_changed_info_cache(inst));
    assert_sent(instance_ovo(inst), "nova_object.changes", "[\"info_cache\"]");

    instance_list_add(list, TAKE(inst));
    ovo_reset_changes(instance_list_ovo(list), /* is_recursive= */ false);
    assert_true(instance_list_changed_objects(list));
    ovo_reset_changes(instance_list_ovo(list), /* is_recursive= */ true);
    assert_false(ovo_has_changes(instance_list_ovo(list)));

    numa_topology_cells_add(topology, cell);
    ovo_reset_changes(numa_topology_ovo(topology), false);
    numa_cell_set_memory(cell, 5);
    assert_false(numa_topology_changed_cells(topology));
}

static void lists_give_their_objects_away(void **state)
{
    CLEANUP(service_list_freep) struct service_list *list = service_list_new();
    CLEANUP(service_freep) struct service *taken = NULL;

    (void)state;
    assert_true(service_list_has_objects(list));
    assert_int_equal(service_list_n(list), 0);
    assert_false(ovo_has_changes(service_list_ovo(list)));
    for (int i = 0; i < 3; i++) {
        struct service *s = service_new();

        service_set_id(s, i);
        service_list_add(list, s);
    }
    taken = service_list_take(list, 1);
    assert_int_equal(service_id(taken), 1);
    assert_int_equal(service_list_n(list), 2);
    assert_int_equal(service_id(service_list_at(list, 1)), 2);
    service_list_clear_objects(list);
    assert_int_equal(service_list_n(list), 0);
}

static void lists_of_strings_and_sets_are_told_apart(void **state)
{
    CLEANUP(network_metadata_freep) struct network_metadata *meta = network_metadata_new();
    CLEANUP(trusted_certs_freep) struct trusted_certs *certs = trusted_certs_new();

    (void)state;
    for (int i = 0; i < 2; i++) {
        network_metadata_physnets_add(meta, "physnet1");
        trusted_certs_ids_add(certs, "id");
    }
    assert_int_equal(network_metadata_n_physnets(meta), 1);
    assert_int_equal(trusted_certs_n_ids(certs), 2);
    assert_true(trusted_certs_ids_contains(certs, "id"));
    assert_false(trusted_certs_ids_contains(certs, "i"));
    assert_string_equal(trusted_certs_ids_at(certs, 1), "id");
}

static void an_older_version_is_kept_and_gets_no_later_fields(void **state)
{
    CLEANUP(ovo_freep) struct ovo *o = object("Instance", "2.5", "{\"host\": \"h\"}");
    CLEANUP(freep) char *version = ovo_version_text(o);

    (void)state;
    assert_string_equal(version, "2.5");
    instance_set_compute_id(instance_of(o), 4);
    instance_set_node(instance_of(o), "n");
    assert_sent(o, "nova_object.data", "{\"host\": \"h\", \"node\": \"n\"}");
    assert_sent(o, "nova_object.changes", "[\"node\"]");
    assert_sent(o, "nova_object.version", "\"2.5\"");
    ovo_set_minor(o, 8);
    assert_sent(o, "nova_object.data", "{\"host\": \"h\", \"node\": \"n\", \"compute_id\": 4}");
}

static void a_newer_minor_is_read_and_sent_on_with_what_is_unknown(void **state)
{
    CLEANUP(ovo_freep)
    struct ovo *o = object("Instance", "2.99",
                           "{\"host\": \"h\", \"colour\": {\"red\": [1]}, \"shape\": null}");
    CLEANUP(ovo_freep) struct ovo *copy = ovo_dup(o);
    CLEANUP(freep) char *text = ovo_text(o);

    (void)state;
    assert_string_equal(instance_host(instance_of(o)), "h");
    assert_sent(copy, "nova_object.data",
                "{\"host\": \"h\", \"colour\": {\"red\": [1]}, \"shape\": null}");
    assert_sent(copy, "nova_object.version", "\"2.99\"");
    assert_null(strstr(text, "red"));
}

static void a_third_part_of_a_version_is_ignored(void **state)
{
    CLEANUP(ovo_freep) struct ovo *o = object("Instance", "2.7.1", "{}");

    (void)state;
    assert_int_equal(ovo_minor(o), 7);
}

static void the_release_decides_what_new_objects_and_manifests_are(void **state)
{
    CLEANUP(instance_freep) struct instance *old = instance_new(), *new = NULL;
    CLEANUP(jv_putp) struct json_object *zed = ovo_manifest(&service_class), *later = NULL;
    CLEANUP(jv_putp)
    struct json_object *want =
        parse("{\"Service\": \"1.22\", \"ComputeNode\": \"1.19\", \"HVSpec\": \"1.2\","
              " \"PciDevicePool\": \"1.1\", \"PciDevicePoolList\": \"1.1\"}");

    (void)state;
    assert_true(is_same(zed, want));
    assert_int_equal(ovo_minor(instance_ovo(old)), 7);
    ovo_set_release(OVO_2025_2);
    new = instance_new();
    later = ovo_manifest(&libvirt_live_migrate_data_class);
    ovo_set_release(OVO_ZED);
    assert_int_equal(ovo_minor(instance_ovo(new)), 8);
    assert_string_equal(json_object_get_string(jv_get(later, "LibvirtLiveMigrateData")), "1.13");
}

static void subclasses_stand_where_their_parent_may(void **state)
{
    CLEANUP(ovo_freep)
    struct ovo *o = object(
        "InstanceDeviceMetadata", "1.0",
        "{\"devices\": [{\"nova_object.name\": \"DiskMetadata\", \"nova_object.namespace\": "
        "\"nova\","
        " \"nova_object.version\": \"1.0\", \"nova_object.data\": {\"serial\": \"s\", \"bus\":"
        " {\"nova_object.name\": \"PCIDeviceBus\", \"nova_object.namespace\": \"nova\","
        " \"nova_object.version\": \"1.0\", \"nova_object.data\": {\"address\": "
        "\"0000:00:1f.0\"}}}}]}");
    struct device_metadata *device =
        instance_device_metadata_devices_at(instance_device_metadata_of(o), 0);
    struct disk_metadata *disk = disk_metadata_of(device_metadata_ovo(device));
    struct pci_device_bus *bus = pci_device_bus_of(device_bus_ovo(disk_metadata_bus(disk)));

    (void)state;
    assert_ptr_equal(ovo_class_of(disk_metadata_ovo(disk)), &disk_metadata_class);
    assert_string_equal(pci_device_bus_address(bus), "0000:00:1f.0");
    assert_false(ovo_class_is(&device_bus_class, &pci_device_bus_class));
}

static void updates_are_merged_and_changes_are_what_conductor_says(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = golden_instance();
    CLEANUP(jv_putp)
    struct json_object *updates =
        parse("{\"task_state\": null, \"updated_at\": \"2026-01-01T00:00:00Z\","
              " \"vm_state\": \"active\", \"later_field\": 1, \"metadata\": {\"k\": \"v\"},"
              " \"obj_what_changed\": [\"vm_state\"]}");

    (void)state;
    ovo_reset_changes(instance_ovo(inst), /* is_recursive= */ true);
    instance_set_task_state(inst, "spawning");
    instance_set_host(inst, "h2");
    ok(ovo_merge_updates(instance_ovo(inst), updates));
    assert_null(instance_task_state(inst));
    assert_string_equal(instance_host(inst), "h2");
    assert_string_equal(instance_metadata_get(inst, "k"), "v");
    assert_sent(instance_ovo(inst), "nova_object.changes", "[\"vm_state\"]");
}

static void bad_updates_leave_everything_as_it_was(void **state)
{
    static const char *const bad[] = {
        "[]",
        "null",
        "{\"vm_state\": \"x\", \"memory_mb\": \"much\"}",
        "{\"vm_state\": \"x\", \"obj_what_changed\": 4}",
        "{\"vm_state\": \"x\", \"obj_what_changed\": [4]}",
        "{\"vm_state\": \"x\", \"uuid\": null}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(instance_freep) struct instance *inst = golden_instance();
        CLEANUP(instance_freep) struct instance *before = NULL;
        CLEANUP(jv_putp) struct json_object *updates = parse(bad[i]);

        instance_set_task_state(inst, "spawning");
        before = instance_dup(inst);
        fails(ovo_merge_updates(instance_ovo(inst), updates), ERR_PARSE, "Instance");
        assert_true(ovo_is_equal(instance_ovo(inst), instance_ovo(before), NULL));
        assert_true(instance_changed_task_state(inst));
    }
}

static void saving_sends_no_objects_that_have_not_changed(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = golden_instance();
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct json_object *data;

    (void)state;
    ovo_reset_changes(instance_ovo(inst), /* is_recursive= */ true);
    if (!instance_has_pci_requests(inst)) {
        instance_set_pci_requests(inst, instance_pci_requests_new());
        ovo_reset_changes(instance_ovo(inst), true);
    }
    instance_set_task_state(inst, NULL);
    instance_info_cache_set_network_info(instance_info_cache(inst), "[]");
    json = ovo_to_json_for_save(instance_ovo(inst));
    data = jv_get(json, "nova_object.data");
    assert_string_equal(json_object_get_string(jv_get(data, "uuid")), instance_uuid(inst));
    assert_true(json_object_object_get_ex(data, "task_state", NULL));
    assert_false(json_object_object_get_ex(data, "pci_requests", NULL));
    assert_false(json_object_object_get_ex(data, "flavor", NULL));
    assert_true(ovo_is_wire_form(jv_get(data, "info_cache")));
}

static void the_flavors_are_saved_together(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new();
    CLEANUP(jv_putp) struct json_object *json = NULL;
    struct json_object *data;

    (void)state;
    instance_set_flavor(inst, flavor_new());
    instance_set_old_flavor(inst, NULL);
    ovo_reset_changes(instance_ovo(inst), true);
    instance_set_new_flavor(inst, flavor_new());
    json = ovo_to_json_for_save(instance_ovo(inst));
    data = jv_get(json, "nova_object.data");
    assert_non_null(jv_get(data, "flavor"));
    assert_true(json_object_object_get_ex(data, "old_flavor", NULL));
}

static void loading_fills_only_what_is_missing(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new(), *fresh = golden_instance();

    (void)state;
    instance_set_host(inst, "mine");
    ovo_load(instance_ovo(inst), instance_ovo(fresh));
    assert_string_equal(instance_host(inst), "mine");
    assert_string_equal(instance_uuid(inst), instance_uuid(fresh));
    assert_false(instance_changed_uuid(inst));
}

static void objects_differ_in_any_field_that_is_not_ignored(void **state)
{
    CLEANUP(ovo_freep) struct ovo *a = NULL, *b = NULL, *other = ovo_new(&flavor_class);
    CLEANUP(jv_putp) struct json_object *json = golden("compute_node");
    struct compute_node *n;

    (void)state;
    ok(ovo_from_json(json, &compute_node_class, &a));
    b = ovo_dup(a);
    n = compute_node_of(b);
    assert_false(ovo_is_equal(a, other, NULL));
    compute_node_set_updated_at(n, "2000-01-01T00:00:00Z");
    assert_false(ovo_is_equal(a, b, NULL));
    assert_true(ovo_is_equal(a, b, (const char *const[]){"updated_at", NULL}));
    compute_node_set_vcpus_used(n, compute_node_vcpus_used(n) + 1);
    assert_false(ovo_is_equal(a, b, (const char *const[]){"updated_at", NULL}));
    compute_node_set_vcpus_used(n, compute_node_vcpus_used(n) - 1);
    compute_node_stats_put(n, "new", "1");
    assert_false(ovo_is_equal(a, b, (const char *const[]){"updated_at", NULL}));
    compute_node_stats_del(n, "new");
    hv_spec_set_arch(compute_node_supported_hv_specs_at(n, 0), "other");
    assert_false(ovo_is_equal(a, b, (const char *const[]){"updated_at", NULL}));
}

static void secrets_are_not_printed(void **state)
{
    CLEANUP(block_device_mapping_freep)
    struct block_device_mapping *bdm = block_device_mapping_new();
    CLEANUP(freep) char *text = NULL;

    (void)state;
    block_device_mapping_set_connection_info(bdm, "{\"auth_password\": \"hunter2\"}");
    text = ovo_text(block_device_mapping_ovo(bdm));
    assert_null(strstr(text, "hunter2"));
    assert_non_null(strstr(text, "***"));
    assert_sent(block_device_mapping_ovo(bdm), "nova_object.data",
                "{\"connection_info\": \"{\\\"auth_password\\\": \\\"hunter2\\\"}\"}");
}

static void values_of_the_wrong_type_are_refused_by_name(void **state)
{
    static const struct {
        const char *name, *version, *data, *message;
    } bad[] = {
        {"Instance", "2.7", "{\"host\": 5}", "Instance.host: int, not a string"},
        {"Instance", "2.7", "{\"host\": \"a\\u0000b\"}", "Instance.host"},
        {"Instance", "2.7", "{\"uuid\": null}", "Instance.uuid: null"},
        {"Instance", "2.7", "{\"memory_mb\": \"5\"}", "Instance.memory_mb: string"},
        {"Instance", "2.7", "{\"memory_mb\": 5.5}", "Instance.memory_mb: double"},
        {"Instance", "2.7", "{\"memory_mb\": 9223372036854775808}", "Instance.memory_mb"},
        {"Instance", "2.7", "{\"locked\": 1}", "Instance.locked: int"},
        {"Instance", "2.7", "{\"launched_at\": \"yesterday\"}",
         "Instance.launched_at: 'yesterday'"},
        {"Instance", "2.7", "{\"launched_at\": \"2026-13-01T00:00:00Z\"}", "Instance.launched_at"},
        {"Instance", "2.7", "{\"launched_at\": \"2026-01-01T00:00:00Zzz\"}",
         "Instance.launched_at"},
        {"Instance", "2.7", "{\"access_ip_v4\": \"fd00::1\"}", "not an IPv4 address"},
        {"Instance", "2.7", "{\"access_ip_v6\": \"10.0.0.1\"}", "not an IPv6 address"},
        {"Instance", "2.7", "{\"metadata\": []}", "Instance.metadata: array"},
        {"Instance", "2.7", "{\"metadata\": {\"a\": null}}", "Instance.metadata"},
        {"Instance", "2.7", "{\"metadata\": {\"a\": []}}", "Instance.metadata"},
        {"Instance", "2.7", "{\"flavor\": {}}", "Instance.flavor: Flavor: 'nova_object.name'"},
        {"Instance", "2.7", "{\"flavor\": 3}", "Instance.flavor"},
        {"Instance", "2.7", "[]", "Instance: no data"},
        {"InstanceList", "2.6", "{\"objects\": {}}", "InstanceList.objects: object"},
        {"InstanceList", "2.6", "{\"objects\": [null]}", "InstanceList.objects"},
        {"ComputeNode", "1.19", "{\"host_ip\": \"a-name\"}", "ComputeNode.host_ip: 'a-name'"},
        {"ComputeNode", "1.19", "{\"cpu_allocation_ratio\": \"4\"}",
         "cpu_allocation_ratio: string"},
        {"NUMACell", "1.5", "{\"cpuset\": [1, -1]}", "NUMACell.cpuset"},
        {"NUMACell", "1.5", "{\"cpuset\": \"0-3\"}", "NUMACell.cpuset"},
        {"NUMACell", "1.5", "{\"siblings\": [[0], 1]}",
         "NUMACell.siblings: array, not a list of l"},
        {"TrustedCerts", "1.0", "{\"ids\": [1]}", "TrustedCerts.ids: array, not a list of strings"},
        {"InstanceNUMACell", "1.6", "{\"cpu_pinning_raw\": {\"0\": \"1\"}}", "cpu_pinning_raw"},
        {"Instance", "2", "{}", "'2' is no version"},
        {"Instance", "2.x", "{}", "no version"},
        {"Instance", "2.7.", "{}", "no version"},
        {"Instance", "2.99999999999999", "{}", "no version"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(jv_putp) struct json_object *json = wire(bad[i].name, bad[i].version, bad[i].data);
        struct ovo *o;

        fails(ovo_from_json(json, /* cls= */ NULL, &o), ERR_PARSE, bad[i].message);
    }
}

static void what_is_no_object_is_refused(void **state)
{
    static const char *const bad[] = {
        "null",
        "[]",
        "\"x\"",
        "{}",
        "{\"nova_object.name\": \"Flavor\"}",
        "{\"nova_object.name\": 1, \"nova_object.namespace\": \"nova\","
        " \"nova_object.version\": \"1.2\", \"nova_object.data\": {}}",
        "{\"nova_object.name\": \"Flavor\", \"nova_object.namespace\": \"nova\","
        " \"nova_object.version\": \"1.2\"}",
        "{\"nova_object.name\": \"Flavor\", \"nova_object.namespace\": \"nova\","
        " \"nova_object.version\": \"1.2\", \"nova_object.data\": {}, \"nova_object.changes\": {}}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(jv_putp) struct json_object *json = parse(bad[i]);
        struct flavor *flavor;

        fails(flavor_from_json(json, &flavor), ERR_PARSE, "Flavor");
    }
}

static void other_classes_and_majors_are_refused_as_nova_does(void **state)
{
    CLEANUP(jv_putp) struct json_object *unknown = wire("Teapot", "1.0", "{}");
    CLEANUP(jv_putp) struct json_object *major = wire("Instance", "3.0", "{}");
    CLEANUP(jv_putp) struct json_object *wrong = wire("Migration", "1.7", "{}");
    CLEANUP(jv_putp) struct json_object *foreign = wire("Flavor", "1.2", "{}");
    CLEANUP(err_freep) struct err *e = NULL;
    struct instance *inst;
    struct ovo *o;

    (void)state;
    fails(ovo_from_json(unknown, NULL, &o), ERR_UNSUPPORTED_OBJECT, "Teapot");
    e = instance_from_json(major, &inst);
    assert_true(err_is(e, ERR_INCOMPATIBLE_OBJECT_VERSION));
    assert_string_equal(err_get(e, "supported"), "2.7");
    fails(instance_from_json(wrong, &inst), ERR_PARSE, "of class Migration, not Instance");
    jv_add_str(foreign, "nova_object.namespace", "os_vif");
    fails(ovo_from_json(foreign, NULL, &o), ERR_UNSUPPORTED_OBJECT, "os_vif.Flavor");
}

static bool reaches(const struct ovo_class *from, const struct ovo_class *to)
{
    for (size_t i = 0; i < from->n_fields; i++) {
        for (size_t k = 0; from->fields[i].nested && ovo_class_at(k); k++) {
            const struct ovo_class *cls = ovo_class_at(k);

            if (ovo_class_is(cls, from->fields[i].nested) && (cls == to || reaches(cls, to))) {
                return true;
            }
        }
    }
    return false;
}

static void no_class_contains_itself(void **state)
{
    (void)state;
    for (size_t i = 0; ovo_class_at(i); i++) {
        if (reaches(ovo_class_at(i), ovo_class_at(i))) {
            fail_msg("%s contains itself: reading has no end", ovo_class_at(i)->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_objects_come_back_as_they_were),
        cmocka_unit_test(unset_null_and_a_value_are_three_things),
        cmocka_unit_test(setting_marks_a_field_changed_also_to_the_same_value),
        cmocka_unit_test(a_read_only_field_takes_the_same_value_without_a_change),
        cmocka_unit_test(a_value_may_be_set_to_itself),
        cmocka_unit_test(dates_lose_their_fraction_and_become_utc),
        cmocka_unit_test(entries_of_a_map_count_when_they_differ),
        cmocka_unit_test(values_of_maps_that_nova_did_not_convert_become_text),
        cmocka_unit_test(a_nested_change_is_a_change_of_its_parent_but_not_in_a_plain_list),
        cmocka_unit_test(lists_give_their_objects_away),
        cmocka_unit_test(lists_of_strings_and_sets_are_told_apart),
        cmocka_unit_test(an_older_version_is_kept_and_gets_no_later_fields),
        cmocka_unit_test(a_newer_minor_is_read_and_sent_on_with_what_is_unknown),
        cmocka_unit_test(a_third_part_of_a_version_is_ignored),
        cmocka_unit_test(the_release_decides_what_new_objects_and_manifests_are),
        cmocka_unit_test(subclasses_stand_where_their_parent_may),
        cmocka_unit_test(updates_are_merged_and_changes_are_what_conductor_says),
        cmocka_unit_test(bad_updates_leave_everything_as_it_was),
        cmocka_unit_test(saving_sends_no_objects_that_have_not_changed),
        cmocka_unit_test(the_flavors_are_saved_together),
        cmocka_unit_test(loading_fills_only_what_is_missing),
        cmocka_unit_test(objects_differ_in_any_field_that_is_not_ignored),
        cmocka_unit_test(secrets_are_not_printed),
        cmocka_unit_test(values_of_the_wrong_type_are_refused_by_name),
        cmocka_unit_test(what_is_no_object_is_refused),
        cmocka_unit_test(other_classes_and_majors_are_refused_as_nova_does),
        cmocka_unit_test(no_class_contains_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

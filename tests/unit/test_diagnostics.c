/* link: driver_compute */
#include "base/clock.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

static const char xml[] =
    "<domain><uuid>" UUID "</uuid><devices>"
    "<disk type='file' device='disk'><target dev='vda'/></disk>"
    "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
    "<interface type='ethernet'><mac address='FA:16:3e:00:00:01'/><target dev='tap1'/></interface>"
    "<interface type='ethernet'><mac address='fa:16:3e:00:00:02'/><target dev='tap2'/></interface>"
    "<interface type='hostdev'><mac address='fa:16:3e:00:00:03'/></interface>"
    "</devices></domain>";

static struct {
    struct conf conf;
    int64_t power; /* -1: no such guest. */
    bool is_mute;  /* libvirt has no statistics. */
    bool is_gone;  /* libvirt does not answer at all. */
} world;

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
}

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    assert_non_null(node);
    if (world.power < 0) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = world.power;
    return NULL;
}

const char *lifecycle_power_name(int64_t power)
{
    return power == POWER_RUNNING ? "running" : power == POWER_SHUTDOWN ? "shutdown" : "pending";
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    (void)c;
    (void)ctx;
    for (; *attrs; attrs++) {
        assert_true(
            ovo_has(instance_ovo(inst), (unsigned)ovo_class_field(&instance_class, *attrs)));
    }
    return NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *lv, const char *uuid, struct lv_domain **ret)
{
    (void)lv;
    assert_string_equal(uuid, UUID);
    *ret = NULL;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *domain)
{
    assert_null(domain);
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *domain, bool is_migratable, char **ret)
{
    assert_null(domain);
    assert_false(is_migratable);
    *ret = str_dup(xml);
    return NULL;
}

static struct err *statistics(void)
{
    return world.is_gone   ? err_new(ERR_HYPERVISOR_UNAVAILABLE, NULL)
           : world.is_mute ? err_msg(ERR_LIBVIRT, "not supported")
                           : NULL;
}

struct err *lv_memory_stats(struct lv_domain *domain, uint64_t *ret_max_kib, uint64_t *ret_used_kib)
{
    assert_null(domain);
    *ret_max_kib = 5u << 20;
    *ret_used_kib = (3u << 20) + 1;
    return NULL;
}

struct err *lv_memory_details(struct lv_domain *domain, struct lv_memory_detail **ret,
                              size_t *ret_n)
{
    assert_null(domain);
    TRY(statistics());
    *ret = NEW_ARRAY(struct lv_memory_detail, 2);
    (*ret)[0] = (struct lv_memory_detail){"actual", 100};
    (*ret)[1] = (struct lv_memory_detail){"rss", 50};
    *ret_n = 2;
    return NULL;
}

struct err *lv_vcpu_times(struct lv_domain *domain, uint64_t **ret, size_t *ret_n)
{
    assert_null(domain);
    TRY(statistics());
    *ret = NEW_ARRAY(uint64_t, 2);
    (*ret)[0] = 111;
    (*ret)[1] = 222;
    *ret_n = 2;
    return NULL;
}

struct err *lv_block_stats(struct lv_domain *domain, const char *target, struct lv_block_stats *ret)
{
    assert_null(domain);
    TRY(statistics());
    if (str_eq(target, "sda")) {
        return err_msg(ERR_LIBVIRT, "no medium");
    }
    assert_string_equal(target, "vda");
    *ret = (struct lv_block_stats){1, 2, 3, 4, -1};
    return NULL;
}

struct err *lv_interface_stats(struct lv_domain *domain, const char *device,
                               struct lv_interface_stats *ret)
{
    assert_null(domain);
    TRY(statistics());
    if (str_eq(device, "tap2")) {
        return err_msg(ERR_LIBVIRT, "no device");
    }
    assert_string_equal(device, "tap1");
    *ret = (struct lv_interface_stats){1, 2, 3, 4, 5, 6, 7, 8};
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    world.power = POWER_RUNNING;
    world.conf.libvirt.virt_type = "kvm";
    return 0;
}

static struct node node;

static struct instance *server(const char *launched_at)
{
    struct instance *i = instance_new();

    instance_set_uuid(i, UUID);
    instance_set_power_state(i, POWER_SHUTDOWN);
    instance_set_config_drive(i, "True");
    instance_set_launched_at(i, launched_at);
    instance_clear_system_metadata(i);
    return i;
}

static struct err *ask(struct json_object **ret)
{
    CLEANUP(instance_freep) struct instance *inst = server(NULL);

    return compute_get_diagnostics(&node, NULL, &(struct args_get_diagnostics){.instance = inst},
                                   ret);
}

static struct err *ask_object(const char *launched_at, struct json_object **ret)
{
    CLEANUP(instance_freep) struct instance *inst = server(launched_at);

    return compute_get_instance_diagnostics(
        &node, NULL, &(struct args_get_instance_diagnostics){.instance = inst}, ret);
}

static void the_old_form_is_a_dictionary_of_numbers(void **state)
{
    CLEANUP(jv_putp) struct json_object *doc = NULL;

    (void)state;
    assert_null(ask(&doc));
    CLEANUP(freep) char *text = jv_text(doc);

    assert_string_equal(text, "{\"cpu0_time\":111,\"cpu1_time\":222,\"vda_read_req\":1,"
                              "\"vda_read\":2,\"vda_write_req\":3,\"vda_write\":4,"
                              "\"vda_errors\":-1,\"tap1_rx\":1,\"tap1_rx_packets\":2,"
                              "\"tap1_rx_errors\":3,\"tap1_rx_drop\":4,\"tap1_tx\":5,"
                              "\"tap1_tx_packets\":6,\"tap1_tx_errors\":7,\"tap1_tx_drop\":8,"
                              "\"memory\":5242880,\"memory-actual\":100,\"memory-rss\":50}");
}

static void what_libvirt_does_not_say_is_left_out(void **state)
{
    CLEANUP(jv_putp) struct json_object *doc = NULL;
    CLEANUP(jv_putp) struct json_object *object = NULL;

    (void)state;
    world.is_mute = true;
    assert_null(ask(&doc));
    CLEANUP(freep) char *text = jv_text(doc);

    assert_string_equal(text, "{\"memory\":5242880}");
    assert_null(ask_object(NULL, &object));
    struct json_object *data = jv_get(object, "nova_object.data");

    assert_int_equal(json_object_get_int(jv_get(data, "num_cpus")), 0);
    assert_int_equal(json_object_get_int(jv_get(data, "num_disks")), 0);
    assert_int_equal(json_object_get_int(jv_get(data, "num_nics")), 1); /* Without a device. */
}

/* An object's value at the path "list.index.field". */
static struct json_object *at(struct json_object *data, const char *list, size_t i,
                              const char *field)
{
    return jv_get(jv_get(jv_at(jv_get(data, list), i), "nova_object.data"), field);
}

static void assert_nics(struct json_object *data)
{
    static const char *const macs[] = {"fa:16:3e:00:00:01", "fa:16:3e:00:00:03"};

    assert_int_equal(jv_len(jv_get(data, "nic_details")), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(json_object_get_string(at(data, "nic_details", i, "mac_address")),
                            macs[i]);
    }
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "rx_octets")), 1);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "rx_packets")), 2);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "rx_errors")), 3);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "rx_drop")), 4);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "tx_octets")), 5);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "tx_packets")), 6);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "tx_errors")), 7);
    assert_int_equal(json_object_get_int(at(data, "nic_details", 0, "tx_drop")), 8);
    assert_null(at(data, "nic_details", 0, "rx_rate"));
    assert_null(at(data, "nic_details", 1, "rx_octets"));
}

static void the_object_has_every_device_that_has_numbers(void **state)
{
    CLEANUP(jv_putp) struct json_object *object = NULL;
    CLEANUP(diagnostics_freep) struct diagnostics *d = NULL;

    (void)state;
    assert_null(ask_object(NULL, &object));
    assert_null(diagnostics_from_json(object, &d)); /* Of the right class and types. */
    struct json_object *data = jv_get(object, "nova_object.data");

    assert_string_equal(diagnostics_state(d), "running");
    assert_string_equal(diagnostics_driver(d), "libvirt");
    assert_string_equal(diagnostics_hypervisor(d), "kvm");
    assert_string_equal(diagnostics_hypervisor_os(d), "linux");
    assert_true(diagnostics_config_drive(d));
    assert_int_equal(diagnostics_num_cpus(d), 2);
    assert_int_equal(diagnostics_num_disks(d), 1);
    assert_int_equal(diagnostics_num_nics(d), 2);
    assert_int_equal(json_object_get_int(at(data, "cpu_details", 1, "id")), 1);
    assert_int_equal(json_object_get_int(at(data, "cpu_details", 1, "time")), 222);
    assert_int_equal(json_object_get_int(at(data, "disk_details", 0, "read_requests")), 1);
    assert_int_equal(json_object_get_int(at(data, "disk_details", 0, "read_bytes")), 2);
    assert_int_equal(json_object_get_int(at(data, "disk_details", 0, "write_requests")), 3);
    assert_int_equal(json_object_get_int(at(data, "disk_details", 0, "write_bytes")), 4);
    assert_int_equal(json_object_get_int(at(data, "disk_details", 0, "errors_count")), -1);
    assert_nics(data);
}

static void memory_is_in_the_unit_that_nova_makes_of_it(void **state)
{
    CLEANUP(jv_putp) struct json_object *object = NULL;

    (void)state;
    assert_null(ask_object(NULL, &object));
    struct json_object *memory =
        jv_get(jv_get(jv_get(object, "nova_object.data"), "memory_details"), "nova_object.data");

    assert_int_equal(json_object_get_int(jv_get(memory, "maximum")), 5);
    assert_int_equal(json_object_get_int(jv_get(memory, "used")), 3);
}

static void uptime_counts_from_the_launch(void **state)
{
    CLEANUP(jv_putp) struct json_object *object = NULL;
    CLEANUP(freep) char *launched_at = clock_iso_of(clock_wall_s() - 1000);
    CLEANUP(freep) char *with_zone = str_printf("%.19sZ", launched_at);

    (void)state;
    assert_null(ask_object(with_zone, &object));
    int64_t uptime = json_object_get_int64(jv_get(jv_get(object, "nova_object.data"), "uptime"));

    assert_in_range(uptime, 1000, 1060);
    CLEANUP(jv_putp) struct json_object *never = NULL;

    assert_null(ask_object(NULL, &never));
    assert_null(jv_get(jv_get(never, "nova_object.data"), "uptime"));
}

static void only_a_guest_that_runs_has_diagnostics(void **state)
{
    static const int64_t powers[] = {POWER_PAUSED, -1};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(powers); i++) {
        CLEANUP(jv_putp) struct json_object *doc = NULL;

        world.power = powers[i];
        CLEANUP(err_freep) struct err *e = ask(&doc);
        CLEANUP(err_freep) struct err *object = ask_object(NULL, &doc);

        assert_true(err_is(e, ERR_INSTANCE_INVALID_STATE));
        assert_string_equal(err_message(e), "Instance " UUID " in power state shutdown. Cannot "
                                            "get_diagnostics while the instance is in this state.");
        assert_true(err_is(object, ERR_INSTANCE_INVALID_STATE));
    }
}

static void a_libvirt_that_is_gone_is_no_answer(void **state)
{
    CLEANUP(jv_putp) struct json_object *doc = NULL;

    (void)state;
    world.is_gone = true;
    CLEANUP(err_freep) struct err *e = ask(&doc);

    assert_true(err_is(e, ERR_HYPERVISOR_UNAVAILABLE));
    assert_null(doc);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(the_old_form_is_a_dictionary_of_numbers),
        TEST(what_libvirt_does_not_say_is_left_out),
        TEST(the_object_has_every_device_that_has_numbers),
        TEST(memory_is_in_the_unit_that_nova_makes_of_it),
        TEST(uptime_counts_from_the_launch),
        TEST(only_a_guest_that_runs_has_diagnostics),
        TEST(a_libvirt_that_is_gone_is_no_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute */
#include "base/fs.h"
#include "base/proc.h"
#include "driver/compute/metadata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"

/* The site, and what neutron says. */
static struct {
    struct conf conf;
    char dir[40];
    char *image;
    const char *ports;
    bool neutron_is_away;
    char asked_ids[64];
} world;

static struct node node;

const struct conf *conf_get(struct conf_holder *holder)
{
    assert_null(holder);
    return &world.conf;
}

void conf_put(const struct conf *conf)
{
    assert_ptr_equal(conf, &world.conf);
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

struct err *neutron_ports_by_device(struct neutron *n, const char *device_id,
                                    const char *project_id_or_null, struct json_object **ret)
{
    (void)n;
    assert_string_equal(device_id, UUID);
    assert_string_equal(project_id_or_null, "p");
    if (world.neutron_is_away) {
        return err_msg(ERR_HTTP, "neutron is away");
    }
    *ret = json_tokener_parse(world.ports);
    return NULL;
}

struct err *neutron_security_groups_by_id(struct neutron *n, const struct strv *ids,
                                          struct json_object **ret)
{
    CLEANUP(freep) char *all = strv_join(ids, ",");

    (void)n;
    strncpy(world.asked_ids, all, sizeof world.asked_ids - 1);
    *ret =
        json_tokener_parse("[{\"id\":\"a\",\"name\":\"default\"},{\"id\":\"b\",\"name\":\"web\"}]");
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    strcpy(world.dir, "/tmp/test_metadata_drive.XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    world.image = str_printf("%s/disk.config", world.dir);
    world.conf.dflt.config_drive_format = "iso9660";
    world.conf.dflt.mkisofs_cmd = "genisoimage";
    world.conf.api.config_drive_skip_versions = "1.0";
    world.conf.api.dhcp_domain = "novalocal";
    strv_add(&world.conf.api.vendordata_providers, "StaticJSON");
    world.ports = "[{\"security_groups\":[\"a\",\"b\"]},{\"security_groups\":[\"b\"]}]";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    strv_fini(&world.conf.api.vendordata_providers);
    free(world.image);
    assert_null(fs_remove_all(&fs_real, world.dir));
    return 0;
}

static struct instance *server(void)
{
    struct instance *i = instance_new();
    struct flavor *f = flavor_new();
    struct ec2_ids *ids = ec2_ids_new();

    flavor_set_name(f, "m1.small");
    ec2_ids_set_instance_id(ids, "i-1");
    ec2_ids_set_ami_id(ids, NULL);
    ec2_ids_set_kernel_id(ids, NULL);
    ec2_ids_set_ramdisk_id(ids, NULL);
    instance_set_uuid(i, UUID);
    instance_set_display_name(i, "name");
    instance_set_hostname(i, "host");
    instance_set_launch_index(i, 0);
    instance_set_availability_zone(i, "nova");
    instance_set_project_id(i, "p");
    instance_set_reservation_id(i, "r");
    instance_set_key_name(i, NULL);
    instance_set_user_data(i, NULL);
    instance_set_root_device_name(i, NULL);
    instance_clear_metadata(i);
    instance_clear_system_metadata(i);
    instance_set_flavor(i, f);
    instance_set_ec2_ids(i, ids);
    instance_set_keypairs(i, key_pair_list_new());
    instance_set_device_metadata(i, NULL);
    instance_set_numa_topology(i, NULL);
    return i;
}

static struct err *make(void)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    return metadata_make_drive(&node, NULL, inst, &(struct metadata_input){.admin_pass = "pass"},
                               world.image);
}

/* A document of the drive. */
static struct json_object *document(const char *path)
{
    CLEANUP(freep) char *text = NULL;
    struct json_object *doc = NULL;

    assert_null(proc_run(
        (const char *const[]){"isoinfo", "-J", "-i", world.image, "-x", path, NULL}, 60000, &text));
    assert_null(jv_parse(text, strlen(text), &doc));
    return doc;
}

static void the_drive_says_what_is_known_of_the_server(void **state)
{
    CLEANUP(freep) char *vendor = str_printf("%s/vendor.json", world.dir);

    (void)state;
    assert_null(fs_write_atomic(&fs_real, vendor, "{\"v\": 1}", 8, 0600));
    world.conf.api.vendordata_jsonfile_path = vendor;
    assert_null(make());
    CLEANUP(jv_putp) struct json_object *meta = document("/openstack/latest/meta_data.json");
    CLEANUP(jv_putp) struct json_object *data = document("/openstack/latest/vendor_data.json");
    CLEANUP(jv_putp) struct json_object *ec2 = document("/ec2/latest/meta-data.json");
    CLEANUP(freep) char *data_text = jv_text(data);
    CLEANUP(freep) char *groups = jv_text(jv_get(ec2, "security-groups"));

    assert_string_equal(json_object_get_string(jv_get(meta, "uuid")), UUID);
    assert_string_equal(json_object_get_string(jv_get(meta, "admin_pass")), "pass");
    assert_string_equal(data_text, "{\"v\":1}");
    assert_string_equal(groups, "[\"default\",\"web\",\"web\"]");
    assert_string_equal(world.asked_ids, "a,b");
}

static void what_cannot_be_known_is_an_error_and_makes_no_drive(void **state)
{
    (void)state;
    world.neutron_is_away = true;
    CLEANUP(err_freep) struct err *away = make();

    assert_true(err_is(away, ERR_HTTP));
    world.neutron_is_away = false;
    world.conf.api.vendordata_jsonfile_path = "/nonexistent/vendor.json";
    CLEANUP(err_freep) struct err *absent = make();

    assert_true(err_is(absent, ERR_CONFIG));
    assert_false(fs_exists(&fs_real, world.image));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_drive_says_what_is_known_of_the_server, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_known_is_an_error_and_makes_no_drive, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: base */
#include "base/conf.h"
#include "base/conf_table.h"
#include "base/fs.h"
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What every running service needs. */
#define COMPLETE                                                                                   \
    "[placement]\nauth_type = password\nauth_url = http://k\nusername = p\npassword = s3cret\n"    \
    "[neutron]\nauth_type = password\nauth_url = http://k\nusername = n\npassword = s3cret\n"

static struct conf_holder *from_text(const char *text)
{
    struct conf_holder *h = NULL;
    struct err *e = conf_from_text(text, &h);

    if (e) {
        fail_msg("%s", err_message(e));
    }
    return h;
}

/* A directory of our own with nova.conf in it. */
struct place {
    char dir[32];
    char file[64];
    char log[64];
};

static void put(const struct place *p, const char *text)
{
    assert_null(fs_write_atomic(&fs_real, p->file, text, strlen(text), 0600));
}

static struct place place_new(const char *text)
{
    struct place p = {.dir = "/tmp/test_conf.XXXXXX"};

    assert_non_null(mkdtemp(p.dir));
    snprintf(p.file, sizeof(p.file), "%s/nova.conf", p.dir);
    snprintf(p.log, sizeof(p.log), "%s/log", p.dir);
    put(&p, text);
    return p;
}

static void place_fini(struct place *p)
{
    assert_null(fs_remove_all(&fs_real, p->dir));
}

/* Loads with up to four arguments, of which '@' is the file. */
static struct err *load(const struct place *p, const char *const *args,
                        struct conf_cmdline *cmdline, struct conf_holder **holder)
{
    const char *const *a = args;
    char *argv[8] = {0};
    int argc = 0;
    struct err *e;

    *holder = NULL;
    argv[argc++] = str_dup("novashim");
    for (; *a; a++) {
        argv[argc++] = str_dup(str_eq(*a, "@") ? p->file : *a);
    }
    e = conf_load(argc, argv, cmdline, holder);
    while (argc > 0) {
        free(argv[--argc]);
    }
    return e;
}

static struct err *load_file(const struct place *p, struct conf_holder **holder)
{
    struct conf_cmdline cmdline;

    return load(p, (const char *const[]){"--config-file", "@", NULL}, &cmdline, holder);
}

/* The problems that loading the text ends with. */
static char *problems_of(const char *text)
{
    CLEANUP(place_fini) struct place p = place_new(text);
    CLEANUP(conf_holder_freep) struct conf_holder *h = NULL;
    CLEANUP(err_freep) struct err *e = load_file(&p, &h);

    return str_dup(e ? err_message(e) : "");
}

static void assert_problem(const char *text, const char *expected)
{
    CLEANUP(freep) char *whole = str_printf("%s%s", COMPLETE, text);
    CLEANUP(freep) char *got = problems_of(whole);

    if (!strstr(got, expected)) {
        fail_msg("'%s' is not in '%s'", expected, got);
    }
}

static void defaults_are_those_of_nova(void **state)
{
    CLEANUP(conf_holder_freep) struct conf_holder *h = from_text("");
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);
    char host[256];

    (void)state;
    gethostname(host, sizeof(host));
    assert_string_equal(c->dflt.host, host);
    assert_string_equal(c->dflt.instances_path, "/var/lib/nova/instances");
    assert_string_equal(c->dflt.my_block_storage_ip, c->dflt.my_ip);
    assert_int_equal(c->libvirt.live_migration_completion_timeout, 800);
    assert_false(conf_is_set(c->dflt.cpu_allocation_ratio));
    assert_true(conf_is_set(c->dflt.initial_cpu_allocation_ratio));
    assert_false(conf_is_set_int(c->libvirt.max_queues));
    assert_null(c->libvirt.cpu_mode);
    assert_int_equal(c->neutron.client.valid_interfaces.n, 2);
    assert_string_equal(c->placement.client.service_type, "placement");
    assert_string_equal(c->novashim.journal_path, "/var/lib/nova/novashim");
}

static void values_have_their_types(void **state)
{
    CLEANUP(conf_holder_freep)
    struct conf_holder *h =
        from_text("[DEFAULT]\ncpu_allocation_ratio = 2.5\nforce_raw_images = no\n"
                  "reserved_huge_pages = node:0,size:2048,count:64\n"
                  "[libvirt]\nmax_queues = 8\ncpu_models = a, b\n"
                  "[pci]\ndevice_spec = {\n \"a\": 1}\ndevice_spec = x\n");
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    (void)state;
    assert_true(c->dflt.cpu_allocation_ratio > 2.4 && c->dflt.cpu_allocation_ratio < 2.6);
    assert_false(c->dflt.force_raw_images);
    assert_int_equal(c->dflt.reserved_huge_pages.n, 1);
    assert_string_equal(c->dflt.reserved_huge_pages.items[0].keys.items[1], "size");
    assert_string_equal(c->dflt.reserved_huge_pages.items[0].values.items[1], "2048");
    assert_int_equal(c->libvirt.max_queues, 8);
    assert_string_equal(c->libvirt.cpu_models.items[1], "b");
    assert_int_equal(c->pci.device_spec.n, 2);
    assert_string_equal(c->pci.device_spec.items[0], "{\n\"a\": 1}");
}

static void references_are_replaced(void **state)
{
    CLEANUP(conf_holder_freep)
    struct conf_holder *h =
        from_text("[DEFAULT]\nhost = h\nlog_file = ${host}.$$x\n"
                  "[libvirt]\nsnapshots_directory = $instances_path/${vnc.server_listen}\n");
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    (void)state;
    assert_string_equal(c->dflt.log_file, "h.$x");
    assert_string_equal(c->libvirt.snapshots_directory, "/var/lib/nova/instances/127.0.0.1");
}

static void authentication_may_stand_in_another_group(void **state)
{
    CLEANUP(conf_holder_freep)
    struct conf_holder *h =
        from_text("[neutron]\nauth_section = other\nusername = a\n[other]\nusername = b\n");
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    (void)state;
    assert_string_equal(conf_client(c, "neutron")->username, "b");
    assert_null(conf_client(c, "no_such_section"));
}

static void groups_with_names_of_their_own_can_be_read(void **state)
{
    CLEANUP(conf_holder_freep)
    struct conf_holder *h = from_text("[neutron_physnet_Foo]\nnuma_nodes = 0,1\nnuma_nodes = 2\n"
                                      "[neutron_tunnel]\nnuma_nodes = 1\n");
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    (void)state;
    assert_string_equal(conf_dynamic(c, "neutron_physnet_Foo", "numa_nodes"), "2");
    assert_string_equal(conf_dynamic(c, "neutron_tunnel", "numa_nodes"), "1");
    assert_null(conf_dynamic(c, "neutron_physnet_bar", "numa_nodes"));
}

static void everything_wrong_is_told_at_once_with_its_place(void **state)
{
    CLEANUP(freep)
    char *got = problems_of("[DEFAULT]\nreport_interval = soon\nhost = a b\noops\n"
                            "[libvirt]\nlive_migration_downtime = 5\nvirt_type = xen\n");

    (void)state;
    assert_non_null(strstr(got, "nova.conf:4: neither a section nor a comment"));
    assert_non_null(strstr(got, "nova.conf:2: [DEFAULT]report_interval: 'soon' is no whole"));
    assert_non_null(strstr(got, "nova.conf:3: [DEFAULT]host: 'a b' is neither"));
    assert_non_null(strstr(got, "nova.conf:6: [libvirt]live_migration_downtime: 5 is less than"));
    assert_non_null(strstr(got, "nova.conf:7: [libvirt]virt_type: 'xen' is none of: kvm"));
}

static void secrets_are_not_told(void **state)
{
    CLEANUP(freep)
    char *got = problems_of("[neutron]\npassword = s3cr$et\n"
                            "[DEFAULT]\nlog_file = ${neutron.password}\n");

    (void)state;
    assert_non_null(strstr(got, "nova.conf:2: [neutron]password: the value cannot be used"));
    assert_null(strstr(got, "s3cr"));
    assert_null(strstr(got, "$et"));
}

static void contradictions_are_told(void **state)
{
    (void)state;
    assert_problem("[libvirt]\nlive_migration_tunnelled = true\n"
                   "live_migration_with_native_tls = true\n",
                   "nova.conf:12: [libvirt]live_migration_tunnelled: cannot be had with");
    assert_problem("[compute]\ncpu_shared_set = 0-3\ncpu_dedicated_set = 2-5\n",
                   "cpu_dedicated_set: CPUs 2-3 are in cpu_shared_set too");
    assert_problem("[compute]\ncpu_shared_set = 3-0\n", "cpu_shared_set: '3-0' is not a CPU");
    assert_problem("[compute]\ncpu_shared_set = 1,^1\n", "there is no CPU in '1,^1'");
    assert_problem("[DEFAULT]\nvcpu_pin_set = 1\n[compute]\ncpu_dedicated_set = 2\n",
                   "vcpu_pin_set: cannot be had with [compute]cpu_dedicated_set");
    assert_problem("[DEFAULT]\nreserved_host_cpus = 1\n[compute]\ncpu_shared_set = 2\n",
                   "reserved_host_cpus: cannot be had with");
    assert_problem("[libvirt]\ncpu_models = a\n", "cpu_models: needs cpu_mode = custom");
    assert_problem("[libvirt]\ncpu_mode = custom\n", "cpu_mode: custom needs cpu_models");
    assert_problem("[libvirt]\nfile_backed_memory = 1\n", "needs ram_allocation_ratio = 1");
    assert_problem("[libvirt]\nlive_migration_uri = qemu:///\n", "needs one %s for the host");
    assert_problem("[oslo_messaging_rabbit]\nrabbit_quorum_queue = 1\nrabbit_ha_queues = 1\n",
                   "cannot be had with rabbit_ha_queues");
    assert_problem("[DEFAULT]\nreport_interval =\n", "report_interval: there must be a number");
    assert_problem("[DEFAULT]\nstate_path = here\n", "'here' is no absolute path");
    assert_problem("[serial_console]\nenabled = 1\nport_range = 9:9\n", "is no range of ports");
    assert_problem("[DEFAULT]\ncompute_driver = ironic.IronicDriver\n", "only libvirt");
    assert_problem("[cinder]\nauth_type = v3kerberos\n", "'v3kerberos' cannot be had here");
}

static void what_is_missing_is_told(void **state)
{
    CLEANUP(freep) char *nothing = problems_of("");
    CLEANUP(freep)
    char *some = problems_of(COMPLETE "[service_user]\nsend_service_user_token=1\n"
                                      "[cinder]\nauth_type = password\n");

    (void)state;
    assert_non_null(strstr(nothing, "[placement]auth_type: is missing"));
    assert_non_null(strstr(nothing, "[neutron]auth_type: is missing"));
    assert_non_null(strstr(some, "[service_user]auth_type: is missing"));
    assert_non_null(strstr(some, "[cinder]auth_url: is missing"));
    assert_non_null(strstr(some, "[cinder]username: is missing"));
    assert_null(strstr(some, "[neutron]"));
}

static void a_complete_file_is_good(void **state)
{
    CLEANUP(freep) char *got = problems_of(COMPLETE);

    (void)state;
    assert_string_equal(got, "");
}

static void a_file_that_cannot_be_read_is_told(void **state)
{
    CLEANUP(place_fini) struct place p = place_new("");
    struct conf_cmdline cmdline;
    struct conf_holder *h;
    CLEANUP(err_freep)
    struct err *missing =
        load(&p, (const char *const[]){"--config-file=/nonexistent/x", NULL}, &cmdline, &h);
    CLEANUP(err_freep)
    struct err *dir = load(&p, (const char *const[]){"--config-file", p.dir, NULL}, &cmdline, &h);
    CLEANUP(err_freep)
    struct err *no_dir =
        load(&p, (const char *const[]){"--config-dir", "/nonexistent", NULL}, &cmdline, &h);

    (void)state;
    assert_non_null(strstr(err_message(missing), "/nonexistent/x: cannot be read"));
    assert_non_null(strstr(err_message(dir), ": cannot be read"));
    assert_non_null(strstr(err_message(no_dir), "/nonexistent: cannot be listed"));
}

static void the_command_line_says_what_to_do(void **state)
{
    CLEANUP(place_fini) struct place p = place_new(COMPLETE);
    CLEANUP(conf_holder_freep) struct conf_holder *h = NULL;
    struct conf_cmdline cmdline;

    (void)state;
    assert_null(load(&p, (const char *const[]){"--version", NULL}, &cmdline, &h));
    assert_int_equal(cmdline.action, CONF_VERSION);
    assert_null(h);
    assert_null(load(&p, (const char *const[]){"-h", "--oops", NULL}, &cmdline, &h));
    assert_int_equal(cmdline.action, CONF_HELP);
    assert_null(load(&p, (const char *const[]){"--check-config", "--config-file", "@", "-d", NULL},
                     &cmdline, &h));
    assert_int_equal(cmdline.action, CONF_CHECK);
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    assert_true(c->dflt.debug);
}

static void a_wrong_command_line_is_told(void **state)
{
    CLEANUP(place_fini) struct place p = place_new(COMPLETE);
    struct conf_cmdline cmdline;
    struct conf_holder *h;
    CLEANUP(err_freep)
    struct err *e = load(&p, (const char *const[]){"--oops", "x", "--debug=1", "--log-file", NULL},
                         &cmdline, &h);

    (void)state;
    assert_non_null(strstr(err_message(e), "command line: unknown option --oops"));
    assert_non_null(strstr(err_message(e), "command line: 'x' is no option"));
    assert_non_null(strstr(err_message(e), "unknown option --debug=... (it takes no value)"));
    assert_non_null(strstr(err_message(e), "command line: --log-file needs a value"));
}

static void a_reload_changes_only_what_may_change(void **state)
{
    CLEANUP(place_fini) struct place p = place_new(COMPLETE "[DEFAULT]\nhost = a\n");
    CLEANUP(conf_holder_freep) struct conf_holder *h = NULL;
    CLEANUP(strv_fini) struct strv changed = {0};
    CLEANUP(strv_fini) struct strv restart = {0};

    (void)state;
    assert_null(load_file(&p, &h));
    CLEANUP(conf_putp) const struct conf *before = conf_get(h);

    put(&p, COMPLETE "[DEFAULT]\nhost = b\ndebug = true\nreserved_huge_pages = a:1\n"
                     "[libvirt]\nlive_migration_bandwidth = 9\ncpu_model_extra_flags = x\n"
                     "[neutron_tunnel]\nnuma_nodes = 0\n");
    assert_null(conf_reload(h, &changed, &restart));
    CLEANUP(conf_putp) const struct conf *after = conf_get(h);

    assert_int_equal(changed.n, 2);
    assert_string_equal(changed.items[0], "[DEFAULT]debug");
    assert_string_equal(changed.items[1], "[libvirt]live_migration_bandwidth");
    assert_int_equal(restart.n, 4);
    assert_string_equal(restart.items[0], "[DEFAULT]host");
    assert_string_equal(after->dflt.host, "a");
    assert_int_equal(after->libvirt.live_migration_bandwidth, 9);
    assert_int_equal(after->libvirt.cpu_model_extra_flags.n, 0);
    assert_null(conf_dynamic(after, "neutron_tunnel", "numa_nodes"));
    assert_int_equal(before->libvirt.live_migration_bandwidth, 0);
}

static void a_bad_reload_changes_nothing(void **state)
{
    CLEANUP(place_fini) struct place p = place_new(COMPLETE "[DEFAULT]\nhost = a\n");
    CLEANUP(conf_holder_freep) struct conf_holder *h = NULL;
    CLEANUP(strv_fini) struct strv changed = {0};
    CLEANUP(strv_fini) struct strv restart = {0};

    (void)state;
    assert_null(load_file(&p, &h));
    put(&p, COMPLETE "[DEFAULT]\ndebug = true\nreport_interval = x\n");
    CLEANUP(err_freep) struct err *e = conf_reload(h, &changed, &restart);
    CLEANUP(conf_putp) const struct conf *c = conf_get(h);

    assert_true(err_is(e, ERR_CONFIG));
    assert_int_equal(changed.n + restart.n, 0);
    assert_false(c->dflt.debug);
}

static void the_report_names_what_has_no_effect(void **state)
{
    CLEANUP(place_fini) struct place p = place_new("");
    CLEANUP(conf_holder_freep)
    struct conf_holder *h =
        from_text("[DEFAULT]\nimage_cache_manager_interval = 5\nuse_json = true\n"
                  "compute_monitors = cpu.virt_driver\nuse_syslog = false\n"
                  "[libvirt]\nlive_migration_bandwith = 1\nnum_aoe_discover_tries = 4\n"
                  "num_iser_scan_tries = 5\n"
                  "[typo]\na = 1\nb = 2\n[api_database]\nconnection = s3cret\n");
    CLEANUP(freep) char *text = NULL;
    size_t len;

    (void)state;
    assert_null(log_open(&(struct log_conf){.file = p.log, .level = LOG_LEVEL_INFO}));
    conf_report(h);
    assert_null(fs_read(&fs_real, p.log, &text, &len));
    assert_non_null(strstr(text, "[DEFAULT]image_cache_manager_interval is an old name of"));
    assert_non_null(strstr(text, "text:3: [DEFAULT]use_json: Ignored: there is one format"));
    assert_non_null(strstr(text, "text:4: [DEFAULT]compute_monitors is not implemented here"));
    assert_non_null(strstr(text, "text:7: [libvirt] has no option live_migration_bandwith"));
    assert_non_null(strstr(text, "[libvirt]num_aoe_discover_tries is not implemented"));
    assert_non_null(strstr(text, "text:11: there is no group [typo]"));
    assert_null(strstr(text, "text:12"));
    assert_null(strstr(text, "num_iser_scan_tries"));
    assert_null(strstr(text, "use_syslog"));
    assert_null(strstr(text, "connection"));
    assert_null(log_open(&(struct log_conf){.level = LOG_LEVEL_INFO}));
}

static void no_option_stands_twice_in_the_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < conf_n_opts; i++) {
        assert_ptr_equal(conf_opt_find(conf_opts[i].group, conf_opts[i].name), &conf_opts[i]);
        assert_non_null(conf_opts[i].help);
    }
    for (size_t i = 0; i < conf_n_others; i++) {
        assert_ptr_equal(conf_opt_find(conf_others[i].group, conf_others[i].name), &conf_others[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_nova),
        cmocka_unit_test(values_have_their_types),
        cmocka_unit_test(references_are_replaced),
        cmocka_unit_test(authentication_may_stand_in_another_group),
        cmocka_unit_test(groups_with_names_of_their_own_can_be_read),
        cmocka_unit_test(everything_wrong_is_told_at_once_with_its_place),
        cmocka_unit_test(secrets_are_not_told),
        cmocka_unit_test(contradictions_are_told),
        cmocka_unit_test(what_is_missing_is_told),
        cmocka_unit_test(a_complete_file_is_good),
        cmocka_unit_test(a_file_that_cannot_be_read_is_told),
        cmocka_unit_test(the_command_line_says_what_to_do),
        cmocka_unit_test(a_wrong_command_line_is_told),
        cmocka_unit_test(a_reload_changes_only_what_may_change),
        cmocka_unit_test(a_bad_reload_changes_nothing),
        cmocka_unit_test(the_report_names_what_has_no_effect),
        cmocka_unit_test(no_option_stands_twice_in_the_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* link: driver_compute */
#include "base/fs.h"
#include "driver/compute/console.h"
#include "driver/compute/handlers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID  "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define TOKEN "b2e19a3c-52a7-4b52-8b0b-2b3d8c1a7f10"

#define GUEST(devices)                                                                             \
    "<domain><uuid>" UUID "</uuid><name>instance-1</name><devices>" devices "</devices></domain>"

/* The guest, the configuration and what conductor is told. */
static struct {
    struct conf conf;
    const char *xml; /* NULL: no such guest. */
    int64_t ttl_s;
    struct console_auth_token *token; /* As it was before it was authorized. */
    bool conductor_is_away;
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

struct err *lv_domain_by_uuid(struct lv_conn *lv, const char *uuid, struct lv_domain **ret)
{
    assert_null(lv);
    assert_string_equal(uuid, UUID);
    if (!world.xml) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
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
    *ret = str_dup(world.xml);
    return NULL;
}

struct err *console_auth_authorize(struct conductor *c, const struct rctx *ctx,
                                   struct console_auth_token *token, int64_t ttl_s)
{
    assert_null(c);
    assert_null(ctx);
    if (world.conductor_is_away) {
        return err_msg(ERR_TIMEOUT, "no answer");
    }
    world.ttl_s = ttl_s;
    world.token = console_auth_token_dup(token);
    console_auth_token_set_id(token, 1);
    console_auth_token_set_token(token, TOKEN);
    return NULL;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    world.conf.consoleauth.token_ttl = 600;
    world.conf.vnc.enabled = true;
    world.conf.vnc.server_proxyclient_address = "10.0.0.7";
    world.conf.vnc.novncproxy_base_url = "http://proxy:6080/vnc_lite.html";
    world.conf.spice.enabled = true;
    world.conf.spice.server_proxyclient_address = "10.0.0.8";
    world.conf.spice.html5proxy_base_url = "http://proxy:6082/spice_auto.html";
    world.conf.serial_console.enabled = true;
    world.conf.serial_console.base_url = "ws://proxy:6083/";
    world.conf.dflt.instances_path = "/nonexistent";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    console_auth_token_freep(&world.token);
    return 0;
}

static struct instance *server(const char *vm_state)
{
    struct instance *i = instance_new();

    instance_set_uuid(i, UUID);
    instance_set_vm_state(i, vm_state);
    return i;
}

static struct node node;

/* ---- Addresses ---- */

typedef struct err *(*open_fn)(struct instance *, const char *type, struct json_object **ret);

#define OPENER(method)                                                                             \
    static struct err *open_##method(struct instance *inst, const char *type,                      \
                                     struct json_object **ret)                                     \
    {                                                                                              \
        return compute_get_##method(                                                               \
            &node, NULL, &(struct args_get_##method){.instance = inst, .console_type = type},      \
            ret);                                                                                  \
    }
OPENER(vnc_console)
OPENER(spice_console)
OPENER(serial_console)
OPENER(mks_console)
OPENER(rdp_console)

static void assert_opens(open_fn open, const char *type, const char *expected)
{
    CLEANUP(instance_freep) struct instance *inst = server("active");
    CLEANUP(jv_putp) struct json_object *info = NULL;

    assert_null(open(inst, type, &info));
    CLEANUP(freep) char *text = jv_text(info);

    assert_string_equal(text, expected);
}

static void assert_refuses(open_fn open, const char *vm_state, const char *type, enum err_kind kind,
                           const char *message)
{
    CLEANUP(instance_freep) struct instance *inst = server(vm_state);
    CLEANUP(jv_putp) struct json_object *info = NULL;
    CLEANUP(err_freep) struct err *e = open(inst, type, &info);

    assert_true(err_is(e, kind));
    assert_string_equal(err_message(e), message);
    assert_null(info);
    assert_null(world.token);
}

static void a_vnc_console_has_its_token_in_the_path_of_novnc(void **state)
{
    (void)state;
    world.xml = GUEST("<graphics type='vnc' port='5901' listen='0.0.0.0'/>");
    assert_opens(open_vnc_console, "novnc",
                 "{\"host\":\"10.0.0.7\",\"port\":\"5901\",\"internal_access_path\":null,"
                 "\"token\":\"" TOKEN "\",\"access_url\":\"http://proxy:6080/vnc_lite.html?"
                 "path=%3Ftoken%3D" TOKEN "\"}");
}

static void what_is_authorized_is_what_the_proxy_will_connect_to(void **state)
{
    (void)state;
    world.xml = GUEST("<graphics type='vnc' port='5901'/>");
    world.conf.consoleauth.token_ttl = 42;
    assert_opens(open_vnc_console, "novnc",
                 "{\"host\":\"10.0.0.7\",\"port\":\"5901\",\"internal_access_path\":null,"
                 "\"token\":\"" TOKEN "\",\"access_url\":\"http://proxy:6080/vnc_lite.html?"
                 "path=%3Ftoken%3D" TOKEN "\"}");
    assert_int_equal(world.ttl_s, 42);
    assert_string_equal(console_auth_token_console_type(world.token), "novnc");
    assert_string_equal(console_auth_token_host(world.token), "10.0.0.7");
    assert_int_equal(console_auth_token_port(world.token), 5901);
    assert_string_equal(console_auth_token_instance_uuid(world.token), UUID);
    assert_string_equal(console_auth_token_access_url_base(world.token),
                        "http://proxy:6080/vnc_lite.html");
    assert_null(console_auth_token_internal_access_path(world.token));
    assert_false(console_auth_token_has_token(world.token));
}

static void a_spice_console_tells_its_port_for_tls(void **state)
{
    (void)state;
    world.xml = GUEST("<graphics type='vnc' port='5901'/>"
                      "<graphics type='spice' port='5902' tlsPort='5903'/>");
    assert_opens(open_spice_console, "spice-html5",
                 "{\"host\":\"10.0.0.8\",\"port\":\"5902\",\"internal_access_path\":null,"
                 "\"tlsPort\":\"5903\",\"token\":\"" TOKEN "\",\"access_url\":"
                 "\"http://proxy:6082/spice_auto.html?token=" TOKEN "\"}");
}

static void a_serial_console_is_where_the_guest_s_xml_says(void **state)
{
    (void)state;
    world.xml = GUEST("<serial type='pty'/><serial type='tcp'>"
                      "<source mode='connect' host='1.1.1.1' service='1'/>"
                      "<source mode='bind' host='10.0.0.9' service='10001'/></serial>"
                      "<serial type='tcp'><source mode='bind' host='10.0.0.9' service='10002'/>"
                      "</serial>");
    assert_opens(open_serial_console, "serial",
                 "{\"host\":\"10.0.0.9\",\"port\":10001,\"internal_access_path\":null,"
                 "\"token\":\"" TOKEN "\",\"access_url\":\"ws://proxy:6083/?token=" TOKEN "\"}");
}

static void serial_consoles_may_be_console_devices(void **state)
{
    struct console c;
    CLEANUP(guest_info_fini) struct guest_info g = {0};

    (void)state;
    assert_null(
        guest_info_parse(GUEST("<serial type='pty'/><console type='tcp'><source mode='bind' "
                               "host='h' service='7'/></console>"),
                         &g));
    assert_null(console_find(&g, "serial", &c));
    assert_string_equal(c.host, "h");
    assert_string_equal(c.port, "7");
}

static void a_console_that_the_site_has_not_is_unavailable(void **state)
{
    (void)state;
    world.conf.vnc.enabled = false;
    world.conf.spice.enabled = false;
    world.conf.serial_console.enabled = false;
    assert_refuses(open_vnc_console, "active", "novnc", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type novnc.");
    assert_refuses(open_spice_console, "active", "spice-html5", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type spice-html5.");
    assert_refuses(open_serial_console, "active", "serial", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type serial.");
    assert_refuses(open_mks_console, "active", "webmks", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type webmks.");
    assert_refuses(open_rdp_console, "active", "rdp-html5", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type rdp-html5.");
}

static void a_console_that_the_guest_has_not_is_unavailable(void **state)
{
    (void)state;
    world.xml = GUEST("<serial type='pty'/>");
    assert_refuses(open_vnc_console, "active", "novnc", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type vnc.");
    assert_refuses(open_spice_console, "active", "spice-html5", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type spice.");
    assert_refuses(open_serial_console, "active", "serial", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type serial.");
    world.xml = GUEST("<graphics type='vnc' port='-1' autoport='yes'/>");
    assert_refuses(open_vnc_console, "stopped", "novnc", ERR_CONSOLE_TYPE_UNAVAILABLE,
                   "Unavailable console type vnc.");
}

static void a_type_that_nobody_knows_is_invalid(void **state)
{
    (void)state;
    assert_refuses(open_vnc_console, "active", "xvpvnc", ERR_CONSOLE_TYPE_INVALID,
                   "Invalid console type xvpvnc");
    assert_refuses(open_spice_console, "active", "spice-direct", ERR_CONSOLE_TYPE_INVALID,
                   "Invalid console type spice-direct");
}

static void a_server_that_is_being_built_is_not_ready(void **state)
{
    (void)state;
    assert_refuses(open_vnc_console, "building", "novnc", ERR_INSTANCE_NOT_READY,
                   "Instance " UUID " is not ready");
    assert_refuses(open_vnc_console, "active", "novnc", ERR_INSTANCE_NOT_FOUND,
                   "Instance " UUID " could not be found.");
}

static void without_conductor_there_is_no_token(void **state)
{
    (void)state;
    world.xml = GUEST("<graphics type='vnc' port='5901'/>");
    world.conductor_is_away = true;
    assert_refuses(open_vnc_console, "active", "novnc", ERR_TIMEOUT, "no answer");
}

static bool is_valid(const char *port_json, const char *type)
{
    CLEANUP(instance_freep) struct instance *inst = server("active");
    CLEANUP(jv_putp) struct json_object *port = json_tokener_parse(port_json);
    CLEANUP(jv_putp) struct json_object *ret = NULL;

    assert_null(compute_validate_console_port(
        &node, NULL,
        &(struct args_validate_console_port){.instance = inst, .port = port, .console_type = type},
        &ret));
    assert_true(json_object_is_type(ret, json_type_boolean));
    return json_object_get_boolean(ret);
}

static void a_port_is_compared_as_text(void **state)
{
    (void)state;
    world.xml = GUEST("<graphics type='vnc' port='5901'/><graphics type='spice' port='5902'/>"
                      "<serial type='tcp'><source mode='bind' host='h' service='7'/></serial>");
    assert_true(is_valid("\"5901\"", "novnc"));
    assert_false(is_valid("5901", "novnc"));
    assert_false(is_valid("\"5902\"", "novnc"));
    assert_true(is_valid("\"5902\"", "spice-html5"));
    assert_true(is_valid("\"7\"", "serial"));
    assert_true(is_valid("\"5901\"", "whatever"));
}

static void ports_of_other_hypervisors_are_not_validated(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server("active");
    CLEANUP(jv_putp) struct json_object *ret = NULL;
    CLEANUP(err_freep)
    struct err *e = compute_validate_console_port(
        &node, NULL,
        &(struct args_validate_console_port){.instance = inst, .console_type = "webmks"}, &ret);

    (void)state;
    assert_true(err_is(e, ERR_NOT_IMPLEMENTED));
}

/* ---- Output ---- */

struct dir {
    char path[32];
    char *log;
};

static void dir_init(struct dir *d)
{
    strcpy(d->path, "/tmp/test_console.XXXXXX");
    assert_non_null(mkdtemp(d->path));
    d->log = str_printf("%s/console.log", d->path);
}

static void dir_fini(struct dir *d)
{
    free(d->log);
    assert_null(fs_remove_all(&fs_real, d->path));
}

static void put(const struct dir *d, const char *suffix, const char *text, size_t len)
{
    CLEANUP(freep) char *name = str_printf("%s%s", d->log, suffix);

    assert_null(fs_write_atomic(&fs_real, name, text, len, 0600));
}

static char *read_log(const struct dir *d)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    assert_null(console_read_log(d->log, &b));
    assert_true(b.len <= 100 * 1024);
    return strbuf_take(&b);
}

static void rotated_logs_come_first(void **state)
{
    struct dir d;

    (void)state;
    dir_init(&d);
    put(&d, "", "new\n", 4);
    put(&d, ".0", "older\n", 6);
    put(&d, ".1", "oldest\n", 7);
    put(&d, ".3", "of another time\n", 16);
    CLEANUP(freep) char *log = read_log(&d);

    assert_string_equal(log, "oldest\nolder\nnew\n");
    dir_fini(&d);
}

static void no_more_than_100_kib_are_read(void **state)
{
    struct dir d;
    size_t len = 60 * 1024;
    CLEANUP(freep) char *text = mem_alloc(len);

    (void)state;
    dir_init(&d);
    memset(text, 'n', len);
    put(&d, "", text, len);
    memset(text, 'o', len - 1);
    text[0] = '^';
    put(&d, ".0", text, len);
    put(&d, ".1", "x", 1);
    CLEANUP(freep) char *log = read_log(&d);

    assert_int_equal(strlen(log), 100 * 1024);
    assert_int_equal(log[0], 'o');
    assert_int_equal(log[40 * 1024], 'n');
    dir_fini(&d);
}

static void a_log_that_is_not_there_yet_is_empty(void **state)
{
    struct dir d;

    (void)state;
    dir_init(&d);
    CLEANUP(freep) char *log = read_log(&d);

    assert_string_equal(log, "");
    dir_fini(&d);
}

static void what_is_no_plain_file_is_not_read(void **state)
{
    struct dir d;
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    (void)state;
    dir_init(&d);
    assert_int_equal(symlink("/etc/passwd", d.log), 0);
    CLEANUP(err_freep) struct err *link = console_read_log(d.log, &b);

    assert_non_null(link);
    assert_int_equal(unlink(d.log), 0);
    assert_int_equal(mkfifo(d.log, 0600), 0);
    CLEANUP(err_freep) struct err *fifo = console_read_log(d.log, &b);

    assert_non_null(fifo);
    assert_int_equal(b.len, 0);
    dir_fini(&d);
}

static void a_tail_is_counted_in_lines_as_python_splits_them(void **state)
{
    static const struct {
        int64_t n;
        const char *tail;
    } cases[] = {{0, ""},
                 {1, ""},
                 {2, "c\n"},
                 {3, "b\nc\n"},
                 {4, "a\nb\nc\n"},
                 {99, "a\nb\nc\n"},
                 {-1, "b\nc\n"},
                 {-3, ""},
                 {-4, ""},
                 {INT64_MIN, ""},
                 {INT64_MAX, "a\nb\nc\n"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_string_equal(console_tail("a\nb\nc\n", 6, cases[i].n), cases[i].tail);
    }
    assert_string_equal(console_tail("", 0, 5), "");
    assert_string_equal(console_tail("a\nb", 3, 1), "b");
}

static void assert_path(const char *xml, const char *path)
{
    CLEANUP(guest_info_fini) struct guest_info g = {0};

    assert_null(guest_info_parse(xml, &g));
    const char *have = console_log_path(&g, "/dir/console.log");

    if (path) {
        assert_string_equal(have, path);
    } else {
        assert_null(have);
    }
}

static void the_log_is_the_one_of_the_console(void **state)
{
    (void)state;
    assert_path(GUEST("<console type='pty'><source path='/dev/pts/3'/><log file='/l/pty'/>"
                      "</console><console type='tcp'><log file='/l/tcp'/></console>"
                      "<console type='file'><source path='/l/file'/></console>"),
                "/l/file");
    assert_path(GUEST("<console type='pty'><log file='/l/pty'/></console>"
                      "<console type='tcp'><log file='/l/tcp'/></console>"),
                "/l/tcp");
    assert_path(GUEST("<console type='tcp'/><console type='pty'><log file='/l/pty'/></console>"),
                "/l/pty");
    assert_path(GUEST("<console type='pty'><source path='/dev/pts/3'/></console>"),
                "/dir/console.log");
    assert_path(GUEST("<console type='tcp'/>"), NULL);
    assert_path(GUEST(""), NULL);
}

#define ALL INT64_MAX

static struct err *output(int64_t n_lines, struct json_object **ret)
{
    CLEANUP(instance_freep) struct instance *inst = server("active");

    return compute_get_console_output(
        &node, NULL,
        &(struct args_get_console_output){
            .instance = inst, .has_tail_length = n_lines != ALL, .tail_length = n_lines},
        ret);
}

static void assert_output(int64_t n_lines, const char *expected, size_t len)
{
    CLEANUP(jv_putp) struct json_object *text = NULL;

    assert_null(output(n_lines, &text));
    assert_int_equal(json_object_get_string_len(text), len);
    assert_memory_equal(json_object_get_string(text), expected, len);
}

static void output_is_ascii_with_a_sign_for_every_other_byte(void **state)
{
    struct dir d;
    CLEANUP(freep) char *xml = NULL;

    (void)state;
    dir_init(&d);
    put(&d, "", "boot\n\xc3\xa4\0\xff!\n", 11);
    world.xml = xml =
        str_printf(GUEST("<console type='file'><source path='%s'/></console>"), d.log);
    assert_output(ALL, "boot\n\xef\xbf\xbd\xef\xbf\xbd\0\xef\xbf\xbd!\n", 17);
    assert_output(2, "\xef\xbf\xbd\xef\xbf\xbd\0\xef\xbf\xbd!\n", 12);
    assert_output(0, "", 0);
    dir_fini(&d);
}

static void a_guest_without_a_console_has_no_output(void **state)
{
    CLEANUP(jv_putp) struct json_object *text = NULL;
    CLEANUP(err_freep) struct err *none = output(ALL, &text);

    (void)state;
    assert_true(err_is(none, ERR_INSTANCE_NOT_FOUND));
    world.xml = GUEST("");
    CLEANUP(err_freep) struct err *e = output(ALL, &text);

    assert_true(err_is(e, ERR_CONSOLE_NOT_AVAILABLE));
    assert_null(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_vnc_console_has_its_token_in_the_path_of_novnc),
        TEST(what_is_authorized_is_what_the_proxy_will_connect_to),
        TEST(a_spice_console_tells_its_port_for_tls),
        TEST(a_serial_console_is_where_the_guest_s_xml_says),
        TEST(serial_consoles_may_be_console_devices),
        TEST(a_console_that_the_site_has_not_is_unavailable),
        TEST(a_console_that_the_guest_has_not_is_unavailable),
        TEST(a_type_that_nobody_knows_is_invalid),
        TEST(a_server_that_is_being_built_is_not_ready),
        TEST(without_conductor_there_is_no_token),
        TEST(a_port_is_compared_as_text),
        TEST(ports_of_other_hypervisors_are_not_validated),
        TEST(rotated_logs_come_first),
        TEST(no_more_than_100_kib_are_read),
        TEST(a_log_that_is_not_there_yet_is_empty),
        TEST(what_is_no_plain_file_is_not_read),
        TEST(a_tail_is_counted_in_lines_as_python_splits_them),
        TEST(the_log_is_the_one_of_the_console),
        TEST(output_is_ascii_with_a_sign_for_every_other_byte),
        TEST(a_guest_without_a_console_has_no_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

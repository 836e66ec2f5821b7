/* link: driver_libvirt vif rpc_objects base */
#include "base/fs.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/xb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

/* Live XML as libvirt gives it for servers that Nova made: tests/golden/guest_xml/NAME.in.xml, and
 * what is sent to the destination: NAME.out.xml.  Each test also says what may differ. */

static char *golden_path(const char *name, const char *suffix)
{
    return str_printf(TESTS_DIR "/golden/guest_xml/%s.%s.xml", name, suffix);
}

static char *read_golden(const char *name, const char *suffix)
{
    CLEANUP(freep) char *path = golden_path(name, suffix);
    char *text = NULL;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, NULL);

    if (e) {
        fail_msg("%s", err_message(e));
    }
    return text;
}

static void assert_golden(const char *name, const char *text)
{
    CLEANUP(freep) char *file = str_printf("%s\n", text);

    if (getenv("UPDATE_GOLDEN")) {
        CLEANUP(freep) char *path = golden_path(name, "out");

        assert_null(fs_write_atomic(&fs_real, path, file, strlen(file), 0644));
        return;
    }
    CLEANUP(freep) char *expected = read_golden(name, "out");

    assert_string_equal(file, expected);
}

/* -- What differs ------------------------------------------------------------------------------ */

struct lines {
    char *items[512];
    size_t n;
    char *text;
};

static struct lines split(const char *text)
{
    struct lines l = {.text = str_dup(text)};
    char *save = NULL;

    for (char *p = strtok_r(l.text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
        assert_true(l.n < ARRAY_SIZE(l.items));
        l.items[l.n++] = str_strip(p);
    }
    return l;
}

/* Lines that are in one text only, by the longest common subsequence: "-old" and "+new". */
static char *diff(const char *before, const char *after)
{
    static unsigned short common[513][513];
    struct lines a = split(before), b = split(after);
    struct strbuf out = {0};
    size_t i = 0, k = 0;

    memset(common, 0, sizeof(common));
    for (size_t x = a.n; x-- > 0;) {
        for (size_t y = b.n; y-- > 0;) {
            common[x][y] = str_eq(a.items[x], b.items[y])
                               ? (unsigned short)(common[x + 1][y + 1] + 1)
                               : MAX(common[x + 1][y], common[x][y + 1]);
        }
    }
    while (i < a.n || k < b.n) {
        if (i < a.n && k < b.n && str_eq(a.items[i], b.items[k])) {
            i++;
            k++;
        } else if (k == b.n || (i < a.n && common[i + 1][k] >= common[i][k + 1])) {
            strbuf_addf(&out, "-%s\n", a.items[i++]);
        } else {
            strbuf_addf(&out, "+%s\n", b.items[k++]);
        }
    }
    free(a.text);
    free(b.text);
    return strbuf_take(&out);
}

static void assert_diff(const char *before, const char *after, const char *expected)
{
    CLEANUP(freep) char *got = diff(before, after);

    if (!str_eq(got, expected)) {
        fail_msg("what differs:\n%sexpected:\n%s", got, expected);
    }
}

/* The same document as we write it. */
static char *canonical(const char *xml)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    assert_null(xb_parse(xml, &doc));
    return xb_text(doc);
}

static char *rewrite(const char *xml, const struct guest_rewrite *rw)
{
    char *out = NULL;
    CLEANUP(err_freep) struct err *e = guest_xml_rewrite(xml, rw, &out);

    if (e) {
        fail_msg("%s", err_message(e));
    }
    return out;
}

/* Rewrites an example; 'expected' is all that differs.  A second time changes nothing. */
static void assert_rewritten(const char *name, const struct guest_rewrite *rw, const char *expected)
{
    CLEANUP(freep) char *in = read_golden(name, "in");
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep) char *out = rewrite(in, rw);
    CLEANUP(freep) char *again = rewrite(out, rw);

    assert_diff(before, out, expected);
    assert_string_equal(out, again);
    assert_golden(name, out);
}

static void assert_refused(const char *xml, const struct guest_rewrite *rw, enum err_kind kind,
                           const char *text)
{
    char *out = NULL;
    CLEANUP(err_freep) struct err *e = guest_xml_rewrite(xml, rw, &out);

    if (!err_is(e, kind) || !strstr(err_message(e), text)) {
        fail_msg("%s", e ? err_message(e) : "taken");
    }
    assert_null(out);
}

/* -- VIFs -------------------------------------------------------------------------------------- */

#define MAC(n)       "fa:16:3e:00:00:0" n
#define ID(n)        "1a2b3c4d-0" n "00-4000-8000-000000000001"
#define VIF(n, more) "{\"id\": \"" ID(n) "\", \"address\": \"" MAC(n) "\", " more "}"
#define TAP(n)       "\"type\": \"ovs\", \"devname\": \"tap1a2b3c4d-0" n "\""
#define DELEGATED    ", \"delegate_create\": true"
#define HYBRID       ", \"details\": {\"ovs_hybrid_plug\": true}"
#define VHU(path)                                                                                  \
    "\"type\": \"vhostuser\", \"details\": {\"vhostuser_socket\": \"" path                         \
    "\", \"vhostuser_mode\": \"server\", \"vhostuser_ovs_plug\": true}"

static void set_vifs(const char *json, struct vif_list *list, struct guest_rewrite *rw)
{
    assert_null(vif_list_parse(json, list));
    rw->vifs = list->items;
    rw->n_vifs = list->n;
    rw->has_vifs = true;
    rw->integration_bridge = "br-int";
}

static void with_vifs(const char *name, const char *json, const char *expected)
{
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    struct guest_rewrite rw = {.has_cpu_shares_quota = true};

    set_vifs(json, &vifs, &rw);
    assert_rewritten(name, &rw, expected);
}

static void a_tap_stays_as_it_is(void **state)
{
    (void)state;
    with_vifs("tap", "[" VIF("1", TAP("1") DELEGATED) "]", "");
}

static void ports_of_other_plugs_stay_as_they_are(void **state)
{
    (void)state;
    with_vifs("ovs_bridge", "[" VIF("1", TAP("1")) "]", "");
    with_vifs("hybrid", "[" VIF("1", TAP("1") HYBRID) "]", "");
}

static void another_kind_of_port_keeps_what_the_guest_sees(void **state)
{
    (void)state;
    with_vifs("tap_to_vhostuser", "[" VIF("1", VHU("/run/vhu/new")) "]",
              "-<interface type=\"ethernet\">\n"
              "+<interface type=\"vhostuser\">\n"
              "-<target dev=\"tap1a2b3c4d-01\"/>\n"
              "+<source type=\"unix\" path=\"/run/vhu/new\" mode=\"server\"/>\n");
    with_vifs("vhostuser_to_tap", "[" VIF("1", TAP("1") DELEGATED) "]",
              "-<interface type=\"vhostuser\">\n"
              "+<interface type=\"ethernet\">\n"
              "-<source type=\"unix\" path=\"/var/run/openvswitch/vhu1a2b3c4d-01\" "
              "mode=\"server\"/>\n"
              "-<target dev=\"vhu1a2b3c4d-01\"/>\n"
              "-<driver name=\"vhost\" queues=\"4\" rx_queue_size=\"1024\" "
              "tx_queue_size=\"1024\"/>\n"
              "+<driver name=\"vhost\" queues=\"4\" rx_queue_size=\"1024\"/>\n"
              "+<target dev=\"tap1a2b3c4d-01\"/>\n");
}

static void bridges_are_exchanged(void **state)
{
    (void)state;
    with_vifs("hybrid_to_bridge", "[" VIF("1", TAP("1")) "]",
              "-<source bridge=\"qbr1a2b3c4d-01\"/>\n"
              "+<source bridge=\"br-int\"/>\n"
              "+<virtualport type=\"openvswitch\">\n"
              "+<parameters interfaceid=\"" ID("1") "\"/>\n"
                                                    "+</virtualport>\n");
    with_vifs("bridge_to_hybrid", "[" VIF("1", TAP("1") HYBRID) "]",
              "-<source bridge=\"br-int\"/>\n"
              "-<virtualport type=\"openvswitch\">\n"
              "-<parameters interfaceid=\"" ID("1") "\"/>\n"
                                                    "-</virtualport>\n"
                                                    "+<source bridge=\"qbr1a2b3c4d-01\"/>\n");
}

static void interfaces_are_told_apart_by_their_mac(void **state)
{
    (void)state;
    with_vifs(
        "several_nics",
        "[" VIF(
            "3",
            "\"type\": \"vhostuser\", \"details\": {\"vhostuser_socket\": "
            "\"/run/vpp/sock-9\", \"vhostuser_mode\": \"client\"}, "
            "\"devname\": \"vhu1a2b3c4d-03\"") ", " VIF("4",
                                                        TAP("4")
                                                            HYBRID) ", " VIF("1",
                                                                             TAP("1")
                                                                                 DELEGATED) ","
                                                                                            " " VIF(
                                                                                                "2",
                                                                                                TAP("2") ", \"details\": {\"bridge_name\": \"br-new\"}") "]",
        "-<source bridge=\"br-old\"/>\n"
        "+<source bridge=\"br-new\"/>\n"
        "-<source type=\"unix\" path=\"/run/vpp/sock-3\" mode=\"client\"/>\n"
        "+<source type=\"unix\" path=\"/run/vpp/sock-9\" mode=\"client\"/>\n");
}

/* -- Listen addresses -------------------------------------------------------------------------- */

static void consoles_listen_on_the_destination(void **state)
{
    const int64_t ports[] = {20000, 20001};
    const struct guest_rewrite rw = {.vnc_listen = "192.0.2.2",
                                     .spice_listen = "192.0.2.3",
                                     .serial_listen = "192.0.2.4",
                                     .serial_ports = ports,
                                     .n_serial_ports = 2};

    (void)state;
    assert_rewritten("serial_tcp", &rw,
                     "-<source mode=\"bind\" host=\"192.0.2.1\" service=\"10000\"/>\n"
                     "+<source mode=\"bind\" host=\"192.0.2.4\" service=\"20000\"/>\n"
                     "-<source mode=\"bind\" host=\"192.0.2.1\" service=\"10001\"/>\n"
                     "+<source mode=\"bind\" host=\"192.0.2.4\" service=\"20001\"/>\n"
                     "-<source mode=\"bind\" host=\"192.0.2.1\" service=\"10000\"/>\n"
                     "+<source mode=\"bind\" host=\"192.0.2.4\" service=\"20000\"/>\n"
                     "-<graphics type=\"vnc\" port=\"5900\" autoport=\"yes\" "
                     "listen=\"192.0.2.1\">\n"
                     "-<listen type=\"address\" address=\"192.0.2.1\"/>\n"
                     "+<graphics type=\"vnc\" port=\"5900\" autoport=\"yes\" "
                     "listen=\"192.0.2.2\">\n"
                     "+<listen type=\"address\" address=\"192.0.2.2\"/>\n"
                     "-<graphics type=\"spice\" port=\"5901\" autoport=\"yes\" "
                     "listen=\"192.0.2.1\" keymap=\"en-us\">\n"
                     "-<listen type=\"address\" address=\"192.0.2.1\"/>\n"
                     "+<graphics type=\"spice\" port=\"5901\" autoport=\"yes\" "
                     "listen=\"192.0.2.3\" keymap=\"en-us\">\n"
                     "+<listen type=\"address\" address=\"192.0.2.3\"/>\n");
}

static void a_serial_port_without_a_number_keeps_its_own(void **state)
{
    CLEANUP(freep) char *in = read_golden("serial_tcp", "in");
    const int64_t ports[] = {20000};
    const struct guest_rewrite rw = {
        .serial_listen = "192.0.2.1", .serial_ports = ports, .n_serial_ports = 1};
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep) char *out = rewrite(in, &rw);

    (void)state;
    assert_diff(before, out,
                "-<source mode=\"bind\" host=\"192.0.2.1\" service=\"10000\"/>\n"
                "+<source mode=\"bind\" host=\"192.0.2.1\" service=\"20000\"/>\n"
                "-<source mode=\"bind\" host=\"192.0.2.1\" service=\"10000\"/>\n"
                "+<source mode=\"bind\" host=\"192.0.2.1\" service=\"20000\"/>\n");
    assert_refused(in, &(struct guest_rewrite){0}, ERR_MIGRATION_ERROR, "TCP serial console");
}

static void graphics_on_a_socket_stay_there(void **state)
{
    static const char xml[] =
        "<domain><devices><graphics type='vnc' socket='/run/vnc'><listen type='socket' "
        "socket='/run/vnc'/></graphics><graphics type='vnc'><listen type='none'/></graphics>"
        "<graphics type='sdl'/></devices></domain>";
    CLEANUP(freep) char *before = canonical(xml);
    CLEANUP(freep) char *out = rewrite(xml, &(struct guest_rewrite){.vnc_listen = "192.0.2.2"});

    (void)state;
    assert_string_equal(before, out);
}

/* -- Memory, CPUs, perf ------------------------------------------------------------------------ */

static void file_backed_memory_is_the_destinations_choice(void **state)
{
    (void)state;
    assert_rewritten("file_backed_on", &(struct guest_rewrite){.wants_file_backed_memory = true},
                     "+<memoryBacking>\n"
                     "+<source type=\"file\"/>\n"
                     "+<access mode=\"shared\"/>\n"
                     "+<allocation mode=\"immediate\"/>\n"
                     "+<discard/>\n"
                     "+</memoryBacking>\n");
    assert_rewritten("file_backed_off", &(struct guest_rewrite){0},
                     "-<memoryBacking>\n"
                     "-<source type=\"file\"/>\n"
                     "-<access mode=\"shared\"/>\n"
                     "-<allocation mode=\"immediate\"/>\n"
                     "-<discard/>\n"
                     "-</memoryBacking>\n");
}

static void file_backed_memory_on_both_sides_changes_nothing(void **state)
{
    CLEANUP(freep) char *in = read_golden("file_backed_off", "in");
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep)
    char *out = rewrite(in, &(struct guest_rewrite){.wants_file_backed_memory = true});

    (void)state;
    assert_diff(before, out, "");
}

static void perf_events_are_those_of_the_destination(void **state)
{
    CLEANUP(strv_fini) struct strv events = {0};
    CLEANUP(freep) char *in = read_golden("perf", "in");
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep) char *none = rewrite(in, &(struct guest_rewrite){.perf_events = &events});

    (void)state;
    assert_diff(before, none,
                "-<perf>\n"
                "-<event name=\"cmt\" enabled=\"yes\"/>\n"
                "-<event name=\"mbmt\" enabled=\"yes\"/>\n"
                "-</perf>\n");
    strv_add(&events, "cmt");
    assert_rewritten("perf", &(struct guest_rewrite){.perf_events = &events},
                     "-<event name=\"mbmt\" enabled=\"yes\"/>\n");
    strv_add(&events, "mbmt");
    CLEANUP(freep) char *same = rewrite(in, &(struct guest_rewrite){.perf_events = &events});

    assert_diff(before, same, "");
    CLEANUP(freep) char *added = rewrite(none, &(struct guest_rewrite){.perf_events = &events});

    assert_diff(none, added,
                "+<perf>\n"
                "+<event name=\"cmt\" enabled=\"yes\"/>\n"
                "+<event name=\"mbmt\" enabled=\"yes\"/>\n"
                "+</perf>\n");
}

static void shares_go_unless_the_flavor_wants_them(void **state)
{
    CLEANUP(freep) char *in = read_golden("only_shares", "in");
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep) char *kept = rewrite(in, &(struct guest_rewrite){.has_cpu_shares_quota = true});

    (void)state;
    assert_string_equal(before, kept);
    assert_rewritten("only_shares", &(struct guest_rewrite){0},
                     "-<cputune>\n"
                     "-<shares>2048</shares>\n"
                     "-</cputune>\n");
}

static struct json_object *json(const char *text)
{
    struct json_object *o = NULL;

    assert_null(jv_parse(text, strlen(text), &o));
    return o;
}

static void pins_are_those_of_the_destination(void **state)
{
    CLEANUP(jv_putp) struct json_object *cpus = json("{\"0\": [4], \"1\": [20]}");
    CLEANUP(jv_putp) struct json_object *cells = json("{\"0\": [1]}");
    CLEANUP(cpuset_fini) struct cpuset emulator = {0};
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    struct guest_rewrite rw = {.vnc_listen = "192.0.2.2", .has_cpu_shares_quota = true};

    (void)state;
    set_vifs("[" VIF("1", VHU("/var/lib/vhost_sockets/vhu1a2b3c4d-01")) ", " VIF(
                 "2", VHU("/var/run/openvswitch/vhu1a2b3c4d-02")) "]",
             &vifs, &rw);
    cpuset_add(&emulator, 4);
    cpuset_add(&emulator, 20);
    rw.numa =
        &(struct guest_numa){.cpu_pins = cpus, .cell_pins = cells, .emulator_pins = &emulator};
    assert_rewritten("vhostuser_pinned", &rw,
                     "-<vcpupin vcpu=\"0\" cpuset=\"2\"/>\n"
                     "-<vcpupin vcpu=\"1\" cpuset=\"18\"/>\n"
                     "-<emulatorpin cpuset=\"2,18\"/>\n"
                     "+<vcpupin vcpu=\"0\" cpuset=\"4\"/>\n"
                     "+<vcpupin vcpu=\"1\" cpuset=\"20\"/>\n"
                     "+<emulatorpin cpuset=\"4,20\"/>\n"
                     "-<memory mode=\"strict\" nodeset=\"0\"/>\n"
                     "-<memnode cellid=\"0\" mode=\"strict\" nodeset=\"0\"/>\n"
                     "+<memory mode=\"strict\" nodeset=\"1\"/>\n"
                     "+<memnode cellid=\"0\" mode=\"strict\" nodeset=\"1\"/>\n"
                     "-<source type=\"unix\" path=\"/var/run/openvswitch/vhu1a2b3c4d-01\" "
                     "mode=\"server\"/>\n"
                     "+<source type=\"unix\" path=\"/var/lib/vhost_sockets/vhu1a2b3c4d-01\" "
                     "mode=\"server\"/>\n"
                     "-<graphics type=\"vnc\" port=\"5900\" autoport=\"yes\" "
                     "listen=\"192.0.2.1\">\n"
                     "-<listen type=\"address\" address=\"192.0.2.1\"/>\n"
                     "+<graphics type=\"vnc\" port=\"5900\" autoport=\"yes\" "
                     "listen=\"192.0.2.2\">\n"
                     "+<listen type=\"address\" address=\"192.0.2.2\"/>\n");
}

static void real_time_cpus_are_those_of_the_destination(void **state)
{
    CLEANUP(jv_putp)
    struct json_object *cpus = json("{\"0\": [5], \"1\": [6], \"2\": [7], \"3\": [0, 1, 2, 9]}");
    CLEANUP(jv_putp) struct json_object *cells = json("{\"0\": [1], \"1\": [0]}");
    CLEANUP(cpuset_fini) struct cpuset emulator = {0}, sched = {0};
    const struct guest_numa numa = {.cpu_pins = cpus,
                                    .cell_pins = cells,
                                    .emulator_pins = &emulator,
                                    .sched_vcpus = &sched,
                                    .sched_priority = 3};

    (void)state;
    cpuset_add(&emulator, 5);
    cpuset_add(&sched, 2);
    cpuset_add(&sched, 3);
    assert_rewritten("realtime", &(struct guest_rewrite){.numa = &numa},
                     "-<vcpupin vcpu=\"0\" cpuset=\"1\"/>\n"
                     "-<vcpupin vcpu=\"1\" cpuset=\"2\"/>\n"
                     "-<vcpupin vcpu=\"2\" cpuset=\"3\"/>\n"
                     "-<vcpupin vcpu=\"3\" cpuset=\"4\"/>\n"
                     "-<emulatorpin cpuset=\"1\"/>\n"
                     "-<vcpusched vcpus=\"2\" scheduler=\"fifo\" priority=\"1\"/>\n"
                     "-<vcpusched vcpus=\"3\" scheduler=\"fifo\" priority=\"1\"/>\n"
                     "+<vcpupin vcpu=\"0\" cpuset=\"5\"/>\n"
                     "+<vcpupin vcpu=\"1\" cpuset=\"6\"/>\n"
                     "+<vcpupin vcpu=\"2\" cpuset=\"7\"/>\n"
                     "+<vcpupin vcpu=\"3\" cpuset=\"0-2,9\"/>\n"
                     "+<emulatorpin cpuset=\"5\"/>\n"
                     "+<vcpusched vcpus=\"2-3\" scheduler=\"fifo\" priority=\"3\"/>\n"
                     "-<memnode cellid=\"0\" mode=\"strict\" nodeset=\"0\"/>\n"
                     "-<memnode cellid=\"1\" mode=\"strict\" nodeset=\"1\"/>\n"
                     "+<memnode cellid=\"0\" mode=\"strict\" nodeset=\"1\"/>\n"
                     "+<memnode cellid=\"1\" mode=\"strict\" nodeset=\"0\"/>\n");
}

static void a_guest_cpu_without_a_place_is_an_error(void **state)
{
    CLEANUP(freep) char *in = read_golden("vhostuser_pinned", "in");
    CLEANUP(jv_putp)
    struct json_object *cpus = json("{\"0\": []}"), *bad = json("{\"0\": [\"x\"]}");
    CLEANUP(jv_putp) struct json_object *cells = json("{}"), *no_node = json("{\"0\": []}");
    CLEANUP(cpuset_fini) struct cpuset none = {0};
    struct guest_numa numa = {.cpu_pins = cpus, .cell_pins = cells, .emulator_pins = &none};
    const struct guest_rewrite rw = {.numa = &numa, .has_cpu_shares_quota = true};

    (void)state;
    assert_refused(in, &rw, ERR_MIGRATION_ERROR, "no place for vcpu 0");
    numa.cpu_pins = bad;
    assert_refused(in, &rw, ERR_PARSE, "");
    numa.cpu_pins = cells;
    numa.cell_pins = no_node;
    assert_refused(in, &rw, ERR_MIGRATION_ERROR, "no place for cellid 0");
    numa.cell_pins = cells;
    CLEANUP(freep) char *before = canonical(in);
    CLEANUP(freep) char *out = rewrite(in, &rw);

    assert_string_equal(before, out);
}

/* -- Everything, and nothing ------------------------------------------------------------------- */

static void what_nobody_names_stays_as_it_is(void **state)
{
    static const char *const names[] = {"vhostuser_pinned", "tap",  "ovs_bridge", "hybrid",
                                        "several_nics",     "perf", "realtime",   "only_shares"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(freep) char *in = read_golden(names[i], "in");
        CLEANUP(freep) char *before = canonical(in);
        CLEANUP(freep)
        char *out = rewrite(in, &(struct guest_rewrite){.has_cpu_shares_quota = true});

        assert_string_equal(before, out);
    }
}

/* -- Bad input --------------------------------------------------------------------------------- */

static void an_interface_that_the_destination_does_not_know_is_an_error(void **state)
{
    CLEANUP(freep) char *in = read_golden("several_nics", "in");
    CLEANUP(vif_list_fini) struct vif_list vifs = {0};
    struct guest_rewrite rw = {0};

    (void)state;
    set_vifs("[" VIF("1", TAP("1") DELEGATED) "]", &vifs, &rw);
    assert_refused(in, &rw, ERR_MIGRATION_ERROR, MAC("2"));
    assert_refused("<domain><devices><interface type='bridge'/></devices></domain>", &rw,
                   ERR_MIGRATION_ERROR, "no MAC address");
}

static void a_port_that_cannot_be_plugged_is_an_error(void **state)
{
    CLEANUP(freep) char *in = read_golden("tap", "in");
    CLEANUP(vif_list_fini) struct vif_list failed = {0}, no_path = {0};
    struct guest_rewrite rw = {0};

    (void)state;
    set_vifs("[" VIF("1", "\"type\": \"binding_failed\"") "]", &failed, &rw);
    assert_refused(in, &rw, ERR_VIF_PLUG, "binding failed");
    set_vifs("[" VIF("1", "\"type\": \"vhostuser\", \"details\": {}") "]", &no_path, &rw);
    assert_refused(in, &rw, ERR_VIF_DETAILS_NO_VHOSTUSER_PATH, ID("1"));
}

static void what_is_no_domain_is_an_error(void **state)
{
    static const char *const texts[] = {"",
                                        "x",
                                        "<domain>",
                                        "<network/>",
                                        "<domain/>",
                                        "<domain><devices></domain>",
                                        "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><devices/></domain>",
                                        "<domain>\xff<devices/></domain>"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct guest_info info = {0};
        CLEANUP(err_freep) struct err *e = NULL;

        assert_refused(texts[i], &(struct guest_rewrite){0}, ERR_PARSE, "");
        e = guest_info_parse(texts[i], &info);
        guest_info_fini(&info);
        assert_true(!e || err_is(e, ERR_PARSE));
    }
}

/* -- Reading ----------------------------------------------------------------------------------- */

static void a_guest_is_read(void **state)
{
    CLEANUP(freep) char *in = read_golden("several_nics", "in");
    struct guest_info g = {0};

    (void)state;
    assert_null(guest_info_parse(in, &g));
    assert_string_equal(g.name, "instance-00000007");
    assert_string_equal(g.uuid, "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4");
    assert_string_equal(g.emulator, "/usr/bin/qemu-system-x86_64");
    assert_string_equal(g.machine, "pc-q35-7.2");
    assert_string_equal(g.arch, "x86_64");
    assert_int_equal(g.memory_kib, 1048576);
    assert_int_equal(g.vcpus, 2);
    assert_true(g.has_hugepages && g.has_shared_memory);
    assert_false(g.has_file_backed_memory || g.has_serial_tcp);
    assert_int_equal(g.n_disks, 2);
    assert_string_equal(g.disks[0].target, "vda");
    assert_string_equal(g.disks[0].format, "qcow2");
    assert_string_equal(g.disks[0].backing,
                        "/var/lib/nova/instances/_base/598f07aa236c85277d3ac11343c7a9c1f76cad7a");
    assert_false(g.disks[0].is_readonly);
    assert_string_equal(g.disks[1].device, "cdrom");
    assert_true(g.disks[1].is_readonly);
    assert_null(g.disks[1].backing);
    assert_int_equal(g.n_interfaces, 4);
    assert_string_equal(g.interfaces[2].source, "/run/vpp/sock-3");
    assert_string_equal(g.interfaces[2].mode, "client");
    assert_string_equal(guest_info_interface(&g, "FA:16:3E:00:00:04")->mac, MAC("4"));
    assert_string_equal(guest_info_interface(&g, MAC("2"))->source, "br-old");
    assert_null(guest_info_interface(&g, "fa:16:3e:00:00:05"));
    guest_info_fini(&g);
}

static void memory_and_consoles_are_told(void **state)
{
    CLEANUP(freep) char *file = read_golden("file_backed_off", "in");
    CLEANUP(freep) char *serial = read_golden("serial_tcp", "in");
    struct guest_info g = {0};

    (void)state;
    assert_null(guest_info_parse(file, &g));
    assert_true(g.has_file_backed_memory && g.has_shared_memory);
    assert_false(g.has_hugepages);
    guest_info_fini(&g);
    assert_null(guest_info_parse(serial, &g));
    assert_true(g.has_serial_tcp);
    assert_false(g.has_shared_memory);
    guest_info_fini(&g);
    assert_null(guest_info_parse("<domain><memory unit='GiB'>2</memory></domain>", &g));
    assert_int_equal(g.memory_kib, 2 << 20);
    assert_int_equal(g.vcpus, 0);
    guest_info_fini(&g);
    assert_null(guest_info_parse("<domain><memory unit='b'>2097152</memory></domain>", &g));
    assert_int_equal(g.memory_kib, 2048);
    guest_info_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tap_stays_as_it_is),
        cmocka_unit_test(ports_of_other_plugs_stay_as_they_are),
        cmocka_unit_test(another_kind_of_port_keeps_what_the_guest_sees),
        cmocka_unit_test(bridges_are_exchanged),
        cmocka_unit_test(interfaces_are_told_apart_by_their_mac),
        cmocka_unit_test(consoles_listen_on_the_destination),
        cmocka_unit_test(a_serial_port_without_a_number_keeps_its_own),
        cmocka_unit_test(graphics_on_a_socket_stay_there),
        cmocka_unit_test(file_backed_memory_is_the_destinations_choice),
        cmocka_unit_test(file_backed_memory_on_both_sides_changes_nothing),
        cmocka_unit_test(perf_events_are_those_of_the_destination),
        cmocka_unit_test(shares_go_unless_the_flavor_wants_them),
        cmocka_unit_test(pins_are_those_of_the_destination),
        cmocka_unit_test(real_time_cpus_are_those_of_the_destination),
        cmocka_unit_test(a_guest_cpu_without_a_place_is_an_error),
        cmocka_unit_test(what_nobody_names_stays_as_it_is),
        cmocka_unit_test(an_interface_that_the_destination_does_not_know_is_an_error),
        cmocka_unit_test(a_port_that_cannot_be_plugged_is_an_error),
        cmocka_unit_test(what_is_no_domain_is_an_error),
        cmocka_unit_test(a_guest_is_read),
        cmocka_unit_test(memory_and_consoles_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "driver/libvirt/guest_host.h"

#include "base/fs.h"
#include "base/jv.h"
#include "base/log.h"
#include "driver/libvirt/host_cpu.h"
#include "driver/libvirt/xb.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- Capabilities ---- */

static bool has_machine(const struct guest_host *h, const char *arch, const char *name)
{
    for (size_t i = 0; i < h->n_machines; i++) {
        if (str_eq(h->machines[i].arch, arch) && str_eq(h->machines[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void add_machines(struct guest_host *h, const char *arch, struct xb_node *of)
{
    for (struct xb_node *m = xb_first(of, "machine"); m; m = xb_next(m, "machine")) {
        CLEANUP(freep) char *name = xb_content(m);

        if (!name || has_machine(h, arch, name)) {
            continue;
        }
        h->machines = mem_realloc(h->machines, h->n_machines + 1, sizeof(*h->machines));
        h->machines[h->n_machines++] = (struct guest_machine){
            .arch = str_dup(arch), .name = TAKE(name), .canonical = xb_attr(m, "canonical")};
    }
}

static struct err *read_capabilities(struct guest_host *h, const char *xml)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY_CTX(xb_parse(xml, &doc), "reading libvirt's capabilities");
    struct xb_node *caps = xb_root(doc);

    h->uuid = xb_content_at(caps, "host/uuid");
    for (struct xb_node *g = xb_first(caps, "guest"); g; g = xb_next(g, "guest")) {
        struct xb_node *arch = xb_first(g, "arch");
        CLEANUP(freep) char *name = xb_attr(arch, "name");

        if (!name) {
            continue;
        }
        add_machines(h, name, arch);
        for (struct xb_node *d = xb_first(arch, "domain"); d; d = xb_next(d, "domain")) {
            add_machines(h, name, d);
        }
    }
    return NULL;
}

static bool enum_has(struct xb_node *parent, const char *name, const char *value)
{
    for (struct xb_node *e = xb_first(parent, "enum"); e; e = xb_next(e, "enum")) {
        for (struct xb_node *v = xb_first(e, "value"); v && xb_attr_is(e, "name", name);
             v = xb_next(v, "value")) {
            CLEANUP(freep) char *text = xb_content(v);

            if (str_eq(text, value)) {
                return true;
            }
        }
    }
    return false;
}

static void add_cpu_models(struct guest_host *h, struct xb_node *caps)
{
    for (struct xb_node *mode = xb_find(caps, "cpu/mode"); mode; mode = xb_next(mode, "mode")) {
        for (struct xb_node *m = xb_first(mode, "model"); m && xb_attr_is(mode, "name", "custom");
             m = xb_next(m, "model")) {
            CLEANUP(freep) char *name = xb_content(m);

            if (name && !strv_has(&h->cpu_models, name)) {
                strv_add(&h->cpu_models, name);
            }
        }
    }
}

static struct err *read_domain_capabilities(struct guest_host *h, const char *xml)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY_CTX(xb_parse(xml, &doc), "reading libvirt's domain capabilities");
    struct xb_node *caps = xb_root(doc), *loader = xb_find(caps, "os/loader");

    h->has_uefi |= enum_has(loader, "type", "pflash");
    h->has_secure_boot |= enum_has(loader, "secure", "yes");
    add_cpu_models(h, caps);
    return NULL;
}

/* ---- Firmware ---- */

static bool has_word(struct json_object *list, const char *word)
{
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        if (str_eq(json_object_get_string(json_object_array_get_idx(list, i)), word)) {
            return true;
        }
    }
    return false;
}

static void add_targets(struct jv_reader *r, struct json_object *target, struct strv *ret)
{
    struct jv_reader t = jv_reader_init(target, "target of a firmware descriptor");
    const char *arch = jv_str(&t, "architecture");
    struct json_object *machines = jv_arr(&t, "machines");
    CLEANUP(err_freep) struct err *e = jv_finish(&t);

    for (size_t i = 0; !e && i < json_object_array_length(machines); i++) {
        const char *glob = json_object_get_string(json_object_array_get_idx(machines, i));

        strv_add_take(ret, str_printf("%s %s", arch, glob ? glob : ""));
    }
    if (!r->err) {
        r->err = TAKE(e);
    }
}

/* A descriptor of firmware in flash; others have no such mapping, and guests of ours no use of
 * them. */
static struct err *read_firmware(const char *text, struct guest_firmware *ret)
{
    CLEANUP(jv_putp) struct json_object *spec = NULL;

    TRY(jv_parse(text, strlen(text), &spec));
    struct jv_reader r = jv_reader_init(spec, "firmware descriptor");
    struct jv_reader mapping = jv_reader_init(jv_obj(&r, "mapping"), "mapping");
    struct jv_reader loader = jv_reader_init(jv_obj(&mapping, "executable"), "executable");
    struct jv_reader nvram = jv_reader_init(jv_obj(&mapping, "nvram-template"), "nvram-template");
    const char *loader_file = jv_str(&loader, "filename"), *nvram_file = jv_str(&nvram, "filename");
    struct json_object *targets = jv_arr(&r, "targets"), *features = jv_arr(&r, "features");
    struct jv_reader *parts[] = {&mapping, &loader, &nvram};
    CLEANUP(strv_fini) struct strv found = {0};

    for (size_t i = 0; targets && i < json_object_array_length(targets); i++) {
        add_targets(&r, json_object_array_get_idx(targets, i), &found);
    }
    CLEANUP(err_freep) struct err *e = jv_finish(&r);

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        CLEANUP(err_freep) struct err *of_part = jv_finish(parts[i]);

        e = e ? e : TAKE(of_part);
    }
    TRY(TAKE(e));
    *ret = (struct guest_firmware){.loader = str_dup(loader_file),
                                   .nvram_template = str_dup(nvram_file),
                                   .is_secure = has_word(features, "secure-boot"),
                                   .needs_smm = has_word(features, "requires-smm"),
                                   .targets = found};
    found = (struct strv){0};
    return NULL;
}

static void add_firmware(struct guest_host *h, const char *text)
{
    struct guest_firmware f;
    CLEANUP(err_freep) struct err *e = read_firmware(text, &f);

    if (e) {
        log_debug(LOG_LIBVIRT, "a firmware descriptor is left out: %s", err_message(e));
        return;
    }
    h->firmware = mem_realloc(h->firmware, h->n_firmware + 1, sizeof(*h->firmware));
    h->firmware[h->n_firmware++] = f;
}

/* ---- Made from what was found out ---- */

/* "0123456789abcdef..." as a UUID; NULL for anything else. */
static char *as_uuid(const char *id)
{
    if (!id || strlen(id) < 32 || strspn(id, "0123456789abcdefABCDEF") != 32) {
        return NULL;
    }
    return str_printf("%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

struct err *guest_host_new(const struct guest_host_source *s, struct guest_host **ret)
{
    CLEANUP(guest_host_freep) struct guest_host *h = NEW(struct guest_host);

    h->machine_id = as_uuid(s->machine_id);
    h->libvirt_version = s->libvirt_version;
    h->has_cpu_controller = s->has_cpu_controller;
    h->has_direct_io = s->has_direct_io;
    h->has_rng_device = s->has_rng_device;
    h->kernel_major = s->kernel_major;
    TRY(read_capabilities(h, s->capabilities));
    for (size_t i = 0; i < s->domain_capabilities->n; i++) {
        TRY(read_domain_capabilities(h, s->domain_capabilities->items[i]));
    }
    for (size_t i = 0; i < s->firmware->n; i++) {
        add_firmware(h, s->firmware->items[i]);
    }
    *ret = TAKE(h);
    return NULL;
}

void guest_host_add_features(struct guest_host *h, const char *model, struct strv *features)
{
    h->features = mem_realloc(h->features, h->n_features + 1, sizeof(*h->features));
    h->features[h->n_features++] =
        (struct guest_cpu_features){.model = str_dup(model), .features = *features};
    *features = (struct strv){0};
}

struct guest_host *guest_host_free(struct guest_host *h)
{
    if (!h) {
        return NULL;
    }
    for (size_t i = 0; i < h->n_machines; i++) {
        free(h->machines[i].arch);
        free(h->machines[i].name);
        free(h->machines[i].canonical);
    }
    for (size_t i = 0; i < h->n_firmware; i++) {
        free(h->firmware[i].loader);
        free(h->firmware[i].nvram_template);
        strv_fini(&h->firmware[i].targets);
    }
    for (size_t i = 0; i < h->n_features; i++) {
        free(h->features[i].model);
        strv_fini(&h->features[i].features);
    }
    free(h->uuid);
    free(h->machine_id);
    free(h->machines);
    free(h->firmware);
    free(h->features);
    strv_fini(&h->cpu_models);
    free(h);
    return NULL;
}

/* ---- Finding out ---- */

/* The canonical machines of one architecture's domain of a kind, and those behind short names. */
static struct err *ask_machines(struct lv_conn *conn, const struct conf *conf,
                                const struct guest_host *h, struct strv *ret)
{
    struct strv asked = {0};
    struct err *e = NULL;

    for (size_t i = 0; !e && i < h->n_machines; i++) {
        const struct guest_machine *m = &h->machines[i];
        CLEANUP(freep) char *xml = NULL;

        if (!str_eq(m->arch, "x86_64") || !m->canonical || strv_has(&asked, m->canonical)) {
            continue;
        }
        strv_add(&asked, m->canonical);
        e = lv_domain_capabilities(conn, NULL, m->arch, m->name, conf->libvirt.virt_type, &xml);
        if (!e) {
            strv_add_take(ret, TAKE(xml));
        } else if (err_is(e, ERR_LIBVIRT)) {
            log_debug(LOG_LIBVIRT, "no capabilities of machine %s: %s", m->name, err_message(e));
            e = err_free(e);
        }
    }
    strv_fini(&asked);
    return e;
}

static struct err *read_descriptors(struct strv *ret)
{
    /* nova/virt/libvirt/host.py QEMU_FIRMWARE_DESCRIPTOR_PATHS */
    static const char *const dirs[] = {"/usr/share/qemu/firmware", "/etc/qemu/firmware"};

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        CLEANUP(strv_fini) struct strv names = {0};

        if (!fs_is_dir(&fs_real, dirs[i])) {
            continue;
        }
        TRY(fs_list(&fs_real, dirs[i], &names));
        for (size_t k = 0; k < names.n; k++) {
            CLEANUP(freep) char *path = str_printf("%s/%s", dirs[i], names.items[k]);
            char *text = NULL;

            if (str_ends(names.items[k], ".json")) {
                TRY(fs_read(&fs_real, path, &text, NULL));
                strv_add_take(ret, text);
            }
        }
    }
    return NULL;
}

/* A file of words has one of them. */
static bool file_has_word(const char *path, const char *seps, const char *word)
{
    CLEANUP(freep) char *text = NULL;
    CLEANUP(err_freep) struct err *e = fs_read(&fs_real, path, &text, NULL);
    CLEANUP(strv_fini) struct strv words = {0};

    if (!e) {
        words = strv_split(text, seps);
    }
    return strv_has(&words, word);
}

/* A mount of version 1 has "cpu" among its options; version 2 lists its controllers. */
static bool has_cpu_controller(void)
{
    return file_has_word("/proc/self/mounts", " ,\n", "cpu") ||
           file_has_word("/sys/fs/cgroup/cgroup.controllers", " \n", "cpu");
}

/* nova/privsep/utils.py supports_direct_io: by writing a block. */
static bool has_direct_io(const char *dir)
{
    static _Alignas(4096) const char block[4096];
    CLEANUP(freep) char *path = str_printf("%s/.directio.test.%d", dir, getpid());
    int fd = open(path, O_CREAT | O_WRONLY | O_DIRECT | O_CLOEXEC, 0600);
    bool is_good = fd >= 0 && write(fd, block, sizeof(block)) == (ssize_t)sizeof(block);

    if (fd >= 0) {
        close(fd);
    }
    unlink(path);
    return is_good;
}

static int64_t kernel_major(void)
{
    struct utsname u;

    return uname(&u) == 0 ? strtol(u.release, NULL, 10) : 0;
}

static struct err *read_features(struct lv_conn *conn, const struct conf *conf, const char *caps,
                                 struct guest_host *h)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    const struct strv *models = &conf->libvirt.cpu_models;

    TRY(xb_parse(caps, &doc));
    for (size_t i = 0; i < models->n; i++) {
        struct strv features = {0};
        struct err *e = host_cpu_add_model(conn, xb_root(doc), models->items[i], &features);

        if (e) {
            strv_fini(&features);
            return e;
        }
        guest_host_add_features(h, models->items[i], &features);
    }
    return NULL;
}

struct err *guest_host_read(struct lv_conn *conn, const struct conf *conf, struct guest_host **ret)
{
    CLEANUP(freep) char *caps = NULL, *machine_id = NULL;
    CLEANUP(strv_fini) struct strv domains = {0}, firmware = {0};
    CLEANUP(guest_host_freep) struct guest_host *h = NULL;
    CLEANUP(guest_host_freep) struct guest_host *machines = NEW(struct guest_host);
    struct guest_host_source s = {.domain_capabilities = &domains, .firmware = &firmware};
    unsigned long hv;

    TRY(lv_capabilities(conn, &caps));
    TRY(lv_versions(conn, &s.libvirt_version, &hv));
    TRY(read_capabilities(machines, caps));
    TRY(ask_machines(conn, conf, machines, &domains));
    TRY(read_descriptors(&firmware));
    err_free(fs_read_line(&fs_real, "/etc/machine-id", &machine_id)); /* Not all have one. */
    s.capabilities = caps;
    s.machine_id = machine_id;
    s.has_cpu_controller = has_cpu_controller();
    s.has_direct_io = has_direct_io(conf->dflt.instances_path);
    s.has_rng_device =
        str_is_empty(conf->libvirt.rng_dev_path) || fs_exists(&fs_real, conf->libvirt.rng_dev_path);
    s.kernel_major = kernel_major();
    TRY(guest_host_new(&s, &h));
    TRY(read_features(conn, conf, caps, h));
    *ret = TAKE(h);
    return NULL;
}

/* ---- Asking ---- */

bool guest_host_has_machine(const struct guest_host *h, const char *machine)
{
    for (size_t i = 0; i < h->n_machines; i++) {
        if (str_eq(h->machines[i].name, machine)) {
            return true;
        }
    }
    return false;
}

static const char *canonical(const struct guest_host *h, const char *arch, const char *machine)
{
    for (size_t i = 0; i < h->n_machines; i++) {
        const struct guest_machine *m = &h->machines[i];

        if (str_eq(m->arch, arch) && str_eq(m->name, machine)) {
            return m->canonical ? m->canonical : m->name;
        }
    }
    return machine;
}

const struct guest_firmware *guest_host_firmware(const struct guest_host *h, const char *arch,
                                                 const char *machine, bool is_secure)
{
    CLEANUP(freep) char *wanted = str_printf("%s %s", arch, canonical(h, arch, machine));

    for (size_t i = 0; i < h->n_firmware; i++) {
        const struct guest_firmware *f = &h->firmware[i];

        for (size_t k = 0; f->is_secure == is_secure && k < f->targets.n; k++) {
            if (fnmatch(f->targets.items[k], wanted, 0) == 0) {
                return f;
            }
        }
    }
    return NULL;
}

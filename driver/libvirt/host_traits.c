#include "driver/libvirt/host_traits.h"

#include "base/fs.h"
#include "base/log.h"
#include "driver/libvirt/host_cpu.h"

#include <ctype.h>
#include <string.h>

/* What the conditions of the table look at. */
struct trait_facts {
    const char *arch;     /* The host's. */
    struct strv archs;    /* Those of the guests that can be had. */
    struct strv features; /* Of the CPU that guests get. */
    struct strv buses, videos;
    const struct strv *excluded_images;
    int64_t libvirt_version;
    bool is_qemu, is_kvm, is_parallels;
    bool takes_qcow2, has_secure_boot, has_swtpm, has_hyperthreading, has_sev;
};

struct guest_arch {
    const char *arch, *emulator;
};

static void facts_fini(struct trait_facts *f)
{
    strv_fini(&f->archs);
    strv_fini(&f->features);
    strv_fini(&f->buses);
    strv_fini(&f->videos);
}

static void add_once(struct strv *list, const char *s)
{
    if (s && !strv_has(list, s)) {
        strv_add(list, s);
    }
}

/* ---- CPU ---- */

/* As Nova counts them: also a flag that is taken away ("-flag") is a feature that can be had. */
static void extra_flags(const struct conf *conf, struct strv *ret)
{
    for (size_t i = 0; i < conf->libvirt.cpu_model_extra_flags.n; i++) {
        CLEANUP(freep) char *flag = str_dup(conf->libvirt.cpu_model_extra_flags.items[i]);

        for (char *c = flag; *c; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        add_once(ret, flag + strspn(flag, *flag == '-' ? "-" : "+"));
    }
}

static const char *default_model(const char *arch)
{
    return str_eq(arch, "i686")      ? "qemu32"
           : str_eq(arch, "ppc64le") ? "POWER8"
           : str_eq(arch, "aarch64") ? "max"
                                     : "qemu64";
}

/* nova/virt/libvirt/driver.py _get_guest_cpu_model_config, _get_cpu_feature_traits. */
static struct err *read_features(struct lv_conn *conn, const struct conf *conf,
                                 struct xb_node *caps, const struct strv *host_features,
                                 struct trait_facts *f)
{
    const struct strv max = {.items = (char *[]){"max", NULL}, .n = 1};
    const struct strv *models = &conf->libvirt.cpu_models;
    const char *mode = conf->libvirt.cpu_mode;

    if (!mode || str_eq(mode, "host-model") || str_eq(mode, "host-passthrough")) {
        for (size_t i = 0; i < host_features->n; i++) {
            add_once(&f->features, host_features->items[i]);
        }
        extra_flags(conf, &f->features);
        return NULL;
    }
    if (str_eq(mode, "none")) {
        return host_cpu_add_model(conn, caps, default_model(f->arch), &f->features);
    }
    if (str_eq(f->arch, "aarch64") && !models->n) {
        models = &max;
    }
    for (size_t i = 0; i < models->n; i++) {
        TRY(host_cpu_add_model(conn, caps, models->items[i], &f->features));
    }
    extra_flags(conf, &f->features);
    return NULL;
}

/* ---- Domain capabilities ---- */

static void add_enum(struct xb_node *device, const char *name, struct strv *ret)
{
    for (struct xb_node *e = xb_first(device, "enum"); e; e = xb_next(e, "enum")) {
        if (!xb_attr_is(e, "name", name)) {
            continue;
        }
        for (struct xb_node *v = xb_first(e, "value"); v; v = xb_next(v, "value")) {
            CLEANUP(freep) char *text = xb_content(v);

            add_once(ret, text);
        }
    }
}

static bool enum_has(struct xb_node *loader, const char *name, const char *value)
{
    CLEANUP(strv_fini) struct strv values = {0};

    add_enum(loader, name, &values);
    return strv_has(&values, value);
}

/* UEFI with SMM's help: a loader that may be secure, on a machine that is Q35. */
static bool is_secure_bootable(struct xb_node *root)
{
    struct xb_node *loader = xb_find(root, "os/loader");

    return xb_attr_is(loader, "supported", "yes") && enum_has(loader, "secure", "yes");
}

static struct err *read_machine(struct lv_conn *conn, const struct conf *conf,
                                const struct guest_arch *g, const char *machine,
                                struct trait_facts *f)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY(lv_domain_capabilities(conn, g->emulator, g->arch, machine, conf->libvirt.virt_type, &xml));
    TRY(xb_parse(xml, &doc));
    struct xb_node *root = xb_root(doc);

    add_enum(xb_find(root, "devices/disk"), "bus", &f->buses);
    add_enum(xb_find(root, "devices/video"), "modelType", &f->videos);
    f->has_secure_boot |= str_eq(g->arch, f->arch) && is_secure_bootable(root);
    f->has_sev |= xb_attr_is(xb_find(root, "features/sev"), "supported", "yes");
    add_once(&f->archs, g->arch);
    return NULL;
}

/* [libvirt]hw_machine_type, else Nova's default (virt/libvirt/utils.py get_default_machine_type).
 */
static char *default_machine(const struct conf *conf, const char *arch)
{
    static const struct {
        const char *arch, *machine;
    } defaults[] = {
        {"armv7l", "virt"},
        {"aarch64", "virt"},
        {"ppc64le", "pseries"},
        {"i686", "pc"},
        {"x86_64", "pc"},
        {"s390", "s390-ccw-virtio"},
        {"s390x", "s390-ccw-virtio"},
    };
    CLEANUP(freep) char *prefix = str_printf("%s=", arch);

    for (size_t i = 0; i < conf->libvirt.hw_machine_type.n; i++) {
        const char *item = conf->libvirt.hw_machine_type.items[i];

        if (str_starts(item, prefix) && item[strlen(prefix)]) {
            return str_dup(item + strlen(prefix));
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
        if (str_eq(defaults[i].arch, arch)) {
            return str_dup(defaults[i].machine);
        }
    }
    return NULL;
}

/* Where the capabilities keep emulator and machines of a kind of domain: in its own element, or
 * next to it if that is empty.  NULL if the guest cannot be of that kind. */
static struct xb_node *domain_of(struct xb_node *arch, const char *virt_type)
{
    struct xb_node *d = xb_first(arch, "domain");

    while (d && !xb_attr_is(d, "type", virt_type)) {
        d = xb_next(d, "domain");
    }
    return d && xb_is_empty(d) ? arch : d;
}

/* The default machine and those that have a short name ("pc", "q35"). */
static struct err *read_guest(struct lv_conn *conn, const struct conf *conf, struct xb_node *guest,
                              struct trait_facts *f)
{
    struct xb_node *arch = xb_first(guest, "arch"), *domain;
    CLEANUP(freep) char *name = xb_attr_at(guest, "arch", "name");
    CLEANUP(freep) char *emulator = NULL;
    CLEANUP(strv_fini) struct strv machines = {0};

    if (!name || !(domain = domain_of(arch, conf->libvirt.virt_type))) {
        return NULL;
    }
    CLEANUP(freep) char *first = default_machine(conf, name);

    add_once(&machines, first);
    emulator = xb_content_at(domain, "emulator");
    for (struct xb_node *m = xb_first(domain, "machine"); m; m = xb_next(m, "machine")) {
        CLEANUP(freep) char *canonical = xb_attr(m, "canonical");
        CLEANUP(freep) char *machine = canonical ? xb_content(m) : NULL;

        add_once(&machines, machine);
    }
    for (size_t i = 0; i < machines.n; i++) {
        const struct guest_arch g = {name, emulator};
        CLEANUP(err_freep) struct err *e = read_machine(conn, conf, &g, machines.items[i], f);

        if (e && !err_is(e, ERR_LIBVIRT)) {
            return TAKE(e);
        }
        if (e) {
            log_debug(LOG_LIBVIRT, "no capabilities of machine %s of %s: %s", machines.items[i],
                      name, err_message(e));
        }
    }
    return NULL;
}

static struct err *read_guests(struct lv_conn *conn, const struct conf *conf, struct xb_node *caps,
                               struct trait_facts *f)
{
    for (struct xb_node *g = xb_first(caps, "guest"); g; g = xb_next(g, "guest")) {
        TRY(read_guest(conn, conf, g, f));
    }
    return NULL;
}

/* ---- All of it ---- */

static bool has_siblings(struct xb_node *caps)
{
    struct xb_node *cell = xb_find(caps, "host/topology/cells/cell");

    for (; cell; cell = xb_next(cell, "cell")) {
        for (struct xb_node *c = xb_find(cell, "cpus/cpu"); c; c = xb_next(c, "cpu")) {
            CLEANUP(freep) char *siblings = xb_attr(c, "siblings");
            CLEANUP(freep) char *id = xb_attr(c, "id");

            if (siblings && !str_eq(siblings, id)) {
                return true;
            }
        }
    }
    return false;
}

static void set_traits(const struct trait_facts *f, struct strv *traits, struct strv *owned)
{
#define TRAIT(has, name)                                                                           \
    do {                                                                                           \
        add_once(owned, #name);                                                                    \
        if (has) {                                                                                 \
            add_once(traits, #name);                                                               \
        }                                                                                          \
    } while (0)
#define TRAIT_CPU(feature, name)   TRAIT(strv_has(&f->features, feature), name);
#define TRAIT_BUS(bus, name)       TRAIT(strv_has(&f->buses, bus), name);
#define TRAIT_VIDEO(model, name)   TRAIT(strv_has(&f->videos, model), name);
#define TRAIT_VIF(name, qemu, kvm) TRAIT((f->is_qemu && (qemu)) || (f->is_kvm && (kvm)), name);
#define TRAIT_IMAGE(format, condition, name)                                                       \
    TRAIT((condition) && !strv_has(f->excluded_images, format), name);
#define TRAIT_IF(condition, name) TRAIT(condition, name);
#include "driver/libvirt/traits.def"
#undef TRAIT_CPU
#undef TRAIT_BUS
#undef TRAIT_VIDEO
#undef TRAIT_VIF
#undef TRAIT_IMAGE
#undef TRAIT_IF
#undef TRAIT
}

/* SEV needs the kernel's consent too. */
static bool kernel_has_sev(void)
{
    CLEANUP(freep) char *text = NULL;
    CLEANUP(err_freep)
    struct err *e = fs_read_line(&fs_real, "/sys/module/kvm_amd/parameters/sev", &text);

    return !e && (str_eq(text, "1") || str_ieq(text, "y"));
}

struct err *host_traits(struct lv_conn *conn, const struct conf *conf, struct xb_node *caps,
                        const struct strv *cpu_features, int64_t libvirt_version,
                        struct strv *ret_traits, struct strv *ret_owned)
{
    CLEANUP(freep) char *arch = xb_content_at(caps, "host/cpu/arch");
    const char *images = conf->libvirt.images_type;
    bool needs_raw = str_eq(images, "rbd") || str_eq(images, "lvm");
    CLEANUP(facts_fini)
    struct trait_facts f = {
        .arch = arch,
        .excluded_images = &conf->compute.image_type_exclude_list,
        .libvirt_version = libvirt_version,
        .is_qemu = str_eq(conf->libvirt.virt_type, "qemu"),
        .is_kvm = str_eq(conf->libvirt.virt_type, "kvm"),
        .is_parallels = str_eq(conf->libvirt.virt_type, "parallels"),
        .takes_qcow2 = !needs_raw || conf->dflt.force_raw_images,
        .has_swtpm = conf->libvirt.swtpm_enabled,
        .has_hyperthreading = has_siblings(caps),
    };

    TRY(read_features(conn, conf, caps, cpu_features, &f));
    TRY_CTX(read_guests(conn, conf, caps, &f), "asking libvirt for its devices");
    f.has_sev = f.has_sev && str_eq(arch, "x86_64") && kernel_has_sev();
    set_traits(&f, ret_traits, ret_owned);
    return NULL;
}

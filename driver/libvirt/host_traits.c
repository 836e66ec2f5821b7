#include "driver/libvirt/host_traits.h"

#include "base/fs.h"
#include "base/log.h"

/* What the conditions of the table look at. */
struct trait_facts {
    struct strv features; /* Of the CPU that guests get. */
    struct strv buses, videos;
    int64_t libvirt_version;
    bool is_qemu, is_kvm, is_parallels;
    bool is_x86, is_aarch64;
    bool takes_qcow2, has_secure_boot, has_swtpm, has_hyperthreading, has_sev;
};

static void facts_fini(struct trait_facts *f)
{
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

static void add_features(struct xb_node *cpu, struct strv *ret)
{
    for (struct xb_node *n = xb_first(cpu, "feature"); n; n = xb_next(n, "feature")) {
        CLEANUP(freep) char *name = xb_attr(n, "name");

        add_once(ret, name);
    }
}

/* ---- CPU ---- */

/* A model of libvirt with all that it stands for. */
static struct err *model_features(struct lv_conn *conn, const char *arch, const char *vendor,
                                  const char *model, struct strv *ret)
{
    CLEANUP(freep) char *expanded = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(freep)
    char *xml =
        str_printf("<cpu><arch>%s</arch><model>%s</model>%s%s%s</cpu>", arch, model,
                   vendor ? "<vendor>" : "", vendor ? vendor : "", vendor ? "</vendor>" : "");

    TRY(lv_expand_cpu(conn, xml, &expanded));
    TRY(xb_parse(expanded, &doc));
    add_features(xb_root(doc), ret);
    return NULL;
}

/* "+flag" and "flag" add, "-flag" does not. */
static void extra_flags(const struct conf *conf, struct strv *ret)
{
    for (size_t i = 0; i < conf->libvirt.cpu_model_extra_flags.n; i++) {
        const char *flag = conf->libvirt.cpu_model_extra_flags.items[i];

        if (flag[0] != '-') {
            add_once(ret, flag + (flag[0] == '+'));
        }
    }
}

static const char *default_model(const char *arch)
{
    return str_eq(arch, "i686")      ? "qemu32"
           : str_eq(arch, "ppc64le") ? "POWER8"
           : str_eq(arch, "aarch64") ? "max"
                                     : "qemu64";
}

/* cpu_mode unset is host-model for KVM and none for QEMU (Nova's libvirt driver). */
static struct err *read_features(struct lv_conn *conn, const struct conf *conf,
                                 struct xb_node *caps, struct trait_facts *f)
{
    struct xb_node *cpu = xb_find(caps, "host/cpu");
    CLEANUP(freep) char *arch = xb_content_at(cpu, "arch");
    CLEANUP(freep) char *vendor = xb_content_at(cpu, "vendor");
    const char *mode = conf->libvirt.cpu_mode ? conf->libvirt.cpu_mode
                       : f->is_kvm            ? "host-model"
                                              : "none";

    if (str_eq(mode, "host-model") || str_eq(mode, "host-passthrough")) {
        add_features(cpu, &f->features);
        extra_flags(conf, &f->features);
        return NULL;
    }
    if (str_eq(mode, "none")) {
        return model_features(conn, arch, vendor, default_model(arch), &f->features);
    }
    for (size_t i = 0; i < conf->libvirt.cpu_models.n; i++) {
        TRY(model_features(conn, arch, vendor, conf->libvirt.cpu_models.items[i], &f->features));
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

static struct err *read_machine(struct lv_conn *conn, const struct conf *conf, const char *arch,
                                const char *machine, struct trait_facts *f)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY(lv_domain_capabilities(conn, /* emulator= */ NULL, arch, machine, conf->libvirt.virt_type,
                               &xml));
    TRY(xb_parse(xml, &doc));
    struct xb_node *root = xb_root(doc);

    add_enum(xb_find(root, "devices/disk"), "bus", &f->buses);
    add_enum(xb_find(root, "devices/video"), "modelType", &f->videos);
    f->has_secure_boot |= is_secure_bootable(root);
    f->has_sev |= xb_attr_is(xb_find(root, "features/sev"), "supported", "yes");
    return NULL;
}

static struct err *read_machines(struct lv_conn *conn, const struct conf *conf,
                                 struct xb_node *caps, struct trait_facts *f)
{
    CLEANUP(freep) char *arch = xb_content_at(caps, "host/cpu/arch");
    static const char *const x86[] = {"pc", "q35", NULL}, *const other[] = {"virt", NULL};
    const char *const *machines = f->is_x86 ? x86 : other;

    for (size_t i = 0; machines[i]; i++) {
        CLEANUP(err_freep) struct err *e = read_machine(conn, conf, arch, machines[i], f);

        if (e && !err_is(e, ERR_LIBVIRT)) {
            return TAKE(e);
        }
        if (e) {
            log_debug(LOG_LIBVIRT, "no capabilities of machine %s: %s", machines[i],
                      err_message(e));
        }
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
#define TRAIT_IF(condition, name)  TRAIT(condition, name);
#include "driver/libvirt/traits.def"
#undef TRAIT_CPU
#undef TRAIT_BUS
#undef TRAIT_VIDEO
#undef TRAIT_VIF
#undef TRAIT_IF
#undef TRAIT
}

struct err *host_traits(struct lv_conn *conn, const struct conf *conf, struct xb_node *caps,
                        int64_t libvirt_version, struct strv *ret_traits, struct strv *ret_owned)
{
    CLEANUP(freep) char *arch = xb_content_at(caps, "host/cpu/arch");
    const char *images = conf->libvirt.images_type;
    bool needs_raw = str_eq(images, "rbd") || str_eq(images, "lvm");
    CLEANUP(facts_fini)
    struct trait_facts f = {
        .libvirt_version = libvirt_version,
        .is_qemu = str_eq(conf->libvirt.virt_type, "qemu"),
        .is_kvm = str_eq(conf->libvirt.virt_type, "kvm"),
        .is_parallels = str_eq(conf->libvirt.virt_type, "parallels"),
        .is_x86 = str_eq(arch, "x86_64") || str_eq(arch, "i686"),
        .is_aarch64 = str_eq(arch, "aarch64"),
        .takes_qcow2 = !needs_raw || conf->dflt.force_raw_images,
        .has_swtpm = conf->libvirt.swtpm_enabled,
        .has_hyperthreading = has_siblings(caps),
    };

    TRY_CTX(read_features(conn, conf, caps, &f), "asking libvirt for CPU features");
    TRY_CTX(read_machines(conn, conf, caps, &f), "asking libvirt for its devices");
    set_traits(&f, ret_traits, ret_owned);
    return NULL;
}

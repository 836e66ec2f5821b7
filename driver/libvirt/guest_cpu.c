#include "driver/libvirt/guest_build.h"

#include <ctype.h>
#include <string.h>

#define ANY 65536 /* As many as anybody wants. */

/* ---- Topology ---- */

struct topology {
    int64_t sockets, cores, threads;
};

static struct err *ask_three(const struct guest_build *b, const char *prefix,
                             struct topology *ret_flavor, struct topology *ret_image)
{
    static const char *const parts[] = {"sockets", "cores", "threads"};
    int64_t *of_flavor[] = {&ret_flavor->sockets, &ret_flavor->cores, &ret_flavor->threads};
    int64_t *of_image[] = {&ret_image->sockets, &ret_image->cores, &ret_image->threads};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        CLEANUP(freep) char *spec = str_printf("hw:cpu_%s%s", prefix, parts[i]);
        CLEANUP(freep) char *prop = str_printf("hw_cpu_%s%s", prefix, parts[i]);

        TRY(guest_ask_number(b, spec, 0, of_flavor[i]));
        *of_image[i] = image_meta_int(b->image, prop, 0);
    }
    return NULL;
}

static bool exceeds(const struct topology *t, const struct topology *max)
{
    return t->sockets > max->sockets || t->cores > max->cores || t->threads > max->threads;
}

/* What is 0 in 't' becomes 'other', then ANY. */
static int64_t either(int64_t n, int64_t other)
{
    return n ? n : other ? other : ANY;
}

static struct topology limits_of(const struct topology *a, const struct topology *b)
{
    return (struct topology){either(a->sockets, b->sockets), either(a->cores, b->cores),
                             either(a->threads, b->threads)};
}

static struct err *too_much(enum err_kind kind, const struct topology *t,
                            const struct topology *max)
{
    return err_msg(kind,
                   "the image asks for hw_cpu_sockets=%lld, hw_cpu_cores=%lld, "
                   "hw_cpu_threads=%lld (or for that as maximum); the limits are %lld, %lld, %lld",
                   (long long)t->sockets, (long long)t->cores, (long long)t->threads,
                   (long long)max->sockets, (long long)max->cores, (long long)max->threads);
}

/* nova/virt/hardware.py get_cpu_topology_constraints: an image may only lower a flavor's limits,
 * and one wish of it puts the flavor's aside. */
static struct err *constraints(const struct guest_build *b, struct topology *ret_wanted,
                               struct topology *ret_max)
{
    struct topology flavor_max = {0}, image_max = {0}, of_flavor = {0}, of_image = {0};
    const struct topology none = {0};

    TRY(ask_three(b, "max_", &flavor_max, &image_max));
    TRY(ask_three(b, "", &of_flavor, &of_image));
    struct topology flavor_limits = limits_of(&flavor_max, &none);

    if (exceeds(&image_max, &flavor_limits)) {
        return too_much(ERR_VCPU_LIMITS_EXCEEDED, &image_max, &flavor_limits);
    }
    *ret_max = limits_of(&image_max, &flavor_max);
    if (exceeds(&of_image, ret_max)) {
        return too_much(ERR_VCPU_TOPOLOGY_EXCEEDED, &of_image, ret_max);
    }
    if (of_image.sockets || of_image.cores || of_image.threads) {
        *ret_wanted = of_image;
    } else {
        *ret_wanted = exceeds(&of_flavor, ret_max) ? none : of_flavor;
    }
    return NULL;
}

static int score(const struct topology *t, const struct topology *wanted)
{
    return (wanted->sockets && t->sockets == wanted->sockets) +
           (wanted->cores && t->cores == wanted->cores) +
           (wanted->threads && t->threads == wanted->threads);
}

/* Closer to what is wanted; else fewer threads, then more sockets. */
static bool is_better(const struct topology *t, const struct topology *than,
                      const struct topology *wanted)
{
    if (score(t, wanted) != score(than, wanted)) {
        return score(t, wanted) > score(than, wanted);
    }
    if (t->sockets * t->cores != than->sockets * than->cores) {
        return t->sockets * t->cores > than->sockets * than->cores;
    }
    return t->sockets > than->sockets;
}

/* nova/virt/hardware.py get_best_cpu_topology */
static struct err *best_topology(const struct guest_build *b, struct topology *ret)
{
    int64_t vcpus = flavor_vcpus(b->flavor);
    struct topology wanted = {0}, max = {0};
    bool is_found = false;

    TRY(constraints(b, &wanted, &max));
    for (int64_t s = 1; s <= MIN(vcpus, max.sockets); s++) {
        for (int64_t c = 1; vcpus % s == 0 && c <= MIN(vcpus / s, max.cores); c++) {
            struct topology t = {s, c, vcpus / s / c};

            if (s * c * t.threads != vcpus || t.threads > max.threads) {
                continue;
            }
            if (!is_found || is_better(&t, ret, &wanted)) {
                *ret = t;
            }
            is_found = true;
        }
    }
    return is_found ? NULL
                    : err_msg(ERR_VCPU_LIMITS_IMPOSSIBLE,
                              "%lld CPUs cannot be had within hw:cpu_max_sockets=%lld, "
                              "hw:cpu_max_cores=%lld, hw:cpu_max_threads=%lld (65536: not set)",
                              (long long)vcpus, (long long)max.sockets, (long long)max.cores,
                              (long long)max.threads);
}

/* ---- Model and features ---- */

/* The name in the case that libvirt writes it. */
static struct err *model_of(const struct guest_build *b, const char *name, const char **ret)
{
    const struct strv *models = &b->s->host->cpu_models;

    for (size_t i = 0; i < models->n; i++) {
        if (str_ieq(models->items[i], name)) {
            *ret = models->items[i];
            return NULL;
        }
    }
    return err_msg(ERR_INVALID_CPU_INFO, "[libvirt]cpu_models has '%s', which is no model here",
                   name);
}

/* The feature that a trait stands for, or NULL.  Nova's table back from traits to features leaves
 * out the two features that stand for two traits. */
static const char *feature_of_trait(const char *trait)
{
    static const struct {
        const char *feature, *trait;
    } features[] = {
#define TRAIT_CPU(feature, trait) {feature, #trait},
#define TRAIT_BUS(...)
#define TRAIT_VIDEO(...)
#define TRAIT_VIF(...)
#define TRAIT_IMAGE(...)
#define TRAIT_IF(...)
#include "driver/libvirt/traits.def"
#undef TRAIT_CPU
#undef TRAIT_BUS
#undef TRAIT_VIDEO
#undef TRAIT_VIF
#undef TRAIT_IMAGE
#undef TRAIT_IF
    };

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        if (str_eq(features[i].trait, trait) && !str_eq(features[i].feature, "vmx") &&
            !str_eq(features[i].feature, "svm")) {
            return features[i].feature;
        }
    }
    return NULL;
}

/* "trait:NAME" or "traitN:NAME" of an extra spec: the name, else NULL. */
static const char *trait_of_spec(const char *spec)
{
    if (!str_starts(spec, "trait")) {
        return NULL;
    }
    spec += strlen("trait");
    spec += strspn(spec, "0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ-");
    return *spec == ':' ? spec + 1 : NULL;
}

static void required_features(const struct guest_build *b, struct strv *ret)
{
    for (size_t i = 0; flavor_has_extra_specs(b->flavor) && i < flavor_n_extra_specs(b->flavor);
         i++) {
        const char *spec, *value;

        flavor_extra_specs_at(b->flavor, i, &spec, &value);
        const char *trait = trait_of_spec(spec);
        const char *feature = trait && str_eq(value, "required") ? feature_of_trait(trait) : NULL;

        if (feature) {
            strv_add(ret, feature);
        }
    }
}

static bool has_features(const struct guest_build *b, const char *model, const struct strv *wanted)
{
    const struct guest_host *h = b->s->host;

    for (size_t i = 0; i < h->n_features; i++) {
        size_t n = 0;

        while (n < wanted->n && strv_has(&h->features[i].features, wanted->items[n])) {
            n++;
        }
        if (str_ieq(h->features[i].model, model) && n == wanted->n) {
            return true;
        }
    }
    return false;
}

/* The first of the models that has what the flavor's traits ask for. */
static struct err *custom_model(const struct guest_build *b, const char **ret)
{
    const struct strv *models = &b->conf->libvirt.cpu_models;
    CLEANUP(strv_fini) struct strv wanted = {0};

    required_features(b, &wanted);
    for (size_t i = 0; i < models->n; i++) {
        if (!wanted.n || has_features(b, models->items[i], &wanted)) {
            return model_of(b, models->items[i], ret);
        }
    }
    CLEANUP(freep) char *features = strv_join(&wanted, ", ");

    return models->n ? err_msg(ERR_INVALID_CPU_INFO,
                               "none of [libvirt]cpu_models has what the flavor's traits ask for: "
                               "%s",
                               features)
                     : err_msg(ERR_CONFIG, "[libvirt]cpu_mode custom needs cpu_models");
}

/* ---- All of it ---- */

struct cpu {
    const char *mode;  /* NULL: libvirt's default. */
    const char *model; /* NULL: the mode says. */
    struct topology topology;
    struct strv features; /* Sorted. */
    struct strv off;      /* Those of them that the guest must not have. */
};

/* "+name", "name" or "-name" */
static void read_flags(const struct conf *conf, struct cpu *ret)
{
    for (size_t i = 0; i < conf->libvirt.cpu_model_extra_flags.n; i++) {
        CLEANUP(freep) char *flag = str_dup(conf->libvirt.cpu_model_extra_flags.items[i]);
        const char *name = flag + strspn(flag, *flag == '-' ? "-" : "+");

        for (char *c = flag; *c; c++) {
            *c = (char)tolower((unsigned char)*c);
        }
        if (*name && !strv_has(&ret->features, name)) {
            strv_add(&ret->features, name);
            if (*flag == '-') {
                strv_add(&ret->off, name);
            }
        }
    }
    strv_sort(&ret->features);
}

/* nova/virt/libvirt/driver.py _get_guest_cpu_model_config, _get_guest_cpu_config */
static struct err *read_cpu(const struct guest_build *b, struct cpu *ret)
{
    const char *mode = b->conf->libvirt.cpu_mode ? b->conf->libvirt.cpu_mode : "host-model";

    TRY(best_topology(b, &ret->topology));
    if (str_eq(mode, "none")) {
        return NULL;
    }
    ret->mode = str_eq(b->arch, "x86_64") ? mode : NULL; /* Emulated ones have QEMU's default. */
    if (str_eq(mode, "custom")) {
        TRY(custom_model(b, &ret->model));
    }
    read_flags(b->conf, ret);
    return NULL;
}

static void cpu_fini(struct cpu *c)
{
    strv_fini(&c->features);
    strv_fini(&c->off);
}

static const char *policy_of(const struct cpu *c, const char *feature)
{
    return strv_has(&c->off, feature) ? "disable" : "require";
}

struct err *guest_add_cpu(struct guest_build *b)
{
    CLEANUP(cpu_fini) struct cpu c = {0};
    struct xb_node *cpu, *topology;

    TRY(read_cpu(b, &c));
    cpu = xb_add_with(b->root, "cpu", "mode", c.mode, "match", "exact", NULL);
    if (c.model) {
        xb_add_text(cpu, "model", c.model);
    }
    topology = xb_add(cpu, "topology");
    xb_set_attr_int(topology, "sockets", c.topology.sockets);
    xb_set_attr_int(topology, "cores", c.topology.cores);
    xb_set_attr_int(topology, "threads", c.topology.threads);
    for (size_t i = 0; i < c.features.n; i++) {
        const char *name = c.features.items[i];

        xb_add_with(cpu, "feature", "name", name, "policy", policy_of(&c, name), NULL);
    }
    guest_add_cpu_cells(b, cpu);
    return NULL;
}

struct err *guest_vcpu_model(const struct guest_spec *s, struct virt_cpu_model **ret)
{
    bool is_old_rescue = s->rescue && !disk_layout_is_stable_rescue(s->rescue);
    struct guest_build b = {.s = s,
                            .conf = s->conf,
                            .inst = s->inst,
                            .flavor = instance_flavor(s->inst),
                            .image = is_old_rescue ? s->rescue : s->image};
    CLEANUP(cpu_fini) struct cpu c = {0};
    struct virt_cpu_topology *topology = virt_cpu_topology_new();
    CLEANUP(virt_cpu_model_freep) struct virt_cpu_model *m = virt_cpu_model_new();

    virt_cpu_model_set_topology(m, topology);
    TRY(guest_arch(s->conf, b.image, &b.arch));
    TRY(read_cpu(&b, &c));
    virt_cpu_topology_set_sockets(topology, c.topology.sockets);
    virt_cpu_topology_set_cores(topology, c.topology.cores);
    virt_cpu_topology_set_threads(topology, c.topology.threads);
    virt_cpu_model_set_null_arch(m);
    virt_cpu_model_set_null_vendor(m);
    virt_cpu_model_set_model(m, c.model);
    virt_cpu_model_set_mode(m, c.mode);
    virt_cpu_model_set_match(m, "exact");
    virt_cpu_model_clear_features(m);
    for (size_t i = 0; i < c.features.n; i++) {
        const char *name = c.features.items[i];
        struct virt_cpu_feature *f = virt_cpu_feature_new();

        virt_cpu_feature_set_name(f, name);
        virt_cpu_feature_set_policy(f, policy_of(&c, name));
        virt_cpu_model_features_add(m, f);
    }
    *ret = TAKE(m);
    return NULL;
}

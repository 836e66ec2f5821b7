#include "driver/libvirt/host_cpu.h"

#include "base/jv.h"
#include "driver/libvirt/host.h"

#include <string.h>

/* A CPU for libvirt.  All borrowed; NULL leaves an element out. */
struct cpu {
    const char *arch, *model, *vendor;
    const char *mode, *match; /* Of guests only: with 'match' libvirt reads a guest's CPU. */
    const struct strv *features;
    const struct strv *policies; /* Of the features, one each; guests only. */
};

static struct err *cpu_text(const struct cpu *c, char **ret)
{
    const struct {
        const char *name, *text;
    } elements[] = {{"arch", c->arch}, {"model", c->model}, {"vendor", c->vendor}};
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY(xb_parse("<cpu/>", &doc));
    xb_set_attr(xb_root(doc), "mode", c->mode);
    xb_set_attr(xb_root(doc), "match", c->match);
    for (size_t i = 0; i < ARRAY_SIZE(elements); i++) {
        if (elements[i].text) {
            xb_set_content(xb_add(xb_root(doc), elements[i].name), elements[i].text);
        }
    }
    for (size_t i = 0; i < c->features->n; i++) {
        struct xb_node *f = xb_add(xb_root(doc), "feature");

        xb_set_attr(f, "name", c->features->items[i]);
        xb_set_attr(f, "policy", c->policies ? c->policies->items[i] : NULL);
    }
    *ret = xb_text(doc);
    return NULL;
}

/* ---- Features ---- */

static void add_features(struct xb_node *cpu, struct strv *ret)
{
    for (struct xb_node *n = xb_first(cpu, "feature"); n; n = xb_next(n, "feature")) {
        CLEANUP(freep) char *name = xb_attr(n, "name");

        if (name && !xb_attr_is(n, "policy", "disable") && !strv_has(ret, name)) {
            strv_add(ret, name);
        }
    }
}

/* *ret_doc is NULL if libvirt has no models for this architecture. */
static struct err *expand(struct lv_conn *conn, const struct cpu *cpu, struct xb_doc **ret_doc)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *expanded = NULL;

    TRY(cpu_text(cpu, &xml));
    CLEANUP(err_freep) struct err *e = lv_expand_cpu(conn, xml, &expanded);

    *ret_doc = NULL;
    if (e && str_eq(err_get(e, "name"), "VIR_ERR_NO_SUPPORT")) {
        return NULL;
    }
    TRY(TAKE(e));
    return xb_parse(expanded, ret_doc);
}

struct err *host_cpu_features(struct lv_conn *conn, struct xb_node *caps, struct strv *ret)
{
    struct xb_node *node = xb_find(caps, "host/cpu");
    CLEANUP(freep) char *arch = xb_content_at(node, "arch");
    CLEANUP(freep) char *model = xb_content_at(node, "model");
    CLEANUP(freep) char *vendor = xb_content_at(node, "vendor");
    CLEANUP(strv_fini) struct strv listed = {0};
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    add_features(node, &listed);
    /* Nova does not ask for AArch64, where the answer has no features. */
    if (model && !str_eq(arch, "aarch64")) {
        const struct cpu cpu = {
            .arch = arch, .model = model, .vendor = vendor, .features = &listed};

        TRY_CTX(expand(conn, &cpu, &doc), "asking libvirt for the features of the host's CPU");
    }
    add_features(doc ? xb_root(doc) : node, ret);
    strv_sort(ret);
    return NULL;
}

struct err *host_cpu_add_model(struct lv_conn *conn, struct xb_node *caps, const char *model,
                               struct strv *ret)
{
    struct xb_node *node = xb_find(caps, "host/cpu");
    CLEANUP(freep) char *arch = xb_content_at(node, "arch");
    CLEANUP(freep) char *vendor = xb_content_at(node, "vendor");
    const struct strv none = {0};
    const struct cpu cpu = {.arch = arch, .model = model, .vendor = vendor, .features = &none};
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY_CTX(expand(conn, &cpu, &doc), "asking libvirt for the features of CPU model %s", model);
    if (doc) {
        add_features(xb_root(doc), ret);
    }
    return NULL;
}

/* ---- ComputeNode.cpu_info ---- */

/* A number of an element, or null as Nova has it when libvirt does not tell. */
static void add_number(struct json_object *to, const char *key, struct xb_node *from)
{
    CLEANUP(freep) char *text = from ? xb_attr(from, key) : NULL;
    int64_t n;

    jv_add(to, key, text && str_to_i64(text, &n) ? json_object_new_int64(n) : NULL);
}

char *host_cpu_info(struct xb_node *caps, const struct strv *features)
{
    struct xb_node *cpu = xb_find(caps, "host/cpu"), *topology = xb_first(cpu, "topology");
    static const char *const texts[] = {"arch", "model", "vendor"};
    static const char *const numbers[] = {"sockets", "cores", "threads"};
    CLEANUP(jv_putp) struct json_object *info = json_object_new_object();
    struct json_object *counts = json_object_new_object();
    struct json_object *names = json_object_new_array();
    int64_t n_cells = 0;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(freep) char *text = xb_content_at(cpu, texts[i]);

        jv_add_str(info, texts[i], text);
    }
    for (struct xb_node *c = xb_find(caps, "host/topology/cells/cell"); c; c = xb_next(c, "cell")) {
        n_cells++;
    }
    jv_add_int(counts, "cells", n_cells ? n_cells : 1);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        add_number(counts, numbers[i], topology);
    }
    jv_add(info, "topology", counts);
    for (size_t i = 0; i < features->n; i++) {
        json_object_array_add(names, jv_new_str(features->items[i]));
    }
    jv_add(info, "features", names);
    return jv_text(info);
}

/* ---- Comparing ---- */

struct err *host_cpu_xml(const char *cpu_info_json, char **ret)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;
    CLEANUP(strv_fini) struct strv features = {0};

    if (str_is_empty(cpu_info_json)) {
        return err_new(ERR_INVALID_CPU_INFO, "reason", "the source tells nothing of its CPU", NULL);
    }
    TRY(jv_parse(cpu_info_json, strlen(cpu_info_json), &info));
    struct jv_reader r = jv_reader_init(info, "cpu_info");
    const struct cpu cpu = {
        .arch = jv_str(&r, "arch"),
        .model = jv_str_or(&r, "model", NULL),
        .vendor = jv_str_or(&r, "vendor", NULL),
        .features = &features,
    };
    struct json_object *list = jv_arr_or(&r, "features");

    TRY(jv_finish(&r));
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(list, i));

        strv_add(&features, name ? name : "");
    }
    return cpu_text(&cpu, ret);
}

struct err *host_cpu_model_xml(const struct virt_cpu_model *m, char **ret)
{
    CLEANUP(strv_fini) struct strv features = {0}, policies = {0};
#define GET(field) (virt_cpu_model_has_##field(m) ? virt_cpu_model_##field(m) : NULL)
    const struct cpu cpu = {
        .arch = GET(arch),
        .model = GET(model),
        .vendor = GET(vendor),
        .mode = GET(mode),
        .match = GET(match) ? GET(match) : "exact",
        .features = &features,
        .policies = &policies,
    };
#undef GET

    for (size_t i = 0; virt_cpu_model_has_features(m) && i < virt_cpu_model_n_features(m); i++) {
        struct virt_cpu_feature *f = virt_cpu_model_features_at(m, i);
        const char *policy = virt_cpu_feature_has_policy(f) ? virt_cpu_feature_policy(f) : NULL;

        if (virt_cpu_feature_has_name(f)) {
            strv_add(&features, virt_cpu_feature_name(f));
            strv_add(&policies, policy ? policy : "require");
        }
    }
    return cpu_text(&cpu, ret);
}

/* Names of the features that a CPU needs and the host's does not have; "" if that cannot be told.
 */
static struct err *lacking(struct lv_conn *conn, struct xb_node *caps, const char *cpu_xml,
                           char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *cpu = NULL;
    CLEANUP(strv_fini) struct strv have = {0}, missing = {0};

    TRY(xb_parse(cpu_xml, &cpu));
    TRY(host_cpu_features(conn, caps, &have));
    for (struct xb_node *n = xb_first(xb_root(cpu), "feature"); n; n = xb_next(n, "feature")) {
        CLEANUP(freep) char *name = xb_attr(n, "name");
        CLEANUP(freep) char *policy = xb_attr(n, "policy");
        bool is_needed = !policy || str_eq(policy, "require") || str_eq(policy, "force");

        if (is_needed && !strv_has(&have, name)) {
            strv_add(&missing, name);
        }
    }
    *ret = strv_join(&missing, ", ");
    return NULL;
}

static struct err *incompatible(struct lv_conn *conn, struct xb_node *caps, const char *cpu_xml,
                                const char *why)
{
    CLEANUP(freep) char *features = NULL;

    err_free(lacking(conn, caps, cpu_xml, &features)); /* Only says more; may be libvirt again. */
    CLEANUP(freep)
    char *reason = str_printf("CPU doesn't have compatibility. %s%s%s%s", why,
                              str_is_empty(features) ? "" : " This host's CPU lacks: ",
                              features ? features : "", str_is_empty(features) ? "" : ".");

    return err_new(ERR_INVALID_CPU_INFO, "reason", reason, NULL);
}

struct err *host_compare_cpu(struct lv_conn *conn, const char *cpu_xml)
{
    CLEANUP(freep) char *caps_xml = NULL, *arch = NULL, *own = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    int result = 0;

    TRY(lv_capabilities(conn, &caps_xml));
    TRY_CTX(xb_parse(caps_xml, &doc), "reading libvirt's capabilities");
    struct xb_node *caps = xb_root(doc);

    arch = xb_content_at(caps, "host/cpu/arch");
    if (str_eq(arch, "aarch64")) {
        own = xb_node_text(xb_find(caps, "host/cpu")); /* All that libvirt compares there. */
        cpu_xml = own;
    }
    CLEANUP(err_freep) struct err *e = lv_compare_cpu(conn, cpu_xml, &result);

    if (e && str_eq(err_get(e, "name"), "VIR_ERR_NO_SUPPORT")) {
        return NULL; /* Nova goes on too. */
    }
    if (e && !err_is(e, ERR_LIBVIRT)) {
        return TAKE(e);
    }
    return !e && result > 0 ? NULL : incompatible(conn, caps, cpu_xml, e ? err_message(e) : "");
}

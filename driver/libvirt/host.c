#include "driver/libvirt/host.h"

#include "base/fs.h"
#include "base/log.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/host_traits.h"
#include "driver/libvirt/xb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utmpx.h>

/* Zed's minimum versions (nova/virt/libvirt/driver.py MIN_LIBVIRT_VERSION, MIN_QEMU_VERSION). */
#define MIN_LIBVIRT 6000000
#define MIN_QEMU    4002000

static int64_t attr_i64(struct xb_node *n, const char *attr, int64_t def)
{
    CLEANUP(freep) char *text = xb_attr(n, attr);
    int64_t value;

    return text && str_to_i64(text, &value) ? value : def;
}

static int64_t content_i64(struct xb_node *n)
{
    CLEANUP(freep) char *text = xb_content(n);
    int64_t value;

    return text && str_to_i64(text, &value) ? value : 0;
}

/* ---- CPU ---- */

static struct json_object *cpu_topology(const struct lv_node_info *ni)
{
    struct json_object *o = json_object_new_object();

    jv_add_int(o, "cells", ni->nodes);
    jv_add_int(o, "sockets", ni->sockets);
    jv_add_int(o, "cores", ni->cores);
    jv_add_int(o, "threads", ni->threads);
    return o;
}

static char *cpu_info(struct xb_node *caps, const struct lv_node_info *ni)
{
    CLEANUP(jv_putp) struct json_object *o = json_object_new_object();
    struct json_object *features = json_object_new_array();
    struct xb_node *cpu = xb_find(caps, "host/cpu");
    CLEANUP(freep) char *arch = xb_content_at(cpu, "arch");
    CLEANUP(freep) char *model = xb_content_at(cpu, "model");
    CLEANUP(freep) char *vendor = xb_content_at(cpu, "vendor");
    struct xb_node *topology = xb_first(cpu, "topology");

    jv_add_str(o, "arch", arch);
    jv_add_str(o, "model", model);
    jv_add_str(o, "vendor", vendor);
    struct json_object *t = cpu_topology(ni);

    jv_add_int(t, "sockets", attr_i64(topology, "sockets", ni->sockets));
    jv_add_int(t, "cores", attr_i64(topology, "cores", ni->cores));
    jv_add_int(t, "threads", attr_i64(topology, "threads", ni->threads));
    jv_add(o, "topology", t);
    for (struct xb_node *n = xb_first(cpu, "feature"); n; n = xb_next(n, "feature")) {
        CLEANUP(freep) char *name = xb_attr(n, "name");

        json_object_array_add(features, jv_new_str(name));
    }
    jv_add(o, "features", features);
    return jv_text(o);
}

/* [[arch, hv_type, vm_mode], ...]: each guest of the capabilities with each of its domains. */
static struct json_object *hv_specs(struct xb_node *caps)
{
    struct json_object *list = json_object_new_array();

    for (struct xb_node *g = xb_first(caps, "guest"); g; g = xb_next(g, "guest")) {
        CLEANUP(freep) char *mode = xb_content_at(g, "os_type");
        CLEANUP(freep) char *arch = xb_attr_at(g, "arch", "name");

        for (struct xb_node *d = xb_find(g, "arch/domain"); d; d = xb_next(d, "domain")) {
            CLEANUP(freep) char *type = xb_attr(d, "type");
            struct json_object *spec = json_object_new_array();

            json_object_array_add(spec, jv_new_str(arch));
            json_object_array_add(spec, jv_new_str(type));
            json_object_array_add(spec, jv_new_str(mode));
            json_object_array_add(list, spec);
        }
    }
    return list;
}

/* ---- NUMA ---- */

static size_t count(struct xb_node *first, const char *name)
{
    size_t n = 0;

    for (; first; first = xb_next(first, name)) {
        n++;
    }
    return n;
}

static int64_t reserved_pages(const struct conf *conf, int cell, int64_t size_kb)
{
    for (size_t i = 0; i < conf->dflt.reserved_huge_pages.n; i++) {
        const struct conf_dict *d = &conf->dflt.reserved_huge_pages.items[i];
        int64_t node = -1, size = -1, n = 0;

        for (size_t k = 0; k < d->keys.n; k++) {
            int64_t *to = str_eq(d->keys.items[k], "node")    ? &node
                          : str_eq(d->keys.items[k], "size")  ? &size
                          : str_eq(d->keys.items[k], "count") ? &n
                                                              : NULL;
            char *end = NULL;
            int64_t value = strtoll(d->values.items[k], &end, 10);

            if (to) {
                /* "2MB", "1GB" or KiB. */
                *to = str_starts(end, "M")   ? value << 10
                      : str_starts(end, "G") ? value << 20
                                             : value;
            }
        }
        if (node == cell && size == size_kb) {
            return n;
        }
    }
    return 0;
}

static void read_pages(struct xb_node *cell, const struct conf *conf, struct host_cell *ret)
{
    struct xb_node *first = xb_first(cell, "pages");

    ret->pages = NEW_ARRAY(struct host_page_size, count(first, "pages"));
    for (struct xb_node *p = first; p; p = xb_next(p, "pages")) {
        struct host_page_size *page = &ret->pages[ret->n_pages++];

        page->size_kb = attr_i64(p, "size", 0);
        page->total = content_i64(p);
        page->reserved = reserved_pages(conf, ret->id, page->size_kb);
    }
}

static bool has_set(const struct host_cell *cell, const struct cpuset *set)
{
    for (size_t i = 0; i < cell->n_siblings; i++) {
        if (cpuset_eq(&cell->siblings[i], set)) {
            return true;
        }
    }
    return false;
}

static struct err *read_cpus(struct xb_node *cell, struct host_cell *ret)
{
    struct xb_node *first = xb_find(cell, "cpus/cpu");
    bool is_first = true;

    ret->siblings = NEW_ARRAY(struct cpuset, count(first, "cpu"));
    for (struct xb_node *c = first; c; c = xb_next(c, "cpu")) {
        CLEANUP(freep) char *siblings = xb_attr(c, "siblings");
        CLEANUP(cpuset_fini) struct cpuset set = {0};
        int socket = (int)attr_i64(c, "socket_id", -1);

        cpuset_add(&ret->cpus, (unsigned)attr_i64(c, "id", 0));
        ret->socket = is_first || ret->socket == socket ? socket : -1;
        is_first = false;
        if (!siblings) {
            continue;
        }
        TRY_CTX(cpuset_parse(siblings, &set), "reading the siblings of a CPU");
        if (!has_set(ret, &set)) {
            ret->siblings[ret->n_siblings++] = cpuset_dup(&set);
        }
    }
    return NULL;
}

static struct err *read_cells(struct xb_node *caps, const struct conf *conf, struct host_facts *ret)
{
    struct xb_node *first = xb_find(caps, "host/topology/cells/cell");

    ret->cells = NEW_ARRAY(struct host_cell, count(first, "cell"));
    for (struct xb_node *n = first; n; n = xb_next(n, "cell")) {
        struct host_cell *cell = &ret->cells[ret->n_cells++];

        cell->id = (int)attr_i64(n, "id", 0);
        cell->memory_mib = content_i64(xb_first(n, "memory")) / 1024;
        read_pages(n, conf, cell);
        TRY(read_cpus(n, cell));
    }
    return NULL;
}

/* ---- CPUs for guests ---- */

static struct err *configured(const char *text, const struct cpuset *online, const char *option,
                              struct cpuset *ret)
{
    CLEANUP(cpuset_fini) struct cpuset set = {0};

    TRY_CTX(cpuset_parse(text, &set), "reading %s", option);
    *ret = cpuset_intersect(&set, online);
    return NULL;
}

/* nova/virt/libvirt/driver.py _get_vcpu_available, _get_pcpu_available. */
static struct err *guest_cpus(const struct conf *conf, struct host_facts *ret)
{
    const char *pin_set = conf->dflt.vcpu_pin_set;
    const char *shared = conf->compute.cpu_shared_set;
    const char *dedicated = conf->compute.cpu_dedicated_set;

    if (dedicated) {
        TRY(configured(dedicated, &ret->online, "[compute]cpu_dedicated_set", &ret->dedicated));
    }
    if (pin_set) {
        return configured(pin_set, &ret->online, "[DEFAULT]vcpu_pin_set", &ret->shared);
    }
    if (shared) {
        return configured(shared, &ret->online, "[compute]cpu_shared_set", &ret->shared);
    }
    if (!dedicated) {
        ret->shared = cpuset_dup(&ret->online);
    }
    return NULL;
}

/* ---- All of it ---- */

static struct err *read_host(struct lv_conn *conn, const struct conf *conf, struct host_facts *f)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *online = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct lv_node_info ni;
    unsigned long libvirt, hv;
    int64_t used_gb;

    TRY(lv_hostname(conn, &f->hostname));
    TRY(lv_type(conn, &f->hypervisor_type));
    TRY(lv_versions(conn, &libvirt, &hv));
    f->libvirt_version = (int64_t)libvirt;
    f->hypervisor_version = (int64_t)hv;
    TRY(lv_node_info(conn, &ni));
    TRY(lv_online_cpus(conn, &online));
    TRY(cpuset_parse(online, &f->online));
    TRY(guest_cpus(conf, f));
    f->vcpus = (int64_t)f->shared.n;
    f->memory_mib = conf->libvirt.file_backed_memory > 0 ? conf->libvirt.file_backed_memory
                                                         : (int64_t)(ni.memory_kib / 1024);
    TRY(disk_space(conf, &f->local_gb, &f->free_gb, &used_gb));
    TRY(lv_capabilities(conn, &xml));
    TRY_CTX(xb_parse(xml, &doc), "reading libvirt's capabilities");
    struct xb_node *caps = xb_root(doc);

    f->cpu_info = cpu_info(caps, &ni);
    f->hv_specs = hv_specs(caps);
    TRY(read_cells(caps, conf, f));
    return host_traits(conn, conf, caps, f->libvirt_version, &f->traits, &f->owned_traits);
}

struct err *host_read(struct lv_conn *conn, const struct conf *conf, struct host_facts *ret)
{
    struct host_facts f = {0};
    struct err *e = read_host(conn, conf, &f);

    if (e) {
        host_facts_fini(&f);
        return e;
    }
    *ret = f;
    return NULL;
}

void host_facts_fini(struct host_facts *f)
{
    for (size_t i = 0; i < f->n_cells; i++) {
        struct host_cell *cell = &f->cells[i];

        for (size_t k = 0; k < cell->n_siblings; k++) {
            cpuset_fini(&cell->siblings[k]);
        }
        cpuset_fini(&cell->cpus);
        free(cell->siblings);
        free(cell->pages);
    }
    free(f->cells);
    free(f->hostname);
    free(f->hypervisor_type);
    free(f->cpu_info);
    jv_putp(&f->hv_specs);
    cpuset_fini(&f->online);
    cpuset_fini(&f->shared);
    cpuset_fini(&f->dedicated);
    strv_fini(&f->traits);
    strv_fini(&f->owned_traits);
    *f = (struct host_facts){0};
}

struct err *host_check(struct lv_conn *conn, const struct conf *conf)
{
    unsigned long libvirt, hv;

    TRY(lv_versions(conn, &libvirt, &hv));
    if (libvirt < MIN_LIBVIRT || hv < MIN_QEMU) {
        return err_msg(ERR_CONFIG,
                       "libvirt %lu and QEMU %lu are here, at least 6.0.0 and 4.2.0 are needed",
                       libvirt, hv);
    }
    if (conf->libvirt.live_migration_tunnelled && conf->libvirt.live_migration_with_native_tls) {
        return err_msg(ERR_CONFIG, "[libvirt]live_migration_tunnelled and "
                                   "live_migration_with_native_tls exclude each other");
    }
    return NULL;
}

/* ---- Comparing CPUs ---- */

static struct err *cpu_xml(const char *arch, const char *vendor, const char *model,
                           const struct strv *features, char **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    struct xb_node *cpu;

    if (!model) {
        return err_new(ERR_INVALID_CPU_INFO, "reason", "the source tells no CPU model", NULL);
    }
    TRY(xb_parse("<cpu/>", &doc));
    cpu = xb_root(doc);
    if (arch) {
        xb_set_content(xb_add(cpu, "arch"), arch);
    }
    xb_set_content(xb_add(cpu, "model"), model);
    if (vendor) {
        xb_set_content(xb_add(cpu, "vendor"), vendor);
    }
    for (size_t i = 0; i < features->n; i++) {
        struct xb_node *f = xb_add(cpu, "feature");

        xb_set_attr(f, "name", features->items[i]);
        if (!arch) {
            xb_set_attr(f, "policy", "require");
        }
    }
    *ret = xb_text(doc);
    return NULL;
}

struct err *host_cpu_xml(const char *cpu_info_json, char **ret)
{
    CLEANUP(jv_putp) struct json_object *info = NULL;
    CLEANUP(strv_fini) struct strv features = {0};

    if (!cpu_info_json) {
        return err_new(ERR_INVALID_CPU_INFO, "reason", "the source tells nothing of its CPU", NULL);
    }
    TRY(jv_parse(cpu_info_json, strlen(cpu_info_json), &info));
    struct jv_reader r = jv_reader_init(info, "cpu_info");
    const char *arch = jv_str(&r, "arch");
    const char *model = jv_str_or(&r, "model", NULL);
    const char *vendor = jv_str_or(&r, "vendor", NULL);
    struct json_object *list = jv_arr_or(&r, "features");

    TRY(jv_finish(&r));
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        strv_add(&features, json_object_get_string(json_object_array_get_idx(list, i)));
    }
    return cpu_xml(arch, vendor, model, &features, ret);
}

struct err *host_cpu_model_xml(const struct virt_cpu_model *m, char **ret)
{
    CLEANUP(strv_fini) struct strv features = {0};

    for (size_t i = 0; virt_cpu_model_has_features(m) && i < virt_cpu_model_n_features(m); i++) {
        strv_add(&features, virt_cpu_feature_name(virt_cpu_model_features_at(m, i)));
    }
    return cpu_xml(NULL, virt_cpu_model_has_vendor(m) ? virt_cpu_model_vendor(m) : NULL,
                   virt_cpu_model_model(m), &features, ret);
}

/* Names of the features in a CPU's XML that the host's capabilities do not list. */
static char *lacking(struct lv_conn *conn, const char *wanted_xml)
{
    CLEANUP(freep) char *caps_xml = NULL;
    CLEANUP(xb_freep) struct xb_doc *caps = NULL, *wanted = NULL;
    CLEANUP(strv_fini) struct strv missing = {0};
    CLEANUP(err_freep) struct err *e = lv_capabilities(conn, &caps_xml);

    if (!e) {
        e = xb_parse(caps_xml, &caps);
    }
    if (!e) {
        e = xb_parse(wanted_xml, &wanted);
    }
    if (e) {
        return str_dup("");
    }
    struct xb_node *have = xb_find(xb_root(caps), "host/cpu");

    for (struct xb_node *n = xb_first(xb_root(wanted), "feature"); n; n = xb_next(n, "feature")) {
        CLEANUP(freep) char *name = xb_attr(n, "name");
        struct xb_node *h = xb_first(have, "feature");

        while (h && !xb_attr_is(h, "name", name)) {
            h = xb_next(h, "feature");
        }
        if (!h) {
            strv_add(&missing, name);
        }
    }
    return strv_join(&missing, ", ");
}

struct err *host_compare_cpu(struct lv_conn *conn, const char *wanted_xml)
{
    int result = 0;
    CLEANUP(err_freep) struct err *e = lv_compare_cpu(conn, wanted_xml, &result);

    if (e && str_eq(err_get(e, "name"), "VIR_ERR_NO_SUPPORT")) {
        return NULL; /* Nova goes on too. */
    }
    if (!e && result > 0) {
        return NULL;
    }
    CLEANUP(freep) char *features = lacking(conn, wanted_xml);
    CLEANUP(freep)
    char *reason =
        str_printf("CPU doesn't have compatibility. %s%s%s%s", e ? err_message(e) : "",
                   *features ? " This host's CPU lacks: " : "", features, *features ? "." : "");

    return err_new(ERR_INVALID_CPU_INFO, "reason", reason, NULL);
}

/* ---- Uptime and disks ---- */

static unsigned n_users(void)
{
    unsigned n = 0;

    setutxent();
    for (struct utmpx *u; (u = getutxent());) {
        n += u->ut_type == USER_PROCESS;
    }
    endutxent();
    return n;
}

struct err *host_uptime(char **ret)
{
    CLEANUP(freep) char *up_text = NULL;
    CLEANUP(freep) char *load_text = NULL;
    double up = 0, load[3] = {0};
    time_t now = time(NULL);
    struct tm tm;

    TRY(fs_read_line(&fs_real, "/proc/uptime", &up_text));
    TRY(fs_read_line(&fs_real, "/proc/loadavg", &load_text));
    if (sscanf(up_text, "%lf", &up) != 1 ||
        sscanf(load_text, "%lf %lf %lf", &load[0], &load[1], &load[2]) != 3) {
        return err_msg(ERR_PARSE, "/proc/uptime or /proc/loadavg reads strangely");
    }
    localtime_r(&now, &tm);
    long minutes = (long)up / 60;
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    strbuf_addf(&b, " %02d:%02d:%02d up ", tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (minutes / 1440) {
        strbuf_addf(&b, "%ld day%s, ", minutes / 1440, minutes / 1440 == 1 ? "" : "s");
    }
    if (minutes % 1440 / 60) {
        strbuf_addf(&b, "%2ld:%02ld, ", minutes % 1440 / 60, minutes % 60);
    } else {
        strbuf_addf(&b, "%ld min, ", minutes % 60);
    }
    unsigned users = n_users();

    strbuf_addf(&b, " %u user%s,  load average: %.2f, %.2f, %.2f\n", users, users == 1 ? "" : "s",
                load[0], load[1], load[2]);
    *ret = strbuf_take(&b);
    return NULL;
}

static struct err *over_committed_by(struct lv_conn *conn, const char *uuid, int64_t *bytes)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(jv_putp) struct json_object *info = NULL;
    static const struct strv no_volumes = {0};

    TRY(lv_domain_by_uuid(conn, uuid, &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &guest));
    TRY(disk_info(domain, &guest, &no_volumes, &info));
    *bytes += (int64_t)disk_info_over_committed(info);
    return NULL;
}

struct err *host_disk_over_committed(struct lv_conn *conn, int64_t *ret_bytes)
{
    CLEANUP(strv_fini) struct strv uuids = {0};

    *ret_bytes = 0;
    TRY(lv_domain_uuids(conn, &uuids));
    for (size_t i = 0; i < uuids.n; i++) {
        CLEANUP(err_freep) struct err *e = over_committed_by(conn, uuids.items[i], ret_bytes);

        if (e) {
            log_debug(LOG_LIBVIRT, "disks of %s do not count: %s", uuids.items[i], err_message(e));
        }
    }
    return NULL;
}

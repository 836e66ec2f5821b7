#include "driver/libvirt/host.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "driver/libvirt/disk.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/host_cpu.h"
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

#define STORAGE_TIMEOUT_MS 60000

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

/* ---- What guests can be had ---- */

/* Nova's name of an architecture (nova/objects/fields.py Architecture), NULL if it has none: its
 * services refuse a record with another. */
static const char *nova_arch(const char *arch)
{
    static const char *const names[] = {
        "alpha",  "armv6",  "armv7l", "armv7b",   "aarch64",    "cris",         "i686",
        "ia64",   "lm32",   "m68k",   "mips",     "microblaze", "microblazeel", "mipsel",
        "mips64", "sparc",  "ppc",    "mips64el", "openrisc",   "parisc",       "parisc64",
        "ppcle",  "ppc64",  "s390",   "ppc64le",  "ppcemb",     "s390x",        "sh4",
        "sh4eb",  "x86_64", "xtensa", "sparc64",  "unicore32",  "xtensaeb",
    };

    if (str_ieq(arch, "i386") || str_ieq(arch, "i486") || str_ieq(arch, "i586")) {
        return "i686";
    }
    if (str_ieq(arch, "amd64")) {
        return "x86_64";
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_ieq(arch, names[i])) {
            return names[i];
        }
    }
    return NULL;
}

/* [[arch, hv_type, vm_mode], ...]: each guest of the capabilities with each of its domains. */
static struct json_object *hv_specs(struct xb_node *caps)
{
    struct json_object *list = json_object_new_array();

    for (struct xb_node *g = xb_first(caps, "guest"); g; g = xb_next(g, "guest")) {
        CLEANUP(freep) char *mode = xb_content_at(g, "os_type");
        CLEANUP(freep) char *name = xb_attr_at(g, "arch", "name");
        const char *arch = name ? nova_arch(name) : NULL;

        for (struct xb_node *d = xb_find(g, "arch/domain"); arch && d; d = xb_next(d, "domain")) {
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
    if (!cpuset_is_subset(&set, online)) {
        CLEANUP(freep) char *have = cpuset_text(online);

        return err_msg(ERR_CONFIG, "%s is %s, but only the CPUs %s are online", option, text, have);
    }
    *ret = set;
    set = (struct cpuset){0};
    return NULL;
}

/* nova/virt/libvirt/driver.py _get_vcpu_available, _get_pcpu_available, and what
 * _get_host_numa_topology makes of them. */
static struct err *guest_cpus(const struct conf *conf, struct host_facts *ret)
{
    const char *pin_set = conf->dflt.vcpu_pin_set;
    const char *shared = conf->compute.cpu_shared_set;
    const char *dedicated = conf->compute.cpu_dedicated_set;

    if (!str_is_empty(dedicated)) {
        TRY(configured(dedicated, &ret->online, "[compute]cpu_dedicated_set", &ret->dedicated));
    }
    if (!str_is_empty(pin_set)) {
        TRY(configured(pin_set, &ret->online, "[DEFAULT]vcpu_pin_set", &ret->shared));
    } else if (!str_is_empty(shared)) {
        TRY(configured(shared, &ret->online, "[compute]cpu_shared_set", &ret->shared));
    } else if (str_is_empty(dedicated)) {
        ret->shared = cpuset_dup(&ret->online);
    }
    /* A host without cpu_dedicated_set pins to its shared CPUs, unless it is set up in the new way:
     * then it pins nothing. */
    if (ret->dedicated.n) {
        ret->pinnable = cpuset_dup(&ret->dedicated);
    } else if (str_is_empty(shared) || !str_is_empty(pin_set)) {
        ret->pinnable = cpuset_dup(&ret->shared);
    }
    return NULL;
}

/* ---- Space for disks ---- */

/* Of the pool: what the cluster has, and what the pool can still take with its replication. */
static struct err *rbd_space(const struct conf *conf, uint64_t *ret_total, uint64_t *ret_free)
{
    const char *argv[] = {"ceph", "df", "--format=json", NULL, NULL, NULL, NULL, NULL};
    size_t n = 3;
    CLEANUP(freep) char *out = NULL;
    CLEANUP(jv_putp) struct json_object *df = NULL;

    if (!str_is_empty(conf->libvirt.rbd_user)) {
        argv[n++] = "--id";
        argv[n++] = conf->libvirt.rbd_user;
    }
    if (!str_is_empty(conf->libvirt.images_rbd_ceph_conf)) {
        argv[n++] = "--conf";
        argv[n++] = conf->libvirt.images_rbd_ceph_conf;
    }
    TRY(proc_run(argv, STORAGE_TIMEOUT_MS, &out));
    TRY(jv_parse(out, strlen(out), &df));
    struct jv_reader r = jv_reader_init(df, "ceph df");
    struct json_object *pools = jv_arr(&r, "pools");
    struct json_object *stats = jv_obj(&r, "stats");

    TRY(jv_finish(&r));
    for (size_t i = 0; i < json_object_array_length(pools); i++) {
        struct json_object *pool = json_object_array_get_idx(pools, i);

        if (str_eq(json_object_get_string(jv_get(pool, "name")), conf->libvirt.images_rbd_pool)) {
            *ret_total = (uint64_t)json_object_get_int64(jv_get(stats, "total_bytes"));
            *ret_free = (uint64_t)json_object_get_int64(jv_get(jv_get(pool, "stats"), "max_avail"));
            return NULL;
        }
    }
    return err_msg(ERR_NOT_FOUND, "Ceph has no pool '%s'", conf->libvirt.images_rbd_pool);
}

static struct err *lvm_space(const struct conf *conf, uint64_t *ret_total, uint64_t *ret_free)
{
    const char *vg = conf->libvirt.images_volume_group;
    const char *const argv[] = {
        "vgs", "--noheadings",    "--nosuffix", "--separator", "|", "--units", "b",
        "-o",  "vg_size,vg_free", vg,           NULL};
    CLEANUP(freep) char *out = NULL;

    TRY(proc_run(argv, STORAGE_TIMEOUT_MS, &out));
    CLEANUP(strv_fini) struct strv sizes = strv_split(out, "|\n");

    if (sizes.n != 2 || !str_to_u64(sizes.items[0], ret_total) ||
        !str_to_u64(sizes.items[1], ret_free)) {
        return err_msg(ERR_PARSE, "vgs does not tell the size of volume group %s", vg);
    }
    return NULL;
}

/* Where disks of servers are (nova/virt/libvirt/driver.py _get_local_gb_info). */
static struct err *disk_bytes(const struct conf *conf, uint64_t *ret_total, uint64_t *ret_free)
{
    uint64_t unused;

    if (str_eq(conf->libvirt.images_type, "rbd")) {
        return rbd_space(conf, ret_total, ret_free);
    }
    if (str_eq(conf->libvirt.images_type, "lvm")) {
        return lvm_space(conf, ret_total, ret_free);
    }
    return fs_space(&fs_real, conf->dflt.instances_path, ret_total, &unused, ret_free);
}

/* ---- All of it ---- */

static struct err *read_capabilities(struct lv_conn *conn, const struct conf *conf,
                                     struct host_facts *f)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(strv_fini) struct strv features = {0};

    TRY(lv_capabilities(conn, &xml));
    TRY_CTX(xb_parse(xml, &doc), "reading libvirt's capabilities");
    struct xb_node *caps = xb_root(doc);

    TRY(host_cpu_features(conn, caps, &features));
    f->cpu_info = host_cpu_info(caps, &features);
    f->hv_specs = hv_specs(caps);
    TRY(read_cells(caps, conf, f));
    return host_traits(conn, conf, caps, &features, f->libvirt_version, &f->traits,
                       &f->owned_traits);
}

static struct err *read_host(struct lv_conn *conn, const struct conf *conf, struct host_facts *f)
{
    CLEANUP(freep) char *online = NULL;
    struct lv_node_info ni;
    unsigned long libvirt, hv;
    uint64_t total;

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
    TRY_CTX(disk_bytes(conf, &total, &f->free_bytes), "asking for the space of servers' disks");
    f->local_gb = (int64_t)(total >> 30);
    return read_capabilities(conn, conf, f);
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
    cpuset_fini(&f->pinnable);
    strv_fini(&f->traits);
    strv_fini(&f->owned_traits);
    *f = (struct host_facts){0};
}

/* Inventories and traits that an operator adds by file: we would take them for outdated ones of
 * ours and remove them. */
static void check_provider_config(const char *dir, struct strbuf *b)
{
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(err_freep)
    struct err *e = str_is_empty(dir) ? NULL : fs_list(&fs_real, dir, &names);

    for (size_t i = 0; !e && i < names.n; i++) {
        if (str_ends(names.items[i], ".yaml")) {
            strbuf_addf(b, "provider configuration cannot be had here: %s/%s\n", dir,
                        names.items[i]);
        }
    }
}

/* Everything that is wrong, a line each; "" if nothing is. */
static struct err *problems(struct lv_conn *conn, const struct conf *conf, struct strbuf *b)
{
    const char *images = conf->libvirt.images_type, *virt = conf->libvirt.virt_type;
    unsigned long libvirt, hv;

    TRY(lv_versions(conn, &libvirt, &hv));
    if (libvirt < MIN_LIBVIRT) {
        strbuf_addf(b, "libvirt is %lu, at least 6.0.0 is needed\n", libvirt);
    }
    if (hv < MIN_QEMU) {
        strbuf_addf(b, "QEMU is %lu, at least 4.2.0 is needed\n", hv);
    }
    if (!str_eq(virt, "kvm") && !str_eq(virt, "qemu")) {
        strbuf_addf(b, "[libvirt]virt_type %s cannot be had here\n", virt);
    }
    if (conf->libvirt.live_migration_tunnelled && conf->libvirt.live_migration_with_native_tls) {
        strbuf_add(b,
                   "[libvirt]live_migration_tunnelled and live_migration_with_native_tls exclude "
                   "each other\n");
    }
    if (str_eq(images, "rbd") && !conf->dflt.force_raw_images) {
        strbuf_add(b, "[libvirt]images_type rbd needs [DEFAULT]force_raw_images\n");
    }
    if (str_eq(images, "lvm") && str_is_empty(conf->libvirt.images_volume_group)) {
        strbuf_add(b, "[libvirt]images_type lvm needs images_volume_group\n");
    }
    if (str_eq(conf->libvirt.cpu_mode, "custom") != (conf->libvirt.cpu_models.n > 0)) {
        strbuf_add(b, "[libvirt]cpu_models and cpu_mode custom need each other\n");
    }
    check_provider_config(conf->compute.provider_config_location, b);
    return NULL;
}

struct err *host_check(struct lv_conn *conn, const struct conf *conf)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    TRY(problems(conn, conf, &b));
    return b.len ? err_msg(ERR_CONFIG, "%s", str_strip(b.s)) : NULL;
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
    CLEANUP(strv_fini) struct strv volumes = {0};

    TRY(lv_domain_by_uuid(conn, uuid, &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &guest));
    for (size_t i = 0; i < guest.n_disks; i++) {
        if (guest.disks[i].serial) { /* Nova gives one to volumes only. */
            strv_add(&volumes, guest.disks[i].serial);
        }
    }
    TRY(disk_info(domain, &guest, &volumes, &info));
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

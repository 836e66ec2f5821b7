#include "base/conf_check.h"

#include "base/cpuset.h"

#include <stdio.h>
#include <string.h>

struct check {
    const struct conf *conf;
    char *const *where;
    struct strv *problems;
};

/* Tells what is wrong with the option whose member of struct conf that is. */
static void wrong(struct check *, const void *member, const char *fmt, ...) PRINTF(3, 4);
static void wrong(struct check *c, const void *member, const char *fmt, ...)
{
    size_t offset = (size_t)((const char *)member - (const char *)c->conf);
    CLEANUP(freep) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = str_vprintf(fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < conf_n_opts; i++) {
        if (conf_opts[i].offset == offset) {
            strv_add_take(c->problems, str_printf("%s%s[%s]%s: %s", c->where[i] ? c->where[i] : "",
                                                  c->where[i] ? ": " : "", conf_opts[i].group,
                                                  conf_opts[i].name, text));
        }
    }
}

/* An option that has a number by default cannot be without one. */
static void check_empty_numbers(struct check *c)
{
    for (size_t i = 0; i < conf_n_opts; i++) {
        const char *at = (const char *)c->conf + conf_opts[i].offset;

        if (conf_opts[i].def && ((conf_opts[i].type == CONF_TYPE_INT &&
                                  !conf_is_set_int(*(const int64_t *)(const void *)at)) ||
                                 (conf_opts[i].type == CONF_TYPE_FLOAT &&
                                  !conf_is_set(*(const double *)(const void *)at)))) {
            wrong(c, at, "there must be a number");
        }
    }
}

static void check_absolute(struct check *c, const char *const *member)
{
    if (*member && **member != '/') {
        wrong(c, member, "'%s' is no absolute path", *member);
    }
}

static void check_paths(struct check *c)
{
    check_absolute(c, &c->conf->dflt.state_path);
    check_absolute(c, &c->conf->dflt.instances_path);
    check_absolute(c, &c->conf->libvirt.snapshots_directory);
    check_absolute(c, &c->conf->novashim.journal_path);
    check_absolute(c, &c->conf->novashim.control_socket);
}

/* Reads a set of CPUs, which may be unset but not empty. */
static struct cpuset read_cpus(struct check *c, const char *const *member)
{
    struct cpuset set = {0};
    CLEANUP(err_freep) struct err *e = NULL;

    if (str_is_empty(*member)) {
        return set;
    }
    e = cpuset_parse(*member, &set);
    if (e) {
        wrong(c, member, "%s", err_message(e));
    } else if (set.n == 0) {
        wrong(c, member, "there is no CPU in '%s'", *member);
    }
    return set;
}

static void check_cpus(struct check *c)
{
    const struct conf *conf = c->conf;
    CLEANUP(cpuset_fini) struct cpuset pinned = read_cpus(c, &conf->dflt.vcpu_pin_set);
    CLEANUP(cpuset_fini) struct cpuset shared = read_cpus(c, &conf->compute.cpu_shared_set);
    CLEANUP(cpuset_fini) struct cpuset dedicated = read_cpus(c, &conf->compute.cpu_dedicated_set);
    CLEANUP(cpuset_fini) struct cpuset both = cpuset_intersect(&shared, &dedicated);
    CLEANUP(freep) char *text = cpuset_text(&both);

    if (pinned.n && dedicated.n) {
        wrong(c, &conf->dflt.vcpu_pin_set, "cannot be had with [compute]cpu_dedicated_set");
    } else if (both.n && !pinned.n) {
        wrong(c, &conf->compute.cpu_dedicated_set, "CPUs %s are in cpu_shared_set too", text);
    }
    if (!pinned.n && (shared.n || dedicated.n) && conf->dflt.reserved_host_cpus > 0) {
        wrong(c, &conf->dflt.reserved_host_cpus,
              "cannot be had with [compute]cpu_shared_set or cpu_dedicated_set");
    }
}

static void check_guests(struct check *c)
{
    const struct conf_libvirt *lv = &c->conf->libvirt;
    bool is_custom = str_eq(lv->cpu_mode, "custom");
    bool is_qemu = str_eq(lv->virt_type, "kvm") || str_eq(lv->virt_type, "qemu");

    if (!is_qemu) {
        wrong(c, &lv->virt_type, "only kvm and qemu can be had here");
    }
    if (!str_is_empty(c->conf->dflt.compute_driver) &&
        !str_ends(c->conf->dflt.compute_driver, "libvirt.LibvirtDriver")) {
        wrong(c, &c->conf->dflt.compute_driver, "only libvirt.LibvirtDriver can be had here");
    }
    if (is_custom && lv->cpu_models.n == 0) {
        wrong(c, &lv->cpu_mode, "custom needs cpu_models");
    }
    if (!is_custom && lv->cpu_models.n > 0) {
        wrong(c, &lv->cpu_models, "needs cpu_mode = custom");
    }
    if (str_eq(lv->images_type, "lvm") && str_is_empty(lv->images_volume_group)) {
        wrong(c, &lv->images_type, "lvm needs images_volume_group");
    }
    if (str_eq(lv->images_type, "ploop")) {
        wrong(c, &lv->images_type, "ploop cannot be had here");
    }
    if (lv->file_backed_memory > 0 && c->conf->dflt.ram_allocation_ratio != 1) {
        wrong(c, &lv->file_backed_memory, "needs ram_allocation_ratio = 1");
    }
    if (lv->file_backed_memory > 0 &&
        c->conf->dflt.reserved_host_memory_mb >= lv->file_backed_memory) {
        wrong(c, &lv->file_backed_memory, "must be more than reserved_host_memory_mb");
    }
}

static void check_migration(struct check *c)
{
    const struct conf_libvirt *lv = &c->conf->libvirt;
    const char *place = lv->live_migration_uri ? strstr(lv->live_migration_uri, "%s") : NULL;

    if (lv->live_migration_tunnelled && lv->live_migration_with_native_tls) {
        wrong(c, &lv->live_migration_tunnelled,
              "cannot be had with live_migration_with_native_tls");
    }
    if (!str_is_empty(lv->live_migration_uri) && (!place || strstr(place + 2, "%s"))) {
        wrong(c, &lv->live_migration_uri, "needs one %%s for the host");
    }
    if (lv->live_migration_bandwidth < 0 && conf_is_set_int(lv->live_migration_bandwidth)) {
        wrong(c, &lv->live_migration_bandwidth, "is negative");
    }
}

static void check_consoles(struct check *c)
{
    const char *range = c->conf->serial_console.port_range;
    unsigned first, last;

    if (c->conf->serial_console.enabled &&
        (sscanf(range, "%u:%u", &first, &last) != 2 || first >= last || last > 65536)) {
        wrong(c, &c->conf->serial_console.port_range, "'%s' is no range of ports", range);
    }
}

static void check_messaging(struct check *c)
{
    const struct conf_oslo_messaging_rabbit *rabbit = &c->conf->oslo_messaging_rabbit;

    if (rabbit->rabbit_quorum_queue && rabbit->rabbit_ha_queues) {
        wrong(c, &rabbit->rabbit_quorum_queue, "cannot be had with rabbit_ha_queues");
    }
    if (!str_is_empty(rabbit->kombu_compression)) {
        wrong(c, &rabbit->kombu_compression, "no compression can be had here");
    }
}

static void require(struct check *c, const char *const *member, const char *other)
{
    if (str_is_empty(*member) && str_is_empty(other)) {
        wrong(c, member, "is missing");
    }
}

/* Who authenticates by password must say everything. */
static void check_client(struct check *c, const struct conf_client *client)
{
    const char *type = client->auth_type;

    if (!str_eq(type, "none") && !str_eq(type, "admin_token")) {
        require(c, &client->auth_url, NULL);
    }
    if (str_eq(type, "password") || str_eq(type, "v3password")) {
        require(c, &client->username, client->user_id);
        require(c, &client->password, NULL);
    }
    if (str_eq(type, "v3applicationcredential")) {
        require(c, &client->application_credential_id, client->application_credential_name);
        require(c, &client->application_credential_secret, NULL);
    }
}

static void check_services(struct check *c)
{
    static const char *const types[] = {"password",    "v3password", "v3applicationcredential",
                                        "token",       "v3token",    "none",
                                        "admin_token", NULL};
    const struct conf_client *clients[] = {
        &c->conf->placement.client,
        &c->conf->neutron.client,
        &c->conf->cinder.client,
        &c->conf->service_user.client,
    };

    require(c, &c->conf->placement.client.auth_type, NULL);
    require(c, &c->conf->neutron.client.auth_type, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        const char *type = clients[i]->auth_type;
        size_t at = 0;

        while (types[at] && !str_eq(types[at], type)) {
            at++;
        }
        if (!str_is_empty(type) && !types[at]) {
            wrong(c, &clients[i]->auth_type, "'%s' cannot be had here", type);
        } else if (!str_is_empty(type)) {
            check_client(c, clients[i]);
        }
    }
    if (c->conf->service_user.send_service_user_token) {
        require(c, &c->conf->service_user.client.auth_type, NULL);
    }
}

void conf_check(const struct conf *conf, char *const *where, struct strv *ret_problems)
{
    struct check c = {conf, where, ret_problems};

    check_empty_numbers(&c);
    check_paths(&c);
    check_cpus(&c);
    check_guests(&c);
    check_migration(&c);
    check_consoles(&c);
    check_messaging(&c);
    check_services(&c);
}

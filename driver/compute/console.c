#include "driver/compute/console.h"

#include "base/fs.h"
#include "base/log.h"
#include "driver/compute/handlers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LOG (100 * 1024)

/* ---- Output ---- */

const char *console_log_path(const struct guest_info *g, const char *dflt)
{
    static const char *const types[] = {"file", "tcp", "pty"};

    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        for (size_t i = 0; i < g->n_consoles; i++) {
            const struct guest_chardev *c = &g->consoles[i];
            const char *path = str_eq(types[t], "file") ? c->path : c->log;

            if (!str_eq(c->type, types[t])) {
                continue;
            }
            if (path || str_eq(types[t], "pty")) {
                return path ? path : dflt;
            }
        }
    }
    return NULL;
}

/* The last 'max' bytes of a file, put before what is in 'ret'. */
static struct err *prepend_end(int fd, const char *path, size_t max, struct strbuf *ret)
{
    CLEANUP(strbuf_fini) struct strbuf all = {0};
    char chunk[4096];
    struct stat st;
    ssize_t n;

    if (fstat(fd, &st) < 0) {
        return err_errno(errno, "reading '%s'", path);
    }
    off_t at = st.st_size > (off_t)max ? st.st_size - (off_t)max : 0;

    while (all.len < max && (n = pread(fd, chunk, MIN(sizeof chunk, max - all.len), at)) != 0) {
        if (n < 0 && errno != EINTR) {
            return err_errno(errno, "reading '%s'", path);
        }
        if (n > 0) {
            strbuf_add_mem(&all, chunk, (size_t)n);
            at += n;
        }
    }
    strbuf_add_mem(&all, ret->s ? ret->s : "", ret->len);
    strbuf_fini(ret);
    *ret = all;
    all = (struct strbuf){0};
    return NULL;
}

/* The directory is ours, but what libvirt puts there is not: no links, nothing that blocks. */
static int open_log(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    return fd;
}

struct err *console_read_log(const char *path, struct strbuf *ret)
{
    CLEANUP(freep) char *name = str_dup(path);

    for (size_t i = 0; ret->len < MAX_LOG; i++) {
        CLEANUP(closep) int fd = open_log(name);

        if (fd < 0 && errno == ENOENT) {
            return NULL;
        }
        if (fd < 0) {
            return err_errno(errno, "opening '%s'", name);
        }
        TRY(prepend_end(fd, name, MAX_LOG - ret->len, ret));
        free(TAKE(name));
        name = str_printf("%s.%zu", path, i);
    }
    return NULL;
}

/* Python's log.split(b'\n')[-n:] */
const char *console_tail(const char *text, size_t len, int64_t n_lines)
{
    const char *p = n_lines > 0 ? text + len : text;

    if (n_lines == 0) {
        return text + len;
    }
    for (; n_lines > 0 && p > text; p--) {
        if (p[-1] == '\n' && --n_lines == 0) {
            return p;
        }
    }
    for (; n_lines < 0; n_lines++) {
        const char *end = memchr(p, '\n', (size_t)(text + len - p));

        if (!end) {
            return text + len;
        }
        p = end + 1;
    }
    return p;
}

struct json_object *console_text(const char *bytes, size_t len)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)bytes[i] < 0x80) {
            strbuf_addc(&b, bytes[i]);
        } else {
            strbuf_add(&b, "\xef\xbf\xbd");
        }
    }
    return json_object_new_string_len(b.s ? b.s : "", (int)b.len);
}

static struct err *guest_of(struct node *node, const struct instance *inst, struct guest_info *ret)
{
    CLEANUP(lv_domain_freep) struct lv_domain *domain = NULL;
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_by_uuid(node->lv, instance_uuid(inst), &domain));
    TRY(lv_domain_xml(domain, /* is_migratable= */ false, &xml));
    return guest_info_parse(xml, ret);
}

struct err *compute_get_console_output(struct node *node, const struct rctx *ctx,
                                       struct args_get_console_output *a, struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(freep)
    char *dflt =
        str_printf("%s/%s/console.log", conf->dflt.instances_path, instance_uuid(a->instance));
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(strbuf_fini) struct strbuf log = {0};

    (void)ctx;
    TRY(guest_of(node, a->instance, &guest));
    const char *path = console_log_path(&guest, dflt);

    if (!path) {
        return err_new(ERR_CONSOLE_NOT_AVAILABLE, NULL);
    }
    TRY_CTX(console_read_log(path, &log), "reading the console's log");
    const char *text = log.s ? log.s : "";
    const char *from = a->has_tail_length ? console_tail(text, log.len, a->tail_length) : text;

    *ret = console_text(from, log.len - (size_t)(from - text));
    return NULL;
}

/* ---- Opening ---- */

static struct err *unavailable(const char *type)
{
    return err_new(ERR_CONSOLE_TYPE_UNAVAILABLE, "console_type", type, NULL);
}

static struct err *find_graphics(const struct guest_info *g, const char *type, struct console *ret)
{
    for (size_t i = 0; i < g->n_graphics; i++) {
        const struct guest_graphics *s = &g->graphics[i];

        if (str_eq(s->type, type) && s->port && !str_eq(s->port, "-1")) {
            *ret = (struct console){.port = s->port, .tls_port = s->tls_port};
            return NULL;
        }
    }
    return unavailable(type);
}

static const struct guest_chardev *find_listener(const struct guest_chardev *devs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (str_eq(devs[i].type, "tcp") && devs[i].service) {
            return &devs[i];
        }
    }
    return NULL;
}

/* Where there are no <serial> devices, they are <console> devices (s390x). */
static struct err *find_serial(const struct guest_info *g, struct console *ret)
{
    const struct guest_chardev *dev = find_listener(g->serials, g->n_serials);

    dev = dev ? dev : find_listener(g->consoles, g->n_consoles);
    if (!dev) {
        return unavailable("serial");
    }
    *ret = (struct console){.host = dev->host, .port = dev->service};
    return NULL;
}

struct err *console_find(const struct guest_info *g, const char *type, struct console *ret)
{
    if (str_eq(type, "serial")) {
        return find_serial(g, ret);
    }
    return find_graphics(g, str_eq(type, "spice-html5") ? "spice" : "vnc", ret);
}

/* noVNC takes the token out of the path of its web socket only. */
char *console_access_url(const char *base, const char *type, const char *token)
{
    return str_printf("%s?%s%s", base,
                      str_eq(type, "novnc") ? "path=%3Ftoken%3D" : "token=", token);
}

/* What is asked for, and what the site says of it. */
struct console_kind {
    const char *type;
    bool is_enabled;
    const char *host; /* Where proxies reach it; NULL: the guest's XML says so. */
    const char *url;
};

static struct json_object *answer(const struct console_kind *k, const struct console *c,
                                  int64_t port, const char *token)
{
    CLEANUP(freep) char *url = console_access_url(k->url, k->type, token);
    bool is_serial = str_eq(k->type, "serial");
    struct json_object *info = json_object_new_object();

    /* Nova's driver makes a number of a serial port, and leaves the others as libvirt writes them.
     */
    jv_add_str(info, "host", c->host);
    jv_add(info, "port", is_serial ? json_object_new_int64(port) : jv_new_str(c->port));
    jv_add(info, "internal_access_path", NULL);
    if (str_eq(k->type, "spice-html5")) {
        jv_add_str(info, "tlsPort", c->tls_port);
    }
    jv_add_str(info, "token", token);
    jv_add_str(info, "access_url", url);
    return info;
}

static struct err *authorize(struct node *node, const struct rctx *ctx, const struct instance *inst,
                             const struct console_kind *k, const struct console *c,
                             struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(console_auth_token_freep) struct console_auth_token *token = console_auth_token_new();
    int64_t port;

    if (!str_to_i64(c->port, &port)) {
        return err_msg(ERR_PARSE, "'%s' is no port of a console", c->port);
    }
    console_auth_token_set_console_type(token, k->type);
    console_auth_token_set_host(token, c->host);
    console_auth_token_set_port(token, port);
    console_auth_token_set_internal_access_path(token, NULL);
    console_auth_token_set_instance_uuid(token, instance_uuid(inst));
    console_auth_token_set_access_url_base(token, k->url);
    TRY_CTX(console_auth_authorize(node->conductor, ctx, token, conf->consoleauth.token_ttl),
            "storing a token");
    *ret = answer(k, c, port, console_auth_token_token(token));
    return NULL;
}

static struct err *open_console(struct node *node, const struct rctx *ctx,
                                const struct instance *inst, const char *asked_type,
                                const struct console_kind *k, struct json_object **ret)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    struct console console;

    if (!k->is_enabled) {
        return unavailable(asked_type);
    }
    if (!str_eq(asked_type, k->type)) {
        return err_new(ERR_CONSOLE_TYPE_INVALID, "console_type", asked_type, NULL);
    }
    CLEANUP(err_freep) struct err *e = guest_of(node, inst, &guest);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND) && str_eq(instance_vm_state(inst), "building")) {
        return err_new(ERR_INSTANCE_NOT_READY, "instance_id", instance_uuid(inst), NULL);
    }
    TRY(TAKE(e));
    TRY(console_find(&guest, k->type, &console));
    if (k->host) {
        console.host = k->host;
    }
    return authorize(node, ctx, inst, k, &console, ret);
}

struct err *compute_get_vnc_console(struct node *node, const struct rctx *ctx,
                                    struct args_get_vnc_console *a, struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const struct console_kind vnc = {"novnc", conf->vnc.enabled,
                                     conf->vnc.server_proxyclient_address,
                                     conf->vnc.novncproxy_base_url};

    return open_console(node, ctx, a->instance, a->console_type, &vnc, ret);
}

struct err *compute_get_spice_console(struct node *node, const struct rctx *ctx,
                                      struct args_get_spice_console *a, struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const struct console_kind spice = {"spice-html5", conf->spice.enabled,
                                       conf->spice.server_proxyclient_address,
                                       conf->spice.html5proxy_base_url};

    return open_console(node, ctx, a->instance, a->console_type, &spice, ret);
}

struct err *compute_get_serial_console(struct node *node, const struct rctx *ctx,
                                       struct args_get_serial_console *a, struct json_object **ret)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    const struct console_kind serial = {"serial", conf->serial_console.enabled, /* host= */ NULL,
                                        conf->serial_console.base_url};

    return open_console(node, ctx, a->instance, a->console_type, &serial, ret);
}

/* Of other hypervisors: [mks] and [rdp] are off with libvirt. */
struct err *compute_get_mks_console(struct node *node, const struct rctx *ctx,
                                    struct args_get_mks_console *a, struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    return unavailable(a->console_type);
}

struct err *compute_get_rdp_console(struct node *node, const struct rctx *ctx,
                                    struct args_get_rdp_console *a, struct json_object **ret)
{
    (void)node;
    (void)ctx;
    (void)ret;
    return unavailable(a->console_type);
}

struct err *compute_validate_console_port(struct node *node, const struct rctx *ctx,
                                          struct args_validate_console_port *a,
                                          struct json_object **ret)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    struct console console;
    bool is_string = json_object_is_type(a->port, json_type_string);

    (void)ctx;
    if (str_eq(a->console_type, "rdp-html5") || str_eq(a->console_type, "webmks")) {
        return err_msg(ERR_NOT_IMPLEMENTED, "no console of type %s", a->console_type);
    }
    TRY(guest_of(node, a->instance, &guest));
    TRY(console_find(&guest, a->console_type, &console));
    /* Compared as text: whoever asks with a number is not answered yes. */
    *ret =
        json_object_new_boolean(is_string && str_eq(json_object_get_string(a->port), console.port));
    return NULL;
}

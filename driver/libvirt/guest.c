#include "driver/libvirt/guest.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/libvirt/xb.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    POWER_OFF_TRIES = 3,
    POWER_OFF_WAIT_MS = 10000, /* For libvirt to say so after it has killed QEMU. */
    /* A guest that boots does not hear a request to let a device go; it is asked again. */
    DETACH_AGAIN_MS = 5000,
};

static const char *error_name(const struct err *e)
{
    const char *name = err_is(e, ERR_LIBVIRT) ? err_get(e, "name") : NULL;

    return name ? name : "";
}

/* The domain, or NULL if there is none. */
static struct err *find(const struct guest_env *env, const char *uuid, struct lv_domain **ret)
{
    CLEANUP(err_freep) struct err *e = lv_domain_by_uuid(env->lv, uuid, ret);

    if (err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        *ret = NULL;
        return NULL;
    }
    return TAKE(e);
}

static bool is_off(enum lv_state state)
{
    return state == LV_SHUTOFF || state == LV_CRASHED;
}

/* A domain that is gone counts as off. */
static struct err *look(const struct guest_env *env, const char *uuid, bool *ret_is_off)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    enum lv_state state = LV_SHUTOFF;

    TRY(find(env, uuid, &d));
    e = d ? lv_domain_state(d, &state, NULL) : NULL;
    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    *ret_is_off = e || is_off(state);
    return NULL;
}

/* ---- Start and stop ---- */

struct err *guest_start(const struct guest_env *env, const char *xml, bool is_paused,
                        struct lv_domain **ret)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(freep) char *uuid = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *before = NULL;
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    struct err *e;

    TRY(xb_parse(xml, &doc));
    uuid = xb_content_at(xb_root(doc), "uuid");
    if (!uuid) {
        return err_msg(ERR_PARSE, "a domain XML without uuid");
    }
    TRY(find(env, uuid, &before));
    TRY_CTX(lv_define(env->lv, xml, &d), "defining %s", uuid);
    e = lv_domain_start(d, is_paused);
    if (e) {
        if (!before) {
            err_ignore(lv_domain_undefine(d), "undefining a guest that did not start");
        }
        return err_context(e, "starting %s", uuid);
    }
    *ret = TAKE(d);
    return NULL;
}

/* One attempt.  Whatever libvirt answered, what counts is whether the guest is off. */
static struct err *kill_once(const struct guest_env *env, const char *uuid, bool *ret_is_off)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait = lvwatch_expect(env->watch, uuid, LVWATCH_ON(STOPPED), NULL);
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    struct lv_event event;

    TRY(find(env, uuid, &d));
    e = d ? lv_domain_destroy(d) : NULL;
    if (err_is(e, ERR_HYPERVISOR_UNAVAILABLE)) {
        return TAKE(e);
    }
    TRY(look(env, uuid, ret_is_off));
    if (*ret_is_off) {
        return NULL;
    }
    if (!e) {
        err_free(lvwait_wait(wait, clock_ms() + POWER_OFF_WAIT_MS, NULL, &event));
        return look(env, uuid, ret_is_off);
    }
    return TAKE(e);
}

struct err *guest_power_off(const struct guest_env *env, const char *uuid)
{
    CLEANUP(err_freep) struct err *e = NULL;
    CLEANUP(freep) char *why = NULL;

    for (unsigned n = 0; n < POWER_OFF_TRIES; n++) {
        bool is_dead = false;

        err_free(TAKE(e));
        e = kill_once(env, uuid, &is_dead);
        if (err_is(e, ERR_HYPERVISOR_UNAVAILABLE)) {
            return TAKE(e);
        }
        if (!e && is_dead) {
            return NULL;
        }
        log_warning(LOG_LIBVIRT, "guest %s is not off after it was destroyed: %s", uuid,
                    e ? err_message(e) : "it runs again");
    }
    why = e ? err_text(e) : str_dup("it runs again each time it is destroyed");
    return err_new(ERR_INSTANCE_POWER_OFF, "reason", why, NULL);
}

/* A request that fails is no reason to give up: the guest may just have ended. */
static void request_shutdown(const struct guest_env *env, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = find(env, uuid, &d);

    if (!e && d) {
        e = lv_domain_shutdown(d);
    }
    if (e) {
        log_debug(LOG_LIBVIRT, "asking %s to shut down: %s", uuid, err_message(e));
    }
}

/* Until the guest is off or the time is over.  An event that got lost with the connection is made
 * up for by looking, each time the guest is asked again and at the end. */
static struct err *shut_down(const struct guest_env *env, const char *uuid, int64_t timeout_ms,
                             int64_t retry_ms, bool *ret_is_off)
{
    CLEANUP(lvwait_freep)
    struct lvwait *wait =
        lvwatch_expect(env->watch, uuid, LVWATCH_ON(STOPPED) | LVWATCH_ON(CRASHED), NULL);
    int64_t deadline_ms = clock_ms() + timeout_ms;

    while (true) {
        CLEANUP(err_freep) struct err *e = NULL;
        struct lv_event event;

        request_shutdown(env, uuid);
        e = lvwait_wait(wait, MIN(deadline_ms, clock_ms() + retry_ms), env->stop, &event);
        if (err_is(e, ERR_CANCELLED)) {
            return TAKE(e);
        }
        struct err *not_seen = look(env, uuid, ret_is_off);

        if (!not_seen && *ret_is_off) {
            return NULL;
        }
        if (clock_ms() >= deadline_ms) {
            return not_seen;
        }
        err_free(not_seen);
    }
}

struct err *guest_shutdown(const struct guest_env *env, const char *uuid, int64_t timeout_s,
                           int64_t retry_s, bool *ret_is_off)
{
    int64_t start_ms = clock_ms();

    TRY(look(env, uuid, ret_is_off));
    if (*ret_is_off) {
        return NULL;
    }
    TRY_CTX(shut_down(env, uuid, timeout_s * 1000, MAX(retry_s, (int64_t)1) * 1000, ret_is_off),
            "shutting down %s", uuid);
    log_info(LOG_LIBVIRT, "the guest %s after %lld s",
             *ret_is_off ? "has shut down" : "did not shut down",
             (long long)((clock_ms() - start_ms) / 1000));
    return NULL;
}

struct err *guest_soft_reboot(const struct guest_env *env, const char *uuid, int64_t timeout_s,
                              bool *ret_has_rebooted)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    enum lv_state state;
    bool is_down = false;

    *ret_has_rebooted = false;
    TRY(lv_domain_by_uuid(env->lv, uuid, &d));
    TRY(lv_domain_state(d, &state, NULL));
    if (state != LV_RUNNING && state != LV_BLOCKED) {
        return NULL;
    }
    /* Asked once, as Nova does: a second request would end the guest that comes up. */
    TRY(shut_down(env, uuid, timeout_s * 1000, timeout_s * 1000, &is_down));
    if (is_down) {
        TRY(lv_domain_start(d, /* is_paused= */ false));
        *ret_has_rebooted = true;
    }
    return NULL;
}

struct err *guest_undefine(const struct guest_env *env, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    TRY(find(env, uuid, &d));
    e = d ? lv_domain_undefine(d) : NULL;
    return err_is(e, ERR_INSTANCE_NOT_FOUND) ? NULL : TAKE(e);
}

void guest_sync_time(const struct guest_env *env, const char *uuid)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(err_freep) struct err *e = lv_domain_by_uuid(env->lv, uuid, &d);

    if (!e) {
        e = lv_domain_sync_time(d);
    }
    if (e) {
        log_debug(LOG_LIBVIRT, "the guest's clock is not set: %s", err_message(e));
    }
}

/* ---- Devices ---- */

/* What tells a device from the others of its kind. */
static char *identity(struct xb_node *device)
{
    static const struct {
        const char *path, *attr;
    } places[] = {{"mac", "address"}, {"target", "dev"}};
    struct xb_node *address = xb_find(device, "source/address");
    char *id = NULL;

    if (str_eq(xb_name(device), "hostdev")) {
        return address ? xb_node_text(address) : NULL;
    }
    for (size_t i = 0; !id && i < ARRAY_SIZE(places); i++) {
        id = xb_attr_at(device, places[i].path, places[i].attr);
    }
    return id;
}

/* The same device in a domain's XML, or NULL. */
static struct xb_node *find_device(struct xb_doc *domain, struct xb_node *wanted)
{
    CLEANUP(freep) char *id = identity(wanted);
    struct xb_node *devices = xb_find(xb_root(domain), "devices");
    struct xb_node *n = devices ? xb_first(devices, xb_name(wanted)) : NULL;

    for (; n; n = xb_next(n, xb_name(wanted))) {
        CLEANUP(freep) char *other = identity(n);

        if (id && other && strcasecmp(id, other) == 0) {
            return n;
        }
    }
    return NULL;
}

static struct err *parse_domain(struct lv_domain *d, struct xb_doc **ret)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_xml(d, /* is_migratable= */ false, &xml));
    return xb_parse(xml, ret);
}

struct err *guest_attach_device(const struct guest_env *env, const char *uuid, const char *xml)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    enum lv_state state;

    TRY(lv_domain_by_uuid(env->lv, uuid, &d));
    TRY(lv_domain_state(d, &state, NULL));
    return lv_domain_attach(d, xml, /* is_live= */ !is_off(state), /* is_persistent= */ true);
}

/* libvirt's ways to say that there is no such device (driver.py _detach_sync). */
static bool is_missing(const struct err *e)
{
    return str_eq(error_name(e), "VIR_ERR_DEVICE_MISSING") || err_is(e, ERR_INSTANCE_NOT_FOUND) ||
           (str_eq(error_name(e), "VIR_ERR_OPERATION_FAILED") &&
            strstr(err_message(e), "not found"));
}

struct detach {
    const struct guest_env *env;
    struct lv_domain *d;
    const char *xml;
    struct xb_node *device; /* Of xml. */
    const char *alias;
    struct lvwait *wait;
    int64_t deadline_ms;
};

/* Asks the guest.  *ret_is_gone: there is nothing (any more) to wait for. */
static struct err *detach_request(struct detach *t, bool *ret_is_gone)
{
    CLEANUP(err_freep)
    struct err *e = lv_domain_detach(t->d, t->xml, /* is_live= */ true, /* is_persistent= */ false);
    bool has_ended;

    *ret_is_gone = is_missing(e);
    if (!e || *ret_is_gone) {
        return NULL;
    }
    if (str_eq(error_name(e), "VIR_ERR_INTERNAL_ERROR") &&
        strstr(err_message(e), "already in the process of unplug")) {
        return NULL; /* The request before this one still goes on: its event will come. */
    }
    TRY(look(t->env, lv_domain_uuid(t->d), &has_ended));
    *ret_is_gone = has_ended;
    return has_ended ? NULL : TAKE(e);
}

/* Events may have been lost: the XML tells. */
static struct err *detach_look(struct detach *t, bool *ret_is_gone)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(err_freep) struct err *e = parse_domain(t->d, &doc);

    if (e && !err_is(e, ERR_INSTANCE_NOT_FOUND)) {
        return TAKE(e);
    }
    *ret_is_gone = e || !find_device(doc, t->device);
    return NULL;
}

static struct err *detach_failed(const struct detach *t, const char *reason)
{
    return err_new(ERR_DEVICE_DETACH_FAILED, "device", t->alias, "reason", reason, NULL);
}

static struct err *detach_live(struct detach *t)
{
    bool is_gone = false;

    while (true) {
        struct lv_event event = {.type = LV_EVENT_DISCONNECTED};
        CLEANUP(err_freep) struct err *e = NULL;

        TRY(detach_request(t, &is_gone));
        if (is_gone) {
            return NULL;
        }
        e = lvwait_wait(t->wait, MIN(t->deadline_ms, clock_ms() + DETACH_AGAIN_MS), t->env->stop,
                        &event);
        if (err_is(e, ERR_CANCELLED)) {
            return TAKE(e);
        }
        if (!e && event.type == LV_EVENT_DEVICE_REMOVAL_FAILED) {
            return detach_failed(t, "DeviceRemovalFailedEvent received from libvirt");
        }
        TRY(detach_look(t, &is_gone));
        if (is_gone) {
            return NULL;
        }
        if (clock_ms() >= t->deadline_ms) {
            return detach_failed(t, "the guest did not let it go in time");
        }
        log_debug(LOG_LIBVIRT, "device %s is still there, asking again", t->alias);
    }
}

/* Out of what runs.  Not there is no error. */
static struct err *detach_from_guest(const struct guest_env *env, struct lv_domain *d,
                                     const char *xml, struct xb_node *device, const char *alias,
                                     int64_t deadline_ms)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(freep) char *own_alias = NULL;
    CLEANUP(lvwait_freep) struct lvwait *wait = NULL;
    struct xb_node *live;

    TRY(parse_domain(d, &doc));
    live = find_device(doc, device);
    if (!live) {
        return NULL;
    }
    own_alias = alias ? str_dup(alias) : xb_attr_at(live, "alias", "name");
    wait = lvwatch_expect(env->watch, lv_domain_uuid(d),
                          LVWATCH_ON(DEVICE_REMOVED) | LVWATCH_ON(DEVICE_REMOVAL_FAILED) |
                              LVWATCH_ON(STOPPED),
                          own_alias);
    return detach_live(&(struct detach){.env = env,
                                        .d = d,
                                        .xml = xml,
                                        .device = device,
                                        .alias = own_alias ? own_alias : xb_name(device),
                                        .wait = wait,
                                        .deadline_ms = deadline_ms});
}

/* Nova takes a device out of the definition first, and then has a guest with one that its next
 * start will not have if the guest keeps it; here the definition follows the guest. */
struct err *guest_detach_device(const struct guest_env *env, const char *uuid, const char *xml,
                                const char *alias, int64_t timeout_s)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(xb_freep) struct xb_doc *device = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    enum lv_state state;

    TRY(xb_parse(xml, &device));
    TRY(find(env, uuid, &d));
    if (!d) {
        return NULL;
    }
    TRY(lv_domain_state(d, &state, NULL));
    if (!is_off(state)) {
        TRY_CTX(
            detach_from_guest(env, d, xml, xb_root(device), alias, clock_ms() + timeout_s * 1000),
            "detaching a device from %s", uuid);
    }
    e = lv_domain_detach(d, xml, /* is_live= */ false, /* is_persistent= */ true);
    return is_missing(e) ? NULL : TAKE(e);
}

/* ---- Suspend to disk ---- */

/* Devices of the host that cannot be saved: <hostdev>, and <interface> of that type. */
static struct strv host_devices(struct xb_doc *domain)
{
    static const char *const names[] = {"hostdev", "interface"};
    struct xb_node *devices = xb_find(xb_root(domain), "devices");
    struct strv list = {0};

    for (size_t i = 0; devices && i < ARRAY_SIZE(names); i++) {
        for (struct xb_node *n = xb_first(devices, names[i]); n; n = xb_next(n, names[i])) {
            if (i == 0 || xb_attr_is(n, "type", "hostdev")) {
                strv_add_take(&list, xb_node_text(n));
            }
        }
    }
    return list;
}

/* All at once, then one deadline for all. */
static struct err *detach_all(const struct guest_env *env, struct lv_domain *d,
                              const struct strv *devices, int64_t timeout_s)
{
    int64_t deadline_ms = clock_ms() + timeout_s * 1000;

    for (size_t i = 0; i < devices->n; i++) {
        /* What is wrong with it is said below, where it is asked again. */
        err_free(lv_domain_detach(d, devices->items[i], /* is_live= */ true,
                                  /* is_persistent= */ false));
    }
    for (size_t i = 0; i < devices->n; i++) {
        CLEANUP(xb_freep) struct xb_doc *device = NULL;

        TRY(xb_parse(devices->items[i], &device));
        TRY(detach_from_guest(env, d, devices->items[i], xb_root(device), NULL, deadline_ms));
    }
    return NULL;
}

/* Those that the guest does not have. */
static struct err *give_back(struct lv_domain *d, const struct strv *devices)
{
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;

    TRY(parse_domain(d, &doc));
    for (size_t i = 0; i < devices->n; i++) {
        CLEANUP(xb_freep) struct xb_doc *device = NULL;

        TRY(xb_parse(devices->items[i], &device));
        if (!find_device(doc, xb_root(device))) {
            TRY(lv_domain_attach(d, devices->items[i], /* is_live= */ true,
                                 /* is_persistent= */ false));
        }
    }
    return NULL;
}

struct err *guest_suspend(const struct guest_env *env, const char *uuid, int64_t detach_timeout_s)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(strv_fini) struct strv devices = {0};
    struct err *e;

    TRY(lv_domain_by_uuid(env->lv, uuid, &d));
    TRY(parse_domain(d, &doc));
    devices = host_devices(doc);
    e = err_context(detach_all(env, d, &devices, detach_timeout_s),
                    "detaching the host's devices from %s", uuid);
    e = e ? e : lv_domain_managed_save(d);
    if (e && devices.n > 0) {
        err_ignore(give_back(d, &devices), "giving a guest its devices back");
    }
    return e;
}

struct err *guest_resume_saved(const struct guest_env *env, const char *uuid, bool *ret_was_saved)
{
    CLEANUP(lv_domain_freep) struct lv_domain *d = NULL;
    CLEANUP(xb_freep) struct xb_doc *doc = NULL;
    CLEANUP(strv_fini) struct strv devices = {0};

    *ret_was_saved = false;
    TRY(find(env, uuid, &d));
    if (!d) {
        return NULL;
    }
    TRY(lv_domain_has_managed_save(d, ret_was_saved));
    if (!*ret_was_saved) {
        return NULL;
    }
    TRY(parse_domain(d, &doc)); /* Off: this is the definition, which has all devices. */
    devices = host_devices(doc);
    TRY(lv_domain_start(d, /* is_paused= */ false));
    TRY_CTX(give_back(d, &devices), "giving %s its devices back", uuid);
    return NULL;
}

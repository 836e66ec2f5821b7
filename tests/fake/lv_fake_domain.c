/* The domains of the fake libvirt: states and devices. */
#include "tests/fake/lv_fake_impl.h"

#include "base/fs.h"
#include "base/sync.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Who reads XML and writes it again. */
static struct mutex devices = MUTEX_INIT;

static struct lv_domain *domain_new(struct lv_conn *c, const char *uuid)
{
    struct lv_domain *d = NEW(struct lv_domain);

    d->dir = str_dup(fake_conn_dir(c));
    snprintf(d->uuid, sizeof(d->uuid), "%s", uuid);
    return d;
}

struct err *lv_domain_by_uuid(struct lv_conn *c, const char *uuid, struct lv_domain **ret)
{
    struct lv_domain *d = domain_new(c, uuid);
    struct err *e = fake_check_domain(d);

    if (e) {
        lv_domain_free(d);
        return e;
    }
    *ret = d;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *d)
{
    if (d) {
        free(d->dir);
        free(d);
    }
    return NULL;
}

struct err *lv_domain_uuids(struct lv_conn *c, struct strv *ret)
{
    CLEANUP(freep) char *folder = fake_in(fake_conn_dir(c), "domains");
    CLEANUP(strv_fini) struct strv names = {0};

    TRY(fake_check_up(fake_conn_dir(c)));
    TRY(fs_list(&fs_real, folder, &names));
    *ret = (struct strv){0};
    for (size_t i = 0; i < names.n; i++) {
        if (str_ends(names.items[i], ".xml")) {
            strv_add_take(ret, str_ndup(names.items[i], strlen(names.items[i]) - strlen(".xml")));
        }
    }
    return NULL;
}

const char *lv_domain_uuid(const struct lv_domain *d)
{
    return d->uuid;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.xml", d->uuid);

    (void)is_migratable;
    TRY(fake_check_domain(d));
    *ret = lv_fake_read(d->dir, name);
    return *ret ? NULL : err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", d->uuid, NULL);
}

struct err *lv_domain_name(struct lv_domain *d, char **ret)
{
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_xml(d, false, &xml));
    *ret = fake_element(xml, "name");
    *ret = *ret ? *ret : str_dup(d->uuid);
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    TRY(fake_check_domain(d));
    *ret = fake_get_state(d->dir, d->uuid, ret_reason);
    return NULL;
}

struct err *lv_domain_suspend(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "suspend");
    if (!fake_is_active(fake_get_state(d->dir, d->uuid, NULL))) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    if (fake_get_state(d->dir, d->uuid, NULL) != LV_PAUSED) {
        fake_set_state(d->dir, d->uuid, fake_has_job(d) ? "paused 2" : "paused 1");
        fake_tell(d->dir, d->uuid, fake_has_job(d) ? "SUSPENDED MIGRATED" : "SUSPENDED OTHER");
    }
    return NULL;
}

struct err *lv_domain_resume(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "resume");
    if (!fake_is_active(fake_get_state(d->dir, d->uuid, NULL))) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    fake_set_state(d->dir, d->uuid, "running 5");
    fake_tell(d->dir, d->uuid, "RESUMED OTHER");
    return NULL;
}

static void set_xml(const struct lv_domain *d, const char *suffix, const char *xml)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.%s", d->uuid, suffix);

    lv_fake_write(d->dir, name, xml);
}

static char *get_xml(const struct lv_domain *d, const char *suffix)
{
    CLEANUP(freep) char *name = str_printf("domains/%s.%s", d->uuid, suffix);

    return lv_fake_read(d->dir, name);
}

static bool is_running(const struct lv_domain *d)
{
    return fake_is_active(fake_get_state(d->dir, d->uuid, NULL));
}

struct err *lv_domain_start(struct lv_domain *d, bool is_paused)
{
    CLEANUP(freep) char *refusal = NULL;
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *live = NULL;
    bool has_save;

    TRY(lv_domain_xml(d, false, &xml));
    fake_note(d, is_paused ? "start paused" : "start");
    refusal = fake_habit(d, "refuse_start");
    if (refusal) {
        return fake_refused("VIR_ERR_INTERNAL_ERROR", refusal);
    }
    if (is_running(d)) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is already running");
    }
    TRY(lv_domain_has_managed_save(d, &has_save));
    fake_drop(d->dir, "domains", d->uuid, ".save");
    live = fake_xml_with_aliases(xml);
    set_xml(d, "next", xml);
    set_xml(d, "xml", live);
    fake_set_state(d->dir, d->uuid, is_paused ? "paused 11" : has_save ? "running 4" : "running 1");
    fake_tell(d->dir, d->uuid, "STARTED NONE");
    if (is_paused) {
        fake_tell(d->dir, d->uuid, "SUSPENDED OTHER");
    } else {
        fake_tell(d->dir, d->uuid, "RESUMED OTHER");
    }
    return NULL;
}

static void powered_off(const struct lv_domain *d, const char *text)
{
    (void)text;
    if (is_running(d)) {
        fake_tell(d->dir, d->uuid, "SHUTDOWN NONE");
        fake_stop(d, "shutoff 1", "STOPPED SHUTDOWN");
    }
}

struct err *lv_domain_shutdown(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "shutdown");
    if (!is_running(d)) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    if (!fake_habit_counts(d, "shutdown_ignores")) {
        fake_later(d, fake_habit_u64(d, "shutdown_ms", 0), "", powered_off);
    }
    return NULL;
}

struct err *lv_domain_inject_nmi(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "inject_nmi");
    return is_running(d) ? NULL
                         : fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
}

struct err *lv_domain_destroy(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "destroy");
    if (is_running(d) && fake_habit_counts(d, "destroy_fails")) {
        return fake_refused(
            "VIR_ERR_SYSTEM_ERROR",
            "Failed to terminate process 4711 with SIGKILL: Device or resource busy");
    }
    if (is_running(d)) {
        fake_stop(d, "shutoff 2", "STOPPED DESTROYED");
    }
    return NULL;
}

struct err *lv_domain_undefine(struct lv_domain *d)
{
    static const char *const suffixes[] = {".xml", ".state", ".next", ".save"};

    TRY(fake_check_domain(d));
    fake_note(d, "undefine");
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        fake_drop(d->dir, "domains", d->uuid, suffixes[i]);
    }
    fake_tell(d->dir, d->uuid, "UNDEFINED NONE");
    return NULL;
}

struct err *lv_define(struct lv_conn *c, const char *xml, struct lv_domain **ret)
{
    CLEANUP(freep) char *uuid = fake_element(xml, "uuid");
    CLEANUP(freep) char *name = NULL;
    struct lv_domain *d;

    TRY(fake_check_up(fake_conn_dir(c)));
    if (!uuid || !uuid_is_valid(uuid)) {
        return fake_refused("VIR_ERR_XML_ERROR", "XML error: no uuid");
    }
    d = domain_new(c, uuid);
    name = str_printf("domains/%s.xml", uuid);
    if (!fake_exists(d->dir, name, "")) {
        fake_set_state(d->dir, uuid, "shutoff 0");
    }
    set_xml(d, is_running(d) ? "next" : "xml", xml);
    *ret = d;
    fake_note(d, "define");
    fake_tell(d->dir, uuid, "DEFINED NONE");
    return NULL;
}

/* ---- Managed save ---- */

struct err *lv_domain_managed_save(struct lv_domain *d)
{
    CLEANUP(freep) char *refusal = NULL;

    TRY(fake_check_domain(d));
    fake_note(d, "managed_save");
    refusal = fake_habit(d, "refuse_save");
    if (refusal) {
        return fake_refused("VIR_ERR_OPERATION_FAILED", refusal);
    }
    if (!is_running(d)) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    set_xml(d, "save", "");
    fake_stop(d, "shutoff 5", "STOPPED OTHER");
    return NULL;
}

struct err *lv_domain_has_managed_save(struct lv_domain *d, bool *ret)
{
    CLEANUP(freep) char *path = fake_in(d->dir, "domains/%s.save", d->uuid);

    TRY(fake_check_domain(d));
    *ret = access(path, F_OK) == 0;
    return NULL;
}

struct err *lv_domain_remove_managed_save(struct lv_domain *d)
{
    TRY(fake_check_domain(d));
    fake_note(d, "remove_managed_save");
    fake_drop(d->dir, "domains", d->uuid, ".save");
    return NULL;
}

/* ---- Devices ---- */

/* In the live XML and in the definition, which differ while the domain runs. */
static struct err *attach_to(const struct lv_domain *d, const char *suffix, const char *device)
{
    CLEANUP(freep) char *xml = get_xml(d, suffix);

    if (!xml || !fake_xml_insert(&xml, device)) {
        return fake_refused("VIR_ERR_XML_ERROR", "XML error: no place for the device");
    }
    set_xml(d, suffix, xml);
    return NULL;
}

/* Domains that a test has written have one XML. */
static const char *definition_of(const struct lv_domain *d)
{
    CLEANUP(freep) char *next = get_xml(d, "next");

    return next ? "next" : "xml";
}

static struct err *check_live(const struct lv_domain *d, bool is_live)
{
    TRY(fake_check_domain(d));
    return is_live && !is_running(d)
               ? fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running")
               : NULL;
}

struct err *lv_domain_attach(struct lv_domain *d, const char *xml, bool is_live, bool is_persistent)
{
    CLEANUP(freep) char *refusal = NULL;
    struct err *e = NULL;

    TRY(check_live(d, is_live));
    fake_note(d, "attach live=%d persistent=%d %s", is_live, is_persistent, xml);
    refusal = fake_habit(d, "refuse_attach");
    if (refusal) {
        return fake_refused("VIR_ERR_OPERATION_FAILED", refusal);
    }
    mutex_lock(&devices);
    if (is_persistent) {
        e = attach_to(d, definition_of(d), xml);
    }
    if (!e && is_live && (!is_persistent || str_eq(definition_of(d), "next"))) {
        e = attach_to(d, "xml", xml);
    }
    mutex_unlock(&devices);
    return e;
}

static struct err *detach_from(const struct lv_domain *d, const char *suffix, const char *device,
                               bool is_looking, char **ret_alias)
{
    CLEANUP(freep) char *xml = get_xml(d, suffix);

    if (!xml || !fake_xml_remove(&xml, device, ret_alias)) {
        return fake_refused("VIR_ERR_DEVICE_MISSING", "device not found: no matching device");
    }
    if (!is_looking) {
        set_xml(d, suffix, xml);
    }
    return NULL;
}

/* The guest lets a device go. */
static void let_go(const struct lv_domain *d, const char *device)
{
    CLEANUP(freep) char *alias = NULL;
    CLEANUP(freep) char *line = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    mutex_lock(&devices);
    e = detach_from(d, "xml", device, /* is_looking= */ false, &alias);
    mutex_unlock(&devices);
    if (!e) {
        line = str_printf("DEVICE_REMOVED NONE %s alias=%s", d->uuid, alias);
        fake_append(d->dir, "events", line);
    }
}

static struct err *detach_live(const struct lv_domain *d, const char *device)
{
    CLEANUP(freep) char *alias = NULL;
    CLEANUP(freep) char *line = NULL;

    TRY(detach_from(d, "xml", device, /* is_looking= */ true, &alias));
    if (fake_habit_counts(d, "detach_fails")) {
        line = str_printf("REMOVAL_FAILED NONE %s alias=%s", d->uuid, alias);
        fake_append(d->dir, "events", line);
    } else if (!fake_habit_counts(d, "detach_ignores")) {
        fake_later(d, fake_habit_u64(d, "detach_ms", 0), device, let_go);
    }
    return NULL;
}

struct err *lv_domain_detach(struct lv_domain *d, const char *xml, bool is_live, bool is_persistent)
{
    CLEANUP(freep) char *alias = NULL;
    bool is_same;

    TRY(check_live(d, is_live));
    fake_note(d, "detach live=%d persistent=%d %s", is_live, is_persistent, xml);
    is_same = str_eq(definition_of(d), "xml");
    if (is_persistent && !(is_same && is_live)) {
        struct err *e;

        mutex_lock(&devices);
        e = detach_from(d, definition_of(d), xml, /* is_looking= */ false, &alias);
        mutex_unlock(&devices);
        TRY(e);
    }
    return is_live ? detach_live(d, xml) : NULL;
}

/* ---- The guest's agent ---- */

static struct err *ask_agent(const struct lv_domain *d)
{
    TRY(check_live(d, true));
    return fake_habit_u64(d, "no_agent", 0)
               ? fake_refused("VIR_ERR_AGENT_UNRESPONSIVE",
                              "Guest agent is not responding: QEMU guest agent is not connected")
               : NULL;
}

struct err *lv_domain_set_user_password(struct lv_domain *d, const char *user, const char *password)
{
    fake_note(d, "set_user_password %s %s", user, password);
    return ask_agent(d);
}

struct err *lv_domain_freeze(struct lv_domain *d)
{
    fake_note(d, "freeze");
    return ask_agent(d);
}

struct err *lv_domain_thaw(struct lv_domain *d)
{
    fake_note(d, "thaw");
    return ask_agent(d);
}

struct err *lv_domain_sync_time(struct lv_domain *d)
{
    fake_note(d, "sync_time");
    return ask_agent(d);
}

struct err *lv_monitor_command(struct lv_domain *d, const char *json, char **ret)
{
    TRY(fake_check_domain(d));
    fake_note(d, "monitor %s", json);
    *ret = lv_fake_read(d->dir, "monitor");
    *ret = *ret ? *ret : str_dup("{\"return\": {}}");
    return NULL;
}

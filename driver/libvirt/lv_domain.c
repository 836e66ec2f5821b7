/* Of lv.h: domains, their states and devices. */
#include "driver/libvirt/lv_impl.h"

#include "base/clock.h"

#include <libvirt/libvirt-qemu.h>

struct err *lv_domain_uuids(struct lv_conn *c, struct strv *ret)
{
    WITH_CONN(c);
    CLEANUP(freep) virDomainPtr *doms = NULL;
    int n = virConnectListAllDomains(vir, &doms, 0);
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (n < 0) {
        return err_context(lvi_error(vir, NULL), "listing domains");
    }
    *ret = (struct strv){0};
    for (int i = 0; i < n; i++) {
        if (virDomainGetUUIDString(doms[i], uuid) == 0) {
            strv_add(ret, uuid);
        }
        virDomainFree(doms[i]);
    }
    return NULL;
}

struct err *lv_domain_name(struct lv_domain *d, char **ret)
{
    WITH_DOMAIN(d);
    const char *name = virDomainGetName(dom);

    if (!name) {
        return lvi_domain_error(d, dom, "name");
    }
    *ret = str_dup(name);
    return NULL;
}

struct err *lv_domain_state(struct lv_domain *d, enum lv_state *ret, int *ret_reason)
{
    WITH_DOMAIN(d);
    int state, reason;

    if (virDomainGetState(dom, &state, &reason, 0) < 0) {
        return lvi_domain_error(d, dom, "state");
    }
    *ret = (enum lv_state)state;
    if (ret_reason) {
        *ret_reason = reason;
    }
    return NULL;
}

struct err *lv_domain_xml(struct lv_domain *d, bool is_migratable, char **ret)
{
    WITH_DOMAIN(d);
    /* What defines a domain elsewhere must hold its graphics passwords too. */
    unsigned flags = is_migratable ? VIR_DOMAIN_XML_MIGRATABLE | VIR_DOMAIN_XML_SECURE : 0;
    char *xml = virDomainGetXMLDesc(dom, flags);

    if (!xml) {
        return lvi_domain_error(d, dom, "XML");
    }
    *ret = xml;
    return NULL;
}

struct err *lvi_domain_call(struct lv_domain *d, int (*fn)(virDomainPtr), const char *what)
{
    WITH_DOMAIN(d);

    return fn(dom) < 0 ? lvi_domain_error(d, dom, what) : NULL;
}

struct err *lv_domain_suspend(struct lv_domain *d)
{
    return lvi_domain_call(d, virDomainSuspend, "suspending");
}

struct err *lv_domain_resume(struct lv_domain *d)
{
    return lvi_domain_call(d, virDomainResume, "resuming");
}

struct err *lv_domain_destroy(struct lv_domain *d)
{
    WITH_DOMAIN(d);
    struct err *e;

    if (virDomainDestroy(dom) == 0) {
        return NULL;
    }
    e = lvi_domain_error(d, dom, "destroying");
    return virDomainIsActive(dom) == 0 ? err_free(e) : e;
}

struct err *lv_domain_undefine(struct lv_domain *d)
{
    WITH_DOMAIN(d);

    if (virDomainUndefineFlags(dom, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_NVRAM) <
        0) {
        return lvi_domain_error(d, dom, "undefining");
    }
    return NULL;
}

struct err *lv_define(struct lv_conn *c, const char *xml, struct lv_domain **ret)
{
    WITH_CONN(c);
    virDomainPtr dom = virDomainDefineXMLFlags(vir, xml, 0);

    if (!dom) {
        return err_context(lvi_error(vir, NULL), "defining a domain");
    }
    *ret = lvi_domain_new(c, dom, generation);
    return NULL;
}

struct err *lv_domain_start(struct lv_domain *d, bool is_paused)
{
    WITH_DOMAIN(d);

    return virDomainCreateWithFlags(dom, is_paused ? VIR_DOMAIN_START_PAUSED : 0) < 0
               ? lvi_domain_error(d, dom, "starting")
               : NULL;
}

struct err *lv_domain_shutdown(struct lv_domain *d)
{
    return lvi_domain_call(d, virDomainShutdown, "shutting down");
}

static int inject_nmi(virDomainPtr dom)
{
    return virDomainInjectNMI(dom, 0);
}

struct err *lv_domain_inject_nmi(struct lv_domain *d)
{
    return lvi_domain_call(d, inject_nmi, "injecting an NMI");
}

/* ---- Managed save ---- */

static int managed_save(virDomainPtr dom)
{
    return virDomainManagedSave(dom, 0);
}

struct err *lv_domain_managed_save(struct lv_domain *d)
{
    return lvi_domain_call(d, managed_save, "saving");
}

struct err *lv_domain_has_managed_save(struct lv_domain *d, bool *ret)
{
    WITH_DOMAIN(d);
    int rc = virDomainHasManagedSaveImage(dom, 0);

    if (rc < 0) {
        return lvi_domain_error(d, dom, "managed save");
    }
    *ret = rc > 0;
    return NULL;
}

static int remove_managed_save(virDomainPtr dom)
{
    return virDomainManagedSaveRemove(dom, 0);
}

struct err *lv_domain_remove_managed_save(struct lv_domain *d)
{
    return lvi_domain_call(d, remove_managed_save, "removing the managed save");
}

/* ---- Devices ---- */

static unsigned places(bool is_live, bool is_persistent)
{
    return (is_live ? VIR_DOMAIN_AFFECT_LIVE : 0) | (is_persistent ? VIR_DOMAIN_AFFECT_CONFIG : 0);
}

struct err *lv_domain_attach(struct lv_domain *d, const char *xml, bool is_live, bool is_persistent)
{
    WITH_DOMAIN(d);

    return virDomainAttachDeviceFlags(dom, xml, places(is_live, is_persistent)) < 0
               ? lvi_domain_error(d, dom, "attaching a device")
               : NULL;
}

struct err *lv_domain_detach(struct lv_domain *d, const char *xml, bool is_live, bool is_persistent)
{
    WITH_DOMAIN(d);

    return virDomainDetachDeviceFlags(dom, xml, places(is_live, is_persistent)) < 0
               ? lvi_domain_error(d, dom, "detaching a device")
               : NULL;
}

/* ---- The guest's agent ---- */

struct err *lv_domain_set_user_password(struct lv_domain *d, const char *user, const char *password)
{
    WITH_DOMAIN(d);

    return virDomainSetUserPassword(dom, user, password, 0) < 0
               ? lvi_domain_error(d, dom, "setting a password")
               : NULL;
}

static int freeze(virDomainPtr dom)
{
    return virDomainFSFreeze(dom, NULL, 0, 0);
}

struct err *lv_domain_freeze(struct lv_domain *d)
{
    return lvi_domain_call(d, freeze, "freezing the file systems");
}

static int thaw(virDomainPtr dom)
{
    return virDomainFSThaw(dom, NULL, 0, 0);
}

struct err *lv_domain_thaw(struct lv_domain *d)
{
    return lvi_domain_call(d, thaw, "thawing the file systems");
}

static int sync_time(virDomainPtr dom)
{
    int64_t now_us = clock_wall_us();

    return virDomainSetTime(dom, now_us / 1000000, (unsigned)(now_us % 1000000) * 1000, 0);
}

struct err *lv_domain_sync_time(struct lv_domain *d)
{
    return lvi_domain_call(d, sync_time, "setting the clock");
}

struct err *lv_monitor_command(struct lv_domain *d, const char *json, char **ret)
{
    WITH_DOMAIN(d);
    char *answer = NULL;

    if (virDomainQemuMonitorCommand(dom, json, &answer, 0) < 0) {
        return lvi_domain_error(d, dom, "monitor command");
    }
    *ret = answer;
    return NULL;
}

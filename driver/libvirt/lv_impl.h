#pragma once

/* What the files that implement lv.h share; nobody else includes it.
 *
 * lv.c has connections, events and what a domain is; lv_*.c are the calls.  Prefix lvi_. */

#include "base/err.h"
#include "driver/libvirt/lv.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/* The thread's last libvirt error, which any other call clears.  The call was one of 'dom', or of
 * 'vir' if that is NULL; uuid is the domain's if there is one. */
struct err *lvi_error_of(virConnectPtr vir, virDomainPtr dom, const char *uuid) MUST_CHECK;
static inline struct err *lvi_error(virConnectPtr vir, const char *uuid)
{
    return lvi_error_of(vir, NULL, uuid);
}
/* That of a call of a domain: "WHAT of UUID". */
struct err *lvi_domain_error(const struct lv_domain *, virDomainPtr, const char *what) MUST_CHECK;

static inline void lvi_closep(virConnectPtr *vir)
{
    if (*vir) {
        virConnectClose(*vir);
    }
}
static inline void lvi_domain_freep(virDomainPtr *dom)
{
    if (*dom) {
        virDomainFree(*dom);
    }
}

/* A reference to libvirt's connection, which is opened again if it broke. */
struct err *lvi_conn_acquire(struct lv_conn *, virConnectPtr *ret, uint64_t *ret_generation)
    MUST_CHECK;
/* 'vir' for the scope; returns from the function if there is no connection. */
#define WITH_CONN(c)                                                                               \
    CLEANUP(lvi_closep) virConnectPtr vir = NULL;                                                  \
    uint64_t generation;                                                                           \
    TRY(lvi_conn_acquire((c), &vir, &generation))

/* A reference to libvirt's domain, which is looked up again if the connection is another one. */
struct err *lvi_domain_acquire(struct lv_domain *, virDomainPtr *ret) MUST_CHECK;
/* 'dom' for the scope; returns from the function if there is none. */
#define WITH_DOMAIN(d)                                                                             \
    CLEANUP(lvi_domain_freep) virDomainPtr dom = NULL;                                             \
    TRY(lvi_domain_acquire((d), &dom))

/* Consumes dom, which is of that generation of the connection. */
struct lv_domain *lvi_domain_new(struct lv_conn *, virDomainPtr dom, uint64_t generation)
    MUST_CHECK;
/* A call without arguments or results. */
struct err *lvi_domain_call(struct lv_domain *, int (*fn)(virDomainPtr), const char *what)
    MUST_CHECK;

void lvi_fill_job(struct lv_job *, int type, virTypedParameterPtr, int n);

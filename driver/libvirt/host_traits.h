#pragma once

/* Traits of a KVM host, from libvirt's descriptions of it (driver/libvirt/traits.def).
 *
 * Thread-safety: no state of its own. */

#include "base/conf.h"
#include "base/err.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/xb.h"

/* 'caps' is the capabilities' root element, 'cpu_features' are the host's (host_cpu_features).
 * *ret_traits is what the host has, *ret_owned every name that may ever be set. */
struct err *host_traits(struct lv_conn *, const struct conf *, struct xb_node *caps,
                        const struct strv *cpu_features, int64_t libvirt_version,
                        struct strv *ret_traits, struct strv *ret_owned) MUST_CHECK;

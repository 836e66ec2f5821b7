#pragma once

/* CPUs in libvirt's XML: the host's with all its features, and those that servers come with.
 *
 * Source: nova/virt/libvirt/host.py get_capabilities, driver.py _get_cpu_info, _compare_cpu,
 * _get_cpu_feature_traits.
 *
 * Thread-safety: no state of its own. */

#include "base/err.h"
#include "base/str.h"
#include "driver/libvirt/lv.h"
#include "driver/libvirt/xb.h"

/* The host's CPU features, sorted; 'caps' is the capabilities' root element.  Those that its model
 * stands for are among them, unless libvirt cannot tell (AArch64). */
struct err *host_cpu_features(struct lv_conn *, struct xb_node *caps, struct strv *ret) MUST_CHECK;
/* Adds what a model of libvirt stands for on a host of that CPU; nothing if libvirt cannot tell. */
struct err *host_cpu_add_model(struct lv_conn *, struct xb_node *caps, const char *model,
                               struct strv *ret) MUST_CHECK;
/* The JSON text of ComputeNode.cpu_info. */
char *host_cpu_info(struct xb_node *caps, const struct strv *features) MUST_CHECK;

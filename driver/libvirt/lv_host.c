/* Of lv.h: what there is to ask of a host. */
#include "driver/libvirt/lv_impl.h"

#include "base/cpuset.h"

#include <stdlib.h>

struct err *lv_hostname(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    char *name = virConnectGetHostname(vir);

    if (!name) {
        return err_context(lvi_error(vir, NULL), "asking for the host's name");
    }
    *ret = name;
    return NULL;
}

struct err *lv_type(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    const char *type = virConnectGetType(vir);

    if (!type) {
        return err_context(lvi_error(vir, NULL), "asking for the hypervisor's type");
    }
    *ret = str_dup(type);
    return NULL;
}

struct err *lv_versions(struct lv_conn *c, unsigned long *ret_libvirt, unsigned long *ret_hv)
{
    WITH_CONN(c);
    unsigned long libvirt, hv;

    if (virConnectGetLibVersion(vir, &libvirt) < 0 || virConnectGetVersion(vir, &hv) < 0) {
        return err_context(lvi_error(vir, NULL), "asking for versions");
    }
    *ret_libvirt = libvirt;
    *ret_hv = hv;
    return NULL;
}

struct err *lv_capabilities(struct lv_conn *c, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectGetCapabilities(vir);

    if (!xml) {
        return err_context(lvi_error(vir, NULL), "asking for capabilities");
    }
    *ret_xml = xml;
    return NULL;
}

struct err *lv_domain_capabilities(struct lv_conn *c, const char *emulator, const char *arch,
                                   const char *machine, const char *virttype, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectGetDomainCapabilities(vir, emulator, arch, machine, virttype, 0);

    if (!xml) {
        return err_context(lvi_error(vir, NULL), "asking for domain capabilities of %s %s",
                           arch ? arch : "any", machine ? machine : "machine");
    }
    *ret_xml = xml;
    return NULL;
}

struct err *lv_node_info(struct lv_conn *c, struct lv_node_info *ret)
{
    WITH_CONN(c);
    virNodeInfo info;

    if (virNodeGetInfo(vir, &info) < 0) {
        return err_context(lvi_error(vir, NULL), "asking for the node's facts");
    }
    *ret = (struct lv_node_info){.memory_kib = info.memory,
                                 .cpus = info.cpus,
                                 .nodes = info.nodes,
                                 .sockets = info.sockets,
                                 .cores = info.cores,
                                 .threads = info.threads};
    return NULL;
}

struct err *lv_online_cpus(struct lv_conn *c, char **ret)
{
    WITH_CONN(c);
    CLEANUP(freep) unsigned char *map = NULL;
    CLEANUP(cpuset_fini) struct cpuset cpus = {0};
    int n = virNodeGetCPUMap(vir, &map, NULL, 0);

    if (n < 0) {
        return err_context(lvi_error(vir, NULL), "asking which CPUs are online");
    }
    for (int i = 0; i < n; i++) {
        if (VIR_CPU_USED(map, i)) {
            cpuset_add(&cpus, (unsigned)i);
        }
    }
    *ret = cpuset_text(&cpus);
    return NULL;
}

struct err *lv_free_pages(struct lv_conn *c, unsigned page_kib, int cell, uint64_t *ret)
{
    WITH_CONN(c);
    unsigned long long n;

    if (virNodeGetFreePages(vir, 1, &page_kib, cell, 1, &n, 0) < 0) {
        return err_context(lvi_error(vir, NULL), "asking for free pages of %u KiB in cell %d",
                           page_kib, cell);
    }
    *ret = n;
    return NULL;
}

struct err *lv_compare_cpu(struct lv_conn *c, const char *cpu_xml, int *ret)
{
    WITH_CONN(c);
    int result = virConnectCompareCPU(vir, cpu_xml, 0);

    if (result == VIR_CPU_COMPARE_ERROR) {
        return err_context(lvi_error(vir, NULL), "comparing a CPU with the host's");
    }
    *ret = result;
    return NULL;
}

struct err *lv_expand_cpu(struct lv_conn *c, const char *cpu_xml, char **ret_xml)
{
    WITH_CONN(c);
    char *xml = virConnectBaselineCPU(vir, &cpu_xml, 1, VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES);

    if (!xml) {
        return err_context(lvi_error(vir, NULL), "expanding a CPU model");
    }
    *ret_xml = str_dup(xml);
    free(xml);
    return NULL;
}

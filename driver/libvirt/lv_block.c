/* Of lv.h: disks, block jobs, and how much a guest uses of what. */
#include "driver/libvirt/lv_impl.h"

#include <stdlib.h>
#include <string.h>

struct err *lv_block_info(struct lv_domain *d, const char *path_or_target,
                          struct lv_block_info *ret)
{
    WITH_DOMAIN(d);
    virDomainBlockInfo info;

    if (virDomainGetBlockInfo(dom, path_or_target, &info, 0) < 0) {
        return err_context(lvi_domain_error(d, dom, "block information"), "disk %s",
                           path_or_target);
    }
    *ret = (struct lv_block_info){info.capacity, info.allocation, info.physical};
    return NULL;
}

/* ---- Block jobs ---- */

static void add_escaped(struct strbuf *b, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&'    ? "&amp;"
                             : *text == '<'  ? "&lt;"
                             : *text == '\'' ? "&apos;"
                                             : NULL;

        if (entity) {
            strbuf_add(b, entity);
        } else {
            strbuf_addc(b, *text);
        }
    }
}

struct err *lv_block_copy(struct lv_domain *d, const char *target, const char *dest,
                          const char *format, bool is_shallow)
{
    WITH_DOMAIN(d);
    CLEANUP(strbuf_fini) struct strbuf xml = {0};
    /* A transient job: libvirt does not carry it over its own restart, so the domain may stay
     * defined. */
    unsigned flags = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB |
                     (is_shallow ? VIR_DOMAIN_BLOCK_COPY_SHALLOW : 0);

    strbuf_add(&xml, "<disk type='file'><source file='");
    add_escaped(&xml, dest);
    strbuf_addf(&xml, "'/><driver type='%s'/></disk>", format);
    if (virDomainBlockCopy(dom, target, xml.s, NULL, 0, flags) < 0) {
        return err_context(lvi_domain_error(d, dom, "block copy"), "disk %s", target);
    }
    return NULL;
}

struct err *lv_block_job(struct lv_domain *d, const char *target, struct lv_block_job *ret)
{
    WITH_DOMAIN(d);
    virDomainBlockJobInfo info;
    int rc = virDomainGetBlockJobInfo(dom, target, &info, 0);

    if (rc < 0) {
        return err_context(lvi_domain_error(d, dom, "block job"), "disk %s", target);
    }
    *ret = (struct lv_block_job){0};
    if (rc > 0) {
        /* libvirt sees to it that these are equal only when QEMU says ready. */
        *ret = (struct lv_block_job){.is_there = true,
                                     .is_ready = info.end > 0 && info.cur == info.end,
                                     .done = info.cur,
                                     .total = info.end};
    }
    return NULL;
}

struct err *lv_block_job_abort(struct lv_domain *d, const char *target)
{
    WITH_DOMAIN(d);

    if (virDomainBlockJobAbort(dom, target, 0) < 0) {
        return err_context(lvi_domain_error(d, dom, "ending the block job"), "disk %s", target);
    }
    return NULL;
}

/* ---- Diagnostics ---- */

struct err *lv_interface_stats(struct lv_domain *d, const char *device,
                               struct lv_interface_stats *ret)
{
    WITH_DOMAIN(d);
    virDomainInterfaceStatsStruct s;

    if (virDomainInterfaceStats(dom, device, &s, sizeof(s)) < 0) {
        return err_context(lvi_domain_error(d, dom, "statistics"), "interface %s", device);
    }
    *ret = (struct lv_interface_stats){s.rx_bytes, s.rx_packets, s.rx_errs, s.rx_drop,
                                       s.tx_bytes, s.tx_packets, s.tx_errs, s.tx_drop};
    return NULL;
}

struct err *lv_block_stats(struct lv_domain *d, const char *target, struct lv_block_stats *ret)
{
    WITH_DOMAIN(d);
    virDomainBlockStatsStruct s;

    if (virDomainBlockStats(dom, target, &s, sizeof(s)) < 0) {
        return err_context(lvi_domain_error(d, dom, "statistics"), "disk %s", target);
    }
    *ret = (struct lv_block_stats){s.rd_req, s.rd_bytes, s.wr_req, s.wr_bytes, s.errs};
    return NULL;
}

static struct err *domain_info(struct lv_domain *d, virDomainInfoPtr ret)
{
    WITH_DOMAIN(d);

    return virDomainGetInfo(dom, ret) < 0 ? lvi_domain_error(d, dom, "information") : NULL;
}

struct err *lv_vcpu_times(struct lv_domain *d, uint64_t **ret, size_t *ret_n)
{
    WITH_DOMAIN(d);
    CLEANUP(freep) virVcpuInfoPtr vcpus = NULL;
    virDomainInfo info;
    int n;

    TRY(domain_info(d, &info));
    vcpus = NEW_ARRAY(virVcpuInfo, MAX(info.nrVirtCpu, 1));
    n = virDomainGetVcpus(dom, vcpus, info.nrVirtCpu, NULL, 0);
    if (n < 0) {
        return lvi_domain_error(d, dom, "virtual CPUs");
    }
    *ret = NEW_ARRAY(uint64_t, (size_t)n);
    *ret_n = (size_t)n;
    for (int i = 0; i < n; i++) {
        (*ret)[i] = vcpus[i].cpuTime;
    }
    return NULL;
}

struct err *lv_memory_stats(struct lv_domain *d, uint64_t *ret_max_kib, uint64_t *ret_used_kib)
{
    virDomainInfo info;

    TRY(domain_info(d, &info));
    *ret_max_kib = info.maxMem;
    *ret_used_kib = info.memory;
    return NULL;
}

static const char *memory_detail_name(int tag)
{
    static const char *const names[] = {
        [VIR_DOMAIN_MEMORY_STAT_SWAP_IN] = "swap_in",
        [VIR_DOMAIN_MEMORY_STAT_SWAP_OUT] = "swap_out",
        [VIR_DOMAIN_MEMORY_STAT_MAJOR_FAULT] = "major_fault",
        [VIR_DOMAIN_MEMORY_STAT_MINOR_FAULT] = "minor_fault",
        [VIR_DOMAIN_MEMORY_STAT_UNUSED] = "unused",
        [VIR_DOMAIN_MEMORY_STAT_AVAILABLE] = "available",
        [VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON] = "actual",
        [VIR_DOMAIN_MEMORY_STAT_RSS] = "rss",
        [VIR_DOMAIN_MEMORY_STAT_USABLE] = "usable",
        [VIR_DOMAIN_MEMORY_STAT_LAST_UPDATE] = "last_update",
        [VIR_DOMAIN_MEMORY_STAT_DISK_CACHES] = "disk_caches",
        [VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGALLOC] = "hugetlb_pgalloc",
        [VIR_DOMAIN_MEMORY_STAT_HUGETLB_PGFAIL] = "hugetlb_pgfail",
    };

    return tag >= 0 && tag < (int)ARRAY_SIZE(names) ? names[tag] : NULL;
}

struct err *lv_memory_details(struct lv_domain *d, struct lv_memory_detail **ret, size_t *ret_n)
{
    WITH_DOMAIN(d);
    virDomainMemoryStatStruct stats[VIR_DOMAIN_MEMORY_STAT_NR];
    int n = virDomainMemoryStats(dom, stats, ARRAY_SIZE(stats), 0);

    if (n < 0) {
        return lvi_domain_error(d, dom, "memory statistics");
    }
    *ret = NEW_ARRAY(struct lv_memory_detail, (size_t)n);
    *ret_n = 0;
    for (int i = 0; i < n; i++) {
        const char *name = memory_detail_name(stats[i].tag);

        if (name) {
            (*ret)[(*ret_n)++] = (struct lv_memory_detail){name, stats[i].val};
        }
    }
    return NULL;
}

/* Disks, block jobs and statistics of the fake libvirt. */
#include "tests/fake/lv_fake_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct err *lv_block_info(struct lv_domain *d, const char *path_or_target,
                          struct lv_block_info *ret)
{
    CLEANUP(freep) char *name = str_printf("blocks/%s", path_or_target);
    CLEANUP(freep) char *text = NULL;
    struct stat st;

    TRY(fake_check_domain(d));
    if (path_or_target[0] != '/') {
        text = lv_fake_read(d->dir, name);
        if (text && sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &ret->capacity,
                           &ret->allocation, &ret->physical) == 3) {
            return NULL;
        }
    } else if (stat(path_or_target, &st) == 0) {
        *ret = (struct lv_block_info){.capacity = (uint64_t)st.st_size,
                                      .allocation = (uint64_t)st.st_blocks * 512,
                                      .physical = (uint64_t)st.st_size};
        return NULL;
    }
    return fake_refused("VIR_ERR_INVALID_ARG", "invalid argument: no such disk");
}

/* ---- Block jobs ---- */

static char *job_name(const struct lv_domain *d, const char *target)
{
    return str_printf("blocks/%s.%s.job", d->uuid, target);
}

struct err *lv_block_copy(struct lv_domain *d, const char *target, const char *dest,
                          const char *format, bool is_shallow)
{
    CLEANUP(freep) char *name = job_name(d, target);
    enum lv_state state;

    fake_note(d, "block_copy %s %s %s shallow=%d", target, dest, format, is_shallow);
    TRY(lv_domain_state(d, &state, NULL));
    if (!fake_is_active(state)) {
        return fake_refused("VIR_ERR_OPERATION_INVALID", "domain is not running");
    }
    if (access(dest, F_OK) != 0) {
        return fake_refused("VIR_ERR_SYSTEM_ERROR", "missing destination file for disk");
    }
    lv_fake_write(d->dir, name, "");
    return NULL;
}

struct err *lv_block_job(struct lv_domain *d, const char *target, struct lv_block_job *ret)
{
    CLEANUP(freep) char *name = job_name(d, target);
    CLEANUP(freep) char *path = fake_in(d->dir, "%s", name);

    TRY(fake_check_domain(d));
    *ret = (struct lv_block_job){0};
    if (access(path, F_OK) == 0) {
        bool is_busy = fake_habit_counts(d, "copy_polls");

        *ret = (struct lv_block_job){
            .is_there = true, .is_ready = !is_busy, .done = is_busy ? 50 : 100, .total = 100};
    }
    return NULL;
}

struct err *lv_block_job_abort(struct lv_domain *d, const char *target)
{
    CLEANUP(freep) char *name = job_name(d, target);
    CLEANUP(freep) char *path = fake_in(d->dir, "%s", name);

    TRY(fake_check_domain(d));
    fake_note(d, "block_job_abort %s", target);
    if (unlink(path) != 0) {
        return fake_refused("VIR_ERR_INVALID_ARG", "disk does not have an active block job");
    }
    return NULL;
}

/* ---- Statistics: the numbers of the facts ---- */

struct err *lv_interface_stats(struct lv_domain *d, const char *device,
                               struct lv_interface_stats *ret)
{
    CLEANUP(freep) char *quoted = str_printf("'%s'", device);
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_xml(d, false, &xml));
    if (!strstr(xml, quoted)) {
        return fake_refused("VIR_ERR_INVALID_ARG", "invalid argument: no such interface");
    }
    *ret =
        (struct lv_interface_stats){.rx_bytes = (int64_t)fake_fact_u64(d->dir, "rx_bytes", 4408),
                                    .rx_packets = (int64_t)fake_fact_u64(d->dir, "rx_packets", 82),
                                    .tx_bytes = (int64_t)fake_fact_u64(d->dir, "tx_bytes", 0),
                                    .tx_packets = (int64_t)fake_fact_u64(d->dir, "tx_packets", 0)};
    return NULL;
}

struct err *lv_block_stats(struct lv_domain *d, const char *target, struct lv_block_stats *ret)
{
    CLEANUP(freep) char *quoted = str_printf("'%s'", target);
    CLEANUP(freep) char *xml = NULL;

    TRY(lv_domain_xml(d, false, &xml));
    if (!strstr(xml, quoted)) {
        return fake_refused("VIR_ERR_INVALID_ARG", "invalid argument: no such disk");
    }
    *ret = (struct lv_block_stats){
        .read_requests = (int64_t)fake_fact_u64(d->dir, "read_requests", 169),
        .read_bytes = (int64_t)fake_fact_u64(d->dir, "read_bytes", 688640),
        .errors = -1};
    return NULL;
}

struct err *lv_vcpu_times(struct lv_domain *d, uint64_t **ret, size_t *ret_n)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *text = NULL;
    uint64_t n = 1;

    TRY(lv_domain_xml(d, false, &xml));
    text = fake_element(xml, "vcpu");
    if (text && !str_to_u64(text, &n)) {
        n = 1;
    }
    *ret = NEW_ARRAY(uint64_t, n);
    *ret_n = n;
    for (uint64_t i = 0; i < n; i++) {
        (*ret)[i] = (i + 1) * 1000000000;
    }
    return NULL;
}

struct err *lv_memory_stats(struct lv_domain *d, uint64_t *ret_max_kib, uint64_t *ret_used_kib)
{
    CLEANUP(freep) char *xml = NULL;
    CLEANUP(freep) char *text = NULL;
    uint64_t kib;

    TRY(lv_domain_xml(d, false, &xml));
    text = fake_element(xml, "memory");
    *ret_max_kib = text && str_to_u64(text, &kib) ? kib : 65536;
    *ret_used_kib = *ret_max_kib;
    return NULL;
}

struct err *lv_memory_details(struct lv_domain *d, struct lv_memory_detail **ret, size_t *ret_n)
{
    uint64_t max_kib, used_kib;

    TRY(lv_memory_stats(d, &max_kib, &used_kib));
    *ret = NEW_ARRAY(struct lv_memory_detail, 2);
    *ret_n = 2;
    (*ret)[0] = (struct lv_memory_detail){"actual", used_kib};
    (*ret)[1] = (struct lv_memory_detail){"rss", used_kib / 2};
    return NULL;
}

/* Of lv.h: migration, and what libvirt tells of jobs. */
#include "driver/libvirt/lv_impl.h"

#include <assert.h>
#include <string.h>

_Static_assert(LV_JOB_UNBOUNDED == (int)VIR_DOMAIN_JOB_UNBOUNDED, "job types");
_Static_assert(LV_JOB_CANCELLED == (int)VIR_DOMAIN_JOB_CANCELLED, "job types");

/* ---- Job statistics ---- */

#define JOB_FIELD(param, member)                                                                   \
    {                                                                                              \
        VIR_DOMAIN_JOB_##param, offsetof(struct lv_job, member)                                    \
    }
static const struct {
    const char *name;
    size_t offset; /* Of a uint64_t. */
} job_fields[] = {
    JOB_FIELD(TIME_ELAPSED, time_elapsed_ms),
    JOB_FIELD(DOWNTIME, downtime_ms),
    JOB_FIELD(SETUP_TIME, setup_time_ms),
    JOB_FIELD(DATA_TOTAL, data_total),
    JOB_FIELD(DATA_PROCESSED, data_processed),
    JOB_FIELD(DATA_REMAINING, data_remaining),
    JOB_FIELD(MEMORY_TOTAL, memory_total),
    JOB_FIELD(MEMORY_PROCESSED, memory_processed),
    JOB_FIELD(MEMORY_REMAINING, memory_remaining),
    JOB_FIELD(MEMORY_BPS, memory_bps),
    JOB_FIELD(DISK_TOTAL, disk_total),
    JOB_FIELD(DISK_PROCESSED, disk_processed),
    JOB_FIELD(DISK_REMAINING, disk_remaining),
    JOB_FIELD(DISK_BPS, disk_bps),
    JOB_FIELD(MEMORY_DIRTY_RATE, memory_dirty_rate),
    JOB_FIELD(MEMORY_PAGE_SIZE, memory_page_size),
    JOB_FIELD(MEMORY_ITERATION, memory_iteration),
    JOB_FIELD(MEMORY_CONSTANT, memory_constant),
    JOB_FIELD(MEMORY_NORMAL_BYTES, memory_normal_bytes),
};

void lvi_fill_job(struct lv_job *job, int type, virTypedParameterPtr params, int n)
{
    *job = (struct lv_job){.type = (enum lv_job_type)type};
    for (size_t i = 0; i < ARRAY_SIZE(job_fields); i++) {
        unsigned long long value = 0;

        /* One that is missing or of another type counts as 0. */
        if (virTypedParamsGetULLong(params, n, job_fields[i].name, &value) == 1) {
            *(uint64_t *)(void *)((char *)job + job_fields[i].offset) = value;
        }
    }
    if (virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE,
                             &job->auto_converge_throttle) != 1) {
        job->auto_converge_throttle = 0;
    }
}

/* ---- Migration ---- */

struct params {
    virTypedParameterPtr items;
    int n, cap;
};

static void params_fini(struct params *p)
{
    virTypedParamsFree(p->items, p->n);
}

/* These fail only for a name that is too long. */
static void params_add_str(struct params *p, const char *name, const char *value)
{
    int rc = virTypedParamsAddString(&p->items, &p->n, &p->cap, name, value);

    assert(rc == 0);
}

static void params_add_disks(struct params *p, const struct strv *disks)
{
    for (size_t i = 0; disks && i < disks->n; i++) {
        params_add_str(p, VIR_MIGRATE_PARAM_MIGRATE_DISKS, disks->items[i]);
    }
}

static void params_fill(struct params *p, const struct lv_migrate_params *from)
{
    int rc = 0;

    params_add_str(p, VIR_MIGRATE_PARAM_DEST_XML, from->dest_xml);
    params_add_str(p, VIR_MIGRATE_PARAM_PERSIST_XML, from->dest_xml);
    if (from->migrate_uri) {
        params_add_str(p, VIR_MIGRATE_PARAM_URI, from->migrate_uri);
    }
    params_add_disks(p, from->disks);
    if (from->bandwidth_mib > 0) {
        rc = virTypedParamsAddULLong(&p->items, &p->n, &p->cap, VIR_MIGRATE_PARAM_BANDWIDTH,
                                     from->bandwidth_mib);
    }
    assert(rc == 0);
    if (from->flags & LV_MIGRATE_PARALLEL && from->parallel_connections > 0) {
        rc = virTypedParamsAddInt(&p->items, &p->n, &p->cap, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS,
                                  (int)from->parallel_connections);
    }
    assert(rc == 0);
}

static const struct {
    unsigned ours, libvirts;
} migrate_flags[] = {
    {LV_MIGRATE_TUNNELLED, VIR_MIGRATE_TUNNELLED},
    {LV_MIGRATE_TLS, VIR_MIGRATE_TLS},
    {LV_MIGRATE_POSTCOPY, VIR_MIGRATE_POSTCOPY},
    {LV_MIGRATE_AUTO_CONVERGE, VIR_MIGRATE_AUTO_CONVERGE},
    {LV_MIGRATE_NON_SHARED_INC, VIR_MIGRATE_NON_SHARED_INC},
    {LV_MIGRATE_PARALLEL, VIR_MIGRATE_PARALLEL},
};

struct err *lv_migrate(struct lv_domain *d, const struct lv_migrate_params *from)
{
    WITH_DOMAIN(d);
    CLEANUP(params_fini) struct params params = {0};
    unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST |
                     VIR_MIGRATE_UNDEFINE_SOURCE;

    for (size_t i = 0; i < ARRAY_SIZE(migrate_flags); i++) {
        flags |= from->flags & migrate_flags[i].ours ? migrate_flags[i].libvirts : 0;
    }
    params_fill(&params, from);
    if (virDomainMigrateToURI3(dom, from->dest_uri, params.items, (unsigned)params.n, flags) < 0) {
        return err_context(lvi_domain_error(d, dom, "migration"), "to %s", from->dest_uri);
    }
    return NULL;
}

struct err *lv_migrate_set_max_downtime(struct lv_domain *d, uint64_t ms)
{
    WITH_DOMAIN(d);

    return virDomainMigrateSetMaxDowntime(dom, ms, 0) < 0
               ? lvi_domain_error(d, dom, "maximum downtime")
               : NULL;
}

struct err *lv_migrate_set_max_speed(struct lv_domain *d, uint64_t mib_per_s)
{
    WITH_DOMAIN(d);

    return virDomainMigrateSetMaxSpeed(dom, mib_per_s, 0) < 0
               ? lvi_domain_error(d, dom, "maximum speed")
               : NULL;
}

static int start_postcopy(virDomainPtr dom)
{
    return virDomainMigrateStartPostCopy(dom, 0);
}

struct err *lv_migrate_start_postcopy(struct lv_domain *d)
{
    return lvi_domain_call(d, start_postcopy, "switching to post-copy");
}

struct err *lv_abort_job(struct lv_domain *d)
{
    return lvi_domain_call(d, virDomainAbortJob, "aborting the job");
}

static struct err *job_stats(struct lv_domain *d, unsigned flags, struct lv_job *ret)
{
    WITH_DOMAIN(d);
    CLEANUP(params_fini) struct params params = {0};
    int type;

    if (virDomainGetJobStats(dom, &type, &params.items, &params.n, flags) < 0) {
        return lvi_domain_error(d, dom, "job statistics");
    }
    lvi_fill_job(ret, type, params.items, params.n);
    return NULL;
}

struct err *lv_job_stats(struct lv_domain *d, struct lv_job *ret)
{
    CLEANUP(err_freep) struct err *e = job_stats(d, 0, ret);

    if (!e) {
        return NULL;
    }
    if (err_is(e, ERR_INSTANCE_NOT_FOUND) ||
        str_eq(err_get(e, "name"), "VIR_ERR_OPERATION_INVALID")) {
        *ret = (struct lv_job){.type = LV_JOB_COMPLETED};
        return NULL;
    }
    /* QEMU has begun or ended the migration but has no numbers (guest.py get_job_info). */
    if (str_eq(err_get(e, "name"), "VIR_ERR_INTERNAL_ERROR") &&
        strstr(err_message(e), "migration was active, but no RAM info was set")) {
        *ret = (struct lv_job){.type = LV_JOB_NONE};
        return NULL;
    }
    return TAKE(e);
}

struct err *lv_job_completed_stats(struct lv_domain *d, struct lv_job *ret)
{
    return job_stats(d, VIR_DOMAIN_JOB_STATS_COMPLETED, ret);
}

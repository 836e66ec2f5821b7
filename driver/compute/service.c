#include "driver/compute/service.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

#define PING_MS    10000
#define PING_TRIES 10

struct service_record {
    struct mutex m; /* Covers all below; 'saving' keeps heartbeats apart without it. */
    struct service *record;
    int64_t last_report_ms;
    bool is_disabled, is_failing, is_saving;
};

struct service_record *service_record_new(void)
{
    struct service_record *s = NEW(struct service_record);

    mutex_init(&s->m);
    return s;
}

struct service_record *service_record_free(struct service_record *s)
{
    if (s) {
        service_free(s->record);
        mutex_fini(&s->m);
        free(s);
    }
    return NULL;
}

static struct err *wait_for_conductor(struct node *node, const struct rctx *ctx)
{
    for (unsigned n = 1;; n++) {
        struct err *e = conductor_ping(node->conductor, ctx, n <= PING_TRIES ? PING_MS : 0);

        if (!e || err_is(e, ERR_CANCELLED)) {
            return e;
        }
        log_warning(LOG_COMPUTE, "waiting for nova-conductor: %s, trying again", err_message(e));
        err_free(e);
        if (cancel_sleep(node->stopping, 500)) {
            return err_msg(ERR_CANCELLED, "stopped while waiting for nova-conductor");
        }
    }
}

static struct err *check_version(struct node *node, const struct rctx *ctx)
{
    int64_t minimum;

    TRY(service_minimum_version(node->conductor, ctx, NODE_BINARY, &minimum));
    if (minimum > NODE_SERVICE_VERSION) {
        CLEANUP(freep) char *ours = str_printf("%d", NODE_SERVICE_VERSION);
        CLEANUP(freep) char *theirs = str_printf("%lld", (long long)minimum);

        return err_new(ERR_SERVICE_TOO_OLD, "thisver", ours, "minver", theirs, NULL);
    }
    return NULL;
}

static struct err *create(struct node *node, const struct rctx *ctx, struct service **ret)
{
    CLEANUP(service_freep) struct service *s = service_new();

    service_set_host(s, node->host);
    service_set_binary(s, NODE_BINARY);
    service_set_topic(s, NODE_TOPIC);
    service_set_report_count(s, 0);
    service_set_version(s, NODE_SERVICE_VERSION);
    struct err *e = service_create(node->conductor, ctx, s);

    if (err_is(e, ERR_SERVICE_TOPIC_EXISTS) || err_is(e, ERR_SERVICE_BINARY_EXISTS)) {
        err_free(e); /* Made between our look and our create. */
        return service_get(node->conductor, ctx, node->host, NODE_BINARY, ret);
    }
    TRY(e);
    log_info(LOG_COMPUTE, "service record %lld made for host %s", (long long)service_id(s),
             node->host);
    *ret = TAKE(s);
    return NULL;
}

struct err *service_join(struct node *node, const struct rctx *ctx)
{
    struct service_record *sr = node->service;
    CLEANUP(service_freep) struct service *s = NULL;

    TRY(wait_for_conductor(node, ctx));
    TRY(check_version(node, ctx));
    TRY(service_get(node->conductor, ctx, node->host, NODE_BINARY, &s));
    if (!s) {
        TRY_CTX(create(node, ctx, &s), "making the service record");
    }
    if (service_version(s) != NODE_SERVICE_VERSION) {
        service_set_version(s, NODE_SERVICE_VERSION);
        TRY_CTX(service_save(node->conductor, ctx, s), "storing our service version");
    }
    mutex_lock(&sr->m);
    sr->is_disabled = service_disabled(s);
    sr->record = TAKE(s);
    mutex_unlock(&sr->m);
    return NULL;
}

/* A small object of its own for each save, so that the record is never used by two threads. */
static struct service *begin_report(struct service_record *sr)
{
    struct service *s = NULL;

    mutex_lock(&sr->m);
    if (!sr->is_saving && sr->record) {
        sr->is_saving = true;
        s = service_dup(sr->record);
        ovo_reset_changes(service_ovo(s), /* is_recursive= */ false);
        service_set_report_count(s, service_report_count(s) + 1);
    }
    mutex_unlock(&sr->m);
    return s;
}

static void end_report(struct service_record *sr, struct service *s, const struct err *e)
{
    mutex_lock(&sr->m);
    sr->is_saving = false;
    bool was_failing = sr->is_failing;

    sr->is_failing = e != NULL;
    if (!e) {
        sr->last_report_ms = clock_ms();
        sr->is_disabled = service_has_disabled(s) && service_disabled(s);
        service_free(sr->record);
        sr->record = service_dup(s);
    }
    mutex_unlock(&sr->m);
    if (e && !was_failing) {
        log_error(LOG_COMPUTE, "heartbeat failed: %s, trying again at the next interval",
                  err_message(e));
    } else if (!e && was_failing) {
        log_info(LOG_COMPUTE, "heartbeat works again");
    }
}

void service_report(struct node *node, const struct rctx *ctx)
{
    CLEANUP(service_freep) struct service *s = begin_report(node->service);

    if (!s) {
        return;
    }
    CLEANUP(err_freep) struct err *e = service_save(node->conductor, ctx, s);

    end_report(node->service, s, e);
}

bool service_is_disabled(struct node *node)
{
    mutex_lock(&node->service->m);
    bool is_disabled = node->service->is_disabled;

    mutex_unlock(&node->service->m);
    return is_disabled;
}

struct err *service_refresh(struct node *node, const struct rctx *ctx)
{
    CLEANUP(service_freep) struct service *s = NULL;

    TRY(service_get_by_compute_host(node->conductor, ctx, node->host, &s));
    if (s) {
        mutex_lock(&node->service->m);
        node->service->is_disabled = service_disabled(s);
        mutex_unlock(&node->service->m);
    }
    return NULL;
}

void service_status(struct node *node, struct service_status *ret)
{
    struct service_record *sr = node->service;

    mutex_lock(&sr->m);
    *ret = (struct service_status){
        .id = sr->record ? service_id(sr->record) : 0,
        .report_count = sr->record ? service_report_count(sr->record) : 0,
        .last_report_ms = sr->last_report_ms,
        .is_failing = sr->is_failing,
    };
    mutex_unlock(&sr->m);
}

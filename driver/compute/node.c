#include "driver/compute/node.h"

#include "base/clock.h"
#include "base/keylock.h"
#include "base/log.h"
#include "driver/compute/chore.h"
#include "driver/compute/dispatch.h"
#include "driver/compute/events.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/moves.h"
#include "driver/compute/netcare.h"
#include "driver/compute/notify.h"
#include "driver/compute/recovery.h"
#include "driver/compute/service.h"
#include "driver/compute/spawn.h"
#include "driver/compute/tracker.h"
#include "driver/libvirt/host.h"
#include "driver/libvirt/imagecache.h"
#include "driver/libvirt/lvwatch.h"

#include <stdlib.h>

/* Nova's 0 is "unlimited"; a move costs us two small threads. */
#define MAX_MOVES        64
#define LIBVIRT_RETRY_MS 5000

/* virt_type to libvirt's URI, unless connection_uri says it. */
static const char *libvirt_uri(const struct conf *conf)
{
    return str_is_empty(conf->libvirt.connection_uri) ? "qemu:///system"
                                                      : conf->libvirt.connection_uri;
}

void node_apply_conf(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);
    int64_t moves = conf->dflt.max_concurrent_live_migrations;
    int64_t builds = conf->dflt.max_concurrent_builds;

    task_set_limit(node->tasks, LANE_MIGRATE, moves > 0 ? (unsigned)moves : MAX_MOVES);
    task_set_limit(node->tasks, LANE_BUILD, builds > 0 ? (unsigned)builds : MAX_MOVES);
    if (node->glance) {
        glance_set_retries(node->glance, (unsigned)conf->glance.num_retries);
    }
    conf_put(conf);
}

static struct err *open_rest(struct node *node)
{
    struct rest_session *session = NULL;

    TRY_CTX(rest_session_new(node->conf, "placement", &session), "[placement]");
    node->placement = placement_new(session);
    TRY_CTX(rest_session_new(node->conf, "neutron", &session), "[neutron]");
    node->neutron = neutron_new(session);
    TRY_CTX(rest_session_new(node->conf, "glance", &session), "[glance]");
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);

    node->glance =
        glance_new(session, &conf->glance.api_servers, (unsigned)conf->glance.num_retries);
    return NULL;
}

static struct err *fill(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);

    node->host_name = str_dup(conf->dflt.host);
    node->host = node->host_name;
    node->uri = str_dup(libvirt_uri(conf));
    node->libvirt_uri = node->uri;
    CLEANUP(freep) char *ovsdb = str_dup(conf->os_vif_ovs.ovsdb_connection);

    conf_put(conf);
    node->stopping = cancel_new();
    node->tasks = task_pool_new();
    node_apply_conf(node);
    node->watch = lvwatch_new();
    node->events = events_new();
    node->moves = moves_new();
    node->network_locks = keylock_new();
    node->chores = chores_new();
    node->netcare = netcare_new();
    node->service = service_record_new();
    node->dispatcher = dispatcher_new();
    node->notifier = notifier_new(node);
    node->tracker = tracker_new(node);
    node->spawner = spawner_new();
    TRY(open_rest(node));
    TRY(ovsdb_new(node->loop, ovsdb, &node->vif.ovsdb));
    node->vif.conf = node->conf;
    ovsdb_watch_gone(node->vif.ovsdb, netcare_gone, node);
    TRY(rpc_new(node->conf, &node->rpc));
    node->client = rpc_client(node->rpc);
    node->conductor = conductor_new(node->client);
    return NULL;
}

struct err *node_new(struct conf_holder *conf, struct loop *loop, struct node **ret)
{
    struct node *node = NEW(struct node);

    node->conf = conf;
    node->loop = loop;
    node->started_ms = clock_ms();
    struct err *e = fill(node);

    if (e) {
        node_free(node);
        return e;
    }
    *ret = node;
    return NULL;
}

/* ---- Start ---- */

struct start {
    struct node *node;
    node_started_fn done;
    void *arg;
    struct err *err;
};

/* libvirtd may come up after us: that is worth waiting for, a host it cannot serve is not. */
static struct err *connect_libvirt(struct node *node)
{
    while (true) {
        struct err *e = lv_connect(node->libvirt_uri, &node->lv);

        if (!e) {
            break;
        }
        log_warning(LOG_LIBVIRT, "connecting to %s: %s, retrying in 5 s", node->libvirt_uri,
                    err_message(e));
        if (cancel_sleep(node->stopping, LIBVIRT_RETRY_MS)) {
            return e;
        }
        err_free(e);
    }
    TRY(lv_connect(node->libvirt_uri, &node->lv_events));
    TRY(lv_subscribe(node->lv_events, lifecycle_event, node));
    const struct conf *conf = conf_get(node->conf);
    struct err *e = host_check(node->lv, conf);

    conf_put(conf);
    return e;
}

static void sweep(struct node *node)
{
    const struct conf *conf = conf_get(node->conf);

    imagecache_sweep(conf);
    conf_put(conf);
}

static struct err *start(struct node *node)
{
    static const char *const topics[] = {NODE_TOPIC, "compute-alt", NULL};
    CLEANUP(rctx_freep) struct rctx *ctx = rctx_new_admin();

    log_context_set(rctx_log_text(ctx), NULL);
    TRY_CTX(rpc_serve(node->rpc, topics, node->host, dispatch_request, node), "serving the bus");
    log_info(LOG_MAIN, "consuming %lld ms after the start",
             (long long)(clock_ms() - node->started_ms));
    TRY_CTX(connect_libvirt(node), "libvirt");
    sweep(node);
    TRY(service_join(node, ctx));
    TRY_CTX(tracker_audit(node->tracker, ctx, /* is_startup= */ true), "counting resources");
    TRY_CTX(recovery_run(node, ctx), "going through the servers of this host");
    dispatch_open(node);
    service_report(node, ctx);
    log_info(LOG_MAIN, "ready %lld ms after the start", (long long)(clock_ms() - node->started_ms));
    return NULL;
}

static void start_done(void *arg)
{
    struct start *s = arg;

    s->done(s->err, s->arg);
    free(s);
}

static void start_task(void *arg)
{
    struct start *s = arg;

    s->err = start(s->node);
    log_context_set(NULL, NULL);
    loop_post(s->node->loop, start_done, s);
}

void node_start(struct node *node, node_started_fn done, void *arg)
{
    struct start *s = NEW(struct start);

    *s = (struct start){.node = node, .done = done, .arg = arg};
    task_submit(node->tasks, LANE_WORK, /* key= */ NULL, "start", start_task, free, s);
}

/* ---- Stop ---- */

void node_stop(struct node *node)
{
    cancel_set(node->stopping);
    rpc_stop_serving(node->rpc);
    events_cancel_all(node->events);
    moves_cancel_waiting(node->moves);
}

bool node_is_idle(struct node *node)
{
    for (int lane = 0; lane < N_LANES; lane++) {
        struct task_stats s;

        task_stats(node->tasks, (enum lane)lane, &s);
        if (s.n_running || s.n_queued || s.n_waiting) {
            return false;
        }
    }
    return moves_n(node->moves) == 0;
}

struct node *node_free(struct node *node)
{
    if (!node) {
        return NULL;
    }
    task_pool_free(node->tasks);
    lv_conn_free(node->lv_events);
    lv_conn_free(node->lv);
    lvwatch_free(node->watch);
    ovsdb_free(node->vif.ovsdb);
    conductor_free(node->conductor);
    rpc_free(node->rpc);
    glance_free(node->glance);
    neutron_free(node->neutron);
    placement_free(node->placement);
    tracker_free(node->tracker);
    spawner_free(node->spawner);
    notifier_free(node->notifier);
    dispatcher_free(node->dispatcher);
    service_record_free(node->service);
    netcare_free(node->netcare);
    keylock_free(node->network_locks);
    chores_free(node->chores);
    moves_free(node->moves);
    events_free(node->events);
    cancel_free(node->stopping);
    free(node->host_name);
    free(node->uri);
    free(node);
    return NULL;
}

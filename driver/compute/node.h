#pragma once

/* The service as a whole: everything that a handler may need hangs from struct node.
 *
 * Built by main.c in the order of Nova's start (contract startup-and-periodics.md 5.2), taken apart
 * in reverse.  Its pointers never change while tasks run.
 *
 * Thread-safety: the struct is read-only after the start; what it points to says for itself. */

#include "base/conf.h"
#include "base/loop.h"
#include "base/task.h"
#include "driver/libvirt/lv.h"
#include "rpc/amqp/conductor.h"
#include "rpc/amqp/rpc.h"
#include "rpc/rest/glance.h"
#include "rpc/rest/neutron.h"
#include "rpc/rest/placement.h"
#include "vif/plug.h"

struct keylock;
struct lvwatch;
struct spawner;
struct tracker;
struct events;
struct moves;
struct netcare;
struct notifier;
struct service_record;
struct dispatcher;
struct chores;

struct node {
    struct conf_holder *conf;
    const char *host; /* [DEFAULT]host */
    const char *libvirt_uri;
    char *host_name, *uri; /* What the two above borrow. */
    struct loop *loop;
    struct task_pool *tasks;
    struct rpc *rpc;
    struct rpc_client *client;
    struct conductor *conductor;
    struct placement *placement;
    struct neutron *neutron;
    struct glance *glance;
    struct lv_conn *lv;        /* Control: short calls. */
    struct lv_conn *lv_events; /* Subscribed; nothing else. */
    struct lvwatch *watch;     /* Who waits for an event of a guest. */
    struct vif_host vif;
    struct spawner *spawner; /* How guests are made. */
    struct netcare *netcare;
    struct keylock *network_locks; /* Servers whose network model is being written. */
    struct tracker *tracker;
    struct events *events; /* External events and who waits for them. */
    struct moves *moves;   /* Live migrations whose source we are. */
    struct notifier *notifier;
    struct service_record *service;
    struct dispatcher *dispatcher; /* Requests that come before we are ready. */
    struct chores *chores;         /* What periodic jobs do to single servers. */
    struct cancel *stopping;       /* Set when the service is asked to stop. */
    int64_t started_ms;
};

/* RPC versions and the service version that we store: those of the control plane's release (Zed).
 */
#define NODE_SERVICE_VERSION 64
#define NODE_RPC_VERSION     "6.1"
#define NODE_BINARY          "nova-compute"
#define NODE_TOPIC           "compute"

/* Makes everything that hangs from a node, without talking to anybody. */
struct err *node_new(struct conf_holder *, struct loop *, struct node **ret) MUST_CHECK;
/* Starts to serve, on a lane: joins the cell, counts resources, settles what a crash left.  Calls
 * 'done' on the loop's thread, with the error that makes a start impossible or NULL. */
typedef void (*node_started_fn)(struct err *, void *arg);
void node_start(struct node *, node_started_fn done, void *arg);
/* Nothing new is taken; what waits is cancelled.  The loop goes on until node_is_idle. */
void node_stop(struct node *);
bool node_is_idle(struct node *);
/* After the loop has ended. */
struct node *node_free(struct node *);
/* Options that may change while we run: limits of lanes. */
void node_apply_conf(struct node *);

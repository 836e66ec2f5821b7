/* novashim: the daemon.
 *
 * Reads the configuration, makes the node, and runs the reactor until a signal ends it. */

#include "base/clock.h"
#include "base/conf.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "driver/compute/control.h"
#include "driver/compute/node.h"
#include "driver/compute/periodic.h"
#include "driver/libvirt/lv.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* graceful_shutdown_timeout of Nova's services. */
#define STOP_MS      60000
#define STOP_LOOK_MS 100

struct daemon {
    struct conf_holder *conf;
    struct loop *loop;
    struct node *node;
    struct periodic *periodic;
    struct control *control;
    struct loop_source *stop_timer;
    int64_t stop_deadline_ms; /* 0: not stopping. */
    int status;
};

static struct err *open_log(struct conf_holder *holder)
{
    const struct conf *conf = conf_get(holder);
    CLEANUP(freep) char *path = NULL;

    if (conf->dflt.log_file || conf->dflt.log_dir) {
        const char *name = conf->dflt.log_file ? conf->dflt.log_file : "novashim.log";

        path = conf->dflt.log_dir && name[0] != '/' ? str_printf("%s/%s", conf->dflt.log_dir, name)
                                                    : str_dup(name);
    }
    struct log_conf lc = {.file = path,
                          .level = conf->dflt.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                          .has_date = !conf->dflt.use_journal};

    conf_put(conf);
    return log_open(&lc);
}

/* ---- Stop ---- */

static void look_whether_idle(void *arg)
{
    struct daemon *d = arg;
    int64_t now_ms = clock_ms();

    if (node_is_idle(d->node) || now_ms >= d->stop_deadline_ms) {
        loop_quit(d->loop);
    } else {
        loop_timer_set(d->stop_timer, now_ms + STOP_LOOK_MS);
    }
}

static void begin_stop(struct daemon *d)
{
    if (d->stop_deadline_ms) {
        loop_quit(d->loop); /* Asked twice: at once. */
        return;
    }
    d->stop_deadline_ms = clock_ms() + STOP_MS;
    loop_notify(d->loop, "STOPPING=1");
    if (d->control) {
        d->control = control_close(d->control);
    }
    node_stop(d->node);
    struct err *e = loop_add_timer(d->loop, clock_ms(), look_whether_idle, d, &d->stop_timer);

    if (e) {
        err_ignore(e, "waiting for what runs");
        loop_quit(d->loop);
    }
}

/* ---- Signals ---- */

static void on_stop_signal(int signo, void *arg)
{
    log_info(LOG_MAIN, "signal %d: stopping, nothing new is taken", signo);
    begin_stop(arg);
}

static void on_reload(int signo, void *arg)
{
    struct daemon *d = arg;
    struct strv changed = {0}, restart = {0};
    struct err *e = conf_reload(d->conf, &changed, &restart);

    (void)signo;
    log_reopen();
    if (e) {
        err_ignore(e, "reading the configuration again; the old one stays");
        return;
    }
    for (size_t i = 0; i < changed.n; i++) {
        log_info(LOG_CONF, "%s has changed", changed.items[i]);
    }
    for (size_t i = 0; i < restart.n; i++) {
        log_warning(LOG_CONF, "%s has changed, which takes effect at the next start",
                    restart.items[i]);
    }
    err_ignore(open_log(d->conf), "opening the log again");
    node_apply_conf(d->node);
    strv_fini(&changed);
    strv_fini(&restart);
}

static struct err *watch_signals(struct daemon *d)
{
    TRY(loop_add_signal(d->loop, SIGTERM, on_stop_signal, d));
    TRY(loop_add_signal(d->loop, SIGINT, on_stop_signal, d));
    return loop_add_signal(d->loop, SIGHUP, on_reload, d);
}

/* ---- Start ---- */

static void on_started(struct err *e, void *arg)
{
    struct daemon *d = arg;

    if (!e && !d->stop_deadline_ms) {
        e = periodic_start(d->node, &d->periodic);
    }
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        if (!d->stop_deadline_ms) {
            log_error(LOG_MAIN, "cannot start: %s", text);
            d->status = 1;
            begin_stop(d);
        }
        err_free(e);
        return;
    }
    loop_notify(d->loop, "READY=1");
}

static struct err *run(struct daemon *d)
{
    const struct conf *conf = conf_get(d->conf);
    CLEANUP(freep) char *socket = str_dup(conf->novashim.control_socket);

    conf_put(conf);
    TRY(open_log(d->conf));
    log_info(LOG_MAIN, "novashim " NOVASHIM_VERSION " starts");
    conf_report(d->conf);
    TRY(fault_init(getenv("NOVASHIM_FAULTS")));
    loop_block_signals();
    TRY(loop_new(&d->loop));
    TRY(watch_signals(d));
    TRY(lv_init());
    TRY(node_new(d->conf, d->loop, &d->node));
    err_ignore(control_open(d->node, socket, &d->control), "opening the control socket");
    node_start(d->node, on_started, d);
    return loop_run(d->loop);
}

int main(int argc, char **argv)
{
    struct daemon d = {0};
    struct conf_cmdline cmdline;

    mem_tune();
    struct err *e = conf_load(argc, argv, &cmdline, &d.conf);

    if (e) {
        fprintf(stderr, "%s\n", err_message(e));
        err_free(e);
        return 1;
    }
    switch (cmdline.action) {
    case CONF_HELP:
        fputs(conf_usage(), stdout);
        return 0;
    case CONF_VERSION:
        puts("novashim " NOVASHIM_VERSION);
        return 0;
    case CONF_CHECK:
        puts("The configuration is good.");
        conf_holder_free(d.conf);
        return 0;
    case CONF_RUN:
        break;
    }
    e = run(&d);
    if (e) {
        CLEANUP(freep) char *text = err_text(e);

        log_error(LOG_MAIN, "%s", text);
        err_free(e);
        d.status = 1;
    }
    control_close(d.control);
    node_free(d.node);
    periodic_stop(d.periodic);
    loop_free(d.loop);
    conf_holder_free(d.conf);
    log_info(LOG_MAIN, "stopped");
    return d.status;
}

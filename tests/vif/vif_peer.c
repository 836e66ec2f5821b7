/* vif_peer --config-file FILE: carries out commands from stdin, one line each, until "quit", and
 * answers with one line.
 *
 *   ensure BRIDGE NAME TYPE MS    socket NAME PATH MS    bridge NAME DATAPATH MS    remove NAME MS
 * remove-bridge NAME MS many N PREFIX BRIDGE TYPE MS  (N threads at once)        info NAME has TYPE
 * of UUID
 *
 * An answer starts with "ok" or "error"; a "-" stands for an empty argument. */

#include "base/loop.h"
#include "vif/plug.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGS 8
#define SERVER   "5d7d7a46-0f9e-4c0b-8f0a-1c1c0d2b3a4e"

struct peer {
    struct loop *loop;
    struct ovsdb *ovsdb;
    struct conf_holder *conf;
    struct mutex m;
    char *gone GUARDED_BY(m); /* The interface that was deleted last. */
};

typedef struct err *(*command_fn)(struct peer *, char **args, struct strbuf *answer);

static const char *text_of(const char *arg)
{
    return str_eq(arg, "-") ? "" : arg;
}

static int64_t number_of(const char *arg)
{
    return strtoll(arg, NULL, 10);
}

static struct ovs_port_spec spec_of(const char *bridge, const char *name, const char *type)
{
    return (struct ovs_port_spec){
        .bridge = bridge,
        .datapath_type = "dummy",
        .name = name,
        .type = text_of(type),
        .iface_id = name,
        .attached_mac = "fa:16:3e:00:00:15",
        .vm_uuid = SERVER,
        .tag = -1,
    };
}

static struct err *ensure(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    struct ovs_port_spec spec = spec_of(args[0], args[1], args[2]);

    return ovsdb_ensure_port(p->ovsdb, &spec, number_of(args[3]));
}

static struct err *set_socket(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    const struct ovs_socket_spec spec = {args[0], args[1]};

    return ovsdb_set_socket(p->ovsdb, &spec, number_of(args[2]));
}

static struct err *bridge(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    const struct ovs_bridge_spec spec = {args[0], text_of(args[1])};

    return ovsdb_ensure_bridge(p->ovsdb, &spec, number_of(args[2]));
}

static struct err *remove_port(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    return ovsdb_remove_port(p->ovsdb, args[0], number_of(args[1]));
}

static struct err *remove_bridge(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    return ovsdb_remove_bridge(p->ovsdb, args[0], number_of(args[1]));
}

struct one_of_many {
    pthread_t thread;
    struct ovsdb *ovsdb;
    char name[64];
    struct ovs_port_spec spec;
    int64_t timeout_ms;
    struct err *err;
};

static void *run_one(void *arg)
{
    struct one_of_many *one = arg;

    one->err = ovsdb_ensure_port(one->ovsdb, &one->spec, one->timeout_ms);
    return NULL;
}

static struct err *many(struct peer *p, char **args, struct strbuf *answer)
{
    size_t n = (size_t)number_of(args[0]), n_made = 0;
    CLEANUP(freep) struct one_of_many *all = NEW_ARRAY(struct one_of_many, n);

    for (size_t i = 0; i < n; i++) {
        struct one_of_many *one = &all[i];

        snprintf(one->name, sizeof(one->name), "%s%zu", args[1], i);
        one->spec = spec_of(args[2], one->name, args[3]);
        one->ovsdb = p->ovsdb;
        one->timeout_ms = number_of(args[4]);
        pthread_create(&one->thread, NULL, run_one, one);
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(all[i].thread, NULL);
        n_made += !all[i].err;
        if (all[i].err) {
            err_ignore(all[i].err, all[i].name);
        }
    }
    strbuf_addf(answer, " %zu", n_made);
    return NULL;
}

static struct err *info(struct peer *p, char **args, struct strbuf *answer)
{
    struct ovs_port_info i;

    TRY(ovsdb_port_info(p->ovsdb, args[0], &i));
    if (i.exists) {
        strbuf_addf(answer, " bridge=%s type=%s ofport=%s tag=%lld id=%s error=%s", i.bridge,
                    i.type, i.ofport > 0 ? "some" : "none", (long long)i.tag, i.iface_id, i.error);
    } else {
        strbuf_add(answer, " none");
    }
    return NULL;
}

static struct err *has(struct peer *p, char **args, struct strbuf *answer)
{
    bool is_there;

    TRY(ovsdb_has_iface_type(p->ovsdb, args[0], &is_there));
    strbuf_add(answer, is_there ? " yes" : " no");
    return NULL;
}

static struct err *of(struct peer *p, UNUSED char **args, struct strbuf *answer)
{
    CLEANUP(strv_fini) struct strv names = {0};
    CLEANUP(freep) char *joined = NULL;

    TRY(ovsdb_ports_of(p->ovsdb, SERVER, &names));
    strv_sort(&names);
    joined = strv_join(&names, ",");
    strbuf_addf(answer, " %s", joined);
    return NULL;
}

/* ---- Plugging ---- */

static struct err *with_vif(struct peer *p, const char *text,
                            struct err *(*fn)(struct vif_host *, const struct vif *, const char *),
                            const char *arg)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(vif_fini) struct vif vif = {0};
    struct vif_host host = {p->ovsdb, p->conf};

    TRY(jv_parse(text, strlen(text), &json));
    TRY(vif_from_json(json, &vif));
    return fn(&host, &vif, arg);
}

static struct err *plug(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    return with_vif(p, args[0], vif_plug, SERVER);
}

static struct err *unplug(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    return with_vif(p, args[0], vif_unplug, SERVER);
}

static struct err *check(struct peer *p, char **args, UNUSED struct strbuf *answer)
{
    return with_vif(p, args[0], vif_check, "node1");
}

static void on_gone(const struct ovs_gone *gone, void *arg)
{
    struct peer *p = arg;

    mutex_lock(&p->m);
    free(p->gone);
    p->gone = str_printf(" %s of port %s and server %s", gone->name, gone->iface_id, gone->vm_uuid);
    mutex_unlock(&p->m);
}

static struct err *gone(struct peer *p, UNUSED char **args, struct strbuf *answer)
{
    mutex_lock(&p->m);
    strbuf_add(answer, p->gone ? p->gone : " nothing");
    mutex_unlock(&p->m);
    return NULL;
}

static const struct {
    const char *name;
    command_fn fn;
    size_t n_args;
} commands[] = {
    {"ensure", ensure, 4},
    {"socket", set_socket, 3},
    {"bridge", bridge, 3},
    {"remove", remove_port, 2},
    {"remove-bridge", remove_bridge, 2},
    {"many", many, 5},
    {"info", info, 1},
    {"has", has, 1},
    {"of", of, 0},
    {"plug", plug, 1},
    {"unplug", unplug, 1},
    {"check", check, 1},
    {"gone", gone, 0},
};

static struct err *run(struct peer *p, char *line, struct strbuf *answer)
{
    CLEANUP(strv_fini) struct strv words = strv_split(line, " \n");

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (words.n > 0 && str_eq(words.items[0], commands[i].name) &&
            words.n == commands[i].n_args + 1) {
            return commands[i].fn(p, words.items + 1, answer);
        }
    }
    return err_msg(ERR_INTERNAL, "what?");
}

static void *serve(void *arg)
{
    struct peer *p = arg;
    char line[8192];

    while (fgets(line, sizeof(line), stdin) && !str_eq(line, "quit\n")) {
        struct strbuf answer = {0};
        CLEANUP(err_freep) struct err *e = run(p, line, &answer);
        CLEANUP(freep) char *text = e ? err_text(e) : strbuf_take(&answer);

        strbuf_fini(&answer);
        printf(e ? "error %s: %s\n" : "%s%s\n", e ? err_class(e) : "ok", text);
        fflush(stdout);
    }
    loop_quit(p->loop);
    return NULL;
}

static struct err *start(struct peer *p, int argc, char **argv)
{
    struct conf_cmdline cmdline;
    CLEANUP(conf_putp) const struct conf *conf = NULL;

    TRY(conf_load(argc, argv, &cmdline, &p->conf));
    conf = conf_get(p->conf);
    TRY(loop_new(&p->loop));
    TRY(ovsdb_new(p->loop, conf->os_vif_ovs.ovsdb_connection, &p->ovsdb));
    ovsdb_watch_gone(p->ovsdb, on_gone, p);
    return NULL;
}

int main(int argc, char **argv)
{
    struct peer p = {0};
    CLEANUP(err_freep) struct err *e = NULL;
    pthread_t thread;

    loop_block_signals();
    mutex_init(&p.m);
    e = start(&p, argc, argv);
    if (!e) {
        pthread_create(&thread, NULL, serve, &p);
        e = loop_run(p.loop);
        pthread_join(thread, NULL);
    }
    if (e) {
        fprintf(stderr, "%s\n", err_message(e));
    }
    ovsdb_free(p.ovsdb);
    free(p.gone);
    loop_free(p.loop);
    conf_holder_free(p.conf);
    return e ? EXIT_FAILURE : EXIT_SUCCESS;
}

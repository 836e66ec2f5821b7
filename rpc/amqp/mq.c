#include "rpc/amqp/mq.h"

#include "base/clock.h"
#include "base/log.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORK_CHANNEL       1 /* Consumes and publishes. */
#define DECLARE_CHANNEL    2 /* May be closed by the broker at any declaration. */
#define FRAME_MAX          131072
#define CONNECT_TIMEOUT_S  5
#define LOGIN_TIMEOUT_S    15
#define RPC_TIMEOUT_S      30
#define THREAD_STACK_BYTES (512 * 1024)

struct mq {
    const struct mq_options *options;
    amqp_connection_state_t conn; /* NULL: not connected. */
    char *broker;                 /* "host:port" */
    char *name;                   /* As the broker shows it. */
    bool is_readable;             /* The socket may have something. */
    int64_t heartbeat_ms;         /* 0: none. */
    int64_t beat_due_ms;          /* When we send the next one. */
    struct mq_event partial;      /* A message that is being read; MQ_NONE if none is. */
    uint64_t partial_size;        /* What its header said. */
    bool has_header;
    bool is_corked;     /* The kernel keeps acknowledgements until mq_flush. */
    mq_idle_fn on_idle; /* May be NULL. */
    void *on_idle_arg;
};

struct mq *mq_new(const struct mq_options *options)
{
    struct mq *m = NEW(struct mq);

    m->options = options;
    return m;
}

struct mq *mq_free(struct mq *m)
{
    if (m) {
        mq_disconnect(m, /* is_orderly= */ false);
        free(m);
    }
    return NULL;
}

bool mq_is_connected(const struct mq *m)
{
    return m->conn != NULL;
}

/* ---- Errors ---- */

MUST_CHECK static struct err *lost(const struct mq *m, const char *why)
{
    return err_msg(ERR_DISCONNECTED, "connection to the broker %s: %s", m->broker, why);
}

MUST_CHECK static struct err *check(const struct mq *m, int status)
{
    return status == AMQP_STATUS_OK ? NULL : lost(m, amqp_error_string2(status));
}

static char *bytes_dup(amqp_bytes_t b)
{
    return str_ndup(b.bytes ? b.bytes : "", b.len);
}

static enum err_kind kind_of_code(int code)
{
    switch (code) {
    case AMQP_ACCESS_REFUSED:
        return ERR_UNAUTHORIZED;
    case AMQP_NOT_FOUND:
        return ERR_NOT_FOUND;
    case AMQP_PRECONDITION_FAILED:
    case AMQP_RESOURCE_LOCKED:
        return ERR_CONFLICT;
    default:
        return ERR_DISCONNECTED;
    }
}

/* What the broker said when it closed a channel or the connection. */
MUST_CHECK static struct err *closed_by_broker(const struct mq *m, int code, amqp_bytes_t text)
{
    CLEANUP(freep) char *s = bytes_dup(text);

    return err_msg(kind_of_code(code), "broker %s: %d %s", m->broker, code, s);
}

MUST_CHECK static struct err *open_channel(struct mq *m, amqp_channel_t channel);

/* The result of a round trip.  A channel that the broker closed is opened again, so the error is
 * harmless to the connection then: ERR_NOT_FOUND, ERR_CONFLICT, ERR_UNAUTHORIZED. */
MUST_CHECK static struct err *check_reply(struct mq *m, amqp_channel_t channel,
                                          amqp_rpc_reply_t reply)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return NULL;
    }
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
        return check(m, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                            ? reply.library_error
                            : AMQP_STATUS_CONNECTION_CLOSED);
    }
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = reply.reply.decoded;
        CLEANUP(err_freep)
        struct err *e = closed_by_broker(m, close->reply_code, close->reply_text);
        amqp_channel_close_ok_t ok = {0};

        TRY(check(m, amqp_send_method(m->conn, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok)));
        TRY(open_channel(m, channel));
        return TAKE(e);
    }
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = reply.reply.decoded;

        return closed_by_broker(m, close->reply_code, close->reply_text);
    }
    return lost(m, "an answer that makes no sense");
}

MUST_CHECK static struct err *check_rpc(struct mq *m, amqp_channel_t channel)
{
    return check_reply(m, channel, amqp_get_rpc_reply(m->conn));
}

MUST_CHECK static struct err *open_channel(struct mq *m, amqp_channel_t channel)
{
    amqp_channel_open(m->conn, channel);
    return check_rpc(m, channel);
}

/* ---- Connecting ---- */

MUST_CHECK static struct err *tls_versions(const struct mq *m, amqp_socket_t *s)
{
    static const struct {
        const char *name;
        amqp_tls_version_t min, max;
    } versions[] = {{"", AMQP_TLSv1_2, AMQP_TLSvLATEST},
                    {"SSLv23", AMQP_TLSv1, AMQP_TLSvLATEST},
                    {"TLSv1", AMQP_TLSv1, AMQP_TLSv1},
                    {"TLSv1_1", AMQP_TLSv1_1, AMQP_TLSv1_1},
                    {"TLSv1_2", AMQP_TLSv1_2, AMQP_TLSv1_2}};

    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        if (str_ieq(m->options->ssl_version, versions[i].name)) {
            return check(m, amqp_ssl_socket_set_ssl_versions(s, versions[i].min, versions[i].max));
        }
    }
    return err_msg(ERR_CONFIG, "ssl_version '%s' is not supported", m->options->ssl_version);
}

MUST_CHECK static struct err *tls_socket(const struct mq *m, amqp_socket_t **ret)
{
    const struct mq_options *o = m->options;
    bool has_ca = !str_is_empty(o->ssl_ca_file);
    amqp_socket_t *s = amqp_ssl_socket_new(m->conn);

    if (!s) {
        return lost(m, "cannot make a TLS socket");
    }
    TRY(tls_versions(m, s));
    amqp_ssl_socket_set_verify_peer(s, has_ca);
    amqp_ssl_socket_set_verify_hostname(s, has_ca && o->ssl_enforce_hostname_verification);
    if (has_ca) {
        TRY_CTX(check(m, amqp_ssl_socket_set_cacert(s, o->ssl_ca_file)), "loading %s",
                o->ssl_ca_file);
    }
    if (!str_is_empty(o->ssl_cert_file)) {
        const char *key = str_is_empty(o->ssl_key_file) ? o->ssl_cert_file : o->ssl_key_file;

        TRY_CTX(check(m, amqp_ssl_socket_set_key(s, o->ssl_cert_file, key)), "loading %s and %s",
                o->ssl_cert_file, key);
    }
    *ret = s;
    return NULL;
}

/* A peer that vanished without a word is noticed by the kernel too, while we send. */
static void limit_unacknowledged(const struct mq *m)
{
    unsigned ms = (unsigned)m->options->heartbeat_timeout_threshold * 1000;

    if (ms &&
        setsockopt(amqp_get_sockfd(m->conn), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) < 0) {
        log_debug(LOG_RPC, "TCP_USER_TIMEOUT: %s", strerror(errno));
    }
}

MUST_CHECK static struct err *open_socket(struct mq *m, const struct url_host *host)
{
    struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    amqp_socket_t *s = NULL;

    if (m->options->ssl) {
        TRY(tls_socket(m, &s));
    } else {
        s = amqp_tcp_socket_new(m->conn);
        assert(s);
    }
    TRY(check(m, amqp_socket_open_noblock(s, host->host, host->port, &timeout)));
    limit_unacknowledged(m);
    return NULL;
}

static amqp_table_entry_t entry_bool(const char *key, bool value)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = value},
    };
}

static amqp_table_entry_t entry_str(const char *key, const char *value)
{
    return (amqp_table_entry_t){
        .key = amqp_cstring_bytes(key),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)},
    };
}

static amqp_table_entry_t entry_int(const char *key, int64_t value)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(key)};

    if (value >= INT32_MIN && value <= INT32_MAX) {
        e.value.kind = AMQP_FIELD_KIND_I32;
        e.value.value.i32 = (int32_t)value;
    } else {
        e.value.kind = AMQP_FIELD_KIND_I64;
        e.value.value.i64 = value;
    }
    return e;
}

/* librabbitmq speaks PLAIN where Nova's default is AMQPLAIN: the same name and password in another
 * wrapping, and every broker takes both. */
MUST_CHECK static struct err *login(struct mq *m, const struct url_host *host)
{
    amqp_table_entry_t capabilities[] = {entry_bool("authentication_failure_close", true),
                                         entry_bool("connection.blocked", true),
                                         entry_bool("consumer_cancel_notify", true)};
    amqp_table_entry_t properties[] = {
        entry_str("product", "novashim"),
        entry_str("connection_name", m->name),
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {ARRAY_SIZE(capabilities), capabilities}}}};
    amqp_table_t table = {ARRAY_SIZE(properties), properties};
    const char *vhost = m->options->url.vhost;
    int heartbeat = (int)m->options->heartbeat_timeout_threshold;
    amqp_rpc_reply_t reply;

    if (str_ieq(m->options->rabbit_login_method, "EXTERNAL")) {
        reply = amqp_login_with_properties(m->conn, vhost, 0, FRAME_MAX, heartbeat, &table,
                                           AMQP_SASL_METHOD_EXTERNAL, host->user);
    } else {
        reply = amqp_login_with_properties(m->conn, vhost, 0, FRAME_MAX, heartbeat, &table,
                                           AMQP_SASL_METHOD_PLAIN, host->user, host->password);
    }
    return check_reply(m, 0, reply);
}

MUST_CHECK static struct err *connect_to(struct mq *m, const struct url_host *host)
{
    int prefetch = (int)m->options->rabbit_qos_prefetch_count;

    amqp_set_handshake_timeout(m->conn, &(struct timeval){.tv_sec = LOGIN_TIMEOUT_S});
    amqp_set_rpc_timeout(m->conn, &(struct timeval){.tv_sec = RPC_TIMEOUT_S});
    TRY(open_socket(m, host));
    TRY_CTX(login(m, host), "logging in as '%s' to '%s'", host->user, m->options->url.vhost);
    m->heartbeat_ms = (int64_t)amqp_get_heartbeat(m->conn) * 1000;
    TRY(open_channel(m, WORK_CHANNEL));
    TRY(open_channel(m, DECLARE_CHANNEL));
    if (prefetch) {
        amqp_basic_qos(m->conn, WORK_CHANNEL, 0, (uint16_t)prefetch, /* global= */ false);
        TRY(check_rpc(m, WORK_CHANNEL));
    }
    return NULL;
}

static void warn_about_tls(const struct mq_options *o)
{
    static atomic_flag was_said = ATOMIC_FLAG_INIT;

    if (o->ssl && str_is_empty(o->ssl_ca_file) && !atomic_flag_test_and_set(&was_said)) {
        log_warning(LOG_RPC, "ssl without ssl_ca_file: the broker is not verified, going on");
    }
}

struct err *mq_connect(struct mq *m, const struct url_host *host)
{
    char uuid[UUID_LEN + 1];
    struct err *e;

    mq_disconnect(m, /* is_orderly= */ false);
    warn_about_tls(m->options);
    uuid_new(uuid);
    m->broker = str_printf(strchr(host->host, ':') ? "[%s]:%u" : "%s:%u", host->host, host->port);
    m->name = str_printf("novashim:%d:%s", (int)getpid(), uuid);
    m->conn = amqp_new_connection();
    assert(m->conn);
    e = connect_to(m, host);
    if (e) {
        mq_disconnect(m, /* is_orderly= */ false);
    }
    m->is_readable = true;
    m->beat_due_ms = clock_ms() + m->heartbeat_ms / 2;
    return e;
}

void mq_disconnect(struct mq *m, bool is_orderly)
{
    if (!m->conn) {
        return;
    }
    if (is_orderly) {
        amqp_set_rpc_timeout(m->conn, &(struct timeval){.tv_sec = 1});
        amqp_connection_close(m->conn, AMQP_REPLY_SUCCESS);
    }
    amqp_destroy_connection(m->conn);
    m->conn = NULL;
    str_set(&m->broker, NULL);
    str_set(&m->name, NULL);
    mq_event_fini(&m->partial);
    m->has_header = m->is_corked = false;
}

/* ---- Declaring ---- */

static bool is_mismatch(const struct err *e)
{
    return err_is(e, ERR_CONFLICT);
}

MUST_CHECK static struct err *declare_exchange(struct mq *m, const char *name,
                                               enum mq_queue_kind kind, bool is_passive)
{
    bool is_fanout = kind == MQ_QUEUE_FANOUT;

    amqp_exchange_declare(m->conn, DECLARE_CHANNEL, amqp_cstring_bytes(name),
                          amqp_cstring_bytes(is_fanout ? "fanout" : "topic"), is_passive,
                          mq_queue_is_durable(m->options, kind),
                          is_fanout || mq_queue_is_auto_delete(m->options, kind),
                          /* internal= */ false, amqp_empty_table);
    return check_rpc(m, DECLARE_CHANNEL);
}

struct err *mq_declare_exchange(struct mq *m, const char *name, enum mq_queue_kind kind)
{
    CLEANUP(err_freep) struct err *e = declare_exchange(m, name, kind, /* is_passive= */ false);

    if (is_mismatch(e)) {
        log_warning_limited(LOG_RPC, "%s; using the exchange as it is", err_message(e));
        return declare_exchange(m, name, kind, /* is_passive= */ true);
    }
    return TAKE(e);
}

MUST_CHECK static struct err *declare_queue(struct mq *m, const char *name, enum mq_queue_kind kind,
                                            bool is_passive)
{
    struct mq_arg args[MQ_MAX_ARGS];
    amqp_table_entry_t entries[MQ_MAX_ARGS];
    amqp_table_t table = {(int)mq_queue_args(m->options, kind, args), entries};

    for (int i = 0; i < table.num_entries; i++) {
        entries[i] =
            args[i].str ? entry_str(args[i].key, args[i].str) : entry_int(args[i].key, args[i].num);
    }
    amqp_queue_declare(m->conn, DECLARE_CHANNEL, amqp_cstring_bytes(name), is_passive,
                       mq_queue_is_durable(m->options, kind), /* exclusive= */ false,
                       mq_queue_is_auto_delete(m->options, kind), table);
    return check_rpc(m, DECLARE_CHANNEL);
}

struct err *mq_declare_queue(struct mq *m, const char *name, enum mq_queue_kind kind)
{
    CLEANUP(err_freep) struct err *e = declare_queue(m, name, kind, /* is_passive= */ false);

    if (is_mismatch(e)) {
        log_warning_limited(LOG_RPC, "%s; using the queue as it is", err_message(e));
        return declare_queue(m, name, kind, /* is_passive= */ true);
    }
    return TAKE(e);
}

struct err *mq_bind(struct mq *m, const char *queue, const char *exchange, const char *key)
{
    amqp_queue_bind(m->conn, DECLARE_CHANNEL, amqp_cstring_bytes(queue),
                    amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), amqp_empty_table);
    return check_rpc(m, DECLARE_CHANNEL);
}

struct err *mq_delete_queue(struct mq *m, const char *name)
{
    amqp_queue_delete(m->conn, DECLARE_CHANNEL, amqp_cstring_bytes(name), /* if_unused= */ false,
                      /* if_empty= */ false);
    return check_rpc(m, DECLARE_CHANNEL);
}

struct err *mq_consume(struct mq *m, const char *queue, unsigned number)
{
    char tag[16];
    amqp_table_entry_t entry = entry_bool("x-cancel-on-ha-failover", true);
    amqp_table_t table = {m->options->enable_cancel_on_failover ? 1 : 0, &entry};

    snprintf(tag, sizeof(tag), "%u", number);
    amqp_basic_consume(m->conn, WORK_CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(tag),
                       /* no_local= */ false, /* no_ack= */ false, /* exclusive= */ false, table);
    return check_rpc(m, WORK_CHANNEL);
}

struct err *mq_cancel(struct mq *m, unsigned number)
{
    char tag[16];

    snprintf(tag, sizeof(tag), "%u", number);
    amqp_basic_cancel(m->conn, WORK_CHANNEL, amqp_cstring_bytes(tag));
    return check_rpc(m, WORK_CHANNEL);
}

struct err *mq_confirm(struct mq *m)
{
    amqp_confirm_select(m->conn, WORK_CHANNEL);
    return check_rpc(m, WORK_CHANNEL);
}

struct err *mq_reopen(struct mq *m)
{
    return open_channel(m, WORK_CHANNEL);
}

/* ---- Publishing and acknowledging ---- */

struct err *mq_publish(struct mq *m, const struct mq_publish *p)
{
    char expiration[24];
    amqp_basic_properties_t props = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                  AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_PRIORITY_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .content_encoding = amqp_cstring_bytes("utf-8"),
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .priority = 0,
    };

    if (p->expiration_ms > 0) {
        snprintf(expiration, sizeof(expiration), "%lld", (long long)p->expiration_ms);
        props._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        props.expiration = amqp_cstring_bytes(expiration);
    }
    return check(m, amqp_basic_publish(m->conn, WORK_CHANNEL, amqp_cstring_bytes(p->exchange),
                                       amqp_cstring_bytes(p->key), p->is_mandatory,
                                       /* immediate= */ false, &props,
                                       (amqp_bytes_t){p->body_len, (void *)p->body}));
}

static void set_cork(struct mq *m, int is_on)
{
    if (setsockopt(amqp_get_sockfd(m->conn), IPPROTO_TCP, TCP_CORK, &is_on, sizeof(is_on)) < 0) {
        log_debug(LOG_RPC, "TCP_CORK: %s", strerror(errno));
    }
    m->is_corked = is_on;
}

void mq_flush(struct mq *m)
{
    if (m->conn && m->is_corked) {
        set_cork(m, /* is_on= */ 0);
    }
}

struct err *mq_ack(struct mq *m, uint64_t tag)
{
    if (!m->is_corked) {
        set_cork(m, /* is_on= */ 1);
    }
    return check(m, amqp_basic_ack(m->conn, WORK_CHANNEL, tag, /* multiple= */ false));
}

struct err *mq_reject(struct mq *m, uint64_t tag)
{
    return check(m, amqp_basic_reject(m->conn, WORK_CHANNEL, tag, /* requeue= */ false));
}

/* ---- Reading ---- */

void mq_event_fini(struct mq_event *e)
{
    free(e->body);
    free(e->compression);
    free(e->key);
    free(e->text);
    *e = (struct mq_event){0};
}

static unsigned number_of_tag(amqp_bytes_t tag)
{
    CLEANUP(freep) char *s = bytes_dup(tag);
    uint64_t n = 0;

    return str_to_u64(s, &n) ? (unsigned)n : 0;
}

MUST_CHECK static struct err *on_channel_close(struct mq *m, const amqp_channel_close_t *close,
                                               amqp_channel_t channel, struct mq_event *ret)
{
    amqp_channel_close_ok_t ok = {0};

    if (channel != WORK_CHANNEL) {
        return closed_by_broker(m, close->reply_code, close->reply_text);
    }
    TRY(check(m, amqp_send_method(m->conn, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok)));
    mq_event_fini(&m->partial);
    *ret = (struct mq_event){.kind = MQ_CHANNEL_CLOSED, .text = bytes_dup(close->reply_text)};
    return NULL;
}

static struct mq_event confirm(uint64_t tag, bool is_multiple, bool is_refused)
{
    return (struct mq_event){
        .kind = MQ_CONFIRM, .tag = tag, .is_multiple = is_multiple, .is_refused = is_refused};
}

static void begin_message(struct mq *m, struct mq_event e)
{
    mq_event_fini(&m->partial);
    m->partial = e;
    m->has_header = false;
}

MUST_CHECK static struct err *on_method(struct mq *m, const amqp_frame_t *f, struct mq_event *ret)
{
    union {
        void *any;
        amqp_basic_deliver_t *deliver;
        amqp_basic_return_t *returned;
        amqp_basic_ack_t *ack;
        amqp_basic_nack_t *nack;
        amqp_basic_cancel_t *cancel;
        amqp_channel_close_t *channel_close;
        amqp_connection_close_t *close;
        amqp_connection_blocked_t *blocked;
    } d = {f->payload.method.decoded};

    switch (f->payload.method.id) {
    case AMQP_BASIC_DELIVER_METHOD:
        begin_message(m, (struct mq_event){.kind = MQ_DELIVERY,
                                           .tag = d.deliver->delivery_tag,
                                           .number = number_of_tag(d.deliver->consumer_tag)});
        return NULL;
    case AMQP_BASIC_RETURN_METHOD:
        begin_message(m, (struct mq_event){.kind = MQ_RETURNED,
                                           .key = bytes_dup(d.returned->routing_key),
                                           .text = bytes_dup(d.returned->reply_text)});
        return NULL;
    case AMQP_BASIC_ACK_METHOD:
        *ret = confirm(d.ack->delivery_tag, d.ack->multiple, /* is_refused= */ false);
        return NULL;
    case AMQP_BASIC_NACK_METHOD:
        *ret = confirm(d.nack->delivery_tag, d.nack->multiple, /* is_refused= */ true);
        return NULL;
    case AMQP_BASIC_CANCEL_METHOD:
        *ret = (struct mq_event){.kind = MQ_CANCELLED,
                                 .number = number_of_tag(d.cancel->consumer_tag)};
        return NULL;
    case AMQP_CONNECTION_BLOCKED_METHOD:
        *ret = (struct mq_event){.kind = MQ_BLOCKED, .text = bytes_dup(d.blocked->reason)};
        return NULL;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        *ret = (struct mq_event){.kind = MQ_UNBLOCKED};
        return NULL;
    case AMQP_CHANNEL_CLOSE_METHOD:
        return on_channel_close(m, d.channel_close, f->channel, ret);
    case AMQP_CONNECTION_CLOSE_METHOD:
        return closed_by_broker(m, d.close->reply_code, d.close->reply_text);
    default:
        return NULL;
    }
}

static char *find_compression(const amqp_basic_properties_t *p)
{
    if (!(p->_flags & AMQP_BASIC_HEADERS_FLAG)) {
        return NULL;
    }
    for (int i = 0; i < p->headers.num_entries; i++) {
        const amqp_table_entry_t *e = &p->headers.entries[i];

        if (e->value.kind == AMQP_FIELD_KIND_UTF8 && e->key.len == strlen("compression") &&
            memcmp(e->key.bytes, "compression", e->key.len) == 0) {
            return bytes_dup(e->value.value.bytes);
        }
    }
    return NULL;
}

static void finish_message(struct mq *m, struct mq_event *ret)
{
    if (m->has_header && m->partial.body_len == m->partial_size) {
        if (m->partial.body) {
            m->partial.body[m->partial.body_len] = '\0';
        }
        *ret = m->partial;
        m->partial = (struct mq_event){0};
    }
}

MUST_CHECK static struct err *on_header(struct mq *m, const amqp_frame_t *f, struct mq_event *ret)
{
    if (m->partial.kind == MQ_NONE || m->has_header) {
        return lost(m, "a content header out of place");
    }
    m->has_header = true;
    m->partial_size = f->payload.properties.body_size;
    m->partial.compression = find_compression(f->payload.properties.decoded);
    if (m->partial_size > m->options->max_body_size) {
        m->partial.is_too_big = true;
    } else {
        m->partial.body = mem_realloc(NULL, (size_t)m->partial_size + 1, 1);
    }
    finish_message(m, ret);
    return NULL;
}

/* A body that is too big is counted and dropped frame by frame. */
MUST_CHECK static struct err *on_body(struct mq *m, const amqp_frame_t *f, struct mq_event *ret)
{
    amqp_bytes_t part = f->payload.body_fragment;

    if (!m->has_header || part.len > m->partial_size - m->partial.body_len) {
        return lost(m, "a content body out of place");
    }
    if (m->partial.body) {
        memcpy(m->partial.body + m->partial.body_len, part.bytes, part.len);
    }
    m->partial.body_len += part.len;
    finish_message(m, ret);
    return NULL;
}

MUST_CHECK static struct err *on_frame(struct mq *m, const amqp_frame_t *f, struct mq_event *ret)
{
    switch (f->frame_type) {
    case AMQP_FRAME_METHOD:
        return on_method(m, f, ret);
    case AMQP_FRAME_HEADER:
        return on_header(m, f, ret);
    case AMQP_FRAME_BODY:
        return on_body(m, f, ret);
    default:
        return NULL;
    }
}

bool mq_has_events(const struct mq *m)
{
    return amqp_frames_enqueued(m->conn) || amqp_data_in_buffer(m->conn);
}

struct err *mq_next(struct mq *m, struct mq_event *ret)
{
    *ret = (struct mq_event){0};
    while (ret->kind == MQ_NONE) {
        amqp_frame_t f;
        int status;

        if (!mq_has_events(m)) {
            if (!m->is_readable) {
                break;
            }
            m->is_readable = false;
        }
        status = amqp_simple_wait_frame_noblock(m->conn, &f, &(struct timeval){0});
        if (status == AMQP_STATUS_TIMEOUT) {
            continue;
        }
        TRY(check(m, status));
        TRY(on_frame(m, &f, ret));
        amqp_maybe_release_buffers_on_channel(m->conn, f.channel);
    }
    return NULL;
}

/* Twice as often as agreed.  The library looks at its own timers when it is asked to read, which
 * is how a silent broker is found out. */
MUST_CHECK static struct err *beat(struct mq *m)
{
    amqp_frame_t f = {.frame_type = AMQP_FRAME_HEARTBEAT};
    int64_t now = clock_ms();

    if (!m->conn || !m->heartbeat_ms || now < m->beat_due_ms) {
        return NULL;
    }
    m->beat_due_ms = now + m->heartbeat_ms / 2;
    m->is_readable = true;
    return check(m, amqp_send_frame(m->conn, &f));
}

static int poll_timeout(const struct mq *m, int64_t until_ms)
{
    int64_t left;

    if (m->conn && m->heartbeat_ms) {
        until_ms = MIN(until_ms, m->beat_due_ms);
    }
    if (until_ms == INT64_MAX) {
        return -1;
    }
    left = until_ms - clock_ms();
    return (int)MAX(MIN(left, (int64_t)INT32_MAX), (int64_t)0);
}

void mq_on_idle(struct mq *m, mq_idle_fn fn, void *arg)
{
    m->on_idle = fn;
    m->on_idle_arg = arg;
}

static void tell_idle(struct mq *m, bool is_idle)
{
    if (m->on_idle) {
        m->on_idle(is_idle, m->on_idle_arg);
    }
}

struct err *mq_wait(struct mq *m, int wake_fd, int64_t until_ms)
{
    struct pollfd fds[] = {{.fd = wake_fd, .events = POLLIN},
                           {.fd = m->conn ? amqp_get_sockfd(m->conn) : -1, .events = POLLIN}};
    int timeout_ms = poll_timeout(m, until_ms), n, errnum;
    uint64_t count;

    if (m->conn && mq_has_events(m)) {
        return NULL;
    }
    tell_idle(m, true);
    n = poll(fds, ARRAY_SIZE(fds), timeout_ms);
    errnum = errno;
    tell_idle(m, false);
    if (n < 0 && errnum != EINTR) {
        return err_errno(errnum, "waiting for the broker");
    }
    if (fds[0].revents && read(wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        return err_errno(errno, "reading an eventfd");
    }
    if (fds[1].revents) {
        m->is_readable = true;
    }
    return beat(m);
}

void mq_thread_start(pthread_t *t, const char *name, void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    rc = pthread_create(t, &attr, fn, arg);
    assert(rc == 0);
    pthread_attr_destroy(&attr);
    pthread_setname_np(*t, name);
}

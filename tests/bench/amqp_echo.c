/* The floor of RPC latency: a bare librabbitmq consumer that answers oslo.messaging calls without
 * reading them, and a caller that measures it, or any other server, the same way.
 *
 *   amqp_echo serve [HOST:]PORT QUEUE            answers for ever
 *   amqp_echo call [HOST:]PORT QUEUE METHOD N    N calls one after the other; percentiles in us
 *
 * It is guest at HOST, or at 127.0.0.1.  One connection, no confirms, no JSON. */

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char *what)
{
    fprintf(stderr, "amqp_echo: %s\n", what);
    exit(1);
}

static void check(amqp_connection_state_t c, const char *what)
{
    if (amqp_get_rpc_reply(c).reply_type != AMQP_RESPONSE_NORMAL) {
        die(what);
    }
}

static amqp_connection_state_t connect_broker(const char *broker, const char *queue)
{
    amqp_connection_state_t c = amqp_new_connection();
    const char *colon = strchr(broker, ':');
    char host[64] = "127.0.0.1";

    if (colon) {
        snprintf(host, sizeof(host), "%.*s", (int)(colon - broker), broker);
    }
    if (amqp_socket_open(amqp_tcp_socket_new(c), host, atoi(colon ? colon + 1 : broker)) !=
        AMQP_STATUS_OK) {
        die("cannot connect");
    }
    if (amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type !=
        AMQP_RESPONSE_NORMAL) {
        die("cannot log in");
    }
    amqp_channel_open(c, 1);
    check(c, "channel");
    amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 0, 0, 1, amqp_empty_table);
    check(c, "queue");
    amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    check(c, "consume");
    return c;
}

static void publish(amqp_connection_state_t c, const char *key, const char *body)
{
    amqp_basic_properties_t props = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG |
                                               AMQP_BASIC_CONTENT_ENCODING_FLAG |
                                               AMQP_BASIC_DELIVERY_MODE_FLAG,
                                     .content_type = amqp_cstring_bytes("application/json"),
                                     .content_encoding = amqp_cstring_bytes("utf-8"),
                                     .delivery_mode = 2};

    if (amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(key), 0, 0, &props,
                           amqp_cstring_bytes(body)) != AMQP_STATUS_OK) {
        die("cannot publish");
    }
}

/* The value of a key in the JSON text within JSON text, at most 'size' - 1 bytes of it. */
static void find(amqp_bytes_t body, const char *key, char *ret, size_t size)
{
    char pattern[64];
    const char *at, *end = (const char *)body.bytes + body.len;
    size_t n = 0;

    snprintf(pattern, sizeof(pattern), "\\\"%s\\\"", key);
    at = memmem(body.bytes, body.len, pattern, strlen(pattern));
    at = at ? memchr(at + strlen(pattern), '"', (size_t)(end - at) - strlen(pattern)) : NULL;
    if (!at) {
        die("not a call");
    }
    for (at++; at < end && *at != '\\' && n < size - 1; at++) {
        ret[n++] = *at;
    }
    ret[n] = '\0';
}

static void serve(amqp_connection_state_t c)
{
    for (;;) {
        amqp_envelope_t e;
        char msg_id[64], reply_q[64], reply[512];

        amqp_maybe_release_buffers(c);
        if (amqp_consume_message(c, &e, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL) {
            die("connection lost");
        }
        amqp_basic_ack(c, 1, e.delivery_tag, 0);
        find(e.message.body, "_msg_id", msg_id, sizeof(msg_id));
        find(e.message.body, "_reply_q", reply_q, sizeof(reply_q));
        snprintf(reply, sizeof(reply),
                 "{\"oslo.version\": \"2.0\", \"oslo.message\": \"{\\\"result\\\": null, "
                 "\\\"failure\\\": null, \\\"ending\\\": true, \\\"_msg_id\\\": \\\"%s\\\", "
                 "\\\"_unique_id\\\": \\\"%s\\\"}\"}",
                 msg_id, msg_id);
        publish(c, reply_q, reply);
        amqp_destroy_envelope(&e);
    }
}

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int64_t call_once(amqp_connection_state_t c, const char *queue, const char *reply_q,
                         const char *method, unsigned long i)
{
    char body[1024];
    amqp_envelope_t e;
    int64_t start;

    snprintf(body, sizeof(body),
             "{\"oslo.version\": \"2.0\", \"oslo.message\": \"{\\\"method\\\": \\\"%s\\\", "
             "\\\"args\\\": {\\\"arg\\\": \\\"x\\\"}, \\\"version\\\": \\\"1.1\\\", "
             "\\\"namespace\\\": \\\"baseapi\\\", \\\"_msg_id\\\": \\\"%032lu\\\", "
             "\\\"_reply_q\\\": \\\"%s\\\", \\\"_timeout\\\": null, "
             "\\\"_unique_id\\\": \\\"%032lu\\\", "
             "\\\"_context_request_id\\\": \\\"req-1\\\"}\"}",
             method, i, reply_q, i);
    amqp_maybe_release_buffers(c);
    start = now_us();
    publish(c, queue, body);
    if (amqp_consume_message(c, &e, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL) {
        die("no reply");
    }
    start = now_us() - start;
    amqp_basic_ack(c, 1, e.delivery_tag, 0);
    amqp_destroy_envelope(&e);
    return start;
}

static void call(amqp_connection_state_t c, const char *queue, const char *reply_q,
                 const char *method, unsigned long n)
{
    int64_t *us = calloc(n + 1, sizeof(*us));
    unsigned long base = (unsigned long)now_us();

    for (unsigned long i = 0; i < n; i++) {
        us[i] = call_once(c, queue, reply_q, method, base + i);
    }
    qsort(us, n, sizeof(*us), compare);
    printf("n %lu p10 %lld p50 %lld p90 %lld p99 %lld max %lld us\n", n, (long long)us[n / 10],
           (long long)us[n / 2], (long long)us[n * 9 / 10], (long long)us[n * 99 / 100],
           (long long)us[n - 1]);
    free(us);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0) {
        serve(connect_broker(argv[2], argv[3]));
    } else if (argc == 6 && strcmp(argv[1], "call") == 0 && atol(argv[5]) > 0) {
        char reply_q[64];

        snprintf(reply_q, sizeof(reply_q), "reply_bench_%lld", (long long)now_us());
        call(connect_broker(argv[2], reply_q), argv[3], reply_q, argv[4],
             (unsigned long)atol(argv[5]));
    } else {
        fprintf(stderr,
                "usage: amqp_echo serve [HOST:]PORT QUEUE | call [HOST:]PORT QUEUE METHOD N\n");
        return 2;
    }
    return 0;
}

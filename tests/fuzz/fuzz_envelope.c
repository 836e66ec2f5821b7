/* link: rpc_amqp rpc_objects base */

/* Whatever a peer sends is read or refused, and what was read can be sealed and opened again. */

#include "rpc/amqp/envelope.h"

#include <stdlib.h>

static struct json_object *seal_and_open(struct json_object *payload)
{
    struct json_object *back = NULL;
    CLEANUP(freep) char *body = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    size_t len;

    body = envelope_seal(payload, &len);
    e = envelope_open(body, len, &back);
    if (e) {
        abort();
    }
    return back;
}

/* The first time may replace what is no UTF-8 (json-c lets some of it through). */
static void check_round_trip(struct json_object *payload)
{
    CLEANUP(jv_putp) struct json_object *once = seal_and_open(payload);
    CLEANUP(jv_putp) struct json_object *twice = seal_and_open(once);

    if (!json_object_equal(once, twice)) {
        abort();
    }
}

static void read_all(struct json_object *payload)
{
    CLEANUP(envelope_request_fini) struct envelope_request request = {0};
    CLEANUP(envelope_reply_fini) struct envelope_reply reply = {0};
    CLEANUP(err_freep) struct err *bad_request = envelope_read_request(payload, &request);
    CLEANUP(err_freep) struct err *bad_reply = envelope_read_reply(payload, &reply);

    if (!bad_request && (!request.method || !request.args || !request.version)) {
        abort();
    }
    if (!bad_reply && !reply.msg_id) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(jv_putp) struct json_object *payload = NULL;
    CLEANUP(freep) char *unpacked = NULL;
    CLEANUP(err_freep) struct err *not_packed = NULL, *not_json = NULL;
    size_t len;

    not_packed =
        envelope_inflate("application/x-gzip", (const char *)data, size, 1 << 20, &unpacked, &len);
    not_json = envelope_open((const char *)data, size, &payload);
    if (!not_json) {
        read_all(payload);
        check_round_trip(payload);
    }
    return 0;
}

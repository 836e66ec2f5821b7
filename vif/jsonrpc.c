#include "vif/jsonrpc.h"

#include <ctype.h>

/* Whether the byte ends the message; keeps account of brackets and strings. */
static bool step(struct jsonrpc_in *in, char c)
{
    if (in->is_in_string) {
        if (in->is_escaped) {
            in->is_escaped = false;
        } else if (c == '\\') {
            in->is_escaped = true;
        } else if (c == '"') {
            in->is_in_string = false;
        }
        return false;
    }
    switch (c) {
    case '"':
        in->is_in_string = true;
        return false;
    case '{':
    case '[':
        in->depth++;
        return false;
    case '}':
    case ']':
        return --in->depth == 0;
    default:
        return false;
    }
}

static struct err *finish(struct jsonrpc_in *in, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *message = NULL;

    TRY_CTX(jv_parse(in->message.s, in->message.len, &message), "reading a JSON-RPC message");
    jsonrpc_in_reset(in);
    *ret = TAKE(message);
    return NULL;
}

struct err *jsonrpc_in_feed(struct jsonrpc_in *in, const char **bytes, size_t *len,
                            struct json_object **ret)
{
    const char *p = *bytes, *end = *bytes + *len;
    bool is_complete = false;
    size_t n;

    *ret = NULL;
    if (in->depth == 0) {
        while (p < end && isspace((unsigned char)*p)) {
            p++;
        }
        if (p < end && *p != '{') {
            return err_msg(ERR_PARSE, "a JSON-RPC message starts with byte 0x%02x",
                           (unsigned)(unsigned char)*p);
        }
    }
    *bytes = p;
    while (p < end && !is_complete) {
        is_complete = step(in, *p++);
    }
    n = (size_t)(p - *bytes);
    *bytes = p;
    *len = (size_t)(end - p);
    if (n > JSONRPC_MAX_SIZE - in->message.len) {
        return err_msg(ERR_PARSE, "a JSON-RPC message of more than %zu bytes", JSONRPC_MAX_SIZE);
    }
    strbuf_add_mem(&in->message, p - n, n);
    return is_complete ? finish(in, ret) : NULL;
}

void jsonrpc_in_reset(struct jsonrpc_in *in)
{
    strbuf_fini(&in->message);
    *in = (struct jsonrpc_in){0};
}

static char *take_text(struct json_object *message)
{
    char *text = jv_text(message);

    json_object_put(message);
    return text;
}

char *jsonrpc_request(const char *method, struct json_object *params, struct json_object *id)
{
    struct json_object *m = json_object_new_object();

    jv_add_str(m, "method", method);
    jv_add(m, "params", params);
    jv_add(m, "id", id);
    return take_text(m);
}

char *jsonrpc_reply(struct json_object *result, struct json_object *id)
{
    struct json_object *m = json_object_new_object();

    jv_add(m, "result", result);
    jv_add(m, "error", NULL);
    jv_add(m, "id", id);
    return take_text(m);
}

#include "rpc/amqp/envelope.h"

#include "base/clock.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define KEY_VERSION "oslo.version"
#define KEY_MESSAGE "oslo.message"
#define TEXT_FLAGS  (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

/* ---- Compression ---- */

static void inflate_endp(z_stream *z)
{
    inflateEnd(z);
}

/* kombu says gzip and writes zlib's format; both are taken. */
struct err *envelope_inflate(const char *compression, const char *body, size_t len, size_t max,
                             char **ret, size_t *ret_len)
{
    CLEANUP(inflate_endp) z_stream z = {.next_in = (Bytef *)body, .avail_in = (uInt)len};
    CLEANUP(strbuf_fini) struct strbuf out = {0};
    char chunk[16384];
    int status = Z_OK;

    if (!str_eq(compression, "application/x-gzip")) {
        return err_msg(ERR_PARSE, "a body packed with '%s'", compression);
    }
    if (len > UINT_MAX || inflateInit2(&z, MAX_WBITS + 32) != Z_OK) {
        return err_msg(ERR_PARSE, "cannot unpack a body of %zu bytes", len);
    }
    while (status == Z_OK) {
        z.next_out = (Bytef *)chunk;
        z.avail_out = sizeof(chunk);
        status = inflate(&z, Z_NO_FLUSH);
        strbuf_add_mem(&out, chunk, sizeof(chunk) - z.avail_out);
        if (out.len > max) {
            return err_msg(ERR_PARSE, "a body that unpacks to more than %zu bytes", max);
        }
    }
    if (status != Z_STREAM_END) {
        return err_msg(ERR_PARSE, "a damaged packed body");
    }
    *ret_len = out.len;
    *ret = strbuf_take(&out);
    return NULL;
}

/* ---- Envelope ---- */

/* Our envelope is 2.0, so a peer may say 2.0 and no other. */
static bool is_our_version(struct json_object *version)
{
    return json_object_is_type(version, json_type_string) &&
           str_eq(json_object_get_string(version), "2.0");
}

struct err *envelope_open(const char *body, size_t len, struct json_object **ret)
{
    CLEANUP(jv_putp) struct json_object *outer = NULL;
    CLEANUP(jv_putp) struct json_object *inner = NULL;
    struct json_object *message, *version;

    TRY(jv_parse(body, len, &outer));
    if (json_object_object_get_ex(outer, KEY_VERSION, &version) &&
        json_object_object_get_ex(outer, KEY_MESSAGE, &message)) {
        if (!is_our_version(version)) {
            return err_msg(ERR_PARSE, "an envelope that is not of version 2.0");
        }
        if (!json_object_is_type(message, json_type_string)) {
            return err_msg(ERR_PARSE, "an envelope whose message is no text");
        }
        TRY_CTX(jv_parse(json_object_get_string(message),
                         (size_t)json_object_get_string_len(message), &inner),
                "reading the message in an envelope");
    } else {
        inner = TAKE(outer);
    }
    if (!json_object_is_type(inner, json_type_object)) {
        return err_msg(ERR_PARSE, "a message that is no object");
    }
    *ret = TAKE(inner);
    return NULL;
}

/* Length of the UTF-8 sequence at s, or 0 if there is none (RFC 3629). */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char first, last, min, max, len; /* 'min', 'max': of the second byte. */
    } rows[] = {
        {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (*s < rows[i].first || *s > rows[i].last) {
            continue;
        }
        if (rows[i].len > left || (rows[i].len > 1 && (s[1] < rows[i].min || s[1] > rows[i].max))) {
            return 0;
        }
        for (size_t k = 2; k < rows[i].len; k++) {
            if ((s[k] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return rows[i].len;
    }
    return 0;
}

/* How many bytes at s can be copied as they are. */
static size_t plain_len(const char *s, size_t left, bool is_quoted)
{
    size_t i = 0;

    while (i < left && (signed char)s[i] >= 0x20 && !(is_quoted && (s[i] == '"' || s[i] == '\\'))) {
        i++;
    }
    return i;
}

/* JSON text with what is not UTF-8 replaced; 'is_quoted' as the inside of a JSON string. */
static void add_text(struct strbuf *b, const char *s, size_t len, bool is_quoted)
{
    while (len) {
        size_t n = plain_len(s, len, is_quoted);

        if (n) {
            strbuf_add_mem(b, s, n);
        } else if (*s == '"' || *s == '\\') {
            strbuf_addc(b, '\\');
            strbuf_addc(b, *s);
            n = 1;
        } else if ((unsigned char)*s < 0x20) {
            strbuf_addf(b, "\\u%04x", *s);
            n = 1;
        } else {
            n = utf8_len((const unsigned char *)s, len);
            strbuf_add_mem(b, n ? s : "\xef\xbf\xbd", n ? n : 3);
            n = n ? n : 1;
        }
        s += n;
        len -= n;
    }
}

char *envelope_seal_bare(struct json_object *payload, size_t *ret_len)
{
    struct strbuf b = {0};
    size_t len;
    const char *text = json_object_to_json_string_length(payload, TEXT_FLAGS, &len);

    add_text(&b, text, len, /* is_quoted= */ false);
    *ret_len = b.len;
    return strbuf_take(&b);
}

char *envelope_seal(struct json_object *payload, size_t *ret_len)
{
    struct strbuf b = {0};
    size_t len;
    const char *text = json_object_to_json_string_length(payload, TEXT_FLAGS, &len);

    strbuf_add(&b, "{\"" KEY_VERSION "\": \"2.0\", \"" KEY_MESSAGE "\": \"");
    add_text(&b, text, len, /* is_quoted= */ true);
    strbuf_add(&b, "\"}");
    *ret_len = b.len;
    return strbuf_take(&b);
}

/* ---- Requests ---- */

/* A string without a NUL inside, copied; else NULL. */
static char *dup_str(struct json_object *obj, const char *key)
{
    struct json_object *v = jv_get(obj, key);
    const char *s;

    if (!json_object_is_type(v, json_type_string)) {
        return NULL;
    }
    s = json_object_get_string(v);
    return strlen(s) == (size_t)json_object_get_string_len(v) ? str_dup(s) : NULL;
}

/* Half of "_timeout", as Python's watchdog takes it: whole seconds, at least one of them. */
static int64_t read_beat_ms(struct json_object *timeout)
{
    int64_t s = 0;

    if (json_object_is_type(timeout, json_type_string)) {
        if (!str_to_i64(json_object_get_string(timeout), &s)) {
            return 0;
        }
    } else if (json_object_is_type(timeout, json_type_int) ||
               json_object_is_type(timeout, json_type_double)) {
        s = json_object_get_int64(timeout);
    }
    return s >= 2 ? MIN(s, (int64_t)INT32_MAX) * 500 : 0;
}

struct err *envelope_read_request(struct json_object *payload, struct envelope_request *ret)
{
    struct json_object *args = jv_get(payload, "args");
    struct json_object *namespace_ = jv_get(payload, "namespace");

    *ret = (struct envelope_request){
        .method = dup_str(payload, "method"),
        .namespace_ = dup_str(payload, "namespace"),
        .version = dup_str(payload, "version"),
        .unique_id = dup_str(payload, "_unique_id"),
        .msg_id = dup_str(payload, "_msg_id"),
        .reply_q = dup_str(payload, "_reply_q"),
        .beat_ms = read_beat_ms(jv_get(payload, "_timeout")),
    };
    if (!args) {
        ret->args = json_object_new_object();
    } else if (json_object_is_type(args, json_type_object)) {
        ret->args = json_object_get(args);
    }
    if (!ret->version && !jv_get(payload, "version")) {
        ret->version = str_dup("1.0");
    }
    if (str_is_empty(ret->method)) {
        return err_msg(ERR_PARSE, "a message without a method");
    }
    if (!ret->args) {
        return err_msg(ERR_PARSE, "method '%s': args is %s, not an object", ret->method,
                       json_type_to_name(json_object_get_type(args)));
    }
    if (!ret->version || (namespace_ && !ret->namespace_)) {
        return err_msg(ERR_PARSE, "method '%s': version or namespace is no text", ret->method);
    }
    if (ret->msg_id && str_is_empty(ret->reply_q)) {
        return err_msg(ERR_PARSE, "method '%s': a call without a reply queue", ret->method);
    }
    return NULL;
}

void envelope_request_fini(struct envelope_request *r)
{
    free(r->method);
    free(r->namespace_);
    free(r->version);
    jv_putp(&r->args);
    free(r->unique_id);
    free(r->msg_id);
    free(r->reply_q);
    *r = (struct envelope_request){0};
}

/* ---- Failures ---- */

static bool is_nova(const struct err *e)
{
    return str_eq(err_module(e), "nova.exception");
}

/* Nova's exceptions take the finished text and keywords; builtins take no keywords at all. */
static struct json_object *failure_kwargs(const struct err *e)
{
    struct json_object *kwargs = json_object_new_object();
    const char *key, *value;

    for (size_t i = 0; is_nova(e) && err_kwarg(e, i, &key, &value); i++) {
        jv_add_str(kwargs, key, value);
    }
    if (is_nova(e)) {
        jv_add_int(kwargs, "code", err_code(e));
    }
    return kwargs;
}

char *envelope_write_failure(const struct err *e)
{
    CLEANUP(jv_putp) struct json_object *failure = json_object_new_object();
    struct json_object *args = json_object_new_array(), *tb = json_object_new_array();
    CLEANUP(freep) char *trace = err_text(e);

    json_object_array_add(args, jv_new_str(err_message(e)));
    json_object_array_add(tb, jv_new_str(trace));
    jv_add_str(failure, "class", err_class(e));
    jv_add_str(failure, "module", err_module(e));
    jv_add_str(failure, "message", err_message(e));
    jv_add(failure, "tb", tb);
    jv_add(failure, "args", args);
    jv_add(failure, "kwargs", failure_kwargs(e));
    return str_dup(json_object_to_json_string_ext(failure, TEXT_FLAGS));
}

static void read_kwargs(struct err *e, struct json_object *kwargs)
{
    if (!json_object_is_type(kwargs, json_type_object)) {
        return;
    }
    json_object_object_foreach(kwargs, key, value)
    {
        if (!str_eq(key, "code")) {
            err_set(e, key, value ? json_object_get_string(value) : NULL);
        }
    }
}

struct err *envelope_read_failure(const char *text)
{
    CLEANUP(jv_putp) struct json_object *v = NULL;
    CLEANUP(err_freep) struct err *bad = jv_parse(text, strlen(text), &v);
    CLEANUP(freep) char *module = dup_str(v, "module");
    CLEANUP(freep) char *class = dup_str(v, "class");
    CLEANUP(freep) char *message = dup_str(v, "message");
    struct err *e;

    if (bad || !class) {
        return err_msg(ERR_REMOTE, "the peer failed with something unreadable: %.200s", text);
    }
    e = err_remote(module, class, message);
    read_kwargs(e, jv_get(v, "kwargs"));
    return e;
}

/* ---- Replies ---- */

struct err *envelope_read_reply(struct json_object *payload, struct envelope_reply *ret)
{
    struct json_object *failure = jv_get(payload, "failure");
    struct json_object *ending = jv_get(payload, "ending");
    char *msg_id = dup_str(payload, "_msg_id");

    if (!msg_id) {
        return err_msg(ERR_PARSE, "a reply that says not to what");
    }
    *ret = (struct envelope_reply){
        .msg_id = msg_id,
        .result = json_object_get(jv_get(payload, "result")),
        .failure = failure ? envelope_read_failure(json_object_get_string(failure)) : NULL,
        .is_ending = json_object_get_boolean(ending),
    };
    return NULL;
}

void envelope_reply_fini(struct envelope_reply *r)
{
    free(r->msg_id);
    jv_putp(&r->result);
    err_freep(&r->failure);
    *r = (struct envelope_reply){0};
}

char *envelope_write_reply(const char *msg_id, struct json_object *result,
                           const struct err *failure, bool is_ending, size_t *ret_len)
{
    CLEANUP(jv_putp) struct json_object *payload = json_object_new_object();
    CLEANUP(freep) char *text = failure ? envelope_write_failure(failure) : NULL;
    char unique_id[33];

    uuid_new_hex(unique_id);
    jv_add(payload, "result", result);
    jv_add_str(payload, "failure", text);
    jv_add_bool(payload, "ending", is_ending);
    jv_add_str(payload, "_msg_id", msg_id);
    jv_add_str(payload, "_unique_id", unique_id);
    return envelope_seal(payload, ret_len);
}

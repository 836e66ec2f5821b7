#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t len)
{
    const unsigned char *in = data;
    struct strbuf out = {0};

    for (size_t i = 0; i < len; i += 3) {
        size_t n = MIN(len - i, (size_t)3);
        uint32_t three = (uint32_t)in[i] << 16;

        three |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        three |= n > 2 ? (uint32_t)in[i + 2] : 0;
        for (size_t k = 0; k < 4; k++) {
            strbuf_addc(&out, k <= n ? digits[(three >> (18 - 6 * k)) & 63] : '=');
        }
    }
    return strbuf_take(&out);
}

/* CPython's binascii.a2b_base64, not strict: padding that completes four digits ends the text. */
struct err *base64_decode(const char *text, char **ret, size_t *ret_len)
{
    CLEANUP(strbuf_fini) struct strbuf out = {0};
    unsigned n_digits = 0, n_pads = 0;
    uint32_t bits = 0;

    for (const char *p = text; *p; p++) {
        const char *digit = strchr(digits, *p);

        if (*p == '=' && n_digits >= 2 && n_digits + ++n_pads >= 4) {
            n_digits = 0;
            break;
        }
        if (!digit) {
            continue;
        }
        n_pads = 0;
        bits = bits << 6 | (uint32_t)(digit - digits);
        if (++n_digits > 1) {
            strbuf_addc(&out, (char)(bits >> (8 - 2 * n_digits)));
        }
        n_digits %= 4;
    }
    if (n_digits) {
        return err_msg(ERR_PARSE, "the base64 text is cut short");
    }
    *ret_len = out.len;
    *ret = strbuf_take(&out);
    return NULL;
}

#include "base/seal.h"

#include "base/base64.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KIND "ssh-rsa"

/* A public key as OpenSSH has it: its kind, exponent and modulus, each with its length before it.
 */
struct blob {
    const unsigned char *p;
    size_t left;
};

static bool take_string(struct blob *b, const unsigned char **ret, size_t *ret_len)
{
    if (b->left < 4) {
        return false;
    }
    uint32_t len = (uint32_t)b->p[0] << 24 | (uint32_t)b->p[1] << 16 | (uint32_t)b->p[2] << 8 |
                   (uint32_t)b->p[3];

    if (len > b->left - 4) {
        return false;
    }
    *ret = b->p + 4;
    *ret_len = len;
    b->p += 4 + len;
    b->left -= 4 + len;
    return true;
}

static BIGNUM *take_number(struct blob *b)
{
    const unsigned char *bytes;
    size_t len;

    /* No key has a number of more than 16 Kibit. */
    if (!take_string(b, &bytes, &len) || len == 0 || len > 2049) {
        return NULL;
    }
    return BN_bin2bn(bytes, (int)len, NULL);
}

static EVP_PKEY *make_key(const BIGNUM *e, const BIGNUM *n)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (build && ctx && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e)) {
        params = OSSL_PARAM_BLD_to_param(build);
    }
    if (!params || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        key = NULL;
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *key_of_blob(struct blob b)
{
    const unsigned char *kind;
    size_t len;

    if (!take_string(&b, &kind, &len) || len != strlen(KIND) || memcmp(kind, KIND, len) != 0) {
        return NULL;
    }
    BIGNUM *e = take_number(&b);
    BIGNUM *n = take_number(&b);
    EVP_PKEY *key = e && n ? make_key(e, n) : NULL;

    BN_free(e);
    BN_free(n);
    return key;
}

static EVP_PKEY *read_key(const char *line)
{
    CLEANUP(strv_fini) struct strv words = strv_split(line, " \t\r\n");
    CLEANUP(freep) char *bytes = NULL;
    CLEANUP(err_freep) struct err *e = NULL;
    size_t len = 0;

    if (words.n < 2 || !str_eq(words.items[0], KIND)) {
        return NULL;
    }
    e = base64_decode(words.items[1], &bytes, &len);
    return e ? NULL : key_of_blob((struct blob){(const unsigned char *)bytes, len});
}

static bool encrypt(EVP_PKEY *key, const char *text, unsigned char *ret, size_t *ret_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool is_ok =
        ctx && EVP_PKEY_encrypt_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
        EVP_PKEY_encrypt(ctx, ret, ret_len, (const unsigned char *)text, strlen(text)) == 1;

    EVP_PKEY_CTX_free(ctx);
    return is_ok;
}

struct err *seal_ssh_rsa(const char *line, const char *text, char **ret, size_t *ret_len)
{
    EVP_PKEY *key = read_key(line);

    if (!key) {
        return err_msg(ERR_PARSE, "this is no RSA key of OpenSSH");
    }
    size_t len = (size_t)EVP_PKEY_get_size(key);
    CLEANUP(freep) unsigned char *sealed = mem_alloc(len);
    bool is_ok = encrypt(key, text, sealed, &len);

    EVP_PKEY_free(key);
    if (!is_ok) {
        return err_msg(ERR_INTERNAL, "the text cannot be encrypted with this key");
    }
    *ret = (char *)TAKE(sealed);
    *ret_len = len;
    return NULL;
}

/* link: base */
#include "base/base64.h"
#include "base/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

static void add_string(struct strbuf *b, const void *bytes, size_t len)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        strbuf_addc(b, (char)(len >> shift));
    }
    strbuf_add_mem(b, bytes, len);
}

static void add_number(struct strbuf *b, const EVP_PKEY *key, const char *name)
{
    unsigned char bytes[513] = {0}; /* A leading zero: it is no negative number. */
    BIGNUM *n = NULL;

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &n), 1);
    assert_true(BN_num_bytes(n) < 513);
    BN_bn2bin(n, bytes + 1);
    add_string(b, bytes, (size_t)BN_num_bytes(n) + 1);
    BN_free(n);
}

/* As ssh-keygen writes it. */
static char *line_of(const EVP_PKEY *key, size_t cut)
{
    CLEANUP(strbuf_fini) struct strbuf blob = {0};

    add_string(&blob, "ssh-rsa", 7);
    add_number(&blob, key, OSSL_PKEY_PARAM_RSA_E);
    add_number(&blob, key, OSSL_PKEY_PARAM_RSA_N);
    CLEANUP(freep) char *text = base64_encode(blob.s, blob.len - cut);

    return str_printf("ssh-rsa %s user@host\n", text);
}

static char *open_sealed(EVP_PKEY *key, const char *sealed, size_t len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    size_t plain_len = (size_t)EVP_PKEY_get_size(key);
    char *plain = mem_alloc(plain_len + 1);

    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING), 1);
    assert_int_equal(EVP_PKEY_decrypt(ctx, (unsigned char *)plain, &plain_len,
                                      (const unsigned char *)sealed, len),
                     1);
    plain[plain_len] = '\0';
    EVP_PKEY_CTX_free(ctx);
    return plain;
}

static void who_has_the_private_key_reads_it(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    CLEANUP(freep) char *line = line_of(key, 0);
    CLEANUP(freep) char *sealed = NULL;
    size_t len = 0;

    (void)state;
    assert_null(seal_ssh_rsa(line, "pässword", &sealed, &len));
    assert_int_equal(len, 256);
    CLEANUP(freep) char *plain = open_sealed(key, sealed, len);

    assert_string_equal(plain, "pässword");
    EVP_PKEY_free(key);
}

static void a_text_that_is_longer_than_the_key_is_refused(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(1024);
    CLEANUP(freep) char *line = line_of(key, 0);
    CLEANUP(freep) char *sealed = NULL;
    char text[129];
    size_t len;

    (void)state;
    memset(text, 'x', sizeof text);
    text[128] = '\0';
    CLEANUP(err_freep) struct err *e = seal_ssh_rsa(line, text, &sealed, &len);

    assert_true(err_is(e, ERR_INTERNAL));
    assert_null(sealed);
    EVP_PKEY_free(key);
}

static void what_is_no_rsa_key_is_refused(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(1024);
    CLEANUP(freep) char *short_line = line_of(key, 1);
    const char *const bad[] = {"",
                               "ssh-rsa",
                               "ssh-rsa !",
                               "ssh-rsa AAAA",
                               "ssh-rsa AAAAB3NzaC1yc2E=",             /* Nothing after the kind. */
                               "ssh-rsa AAAAB3NzaC1yc2EAAAAAAAAAAA==", /* Empty numbers. */
                               "ssh-rsa /////3NzaC1yc2EAAAADAQABAAAAAQE=", /* Longer than it is. */
                               "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",
                               "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==",
                               short_line};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(freep) char *sealed = NULL;
        size_t len;
        CLEANUP(err_freep) struct err *e = seal_ssh_rsa(bad[i], "x", &sealed, &len);

        assert_true(err_is(e, ERR_PARSE));
    }
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_the_private_key_reads_it),
        cmocka_unit_test(a_text_that_is_longer_than_the_key_is_refused),
        cmocka_unit_test(what_is_no_rsa_key_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

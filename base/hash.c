#include "base/hash.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct hash {
    EVP_MD_CTX *ctx;
};

struct err *hash_new(const char *algorithm, struct hash **ret)
{
    EVP_MD *md = EVP_MD_fetch(NULL, algorithm, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_ok = md && ctx && EVP_DigestInit_ex2(ctx, md, NULL) == 1;

    EVP_MD_free(md); /* The context has its own reference. */
    if (!is_ok) {
        EVP_MD_CTX_free(ctx);
        return err_msg(ERR_NOT_FOUND, "there is no digest '%s' here", algorithm);
    }
    *ret = NEW(struct hash);
    (*ret)->ctx = ctx;
    return NULL;
}

struct hash *hash_free(struct hash *h)
{
    if (h) {
        EVP_MD_CTX_free(h->ctx);
        free(h);
    }
    return NULL;
}

void hash_add(struct hash *h, const void *data, size_t len)
{
    if (EVP_DigestUpdate(h->ctx, data, len) != 1) {
        abort(); /* Only out of memory. */
    }
}

char *hash_finish(struct hash *h)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    struct strbuf text = {0};

    if (EVP_DigestFinal_ex(h->ctx, digest, &len) != 1) {
        abort();
    }
    for (unsigned i = 0; i < len; i++) {
        strbuf_addf(&text, "%02x", digest[i]);
    }
    return strbuf_take(&text);
}

struct err *hash_text(const char *algorithm, const char *text, char **ret)
{
    CLEANUP(hash_freep) struct hash *h = NULL;

    TRY(hash_new(algorithm, &h));
    hash_add(h, text, strlen(text));
    *ret = hash_finish(h);
    return NULL;
}

#pragma once

/* Digests, as hexadecimal text, by OpenSSL's libcrypto.
 *
 * For checksums and names that others compute too; no keys, no secrets.
 *
 * Thread-safety: none of its own; a digest belongs to one thread at a time. */

#include "base/err.h"

#include <stddef.h>

struct hash;

/* 'algorithm' by its name: "sha512", "sha256", "sha1", "md5".  ERR_NOT_FOUND: this machine does not
 * have it, or does not allow it. */
struct err *hash_new(const char *algorithm, struct hash **ret) MUST_CHECK;
struct hash *hash_free(struct hash *); /* Takes NULL; returns NULL. */
static inline void hash_freep(struct hash **p)
{
    *p = hash_free(*p);
}

void hash_add(struct hash *, const void *data, size_t len);
/* The digest of what was added, lower case.  Once; then the hash can only be freed. */
char *hash_finish(struct hash *) MUST_CHECK;

/* The digest of one string. */
struct err *hash_text(const char *algorithm, const char *text, char **ret) MUST_CHECK;

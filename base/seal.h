#pragma once

/* Text for the eyes of one user: encrypted with the RSA key that he logs in with.
 *
 * PKCS #1 v1.5, which is what clients of Nova decrypt (nova get-password), with OpenSSL's
 * libcrypto.
 *
 * Source: nova/crypto.py ssh_encrypt_text.
 *
 * Thread-safety: no shared state. */

#include "base/err.h"

#include <stddef.h>

/* 'key' is a line of OpenSSH: "ssh-rsa AAAA... comment".  ERR_PARSE for what is no such key,
 * ERR_INTERNAL for a text that is too long for it. */
struct err *seal_ssh_rsa(const char *key, const char *text, char **ret, size_t *ret_len) MUST_CHECK;

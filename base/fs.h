#pragma once

/* Files, relative to a root, so that tests can give us another world.
 *
 * Paths are relative to the root ("sys/devices/...") or absolute ("/var/lib/..."), which is taken
 * relative to the root too.  Descriptors are close-on-exec.
 *
 * Thread-safety: a root is immutable after fs_root_open. */

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_root {
    int fd; /* Directory; AT_FDCWD with prefix "/" for the real one. */
};

/* The real root of the machine. */
extern const struct fs_root fs_real;

struct err *fs_root_open(const char *path, struct fs_root *ret) MUST_CHECK;
void fs_root_close(struct fs_root *);

/* The whole file (at most 64 MiB), NUL-terminated; ERR_NOT_FOUND if there is none.  ret_len may be
 * NULL. */
struct err *fs_read(const struct fs_root *, const char *path, char **ret, size_t *ret_len)
    MUST_CHECK;
/* Text of the first line, stripped. */
struct err *fs_read_line(const struct fs_root *, const char *path, char **ret) MUST_CHECK;
/* A decimal number, or a hexadecimal one after 0x; ERR_PARSE for anything else ("-1" too). */
struct err *fs_read_u32(const struct fs_root *, const char *path, unsigned *ret) MUST_CHECK;
struct err *fs_read_link(const struct fs_root *, const char *path, char **ret) MUST_CHECK;
/* Replaces the file as a whole: a temporary file, fsync, rename, fsync of the directory.  A crash
 * in between leaves the old file, and a ".name.xxxxxxxx" next to it. */
struct err *fs_write_atomic(const struct fs_root *, const char *path, const void *data, size_t len,
                            mode_t mode) MUST_CHECK;
/* Writes to an existing file (sysfs, procfs). */
struct err *fs_write(const struct fs_root *, const char *path, const char *text) MUST_CHECK;
bool fs_exists(const struct fs_root *, const char *path);
bool fs_is_dir(const struct fs_root *, const char *path);
/* Names in a directory without "." and "..", sorted. */
struct err *fs_list(const struct fs_root *, const char *path, struct strv *ret) MUST_CHECK;
struct err *fs_mkdir_all(const struct fs_root *, const char *path, mode_t mode) MUST_CHECK;
/* Removes a file, or a tree with everything in it without following links; none is not an error. */
struct err *fs_remove_all(const struct fs_root *, const char *path) MUST_CHECK;
/* Size of the file system that holds path, in bytes. */
struct err *fs_space(const struct fs_root *, const char *path, uint64_t *ret_total,
                     uint64_t *ret_free, uint64_t *ret_avail) MUST_CHECK;

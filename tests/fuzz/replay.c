/* Runs a fuzz target over the files of the directories that it is given. */

#include "base/fs.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct err *replay(const char *dir, size_t *n)
{
    CLEANUP(strv_fini) struct strv names = {0};

    TRY(fs_list(&fs_real, dir, &names));
    for (size_t i = 0; i < names.n; i++) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, names.items[i]);
        CLEANUP(freep) char *text = NULL;
        CLEANUP(freep) uint8_t *exact = NULL;
        size_t len;

        TRY(fs_read(&fs_real, path, &text, &len));
        /* Without the NUL, so that reading past the end is seen. */
        exact = mem_dup(text, len);
        LLVMFuzzerTestOneInput(exact, len);
        ++*n;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    size_t n = 0;

    for (int i = 1; i < argc; i++) {
        CLEANUP(err_freep) struct err *e = replay(argv[i], &n);

        if (e) {
            fprintf(stderr, "%s\n", err_message(e));
            return EXIT_FAILURE;
        }
    }
    printf("%zu inputs\n", n);
    return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* link: base */
/* Configuration files: lines, substitution, types and limits. */
#include "base/conf.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(freep) char *text = str_ndup((const char *)data, size);
    CLEANUP(conf_holder_freep) struct conf_holder *holder = NULL;
    CLEANUP(err_freep) struct err *e = conf_from_text(text, &holder);

    if (!e) {
        conf_report(holder);
    }
    return 0;
}

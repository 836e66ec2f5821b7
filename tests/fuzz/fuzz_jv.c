/* link: base */

/* Whatever jv_parse takes, it prints as something that it takes again and prints the same. */

#include "base/jv.h"

#include <stdlib.h>
#include <string.h>

static void read_with_every_getter(struct json_object *v)
{
    static const char key[] = "a";
    struct jv_reader r;

    for (int i = 0; i < 6; i++) {
        r = jv_reader_init(v, "input");
        switch (i) {
        case 0:
            jv_str(&r, key);
            break;
        case 1:
            jv_int(&r, key);
            break;
        case 2:
            jv_double_or(&r, key, 0);
            break;
        case 3:
            jv_bool_or(&r, key, false);
            break;
        case 4:
            jv_obj(&r, key);
            break;
        case 5:
            jv_arr(&r, key);
            break;
        }
        err_free(jv_finish(&r));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(jv_putp) struct json_object *v = NULL;
    CLEANUP(jv_putp) struct json_object *again = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse((const char *)data, size, &v);
    CLEANUP(freep) char *text = NULL;
    CLEANUP(freep) char *text_again = NULL;

    if (e) {
        return 0;
    }
    read_with_every_getter(v);
    text = jv_text(v);
    e = jv_parse(text, strlen(text), &again);
    if (e) {
        abort();
    }
    text_again = jv_text(again);
    if (strcmp(text, text_again) != 0) {
        abort();
    }
    return 0;
}

/* link: rpc_objects base */

/* An object that is read comes back equal after writing and reading; as updates of an object,
 * whatever comes is taken as a whole or not at all. */

#include "rpc/objects/objects.h"

#include <stdlib.h>

static void check_round_trip(struct json_object *json)
{
    CLEANUP(ovo_freep) struct ovo *o = NULL, *copy = NULL, *again = NULL;
    CLEANUP(jv_putp) struct json_object *written = NULL, *saved = NULL;
    CLEANUP(freep) char *text = NULL;
    CLEANUP(err_freep) struct err *e = ovo_from_json(json, /* cls= */ NULL, &o);

    if (e) {
        return;
    }
    ovo_set_minor(o, 999); /* So that no field is too new to be sent. */
    copy = ovo_dup(o);
    written = ovo_to_json(copy);
    saved = ovo_to_json_for_save(o);
    text = ovo_text(o);
    e = ovo_from_json(written, ovo_class_of(o), &again);
    if (e || !ovo_is_equal(o, again, NULL)) {
        abort();
    }
}

static void check_merge(struct json_object *json)
{
    CLEANUP(instance_freep) struct instance *inst = instance_new(), *before = NULL;
    CLEANUP(err_freep) struct err *e = NULL;

    instance_set_host(inst, "h");
    before = instance_dup(inst);
    e = ovo_merge_updates(instance_ovo(inst), json);
    if (e && !ovo_is_equal(instance_ovo(inst), instance_ovo(before), NULL)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(jv_putp) struct json_object *json = NULL;
    CLEANUP(err_freep) struct err *e = jv_parse((const char *)data, size, &json);

    if (!e) {
        check_round_trip(json);
        check_merge(json);
    }
    return 0;
}

#include "driver/libvirt/guest_build.h"

/* ---- Settings that flavor and image may make ---- */

static struct err *conflict(const char *setting, const char *of_flavor, const char *of_image)
{
    return err_new(ERR_FLAVOR_IMAGE_CONFLICT, "setting", setting, "flavor_val", of_flavor,
                   "image_val", of_image, NULL);
}

struct err *guest_ask_bool(const struct guest_build *b, const char *key, bool *ret_is_set,
                           bool *ret)
{
    CLEANUP(freep) char *spec = str_printf("hw:%s", key);
    CLEANUP(freep) char *prop = str_printf("hw_%s", key);
    const char *of_flavor = flavor_spec(b->inst, spec), *of_image = image_meta_prop(b->image, prop);
    bool by_flavor = flavor_spec_bool(b->inst, spec, false);
    bool by_image = image_meta_bool(b->image, prop, false);

    if (of_flavor && of_image && by_flavor != by_image) {
        return conflict(key, of_flavor, of_image);
    }
    *ret_is_set = of_flavor || of_image;
    *ret = by_flavor || by_image;
    return NULL;
}

struct err *guest_ask_text(const struct guest_build *b, const char *prefix, const char *key,
                           const char **ret)
{
    CLEANUP(freep) char *spec = str_printf("%s:%s", prefix, key);
    CLEANUP(freep) char *prop = str_printf("%s_%s", prefix, key);
    const char *of_flavor = flavor_spec(b->inst, spec), *of_image = image_meta_prop(b->image, prop);

    if (!str_is_empty(of_flavor) && !str_is_empty(of_image) && !str_eq(of_flavor, of_image)) {
        return conflict(key, of_flavor, of_image);
    }
    *ret = !str_is_empty(of_flavor) ? of_flavor : of_image;
    return NULL;
}

struct err *guest_ask_number(const struct guest_build *b, const char *spec, int64_t dflt,
                             int64_t *ret)
{
    const char *value = flavor_spec(b->inst, spec);

    *ret = dflt;
    if (value && !str_to_i64(value, ret)) {
        return err_msg(ERR_INVALID, "the flavor's extra spec %s is '%s', which is no number", spec,
                       value);
    }
    return NULL;
}

/* ---- What cannot be had ---- */

static struct err *unsupported(const struct guest_build *b, const char *name, const char *value)
{
    CLEANUP(freep) char *model = str_printf("%s=%s", name, value);

    return err_new(ERR_UNSUPPORTED_HARDWARE, "model", model, "virt", b->conf->libvirt.virt_type,
                   NULL);
}

/* Settings that make a difference however they are set, and those that do if they are true. */
static const struct {
    const char *spec, *prop;
    bool is_truth;
} refused[] = {
    {"hw:tpm_version", "hw_tpm_version", false},
    {"hw:mem_encryption", "hw_mem_encryption", true},
    {"hw:ephemeral_encryption", "hw_ephemeral_encryption", true},
    {"hw:pmem", NULL, false},
    {"accel:device_profile", NULL, false},
};

struct err *guest_refuse(const struct guest_build *b)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        const char *of_flavor = flavor_spec(b->inst, refused[i].spec);
        const char *of_image = refused[i].prop ? image_meta_prop(b->image, refused[i].prop) : NULL;

        if (of_flavor && (!refused[i].is_truth || flavor_spec_bool(b->inst, refused[i].spec, 0))) {
            return unsupported(b, refused[i].spec, of_flavor);
        }
        if (of_image && (!refused[i].is_truth || image_meta_bool(b->image, refused[i].prop, 0))) {
            return unsupported(b, refused[i].prop, of_image);
        }
    }
    for (size_t i = 0; flavor_has_extra_specs(b->flavor) && i < flavor_n_extra_specs(b->flavor);
         i++) {
        const char *spec, *value;

        flavor_extra_specs_at(b->flavor, i, &spec, &value);
        if (str_starts(spec, "resources") && str_ends(spec, ":VGPU")) {
            return unsupported(b, spec, value);
        }
    }
    return NULL;
}

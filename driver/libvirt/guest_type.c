#include "driver/libvirt/guest_type.h"

#include <string.h>

#define HOST_ARCH "x86_64"

struct err *guest_arch(const struct conf *conf, const struct image_meta *image, const char **ret)
{
    static const char *const names[] = {"x86_64", "i686"};
    const char *emulated = image_meta_prop(image, "hw_emulation_architecture");
    const char *arch = emulated ? emulated : image_meta_prop(image, "hw_architecture");

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_eq(names[i], arch ? arch : HOST_ARCH)) {
            *ret = names[i];
            return NULL;
        }
    }
    CLEANUP(freep)
    char *what =
        str_printf("%s=%s", emulated ? "hw_emulation_architecture" : "hw_architecture", arch);

    return err_new(ERR_UNSUPPORTED_HARDWARE, "model", what, "virt", conf->libvirt.virt_type, NULL);
}

char *guest_machine_type(const struct conf *conf, const struct image_meta *image)
{
    const char *of_image = image_meta_prop(image, "hw_machine_type");
    const char *arch = image_meta_prop(image, "hw_architecture");

    if (of_image) {
        return str_dup(of_image);
    }
    arch = arch ? arch : HOST_ARCH;
    for (size_t i = 0; i < conf->libvirt.hw_machine_type.n; i++) {
        const char *mapping = conf->libvirt.hw_machine_type.items[i];
        const char *equals = strchr(mapping, '=');

        if (equals && equals[1] && strlen(arch) == (size_t)(equals - mapping) &&
            strncmp(arch, mapping, strlen(arch)) == 0) {
            return str_dup(equals + 1);
        }
    }
    return str_dup("pc");
}

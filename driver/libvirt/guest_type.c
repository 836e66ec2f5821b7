#include "driver/libvirt/guest_type.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
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

/* ---- Name ---- */

/* One "%..." of a template: "%(field)08x". */
struct placeholder {
    char field[32]; /* "" for a bare one. */
    char flags[16]; /* "08" */
    char type;      /* 'd', 'i', 'u', 'x', 'X', 'o', 's'; '%' for itself. */
    const char *end;
};

static bool read_placeholder(const char *at, struct placeholder *ret)
{
    size_t n;

    *ret = (struct placeholder){0};
    at++;
    if (*at == '(') {
        n = strcspn(++at, ")");
        if (at[n] != ')' || n >= sizeof(ret->field)) {
            return false;
        }
        memcpy(ret->field, at, n);
        at += n + 1;
    }
    n = strspn(at, "-+ #0123456789");
    if (n >= sizeof(ret->flags) - 4 || !at[n] || !strchr("diuxXos%", at[n])) {
        return false;
    }
    memcpy(ret->flags, at, n);
    ret->type = at[n];
    ret->end = at + n + 1;
    return true;
}

static const char *text_field(const struct instance *inst, const char *field)
{
#define FIELD(f)                                                                                   \
    if (str_eq(field, #f)) {                                                                       \
        return instance_has_##f(inst) ? instance_##f(inst) : NULL;                                 \
    }
    FIELD(uuid)
    FIELD(hostname)
    FIELD(display_name)
    FIELD(project_id)
    FIELD(user_id)
    FIELD(host)
    FIELD(node)
    FIELD(reservation_id)
    FIELD(availability_zone)
#undef FIELD
    return NULL;
}

/* A number in the way of C, which is that of Python (but for the sign of "%+x", which nobody
 * writes). */
static void add_number(struct strbuf *b, const struct placeholder *p, int64_t n)
{
    char format[32], text[64];
    char type = p->type == 's' || p->type == 'u' ? 'd' : p->type;

    snprintf(format, sizeof(format), "%%%sj%c", p->flags, type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof(text), format, (intmax_t)n); /* Flags and type were checked. */
#pragma GCC diagnostic pop
    strbuf_add(b, text);
}

static bool add_placeholder(struct strbuf *b, const struct instance *inst,
                            const struct placeholder *p)
{
    const char *text = text_field(inst, p->field);

    if (p->type == '%') {
        strbuf_addc(b, '%');
    } else if (text && p->type == 's') {
        strbuf_add(b, text);
    } else if (*p->field == '\0' || str_eq(p->field, "id")) {
        add_number(b, p, instance_id(inst));
    } else {
        return false;
    }
    return true;
}

char *guest_name(const struct conf *conf, const struct instance *inst)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};

    for (const char *at = conf->dflt.instance_name_template; *at;) {
        struct placeholder p;

        if (*at != '%') {
            strbuf_addc(&b, *at++);
        } else if (read_placeholder(at, &p) && add_placeholder(&b, inst, &p)) {
            at = p.end;
        } else {
            return str_dup(instance_uuid(inst));
        }
    }
    return strbuf_take(&b);
}

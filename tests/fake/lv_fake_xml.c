/* The domain XML of the fake libvirt, as far as text goes. */
#include "tests/fake/lv_fake_impl.h"

#include <stdlib.h>
#include <string.h>

/* Devices that can come and go, and the first part of their aliases. */
static const struct {
    const char *element, *alias;
} kinds[] = {{"interface", "net"}, {"disk", "virtio-disk"}, {"hostdev", "hostdev"}};

char *fake_element(const char *xml, const char *name)
{
    CLEANUP(freep) char *tag = str_printf("<%s>", name);
    const char *start = strstr(xml, tag);

    return start ? str_ndup(start + strlen(tag), strcspn(start + strlen(tag), "<")) : NULL;
}

/* What is between NAME=' and the next quote, after 'from' and before 'end'. */
static char *attribute(const char *from, const char *end, const char *element, const char *name)
{
    CLEANUP(freep) char *tag = str_printf("<%s", element);
    const char *start = strstr(from, tag), *close, *p;

    if (!start || start >= end) {
        return NULL;
    }
    close = strchr(start, '>');
    p = strstr(start, name);
    if (!p || !close || p >= close || p[strlen(name)] != '=') {
        return NULL;
    }
    p += strlen(name) + 2;
    return str_ndup(p, strcspn(p, "'\""));
}

struct span {
    const char *start, *end; /* NULL: there is none. */
    size_t kind;
};

/* The next device at or after p. */
static struct span next_device(const char *p)
{
    struct span first = {0};

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        CLEANUP(freep) char *open = str_printf("<%s", kinds[i].element);
        CLEANUP(freep) char *close = str_printf("</%s>", kinds[i].element);
        const char *start = strstr(p, open);
        const char *end = start ? strstr(start, close) : NULL;

        while (start && start[strlen(open)] != ' ' && start[strlen(open)] != '>') {
            start = strstr(start + 1, open);
        }
        end = start ? strstr(start, close) : NULL;
        if (end && (!first.start || start < first.start)) {
            first = (struct span){start, end + strlen(close), i};
        }
    }
    return first;
}

/* What tells a device from others of its kind. */
static char *identity(struct span s)
{
    char *id = attribute(s.start, s.end, "mac", "address");

    id = id ? id : attribute(s.start, s.end, "target", "dev");
    if (!id) {
        CLEANUP(freep) char *bus = attribute(s.start, s.end, "address", "bus");
        CLEANUP(freep) char *slot = attribute(s.start, s.end, "address", "slot");
        CLEANUP(freep) char *function = attribute(s.start, s.end, "address", "function");

        id = bus && slot && function ? str_printf("%s:%s.%s", bus, slot, function) : NULL;
    }
    return id ? id : str_ndup(s.start, (size_t)(s.end - s.start));
}

static void strip_alias(char *text)
{
    char *alias = strstr(text, "<alias");
    char *end = alias ? strchr(alias, '>') : NULL;

    if (end) {
        memmove(alias, end + 1, strlen(end + 1) + 1);
    }
}

static bool is_same(struct span a, struct span b)
{
    CLEANUP(freep) char *id_a = NULL;
    CLEANUP(freep) char *id_b = NULL;

    if (a.kind != b.kind) {
        return false;
    }
    id_a = identity(a);
    id_b = identity(b);
    strip_alias(id_a);
    strip_alias(id_b);
    return str_eq(id_a, id_b);
}

char *fake_xml_with_aliases(const char *xml)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};
    unsigned n[ARRAY_SIZE(kinds)] = {0};
    const char *p = xml;

    for (struct span s = next_device(p); s.start; s = next_device(p)) {
        CLEANUP(freep) char *alias = attribute(s.start, s.end, "alias", "name");
        size_t closing = strlen(kinds[s.kind].element) + 3;

        strbuf_add_mem(&b, p, (size_t)(s.end - p) - closing);
        if (!alias) {
            strbuf_addf(&b, "<alias name='%s%u'/>", kinds[s.kind].alias, n[s.kind]);
        }
        n[s.kind]++;
        strbuf_add_mem(&b, s.end - closing, closing);
        p = s.end;
    }
    strbuf_add(&b, p);
    return strbuf_take(&b);
}

bool fake_xml_insert(char **xml, const char *device)
{
    CLEANUP(strbuf_fini) struct strbuf b = {0};
    const char *end = strstr(*xml, "</devices>");
    bool has_place = end != NULL;

    end = end ? end : strstr(*xml, "</domain>");
    if (!end) {
        return false;
    }
    strbuf_add_mem(&b, *xml, (size_t)(end - *xml));
    strbuf_addf(&b, has_place ? "%s" : "<devices>%s</devices>", device);
    strbuf_add(&b, end);
    free(*xml);
    *xml = fake_xml_with_aliases(b.s);
    return true;
}

bool fake_xml_remove(char **xml, const char *device, char **ret_alias)
{
    struct span wanted = next_device(device);

    for (struct span s = next_device(*xml); wanted.start && s.start; s = next_device(s.end)) {
        CLEANUP(strbuf_fini) struct strbuf b = {0};
        char *alias;

        if (!is_same(s, wanted)) {
            continue;
        }
        alias = attribute(s.start, s.end, "alias", "name");
        free(*ret_alias);
        *ret_alias = alias ? alias : str_dup("");
        strbuf_add_mem(&b, *xml, (size_t)(s.start - *xml));
        strbuf_add(&b, s.end);
        free(*xml);
        *xml = strbuf_take(&b);
        return true;
    }
    return false;
}

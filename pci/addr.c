#include "pci/addr.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads min to max hexadecimal digits at *p and moves it behind them. */
static bool read_hex(const char **p, size_t min, size_t max, uint32_t *ret)
{
    char digits[9] = "";
    size_t n = 0;

    while (n < max && isxdigit((unsigned char)**p)) {
        digits[n++] = *(*p)++;
    }
    *ret = (uint32_t)strtoul(digits, NULL, 16);
    return n >= min;
}

static bool read_char(const char **p, char c)
{
    return *(*p)++ == c;
}

struct err *pciaddr_parse(const char *text, struct pciaddr *ret)
{
    const char *p = text ? text : "";
    uint32_t domain, bus, slot, function;

    if (!read_hex(&p, 4, 8, &domain) || !read_char(&p, ':') || !read_hex(&p, 2, 2, &bus) ||
        !read_char(&p, ':') || !read_hex(&p, 2, 2, &slot) || !read_char(&p, '.') ||
        !read_hex(&p, 1, 1, &function) || *p || slot > 31 || function > 7) {
        return err_msg(ERR_PARSE, "'%s' is not a PCI address", text ? text : "");
    }
    *ret = (struct pciaddr){domain, (uint8_t)bus, (uint8_t)slot, (uint8_t)function};
    return NULL;
}

void pciaddr_format(const struct pciaddr *a, char ret[PCIADDR_TEXT_MAX])
{
    snprintf(ret, PCIADDR_TEXT_MAX, "%04x:%02x:%02x.%x", a->domain, a->bus, a->slot & 31,
             a->function & 7);
}

static uint64_t order(const struct pciaddr *a)
{
    return (uint64_t)a->domain << 24 | (uint64_t)a->bus << 16 | (uint64_t)a->slot << 8 |
           a->function;
}

int pciaddr_cmp(const struct pciaddr *a, const struct pciaddr *b)
{
    return order(a) < order(b) ? -1 : order(a) > order(b);
}

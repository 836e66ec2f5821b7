#include "driver/libvirt/xb.h"

#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_XML_SIZE (16u << 20)

static xmlDocPtr doc_of(struct xb_doc *d)
{
    return (xmlDocPtr)d;
}

static xmlNodePtr node_of(const struct xb_node *n)
{
    return (xmlNodePtr)(uintptr_t)n;
}

static struct xb_node *of_node(xmlNodePtr n)
{
    return (struct xb_node *)n;
}

static const xmlChar *x(const char *s)
{
    return (const xmlChar *)s;
}

/* libxml2's string as one of ours. */
static char *own(xmlChar *s)
{
    char *copy = str_dup((const char *)s);

    xmlFree(s);
    return copy;
}

struct err *xb_parse(const char *xml, struct xb_doc **ret)
{
    size_t len = strlen(xml);
    xmlParserCtxtPtr ctx;
    xmlDocPtr doc;

    if (len > MAX_XML_SIZE) {
        return err_msg(ERR_PARSE, "XML of %zu bytes is more than is read", len);
    }
    ctx = xmlNewParserCtxt();
    /* Without a dictionary, whose strings belong to one document, nodes may move to another. */
    doc = xmlCtxtReadMemory(ctx, xml, (int)len, NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                XML_PARSE_NOBLANKS | XML_PARSE_NODICT);
    if (!doc || !xmlDocGetRootElement(doc)) {
        const xmlError *error = xmlCtxtGetLastError(ctx);
        CLEANUP(freep)
        char *text = str_dup(error && error->message ? error->message : "no element");
        struct err *e = err_msg(ERR_PARSE, "no well-formed XML: %s", str_strip(text));

        xmlFreeDoc(doc);
        xmlFreeParserCtxt(ctx);
        return e;
    }
    xmlFreeParserCtxt(ctx);
    if (doc->intSubset) {
        xmlFreeDoc(doc);
        return err_msg(ERR_PARSE, "XML with a document type is not read");
    }
    *ret = (struct xb_doc *)doc;
    return NULL;
}

struct xb_doc *xb_free(struct xb_doc *d)
{
    if (d) {
        xmlFreeDoc(doc_of(d));
    }
    return NULL;
}

struct xb_node *xb_root(struct xb_doc *d)
{
    return of_node(xmlDocGetRootElement(doc_of(d)));
}

char *xb_node_text(struct xb_node *n)
{
    xmlBufferPtr buf = xmlBufferCreate();
    char *text;

    xmlNodeDump(buf, node_of(n)->doc, node_of(n), 0, /* format= */ 1);
    text = str_dup((const char *)xmlBufferContent(buf));
    xmlBufferFree(buf);
    return text;
}

char *xb_text(struct xb_doc *d)
{
    return xb_node_text(xb_root(d));
}

const char *xb_name(const struct xb_node *n)
{
    return (const char *)node_of(n)->name;
}

static xmlNodePtr element_from(xmlNodePtr n, const char *name)
{
    while (n && (n->type != XML_ELEMENT_NODE || (name && !xmlStrEqual(n->name, x(name))))) {
        n = n->next;
    }
    return n;
}

struct xb_node *xb_first(struct xb_node *n, const char *name)
{
    return n ? of_node(element_from(node_of(n)->children, name)) : NULL;
}

struct xb_node *xb_next(struct xb_node *n, const char *name)
{
    return of_node(element_from(node_of(n)->next, name));
}

struct xb_node *xb_find(struct xb_node *n, const char *path)
{
    CLEANUP(strv_fini) struct strv names = strv_split(path, "/");

    for (size_t i = 0; n && i < names.n; i++) {
        n = xb_first(n, names.items[i]);
    }
    return n;
}

char *xb_attr(struct xb_node *n, const char *attr)
{
    xmlChar *value = n ? xmlGetNoNsProp(node_of(n), x(attr)) : NULL;

    return value ? own(value) : NULL;
}

char *xb_attr_at(struct xb_node *n, const char *path, const char *attr)
{
    return xb_attr(xb_find(n, path), attr);
}

char *xb_content(struct xb_node *n)
{
    xmlChar *value = n ? xmlNodeGetContent(node_of(n)) : NULL;

    if (!value) {
        return NULL;
    }
    CLEANUP(freep) char *text = own(value);

    return str_dup(str_strip(text));
}

char *xb_content_at(struct xb_node *n, const char *path)
{
    return xb_content(xb_find(n, path));
}

bool xb_attr_is(struct xb_node *n, const char *attr, const char *value)
{
    CLEANUP(freep) char *is = xb_attr(n, attr);

    return is && str_eq(is, value);
}

void xb_set_attr(struct xb_node *n, const char *attr, const char *value)
{
    if (value) {
        xmlSetProp(node_of(n), x(attr), x(value));
    } else {
        xmlUnsetProp(node_of(n), x(attr));
    }
}

void xb_set_attr_int(struct xb_node *n, const char *attr, int64_t value)
{
    CLEANUP(freep) char *text = str_printf("%" PRId64, value);

    xb_set_attr(n, attr, text);
}

void xb_set_content(struct xb_node *n, const char *text)
{
    xmlChar *escaped = xmlEncodeSpecialChars(node_of(n)->doc, x(text));

    xmlNodeSetContent(node_of(n), escaped);
    xmlFree(escaped);
}

struct xb_node *xb_add(struct xb_node *n, const char *name)
{
    return of_node(xmlNewChild(node_of(n), NULL, x(name), NULL));
}

struct xb_node *xb_add_with(struct xb_node *n, const char *name, ...)
{
    struct xb_node *child = xb_add(n, name);
    va_list ap;

    va_start(ap, name);
    for (const char *attr; (attr = va_arg(ap, const char *));) {
        const char *value = va_arg(ap, const char *);

        if (value) {
            xb_set_attr(child, attr, value);
        }
    }
    va_end(ap);
    return child;
}

struct xb_node *xb_add_text(struct xb_node *n, const char *name, const char *text)
{
    struct xb_node *child = xb_add(n, name);

    xb_set_content(child, text);
    return child;
}

struct xb_node *xb_add_int(struct xb_node *n, const char *name, int64_t number)
{
    CLEANUP(freep) char *text = str_printf("%" PRId64, number);

    return xb_add_text(n, name, text);
}

struct xb_node *xb_add_ns(struct xb_node *n, const char *name, const char *prefix, const char *uri)
{
    xmlNodePtr child = node_of(xb_add(n, name));

    xmlSetNs(child, xmlNewNs(child, x(uri), x(prefix)));
    return of_node(child);
}

struct xb_node *xb_ensure(struct xb_node *n, const char *name)
{
    struct xb_node *child = xb_first(n, name);

    return child ? child : xb_add(n, name);
}

void xb_remove(struct xb_node *n)
{
    if (n) {
        xmlUnlinkNode(node_of(n));
        xmlFreeNode(node_of(n));
    }
}

void xb_remove_children(struct xb_node *n, const char *name)
{
    struct xb_node *child;

    while ((child = xb_first(n, name))) {
        xb_remove(child);
    }
}

void xb_move(struct xb_node *child, struct xb_node *parent)
{
    xmlUnlinkNode(node_of(child));
    if (node_of(child)->doc != node_of(parent)->doc) {
        xmlSetTreeDoc(node_of(child), node_of(parent)->doc);
    }
    xmlAddChild(node_of(parent), node_of(child));
}

void xb_replace(struct xb_node *old, struct xb_node *node)
{
    xmlReplaceNode(node_of(old), node_of(node));
    xmlFreeNode(node_of(old));
}

struct xb_node *xb_new(struct xb_doc *d, const char *name)
{
    return of_node(xmlNewDocNode(doc_of(d), NULL, x(name), NULL));
}

bool xb_is_empty(struct xb_node *n)
{
    return !xb_first(n, NULL);
}

bool xb_has_attrs(struct xb_node *n)
{
    return node_of(n)->properties != NULL;
}

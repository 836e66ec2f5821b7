#pragma once

/* The one door to libxml2: reading libvirt's XML by paths of element names, and editing it.
 *
 * A path is names separated by '/', from a node downwards ("devices/interface"); "" is the node
 * itself.  Nothing is fetched from outside and entities are not expanded.
 *
 * Ownership: a document owns its nodes; strings that are returned are the caller's unless it says
 * borrowed.
 * Thread-safety: a document belongs to one thread at a time. */

#include "base/err.h"
#include "base/str.h"

struct xb_doc;
struct xb_node;

/* ERR_PARSE, with libxml2's own words; at most 16 MiB. */
struct err *xb_parse(const char *xml, struct xb_doc **ret) MUST_CHECK;
struct xb_doc *xb_free(struct xb_doc *);
static inline void xb_freep(struct xb_doc **p)
{
    *p = xb_free(*p);
}
struct xb_node *xb_root(struct xb_doc *);
/* The document as libvirt takes it, without an XML declaration. */
char *xb_text(struct xb_doc *) MUST_CHECK;
/* One element with what is in it. */
char *xb_node_text(struct xb_node *) MUST_CHECK;

const char *xb_name(const struct xb_node *); /* Borrowed. */
/* The first element at a path, or NULL.  A NULL node has none. */
struct xb_node *xb_find(struct xb_node *, const char *path);
/* The first child element of that name (NULL: any), and the next sibling of the same name. */
struct xb_node *xb_first(struct xb_node *, const char *name);
struct xb_node *xb_next(struct xb_node *, const char *name);

/* An attribute of the node, or NULL. */
char *xb_attr(struct xb_node *, const char *attr) MUST_CHECK;
/* The same of the element at a path. */
char *xb_attr_at(struct xb_node *, const char *path, const char *attr) MUST_CHECK;
/* Text content, stripped, or NULL. */
char *xb_content(struct xb_node *) MUST_CHECK;
char *xb_content_at(struct xb_node *, const char *path) MUST_CHECK;
bool xb_attr_is(struct xb_node *, const char *attr, const char *value);

/* NULL removes the attribute. */
void xb_set_attr(struct xb_node *, const char *attr, const char *value);
void xb_set_attr_int(struct xb_node *, const char *attr, int64_t value);
void xb_set_content(struct xb_node *, const char *text);
/* Appends a new element, in its parent's namespace. */
struct xb_node *xb_add(struct xb_node *, const char *name);
/* The same with attributes: pairs of name and value, NULL ends.  A NULL value leaves its attribute
 * out. */
struct xb_node *xb_add_with(struct xb_node *, const char *name, ...) __attribute__((sentinel));
/* The same with text in it. */
struct xb_node *xb_add_text(struct xb_node *, const char *name, const char *text);
struct xb_node *xb_add_int(struct xb_node *, const char *name, int64_t n);
/* Appends the first element of a namespace: what is added to it is in that namespace too. */
struct xb_node *xb_add_ns(struct xb_node *, const char *name, const char *prefix, const char *uri);
/* The child of that name, made if there is none. */
struct xb_node *xb_ensure(struct xb_node *, const char *name);
/* Removes a node and what is in it. */
void xb_remove(struct xb_node *);
/* Removes every child element of that name. */
void xb_remove_children(struct xb_node *, const char *name);
/* Moves 'child' (of any document) to the end of 'parent'. */
void xb_move(struct xb_node *child, struct xb_node *parent);
/* Puts 'node' where 'old' is; old is freed. */
void xb_replace(struct xb_node *old, struct xb_node *node);
/* A new element of the document that is nowhere in its tree yet: for xb_replace and xb_move. */
struct xb_node *xb_new(struct xb_doc *, const char *name) MUST_CHECK;
bool xb_is_empty(struct xb_node *); /* No child elements. */
bool xb_has_attrs(struct xb_node *);

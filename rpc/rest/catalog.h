#pragma once

/* The catalogue of a cloud, and the URLs that come out of it.
 *
 * Pure: no I/O.  Reads the catalogue of a v3 token and the older form that Nova keeps in a
 * request's context.
 *
 * Source: keystoneauth1/access/service_catalog.py; Identity API v3, "catalog".
 *
 * Ownership: a catalogue owns its strings.  Thread-safety: immutable once it was read. */

#include "base/err.h"
#include "base/jv.h"

struct catalog_entry {
    char *type;      /* "network" */
    char *name;      /* "neutron"; may be NULL */
    char *interface; /* "internal" */
    char *region;    /* May be NULL. */
    char *url;
};

struct catalog {
    struct catalog_entry *items;
    size_t n;
};

/* From an array of services; what is no endpoint is left out. */
void catalog_read(struct json_object *services, struct catalog *ret);
void catalog_fini(struct catalog *);

struct catalog_query {
    const char *type;              /* Also under its other names: volumev3 and block-storage. */
    const char *name;              /* NULL: any. */
    const struct strv *interfaces; /* The best first; "internalURL" is "internal". */
    const char *region;            /* NULL: any. */
};

/* The URL of the best endpoint, borrowed; NULL if there is none. */
const char *catalog_find(const struct catalog *, const struct catalog_query *);

/* Endpoint, version and path in one: "http://host:9696", "v2.0", "/ports" is
 * "http://host:9696/v2.0/ports".  Slashes and a version at the end of the endpoint do not matter.
 * version NULL: the endpoint is taken as it is. */
char *catalog_url(const char *endpoint, const char *version, const char *path) MUST_CHECK;

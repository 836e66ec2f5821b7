#pragma once

/* A small neutron that answers in place of rpc/rest/session.c: ports are made, changed, deleted and
 * found, as far as driver/compute/netalloc.c and rpc/rest/neutron.c ask.
 *
 * A port with "x-fails" cannot be bound; one that is made on a network with "x-qos" asks placement
 * for resources.  Ports that it makes are "made-1", "made-2", ...
 *
 * Thread-safety: one thread. */

#include "base/jv.h"

#include <stdbool.h>

struct neutron_fault {
    const char *method, *path; /* Of requests whose path starts so. */
    int skip;                  /* So many times it goes well first. */
    long status;
    const char *type; /* NeutronError's, or NULL. */
    bool is_done;     /* It is carried out all the same. */
};

struct neutron_fake {
    struct json_object *ports, *networks;
    struct json_object *subnets; /* NULL: none. */
    bool has_dns, has_groups;    /* Extensions dns-integration, port-resource-request-groups. */
    const char *auto_network;    /* What GET /auto-allocated-topology answers, or NULL. */
    unsigned n_made;
    struct neutron_fault faults[4]; /* Each once. */
    size_t n_faults;
    struct strv log; /* "METHOD path" of what changes something, "user " before with a user's token.
                      */
};

extern struct neutron_fake neutron_fake;

/* What there is, as JSON. */
void neutron_fake_set(const char *ports, const char *networks);
/* Nothing, no faults, no log. */
void neutron_fake_reset(void);
/* NULL if there is none. */
struct json_object *neutron_fake_port(const char *id);
void neutron_fake_fail(const char *method, const char *path, int skip, long status,
                       const char *type);

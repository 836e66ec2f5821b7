#pragma once

/* What an image says of the guests made from it, and what a flavor says.
 *
 * The image's properties are those that Nova keeps with the server (system_metadata "image_*"), so
 * a server outlives its image; those of an RPC's image dict read the same.  Names are today's:
 * those of old releases ("hypervisor_type", "owner_specified...") are translated as Nova does.
 *
 * Not to be mixed up with the versioned object ImageMeta, which has the same name in
 * rpc/objects/objects.h: what is there is for what requests carry.
 *
 * Source: nova/objects/image_meta.py (ImageMeta.from_instance, from_dict, ImageMetaProps),
 * nova/utils.py get_image_from_system_metadata.
 *
 * Thread-safety: plain values. */

#include "base/err.h"
#include "base/jv.h"
#include "rpc/objects/objects.h"

#include <stdbool.h>
#include <stdint.h>

struct image_meta {
    char *id;                  /* NULL: the server has none (boot from volume). */
    char *name;                /* May be NULL, like the two below. */
    char *disk_format;         /* "raw", "qcow2", "iso", ... */
    char *container_format;    /* "bare", ... */
    int64_t min_disk, min_ram; /* GiB, MiB */
    int64_t size;              /* Bytes; -1: unknown. */
    struct json_object *props; /* name -> text; owned, never NULL after a read. */
};

/* From system_metadata, which must be loaded, and image_ref.  ERR_PARSE, which is Nova's
 * ValueError, for a value that a property cannot have; the same below. */
struct err *image_meta_of_instance(const struct instance *, struct image_meta *ret) MUST_CHECK;
/* From the image dict of an RPC, or an image of glance: {"id", "disk_format", "properties": {}}.
 * NULL or empty: no image.  ERR_PARSE. */
struct err *image_meta_of_json(struct json_object *image, struct image_meta *ret) MUST_CHECK;
void image_meta_fini(struct image_meta *);

/* A property, or NULL.  Borrowed. */
const char *image_meta_prop(const struct image_meta *, const char *name);
/* Python's bool_from_string: 1, t, true, on, y, yes; anything else is false, absent is dflt. */
bool image_meta_bool(const struct image_meta *, const char *name, bool dflt);
int64_t image_meta_int(const struct image_meta *, const char *name, int64_t dflt);

/* An extra spec of the server's flavor, or NULL.  Borrowed. */
const char *flavor_spec(const struct instance *, const char *name);
bool flavor_spec_bool(const struct instance *, const char *name, bool dflt);

/* What the flavor says, else what the image says, else NULL: for settings that both may make.
 * ERR_IMAGE_UNACCEPTABLE-like conflicts are the callers' to judge. */
const char *guest_setting(const struct instance *, const struct image_meta *, const char *spec,
                          const char *prop);

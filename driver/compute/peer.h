#pragma once

/* Calls to the compute service of another host, ours or Nova's.
 *
 * All with version 6.0 and on topic "compute", which every release serves.
 *
 * Source: nova/compute/rpcapi.py; contract compute-rpc.md 3.2, 3.8.
 *
 * Thread-safety: from any thread. */

#include "base/err.h"
#include "driver/compute/node.h"
#include "rpc/objects/objects.h"

/* Destination to source.  *ret is new; 'md' stays the caller's.  Any failure comes back as
 * ERR_MIGRATION_PRE_CHECK, so that conductor may try another host (Nova does so from 2024.1 on). */
struct err *peer_check_source(struct node *, const struct rctx *, const char *host,
                              struct instance *, struct libvirt_live_migrate_data *md,
                              struct libvirt_live_migrate_data **ret) MUST_CHECK;
/* Source to destination; a long call.  'disk' is the JSON text of disk_info or NULL. */
struct err *peer_pre_live_migration(struct node *, const struct rctx *, const char *host,
                                    struct instance *, const char *disk,
                                    struct libvirt_live_migrate_data *md, struct cancel *,
                                    struct libvirt_live_migrate_data **ret) MUST_CHECK;
struct err *peer_post_at_destination(struct node *, const struct rctx *, const char *host,
                                     struct instance *, bool is_block) MUST_CHECK;
struct err *peer_rollback_at_destination(struct node *, const struct rctx *, const char *host,
                                         struct instance *, bool destroy_disks,
                                         struct libvirt_live_migrate_data *md) MUST_CHECK;
struct err *peer_drop_move_claim(struct node *, const struct rctx *, const char *host,
                                 struct instance *) MUST_CHECK;
/* Whether 'host' sees a file of this host: they share the storage of the server. */
struct err *peer_check_shared_storage(struct node *, const struct rctx *, const char *host,
                                      const char *file, bool *ret) MUST_CHECK;
struct err *peer_remove_volume_connection(struct node *, const struct rctx *, const char *host,
                                          struct instance *, const char *volume_id) MUST_CHECK;

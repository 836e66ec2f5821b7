#include "driver/compute/imagepass.h"

#include "base/clock.h"
#include "base/log.h"
#include "driver/libvirt/imageage.h"

static void add_id(struct strv *ids, const char *id)
{
    if (!str_is_empty(id) && !strv_has(ids, id)) {
        strv_add(ids, id);
    }
}

/* The images of a host's servers, kernels and ramdisks among them. */
static struct err *add_images_of(struct node *node, const struct rctx *ctx, const char *host,
                                 struct strv *ids)
{
    CLEANUP(instance_list_freep) struct instance_list *list = NULL;
    static const char *const no_attrs[] = {NULL};

    TRY(instance_list_by_host(node->conductor, ctx, host, no_attrs, &list));
    for (size_t i = 0; i < instance_list_n(list); i++) {
        struct instance *inst = instance_list_at(list, i);

        add_id(ids, instance_has_image_ref(inst) ? instance_image_ref(inst) : NULL);
        add_id(ids, instance_has_kernel_id(inst) ? instance_kernel_id(inst) : NULL);
        add_id(ids, instance_has_ramdisk_id(inst) ? instance_ramdisk_id(inst) : NULL);
    }
    return NULL;
}

struct err *imagepass_run(struct node *node, const struct rctx *ctx)
{
    CLEANUP(conf_putp) const struct conf *conf = conf_get(node->conf);
    CLEANUP(strv_fini) struct strv hosts = {0};
    CLEANUP(strv_fini) struct strv ids = {0};
    int64_t now_s = clock_wall_us() / 1000000;
    unsigned n_removed = 0;

    TRY(imageage_users(conf, node->stopping, now_s, &hosts));
    for (size_t i = 0; i < hosts.n; i++) {
        TRY(add_images_of(node, ctx, hosts.items[i], &ids));
    }
    TRY(imageage_pass(conf, &ids, now_s, &n_removed));
    log_debug(LOG_COMPUTE, "image cache: %zu images of %zu hosts are in use, %u files removed",
              ids.n, hosts.n, n_removed);
    return NULL;
}

/* link: vif */

/* Whatever passes for network info has VIFs with names that a device may have, and destinations. */

#include "vif/model.h"

#include <stdlib.h>
#include <string.h>

static void check_name(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > 14 || strpbrk(name, "/: ")) {
        abort();
    }
}

static void use(const struct vif *vif, const char *text)
{
    CLEANUP(vif_fini) struct vif dest = {0};
    enum vif_kind kind = VIF_KIND_OVS_TAP;
    struct err *e = vif_kind(vif, &kind);
    char name[15];

    err_free(e);
    vif_port_name(vif, kind, name);
    check_name(name);
    vif_prefixed_name(vif, "qvo", name);
    check_name(name);
    vif_bridge(vif, "br-int");
    vif_is_detached_to_move(vif);
    err_free(vif_destination(vif, "ovs", "direct", text, text, &dest));
    vif_fini(&dest);
    err_free(vif_destination(vif, NULL, NULL, "{\"os_vif_delegation\": true}", NULL, &dest));
    if (dest.json && !dest.is_delegated) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(freep) char *text = str_ndup((const char *)data, size);
    CLEANUP(vif_list_fini) struct vif_list list = {0};

    err_free(vif_list_parse(text, &list));
    for (size_t i = 0; i < list.n; i++) {
        use(&list.items[i], text);
    }
    return 0;
}

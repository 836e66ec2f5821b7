/* link: vif */

/* A stream is cut into the same messages in whatever pieces it comes, and whatever they say, the
 * copy and the plans stand it.  The first byte is the size of the pieces. */

#include "vif/jsonrpc.h"
#include "vif/ovscache.h"
#include "vif/ovsplan.h"

#include <stdlib.h>

static void plan_all(const struct ovscache *c)
{
    static const struct ovs_port_spec port = {
        .bridge = "br-int", .name = "p", .type = "", .iface_id = "i", .mtu_request = 1, .tag = 1};
    static const struct ovs_bridge_spec bridge = {"br-int", "system"};
    const struct {
        ovsplan_fn fn;
        const void *what;
    } plans[] = {{ovsplan_ensure_port, &port},
                 {ovsplan_ensure_bridge, &bridge},
                 {ovsplan_remove_port, "p"},
                 {ovsplan_remove_bridge, "br-int"}};

    for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
        for (int64_t wait_cfg = -1; wait_cfg < 2; wait_cfg++) {
            struct ovsplan p = {.verdict = OVSPLAN_DONE};

            err_free(plans[i].fn(c, plans[i].what, wait_cfg, &p));
            json_object_put(p.ops);
        }
    }
}

/* How many messages there are before the end or an error; applies them all to a copy. */
static size_t count(const uint8_t *data, size_t size, size_t piece)
{
    CLEANUP(ovscache_fini) struct ovscache cache = {0};
    CLEANUP(jsonrpc_in_reset) struct jsonrpc_in in = {0};
    size_t n = 0;

    for (size_t i = 0; i < size; i += piece) {
        const char *bytes = (const char *)data + i;
        size_t len = MIN(piece, size - i);

        for (;;) {
            CLEANUP(jv_putp) struct json_object *message = NULL;
            CLEANUP(err_freep) struct err *e = jsonrpc_in_feed(&in, &bytes, &len, &message);

            if (e) {
                return n;
            }
            if (!message) {
                break;
            }
            n++;
            err_free(ovscache_apply(&cache, message));
            plan_all(&cache);
        }
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (count(data + 1, size - 1, data[0] ? data[0] : 1) != count(data + 1, size - 1, size)) {
        abort();
    }
    return 0;
}

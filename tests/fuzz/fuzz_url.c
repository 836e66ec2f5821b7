/* link: rpc_amqp rpc_objects base */

/* A transport_url is read or refused; one that is read has hosts with everything. */

#include "rpc/amqp/url.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(url_fini) struct url u = {0};
    CLEANUP(freep) char *text = str_ndup((const char *)data, size);
    CLEANUP(err_freep) struct err *e = url_parse(text, &u);

    if (e) {
        return 0;
    }
    if (u.n_hosts == 0 || !u.vhost || u.names.n != u.values.n) {
        abort();
    }
    for (size_t i = 0; i < u.n_hosts; i++) {
        if (!u.hosts[i].host || !u.hosts[i].user || !u.hosts[i].password || !u.hosts[i].port) {
            abort();
        }
    }
    return 0;
}

/* link: driver_compute driver_libvirt lv_fake */
#include "driver/compute/dispatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define UUID  "4dea22b3-1d52-4d8f-9d9a-0242ac110002"
#define OTHER "5dea22b3-1d52-4d8f-9d9a-0242ac110002"

static unsigned n_refused;

void rpc_reply_err(struct rpc_request *req, struct err *e)
{
    CLEANUP(err_freep) struct err *owned = e;

    assert_true(err_is(owned, ERR_CANCELLED));
    json_object_put(req->args);
    n_refused++;
}

void rpc_reply(struct rpc_request *req, struct json_object *result)
{
    (void)req;
    (void)result;
    fail_msg("nothing is answered");
}

static struct json_object *args_for(const char *uuid)
{
    struct json_object *args = json_object_new_object(), *inst = json_object_new_object(),
                       *data = json_object_new_object();

    jv_add_str(data, "uuid", uuid);
    jv_add(inst, "nova_object.data", data);
    jv_add(args, "instance", inst);
    return args;
}

static void a_request_that_waits_is_known_by_its_server_and_what_it_does(void **state)
{
    struct node node = {.dispatcher = dispatcher_new()};
    struct rpc_request stop = {.method = (char *)"stop_instance", .args = args_for(UUID)};
    struct rpc_request console = {.method = (char *)"get_console_output", .args = args_for(OTHER)};
    struct rpc_request strange = {.method = (char *)"none", .args = json_object_new_object()};

    (void)state;
    dispatch_request(&strange, &node);
    dispatch_request(&console, &node);
    assert_false(dispatch_has_kept(&node, UUID));
    dispatch_request(&stop, &node);
    assert_true(dispatch_has_kept(&node, UUID));
    assert_false(dispatch_has_kept(&node, OTHER)); /* A look at a console ends no task. */
    dispatcher_free(node.dispatcher);
    assert_int_equal(n_refused, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_that_waits_is_known_by_its_server_and_what_it_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

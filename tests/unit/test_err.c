/* link: base */
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

MUST_CHECK static struct err *inner(void)
{
    return err_msg(ERR_INTERNAL, "short read of '%s'", "x");
}

MUST_CHECK static struct err *outer(const char *device)
{
    TRY_CTX(inner(), "counting the VFs of %s", device);
    return NULL;
}

static void a_template_takes_its_arguments(void **state)
{
    CLEANUP(err_freep)
    struct err *e = err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "1234", NULL);

    (void)state;
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
    assert_int_equal(err_kind(e), ERR_INSTANCE_NOT_FOUND);
    assert_string_equal(err_message(e), "Instance 1234 could not be found.");
    assert_string_equal(err_module(e), "nova.exception");
    assert_string_equal(err_class(e), "InstanceNotFound");
    assert_int_equal(err_code(e), 404);
}

static void a_template_takes_numbers_and_none(void **state)
{
    CLEANUP(err_freep)
    struct err *e = err_new(ERR_SERVICE_TOO_OLD, "minver", "61", "thisver", NULL, NULL);

    (void)state;
    assert_string_equal(err_message(e),
                        "This service is older (vNone) than the minimum (v61) version of the rest "
                        "of the deployment. Unable to continue.");
    assert_string_equal(err_get(e, "minver"), "61");
    assert_null(err_get(e, "thisver"));
}

static void a_missing_argument_leaves_the_template_as_it_is(void **state)
{
    CLEANUP(err_freep) struct err *e = err_new(ERR_INSTANCE_NOT_FOUND, "instance", "x", NULL);

    (void)state;
    assert_string_equal(err_message(e), "Instance %(instance_id)s could not be found.");
}

static void arguments_are_not_templates(void **state)
{
    CLEANUP(err_freep)
    struct err *e = err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", "%(instance_id)s %s", NULL);

    (void)state;
    assert_string_equal(err_message(e), "Instance %(instance_id)s %s could not be found.");
}

static void arguments_keep_their_order(void **state)
{
    CLEANUP(err_freep) struct err *e = err_new(ERR_MIGRATION_ERROR, "reason", "x", NULL);
    const char *key, *value;

    (void)state;
    err_set(e, "code", "400");
    assert_true(err_kwarg(e, 0, &key, &value));
    assert_string_equal(key, "reason");
    assert_true(err_kwarg(e, 1, &key, &value));
    assert_string_equal(key, "code");
    assert_string_equal(value, "400");
    assert_false(err_kwarg(e, 2, &key, &value));
}

static void context_is_told_from_the_inside_out(void **state)
{
    CLEANUP(err_freep) struct err *e = err_context(outer("eth0"), "starting");
    CLEANUP(freep) char *text = err_text(e);

    (void)state;
    assert_string_equal(text, "short read of 'x' (while counting the VFs of eth0; while starting)");
    assert_null(err_context(NULL, "anything"));
}

static void a_peers_error_is_kept_and_its_kind_found(void **state)
{
    CLEANUP(err_freep)
    struct err *e = err_remote("nova.exception_Remote", "InstanceNotFound", "no %(such)s");
    CLEANUP(err_freep) struct err *unknown = err_remote("sqlalchemy.exc", "SomeError", NULL);
    CLEANUP(err_freep)
    struct err *conflict = err_remote("keystoneauth1.exceptions.http", "Conflict", "");
    CLEANUP(err_freep) struct err *empty = err_remote(NULL, NULL, "x");

    (void)state;
    assert_true(err_is(e, ERR_INSTANCE_NOT_FOUND));
    assert_string_equal(err_module(e), "nova.exception_Remote");
    assert_string_equal(err_class(e), "InstanceNotFound");
    assert_string_equal(err_message(e), "no %(such)s");
    assert_int_equal(err_code(e), 404);
    assert_true(err_is(unknown, ERR_REMOTE));
    assert_string_equal(err_class(unknown), "SomeError");
    assert_true(err_is(conflict, ERR_CONFLICT));
    assert_true(err_is(empty, ERR_REMOTE));
}

static void a_peers_plain_exception_is_not_our_cancelling(void **state)
{
    CLEANUP(err_freep) struct err *e = err_remote("nova.exception", "NovaException", "x");

    (void)state;
    assert_true(err_is(e, ERR_REMOTE));
}

static void errno_chooses_the_kind(void **state)
{
    CLEANUP(err_freep) struct err *none = err_errno(ENOENT, "opening '%s'", "a");
    CLEANUP(err_freep) struct err *full = err_errno(ENOSPC, "writing");
    CLEANUP(err_freep) struct err *quota = err_errno(EDQUOT, "writing");
    CLEANUP(err_freep) struct err *other = err_errno(EIO, "reading");

    (void)state;
    assert_true(err_is(none, ERR_NOT_FOUND));
    assert_string_equal(err_message(none), "opening 'a': No such file or directory");
    assert_true(err_is(full, ERR_NO_SPACE));
    assert_true(err_is(quota, ERR_NO_SPACE));
    assert_true(err_is(other, ERR_INTERNAL));
}

static void a_copy_has_everything(void **state)
{
    CLEANUP(err_freep) struct err *e = err_remote("m", "C", "text");
    CLEANUP(err_freep) struct err *copy = NULL;
    CLEANUP(freep) char *text = NULL;

    (void)state;
    err_set(e, "k", "v");
    e = err_context(e, "saving");
    copy = err_dup(e);
    e = err_free(e);
    text = err_text(copy);
    assert_string_equal(text, "text (while saving)");
    assert_string_equal(err_class(copy), "C");
    assert_string_equal(err_get(copy, "k"), "v");
    assert_null(err_dup(NULL));
}

static void an_error_without_text_is_logged_by_its_class(void **state)
{
    CLEANUP(err_freep) struct err *e = err_new(ERR_TIMEOUT, NULL);
    CLEANUP(freep) char *text = err_text(e);

    (void)state;
    assert_string_equal(text, "MessagingTimeout");
}

static void no_error_is_of_no_kind(void **state)
{
    (void)state;
    assert_false(err_is(NULL, ERR_INTERNAL));
    assert_null(err_free(NULL));
    err_ignore(NULL, "nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_template_takes_its_arguments),
        cmocka_unit_test(a_template_takes_numbers_and_none),
        cmocka_unit_test(a_missing_argument_leaves_the_template_as_it_is),
        cmocka_unit_test(arguments_are_not_templates),
        cmocka_unit_test(arguments_keep_their_order),
        cmocka_unit_test(context_is_told_from_the_inside_out),
        cmocka_unit_test(a_peers_error_is_kept_and_its_kind_found),
        cmocka_unit_test(a_peers_plain_exception_is_not_our_cancelling),
        cmocka_unit_test(errno_chooses_the_kind),
        cmocka_unit_test(a_copy_has_everything),
        cmocka_unit_test(an_error_without_text_is_logged_by_its_class),
        cmocka_unit_test(no_error_is_of_no_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

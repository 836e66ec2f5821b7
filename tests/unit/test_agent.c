/* link: driver_compute */
#include "base/base64.h"
#include "base/log.h"
#include "driver/compute/handlers.h"
#include "driver/compute/lifecycle.h"
#include "driver/compute/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID     "0c7ef7a3-54c5-4f2a-90f4-5ff1d6cb0bd4"
#define PASSWORD "s3cr3t!"
#define KEY                                                                                        \
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC8SL39OgFPOpFwml08TGblTCDtJpnjm05Zi9N8DaVTD1PNtK/"      \
    "iIRPYsH+xQ1b0lnqRFaOc2J/UgADVltB/4Y6x+JU2YviJA6Fs5ylxXNn2vitPkrAKjS6+uunLwDWwG99BmC8bow8Hs"   \
    "MQeSBaXEGezJPFfo7yPot0ElKZVCTSg0rZlXv7q6Rh/oMEc0ndl4piMrpjBwQHjiNJ0lOJhJjovRAjEuhMatawBUN1M"  \
    "/yO+/6Mx/u3KryPJhl9pCCytBL8f182xXJbrnYSMHdHpCLJSwAb7V+6Jyjk8dlahQppAimqaPfkgCpON+DjLa9iQuAU"  \
    "eq8Vq/tF4sK1MCAroFV57 user@host"

/* The guest, what libvirt says, and what was done. */
static struct {
    int64_t power; /* -1: no such guest. */
    const char *libvirt_error;
    const char *libvirt_text;
    char user[32], password[32];
    unsigned n_nmi, n_saves;
    struct instance *saved;
    char expected_state[32];
    char notified[64];
    bool task_has_changed;
} world;

struct err *lifecycle_power_state(struct node *node, const char *uuid, int64_t *ret)
{
    assert_non_null(node);
    assert_string_equal(uuid, UUID);
    if (world.power < 0) {
        return err_new(ERR_INSTANCE_NOT_FOUND, "instance_id", uuid, NULL);
    }
    *ret = world.power;
    return NULL;
}

struct err *lv_domain_by_uuid(struct lv_conn *lv, const char *uuid, struct lv_domain **ret)
{
    assert_null(lv);
    assert_string_equal(uuid, UUID);
    *ret = NULL;
    return NULL;
}

struct lv_domain *lv_domain_free(struct lv_domain *domain)
{
    assert_null(domain);
    return NULL;
}

static struct err *libvirt_says(void)
{
    struct err *e;

    if (!world.libvirt_error) {
        return NULL;
    }
    e = err_msg(ERR_LIBVIRT, "%s", world.libvirt_text ? world.libvirt_text : "no");
    err_set(e, "name", world.libvirt_error);
    return e;
}

struct err *lv_domain_set_user_password(struct lv_domain *domain, const char *user,
                                        const char *password)
{
    assert_null(domain);
    snprintf(world.user, sizeof world.user, "%s", user);
    snprintf(world.password, sizeof world.password, "%s", password);
    return libvirt_says();
}

struct err *lv_domain_inject_nmi(struct lv_domain *domain)
{
    assert_null(domain);
    world.n_nmi++;
    return libvirt_says();
}

struct err *instance_load(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *attrs)
{
    assert_null(c);
    assert_null(ctx);
    for (; *attrs; attrs++) {
        int field = ovo_class_field(&instance_class, *attrs);

        assert_true(field >= 0);
        assert_true(ovo_has(instance_ovo(inst), (unsigned)field));
    }
    return NULL;
}

struct err *instance_save(struct conductor *c, const struct rctx *ctx, struct instance *inst,
                          const char *const *expected_task_states)
{
    assert_null(c);
    assert_null(ctx);
    world.n_saves++;
    snprintf(world.expected_state, sizeof world.expected_state, "%s", expected_task_states[0]);
    assert_null(expected_task_states[1]);
    if (world.task_has_changed) {
        return err_new(ERR_UNEXPECTED_TASK_STATE, "instance_uuid", UUID, "expected",
                       "updating_password", "actual", "deleting", NULL);
    }
    instance_freep(&world.saved);
    world.saved = instance_dup(inst);
    return NULL;
}

void notify_instance(struct node *node, const struct rctx *ctx, struct instance *inst,
                     enum notify_action action, enum notify_phase phase)
{
    assert_non_null(node);
    assert_null(ctx);
    assert_string_equal(instance_uuid(inst), UUID);
    assert_int_equal(action, NOTIFY_CRASH_DUMP);
    strcat(world.notified, phase == NOTIFY_START ? "start " : phase == NOTIFY_END ? "end " : "?");
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    world.power = POWER_RUNNING;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    instance_freep(&world.saved);
    return 0;
}

static struct node node;

static struct instance *server(void)
{
    struct instance *i = instance_new();

    instance_set_uuid(i, UUID);
    instance_set_task_state(i, "updating_password");
    instance_set_os_type(i, NULL);
    instance_set_image_ref(i, "image");
    instance_set_key_data(i, NULL);
    instance_clear_system_metadata(i);
    instance_system_metadata_put(i, "image_hw_qemu_guest_agent", "yes");
    ovo_reset_changes(instance_ovo(i), true);
    return i;
}

/* ---- Password ---- */

static struct err *set_password(struct instance *inst)
{
    return compute_set_admin_password(
        &node, NULL, &(struct args_set_admin_password){.instance = inst, .new_pass = PASSWORD},
        NULL);
}

static void assert_task_ended(void)
{
    assert_int_equal(world.n_saves, 1);
    assert_string_equal(world.expected_state, "updating_password");
    assert_true(instance_changed_task_state(world.saved));
    assert_null(instance_task_state(world.saved));
}

static void the_password_is_set_by_the_agent(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    assert_null(set_password(inst));
    assert_string_equal(world.user, "root");
    assert_string_equal(world.password, PASSWORD);
    assert_task_ended();
    assert_false(instance_changed_system_metadata(world.saved));
}

static void whose_password_it_is_depends_on_image_and_system(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    instance_set_os_type(inst, "windows");
    assert_null(set_password(inst));
    assert_string_equal(world.user, "Administrator");
    instance_system_metadata_put(inst, "image_os_admin_user", "ubuntu");
    assert_null(set_password(inst));
    assert_string_equal(world.user, "ubuntu");
}

static void who_has_the_key_can_read_the_password_later(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();
    CLEANUP(strbuf_fini) struct strbuf text = {0};
    CLEANUP(freep) char *sealed = NULL;
    size_t len = 0;

    (void)state;
    instance_set_key_data(inst, KEY);
    assert_null(set_password(inst));
    assert_task_ended();
    assert_true(instance_changed_system_metadata(world.saved));
    for (size_t i = 0; i < 4; i++) {
        CLEANUP(freep) char *name = str_printf("password_%zu", i);
        const char *part = instance_system_metadata_get(world.saved, name);

        assert_non_null(part);
        assert_true(strlen(part) <= 255);
        strbuf_add(&text, part);
    }
    assert_null(base64_decode(text.s, &sealed, &len));
    assert_int_equal(len, 256); /* As long as the key; tests/unit/test_seal.c opens one. */
}

static void other_keys_seal_nothing(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    instance_set_key_data(inst, "ssh-ed25519 AAAA user@host");
    assert_null(set_password(inst));
    assert_false(instance_changed_system_metadata(world.saved));
}

static void assert_fails(struct instance *inst, enum err_kind kind, const char *message)
{
    CLEANUP(err_freep) struct err *e = set_password(inst);
    CLEANUP(freep) char *text = e ? err_text(e) : NULL;

    assert_true(err_is(e, kind));
    assert_string_equal(err_message(e), message);
    assert_null(strstr(text, PASSWORD));
}

static void a_guest_that_does_not_run_gets_no_password(void **state)
{
    static const int64_t powers[] = {POWER_SHUTDOWN, POWER_PAUSED, -1};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(powers); i++) {
        CLEANUP(instance_freep) struct instance *inst = server();

        world.power = powers[i];
        world.n_saves = 0;
        assert_fails(inst, ERR_SET_PASSWORD_FAILED,
                     "Failed to set admin password on " UUID " because instance " UUID
                     " is not running");
        assert_task_ended();
    }
    assert_string_equal(world.user, "");
}

static void without_the_agent_there_is_no_way(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    instance_system_metadata_del(inst, "image_hw_qemu_guest_agent");
    assert_fails(inst, ERR_QEMU_GUEST_AGENT_NOT_ENABLED, "QEMU guest agent is not enabled");
    assert_task_ended();
    assert_string_equal(world.user, "");
}

static void an_agent_that_does_not_answer_is_as_good_as_none(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    world.libvirt_error = "VIR_ERR_AGENT_UNRESPONSIVE";
    assert_fails(inst, ERR_NOT_IMPLEMENTED,
                 "set_admin_password is not implemented by this driver or guest instance.");
    assert_task_ended();
}

/* What goes to stderr while 'inst' is given its password. */
static char *log_of_failure(struct instance *inst)
{
    char name[] = "/tmp/test_agent.XXXXXX";
    int fd = mkstemp(name), old = dup(STDERR_FILENO);
    char text[4096] = "";

    assert_true(fd >= 0 && old >= 0);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    CLEANUP(err_freep) struct err *e = set_password(inst);

    assert_true(dup2(old, STDERR_FILENO) >= 0);
    assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
    close(old);
    close(fd);
    unlink(name);
    assert_true(err_is(e, ERR_SET_PASSWORD_FAILED));
    return str_dup(text);
}

static void a_failure_tells_the_user_nothing_and_the_log_no_password(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    world.libvirt_error = "VIR_ERR_INTERNAL_ERROR";
    world.libvirt_text = "child process has failed";
    assert_fails(inst, ERR_SET_PASSWORD_FAILED,
                 "Failed to set admin password on " UUID " because error setting admin password");
    assert_int_equal(world.n_saves, 0); /* The dispatcher ends the task. */
    CLEANUP(freep) char *plain = log_of_failure(inst);

    assert_non_null(strstr(plain, "child process has failed"));
    world.libvirt_text = "chpasswd: 'root:" PASSWORD "' is bad";
    CLEANUP(freep) char *hidden = log_of_failure(inst);

    assert_null(strstr(hidden, PASSWORD));
    assert_non_null(strstr(hidden, "password failed"));
}

static void a_task_that_was_interrupted_is_not_ours_any_more(void **state)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    (void)state;
    world.task_has_changed = true;
    CLEANUP(err_freep) struct err *e = set_password(inst);

    assert_true(err_is(e, ERR_UNEXPECTED_TASK_STATE));
}

/* ---- Crash dump ---- */

static struct err *crash(void)
{
    CLEANUP(instance_freep) struct instance *inst = server();

    return compute_trigger_crash_dump(&node, NULL,
                                      &(struct args_trigger_crash_dump){.instance = inst}, NULL);
}

static void a_crash_dump_is_an_nmi_between_two_notifications(void **state)
{
    (void)state;
    assert_null(crash());
    assert_int_equal(world.n_nmi, 1);
    assert_string_equal(world.notified, "start end ");
    assert_int_equal(world.n_saves, 0);
}

static void an_nmi_that_libvirt_refuses_is_nova_s_error(void **state)
{
    static const struct {
        const char *name;
        enum err_kind kind;
    } cases[] = {{"VIR_ERR_NO_SUPPORT", ERR_TRIGGER_CRASH_DUMP_NOT_SUPPORTED},
                 {"VIR_ERR_OPERATION_INVALID", ERR_INSTANCE_NOT_RUNNING},
                 {"VIR_ERR_INTERNAL_ERROR", ERR_LIBVIRT}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        world.libvirt_error = cases[i].name;
        world.notified[0] = '\0';
        CLEANUP(err_freep) struct err *e = crash();

        assert_true(err_is(e, cases[i].kind));
        assert_string_equal(world.notified, "start ");
    }
}

/* ---- The host ---- */

static void the_host_is_neither_switched_nor_maintained(void **state)
{
    (void)state;
    CLEANUP(err_freep)
    struct err *power = compute_host_power_action(
        &node, NULL, &(struct args_host_power_action){.action = "reboot"}, NULL);
    CLEANUP(err_freep)
    struct err *mode = compute_host_maintenance_mode(
        &node, NULL, &(struct args_host_maintenance_mode){.host = "a", .mode = true}, NULL);

    assert_true(err_is(power, ERR_NOT_IMPLEMENTED));
    assert_true(err_is(mode, ERR_NOT_IMPLEMENTED));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_password_is_set_by_the_agent),
        TEST(whose_password_it_is_depends_on_image_and_system),
        TEST(who_has_the_key_can_read_the_password_later),
        TEST(other_keys_seal_nothing),
        TEST(a_guest_that_does_not_run_gets_no_password),
        TEST(without_the_agent_there_is_no_way),
        TEST(an_agent_that_does_not_answer_is_as_good_as_none),
        TEST(a_failure_tells_the_user_nothing_and_the_log_no_password),
        TEST(a_task_that_was_interrupted_is_not_ours_any_more),
        TEST(a_crash_dump_is_an_nmi_between_two_notifications),
        TEST(an_nmi_that_libvirt_refuses_is_nova_s_error),
        TEST(the_host_is_neither_switched_nor_maintained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

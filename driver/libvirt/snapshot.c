#include "driver/libvirt/snapshot.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/jv.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/step.h"
#include "driver/libvirt/guest_xml.h"
#include "driver/libvirt/server_disks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU_IMG_MS  60000
#define POLL_FIRST   20 /* ms; libvirt has no event for a copy that is ready. */
#define POLL_LONGEST 500
#define PROGRESS_MS  10000
#define RANDOM_LEN   6

/* ---- What there is to copy ---- */

void snapshot_source_fini(struct snapshot_source *s)
{
    lv_domain_free(s->domain);
    free(s->path);
    free(s->path_format);
    free(s->target);
    free(s->format);
    *s = (struct snapshot_source){0};
}

/* The root disk is the first one (Nova's find_disk). */
static struct err *find_disk(const struct guest_info *guest, struct snapshot_source *s)
{
    const struct guest_disk *d = guest->n_disks > 0 ? &guest->disks[0] : NULL;

    if (!d || !str_eq(d->type, "file") || !d->source || !d->target) {
        return err_msg(ERR_NOT_IMPLEMENTED, "only root disks that are files can be copied");
    }
    s->path = str_dup(d->source);
    s->path_format = str_dup(d->format ? d->format : "raw");
    s->target = str_dup(d->target);
    return NULL;
}

static bool is_off(enum lv_state state)
{
    return state == LV_SHUTOFF || state == LV_CRASHED || state == LV_NOSTATE;
}

static struct err *look(const struct snapshot_env *env, const char *uuid, struct snapshot_source *s)
{
    CLEANUP(guest_info_fini) struct guest_info guest = {0};
    CLEANUP(freep) char *xml = NULL;
    const char *format = env->conf->libvirt.snapshot_image_format;

    TRY(lv_domain_by_uuid(env->lv, uuid, &s->domain));
    TRY(lv_domain_state(s->domain, &s->state, NULL));
    TRY(lv_domain_xml(s->domain, /* is_migratable= */ false, &xml));
    TRY(guest_info_parse(xml, &guest));
    TRY(find_disk(&guest, s));
    s->format = str_dup(str_is_empty(format) ? s->path_format : format);
    s->is_live = !env->conf->workarounds.disable_libvirt_livesnapshot && !is_off(s->state);
    return NULL;
}

struct err *snapshot_look(const struct snapshot_env *env, const char *uuid,
                          struct snapshot_source *ret)
{
    struct snapshot_source s = {0};
    CLEANUP(err_freep) struct err *e = look(env, uuid, &s);

    if (!e) {
        *ret = s;
        return NULL;
    }
    snapshot_source_fini(&s);
    return err_is(e, ERR_INSTANCE_NOT_FOUND)
               ? err_new(ERR_INSTANCE_NOT_RUNNING, "instance_id", uuid, NULL)
               : TAKE(e);
}

/* ---- The file ---- */

static char *dir_prefix(const struct conf *conf)
{
    return str_printf("novashim-%s.", conf->dflt.host);
}

void snapshot_file_fini(struct snapshot_file *f)
{
    if (f->dir) {
        err_ignore(fs_remove_all(&fs_real, f->dir), "removing a snapshot's directory");
    }
    free(f->dir);
    free(f->path);
    *f = (struct snapshot_file){0};
}

struct job {
    const struct snapshot_env *env;
    const struct snapshot_source *source;
    enum snapshot_freeze freeze;
    struct snapshot_file file;
    char *delta; /* What a live copy goes to. */
    bool is_copying, is_frozen, is_saved;
};

static struct err *make_dir(void *arg)
{
    struct job *j = arg;
    const struct conf *conf = j->env->conf;
    CLEANUP(freep) char *prefix = dir_prefix(conf);
    CLEANUP(freep)
    char *dir = str_printf("%s/%sXXXXXX", conf->libvirt.snapshots_directory, prefix);
    char name[33];

    TRY(fs_mkdir_all(&fs_real, conf->libvirt.snapshots_directory, 0755));
    if (!mkdtemp(dir)) {
        return err_errno(errno, "making a directory in %s", conf->libvirt.snapshots_directory);
    }
    uuid_new_hex(name);
    j->file = (struct snapshot_file){.dir = TAKE(dir)};
    j->file.path = str_printf("%s/%s", j->file.dir, name);
    j->delta = str_printf("%s.delta", j->file.path);
    if (chmod(j->file.dir, 0701) < 0) { /* QEMU is another user and opens the file by name. */
        return err_errno(errno, "opening %s for QEMU", j->file.dir);
    }
    return NULL;
}

static void remove_dir(void *arg)
{
    struct job *j = arg;

    snapshot_file_fini(&j->file);
}

static struct err *extract(struct job *j, const char *path, const char *format)
{
    return server_disks_extract(j->env->conf, path, format, j->file.path, j->source->format,
                                j->env->stop);
}

/* ---- Live ---- */

static struct err *read_info(const struct snapshot_source *s, struct json_object **ret)
{
    const char *argv[] = {"qemu-img", "info",         "--force-share", "--output=json",
                          "-f",       s->path_format, s->path,         NULL};
    CLEANUP(freep) char *text = NULL;

    TRY(proc_run(argv, QEMU_IMG_MS, &text));
    return jv_parse(text, strlen(text), ret);
}

/* A file as large as the disk and over the same backing file; then only what the guest has written
 * is copied. */
static struct err *make_delta(void *arg)
{
    struct job *j = arg;
    CLEANUP(jv_putp) struct json_object *info = NULL;

    TRY(read_info(j->source, &info));
    struct jv_reader r = jv_reader_init(info, "qemu-img info");
    CLEANUP(freep) char *size = str_printf("%" PRId64, jv_int(&r, "virtual-size"));
    const char *name = jv_str_or(&r, "backing-filename", NULL);
    const char *backing = jv_str_or(&r, "full-backing-filename", name);
    const char *format = jv_str_or(&r, "backing-filename-format", NULL);

    TRY(jv_finish(&r));
    if (backing && !format) {
        return err_msg(ERR_INVALID_DISK_INFO, "disk %s does not say what its backing file is",
                       j->source->path);
    }
    const char *plain[] = {"qemu-img", "create", "-q", "-f", "qcow2", j->delta, size, NULL};
    const char *backed[] = {"qemu-img", "create", "-q",   "-f",     "qcow2", "-b",
                            backing,    "-F",     format, j->delta, size,    NULL};

    return proc_run(backing ? backed : plain, QEMU_IMG_MS, NULL);
}

/* One that a killed service has left would be in the way. */
static struct err *end_old_job(struct lv_domain *domain, const char *target)
{
    struct lv_block_job old;

    TRY(lv_block_job(domain, target, &old));
    if (!old.is_there) {
        return NULL;
    }
    log_warning(LOG_LIBVIRT, "ending a copy of disk %s that was left", target);
    return lv_block_job_abort(domain, target);
}

static struct err *start_copy(void *arg)
{
    struct job *j = arg;
    const struct snapshot_source *s = j->source;

    TRY(end_old_job(s->domain, s->target));
    TRY(lv_block_copy(s->domain, s->target, j->delta, "qcow2", /* is_shallow= */ true));
    j->is_copying = true;
    return NULL;
}

static void undo_copy(void *arg)
{
    struct job *j = arg;

    if (j->is_copying) {
        err_ignore(lv_block_job_abort(j->source->domain, j->source->target),
                   "ending the copy of a disk");
    }
}

static void tell(const struct lv_block_job *job, int64_t *next_ms)
{
    int64_t now_ms = clock_ms();

    if (now_ms >= *next_ms) {
        *next_ms = now_ms + PROGRESS_MS;
        log_info(LOG_LIBVIRT, "copying the disk: %" PRIu64 " of %" PRIu64 " MiB", job->done >> 20,
                 job->total >> 20);
    }
}

static struct err *wait_copy(void *arg)
{
    struct job *j = arg;
    const struct snapshot_source *s = j->source;
    int64_t next_ms = clock_ms() + PROGRESS_MS;

    for (int64_t pause_ms = POLL_FIRST;; pause_ms = MIN(pause_ms * 2, (int64_t)POLL_LONGEST)) {
        struct lv_block_job job;

        TRY(lv_block_job(s->domain, s->target, &job));
        if (!job.is_there) {
            j->is_copying = false;
            return err_msg(ERR_INTERNAL, "the copy of disk %s has ended by itself", s->target);
        }
        if (job.is_ready) {
            return NULL;
        }
        tell(&job, &next_ms);
        if (cancel_sleep(j->env->stop, pause_ms)) {
            return err_msg(ERR_CANCELLED, "stopped while a disk was copied");
        }
    }
}

static struct err *freeze(void *arg)
{
    struct job *j = arg;

    if (j->freeze == SNAPSHOT_FREEZE_NONE) {
        return NULL;
    }
    struct err *e = lv_domain_freeze(j->source->domain);

    j->is_frozen = !e;
    if (!e || j->freeze == SNAPSHOT_FREEZE_MUST) {
        return err_context(e, "freezing the guest's file systems");
    }
    CLEANUP(freep) char *text = err_text(e);

    log_warning(LOG_LIBVIRT, "the guest's file systems cannot be frozen: %s, going on without",
                text);
    err_free(e);
    return NULL;
}

static struct err *thaw(void *arg)
{
    struct job *j = arg;

    if (j->is_frozen) {
        TRY_CTX(lv_domain_thaw(j->source->domain), "thawing the guest's file systems");
        j->is_frozen = false;
    }
    return NULL;
}

static void undo_freeze(void *arg)
{
    err_ignore(thaw(arg), "after a failed snapshot");
}

static struct err *cut_off(void *arg)
{
    struct job *j = arg;

    TRY(lv_block_job_abort(j->source->domain, j->source->target));
    j->is_copying = false;
    return NULL;
}

static struct err *extract_delta(void *arg)
{
    struct job *j = arg;
    struct err *e = extract(j, j->delta, "qcow2");

    unlink(j->delta);
    return e;
}

static const struct step live_steps[] = {
    {FAULT_live_snapshot_directory, make_dir, remove_dir},
    {FAULT_live_snapshot_delta, make_delta, NULL},
    {FAULT_live_snapshot_copy, start_copy, undo_copy},
    {FAULT_live_snapshot_wait, wait_copy, NULL},
    {FAULT_live_snapshot_freeze, freeze, undo_freeze},
    {FAULT_live_snapshot_cut, cut_off, NULL},
    {FAULT_live_snapshot_thaw, thaw, NULL},
    {FAULT_live_snapshot_extract, extract_delta, NULL},
};

/* ---- Cold ---- */

static struct err *save(void *arg)
{
    struct job *j = arg;

    if (!is_off(j->source->state)) {
        TRY_CTX(lv_domain_managed_save(j->source->domain), "suspending the guest for a snapshot");
        j->is_saved = true;
    }
    return NULL;
}

/* Nova asks for the state after the suspension, so a guest that was paused runs afterwards. */
static struct err *go_on(void *arg)
{
    struct job *j = arg;

    if (j->is_saved) {
        TRY_CTX(lv_domain_start(j->source->domain, j->source->state == LV_PAUSED),
                "letting the guest go on after a snapshot");
        j->is_saved = false;
    }
    return NULL;
}

static void undo_save(void *arg)
{
    err_ignore(go_on(arg), "after a failed snapshot");
}

static struct err *extract_disk(void *arg)
{
    struct job *j = arg;

    return extract(j, j->source->path, j->source->path_format);
}

static const struct step cold_steps[] = {
    {FAULT_cold_snapshot_directory, make_dir, remove_dir},
    {FAULT_cold_snapshot_suspend, save, undo_save},
    {FAULT_cold_snapshot_extract, extract_disk, NULL},
    {FAULT_cold_snapshot_resume, go_on, NULL},
};

struct err *snapshot_take(const struct snapshot_env *env, const struct snapshot_source *source,
                          enum snapshot_freeze freeze_how, struct snapshot_file *ret)
{
    struct job j = {.env = env, .source = source, .freeze = freeze_how};
    const struct step_hooks hooks = {.cancel = env->stop};
    int64_t start_ms = clock_ms();

    log_info(LOG_LIBVIRT, "%s snapshot of disk %s begins", source->is_live ? "live" : "cold",
             source->target);
    struct err *e = source->is_live ? step_run(live_steps, ARRAY_SIZE(live_steps), &hooks, &j)
                                    : step_run(cold_steps, ARRAY_SIZE(cold_steps), &hooks, &j);

    free(j.delta);
    if (e) {
        return e;
    }
    log_info(LOG_LIBVIRT, "the disk was copied in %" PRId64 " ms", clock_ms() - start_ms);
    *ret = j.file;
    return NULL;
}

/* ---- After a restart ---- */

static struct err *end_copy(struct snapshot_source *s)
{
    struct lv_block_job job;

    TRY(lv_block_job(s->domain, s->target, &job));
    if (!job.is_there) {
        return NULL;
    }
    log_warning(LOG_LIBVIRT, "a snapshot was cut off by a restart: ending its copy");
    TRY(lv_block_job_abort(s->domain, s->target));
    /* Whether it was frozen nobody knows; to thaw one that is not does nothing. */
    err_free(lv_domain_thaw(s->domain));
    return NULL;
}

struct err *snapshot_settle(const struct snapshot_env *env, const char *uuid, enum lv_state wanted)
{
    CLEANUP(snapshot_source_fini) struct snapshot_source s = {0};
    bool is_saved = false;

    TRY(snapshot_look(env, uuid, &s));
    if (!is_off(s.state)) {
        return end_copy(&s);
    }
    TRY(lv_domain_has_managed_save(s.domain, &is_saved));
    if (!is_saved || (wanted != LV_RUNNING && wanted != LV_PAUSED)) {
        return NULL;
    }
    log_warning(LOG_LIBVIRT, "a snapshot was cut off by a restart: the guest goes on");
    return lv_domain_start(s.domain, wanted == LV_PAUSED);
}

void snapshot_sweep(const struct conf *conf)
{
    const char *root = conf->libvirt.snapshots_directory;
    CLEANUP(freep) char *prefix = dir_prefix(conf);
    CLEANUP(strv_fini) struct strv names = {0};

    if (!fs_is_dir(&fs_real, root)) {
        return;
    }
    err_ignore(fs_list(&fs_real, root, &names), "looking for leftovers of snapshots");
    for (size_t i = 0; i < names.n; i++) {
        CLEANUP(freep) char *dir = str_printf("%s/%s", root, names.items[i]);

        /* The name of another host may begin like ours. */
        if (str_starts(names.items[i], prefix) &&
            strlen(names.items[i]) == strlen(prefix) + RANDOM_LEN &&
            !strchr(names.items[i] + strlen(prefix), '.')) {
            log_info(LOG_LIBVIRT, "removing %s, which a crash has left", dir);
            err_ignore(fs_remove_all(&fs_real, dir), "removing leftovers of a snapshot");
        }
    }
}

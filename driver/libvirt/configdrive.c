#include "driver/libvirt/configdrive.h"

#include "base/fs.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LABEL      "config-2"
#define PUBLISHER  "novashim " NOVASHIM_VERSION
#define VFAT_SIZE  (64LL * 1024 * 1024)
#define TIMEOUT_MS 120000

/* nova/virt/configdrive.py required_by: force_config_drive is for new servers only; those that run
 * without one have been told what they are by the metadata service. */
bool configdrive_is_required(const struct conf *conf, const struct instance *inst)
{
    const char *image = instance_system_metadata_get(inst, "image_img_config_drive");
    bool is_asked = instance_has_config_drive(inst) && !str_is_empty(instance_config_drive(inst));
    bool is_new = !instance_has_launched_at(inst) || instance_isnull_launched_at(inst);

    return is_asked || (conf->dflt.force_config_drive && is_new) || str_eq(image, "mandatory");
}

void configdrive_add(struct configdrive_files *files, const char *path, const void *data,
                     size_t len)
{
    files->items = mem_realloc(files->items, files->n + 1, sizeof(*files->items));
    files->items[files->n++] =
        (struct configdrive_file){.path = str_dup(path), .data = mem_dup(data, len), .len = len};
}

void configdrive_files_fini(struct configdrive_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->items[i].path);
        free(files->items[i].data);
    }
    free(files->items);
    *files = (struct configdrive_files){0};
}

/* ---- The files ---- */

static bool is_below_root(const char *path)
{
    CLEANUP(freep) char *framed = str_printf("/%s/", path);

    return !strstr(framed, "//") && !strstr(framed, "/./") && !strstr(framed, "/../");
}

static struct err *write_file(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return err_errno(errno, "writing");
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return NULL;
}

static struct err *add_file(const char *tree, const struct configdrive_file *file)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", tree, file->path);
    CLEANUP(freep) char *dir = str_ndup(path, (size_t)(strrchr(path, '/') - path));
    CLEANUP(closep) int fd = -1;

    if (!is_below_root(file->path)) {
        return err_msg(ERR_INTERNAL, "'%s' is no path of a config drive", file->path);
    }
    TRY(fs_mkdir_all(&fs_real, dir, 0700));
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return err_errno(errno, "creating '%s'", path);
    }
    TRY_CTX(write_file(fd, file->data, file->len), "file '%s' of a config drive", file->path);
    return NULL;
}

static struct err *add_files(const char *tree, const struct configdrive_files *files)
{
    TRY(fs_mkdir_all(&fs_real, tree, 0700));
    for (size_t i = 0; i < files->n; i++) {
        TRY(add_file(tree, &files->items[i]));
    }
    return NULL;
}

/* ---- The image ---- */

static struct err *make_iso9660(const struct conf *conf, const char *tree, const char *image)
{
    const char *const argv[] = {conf->dflt.mkisofs_cmd,
                                "-o",
                                image,
                                "-ldots",
                                "-allow-lowercase",
                                "-allow-multidot",
                                "-l",
                                "-publisher",
                                PUBLISHER,
                                "-quiet",
                                "-J",
                                "-r",
                                "-V",
                                LABEL,
                                tree,
                                NULL};

    return proc_run(argv, TIMEOUT_MS, /* ret_out= */ NULL);
}

static struct err *make_empty(const char *path, off_t size)
{
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0 || ftruncate(fd, size) < 0) {
        return err_errno(errno, "creating '%s'", path);
    }
    return NULL;
}

static struct err *make_vfat(const struct conf *conf, const char *tree, const char *image)
{
    const char *const mkfs[] = {"mkfs.vfat", "-n", LABEL, image, NULL};
    CLEANUP(strv_fini) struct strv top = {0};
    CLEANUP(strv_fini) struct strv mcopy = {0};

    (void)conf;
    TRY(make_empty(image, VFAT_SIZE));
    TRY(proc_run(mkfs, TIMEOUT_MS, /* ret_out= */ NULL));
    TRY(fs_list(&fs_real, tree, &top));
    strv_add(&mcopy, "mcopy");
    strv_add(&mcopy, "-sQ");
    strv_add(&mcopy, "-i");
    strv_add(&mcopy, image);
    for (size_t i = 0; i < top.n; i++) {
        strv_add_take(&mcopy, str_printf("%s/%s", tree, top.items[i]));
    }
    strv_add(&mcopy, "::/");
    return proc_run((const char *const *)mcopy.items, TIMEOUT_MS, /* ret_out= */ NULL);
}

static const struct format {
    const char *name; /* [DEFAULT]config_drive_format */
    struct err *(*make)(const struct conf *, const char *tree, const char *image);
} formats[] = {{"iso9660", make_iso9660}, {"vfat", make_vfat}};

static const struct format *find_format(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (str_eq(formats[i].name, name)) {
            return &formats[i];
        }
    }
    return NULL;
}

/* Whoever finds the name must find the data, whatever the machine did in between. */
static struct err *put_in_place(const char *image, const char *path)
{
    CLEANUP(closep) int fd = open(image, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0) {
        return err_errno(errno, "syncing '%s'", image);
    }
    if (rename(image, path) < 0) {
        return err_errno(errno, "renaming '%s'", image);
    }
    return NULL;
}

static struct err *make_in(const struct conf *conf, const struct format *format,
                           const struct configdrive_files *files, const char *dir, const char *path)
{
    CLEANUP(freep) char *tree = str_printf("%s/tree", dir);
    CLEANUP(freep) char *image = str_printf("%s/image", dir);

    TRY(add_files(tree, files));
    TRY(format->make(conf, tree, image));
    return put_in_place(image, path);
}

struct err *configdrive_make(const struct conf *conf, const struct configdrive_files *files,
                             const char *path)
{
    const struct format *format = find_format(conf->dflt.config_drive_format);
    CLEANUP(freep) char *dir = str_printf("%s.making", path);

    if (!format) {
        return err_new(ERR_CONFIGDRIVE_UNKNOWN_FORMAT, "format", conf->dflt.config_drive_format,
                       NULL);
    }
    TRY(fs_remove_all(&fs_real, dir));
    struct err *e = make_in(conf, format, files, dir, path);

    err_ignore(fs_remove_all(&fs_real, dir), "removing what a config drive was made of");
    return err_context(e, "making the config drive '%s'", path);
}

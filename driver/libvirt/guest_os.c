#include "driver/libvirt/guest_build.h"

#include <string.h>

#define CONSOLES "console=tty0 console=ttyS0 console=hvc0"

/* ---- Firmware ---- */

/* Whether the firmware is to check what it boots: a server that requires it is refused where it
 * cannot be had, one that would like it goes without. */
static struct err *wants_secure_boot(const struct guest_build *b, bool *ret)
{
    bool is_possible = b->s->host->has_secure_boot && (!str_eq(b->arch, "x86_64") || b->is_q35);
    const char *policy = NULL;

    TRY(guest_ask_text(b, "os", "secure_boot", &policy));
    if (policy && !str_eq(policy, "required") && !str_eq(policy, "optional") &&
        !str_eq(policy, "disabled")) {
        return err_msg(ERR_INVALID,
                       "os:secure_boot is '%s'; it can be required, optional or "
                       "disabled",
                       policy);
    }
    if (str_eq(policy, "required") && !is_possible) {
        return err_msg(ERR_SECURE_BOOT_NOT_SUPPORTED,
                       "os:secure_boot=required cannot be had on this host with machine type %s",
                       b->machine);
    }
    *ret = is_possible && policy && !str_eq(policy, "disabled");
    return NULL;
}

static struct err *choose_firmware(const struct guest_build *b, bool *ret_is_secure,
                                   const struct guest_firmware **ret)
{
    if (!str_eq(image_meta_prop(b->image, "hw_firmware_type"), "uefi")) {
        return NULL;
    }
    if (!b->s->host->has_uefi) {
        return err_msg(ERR_UEFI_NOT_SUPPORTED,
                       "hw_firmware_type=uefi cannot be had: libvirt knows no UEFI firmware here");
    }
    TRY(wants_secure_boot(b, ret_is_secure));
    *ret = guest_host_firmware(b->s->host, b->arch, b->machine, *ret_is_secure);
    if (*ret) {
        return NULL;
    }
    return err_msg(*ret_is_secure ? ERR_SECURE_BOOT_NOT_SUPPORTED : ERR_UEFI_NOT_SUPPORTED,
                   "hw_firmware_type=uefi cannot be had: there is no firmware %s secure boot for "
                   "machine type %s",
                   *ret_is_secure ? "with" : "without", b->machine);
}

/* ---- Boot ---- */

static char *in_dir(const struct guest_build *b, const char *name)
{
    return str_printf("%s/%s", b->s->dir, name);
}

struct boot {
    char *kernel, *ramdisk, *command_line; /* Owned; NULL: none. */
};

static void boot_fini(struct boot *boot)
{
    freep(&boot->kernel);
    freep(&boot->ramdisk);
    freep(&boot->command_line);
}

/* A kernel that the host starts, and not a boot loader of the disk (nova's _set_guest_for_rescue,
 * _set_guest_for_inst_kernel). */
static void read_boot(const struct guest_build *b, struct boot *ret)
{
    const struct guest_spec *s = b->s;
    bool is_rescue = s->rescue != NULL;
    const char *kernel = is_rescue                         ? s->rescue_kernel
                         : instance_has_kernel_id(b->inst) ? instance_kernel_id(b->inst)
                                                           : NULL;
    const char *ramdisk = is_rescue                          ? s->rescue_ramdisk
                          : instance_has_ramdisk_id(b->inst) ? instance_ramdisk_id(b->inst)
                                                             : NULL;
    const char *of_image = is_rescue ? NULL : image_meta_prop(b->image, "os_command_line");

    if (!str_is_empty(kernel)) {
        ret->kernel = in_dir(b, is_rescue ? "kernel.rescue" : "kernel");
        ret->command_line = !str_is_empty(of_image)
                                ? str_dup(of_image)
                                : str_printf("root=/dev/%s %s%s", s->disks->root_target, CONSOLES,
                                             b->is_kvm ? "" : " no_timer_check");
    }
    if (!str_is_empty(ramdisk) && (is_rescue || ret->kernel)) {
        ret->ramdisk = in_dir(b, is_rescue ? "ramdisk.rescue" : "ramdisk");
    }
}

static const char *boot_device(const char *device)
{
    return str_eq(device, "cdrom") ? "cdrom" : str_eq(device, "floppy") ? "fd" : "hd";
}

/* Which kinds of disks the firmware tries.  In a rescue the disk itself says so, or the rescue disk
 * is the first. */
static void add_boot_devices(const struct guest_build *b, struct xb_node *os)
{
    for (size_t i = 0; !b->s->rescue && i < b->s->disks->n; i++) {
        const struct disk_item *d = &b->s->disks->items[i];

        if (d->boot_index > 0) {
            xb_add_with(os, "boot", "dev", boot_device(d->device), NULL);
        }
    }
}

static void add_text_if(struct xb_node *os, const char *name, const char *text)
{
    if (text) {
        xb_add_text(os, name, text);
    }
}

/* nova/virt/libvirt/driver.py _configure_guest_by_virt_type, _conf_non_lxc */
struct err *guest_add_os(struct guest_build *b, bool *ret_needs_smm)
{
    const struct guest_firmware *f = NULL;
    CLEANUP(boot_fini) struct boot boot = {0};
    bool is_secure = false, has_menu = image_meta_prop(b->image, "hw_boot_menu") != NULL;
    struct xb_node *os, *type;

    TRY(choose_firmware(b, &is_secure, &f));
    read_boot(b, &boot);
    os = xb_add(b->root, "os");
    type = xb_add_text(os, "type", "hvm");
    xb_set_attr(type, "arch", b->arch);
    xb_set_attr(type, "machine", b->machine);
    add_text_if(os, "kernel", boot.kernel);
    if (f) {
        struct xb_node *loader = xb_add_text(os, "loader", f->loader);

        xb_set_attr(loader, "type", "pflash");
        xb_set_attr(loader, "readonly", "yes");
        xb_set_attr(loader, "secure", is_secure ? "yes" : "no");
        xb_add_with(os, "nvram", "template", f->nvram_template, NULL);
    }
    add_text_if(os, "initrd", boot.ramdisk);
    add_text_if(os, "cmdline", boot.command_line);
    if (!boot.kernel) {
        add_boot_devices(b, os);
    }
    xb_add_with(os, "smbios", "mode", "sysinfo", NULL);
    if (has_menu ? image_meta_bool(b->image, "hw_boot_menu", false)
                 : flavor_spec_bool(b->inst, "hw:boot_menu", false)) {
        xb_add_with(os, "bootmenu", "enable", "yes", NULL);
    }
    *ret_needs_smm = f && f->needs_smm;
    return NULL;
}

/* ---- Features and clock ---- */

static bool is_windows(const struct guest_build *b)
{
    return instance_has_os_type(b->inst) && str_eq(instance_os_type(b->inst), "windows");
}

static bool hides_hypervisor(const struct guest_build *b)
{
    return flavor_spec_bool(b->inst, "hide_hypervisor_id", false) ||
           flavor_spec_bool(b->inst, "hw:hide_hypervisor_id", false) ||
           image_meta_bool(b->image, "img_hide_hypervisor_id", false);
}

/* What Windows likes to find of Microsoft's hypervisor.  A vendor id of no vendor lets a driver of
 * NVIDIA work, which looks for Microsoft's. */
static void add_hyperv(const struct guest_build *b, struct xb_node *features)
{
    static const char *const names[] = {
        "relaxed", "vapic",       "spinlocks",       "vendor_id", "vpindex", "runtime", "synic",
        "reset",   "frequencies", "reenlightenment", "tlbflush",  "ipi",     "evmcs"};
    struct xb_node *hyperv = xb_add(features, "hyperv");

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (str_eq(names[i], "vendor_id") && !hides_hypervisor(b)) {
            continue;
        }
        xb_add_with(hyperv, names[i], "state", "on", NULL);
    }
    xb_set_attr(xb_first(hyperv, "spinlocks"), "retries", "8191");
    if (hides_hypervisor(b)) {
        xb_set_attr(xb_first(hyperv, "vendor_id"), "value", "1234567890ab");
    }
}

/* nova/virt/libvirt/driver.py _set_features */
struct err *guest_add_features(struct guest_build *b, bool needs_smm)
{
    struct xb_node *features = xb_add(b->root, "features");
    bool has_pmu = false, pmu = false;
    const char *iommu = NULL;

    if (needs_smm) {
        /* Nova's element has one more inside, which libvirt does not read; the state is on either
         * way. */
        xb_add_with(features, "smm", "state", "on", NULL);
    }
    xb_add(features, "acpi");
    if (!b->conf->workarounds.libvirt_disable_apic) {
        xb_add(features, "apic");
    }
    if (is_windows(b)) {
        add_hyperv(b, features);
    }
    xb_add(features, "vmcoreinfo");
    if (hides_hypervisor(b)) {
        xb_add_with(xb_add(features, "kvm"), "hidden", "state", "on", NULL);
    }
    TRY(guest_ask_bool(b, "pmu", &has_pmu, &pmu));
    if (has_pmu) {
        xb_add_with(features, "pmu", "state", pmu ? "on" : "off", NULL);
    }
    TRY(guest_iommu_model(b, &iommu));
    if (iommu) {
        xb_add_with(features, "ioapic", "driver", "qemu", NULL);
    }
    return NULL;
}

/* nova/virt/libvirt/driver.py _set_clock, _set_kvm_timers: Windows believes its hardware's clock to
 * be local time. */
void guest_add_clock(struct guest_build *b)
{
    bool has_hpet = image_meta_bool(b->image, "hw_time_hpet", false);
    struct xb_node *clock =
        xb_add_with(b->root, "clock", "offset", is_windows(b) ? "localtime" : "utc", NULL);

    if (!b->is_kvm) {
        return;
    }
    xb_add_with(clock, "timer", "name", "pit", "tickpolicy", "delay", NULL);
    xb_add_with(clock, "timer", "name", "rtc", "tickpolicy", "catchup", NULL);
    xb_add_with(clock, "timer", "name", "hpet", "present", has_hpet ? "yes" : "no", NULL);
    if (is_windows(b)) {
        xb_add_with(clock, "timer", "name", "hypervclock", "present", "yes", NULL);
    }
}

#pragma once

/* clang-format off */
/* A libvirt of files, which implements driver/libvirt/lv.h in place of lv.c.
 *
 * A host is a folder; hosts that can reach each other are siblings, named as in a URI
 * (qemu+tcp://NAME/system; a symbolic link for an address).  The host of a URI without a name is
 * the folder NOVASHIM_LV_FAKE_DIR.  Processes that share the folders share the hosts, so a daemon
 * may be killed and started again: its moves go on as soon as it connects, as they do in libvirtd.
 *
 *     domains/UUID.xml     a domain; whoever writes the file makes one
 *     domains/UUID.next    what is defined, while the domain runs, if it may differ from what runs
 *     domains/UUID.save    there is a managed save
 *     domains/UUID.state   "running 1", "paused 1", "shutoff 0": state and libvirt's reason; none
 *                          is running
 *     capabilities.xml, domcapabilities.xml   else those of tests/fake/data
 *     facts                lines "NAME VALUE": hostname, type, libvirt_version, hv_version,
 *                          memory_kib, cpus, nodes, sockets, cores, threads, online, free_pages,
 *                          compare_cpu; rx_bytes, rx_packets, tx_bytes, tx_packets, read_requests,
 *                          read_bytes
 *     expanded-cpu.xml     what lv_expand_cpu answers, else its argument
 *     blocks/NAME          "CAPACITY ALLOCATION PHYSICAL" of a disk target; a path is looked at
 *     monitor              answer to monitor commands
 *     down                 while it is there no call works
 *     guest, guest.UUID    how guests behave (the second wins), lines "NAME VALUE": shutdown_ms 0,
 *         shutdown_ignores 0 (that many requests), destroy_fails 0, detach_ms 0, detach_ignores 0,
 *         detach_fails 0, copy_polls 0 (until a block copy is ready), no_agent 0; refuse_start,
 *         refuse_save, refuse_attach TEXT
 *     migrate, migrate.UUID  how moves from here go (the second wins), lines "NAME VALUE":
 *         memory_mib 64, setup_ms 20, pass_ms 50, passes 2 (0: they never end by themselves),
 *         need_downtime_ms 0 (else this much allowed downtime ends them), switch_ms 5;
 *         refuse TEXT; fail TEXT with fail_pass N; die_pass N; fail_switch TEXT
 *     calls                every call that changed something, one line each
 *     events               every event, one line each: TYPE DETAIL UUID [NAME=VALUE...]; what is
 *                          appended by anybody is delivered to those who have subscribed
 *     jobs/                the moves that run
 *
 * The functions below are for tests in this process.  They abort when the folder cannot be
 * written.  Thread-safety: any thread. */
/* clang-format on */

#include "driver/libvirt/lv.h"

/* Makes the folder. */
void lv_fake_host(const char *dir);
/* A domain with the least XML. */
void lv_fake_domain(const char *dir, const char *uuid, const char *state);
/* Writes a file, NAME relative to the host's folder. */
void lv_fake_write(const char *dir, const char *name, const char *text);
/* Its text, or NULL; the caller's. */
char *lv_fake_read(const char *dir, const char *name) MUST_CHECK;

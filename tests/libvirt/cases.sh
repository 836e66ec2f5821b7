# The cases of tests/libvirt/run, which has the functions.

# --- one host
drive lv-a host
ok "host facts are read" has "hostname lv-a type QEMU libvirt 9"
ok "capabilities are read" has "capabilities 1 1"
ok "a CPU is compared" has "qemu64 compares as [012]"
cat >"$W/defined.xml" <<END
<domain type='qemu'><name>only-defined</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>
END
drive lv-a define "$W/defined.xml"
ok "a domain is defined and shut off" has "defined only-defined .* state 5"
ok "an undefined domain is InstanceNotFound" has "kind InstanceNotFound"
g=$(guest 1 "$IDLE")
drive lv-a domain "$g"
ok "a running domain answers" has 'xml 1 answer .*"running": *true.* job 0'
ok "a domain is suspended and resumed" has "resumed 1"
ok "destroying twice is no error" has "destroyed twice"

# --- a guest's life
truncate -s 8M "$W/disk" "$W/copy"
cat >"$W/life.xml" <<END
<domain type='qemu'><name>guest-99</name><uuid>${UUID%??}99</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>$IDLE</kernel></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$W/disk'/>
<target dev='vda' bus='virtio'/></disk>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
END
drive lv-a life "$W/life.xml" "$W/copy"
ok "a guest starts paused" has "started: state 3 saved 0"
ok "its disk is copied while it runs and stays defined" has "copy there 1 ready 1 done 8388608"
ok "the copy ends when told" has "copy ended: there 0"
ok "there are numbers of its use" has "vcpus 1 ran 1 memory 65536 of 65536 reads [0-9]+"
ok "without an agent that is said" has "password: .*(agent|QEMU guest)"
ok "an NMI is delivered" has "nmi: ok"
ok "a guest goes to disk" has "suspended: state 5 saved 1"
ok "and comes back" has "resumed: state 1 saved 0"
ok "a disk is attached" has "attached: vdb 1"
ok "a guest that does not let go keeps it" has "detached: .*Device detach failed for virtio-disk1"
ok "and its definition too" has "kept: vdb 1"
ok "a guest that does not listen does not shut down" has "shut down: 0"
ok "nor does it reboot" has "rebooted: 0"
ok "it is off when destroyed" has "off: state 5"
ok "its definition loses the disk then" has "gone: vdb 0"
ok "nothing is left of it" has "the end"
ok "nothing leaks" not has "Sanitizer"

# --- libvirtd goes away and comes back
switches() { cat /proc/"$1"/task/*/status | awk '/^voluntary/ {n += $2} END {print n + 0}'; }
g=$(guest 2 "$IDLE")
mkfifo "$W/go"
OUT=$W/out-reconnect
on lv-a "$DRIVE" reconnect "$g" <"$W/go" >"$OUT" 2>&1 &
driver=$!
exec 3>"$W/go"
until_ok 10 has ready
pid=$(pgrep -f "^$DRIVE reconnect")
sleep 1
old=$(switches "$pid"); sleep 3; new=$(switches "$pid")
ok "an idle connection sleeps ($((new - old)) wake-ups in 3 s)" test $((new - old)) -le 6
libvirtd_kill lv-a KILL
until_ok 5 has "event DISCONNECTED"
ok "a lost libvirtd is an event" has "event DISCONNECTED"
echo >&3
until_ok 5 count "alive 0: HypervisorUnavailable" 3
ok "calls fail as HypervisorUnavailable" count "alive 0: HypervisorUnavailable" 3
libvirtd_start lv-a
sleep 1.1
echo >&3
until_ok 10 has "alive 1: ok"
ok "the next call opens the connection and finds its domain" has "alive 1: ok"
virsh_on lv-a suspend guest-2
until_ok 5 has "event SUSPENDED OTHER"
ok "events come again" has "event SUSPENDED OTHER"
ok "the end of the connection was told once" count "event DISCONNECTED" 1
exec 3>&-
wait $driver
ok "nothing leaks" not has "Sanitizer"
virsh_on lv-a destroy guest-2

# --- moves
g=$(guest 3 "$IDLE")
drive lv-a migrate "$g" lv-b
ok "an idle guest moves" has "result COMPLETED"
ok "it is gone here, definition and all" gone_on lv-a guest-3
ok "it runs there" state_on lv-b guest-3 running
ok "the switch-over is told once" count "hook switchover" 1
ok "the switch-over is told before the guest has left" before "hook switchover" "event STOPPED MIGRATED"
ok "the final statistics are libvirt's" has "stats type 3 .* total 67502080 .* remaining 0"
ok "nothing leaks" not has "Sanitizer"
drive lv-b migrate "$g" lv-a addr=192.0.2.1
ok "it moves back by address" has "result COMPLETED"
virsh_on lv-a suspend guest-3
drive lv-a migrate "$g" lv-b
ok "a paused guest moves" has "result COMPLETED"
ok "it stays paused" state_on lv-b guest-3 paused
ok "the switch-over of a paused guest is told once" count "hook switchover" 1
virsh_on lv-b destroy guest-3

g=$(guest 4 "$DIRTY")
drive lv-a migrate "$g" lv-b bandwidth=10 abort=1500
ok "an abort cancels" has "result CANCELLED"
ok "the reason is libvirt's" has "because: operation .*migration"
ok "the guest runs on" has "state here running"
ok "nothing is left over there" gone_on lv-b guest-4
ok "no switch-over is told" count "hook switchover" 0
drive lv-a migrate "$g" lv-b bandwidth=10 abort=20
ok "an abort before libvirt's job has begun cancels" has "result CANCELLED"
drive lv-a migrate "$g" lv-b bandwidth=10 timeout=1
ok "the timeout aborts" has "result CANCELLED"
ok "it does so after 2 s, 1 s for each GiB" has "^.*not completed after 2 s, aborting"
drive lv-a migrate "$g" lv-c
ok "a destination that is not there fails" has "result FAILED"
ok "the guest runs on" has "state here running"
sed "s/guest-4/guest-4-other/; s,<uuid>.*</uuid>,," "$W/guest-4.xml" >"$W/other.xml"
virsh_on lv-b define "$W/guest-4.xml" && virsh_on lv-b start guest-4
drive lv-a migrate "$g" lv-b
ok "a destination that refuses fails" has "result FAILED"
ok "its reason is passed on" has "because: .*(active|exists)"
virsh_on lv-b destroy guest-4; virsh_on lv-b undefine guest-4
drive lv-a migrate "$g" lv-b bandwidth=30 force=1500
ok "a forced completion pauses the guest and completes" has "result COMPLETED"
ok "it runs there" state_on lv-b guest-4 running
# QEMU may take seconds to hear of the pause while it begins to copy, and switch over meanwhile: then
# SUSPENDED is the switch-over.
told_right() {
    if before "paused the guest" "event STOPPED"; then
        before "event STOPPED MIGRATED" "hook switchover"
    else
        before "event SUSPENDED MIGRATED" "hook switchover"
    fi
}
ok "our pause is not told as the switch-over" told_right
ok "the switch-over is told once" count "hook switchover" 1
virsh_on lv-b destroy guest-4

g=$(guest 5 "$DIRTY")
drive lv-a migrate "$g" lv-b bandwidth=5 force=1500 abort=3000
ok "a forced completion can be aborted" has "result CANCELLED"
ok "the guest that was paused runs again" state_on lv-a guest-5 running
drive lv-a migrate "$g" lv-b bandwidth=30 timeout=1 timeout_action=force_complete
ok "the timeout forces completion" has "result COMPLETED"
virsh_on lv-b destroy guest-5

g=$(guest 6 "$DIRTY")
drive lv-a migrate "$g" lv-b bandwidth=10 postcopy=1 force=1500 abort=1700
ok "a forced completion switches to post-copy and completes" has "result COMPLETED"
ok "post-copy is told" count "hook postcopy" 1
ok "the switch-over is told as post-copy's, once" count "hook switchover postcopy" 1
ok "post-copy cannot be aborted" has "abort: .*running .post-copy"
ok "it runs there" state_on lv-b guest-6 running
virsh_on lv-b destroy guest-6

# --- accidents
g=$(guest 7 "$DIRTY")
drive lv-a migrate "$g" lv-b bandwidth=10 kill=1500
ok "a guest that dies meanwhile has not moved" has "result FAILED"
virsh_on lv-a start guest-7
( sleep 2; libvirtd_kill lv-b KILL ) &
killer=$!
drive lv-a migrate "$g" lv-b bandwidth=10
wait $killer
ok "a destination that dies fails" has "result FAILED"
ok "the guest runs on" has "state here running"
libvirtd_start lv-b
( sleep 2; libvirtd_kill lv-a KILL; sleep 1; libvirtd_start lv-a ) &
killer=$!
drive lv-a migrate "$g" lv-b bandwidth=10
wait $killer
ok "our libvirtd that dies and comes back fails the move" has "result FAILED"
ok "the guest runs on" state_on lv-a guest-7 running
ok "nothing leaks" not has "Sanitizer"

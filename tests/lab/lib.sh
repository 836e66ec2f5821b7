# Shared by every lab script: where things live, and how daemons start and stop.
# Source it; it needs bash.  The four places can be moved by the environment.

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$LAB/../.." && pwd)
VAR=${LAB_VAR:-/var/lib/novashim-lab}  # state that survives a restart of the lab
RUN=${LAB_RUN:-/run/novashim-lab}      # pidfiles, sockets, rendered configuration
LOG=${LAB_LOG:-/var/log/novashim-lab}  # one log per daemon
CTL=10.99.0.1                          # the control plane's address on the lab bridge
PASS=labpass                           # every service password in this lab
NOVASHIM=${NOVASHIM:-$TOP/build/release/driver/novashim}

export OS_AUTH_URL=http://$CTL:5000/v3 OS_USERNAME=admin OS_PASSWORD=$PASS \
    OS_PROJECT_NAME=admin OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default \
    OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=RegionOne OS_COMPUTE_API_VERSION=2.92 \
    OS_PLACEMENT_API_VERSION=1.39 PYTHONWARNINGS=ignore LC_ALL=C.UTF-8
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
NO_PROXY='*' no_proxy='*'
export NO_PROXY no_proxy
# The services are Debian's: Debian's python3 and tools come before anybody's own.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
hash -r

# Pidfiles of an earlier boot mean nothing.
lab_boot_id=$(cat /proc/sys/kernel/random/boot_id)
if [ -d "$RUN" ] && [ "$(cat "$RUN/boot_id" 2>/dev/null)" != "$lab_boot_id" ]; then
    rm -rf "$RUN"
fi

say() { echo "[$(date +%T)] $*"; }
die() { echo "error: $*" >&2; exit 1; }

lab_dirs() {
    mkdir -p "$VAR" "$RUN" "$LOG"
    echo "$lab_boot_id" >"$RUN/boot_id"
}

# lock NAME: this script is the only one working on NAME until it ends.
lock() {
    mkdir -p "$RUN"
    exec 9>"$RUN/$1.lock"
    flock -w 600 9 || die "another lab script has been working on $1 for ten minutes"
}

# --- daemons.  A pidfile holds "PID STARTTIME": a number that was given to another process
# since does not pass for ours.

start_time() { # PID: field 22 of stat, counted after the name, which may hold anything
    local s
    s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    s=${s##*) }
    set -- $s
    echo "${20}"
}

pid_of() { # NAME: the daemon's pid, if it runs
    local pid started now
    read -r pid started 2>/dev/null <"$RUN/$1.pid" || return 1
    now=$(start_time "$pid") && [ "$now" = "$started" ] || return 1
    case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in Z*|"") return 1 ;; esac
    echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# start NAME CMD...: a daemon with a pidfile and a log; nothing to do if it runs
start() {
    local name=$1 pid
    shift
    alive "$name" && return 0
    mkdir -p "$(dirname "$RUN/$name")" "$(dirname "$LOG/$name")"
    NOVASHIM_LAB=$RUN setsid nohup "$@" </dev/null >>"$LOG/$name.log" 2>&1 9>&- &
    pid=$!
    echo "$pid $(start_time $pid)" >"$RUN/$name.pid"
}

# stop NAME [SECONDS]: SIGTERM, then SIGKILL, to the process we recorded and its group
stop() {
    local name=$1 wait=${2:-15} pid i
    if pid=$(pid_of "$name"); then
        kill "$pid" 2>/dev/null
        for ((i = 0; i < wait * 10; i++)); do
            alive "$name" || break
            sleep .1
        done
        kill -9 -- "-$pid" 2>/dev/null || { alive "$name" && kill -9 "$pid" 2>/dev/null; }
    fi
    rm -f "$RUN/$name.pid"
    return 0
}

# kill9 NAME: SIGKILL, nothing else
kill9() {
    local pid
    pid=$(pid_of "$1") || return 1
    kill -9 "$pid"
    while alive "$1"; do sleep .05; done
    rm -f "$RUN/$1.pid"
}

# sweep control|HOST: kills what pidfiles do not know (any more).  Whatever runs in a host sees
# the host's /run/lab-host; control plane daemons carry NOVASHIM_LAB in their environment, or
# write to a log of the lab if they have overwritten it with a process title.
sweep() {
    local what=$1 p pids i
    for i in 1 2 3 4 5 6; do
        pids=
        for p in /proc/[0-9]*; do
            if [ "$what" = control ]; then
                grep -qzxF "NOVASHIM_LAB=$RUN" "$p/environ" 2>/dev/null ||
                    case $(readlink "$p/fd/1") in "$LOG"/*) ;; *) continue ;; esac
                [ -e "$p/root/run/lab-host" ] && continue
            else
                [ "$(cat "$p/root/run/lab-host" 2>/dev/null)" = "$RUN $what" ] || continue
            fi
            [ "${p#/proc/}" = $$ ] || [ "${p#/proc/}" = "$BASHPID" ] || pids+=" ${p#/proc/}"
        done
        [ -n "$pids" ] || return 0
        kill -9 $pids 2>/dev/null
        sleep .2
    done
    echo "warning: cannot kill$pids" >&2
    return 1
}

# until_ok SECONDS WHAT CMD...: poll CMD until it succeeds
until_ok() {
    local t=$1 what=$2 end
    shift 2
    end=$((SECONDS + t))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "$what: not ready after $t s"
        sleep .2
    done
}

# render TEMPLATE VAR=VALUE...: @VAR@ in a template under conf/ becomes its value
render() {
    local f=$LAB/conf/$1 kv args
    shift
    args=(-e "s|@CTL@|$CTL|g" -e "s|@PASS@|$PASS|g" -e "s|@VAR@|$VAR|g" -e "s|@RUN@|$RUN|g")
    for kv; do args+=(-e "s|@${kv%%=*}@|${kv#*=}|g"); done
    sed "${args[@]}" "$f"
}

# --- the control plane's database and broker
sql() { mariadb --no-defaults -u root -S "$RUN/mysql/sock" -N "$@"; }
rabbit() {
    HOME=$VAR/rabbit RABBITMQ_NODENAME=lab@localhost RABBITMQ_HOME=$VAR/rabbit ERL_EPMD_PORT=24369 \
        /usr/lib/rabbitmq/bin/rabbitmqctl -q "$@"
}

# hugepages N: adds N (or takes -N) to the machine's pool, which other labs share; prints how many
hugepages() {
    (
        pool=/proc/sys/vm/nr_hugepages
        exec 8>/run/novashim-lab.hugepages.lock
        flock 8
        had=$(cat $pool)
        want=$((had + $1 > 0 ? had + $1 : 0))
        echo $want >$pool
        [ "$(cat $pool)" -ge $want ] || {
            echo "$had" >$pool
            die "the kernel does not have $1 free hugepages"
        }
        echo $((want - had))
    )
}

# --- simulated hosts
host_number() { # host-a .. host-i: 1 .. 9
    case $1 in host-[a-i]) ;; *) die "a host is called host-a .. host-i, not $1" ;; esac
    echo $(($(printf %d "'${1: -1}") - 96))
}
hosts_up() { # the names of the hosts whose namespaces exist
    local d
    for d in "$RUN"/host-?; do [ -d "$d" ] && alive "${d##*/}/ns" && echo "${d##*/}"; done
    return 0
}
# in_host NAME CMD...: run in a simulated host's net, mount and uts namespaces
in_host() {
    local h=$1 pid
    shift
    pid=$(pid_of "$h/ns") || die "$h is not up"
    nsenter -t "$pid" -n -m -u -- "$@"
}
host_virsh() { local h=$1; shift; in_host "$h" virsh -q -c qemu:///system "$@"; }

ops() { /usr/bin/python3 "$LAB/ops.py" "$@"; }
# wait_status SERVER STATUS [SECONDS]: until the server has it and no task
wait_status() { ops wait "$@"; }

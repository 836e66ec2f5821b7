# Shared by tests/run, tests/demo and the lab: installing packages, building.  Source it; bash.

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$TESTS/.." && pwd)
# The cloud and its Python are Debian's: they come before anybody's own.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH LC_ALL=C.UTF-8

BUILD_PACKAGES="
    gcc libc6-dev cmake ninja-build pkg-config git
    librabbitmq-dev libjson-c-dev libvirt-dev libxml2-dev libpci-dev libcurl4-openssl-dev
    libmnl-dev libsystemd-dev libmicrohttpd-dev uthash-dev libcmocka-dev libssl-dev"
TEST_PACKAGES="
    clang clang-format clang-tidy python3 python3-yaml python3-requests
    python3-oslo.messaging python3-oslo.config python3-oslo.versionedobjects python3-nova
    rabbitmq-server openvswitch-switch procps curl
    qemu-utils e2fsprogs dosfstools mtools genisoimage"

# apt_install PACKAGE...: those that are missing; their daemons are not started
apt_install() {
    local p missing= policy=/usr/sbin/policy-rc.d made=
    for p; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
            missing+=" $p"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "error: not installed, and only root can:$missing" >&2
        return 1
    fi
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        made=1
    fi
    echo "installing:$missing"
    (
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q &&
            apt-get install -q -y --no-install-recommends $missing
    ) </dev/null
    set -- $?
    [ -z "$made" ] || rm -f $policy
    return $1
}

# build PRESET: configures and builds; the compiler's output is the caller's
build() {
    cmake --preset "$1" -S "$TOP" >/dev/null && cmake --build --preset "$1"
}

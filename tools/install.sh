#!/bin/sh
# Installs what a step needs and the machine lacks.
# Steps: venv PYTHON DIR | demo | services | bench.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"
}

install() {
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" != 0 ]; then
        echo "ringfence: these Debian packages are needed:$missing (install them as root)" >&2
        exit 3
    fi
    echo "installing Debian packages:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # Services are started by the tests themselves, on loopback: not by the packages.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $missing >/dev/null
}

case "$1" in
venv)
    python="$2"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
        echo "ringfence: Python 3.11 or newer is needed ($python is not)" >&2
        exit 3
    }
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        missing="python3-venv"
        install
    fi
    [ -x "$3/bin/python" ] || "$python" -m venv "$3"
    ;;
demo)
    need nginx nginx-light
    install
    ;;
services)
    need nginx nginx-light
    need redis-server redis-server
    need ab apache2-utils
    need npm npm
    need runc runc
    need mmdebstrap mmdebstrap
    need setcap libcap2-bin
    need gcc gcc
    need readelf binutils
    need strace strace
    need nsenter util-linux
    need apparmor_parser apparmor
    need secilc secilc
    need skopeo skopeo
    need musl-gcc musl-tools
    need busybox busybox-static
    need ss iproute2
    need nft nftables
    need podman podman
    need bwrap bubblewrap
    need qemu-img qemu-utils
    need cpio cpio
    need sfdisk fdisk
    need mkfs.ext4 e2fsprogs
    need rsyslogd rsyslog
    need journalctl systemd
    need openssl openssl
    need setfacl acl
    need aide aide
    need qemu-system-x86_64 qemu-system-x86
    need qemu-system-aarch64 qemu-system-arm
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    [ -e /usr/share/ovmf/OVMF.fd ] || missing="$missing ovmf"
    [ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
    install
    ;;
bench)
    need wrk wrk
    install
    ;;
*)
    echo "usage: $0 venv PYTHON DIR | demo | services | bench" >&2
    exit 2
    ;;
esac

#!/bin/sh
# kernel.sh OUT SUITE: the cloud kernel of Debian's SUITE, unpacked and not installed: OUT/vmlinuz, OUT/version, and in
# OUT/modules the modules that tests use, plain, with OUT/modules/order saying how to load them (and
# order.systemd, what machines with systemd load, and order.engines, what the engines' networks are made of). For a kernel
# newer than the root of the systemd machine also OUT/criu.tar, the criu of its time.
set -eu
out=$1 suite=$2
here=$(dirname "$0")
. "$here/packages.sh"

# Disks of the machine, storage and network of containers. What a kernel has built in has no file.
wanted="virtio_pci virtio_blk virtio_console overlay loop fuse tun veth bridge dummy bfq binfmt_misc squashfs"
# Where there is criu: how it looks at sockets and locks the network.
wanted_systemd="inet_diag tcp_diag udp_diag raw_diag unix_diag netlink_diag af_packet_diag nfnetlink nf_tables nf_conntrack
    nf_conntrack_netlink nft_ct nft_reject_inet"
wanted_engines="br_netfilter nf_nat nft_compat nft_chain_nat nft_nat nft_masq nft_redir nft_fib_inet nft_fib_ipv4 nft_fib_ipv6
    nft_reject_ipv4 nft_reject_ipv6 nft_limit nft_log nft_hash nft_numgen nft_quota xt_conntrack xt_MASQUERADE xt_addrtype
    xt_nat xt_REDIRECT xt_mark xt_comment xt_multiport xt_connmark xt_tcpudp ipt_REJECT macvlan ipvlan"

work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
use_suite "$suite" "$work/apt"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ -z "$package" ]; then echo "Debian $suite has no linux-image-cloud-amd64" >&2; exit 1; fi
# Since Debian 14 the image and its modules are packages of their own.
parts=$(apt-cache depends "$package" | sed -n 's/.*Depends: \(linux-\(binary\|modules\)-[0-9].*\)/\1/p')
(cd "$work" && retry apt-get download -qq "$package" $parts)
for file in "$work"/*.deb; do dpkg-deb -x "$file" "$work/root"; done

mkdir -p "$out/modules"
cp "$(find "$work/root" -name 'vmlinuz*' -type f | head -n 1)" "$out/vmlinuz"
folder=$(find "$work/root" -path '*/lib/modules/*' -maxdepth 5 -name '[0-9]*' -type d | head -n 1)
basename "$folder" >"$out/version"

# add LIST MODULE: its dependencies, then itself.
: >"$out/modules/order"
: >"$out/modules/order.systemd"
: >"$out/modules/order.engines"
add() {
    local list=$1 name=$2 file dependency
    grep -qx "$name" "$out"/modules/order* && return
    file=$(find "$folder/kernel" -name "$(echo "$name" | sed 's/[_-]/[_-]/g').ko*" | head -n 1)
    [ -n "$file" ] || return 0
    case $file in
        *.xz) xz -dc "$file" >"$out/modules/$name.ko" ;;
        *.zst) zstd -qdc "$file" >"$out/modules/$name.ko" ;;
        *) cp "$file" "$out/modules/$name.ko" ;;
    esac
    for dependency in $(grep -ao 'depends=[A-Za-z0-9_,-]*' "$out/modules/$name.ko" | head -n 1 | cut -d= -f2 | tr , ' '); do
        add "$list" "$dependency"
    done
    echo "$name" >>"$out/modules/$list"
}
for module in $wanted; do add order "$module"; done
for module in $wanted_systemd; do add order.systemd "$module"; done
for module in $wanted_engines; do add order.engines "$module"; done

# criu 4.1.1 of Debian 13 dumps nothing since Linux 7.1, which has no UDP-Lite; 4.2.1 does without. With those libraries that
# the root has in another version.
if [ "$suite" = sid ]; then
    mkdir "$work/criu"
    libraries=$(apt-cache depends criu | sed -n 's/.*Depends: \(lib\(compel\|net\|nl-3\)[0-9-].*\)/\1/p')
    (cd "$work/criu" && retry apt-get download -qq criu $libraries)
    for file in "$work"/criu/*.deb; do dpkg-deb -x "$file" "$work/criu/root"; done
    (cd "$work/criu/root" && tar -cf "$out/criu.tar" usr/sbin/criu usr/lib/*/lib*.so.*)
fi

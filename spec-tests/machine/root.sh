#!/bin/sh
# root.sh OUT systemd|engines: a Debian root with systemd as process 1, as an ext4 image OUT/root.ext4. The engines' is of
# Debian's newest suite and has containerd, Docker, Podman and buildah.
set -eu
out=$1 kind=$2
here=$(dirname "$0")
. "$here/packages.sh"

suite=trixie
packages="systemd systemd-sysv dbus dbus-user-session libpam-systemd uidmap busybox-static procps iproute2 kmod
    apparmor criu runc crun"
engines="containerd docker.io docker-cli docker-buildx podman buildah umoci conmon netavark aardvark-dns passt catatonit
    slirp4netns fuse-overlayfs containernetworking-plugins nftables iptables python3 curl tini systemd-container socat
    strace docker-registry skopeo"
spare=512
case $kind in
    engines) suite=sid spare=4096 ;;
    # The engine that the suite itself tries: the smallest.
    systemd) packages="$packages containerd" ;;
esac

work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

bootstrap() {
    rm -rf "$root"
    debootstrap --variant=minbase --keyring="$KEYRING" --include="$(echo $packages | tr ' ' ,)" "$suite" "$root" "$MIRROR"
}
retry bootstrap

# No service starts while it is unpacked. The lists of sid may be older than their own date of expiry on a mirror that lags.
install_engines() {
    chroot "$root" apt-get -qq -o Acquire::Check-Valid-Until=false -o Acquire::Retries=5 update
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=5 install --yes --no-install-recommends $engines
}
if [ "$kind" = engines ]; then
    # The image of a container with systemd as its process 1: this root as it is now.
    tar --numeric-owner --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/zoneinfo \
        --exclude=./usr/share/i18n --exclude='./usr/lib/python3*' --exclude='./usr/lib/*/perl*' --exclude='./usr/share/perl*' \
        --exclude='./var/cache/*' --exclude='./var/lib/apt/lists/*' --exclude=./usr/bin/crun --exclude=./usr/sbin/criu \
        -C "$root" -cf "$work/systemd.tar" .
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    mount -t proc proc "$root/proc"
    retry install_engines
    umount "$root/proc"
    rm "$root/usr/sbin/policy-rc.d"
    mv "$work/systemd.tar" "$root/usr/local/share/systemd.tar"
fi
# They start when a test asks for them.
for unit in docker.service docker.socket containerd.service podman.socket podman-restart.service podman.service \
    podman-auto-update.timer nftables.service docker-registry.service; do
    rm -f "$root"/etc/systemd/system/*.wants/"$unit"
done
# Nobody's.
rm -f "$root"/usr/bin/containerd-stress "$root"/usr/bin/containerd-shim "$root"/usr/bin/containerd-shim-runc-v1

# What nobody reads in a machine that lives for minutes.
rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/usr/share/info \
    "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/var/log/*

# Units that cost boot time and give nothing here.
mask() { for unit in "$@"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done; }
mask getty.target getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer \
    systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-journal-flush.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-firstboot.service systemd-remount-fs.service systemd-sysctl.service systemd-pstore.service \
    systemd-networkd.service systemd-networkd.socket systemd-hwdb-update.service ldconfig.service \
    apparmor.service systemd-binfmt.service systemd-modules-load.service modprobe@.service \
    systemd-machine-id-commit.service tmp.mount sys-kernel-debug.mount sys-kernel-tracing.mount run-lock.mount \
    console-getty.service container-getty@.service user-runtime-dir@0.service

echo 6f6e6767692d746573742d6d61636800 >"$root/etc/machine-id"
echo machine >"$root/etc/hostname"
printf '127.0.0.1 localhost machine\n' >"$root/etc/hosts"
: >"$root/etc/fstab"
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d" "$root/payload"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\n' >"$root/etc/systemd/journald.conf.d/machine.conf"
# A test of a limit must not lose its controller because systemd has no unit with one.
printf '[Manager]\nDefaultCPUAccounting=yes\nDefaultIOAccounting=yes\nDefaultMemoryAccounting=yes\nDefaultTasksAccounting=yes\n' \
    >"$root/etc/systemd/system.conf.d/machine.conf"

# The account of Need::User, with a user manager that starts with the machine.
chroot "$root" /usr/sbin/useradd --uid 1000 --create-home --shell /bin/bash spec-tests
grep -q '^spec-tests:' "$root/etc/subuid" || echo 'spec-tests:100000:65536' >>"$root/etc/subuid"
grep -q '^spec-tests:' "$root/etc/subgid" || echo 'spec-tests:100000:65536' >>"$root/etc/subgid"
mkdir -p "$root/var/lib/systemd/linger"
: >"$root/var/lib/systemd/linger/spec-tests"
mkdir -p "$root/etc/systemd/system/user@.service.d"
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >"$root/etc/systemd/system/user@.service.d/delegate.conf"

cat >"$root/etc/systemd/system/payload.service" <<'UNIT'
[Unit]
Description=The payload of the test machine
After=basic.target dbus.socket systemd-logind.service
Wants=systemd-logind.service
[Service]
Type=exec
Environment=HOME=/root TERM=linux
ExecStart=/bin/sh /payload/main
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=0
OOMPolicy=continue
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /etc/systemd/system/payload.service "$root/etc/systemd/system/multi-user.target.wants/payload.service"
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

mkdir -p "$out"
size=$(($(du -sm "$root" | cut -f 1) + spare))
mke2fs -q -t ext4 -O ^has_journal -m 0 -E root_owner=0:0,lazy_itable_init=1 -d "$root" "$out/root.ext4" "${size}M"

#!/bin/bash
# containerd by `ctr`. containerd.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-cgroupfs} SUITE=containerd-${3:-cgroupfs}
. "$(dirname "$0")/lib.sh"
IMAGE=docker.io/library/onggi-test:latest
systemctl start containerd || exit 1
options=(--runc-binary "$RUNTIME")
[ "$DRIVER" = cgroupfs ] || options+=(--runc-systemd-cgroup)
ctr_run() { ctr run "${options[@]}" "$@"; }
cgroup_option() { if [ "$DRIVER" = systemd ]; then echo "--cgroup system.slice:ctr:$1"; else echo "--cgroup /ctr/$1"; fi; }
after_each() {
    local c
    for c in $(ctr task ls -q); do ctr task kill -s KILL "$c"; done
    sleep 0.5
    for c in $(ctr task ls -q); do ctr task rm -f "$c"; done
    for c in $(ctr container ls -q); do ctr container rm "$c"; done
}

test_image_from_tar() {
    make_rootfs "$work/rootfs"
    umoci init --layout "$work/oci"
    umoci new --image "$work/oci:latest"
    umoci unpack --image "$work/oci:latest" "$work/unpacked"
    cp -a "$work/rootfs/." "$work/unpacked/rootfs/"
    umoci repack --image "$work/oci:latest" "$work/unpacked"
    tar -C "$work/oci" -c . | ctr image import --base-name docker.io/library/onggi-test -
    ctr image ls -q | grep -q onggi-test || { ctr image ls; return 1; }
}

test_run_and_exit_code() {
    # shellcheck disable=SC2046
    same hello "$(ctr_run --rm $(cgroup_option r1) "$IMAGE" r1 echo hello)" stdout
    exits 3 ctr_run --rm $(cgroup_option r2) "$IMAGE" r2 sh -c 'exit 3'
}

test_life() {
    ctr_run -d $(cgroup_option c1) "$IMAGE" c1 sh -c 'trap "exit 7" TERM; while :; do sleep 0.2; done'
    contains RUNNING "$(ctr task ls)" "task ls"
    same inside "$(ctr task exec --exec-id e1 c1 echo inside)" exec
    exits 9 ctr task exec --exec-id e2 c1 sh -c 'exit 9'
    contains "$(ctr task ls | awk '/c1/ { print $2 }')" "$(ctr task ps c1)" "task ps"
    ctr task pause c1
    contains PAUSED "$(ctr task ls)" "paused"
    ctr task resume c1
    contains RUNNING "$(ctr task ls)" "resumed"
    contains memory "$(ctr task metrics c1)" metrics
    ctr task kill c1
    until_true 20 sh -c 'ctr task ls | grep -q STOPPED'
    contains "code 7" "$(ctr task rm c1 2>&1)" "task rm"
}

test_terminal() {
    printf 'tty\nexit 4\n' >"$work/typed"
    local out code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" ctr run "${options[@]}" $(cgroup_option t1) --rm -t "$IMAGE" t1 sh) || code=$?
    same 4 "$code" "exit code"
    contains /dev/ "$out" tty
}

test_limits() {
    ctr_run -d --memory-limit 67108864 --cpu-quota 50000 --cpu-period 100000 $(cgroup_option c1) "$IMAGE" c1 sleep 1000
    local cgroup; cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(ctr task ls | awk '/c1/ { print $2 }')/cgroup")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    same "50000 100000" "$(cat "$cgroup/cpu.max")" cpu.max
}

test_checkpoint_and_restore() {
    ctr_run -d $(cgroup_option c1) "$IMAGE" c1 sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.2; done'
    sleep 2
    ctr task checkpoint --image-path "$work/cp" c1 || cannot "ctr cannot checkpoint here: see the log"
}

test_hundred_in_parallel() {
    local i pids=()
    for i in $(seq 1 "${MANY:-20}"); do
        ctr_run --rm $(cgroup_option "p$i") "$IMAGE" "p$i" true & pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i"; done
}

test_nothing_is_left() {
    after_each
    sleep 1
    same "" "$(pgrep -f containerd-shim || true)" shims
    same "" "$(ls /run/containerd/runc/default 2>/dev/null || true)" "state of the runtime"
    same "" "$(find /sys/fs/cgroup -type d \( -path '*/ctr/*' -o -name 'ctr-*.scope' \))" cgroups
    same "" "$(grep containerd /proc/mounts | grep rootfs || true)" mounts
}

run_tests "${4:-}"

#!/usr/bin/env bash
# The main job, shown step by step: a bundle from Debian's busybox-static goes through a container's whole life, first
# with a config.json of our own, then with one that another tool made. Ends with a look at what is left: nothing.
set -euo pipefail

onggi=${ONGGI:?path of the runtime}
work=$(mktemp -d /tmp/onggi-demo.XXXXXX)
id=demo-$$
runtime() { "$onggi" --root "$work/state" "$@"; }
cleanup() { runtime delete --force "$id" || true; rm -rf "$work"; }
trap cleanup EXIT

header() { printf '\n$ onggi %s\n' "$*"; }
step() { header "$@"; runtime "$@"; }
fail() { echo "demo: $*" >&2; exit 1; }
expect() { grep -q "$1" <<<"$2" || fail "expected $1 in: $2"; }

make_bundle() { # NAME
    mkdir -p "$work/$1/rootfs"/{bin,etc,proc,sys,dev,tmp,root}
    cp /bin/busybox "$work/$1/rootfs/bin/busybox"
    for applet in sh sleep ps id cat hostname mount; do ln -s busybox "$work/$1/rootfs/bin/$applet"; done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$work/$1/rootfs/etc/passwd"
}

# Both tools write the program as the only element of a list in lines of its own.
adapt() { # CONFIG
    sed -i -e 's/"terminal": true/"terminal": false/' -e 's/^\(\s*\)"sh"$/\1"sleep", "1000"/' "$1"
    grep -q '"sleep", "1000"' "$1" || fail "cannot adapt $1"
}

life() { # BUNDLE
    local state pid
    header create --bundle "$1" --pid-file "$work/pid" "$id"
    # The container inherits what it writes to: a file, so that a pipe behind this script can end.
    runtime create --bundle "$1" --pid-file "$work/pid" "$id" </dev/null >"$work/output" 2>&1 || fail "$(cat "$work/output")"
    pid=$(cat "$work/pid")
    echo "init is process $pid of the host"
    step state "$id" | tee "$work/state.txt"; echo
    expect '"status": "created"' "$(cat "$work/state.txt")"
    step start "$id"
    state=$(runtime state "$id")
    expect '"status": "running"' "$state"
    step exec "$id" ps
    step exec "$id" sh -c 'echo "inside: $(id), host name $(hostname), root on $(mount | grep " / " | cut -d" " -f1)"'
    echo; echo "outside: $(tr '\0' ' ' <"/proc/$pid/cmdline")in the cgroup $(grep '^0::' "/proc/$pid/cgroup")"
    step list
    step kill "$id" KILL
    for _ in $(seq 100); do
        state=$(runtime state "$id")
        grep -q '"status": "stopped"' <<<"$state" && break
        sleep 0.05
    done
    expect '"status": "stopped"' "$state"
    step delete "$id"
    if runtime state "$id" 2>"$work/error"; then fail "the container is still there"; fi
    echo "state says: $(cat "$work/error")"
    expect 'does not exist' "$(cat "$work/error")"
    [ -z "$(ls -A "$work/state")" ] || fail "left in the state directory: $(ls -A "$work/state")"
    ! grep -q "$work" /proc/self/mountinfo || fail "a mount is left"
    ! find /sys/fs/cgroup -name "$id" | grep . || fail "a cgroup is left"
    echo "nothing is left: no state, no mount, no cgroup"
}

"$onggi" --version
echo; echo "== a bundle with a config.json of onggi spec"
make_bundle own
(cd "$work/own" && "$onggi" spec)
adapt "$work/own/config.json"
life "$work/own"

if command -v runc >/dev/null; then
    echo; echo "== a bundle with a config.json of runc spec ($(runc --version | head -1))"
    make_bundle other
    (cd "$work/other" && runc spec)
    adapt "$work/other/config.json"
    life "$work/other"
else
    fail "no second tool: runc is not installed"
fi
echo; echo "the main job works"

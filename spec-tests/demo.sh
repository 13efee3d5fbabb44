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
same() { [ "$2" = "$3" ] || fail "$1: expected: $2
demo: but it is: $3"; }
# A string or number of a JSON document with one member a line, as both tools and `state` write it.
field() { sed -n 's/^[[:space:]]*"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' <<<"$2" | head -1; }
json_string() { field "$1" "$(cat "$2")"; }

make_bundle() { # NAME
    mkdir -p "$work/$1/rootfs"/{bin,etc,proc,sys,dev,tmp,root}
    cp /bin/busybox "$work/$1/rootfs/bin/busybox"
    for applet in sh sleep ps id cat hostname stat; do ln -s busybox "$work/$1/rootfs/bin/$applet"; done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$work/$1/rootfs/etc/passwd"
}

# Both tools write the program as the only element of a list in lines of its own.
adapt() { # CONFIG
    sed -i -e 's/"terminal": true/"terminal": false/' -e 's/^\(\s*\)"sh"$/\1"sleep", "1000"/' "$1"
    grep -q '"sleep", "1000"' "$1" || fail "cannot adapt $1"
}

life() { # BUNDLE
    local state pid listed inside outside cgroup root
    header create --bundle "$1" --pid-file "$work/pid" "$id"
    # The container inherits what it writes to: a file, so that a pipe behind this script can end.
    runtime create --bundle "$1" --pid-file "$work/pid" "$id" </dev/null >"$work/output" 2>&1 || fail "$(cat "$work/output")"
    pid=$(cat "$work/pid")
    echo "init is process $pid of the host"
    step state "$id" | tee "$work/state.txt"; echo
    state=$(cat "$work/state.txt")
    same "status" created "$(field status "$state")"
    same "pid in the state" "$pid" "$(field pid "$state")"
    same "bundle in the state" "$1" "$(field bundle "$state")"
    step start "$id"
    state=$(runtime state "$id")
    same "status" running "$(field status "$state")"

    listed=$(step exec "$id" ps -o pid,args)
    echo "$listed"
    # Nobody but init and ps itself: neither the host's processes nor those of other containers.
    same "processes in the container" $'PID COMMAND\n1 sleep 1000\nps -o pid,args' \
        "$(grep -v '^\$' <<<"$listed" | sed '/^$/d; s/^ *//; s/  */ /g; s/^[0-9]* ps/ps/')"

    inside=$(step exec "$id" sh -c 'echo "inside: $(id -u):$(id -g), host name $(hostname), in $(pwd), root $(stat -c %d:%i /), /: $(echo /*)"')
    echo "$inside"
    root=$(stat -c %d:%i "$1/rootfs")
    # The mounts make no directory that the bundle has not: / is that of the bundle, by its number and by what is in it.
    same "what exec sees" \
        "inside: 0:0, host name $(json_string hostname "$1/config.json"), in /, root $root, /: $(cd "$1/rootfs" && echo * | sed 's#\([^ ]*\)#/\1#g')" \
        "$(grep '^inside' <<<"$inside")"

    outside=$(tr '\0' ' ' <"/proc/$pid/cmdline")
    cgroup=$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
    echo; echo "outside: ${outside}in the cgroup $cgroup"
    same "init's arguments" "sleep 1000 " "$outside"
    same "the last part of its cgroup" "$id" "${cgroup##*/}"
    for kind in ipc mnt net pid uts; do
        [ "$(readlink "/proc/$pid/ns/$kind")" != "$(readlink "/proc/self/ns/$kind")" ] || fail "the $kind namespace is the host's"
    done

    listed=$(step list)
    echo "$listed"
    same "what list shows" "$id $pid running $1" "$(grep "^$id " <<<"$listed" | awk '{ print $1, $2, $3, $4 }')"

    step kill "$id" KILL
    for _ in $(seq 100); do
        state=$(runtime state "$id")
        [ "$(field status "$state")" != stopped ] || break
        sleep 0.05
    done
    same "status" stopped "$(field status "$state")"
    ! [ -e "/proc/$pid" ] || grep -q '^State:.Z' "/proc/$pid/status" || fail "process $pid runs on"
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

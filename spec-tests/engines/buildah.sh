#!/bin/bash
# buildah with the runtime under test. buildah.sh RUNTIME NAME _ [FILTER]
RUNTIME=$1 NAME=$2 SUITE=buildah
. "$(dirname "$0")/lib.sh"

test_from_scratch_and_run() {
    make_rootfs "$work/rootfs"
    local c; c=$(buildah from scratch)
    buildah copy "$c" "$work/rootfs" /
    same hello "$(buildah run --runtime "$RUNTIME" "$c" echo hello)" "buildah run"
    exits 5 buildah run --runtime "$RUNTIME" "$c" sh -c 'exit 5'
    buildah commit "$c" onggi-base
    buildah rm "$c"
}

test_bud() {
    mkdir -p "$work/bud"
    printf 'FROM localhost/onggi-base\nRUN echo one >/one && id -u >/id\nUSER 1000\nRUN id -u >/tmp/id2\n' >"$work/bud/Dockerfile"
    buildah bud --runtime "$RUNTIME" -t built "$work/bud"
    local c; c=$(buildah from localhost/built)
    same "one 0 1000" "$(buildah run --runtime "$RUNTIME" "$c" sh -c 'echo $(cat /one /id /tmp/id2)')" "files of the layers"
    buildah rm "$c"
}

test_terminal() {
    local c out code=0; c=$(buildah from localhost/onggi-base)
    printf 'tty\nexit 4\n' >"$work/typed"
    out=$(python3 /payload/on_terminal.py "$work/typed" buildah run -t --runtime "$RUNTIME" "$c" sh) || code=$?
    same 4 "$code" "exit code"
    contains /dev/ "$out" tty
    buildah rm "$c"
}

test_failing_step_fails_the_build() {
    printf 'FROM localhost/onggi-base\nRUN exit 3\n' >"$work/bud/Dockerfile"
    fails buildah bud --runtime "$RUNTIME" -t broken "$work/bud"
}

test_nothing_is_left() {
    same "" "$(pgrep -x "$(basename "$RUNTIME")" || true)" processes
    same "" "$(find /sys/fs/cgroup -name '*buildah*')" cgroups
}

run_tests "${4:-}"

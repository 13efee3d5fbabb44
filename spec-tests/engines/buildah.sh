#!/bin/bash
# buildah with the runtime under test. buildah.sh RUNTIME NAME _ [FILTER]
# The same in every script of an engine.
# shellcheck disable=SC2034
RUNTIME=$1 NAME=$2 SUITE=buildah
. "$(dirname "$0")/lib.sh"

test_from_scratch_and_run() {
    make_rootfs "$work/rootfs"
    local c; c=$(buildah from scratch)
    buildah copy "$c" "$work/rootfs" /
    same hello "$(buildah run --runtime "$RUNTIME" "$c" echo hello)" "buildah run"
    exits 5 buildah run --runtime "$RUNTIME" "$c" sh -c 'exit 5'
    buildah commit "$c" test-base
    buildah rm "$c"
}

test_bud() {
    mkdir -p "$work/bud"
    printf 'FROM localhost/test-base\nRUN echo one >/one && id -u >/id\nUSER 1000\nRUN id -u >/tmp/id2\n' >"$work/bud/Dockerfile"
    buildah bud --runtime "$RUNTIME" -t built "$work/bud"
    local c; c=$(buildah from localhost/built)
    same "one 0 1000" "$(buildah run --runtime "$RUNTIME" "$c" sh -c 'echo $(cat /one /id /tmp/id2)')" "files of the layers"
    buildah rm "$c"
}

test_terminal() {
    local c out code=0; c=$(buildah from localhost/test-base)
    printf 'tty\nexit 4\n' >"$work/typed"
    out=$(python3 /payload/on_terminal.py "$work/typed" buildah run -t --runtime "$RUNTIME" "$c" sh) || code=$?
    same 4 "$code" "exit code"
    contains /dev/ "$out" tty
    buildah rm "$c"
}

test_failing_step_fails_the_build() {
    printf 'FROM localhost/test-base\nRUN exit 3\n' >"$work/bud/Dockerfile"
    fails buildah bud --runtime "$RUNTIME" -t broken "$work/bud"
}

test_registry() {
    start_registry
    buildah push --tls-verify=false localhost/test-base 127.0.0.1:5000/base:1
    local c; c=$(buildah from --tls-verify=false --pull-always 127.0.0.1:5000/base:1)
    same pulled "$(buildah run --runtime "$RUNTIME" "$c" echo pulled)" "buildah run"
    buildah rm "$c"
}

test_options_of_run() {
    local c; c=$(buildah from localhost/test-base)
    run() { buildah run --runtime "$RUNTIME" "$@"; }
    same 1000 "$(run --user 1000 "$c" id -u)" user
    contains 0000000000000000 "$(run --cap-drop all "$c" grep CapEff /proc/self/status)" "all dropped"
    mkdir -p "$work/volume"
    run -v "$work/volume:/v" "$c" sh -c 'echo kept >/v/f'
    same kept "$(cat "$work/volume/f")" volume
    same "b /tmp" "$(run --env A=b --workingdir /tmp "$c" sh -c 'echo $A $(pwd)')" "environment and folder"
    same "$(readlink /proc/self/ns/net)" "$(run --network host "$c" readlink /proc/self/ns/net)" "network of the host"
    refused 1 no-such-program run "$c" no-such-program
    buildah rm "$c"
}

test_limits_of_bud() {
    printf 'FROM localhost/test-base\nRUN cat /sys/fs/cgroup/memory.max >/limit; ulimit -n >/files\n' >"$work/bud/Dockerfile"
    buildah bud --runtime "$RUNTIME" --memory 64m --ulimit nofile=77:77 -t limited "$work/bud"
    local c; c=$(buildah from localhost/limited)
    same "67108864 77" "$(buildah run --runtime "$RUNTIME" "$c" sh -c 'echo $(cat /limit /files)')" limits
    buildah rm "$c"
}

test_nothing_is_left() {
    same "" "$(pgrep -x "$(basename "$RUNTIME")" || true)" processes
    same "" "$(find /sys/fs/cgroup -name '*buildah*')" cgroups
}

run_tests "${4:-}"

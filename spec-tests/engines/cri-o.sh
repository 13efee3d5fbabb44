#!/bin/bash
# conmon with the arguments of CRI-O in CRI-O's order, and the runtime's commands that CRI-O gives itself: CRI-O is not in Debian.
# cri-o.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
# shellcheck disable=SC2034 # NAME: the same in every script of an engine.
RUNTIME=$1 NAME=$2 DRIVER=${3:-cgroupfs} SUITE=cri-o-${3:-cgroupfs}
. "$(dirname "$0")/lib.sh"
ROOT=/run/onggi-crio
EXITS=$work/exits SOCKETS=$work/sockets
# CRI-O starts the runtime with hardly an environment, without PATH for one.
runtime() {
    local option=()
    [ "$DRIVER" = cgroupfs ] || option=(--systemd-cgroup)
    env -i XDG_RUNTIME_DIR=/run "$RUNTIME" --root "$ROOT" "${option[@]}" "$@"
}

# bundle ID LINE [NAMESPACES] [RESOURCES]: a folder with config.json as CRI-O would write it.
bundle() {
    local path=/crio-test/crio-$1 terminal=${TERMINAL:-false}
    local namespaces='{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"}'
    [ "$DRIVER" = cgroupfs ] || path=crio-test.slice:crio:$1
    rm -rf "${work:?}/$1" "${EXITS:?}/$1"
    mkdir -p "$work/$1/dir"
    cat >"$work/$1/config.json" <<JSON
{ "ociVersion": "1.2.0", "hostname": "$1", "root": { "path": "$work/rootfs" },
  "process": { "cwd": "/", "args": ["sh", "-c", "$2"], "env": ["PATH=/bin", "TERM=xterm"], "terminal": $terminal,
    "user": { "uid": 0, "gid": 0 }, "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] } },
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc" },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
    { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"] },
    { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"] } ],
  "annotations": { "org.systemd.property.TimeoutStopUSec": "uint64 10000000", "org.systemd.property.CollectMode": "'inactive-or-failed'",
    "io.kubernetes.cri-o.ContainerType": "container" },
  "linux": { "cgroupsPath": "$path", "resources": { ${4:-} },
    "namespaces": [ { "type": "mount" }, { "type": "cgroup" }, ${3:-$namespaces} ] } }
JSON
}

# conmon_create ID [OPTION...]: what CreateContainer does. conmon goes to the background when the container is there.
conmon_create() {
    local id=$1 driver=()
    shift
    [ "$DRIVER" = cgroupfs ] || driver=(-s)
    mkdir -p "$EXITS" "$SOCKETS"
    # conmon waits for a word on the second pipe, and says on the first what has become of it.
    _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 XDG_RUNTIME_DIR=/run conmon -b "$work/$id" -c "$id" --exit-dir "$EXITS" -l "$work/$id/log" \
        --log-level info -n "name-$id" -P "$work/$id/conmon-pidfile" -p "$work/$id/pidfile" --persist-dir "$work/$id/dir" \
        -r "$RUNTIME" --runtime-arg "--root=$ROOT" --socket-dir-path "$SOCKETS" --syslog -u "$id" "${driver[@]}" "$@" \
        3>"$work/$id/sync" 4<<<x 2>"$work/$id/conmon-stderr"
    until_true 60 test -s "$work/$id/sync"
}

# conmon_exec ID LINE [OPTION...]: what ExecSync does. Prints the process's output; the exit code is the process's.
conmon_exec() {
    local id=$1 line=$2 driver=() code
    shift 2
    [ "$DRIVER" = cgroupfs ] || driver=(-s)
    echo '{"cwd":"/","args":["sh","-c","'"$line"'"],"env":["PATH=/bin"],"user":{"uid":0,"gid":0}}' >"$work/$id/process"
    rm -f "$work/$id/exec-log" "$work/$id/exec-sync" "$work/$id/exec-pidfile"
    _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 XDG_RUNTIME_DIR=/run conmon -c "$id" -n "name-$id" -r "$RUNTIME" -p "$work/$id/exec-pidfile" -e \
        -l "$work/$id/exec-log" --socket-dir-path "$SOCKETS" --log-level info "$@" --exec-process-spec "$work/$id/process" \
        --runtime-arg "--root=$ROOT" "${driver[@]}" -b "$work/$id" -u "$id-exec-$RANDOM" \
        3>"$work/$id/exec-sync" 4<<<x 2>>"$work/$id/conmon-stderr"
    until_true 60 grep -q exit_code "$work/$id/exec-sync"
    cut -d ' ' -f 4- "$work/$id/exec-log"
    code=$(sed -n 's/.*"exit_code": *\(-\{0,1\}[0-9]*\).*/\1/p' "$work/$id/exec-sync")
    [ "$code" -ge 0 ] || { cat "$work/$id/exec-sync" >&2; return 255; }
    return "$code"
}

IDLE='trap \"exit 7\" TERM; while :; do sleep 0.2; done'
status() { runtime state "$1" | sed -n 's/.*"status": "\(.*\)".*/\1/p'; }
exited() { until_true 60 test -s "$EXITS/$1"; }
running() { bundle "$@"; conmon_create "$1"; runtime start "$1"; }
text_of() { cut -d ' ' -f 4- "$work/$1/log"; }

after_each() {
    local id
    for id in $(runtime list -q); do runtime delete --force "$id"; done
    pkill -x conmon || true
}

test_image_from_tar() {
    make_rootfs "$work/rootfs"
    conmon --version
}

test_questions_at_the_start() {
    # CRI-O reads both outputs together: noise on stderr would break the JSON.
    env -i "$RUNTIME" features >"$work/features" 2>&1
    python3 -c 'import json, sys
features = json.load(open(sys.argv[1]))
assert features["ociVersionMin"] and features["ociVersionMax"], features
assert features["linux"]["mountExtensions"]["idmap"]["enabled"]
assert "rro" in features["mountOptions"]' "$work/features"
    contains version "$(env -i "$RUNTIME" --version 2>&1)" version
}

test_life() {
    bundle c1 "echo out; echo err >&2; $IDLE"
    conmon_create c1
    contains '"pid":' "$(tr -d ' ' <"$work/c1/sync")" "what conmon says"
    same created "$(status c1)" "state after create"
    runtime start c1
    same running "$(status c1)" "state after start"
    same "$(cat "$work/c1/pidfile")" "$(runtime state c1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')" "pid file"
    until_true 20 grep -q "stderr F err" "$work/c1/log"
    contains "stdout F out" "$(cat "$work/c1/log")" log
    runtime kill c1 TERM
    exited c1
    same 7 "$(cat "$EXITS/c1")" "exit file"
    same stopped "$(status c1)" "state after the end"
    same 7 "$(cat "$work/c1/dir/exit" 2>/dev/null || cat "$EXITS/c1")" "exit file of the persistent folder"
    runtime delete c1
    fails runtime state c1
    # conmon ends with the container.
    until_true 20 sh -c "! kill -0 $(cat "$work/c1/conmon-pidfile")"
}

test_stop_by_kill_and_delete_force() {
    running c1 'trap : TERM; while :; do sleep 0.2; done'
    runtime kill c1 15
    fails exited_soon c1
    runtime kill c1 KILL
    exited c1
    same 137 "$(cat "$EXITS/c1")" "exit file after SIGKILL"
    runtime delete --force c1
    running c2 "$IDLE"
    runtime delete --force c2
    exited c2
    same 137 "$(cat "$EXITS/c2")" "exit file after delete --force"
    runtime delete --force c2
}
exited_soon() { sleep 1; test -s "$EXITS/$1"; }

test_failed_create_is_relayed() {
    bundle c1 true
    sed -i 's/"cwd": "\/"/"cwd": "relative"/' "$work/c1/config.json"
    conmon_create c1 || true
    local said; said=$(tr -d ' ' <"$work/c1/sync")
    contains '"pid":-1' "$said" "what conmon says"
    contains "cwd" "$(tr '[:upper:]' '[:lower:]' <<<"$said")" "what conmon says"
    fails runtime state c1
}

test_exec_sync() {
    running c1 "$IDLE"
    same "in c1" "$(conmon_exec c1 'echo in $(hostname)')" output
    exits 9 conmon_exec c1 'exit 9'
    contains "timed out" "$(tr '\n' ' ' <"$work/c1/exec-sync"; conmon_exec c1 'sleep 1234' -T 2 2>&1 || true)" "time-out"
    until_true 20 sh -c "! pgrep -f '[s]leep 1234'"
    same running "$(status c1)" "state afterwards"
}

test_exec_in_the_foreground() {
    running c1 "$IDLE"
    echo '{"cwd":"/tmp","args":["sh","-c","read l; echo got $l; pwd; exit 5"],"env":["PATH=/bin"],"user":{"uid":0,"gid":0}}' >"$work/c1/process"
    local out code=0
    out=$(echo word | runtime exec --process "$work/c1/process" c1) || code=$?
    same "5 got word /tmp" "$code $(echo $out)" "streaming exec"
    # With a terminal CRI-O gives a pseudo terminal as stdio, and no console socket.
    echo '{"cwd":"/","args":["sh"],"terminal":true,"env":["PATH=/bin"],"user":{"uid":0,"gid":0}}' >"$work/c1/process"
    printf 'tty; stty size\nexit 4\n' >"$work/typed"
    code=0
    local option=()
    [ "$DRIVER" = cgroupfs ] || option=(--systemd-cgroup)
    out=$(python3 /payload/on_terminal.py "$work/typed" env -i XDG_RUNTIME_DIR=/run "$RUNTIME" --root "$ROOT" "${option[@]}" \
        exec --process "$work/c1/process" c1) || code=$?
    same 4 "$code" "exit code on a terminal"
    contains /dev/pts/ "$out" tty
    contains "33 101" "$out" "size of the terminal"
}

test_attach() {
    bundle c1 'read line; echo got $line; sleep 1; exit 6'
    conmon_create c1 --leave-stdin-open -i
    runtime start c1
    contains "got word" "$(attach c1 word)" "attach"
    exited c1
    same 6 "$(cat "$EXITS/c1")" "exit file"
    contains "got word" "$(text_of c1)" log
}

# attach ID WORD: sends a line, prints what comes. A packet begins with the number of its stream.
attach() {
    timeout 60 python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send((sys.argv[2] + "\n").encode())
while packet := s.recv(8193):
    sys.stdout.write(packet[1:].decode()); sys.stdout.flush()' "$SOCKETS/$1/attach" "$2"
}

test_terminal() {
    TERMINAL=true bundle c1 'tty; read line; echo got $line; exit 3'
    conmon_create c1 -t
    runtime start c1
    contains "got word" "$(attach c1 word)" attach
    exited c1
    same 3 "$(cat "$EXITS/c1")" "exit file"
    contains /dev/pts/ "$(text_of c1)" log
}

test_pause_update_and_limits() {
    grep -qw memory /sys/fs/cgroup/cgroup.controllers || cannot "no controller memory in the cgroup tree"
    local cgroup; bundle c1 "$IDLE" "" '"memory": {"limit": 67108864}, "cpu": {"shares": 512}'
    conmon_create c1
    runtime start c1
    cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(cat "$work/c1/pidfile")/cgroup")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    # CRI-O leaves out the option for systemd here.
    echo '{"memory":{"limit":134217728},"cpu":{"quota":50000,"period":100000}}' | env -i "$RUNTIME" --root "$ROOT" update --resources - c1
    same "134217728 50000 100000" "$(cat "$cgroup/memory.max" "$cgroup/cpu.max" | tr '\n' ' ' | sed 's/ $//')" "limits after the update"
    runtime pause c1
    same paused "$(status c1)" "state"
    runtime resume c1
    same running "$(status c1)" "state"
    if [ "$DRIVER" = systemd ]; then
        contains TimeoutStopUSec=10s "$(systemctl show -p TimeoutStopUSec crio-c1.scope)" "property by annotation"
        contains crio-test.slice/crio-c1.scope "$cgroup" cgroup
    fi
}

test_out_of_memory() {
    grep -qw memory /sys/fs/cgroup/cgroup.controllers || cannot "no controller memory in the cgroup tree"
    bundle c1 'exec tail /dev/zero' "" '"memory": {"limit": 20971520, "swap": 20971520}'
    conmon_create c1
    runtime start c1
    exited c1
    same 137 "$(cat "$EXITS/c1")" "exit file"
    [ "$DRIVER" = cgroupfs ] || [ -e "$work/c1/dir/oom" ] ||
        cannot "conmon reads memory.events of a cgroup that systemd may have removed by then: now and then with runc too"
    until_true 20 test -e "$work/c1/dir/oom"
}

test_pod() {
    running infra "$IDLE"
    local ns c
    ns="/proc/$(cat "$work/infra/pidfile")/ns"
    for c in a b; do
        running "$c" "$IDLE" '{"type":"pid","path":"'"$ns/pid"'"},{"type":"network","path":"'"$ns/net"'"},{"type":"ipc","path":"'"$ns/ipc"'"},{"type":"uts","path":"'"$ns/uts"'"}'
    done
    local line='for n in pid net ipc uts; do readlink /proc/self/ns/$n; done'
    same "$(conmon_exec infra "$line")" "$(conmon_exec a "$line")" "namespaces"
    conmon_exec a '(setsid sleep 4321 >/dev/null 2>&1 &)'
    pgrep -f '[s]leep 4321'
    # What has left init's family is killed with the container, and the other one goes on.
    runtime kill a KILL
    exited a
    runtime delete a
    until_true 20 sh -c "! pgrep -f '[s]leep 4321'"
    same running "$(status b)" "the other container"
}

test_nothing_is_left() {
    after_each
    until_true 20 sh -c '! pgrep -x conmon'
    if [ "$DRIVER" = systemd ]; then systemctl stop crio-test.slice; else rmdir /sys/fs/cgroup/crio-test; fi
    same "" "$(ls "$ROOT")" "state of the runtime"
    same "" "$(find /sys/fs/cgroup -type d -name 'crio-c*')" cgroups
    same "" "$(grep "$work/rootfs" /proc/mounts || true)" mounts
    same "" "$(pgrep -x "$(basename "$RUNTIME")" || true)" processes
}

run_tests "${4:-}"

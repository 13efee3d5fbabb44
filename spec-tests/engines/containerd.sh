#!/bin/bash
# containerd by `ctr`. containerd.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
# The same in every script of an engine.
# shellcheck disable=SC2034
RUNTIME=$1 NAME=$2 DRIVER=${3:-cgroupfs} SUITE=containerd-${3:-cgroupfs}
. "$(dirname "$0")/lib.sh"
IMAGE=docker.io/library/test-image:latest
systemctl start containerd || exit 1
options=(--runc-binary "$RUNTIME")
[ "$DRIVER" = cgroupfs ] || options+=(--runc-systemd-cgroup)
ctr_run() { ctr run "${options[@]}" "$@"; }
cgroup_option() { if [ "$DRIVER" = systemd ]; then echo "--cgroup system.slice:ctr:$1"; else echo "--cgroup /ctr/$1"; fi; }
# For state_of_host.
CTR_NAMESPACE=default
TRACES="/run/containerd/runc/default /run/containerd/io.containerd.runtime.v2.task/default"
pid_of() { ctr task ls | awk -v name="$1" '$1 == name { print $2 }'; }
# sh_once NAME LINE OPTIONS...
sh_once() {
    local name=$1 line=$2; shift 2
    # shellcheck disable=SC2046
    ctr_run --rm $(cgroup_option "$name") "$@" "$IMAGE" "$name" sh -c "$line"
}
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
    tar -C "$work/oci" -c . | ctr image import --base-name docker.io/library/test-image -
    ctr image ls -q | grep -q test-image || { ctr image ls; return 1; }
    state_of_host >"$work/before"
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
    contains "$(pid_of c1)" "$(ctr task ps c1)" "task ps"
    ctr task pause c1
    contains PAUSED "$(ctr task ls)" "paused"
    ctr task resume c1
    contains RUNNING "$(ctr task ls)" "resumed"
    contains memory "$(ctr task metrics c1)" metrics
    ctr task kill c1
    until_true 20 sh -c 'ctr task ls | grep -q STOPPED'
    contains "code 7" "$(ctr task rm c1 2>&1)" "task rm"
    # ctr has no `stop`: SIGTERM, which this one does not mind, then SIGKILL.
    # shellcheck disable=SC2046
    ctr_run -d $(cgroup_option c2) "$IMAGE" c2 sh -c 'trap "echo >/tmp/term" TERM; while :; do sleep 0.2; done'
    ctr task kill -s TERM c2
    until_true 20 ctr task exec --exec-id e3 c2 test -e /tmp/term
    contains RUNNING "$(ctr task ls)" "after SIGTERM"
    ctr task kill -s KILL c2
    until_true 20 sh -c 'ctr task ls | grep -q STOPPED'
    contains "code 137" "$(ctr task rm c2 2>&1)" "task rm after SIGKILL"
}

test_terminal() {
    printf 'tty\nexit 4\n' >"$work/typed"
    local out code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" ctr run "${options[@]}" $(cgroup_option t1) --rm -t "$IMAGE" t1 sh) || code=$?
    same 4 "$code" "exit code"
    contains /dev/ "$out" tty
    # shellcheck disable=SC2046
    ctr_run -d $(cgroup_option t2) "$IMAGE" t2 sleep 1000
    printf 'tty; stty size\nexit 5\n' >"$work/typed"
    code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" ctr task exec -t --exec-id e1 t2 sh) || code=$?
    same 5 "$code" "exit code of exec -t"
    contains /dev/pts/ "$out" "tty of exec -t"
    contains "33 101" "$out" "window size of exec -t"
}

# ctr has no options for pids, sysctls and ulimits.
test_limits() {
    ctr_run -d --memory-limit 67108864 --cpu-quota 50000 --cpu-period 100000 $(cgroup_option c1) "$IMAGE" c1 sleep 1000
    local cgroup; cgroup=$(cgroup_of "$(pid_of c1)")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    same "50000 100000" "$(cat "$cgroup/cpu.max")" cpu.max
}

test_checkpoint() {
    counted() { ctr task exec --exec-id "e$RANDOM" "$1" cat /tmp/n; }
    # shellcheck disable=SC2046
    ctr_run -d $(cgroup_option c1) "$IMAGE" c1 sh -c "$COUNTER"
    until_true 30 counted c1
    local before after; before=$(counted c1)
    ctr task checkpoint --image-path "$work/cp" c1
    [ -s "$work/cp/inventory.img" ]
    [ "$(counted c1)" != "$before" ] || { echo "does not run on after the checkpoint"; return 1; }
    before=$(counted c1)
    # As an image, of which another container is made.
    ctr container checkpoint --task --rw c1 docker.io/library/checkpoint:1
    ctr task kill -s KILL c1
    until_true 20 sh -c 'ctr task ls | grep -q STOPPED'
    ctr task rm c1 || true
    ctr container rm c1
    ctr container restore --rw --live c2 docker.io/library/checkpoint:1 >"$work/restored" 2>&1 &
    until_true 60 counted c2 || { cat "$work/restored"; return 1; }
    after=$(counted c2)
    sleep 2
    goes_on "$before" "$after" "$(counted c2)"
}

test_registry() {
    start_registry
    ctr image tag "$IMAGE" 127.0.0.1:5000/kept:1
    ctr image push --plain-http 127.0.0.1:5000/kept:1
    ctr image rm 127.0.0.1:5000/kept:1
    ctr image pull --plain-http 127.0.0.1:5000/kept:1
    same kept "$(ctr_run --rm $(cgroup_option k1) 127.0.0.1:5000/kept:1 k1 echo kept)" "container of what was pulled"
}

test_exit_codes() {
    exits 127 sh_once e1 'exec no-such-program'
    # ctr has one exit code of its own for all that keeps a container from being made.
    # shellcheck disable=SC2046
    refused 1 "no such file or directory" ctr_run --rm $(cgroup_option e3) "$IMAGE" e3 /no/such/program
    # shellcheck disable=SC2046
    refused 1 "permission denied" ctr_run --rm $(cgroup_option e4) "$IMAGE" e4 /etc/passwd
    # Signals end the very process that the shim waits for: in a pid namespace of its own it would be process 1, and safe.
    exits 137 sh_once e5 'kill -9 $$' --with-ns pid:/proc/1/ns/pid
    exits 139 sh_once e6 'kill -SEGV $$' --with-ns pid:/proc/1/ns/pid
    exits 143 sh_once e7 'kill -TERM $$' --with-ns pid:/proc/1/ns/pid
}

test_file_systems() {
    mkdir -p "$work/bound"
    sh_once f1 'echo from-inside >/b/f' --mount "type=bind,src=$work/bound,dst=/b,options=rbind:rw"
    same from-inside "$(cat "$work/bound/f")" "bind mount"
    refused 1 "Read-only file system" sh_once f2 'echo x >/b/f' --mount "type=bind,src=$work/bound,dst=/b,options=rbind:ro"
    contains size=1024k "$(sh_once f3 'grep /scratch /proc/mounts' --mount type=tmpfs,src=tmpfs,dst=/scratch,options=size=1m)" tmpfs
    refused 1 "Read-only file system" sh_once f4 'touch /x' --read-only
    contains overlay "$(sh_once f5 'grep " / " /proc/mounts')" "root mount"
}

test_process_options() {
    same "1000 1000 b /tmp box" "$(sh_once p1 'echo $(id -u) $(id -g) $A $(pwd) $(hostname)' --user 1000:1000 --env A=b --cwd /tmp --hostname box)" options
    contains 00000000a80435fa "$(sh_once p2 'grep CapEff /proc/self/status' --cap-drop CAP_CHOWN --cap-add CAP_NET_ADMIN)" CapEff
    contains "$(sed -n 's/^CapEff:\t//p' /proc/self/status)" "$(sh_once p4 'grep CapEff /proc/self/status' --privileged)" privileged
    contains "NoNewPrivs:	1" "$(sh_once p5 'grep NoNewPrivs /proc/self/status')" NoNewPrivs
    contains "NoNewPrivs:	0" "$(sh_once p6 'grep NoNewPrivs /proc/self/status' --allow-new-privs)" NoNewPrivs
    contains "Seccomp:	2" "$(sh_once p7 'grep Seccomp: /proc/self/status' --seccomp)" "default profile"
    sh_once p8 'test -c /dev/fuse && dd if=/dev/fuse count=0' --device /dev/fuse
    same "$(readlink /proc/self/ns/net)" "$(sh_once p9 'readlink /proc/self/ns/net' --net-host)" "network of the host"
}

test_apparmor() {
    contains containerd-test "$(sh_once a1 'cat /proc/self/attr/current' --apparmor-default-profile containerd-test)" profile
}

test_user_namespace() {
    same "0 100000 65536 0" "$(sh_once u1 'echo $(cat /proc/self/uid_map) $(id -u)' --uidmap 0:100000:65536 --gidmap 0:100000:65536)" uid_map
}

test_bridge_network() {
    mkdir -p /opt/cni /etc/cni/net.d
    ln -sfn /usr/lib/cni /opt/cni/bin
    cat >/etc/cni/net.d/10-bridge.conflist <<'CNI'
{ "cniVersion": "1.0.0", "name": "tests", "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
    { "type": "portmap", "capabilities": { "portMappings": true } } ] }
CNI
    # shellcheck disable=SC2046
    ctr_run -d --cni $(cgroup_option web) "$IMAGE" web sh -c 'mkdir -p /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www'
    local address
    address=$(ctr task exec --exec-id a1 web ip -4 -o address show dev eth0 | sed -n 's,.*inet \([0-9.]*\)/.*,\1,p')
    contains 10.88. "$address" address
    until_true 30 sh -c "curl -s http://$address/ | grep -q page"
    # Another container reaches it over the bridge.
    same page "$(sh_once client "wget -qO- http://$address/" --cni)" "from the second container"
}

test_attach() {
    # shellcheck disable=SC2046
    ctr_run -d $(cgroup_option c1) "$IMAGE" c1 sh -c 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo line $i; sleep 0.5; done; exit 6'
    local out code=0
    out=$(timeout 60 ctr task attach c1) || code=$?
    contains "line 40" "$out" attach
    same 6 "$code" "exit code of attach"
}

test_out_of_memory() {
    exits 137 sh_once o1 'exec tail /dev/zero' --memory-limit 16777216
    # The shell lives on for the shim to see what has happened in the cgroup.
    ctr events >"$work/events" 2>&1 &
    local listener=$!
    sleep 1
    exits 137 sh_once o2 'tail /dev/zero; code=$?; sleep 5; exit $code' --memory-limit 16777216
    until_true 20 grep -q '/tasks/oom.*"container_id":"o2"' "$work/events" || { cat "$work/events"; return 1; }
    kill "$listener"
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
    # What is looked for below is there while a container is.
    # shellcheck disable=SC2046
    ctr_run -d $(cgroup_option c1) "$IMAGE" c1 sleep 1000
    state_of_host >"$work/meanwhile"
    contains "file: /run/containerd/runc/default/c1" "$(cat "$work/meanwhile")" "state of the host with a container"
    contains "containerd-shim" "$(cat "$work/meanwhile")" "state of the host with a container"
    contains "cgroup: $(cgroup_of "$(pid_of c1)")" "$(cat "$work/meanwhile")" "state of the host with a container"
    contains "mount: /run/containerd/io.containerd.runtime.v2.task/default/c1/rootfs" "$(cat "$work/meanwhile")" "state of the host with a container"
    after_each
    until_true 30 as_before || as_before
}

run_tests "${4:-}"

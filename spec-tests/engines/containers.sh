# Sourced. The life of a container as its users live it, in the command line that Docker and Podman share.
# From the caller: $E, the engine's command with its global options.

# Not named as a runtime is: that one is looked for.
IMAGE=test-image:latest

# In one line: a container that ends by itself, removed afterwards.
once() { $E run --rm "$@"; }
sh_once() { local line=$1; shift; $E run --rm "$@" "$IMAGE" sh -c "$line"; }
# Background container that does nothing, and ends on SIGTERM.
idle() { $E run -d "$@" "$IMAGE" sh -c 'trap "exit 0" TERM; while :; do sleep 0.2; done'; }
field() { $E inspect -f "$2" "$1"; }
after_each() { $E rm -f -t 0 $($E ps -aq) || $E rm -f $($E ps -aq); }

# has_state CONTAINER: the runtime under test keeps it where this engine has it keep containers.
has_state() {
    local id; id=$(field "$1" '{{.Id}}')
    [ -e "$STATE_ROOT/$id" ] || { echo "$1 is not in $STATE_ROOT, but: $(find /run -name "$id" 2>/dev/null)"; return 1; }
}

test_image_from_tar() {
    make_rootfs "$work/rootfs"
    tar -C "$work/rootfs" -c . | $E import - "$IMAGE"
    contains test-image "$($E images)" images
    state_of_host >"$work/before"
}

test_runtime_is_the_one_asked_for() {
    idle --name c1
    # Podman, which is given a path, has it as a path.
    same "$NAME" "$(basename "$(field c1 "$RUNTIME_FIELD")")" "the engine's answer"
    has_state c1
}

test_run_prints_and_exits() {
    same hello "$(once "$IMAGE" echo hello)" stdout
    same in "$(echo in | once -i "$IMAGE" cat)" stdin
}

test_exit_codes() {
    exits 3 sh_once 'exit 3'
    exits 125 once --no-such-flag "$IMAGE" true
    exits 126 once "$IMAGE" /etc/passwd
    exits 127 once "$IMAGE" no-such-program
    exits 127 once "$IMAGE" /no/such/program
    exits 137 sh_once 'kill -9 $$' --init
    exits 139 sh_once 'kill -SEGV $$' --init
    exits 143 sh_once 'kill -TERM $$' --init
    # Here the signal ends the very process that the engine waits for: in a pid namespace of its own it would be process 1, and safe.
    exits 137 sh_once 'kill -9 $$' --pid host
    exits 139 sh_once 'kill -SEGV $$' --pid host
    exits 143 sh_once 'kill -TERM $$' --pid host
}

test_build_from_a_file() {
    mkdir -p "$work/build"
    printf 'FROM %s\nRUN echo one >/one\nENV TWO=two\nWORKDIR /tmp\nUSER user\nCMD ["sh", "-c", "cat /one; echo $TWO; pwd; id -u"]\n' "$IMAGE" \
        >"$work/build/Dockerfile"
    $E build ${BUILD_OPTIONS:-} -t built "$work/build"
    is_what_was_built built
    if declare -F builders >/dev/null; then builders; fi
}
# is_what_was_built IMAGE
is_what_was_built() { same "one two /tmp 1000" "$(once "$1" | tr '\n' ' ' | sed 's/ $//')" "output of $1"; }

test_layers_on_overlayfs() {
    contains overlay "$(sh_once 'grep " / " /proc/mounts')" "root mount"
}

test_detached_ps_logs_inspect() {
    $E run -d --name c1 "$IMAGE" sh -c 'echo out; echo err >&2; sleep 1000'
    contains c1 "$($E ps)" ps
    until_true 20 sh -c "$E logs c1 2>&1 | grep -q err"
    same out "$($E logs c1 2>/dev/null)" "logs, stdout"
    same running "$(field c1 '{{.State.Status}}')" status
    [ "$(field c1 '{{.State.Pid}}')" -gt 1 ]
    [ -d "/proc/$(field c1 '{{.State.Pid}}')" ]
}

test_interactive_terminal() {
    printf 'tty; stty size; exit 4\n' >"$work/typed"
    local out code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" $E run --rm -it "$IMAGE" sh) || code=$?
    same 4 "$code" "exit code"
    contains /dev/ "$out" tty
    contains "33 101" "$out" "window size"
}

test_exec() {
    idle --name c1
    same x "$($E exec -e V=x c1 sh -c 'echo $V')" env
    same 1000 "$($E exec -u user c1 id -u)" user
    same /tmp "$($E exec -w /tmp c1 pwd)" cwd
    exits 9 $E exec c1 sh -c 'exit 9'
    exits 127 $E exec c1 no-such-program
    exits 126 $E exec c1 /etc/passwd
    $E exec -d c1 sh -c 'echo done >/tmp/detached'
    until_true 20 $E exec c1 test -e /tmp/detached
    printf 'tty\nexit 5\n' >"$work/typed"
    local out code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" $E exec -it c1 sh) || code=$?
    same 5 "$code" "exit code of exec -it"
    contains /dev/pts "$out" "tty of exec -it"
}

test_attach() {
    $E run -d -i --name c1 "$IMAGE" sh -c 'read line; echo "got $line"; sleep 0.5; exit 6'
    local code=0 out
    # The input stays open: an engine may leave where it ends.
    out=$( (echo word; sleep 5) | $E attach c1) || code=$?
    contains "got word" "$out" attach
    # Podman's attach ends with 0, whatever the container and the runtime.
    case $E in podman*) ;; *) same 6 "$code" "exit code of attach" ;; esac
    until_true 20 sh -c "$E inspect -f '{{.State.ExitCode}}' c1 | grep -qx 6"
    # On a terminal. Another line of output comes after the client is there, whenever that is.
    $E run -d -it --name c2 "$IMAGE" sh -c 'until read -t 3 line; do echo waiting; done; tty; stty size; echo "got $line"; exit 5'
    echo word >"$work/typed"
    code=0
    out=$(python3 /payload/on_terminal.py "$work/typed" $E attach c2) || code=$?
    contains /dev/pts/ "$out" "terminal of attach"
    contains "33 101" "$out" "window size of attach"
    contains "got word" "$out" "attach on a terminal"
    case $E in podman*) ;; *) same 5 "$code" "exit code of attach on a terminal" ;; esac
    until_true 20 sh -c "$E inspect -f '{{.State.ExitCode}}' c2 | grep -qx 5"
}

test_top_and_stats() {
    idle --name c1
    contains sleep "$($E top c1)" top
    contains c1 "$($E stats --no-stream c1)" stats
    local memory
    memory=$($E stats --no-stream --format '{{.MemUsage}}' c1)
    case $memory in 0B*|--*) echo "no memory figure: $memory"; return 1 ;; esac
}

test_stop_ends_by_term_then_kill() {
    idle --name soft
    $E stop -t 20 soft
    same 0 "$(field soft '{{.State.ExitCode}}')" "exit code after SIGTERM"
    $E run -d --name hard "$IMAGE" sh -c 'trap "" TERM; while :; do sleep 0.2; done'
    $E stop -t 1 hard
    same 137 "$(field hard '{{.State.ExitCode}}')" "exit code after SIGKILL"
}

test_kill_restart_rm() {
    $E run -d --name c1 "$IMAGE" sh -c 'trap "echo has come" USR1; trap "exit 0" TERM; echo ready; while :; do sleep 0.2; done'
    until_true 20 sh -c "$E logs c1 | grep -q ready"
    $E kill -s USR1 c1
    until_true 20 sh -c "$E logs c1 | grep -q 'has come'"
    local pid; pid=$(field c1 '{{.State.Pid}}')
    $E restart -t 20 c1
    same running "$(field c1 '{{.State.Status}}')" "after restart"
    [ "$(field c1 '{{.State.Pid}}')" != "$pid" ] || { echo "process $pid as before the restart"; return 1; }
    fails test -e "/proc/$pid"
    $E kill c1
    until_true 20 sh -c "$E inspect -f '{{.State.ExitCode}}' c1 | grep -qx 137"
    $E start c1
    same running "$(field c1 '{{.State.Status}}')" "after start"
    exits 0 $E rm -f c1
    fails $E container inspect c1
}

test_restart_policy() {
    $E run -d --name c1 --restart on-failure:2 "$IMAGE" sh -c 'exit 1'
    until_true 60 sh -c "[ \$($E inspect -f '{{.RestartCount}}' c1) = 2 ]"
    $E run -d --name c2 --restart always "$IMAGE" sh -c 'echo started; sleep 1; exit 0'
    until_true 60 sh -c "[ \$($E logs c2 | grep -c started) -ge 3 ]"
    $E stop -t 1 c2
    sleep 2
    contains exited "$(field c2 '{{.State.Status}}')" "stopped by its user"
}

test_pause_and_unpause() {
    idle --name c1
    $E pause c1
    same paused "$(field c1 '{{.State.Status}}')" status
    local cgroup; cgroup=$(cgroup_of "$(field c1 '{{.State.Pid}}')")
    contains "frozen 1" "$(cat "$cgroup/cgroup.events")" "cgroup.events"
    $E unpause c1
    same ok "$($E exec c1 echo ok)" "exec after unpause"
}

test_limits_and_update() {
    idle --name c1 -m 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0
    local cgroup; cgroup=$(cgroup_of "$(field c1 '{{.State.Pid}}')")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    same 33554432 "$(cat "$cgroup/memory.low")" memory.low
    same "50000 100000" "$(cat "$cgroup/cpu.max")" cpu.max
    same 59 "$(cat "$cgroup/cpu.weight")" cpu.weight
    same 50 "$(cat "$cgroup/pids.max")" pids.max
    same 0 "$(cat "$cgroup/cpuset.cpus")" cpuset.cpus
    $E update --memory 128m --memory-swap 256m --cpus 1 --pids-limit 60 c1
    same 134217728 "$(cat "$cgroup/memory.max")" "memory.max after update"
    same "100000 100000" "$(cat "$cgroup/cpu.max")" "cpu.max after update"
    same 60 "$(cat "$cgroup/pids.max")" "pids.max after update"
}

test_out_of_memory_is_reported() {
    # An endless line without a newline is kept in memory whole.
    $E run -d --name c1 -m 16m --memory-swap 16m "$IMAGE" sh -c 'sleep 1; tr "\0" x </dev/zero | tail -n 1 >/dev/null; sleep 0.1; exec tail /dev/zero' || true
    until_true 90 sh -c "$E inspect -f '{{.State.Status}}' c1 | grep -q exited"
    same "true" "$(field c1 '{{.State.OOMKilled}}')" OOMKilled
    same 137 "$(field c1 '{{.State.ExitCode}}')" "exit code"
}

test_volumes_outlive_containers() {
    $E volume create v1
    sh_once 'echo kept >/v/file' -v v1:/v
    same kept "$(sh_once 'cat /v/file' -v v1:/v:ro)" "from the second container"
    refused 1 "Read-only file system" sh_once 'echo x >/v/file' -v v1:/v:ro
    mkdir -p "$work/bound"
    sh_once 'echo from-inside >/b/f' -v "$work/bound:/b"
    same from-inside "$(cat "$work/bound/f")" "bind mount"
    $E volume rm v1
}

test_cp_and_commit() {
    idle --name c1
    echo copied >"$work/in"
    $E cp "$work/in" c1:/tmp/in
    same copied "$($E exec c1 cat /tmp/in)" "copied in"
    $E cp c1:/etc/passwd "$work/out"
    contains root "$(cat "$work/out")" "copied out"
    $E commit c1 committed
    same copied "$(once committed cat /tmp/in)" "in the committed image"
}

test_filesystem_options() {
    refused 1 "Read-only file system" sh_once 'touch /x' --read-only
    contains "size=1024k" "$(sh_once 'grep /scratch /proc/mounts' --tmpfs /scratch:size=1m,mode=700)" tmpfs
    contains "size=2048k" "$(sh_once 'grep /dev/shm /proc/mounts' --shm-size 2m)" shm
    same ok "$(sh_once 'touch /run/x /v/x && echo ok' --read-only --tmpfs /run -v /v)" "tmpfs and volume below a read-only root"
}

test_capabilities() {
    local eff
    eff=$(sh_once 'grep CapEff /proc/self/status' --cap-drop ALL)
    contains 0000000000000000 "$eff" "all dropped"
    eff=$(sh_once 'grep CapEff /proc/self/status' --cap-drop ALL --cap-add NET_ADMIN)
    contains 0000000000001000 "$eff" "NET_ADMIN alone"
    exits 0 sh_once 'mount -t tmpfs t /tmp' --privileged
    refused 1 "ermission denied" sh_once 'mount -t tmpfs t /tmp || exit 1'
}

test_privileged() {
    contains "CapEff:	$(${UNSHARE:-} sed -n 's/^CapEff:\t//p' /proc/self/status)" "$(sh_once 'grep CapEff /proc/self/status' --privileged)" CapEff
    [ "$(sh_once 'ls /dev | wc -l' --privileged)" -gt "$(sh_once 'ls /dev | wc -l')" ]
}

test_devices() {
    sh_once 'test -c /dev/fuse && dd if=/dev/fuse count=0' --device /dev/fuse
    local node='mknod /tmp/k c 10 229 && echo made && dd if=/tmp/k of=/dev/null count=0'
    if [ "$(id -u)" -ne 0 ]; then
        refused 1 "mknod: /tmp/k: Operation not permitted" sh_once "$node" --cap-add MKNOD
        return
    fi
    # The same device, which is there and which anyone may open: only the container's rules for devices stand in the way.
    refused 1 "can't open '/tmp/k': Operation not permitted" sh_once "$node" --cap-add MKNOD
    same made "$(sh_once "$node 2>/dev/null" --cap-add MKNOD --device-cgroup-rule 'c 10:229 r')" "with a rule for it"
    refused 1 "can't create /tmp/k: Operation not permitted" sh_once "mknod /tmp/k c 10 229 && : >/tmp/k" --cap-add MKNOD --device-cgroup-rule 'c 10:229 r'
}

test_security_options() {
    contains "NoNewPrivs:	1" "$(sh_once 'grep NoNewPrivs /proc/self/status' --security-opt no-new-privileges)" NoNewPrivs
    contains "Seccomp:	2" "$(sh_once 'grep Seccomp: /proc/self/status')" "default profile"
    contains "Seccomp:	0" "$(sh_once 'grep Seccomp: /proc/self/status' --security-opt seccomp=unconfined)" unconfined
    echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}' >"$work/seccomp.json"
    refused 1 "can't create directory '/tmp/d': Operation not permitted" sh_once 'mkdir /tmp/d' --security-opt "seccomp=$work/seccomp.json"
}

test_apparmor() {
    [ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] || cannot "AppArmor is off in this kernel"
    sh_once 'cat /proc/self/attr/current' --security-opt apparmor=unconfined | grep -q unconfined
    if [ "$(id -u)" -eq 0 ]; then
        printf 'profile engines-test flags=(attach_disconnected) {\n file,\n signal,\n deny /tmp/forbidden w,\n}\n' | apparmor_parser -r
        contains engines-test "$(sh_once 'cat /proc/self/attr/current' --security-opt apparmor=engines-test)" "profile of its own"
        refused 1 "can't create /tmp/forbidden: Permission denied" sh_once 'echo >/tmp/forbidden' --security-opt apparmor=engines-test
    fi
    case $E in
        docker*) contains docker-default "$(sh_once 'cat /proc/self/attr/current')" "default profile" ;;
    esac
}

test_users_and_limits() {
    same 1000:1000 "$(sh_once 'echo $(id -u):$(id -g)' --user user)" user
    same 5:6 "$(sh_once 'echo $(id -u):$(id -g)' --user 5:6)" ids
    contains 7 "$(sh_once 'id -G' --group-add 7)" group-add
    same 123:456 "$(sh_once 'echo $(ulimit -Sn):$(ulimit -Hn)' --ulimit nofile=123:456)" ulimit
    same 99 "$(sh_once 'cat /proc/sys/net/ipv4/ip_default_ttl' --sysctl net.ipv4.ip_default_ttl=99)" sysctl
    same box "$(sh_once hostname --hostname box)" hostname
}

# states CONTAINER: a line for each of its processes, as the kernel has them.
states() { $E exec "$1" sh -c 'cat /proc/[0-9]*/status 2>/dev/null | grep ^State'; }
# Only one `sleep` is left, a zombie counts.
reaped() { [ "$($E exec "$1" sh -c 'cat /proc/[0-9]*/comm' 2>/dev/null | grep -cx sleep)" -eq 1 ]; }
has_zombie() { states "$1" | grep 'State:.Z'; }

test_init_reaps() {
    # What ends later than its parent is left to process 1, and `sleep` does not care for it.
    local line='(sleep 0.2 &); exec sleep 1000' of_reaps
    $E run -d --name plain "$IMAGE" sh -c "$line"
    until_true 60 has_zombie plain
    $E run -d --name reaps --init "$IMAGE" sh -c "$line"
    contains init "$($E exec reaps cat /proc/1/comm)" "process 1"
    until_true 60 reaped reaps || { $E exec reaps ps; return 1; }
    of_reaps=$(states reaps)
    contains "State:" "$of_reaps" "states of the processes"
    fails grep Z <<<"$of_reaps"
}

test_namespaces_of_the_host() {
    same "$(readlink /proc/self/ns/net)" "$(sh_once 'readlink /proc/self/ns/net' --network host)" net
    same "$(readlink /proc/self/ns/pid)" "$(sh_once 'readlink /proc/self/ns/pid' --pid host)" pid
    same "$(readlink /proc/self/ns/ipc)" "$(sh_once 'readlink /proc/self/ns/ipc' --ipc host)" ipc
    idle --name c1
    same "$($E exec c1 readlink /proc/self/ns/net)" "$(sh_once 'readlink /proc/self/ns/net' --network container:c1)" "net of c1"
    same "$($E exec c1 readlink /proc/self/ns/pid)" "$(sh_once 'readlink /proc/self/ns/pid' --pid container:c1)" "pid of c1"
}

test_port_reached_from_outside() {
    $E run -d --name c1 -p 8080:80 "$IMAGE" sh -c 'mkdir -p /www; echo page >/www/index.html; exec httpd -f -p 80 -h /www'
    until_true 40 sh -c 'curl -s http://127.0.0.1:8080/ | grep -q page'
    until_true 40 from_outside http://10.99.0.1:8080/ page
}

test_bridge_network_and_names() {
    $E network create n1
    $E run -d --name web --network n1 "$IMAGE" sh -c 'mkdir -p /www; echo named >/www/index.html; exec httpd -f -p 80 -h /www'
    until_true 40 sh -c "$E run --rm --network n1 $IMAGE wget -qO- http://web/ | grep -q named"
    $E rm -f web
    $E network rm n1
}

test_healthcheck() {
    $E run -d --name c1 --health-cmd 'test -e /tmp/healthy' --health-interval 1s --health-retries 1 "$IMAGE" sh -c 'touch /tmp/healthy; sleep 1000'
    until_true 60 sh -c "$E inspect -f '{{.State.Health.Status}}' c1 | grep -qx healthy"
    $E exec c1 rm /tmp/healthy
    until_true 60 sh -c "$E inspect -f '{{.State.Health.Status}}' c1 | grep -qx unhealthy"
}

test_registry() {
    start_registry
    $E tag "$IMAGE" 127.0.0.1:5000/kept:1
    $E push ${REGISTRY_OPTIONS:-} 127.0.0.1:5000/kept:1
    $E rmi 127.0.0.1:5000/kept:1
    $E pull ${REGISTRY_OPTIONS:-} 127.0.0.1:5000/kept:1
    same kept "$($E run --rm 127.0.0.1:5000/kept:1 echo kept)" "container of what was pulled"
    $E rmi 127.0.0.1:5000/kept:1
}

test_save_and_load() {
    $E tag "$IMAGE" saved:1
    $E save -o "$work/saved.tar" saved:1
    $E rmi saved:1
    $E load -i "$work/saved.tar"
    same loaded "$($E run --rm saved:1 echo loaded)" "container of what was loaded"
    $E rmi saved:1
    rm "$work/saved.tar"
}

# Debian with systemd, as an image.
import_debian() {
    $E image inspect own-debian:1 >/dev/null 2>&1 || $E import /usr/local/share/systemd.tar own-debian:1
}

test_systemd_inside() {
    import_debian
    $E run -d --name s1 $SYSTEMD_OPTIONS own-debian:1 /sbin/init
    until_true 120 sh -c "$E exec s1 systemctl is-active multi-user.target"
    contains systemd "$($E exec s1 cat /proc/1/comm)" "process 1"
    same from-a-unit "$($E exec s1 systemd-run --quiet --wait --pipe echo from-a-unit)" "systemd-run"
    $E exec s1 sh -c 'printf "[Service]\nExecStart=/bin/sleep 1000\nMemoryMax=64M\n" >/run/systemd/system/mine.service && systemctl daemon-reload && systemctl start mine'
    same active "$($E exec s1 systemctl is-active mine)" "state of a service"
    same 67108864 "$($E exec s1 cat /sys/fs/cgroup/system.slice/mine.service/memory.max)" "its memory.max"
    $E exec s1 systemctl restart systemd-journald
    contains mine "$($E exec s1 journalctl -b --no-pager -u mine)" journal
    $E stop -t 60 s1
    # With CAP_SYS_BOOT systemd calls reboot(), for which the kernel kills it by SIGINT.
    case $(field s1 '{{.State.ExitCode}}') in 0 | 130) ;; *) echo "exit code $(field s1 '{{.State.ExitCode}}')"; return 1 ;; esac
}

test_docker_inside_a_privileged_container() {
    import_debian
    cat >"$work/inside.sh" <<'INSIDE'
set -e
# As the image `docker:dind` does: the cgroup's own processes make way for its children.
mkdir /sys/fs/cgroup/init
for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || true; done
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control; done
mkdir -p /etc/docker
echo "{\"default-runtime\": \"inner\", \"runtimes\": {\"inner\": {\"path\": \"$1\"}}}" >/etc/docker/daemon.json
dockerd >/var/log/dockerd 2>&1 &
for i in $(seq 1 100); do docker version >/dev/null 2>&1 && break; sleep 1; done
docker version >/dev/null || { tail -n 20 /var/log/dockerd; exit 1; }
docker import - inner <"$2"
docker run --rm inner echo from-the-inner-container
docker run -d --name i1 -m 32m inner sleep 1000
docker exec i1 cat /sys/fs/cgroup/memory.max
docker run --rm inner sh -c 'exit 6' || echo "exit code $?"
docker rm -f i1
INSIDE
    tar -C "$work/rootfs" -cf "$work/rootfs.tar" .
    local inner=$RUNTIME out
    [ "$inner" != "/usr/sbin/runc" ] || inner=/usr/bin/crun
    out=$($E run --rm --privileged --tmpfs /run -v /usr:/usr:ro -v /etc/alternatives:/etc/alternatives:ro \
        -v /payload:/payload:ro -v "$work:/work" -v /var/lib/docker -v /var/lib/containerd \
        own-debian:1 bash /work/inside.sh "$inner" /work/rootfs.tar)
    contains from-the-inner-container "$out" "docker run"
    contains 33554432 "$out" "memory.max of docker exec"
    contains "exit code 6" "$out" "docker run's exit code"
}

test_many_short_runs() {
    local i
    for i in 1 2 3 4 5; do exits "$i" sh_once "exit $i"; done
}

test_nothing_is_left() {
    # There may be no container to remove.
    after_each || true
    # What is looked for below is there while a container is.
    idle --name c1
    has_state c1
    state_of_host >"$work/meanwhile"
    contains "process of a container" "$(cat "$work/meanwhile")" "state of the host with a container"
    contains "cgroup: " "$(cat "$work/meanwhile")" "state of the host with a container"
    contains "$(field c1 '{{.Id}}')" "$(grep ^file: "$work/meanwhile")" "state of the host with a container"
    after_each
    until_true 30 as_before || as_before
    same "" "$(ls "$STATE_ROOT")" "state of the runtime"
}

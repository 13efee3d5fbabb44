#!/bin/bash
# Docker Engine with the runtime under test as its default. docker.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-systemd} SUITE=docker-${3:-systemd}
. "$(dirname "$0")/lib.sh"
E=docker BUILD_OPTIONS=
export DOCKER_BUILDKIT=1
. "$(dirname "$0")/containers.sh"
# Docker gives every runtime this one folder for its state.
STATE_ROOT=/run/docker/runtime-runc/moby RUNTIME_FIELD="{{.HostConfig.Runtime}}"
TRACES="$STATE_ROOT $STATE_ROOT-100000.100000 /run/docker/containerd
    /run/containerd/io.containerd.runtime.v2.task/moby /run/containerd/io.containerd.runtime.v2.task/moby-100000.100000"
SYSTEMD_OPTIONS="--security-opt writable-cgroups=true --tmpfs /run --tmpfs /run/lock --tmpfs /tmp --stop-signal SIGRTMIN+3 -e container=docker"
make_outside

# configuration [RUNTIME-NAME [RUNTIMES]]
configuration() {
    local ours='"'$NAME'": { "path": "'$RUNTIME'" }'
    cat >/etc/docker/daemon.json <<JSON
{
    "default-runtime": "${1:-$NAME}",
    "runtimes": { ${2:-$ours} },
    "exec-opts": ["native.cgroupdriver=$DRIVER"],
    "experimental": true
}
JSON
    # runc Docker knows by itself.
    [ "$NAME" != runc ] || [ -n "${1:-}" ] || sed -i '/"runtimes"/d' /etc/docker/daemon.json
}

# A runtime that keeps a list of its calls: FILE
recorder() {
    printf '#!/bin/sh\necho "$*" >>%s.calls\nexec %s "$@"\n' "$1" "$RUNTIME" >"$1"
    chmod +x "$1"
}

# BuildKit takes no runtime from daemon.json, but one from dockerd's environment.
recorder "$work/for-buildkit"
mkdir -p /etc/docker /etc/systemd/system/docker.service.d
printf '[Service]\nEnvironment=DOCKER_BUILDKIT_RUNC_COMMAND=%s\n' "$work/for-buildkit" >/etc/systemd/system/docker.service.d/buildkit.conf
systemctl daemon-reload
configuration
systemctl start docker || { journalctl -u docker -n 20 --no-pager; exit 1; }

test_info_names_the_runtime() {
    contains "Default Runtime: $NAME" "$(docker info 2>&1)" "docker info"
    contains "Cgroup Driver: $DRIVER" "$(docker info 2>&1)" "docker info"
}

# Of test_build_from_a_file: both builders run a step with the runtime under test, the older one with the default runtime.
builders() {
    [ -s "$work/for-buildkit.calls" ] || { echo "BuildKit has not called the runtime"; return 1; }
    contains " run " "$(cat "$work/for-buildkit.calls")" "calls of BuildKit"
    recorder "$work/for-builder"
    configuration recorded '"recorded": { "path": "'"$work/for-builder"'" }'
    systemctl reload docker
    until_true 20 sh -c 'docker info | grep "Default Runtime: recorded"'
    DOCKER_BUILDKIT=0 docker build --no-cache -t older "$work/build"
    contains " create " "$(cat "$work/for-builder.calls")" "calls of the older builder"
    configuration
    systemctl reload docker
    until_true 20 sh -c 'docker info | grep "Default Runtime: '"$NAME"'"'
    is_what_was_built older
}

test_checkpoint_and_restore() {
    # With a network of the container's own, Docker 28.5 asks for /proc/0/ns/net before the container is restored, whatever the runtime.
    docker run -d --name c1 --network host --security-opt seccomp=unconfined "$IMAGE" sh -c "$COUNTER"
    until_true 30 docker exec c1 test -e /tmp/n
    local before after; before=$(docker exec c1 cat /tmp/n)
    docker checkpoint create c1 cp1
    same exited "$(field c1 '{{.State.Status}}')" "status after the checkpoint"
    docker start --checkpoint cp1 c1
    same running "$(field c1 '{{.State.Status}}')" status
    after=$(docker exec c1 cat /tmp/n)
    sleep 2
    goes_on "$before" "$after" "$(docker exec c1 cat /tmp/n)"
}

# With this daemon.json there are no other images and containers; the state has another folder, too.
test_user_namespace() {
    trap 'docker rm -f c1; configuration; systemctl restart docker' EXIT
    sed -i 's/"experimental"/"userns-remap": "spec-tests", "experimental"/' /etc/docker/daemon.json
    systemctl restart docker
    tar -C "$work/rootfs" -c . | docker import - "$IMAGE"
    same "0 100000 65536" "$(sh_once 'cat /proc/self/uid_map' | awk '{ print $1, $2, $3 }')" uid_map
    same 0 "$(sh_once 'id -u')" "id inside"
    contains "0 0 42949" "$(sh_once 'cat /proc/self/uid_map' --userns host | tr -s ' ')" "uid_map with --userns host"
    docker run -d --name c1 -m 64m "$IMAGE" sleep 1000
    same 0 "$(docker exec c1 id -u)" "id of exec"
    same 100000 "$(stat -c %u "/proc/$(field c1 '{{.State.Pid}}')")" "owner outside"
}

run_tests "${4:-}"

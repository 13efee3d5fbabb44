#!/bin/bash
# Docker Engine with the runtime under test as its default. docker.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-systemd} SUITE=docker-${3:-systemd}
. "$(dirname "$0")/lib.sh"
E=docker BUILD_OPTIONS=
export DOCKER_BUILDKIT=1
. "$(dirname "$0")/containers.sh"
STATE_ROOT=/run/docker/runtime-$NAME/moby
SYSTEMD_OPTIONS="--security-opt writable-cgroups=true --tmpfs /run --tmpfs /run/lock --tmpfs /tmp --stop-signal SIGRTMIN+3 -e container=docker"
make_outside

mkdir -p /etc/docker
cat >/etc/docker/daemon.json <<JSON
{
    "default-runtime": "$NAME",
    "runtimes": { "$NAME": { "path": "$RUNTIME" } },
    "exec-opts": ["native.cgroupdriver=$DRIVER"],
    "experimental": true
}
JSON
[ "$NAME" != runc ] || sed -i '/"runtimes"/d' /etc/docker/daemon.json
systemctl start docker || { journalctl -u docker -n 20 --no-pager; exit 1; }

test_info_names_the_runtime() {
    contains "Default Runtime: $NAME" "$(docker info 2>&1)" "docker info"
    contains "Cgroup Driver: $DRIVER" "$(docker info 2>&1)" "docker info"
}

test_checkpoint_and_restore() {
    docker run -d --name c1 --security-opt seccomp=unconfined "$IMAGE" sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.2; done'
    sleep 2
    docker checkpoint create c1 cp1
    # Docker 28.5 asks for the namespaces of the container before it is restored, whatever the runtime.
    docker start --checkpoint cp1 c1 2>"$work/error" || ! grep /proc/0/ns/net "$work/error" || cannot "Docker looks for /proc/0/ns/net"
    same running "$(field c1 '{{.State.Status}}')" status
    local first; first=$(docker exec c1 cat /tmp/n)
    sleep 2
    [ "$(docker exec c1 cat /tmp/n)" -gt "$first" ]
}

# Last: with another daemon.json, there are no other images and containers.
test_user_namespace() {
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

#!/bin/bash
# Podman with the runtime under test. podman.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-systemd} SUITE=podman-${3:-systemd}
. "$(dirname "$0")/lib.sh"
E="podman --runtime $RUNTIME --cgroup-manager $DRIVER" BUILD_OPTIONS="--runtime $RUNTIME"
. "$(dirname "$0")/containers.sh"
STATE_ROOT=/run/$(basename "$RUNTIME")

test_pod() {
    $E pod create --name p1 -p 8081:80
    $E run -d --pod p1 --name a "$IMAGE" sh -c 'mkdir -p /www; echo pod >/www/index.html; exec httpd -f -p 80 -h /www'
    until_true 30 $E run --rm --pod p1 "$IMAGE" wget -qO- http://127.0.0.1/
    until_true 30 sh -c 'curl -s http://127.0.0.1:8081/ | grep -q pod'
    $E pod stop -t 1 p1
    $E pod rm -f p1
}

test_play_kube() {
    cat >"$work/pod.yaml" <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: kube
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: localhost/$IMAGE
    imagePullPolicy: Never
    command: ["sh", "-c", "echo from-kube; sleep 1000"]
    resources: { limits: { memory: 64Mi, cpu: 500m } }
YAML
    $E play kube "$work/pod.yaml"
    until_true 30 sh -c "$E logs kube-main | grep -q from-kube"
    local cgroup; cgroup=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(field kube-main '{{.State.Pid}}')/cgroup")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    $E play kube --down "$work/pod.yaml"
}

test_user_namespace() {
    contains " 0 " "$(sh_once 'cat /proc/self/uid_map' --userns auto 2>/dev/null || sh_once 'cat /proc/self/uid_map' --uidmap 0:100000:65536)" uid_map
    same 0 "$(sh_once 'id -u' --uidmap 0:100000:65536)" "id inside"
}

test_checkpoint_and_restore() {
    $E run -d --name c1 --network none "$IMAGE" sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.2; done'
    sleep 2
    $E container checkpoint c1
    same false "$(field c1 '{{.State.Running}}')" "running after checkpoint"
    $E container restore c1
    local first; first=$($E exec c1 cat /tmp/n)
    sleep 2
    [ "$($E exec c1 cat /tmp/n)" -gt "$first" ]
}

run_tests "${4:-}"

#!/bin/bash
# Podman with the runtime under test. podman.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-systemd} SUITE=${SUITE:-podman-${3:-systemd}}
. "$(dirname "$0")/lib.sh"
E="podman --runtime $RUNTIME --cgroup-manager $DRIVER" BUILD_OPTIONS="--runtime $RUNTIME"
REGISTRY_OPTIONS=--tls-verify=false SYSTEMD_OPTIONS=--systemd=always
. "$(dirname "$0")/containers.sh"
if [ "$(id -u)" -eq 0 ]; then
    STATE_ROOT=/run/$(basename "$RUNTIME") TRACES=/run/containers/storage/overlay-containers
    make_outside
else
    STATE_ROOT=$XDG_RUNTIME_DIR/$(basename "$RUNTIME") UNSHARE="podman unshare"
    TRACES="$XDG_RUNTIME_DIR/containers/overlay-containers $XDG_RUNTIME_DIR/netns"
fi
RUNTIME_FIELD="{{.OCIRuntime}}" TRACES="$TRACES $STATE_ROOT"

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
    local cgroup; cgroup=$(cgroup_of "$(field kube-main '{{.State.Pid}}')")
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    same "50000 100000" "$(cat "$cgroup/cpu.max")" cpu.max
    $E play kube --down "$work/pod.yaml"
}

test_user_namespaces() {
    if [ "$(id -u)" -ne 0 ]; then
        same "1000 1000" "$(sh_once 'echo $(id -u) $(id -g)' --userns keep-id)" "ids with keep-id"
        same "7 7" "$(sh_once 'echo $(id -u) $(id -g)' --userns keep-id:uid=7,gid=7)" "ids with keep-id, chosen"
        mkdir -p "$work/kept"
        sh_once 'echo mine >/b/f' --userns keep-id -v "$work/kept:/b"
        same 1000 "$(stat -c %u "$work/kept/f")" "owner outside of what keep-id has written"
        # In Podman's own user namespace 0 is the user, 1 the first of the subordinate ids. Nothing else is mapped, so the user is not.
        same "0 1" "$(sh_once 'cat /proc/self/uid_map' --userns nomap | awk '{ print $1, $2 }')" "nomap"
        return
    fi
    same "0 100000 65536" "$(sh_once 'cat /proc/self/uid_map' --uidmap 0:100000:65536 | awk '{ print $1, $2, $3 }')" uid_map
    same 0 "$(sh_once 'id -u' --uidmap 0:100000:65536)" "id inside"
    mkdir -p "$work/idmapped"
    chown 5 "$work/idmapped"
    same 5 "$(sh_once 'stat -c %u /b' --uidmap 0:100000:65536 -v "$work/idmapped:/b:idmap")" "owner of an id-mapped volume"
    # Newer libsubid gives ranges only to a user that there is.
    id containers >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin containers
    grep -q '^containers:' /etc/subuid || echo containers:200000:1000000 | tee -a /etc/subuid >>/etc/subgid
    local first count start other
    IFS=: read -r _ first count < <(grep '^containers:' /etc/subuid)
    idle --name c1 --userns auto
    start=$($E exec c1 awk '$1 == 0 { print $2 }' /proc/self/uid_map)
    [ "$start" -ge "$first" ] && [ "$start" -lt $((first + count)) ] || { echo "auto begins at $start, not in $first + $count"; return 1; }
    same "$start" "$(stat -c %u "/proc/$(field c1 '{{.State.Pid}}')")" "owner of the process with auto"
    # The next one gets ids of its own.
    other=$(sh_once 'cat /proc/self/uid_map' --userns auto | awk '$1 == 0 { print $2 }')
    [ "$other" -ge "$first" ] && [ "$other" != "$start" ] || { echo "auto begins at $start, and again at $other"; return 1; }
}

test_checkpoint_and_restore() {
    [ "$(id -u)" -eq 0 ] || cannot "Podman checkpoints containers of root only"
    $E run -d --name c1 --network none "$IMAGE" sh -c "$COUNTER"
    until_true 30 $E exec c1 test -e /tmp/n
    local before after; before=$($E exec c1 cat /tmp/n)
    $E container checkpoint c1
    same false "$(field c1 '{{.State.Running}}')" "running after checkpoint"
    $E container restore c1
    after=$($E exec c1 cat /tmp/n)
    sleep 2
    goes_on "$before" "$after" "$($E exec c1 cat /tmp/n)"
}

run_tests "${4:-}"

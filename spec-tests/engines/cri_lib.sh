# Sourced by cri.sh: pods and containers by CRI, one line each in a test. Requests are JSON, as crictl's; a patch is merged
# over what these functions ask for.

CRI=/payload/cri-client
IMAGE=localhost/test-image:latest
LOGS=$work/logs
EMPTY='{}'
cri() { timeout 300 "$CRI" "$@"; }

# What the kubelet makes for a pod, and removes after it. With systemd, too, it names the folder: of that containerd takes
# the last part for the runtime, and the whole for the pod's figures.
cgroup_parent() {
    if [ "$DRIVER" = systemd ]; then
        echo "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$1.slice"
    else
        echo "/kubepods/burstable/pod$1"
    fi
}
cgroup_folder() { echo "/sys/fs/cgroup$(cgroup_parent "$1")"; }
remove_cgroup_parent() {
    if [ "$DRIVER" = systemd ]; then systemctl stop "kubepods-burstable-pod$1.slice"; else rmdir "$(cgroup_folder "$1")"; fi
}

# pod NAME [PATCH]: prints the id of a sandbox that runs. PATCH is a PodSandboxConfig.
pod() {
    local id config
    config='{"metadata":{"name":"'$1'","uid":"'$1'","namespace":"default"},"hostname":"'$1'","log_directory":"'$LOGS/$1'",
        "linux":{"cgroup_parent":"'$(cgroup_parent "$1")'","security_context":{"namespace_options":{"pid":"CONTAINER"}}}}'
    mkdir -p "$LOGS/$1"
    id=$(cri --get /podSandboxId RunPodSandbox '{"config":'"$config"',"runtime_handler":"'"$NAME"'"}' '{"config":'"${2:-$EMPTY}"'}')
    echo '{"sandbox_config":'"$config"'}' >"$work/$id.config"
    echo '{"sandbox_config":'"${2:-$EMPTY}"'}' >"$work/$id.patch"
    echo "$id"
}

# created POD NAME LINE [PATCH]: prints the id of a new container for which a shell runs LINE. PATCH is a ContainerConfig.
# Masked and read-only paths are those that the kubelet asks for.
created() {
    local config
    config='{"metadata":{"name":"'$2'"},"image":{"image":"'$IMAGE'"},"command":["sh","-c",'$(quoted "$3")'],"log_path":"'$2'.log",
        "linux":{"resources":{},"security_context":{"namespace_options":{"pid":"CONTAINER"},
            "masked_paths":["/proc/acpi","/proc/kcore","/proc/keys","/proc/timer_list","/sys/firmware"],
            "readonly_paths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}}}'
    cri --get /containerId CreateContainer '{"pod_sandbox_id":"'"$1"'","config":'"$config"'}' "$(cat "$work/$1.config")" \
        "$(cat "$work/$1.patch")" '{"config":'"${4:-$EMPTY}"'}'
}

# container POD NAME LINE [PATCH]: the same, and started.
container() {
    local id; id=$(created "$@")
    cri StartContainer '{"container_id":"'"$id"'"}' >/dev/null
    echo "$id"
}

IDLE='trap "exit 7" TERM; while :; do sleep 0.2; done'

# A line of shell as a JSON string.
quoted() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"}
    echo "\"${text//$'\n'/\\n}\""
}

# in_container CONTAINER LINE: stdout and stderr of ExecSync, and its exit code.
in_container() {
    local answer code
    answer=$(cri ExecSync '{"container_id":"'"$1"'","cmd":["sh","-c",'"$(quoted "$2")"'],"timeout":60}') || return
    sed 's/.*"stdout":"\([^"]*\)".*/\1/' <<<"$answer" | base64 -d
    sed 's/.*"stderr":"\([^"]*\)".*/\1/' <<<"$answer" | base64 -d >&2
    code=$(sed 's/.*"exitCode":\([0-9]*\).*/\1/' <<<"$answer")
    return "$code"
}

# output_of POD NAME LINE [PATCH]: what a container writes that ends by itself; its exit code must be 0.
output_of() {
    local c; c=$(container "$@")
    ended "$c"
    same 0 "$(status "$c" exitCode)" "exit code of $2" >&2 || { log_of "$c" >&2; return 1; }
    log_of "$c"
}

# status CONTAINER FIELD
status() { cri --get "/status/$2" ContainerStatus '{"container_id":"'"$1"'"}'; }
is_state() { [ "$(status "$1" state)" = "$2" ]; }
ended() { until_true 90 is_state "$1" CONTAINER_EXITED; }
log_of() { cut -d ' ' -f 4- "$(status "$1" logPath)"; }
# The namespaces in the configuration further on have a `pid`, too.
first_pid() { grep -o '"pid":[0-9]*' | head -n 1 | cut -d : -f 2; }
pid_of() { cri --get /info/info ContainerStatus '{"container_id":"'"$1"'","verbose":true}' | first_pid; }
pod_pid() { cri --get /info/info PodSandboxStatus '{"pod_sandbox_id":"'"$1"'","verbose":true}' | first_pid; }
pod_ip() { cri --get /status/network/ip PodSandboxStatus '{"pod_sandbox_id":"'"$1"'"}'; }
cgroup_of() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(pid_of "$1")/cgroup")"; }
stop() { cri StopContainer '{"container_id":"'"$1"'","timeout":'"${2:-30}"'}' >/dev/null; }
remove() { cri RemoveContainer '{"container_id":"'"$1"'"}' >/dev/null; }
stop_pod() { cri StopPodSandbox '{"pod_sandbox_id":"'"$1"'"}' >/dev/null; }
# remove_pod POD NAME
remove_pod() {
    stop_pod "$1"
    cri RemovePodSandbox '{"pod_sandbox_id":"'"$1"'"}' >/dev/null
    rm -f "$work/$1.config" "$work/$1.patch"
    remove_cgroup_parent "$2"
}

# has_controller NAME: of the cgroup tree, which a host with cgroup v1 lacks.
has_controller() { grep -qw "$1" /sys/fs/cgroup/cgroup.controllers || cannot "no controller $1 in the cgroup tree"; }

after_each() {
    local id name
    cri --get '/items/*' ListPodSandbox | sed 's/.*"id":"\([^"]*\)".*"metadata":{[^}]*"name":"\([^"]*\)".*/\1 \2/' | while read -r id name; do
        remove_pod "$id" "$name"
    done
}

# For state_of_host.
CTR_NAMESPACE=k8s.io
TRACES="/run/containerd/runc/k8s.io /run/containerd/io.containerd.runtime.v2.task/k8s.io
    /run/containerd/io.containerd.grpc.v1.cri/sandboxes /run/containerd/io.containerd.grpc.v1.cri/containers
    /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes /var/lib/containerd/io.containerd.grpc.v1.cri/containers"

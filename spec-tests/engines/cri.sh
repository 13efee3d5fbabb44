#!/bin/bash
# containerd's CRI plugin, driven by a client of CRI as the kubelet drives it. cri.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
RUNTIME=$1 NAME=$2 DRIVER=${3:-cgroupfs} SUITE=cri-${3:-cgroupfs}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/cri_lib.sh"
. "$(dirname "$0")/cri_pods.sh"
. "$(dirname "$0")/cri_security.sh"
. "$(dirname "$0")/cri_whole.sh"

# The RuntimeClass's handler is NAME; the kubelet's cgroupDriver is what SystemdCgroup says.
configure() {
    local systemd=false
    [ "$DRIVER" = cgroupfs ] || systemd=true
    local path="" binary="BinaryName = '$RUNTIME'"
    if is_shim; then path="runtime_path = '$RUNTIME'" binary=""; fi
    cat >/etc/containerd/config.toml <<TOML
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'localhost/pause:latest'

[plugins.'io.containerd.cri.v1.runtime']
  disable_hugetlb_controller = false

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = '$NAME'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$NAME]
  runtime_type = 'io.containerd.runc.v2'
  $path
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.$NAME.options]
    $binary
    SystemdCgroup = $systemd

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '/etc/cni/net.d'
TOML
    mkdir -p /etc/cni/net.d
    cat >/etc/cni/net.d/10-pods.conflist <<'JSON'
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
JSON
}

# save_image NAME ROOTFS: an image of one layer, in the form that `docker save` writes.
save_image() {
    local name=$1 rootfs=$2 dir=$work/image
    rm -rf "$dir" && mkdir -p "$dir"
    tar -C "$rootfs" --owner 0 --group 0 -cf "$dir/layer.tar" .
    cat >"$dir/config.json" <<JSON
{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"],"Cmd":["/pause","-P"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$(sha256sum <"$dir/layer.tar" | cut -d ' ' -f 1)"]}}
JSON
    echo '[{"Config":"config.json","RepoTags":["'"$name"'"],"Layers":["layer.tar"]}]' >"$dir/manifest.json"
    tar -C "$dir" -c manifest.json config.json layer.tar | ctr -n k8s.io image import -
}

test_image_from_tar() {
    configure
    systemctl restart containerd
    make_rootfs "$work/rootfs"
    save_image "$IMAGE" "$work/rootfs"
    # The pause process of a sandbox: waits, ends on SIGTERM, reaps.
    mkdir -p "$work/pause"
    cp /usr/bin/catatonit "$work/pause/pause"
    save_image localhost/pause:latest "$work/pause"
    until_true 20 sh -c "$CRI --get '/images/*/repoTags' ListImages | grep -q '\"$IMAGE\"'"
    until_true 30 sh -c "$CRI --get '/status/conditions/*' Status | grep NetworkReady | grep -q '\"status\":true'"
    state_of_host >"$work/before"
}

test_handler_and_its_features() {
    local handlers; handlers=$(cri --get '/runtimeHandlers/*' Status)
    contains '"features":{"recursiveReadOnlyMounts":true,"userNamespaces":true},"name":"'"$NAME"'"' "$handlers" "handlers"
    same "${DRIVER^^}" "$(cri --get /linux/cgroupDriver RuntimeConfig)" "cgroup driver"
}

run_tests "${4:-}"

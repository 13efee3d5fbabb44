# Sourced by cri.sh: what pods may do, use and see.

# security PATCH: a ContainerConfig with this in its security context.
security() { echo '{"linux":{"security_context":'"$1"'}}'; }
resources() { echo '{"linux":{"resources":'"$1"'}}'; }

test_users_and_groups() {
    local p; p=$(pod users '{"linux":{"security_context":{"run_as_user":{"value":65535}}}}')
    same "1000 1000 1000 2000" "$(output_of "$p" numeric 'echo $(id -u) $(id -g) $(id -G)' \
        "$(security '{"run_as_user":{"value":1000},"run_as_group":{"value":1000},"supplemental_groups":[2000]}')")" "user by number"
    same "1000" "$(output_of "$p" named 'id -u' "$(security '{"run_as_username":"user"}')")" "user by name"
    same 65535 "$(awk '/^Uid:/ { print $2 }' "/proc/$(pod_pid "$p")/status")" "user of the sandbox"
}

test_capabilities_and_privileges() {
    local p line='grep -E "CapEff|NoNewPrivs" /proc/self/status | tr "\n\t" "  "; id -u'; p=$(pod caps)
    contains "CapEff: 0000000000000000 NoNewPrivs: 1" "$(output_of "$p" none "$line" \
        "$(security '{"capabilities":{"drop_capabilities":["ALL"]},"no_new_privs":true}')")" "all dropped"
    contains "CapEff: 0000000000001400" "$(output_of "$p" two "$line" \
        "$(security '{"capabilities":{"drop_capabilities":["ALL"],"add_capabilities":["NET_ADMIN","NET_BIND_SERVICE"]}}')")" "two added"
    contains "CapEff: 00000000a80425fb" "$(output_of "$p" usual "$line")" "the usual ones"
}

test_privileged() {
    local p context='{"linux":{"security_context":{"privileged":true,"masked_paths":[],"readonly_paths":[],"seccomp":{"profile_type":"Unconfined"}}}}'
    p=$(pod privileged '{"linux":{"security_context":{"privileged":true}}}')
    output_of "$p" c 'set -e
        mount -t tmpfs t /tmp
        test -b /dev/vda || test -e /dev/kmsg
        test -w /proc/sys/kernel/domainname
        grep -q "/sys sysfs rw" /proc/mounts
        grep -q "Seccomp:.0" /proc/self/status
        ! grep -q " /proc/sys" /proc/mounts' "$context"
    # The same must fail without.
    local d; d=$(container "$p" d 'mount -t tmpfs t /tmp 2>&1'); ended "$d"
    # By busybox 1 without CAP_SYS_ADMIN, 255 where AppArmor is before that.
    case $(status "$d" exitCode) in 1 | 255) ;; *) echo "exit code of mount without privileges: $(status "$d" exitCode)"; return 1 ;; esac
    contains "ermission denied" "$(log_of "$d")" "mount without privileges"
}

test_read_only_root_and_masked_paths() {
    local p; p=$(pod masks)
    same "ro refused" "$(output_of "$p" ro 'awk "\$2 == \"/\" { print substr(\$4, 1, 2) }" /proc/mounts | tr "\n" " "; touch /x 2>/dev/null || echo refused' \
        "$(security '{"readonly_rootfs":true}')")" "read-only root"
    same "0 0 refused" "$(output_of "$p" masked 'echo $(cat /proc/keys | wc -c) $(ls /sys/firmware | wc -l) $(sh -c "echo 1 >/proc/sys/kernel/randomize_va_space" 2>/dev/null || echo refused)')" "masked and read-only"
    # procMount: Unmasked
    output_of "$p" unmasked 'test "$(wc -c </proc/timer_list)" -gt 0 || test "$(wc -c </proc/keys)" -gt 0' "$(security '{"masked_paths":[],"readonly_paths":[]}')"
}

test_seccomp_profiles() {
    local p; p=$(pod seccomp)
    local line='awk "/^Seccomp:/ { print \$2 }" /proc/self/status; unshare -U true 2>/dev/null && echo made || echo refused'
    same "2 refused" "$(output_of "$p" default "$line" "$(security '{"seccomp":{"profile_type":"RuntimeDefault"}}')" | tr '\n' ' ' | sed 's/ $//')" RuntimeDefault
    contains 0 "$(output_of "$p" unconfined "$line" "$(security '{"seccomp":{"profile_type":"Unconfined"}}')")" Unconfined
    echo '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}' >"$work/profile.json"
    contains "not supported" "$(output_of "$p" localhost 'mkdir /tmp/d 2>&1 || true' \
        "$(security '{"seccomp":{"profile_type":"Localhost","localhost_ref":"'"$work/profile.json"'"}}')")" Localhost
}

test_apparmor_profiles() {
    local p; [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || cannot "the kernel has no AppArmor"
    p=$(pod apparmor)
    contains cri-containerd "$(output_of "$p" default 'cat /proc/self/attr/current')" "the usual profile"
    contains unconfined "$(output_of "$p" unconfined 'cat /proc/self/attr/current' "$(security '{"apparmor":{"profile_type":"Unconfined"}}')")" Unconfined
    printf 'profile onggi-cri flags=(attach_disconnected) {\n file,\n deny /etc/passwd r,\n capability,\n network,\n signal,\n}\n' >"$work/apparmor"
    apparmor_parser -r "$work/apparmor"
    contains "enied" "$(output_of "$p" localhost 'cat /proc/self/attr/current; cat /etc/passwd 2>&1 || true' \
        "$(security '{"apparmor":{"profile_type":"Localhost","localhost_ref":"onggi-cri"}}')")" Localhost
}

test_user_namespace_of_a_pod() {
    local maps='[{"host_id":200000,"container_id":0,"length":65536}]' p c
    local userns='{"userns_options":{"mode":"POD","uids":'$maps',"gids":'$maps'}}'
    mkdir -p "$work/volume"
    echo data >"$work/volume/file"
    chown 1000:1000 "$work/volume/file"
    p=$(pod userns '{"linux":{"security_context":{"namespace_options":'"$userns"'},"sysctls":{"net.ipv4.ip_unprivileged_port_start":"80"}}}')
    c=$(container "$p" c "$IDLE" '{"linux":{"security_context":{"namespace_options":'"$userns"'}},"mounts":[
        {"host_path":"'"$work/volume"'","container_path":"/volume","uidMappings":'"$maps"',"gidMappings":'"$maps"'}]}')
    same "0 200000 65536" "$(in_container "$c" 'echo $(cat /proc/self/uid_map)')" uid_map
    same 200000 "$(awk '/^Uid:/ { print $2 }' "/proc/$(pid_of "$c")/status")" "root of the pod, on the host"
    same 200000 "$(awk '/^Uid:/ { print $2 }' "/proc/$(pod_pid "$p")/status")" "the sandbox, on the host"
    same "1000 data" "$(in_container "$c" 'echo $(stat -c %u /volume/file) $(cat /volume/file)')" "id-mapped volume"
    in_container "$c" 'echo new >/volume/new && chown 5:5 /volume/new'
    same 5:5 "$(stat -c %u:%g "$work/volume/new")" "owner of a new file, on the host"
    same 0 "$(in_container "$c" 'stat -c %u /bin/busybox')" "owner of the image's files"
    same 80 "$(in_container "$c" 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start')" "sysctl of the pod"
    # The pod's user namespace owns its network: root in it may configure that, and nothing of the host.
    fails in_container "$c" 'mknod /tmp/d b 254 0 && cat /tmp/d'
    [ "$(readlink "/proc/$(pid_of "$c")/ns/user")" = "$(readlink "/proc/$(pod_pid "$p")/ns/user")" ]
    exits 3 in_container "$c" 'exit 3'
    stop "$c" 20
    same 7 "$(status "$c" exitCode)" "exit code"
}

test_limits() {
    local p c cgroup; has_controller memory
    p=$(pod limits '{"linux":{"resources":{"memory_limit_in_bytes":268435456}}}')
    c=$(container "$p" c "$IDLE" "$(resources '{"cpu_period":100000,"cpu_quota":50000,"cpu_shares":512,"memory_limit_in_bytes":67108864,
        "memory_swap_limit_in_bytes":67108864,"oom_score_adj":500,"cpuset_cpus":"0","unified":{"memory.high":"60000000","pids.max":"60"}}')")
    cgroup=$(cgroup_of "$c")
    contains "$(cgroup_folder limits)" "$cgroup" "the pod's cgroup"
    same 67108864 "$(cat "$cgroup/memory.max")" memory.max
    same 0 "$(cat "$cgroup/memory.swap.max")" memory.swap.max
    same 59998208 "$(cat "$cgroup/memory.high")" memory.high
    same "50000 100000" "$(cat "$cgroup/cpu.max")" cpu.max
    same 0 "$(cat "$cgroup/cpuset.cpus")" cpuset.cpus
    same 60 "$(cat "$cgroup/pids.max")" pids.max
    same 500 "$(cat "/proc/$(pid_of "$c")/oom_score_adj")" oom_score_adj
    same 59 "$(cat "$cgroup/cpu.weight")" cpu.weight
    cri UpdateContainerResources '{"container_id":"'"$c"'","linux":{"cpu_period":100000,"cpu_quota":80000,"memory_limit_in_bytes":134217728,"memory_swap_limit_in_bytes":134217728}}'
    same 134217728 "$(cat "$cgroup/memory.max")" "memory.max after the update"
    same "80000 100000" "$(cat "$cgroup/cpu.max")" "cpu.max after the update"
    contains '"memoryLimitInBytes":134217728' "$(cri --get /status/resources ContainerStatus '{"container_id":"'"$c"'"}')" "resources in the status"
    same running "$(in_container "$c" 'echo running')" "exec after the update"
}

test_out_of_memory_is_reported() {
    local p c; has_controller memory
    p=$(pod oom)
    c=$(container "$p" c 'exec tail /dev/zero' "$(resources '{"memory_limit_in_bytes":20971520,"memory_swap_limit_in_bytes":20971520}')")
    ended "$c"
    same "137 OOMKilled" "$(status "$c" exitCode) $(status "$c" reason)" status
}

test_hugepages() {
    local p c; has_controller hugetlb
    p=$(pod huge)
    c=$(container "$p" c "$IDLE" "$(resources '{"hugepage_limits":[{"page_size":"2MB","limit":4194304}]}')")
    same 4194304 "$(cat "$(cgroup_of "$c")/hugetlb.2MB.max")" hugetlb.2MB.max
}

test_volumes() {
    local p c; p=$(pod volumes)
    mkdir -p "$work/v/sub"
    mountpoint -q "$work/v/sub" || mount -t tmpfs sub "$work/v/sub"
    c=$(container "$p" c "$IDLE" '{"mounts":[
        {"host_path":"'"$work/v"'","container_path":"/rw"},
        {"host_path":"'"$work/v"'","container_path":"/ro","readonly":true},
        {"host_path":"'"$work/v"'","container_path":"/rro","readonly":true,"recursive_read_only":true}]}')
    in_container "$c" 'echo from-inside >/rw/f && echo x >/rw/sub/f'
    same from-inside "$(cat "$work/v/f")" "on the host"
    fails in_container "$c" 'touch /ro/g'
    in_container "$c" 'touch /ro/sub/g'
    fails in_container "$c" 'touch /rro/sub/g'
    same from-inside "$(in_container "$c" 'cat /rro/f')" "read"
    stop "$c" 0
    umount "$work/v/sub"
}

test_propagation() {
    local p c; p=$(pod propagation '{"linux":{"security_context":{"privileged":true}}}')
    mkdir -p "$work/shared"
    mount --bind "$work/shared" "$work/shared"
    mount --make-shared "$work/shared"
    mkdir -p "$work/shared"/{slave,both,private}
    c=$(container "$p" c "$IDLE" '{"linux":{"security_context":{"privileged":true}},"mounts":[
        {"host_path":"'"$work/shared"'","container_path":"/slave","propagation":"PROPAGATION_HOST_TO_CONTAINER"},
        {"host_path":"'"$work/shared"'","container_path":"/both","propagation":"PROPAGATION_BIDIRECTIONAL"},
        {"host_path":"'"$work/shared"'","container_path":"/private"}]}')
    mount -t tmpfs fromhost "$work/shared/slave"
    local code=0
    same "/both/slave /slave/slave" "$(in_container "$c" 'echo $(awk "\$1 == \"fromhost\" { print \$2 }" /proc/mounts | sort)')" "mount of the host" || code=1
    in_container "$c" 'mount -t tmpfs inside /both/both && mount -t tmpfs hidden /slave/private' || code=1
    grep -q "^inside $work/shared/both" /proc/mounts || { echo "no mount of the container on the host"; code=1; }
    fails grep -q "^hidden" /proc/mounts || { echo "a mount of the container that the host must not see"; code=1; }
    stop "$c" 0
    umount "$work/shared/slave" "$work/shared/both" "$work/shared"
    return "$code"
}

test_devices_and_sysctls() {
    local p; p=$(pod devices '{"linux":{"sysctls":{"net.ipv4.ip_forward":"1","kernel.shm_rmid_forced":"1","kernel.msgmax":"8000"}}}')
    same "1 1 8000" "$(output_of "$p" sysctls 'echo $(cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax)')" sysctls
    output_of "$p" device 'test -c /dev/mine && head -c 1 /dev/mine >/dev/null' \
        '{"devices":[{"host_path":"/dev/zero","container_path":"/dev/mine","permissions":"rwm"}]}'
    # The same device, which is there and which anyone may open: only the container's rules for devices stand in the way.
    local node='mknod /tmp/k c 10 229 && dd if=/tmp/k of=/dev/null count=0 2>&1' c
    output_of "$p" allowed "$node" '{"devices":[{"host_path":"/dev/fuse","container_path":"/dev/mine","permissions":"rwm"}]}'
    c=$(container "$p" refused "$node"); ended "$c"
    same 1 "$(status "$c" exitCode)" "exit code without that device"
    contains "can't open '/tmp/k': Operation not permitted" "$(log_of "$c")" "without that device"
}

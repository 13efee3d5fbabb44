# Sourced by cri.sh: the life of pods and their containers.

test_life_of_a_pod() {
    local p c1 c2; p=$(pod life)
    same SANDBOX_READY "$(cri --get /status/state PodSandboxStatus '{"pod_sandbox_id":"'"$p"'"}')" "state of the sandbox"
    contains "$p" "$(cri --get '/items/*/id' ListPodSandbox '{"filter":{"state":{"state":"SANDBOX_READY"}}}')" ListPodSandbox
    same "$NAME" "$(cri --get /status/runtimeHandler PodSandboxStatus '{"pod_sandbox_id":"'"$p"'"}')" handler
    c1=$(created "$p" c "$IDLE")
    same CONTAINER_CREATED "$(status "$c1" state)" "state before the start"
    cri StartContainer '{"container_id":"'"$c1"'"}'
    same CONTAINER_RUNNING "$(status "$c1" state)" "state after the start"
    contains "$c1" "$(cri --get '/containers/*/id' ListContainers '{"filter":{"pod_sandbox_id":"'"$p"'"}}')" ListContainers
    stop "$c1"
    same "CONTAINER_EXITED 7 Error" "$(status "$c1" state) $(status "$c1" exitCode) $(status "$c1" reason)" "after SIGTERM"
    # A restart by the kubelet is a new container in the same pod.
    c2=$(container "$p" c 'echo again' '{"metadata":{"attempt":1}}')
    ended "$c2"
    same "0 Completed" "$(status "$c2" exitCode) $(status "$c2" reason)" "the second attempt"
    same again "$(log_of "$c2")" "log of the second attempt"
    remove "$c1"
    fails status "$c1" state
    stop_pod "$p"
    same SANDBOX_NOTREADY "$(cri --get /status/state PodSandboxStatus '{"pod_sandbox_id":"'"$p"'"}')" "state after the stop"
    stop_pod "$p"
    remove_pod "$p" life
    fails cri PodSandboxStatus '{"pod_sandbox_id":"'"$p"'"}'
}

test_kill_after_the_grace_period() {
    local p c; p=$(pod grace)
    c=$(container "$p" c 'trap "" TERM; while :; do sleep 0.2; done')
    stop "$c" 1
    same "137 Error" "$(status "$c" exitCode) $(status "$c" reason)" "after SIGKILL"
    # The containers of a stopped pod are killed with it.
    c=$(container "$p" d 'trap "" TERM; while :; do sleep 0.2; done')
    stop_pod "$p"
    same "CONTAINER_EXITED 137" "$(status "$c" state) $(status "$c" exitCode)" "container of a stopped pod"
}

test_exit_codes_and_start_errors() {
    local p c; p=$(pod codes)
    c=$(container "$p" crash 'exit 3'); ended "$c"
    same "3 Error" "$(status "$c" exitCode) $(status "$c" reason)" crash
    c=$(container "$p" signal 'sh -c '\''kill -SEGV $$'\''; exit $?'); ended "$c"
    same "139 Error" "$(status "$c" exitCode) $(status "$c" reason)" "child killed by a signal"
    c=$(created "$p" missing true '{"command":["/no/such/program"]}')
    fails cri StartContainer '{"container_id":"'"$c"'"}' || { status "$c" state; return 1; }
    same "CONTAINER_EXITED 128 StartError" "$(status "$c" state) $(status "$c" exitCode) $(status "$c" reason)" "no such program"
    contains /no/such/program "$(status "$c" message)" "message of the status"
}

test_sandbox_that_dies_is_not_ready() {
    local p; p=$(pod dies)
    kill -KILL "$(pod_pid "$p")"
    until_true 30 sh -c "$CRI --get /status/state PodSandboxStatus '{\"pod_sandbox_id\":\"$p\"}' | grep -q NOTREADY"
}

test_exec_sync() {
    local p c code=0; p=$(pod exec)
    c=$(container "$p" c "$IDLE" '{"envs":[{"key":"V","value":"of the container"}],"working_dir":"/tmp"}')
    same "of the container /tmp" "$(in_container "$c" 'echo "$V $(pwd)"')" "environment and working directory"
    same error "$(in_container "$c" 'echo error >&2' 2>&1)" stderr
    exits 9 in_container "$c" 'exit 9'
    same 1048576 "$(in_container "$c" 'head -c 1048576 /dev/zero | tr "\0" x' | wc -c)" "bytes of a long output"
    # In time-out the process is killed.
    contains DeadlineExceeded "$(cri ExecSync '{"container_id":"'"$c"'","cmd":["sleep","1234"],"timeout":2}' 2>&1 || true)" "time-out"
    fails in_container "$c" 'ps | grep -v grep | grep "sleep 1234"'
    contains "no-such-program" "$(cri ExecSync '{"container_id":"'"$c"'","cmd":["no-such-program"]}' 2>&1 || true)" "no such program"
    same CONTAINER_RUNNING "$(status "$c" state)" "state after all that"
}

test_exec_and_attach_as_streams() {
    local p c url code=0 out; p=$(pod stream)
    c=$(container "$p" c 'echo started; read line; echo "got $line"; exec sleep 1000' '{"stdin":true}')
    url=$(cri --get /url Exec '{"container_id":"'"$c"'","cmd":["sh","-c","read l; echo \"out $l\"; echo err >&2; exit 6"],"stdin":true,"stdout":true,"stderr":true}')
    out=$(echo word | cri stream "$url" 2>"$work/stderr") || code=$?
    same "6 out word err" "$code $out $(cat "$work/stderr")" "exec"
    url=$(cri --get /url Exec '{"container_id":"'"$c"'","cmd":["sh"],"stdin":true,"stdout":true,"tty":true}')
    code=0
    out=$(printf 'tty\nexit 5\n' | cri stream "$url") || code=$?
    same 5 "$code" "exit code of exec with a terminal"
    contains /dev/pts/ "$out" "terminal of exec"
    url=$(cri --get /url Attach '{"container_id":"'"$c"'","stdin":true,"stdout":true,"stderr":true}')
    (echo typed; sleep 3) | timeout 20 "$CRI" stream "$url" >"$work/attached" &
    until_true 20 grep -q "got typed" "$work/attached"
    contains "got typed" "$(log_of "$c")" "log of what was attached"
    stop "$c" 0
}

test_terminal_of_a_container() {
    local p c; p=$(pod tty)
    c=$(container "$p" c 'tty; stty size; readlink /dev/console; test -c /dev/console && echo device' '{"tty":true,"stdin":true}')
    ended "$c"
    contains /dev/pts/0 "$(log_of "$c")" tty
    contains device "$(log_of "$c")" "/dev/console"
}

test_port_forward() {
    local p c url; p=$(pod forward)
    c=$(container "$p" c 'while :; do echo "served in $(hostname)" | nc -l -p 8080; done')
    url=$(cri --get /url PortForward '{"pod_sandbox_id":"'"$p"'","port":[8080]}')
    sleep 1
    same "served in forward" "$(echo | timeout 20 "$CRI" forward "$url" 8080)" "through the forwarded port"
}

test_log_file_and_its_rotation() {
    local p c log; p=$(pod logs)
    c=$(container "$p" c 'echo out; echo err >&2; printf part; sleep 0.5; while [ ! -e /tmp/go ]; do sleep 0.2; done; echo; echo later; exec sleep 1000')
    log=$(status "$c" logPath)
    same "$LOGS/logs/c.log" "$log" "path of the log"
    until_true 20 grep -q err "$log"
    # Each line: time in RFC 3339 with nanoseconds, stream, F or P, text.
    fails grep -vE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]+(Z|[+-][0-9:]{5}) (stdout|stderr) [FP] ' "$log"
    contains "stdout F out" "$(cat "$log")" "line of stdout"
    contains "stderr F err" "$(cat "$log")" "line of stderr"
    mv "$log" "$log.1"
    cri ReopenContainerLog '{"container_id":"'"$c"'"}'
    in_container "$c" 'touch /tmp/go'
    until_true 20 grep -q "stdout F later" "$log"
    fails grep -q later "$log.1"
    stop "$c" 0
}

test_stats() {
    local p c figure answer; p=$(pod stats)
    has_controller memory
    c=$(container "$p" c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo x >/written; exec sleep 1000')
    until_true 60 in_container "$c" 'test -e /written'
    answer=$(cri ContainerStats '{"container_id":"'"$c"'"}')
    figure=$(sed 's/.*"usageCoreNanoSeconds":{"value":\([0-9]*\).*/\1/' <<<"$answer")
    # What the cgroup says now is a little more than what it said then.
    local usec; usec=$(sed -n 's/^usage_usec //p' "$(cgroup_of "$c")/cpu.stat")
    [ "$figure" -gt 0 ] && [ "$figure" -le $((usec * 1000)) ] || { echo "cpu: $figure, cgroup: $usec"; return 1; }
    figure=$(sed 's/.*"usageBytes":{"value":\([0-9]*\).*/\1/' <<<"$answer")
    [ "$figure" -gt 0 ] || { echo "no memory: $answer"; return 1; }
    contains "$c" "$(cri --get '/stats/*/attributes/id' ListContainerStats)" ListContainerStats
    answer=$(cri PodSandboxStats '{"pod_sandbox_id":"'"$p"'"}')
    contains '"usageCoreNanoSeconds":{"value":' "$answer" PodSandboxStats
    contains '"rxBytes":{"value":' "$answer" "network figures"
    contains "$p" "$(cri --get '/stats/*/attributes/id' ListPodSandboxStats)" ListPodSandboxStats
}

test_network_between_pods() {
    local p q c; p=$(pod one) q=$(pod two '{"port_mappings":[{"protocol":"TCP","container_port":8080,"host_port":18080}],
        "dns_config":{"servers":["10.0.0.53"],"searches":["svc.test"],"options":["ndots:5"]}}')
    c=$(container "$p" c "$IDLE")
    container "$q" server 'while :; do echo "served in $(hostname)" | nc -l -p 8080; done'
    [ "$(pod_ip "$p")" != "$(pod_ip "$q")" ]
    contains "$(pod_ip "$p")/16" "$(in_container "$c" 'ip addr show eth0')" "address in the pod"
    until_true 30 in_container "$c" "nc -w 5 $(pod_ip "$q") 8080 </dev/null | grep 'served in two'"
    # From the host: by the pod's address and by the port that is mapped.
    until_true 30 sh -c "busybox nc -w 5 $(pod_ip "$q") 8080 </dev/null | grep 'served in two'"
    until_true 30 sh -c "busybox nc -w 5 10.88.0.1 18080 </dev/null | grep 'served in two'"
    # Localhost is the pod's.
    same "served in two" "$(output_of "$q" client 'for i in 1 2 3 4 5; do nc -w 5 127.0.0.1 8080 </dev/null && exit; sleep 1; done; exit 1')" localhost
    contains "search svc.test" "$(output_of "$q" dns 'cat /etc/resolv.conf; hostname')" resolv.conf
}

test_shared_namespaces() {
    local p c d line='for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done | tr "\n" " "'
    p=$(pod shares)
    c=$(container "$p" c "echo word >/dev/shm/note; $IDLE")
    d=$(container "$p" d "$IDLE")
    local of_c of_d; of_c=$(in_container "$c" "$line") of_d=$(in_container "$d" "$line")
    same "$(cut -d ' ' -f 1-3 <<<"$of_c")" "$(cut -d ' ' -f 1-3 <<<"$of_d")" "net, ipc, uts"
    [ "$(cut -d ' ' -f 4 <<<"$of_c")" != "$(cut -d ' ' -f 4 <<<"$of_d")" ]
    same word "$(in_container "$d" 'cat /dev/shm/note')" "/dev/shm of the pod"
    same shares "$(in_container "$d" hostname)" hostname
    # A debugging container in the processes of another.
    d=$(container "$p" debug "$IDLE" '{"linux":{"security_context":{"namespace_options":{"pid":"TARGET","target_id":"'"$c"'"}}}}')
    same "$(cut -d ' ' -f 4 <<<"$of_c")" "$(in_container "$d" 'readlink /proc/self/ns/pid')" "pid namespace of the target"
}

test_one_pid_namespace_for_the_pod() {
    local shared='{"linux":{"security_context":{"namespace_options":{"pid":"POD"}}}}' p c d
    p=$(pod pids "$shared")
    c=$(container "$p" c "$IDLE" "$shared") d=$(container "$p" d "$IDLE" "$shared")
    contains /pause "$(in_container "$c" 'tr "\0" " " </proc/1/cmdline')" "process 1"
    same "$(in_container "$c" 'readlink /proc/self/ns/pid')" "$(in_container "$d" 'readlink /proc/self/ns/pid')" "pid namespaces"
    # Init of c is no process 1 there: what it leaves is killed with it.
    in_container "$c" 'sleep 4321 >/dev/null 2>&1 & echo'
    in_container "$d" 'ps | grep -v grep | grep "sleep 4321"'
    stop "$c" 20
    until_true 20 sh -c "! pgrep -f '[s]leep 4321'"
    same CONTAINER_RUNNING "$(status "$d" state)" "the other container"
}

test_namespaces_of_the_host() {
    local host='{"linux":{"security_context":{"namespace_options":{"network":"NODE","pid":"NODE","ipc":"NODE"}}}}' p c n
    p=$(pod onhost "$(sed 's/^{/{"hostname":"",/' <<<"$host")")
    c=$(container "$p" c "$IDLE" "$host")
    for n in net pid ipc; do
        same "$(readlink "/proc/self/ns/$n")" "$(in_container "$c" "readlink /proc/self/ns/$n")" "namespace $n"
    done
    in_container "$c" 'ip link' | grep -q lo
    stop "$c" 10
    same "CONTAINER_EXITED 7" "$(status "$c" state) $(status "$c" exitCode)" "after the stop"
}

test_containers_outlive_a_restart_of_containerd() {
    local p c; p=$(pod survivor)
    c=$(container "$p" c "$IDLE")
    systemctl restart containerd
    until_true 60 sh -c "$CRI Version"
    same CONTAINER_RUNNING "$(status "$c" state)" "state after the restart"
    same alive "$(in_container "$c" 'echo alive')" exec
    stop "$c" 20
    same 7 "$(status "$c" exitCode)" "exit code"
}

test_events() {
    local p c; timeout 120 "$CRI" GetContainerEvents >"$work/events" &
    local listener=$!
    sleep 1
    p=$(pod events)
    c=$(container "$p" c 'exit 0')
    ended "$c"
    remove "$c"
    until_true 20 grep -q CONTAINER_DELETED_EVENT "$work/events"
    kill "$listener"
    for kind in CREATED STARTED STOPPED DELETED; do
        contains "$c:CONTAINER_${kind}_EVENT" "$(sed 's/.*"containerEventType":"\([A-Z_]*\)","containerId":"\([^"]*\)".*/\2:\1/' "$work/events")" events
    done
}

test_checkpoint() {
    local p c before after image=127.0.0.1:5000/checkpointed:1; p=$(pod checkpoint)
    # The archive names its image by the digest that a registry has given it, and containerd looks for that.
    start_registry
    ctr -n k8s.io image tag --force "$IMAGE" "$image"
    ctr -n k8s.io image push --plain-http "$image"
    cri PullImage '{"image":{"image":"'"$image"'"}}'
    c=$(container "$p" c "$COUNTER" '{"image":{"image":"'"$image"'"}}')
    until_true 30 in_container "$c" 'test -e /tmp/n'
    before=$(in_container "$c" 'cat /tmp/n')
    cri CheckpointContainer '{"container_id":"'"$c"'","location":"'"$work/checkpoint.tar"'","timeout":60}'
    contains checkpoint/inventory.img "$(tar -tf "$work/checkpoint.tar")" "archive"
    same CONTAINER_RUNNING "$(status "$c" state)" "state afterwards"
    goes_on "$before" "$(in_container "$c" 'cat /tmp/n')" "$(sleep 1; in_container "$c" 'cat /tmp/n')"
    stop "$c" 0
    remove "$c"
    # An archive in the place of the image: the container is restored when it is started.
    c=$(container "$p" c "" '{"image":{"image":"'"$work/checkpoint.tar"'"}}')
    after=$(in_container "$c" 'cat /tmp/n')
    sleep 2
    goes_on "$before" "$after" "$(in_container "$c" 'cat /tmp/n')"
}

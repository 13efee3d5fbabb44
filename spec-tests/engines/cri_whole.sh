# Sourced by cri.sh, last: many pods at once, and what is left of all of them.

# together COMMAND: runs it for 1..MANY, so many at a time as the machine's one emulated processor stands. containerd gives
# a shim 5 seconds to answer, which a hundred at once exceed there, whatever the runtime.
MANY=${MANY:-100} TOGETHER=${TOGETHER:-8}
together() {
    local i running=0 failed=0
    for i in $(seq 1 "$MANY"); do
        if [ "$running" -ge "$TOGETHER" ]; then wait -n || failed=$((failed + 1)); running=$((running - 1)); fi
        "$@" "$i" & running=$((running + 1))
    done
    while [ "$running" -gt 0 ]; do wait -n || failed=$((failed + 1)); running=$((running - 1)); done
    same 0 "$failed" "failed: $*"
}

pod_with_container() {
    local p; p=$(pod "many$1") || return
    # Asleep: a hundred that wake up five times a second leave an emulated processor no time for anything else.
    container "$p" c 'trap "exit 7" TERM; echo up; sleep 1000000 & wait' >/dev/null
}

end_of_pod() {
    local p; p=$(sed -n "$1p" "$work/pods") || return
    remove_pod "$p" "$(sed -n "$1p" "$work/names")"
}

test_hundred_pods() {
    local start=$SECONDS
    together pod_with_container
    local up=$((SECONDS - start))
    cri --get '/items/*' ListPodSandbox '{"filter":{"state":{"state":"SANDBOX_READY"}}}' >"$work/list"
    sed 's/.*"id":"\([^"]*\)".*/\1/' "$work/list" >"$work/pods"
    sed 's/.*"metadata":{[^}]*"name":"\([^"]*\)".*/\1/' "$work/list" >"$work/names"
    same "$MANY" "$(wc -l <"$work/pods")" "pods that are ready at once"
    same "$MANY" "$(cri --get '/containers/*/id' ListContainers '{"filter":{"state":{"state":"CONTAINER_RUNNING"}}}' | wc -l)" "containers that run at once"
    start=$SECONDS
    together end_of_pod
    echo "$MANY pods: up in $up s, removed in $((SECONDS - start)) s" | tee -a "$work/figures"
    same "" "$(cri --get '/items/*/id' ListPodSandbox)" "pods left"
}

test_nothing_is_left() {
    after_each
    until_true 20 sh -c "! pgrep -f '[c]ontainerd-shim'" || true
    local p; p=$(pod last)
    state_of_host >"$work/meanwhile"
    contains "file: /run/containerd/runc/k8s.io/$p" "$(cat "$work/meanwhile")" "state of the host with a pod"
    contains "cgroup: " "$(cat "$work/meanwhile")" "state of the host with a pod"
    after_each
    until_true 20 as_before || as_before
}

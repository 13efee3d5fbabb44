# Sourced by the engine scripts, in the machine. A test is a function named test_...; it fails when a command in it fails.
# A line each: `ok|fail|cannot SUITE/TEST (SECONDS) [REASON]`, and `done SUITE` in the end. `matrix` counts them.
#
# From the caller: RUNTIME (absolute path of the runtime under test), NAME (onggi, runc, crun), SUITE (docker, podman, ...).

# A function that prints its result by $( ) must end with the first command that fails, too.
shopt -s inherit_errexit
work=/tmp/engines-$(id -u)
mkdir -p "$work"
[ "$(id -u)" -ne 0 ] || export HOME=/root
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM=xterm LC_ALL=C

# What is under test may be a shim of containerd's instead of a runtime. Then it is what containerd finds in the place of runc's.
is_shim() { case $NAME in containerd-shim-*) ;; *) return 1 ;; esac; }
if is_shim && [ "$(id -u)" -eq 0 ]; then
    mkdir -p /opt/shim /etc/systemd/system/containerd.service.d
    ln -sf "$RUNTIME" /opt/shim/containerd-shim-runc-v2
    printf '[Service]\nEnvironment=PATH=/opt/shim:%s\n' "$PATH" >/etc/systemd/system/containerd.service.d/shim.conf
    systemctl daemon-reload
fi

# same WISH REALITY WHAT
same() {
    [ "$1" = "$2" ] && return
    echo "$3: wish '$1', reality '$2'"
    return 1
}

# contains PART TEXT WHAT
contains() {
    case $2 in *"$1"*) return ;; esac
    echo "$3: '$1' is not in '$2'"
    return 1
}

# exits CODE COMMAND...: the command must end with this exit code.
exits() {
    local wish=$1 code=0
    shift
    "$@" || code=$?
    same "$wish" "$code" "exit code of: $*"
}

# fails COMMAND...: the command must not succeed. `! COMMAND` asserts nothing: set -e does not look at it.
fails() {
    if "$@"; then echo "succeeded: $*"; return 1; fi
}

# refused CODE TEXT COMMAND...: the command must end with this exit code and say this, which a container that was not even made
# does not.
refused() {
    local wish=$1 text=$2 code=0 said
    shift 2
    said=$("$@" 2>&1) || code=$?
    same "$wish" "$code" "exit code of: $*, which said '$said'"
    contains "$text" "$said" "what is said by: $*"
}

# until_true SECONDS COMMAND...: tries again until the command succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then echo "still not: $*"; return 1; fi
        sleep 0.3
    done
}

# cgroup_of PID: its cgroup as a folder.
cgroup_of() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$1/cgroup")"; }

# A shell line for containers that are checkpointed: /tmp/n holds a word that only this process knows, and how far it has counted.
# shellcheck disable=SC2034 # In containers.sh, which not every engine has.
COUNTER='word=$(cat /proc/sys/kernel/random/uuid) i=0; while :; do i=$((i+1)); echo $word $i >/tmp/next; mv /tmp/next /tmp/n; sleep 0.2; done'

# goes_on BEFORE AFTER LATER: contents of that /tmp/n, before the checkpoint and twice after it. The process is the one that was saved,
# none that was started anew, and it runs.
goes_on() {
    [ -n "$1" ]
    same "${1% *}" "${2% *}" "the word in the memory of the process"
    [ "${2#* }" -ge "${1#* }" ] || { echo "has counted to $1 before, to $2 after"; return 1; }
    same "${1% *}" "${3% *}" "the word in the memory of the process, later"
    [ "${3#* }" -gt "${2#* }" ] || { echo "counts no further than $2: $3"; return 1; }
}

# Whatever containers could leave on the host, a line each. From the caller: TRACES, folders that have an entry for each container.
state_of_host() {
    local pid
    pgrep -fa 'containerd-shim|/pause|conmon|docker-proxy|docker-init|pasta|slirp4netns|rootlessport|aardvark-dns|criu' | sed 's/^[0-9]* /process: /'
    pgrep -x "$(basename "$RUNTIME")" | sed 's/^/runtime: /'
    # In one call: a look at each process takes seconds under emulation. Those of others an ordinary user may not look at.
    find /proc/[0-9]*/ns/pid -maxdepth 0 -printf '%l %p\n' 2>/dev/null | grep ^pid: | grep -vF "$(readlink /proc/self/ns/pid)" | while read -r _ pid; do
        sed 's/^/process of a container: /' "${pid%/ns/pid}/comm" || true # It may have ended since.
    done 2>/dev/null
    # /run/netns, a user's, and Docker's `default` are made for the first network namespace, and kept; credentials come and go with services.
    ${UNSHARE:-} awk '{ print "mount: " $5 }' /proc/self/mountinfo | grep -vE ' (/run/netns|/run/user/[0-9]+/netns|/run/docker/netns/default|/run/credentials.*)$' | sort
    # Engines keep the parents that they have made.
    find /sys/fs/cgroup -regextype posix-extended -type d \( -regex '.*/[0-9a-f]{64}' -o -name 'docker-*' -o -path '*/docker/*' -o -path '*/ctr/*' -o -name 'ctr-*' -o -name 'libpod[-_]*' -o -path '*/libpod_parent/*' -o -name '*buildah*' \
        -o -path '*kubepods*' -o -path '*cri-containerd*' -o -path '*k8s.io*' \) |
        grep -vE '/(kubepods|burstable|kubepods.slice|kubepods-burstable.slice|libpod_parent|libpod_parent/conmon|docker/buildkit)$' | sed 's/^/cgroup: /'
    # shellcheck disable=SC2086
    find /run/netns /run/docker/netns /run/containerd/s $TRACES -mindepth 1 -maxdepth 1 2>/dev/null | grep -vx /run/docker/netns/default | sed 's/^/file: /'
    find /var/lib/cni/networks -name '10.*' 2>/dev/null | sed 's/^/address: /'
    ip -o link | sed -n 's/^[0-9]*: \(veth[^:@]*\).*/link: \1/p'
    [ "$(id -u)" -ne 0 ] || ! [ -S /run/containerd/containerd.sock ] || ctr -n "${CTR_NAMESPACE:-moby}" containers ls -q | sed 's/^/container: /'
}

# as_before: nothing has been added to what state_of_host said when the tests began, written to $work/before.
as_before() {
    state_of_host >"$work/after"
    same "" "$(diff "$work/before" "$work/after" | grep '^>' || true)" "left on the host"
}

# A registry on 127.0.0.1:5000, Debian's; it ends with the script.
start_registry() {
    curl -s http://127.0.0.1:5000/v2/ >/dev/null && return
    printf 'version: 0.1\nlog: { accesslog: { disabled: true }, level: error }\nstorage: { filesystem: { rootdirectory: %s } }\nhttp: { addr: "127.0.0.1:5000" }\n' \
        "$work/registry" >"$work/registry.yml"
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 </dev/null &
    until_true 30 curl -s http://127.0.0.1:5000/v2/
}

# Another host, as far as networks go: a network namespace with the address 10.99.0.2, where this machine is 10.99.0.1.
make_outside() {
    ip netns add outside
    ip link add outside type veth peer name eth0 netns outside
    ip address add 10.99.0.1/24 dev outside
    ip link set outside up
    ip -n outside address add 10.99.0.2/24 dev eth0
    ip -n outside link set eth0 up
}

# from_outside URL PART: a request from there is answered with PART.
from_outside() {
    if [ "$(id -u)" -eq 0 ]; then
        ip netns exec outside curl -s --max-time 5 "$1" | grep -q "$2"
        return
    fi
    # Only root gets into that namespace: see `answer_asks`.
    rm -f "$work/answer"
    echo "$1" >"$work/ask"
    until_true 20 test -e "$work/answer" && grep -q "$2" "$work/answer"
}

# answer_asks FOLDER: root's half of from_outside.
answer_asks() {
    while :; do
        if [ -e "$1/ask" ]; then
            ip netns exec outside curl -s --max-time 5 "$(cat "$1/ask")" >"$1/answer.half"
            rm "$1/ask"
            mv "$1/answer.half" "$1/answer"
        fi
        sleep 0.3
    done
}

# cannot REASON: what the test needs is not to be had here, for a reason outside the runtime.
cannot() {
    echo "cannot: $*" >&2
    exit 77
}

# run_tests [FILTER]: the test_ functions whose names match this regular expression (without one, all) in the order of the file,
# each in a subshell of its own.
# shellcheck disable=SC2120 # Only from the scripts of engines, which this file does not name.
run_tests() {
    local filter=${1:-} name log=$work/log code start verdict reason
    # The console starts with what the firmware has left of a line.
    echo
    for name in $(in_order); do
        # What the others start from is always made.
        case $name in image_from_tar | from_scratch_and_run) ;; *) [[ $name =~ $filter ]] || continue ;; esac
        start=$SECONDS code=0
        # No `||` behind it: a shell forgets set -e in all that stands before one.
        (set -eE; trap 'echo "failed: $BASH_COMMAND" >&2' ERR; "test_$name") >"$log" 2>&1 </dev/null
        code=$?
        verdict=fail reason=
        case $code in
            0) verdict=ok ;;
            77) verdict=cannot reason=$(sed -n 's/^cannot: //p' "$log" | tail -n 1) ;;
        esac
        echo "$verdict $SUITE/$name ($((SECONDS - start)) s) $reason"
        [ "$verdict" != fail ] || sed 's/^/    /' "$log" | tail -n 30
        if declare -F after_each >/dev/null; then after_each >/dev/null 2>&1 || true; fi
    done
    echo "done $SUITE"
}

# Names of the tests, those of containers.sh before the engine's own, and what all of them have left in the end.
in_order() {
    local f
    shopt -s extdebug
    for f in $(declare -F | sed -n 's/^declare -f test_//p'); do declare -F "test_$f"; done |
        sort -k 3,3 -k 2,2n | sed 's/^test_\([^ ]*\).*/\1/' | awk '$1 == "nothing_is_left" { last = $1; next } { print } END { if (last) print last }'
    shopt -u extdebug
}

# The rootfs of the test image: busybox with all its applets, and nothing else.
make_rootfs() {
    local root=$1 applet
    mkdir -p "$root"/{bin,etc,tmp,root,dev,proc,sys,var,usr/bin}
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"; done
    echo 'root:x:0:0:root:/root:/bin/sh
user:x:1000:1000::/tmp:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:
user:x:1000:' >"$root/etc/group"
    chmod 1777 "$root/tmp"
}

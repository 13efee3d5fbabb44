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

# Names of the tests, those of containers.sh before the engine's own.
in_order() {
    local f
    shopt -s extdebug
    for f in $(declare -F | sed -n 's/^declare -f test_//p'); do declare -F "test_$f"; done |
        sort -k 3,3 -k 2,2n | sed 's/^test_\([^ ]*\).*/\1/'
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

#!/bin/bash
# Podman of an ordinary user, with a user manager and subordinate ids. rootless.sh RUNTIME NAME [cgroupfs|systemd] [FILTER]
here=$(dirname "$0") SUITE=rootless-${3:-systemd}
if [ "$(id -u)" -eq 0 ]; then
    . "$here/lib.sh"
    make_outside
    # As udev would have done, which the machine has not.
    chmod 0666 /dev/net/tun /dev/fuse
    until_true 60 systemctl is-active user@1000.service
    answer_asks /tmp/engines-1000 &
    runuser -u spec-tests -- env XDG_RUNTIME_DIR=/run/user/1000 systemd-run --user --quiet --pipe --wait --collect \
        -p Delegate=yes -p DelegateSubgroup=script bash "$0" "$@" </dev/null
    exit
fi
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/1000}

# After a service with a cgroup of its own: what its container is allowed, below what the user was given.
test_limits_are_below_those_of_the_user() {
    idle --name c1 -m 64m
    contains user@1000.service "$(cgroup_of "$(field c1 '{{.State.Pid}}')")" "cgroup of the container"
}

test_root_inside_is_the_user_outside() {
    idle --name c1
    same 1000 "$(stat -c %u "/proc/$(field c1 '{{.State.Pid}}')")" "owner of the process"
    contains "100000 65536" "$($E exec c1 cat /proc/self/uid_map | tr -s ' ')" "uid_map"
}

. "$here/podman.sh"

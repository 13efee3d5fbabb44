#!/bin/bash
# How long `ctr run --rm` and `docker run --rm` of /bin/true take with the runtime under test, runc and crun, taken in turns in
# one machine. timing.sh RUNTIME NAME _ [ROUNDS]
RUNTIME=$1 NAME=$2 SUITE=timing ROUNDS=${4:-50}
. "$(dirname "$0")/lib.sh"
IMAGE=onggi-test:latest
declare -A path=([runc]=/usr/sbin/runc [crun]=/usr/bin/crun)
path[$NAME]=$RUNTIME
names=("$NAME")
for other in runc crun; do [ "$other" = "$NAME" ] || names+=("$other"); done

mkdir -p /etc/docker
cat >/etc/docker/daemon.json <<JSON
{ "runtimes": { $(for n in "${names[@]}"; do [ "$n" = runc ] || echo "\"$n\": { \"path\": \"${path[$n]}\" },"; done | sed '$s/,$//') } }
JSON
systemctl start docker

by_docker() { docker run --rm --runtime "$1" --network none "$IMAGE" /bin/true; }
by_ctr() { ctr run --rm --runc-binary "${path[$1]}" docker.io/library/"$IMAGE" "timing-$1-$2" /bin/true; }
# The runtime alone, for the share that it has: create, start, delete, and the process itself.
by_itself() { "${path[$1]}" run --bundle "$work/bundle" "alone-$1-$2"; }

# measure HOW: ROUNDS rounds of all runtimes, and another one first in each round; a line for each, medians.
measure() {
    local how=$1 round i n start count=${#names[@]}
    for n in "${names[@]}"; do : >"$work/$how-$n"; "$how" "$n" warm; done
    for round in $(seq 1 "$ROUNDS"); do
        for i in $(seq 0 $((count - 1))); do
            n=${names[(i + round) % count]}
            start=${EPOCHREALTIME/./}
            "$how" "$n" "$round"
            echo $((${EPOCHREALTIME/./} - start)) >>"$work/$how-$n"
        done
    done
    for n in "${names[@]}"; do
        echo "    $how $n: median $(median "$work/$how-$n") ms of $ROUNDS, ${path[$n]##*/} $("${path[$n]}" --version | sed -n '1s/.*version //p')" >>"$work/figures"
    done
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%.1f", (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) / 1000 }'; }

test_image_from_tar() {
    make_rootfs "$work/rootfs"
    tar -C "$work/rootfs" -c . | docker import - "$IMAGE"
    docker save -o "$work/image.tar" "$IMAGE"
    ctr image import "$work/image.tar"
    mkdir "$work/bundle"
    (cd "$work/bundle" && runc spec && sed -i -e 's/"terminal": true/"terminal": false/' -e "s,\"rootfs\",\"$work/rootfs\"," -e 's,"sh",/bin/true,' -e 's,/bin/true$,"/bin/true",' config.json)
    : >"$work/figures"
}

test_the_runtime_alone() { measure by_itself; }
test_ctr_run() { measure by_ctr; }
test_docker_run() { measure by_docker; }

run_tests
cat "$work/figures"

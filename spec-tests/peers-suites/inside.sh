#!/bin/bash
# inside.sh RUNTIME SUITE DRIVER FILE... : in the machine, called by `run`. FILE may have `:REGEX` of the tests' names behind it (bats).
runtime=$1 suite=$2 driver=$3
shift 3
tar -C / --keep-directory-symlink -xf /payload/payload.tar
ldconfig
for module in overlay loop fuse veth dummy; do modprobe "$module" 2>/dev/null; done
mkdir -p "/suites/as"
# Under the peer's name: called by it, onggi is that one's stand-in.
cp "$runtime" "/suites/as/$suite"
if [ "$suite" = runc ]; then
    export RUNC=/suites/as/runc PATH=$PATH:/usr/sbin:/sbin
    [ "$driver" != systemd ] || export RUNC_USE_SYSTEMD=yes
    cd /suites/runc/tests/integration || exit
    [ $# -gt 0 ] || set -- *.bats
else
    export OCI_RUNTIME=/suites/as/crun INIT=/suites/crun/tests/init
    cd /suites/crun || exit
    [ $# -gt 0 ] || set -- tests/test_*.py
fi
for file in "$@"; do
    echo "### $file"
    if [ "$suite" = runc ]; then
        filter=()
        case $file in *:*) filter=(--filter "${file#*:}") file=${file%%:*} ;; esac
        # A test with a time limit waits for the limit where it waits for all its children.
        case $file in events.bats) unset BATS_TEST_TIMEOUT ;; *) export BATS_TEST_TIMEOUT=240 ;; esac
        timeout -k 5 1500 bats --tap "${filter[@]}" "$file" </dev/null 2>&1
        # A test that failed leaves them.
        pkill -9 'recvtty|pidfd-kill|seccompagent'
    else
        timeout -k 5 900 python3 "$file" </dev/null 2>&1
    fi
done
echo '### end'

# Sourced. Debian's packages of any suite by a private apt configuration: of the host's, only the address of its mirror is read,
# and nothing is changed. Needs apt, dpkg-deb and debian-archive-keyring.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# The mirror that this machine installs from.
MIRROR=${MACHINE_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/mirrors/* 2>/dev/null | sed -n '/^[[:space:]]*#/d
    s,^\(.*[[:space:]]\)\{0\,1\}\(https\{0\,1\}://[^[:space:]]*/debian\)/\{0\,1\}\([[:space:]].*\)\{0\,1\}$,\2,p' | head -n 1)}
if [ -z "$MIRROR" ]; then echo "no mirror of Debian in the sources of apt: set MACHINE_MIRROR" >&2; exit 1; fi

# A download may fail for a moment: three tries, five within apt.
retry() {
    "$@" && return
    sleep 5; "$@" && return
    sleep 20; "$@"
}

# A mirror may lag behind by weeks, which is no harm here; the signature still counts.
# use_suite SUITE FOLDER: makes apt read the lists of SUITE only, kept in FOLDER.
use_suite() {
    mkdir -p "$2/lists/partial" "$2/archives/partial"
    : >"$2/status"
    echo "deb [signed-by=$KEYRING] $MIRROR $1 main" >"$2/sources.list"
    cat >"$2/apt.conf" <<CONF
Dir::Etc::sourcelist "$2/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$2/lists";
Dir::State::status "$2/status";
Dir::Cache "$2";
APT::Architecture "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "5";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
    export APT_CONFIG=$2/apt.conf
    retry apt-get update -qq
}

#!/bin/sh
# validation.sh OUT: the OCI's own validation programs (runtime-tools), built static from the source and with the Go of
# Debian trixie, none of which is installed: an ext4 image OUT/programs.ext4 with what they want in their working directory.
set -eu
out=$1
here=$(dirname "$0")
. "$here/packages.sh"

source=golang-github-opencontainers-runtime-tools
compiler="golang-1.24-go golang-1.24-src"
libraries="golang-github-blang-semver-dev golang-github-cpuguy83-go-md2man-v2-dev golang-github-google-uuid-dev
    golang-github-hashicorp-errwrap-dev golang-github-hashicorp-go-multierror-dev golang-github-mrunalp-fileutils-dev
    golang-github-opencontainers-selinux-dev golang-github-opencontainers-specs-dev
    golang-github-russross-blackfriday-v2-dev golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev
    golang-github-xeipuuv-gojsonpointer-dev golang-github-xeipuuv-gojsonreference-dev
    golang-github-xeipuuv-gojsonschema-dev golang-gocapability-dev golang-golang-x-sys-dev"

work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
use_suite trixie "$work/apt"
sed 's/^deb /deb-src /' "$work/apt/sources.list" >"$work/apt/source"
cat "$work/apt/source" >>"$work/apt/sources.list"
retry apt-get update -qq

fetch() {
    apt-get download -qq $compiler $libraries
    # apt has checked the archive against the signed index; the .dsc, which some mirrors lack, is not needed.
    apt-get source -qq --download-only "$source" || ls "$source"_*.orig.tar.*
}
cd "$work"
retry fetch
for file in *.deb; do dpkg-deb -x "$file" root; done

export GO111MODULE=off GOPATH=$work/root/usr/share/gocode GOROOT=$work/root/usr/lib/go-1.24 GOCACHE=$work/cache
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-trimpath
tools=$GOPATH/src/github.com/opencontainers/runtime-tools
tap=$GOPATH/src/github.com/mndrix/tap-go
mkdir -p "$tools" "$tap"
tar -C "$tools" --strip-components=1 -xf "$source"_*.orig.tar.*
cp "$here/tap.go" "$tap"
# Nothing that they ask for is newer; and crun 1.8 refuses any document of 1.2.
version=$(find "$GOPATH" -path '*/runtime-spec/specs-go/version.go')
sed -i 's/\(VersionMinor *= *\).*/\10/; s/\(VersionPatch *= *\).*/\12/; s/\(VersionDev *= *\).*/\1""/' "$version"
mkdir programs
(cd "$tools" && "$GOROOT/bin/go" build -tags 'netgo osusergo' -ldflags '-s -w' -o "$work/programs/" ./cmd/runtimetest ./validation/...)
# Under its old name, but unpacked: the tar of busybox does not look inside.
gunzip -c "$tools/rootfs-amd64.tar.gz" >programs/rootfs-amd64.tar.gz

mkdir -p "$out"
mke2fs -q -t ext4 -O ^has_journal -m 0 -E root_owner=0:0,lazy_itable_init=1 -d programs "$out/programs.ext4" \
    "$(($(du -sm programs | cut -f 1) + 32))M"

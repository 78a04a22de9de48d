#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: peers.sh [DIR]
#
# Builds what Debian has no package of into DIR (default: a cache directory) and prints its path:
# registry tools and servers from their Go modules, and a reader of ostree repositories from the
# crate ostree-ext (wants libostree-dev, libssl-dev, libzstd-dev and pkg-config). Nothing is built
# twice. For the interop suite and ./dev bench, which take them from $LARDER_PEERS or PATH and skip
# what is missing. Exits with 77 where there is neither Go nor Cargo.
set -eu

dir=${1-${XDG_CACHE_HOME-${HOME:?}/.cache}/larder-peers}
here=$(cd "$(dirname "$0")" && pwd)
has_go=$(command -v go || :)
has_cargo=$(command -v cargo || :)
[ -n "$has_go$has_cargo" ] || {
    echo "peers.sh: no Go and no Cargo here" >&2
    exit 77
}
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# said NAME: why it was not built.
said() {
    echo "peers.sh: could not build $1: $(tail -n 1 "$work/log")" >&2
}

# peer NAME MODULE PACKAGE VERSION. By way of a module of its own: `go install PACKAGE@VERSION`
# wants an answer from the proxy about every prefix of the path.
peer() {
    [ -n "$has_go" ] && [ ! -x "$dir/$1" ] || return 0
    mkdir "$work/$1"
    (
        cd "$work/$1"
        go mod init peer && go get "$2@$4" && go get "$2$3@$4" &&
            go build -trimpath -o "$dir/$1.new" "$2$3" && mv "$dir/$1.new" "$dir/$1"
    ) >"$work/log" 2>&1 || said "$1 $4"
}

# crate NAME DIRECTORY: our own program on somebody's crate.
crate() {
    [ -n "$has_cargo" ] && [ ! -x "$dir/$1" ] || return 0
    cp -R "$here/$2" "$work/$1"
    (
        cd "$work/$1"
        cargo build --release --target-dir "$work/$1/target" &&
            cp "target/release/$1" "$dir/$1.new" && mv "$dir/$1.new" "$dir/$1"
    ) >"$work/log" 2>&1 || said "$1"
}

peer crane github.com/google/go-containerregistry /cmd/crane v0.22.1
peer oras oras.land/oras /cmd/oras v1.2.3
peer regctl github.com/regclient/regclient /cmd/regctl v0.11.7
peer olareg github.com/olareg/olareg /cmd/olareg v0.1.2
peer distribution github.com/distribution/distribution/v3 /cmd/registry v3.0.0
crate ostree-ext-cli ostree_ext_reader
echo "$dir"

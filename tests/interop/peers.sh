#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: peers.sh [DIR]
#
# Builds the registry tools and servers that Debian has no package of, from their Go modules, into
# DIR (default: a cache directory) and prints its path; nothing is built twice. For the interop
# suite and ./dev bench, which take them from $LARDER_PEERS or PATH and skip what is missing. Exits
# with 77 where there is no Go.
set -eu

dir=${1-${XDG_CACHE_HOME-${HOME:?}/.cache}/larder-peers}
command -v go >/dev/null || {
    echo "peers.sh: no Go here" >&2
    exit 77
}
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# peer NAME MODULE PACKAGE VERSION. By way of a module of its own: `go install PACKAGE@VERSION`
# wants an answer from the proxy about every prefix of the path.
peer() {
    [ ! -x "$dir/$1" ] || return 0
    mkdir "$work/$1"
    if ! (
        cd "$work/$1"
        go mod init peer && go get "$2@$4" && go get "$2$3@$4" &&
            go build -trimpath -o "$dir/$1.new" "$2$3" && mv "$dir/$1.new" "$dir/$1"
    ) >"$work/log" 2>&1; then
        echo "peers.sh: could not build $1 $4: $(tail -n 1 "$work/log")" >&2
    fi
}

peer crane github.com/google/go-containerregistry /cmd/crane v0.22.1
peer oras oras.land/oras /cmd/oras v1.2.3
peer regctl github.com/regclient/regclient /cmd/regctl v0.11.7
peer olareg github.com/olareg/olareg /cmd/olareg v0.1.2
peer distribution github.com/distribution/distribution/v3 /cmd/registry v3.0.0
echo "$dir"

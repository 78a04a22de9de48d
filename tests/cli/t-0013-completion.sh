#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The bash completion, as bash would call it.
. "$(dirname "$0")/lib.sh"

command -v bash >/dev/null || skip_all 'no bash'
mkdir bin && ln -s "$LARDER" bin/larder
PATH=$PWD/bin:$PATH
larder completion bash >larder.bash
mkdir images
: >images/a.qcow2

cat >complete.bash <<'EOF'
. ./larder.bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_larder
printf '%s\n' "${COMPREPLY[@]}"
EOF
# complete WORD...: what is offered for the last one.
# shellcheck disable=SC2317 # called by the scripts below
complete() { bash complete.bash larder "$@" | sort -u; }

expect_success 'commands' '
    complete "" >out &&
    grep -qx image out && grep -qx gc out && ! grep -q __man out &&
    test "$(complete sta)" = status
'
expect_success 'commands of a group' '
    test "$(complete image inv)" = invalidate &&
    test "$(complete --quiet image inv)" = invalidate &&
    test "$(complete --store /x image inv)" = invalidate
'
expect_success 'options of the command, and global ones' '
    test "$(complete gc --keep)" = --keep-for &&
    test "$(complete gc --js)" = --json &&
    test "$(complete image get --req)" = --require-fresh &&
    test -z "$(complete gc --req)"
'
expect_success 'values of options' '
    test "$(complete image get --unpack al)" = always &&
    test "$(complete image add --keyring ima)" = images &&
    test -z "$(complete gc --keep-for "")"
'
expect_success 'files and directories' '
    test "$(complete image check ima)" = images &&
    test "$(complete blob put images/)" = images/a.qcow2
'
expect_success 'locations: transports, then files' '
    test "$(complete copy doc)" = docker:// &&
    test "$(complete list-tags oci-)" = oci-archive: &&
    test "$(complete copy oci : ima)" = images &&
    test "$(complete cosa push)" = push-container-manifest
'
expect_success 'help completes commands' '
    test "$(complete help scr)" = scrub &&
    test "$(complete help image adop)" = adopt
'
expect_success 'names of entries' '
    printf x >source.img &&
    larder image add debian-13 ./source.img --checksum sha256:$(sha256sum source.img | cut -c1-64) &&
    larder image add fedora ./source.img &&
    test "$(complete image show deb)" = debian-13 &&
    test "$(complete --store "$LARDER_HOME" image show fed)" = fedora
'
test_done

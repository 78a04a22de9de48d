#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is published about an image, over HTTP: sibling files and their order.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start
. "$(dirname "$0")/sums.sh"

expect_success 'nothing is published: the image is taken as it is, after all were asked for' '
    fresh && test_cmp www/a.qcow2 "$(cat out)" &&
    expect_match "warning: image a: no checksum file vouches" err &&
    for name in a.qcow2.sha256 SHA256SUMS a.qcow2.sha512 a.qcow2.checksum a.qcow2.CHECKSUM \
        CHECKSUM SHA512SUMS a.qcow2.SHA256SUM a.qcow2.sha256sum a.qcow2.sha512sum a.qcow2.md5; do
        asked_times 1 GET /$name || return 1
    done
'
expect_success 'they were asked for in the documented order' '
    sed -n "s/.*\"path\": \"\/\([^\"]*\)\".*/\1/p" "$log" >order &&
    printf "%s\n" a.qcow2.sha256 SHA256SUMS a.qcow2.sha512 a.qcow2.checksum a.qcow2.CHECKSUM \
        CHECKSUM SHA512SUMS a.qcow2.SHA256SUM a.qcow2.sha256sum a.qcow2.sha512sum a.qcow2.md5 \
        a.qcow2 >expected &&
    test_cmp expected order
'
for name in a.qcow2.sha256 SHA256SUMS a.qcow2.checksum a.qcow2.CHECKSUM CHECKSUM \
    a.qcow2.SHA256SUM a.qcow2.sha256sum; do
    expect_success "sibling $name is found, and believed" '
        siblings && echo "$good256  a.qcow2" >www/$name && fresh && taken $name &&
        echo "$bad256  a.qcow2" >www/$name && { fresh; test $? -eq 5; } &&
        expect_match "inconsistent" err
    '
done
for name in a.qcow2.sha512 SHA512SUMS a.qcow2.sha512sum; do
    expect_success "sibling $name is found, and believed" '
        siblings && echo "$good512  a.qcow2" >www/$name && fresh && taken $name &&
        echo "$bad512  a.qcow2" >www/$name && { fresh; test $? -eq 5; }
    '
done
expect_success 'the first in the order wins; a later one is not asked' '
    siblings && echo "$good256  a.qcow2" >www/a.qcow2.sha256 &&
    echo "$bad256  a.qcow2" >www/SHA256SUMS && rules "{}" && fresh && taken a.qcow2.sha256 &&
    asked_times 0 GET /SHA256SUMS
'
expect_success 'a sibling that does not list the image is passed over' '
    siblings && echo "$bad256  other.qcow2" >www/SHA256SUMS &&
    echo "$good512  a.qcow2" >www/SHA512SUMS && fresh && taken SHA512SUMS
'
expect_success 'an HTML page for every missing file is no checksum file' '
    siblings && rules "{\"/a.qcow2.sha256\": {\"text\": \"<!DOCTYPE html><html>not found</html>\"}}" &&
    echo "$good256  a.qcow2" >www/SHA256SUMS && fresh && taken SHA256SUMS &&
    ! grep vouches err
'
expect_success 'with --verbose, what was passed over is named, and why' '
    siblings && echo garbage >www/a.qcow2.sha256 && rules "{}" &&
    larder image remove a && larder image add a "$url/a.qcow2" && larder -v image get a 2>err &&
    expect_match "passed over: .*a.qcow2.sha256: is not a checksum file" err
'
expect_success 'a sibling that fails is no missing one: nothing is fetched unjudged' '
    siblings && rules "{\"/a.qcow2.sha256\": {\"status\": 500}}" &&
    { fresh; test $? -eq 8; } && asked_times 0 GET /a.qcow2 && rules "{}"
'
expect_success '403 of an object store means missing' '
    rules "{\"/a.qcow2.sha256\": {\"status\": 403}}" &&
    echo "$good256  a.qcow2" >www/SHA256SUMS && fresh && taken SHA256SUMS && rules "{}"
'
expect_success 'md5 and sha1 only: used against damage, with a warning' '
    siblings && (cd www && md5sum a.qcow2 >a.qcow2.md5) && fresh &&
    expect_match "warning: image a: .*md5" err && taken a.qcow2.md5 &&
    echo "$(echo x | md5sum | cut -c1-32)  a.qcow2" >www/a.qcow2.md5 && { fresh; test $? -eq 5; } &&
    siblings && (cd www && sha1sum a.qcow2 >CHECKSUM) && fresh &&
    expect_match "warning: image a: .*sha1" err
'
expect_success 'local sources have siblings, too' '
    cp www/a.qcow2 a.qcow2 && echo "$bad256  a.qcow2" >a.qcow2.sha256 && rm -rf "$LARDER_HOME" &&
    larder -q image add l ./a.qcow2 && expect_status 5 larder image get l 2>err &&
    echo "$good256  a.qcow2" >a.qcow2.sha256 && larder -q image get l --fresh >out &&
    test_cmp a.qcow2 "$(cat out)"
'
test_done

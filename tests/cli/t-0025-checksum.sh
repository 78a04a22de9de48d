#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --checksum: a digest, a URL or a file.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start
. "$(dirname "$0")/sums.sh"

expect_success '--checksum DIGEST: nobody is asked for sums' '
    siblings && rules "{}" && fresh --checksum "sha256:$good256" && test_cmp www/a.qcow2 "$(cat out)" &&
    test "$(wc -l <"$log")" -eq 1 &&
    { fresh --checksum "sha256:$bad256"; test $? -eq 5; } && test ! -s out &&
    fresh --checksum "sha512:$good512" &&
    { fresh --checksum "sha512:$bad512"; test $? -eq 5; }
'
expect_success '--checksum DIGEST that is none: refused at once' '
    expect_status 2 larder image add x "$url/a.qcow2" --checksum sha256:abc 2>err &&
    expect_match "sha256:abc" err
'
expect_success '--checksum URL: that file, another name covers its only entry' '
    mkdir -p www/sums && echo "$good256  a.qcow2" >www/sums/all &&
    fresh --checksum "$url/sums/all" && taken all &&
    echo "$good256  built-20260101.qcow2" >www/sums/all &&
    fresh --checksum "$url/sums/all" && expect_match "warning: .*built-20260101.qcow2" err
'
expect_success '--checksum URL that is not there: 6; that does not list the image: an error' '
    { fresh --checksum "$url/sums/none"; test $? -eq 6; } && expect_match "sums/none" err &&
    printf "$good256  x.qcow2\n$bad256  y.qcow2\n" >www/sums/all &&
    { fresh --checksum "$url/sums/all"; test $? -ne 0; } && expect_match "does not list a.qcow2" err
'
expect_success '--checksum FILE' '
    echo "$good256  a.qcow2" >local.sums && fresh --checksum local.sums &&
    echo "$bad256  a.qcow2" >local.sums &&
    expect_status 4 larder image verify a --fresh >out &&
    expect_status 3 larder image add x "$url/a.qcow2" --checksum ./nowhere 2>err && expect_match "nowhere" err
'
expect_success 'options about the source hold for a bare source' '
    rm -rf "$LARDER_HOME" &&
    expect_status 5 larder image get "$url/a.qcow2" --checksum "sha256:$bad256" >out 2>err && test ! -s out
'
expect_success 'show says what the verdict rests on' '
    siblings && echo "$good256  a.qcow2" >www/SHA256SUMS && fresh && larder --json image show a >show &&
    json show "d[\"upstream_digest\"] == \"sha256:$good256\" and d[\"sums_url\"] == \"$url/SHA256SUMS\" and d[\"final_url\"] == \"$url/a.qcow2\""
'
test_done

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Torn publication: sums and image are replaced one after the other, with caches on the way.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

make_image www/v1 1
make_image www/v2 2
for i in 1 2; do echo "$(sha256sum www/v$i | cut -c1-64)  a.qcow2" >www/s$i; done
# upstream IMAGE SUMS: rules of both, so that what changes between requests can be said.
upstream() { rules "{\"/a.qcow2\": {$1}, \"/SHA256SUMS\": {$2}}"; }
old='"file": "v1"' new='"file": "v2"' old_sums='"file": "s1"' new_sums='"file": "s2"'
: >www/a.qcow2
: >www/SHA256SUMS
# start: an entry that has version 1.
start() {
    chmod -R u+rwX "$LARDER_HOME" 2>/dev/null
    rm -rf "$LARDER_HOME"
    upstream "$old" "$old_sums" && larder -q image add a "$url/a.qcow2" --refresh always &&
        larder -q image get a >first && test_cmp www/v1 "$(cat first)"
}

expect_success 'sums come late (miss): asked again past caches, fetched once' '
    larder -q image add a "$url/a.qcow2" --refresh always &&
    rules "{\"/a.qcow2\": {\"file\": \"v2\"}, \"/SHA256SUMS\": {\"times\": 1, \"file\": \"s1\"}}" &&
    cp www/s2 www/SHA256SUMS &&
    larder -q image get a >out 2>err && test_cmp www/v2 "$(cat out)" &&
    asked_times 1 GET /a.qcow2 && asked_times 2 GET /SHA256SUMS &&
    expect_match "\"/SHA256SUMS\", \"query\": \"[^\"]+\"" "$log" &&
    expect_match "\"cache-control\": \"no-cache\"" "$log"
'
expect_success 'image comes late (update): fetched again, consistent in the same run' '
    start && cp www/v2 www/a.qcow2 &&
    rules "{\"/a.qcow2\": {\"times\": 1, \"file\": \"v1\"}, \"/SHA256SUMS\": {\"file\": \"s2\"}}" &&
    larder --json image get a >out 2>err && json out "d[\"how\"] == \"updated\"" &&
    test_cmp www/v2 "$(member out path)" && asked_times 2 GET /a.qcow2 &&
    expect_no_match "\"/a.qcow2\".*\"range\"" "$log"
'
expect_success 'image first, sums for ever late: the entry stays consistent with its sums' '
    start && upstream "$new" "$old_sums" && larder -q image get a >out 2>err &&
    test_cmp first out && asked_times 0 GET /a.qcow2
'
expect_success 'inconsistent for good (miss): 5, no path, both digests are named' '
    rm -rf "$LARDER_HOME" && larder -q image add a "$url/a.qcow2" --refresh always &&
    upstream "$new" "$old_sums" && expect_status 5 larder image get a >out 2>err && test ! -s out &&
    expect_match "upstream inconsistent" err &&
    expect_match "$(digest www/v2)" err && expect_match "$(digest www/v1)" err &&
    expect_match "hint: " err && asked_times 2 GET /a.qcow2
'
expect_success '... nothing wrong is left to be resumed from, and it mends itself' '
    larder --json status >out && json out "d[\"partials\"] == 0 and d[\"blobs\"] == 0" &&
    upstream "$new" "$new_sums" && larder -q image get a >out && test_cmp www/v2 "$(cat out)"
'
expect_success 'inconsistent for good (update): the old entry is kept and used with a warning' '
    start && upstream "$old" "$new_sums" && larder image get a >out 2>err &&
    test_cmp first out && expect_match "warning: image a: using the copy.*upstream inconsistent" err &&
    asked_times 2 GET /a.qcow2
'
expect_success '... negative cache: the next gets do not download it again' '
    upstream "$old" "$new_sums" && larder -q image get a >out 2>err && test_cmp first out &&
    asked_times 0 GET /a.qcow2 && larder --json image show a >show &&
    json show "\"inconsistent\" in d[\"last_error\"]"
'
expect_success '... its warning stays, and --require-fresh gets no old image meanwhile' '
    expect_match "warning: image a: using the copy.*upstream inconsistent" err &&
    expect_status 5 larder image get a --require-fresh >out 2>err && test ! -s out &&
    larder image get a --offline >out 2>err && test_cmp first out && test ! -s err &&
    expect_status 5 larder image get a --fresh --require-fresh >out 2>err && test ! -s out
'
expect_success '... --fresh asks all the same, and takes what is whole by now' '
    upstream "$new" "$new_sums" && larder -q image get a --fresh >out 2>err &&
    test_cmp www/v2 "$(cat out)"
'
expect_success 'cut to another length than the sums say, then whole: mended in the same run' '
    siblings=; start && printf "# a.qcow2: %s bytes\nSHA256 (a.qcow2) = %s\n" "$(stat -c %s www/v2)" "$(cut -c1-64 www/s2)" >www/c2 &&
    head -c 700000 www/v2 >www/short &&
    rules "{\"/a.qcow2\": {\"times\": 1, \"file\": \"short\"}, \"/SHA256SUMS\": {\"file\": \"c2\"}}" &&
    cp www/v2 www/a.qcow2 && larder -q image get a >out 2>err && test_cmp www/v2 "$(cat out)"
'
expect_success 'sums redirected to a mirror: the image is taken from the same place' '
    rm -rf "$LARDER_HOME" && mkdir -p www/mirror && cp www/v2 www/mirror/a.qcow2 && cp www/s2 www/mirror/SHA256SUMS &&
    rules "{\"/SHA256SUMS\": {\"redirect\": \"http://{host}:{port}/mirror/SHA256SUMS\"}, \"/a.qcow2\": {\"file\": \"v1\"}}" &&
    larder -q image add a "$url/a.qcow2" && larder -q image get a >out 2>err && test_cmp www/v2 "$(cat out)" &&
    asked_times 1 GET /mirror/a.qcow2 && asked_times 0 GET /a.qcow2
'
expect_success 'local source, torn: 5; whole again: fetched' '
    cp www/v2 l.qcow2 && echo "$(cut -c1-64 www/s1)  l.qcow2" >l.qcow2.sha256 &&
    larder -q image add l ./l.qcow2 --refresh always && expect_status 5 larder image get l 2>err &&
    cp www/v1 l.qcow2 && larder -q image get l --fresh >out && test_cmp www/v1 "$(cat out)"
'
test_done

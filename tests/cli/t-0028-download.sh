#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Downloads over bad networks and from bad servers: the right bytes or an error, never wrong ones.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

# 7 MiB: more than the 2 MiB pieces in which a download is written.
make_image www/a.qcow2 1 7
make_image v2.qcow2 2 7
make_image www/small.qcow2 3
size=$(stat -c %s www/a.qcow2)
sums() { (cd www && sha256sum a.qcow2 small.qcow2 >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS); }
sums
drop() {
    chmod -R u+rwX "$LARDER_HOME" 2>/dev/null
    rm -rf "$LARDER_HOME"
}
# try RULE [ARG...]: the image under that rule, in an empty store.
try() {
    try_rule=$1
    shift
    drop
    rules "{\"/a.qcow2\": {$try_rule}}" && larder -q image get "$url/a.qcow2" "$@" >out 2>err
}
whole() { test_cmp www/a.qcow2 "$(cat out)"; }
# failed STATUS: with a message, without a path, and nothing half-done in blobs.
failed() {
    test "$1" -eq "$2" && test ! -s out && expect_match "^larder: " err &&
        test -z "$(find "$LARDER_HOME/blobs" -type f -size +60k)"
}
# resumed: the last GET had a Range and If-Range, and went on from there.
resumed() { expect_match '"/a.qcow2".*"range": "bytes=[1-9][0-9]*-".*"if-range": ".*"status": 206' "$log"; }

expect_success 'reset in the middle: goes on from there in the same run' '
    export LARDER_NET_RETRIES=2 &&
    try "\"times\": 1, \"reset_after\": 5000000" && whole && resumed && asked_times 2 GET /a.qcow2
'
expect_success 'closed in the middle: goes on from there' '
    try "\"times\": 1, \"close_after\": 5000000" && whole && resumed
'
expect_success 'reset again and again, with progress each time: arrives' '
    try "\"times\": 3, \"reset_after\": 2500000" && whole && resumed
'
expect_success 'chunked and cut: not taken for the whole' '
    try "\"times\": 1, \"chunked\": true, \"close_after\": 5000000" && whole
'
expect_success 'chunked: arrives' '
    try "\"chunked\": true" && whole
'
expect_success 'stalled: noticed after net.stall_timeout, goes on' '
    LARDER_NET_STALL_TIMEOUT=1s LARDER_NET_RETRIES=50 &&
    try "\"times\": 1, \"stall_after\": 5000000" && whole && resumed; rc=$?
    LARDER_NET_STALL_TIMEOUT=1h; test $rc -eq 0
'
LARDER_NET_RETRIES=0
expect_success 'reset, no retry allowed: 8, and the next run goes on from there' '
    try "\"times\": 1, \"reset_after\": 5000000"; failed $? 8 && asked_times 1 GET /a.qcow2 &&
    larder --json status >status && json status "d[\"partials\"] == 1" &&
    larder -q image get "$url/a.qcow2" >out 2>err && whole && resumed &&
    larder --json status >status && json status "d[\"partials\"] == 0"
'
expect_success 'larder killed (-9) in the middle: the next run resumes with Range and If-Range' '
    drop && rules "{\"/a.qcow2\": {\"times\": 1, \"drip\": [262144, 0.02], \"stall_after\": 5000000}}" &&
    { "$LARDER" image get "$url/a.qcow2" >out 2>err & } && pid=$! && started $pid &&
    wait_for sh -c "test \$(find \"$LARDER_HOME\" -path \"*partial*\" -size +3000k | wc -l) -gt 0" &&
    kill -9 $pid; wait $pid; test ! -s out &&
    larder fsck >fsck && larder -q image get "$url/a.qcow2" >out 2>err && whole && resumed
'
expect_success 'interrupted (TERM): 143, and the next run resumes' '
    drop && rules "{\"/a.qcow2\": {\"times\": 1, \"drip\": [262144, 0.02], \"stall_after\": 5000000}}" &&
    { "$LARDER" image get "$url/a.qcow2" >out 2>err & } && pid=$! && started $pid &&
    wait_for sh -c "test \$(find \"$LARDER_HOME\" -path \"*partial*\" -size +3000k | wc -l) -gt 0" &&
    kill -TERM $pid && { wait $pid; test $? -eq 143; } && test ! -s out &&
    larder -q image get "$url/a.qcow2" >out 2>err && whole && resumed
'
# The prefix of a killed download is not trusted, it is hashed again.
expect_success 'a partial whose bytes were damaged: noticed, fetched from the start' '
    try "\"times\": 1, \"close_after\": 5000000"; failed $? 8 &&
    partial=$(find "$LARDER_HOME" -path "*partial*" -size +1000k) &&
    printf XXXX | dd of="$partial" bs=1 seek=100000 conv=notrunc 2>/dev/null &&
    larder -q image get "$url/a.qcow2" >out 2>err && whole
'
expect_success 'resume against a server that ignores Range: from the start, whole' '
    try "\"times\": 1, \"reset_after\": 5000000"; failed $? 8 && rules "{\"/a.qcow2\": {\"no_range\": true}}" &&
    larder -q image get "$url/a.qcow2" >out 2>err && whole && asked_times 1 GET /a.qcow2
'
expect_success 'content changed between: If-Range makes it start over, the new bytes come whole' '
    try "\"times\": 1, \"reset_after\": 5000000"; failed $? 8 &&
    cp www/a.qcow2 v1.qcow2 && cp v2.qcow2 www/a.qcow2 && sums &&
    larder -q image get "$url/a.qcow2" >out 2>err && whole; rc=$?
    cp v1.qcow2 www/a.qcow2 && sums && test $rc -eq 0
'
expect_success 'content changed between tries of one run: never a mix' '
    cp v2.qcow2 www/v2 && LARDER_NET_RETRIES=3 &&
    try "\"change_after\": 5000000, \"file2\": \"v2\", \"times\": 1"; rc=$?; LARDER_NET_RETRIES=0
    if test $rc -eq 0; then whole || test_cmp v2.qcow2 "$(cat out)"; else failed $rc 5; fi
'
for kind in '"weak": true' '"etag": null, "last_modified": null'; do
    expect_success "no strong validator ($kind): never resumed, whole in the end" '
        try "$kind, \"times\": 1, \"reset_after\": 5000000"; failed $? 8 && rules "{\"/a.qcow2\": {$kind}}" &&
        larder -q image get "$url/a.qcow2" >out 2>err && whole && expect_no_match "\"range\"" "$log"
    '
done
for kind in '"range_lie": 4096' '"range_shift": 4096' '"range_total": 99'; do
    expect_success "a wrong Content-Range ($kind): the right bytes or an error" '
        try "\"times\": 1, \"reset_after\": 5000000"; failed $? 8 && rules "{\"/a.qcow2\": {\"only_range\": true, $kind}}" &&
        { larder -q image get "$url/a.qcow2" >out 2>err; rc=$?; true; } &&
        if test $rc -eq 0; then whole; else test $rc -lt 126 && test ! -s out; fi &&
        rules "{}" && larder -q image get "$url/a.qcow2" >out 2>err && whole
    '
done
expect_success '416 to a resumed download: from the start' '
    try "\"times\": 1, \"reset_after\": 5000000"; failed $? 8 &&
    rules "{\"/a.qcow2\": {\"only_range\": true, \"status\": 416}}" &&
    { larder -q image get "$url/a.qcow2" >out 2>err ||
        larder -q image get "$url/a.qcow2" >out 2>err; } && whole
'
expect_success 'Content-Length too large: not taken for whole' '
    try "\"length\": \"+1000\""; failed $? 8
'
expect_success 'Content-Length too small: not taken' '
    try "\"length\": \"-1000\""; rc=$?; test $rc -ne 0 && failed $rc $rc && test $rc -lt 126
'
expect_success '... without any sums: too large is still refused' '
    mv www/SHA256SUMS kept && try "\"length\": \"+1000\""; rc=$?; mv kept www/SHA256SUMS; failed $rc 8
'
expect_success 'an HTML page with 200 is not an image, sums or not' '
    try "\"text\": \"<!DOCTYPE html><html><body>please log in</body></html>\""; rc=$?
    test $rc -ne 0 && test ! -s out && expect_match "html|HTML" err &&
    mv www/SHA256SUMS kept && try "\"text\": \"<html>no</html>\""; rc=$?; mv kept www/SHA256SUMS
    test $rc -ne 0 && test ! -s out && expect_match "html|HTML" err
'
expect_success 'JSON and an empty body with 200 are no images' '
    mv www/SHA256SUMS kept && { try "\"text\": \"{\\\"error\\\": 1}\""; rc1=$?; try "\"text\": \"\""; rc2=$?; mv kept www/SHA256SUMS
    test $rc1 -ne 0 && test $rc2 -ne 0 && test ! -s out; }
'
expect_success '--format: another one is refused' '
    try "" --format raw; rc=$?; test $rc -eq 1 && test ! -s out && expect_match "qcow2" err &&
    try "" --format qcow2 && whole
'
expect_success 'Content-Encoding: refused, not stored encoded' '
    try "\"encoding\": \"gzip\""; rc=$?; test $rc -ne 0 && test ! -s out && expect_match "ncod" err
'
expect_success '503 and 429 with Retry-After: waited for, then fetched' '
    LARDER_NET_RETRIES=2; start=$(date +%s%N)
    try "\"times\": 1, \"status\": 503, \"retry_after\": \"2\"" && whole && asked_times 2 GET /a.qcow2; rc=$?
    took=$((($(date +%s%N) - start) / 1000000)); LARDER_NET_RETRIES=0
    test $rc -eq 0 && test $took -ge 1900 &&
    LARDER_NET_RETRIES=2 && try "\"times\": 1, \"status\": 429, \"retry_after\": \"1\"" && whole; rc=$?
    LARDER_NET_RETRIES=0; test $rc -eq 0
'
expect_success 'Retry-After beyond reason: not waited for' '
    LARDER_NET_RETRIES=2
    try "\"status\": 503, \"retry_after\": \"86400\""; rc=$?; LARDER_NET_RETRIES=0
    failed $rc 8 && asked_times 1 GET /a.qcow2
'
expect_success '500 without end: 8 after net.retries more tries' '
    LARDER_NET_RETRIES=1; try "\"status\": 500"; rc=$?; LARDER_NET_RETRIES=0
    failed $rc 8 && asked_times 2 GET /a.qcow2
'
expect_success '404: 6, not tried again; 401 and 403: 1' '
    LARDER_NET_RETRIES=2; try "\"status\": 404"; rc1=$?; asked_times 1 GET /a.qcow2 && test $rc1 -eq 6; rc=$?
    try "\"status\": 403"; rc2=$?; asked_times 1 GET /a.qcow2 && test $rc2 -eq 1 && test $rc -eq 0; rc=$?
    LARDER_NET_RETRIES=0; test $rc -eq 0
'
expect_success 'redirects: a chain is followed' '
    drop && rules "{\"/x.qcow2\": {\"redirect\": \"/y.qcow2\"}, \"/y.qcow2\": {\"redirect\": \"http://localhost:{port}/a.qcow2\", \"status\": 307}}" &&
    larder -q image get "$url/x.qcow2" --checksum "$(digest www/a.qcow2)" >out 2>err && whole &&
    larder --json image list >list && larder --json image show "$(member list images 0 name)" >show &&
    json show "d[\"final_url\"] == \"http://localhost:$port/a.qcow2\""
'
expect_success 'redirects: a loop ends with an error' '
    drop && rules "{\"/x.qcow2\": {\"redirect\": \"/y.qcow2\"}, \"/y.qcow2\": {\"redirect\": \"/x.qcow2\"}}" &&
    expect_status 1 larder -q image get "$url/x.qcow2" --checksum "$(digest www/a.qcow2)" >out 2>err &&
    test ! -s out && expect_match "redirect" err && test "$(asked GET /x.qcow2)" -le 30
'
expect_success 'redirects: to a file or to anything that is not http is not followed' '
    drop && for to in file:///etc/passwd ftp://localhost/a gopher://localhost/a; do
        rules "{\"/x.qcow2\": {\"redirect\": \"$to\"}}" &&
        expect_status 1 larder -q image get "$url/x.qcow2" --checksum "$(digest www/a.qcow2)" 2>err || return 1
    done
'
expect_success 'nobody listens, no such host: 8' '
    expect_status 8 larder -q image get http://127.0.0.1:9/a.qcow2 2>err &&
    expect_status 8 larder -q image get http://nowhere.invalid/a.qcow2 2>err
'
expect_success 'sources that are no path and no http(s) URL are refused' '
    expect_status 1 larder image add f ftp://example.org/a.qcow2 2>err && expect_match "http" err
'
expect_success 'a URL that is none is refused at once, and leaves no entry' '
    for bad in "http://[::1/a.qcow2" http://localhost:99999/a.qcow2 http://:80/a.qcow2; do
        expect_status 2 larder image get "$bad" 2>err && expect_match "source: url:" err || return 1
    done && larder image list >out && ! grep -e ::1 -e 99999 -e http://:80 out
'
expect_success 'more than the store can hold: refused before a byte is fetched' '
    try "\"length\": 4611686018427387904" ; rc=$?; test $rc -eq 1 && test ! -s out &&
    expect_match "a.qcow2: needs [^:]* and 64 MiB to spare, .*free" err && expect_no_match "qcow2: .*qcow2: " err && expect_match "hint: .*gc" err
'
expect_success 'nothing is left behind by all that' '
    larder fsck >out && expect_match " 0 problems" out
'
test_done

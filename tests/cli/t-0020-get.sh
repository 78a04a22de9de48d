#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image get: every row of the verdict table, over HTTP, as a job sees it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

make_image v1.qcow2 1
make_image v2.qcow2 2
# publish N: version N becomes what upstream has, sums included.
publish() {
    cp "v$1.qcow2" www/a.qcow2 &&
        (cd www && sha256sum a.qcow2 >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS)
}
publish 1

expect_success 'add fetches nothing' '
    larder image add a "$url/a.qcow2" --refresh always 2>err &&
    test ! -s "$log" &&
    larder --json image show a >out &&
    json out "d[\"verdict\"] == \"unknown\" and \"path\" not in d"
'
expect_success 'add of a name that is there is an error, --replace changes it' '
    expect_status 1 larder image add a "$url/b.qcow2" 2>err &&
    expect_match "image a: exists already, source $url/a.qcow2" err &&
    expect_match "hint: .*--replace" err &&
    larder --quiet image add a "$url/a.qcow2" --refresh always --replace
'
expect_success 'miss: fetched, verified; only the path is on stdout' '
    larder image get a >out 2>err &&
    test "$(wc -l <out)" -eq 1 &&
    read -r path <out &&
    test_cmp v1.qcow2 "$path" &&
    expect_match "a: fetched .*$(digest v1.qcow2)" err
'
expect_success 'the path is content-addressed, absolute and read-only' '
    hex=$(digest v1.qcow2 | cut -d: -f2) &&
    case $path in "$LARDER_HOME"/blobs/sha256/*"$hex") ;; *) false ;; esac &&
    test "$(stat -c %a "$path")" = 444
'
expect_success 'hit: upstream is asked for its sums only, nothing is printed but the path' '
    rules "{}" &&
    larder image get a >out2 2>err &&
    test_cmp out out2 && test ! -s err &&
    asked_times 0 GET /a.qcow2 && asked_times 0 HEAD /a.qcow2 &&
    asked_times 1 GET /SHA256SUMS &&
    expect_match "\"status\": 304" "$log"
'
expect_success 'a hit reads no byte of the image' '
    larder -q image add n "$url/a.qcow2" --refresh never && larder -q image get n >out &&
    if command -v strace >/dev/null; then
        # A leak detector cannot work under a tracer.
        ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" strace -f -y -e trace=openat,open -o trace \
            "$LARDER" image get n >out2 &&
            expect_match "refs" trace && expect_no_match "blobs/sha256[/>].*$hex" trace
    fi
'
expect_success 'outdated: the new one is fetched beside the old, which stays as it was' '
    publish 2 &&
    larder --json image get a >out 2>err &&
    json out "d[\"how\"] == \"updated\" and d[\"previous_path\"] == \"$path\"" &&
    new=$(member out path) &&
    test_cmp v2.qcow2 "$new" && test_cmp v1.qcow2 "$path" &&
    expect_match "the one before stays at $path" err
'
expect_success 'corrupt: quarantined and fetched again in the same run' '
    chmod u+w "$new" && printf X | dd of="$new" bs=1 seek=700000 conv=notrunc 2>/dev/null &&
    chmod u-w "$new" && rules "{}" &&
    larder --json image get a >out 2>err &&
    json out "d[\"how\"] == \"refetched\" and d[\"verdict\"] == \"valid\"" &&
    test_cmp v2.qcow2 "$new" &&
    asked_times 1 GET /a.qcow2 &&
    expect_match "warning: image a: corrupt: .*quarantine" err &&
    larder --json status >out && json out "d[\"quarantined\"] == 1"
'
expect_success 'removed by hand: fetched again' '
    rm -f "$new" &&
    larder -q image get a >out 2>err &&
    test_cmp v2.qcow2 "$(cat out)"
'
expect_success 'refresh never: not a single request' '
    larder -q image get n >out && rules "{}" && publish 1 &&
    larder -q image get n >out2 && test_cmp out out2 &&
    test ! -s "$log"
'
expect_success 'refresh 1h: none within the hour, --fresh asks now' '
    larder -q image add h "$url/a.qcow2" --refresh 1h && larder -q image get h >out &&
    publish 2 && rules "{}" &&
    larder -q image get h >out2 && test_cmp out out2 && test ! -s "$log" &&
    larder -q image get h --fresh >out2 &&
    test_cmp v2.qcow2 "$(cat out2)" &&
    expect_match "GET" "$log"
'
expect_success 'a bare source: an entry is made for it, once' '
    larder -q image get "$url/a.qcow2" >out && test_cmp v2.qcow2 "$(cat out)" &&
    larder image list --json >before &&
    rules "{}" && larder -q image get "$url/a.qcow2" >out2 && test_cmp out out2 &&
    larder image list --json >after &&
    json after "len(d[\"images\"]) == 4" &&
    asked_times 0 GET /a.qcow2
'
expect_success 'a bare local source, relative, is made absolute' '
    cp v1.qcow2 local.qcow2 &&
    larder -q image get ./local.qcow2 >out && test_cmp v1.qcow2 "$(cat out)" &&
    (cd / && larder --json image list) >list &&
    json list "any(i[\"source\"] == \"$PWD/local.qcow2\" for i in d[\"images\"])"
'
expect_success 'no such entry and no such file: 3, no entry is made' '
    larder --json image list >before &&
    expect_status 3 larder image get nowhere 2>err && expect_match "nowhere" err &&
    expect_status 3 larder image get ./nowhere.qcow2 2>err &&
    larder --json image list >after && test_cmp before after
'
expect_success 'offline: what is here is used without a request; what is not is an error' '
    rules "{}" &&
    larder -q image get a --offline >out && test_cmp v2.qcow2 "$(cat out)" &&
    larder -q image add missing "$url/b.qcow2" &&
    expect_status 8 larder image get missing --offline >out 2>err &&
    test ! -s out && test ! -s "$log" &&
    expect_status 2 larder image get a --offline --require-fresh 2>err
'
expect_success 'gone: 6 when nothing is here' '
    expect_status 6 larder image get missing >out 2>err && test ! -s out &&
    expect_match "b.qcow2: .*404" err
'
expect_success 'gone upstream but here: used with a warning, 6 with --require-fresh' '
    mv www/a.qcow2 kept && mv www/SHA256SUMS kept.sums &&
    larder image get a >out 2>err && test_cmp v2.qcow2 "$(cat out)" &&
    expect_match "^larder: warning: image a: using the copy that is here: http" err &&
    expect_status 6 larder image get a --require-fresh >out 2>err &&
    mv kept www/a.qcow2 && mv kept.sums www/SHA256SUMS &&
    larder image get a --require-fresh >out 2>err && test ! -s err
'
expect_success 'unreachable by status: used with a warning, 8 with --require-fresh' '
    rules "{\"/SHA256SUMS\": {\"status\": 503}}" &&
    larder image get a >out 2>err && test_cmp v2.qcow2 "$(cat out)" &&
    expect_match "warning: image a: using the copy that is here: checksum file: http" err &&
    expect_status 8 larder image get a --require-fresh >out 2>err &&
    test ! -s out && expect_match "hint: .*require-fresh" err
'
expect_success 'list and show tell of the last failure' '
    larder --json image show a >out &&
    json out "\"503\" in d[\"last_error\"] and d[\"verdict\"] == \"valid\""
'
expect_success 'corrupt while upstream is away: nothing is handed out, 8' '
    rules "{}" && publish 1 && larder -q image get h --fresh >out &&
    rules "{\"/SHA256SUMS\": {\"status\": 503}}" &&
    path=$(larder -q image get a 2>/dev/null) && test_cmp v2.qcow2 "$path" &&
    chmod u+w "$path" && truncate -s -1 "$path" && chmod u-w "$path" &&
    expect_status 8 larder image get a >out 2>err && test ! -s out &&
    test ! -e "$path"
'
http_stop
expect_success 'server gone: 8 without a copy, a warning with one' '
    expect_status 8 larder image get a >out 2>err && test ! -s out &&
    larder image get h --fresh >out 2>err && test_cmp v1.qcow2 "$(cat out)" &&
    expect_match "warning: image h" err &&
    expect_status 8 larder image get h --fresh --require-fresh >out 2>err
'
expect_success '--quiet keeps failures and warnings, and no notes' '
    larder -q image get h --fresh >out 2>err && expect_match "warning" err &&
    expect_status 8 larder -q image get a 2>err && test -s err
'
test_done

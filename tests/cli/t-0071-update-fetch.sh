#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder update fetch into the store and into layouts: exactly what was found, or nothing.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

registry_start
name=$registry/os:stable
ref=docker://$name
keep() { larder -q copy "docker://$1" "store:$1" >/dev/null; }
# stored NAME: the digest of what a name of the store points to.
stored() { larder inspect --raw "store:$1" >"$test_work/raw" && digest "$test_work/raw"; }
v1='{"version": "1.0", "layers": [["a", 600], ["b", 3000], ["c", 75900]]}'
v2='{"version": "2.0", "layers": [["a", 600], ["b", 3000], ["d", 99999]]}'
v3='{"version": "3.0", "layers": [["e", 10], ["b", 3000], ["d", 99999]]}'

expect_success 'nothing is recorded: 3, and nothing is asked' '
    one=$(os_image "$v1") && keep "$name" && forget_requests &&
    expect_status 3 larder update fetch "$ref" 2>err && requests_are 0 &&
    expect_match "$name" err && larder -q update check "$ref" && forget_requests &&
    larder --json update fetch "$ref" >out && requests_are 0 &&
    json out "d[\"was_there\"] is True and d[\"digest\"] == \"$one\""
'
expect_success '--dry-run: what would be fetched, and nothing is' '
    two=$(os_image "$v2") && added=$(member "$test_work/image.json" layers 2) &&
    larder -q update check "$ref" >out && forget_requests &&
    find "$LARDER_HOME" -printf "%p %T@ %s\n" | sort >before &&
    larder update fetch --dry-run "$ref" >out 2>err &&
    find "$LARDER_HOME" -printf "%p %T@ %s\n" | sort >after && test_cmp before after &&
    expect_match "would fetch 1 layer \(100.0 kB\)" err && expect_match "^Digest: $two\$" out &&
    requests_are 0 "GET .*/blobs/" && requests_are 1 "GET .*/manifests/$two" &&
    requests_are 1 "HEAD .*/blobs/$added" && test "$(stored "$name")" = "$one" &&
    larder --json update show "$ref" >out && json out "d[\"update\"][\"digest\"] == \"$two\""
'
expect_success 'the tag moved: what was found is fetched, by its digest' '
    three=$(os_image "$v3") && forget_requests && larder update fetch "$ref" >out 2>err &&
    printf "Image: store:%s\nDigest: %s\n" "$name" "$two" >expected && test_cmp expected out &&
    expect_match "^larder: fetched 1 layer \(100.0 kB\)" err && test "$(stored "$name")" = "$two" &&
    requests_are 0 ".*/manifests/stable" && requests_are 1 "GET .*/blobs/$added" && larder fsck
'
expect_success '... and only what was not here' '
    requests_are 1 "GET .*/blobs/" || { requests_are 2 "GET .*/blobs/" &&
        requests_are 1 "GET .*/blobs/$(larder inspect --raw "store:$name" |
            "$python" -c "import json, sys; print(json.load(sys.stdin)[\"config\"][\"digest\"])")"; }
'
expect_success 'the record is consumed, and to fetch it again asks nobody' '
    larder --json update show "$ref" >out && json out "\"update\" not in d" &&
    json out "d[\"current\"][\"digest\"] == \"$two\" and d[\"current\"][\"version\"] == \"2.0\"" &&
    forget_requests && larder --json update fetch "$ref" >out && requests_are 0 &&
    json out "d[\"was_there\"] is True and d[\"digest\"] == \"$two\" and d[\"layers_fetched\"] == 0"
'
expect_success '--to: a layout, while the base stays' '
    larder -q update check "$ref" >out && test "$(cat out)" = "$three" &&
    larder --json update fetch --to oci:next:os "$ref" >out &&
    json out "d[\"digest\"] == \"$three\" and d[\"location\"] == \"oci:next:os\"" &&
    json out "d[\"imports\"] == [] and d[\"requests\"] > 0" &&
    larder inspect --raw oci:next:os >raw && test "$(digest raw)" = "$three" &&
    test "$(stored "$name")" = "$two" && larder --json update show "$ref" >out &&
    json out "d[\"state\"] == \"available\""
'
expect_success '--to: another name of the store' '
    larder -q update fetch --to store:next "$ref" >out && expect_match "^Image: store:next\$" out &&
    test "$(stored next)" = "$three" && test "$(stored "$name")" = "$two"
'
# gone DIGEST: the registry forgets the manifest.
gone() { admin DELETE "/_manifest/os/$1"; }
expect_success 'gone from the registry: 6, the record stays, nothing else is fetched' '
    keep "$name" && os_image "$v2" >/dev/null &&
    four=$(os_image "{\"version\": \"4.0\", \"layers\": [[\"g\", 5000]]}") &&
    larder -q update check "$ref" >out && test "$(cat out)" = "$four" &&
    larder --json update show "$ref" >before &&
    five=$(os_image "{\"version\": \"5.0\", \"layers\": [[\"h\", 5000]]}") && gone "$four" &&
    forget_requests && was=$(stored "$name") &&
    expect_status 6 larder update fetch "$ref" >out 2>err && test ! -s out &&
    expect_match "prepared digest gone" err && expect_match "or-newer" err && requests_are 0 "GET .*/blobs/" &&
    requests_are 0 ".*/manifests/stable" && test "$(stored "$name")" = "$was" &&
    larder --json update show "$ref" >after && test_cmp before after &&
    expect_status 6 larder --json update fetch "$ref" >out 2>err && json out "d[\"error\"][\"code\"] == \"gone\""
'
expect_success '... and a dry run says so, as it does of what --or-newer would fetch; neither writes' '
    find "$LARDER_HOME" -printf "%p %T@ %s\n" | sort >before &&
    expect_status 6 larder update fetch -n "$ref" >out 2>err && test ! -s out && expect_match "prepared digest gone" err &&
    larder --json update fetch -n --or-newer --state-dir "$PWD/state" "$ref" >out &&
    json out "d[\"digest\"] == \"$five\" and d[\"is_newer\"] and d[\"dry_run\"] and d[\"layers_fetched\"] == 1" &&
    json out "d[\"location\"] == \"store:$name\" and not d[\"was_there\"]" && test ! -e state &&
    find "$LARDER_HOME" -printf "%p %T@ %s\n" | sort >after && test_cmp before after
'
expect_success '--or-newer: what is there now' '
    larder --json update fetch --or-newer "$ref" >out &&
    json out "d[\"digest\"] == \"$five\" and d[\"is_newer\"] is True" && test "$(stored "$name")" = "$five"
'
expect_success '--or-newer takes what was found when that is there' '
    six=$(os_image "{\"version\": \"6.0\", \"layers\": [[\"i\", 5000]]}") && larder -q update check "$ref" >/dev/null &&
    seven=$(os_image "{\"version\": \"7.0\", \"layers\": [[\"j\", 5000]]}") &&
    larder --json update fetch --or-newer "$ref" >out &&
    json out "d[\"digest\"] == \"$six\" and d[\"is_newer\"] is False"
'
expect_success 'a layer is gone: 6, also of a dry run, and the base stays' '
    larder -q update check "$ref" >out && test "$(cat out)" = "$seven" &&
    admin DELETE "/_blob/os/$(larder inspect --raw "docker://$registry/os@$seven" |
        "$python" -c "import json, sys; print(json.load(sys.stdin)[\"layers\"][0][\"digest\"])")" &&
    expect_status 6 larder update fetch -n "$ref" 2>err && expect_match "prepared digest gone: .*no such blob" err &&
    expect_status 6 larder update fetch "$ref" 2>err && expect_match "gone" err &&
    test "$(stored "$name")" = "$six" && larder --json update show "$ref" >out &&
    json out "d[\"update\"][\"digest\"] == \"$seven\"" && larder fsck
'
expect_success 'a layer of other bytes: 5, and the base stays' '
    os_image "{\"version\": \"8.0\", \"layers\": [[\"k\", 5000]]}" >/dev/null &&
    layer=$(member "$test_work/image.json" layers 0) && larder -q update check "$ref" >/dev/null &&
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$layer\", \"corrupt\": 9}]}" &&
    expect_status 5 larder update fetch "$ref" 2>err && quirks "{}" && test "$(stored "$name")" = "$six"
'
expect_success 'an interrupted fetch is taken up where it ended' '
    eight=$(os_image "{\"version\": \"8.1\", \"layers\": [[\"big\", 6000000]]}") &&
    layer=$(member "$test_work/image.json" layers 0) && larder -q update check "$ref" >/dev/null &&
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$layer\", \"cut\": 4000000, \"times\": 1}]}" &&
    expect_status 8 larder update fetch "$ref" 2>err && quirks "{}" &&
    larder --json update fetch "$ref" >out && test "$(stored "$name")" = "$eight" &&
    json out "0 < d[\"bytes_resumed\"] < 6000000"
'
expect_success 'the same content in another packing is made here' '
    os_image "{\"repo\": \"repacked\", \"version\": \"1\", \"layers\": [[\"z\", 70000, 1]]}" >/dev/null &&
    keep "$registry/repacked:stable" &&
    again=$(os_image "{\"repo\": \"repacked\", \"version\": \"2\", \"layers\": [[\"z\", 70000], [\"y\", 9]]}") &&
    layer=$(member "$test_work/image.json" layers 0) &&
    larder --json update check "$registry/repacked:stable" >out &&
    json out "[l[\"presence\"] for l in d[\"update\"][\"diff\"][\"layers\"]][:2] == [\"here_diff_id\", \"needed\"]" &&
    json out "d[\"update\"][\"bytesNeeded\"] == 9" && forget_requests &&
    larder --json update fetch "$registry/repacked:stable" >out && requests_are 0 "GET .*/blobs/$layer" &&
    json out "d[\"layers_unpacked\"] == 1" && test "$(stored "$registry/repacked:stable")" = "$again" && larder fsck
'
expect_success 'a first image: all of it' '
    first=$(os_image "{\"repo\": \"first\"}") && larder -q update check "$registry/first:stable" >/dev/null &&
    larder -q update fetch "$registry/first:stable" >/dev/null && test "$(stored "$registry/first:stable")" = "$first" &&
    expect_status 77 larder update check --exit-code "$registry/first:stable"
'
layer_is_held() { admin GET /_waiting >waiting && json waiting 'd["held"] != []'; }
expect_success 'a check while a fetch runs: the fetch keeps to its own, and hides nothing newer' '
    os_image "{\"repo\": \"race\", \"version\": \"1\", \"layers\": [[\"r1\", 600]]}" >/dev/null &&
    race=$registry/race:stable && keep "$race" &&
    second=$(os_image "{\"repo\": \"race\", \"version\": \"2\", \"layers\": [[\"r2\", 600]]}") &&
    layer=$(member "$test_work/image.json" layers 0) && larder -q update check "$race" >/dev/null &&
    third=$(os_image "{\"repo\": \"race\", \"version\": \"3\", \"layers\": [[\"r3\", 600]]}") &&
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$layer\", \"hold\": true, \"times\": 1}]}" && forget_requests &&
    { larder -q update fetch "$race" >out & fetch=$!; } && wait_for layer_is_held &&
    larder -q update check "$race" >found && test "$(cat found)" = "$third" && admin DELETE /_waiting && wait "$fetch" && quirks "{}" &&
    test "$(stored "$race")" = "$second" && larder --json update show "$race" >out &&
    json out "d[\"state\"] != \"unchanged\"" && forget_requests && larder -q update check "$race" >found &&
    test "$(cat found)" = "$third" && requests_are 1
'
expect_success 'the name was moved while a fetch ran: 7, and it stays where somebody put it' '
    larder -q update check "$race" >found && fourth=$(cat found) &&
    larder inspect --raw "docker://$registry/race@$fourth" >raw &&
    layer=$(member raw layers 0 digest) && larder -q copy "docker://$registry/first:stable" store:mine &&
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$layer\", \"hold\": true, \"times\": 1}]}" &&
    { larder update fetch "$race" >out 2>err & fetch=$!; } && wait_for layer_is_held &&
    larder -q copy store:mine "store:$race" && admin DELETE /_waiting && { wait "$fetch"; test $? -eq 7; } && quirks "{}" && test ! -s out &&
    expect_match "store:$race: was moved by somebody, and points to $first now" err &&
    expect_match "update check" err && test "$(stored "$race")" = "$first" &&
    larder --json update show "$race" >out && json out "d[\"state\"] == \"unknown\""
'
expect_success '... of another destination, too: a name of the store, and a layout' '
    for to in "store:elsewhere" "oci:$PWD/elsewhere:os"; do
        larder -q copy "docker://$registry/repacked:stable" "$to" && larder -q update check "$race" >found &&
            test "$(cat found)" = "$fourth" &&
            larder delete "store:$race" && larder gc --keep-for 0 >/dev/null && larder -q copy store:mine "store:$race" &&
            larder -q update check "$race" >/dev/null &&
            quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$layer\", \"hold\": true, \"times\": 1}]}" &&
            { larder -q update fetch --to "$to" "$race" >out 2>err & fetch=$!; } &&
            wait_for layer_is_held && larder -q copy store:mine "$to" && admin DELETE /_waiting &&
            { wait "$fetch"; test $? -eq 7; } && quirks "{}" &&
            expect_match "was moved by somebody, and points to $first now" err &&
            larder inspect --raw "$to" >raw && test "$(digest raw)" = "$first" || return 1
    done
'
expect_success '... and where nobody moved it, it is moved, also from what it is not' '
    larder -q update fetch --to store:elsewhere "$race" >/dev/null && test "$(stored elsewhere)" = "$fourth" &&
    larder -q update fetch "$race" >/dev/null && test "$(stored "$race")" = "$fourth"
'
expect_success 'gc takes nothing of what was fetched, and nothing is kept by a record' '
    larder gc --keep-for 0 >/dev/null && test "$(stored "$name")" = "$eight" && larder fsck
'
expect_success 'the registry is away: 8, and the record stays' '
    os_image "$v1" >/dev/null && larder -q update check "$ref" >out && larder --json update show "$ref" >before &&
    registry_stop && larder -q delete "store:next" 2>/dev/null
    expect_status 8 larder update fetch "$ref" 2>err && larder --json update show "$ref" >after &&
    json after "d[\"update\"][\"digest\"] == \"$one\""
'
test_done

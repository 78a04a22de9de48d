#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image invalidate: the manual trigger.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

for i in 1 2 3; do
    make_image www/i$i.qcow2 $i
    larder -q image add i$i "$url/i$i.qcow2"
    larder -q image get i$i >path$i
done
is_there() { test -e "$(cat "$1")"; }

expect_success 'by name --dry-run: said, not done' '
    larder image invalidate i1 --dry-run >out && expect_match "^i1 $(digest www/i1.qcow2): would be" out &&
    is_there path1 && larder --json image show i1 >show && json show "not d[\"is_invalidated\"]"
'
expect_success 'where there is nothing to invalidate, that is said' '
    larder -q image add unfetched "$url/i1.qcow2" && larder image invalidate unfetched >out 2>err && test ! -s out &&
    expect_match "^larder: unfetched: nothing to invalidate" err && larder image invalidate --mismatched >out 2>err &&
    expect_match "^larder: nothing to invalidate" err && larder -q image remove unfetched
'
expect_success 'by name: never handed out again, not even offline; the next get fetches' '
    larder image invalidate i1 >out && expect_match "^i1 " out && ! is_there path1 &&
    larder --json image show i1 >show && json show "d[\"is_invalidated\"]" &&
    expect_status 8 larder image get i1 --offline >out 2>err && test ! -s out && rules "{}" &&
    larder --json image get i1 >out && json out "d[\"how\"] == \"refetched\"" && asked_times 1 GET /i1.qcow2 &&
    larder --json image show i1 >show && json show "not d[\"is_invalidated\"]"
'
expect_success 'by digest: every entry of it' '
    larder -q image add same "$url/i2.qcow2" && larder -q image get same >out && test_cmp path2 out &&
    larder --json image invalidate "$(digest www/i2.qcow2)" >out &&
    json out "sorted(i[\"name\"] for i in d[\"invalidated\"]) == [\"i2\", \"same\"]" && ! is_there path2
'
expect_success 'what is not there: 3' '
    expect_status 3 larder image invalidate nowhere 2>err && expect_match "nowhere" err &&
    expect_status 3 larder image invalidate sha256:$(printf %064d 0) 2>err
'
expect_success 'one of several missing: the others are done, 3' '
    larder -q image get i2 >out && expect_status 3 larder image invalidate nowhere i2 >out 2>err && expect_match "^i2" out
'
expect_success '--mismatched: exactly the corrupt and the outdated' '
    for i in i1 i2 i3 same; do larder -q image get $i || return 1; done >out &&
    chmod u+w "$(cat path1)" && echo x >>"$(cat path1)" && chmod u-w "$(cat path1)" &&
    make_image www/i3.qcow2 33 &&
    larder --json image invalidate --mismatched --dry-run >dry && is_there path1 && is_there path3 &&
    larder --json image invalidate --mismatched >out 2>err &&
    json out "[i[\"name\"] for i in d[\"invalidated\"]] == [\"i1\", \"i3\"]" && json dry "[i[\"name\"] for i in d[\"invalidated\"]] == [\"i1\", \"i3\"]" &&
    ! is_there path1 && ! is_there path3 && is_there path2
'
expect_success '--mismatched again: nothing; and with upstream away nothing is thrown away' '
    larder --json image invalidate --mismatched >out && json out "d[\"invalidated\"] == []" &&
    rules "{\"/i2.qcow2\": {\"status\": 500}}" && larder --json image invalidate --mismatched >out 2>err &&
    json out "d[\"invalidated\"] == []" && expect_match "warning" err && is_there path2 && rules "{}"
'
expect_success '--older-than' '
    larder -q image get i1 >out && larder -q image get i3 >path3 &&
    larder --json image invalidate --older-than 1h >out && json out "d[\"invalidated\"] == []" &&
    sed -i "s/\"fetchedNs\": [0-9]*/\"fetchedNs\": 1/" "$LARDER_HOME"/refs/*i1* "$LARDER_HOME"/refs/*i2* \
        "$LARDER_HOME"/refs/*i3* "$LARDER_HOME"/refs/*same* &&
    larder -q image invalidate i1 && larder -q image get i1 >path1 &&
    larder --json image invalidate --older-than 1h >out && json out "[i[\"name\"] for i in d[\"invalidated\"]] == [\"i2\", \"i3\", \"same\"]" &&
    is_there path1
'
expect_success 'in use: the user keeps its bytes, the name gets new ones' '
    cat "$(cat path1)" >copy && exec 9<"$(cat path1)" && larder image invalidate i1 >out && expect_match "in use" out &&
    larder -q image get i1 >out && test_cmp www/i1.qcow2 "$(cat out)" && cmp copy - <&9; rc=$?; exec 9<&-; test $rc -eq 0
'
expect_success '... and gc takes the old bytes when nobody uses them' '
    LARDER_GC_MAX_QUARANTINE=0 "$LARDER" gc >out && larder --json status >out && json out "d[\"quarantined\"] == 0"
'
expect_success 'an overlay needs the path: kept, marked, refetched under --force only' '
    larder -q image overlay i1 o.qcow2 && larder -q image get i1 >path1 && larder image invalidate i1 >out && is_there path1 &&
    expect_match "in use" out && larder --json image show i1 >show && json show "d[\"is_invalidated\"]" &&
    larder image invalidate i1 --force >out && ! is_there path1
'
expect_success 'wrong usage: nothing, or more than one way to say it' '
    expect_status 2 larder image invalidate 2>err && expect_status 2 larder image invalidate i1 --mismatched 2>err &&
    expect_status 2 larder image invalidate --older-than 0 2>err
'
test_done

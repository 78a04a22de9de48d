#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# gc, scrub, fsck, du, status, maintain and blob.
. "$(dirname "$0")/lib.sh"

for i in 1 2 3 4; do
    make_image i$i.qcow2 $i
    larder -q image add i$i ./i$i.qcow2 --refresh never
    larder -q image get i$i >path$i
    sleep 0.02
done
is_there() { test -e "$(cat "path$1")"; }
# used N WHEN: as if it had been; the time is that of the memo's file.
used() { touch -d "$2" "$LARDER_HOME/memo/sha256/$(basename "$(cat "path$1")")"; }

expect_success 'gc: what entries refer to stays, whatever its age' '
    larder gc --keep-for 0 >out && expect_match "removed 0 blobs" out && is_there 1 && is_there 4
'
expect_success 'gc --dry-run: names what would go, removes nothing' '
    larder -q image remove i1 && larder gc --keep-for 0 --dry-run >out && expect_match "would remove blob $(digest i1.qcow2)" out && is_there 1
'
expect_success 'gc keeps for 7 days by default what nothing refers to' '
    larder gc >out && is_there 1 && larder gc --keep-for 1h >out && is_there 1
'
expect_success 'gc: leases are respected (a process, and its death)' '
    larder -q image add i1 ./i1.qcow2 && { "$LARDER" -q image use i1 -- sleep 1000 & } && user=$! && started $user &&
    wait_for sh -c "\"$LARDER\" image show i1 | grep -q \"process\"" && larder -q image remove i1 &&
    larder gc --keep-for 0 >out && is_there 1 && kill $user; wait $user; larder gc --keep-for 0 >out && ! is_there 1
'
expect_success 'gc: a file that is open is in use' '
    exec 9<"$(cat path2)" && larder -q image remove i2 && larder --json gc --keep-for 0 >out; rc=$?; is_there 2; there=$?; exec 9<&-
    test $rc -eq 0 && { test $there -eq 0 || json out "d[\"pinned_blobs\"] >= 1"; } && larder gc --keep-for 0 >out && ! is_there 2
'
expect_success 'gc --max-size: least recently used first, entries too' '
    larder -q image add i1 ./i1.qcow2 --refresh never && larder -q image get i1 >path1 && larder -q image add i2 ./i2.qcow2 --refresh never && larder -q image get i2 >path2 &&
    for i in 1 2 3 4; do used $i "1 hour ago"; done && used 4 "3 hours ago" && used 3 "5 hours ago" &&
    larder -q image get i3 >out && larder --json du >out && size=$(member out blob_allocated_bytes) && larder gc --keep-for 0 --max-size $((size - 4096)) >out &&
    ! is_there 4 && is_there 3 && is_there 1 && is_there 2
'
expect_success '... the entry is still known, and its get fetches it' '
    larder --json image show i4 >show && json show "d[\"verdict\"] == \"unknown\"" && larder -q image get i4 >out && test_cmp i4.qcow2 "$(cat out)"
'
expect_success 'gc --json: items and sums' '
    larder --json gc --dry-run --keep-for 0 --max-size 1 >out && json out "d[\"dry_run\"] and d[\"removed_blobs\"] == len([i for i in d[\"items\"] if i[\"action\"] == \"removed\" and i[\"what\"] == \"blob\"])"
'
expect_success 'gc: what dead processes left in tmp goes, what live ones have stays' '
    touch "$LARDER_HOME/tmp/.tmp-999999-1-0123456789abcdef" && larder gc >out && test ! -e "$LARDER_HOME/tmp/.tmp-999999-1-0123456789abcdef"
'

expect_success 'scrub: all is hashed; a second time nothing is due' '
    larder --json scrub --older-than 0 >out && json out "d[\"checked_blobs\"] >= 4 and d[\"corrupt_blobs\"] == 0 and d[\"is_complete\"]" &&
    larder --json scrub >out && json out "d[\"checked_blobs\"] == 0"
'
expect_success 'scrub finds bit rot behind an unchanged stat, 5, quarantines; get fetches again' '
    path=$(cat path3) && touch -r "$path" stamp && chmod u+w "$path" && printf X | dd of="$path" bs=1 seek=700000 conv=notrunc 2>/dev/null && chmod u-w "$path" && touch -r stamp "$path" &&
    expect_status 5 larder scrub --older-than 0 >out && expect_match "$(digest i3.qcow2): corrupt" out && ! is_there 3 &&
    larder -q image get i3 >out 2>err && test_cmp i3.qcow2 "$(cat out)"
'
expect_success 'scrub --stop-after: ends early, the next goes on from there' '
    larder --json scrub --older-than 0 --max-rate 1M --stop-after 1s --foreground >out && json out "not d[\"is_complete\"] and 0 < d[\"checked_blobs\"] < 4" &&
    larder --json scrub --older-than 0 >out && json out "d[\"is_complete\"]"
'

expect_success 'fsck: clean' '
    larder fsck --deep >out && expect_match "0 problems" out
'
expect_success 'fsck: a corrupt blob is 5, named; without --repair nothing is changed' '
    path=$(cat path3) && chmod u+w "$path" && echo x >>"$path" && expect_status 5 larder fsck >out 2>err &&
    expect_match "corrupt-blob|bad-mode" out && expect_match "$(basename "$path")" out && is_there 3 && expect_match "hint: .*--repair" err
'
expect_success 'fsck --repair: quarantined or mended, then clean' '
    { larder fsck --repair >out; true; } && larder -q image get i3 >path3 2>err && larder fsck --deep >out && expect_match " 0 problems" out
'
expect_success 'fsck: what needs no repair is counted as harmless, not as a problem' '
    larder -q image invalidate i3 >out &&
    larder fsck >out && expect_match ": 0 problems, 0 repaired, 1 harmless .shown with --verbose.$" out && test "$(wc -l <out)" -eq 1 &&
    larder fsck -v >out && expect_match "^dangling-ref image/i3: .*harmless" out && expect_match ", 1 harmless$" out &&
    larder -q image get i3 >path3 && larder fsck >out && expect_match ", 0 harmless$" out
'
expect_success 'fsck: foreign files are reported and never touched' '
    echo mine >"$LARDER_HOME/mine.txt" && { larder --json fsck --repair >out; true; } && json out "any(f[\"kind\"] == \"foreign\" and \"mine.txt\" in f[\"object\"] for f in d[\"found\"])" &&
    test -s "$LARDER_HOME/mine.txt" && rm "$LARDER_HOME/mine.txt"
'
expect_success 'fsck --rebuild-index; a corrupt index loses nothing' '
    larder du >before && head -c 8192 /dev/urandom >"$LARDER_HOME/index.sqlite" && rm -f "$LARDER_HOME"/index.sqlite-* &&
    larder -q image get i3 >out && test_cmp path3 out && larder --json status >out && json out "d[\"blobs\"] >= 4" &&
    larder fsck --rebuild-index >out && larder fsck >out && larder --json du >out && json out "d[\"blob_count\"] >= 4"
'
expect_success 'the index may be deleted at any time' '
    rm -f "$LARDER_HOME"/index.sqlite* && larder image list >out && larder gc >out && larder fsck >out
'
expect_success 'a damaged entry: named, nothing else is hindered, the image can be added again' '
    ref=$(find "$LARDER_HOME/refs" -name "*i4*" -type f) && chmod u+w "$ref" && echo "{" >"$ref" && { larder image list >out 2>err; test $? -ne 0; } && expect_match "^i3 " out && expect_match "i4" err &&
    larder -q image get i3 >out && { larder fsck >out; test $? -eq 5; } && expect_match "bad-ref" out && larder -q image add i4 ./i4.qcow2 --replace && larder -q image get i4 >path4
'

expect_success 'du: blobs with their names, and sums that are right' '
    larder --json du >out && json out "d[\"blob_bytes\"] == sum(b[\"size_bytes\"] for b in d[\"blobs\"]) and d[\"blob_count\"] == len(d[\"blobs\"])" &&
    json out "any(\"i3\" in b.get(\"refs\", \"\") and b[\"digest\"] == \"$(digest i3.qcow2)\" for b in d[\"blobs\"])" && larder du >text && expect_match "in all" text
'
expect_success 'status: text and JSON' '
    larder status >text && expect_match "^store +$LARDER_HOME" text && larder --json status >out && json out "d[\"images\"][\"valid\"] == 4 and d[\"refs\"] == 4 and d[\"store\"] == \"$LARDER_HOME\""
'

expect_success 'blob put, path, cat, verify' '
    d=$(larder blob put i1.qcow2) && test "$d" = "$(digest i1.qcow2)" && larder blob cat "$d" | cmp - i1.qcow2 && test_cmp i1.qcow2 "$(larder blob path "$d")" && larder blob verify "$d" --deep 2>err &&
    e=$(echo hello | larder blob put -) && test "$(larder blob cat "$e")" = hello
'
expect_success 'blob put --expect: other bytes are refused, 5; sha512 names them' '
    expect_status 5 larder blob put i1.qcow2 --expect "$(digest i2.qcow2)" 2>err && s=sha512:$(sha512sum i1.qcow2 | cut -c1-128) && test "$(larder blob put i1.qcow2 --expect "$s")" = "$s" &&
    case $(larder blob path "$s") in */blobs/sha512/*) ;; *) false ;; esac
'
expect_success 'blob: what is not there is 3, what is no digest 2' '
    expect_status 3 larder blob cat sha256:$(printf %064d 0) 2>err && expect_status 3 larder blob path sha256:$(printf %064d 0) 2>err && expect_status 2 larder blob cat nonsense 2>err
'
expect_success 'blob verify: corrupt is 5, and cat does not print it' '
    p=$(larder blob path "$e") && chmod u+w "$p" && echo x >>"$p" && { larder blob cat "$e" >out 2>err; test $? -eq 5; } && expect_status 5 larder blob verify "$e" 2>err || { larder blob verify "$e" 2>err; test $? -eq 3; }
'

expect_success 'maintain --dry-run changes nothing' '
    make_image i3.qcow2 33 && larder -q image add i3 ./i3.qcow2 --refresh always --replace && larder maintain --once --dry-run >out && expect_match "refresh i3: due" out && larder -q image get i3 --offline >out && test_cmp path3 out
'
expect_success 'maintain --once: refreshes what is due, fetches again what rotted, gc' '
    path=$(cat path1) && chmod u+w "$path" && printf X | dd of="$path" bs=1 seek=700000 conv=notrunc 2>/dev/null && chmod u-w "$path" && touch "$LARDER_HOME/tmp/.tmp-999999-1-0123456789abcdef" &&
    { LARDER_SCRUB_OLDER_THAN=0 "$LARDER" maintain --once >out 2>err; test $? -eq 5; } && expect_match "^refresh i3: updated" out && expect_match "^refetch i1: " out && expect_match "^scrub sha256" out &&
    test_cmp i1.qcow2 "$path" && larder -q image get i3 --offline >out && test_cmp i3.qcow2 "$(cat out)" && test ! -e "$LARDER_HOME/tmp/.tmp-999999-1-0123456789abcdef"
'
expect_success 'maintain --once with nothing to do: 0' '
    larder maintain --once >out
'
expect_success 'maintain --every: rounds until a signal ends it' '
    { "$LARDER" --json maintain --every 1s >rounds 2>err & } && pid=$! && started $pid && wait_for sh -c "test \$(grep -c worst rounds) -ge 2" && kill -TERM $pid && { wait $pid; test $? -eq 143; }
'
expect_success 'maintain --once --every, --every 0: wrong usage' '
    expect_status 2 larder maintain --once --every 1h 2>err && expect_status 2 larder maintain --every 0 2>err
'
test_done

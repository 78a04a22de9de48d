#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every way to damage cached bytes, against get and verify, and verify's exit statuses.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

for i in 1 2 3; do
    make_image www/i$i.qcow2 "$i"
    larder -q image add i$i "$url/i$i.qcow2" --refresh 1h
done
(cd www && sha256sum i?.qcow2 >SHA256SUMS)
larder -q image get i1 >path1
larder -q image get i2 >path2
larder -q image get i3 >path3
read -r path <path1

# Only the owner of the bytes can do this; the mode is put back as larder left it.
flip() { printf '\377\376' | dd of="$1" bs=1 seek="${2:-900000}" conv=notrunc 2>/dev/null; }
shorten() { truncate -s -4096 "$1"; }
grow() { truncate -s +4096 "$1"; }
append() { echo more >>"$1"; }
empty() { : >"$1"; }
magic() { flip "$1" 0; }
replaced() { cp www/i2.qcow2 "$1.new" && mv "$1.new" "$1" && chmod 444 "$1"; }

for how in flip shorten grow append empty magic replaced; do
    expect_success "$how: verify says corrupt (5) and quarantines, get fetches again" '
        larder -q image get i1 >out && chmod u+w "$path" && $how "$path" && chmod u-w "$path" &&
        expect_status 5 larder image verify i1 >out 2>err &&
        expect_match "^i1: corrupt: ." out && test ! -e "$path" &&
        expect_status 5 larder --quiet image verify i1 i2 >out 2>err || test $? -ne 5 &&
        rules "{}" &&
        larder --json image get i1 >out 2>err &&
        json out "d[\"path\"] == \"$path\" and d[\"how\"] in (\"refetched\", \"fetched\")" &&
        test_cmp www/i1.qcow2 "$path" && asked_times 1 GET /i1.qcow2 &&
        larder image verify i1 >out && expect_match "^i1: valid$" out
    '
    expect_success "$how: get alone notices, and never prints a bad path" '
        chmod u+w "$path" && $how "$path" && chmod u-w "$path" &&
        larder -q image get i1 >out 2>err && test_cmp www/i1.qcow2 "$(cat out)" &&
        expect_match "warning: image i1: corrupt" err
    '
done
expect_success 'mtime put back: ctime still gives it away, get does not hand out those bytes' '
    touch -r "$path" stamp && chmod u+w "$path" && flip "$path" && chmod u-w "$path" &&
    touch -r stamp "$path" &&
    expect_status 5 larder image verify i1 --deep >out &&
    expect_match "^i1: corrupt: bytes hash to" out &&
    larder -q image get i1 >out 2>err && test_cmp www/i1.qcow2 "$(cat out)"
'
expect_success 'a touched but whole image is valid, and not fetched again' '
    rules "{}" && touch "$path" && larder image verify i1 >out && expect_match "i1: valid" out &&
    larder -q image get i1 >out && asked_times 0 GET /i1.qcow2
'
expect_success 'two images swapped: both are corrupt, both come back' '
    mv "$(cat path2)" swap && mv "$(cat path3)" "$(cat path2)" && mv swap "$(cat path3)" &&
    expect_status 5 larder image verify --all >out 2>err &&
    expect_match "^i1: valid" out && expect_match "^i2: corrupt" out &&
    expect_match "^i3: corrupt" out &&
    larder -q image get i2 >out && test_cmp www/i2.qcow2 "$(cat out)" &&
    larder -q image get i3 >out && test_cmp www/i3.qcow2 "$(cat out)"
'
expect_success 'a symbolic link in the place of a blob is not followed, its target not touched' '
    cp www/i1.qcow2 mine.qcow2 && echo x >>mine.qcow2 && cp mine.qcow2 mine.copy &&
    rm -f "$path" && ln -s "$PWD/mine.qcow2" "$path" &&
    larder -q image get i1 >out 2>err; larder -q image get i1 >out 2>err &&
    test_cmp www/i1.qcow2 "$(cat out)" && test ! -L "$(cat out)" && test_cmp mine.copy mine.qcow2
'
expect_success 'the evidence is in quarantine, and larder status counts it' '
    larder --json status >out && json out "d[\"quarantined\"] >= 5"
'

expect_success 'verify: 0 when all are valid, quiet says nothing' '
    larder image verify >out && test "$(grep -c ": valid$" out)" -eq 3 &&
    larder -q image verify --all >out && test ! -s out
'
expect_success 'verify of nothing known: 3; of nothing fetched: unknown, 8' '
    expect_status 3 larder image verify nowhere >out 2>err &&
    cat out err >both && expect_match "nowhere" both &&
    larder -q image add later "$url/later.qcow2" &&
    larder image verify later >out 2>err; test $? -ne 5 && expect_match "^later: unknown" out &&
    larder -q image remove later
'
expect_success 'verify --fresh: outdated is 4, and the old one is still handed out offline' '
    make_image www/i2.qcow2 22 && (cd www && sha256sum i?.qcow2 >SHA256SUMS) &&
    larder image verify i2 >out && expect_match "valid" out &&
    expect_status 4 larder image verify i2 --fresh >out 2>err &&
    expect_match "^i2: outdated: upstream publishes sha256:[0-9a-f]*" out &&
    larder --json image list >out &&
    json out "[i[\"verdict\"] for i in d[\"images\"]] == [\"valid\", \"outdated\", \"valid\"]" &&
    larder -q image get i2 --offline >out && test "$(cat out)" = "$(cat path2)"
'
expect_success 'an entry known to be outdated is fetched by the next get, within its refresh age' '
    larder -q image get i2 >out && test_cmp www/i2.qcow2 "$(cat out)"
'
expect_success 'verify: corrupt is worse than outdated' '
    make_image www/i2.qcow2 23 && (cd www && sha256sum i?.qcow2 >SHA256SUMS) &&
    chmod u+w "$path" && flip "$path" && chmod u-w "$path" &&
    expect_status 5 larder image verify --fresh >out 2>err &&
    expect_match "i1: corrupt" out && expect_match "i2: outdated" out &&
    larder -q image get i1 >out 2>err && larder -q image get i2 >out
'
expect_success 'verify --fresh without upstream: 8, never corrupt' '
    rules "{\"/SHA256SUMS\": {\"status\": 500}}" &&
    expect_status 8 larder image verify i1 --fresh >out 2>err &&
    expect_no_match "corrupt|outdated" out &&
    larder image verify i1 >out
'
expect_success 'verify --json' '
    rules "{}" && larder --json image verify --deep --fresh >out &&
    json out "[(i[\"name\"], i[\"verdict\"]) for i in d[\"images\"]] == [(n, \"valid\") for n in (\"i1\", \"i2\", \"i3\")]" &&
    json out "d[\"images\"][0][\"size_bytes\"] == $(stat -c %s www/i1.qcow2) and d[\"images\"][0][\"digest\"] == \"$(digest www/i1.qcow2)\""
'
test_done

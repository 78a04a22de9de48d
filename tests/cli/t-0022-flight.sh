#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Many processes that want the same at once.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start

make_image www/a.qcow2 1
make_image v2.qcow2 2
(cd www && sha256sum a.qcow2 >SHA256SUMS)
larder -q image add a "$url/a.qcow2" --refresh 1h
all() { echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; }

# gets ARG...: sixteen of them; out.N, err.N, and their statuses in statuses.
gets() {
    pids=
    for i in $(all); do
        "$LARDER" image get "$@" >"out.$i" 2>"err.$i" &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid"
        echo $?
    done >statuses
    cat statuses err.*
    test "$(sort -u statuses)" = 0
}

expect_success '16 at once that miss: one download, the same path for all' '
    rules "{\"/a.qcow2\": {\"drip\": [65536, 0.02]}}" &&
    gets a && test "$(cat out.* | sort -u | wc -l)" -eq 1 &&
    test_cmp www/a.qcow2 "$(cat out.1)" &&
    asked_times 1 GET /a.qcow2
'
expect_success '16 at once that find it outdated: one download' '
    cp v2.qcow2 www/a.qcow2 && (cd www && sha256sum a.qcow2 >SHA256SUMS) &&
    expect_status 4 larder image verify a --fresh >out &&
    rules "{\"/a.qcow2\": {\"drip\": [65536, 0.02]}}" &&
    gets a && asked_times 1 GET /a.qcow2 &&
    for i in $(all); do test_cmp www/a.qcow2 "$(cat out.$i)" || return 1; done
'
expect_success '16 at once that find it corrupt: one download, never a bad byte' '
    path=$(cat out.1) && chmod u+w "$path" && echo x >>"$path" && chmod u-w "$path" &&
    rules "{\"/a.qcow2\": {\"drip\": [65536, 0.02]}}" &&
    gets a && asked_times 1 GET /a.qcow2 && test_cmp www/a.qcow2 "$path"
'
expect_success '16 at once with a bare source: one entry, one download' '
    make_image www/b.qcow2 3 && rules "{\"/b.qcow2\": {\"drip\": [65536, 0.02]}}" &&
    gets "$url/b.qcow2" && asked_times 1 GET /b.qcow2 &&
    larder --json image list >out && json out "len(d[\"images\"]) == 2"
'
expect_success 'two entries of one source: one download' '
    make_image www/c.qcow2 4 && larder -q image add c1 "$url/c.qcow2" &&
    (cd www && sha256sum ?.qcow2 >SHA256SUMS) &&
    larder -q image add c2 "$url/c.qcow2" && rules "{\"/c.qcow2\": {\"drip\": [65536, 0.02]}}" &&
    { "$LARDER" -q image get c1 >out.1 & } && larder -q image get c2 >out.2 && wait $! &&
    test_cmp out.1 out.2 && asked_times 1 GET /c.qcow2
'
# at_locks PID: it has a lock, or waits for one. partial_of SIZE: a download has come so far.
at_locks() { find "/proc/$1/fd" -lname "*/locks/*" | grep -q .; }
partial_of() { find "$LARDER_HOME/partial" -size "+$1" | grep -q .; }
expect_success 'the winner killed in the middle: another one goes on, all others are served' '
    make_image www/d.qcow2 5 6 && (cd www && sha256sum ?.qcow2 >SHA256SUMS) &&
    larder -q image add d "$url/d.qcow2" && rules "{\"/d.qcow2\": {\"times\": 1, \"stall_after\": 4000000}}" &&
    { "$LARDER" -q image get d >killed & } && first=$! && started $first &&
    wait_for grep -q "GET.*/d.qcow2" "$log" && wait_for partial_of 2000k &&
    { "$LARDER" -q image get d >out.1 2>err.1 & } && second=$! &&
    { "$LARDER" -q image get d >out.2 2>err.2 & } && third=$! &&
    wait_for at_locks $second && wait_for at_locks $third && kill -9 $first && { wait $first; test ! -s killed; } &&
    wait $second && wait $third &&
    test_cmp www/d.qcow2 "$(cat out.1)" && test_cmp out.1 out.2 &&
    asked_times 2 GET /d.qcow2 && expect_match "\"if-range\".*\"status\": 206" "$log"
'
expect_success 'nothing is left behind' '
    larder fsck --deep >out && expect_match " 0 problems" out &&
    larder --json status >out && json out "d[\"partials\"] == 0" &&
    test -z "$(ls -A "$LARDER_HOME/tmp" 2>/dev/null)"
'
test_done

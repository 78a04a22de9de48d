#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder update watch: many references, a line a change, rounds that end by a signal.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

registry_start
keep() { larder -q copy "docker://$1" "store:$1" >/dev/null; }
# image NAME VERSION: moves NAME:stable there; prints the digest.
image() { os_image "{\"repo\": \"$1\", \"version\": \"$2\", \"layers\": [[\"$1\", 600], [\"$2\", 50]]}"; }
for one in a b c; do
    image $one 1 >/dev/null
    keep "$registry/$one:stable"
done
a=docker://$registry/a:stable b=docker://$registry/b:stable c=docker://$registry/c:stable

expect_success '--once: a line a change, one failing reference ends nothing' '
    a2=$(image a 2) &&
    expect_status 3 larder update watch --once "$a" "$b" "docker://$registry/none:1" >out 2>err &&
    expect_match "^$a: update available: 2 \(2026-01-02T03:04:05Z\) $a2\$" out &&
    expect_no_match "update available: .*$b|none:1" out &&
    expect_match "^larder: warning: .*none:1" err && test "$(wc -l <err)" -eq 1
'
expect_success 'again: nothing changed, nothing is said, a question each' '
    forget_requests && larder update watch --once "$a" "$b" >out 2>err && test ! -s out && test ! -s err &&
    requests_are 2 && requests_are 2 HEAD
'
expect_success 'no update any more' '
    image a 1 >/dev/null && larder update watch --once "$a" "$b" >out &&
    echo "$a: no update any more" >expected && test_cmp expected out
'
expect_success '--json: an object a line' '
    b2=$(image b 2) && expect_status 3 larder --json update watch --once "$a" "$b" "$registry/none:1" >out 2>err &&
    "$python" - <<EOF
import json
lines = [json.loads(line) for line in open("out")]
assert len(lines) == 2, lines
by = {line["ref"]: line for line in lines}
assert by["$b"]["state"] == "available" and by["$b"]["before"] == "unchanged", by
assert by["$b"]["update"]["digest"] == "$b2", by
assert [line for line in lines if line["ref"].endswith("none:1")][0]["error"]["code"] in ("gone", "not-found")
EOF
'
expect_success '--all: what has a record, and what the store has of registries' '
    larder update clear "$a" && larder update clear "$b" && larder update clear "$c" &&
    larder -q copy "$a" store:local >/dev/null && image c 2 >/dev/null && image d 1 >/dev/null &&
    larder -q update check "$registry/d:stable" >/dev/null && forget_requests &&
    larder update watch --once --all >out && expect_match "^$c: update available: 2 " out &&
    expect_match "^$b: update available: 2 " out && requests_are 1 "HEAD .*/d/manifests/stable" &&
    requests_are 1 "HEAD .*/a/manifests/stable" && expect_no_match "local" out
'
expect_success 'update.refs of the configuration' '
    forget_requests && LARDER_UPDATE_REFS="$a $b" larder update watch --once >out && test ! -s out &&
    requests_are 1 ".*/a/manifests" && requests_are 1 ".*/b/manifests" && requests_are 0 ".*/c/manifests"
'

# watch OPTION...: in the background; its output is in out and err. (A shell starts such commands
# with SIGINT ignored, which larder would respect.)
watch() {
    "$python" -c "import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])" "$LARDER" update watch "$@" >out 2>err &
    watch_pid=$!
    started "$watch_pid"
}
# ended SIGNAL: sends it, and the end is a good one.
ended() { kill "-$1" "$watch_pid" && wait_for is_over "$watch_pid" && { wait "$watch_pid"; test $? -eq 0; }; }
expect_success 'rounds: at once, then again, and SIGTERM ends them well' '
    forget_requests && watch --every 1s "$a" && wait_for requests_reach 1 "HEAD .*/a/manifests" &&
    a3=$(image a 3) && wait_for grep -q "^$a: update available: 3 .*$a3\$" out &&
    forget_requests && wait_for requests_reach 2 "HEAD .*/a/manifests" &&
    ended TERM &&
    test "$(grep -c "update available" out)" -eq 1
'
expect_success 'a failure is told when it begins, and when it ends' '
    quirks "{\"rules\": [{\"match\": \"/v2/a/manifests\", \"status\": 500}]}" &&
    watch --every 1s "$a" "$b" && wait_for requests_reach 3 ".*/b/manifests/stable" &&
    test "$(grep -c "warning: .*a:stable" err)" -eq 1 && quirks "{}" &&
    wait_for grep -q "a:stable: can be checked again" err && ended INT && test ! -s out
'
expect_success '429: the registry is left alone for so long, and its other references, too' '
    quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429, \"retry_after\": 3600, \"times\": 1}]}" &&
    watch --every 1s "$a" "$b" "$c" && wait_for requests_reach 1 && sleep 2.5 && requests_are 1 &&
    ended TERM && expect_match "429|limit|busy" err &&
    quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429, \"retry_after\": 2, \"times\": 1}]}" &&
    watch --every 1s "$a" "$b" "$c" && wait_for requests_reach 4 && ended TERM &&
    test "$(grep -c "larder: warning" err)" -eq 1 && expect_match "$registry: can be asked again" err
'
first_log=$log first_admin=$admin
registry_start
image e 1 >/dev/null && keep "$registry/e:stable"
e=docker://$registry/e:stable
expect_success '429 for an hour: others are asked at the interval all the while, one line says so' '
    forget_requests && second_admin=$admin && admin=$first_admin && log=$first_log &&
    quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429, \"retry_after\": 3600}]}" &&
    watch --every 1s "$a" "$e" "$b" && log=$registry_base.log && wait_for requests_reach 3 &&
    log=$first_log && requests_are 1 && test "$(grep -c "larder: warning" err)" -eq 1 &&
    admin=$second_admin && e2=$(image e 2) && wait_for grep -q "^$e: update available: 2 .*$e2\$" out &&
    requests_are 1 && ended TERM && expect_no_match "asked again" err
'
expect_success '... and programs are told of each reference, once' '
    admin=$first_admin && : >"$log" &&
    expect_status 7 larder --json update watch --once "$a" "$b" >out 2>err && requests_are 1 && quirks "{}" &&
    test "$(wc -l <out)" -eq 2 && test "$(grep -c "\"busy\"" out)" -eq 2 && test "$(wc -l <err)" -eq 1
'
expect_success '429: a date in another century is a year at most' '
    quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429,
        \"headers\": {\"Retry-After\": \"Fri, 31 Dec 2200 23:59:59 GMT\"}}]}" &&
    expect_status 8 larder update check "$a" 2>err && expect_match "wait for 366d" err && quirks "{}"
'
expect_success '429, --once: 7' '
    quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429, \"retry_after\": 60}]}" &&
    expect_status 7 larder update watch --once "$a" "$b" >out 2>err && requests_are 1 && quirks "{}"
'
expect_success 'a store that cannot be read ends no rounds' '
    mkdir -p bad && echo no >bad/file && watch --store "$PWD/bad" --every 1s "$a" && wait_for test -s err &&
    sleep 1.5 && kill -0 "$watch_pid" && test "$(wc -l <err)" -le 2 && ended TERM
'
expect_success 'the systemd units: what they call is what there is' '
    units=$LARDER_SOURCE/data/systemd &&
    grep -q "^ExecStart=.*/larder --no-progress update watch --once --all --no-ostree\$" "$units/larder-update.service" &&
    grep -q "^Wants=.*larder-update-booted.service\$" "$units/larder-update.service" &&
    grep -q "^ExecStart=.*/larder --no-progress update check --sysroot /\$" "$units/larder-update-booted.service" &&
    grep -q "^RandomizedDelaySec=" "$units/larder-update.timer" &&
    larder --no-progress update watch --once --all --no-ostree
'
test_done

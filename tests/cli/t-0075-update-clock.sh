#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder update over TLS, and with clocks that jump: whenever a record says it was made.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

if command -v openssl >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry \
        -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.crt 2>/dev/null
    mkdir certs && cp ca.crt certs/
    registry_start --tls-cert ca.crt --tls-key key.pem
    tls=docker://$registry/os:stable
    expect_success 'TLS: check, show, fetch and watch, with the certificate of --cert-dir' '
        one=$(os_image "{\"version\": \"1\"}") &&
        larder -q copy --src-cert-dir certs "$tls" "store:$registry/os:stable" >/dev/null &&
        two=$(os_image "{\"version\": \"2\", \"layers\": [[\"a\", 600], [\"d\", 7000]]}") &&
        test "$(larder -q update check --cert-dir certs "$tls")" = "$two" &&
        test "$(larder -q update show "$tls")" = "$two" && os_image "{\"version\": \"3\"}" >three &&
        larder update watch --once --cert-dir certs "$tls" >out && expect_match "update available: 3 .*$(cat three)" out &&
        larder --json update fetch --cert-dir certs "$tls" >out && json out "d[\"digest\"] == \"$(cat three)\"" &&
        forget_requests && expect_status 77 larder update check --exit-code --cert-dir certs "$tls" && requests_are 1
    '
    expect_success '... and without it nothing is told of the image, and no record changes' '
        larder --json update show "$tls" >before && os_image "{\"version\": \"4\"}" >/dev/null &&
        expect_status 1 larder update check --tls-verify "$tls" >out 2>err && test ! -s out &&
        expect_match "certificate" err && larder --json update show "$tls" >after && test_cmp before after &&
        larder -q update check --tls-verify=false "$tls" >out && test -s out
    '
else
    skip_test 'TLS' 'no openssl'
fi

registry_start
ref=docker://$registry/os:stable
one=$(os_image '{"version": "1"}')
larder -q copy "$ref" "store:$registry/os:stable" >/dev/null
two=$(os_image '{"version": "2", "layers": [["a", 600], ["d", 7000]]}')
larder -q update check "$ref" >/dev/null
# The record of $ref; its mtime is when it was checked.
record=
for file in "$LARDER_HOME"/updates/*; do
    grep -q "$registry/os:stable" "$file" && record=$file
done
# dated TIME: as if it was checked then.
dated() { touch -m -d "$1" "$record"; }
expect_success 'a record from the future: shown, listed, found again, and then it is of today' '
    dated "2090-01-01 00:00:00 UTC" && larder --json update show "$ref" >out &&
    json out "d[\"state\"] == \"available\" and d[\"checkedAt\"].startswith(\"2090-01-01\")" &&
    larder update list >out && expect_match "^$ref .* now\$" out && forget_requests &&
    larder --json update check "$ref" >out && requests_are 1 && json out "d[\"checkedAt\"] < \"2090\"" &&
    larder --json update show "$ref" >out && json out "d[\"checkedAt\"] < \"2090\" and d[\"update\"][\"digest\"] == \"$two\""
'
expect_success 'a record from before all clocks: the same' '
    for when in "1970-01-01 00:00:00 UTC" "1960-01-01 00:00:00 UTC"; do
        dated "$when" && larder --json update show "$ref" >out && json out "d[\"state\"] == \"available\"" &&
            larder update list >out && expect_match "^$ref " out && forget_requests &&
            larder --json update check "$ref" >out && requests_are 1 &&
            json out "d[\"persisted\"] and d[\"checkedAt\"] > \"2020\"" || return 1
    done
'
expect_success 'a fetch of a record from the future: it is the base then, and a newer update is found' '
    dated "2090-01-01 00:00:00 UTC" && larder --json update fetch "$ref" >out && json out "d[\"digest\"] == \"$two\"" &&
    larder --json update show "$ref" >out && json out "d[\"state\"] == \"unchanged\"" &&
    three=$(os_image "{\"version\": \"3\"}") && test "$(larder -q update check "$ref")" = "$three"
'
# An interposed clock_gettime: the wall clock jumps by $JUMP_S seconds at each question.
cat >jump.c <<'END'
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts)
{
    static int calls;
    const char *jump = getenv("JUMP_S");
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    if (id == CLOCK_REALTIME && jump)
        ts->tv_sec += (long)atoi(jump) * __sync_add_and_fetch(&calls, 1);
    return rc;
}
END
if ! { ${CC:-cc} -shared -fPIC -o jump.so jump.c && LD_PRELOAD=$PWD/jump.so "$LARDER" --version; } >/dev/null 2>&1; then
    skip_test 'a wall clock that jumps' 'no clock can be put before the program here'
else
    expect_success 'watch: a wall clock that jumps a day back or forth at each look changes no interval' '
        for jump in -86400 86400; do
            begin=$(date +%s) && forget_requests && { JUMP_S=$jump LD_PRELOAD=$PWD/jump.so "$LARDER" update watch --every 1s "$ref" >out 2>err & watch=$!; } &&
                started "$watch" && wait_for requests_reach 3 &&
                wait_for requests_reach 5 && kill -TERM "$watch" && wait "$watch" &&
                expect_no_match "error|warning" err || return 1
            test "$(requests)" -le $((($(date +%s) - begin) * 2 + 5)) || return 1
        done
    '
    expect_success '... and no pause that a registry asked for' '
        quirks "{\"rules\": [{\"match\": \"manifests/stable\", \"status\": 429, \"retry_after\": 3600}]}" &&
        { JUMP_S=86400 LD_PRELOAD=$PWD/jump.so "$LARDER" update watch --every 1s "$ref" >out 2>err & watch=$!; } &&
        started "$watch" && wait_for requests_reach 1 && sleep 3 && requests_are 1 &&
        kill -TERM "$watch" && wait "$watch" && quirks "{}"
    '
fi
test_done

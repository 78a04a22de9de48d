#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder login and logout, and credentials where the commands need them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"

registry_start
here=docker://$registry
export REGISTRY_AUTH_FILE="$PWD/auth.json"
digest=$(registry_image '{"repo": "a/app", "tag": "1"}')
log_in() { printf '%s\n' "$1" | larder login -u user --password-stdin "$registry"; }

for kind in basic bearer; do
    expect_success "$kind: without credentials it is refused, and says so" '
        rm -f auth.json && quirks "{\"auth\": \"$kind\"}" &&
        expect_status 1 larder inspect "$here/a/app:1" >out 2>err &&
        expect_match "$registry" err && test ! -s out
    '
    expect_success "$kind: a wrong password is refused and not kept" '
        log_in wrong >out 2>err
        test $? -eq 1 && expect_match "$registry" err && expect_no_match "wrong\$" err &&
        test ! -e auth.json
    '
    expect_success "$kind: login, then the commands work" '
        log_in secret >out 2>err && test ! -s out &&
        expect_match "logged in to $registry as user" err && expect_no_match "secret" err &&
        test "$(stat -c %a auth.json)" = 600 &&
        test "$(larder login --get-login "$registry")" = user &&
        larder inspect "$here/a/app:1" >out.json && json out.json "d[\"Digest\"] == \"$digest\"" &&
        larder copy "$here/a/app:1" "$here/b/$kind:1" >/dev/null
    '
    expect_success "$kind: logout, and it is refused again" '
        larder logout "$registry" 2>err && expect_match "removed" err &&
        expect_status 3 larder login --get-login "$registry" &&
        expect_status 3 larder logout "$registry" &&
        expect_status 1 larder inspect "$here/a/app:1" 2>err
    '
done
expect_success '--creds and --no-creds' '
    quirks "{\"auth\": \"bearer\"}" &&
    larder inspect --creds user:secret "$here/a/app:1" >out &&
    expect_status 1 larder inspect --creds user:wrong "$here/a/app:1" 2>err &&
    expect_no_match "user:wrong" err && expect_match "hint: check user and password" err &&
    log_in secret 2>err &&
    expect_status 1 larder inspect --no-creds "$here/a/app:1" 2>err &&
    expect_status 1 larder copy --src-creds user:secret --dest-no-creds "$here/a/app:1" \
        "$here/c/app:1" &&
    expect_status 1 larder copy --src-no-creds "$here/a/app:1" "$here/c/app:1" &&
    larder copy --src-creds user:secret "$here/a/app:1" "$here/c/app:1" >out
'
expect_success '--username and --password, as skopeo spells them, too' '
    larder inspect --username user --password secret "$here/a/app:1" >out &&
    expect_status 1 larder inspect --username user --password wrong "$here/a/app:1" 2>err &&
    expect_status 1 larder copy --src-no-creds --dest-username user --dest-password secret \
        "$here/a/app:1" "$here/e/app:1" &&
    larder copy --username user --password secret --dest-username user --dest-password secret \
        "$here/a/app:1" "$here/e/app:1" >out &&
    larder login -u user -p secret --authfile p.json "$registry" &&
    larder inspect --authfile p.json "$here/e/app:1" >out &&
    expect_status 1 larder login -u user -p wrong --authfile p.json "$registry"
'
expect_success '--authfile wins over the variable, the configuration over it too' '
    larder logout --all && mkdir other && rm -f auth.json &&
    printf secret | larder login --authfile other/a.json -u user --password-stdin "$registry" &&
    test ! -e auth.json &&
    expect_status 1 larder inspect "$here/a/app:1" &&
    larder inspect --authfile other/a.json "$here/a/app:1" >out &&
    LARDER_REGISTRY_AUTHFILE=$PWD/other/a.json larder inspect "$here/a/app:1" >out
'
expect_success 'login --json' '
    printf secret | larder login --json -u user --password-stdin "$registry" >out.json &&
    json out.json "d[\"registry\"] == \"$registry\" and d[\"user\"] == \"user\"" &&
    json out.json "d[\"file\"].endswith(\"auth.json\")" &&
    larder logout --json --all >out.json && json out.json "\"file\" in d"
'
expect_success 'nothing on standard input, or more than a line' '
    expect_status 2 larder login -u user --password-stdin "$registry" </dev/null 2>err &&
    printf "a\nb\n" >two && expect_status 2 larder login -u user --password-stdin "$registry" <two
'
expect_success 'a registry that is not there' '
    printf x | larder login -u user --password-stdin 127.0.0.1:1 2>err
    test $? -eq 8
'
test_done

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Registries as they are: an image is pushed to and pulled from one with each quirk that is known.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
export LARDER_NET_RETRIES=3

registry_start
here=docker://$registry
registry_image '{"repo": "src/app", "tag": "1", "layers": 2, "size": 300000,
    "platforms": ["linux/amd64", "linux/arm64"]}' >digest
larder copy "$here/src/app:1" oci:layout:x >/dev/null || exit 99
number=0

# there_and_back TITLE SETTINGS [OPTION...]: into a fresh repository and out of it; with two tags.
there_and_back() {
    title=$1
    # shellcheck disable=SC2034 # read by the script below
    settings=$2
    shift 2
    # shellcheck disable=SC2034
    options=$*
    number=$((number + 1))
    expect_success "$title" '
        quirks "$settings" &&
        larder copy $options oci:layout:x "$here/q$number/app:1" "$here/q$number/app:2" >out &&
        test_cmp digest out &&
        larder copy $options "$here/q$number/app:2" "oci:back$number:x" >out &&
        test_cmp digest out &&
        forget_requests &&
        larder copy $options "$here/q$number/app:1" "oci:back$number:x" >out &&
        requests_are 0 "GET .*/blobs/"
    '
}

there_and_back 'no header with the digest' '{"digest_header": false}'
there_and_back 'PATCH answered with 201' '{"patch_status": 201, "put_body_refused": 404}'
there_and_back 'PATCH answered with 204' '{"patch_status": 204, "put_body_refused": 404}'
there_and_back 'uploads in one piece only' '{"patch_refused": 404, "single_post": false}'
there_and_back 'uploads by PATCH only' '{"put_body_refused": 404, "single_post": false}'
there_and_back 'a least size of chunks' '{"put_body_refused": 404, "chunk_min": 131072,
    "single_post": false}'
there_and_back 'locations with a query' '{"location": "absolute+query", "single_post": false}'
there_and_back 'locations without a scheme' '{"location": "schemeless", "single_post": false}'
there_and_back 'uploads to another host' '{"location": "other+query", "single_post": false}'
there_and_back 'blobs at another host' '{"redirect": 307, "auth": "bearer"}' --creds user:secret
there_and_back 'blobs at another host, HEAD as well' '{"redirect": 302, "redirect_head": true}'
there_and_back 'Basic' '{"auth": "basic"}' --creds user:secret
there_and_back 'tokens' '{"auth": "bearer", "challenge": "list"}' --creds user:secret
there_and_back 'tokens by another server, called access_token' '{"auth": "bearer",
    "token_at": "other", "token_key": "access_token", "challenge": "headers"}' --creds user:secret
there_and_back 'tokens that end between PATCH and PUT' '{"auth": "bearer", "token_post": 404,
    "put_body_refused": 404, "single_post": false, "token_revoked_by": "PATCH",
    "token_revoked_times": 1}' --creds user:secret
there_and_back 'too many requests' '{"rules": [
    {"match": "GET .*/blobs/", "times": 1, "status": 429, "retry_after": 1},
    {"match": "PUT .*/manifests/", "times": 1, "status": 429, "retry_after": "date+1"},
    {"match": "HEAD ", "times": 1, "status": 503}]}'
there_and_back 'answers that are lost after the bytes were stored' '{"rules": [
    {"match": "(PUT|POST) .*digest=", "times": 2, "after": true, "status": 500},
    {"match": "PUT .*/manifests/", "times": 2, "after": true, "status": 502}]}'
there_and_back 'downloads that are cut' '{"rules": [
    {"match": "GET .*/blobs/", "times": 3, "cut": 100000},
    {"match": "GET .*/blobs/", "times": 1, "close": 150000}]}'
there_and_back 'uploads that are cut' '{"rules": [
    {"match": "(PUT|POST|PATCH) .*/uploads/", "times": 2, "skip": 1, "cut_request": 50000}]}'
there_and_back 'no ranges' '{"rules": [
    {"match": "GET .*/blobs/", "times": 1, "cut": 100000},
    {"match": "GET .*/blobs/", "no_range": true}]}'
there_and_back 'a 200 that was none' '{"rules": [
    {"match": "(PUT|POST) .*digest=", "times": 1, "status": 200, "text": "Healthcheck requested"}]}'
there_and_back 'tags that never change' '{"immutable": "always"}'
there_and_back 'warnings' '{"warning": ["this registry will go away", "soon"]}'
there_and_back 'no referrers' '{"referrers": false}'

for methods in '"PATCH"' '"PUT", "POST", "PATCH"'; do
    expect_success "no body above 4 MiB in $methods" '
        quirks "{}" &&
        registry_image "{\"repo\": \"big/app\", \"layers\": 1, \"size\": 10000000}" >big &&
        larder copy "$here/big/app:latest" oci:big-layout:x >/dev/null &&
        admin DELETE /_content &&
        quirks "{\"body_max\": 4194304, \"body_max_methods\": [$methods], \"mount\": 202,
            \"single_post\": false, \"patch_range\": \"stuck\"}" &&
        larder copy oci:big-layout:x "$here/big/app:1" >out && test_cmp big out
    '
done
expect_success 'a tag that is published late: publish waits until it is seen' '
    quirks "{\"tag_delay\": 2}" &&
    larder publish --repo "$registry/late/app" --tag 1 oci:big-layout:x >out &&
    admin GET /_content >content.json &&
    json content.json "d[\"late/app\"][\"tags\"][\"1\"] == \"$(cat out)\""
'
registry_image '{"repo": "src/app", "tag": "1", "layers": 2, "size": 300000,
    "platforms": ["linux/amd64", "linux/arm64"]}' >digest
for status in 202 400 401 403 404; do
    expect_success "a mount that is answered with $status: the blobs are sent" '
        quirks "{\"mount\": $status}" &&
        larder copy "$here/src/app:1" "$here/mounted$status/app:1" >out && test_cmp digest out &&
        larder copy "$here/mounted$status/app:1" "oci:m$status:x" >out && test_cmp digest out
    '
done
# damaged TITLE RULE: must not be believed, and nothing of it may stay.
damaged() {
    title=$1
    # shellcheck disable=SC2034
    rule=$2
    number=$((number + 1))
    expect_success "$title: is found out" '
        quirks "{\"rules\": [{\"match\": \"GET .*/blobs/\", $rule}]}" &&
        larder copy "$here/src/app:1" "oci:bad$number:x" >out 2>err
        status=$? && cat err && { test "$status" -eq 5 || test "$status" -eq 1; } &&
        test ! -s out && expect_no_match ref.name "bad$number/index.json"
    '
}
damaged 'a byte that is wrong' '"corrupt": 1000'
damaged 'a blob that is too long' '"extra": 5, "chunked": true'
damaged 'a blob that is too short' '"short": 5'
damaged 'a proxy that compresses' '"gzip": true'
damaged 'a range that is another' '"cut": 150, "times": 4}, {
    "match": "GET .*/blobs/", "range_shift": 7'
expect_success 'credentials are not sent to another host' '
    quirks "{\"auth\": \"bearer\", \"redirect\": 307, \"location\": \"other\",
        \"single_post\": false}" &&
    larder copy --creds user:secret oci:layout:x "$here/last/app:1" >out &&
    larder copy --creds user:secret "$here/last/app:1" oci:last:x >out &&
    test "$(grep -c " other\$" "$log")" -gt 0 &&
    requests_are 0 ".* (basic|bearer|other) [0-9]+ other\$"
'
expect_success 'storage that refuses what it was sent is not cured by an account' '
    quirks "{\"redirect\": 307, \"redirect_life\": -1}" &&
    { larder copy "$here/src/app:1" oci:refused:x >out 2>err && status=0 || status=$?; } &&
    test "$status" -ne 0 && expect_match "after a redirect" err && expect_no_match "larder login" err
'
expect_success 'a tag that never changes and is another: an error that names it' '
    quirks "{\"immutable\": true}" &&
    registry_image "{\"repo\": \"frozen\", \"tag\": \"1\", \"seed\": 3}" >/dev/null &&
    expect_status 1 larder copy oci:layout:x "$here/frozen:1" 2>err &&
    expect_match "frozen:1: the tag can.t be changed" err
'
test_done

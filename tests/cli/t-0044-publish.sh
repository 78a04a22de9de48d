#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder publish: twice is once, and what is decided is told.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"

registry_start
here=docker://$registry
amd=$(registry_image '{"repo": "build/amd", "tag": "1"}')
registry_image '{"repo": "build/multi", "tag": "1", "platforms": ["linux/amd64", "linux/arm64"]}' >/dev/null
arm=$(member "$test_work/image.json" members linux/arm64)
images="$here/build/amd:1 $here/build/multi@$arm"
publish() { larder publish --repo "$registry/pub/app" "$@"; }
content() { admin GET /_content >content.json; }

expect_success '--dry-run says what would be done and does nothing' '
    forget_requests &&
    publish --dry-run --tag 1 --tag latest $images >out 2>err &&
    expect_match "pub/app:1: would be set \(absent\)" err &&
    requests_are 0 "(POST|PUT|PATCH) " &&
    content && json content.json "\"pub/app\" not in d or not d[\"pub/app\"][\"tags\"]"
'
expect_success 'publish: an index under both tags' '
    publish --tag 1 --tag latest --write-digest-to-file digest.txt $images >out 2>err &&
    digest=$(cat out) && test "$(cat digest.txt)" = "$digest" &&
    test "$(wc -c <digest.txt)" -eq 71 &&
    content &&
    json content.json "d[\"pub/app\"][\"tags\"] == {\"1\": \"$digest\", \"latest\": \"$digest\"}" &&
    larder inspect --raw "$here/pub/app:1" >index.json &&
    json index.json "[m[\"digest\"] for m in d[\"manifests\"]] == [\"$amd\", \"$arm\"]" &&
    json index.json "[m[\"platform\"][\"architecture\"] for m in d[\"manifests\"]] == [
        \"amd64\", \"arm64\"]"
'
expect_success 'again: one request a tag, and nothing is sent' '
    forget_requests &&
    publish --tag 1 --tag latest $images >out 2>err &&
    test "$(cat out)" = "$digest" && expect_match "unchanged" err &&
    requests_are 2 "(HEAD|GET) /v2/pub/app/" && requests_are 0 "(POST|PUT|PATCH) "
'
expect_success 'one more tag for what is there: its PUT and no other' '
    forget_requests && publish --tag 1 --tag further $images >out 2>err &&
    requests_are 1 "(POST|PUT|PATCH) " && requests_are 1 "PUT /v2/pub/app/manifests/further "
'
expect_success '--json' '
    publish --json --tag 1 --tag new $images >out.json &&
    json out.json "sorted(d) == [\"action\", \"blobs_copied\", \"blobs_existed\",
        \"blobs_mounted\", \"bytes_copied\", \"digest\", \"dry_run\", \"images\", \"repository\",
        \"requests\", \"tags\"]" &&
    json out.json "d[\"action\"] == \"push\" and d[\"digest\"] == \"$digest\"" &&
    json out.json "[(t[\"tag\"], t[\"changed\"]) for t in d[\"tags\"]] == [
        (\"1\", False), (\"new\", True)]" &&
    json out.json "[i[\"platform\"] for i in d[\"images\"]] == [\"linux/amd64\", \"linux/arm64\"]" &&
    publish --json --tag 1 --tag new $images >out.json &&
    json out.json "d[\"action\"] == \"nothing\" and d[\"bytes_copied\"] == 0"
'
expect_success '--no-clobber: a tag that points elsewhere stays' '
    registry_image "{\"repo\": \"pub/app\", \"tag\": \"taken\", \"seed\": 9}" >/dev/null &&
    expect_status 1 publish --no-clobber --tag taken $images 2>err &&
    expect_match "taken" err &&
    publish --no-clobber --tag 1 $images >/dev/null &&
    publish --tag taken $images >out && test "$(cat out)" = "$digest"
'
expect_success '--append: runners that publish an architecture each' '
    publish --append --tag both "$here/build/amd:1" >/dev/null &&
    publish --append --tag both "$here/build/multi@$arm" >/dev/null &&
    larder inspect --raw "$here/pub/app:both" >index.json &&
    json index.json "sorted(m[\"digest\"] for m in d[\"manifests\"]) == sorted([\"$amd\", \"$arm\"])"
'
expect_success '--v2s2' '
    publish --v2s2 --tag docker $images >/dev/null &&
    larder inspect --raw "$here/pub/app:docker" >index.json &&
    json index.json "d[\"mediaType\"].endswith(\"manifest.list.v2+json\")"
'
expect_success 'what cannot be published' '
    expect_status 2 publish --tag 1 "$here/build/multi:1" 2>err && expect_match "index" err &&
    expect_status 2 publish --tag 1 "$here/build/amd:1" "$here/build/amd:1" 2>err &&
    expect_match "linux/amd64" err && admin PUT /_manifest/build/page/1 "<html>" &&
    expect_status 1 publish --tag 1 "$here/build/page:1" 2>err && expect_match "build/page:1" err &&
    expect_status 8 publish --tag 1 docker://127.0.0.1:1/a:1 2>err
'
expect_success 'a registry that fails is not one that has nothing' '
    quirks "{\"rules\": [{\"match\": \"/v2/pub/app/manifests/1\", \"status\": 503}]}" &&
    expect_status 8 publish --tag 1 $images 2>err &&
    requests_are 0 "(POST|PUT|PATCH) " && quirks "{}"
'
test_done

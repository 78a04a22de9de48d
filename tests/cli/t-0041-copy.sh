#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder copy: what arrives, what it costs in requests, and how it fails.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"

registry_start
here=docker://$registry
content() { admin GET /_content >content.json; }

expect_success 'an index with its images, into another repository' '
    digest=$(registry_image "{\"repo\": \"src/app\", \"tag\": \"1\", \"layers\": 3,
        \"platforms\": [\"linux/amd64\", \"linux/arm64/v8\"]}") &&
    larder copy "$here/src/app:1" "$here/dst/app:1" >out 2>err &&
    test "$(cat out)" = "$digest" &&
    expect_match "larder: .*src/app:1: copied" err &&
    content &&
    json content.json "d[\"dst/app\"][\"tags\"] == {\"1\": \"$digest\"}" &&
    json content.json "d[\"dst/app\"][\"manifests\"] == d[\"src/app\"][\"manifests\"]" &&
    json content.json "d[\"dst/app\"][\"blobs\"] == d[\"src/app\"][\"blobs\"]"
'
expect_success 'blobs of one registry are mounted, none is fetched' '
    requests_are 8 "POST /v2/dst/app/blobs/uploads/\?.*mount=.* 201 " &&
    requests_are 0 "GET .*/blobs/" &&
    requests_are 0 "(PUT|PATCH) .*/blobs/"
'
expect_success 'tags come last' '
    tail -1 "$log" >last && expect_match "^(PUT|HEAD|GET) /v2/dst/app/manifests/1 " last
'
expect_success 'again: a HEAD a tag and nothing else' '
    forget_requests &&
    larder copy "$here/src/app:1" "$here/dst/app:1" >out 2>err &&
    test "$(cat out)" = "$digest" &&
    expect_match "there already" err &&
    requests_are 2 &&
    requests_are 1 "HEAD /v2/src/app/manifests/1 " &&
    requests_are 1 "HEAD /v2/dst/app/manifests/1 "
'
expect_success 'many tags in one go share the work' '
    forget_requests &&
    larder copy "$here/src/app:1" "$here/dst/app:1" "$here/dst/app:2" "$here/dst/app:latest" &&
    requests_are 0 "POST " &&
    requests_are 2 "PUT /v2/dst/app/manifests/(2|latest) " &&
    requests_are 0 "PUT /v2/dst/app/manifests/1 " &&
    forget_requests &&
    larder copy "$here/src/app:1" "$here/dst/app:1" "$here/dst/app:2" "$here/dst/app:latest" &&
    requests_are 4 && requests_are 4 "HEAD "
'
expect_success '--json and --digestfile' '
    larder copy --json --digestfile digest.txt "$here/src/app:1" "$here/dst/new:1" >out.json &&
    json out.json "sorted(d) == [\"blobs_copied\", \"blobs_existed\", \"blobs_mounted\",
        \"bytes_copied\", \"destinations\", \"digest\", \"dry_run\", \"manifests_put\",
        \"media_type\", \"requests\", \"source\", \"was_there\"]" &&
    json out.json "d[\"destinations\"] == [\"$here/dst/new:1\"] and d[\"digest\"] == \"$digest\"" &&
    json out.json "d[\"blobs_mounted\"] == 8 and d[\"blobs_copied\"] == 0 and not d[\"was_there\"]" &&
    json out.json "d[\"media_type\"] == \"application/vnd.oci.image.index.v1+json\"" &&
    test "$(wc -c <digest.txt)" -eq 71 && test "$(cat digest.txt)" = "$digest" &&
    larder copy --json "$here/src/app:1" "$here/dst/new:1" >out.json &&
    json out.json "d[\"was_there\"] and d[\"requests\"] == 2"
'
expect_success '--dry-run changes nothing and says what would be done' '
    forget_requests &&
    larder copy --dry-run "$here/src/app:1" "$here/dst/dry:1" >out 2>err &&
    test "$(cat out)" = "$digest" && expect_match "would copy" err &&
    requests_are 0 "(POST|PUT|PATCH|DELETE) " &&
    content && json content.json "\"1\" not in d.get(\"dst/dry\", {\"tags\": {}})[\"tags\"]"
'
expect_success '--quiet prints no more than the digest, and --force puts again' '
    forget_requests &&
    larder copy --quiet --force "$here/src/app:1" "$here/dst/app:1" >out 2>err &&
    test ! -s err && test "$(cat out)" = "$digest" &&
    requests_are 1 "PUT /v2/dst/app/manifests/1 "
'
expect_success '--platform copies one member' '
    larder copy --platform linux/arm64 "$here/src/app:1" "$here/dst/arm:1" >out &&
    member "$test_work/image.json" members linux/arm64/v8 >arm &&
    test_cmp arm out &&
    content && json content.json "list(d[\"dst/arm\"][\"manifests\"]) == [\"$(cat arm)\"]"
'
expect_success 'a layout, an archive and back: the same digest' '
    larder copy "$here/src/app:1" oci:layout:one >out && test "$(cat out)" = "$digest" &&
    test -f layout/index.json && test -f layout/oci-layout &&
    larder copy oci:layout:one oci-archive:app.tar:two >out && test "$(cat out)" = "$digest" &&
    larder copy oci-archive:app.tar:two "$here/back/app:1" >out &&
    test "$(cat out)" = "$digest" &&
    content && json content.json "d[\"back/app\"][\"blobs\"] == d[\"src/app\"][\"blobs\"]" &&
    requests_are 0 "PATCH "
'
expect_success 'Docker'"'"'s schema 2 in a layout: unchanged, with a warning' '
    docker_digest=$(registry_image "{\"repo\": \"d/app\", \"format\": \"docker\"}") &&
    test "$(larder copy "$here/d/app" oci:docker:x oci-archive:docker.tar:x 2>err)" = "$docker_digest" &&
    expect_match "warning: oci:docker:x: Docker" err &&
    expect_match "warning: oci-archive:docker.tar:x: Docker" err &&
    larder copy oci:docker:x "$here/d/again" >out 2>err && test "$(cat out)" = "$docker_digest" &&
    expect_no_match warning err
'
expect_success 'through the store' '
    larder copy "$here/src/app:1" store:app >out && test "$(cat out)" = "$digest" &&
    larder copy store:app oci:from-store:x >out && test "$(cat out)" = "$digest" &&
    larder --json du >out.json && json out.json "d[\"referred_blobs\"] == d[\"blob_count\"] > 3" &&
    expect_status 3 larder copy store:none oci:none 2>err && expect_match "store:none: no such" err &&
    larder fsck
'
expect_success 'a tag that does not exist' '
    forget_requests &&
    expect_status 3 larder copy "$here/src/app:none" oci:nothing:x >out 2>err &&
    expect_match "src/app:none" err && test ! -s out
'
expect_success 'a blob with a wrong byte: 5, and nothing is kept of it' '
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/\", \"corrupt\": 10}]}" &&
    expect_status 5 larder copy "$here/src/app:1" oci:bad:x >out 2>err &&
    expect_match "sha256:" err && test ! -s out &&
    test -z "$(find bad/blobs -type f -size +3k 2>/dev/null)" &&
    quirks "{}"
'
expect_success 'a registry that is not there: 8' '
    expect_status 8 larder copy docker://127.0.0.1:1/a:1 oci:x:x 2>err &&
    expect_match "127.0.0.1:1" err
'
expect_success 'a registry that fails half-way, then a second run that sends the rest only' '
    quirks "{\"rules\": [{\"match\": \"PUT /v2/late/app/manifests/1\$\", \"status\": 503}]}" &&
    expect_status 8 larder copy oci:layout:one "$here/late/app:1" 2>err &&
    quirks "{}" &&
    larder copy --json oci:layout:one "$here/late/app:1" >out.json &&
    json out.json "d[\"bytes_copied\"] == 0" &&
    requests_are 0 "(PUT|PATCH) .*/blobs/"
'
expect_success 'a closed reader of the result ends us quietly' '
    { larder copy --quiet "$here/src/app:1" "$here/dst/app:1" 2>err; echo $? >status; } | true &&
    expect_no_match "." err
'
expect_success 'a source that is not there leaves no new layout behind' '
    expect_status 3 larder copy "docker://$registry/no/such:1" oci:never:1 2>err && test ! -e never &&
    expect_status 3 larder copy "oci:$PWD/also-not:1" oci:never:1 && test ! -e never &&
    expect_status 8 larder copy docker://127.0.0.1:1/a:1 oci:never:1 && test ! -e never
'
expect_success 'blobs of a run that came to no manifest are not sent again' '
    larder -q copy "$here/src/app:1" oci:half:1 >out && quirks "{\"manifest_max\": 10}" &&
    expect_status 1 larder copy oci:half:1 "$here/half/app:1" && content &&
    json content.json "len(d[\"half/app\"][\"blobs\"]) == 8 and not d[\"half/app\"][\"tags\"]" &&
    quirks "{\"tags_need_manifest\": true}" &&
    larder -q copy --jobs 2 oci:half:1 "$here/half/app:1" >out &&
    requests_are 0 "(POST|PUT|PATCH) .*/blobs/" && quirks "{}"
'
test_done

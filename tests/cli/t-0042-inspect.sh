#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder inspect, list-tags, delete and diff.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"

registry_start
here=docker://$registry
machine=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
index='"platforms": ["linux/'$machine'", "linux/riscv64"]'

expect_success 'inspect has the members of skopeo' '
    digest=$(registry_image "{\"repo\": \"a/app\", \"tags\": [\"1\", \"2\"],
        \"labels\": {\"k\": \"v\"}}") &&
    larder inspect "$here/a/app:1" >out.json &&
    json out.json "d[\"Name\"] == \"$registry/a/app\" and d[\"Digest\"] == \"$digest\"" &&
    json out.json "d[\"RepoTags\"] == [\"1\", \"2\"] and d[\"Labels\"] == {\"k\": \"v\"}" &&
    json out.json "d[\"Os\"] == \"linux\" and d[\"Architecture\"] == \"amd64\"" &&
    json out.json "d[\"Created\"] == \"2026-01-02T03:04:05Z\" and d[\"Env\"] == [\"PATH=/bin\"]" &&
    json out.json "d[\"Layers\"] == [x[\"Digest\"] for x in d[\"LayersData\"]]" &&
    json out.json "d[\"LayersData\"][0][\"Size\"] == 4096" &&
    json out.json "d[\"LayersData\"][0][\"MIMEType\"].endswith(\"tar+gzip\")"
'
expect_success 'inspect by digest; no tags when they are not wanted, a warning when refused' '
    forget_requests &&
    larder inspect --no-tags "$here/a/app@$digest" >out.json 2>err &&
    json out.json "d[\"RepoTags\"] == [] and d[\"Name\"] == \"$registry/a/app\"" &&
    requests_are 0 "GET /v2/a/app/tags/" && test ! -s err &&
    quirks "{\"rules\": [{\"match\": \"tags/list\", \"status\": 403}]}" &&
    larder inspect "$here/a/app:1" >out.json 2>err &&
    json out.json "d[\"RepoTags\"] == []" && expect_match "warning: .*tags" err &&
    quirks "{}"
'
expect_success 'inspect --raw: the bytes that the digest is of' '
    larder inspect --raw "$here/a/app:1" >raw && test "$(digest raw)" = "$digest" &&
    larder inspect --raw --config "$here/a/app:1" >raw &&
    test "$(digest raw)" = "$(larder inspect --raw "$here/a/app:1" >m && member m config digest)" &&
    larder inspect --config "$here/a/app:1" >out.json &&
    json out.json "d[\"rootfs\"][\"type\"] == \"layers\""
'
expect_success 'inspect of an index: its digest, and the member for this machine' '
    digest=$(registry_image "{\"repo\": \"a/multi\", \"tag\": \"1\", $index}") &&
    larder inspect "$here/a/multi:1" >out.json &&
    json out.json "d[\"Digest\"] == \"$digest\" and d[\"Architecture\"] == \"$machine\"" &&
    larder inspect --platform linux/riscv64 "$here/a/multi:1" >out.json &&
    json out.json "d[\"Digest\"] == \"$digest\" and d[\"Architecture\"] == \"riscv64\"" &&
    larder inspect --raw "$here/a/multi:1" >raw && test "$(digest raw)" = "$digest" &&
    larder inspect --raw --platform linux/riscv64 "$here/a/multi:1" >raw &&
    test "$(digest raw)" = "$(member "$test_work/image.json" members linux/riscv64)"
'
expect_success 'inspect of a platform that is not there' '
    expect_status 3 larder inspect --platform linux/s390x "$here/a/multi:1" >out 2>err &&
    expect_match "s390x" err && test ! -s out
'
expect_success 'what is not there, and what cannot be asked' '
    expect_status 3 larder inspect "$here/a/app:none" >out 2>err && test ! -s out &&
    expect_status 3 larder inspect --json "$here/a/app:none" >out.json &&
    json out.json "d[\"error\"][\"code\"] == \"not-found\"" &&
    expect_status 8 larder inspect docker://127.0.0.1:1/a:1 &&
    quirks "{\"rules\": [{\"match\": \"GET\", \"corrupt\": 1, \"text\": \"{}\"}]}" &&
    expect_status 5 larder inspect "$here/a/app@$digest" 2>err &&
    quirks "{}"
'
expect_success 'a reader that goes away ends us without a word' '
    larder inspect "$here/a/app:1" 2>err | true && test ! -s err
'

expect_success 'list-tags: lines, over several pages' '
    registry_image "{\"repo\": \"a/tags\", \"tags\": [\"c\", \"a\", \"B\", \"b\", \"latest\"]}" &&
    printf "%s\n" B a b c latest >want &&
    quirks "{\"tags_max\": 2}" &&
    larder list-tags "$here/a/tags" >out && test_cmp want out &&
    requests_are 3 "GET /v2/a/tags/tags/list" &&
    quirks "{\"tags_max\": 2, \"tags_link\": \"absolute\"}" &&
    larder list-tags "$here/a/tags" >out && test_cmp want out && quirks "{}"
'
expect_success 'list-tags: a bare repository, and skopeos document' '
    larder list-tags "$registry/a/tags" >out && test_cmp want out &&
    larder list-tags --json "$registry/a/tags" >out.json &&
    json out.json "d == {\"Repository\": \"$registry/a/tags\",
        \"Tags\": [\"B\", \"a\", \"b\", \"c\", \"latest\"]}"
'
expect_success 'a manifest that is none is not a usage error' '
    admin PUT /_manifest/a/page/1 "<html>" && admin PUT /_manifest/a/page/2 \
        "{\"schemaVersion\": 2, \"config\": {\"digest\": \"sha256:xyz\", \"size\": 2}}" &&
    expect_status 1 larder inspect "$here/a/page:1" 2>err && expect_match "a/page:1: JSON" err &&
    expect_status 1 larder inspect "$here/a/page:2" 2>err && expect_match "configuration: dig" err &&
    expect_status 1 larder diff "$here/a/app:1" "$here/a/page:1" 2>err &&
    expect_match "a/page: " err && expect_no_match "a/app" err &&
    expect_status 1 larder diff --platform linux/amd64 "$here/a/page:1" "$here/a/app:1" 2>err &&
    expect_match "a/page: " err
'
expect_success '--format prints what scripts of skopeo ask for' '
    larder inspect "$here/a/app:1" >out.json &&
    test "$(larder inspect --format "{{.Digest}}" "$here/a/app:1")" = "$(member out.json Digest)" &&
    test "$(larder inspect -f "{{.Os}}/{{.Architecture}} {{.Labels}}\\n" "$here/a/app:1")" = \
        "linux/amd64 map[k:v]" &&
    larder inspect --no-tags --format "{{range .Layers}}{{.}}\\n{{end}}" "$here/a/app:1" >out &&
    test "$(wc -l <out)" -eq 2 && forget_requests &&
    expect_status 2 larder inspect --format "{{.Nope}}" "$here/a/app:1" 2>err &&
    expect_status 2 larder inspect --raw --format "{{.Digest}}" "$here/a/app:1" 2>err &&
    requests_are 0
'
expect_success 'list-tags: of a repository, not of a tag' '
    expect_status 2 larder list-tags "$registry/a/tags:a" 2>err &&
    expect_match "without tag and digest" err &&
    expect_status 2 larder list-tags "$here/a/tags@sha256:00" && requests_are 0 "/a/tags/tags"
'
expect_success 'list-tags of nothing' '
    expect_status 3 larder list-tags "$registry/a/none" >out && test ! -s out
'

expect_success 'delete: the tag alone' '
    digest=$(registry_image "{\"repo\": \"a/del\", \"tags\": [\"1\", \"2\", \"3\"]}") &&
    larder delete --dry-run "$here/a/del:1" 2>err && expect_match "would delete" err &&
    requests_are 0 "DELETE " &&
    larder delete --json "$here/a/del:1" >out.json &&
    json out.json "d[\"deleted\"] == \"tag\"" &&
    admin GET /_content >content.json &&
    json content.json "sorted(d[\"a/del\"][\"tags\"]) == [\"2\", \"3\"]" &&
    json content.json "d[\"a/del\"][\"manifests\"]"
'
expect_success 'delete: where a tag cannot be deleted alone' '
    quirks "{\"delete_tag\": 400}" &&
    expect_status 1 larder delete --tag-only "$here/a/del:2" 2>err &&
    larder delete --json "$here/a/del:2" >out.json &&
    json out.json "d[\"deleted\"] == \"manifest\"" &&
    admin GET /_content >content.json &&
    json content.json "d[\"a/del\"][\"tags\"] == {} and d[\"a/del\"][\"manifests\"] == {}" &&
    quirks "{}"
'
expect_success 'delete: not there, and not allowed' '
    expect_status 3 larder delete "$here/a/del:2" &&
    registry_image "{\"repo\": \"a/del\", \"tags\": [\"4\"]}" &&
    quirks "{\"delete_tag\": 405, \"delete_manifest\": 405}" &&
    expect_status 1 larder delete "$here/a/del:4" 2>err &&
    expect_match "does not delete manifests .status 405" err && quirks "{}"
'

expect_success 'delete: of a layout, with and without a name' '
    registry_image "{\"repo\": \"a/lay\", \"tags\": [\"1\"]}" &&
    registry_image "{\"repo\": \"a/lay\", \"tags\": [\"2\"], \"seed\": 2}" &&
    larder copy "$here/a/lay:1" oci:two:1 && larder copy "$here/a/lay:2" oci:two:2 &&
    expect_status 2 larder delete oci:two 2>err && expect_match "several images" err &&
    larder delete oci:two:2 && test "$(larder list-tags oci:two)" = 1 &&
    expect_status 2 larder delete --tag-only oci:two &&
    larder delete --dry-run oci:two 2>err && expect_match "would delete the manifest" err &&
    larder delete --json oci:two >out.json && json out.json "d[\"deleted\"] == \"manifest\"" &&
    larder list-tags oci:two >out && test ! -s out &&
    expect_status 3 larder delete oci:two && forget_requests
'

expect_success 'diff: layers and bytes' '
    registry_image "{\"repo\": \"a/new\", \"tag\": \"1\", \"layers\": 3, \"size\": 4096}" &&
    larder diff "$here/a/app:1" "$here/a/new:1" >out 2>err &&
    test "$(grep -c "^+ " out)" -eq 2 && test "$(grep -c "^- " out)" -eq 1 &&
    expect_match "a pull of B" err &&
    larder diff --all "$here/a/app:1" "$here/a/new:1" >out && test "$(grep -c "^= " out)" -eq 2 &&
    larder diff --json "$here/a/app:1" "$here/a/new:1" >out.json &&
    json out.json "not d[\"equal\"] and d[\"bytes_both\"] == 8192 and len(d[\"blobs\"]) == 5" &&
    json out.json "d[\"bytes_to_pull\"] == d[\"bytes_only_b\"] > 4096" &&
    requests_are 0 "GET .*/blobs/"
'
expect_success 'diff: what this machine has need not be pulled' '
    larder -q copy "$here/a/new:1" store:new >/dev/null &&
    larder diff --json "$here/a/app:1" "$here/a/new:1" >out.json &&
    json out.json "d[\"bytes_to_pull\"] == 0 and d[\"bytes_only_b\"] > 4096"
'
expect_success 'diff: exit status' '
    expect_status 4 larder diff --exit-code "$here/a/app:1" "$here/a/new:1" &&
    expect_status 0 larder diff --exit-code "$here/a/app:1" "$here/a/app:2" 2>err &&
    expect_match "same image" err &&
    expect_status 8 larder diff "$here/a/app:1" docker://127.0.0.1:1/a:1
'
test_done

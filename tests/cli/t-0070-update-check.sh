#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# larder update check, show, clear, list with bases in the store: what is told, kept and asked.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

registry_start
name=$registry/os:stable
ref=docker://$name
# What users keep: the image under the name of its reference.
keep() { larder -q copy "docker://$1" "store:$1" >/dev/null; }

# The three versions share layers: v2 has one other than v1.
v1='{"version": "1.0", "layers": [["a", 600], ["b", 3000], ["c", 75900]]}'
v2='{"version": "2.0", "layers": [["a", 600], ["b", 3000], ["d", 999999]],
     "created": "2026-02-03T04:05:06Z"}'
v3='{"version": "3.0", "layers": [["e", 10], ["b", 3000], ["d", 999999], ["f", 1]]}'

expect_success 'unchanged: one question, nothing fetched' '
    one=$(os_image "$v1") && keep "$name" && forget_requests &&
    larder update check "$ref" >out && requests_are 1 && requests_are 1 "HEAD .*/manifests/stable" &&
    test "$(head -n 1 out)" = "No changes in: $ref" &&
    expect_match "^Current: 1.0 \(2026-01-02T03:04:05Z\) $one\$" out
'
expect_success 'unchanged again: still one, and 77 only when asked for' '
    forget_requests && expect_status 77 larder update check --exit-code "$ref" >out &&
    requests_are 1 && test "$(head -n 1 out)" = "No changes in: $ref" &&
    expect_status 77 larder update show --exit-code "$ref" >out &&
    expect_match "^No changes in: $ref\$" out && expect_match "^Last checked: " out &&
    larder -q update check "$ref" >out && test ! -s out
'
expect_success 'unchanged: --json' '
    larder --json update check "$ref" >out &&
    json out "d[\"state\"] == \"unchanged\" and \"update\" not in d" &&
    json out "d[\"ref\"] == \"$ref\" and d[\"current\"][\"digest\"] == \"$one\"" &&
    json out "d[\"listed\"] == \"$one\" and d[\"platform\"].startswith(\"linux/\")" &&
    json out "d[\"place\"] == \"store:$name\" and d[\"checkedAt\"].endswith(\"Z\")"
'
expect_success 'another digest: the lines of bootc, and more' '
    two=$(os_image "$v2") && forget_requests && expect_status 0 larder update check --exit-code "$ref" >out &&
    cat >expected <<EOF &&
Update available for: $ref
  Version: 2.0
  Digest: $two
  Timestamp: 2026-02-03T04:05:06Z
Total new layers: 3     Size: 1.0 MB
Removed layers:   1     Size: 75.9 kB
Added layers:     1     Size: 1000.0 kB
Already here:     2     Size: 3.6 kB
To fetch:         1     Size: 1000.0 kB
Current: 1.0 (2026-01-02T03:04:05Z) $one
EOF
    test_cmp expected out
'
expect_success '... for at most three requests, none for a layer' '
    config=$(member "$test_work/image.json" config) && test "$(requests)" -le 3 &&
    requests_are 1 "GET .*/blobs/" && requests_are 1 "GET .*/blobs/$config"
'
expect_success 'asked again: one request, and the same answer' '
    forget_requests && larder update check "$ref" >again && requests_are 1 && test_cmp expected again
'
expect_success 'the base is as it was' '
    larder inspect --raw "store:$name" >raw && test "$(digest raw)" = "$one" && larder fsck
'
expect_success '--json: all of it' '
    larder --json update check "$ref" >check.json &&
    json check.json "d[\"state\"] == \"available\" and d[\"persisted\"] is True" &&
    json check.json "d[\"current\"] == {\"digest\": \"$one\", \"version\": \"1.0\",
        \"timestamp\": \"2026-01-02T03:04:05Z\"}" &&
    json check.json "d[\"update\"][\"digest\"] == \"$two\" and d[\"update\"][\"version\"] == \"2.0\"" &&
    json check.json "d[\"update\"][\"timestamp\"] == \"2026-02-03T04:05:06Z\"" &&
    json check.json "d[\"update\"][\"persisted\"] is True and d[\"update\"][\"checkedAt\"] == d[\"checkedAt\"]" &&
    json check.json "(d[\"update\"][\"layersNeeded\"], d[\"update\"][\"bytesNeeded\"]) == (1, 999999)" &&
    json check.json "({k: v for k, v in d[\"update\"][\"diff\"].items() if k != \"layers\"} ==
        dict(total=3, total_size=1003599, removed=1, removed_size=75900, added=1,
             added_size=999999, here=2, here_size=3600))" &&
    json check.json "[(l[\"change\"], l[\"presence\"], l[\"size\"])
        for l in d[\"update\"][\"diff\"][\"layers\"]] == [(\"kept\", \"here\", 600),
        (\"kept\", \"here\", 3000), (\"added\", \"needed\", 999999), (\"removed\", \"here\", 75900)]"
'
expect_success 'show tells what the check told, asking nobody' '
    forget_requests && larder --json update show "$ref" >show.json && requests_are 0 &&
    test_cmp check.json show.json &&
    larder update show "$ref" >out && expect_match "^Last checked: " out &&
    grep -v "^Last checked: " out >without && test_cmp expected without &&
    test "$(larder -q update show "$ref")" = "$two"
'
# The leak checker of a sanitizer build traces, too, and only one can.
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
    expect_success 'show opens no socket, and writes nothing' '
        find "$LARDER_HOME" -printf "%p %T@ %C@\n" | sort >before &&
        ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" strace -f -o trace -e trace=%network,%file,flock,fcntl "$LARDER" update show "$ref" >out &&
        find "$LARDER_HOME" -printf "%p %T@ %C@\n" | sort >after && test_cmp before after &&
        expect_no_match "socket\(|connect\(|libcurl|index\.sqlite|LOCK_EX|O_WRONLY|O_RDWR|O_CREAT" trace
    '
else
    skip_test 'show opens no socket' 'no strace that may trace'
fi
expect_success 'a reference without its transport is the same' '
    larder --json update show "$name" >out && test_cmp check.json out
'
expect_success 'the tag moved twice: the record is the last' '
    three=$(os_image "$v3") && larder update check "$ref" >out && larder --json update show "$ref" >show.json &&
    json show.json "d[\"update\"][\"digest\"] == \"$three\" and d[\"update\"][\"version\"] == \"3.0\"" &&
    expect_match "^Removed layers:   2  " out && expect_match "^Added layers:     3     Size: 1.0 MB" out
'
expect_success 'the tag moved back: no record of an update is left' '
    os_image "$v1" >/dev/null && expect_status 77 larder update check --exit-code "$ref" &&
    larder --json update show "$ref" >out &&
    json out "d[\"state\"] == \"unchanged\" and \"update\" not in d" &&
    larder --json update fetch "$ref" >out && json out "d[\"was_there\"] is True"
'
expect_success 'the same configuration in another packing is no update' '
    os_image "{\"repo\": \"packed\", \"layers\": [[\"p\", 5000, 1]]}" >/dev/null &&
    keep "$registry/packed:stable" &&
    packed=$(os_image "{\"repo\": \"packed\", \"layers\": [[\"p\", 5000, 2]]}") &&
    expect_status 77 larder --json update check --exit-code "$registry/packed:stable" >out &&
    json out "d[\"state\"] == \"unchanged\" and d[\"current\"][\"digest\"] != \"$packed\"" &&
    forget_requests && expect_status 77 larder update check --exit-code "$registry/packed:stable" &&
    requests_are 1
'
expect_success 'a reference that nothing is in use of: all of it is new' '
    first=$(os_image "{\"repo\": \"first\", \"version\": \"9\"}") &&
    larder --json update check "$registry/first:stable" >out &&
    json out "d[\"state\"] == \"available\" and \"current\" not in d" &&
    json out "d[\"update\"][\"digest\"] == \"$first\" and d[\"update\"][\"diff\"][\"added\"] == 2" &&
    json out "d[\"update\"][\"diff\"][\"removed\"] == 0" &&
    larder --json update show "$registry/first:stable" >again && test_cmp out again &&
    larder update show "$registry/first:stable" >out && expect_no_match "^Current" out
'
both='"platforms": ["linux/amd64", "linux/arm64"]'
expect_success 'an index: the digest told is that of the platform' '
    os_image "{\"repo\": \"multi\", \"version\": \"1\", $both}" >/dev/null &&
    keep "$registry/multi:stable" &&
    expect_status 77 larder update check --exit-code "$registry/multi:stable" && forget_requests &&
    expect_status 77 larder update check --exit-code "$registry/multi:stable" && requests_are 1 &&
    host=$(os_image "{\"repo\": \"multi\", \"version\": \"2\", $both}") &&
    listed=$(member "$test_work/image.json" listed) &&
    arm=$(member "$test_work/image.json" members arm64) &&
    larder --json update check "$registry/multi:stable" >out &&
    json out "d[\"update\"][\"digest\"] == \"$host\" and d[\"listed\"] == \"$listed\"" &&
    forget_requests && larder -q update check "$registry/multi:stable" >out && requests_are 1 &&
    test "$(cat out)" = "$host"
'
expect_success '... and another platform has a record of its own' '
    larder --json update check --platform linux/arm64 "$registry/multi:stable" >out &&
    json out "d[\"platform\"] == \"linux/arm64\" and d[\"update\"][\"digest\"] == \"$arm\"" &&
    larder --json update show --platform linux/arm64 "$registry/multi:stable" >again &&
    test_cmp out again && test "$(larder -q update show "$registry/multi:stable")" = "$host" &&
    expect_status 3 larder update check --platform linux/riscv64 "$registry/multi:stable" 2>err &&
    expect_match riscv64 err
'
expect_success 'an index that became a single image' '
    single=$(os_image "{\"repo\": \"multi\", \"version\": \"3\"}") &&
    test "$(larder -q update check "$registry/multi:stable")" = "$single"
'
expect_success 'images of Docker, schema 2' '
    os_image "{\"repo\": \"v2s2\", \"format\": \"docker\", \"version\": \"1\"}" >/dev/null &&
    keep "$registry/v2s2:stable" &&
    expect_status 77 larder update check --exit-code "$registry/v2s2:stable" &&
    next=$(os_image "{\"repo\": \"v2s2\", \"format\": \"docker\", \"version\": \"2\",
        \"layers\": [[\"a\", 600], [\"b\", 3000], [\"x\", 7]]}") &&
    larder --json update check "$registry/v2s2:stable" >out &&
    json out "d[\"update\"][\"digest\"] == \"$next\" and d[\"update\"][\"diff\"][\"added\"] == 1" &&
    larder --json update show "$registry/v2s2:stable" >again && test_cmp out again
'
expect_success 'a large manifest, words of the world, and none at all' '
    "$python" - >spec.json <<EOF &&
import json
print(json.dumps({"repo": "large", "version": "39 \u00fcber \u65b0\u3057\u3044 \U0001f600",
                  "labels": {"k%d" % i: "\u00e4" * 100 for i in range(200)},
                  "layers": [["l%d" % i, 10 + i] for i in range(120)]}))
EOF
    large=$(os_image "$(cat spec.json)") && larder update check "$registry/large:stable" >out &&
    expect_match "^  Version: 39 über 新しい 😀\$" out && expect_match "^Total new layers: 120   Size: 8.3 kB" out &&
    larder --json update show "$registry/large:stable" >out &&
    json out "d[\"update\"][\"digest\"] == \"$large\" and len(d[\"update\"][\"diff\"][\"layers\"]) == 120" &&
    os_image "{\"repo\": \"bare\", \"created\": null}" >/dev/null &&
    larder update check "$registry/bare:stable" >out && expect_no_match "Version|Timestamp" out &&
    larder --json update show "$registry/bare:stable" >out &&
    json out "\"version\" not in d[\"update\"] and \"timestamp\" not in d[\"update\"]"
'
expect_success 'a version with an escape sequence does nothing to a terminal' '
    os_image "{\"repo\": \"evil\", \"version\": \"1\\u001b[31m\\n  Digest: no\"}" >/dev/null &&
    larder update check "$registry/evil:stable" >out &&
    ! grep -q "$(printf "\033")" out && expect_no_match "^  Digest: no" out
'
expect_success '--name: the base has another name' '
    larder -q copy "$ref" store:booted >/dev/null && os_image "$v2" >/dev/null &&
    larder --json update check --name booted "$ref" >out &&
    json out "d[\"place\"] == \"store:booted\" and d[\"update\"][\"digest\"] == \"$two\"" &&
    larder --json update show --name booted "$ref" >again && test_cmp out again
'
expect_success 'a layout and its archive can be watched, too' '
    larder -q copy "$ref" oci:layout:os >/dev/null && larder -q copy oci:layout:os oci-archive:os.tar:os >/dev/null &&
    test "$(larder -q update check oci:layout:os --name booted)" = "$two" &&
    test "$(larder -q update check oci-archive:os.tar:os --name booted)" = "$two" &&
    test "$(larder -q update show oci:layout:os --name booted)" = "$two"
'
expect_success 'no such tag is 3, and changes no record' '
    larder -q update check "$ref" >/dev/null && larder --json update show "$ref" >before &&
    quirks "{\"rules\": [{\"match\": \"/manifests/stable\", \"status\": 404}]}" &&
    expect_status 3 larder update check "$ref" 2>err && expect_match "os:stable" err &&
    quirks "{\"rules\": [{\"match\": \"/manifests/stable\", \"status\": 500}]}" &&
    expect_status 8 larder update check "$ref" 2>err && quirks "{}" &&
    larder --json update show "$ref" >after && test_cmp before after
'
expect_success 'a manifest or configuration of other bytes is refused, and changes no record' '
    os_image "$v3" >/dev/null && config=$(member "$test_work/image.json" config) &&
    quirks "{\"rules\": [{\"match\": \"GET .*/blobs/$config\", \"corrupt\": 20}]}" &&
    expect_status 5 larder update check "$ref" 2>err && quirks "{}" &&
    larder --json update show "$ref" >after && test_cmp before after
'
# The tag is an image whose configuration is a list.
listed_config() {
    "$python" - "$admin" <<'END'
import hashlib, json, sys, urllib.request
kind = "application/vnd.oci.image."
def put(path, data, media_type):
    request = urllib.request.Request(sys.argv[1] + path, data, {"Content-Type": media_type}, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()
config = b"[1]"
put("/_blob/os", config, "application/octet-stream")
put("/_manifest/os/stable", json.dumps({
    "schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "layers": [],
    "config": {"mediaType": kind + "config.v1+json", "size": len(config),
               "digest": "sha256:" + hashlib.sha256(config).hexdigest()}}).encode(),
    kind + "manifest.v1+json")
END
}
expect_success 'a configuration that is no object is refused as what the registry did, and changes no record' '
    listed_config && expect_status 1 larder update check "$ref" 2>err &&
    expect_match "$ref: configuration" err && larder --json update show "$ref" >after &&
    test_cmp before after && os_image "$v3" >/dev/null
'
# The tag is JSON, but no manifest.
no_manifest() {
    "$python" - "$admin" <<'END'
import sys, urllib.request
request = urllib.request.Request(sys.argv[1] + "/_manifest/none/stable", b'{"schemaVersion": 2, "layers": 7}',
    {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, method="PUT")
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()
END
}
expect_success 'a manifest that is none: 1 from a registry, 5 in a layout; nobody used a command wrongly' '
    no_manifest && for what in "update check" "copy"; do
        to= && { [ "$what" != copy ] || to=store:none; } &&
            expect_status 1 larder --json $what "docker://$registry/none:stable" ${to:+"$to"} >out 2>err &&
            json out "d[\"error\"][\"code\"] == \"protocol\"" && expect_match "manifest" err || return 1
    done &&
    larder -q copy "docker://$registry/os:stable" oci:bad:1 >/dev/null &&
    "$python" - <<EOF &&
import hashlib, json, os
index = json.load(open("bad/index.json"))
data = b"{\"schemaVersion\": 2, \"layers\": 7, \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\"}"
digest = hashlib.sha256(data).hexdigest()
open("bad/blobs/sha256/" + digest, "wb").write(data)
index["manifests"][0].update(digest="sha256:" + digest, size=len(data))
json.dump(index, open("bad/index.json", "w"))
EOF
    expect_status 5 larder update check oci:bad:1 && expect_status 5 larder copy oci:bad:1 store:bad
'
expect_success 'list: a row a reference, and --json, and --quiet' '
    larder update list >out && expect_match "^REF  *PLATFORM  *STATE  *VERSION  *DIGEST  *CHECKED\$" out &&
    short=$(echo "$two" | cut -c1-19) &&
    expect_match "^$ref  *linux/[^ ]*  *available  *2.0  *$short  *" out &&
    larder --json update list >out &&
    json out "{u[\"state\"] for u in d[\"updates\"]} == {\"available\", \"unchanged\"}" &&
    larder -q update list >names && expect_match "^$ref\$" names && expect_match "^oci:.*layout:os\$" names &&
    test "$(grep -c "/multi:stable\$" names)" -eq 2
'
# terminal COLUMNS COMMAND...: what it writes to a terminal of that width.
terminal() {
    "$python" - "$@" <<'END'
import fcntl, os, pty, struct, subprocess, sys, termios

master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
child = subprocess.Popen(sys.argv[2:], stdout=slave)
os.close(slave)
seen = b""
try:
    while piece := os.read(master, 65536):
        seen += piece
except OSError:
    pass
sys.stdout.write(seen.decode().replace("\r\n", "\n"))
sys.exit(child.wait())
END
}
expect_success 'list: whole in a pipe, cut to the width of a terminal, which is told less' '
    long=registry/of/images/with/a/long/name && os_image "{\"repo\": \"$long\", \"version\": \"39.20240110.3.0-and-more\"}" >digest &&
    larder -q update check "$registry/$long:stable" >/dev/null &&
    larder update list >out && expect_match "^docker://$registry/$long:stable  *linux/[^ ]*  *available  *39.20240110.3.0-and-more  *" out &&
    terminal 80 "$LARDER" update list >out && cat out && "$python" - <<EOF &&
lines = open("out").read().splitlines()
assert max(map(len, lines)) <= 80, max(lines, key=len)
assert not any("docker://" in line or "sha256:" in line for line in lines)
assert not any("linux/" in line for line in lines) and any(" arm64 " in line for line in lines)
cut = [line for line in lines if "..." in line.split()[0]]
assert any(line.split()[0].endswith("name:stable") for line in cut), cut
digest = open("digest").read().split(":")[1][:12]
assert any(digest in line for line in cut), cut
EOF
    terminal 400 "$LARDER" update list >out && expect_match "^$registry/$long:stable  *" out &&
    expect_no_match "\.\.\." out && larder -q update clear "$registry/$long:stable"
'
expect_success 'clear and fetch tell the complete reference, whatever was typed' '
    short=127.0.0.1:${registry#*:}/os:stable && larder --json update clear "never/seen" >out &&
    json out "d[\"ref\"] == \"docker://docker.io/never/seen:latest\"" &&
    larder update clear "never/seen" 2>err && expect_match "^larder: docker://docker.io/never/seen:latest: nothing" err &&
    larder --json update fetch -n "$short" >out && json out "d[\"ref\"] == \"docker://$short\""
'
expect_success 'du counts records for themselves: they keep no blob' '
    n=$(larder -q update list | wc -l) && larder --json du -s >out && json out "d[\"records\"] == $n" &&
    json out "d[\"record_allocated_bytes\"] >= 4096 * $n" && larder du -s >out &&
    expect_match " $n  *records of updates\$" out && expect_match "blobs that only a lease holds" out
'
expect_success 'clear, twice: nothing recorded is a success' '
    larder update clear "$ref" 2>err && expect_match forgotten err &&
    larder --json update show "$ref" >out && json out "d[\"state\"] == \"unknown\"" &&
    expect_status 77 larder update show --exit-code "$ref" >out && expect_match "^Nothing recorded for: $ref" out &&
    forget_requests && larder --json update clear "$ref" >out && json out "d[\"was_there\"] is False" &&
    larder update clear "$registry/never/seen:1" && requests_are 0 &&
    larder -q update list >names && expect_no_match "^$ref\$" names
'
expect_success 'without a store: clear succeeds, show and fetch are 3, and none makes one' '
    LARDER_HOME=$PWD/none larder update clear "$ref" &&
    LARDER_HOME=$PWD/none expect_status 3 larder update fetch "$ref" &&
    LARDER_HOME=$PWD/none expect_status 3 larder update fetch --to oci:new:os "$ref" &&
    LARDER_HOME=$PWD/none expect_status 3 larder update show "$ref" &&
    LARDER_HOME=$PWD/none expect_status 3 larder --json update list >out && json out "d[\"error\"]" &&
    test ! -e none
'
expect_success 'the base is another: the record is void' '
    larder -q update check "$ref" >/dev/null && larder -q copy "docker://$registry/first:stable" "store:$name" >/dev/null &&
    larder --json update show "$ref" >out && json out "d[\"state\"] == \"unknown\" and \"update\" not in d"
'
expect_success 'the registry is away: 8, and the record is shown as it was' '
    larder -q update check "$ref" >/dev/null && larder --json update show "$ref" >before && registry_stop &&
    expect_status 8 larder update check "$ref" 2>err && expect_match "$registry" err &&
    larder --json update show "$ref" >after && test_cmp before after &&
    expect_status 8 larder --json update check "$ref" >out 2>err && json out "d[\"error\"][\"code\"] == \"unreachable\""
'
test_done

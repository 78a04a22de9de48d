#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What scripts rely on: JSON members of every command, quiet, pipes and full outputs, exit statuses.
. "$(dirname "$0")/lib.sh"

make_image a.qcow2 1
make_image b.qcow2 2
sha256sum a.qcow2 >SHA256SUMS
larder -q image add a ./a.qcow2 --refresh 1h
larder -q image add new ./b.qcow2
larder -q image get a >path

# has FILE MEMBER...: the document has at least these; a typing mistake in one would go unnoticed
# by whoever asks for it with a default.
has() {
    has_file=$1
    shift
    for has_member in "$@"; do
        json "$has_file" "'$has_member' in d" || return 1
    done
}
each_has() { # FILE LIST MEMBER...
    each_file=$1 each_list=$2
    shift 2
    for has_member in "$@"; do
        json "$each_file" "d['$each_list'] and all('$has_member' in x for x in d['$each_list'])" || return 1
    done
}

expect_success 'image add, get' '
    larder --json image add c ./a.qcow2 >out 2>/dev/null && has out name source &&
    larder --json image get a >out 2>/dev/null && has out name path digest size_bytes format how verdict && json out "d[\"how\"] == \"hit\""
'
expect_success 'image list' '
    larder --json image list >out && each_has out images name verdict source && json out "[i[\"name\"] for i in d[\"images\"]] == [\"a\", \"c\", \"new\"]" &&
    json out "all(k in d[\"images\"][0] for k in (\"digest\", \"size_bytes\", \"format\", \"checked\", \"last_used\"))"
'
expect_success 'image show: a fetched one' '
    larder --json image show a >out && has out name verdict reason is_invalidated source refresh path digest size_bytes allocated_bytes virtual_bytes format upstream_digest sums_url added fetched checked last_used last_verified holders
'
expect_success 'image show: members without a value are left out' '
    larder --json image show new >out && has out name verdict source added && json out "not any(k in d for k in (\"path\", \"digest\", \"fetched\", \"transform\")) and d[\"verdict\"] == \"unknown\""
'
expect_success 'times are RFC 3339 in UTC' '
    larder --json image show a >out && json out "__import__(\"re\").fullmatch(r\"\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z\", d[\"fetched\"])"
'
expect_success 'image verify, invalidate' '
    larder --json image verify a >out && each_has out images name verdict reason digest size_bytes &&
    larder --json image invalidate a --dry-run >out && each_has out invalidated name digest why is_deferred
'
expect_success 'image check, adopt' '
    mkdir -p dir && cp a.qcow2 dir/x.qcow2 && (cd dir && sha256sum x.qcow2 >x.qcow2.sha256) &&
    larder --json image check dir >out && each_has out images path verdict sidecar is_in_use is_acted_on &&
    larder --json image adopt dir >out && each_has out images path name how
'
expect_success 'image overlay, copy' '
    larder --json image copy a c.qcow2 >out 2>/dev/null && has out file how image && json out "\"path\" in d[\"image\"]" && larder --json image overlay a o.qcow2 >out 2>/dev/null && has out file how image
'
expect_success 'gc, du, status, scrub, fsck, maintain' '
    larder --json gc --dry-run >out && has out items removed_blobs removed_bytes pinned_blobs pinned_bytes kept_blobs kept_bytes removed_temporaries removed_leases removed_quarantined dry_run &&
    larder --json du >out && has out blob_count blob_bytes blob_allocated_bytes referred_blobs quarantined partials && each_has out blobs digest size_bytes allocated_bytes refs &&
    larder --json status >out && has out store images blobs blob_bytes refs leases leased_blobs quarantined partials free_bytes && json out "sorted(d[\"images\"]) == [\"corrupt\", \"outdated\", \"unknown\", \"valid\"]" &&
    larder --json scrub --older-than 0 >out && has out checked_blobs checked_bytes read_bytes corrupt_blobs skipped_blobs is_complete && each_has out blobs digest result &&
    larder --json fsck >out && has out found blobs refs leases problems repaired harmless &&
    larder --json maintain --once >out && has out events worst
'
expect_success 'blob put, path; config show' '
    larder --json blob put a.qcow2 >out && has out digest && larder --json blob path "$(digest a.qcow2)" >out && has out digest path size_bytes allocated_bytes &&
    larder --json config show >out && json out "d"
'
expect_success 'a failure is a document, too: code, message, hint; nothing else on stdout' '
    { larder --json image get nowhere >out 2>err; test $? -eq 3; } && json out "d[\"error\"][\"code\"] and d[\"error\"][\"message\"]" && test -s err &&
    { larder --json image show nowhere >out 2>err; test $? -eq 3; } && json out "\"error\" in d" &&
    { larder --json --store ./none image list >out 2>err; test $? -ne 0; } && json out "\"error\" in d"
'
expect_success 'names with quotes, blanks and letters of all kinds survive JSON and text' '
    name="it'"'"'s \"ünï\" 日本" && larder -q image add "$name" ./a.qcow2 && larder --json image list >out && json out "any(i[\"name\"] == chr(105) + \"t\\x27s \\\"ünï\\\" 日本\" for i in d[\"images\"])" &&
    larder -q image get "$name" >out && test -s out && larder -q image remove "$name"
'
expect_success 'names that cannot be entries are refused: 2' '
    for bad in "" -x /abs a/../b "a
b"; do { larder image add -- "$bad" ./a.qcow2 2>err; test $? -eq 2; } || { echo "taken: $bad"; return 1; }; done
'
expect_success '--quiet: get prints the path only, list the names only, the rest nothing' '
    larder -q image get a >out 2>err && test_cmp path out && test ! -s err && larder -q image list >out && printf "a\nc\nnew\n" | cat - >expected; grep -E "^(a|c|new)$" out >got; test_cmp expected got &&
    for command in "gc" "image verify a" "fsck" "image invalidate new" "scrub"; do larder -q $command >out 2>err; test ! -s out && test ! -s err || { echo "$command"; cat out err; return 1; }; done
'
expect_success 'a reader that goes away ends it quietly' '
    for i in 1 2 3 4 5 6 7 8 9; do larder -q image add n$i ./a.qcow2 || return 1; done
    for command in "image list" "help image get" "--json du" "completion bash"; do
        { "$LARDER" $command; echo $? >status; } 2>err | true
        test ! -s err || { echo "$command"; cat err; return 1; }
        "$LARDER" $command 2>err | head -1 >out; test -s out && test ! -s err || return 1
    done
'
expect_success '... of a blob, too, which is more than a pipe holds' '
    head -c 3000000 /dev/zero >zeros && d=$(larder -q blob put zeros) &&
    { "$LARDER" blob cat "$d"; echo $? >status; } 2>err | head -c 1 >out && test "$(cat status)" -eq 141 &&
    { test ! -s err || { cat err; false; }; }
'
expect_success 'a full output is a failure of every command that prints' '
    for command in "image list" "image get a" "image show a" "--json du" status "blob cat $(digest a.qcow2)" "blob path $(digest a.qcow2)" "config example" "completion bash" "help gc" --version; do
        "$LARDER" $command >/dev/full 2>err; rc=$?
        test $rc -eq 1 && expect_match "^larder: standard output" err || { echo "$command: $rc"; return 1; }
    done
'
expect_success 'a closed output, too' '
    "$LARDER" image get a >&- 2>err; test $? -eq 1
'
expect_success 'wrong flags: 2, with a suggestion' '
    expect_status 2 larder image get a --require-fersh 2>err && expect_match "hint: .*--require-fresh|did you mean.*--require-fresh" err &&
    expect_status 2 larder image gett a 2>err && expect_match "image get" err && expect_status 2 larder fcsk 2>err && expect_match "fsck" err &&
    expect_status 2 larder gc --keep-for soon 2>err && expect_match "soon" err && expect_status 2 larder gc --max-size -1 2>err && expect_status 2 larder image get 2>err && expect_status 2 larder image get a b 2>err
'
expect_success 'an option cut too short: 2, with those it may be; the program is named once' '
    expect_status 2 larder image get a --re 2>err && expect_match "^larder: image get: ambiguous option --re: --require-fresh or --refresh" err &&
    expect_status 2 larder --ver 2>err && expect_match "^larder: ambiguous option --ver: --verbose or --version" err &&
    expect_status 2 larder --stroe x status 2>err && expect_match "^larder: unknown option --stroe" err
'
expect_success 'a name that a shell would split is quoted where it is to be copied' '
    larder image add "two words" ./a.qcow2 2>err && expect_match "image get .two words.. fetches" err && larder -q image remove "two words"
'
expect_success 'control bytes from outside are not printed as they are' '
    { larder image get "$(printf "no\033[31mwhere")" 2>err; test $? -ne 0; } && ! grep "$(printf "\033")" err
'
test_done

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Records of updates: damaged ones, places that cannot be written, the state directory.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/registry.sh"
. "$(dirname "$0")/update.sh"

registry_start
name=$registry/os:stable
ref=docker://$name
one=$(os_image '{"version": "1.0"}')
larder -q copy "$ref" "store:$name" >/dev/null
two=$(os_image '{"version": "2.0", "layers": [["a", 600], ["n", 4000]]}')
# The only record of the store.
record() { find "$LARDER_HOME/updates" -type f -size +0; }

# damaged TITLE COMMAND: COMMAND damages the file $record.
damaged() {
    title=$1
    # shellcheck disable=SC2034 # read by the script below
    damage=$2
    expect_success "$title" '
        larder -q update check "$ref" >/dev/null && record=$(record) && chmod u+w "$record" && eval "$damage" &&
        expect_status 5 larder update show "$ref" >out 2>err &&
        expect_match "^Damaged record for: $ref\$" out && expect_match "^Current: 1.0 .*$one\$" out &&
        expect_match "larder update clear" err &&
        expect_status 5 larder --json update show "$ref" >out 2>err &&
        json out "d[\"state\"] == \"corrupt\" and d[\"current\"][\"digest\"] == \"$one\"" &&
        json out "d[\"why\"] and \"update\" not in d" &&
        expect_status 5 larder update fetch "$ref" && larder inspect --raw "store:$name" >/dev/null &&
        larder --json update list >out && json out "[u[\"state\"] for u in d[\"updates\"]] == [\"corrupt\"]"
    '
}
damaged 'a record that was cut short' 'truncate -s 300 "$record"'
expect_success '... is made anew by a check' '
    larder update check "$ref" >out && expect_match "^Update available" out &&
    test "$(larder -q update show "$ref")" = "$two"
'
damaged 'a record with another digest' 'sed -i "s/$two/sha256:$(printf %064d 0)/" "$record"'
expect_success '... is forgotten by clear' '
    larder update clear "$ref" 2>err && expect_match forgotten err &&
    larder --json update show "$ref" >out && json out "d[\"state\"] == \"unknown\""
'
damaged 'a record whose manifest was edited' 'sed -i "s/4000/4001/" "$record"'
damaged 'a record that is no JSON' 'echo "{" >"$record"'
expect_success '... does not keep gc, du and fsck from their work' '
    larder gc >/dev/null && larder du >/dev/null && larder update clear "$ref" && larder fsck
'

expect_success 'a damaged base hides no other reference from the list' '
    larder -q copy "$ref" "store:$registry/os:other" >/dev/null && larder -q update check "$ref" &&
    os_image "{\"version\": \"9.0\", \"tag\": \"other\"}" >/dev/null &&
    larder -q update check "$registry/os:other" && base=$LARDER_HOME/blobs/sha256/${one#sha256:} &&
    chmod u+w "$base" && cp -p "$base" saved && echo x >>"$base" &&
    expect_status 5 larder update show "$ref" && larder --json update list >out &&
    json out "sorted(u[\"state\"] for u in d[\"updates\"]) == [\"available\", \"corrupt\"]" &&
    json out "all(u[\"why\"] for u in d[\"updates\"] if u[\"state\"] == \"corrupt\")" &&
    larder update list >out && expect_match "corrupt" out && mv saved "$base" &&
    larder update clear "$ref" && larder update clear "$registry/os:other"
'

if can_be_another; then
    chmod a+rx "$test_work" "$test_work/trash"
    expect_success 'a store that is another user'"'"'s: its records are shown, checks answer and keep nothing' '
        larder -q update check "$ref" >/dev/null && test "$(others_larder -q update show "$ref")" = "$two" &&
        next=$(os_image "{\"version\": \"2.1\"}") && others_larder --json update check "$ref" >out 2>err &&
        json out "d[\"update\"][\"digest\"] == \"$next\" and d[\"persisted\"] is False" &&
        expect_match "^larder: warning: what was found is not kept" err && test "$(wc -l <err)" -eq 1 &&
        expect_status 1 others_larder update clear "$ref" && test "$(larder -q update show "$ref")" = "$two"
    '
    expect_success '... or keep it in a state directory of theirs, and in none of somebody else' '
        mkdir theirs shared && chown 65534 theirs && chmod 777 shared &&
        others_larder --json update check --require-persist --state-dir "$PWD/theirs" "$ref" >out &&
        json out "d[\"record\"] == \"state directory\"" &&
        test "$(others_larder -q update show --state-dir "$PWD/theirs" "$ref")" = "$next" &&
        others_larder --json update check --state-dir "$PWD/shared" "$ref" >out 2>err &&
        json out "d[\"update\"][\"digest\"] == \"$next\" and d[\"persisted\"] is False" &&
        expect_match "^larder: warning: what was found is not kept: .*shared: everybody may write" err &&
        test "$(grep -c warning err)" -eq 1 && test -z "$(ls shared)" &&
        expect_status 1 others_larder update check --require-persist --state-dir "$PWD/shared" "$ref" 2>err &&
        expect_status 1 larder update clear --state-dir "$PWD/shared" "$ref" 2>err && expect_match "chmod o-w" err &&
        larder -q update check --state-dir "$PWD/shared" "$ref" >/dev/null 2>err && test ! -s err &&
        os_image "{\"version\": \"2.0\", \"layers\": [[\"a\", 600], [\"n\", 4000]]}" >/dev/null && larder update clear "$ref"
    '
else
    skip_test 'a store that is another user'"'"'s' 'needs root and setpriv'
fi
if ! can_read_only; then
    skip_test 'a store that cannot be written' 'no mount namespaces here'
    test_done
fi
expect_success 'a read-only store: the check answers, with one warning' '
    on_read_only "$LARDER" --json update check "$ref" >out 2>err &&
    json out "d[\"state\"] == \"available\" and d[\"update\"][\"digest\"] == \"$two\"" &&
    json out "d[\"update\"][\"persisted\"] is False and d[\"why\"]" &&
    test "$(grep -c "^larder: warning: " err)" -eq 1 && test "$(wc -l <err)" -eq 1 &&
    on_read_only "$LARDER" update check "$ref" >out 2>err && expect_match "^Update available for: $ref" out &&
    larder --json update show "$ref" >out && json out "d[\"state\"] == \"unknown\""
'
expect_success '... and --require-persist is 1' '
    expect_status 1 on_read_only "$LARDER" update check --require-persist "$ref" >out 2>err &&
    expect_match "^Update available for: $ref" out && expect_match "state-dir" err &&
    larder update check --require-persist "$ref" >/dev/null && larder update clear "$ref"
'
expect_success 'a read-only store: unchanged is unchanged' '
    os_image "{\"version\": \"1.0\"}" >/dev/null &&
    expect_status 77 on_read_only "$LARDER" update check --exit-code "$ref" &&
    os_image "{\"version\": \"2.0\", \"layers\": [[\"a\", 600], [\"n\", 4000]]}" >/dev/null
'
expect_success 'clear on a read-only store: a success only where there is nothing to clear' '
    on_read_only "$LARDER" update clear "$ref" && larder -q update check "$ref" >/dev/null &&
    expect_status 1 on_read_only "$LARDER" update clear "$ref" 2>err && expect_match "$LARDER_HOME|[Rr]ead-only" err &&
    test "$(larder -q update show "$ref")" = "$two" && larder update clear "$ref"
'
expect_success '--state-dir: the record is there, and found there' '
    on_read_only "$LARDER" --json update check --require-persist --state-dir "$PWD/state" "$ref" >out 2>err &&
    test ! -s err && json out "d[\"persisted\"] is True and d[\"record\"] == \"state directory\"" &&
    larder --json update show --state-dir "$PWD/state" "$ref" >again && test_cmp out again &&
    LARDER_UPDATE_STATE_DIR=$PWD/state larder --json update show "$ref" >again && test_cmp out again &&
    larder --json update show "$ref" >again && json again "d[\"state\"] == \"unknown\"" &&
    test -z "$(record)"
'
expect_success '--state-dir: fetch and list use it, a store that can be written is not asked to' '
    larder -q update list --state-dir state >out && expect_match "^$ref\$" out &&
    larder -q update fetch --state-dir state --to oci:next:os "$ref" >out && expect_match "^Digest: $two\$" out &&
    larder update check --state-dir other "$ref" >/dev/null && test -n "$(record)" && test ! -e other
'
expect_success '--state-dir: void when the base is another' '
    larder update clear "$ref" && larder -q copy "$ref" "store:$name" >/dev/null &&
    larder --json update show --state-dir state "$ref" >out && json out "\"update\" not in d"
'
expect_success '--state-dir: clear removes it' '
    os_image "{\"version\": \"3.0\"}" >/dev/null &&
    on_read_only "$LARDER" -q update check --state-dir "$PWD/state" "$ref" >/dev/null &&
    larder -q update show --state-dir state "$ref" >out && test -s out &&
    larder update clear --state-dir state "$ref" 2>err && expect_match forgotten err &&
    larder --json update show --state-dir state "$ref" >out && json out "d[\"state\"] == \"unknown\""
'
test_done

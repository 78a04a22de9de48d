#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Wrong usage: exit 2, a message that names what was wrong, a hint, and no store.
. "$(dirname "$0")/lib.sh"

# refused TITLE PATTERN WORD...: exit 2, nothing on stdout, PATTERN in stderr.
refused() {
    title=$1
    # shellcheck disable=SC2034 # read by the script below
    pattern=$2
    shift 2
    # shellcheck disable=SC2034
    words=$*
    expect_success "$title" '
        expect_status 2 larder $words >out 2>err &&
        test ! -s out &&
        expect_match "$pattern" err &&
        expect_match "^larder: " err &&
        test ! -e "$LARDER_HOME"
    '
}
refused 'a command mistyped' 'did you mean `larder scrub`' srcub
refused 'a group left out' 'did you mean `larder image get`' get debian
refused 'a command of a group mistyped' 'did you mean `larder image verify`' image verfy
refused 'a group alone' 'larder help image' image
refused 'an option mistyped' 'did you mean --keep-for' gc --keepfor 1d
refused 'an unknown letter' 'unknown option -Z' gc -Z
refused 'an option without its value' 'expected AGE' gc --keep-for
refused 'a flag with a value' 'takes no value' gc --dry-run=yes
refused 'a time that is none' 'always or never' gc --keep-for soon
refused 'a size that is none' '200G' gc --max-size lots
refused 'a choice that is none' 'auto\|always\|never' image get x --unpack maybe
refused 'too few words' 'expected NAME SOURCE' image add debian
refused 'too many words' 'expected none' gc now
refused 'a key without a keyring' 'keyring' image add a ./b --fingerprint 00
refused 'offline and asking' 'offline' image get a --offline --fresh
refused 'two actions' 'expected one' image check . --remove --quarantine q
refused 'nothing to invalidate' 'mismatched' image invalidate
refused 'two ways to invalidate' 'mismatched' image invalidate a --older-than 1d
refused 'an age of nothing' 'older-than' image invalidate --older-than 0
refused 'once and every' 'expected one' maintain --once --every 1h
refused 'rounds without end' 'less than a second' maintain --every 0
refused 'a digest that is none' '^larder: ' blob cat sha256:xyz
refused 'help on nothing' "unknown command 'nothing'" help nothing
refused 'an update of nothing' 'found no REF' update check --no-ostree
refused 'an update of nothing in a repository' 'found no REF' update show --ostree-repo r
refused 'two places of a base' 'expected one' update show --ostree-repo r --sysroot s a
refused 'a name in a repository' 'about the store' update check --ostree-repo r --name n a
refused 'a repository, and none' 'about the store' update check --ostree-repo r --no-ostree a
refused 'an image nowhere to go' 'expected store:NAME' update fetch a --to dir:d
refused 'a partial image in the store' 'oci:DIR' update fetch a --no-ostree --partial --to store:x
refused 'a watch of nothing' 'found no REF' update watch --once --no-ostree
refused 'a watch of all and one' 'expected one' update watch --all a
refused 'a watch, once and again' 'expected one' update watch a --once --every 1h
refused 'a watch without a rest' 'less than a second' update watch a --no-ostree --every 0
refused 'names beside --all' 'all' image verify a --all

expect_success 'options may stand before, between and behind' '
    larder --json config show gc.keep_for >a &&
    larder config show --json gc.keep_for >b &&
    larder config show gc.keep_for --json >c &&
    test_cmp a b && test_cmp a c
'
expect_success 'help fits 80 columns and begins its lines where they belong' '
    for command in "" gc "image get" fsck image "image use"; do
        larder help $command >out &&
        expect_no_match "^.{81}" out && expect_no_match "^ [^ ]" out || return 1
    done
'
expect_success 'a missing store: exit 3, and it is not made by looking' '
    for command in "image list" "image show x" "gc" "du" "status" "fsck" "scrub"; do
        expect_status 3 larder $command >out 2>err &&
        test ! -s out && expect_match "^larder: .*store" err || return 1
    done &&
    test ! -e "$LARDER_HOME"
'
expect_success '--json: a failure is a document, too' '
    expect_status 3 larder --json image list >out 2>err &&
    python3 -c "
import json
e = json.load(open(\"out\"))[\"error\"]
assert e[\"code\"] == \"not-found\" and \"store\" in e[\"message\"], e
"
'
expect_success 'a reader that goes away ends us quietly' '
    larder image add a /dev/null 2>/dev/null;
    { larder config example; echo "$?" >status; } 2>err | head -n 1 >/dev/null &&
    test ! -s err
'
expect_success 'a full device is reported, exit 1' '
    expect_status 1 larder config show >/dev/full 2>err &&
    expect_match "standard output" err
'
expect_success 'a closed standard output is reported, exit 1' '
    expect_status 1 larder config show >&- 2>err &&
    expect_match "standard output" err
'
expect_success 'a message does not carry escape sequences on' '
    expect_status 2 larder "$(printf "x\033[31mred")" 2>err &&
    ! grep -q "$(printf "\033")" err
'
test_done

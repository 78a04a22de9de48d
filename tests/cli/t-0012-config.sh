#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Configuration: where it is from, what wins, what is refused.
. "$(dirname "$0")/lib.sh"

[ ! -e /etc/larder/larder.conf ] || skip_all 'this system has a larder.conf'
mkdir -p "$HOME/.config/larder"
# shellcheck disable=SC2034 # read by the scripts below
conf=$HOME/.config/larder/larder.conf

# origin KEY: third column.
# shellcheck disable=SC2317 # called by the scripts below
origin() { larder config show | sed -n "s/^$1  *[^ ]*  *//p"; }

expect_success 'without a file: defaults' '
    test "$(larder config show gc.keep_for)" = 7d &&
    test "$(origin gc.keep_for)" = default
'
expect_success 'a file of the user' '
    printf "[gc]\nkeep_for = 3d\n" >"$conf" &&
    test "$(larder config show gc.keep_for)" = 3d &&
    test "$(origin gc.keep_for)" = "$conf:2"
'
expect_success 'XDG_CONFIG_HOME moves it; a relative one is ignored' '
    mkdir -p xdg/larder && printf "[gc]\nkeep_for = 4d\n" >xdg/larder/larder.conf &&
    test "$(XDG_CONFIG_HOME=$PWD/xdg larder config show gc.keep_for)" = 4d &&
    test "$(XDG_CONFIG_HOME=xdg larder config show gc.keep_for)" = 3d
'
expect_success 'a variable wins over the file' '
    test "$(LARDER_GC_KEEP_FOR=5d larder config show gc.keep_for)" = 5d &&
    test "$(LARDER_GC_KEEP_FOR=5d origin gc.keep_for)" = "\$LARDER_GC_KEEP_FOR" &&
    test "$(LARDER_GC_KEEP_FOR= larder config show gc.keep_for)" = 3d
'
expect_success '--config and LARDER_CONFIG: that file only' '
    printf "[gc]\nmax_size = 1G\n" >other.conf &&
    test "$(larder --config other.conf config show gc.keep_for)" = 7d &&
    test "$(larder --config other.conf config show gc.max_size)" = 1G &&
    test "$(LARDER_CONFIG=other.conf larder config show gc.max_size)" = 1G &&
    expect_status 3 larder --config nowhere.conf config show 2>err &&
    expect_match "nowhere.conf" err
'
expect_success 'LARDER_HOME, LARDER_STORE_PATH and --store: later wins' '
    printf "[store]\npath = /from/file\n" >"$conf" &&
    test "$(env -u LARDER_HOME "$LARDER" config show store.path)" = /from/file &&
    test "$(larder config show store.path)" = "$LARDER_HOME" &&
    test "$(LARDER_STORE_PATH=/p larder config show store.path)" = /p &&
    test "$(LARDER_STORE_PATH=/p larder --store /q config show store.path)" = /q &&
    test "$(LARDER_HOME=here larder config show store.path)" = "$PWD/here"
'
expect_success 'the store that was named is the one that is used' '
    rm "$conf" &&
    digest=$(echo flag | larder --store flag blob put -) &&
    test -d flag/blobs && test ! -e "$LARDER_HOME" &&
    test "$(larder blob cat "$digest" --store flag)" = flag &&
    test "$(LARDER_STORE_PATH=$PWD/flag larder blob cat "$digest")" = flag &&
    printf "[store]\npath = %s\n" "$PWD/flag" >"$conf" &&
    test "$(env -u LARDER_HOME "$LARDER" blob cat "$digest")" = flag
'
expect_success 'an unknown key: file, line and suggestion' '
    printf "[gc]\n\nkeepfor = 1d\n" >"$conf" &&
    expect_status 2 larder config show 2>err &&
    expect_match "larder.conf:3: .*keepfor" err &&
    expect_match "hint: .*keep_for" err
'
expect_success 'every command minds it, help does not' '
    expect_status 2 larder image list 2>err &&
    expect_match "larder.conf:3" err &&
    larder --help >/dev/null && larder --version >/dev/null
'
expect_success 'a bad variable names itself' '
    rm "$conf" &&
    LARDER_GC_MAX_SIZE=lots expect_status 2 larder config show 2>err &&
    expect_match "LARDER_GC_MAX_SIZE: .*lots" err
'
expect_success 'the example is a whole configuration that says the defaults' '
    larder config example >example.conf &&
    larder --config example.conf config show >a &&
    larder config show >b &&
    test_cmp b a &&
    sed "s/^#\([a-z_]* =\)/\1/" example.conf >defaults.conf &&
    larder --config defaults.conf config show | sed "s/  *[^ ]*\$//" >a &&
    larder config show | sed "s/  *[^ ]*\$//" >b &&
    test_cmp b a
'
expect_success 'an unknown key asked for: a suggestion' '
    expect_status 2 larder config show gc.keepfor 2>err &&
    expect_match "gc.keep_for" err
'
expect_success '--json' '
    larder config show --json gc.keep_for >out &&
    python3 -c "
import json
assert json.load(open(\"out\")) == {\"keys\": [
    {\"key\": \"gc.keep_for\", \"value\": \"7d\", \"origin\": \"default\"}]}
"
'
test_done

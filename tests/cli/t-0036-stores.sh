#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stores that are missing, read-only, foreign, newer or damaged; which store it is.
. "$(dirname "$0")/lib.sh"

make_image a.qcow2 1
ok_failure() { test "$1" -gt 0 && test "$1" -lt 126; }

expect_success 'a missing store: reading says so (3), and makes none' '
    for command in "image list" "image show a" du status "gc --dry-run" fsck; do
        larder $command >out 2>err; rc=$?
        ok_failure $rc && expect_match "^larder: .*$LARDER_HOME" err && test ! -e "$LARDER_HOME" || { echo "$command: $rc"; return 1; }
    done
'
expect_success 'get and add make it' '
    larder -q image add a ./a.qcow2 && test -d "$LARDER_HOME/blobs" && larder -q image get a >path
'
expect_success '--store wins over $LARDER_HOME, and that over the configuration' '
    larder -q --store "$PWD/other" image get ./a.qcow2 >out && case $(cat out) in "$PWD"/other/*) ;; *) false ;; esac &&
    printf "[store]\npath = $PWD/third\n" >conf && larder -q --config conf image get ./a.qcow2 >out && case $(cat out) in "$LARDER_HOME"/*) ;; *) false ;; esac &&
    (unset LARDER_HOME; "$LARDER" -q --config conf image get ./a.qcow2 >out) && case $(cat out) in "$PWD"/third/*) ;; *) false ;; esac
'
expect_success 'without any of them: XDG for a user' '
    if can_be_another; then
        mkdir -p xdg && chmod 777 xdg && chmod a+rx "$test_work" "$test_work/trash" && chmod a+r a.qcow2 &&
        (unset LARDER_HOME; XDG_DATA_HOME=$PWD/xdg HOME=$PWD/xdg others_larder -q image get "$PWD/a.qcow2" >out) &&
        case $(cat out) in "$PWD"/xdg/larder/*) ;; *) false ;; esac
    else
        (unset LARDER_HOME; XDG_DATA_HOME=$PWD/xdg "$LARDER" -q image get ./a.qcow2 >out) && [ "$(id -u)" -eq 0 ] || case $(cat out) in "$PWD"/xdg/larder/*) ;; *) false ;; esac
    fi
'
expect_success 'a directory with other things in it is not made a store' '
    mkdir full && echo mine >full/mine && { larder --store full image add a ./a.qcow2 2>err; ok_failure $?; } && test "$(ls full)" = mine && expect_match "full" err
'
expect_success 'a file, or a parent that is not there' '
    echo x >file && { larder --store file image list 2>err; ok_failure $?; } && expect_match "file" err &&
    { larder --store file image add a ./a.qcow2 2>err; ok_failure $?; } && test "$(cat file)" = x
'
expect_success 'a store of a newer format: said so, nothing changed' '
    cp -a other newer && chmod -R u+w newer && find newer -name format -exec cat {} + && sed -i "s/[0-9][0-9]*/99/" newer/format && find newer | sort >before &&
    { larder --store newer image list 2>err; ok_failure $?; } && expect_match "99" err && { larder --store newer image get ./a.qcow2 >out 2>err; ok_failure $?; } && test ! -s out &&
    { larder --store newer fsck --repair 2>err; ok_failure $?; } && find newer | sort >after && test_cmp before after
'
expect_success 'a damaged format file: said so' '
    : >newer/format && { larder --store newer image list 2>err; ok_failure $?; } && expect_match "format" err
'
if can_be_another; then
    as_other() { others_larder "$@"; }
    chmod a+rx "$test_work" "$test_work/trash"
    expect_success 'a store that is another user'"'"'s: what is there is used' '
        as_other image get a --offline >out 2>err && test_cmp path out && as_other image list >out 2>err && as_other image show a >out 2>err && as_other status >out 2>err
    '
    expect_success '... and what would change it is refused, with the reason' '
        { as_other image add b "$PWD/a.qcow2" 2>err; ok_failure $?; } && expect_match "ermission|read-only|owner" err &&
        { as_other image invalidate a 2>err; ok_failure $?; } && { as_other gc 2>err; ok_failure $?; } && { as_other image remove a 2>err; ok_failure $?; } &&
        larder -q image get a >out && test_cmp path out
    '
    expect_success '... get says that upstream is not asked; --require-fresh is refused' '
        as_other image get a >out 2>err && test_cmp path out && expect_match "upstream is not asked" err &&
        expect_status 8 as_other image get a --require-fresh --fresh >out 2>err && test ! -s out &&
        expect_match "upstream is not asked: store .* cannot be written" err
    '
    expect_success '... a store copied from elsewhere has no memos that hold: hashed, and used if good' '
        cp -a "$LARDER_HOME" copied && chmod a+rx copied && blob=copied/blobs/sha256/$(basename "$(cat path)") &&
        as_other --store "$PWD/copied" image get a >out 2>err && test "$(cat out)" = "$PWD/$blob" &&
        chmod u+w "$blob" && { printf x | dd of="$blob" bs=1 seek=9000 conv=notrunc 2>/dev/null; } && chmod u-w "$blob" &&
        expect_status 5 as_other --store "$PWD/copied" image get a >out 2>err && test ! -s out &&
        expect_match "image a: corrupt: .*cannot be written" err && test -e "$blob" && chmod -R u+w copied && rm -r copied
    '
    expect_success '... a corrupt image is not handed out' '
        chmod u+w "$(cat path)" && echo x >>"$(cat path)" && chmod u-w "$(cat path)" &&
        { as_other image get a >out 2>err; ok_failure $?; } && test ! -s out && larder -q image get a >out 2>err && test_cmp path out
    '
else
    skip_test 'a store that is another user'"'"'s' 'needs root and setpriv'
fi
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
    # shellcheck disable=SC2016 # for the inner shell
    expect_success 'a read-only file system: a hit works, a change says read-only' '
        unshare -m sh -c "mount --bind \"\$LARDER_HOME\" \"\$LARDER_HOME\" && mount -o remount,ro,bind \"\$LARDER_HOME\" || exit 99
            \"\$LARDER\" image get a >out 2>err || exit 1
            \"\$LARDER\" image list >list 2>err || exit 2
            \"\$LARDER\" image verify a >verified 2>err2; echo \$? >status
            \"\$LARDER\" image add b ./a.qcow2 2>err3 && exit 3
            \"\$LARDER\" gc --dry-run >gc 2>err4 || exit 4
            exit 0"; rc=$?
        test $rc -eq 99 || { test $rc -eq 0 && test_cmp path out && expect_match "ead-only" err3; }
    '
    # A store is full when its file system is.
    expect_success 'a full file system: an error that says how much is needed, nothing lost, works again' '
        mkdir -p tiny && unshare -m sh -c "mount -t tmpfs -o size=1200k none tiny || exit 99
            \"\$LARDER\" -q --store tiny/s image get ./a.qcow2 >out 2>err; echo \$? >status
            \"\$LARDER\" --store tiny/s fsck >fsck 2>&1; echo \$? >>status
            find tiny/s/blobs -type f >blobs
            mount -o remount,size=200m tiny && \"\$LARDER\" -q --store tiny/s image get ./a.qcow2 >out2 && cmp a.qcow2 \"\$(cat out2)\""; rc=$?
        test $rc -eq 99 || { test $rc -eq 0 && test ! -s out && test ! -s blobs && test "$(tr "\n" " " <status)" = "1 0 " && expect_match "space|free" err; }
    '
else
    skip_test 'a read-only file system' 'needs root and mount namespaces'
fi
expect_success 'a corrupt index is no error of any command' '
    larder -q image get a >out && test ! -e "$LARDER_HOME/index.sqlite" || echo nonsense >"$LARDER_HOME/index.sqlite"
    larder image list >out && larder du >out && larder gc >out && larder status >out && larder -q image get a >out && test_cmp path out
'
expect_success 'a blob that is a directory, a fifo or a link: no hang, no harm' '
    p=$(cat path) && rm -f "$p" && mkfifo "$p" && timeout 200 "$LARDER" -q image get a >out 2>err &&
    cmp a.qcow2 "$(cat out)" && rm -f "$p" && mkdir "$p" &&
    timeout 200 "$LARDER" -q image get a >out 2>err && cmp a.qcow2 "$(cat out)" && rm -f "$p" &&
    ln -s /etc/passwd "$p" && timeout 200 "$LARDER" -q image get a >out 2>err &&
    cmp a.qcow2 "$(cat out)"
'
expect_success 'relative --store is the one of the working directory' '
    (mkdir -p d && cd d && "$LARDER" -q --store ./rel image get ../a.qcow2 >../out) && case $(cat out) in "$PWD"/d/rel/*) ;; *) false ;; esac
'
test_done

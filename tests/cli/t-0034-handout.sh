#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image overlay and copy: what a guest may write to, and what keeps the image there.
. "$(dirname "$0")/lib.sh"
command -v qemu-img >/dev/null || skip_all 'no qemu-img'

make_image a.qcow2 1
qemu-img create -q -f qcow2 sparse.qcow2 1G
truncate -s 64M raw.img
printf '\353\143' | dd of=raw.img conv=notrunc 2>/dev/null
printf '\125\252' | dd of=raw.img bs=1 seek=510 conv=notrunc 2>/dev/null
larder -q image add a ./a.qcow2
larder -q image add raw ./raw.img
larder -q image get a >path
larder -q image get raw >rawpath
is_there() { test -e "$(cat "$1")"; }

expect_success 'overlay: a sound qcow2 on the digest path' '
    larder image overlay a o.qcow2 >out 2>err && qemu-img check -q o.qcow2 &&
    qemu-img info --output=json o.qcow2 >info &&
    json info "d[\"full-backing-filename\"] == \"$(cat path)\" and d[\"backing-filename-format\"] == \"qcow2\"" &&
    json info "d[\"virtual-size\"] == 1048576" && qemu-img compare -q o.qcow2 a.qcow2
'
expect_success 'a guest writes to it, the image stays what it was' '
    if command -v qemu-io >/dev/null; then qemu-io -c "write -P 7 0 64k" o.qcow2 && qemu-io -c "read -P 7 0 64k" o.qcow2; fi &&
    larder image verify a --deep >out
'
expect_success 'overlay of a raw image names that format; --size makes it larger' '
    larder -q image overlay raw r.qcow2 --size 2G && qemu-img info --output=json r.qcow2 >info &&
    json info "d[\"backing-filename-format\"] == \"raw\" and d[\"virtual-size\"] == 2 << 30" && qemu-img check -q r.qcow2
'
expect_success 'smaller than the image: refused, or no smaller than asked' '
    { larder image overlay raw small.qcow2 --size 1M 2>err; rc=$?; test $rc -lt 126; } &&
    if test $rc -eq 0; then qemu-img check -q small.qcow2; else test ! -e small.qcow2; fi; rm -f small.qcow2
'
expect_success 'what exists is not overwritten: 1' '
    cp o.qcow2 before && expect_status 1 larder image overlay a o.qcow2 2>err && expect_match "o.qcow2" err && cmp before o.qcow2
'
expect_success 'the lease is there while the file is: show names it, gc keeps the image' '
    larder --json image show a >show && json show "any(\"o.qcow2\" in h for h in d[\"holders\"])" &&
    larder -q image remove a && larder gc --keep-for 0 >out && is_there path &&
    larder --json gc --keep-for 0 --max-size 1 >out && is_there path && json out "d[\"pinned_blobs\"] >= 1"
'
expect_success 'the file is gone: the lease is, and gc takes the image' '
    rm -f o.qcow2 before && larder gc --keep-for 0 >out && ! is_there path
'
expect_success 'copy: the same bytes, writable, of its own' '
    larder -q image add a ./a.qcow2 && larder -q image copy a c.qcow2 && test_cmp a.qcow2 c.qcow2 && test -w c.qcow2 &&
    test "$(stat -c %a c.qcow2)" != 444 && larder -q image get a >path && test "$(stat -c %i c.qcow2)" != "$(stat -c %i "$(cat path)")" &&
    qemu-img resize -q c.qcow2 +1G && larder image verify a --deep >out
'
expect_success 'copy: holes stay holes' '
    larder -q image copy raw c.img && test_cmp raw.img c.img && test "$(du -k c.img | cut -f1)" -le 1024
'
expect_success 'copy: what exists stays, --force replaces it' '
    echo mine >mine && expect_status 1 larder image copy a mine 2>err && expect_match "mine" err && echo mine >expected && test_cmp expected mine &&
    larder -q image copy a mine --force && test_cmp a.qcow2 mine
'
expect_success 'copy --force: who has the old file open keeps it' '
    echo mine >m && exec 9<m && larder -q image copy a m --force && read -r line <&9; exec 9<&-; test "$line" = mine
'
expect_success '--json says what was made' '
    larder --json image copy a c2.qcow2 >out && json out "d[\"how\"] in (\"copy\", \"reflink\") and d[\"image\"][\"name\"] == \"a\" and \"c2.qcow2\" in d[\"file\"]" &&
    larder --json image overlay a o2.qcow2 >out && json out "d[\"how\"] == \"overlay\""
'
expect_success 'they fetch what is missing or corrupt first' '
    path=$(cat path) && chmod u+w "$path" && echo x >>"$path" && chmod u-w "$path" && rm -f o2.qcow2 &&
    larder -q image copy a c3.qcow2 2>err && test_cmp a.qcow2 c3.qcow2
'
expect_success 'an unknown image: 3, and no file' '
    expect_status 3 larder image copy nowhere n.qcow2 2>err && test ! -e n.qcow2 && expect_status 3 larder image overlay nowhere n.qcow2 2>err && test ! -e n.qcow2
'
expect_success 'a directory that is not there: an error, and nothing left' '
    larder --json status >out && leases=$(member out leases) &&
    { larder image copy a no/such/c.qcow2 2>err; test $? -ne 0; } && { larder image overlay a no/such/o.qcow2 2>err; test $? -ne 0; } &&
    larder --json status >out && json out "d[\"leases\"] == $leases"
'
expect_success 'images with a backing file or an external data file are refused, with the reason' '
    qemu-img create -q -f qcow2 -b "$PWD/a.qcow2" -F qcow2 backed.qcow2 && larder -q image add b ./backed.qcow2 &&
    expect_status 1 larder image get b >out 2>err && test ! -s out && expect_match "backing" err &&
    qemu-img create -q -f qcow2 -o data_file=ext.raw,data_file_raw=on ext.qcow2 1M && expect_status 1 larder image get ./ext.qcow2 >out 2>err && test ! -s out && expect_match "data in another file, .ext.raw" err
'
expect_success '--allow-backing where it makes sense' '
    larder -q image add b ./backed.qcow2 --allow-backing --replace && larder -q image get b >out && test_cmp backed.qcow2 "$(cat out)"
'
expect_success 'show tells all it knows beside a lease that it cannot read' '
    for lease in "$LARDER_HOME"/leases/*; do echo junk >"$lease"; break; done &&
    larder image show a >out 2>err && expect_match "^in use by *unknown: .*leases/" out &&
    expect_match "^path " out &&
    larder fsck --repair >out; larder image show a >out 2>err && expect_no_match "unknown" out
'
expect_success 'a guest directory that is not there is warned about, once' '
    LARDER_IMAGE_GUEST_DIRS=$PWD/not/mounted larder image show a >out 2>err &&
    test "$(grep -c "warning: guest directory .*not/mounted is not there" err)" -eq 1
'
test_done

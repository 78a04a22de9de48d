#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image check and adopt: a plain directory of images that larder does not own.
. "$(dirname "$0")/lib.sh"

make_image good.img 1
make_image bad.img 2
# fill DIR: an image for each kind of sidecar, good and bad.
fill() {
    rm -rf "$1" && mkdir "$1"
    n=0
    for kind in checksum sha256 sha256sum sha512 sha512sum SHA256SUM CHECKSUM md5; do
        for is in good bad; do
            n=$((n + 1))
            name=$is-$kind.qcow2
            # Each has other bytes, so that none can be judged by another's sums.
            { cat good.img; echo "$name"; } >"$1/$name"
            case $kind in
            sha512*) sum=sha512sum ;;
            md5) sum=md5sum ;;
            *) sum=sha256sum ;;
            esac
            (cd "$1" && $sum "$name" >"$name.$kind")
            [ $is = good ] || echo more >>"$1/$name"
        done
    done
    for is in good bad; do cp good.img "$1/$is-list.qcow2" && echo "list $is" >>"$1/$is-list.qcow2"; done
    (cd "$1" && sha256sum ./*-list.qcow2 >SHA256SUMS)
    echo more >>"$1/bad-list.qcow2"
    cp good.img "$1/nosums.qcow2"
    echo unrelated >"$1/README"
}
fill dir
expect_success 'each is judged by its own sidecar; nothing is touched' '
    ls -l dir >before && expect_status 5 larder --json image check dir >out 2>err && ls -l dir >after && test_cmp before after &&
    json out "len([i for i in d[\"images\"] if i[\"verdict\"] == \"valid\"]) == 9" &&
    json out "len([i for i in d[\"images\"] if i[\"verdict\"] == \"corrupt\"]) == 9" &&
    json out "all((\"/bad-\" in i[\"path\"]) == (i[\"verdict\"] == \"corrupt\") for i in d[\"images\"])" &&
    json out "all(i[\"sidecar\"].startswith(i[\"path\"]) or i[\"sidecar\"].endswith(\"/SHA256SUMS\") for i in d[\"images\"] if \"sidecar\" in i)"
'
expect_success 'md5 alone is believed with a warning' '
    expect_match "warning: .*dir/good-md5.qcow2: only md5" err && expect_no_match "warning: .*sha" err
'
expect_success 'a sidecar that names another file is believed, and says so' '
    rm -rf dir1 && mkdir dir1 && cp good.img dir1/a.img && echo "$(sha256sum <good.img | cut -c1-64)  b.img" >dir1/a.img.sha256 &&
    larder image check dir1 >out1 2>err && expect_match "a.img: valid" out1 && expect_match "warning: .*dir1/a.img: .*names another file, b.img" err &&
    larder image adopt dir1 --dry-run 2>err && expect_match "names another file, b.img" err
'
expect_success 'what has no checksum is unknown, other files are no images' '
    json out "[i[\"verdict\"] for i in d[\"images\"] if \"nosums\" in i[\"path\"]] == [\"unknown\"]" &&
    json out "not any(\"README\" in i[\"path\"] for i in d[\"images\"])"
'
expect_success 'text: path, verdict and reason; quiet only what is not valid' '
    expect_status 5 larder image check dir >out && expect_match "dir/bad-sha256.qcow2: corrupt: ." out && expect_match "dir/good-sha256.qcow2: valid$" out &&
    expect_status 5 larder -q image check dir >out && expect_no_match ": valid" out
'
expect_success 'the second time nothing is hashed again, and the answer is the same' '
    expect_status 5 larder --json image check dir >out2 && expect_status 5 larder --json image check dir --deep >out3 && test_cmp out2 out3
'
expect_success '--remove --dry-run: said, not done' '
    expect_status 5 larder image check dir --remove --dry-run >out && expect_match "would go" out && ls -l dir >after && test_cmp before after
'
expect_success '--remove: exactly the mismatching ones that are not in use' '
    exec 9<dir/bad-sha256.qcow2 && expect_status 5 larder --json image check dir --remove >out; rc=$?; exec 9<&-; test $rc -eq 0 &&
    json out "[i[\"is_in_use\"] for i in d[\"images\"] if \"bad-sha256.\" in i[\"path\"]] == [True]" &&
    ls dir | grep -c "^bad-.*qcow2$" >left && test "$(cat left)" -eq 1 && test -e dir/bad-sha256.qcow2 &&
    test "$(ls dir | grep -c "^good-.*qcow2$")" -eq 9 && test -e dir/nosums.qcow2 && test -e dir/README
'
expect_success '... and once it is not in use any more' '
    expect_status 5 larder image check dir --remove >out && test ! -e dir/bad-sha256.qcow2 && larder image check dir >out
'
expect_success 'a backing file of an overlay beside it is in use' '
    command -v qemu-img >/dev/null || return 0
    make_image dir/base.qcow2 9 && (cd dir && sha256sum base.qcow2 >base.qcow2.sha256 && echo >>base.qcow2) &&
    mkdir -p guests && (cd guests && qemu-img create -q -f qcow2 -b "$PWD/../dir/base.qcow2" -F qcow2 g.qcow2) &&
    LARDER_IMAGE_GUEST_DIRS=$PWD/guests expect_status 5 larder image check dir --remove >out && test -e dir/base.qcow2 && expect_match "in use" out &&
    rm -rf guests && expect_status 5 larder image check dir --remove >out && test ! -e dir/base.qcow2
'
expect_success '--quarantine DIR2: moved there, which is made' '
    fill dir && expect_status 5 larder image check dir --quarantine bad.d >out && expect_match "moved" out &&
    test "$(ls bad.d | grep -c "qcow2")" -ge 9 && test "$(ls dir | grep -c "^bad-.*qcow2$")" -eq 0 && test "$(ls dir | grep -c "^good-.*qcow2$")" -eq 9
'
expect_success '... and nothing there is overwritten' '
    fill dir && expect_status 5 larder image check dir --quarantine bad.d >out && test "$(ls bad.d | grep -c "qcow2")" -ge 18
'
expect_success 'symbolic links are not followed, their targets not touched' '
    rm -rf dir && mkdir dir && cp bad.img outside.qcow2 && ln -s ../outside.qcow2 dir/l.qcow2 && echo "$(sha256sum good.img | cut -c1-64)  l.qcow2" >dir/l.qcow2.sha256 &&
    { larder image check dir --remove >out; true; } && test_cmp bad.img outside.qcow2 && test -L dir/l.qcow2
'
expect_success 'absolute paths, bare digests and clearsigned lists, as tools leave them' '
    rm -rf dir && mkdir dir && for i in a b c; do { cat good.img; echo $i; } >dir/$i.qcow2; done &&
    sha256sum "$PWD/dir/a.qcow2" >dir/a.qcow2.sha256 && sha256sum dir/b.qcow2 | cut -c1-64 | tr -d "\n" >dir/b.qcow2.sha256sum &&
    printf -- "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 (c.qcow2) = %s\n-----BEGIN PGP SIGNATURE-----\n\nabcd\n-----END PGP SIGNATURE-----\n" "$(sha256sum dir/c.qcow2 | cut -c1-64)" >dir/X-CHECKSUM &&
    { larder --json image check dir >out; true; } && json out "[i[\"verdict\"] for i in d[\"images\"]][:2] == [\"valid\", \"valid\"]"
'
expect_success 'a sidecar that contradicts itself: not valid, and never removed by it' '
    rm -rf dir && mkdir dir && cp good.img dir/a.qcow2 && printf "%s  a.qcow2\n%s  a.qcow2\n" "$(sha256sum good.img | cut -c1-64)" "$(sha256sum bad.img | cut -c1-64)" >dir/SHA256SUMS &&
    { larder --json image check dir --remove >out 2>err; true; } && test_cmp good.img dir/a.qcow2 && json out "d[\"images\"][0][\"verdict\"] != \"valid\""
'
expect_success 'a directory without images is told from one whose images are good' '
    mkdir -p up/down && cp good.img up/down/a.img && larder image check up >out 2>err && test ! -s out &&
    expect_match "up: no image in it; directories below" err && larder -q image check up 2>err && test ! -s err &&
    larder image adopt up 2>err && expect_match "up: no image in it" err
'
expect_success 'no such directory: 3; both actions: 2' '
    expect_status 3 larder image check nowhere 2>err && expect_status 2 larder image check dir --remove --quarantine x 2>err
'

# ---- adopt ----
fill dir
expect_success 'adopt --dry-run: nothing' '
    expect_status 5 larder --json image adopt dir --dry-run >out && larder --json image list >list && json list "d[\"images\"] == []"
'
expect_success 'adopt: those refused are counted, and the worst reason is the exit status' '
    rm -rf dir2 && mkdir dir2 && cp good.img dir2/a-taken.img && larder -q image add a-taken.img "$PWD/good.img" &&
    cp good.img dir2/b.img && echo "$(sha256sum <bad.img | cut -c1-64)  b.img" >dir2/b.img.sha256 &&
    { cat good.img; echo c; } >dir2/c.img && expect_status 5 larder image adopt dir2 >out2 2>err &&
    expect_match "1 image adopted, 2 refused" err && expect_match "a-taken.img: refused: .*exists already" out2 &&
    larder -q image remove a-taken.img c.img
'
expect_success 'adopt: the good ones become entries, the bad ones are refused, originals stay' '
    ls dir >before && sha256sum dir/* >sums && expect_status 5 larder --json image adopt dir >out && sha256sum -c --quiet sums && ls dir >after && test_cmp before after &&
    json out "sum(1 for i in d[\"images\"] if \"error\" not in i) >= 9 and sum(1 for i in d[\"images\"] if \"error\" in i) >= 8" &&
    json out "all(\"/good-\" in i[\"path\"] or \"nosums\" in i[\"path\"] for i in d[\"images\"] if \"error\" not in i)"
'
expect_success 'adopted ones are handed out, from the store, and valid by a deep look' '
    larder -q image list >names && test "$(wc -l <names)" -ge 9 && name=$(grep good-sha256 names | head -1) && larder -q image get "$name" >path &&
    test_cmp dir/good-sha256.qcow2 "$(cat path)" && case $(cat path) in "$LARDER_HOME"/*) ;; *) false ;; esac && larder image verify --deep >out
'
expect_success 'writing to an original, which may be a hard link: never handed out as the good one' '
    cp dir/good-sha256.qcow2 was && chmod u+w dir/good-sha256.qcow2 && cp bad.img dir/good-sha256.qcow2 &&
    if larder image get "$name" >out 2>err; then test_cmp was "$(cat out)"; else test ! -s out; fi
'
expect_success '... replacing it, as downloads do, does not reach the store' '
    name=$(grep good-sha512.qcow2 names | head -1) && cp -f dir/good-sha512.qcow2 was && cp bad.img new && mv new dir/good-sha512.qcow2 &&
    larder image verify "$name" --deep >out
'
expect_success 'adopting again changes nothing' '
    larder -q image list >names && { larder image adopt dir >out 2>err; true; } && larder -q image list >names2 && test_cmp names names2
'
test_done

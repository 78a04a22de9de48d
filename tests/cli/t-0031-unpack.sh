#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compressed sources: unpacked while fetched, sparse, with both digests, never judged by the wrong one.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
for tool in gzip xz zstd bzip2; do
    command -v $tool >/dev/null || skip_all "no $tool"
done
http_start

# A disk of 32 MiB with 1 MiB of data, and a boot sector so that it is one.
"$python" - <<'END'
import random
with open("disk.img", "wb") as f:
    f.write(b"\xeb\x63" + bytes(508) + b"\x55\xaa")
    f.seek(8 << 20)
    f.write(random.Random(1).randbytes(1 << 20))
    f.truncate(32 << 20)
END
make_image q.qcow2 2
for f in disk.img q.qcow2; do
    gzip -c $f >www/$f.gz
    xz -c -0 $f >www/$f.xz
    zstd -q -c $f >www/$f.zst
    bzip2 -c $f >www/$f.bz2
done
(cd www && sha256sum disk* q* >SHA256SUMS)

for kind in 'gz gunzip' 'xz unxz' 'zst unzstd' 'bz2 bunzip2'; do
    suffix=${kind% *}
    expect_success ".img.$suffix: unpacked by default, judged by its own digest, source digest kept" '
        larder -q image add $suffix "$url/disk.img.$suffix" --refresh always && larder -q image get $suffix >out &&
        test_cmp disk.img "$(cat out)" && larder --json image show $suffix >show &&
        json show "d[\"digest\"] == \"$(digest disk.img)\" and d[\"source_digest\"] == \"$(digest www/disk.img.$suffix)\"" &&
        json show "d[\"transform\"] == \"${kind#* }\" and d[\"upstream_digest\"] == d[\"source_digest\"] and d[\"format\"] == \"raw\""
    '
done
expect_success 'the result is sparse' '
    path=$(cat out) && test "$(stat -c %s "$path")" -eq 33554432 &&
    test "$(du -k "$path" | cut -f1)" -le 2048
'
expect_success 'all four are one blob' '
    larder --json status >status && for i in gz xz zst bz2; do larder -q image get $i --offline; done | sort -u >paths &&
    test "$(wc -l <paths)" -eq 1
'
expect_success 'a hit stays a hit: not judged by the digest of the source' '
    rules "{}" && larder -q image get gz >out && asked_times 0 GET /disk.img.gz &&
    larder image verify gz --deep --fresh >out && expect_match "gz: valid" out
'
expect_success 'a new archive of the same disk is outdated, fetched, and the same blob' '
    gzip -1 -c disk.img >www/disk.img.gz && (cd www && sha256sum disk* q* >SHA256SUMS) &&
    expect_status 4 larder image verify gz --fresh >out && larder -q image get gz >out && test_cmp paths out &&
    larder image verify gz --fresh >out
'
expect_success 'damage of the result is found and mended' '
    path=$(cat paths) && chmod u+w "$path" && printf X | dd of="$path" bs=1 seek=20000000 conv=notrunc 2>/dev/null && chmod u-w "$path" &&
    expect_status 5 larder image verify gz >out && larder -q image get gz >out 2>err && test_cmp disk.img "$(cat out)"
'
expect_success 'qcow2 archives, too' '
    larder -q image get "$url/q.qcow2.xz" >out && test_cmp q.qcow2 "$(cat out)" &&
    larder -q image get "$url/q.qcow2.zst" >out && test_cmp q.qcow2 "$(cat out)"
'
expect_success '--unpack never: the archive itself' '
    larder -q image add never "$url/disk.img.gz" --unpack never && larder -q image get never >out 2>err; rc=$?
    if test $rc -eq 0; then test_cmp www/disk.img.gz "$(cat out)"; else expect_match "gzip" err; fi
'
expect_success '--unpack always: whatever its name is' '
    cp www/disk.img.gz www/download && (cd www && sha256sum disk* q* download >SHA256SUMS) &&
    larder -q image add always "$url/download" --unpack always && larder -q image get always >out && test_cmp disk.img "$(cat out)"
'
expect_success '--unpack always of what is not packed: an error' '
    cp q.qcow2 www/plain.qcow2 && larder -q image add plain "$url/plain.qcow2" --unpack always &&
    { larder image get plain >out 2>err; rc=$?; test $rc -ne 0 && test $rc -lt 126; } && test ! -s out
'
expect_success 'only named like an archive: taken as it is' '
    cp q.qcow2 www/odd.qcow2.gz && larder -q image get "$url/odd.qcow2.gz" >out && test_cmp q.qcow2 "$(cat out)"
'
expect_success 'image.unpack of the configuration is the default for new entries' '
    LARDER_IMAGE_UNPACK=always "$LARDER" -q image get "$url/download?2" --checksum "$(digest www/download)" >out && test_cmp disk.img "$(cat out)"
'
for suffix in gz xz zst bz2; do
    expect_success ".img.$suffix cut short, sums or not: refused" '
        head -c 500000 www/disk.img.$suffix >www/cut.img.$suffix &&
        { larder -q image get "$url/cut.img.$suffix" >out 2>err; rc=$?; test $rc -eq 5 || test $rc -eq 1; } && test ! -s out &&
        expect_match "cut.img.$suffix" err
    '
done
expect_success 'rubbish behind or inside an archive: refused' '
    cp www/disk.img.gz www/bad.img.gz && printf XXXX | dd of=www/bad.img.gz bs=1 seek=600000 conv=notrunc 2>/dev/null &&
    { larder -q image get "$url/bad.img.gz" >out 2>err; test $? -ne 0; } && test ! -s out
'
expect_success 'a partial of an archive that was damaged on the disk: fetched from the start' '
    { cat disk.img; head -c 6000000 /dev/urandom; } >d.img && gzip -c d.img >www/d.img.gz &&
    rules "{\"/d.img.gz\": {\"times\": 1, \"reset_after\": 5000000}}" &&
    expect_status 8 larder -q image get "$url/d.img.gz" >out 2>err &&
    partial=$(find "$LARDER_HOME" -path "*partial*" -size +1000k) &&
    head -c 9000 /dev/zero | dd of="$partial" bs=1000 seek=1000 conv=notrunc 2>/dev/null &&
    larder -q image get "$url/d.img.gz" >out && test_cmp d.img "$(cat out)"
'
expect_success 'an archive that is cut at first, then whole: mended in the same run' '
    head -c 600000 www/disk.img.gz >www/torn && rules "{\"/disk.img.gz\": {\"times\": 1, \"file\": \"torn\"}}" &&
    larder image invalidate gz >out && larder -q image get gz >out && test_cmp disk.img "$(cat out)"
'
expect_success 'archives resume, too' '
    head -c 6000000 /dev/urandom >>disk.img && gzip -c disk.img >www/r.img.gz &&
    rules "{\"/r.img.gz\": {\"times\": 1, \"reset_after\": 5000000}}" &&
    expect_status 8 larder -q image get "$url/r.img.gz" >out 2>err &&
    larder -q image get "$url/r.img.gz" >out && test_cmp disk.img "$(cat out)" && expect_match "\"status\": 206" "$log"
'
expect_success 'sent with Content-Encoding: gzip by a server that means the file: taken' '
    rules "{\"/disk.img.gz\": {\"encoding\": \"gzip\"}}" && larder image invalidate gz >out && larder -q image get gz >out 2>err &&
    larder --json image show gz >show && json show "d[\"source_digest\"] == \"$(digest www/disk.img.gz)\""
'
expect_success 'local archives' '
    cp www/q.qcow2.xz l.qcow2.xz && larder -q image get ./l.qcow2.xz >out && test_cmp q.qcow2 "$(cat out)"
'
expect_success 'one archive inside another is not unpacked twice' '
    gzip -c www/q.qcow2.xz >www/two.qcow2.xz.gz && { larder -q image get "$url/two.qcow2.xz.gz" >out 2>err; rc=$?; test $rc -lt 126; } &&
    if test $rc -eq 0; then test_cmp www/q.qcow2.xz "$(cat out)"; else expect_match "xz" err; fi
'
test_done

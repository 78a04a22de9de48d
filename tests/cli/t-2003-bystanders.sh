#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What must not be harmed: overlays beside a base, devices, files written to while they are adopted.
. "$(dirname "$0")/lib.sh"

command -v qemu-img >/dev/null || skip_all 'no qemu-img'
command -v python3 >/dev/null || skip_all 'no python3'

expect_success 'check --remove leaves a base alone that an overlay beside it needs' '
    mkdir dir && qemu-img create -q -f qcow2 dir/base.qcow2 8M &&
    echo "$(printf %064d 0)  base.qcow2" >dir/base.qcow2.sha256 &&
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 dir/over.qcow2 &&
    expect_status 5 larder image check dir --remove >out && expect_match "in use" out &&
    test -e dir/base.qcow2 &&
    rm dir/over.qcow2 && expect_status 5 larder image check dir --remove >out &&
    test ! -e dir/base.qcow2
'
qemu-img create -q -f raw a.img 1M
larder image add a ./a.img --format raw 2>/dev/null && larder --quiet image get a >path
expect_success 'copy --force replaces files, and nothing else' '
    mkfifo pipe && ln -s pipe link && mkdir folder && echo old >file &&
    for target in pipe link folder; do
        expect_status 2 larder image copy --force a $target 2>err &&
        expect_match "not a regular file" err || return 1
    done &&
    test -p pipe && test -h link && larder image copy --force a file && cmp a.img file
'
expect_success 'ten thousand leases are shown in part, not as a failure' '
    python3 -c "
import json, sys
for i in range(10000):
    name = \"%032x\" % i
    with open(sys.argv[1] + \"/leases/\" + name, \"w\") as f:
        json.dump({\"version\": 1, \"id\": name, \"kind\": \"until\", \"purpose\": \"test\",
                   \"digest\": \"sha256:\" + sys.argv[2], \"host\": \"h\", \"created_ns\": 1,
                   \"until_ns\": 2 ** 62}, f)
" "$LARDER_HOME" "$(basename "$(cat path)")" &&
    larder image show a >out && expect_match "until .* test" out &&
    rm -f "$LARDER_HOME"/leases/000*
'
# The writer waits for the second name, which is there before the file is hashed.
expect_success 'a file that is written to while it is adopted is not vouched for' '
    mkdir in && truncate -s 512M in/x.img && printf "\125\252" | dd of=in/x.img bs=1 seek=510 conv=notrunc status=none &&
    python3 -c "
import os, time
for _ in range(10000):
    if os.stat(\"in/x.img\").st_nlink > 1: break
    time.sleep(0.001)
fd = os.open(\"in/x.img\", os.O_WRONLY)
time.sleep(0.02)
os.pwrite(fd, b\"other\", 100)
" & writer=$! && started $writer &&
    { larder image adopt in || :; } >out 2>&1 && wait $writer &&
    if larder image get --offline x.img >got 2>err; then
        larder image verify --deep x.img
    fi
'
test_done

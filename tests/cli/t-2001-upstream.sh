#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Upstreams that mislead: sums elsewhere, sums that vanish, no sums at all, clocks that go back.
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || skip_all 'no python3'
server=${LARDER_SOURCE:?}/tests/http/server.py

# serve NAME: a server over ./NAME, controlled by NAME.control, its port in $port, log in NAME.log.
serve() {
    mkdir -p "$1" && echo '{}' >"$1.control"
    python3 "$server" --port-file "$1.port" --log "$1.log" --control "$1.control" "$1" >/dev/null &
    started $!
    wait_for test -s "$1.port" || exit 99
    port=$(cat "$1.port")
}
# disk FILE TEXT: something that looks like a disk, with TEXT in it.
disk() { python3 -c 'import sys
open(sys.argv[1], "wb").write((sys.argv[2].encode() * 600)[:510] + b"\x55\xaa" + bytes(65024))' "$@"; }
zeros=0000000000000000000000000000000000000000000000000000000000000000
# control SERVER JSON: replaced as a whole, with another time stamp.
control() { echo "$2" >"$1.new" && mv "$1.new" "$1.control"; }

serve origin
origin=http://127.0.0.1:$port
serve mirror
mirror=http://127.0.0.1:$port

disk origin/plain.img one
expect_success 'a source without sums is fetched again when its validators change' '
    larder image add plain $origin/plain.img --refresh always &&
    larder image get plain >old &&
    larder image get plain >same 2>err && test_cmp old same && expect_no_match warning err &&
    disk origin/plain.img two &&
    larder image get plain >new && cmp origin/plain.img "$(cat new)" &&
    ! cmp -s old new
'

disk origin/torn.img one
echo "$zeros  torn.img" >origin/torn.img.sha256
expect_success 'sums that contradict the bytes and then vanish do not make them good' '
    control origin "{\"/torn.img.sha256\": {\"skip\": 1, \"status\": 403}}" &&
    larder image add torn $origin/torn.img &&
    expect_status 5 larder image get torn >out 2>err &&
    expect_match inconsistent err && test ! -s out
'

disk origin/lost.img one
(cd origin && sha256sum lost.img >lost.img.sha256)
expect_success 'bytes that had sums are not replaced by bytes without' '
    larder image add lost $origin/lost.img --refresh always &&
    larder image get lost >old &&
    rm origin/lost.img.sha256 && disk origin/lost.img two &&
    larder image get lost >new 2>err && test_cmp old new && expect_match "not there any more" err &&
    expect_status 6 larder image get --require-fresh lost 2>err
'

mkdir -p origin/r mirror/m
disk mirror/m/far.img one
echo "$zeros  far.img" >mirror/m/SHA256SUMS
cp mirror/m/far.img mirror/m/SHA256SUMS origin/r/
printf "X-Secret: tell-nobody\n" >secret && chmod 600 secret
expect_success 'sums redirected to a mirror: its image is asked for, private headers stay here' '
    control origin "{\"/r/SHA256SUMS\": {\"redirect\": \"$mirror/m/SHA256SUMS\"}}" &&
    larder image add far $origin/r/far.img --header-file secret &&
    expect_status 5 larder image get far 2>err && expect_match inconsistent err &&
    expect_match "/m/far.img" mirror.log && expect_no_match tell-nobody mirror.log &&
    expect_match tell-nobody origin.log
'
expect_success 'sums given on another host do not get the headers of the source' '
    : >mirror.log && (cd mirror/m && sha256sum far.img >good) &&
    cp mirror/m/far.img origin/near.img && sed s/far/near/ mirror/m/good >mirror/m/near.sums &&
    larder image add near $origin/near.img --header-file secret --checksum $mirror/m/near.sums &&
    larder image get near >path && expect_match near.sums mirror.log &&
    expect_no_match tell-nobody mirror.log
'

expect_success 'an answer from the future, before the clock was set back, is none' '
    disk origin/clock.img one && larder image add clock $origin/clock.img --refresh always &&
    larder image get clock >old &&
    sed -i "s/\"checkedNs\": [0-9]*/\"checkedNs\": 7000000000000000000/" "$LARDER_HOME"/refs/*clock* &&
    disk origin/clock.img two &&
    larder image get --require-fresh clock >new && cmp origin/clock.img "$(cat new)"
'
expect_success 'without length and checksum half an image is not taken for the whole' '
    python3 -c "import json
print(json.dumps({\"/cut.img\": {\"raw\": \"HTTP/1.0 200 OK\\r\\n\\r\\n\" + chr(1) * 70000}}))" >cut.json &&
    mv cut.json origin.control &&
    expect_status 1 larder image get $origin/cut.img >out 2>err &&
    expect_match "came whole" err && test ! -s out
'
expect_success 'without a checksum, what was fetched before a power loss is fetched again' '
    control origin "{\"/half.img\": {\"times\": 1, \"stall_after\": 3000000}}" &&
    disk origin/half.img one && head -c 6000000 /dev/urandom >>origin/half.img &&
    rm -f "$LARDER_HOME"/partial/* && larder image add half $origin/half.img &&
    { "$LARDER" image get half 2>err & } && pid=$! && started $pid &&
    wait_for sh -c "find \"$LARDER_HOME/partial\" -size +2000k | grep -q ." &&
    { kill $pid; wait $pid; test -s "$LARDER_HOME"/partial/*.json; } &&
    set -- "$LARDER_HOME"/partial/url-*[0-9a-f] && test -s "$1" &&
    dd if=/dev/zero of="$1" bs=1000 seek=500 count=100 conv=notrunc status=none &&
    sed -i "s/\"boot\":\( *\)\"[^\"]*\"/\"boot\":\1\"another\"/" "$1.json" &&
    larder image get half >path && cmp origin/half.img "$(cat path)"
'
test_done

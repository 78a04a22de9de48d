#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job on real data, told as it goes: a disk image is published over HTTP, fetched and
# verified, found again without reading it, damaged and healed, replaced upstream while a process
# still uses the old one. Every claim is checked: the script fails when one does not hold.
#
# Usage: demo.sh [LARDER]   (run by ./dev demo; works in a temporary directory, cleans up)
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
larder=${1:-$here/build/larder}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/larder-demo.XXXXXX")
server=
holder=
cleanup() {
    status=$?
    for pid in $holder $server; do
        kill "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
    chmod -R u+w "$tmp" 2>/dev/null || :
    rm -rf "$tmp"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

LARDER_HOME=$tmp/store
export LARDER_HOME
unset LARDER_CONFIG http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy 2>/dev/null || :

if [ -t 1 ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
else
    bold='' plain=''
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
# Shows a command as a user would type it, then runs it.
run() {
    printf '  $ %s\n' "$*" | sed "s#$larder#larder#g; s#$tmp#~#g"
    "$@" 2>"$tmp/err" >"$tmp/out" && status=0 || status=$?
    sed "s#$tmp#~#g; s/^/    /" "$tmp/err" "$tmp/out"
    return "$status"
}
requests() { grep -c "GET $1 HTTP" "$tmp/http.log" || :; }
make_image() { # FILE PATTERN: 160 MiB of data in a 4 GiB disk
    qemu-img create -q -f qcow2 "$1" 4G
    qemu-io -f qcow2 -c "write -q -P $2 0 96M" -c "write -q -P $(($2 + 1)) 1G 64M" "$1" >/dev/null
}
publish() { (cd "$tmp/www" && sha256sum debian-13.qcow2 >SHA256SUMS); }

step '1. Upstream publishes an image and its SHA256SUMS'
mkdir "$tmp/www"
make_image "$tmp/www/debian-13.qcow2" 65
publish
say "$(cat "$tmp/www/SHA256SUMS")"
python3 -u - "$tmp/www" "$tmp/port" >/dev/null 2>"$tmp/http.log" <<'PY' &
import functools, http.server, os, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
with open(sys.argv[2] + ".new", "w") as f:
    f.write(str(server.server_address[1]))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
PY
server=$!
n=0
while [ ! -s "$tmp/port" ]; do
    n=$((n + 1))
    kill -0 "$server" 2>/dev/null || die "the web server ended: $(cat "$tmp/http.log")"
    [ $n -lt 6000 ] || die "the web server did not start: $(cat "$tmp/http.log")"
    sleep 0.05
done
url=http://127.0.0.1:$(cat "$tmp/port")/debian-13.qcow2
say "served at $url"

step '2. The first job asks: a miss, fetched and verified while it arrives'
run "$larder" image add debian-13 "$url" --refresh always || die 'image add failed'
run "$larder" image get debian-13 || die 'image get failed'
first=$("$larder" --quiet image get debian-13)
cmp "$first" "$tmp/www/debian-13.qcow2" || die 'the cached image differs from the published one'
[ "$(requests /debian-13.qcow2)" = 1 ] || die 'the image was not fetched exactly once'

step '3. The next job asks: a hit'
say 'upstream is asked for its checksum file (--refresh always); the image is not read at all:'
run sh -c "$larder image get debian-13 && sed -n 's/^rchar: /bytes read by it and the shell: /p' /proc/\$\$/io" ||
    die 'image get failed'
read_bytes=$(sed -n 's/^bytes read.*: //p' "$tmp/out")
[ "$read_bytes" -lt 8000000 ] || die "read $read_bytes bytes"
[ "$(requests /debian-13.qcow2)" = 1 ] || die 'the image was fetched again'

step '4. A disk fault flips one bit of the cached copy, keeping size and time'
stamp=$(stat -c %y "$first")
chmod u+w "$first"
printf '\377' | dd of="$first" bs=1 seek=50000000 conv=notrunc status=none
chmod 0444 "$first"
touch -d "$stamp" "$first"
run "$larder" image get debian-13 || die 'image get did not heal the image'
grep -q quarantine "$tmp/err" || die 'nothing was said about quarantine'
healed=$("$larder" --quiet image get debian-13)
cmp "$healed" "$tmp/www/debian-13.qcow2" || die 'the image is still damaged'
say 'the damaged bytes wait in quarantine, the path has good ones again:'
run "$larder" status || die 'status failed'

step '5. Upstream publishes a new image while a process still reads the old one'
# shellcheck disable=SC2016
"$larder" image use debian-13 -- sh -c 'exec 3<"$LARDER_IMAGE"; echo ready >"$1"; exec sleep 6000' \
    sh "$tmp/ready" &
holder=$!
n=0
while [ ! -s "$tmp/ready" ]; do
    n=$((n + 1))
    kill -0 "$holder" 2>/dev/null || die 'the holder ended'
    [ $n -lt 6000 ] || die 'the holder did not start'
    sleep 0.05
done
old_sum=$(sha256sum <"$healed")
make_image "$tmp/www/debian-13.qcow2.new" 80
mv "$tmp/www/debian-13.qcow2.new" "$tmp/www/debian-13.qcow2"
publish
say 'is ours still current?'
run "$larder" image verify --fresh debian-13 && die 'verify did not notice' || status=$?
[ "$status" = 4 ] || die "verify exited with $status, expected 4 (outdated)"
say 'exit status 4: outdated. The next job gets the new one, beside the old:'
run "$larder" image get debian-13 || die 'image get failed'
new=$("$larder" --quiet image get debian-13)
[ "$new" != "$healed" ] || die 'the path did not change'
cmp "$new" "$tmp/www/debian-13.qcow2" || die 'the new image differs from the published one'
[ "$(sha256sum <"$healed")" = "$old_sum" ] || die 'the old image changed under its user'
say 'the old path still has the old bytes; gc keeps it as long as it is used:'
run "$larder" gc --dry-run --keep-for 0 || die 'gc failed'
kill -0 "$holder" || die 'the holder was disturbed'
kill "$holder"
wait "$holder" 2>/dev/null || :
holder=
say 'the job has ended:'
run "$larder" gc --keep-for 0 || die 'gc failed'
[ ! -e "$healed" ] || die 'the old image is still there'
[ -e "$new" ] || die 'gc took the current image'

step '6. The store is sound'
run "$larder" image list || die 'image list failed'
run "$larder" fsck || die 'fsck found problems'
printf '\n%sDone.%s Everything above was checked, nothing was left behind.\n' "$bold" "$plain"

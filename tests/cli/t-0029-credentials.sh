#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Credentials and proxies: what is sent to whom, and that nothing of it is ever shown.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
here=$(dirname "$0")

make_image a.qcow2 1
mkdir -p other
cp a.qcow2 other/a.qcow2
http_start other
other_log=$log other_control=$control other_port=$port
mkdir -p www
cp a.qcow2 www/a.qcow2
(cd www && sha256sum a.qcow2 >SHA256SUMS)
(cd other && sha256sum a.qcow2 >SHA256SUMS)
http_start www

drop() {
    chmod -R u+rwX "$LARDER_HOME" 2>/dev/null
    rm -rf "$LARDER_HOME"
    : >"$other_log"
}
# secret FILE...: none of them shows what must not be shown.
secret() { ! grep -E 'hunter2|aHVudGVyMg|dXNlcjpodW50ZXIy|s3cr3t' "$@"; }
# The server's own log is where they may be seen.
sent() { grep -cE 'dXNlcjpodW50ZXIy|s3cr3t' "$1"; }
auth='"auth": "user:hunter2"'
protected="{\"/a.qcow2\": {$auth}, \"/SHA256SUMS\": {$auth}, \"/a.qcow2.sha256\": {$auth}}"

expect_success '401 without credentials: 1, says so' '
    rules "$protected" && expect_status 1 larder image get "$url/a.qcow2" >out 2>err &&
    expect_match "401" err && test ! -s out
'
expect_success '~/.netrc: used for its host, for sums and image; never shown, even with -v' '
    drop; rules "$protected" && echo "machine 127.0.0.1 login user password hunter2" >"$HOME/.netrc" &&
    chmod 600 "$HOME/.netrc" &&
    larder -v image get "$url/a.qcow2" >out 2>err && test_cmp a.qcow2 "$(cat out)" &&
    secret out err && test "$(sent "$log")" -ge 2
'
expect_success 'show and the files of the store have nothing of it' '
    larder --json image list >list && larder --json image show "$(member list images 0 name)" >show && secret list show &&
    ! grep -rE "hunter2|dXNlcjpodW50ZXIy" "$LARDER_HOME/refs" "$LARDER_HOME"/*.sqlite
'
expect_success '$NETRC instead of ~/.netrc' '
    drop; mv "$HOME/.netrc" "$HOME/secrets" && expect_status 1 larder image get "$url/a.qcow2" 2>err &&
    NETRC="$HOME/secrets" "$LARDER" -q image get "$url/a.qcow2" >out && test_cmp a.qcow2 "$(cat out)" &&
    mv "$HOME/secrets" "$HOME/.netrc"
'
expect_success 'a wrong password: 1, not shown' '
    drop; echo "machine 127.0.0.1 login user password s3cr3t" >"$HOME/.netrc" &&
    expect_status 1 larder -v image get "$url/a.qcow2" >out 2>err && secret out err && expect_match "401" err
'
expect_success 'redirected to another host: netrc of the first is not sent there' '
    echo "machine 127.0.0.1 login user password hunter2" >"$HOME/.netrc" && drop &&
    rules "{\"/a.qcow2\": {$auth, \"redirect\": \"http://localhost:$other_port/a.qcow2\"}}" &&
    larder -v image get "$url/a.qcow2" >out 2>err && test_cmp a.qcow2 "$(cat out)" &&
    test "$(sent "$log")" -ge 1 && test "$(sent "$other_log")" -eq 0 &&
    expect_match "/a.qcow2" "$other_log" && secret out err
'
rm -f "$HOME/.netrc"
echo 'X-Token: s3cr3t' >headers
echo 'Authorization: Bearer s3cr3t' >>headers
chmod 600 headers
need='"need": {"X-Token": "s3cr3t", "Authorization": "Bearer s3cr3t"}'
expect_success '--header-file: sent for sums and image, never shown' '
    drop; rules "{\"/a.qcow2\": {$need}, \"/SHA256SUMS\": {$need}}" &&
    expect_status 1 larder image get "$url/a.qcow2" 2>err && expect_match "403" err && drop &&
    larder -q image add a "$url/a.qcow2" --header-file headers && larder -v image get a >out 2>err && test_cmp a.qcow2 "$(cat out)" &&
    secret out err && larder --json image show a >show && secret show
'
expect_success '... not to another host, nor to another port, by redirect' '
    drop; for to in "http://localhost:{port}/b.qcow2" "http://127.0.0.1:$other_port/a.qcow2"; do
        cp a.qcow2 www/b.qcow2 && : >"$other_log" &&
        rules "{\"/a.qcow2\": {$need, \"redirect\": \"$to\"}}" &&
        larder -q image add a "$url/a.qcow2" --header-file headers --replace && larder -v image get a --fresh >out 2>err &&
        { ! grep "\"/b.qcow2\"" "$log" | grep s3cr3t; } && secret "$other_log" out err && drop || return 1
    done
'
expect_success '... not to a checksum file elsewhere' '
    drop; rules "{}" && larder -q image add a "$url/a.qcow2" --header-file headers --checksum "http://localhost:$other_port/SHA256SUMS" &&
    larder -q image get a >out && secret "$other_log" && expect_match "SHA256SUMS" "$other_log"
'
expect_success 'net.header_file and $LARDER_NET_HEADER_FILE do the same for entries without one' '
    drop; rules "{\"/a.qcow2\": {$need}}" &&
    LARDER_NET_HEADER_FILE="$PWD/headers" "$LARDER" -q image get "$url/a.qcow2" >out 2>err && test_cmp a.qcow2 "$(cat out)"
'
expect_success 'a header file with a header that is ours to decide, or damaged: refused, not shown' '
    printf "Host: example.org\nX: s3cr3t\n" >wrong && chmod 600 wrong && drop &&
    { larder image get "$url/a.qcow2" --header-file wrong >out 2>err; rc=$?; test $rc -gt 0 && test $rc -lt 126; } && secret err &&
    printf "no header s3cr3t\n" >wrong && { larder image get "$url/a.qcow2" --header-file wrong 2>err; rc=$?; test $rc -gt 0 && test $rc -lt 126; } &&
    secret err
'
expect_success 'a header file that others may read: a warning' '
    chmod 644 headers && drop && larder image get "$url/a.qcow2" --header-file headers >out 2>err &&
    expect_match "warning: .*headers" err && secret err && chmod 600 headers
'
expect_success 'user and password in a URL are refused, and not shown' '
    secret_url=http://user:hunter2@127.0.0.1:$port/a.qcow2 && drop && rules "{}" &&
    expect_status 2 larder image add u "$secret_url" >out 2>err && secret out err &&
    expect_match "hint: .*netrc.*--header-file" err &&
    expect_status 2 larder image add u "$url/a.qcow2" --checksum "$secret_url" >out 2>err && secret out err &&
    expect_status 2 larder -v image get "$secret_url" >out 2>err && secret out err && test ! -s "$log"
'
expect_success 'the same in a redirect is not shown' '
    drop; rules "{\"/a.qcow2\": {\"redirect\": \"http://user:hunter2@127.0.0.1:$other_port/nowhere\"}}" &&
    { larder -v image get "$url/a.qcow2" >out 2>err; test $? -ne 0; } && secret out err
'

# ---- proxies ----
"$python" "$here/proxy.py" proxy.port proxy.log &
started $!
"$python" "$here/proxy.py" proxy2.port proxy2.log user:hunter2 &
started $!
wait_for test -s proxy.port
wait_for test -s proxy2.port
expect_success 'http_proxy is used, for a host that only the proxy knows, too' '
    drop; rules "{}" && http_proxy=http://127.0.0.1:$(cat proxy.port) "$LARDER" -q image get "$url/a.qcow2" >out &&
    test_cmp a.qcow2 "$(cat out)" && expect_match "^GET $url/a.qcow2" proxy.log && expect_match "^GET $url/SHA256SUMS" proxy.log
'
expect_success 'no_proxy is heeded' '
    drop; : >proxy.log && http_proxy=http://127.0.0.1:$(cat proxy.port) no_proxy=127.0.0.1 "$LARDER" -q image get "$url/a.qcow2" >out &&
    test ! -s proxy.log
'
expect_success 'a proxy that wants a password; it is not shown and does not reach the server' '
    drop; rules "{}" && http_proxy=http://user:hunter2@127.0.0.1:$(cat proxy2.port) "$LARDER" -v image get "$url/a.qcow2" >out 2>err &&
    test_cmp a.qcow2 "$(cat out)" && secret out err "$log" && drop &&
    { http_proxy=http://user:s3cr3t@127.0.0.1:$(cat proxy2.port) "$LARDER" -v image get "$url/a.qcow2" >out 2>err; test $? -eq 1; } && secret out err
'
expect_success 'a proxy that is away: 8' '
    drop; expect_status 8 env http_proxy=http://user:hunter2@127.0.0.1:9 "$LARDER" image get "$url/a.qcow2" >out 2>err && secret err
'
expect_success 'an entry keeps the name of the header file, and no secret is in the store' '
    drop; larder -q image add a "$url/a.qcow2" --header-file headers && larder -q image get a >out &&
    ! grep -rlE "s3cr3t|hunter2" "$LARDER_HOME"
'
test_done

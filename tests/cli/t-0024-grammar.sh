#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every spelling of a checksum file, over HTTP: what it says is believed, good or bad.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
http_start
. "$(dirname "$0")/sums.sh"

# ---- the grammar ----
# spelled TITLE PRINTF-FORMAT [FILE]: that text is a checksum file which says good, and with the
# bad digest one which says bad.
spelled() {
    spelled_text=$2
    spelled_name=${3:-CHECKSUM}
    expect_success "grammar: $1" '
        siblings && rules "{}" && printf -- "$spelled_text" >www/$spelled_name && fresh && taken $spelled_name &&
        printf "%s" "$spelled_text" | sed "s/$good256/$bad256/g;s/$good512/$bad512/g;s/$upper256/$bad256/g;s|$b64_256|$bad64|g" >format &&
        printf -- "$(cat format)" >www/$spelled_name && { fresh; test $? -eq 5; }
    '
}
upper256=$(echo "$good256" | tr a-f A-F)
b64() { "$python" -c 'import base64,sys; print(base64.b64encode(bytes.fromhex(sys.argv[1])).decode())' "$1"; }
b64_256=$(b64 "$good256")
bad64=$(b64 "$bad256")

spelled 'GNU, text and binary' "$bad256  b.qcow2\n$good256 *a.qcow2\n"
spelled 'no line feed at the end' "$good256  a.qcow2"
spelled 'upper case' "$upper256  a.qcow2\n"
spelled 'CRLF' "$bad256  b.qcow2\r\n$good256  a.qcow2\r\n"
spelled 'byte order mark' "\357\273\277$good256  a.qcow2\n"
spelled 'byte order mark and CRLF' "\357\273\277$good256  a.qcow2\r\n"
spelled 'one space' "$good256 a.qcow2\n"
spelled 'BSD' "# a.qcow2: $(stat -c %s www/a.qcow2) bytes\nSHA256 (a.qcow2) = $good256\nSHA256 (b.qcow2) = $bad256\n"
spelled 'BSD, sha512' "SHA512 (a.qcow2) = $good512\n"
spelled 'OpenSSL' "SHA256(a.qcow2)= $good256\nSHA2-256(b.qcow2)= $bad256\n"
spelled 'bare' "$good256" a.qcow2.sha256
spelled 'bare with line feed' "$good256\n" a.qcow2.checksum
spelled 'bare sha512' "$good512\n" a.qcow2.sha512
spelled 'prefix sha256:' "sha256:$good256\n" a.qcow2.sha256
spelled 'base64' "SHA256 (a.qcow2) = $b64_256\n"
spelled 'absolute path inside' "$good256  /srv/build/disk/a.qcow2\n" a.qcow2.sha256
spelled 'dot slash' "$good256 *./a.qcow2\n"
spelled 'comment and empty lines' "# made today\n\n$good256  a.qcow2\n\n"
spelled 'the same line twice' "$good256  a.qcow2\n$good256  a.qcow2\n"
spelled 'Gentoo sections' "# SHA512 HASH\n$good512  a.qcow2\n# SHA256 HASH\n$good256  a.qcow2\n"
spelled 'clearsigned (BSD), unchecked' "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.qcow2: $(stat -c %s www/a.qcow2) bytes\nSHA256 (a.qcow2) = $good256\n-----BEGIN PGP SIGNATURE-----\n\niQEzBAEB\n-----END PGP SIGNATURE-----\n"


expect_success 'conflicting lines for the image are an error, nothing is fetched' '
    siblings && rules "{}" && printf "$good256  a.qcow2\n$bad256  a.qcow2\n" >www/SHA256SUMS &&
    { fresh; rc=$?; test $rc -ne 0 && test $rc -lt 126; } && test ! -s out &&
    expect_match "a.qcow2" err && asked_times 0 GET /a.qcow2
'
expect_success 'never by a part of the name' '
    siblings && printf "$bad256  my-a.qcow2\n$bad256  a.qcow2.old\n" >www/SHA256SUMS && fresh &&
    larder --json image show a >show && json show "\"sums_url\" not in d"
'
expect_success 'a size that cannot be: refused before the digest' '
    siblings && printf "# a.qcow2: 17 bytes\nSHA256 (a.qcow2) = $good256\n" >www/CHECKSUM &&
    { fresh; test $? -eq 5; } && expect_match "17|length|size|bytes" err
'
expect_success 'UTF-16 and NUL bytes are refused when the file was given' '
    printf "\377\376a\000" >www/sums && { fresh --checksum "$url/sums"; rc=$?; test $rc -gt 0 && test $rc -lt 126; } &&
    printf "$good256  a.qc\000ow2\n" >www/sums && { fresh --checksum "$url/sums"; rc=$?; test $rc -gt 0 && test $rc -lt 126; }
'
expect_success 'a checksum file of more than 1 MiB is refused' '
    { echo "$good256  a.qcow2"; head -c 1100000 /dev/zero | tr "\000" "#"; } >www/sums &&
    { fresh --checksum "$url/sums"; rc=$?; test $rc -gt 0 && test $rc -lt 126; } && expect_match "1|limit|large|MiB" err
'
expect_success 'the image itself given as its checksum file: said so, not taken' '
    { fresh --checksum "$url/a.qcow2"; rc=$?; test $rc -gt 0 && test $rc -lt 126; } && test ! -s out
'
test_done

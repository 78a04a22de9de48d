#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --keyring: only sums that a key of it signed are believed, and only the signed text.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/http.sh"
command -v gpg >/dev/null || skip_all 'no gpg'
command -v gpgv >/dev/null || skip_all 'no gpgv'
http_start

# gpg's agent has a socket here: the path must be short, and it must not outlive the test.
export GNUPGHOME="$test_work/gpg"
mkdir -m 700 "$GNUPGHOME"
key() {
    gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
        --quick-generate-key "$1" ed25519 sign never 2>/dev/null
}
if ! { key good@example.org && key other@example.org; }; then skip_all 'gpg makes no keys here'; fi
gpg --batch --export good@example.org >good.gpg
gpg --batch --export other@example.org >other.gpg
fingerprint() { gpg --batch --with-colons --list-keys "$1" | sed -n 's/^fpr:::::::::\([0-9A-F]*\):/\1/p' | head -1; }
fpr=$(fingerprint good@example.org)
sign() { # USER ARG... <text
    sign_user=$1
    shift
    gpg --batch --quiet --pinentry-mode loopback --passphrase '' --local-user "$sign_user" "$@"
}

make_image www/a.qcow2 1
good=$(sha256sum www/a.qcow2 | cut -c1-64)
bad=$(echo bad | sha256sum | cut -c1-64)
fresh() {
    chmod -R u+rwX "$LARDER_HOME" 2>/dev/null
    rm -rf "$LARDER_HOME"
    larder -q image add a "$url/a.qcow2" "$@" && larder -q image get a >out 2>err
}
siblings() { find www -type f ! -name a.qcow2 -exec rm -f {} +; }
sums() { siblings && echo "$good  a.qcow2" >www/SHA256SUMS; }
# refused [ARG...]: an error that is no crash, and no path.
refused() {
    fresh "$@"
    refused_status=$?
    cat err
    test "$refused_status" -eq 1 && test ! -s out && asked_times 0 GET /a.qcow2
}

for how in 'asc --armor' 'gpg --no-armor' 'sig --no-armor' 'sign --armor'; do
    expect_success "detached, ${how#* }: SHA256SUMS.${how%% *}" '
        sums && sign good@example.org ${how#* } --detach-sign <www/SHA256SUMS >www/SHA256SUMS.${how%% *} &&
        rules "{}" && fresh --keyring good.gpg && test_cmp www/a.qcow2 "$(cat out)" &&
        larder --json image show a >show && json show "d[\"signed_by\"] == \"$fpr\""
    '
done
expect_success 'the signature is checked before the image is fetched: bad text, error, no GET' '
    sums && sign good@example.org --armor --detach-sign <www/SHA256SUMS >www/SHA256SUMS.asc &&
    echo "$bad  b.qcow2" >>www/SHA256SUMS && rules "{}" && refused --keyring good.gpg &&
    expect_match "signature" err
'
expect_success 'wrong key: refused' '
    sums && sign other@example.org --armor --detach-sign <www/SHA256SUMS >www/SHA256SUMS.asc &&
    rules "{}" && refused --keyring good.gpg && expect_match "signature" err
'
expect_success 'unsigned: refused, and the message says which signatures were looked for' '
    sums && rules "{}" && refused --keyring good.gpg && expect_match "sign" err
'
expect_success 'nothing published at all: refused' '
    siblings && rules "{}" && refused --keyring good.gpg
'
expect_success 'clearsigned' '
    siblings && echo "SHA256 (a.qcow2) = $good" | sign good@example.org --clearsign >www/CHECKSUM &&
    rules "{}" && fresh --keyring good.gpg && test_cmp www/a.qcow2 "$(cat out)" &&
    larder --json image show a >show && json show "d[\"signed_by\"] == \"$fpr\"" &&
    rules "{}" && refused --keyring other.gpg
'
expect_success 'clearsigned: text outside the envelope does not count' '
    siblings && echo "$good  b.qcow2" | sign good@example.org --clearsign >signed &&
    { echo "$good  a.qcow2"; cat signed; } >www/CHECKSUM && rules "{}" && refused --keyring good.gpg &&
    { cat signed; echo "$good  a.qcow2"; } >www/CHECKSUM && rules "{}" && refused --keyring good.gpg
'
expect_success 'clearsigned: a line changed inside' '
    echo "$good  a.qcow2" | sign good@example.org --clearsign >www/CHECKSUM &&
    sed -i "s/^$good/$bad/" www/CHECKSUM && rules "{}" && refused --keyring good.gpg
'
expect_success 'signed sums that name other bytes: upstream inconsistent, 5' '
    echo "$bad  a.qcow2" | sign good@example.org --clearsign >www/CHECKSUM &&
    { fresh --keyring good.gpg; test $? -eq 5; } && test ! -s out
'
expect_success '--fingerprint pins the key' '
    sums && sign good@example.org --armor --detach-sign <www/SHA256SUMS >www/SHA256SUMS.asc &&
    fresh --keyring good.gpg --fingerprint "$fpr" &&
    cat other.gpg >>both.gpg && cat good.gpg >>both.gpg &&
    rules "{}" && refused --keyring both.gpg --fingerprint "$(fingerprint other@example.org)" &&
    fresh --keyring both.gpg --fingerprint "$fpr"
'
expect_success 'a signed list is used though an unsigned sidecar comes first' '
    sums && sign good@example.org --armor --detach-sign <www/SHA256SUMS >www/SHA256SUMS.asc &&
    echo "$bad  a.qcow2" >www/a.qcow2.sha256 && fresh --keyring good.gpg &&
    test_cmp www/a.qcow2 "$(cat out)"
'
expect_success 'unsigned afterwards: the copy that is here is used, with a warning; 1 with --require-fresh' '
    rm -f www/SHA256SUMS.asc www/a.qcow2.sha256 && echo "$bad  a.qcow2" >www/SHA256SUMS &&
    larder image get a --fresh >out 2>err && test_cmp www/a.qcow2 "$(cat out)" &&
    expect_match "warning: .*sign" err &&
    expect_status 1 larder image get a --fresh --require-fresh >out 2>err
'
expect_success 'a keyring that is not there is told at add; --fingerprint alone is wrong usage' '
    expect_status 3 larder image add x "$url/a.qcow2" --keyring ./nowhere 2>err &&
    expect_status 2 larder image add x "$url/a.qcow2" --fingerprint "$fpr" 2>err
'
gpgconf --kill all 2>/dev/null
test_done

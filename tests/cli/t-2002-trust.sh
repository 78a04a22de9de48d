#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Who may write the store, what is shown of URLs, and jobs that were promised a path.
. "$(dirname "$0")/lib.sh"

# disk FILE TEXT: something that looks like a disk, with TEXT in it.
disk() {
    { yes "$2" | tr -d '\n' | head -c 510; printf '\125\252'; head -c 65024 /dev/zero; } >"$1"
}
disk a.img one
larder image add a ./a.img 2>/dev/null && larder --quiet image get a >path

expect_success 'invalidated while a command runs that has not opened it yet: its path stays' '
    larder image use a -- sh -c "\"\$0\" image invalidate a >said && "$LARDER" gc --keep-for 0s >gc &&
        cmp ../trash/a.img \"\$LARDER_IMAGE\"" "$LARDER" &&
    expect_match "invalidated by name" said &&
    larder gc --keep-for 0s && test ! -e "$(cat path)" &&
    larder image get a >again && test_cmp path again
'
expect_success 'corrupt while a command runs: fetched again to the path it has' '
    larder image use a -- sh -c "chmod u+w \$LARDER_IMAGE && echo x >>\$LARDER_IMAGE &&
        \"\$0\" image get a >new 2>err && cmp ../trash/a.img \"\$LARDER_IMAGE\"" "$LARDER" &&
    test_cmp path new && ls "$LARDER_HOME"/quarantine/sha256-*.0
'
expect_success 'a store that everybody may write is refused, and so is a place in it' '
    chmod o+w "$LARDER_HOME" && expect_status 1 larder image get a 2>err &&
    expect_match "everybody may write" err && chmod o-w "$LARDER_HOME" &&
    chmod o+w "$LARDER_HOME/blobs/sha256" && expect_status 1 larder image get a 2>err &&
    expect_match "everybody may write" err && chmod o-w "$LARDER_HOME/blobs/sha256" &&
    larder image get a
'
expect_success 'a password in a URL is refused, and not repeated' '
    expect_status 2 larder image add p http://me:s3cr3t@127.0.0.1:1/x.img 2>err &&
    expect_match "netrc" err && expect_no_match s3cr3t err &&
    expect_status 2 larder image add p ./a.img --checksum http://me:s3cr3t@127.0.0.1:1/x 2>err
'
expect_success 'a secret in the query of a URL is not shown' '
    larder image add q "http://127.0.0.1:1/x.img?token=s3cr3t&v=1" --checksum "http://127.0.0.1:1/x?sig=s3cr3t" 2>err &&
    expect_status 8 larder image get q 2>>err && expect_status 8 larder --json image get q >out 2>>err &&
    larder image show q >>out && larder --json image show q >>out && larder image list >>out &&
    expect_status 1 larder image add q ./a.img 2>>err &&
    expect_match "token=\*\*\*&v=1" out && expect_no_match s3cr3t out && expect_no_match s3cr3t err
'
expect_success 'what is planted under the name of a lease stops gc until fsck --repair' '
    mkfifo "$LARDER_HOME/leases/00000000000000000000000000000001" &&
    ln -s /etc/passwd "$LARDER_HOME/leases/00000000000000000000000000000002" &&
    expect_status 5 larder gc 2>err && expect_match "fsck --repair" err &&
    larder fsck --repair && larder gc && larder fsck
'
test_done

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# image use: the lease is the command's, its status is ours, signals reach it.
. "$(dirname "$0")/lib.sh"

command -v qemu-img >/dev/null || skip_all 'no qemu-img'
qemu-img create -q -f qcow2 a.qcow2 4M
sha256sum a.qcow2 >SHA256SUMS
larder image add a ./a.qcow2 2>/dev/null
larder --quiet image get a >path

expect_success 'path, digest and format are in the environment' '
    larder image use a -- sh -c "echo \$LARDER_IMAGE; echo \$LARDER_IMAGE_DIGEST \$LARDER_IMAGE_FORMAT" >out &&
    { cat path; echo "sha256:$(cut -c1-64 SHA256SUMS) qcow2"; } >expected &&
    test_cmp expected out
'
expect_success 'exit status and options of the command are its own' '
    expect_status 7 larder image use a -- sh -c "exit 7" &&
    expect_status 143 larder image use a -- sh -c "kill -TERM \$\$" &&
    expect_status 127 larder image use a -- ./nowhere 2>err &&
    expect_match "nowhere" err &&
    expect_status 126 larder image use a -- /dev/null 2>err
'
expect_success 'the command is named as holder while it runs, and not after' '
    larder image use a -- sh -c "\"\$0\" image show a >held" "$LARDER" &&
    expect_match "in use by +process [0-9]+ .sh" held &&
    larder image show a >after &&
    expect_match "in use by +nobody" after
'
# Behind "&" it is "$LARDER", not the function: $! is to be its process, not a shell's.
expect_success 'a signal to larder reaches the command' '
    "$LARDER" image use a -- sh -c "trap \"echo got >got; exit 5\" USR1; echo \$\$ >pid; while :; do sleep 0.05; done" &
    larder_pid=$! &&
    started $larder_pid &&
    wait_for test -s pid &&
    kill -USR1 $larder_pid &&
    expect_status 5 wait $larder_pid &&
    test -s got
'
expect_success 'larder killed: the command goes on and keeps its lease' '
    "$LARDER" image use a -- sh -c "echo \$\$ >child; exec sleep 1000" &
    larder_pid=$! &&
    wait_for test -s child &&
    read -r child <child &&
    started "$child" &&
    kill -KILL $larder_pid &&
    { wait $larder_pid; kill -0 "$child"; } &&
    larder image show a >held &&
    expect_match "process $child" held &&
    larder image remove a 2>/dev/null &&
    larder gc --keep-for 0 >out &&
    test -e "$(cat path)" &&
    kill "$child" &&
    wait_for is_over "$child" &&
    larder gc --keep-for 0 >out &&
    test ! -e "$(cat path)"
'
expect_success 'what is ignored, and SIGPIPE, are as the command would have them' '
    larder image add a ./a.qcow2 2>/dev/null &&
    larder --quiet image use a -- grep ^SigIgn /proc/self/status >out &&
    grep ^SigIgn /proc/self/status >expected &&
    test_cmp expected out &&
    (
        trap "" HUP PIPE
        "$LARDER" --quiet image use a -- grep ^SigIgn /proc/self/status >out
        grep ^SigIgn /proc/self/status >expected
    ) &&
    test_cmp expected out
'
test_done

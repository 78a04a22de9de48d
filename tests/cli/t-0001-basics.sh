#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the program says before it touches a store.
. "$(dirname "$0")/lib.sh"

expect_success 'no command: usage on stderr, exit 2' '
    expect_status 2 larder >out 2>err &&
    test ! -s out &&
    expect_match "^usage: larder" err
'
expect_success '--version: name and version, exit 0' '
    echo "larder ${LARDER_VERSION:-0.1.0}" >expected &&
    larder --version >out 2>err &&
    test_cmp expected out &&
    test ! -s err
'
expect_success '--help: usage on stdout, exit 0' '
    larder --help >out 2>err &&
    expect_match "^usage: larder" out &&
    test ! -s err
'
expect_success 'help is --help' '
    larder --help >expected &&
    larder help >out &&
    test_cmp expected out
'
expect_success 'the image commands are in the help' '
    larder --help >out &&
    expect_match "image" out &&
    expect_match "fsck" out &&
    expect_match "gc" out
'
expect_success 'unknown command: exit 2, the message names it' '
    expect_status 2 larder bogus >out 2>err &&
    test ! -s out &&
    expect_match "^larder: .*bogus" err
'
expect_success 'unknown option: exit 2, the message names it' '
    expect_status 2 larder --bogus-option >out 2>err &&
    test ! -s out &&
    expect_match "bogus-option" err
'
expect_success 'unknown image subcommand: exit 2, the message names it' '
    expect_status 2 larder image bogus >out 2>err &&
    test ! -s out &&
    expect_match "bogus" err
'
expect_success 'a usage error makes no store' '
    test ! -e "$LARDER_HOME"
'
expect_success 'output to a full device is an error, not a success' '
    test -c /dev/full &&
    expect_status 1 larder --help >/dev/full
'
test_done

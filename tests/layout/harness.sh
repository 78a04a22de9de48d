#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shell harness itself: a bad test is not ok, and nothing is left behind.
. "$LARDER_SOURCE/tests/cli/lib.sh"

# run_script <TEXT: a test script of its own, its output in `out`, its status in `status`.
# shellcheck disable=SC2034,SC2317
run_script() {
    {
        echo '. "$LARDER_SOURCE/tests/cli/lib.sh"'
        cat
    } >script.sh
    mkdir -p tmp
    TMPDIR=$PWD/tmp timeout 200 sh script.sh >out 2>err
    status=$?
}

expect_success 'a good test is ok' '
    run_script <<-\EOT &&
	expect_success one "true"
	test_done
	EOT
    test "$status" -eq 0 &&
    printf "ok 1 - one\n1..1\n" >expected &&
    test_cmp expected out
'
expect_success 'a bad test is not ok, shows its output, and fails the script' '
    run_script <<-\EOT &&
	expect_success one "echo reason; false"
	expect_success two "true"
	test_done
	EOT
    test "$status" -ne 0 &&
    expect_match "^not ok 1 - one" out &&
    expect_match "^# reason" out &&
    expect_match "^ok 2 - two" out
'
expect_success 'a script may return, and what comes after it is seen' '
    run_script <<-\EOT &&
	expect_success one "return 1"
	expect_success two "a=b; return 0"
	expect_success three "test \$a = b"
	test_done
	EOT
    test "$status" -ne 0 &&
    expect_match "^not ok 1 - one" out &&
    expect_match "^ok 2 - two" out &&
    expect_match "^ok 3 - three" out &&
    expect_match "^1\.\.3\$" out
'
expect_success 'another status than the expected one is a failure' '
    run_script <<-\EOT &&
	expect_success one "expect_status 3 sh -c \"exit 4\""
	expect_success two "expect_status 3 sh -c \"exit 3\""
	test_done
	EOT
    expect_match "^not ok 1" out &&
    expect_match "^ok 2" out
'
expect_success 'a script that ends early fails' '
    run_script <<-\EOT &&
	expect_success one "exit 0"
	test_done
	EOT
    test "$status" -ne 0
'
expect_success 'a script without a test fails' '
    echo test_done | run_script
    sh script.sh >out
    test $? -ne 0
'
expect_success 'no file stays, also below a read-only directory' '
    run_script <<-\EOT &&
	expect_success one "mkdir -p a/b && touch a/b/c && chmod -R a-w a"
	test_done
	EOT
    test -z "$(ls tmp)"
'
expect_success 'a started process does not stay, also after an early end' '
    run_script <<-\EOT &&
	sleep 60 >/dev/null 2>&1 &
	started $!
	echo $! >&2
	exit 1
	EOT
    test "$status" -eq 1 &&
    test -s err &&
    ! kill -0 "$(cat err)" 2>/dev/null
'
expect_success 'the settings of the caller are not seen' '
    export LARDER_STORE=/elsewhere https_proxy=http://127.0.0.1:1 &&
    run_script <<-\EOT &&
	expect_success one "test -z \"\${LARDER_STORE-}\${https_proxy-}\""
	test_done
	EOT
    unset LARDER_STORE https_proxy &&
    test "$status" -eq 0
'
test_done

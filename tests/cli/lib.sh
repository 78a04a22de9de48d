# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Harness of the shell tests. A test script begins with
#     . "$(dirname "$0")/lib.sh"
# runs one expect_success per thing it shows, and ends with test_done. It speaks TAP, works in a
# private directory ($PWD) with a fresh $LARDER_HOME, and leaves nothing behind: no file, and no
# process that was told to the harness with `started`.
set -u
: "${LARDER:?LARDER must name the program under test}"
test_count=0
test_failed=0
test_pids=
test_finished=

umask 022
test_work=$(mktemp -d "${TMPDIR:-/tmp}/larder-test.XXXXXXXX") || exit 99

# test_stop PID: asks politely more than once, because a child of the shell that has not reached
# its exec yet loses the signal to the shell's own trap; then not politely.
test_stop() {
    for test_try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        kill "$1" 2>/dev/null || break
        grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null && break
        sleep 0.05
    done
    [ "$test_try" -lt 20 ] || kill -9 "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

test_cleanup() {
    test_status=$?
    trap - EXIT
    # A test that called exit must not pass for a script that came to its end.
    [ -n "$test_finished" ] || [ "$test_status" -ne 0 ] || test_status=99
    for test_pid in $test_pids; do
        test_stop "$test_pid"
    done
    cd /
    # A store makes its blobs and directories read-only.
    chmod -R u+rwX "$test_work" 2>/dev/null
    rm -rf "$test_work"
    exit "$test_status"
}
trap test_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Nothing of the caller's own set-up may change what a test sees.
for test_name in $(env | sed -n 's/^\(LARDER_[A-Z_]*\|XDG_[A-Z_]*\|[a-zA-Z]*_proxy\|[A-Z]*_PROXY\)=.*/\1/p'); do
    case $test_name in
    LARDER_SOURCE | LARDER_BUILD | LARDER_VERSION | LARDER_HTTP_ENGINE) ;;
    *) unset "$test_name" ;;
    esac
done
mkdir "$test_work/home" "$test_work/trash" "$test_work/run"
export XDG_RUNTIME_DIR="$test_work/run" # else /run, with credentials of this machine
export HOME="$test_work/home" LARDER_HOME="$test_work/store" LC_ALL=C.UTF-8 TZ=UTC
cd "$test_work/trash" || exit 99

# larder ARG...: the program under test.
larder() { "$LARDER" "$@"; }
# others_larder ARG...: as another user, for root where setpriv is. He may not get at the build (it
# may be below somebody's home): a copy, where he can.
others_larder() {
    test -x "$test_work/others/larder" || {
        mkdir -p "$test_work/others" && chmod a+rx "$test_work" "$test_work/others" &&
            cp -L "$LARDER" "$(dirname "$LARDER")"/liblarder.so.0 "$test_work/others/" &&
            chmod a+rx "$test_work"/others/*
    }
    LD_LIBRARY_PATH=$test_work/others setpriv --reuid 65534 --regid 65534 --clear-groups -- \
        "$test_work/others/larder" "$@"
}
can_be_another() { [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; }

# started PID: have it killed when the script ends, however it ends.
started() { test_pids="$test_pids $1"; }

test_report() { # RESULT TITLE LOG
    test_count=$((test_count + 1))
    echo "$1 $test_count - $2"
    [ "$1" = ok ] && return
    test_failed=$((test_failed + 1))
    sed 's/^/# /' "$3"
}

# In a function of its own, so that a script's `return` ends the script and not expect_success.
test_eval() { eval "$1"; }

# expect_success TITLE SCRIPT: SCRIPT is evaluated here, so it can leave variables and files for
# the next one; its commands are to be chained with &&.
expect_success() {
    exec 3>&1 4>&2 >"$test_work/log" 2>&1
    test_eval "$2" 3>&- 4>&-
    test_status=$?
    exec >&3 2>&4 3>&- 4>&-
    if [ "$test_status" -eq 0 ]; then
        test_report ok "$1"
    else
        {
            echo "status $test_status of:"
            echo "$2"
        } >>"$test_work/log"
        test_report "not ok" "$1" "$test_work/log"
    fi
}

# skip_test TITLE REASON: counted as skipped.
skip_test() {
    test_count=$((test_count + 1))
    echo "ok $test_count - $1 # SKIP $2"
}

# skip_all REASON: the whole script cannot run here.
skip_all() {
    echo "1..0 # SKIP $1"
    test_finished=yes
    exit 0
}

# expect_status N COMMAND...: exactly that exit status; a crash is never the one expected.
expect_status() {
    test_want=$1
    shift
    "$@"
    test_got=$?
    [ "$test_got" -eq "$test_want" ] && return 0
    echo "exit status $test_got, expected $test_want: $*" >&2
    return 1
}

# test_cmp EXPECTED ACTUAL: the same bytes; shows the difference.
test_cmp() { diff -u "$1" "$2"; }

# expect_match PATTERN FILE / expect_no_match: grep -E that shows the file when it fails.
expect_match() {
    grep -qE -- "$1" "$2" && return 0
    echo "no line of $2 matches '$1':" >&2
    cat "$2" >&2
    return 1
}
expect_no_match() {
    grep -qE -- "$1" "$2" || return 0
    echo "a line of $2 matches '$1':" >&2
    cat "$2" >&2
    return 1
}

# wait_for [SECONDS] COMMAND...: until COMMAND succeeds; for minutes whatever SECONDS are, because
# only a failure takes them.
wait_for() {
    case $1 in [0-9]*) shift ;; esac
    test_left=6000
    until "$@" >/dev/null 2>&1; do
        test_left=$((test_left - 1))
        [ "$test_left" -gt 0 ] || {
            echo "waited in vain for: $*" >&2
            return 1
        }
        sleep 0.05
    done
}

# is_over PID: it has ended, whoever is to reap it.
is_over() { [ ! -e "/proc/$1" ] || grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null; }

# make_image FILE SEED [MIB]: a qcow2 with MIB (1) mebibytes of data that SEED alone decides.
make_image() {
    "${PYTHON:-python3}" - "$1" "$2" "${3:-1}" <<'END'
import hashlib, random, struct, sys

path, seed, mib = sys.argv[1], sys.argv[2], int(sys.argv[3])
cluster = 65536
n = mib * 16
data = random.Random(seed).randbytes(n * cluster)
# Header, refcount table, refcount block, L1, L2, then the data: as qemu-img would lay it out.
header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, n * cluster, 0, 1,
                     3 * cluster, cluster, 1, 0, 0, 0, 0, 0, 4, 104)
out = bytearray((5 + n) * cluster)
out[0:len(header)] = header
struct.pack_into(">Q", out, cluster, 2 * cluster)
for i in range(5 + n):
    struct.pack_into(">H", out, 2 * cluster + 2 * i, 1)
used = 1 << 63
struct.pack_into(">Q", out, 3 * cluster, used | 4 * cluster)
for i in range(n):
    struct.pack_into(">Q", out, 4 * cluster + 8 * i, used | (5 + i) * cluster)
out[5 * cluster:] = data
with open(path, "wb") as f:
    f.write(out)
END
}

# json FILE EXPRESSION: evaluates EXPRESSION in Python with the document as d; true is success.
json() {
    "${PYTHON:-python3}" - "$1" "$2" <<'END'
import json, sys

with open(sys.argv[1], encoding="utf-8") as f:
    d = json.load(f)
if not eval(sys.argv[2]):
    sys.exit("not so: %s\n%s" % (sys.argv[2], json.dumps(d, indent=1)))
END
}

# member FILE NAME...: prints the value at that path of members.
member() {
    "${PYTHON:-python3}" - "$@" <<'END'
import json, sys

with open(sys.argv[1], encoding="utf-8") as f:
    d = json.load(f)
for name in sys.argv[2:]:
    d = d[int(name)] if isinstance(d, list) else d[name]
print(d)
END
}

# digest FILE: sha256:...
digest() { echo "sha256:$(sha256sum "$1" | cut -c1-64)"; }

test_done() {
    echo "1..$test_count"
    test_finished=yes
    [ "$test_count" -gt 0 ] && [ "$test_failed" -eq 0 ]
    exit
}

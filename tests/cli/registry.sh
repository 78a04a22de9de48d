# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For tests with a registry: sourced after lib.sh. The registry is tests/registry/server.py, whose
# head is the manual of its settings, rules, images and log.
python=${PYTHON:-python3}
registry_count=0
# A test is to see each failure as it is, not the tries after it; and a machine that is slow fails in
# nothing.
export LARDER_NET_RETRIES=0 LARDER_NET_STALL_TIMEOUT=1h

# registry_start [OPTION...]: sets $registry (HOST:PORT), $other (HOST:PORT of the other origin),
# $admin (URL) and $log of this one. The files of an earlier one keep their names.
registry_start() {
    registry_count=$((registry_count + 1))
    registry_base=$test_work/registry$registry_count
    log=$registry_base.log
    : >"$log"
    "$python" "$LARDER_SOURCE/tests/registry/server.py" --port-file "$registry_base.port" \
        --log "$log" --headers "$registry_base.headers" "$@" >"$registry_base.out" 2>&1 &
    registry_pid=$!
    started "$registry_pid"
    if ! wait_for test -s "$registry_base.port"; then
        cat "$registry_base.out" >&2
        echo "Bail out! the registry did not come up"
        exit 99
    fi
    read -r registry_port other_port admin_port <"$registry_base.port"
    # shellcheck disable=SC2034
    registry=127.0.0.1:$registry_port other=127.0.0.1:$other_port
    admin=http://127.0.0.1:$admin_port
}

# registry_stop: it goes away; connections to it are refused from then on.
registry_stop() { test_stop "$registry_pid"; }

# admin METHOD PATH [JSON]: asks the registry's admin port; prints its answer.
admin() {
    "$python" - "$1" "$admin$2" "${3-}" <<'END'
import sys, urllib.request

method, url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, method=method)
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
try:
    sys.stdout.write(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as e:
    sys.exit("%s: %d %s" % (url, e.code, e.read().decode()))
END
}

# quirks JSON: the registry's settings from now on (all others: default), and an empty log.
quirks() { admin PUT /_control "$1" && : >"$log"; }

# registry_image JSON: an image in the registry; prints its digest.
registry_image() {
    admin POST /_image "$1" >"$test_work/image.json" && member "$test_work/image.json" digest
}

# forget_requests: what follows is counted from here.
forget_requests() { : >"$log"; }

# requests [PATTERN]: how many, of those whose log line begins with the (grep -E) pattern.
requests() { grep -cE "^${1-}" "$log"; }

# requests_reach N [PATTERN]: at least so many; to wait for.
requests_reach() { [ "$(requests "${2-}")" -ge "$1" ]; }

# requests_are N [PATTERN]
requests_are() {
    test_got=$(requests "${2-}")
    [ "$test_got" -eq "$1" ] && return 0
    echo "$test_got requests, expected $1: ${2-any}; the log:" >&2
    cat "$log" >&2
    return 1
}

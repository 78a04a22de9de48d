# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For tests with a server: sourced after lib.sh. Files of ./www are at $url; what the server is to
# do badly is said with `rules`, what it was asked for is read with `asked`.
python=${PYTHON:-python3}
http_count=0
# A test is to see each failure as it is, not the tries after it; and a machine that is slow fails in
# nothing.
export LARDER_NET_RETRIES=0 LARDER_NET_STALL_TIMEOUT=1h

# http_start [DIR]: sets $url and $port, and $log and $control of this server.
http_start() {
    http_count=$((http_count + 1))
    http_base=$test_work/http$http_count
    log=$http_base.log
    control=$http_base.control
    mkdir -p "${1:-www}"
    : >"$log"
    echo '{}' >"$control"
    "$python" "$LARDER_SOURCE/tests/http/server.py" --port-file "$http_base.port" --log "$log" \
        --control "$control" "${1:-www}" >"$http_base.out" 2>&1 &
    started $!
    http_pid=$!
    if ! wait_for test -s "$http_base.port"; then
        echo "Bail out! the server did not come up"
        exit 99
    fi
    read -r port <"$http_base.port"
    url=http://127.0.0.1:$port
}

# http_stop: the server goes away; connections to it are refused from then on.
http_stop() { test_stop "$http_pid"; }

# rules JSON: the server's behaviours from now on, and an empty log.
rules() {
    printf '%s\n' "$1" >"$control.new" &&
        mv "$control.new" "$control" &&
        : >"$log"
}

# asked METHOD PATH: how often, since the last rules.
asked() { grep -c "\"method\": \"$1\", \"path\": \"$2\"" "$log"; }

# asked_times N METHOD PATH
asked_times() {
    test_got=$(asked "$2" "$3")
    [ "$test_got" -eq "$1" ] && return 0
    echo "asked $test_got times, expected $1: $2 $3; the log:" >&2
    cat "$log" >&2
    return 1
}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh HEADER...: each header compiles alone, and twice in a row, as strict C11 and as C++.
set -u
count=0
failed=0
flags='-fsyntax-only -pedantic -Wall -Wextra -Werror'

try() { # TITLE COMMAND...
    title=$1
    shift
    count=$((count + 1))
    if log=$("$@" 2>&1); then
        echo "ok $count - $title"
    else
        failed=1
        echo "not ok $count - $title"
        printf '%s\n' "$log" | sed 's/^/# /'
    fi
}

include=$LARDER_SOURCE/include
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for header in "$@"; do
    name=larder/$(basename "$header")
    printf '#include <%s>\n#include <%s>\nint only;\n' "$name" "$name" >"$tmp/only.c"
    cp "$tmp/only.c" "$tmp/only.cc"
    # shellcheck disable=SC2086
    try "$name as C11" gcc -std=c11 $flags -I"$include" "$tmp/only.c"
    if command -v g++ >/dev/null; then
        # shellcheck disable=SC2086
        try "$name as C++" g++ -std=c++11 $flags -I"$include" "$tmp/only.cc"
    else
        count=$((count + 1))
        echo "ok $count - $name as C++ # SKIP no g++"
    fi
done
# A header that is not installed is not public: the list must be whole.
for file in "$include"/larder/*.h; do
    case " $* " in
    *"/$(basename "$file") "*) ;;
    *) try "larder/$(basename "$file") is in include/larder/meson.build" false ;;
    esac
done
echo "1..$count"
exit $failed

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# assemble.sh LARDER PAGE.scd: the page's source with each line "@PART COMMAND@" replaced by what
# the program says of itself, so that pages and program agree.
set -eu
larder=$1
while IFS= read -r line; do
    case $line in
    @*@)
        line=${line#@}
        # shellcheck disable=SC2086 # words of a command
        "$larder" __man ${line%@}
        ;;
    *) printf '%s\n' "$line" ;;
    esac
done <"$2"

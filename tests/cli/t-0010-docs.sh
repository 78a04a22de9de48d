#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Help, manual pages and completion know every command, option and key that the program has.
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2094 # a name of a command, not of the file
larder completion bash >completion
larder --help >overview
# The commands are taken from the help's lists: two blanks, name, two blanks, text.
sed -n '/^Images:/,/^Options/s/^  \([a-z-]*\( [a-z-]*\)\{0,1\}\)  .*/\1/p' overview |
    sed 's/ *$//' >commands

expect_success 'the help lists the commands' '
    test "$(wc -l <commands)" -ge 25 &&
    grep -qx "image get" commands && grep -qx gc commands && grep -qx help commands
'

# options_of COMMAND: long options in its help.
options_of() {
    # shellcheck disable=SC2086
    larder help $1 | sed -n '/^Options:/,/^Exit status:/s/^  \(-., \|    \)--\([a-z0-9-]*\).*/\2/p'
}

# A page indents them by eleven: what is longer runs over at 80 columns, or is cut in two.
expect_success 'examples of manual pages fit into 80 columns' '
    awk "FNR == 1 { inside = 0 } /^\`\`\`/ { inside = !inside; next }
        inside && length > 69 + gsub(/\\\\\\\\/, \"&\") { print FILENAME \":\" FNR \": \" \$0 }" \
        "$LARDER_SOURCE"/man/*.scd >long && { test ! -s long || { cat long; false; }; }
'
while read -r command; do
    page=$LARDER_SOURCE/man/larder-${command%% *}.1.scd
    # shellcheck disable=SC2086
    expect_success "larder $command: --help, help and usage agree" '
        larder help $command >help1 &&
        larder $command --help >help2 &&
        test_cmp help1 help2 &&
        expect_match "^usage: larder $command" help1 &&
        expect_match "^  8|^  2" help1
    '
    expect_success "larder $command: has a manual page that names it" '
        test -e "$page" &&
        sh "$LARDER_SOURCE/man/assemble.sh" "$LARDER" "$page" >page.scd &&
        expect_match "larder $command([ *]|\$)" page.scd
    '
    for option in $(options_of "$command"); do
        expect_success "larder $command --$option: in page and completion" '
            grep -q -e "--$option" page.scd &&
            grep -q -e "'"'$command'"'.*--$option\([ \"]\|\$\)" completion
        '
    done
done <commands

expect_success 'every command file has its page' '
    for file in "$LARDER_SOURCE"/src/cli/cmd_*.c; do
        name=$(basename "$file" .c | tr _ -) &&
        test -e "$LARDER_SOURCE/man/larder-${name#cmd-}.1.scd" || return 1
    done
'
expect_success 'every page is built' '
    for file in "$LARDER_SOURCE"/man/*.scd; do
        grep -qF "$(basename "$file" .scd)" "$LARDER_SOURCE/man/meson.build" || return 1
    done
'
expect_success 'larder(1): every command, global option and exit status' '
    sh "$LARDER_SOURCE/man/assemble.sh" "$LARDER" "$LARDER_SOURCE/man/larder.1.scd" >page.scd &&
    while read -r command; do
        expect_match "^\*larder $command\*" page.scd || return 1
    done <commands &&
    for option in $(sed -n "/^Options/,\$s/^  \(-., \|    \)--\([a-z0-9-]*\).*/\2/p" overview); do
        expect_match "^(\*-.\*, )?\*--$option\*" page.scd &&
        grep -q -e "--$option" completion || return 1
    done &&
    for status in 0 1 2 3 4 5 6 7 8 77; do
        expect_match "^\*$status\*\$" page.scd || return 1
    done
'
expect_success 'larder.conf(5): every key, its default and its variable' '
    sh "$LARDER_SOURCE/man/assemble.sh" "$LARDER" "$LARDER_SOURCE/man/larder.conf.5.scd" |
        tr -d "\\\\" >page.scd &&
    larder config show | sed "s/ .*//" >keys &&
    test "$(wc -l <keys)" -ge 17 &&
    while read -r key; do
        variable=LARDER_$(echo "$key" | tr "a-z." "A-Z_") &&
        expect_match "^\*${key#*.}\* = " page.scd &&
        expect_match "Variable: $variable\.\$" page.scd || return 1
    done <keys
'
if command -v scdoc >/dev/null; then
    for page in "$LARDER_SOURCE"/man/*.scd; do
        expect_success "$(basename "$page" .scd): is a manual page" '
            sh "$LARDER_SOURCE/man/assemble.sh" "$LARDER" "$page" >page.scd &&
            scdoc <page.scd >page.roff &&
            expect_match "^\.TH" page.roff
        '
    done
else
    skip_test 'pages are manual pages' 'no scdoc'
fi
expect_success 'hidden commands are in no list' '
    expect_no_match "__man" overview && expect_no_match "__man" completion
'
test_done

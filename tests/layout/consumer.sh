#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The library as another program gets it: installed, found by pkg-config, compiled, linked, run.
. "$LARDER_SOURCE/tests/cli/lib.sh"

command -v pkg-config >/dev/null || skip_all 'no pkg-config'

expect_success 'it installs below a destination' '
    meson install -C "$LARDER_BUILD" --no-rebuild --quiet --destdir "$PWD/root" &&
    pc=$(find root -name larder.pc) &&
    test -n "$pc"
'
PKG_CONFIG_LIBDIR=$(dirname "$(find "$PWD/root" -name larder.pc)"):$(pkg-config --variable pc_path pkg-config)
PKG_CONFIG_SYSROOT_DIR=$PWD/root
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR

expect_success 'pkg-config knows it, in this version' '
    echo "$LARDER_VERSION" >expected &&
    pkg-config --modversion larder >actual &&
    test_cmp expected actual
'
expect_success 'a user of it needs no other library' '
    pkg-config --libs larder >libs &&
    expect_no_match "curl|sqlite|jansson|crypto" libs
'
expect_success 'a program with all of its headers compiles, links and runs' '
    {
        for header in root/*/*/include/larder/*.h root/*/include/larder/*.h; do
            test -f "$header" && echo "#include <larder/$(basename "$header")>"
        done
        echo "#include <string.h>"
        echo "int main(void) { return strcmp(larder_code_name(LARDER_CORRUPT), \"corrupt\") != 0; }"
    } >main.c &&
    gcc -std=c11 -Wall -Wextra -pedantic -Werror $(pkg-config --cflags larder) main.c -o main \
        $(pkg-config --libs larder) &&
    LD_LIBRARY_PATH=$(pkg-config --libs-only-L larder | sed "s/-L//g; s/ *$//") ./main
'
test_done

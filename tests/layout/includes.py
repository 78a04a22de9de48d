#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The layout of the house as a test: who may include whom, how long a file is, its licence line.

includes.py [TREE] prints TAP: one test a rule, and before them one self-test a rule, which plants
a violation in a small tree and wants it found.
"""

import os
import re
import sys
import tempfile

# Higher in the list may include lower, never the other way round; a set is rooms of one height
# that do not know each other. include/larder is below all of them.
ROOMS = [{"cli"}, {"daemon"}, {"image"}, {"build"}, {"publish"}, {"update"}, {"store"}, {"index"},
         {"httpd"}, {"net"}, {"oci"}, {"json", "archive"}, {"base"}, {"larder"}]
HEIGHT = {room: -at for at, level in enumerate(ROOMS) for room in level}

# The program is a client of the library; of the rest it may use only what has no state.
CLI_MAY_INCLUDE = {"cli", "base", "json", "larder"}

# A library's header -> the one room that wraps it.
WRAPPED = [
    (r"curl/", "net"),
    (r"sqlite3(ext)?\.h", "index"),
    (r"jansson", "json"),
    (r"microhttpd", "httpd"),
    (r"(zlib|zstd|zstd_errors|zdict|lzma|bzlib|lz4|isa-l|igzip_lib|archive|archive_entry)\.h", "archive"),
    (r"(lzma|isa-l)/", "archive"),
    (r"openssl/", "base"),
    (r"(ostree|glib|gio|glib-object)(-unix)?\.h|(glib|gio|ostree)/", "update"),
]

MAX_LINES = 800
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def files_below(tree, *tops):
    for top in tops:
        start = os.path.join(tree, top)
        if os.path.isfile(start):
            yield start
        for folder, folders, names in os.walk(start):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in sorted(names):
                yield os.path.join(folder, name)


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def c_files(tree):
    return [path for path in files_below(tree, "include", "src") if path.endswith((".c", ".h"))]


def room_of(tree, path):
    """The room of a file below src/ or include/; None for a path outside of both."""
    parts = os.path.relpath(path, tree).split(os.sep)
    if parts[:2] == ["include", "larder"]:
        return "larder"
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def includes(tree, path):
    """(line number, name, path of the project's file or None) of each #include."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        places = [os.path.join(tree, "src"), os.path.join(tree, "include")]
        if quote == '"':
            places.insert(0, os.path.dirname(path))
        target = next((full for full in (os.path.normpath(os.path.join(place, name))
                                         for place in places) if os.path.isfile(full)), None)
        yield number, name, target


def rule_direction(tree):
    """includes go down the list of rooms"""
    for path in c_files(tree):
        room = room_of(tree, path)
        if room not in HEIGHT:
            yield path, f"'{room}' is no room of the list"
            continue
        for number, name, target in includes(tree, path):
            other = room_of(tree, target) if target else None
            if other in HEIGHT and other != room and HEIGHT[other] >= HEIGHT[room]:
                yield f"{path}:{number}", f"{room} may not include {name} of {other}"


def rule_client(tree):
    """the program uses the public API, base and json only"""
    for path in c_files(tree):
        if room_of(tree, path) != "cli":
            continue
        for number, name, target in includes(tree, path):
            other = room_of(tree, target) if target else None
            if other and other not in CLI_MAY_INCLUDE:
                yield f"{path}:{number}", f"cli may not include {name}"


def rule_public(tree):
    """public headers include only public headers and the C library"""
    for path in c_files(tree):
        if room_of(tree, path) != "larder":
            continue
        for number, name, target in includes(tree, path):
            if target and room_of(tree, target) != "larder":
                yield f"{path}:{number}", f"a public header may not include {name}"


def rule_wrapped(tree):
    """a wrapped library is included by its room only, and by no header"""
    for path in c_files(tree):
        for number, name, target in includes(tree, path):
            owner = next((room for pattern, room in WRAPPED if re.match(pattern, name)), None)
            if owner is None or target:
                continue
            if room_of(tree, path) != owner:
                yield f"{path}:{number}", f"<{name}> belongs to src/{owner}"
            elif path.endswith(".h"):
                yield f"{path}:{number}", f"<{name}> in a header hands the library on"


def rule_found(tree):
    """a quoted include names a file of the project"""
    for path in c_files(tree):
        for number, line in enumerate(text_of(path).splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match[1] == '"':
                if not any(target for at, _, target in includes(tree, path) if at == number):
                    yield f"{path}:{number}", f'"{match[2]}" is not in the project'


def rule_once(tree):
    """headers have #pragma once"""
    for path in c_files(tree):
        if path.endswith(".h") and not re.search(r"^#pragma once$", text_of(path), re.MULTILINE):
            yield path, "no #pragma once"


def written_files(tree):
    for path in files_below(tree, "include", "src", "tests", "dev", ".ci"):
        with open(path, "rb") as file:
            script = file.read(2) == b"#!"
        if script or path.endswith((".c", ".h", ".py", ".sh")):
            yield path


def rule_length(tree):
    """no file is longer than 800 lines"""
    for path in written_files(tree):
        lines = text_of(path).count("\n")
        if lines > MAX_LINES:
            yield path, f"{lines} lines, at most {MAX_LINES}"


def rule_licence(tree):
    """each file says its licence in its first lines"""
    for path in written_files(tree):
        head = text_of(path).splitlines()[:2]
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield path, "no SPDX-License-Identifier: Apache-2.0 in the first two lines"


RULES = [rule_direction, rule_client, rule_public, rule_wrapped, rule_found, rule_once,
         rule_length, rule_licence]

GOOD = {
    "include/larder/a.h": "#pragma once\n#include <stdint.h>\n#include <larder/b.h>\n",
    "include/larder/b.h": "#pragma once\n",
    "src/base/buf.h": "#pragma once\n#include <larder/a.h>\n",
    "src/base/hash.c": '#include "base/buf.h"\n#include <openssl/evp.h>\n',
    "src/archive/zlib_stream.c": '#include "base/buf.h"\n#include <zlib.h>\n',
    "src/json/json.h": "#pragma once\n",
    "src/net/http/http.c": "#include <curl/curl.h>\n",
    "src/store/dir/put.c": '#include "store/dir/put.h"\n#include "base/buf.h"\n',
    "src/store/dir/put.h": "#pragma once\n",
    "src/image/get.c": '#include "store/dir/put.h"\n',
    "src/image/get.h": "#pragma once\n",
    "src/cli/main.c": '#include <larder/a.h>\n#include "base/buf.h"\n#include "json/json.h"\n',
    "tests/unit/test_a.c": "#include <zlib.h>\n",
}

# rule -> (file, its text) that breaks it.
PLANTED = {
    rule_direction: [("src/base/up.c", '#include "store/dir/put.h"\n'),
                     ("src/store/up.c", "#  include <image/get.h>\n"),
                     ("src/json/aside.c", '#include "../archive/tar.h"\n'),
                     ("src/shed/new.c", "\n")],
    rule_client: [("src/cli/cmd.c", '#include "store/dir/put.h"\n')],
    rule_public: [("include/larder/c.h", "#pragma once\n#include <base/buf.h>\n")],
    rule_wrapped: [("src/store/inflate.c", "#include <zlib.h>\n"),
                   ("src/image/fetch.c", "#include <curl/curl.h>\n"),
                   ("src/net/sign.c", "#include <openssl/hmac.h>\n"),
                   ("src/index/db.h", "#pragma once\n#include <sqlite3.h>\n")],
    rule_found: [("src/base/lost.c", '#include "base/gone.h"\n')],
    rule_once: [("src/base/twice.h", "\n")],
    rule_length: [("src/base/long.c", "\n" * MAX_LINES)],
    rule_licence: [("src/base/nobody.c", None), ("tests/cli/t-0000-x.sh", None)],
}


def write_tree(tree, files):
    for name, text in files.items():
        path = os.path.join(tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("int nobody;\n" if text is None else
                       "/* SPDX-License-Identifier: Apache-2.0 */\n" + text)


def self_test(rule):
    """What the rule misses of the planted violations, and what it finds in a clean tree."""
    with tempfile.TemporaryDirectory() as tree:
        write_tree(tree, GOOD)
        yield from ((place, "found in a clean tree: " + what) for place, what in rule(tree))
    for name, text in PLANTED[rule]:
        with tempfile.TemporaryDirectory() as tree:
            write_tree(tree, {**GOOD, "src/archive/tar.h": "#pragma once\n", name: text})
            if not any(name in place for place, _ in rule(tree)):
                yield name, "planted here and not found"


def main():
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    tree = os.path.normpath(sys.argv[1] if len(sys.argv) > 1 else default)
    failed = False
    runs = [("self-test: " + rule.__doc__, self_test(rule)) for rule in RULES]
    runs += [(rule.__doc__, rule(tree)) for rule in RULES]
    print(f"1..{len(runs)}")
    for number, (title, found) in enumerate(runs, 1):
        found = sorted(set(found))
        failed = failed or bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - {title}")
        for place, what in found:
            print(f"# {os.path.relpath(place, tree) if place.startswith(tree) else place}: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hardening.py PROGRAM LIBRARY [MODULE]: what the linker made of our flags, and what is exported."""

import re
import subprocess
import sys

number = 0
failed = False


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def expect(condition, title):
    global number, failed
    number += 1
    failed = failed or not condition
    print(f"{'ok' if condition else 'not ok'} {number} - {title}")


def exported(path):
    return [line.split()[7].split("@")[0] for line in readelf("--dyn-syms", path).splitlines()
            if re.search(r"\b(GLOBAL|WEAK)\s+DEFAULT\s+\d+\s", line)]


def main(program, library, module=None):
    files = [("larder", program), ("liblarder", library)]
    if module:
        files.append(("larder-ostree", module))
    for name, path in files:
        segments, dynamic = readelf("--segments", path), readelf("--dynamic", path)
        expect("Type:                              DYN" in readelf("--file-header", path),
               f"{name} is position independent")
        expect("GNU_RELRO" in segments, f"{name} has RELRO")
        expect(re.search(r"\bBIND_NOW\b|FLAGS_1.*\bNOW\b", dynamic),
               f"{name} binds all symbols at start")
        expect(re.search(r"GNU_STACK\s.*\sRW\s", segments), f"{name} has no executable stack")
        expect("TEXTREL" not in dynamic, f"{name} has no text relocations")
    expect("[liblarder.so.0]" in readelf("--dynamic", library), "the soname is liblarder.so.0")
    foreign = [symbol for symbol in exported(library) if not symbol.startswith("larder_")]
    expect(not foreign, "the library exports larder_* only" + "".join(f", not {s}" for s in foreign))
    if module:
        expect(exported(module) == ["larder_ostree_module"], "the module exports its table only")
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

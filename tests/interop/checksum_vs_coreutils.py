#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random checksum files: where `sha256sum -c` finds a file intact, larder finds the same digest.

The opposite is not asked for: larder reads more forms. Where sha256sum says FAILED, larder must
find the digest that does not fit, or refuse (two lines in conflict), but never the right one alone.
"""
import hashlib
import os
import random
import subprocess
import sys
import tempfile

ROUNDS = 400
SEED = int(os.environ.get("LARDER_TEST_SEED", "20240913"))
TOOL = os.path.join(os.environ["LARDER_BUILD"], "tests", "interop", "checksum_lookup_tool")

NAMES = ["f", "g", "my file", "a(b)", "x) = y", "-dash", "#hash", "back\\slash", "new\nline",
         "f.sha256", "dir/f", "dir/h", "*star", "tab\tin", "caf\u00e9", "f ", "SHA256 (f) = 0"]
JUNK = ["# comment", "", "not a line", " # indented", "deadbeef  f", "SHA256 (f) = 12",
        "-----BEGIN PGP SIGNATURE-----", "SHA512 (f) = 00", "\t"]


def escape(name):
    if "\n" in name or "\\" in name:
        return "\\", name.replace("\\", "\\\\").replace("\n", "\\n")
    return "", name


def line(rng, name, digest, style):
    mark, shown = escape(name)
    if rng.random() < 0.2:
        shown = "./" + shown
    if rng.random() < 0.3:
        digest = digest.upper()
    blank = rng.choice(["", "", "", " ", "\t "])
    form = rng.choice([style, style, "tagged"])
    if form == "gnu":
        return f"{blank}{mark}{digest}{rng.choice([' ', chr(9)])}{rng.choice([' ', '*'])}{shown}"
    if form == "reversed":
        return f"{blank}{mark}{digest} {shown}"
    open_, equals = rng.choice([(" (", " = "), ("(", "= "), (" (", " =")])
    return f"{blank}{mark}SHA256{open_}{shown}){equals}{digest}"


def make(rng, digests):
    style = rng.choice(["gnu", "reversed"])
    names = [n for n in digests if style == "gnu" or n[0] not in " *"]
    out = []
    for name in rng.sample(names, rng.randint(1, min(6, len(names)))):
        right = digests[name]
        wrong = hashlib.sha256(name.encode() + b"!").hexdigest()
        out.append(line(rng, name, wrong if rng.random() < 0.15 else right, style))
        if rng.random() < 0.1:
            out.append(line(rng, name, right, style))
    for _ in range(rng.choice([0, 0, 1, 3])):
        out.insert(rng.randint(0, len(out)), rng.choice(JUNK))
    end = rng.choice(["\n", "\n", "\r\n"])
    text = end.join(out) + rng.choice([end, end, ""])
    # Blanks at the end of a clearsigned line are not signed, so larder drops them.
    if rng.random() < 0.2 and not any(l.endswith(" ") for l in out):
        text = ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" +
                "".join("- " + l + "\n" if l.startswith("-") else l + "\n" for l in out) +
                "-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n")
    return text.encode()


def coreutils(text):
    """The names that sha256sum found intact, and those that failed."""
    run = subprocess.run(["sha256sum", "-c", "S"], capture_output=True, check=False,
                         env={**os.environ, "LC_ALL": "C"})
    intact, failed = set(), set()
    for shown in run.stdout.decode("utf-8", "surrogateescape").split("\n"):
        name, _, verdict = shown.rpartition(": ")
        if name.startswith("\\"):
            name = name[1:].replace("\\n", "\n").replace("\\\\", "\\")
        if verdict == "OK":
            intact.add(name)
        elif verdict.startswith("FAILED"):
            failed.add(name)
    return intact, failed


class Tool:
    def __init__(self):
        self.process = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def lookup(self, name):
        request = b"S".hex() + "\t" + name.encode("utf-8", "surrogateescape").hex() + "\n"
        self.process.stdin.write(request.encode())
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().split()

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def compare(rng, tool, digests):
    """Returns how many names were compared; raises AssertionError with the file's text."""
    text = make(rng, digests)
    with open("S", "wb") as f:
        f.write(text)
    intact, failed = coreutils(text)
    for name in intact | failed:
        plain = name
        while plain.startswith("./"):
            plain = plain[2:]
        got = tool.lookup(name)
        # One name may have failed under one spelling ("./f") and be intact under another.
        spellings = {plain, "./" + plain, name}
        if spellings & failed:
            assert got != ["sha256:" + digests.get(plain, "")], (name, got, text)
        else:
            assert got == ["sha256:" + digests[plain]], (name, got, text)
    return len(intact), len(failed)


def main():
    rng = random.Random(SEED)
    digests = {}
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.mkdir("dir")
        tool = Tool()
        for name in NAMES:
            with open(name, "wb") as f:
                f.write(name.encode())
            digests[name] = hashlib.sha256(name.encode()).hexdigest()
        n_intact = n_failed = 0
        problem = None
        for _ in range(ROUNDS):
            try:
                intact, failed = compare(rng, tool, digests)
            except AssertionError as e:
                problem = e
                break
            n_intact += intact
            n_failed += failed
        os.chdir("/")
        status = tool.close()
    print("1..2")
    print(f"# seed {SEED}: {n_intact} intact and {n_failed} failed names compared")
    if problem:
        print(f"# {problem.args[0]!r}")
    print(("not ok" if problem else "ok") + " 1 - larder finds what sha256sum -c accepts")
    enough = n_intact > ROUNDS and n_failed > ROUNDS // 20 and status == 0
    print(("ok" if enough else "not ok") + " 2 - enough names were compared")
    return 0 if enough and not problem else 1


if __name__ == "__main__":
    sys.exit(main())

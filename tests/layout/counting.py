#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Self-test of the counting behind `N passed, N failed, N skipped`."""

import io
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import run_check  # noqa: E402

STREAMS = [
    ("plain", "1..2\nok 1 - a\nok 2 - b\n", (2, 0, 0)),
    ("a failure with its diagnosis", "ok 1\nnot ok 2 - b\n# ok 3 is no test\n1..2\n", (1, 1, 0)),
    ("a skipped test", "ok 1 - a # SKIP no root\nok 2 - b\n1..2\n", (1, 0, 1)),
    ("a skipped test that is not ok", "not ok 1 # SKIP x\n1..1\n", (0, 1, 0)),
    ("a known failure", "not ok 1 - a # TODO later\n1..1\n", (1, 0, 0)),
    ("a whole program skipped", "1..0 # SKIP no qemu\n", (0, 0, 1)),
    ("words that begin like a result", "okay\nnot okay\n", None),
    ("nothing", "", None),
]

# result of meson, TAP stream, (passed, failed, skipped): what a program died of counts too.
PROGRAMS = [
    ("all good", "OK", "ok 1\n1..1\n", (1, 0, 0)),
    ("died after good tests", "ERROR", "ok 1\nok 2\n", (2, 1, 0)),
    ("ran out of time", "TIMEOUT", "ok 1\n", (1, 1, 0)),
    ("printed nothing", "SKIP", "", (0, 1, 0)),
    ("said why it skips", "SKIP", "1..0 # skip no qemu\n", (0, 0, 1)),
]


class Log:
    def __init__(self):
        self.text = io.StringIO()
        self.failures, self.failed_names = [], []

    def write(self, text):
        self.text.write(text)


def as_tuple(count):
    return count and (count.passed, count.failed, count.skipped)


def counted(result, stream):
    entry = {"name": "larder:cli / t", "result": result, "stdout": stream, "duration": 0.0}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        return as_tuple(run_check.count_results(Log(), file.name, {"t": "tap"})[0])


def ci_run(check, slow):
    """The last line and the status of .ci/run over a ./dev that plays the two parts."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.ci/run")
    with tempfile.TemporaryDirectory() as tree:
        os.mkdir(f"{tree}/.ci")
        with open(source, encoding="utf-8") as text, open(f"{tree}/.ci/run", "w") as copy:
            copy.write(text.read())
        with open(f"{tree}/dev", "w") as dev:
            dev.write(f'#!/bin/sh\nif [ "$1" = check ]; then {check}; else {slow}; fi\n')
        os.chmod(f"{tree}/dev", 0o755)
        done = subprocess.run(["bash", f"{tree}/.ci/run"], stdout=subprocess.PIPE, text=True)
        return done.stdout.splitlines()[-1], done.returncode != 0


GOOD = 'echo "3 passed, 0 failed, 1 skipped"'
RUNS = [
    ("adds up", GOOD, GOOD, ("6 passed, 0 failed, 2 skipped", False)),
    ("a failure fails", GOOD, 'echo "1 passed, 1 failed, 0 skipped"; exit 1',
     ("4 passed, 1 failed, 1 skipped", True)),
    ("a part that dies fails", "echo oops; exit 3", GOOD, ("3 passed, 1 failed, 1 skipped", True)),
    ("a status without a count fails", GOOD + "; exit 1", GOOD,
     ("6 passed, 1 failed, 2 skipped", True)),
]


def main():
    results = [(f"count_tap: {title}", as_tuple(run_check.count_tap(stream)), want)
               for title, stream, want in STREAMS]
    results += [(f"count_results: {title}", counted(result, stream), want)
                for title, result, stream, want in PROGRAMS]
    results += [(f".ci/run: {title}", ci_run(check, slow), want)
                for title, check, slow, want in RUNS]
    print(f"1..{len(results)}")
    for number, (title, got, want) in enumerate(results, 1):
        print(f"{'ok' if got == want else 'not ok'} {number} - {title}")
        if got != want:
            print(f"# got {got}, expected {want}")
    return int(any(got != want for _, got, want in results))


if __name__ == "__main__":
    sys.exit(main())

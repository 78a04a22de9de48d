#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each system call that changes files, while a layout or an archive is written.

After each the images that were there are whole, and so is every image that is named; the same
command run again ends as if nothing had been."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

import faultlib
from faultlib import Tap, Wrong

TOOL = os.environ["LAYOUT_TOOL"]


def tool(*args):
    return subprocess.run([TOOL, *args], capture_output=True, text=True, timeout=faultlib.SECONDS,
                          check=False)


def images(kind, path):
    """{name: digest}; every byte was hashed."""
    done = tool(kind, path, "check")
    if done.returncode != 0:
        raise Wrong(f"not whole: {done.stderr}")
    return dict(line.split() for line in done.stdout.splitlines())


class Job:
    def __init__(self, kind, verb, old, new, replaces):
        self.kind, self.verb, self.old, self.new, self.replaces = kind, verb, old, new, replaces
        self.name = f"{kind}: {verb} {' '.join(new)}" + (f" beside {' '.join(old)}" if old else "")

    def prepare(self, path):
        if self.old:
            done = tool(self.kind, path, "put", *self.old)
            if done.returncode != 0:
                raise Wrong(done.stderr)

    def inject(self, path, report, *options):
        return subprocess.run([faultlib.INJECT, "-o", report, *options, TOOL, self.kind, path,
                               self.verb, *self.new], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=faultlib.SECONDS,
                              env={**os.environ, **faultlib.TRACED}, check=False)

    def expected(self):
        """What is there in the end."""
        return set(self.new) | (set() if self.replaces else set(self.old))

    def look(self, path):
        """The state after a kill: old images, and new ones that are whole."""
        if not os.path.exists(path):
            if self.old:
                raise Wrong("what was there is gone")
            return
        if self.kind == "oci" and not os.path.exists(os.path.join(path, "index.json")) and \
                not self.old:
            return  # not yet a layout; no other program takes it for one
        found = set(images(self.kind, path))
        if self.replaces and found in (set(self.old), set(self.new)):
            return
        if self.replaces or not set(self.old) <= found <= set(self.old) | set(self.new):
            raise Wrong(f"there is {sorted(found)}")


JOBS = [
    Job("oci", "put", [], ["a", "b"], False),
    Job("oci", "each", ["old"], ["a", "b", "old"], False),
    Job("oci-archive", "put", [], ["a", "b"], True),
    Job("oci-archive", "put", ["old"], ["a", "b"], True),
]


def strike(job, n):
    top = tempfile.mkdtemp(prefix="larder-layouts.")
    try:
        path, report = os.path.join(top, "target"), os.path.join(top, "report")
        job.prepare(path)
        done = job.inject(path, report, *(["-n", str(n)] if n else []))
        with open(report, encoding="utf-8", errors="replace") as f:
            calls = f.read().splitlines()[:-1]
        if not n:
            if done.returncode != 0:
                raise Wrong(f"without a fault: {done.stderr}")
        else:
            job.look(path)
            again = tool(job.kind, path, job.verb, *job.new)
            if again.returncode != 0:
                raise Wrong(f"again: {again.stderr}")
        found = set(images(job.kind, path))
        if found != job.expected():
            raise Wrong(f"in the end there is {sorted(found)}")
        left = [name for name in os.listdir(top) if name not in ("target", "report")]
        if left:
            raise Wrong(f"left beside it: {left}")
        return calls
    finally:
        shutil.rmtree(top, ignore_errors=True)


def main():
    args = faultlib.arguments(__doc__, points=0)
    faultlib.need_inject()
    tap = Tap()
    begin = time.monotonic()
    for number, job in enumerate(JOBS):
        if args.only and args.only not in job.name:
            continue
        try:
            total = len(strike(job, 0))
        except Exception as wrong:  # a broken job is a failed one
            tap.report(False, f"{job.name}: without a fault", [faultlib.told(wrong)])
            continue
        chosen = [args.at] if args.at else faultlib.choose(total, args.points, number)

        def one(n, job=job):
            try:
                strike(job, n)
            except Exception as wrong:  # a broken point is a failed one
                return f"killed at call {n}: {faultlib.told(wrong)}"
            return None
        count, failures = faultlib.run_points(chosen, one, args.jobs)
        tap.report(not failures, f"{job.name}: killed at {count} of {total} calls",
                   [text for _, text in failures[:args.show]])
    print(f"# {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

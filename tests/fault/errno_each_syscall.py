#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An error from each system call that changes files, for every job of scenarios.py: once, from
then on (a disk that is full and stays so), and writes that are cut short.

The command either does its job all the same, with the right result, or fails with exit status 1
and a message that names what failed and why; it never succeeds with a wrong result. What it leaves
is as after a kill, and the next run without the error succeeds."""

import errno
import os
import re
import sys
import time

import faultlib
from faultlib import Scratch, Tap, Wrong
from scenarios import all_scenarios

ERRORS = {
    "openat": (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "pwrite64": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "fdatasync": (errno.EIO, errno.ENOSPC),
    "linkat": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS),
    "renameat": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS),
    "renameat2": (errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS),
    "unlinkat": (errno.EIO, errno.EACCES, errno.EROFS),
    "mkdirat": (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO),
    "mkdir": (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO),
    "ftruncate": (errno.ENOSPC, errno.EIO),
    "fchmod": (errno.EPERM, errno.EIO),
    "flock": (errno.ENOLCK,),
}
ERRORS["rename"] = ERRORS["renameat"]
ERRORS["link"] = ERRORS["linkat"]
ERRORS["unlink"] = ERRORS["unlinkat"]
# A message is about one of these.
OBJECTS = "image|blob|refs|leases|quarantine|copy|[0-9a-f]{64}"
NEED_NO_SPACE = ("flock", "fcntl", "unlinkat", "unlink", "fchmod", "utimensat", "ioctl", "fchown")
OTHERS = (errno.EIO,)
# How SQLite, which keeps the errno to itself, names a failure.
SQLITE_WORDS = ("disk I/O error", "database or disk is full", "unable to open database file")


def options_of(mode, n, number):
    """Of the injector."""
    if mode == "short":
        return ["-n", str(n), "-s", "-w"]
    return ["-n", str(n), "-e", str(number), *(["-s"] if mode == "sticky" else [])]


def check_message(result, scenario, number):
    if result.status not in (1, *scenario.failed):
        raise Wrong(f"expected exit status 1: {result}")
    # A command that answers for several objects says on stdout which of them failed, and why.
    text = result.err + result.out
    if not text.strip():
        raise Wrong(f"failed without a message: {result}")
    if number and os.strerror(number) not in text and \
            not any(words in text for words in SQLITE_WORDS):
        raise Wrong(f"the message does not say '{os.strerror(number)}': {result}")
    if "/" not in text and not re.search(OBJECTS, text):
        raise Wrong(f"the message names no object: {result}")


def strike(scratch, scenario, n, mode, number):
    with scratch.box() as box:
        scenario.prepare(box)
        argv = scenario.command(box)
        result, calls = box.inject(argv, options_of(mode, n, number))
        what = calls[n - 1] if len(calls) >= n else "end"
        try:
            if result.status < 0 or result.status >= 124:
                raise Wrong(f"crashed: {result}")
            if result.status == 0 or len(calls) < n or result.status in scenario.failed:
                before = dict(box.notes)
                scenario.check_tolerated(box, result)
                box.notes = before
                return "tolerated"
            if mode == "short":
                raise Wrong(f"a short write is no error: {result}")
            check_message(result, scenario, number)
            box.check_blobs()
            box.check_fsck_harmless()
            if n % 2:
                box.check_repair()
            scenario.check(box, box.larder(*argv))
            box.good("gc", "--keep-for", "0")
            box.check_repair()
        except Wrong as wrong:
            raise Wrong(f"{mode} {errno.errorcode.get(number, '')} at call {n}, {what}: "
                        f"{wrong}") from None
        return "failed"


def points_of(calls, args, number):
    """(n, mode, errno) of each point. With a limit the errors take turns."""
    points = []
    chosen = [args.at] if args.at else faultlib.choose(len(calls), args.points, number)
    for n in chosen:
        name = calls[n - 1].split(" ", 1)[0]
        errors = ERRORS.get(name, OTHERS)
        if args.points == 0 or args.at:
            points += [(n, "once", error) for error in errors]
        else:
            points.append((n, "once", errors[(n + number) % len(errors)]))
        if (args.points == 0 or n % 3 == 0) and name not in NEED_NO_SPACE:
            points.append((n, "sticky", errno.ENOSPC))
        if name in ("write", "pwrite64"):
            points.append((n, "short", 0))
    return points


def count_calls(scratch, scenario):
    with scratch.box() as box:
        scenario.prepare(box)
        result, calls = box.inject(scenario.command(box), [])
        scenario.check(box, result)
        return calls


def main():
    args = faultlib.arguments(__doc__, points=24)
    faultlib.need_inject()
    tap = Tap()
    begin = time.monotonic()
    total = 0
    with Scratch() as scratch:
        scratch.serve()
        for number, scenario in enumerate(all_scenarios()):
            if args.only and args.only not in scenario.name:
                continue
            try:
                calls = count_calls(scratch, scenario)
            except Exception as wrong:  # a broken scenario is a failed one
                tap.report(False, f"{scenario.name}: without a fault", [faultlib.told(wrong)])
                continue
            points = points_of(calls, args, number)
            tolerated = []

            def one(point, scenario=scenario, tolerated=tolerated):
                try:
                    if strike(scratch, scenario, *point) == "tolerated":
                        tolerated.append(point)
                except Exception as wrong:  # a broken point is a failed one
                    return faultlib.told(wrong)
                return None
            count, failures = faultlib.run_points(points, one, args.jobs)
            total += count
            tap.report(not failures, f"{scenario.name}: {count} errors in {len(calls)} calls, "
                                     f"{len(tolerated)} tolerated",
                       [f"{len(failures)} failed; again: --only {scenario.name} --at N"] * bool(
                           failures) + [text for _, text in failures[:args.show]])
    print(f"# {total} points in {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

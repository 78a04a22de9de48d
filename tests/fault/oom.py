#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Out of memory at each allocation: once, and from then on. The program never crashes, never
succeeds with a wrong result, and says "out of memory" when it fails; the store is as after a kill,
and the next run succeeds."""

import os
import sys
import time

import faultlib
from faultlib import Scratch, Tap, Wrong
import scenarios

SHIM = os.environ.get("FAULT_FAILMALLOC", "failmalloc.so")
# The libraries have words of their own, and the loader has many; then it is said what it loaded.
WORDS = ("out of memory", "annot allocate memory", "cannot start a thread", "OpenSSL",
         "libcrypto", "libcurl", "module of ostree")


def is_ended_by_loader(result):
    """Without memory for a library, or for a thread's data of one, the dynamic loader ends the
    process at once: that is as if somebody had killed it."""
    return result.status == 127 and (result.err.strip() == "out of memory" or
                                     "memory for thread-local data" in result.err)


class Hit(scenarios.Fetch):
    """A get that finds everything there."""

    def prepare(self, box):
        super().prepare(box)
        box.good("image", "get", "a")


class Verify(Hit):
    def command(self, box):
        return ["image", "verify", "--all", "--deep"]

    def check(self, box, result):
        self.expect(result)
        box.check_image("a", scenarios.OLD)


class Fsck(Hit):
    def command(self, box):
        return ["fsck", "--repair"]

    def check(self, box, result):
        self.expect(result)
        box.check_image("a", scenarios.OLD)


def wanted():
    return [
        scenarios.Add(),
        Hit("get-hit"),
        scenarios.Fetch("get-miss-local"),
        scenarios.Fetch("get-miss-gz", packed=True),
        scenarios.Fetch("get-miss-http", http=True),
        scenarios.Refetch("get-corrupt"),
        scenarios.Update("get-update"),
        Verify("verify"),
        scenarios.Gc(),
        Fsck("fsck"),
        scenarios.Invalidate(),
        scenarios.Overlay(),
        scenarios.Maintain(),
    ]


def strike(scratch, scenario, n, is_sticky):
    with scratch.box() as box:
        scenario.prepare(box)
        argv = scenario.command(box)
        env = {"LD_PRELOAD": SHIM, "FAILMALLOC_AT": str(n)}
        if is_sticky:
            env["FAILMALLOC_STICKY"] = "1"
        result = box.run([faultlib.LARDER, *argv], argv, env)
        try:
            is_ended = is_ended_by_loader(result)
            if (result.status < 0 or result.status >= 124) and not is_ended:
                raise Wrong(f"crashed: {result}")
            if result.status == 0 or result.status in scenario.failed:
                scenario.check_tolerated(box, result)
                return
            if not any(words in result.err + result.out for words in WORDS):
                raise Wrong(f"does not say that memory is out: {result}")
            if result.status != 1 and not is_ended:
                raise Wrong(f"expected exit status 1: {result}")
            box.check_blobs()
            box.check_fsck_harmless()
            scenario.check(box, box.larder(*argv))
        except Wrong as wrong:
            raise Wrong(f"allocation {n}{' and all after it' * is_sticky}: {wrong}") from None


def count_allocations(scratch, scenario):
    with scratch.box() as box:
        scenario.prepare(box)
        argv = scenario.command(box)
        report = os.path.join(box.path, "report")
        result = box.run([faultlib.LARDER, *argv], argv,
                         {"LD_PRELOAD": SHIM, "FAILMALLOC_REPORT": report})
        scenario.check(box, result)
        with open(report, encoding="ascii") as file:
            return int(file.read().split()[1])


def main():
    args = faultlib.arguments(__doc__, points=40)
    if faultlib.is_sanitized():
        print("1..0 # SKIP a sanitizer has an allocator of its own")
        return 0
    tap = Tap()
    begin = time.monotonic()
    points = 0
    with Scratch() as scratch:
        scratch.serve()
        for number, scenario in enumerate(wanted()):
            if args.only and args.only not in scenario.name:
                continue
            try:
                total = count_allocations(scratch, scenario)
            except Exception as wrong:  # a broken scenario is a failed one
                tap.report(False, f"{scenario.name}: with memory", [wrong])
                continue
            chosen = [args.at] if args.at else faultlib.choose(total, args.points, number)
            chosen = [(n, is_sticky) for n in chosen for is_sticky in
                      ((False, True) if args.points == 0 or args.at else (bool(n % 2),))]

            def one(point, scenario=scenario):
                try:
                    strike(scratch, scenario, *point)
                except Exception as wrong:  # a broken point is a failed one
                    return faultlib.told(wrong)
                return None
            count, failures = faultlib.run_points(chosen, one, args.jobs)
            points += count
            tap.report(not failures,
                       f"{scenario.name}: {count} failures in {total} allocations",
                       [f"{len(failures)} failed; again: --only {scenario.name} --at N"] * bool(
                           failures) + [text for _, text in failures[:args.show]])
    print(f"# {points} points in {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

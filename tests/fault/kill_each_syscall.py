#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each system call that changes files, for every job of scenarios.py.

After each: fsck finds nothing but what a crash may leave, whatever is visible under blobs/ is
complete, --repair leaves nothing to find, and the same command run again reaches its end. Whoever
never runs fsck has to get there too: every other point is repaired only after the second run."""

import sys
import time

import faultlib
from faultlib import Scratch, Tap, Wrong
from scenarios import all_scenarios


def strike(scratch, scenario, n):
    """One point; returns the call that was struck."""
    with scratch.box() as box:
        scenario.prepare(box)
        argv = scenario.command(box)
        result, calls = box.inject(argv, ["-n", str(n)])
        what = calls[n - 1] if len(calls) >= n else "end"
        try:
            if len(calls) < n:
                scenario.check(box, result)  # ended before its Nth call
            elif result.status != -9 and result.status != 137:
                raise Wrong(f"was not killed: {result}")
            box.check_blobs()
            box.check_fsck_harmless()
            if n % 2:
                box.check_repair()
            scenario.check(box, box.larder(*argv))
            box.good("gc", "--keep-for", "0")
            box.check_repair()
        except Wrong as wrong:
            raise Wrong(f"killed at call {n}, {what}: {wrong}") from None
        return what


def count_calls(scratch, scenario):
    with scratch.box() as box:
        scenario.prepare(box)
        result, calls = box.inject(scenario.command(box), [])
        scenario.check(box, result)
        box.check_blobs()
        box.check_repair()
        return len(calls)


def main():
    args = faultlib.arguments(__doc__, points=24)
    faultlib.need_inject()
    tap = Tap()
    begin = time.monotonic()
    points = 0
    with Scratch() as scratch:
        scratch.serve()
        for number, scenario in enumerate(all_scenarios()):
            if args.only and args.only not in scenario.name:
                continue
            try:
                total = count_calls(scratch, scenario)
            except Exception as wrong:  # a broken scenario is a failed one
                tap.report(False, f"{scenario.name}: without a fault", [faultlib.told(wrong)])
                continue
            chosen = [args.at] if args.at else faultlib.choose(total, args.points, number)

            def one(n, scenario=scenario):
                try:
                    strike(scratch, scenario, n)
                except Exception as wrong:  # a broken point is a failed one
                    return faultlib.told(wrong)
                return None
            count, failures = faultlib.run_points(chosen, one, args.jobs)
            points += count
            tap.report(not failures, f"{scenario.name}: killed at {count} of {total} calls",
                       [f"{len(failures)} failed; again: --only {scenario.name} --at N"] * bool(
                           failures) + [text for _, text in failures[:args.show]])
    print(f"# {points} points in {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

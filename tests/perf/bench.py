#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures larder beside the tools people use today, peers in the same run.

Usage: bench.py [--larder FILE] [--dir DIR] [--runs N] [--scale F] [--write FILE] [ROW...]

Rows of images: hit memo deep cache fetch sparse; of registries: noop pull push tiny cosa; of
updates: check show ostree fetch_update; a group's name stands for its rows (default: all). Needs
about 30 GiB in DIR at scale 1; a smaller scale shrinks the images. Peers that are not Debian's
(crane, oras, regctl) are used when they are in PATH or in $LARDER_PEERS. Prints a table of medians and ratios; --write puts it into
docs/benchmarks.md between the group's marks, with the date and the machine's CPU. Nothing here
passes or fails: machines differ, ratios are what to quote.
"""
import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile

from measure import MIB, busy, cpu_model, measure, release
from rows_images import ImageRows
from rows_registry import RegistryRows
from rows_updates import UpdateRows

GROUPS = {
    "images": ["hit", "memo", "deep", "cache", "fetch", "sparse"],
    "registries": ["noop", "pull", "push", "tiny", "cosa"],
    "updates": ["check", "show", "ostree", "fetch_update"],
}


class Bench(ImageRows, RegistryRows, UpdateRows):
    def __init__(self, args, tmp):
        self.args, self.tmp = args, tmp
        self.larder = os.path.abspath(args.larder)
        self.env = dict(os.environ, LARDER_HOME=os.path.join(tmp, "store"))
        for name in list(self.env):
            if name.lower().endswith("_proxy"):
                del self.env[name]
        self.rows = []  # of the group that runs

    def row(self, what, bar, measured, detail):
        self.rows.append((what, bar, measured, detail))
        print(f"{what}\n    bar: {bar}\n    measured: {measured}\n    {detail}", flush=True)

    def run_larder(self, *argv, ok=(0,), env=None):
        return measure([self.larder, *argv], env=env or self.env, ok=ok)

    def scaled(self, size):
        return max(int(size * self.args.scale) // MIB, 8) * MIB


def write_table(path, group, rows, args):
    begin, end = f"<!-- measured: {group} -->", f"<!-- end of measured: {group} -->"
    lines = [begin,
             f"Measured {datetime.date.today()} on {cpu_model()}, {release()}, Linux "
             f"{os.uname().release.split('-')[0]}; medians of {args.runs} runs"
             + (f", images scaled by {args.scale}" if args.scale != 1 else "") + ".", "",
             "| what | bar | measured | detail |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines.append(end)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    before, rest = text.split(begin, 1)
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + "\n".join(lines) + rest.split(end, 1)[1])


def wanted_rows(parser, words):
    """Rows of each group, in the order of GROUPS."""
    known = {row for rows in GROUPS.values() for row in rows}
    for word in words:
        if word not in known and word not in GROUPS:
            parser.error(f"no row {word}, expected one of {', '.join([*GROUPS, *sorted(known)])}")
    return {group: [row for row in rows if not words or row in words or group in words]
            for group, rows in GROUPS.items()}


def main():
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("words", nargs="*", metavar="ROW",
                        help="; ".join(f"{g}: {' '.join(rows)}" for g, rows in GROUPS.items()))
    parser.add_argument("--larder", default=os.path.join(here, "build", "larder"))
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/var/tmp"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--write", metavar="FILE", help="docs/benchmarks.md")
    args = parser.parse_args()
    groups = wanted_rows(parser, args.words)
    tmp = tempfile.mkdtemp(prefix="larder-bench-", dir=args.dir)
    try:
        bench = Bench(args, tmp)
        if busy() > 10:
            print("bench: other programs are running: ratios may hold, times don't",
                  file=sys.stderr)
        for group, names in groups.items():
            if not names:
                continue
            bench.rows = []
            for name in names:
                getattr(bench, name)()
            print("\n| what | bar | measured | detail |\n|---|---|---|---|")
            for row in bench.rows:
                print("| " + " | ".join(row) + " |")
            if args.write:
                write_table(args.write, group, bench.rows, args)
    finally:
        subprocess.run(["chmod", "-R", "u+w", tmp], check=False)
        shutil.rmtree(tmp, ignore_errors=True)


if __name__ == "__main__":
    main()

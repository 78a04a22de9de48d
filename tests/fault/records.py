#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records of updates under kill -9 and failing system calls, one after the other, and with many
processes at once.

After each fault the old record is there or the new one, whole; beside it at most a temporary, which
fsck calls harmless and the next writer removes."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import faultlib
from faultlib import Tap, Wrong

TOOL = os.environ["RECORD_TOOL"]
REF = "docker://example.org/os:stable"
TEMPORARY = ".tmp-record"
CHECKED = "1700000000123456789"
TOUCHED = "1800000000000000007"
PROCESSES = 480


def tool(place, *args):
    return subprocess.run([TOOL, place, *args], capture_output=True, text=True,
                          timeout=faultlib.SECONDS, check=False)


def good(place, *args):
    done = tool(place, *args)
    if done.returncode != 0:
        raise Wrong(f"{' '.join(args)}: {done.stderr}")
    return done.stdout.strip()


class Job:
    def __init__(self, title, old, argv, new, in_store=False):
        """old and new: "SEED LAYERS CHECKED" as the tool tells it, or "none"."""
        self.title, self.old, self.argv, self.new = title, old, argv, new
        self.in_store = in_store

    def prepare(self, top):
        place = os.path.join(top, "place")
        if self.in_store:
            place = f"store:{place}"
            good(place, "get", REF)
        if self.old != "none":
            good(place, "put", REF, *self.old.split()[:2])
        return place

    def command(self):
        return [self.argv[0], REF, *self.argv[1:]]


JOBS = [
    Job("the first", "none", ["put", "one", "3"], f"one 3 {CHECKED}"),
    Job("replaced by a larger", f"one 3 {CHECKED}", ["put", "two", "2000"], f"two 2000 {CHECKED}"),
    Job("replaced by none", f"one 3 {CHECKED}", ["put", "two", "0"], f"two 0 {CHECKED}"),
    Job("touched", f"one 3 {CHECKED}", ["touch", TOUCHED], f"one 3 {TOUCHED}"),
    Job("removed", f"one 3 {CHECKED}", ["remove"], "none"),
    Job("in a store, the first", "none", ["put", "one", "3"], f"one 3 {CHECKED}", True),
    Job("in a store, replaced", f"one 3 {CHECKED}", ["put", "two", "9"], f"two 9 {CHECKED}", True),
]


def directory(place):
    return place[len("store:"):] + "/updates" if place.startswith("store:") else place


def names(place):
    path = directory(place)
    return os.listdir(path) if os.path.isdir(path) else []


def fsck(place, *options):
    done = subprocess.run([faultlib.LARDER, "--store", place[len("store:"):], "--json", "fsck",
                           *options], capture_output=True, text=True, timeout=faultlib.SECONDS,
                          check=False)
    return done.returncode, json.loads(done.stdout)["found"]


def look(job, place):
    """The state after a fault: the record's, and what is beside it."""
    state = good(place, "get", REF)
    if state not in (job.old, job.new):
        raise Wrong(f"there is {state!r}")
    left = [name for name in names(place) if len(name) != 64]
    if left not in ([], [TEMPORARY]):
        raise Wrong(f"left beside it: {left}")
    if job.in_store:
        status, found = fsck(place)
        kinds = [problem["kind"] for problem in found]
        if status != 0 or kinds != ["temporary"] * len(left):
            raise Wrong(f"fsck: {status} {found} with {left}")
    return state


def strike(job, n, fault):
    """The n-th call fails by these options of inject; n 0: none, and the calls are returned."""
    top = tempfile.mkdtemp(prefix="larder-records.", dir=faultlib.scratch_parent())
    try:
        place, report = job.prepare(top), os.path.join(top, "report")
        options = ["-n", str(n), *fault] if n else []
        done = subprocess.run([faultlib.INJECT, "-o", report, *options, TOOL, place,
                               *job.command()], capture_output=True, text=True,
                              env={**os.environ, **faultlib.TRACED},
                              timeout=faultlib.SECONDS, check=False)
        with open(report, encoding="utf-8", errors="replace") as file:
            calls = file.read().splitlines()[:-1]
        state = look(job, place)
        if done.returncode == 0 and state != job.new:
            raise Wrong(f"done, it says, but there is {state!r}")
        if not n and done.returncode != 0:
            raise Wrong(f"without a fault: {done.stderr}")
        if done.returncode != 0 and "-e" in fault and not done.stderr.strip():
            raise Wrong(f"failed with {done.returncode} and no word")
        good(place, *job.command())
        if look(job, place) != job.new:
            raise Wrong("once more, and it is still the old one")
        if TEMPORARY in names(place):
            raise Wrong("the next writer leaves the temporary")
        return calls
    finally:
        shutil.rmtree(top, ignore_errors=True)


FAULTS = [
    ("killed", []),
    ("no space", ["-e", str(errno.ENOSPC)]),
    ("disk full from there on", ["-e", str(errno.ENOSPC), "-s"]),
    ("I/O error", ["-e", str(errno.EIO)]),
    ("written by halves", ["-w"]),
]


def faults(tap, args, number, job):
    try:
        total = len(strike(job, 0, []))
    except Exception as wrong:  # a broken job is a failed one
        tap.report(False, f"{job.title}: without a fault", [faultlib.told(wrong)])
        return
    for title, fault in FAULTS:
        chosen = [args.at] if args.at else faultlib.choose(total, args.points, number)

        def one(n, fault=fault):
            try:
                strike(job, n, fault)
            except Exception as wrong:  # a broken point is a failed one
                return f"call {n}: {faultlib.told(wrong)}"
            return None
        count, failures = faultlib.run_points(chosen, one, args.jobs)
        tap.report(not failures, f"{job.title}: {title} at {count} of {total} calls",
                   [text for _, text in failures[:args.show]])


def order():
    """What a power cut would show, and kill -9 does not: synced before and after the rename."""
    calls = [call.split(" ", 2)[1:] for call in strike(JOBS[1], 0, [])]
    found = [name for name, *what in calls
             if name in ("fsync", "renameat") or (name == "openat" and TEMPORARY in what[0])]
    if found != ["openat", "fsync", "renameat", "fsync"]:
        raise Wrong(f"the calls are {calls}")


def in_words():
    """A record made by the words of larder-store(5) is one."""
    config = '{"os": "linux", "\u00e9": "\\n"}'
    manifest = json.dumps({"schemaVersion": 2, "layers": [], "config": {
        "mediaType": "a/b", "size": len(config.encode()),
        "digest": "sha256:" + faultlib.sha256(config.encode())}})
    digest = "sha256:" + faultlib.sha256(manifest.encode())
    document = {"version": 1, "ref": REF, "platform": "linux/amd64", "name": "n", "base": digest,
                "commit": "c", "listed": digest, "manifest_digest": digest, "checked": 17,
                "update": "", "media_type": "application/json"}
    text = "".join(f"{key}={value}\0" for key, value in document.items())
    document["sum"] = "sha256:" + faultlib.sha256(text.encode())
    document["update"] = {"media_type": document.pop("media_type"), "manifest": manifest,
                          "config": config}
    name = faultlib.sha256(f"{len(REF)}:{REF},11:linux/amd64,".encode())
    top = tempfile.mkdtemp(prefix="larder-records.", dir=faultlib.scratch_parent())
    try:
        place = JOBS[-1].prepare(top)
        with open(os.path.join(directory(place), name), "w", encoding="utf-8") as file:
            json.dump(document, file)
        if fsck(place) != (0, []):
            raise Wrong(f"fsck: {fsck(place)}")
        document["checked"] += 1
        with open(os.path.join(directory(place), name), "w", encoding="utf-8") as file:
            json.dump(document, file)
        status, found = fsck(place)
        if status != 5 or [p["kind"] for p in found] != ["bad-record"]:
            raise Wrong(f"fsck of an edited one: {status} {found}")
    finally:
        shutil.rmtree(top, ignore_errors=True)


def stale_temporary():
    """Left by a kill in a store: fsck --repair removes it, and the record stays."""
    top = tempfile.mkdtemp(prefix="larder-records.", dir=faultlib.scratch_parent())
    try:
        place = JOBS[-1].prepare(top)
        with open(os.path.join(directory(place), TEMPORARY), "w", encoding="ascii") as file:
            file.write('{"version"')
        status, found = fsck(place, "--repair")
        if status != 0 or [(p["kind"], p["is_repaired"]) for p in found] != [("temporary", True)]:
            raise Wrong(f"fsck --repair: {status} {found}")
        if TEMPORARY in names(place) or good(place, "get", REF) != JOBS[-1].old:
            raise Wrong(f"after fsck --repair: {names(place)}")
    finally:
        shutil.rmtree(top, ignore_errors=True)


def storm(in_store):
    top = tempfile.mkdtemp(prefix="larder-records.", dir=faultlib.scratch_parent())
    try:
        place = ("store:" if in_store else "") + os.path.join(top, "place")
        if in_store:
            good(place, "get", REF)
        begin = time.monotonic()
        done = subprocess.run([TOOL, place, "storm", str(PROCESSES)], capture_output=True,
                              text=True, timeout=3 * faultlib.SECONDS, check=False)
        if done.returncode != 0:
            raise Wrong("\n".join([f"status {done.returncode}", *done.stderr.splitlines()[:10]]))
        odd = [name for name in names(place) if len(name) != 64]
        if odd:
            raise Wrong(f"left: {odd}")
        if in_store and fsck(place) != (0, []):
            raise Wrong(f"fsck: {fsck(place)}")
        return ", ".join([faultlib.elapsed(begin), *done.stdout.splitlines()])
    finally:
        shutil.rmtree(top, ignore_errors=True)


def main():
    args = faultlib.arguments(__doc__, points=0)
    faultlib.need_inject()
    tap = Tap()
    begin = time.monotonic()
    for number, job in enumerate(JOBS):
        if not args.only or args.only in job.title:
            faults(tap, args, number, job)
    if not args.only or args.only in "temporary":
        tap.case("what a killed writer left is repaired", stale_temporary)
        tap.case("synced, renamed, synced", order)
        tap.case("as larder-store(5) says it", in_words)
    if not args.only or args.only in "storm":
        for in_store in (False, True):
            tap.case(f"{PROCESSES} writers and readers of a {'store' if in_store else 'directory'}",
                     storm, in_store)
    print(f"# {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many processes at once over one store: get, use, invalidate, gc, scrub, verify, fsck and updates
upstream in random order, while readers take the paths that are handed out and hash what they read.

A reader never sees bytes that were not published under the name. A path stays at least for gc's
--keep-for, unless somebody invalidates the image just then; with --keep-for 0 it is promised only as
long as the entry or a lease holds it, so there `image use`, which takes a lease, is what must never
fail."""

import hashlib
import json
import os
import random
import sys
import threading
import time

import faultlib
from faultlib import Scratch, Tap, Wrong, qcow2, sha256

NAMES = ("one", "two", "three", "four")
WORKERS = 4
READERS = 2
SEED = 20_240_601


class Field:
    """What all threads share."""

    def __init__(self, box, keep_for, operations):
        self.box, self.keep_for = box, keep_for
        self.lock = threading.Lock()
        self.left = operations
        self.published = {name: set() for name in NAMES}
        self.publishing = {name: threading.Lock() for name in NAMES}
        self.invalidations = {name: [] for name in NAMES}  # "begin", "end" of each
        self.version = 0
        self.failures = []
        self.done = {}
        self.reads = self.vanished = 0
        self.is_over = False

    def next(self):
        with self.lock:
            if self.left == 0 or len(self.failures) > 3:
                return False
            self.left -= 1
            return True

    def count(self, what):
        with self.lock:
            self.done[what] = self.done.get(what, 0) + 1

    def fail(self, text):
        with self.lock:
            self.failures.append(str(text))

    def publish(self, name):
        with self.lock:
            self.version += 1
            version = self.version
        data = qcow2(f"{name} {version}", payload=20_000)
        with self.publishing[name]:
            self.published[name].add(sha256(data))
            self.box.publish(f"{name}.qcow2", data)

    def expect(self, result, allowed):
        """A get during a publication may find that file and sums contradict each other."""
        if result.status in allowed or "inconsistent" in result.err + result.out:
            return
        self.fail(result)


def read_image(field, name, path):
    """Opens and hashes a path that was just handed out; False when it is not there any more."""
    try:
        with open(path, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return False
    if found not in field.published[name] or found != os.path.basename(path):
        field.fail(f"{name}: {path} has bytes that hash to {found}")
    with field.lock:
        field.reads += 1
    return True


def get(field, name, *options):
    box = field.box
    before = list(field.invalidations[name])
    result = box.larder("image", "get", *options, name)
    field.expect(result, (0,))
    path = result.out.strip()
    if result.status != 0 or read_image(field, name, path):
        return
    is_invalidated = before.count("begin") > before.count("end") or \
        before != field.invalidations[name]
    if field.keep_for != "0" and not is_invalidated:
        field.fail(f"{name}: {path} is gone within the promised time")
        return
    # Nothing promised it, provided that the entry had moved on.
    with field.lock:
        field.vanished += 1
    # It may come back and go again between two looks, but not each time.
    for _ in range(5):
        shown = json.loads(box.larder("--json", "image", "show", name).out)
        if shown.get("path") != path or shown["verdict"] != "valid" or os.path.exists(path):
            return
    field.fail(f"{name}: {path} is gone though its entry still names it")


def use(field, name):
    result = field.box.larder("image", "use", name, "--", "sh", "-c", 'sha256sum "$LARDER_IMAGE"')
    field.expect(result, (0,))
    if result.status == 0 and result.out.split()[0] not in field.published[name]:
        field.fail(f"use: foreign bytes: {result}")
    with field.lock:
        field.reads += result.status == 0


def one(field, rng):
    box, name = field.box, rng.choice(NAMES)
    what = rng.choices(("get", "fresh", "use", "invalidate", "gc", "scrub", "verify", "fsck",
                        "publish", "maintain"), (30, 15, 10, 10, 10, 5, 5, 3, 10, 2))[0]
    if what == "get":
        get(field, name)
    elif what == "fresh":
        get(field, name, "--fresh")
    elif what == "use":
        use(field, name)
    elif what == "invalidate":
        field.invalidations[name].append("begin")
        field.expect(box.larder("image", "invalidate", name), (0,))
        field.invalidations[name].append("end")
    elif what == "gc":
        field.expect(box.larder("gc", "--keep-for", field.keep_for), (0, 7))
    elif what == "scrub":
        field.expect(box.larder("scrub", "--foreground", "--older-than", "0"), (0, 7))
    elif what == "verify":
        # Outdated, or unknown after invalidate; never corrupt: nobody damages anything here.
        field.expect(box.larder("image", "verify", "--deep", "--all"), (0, 4, 8))
    elif what == "fsck":
        field.expect(box.larder("fsck"), (0,))
    elif what == "maintain":
        field.expect(box.larder("maintain", "--once"), (0, 4, 7))
    else:
        field.publish(name)
    field.count(what)


def guarded(field, function, *arguments):
    try:
        function(field, *arguments)
    except Exception as error:  # a thread that dies must not pass for one that is through
        field.fail(faultlib.told(error))


def work(field, rng):
    while field.next():
        guarded(field, one, rng)


def read(field, rng):
    while not field.is_over:
        guarded(field, get, rng.choice(NAMES))


def phase(scratch, keep_for, operations, seed):
    with scratch.box() as box:
        field = Field(box, keep_for, operations)
        for number, name in enumerate(NAMES):
            field.publish(name)
            box.good("image", "add", "--refresh", "always" if number % 2 else "1h", name,
                     box.source(f"{name}.qcow2", http=number > 1))
        workers = [threading.Thread(target=work, args=(field, random.Random(seed + i)))
                   for i in range(WORKERS)]
        readers = [threading.Thread(target=read, args=(field, random.Random(seed + 100 + i)))
                   for i in range(READERS)]
        for thread in workers + readers:
            thread.start()
        for thread in workers:
            thread.join()
        field.is_over = True
        for thread in readers:
            thread.join()
        if field.failures:
            raise Wrong("\n".join(field.failures[:6]))
        box.check_blobs()
        for name in NAMES:
            path = box.good("image", "get", "--fresh", name).out.strip()
            with open(box.source(f"{name}.qcow2"), "rb") as file:
                box.check_image(name, file.read())
            if not os.path.exists(path):
                raise Wrong(f"{path} is not there")
        box.check_repair()
        sums = ", ".join(f"{n} {what}" for what, n in sorted(field.done.items()))
        return f"{sums}; {field.reads} reads, {field.vanished} too late"


def main():
    args = faultlib.arguments(__doc__, points=0, operations=1000)
    tap = Tap()
    begin = time.monotonic()
    with Scratch() as scratch:
        scratch.serve()
        half = args.operations // 2
        for keep_for in ("10m", "0"):
            tap.case(f"{half} operations, gc --keep-for {keep_for}", phase, scratch, keep_for, half,
                     args.seed if args.seed is not None else SEED)
    print(f"# {args.operations} operations in {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every job with a registry (registry_jobs.py) under every fault: kill -9 at each system call that
talks to others or changes a file, an error from each of them, and each allocation that fails; and
SIGINT, and threads that fail to start, for what has a thread of its own.

After a kill whatever is visible is whole, and the same command run again ends right, without
sending a blob that the registry has. After an error the command has done its job all the same, or
says what failed; never both."""

import errno
import itertools
import os
import re
import sys
import time

import faultlib
import registry_jobs
from faultlib import Scratch, Tap, Wrong
from oom import SHIM, WORDS, is_ended_by_loader
from publish_faults import Registry

KILLED_AT = "net,open,write,sync,link,rename,unlink,mkdir,truncate"
FAILING = "net,recv,open,write,sync,link,rename,unlink,mkdir,truncate,mode"
# By itself: a write that others count in its place must not fail with its error.
THREADS = "thread"
ERRORS = {
    "socket": (errno.EMFILE, errno.ENFILE, errno.ENOBUFS),
    "connect": (errno.ECONNREFUSED, errno.ENETUNREACH, errno.ETIMEDOUT),
    "sendmsg": (errno.ECONNRESET, errno.EPIPE),
    "sendto": (errno.ECONNRESET, errno.EPIPE),
    "recvfrom": (errno.ECONNRESET, errno.ETIMEDOUT),
    "recvmsg": (errno.ECONNRESET,),
    "openat": (errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EROFS),
    "write": (errno.ENOSPC, errno.EIO),
    "pwrite64": (errno.ENOSPC, errno.EIO),
}
OTHERS = (errno.EIO, errno.ENOSPC)
NETWORK = ("socket", "connect", "sendmsg", "sendto", "recvfrom", "recvmsg")
WRITES = ("write", "pwrite64", "writev", "pwritev")
OBJECTS = r"thread|oci:|oci-archive:|blob|manifest|registry|repository|127\.0\.0\.1|image|store|layout|meta\.json|digest|[0-9a-f]{64}|/"
numbers = itertools.count(1)


def finish(box, registry, job, repo, argv, is_counted=True):
    """The same command again, without a fault."""
    job.check(box, registry, repo, box.larder(*argv))
    if is_counted:
        job.check_traffic(box, registry, repo)
    box.check_repair()
    job.check(box, registry, repo, box.larder(*argv))


def kill(box, registry, job, repo, argv, n, _):
    result, calls = box.inject(argv, ["-c", job.classes or KILLED_AT, "-n", str(n)])
    what = calls[n - 1] if len(calls) >= n else "end"
    try:
        if len(calls) >= n and result.status not in (-9, 137):
            raise Wrong(f"was not killed: {result}")
        box.check_blobs()
        box.check_fsck_harmless()
        job.look(box, registry, repo)
        finish(box, registry, job, repo, argv)
    except Wrong as wrong:
        raise Wrong(f"killed at call {n}, {what}: {wrong}") from None


def check_failure(box, job, result, number):
    if result.status < 0 or result.status >= 124:
        raise Wrong(f"crashed: {result}")
    if result.status not in (1, *job.failed):
        raise Wrong(f"expected 1 or {job.failed}: {result}")
    if not re.search(OBJECTS, result.err):
        raise Wrong(f"the message names no object: {result}")
    if number and os.strerror(number) not in result.err:
        raise Wrong(f"the message does not say '{os.strerror(number)}': {result}")
    box.check_blobs()
    box.check_fsck_harmless()


def fail(box, registry, job, repo, argv, n, how):
    mode, number = how
    options = ["-c", THREADS if mode == "thread" else job.classes or FAILING, "-n", str(n)]
    options += ["-s", "-w"] if mode == "short" else ["-e", str(number)]
    options += ["-s"] if mode == "sticky" else []
    result, calls = box.inject(argv, options)
    what = calls[n - 1] if len(calls) >= n else "end"
    try:
        if result.status == 0 or len(calls) < n:
            box.notes["tolerant"] = True
            job.check(box, registry, repo, result)
            box.notes["tolerant"] = False
        else:
            name = what.split(" ", 1)[0]
            # libostree tells another errno than that of opening its lock.
            is_lost = name in NETWORK or what.endswith(" .lock")
            check_failure(box, job, result, 0 if is_lost else number)
            if mode == "short":
                raise Wrong(f"a short write is no error: {result}")
            job.look(box, registry, repo)
        # An answer that was lost acknowledged nothing: small bodies may be sent again.
        finish(box, registry, job, repo, argv, what.split(" ", 1)[0] not in NETWORK)
    except Wrong as wrong:
        raise Wrong(f"{mode} {errno.errorcode.get(number, '')} at call {n}, {what}: "
                    f"{wrong}") from None


def interrupt(box, registry, job, repo, argv, n, _):
    """While more of the layer is waited for: what came stays."""
    result, calls = box.inject(job.stalled(registry, argv),
                               ["-c", job.classes, "-n", str(n), "-i"])
    what = calls[n - 1] if len(calls) >= n else "end"
    try:
        if result.status != 130 or "cancel" not in result.err:
            raise Wrong(f"expected 130: {result}")
        if registry_jobs.sha256(registry.layer) in what and job.arrived(box, registry) == 0:
            raise Wrong("nothing of what came was kept")
        box.check_blobs()
        box.check_fsck_harmless()
        job.look(box, registry, repo)
        finish(box, registry, job, repo, argv)
    except Wrong as wrong:
        raise Wrong(f"interrupted at call {n}, {what}: {wrong}") from None


def starve(box, registry, job, repo, argv, n, is_sticky):
    env = {"LD_PRELOAD": SHIM, "FAILMALLOC_AT": str(n)}
    if is_sticky:
        env["FAILMALLOC_STICKY"] = "1"
    result = box.run([faultlib.LARDER, *argv], argv, env)
    try:
        if result.status == 0:
            box.notes["tolerant"] = True
            job.check(box, registry, repo, result)
            box.notes["tolerant"] = False
        else:
            is_abort = job.may_abort and result.status < 0 or is_ended_by_loader(result)
            # libostree takes a name for a bad one when PCRE has no memory to look at it.
            is_theirs = job.may_abort and "ostree repository" in result.err
            if not is_abort and not is_theirs and not any(words in result.err for words in WORDS):
                raise Wrong(f"does not say that memory is out: {result}")
            if result.status != 1 and not is_abort and not (is_theirs and result.status == 2):
                raise Wrong(f"expected 1: {result}")
            box.check_blobs()
            box.check_fsck_harmless()
            job.look(box, registry, repo)
        finish(box, registry, job, repo, argv)
    except Wrong as wrong:
        raise Wrong(f"allocation {n}{' and all after it' * is_sticky}: {wrong}") from None


# ---- which points -------------------------------------------------------------------------------


def kill_points(calls, chosen, everything):
    return [(n, None) for n in chosen]


def error_points(calls, chosen, everything):
    points = []
    for n in chosen:
        name = calls[n - 1].split(" ", 1)[0]
        errors = ERRORS.get(name, OTHERS)
        points += [(n, ("once", error)) for error in (
            errors if everything else (errors[n % len(errors)],))]
        if name not in NETWORK and (everything or n % 3 == 0 or name == "pwritev"):
            points.append((n, ("sticky", errno.ENOSPC)))
        if name in WRITES:
            points.append((n, ("short", 0)))
    return points


def interrupt_points(calls, chosen, everything):
    """Those that surely come before the answer stalls."""
    writes = [n for n, call in enumerate(calls, 1) if call.split(" ", 1)[0] in WRITES]
    return [(n, None) for n in chosen if n in writes[:len(writes) // 2]]


def thread_points(calls, chosen, everything):
    return [(n, ("thread", errno.EAGAIN)) for n in chosen]


def memory_points(calls, chosen, everything):
    return [(n, is_sticky) for n in chosen for is_sticky in
            ((False, True) if everything else (bool(n % 2),))]


def calls_of(classes):
    def count(box, registry, job, repo, argv):
        wanted = classes if classes == THREADS else job.classes or classes
        result, calls = box.inject(argv, ["-c", wanted])
        job.check(box, registry, repo, result)
        return calls
    return count


def allocations(box, registry, job, repo, argv):
    report = os.path.join(box.path, "allocations")
    result = box.run([faultlib.LARDER, *argv], argv,
                     {"LD_PRELOAD": SHIM, "FAILMALLOC_REPORT": report})
    job.check(box, registry, repo, result)
    with open(report, encoding="ascii") as file:
        return range(int(file.read().split()[1]))


KINDS = {
    "kill": (kill, calls_of(KILLED_AT), kill_points),
    "error": (fail, calls_of(FAILING), error_points),
    "memory": (starve, allocations, memory_points),
    "thread": (fail, calls_of(THREADS), thread_points),
    "interrupt": (interrupt, calls_of(KILLED_AT), interrupt_points),
}


def in_a_box(scratch, registry, job, function, *arguments):
    repo = f"{job.name}{next(numbers)}"
    with scratch.box() as box:
        box.env["LARDER_NET_RETRIES"] = "1"
        job.prepare(box, registry, repo)
        box.notes["struck"] = function in (kill, fail, starve, interrupt)
        return function(box, registry, job, repo, job.argv(box, registry, repo), *arguments)


def run(tap, scratch, registry, kind, job, number, args):
    strike, count, points_of = KINDS[kind]
    title = f"{job.name}: {kind}"
    if args.only and args.only not in title:
        return
    try:
        calls = in_a_box(scratch, registry, job, count)
    except Exception as wrong:  # a broken job is a failed one
        tap.report(False, f"{title}: without a fault", [faultlib.told(wrong)])
        return
    aimed = [n for n, call in enumerate(calls, 1) if kind == "memory" or job.is_aimed(call)]
    chosen = [args.at] if args.at else [aimed[i - 1] for i in faultlib.choose(
        len(aimed), args.points * job.points_factor, number)]

    def one(point):
        try:
            in_a_box(scratch, registry, job, strike, *point)
        except Exception as wrong:  # a broken point is a failed one
            return faultlib.told(wrong)
        return None
    points = points_of(calls, chosen, args.points == 0 or bool(args.at))
    total, failures = faultlib.run_points(points, one, args.jobs)
    tap.report(not failures, f"{title}: {total} points, {len(calls)} places",
               [f"{len(failures)} failed; again: --only '{title}' --at N"] * bool(failures) +
               [text for _, text in failures[:args.show]])


def main():
    args = faultlib.arguments(__doc__, points=8)
    faultlib.need_inject()
    tap = Tap()
    begin = time.monotonic()
    without = ("memory",) if faultlib.is_sanitized() else ()
    with Scratch() as scratch, Registry(scratch) as registry:
        with scratch.box() as box:
            registry_jobs.fill(registry, box, scratch.path)
        all_kinds = [(job, kind) for job in registry_jobs.all_jobs() for kind in job.kinds
                     if kind not in without]
        for number, (job, kind) in enumerate(all_kinds):
            run(tap, scratch, registry, kind, job, number, args)
    print(f"# {faultlib.elapsed(begin)}")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

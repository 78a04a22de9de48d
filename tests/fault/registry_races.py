#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many commands at once on one registry, one store, one layout, one file of credentials; and
commands that are interrupted, or have nobody left to tell their result."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import faultlib
import registry_jobs
import update_jobs
from faultlib import LARDER, Scratch, Tap, Wrong
from publish_faults import Registry, compact, finish, start
from registry_jobs import layout_images, put_blob, put_manifest, source_of
from update_jobs import V1, V2, V3

COPIES = 16
FACTOR = 8 if faultlib.is_sanitized() else 1


def together(box, commands, statuses=(0,)):
    running = [start(box, *command) for command in commands]
    for process in running:
        out, _ = process.communicate(timeout=faultlib.SECONDS * FACTOR)
        if process.returncode not in statuses:
            raise Wrong(f"status {process.returncode} of {process.args}: "
                        f"{out.decode(errors='replace')}")


def copy_beside_gc(box, *argv):
    """What nothing refers to yet, gc may take away: then a copy says so, and is to be run again."""
    for _ in range(100):
        result = box.larder("copy", "--force", *argv)
        if result.status != 7 or "removed by somebody before the ref was made" not in result.err:
            break
    if result.status != 0:
        raise Wrong(str(result))


def one_store(scratch, registry):
    with scratch.box() as box:
        together(box, [["copy", source_of(registry), "store:app"]] * COPIES)
        job = registry_jobs.PullStore()
        job.check(box, registry, "", box.larder(*job.argv(box, registry, "")))
        box.check_repair()
    return f"{COPIES} copies"


def one_layout(scratch, registry):
    with scratch.box() as box:
        together(box, [["copy", source_of(registry), "oci:layout:app"]] * COPIES)
        job = registry_jobs.PullLayout()
        job.check(box, registry, "", box.larder(*job.argv(box, registry, "")))
        together(box, [["copy", source_of(registry), f"oci:layout:t{n}"] for n in range(COPIES)])
        found = layout_images(os.path.join(box.path, "layout"))
        if found != {"app": registry.digest, **{f"t{n}": registry.digest for n in range(COPIES)}}:
            raise Wrong(f"the layout has {found}")
    return f"{COPIES} copies of one name, {COPIES} names"


def one_tag(scratch, registry):
    with scratch.box() as box:
        together(box, [["copy", f"oci:{registry.layout}:app",
                        f"docker://{registry.host}/racing:1"]] * COPIES)
        registry_jobs.check_complete(registry, "racing")
    return f"{COPIES} pushes"


def beside_others(scratch, registry):
    """A copy while the store is collected, checked and read again."""
    rounds = 8
    with scratch.box() as box:
        box.good("copy", source_of(registry), "store:app")
        stop = threading.Event()
        wrong = []

        def keep_doing(*command):
            while not stop.is_set():
                result = box.larder(*command)
                if result.status != 0:
                    wrong.append(str(result))
        others = [threading.Thread(target=keep_doing, args=command) for command in (
            ("gc", "--keep-for", "0"), ("fsck",), ("scrub", "--foreground", "--older-than", "0"))]
        for thread in others:
            thread.start()
        try:
            for number in range(rounds):
                for to in ("store:app", f"store:other{number}"):
                    source = source_of(registry, "other" if "other" in to else "source")
                    copy_beside_gc(box, source, to)
        finally:
            stop.set()
            for thread in others:
                thread.join()
        if wrong:
            raise Wrong("\n".join(wrong[:3]))
        box.check_repair()
        for number in range(rounds):
            box.good("copy", f"store:other{number}", f"oci:out:{number}")
        found = layout_images(os.path.join(box.path, "out"))
        if set(found.values()) != {registry.other}:
            raise Wrong(f"the store lost something: {found}")
    return f"{rounds} rounds"


def logins(scratch, registry):
    """Each host's credentials, whoever else logs in, or out, at that moment."""
    count = 12
    with scratch.box() as box:
        path = os.path.join(box.path, "auth.json")
        hosts = [f"{registry.host}/team{n}" for n in range(count)]

        def log_in(host):
            process = subprocess.Popen(
                [LARDER, "login", "--authfile", path, "-u", "user", "--password-stdin", host],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=box.env, cwd=box.path)
            process.stdin.write(b"secret")
            process.stdin.close()
            process.stdin = None
            return process
        running = [log_in(host) for host in hosts]
        for process in running:
            finish(process)
        with open(path, encoding="utf-8") as file:
            there = set(json.load(file)["auths"])
        if there != set(hosts):
            raise Wrong(f"lost: {set(hosts) - there}")
        running = [start(box, "logout", "--authfile", path, host) for host in hosts[1:]]
        for process in running:
            finish(process)
        with open(path, encoding="utf-8") as file:
            there = set(json.load(file)["auths"])
        if there != {hosts[0]}:
            raise Wrong(f"after logging out of the others there is {there}")
        if os.listdir(box.path).count("auth.json") != 1 or \
                [name for name in os.listdir(box.path) if name.startswith((".tmp", "auth.json."))]:
            raise Wrong(f"left behind: {os.listdir(box.path)}")
    return f"{count} at once"


# ---- interrupted --------------------------------------------------------------------------------

SIZE = 300 << 20
PART = 8 << 20


def large(registry, scratch):
    """A layer of zeros that comes slowly at its end."""
    data = bytes(SIZE)
    layer = put_blob(registry, "large", data, "application/octet-stream", "disk.raw")
    put_manifest(registry, "large", "1", [layer])
    del data
    return layer["digest"]


def peak_kib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def interrupt(box, registry, digest, number, argv):
    """It waits for more bytes when the signal comes, and would for hours."""
    registry.admin("PUT", "/_control", compact({"rules": [
        {"match": f"GET .*{digest}", "stall_after": SIZE - PART, "times": 1}]}))
    box.env["LARDER_NET_STALL_TIMEOUT"] = "2h"
    process = start(box, *argv)
    end = time.monotonic() + faultlib.SECONDS * FACTOR
    while (size := largest_file(box)) < SIZE - 2 * PART:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise Wrong(f"status {process.poll()} with {size >> 20} MiB: "
                        f"{process.communicate()[0].decode(errors='replace')}")
        time.sleep(0.05)
    peak = peak_kib(process.pid)
    begin = time.monotonic()
    process.send_signal(number)
    try:
        out, _ = process.communicate(timeout=faultlib.SECONDS * FACTOR)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Wrong(f"signal {number} does not end it: {process.communicate()[0]}") from None
    took = time.monotonic() - begin
    registry.admin("PUT", "/_control", b"{}")
    del box.env["LARDER_NET_STALL_TIMEOUT"]
    if process.returncode in (0, -number):
        raise Wrong(f"status {process.returncode} after {took:.1f} s: {out.decode()}")
    if peak > 20 << 10 and not faultlib.is_sanitized():
        raise Wrong(f"{peak} KiB of memory")
    return took, peak


def largest_file(box):
    sizes = [0]
    for place, _, names in os.walk(box.path):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(place, name)).st_size)
            except OSError:
                pass
    return max(sizes)


def interrupted(scratch, registry):
    digest = large(registry, scratch)
    notes = []
    for number, argv in ((signal.SIGINT, ["copy", source_of(registry, "large"), "oci:layout:1"]),
                         (signal.SIGTERM, ["copy", source_of(registry, "large"), "store:large"]),
                         (signal.SIGINT, ["image", "get", f"oras://{registry.host}/large:1"])):
        with scratch.box() as box:
            took, peak = interrupt(box, registry, digest, number, argv)
            box.check_fsck_harmless()
            before = sum(int(line.split()[3]) for line in registry.lines("large"))
            result = box.larder(*argv)
            if result.status != 0:
                raise Wrong(f"again: {result}")
            sent = sum(int(line.split()[3]) for line in registry.lines("large")) - before
            notes.append(f"{argv[0]}: {took * 1000:.0f} ms, {peak >> 10} MiB, "
                         f"{sent >> 20} MiB again")
            if sent > SIZE // 2:
                raise Wrong(f"the second run fetched {sent >> 20} of {SIZE >> 20} MiB")
    return "; ".join(notes)


def nobody_listens(scratch, registry):
    """stdout closed, full, or a pipe whose reader has gone."""
    commands = [["inspect", source_of(registry)], ["list-tags", source_of(registry)[:-2]],
                ["--json", "copy", source_of(registry), "oci:out:1"],
                ["diff", source_of(registry), source_of(registry, "other")]]
    with scratch.box() as box:
        for command in commands:
            with open("/dev/full", "wb") as full:
                done = subprocess.run([LARDER, *command], stdout=full, stderr=subprocess.PIPE,
                                      env=box.env, cwd=box.path, check=False, timeout=60 * FACTOR)
            if done.returncode != 1 or not done.stderr:
                raise Wrong(f"{command}: status {done.returncode} when stdout is full")
            read, write = os.pipe()
            os.close(read)
            done = subprocess.run([LARDER, *command], stdout=write, stderr=subprocess.PIPE,
                                  env=box.env, cwd=box.path, check=False, timeout=60 * FACTOR,
                                  restore_signals=True)
            os.close(write)
            if done.returncode not in (-signal.SIGPIPE, 1) or b"pipe" in done.stderr:
                raise Wrong(f"{command}: status {done.returncode}, {done.stderr} without a reader")
            done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", LARDER, *command],
                                  stderr=subprocess.PIPE, env=box.env, cwd=box.path, check=False,
                                  timeout=60 * FACTOR)
            if done.returncode not in (0, 1):
                raise Wrong(f"{command}: status {done.returncode} with a closed stdout")
    return f"{len(commands)} commands"


def fetch_beside_check(scratch, registry):
    """What is found while something else is fetched is not lost, and does not change what is."""
    job = update_jobs.Fetch(update_jobs.Store)
    repo = "beside-check"
    with scratch.box() as box:
        job.prepare(box, registry, repo)
        V2.push(registry, repo)
        own = update_jobs.digest_of(V2.layers[1])
        registry.admin("PUT", "/_control", compact(
            {"rules": [{"match": f"GET .*{repo}/blobs/{own}", "hold": True, "times": 1}]}))
        fetch = start(box, *job.argv(box, registry, repo))
        try:
            registry.wait_held(repo, fetch)
            V3.push(registry, repo)
            box.good(*job.call("check", registry, repo))
        finally:
            registry.release()
            out, _ = fetch.communicate(timeout=faultlib.SECONDS * FACTOR)
            registry.admin("PUT", "/_control", b"{}")
        if fetch.returncode != 0 or V2.digest.encode() not in out:
            raise Wrong(f"status {fetch.returncode}: {out}")
        if not job.is_there(box, registry, repo) or job.recorded(box, registry, repo) != "3":
            raise Wrong(f"{job.recorded(box, registry, repo)} is recorded, expected 3")


UPDATE_SECONDS = 5
# By status: 3 there is nothing to fetch, 7 gc was faster than a copy.
# 7 of a fetch: the name was moved by somebody meanwhile.
UPDATES = {"check": (0,), "fetch": (0, 3, 7), "clear": (0,), "show": (0,), "gc": (0,),
           "copy": (0, 7), "fsck": (0,), "list": (0,), "layout": (0, 3, 7)}


def update_commands(registry, repo, ref, random):
    digest = random.choice((V1, V2, V3)).digest
    return {"check": ["--json", "update", "check", ref], "fetch": ["update", "fetch", ref],
            "clear": ["update", "clear", ref], "show": ["--json", "update", "show", ref],
            "gc": ["gc", "--keep-for", "0"], "list": ["--json", "update", "list"],
            "copy": ["copy", f"docker://{registry.host}/{repo}@{digest}", f"store:{ref}"],
            "fsck": ["fsck"],
            "layout": ["update", "fetch", "--to", f"oci:layout{random.randrange(3)}:a", ref]}


def update_storm(box, registry, repo, ref, seed):
    random = Random(seed)
    end = time.monotonic() + UPDATE_SECONDS
    count = 0
    while time.monotonic() < end:
        verb = random.choice([*UPDATES, "move"])
        if verb == "move":
            registry.put(f"/_manifest/{repo}/1", random.choice((V1, V2, V3)).manifest,
                         update_jobs.MANIFEST)
            continue
        result = box.larder(*update_commands(registry, repo, ref, random)[verb])
        count += 1
        if result.status not in UPDATES[verb]:
            raise Wrong(str(result))
        if verb == "show":
            seen = json.loads(result.out)
            if seen.get("update", {}).get("digest") == seen["current"]["digest"]:
                raise Wrong(f"an update to what is there: {seen}")
    return count


def updates(scratch, registry):
    """All commands of updates at once, while the tag and the base move and gc takes all it may."""
    repo = "updates"
    with scratch.box() as box:
        ref = f"{registry.host}/{repo}:1"
        for image in (V3, V2, V1):
            image.push(registry, repo)
        update_jobs.Store.prepare(box, registry, repo)
        with ThreadPoolExecutor(6) as pool:
            counts = list(pool.map(
                lambda seed: update_storm(box, registry, repo, ref, seed), range(6)))
        box.check_blobs()
        box.check_repair()
        box.good("update", "check", ref)
        box.good("update", "fetch", ref)
    return f"{sum(counts)} commands"


def base_moves(scratch, registry):
    """The base is read without a lock: one that goes while it is read is no damage."""
    repo = "moving"
    with scratch.box() as box:
        ref = f"{registry.host}/{repo}:1"
        for image in (V2, V1):
            image.push(registry, repo)
        update_jobs.Store.prepare(box, registry, repo)
        for image in (V1, V2):
            box.good("copy", f"docker://{registry.host}/{repo}@{image.digest}",
                     f"oci:layout:{image.digest[7:17]}")
        end = time.monotonic() + UPDATE_SECONDS

        def show(_):
            count = 0
            while time.monotonic() < end:
                box.good("update", "show", ref)
                count += 1
            return count

        def move(_):
            while time.monotonic() < end:
                for image in (V1, V2):
                    box.larder("copy", f"oci:layout:{image.digest[7:17]}", f"store:{ref}")
                    box.good("gc", "--keep-for", "0")

        with ThreadPoolExecutor(12) as pool:
            movers = [pool.submit(move, i) for i in range(2)]
            counts = list(pool.map(show, range(10)))
            for mover in movers:
                mover.result()
    return f"{sum(counts)} looks"


CASES = [one_store, one_layout, one_tag, beside_others, logins, interrupted, nobody_listens,
         fetch_beside_check, updates, base_moves]


def main():
    args = faultlib.arguments(__doc__, points=0)
    # A shell's background job has it ignored, which larder would respect.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    tap = Tap()
    with Scratch() as scratch, Registry(scratch) as registry:
        with scratch.box() as box:
            registry_jobs.fill(registry, box, scratch.path)
        for function in CASES:
            if not args.only or args.only in function.__name__:
                tap.case(function.__name__.replace("_", " "), function, scratch, registry)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

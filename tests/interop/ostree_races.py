#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One commit's metadata in an ostree repository under many hands: checks of larder, libostree's own
readers and writers, and checks that are killed."""
import json
import os
import re
import shutil
import subprocess
import threading
import time

import interop
from interop import LARDER, case, equal, run, skip
from images import Layout
from ostree_rig import (CACHED, PYTHON, Repo, digest, has_introspection, has_updates, image,
                        larder, make_tree, told)

interop.need("ostree")
why = has_updates() or (None if has_introspection() else "no gir1.2-ostree-1.0 here")
if why:
    print(f"1..0 # SKIP {why}")
    raise SystemExit(0)

WRITERS, AT_ONCE, READERS = 480, 16, 3
FOREIGN = "org.example.count"
layout = Layout(os.path.join(interop.work, "layout"))
REFERENCE = f"oci:{layout.path}:stable"
DOCUMENTS = {v: image(v, [("base", 1000), (f"of {v}", 100 * int(v))],
                      labels={"padding": v * 20000}) for v in "123"}
DIGESTS = {v: digest(manifest) for v, (manifest, _) in DOCUMENTS.items()}
ENTRIES = {}
for _version, (_manifest, _config) in DOCUMENTS.items():
    layout.blob(_config.encode(), "")
    layout.entries = []
    layout.document(json.loads(_manifest), "stable")
    ENTRIES[_version] = json.dumps({"schemaVersion": 2, "manifests": layout.entries})

# Reads until its input ends; a record is whole when its parts hash to what they say.
READER = """
import hashlib, json, select, sys
import gi
gi.require_version("OSTree", "1.0")
from gi.repository import Gio, OSTree
repo = OSTree.Repo.new(Gio.File.new_for_path(sys.argv[1]))
repo.open(None)
sha = lambda text: "sha256:" + hashlib.sha256(text.encode()).hexdigest()
seen, reads = {}, 0
while reads < 20 or not select.select([sys.stdin], [], [], 0)[0]:
    reads += 1
    _, meta = repo.read_commit_detached_metadata(sys.argv[2], None)
    meta = meta.unpack() if meta else {}
    names = [n for n in ("manifest-digest", "manifest", "config") if sys.argv[3] + n in meta]
    if not names:
        seen["none"] = seen.get("none", 0) + 1
        continue
    value, manifest, config = (meta[sys.argv[3] + n] for n in ("manifest-digest", "manifest",
                                                               "config"))
    assert sha(manifest) == value and sha(config) == json.loads(manifest)["config"]["digest"], meta
    seen[value] = seen.get(value, 0) + 1
print(json.dumps(seen))
"""
# Adds one to a key of its own, under the repository's lock, so often.
COUNTER = """
import sys
import gi
gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree
repo = OSTree.Repo.new(Gio.File.new_for_path(sys.argv[1]))
repo.open(None)
for _ in range(int(sys.argv[4])):
    repo.lock_push(OSTree.RepoLockType.EXCLUSIVE, None)
    _, old = repo.read_commit_detached_metadata(sys.argv[2], None)
    new = GLib.VariantDict.new(old)
    count = old.lookup_value(sys.argv[3], None) if old else None
    new.insert_value(sys.argv[3], GLib.Variant("t", count.get_uint64() + 1 if count else 1))
    repo.write_commit_detached_metadata(sys.argv[2], new.end(), None)
    repo.lock_pop(OSTree.RepoLockType.EXCLUSIVE, None)
"""


def offer(version):
    """Moves the tag at one instant, while others read it."""
    path = os.path.join(layout.path, "index.json")
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(ENTRIES[version])
    os.replace(path + ".new", path)


def repo_of(name):
    repo = Repo(name)
    return repo, repo.image(REFERENCE, DOCUMENTS["1"], make_tree(name + ".tree", "1"))


def whole(repo, commit):
    """The version of the update that is kept, None for none; it is all there."""
    value, manifest, config = repo.cached(commit)
    if value is None:
        equal((manifest, config), (None, None))
        return None
    version, = [v for v in DIGESTS if DIGESTS[v] == value]
    equal((manifest, config), DOCUMENTS[version])
    return version


def checks(repo, number):
    """So many checks, some at a time."""
    running, started, failed = [], 0, []
    while started < number or running:
        while started < number and len(running) < AT_ONCE:
            running.append(subprocess.Popen(
                [LARDER, "update", "check", "--quiet", "--ostree-repo", repo.path, REFERENCE],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
            started += 1
        process = running.pop(0)
        _, problem = process.communicate(timeout=interop.PATIENCE)
        if process.returncode:
            failed.append((process.returncode, problem))
    equal(failed, [])


def many():
    repo, commit = repo_of("many")
    offer("2")
    readers = [subprocess.Popen([PYTHON, "-c", READER, repo.path, commit, CACHED],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for _ in range(READERS)]
    counter = subprocess.Popen([PYTHON, "-c", COUNTER, repo.path, commit, FOREIGN, "100"])
    ended = threading.Event()
    shown, odd = [], []

    def move():
        for i in range(10**9):
            if ended.wait(0.01):
                return
            offer("123"[i % 3])

    def watch():
        try:
            show()
        except Exception as problem:  # a thread that dies must not pass for one that is through
            odd.append(problem)

    def show():
        while not ended.is_set() or len(shown) <= 10:
            # Not by larder(), which asks twice: the second answer may be of another record.
            answer = run(LARDER, "update", "show", "--json", "--ostree-repo", repo.path, REFERENCE)
            shown.append(json.loads(answer.stdout).get("update", {}).get("digest"))
            whole_text = run("ostree", f"--repo={repo.path}", "show",
                             f"--print-detached-metadata-key={CACHED}manifest-digest", commit,
                             status=None)
            assert whole_text.returncode == 0 or "metadata" in whole_text.stderr, whole_text.stderr

    threads = [threading.Thread(target=f) for f in (move, watch)]
    for thread in threads:
        thread.start()
    try:
        with case(f"{WRITERS} checks, and readers of larder and libostree: no torn record"):
            checks(repo, WRITERS)
            ended.set()
            for thread in threads:
                thread.join()
            equal(odd, [])
            seen = [json.loads(reader.communicate(b"\n", timeout=interop.PATIENCE)[0])
                    for reader in readers]
            equal([reader.returncode for reader in readers], [0] * READERS)
            equal({d for s in seen for d in s} <= {*DIGESTS.values(), "none"}, True, str(seen))
            equal(sum(len(s) for s in seen) > READERS, True, str(seen))
            equal(len(shown) > 10 and set(shown) <= {None, *DIGESTS.values()}, True)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for process in (*readers, counter):
            if process.poll() is None and process is not counter:
                process.kill()
            process.wait(interop.PATIENCE)
    with case("no writer's keys were lost: all take the repository's lock"):
        equal(counter.returncode, 0)
        equal(repo.detached(commit)[FOREIGN], ["t", 100])
        offer("3")
        equal(told("check", repo, REFERENCE)["state"], "available")
        equal(whole(repo, commit), "3")
        repo.ostree("fsck")


def quiet():
    with case("show opens no socket, takes no lock and opens nothing for writing"):
        repo, _ = repo_of("quiet")
        offer("2")
        larder("update", "check", "--ostree-repo", repo.path, REFERENCE)
        log = os.path.join(interop.work, "trace")
        for place in (["--ostree-repo", repo.path, REFERENCE], ["--ostree-repo", repo.path]):
            verb = "show" if len(place) == 3 else "list"
            run("strace", "-f", "-qq", "-o", log, "-e", "trace=%network,openat,flock,fcntl,mkdirat,"
                "linkat,renameat,unlinkat", LARDER, "update", verb, *place)
            with open(log, encoding="utf-8") as file:
                lines = file.read().splitlines()
            equal([line for line in lines if re.search(
                r"socket|connect|LOCK_|SETLK|WRLCK|O_WRONLY|O_RDWR|O_CREAT|mkdirat|linkat|renameat",
                line) and "/dev/null" not in line and "EEXIST" not in line], [])


# ---- killed ----

CALLS = ("openat,write,writev,pwrite64,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdirat,"
         "fsync,fdatasync,syncfs,fchmod,fchown,ftruncate,fallocate,utimensat,flock,fcntl,"
         "fsetxattr,close")


def strace(*argv):
    return ["strace", "-f", "-qq", *argv, LARDER, "update", "check", "--quiet", "--ostree-repo"]


def points(repo):
    """[(system call, how often it was called by then)] from the first that can change anything."""
    log = os.path.join(interop.work, "trace")
    run(*strace("-e", f"trace={CALLS}", "-o", log), repo.path, REFERENCE)
    with open(log, encoding="utf-8") as file:
        lines = [m.groups() for m in map(re.compile(r"(\d+) +(\w+)\((.*)").match, file) if m]
    counts, found, is_late = {}, [], False
    for thread, call, arguments in lines:
        counts[thread, call] = counts.get((thread, call), 0) + 1
        is_late = is_late or re.search(r"O_TMPFILE|O_CREAT|LOCK_EX|SETLK|WRLCK", arguments)
        # An injection counts each call of each thread by itself; only one thread writes.
        if is_late and thread == lines[0][0]:
            found.append((call, counts[thread, call]))
    return found


def killed(title, before, after):
    """A check that changes the record, killed at each system call."""
    with case(title):
        repo, commit = repo_of(f"killed{before}{after}")
        repo.set_detached(commit, org__example__key=("s", "theirs"))
        offer(before)
        larder("update", "check", "--ostree-repo", repo.path, REFERENCE)
        shutil.copy(repo.commitmeta(commit), "saved")
        saved = whole(repo, commit)
        offer(after)
        at = points(repo)
        expected = whole(repo, commit)
        equal(saved != expected, True)
        outcomes, missed = {saved: 0, expected: 0}, 0
        for call, count in at:
            shutil.copy("saved", "saved.new")
            os.replace("saved.new", repo.commitmeta(commit))
            ended = run(*strace("-o", "/dev/null", "-e", f"trace={CALLS}", "-e",
                                f"inject={call}:signal=SIGKILL:when={count}"),
                        repo.path, REFERENCE, status=None)
            now = whole(repo, commit)
            # Waking a thread that sleeps already takes a call less: then this one was not reached.
            equal(ended.returncode in (-9, 137) or ended.returncode == 0 and now == expected, True,
                  f"{call} {count}: {ended.returncode}, {ended.stderr}, {now}")
            missed += ended.returncode == 0
            outcomes[now] += 1
            equal(repo.detached(commit)["org.example.key"], ["s", "theirs"])
            equal(told("show", repo, REFERENCE).get("update", {}).get("version"), now)
        equal(min(outcomes.values()) > 0, True, str(outcomes))
        print(f"# killed at {len(at) - missed} of {len(at)} calls: {outcomes}", flush=True)
        equal(missed <= len(at) // 2, True, "so many calls were not reached")
        # Whoever died held the lock, and left nothing behind.
        equal([n for n in os.listdir(os.path.join(repo.path, "tmp")) if n != "cache"], [])
        larder("update", "check", "--ostree-repo", repo.path, REFERENCE)
        repo.ostree("fsck")


started = time.monotonic()
many()
print(f"# {time.monotonic() - started:.1f} s", flush=True)
def can_trace():
    return bool(shutil.which("strace")) and run("strace", "-f", "-o", "/dev/null", "true",
                                                status=None).returncode == 0


if can_trace():
    quiet()
    killed("killed at any call, a first record: none or all of it", "1", "2")
    killed("killed at any call, another record: the old or the new one", "2", "3")
    killed("killed at any call, a record that goes: all of it or none", "3", "1")
else:
    skip("killed at any call", "no strace here, or it may not trace")
interop.done()

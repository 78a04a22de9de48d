#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real QEMU holds an image of the store while larder tries everything that removes images.

Whoever holds it is named, keeps reading the same bytes and is never ended; whoever asks meanwhile
gets a good image; the space comes back with the first gc after the holder ended.
"""
import json
import os
import re

import interop
from interop import Nbd, Qemu, Store, case, convert, equal, flip, make_disk, run, sha256

interop.need("qemu-system-x86_64", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon")

SOURCE = os.path.join(interop.work, "disk.qcow2")
NEWER = os.path.join(interop.work, "newer.qcow2")
make_disk(SOURCE, 1)
make_disk(NEWER, 2)
CONTENT = convert(SOURCE, os.path.join(interop.work, "disk.raw"))
DIGEST, NEWER_DIGEST = sha256(SOURCE), sha256(NEWER)


# ---- who holds ----

class ReadOnlyDisk:
    title = "a guest's read-only disk"
    says = [r"QEMU process, reading", r"process {pid} \(qemu-system"]
    needs_path = False
    options = ""

    def __init__(self, store, path):
        self.start(store, path)

    def start(self, _store, path):
        self.held = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                         f"file.filename={path}{self.options}")

    def check(self):
        self.held.check(CONTENT)

    def pattern(self):
        return [p.format(pid=self.held.pid) for p in self.says]

    def stop(self):
        self.held.stop()

    def forget(self):
        """Removes what is left of the holder when its process has ended."""


class SnapshotDisk(ReadOnlyDisk):
    title = "a guest's disk with snapshot=on"

    def start(self, _store, path):
        self.held = Qemu(None, drive=f"file={path},format=qcow2,snapshot=on")


class UnlockedDisk(ReadOnlyDisk):
    title = "a guest's disk with locking=off"
    says = [r"process {pid} \(qemu-system"]
    options = ",file.locking=off"


class StorageDaemon(ReadOnlyDisk):
    title = "qemu-storage-daemon"
    says = [r"QEMU process, reading", r"process {pid} \(qemu-storage"]

    def start(self, _store, path):
        self.held = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                         f"file.filename={path}", program="qemu-storage-daemon")


class NbdServer(ReadOnlyDisk):
    title = "qemu-nbd"
    says = [r"QEMU process, reading", r"process {pid} \(qemu-nbd"]

    def start(self, _store, path):
        self.held = Nbd(path, "qcow2")


class RunningOverlay(ReadOnlyDisk):
    title = "a guest on an overlay"
    says = [r"QEMU process, reading", r"process {pid} \(qemu-system", r"guest\.qcow2"]
    needs_path = True

    def start(self, store, _path):
        self.file = os.path.join(os.path.dirname(store.path), "guest.qcow2")
        store.larder("image", "overlay", "disk", self.file)
        self.held = Qemu(f"driver=qcow2,node-name=disk,file.driver=file,file.filename={self.file}")

    def forget(self):
        os.unlink(self.file)


class OverlayAtRest(ReadOnlyDisk):
    title = "an overlay at rest in a guest directory"
    says = [r"overlay {file}"]
    needs_path = True

    def start(self, store, path):
        self.file = os.path.join(os.path.dirname(store.path), "guests", "vm", "rest.qcow2")
        os.makedirs(os.path.dirname(self.file))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, self.file)

    def check(self):
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", CONTENT, self.file)

    def pattern(self):
        return [p.format(file=re.escape(self.file)) for p in self.says]

    def stop(self):
        pass

    def forget(self):
        os.unlink(self.file)


class LeasedOverlay(OverlayAtRest):
    title = "an overlay at rest that larder made"
    says = [r"{file}"]

    def start(self, store, _path):
        self.file = os.path.join(os.path.dirname(store.path), "leased.qcow2")
        store.larder("image", "overlay", "disk", self.file)


# ---- what is tried meanwhile ----

class Round:
    """A store with the image, published by a checksum file, and one holder of it."""

    number = 0

    def __init__(self, holder):
        Round.number += 1
        top = os.path.join(interop.work, f"round{Round.number}")
        self.store = Store(f"round{Round.number}", LARDER_IMAGE_GUEST_DIRS=os.path.join(top, "guests"))
        self.source = os.path.join(top, "up", "disk.qcow2")
        os.mkdir(os.path.dirname(self.source))
        self.publish(SOURCE, DIGEST)
        self.store.larder("image", "add", "disk", self.source, "--refresh", "always")
        self.path = self.store.get("disk")
        equal(sha256(self.path), DIGEST)
        self.holder = holder(self.store, self.path)
        self.inode = os.stat(self.path).st_ino

    def publish(self, image, digest):
        run("cp", "--sparse=always", image, self.source)
        with open(os.path.join(os.path.dirname(self.source), "SHA256SUMS"), "w") as f:
            f.write(f"{digest}  disk.qcow2\n")

    def undisturbed(self, what):
        try:
            self.holder.check()
            assert not self.holder.needs_path or os.path.exists(self.path), "its path vanished"
        except AssertionError as problem:
            raise AssertionError(f"after {what}: {problem}") from None

    def get_good(self, digest):
        path = self.store.get("disk")
        equal(sha256(path), digest, f"content of {path}")
        equal(os.path.basename(path), digest, "path")
        return path

    def end(self):
        """The holder ends: gc gets everything back that its files do not need."""
        self.holder.stop()
        if self.holder.needs_path and os.path.exists(self.holder.file):
            self.store.gc()
            assert os.path.exists(self.path), "gc took the base of an overlay at rest"
            self.holder.forget()
        self.store.gc()
        equal(self.store.files(), [], "left by gc after the holder ended")
        self.store.larder("fsck")


def named(r):
    holders = r.store.holders("disk")
    for pattern in r.holder.pattern():
        assert re.search(pattern, holders), f"no {pattern!r} in {holders!r}"
    r.undisturbed("show")
    equal(r.store.holders("disk") != "", True, "still held")
    r.holder.stop()
    r.holder.forget()
    equal(r.store.holders("disk"), "", "holders after the end")
    r.end()


def collected(r):
    out = r.store.gc()
    r.undisturbed("gc")
    equal(os.stat(r.path).st_ino, r.inode, "file at the path after gc")
    out = r.store.larder("gc", "--keep-for", "0", "--json").stdout
    r.undisturbed("a second gc")
    assert os.path.exists(r.path), out
    equal(r.get_good(DIGEST), r.path)
    r.end()


def scrubbed(r):
    r.store.larder("scrub", "--older-than", "0", "--foreground")
    r.store.larder("image", "verify", "--deep", "--fresh", "disk")
    r.undisturbed("scrub and verify")
    equal(os.stat(r.path).st_ino, r.inode, "file at the path after scrub")
    r.end()


def invalidated(r):
    out = r.store.larder("image", "invalidate", "disk")
    r.undisturbed("invalidate")
    r.store.gc()
    r.undisturbed("gc of the invalidated")
    assert "disk" in out.stdout + out.stderr, out
    r.get_good(DIGEST)
    r.undisturbed("get")
    r.store.gc()
    r.undisturbed("gc after get")
    r.get_good(DIGEST)
    r.end()


def outdated(r):
    r.publish(NEWER, NEWER_DIGEST)
    newer = r.get_good(NEWER_DIGEST)
    assert newer != r.path and os.path.exists(r.path), "the old one is not beside the new"
    r.undisturbed("get of a newer one")
    r.store.larder("image", "invalidate", "--mismatched")
    r.store.larder("image", "invalidate", f"sha256:{DIGEST}")
    r.undisturbed("invalidate of the old one")
    r.store.gc()
    r.undisturbed("gc")
    r.get_good(NEWER_DIGEST)
    r.end()


def corrupt_found_by_get(r):
    flip(r.path, interop.SPARE_OFFSET)
    r.undisturbed("a bit flipped where nobody looks")
    warning = r.store.larder("image", "get", "disk").stderr
    for pattern in r.holder.pattern():
        assert re.search(pattern, warning), f"no {pattern!r} in {warning!r}"
    r.get_good(DIGEST)
    r.undisturbed("get of the corrupt")
    r.store.gc()
    r.undisturbed("gc")
    r.get_good(DIGEST)
    r.end()


def corrupt_found_by_verify(r):
    flip(r.path, interop.SPARE_OFFSET)
    said = r.store.larder("image", "verify", "--deep", "disk", status=5).stdout
    for pattern in r.holder.pattern():
        assert re.search(pattern, said), f"no {pattern!r} in {said!r}"
    r.undisturbed("verify of the corrupt")
    r.get_good(DIGEST)
    r.undisturbed("get")
    r.end()


def corrupt_found_by_scrub(r):
    flip(r.path, interop.SPARE_OFFSET)
    r.store.larder("scrub", "--older-than", "0", "--foreground", status=5)
    r.undisturbed("scrub of the corrupt")
    r.store.gc()
    r.undisturbed("gc")
    r.get_good(DIGEST)
    r.undisturbed("get")
    r.store.larder("scrub", "--older-than", "0", "--foreground")
    r.undisturbed("a second scrub")
    r.end()


HOLDERS = [ReadOnlyDisk, RunningOverlay, SnapshotDisk, UnlockedDisk, NbdServer, StorageDaemon, OverlayAtRest,
           LeasedOverlay]
TRIED = [("show names it, and nobody when it ended", named),
         ("gc of everything", collected),
         ("scrub and deep verify", scrubbed),
         ("invalidate, get and gc", invalidated),
         ("a newer image, invalidate of the old one", outdated),
         ("corrupt, get and gc", corrupt_found_by_get),
         ("corrupt, deep verify", corrupt_found_by_verify),
         ("corrupt, scrub and get", corrupt_found_by_scrub)]

for who in HOLDERS:
    for what, attempt in TRIED:
        with case(f"{who.title}: {what}"):
            here = Round(who)
            try:
                attempt(here)
            finally:
                here.holder.stop()

# ---- overlays at rest, however they name their base ----

SPELLINGS = [
    ("an absolute path", lambda base, _: base),
    ("a relative path", lambda base, folder: os.path.relpath(base, folder)),
    ("a path through a symbolic link", lambda base, _: os.path.join(
        os.path.dirname(base), "..", "..", "..", "link", "blobs", "sha256", os.path.basename(base))),
    ("file:", lambda base, _: "file:" + base),
    ("json: of a driver", lambda base, _: "json:" + json.dumps(
        {"driver": "qcow2", "file": {"driver": "file", "filename": base}})),
    ("json: with dotted keys", lambda base, _: "json:" + json.dumps(
        {"driver": "qcow2", "file.driver": "file", "file.filename": base})),
]
for number, (spelling, spell) in enumerate(SPELLINGS):
    with case(f"an overlay at rest names its base by {spelling}"):
        folder = os.path.join(interop.work, f"spelt{number}", "guests")
        here = Store(f"spelt{number}", LARDER_IMAGE_GUEST_DIRS=folder)
        os.mkdir(folder)
        os.symlink("store", os.path.join(interop.work, f"spelt{number}", "link"))
        here.larder("image", "add", "disk", SOURCE)
        base = here.get("disk")
        overlay = os.path.join(folder, "guest.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", spell(base, folder),
            overlay, cwd=folder)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", CONTENT, overlay)
        assert f"overlay {overlay}" in here.holders("disk"), here.holders("disk")
        here.gc()
        here.larder("image", "invalidate", "disk")
        here.gc()
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", CONTENT, overlay)
        # Another base: nobody needs the first one any more.
        run("qemu-img", "rebase", "-f", "qcow2", "-b", "", overlay)
        here.gc()
        equal(here.files(), [])

# ---- nothing stays held ----

with case("a QEMU that was killed leaves nothing"):
    here = Store("killed")
    here.larder("image", "add", "disk", SOURCE)
    qemu = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                f"file.filename={here.get('disk')}")
    assert f"process {qemu.pid} " in here.holders("disk"), here.holders("disk")
    qemu.process.kill()
    qemu.stop()
    equal(here.holders("disk"), "")
    here.gc()
    equal(here.files(), [])

with case("a reader that came and went leaves nothing"):
    here = Store("guests")
    here.larder("image", "add", "disk", SOURCE)
    image = here.get("disk")
    run("qemu-img", "info", image)
    run("qemu-img", "check", "-q", image)
    run("qemu-io", "-r", "-f", "qcow2", "-c", "read 0 4k", image)
    equal(here.holders("disk"), "")
    here.gc()
    equal(here.files(), [])


with case("what was invalidated while QEMU held it goes with the next plain gc"):
    here = Store("plain-gc")
    here.larder("image", "add", "disk", SOURCE)
    qemu = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                f"file.filename={here.get('disk')}")
    here.larder("image", "invalidate", "disk")
    here.larder("gc")
    equal(len(here.files()), 1, "files while it is held")
    qemu.check(CONTENT)
    qemu.stop()
    here.larder("gc", "--dry-run")
    equal(len(here.files()), 1, "files after a dry run")
    here.larder("gc")
    equal(here.files(), [])

with case("what was corrupt while QEMU held it stays as evidence"):
    here = Store("evidence")
    here.larder("image", "add", "disk", SOURCE)
    image = here.get("disk")
    qemu = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                f"file.filename={image}")
    flip(image, interop.SPARE_OFFSET)
    equal(sha256(here.get("disk")), DIGEST)
    qemu.stop()
    here.larder("gc")
    equal(len(here.files("quarantine")), 1, "evidence")

# ---- larder image check ----

with case("image check --remove leaves the mismatching image that QEMU holds"):
    folder = os.path.join(interop.work, "plain")
    os.mkdir(folder)
    here = Store("check")
    for name in ("held.qcow2", "free.qcow2"):
        run("cp", SOURCE, os.path.join(folder, name))
        with open(os.path.join(folder, name + ".sha256"), "w") as f:
            f.write(f"{NEWER_DIGEST}  {name}\n")
    held_file, free_file = (os.path.join(folder, n) for n in ("held.qcow2", "free.qcow2"))
    qemu = Qemu(f"driver=qcow2,node-name=disk,read-only=on,file.driver=file,"
                f"file.filename={held_file}")
    result = here.larder("image", "check", folder, "--remove", status=5)
    assert os.path.exists(held_file) and not os.path.exists(free_file), os.listdir(folder)
    line = [l for l in result.stdout.splitlines() if "held.qcow2" in l]
    assert line and "in use" in line[0], result.stdout
    qemu.check(CONTENT)
    qemu.stop()
    here.larder("image", "check", folder, "--remove", status=5)
    assert not os.path.exists(held_file), "not removed when it was free"
    here.larder("image", "check", folder)

interop.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real disks and real damage: a full disk, a read-only one, a store that is missing, somebody
else's, of a newer format, with an index in every state of decay. Each time a clear message, the
right exit status, and nothing lost."""

import errno
import os
import random
import shutil
import subprocess
import sys

import faultlib
from faultlib import Scratch, Tap, Wrong, qcow2, sha256, sha256_file

OLD, NEW = qcow2("old"), qcow2("new")
# larder wants 64 MiB left after a fetch.
DISK_MIB = 80
BIG = qcow2("big", payload=1 << 20) + random.Random("body").randbytes(1 << 20) * (DISK_MIB + 20)
NOBODY = 65534


class Skip(Exception):
    """Can't be shown here."""


def expect(result, status, *words):
    """A failure has to tell what it is about; no word is asked of a success."""
    if result.status != status:
        raise Wrong(f"expected exit status {status}: {result}")
    for word in words:
        if word not in result.err + result.out:
            raise Wrong(f"'{word}' is not in the message: {result}")
    return result


def add(box, name, data, http=False, query=""):
    box.publish(f"{name}.qcow2", data)
    options = ["--checksum", "sha256:" + sha256(data)] if query else []
    box.good("image", "add", *options, name, box.source(f"{name}.qcow2", http) + query)


# ---- full and read-only disks ------------------------------------------------------------------


class Disk:
    """A small file system of its own for a box's store."""

    def __init__(self, box):
        self.path = os.path.join(box.path, "disk")
        os.mkdir(self.path)
        if os.geteuid() != 0:
            raise Skip("only root may mount")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=755", "larder",
                               self.path], stderr=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise Skip("mounting is not allowed here")
        box.store = os.path.join(self.path, "store")
        box.env["LARDER_HOME"] = box.store

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)

    def remount(self, option):
        subprocess.run(["mount", "-o", f"remount,{option}", self.path], check=True)

    def fill(self):
        path = os.path.join(self.path, "filler")
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
        return path


def size_known(scratch, box):
    add(box, "old", OLD)
    path = box.good("image", "get", "old").out.strip()
    add(box, "big", BIG, http=True)
    result = expect(box.larder("image", "get", "big"), 1, "big", "needs", "free")
    partial = os.path.join(box.store, "partial")
    kept = sum(os.stat(os.path.join(partial, name)).st_blocks for name in os.listdir(partial))
    if kept > 16:
        raise Wrong(f"{kept * 512} bytes of a body that can't fit were stored: {result}")
    box.check_path(path, OLD)
    box.check_image("old", OLD)
    box.good("gc")
    add(box, "new", NEW)
    box.check_path(box.good("image", "get", "new").out.strip(), NEW)
    box.check_repair()


def size_unknown(scratch, box):
    add(box, "old", OLD)
    path = box.good("image", "get", "old").out.strip()
    add(box, "big", BIG, http=True, query="?x.chunked=true")
    expect(box.larder("image", "get", "big"), 1, "big")
    box.check_path(path, OLD)
    box.check_image("old", OLD)
    box.check_fsck_harmless()
    box.good("gc")
    add(box, "new", NEW)
    box.check_path(box.good("image", "get", "new").out.strip(), NEW)
    box.check_repair()


def update_does_not_fit(scratch, box):
    """The old image stays usable, and it is said that it is the old one."""
    add(box, "a", OLD, http=True)
    box.good("image", "get", "a")
    box.publish("a.qcow2", BIG)
    result = box.larder("image", "get", "--fresh", "a")
    expect(result, 0, "needs", "free")
    box.check_path(result.out.strip(), OLD)
    result = box.larder("image", "get", "--fresh", "--require-fresh", "a")
    if result.status == 0:
        raise Wrong(f"--require-fresh is content with the old image: {result}")
    expect(box.larder("image", "verify", "--deep", "a"), 4, "outdated")


def not_a_byte_left(scratch, box, disk):
    add(box, "a", OLD)
    add(box, "b", NEW)
    add(box, "c", qcow2("c"))
    box.good("image", "get", "a")
    box.good("image", "get", "b")
    box.good("image", "remove", "b")
    filler = disk.fill()
    box.check_path(box.good("image", "get", "a").out.strip(), OLD)
    expect(box.larder("image", "get", "c"), 1, "c")
    box.check_fsck_harmless()
    box.good("gc", "--keep-for", "0")
    if os.path.exists(box.blob(NEW)):
        raise Wrong("gc frees nothing on a full disk")
    os.unlink(filler)
    box.good("image", "get", "c")
    box.check_image("a", OLD)
    box.check_repair()


def corrupt_on_full(scratch, box, disk):
    """Quarantine has to work without space."""
    add(box, "a", OLD)
    box.good("image", "get", "a")
    filler = disk.fill()
    box.damage(OLD)
    result = box.larder("image", "get", "a")
    if result.status == 0:
        if sha256_file(result.out.strip()) != sha256(OLD):
            raise Wrong(f"hands out corrupt bytes: {result}")
    elif result.status not in (1, 5):
        raise Wrong(str(result))
    os.unlink(filler)
    box.check_path(box.good("image", "get", "a").out.strip(), OLD)
    box.corrupt.clear()
    box.check_blobs()
    box.check_repair()


def read_only(scratch, box, disk):
    add(box, "a", OLD)
    add(box, "b", NEW)
    box.good("image", "get", "a")
    box.good("status")
    disk.remount("ro")
    try:
        box.check_path(box.good("image", "get", "a").out.strip(), OLD)
        expect(box.larder("image", "get", "b"), 1, "cannot be written")
        for command in (["image", "list"], ["image", "show", "a"], ["image", "verify", "a"],
                        ["image", "verify", "--deep", "a"], ["status"], ["du"], ["fsck"]):
            expect(box.larder(*command), 0)
        for command in (["image", "add", "c", box.source("a.qcow2")], ["image", "remove", "a"],
                        ["image", "invalidate", "a"], ["gc"], ["fsck", "--repair"]):
            expect(box.larder(*command), 1, "ead-only")
    finally:
        disk.remount("rw")
    box.check_image("a", OLD)
    box.check_path(box.good("image", "get", "b").out.strip(), NEW)
    box.check_repair()


def on_disk(function, scratch, with_disk=True):
    with scratch.box() as box, Disk(box) as disk:
        return function(scratch, box, disk) if with_disk else function(scratch, box)


# ---- stores in a bad state ---------------------------------------------------------------------


def missing(scratch):
    with scratch.box() as box:
        for command in (["image", "list"], ["status"], ["gc"], ["fsck"], ["image", "verify", "--all"]):
            result = box.larder(*command)
            if result.status not in (0, 3):
                raise Wrong(str(result))
            if result.status == 3 and box.store not in result.err:
                raise Wrong(f"the message does not name the store: {result}")
        expect(box.larder("image", "get", "nothing"), 3, box.store)


def not_a_store(scratch):
    with scratch.box() as box:
        os.mkdir(box.store)
        with open(os.path.join(box.store, "letter.txt"), "w", encoding="ascii") as file:
            file.write("dear larder")
        for command in (["image", "list"], ["gc", "--keep-for", "0"],
                        ["image", "add", "a", "/bin/sh"], ["fsck", "--repair"]):
            result = box.larder(*command)
            if result.status not in (1, 2) or box.store not in result.err:
                raise Wrong(str(result))
        if os.listdir(box.store) != ["letter.txt"]:
            raise Wrong(f"somebody's directory has {os.listdir(box.store)} now")


def newer_format(scratch):
    with scratch.box() as box:
        add(box, "a", OLD)
        box.good("image", "get", "a")
        path = os.path.join(box.store, "format")
        os.chmod(path, 0o644)
        with open(path, "w", encoding="ascii") as file:
            file.write("larder-store 2\n")
        before = sorted(os.listdir(os.path.join(box.store, "refs")))
        for command in (["image", "get", "a"], ["gc", "--keep-for", "0"], ["fsck", "--repair"],
                        ["image", "remove", "a"], ["image", "add", "b", box.source("a.qcow2")]):
            expect(box.larder(*command), 1, box.store, "format")
        if sorted(os.listdir(os.path.join(box.store, "refs"))) != before:
            raise Wrong("a store of a newer format was changed")
        box.check_path(box.blob(OLD), OLD)


def damaged_format(scratch):
    for text in ("", "larder-store\n", "larder-store 1 and more\n", "\0" * 20, "x" * 5000):
        with scratch.box() as box:
            add(box, "a", OLD)
            box.good("image", "get", "a")
            path = os.path.join(box.store, "format")
            os.chmod(path, 0o644)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            result = box.larder("image", "get", "a")
            if result.status not in (1, 2, 5) or "format" not in result.err:
                raise Wrong(f"format file {text[:30]!r}: {result}")
            box.check_path(box.blob(OLD), OLD)


def foreign_owner(scratch):
    """Root's store, and somebody who may only read it."""
    if os.geteuid() != 0:
        raise Skip("only root can be two people")
    with scratch.box() as box:
        add(box, "a", OLD)
        add(box, "b", NEW)
        box.good("image", "get", "a")
        os.chmod(scratch.path, 0o755)
        os.chown(box.home, NOBODY, NOBODY)
        # The build may be below a home that nobody else may enter: a copy where they can.
        program = os.path.join(scratch.path, "nobodys")
        os.mkdir(program)
        os.chmod(program, 0o755)
        for name in ("larder", "liblarder.so.0"):
            shutil.copy(os.path.join(os.path.dirname(os.path.abspath(faultlib.LARDER)), name),
                        program)
        env = dict(box.env, LD_LIBRARY_PATH=program)

        def as_nobody(*argv):
            done = subprocess.run([os.path.join(program, "larder"), *argv], env=env, cwd="/",
                                  check=False,
                                  user=NOBODY, group=NOBODY, extra_groups=[],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=faultlib.SECONDS)
            return faultlib.Result(argv, done.returncode, done.stdout.decode(), done.stderr.decode())

        try:
            if as_nobody("--version").status != 0:
                raise Skip("a build that others can't run")
        except PermissionError:
            raise Skip("others may not enter the temporary directory") from None
        result = as_nobody("image", "get", "a")
        if result.status == 0:
            box.check_path(result.out.strip(), OLD)
        else:
            expect(result, 1, box.store)
        for command in (["image", "get", "b"], ["gc", "--keep-for", "0"], ["image", "remove", "a"],
                        ["image", "add", "c", "/bin/sh"], ["fsck", "--repair"]):
            expect(as_nobody(*command), 1)
        box.check_image("a", OLD)
        box.check_repair()


def planted_links(scratch):
    """Directories of the store replaced by links to somewhere else: nothing goes through them."""
    for place in ("blobs/sha256", "refs", "tmp", "leases", "quarantine"):
        with scratch.box() as box:
            add(box, "a", OLD)
            box.good("image", "get", "a")
            victim = os.path.join(box.path, "victim")
            path = os.path.join(box.store, place)
            os.rename(path, victim)
            os.symlink(victim, path)
            before = sorted(os.listdir(victim))
            for command in (["gc", "--keep-for", "0"], ["image", "remove", "a"],
                            ["fsck", "--repair"]):
                result = box.larder(*command)
                if result.status not in (0, 1, 3, 5):
                    raise Wrong(str(result))
            if sorted(os.listdir(victim)) != before:
                raise Wrong(f"{place} is a link, and its target was changed")


# ---- the index ---------------------------------------------------------------------------------


def spoil_garbage(path):
    with open(path, "r+b") as file:
        file.write(os.urandom(8192))


def spoil_middle(path):
    with open(path, "r+b") as file:
        file.seek(4096 + 100)
        file.write(b"\xff" * 2000)


def spoil_truncate(path):
    os.truncate(path, os.stat(path).st_size // 2 + 7)


def spoil_zero(path):
    os.truncate(path, 0)


def spoil_delete(path):
    os.unlink(path)


def spoil_directory(path):
    os.unlink(path)
    os.mkdir(path)


def spoil_stale_log(path):
    """The database goes, its log stays: it must not be replayed into the next one."""
    with open(path + "-wal", "wb") as file:
        file.write(os.urandom(20_000))
    os.unlink(path)


def spoiled_index(scratch, spoil):
    with scratch.box() as box:
        add(box, "a", OLD)
        add(box, "b", NEW)
        box.good("image", "get", "a")
        box.good("image", "get", "b")
        box.good("image", "remove", "b")
        box.good("fsck", "--rebuild-index")
        index = os.path.join(box.store, "index.sqlite")
        spoil(index)
        box.check_path(box.good("image", "get", "a").out.strip(), OLD)
        for command in (["image", "list"], ["du"], ["status"], ["fsck"],
                        ["scrub", "--foreground", "--older-than", "0"]):
            box.good(*command)
        box.good("gc", "--keep-for", "0")
        if os.path.exists(box.blob(NEW)):
            raise Wrong("gc kept what nothing refers to")
        box.check_image("a", OLD)
        if os.path.isdir(index):
            os.rmdir(index)
        box.good("fsck", "--rebuild-index")
        box.check_repair()


def main():
    faultlib.arguments(__doc__, points=0)
    tap = Tap()

    def case(title, function, *arguments):
        try:
            function(*arguments)
        except Skip as why:
            tap.skip(title, why)
        except Wrong as wrong:
            tap.report(False, title, [wrong])
        except Exception as error:  # a broken test is a failed one
            tap.report(False, title, [faultlib.told(error)])
        else:
            tap.report(True, title)

    with Scratch() as scratch:
        scratch.serve()
        case("too large, size known: refused before the body", on_disk, size_known, scratch, False)
        case("too large, size unknown: fails midway, the rest is well", on_disk, size_unknown,
             scratch, False)
        case("an update that does not fit", on_disk, update_does_not_fit, scratch, False)
        case("not a byte left: hits and gc work", on_disk, not_a_byte_left, scratch)
        case("not a byte left: corrupt bytes are not handed out", on_disk, corrupt_on_full, scratch)
        case("read-only file system: hits work, misses say why", on_disk, read_only, scratch)
        case("no store", missing, scratch)
        case("a directory that is no store", not_a_store, scratch)
        case("a store of a newer format", newer_format, scratch)
        case("a damaged format file", damaged_format, scratch)
        case("somebody else's store", foreign_owner, scratch)
        case("links planted in the store", planted_links, scratch)
        for spoil in (spoil_garbage, spoil_middle, spoil_truncate, spoil_zero, spoil_delete,
                      spoil_directory, spoil_stale_log):
            name = spoil.__name__.replace("spoil_", "").replace("_", " ")
            case(f"index.sqlite: {name}", spoiled_index, scratch, spoil)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())

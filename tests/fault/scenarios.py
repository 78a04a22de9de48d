# SPDX-License-Identifier: Apache-2.0
"""The jobs that are struck by a fault, one class each: how the store is prepared, which command is
run, and what must hold when the command, run (again) without a fault, has ended."""

import gzip
import json
import os
import shutil

from faultlib import Wrong, qcow2, sha256

OLD, NEW, OTHER = qcow2("old"), qcow2("new"), qcow2("other")


class Scenario:
    name = ""
    # Exit codes of a run that met an error of the local system, beside 1.
    failed = ()

    def prepare(self, box):
        pass

    def command(self, box):
        raise NotImplementedError

    def check(self, box, result):
        """After a complete run; raises Wrong."""
        raise NotImplementedError

    def check_tolerated(self, box, result):
        """After a run that met an error and says it did its job all the same."""
        self.check(box, result)

    def expect(self, result, status=0):
        if result.status != status:
            raise Wrong(str(result))


class Fetch(Scenario):
    """A miss: fetched from a local path or over HTTP, packed or not; the entry is known."""

    def __init__(self, name, http=False, packed=False):
        self.name, self.http, self.packed = name, http, packed

    def prepare(self, box):
        file = "a.qcow2" + (".gz" if self.packed else "")
        box.publish(file, gzip.compress(OLD, mtime=0) if self.packed else OLD)
        box.good("image", "add", "a", box.source(file, self.http))

    def command(self, box):
        return ["image", "get", "a"]

    def check(self, box, result):
        self.expect(result)
        box.check_path(result.out.strip(), OLD)
        box.check_image("a", OLD)


class FirstUse(Scenario):
    """No store yet, no entry yet: made on the way."""
    name = "first-use"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)

    def command(self, box):
        return ["image", "get", box.source("a.qcow2")]

    def check(self, box, result):
        self.expect(result)
        box.check_path(result.out.strip(), OLD)
        names = box.names()
        if len(names) != 1:
            raise Wrong(f"entries are {names}, expected one")
        box.check_image(names[0], OLD)


class Refetch(Scenario):
    """The bytes rotted: quarantined and fetched again in the same run."""

    def __init__(self, name, http=False, held=False):
        self.name, self.http, self.held = name, http, held

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2", self.http))
        box.good("image", "get", "a")
        if self.held:
            box.good("image", "overlay", "a", os.path.join(box.path, "guest.qcow2"))
            box.is_held = True
        box.damage(OLD)

    def command(self, box):
        return ["image", "get", "a"]

    def check(self, box, result):
        self.expect(result)
        box.check_path(result.out.strip(), OLD)
        box.corrupt.clear()
        box.check_blobs()
        box.check_image("a", OLD)


class Update(Scenario):
    """Upstream published a new image: fetched beside the old one, whose path stays."""

    def __init__(self, name, http=False):
        self.name, self.http = name, http

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2", self.http))
        box.good("image", "get", "a")
        box.publish("a.qcow2", NEW)

    def command(self, box):
        return ["image", "get", "--fresh", "a"]

    def check(self, box, result):
        self.expect(result)
        box.check_path(result.out.strip(), NEW)
        box.check_path(box.blob(OLD), OLD)
        box.check_image("a", NEW)

    def check_tolerated(self, box, result):
        if result.out.strip() == box.blob(OLD):
            # The old one is valid in itself, but that it is the old one has to be said.
            box.check_path(result.out.strip(), OLD)
            if not result.err.strip():
                raise Wrong(f"hands out the old image without a word: {result}")
            return
        self.check(box, result)


class Invalidate(Scenario):
    name = "invalidate"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.good("image", "get", "a")

    def command(self, box):
        return ["image", "invalidate", "a"]

    def check(self, box, result):
        self.expect(result)
        if box.larder("image", "get", "--offline", "--json", "a").status == 0:
            raise Wrong("an invalidated image is handed out offline")
        result = box.good("--json", "image", "get", "a")
        answer = json.loads(result.out)
        if answer["how"] not in ("refetched", "fetched"):
            raise Wrong(f"after invalidate the next get says {answer['how']}")
        box.check_path(answer["path"], OLD)
        box.check_image("a", OLD)


class Gc(Scenario):
    """Removes what nothing refers to, and everything else that is due; keeps the rest."""
    name = "gc"

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", NEW), ("c", OTHER)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)
        for name, data in (("b", NEW), ("c", OTHER)):
            box.good("image", "overlay", name, os.path.join(box.path, f"{name}.overlay"))
            box.good("image", "remove", name)
        os.unlink(os.path.join(box.path, "b.overlay"))  # its lease is dead now
        with open(os.path.join(box.store, "tmp", ".tmp-999999-1-0123456789abcdef"), "wb") as file:
            file.write(b"left by a crash")

    def command(self, box):
        return ["gc", "--keep-for", "0"]

    def check(self, box, result):
        self.expect(result)
        if os.path.exists(box.blob(NEW)):
            raise Wrong("gc left a blob that nothing refers to")
        box.check_path(box.blob(OTHER), OTHER)  # an overlay needs it
        box.check_image("a", OLD)
        if os.listdir(os.path.join(box.store, "tmp")) and not box.notes.get("tolerant"):
            raise Wrong("gc left a dead process's temporary")

    def check_tolerated(self, box, result):
        # A temporary of which it can't be told whether somebody has it stays.
        box.notes["tolerant"] = True
        self.check(box, result)


class GcMaxSize(Scenario):
    """Entries' blobs go too; the entries stay and fetch again."""
    name = "gc-max-size"

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", NEW)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)

    def command(self, box):
        return ["gc", "--keep-for", "0", "--max-size", "1"]

    def check(self, box, result):
        self.expect(result)
        for data in (OLD, NEW):
            if os.path.exists(box.blob(data)):
                raise Wrong("gc --max-size 1 left an image")
        for name, data in (("a", OLD), ("b", NEW)):
            box.check_path(box.good("image", "get", name).out.strip(), data)
            box.check_image(name, data)


class Adopt(Scenario):
    name = "adopt"

    def prepare(self, box):
        self.images = {"one": OLD, "two": NEW}
        for name, data in self.images.items():
            box.publish(f"{name}.qcow2", data)

    def command(self, box):
        return ["image", "adopt", box.upstream]

    def check(self, box, result):
        self.expect(result)
        names = box.names()
        if len(names) != len(self.images):
            raise Wrong(f"entries are {names}, expected {len(self.images)}: {result}")
        for name in names:
            box.check_image(name, OLD if name.startswith("one") else NEW)
        for name, data in self.images.items():
            with open(box.source(f"{name}.qcow2"), "rb") as file:
                if file.read() != data:
                    raise Wrong("the original changed")


class Add(Scenario):
    name = "add"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)

    def command(self, box):
        return ["image", "add", "a", box.source("a.qcow2")]

    def check(self, box, result):
        # Run again after it was recorded: it exists, which is 1.
        if result.status != 0 and not (result.status == 1 and "exist" in result.err):
            raise Wrong(str(result))
        box.check_path(box.good("image", "get", "a").out.strip(), OLD)
        box.check_image("a", OLD)

    def check_tolerated(self, box, result):
        self.expect(result)
        self.check(box, result)


class Remove(Scenario):
    name = "remove"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.good("image", "get", "a")

    def command(self, box):
        return ["image", "remove", "a"]

    def check(self, box, result):
        if result.status not in (0, 3):
            raise Wrong(str(result))
        if box.names():
            raise Wrong("a removed entry is listed")
        box.check_path(box.blob(OLD), OLD)


class Overlay(Scenario):
    """A qcow2 overlay with a lease for as long as it exists."""
    name = "overlay"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.notes["overlay"] = os.path.join(box.path, "guest.qcow2")

    def command(self, box):
        return ["image", "overlay", "a", box.notes["overlay"]]

    def check(self, box, result):
        overlay = box.notes["overlay"]
        if result.status != 0 and not (result.status == 1 and os.path.exists(overlay)):
            raise Wrong(str(result))
        with open(overlay, "rb") as file:
            text = file.read()
        if text[:4] != b"QFI\xfb" or box.blob(OLD).encode() not in text:
            raise Wrong("the overlay is not whole")
        # Nothing but its lease keeps the image now.
        box.good("image", "remove", "a")
        box.good("gc", "--keep-for", "0")
        box.check_path(box.blob(OLD), OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))


class Copy(Scenario):
    name = "copy"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.good("image", "get", "a")
        box.notes["copy"] = os.path.join(box.path, "copy.qcow2")

    def command(self, box):
        return ["image", "copy", "--force", "a", box.notes["copy"]]

    def check(self, box, result):
        self.expect(result)
        with open(box.notes["copy"], "rb") as file:
            if file.read() != OLD:
                raise Wrong("the copy has other bytes")
        box.check_image("a", OLD)


class Use(Scenario):
    name = "use"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.good("image", "get", "a")

    def command(self, box):
        return ["image", "use", "a", "--", "sh", "-c", 'exec sha256sum "$LARDER_IMAGE"']

    def check(self, box, result):
        self.expect(result)
        if not result.out.startswith(sha256(OLD)):
            raise Wrong(f"the command saw {result.out!r}")
        box.check_image("a", OLD)


class Repair(Scenario):
    """fsck --repair of a store with one of everything."""
    name = "fsck-repair"

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", NEW), ("c", OTHER)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)
        box.good("image", "overlay", "c", os.path.join(box.path, "gone"))
        os.unlink(os.path.join(box.path, "gone"))
        box.damage(NEW)
        copy = box.blob(OTHER) + ".copy"  # another inode and time, good bytes
        shutil.copyfile(box.blob(OTHER), copy)
        os.chmod(copy, 0o444)
        os.rename(copy, box.blob(OTHER))
        os.link(os.path.join(box.store, "memo", "sha256", sha256(OLD)),
                os.path.join(box.store, "memo", "sha256", sha256(b"no such blob")))
        with open(os.path.join(box.store, "tmp", ".tmp-999999-1-0123456789abcdef"), "wb") as file:
            file.write(b"left by a crash")

    def command(self, box):
        return ["fsck", "--repair"]

    def check(self, box, result):
        self.expect(result)
        box.corrupt.clear()
        box.check_blobs()
        for name, data in (("a", OLD), ("b", NEW), ("c", OTHER)):
            box.check_path(box.good("image", "get", name).out.strip(), data)
            box.check_image(name, data)


class RebuildIndex(Scenario):
    name = "rebuild-index"

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", NEW)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)
        box.good("fsck", "--rebuild-index")

    def command(self, box):
        return ["fsck", "--rebuild-index"]

    def check(self, box, result):
        self.expect(result)
        for name, data in (("a", OLD), ("b", NEW)):
            box.check_image(name, data)


class Scrub(Scenario):
    """Finds the rotten blob and puts it away."""
    name = "scrub"
    failed = (5,)

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", NEW)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)
        box.damage(NEW)

    def command(self, box):
        return ["scrub", "--foreground", "--older-than", "0"]

    def check(self, box, result):
        # 5: it was found now. A second run finds that it is away already: 0, and verify says 8.
        if result.status not in (0, 5, 8):
            raise Wrong(str(result))
        for name, data in (("a", OLD), ("b", NEW)):
            box.check_path(box.good("image", "get", name).out.strip(), data)
            box.check_image(name, data)
        # Only now: where it can't be told who uses it, it stays, marked, until it is replaced.
        box.corrupt.clear()
        box.check_blobs()


class VerifyDeep(Scrub):
    name = "verify-deep"

    def command(self, box):
        return ["image", "verify", "--all", "--deep"]


class Maintain(Scenario):
    """One round with an outdated image, a corrupt one and something to remove."""
    name = "maintain"
    failed = (4, 5)

    def prepare(self, box):
        for name, data in (("a", OLD), ("b", OTHER)):
            box.publish(f"{name}.qcow2", data)
            box.good("image", "add", "--refresh", "always", name, box.source(f"{name}.qcow2"))
            box.good("image", "get", name)
        box.publish("a.qcow2", NEW)
        box.damage(OTHER)

    def command(self, box):
        return ["maintain", "--once"]

    def check(self, box, result):
        if result.status not in (0, 4, 5):
            raise Wrong(str(result))
        box.corrupt.clear()
        box.check_path(box.good("image", "get", "a").out.strip(), NEW)
        box.check_path(box.good("image", "get", "b").out.strip(), OTHER)
        box.check_blobs()
        box.check_image("a", NEW)
        box.check_image("b", OTHER)


class BlobPut(Scenario):
    name = "blob-put"

    def prepare(self, box):
        box.publish("a.qcow2", OLD)
        box.publish("other", OTHER)
        box.good("blob", "put", box.source("other"))

    def command(self, box):
        return ["blob", "put", box.source("a.qcow2")]

    def check(self, box, result):
        self.expect(result)
        if result.out.strip() != "sha256:" + sha256(OLD):
            raise Wrong(f"blob put says {result.out!r}")
        box.check_path(box.blob(OLD), OLD)


def all_scenarios():
    return [
        FirstUse(),
        Fetch("fetch-local"),
        Fetch("fetch-http", http=True),
        Fetch("fetch-http-gz", http=True, packed=True),
        Refetch("refetch-local"),
        Refetch("refetch-http", http=True),
        Refetch("refetch-held", held=True),
        Update("update-local"),
        Update("update-http", http=True),
        Invalidate(),
        Gc(),
        GcMaxSize(),
        Adopt(),
        Add(),
        Remove(),
        Overlay(),
        Copy(),
        Use(),
        Repair(),
        RebuildIndex(),
        Scrub(),
        VerifyDeep(),
        Maintain(),
        BlobPut(),
    ]

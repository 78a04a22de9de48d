# SPDX-License-Identifier: Apache-2.0
"""The jobs with a registry that are struck by a fault, one class each: what is there before, which
command is run, what may be visible after a kill, and what has to be there in the end."""

import gzip
import hashlib
import io
import json
import os
import re
import struct
import tarfile
import time

import publish_faults
import update_jobs
from faultlib import Struck, Wrong, qcow2
from publish_faults import compact, sha256

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TYPES = "application/vnd.oci.image."
SOURCE = "source"  # the repository of what is pulled
DISK = qcow2("disk")
# Leavings of this age belong to nobody any more.
OLD_S = 8 * 24 * 3600
# A layer that is long enough for a thread of its own that writes it, and ends within a page. From
# the second repository nearly all of it comes, and then nothing more.
LARGE, STALLED = "large", "stalled"
LARGE_BYTES = (10 << 20) + 4999


def digest_of(data):
    return "sha256:" + sha256(data)


def members(document):
    """Descriptors of what a manifest or index needs: (descriptor, is a manifest)."""
    for member in document.get("manifests", ()):
        yield member, True
    for blob in [document.get("config"), *document.get("layers", ())]:
        if blob:
            yield blob, False


def layout_images(path):
    """{name: digest} of a layout, with everything below hashed; raises Wrong."""
    def check(descriptor, is_manifest):
        algorithm, hexa = descriptor["digest"].split(":")
        with open(os.path.join(path, "blobs", algorithm, hexa), "rb") as file:
            data = file.read()
        if hashlib.new(algorithm, data).hexdigest() != hexa or len(data) != descriptor["size"]:
            raise Wrong(f"{path}: blob {hexa} has other bytes")
        if is_manifest:
            for child in members(json.loads(data)):
                check(*child)
    with open(os.path.join(path, "index.json"), encoding="utf-8") as file:
        entries = json.load(file)["manifests"]
    found = {}
    for entry in entries:
        check(entry, True)
        name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
        if name in found:
            raise Wrong(f"{path}: {name} twice")
        found[name] = entry["digest"]
    return found


class Job(Struck):
    name = ""
    repo_of_source = SOURCE

    def source(self, registry):
        return source_of(registry, self.repo_of_source)

    def digest(self, registry):
        return registry.digest

    def prepare(self, box, registry, repo):
        pass

    def argv(self, box, registry, repo):
        raise NotImplementedError

    def look(self, box, registry, repo):
        """After a kill: whatever is visible is whole."""

    def check(self, box, registry, repo, result):
        """After a run that says it was successful."""
        raise NotImplementedError

    def check_traffic(self, box, registry, repo):
        """After a kill and a run without one."""


def expect(result, digest=None):
    if result.status != 0:
        raise Wrong(str(result))
    if digest and result.out.strip() != digest:
        raise Wrong(f"printed {result.out!r}, expected {digest}")


# ---- copy ---------------------------------------------------------------------------------------


def source_of(registry, repo=SOURCE):
    return f"docker://{registry.host}/{repo}:1"


class PullStore(Job):
    name = "registry-to-store"

    def argv(self, box, registry, repo):
        return ["copy", self.source(registry), "store:app"]

    def check(self, box, registry, repo, result):
        expect(result, self.digest(registry))
        box.check_blobs()
        path = os.path.join(box.path, "seen")
        expect(box.larder("copy", "store:app", f"oci:{path}:x"), self.digest(registry))
        if layout_images(path) != {"x": self.digest(registry)}:
            raise Wrong("the store has something else")
        box.run(["rm", "-rf", path], ["rm"])


class PullLayout(Job):
    name = "registry-to-oci"

    def argv(self, box, registry, repo):
        return ["copy", self.source(registry), "oci:layout:app"]

    def look(self, box, registry, repo):
        path = os.path.join(box.path, "layout")
        if os.path.exists(os.path.join(path, "index.json")):
            layout_images(path)

    def check(self, box, registry, repo, result):
        expect(result, self.digest(registry))
        path = os.path.join(box.path, "layout")
        if layout_images(path).get("app") != self.digest(registry):
            raise Wrong(f"the layout has {layout_images(path)}")
        self.check_names(box, registry, path)

    def check_names(self, box, registry, path):
        """Nothing of ours stays beside the layout's own. What a struck run left may, until it is
        old: then whoever writes there next takes it away."""
        expected = {"index.json", "oci-layout", "blobs"}
        left = set(os.listdir(path)) - expected
        if left and box.notes.get("struck"):
            long_ago = time.time() - OLD_S
            for name in left:
                place = os.path.join(path, name)
                for file in os.listdir(place) if os.path.isdir(place) else [""]:
                    os.utime(os.path.join(place, file) if file else place, (long_ago, long_ago))
            expect(box.larder("copy", self.source(registry), f"oci:{path}:again"),
                   self.digest(registry))
        if set(os.listdir(path)) != expected:
            raise Wrong(f"left in the layout: {left}, and then {set(os.listdir(path)) - expected}")


class PullLayoutBeside(PullLayout):
    """Into a layout that has something already, which stays."""
    name = "registry-to-oci-beside"

    def prepare(self, box, registry, repo):
        box.good("copy", source_of(registry, "other"), "oci:layout:other")

    def look(self, box, registry, repo):
        super().look(box, registry, repo)
        if layout_images(os.path.join(box.path, "layout")).get("other") != registry.other:
            raise Wrong("what was there is gone")

    def check(self, box, registry, repo, result):
        super().check(box, registry, repo, result)
        self.look(box, registry, repo)


class PullArchive(Job):
    name = "registry-to-archive"

    def argv(self, box, registry, repo):
        return ["copy", self.source(registry), "oci-archive:app.tar:app"]

    def look(self, box, registry, repo):
        if os.path.exists(os.path.join(box.path, "app.tar")):
            self.check_archive(box, registry)

    def check_archive(self, box, registry):
        path = os.path.join(box.path, "unpacked")
        with tarfile.open(os.path.join(box.path, "app.tar")) as tar:
            tar.extractall(path)
        if layout_images(path) != {"app": registry.digest}:
            raise Wrong(f"the archive has {layout_images(path)}")
        box.run(["rm", "-rf", path], ["rm"])

    def check(self, box, registry, repo, result):
        expect(result, registry.digest)
        self.check_archive(box, registry)
        left = [name for name in os.listdir(box.path) if "app.tar" in name and name != "app.tar"]
        if left:
            raise Wrong(f"left beside the archive: {left}")


class Large(Job):
    """A layer that a thread of its own writes: that one is struck."""
    kinds = (*Job.kinds, "thread", "interrupt")
    classes = "write,sync"
    points_factor = 2
    repo_of_source = LARGE
    partial = None  # where the layer is until it is whole

    def digest(self, registry):
        return registry.large

    def is_aimed(self, call):
        return re.match(r"clone|\S+ .*/(oci-)?sha256-[^/]*$", call) is not None

    def stalled(self, registry, argv):
        return [source_of(registry, STALLED) if word == self.source(registry) else word
                for word in argv]

    def arrived(self, box, registry):
        """Bytes that a run which did not end has left, and which have to be the layer's."""
        name = digest_of(registry.layer).replace(":", "-")
        path = os.path.join(box.path, self.partial.format(name))
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return 0
        if not registry.layer.startswith(data):
            raise Wrong(f"{path}: {len(data)} bytes that are not the layer's first ones")
        return len(data)

    def look(self, box, registry, repo):
        super().look(box, registry, repo)
        self.arrived(box, registry)


class PullLargeStore(Large, PullStore):
    name = "registry-to-store-large"
    partial = "store/partial/oci-{}"


class PullLargeLayout(Large, PullLayout):
    name = "registry-to-oci-large"
    partial = "layout/.larder/{}"


class PushLayout(Job):
    name = "oci-to-registry"

    def prepare(self, box, registry, repo):
        os.symlink(registry.layout, os.path.join(box.path, "layout"))

    def argv(self, box, registry, repo):
        target = f"docker://{registry.host}/{repo}"
        return ["copy", "oci:layout:app", f"{target}:1", f"{target}:2"]

    def look(self, box, registry, repo):
        registry.settle(repo)
        check_complete(registry, repo)

    def check(self, box, registry, repo, result):
        expect(result, registry.digest)
        tags = registry.content(repo)["tags"]
        if tags != {"1": registry.digest, "2": registry.digest}:
            raise Wrong(f"the tags are {tags}")
        check_complete(registry, repo)

    def check_traffic(self, box, registry, repo):
        registry.check_uploads(repo)


class PushStore(PushLayout):
    name = "store-to-registry"

    def prepare(self, box, registry, repo):
        box.good("copy", f"oci:{registry.layout}:app", "store:app")

    def argv(self, box, registry, repo):
        return [*super().argv(box, registry, repo)[:1], "store:app",
                *super().argv(box, registry, repo)[2:]]


class Mount(PushLayout):
    """From one repository to another of the same registry."""
    name = "registry-to-registry"

    def prepare(self, box, registry, repo):
        pass

    def argv(self, box, registry, repo):
        return ["copy", source_of(registry), *super().argv(box, registry, repo)[2:]]

    def check_traffic(self, box, registry, repo):
        pass


def check_complete(registry, repo):
    """Whatever a tag points to is there, down to the last blob."""
    content = registry.content(repo)

    def check(digest):
        if digest not in content["manifests"]:
            raise Wrong(f"{repo}: no manifest {digest}")
        for child, is_manifest in members(registry.manifest(repo, digest)):
            if is_manifest:
                check(child["digest"])
            elif child["digest"] not in content["blobs"]:
                raise Wrong(f"{repo}: no blob {child['digest']}")
    for digest in content["tags"].values():
        check(digest)


# ---- publish ------------------------------------------------------------------------------------


class Published(Job):
    """Those of publish_faults.py."""

    def __init__(self, kind):
        self.inner = kind()
        self.name = self.inner.name

    def prepare(self, box, registry, repo):
        self.inner.prepare(box, registry)

    def argv(self, box, registry, repo):
        return self.inner.argv(registry, repo)

    def look(self, box, registry, repo):
        registry.settle(repo)
        check_complete(registry, repo)

    def check(self, box, registry, repo, result):
        expect(result)
        self.inner.check(box, registry, repo)

    def check_traffic(self, box, registry, repo):
        registry.check_uploads(repo)


# ---- disk images --------------------------------------------------------------------------------


def put_blob(registry, repo, data, kind, title=None, **annotations):
    registry.admin("PUT", f"/_blob/{repo}", data)
    if title:
        annotations["org.opencontainers.image.title"] = title
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data),
            "annotations": annotations}


def put_manifest(registry, repo, tag, layers, config=None, **more):
    config = config or put_blob(registry, repo, b"{}", "application/vnd.oci.empty.v1+json")
    registry.put(f"/_manifest/{repo}/{tag}", compact(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}),
        MANIFEST)


def tar_of(files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def lz4(data):  # stored
    return b"bv4-" + struct.pack("<I", len(data)) + data + b"bv4$"


def put_disks(registry):
    """A disk in each of the shapes it is pushed in, as tags of the repository "disks"."""
    repo, octets = "disks", "application/octet-stream"
    put_manifest(registry, repo, "file", [put_blob(registry, repo, DISK, octets, "a.qcow2")])
    put_manifest(registry, repo, "nosi", [put_blob(
        registry, repo, gzip.compress(DISK, 1, mtime=0),
        "application/vnd.nosi.disk-image.layer.v1+gzip", "a.img.gz")],
        artifactType="application/vnd.nosi.disk-image.v1+gzip")
    config = put_blob(registry, repo, b'{"architecture":"amd64","os":"linux"}',
                      TYPES + "config.v1+json")
    put_manifest(registry, repo, "containerdisk", [put_blob(
        registry, repo, gzip.compress(tar_of({"disk/x.img": DISK, "etc/y": b"y"}), 1, mtime=0),
        TYPES + "layer.v1.tar+gzip")], config)
    half = len(DISK) // 2
    put_manifest(registry, repo, "tart", [put_blob(
        registry, repo, lz4(part), "application/vnd.cirruslabs.tart.disk.v2",
        **{"org.cirruslabs.tart.uncompressed-size": str(len(part)),
           "org.cirruslabs.tart.uncompressed-content-digest": digest_of(part)})
        for part in (DISK[:half], DISK[half:])])


class GetDisk(Job):
    def __init__(self, shape):
        self.shape = shape
        self.name = f"image-get-{shape}"

    def prepare(self, box, registry, repo):
        box.good("image", "add", "d", f"oras://{registry.host}/disks:{self.shape}")

    def argv(self, box, registry, repo):
        return ["image", "get", "d"]

    def check(self, box, registry, repo, result):
        expect(result)
        box.check_path(result.out.strip(), DISK)
        box.check_image("d", DISK)


class PushDisk(PushLayout):
    name = "image-push"

    def prepare(self, box, registry, repo):
        box.publish("a.qcow2", DISK)
        box.good("image", "add", "a", box.source("a.qcow2"))
        box.good("image", "get", "a")

    def argv(self, box, registry, repo):
        return ["image", "push", "a", f"docker://{registry.host}/{repo}:1"]

    def check(self, box, registry, repo, result):
        expect(result)
        if digest_of(DISK) not in registry.content(repo)["blobs"]:
            raise Wrong("the disk is not there")
        if "1" not in registry.content(repo)["tags"]:
            raise Wrong("the tag is not there")
        check_complete(registry, repo)


# ---- who we are ---------------------------------------------------------------------------------


class Login(Job):
    """Beside the credentials of another host, which stay."""
    name = "login"
    OTHER = {"auth": "dTpw"}

    def prepare(self, box, registry, repo):
        os.makedirs(os.path.join(box.home, ".docker"))
        box.stdin = b"secret"
        self.write(box, {"auths": {"example.org": self.OTHER}, "credHelpers": {}})

    def write(self, box, document):
        with open(self.path(box), "wb") as file:
            file.write(compact(document))

    def path(self, box):
        return os.path.join(box.home, ".docker", "config.json")

    def argv(self, box, registry, repo):
        return ["login", "--authfile", self.path(box), "-u", "user", "--password-stdin",
                registry.host]

    def look(self, box, registry, repo):
        with open(self.path(box), encoding="utf-8") as file:
            document = json.load(file)
        if document["auths"]["example.org"] != self.OTHER or "credHelpers" not in document:
            raise Wrong("another host's credentials are gone")

    def check(self, box, registry, repo, result):
        expect(result)
        self.look(box, registry, repo)
        if box.good("login", "--authfile", self.path(box), "--get-login",
                    registry.host).out.strip() != "user":
            raise Wrong("not logged in")


def fill(registry, box, place):
    """What all jobs read."""
    def image(repo, **more):
        return json.loads(registry.admin("POST", "/_image", compact(
            {"repo": repo, "tag": "1", "platforms": ["linux/amd64", "linux/arm64/v8"],
             "layers": 2, "size": 30000, **more})))["digest"]
    registry.digest = image(SOURCE)
    registry.other = image("other", seed=9)
    put_disks(registry)
    for repo in (LARGE, STALLED):
        registry.large = image(repo, layers=1, size=LARGE_BYTES, platforms=["linux/amd64"])
    registry.admin("POST", "/_control", compact({"rules": [
        {"match": f"GET /v2/{STALLED}/blobs/", "stall_after": LARGE_BYTES - (1 << 20)}]}))
    path = os.path.join(place, LARGE)
    box.good("copy", source_of(registry, LARGE), f"oci:{path}:app")
    with os.scandir(os.path.join(path, "blobs", "sha256")) as files:
        with open(max(files, key=lambda file: file.stat().st_size), "rb") as file:
            registry.layer = file.read()
    registry.layout = os.path.join(place, "layout")
    box.good("copy", source_of(registry), f"oci:{registry.layout}:app")


def all_jobs():
    return [
        PullStore(), PullLayout(), PullLayoutBeside(), PullArchive(), PushLayout(), PushStore(),
        Mount(),
        *(Published(kind) for kind in publish_faults.SCENARIOS),
        *(GetDisk(shape) for shape in ("file", "nosi", "containerdisk", "tart")),
        PushDisk(), Login(),
        *update_jobs.all_jobs(),
        PullLargeStore(), PullLargeLayout(),
    ]

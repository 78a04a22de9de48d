# SPDX-License-Identifier: Apache-2.0
"""The jobs of `larder update` that are struck by a fault (registry_jobs.py says what a job is). The
record is the one that was, or the one that comes; a check that can't keep it says so."""

import hashlib
import json
import os
import shutil
import subprocess

from faultlib import LARDER, Struck, Wrong
from publish_faults import compact

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCH = ARCHES.get(os.uname().machine, os.uname().machine)
NONE = None  # instead of a version: no update is recorded


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def describe(data, kind):
    return {"mediaType": kind, "size": len(data), "digest": digest_of(data)}


class Image:
    """Version N: the layer "common", and one of its own."""

    def __init__(self, version):
        self.layers = [word.encode() * 4000 for word in ("common", f"own {version} ")]
        self.config = compact({
            "architecture": ARCH, "os": "linux", "history": [],
            "config": {"Labels": {"org.opencontainers.image.version": version}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in self.layers]}})
        self.manifest = compact({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": describe(self.config, CONFIG),
            "layers": [describe(layer, LAYER) for layer in self.layers]})
        self.digest = digest_of(self.manifest)

    def push(self, registry, repo):
        for data in (self.config, *self.layers):
            registry.admin("PUT", f"/_blob/{repo}", data)
        for reference in (self.digest, "1"):
            registry.put(f"/_manifest/{repo}/{reference}", self.manifest, MANIFEST)


V1, V2, V3 = Image("1"), Image("2"), Image("3")
VERSIONS = {"1": V1, "2": V2, "3": V3}


class Store:
    """The base is an image of the store."""
    name = "store"
    options = ()
    argv_fetch = ()

    @staticmethod
    def prepare(box, registry, repo):
        source = f"{registry.host}/{repo}:1"
        box.good("copy", f"docker://{source}", f"store:{source}")

    @staticmethod
    def fetched(box, registry, repo):
        return f"store:{registry.host}/{repo}:1"


class Ostree:
    """The base is a commit of an ostree repository, as ostree-ext leaves it."""
    name = "ostree"
    options = ("--ostree-repo", "repo")
    argv_fetch = ("--to", "oci:layout:app")

    @staticmethod
    def ostree(box, *argv):
        return subprocess.run(["ostree", *argv], cwd=box.path, check=True, text=True,
                              stdout=subprocess.PIPE).stdout.strip()

    @classmethod
    def prepare(cls, box, registry, repo):
        # As update/base/ostree_name.h says.
        host, port = registry.host.split(":")
        name = f"docker_3A__2F__2F_{host.replace('.', '_2E_')}_3A_{port}/{repo}_3A_1"
        cls.ostree(box, "--repo=repo", "init", "--mode=bare-user")
        os.mkdir(os.path.join(box.path, "tree"))
        box.notes["commit"] = cls.ostree(
            box, "--repo=repo", "commit", "-b", f"ostree/container/image/{name}", "--no-bindings",
            "tree", f"--add-metadata-string=ostree.manifest-digest={V1.digest}",
            f"--add-metadata-string=ostree.manifest={V1.manifest.decode()}",
            f"--add-metadata-string=ostree.container.image-config={V1.config.decode()}")

    @staticmethod
    def fetched(box, registry, repo):
        return "oci:layout:app"


class Update(Struck):
    """steps: what the tag pointed to at each check before; before, after: the version recorded."""

    def __init__(self, place, verb, steps, before, after):
        self.place, self.verb, self.steps = place, verb, steps
        self.before, self.after = before, after
        self.name = f"update-{verb}-{place.name}-{before or 'none'}-{after or 'none'}"
        self.may_abort = place is Ostree

    def ref(self, registry, repo):
        return f"docker://{registry.host}/{repo}:1"

    def call(self, verb, registry, repo, *more):
        return ["update", verb, *self.place.options, *more, self.ref(registry, repo)]

    def prepare(self, box, registry, repo):
        V1.push(registry, repo)
        self.place.prepare(box, registry, repo)
        for step in self.steps[:-1]:
            VERSIONS[step].push(registry, repo)
            box.good(*self.call("check", registry, repo))
        VERSIONS[self.steps[-1]].push(registry, repo)
        if self.recorded(box, registry, repo) != self.before:
            raise Wrong(f"before: {self.recorded(box, registry, repo)} is recorded")

    def argv(self, box, registry, repo):
        return ["--json", *self.call(self.verb, registry, repo)]

    def recorded(self, box, registry, repo):
        """The version; raises Wrong for a record that is none."""
        seen = json.loads(box.good("--json", *self.call("show", registry, repo)).out)
        if "update" not in seen:
            return NONE
        version = seen["update"]["version"]
        if seen["update"]["digest"] != VERSIONS[version].digest or \
                [layer["digest"] for layer in seen["update"]["diff"]["layers"]][:2] != \
                [digest_of(layer) for layer in VERSIONS[version].layers]:
            raise Wrong(f"mixed: {seen}")
        return version

    def look(self, box, registry, repo):
        if os.path.exists(os.path.join(box.store, "format")) or self.place is Ostree:
            found = self.recorded(box, registry, repo)
            if found not in (self.before, self.after):
                raise Wrong(f"{found} is recorded, expected {self.before} or {self.after}")
        if self.place is Ostree:
            Ostree.ostree(box, "--repo=repo", "fsck", "--quiet")

    def check(self, box, registry, repo, result):
        if result.status != 0:
            raise Wrong(str(result))
        self.judge(box, registry, repo, json.loads(result.out))

    def judge(self, box, registry, repo, told):
        self.expect(box, registry, repo, self.after)

    def expect(self, box, registry, repo, *versions):
        found = self.recorded(box, registry, repo)
        if found not in versions:
            raise Wrong(f"{found} is recorded, expected {versions}")

    def check_traffic(self, box, registry, repo):
        pass


class Check(Update):
    def __init__(self, place, steps, before, after):
        super().__init__(place, "check", steps, before, after)

    def judge(self, box, registry, repo, told):
        if told.get("update", {}).get("version", NONE) != self.after:
            raise Wrong(f"found {told}, expected {self.after}")
        if told["persisted"]:
            self.expect(box, registry, repo, self.after)
        elif box.notes.get("tolerant") and told.get("why"):
            self.expect(box, registry, repo, self.before, self.after)
        else:
            raise Wrong(f"is not kept: {told}")


class Fetch(Update):
    """While the tag points to something newer already."""
    def __init__(self, place, more=(), name="fetch"):
        super().__init__(place, "fetch", ("2", "3"), "2", "2" if more or place is Ostree else NONE)
        self.more = more or place.argv_fetch
        self.name = f"update-{name}-{place.name}"

    def argv(self, box, registry, repo):
        return ["--json", *self.call("fetch", registry, repo, *self.more)]

    def location(self, box, registry, repo):
        return self.more[1] if self.more else self.place.fetched(box, registry, repo)

    def is_there(self, box, registry, repo):
        """Whether it has its name: then all of it is there."""
        location = self.location(box, registry, repo)
        raw = box.larder("inspect", "--raw", location)
        if raw.status != 0 or digest_of(raw.out.encode()) == V1.digest:
            return False
        if digest_of(raw.out.encode()) != V2.digest:
            raise Wrong(f"{location} is {raw}")
        path = os.path.join(box.path, "seen")
        box.good("copy", location, f"oci:{path}:x")
        for data in (V2.config, *V2.layers):
            with open(os.path.join(path, "blobs/sha256", digest_of(data)[7:]), "rb") as file:
                if file.read() != data:
                    raise Wrong(f"{location} has other bytes")
        shutil.rmtree(path)
        return True

    def look(self, box, registry, repo):
        super().look(box, registry, repo)
        self.is_there(box, registry, repo)

    def judge(self, box, registry, repo, told):
        if told["digest"] != V2.digest:
            raise Wrong(f"fetched {told}")
        if not self.is_there(box, registry, repo):
            raise Wrong("what was fetched is not there")
        super().judge(box, registry, repo, told)


def has_ostree():
    """The program to make repositories with, and libostree in larder."""
    if not shutil.which("ostree"):
        return False
    probe = subprocess.run([LARDER, "update", "show", "--ostree-repo", "/", "oci:/x:x"],
                           stderr=subprocess.PIPE, text=True, check=False)
    return "libostree" not in probe.stderr


def all_jobs():
    jobs = []
    for place in [Store, Ostree] if has_ostree() else [Store]:
        jobs += [
            Check(place, ("2",), NONE, "2"),
            Check(place, ("2", "3"), "2", "3"),
            Check(place, ("2", "1"), "2", NONE),
            Update(place, "clear", ("2", "2"), "2", NONE),
            Fetch(place),
        ]
    return [*jobs, Fetch(Store, ("--to", "oci:layout:app"), "fetch-to-layout")]

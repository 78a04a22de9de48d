# SPDX-License-Identifier: Apache-2.0
"""The real ostree-ext (see ostree_ext_reader, which peers.sh builds), and images that it imports.

An image's first layers are a commit that the program itself encapsulated; what is above is made by
hand, as a build of containers would.
"""
import gzip
import io
import json
import os
import tarfile

from registries import OCI_MANIFEST, digest_of, peer  # first: it takes LARDER_PEERS
import interop
from interop import run
from images import CONFIG, LAYER, Layout
from ostree_rig import Repo, make_tree

PROGRAM = peer("ostree-ext-cli")
POLICY = "/etc/containers/policy.json"


def missing():
    """Why the real ostree-ext can't be asked here, or None."""
    if not PROGRAM:
        return "no ostree-ext-cli here (tests/interop/peers.sh builds it)"
    if not peer("skopeo"):
        return "no skopeo here"
    return None if os.path.exists(POLICY) else f"skopeo has no {POLICY} here"


def ext(*argv, status=0):
    """Its own command line."""
    return run(PROGRAM, *argv, status=status)


def query(repo, of):
    """What it reads in a repository about an image, or about a commit."""
    return json.loads(run(PROGRAM, "query", repo.path, of).stdout)


def cached(repo, of):
    """(digest, version, number of layers) of the update that it sees there, or None."""
    told = query(repo, of)
    assert "error" not in told, told
    update = told["image"]["cached"]
    return update and (update["digest"], update["version"], update["layers"])


def pull(repo, reference, *more, status=0):
    return ext("container", "image", "pull", "--quiet", *more, repo.path,
               f"ostree-unverified-image:{reference}", status=status)


def check(repo, reference, *more):
    """`pull --check`: the record is written, and the new manifest, which is returned (or None)."""
    out = os.path.join(interop.work, "checked")
    if os.path.exists(out):
        os.unlink(out)
    pull(repo, reference, *more, "--check", out)
    if not os.path.exists(out):
        return None
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class Images(Layout):
    """A layout with an encapsulated base in it, and images on top of that."""

    def __init__(self, path):
        super().__init__(os.path.join(interop.work, path))
        repo = Repo(path + ".repo")
        commit = repo.commit(make_tree(os.path.join(interop.work, path + ".tree"), "0"),
                             "--add-metadata-string=version=0",
                             "--add-metadata=ostree.bootable=true")
        ext("container", "encapsulate", "--repo", repo.path, commit, f"oci:{self.path}:base")
        with open(os.path.join(self.path, "index.json"), encoding="utf-8") as file:
            self.entries = json.load(file)["manifests"]
        self.base = self.entries[0]["digest"]

    def at(self, tag):
        return f"oci:{self.path}:{tag}"

    def tag(self, name, digest):
        """Moves a tag."""
        entry = next(e for e in self.entries if e["digest"] == digest)
        self.entries = [e for e in self.entries
                        if e["annotations"]["org.opencontainers.image.ref.name"] != name]
        self.entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
        self.flush()

    def on_base(self, version, files, *, level=6, labels=(), annotations=None, created=None):
        """The digest of an image of the base and a layer a file, tagged as its version."""
        manifest = json.loads(self.read(self.base))
        config = json.loads(self.read(manifest["config"]["digest"]))
        created = created or f"2024-01-10T12:00:0{len(files)}Z"
        config["created"] = created
        config["config"]["Labels"].update({"org.opencontainers.image.version": version,
                                           **dict(labels)})
        for name, data in files.items():
            layer = tar_of({name: data})
            manifest["layers"].append(self.blob(gzip.compress(layer, level, mtime=0), LAYER))
            config["rootfs"]["diff_ids"].append(digest_of(layer))
            config["history"].append({"created": created, "created_by": f"COPY {name} /"})
        manifest["mediaType"] = OCI_MANIFEST
        manifest["annotations"] = annotations or {}
        text = json.dumps(config, ensure_ascii=False).encode()
        manifest["config"] = self.blob(text, CONFIG)
        return self.document(manifest, version,
                             {"architecture": config["architecture"], "os": "linux"})["digest"]

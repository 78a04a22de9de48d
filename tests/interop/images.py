# SPDX-License-Identifier: Apache-2.0
"""Images for the tests beside this file, written into OCI layouts by hand: nobody's reader and
writer are the same code."""
import gzip
import hashlib
import io
import json
import os
import random
import tarfile

from registries import OCI_INDEX, OCI_MANIFEST, digest_of

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"


def tar_of(seed, size):
    """A layer: one file of this many random bytes, the same for the same seed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(f"file-{seed}")
        member.size = size
        tar.addfile(member, io.BytesIO(random.Random(seed).randbytes(size)))
    return out.getvalue()


class Layout:
    """A directory in OCI layout."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs/sha256"))
        self.entries = []
        with open(os.path.join(path, "oci-layout"), "w", encoding="ascii") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')
        self.flush()

    def flush(self):
        with open(os.path.join(self.path, "index.json"), "w", encoding="ascii") as f:
            json.dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.entries}, f)

    def file(self, digest):
        return os.path.join(self.path, "blobs", digest.replace(":", "/"))

    def read(self, digest):
        with open(self.file(digest), "rb") as f:
            return f.read()

    def blob(self, data, media_type):
        digest = digest_of(data)
        with open(self.file(digest), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def sparse(self, size, media_type=PLAIN_LAYER):
        """A blob of zeros but for its ends, which takes no room."""
        path = os.path.join(self.path, "sparse")
        with open(path, "wb") as f:
            f.write(b"begin")
            f.truncate(size - 3)
            f.seek(0, os.SEEK_END)
            f.write(b"end")
        hash_ = hashlib.sha256()
        with open(path, "rb", buffering=0) as f:
            while piece := f.read(1 << 20):
                hash_.update(piece)
        digest = "sha256:" + hash_.hexdigest()
        os.rename(path, self.file(digest))
        return {"mediaType": media_type, "digest": digest, "size": size}

    def document(self, document, ref=None, platform=None):
        """A manifest or an index, as it is in memory; with an entry of index.json for a ref."""
        data = json.dumps(document, separators=(",", ":")).encode()
        descriptor = self.blob(data, document["mediaType"])
        if platform:
            descriptor["platform"] = platform
        if ref:
            self.entries.append({**descriptor,
                                 "annotations": {"org.opencontainers.image.ref.name": ref}})
            self.flush()
        return descriptor

    def image(self, seed, ref=None, architecture="amd64", sizes=(3000, 200000), compress=True,
              variant=None, layers=None):
        """The descriptor of an image with random layers of these sizes, or with these ready ones."""
        tars = [tar_of(f"{seed}-{i}", size) for i, size in enumerate(sizes)]
        platform = {"architecture": architecture, "os": "linux"}
        if variant:
            platform["variant"] = variant
        config = {"created": "2024-01-02T03:04:05Z", **platform, "config": {"Env": [f"SEED={seed}"]},
                  "rootfs": {"type": "layers", "diff_ids": [digest_of(t) for t in tars]},
                  "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "tests"}
                              for _ in tars]}
        if layers is None:
            layers = [self.blob(gzip.compress(t, 1, mtime=0), LAYER) if compress else
                      self.blob(t, PLAIN_LAYER) for t in tars]
        else:
            config["rootfs"]["diff_ids"] = [layer["digest"] for layer in layers]
        return self.document({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                              "config": self.blob(json.dumps(config).encode(), CONFIG),
                              "layers": layers}, ref, platform)

    def index(self, ref, members, **more):
        return self.document({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": members,
                              **more}, ref)

    def artifact(self, subject, artifact_type, data, **annotations):
        """What refers to a manifest: a signature, say."""
        return self.document({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
                              "artifactType": artifact_type,
                              "config": self.blob(b"{}", EMPTY),
                              "layers": [self.blob(data, "application/octet-stream")],
                              "subject": {k: subject[k] for k in ("mediaType", "digest", "size")},
                              "annotations": annotations})

    def reachable(self, digest):
        """Digests of everything below a manifest or an index, itself among them."""
        found = {digest}
        document = json.loads(self.read(digest))
        for member in document.get("manifests", []):
            found |= self.reachable(member["digest"])
        found |= {d["digest"] for d in document.get("layers", [])}
        if "config" in document:
            found.add(document["config"]["digest"])
        return found


def blobs_in(path):
    """{digest} of the files of a layout, each of which must hash to its name."""
    found = set()
    for name in os.listdir(os.path.join(path, "blobs/sha256")):
        with open(os.path.join(path, "blobs/sha256", name), "rb") as f:
            hash_ = hashlib.sha256()
            while piece := f.read(1 << 20):
                hash_.update(piece)
        assert hash_.hexdigest() == name, f"{path}: {name} hashes to {hash_.hexdigest()}"
        found.add("sha256:" + name)
    return found

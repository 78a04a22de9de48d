# SPDX-License-Identifier: Apache-2.0
"""What the fake registry holds: repositories, blobs, upload sessions; and images to fill it."""
import hashlib
import json
import random
import re
import threading
import uuid

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
TYPES = {
    "oci": {
        "index": OCI + "index.v1+json",
        "manifest": OCI + "manifest.v1+json",
        "config": OCI + "config.v1+json",
        "layer": OCI + "layer.v1.tar+gzip",
    },
    "docker": {
        "index": DOCKER + "distribution.manifest.list.v2+json",
        "manifest": DOCKER + "distribution.manifest.v2+json",
        "config": DOCKER + "container.image.v1+json",
        "layer": DOCKER + "image.rootfs.diff.tar.gzip",
    },
}
HEX = {"sha256": 64, "sha512": 128}


def is_digest(text):
    algorithm, _, value = text.partition(":")
    return algorithm in HEX and re.fullmatch("[0-9a-f]{%d}" % HEX[algorithm], value) is not None


def digest_of(data, algorithm="sha256"):
    return algorithm + ":" + hashlib.new(algorithm, data).hexdigest()


class Upload:
    """An upload session; data is what arrived so far."""

    def __init__(self, repo):
        self.repo = repo
        self.data = bytearray()
        self.requests = 0
        self.had_short_chunk = False
        self.first_range = 0  # last byte after the first request


class Repository:
    def __init__(self):
        self.manifests = {}  # digest -> (media type, bytes)
        self.blobs = set()
        self.tags = {}
        self.hidden = {}  # tag -> [reads that still see the state before, digest before]


class Content:
    def __init__(self):
        self.lock = threading.RLock()
        self.reset()

    def reset(self):
        with self.lock:
            self.repositories = {}
            self.blobs = {}
            self.uploads = {}

    def repository(self, name):
        with self.lock:
            return self.repositories.setdefault(name, Repository())

    def blob(self, name, digest):
        """Bytes of a blob of that repository, or None."""
        with self.lock:
            repo = self.repositories.get(name)
            if repo is None or digest not in repo.blobs:
                return None
            return self.blobs.get(digest)

    def put_blob(self, name, data, digest=None):
        digest = digest or digest_of(data)
        with self.lock:
            self.blobs[digest] = bytes(data)
            self.repository(name).blobs.add(digest)
        return digest

    def put_manifest(self, name, reference, media_type, data):
        digest = digest_of(data)
        with self.lock:
            repo = self.repository(name)
            if is_digest(reference):
                digest = reference
            else:
                repo.tags[reference] = digest
            repo.manifests[digest] = (media_type, bytes(data))
        return digest

    def begin_upload(self, name):
        with self.lock:
            key = str(uuid.uuid4())
            self.repository(name)
            self.uploads[key] = Upload(name)
            return key

    def summary(self):
        with self.lock:
            return {
                name: {
                    "tags": dict(repo.tags),
                    "manifests": {d: t for d, (t, _) in repo.manifests.items()},
                    "blobs": {d: len(self.blobs.get(d, b"")) for d in repo.blobs},
                }
                for name, repo in self.repositories.items()
            }


def dump(document):
    return json.dumps(document, separators=(",", ":")).encode()


def make_member(content, spec, types, platform, seed):
    """One image; returns its descriptor."""
    name = spec["repo"]
    layers = []
    for i in range(spec.get("layers", 2)):
        data = random.Random("%s/%s/%d" % (seed, platform, i)).randbytes(spec.get("size", 4096))
        digest = content.put_blob(name, data)
        layers.append({"mediaType": types["layer"], "size": len(data), "digest": digest})
    parts = platform.split("/")
    config = {
        "created": "2026-01-02T03:04:05Z",
        "architecture": parts[1],
        "os": parts[0],
        "config": {"Env": ["PATH=/bin"], "Labels": spec.get("labels", {"seed": str(seed)})},
        "rootfs": {"type": "layers", "diff_ids": [x["digest"] for x in layers]},
    }
    if len(parts) > 2:
        config["variant"] = parts[2]
    data = dump(config)
    content.put_blob(name, data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": {"mediaType": types["config"], "size": len(data), "digest": digest_of(data)},
        "layers": layers,
    }
    data = dump(manifest)
    digest = content.put_manifest(name, digest_of(data), types["manifest"], data)
    entry = {"architecture": parts[1], "os": parts[0]}
    if len(parts) > 2:
        entry["variant"] = parts[2]
    return {
        "mediaType": types["manifest"],
        "digest": digest,
        "size": len(data),
        "platform": entry,
    }


def make_image(content, spec):
    """See POST /_image in the manual."""
    types = TYPES[spec.get("format", "oci")]
    seed = spec.get("seed", 1)
    tags = spec.get("tags") or [spec.get("tag", "latest")]
    platforms = spec.get("platforms")
    members = {
        p: make_member(content, spec, types, p, seed) for p in platforms or ["linux/amd64"]
    }
    if platforms:
        index = {
            "schemaVersion": 2,
            "mediaType": types["index"],
            "manifests": list(members.values()),
        }
        data = dump(index)
        media_type = types["index"]
    else:
        member = members["linux/amd64"]
        media_type, data = content.repository(spec["repo"]).manifests[member["digest"]]
    digest = content.put_manifest(spec["repo"], digest_of(data), media_type, data)
    for tag in tags:
        content.put_manifest(spec["repo"], tag, media_type, data)
    return {
        "digest": digest,
        "mediaType": media_type,
        "size": len(data),
        "members": {p: m["digest"] for p, m in members.items()},
    }

# SPDX-License-Identifier: Apache-2.0
"""Makes OCI image layouts of a given shape for benchmarks and tests.

    layouts.py DIR big|many|arch5|tiny [SCALE]

Layers are real gzip streams of incompressible data, configs real configs; the layout's one ref is
"latest".
"""
import hashlib
import json
import os
import sys
import zlib

MIB = 1 << 20
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layout:
    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        with open(os.path.join(path, "oci-layout"), "w", encoding="ascii") as f:
            f.write('{"imageLayoutVersion":"1.0.0"}')

    def _blob(self, name):
        return os.path.join(self.path, "blobs", "sha256", name)

    def put(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        with open(self._blob(digest), "wb") as f:
            f.write(data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, n_bytes, seed):
        """Returns descriptor and diff id of a gzip layer with n_bytes inside."""
        block = os.urandom(min(n_bytes, 4 * MIB))
        packed, plain = hashlib.sha256(), hashlib.sha256()
        squeeze = zlib.compressobj(0, zlib.DEFLATED, 31)
        temp, size, done = self._blob(".layer"), 0, 0
        with open(temp, "wb") as f:
            while done < n_bytes:
                piece = (b"%016d" % (seed * 1000003 + done) + block)[:min(len(block),
                                                                           n_bytes - done)]
                done += len(piece)
                plain.update(piece)
                out = squeeze.compress(piece) + (squeeze.flush() if done == n_bytes else b"")
                packed.update(out)
                size += f.write(out)
        digest = packed.hexdigest()
        os.rename(temp, self._blob(digest))
        return ({"mediaType": LAYER, "digest": "sha256:" + digest, "size": size},
                "sha256:" + plain.hexdigest())

    def image(self, layer_bytes, seed=0, arch="amd64"):
        layers, diffs = [], []
        for i, n_bytes in enumerate(layer_bytes):
            layer, diff = self.layer(n_bytes, seed * 1000 + i)
            layers.append(layer)
            diffs.append(diff)
        config = {"architecture": arch, "os": "linux", "config": {"Labels": {"seed": str(seed)}},
                  "rootfs": {"type": "layers", "diff_ids": diffs}}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": self.put(json.dumps(config).encode(), CONFIG), "layers": layers}
        return self.put(json.dumps(manifest).encode(), MANIFEST)

    def index(self, images):
        members = [dict(image, platform={"architecture": arch, "os": "linux"})
                   for image, arch in images]
        return self.put(json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                                    "manifests": members}).encode(), INDEX)

    def tag(self, descriptor, ref="latest"):
        entry = dict(descriptor, annotations={"org.opencontainers.image.ref.name": ref})
        with open(os.path.join(self.path, "index.json"), "w", encoding="ascii") as f:
            json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
        return descriptor["digest"]


def make(path, shape, scale=1.0):
    layout = Layout(path)
    n = lambda n_bytes: max(int(n_bytes * scale), 1024)
    if shape == "big":
        return layout.tag(layout.image([n(1024 * MIB)]))
    if shape == "many":
        return layout.tag(layout.image([n(16 * MIB)] * 64))
    if shape == "arch5":
        arches = ["amd64", "arm64", "ppc64le", "s390x", "riscv64"]
        return layout.tag(layout.index(
            [(layout.image([n(4 * MIB)] * 3, i, arch), arch) for i, arch in enumerate(arches)]))
    if shape == "tiny":
        return layout.tag(layout.index(
            [(layout.image([200 + i % 800], i), "amd64") for i in range(int(2000 * scale) or 1)]))
    raise ValueError(f"no shape {shape}")


if __name__ == "__main__":
    print(make(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 1.0))

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Publishing beside podman, whose lists have the same bytes, and beside programs that lock
meta.json with Python's flufl.lock, as coreos-assembler does."""

import gzip
import hashlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request

SOURCE = os.environ["LARDER_SOURCE"]

import interop
from interop import LARDER, case, equal, run, skip, wait_for

OCI = "application/vnd.oci.image."
PLATFORMS = {"x86_64": ("amd64", None), "aarch64": ("arm64", "v8"), "s390x": ("s390x", None)}
BUILD = "43.1"


class Registry:
    def __init__(self):
        script = os.path.join(SOURCE, "tests", "registry", "server.py")
        self.held = interop.Held([sys.executable, script, "--port-file", "ports"])
        wait_for("the registry", lambda: os.path.exists("ports"), self.held.process)
        with open("ports", encoding="ascii") as file:
            self.port, _, self.admin = file.read().split()
        self.host = f"127.0.0.1:{self.port}"

    def raw(self, name, reference):
        url = f"http://127.0.0.1:{self.admin}/_manifest/{name}/{reference}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url) as answer:
            return answer.read()


def compact(document):
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor(kind, data):
    return {"mediaType": OCI + kind, "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
            "size": len(data)}


def write_archive(path, arch):
    """An archive as skopeo writes it: one image, its layer gzip'd."""
    name, variant = PLATFORMS[arch]
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as layer:
        data = f"for {arch}\n".encode() * 100
        info = tarfile.TarInfo("etc/arch")
        info.size = len(data)
        layer.addfile(info, io.BytesIO(data))
    packed = gzip.compress(raw.getvalue(), mtime=0)
    config = {"created": "2025-01-01T00:00:00Z", "architecture": name, "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [
                  "sha256:" + hashlib.sha256(raw.getvalue()).hexdigest()]},
              "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "test"}]}
    if variant:
        config["variant"] = variant
    config = compact(config)
    manifest = compact({"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                        "config": descriptor("config.v1+json", config),
                        "layers": [descriptor("layer.v1.tar+gzip", packed)]})
    index = compact({"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", manifest)]})
    files = {f"blobs/sha256/{hashlib.sha256(b).hexdigest()}": b
             for b in (config, packed, manifest)}
    with tarfile.open(path, "w") as archive:
        for file, data in {**files, "index.json": index,
                           "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}.items():
            info = tarfile.TarInfo(file)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


registry = Registry()
archives = []
for architecture in PLATFORMS:
    archives.append(f"{architecture}.ociarchive")
    write_archive(archives[-1], architecture)


# ---- podman ----


def podman(*argv, status=0):
    return run("podman", "--root", "pod/root", "--runroot", "pod/run", "--storage-driver", "vfs",
               "--cgroup-manager", "cgroupfs", *argv, status=status)


def podman_push(tag, *options):
    """As coreos-assembler does it; the list's digest."""
    name = f"{registry.host}/podman:{tag}"
    podman("manifest", "create", name)
    for archive in archives:
        podman("manifest", "add", name, f"oci-archive:{archive}")
    podman("manifest", "push", "--all", "--tls-verify=false", *options, name, f"docker://{name}",
           "--digestfile", "digest")
    podman("manifest", "rm", name)
    with open("digest", encoding="ascii") as file:
        return file.read()


def larder_push(name, tag, *options):
    run(LARDER, "publish", f"--repo={registry.host}/{name}", f"--tag={tag}",
        "--write-digest-to-file=digest", *options, *(f"oci-archive:{a}" for a in archives))
    with open("digest", encoding="ascii") as file:
        return file.read()


def try_podman():
    if not shutil.which("podman"):
        return "no podman here"
    try:
        podman("manifest", "create", "example.org/try:1")
        podman("manifest", "rm", "example.org/try:1")
    except AssertionError as problem:
        return str(problem).replace("#", "").splitlines()[-1]
    return None


why_not = try_podman()
for kind, ours, theirs in (("OCI", [], []),
                           ("Docker's", ["--v2s2"], ["--remove-signatures", "-f", "v2s2"])):
    title = f"podman manifest push and larder publish make the same list: {kind}"
    if why_not:
        skip(title, why_not)
        continue
    with case(title):
        tag = kind[:3].lower()
        digest = podman_push(tag, *theirs)
        equal(larder_push("larder", tag, *ours), digest)
        equal(registry.raw("larder", tag), registry.raw("podman", tag))
        # Over podman's: nothing to do.
        equal("unchanged" in run(LARDER, "publish", f"--repo={registry.host}/podman",
                                 f"--tag={tag}", *ours,
                                 *(f"oci-archive:{a}" for a in archives)).stderr, True)


# ---- flufl.lock ----

# What coreos-assembler's write_json does: merge under the lock, temporary, rename.
WRITER = """
import json, os, sys, tempfile
from flufl.lock import Lock
path, key, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
place, name = os.path.split(path)
for i in range(times):
    with Lock(os.path.join(place, f".{name}.lock"), lifetime=52 * 7 * 86400):
        with open(path) as file:
            data = json.load(file)
        data[key] = data.get(key, 0) + 1
        with tempfile.NamedTemporaryFile(mode="w", dir=place, delete=False) as out:
            json.dump(data, out, indent=4)
            os.fchmod(out.fileno(), 0o644)
        os.rename(out.name, path)
"""
# Until it is told.
HOLDER = """
import socket, sys
# As where the host's name can be resolved; here it may be "localhost", which is nobody's.
socket.getfqdn = socket.gethostname
from flufl.lock import Lock
lock = Lock(sys.argv[1], lifetime=52 * 7 * 86400)
lock.lock()
print("locked", flush=True)
sys.stdin.readline()
lock.unlock()
"""


def find_python():
    for python in (sys.executable, "/usr/bin/python3"):
        if shutil.which(python) and subprocess.run([python, "-c", "import flufl.lock"], check=False,
                                                   capture_output=True).returncode == 0:
            return python
    return None


def make_build():
    shutil.rmtree("builds", ignore_errors=True)
    for arch, archive in zip(PLATFORMS, archives):
        os.makedirs(f"builds/{BUILD}/{arch}")
        shutil.copy(archive, f"builds/{BUILD}/{arch}/os.ociarchive")
        image = {"path": "os.ociarchive", "sha256": interop.sha256(archive)}
        with open(meta(arch), "w", encoding="ascii") as out:
            json.dump({"images": {"ostree": image, "kubevirt": image}}, out, indent=4)
    with open("builds/builds.json", "w", encoding="ascii") as out:
        json.dump({"schema-version": "1.0.0",
                   "builds": [{"id": BUILD, "arches": list(PLATFORMS)}]}, out)


def meta(arch):
    return f"builds/{BUILD}/{arch}/meta.json"


def read_meta(arch):
    with open(meta(arch), encoding="ascii") as file:
        text = file.read()
    equal(text, json.dumps(json.loads(text), indent=4))
    return json.loads(text)


numbers = itertools.count(1)


def cosa(artifact, key):
    return [LARDER, "cosa", "push-container-manifest", f"--artifact={artifact}",
            f"--repo={registry.host}/cosa{next(numbers)}", f"--metajsonname={key}", "--tag=t"]


python3 = find_python()
titles = ["beside Python's flufl.lock no change of meta.json is lost",
          "a Python that has the lock is waited for, and named",
          "the lock of a Python that was killed is broken",
          "Python takes no notice of larder having been there"]
if not python3:
    for text in titles:
        skip(text, "no python3-flufl.lock here")
    interop.done()

with case(titles[0]):
    make_build()
    writers = [subprocess.Popen([python3, "-c", WRITER, meta("x86_64"), f"k{i}", "15"])
               for i in range(3)]
    for number in range(8):
        run(*cosa("ostree", f"ours-{number}"))
    equal([w.wait(timeout=interop.PATIENCE) for w in writers], [0, 0, 0])
    document = read_meta("x86_64")
    equal([document.get(f"k{i}") for i in range(3)], [15, 15, 15])
    equal([n for n in range(8) if f"ours-{n}" not in document], [])
    equal(os.listdir(f"builds/{BUILD}/x86_64").count("meta.json"), 1)
    equal(sorted(os.listdir(f"builds/{BUILD}/x86_64")), ["meta.json", "os.ociarchive"])


def hold():
    lock = os.path.abspath(f"builds/{BUILD}/aarch64/.meta.json.lock")
    holder = subprocess.Popen([python3, "-c", HOLDER, lock], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    equal(holder.stdout.readline(), b"locked\n")
    return holder


with case(titles[1]):
    make_build()
    holder = hold()
    ours = subprocess.Popen(cosa("ostree", "base"), stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    told = ""
    try:
        while f"waiting for process {holder.pid} on host" not in told:
            line = ours.stderr.readline()
            assert line, f"it does not say that it waits for {holder.pid}: {told}"
            told += line
        equal((ours.poll(), "base" in read_meta("aarch64")), (None, False))
    finally:
        holder.communicate(b"\n")
        told += ours.communicate()[1]
    equal((holder.returncode, ours.returncode), (0, 0), told)
    equal("base" in read_meta("aarch64"), True)

with case(titles[2]):
    make_build()
    holder = hold()
    holder.kill()
    holder.wait()
    run(*cosa("ostree", "base"))
    equal("base" in read_meta("aarch64"), True)
    equal(sorted(os.listdir(f"builds/{BUILD}/aarch64")), ["meta.json", "os.ociarchive"])

with case(titles[3]):
    run(python3, "-c", WRITER, meta("aarch64"), "after", "2")
    document = read_meta("aarch64")
    equal((document["after"], "base" in document), (2, True))

interop.done()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Image layouts and archives in the hands of skopeo, umoci, oras, crane, podman and tar, and theirs
in ours: many writers of one layout lose nothing, and every byte comes back."""

import glob
import hashlib
import json
import os
import shutil
import subprocess
import tarfile

PEERS = os.environ.get("LARDER_PEERS", "")  # before interop takes it away

import interop
from interop import case, equal, run, skip

TOOL = os.environ["LAYOUT_TOOL"]
PROCESSES, TAGS = 16, 50


def peer(name):
    """Path of a program that Debian has no package of, or None."""
    return shutil.which(name, path=os.pathsep.join([PEERS, os.environ["PATH"]]))


def images(kind, path):
    """{name: digest} as larder reads it; every byte was hashed."""
    text = run(TOOL, kind, path, "check").stdout
    return dict(line.split() for line in text.splitlines())


def raw_digest(kind, path, name):
    """What skopeo says the digest of an image is."""
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"{kind}:{path}:{name}"],
                         capture_output=True, check=True).stdout
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def skopeo_copy(source, target):
    run("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", "--all", source, target)


interop.need("skopeo", "umoci")

with case(f"{PROCESSES} writers of {TAGS} names each lose no entry of one layout"):
    writers = [subprocess.Popen([TOOL, "oci", "shared", "each"] +
                                [f"t-{number}-{i}" for i in range(TAGS)])
               for number in range(PROCESSES)]
    equal([w.wait(timeout=300) for w in writers], [0] * PROCESSES)
    there = images("oci", "shared")
    equal(set(there), {f"t-{n}-{i}" for n in range(PROCESSES) for i in range(TAGS)})
    equal(sorted(os.listdir("shared")), ["blobs", "index.json", "oci-layout"])

with case("umoci lists them all and takes none of the blobs for garbage"):
    equal(set(run("umoci", "ls", "--layout", "shared").stdout.split()), set(there))
    before = len(os.listdir("shared/blobs/sha256"))
    run("umoci", "gc", "--layout", "shared")
    equal(len(os.listdir("shared/blobs/sha256")), before)

with case("skopeo reads what is named, with the same digests"):
    for name in sorted(there)[::40]:
        equal(raw_digest("oci", "shared", name), there[name])

oras = peer("oras")
if oras:
    with case("oras lists them all, and fetches one"):
        listed = run(oras, "repo", "tags", "--oci-layout", "shared").stdout.split()
        equal(set(listed), set(there))
        equal(json.loads(run(oras, "manifest", "fetch", "--oci-layout", "--descriptor",
                             "shared:t-3-7").stdout)["digest"], there["t-3-7"])
else:
    skip("oras lists them all, and fetches one", "no oras here")

with case("skopeo and larder write the same layout in turns"):
    skopeo_copy("oci:shared:t-0-0", "oci:turns:first")
    run(TOOL, "oci", "turns", "put", "second")
    skopeo_copy("oci:shared:t-0-1", "oci:turns:third")
    run("umoci", "tag", "--image", "turns:first", "fourth")
    run(TOOL, "oci", "turns", "put", "first")
    found = images("oci", "turns")
    equal(set(found), {"first", "second", "third", "fourth"})
    equal(found["third"], there["t-0-1"])
    equal(found["fourth"], there["t-0-0"])

with case("an archive of ours is read by skopeo and tar"):
    run(TOOL, "oci-archive", "ours.tar", "put", "a", "b")
    ours = images("oci-archive", "ours.tar")
    for name in ours:
        equal(raw_digest("oci-archive", "ours.tar", name), ours[name])
    os.mkdir("unpacked")
    run("tar", "-C", "unpacked", "-xf", "ours.tar")
    equal(images("oci", "unpacked"), ours)
    with tarfile.open("ours.tar") as tar:
        equal({(m.mtime, m.uid, m.gid, m.mode) for m in tar if m.isfile()}, {(0, 0, 0, 0o644)})
    with open("ours.tar", "rb") as one:
        bytes_of = one.read()
    os.unlink("ours.tar")
    run(TOOL, "oci-archive", "ours.tar", "put", "a", "b")
    with open("ours.tar", "rb") as two:
        equal(two.read() == bytes_of, True)

with case("an archive of skopeo's is read by larder"):
    skopeo_copy("oci:shared:t-1-1", "oci-archive:theirs.tar:x")
    equal(images("oci-archive", "theirs.tar"), {"x": there["t-1-1"]})
    run("tar", "-C", "unpacked", "--format=gnu", "-cf", "gnu.tar", "./oci-layout", "./index.json",
        "./blobs")
    equal(images("oci-archive", "gnu.tar"), ours)

podman = shutil.which("podman")
storage = ["--root", os.path.join(interop.work, "root"), "--runroot",
           os.path.join(interop.work, "runroot"), "--storage-driver", "vfs"]


def can_load():
    """Whether podman may unpack layers here (in a chroot it may not): the same image in an archive
    of skopeo's tells."""
    if not podman or os.geteuid() != 0:
        return False
    run(TOOL, "oci-archive", "load.tar", "put", "localhost/app:1")
    skopeo_copy("oci-archive:load.tar:localhost/app:1", "oci-archive:control.tar:localhost/is:1")
    return run(podman, *storage, "load", "-q", "-i", "control.tar", status=None).returncode == 0


if can_load():
    with case("podman loads an archive of ours"):
        run(podman, *storage, "load", "-q", "-i", "load.tar")
        names = run(podman, *storage, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout
        equal("localhost/app:1" in names.split(), True)
else:
    skip("podman loads an archive of ours", "no podman here, or it can't unpack layers")

with case("layouts with missing blobs say which one, and where"):
    digest = there["t-2-2"]
    shutil.copytree("shared", "holes")
    os.unlink("holes/blobs/sha256/" + digest.removeprefix("sha256:"))
    done = subprocess.run([TOOL, "oci", "holes", "check"], capture_output=True, text=True,
                          check=False)
    equal(done.returncode, 1)
    equal(digest in done.stderr and "oci:holes" in done.stderr, True)

with case("a layout that may not be written is read"):
    for top, _, _ in os.walk("turns"):
        os.chmod(top, 0o555)
    equal(images("oci", "turns"), found)
    for top in glob.glob("turns/**/", recursive=True):
        os.chmod(top, 0o755)

interop.done()

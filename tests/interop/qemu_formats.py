#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images as qemu-img makes them: let in or refused as the import rules say, and read alike.

What is let in must show the format and the virtual size that qemu-img info tells.
"""
import os
import re
import struct

import interop
from interop import Skip, Store, case, equal, run, sha256

interop.need("qemu-img", "qemu-io")

TOP = os.path.join(interop.work, "images")
os.mkdir(TOP)
RAW = os.path.join(TOP, "content.raw")
with open(RAW, "wb") as f:
    f.write(b"\0\xff\x55\xaa" * 65536)
    f.seek(3 << 20)
    f.write(bytes(range(256)) * 4096)
    f.truncate(8 << 20)


def at(name):
    return os.path.join(TOP, name)


def create(name, fmt, *options, size="8M"):
    run("qemu-img", "create", "-q", "-f", fmt, *options, at(name), size)
    return at(name)


def convert(name, fmt, *options):
    run("qemu-img", "convert", "-f", "raw", "-O", fmt, *options, RAW, at(name))
    return at(name)


def features(path):
    """incompatible, compatible, autoclear of a qcow2 header, version 3."""
    with open(path, "rb") as header:
        return struct.unpack(">QQQ", header.read(96)[72:])


def dirty(name):
    """Lazy reference counts, and the writer dies in the middle."""
    path = create(name, "qcow2", "-o", "lazy_refcounts=on")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 1M", "-c", "abort", path, status=None)
    equal(features(path)[0], 1, "dirty bit")
    return path


def with_backing(name):
    create("backing-base.qcow2", "qcow2")
    return create(name, "qcow2", "-F", "qcow2", "-b", at("backing-base.qcow2"))


def with_backing_at(name, backing):
    """A backing name that need not be there (-u)."""
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, at(name), "8M")
    return at(name)


def with_bitmap(name):
    path = convert(name, "qcow2")
    run("qemu-img", "bitmap", "--add", path, "changed")
    equal(features(path)[2] & 1, 1, "autoclear bit of bitmaps")
    return path


def with_snapshot(name):
    path = convert(name, "qcow2")
    run("qemu-img", "snapshot", "-c", "first", path)
    return path


def secret(name, fmt, *options):
    """An encrypted image; few rounds, because nothing is to be protected."""
    # qemu-img measures how fast it hashes, and gives up where others take its turns.
    for _ in range(50):
        made = run("qemu-img", "create", "-q", "--object", "secret,id=s,data=open-sesame",
                   "-f", fmt, *options, at(name), "8M", status=None)
        if made.returncode == 0 or "accurate CPU usage" not in made.stderr:
            break
    if made.returncode and "accurate CPU usage" in made.stderr:
        raise Skip("qemu-img can't measure its speed here")
    equal(made.returncode, 0, made.stderr)
    return at(name)


def truncated(name):
    path = convert(name, "qcow2")
    os.truncate(path, 100 * 1024)
    return path


def marked_corrupt(name):
    path = convert(name, "qcow2")
    with open(path, "r+b") as image:
        image.seek(72)
        image.write(struct.pack(">Q", features(path)[0] | 2))
    return path


def differencing_vdi(name):
    path = convert(name, "vdi")
    with open(path, "r+b") as image:
        image.seek(76)
        image.write(struct.pack("<I", 4))
    return path


def differencing_vhdx(name):
    path = convert(name, "vhdx")
    with open(path, "r+b") as image:
        head = image.read(4 << 20)
        table = head.index(b"metadata")
        entry = head.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"), table)
        offset, = struct.unpack("<I", head[entry + 16:entry + 20])
        image.seek(table + offset + 4)
        image.write(struct.pack("<I", 2))
    return path


def truncated_vhdx(name):
    path = convert(name, "vhdx")
    os.truncate(path, 1 << 20)
    return path


# ---- let in ----

# title, maker, format, name of the format for qemu-img when it is not ours or not what it guesses
GOOD = [
    ("qcow2 v3", lambda: convert("v3.qcow2", "qcow2"), "qcow2", None),
    ("qcow2 v2", lambda: convert("v2.qcow2", "qcow2", "-o", "compat=0.10"), "qcow2", None),
    ("qcow2 compressed with zlib", lambda: convert("zlib.qcow2", "qcow2", "-c"), "qcow2", None),
    ("qcow2 compressed with zstd",
     lambda: convert("zstd.qcow2", "qcow2", "-c", "-o", "compression_type=zstd"), "qcow2", None),
    ("qcow2 with extended L2 entries",
     lambda: convert("ext.qcow2", "qcow2", "-o", "extended_l2=on"), "qcow2", None),
    ("qcow2 with clusters of 512 bytes",
     lambda: convert("small.qcow2", "qcow2", "-o", "cluster_size=512"), "qcow2", None),
    ("qcow2 with clusters of 2 MiB",
     lambda: convert("big.qcow2", "qcow2", "-o", "cluster_size=2M"), "qcow2", None),
    ("qcow2 with reference counts of 1 bit",
     lambda: convert("ref1.qcow2", "qcow2", "-o", "refcount_bits=1"), "qcow2", None),
    ("qcow2, preallocated",
     lambda: create("pre.qcow2", "qcow2", "-o", "preallocation=metadata"), "qcow2", None),
    ("qcow2, lazy reference counts, closed well",
     lambda: convert("lazy.qcow2", "qcow2", "-o", "lazy_refcounts=on"), "qcow2", None),
    ("qcow2 of 4 TiB", lambda: create("huge.qcow2", "qcow2", size="4T"), "qcow2", None),
    ("qcow2 with a snapshot", lambda: with_snapshot("snapshot.qcow2"), "qcow2", None),
    ("qcow2 with a bitmap", lambda: with_bitmap("bitmap.qcow2"), "qcow2", None),
    ("qcow2 encrypted with LUKS",
     lambda: secret("crypt.qcow2", "qcow2", "-o",
                    "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
     "qcow2", None),
    ("raw", lambda: RAW, "raw", None),
    ("raw of zeros only", lambda: create("zeros.raw", "raw"), "raw", None),
    ("vmdk monolithicSparse", lambda: convert("sparse.vmdk", "vmdk"), "vmdk", None),
    ("vmdk streamOptimized",
     lambda: convert("stream.vmdk", "vmdk", "-o", "subformat=streamOptimized"), "vmdk", None),
    ("vhd dynamic", lambda: convert("dynamic.vhd", "vpc"), "vhd", "vpc"),
    ("vhd dynamic, size forced",
     lambda: convert("force.vhd", "vpc", "-o", "force_size=on"), "vhd", "vpc"),
    ("vhd fixed", lambda: convert("fixed.vhd", "vpc", "-o", "subformat=fixed"), "vhd", "vpc"),
    ("vhd fixed, size forced",
     lambda: convert("fixforce.vhd", "vpc", "-o", "subformat=fixed,force_size=on"), "vhd", "vpc"),
    ("vhdx dynamic", lambda: convert("dynamic.vhdx", "vhdx"), "vhdx", None),
    ("vhdx fixed", lambda: convert("fixed.vhdx", "vhdx", "-o", "subformat=fixed"), "vhdx", None),
    ("vhdx of 70 GiB", lambda: create("big.vhdx", "vhdx", size="70G"), "vhdx", None),
    ("vdi", lambda: convert("dynamic.vdi", "vdi"), "vdi", None),
    ("vdi static", lambda: convert("static.vdi", "vdi", "-o", "static=on"), "vdi", None),
    ("luks", lambda: secret("disk.luks", "luks", "-o", "key-secret=s,iter-time=10"), "luks", None),
]

STORE = Store("good")
for number, (title, make, fmt, qemu_name) in enumerate(GOOD):
    with case(f"let in: {title}"):
        image = make()
        name = f"image{number}"
        STORE.larder("image", "add", name, image)
        path = STORE.get(name)
        equal(sha256(path), sha256(image), "content")
        shown = STORE.show(name)
        # A fixed vhd has its mark at its end only, where qemu-img does not look by itself.
        theirs = interop.image_info(image, *(("-f", qemu_name) if qemu_name else ()))
        equal(shown["format"], fmt, "format")
        equal(theirs["format"], qemu_name or fmt, "format for qemu-img")
        # Encrypted bytes are handed out as they are: whoever has the key sees a smaller disk.
        if fmt == "luks":
            theirs = interop.image_info(image, "-f", "raw")
        equal(shown["virtual_bytes"], theirs["virtual-size"], "virtual size")

# ---- refused ----

# title, maker, what the message says, exit status when it is not 1
BAD = [
    ("qcow2, dirty after a kill", lambda: dirty("dirty.qcow2"), "marked dirty"),
    ("qcow2, marked corrupt", lambda: marked_corrupt("corrupt.qcow2"), "marked corrupt"),
    ("qcow2, truncated", lambda: truncated("short.qcow2"), "truncated", 5),
    ("qcow2 with a backing file", lambda: with_backing("backed.qcow2"), "backing file"),
    ("qcow2 with a backing file of the host",
     lambda: with_backing_at("host.qcow2", "/etc/passwd"), "backing file \"/etc/passwd\""),
    ("qcow2 with a json: backing name",
     lambda: with_backing_at("json.qcow2", 'json:{"driver":"raw","file":{"driver":"file",'
                             '"filename":"/etc/passwd"}}'), "backing file"),
    ("qcow2 with a data file",
     lambda: create("datafile.qcow2", "qcow2", "-o", f"data_file={at('data.raw')}"),
     "data in another file.*data\\.raw"),
    ("qcow2 with a raw data file",
     lambda: create("rawdata.qcow2", "qcow2", "-o",
                    f"data_file={at('data2.raw')},data_file_raw=on"),
     "data in another file.*data2\\.raw"),
    ("qcow, the first", lambda: convert("first.qcow", "qcow"), "first qcow format"),
    ("qed", lambda: convert("disk.qed", "qed"), "qed"),
    ("vmdk twoGbMaxExtentSparse",
     lambda: convert("split.vmdk", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"), "other files"),
    ("vmdk monolithicFlat",
     lambda: convert("flat.vmdk", "vmdk", "-o", "subformat=monolithicFlat"), "other files"),
    ("vdi, a difference", lambda: differencing_vdi("diff.vdi"), "difference"),
    ("vhdx, a difference", lambda: differencing_vhdx("diff.vhdx"), "difference"),
    ("vhdx, truncated", lambda: truncated_vhdx("short.vhdx"), "truncated", 5),
]


def store_is_empty(store):
    return [f for f in store.files("blobs", "quarantine", "partial", "tmp")
            if not f.endswith(".lock")]


for number, (title, make, says, *status) in enumerate(BAD):
    status = status[0] if status else 1
    with case(f"refused: {title}"):
        image = make()
        here = Store(f"bad{number}")
        here.larder("image", "add", "bad", image)
        refused = here.larder("image", "get", "bad", status=status)
        equal(refused.stdout, "")
        assert re.search(says, refused.stderr), f"no {says!r} in {refused.stderr!r}"
        equal(store_is_empty(here), [], "left in the store")
        # Its publisher's word that these are the bytes does not make them safe.
        here.larder("image", "add", "sure", image, "--checksum", f"sha256:{sha256(image)}")
        here.larder("image", "get", "sure", status=status)
        equal(store_is_empty(here), [], "left in the store")

with case("a backing file is let in with --allow-backing"):
    here = Store("allowed")
    backed = with_backing("allowed.qcow2")
    here.larder("image", "add", "backed", backed, "--allow-backing")
    equal(sha256(here.get("backed")), sha256(backed))
    equal(here.show("backed")["virtual_bytes"], 8 << 20)

with case("--format refuses another format"):
    here = Store("format")
    here.larder("image", "add", "disk", at("v3.qcow2"), "--format", "raw")
    wrong = here.larder("image", "get", "disk", status=1)
    assert "qcow2" in wrong.stderr and "raw" in wrong.stderr, wrong.stderr

interop.done()
